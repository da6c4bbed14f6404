//! Squadcast APIv2, Incident Webhook and the legacy API (contracts/squadcast.md).

mod judge;

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use hyper::StatusCode;
use smallvec::SmallVec;

use super::json::{Document, Kind, Value, clean};
use super::text::{set_description, set_title, truncated};
use super::{Asked, Credentials, Decoded, Dialect, Extra, Faults, Judged, Replying, Route, Rules, plain_error};
use crate::event::{Action, Content, KEY_BYTES_MAX, Key, KeyKind, TAGS_MAX, Tag, TagType, is_blank};
use crate::outcome::Refusal;
use crate::vendor;

pub(super) struct Squadcast;

const V2: &str = "v2/incidents/api";
const V1: &str = "v1/incidents/create";

static ROUTES: [Route; 2] = [
    Route::post("/v2/incidents/api/{key}", V2, Credentials::Path),
    Route::post("/v1/incidents/create/{key}", V1, Credentials::Path),
];

/// Longest tag name and value, in characters (squadcast.md 4.1).
const TAG_NAME_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 1024;
/// No word that names a level is longer.
const TEXT_BYTES_USUAL: usize = 64;

impl Dialect for Squadcast {
    fn name(&self) -> &'static str {
        "squadcast"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    /// Most of its senders never come back: what can be accepted must be (contracts 2.6).
    fn judge(&self, endpoint: &str, body: &[u8], rules: Rules<'_>) -> Option<Judged> {
        judge::judge(endpoint, body, rules)
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let rules = asked.rules;
        if !document.root.is_object() {
            return Err(vec!["body: must be a JSON object".into()]);
        }
        let members = Members::of(document.root);
        let judge_only = rules.judge_only;
        let mut reading =
            Reading { document, judge_only, faults: Vec::new(), content: Content::default(), tags: Tags::new() };
        let action = if asked.endpoint == V1 { Some(Action::Trigger) } else { reading.action(members.status) };
        let key = reading.key(&members, action);
        reading.texts(&members, action, rules);
        reading.tags(members.tags, !members.unknown.is_empty());
        let extra = reading.lifted(&members);
        reading.severity(members.priority);
        match action {
            Some(action) if reading.faults.is_empty() => {
                // Nobody asks a judgement for them.
                if !judge_only {
                    reading.content.tags = reading.tags.into_vec();
                }
                let severity = reading.content.severity;
                let extra = extra.into_iter().map(|name| Extra::Member(Cow::Borrowed(name))).collect();
                each(Decoded {
                    judged: Judged { key, severity, ..Judged::of(action) },
                    content: reading.content,
                    extra,
                });
                Ok(())
            }
            _ => Err(reading.faults),
        }
    }

    /// The form of contracts 2.7 has `errors` always.
    fn error(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        if refusal.errors.is_empty() {
            return plain_error(&refusal.clone().with_errors(vec![refusal.message.clone()]), request_id);
        }
        plain_error(refusal, request_id)
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        let Replying { endings, success, request_id, .. } = *replying;
        let ending = endings.first();
        // A tombstone of an unknown resolve has an id of its own, but names no incident (squadcast.md 6).
        let incident = ending.and_then(|ending| ending.incident).filter(|incident| incident.generation > 0);
        let key = ending.and_then(|ending| ending.key).map(quoted);
        let outcome = ending.and_then(|ending| ending.outcome);
        // Of exactly its length: a body with room to spare would be allocated twice.
        let length = STATUS.len()
            + outcome.map_or(0, |outcome| OUTCOME.len() + outcome.name().len() + QUOTE.len())
            + incident.map_or(0, |_| INCIDENT_ID.len() + IID_BYTES + QUOTE.len())
            + key.as_ref().map_or(0, |key| EVENT_ID.len() + key.text.len() + 2 * key.quote.len())
            + REQUEST_ID.len()
            + request_id.len()
            + END.len();
        let mut body = Vec::with_capacity(length);
        body.extend_from_slice(STATUS);
        if let Some(outcome) = outcome {
            body.extend_from_slice(OUTCOME);
            body.extend_from_slice(outcome.name().as_bytes());
            body.extend_from_slice(QUOTE);
        }
        if let Some(incident) = incident {
            body.extend_from_slice(INCIDENT_ID);
            let mut iid = [0; IID_BYTES];
            incident.iid.write(&mut iid);
            body.extend_from_slice(&iid);
            body.extend_from_slice(QUOTE);
        }
        if let Some(Quoted { text, quote }) = key {
            body.extend_from_slice(EVENT_ID);
            body.extend_from_slice(quote);
            body.extend_from_slice(text.as_bytes());
            body.extend_from_slice(quote);
        }
        body.extend_from_slice(REQUEST_ID);
        body.extend_from_slice(request_id.as_bytes());
        body.extend_from_slice(END);
        debug_assert_eq!(body.len(), length);
        (success, body.into())
    }
}

