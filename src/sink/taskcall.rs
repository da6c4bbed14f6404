//! Upstream kind `taskcall`: its Incidents API (contracts/taskcall.md 3, 7). Incidents are addressed by the number that
//! the answer to a create told; senders know the proxy's own numbers, so ids are translated here, as late as can be.
//! Operations of the vendor's own dialect go as they came, with their ids replaced.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::answer::judge;
use super::container::{Container, Home, fenced, object, tag_words};
use super::keys::{Fits, out_key};
use super::text::{quoted, to_characters};
use super::verbatim::{self, Body};
use super::{
    Answer, Ask, Encoded, Kind, Other, Parcel, PathStyle, Runbooks, Sink, Statement, Unsaid, UpstreamConfig, Verdict,
};
use crate::event::{Action, Assignment, DESCRIPTION_BYTES_MAX, Micros, NOTE_CHARS_MAX, Severity, TITLE_CHARS_MAX};
use crate::outcome::Outcome;
use crate::store::Remote;

const DIALECT: &str = "taskcall";
/// None is documented; the model's own keys are no longer.
const KEY_BYTES_MAX: usize = 512;
/// As at intake: none is documented.
const BODY_BYTES_MAX: usize = 512_000;

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 4] = [400, 401, 403, 404];

/// An operation, and the second name of the level that it sets.
const AMEND: &str = "amend-urgency";

/// Operations that the vendor would do twice.
const ONCE: [&str; 5] = ["notate", "escalate", "snooze", "run-response-set", "run-workflow"];

/// Members that may come as one text here, and that the vendor wants as a list.
const LISTS: [&str; 3] = ["reassign_to", "assignees", "subscribers"];
/// Members that may come as an integer here, and that the vendor wants as a text.
const TEXTS: [&str; 2] = ["dedup_key", "task_ref_id"];

/// What a create has members for.
const HOMES: &[Home] = &[Home::Description, Home::Severity, Home::Tags, Home::Assignment, Home::Note];

pub struct TaskCall;

impl Sink for TaskCall {
    fn kind(&self) -> Kind {
        Kind::TaskCall
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        match statement.action {
            Action::Trigger | Action::Acknowledge | Action::Unacknowledge | Action::Resolve => true,
            // Other dialects' notes and severities have an operation of their own here; titles and the like have not.
            Action::Update => {
                statement.dialect == DIALECT || matches!(operation(statement.endpoint), "notes" | "priority")
            }
            Action::Admin => statement.dialect == DIALECT,
            Action::Change => false,
        }
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let raised = ask.stored.outcome == Outcome::Escalated;
        match (event.action, ask.remote) {
            (Action::Trigger, Some(_)) if raised => amend(ask),
            // A duplicate that is passed on: the vendor suppresses it while the key is open there.
            (Action::Trigger, _) => Ok(create(ask)),
            // What it makes has no name there yet: it is said of the instance that it parts from.
            _ if parts(ask) => own_operation(ask, &*target(ask)?),
            (_, None) => Err(Unsaid::Unresolvable),
            (_, Some(remote)) if event.dialect == DIALECT => own_operation(ask, remote),
            (Action::Acknowledge, _) => plain(ask, "acknowledge"),
            (Action::Unacknowledge, _) => plain(ask, "unacknowledge"),
            (Action::Resolve, _) => plain(ask, "resolve"),
            (Action::Update, _) if ask.said.content.note.is_some() => notate(ask),
            (Action::Update, _) => amend(ask),
            (action, _) => Err(Unsaid::NotExpressible(action)),
        }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        match judge(answer, &PERMANENT, now) {
            Verdict::Delivered(_) => Verdict::Delivered(instance_of(&answer.body)),
            verdict => verdict,
        }
    }

    fn suppresses(&self) -> bool {
        true
    }

    fn question(&self, path: &str, upstream: &UpstreamConfig) -> Option<Parcel> {
        Some(Parcel::default().by(hyper::Method::GET).to(path).authorized("token", upstream))
    }
}

/// The number a create was answered with.
fn instance_of(body: &[u8]) -> Option<Remote> {
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let number = number(answer.get("instance_id")?)?;
    Remote::new(&number.to_string(), None)
}

