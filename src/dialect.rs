//! The dialects senders speak: one trait, one list, one line a dialect. A dialect knows its routes, reads a
//! body into what it says, and answers in its sender's own form. It never sees a socket, a key or a clock.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use crate::event::{Action, Content, Event, Incident, Key, Micros, Severity, Target};
use crate::gate::{Rate, Settings};
use crate::machine::KeyLife;
use crate::outcome::{Class, Outcome, Refusal};

mod alertmanager;
mod checkmk;
mod cloudevents;
mod datadog;
mod generic;
mod hooks;
mod icinga;
mod incidentio;
pub mod json;
mod nagios;
mod opsgenie;
mod pagerduty;
mod records;
mod route;
mod sns;
mod squadcast;
mod taskcall;
mod text;
mod zabbix;

pub use records::{Named, Record, Records, VIEW_BYTES_MAX, View};
pub use route::{Args, Credentials, Matched, Miss, Route, Scheme, Takes, keys_in_bodies, route};
pub use sns::envelope as sns_envelope;

/// Every dialect. A new one is its file, a `mod` line and a line here.
pub static DIALECTS: &[&dyn Dialect] = &[
    &squadcast::Squadcast,
    &incidentio::V1,
    &incidentio::V2,
    &incidentio::Alert,
    &taskcall::TaskCall,
    &alertmanager::ALERTMANAGER,
    &alertmanager::GRAFANA,
    &opsgenie::Opsgenie,
    &pagerduty::V2,
    &pagerduty::V1,
    &pagerduty::CHANGE,
    &datadog::Datadog,
    &sns::Sns,
    &cloudevents::CloudEvents,
    &zabbix::Zabbix,
    &nagios::Nagios,
    &icinga::Icinga,
    &checkmk::Checkmk,
    &generic::Generic,
];

/// The id of each (contracts 1).
pub fn names() -> impl Iterator<Item = &'static str> {
    DIALECTS.iter().map(|dialect| dialect.name())
}

/// What a decoder is told beside the body.
#[derive(Clone, Copy)]
pub struct Asked<'r> {
    /// Of the route that took it.
    pub endpoint: &'r str,
    /// The texts of the path's braces but the key's, as they were sent; none of an event that was stored.
    pub args: &'r [Box<str>],
    /// As it was sent, without its question mark; empty of an event that was stored.
    pub query: &'r str,
    /// Of a route that wants them; else empty.
    pub headers: Option<&'r HeaderMap>,
    /// Of an element of a batch: what the body says of all.
    pub envelope: Option<json::Document<'r>>,
    pub rules: Rules<'r>,
}

impl<'r> Asked<'r> {
    /// By a route of which nothing but the endpoint matters.
    pub const fn at(endpoint: &'r str, rules: Rules<'r>) -> Self {
        Self { endpoint, args: &[], query: "", headers: None, envelope: None, rules }
    }
}

/// What an integration asks of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'r> {
    pub require_description: bool,
    /// Only what deciding needs: action, key, severity and all faults. The rest of the content stays empty.
    pub judge_only: bool,
    /// `None`: the body was accepted before, and nothing is demanded any more.
    pub settings: Option<&'r Settings>,
}

impl Rules<'_> {
    /// For a body that was accepted before.
    pub const ACCEPTED: Self = Self { require_description: false, judge_only: false, settings: None };
}

/// One statement read from a body.
#[derive(Debug)]
pub struct Decoded<'d> {
    pub judged: Judged,
    pub content: Content<'d>,
    /// The members that have no home in the content.
    pub extra: Vec<Extra<'d>>,
}

/// A member without a home.
#[derive(Debug)]
pub enum Extra<'d> {
    /// A top-level member of the event's own body: taken from there as the sender wrote it.
    Member(Cow<'d, str>),
    /// A top-level member of its batch's envelope.
    Envelope(Cow<'d, str>),
    /// JSON text that the decoder took or made.
    Made(Cow<'d, str>, Box<RawValue>),
}

impl Extra<'_> {
    pub fn name(&self) -> &str {
        match self {
            Self::Member(name) | Self::Envelope(name) | Self::Made(name, _) => name,
        }
    }

    fn into_owned(self) -> Extra<'static> {
        let own = |name: Cow<'_, str>| Cow::Owned(name.into_owned());
        match self {
            Self::Member(name) => Extra::Member(own(name)),
            Self::Envelope(name) => Extra::Envelope(own(name)),
            Self::Made(name, value) => Extra::Made(own(name), value),
        }
    }
}

