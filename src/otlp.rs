//! Sends finished spans to a collector: OTLP over HTTP, as JSON. Compiled with the feature `otel`, which is on by default; `app`
//! starts it where `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. A collector that is away costs spans, which are counted in the log,
//! and nothing else.
//!
//! Limits: 512 spans a request, three tries, 10 s for each; 8,192 spans wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::event::trace::Trace;
use crate::forward::wire::{Dialer, Wire};
use crate::sink::Parcel;
use crate::spans::{Finished, Span, Spans, Value};

/// Spans of one request.
const TOGETHER_MAX: usize = 512;
/// Longest that a span waits for others.
const GATHER_FOR: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What still waits at the end is sent within this.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Losses are told of so often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why spans are not sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("{0}: want a URL that begins with http:// or https://")]
    Url(&'static str),
    #[error("OTEL_EXPORTER_OTLP_HEADERS: want name=value, separated by commas")]
    Headers,
    #[error("OTEL_TRACES_SAMPLER_ARG: want a part between 0 and 1, not {0}")]
    Part(String),
    #[error("OTEL_EXPORTER_OTLP_PROTOCOL: this binary speaks http/json, not {0}")]
    Protocol(String),
    #[error("TLS towards the collector cannot be set up: {0}")]
    Tls(rustls::Error),
}

/// What the standard's variables say.
#[derive(Debug, PartialEq)]
struct Settings {
    url: hyper::Uri,
    headers: HeaderMap,
    service: String,
    part: f64,
}

impl Settings {
    /// `None`: no collector is named.
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpError> {
        let set = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let base = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let (name, text) = match (set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), set(base)) {
            (Some(whole), _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole),
            (None, Some(text)) => (base, format!("{}/v1/traces", text.trim_end_matches('/'))),
            (None, None) => return Ok(None),
        };
        let is_whole = |url: &hyper::Uri| url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"));
        let url = text.parse().ok().filter(is_whole).ok_or(OtlpError::Url(name))?;
        if let Some(other) = set("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|protocol| protocol != "http/json") {
            return Err(OtlpError::Protocol(other));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for pair in
            set("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty())
        {
            let (name, value) = pair.split_once('=').ok_or(OtlpError::Headers)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| OtlpError::Headers)?;
            let value =
                percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| OtlpError::Headers)?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| OtlpError::Headers)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let part = match set("OTEL_TRACES_SAMPLER_ARG") {
            None => 1.0,
            Some(text) => match text.parse() {
                Ok(part @ 0.0..=1.0) => part,
                _ => return Err(OtlpError::Part(text)),
            },
        };
        let service = set("OTEL_SERVICE_NAME").unwrap_or_else(|| "surgegate".to_owned());
        Ok(Some(Self { url, headers, service, part }))
    }
}

/// Sends until it is stopped.
pub struct Exporter {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
}

/// Begins to send where the environment names a collector.
///
/// # Errors
/// What the environment says cannot be meant.
pub fn start(variable: &dyn Fn(&str) -> Option<String>) -> Result<(Spans, Option<Exporter>), OtlpError> {
    let Some(settings) = Settings::read(variable)? else { return Ok((Spans::default(), None)) };
    let wire = Dialer::new(None).map_err(OtlpError::Tls)?.to(settings.url, TIMEOUT);
    let (spans, finished) = Spans::on(settings.part);
    let stop = Arc::<Notify>::default();
    let sender = Sender { wire, headers: settings.headers, service: settings.service, lost: 0, told_at: None };
    let task = tokio::spawn(run(finished, sender, Arc::clone(&stop)));
    Ok((spans, Some(Exporter { task, stop })))
}

impl Exporter {
    /// Sends what still waits, within two seconds.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        if tokio::time::timeout(STOP_MAX, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn run(mut finished: Finished, mut sender: Sender, stop: Arc<Notify>) {
    let mut gathered = Vec::new();
    loop {
        let deadline = Instant::now() + GATHER_FOR;
        let ends = gather(&mut finished, &mut gathered, deadline, &stop).await;
        if !gathered.is_empty() {
            sender.send(std::mem::take(&mut gathered)).await;
        }
        sender.tell(&finished.lost);
        if ends {
            return;
        }
    }
}