/// An integer, or the text of one; integral floats count (contracts/taskcall.md 2).
fn number(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            // Beyond 2^53 a float is no number of anything.
            let is_whole = float.fract() == 0.0 && (1.0..9_007_199_254_740_992.0).contains(&float);
            is_whole.then_some(float as u64)
        })?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number > 0).then_some(number)
}

/// The last step of a path: `create` of `incidents/create`.
fn operation(endpoint: &str) -> &str {
    let endpoint = endpoint.trim_end_matches('/');
    endpoint.rsplit('/').next().unwrap_or(endpoint)
}

fn parcel(ask: &Ask<'_>, operation: &str, body: impl Into<bytes::Bytes>) -> Parcel {
    let prefix = match ask.upstream.vendor.path_style {
        PathStyle::Root => "",
        PathStyle::Incidents => "/incidents",
    };
    Parcel::json(body).to(format!("{prefix}/{operation}")).authorized("token", ask.upstream)
}

fn encoded(ask: &Ask<'_>, operation: &str, body: impl Into<bytes::Bytes>) -> Encoded {
    let once = ONCE.contains(&operation);
    Encoded { once, ..Encoded::new(ask.stored.event.uid, parcel(ask, operation, body)) }
}

/// The incident's number at the vendor, as JSON. A number, unless the vendor told something else.
fn instance(remote: &Remote) -> String {
    let id = remote.id();
    if id.bytes().all(|byte| byte.is_ascii_digit()) { id.to_owned() } else { quoted(id) }
}

fn about<'a>(ask: &Ask<'_>, rest: impl IntoIterator<Item = (&'a str, String)>) -> Result<String, Unsaid> {
    let remote = ask.remote.ok_or(Unsaid::Unresolvable)?;
    Ok(object([("instance_id", instance(remote))].into_iter().chain(rest)))
}

fn plain(ask: &Ask<'_>, operation: &str) -> Result<Encoded, Unsaid> {
    Ok(encoded(ask, operation, about(ask, [])?))
}

fn amend(ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
    let event = &ask.stored.event;
    let severity = event.severity.or(ask.said.content.severity).ok_or(Unsaid::NotExpressible(event.action))?;
    Ok(encoded(ask, AMEND, about(ask, urgency(ask, severity))?))
}

/// The level under its name, and where that is configured under the vendor's second one (section 7).
fn urgency(ask: &Ask<'_>, severity: Severity) -> impl Iterator<Item = (&'static str, String)> {
    let level = severity.level().to_string();
    let second = ask.upstream.vendor.amend_both.then(|| (AMEND, level.clone()));
    std::iter::once(("urgency_level", level)).chain(second)
}

/// Which of two names an operation on runbooks has there; `None`: it is no such one, or goes by the sender's.
fn runbooks(ask: &Ask<'_>, operation: &str) -> Option<Runbooks> {
    let is_one = [Runbooks::ResponseSets, Runbooks::Workflows].iter().any(|one| one.operation() == operation);
    ask.upstream.vendor.runbooks.filter(|theirs| is_one && theirs.operation() != operation)
}

fn notate(ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
    let note = ask.said.content.note.as_deref().unwrap_or_default();
    let short = to_characters(note, NOTE_CHARS_MAX);
    let cut = if short.len() < note.len() { vec!["notes"] } else { vec![] };
    Ok(Encoded { cut, ..encoded(ask, "notate", about(ask, [("notes", quoted(&short))])?) })
}

