//! What an event becomes: a body in one dialect as the requests that an upstream of another would get. For people who migrate;
//! no proxy runs, nothing is sent. Called by `cli`.
//!
//! What only a configuration can say (ids, keys) is shown as a placeholder in capitals.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::HeaderMap;

use crate::claim::Pacing;
use crate::config;
use crate::dialect::{self, Asked, DIALECTS, Dialect, Judged, Most, Rules, SplitError, json};
use crate::event::{Event, Incident, Micros, State, Tolerated, Uid};
use crate::gate::Settings;
use crate::outcome::Outcome;
use crate::sink::{self, Ask, Kind, Other, Others, Parcel, Said, UpstreamConfig};
use crate::store::{LaneKey, Remote, Stored};

/// Elements of a batch, and bytes of each, that are looked at: the proxy's own defaults.
const MOST: Most = Most { elements: 16_384, event_bytes: 30_720 };
const INTEGRATION: &str = "INTEGRATION";

/// Why a body becomes nothing.
#[derive(Debug, thiserror::Error)]
pub enum Untranslated {
    #[error("no dialect is called {0}; known: {1}")]
    UnknownFrom(String, String),
    #[error("no upstream speaks {0}; known: {1}")]
    UnknownTo(String, String),
    #[error("no upstream speaks {0}; one of kind {1} gets {2}")]
    OtherVersion(String, &'static str, &'static str),
    #[error("the dialect {0} does not serve POST {1}")]
    UnknownPath(&'static str, String),
    #[error("the body is refused: {0}")]
    Refused(String),
    #[error("the upstream cannot be shown: {0}")]
    Upstream(String),
}

/// One event, and what becomes of it.
pub struct Translated {
    pub action: &'static str,
    pub key: Option<String>,
    pub warnings: Vec<String>,
    /// Every request in order, or why there is none.
    pub requests: Result<Vec<Parcel>, String>,
    /// Before each request's path.
    pub url: String,
}

/// Names that `from` may be.
pub fn dialects() -> Vec<&'static str> {
    DIALECTS.iter().map(|dialect| dialect.name()).collect()
}

/// Names that `to` may be.
pub fn kinds() -> Vec<&'static str> {
    Kind::ALL.into_iter().filter(|kind| sink::of(*kind).is_some()).map(Kind::name).collect()
}

/// The kind of upstream that speaks a dialect, by the dialect's name or its own.
fn kind_of(name: &str) -> Result<Kind, Untranslated> {
    let kind = match name {
        "pagerduty_v2" | "pagerduty_change" => "pagerduty",
        "pagerduty_v1" => return Err(Untranslated::OtherVersion(name.to_owned(), "pagerduty", "pagerduty_v2")),
        "incidentio_v1" | "incidentio_v2" => "incidentio",
        name => name,
    };
    let found = Kind::ALL.into_iter().find(|known| known.name() == kind && sink::of(*known).is_some());
    found.ok_or_else(|| Untranslated::UnknownTo(name.to_owned(), kinds().join(", ")))
}

/// How a body would come.
pub struct Posted<'a> {
    /// Where; `None`: the dialect's first path.
    pub path: Option<&'a str>,
    /// What its head says; a dialect needs that where the body does not say all.
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
}

/// What became of one event of a body; or what is wrong with it, where the proxy takes the others of its batch.
pub type Each = Result<Translated, Vec<String>>;

/// Translates the events of a body, in their order.
///
/// # Errors
/// A name that nobody has, or a body that the dialect refuses.
pub fn translate(from: &str, to: &str, posted: &Posted<'_>) -> Result<Vec<Each>, Untranslated> {
    let Posted { path, headers, body } = *posted;
    let dialect =
        dialect::by_name(from).ok_or_else(|| Untranslated::UnknownFrom(from.to_owned(), dialects().join(", ")))?;
    let upstream = upstream(kind_of(to)?, to)?;
    let first = dialect.routes().iter().find(|route| route.method == "POST" && !route.reads);
    let path = path.or(first.map(|route| route.path)).unwrap_or_default();
    let unknown = || Untranslated::UnknownPath(dialect.name(), path.to_owned());
    let filled = path.replace("{key}", "KEY");
    let matched = dialect::route("POST", &filled).map_err(|_| unknown())?;
    if matched.dialect.name() != dialect.name() || matched.route.reads {
        return Err(unknown());
    }
    let args: Vec<Box<str>> = matched.args.iter().map(|text| Box::from(*text)).collect();
    let settings = Settings::default();
    let rules = Rules { require_description: true, judge_only: true, settings: Some(&settings) };
    let route = dialect.belongs_to(matched.route.endpoint, body).unwrap_or(matched.route);
    let asked = Asked { args: &args, headers: Some(headers), ..Asked::at(route.endpoint, rules) };
    // A head tells; without one the body does.
    let looks_many = headers.is_empty() && is_list(body);
    let takes_batch = route.takes == dialect::Takes::Batch && (looks_many || dialect.holds_many(headers));
    let heard = if takes_batch { of_batch(dialect, &asked, body)? } else { of_one(dialect, &asked, body)? };
    Ok(heard
        .into_iter()
        .map(|heard| {
            let (judged, raw, envelope) = heard?;
            let event = event(dialect, &asked, judged, raw, envelope);
            Ok(told(event, &upstream))
        })
        .collect())
}

