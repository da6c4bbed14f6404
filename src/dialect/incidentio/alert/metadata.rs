//! `metadata` of an alert event: the names that Surgegate itself writes there have homes in the model (section 7), every
//! other one is a tag.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::dialect::Extra;
use crate::dialect::json::{Document, Kind, Value, clean};
use crate::dialect::text::{truncated, within};
use crate::event::{Content, FIELD_CHARS_MAX, HREF_BYTES_MAX, LINKS_MAX, Link, Rel, Severity, TAGS_MAX, Tag, TagType};
use crate::vendor::{self, time};

const METADATA: &str = "metadata";
/// Longest tag name and value, in characters (contracts 3.1).
const TAG_NAME_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 1024;
const RAW_BYTES_MAX: usize = 64;

fn text<'d>(metadata: Value<'d>, name: &str) -> Option<&'d str> {
    match metadata.member(name)?.kind() {
        Kind::String(text) => Some(text),
        _ => None,
    }
}

/// The word, else the level that Surgegate writes beside it.
pub(super) fn severity(metadata: Value<'_>) -> Option<Severity> {
    let level = || match metadata.member("severity_level")?.kind() {
        Kind::Integer(level) => u8::try_from(level).ok().and_then(Severity::new),
        _ => None,
    };
    text(metadata, "severity").and_then(vendor::severity_of_word).or_else(level)
}

pub(super) fn read<'d>(
    metadata: Value<'d>,
    document: Document<'d>,
    content: &mut Content<'d>,
    extra: &mut Vec<Extra<'d>>,
) {
    let mut tags = Vec::new();
    for (name, value) in metadata.members() {
        let string = match value.kind() {
            Kind::String(text) => Some(text),
            _ => None,
        };
        match (name, string) {
            ("severity", Some(word)) if word.len() <= RAW_BYTES_MAX => content.severity_raw = Some(clean(word)),
            ("severity_level", None) if matches!(value.kind(), Kind::Integer(1..=5)) => {}
            ("source", Some(text)) => content.source = field(content, text, "metadata.source"),
            ("component", Some(text)) => content.component = field(content, text, "metadata.component"),
            ("group", Some(text)) => content.group = field(content, text, "metadata.group"),
            ("class", Some(text)) => content.class = field(content, text, "metadata.class"),
            ("service", Some(text)) => content.service = field(content, text, "metadata.service"),
            ("started_at", Some(text)) => match time::parse(text) {
                Ok(at) => content.started_at = at,
                Err(time::NotATime) => content.warn("time_ignored", "metadata.started_at"),
            },
            ("tags", None) if value.is_object() => {
                value.members().for_each(|(inner, value)| {
                    put(&mut tags, inner, value, document, &[METADATA, "tags", inner], content)
                });
            }
            ("links", None) if matches!(value.kind(), Kind::Array) => links(value, content),
            ("extra", None) if value.is_object() => {
                let made = value.members().filter_map(|(inner, _)| {
                    let text = document.source(&[METADATA, "extra", inner])?.into_owned();
                    Some(Extra::Made(Cow::Borrowed(inner), RawValue::from_string(text).ok()?))
                });
                extra.extend(made);
            }
            _ => put(&mut tags, name, value, document, &[METADATA, name], content),
        }
    }
    content.tags = tags;
}

fn field<'d>(content: &mut Content<'_>, text: &'d str, path: &'static str) -> Option<Cow<'d, str>> {
    (!text.is_empty()).then(|| within(content, clean(text), FIELD_CHARS_MAX, path))
}

fn put<'d>(
    tags: &mut Vec<(Cow<'d, str>, Tag<'d>)>,
    name: &'d str,
    value: Value<'d>,
    document: Document<'d>,
    path: &[&str],
    content: &mut Content<'d>,
) {
    let known = tags.iter().position(|(known, _)| *known == name);
    let is_long = name.chars().nth(TAG_NAME_CHARS_MAX).is_some();
    if name.is_empty() || is_long || (known.is_none() && tags.len() == TAGS_MAX) {
        content.cut("tag_dropped", path.join("."));
        return;
    }
    let (text, kind) = match value.kind() {
        Kind::String(text) => (clean(text), TagType::String),
        Kind::Bool(value) => (Cow::Borrowed(if value { "true" } else { "false" }), TagType::Bool),
        Kind::Integer(_) | Kind::Number => (document.number_text(value, path).unwrap_or_default(), TagType::Number),
        Kind::Null => return,
        Kind::Array | Kind::Object => (document.source(path).unwrap_or_default(), TagType::Json),
    };
    let (value, cut) = truncated(text, TAG_VALUE_CHARS_MAX);
    if cut {
        content.cut("truncated", path.join("."));
    }
    let tag = Tag { value, kind, color: None, bare: false };
    match known {
        Some(at) => tags[at].1 = tag,
        None => tags.push((clean(name), tag)),
    }
}

fn links<'d>(list: Value<'d>, content: &mut Content<'d>) {
    for link in list.elements() {
        let Some(href) = text(link, "href").filter(|href| href.len() <= HREF_BYTES_MAX) else {
            content.cut("link_dropped", "metadata.links");
            continue;
        };
        if content.links.len() == LINKS_MAX {
            content.cut("link_dropped", "metadata.links");
            return;
        }
        let rel = text(link, "rel").and_then(rel_of);
        content.links.push(Link { href: clean(href), text: text(link, "text").map(clean), rel });
    }
}

fn rel_of(word: &str) -> Option<Rel> {
    Some(match word {
        "source" => Rel::Source,
        "runbook" => Rel::Runbook,
        "dashboard" => Rel::Dashboard,
        "silence" => Rel::Silence,
        "panel" => Rel::Panel,
        "image" => Rel::Image,
        "client" => Rel::Client,
        _ => return None,
    })
}
