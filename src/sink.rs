//! Sinks: how an event is said to an upstream (contracts 3.4, 5.6, 7). A sink turns an event into the
//! bytes of a request and reads what the answer means; it does no I/O. `forward` sends.
//!
//! A new sink is one file and two lines here: `mod` and [`SINKS`].

pub mod answer;
mod masked;
pub mod squadcast;
pub mod stdout;
pub mod webhook;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::value::RawValue;

pub use answer::{Answer, Failed, Hold, Verdict};
pub use masked::{masked, masked_text};

use crate::event::{Action, Content, Event, Micros, Uid};
use crate::store::Stored;

/// Every sink there is.
pub static SINKS: &[&dyn Sink] = &[&webhook::Webhook, &squadcast::Squadcast, &stdout::Stdout];

/// The sink of an upstream's kind.
pub fn of(kind: Kind) -> &'static dyn Sink {
    match kind {
        Kind::Webhook => &webhook::Webhook,
        Kind::Squadcast => &squadcast::Squadcast,
        Kind::Stdout => &stdout::Stdout,
    }
}

/// One way of speaking to an upstream.
pub trait Sink: Send + Sync {
    fn kind(&self) -> Kind;

    /// Whether the upstream can be told this at all (contracts 7). What it cannot is not addressed to it.
    fn expresses(&self, action: Action) -> bool;

    /// The event in the upstream's form.
    ///
    /// # Errors
    /// The upstream's dialect has no way to say it.
    fn encode(&self, stored: &Stored, said: &Said<'_>, upstream: &UpstreamConfig) -> Result<Encoded, NotExpressible>;

    /// The request for one event, or for several where the kind can batch; `now` is the attempt's time.
    fn parcel(&self, events: &[Encoded], _upstream: &UpstreamConfig, _now: Micros) -> Parcel {
        Parcel { headers: json_headers(), body: events.first().map(|event| event.body.clone()).unwrap_or_default() }
    }

    /// What an answer means (contracts 7.1); `now` resolves a date in `Retry-After`.
    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict;
}

/// The event's dialect cannot be said in the upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be said in the upstream's dialect")]
pub struct NotExpressible(pub Action);

/// One event in an upstream's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub event_uid: Uid,
    pub body: Bytes,
}

/// A request without its address: no header of a sender is ever in it (DESIGN 2.9).
#[derive(Clone, Debug)]
pub struct Parcel {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Decodes stored events again; `dialect` knows how, `app` brings it here.
pub trait Reader: Send + Sync {
    /// Decodes what the event says; a body that no longer decodes gives a minimal content with the key's
    /// text as title and a warning `undecodable`.
    fn read<'a>(&self, event: &'a Event) -> Said<'a>;
}

/// What an event says, with what its decoder did not consume.
#[derive(Clone, Debug, Default)]
pub struct Said<'a> {
    pub content: Content<'a>,
    /// Members without a home in the model, verbatim JSON, in order of appearance.
    pub extra: Vec<(Cow<'a, str>, &'a RawValue)>,
}

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
#[derive(Clone, PartialEq)]
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
    /// More than one integration sends here: keys then carry the integration's name (contracts 5.6).
    pub shared: bool,
    /// `squadcast`: say the severity as `priority`; else as a tag (contracts/squadcast.md 8). Default true.
    pub emit_priority: bool,
}

/// What every JSON request carries.
fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// An event's key as the upstream sees it: stateless and free of generations (contracts 5.6).
/// `native`: the intake dialect the upstream speaks itself.
fn out_key(stored: &Stored, native: &str, upstream: &UpstreamConfig, key_bytes_max: usize) -> String {
    let event = &stored.event;
    let Some(key) = &event.key else {
        return stored.incident.map_or(event.uid, |incident| incident.iid).to_string();
    };
    if event.dialect == native && !upstream.shared {
        return key.canon().to_owned();
    }
    let long = format!("{}:{}:{}", event.integration, event.family, key.canon());
    if long.len() <= key_bytes_max && !long.chars().any(char::is_control) { long } else { sha256_hex(&[&long]) }
}

/// Lower-case hexadecimal SHA-256 of the parts, one after the other.
fn sha256_hex(parts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;

    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Events and upstreams for the tests of the sinks and of `forward`.
#[cfg(test)]
pub(crate) mod samples;
