//! The incident as answers show it, in the shape of the version that is asked (contracts/incident-io.md 4). What the
//! proxy knows of it stands in its record and in the view, whose members are named here.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{ENDED, Version, lists};
use crate::dialect::{Named, View};
use crate::event::{Incident, Micros, State, is_blank};
use crate::gate::{Settings, StatusRow};

pub(super) const NAME: &str = "name";
pub(super) const SUMMARY: &str = "summary";
/// Absent: a real incident.
pub(super) const MODE: &str = "mode";
pub(super) const VISIBILITY: &str = "visibility";
pub(super) const SEVERITY: &str = "severity_id";
/// The word of v1, until an edit names a status.
pub(super) const STATUS: &str = "status";
pub(super) const STATUS_ID: &str = "status_id";
pub(super) const TEAM: &str = "slack_team_id";
pub(super) const TYPE: &str = "incident_type_id";
pub(super) const CALL_URL: &str = "call_url";
/// Tells a repeat with another body.
pub(super) const HASH: &str = "hash";

/// Longest name and summary that answers show, as the inside of a JSON text: together with the rest a view has room.
pub(super) const NAME_BYTES_MAX: usize = 6 * 1024;
pub(super) const SUMMARY_BYTES_MAX: usize = 16 * 1024;

/// A text cut to so many bytes inside a JSON text, ending in an ellipsis where something was cut.
pub(super) fn short(text: &str, bytes_max: usize) -> Cow<'_, str> {
    // A byte takes two or six inside a JSON text where it is escaped, and nearly none is.
    let more = |byte: u8| -> usize {
        match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
            0..=0x1f => 5,
            _ => 0,
        }
    };
    if text.len() + text.bytes().map(more).sum::<usize>() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut bytes = 0;
    let mut end = None;
    for (at, character) in text.char_indices() {
        let mark = '\u{2026}'.len_utf8();
        if end.is_none() && bytes + 6 + mark > bytes_max {
            end = Some(at);
        }
        bytes += match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            other => other.len_utf8(),
        };
        if bytes > bytes_max {
            return Cow::Owned(format!("{}\u{2026}", &text[..end.unwrap_or(at)]));
        }
    }
    Cow::Borrowed(text)
}

/// What an answer is made of beside the incident.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) version: Version,
    pub(super) integration: &'a str,
    pub(super) settings: &'a Settings,
}

/// Where an incident stands in its life, as either version says it.
pub(super) struct Status<'a> {
    pub(super) id: &'a str,
    name: Cow<'a, str>,
    pub(super) category: &'a str,
}

fn text<'v>(view: &'v View, name: &str) -> Option<&'v str> {
    view.get(name).and_then(Value::as_str)
}

/// The status in v1's words: as it was created with, until an edit or its end says otherwise; else the word that its
/// category has there (section 3).
pub(super) fn word<'v>(incident: &Incident, view: &'v View, status: &Status<'_>) -> &'v str {
    if let Some(word) = text(view, STATUS).filter(|_| incident.state != State::Resolved) {
        return word;
    }
    match status.category {
        "triage" => "triage",
        "declined" | "canceled" => "declined",
        category if ENDED.contains(&category) => "closed",
        _ if status.name.eq_ignore_ascii_case("fixing") => "fixing",
        _ if status.name.eq_ignore_ascii_case("monitoring") => "monitoring",
        _ => "investigating",
    }
}

/// The account's status for a word of v1: one of that name, else the first of its category.
fn of_word<'s>(settings: &'s Settings, word: &str, category: &str) -> Option<&'s StatusRow> {
    let mut alike = settings.incident_statuses.iter().filter(|row| *row.category == *category);
    alike.clone().find(|row| row.name.eq_ignore_ascii_case(word)).or_else(|| alike.next())
}