fn is_list(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    text.trim_ascii_start().first() == Some(&b'[')
}

/// What was heard, the body that is stored of it, and what is stored beside.
type Heard = (Judged, Bytes, Option<Bytes>);
/// Or what is wrong with an element of a batch.
type Element = Result<Heard, Vec<String>>;

fn refused(faults: &[String]) -> Untranslated {
    Untranslated::Refused(faults.join("; "))
}

fn of_one(dialect: &dyn Dialect, asked: &Asked<'_>, body: &Bytes) -> Result<Vec<Element>, Untranslated> {
    let made = dialect.as_json(asked, body).map_err(|faults| refused(&faults))?;
    let mut heard = Vec::new();
    let text: &[u8] = made.as_deref().unwrap_or(body);
    let text = if text.trim_ascii().is_empty() { b"{}" } else { text };
    let read = json::with_document(text, |document| {
        if !document.root.is_object() {
            return Err(vec!["body: must be a JSON object".to_owned()]);
        }
        dialect.decode(asked, document, &mut |said| heard.push(said.judged))
    });
    read.map_err(|error| Untranslated::Refused(error.to_string()))?.map_err(|faults| refused(&faults))?;
    Ok(heard.into_iter().map(|judged| Ok((judged, body.clone(), None))).collect())
}

fn of_batch(dialect: &dyn Dialect, asked: &Asked<'_>, body: &Bytes) -> Result<Vec<Element>, Untranslated> {
    let split = dialect.split(asked, body, MOST).map_err(|error| match error {
        SplitError::Json(error) => Untranslated::Refused(error.to_string()),
        SplitError::Faults(faults) => refused(&faults),
        SplitError::EnvelopeTooLarge | SplitError::TooMany => Untranslated::Refused("it is too large".to_owned()),
    })?;
    let mut all = Vec::new();
    let mut read = |envelope: Option<json::Document<'_>>| -> Result<(), Untranslated> {
        for raw in &split.elements {
            if raw.len() > MOST.event_bytes {
                all.push(Err(vec![format!("event: is {} bytes, and may have {}", raw.len(), MOST.event_bytes)]));
                continue;
            }
            let mut heard = None;
            let read = json::with_document_in(split.levels, raw, |document| {
                dialect.decode(&Asked { envelope, ..*asked }, document, &mut |said| heard = Some(said.judged))
            });
            match read.map_err(|error| Untranslated::Refused(error.to_string()))? {
                Ok(()) => all.extend(heard.map(|judged| Ok((judged, raw.clone(), split.envelope.clone())))),
                Err(faults) => all.push(Err(faults)),
            }
        }
        Ok(())
    };
    match &split.envelope {
        None => read(None)?,
        Some(envelope) => json::with_document(envelope, |document| read(Some(document)))
            .map_err(|error| Untranslated::Refused(error.to_string()))??,
    }
    Ok(all)
}

/// The event as the proxy would store it, opening an incident or ending one that it knows.
fn event(dialect: &dyn Dialect, asked: &Asked<'_>, judged: Judged, raw: Bytes, envelope: Option<Bytes>) -> Event {
    let received_at = Micros::now();
    Event {
        uid: Uid::new(received_at),
        received_at,
        integration: INTEGRATION.into(),
        dialect: dialect.name().into(),
        endpoint: Cow::Owned(asked.endpoint.to_owned()),
        family: dialect.family(asked.args),
        action: judged.action,
        key: judged.key,
        target: judged.target,
        severity: judged.severity,
        tolerated: Tolerated::default(),
        raw,
        envelope: envelope.or(judged.fills),
        view: judged.view.and_then(|view| serde_json::to_vec(&*view).ok()).map(Bytes::from),
        trace: None,
    }
}

