//! Any bytes as a body of each dialect, on each of its routes (PROMISES I4): nothing panics, what is judged is what is read, and
//! what was accepted is read again; where a body says all by itself, with every member that has no home.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::HeaderMap;
use surgegate::dialect::{self, Asked, DIALECTS, Dialect, Extra, Judged, Most, Route, Rules, Takes, json};
use surgegate::event::{Content, Event, KeyKind, Micros, Tolerated, Uid};
use surgegate::gate::{AlertSource, Fields, GroupMode, Mapping, Settings};

/// The dialects whose events say all by themselves: what is read again says the same. What the others say is judged by
/// their path and their integration too, so there it must only be read.
const HOOKS: [&str; 9] =
    ["datadog", "sns", "cloudevents", "zabbix", "nagios", "icinga", "checkmk", "generic", "grafana"];
/// Whose batches are taken as a whole or not at all.
const WHOLE: &str = "cloudevents";
/// Has a target of its own, which holds it to the contract.
const ELSEWHERE: &str = "squadcast";
/// Stands for each text of a path, and is an alert source.
const ARG: &str = "one";

struct Read {
    judged: Judged,
    content: Content<'static>,
    extra: Vec<String>,
}

/// Whether any of them accepts it.
pub(crate) fn run(body: &[u8]) -> bool {
    let others = DIALECTS.iter().filter(|dialect| dialect.name() != ELSEWHERE);
    // Each is to read it.
    others.filter(|dialect| is_read(**dialect, body)).count() > 0
}

/// Whether one of the dialect's routes accepts it, whatever the integration's settings.
pub(crate) fn is_read(dialect: &dyn Dialect, body: &[u8]) -> bool {
    let fields = Fields {
        title: vec!["/title".into(), "/a/0/b".into()],
        key: vec!["/id".into()],
        action: vec!["/status".into()],
        tags: vec!["/labels".into()],
        ..Fields::default()
    };
    let source =
        |kind: &str| AlertSource { id: ARG.into(), kind: kind.into(), secret_hash: [0; 32], require_dedup_key: false };
    let plain = Settings {
        alert_sources: vec![source("http")],
        default_severity_id: Some("severity".into()),
        ..Settings::default()
    };
    let mapped = Settings { generic: Some(Mapping::new(fields)), group_mode: GroupMode::Group, ..plain.clone() };
    let mut accepted = false;
    for settings in [plain, mapped] {
        for route in says(dialect) {
            accepted |= at(dialect, route, &settings, body, &HeaderMap::new());
            accepted |= at(dialect, route, &settings, body, &batch_head());
            // By such a head any text is a message.
            at(dialect, route, &settings, body, &head());
        }
    }
    accepted
}

/// Its routes that take a statement, each endpoint once.
fn says(dialect: &dyn Dialect) -> Vec<&'static Route> {
    let mut routes: Vec<&'static Route> = Vec::new();
    for route in dialect.routes() {
        let says = !route.reads && route.takes != Takes::Nothing;
        if says && routes.iter().all(|known| known.endpoint != route.endpoint) {
            routes.push(route);
        }
    }
    routes
}