pub(super) fn status<'a>(incident: &Incident, view: &'a View, settings: &'a Settings) -> Status<'a> {
    let row = |row: &'a StatusRow| Status { id: &row.id, name: Cow::Borrowed(&row.name), category: &row.category };
    let resolved = incident.state == State::Resolved;
    if let Some(id) = text(view, STATUS_ID) {
        let unknown = || {
            let (name, category) = if resolved { ("Closed", "closed") } else { ("Investigating", "live") };
            Status { id, name: name.into(), category }
        };
        return lists::status(settings, id).map_or_else(unknown, row);
    }
    let word = match text(view, STATUS) {
        _ if resolved => "closed",
        Some(word) => word,
        None => "investigating",
    };
    let category = match word {
        "triage" => "triage",
        "declined" => "declined",
        "closed" => "closed",
        _ => "live",
    };
    let named = || Status { id: "", name: capital(word).into(), category };
    let status = of_word(settings, word, category).map_or_else(named, row);
    // Section 4: the id that was asked for, or none.
    let is_asked_for = resolved || text(view, STATUS).is_some();
    Status { id: if is_asked_for { status.id } else { "" }, ..status }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1.min(word.len()));
    first.to_ascii_uppercase() + rest
}

/// When an incident came to be: its id says so, so that no answer ever says otherwise.
pub(super) fn created_at(incident: &Incident) -> Micros {
    incident.iid.made_at()
}

/// In whole seconds, as the states are kept; never before it came to be.
pub(super) fn updated_at(incident: &Incident) -> Micros {
    Micros::from_seconds(incident.last_seen.seconds()).max(created_at(incident))
}

/// Lists of the proxy's own have no times.
fn epoch() -> Value {
    json!(Micros(0))
}

pub(super) fn severity_json(row: &crate::gate::SeverityRow) -> Value {
    json!({
        "id": &*row.id, "name": &*row.name, "description": "", "rank": row.rank,
        "created_at": epoch(), "updated_at": epoch(),
    })
}

pub(super) fn status_json(id: &str, name: &str, category: &str) -> Value {
    json!({
        "id": id, "name": name, "description": "", "category": category, "rank": 0,
        "created_at": epoch(), "updated_at": epoch(),
    })
}

/// The mode's word in a version (section 3, conversion).
pub(super) fn mode_word(version: Version, view: &View) -> &str {
    match (text(view, MODE), version) {
        (None | Some("retrospective" | "tutorial"), Version::V1) => "real",
        (None, Version::V2) => "standard",
        (Some(mode), _) => mode,
    }
}

/// The whole object: clients take nothing less.
pub(super) fn incident(around: Around<'_>, incident: &Incident, view: &View, named: Option<&Named>) -> Value {
    let Around { version, integration, settings } = around;
    let status = status(incident, view, settings);
    let name = text(view, NAME).filter(|name| !is_blank(name)).unwrap_or("Incident");
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", named.and_then(|named| named.id.as_deref()).map_or_else(|| json!(incident.iid), Value::from));
    if let Some(url) = named.and_then(|named| named.url.as_deref()) {
        put("permalink", url.into());
    }
    put("reference", format!("INC-{}", incident.number).into());
    put("name", name.into());
    if let Some(summary) = text(view, SUMMARY) {
        put("summary", summary.into());
    }
    put("mode", mode_word(version, view).into());
    match version {
        Version::V1 => put("status", word(incident, view, &status).into()),
        Version::V2 => {
            put("incident_status", status_json(status.id, &status.name, status.category));
            // The vendor's own clients read no incident without it.
            put("last_activity_at", json!(updated_at(incident)));
        }
    }
    // Of one whose record is gone nobody knows: nothing is shown wider than it may be.
    put("visibility", text(view, VISIBILITY).unwrap_or("private").into());
    if let Some(row) = text(view, SEVERITY).and_then(|id| lists::severity(settings, id)) {
        put("severity", severity_json(row));
    }
    put("creator", json!({ "api_key": { "id": integration, "name": integration } }));
    put("created_at", json!(created_at(incident)));
    put("updated_at", json!(updated_at(incident)));
    put("custom_field_entries", json!([]));
    put("incident_role_assignments", json!([]));
    put("slack_channel_id", "".into());
    put("slack_team_id", text(view, TEAM).unwrap_or_default().into());
    put("team_ids", json!([]));
    if let Some(url) = text(view, CALL_URL) {
        put("call_url", url.into());
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_what_it_takes_inside_json() {
        assert_eq!(short("abc", 3), "abc");
        for text in ["x".repeat(50), "\u{1}".repeat(50), "\u{20ac}".repeat(50), "\"".repeat(50)] {
            for most in 9..40 {
                let cut = short(&text, most);
                let inside = serde_json::to_string(&cut).unwrap().len() - 2;
                assert!(inside <= most && cut.ends_with('\u{2026}'), "{text} {most}: {cut}");
            }
        }
    }
}
