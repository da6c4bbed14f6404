//! Sinks: how an event is said to an upstream (contracts 3.4, 5.6, 7). A sink turns an event into requests and reads
//! what the answers mean; it does no I/O. `forward` sends.
//!
//! A new sink is one file and two lines here: `mod` and [`SINKS`] (docs/adding-a-dialect.md).

pub mod alertmanager;
pub mod answer;
pub mod cloudevents;
mod container;
pub mod incidentio;
pub mod incidentio_alert;
mod keys;
mod masked;
pub mod opsgenie;
pub mod pagerduty;
mod reach;
pub mod squadcast;
pub mod stdout;
pub mod taskcall;
mod text;
mod vendor_config;
mod verbatim;
pub mod webhook;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::value::RawValue;

pub use answer::{Answer, Failed, Hold, Verdict};
pub use masked::{masked, masked_text};
pub use reach::Reach;
pub use vendor_config::{Field, FieldValue, IncidentApi, PathStyle, Responder, Runbooks, VendorConfig};

use crate::event::trace::Trace;
use crate::event::{Action, Content, Event, Micros, Uid};
use crate::store::{Remote, Stored};

/// Every sink there is.
pub static SINKS: &[&dyn Sink] = &[
    &webhook::Webhook,
    &squadcast::Squadcast,
    &stdout::Stdout,
    &pagerduty::PagerDuty,
    &taskcall::TaskCall,
    &alertmanager::Alertmanager,
    &incidentio::IncidentIo,
    &incidentio_alert::IncidentIoAlert,
    &opsgenie::Opsgenie,
    &cloudevents::CloudEvents,
];

/// The sink of an upstream's kind; `None`: it comes with a later version, and no configuration names it.
pub fn of(kind: Kind) -> Option<&'static dyn Sink> {
    SINKS.iter().copied().find(|sink| sink.kind() == kind)
}

/// One way of speaking to an upstream.
pub trait Sink: Send + Sync {
    fn kind(&self) -> Kind;

    /// Whether the upstream can be told this at all (contracts 7). What it cannot is not addressed to it, see [`Reach`].
    fn expresses(&self, statement: Statement<'_>) -> bool;

    /// The event in the upstream's form. Asked anew for each request of each attempt: what was learned since counts.
    ///
    /// # Errors
    /// It cannot be said, or not now.
    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid>;

    /// One request for the events of a batch, where the kind can batch; `now` is the attempt's time. All but `webhook` and
    /// `stdout` send one event a request, as it was encoded.
    fn parcel(&self, events: &[Encoded], _upstream: &UpstreamConfig, _now: Micros) -> Parcel {
        events.first().map(|event| event.call.clone()).unwrap_or_default()
    }

    /// What an answer means (contracts 7.1); `now` resolves a date in `Retry-After`.
    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict;

    /// A question of the vendor's own API, by its path; of kinds whose senders ask such.
    fn question(&self, _path: &str, _upstream: &UpstreamConfig) -> Option<Parcel> {
        None
    }

    /// Whether a trigger of a living incident raises it there. False: it may be a second incident, so that only an integration
    /// with `forward_duplicates: all` sends it (contracts 7).
    fn raises(&self) -> bool {
        true
    }

    /// Whether a resolve says there again what it ends, as its trigger did: what a resolve itself leaves out is then
    /// looked up (contracts 3.3).
    fn repeats(&self) -> bool {
        false
    }

    /// Whether the upstream may take a create for a key that is open there without saying its id: then the id that is
    /// known for the key is the incident's (contracts/taskcall.md 7).
    fn suppresses(&self) -> bool {
        false
    }
}

/// What is to be said, as far as it decides whether an upstream can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    pub action: Action,
    /// Of the intake. With the endpoint it tells what an `update` or `admin` operation is.
    pub dialect: &'a str,
    pub endpoint: &'a str,
}

impl<'a> Statement<'a> {
    pub fn of(event: &'a Event) -> Self {
        Self { action: event.action, dialect: &event.dialect, endpoint: &event.endpoint }
    }
}