/// What deciding needs of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub action: Action,
    pub key: Option<Key>,
    /// An incident addressed by id instead. An alias is no target, it is a key.
    pub target: Option<Target>,
    pub severity: Option<Severity>,
    /// An update that adds a note.
    pub notes: bool,
    /// It means nothing to an incident that is resolved: refused as [`crate::outcome::Reason::NotOpen`].
    pub needs_open: bool,
    /// An `admin` statement that ends the incident here (a merge).
    pub closes: bool,
    /// An `admin` statement on an incident that makes a new one out of it (an unmerge): that one is what the answer shows.
    pub opens: bool,
    /// Another incident that it speaks of: it must be known here, unless the statement `opens` one.
    pub other: Option<Target>,
    /// What the integration's settings add to the body, as JSON: stored with the event, and given back to the decoder as
    /// its envelope.
    pub fills: Option<Bytes>,
    /// What it changes of the incident's view; only of dialects that keep one.
    pub view: Option<Box<View>>,
    /// The id that its transport repeats with it (contracts 5.7): what comes again within `replay_ttl` is answered, and no more.
    pub replay: Option<Box<str>>,
    /// It changes nothing and goes nowhere: so it is counted and answered.
    pub ends: Option<Outcome>,
    /// A resolve that is forgotten where nothing of its key is open, whatever the integration does with others.
    pub drops_unknown: bool,
}

impl Judged {
    /// A statement that needs no more than an action.
    pub fn of(action: Action) -> Self {
        Self {
            action,
            key: None,
            target: None,
            severity: None,
            notes: false,
            needs_open: false,
            closes: false,
            opens: false,
            other: None,
            fills: None,
            view: None,
            replay: None,
            ends: None,
            drops_unknown: false,
        }
    }

    /// With the severity of an integration where it names none. An update that names none changes none.
    #[must_use]
    pub fn or_severity(self, default: Option<Severity>) -> Self {
        if self.action == Action::Update {
            return self;
        }
        Self { severity: self.severity.or(default), ..self }
    }
}

/// The faults of a body, `member: reason` each (contracts 2.7).
pub type Faults = Vec<String>;

/// A batch body, taken apart.
#[derive(Debug, Default)]
pub struct Split {
    /// The body without the list of its elements, as JSON; at most one event's limit. `None`: no element needs it.
    pub envelope: Option<Bytes>,
    /// The text of each element: JSON by its syntax, to be parsed yet.
    pub elements: Vec<Bytes>,
    /// How deep the elements stand in the body; their nesting is counted from its top.
    pub levels: usize,
    /// How many more the sender says there were.
    pub left_out: u64,
}

/// What a batch is held to.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub elements: usize,
    /// Of one event, and of what is said of all.
    pub event_bytes: usize,
}

/// How one event of a request ended, for the answer.
#[derive(Clone, Copy)]
pub struct Ending<'a> {
    /// `None`: this element of a batch was refused alone; what is no event is kept as a dead letter.
    pub outcome: Option<Outcome>,
    pub incident: Option<&'a Incident>,
    pub key: Option<&'a Key>,
    /// The incident's view after it; of dialects that keep one.
    pub view: Option<&'a [u8]>,
    pub named: Option<&'a Named>,
}

/// What an answer is made of.
pub struct Replying<'a> {
    pub endpoint: &'static str,
    /// Of its route.
    pub status: StatusCode,
    /// In the order of the events.
    pub endings: &'a [Ending<'a>],
    /// The integration's status where it may choose.
    pub success: StatusCode,
    /// As [`Dialect::request_id`] has it.
    pub request_id: &'a str,
    pub integration: &'a str,
    pub settings: &'a Settings,
}

impl Replying<'_> {
    /// The wall clock: of few answers.
    pub fn now(&self) -> Micros {
        Micros::now()
    }
}

/// What a question is about.
pub struct Question<'a> {
    pub asked: Asked<'a>,
    /// Its body; of a route that takes one.
    pub document: Option<json::Document<'a>>,
    pub records: &'a dyn Records,
    pub integration: &'a str,
    pub settings: &'a Settings,
    pub request_id: &'a str,
    pub now: Micros,
}

/// A question for an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Passed {
    pub upstream: Arc<str>,
    /// Below its configured URL.
    pub path: String,
    /// The answer where the upstream has nothing of this kind; `None`: its own 404.
    pub absent: Option<&'static str>,
}

