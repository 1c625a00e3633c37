//! Fuzzes a whole Dockerfile, and its parts: changes, triggers, mounts, words with variables.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hoist::build::fuzz::dockerfile(text));
