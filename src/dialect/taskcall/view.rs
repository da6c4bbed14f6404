//! What the answers of a read show beside the incident's state (contracts/taskcall.md 5): kept with its last record,
//! each part with its bound, all together below [`VIEW_BYTES_MAX`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CREATE, NEXT_ALERT_MICROS};
use crate::dialect::{VIEW_BYTES_MAX, View};
use crate::event::Micros;

/// Most events; the first stays, then the oldest go.
const EVENTS_MAX: usize = 60;
/// Most alerts of an instance that are shown (section 5), the first one included.
pub(super) const ALERTS_MAX: usize = 100;
/// Most entries of each list of names.
const NAMES_MAX: usize = 50;

/// Bytes as JSON: of a title, a text, all notes, all status updates, each list of names, and what an event's log says.
const TITLE_BYTES_MAX: usize = 4_096;
const TEXT_BYTES_MAX: usize = 12_288;
const NOTES_BYTES_MAX: usize = 6_144;
const STATUS_BYTES_MAX: usize = 3_072;
const NAMES_BYTES_MAX: usize = 1_024;
const LOG_BYTES_MAX: usize = 160;

/// What is kept of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    pub(super) title: Option<String>,
    pub(super) text: Option<String>,
    pub(super) service: Option<String>,
    /// Who is called.
    pub(super) assignees: Vec<String>,
    pub(super) level: u32,
    pub(super) tags: Vec<String>,
    pub(super) subscribers: Option<Vec<String>>,
    pub(super) impacted: Option<Vec<String>>,
    pub(super) notes: Vec<(i64, String)>,
    pub(super) status: Vec<(i64, String)>,
    pub(super) events: Vec<Happened>,
    /// When alerts came that the instance took in, as far as the log knows.
    pub(super) grouped: Vec<i64>,
    /// When its state changed.
    pub(super) state_at: Option<i64>,
    /// When it calls again.
    pub(super) next: Option<i64>,
}

/// One operation: when, which, and what its log says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Happened(pub(super) i64, pub(super) String, pub(super) Option<View>);

impl Shown {
    pub(super) fn of(view: View) -> Self {
        serde_json::from_value(Value::Object(view)).unwrap_or_default()
    }

    fn into_view(self) -> View {
        match serde_json::to_value(self) {
            Ok(Value::Object(view)) => view,
            _ => View::new(),
        }
    }

    fn happened(&mut self, at: Micros, operation: &str, log: Option<View>) {
        if self.events.len() == EVENTS_MAX {
            self.events.remove(1);
        }
        self.events.push(Happened(at.0, operation.to_owned(), log));
    }

    /// Gives up the oldest and the longest until all of it fits.
    fn fit(&mut self) {
        let bytes = |shown: &Self| serde_json::to_vec(shown).map_or(0, |json| json.len());
        while bytes(self) > VIEW_BYTES_MAX {
            if !self.notes.is_empty() {
                self.notes.remove(0);
            } else if !self.status.is_empty() {
                self.status.remove(0);
            } else if self.events.len() > 1 {
                self.events.remove(1);
            } else if self.grouped.len() > 1 {
                self.grouped.clear();
            } else {
                self.text = None;
                return;
            }
        }
    }
}

/// The view after a statement: `said` is what `create` or `operation` told of it.
pub(super) fn fold(before: View, said: View, at: Micros) -> View {
    let is_new = before.is_empty();
    let mut shown = Shown::of(before);
    let operation = said.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
    match operation.as_str() {
        CREATE if is_new => opened(&mut shown, &said, at),
        // A duplicate that was more than absorbed.
        CREATE => {
            if shown.grouped.len() + 1 < ALERTS_MAX {
                shown.grouped.push(at.0);
            }
        }
        "unmerge" => parted(&mut shown, at),
        _ => changed(&mut shown, &operation, &said, at),
    }
    shown.fit();
    shown.into_view()
}

fn opened(shown: &mut Shown, said: &View, at: Micros) {
    let text = |name: &str, bytes| said.get(name).and_then(Value::as_str).map(|text| within(text, bytes));
    shown.title = text("title", TITLE_BYTES_MAX);
    shown.text = text("text", TEXT_BYTES_MAX);
    shown.service = text("service", NAMES_BYTES_MAX);
    shown.assignees = names(said, "users");
    let room = NAMES_MAX - shown.assignees.len();
    shown.assignees.extend(names(said, "policies").into_iter().take(room));
    shown.tags = names(said, "tags");
    shown.level = 1;
    if let Some(note) = text("note", NOTES_BYTES_MAX) {
        shown.notes.push((at.0, note));
    }
    began(shown, at);
}

