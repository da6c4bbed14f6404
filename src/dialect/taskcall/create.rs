//! `create` (contracts/taskcall.md 3.1).

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::json;

use super::reading::Reading;
use crate::dialect::json::{Document, Kind, Value};
use crate::dialect::{Asked, Decoded, Faults, Judged, View};
use crate::event::{ASSIGNED_MAX, Action, Assignment, is_blank};

const SERVICE: &str = "service_ref_id";
const POLICIES: &str = "policy_ref_id";
const USERS: &str = "users";

pub(super) fn decode<'d>(asked: &Asked<'_>, document: Document<'d>) -> Result<Decoded<'d>, Faults> {
    let mut reading = Reading::of(document);
    reading.title();
    let mut fills = None;
    let mut assignment = assignment(&mut reading);
    if is_empty(&assignment) {
        (assignment, fills) = filled(asked, &mut reading);
    }
    reading.description();
    let severity = reading.urgency("urgency_level");
    if let Some(note) = reading.string("notes").filter(|note| !is_blank(note)) {
        reading.note("notes", note);
    }
    if let Some(names) = reading.strings("tags") {
        reading.tags(names);
    }
    let key = reading.key("dedup_key");
    if !reading.faults.is_empty() {
        return Err(reading.faults);
    }
    let extra = reading.extra();
    let mut content = reading.content;
    content.severity = severity;
    content.assignment = (!is_empty(&assignment)).then(|| Box::new(assignment));
    // Of an event that was stored nobody shows anything any more.
    let view = asked.rules.settings.map(|_| Box::new(view(&content)));
    Ok(Decoded { judged: Judged { key, severity, fills, view, ..Judged::of(Action::Trigger) }, content, extra })
}

/// Who is called, as far as the body says.
fn assignment(reading: &mut Reading<'_>) -> Assignment {
    let service = reading.string(SERVICE).filter(|service| !is_blank(service));
    let mut list = |name| {
        let mut all = reading.strings(name).unwrap_or_default();
        if all.len() > ASSIGNED_MAX {
            all.truncate(ASSIGNED_MAX);
            reading.content.cut("truncated", name);
        }
        all.into_iter().map(Cow::into_owned).collect()
    };
    Assignment {
        policy_refs: list(POLICIES),
        user_refs: list(USERS),
        service_ref: service.map(Cow::into_owned),
        responders: None,
    }
}

fn is_empty(assignment: &Assignment) -> bool {
    assignment.service_ref.is_none() && assignment.policy_refs.is_empty() && assignment.user_refs.is_empty()
}

/// Who is called by an incident that names nobody: as configured when it came. Stored with it, for it may be forwarded
/// under another configuration.
fn filled(asked: &Asked<'_>, reading: &mut Reading<'_>) -> (Assignment, Option<Bytes>) {
    if let Some(stored) = asked.envelope {
        return (stored_assignment(stored), None);
    }
    let Some(settings) = asked.rules.settings else { return (Assignment::default(), None) };
    match &settings.assignment {
        Some(configured) => {
            let Assignment { service_ref, policy_refs, user_refs, .. } = configured;
            let text = json!({ SERVICE: service_ref, POLICIES: policy_refs, USERS: user_refs }).to_string();
            (configured.clone(), Some(text.into()))
        }
        None => {
            // What is wrong with them is said already.
            let is_said = |name: &str| reading.faults.iter().any(|fault| fault.starts_with(name));
            if ![SERVICE, POLICIES, USERS].into_iter().any(is_said) {
                reading.fault(SERVICE, "is required, or policy_ref_id, or users");
            }
            (Assignment::default(), None)
        }
    }
}

fn stored_assignment(stored: Document<'_>) -> Assignment {
    let text = |value: Value<'_>| match value.kind() {
        Kind::String(text) => Some(text.to_owned()),
        _ => None,
    };
    let list = |name| {
        let value = stored.root.member(name);
        value.into_iter().flat_map(Value::elements).filter_map(text).collect()
    };
    Assignment {
        service_ref: stored.root.member(SERVICE).and_then(text),
        policy_refs: list(POLICIES),
        user_refs: list(USERS),
        responders: None,
    }
}

/// What answers show of it later.
fn view(content: &crate::event::Content<'_>) -> View {
    let assignment = content.assignment.as_deref();
    let tags: Vec<&str> = content.tags.iter().map(|(name, _)| &**name).collect();
    let said = json!({
        "op": super::CREATE,
        "title": content.title,
        "text": content.description,
        "service": assignment.and_then(|assignment| assignment.service_ref.as_deref()),
        "policies": assignment.map(|assignment| &assignment.policy_refs),
        "users": assignment.map(|assignment| &assignment.user_refs),
        "note": content.note,
        "tags": tags,
    });
    match said {
        serde_json::Value::Object(view) => view,
        _ => View::new(),
    }
}
