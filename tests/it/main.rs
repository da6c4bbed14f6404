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
mod config;
mod crash;
mod damage;
mod dedup;
mod drain;
mod early;
mod failing;
mod framing;
mod full;
mod garbage;
mod limits;
mod order;
mod outage;
mod power;
mod refusals;
mod secrets;
mod slow;
mod spool;
mod strikes;
mod walker;
