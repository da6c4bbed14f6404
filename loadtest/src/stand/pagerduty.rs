//! PagerDuty: Events API v2, v1 and change events. One open alert for a key under a routing key;
//! v1 and v2 share them. Called by `stand.rs`.

use serde_json::{Map, Value, json};

use super::Options;
use super::call::{Call, Reply, uuid};
use super::contract::{Contract, with_retry_after};
use super::credentials::Credentials;
use super::journal::{HIDDEN, Shown};
use super::ledger::{Effect, Full, Ledger, NewIncident, State};
use super::members::{Code, Members, Text};
use crate::upstream::fault::RetryAfter;

const BODY_BYTES_AT_MOST: usize = 512_000;
const SUMMARY: Text = Text::required(1024);
const KEY_CHARS_AT_MOST: usize = 255;
const ACTIONS: [&str; 3] = ["trigger", "acknowledge", "resolve"];

pub(super) struct PagerDuty {
    credentials: Credentials,
}

#[derive(Clone, Copy, PartialEq)]
enum Api {
    V2,
    V1,
    Change,
}

/// An event as both versions say it.
struct Event {
    action: &'static str,
    key: Option<String>,
    summary: String,
    severity: Option<String>,
}

impl PagerDuty {
    pub(super) fn new(options: &Options) -> Self {
        Self { credentials: Credentials::new(&options.credentials) }
    }
}

impl Contract for PagerDuty {
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply> {
        let api = route(call).ok_or_else(|| Reply::new(404, failure("not found", "Not found", &[])))?;
        if call.method.as_str() != "POST" {
            return Err(Reply::new(405, failure("error", "Method not allowed", &[])).with("allow", "POST"));
        }
        if call.body.len() > BODY_BYTES_AT_MOST {
            return Err(Reply::new(413, failure("invalid event", "Event object is too large", &[])));
        }
        if !call.says_json() {
            return Err(invalid(&["Content-Type must be application/json".to_owned()]));
        }
        let body = call.object().ok_or_else(|| {
            let errors = ["JSON parse error".to_owned()];
            Reply::new(400, failure("unrecognized object", "Event object format is unrecognized", &errors))
        })?;
        let key = body.get(api.credential()).and_then(Value::as_str).unwrap_or_default();
        self.credentials.scope(key).ok_or_else(|| invalid(&["Invalid routing key".to_owned()]))
    }

    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply {
        // `admit` has read both already.
        let (Some(api), Some(body)) = (route(call), call.object()) else { return invalid(&[]) };
        let event = match api {
            Api::V2 => read_v2(&body),
            Api::V1 => read_v1(&body),
            Api::Change => {
                return match read_change(&body) {
                    Ok(()) => {
                        ledger.change_events += 1;
                        Reply::new(202, json!({ "status": "success", "message": "Change event processed" }))
                    }
                    Err(errors) => invalid(&errors),
                };
            }
        };
        let event = match event {
            Ok(event) => event,
            Err(errors) => return invalid(&errors),
        };
        match enter(call, scope, event, body, ledger) {
            Ok(key) => api.success(&key),
            Err(Full) => self.refusal(call, 503, None),
        }
    }

    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let body = match status {
            429 | 403 => failure(
                "throttle exceeded",
                "Requests for this service are arriving too quickly. Please retry later.",
                &[],
            ),
            400..=499 => failure("invalid event", "Event object is invalid", &["refused".to_owned()]),
            _ => failure("error", "Unavailable", &[]),
        };
        with_retry_after(Reply::new(status, body), retry_after, call.at)
    }

    fn status_above_rate(&self, call: &Call<'_>) -> u16 {
        if route(call) == Some(Api::V1) { 403 } else { 429 }
    }

    fn hide(&self, call: &Call<'_>, shown: &mut Shown) {
        let Some(body) = call.object() else { return };
        for member in ["routing_key", "service_key"] {
            // In its quotes: a short key may well be a part of other words.
            if let Some(key) = body.get(member).filter(|key| key.is_string()) {
                shown.body = shown.body.replace(&key.to_string(), &format!("\"{HIDDEN}\""));
            }
        }
    }
}

impl Api {
    fn credential(self) -> &'static str {
        if self == Self::V1 { "service_key" } else { "routing_key" }
    }

    fn success(self, key: &str) -> Reply {
        let (status, member) = if self == Self::V1 { (200, "incident_key") } else { (202, "dedup_key") };
        Reply::new(status, json!({ "status": "success", "message": "Event processed", member: key }))
    }
}

fn route(call: &Call<'_>) -> Option<Api> {
    match call.path {
        "/v2/enqueue" => Some(Api::V2),
        "/generic/2010-04-15/create_event.json" => Some(Api::V1),
        "/v2/change/enqueue" => Some(Api::Change),
        _ => None,
    }
}

