//! Fuzzes files of variables, in both formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hoist::compose::fuzz::dotenv(text));
