//! `/api/v1/events`: what became of an event, by its uid or by its key. The log is searched for it, one search at a time,
//! on a thread that requests do not need.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};

use super::dispatch::Call;
use super::{Answered, Desk, error, json, names};
use crate::dialect::DIALECTS;
use crate::event::{Incident, Micros, StateKey, Uid};
use crate::forward::Head;
use crate::store::{Bounds, Ending, Happened, Remote, Sought, Stand, Trace, Traced, What};

/// What one search may read of the log, and how long it may take.
const BOUNDS: Bounds = Bounds { bytes_max: 1 << 30, time_max: Duration::from_secs(10) };
/// Events of a key unless it is asked for more.
const EVENTS_USUAL: usize = 20;
/// Senders are answered with an `incident_id`, which looks alike.
const NOT_AN_INCIDENT: &str = "an incident_id is no event_uid: look for the key";

pub(super) async fn one(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    let uid = values.uid("event_uid").unwrap_or_default();
    let trace = match search(desk, move |store| store.trace(Sought::Uid(uid), BOUNDS)).await {
        Ok(trace) => trace,
        Err(refused) => return refused,
    };
    match trace.events.first() {
        None => error(StatusCode::NOT_FOUND, &not_found(uid, &trace)),
        Some(traced) => {
            let mut body = told(desk, traced).await;
            body.insert("complete".to_owned(), trace.complete.into());
            json(StatusCode::OK, &Value::Object(body))
        }
    }
}

fn not_found(uid: Uid, trace: &Trace) -> String {
    let made = uid.made_at();
    match trace.searched_since {
        _ if !trace.complete => "not found in the part of the log that one search may read".to_owned(),
        Some(since) if made < since => {
            format!("no such event: the log goes back to {since}, and the id was made at {made}; {NOT_AN_INCIDENT}")
        }
        Some(since) => format!(
            "no such event in the log, which goes back to {since}; duplicates are not kept, and {NOT_AN_INCIDENT}"
        ),
        None => "no such event: the log is empty".to_owned(),
    }
}

pub(super) async fn by_key(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    let integration = values.owned("integration").unwrap_or_default();
    let key = values.owned("key").unwrap_or_default();
    let newest = values.count("limit").unwrap_or(EVENTS_USUAL);
    // A key may live in several families; each dialect has one.
    let states = DIALECTS.iter().map(|dialect| StateKey::of(&integration, &dialect.family(&[]), &key));
    let known: Vec<_> = states.filter_map(|state| desk.dedup.incident_at(state)).collect();
    let last_at = known.iter().map(|(_, at)| *at).max();
    let incident = known.iter().map(|(incident, _)| incident).max_by_key(|incident| incident.last_seen);
    let trace = search(desk, move |store| {
        store.trace(Sought::Key { integration: &integration, key: &key, last_at, newest }, BOUNDS)
    });
    let trace = match trace.await {
        Ok(trace) => trace,
        Err(refused) => return refused,
    };
    if incident.is_none()
        && trace.events.is_empty()
        && let Some(wrong) = names::unknown(desk, &values)
    {
        return wrong;
    }
    let mut body = Map::new();
    if let Some(incident) = incident {
        body.insert("incident".to_owned(), stands(incident));
    }
    let mut events = vec![];
    for traced in &trace.events {
        events.push(Value::Object(told(desk, traced).await));
    }
    body.insert("events".to_owned(), events.into());
    body.insert("complete".to_owned(), trace.complete.into());
    if let Some(since) = trace.searched_since {
        body.insert("searched_since".to_owned(), stamp(since));
    }
    json(StatusCode::OK, &Value::Object(body))
}