/// Knows no other incident.
struct Alone;

impl Others for Alone {
    fn by_number(&self, _number: u64) -> Other {
        Other::Unknown
    }
}

fn told(event: Event, upstream: &UpstreamConfig) -> Translated {
    let (at, action) = (event.received_at, event.action);
    let state = if action == crate::event::Action::Resolve { State::Resolved } else { State::Open };
    let incident = Incident {
        iid: Uid::new(at),
        number: 1,
        generation: 1,
        state,
        severity: event.severity,
        count: 1,
        last_seen: at,
        changed_at: at,
    };
    let stored = Stored {
        sequence: 1,
        lane: LaneKey(1),
        event,
        incident: Some(incident),
        before: None,
        outcome: Outcome::Created,
        pacing: Pacing::default(),
    };
    let said = dialect::reread(&stored.event)
        .map_or_else(Said::default, |reread| Said { content: reread.content, extra: reread.extra });
    // What the upstream would have told when the incident began.
    let remote = (action != crate::event::Action::Trigger).then(|| Remote::new("UPSTREAM_ID", None)).flatten();
    let ask = Ask { stored: &stored, said: &said, remote: remote.as_ref(), upstream, others: &Alone };
    let encoded = sink::of(upstream.kind).map(|sink| {
        let encoded = sink.encode(&ask).map_err(|unsaid| unsaid.to_string())?;
        if upstream.kind == Kind::Webhook {
            return Ok(vec![sink.parcel(&[encoded], upstream, at)]);
        }
        Ok([vec![encoded.call], encoded.then].concat())
    });
    Translated {
        action: action.name(),
        key: stored.event.key.as_ref().map(|key| key.canon().to_owned()),
        warnings: said.content.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.path)).collect(),
        requests: encoded.unwrap_or_else(|| Err("nobody speaks it".to_owned())),
        url: upstream.url.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// An upstream of that kind with placeholders for what only its owner knows; `name`: what it was called.