/// What a sender that is too fast is told.
#[derive(Clone, Copy, Debug)]
pub struct Limited<'a> {
    pub integration: &'a str,
    /// The limit that it met, or that its requests are held to.
    pub rate: Option<Rate>,
    /// As the header says it.
    pub retry_after_s: u32,
    pub now: Micros,
}

/// How a dialect names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestIdForm {
    /// 32 hexadecimal digits.
    Hex,
    /// A UUID by chance.
    Uuid,
    /// A UUID that tells how the request ended: [`Dialect::telling_id`].
    Telling,
}

/// What a body may be, by its label (contracts 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, also under the labels that are tolerated.
    Json,
    /// The same, and under this media type anything.
    Or(&'static str),
    /// Anything under any label.
    Any,
}

/// A sender's language (DESIGN 3).
pub trait Dialect: Sync {
    /// Id of contracts 1; a metric label and part of the stored event.
    fn name(&self) -> &'static str;

    fn routes(&self) -> &'static [Route];

    /// Dedup family of contracts 5.1; `args` as in [`Asked`]. The default: all that the dialect says is one family, of its name.
    fn family(&self, _args: &[Box<str>]) -> Cow<'static, str> {
        Cow::Borrowed(self.name())
    }

    /// All that it has for an integration.
    fn families(&self, _settings: &Settings) -> Vec<Cow<'static, str>> {
        vec![self.family(&[])]
    }

    fn key_life(&self) -> KeyLife {
        KeyLife::OpenUntilResolved
    }

    /// Whether its senders come back after an overload answer (contracts 2.6). The default: not one of them does.
    fn retries_overload(&self) -> bool {
        false
    }

    /// Its incidents are addressed by `number` or `iid`: they are kept by id too, those without a key as well, and each has
    /// a view ([`Judged::view`]).
    fn has_ids(&self) -> bool {
        false
    }

    /// Its answers show where an incident is found at the upstream.
    fn shows_links(&self) -> bool {
        false
    }

    /// The dialects that ask by each other's paths: an integration that may speak one of them may ask by all. Empty: it
    /// has no such relatives.
    fn readers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a repeat of a key that creates once says something else than what was taken; by the views. Counted.
    fn says_otherwise(&self, _known: &[u8], _said: &[u8]) -> bool {
        false
    }

    /// What a statement, said at that time, makes of the view before it. The default: members are replaced, `null` takes one away.
    fn fold(&self, before: View, said: View, _at: Micros) -> View {
        let mut after = before;
        for (name, value) in said {
            if value.is_null() {
                after.remove(&name);
            } else {
                after.insert(name, value);
            }
        }
        after
    }

    /// An `admin` statement that none of an integration's upstreams does is refused; else it is absorbed.
    fn refuses_what_nobody_does(&self) -> bool {
        false
    }

    /// An `admin` statement that none of an integration's upstreams can be told is refused; else it is absorbed.
    fn refuses_what_nobody_is_told(&self) -> bool {
        false
    }

    /// An id that names nothing: 404, unless the dialect's senders are told of it later (Opsgenie).
    fn takes_unknown_targets(&self) -> bool {
        false
    }

    fn request_id(&self) -> RequestIdForm {
        RequestIdForm::Hex
    }

    /// The one statement of a body, where a glance shows what deciding needs of it. `None`: it must be read whole. Never
    /// says what [`Self::decode`] would not say.
    fn judge(&self, _endpoint: &str, _body: &[u8], _rules: Rules<'_>) -> Option<Judged> {
        None
    }

    /// The id of a request whose event was taken, for senders who ask by it later how that ended; `random`: fresh bits.
    fn telling_id(&self, _replying: &Replying<'_>, _now: Micros, random: u128) -> u128 {
        random
    }

    /// Its answers tell how long they took: [`Self::timed`].
    fn tells_time(&self) -> bool {
        false
    }

    /// An answer's body with its time, and what says so in its head.
    fn timed(&self, body: Bytes, _took: Duration, _headers: &mut HeaderMap) -> Bytes {
        body
    }

    /// Reads a parsed body, or one element of a batch; `each` gets the statement in it (of none, the request is answered
    /// and counted as `ignored`).
    ///
    /// # Errors
    /// All faults of the body at once, when it cannot be read as this dialect.
    fn decode(
        &self,
        asked: &Asked<'_>,
        document: json::Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults>;

    /// What its bodies may be beside JSON.
    fn form(&self, _headers: &HeaderMap) -> Form {
        Form::Json
    }

    /// Whether a request of a route that takes batches holds one.
    fn holds_many(&self, _headers: &HeaderMap) -> bool {
        true
    }

    /// The route that a body belongs to where that is another one than it came by; `None`: it stays there.
    fn belongs_to(&self, _endpoint: &str, _body: &[u8]) -> Option<&'static Route> {
        None
    }

    /// A body that is no JSON object, as the one that [`Self::decode`] reads; also of an event that was stored. `None`: as it is.
    ///
    /// # Errors
    /// It is none of the forms that the dialect knows.
    fn as_json(&self, _asked: &Asked<'_>, _body: &[u8]) -> Result<Option<Vec<u8>>, Faults> {
        Ok(None)
    }

    /// Whether a body is its sender's, where that can be seen by the body alone; of routes that want headers. The default: its
    /// key is enough.
    ///
    /// # Errors
    /// A refusal of class unauthenticated.
    fn verify(&self, _asked: &Asked<'_>, _body: &[u8], _now: Micros) -> Result<(), Refusal> {
        Ok(())
    }

    /// Takes a batch body apart; of routes that take one.
    ///
    /// # Errors
    /// The body is no JSON, or no batch of this dialect.
    fn split(&self, _asked: &Asked<'_>, _body: &Bytes, _most: Most) -> Result<Split, SplitError> {
        Err(SplitError::Faults(vec!["body: this route takes one event".into()]))
    }

    /// The answer to a request that was accepted. The default: as `/hooks/*` answer.
    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        hooks::reply(replying)
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// What is asked for is not known, or the question breaks a rule.
    fn read(&self, _question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        Err(Refusal::new(crate::outcome::Reason::NotFound, "nothing is known of this"))
    }

    /// The path by which a question is put to the integration's own upstream of the vendor, if that is to answer it.
    fn passes(&self, _asked: &Asked<'_>, _settings: &Settings) -> Option<Passed> {
        None
    }

    /// What an upstream's answer is the answer to, where it takes the place of ours (`respond: upstream`).
    fn repeats(&self) -> Repeats {
        Repeats::Statement
    }

    /// An upstream's answer as it stands for a repeat, where that reads another one than whoever came first.
    fn again(&self, _outcome: Outcome, _answer: &Bytes) -> Option<Bytes> {
        None
    }

    /// What else stands in the head of the answer to a question.
    fn read_headers(&self, _question: &Question<'_>) -> HeaderMap {
        HeaderMap::new()
    }

    /// Status of a refusal (contracts 2.1, 2.2, 2.6).
    fn status(&self, class: Class) -> StatusCode {
        usual_status(class)
    }

    /// Body of a refusal, in the dialect's own form (contracts 2.7).
    fn error(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        plain_error(refusal, request_id)
    }

    /// Body of a refusal of class overload, and what else stands in its head.
    fn limited(&self, refusal: &Refusal, request_id: &str, _limited: &Limited<'_>, _headers: &mut HeaderMap) -> Bytes {
        self.error(refusal, request_id)
    }

    /// The scheme that a 401 asks for.
    fn challenge(&self) -> &'static str {
        "Bearer"
    }
}

