//! Promises, one file each, shown from outside: the real binary, real sockets, a recording upstream.
//! `harness` starts and kills the binary and speaks to it; nothing here looks inside.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.
#![allow(unreachable_pub)] // A test crate has no outside.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stderr)] // Real time, real peers, said aloud.

mod faults;
mod fleet;
mod foretold;
mod harness;
mod strace;

mod accept;
mod admin;
mod alertmanager;
mod batches;
mod begun;
mod cli;
mod clock;
mod config;
mod configuration;
mod crash;
mod damage;
mod dedup;
mod delivered;
mod drain;
mod early;
mod failing;
mod figures;
mod foresee;
mod framing;
mod full;
mod garbage;
mod h2;
mod heads;
mod hooks;
mod incidentio;
mod interface;
mod keys;
mod limits;
mod log;
mod monitoring;
mod newcomer;
mod npm;
mod openapi;
mod opsgenie;
mod order;
mod outage;
mod outcomes;
mod page;
mod pagerduty;
mod passed;
mod plain;
mod power;
mod proxies;
mod redis_limits;
mod redis_link;
mod refusals;
mod reload;
mod remote;
mod replicas;
mod routes;
mod secrets;
mod senders;
mod sinks;
mod slow;
mod sns;
mod spool;
mod stands;
mod strikes;
mod systemd;
mod taskcall;
mod tls;
mod tracing;
mod tutorials;
mod validate;
mod vendor_keys;
mod walker;
