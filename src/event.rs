//! The normalized model (contracts 3): one inbound statement (`Event`), what it says (`Content`),
//! and the incident it acts on (`Incident`). Every room above uses these; nothing here does I/O.
//!
//! An `Event` carries only what deciding needs, and the body as it came. `Content` is a view that the
//! event's dialect decodes from that body: once at intake, to judge it, and again when it is forwarded.
//! So the hot path never builds strings it does not need, and a decoder bug is repaired by replay.

pub mod trace;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use self::trace::Trace;

/// Longest canonical key, in bytes (contracts 5.1),
pub const KEY_BYTES_MAX: usize = 512;
/// but for PagerDuty's, which are counted in characters: 255.
pub const LONG_KEY_BYTES_MAX: usize = 255 * 4;

/// Microseconds since the Unix epoch, UTC. Wall time: only for stamps that outlive the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// The wall clock now; a clock before 1970 reads as the epoch.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Whole seconds since the epoch, saturating at `u32`.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0.max(0) / 1_000_000).unwrap_or(u32::MAX)
    }

    /// From whole seconds since the epoch.
    pub fn from_seconds(seconds: u32) -> Self {
        Self(i64::from(seconds) * 1_000_000)
    }
}

impl fmt::Display for Micros {
    /// RFC 3339, UTC, six fractional digits (contracts 2.5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{stamp:.6}")
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A ULID: names one event (`event_uid`) or one incident generation (`iid`). 26 characters of Crockford base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub u128);

/// With the marks of a UUID of that version and of its standard in their places: readers check them.
pub fn as_uuid(id: u128, version: u8) -> u128 {
    id & !(0xF << 76 | 0b11 << 62) | u128::from(version) << 76 | 0b10 << 62
}

impl Uid {
    /// A fresh id stamped with `now`; the low 80 bits are random.
    pub fn new(now: Micros) -> Self {
        let millis = u64::try_from(now.0.max(0) / 1000).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, fastrand::u128(..)).0)
    }

    /// Writes the 26 characters into `buffer` and returns them; no allocation.
    pub fn write(self, buffer: &mut [u8; 26]) -> &str {
        ulid::Ulid(self.0).array_to_str(buffer)
    }

    /// Parses 26 characters of Crockford base 32; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        ulid::Ulid::from_string(text).ok().map(|id| Self(id.0))
    }

    /// When the id was made, to the millisecond.
    pub fn made_at(self) -> Micros {
        Micros(i64::try_from(ulid::Ulid(self.0).timestamp_ms()).unwrap_or(0) * 1000)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 26];
        f.write_str(self.write(&mut buffer))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; 26];
        serializer.serialize_str(self.write(&mut buffer))
    }
}

/// What an event asks for (contracts 3.1). The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Action {
    Trigger = 1,
    Acknowledge = 2,
    Unacknowledge = 3,
    Resolve = 4,
    Update = 5,
    Admin = 6,
    Change = 7,
}

impl Action {
    pub const ALL: [Self; 7] =
        [Self::Trigger, Self::Acknowledge, Self::Unacknowledge, Self::Resolve, Self::Update, Self::Admin, Self::Change];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|action| *action as u8 == code)
    }

    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Acknowledge => "acknowledge",
            Self::Unacknowledge => "unacknowledge",
            Self::Resolve => "resolve",
            Self::Update => "update",
            Self::Admin => "admin",
            Self::Change => "change",
        }
    }
}

/// Level 1 (minor, info) to 5 (critical), contracts 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Severity(u8);

impl Severity {
    /// `None` outside 1..=5.
    pub fn new(level: u8) -> Option<Self> {
        (1..=5).contains(&level).then_some(Self(level))
    }

    pub fn level(self) -> u8 {
        self.0
    }
}

/// Whether there is nothing but white space in a text. Nearly every text begins with what is none.
pub fn is_blank(text: &str) -> bool {
    let seen = text.bytes().next().is_some_and(|byte| byte.is_ascii_graphic());
    !seen && text.trim().is_empty()
}

/// How the dedup key was written (contracts 3.1). The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum KeyKind {
    String = 1,
    Integer = 2,
    Derived = 3,
    Generated = 4,
}

impl KeyKind {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::String, Self::Integer, Self::Derived, Self::Generated].into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A dedup key in canonical form: at most [`KEY_BYTES_MAX`] bytes, of PagerDuty's [`LONG_KEY_BYTES_MAX`], not only white
/// space (contracts 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Shared: the event keeps it and the answer shows it.
    canon: Arc<str>,
    pub kind: KeyKind,
}

