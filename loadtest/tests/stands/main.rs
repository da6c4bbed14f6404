//! The stand-ins for vendors, over sockets, in their real process: one file for each vendor, and
//! one for what they have in common.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.

mod common;
mod faults;
mod incidentio;
mod opsgenie;
mod pagerduty;
mod squadcast;
mod taskcall;
