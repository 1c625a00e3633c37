//! hoist: Compose projects on one Linux host, on its own container runtime, with no daemon.
//!
//! The modules, lowest layer first; a module names only modules above it in this list (`tests/layers.rs`):
//! [`name`], [`diag`], [`event`], [`paths`].

pub mod name;
pub mod diag;
pub mod event;
pub mod paths;

#[cfg(test)]
mod testing;
