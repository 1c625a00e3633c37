//! Fuzzes values with variables.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hoist::compose::fuzz::interpolate(text));
