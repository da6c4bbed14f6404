//! The load side of Surgegate. It sees only the wire: nothing here imports the proxy.
//!
//! * [`run`] offers load at a fixed rate whatever the server does (open loop) and measures from the
//!   intended start of each request, so a stall is charged to the server in full.
//! * [`saturate`] keeps every connection busy (closed loop): requests per server CPU-second.
//! * [`upstream`] is what stands behind the proxy: it counts what arrives and fails on demand.
//!   With a vendor's name it answers as that vendor and keeps its state ([`stand`]).
//! * [`bare`] is the yardstick: the least an HTTP server on hyper can do for the same answer.
//!
//! [`run`] and [`saturate`] share one client: [`template`] makes the requests, [`connection`]
//! carries them, [`response`] reads the answers, [`latency`] sums up the times.
//! `main.rs` calls the four verbs; `scripts/bench.py` calls the binary.
// A test that cannot go on must stop: the rule is about the tool itself.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bare;
pub mod connection;
pub mod keys;
pub mod latency;
pub mod process;
pub mod random;
pub mod response;
pub mod run;
pub mod saturate;
pub mod stand;
pub mod target;
pub mod template;
pub mod units;
pub mod upstream;
