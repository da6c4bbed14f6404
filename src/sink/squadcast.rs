//! Upstream kind `squadcast` (contracts/squadcast.md 8, README 3.4 and 5.6): the sender's own bytes where
//! they are already what the vendor reads, else a body encoded anew, at most 30,000 B.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::container::{Container, Home, tag_json};
use super::keys::{Fits, out_key};
use super::text::{quoted, to_bytes, to_characters};
use super::{Answer, Ask, Encoded, Kind, Mode, Parcel, Said, Sink, Statement, Unsaid, UpstreamConfig, Verdict};
use crate::event::{Action, Event, Micros, TITLE_CHARS_MAX, Tag, Tolerated};
use crate::vendor;

/// The dialect the vendor reads itself.
const DIALECT: &str = "squadcast";
const ENDPOINT: &str = "v2/incidents/api";
/// The vendor refuses more; its 30 KB are read as the smaller number (contracts 8, row 2).
const BODY_BYTES_MAX: usize = 30_000;
const DESCRIPTION_BYTES_MAX: usize = 15_000;
const KEY_BYTES_MAX: usize = 512;

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 7] = [400, 401, 403, 404, 413, 415, 422];

pub struct Squadcast;

impl Sink for Squadcast {
    fn kind(&self) -> Kind {
        Kind::Squadcast
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        matches!(statement.action, Action::Trigger | Action::Resolve)
    }

    fn raises(&self) -> bool {
        false
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let Ask { stored, said, upstream, .. } = *ask;
        let event = &stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let body = if goes_verbatim(event, said, upstream) {
            event.raw.clone()
        } else {
            let key = out_key(stored, &[DIALECT], upstream, Fits::Bytes(KEY_BYTES_MAX));
            match event.action {
                Action::Resolve => resolve(&key).into(),
                _ => trigger(ask, &key).into(),
            }
        };
        Ok(Encoded::new(event.uid, Parcel::json(body)))
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
        && !said.content.tolerated
        && said.content.description.as_deref().is_none_or(|text| text.len() <= DESCRIPTION_BYTES_MAX)
        && event.raw.len() <= BODY_BYTES_MAX
        && (event.key.is_none() || !upstream.shared)
        && serde_json::Deserializer::from_slice(&event.raw)
            .deserialize_map(AsTheVendorReads)
            .is_ok_and(|read| read.agrees_with(event))
}

/// The members by which our reading and the vendor's may differ, and the title; of repeated names the last counts.
#[derive(Default)]
struct Read<'a> {
    event_id: Member<'a>,
    status: Member<'a>,
    message: Option<&'a RawValue>,
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
        // What is longer is sent as short as the content has it.
        let fits =
            self.message.filter(|json| json.get().len() > TITLE_CHARS_MAX).is_none_or(|json| match member(json) {
                Member::Text(text) => text.chars().nth(TITLE_CHARS_MAX).is_none(),
                Member::Absent | Member::Other => true,
            });
        status && key && fits
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
        while let Some(name) = map.next_key::<&RawValue>()? {
            match name.get() {
                "\"event_id\"" => read.event_id = member(map.next_value()?),
                "\"status\"" => read.status = member(map.next_value()?),
                "\"message\"" => read.message = Some(map.next_value()?),
                // An escaped name might spell one of the two: not worth finding out.
                name if name.contains('\\') => return Ok(Read { status: Member::Other, ..read }),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(read)
    }
}

fn member(value: &RawValue) -> Member<'_> {
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
fn trigger(ask: &Ask<'_>, key: &str) -> String {
    let (event, said, emit_priority) = (&ask.stored.event, ask.said, ask.upstream.emit_priority);
    let content = &said.content;
    let fallback = || Cow::Owned(format!("{} alert", event.dialect));
    let title = content.title.clone().filter(|title| !title.trim().is_empty()).unwrap_or_else(fallback);
    let severity = event.severity.or(content.severity);

    let mut body = format!("{{\"message\":{},\"status\":\"trigger\"", quoted(&to_characters(&title, TITLE_CHARS_MAX)));
    body += &format!(",\"event_id\":{}", quoted(key));
    if let (true, Some(severity)) = (emit_priority, severity) {
        body += &format!(",\"priority\":\"P{}\"", 6 - severity.level());
    }
    let room = |body: &String, frame: &str| BODY_BYTES_MAX.saturating_sub(body.len() + frame.len());

    let empty_description = ",\"description\":\"\"}";
    let word = severity.filter(|_| !emit_priority).map(vendor::word_of);
    let members = members_of_tags(&content.tags, word);
    let (tags, all_tags) = listed(&members, room(&body, empty_description), "tags");
    body += &tags;

    let description = content.description.as_deref().filter(|text| !text.is_empty()).unwrap_or(&title);
    let kept = if all_tags {
        to_bytes(description, DESCRIPTION_BYTES_MAX, room(&body, empty_description))
    } else {
        Cow::Borrowed("")
    };
    body += &format!(",\"description\":{}", quoted(&kept));

    if all_tags {
        let Container(homeless) = Container::of(ask, &[Home::Description, Home::Severity, Home::Tags]);
        let modelled = homeless.iter().filter(|(name, _)| name != "extra").map(|(name, json)| (&**name, &**json));
        let extra = modelled.chain(said.extra.iter().map(|(name, value)| (&**name, value.get())));
        let members: Vec<_> = extra.map(|(name, json)| format!("{}:{json}", quoted(name))).collect();
        body += &listed(&members, room(&body, "}"), "extra").0;
    }
    body + "}"
}

/// `,"name":{...}` with as many members, from the first, as fit into `room_bytes`, and whether that is all.
fn listed(members: &[String], room_bytes: usize, name: &str) -> (String, bool) {
    let frame = format!(",\"{name}\":{{");
    let mut text = String::new();
    for member in members {
        if frame.len() + text.len() + member.len() + 2 > room_bytes {
            return (if text.is_empty() { text } else { frame + &text + "}" }, false);
        }
        if !text.is_empty() {
            text.push(',');
        }
        text += member;
    }
    (if text.is_empty() { text } else { frame + &text + "}" }, true)
}

/// Each tag as `"name":value`. Colours go along in the long form; a tag without one has the short form.
fn members_of_tags(tags: &[(Cow<'_, str>, Tag<'_>)], severity: Option<&str>) -> Vec<String> {
    let said = tags.iter().any(|(name, _)| name.eq_ignore_ascii_case("severity"));
    let severity = severity.filter(|_| !said).map(|word| format!("\"severity\":{}", quoted(word)));
    let plain = tags.iter().map(|(name, tag)| {
        let value = if tag.bare { "\"true\"".to_owned() } else { tag_json(tag) };
        match &tag.color {
            Some(color) => format!("{}:{{\"value\":{value},\"color\":{}}}", quoted(name), quoted(color)),
            None => format!("{}:{value}", quoted(name)),
        }
    });
    // The severity first: tags are cut from the end.
    severity.into_iter().chain(plain).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Content, State, TagType};
    use crate::sink::samples;

