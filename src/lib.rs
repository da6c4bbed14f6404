//! Surgegate (the story goes here).
pub mod body;
pub mod claim;
pub mod config;
pub mod dedup;
pub mod event;
pub mod gate;
pub mod listen;
pub mod machine;
pub mod metrics;
pub mod outcome;
pub mod sink;
pub mod store;