impl Key {
    /// `None` when `canon` is blank or longer than [`KEY_BYTES_MAX`] bytes.
    pub fn parse(canon: &str, kind: KeyKind) -> Option<Self> {
        Self::within(KEY_BYTES_MAX, canon, kind)
    }

    /// The same of one whose dialect has looked at its length, or that was stored: at most [`LONG_KEY_BYTES_MAX`] bytes.
    pub fn parse_long(canon: &str, kind: KeyKind) -> Option<Self> {
        Self::within(LONG_KEY_BYTES_MAX, canon, kind)
    }

    fn within(bytes_max: usize, canon: &str, kind: KeyKind) -> Option<Self> {
        let fits = canon.len() <= bytes_max && !is_blank(canon);
        fits.then(|| Self { canon: canon.into(), kind })
    }

    pub fn canon(&self) -> &str {
        &self.canon
    }

    /// Enough of it to recognise it: its first and last two characters.
    pub fn masked(&self) -> String {
        let characters: Vec<char> = self.canon.chars().collect();
        match characters.as_slice() {
            [a, b, middle @ .., y, z] if middle.len() >= 4 => format!("{a}{b}***{y}{z}"),
            _ => "***".to_owned(),
        }
    }
}

/// Where state is looked up: the first 128 bits of SHA-256 over the length-prefixed triple
/// (integration, family, canonical key), contracts 5.1. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct StateKey(pub u128);

impl StateKey {
    /// Where it is kept that a transport's own id was seen (contracts 5.7): apart from all keys.
    pub fn of_replay(integration: &str, family: &str, id: &str) -> Self {
        Self::of(integration, &format!("replay\u{1F}{family}"), id)
    }

    pub fn of(integration: &str, family: &str, canon: &str) -> Self {
        // No part reaches 64 KiB, and short lengths keep most triples within one block of the hash.
        let length = |part: &str| u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes();
        let mut hash = Sha256::new();
        for part in [integration, family, canon] {
            hash.update(length(part));
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        Self(u128::from_le_bytes(head).max(1))
    }
}

/// Coercions that are not visible in the body itself, so they are kept beside it. Bits are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerated(pub u8);

impl Tolerated {
    /// JSON under a wrong or missing content type (contracts 2.3).
    pub const CONTENT_TYPE: Self = Self(1);

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One inbound statement, as far as deciding and storing it needs (contracts 3.1).
#[derive(Clone, Debug)]
pub struct Event {
    pub uid: Uid,
    pub received_at: Micros,
    /// The integration's configured name: state, lanes and the log are scoped by it.
    pub integration: Arc<str>,
    /// Dialect id of contracts 1, e.g. `squadcast`.
    pub dialect: Cow<'static, str>,
    /// Needed to decode and re-encode, e.g. `v2/incidents/api`.
    pub endpoint: Cow<'static, str>,
    /// Dedup family of contracts 5.1, e.g. `squadcast`.
    pub family: Cow<'static, str>,
    pub action: Action,
    /// The sender's key. Of an event that addresses an incident by id: the key of that incident, if it has one.
    pub key: Option<Key>,
    /// The id by which the sender addresses an incident, as it wrote it.
    pub target: Option<Target>,
    /// The sender's, else the integration's default.
    pub severity: Option<Severity>,
    pub tolerated: Tolerated,
    /// The body as received, credentials overwritten with `*` of equal length; of a batch the slice of this event.
    pub raw: Bytes,
    /// What a batch says of all its events: the body without their list. The events of a request share one buffer, of its
    /// own (not a part of the body's: the log holds on to the last few): by that the log knows it, and writes it once.
    pub envelope: Option<Bytes>,
    /// What the answers of a dialect with ids show of the incident after this event: a JSON object of that dialect's own.
    /// It stands in the incident's last record, so one read finds it.
    pub view: Option<Bytes>,
    /// The trace that the request which brought it belongs to; the events of a batch share it.
    pub trace: Option<Arc<Trace>>,
}

impl Event {
    pub fn state_key(&self) -> Option<StateKey> {
        self.key.as_ref().map(|key| StateKey::of(&self.integration, &self.family, key.canon()))
    }
}

/// What an id in a request names (contracts 3.1). The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TargetKind {
    InstanceId = 1,
    IncidentId = 2,
    AlertId = 3,
    TinyId = 4,
    Alias = 5,
}

impl TargetKind {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::InstanceId, Self::IncidentId, Self::AlertId, Self::TinyId, Self::Alias]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// Longest id in a request, in bytes (contracts 3.1).
pub const TARGET_BYTES_MAX: usize = 512;

/// An incident addressed by id; `value` is at most [`TARGET_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    pub kind: TargetKind,
    pub value: Box<str>,
}

