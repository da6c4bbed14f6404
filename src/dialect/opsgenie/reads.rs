//! Questions (contracts/opsgenie.md 2): how a request ended, one alert, the alerts of an integration.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::address::{self, IdentifierType};
use super::ids::{self, AlertId};
use super::{ALERT, LIST, REQUEST, errors, requests};
use crate::dialect::{Asked, Passed, Question, Record, View};
use crate::event::{Key, KeyKind, Micros, State};
use crate::gate::Settings;
use crate::outcome::{Reason, Refusal};
use crate::vendor;

/// Alerts on a page unless the question says otherwise, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;
/// Most alerts that a page may leave out before it: each is read from the log.
const OFFSET_MAX: usize = 1_000;
/// Longest id of a vendor's request that is asked for.
const REQUEST_BYTES_MAX: usize = 64;
/// An alert is older than the requests on it, as far as clocks go.
const CLOCK_SLACK_MICROS: i64 = 60_000_000;

pub(super) fn answer(question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
    let mut answer = match question.asked.endpoint {
        REQUEST => Map::from_iter([("data".to_owned(), request(question)?)]),
        ALERT => Map::from_iter([("data".to_owned(), one(question)?)]),
        LIST => list(question)?,
        _ => return Err(missing("nothing is asked here")),
    };
    answer.insert("requestId".into(), question.request_id.into());
    Ok((StatusCode::OK, errors::stamped(&answer)))
}

fn missing(message: &str) -> Refusal {
    Refusal::new(Reason::NotFound, message)
}

fn invalid(line: String) -> Refusal {
    Refusal::new(Reason::InvalidEvent, "the question breaks the rules of this API").with_errors(vec![line])
}

/// The text for the path's braces.
fn segment<'q>(question: &Question<'q>) -> &'q str {
    question.asked.args.first().map_or("", |text| text)
}

