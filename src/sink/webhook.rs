//! Upstream kind `webhook`: the normalized event as JSON (INTERFACE 5), signed by the Standard Webhooks
//! scheme, alone or as the array of a batch. `stdout` writes the same object.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::Sha256;

use super::{Answer, Ask, Encoded, Failed, Kind, Parcel, Said, Sink, Statement, Unsaid, UpstreamConfig, Verdict};
use crate::event::{
    Action, Assignment, Image, Incident, Link, Micros, Mode, Severity, State, Tag, Target, Tolerated, Uid, Visibility,
    Warning,
};
use crate::store::Stored;
use crate::vendor;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 6] = [400, 404, 410, 413, 415, 422];

pub struct Webhook;

impl Sink for Webhook {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn expresses(&self, _statement: Statement<'_>) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        normalized(ask.stored, ask.said)
    }

    fn parcel(&self, events: &[Encoded], upstream: &UpstreamConfig, now: Micros) -> Parcel {
        let (id, body) = match events {
            // A batching upstream gets an array even of one: its shape does not depend on the load.
            [event] if upstream.batch.is_none() => (event.event_uid.to_string(), event.call.body.clone()),
            events => (batch_id(events), array(events)),
        };
        let timestamp = now.seconds().to_string();
        let mut headers = super::json_headers();
        let mut put = |name, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        put(ID, &id);
        put(TIMESTAMP, &timestamp);
        if let Some(secret) = &upstream.credential {
            put(SIGNATURE, &sign(&secret_bytes(secret), &id, &timestamp, &body));
        }
        Parcel { headers, body, ..Parcel::default() }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        if answer.status.as_u16() == 207 { read_partial(answer) } else { super::answer::judge(answer, &PERMANENT, now) }
    }
}

/// The signing key: base64 behind `whsec_`, else the text itself. A broken base64 is taken as text:
/// the receiver then refuses the signature loudly, and the configuration check names it beforehand.
fn secret_bytes(secret: &str) -> Cow<'_, [u8]> {
    match secret.strip_prefix("whsec_").map(|text| STANDARD.decode(text)) {
        Some(Ok(bytes)) => Cow::Owned(bytes),
        _ => Cow::Borrowed(secret.as_bytes()),
    }
}

/// `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`.
fn sign(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    // HMAC takes a key of any length; the error exists for other algorithms.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The same set in the same order has the same id, any other set another (INTERFACE 5).
fn batch_id(events: &[Encoded]) -> String {
    let uids: Vec<String> = events.iter().map(|event| event.event_uid.to_string()).collect();
    let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
    format!("batch_{}", super::keys::sha256_hex(&uids))
}

fn array(events: &[Encoded]) -> Bytes {
    let length: usize = events.iter().map(|event| event.call.body.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1);
    for (index, event) in events.iter().enumerate() {
        body.push(if index == 0 { b'[' } else { b',' });
        body.extend_from_slice(&event.call.body);
    }
    body.push(b']');
    body.into()
}

/// `{"failed": [{"event_uid", "status"}]}`; without such a list a 207 is a plain success.
fn read_partial(answer: &Answer) -> Verdict {
    #[derive(serde::Deserialize)]
    struct Partial<'a> {
        #[serde(borrow, default)]
        failed: Vec<Named<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        event_uid: Cow<'a, str>,
        #[serde(default)]
        status: u16,
    }

    if answer.complete && answer.body.is_empty() {
        return Verdict::Delivered(None);
    }
    match serde_json::from_slice::<Partial<'_>>(&answer.body) {
        Ok(partial) if answer.complete => {
            let named = partial.failed.iter().map(|named| {
                let event_uid = Uid::parse(&named.event_uid)?;
                Some(Failed { event_uid, status: named.status, refused: PERMANENT.contains(&named.status) })
            });
            named.collect::<Option<Vec<_>>>().map_or(Verdict::Unclear, |failed| {
                if failed.is_empty() { Verdict::Delivered(None) } else { Verdict::Partly(failed) }
            })
        }
        _ => Verdict::Unclear,
    }
}

/// The normalized event: INTERFACE 5 with the members of contracts 3.1.
#[derive(Serialize)]
struct Normalized<'a> {
    schema: u8,
    event_uid: Uid,
    received_at: Micros,
    integration: &'a str,
    dialect: &'a str,
    endpoint: &'a str,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity_raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_raw: Option<&'a str>,
    #[serde(serialize_with = "as_map", skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [(Cow<'a, str>, Tag<'a>)],
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    links: &'a [Link<'a>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: &'a [Image<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment: Option<&'a Assignment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<Visibility>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    params: &'a serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Warnings::is_empty")]
    warnings: Warnings<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<Snapshot>,
    #[serde(serialize_with = "as_map")]
    extra: &'a [(Cow<'a, str>, Cow<'a, RawValue>)],
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

#[derive(Serialize)]
struct Snapshot {
    iid: Uid,
    number: u64,
    generation: u32,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    count: u32,
}

