//! Feeds libFuzzer's inputs to `targets/store_recovery.rs`, where the property stands.
#![no_main]

#[path = "../targets/store_recovery.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::run(input);
});
