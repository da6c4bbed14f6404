//! Attributes that stand in the head (binary mode): stored beside the event, and joined with its data to one object.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::dialect::{Asked, Faults};

const PREFIX: &str = "ce-";
const VERSION: &str = "ce-specversion";

/// Whether a request has its attributes in its head: its body is then data alone.
pub(super) fn are_in(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION) && !content_type(headers).starts_with("application/cloudevents")
}

fn content_type(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// Those of the head, or those that were stored of it. `None`: they stand in the body.
pub(super) fn beside(asked: &Asked<'_>) -> Result<Option<Map<String, Value>>, Faults> {
    match (asked.headers, asked.envelope) {
        (Some(headers), _) if are_in(headers) => of_head(headers).map(Some),
        (None, Some(envelope)) => Ok(envelope.source(&[]).and_then(|stored| serde_json::from_str(&stored).ok())),
        _ => Ok(None),
    }
}

/// The same to be stored with the event.
pub(super) fn stored(asked: &Asked<'_>) -> Result<Option<Bytes>, Faults> {
    match asked.headers {
        Some(headers) if are_in(headers) => of_head(headers).map(|all| Some(Value::Object(all).to_string().into())),
        _ => Ok(None),
    }
}

/// `ce-*`, each percent-decoded once; the body's type is the data's.
fn of_head(headers: &HeaderMap) -> Result<Map<String, Value>, Faults> {
    let mut all = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX).filter(|name| !name.is_empty()) else { continue };
        // What stands around the value is the head's; what was encoded is the sender's.
        let decoded = percent_encoding::percent_decode(value.as_bytes().trim_ascii()).decode_utf8();
        let text = decoded.map_err(|_| vec![format!("{PREFIX}{name}: is not UTF-8")])?;
        all.insert(name.to_owned(), text.into());
    }
    if let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        all.insert("datacontenttype".to_owned(), kind.into());
    }
    // They would be taken for the body.
    all.remove("data");
    all.remove("data_base64");
    Ok(all)
}

/// A type without its parameters, in small letters.
pub(super) fn media_type(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

/// The event as it would stand in a body: JSON as it is, text as text, everything else in base64.
///
/// # Errors
/// Its type says JSON, and it is none.
pub(super) fn joined(attributes: &Map<String, Value>, body: &[u8]) -> Result<Vec<u8>, Faults> {
    let kind = attributes.get("datacontenttype").and_then(Value::as_str).unwrap_or_default();
    let kind = media_type(kind);
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let is_read = serde_json::from_slice::<&RawValue>(body).is_ok();
    let is_empty = body.trim_ascii().is_empty();
    if is_json(&kind) && !is_read && !is_empty {
        return Err(vec!["body: its type says JSON, and it is none".into()]);
    }
    let mut text = Value::Object(attributes.clone()).to_string().into_bytes();
    if is_empty {
        return Ok(text);
    }
    text.pop();
    let mut put = |name: &str, value: &[u8]| {
        text.extend_from_slice(if text.len() > 1 { b",\"" } else { b"\"" });
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"\":");
        text.extend_from_slice(value);
    };
    match std::str::from_utf8(body) {
        Ok(_) if is_read => put("data", body),
        Ok(said) => put("data", Value::from(said).to_string().as_bytes()),
        Err(_) => {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(body);
            put("data_base64", Value::from(encoded).to_string().as_bytes());
        }
    }
    text.push(b'}');
    Ok(text)
}
