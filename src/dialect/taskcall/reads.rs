//! What is known, in the vendor's shapes (contracts/taskcall.md 3.2, 5). What the proxy cannot know is `null` or `[]`,
//! never missing.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::operation::INSTANCE;
use super::reading::Reading;
use super::view::{ALERTS_MAX, Happened, Shown};
use super::{ALERTS, CREATE, DETAILS, LIST, NEXT_ALERT_MICROS, renumbered, stamp};
use crate::dialect::json::Document;
use crate::dialect::{Asked, Passed, Question, Record};
use crate::event::{Incident, Micros, Severity, State};
use crate::gate::Settings;
use crate::outcome::{Reason, Refusal};

/// Most instances that a list shows, newest first,
const LISTED_MAX: usize = 100;
/// and most that it looks at for them.
const LOOKED_AT_MAX: usize = 500;

pub(super) fn read(question: &Question<'_>) -> Result<Value, Refusal> {
    match question.asked.endpoint {
        DETAILS => Ok(details(&named(question)?, question.integration)),
        ALERTS => Ok(alerts(&named(question)?, question.integration)),
        LIST => list(question),
        _ => found(question),
    }
}

/// The instance that a body names.
fn named(question: &Question<'_>) -> Result<Known, Refusal> {
    let document = question.document.ok_or_else(|| invalid(vec!["instance_id: is required".into()]))?;
    let mut reading = reading(document)?;
    let number = reading.instance(INSTANCE);
    let Some(number) = number.filter(|_| reading.faults.is_empty()) else { return Err(invalid(reading.faults)) };
    let record = question.records.by_number(number);
    let named = |record: Record| Record { incident: renumbered(record.incident, Some(&record.named)), ..record };
    record.map(named).map(Known::of).ok_or_else(|| Refusal::new(Reason::NotFound, "no incident has this id"))
}

fn reading(document: Document<'_>) -> Result<Reading<'_>, Refusal> {
    if document.root.is_object() {
        return Ok(Reading::of(document));
    }
    Err(invalid(vec!["body: must be a JSON object".into()]))
}

fn invalid(faults: Vec<String>) -> Refusal {
    Refusal::new(Reason::InvalidEvent, "the body breaks the rules of this API").with_errors(faults)
}

/// An instance with what was kept for its answers.
struct Known {
    incident: Incident,
    shown: Shown,
}

impl Known {
    fn of(record: Record) -> Self {
        Self { incident: record.incident, shown: Shown::of(record.view) }
    }

    fn status(&self) -> &'static str {
        status(self.incident.state)
    }

    /// When its state changed; to the second where no record says it.
    fn state_at(&self) -> Micros {
        self.shown.state_at.map_or(self.incident.changed_at, Micros)
    }

    fn made_at(&self) -> Micros {
        self.incident.iid.made_at()
    }

    fn resolved_on(&self) -> Option<String> {
        (self.incident.state == State::Resolved).then(|| stamp(self.state_at()))
    }

    fn next_alert(&self) -> Option<String> {
        self.shown.next.filter(|_| self.incident.state != State::Resolved).map(|at| stamp(Micros(at)))
    }

    fn urgency(&self) -> Option<u8> {
        self.incident.severity.map(Severity::level)
    }

    /// Its name is the vendor's alone.
    fn services(&self) -> Value {
        self.shown.service.as_ref().map_or(Value::Null, |service| json!([null, service]))
    }
}

fn status(state: State) -> &'static str {
    match state {
        State::Open => "OPEN",
        State::Acked => "ACKNOWLEDGED",
        State::Resolved => "RESOLVED",
    }
}

fn details(known: &Known, integration: &str) -> Value {
    let Known { incident, shown } = known;
    let texts = |name: &str, list: &[(i64, String)]| -> Value {
        list.iter().map(|(at, text)| json!({ name: text, "timestamp": stamp(Micros(*at)) })).collect()
    };
    let events: Vec<Value> = shown.events.iter().map(|event| happened(event, incident.number)).collect();
    json!({
        "instance_id": incident.number,
        "organization_instance_id": incident.number,
        "status": known.status(),
        "instance_timestamp": stamp(known.made_at()),
        "last_alert_timestamp": stamp(known.made_at()),
        "next_alert_timestamp": known.next_alert(),
        "state_timestamp": stamp(known.state_at()),
        "resolved_on": known.resolved_on(),
        "assignee_level": shown.level.max(1),
        "assignees": shown.assignees,
        "subscribers": shown.subscribers,
        "conference_bridges": null,
        "impacted_business_services": shown.impacted,
        "status_update": if shown.status.is_empty() { Value::Null } else { texts("status_update", &shown.status) },
        "notes": texts("notes", &shown.notes),
        "events": events,
        "task": task(known, integration),
    })
}

