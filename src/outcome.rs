//! Every ending of a request, in two tables: how an accepted event ended ([`Outcome`]) and why one was
//! refused ([`Reason`]). Dialects turn a [`Class`] into the status their senders understand
//! (contracts 2.6); metrics and logs use the names here. A new refusal is one row.

use std::ops::Deref;

use serde::Serialize;

/// What an event did (INTERFACE 4, `X-Surgegate-Outcome`). The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    Created = 0,
    Duplicate = 1,
    Escalated = 2,
    Acknowledged = 3,
    Unacknowledged = 4,
    Resolved = 5,
    DuplicateResolve = 6,
    Replayed = 7,
    Updated = 8,
    Forwarded = 9,
    Noop = 10,
    Unknown = 11,
    Ignored = 12,
    Unmatched = 13,
}

impl Outcome {
    pub const ALL: [Self; 14] = [
        Self::Created,
        Self::Duplicate,
        Self::Escalated,
        Self::Acknowledged,
        Self::Unacknowledged,
        Self::Resolved,
        Self::DuplicateResolve,
        Self::Replayed,
        Self::Updated,
        Self::Forwarded,
        Self::Noop,
        Self::Unknown,
        Self::Ignored,
        Self::Unmatched,
    ];

    /// The word of the answer header and of the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Duplicate => "duplicate",
            Self::Escalated => "escalated",
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Resolved => "resolved",
            Self::DuplicateResolve => "duplicate_resolve",
            Self::Replayed => "replayed",
            Self::Updated => "updated",
            Self::Forwarded => "forwarded",
            Self::Noop => "noop",
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
            Self::Unmatched => "unmatched",
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// What kind of refusal it is: dialects map it to a status (contracts 2.1, 2.2, 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    NoRoute,
    /// The path and query are longer than a head may hold.
    UriTooLong,
    /// Its head is larger than a head may be.
    HeadTooLarge,
    WrongMethod,
    /// Key missing, unknown or malformed: all alike to the sender.
    Unauthenticated,
    Forbidden,
    TooLarge,
    UnsupportedMediaType,
    Timeout,
    /// Not JSON, or not the JSON a body may be.
    Malformed,
    /// JSON that breaks the dialect's own rules.
    Invalid,
    /// An id that names nothing here.
    NotFound,
    /// What is addressed is in no state for it.
    Conflict,
    /// Nothing behind this integration can do it.
    NotSupported,
    /// Too much from this sender: the status that makes *this* sender retry.
    Overload,
    /// Nothing can be accepted just now.
    Unavailable,
    /// Our own fault.
    Internal,
}

/// Why an event or a request was refused: the machine-readable reason, equal to the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    NoRoute,
    UriTooLong,
    HeadTooLarge,
    InvalidHead,
    WrongMethod,
    UnknownKey,
    InvalidSignature,
    NotSigned,
    SignatureUnchecked,
    AmbiguousCredentials,
    CredentialsDisagree,
    IntegrationDisabled,
    DialectNotAllowed,
    SourceNotAllowed,
    BodyTooLarge,
    ContentType,
    ContentEncoding,
    RequestLimit,
    BodyBudget,
    BodyTimeout,
    BodyIncomplete,
    InvalidGzip,
    InvalidJson,
    InvalidEvent,
    UnknownResolve,
    NotFound,
    NotOpen,
    NotSupported,
    KeyContended,
    EventLimit,
    SpoolFull,
    SpoolFailed,
    Stopping,
    UpstreamRefused,
    UpstreamUnusable,
    Internal,
}

struct Row {
    reason: Reason,
    class: Class,
    label: &'static str,
    /// Loud: the operator should see it at warn, not the sender alone.
    loud: bool,
    /// For people: what it means, or what to look at.
    about: &'static str,
}

const fn row(reason: Reason, class: Class, label: &'static str, loud: bool, about: &'static str) -> Row {
    Row { reason, class, label, loud, about }
}

