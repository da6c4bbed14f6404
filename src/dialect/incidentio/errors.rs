//! The error envelope of incident.io, and what its clients read when they are too fast (contracts/incident-io.md 1).

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::body::code_of;
use crate::dialect::{Limited, usual_status};
use crate::event::Micros;
use crate::outcome::{Class, Reason, Refusal};

/// Limits are told by the minute.
const WINDOW_S: u32 = 60;
/// What the vendor takes in that time (contracts 7.1).
const LIMIT: u32 = 1200;

pub(super) fn status(class: Class) -> hyper::StatusCode {
    match class {
        Class::Unauthenticated => hyper::StatusCode::UNAUTHORIZED,
        Class::Invalid | Class::Conflict => hyper::StatusCode::UNPROCESSABLE_ENTITY,
        other => usual_status(other),
    }
}

fn kind(class: Class) -> &'static str {
    match class {
        Class::Unauthenticated => "authentication_error",
        Class::Forbidden => "authorization_error",
        Class::NoRoute | Class::NotFound => "not_found",
        Class::Invalid | Class::Conflict => "validation_error",
        Class::Overload => "too_many_requests",
        Class::Unavailable => "service_unavailable",
        Class::Internal => "internal_error",
        Class::NotSupported => "not_supported",
        _ => "bad_request",
    }
}

fn code(reason: Reason) -> &'static str {
    match reason.class() {
        Class::Unauthenticated => "unauthorized",
        Class::Forbidden => "forbidden",
        Class::NoRoute | Class::NotFound => "not_found",
        Class::WrongMethod => "method_not_allowed",
        Class::TooLarge => "payload_too_large",
        Class::UnsupportedMediaType => "unsupported_media_type",
        Class::Overload => "too_many_requests",
        Class::Unavailable => "service_unavailable",
        Class::Invalid | Class::Conflict => "invalid_value",
        _ => reason.label(),
    }
}

fn envelope(refusal: &Refusal, request_id: &str) -> Value {
    let class = refusal.reason.class();
    let mut errors: Vec<Value> = Vec::new();
    if class == Class::Invalid {
        let fault = |line: &String| {
            let (field, reason) = line.split_once(": ").unwrap_or(("", line));
            json!({ "code": code_of(reason), "message": line.replacen(": ", " ", 1), "source": source(field) })
        };
        errors.extend(refusal.errors.iter().map(fault));
    }
    if errors.is_empty() {
        errors.push(json!({ "code": code(refusal.reason), "message": refusal.message }));
    }
    json!({ "type": kind(class), "status": status(class).as_u16(), "request_id": request_id, "errors": errors })
}

/// A member's path, in both ways in which the vendor's own clients read it.
fn source(field: &str) -> Value {
    json!({ "field": field, "pointer": format!("/{}", field.replace('.', "/")) })
}

pub(super) fn body(refusal: &Refusal, request_id: &str) -> Bytes {
    envelope(refusal, request_id).to_string().into()
}

/// A 429: the limit in the body and in the head.
pub(super) fn limited(refusal: &Refusal, request_id: &str, limited: &Limited<'_>, headers: &mut HeaderMap) -> Bytes {
    let Limited { integration, rate, retry_after_s, now } = *limited;
    // What is refused for another reason than a rate is told the vendor's own.
    let limit = rate.map_or(LIMIT, |rate| rate.per_second.get().saturating_mul(WINDOW_S));
    let back = Micros(now.0.saturating_add(i64::from(retry_after_s) * 1_000_000));
    let mut body = envelope(refusal, request_id);
    body["rate_limit"] = json!({ "name": integration, "limit": limit, "remaining": 0, "retry_after": whole(back) });
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-ratelimit-limit", format!("{limit}, {limit};window={WINDOW_S}"));
    put("x-ratelimit-used", limit.to_string());
    put("x-ratelimit-remaining", "0".to_owned());
    put("x-ratelimit-reset", back.0.div_euclid(1_000_000).saturating_add(1).to_string());
    body.to_string().into()
}

/// As the vendor writes it: whole seconds, and never too early.
fn whole(at: Micros) -> String {
    let seconds = Micros(at.0.saturating_add(999_999).div_euclid(1_000_000) * 1_000_000);
    seconds.to_string().replace(".000000Z", "Z")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::gate::Rate;

    #[test]
    fn every_fault_names_its_member_and_its_kind() {
        let lines = [
            ("severity_id: is required", "is_required"),
            ("name: must be of type string", "invalid_type"),
            ("custom_field_entries.0.custom_field_id: is longer than 512 bytes", "too_long"),
            ("mode: must be one of real, test", "invalid_value"),
        ];
        let refusal = Refusal::new(Reason::InvalidEvent, "the body breaks the rules of this API")
            .with_errors(lines.iter().map(|(line, _)| (*line).to_owned()).collect());
        let body: Value = serde_json::from_slice(&body(&refusal, "r")).unwrap();
        assert_eq!((&body["type"], &body["status"]), (&json!("validation_error"), &json!(422)));
        for (error, (line, code)) in body["errors"].as_array().unwrap().iter().zip(lines) {
            assert_eq!(error["code"], code);
            assert_eq!(error["source"]["field"], line.split(':').next().unwrap());
        }
        assert_eq!(body["errors"][0]["message"], "severity_id is required");
    }

    #[test]
    fn a_429_says_when_to_come_back_in_body_and_head() {
        let refusal = Refusal::new(Reason::RequestLimit, "too many requests for this integration");
        let one = NonZeroU32::new(20).unwrap();
        let now = Micros(1_744_888_637_500_000);
        let limit =
            Limited { integration: "fleet", rate: Some(Rate { per_second: one, burst: one }), retry_after_s: 2, now };
        let mut headers = HeaderMap::new();
        let body: Value = serde_json::from_slice(&limited(&refusal, "r", &limit, &mut headers)).unwrap();
        assert_eq!(
            body["rate_limit"],
            json!({ "name": "fleet", "limit": 1200, "remaining": 0, "retry_after": "2025-04-17T11:17:20Z" })
        );
        assert_eq!(headers["x-ratelimit-limit"], "1200, 1200;window=60");
        assert_eq!(headers["x-ratelimit-remaining"], "0");
        assert_eq!(headers["x-ratelimit-reset"], "1744888640");
        let (mut headers, without) = (HeaderMap::new(), Limited { rate: None, ..limit });
        let body: Value = serde_json::from_slice(&limited(&refusal, "r", &without, &mut headers)).unwrap();
        assert_eq!(body["rate_limit"]["limit"], 1200);
        let told = ["x-ratelimit-limit", "x-ratelimit-used"].map(|name| headers[name].to_str().unwrap());
        assert_eq!(told, ["1200, 1200;window=60", "1200"]);
    }
}
