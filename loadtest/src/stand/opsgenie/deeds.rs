//! Writes of Opsgenie: what a body may hold, and what it does once its time has come.
//! Called by `opsgenie.rs`.

use serde_json::{Map, Value, json};

use crate::stand::call::{Call, Stamp, uuid};
use crate::stand::ledger::{Effect, Incident, Ledger, NewIncident, State};
use crate::stand::members::{Code, Members, Text};

const MESSAGE: Text = Text::required(130);
const ALIAS: Text = Text::optional(512);
const DESCRIPTION_CHARS_AT_MOST: usize = 15_000;
const NOTE_CHARS_AT_MOST: usize = 25_000;
const NAME_CHARS_AT_MOST: usize = 100;
const ENTITY: Text = Text::optional(512);
const TAGS_AT_MOST: usize = 20;
const ACTIONS_AT_MOST: usize = 10;
const TAG_CHARS_AT_MOST: usize = 50;
const PEOPLE_AT_MOST: usize = 50;
/// Names and values together.
const DETAILS_CHARS_AT_MOST: usize = 8000;
const PRIORITIES: [&str; 5] = ["P1", "P2", "P3", "P4", "P5"];

/// The last segment of a path: its action and method.
const NAMED: [(&str, &str, &str); 14] = [
    ("close", "close", "POST"),
    ("acknowledge", "acknowledge", "POST"),
    ("unacknowledge", "unacknowledge", "POST"),
    ("notes", "note", "POST"),
    ("message", "message", "PUT"),
    ("description", "description", "PUT"),
    ("priority", "priority", "PUT"),
    ("tags", "tags", "POST"),
    ("details", "details", "POST"),
    ("snooze", "snooze", "POST"),
    ("escalate", "escalate", "POST"),
    ("assign", "assign", "POST"),
    ("teams", "teams", "POST"),
    ("responders", "responders", "POST"),
];

pub(super) fn named(segment: &str) -> Option<(&'static str, &'static str)> {
    NAMED.iter().find(|(name, ..)| *name == segment).map(|(_, action, method)| (*action, *method))
}

/// How a path names an alert.
pub(super) enum Target {
    Id(String),
    Alias(String),
    Tiny(String),
}

impl Target {
    pub(super) fn read(call: &Call<'_>, identifier: String) -> Result<Self, Map<String, Value>> {
        match call.query_value("identifierType").as_deref() {
            None | Some("id") => Ok(Self::Id(identifier)),
            Some("alias") => Ok(Self::Alias(identifier)),
            Some("tiny") => Ok(Self::Tiny(identifier)),
            Some(_) => Err(Map::from_iter([("identifierType".to_owned(), json!("Must be one of [id, alias, tiny]"))])),
        }
    }

    /// The alert's id. An alias names the open alert alone; a deleted alert has no name.
    pub(super) fn find(&self, scope: &str, ledger: &Ledger) -> Option<String> {
        let found = match self {
            Self::Id(id) => ledger.by_id(id),
            Self::Tiny(tiny) => ledger.all().find(|alert| alert.number.is_some_and(|n| n.to_string() == *tiny)),
            Self::Alias(alias) => ledger.open_with_key(scope, alias).and_then(|id| ledger.by_id(&id)),
        };
        let found = found.filter(|alert| alert.scope == scope && alert.vendor_state != "deleted");
        found.map(|alert| alert.id.clone())
    }
}

/// A write that was accepted.
pub(super) struct Deed {
    action: &'static str,
    target: Option<Target>,
    body: Map<String, Value>,
}