/// Runs a search where it may block, unless there is one.
async fn search(
    desk: &Desk,
    look: impl FnOnce(&crate::store::Store) -> std::io::Result<Trace> + Send + 'static,
) -> Result<Trace, Answered> {
    let Ok(turn) = Arc::clone(&desk.searching).try_acquire_owned() else {
        let mut busy = error(StatusCode::SERVICE_UNAVAILABLE, "another search of the log is under way: try again");
        busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return Err(busy);
    };
    let store = Arc::clone(&desk.store);
    let searched = tokio::task::spawn_blocking(move || {
        // Whoever asked may have gone: the turn ends with the search.
        let _turn = turn;
        look(&store)
    });
    match searched.await {
        Ok(Ok(trace)) => Ok(trace),
        Ok(Err(failed)) => {
            tracing::warn!(error = %failed, "the log cannot be searched");
            Err(error(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be read just now"))
        }
        Err(_) => Err(error(StatusCode::INTERNAL_SERVER_ERROR, "the search failed")),
    }
}

fn stamp(at: Micros) -> Value {
    at.to_string().into()
}

/// An incident as it stands now.
fn stands(incident: &Incident) -> Value {
    let Incident { iid, number, generation, state, severity, count, last_seen, changed_at } = incident;
    let mut shown = json!({
        "iid": iid, "number": number, "generation": generation, "state": state, "count": count,
        "last_seen": last_seen, "changed_at": changed_at,
    });
    if let (Some(severity), Some(members)) = (severity, shown.as_object_mut()) {
        members.insert("severity".to_owned(), severity.level().into());
    }
    shown
}

/// One event with its history.
async fn told(desk: &Desk, traced: &Traced) -> Map<String, Value> {
    let Traced { stored, happened, upstreams } = traced;
    let mut body = Map::new();
    let event = desk.forward.shown(stored).unwrap_or_else(|| json!({ "event_uid": stored.event.uid }));
    body.insert("event".to_owned(), event);
    let now = stored.event.state_key().and_then(|key| desk.dedup.incident(key));
    if let Some(incident) = now.filter(|now| stored.incident.is_some_and(|incident| incident.iid == now.iid)) {
        body.insert("incident".to_owned(), stands(&incident));
    }
    let heads = if upstreams.iter().any(|(_, stand)| *stand == Stand::Waiting) {
        desk.forward.heads(stored.lane, stored.sequence).await
    } else {
        vec![]
    };
    let rows = upstreams.iter().map(|(name, stand)| {
        let head = heads.iter().find(|head| *head.upstream == **name);
        let mut row = upstream(name, *stand, head, stored.sequence);
        let remote = stored.incident.and_then(|incident| desk.store.remote(name, stored.lane, incident.iid));
        put(&mut row, "remote", remote.as_deref().map(named));
        Value::Object(row)
    });
    body.insert("upstreams".to_owned(), rows.collect());
    let received = json!({
        "at": stored.event.received_at, "what": "received",
        "action": stored.event.action, "outcome": stored.outcome,
    });
    body.insert("history".to_owned(), std::iter::once(received).chain(happened.iter().map(step)).collect());
    body
}

/// Puts what is known.
fn put(row: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        row.insert(name.to_owned(), value.into());
    }
}

fn put_ending(row: &mut Map<String, Value>, ending: Ending) {
    match ending {
        Ending::Delivered { status, attempts } => {
            put(row, "status", status);
            put(row, "attempts", Some(attempts).filter(|attempts| *attempts > 0));
        }
        Ending::Dropped(reason) => put(row, "reason", Some(reason.name())),
        Ending::Dead { reason, status, attempts } => {
            put(row, "reason", Some(reason.name()));
            put(row, "status", status);
            put(row, "attempts", Some(attempts));
        }
        Ending::Replayed => {}
    }
}

/// The words of `state` and `what`.
fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Delivered { .. } => "delivered",
        Ending::Dropped(_) => "dropped",
        Ending::Dead { .. } => "dead_letter",
        Ending::Replayed => "replayed",
    }
}

fn upstream(name: &str, stand: Stand, head: Option<&Head>, sequence: u64) -> Map<String, Value> {
    let mut row = Map::new();
    put(&mut row, "upstream", Some(name));
    match stand {
        Stand::Waiting => {
            put(&mut row, "state", Some("waiting"));
            put(&mut row, "under_way", head.map(|head| head.under_way));
            put(&mut row, "attempts", head.map(|head| head.attempts));
            put(&mut row, "status", head.and_then(|head| head.status));
        }
        Stand::Dead(note) => {
            put(&mut row, "state", Some("dead_letter"));
            put(&mut row, "at", Some(stamp(note.at)));
            let ending = Ending::Dead { reason: note.reason, status: note.status, attempts: note.attempts };
            put_ending(&mut row, ending);
            put(&mut row, "dead_letter_id", Some(format!("{name}-{sequence}")));
        }
        Stand::Ended(ending, at) => {
            put(&mut row, "state", Some(word(ending)));
            put(&mut row, "at", Some(stamp(at)));
            put_ending(&mut row, ending);
        }
        Stand::Unknown => put(&mut row, "state", Some("unknown")),
    }
    row
}

/// What the upstream calls the incident.
fn named(remote: &Remote) -> Value {
    let mut shown = json!({ "id": remote.id() });
    if let (Some(url), Some(members)) = (remote.url(), shown.as_object_mut()) {
        members.insert("url".to_owned(), url.into());
    }
    shown
}

fn step(happened: &Happened) -> Value {
    let Happened { at, upstream, what, remote } = happened;
    let mut row = Map::new();
    put(&mut row, "at", Some(stamp(*at)));
    match what {
        What::Ended(ending) => {
            put(&mut row, "what", Some(word(*ending)));
            put(&mut row, "upstream", Some(upstream.as_str()));
            put_ending(&mut row, *ending);
            put(&mut row, "remote", remote.as_ref().map(named));
        }
        What::Reassigned(to) => {
            put(&mut row, "what", Some("reassigned"));
            put(&mut row, "upstream", Some(upstream.as_str()));
            put(&mut row, "to", Some(to.as_str()));
        }
    }
    Value::Object(row)
}
