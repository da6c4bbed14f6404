//! What the dialects of `/hooks/*` share: senders that let people choose any URL, and put one event into a body
//! (contracts/others.md). Their members are texts, mostly; what has no home goes along in `extra`.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::value::RawValue;

use super::json::{Document, Kind, Value, clean, members_as_text};
use super::text::{cut_bytes, truncated, within};
use super::{Asked, Credentials, Decoded, Extra, Faults, Judged, Replying, Scheme, usual_status};
use crate::event::{
    Action, Content, DESCRIPTION_BYTES_MAX, FIELD_CHARS_MAX, HREF_BYTES_MAX, KEY_BYTES_MAX, Key, KeyKind, LINKS_MAX,
    Link, Micros, Rel, Severity, TAGS_MAX, TITLE_CHARS_MAX, Tag, TagType, is_blank,
};
use crate::outcome::{Class, Outcome};
use crate::vendor::time;

/// Longest name of a tag, in characters (contracts 3.1).
const TAG_NAME_CHARS_MAX: usize = 128;
/// Longest word of a severity or a status that is kept as it was said, in characters (contracts 3.1).
const RAW_CHARS_MAX: usize = 64;

const SCHEMES: &[Scheme] = &[Scheme::Bearer, Scheme::Basic];
/// The key in the path, and perhaps again beside it;
pub(super) const BY_PATH: Credentials = Credentials::PathOrHeader(SCHEMES);
/// or beside it alone.
pub(super) const BY_HEADER: Credentials = Credentials::Header(SCHEMES);

/// The routes of a tool: ours, the key in the path or beside it, and a vendor's own for each tool (contracts 1), where some have
/// a second name.
macro_rules! routes {
    ($tool:literal $(, $other:literal)*) => {
        [
            Route::post(concat!("/hooks/", $tool, "/{key}"), concat!("hooks/", $tool), hooks::BY_PATH),
            Route::post(concat!("/hooks/", $tool), concat!("hooks/", $tool), hooks::BY_HEADER),
            Route::post(concat!("/v2/incidents/", $tool, "/{key}"), concat!("hooks/", $tool), Credentials::Path),
            Route::post(concat!("/v1/incidents/", $tool, "/{key}"), concat!("hooks/", $tool), Credentials::Path),
            $(
                Route::post(concat!("/v2/incidents/", $other, "/{key}"), concat!("hooks/", $tool), Credentials::Path),
                Route::post(concat!("/v1/incidents/", $other, "/{key}"), concat!("hooks/", $tool), Credentials::Path),
            )*
        ]
    };
}
pub(super) use routes;

/// `{"status": "accepted", "outcome", "incident_id"}`, as all of them are answered.
pub(super) fn reply(replying: &Replying<'_>) -> (StatusCode, Bytes) {
    let mut body = serde_json::json!({ "status": "accepted" });
    if let [one] = replying.endings {
        body["outcome"] = one.outcome.map(Outcome::name).into();
        if let Some(incident) = one.incident {
            body["incident_id"] = incident.iid.to_string().into();
        }
    } else {
        body["received"] = replying.endings.len().into();
    }
    body["request_id"] = replying.request_id.into();
    (replying.status, body.to_string().into())
}

/// Statuses for senders that come back after 5xx alone (contracts 2.6).
pub(super) fn status_for_5xx(class: Class) -> StatusCode {
    match class {
        Class::Overload => StatusCode::SERVICE_UNAVAILABLE,
        class => usual_status(class),
    }
}

/// What a word says of an incident, in any case (contracts/others.md 4).
pub(super) fn action_of_word(word: &str) -> Option<Action> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "firing" | "alerting" | "triggered" | "trigger" | "open" | "problem" => Action::Trigger,
        "resolved" | "resolve" | "ok" | "closed" | "recovered" | "inactive" => Action::Resolve,
        "acknowledged" | "acknowledge" => Action::Acknowledge,
        _ => return None,
    })
}

/// The value that these members lead to; `null` is absent (contracts 2.4).
pub(super) fn value_at<'d>(document: Document<'d>, path: &[&str]) -> Option<Value<'d>> {
    let value = path.iter().try_fold(document.root, |value, name| value.member(name))?;
    (!value.is_null()).then_some(value)
}

/// The same as text: numbers as they were written, booleans as words; what is blank is absent, and so are lists and
/// objects.
pub(super) fn text_at<'d>(document: Document<'d>, path: &[&str]) -> Option<Cow<'d, str>> {
    let value = value_at(document, path)?;
    let text = match value.kind() {
        Kind::String(text) => clean(text),
        Kind::Bool(true) => "true".into(),
        Kind::Bool(false) => "false".into(),
        Kind::Integer(_) | Kind::Number => document.number_text(value, path)?,
        Kind::Null | Kind::Array | Kind::Object => return None,
    };
    (!is_blank(&text)).then_some(text)
}