/// Checks a body; the findings are the members of `errors`.
pub(super) fn read(
    action: &'static str,
    target: Option<Target>,
    body: Map<String, Value>,
) -> Result<Deed, Map<String, Value>> {
    let mut members = Members::new(&body);
    match action {
        "create" => check_create(&mut members),
        "message" => drop(members.text("message", MESSAGE)),
        "description" => drop(members.text("description", Text::required(DESCRIPTION_CHARS_AT_MOST))),
        "priority" => drop(members.word("priority", &PRIORITIES, true)),
        "note" => drop(members.text("note", Text::required(NOTE_CHARS_AT_MOST))),
        "tags" => drop(members.texts("tags", TAGS_AT_MOST, TAG_CHARS_AT_MOST, true)),
        "details" => {
            members.object("details", true);
            check_details(&mut members);
        }
        "snooze" => drop(members.text("endTime", Text::required(NAME_CHARS_AT_MOST))),
        "escalate" => drop(members.object("escalation", true)),
        "assign" => drop(members.object("owner", true)),
        "teams" => drop(members.object("team", true)),
        "responders" => drop(members.object("responder", true)),
        _ => {}
    }
    for name in ["user", "source"] {
        members.text(name, Text::optional(NAME_CHARS_AT_MOST));
    }
    if action != "note" {
        members.text("note", Text::optional(NOTE_CHARS_AT_MOST));
    }
    let findings = members.findings;
    if findings.is_empty() {
        return Ok(Deed { action, target, body });
    }
    Err(findings.into_iter().map(|finding| (finding.field, json!(finding.reason))).collect())
}

fn check_create(members: &mut Members<'_>) {
    members.text("message", MESSAGE);
    members.text("alias", ALIAS);
    members.text("description", Text::optional(DESCRIPTION_CHARS_AT_MOST));
    members.text("entity", ENTITY);
    members.word("priority", &PRIORITIES, false);
    members.texts("tags", TAGS_AT_MOST, TAG_CHARS_AT_MOST, false);
    members.texts("actions", ACTIONS_AT_MOST, TAG_CHARS_AT_MOST, false);
    for list in ["responders", "visibleTo"] {
        let kinds: &[&str] =
            if list == "responders" { &["team", "user", "escalation", "schedule"] } else { &["team", "user"] };
        let people = members.objects(list, PEOPLE_AT_MOST);
        let kind = |person: &&Map<String, Value>| {
            let named = ["id", "name", "username"].iter().any(|name| person.get(*name).is_some_and(Value::is_string));
            named && person.get("type").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind))
        };
        if !people.iter().all(kind) {
            members.find(list, Code::InvalidValue, "needs a type and one of id, name and username");
        }
    }
    check_details(members);
}

fn check_details(members: &mut Members<'_>) {
    let Some(details) = members.get("details") else { return };
    let Some(details) = details.as_object() else {
        if members.findings.iter().all(|finding| finding.field != "details") {
            members.find("details", Code::InvalidType, "must be an object");
        }
        return;
    };
    let chars = |text: &str| text.chars().count();
    let sizes = details.iter().map(|(name, value)| value.as_str().map(|value| chars(name) + chars(value)));
    match sizes.sum::<Option<usize>>() {
        None => members.find("details", Code::InvalidType, "must hold strings only"),
        Some(size) if size > DETAILS_CHARS_AT_MOST => {
            members.find("details", Code::TooLong, "hold more than 8000 characters");
        }
        Some(_) => {}
    }
}

/// Does the write; gives the result that its request id tells.
pub(super) fn apply(when: Stamp, scope: &str, deed: Deed, ledger: &mut Ledger) -> Value {
    let Deed { action, target, body } = deed;
    let Some(target) = target else { return create(when, scope, body, ledger) };
    let verb = capitalised(action);
    let found = target.find(scope, ledger);
    let Some(alert) = found.and_then(|id| ledger.by_id_mut(&id)) else {
        ledger.unknown += 1;
        return result(false, &verb, "Alert does not exist", None);
    };
    if !alert.is_open() && !matches!(action, "delete" | "note" | "tags" | "details") {
        let result = result(false, &verb, "Alert is already closed", Some(alert));
        alert.apply(when, action, Effect::Noop, None);
        ledger.unknown += 1;
        return result;
    }
    change(when, action, &body, alert);
    result(true, &verb, &format!("{verb} done"), Some(alert))
}

