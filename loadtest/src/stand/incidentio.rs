//! incident.io: incidents v1 and v2 with their idempotency for ever, the v2 edit, the reads, and
//! alert events. Called by `stand.rs`.

mod alerts;
mod edit;
mod incidents;
mod lists;

use serde_json::{Value, json};

use super::Options;
use super::call::{Call, Reply};
use super::contract::{Contract, with_retry_after};
use super::credentials::Credentials;
use super::journal::{HIDDEN, Shown};
use super::ledger::Ledger;
use super::members::Finding;
use super::rate::Usage;
use crate::upstream::fault::RetryAfter;
use jiff::{SignedDuration, Timestamp};
use lists::Lists;
pub(super) use lists::is_category;

const ALERT_BODY_BYTES_AT_MOST: usize = 524_288;

pub(super) struct IncidentIo {
    credentials: Credentials,
    alert_sources: Vec<(String, String)>,
    lists: Lists,
}

/// The two versions of the incidents.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug, PartialEq)]
enum Route {
    Create(Version),
    List(Version),
    Show(Version, String),
    Edit(String),
    Read(lists::Read),
    Alert(String),
}

impl IncidentIo {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            credentials: Credentials::new(&options.credentials),
            alert_sources: options.alert_sources.clone(),
            lists: Lists::new(options),
        }
    }

    /// The secret belongs to the source in the path.
    fn admit_alert(&mut self, call: &Call<'_>, source: &str) -> Result<(), Reply> {
        let basic = call.basic_password();
        let query = call.query_value("token");
        let secret = call.authorization("bearer").or(basic.as_deref()).or(query.as_deref()).unwrap_or_default();
        let known = if self.alert_sources.is_empty() {
            self.credentials.scope(secret).is_some()
        } else {
            let own = self.alert_sources.iter().find(|(id, _)| id == source);
            own.ok_or_else(|| error(call, 404, "not_found", "No such alert source"))?.1 == secret
        };
        if known { Ok(()) } else { Err(unauthorized(call)) }
    }
}