/// The same as a key (contracts 5.1). `None`: absent, or wrong, which is told.
pub(super) fn key_at(document: Document<'_>, path: &[&str], faults: &mut Faults) -> Option<Key> {
    let text = key_part_at(document, path, faults)?;
    let is_integer = matches!(value_at(document, path)?.kind(), Kind::Integer(_));
    made_key(&text, if is_integer { KeyKind::Integer } else { KeyKind::String }, &path.join("."), faults)
}

/// Text that a key is made of. `None`: absent, or neither a string nor a number, which is told.
pub(super) fn key_part_at<'d>(document: Document<'d>, path: &[&str], faults: &mut Faults) -> Option<Cow<'d, str>> {
    if matches!(value_at(document, path)?.kind(), Kind::Bool(_) | Kind::Array | Kind::Object) {
        faults.push(format!("{}: must be a string or a number", path.join(".")));
        return None;
    }
    text_at(document, path)
}

/// Whether something stands at `path`; a blank text is absent.
pub(super) fn is_said(document: Document<'_>, path: &[&str]) -> bool {
    value_at(document, path).is_some_and(|value| !matches!(value.kind(), Kind::String(text) if is_blank(text)))
}

/// A key of a text that was put together; too long is told of the member.
pub(super) fn made_key(text: &str, kind: KeyKind, member: &str, faults: &mut Faults) -> Option<Key> {
    let key = Key::parse(text, kind);
    if key.is_none() && !is_blank(text) {
        faults.push(format!("{member}: is longer than {KEY_BYTES_MAX} bytes"));
    }
    key
}

/// The title of a trigger that names none: the first line of its description that says something (contracts 6).
pub(super) fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty())
}

/// What is being said by a body.
pub(super) struct Reading<'d> {
    pub(super) content: Content<'d>,
    pub(super) document: Document<'d>,
    /// Top-level members that have a home in the content.
    homes: Vec<Cow<'static, str>>,
    made: Vec<Extra<'d>>,
}

impl<'d> Reading<'d> {
    pub(super) fn of(document: Document<'d>) -> Self {
        Self { content: Content::default(), document, homes: Vec::new(), made: Vec::new() }
    }

    /// These members have a home, whatever became of them.
    pub(super) fn has_homes(&mut self, names: &[&'static str]) {
        self.homes.extend(names.iter().map(|name| Cow::Borrowed(*name)));
    }

    pub(super) fn has_home(&mut self, name: &str) {
        self.homes.push(Cow::Owned(name.to_owned()));
    }

    pub(super) fn text(&self, name: &str) -> Option<Cow<'d, str>> {
        text_at(self.document, &[name])
    }

    pub(super) fn title(&mut self, text: Option<Cow<'d, str>>) {
        self.content.title = text.map(|text| {
            let (title, cut) = truncated(text, TITLE_CHARS_MAX);
            if cut {
                self.content.cut("truncated", "title");
            }
            title
        });
    }

    pub(super) fn description(&mut self, text: Option<Cow<'d, str>>) {
        self.content.description = text.map(|text| {
            let (text, cut) = cut_bytes(text, DESCRIPTION_BYTES_MAX);
            if cut {
                self.content.cut("truncated", "description");
            }
            text
        });
    }

    /// A trigger without a title has the first line of its description, else this text.
    pub(super) fn make_title(&mut self, action: Action, otherwise: &'static str) {
        if action != Action::Trigger || self.content.title.is_some() {
            return;
        }
        let line = self.content.description.as_deref().and_then(first_line);
        let title = line.map_or(Cow::Borrowed(otherwise), |line| Cow::Owned(line.to_owned()));
        self.title(Some(title));
        // Its own readers make one too, each their own: the body may go as it came.
        self.content.cut("title_made", "");
    }

    /// The level that the sender's word stands for, and the word.
    pub(super) fn severity(&mut self, level: Option<Severity>, word: Option<Cow<'d, str>>) {
        self.content.severity = level;
        self.content.severity_raw = word.map(|word| within(&mut self.content, word, RAW_CHARS_MAX, "severity"));
    }

    pub(super) fn status(&mut self, word: Option<Cow<'d, str>>) {
        self.content.status_raw = word.map(|word| within(&mut self.content, word, RAW_CHARS_MAX, "status"));
    }

