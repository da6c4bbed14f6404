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

use super::{Answer, Encoded, Failed, Kind, NotExpressible, Parcel, Said, Sink, UpstreamConfig, Verdict};
use crate::event::{Action, Incident, Micros, Severity, State, Tag, Tolerated, Uid, Warning};
use crate::store::Stored;

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

    fn expresses(&self, _action: Action) -> bool {
        true
    }

    fn encode(&self, stored: &Stored, said: &Said<'_>, _upstream: &UpstreamConfig) -> Result<Encoded, NotExpressible> {
        normalized(stored, said)
    }

    fn parcel(&self, events: &[Encoded], upstream: &UpstreamConfig, now: Micros) -> Parcel {
        let (id, body) = match events {
            // A batching upstream gets an array even of one: its shape does not depend on the load.
            [event] if upstream.batch.is_none() => (event.event_uid.to_string(), event.body.clone()),
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
        Parcel { headers, body }
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
    format!("batch_{}", super::sha256_hex(&uids))
}

fn array(events: &[Encoded]) -> Bytes {
    let length: usize = events.iter().map(|event| event.body.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1);
    for (index, event) in events.iter().enumerate() {
        body.push(if index == 0 { b'[' } else { b',' });
        body.extend_from_slice(&event.body);
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
        return Verdict::Delivered;
    }
    match serde_json::from_slice::<Partial<'_>>(&answer.body) {
        Ok(partial) if answer.complete => {
            let named = partial.failed.iter().map(|named| {
                let event_uid = Uid::parse(&named.event_uid)?;
                Some(Failed { event_uid, status: named.status, refused: PERMANENT.contains(&named.status) })
            });
            named.collect::<Option<Vec<_>>>().map_or(Verdict::Unclear, |failed| {
                if failed.is_empty() { Verdict::Delivered } else { Verdict::Partly(failed) }
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
    #[serde(skip_serializing_if = "Warnings::is_empty")]
    warnings: Warnings<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<Snapshot>,
    #[serde(serialize_with = "as_map")]
    extra: &'a [(Cow<'a, str>, &'a RawValue)],
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
pub(super) fn normalized(stored: &Stored, said: &Said<'_>) -> Result<Encoded, NotExpressible> {
    let event = &stored.event;
    let content = &said.content;
    let raw = std::str::from_utf8(&event.raw).ok();
    let object = Normalized {
        schema: 1,
        event_uid: event.uid,
        received_at: event.received_at,
        integration: &event.integration,
        dialect: &event.dialect,
        endpoint: &event.endpoint,
        action: event.action,
        key: event.key.as_ref().map(crate::event::Key::canon),
        title: content.title.as_deref(),
        description: content.description.as_deref(),
        severity: event.severity.or(content.severity),
        severity_raw: content.severity_raw.as_deref(),
        status_raw: content.status_raw.as_deref(),
        tags: &content.tags,
        warnings: Warnings { decoded: &content.warnings, content_type: event.tolerated.has(Tolerated::CONTENT_TYPE) },
        incident: stored.incident.map(Snapshot::from),
        extra: &said.extra,
        raw,
        raw_base64: raw.is_none().then(|| STANDARD.encode(&event.raw)),
    };
    let mut body = Vec::with_capacity(1024 + 3 * event.raw.len());
    // Text keys and plain numbers alone: writing them to memory cannot fail.
    serde_json::to_writer(&mut body, &object).map_err(|_| NotExpressible(event.action))?;
    Ok(Encoded { event_uid: event.uid, body: body.into() })
}
