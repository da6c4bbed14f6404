//! Opsgenie: the Alert API. A write is answered 202 with a request id and takes effect afterwards;
//! what came of it is read under that id. Called by `stand.rs`.

mod deeds;
mod reads;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Options;
use super::call::{Call, Reply, Stamp};
use super::contract::{Contract, with_retry_after};
use super::credentials::Credentials;
use super::ledger::Ledger;
use crate::upstream::fault::RetryAfter;
use deeds::{Deed, Target};

/// Results of requests that can still be read.
const RESULTS_AT_MOST: usize = 100_000;
/// Writes that wait to take effect.
const PENDING_AT_MOST: usize = 10_000;

pub(super) struct Opsgenie {
    credentials: Credentials,
    processing: Duration,
    pending: VecDeque<Pending>,
    results: HashMap<String, Value>,
    /// The ids of the results, the oldest first.
    order: VecDeque<String>,
}

struct Pending {
    due: Instant,
    request: u64,
    request_id: String,
    scope: String,
    deed: Deed,
}

enum Route {
    Write(&'static str, Option<String>),
    Request(String),
    Show(String),
    List,
}

impl Opsgenie {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            credentials: Credentials::new(&options.credentials),
            processing: options.processing,
            pending: VecDeque::new(),
            results: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn write(&mut self, call: &Call<'_>, scope: &str, action: &'static str, identifier: Option<String>) -> Reply {
        let target = match identifier.map(|identifier| Target::read(call, identifier)) {
            Some(Ok(target)) => Some(target),
            Some(Err(findings)) => return unprocessable(call, findings),
            None => None,
        };
        let body = if call.body.trim_ascii().is_empty() { Some(serde_json::Map::new()) } else { call.object() };
        let Some(body) = body else { return answer(call, 400, json!({ "message": "Could not parse request body" })) };
        let deed = match deeds::read(action, target, body) {
            Ok(deed) => deed,
            Err(findings) => return unprocessable(call, findings),
        };
        if self.pending.len() >= PENDING_AT_MOST {
            return self.refusal(call, 503, None);
        }
        self.pending.push_back(Pending {
            due: call.now + self.processing,
            request: call.number,
            request_id: call.request_id(),
            scope: scope.to_owned(),
            deed,
        });
        answer(call, 202, json!({ "result": "Request will be processed" }))
    }

    fn result(&self, call: &Call<'_>, id: &str) -> Reply {
        match self.results.get(id) {
            // Both ids: of the request that is asked for, in data's place too, as the vendor does.
            Some(data) => {
                let mut reply = answer(call, 200, json!({ "data": data }));
                reply.body["requestId"] = json!(id);
                reply
            }
            None => answer(call, 404, json!({ "message": "Request not found. It might not be processed, yet." })),
        }
    }
}

impl Contract for Opsgenie {
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply> {
        let route = route(call)?;
        let scope = call.authorization("geniekey").and_then(|key| self.credentials.scope(key));
        let scope = scope.ok_or_else(|| {
            answer(call, 401, json!({ "message": "Could not authenticate" })).with("www-authenticate", "GenieKey")
        })?;
        let has_body = matches!(route, Route::Write(..)) && !call.body.trim_ascii().is_empty();
        if has_body && !call.says_json() {
            return Err(answer(call, 415, json!({ "message": "Content-Type must be application/json" })));
        }
        Ok(scope)
    }

    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply {
        match route(call) {
            Err(reply) => reply,
            Ok(Route::Write(action, identifier)) => self.write(call, scope, action, identifier),
            Ok(Route::Request(id)) => self.result(call, &id),
            Ok(Route::List) => reads::list(call, scope, ledger),
            Ok(Route::Show(identifier)) => match Target::read(call, identifier) {
                Ok(target) => reads::show(call, scope, &target, ledger),
                Err(findings) => unprocessable(call, findings),
            },
        }
    }

    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let message = match status {
            401 => "Could not authenticate",
            402 => "Payment required",
            403 => "You are not authorized to access this resource",
            422 => "Request body is not processable. Please check the errors.",
            429 => "You are making too many requests!",
            503 => "Service unavailable",
            _ => "Refused",
        };
        let mut reply = answer(call, status, json!({ "message": message }));
        if status == 429 {
            reply = reply
                .with("x-ratelimit-state", "THROTTLED")
                .with("x-ratelimit-reason", "INTEGRATION")
                .with("x-ratelimit-period-in-sec", "60");
        }
        with_retry_after(reply, retry_after, call.at)
    }

    fn addressed(&mut self, call: &Call<'_>, ledger: &Ledger) -> Vec<String> {
        let Ok(Route::Write(_, Some(identifier)) | Route::Show(identifier)) = route(call) else {
            return Vec::new();
        };
        let alias = ledger.by_id(&identifier).and_then(|alert| alert.key.clone());
        alias.into_iter().chain([identifier]).collect()
    }

    fn settle(&mut self, now: Instant, at: Timestamp, ledger: &mut Ledger) {
        while self.pending.front().is_some_and(|pending| pending.due <= now) {
            let Some(pending) = self.pending.pop_front() else { break };
            let when = Stamp { request: pending.request, at_us: at.as_microsecond() };
            let mut result = deeds::apply(when, &pending.scope, pending.deed, ledger);
            result["processedAt"] = json!(time(when.at_us));
            result["integrationId"] = json!(pending.scope);
            self.order.push_back(pending.request_id.clone());
            self.results.insert(pending.request_id, result);
            if self.order.len() > RESULTS_AT_MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.results.remove(&oldest);
            }
        }
    }
}

fn route(call: &Call<'_>) -> Result<Route, Reply> {
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some(below) = segments.strip_prefix(&["v2", "alerts"]) else {
        return Err(answer(call, 404, json!({ "message": "Not found" })));
    };
    let method = call.method.as_str();
    let (route, allow) = match (below, method) {
        ([], "POST") => (Some(Route::Write("create", None)), ""),
        ([], "GET") => (Some(Route::List), ""),
        ([], _) => (None, "GET, POST"),
        (["requests", id], "GET") => (Some(Route::Request((*id).to_owned())), ""),
        (["requests", _], _) => (None, "GET"),
        ([id], "GET") => (Some(Route::Show((*id).to_owned())), ""),
        ([id], "DELETE") => (Some(Route::Write("delete", Some((*id).to_owned()))), ""),
        ([_], _) => (None, "GET, DELETE"),
        ([id, name], _) => match deeds::named(name) {
            Some((action, needed)) if needed == method => (Some(Route::Write(action, Some((*id).to_owned()))), ""),
            Some((_, needed)) => (None, needed),
            None => return Err(answer(call, 404, json!({ "message": "Not found" }))),
        },
        _ => return Err(answer(call, 404, json!({ "message": "Not found" }))),
    };
    route.ok_or_else(|| answer(call, 405, json!({ "message": "Method not allowed" })).with("allow", allow))
}

/// An answer with what all of the vendor's answers have.
fn answer(call: &Call<'_>, status: u16, mut body: Value) -> Reply {
    body["took"] = json!(0.001);
    body["requestId"] = json!(call.request_id());
    Reply::new(status, body).with("x-response-time", "0.001")
}

fn unprocessable(call: &Call<'_>, errors: serde_json::Map<String, Value>) -> Reply {
    let message = "Request body is not processable. Please check the errors.";
    answer(call, 422, json!({ "message": message, "errors": errors }))
}

/// RFC 3339 with milliseconds.
fn time(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