    /// The text of a field of the model, `name`, within its limit.
    pub(super) fn field(&mut self, name: &'static str, text: Option<Cow<'d, str>>) -> Option<Cow<'d, str>> {
        let (text, cut) = truncated(text?, FIELD_CHARS_MAX);
        if cut {
            self.content.cut("truncated", name);
        }
        Some(text)
    }

    pub(super) fn link(&mut self, member: &'static str, href: Option<Cow<'d, str>>, rel: Rel) {
        let Some(href) = href else { return };
        if href.len() > HREF_BYTES_MAX || self.content.links.len() == LINKS_MAX {
            return self.content.cut("link_dropped", member);
        }
        self.content.links.push(Link { href, text: None, rel: Some(rel) });
    }

    /// A tag, or its new value; `None` where it has no value.
    pub(super) fn tag(&mut self, name: Cow<'d, str>, value: Option<Cow<'d, str>>, kind: TagType) {
        let is_long = name.len() > TAG_NAME_CHARS_MAX && name.chars().nth(TAG_NAME_CHARS_MAX).is_some();
        let known = self.content.tags.iter().position(|(known, _)| *known == name);
        if is_blank(&name) || is_long || (known.is_none() && self.content.tags.len() == TAGS_MAX) {
            return self.content.cut("tag_dropped", "tags");
        }
        let bare = value.is_none();
        let tag = Tag { value: value.unwrap_or_default(), kind, color: None, bare };
        match known {
            Some(place) => self.content.tags[place].1 = tag,
            None => self.content.tags.push((name, tag)),
        }
    }

    /// The members of the object, or the words of the list, that stand at `path`. Objects and lists in it are kept as JSON.
    pub(super) fn tags_at(&mut self, path: &[&str]) {
        let Some(value) = value_at(self.document, path) else { return };
        for word in value.elements() {
            if let Kind::String(word) = word.kind() {
                self.tag_word(clean(word));
            }
        }
        for (name, value) in value.members() {
            let steps: Vec<&str> = path.iter().copied().chain([name]).collect();
            let (text, kind) = match value.kind() {
                Kind::Null => continue,
                Kind::String(text) => (Some(clean(text)), TagType::String),
                Kind::Bool(_) => (text_at(self.document, &steps), TagType::Bool),
                Kind::Integer(_) | Kind::Number => (text_at(self.document, &steps), TagType::Number),
                Kind::Array | Kind::Object => (self.document.source(&steps), TagType::Json),
            };
            if text.is_some() {
                self.tag(clean(name), text, kind);
            }
        }
    }

    /// `name:value`, or a name alone.
    pub(super) fn tag_word(&mut self, word: Cow<'d, str>) {
        let word = match word {
            Cow::Borrowed(word) => Cow::Borrowed(word.trim()),
            Cow::Owned(word) => Cow::Owned(word.trim().to_owned()),
        };
        if word.is_empty() {
            return;
        }
        let parts = word.split_once(':').filter(|(name, _)| !name.trim().is_empty());
        let parts = parts.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        match parts {
            Some((name, value)) => self.tag(name.into(), Some(value.into()), TagType::String),
            None => self.tag(word, None, TagType::String),
        }
    }

    /// A time of the model; one that cannot be read is dropped with a warning (contracts 2.5).
    pub(super) fn time(&mut self, member: &'static str, text: Option<Cow<'d, str>>) -> Option<Micros> {
        let read = text.map_or(Ok(None), |text| time::parse_or_unix(&text));
        read.unwrap_or_else(|_| {
            self.content.warn("time_ignored", member);
            None
        })
    }

    /// Of the object `member` all but those that have a home.
    pub(super) fn rest_of(&mut self, member: &'static str, path: &[&str], homes: &[&str]) {
        let Some(value) = value_at(self.document, path).filter(|value| value.is_object()) else { return };
        if value.members().all(|(name, _)| homes.contains(&name)) {
            return;
        }
        let Some(source) = self.document.source(path) else { return };
        let Some(texts) = members_as_text(&source) else { return };
        let mut seen = std::collections::HashSet::new();
        let names = value.members().map(|(name, _)| name);
        let left = names.filter(|name| !homes.contains(name) && seen.insert(*name));
        let members: Vec<String> = left
            .filter_map(|name| Some(format!("{}:{}", serde_json::Value::from(name), texts.get(name)?.get())))
            .collect();
        self.made(member, format!("{{{}}}", members.join(",")));
    }

    /// JSON text that goes along.
    pub(super) fn made(&mut self, name: &'static str, json: String) {
        if let Ok(value) = RawValue::from_string(json) {
            self.made.push(Extra::Made(Cow::Borrowed(name), value));
        }
    }

    /// All that was read, with what has no home.
    pub(super) fn said(mut self, judged: Judged) -> Decoded<'d> {
        self.content.severity = self.content.severity.or(judged.severity);
        let mut seen = std::collections::HashSet::new();
        let names = self.document.root.members().map(|(name, _)| name);
        let homeless = names.filter(|name| !self.homes.iter().any(|home| home == name) && seen.insert(*name));
        let mut extra: Vec<_> = homeless.map(|name| Extra::Member(Cow::Borrowed(name))).collect();
        extra.append(&mut self.made);
        Decoded { judged, content: self.content, extra }
    }

    /// What deciding needs, alone.
    pub(super) fn judged(judged: Judged) -> Decoded<'d> {
        Decoded { judged, content: Content::default(), extra: Vec::new() }
    }
}

/// Whether nothing is demanded of the body any more.
pub(super) fn was_accepted(asked: &Asked<'_>) -> bool {
    asked.rules.settings.is_none()
}

#[cfg(test)]
pub(super) mod tests;