impl Contract for IncidentIo {
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply> {
        let route = route(call)?;
        let scope = if let Route::Alert(source) = &route {
            self.admit_alert(call, source)?;
            if call.body.len() > ALERT_BODY_BYTES_AT_MOST {
                return Err(error(call, 413, "payload_too_large", "The body is larger than 512 KiB"));
            }
            format!("source-{source}")
        } else {
            let scope = call.authorization("bearer").and_then(|key| self.credentials.scope(key));
            scope.ok_or_else(|| unauthorized(call))?
        };
        if call.method.as_str() == "POST" && !call.says_json() {
            return Err(error(call, 415, "unsupported_media_type", "Content-Type must be application/json"));
        }
        Ok(scope)
    }

    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply {
        let route = match route(call) {
            Ok(route) => route,
            Err(reply) => return reply,
        };
        let done = match route {
            Route::Create(version) => incidents::create(call, scope, version, &self.lists, ledger),
            Route::List(version) => Ok(incidents::list(call, scope, version, &self.lists, ledger)),
            Route::Show(version, id) => incidents::show(call, scope, version, &id, &self.lists, ledger),
            Route::Edit(id) => edit::edit(call, scope, &id, &self.lists, ledger),
            Route::Read(read) => self.lists.read(call, &read),
            Route::Alert(_) => alerts::take(call, scope, ledger),
        };
        match done {
            Ok(reply) => reply,
            Err(Refused::Reply(reply)) => reply,
            Err(Refused::Full) => self.refusal(call, 503, None),
        }
    }

    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let (code, message) = match status {
            403 => ("forbidden", "The API key lacks the right"),
            404 => ("not_found", "Not found"),
            422 => ("invalid_value", "Refused"),
            429 => ("too_many_requests", "Too many requests"),
            503 => ("service_unavailable", "Unavailable"),
            _ => ("refused", "Refused"),
        };
        let mut reply = error(call, status, code, message);
        if status == 429 {
            let seconds = retry_after.map_or(60, |retry_after| retry_after.seconds);
            let again = call.at.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(call.at);
            reply.body["rate_limit"] = json!({
                "name": "api_key_name", "limit": 1200, "remaining": 0,
                "retry_after": again.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
        }
        with_retry_after(reply, retry_after, call.at)
    }

    fn rate_headers(&self, usage: &Usage, at: Timestamp) -> Vec<(&'static str, String)> {
        let limit = usage.limit;
        vec![
            ("x-ratelimit-limit", format!("{limit}, {limit};window={}", usage.per.as_secs())),
            ("x-ratelimit-remaining", limit.saturating_sub(usage.used).to_string()),
            ("x-ratelimit-used", usage.used.to_string()),
            ("x-ratelimit-reset", (at.as_second() + i64::from(usage.reset_seconds)).to_string()),
        ]
    }

    fn addressed(&mut self, call: &Call<'_>, ledger: &Ledger) -> Vec<String> {
        match route(call) {
            Ok(Route::Show(_, id) | Route::Edit(id)) => {
                let key = ledger.by_id(&id).and_then(|incident| incident.key.clone());
                key.into_iter().chain([id]).collect()
            }
            _ => Vec::new(),
        }
    }

    fn hide(&self, call: &Call<'_>, shown: &mut Shown) {
        if let Some(query) = call.query {
            let hidden = |pair: &str| match pair.split_once('=') {
                Some(("token", _)) => format!("token={HIDDEN}"),
                _ => pair.to_owned(),
            };
            shown.query = Some(query.split('&').map(hidden).collect::<Vec<_>>().join("&"));
        }
    }
}

/// Why an operation did not happen.
enum Refused {
    Reply(Reply),
    Full,
}

impl From<Reply> for Refused {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

fn route(call: &Call<'_>) -> Result<Route, Reply> {
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let id = |id: &str| id.to_owned();
    let (route, method) = match (&segments[..], call.method.as_str()) {
        (["v1", "incidents"], "GET") => (Route::List(Version::V1), "GET"),
        (["v2", "incidents"], "GET") => (Route::List(Version::V2), "GET"),
        (["v1", "incidents"], _) => (Route::Create(Version::V1), "POST"),
        (["v2", "incidents"], _) => (Route::Create(Version::V2), "POST"),
        (["v1", "incidents", incident], _) => (Route::Show(Version::V1, id(incident)), "GET"),
        (["v2", "incidents", incident], _) => (Route::Show(Version::V2, id(incident)), "GET"),
        (["v2", "incidents", incident, "actions", "edit"], _) => (Route::Edit(id(incident)), "POST"),
        (["v2", "alert_events", "http", source], _) => (Route::Alert(id(source)), "POST"),
        (path, _) => match lists::Read::from_path(path) {
            Some(read) => (Route::Read(read), "GET"),
            None => return Err(error(call, 404, "not_found", "Not found")),
        },
    };
    if call.method.as_str() != method {
        return Err(error(call, 405, "method_not_allowed", "Method not allowed").with("allow", method));
    }
    Ok(route)
}

/// An envelope with one error that lies at no member.
fn error(call: &Call<'_>, status: u16, code: &str, message: &str) -> Reply {
    let kind = match status {
        401 => "authentication_error",
        403 => "authorization_error",
        404 => "not_found",
        422 => "validation_error",
        429 => "too_many_requests",
        503 => "service_unavailable",
        500.. => "internal_error",
        _ => "bad_request",
    };
    let errors = json!([{ "code": code, "message": message }]);
    Reply::new(status, json!({ "type": kind, "status": status, "request_id": call.request_id(), "errors": errors }))
}

fn unauthorized(call: &Call<'_>) -> Reply {
    error(call, 401, "unauthorized", "No valid API key").with("www-authenticate", "Bearer")
}

fn not_json(call: &Call<'_>) -> Reply {
    error(call, 400, "invalid_json", "The body is not a JSON object")
}

fn unprocessable(call: &Call<'_>, findings: &[Finding]) -> Reply {
    let tell = |finding: &Finding| {
        json!({
            "code": finding.code.word(),
            "message": format!("{} {}", finding.field, finding.reason),
            "source": { "field": finding.field },
        })
    };
    let errors: Vec<Value> = findings.iter().map(tell).collect();
    let request_id = call.request_id();
    Reply::new(422, json!({ "type": "validation_error", "status": 422, "request_id": request_id, "errors": errors }))
}

/// RFC 3339 with microseconds, of a time in microseconds since 1970.
fn time(at_us: i64) -> String {
    let at = Timestamp::from_microsecond(at_us).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
