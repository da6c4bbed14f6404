//! Feeds libFuzzer's inputs to `targets/decode_dialects.rs`, where the property stands.
#![no_main]

#[path = "../targets/decode_dialects.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::run(input);
});