const STATUS: &[u8] = b"{\"status\":\"accepted\"";
const OUTCOME: &[u8] = b",\"outcome\":\"";
const INCIDENT_ID: &[u8] = b",\"incident_id\":\"";
const EVENT_ID: &[u8] = b",\"event_id\":";
const REQUEST_ID: &[u8] = b",\"request_id\":\"";
const QUOTE: &[u8] = b"\"";
const END: &[u8] = b"\"}";
const IID_BYTES: usize = 26;

/// A key as an answer shows it.
struct Quoted<'k> {
    text: Cow<'k, str>,
    quote: &'static [u8],
}

/// Echoes the JSON type received: a number as it was written, a string quoted.
fn quoted(key: &Key) -> Quoted<'_> {
    let canon = key.canon();
    match key.kind {
        KeyKind::Integer => Quoted { text: Cow::Borrowed(canon), quote: b"" },
        _ if needs_escapes(canon) => {
            Quoted { text: Cow::Owned(serde_json::Value::from(canon).to_string()), quote: b"" }
        }
        _ => Quoted { text: Cow::Borrowed(canon), quote: QUOTE },
    }
}

/// Whether a JSON string cannot show the text as it is.
fn needs_escapes(text: &str) -> bool {
    // Without a branch, many bytes are looked at at once.
    let odd = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    text.bytes().fold(0, |any, byte| any | odd(byte)) != 0
}

/// The top-level members; of a repeated name the last (contracts 2.4).
#[derive(Default)]
struct Members<'d> {
    message: Option<Value<'d>>,
    description: Option<Value<'d>>,
    status: Option<Value<'d>>,
    event_id: Option<Value<'d>>,
    dedup_key: Option<Value<'d>>,
    tags: Option<Value<'d>>,
    priority: Option<Value<'d>>,
    unknown: Vec<(&'d str, Value<'d>)>,
}

impl<'d> Members<'d> {
    fn of(root: Value<'d>) -> Self {
        let mut members = Self::default();
        for (name, value) in root.members() {
            let slot = match name {
                "message" => &mut members.message,
                "description" => &mut members.description,
                "status" => &mut members.status,
                "event_id" => &mut members.event_id,
                "dedup_key" => &mut members.dedup_key,
                "tags" => &mut members.tags,
                "priority" => &mut members.priority,
                _ => {
                    members.unknown.push((name, value));
                    continue;
                }
            };
            // `null` is absent for every member (contracts 2.4).
            *slot = (!value.is_null()).then_some(value);
        }
        keep_last(&mut members.unknown);
        members
    }
}

/// Drops all but the last value of a repeated name. Linear: a body may hold thousands of colliding names.
fn keep_last<'d>(members: &mut Vec<(&'d str, Value<'d>)>) {
    if members.len() < 2 {
        return;
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.reverse();
    members.retain(|(name, _)| seen.insert(*name));
    members.reverse();
}

struct Reading<'d> {
    document: Document<'d>,
    judge_only: bool,
    faults: Faults,
    content: Content<'d>,
    /// To be the content's; the two that judging needs take no memory.
    tags: Tags<'d>,
}

type Tags<'d> = SmallVec<[(Cow<'d, str>, Tag<'d>); 2]>;

impl<'d> Reading<'d> {
    fn fault(&mut self, member: &str, reason: &str) {
        self.faults.push(format!("{member}: {reason}"));
    }

