//! Answers that refuse (contracts/opsgenie.md 4), and the time that every answer tells.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::dialect::usual_status;
use crate::outcome::{Class, Refusal};

/// How a body begins until its time is known.
pub(super) const TOOK: &str = "\"took\":0,";

const STATE: HeaderName = HeaderName::from_static("x-ratelimit-state");
const REASON: HeaderName = HeaderName::from_static("x-ratelimit-reason");
const PERIOD: HeaderName = HeaderName::from_static("x-ratelimit-period-in-sec");

pub(super) fn status(class: Class) -> StatusCode {
    match class {
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::Invalid | Class::Conflict => StatusCode::UNPROCESSABLE_ENTITY,
        class => usual_status(class),
    }
}

pub(super) fn body(refusal: &Refusal, request_id: &str) -> Bytes {
    let message = match refusal.reason.class() {
        Class::Unauthenticated => "Could not authenticate",
        Class::Malformed => "Could not parse request body",
        Class::Invalid => "Request body is not processable. Please check the errors.",
        Class::Overload => "You are making too many requests!",
        _ => &refusal.message,
    };
    let mut answer = Map::new();
    answer.insert("message".into(), message.into());
    let errors: Map<String, Value> = refusal.errors.iter().map(|line| fault(line)).collect();
    if !errors.is_empty() {
        answer.insert("errors".into(), errors.into());
    }
    answer.insert("requestId".into(), request_id.into());
    stamped(&answer)
}

/// `member: reason` as a member.
fn fault(line: &str) -> (String, Value) {
    let (member, reason) = line.split_once(": ").unwrap_or(("body", line));
    (member.to_owned(), reason.into())
}

/// What stands in the head of a 429 beside when to come back.
pub(super) fn limited(headers: &mut HeaderMap) {
    headers.insert(STATE, HeaderValue::from_static("THROTTLED"));
    headers.insert(REASON, HeaderValue::from_static("INTEGRATION"));
    headers.insert(PERIOD, HeaderValue::from_static("60"));
}

/// An answer's body, with room for its time.
pub(super) fn stamped(answer: &Map<String, Value>) -> Bytes {
    let mut body = format!("{{{TOOK}");
    // Of an object that has members, its own brace left out.
    body.push_str(serde_json::to_string(answer).unwrap_or_default().get(1..).unwrap_or("}"));
    body.into()
}

/// The body with its time in seconds; `None` where it has no room for one.
pub(super) fn with_time(body: &[u8], seconds: &str) -> Option<Bytes> {
    let rest = body.strip_prefix(b"{")?.strip_prefix(TOOK.as_bytes())?;
    Some([b"{\"took\":", seconds.as_bytes(), b",", rest].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    #[test]
    fn errors_are_an_object_of_member_and_reason_and_the_time_stands_in_its_place() {
        let refusal = Refusal::new(Reason::InvalidEvent, "x").with_errors(vec!["a.b: no: never".into(), "odd".into()]);
        let body = body(&refusal, "r");
        let body: Value = serde_json::from_slice(&with_time(&body, "0.012").unwrap()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "message": "Request body is not processable. Please check the errors.",
                "errors": {"a.b": "no: never", "body": "odd"}, "took": 0.012, "requestId": "r",
            })
        );
        assert_eq!(with_time(b"{\"message\":\"m\"}", "0"), None);
    }
}