fn upstream(kind: Kind, name: &str) -> Result<UpstreamConfig, Untranslated> {
    let more = match kind {
        Kind::Webhook | Kind::Alertmanager | Kind::CloudEvents => "url: 'https://upstream.example.com/hook'",
        Kind::Stdout => "timeout: 10s",
        Kind::Squadcast => "url: 'https://api.squadcast.com/v2/incidents/api/KEY'",
        Kind::IncidentIo if name == "incidentio_v1" => {
            "credential: API_KEY, api: v1, visibility: private, default_severity_id: SEVERITY_ID, closed_status_id: STATUS_ID"
        }
        Kind::IncidentIo => {
            "credential: API_KEY, visibility: private, default_severity_id: SEVERITY_ID, closed_status_id: STATUS_ID"
        }
        Kind::IncidentIoAlert => "credential: TOKEN, source_config_id: SOURCE_ID",
        Kind::TaskCall => "credential: API_KEY, region: us, service_ref_id: SERVICE_ID",
        Kind::PagerDuty => "credential: ROUTING_KEY",
        Kind::Opsgenie => "credential: API_KEY, region: us",
    };
    let key = "0".repeat(40);
    let text = format!(
        "integrations: [{{ name: a, keys: [{{ key: '{key}' }}], upstreams: [up] }}]\n\
         upstreams: [{{ name: up, kind: {}, mode: normalized, {more} }}]\n",
        kind.name()
    );
    let config = config::load_text("translate.yaml", &text, &|_| None);
    let config = config.map_err(|errors| Untranslated::Upstream(errors.to_string()))?;
    config.upstreams.into_iter().next().ok_or_else(|| Untranslated::Upstream("none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str, to: &str, path: Option<&str>, body: &Bytes) -> Result<Vec<Each>, Untranslated> {
        translate(from, to, &Posted { path, headers: &HeaderMap::new(), body })
    }

    /// Where the requests go, and whether each event has a request at all.
    fn paths(all: &[Each]) -> Vec<Option<String>> {
        let first = |one: &Each| one.as_ref().ok()?.requests.as_ref().ok()?.first()?.path.as_deref().map(str::to_owned);
        all.iter().map(first).collect()
    }

    #[test]
    fn an_element_that_is_no_event_is_told_and_the_others_are_translated() {
        let body = Bytes::from_static(
            br#"{"alerts":[{"status":"firing","labels":{"alertname":"a"}},"oops",{"status":"weird"},
                {"status":"resolved","labels":{"alertname":"a"}}]}"#,
        );
        let all = of("alertmanager", "squadcast", None, &body).unwrap();
        let actions: Vec<_> = all.iter().map(|one| one.as_ref().map(|one| one.action).map_err(Vec::len)).collect();
        assert!(matches!(actions[..], [Ok("trigger"), Err(1..), Err(1..), Ok("resolve")]), "{actions:?}");
    }

    #[test]
    fn a_version_that_no_upstream_gets_is_told_and_the_other_shown_by_its_own_path() {
        let body = Bytes::from_static(br#"{"title":"disk full","id":"k"}"#);
        let told = of("generic", "pagerduty_v1", None, &body).err().unwrap().to_string();
        assert_eq!(told, "no upstream speaks pagerduty_v1; one of kind pagerduty gets pagerduty_v2");
        for (to, path) in
            [("incidentio_v1", "/v1/incidents"), ("incidentio_v2", "/v2/incidents"), ("pagerduty_v2", "/v2/enqueue")]
        {
            assert_eq!(paths(&of("generic", to, None, &body).unwrap()), [Some(path.to_owned())], "{to}");
        }
    }

    #[test]
    fn a_byte_order_mark_does_not_hide_a_batch() {
        let event = r#"{"specversion":"1.0","id":"1","source":"/x","type":"alert","data":{"title":"t"}}"#;
        let body = Bytes::from(format!("\u{feff} [{event},{event}]"));
        assert_eq!(of("cloudevents", "webhook", None, &body).unwrap().len(), 2);
    }

    #[test]
    fn what_the_head_says_is_read() {
        let read = |from, fields: &[(&'static str, &'static str)], body: &'static str| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, hyper::header::HeaderValue::from_static(value));
            }
            let posted = Posted { path: None, headers: &headers, body: &Bytes::from_static(body.as_bytes()) };
            translate(from, "webhook", &posted)
        };
        let data = r#"{"title":"disk full","status":"firing"}"#;
        assert!(read("cloudevents", &[], data).is_err(), "it says not who it is");
        let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/x"), ("ce-type", "com.example.alert")];
        let all = read("cloudevents", &binary, data).unwrap();
        let sent = &all[0].as_ref().unwrap().requests.as_ref().unwrap()[0].body;
        assert!(String::from_utf8_lossy(sent).contains("disk full"), "its data is read, too");
        let raw = [
            ("x-amz-sns-message-type", "Notification"),
            ("x-amz-sns-rawdelivery", "true"),
            ("x-amz-sns-message-id", "1"),
            ("x-amz-sns-topic-arn", "arn:aws:sns:x:1:alarms"),
        ];
        assert!(read("sns", &[], r#"{"AlarmName":"CPU","NewStateValue":"ALARM"}"#).is_err());
        let all = read("sns", &raw, r#"{"AlarmName":"CPU","NewStateValue":"ALARM","AlarmArn":"arn:a"}"#).unwrap();
        assert_eq!(all[0].as_ref().unwrap().action, "trigger");
    }

    #[test]
    fn every_dialect_can_be_said_to_every_kind_or_says_why_not() {
        let body = Bytes::from_static(br#"{"title":"disk full","id":"k"}"#);
        for kind in kinds() {
            let all = of("generic", kind, None, &body).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(all.len(), 1, "{kind}");
            let one = all[0].as_ref().unwrap();
            assert!(one.requests.as_ref().is_ok_and(|requests| !requests.is_empty()), "{kind}");
        }
        for from in dialects() {
            match of(from, "webhook", None, &body) {
                Ok(_) | Err(Untranslated::Refused(_)) => {}
                Err(error) => panic!("{from}: {error}"),
            }
        }
    }

    #[test]
    fn names_and_paths_that_nobody_has_are_told_with_those_that_are_there() {
        let body = Bytes::from_static(b"{}");
        let told = |from, to, path| of(from, to, path, &body).err().unwrap().to_string();
        assert!(told("squadcst", "webhook", None).contains("squadcast, incidentio_v1"));
        assert!(told("squadcast", "nagios", None).contains("webhook, squadcast"));
        assert!(told("squadcast", "webhook", Some("/v2/enqueue")).contains("does not serve"));
        assert!(told("squadcast", "webhook", None).contains("message"), "what is wrong with the body");
    }
}
