//! Fuzzes a whole compose file.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hoist::compose::fuzz::load(text));
