//! The short syntaxes of the Compose specification, one file each.
//!
//! Invariant: text in, value or a sentence out; places are added by `bind`.

pub(crate) mod command;
pub(crate) mod hosts;
pub(crate) mod mounts;
pub(crate) mod ports;
pub(crate) mod pull;
pub(crate) mod tmpfs;
pub(crate) mod units;