/// Where senders get the upstream's own answers, it knows what became of the requests that those name.
pub(super) fn passes(asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
    let upstream = settings.opsgenie_upstream.clone().filter(|_| asked.endpoint == REQUEST)?;
    let id = asked.args.first()?;
    let is_one = (1..=REQUEST_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let path = || format!("/v2/alerts/requests/{id}");
    (is_one && requests::ours(id).is_none()).then(|| Passed { upstream, path: path(), absent: None })
}

fn request(question: &Question<'_>) -> Result<Value, Refusal> {
    let unknown = || missing("no such request, or its result is not kept any more");
    let told = requests::told(segment(question), question.integration, question.now).ok_or_else(unknown)?;
    let record = match told.number {
        None => None,
        // A number that was given again, after the log was lost, is another alert's.
        Some(number) => {
            let record = question.records.by_number(number);
            let made_before = |record: &Record| record.incident.iid.made_at().0 <= told.at.0 + CLOCK_SLACK_MICROS;
            Some(record.filter(made_before).ok_or_else(unknown)?)
        }
    };
    let (is_success, status) = told.status();
    let mut data = json!({
        "success": is_success,
        "isSuccess": is_success,
        "action": told.operation.name(),
        "status": status,
        "integrationId": question.integration,
        "processedAt": told.at,
    });
    if let Some(record) = record {
        data["alertId"] = ids::alert_id(&record).into();
        if let Some(key) = &record.key {
            data["alias"] = key.canon().into();
        }
    }
    Ok(data)
}

fn one(question: &Question<'_>) -> Result<Value, Refusal> {
    let address = address::of(segment(question), question.asked.query).map_err(invalid)?;
    let records = question.records;
    let record = match (address.kind(), AlertId::of(address.text())) {
        (IdentifierType::Alias, _) => records.by_key(address.text()),
        (IdentifierType::Tiny, _) => address.text().parse().ok().and_then(|number| records.by_number(number)),
        (IdentifierType::Id, Some(AlertId::Own(iid))) => records.by_iid(iid),
        (IdentifierType::Id, Some(AlertId::Made(alias))) => records.by_key(alias),
        (IdentifierType::Id, None) => None,
    };
    let record = record.ok_or_else(|| missing("no alert has this identifier"))?;
    let mut alert = summary(&record, question.integration);
    for name in ["description", "entity", "actions", "details"] {
        let empty = match name {
            "actions" => json!([]),
            "details" => json!({}),
            _ => json!(""),
        };
        alert[name] = record.view.get(name).cloned().unwrap_or(empty);
    }
    Ok(alert)
}

/// What a list shows of an alert.
fn summary(record: &Record, integration: &str) -> Value {
    let Record { incident, key, view, .. } = record;
    let shown = |name: &str, absent: Value| view.get(name).cloned().unwrap_or(absent);
    let id = ids::alert_id(record);
    let is_made = key.as_ref().is_some_and(|key| key.kind == KeyKind::Generated);
    let alias = if is_made { id.as_str() } else { key.as_ref().map_or("", Key::canon) };
    let mut alert = json!({
        "id": id,
        "tinyId": incident.number.to_string(),
        "alias": alias,
        "message": shown("message", json!("")),
        "status": if incident.state == State::Resolved { "closed" } else { "open" },
        "acknowledged": incident.state == State::Acked,
        "isSeen": incident.state != State::Open,
        "tags": shown("tags", json!([])),
        "snoozed": view.contains_key("snoozedUntil"),
        "count": incident.count,
        "createdAt": incident.iid.made_at(),
        "lastOccurredAt": incident.last_seen,
        "updatedAt": incident.changed_at.max(incident.last_seen),
        "source": shown("source", json!("")),
        "owner": shown("owner", json!("")),
        "priority": incident.severity.map_or("P3", vendor::priority_of),
        "responders": responders(view),
        "integration": {"id": integration, "name": integration, "type": "API"},
        "report": report(record),
    });
    if let Some(until) = view.get("snoozedUntil") {
        alert["snoozedUntil"] = until.clone();
    }
    alert
}

/// Each with an id: published clients refuse one without. Names are all that is known of those that were named.
fn responders(view: &View) -> Vec<Value> {
    let listed = view.get("responders").and_then(Value::as_array).into_iter().flatten();
    let with_id = |responder: &Value| {
        let mut shown = responder.as_object().cloned().unwrap_or_default();
        let named =
            ["id", "name", "username"].iter().find_map(|by| shown.get(*by).filter(|text| text.is_string()).cloned());
        shown.insert("id".into(), named.unwrap_or_else(|| "".into()));
        Value::Object(shown)
    };
    listed.map(with_id).collect()
}

/// Who acknowledged or closed it, and after how many milliseconds.
fn report(record: &Record) -> Value {
    let Record { incident, view, .. } = record;
    let millis = |at: Micros| (at.0 - incident.iid.made_at().0).max(0) / 1_000;
    let mut report = Map::new();
    match incident.state {
        State::Open => {}
        State::Acked => drop(report.insert("ackTime".into(), millis(incident.changed_at).into())),
        State::Resolved => drop(report.insert("closeTime".into(), millis(incident.changed_at).into())),
    }
    for name in ["acknowledgedBy", "closedBy"] {
        report.extend(view.get(name).map(|who| (name.to_owned(), who.clone())));
    }
    report.into()
}

/// Newest first. What this cannot do is refused: an answer that ignores a search would lie.
fn list(question: &Question<'_>) -> Result<Map<String, Value>, Refusal> {
    let (mut limit, mut offset) = (PAGE, 0);
    for (name, value) in form_urlencoded::parse(question.asked.query.as_bytes()) {
        let number = |least: usize, most: usize| {
            let number = value.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| invalid(format!("{name}: must be a number from {least} to {most}")))
        };
        match &*name {
            "limit" => limit = number(1, PAGE_MAX)?,
            "offset" => offset = number(0, OFFSET_MAX)?,
            "sort" if value != "createdAt" => return Err(invalid("sort: only createdAt is served".into())),
            "order" if value != "desc" => return Err(invalid("order: only desc is served".into())),
            "query" | "searchIdentifier" if !value.trim().is_empty() => {
                return Err(invalid(format!("{name}: searches are not served")));
            }
            _ => {}
        }
    }
    let records = question.records.list(None, offset + limit);
    let page: Vec<Value> = records.iter().skip(offset).map(|record| summary(record, question.integration)).collect();
    let link = |offset: usize| format!("/v2/alerts?limit={limit}&offset={offset}&sort=createdAt&order=desc");
    let mut paging = Map::new();
    paging.insert("first".into(), link(0).into());
    if question.records.count() > offset + limit && offset + limit <= OFFSET_MAX {
        paging.insert("next".into(), link(offset + limit).into());
    }
    Ok(Map::from_iter([("data".to_owned(), page.into()), ("paging".to_owned(), paging.into())]))
}