fn task(known: &Known, integration: &str) -> Value {
    let shown = &known.shown;
    let made_at = stamp(known.made_at());
    let (date, time) = made_at.split_once('T').unwrap_or_default();
    let iid = known.incident.iid;
    json!({
        "task_id": iid,
        "task_ref_id": iid,
        "related_task_id": iid,
        "task_title": shown.title,
        "text_msg": shown.text.as_deref().unwrap_or_default(),
        "urgency_level": known.urgency(),
        "services": known.services(),
        "assignees": shown.assignees,
        "labels": if shown.tags.is_empty() { Value::Null } else { json!(shown.tags) },
        "integration_key": null,
        "integration_name": integration,
        "created_by": null,
        "task_time": time.get(..8),
        "start_date": date,
        "task_timezone": "UTC",
        "repeat": null,
        "with_completion_notice": false,
    })
}

/// Its log is a text that holds JSON (contracts 8, row 28).
fn happened(event: &Happened, number: u64) -> Value {
    let Happened(at, operation, log) = event;
    let when = stamp(Micros(*at));
    let log = match operation.as_str() {
        CREATE | "acknowledge" => {
            json!({ "next_alert_timestamp": stamp(Micros(at.saturating_add(NEXT_ALERT_MICROS))) }).to_string()
        }
        _ => json!(log.clone().unwrap_or_default()).to_string(),
    };
    let kind = if operation == CREATE { "TRIGGER".to_owned() } else { operation.to_uppercase().replace('-', "_") };
    json!({
        "event_type": kind,
        "event_timestamp": when,
        "event_date": when.get(..10),
        "event_method": "INTEGRATIONS_API",
        "event_by": null,
        "event_log": log,
        "instance_id": number,
    })
}

/// The alerts that an instance took in, newest first; the one that made it last.
fn alerts(known: &Known, integration: &str) -> Value {
    let Known { incident, shown } = known;
    let alert = |status: &str, at: Option<Micros>| {
        json!({
            "instance_id": incident.number,
            "organization_instance_id": incident.number,
            "task_ref_id": incident.iid,
            "task_title": shown.title,
            "text_msg": shown.text.as_deref().unwrap_or_default(),
            "timestamp": at.map(stamp),
            "status": status,
            "urgency_level": known.urgency(),
            "integration_name": integration,
            "services": known.services(),
            "resolved_on": known.resolved_on(),
        })
    };
    let count = usize::try_from(incident.count).unwrap_or(usize::MAX).clamp(1, ALERTS_MAX) - 1;
    let mut times: Vec<Micros> = shown.grouped.iter().rev().map(|at| Micros(*at)).collect();
    // Those that were absorbed are counted, and the last of them is known by its second.
    let told = shown.events.last().map(|event| event.0).into_iter().chain(shown.grouped.last().copied()).max();
    if times.len() < count && told.is_none_or(|told| incident.last_seen.seconds() > Micros(told).seconds()) {
        times.insert(0, incident.last_seen);
    }
    let grouped = (0..count).map(|at| alert("GROUPED", times.get(at).copied()));
    grouped.chain([alert("TRIGGERED", Some(known.made_at()))]).collect()
}

/// The lists of the vendor's components, where there is an account that has them. Incidents are the proxy's own.
const COMPONENTS: [&str; 6] =
    ["services", "escalation-policies", "users", "business-services", "response-sets", "workflows"];

/// Two names of one list (contracts 8, row 29).
const RUNBOOKS: [&str; 2] = ["response-sets", "workflows"];

