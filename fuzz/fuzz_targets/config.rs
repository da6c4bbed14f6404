//! Feeds libFuzzer's inputs to `targets/config.rs`, where the property stands.
#![no_main]

#[path = "../targets/config.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::run(input);
});