/// An operation of the vendor's own dialect: its body with the ids replaced, where that is what the vendor reads; else
/// written anew, member by member.
fn own_operation(ask: &Ask<'_>, remote: &Remote) -> Result<Encoded, Unsaid> {
    let event = &ask.stored.event;
    let operation = operation(&event.endpoint);
    let mut ids = vec![("instance_id", instance(remote))];
    let members: Map<String, Value> = serde_json::from_slice(without_mark(&event.raw)).unwrap_or_default();
    if operation == "merge" {
        let survivor =
            members.get("related_instance_id").and_then(number).ok_or(Unsaid::NotExpressible(event.action))?;
        ids.push(("related_instance_id", instance(&*other(ask, survivor)?)));
    }
    // The vendor may not know what was tolerated here.
    let renamed = runbooks(ask, operation);
    let is_same = verbatim::is_allowed(ask, &[DIALECT], BODY_BYTES_MAX)
        && renamed.is_none()
        && !(operation == AMEND && ask.upstream.vendor.amend_both)
        && !members.keys().any(|name| matches!(name.as_str(), "amend-urgency" | "amend_urgency"))
        && members.iter().all(|(name, value)| vendors_form(name, value).is_none());
    let as_it_came = if is_same { Body::read(&event.raw).and_then(|body| body.with(&ids)) } else { None };
    let body = as_it_came.unwrap_or_else(|| anew(ask, members, &ids).into_bytes());
    let operation = match renamed {
        Some(theirs) => theirs.operation(),
        None => operation,
    };
    Ok(encoded(ask, operation, body))
}

/// The vendor's own form of what is accepted here in another one (contracts/taskcall.md 2); `None`: it is that already.
fn vendors_form(name: &str, value: &Value) -> Option<Value> {
    let is_empty = |element: &Value| element.as_str() == Some("");
    match value {
        Value::String(_) if LISTS.contains(&name) => Some(Value::from(vec![value.clone()])),
        Value::Number(number) if TEXTS.contains(&name) => Some(Value::from(number.to_string())),
        Value::Array(list) if list.iter().any(is_empty) => {
            Some(list.iter().filter(|element| !is_empty(element)).cloned().collect())
        }
        _ => None,
    }
}

/// Whether it makes a new instance of a part of another one.
fn parts(ask: &Ask<'_>) -> bool {
    let event = &ask.stored.event;
    event.dialect == DIALECT && operation(&event.endpoint) == "unmerge"
}

/// What the vendor calls the incident that the event addresses, where that is not the event's own.
fn target(ask: &Ask<'_>) -> Result<Arc<Remote>, Unsaid> {
    let number = ask.stored.event.target.as_ref().and_then(|target| target.value.parse().ok());
    other(ask, number.ok_or(Unsaid::Unresolvable)?)
}

fn other(ask: &Ask<'_>, number: u64) -> Result<Arc<Remote>, Unsaid> {
    match ask.others.by_number(number) {
        Other::Known(remote) => Ok(remote),
        Other::NotYet => Err(Unsaid::NotYet),
        Other::Unknown => Err(Unsaid::Unresolvable),
    }
}

/// Some editors' first character, which is no part of the text.
fn without_mark(raw: &[u8]) -> &[u8] {
    raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(raw)
}

