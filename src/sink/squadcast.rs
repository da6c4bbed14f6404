//! Upstream kind `squadcast` (contracts/squadcast.md 8, README 3.4 and 5.6): the sender's own bytes where
//! they are already what the vendor reads, else a body encoded anew, at most 30,000 B.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::{Answer, Encoded, Kind, Mode, NotExpressible, Said, Sink, UpstreamConfig, Verdict, out_key};
use crate::event::{Action, Event, Micros, Severity, TITLE_CHARS_MAX, Tag, TagType, Tolerated};
use crate::store::Stored;

/// The dialect the vendor reads itself.
const DIALECT: &str = "squadcast";
const ENDPOINT: &str = "v2/incidents/api";
/// The vendor refuses more; its 30 KB are read as the smaller number (contracts 8, row 2).
const BODY_BYTES_MAX: usize = 30_000;
const DESCRIPTION_BYTES_MAX: usize = 15_000;
const KEY_BYTES_MAX: usize = 512;
const ELLIPSIS: char = '\u{2026}';

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 7] = [400, 401, 403, 404, 413, 415, 422];

pub struct Squadcast;

impl Sink for Squadcast {
    fn kind(&self) -> Kind {
        Kind::Squadcast
    }

    fn expresses(&self, action: Action) -> bool {
        matches!(action, Action::Trigger | Action::Resolve)
    }

    fn encode(&self, stored: &Stored, said: &Said<'_>, upstream: &UpstreamConfig) -> Result<Encoded, NotExpressible> {
        let event = &stored.event;
        if !self.expresses(event.action) {
            return Err(NotExpressible(event.action));
        }
        let body = if goes_verbatim(event, said, upstream) {
            event.raw.clone()
        } else {
            let key = out_key(stored, DIALECT, upstream, KEY_BYTES_MAX);
            match event.action {
                Action::Resolve => resolve(&key).into(),
                _ => trigger(event, said, &key, upstream.emit_priority).into(),
            }
        };
        Ok(Encoded { event_uid: event.uid, body })
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        super::answer::judge(answer, &PERMANENT, now)
    }
}

/// Whether the vendor would read the very bytes as we did: same dialect and endpoint, nothing tolerated,
/// small enough, and a key that needs no other name.
fn goes_verbatim(event: &Event, said: &Said<'_>, upstream: &UpstreamConfig) -> bool {
    upstream.mode == Mode::Verbatim
        && event.dialect == DIALECT
        && event.endpoint == ENDPOINT
        && event.tolerated == Tolerated::default()
        && said.content.warnings.is_empty()
        && event.raw.len() <= BODY_BYTES_MAX
        && (event.key.is_none() || !upstream.shared)
        && serde_json::Deserializer::from_slice(&event.raw)
            .deserialize_map(AsTheVendorReads)
            .is_ok_and(|read| read.agrees_with(event))
}

/// The members by which our reading and the vendor's may differ; of repeated names the last counts.
#[derive(Default)]
struct Read<'a> {
    event_id: Member<'a>,
    status: Member<'a>,
}

#[derive(Default)]
enum Member<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Other,
}

impl Read<'_> {
    fn agrees_with(&self, event: &Event) -> bool {
        let status = match (&self.status, event.action) {
            (Member::Absent, Action::Trigger) => true,
            (Member::Text(word), Action::Trigger) => word == "trigger",
            (Member::Text(word), Action::Resolve) => word == "resolve",
            _ => false,
        };
        // A key without `event_id` came from an alias that the vendor does not know.
        let key = match (&self.event_id, &event.key) {
            (Member::Absent, None) => true,
            (Member::Text(text), Some(key)) => text == key.canon(),
            _ => false,
        };
        status && key
    }
}

struct AsTheVendorReads;

impl<'de> Visitor<'de> for AsTheVendorReads {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = Read::default();
        while let Some(name) = map.next_key::<&serde_json::value::RawValue>()? {
            match name.get() {
                "\"event_id\"" => read.event_id = member(map.next_value()?),
                "\"status\"" => read.status = member(map.next_value()?),
                // An escaped name might spell one of the two: not worth finding out.
                name if name.contains('\\') => return Ok(Read { status: Member::Other, ..read }),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(read)
    }
}

fn member(value: &serde_json::value::RawValue) -> Member<'_> {
    let text = value.get();
    if text.starts_with('"') {
        serde_json::from_str(text).map_or(Member::Other, Member::Text)
    } else if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        Member::Text(Cow::Borrowed(text))
    } else {
        Member::Other
    }
}

fn resolve(key: &str) -> String {
    format!("{{\"status\":\"resolve\",\"event_id\":{}}}", quoted(key))
}