/// Everything an encoding may look at.
pub struct Ask<'a> {
    pub stored: &'a Stored,
    pub said: &'a Said<'a>,
    /// What this upstream calls the event's incident. `None`: it was never told of it, or did not say; nothing of this
    /// incident is on its way there, for a lane sends one event at a time.
    pub remote: Option<&'a Remote>,
    pub upstream: &'a UpstreamConfig,
    pub others: &'a dyn Others,
}

/// What an upstream calls other incidents of the event's integration.
pub trait Others {
    /// By the number that the proxy gave (contracts 3.3).
    fn by_number(&self, number: u64) -> Other;
}

/// What is known of another incident at the same upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    Known(Arc<Remote>),
    /// Earlier events of it are still queued for this upstream: [`Unsaid::NotYet`].
    NotYet,
    Unknown,
}

/// Why there is no request for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsaid {
    /// The event's dialect cannot be said in the upstream's: a dead letter.
    #[error("{0:?} cannot be said in the upstream's dialect")]
    NotExpressible(Action),
    /// It needs an id that the upstream never told: dropped and counted (contracts 5.5).
    #[error("the upstream's id of the incident is not known")]
    Unresolvable,
    /// It needs the id of another incident whose events are still queued: the lane waits and asks again.
    #[error("another incident's events go first")]
    NotYet,
}

/// One event in an upstream's form: a request, and for some those that follow it. They are sent in order, each when the
/// one before was taken; the event is delivered when all are. A repeat begins at the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub event_uid: Uid,
    pub call: Parcel,
    pub then: Vec<Parcel>,
    /// The upstream takes a repeat for another one: it is sent again only when it certainly did not arrive.
    pub once: bool,
    /// Members that were cut to the upstream's limits.
    pub cut: Vec<&'static str>,
    /// The trace that the event belongs to.
    pub trace: Option<Arc<Trace>>,
}

impl Encoded {
    pub fn new(event_uid: Uid, call: Parcel) -> Self {
        Self { event_uid, call, then: Vec::new(), once: false, cut: Vec::new(), trace: None }
    }

    /// How many requests it takes.
    pub fn calls(&self) -> usize {
        1 + self.then.len()
    }

    /// The request of a step, from 0.
    pub fn call_at(&self, step: usize) -> &Parcel {
        step.checked_sub(1).and_then(|index| self.then.get(index)).unwrap_or(&self.call)
    }
}

/// A request without its host: no header of a sender is ever in it (DESIGN 2.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// POST unless said otherwise.
    pub method: Method,
    /// Path and query below the configured URL, beginning with `/`; `None`: the configured URL itself.
    pub path: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The traces of the events in it: the request is a child of the first.
    pub traces: Vec<Arc<Trace>>,
}

impl Default for Parcel {
    fn default() -> Self {
        Self { method: Method::POST, path: None, headers: HeaderMap::new(), body: Bytes::new(), traces: Vec::new() }
    }
}