/// A new instance, made of what was a part of this one.
fn parted(shown: &mut Shown, at: Micros) {
    *shown = Shown {
        title: shown.title.take(),
        text: shown.text.take(),
        service: shown.service.take(),
        assignees: std::mem::take(&mut shown.assignees),
        tags: std::mem::take(&mut shown.tags),
        level: 1,
        ..Shown::default()
    };
    began(shown, at);
}

fn began(shown: &mut Shown, at: Micros) {
    shown.state_at = Some(at.0);
    shown.next = Some(at.0.saturating_add(NEXT_ALERT_MICROS));
    shown.happened(at, CREATE, None);
}

fn changed(shown: &mut Shown, operation: &str, said: &View, at: Micros) {
    let text = |name: &str, bytes| said.get(name).and_then(Value::as_str).map(|text| within(text, bytes));
    match operation {
        "acknowledge" => {
            shown.state_at = Some(at.0);
            shown.next = Some(at.0.saturating_add(NEXT_ALERT_MICROS));
        }
        "unacknowledge" => shown.state_at = Some(at.0),
        "resolve" | "merge" => {
            shown.state_at = Some(at.0);
            shown.next = None;
        }
        "escalate" => shown.level = shown.level.saturating_add(1),
        "reassign" => shown.assignees = names(said, "reassign_to"),
        "add-responders" => add(&mut shown.assignees, names(said, "assignees")),
        "snooze" => {
            let minutes = said.get("snooze_for").and_then(Value::as_i64).unwrap_or_default();
            shown.next = Some(at.0.saturating_add(minutes.saturating_mul(60_000_000)));
        }
        "notate" => push(&mut shown.notes, at, text("note", NOTES_BYTES_MAX / 2), NOTES_BYTES_MAX),
        "update-status" => push(&mut shown.status, at, text("note", STATUS_BYTES_MAX / 2), STATUS_BYTES_MAX),
        "add-subscribers" => add(shown.subscribers.get_or_insert_default(), names(said, "subscribers")),
        "remove-subscribers" => remove(&mut shown.subscribers, &names(said, "subscribers")),
        "add-impact" => add(shown.impacted.get_or_insert_default(), names(said, "business_service_ref_id")),
        "remove-impact" => remove(&mut shown.impacted, &names(said, "business_service_ref_id")),
        "edit-title" => shown.title = text("title", TITLE_BYTES_MAX),
        "update-tags" => shown.tags = names(said, "tags"),
        _ => {}
    }
    let mut log = said.clone();
    // Texts stand elsewhere.
    ["op", "note", "title", "tags"].into_iter().for_each(|name| drop(log.remove(name)));
    let is_small = serde_json::to_vec(&log).is_ok_and(|json| json.len() <= LOG_BYTES_MAX);
    shown.happened(at, operation, (is_small && !log.is_empty()).then_some(log));
}

/// The names a member says, within the bounds of a list.
fn names(said: &View, member: &str) -> Vec<String> {
    let all = match said.get(member) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        _ => Vec::new(),
    };
    let mut bytes = 0;
    let fits = all.into_iter().take(NAMES_MAX).take_while(|name| {
        bytes += name.chars().map(escaped_bytes).sum::<usize>() + 3;
        bytes <= NAMES_BYTES_MAX
    });
    fits.map(str::to_owned).collect()
}

fn add(list: &mut Vec<String>, names: Vec<String>) {
    for name in names {
        if list.len() < NAMES_MAX && !list.contains(&name) {
            list.push(name);
        }
    }
}

fn remove(list: &mut Option<Vec<String>>, names: &[String]) {
    if let Some(list) = list {
        list.retain(|name| !names.contains(name));
    }
}

fn push(list: &mut Vec<(i64, String)>, at: Micros, text: Option<String>, bytes_max: usize) {
    list.extend(text.map(|text| (at.0, text)));
    let bytes = |list: &[(i64, String)]| serde_json::to_vec(list).map_or(0, |json| json.len());
    while list.len() > 1 && bytes(list) > bytes_max {
        list.remove(0);
    }
}

/// The text, cut to so many bytes inside a JSON text.
fn within(text: &str, bytes_max: usize) -> String {
    const MARK: char = '\u{2026}';
    let (mut bytes, mut end) = (0, 0);
    for (at, character) in text.char_indices() {
        bytes += escaped_bytes(character);
        if bytes > bytes_max {
            return text[..end].chars().chain([MARK]).collect();
        }
        if bytes + MARK.len_utf8() <= bytes_max {
            end = at + character.len_utf8();
        }
    }
    text.to_owned()
}

fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}