/// Type of a tag's value in the sender's JSON (contracts 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TagType {
    String,
    Number,
    Bool,
    Json,
}

/// A tag (contracts 3.2). `color` is `#RGB` or `#RRGGBB` as written; absent stays absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    pub value: Cow<'a, str>,
    pub kind: TagType,
    pub color: Option<Cow<'a, str>>,
    /// A list-style tag that has a name and no value.
    pub bare: bool,
}

impl Serialize for Tag<'_> {
    /// `{"value", "type", "color"}`, without a colour where there is none; of a bare one `{"bare": true}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, kind, color, bare } = self;
        let mut tag = serializer.serialize_struct("Tag", 3)?;
        if *bare {
            tag.serialize_field("bare", bare)?;
            return tag.end();
        }
        tag.serialize_field("value", value)?;
        tag.serialize_field("type", kind)?;
        if let Some(color) = color {
            tag.serialize_field("color", color)?;
        }
        tag.end()
    }
}

/// A coercion or truncation that was done; `path` names the member (contracts 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning<'a> {
    pub code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub path: Cow<'a, str>,
}

/// Most warnings kept for one event (contracts 3.1).
pub const WARNINGS_MAX: usize = 32;
/// Most tags kept for one event (contracts 3.1).
pub const TAGS_MAX: usize = 64;
/// Longest title, in characters (contracts 3.1).
pub const TITLE_CHARS_MAX: usize = 1024;
/// Longest description, in bytes (contracts 3.1).
pub const DESCRIPTION_BYTES_MAX: usize = 32_768;

/// What an event says: the members of contracts 3.1 that a dialect reads from the body.
/// Borrows from the parsed body wherever the text stands there unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity_raw: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_raw: Option<Cow<'a, str>>,
    /// In order of appearance, names unique.
    #[serde(serialize_with = "tags_as_map", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Cow<'a, str>, Tag<'a>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Box<Assignment>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Cow<'a, str>>,
    /// Arguments of `admin` and `update` operations.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning<'a>>,
    /// Something in the body was read otherwise than it is written, so that its vendor may read it differently (contracts
    /// 3.4). What was only cut to the model's limits is no such thing.
    #[serde(skip)]
    pub tolerated: bool,
}

/// Most links, and most images, kept for one event (contracts 3.1).
pub const LINKS_MAX: usize = 16;
/// Longest `href` of a link, in bytes (contracts 3.1); a longer one is dropped.
pub const HREF_BYTES_MAX: usize = 2_048;
/// Longest `source`, `component`, `group`, `class` and `service`, in characters (contracts 3.1).
pub const FIELD_CHARS_MAX: usize = 256;
/// Longest note, in characters (contracts 3.1).
pub const NOTE_CHARS_MAX: usize = 25_000;
/// Most entries of each list of an assignment (contracts 3.1).
pub const ASSIGNED_MAX: usize = 50;

/// What a link leads to (contracts 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rel {
    Source,
    Runbook,
    Dashboard,
    Silence,
    Panel,
    Image,
    Client,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link<'a> {
    pub href: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rel: Option<Rel>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image<'a> {
    pub src: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub href: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alt: Option<Cow<'a, str>>,
}

/// Who is to be called; at most [`ASSIGNED_MAX`] of each (contracts 3.1).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Assignment {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_refs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_refs: Vec<String>,
    /// As the sender wrote them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responders: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Public,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Real,
    Test,
    Tutorial,
    Retrospective,
}

impl<'a> Content<'a> {
    /// Notes a tolerance: the body does not go as it came any more. Past [`WARNINGS_MAX`] only that is kept of it.
    pub fn warn(&mut self, code: &'static str, path: impl Into<Cow<'a, str>>) {
        self.tolerated = true;
        self.cut(code, path);
    }

    /// Notes that something is more than the model holds; the body may still go as it came. Past [`WARNINGS_MAX`] it is
    /// dropped.
    pub fn cut(&mut self, code: &'static str, path: impl Into<Cow<'a, str>>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(Warning { code, path: path.into() });
        }
    }
}