    const PLAIN: &str = r#"{"message":"m", "description":"d","event_id":"disk-db-7","status":"trigger","x":[1.50]}"#;

    fn encoded(event: Event, said: &Said<'_>, upstream: &UpstreamConfig) -> Bytes {
        let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
        Squadcast.encode(&samples::ask(&stored, said, upstream)).unwrap().call.body
    }

    fn value(event: Event, said: &Said<'_>, upstream: &UpstreamConfig) -> Value {
        serde_json::from_slice(&encoded(event, said, upstream)).unwrap()
    }

    fn upstream() -> UpstreamConfig {
        samples::upstream("pager", Kind::Squadcast)
    }

    fn trigger_of(raw: &str) -> Event {
        samples::event(Action::Trigger, Some("disk-db-7"), raw)
    }

    #[test]
    fn the_vendors_own_body_passes_byte_for_byte() {
        assert_eq!(encoded(trigger_of(PLAIN), &samples::said(), &upstream()), PLAIN);
        let number = r#"{"message":"m","description":"d","event_id":6}"#;
        assert_eq!(encoded(samples::event(Action::Trigger, Some("6"), number), &samples::said(), &upstream()), number);
        let keyless = r#"{"message":"m","description":"d"}"#;
        assert_eq!(encoded(samples::event(Action::Trigger, None, keyless), &samples::said(), &upstream()), keyless);
        let resolve = r#"{"status":"resolve","event_id":"disk-db-7","message":"over"}"#;
        let event = samples::event(Action::Resolve, Some("disk-db-7"), resolve);
        assert_eq!(encoded(event, &samples::said(), &upstream()), resolve);
    }

