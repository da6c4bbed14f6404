//! Answers (contracts/pagerduty.md 4): the vendor's own forms. Clients read `status`, `message`, `errors` and the key.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::Api;
use crate::dialect::Ending;
use crate::outcome::{Class, Reason, Refusal};

/// Every answer to a key that may not send, whatever is wrong with it (contracts 2.2).
const BAD_KEY: &str = "Invalid routing key";

pub(super) fn accepted(api: Api, endings: &[Ending<'_>]) -> (StatusCode, Bytes) {
    let (status, message, member) = match api {
        Api::V2 => (StatusCode::ACCEPTED, "Event processed", Some("dedup_key")),
        Api::V1 => (StatusCode::OK, "Event processed", Some("incident_key")),
        Api::Change => (StatusCode::ACCEPTED, "Change event processed", None),
    };
    let mut body = json!({ "status": "success", "message": message });
    let key = endings.first().and_then(|ending| ending.key);
    if let (Some(member), Some(key)) = (member, key) {
        body[member] = key.canon().into();
    }
    (status, body.to_string().into())
}

pub(super) fn refused(api: Api, refusal: &Refusal) -> Bytes {
    let body = match refusal.reason.class() {
        Class::Unauthenticated | Class::Forbidden => invalid(vec![BAD_KEY.into()]),
        Class::Invalid if refusal.reason == Reason::UnknownResolve => {
            invalid(vec![format!("'{}' names no open incident", api.members().1).into()])
        }
        Class::Invalid | Class::TooLarge => invalid(errors(refusal)),
        Class::Malformed if refusal.reason == Reason::InvalidJson => unrecognized("JSON parse error"),
        Class::Malformed | Class::UnsupportedMediaType => unrecognized(&refusal.message),
        Class::Overload => json!({
            "status": "throttle exceeded",
            "message": "Requests for this service are arriving too quickly. Please retry later.",
        }),
        _ => json!({ "status": "error", "message": refusal.message }),
    };
    body.to_string().into()
}

fn invalid(errors: Vec<Value>) -> Value {
    json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors })
}

fn unrecognized(error: &str) -> Value {
    json!({
        "status": "unrecognized object",
        "message": "Event object format is unrecognized",
        "errors": [error],
    })
}

/// `member: reason` as the vendor words it: `'member' reason`.
fn errors(refusal: &Refusal) -> Vec<Value> {
    let worded = |fault: &String| match fault.split_once(": ") {
        Some((member, reason)) => format!("'{member}' {reason}").into(),
        None => fault.as_str().into(),
    };
    match refusal.errors.as_slice() {
        [] => vec![refusal.message.as_str().into()],
        faults => faults.iter().map(worded).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::pagerduty::{CHANGE, V1, V2};
    use crate::dialect::{DIALECTS, Dialect};
    use crate::event::{Key, KeyKind};

    fn error(api: Api, reason: Reason, faults: &[&str]) -> Value {
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        serde_json::from_slice(&refused(api, &Refusal::new(reason, "why").with_errors(faults))).unwrap()
    }

    #[test]
    fn answers_are_the_vendors_to_the_letter() {
        let key = Key::parse("srv01/\"disk\"", KeyKind::String);
        let ending = Ending { outcome: None, incident: None, key: key.as_ref(), view: None, named: None };
        let body = |api| {
            let (status, body) = accepted(api, &[ending]);
            (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
        };
        let v2 = r#"{"status":"success","message":"Event processed","dedup_key":"srv01/\"disk\""}"#;
        assert_eq!(body(Api::V2), (202, v2.to_owned()));
        let v1 = r#"{"status":"success","message":"Event processed","incident_key":"srv01/\"disk\""}"#;
        assert_eq!(body(Api::V1), (200, v1.to_owned()));
        assert_eq!(body(Api::Change), (202, r#"{"status":"success","message":"Change event processed"}"#.to_owned()));
    }

    #[test]
    fn refusals_are_the_vendors_to_the_letter() {
        let faults = ["payload.severity: is invalid", "dedup_key: is missing or blank"];
        assert_eq!(
            error(Api::V2, Reason::InvalidEvent, &faults),
            json!({
                "status": "invalid event",
                "message": "Event object is invalid",
                "errors": ["'payload.severity' is invalid", "'dedup_key' is missing or blank"],
            })
        );
        assert_eq!(
            error(Api::V2, Reason::InvalidJson, &["body: no JSON at line 1"]),
            json!({
                "status": "unrecognized object",
                "message": "Event object format is unrecognized",
                "errors": ["JSON parse error"],
            })
        );
        let same = error(Api::V2, Reason::UnknownKey, &[]);
        assert_eq!(same["errors"], json!(["Invalid routing key"]));
        for reason in [Reason::IntegrationDisabled, Reason::DialectNotAllowed, Reason::SourceNotAllowed] {
            assert_eq!(error(Api::V1, reason, &[]), same, "nobody learns that the key exists");
        }
        assert_eq!(
            error(Api::V1, Reason::UnknownResolve, &["event_id: x"])["errors"][0],
            "'incident_key' names no open incident"
        );
        let throttled = error(Api::V2, Reason::EventLimit, &[]);
        assert_eq!(throttled["status"], "throttle exceeded");
        assert_eq!(throttled.get("errors"), None);
    }

    #[test]
    fn statuses_are_those_of_section_4_and_v1_is_overloaded_with_403() {
        let status = |dialect: &dyn Dialect, reason: Reason| dialect.status(reason.class()).as_u16();
        for dialect in [&V2, &V1, &CHANGE] {
            for reason in [Reason::UnknownKey, Reason::SourceNotAllowed, Reason::ContentType, Reason::ContentEncoding] {
                assert_eq!(status(dialect, reason), 400, "{reason:?}");
            }
            assert_eq!((status(dialect, Reason::BodyTooLarge), status(dialect, Reason::SpoolFull)), (413, 503));
        }
        assert_eq!((status(&V2, Reason::EventLimit), status(&V1, Reason::EventLimit)), (429, 403));
        assert_eq!((status(&CHANGE, Reason::RequestLimit), status(&V1, Reason::RequestLimit)), (429, 403));
        assert_eq!(DIALECTS.iter().filter(|dialect| dialect.name().starts_with("pagerduty")).count(), 3);
    }
}
