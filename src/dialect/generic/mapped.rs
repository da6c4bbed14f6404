//! A body read as the integration's mapping says.

use std::borrow::Cow;

use super::missing;
use super::pointer::{Pointed, pointed};
use crate::dialect::hooks::{Reading, action_of_word, first_line, made_key, was_accepted};
use crate::dialect::json::{Document, Kind, clean};
use crate::dialect::{Asked, Decoded, Faults, Judged};
use crate::event::{Action, Content, Key, KeyKind, Rel, Severity, TagType};
use crate::gate::Fields;
use crate::vendor::severity_of_word;

/// The first of these pointers that leads to something.
fn first<'d, 'p>(document: Document<'d>, pointers: &'p [String]) -> Option<Pointed<'d, 'p>> {
    pointers.iter().find_map(|pointer| pointed(document, pointer))
}

fn text<'d>(document: Document<'d>, pointers: &[String]) -> Option<Cow<'d, str>> {
    pointers.iter().find_map(|pointer| pointed(document, pointer)?.text())
}

pub(super) fn read<'d>(
    asked: &Asked<'_>,
    fields: &Fields,
    document: Document<'d>,
    otherwise: Option<Cow<'d, str>>,
) -> Result<Decoded<'d>, Faults> {
    let mut faults = Faults::new();
    let word = text(document, &fields.action);
    let action = action(fields, word.as_deref(), &mut faults);
    let key = key(first(document, &fields.key), &mut faults);
    let title = text(document, &fields.title);
    let default = fields.default_title.clone().map(Cow::Owned);
    let title = title.or(otherwise).or(default);
    let description = text(document, &fields.description);
    let has_title = title.is_some() || description.as_deref().and_then(first_line).is_some();
    faults.extend(missing(asked, action, key.is_some(), has_title).map(str::to_owned));
    if !faults.is_empty() && !was_accepted(asked) {
        return Err(faults);
    }
    let said = text(document, &fields.severity);
    let severity = said.as_deref().and_then(|word| level(fields, word));
    let judged = Judged { key, severity, ..Judged::of(action) };
    if asked.rules.judge_only {
        return Ok(Reading::judged(judged));
    }
    let mut reading = Reading::of(document);
    reading.status(word);
    reading.severity(severity, said);
    reading.title(title);
    reading.description(description);
    reading.make_title(action, "generic alert");
    let mut field = |name, pointers: &[String]| reading.field(name, text(document, pointers));
    let (source, component) = (field("source", &fields.source), field("component", &fields.component));
    let (group, class) = (field("group", &fields.group), field("class", &fields.class));
    let service = field("service", &fields.service);
    reading.content = Content { source, component, group, class, service, ..reading.content };
    reading.link("link", text(document, &fields.link), Rel::Source);
    let at = text(document, &fields.started_at);
    reading.content.started_at = reading.time("started_at", at);
    if let Some(tags) = first(document, &fields.tags) {
        take_tags(&mut reading, &tags);
    }
    for pointers in all(fields) {
        if let Some(member) = first(document, pointers).and_then(|found| found.member().map(Cow::into_owned)) {
            reading.has_home(&member);
        }
    }
    Ok(reading.said(judged))
}

fn all(fields: &Fields) -> [&[String]; 13] {
    let Fields { title, description, action, key, severity, source, component, group, class, .. } = fields;
    let Fields { service, link, tags, started_at, .. } = fields;
    [title, description, action, key, severity, source, component, group, class, service, link, tags, started_at]
        .map(Vec::as_slice)
}

/// By the configured words, then by the usual ones; what is neither is refused where words are configured without a default,
/// so that no resolve becomes a trigger.
fn action(fields: &Fields, word: Option<&str>, faults: &mut Faults) -> Action {
    let default = fields.default_action.as_deref().and_then(named);
    let Some(word) = word else { return default.unwrap_or(Action::Trigger) };
    let own = fields.actions.iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(word.trim()));
    let own = own.and_then(|(_, action)| named(action));
    own.or_else(|| action_of_word(word)).or(default).unwrap_or_else(|| {
        if !fields.actions.is_empty() {
            faults.push("action: is a word that the mapping does not know".to_owned());
        }
        Action::Trigger
    })
}

fn named(name: &str) -> Option<Action> {
    Action::ALL.into_iter().find(|action| action.name() == name)
}

fn level(fields: &Fields, word: &str) -> Option<Severity> {
    let own = fields.severities.iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(word.trim()));
    own.and_then(|(_, level)| Severity::new(*level)).or_else(|| severity_of_word(word))
}

fn key(found: Option<Pointed<'_, '_>>, faults: &mut Faults) -> Option<Key> {
    let found = found?;
    let kind = match found.value.kind() {
        Kind::Integer(_) => KeyKind::Integer,
        Kind::String(_) | Kind::Number => KeyKind::String,
        _ => {
            faults.push("key: must be a string or a number".into());
            return None;
        }
    };
    made_key(&found.text()?, kind, "key", faults)
}

/// An object, a list of words, or words with commas between.
fn take_tags<'d>(reading: &mut Reading<'d>, tags: &Pointed<'d, '_>) {
    let Some(source) = tags.source() else { return };
    match tags.value.kind() {
        Kind::String(words) => words.split(',').for_each(|word| reading.tag_word(clean(word))),
        Kind::Array => {
            for word in tags.value.elements() {
                if let Kind::String(word) = word.kind() {
                    reading.tag_word(clean(word));
                }
            }
        }
        Kind::Object => {
            let texts = crate::dialect::json::members_as_text(&source).unwrap_or_default();
            for (name, value) in tags.value.members() {
                let written = texts.get(name).map(|value| value.get().to_owned()).unwrap_or_default();
                let (text, kind) = match value.kind() {
                    Kind::Null => continue,
                    Kind::String(text) => (clean(text), TagType::String),
                    Kind::Bool(_) => (written.into(), TagType::Bool),
                    Kind::Integer(_) | Kind::Number => (written.into(), TagType::Number),
                    Kind::Array | Kind::Object => (written.into(), TagType::Json),
                };
                reading.tag(clean(name), Some(text), kind);
            }
        }
        _ => {}
    }
}
