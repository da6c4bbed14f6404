//! The events of a body: one normalized event, an array of them, or a vendor's own JSON, of which
//! the members that name the event are known. Called by `serve.rs`.

use serde::Deserialize;
use serde_json::Value;

/// One event, as far as its body names it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ReceivedEvent {
    pub(super) event_uid: Option<String>,
    pub(super) key: Option<String>,
    pub(super) action: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// At least one, unless the body is an empty array.
    pub(super) events: Vec<ReceivedEvent>,
    pub(super) is_json: bool,
}

/// The members that are looked at; all others are skipped unread.
#[derive(Debug, Default, Deserialize)]
struct Members {
    event_uid: Option<String>,
    event_id: Option<String>,
    key: Option<String>,
    dedup_key: Option<String>,
    incident_key: Option<String>,
    deduplication_key: Option<String>,
    idempotency_key: Option<String>,
    alias: Option<String>,
    action: Option<String>,
    status: Option<String>,
    event_action: Option<String>,
}

/// Reads the events. `webhook_id` is the header of that name: the event_uid of a single event, and
/// no event's of a batch.
pub(super) fn read(body: &[u8], webhook_id: Option<&str>) -> Received {
    let (members, is_json) = members(body);
    let is_batch = body.trim_ascii_start().first() == Some(&b'[');
    let webhook_id = webhook_id.filter(|_| !is_batch);
    let events = members
        .into_iter()
        .map(|m| ReceivedEvent {
            event_uid: m.event_uid.or_else(|| webhook_id.map(str::to_owned)).or_else(|| m.event_id.clone()),
            key: (m.key.or(m.event_id).or(m.dedup_key).or(m.incident_key).or(m.deduplication_key))
                .or(m.idempotency_key)
                .or(m.alias),
            action: m.action.or(m.status).or(m.event_action),
        })
        .collect();
    Received { events, is_json }
}

fn members(body: &[u8]) -> (Vec<Members>, bool) {
    if body.trim_ascii_start().first() == Some(&b'[') {
        if let Ok(batch) = serde_json::from_slice(body) {
            return (batch, true);
        }
    } else if let Ok(one) = serde_json::from_slice(body) {
        return (vec![one], true);
    }
    // Verbatim bodies may hold a member twice or a number for a name: slower, but takes all JSON.
    match serde_json::from_slice(body) {
        Ok(Value::Array(batch)) => (batch.iter().map(from_value).collect(), true),
        Ok(one) => (vec![from_value(&one)], true),
        Err(_) => (vec![Members::default()], false),
    }
}

fn from_value(value: &Value) -> Members {
    let text = |name| match value.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Members {
        event_uid: text("event_uid"),
        event_id: text("event_id"),
        key: text("key"),
        dedup_key: text("dedup_key"),
        incident_key: text("incident_key"),
        deduplication_key: text("deduplication_key"),
        idempotency_key: text("idempotency_key"),
        alias: text("alias"),
        action: text("action"),
        status: text("status"),
        event_action: text("event_action"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uid: &str, key: &str, action: &str) -> ReceivedEvent {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ReceivedEvent { event_uid: some(uid), key: some(key), action: some(action) }
    }

    #[test]
    fn a_normalized_event_and_a_batch_are_read() {
        let one = br#"{"schema":1,"event_uid":"u1","action":"trigger","key":"k","raw":"{}"}"#;
        assert_eq!(read(one, Some("u1")).events, [event("u1", "k", "trigger")]);
        let batch = br#" [{"event_uid":"u1","key":"a"},{"event_uid":"u2","key":"b"}]"#;
        let events = read(batch, Some("hash")).events;
        assert_eq!(events, [event("u1", "a", ""), event("u2", "b", "")]);
        let nameless = br#"[{"key":"a"}]"#;
        assert_eq!(read(nameless, Some("hash")).events, [event("", "a", "")]);
        assert!(read(b"[]", None).events.is_empty());
    }

    #[test]
    fn a_verbatim_body_takes_its_uid_from_the_header_or_its_event_id() {
        let body = br#"{"message":"m","status":"resolve","event_id":"e1"}"#;
        assert_eq!(read(body, Some("u9")).events, [event("u9", "e1", "resolve")]);
        assert_eq!(read(body, None).events, [event("e1", "e1", "resolve")]);
    }

    #[test]
    fn odd_bodies_are_still_one_event() {
        let number_and_twice = br#"{"event_id":7,"status":"a","status":"trigger"}"#;
        assert_eq!(read(number_and_twice, None).events, [event("7", "7", "trigger")]);
        assert_eq!(read(b"3", None), Received { events: vec![event("", "", "")], is_json: true });
        assert_eq!(read(b"{", None), Received { events: vec![event("", "", "")], is_json: false });
    }
}
