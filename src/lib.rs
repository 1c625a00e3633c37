//! hoist: Compose projects on one Linux host, on its own container runtime, with no daemon.
//!
//! The modules, lowest layer first; a module names only modules above it in this list (`tests/layers.rs`):
//! [`name`], [`fault`], [`diag`], [`sys`], [`event`], [`paths`], [`dns`], [`state`], [`compose`], [`network`], [`volume`],
//! [`runtime`], [`image`], [`supervisor`], [`build`], [`engine`].

pub mod name;

pub mod fault;

pub mod diag;

#[expect(unsafe_code, reason = "the one module that makes raw system calls; every block says why it is sound")]
pub mod sys;

pub mod event;
pub mod paths;

pub mod dns;
pub mod state;

pub mod compose;
pub mod image;
pub mod network;
pub mod runtime;
pub mod volume;

pub mod supervisor;

pub mod build;

pub mod engine;

#[cfg(test)]
mod testing;