impl From<Incident> for Snapshot {
    fn from(incident: Incident) -> Self {
        let Incident { iid, number, generation, state, severity, count, .. } = incident;
        Self { iid, number, generation, state, severity, count }
    }
}

/// The decoder's warnings, and the one the body itself does not show.
struct Warnings<'a> {
    decoded: &'a [Warning<'a>],
    content_type: bool,
}

impl Warnings<'_> {
    fn is_empty(&self) -> bool {
        self.decoded.is_empty() && !self.content_type
    }
}

impl Serialize for Warnings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let label = Warning { code: "content_type_mismatch", path: Cow::Borrowed("") };
        serializer.collect_seq(self.decoded.iter().chain(self.content_type.then_some(&label)))
    }
}

fn as_map<V: Serialize, S: Serializer>(members: &&[(Cow<'_, str>, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
}

/// Writes the event as INTERFACE 5 shows it.
pub(super) fn normalized(stored: &Stored, said: &Said<'_>) -> Result<Encoded, Unsaid> {
    let event = &stored.event;
    let content = &said.content;
    let raw = std::str::from_utf8(&event.raw).ok();
    // Create-once keys are never merged with the others (contracts 3.1).
    let (idempotency_key, key) = event.key.as_ref().map(crate::event::Key::canon).map_or((None, None), |canon| {
        if event.family == vendor::CREATE_ONCE_FAMILY { (Some(canon), None) } else { (None, Some(canon)) }
    });
    let object = Normalized {
        schema: 1,
        event_uid: event.uid,
        received_at: event.received_at,
        integration: &event.integration,
        dialect: &event.dialect,
        endpoint: &event.endpoint,
        action: event.action,
        key,
        idempotency_key,
        target: event.target.as_ref(),
        title: content.title.as_deref(),
        description: content.description.as_deref(),
        severity: event.severity.or(content.severity),
        severity_raw: content.severity_raw.as_deref(),
        status_raw: content.status_raw.as_deref(),
        tags: &content.tags,
        source: content.source.as_deref(),
        component: content.component.as_deref(),
        group: content.group.as_deref(),
        class: content.class.as_deref(),
        service: content.service.as_deref(),
        links: &content.links,
        images: &content.images,
        started_at: content.started_at,
        ended_at: content.ended_at,
        assignment: content.assignment.as_deref(),
        visibility: content.visibility,
        mode: content.mode,
        note: content.note.as_deref(),
        params: &content.params,
        warnings: Warnings { decoded: &content.warnings, content_type: event.tolerated.has(Tolerated::CONTENT_TYPE) },
        incident: stored.incident.map(Snapshot::from),
        extra: &said.extra,
        raw,
        raw_base64: raw.is_none().then(|| STANDARD.encode(&event.raw)),
    };
    let mut body = Vec::with_capacity(1024 + 3 * event.raw.len());
    // Text keys and plain numbers alone: writing them to memory cannot fail.
    serde_json::to_writer(&mut body, &object).map_err(|_| Unsaid::NotExpressible(event.action))?;
    Ok(Encoded::new(event.uid, Parcel::json(body)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::sink::samples;
    use crate::sink::{Batch, Hold};

    fn object(stored: &Stored, said: &Said<'_>) -> String {
        String::from_utf8(normalized(stored, said).unwrap().call.body.to_vec()).unwrap()
    }

    #[test]
    fn the_object_is_the_one_of_the_interface() {
        let raw = r#"{"message":"disk full on db-7"}"#;
        let stored = samples::stored(
            7,
            samples::event(Action::Trigger, Some("disk-db-7"), raw),
            Some(samples::incident(1, State::Open)),
        );
        let golden = concat!(
            r#"{"schema":1,"event_uid":"01JD5BR0000000000000000001","received_at":"2026-11-20T10:00:00.000001Z","#,
            r#""integration":"payments","dialect":"squadcast","endpoint":"v2/incidents/api","action":"trigger","#,
            r#""key":"disk-db-7","title":"disk full on db-7","description":"volume /data at 99 %","severity":4,"#,
            r##""tags":{"team":{"value":"storage","type":"string"},"classification":{"value":"backend","type":"string","color":"#FF0000"}},"##,
            r#""incident":{"iid":"01JD5BR0000000000000002001","number":8912,"generation":1,"state":"OPEN","count":1},"#,
            r#""extra":{},"raw":"{\"message\":\"disk full on db-7\"}"}"#,
        );
        assert_eq!(object(&stored, &samples::said()), golden);
    }

    #[test]
    fn what_is_absent_is_left_out_and_what_was_tolerated_is_named() {
        let mut event = samples::event(Action::Resolve, None, "");
        event.raw = Bytes::from_static(b"\xff\xfe");
        event.severity = None;
        event.tolerated = Tolerated::CONTENT_TYPE;
        let number = serde_json::value::RawValue::from_string("1.50".to_owned()).unwrap();
        let mut said = Said { extra: vec![("note".into(), Cow::Borrowed(&*number))], ..Said::default() };
        said.content.warn("tag_coerced", "tags.a");
        let text = object(&samples::stored(1, event, None), &said);
        let value: Value = serde_json::from_str(&text).unwrap();
        for absent in
            ["key", "title", "description", "severity", "severity_raw", "status_raw", "tags", "incident", "raw"]
        {
            assert!(value.get(absent).is_none(), "{absent}");
        }
        assert_eq!(value["raw_base64"], "//4=");
        assert!(text.contains(r#""extra":{"note":1.50}"#), "numbers keep their text: {text}");
        let warnings = json!([{"code": "tag_coerced", "path": "tags.a"}, {"code": "content_type_mismatch"}]);
        assert_eq!(value["warnings"], warnings);
    }

    #[test]
    fn the_signature_is_the_one_computed_independently() {
        let id = "01JZ6M3Q4W8RN2V5T7Y9B1C3D5";
        let signed = |secret: &str| sign(&secret_bytes(secret), id, "1795168800", br#"{"a":1}"#);
        let base64 = "v1,3jeJ0fXd9L86NMw/XNmrb5H9M9dJEs+aHKA+sv6iC5s=";
        assert_eq!(signed("whsec_c3VyZ2VnYXRlIHRlc3Qgc2VjcmV0"), base64);
        assert_eq!(signed("plain words"), "v1,U4qpyHlMRRQLff9hvqy6Hg2CF4SYSMaYXkZEjIDTStQ=");
    }

    #[test]
    fn a_request_names_its_event_and_is_signed_only_with_a_secret() {
        let mut upstream = samples::upstream("hook", Kind::Webhook);
        let event = Encoded::new(Uid(1), Parcel::json(b"{}".as_slice()));
        let plain = Webhook.parcel(std::slice::from_ref(&event), &upstream, samples::AT);
        assert_eq!(plain.headers[ID], "00000000000000000000000001");
        assert_eq!(plain.headers[TIMESTAMP], "1795168800");
        assert!(!plain.headers.contains_key(SIGNATURE));
        upstream.credential = Some("secret".into());
        let signed = Webhook.parcel(&[event], &upstream, samples::AT);
        let expected = sign(b"secret", "00000000000000000000000001", "1795168800", b"{}");
        assert_eq!(signed.headers[SIGNATURE], *expected);
    }

    #[test]
    fn a_batch_is_an_array_named_after_its_ordered_events() {
        let mut upstream = samples::upstream("hook", Kind::Webhook);
        upstream.batch = Some(Batch { max_events: 10, max_wait: Duration::ZERO });
        let one = Encoded::new(Uid(1), Parcel::json(b"{\"a\":1}".as_slice()));
        let two = Encoded::new(Uid(2), Parcel::json(b"{\"b\":2}".as_slice()));
        let parcel = Webhook.parcel(&[one.clone(), two.clone()], &upstream, samples::AT);
        assert_eq!(&*parcel.body, br#"[{"a":1},{"b":2}]"#);
        let hash = "batch_3e5895dd4ab0012c5a350d42597b72973955c9480b2644ffdb6073bc18cc4fdd";
        assert_eq!(parcel.headers[ID], hash);
        assert_ne!(Webhook.parcel(&[two, one.clone()], &upstream, samples::AT).headers[ID], hash);
        assert_eq!(&*Webhook.parcel(&[one], &upstream, samples::AT).body, br#"[{"a":1}]"#);
    }

    #[test]
    fn a_207_names_what_did_not_arrive_and_anything_unreadable_delivers_nothing_quietly() {
        let read = |body: &'static str, complete: bool| {
            let answer =
                Answer { body: Bytes::from_static(body.as_bytes()), complete, ..Answer::new(StatusCode::MULTI_STATUS) };
            Webhook.read_answer(&answer, samples::AT)
        };
        let named = r#"{"failed":[{"event_uid":"00000000000000000000000001","status":400},{"event_uid":"00000000000000000000000002","status":503}]}"#;
        let failed = |uid, status, refused| Failed { event_uid: Uid(uid), status, refused };
        assert_eq!(read(named, true), Verdict::Partly(vec![failed(1, 400, true), failed(2, 503, false)]));
        assert_eq!(read(r#"{"failed":[]}"#, true), Verdict::Delivered(None));
        assert_eq!(read(r#"{"ok":true}"#, true), Verdict::Delivered(None));
        assert_eq!(read("", true), Verdict::Delivered(None));
        assert_eq!(read(r#"{"failed":[{"event_uid":"nobody"}]}"#, true), Verdict::Unclear);
        assert_eq!(read("<multistatus/>", true), Verdict::Unclear);
        assert_eq!(read(r#"{"failed":[]}"#, false), Verdict::Unclear, "cut off");
    }

    #[test]
    fn permanent_statuses_are_those_of_the_contract() {
        for status in 300..600 {
            let expected = match status {
                400 | 404 | 410 | 413 | 415 | 422 => Verdict::Refused,
                429 => Verdict::Retry(Hold::Upstream(None)),
                _ => Verdict::Retry(Hold::Lane(None)),
            };
            let answer = Answer::new(StatusCode::from_u16(status).unwrap());
            assert_eq!(Webhook.read_answer(&answer, samples::AT), expected, "{status}");
        }
    }
}
