//! Amazon SNS, and CloudWatch's alarms in it (contracts/others.md 3). A body is JSON whatever its type says; what it brings is
//! a text in it, which may be JSON again. Whose it is and what its URLs may lead to, `envelope` tells.

mod alarm;
pub mod envelope;
mod message;

use std::borrow::Cow;

use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::hooks;
use super::json::{Document, Kind};
use super::{Asked, Credentials, Decoded, Dialect, Faults, Form, Route};
use crate::outcome::Class;

pub(super) struct Sns;

static ROUTES: [Route; 3] = [
    Route::post("/hooks/sns/{key}", "hooks/sns", Credentials::Path).wants_headers().answers(200),
    Route::post("/v2/incidents/sns/{key}", "hooks/sns", Credentials::Path).wants_headers(),
    Route::post("/v1/incidents/sns/{key}", "hooks/sns", Credentials::Path).wants_headers(),
];

/// What a body may be.
const KINDS: [&str; 3] = ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"];
const TYPE: &str = "x-amz-sns-message-type";
const RAW: &str = "x-amz-sns-rawdelivery";
const MESSAGE_ID: &str = "x-amz-sns-message-id";
const TOPIC: &str = "x-amz-sns-topic-arn";

impl Dialect for Sns {
    fn name(&self) -> &'static str {
        "sns"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn retries_overload(&self) -> bool {
        true
    }

    fn form(&self, _headers: &HeaderMap) -> Form {
        Form::Any
    }

    /// A message that came without its envelope gets one: of what stood in the head. A body that has one needs none, whatever
    /// the head says.
    fn as_json(&self, asked: &Asked<'_>, body: &[u8]) -> Result<Option<Vec<u8>>, Faults> {
        let Some(about) = raw_delivery(asked).filter(|_| !is_enveloped(body)) else { return Ok(None) };
        let text = std::str::from_utf8(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body));
        let text = text.map_err(|_| vec!["body: is not UTF-8".to_owned()])?;
        let mut made = about;
        made.insert("Message".to_owned(), text.into());
        Ok(Some(serde_json::Value::Object(made).to_string().into_bytes()))
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        match kind(asked, document).as_deref() {
            Some("Notification") => message::read(asked, document, each),
            // Nothing is told to anybody; whether a subscription is confirmed is decided elsewhere.
            Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => Ok(()),
            Some(_) => Err(vec!["Type: is none of SNS's".into()]),
            None => Err(vec!["Type: is required".into()]),
        }
    }

    fn status(&self, class: Class) -> StatusCode {
        hooks::status_for_5xx(class)
    }
}

fn header<'h>(asked: &Asked<'h>, name: &str) -> Option<&'h str> {
    asked.headers?.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

/// What the head of a raw delivery says, or what was stored of it. `None`: the body has its envelope.
fn raw_delivery(asked: &Asked<'_>) -> Option<serde_json::Map<String, serde_json::Value>> {
    let about = if asked.headers.is_some() {
        header(asked, RAW).filter(|word| word.eq_ignore_ascii_case("true"))?;
        json!({ "Type": "Notification", "MessageId": header(asked, MESSAGE_ID), "TopicArn": header(asked, TOPIC) })
    } else {
        let stored = asked.envelope?.source(&["raw"])?;
        serde_json::from_str(&stored).ok()?
    };
    match about {
        serde_json::Value::Object(about) => Some(about),
        _ => None,
    }
}

/// Whether a body says by itself which of SNS's it is.
fn is_enveloped(body: &[u8]) -> bool {
    let is_known = |document: Document<'_>| match document.root.member("Type").map(super::json::Value::kind) {
        Some(Kind::String(kind)) => KINDS.contains(&kind),
        _ => false,
    };
    super::zabbix::begins_like_json(body) && super::json::with_document(body, is_known).unwrap_or(false)
}

/// By the body; else by the head, which an event that was stored does not have any more.
fn kind<'d>(asked: &Asked<'d>, document: Document<'d>) -> Option<Cow<'d, str>> {
    let said = match document.root.member("Type").map(super::json::Value::kind) {
        Some(Kind::String(text)) if !text.is_empty() => Some(text),
        _ => header(asked, TYPE),
    };
    said.or_else(|| hooks::was_accepted(asked).then_some("Notification")).map(Cow::Borrowed)
}

#[cfg(test)]
mod tests;
