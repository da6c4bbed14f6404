//! `details`, an alert's free container (contracts 3.4): valued tags first, then what has no home of its own, all as texts;
//! 8,000 characters in all, dropped from the end (contracts/opsgenie.md 6).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::super::Ask;
use super::super::container::{Container, Home};
use super::super::verbatim::Body;
use super::DIALECT;
use crate::event::Rel;

/// Names and values together.
const CHARS_MAX: usize = 8_000;
/// Says that something was dropped.
const TRUNCATED: (&str, &str) = ("truncated", "true");

/// What an alert has members for, or a detail of its own name.
const HOMES: &[Home] = &[Home::Description, Home::Severity, Home::Source, Home::Component, Home::Tags, Home::Note];

fn chars((name, value): (&str, &str)) -> usize {
    name.chars().count() + value.chars().count()
}

/// Whether the vendor takes all of them.
pub(super) fn fits<'a>(details: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    details.map(chars).sum::<usize>() <= CHARS_MAX
}

/// The same of the JSON of a sender's own `details`.
pub(super) fn fit_as_written(json: &str) -> bool {
    let details: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    fits(details.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))))
}

/// As JSON, and whether that is all.
pub(super) fn of(ask: &Ask<'_>) -> (String, bool) {
    let all = entries(ask);
    let is_whole = fits(all.iter().map(|(name, value)| (name.as_str(), &**value)));
    let mut room = if is_whole { CHARS_MAX } else { CHARS_MAX - chars(TRUNCATED) };
    let mut kept = Map::new();
    for (name, value) in all {
        let Some(left) = room.checked_sub(chars((&name, &value))) else { break };
        room = left;
        kept.insert(name, Value::String(value.into_owned()));
    }
    if !is_whole {
        kept.insert(TRUNCATED.0.into(), TRUNCATED.1.into());
    }
    (Value::Object(kept).to_string(), is_whole)
}

/// The sender's own details, where they are the vendor's: it takes more of them than the model holds tags.
fn own<'a>(ask: &Ask<'_>) -> Option<Vec<(String, Cow<'a, str>)>> {
    let event = &ask.stored.event;
    let body = Body::read(&event.raw).filter(|_| event.dialect == DIALECT)?;
    let members = Body::read(body.get("details")?.as_bytes())?.into_members().filter(|(name, _)| !name.is_empty());
    let text = |json: String| match json.as_str() {
        "null" => None,
        _ => Some(Cow::Owned(serde_json::from_str::<String>(&json).unwrap_or(json))),
    };
    Some(members.filter_map(|(name, json)| Some((name.into_owned(), text(json)?))).collect())
}

fn entries<'a>(ask: &Ask<'a>) -> Vec<(String, Cow<'a, str>)> {
    let content = &ask.said.content;
    let valued = content.tags.iter().filter(|(_, tag)| !tag.bare);
    let of_model = || valued.map(|(name, tag)| (name.to_string(), Cow::Borrowed(&*tag.value))).collect();
    let mut all: Vec<(String, Cow<'a, str>)> = own(ask).unwrap_or_else(of_model);
    let source = content.links.iter().find(|link| link.rel == Some(Rel::Source));
    let mut rest: Vec<(Cow<'static, str>, Cow<'a, str>)> =
        source.map(|link| ("source_url".into(), Cow::Borrowed(&*link.href))).into_iter().collect();
    rest.extend(homeless(ask));
    for (name, value) in rest {
        // A tag of that name says something else.
        let taken = all.iter().any(|(known, _)| *known == name);
        all.push((if taken { format!("event.{name}") } else { name.into_owned() }, value));
    }
    all
}

/// What the model knows beside, each as a text. Members of the vendor's own dialect stand beside `details` instead.
fn homeless<'a>(ask: &Ask<'a>) -> impl Iterator<Item = (Cow<'static, str>, Cow<'a, str>)> {
    let own = ask.stored.event.dialect == DIALECT;
    let is_there = move |name: &str| !(own && matches!(name, "extra" | "assignment"));
    Container::of(ask, HOMES).0.into_iter().filter(move |(name, _)| is_there(name)).map(|(name, json)| {
        let text = serde_json::from_str::<String>(&json).unwrap_or(json);
        (name, Cow::Owned(text))
    })
}