const ROWS: [Row; 36] = [
    row(Reason::NoRoute, Class::NoRoute, "no_route", false, "No dialect has such a path: look at the URL."),
    row(
        Reason::UriTooLong,
        Class::UriTooLong,
        "uri_too_long",
        false,
        "Path and query are longer than `limits.uri_bytes`.",
    ),
    row(
        Reason::HeadTooLarge,
        Class::HeadTooLarge,
        "head_too_large",
        false,
        "The head is larger than `limits.header_bytes`, or has more than `limits.headers` fields. Nobody knows yet whose it is.",
    ),
    row(
        Reason::InvalidHead,
        Class::Malformed,
        "invalid_head",
        false,
        "The head is not one of HTTP/1.1, or two readers could disagree on where the request ends; `message` says which.",
    ),
    row(Reason::WrongMethod, Class::WrongMethod, "wrong_method", false, "`Allow` says which method the path takes."),
    row(
        Reason::UnknownKey,
        Class::Unauthenticated,
        "unknown_key",
        false,
        "No integration has this key: unknown, revoked and malformed keys are alike.",
    ),
    row(
        Reason::InvalidSignature,
        Class::Unauthenticated,
        "invalid_signature",
        false,
        "The integration's `grafana_hmac` is set, and the body's signature is missing, wrong, or older than 5 minutes.",
    ),
    row(
        Reason::NotSigned,
        Class::Forbidden,
        "not_signed",
        false,
        "The integration's `sns.verify` is true, and Amazon SNS did not sign the body.",
    ),
    row(
        Reason::SignatureUnchecked,
        Class::Unavailable,
        "signature_unchecked",
        true,
        "The integration's `sns.verify` is true, and Amazon's certificate cannot be fetched from here.",
    ),
    row(
        Reason::AmbiguousCredentials,
        Class::Malformed,
        "ambiguous_credentials",
        false,
        "More than one credential that do not agree.",
    ),
    row(
        Reason::CredentialsDisagree,
        Class::Forbidden,
        "credentials_disagree",
        false,
        "The key in the path and the one in `Authorization` name different integrations.",
    ),
    row(
        Reason::IntegrationDisabled,
        Class::Forbidden,
        "integration_disabled",
        false,
        "`integrations[].enabled` is false.",
    ),
    row(
        Reason::DialectNotAllowed,
        Class::Forbidden,
        "dialect_not_allowed",
        false,
        "The integration's `dialects` leave this one out.",
    ),
    row(
        Reason::SourceNotAllowed,
        Class::Forbidden,
        "source_not_allowed",
        false,
        "The sender is in none of the integration's `source_networks`; behind a balancer see `listen.ingest.trusted_proxies`.",
    ),
    row(
        Reason::BodyTooLarge,
        Class::TooLarge,
        "body_too_large",
        false,
        "Larger than `limits.body_bytes`, or than the integration's `body_bytes`; counted decoded.",
    ),
    row(Reason::ContentType, Class::UnsupportedMediaType, "content_type", false, "Send `application/json`."),
    row(
        Reason::ContentEncoding,
        Class::UnsupportedMediaType,
        "content_encoding",
        false,
        "Send the body plain, or gzip where `limits.gzip` is true.",
    ),
    row(
        Reason::RequestLimit,
        Class::Overload,
        "request_limit",
        false,
        "More requests than the integration's `rate_limit.requests_per_second`.",
    ),
    row(
        Reason::BodyBudget,
        Class::Unavailable,
        "body_budget",
        true,
        "All connections together hold `limits.body_bytes_in_flight`: the machine is short of memory or of time.",
    ),
    row(
        Reason::BodyTimeout,
        Class::Timeout,
        "body_timeout",
        false,
        "The body did not come within `limits.body_timeout`, or slower than `limits.body_bytes_per_second`.",
    ),
    row(
        Reason::BodyIncomplete,
        Class::Malformed,
        "body_incomplete",
        false,
        "The body ended before its declared length.",
    ),
    row(
        Reason::InvalidGzip,
        Class::Malformed,
        "invalid_gzip",
        false,
        "`Content-Encoding: gzip`, and the body is none.",
    ),
    row(
        Reason::InvalidJson,
        Class::Malformed,
        "invalid_json",
        false,
        "Not JSON, or not JSON that a body may be; `errors` says where.",
    ),
    row(
        Reason::InvalidEvent,
        Class::Invalid,
        "invalid_event",
        false,
        "JSON that breaks the rules of this API; `errors` names every member.",
    ),
    row(
        Reason::UnknownResolve,
        Class::Invalid,
        "unknown_resolve",
        false,
        "Nothing open has this key, and the integration's `unknown_resolve` is `reject`.",
    ),
    row(
        Reason::NotFound,
        Class::NotFound,
        "not_found",
        false,
        "The id names no incident of this integration: unknown, forgotten, or another integration's.",
    ),
    row(
        Reason::NotOpen,
        Class::Conflict,
        "not_open",
        false,
        "The incident is resolved, and what was asked needs an open one.",
    ),
    row(
        Reason::NotSupported,
        Class::NotSupported,
        "not_supported",
        false,
        "No upstream of the integration can be told this.",
    ),
    row(
        Reason::KeyContended,
        Class::Overload,
        "key_contended",
        false,
        "Too many changes of one key at once, for longer than 10 s.",
    ),
    row(
        Reason::EventLimit,
        Class::Overload,
        "event_limit",
        false,
        "More new incidents than the integration's `rate_limit.events_per_second`.",
    ),
    row(
        Reason::SpoolFull,
        Class::Unavailable,
        "spool_full",
        true,
        "The spool holds `spool.max_bytes`, its index `spool.index_bytes`, or its disk is full.",
    ),
    row(
        Reason::SpoolFailed,
        Class::Unavailable,
        "spool_failed",
        true,
        "The spool cannot be written or synced: look at the disk and at the log.",
    ),
    row(Reason::Stopping, Class::Unavailable, "stopping", false, "The process is being stopped."),
    row(
        Reason::UpstreamRefused,
        Class::Invalid,
        "upstream_refused",
        false,
        "The integration's `ack` is `delivered`, and its upstream refused the event for good: a corrected one is new.",
    ),
    row(
        Reason::UpstreamUnusable,
        Class::Unavailable,
        "upstream_unusable",
        true,
        "The upstream that is waited for, or asked, refused us or does not answer: look at its credential and URL.",
    ),
    row(
        Reason::Internal,
        Class::Internal,
        "internal",
        true,
        "A defect of ours; nothing was accepted. The log has the request id.",
    ),
];

