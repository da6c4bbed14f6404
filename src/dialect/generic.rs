//! The generic webhook (contracts/others.md 9): a body of any shape, read by the integration's mapping, else by a guess.

mod mapped;
mod pointer;

use std::borrow::Cow;

use super::hooks::{self, Reading, action_of_word, key_at, text_at, value_at};
use super::json::{Document, Kind};
use super::{Asked, Credentials, Decoded, Dialect, Faults, Judged, Route};
use crate::event::{Action, Rel};
use crate::vendor::severity_of_word;

pub(super) struct Generic;

static ROUTES: [Route; 4] = hooks::routes!("generic");

const TITLES: [&str; 5] = ["title", "summary", "message", "name", "subject"];
const DESCRIPTIONS: [&str; 4] = ["description", "body", "text", "details"];
const ACTIONS: [&str; 4] = ["status", "state", "event_action", "action"];
const KEYS: [&str; 8] =
    ["dedup_key", "deduplication_key", "event_id", "alias", "incident_key", "fingerprint", "alert_uid", "id"];
const SEVERITIES: [&str; 4] = ["severity", "priority", "urgency", "level"];
const LINKS: [&str; 3] = ["url", "link", "source_url"];
const SOURCES: [&str; 3] = ["source", "host", "hostname"];
const TAGS: [&str; 2] = ["tags", "labels"];

impl Dialect for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        each(read(asked, document, None)?);
        Ok(())
    }
}

/// Reads an object of any shape; `title`: what stands for a title that it does not have. The mapping is the integration's, or
/// stands beside an event that was stored.
///
/// # Errors
/// A trigger without anything for a title, a resolve without a key.
pub(super) fn read<'d>(
    asked: &Asked<'_>,
    document: Document<'d>,
    title: Option<Cow<'d, str>>,
) -> Result<Decoded<'d>, Faults> {
    if let Some(mapping) = asked.rules.settings.and_then(|settings| settings.generic.as_ref()) {
        let mut decoded = mapped::read(asked, &mapping.fields, document, title)?;
        decoded.judged.fills = Some(mapping.json.clone());
        return Ok(decoded);
    }
    let stored = asked.envelope.and_then(|envelope| envelope.source(&[]));
    match stored.and_then(|json| serde_json::from_str(&json).ok()) {
        Some(fields) if hooks::was_accepted(asked) => mapped::read(asked, &fields, document, title),
        _ => guess(asked, document, title),
    }
}

/// The first of these members that says something.
fn first<'d>(document: Document<'d>, names: &[&'static str]) -> Option<(&'static str, Cow<'d, str>)> {
    names.iter().find_map(|name| Some((*name, text_at(document, &[name])?)))
}

fn guess<'d>(
    asked: &Asked<'_>,
    document: Document<'d>,
    otherwise: Option<Cow<'d, str>>,
) -> Result<Decoded<'d>, Faults> {
    let mut faults = Faults::new();
    let words = ACTIONS.iter().filter_map(|name| Some((*name, text_at(document, &[name])?)));
    let acting = words.clone().find_map(|(name, word)| Some((name, action_of_word(&word)?, word)));
    let action = acting.as_ref().map_or(Action::Trigger, |(_, action, _)| *action);
    let named = KEYS.iter().find(|name| hooks::is_said(document, &[name]));
    let key = named.and_then(|name| key_at(document, &[name], &mut faults));
    let title = first(document, &TITLES);
    let description = first(document, &DESCRIPTIONS);
    let line = description.as_ref().and_then(|(_, text)| hooks::first_line(text));
    if let Some(fault) = missing(asked, action, key.is_some(), title.is_some() || otherwise.is_some() || line.is_some())
    {
        faults.push(fault.to_owned());
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let said = SEVERITIES.iter().filter_map(|name| Some((*name, text_at(document, &[name])?)));
    let leveled = said.clone().find_map(|(name, word)| Some((name, severity_of_word(&word)?, word)));
    let severity = leveled.as_ref().map(|(_, level, _)| *level);
    let judged = Judged { key, severity, ..Judged::of(action) };
    if asked.rules.judge_only {
        return Ok(Reading::judged(judged));
    }
    let mut reading = Reading::of(document);
    reading.status(acting.as_ref().map(|(_, _, word)| word.clone()));
    let word = leveled.as_ref().map(|(name, _, word)| (*name, word.clone())).or_else(|| said.clone().next());
    reading.severity(severity, word.as_ref().map(|(_, word)| word.clone()));
    let (titled, described) = (title.as_ref().map(|(name, _)| *name), description.as_ref().map(|(name, _)| *name));
    reading.title(title.map(|(_, text)| text).or(otherwise));
    reading.description(description.map(|(_, text)| text));
    reading.make_title(action, "generic alert");
    let (link, source) = (first(document, &LINKS), first(document, &SOURCES));
    reading.content.source = reading.field("source", source.as_ref().map(|(_, text)| text.clone()));
    if let Some((name, href)) = &link {
        reading.link(name, Some(href.clone()), Rel::Source);
    }
    let tags = TAGS.into_iter().find(|name| value_at(document, &[name]).is_some());
    if let Some(name) = tags {
        tags_in(&mut reading, name);
    }
    let homes = [titled, described, acting.map(|(name, ..)| name), named.copied(), word.map(|(name, _)| name)];
    let homes = homes.into_iter().chain([link.map(|(name, _)| name), source.map(|(name, _)| name), tags]);
    homes.flatten().for_each(|name| reading.has_homes(&[name]));
    Ok(reading.said(judged))
}

/// An object, a list of words, or words with commas between.
fn tags_in<'d>(reading: &mut Reading<'d>, name: &'static str) {
    match value_at(reading.document, &[name]).map(|value| value.kind()) {
        Some(Kind::String(words)) => words.split(',').for_each(|word| reading.tag_word(super::json::clean(word))),
        _ => reading.tags_at(&[name]),
    }
}

/// What the body cannot do without.
fn missing(asked: &Asked<'_>, action: Action, has_key: bool, has_title: bool) -> Option<&'static str> {
    match action {
        _ if hooks::was_accepted(asked) => None,
        Action::Trigger => (!has_title).then_some("title: nothing to make a title from"),
        _ => (!has_key).then_some("key: is required of what ends or acknowledges an incident"),
    }
}

#[cfg(test)]
mod tests;
