//! Surgegate stands between monitoring fleets, which send bursts, and incident platforms, which take alerts one
//! by one. This is the life of an event, told once; each room below is one part of it.
//!
//! A fleet posts an alert in the dialect it already speaks. [`listen`] accepts the connection and holds it to its
//! limits; [`intake`] takes the request from top to bottom. [`dialect`] knows from method and path who speaks, and
//! [`gate`] finds the integration whose key it is. Only then is the [`body`] read, while it streams, never past its
//! limit. The dialect reads what it says: one or more [`event`]s, each with an action (trigger, resolve, ...) and
//! perhaps a key.
//!
//! [`dedup`] decides, by the rules of [`machine`], what the event does to the incident that its key names. Most of a
//! storm ends here: a duplicate is counted and answered with the incident it belongs to. What changes something
//! claims its key; until that claim ends, others on the key stand in line. The gate's event limit lets a new
//! incident pass, or refuses senders that come back.
//!
//! [`store`] appends the event and its transition as one record to the log and syncs it together with whatever else
//! has gathered. Only the log's writer ends the claim: durable, and the transition holds; failed, and it never
//! happened. **Only then is the request answered**, in the sender's own form, with an ending from [`outcome`]'s
//! tables. A refused event leaves no trace: its retry is new.
//!
//! From the log [`forward`] takes the event to its upstreams: in a lane with everything else on its key, in order,
//! one at a time; at the upstream's pace; said in the upstream's dialect by a [`sink`]; again under the same id
//! where an answer was lost. It ends as delivered, dropped or a dead letter, and [`metrics`]' books say which.
//!
//! Several replicas behave as one through [`redis`], an accelerator that may be away at any time.
//!
//! After a crash the log tells everything again: states, queues, numbers. [`delivery`] joins the rooms behind the
//! answer and [`app`] all of them, [`config`] says how they are meant, [`admin`] shows how they do and, through [`tap`],
//! each decision as it is made, [`spool`] works on the log of a process that is gone, [`client`] asks one that runs,
//! [`preflight`] says what would fail before it does ([`reach`]: whether a server can be spoken to), [`cli`] is the
//! command line over all of it.
//!
//! The proofs an event gathers on its way (`CappedBody`, `Event`, `Claim`, `Admitted`, `Accepted`) are in [`claim`]:
//! none can be made without the one before, so no stage can be skipped or swapped.

// Tests read whole bodies of their own making, and measure hostile input on the real clock.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

// In reading order: from the event to those who run it. A room imports only rooms of a lower height (tests/tidy.rs).
pub mod event;
pub mod file;
pub mod machine;
pub mod octets;
pub mod outcome;
pub mod spelling;
pub mod vendor;
pub mod words;

pub mod awaited;
pub mod claim;
pub mod metrics;
pub mod spans;
pub mod tap;

pub mod body;
pub mod dialect;
pub mod gate;
pub mod store;

pub mod dedup;
pub mod sink;

pub mod redis;
pub mod sns;

pub mod forward;
pub mod intake;

pub mod admin;
pub mod listen;
pub mod reach;

pub mod config;
pub mod delivery;

pub mod logging;
pub mod systemd;

pub mod app;
pub mod client;
pub mod demo;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod preflight;
pub mod spool;
pub mod translate;

pub mod cli;

/// How many cases a property test tries: the given number, or what `SURGEGATE_TEST_CASES` says.
#[cfg(test)]
fn test_cases(usual: u32) -> u32 {
    std::env::var("SURGEGATE_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