pub(super) fn passes(asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
    let upstream = settings.taskcall_upstream.clone()?;
    let kind = asked.args.first().filter(|_| asked.endpoint == LIST)?;
    let theirs = settings.taskcall_runbooks.filter(|_| RUNBOOKS.contains(&&**kind)).unwrap_or(kind);
    COMPONENTS.contains(&&**kind).then(|| Passed { upstream, path: format!("/list/{theirs}"), absent: None })
}

/// `/list/{type}`: what the proxy knows of its own; of the vendor's components those that are configured.
fn list(question: &Question<'_>) -> Result<Value, Refusal> {
    let assignment = question.settings.assignment.as_ref();
    // As pairs, as everywhere: a name that only the vendor knows, and the reference.
    let pairs = |references: &[String]| references.iter().map(|reference| json!([null, reference])).collect();
    match question.asked.args.first().map(|kind| &**kind) {
        Some("incidents") => Ok(listed(question, |_| true)),
        Some("services") => {
            Ok(pairs(assignment.and_then(|all| all.service_ref.as_ref()).map_or(&[], std::slice::from_ref)))
        }
        Some("escalation-policies") => Ok(pairs(assignment.map_or(&[], |all| &all.policy_refs))),
        Some("users") => Ok(pairs(assignment.map_or(&[], |all| &all.user_refs))),
        Some("business-services" | "response-sets" | "workflows") => Ok(json!([])),
        _ => Err(Refusal::new(Reason::NotFound, "no such list")),
    }
}

/// `POST /incidents/list`.
fn found(question: &Question<'_>) -> Result<Value, Refusal> {
    let Some(document) = question.document else { return Ok(listed(question, |_| true)) };
    let mut reading = reading(document)?;
    let state = reading.string("status").map(|word| {
        let known = [State::Open, State::Acked, State::Resolved];
        known.into_iter().find(|state| status(*state).eq_ignore_ascii_case(word.trim()))
    });
    if state == Some(None) {
        reading.fault("status", "must be OPEN, ACKNOWLEDGED or RESOLVED");
    }
    let service = reading.string("service_ref_id");
    let [from, to] = ["start_timestamp", "end_timestamp"].map(|name| {
        let at = reading.string(name).map(|text| instant(&text));
        if at == Some(None) {
            reading.fault(name, "must be YYYY-MM-DD HH:MM:SS, in UTC");
        }
        at.flatten()
    });
    if !reading.faults.is_empty() {
        return Err(invalid(reading.faults));
    }
    Ok(listed(question, |known| {
        let made_at = known.made_at();
        state.flatten().is_none_or(|state| known.incident.state == state)
            && service.as_deref().is_none_or(|service| known.shown.service.as_deref() == Some(service))
            && from.is_none_or(|from| made_at >= from)
            && to.is_none_or(|to| made_at <= to)
    }))
}

/// Without a zone it is UTC (section 1).
fn instant(text: &str) -> Option<Micros> {
    let text = text.trim();
    let zoned = || text.parse::<jiff::Timestamp>().ok();
    let bare = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    zoned().or_else(bare).map(|at| Micros(at.as_microsecond()))
}

fn listed(question: &Question<'_>, fits: impl Fn(&Known) -> bool) -> Value {
    let mut rows = Vec::new();
    let (mut before, mut looked_at) = (None, 0);
    while rows.len() < LISTED_MAX && looked_at < LOOKED_AT_MAX {
        let page = question.records.list(before, LISTED_MAX);
        let Some(last) = page.last() else { break };
        before = Some(last.incident.number);
        looked_at += page.len();
        let known = page.into_iter().map(Known::of).filter(|known| fits(known));
        rows.extend(known.map(|known| row(&known)));
    }
    rows.truncate(LISTED_MAX);
    rows.into()
}

fn row(known: &Known) -> Value {
    let incident = &known.incident;
    json!({
        "instance_id": incident.number,
        "organization_instance_id": incident.number,
        "task_ref_id": incident.iid,
        "task_title": known.shown.title,
        "status": known.status(),
        "urgency_level": known.urgency(),
        "services": known.services(),
        "assignees": known.shown.assignees,
        "instance_timestamp": stamp(known.made_at()),
        "next_alert_timestamp": known.next_alert(),
        "state_timestamp": stamp(known.state_at()),
        "resolved_on": known.resolved_on(),
    })
}
