//! The free container (contracts 3.4): what an event says and its target has no member for, as members of a JSON object.
//! Values keep the sender's text: `1.50` stays so. Under size pressure members go from the end, `extra` first.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Serialize;

use super::text::{quoted, to_bytes};
use super::{Ask, Said};
use crate::event::{Severity, Tag, TagType};

/// A member of the model that a target may have a home for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Description,
    Severity,
    Source,
    Component,
    Group,
    Class,
    Service,
    StartedAt,
    Links,
    Images,
    Tags,
    Assignment,
    Visibility,
    Mode,
    Note,
}

/// Members in the order in which they are kept, each with its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Container(pub(super) Vec<(Cow<'static, str>, String)>);

impl Container {
    /// What is said and has none of these homes. `extra` stands at the end as one object.
    pub(super) fn of(ask: &Ask<'_>, homes: &[Home]) -> Self {
        let Said { content, extra } = ask.said;
        let mut all = Self::default();
        let homeless = |home| !homes.contains(&home);
        let texts = [
            (Home::Description, "description", &content.description),
            (Home::Source, "source", &content.source),
            (Home::Component, "component", &content.component),
            (Home::Group, "group", &content.group),
            (Home::Class, "class", &content.class),
            (Home::Service, "service", &content.service),
            (Home::Note, "note", &content.note),
        ];
        let severity = ask.stored.event.severity.or(content.severity).filter(|_| homeless(Home::Severity));
        all.put("severity", severity.map(Severity::level));
        for (home, name, text) in texts {
            all.put(name, text.as_deref().filter(|text| homeless(home) && !text.is_empty()));
        }
        all.put("started_at", content.started_at.filter(|_| homeless(Home::StartedAt)));
        all.put("ended_at", content.ended_at);
        all.put("visibility", content.visibility.filter(|_| homeless(Home::Visibility)));
        all.put("mode", content.mode.filter(|_| homeless(Home::Mode)));
        if homeless(Home::Tags) && !content.tags.is_empty() {
            all.0.push(("tags".into(), object(content.tags.iter().map(|(name, tag)| (&**name, tag_json(tag))))));
        }
        all.put("links", Some(&content.links).filter(|links| homeless(Home::Links) && !links.is_empty()));
        all.put("images", Some(&content.images).filter(|images| homeless(Home::Images) && !images.is_empty()));
        all.put("assignment", content.assignment.as_ref().filter(|_| homeless(Home::Assignment)));
        if !extra.is_empty() {
            all.0.push(("extra".into(), object(extra.iter().map(|(name, value)| (&**name, value.get().to_owned())))));
        }
        all
    }

    fn put(&mut self, name: &'static str, value: Option<impl Serialize>) {
        // Text keys and plain values alone: writing them to memory cannot fail.
        let json = value.and_then(|value| serde_json::to_string(&value).ok());
        self.0.extend(json.map(|json| (Cow::Borrowed(name), json)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `{...}`, whole.
    pub(super) fn json(&self) -> String {
        object(self.0.iter().map(|(name, json)| (&**name, json.clone())))
    }

    /// `{...}` of at most so many bytes, without members from the end; `None` where none is left. The flag: it is whole.
    pub(super) fn json_within(&self, bytes_max: usize) -> (Option<String>, bool) {
        let mut bytes = 2;
        let fits = |(name, json): &&(Cow<'static, str>, String)| {
            bytes += quoted(name).len() + json.len() + 2;
            bytes <= bytes_max + 1
        };
        let kept = self.0.iter().take_while(fits).count();
        let json = (kept > 0).then(|| object(self.0[..kept].iter().map(|(name, json)| (&**name, json.clone()))));
        (json, kept == self.0.len())
    }
}

/// A description and the container behind it as a fenced block of JSON, together at most `bytes_max`: the container is cut
/// first, then the description. The flag: nothing was cut.
pub(super) fn fenced(description: &str, container: &Container, bytes_max: usize) -> (String, bool) {
    const OPEN: &str = "```json\n";
    const CLOSE: &str = "\n```";

    let whole = to_bytes(description, bytes_max, usize::MAX);
    let gap = if whole.is_empty() { "" } else { "\n\n" };
    let room = bytes_max.saturating_sub(whole.len() + gap.len() + OPEN.len() + CLOSE.len());
    let (json, all) = container.json_within(room);
    let uncut = all && whole.len() == description.len();
    match json {
        // On one line: nothing a sender wrote can close the block.
        Some(json) => (format!("{whole}{gap}{OPEN}{json}{CLOSE}"), uncut),
        None => (whole.into_owned(), uncut),
    }
}

/// A JSON object of members that are JSON already.
pub(super) fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut text = String::from("{");
    for (name, json) in members {
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a text cannot fail.
        let _ = write!(text, "{comma}{}:{json}", quoted(name));
    }
    text + "}"
}

/// A tag's value as JSON, of its type: numbers and booleans as the sender wrote them, `true` for a bare one. Its colour
/// has no home anywhere but at Squadcast.
pub(super) fn tag_json(tag: &Tag<'_>) -> String {
    if tag.bare {
        return "true".to_owned();
    }
    let is_json = match tag.kind {
        TagType::Number => serde_json::from_str::<serde_json::Number>(&tag.value).is_ok(),
        TagType::Bool => matches!(&*tag.value, "true" | "false"),
        TagType::String | TagType::Json => false,
    };
    if is_json { tag.value.to_string() } else { quoted(&tag.value) }
}

/// The same, with lists and objects as what they are.
pub(super) fn tag_value(tag: &Tag<'_>) -> String {
    let is_whole = tag.kind == TagType::Json && serde_json::from_str::<serde::de::IgnoredAny>(&tag.value).is_ok();
    if is_whole && !tag.bare { tag.value.to_string() } else { tag_json(tag) }
}

/// Tags as a list of words: bare ones by name, others as `name:value`.
pub(super) fn tag_words(said: &Said<'_>) -> Vec<String> {
    let word = |(name, tag): &(Cow<'_, str>, Tag<'_>)| {
        if tag.bare { name.to_string() } else { format!("{name}:{}", tag.value) }
    };
    said.content.tags.iter().map(word).collect()
}