impl Reason {
    /// How many there are.
    pub const COUNT: usize = ROWS.len();

    /// Every reason, in the order of their indices.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.reason)
    }

    /// Position in [`Reason::all`], for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    pub const fn class(self) -> Class {
        ROWS[self as usize].class
    }

    pub const fn label(self) -> &'static str {
        ROWS[self as usize].label
    }

    /// What it means, or what to look at.
    pub const fn about(self) -> &'static str {
        ROWS[self as usize].about
    }

    pub const fn is_loud(self) -> bool {
        ROWS[self as usize].loud
    }
}

/// A refusal on its way to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Why>);

/// What a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub reason: Reason,
    /// For the sender: what is wrong and what to do. Never holds a key or a path.
    pub message: String,
    /// One line a fault, `member: reason`, where the body was at fault (contracts 2.7).
    pub errors: Vec<String>,
    /// When to come back; the answer adds jitter. Only for overload and unavailability.
    pub retry_after_s: Option<u32>,
    /// The methods that the path takes; of a wrong one.
    pub allow: Option<String>,
    /// What a refused body looked like, its values masked: for those who run it, of a few (`intake`).
    pub shape: Option<Box<str>>,
    /// Credentials beside the path are missing or wrong: 401 also where a wrong path is 404 (contracts 2.2).
    pub challenges: bool,
    /// Its key stands in the path: what is unknown is not found, whatever the dialect's other routes answer.
    pub conceals: bool,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let retry_after_s = match reason.class() {
            Class::Overload | Class::Unavailable => Some(1),
            _ => None,
        };
        Self(Box::new(Why {
            reason,
            message: message.into(),
            errors: Vec::new(),
            retry_after_s,
            allow: None,
            shape: None,
            challenges: reason == Reason::InvalidSignature,
            conceals: false,
        }))
    }

    pub fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.0.errors = errors;
        self
    }

    #[must_use]
    pub fn concealing(mut self) -> Self {
        self.0.conceals = true;
        self
    }

    #[must_use]
    pub fn with_shape(mut self, shape: Option<Box<str>>) -> Self {
        self.0.shape = shape;
        self
    }

    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    #[must_use]
    pub fn challenging(mut self) -> Self {
        self.0.challenges = true;
        self
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds.max(1));
        self
    }
}

