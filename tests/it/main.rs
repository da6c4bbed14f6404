//! Promises, one file each, shown from outside: the real binary, real sockets, a recording upstream.
//! `harness` starts and kills the binary and speaks to it; nothing here looks inside.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(unreachable_pub)] // A test crate has no outside.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stderr)] // Real time, real peers, said aloud.

mod faults;
mod fleet;
mod harness;
mod strace;

mod accept;
mod admin;
mod alertmanager;
mod batches;
mod cli;
mod config;
mod configuration;
mod crash;
mod damage;
mod dedup;
mod drain;
mod early;
mod failing;
mod framing;
mod full;
mod garbage;
mod h2;
mod incidentio;
mod interface;
mod keys;
mod limits;
mod log;
mod opsgenie;
mod order;
mod outage;
mod pagerduty;
mod power;
mod proxies;
mod refusals;
mod reload;
mod remote;
mod secrets;
mod sinks;
mod slow;
mod spool;
mod strikes;
mod taskcall;
mod tls;
mod validate;
mod walker;