/// Encodes a trigger; under size pressure `extra` goes first, then the description, then tags from the end.
/// What is written last is cut first, so the room is dealt out in the opposite order.
fn trigger(event: &Event, said: &Said<'_>, key: &str, emit_priority: bool) -> String {
    let content = &said.content;
    let fallback = || Cow::Owned(format!("{} alert", event.dialect));
    let title = content.title.clone().filter(|title| !title.trim().is_empty()).unwrap_or_else(fallback);
    let severity = event.severity.or(content.severity);

    let mut body = format!("{{\"message\":{},\"status\":\"trigger\"", quoted(&shortened(&title)));
    body += &format!(",\"event_id\":{}", quoted(key));
    if let (true, Some(severity)) = (emit_priority, severity) {
        body += &format!(",\"priority\":\"P{}\"", 6 - severity.level());
    }
    let room = |body: &String, frame: &str| BODY_BYTES_MAX.saturating_sub(body.len() + frame.len());

    let empty_description = ",\"description\":\"\"}";
    let word = severity.filter(|_| !emit_priority).map(word);
    let tags = listed(&members_of_tags(&content.tags, word), room(&body, empty_description), "tags");
    body += &tags;

    let description = content.description.as_deref().filter(|text| !text.is_empty()).unwrap_or(&title);
    let escaped_max = room(&body, empty_description);
    body += &format!(",\"description\":{}", quoted(&cut(description, escaped_max)));

    let extra = said.extra.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.get()));
    let rest = listed(&extra.collect::<Vec<_>>(), room(&body, "}"), "extra");
    body + &rest + "}"
}

/// `,"name":{...}` with as many members, from the first, as fit into `room_bytes`; nothing when none does.
fn listed(members: &[String], room_bytes: usize, name: &str) -> String {
    let frame = format!(",\"{name}\":{{");
    let mut text = String::new();
    for member in members {
        if frame.len() + text.len() + member.len() + 2 > room_bytes {
            break;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text += member;
    }
    if text.is_empty() { text } else { frame + &text + "}" }
}

/// Each tag as `"name":value`. Colours go along in the long form; a tag without one has the short form.
fn members_of_tags(tags: &[(Cow<'_, str>, Tag<'_>)], severity: Option<&str>) -> Vec<String> {
    let said = tags.iter().any(|(name, _)| name.eq_ignore_ascii_case("severity"));
    let severity = severity.filter(|_| !said).map(|word| format!("\"severity\":{}", quoted(word)));
    let plain = tags.iter().map(|(name, tag)| {
        let value = if tag.bare { "\"true\"".to_owned() } else { tag_value(tag) };
        match &tag.color {
            Some(color) => format!("{}:{{\"value\":{value},\"color\":{}}}", quoted(name), quoted(color)),
            None => format!("{}:{value}", quoted(name)),
        }
    });
    // The severity first: tags are cut from the end.
    severity.into_iter().chain(plain).collect()
}

/// Numbers and booleans as the sender wrote them; a text that is neither after all is quoted.
fn tag_value(tag: &Tag<'_>) -> String {
    let is_json = match tag.kind {
        TagType::Number => serde_json::from_str::<serde_json::Number>(&tag.value).is_ok(),
        TagType::Bool => matches!(&*tag.value, "true" | "false"),
        TagType::String | TagType::Json => false,
    };
    if is_json { tag.value.to_string() } else { quoted(&tag.value) }
}

/// The level's word, one that reads back as the same level (contracts 4).
fn word(severity: Severity) -> &'static str {
    match severity.level() {
        5 => "critical",
        4 => "high",
        3 => "medium",
        2 => "low",
        _ => "info",
    }
}

/// A title of at most 1,024 characters, the ellipsis included.
fn shortened(title: &str) -> Cow<'_, str> {
    if title.chars().nth(TITLE_CHARS_MAX).is_none() {
        return Cow::Borrowed(title);
    }
    Cow::Owned(title.chars().take(TITLE_CHARS_MAX - 1).chain([ELLIPSIS]).collect())
}

/// At most 15,000 B as they are and `escaped_bytes_max` as JSON text, the ellipsis included.
fn cut(text: &str, escaped_bytes_max: usize) -> Cow<'_, str> {
    let mark = ELLIPSIS.len_utf8();
    let (mut plain, mut escaped, mut fits) = (0, 0, 0);
    for character in text.chars() {
        plain += character.len_utf8();
        escaped += escaped_bytes(character);
        if plain > DESCRIPTION_BYTES_MAX || escaped > escaped_bytes_max {
            let kept = &text[..fits];
            let room = fits + mark <= DESCRIPTION_BYTES_MAX && mark <= escaped_bytes_max;
            return if room { Cow::Owned(format!("{kept}{ELLIPSIS}")) } else { Cow::Borrowed("") };
        }
        if plain + mark <= DESCRIPTION_BYTES_MAX && escaped + mark <= escaped_bytes_max {
            fits = plain;
        }
    }
    Cow::Borrowed(text)
}

/// Bytes a character takes inside a JSON string as `serde_json` writes it.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
