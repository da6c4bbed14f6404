//! Every sample of contracts/incident-io against the real binary: what an incident.io client sends is answered and
//! arrives as its manifest says. Nothing is skipped: an unknown file, member or name is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{CLOSED, ask};
use crate::harness::{Answer, Recorder, Surgegate, request};

/// Made before an edit: not what the sample is about.
const BEFORE: &str = "made before";

struct Sample {
    place: String,
    line: Map<String, Value>,
    body: String,
    /// Its own integration: no sample meets what another left.
    number: usize,
}

fn key_of(number: usize) -> String {
    format!("{number:08x}10c1de0010123456789abcdef012345678")
}

fn text<'v>(line: &'v Map<String, Value>, name: &str) -> &'v str {
    line.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {name} in {line:?}"))
}

/// All samples. A file that no line names is a failure, a line whose file is missing too.
fn samples() -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts/incident-io");
    let mut samples = Vec::new();
    for folder in [root.clone(), root.join("invalid")] {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let is_body = |path: &PathBuf| path.is_file() && !path.ends_with("manifest.jsonl");
        let mut unread: BTreeSet<PathBuf> = entries.filter(is_body).collect();
        let manifest = std::fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
        for (index, line) in manifest.lines().enumerate() {
            let line: Map<String, Value> = serde_json::from_str(line).unwrap();
            // A question has no body.
            let file = line["file"].as_str().map(|file| folder.join(file));
            let mut body = file.as_ref().map_or_else(String::new, |file| std::fs::read_to_string(file).unwrap());
            file.iter().for_each(|file| {
                unread.remove(file);
            });
            if let Some(size) = line.get("pad_to").and_then(Value::as_u64) {
                let member = format!("\"{}\": \"", text(&line, "pad_field"));
                body.truncate(body.trim_end().len());
                let at = body.find(&member).unwrap() + member.len();
                body.insert_str(at, &"x".repeat(size as usize - body.len()));
            }
            let place = format!("{}, line {}", folder.display(), index + 1);
            samples.push(Sample { place, line, body, number: samples.len() });
        }
        assert!(unread.is_empty(), "no manifest line names {unread:?}");
    }
    samples
}

fn configuration(count: usize, recorder: &Recorder) -> String {
    let mut text = "integrations:\n".to_owned();
    for number in 0..count {
        let key = key_of(number);
        text += &format!(
            "  - name: sample-{number}\n    keys: [{{ key: '{key}' }}]\n    upstreams: [target]\n    incident_statuses:\n    \
             - {{ id: {CLOSED}, name: Closed, category: closed }}\n    \
             - {{ id: 01FCNDV6P870EA6S7TK1DSYD5H, name: Fixing, category: live }}\n    \
             alert_sources: [{{ id: source-{number}, kind: http, secret: secret-{number} }}]\n"
        );
    }
    text + &format!("upstreams:\n  - {{ name: target, kind: webhook, url: '{}' }}\n", recorder.url())
}

impl Sample {
    /// Replaces what the manifest leaves open.
    fn filled(&self, surgegate: &Surgegate, text: &str) -> String {
        let key = key_of(self.number);
        let mut filled = text
            .replace("{key}", &key)
            .replace("{source_config_id}", &format!("source-{}", self.number))
            .replace("{source_secret}", &format!("secret-{}", self.number))
            .replace("{closed_status_id}", CLOSED);
        if filled.contains("{incident_id}") {
            let body = format!(r#"{{"idempotency_key":"{BEFORE}","visibility":"public","name":"{BEFORE}"}}"#);
            let made = ask(surgegate, "POST", "/v1/incidents", &key, &body).json();
            filled = filled.replace("{incident_id}", made["incident"]["id"].as_str().unwrap());
        }
        filled
    }

    fn send(&mut self, surgegate: &Surgegate) -> Answer {
        self.body = self.filled(surgegate, &self.body);
        let path = self.filled(surgegate, text(&self.line, "path"));
        let headers = self.line["headers"].as_object().unwrap().iter();
        let fields: Vec<String> = headers
            .map(|(name, value)| format!("{name}: {}", self.filled(surgegate, value.as_str().unwrap())))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut connection = surgegate.connect();
        connection.send(request(text(&self.line, "method"), &path, &fields, &self.body)).unwrap();
        connection.answer().unwrap_or_else(|error| panic!("{}: no answer: {error}", self.place))
    }

    fn check_answer(&self, answer: &Answer) {
        let place = &self.place;
        let body = answer.json();
        for (member, value) in &self.line {
            match member.as_str() {
                "file" | "method" | "path" | "headers" | "norm" | "pad_to" | "pad_field" | "note" | "why" => {}
                "expect" => assert_eq!(Value::from(answer.status), *value, "{place}: {body}"),
                "field" => {
                    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{place}: {body}"));
                    assert!(errors.iter().any(|error| error["source"]["field"] == *value), "{place}: {body}");
                    assert_eq!(errors.len(), 1, "{place}: one fault alone: {body}");
                }
                unknown => panic!("{place}: unknown member {unknown}"),
            }
        }
        assert!(answer.header("x-request-id").is_some(), "{place}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{place}");
        if answer.status >= 300 {
            assert_eq!(body["status"], answer.status, "{place}: {body}");
            assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{place}");
            assert!(body["type"].is_string() && body["errors"][0]["message"].is_string(), "{place}: {body}");
        }
    }

    fn check_event(&self, event: &Value) {
        let place = &self.place;
        for (name, wanted) in self.line.get("norm").and_then(Value::as_object).into_iter().flatten() {
            match name.as_str() {
                "action" | "idempotency_key" | "key" | "title" | "visibility" | "mode" | "status_raw" | "severity"
                | "links" => assert_eq!(event[name], *wanted, "{place}: {name}"),
                "extra_has" => {
                    let has = |member: &Value| event["extra"].get(member.as_str().unwrap()).is_some();
                    assert!(wanted.as_array().unwrap().iter().all(has), "{place}: {event}");
                }
                "key_kind" => {
                    let is_derived =
                        event["key"].as_str().is_some_and(|key| key.len() == 37 && key.starts_with("auto-"));
                    assert!(is_derived && *wanted == "derived", "{place}: {event}");
                }
                unknown => panic!("{place}: unknown norm name {unknown}"),
            }
        }
        assert_eq!(event["raw"].as_str(), Some(self.body.as_str()), "{place}: raw is not the body");
    }
}

#[test]
fn every_sample_is_answered_and_normalized_as_its_manifest_says() {
    let mut samples = samples();
    assert!(samples.len() > 30, "only {} samples", samples.len());
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(samples.len(), &recorder)]);
    let mut taken = BTreeMap::new();
    for sample in &mut samples {
        let answer = sample.send(&surgegate);
        sample.check_answer(&answer);
        if answer.header("x-surgegate-outcome").is_some() {
            taken.insert(format!("sample-{}", sample.number), &*sample);
        } else {
            assert!(answer.status >= 300 || text(&sample.line, "method") == "GET", "{}", sample.place);
        }
    }
    surgegate.wait_until_delivered();
    for event in recorder.events().iter().filter(|event| event["title"] != BEFORE) {
        let integration = event["integration"].as_str().unwrap();
        taken.remove(integration).unwrap_or_else(|| panic!("refused or sent twice: {event}")).check_event(event);
    }
    let missing: Vec<_> = taken.values().map(|sample| &sample.place).collect();
    assert!(missing.is_empty(), "never arrived: {missing:?}");
}
