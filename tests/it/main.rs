//! Promises, one file each, shown from outside: the real binary, real sockets, a recording upstream.
//! `harness` starts and kills the binary and speaks to it; nothing here looks inside.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(unreachable_pub)] // A test crate has no outside.

mod faults;
mod harness;

mod accept;
mod config;
mod crash;
mod dedup;
mod drain;
mod early;
mod framing;
mod full;
mod garbage;
mod outage;
mod refusals;
mod secrets;
mod slow;
mod walker;