    #[test]
    fn whatever_the_vendor_would_read_otherwise_is_encoded_anew() {
        let said = samples::said();
        let anew = |event: Event, said: &Said<'_>, upstream: &UpstreamConfig| {
            let raw = event.raw.clone();
            let body = encoded(event, said, upstream);
            assert_ne!(body, raw);
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["event_id"], "disk-db-7");
        };
        for raw in [
            r#"{"message":"m","description":"d","dedup_key":"disk-db-7"}"#,
            r#"{"message":"m","description":"d","event_id":"disk-db-7","status":"triggered"}"#,
            r#"{"message":"m","description":"d","event_id":"disk-db-7","status":null}"#,
            r#"{"message":"m","description":"d","event_id":"other","event_id":"disk-db-7 "}"#,
            r#"{"message":"m","description":"d","event_id":"disk-db-7","\u0073tatus":"resolve"}"#,
            "\u{feff}{\"message\":\"m\",\"description\":\"d\",\"event_id\":\"disk-db-7\"}",
        ] {
            anew(trigger_of(raw), &said, &upstream());
        }
        anew(Event { endpoint: "v1/incidents/create".into(), ..trigger_of(PLAIN) }, &said, &upstream());
        anew(Event { tolerated: Tolerated::CONTENT_TYPE, ..trigger_of(PLAIN) }, &said, &upstream());
        anew(trigger_of(PLAIN), &said, &UpstreamConfig { mode: Mode::Normalized, ..upstream() });
        let mut warned = samples::said();
        warned.content.warn("tag_coerced", "tags.a");
        anew(trigger_of(PLAIN), &warned, &upstream());
        let large = format!("{}{}", PLAIN.trim_end_matches('}'), format_args!(",\"pad\":\"{}\"}}", "x".repeat(30_000)));
        anew(trigger_of(&large), &said, &upstream());
    }

    #[test]
    fn a_trigger_of_another_dialect_gets_the_vendors_form() {
        let extra = serde_json::value::RawValue::from_string(r#"{"b":1.50}"#.to_owned()).unwrap();
        let said = Said { extra: vec![("a".into(), Cow::Borrowed(&*extra))], ..samples::said() };
        let event = || Event { dialect: "generic".into(), family: "generic".into(), ..trigger_of("{}") };
        let golden = concat!(
            r#"{"message":"disk full on db-7","status":"trigger","event_id":"payments:generic:disk-db-7","priority":"P2","#,
            r##""tags":{"team":"storage","classification":{"value":"backend","color":"#FF0000"}},"##,
            r#""description":"volume /data at 99 %","extra":{"a":{"b":1.50}}}"#,
        );
        assert_eq!(encoded(event(), &said, &upstream()), golden);
        let quiet = UpstreamConfig { emit_priority: false, ..upstream() };
        let body = value(event(), &said, &quiet);
        assert_eq!((body.get("priority"), &body["tags"]["severity"]), (None, &json!("high")));
    }

    #[test]
    fn tags_keep_their_type_and_bare_ones_get_true() {
        let tag = |value: &'static str, kind, bare| Tag { value: value.into(), kind, color: None, bare };
        let tags = vec![
            ("n".into(), tag("1.50", TagType::Number, false)),
            ("b".into(), tag("true", TagType::Bool, false)),
            ("j".into(), tag("[1]", TagType::Json, false)),
            ("x".into(), tag("not a number", TagType::Number, false)),
            ("bare".into(), tag("", TagType::String, true)),
        ];
        let said = Said { content: Content { tags, ..samples::said().content }, extra: Vec::new() };
        let body = encoded(Event { dialect: "generic".into(), ..trigger_of("{}") }, &said, &upstream());
        let body = std::str::from_utf8(&body).unwrap();
        let tags = r#""tags":{"n":1.50,"b":true,"j":"[1]","x":"not a number","bare":"true"}"#;
        assert!(body.contains(tags), "{body}");
    }

    #[test]
    fn keys_follow_the_contract() {
        let said = samples::said();
        let key = |event: Event, upstream: &UpstreamConfig| value(event, &said, upstream)["event_id"].clone();
        let normalized = UpstreamConfig { mode: Mode::Normalized, ..upstream() };
        let shared = UpstreamConfig { shared: true, ..upstream() };
        let generic = |key: &str| Event {
            dialect: "generic".into(),
            family: "generic".into(),
            ..samples::event(Action::Resolve, Some(key), "{}")
        };
        assert_eq!(key(trigger_of(PLAIN), &normalized), "disk-db-7");
        assert_eq!(key(trigger_of(PLAIN), &shared), "payments:squadcast:disk-db-7");
        assert_eq!(key(generic("k"), &upstream()), "payments:generic:k");
        let hash = "ff7a856c5716cbd3fe022cba4198b502971d4c7098d095cf0ab021afcb2d7c1d";
        assert_eq!(key(generic("a\u{7}b"), &upstream()), hash, "control characters");
        let bytes = |length: usize| key(generic(&"k".repeat(length)), &upstream()).as_str().unwrap().len();
        assert_eq!((bytes(512 - 17), bytes(512 - 16)), (512, 64), "512 B fit, 513 do not");
        assert_eq!(key(samples::event(Action::Trigger, None, "{}"), &normalized), "01JD5BR0000000000000002001");
    }

    #[test]
    fn a_resolve_says_its_key_and_nothing_else() {
        let event = Event { dialect: "generic".into(), ..samples::event(Action::Resolve, Some("k\""), "{}") };
        let body = encoded(event, &samples::said(), &upstream());
        assert_eq!(body, r#"{"status":"resolve","event_id":"payments:squadcast:k\""}"#);
    }

    #[test]
    fn what_the_vendor_has_no_word_for_is_not_expressible() {
        for action in Action::ALL {
            let event = samples::event(action, Some("k"), "{}");
            let stored = samples::stored(1, event, None);
            let said = matches!(action, Action::Trigger | Action::Resolve);
            let (statement, upstream) = (Statement::of(&stored.event), upstream());
            let asked = samples::said();
            let encoded = Squadcast.encode(&samples::ask(&stored, &asked, &upstream));
            assert_eq!((encoded.is_ok(), Squadcast.expresses(statement)), (said, said), "{action:?}");
        }
    }

    proptest! {
        #[test]
        fn a_body_never_exceeds_the_vendors_limit_and_keeps_title_and_key(
            title in prop::collection::vec(any::<char>(), 1..2_000),
            description in prop::collection::vec(prop_oneof![any::<char>(), Just('\u{1}'), Just('"')], 0..20_000),
            key in prop::collection::vec(any::<char>(), 1..128),
            tags in prop::collection::vec((0usize..128, 0usize..1_024, prop_oneof![Just('x'), Just('\u{2}'), Just('é')]), 0..64),
            extra in prop::collection::vec((0usize..200, 0usize..4_000), 0..20),
        ) {
            let title: String = title.into_iter().chain(['t']).collect();
            let description: String = description.into_iter().collect();
            let key: String = key.into_iter().chain(['k']).collect();
            let tags: Vec<_> = tags.into_iter().enumerate().map(|(index, (name, length, filler))| {
                let value = std::iter::repeat_n(filler, length).collect::<String>();
                let tag = Tag { value: value.into(), kind: TagType::String, color: Some("#FF0000".into()), bare: false };
                (Cow::Owned(format!("{index}{}", "n".repeat(name))), tag)
            }).collect();
            let texts: Vec<_> = extra.iter().map(|(_, length)| {
                serde_json::value::RawValue::from_string(format!("\"{}\"", "v".repeat(*length))).unwrap()
            }).collect();
            let extra = extra.iter().zip(&texts).enumerate()
                .map(|(index, ((name, _), value))| (Cow::Owned(format!("{index}{}", "m".repeat(*name))), Cow::Borrowed(&**value))).collect();
            let content = Content { title: Some(title.clone().into()), description: Some(description.clone().into()), tags, ..Content::default() };
            let event = Event { dialect: "generic".into(), ..samples::event(Action::Trigger, Some(&key), "{}") };
            let whole: usize = content.tags.iter().map(|(name, tag)| name.len() + 6 * tag.value.len()).sum();
            let count = content.tags.len();
            let body = encoded(event, &Said { content, extra }, &upstream());
            prop_assert!(body.len() <= BODY_BYTES_MAX, "{} B", body.len());
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(body["message"].as_str().unwrap(), &*to_characters(&title, TITLE_CHARS_MAX));
            let long = format!("payments:squadcast:{key}");
            let hashed = long.len() > 512 || long.chars().any(char::is_control);
            prop_assert_eq!(body["event_id"].as_str().unwrap(), if hashed { crate::sink::keys::sha256_hex(&[&long]) } else { long });
            let kept = body.get("tags").map_or(0, |tags| tags.as_object().unwrap().len());
            if whole < 8_000 { prop_assert_eq!(kept, count, "tags go last"); }
            if kept < count {
                prop_assert!(body.get("extra").is_none(), "extra goes before tags");
                prop_assert_eq!(&body["description"], "", "the description goes before tags");
            }
            prop_assert!(body["description"].as_str().unwrap().len() <= DESCRIPTION_BYTES_MAX);
        }
    }
}
