//! Squadcast: APIv2 and the legacy API. Equal `event_id`s make several incidents, and one resolve
//! resolves them together; nothing is deduplicated. Called by `stand.rs`.

use serde_json::{Map, Value, json};

use super::Options;
use super::call::{Call, Reply};
use super::contract::{Contract, with_retry_after};
use super::credentials::Credentials;
use super::journal::{HIDDEN, Shown};
use super::ledger::{Ledger, NewIncident, State};
use super::members::{Code, Members, Text};
use crate::upstream::fault::RetryAfter;

const BODY_BYTES_AT_MOST: usize = 30_000;
const DESCRIPTION_BYTES_AT_MOST: usize = 15_000;
const EVENT_ID_BYTES_AT_MOST: usize = 512;
/// A resolve reaches so many, the latest.
const RESOLVED_AT_ONCE: usize = 100;

pub(super) struct Squadcast {
    credentials: Credentials,
}

/// The two paths.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    V2,
    Legacy,
}

impl Squadcast {
    pub(super) fn new(options: &Options) -> Self {
        Self { credentials: Credentials::new(&options.credentials) }
    }
}

impl Contract for Squadcast {
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply> {
        let Some((_, key)) = route(call) else { return Err(error(call, 404, "not found", &[])) };
        if call.method.as_str() != "POST" {
            return Err(error(call, 405, "method not allowed", &[]).with("allow", "POST"));
        }
        let scope = self.credentials.scope(&key).ok_or_else(|| error(call, 404, "unknown key", &[]))?;
        if call.body.len() > BODY_BYTES_AT_MOST {
            return Err(error(call, 413, "the body is larger than 30 KB", &[]));
        }
        if !call.says_json() {
            return Err(error(call, 415, "content type must be application/json", &[]));
        }
        Ok(scope)
    }

    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply {
        let Some(body) = call.object() else { return error(call, 400, "the body is not a JSON object", &[]) };
        let legacy = matches!(route(call), Some((Api::Legacy, _)));
        let mut members = Members::new(&body);
        let resolves = !legacy && is_resolve(&mut members);
        let event_id = event_id(&mut members);
        if resolves && event_id.is_none() && members.findings.is_empty() {
            members.find("event_id", Code::IsRequired, "is required");
        }
        members.object("tags", false);
        if !resolves {
            check_trigger(&mut members);
        }
        if !members.findings.is_empty() {
            let errors: Vec<_> = members.findings.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
            return error(call, 400, "the body is invalid", &errors);
        }
        match (resolves, event_id) {
            (true, Some(key)) => resolve(call, scope, &key, ledger),
            (_, key) => {
                if trigger(call, scope, key, &body, ledger).is_none() {
                    return self.refusal(call, 503, None);
                }
            }
        }
        let mut answer = json!({ "status": "accepted", "request_id": call.request_id() });
        if let Some(event_id) = body.get("event_id") {
            answer["event_id"] = event_id.clone();
        }
        Reply::new(202, answer)
    }

    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let message = match status {
            429 => "too many incidents in this minute",
            503 => "unavailable",
            _ => "refused",
        };
        with_retry_after(error(call, status, message, &[]), retry_after, call.at)
    }

    fn hide(&self, call: &Call<'_>, shown: &mut Shown) {
        // Also behind a path that is none: whatever stands last may be a key.
        let trimmed = call.path.trim_end_matches('/');
        if let Some((front, _)) = trimmed.rsplit_once('/') {
            shown.path = format!("{front}/{HIDDEN}");
        }
    }
}

fn route(call: &Call<'_>) -> Option<(Api, String)> {
    let segments = call.segments();
    match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["v2", "incidents", "api", key] => Some((Api::V2, key.to_owned())),
        ["v1", "incidents", "create", key] => Some((Api::Legacy, key.to_owned())),
        _ => None,
    }
}

fn error(call: &Call<'_>, status: u16, message: &str, errors: &[String]) -> Reply {
    let body = json!({ "status": "error", "message": message, "errors": errors, "request_id": call.request_id() });
    Reply::new(status, body)
}

fn is_resolve(members: &mut Members<'_>) -> bool {
    match members.get("status") {
        None => false,
        Some(Value::String(word)) => match word.trim().to_ascii_lowercase().as_str() {
            "" | "trigger" | "triggered" => false,
            "resolve" | "resolved" => true,
            _ => {
                members.find("status", Code::InvalidValue, "must be trigger or resolve");
                false
            }
        },
        Some(_) => {
            members.find("status", Code::InvalidType, "must be a string");
            false
        }
    }
}

/// `6` and `"6"` are the same.
fn event_id(members: &mut Members<'_>) -> Option<String> {
    let text = match members.get("event_id") {
        None => return None,
        Some(Value::String(text)) if text.trim().is_empty() => return None,
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            members.find("event_id", Code::InvalidType, "must be a string or an integer");
            return None;
        }
    };
    if text.len() > EVENT_ID_BYTES_AT_MOST {
        members.find("event_id", Code::TooLong, "is longer than 512 bytes");
        return None;
    }
    Some(text)
}

fn check_trigger(members: &mut Members<'_>) {
    members.text("message", Text::required(usize::MAX));
    let description = members.text("description", Text::optional(usize::MAX));
    if members.get("description").is_none() {
        members.find("description", Code::IsRequired, "is required");
    }
    if description.is_some_and(|text| text.len() > DESCRIPTION_BYTES_AT_MOST) {
        members.find("description", Code::TooLong, "is longer than 15000 bytes");
    }
}

fn trigger(
    call: &Call<'_>,
    scope: &str,
    key: Option<String>,
    body: &Map<String, Value>,
    ledger: &mut Ledger,
) -> Option<()> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let priority = text("priority").to_ascii_uppercase();
    let mut own = body.clone();
    for known in ["message", "description", "status", "event_id", "priority"] {
        own.remove(known);
    }
    let new = NewIncident {
        id: format!("5a4d{:020x}", ledger.next_serial()),
        kind: "incident",
        scope: scope.to_owned(),
        key,
        vendor_state: "triggered".to_owned(),
        severity: matches!(&*priority, "P1" | "P2" | "P3" | "P4" | "P5").then_some(priority),
        title: text("message"),
        description: text("description"),
        own,
        ..NewIncident::default()
    };
    ledger.create(call, "trigger", vec!["service".to_owned()], new).ok().map(|_| ())
}

fn resolve(call: &Call<'_>, scope: &str, key: &str, ledger: &mut Ledger) {
    let open = ledger.with_key(scope, key).filter(|incident| incident.is_open());
    let ids: Vec<String> = open.take(RESOLVED_AT_ONCE).map(|incident| incident.id.clone()).collect();
    ledger.unknown += u64::from(ids.is_empty());
    for id in ids {
        if let Some(incident) = ledger.by_id_mut(&id) {
            incident.turn(call, "resolve", State::Resolved, "resolved");
        }
    }
}
