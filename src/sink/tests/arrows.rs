//! Golden files of the translation matrix (contracts 7): `tests/arrows/FROM--TO.json`, one an arrow, each with cases. A case is
//! an event as it was accepted, in its sender's own body; what stands behind `out` is every request the upstream gets.
//! `SURGEGATE_REGENERATE=1 cargo test --lib sink::tests::arrows` writes `out` anew: look at it before it is kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::event::{Action, Event, Incident, Key, KeyKind, Severity, State, Target, TargetKind};
use crate::outcome::Outcome;
use crate::sink::{self, Ask, Encoded, Parcel, Said, UpstreamConfig, samples};
use crate::store::{Remote, Stored};
use crate::{config, dialect};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arrows");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The upstream as a configuration would make it: keys of INTERFACE 3.
fn upstream(kind: &str, written: &Value) -> UpstreamConfig {
    let mut upstream = written.as_object().cloned().unwrap_or_default();
    upstream.insert("name".to_owned(), "up".into());
    upstream.insert("kind".to_owned(), kind.into());
    let integrations = json!([{ "name": "payments", "keys": [{ "key": "0".repeat(40) }], "upstreams": ["up"] }]);
    let text = json!({ "integrations": integrations, "upstreams": [upstream] }).to_string();
    let config = config::load_text("arrow.json", &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    config.upstreams.into_iter().next().unwrap()
}

fn word<'v>(of: &'v Value, name: &str) -> Option<&'v str> {
    of.get(name)?.as_str()
}

/// `event`: `dialect`, `endpoint`, `family` (the dialect's unless it says so), `action`, `key`, `key_kind`, `target`,
/// `severity`, `outcome` (created for a trigger, else the action's), `generation`, and `raw`: JSON, or a text.
fn stored(from: &str, event: &Value) -> Stored {
    let action = Action::ALL.into_iter().find(|action| Some(action.name()) == word(event, "action"));
    let action = action.unwrap_or(Action::Trigger);
    let kind = match word(event, "key_kind") {
        Some("integer") => KeyKind::Integer,
        Some("derived") => KeyKind::Derived,
        Some("generated") => KeyKind::Generated,
        _ => KeyKind::String,
    };
    let raw = match &event["raw"] {
        Value::String(text) => text.clone(),
        raw => raw.to_string(),
    };
    let target = |value: &str| Target { kind: TargetKind::InstanceId, value: value.into() };
    let number = event["generation"].as_u64().unwrap_or(1);
    let generation = u32::try_from(number).unwrap();
    let state = if action == Action::Resolve { State::Resolved } else { State::Open };
    let family = word(event, "family").unwrap_or(from).to_owned();
    let made = Event {
        dialect: word(event, "dialect").unwrap_or(from).to_owned().into(),
        endpoint: word(event, "endpoint").unwrap_or_default().to_owned().into(),
        family: family.into(),
        key: word(event, "key").and_then(|key| Key::parse(key, kind)),
        target: word(event, "target").map(target),
        severity: event["severity"].as_u64().and_then(|level| Severity::new(u8::try_from(level).unwrap())),
        ..samples::event(action, None, &raw)
    };
    let outcome = Outcome::ALL.into_iter().find(|outcome| Some(outcome.name()) == word(event, "outcome"));
    let incident = Incident { severity: made.severity, ..samples::incident(generation, state) };
    let stored = samples::stored(1, made, Some(incident));
    Stored { outcome: outcome.unwrap_or(Outcome::Created), ..stored }
}

fn request(parcel: &Parcel, raw: &[u8]) -> Value {
    let mut shown = Map::new();
    shown.insert("method".to_owned(), parcel.method.as_str().into());
    shown.insert("path".to_owned(), parcel.path.as_deref().into());
    let headers = parcel.headers.iter().filter(|(name, _)| *name != "content-type");
    let headers: Map<_, _> = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    if !headers.is_empty() {
        shown.insert("headers".to_owned(), headers.into());
    }
    if *parcel.body == *raw {
        shown.insert("verbatim".to_owned(), true.into());
    } else {
        let text = String::from_utf8(parcel.body.to_vec()).unwrap();
        shown.insert("body".to_owned(), serde_json::from_str(&text).unwrap_or(text.into()));
    }
    shown.into()
}

fn out(kind: &str, case: &Value, from: &str, upstream: &UpstreamConfig) -> Value {
    let stored = stored(from, &case["event"]);
    let reread = dialect::reread(&stored.event).unwrap_or_else(|| panic!("{from} does not read {}", case["case"]));
    let said = Said { content: reread.content, extra: reread.extra };
    let remote = word(case, "remote").and_then(|id| Remote::new(id, None));
    let sink = sink::SINKS.iter().find(|sink| sink.kind().name() == kind).unwrap_or_else(|| panic!("no sink {kind}"));
    match sink.encode(&Ask { remote: remote.as_ref(), ..samples::ask(&stored, &said, upstream) }) {
        Ok(Encoded { call, then, .. }) => {
            std::iter::once(&call).chain(&then).map(|parcel| request(parcel, &stored.event.raw)).collect()
        }
        Err(unsaid) => unsaid.to_string().into(),
    }
}

#[test]
fn every_arrow_is_as_its_golden_file_says() {
    let regenerate = std::env::var_os("SURGEGATE_REGENERATE").is_some();
    let mut wrong = Vec::new();
    for file in files() {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (from, kind) = name.split_once("--").unwrap_or_else(|| panic!("{name}: FROM--TO.json"));
        let mut arrow: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let upstream = upstream(kind, &arrow["upstream"]);
        for case in arrow["cases"].as_array_mut().unwrap() {
            let got = out(kind, case, from, &upstream);
            if regenerate {
                case["out"] = got;
            } else if got != case["out"] {
                wrong.push(format!("{name}, {}:\n{got:#}", case["case"]));
            }
        }
        if regenerate {
            fs::write(&file, format!("{arrow:#}\n")).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