/// What says that the body is a message alone, or data alone.
fn head() -> HeaderMap {
    let fields = [
        ("x-amz-sns-rawdelivery", "true"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("content-type", "text/plain"),
    ];
    let named = |(name, value): (&'static str, &'static str)| {
        (hyper::header::HeaderName::from_static(name), hyper::header::HeaderValue::from_static(value))
    };
    fields.into_iter().map(named).collect()
}

/// What says that the body is a list of events.
fn batch_head() -> HeaderMap {
    let kind = hyper::header::HeaderValue::from_static("application/cloudevents-batch+json");
    HeaderMap::from_iter([(hyper::header::CONTENT_TYPE, kind)])
}

fn at(dialect: &dyn Dialect, route: &'static Route, settings: &Settings, body: &[u8], headers: &HeaderMap) -> bool {
    let args = vec![Box::<str>::from(ARG); route.path.matches('{').count()];
    let asked = Asked {
        args: &args,
        headers: Some(headers),
        ..Asked::at(route.endpoint, Rules { require_description: true, judge_only: true, settings: Some(settings) })
    };
    let (name, whole) = (dialect.name(), Bytes::copy_from_slice(body));
    if route.takes != Takes::Batch || !dialect.holds_many(headers) {
        return element(dialect, &asked, whole);
    }
    let Ok(split) = dialect.split(&asked, &whole, Most { elements: 100, event_bytes: 30_720 }) else { return false };
    let mut accepted = false;
    for raw in split.elements {
        let is_taken = match &split.envelope {
            None => element(dialect, &asked, raw),
            Some(envelope) => json::with_document(envelope, |envelope| {
                element(dialect, &Asked { envelope: Some(envelope), ..asked }, raw)
            })
            // Beside the list only the syntax was looked at: such a body is refused as a whole.
            .unwrap_or(false),
        };
        // Of these one fault refuses the whole, so what came apart is taken.
        assert!(is_taken || name != WHOLE, "an element of {name} was found good, and is refused");
        accepted |= is_taken;
    }
    accepted
}

/// One event's body; whether it is accepted.
fn element(dialect: &dyn Dialect, asked: &Asked<'_>, raw: Bytes) -> bool {
    let name = dialect.name();
    let whole = Asked { rules: Rules { judge_only: false, ..asked.rules }, ..*asked };
    let (judged, read) = (read(dialect, asked, &raw), read(dialect, &whole, &raw));
    match (judged, read) {
        (Ok(Some(judged)), Ok(Some(read))) => {
            let (judged, whole) = (judged.judged, &read.judged);
            // One that stands for a key that is not there is another one each time.
            let key = |said: &Judged| said.key.clone().filter(|key| key.kind != KeyKind::Generated);
            assert_eq!((judged.action, key(&judged)), (whole.action, key(whole)), "{name}");
            assert_eq!((&judged.target, judged.severity), (&whole.target, whole.severity), "{name}");
            assert_eq!((&judged.ends, &judged.fills), (&whole.ends, &whole.fills), "{name}");
            if read.judged.ends.is_none() {
                rereads(dialect, asked, raw, &read);
            }
            true
        }
        (Ok(None), Ok(None)) => false,
        (Err(judged), Err(read)) => {
            assert_eq!(judged, read, "{name}");
            assert!(!read.is_empty() && read.iter().all(|fault| fault.contains(": ")), "{name}: {read:?}");
            false
        }
        _ => panic!("{name} judges otherwise than it reads"),
    }
}

fn read(dialect: &dyn Dialect, asked: &Asked<'_>, body: &[u8]) -> Result<Option<Read>, Vec<String>> {
    let made = dialect.as_json(asked, body)?;
    let mut read = None;
    let decoded = json::with_document(made.as_deref().unwrap_or(body), |document| {
        if !document.root.is_object() {
            return Err(vec!["body: must be a JSON object".to_owned()]);
        }
        dialect.decode(asked, document, &mut |said| {
            assert!(read.is_none(), "one body is one statement");
            let extra = said.extra.iter().map(Extra::name).map(str::to_owned).collect();
            read = Some(Read { judged: said.judged, content: said.content.into_owned(), extra });
        })
    });
    decoded.map_err(|error| vec![format!("body: {error}")])??;
    Ok(read)
}

fn rereads(dialect: &dyn Dialect, asked: &Asked<'_>, raw: Bytes, read: &Read) {
    let Judged { action, key, severity, fills, target, .. } = read.judged.clone();
    let shared = asked.envelope.and_then(|envelope| envelope.source(&[])).map(|text| Bytes::from(text.into_owned()));
    let event = Event {
        uid: Uid(1),
        received_at: Micros(1),
        integration: "fuzz".into(),
        dialect: dialect.name().into(),
        endpoint: Cow::Owned(asked.endpoint.to_owned()),
        family: dialect.family(asked.args),
        action,
        key,
        target,
        severity,
        tolerated: Tolerated::default(),
        raw,
        envelope: fills.or(shared),
        view: None,
        trace: None,
    };
    let again = dialect::reread(&event).unwrap_or_else(|| panic!("{} does not read it again", dialect.name()));
    if !HOOKS.contains(&dialect.name()) {
        return;
    }
    assert_eq!(Content { severity: None, ..again.content }, Content { severity: None, ..read.content.clone() });
    // The members of a batch's envelope are told apart from the element's own where they are read.
    if asked.envelope.is_some() {
        return;
    }
    let names: Vec<String> = again.extra.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, read.extra, "{}", dialect.name());
}
