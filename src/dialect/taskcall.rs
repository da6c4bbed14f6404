//! TaskCall's Incidents API (contracts/taskcall.md). Its senders know the proxy's own numbers: an incident is an
//! *instance*, and every operation but `create` names one.

mod create;
mod operation;
mod reading;
mod reads;
mod view;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;

use super::json::Document;
use super::{
    Asked, Credentials, Decoded, Dialect, Faults, Named, Passed, Question, Replying, Route, Scheme, Takes, View,
    usual_status,
};
use crate::event::{Incident, Micros};
use crate::gate::Settings;
use crate::outcome::{Class, Outcome, Reason, Refusal};

pub(super) struct TaskCall;

/// The key is never sent bare; `Bearer` is ours (section 1).
const AUTHORIZATION: Credentials = Credentials::Header(&[Scheme::Token, Scheme::Bearer]);

const CREATE: &str = "create";
/// Says that an open instance has the key already.
const SUPPRESSED: &str = "suppressed";
const DETAILS: &str = "details";
const ALERTS: &str = "alerts";
const SEARCH: &str = "incidents/list";
const LIST: &str = "list";

/// Both paths of an operation (section 1); a slash behind them is taken by every route.
macro_rules! routes {
    ($($said:literal)*; $($read:literal)*; $($other:expr),*) => {
        [
            $(
                Route::post(concat!("/", $said), $said, AUTHORIZATION).answers(200),
                Route::post(concat!("/incidents/", $said), $said, AUTHORIZATION).answers(200),
            )*
            $(
                Route::post(concat!("/", $read), $read, AUTHORIZATION).reads(),
                Route::post(concat!("/incidents/", $read), $read, AUTHORIZATION).reads(),
            )*
            $($other),*
        ]
    };
}

static ROUTES: [Route; 48] = routes!(
    "create" "acknowledge" "resolve" "unacknowledge" "escalate" "reassign" "snooze" "amend-urgency" "add-responders"
    "notate" "merge" "unmerge" "add-subscribers" "remove-subscribers" "update-status" "add-impact" "remove-impact"
    "run-response-set" "run-workflow" "edit-title" "update-tags";
    "details" "alerts";
    Route::post("/incidents/list", SEARCH, AUTHORIZATION).reads().takes(Takes::Perhaps),
    Route::get("/list/{type}", LIST, AUTHORIZATION)
);

/// An incident that nobody resolves calls again after so long (section 1).
const NEXT_ALERT_MICROS: i64 = 15 * 60 * 1_000_000;

impl Dialect for TaskCall {
    fn name(&self) -> &'static str {
        "taskcall"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn has_ids(&self) -> bool {
        true
    }

    fn refuses_what_nobody_does(&self) -> bool {
        true
    }

    fn fold(&self, before: View, said: View, at: Micros) -> View {
        view::fold(before, said, at)
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        if !document.root.is_object() {
            return Err(vec!["body: must be a JSON object".into()]);
        }
        let decoded = match asked.endpoint {
            CREATE => create::decode(asked, document)?,
            endpoint => operation::decode(asked, operation::named(endpoint), document)?,
        };
        each(decoded);
        Ok(())
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        let ending = replying.endings.first();
        let named = ending.and_then(|ending| ending.named);
        let incident = ending.and_then(|ending| ending.incident).map(|incident| renumbered(*incident, named));
        let incident = incident.as_ref();
        let outcome = ending.and_then(|ending| ending.outcome);
        let body = match replying.endpoint {
            CREATE => created(incident, matches!(outcome, Some(Outcome::Duplicate | Outcome::Escalated))),
            "unmerge" => created(incident, false),
            "acknowledge" => {
                let next = Micros(replying.now().0.saturating_add(NEXT_ALERT_MICROS));
                json!({ "next_alert_timestamp": stamp(next) }).to_string()
            }
            _ => "\"Success\"".to_owned(),
        };
        (StatusCode::OK, body.into())
    }

    fn read(&self, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        reads::read(question).map(|answer| (StatusCode::OK, answer.to_string().into()))
    }

    /// Section 3.1: a create that an open instance suppressed says so.
    fn again(&self, outcome: Outcome, answer: &Bytes) -> Option<Bytes> {
        let mut said: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(answer).ok()?;
        if outcome != Outcome::Duplicate || !said.contains_key(operation::INSTANCE) {
            return None;
        }
        said.insert(SUPPRESSED.into(), true.into());
        serde_json::to_vec(&said).ok().map(Bytes::from)
    }

    fn passes(&self, asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
        reads::passes(asked, settings)
    }

    fn status(&self, class: Class) -> StatusCode {
        match class {
            Class::Unauthenticated => StatusCode::UNAUTHORIZED,
            class => usual_status(class),
        }
    }

    /// Section 4. What is wrong with a body stands in the message: the form has no place of its own for it.
    fn error(&self, refusal: &Refusal, _request_id: &str) -> Bytes {
        let message = match refusal.reason {
            Reason::InvalidEvent if !refusal.errors.is_empty() => refusal.errors.join("; "),
            _ => refusal.message.clone(),
        };
        json!({ "error": code(refusal.reason.class()), "message": message }).to_string().into()
    }

    fn challenge(&self) -> &'static str {
        "token"
    }
}

/// Section 4; those behind it are ours.
fn code(class: Class) -> &'static str {
    match class {
        Class::Malformed | Class::Invalid => "bad_request",
        Class::Conflict => "incident_not_open",
        Class::Unauthenticated => "unauthorized",
        Class::Forbidden => "forbidden",
        Class::NoRoute | Class::NotFound => "not_found",
        Class::WrongMethod => "method_not_allowed",
        Class::TooLarge => "payload_too_large",
        Class::UnsupportedMediaType => "unsupported_media_type",
        Class::Overload => "rate_limited",
        Class::NotSupported => "not_supported",
        Class::Unavailable => "unavailable",
        Class::UriTooLong => "uri_too_long",
        Class::HeadTooLarge => "head_too_large",
        Class::Timeout => "timeout",
        Class::Internal => "internal",
    }
}

/// Sections 3.1 and 3.3: a new incident, or the open one that suppressed it, with its original time.
fn created(incident: Option<&Incident>, suppressed: bool) -> String {
    let mut body = json!({
        "instance_id": incident.map(|incident| incident.number),
        "timestamp": incident.map(|incident| stamp(incident.iid.made_at())),
    });
    if suppressed {
        body[SUPPRESSED] = true.into();
    }
    body.to_string()
}

/// Under the upstream's number, where that is shown in place of ours.
fn renumbered(incident: Incident, named: Option<&Named>) -> Incident {
    let number = named.and_then(|named| named.id.as_deref()?.parse().ok()).unwrap_or(incident.number);
    Incident { number, ..incident }
}

/// UTC without a zone, six digits (section 1).
fn stamp(at: Micros) -> String {
    let mut text = at.to_string();
    text.truncate(text.trim_end_matches('Z').len());
    text
}

#[cfg(test)]
mod tests;