    /// Section 3.
    fn action(&mut self, status: Option<Value<'d>>) -> Option<Action> {
        let Some(status) = status else { return Some(Action::Trigger) };
        let Kind::String(word) = status.kind() else {
            self.fault("status", "must be a string, \"trigger\" or \"resolve\"");
            return None;
        };
        let said = word.trim();
        let is_one_of = |words: [&str; 2]| words.iter().any(|known| known.eq_ignore_ascii_case(said));
        if !said.is_empty() {
            self.content.status_raw = Some(clean(word));
        }
        if said.is_empty() || is_one_of(["trigger", "triggered"]) {
            Some(Action::Trigger)
        } else if is_one_of(["resolve", "resolved"]) {
            Some(Action::Resolve)
        } else {
            self.fault("status", "must be \"trigger\" or \"resolve\"");
            None
        }
    }

    /// Contracts 5.1; `dedup_key` is read where `event_id` is absent (section 2).
    fn key(&mut self, members: &Members<'d>, action: Option<Action>) -> Option<Key> {
        let faults = self.faults.len();
        let key = self
            .key_of("event_id", members.event_id)
            .or_else(|| self.key_of("dedup_key", members.dedup_key.filter(|_| self.faults.len() == faults)));
        if key.is_none() && action == Some(Action::Resolve) && self.faults.len() == faults {
            self.fault("event_id", "is required to resolve and must not be blank");
        }
        key
    }

    fn key_of(&mut self, member: &'static str, value: Option<Value<'d>>) -> Option<Key> {
        let value = value?;
        let (canon, kind) = match value.kind() {
            Kind::String(text) => (clean(text), KeyKind::String),
            Kind::Integer(_) | Kind::Number => (self.document.number_text(value, &[member])?, KeyKind::Integer),
            _ => {
                self.fault(member, "must be a string or an integer");
                return None;
            }
        };
        if canon.len() > KEY_BYTES_MAX {
            self.fault(member, "is longer than 512 bytes");
        }
        Key::parse(&canon, kind)
    }

    /// `message` and `description`: demanded of a trigger, kept on a resolve. No coercion.
    fn texts(&mut self, members: &Members<'d>, action: Option<Action>, rules: Rules<'_>) {
        let triggers = action == Some(Action::Trigger);
        match members.message.map(Value::kind) {
            Some(Kind::String(text)) if !is_blank(text) => self.title(text),
            Some(Kind::String(_)) if triggers => self.fault("message", "must not be blank"),
            Some(_) if triggers => self.fault("message", "must be a string"),
            None if triggers => self.fault("message", "is required on trigger"),
            Some(Kind::String(_)) | None => {}
            Some(_) => self.content.warn("member_ignored", "message"),
        }
        match members.description.map(Value::kind) {
            Some(Kind::String(text)) => self.description(text),
            Some(_) if triggers => self.fault("description", "must be a string"),
            None if triggers && rules.require_description => {
                self.fault("description", "is required on trigger; it may be empty");
            }
            None => {}
            Some(_) => self.content.warn("member_ignored", "description"),
        }
    }

    fn title(&mut self, text: &'d str) {
        if self.judge_only {
            return;
        }
        set_title(&mut self.content, clean(text), "message");
    }

    fn description(&mut self, text: &'d str) {
        if self.judge_only {
            return;
        }
        set_description(&mut self.content, clean(text), "description");
    }