/// The members of an operation in the vendor's own form.
fn anew(ask: &Ask<'_>, members: Map<String, Value>, ids: &[(&'static str, String)]) -> String {
    let operation = operation(&ask.stored.event.endpoint);
    let runbooks = runbooks(ask, operation);
    let mut all: Vec<(Cow<'_, str>, String)> =
        ids.iter().map(|(name, json)| (Cow::Borrowed(*name), json.clone())).collect();
    for (name, value) in members {
        let json = match (name.as_str(), value) {
            ("instance_id" | "related_instance_id", _) => continue,
            ("urgency_level" | "amend-urgency" | "amend_urgency", _) => continue,
            ("snooze_for", value) => number(&value).map_or_else(|| value.to_string(), |number| number.to_string()),
            (name, value) => vendors_form(name, &value).unwrap_or(value).to_string(),
        };
        let renamed = runbooks.filter(|_| matches!(name.as_str(), "response_set_ref_id" | "workflow_ref_id"));
        all.push((renamed.map_or(Cow::Owned(name), |theirs| Cow::Borrowed(theirs.member())), json));
    }
    let severity = ask.stored.event.severity.or(ask.said.content.severity);
    if let Some(severity) = severity.filter(|_| operation == AMEND) {
        all.extend(urgency(ask, severity).map(|(name, json)| (Cow::Borrowed(name), json)));
    }
    object(all.iter().map(|(name, json)| (&**name, json.clone())))
}

fn create(ask: &Ask<'_>) -> Encoded {
    if let Some(body) = create_as_it_came(ask) {
        return encoded(ask, "create", body);
    }
    let (event, content) = (&ask.stored.event, &ask.said.content);
    let mut cut = Vec::new();
    let title = ask.said.title_of(event);
    let short = to_characters(&title, TITLE_CHARS_MAX);
    if *short != *title {
        cut.push("title");
    }
    let mut body = vec![("title", quoted(&short))];
    body.extend(assignment(ask));
    let description = content.description.as_deref().unwrap_or_default();
    let (text, whole) = fenced(description, &Container::of(ask, HOMES), DESCRIPTION_BYTES_MAX);
    if !whole {
        cut.push("description");
    }
    body.extend((!text.is_empty()).then(|| ("description", quoted(&text))));
    let severity = event.severity.or(content.severity);
    body.extend(severity.map(|severity| ("urgency_level", severity.level().to_string())));
    body.extend(content.note.as_deref().map(|note| ("notes", quoted(&to_characters(note, NOTE_CHARS_MAX)))));
    let tags = tag_words(ask.said);
    body.extend((!tags.is_empty()).then(|| ("tags", Value::from(tags).to_string())));
    body.push(("dedup_key", quoted(&key(ask))));
    Encoded { cut, ..encoded(ask, "create", object(body.into_iter())) }
}

/// Always sent: a repeat is harmless while the incident is open.
fn key(ask: &Ask<'_>) -> String {
    out_key(ask.stored, &[DIALECT], ask.upstream, Fits::Bytes(KEY_BYTES_MAX))
}

/// The event's own assignment, else the configured one.
fn assignment(ask: &Ask<'_>) -> Vec<(&'static str, String)> {
    let list = |name, all: Vec<&str>| (!all.is_empty()).then(|| (name, Value::from(all).to_string()));
    let own = ask.said.content.assignment.as_deref();
    let own = own.filter(|own| {
        let Assignment { service_ref, policy_refs, user_refs, .. } = own;
        service_ref.is_some() || !policy_refs.is_empty() || !user_refs.is_empty()
    });
    let configured = &ask.upstream.vendor;
    let (service, policies, users) = match own {
        Some(own) => (
            own.service_ref.as_deref(),
            own.policy_refs.iter().map(String::as_str).collect(),
            own.user_refs.iter().map(String::as_str).collect(),
        ),
        None => (
            configured.service_ref_id.as_deref(),
            configured.policy_ref_id.iter().map(|one| &**one).collect(),
            configured.users.iter().map(|one| &**one).collect(),
        ),
    };
    let service = service.map(|service| ("service_ref_id", quoted(service)));
    service.into_iter().chain(list("policy_ref_id", policies)).chain(list("users", users)).collect()
}

/// The sender's own create, where the vendor reads it as it was read here and it has a key.
fn create_as_it_came(ask: &Ask<'_>) -> Option<Vec<u8>> {
    let event = &ask.stored.event;
    if !verbatim::is_allowed(ask, &[DIALECT], BODY_BYTES_MAX) || operation(&event.endpoint) != "create" {
        return None;
    }
    let body = Body::read(&event.raw)?;
    let has_key = body.text("dedup_key").as_deref() == Some(event.key.as_ref()?.canon());
    let is_integer =
        |name| body.get(name).is_none_or(|json| json == "null" || json.bytes().all(|byte| byte.is_ascii_digit()));
    let is_list = |name| body.get(name).is_none_or(|json| json == "null" || json.starts_with('['));
    let names_somebody = ["service_ref_id", "policy_ref_id", "users"]
        .iter()
        .any(|name| body.get(name).is_some_and(|json| !matches!(json, "null" | "\"\"" | "[]")));
    let fits = body.fits("title", TITLE_CHARS_MAX)
        && body.text("description").is_none_or(|text| text.len() <= DESCRIPTION_BYTES_MAX);
    let agrees = has_key
        && fits
        && is_integer("urgency_level")
        && is_list("policy_ref_id")
        && is_list("users")
        && names_somebody;
    agrees.then(|| event.raw.to_vec())
}

#[cfg(test)]
mod tests;
