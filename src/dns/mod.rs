//! Names on the wire and what a host asks others: no NSS, so that a static binary can resolve.

pub mod message;
pub mod resolver;
