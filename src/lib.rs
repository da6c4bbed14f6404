//! Surgegate (the story goes here).
pub mod admin;
pub mod app;
pub mod body;
pub mod claim;
pub mod config;
pub mod dedup;
pub mod demo;
pub mod dialect;
pub mod event;
pub mod forward;
pub mod gate;
pub mod intake;
pub mod listen;
pub mod machine;
pub mod metrics;
pub mod outcome;
pub mod sink;
pub mod store;
pub mod vendor;

/// How many cases a property test tries: the given number, or what `SURGEGATE_TEST_CASES` says.
#[cfg(test)]
fn test_cases(usual: u32) -> u32 {
    std::env::var("SURGEGATE_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
