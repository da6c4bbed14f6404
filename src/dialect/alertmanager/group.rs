//! A whole group read as one event (`group_mode: group`, section 3): keyed by `groupKey`, told by what its alerts have in
//! common.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::Form;
use super::alert::{Reading, action, names_of, organization};
use super::labels::{Texts, hex};
use crate::dialect::json::{Document, Kind, Value};
use crate::dialect::{Asked, Decoded, Extra, Faults, Judged};
use crate::event::{Action, Content, Key, KeyKind, Micros, Rel, Severity, is_blank};
use crate::vendor::{severity_of_word, time};

/// Members of the body that have a home in the content.
const CONSUMED: [&str; 5] = ["status", "version", "externalURL", "commonLabels", "commonAnnotations"];

pub(super) fn read<'d>(form: Form, asked: &Asked<'d>, document: Document<'d>) -> Result<Decoded<'d>, Faults> {
    let mut faults = Faults::new();
    let status = document.root.member("status");
    let action = action(status, &mut faults);
    let key = key(form, document);
    if key.is_none() {
        faults.push("groupKey: is required where a group is one event".into());
    }
    let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
    let labels = Texts::of(document, "commonLabels").unwrap_or_else(|| Texts::none(document));
    let mut reading =
        Reading { content: Content::default(), labels, annotations: Texts::of(document, "commonAnnotations") };
    reading.severity(form, asked);
    reading.content.severity = reading.content.severity.or_else(|| highest(document));
    let judged = Judged { key, severity: reading.content.severity, ..Judged::of(action) };
    if asked.rules.judge_only {
        return Ok(Decoded { judged, content: reading.content, extra: Vec::new() });
    }
    reading.content.status_raw = match status.map(Value::kind) {
        Some(Kind::String(word)) => Some(Cow::Borrowed(word)),
        _ => None,
    };
    reading.labelled();
    reading.texts(action, asked);
    reading.link(document, "externalURL", Rel::Client);
    reading.annotated_links();
    reading.content.started_at = times(document, "startsAt").min();
    reading.content.ended_at = times(document, "endsAt").max().filter(|_| action == Action::Resolve);
    let members = names_of(document).filter(|name| !CONSUMED.contains(name));
    let mut extra: Vec<_> = members.map(|name| Extra::Member(Cow::Borrowed(name))).collect();
    extra.extend(reading.unused_annotations(document, "commonAnnotations"));
    Ok(Decoded { judged, content: reading.content, extra })
}

fn key(form: Form, document: Document<'_>) -> Option<Key> {
    let Kind::String(said) = document.root.member("groupKey")?.kind() else { return None };
    if is_blank(said) {
        return None;
    }
    let hash = hex(&Sha256::digest(said.as_bytes()));
    match organization(form, document) {
        Some(organization) => Key::parse(&format!("{organization}:{hash}"), KeyKind::Derived),
        None => Key::parse(&hash, KeyKind::Derived),
    }
}

fn alerts(document: Document<'_>) -> impl Iterator<Item = Value<'_>> {
    document.root.member("alerts").into_iter().flat_map(Value::elements)
}

/// The highest level that any of its alerts says.
fn highest(document: Document<'_>) -> Option<Severity> {
    let words = alerts(document).filter_map(|alert| alert.member("labels")?.member("severity"));
    let levels = words.filter_map(|word| match word.kind() {
        Kind::String(word) => severity_of_word(word),
        _ => None,
    });
    levels.max()
}

fn times<'d>(document: Document<'d>, member: &'static str) -> impl Iterator<Item = Micros> + 'd {
    let said = alerts(document).filter_map(move |alert| alert.member(member));
    said.filter_map(|said| match said.kind() {
        Kind::String(text) => time::parse(text).ok().flatten(),
        _ => None,
    })
}