fn failure(status: &str, message: &str, errors: &[String]) -> Value {
    let mut body = json!({ "status": status, "message": message });
    if !errors.is_empty() {
        body["errors"] = json!(errors);
    }
    body
}

fn invalid(errors: &[String]) -> Reply {
    Reply::new(400, failure("invalid event", "Event object is invalid", errors))
}

fn texts(members: Members<'_>) -> Vec<String> {
    members.findings.into_iter().map(|finding| format!("'{}' {}", finding.field, finding.reason)).collect()
}

fn action_and_key(members: &mut Members<'_>, action: &str, key: &str) -> (&'static str, Option<String>) {
    let word = members.word(action, &ACTIONS, true).unwrap_or_default();
    let action = ACTIONS.into_iter().find(|known| *known == word).unwrap_or_default();
    let value = members.text(key, Text::optional(KEY_CHARS_AT_MOST)).filter(|text| !text.trim().is_empty());
    if value.is_none() && matches!(action, "acknowledge" | "resolve") && members.findings.is_empty() {
        members.find(key, Code::IsRequired, "is missing or blank");
    }
    (action, value.map(str::to_owned))
}

fn read_v2(body: &Map<String, Value>) -> Result<Event, Vec<String>> {
    let mut members = Members::new(body);
    let (action, key) = action_and_key(&mut members, "event_action", "dedup_key");
    let mut event = Event { action, key, summary: String::new(), severity: None };
    if action == "trigger" {
        for list in ["links", "images"] {
            members.objects(list, usize::MAX);
        }
        if let Some(payload) = members.object("payload", true) {
            let mut payload = Members::below("payload.", payload);
            event.summary = payload.text("summary", SUMMARY).unwrap_or_default().to_owned();
            payload.text("source", Text::required(usize::MAX));
            let levels = ["critical", "warning", "error", "info"];
            event.severity = payload.word("severity", &levels, true).map(str::to_owned);
            for optional in ["timestamp", "component", "group", "class"] {
                payload.text(optional, Text::optional(usize::MAX));
            }
            members.findings.extend(payload.findings);
        }
    }
    if members.findings.is_empty() { Ok(event) } else { Err(texts(members)) }
}

fn read_v1(body: &Map<String, Value>) -> Result<Event, Vec<String>> {
    let mut members = Members::new(body);
    let (action, key) = action_and_key(&mut members, "event_type", "incident_key");
    let mut event = Event { action, key, summary: String::new(), severity: None };
    if action == "trigger" {
        event.summary = members.text("description", SUMMARY).unwrap_or_default().to_owned();
        members.object("details", false);
        members.objects("contexts", usize::MAX);
    }
    if members.findings.is_empty() { Ok(event) } else { Err(texts(members)) }
}

fn read_change(body: &Map<String, Value>) -> Result<(), Vec<String>> {
    let mut members = Members::new(body);
    if let Some(payload) = members.object("payload", true) {
        let mut payload = Members::below("payload.", payload);
        payload.text("summary", SUMMARY);
        payload.text("source", Text::optional(usize::MAX));
        members.findings.extend(payload.findings);
    }
    if members.findings.is_empty() { Ok(()) } else { Err(texts(members)) }
}

/// Gives the event's key.
fn enter(
    call: &Call<'_>,
    scope: &str,
    event: Event,
    mut own: Map<String, Value>,
    ledger: &mut Ledger,
) -> Result<String, Full> {
    let open = event.key.as_deref().and_then(|key| ledger.open_with_key(scope, key));
    let Event { action, key, summary, severity } = event;
    if let Some(alert) = open.and_then(|id| ledger.by_id_mut(&id)) {
        match action {
            "acknowledge" => alert.turn(call, action, State::Acknowledged, "acknowledged"),
            "resolve" => alert.turn(call, action, State::Resolved, "resolved"),
            _ => {
                alert.count += 1;
                alert.severity = severity.clone().or_else(|| alert.severity.take());
                alert.apply(call, action, Effect::Duplicate, severity);
            }
        }
        return Ok(key.unwrap_or_default());
    }
    if action != "trigger" {
        ledger.unknown += 1;
        return Ok(key.unwrap_or_default());
    }
    let serial = ledger.next_serial();
    let key = key.unwrap_or_else(|| uuid(0xb, serial));
    own.retain(|name, _| !matches!(&**name, "routing_key" | "service_key"));
    let new = NewIncident {
        id: format!("Q5A4D{serial:09}"),
        kind: "alert",
        scope: scope.to_owned(),
        key: Some(key.clone()),
        vendor_state: "triggered".to_owned(),
        severity,
        title: summary,
        description: String::new(),
        own,
        ..NewIncident::default()
    };
    ledger.create(call, action, vec!["service".to_owned()], new)?;
    Ok(key)
}