/// What a repeat is told of an upstream's earlier answer (DESIGN 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The answer to the same statement on the same incident.
    Statement,
    /// Answers show the incident as it is: the last one of this dialect.
    Incident,
    /// Each request has an answer of its own: ours.
    Ours,
}

/// Why a batch body cannot be taken apart.
#[derive(Debug)]
pub enum SplitError {
    Json(json::JsonError),
    Faults(Faults),
    /// What it says of all its events is larger than one event may be.
    EnvelopeTooLarge,
    /// More elements than [`Most::elements`].
    TooMany,
}

/// The status of a refusal where a dialect's senders want no other: its key stands in the path.
pub fn usual_status(class: Class) -> StatusCode {
    match class {
        Class::NoRoute | Class::Unauthenticated | Class::NotFound => StatusCode::NOT_FOUND,
        Class::UriTooLong => StatusCode::URI_TOO_LONG,
        Class::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Class::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Class::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Class::Timeout => StatusCode::REQUEST_TIMEOUT,
        Class::Malformed | Class::Invalid | Class::Conflict => StatusCode::BAD_REQUEST,
        Class::Overload => StatusCode::TOO_MANY_REQUESTS,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Class::NotSupported => StatusCode::NOT_IMPLEMENTED,
    }
}

/// The form that `/hooks/*` and paths of no dialect use (contracts 2.7); `errors` only where there are any.
pub fn plain_error(refusal: &Refusal, request_id: &str) -> Bytes {
    let mut body = serde_json::json!({
        "status": "error",
        "reason": refusal.reason.label(),
        "message": refusal.message,
        "request_id": request_id,
    });
    if !refusal.errors.is_empty() {
        body["errors"] = refusal.errors.clone().into();
    }
    body.to_string().into()
}

