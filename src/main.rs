//! The `hoist` command.
#![forbid(unsafe_code)]

fn main() {}
