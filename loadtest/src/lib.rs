//! The load side of Surgegate. It sees only the wire: nothing here imports the proxy.
//!
//! A scenario's way: [`scenario`] is read from YAML; [`server`] starts what is to be loaded where it does not stand
//! already; [`drive`] offers the load, when [`arrivals`] says so and in the words of [`dialect`], while [`upstream`]
//! takes what comes out and the [`witness`] writes it into the [`ledger`]; what came of it are [`results`], judged by
//! [`threshold`] and shown by [`report`]. [`knee`], [`compare`] and [`calibrate`] make more of it.
//!
//! * [`drive`] and [`rate`] offer load whatever the server does (open loop) and measure from the
//!   intended start of each request, so a stall is charged to the server in full.
//! * [`saturate`] keeps every connection busy (closed loop): requests per server CPU-second.
//! * [`upstream`] is what stands behind the proxy: it counts what arrives and fails on demand.
//!   With a vendor's name it answers as that vendor and keeps its state ([`stand`]).
//! * [`bare`] is the yardstick: the least an HTTP server on hyper can do for the same answer.
//!
//! [`rate`] and [`saturate`] share one client: [`template`] makes the requests, [`connection`]
//! carries them, [`response`] reads the answers, [`latency`] sums up the times.
//! `main.rs` calls the verbs; `scripts/bench.py` calls the binary.
// A test that cannot go on must stop: the rule is about the tool itself.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod arrivals;
pub mod bare;
pub mod calibrate;
pub mod compare;
pub mod connection;
pub mod dialect;
pub mod drive;
pub mod keys;
pub mod knee;
pub mod latency;
pub mod ledger;
pub mod process;
pub mod progress;
pub mod random;
pub mod rate;
pub mod report;
pub mod response;
pub mod results;
pub mod run;
pub mod saturate;
pub mod scenario;
pub mod server;
pub mod stand;
pub mod stream;
pub mod target;
pub mod template;
pub mod threshold;
pub mod units;
pub mod upstream;
pub mod witness;