impl Deref for Refusal {
    type Target = Why;

    fn deref(&self) -> &Why {
        &self.0
    }
}

/// Why an event will not be tried any more, until an operator replays it. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeadReason {
    /// The upstream refused it for good (contracts 7.1).
    Refused = 1,
    /// Tried for `give_up_after` without success.
    GaveUp = 2,
    /// The trigger of its generation is a dead letter there (DESIGN 5.3).
    PredecessorDead = 3,
    /// The record could not be read back from the log.
    Unreadable = 4,
    /// It cannot be said in the upstream's dialect.
    NotExpressible = 5,
    /// It may have arrived, and the upstream would take a repeat for another one (contracts/taskcall.md 7).
    Uncertain = 8,
    /// An element of a batch that breaks the rules of its API; kept at intake, never accepted.
    InvalidEvent = 6,
    /// The same for one above its limit.
    BodyTooLarge = 7,
}

/// Why an element of a batch was rejected alone (contracts/alertmanager.md 3). It is kept as a dead letter at
/// [`INTAKE`](crate::metrics::INTAKE), under the label that counts it as rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    Invalid,
    TooLarge,
}

impl Unfit {
    pub const ALL: [Self; 2] = [Self::Invalid, Self::TooLarge];

    pub const fn reason(self) -> Reason {
        match self {
            Self::Invalid => Reason::InvalidEvent,
            Self::TooLarge => Reason::BodyTooLarge,
        }
    }

    pub const fn dead_reason(self) -> DeadReason {
        match self {
            Self::Invalid => DeadReason::InvalidEvent,
            Self::TooLarge => DeadReason::BodyTooLarge,
        }
    }
}

impl DeadReason {
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::GaveUp,
        Self::PredecessorDead,
        Self::Unreadable,
        Self::NotExpressible,
        Self::InvalidEvent,
        Self::BodyTooLarge,
        Self::Uncertain,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::PredecessorDead => "predecessor_dead",
            Self::Unreadable => "unreadable",
            Self::NotExpressible => "not_expressible",
            Self::Uncertain => "uncertain",
            Self::InvalidEvent => "invalid_event",
            Self::BodyTooLarge => "body_too_large",
        }
    }

    /// Whether it was rejected at intake: it never was an event that any upstream could get.
    pub const fn is_of_intake(self) -> bool {
        matches!(self, Self::InvalidEvent | Self::BodyTooLarge)
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

/// Why an event was given up without delivery. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// A later trigger of the same generation was delivered (DESIGN 5.3).
    Superseded = 1,
    /// An operator dropped it.
    Operator = 2,
    /// An operator gave it to another upstream.
    Reassigned = 3,
    /// Dead letters took more room than they may, and it was among the oldest (DESIGN 4).
    DeadLetterSpace = 4,
    /// It needs an id that the upstream never told, or that nobody remembers (contracts 5.5).
    Unresolvable = 5,
    /// The upstream refused it while its sender waited, who was told so (DESIGN 5.7).
    Refused = 6,
}

impl DropReason {
    pub const ALL: [Self; 6] =
        [Self::Superseded, Self::Operator, Self::Reassigned, Self::DeadLetterSpace, Self::Unresolvable, Self::Refused];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Operator => "operator",
            Self::Reassigned => "reassigned",
            Self::DeadLetterSpace => "dead_letter_space",
            Self::Unresolvable => "unresolvable",
            Self::Refused => "refused",
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_in_its_own_row_and_has_its_own_label() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.reason.index(), index, "{}", row.label);
        }
        let labels: std::collections::HashSet<_> = ROWS.iter().map(|row| row.label).collect();
        assert_eq!(labels.len(), ROWS.len());
    }

    #[test]
    fn what_is_rejected_alone_is_counted_and_kept_under_one_label() {
        for unfit in Unfit::ALL {
            assert_eq!(unfit.reason().label(), unfit.dead_reason().name());
            assert!(unfit.dead_reason().is_of_intake());
        }
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_code(reason as u8), Some(reason));
            assert_eq!(reason.is_of_intake(), Unfit::ALL.iter().any(|unfit| unfit.dead_reason() == reason));
        }
    }

    #[test]
    fn outcome_codes_are_positions() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_code(outcome as u8), Some(outcome));
        }
    }
}
