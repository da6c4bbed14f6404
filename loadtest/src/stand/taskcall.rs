//! TaskCall: the Incidents API with both path prefixes. An instance is addressed by its integer
//! `instance_id`; the number people see is another. Called by `stand.rs`.

mod create;
mod operations;
mod reads;

use jiff::Timestamp;
use serde_json::json;

use super::Options;
use super::call::{Call, Reply};
use super::contract::{Contract, with_retry_after};
use super::credentials::Credentials;
use super::ledger::{Full, Ledger};
use super::members::Finding;
use crate::upstream::fault::RetryAfter;
use operations::Operation;

pub(super) struct TaskCall {
    credentials: Credentials,
    suppressed_without_id: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Route {
    Create,
    Details,
    Alerts,
    /// POST `/incidents/list`.
    Search,
    /// GET `/list/{type}`.
    List(String),
    Operation(Operation),
}

impl TaskCall {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            credentials: Credentials::new(&options.credentials),
            suppressed_without_id: options.suppressed_without_id,
        }
    }
}

impl Contract for TaskCall {
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply> {
        let route = route(call).ok_or_else(|| error(404, "not_found", "no such operation"))?;
        let method = if matches!(route, Route::List(_)) { "GET" } else { "POST" };
        if call.method.as_str() != method {
            return Err(error(405, "method_not_allowed", "method not allowed").with("allow", method));
        }
        let scope = call.authorization("token").and_then(|key| self.credentials.scope(key));
        let scope =
            scope.ok_or_else(|| error(401, "unauthorized", "no valid API key").with("www-authenticate", "token"))?;
        if method == "POST" && !call.says_json() {
            return Err(error(415, "unsupported_media_type", "Content-Type must be application/json"));
        }
        Ok(scope)
    }

    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply {
        let done = match route(call) {
            None => Err(error(404, "not_found", "no such operation").into()),
            Some(Route::List(kind)) => Ok(reads::list(scope, &kind, ledger)),
            Some(route) => match call.object() {
                None => Err(error(400, "bad_request", "the body is not a JSON object").into()),
                Some(body) => match route {
                    Route::Create => create::create(call, scope, &body, self.suppressed_without_id, ledger),
                    Route::Details => reads::details(scope, &body, ledger),
                    Route::Alerts => reads::alerts(scope, &body, ledger),
                    Route::Search => reads::search(scope, &body, ledger),
                    Route::Operation(operation) => operations::run(call, scope, operation, &body, ledger),
                    Route::List(_) => Ok(Reply::new(404, json!(null))),
                },
            },
        };
        match done {
            Ok(reply) => reply,
            Err(Refused::Reply(reply)) => reply,
            Err(Refused::Full) => self.refusal(call, 503, None),
        }
    }

    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let (code, message) = match status {
            401 => ("unauthorized", "no valid API key"),
            403 => ("forbidden", "the API key may not do this"),
            404 => ("not_found", "no such incident"),
            429 => ("rate_limited", "too many requests"),
            501 => ("not_supported", "not supported"),
            500.. => ("unavailable", "unavailable"),
            _ => ("bad_request", "refused"),
        };
        with_retry_after(error(status, code, message), retry_after, call.at)
    }

    fn addressed(&mut self, call: &Call<'_>, ledger: &Ledger) -> Vec<String> {
        let id = call.object().and_then(|body| body.get("instance_id").map(ToString::to_string));
        let Some(id) = id else { return Vec::new() };
        let key = ledger.by_id(&id).and_then(|incident| incident.key.clone());
        key.into_iter().chain([id]).collect()
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

impl From<Full> for Refused {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

fn route(call: &Call<'_>) -> Option<Route> {
    let path = call.path.strip_suffix('/').unwrap_or(call.path);
    if path == "/incidents/list" {
        return Some(Route::Search);
    }
    if let Some(kind) = path.strip_prefix("/list/") {
        return reads::LISTS.contains(&kind).then(|| Route::List(kind.to_owned()));
    }
    let name = path.strip_prefix("/incidents/").or_else(|| path.strip_prefix('/'))?;
    match name {
        "create" => Some(Route::Create),
        "details" => Some(Route::Details),
        "alerts" => Some(Route::Alerts),
        _ => Operation::named(name).map(Route::Operation),
    }
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({ "error": code, "message": message }))
}

/// All findings in one 400.
fn bad_request(findings: &[Finding]) -> Refused {
    let told: Vec<String> = findings.iter().map(|finding| format!("{} {}", finding.field, finding.reason)).collect();
    Refused::Reply(error(400, "bad_request", &told.join("; ")))
}

/// UTC without a zone, as the vendor writes it.
fn time(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}
