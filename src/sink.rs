//! Sinks: how an event is said to an upstream. STUB: configuration only.

use std::sync::Arc;
use std::time::Duration;

/// Upstream kinds that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Squadcast,
    Stdout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Verbatim,
    Normalized,
}

/// At most `requests` in any `per`, spent at once when free up to `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub requests: u32,
    pub per: Duration,
    pub burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub max_events: usize,
    pub max_wait: Duration,
}

/// An upstream as meant by the configuration (INTERFACE 3).
#[derive(Clone)]
pub struct UpstreamConfig {
    pub name: Arc<str>,
    pub kind: Kind,
    /// `None` for `stdout`.
    pub url: Option<hyper::Uri>,
    /// For `webhook` the signing secret (`whsec_` base64 or plain text).
    pub credential: Option<Arc<str>>,
    pub mode: Mode,
    /// `None`: unlimited.
    pub pace: Option<Pace>,
    pub timeout: Duration,
    pub connections: usize,
    pub give_up_after: Duration,
    pub redeliver_after: Duration,
    pub batch: Option<Batch>,
}
