//! Feeds libFuzzer's inputs to `targets/route_and_head.rs`, where the property stands.
#![no_main]

#[path = "../targets/route_and_head.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    target::run(input);
});