/// Until there are enough, or their time is over; true when there will be no more.
async fn gather(finished: &mut Finished, gathered: &mut Vec<Span>, deadline: Instant, stop: &Notify) -> bool {
    while gathered.len() < TOGETHER_MAX {
        tokio::select! {
            span = finished.spans.recv() => match span {
                Some(span) => gathered.push(span),
                None => return true,
            },
            () = tokio::time::sleep_until(deadline) => return false,
            () = stop.notified() => {
                // What is there already goes along.
                while let Ok(span) = finished.spans.try_recv() {
                    gathered.push(span);
                }
                return true;
            }
        }
    }
    false
}

struct Sender {
    wire: Arc<dyn Wire>,
    headers: HeaderMap,
    service: String,
    lost: u64,
    told_at: Option<Instant>,
}

impl Sender {
    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = bytes::Bytes::from(encoded(&self.service, &spans).to_string());
        for attempt in 1..=TRIES_MAX {
            let parcel = Parcel { headers: self.headers.clone(), body: body.clone(), ..Parcel::default() };
            match self.wire.send(parcel).await {
                Ok(answer) if answer.status.is_success() => return,
                // It does not want them.
                Ok(answer) if answer.status.is_client_error() && answer.status.as_u16() != 429 => break,
                _ if attempt < TRIES_MAX => tokio::time::sleep(TRY_AGAIN_AFTER).await,
                _ => {}
            }
        }
        self.lost += count;
    }

    /// Of what was lost, once a minute.
    fn tell(&mut self, no_room: &AtomicU64) {
        self.lost += no_room.swap(0, Ordering::Relaxed);
        let now = Instant::now();
        if self.lost > 0 && self.told_at.is_none_or(|at| now - at >= TELL_EVERY) {
            tracing::warn!(lost = self.lost, "spans did not reach the collector (told once a minute)");
            (self.lost, self.told_at) = (0, Some(now));
        }
    }
}

/// An ExportTraceServiceRequest.
fn encoded(service: &str, spans: &[Span]) -> Json {
    let version = env!("CARGO_PKG_VERSION");
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", service), text("service.version", version)] },
        "scopeSpans": [{
            "scope": { "name": "surgegate", "version": version },
            "spans": spans.iter().map(one).collect::<Vec<_>>(),
        }],
    }] })
}

fn one(span: &Span) -> Json {
    let id = |id: u64| format!("{id:016x}");
    let trace_id = |trace: &Trace| format!("{:032x}", trace.id);
    let nanos = |micros: i64| micros.saturating_mul(1000).to_string();
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": text }),
        // As the encoding of 64-bit integers in JSON wants it.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    let mut json = json!({
        "traceId": trace_id(&span.trace),
        "spanId": id(span.id),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanos(span.began.0),
        "endTimeUnixNano": nanos(span.ended.0),
        "attributes": span.values.iter().map(|(key, of)| json!({ "key": key, "value": value(of) })).collect::<Vec<_>>(),
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if span.parent != 0 {
        json["parentSpanId"] = id(span.parent).into();
    }
    if !span.trace.state.is_empty() {
        json["traceState"] = (*span.trace.state).into();
    }
    if !span.links.is_empty() {
        let link = |trace: &Arc<Trace>| json!({ "traceId": trace_id(trace), "spanId": id(trace.span) });
        json["links"] = span.links.iter().map(link).collect();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, OtlpError> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&find)
    }

    #[test]
    fn the_environment_names_the_collector_as_the_standard_says() {
        assert!(read(&[]).unwrap().is_none());
        let base = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")]).unwrap().unwrap();
        assert_eq!((base.url.to_string().as_str(), base.part), ("http://collector:4318/v1/traces", 1.0));
        let whole = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/in"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=storage,authorization=Bearer%20k"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!((whole.url.to_string().as_str(), whole.part), ("https://traces/in", 0.1));
        assert_eq!(
            (&whole.headers["x-team"], &whole.headers["authorization"]),
            (&"storage".parse().unwrap(), &"Bearer k".parse().unwrap())
        );
        for wrong in [
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"), ("", "")],
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "x")],
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_TRACES_SAMPLER_ARG", "2")],
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }
}