    /// Section 4.1: never reject an alert for a decorative tag, but `tags` itself must be an object.
    fn tags(&mut self, tags: Option<Value<'d>>, may_lift: bool) {
        let Some(tags) = tags else { return };
        if !tags.is_object() {
            self.fault("tags", "must be an object");
            return;
        }
        // Judging needs two tags, unless others could crowd them out or be lifted beside them.
        let only_severity = self.judge_only && !may_lift && tags.len() <= TAGS_MAX;
        if !only_severity {
            self.tags.reserve(tags.len().min(TAGS_MAX));
        }
        for (name, value) in tags.members() {
            if only_severity && !["severity", "priority"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            let path = || format!("tags.{name}");
            let is_long = name.len() > TAG_NAME_CHARS_MAX && name.chars().nth(TAG_NAME_CHARS_MAX).is_some();
            if name.is_empty() {
                self.content.warn("tag_dropped", path());
                continue;
            }
            if is_long {
                self.content.cut("tag_dropped", path());
                continue;
            }
            let known = self.tags.iter().position(|(known, _)| *known == name);
            if value.is_null() {
                self.content.warn("tag_dropped", path());
                if let Some(at) = known {
                    self.tags.remove(at);
                }
                continue;
            }
            if known.is_none() && self.tags.len() == TAGS_MAX {
                self.content.cut("tag_dropped", path());
                continue;
            }
            let tag = self.tag(value, &["tags", name]);
            match known {
                Some(at) => self.tags[at].1 = tag,
                None => self.tags.push((clean(name), tag)),
            }
        }
    }

    /// Section 4.3: unknown members shaped like a tag become one. The names of all others come back.
    fn lifted(&mut self, members: &Members<'d>) -> Vec<&'d str> {
        let mut extra = Vec::new();
        for (name, value) in &members.unknown {
            let is_tag = value.is_object()
                && value.member("value").is_some()
                && (value.member("color").is_some() || value.member("colour").is_some());
            let taken = self.tags.iter().any(|(known, _)| known == name);
            if is_tag && !taken && self.tags.len() < TAGS_MAX {
                let tag = self.tag(*value, &[name]);
                self.tags.push((clean(name), tag));
            } else {
                extra.push(*name);
            }
        }
        if members.event_id.is_some() && members.dedup_key.is_some() {
            extra.push("dedup_key");
        }
        extra
    }

    fn tag(&mut self, value: Value<'d>, path: &[&str]) -> Tag<'d> {
        let mut color = None;
        let mut scalar = self.scalar(value, path);
        if scalar.is_none()
            && let Some(inner) = value.member("value")
        {
            let mut inner_path = path.to_vec();
            inner_path.push("value");
            scalar = self.scalar(inner, &inner_path);
            if scalar.is_some() {
                color = self.color(value, path);
            }
        }
        let (text, kind) = scalar.unwrap_or_else(|| {
            self.content.warn("tag_coerced", path.join("."));
            (self.document.source(path).unwrap_or_default(), TagType::Json)
        });
        let (text, cut) = truncated(text, TAG_VALUE_CHARS_MAX);
        if cut {
            self.content.cut("truncated", path.join("."));
        }
        Tag { value: text, kind, color, bare: false }
    }

    fn scalar(&self, value: Value<'d>, path: &[&str]) -> Option<(Cow<'d, str>, TagType)> {
        match value.kind() {
            Kind::String(text) => Some((clean(text), TagType::String)),
            Kind::Bool(value) => Some((if value { "true" } else { "false" }.into(), TagType::Bool)),
            Kind::Integer(_) | Kind::Number => Some((self.document.number_text(value, path)?, TagType::Number)),
            Kind::Null | Kind::Array | Kind::Object => None,
        }
    }

    /// Section 4.2: `color` wins over `colour`; an invalid one counts as absent, with a warning.
    fn color(&mut self, tag: Value<'d>, path: &[&str]) -> Option<Cow<'d, str>> {
        let said =
            tag.member("color").filter(|v| !v.is_null()).or_else(|| tag.member("colour").filter(|v| !v.is_null()))?;
        match said.kind() {
            Kind::String(text) if vendor::is_hex_color(text) => Some(Cow::Borrowed(text)),
            _ => {
                self.content.warn("tag_color_invalid", path.join("."));
                None
            }
        }
    }

    /// Section 4.4: `priority`, then tag `priority`, then tag `severity`; the first that yields a level.
    fn severity(&mut self, priority: Option<Value<'d>>) {
        let said = priority.map(|value| match value.kind() {
            Kind::String(text) => (vendor::severity_of_priority(text), clean(text)),
            _ => (None, Cow::Borrowed("")),
        });
        if let Some((None, _)) = &said {
            self.content.warn("priority_ignored", "priority");
        }
        let tag = |wanted: &str, level: fn(&str) -> Option<_>| {
            let (_, tag) = self.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some((level(&tag.value), tag.value.clone()))
        };
        let candidates =
            [said, tag("priority", vendor::severity_of_priority), tag("severity", vendor::severity_of_word)];
        let mut word = None;
        for (level, text) in candidates.into_iter().flatten() {
            if level.is_some() {
                self.content.severity = level;
                word = Some(text);
                break;
            }
            word = word.or(Some(text));
        }
        self.content.severity_raw = word.filter(|text| !text.is_empty() && text.len() <= 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::json::with_document;

    /// Runs `look` on the one statement of `body`, or gives its faults.
    fn decode<R>(body: &str, look: impl FnOnce(Decoded<'_>) -> R) -> Result<R, Faults> {
        decode_at(V2, body, false, look)
    }

    fn decode_at<R>(
        endpoint: &str,
        body: &str,
        judge_only: bool,
        look: impl FnOnce(Decoded<'_>) -> R,
    ) -> Result<R, Faults> {
        let (mut look, mut seen) = (Some(look), None);
        let asked = Asked::at(endpoint, Rules { require_description: true, judge_only, settings: None });
        with_document(body.as_bytes(), |document| {
            Squadcast.decode(&asked, document, &mut |decoded| seen = look.take().map(|look| look(decoded)))
        })
        .unwrap()?;
        Ok(seen.unwrap())
    }

    fn key_of(body: &str) -> Result<Option<String>, Faults> {
        decode(body, |decoded| decoded.judged.key.map(|key| key.canon().to_owned()))
    }

    const TEXTS: &str = r#""message":"m","description":"d""#;

    fn with(rest: &str) -> String {
        format!("{{{TEXTS},{rest}}}")
    }

    /// Values a tag or member may have, with those that matter for the severity among them.
    fn some_value() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("5".to_owned()),
            Just("1.50".to_owned()),
            Just("true".to_owned()),
            prop::sample::select(vec!["high", "P1", "p3", "LOW ", "x", ""]).prop_map(|word| format!("\"{word}\"")),
        ];
        let tag = (scalar.clone(), prop::sample::select(vec!["color", "colour", "other"]))
            .prop_map(|(value, name)| format!("{{\"value\":{value},\"{name}\":\"#ff0000\"}}"));
        prop_oneof![4 => scalar, 2 => tag, 1 => Just("[1]".to_owned()), 1 => Just("{}".to_owned())]
    }

    fn some_body() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["severity", "Severity", "priority", "PRIORITY", "a", "b", ""]);
        let tags = prop::collection::vec((name, some_value()), 0..5).prop_map(|tags| {
            let tags: Vec<_> = tags.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", tags.join(","))
        });
        let crowd = (60usize..70, some_value()).prop_map(|(count, value)| {
            let tags: Vec<_> = (0..count).map(|n| format!("\"t{n}\":1")).collect();
            format!("{{{},\"severity\":{value}}}", tags.join(","))
        });
        let member = prop::sample::select(vec![
            "message",
            "description",
            "status",
            "event_id",
            "dedup_key",
            "priority",
            "severity",
            "extra",
        ]);
        let members = prop::collection::vec((member, some_value()), 0..6);
        (members, prop::option::of(prop_oneof![5 => tags, 1 => crowd, 1 => some_value()])).prop_map(
            |(members, tags)| {
                let mut parts = vec![TEXTS.to_owned()];
                parts.extend(members.iter().map(|(name, value)| format!("\"{name}\":{value}")));
                parts.extend(tags.map(|tags| format!("\"tags\":{tags}")));
                format!("{{{}}}", parts.join(","))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::test_cases(4_000)))]

        /// The short reading at intake and the full one at forwarding must never disagree on what was decided.
        #[test]
        fn judging_decides_what_the_full_reading_decides(body in some_body()) {
            let read = |judge_only| decode_at(V2, &body, judge_only, |said| (said.judged, said.content.severity));
            prop_assert_eq!(read(true), read(false), "{}", body);
        }

        /// A glance says what the full reading says, or nothing; of what is no body at all it says nothing.
        #[test]
        fn a_glance_never_disagrees_with_the_full_reading(
            body in prop_oneof![some_body(), usual_body()],
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0x20_u8..0x7f), 0..3),
            require_description: bool,
        ) {
            let mut bytes = body.into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let rules = Rules { require_description, judge_only: true, settings: None };
            let Some(judged) = Squadcast.judge(V2, &bytes, rules) else { return Ok(()) };
            let mut said = None;
            let read = with_document(&bytes, |document| {
                Squadcast.decode(&Asked::at(V2, rules), document, &mut |decoded| {
                    assert_eq!(decoded.judged.severity, decoded.content.severity);
                    said = Some(decoded.judged);
                })
            });
            let text = bytes.escape_ascii();
            prop_assert!(matches!(read, Ok(Ok(()))), "{}: {:?}", text, read);
            prop_assert_eq!(Some(judged), said, "{}", text);
        }
    }

    /// As senders write them, with every place where a change could matter.
    fn usual_body() -> impl Strategy<Value = String> {
        let word =
            prop::sample::select(vec!["", " ", "high", "P1", "Critical", "x y", "ü", "lt-1", "trigger", "resolve"]);
        let value = prop_oneof![
            4 => word.clone().prop_map(|word| format!("\"{word}\"")),
            1 => prop::sample::select(vec!["1", "-2", "0", "-0", "01", "1.5", "null", "true", "{}", "[]", "[1, \"a\"]"])
                .prop_map(str::to_owned),
        ];
        let tag = (prop::sample::select(vec!["severity", "Priority", "priority", "team", ""]), value.clone())
            .prop_map(|(name, value)| format!("\"{name}\":{value}"));
        let tags = prop::collection::vec(tag, 0..4).prop_map(|tags| format!("{{{}}}", tags.join(",")));
        let names = ["message", "description", "event_id", "status", "tags", "message", "dedup_key", "priority"];
        let member = |(name, word, tags): (&str, String, String)| match name {
            "tags" => format!("\"tags\": {tags}"),
            name => format!("\"{name}\": {word}"),
        };
        let member = (prop::sample::select(names.to_vec()), value, tags).prop_map(member);
        let texts = "\"message\":\"disk full\",\"description\":\"d\"";
        prop::collection::vec(member, 0..4).prop_map(move |members| match members.as_slice() {
            [] => format!("{{{texts}}}"),
            members => format!("{{{texts}, {}}}", members.join(" , ")),
        })
    }

    #[test]
    fn the_usual_event_is_judged_by_a_glance() {
        let long = "volume /data at 99 % ".repeat(20);
        let body = format!(
            r##"{{"message":"disk full","event_id":"lt-1","status":"trigger","tags":{{"severity":"high","team":{{"value":"a","color":"#f00"}},"n":[1,true]}},"description":"{long}"}}"##
        );
        let rules = Rules { require_description: true, judge_only: true, settings: None };
        let judged = Squadcast.judge(V2, body.as_bytes(), rules).unwrap();
        assert_eq!((judged.action, judged.key.unwrap().canon()), (Action::Trigger, "lt-1"));
        assert_eq!(judged.severity.map(|severity| severity.level()), Some(4));
        let resolve = Squadcast.judge(V2, br#"{"status": "resolve", "event_id": "x"}"#, rules).unwrap();
        assert_eq!(resolve.action, Action::Resolve);
        for left in
            [with(r#""x":1"#), with(r#""message":"again""#), with("\"status\":\"a\\nb\""), "{}".into(), "[]".into()]
        {
            assert_eq!(Squadcast.judge(V2, left.as_bytes(), rules), None, "{left}");
        }
    }

    #[test]
    fn keys_follow_the_checklist_of_section_9() {
        assert_eq!(key_of(&with(r#""event_id":6"#)).unwrap().as_deref(), Some("6"));
        assert_eq!(key_of(&with(r#""event_id":"6""#)).unwrap().as_deref(), Some("6"));
        assert_eq!(key_of(&with(r#""event_id":6.0"#)).unwrap().as_deref(), Some("6.0"));
        assert_eq!(key_of(&with(r#""event_id":1E2"#)).unwrap().as_deref(), Some("1E2"));
        assert_eq!(key_of(&with(r#""event_id":"""#)).unwrap(), None);
        assert_eq!(key_of(&with(r#""event_id":null,"dedup_key":"k""#)).unwrap().as_deref(), Some("k"));
        assert_eq!(key_of(&with(r#""event_id":"","dedup_key":"k""#)).unwrap().as_deref(), Some("k"));
        assert_eq!(key_of(&with(r#""event_id":"a","dedup_key":"k""#)).unwrap().as_deref(), Some("a"));
        assert!(key_of(&with(r#""event_id":true"#)).is_err());
        assert!(key_of(r#"{"status":"resolve"}"#).is_err());
        assert!(key_of(r#"{"status":"resolve","event_id":""}"#).is_err());
        assert!(key_of(r#"{"status":"resolve","event_id":"x","tags":[1]}"#).is_err());
        assert!(key_of(&with(&format!(r#""event_id":"{}""#, "k".repeat(513)))).is_err());
        assert!(key_of(&with(&format!(r#""event_id":"{}""#, "k".repeat(512)))).is_ok());
    }

    #[test]
    fn all_faults_are_reported_at_once_each_with_its_member() {
        let faults = key_of(r#"{"message":5,"tags":[],"event_id":[]}"#).unwrap_err();
        let members: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(members, ["event_id", "message", "description", "tags"]);
    }

    #[test]
    fn a_resolve_is_not_lost_for_a_member_it_does_not_need() {
        let warned = decode(r#"{"status":"Resolved ","event_id":"x","message":5}"#, |decoded| {
            (decoded.judged.action, decoded.content.warnings.len())
        });
        assert_eq!(warned, Ok((Action::Resolve, 1)));
    }

    #[test]
    fn the_legacy_path_triggers_whatever_status_says() {
        let body = with(r#""status":"resolve""#);
        assert_eq!(decode_at(V1, &body, false, |decoded| decoded.judged.action), Ok(Action::Trigger));
    }

    #[test]
    fn a_tag_shaped_member_is_lifted_unless_tags_has_its_name() {
        let lifted = with(r##""severity":{"colour":"#FF0000","value":"high"}"##);
        let (tags, level, extra) =
            decode(&lifted, |d| (d.content.tags.len(), d.content.severity.map(|s| s.level()), d.extra.len())).unwrap();
        assert_eq!((tags, level, extra), (1, Some(4), 0));
        let both = with(r##""tags":{"severity":"low"},"severity":{"colour":"#FF0000","value":"high"}"##);
        let (level, extra) = decode(&both, |d| {
            (d.content.severity.map(|s| s.level()), d.extra.iter().map(Extra::name).collect::<Vec<_>>().join(","))
        })
        .unwrap();
        assert_eq!((level, extra.as_str()), (Some(2), "severity"));
    }

    #[test]
    fn sixty_four_tags_are_kept_the_last_value_of_a_repeated_name() {
        let many: Vec<_> = (0..70).map(|n| format!("\"t{n}\":{n}")).collect();
        let body = with(&format!("\"tags\":{{{},\"t0\":\"again\"}}", many.join(",")));
        let (count, first) =
            decode(&body, |d| (d.content.tags.len(), d.content.tags[0].1.value.clone().into_owned())).unwrap();
        assert_eq!((count, first.as_str()), (64, "again"));
    }

    #[test]
    fn a_long_message_is_cut_at_1024_characters_with_an_ellipsis() {
        let title = |chars: usize| {
            let body = format!(r#"{{"message":"{}","description":""}}"#, "ü".repeat(chars));
            decode(&body, |d| d.content.title.unwrap().into_owned()).unwrap()
        };
        assert_eq!(title(1024), "ü".repeat(1024));
        assert_eq!(title(1025), format!("{}\u{2026}", "ü".repeat(1023)));
    }

    #[test]
    fn the_answer_echoes_the_type_of_the_key_and_escapes_it() {
        let answer = |canon: &str, kind| {
            let key = Key::parse(canon, kind);
            let outcome = Some(crate::outcome::Outcome::Created);
            let ending = crate::dialect::Ending { outcome, incident: None, key: key.as_ref(), view: None, named: None };
            let (_, body) = Squadcast.reply(&Replying {
                status: StatusCode::ACCEPTED,
                endpoint: V2,
                endings: &[ending],
                success: StatusCode::ACCEPTED,
                request_id: "r",
                integration: "a",
                settings: &crate::gate::Settings::default(),
            });
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["event_id"].clone()
        };
        assert_eq!(answer("6", KeyKind::Integer), 6);
        assert_eq!(answer("6", KeyKind::String), "6");
        assert_eq!(answer("a\"\\\u{1}ü", KeyKind::String), "a\"\\\u{1}ü");
    }
}
