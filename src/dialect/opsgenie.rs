//! Opsgenie Alert API v2 (contracts/opsgenie.md). Every write is answered at once with the id of its request; what came
//! of it is asked for later. `operation` lists what can be said, `address` reads which alert a path means, `reading` the
//! body; `view` keeps what reads show, `requests` makes the ids that tell how a request ended, `reads` answers questions.

mod address;
mod errors;
mod ids;
mod members;
mod operation;
mod reading;
mod reads;
mod requests;
mod view;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::json::Document;
use super::{
    Asked, Credentials, Decoded, Dialect, Extra, Faults, Judged, Limited, Passed, Question, Repeats, Replying,
    RequestIdForm, Route, Scheme, Takes, View,
};
use crate::event::Micros;
use crate::gate::Settings;
use crate::outcome::{Class, Refusal};
use operation::Operation;
use reading::Reading;

pub(super) struct Opsgenie;

/// Dedup family of contracts 5.1.
const FAMILY: &str = "opsgenie";

const KEY: Credentials = Credentials::Header(&[Scheme::GenieKey]);

const REQUEST: &str = "request";
const ALERT: &str = "alert";
const LIST: &str = "list";

const RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");

/// A write on one alert.
const fn on_alert(path: &'static str, endpoint: &'static str) -> Route {
    Route::post(path, endpoint, KEY)
}

/// The same, whose body nobody needs.
const fn bare(path: &'static str, endpoint: &'static str) -> Route {
    on_alert(path, endpoint).takes(Takes::Perhaps)
}

static ROUTES: [Route; 21] = [
    Route::post("/v2/alerts", "create", KEY),
    // A vendor's paths for each tool (contracts 1): the same alert, its key in the path.
    Route::post("/v2/incidents/opsgenie/{key}", "create", Credentials::Path),
    Route::post("/v1/incidents/opsgenie/{key}", "create", Credentials::Path),
    Route::get("/v2/alerts", LIST, KEY),
    Route::get("/v2/alerts/requests/{requestId}", REQUEST, KEY),
    bare("/v2/alerts/{id}/close", "close"),
    bare("/v2/alerts/{id}/acknowledge", "acknowledge"),
    bare("/v2/alerts/{id}/unacknowledge", "unacknowledge"),
    on_alert("/v2/alerts/{id}/notes", "notes"),
    on_alert("/v2/alerts/{id}/message", "message").by("PUT"),
    on_alert("/v2/alerts/{id}/description", "description").by("PUT"),
    on_alert("/v2/alerts/{id}/priority", "priority").by("PUT"),
    on_alert("/v2/alerts/{id}/tags", "tags"),
    on_alert("/v2/alerts/{id}/details", "details"),
    on_alert("/v2/alerts/{id}/snooze", "snooze"),
    on_alert("/v2/alerts/{id}/escalate", "escalate"),
    on_alert("/v2/alerts/{id}/assign", "assign"),
    on_alert("/v2/alerts/{id}/teams", "teams"),
    on_alert("/v2/alerts/{id}/responders", "responders"),
    bare("/v2/alerts/{id}", "delete").by("DELETE"),
    Route::get("/v2/alerts/{id}", ALERT, KEY),
];

impl Dialect for Opsgenie {
    fn name(&self) -> &'static str {
        "opsgenie"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn family(&self, _args: &[Box<str>]) -> Cow<'static, str> {
        Cow::Borrowed(FAMILY)
    }

    fn retries_overload(&self) -> bool {
        true
    }

    fn has_ids(&self) -> bool {
        true
    }

    fn fold(&self, before: View, said: View, _at: Micros) -> View {
        view::fold(before, said)
    }

    fn refuses_what_nobody_is_told(&self) -> bool {
        true
    }

    /// A write on an alert that nobody knows is accepted; its request tells of it.
    fn takes_unknown_targets(&self) -> bool {
        true
    }

    fn request_id(&self) -> RequestIdForm {
        RequestIdForm::Telling
    }

    /// What an answer names is the request, and each has its own result.
    fn repeats(&self) -> Repeats {
        Repeats::Ours
    }

    fn passes(&self, asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
        reads::passes(asked, settings)
    }

    fn telling_id(&self, replying: &Replying<'_>, now: Micros, random: u128) -> u128 {
        requests::id_of(replying, now, random)
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let Some(operation) = Operation::of(asked.endpoint) else {
            return Err(vec!["body: is of no operation on alerts".into()]);
        };
        if !document.root.is_object() {
            return Err(vec!["body: must be a JSON object".into()]);
        }
        let mut reading = Reading::new(document, asked.rules, operation);
        let addressed = match asked.args.first() {
            Some(segment) => address::of(segment, asked.query).map_err(|fault| reading.fault(fault)).ok(),
            None => None,
        };
        let read = reading.finish()?;
        let (key, target) = addressed.map_or((read.alias, None), address::Addressed::into_key_or_target);
        each(Decoded {
            judged: Judged {
                key,
                target,
                severity: read.content.severity,
                notes: operation == Operation::Note,
                view: read.view.map(Box::new),
                ..Judged::of(operation.action())
            },
            content: read.content,
            extra: read.extra.into_iter().map(|name| Extra::Member(Cow::Borrowed(name))).collect(),
        });
        Ok(())
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        let body = format!(
            "{{{}\"result\":\"Request will be processed\",\"requestId\":\"{}\"}}",
            errors::TOOK,
            replying.request_id
        );
        (StatusCode::ACCEPTED, body.into())
    }

    fn read(&self, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        reads::answer(question)
    }

    fn status(&self, class: Class) -> StatusCode {
        errors::status(class)
    }

    fn error(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        errors::body(refusal, request_id)
    }

    fn challenge(&self) -> &'static str {
        Scheme::GenieKey.word()
    }

    fn limited(&self, refusal: &Refusal, request_id: &str, _: &Limited<'_>, headers: &mut HeaderMap) -> Bytes {
        errors::limited(headers);
        errors::body(refusal, request_id)
    }

    fn tells_time(&self) -> bool {
        true
    }

    /// Seconds, in the body and beside it.
    fn timed(&self, body: Bytes, took: Duration, headers: &mut HeaderMap) -> Bytes {
        let seconds = format!("{:.3}", took.as_secs_f64());
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            headers.insert(RESPONSE_TIME, value);
        }
        errors::with_time(&body, &seconds).unwrap_or(body)
    }
}

#[cfg(test)]
mod tests;