fn change(when: Stamp, action: &'static str, body: &Map<String, Value>, alert: &mut Incident) {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    if let Some(note) = body.get("note").and_then(Value::as_str) {
        alert.own_push("notes", json!(note));
    }
    let mut severity = None;
    match action {
        "close" => return alert.turn(when, action, State::Resolved, "closed"),
        "acknowledge" => return alert.turn(when, action, State::Acknowledged, "acknowledged"),
        "unacknowledge" => return alert.turn(when, action, State::Open, "open"),
        "delete" => {
            alert.turn(when, action, State::Resolved, "deleted");
            "deleted".clone_into(&mut alert.vendor_state);
            return;
        }
        "message" => text("message").clone_into(&mut alert.title),
        "description" => text("description").clone_into(&mut alert.description),
        "priority" => {
            severity = Some(text("priority").to_owned());
            alert.severity.clone_from(&severity);
        }
        "tags" => body["tags"].as_array().into_iter().flatten().for_each(|tag| alert.own_push("tags", tag.clone())),
        "details" => {
            if let Some(Value::Object(own)) = alert.own.get_mut("details") {
                own.extend(body["details"].as_object().cloned().unwrap_or_default());
            } else {
                alert.own.insert("details".to_owned(), body["details"].clone());
            }
        }
        "snooze" => drop(alert.own.insert("snoozed_until".to_owned(), json!(text("endTime")))),
        "escalate" | "assign" | "teams" | "responders" => {
            let whom = ["escalation", "owner", "team", "responder"].iter().find_map(|name| body.get(*name));
            alert.call_out(when, action, whom.into_iter().map(person).collect());
        }
        _ => {}
    }
    alert.apply(when, action, Effect::Updated, severity);
}

fn create(when: Stamp, scope: &str, mut own: Map<String, Value>, ledger: &mut Ledger) -> Value {
    let text = |name: &str| own.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (message, description) = (text("message"), text("description"));
    let said = Some(text("priority")).filter(|priority| !priority.is_empty());
    let alias = Some(text("alias")).filter(|alias| !alias.trim().is_empty());
    let open = alias.as_deref().and_then(|alias| ledger.open_with_key(scope, alias));
    if let Some(alert) = open.and_then(|id| ledger.by_id_mut(&id)) {
        // The priority of the first stays.
        alert.count += 1;
        alert.apply(when, "create", Effect::Duplicate, said);
        return result(true, "Create", "Deduplicated alert", Some(alert));
    }
    let serial = ledger.next_serial();
    let id = uuid(0xc, serial);
    let responders = own.get("responders").and_then(Value::as_array).into_iter().flatten().map(person).collect();
    if let Some(note) = own.remove("note") {
        own.insert("notes".to_owned(), json!([note]));
    }
    own.retain(|name, _| !matches!(&**name, "message" | "description" | "alias" | "priority"));
    let new = NewIncident {
        key: Some(alias.unwrap_or_else(|| id.clone())),
        id,
        number: Some(serial),
        kind: "alert",
        scope: scope.to_owned(),
        vendor_state: "open".to_owned(),
        severity: said.or_else(|| Some("P3".to_owned())),
        title: message,
        description,
        own,
    };
    match ledger.create(when, "create", responders, new) {
        Ok(alert) => result(true, "Create", "Created alert", Some(alert)),
        Err(_full) => result(false, "Create", "The stand-in is full", None),
    }
}

fn person(person: &Value) -> String {
    let name = ["name", "username", "id"].iter().find_map(|name| person[*name].as_str()).unwrap_or_default();
    match person["type"].as_str() {
        Some(kind) => format!("{kind}:{name}"),
        None => name.to_owned(),
    }
}

fn result(success: bool, action: &str, status: &str, alert: Option<&Incident>) -> Value {
    json!({
        "success": success, "isSuccess": success, "action": action, "status": status,
        "alertId": alert.map_or("", |alert| &alert.id),
        "alias": alert.and_then(|alert| alert.key.as_deref()).unwrap_or_default(),
    })
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_ascii_uppercase() + rest
}