/// The dialect of that name: how a stored event finds its decoder again.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}

/// What a stored event says, with the members its decoder did not consume, as the sender wrote them.
pub struct Reread<'e> {
    pub content: Content<'static>,
    pub extra: Vec<(Cow<'e, str>, Cow<'e, RawValue>)>,
}

/// Decodes a stored event's body once more. `None` when it does not decode any longer: a newer version may
/// be stricter than the one that accepted it, and the event still has to arrive.
pub fn reread(event: &Event) -> Option<Reread<'_>> {
    match &event.envelope {
        None => reread_in(event, None),
        Some(envelope) => json::with_document(envelope, |envelope| reread_in(event, Some(envelope))).ok()?,
    }
}

fn reread_in<'e>(event: &'e Event, envelope: Option<json::Document<'_>>) -> Option<Reread<'e>> {
    let dialect = by_name(&event.dialect)?;
    let asked = Asked { envelope, ..Asked::at(&event.endpoint, Rules::ACCEPTED) };
    let (mut content, mut names) = (None, Vec::new());
    let body: &[u8] = if event.raw.is_empty() { b"{}" } else { &event.raw };
    let made = dialect.as_json(&asked, &event.raw).ok()?;
    let decoded = json::with_document(made.as_deref().unwrap_or(body), |document| {
        dialect.decode(&asked, document, &mut |said| {
            content = Some(said.content.into_owned());
            names = said.extra.into_iter().map(Extra::into_owned).collect();
        })
    });
    if !matches!(decoded, Ok(Ok(()))) {
        return None;
    }
    let mut extra = Vec::with_capacity(names.len());
    if !names.is_empty() {
        let members = |raw: &'e [u8]| {
            let text = std::str::from_utf8(raw).ok()?;
            json::members_as_text(text.strip_prefix('\u{FEFF}').unwrap_or(text))
        };
        let mut of_made = made.as_deref().and_then(|made| json::members_as_text(std::str::from_utf8(made).ok()?));
        let mut own = if made.is_some() { None } else { members(&event.raw) };
        let mut shared = event.envelope.as_deref().and_then(members);
        for name in names {
            let (from, name) = match name {
                Extra::Made(name, value) => {
                    extra.push((name, Cow::Owned(value)));
                    continue;
                }
                Extra::Member(name) if made.is_some() => {
                    let taken = of_made.as_mut().and_then(|members| members.remove(&*name));
                    extra.extend(taken.map(|value| (name, Cow::Owned(value.to_owned()))));
                    continue;
                }
                Extra::Member(name) => (&mut own, name),
                Extra::Envelope(name) => (&mut shared, name),
            };
            let taken = from.as_mut().and_then(|members| members.remove_entry(&*name));
            extra.extend(taken.map(|(name, value)| (name, Cow::Borrowed(value))));
        }
    }
    Some(Reread { content: content?, extra })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    #[test]
    fn a_stored_event_is_read_again_with_its_other_members_verbatim() {
        let mut event = crate::event::tests::event("k");
        event.raw = r#"{"message":"m","description":"d","n": 1.50,"o":{"a": [1.0]},"n":2.50}"#.into();
        let reread = reread(&event).unwrap();
        assert_eq!(reread.content.title.as_deref(), Some("m"));
        let extra: Vec<_> = reread.extra.iter().map(|(name, value)| (&**name, value.get())).collect();
        assert_eq!(extra, [("o", r#"{"a": [1.0]}"#), ("n", "2.50")]);
    }

    #[test]
    fn every_dialect_answers_every_reason_with_a_json_object() {
        for dialect in DIALECTS {
            for reason in Reason::all() {
                let refusal = Refusal::new(reason, "because").with_errors(vec!["a: b".into()]);
                let body = dialect.error(&refusal, "r1");
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                // Where its form has a place for it; each answer's head has it.
                if let Some(named) = body.get("request_id").or(body.get("requestId")) {
                    assert_eq!(named, "r1", "{} {}", dialect.name(), reason.label());
                }
                assert!(body.is_object(), "{} {}", dialect.name(), reason.label());
                assert!(dialect.status(reason.class()).as_u16() >= 400);
            }
        }
    }
}
