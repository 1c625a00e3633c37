//! Fuzzes the short forms of ports, mounts, hosts, commands, sizes and times, and plain scalars.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hoist::compose::fuzz::short(text));