impl Content<'_> {
    /// The same content, borrowing nothing.
    pub fn into_owned(self) -> Content<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let links = self.links.into_iter();
        let images = self.images.into_iter();
        Content {
            title: own(self.title),
            description: own(self.description),
            severity: self.severity,
            severity_raw: own(self.severity_raw),
            status_raw: own(self.status_raw),
            tags: self.tags.into_iter().map(|(name, tag)| (Cow::Owned(name.into_owned()), tag.into_owned())).collect(),
            source: own(self.source),
            component: own(self.component),
            group: own(self.group),
            class: own(self.class),
            service: own(self.service),
            links: links
                .map(|link| Link { href: Cow::Owned(link.href.into_owned()), text: own(link.text), rel: link.rel })
                .collect(),
            images: images
                .map(|image| Image {
                    src: Cow::Owned(image.src.into_owned()),
                    href: own(image.href),
                    alt: own(image.alt),
                })
                .collect(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            assignment: self.assignment,
            visibility: self.visibility,
            mode: self.mode,
            note: own(self.note),
            params: self.params,
            warnings: self
                .warnings
                .into_iter()
                .map(|warning| Warning { code: warning.code, path: Cow::Owned(warning.path.into_owned()) })
                .collect(),
            tolerated: self.tolerated,
        }
    }
}

impl Tag<'_> {
    fn into_owned(self) -> Tag<'static> {
        Tag {
            value: Cow::Owned(self.value.into_owned()),
            kind: self.kind,
            color: self.color.map(|color| Cow::Owned(color.into_owned())),
            bare: self.bare,
        }
    }
}

fn tags_as_map<S: Serializer>(tags: &[(Cow<'_, str>, Tag<'_>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(name, tag)| (name, tag)))
}

/// Life of an incident (contracts 5.2); ABSENT is the absence of an [`Incident`]. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum State {
    Open = 1,
    Acked = 2,
    Resolved = 3,
}

impl State {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Open, Self::Acked, Self::Resolved].into_iter().find(|state| *state as u8 == code)
    }
}

/// One generation of an incident, as it stands after an event (contracts 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    pub iid: Uid,
    /// `n * 1024 + replica_id`; 1..2^53-1, increasing, never reused.
    pub number: u64,
    /// How often the key was opened anew, from 1. 0: a tombstone of an unknown resolve.
    pub generation: u32,
    pub state: State,
    /// The highest seen in this generation.
    pub severity: Option<Severity>,
    /// Triggers seen, the first included.
    pub count: u32,
    pub last_seen: Micros,
    /// When it was acknowledged (ACKED) or resolved (RESOLVED); else equal to `last_seen`.
    pub changed_at: Micros,
}

impl Incident {
    /// Whether it is the same incident in the same state, whenever it was seen.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.iid, self.state, self.severity) == (other.iid, other.state, other.severity)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A Squadcast trigger with that key; no key when it is empty.
    pub(crate) fn event(key: &str) -> Event {
        let now = Micros::now();
        Event {
            uid: Uid::new(now),
            received_at: now,
            integration: "a".into(),
            dialect: "squadcast".into(),
            endpoint: "v2/incidents/api".into(),
            family: "squadcast".into(),
            action: Action::Trigger,
            key: Key::parse(key, KeyKind::String),
            target: None,
            severity: None,
            tolerated: Tolerated::default(),
            raw: Bytes::from(format!(r#"{{"message":"m","description":"d","event_id":"{key}"}}"#)),
            envelope: None,
            view: None,
            trace: None,
        }
    }

    #[test]
    fn state_keys_do_not_collide_when_text_moves_between_parts() {
        assert_ne!(StateKey::of("a", "bc", "d"), StateKey::of("ab", "c", "d"));
        assert_ne!(StateKey::of("a", "b", "cd"), StateKey::of("a", "bc", "d"));
        assert_eq!(StateKey::of("a", "b", "c"), StateKey::of("a", "b", "c"));
    }

    #[test]
    fn key_takes_512_bytes_and_refuses_513_and_blank() {
        assert!(Key::parse(&"k".repeat(512), KeyKind::String).is_some());
        assert!(Key::parse(&"k".repeat(513), KeyKind::String).is_none());
        assert!(Key::parse_long(&"\u{1F600}".repeat(255), KeyKind::String).is_some());
        assert!(Key::parse_long(&"k".repeat(1_021), KeyKind::String).is_none());
        assert!(Key::parse(" \t ", KeyKind::String).is_none());
        assert_eq!(Key::parse(" a ", KeyKind::String).map(|key| key.canon().to_owned()), Some(" a ".to_owned()));
    }

    #[test]
    fn uid_survives_its_text_form_and_keeps_its_time() {
        let now = Micros(1_800_000_000_123_000);
        let uid = Uid::new(now);
        assert_eq!(Uid::parse(&uid.to_string()), Some(uid));
        assert_eq!(uid.made_at(), now);
    }

    #[test]
    fn time_prints_as_rfc_3339_with_six_digits() {
        assert_eq!(Micros(1_000_001).to_string(), "1970-01-01T00:00:01.000001Z");
    }
}