impl Parcel {
    /// A JSON body to the configured URL itself.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { headers: json_headers(), body: body.into(), ..Self::default() }
    }

    /// Below the configured URL; `path` begins with `/`.
    #[must_use]
    pub fn to(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    #[must_use]
    pub fn by(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With `Authorization: <scheme> <credential>`, where there is a credential.
    #[must_use]
    pub fn authorized(mut self, scheme: &str, upstream: &UpstreamConfig) -> Self {
        let value = upstream.credential.as_ref().map(|credential| format!("{scheme} {credential}"));
        if let Some(Ok(mut value)) = value.map(|value| HeaderValue::from_str(&value)) {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }
}

/// Text as one segment of a path, or as a value in a query: everything but unreserved characters is percent-encoded.
pub fn percent_encoded(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    // A segment of dots would be taken for a step in the tree.
    if matches!(text, "." | "..") { text.replace('.', "%2E") } else { utf8_percent_encode(text, &RESERVED).to_string() }
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
    /// Members without a home in the model, as JSON, verbatim where they stand in the body; in order of appearance.
    pub extra: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl<'a> Said<'a> {
    /// Takes what the incident is from an earlier trigger or update of it, where that is not said here: title, class and
    /// tags, whence it came, and since when.
    pub fn fill_in(&mut self, event: &Event, earlier: &Said<'_>) {
        let (own, theirs) = (&mut self.content, &earlier.content);
        let (title, severity) = match event.action {
            // By the name that it went under, and the severity.
            Action::Trigger => (Some(earlier.title_of(event)), event.severity),
            _ => (theirs.title.as_deref().filter(|title| !title.trim().is_empty()).map(Cow::Borrowed), None),
        };
        let fill = |own: &mut Option<Cow<'a, str>>, theirs: Option<&str>| {
            if own.as_deref().is_none_or(|text| text.trim().is_empty()) {
                *own = theirs.map(|text| Cow::Owned(text.to_owned())).or(own.take());
            }
        };
        fill(&mut own.title, title.as_deref());
        fill(&mut own.class, theirs.class.as_deref());
        fill(&mut own.source, theirs.source.as_deref());
        fill(&mut own.component, theirs.component.as_deref());
        fill(&mut own.group, theirs.group.as_deref());
        fill(&mut own.service, theirs.service.as_deref());
        own.severity = own.severity.or(severity).or(theirs.severity);
        own.started_at = own.started_at.or(theirs.started_at);
        if own.tags.is_empty() {
            own.tags = theirs.clone().into_owned().tags;
        }
    }

    /// The title; of an event without one the first line of its description, else what it is (contracts 6).
    pub fn title_of(&'a self, event: &Event) -> Cow<'a, str> {
        let is_said = |text: &&str| !text.trim().is_empty();
        let line = || self.content.description.as_deref().and_then(|text| text.lines().find(is_said));
        let said = self.content.title.as_deref().filter(is_said).or_else(line);
        said.map_or_else(|| Cow::Owned(format!("{} alert", event.dialect)), Cow::Borrowed)
    }
}

/// Upstream kinds (INTERFACE 3); for some the sink comes with a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Squadcast,
    Stdout,
    IncidentIo,
    IncidentIoAlert,
    TaskCall,
    PagerDuty,
    Opsgenie,
    Alertmanager,
    CloudEvents,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Webhook,
        Self::Squadcast,
        Self::Stdout,
        Self::IncidentIo,
        Self::IncidentIoAlert,
        Self::TaskCall,
        Self::PagerDuty,
        Self::Opsgenie,
        Self::Alertmanager,
        Self::CloudEvents,
    ];

    /// As it stands in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Squadcast => "squadcast",
            Self::Stdout => "stdout",
            Self::IncidentIo => "incidentio",
            Self::IncidentIoAlert => "incidentio_alert",
            Self::TaskCall => "taskcall",
            Self::PagerDuty => "pagerduty",
            Self::Opsgenie => "opsgenie",
            Self::Alertmanager => "alertmanager",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The dialects that the upstream itself speaks and answers one event in: whose senders it may answer.
    pub const fn dialects(self) -> &'static [&'static str] {
        match self {
            Self::Webhook | Self::Stdout | Self::Alertmanager | Self::CloudEvents => &[],
            Self::Squadcast => &["squadcast"],
            Self::IncidentIo => &["incidentio_v1", "incidentio_v2"],
            Self::IncidentIoAlert => &["incidentio_alert"],
            Self::TaskCall => &["taskcall"],
            Self::PagerDuty => &["pagerduty_v2"],
            Self::Opsgenie => &["opsgenie"],
        }
    }

    /// What the vendor takes unless the configuration says otherwise: at most so many requests in any 60 s, spent at once
    /// when free (contracts 7.1).
    pub fn pace(self) -> Option<Pace> {
        let a_minute = |requests| Some(Pace { requests, per: Duration::from_secs(60), burst: requests });
        match self {
            Self::Webhook | Self::Stdout | Self::Alertmanager | Self::CloudEvents => None,
            // The free plan.
            Self::Squadcast => a_minute(15),
            Self::IncidentIo => a_minute(1_200),
            Self::IncidentIoAlert | Self::PagerDuty => a_minute(120),
            Self::TaskCall | Self::Opsgenie => a_minute(60),
        }
    }
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
    /// `None` for `stdout`. Of a vendor with an API of many paths the base below which they stand.
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
    /// What only one kind has a use for.
    pub vendor: VendorConfig,
}

/// What every JSON request carries.
fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// Events and upstreams for the tests of the sinks and of `forward`.
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
