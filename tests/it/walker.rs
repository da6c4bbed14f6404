//! The contracts, walked: every sample and scenario under `tests/contracts` against the real binary.
//! Nothing is skipped: an unknown file, member or name is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::harness::{Answer, Recorded, Recorder, Surgegate, request, wait_for, wait_until};
use crate::taskcall::Vendor as TaskCall;

/// Dialects whose samples are walked: the names of their folders.
const DIALECTS: [&str; 4] = ["squadcast", "taskcall", "opsgenie", "pagerduty"];
/// Those of senders that choose their URL, and how many samples each has at least.
const HOOKS: [(&str, usize); 8] = [
    ("datadog", 7),
    ("sns", 10),
    ("cloudevents", 9),
    ("zabbix", 6),
    ("nagios", 7),
    ("icinga", 4),
    ("checkmk", 3),
    ("generic", 4),
];
/// Those whose bodies hold many events.
const BATCHES: [&str; 2] = ["alertmanager", "grafana"];
/// Scenarios that are walked, by name, with the kind of upstream that speaks their dialect.
const SCENARIOS: [(&str, &str); 5] = [
    ("alertmanager-repeat", "alertmanager"),
    ("concurrent-first-trigger", "squadcast"),
    ("squadcast-key-types", "squadcast"),
    ("squadcast-lifecycle", "squadcast"),
    ("taskcall-ids", "taskcall"),
];
/// Scenarios and samples that `incidentio` walks: its clients' headers, ids and statuses are its own.
const INCIDENT_IO: [&str; 2] = ["incidentio-idempotency", "squadcast-to-incidentio-reopen"];

/// contracts/pagerduty.md 4: three forms of a 400, each with a list of texts; a bad key has the same one always.
fn pagerduty_refusal(sample: &Sample, answer: &Answer) {
    let (place, body, file) = (&sample.place, answer.json(), text(&sample.line, "file"));
    if answer.status != 400 {
        assert_eq!((&body["status"], &body["errors"]), (&"error".into(), &Value::Null), "{place}: {body}");
        return;
    }
    let (status, message) = match file {
        "array.json" | "form.txt" => ("unrecognized object", "Event object format is unrecognized"),
        _ => ("invalid event", "Event object is invalid"),
    };
    assert_eq!((&body["status"], &body["message"]), (&status.into(), &message.into()), "{place}: {body}");
    let errors: Vec<&str> = body["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    let wanted = match file {
        _ if file.contains("routing-key") => "Invalid routing key",
        "array.json" => "JSON parse error",
        "form.txt" => "send a body of JSON with Content-Type: application/json",
        "bad-action.json" => {
            "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')"
        }
        "v1-bad-type.json" => {
            "'event_type' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')"
        }
        "missing-payload.json" => "'payload' is missing or blank",
        "payload-array.json" => "'payload' must be an object",
        "missing-source.json" => "'payload.source' is missing or blank",
        "missing-severity.json" => "'payload.severity' is missing or blank",
        "blank-summary.json" => "'payload.summary' is missing or blank",
        "dedup-too-long.json" => "'dedup_key' is too long (maximum is 255 characters)",
        "resolve-without-dedup.json" | "acknowledge-blank-dedup.json" => "'dedup_key' is missing or blank",
        "v1-missing-description.json" => "'description' is missing or blank",
        unknown => panic!("{place}: nobody says what {unknown} is answered"),
    };
    // What is wrong beside it follows: where the action is none, a v1 body may be a trigger without its description.
    let beside: &[&str] = if file == "v1-bad-type.json" { &["'description' is missing or blank"] } else { &[] };
    assert_eq!(errors, [&[wanted], beside].concat(), "{place}");
}

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts")
}

fn lines(path: &Path) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {name} in {object:?}"))
}

/// Each integration its own key and state: no sample meets what another left.
fn key_of(number: usize) -> String {
    format!("{number:08x}5ca1ab1e0123456789abcdef01234567")
}

fn configuration(integrations: usize, kind: &str, recorder: &Recorder) -> String {
    let vendor = if kind == "taskcall" {
        ", credential: k, service_ref_id: S, rate_limit: { requests_per_second: 1000 }"
    } else {
        ""
    };
    integrations_to("target", integrations)
        + &format!("upstreams:\n  - {{ name: target, kind: {kind}, url: '{}'{vendor} }}\n", recorder.url())
}

fn integrations_to(upstreams: &str, integrations: usize) -> String {
    let mut text = "integrations:\n".to_owned();
    for number in 0..integrations {
        let key = key_of(number);
        text += &format!("  - {{ name: sample-{number}, keys: [{{ key: '{key}' }}], upstreams: [{upstreams}] }}\n");
    }
    text
}

/// One line of a manifest, with the file it names.
struct Sample {
    dialect: &'static str,
    place: String,
    line: Map<String, Value>,
    body: Vec<u8>,
}

/// All samples of a dialect. A file that no line names is a failure, a line whose file is missing too.
fn samples(dialect: &'static str) -> Vec<Sample> {
    let mut samples = Vec::new();
    let folders = [contracts().join(dialect), contracts().join(dialect).join("invalid")];
    // Some dialects refuse nothing that a sample would show.
    for folder in folders.into_iter().filter(|folder| folder.exists() || dialect != "checkmk") {
        let mut unread: BTreeSet<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.ends_with("manifest.jsonl"))
            .collect();
        for (index, line) in lines(&folder.join("manifest.jsonl")).into_iter().enumerate() {
            // A question has no body.
            let file = line["file"].as_str().map(|file| folder.join(file));
            let read = |file| std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let mut body = file.as_ref().map_or_else(Vec::new, read);
            let file = file.unwrap_or_else(|| folder.join(text(&line, "path").trim_start_matches('/')));
            unread.remove(&file);
            if line.get("no_body").is_some_and(|none| *none == true) {
                body.clear();
            }
            if let Some(size) = line.get("pad_to") {
                pad(&mut body, size.as_u64().unwrap() as usize, text(&line, "pad_field"));
            }
            samples.push(Sample { dialect, place: format!("{}, line {}", file.display(), index + 1), line, body });
        }
        assert!(unread.is_empty(), "no manifest line names {unread:?}");
    }
    samples
}

/// Makes the text member longer until the body has this size.
fn pad(body: &mut Vec<u8>, size: usize, member: &str) {
    while body.last().is_some_and(u8::is_ascii_whitespace) {
        body.pop();
    }
    let start = format!("\"{member}\": \"");
    let at = body.windows(start.len()).position(|bytes| bytes == start.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no text member {member}")) + start.len();
    let filler = vec![b'x'; size - body.len()];
    body.splice(at..at, filler);
}

/// What is made before a template is sent: not what it is about.
const BEFORE: &str = "made before";

impl Sample {
    /// Replaces the ids of a template by those of incidents made for it; how many that were.
    fn fill(&mut self, surgegate: &Surgegate, key: &str) -> usize {
        if !self.line["file"].as_str().is_some_and(|file| file.ends_with(".tmpl")) {
            return 0;
        }
        let fields = [&*format!("Authorization: token {key}"), "Content-Type: application/json"];
        let ids = [0, 1].map(|_| {
            let body = format!(r#"{{"title":"{BEFORE}","service_ref_id":"S"}}"#);
            let mut connection = surgegate.connect();
            connection.send(request("POST", "/create", &fields, body)).unwrap();
            connection.answer().unwrap().json()["instance_id"].to_string()
        });
        let text = String::from_utf8(std::mem::take(&mut self.body)).unwrap();
        // The sample's survivor of a merge is an incident of the same sender: an id that was never given is 404.
        self.body = text.replace("{instance_id}", &ids[0]).replace("7884", &ids[1]).into_bytes();
        ids.len()
    }

    /// Sends what a sample's effect supposes; how many events that were.
    fn prepare(&self, surgegate: &Surgegate, key: &str) -> usize {
        let before = match self.dialect {
            "opsgenie" => crate::opsgenie::before(text(&self.line, "path"), BEFORE),
            _ => Vec::new(),
        };
        for (path, body) in &before {
            let answer = self.send(surgegate, key, ("POST", path, body.as_bytes()));
            assert!(answer.status < 300, "{}: {path}: {}", self.place, answer.text());
        }
        before.len()
    }

    fn post(&self, surgegate: &Surgegate, key: &str) -> Answer {
        let path = text(&self.line, "path").replace("{key}", key);
        self.send(surgegate, key, (text(&self.line, "method"), &path, &self.body_with(key)))
    }

    fn send(&self, surgegate: &Surgegate, key: &str, (method, path, body): (&str, &str, &[u8])) -> Answer {
        let headers = self.line["headers"].as_object().unwrap();
        let fields: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap().replace("{key}", key)))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut connection = surgegate.connect();
        connection.send(request(method, path, &fields, body)).unwrap();
        connection.answer().unwrap_or_else(|error| panic!("{}: no answer: {error}", self.place))
    }

    /// The body as the holder of this key sends it.
    fn body_with(&self, key: &str) -> Vec<u8> {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text.replace("{key}", key).into_bytes(),
            Err(_) => self.body.clone(),
        }
    }

    /// Everything that the line says of this answer. `reaches`: the kind of a vendor that is an upstream, if one is.
    fn check_answer(&self, answer: &Answer, reaches: Option<&str>) {
        let place = &self.place;
        let needs = self.line.get("needs_target").map(|kind| kind.as_str().unwrap());
        let is_done = needs.is_none_or(|kind| reaches == Some(kind));
        for (member, value) in &self.line {
            match member.as_str() {
                "file" | "method" | "path" | "headers" | "norm" | "rejected" | "pad_to" | "pad_field" | "note"
                | "why" | "needs_target" | "no_body" => {}
                "ignored" => assert_eq!(answer.outcome(), "ignored", "{place}"),
                "expect" if !is_done => assert_eq!(answer.status, 501, "{place}: {}", answer.text()),
                "expect" => assert_eq!(Value::from(answer.status), *value, "{place}: {}", answer.text()),
                "absent_tags" => assert!(self.line.contains_key("norm"), "{place}: absent_tags without norm"),
                unknown => panic!("{place}: unknown member {unknown}"),
            }
        }
        let request_id = answer.header("x-request-id").unwrap_or_else(|| panic!("{place}: no X-Request-Id"));
        assert!(!request_id.is_empty());
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{place}");
        if answer.status == 405 {
            assert_eq!(answer.header("allow"), Some("POST"), "{place}");
        }
        match self.dialect {
            "taskcall" => crate::taskcall::check_form(answer, place),
            "opsgenie" => crate::opsgenie::check_form(answer, place, self.line.get("why").and_then(Value::as_str)),
            "pagerduty" if answer.status < 300 => {}
            "pagerduty" => {
                let message = answer.json()["message"].as_str().map(str::to_owned).unwrap_or_default();
                assert!(!message.is_empty(), "{place}: {}", answer.text());
                pagerduty_refusal(self, answer);
            }
            _ => self.check_form(answer, request_id),
        }
    }

    /// The forms of contracts/squadcast.md.
    fn check_form(&self, answer: &Answer, request_id: &str) {
        let (place, body) = (&self.place, answer.json());
        assert_eq!(body["request_id"], request_id, "{place}: {body}");
        if answer.status >= 300 {
            assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{place}: {body}");
            // Faults of the body name their member; a body that cannot even be decoded has none.
            if answer.status == 400 && !self.line["headers"].to_string().contains("Content-Encoding") {
                let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{place}: no errors in {body}"));
                assert!(
                    errors.iter().all(|error| error.as_str().is_some_and(|text| text.contains(": "))),
                    "{place}: {body}"
                );
            }
        }
    }

    fn check_event(&self, event: &Value) {
        let place = &self.place;
        let empty = Map::new();
        let norm = match self.line.get("norm") {
            // A body that may hold many events holds one.
            Some(Value::Array(norms)) => norms[0].as_object().unwrap(),
            norm => norm.map_or(&empty, |norm| norm.as_object().unwrap()),
        };
        self.check_norm(norm, event);
        for tag in self.line.get("absent_tags").and_then(Value::as_array).into_iter().flatten() {
            assert!(event["tags"].get(tag.as_str().unwrap()).is_none(), "{place}: tag {tag} is there: {event}");
        }
        // The body to the byte, a key in it overwritten.
        let raw = self.body_with(&"*".repeat(key_of(0).len()));
        assert_eq!(event["raw"].as_str().map(str::as_bytes), Some(raw.as_slice()), "{place}: raw is not the body");
    }

    fn check_norm(&self, norm: &Map<String, Value>, event: &Value) {
        let place = &self.place;
        for (name, wanted) in norm {
            let said = norm_name(name, event).unwrap_or_else(|| panic!("{place}: unknown norm name {name}"));
            match name.as_str() {
                "tags" => {
                    for (tag, wanted) in wanted.as_object().unwrap() {
                        assert_subset(&said[tag], wanted, &format!("{place}: tag {tag}"));
                        // What a tag does not have is absent (contracts 3.2).
                        let extra = said[tag].as_object().unwrap().keys().filter(|name| wanted.get(name).is_none());
                        let odd: Vec<_> = extra.filter(|name| *name != "type" && *name != "bare").collect();
                        assert!(odd.is_empty(), "{place}: tag {tag} has {odd:?}");
                    }
                }
                "extra_has" => {
                    for member in wanted.as_array().unwrap() {
                        assert!(said.get(member.as_str().unwrap()).is_some(), "{place}: extra has no {member}: {said}");
                    }
                }
                _ => assert_eq!(said, *wanted, "{place}: {name}"),
            }
        }
    }

    /// The answer to a batch counts its alerts; each that is an event arrives by itself, with its part of the body.
    fn check_batch(&self, answer: &Answer, events: &[Value]) {
        let place = &self.place;
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        // A Grafana before version 9 sends one rule.
        let one = vec![body.clone()];
        let is_one = body["alerts"].is_null();
        let alerts = if is_one { &one } else { body["alerts"].as_array().unwrap() };
        let rejected = self.line.get("rejected").map_or(0, |count| count.as_u64().unwrap() as usize);
        let said = answer.json();
        assert_eq!(said["status"], "ok", "{place}: {said}");
        assert_eq!((&said["received"], &said["rejected"]), (&alerts.len().into(), &rejected.into()), "{place}: {said}");
        let ignored = usize::from(is_one && self.line["norm"].as_array().is_some_and(Vec::is_empty));
        assert_eq!(events.len(), alerts.len() - rejected - ignored, "{place}: {events:?}");
        for (norm, alert) in self.line.get("norm").and_then(Value::as_array).into_iter().flatten().zip(alerts) {
            let raw = |event: &&Value| serde_json::from_str::<Value>(event["raw"].as_str().unwrap()).unwrap() == *alert;
            let event = events.iter().find(raw).unwrap_or_else(|| panic!("{place}: {alert} never arrived"));
            assert!(std::str::from_utf8(&self.body).unwrap().contains(event["raw"].as_str().unwrap()), "{place}");
            self.check_norm(norm.as_object().unwrap(), event);
        }
    }
}

/// A normalized field as the webhook shows it; `None` for a name that nobody told this test.
fn norm_name(name: &str, event: &Value) -> Option<Value> {
    Some(match name {
        "action" | "key" | "title" | "description" | "severity" | "severity_raw" | "status_raw" | "tags" | "source"
        | "component" | "group" | "class" | "service" | "links" | "started_at" | "ended_at" | "visibility" | "mode"
        | "note" | "assignment" | "idempotency_key" => event[name].clone(),
        // What the sender did not write was made.
        "key_kind" if !event["raw"].as_str()?.contains(event["key"].as_str()?) => "generated".into(),
        "title_length" => event["title"].as_str()?.chars().count().into(),
        "extra_has" => event["extra"].clone(),
        "warnings" => event["warnings"].as_array()?.iter().map(|warning| warning["code"].clone()).collect(),
        _ => return None,
    })
}

/// Every member of `wanted` is in `said` with the same value.
fn assert_subset(said: &Value, wanted: &Value, place: &str) {
    for (name, value) in wanted.as_object().unwrap_or_else(|| panic!("{place}: no object wanted")) {
        assert_eq!(said[name], *value, "{place}.{name} in {said}");
    }
}

/// Walks the samples of a dialect towards a webhook, and beside it its own vendor where `vendor` names one.
fn walk_samples(dialect: &'static str, vendor: Option<&str>) {
    let mut samples = samples(dialect);
    let least = HOOKS.iter().find(|(name, _)| *name == dialect).map_or(20, |(_, least)| *least);
    assert!(samples.len() >= least, "only {} samples of {dialect}", samples.len());
    let (recorder, beside) = (Recorder::start(), TaskCall::start());
    let config = match vendor {
        None => configuration(samples.len(), "webhook", &recorder),
        Some(_) => {
            let upstreams = format!("  - {{ name: target, kind: webhook, url: '{}' }}\n", recorder.url());
            integrations_to("target, vendor", samples.len()) + "upstreams:\n" + &upstreams + &beside.upstream("vendor")
        }
    };
    let surgegate = Surgegate::start(&[&config]);
    let (mut taken, mut made) = (BTreeMap::new(), 0);
    for (number, sample) in samples.iter_mut().enumerate() {
        made += sample.fill(&surgegate, &key_of(number)) + sample.prepare(&surgegate, &key_of(number));
        let answer = sample.post(&surgegate, &key_of(number));
        sample.check_answer(&answer, vendor);
        // Who asks says nothing, and what has no effect goes nowhere.
        let says = answer.header("x-surgegate-outcome").is_some_and(|outcome| !["noop", "ignored"].contains(&outcome));
        if answer.status < 300 && says {
            taken.insert(format!("sample-{number}"), &*sample);
        }
    }
    surgegate.wait_until_delivered();
    let is_before = |event: &Value| event["title"] == BEFORE || event["note"] == BEFORE;
    let (before, events): (Vec<Value>, Vec<Value>) = recorder.events().into_iter().partition(is_before);
    assert_eq!(before.len(), made);
    for event in &events {
        let integration = event["integration"].as_str().unwrap();
        let sample = taken.remove(integration).unwrap_or_else(|| panic!("refused or sent twice: {event}"));
        sample.check_event(event);
    }
    let missing: Vec<_> = taken.values().map(|sample| &sample.place).collect();
    assert!(missing.is_empty(), "never arrived: {missing:?}");
}

#[test]
fn every_sample_is_answered_and_normalized_as_its_manifest_says() {
    DIALECTS.into_iter().for_each(|dialect| walk_samples(dialect, None));
}

#[test]
fn every_sample_of_a_sender_that_chooses_its_url_is_answered_and_normalized_as_its_manifest_says() {
    HOOKS.into_iter().for_each(|(dialect, _)| walk_samples(dialect, None));
}

#[test]
fn what_only_its_own_vendor_can_do_is_taken_where_that_is_an_upstream() {
    walk_samples("taskcall", Some("taskcall"));
}

#[test]
fn every_alert_of_a_batch_sample_is_answered_and_normalized_as_its_manifest_says() {
    for dialect in BATCHES {
        let samples = samples(dialect);
        assert!(samples.len() > 5, "only {} samples of {dialect}", samples.len());
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&configuration(samples.len(), "webhook", &recorder)]);
        let mut answers = Vec::new();
        for (number, sample) in samples.iter().enumerate() {
            let answer = sample.post(&surgegate, &key_of(number));
            sample.check_answer(&answer, None);
            answers.push(answer);
        }
        let scrape = surgegate.wait_until_delivered();
        let events = recorder.events();
        for (number, (sample, answer)) in
            samples.iter().zip(&answers).enumerate().filter(|(_, (_, answer))| answer.status < 300)
        {
            let name = format!("sample-{number}");
            let of_this: Vec<Value> = events.iter().filter(|event| event["integration"] == *name).cloned().collect();
            sample.check_batch(answer, &of_this);
        }
        if dialect == "alertmanager" {
            assert_eq!(scrape.count("truncated_alerts_total", &[]), 12, "truncated.json");
            assert_eq!(scrape.count("dead_letters", &[("upstream", "intake")]), 3, "one-bad-element.json");
        }
    }
}

#[test]
fn mislabelled_json_is_taken_with_a_warning_and_labelled_json_without() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(1, "webhook", &recorder)]);
    let body = r#"{"message":"m","description":"d"}"#;
    let types = ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "", "application/json"];
    for (index, kind) in types.into_iter().enumerate() {
        let field = format!("Content-Type: {kind}");
        let fields: &[&str] = if kind.is_empty() { &[] } else { &[&field] };
        let mut connection = surgegate.connect();
        connection.send(request("POST", &format!("/v2/incidents/api/{}", key_of(0)), fields, body)).unwrap();
        assert_eq!(connection.answer().unwrap().status, 202, "{kind}");
        let events = wait_for("the event", || Some(recorder.events()).filter(|events| events.len() > index));
        let warned = events[index]["warnings"].to_string().contains("content_type_mismatch");
        assert_eq!(warned, kind != "application/json", "{kind}: {}", events[index]);
    }
}

/// What a forward did, told from its body or from its path.
fn action(forwarded: &Recorded) -> String {
    let operation = forwarded.path.rsplit('/').next().unwrap_or_default();
    let body = &forwarded.events()[0];
    match (&body["action"], &body["status"], operation) {
        (Value::String(action), ..) => action.clone(),
        // Alertmanager's words.
        (_, Value::String(status), _) if status == "firing" => "trigger".to_owned(),
        (_, Value::String(status), _) if status == "resolved" => "resolve".to_owned(),
        (_, Value::String(status), _) => status.clone(),
        (.., "hook" | "create") => "trigger".to_owned(),
        _ => operation.to_owned(),
    }
}

/// A body in a scenario: of a sample, or as it stands there.
fn written(text: &str) -> String {
    match text.strip_prefix('@') {
        Some(sample) => std::fs::read_to_string(contracts().join(sample)).unwrap(),
        None => text.to_owned(),
    }
}

struct Scenario<'r> {
    name: &'r str,
    surgegate: Surgegate,
    recorder: Recorder,
    /// The scenario's integrations, in the order they came up.
    integrations: Vec<String>,
    /// The scenario's incidents and what the answers call them.
    incidents: BTreeMap<String, String>,
    forwards: usize,
}

impl Scenario<'_> {
    fn step(&mut self, step: &Map<String, Value>) {
        let mut place = format!("{}, step", self.name);
        let mut parallel = 1;
        for (member, value) in step {
            match member.as_str() {
                "step" => place = format!("{}, step {value}", self.name),
                "parallel" => parallel = value.as_u64().unwrap() as usize,
                "request" | "expect" => {}
                unknown => panic!("{place}: unknown member {unknown}"),
            }
        }
        let answers = self.ask(step["request"].as_object().unwrap(), parallel, &place);
        let expect = step["expect"].as_object().unwrap();
        let wanted: Vec<&str> =
            expect["forwards"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        wait_until(&format!("{place}: its forwards"), || self.recorder.events().len() >= self.forwards + wanted.len());
        self.surgegate.wait_until_delivered();
        let requests = self.recorder.requests().split_off(self.forwards);
        let actions: Vec<String> = requests.iter().map(action).collect();
        assert_eq!(actions, wanted, "{place}: {requests:?}");
        let forwarded: Vec<Value> = requests.iter().flat_map(Recorded::events).collect();
        self.forwards += forwarded.len();
        for (member, value) in expect {
            self.check(member, value, &answers, &forwarded, &place);
        }
    }

    fn ask(&mut self, asked: &Map<String, Value>, parallel: usize, place: &str) -> Vec<Answer> {
        let mut body = String::new();
        for (member, value) in asked {
            match member.as_str() {
                "method" | "path" | "integration" => {}
                // Text stands for itself, so that a scenario can say what no serializer writes.
                "body" => {
                    body = value.as_str().map_or_else(|| self.filled(value).to_string(), written);
                }
                unknown => panic!("{place}: unknown request member {unknown}"),
            }
        }
        let integration = text(asked, "integration").to_owned();
        let number = self.integrations.iter().position(|known| *known == integration).unwrap_or_else(|| {
            self.integrations.push(integration);
            self.integrations.len() - 1
        });
        let path = text(asked, "path").replace("{key}", &key_of(number));
        let authorization = format!("Authorization: token {}", key_of(number));
        let fields = ["Content-Type: application/json", &authorization];
        // Where the path has the key, another one beside it would have to agree.
        let fields = &fields[..if text(asked, "path").contains("{key}") { 1 } else { 2 }];
        let bytes = request(text(asked, "method"), &path, fields, body);
        let mut connections: Vec<_> = (0..parallel).map(|_| self.surgegate.connect()).collect();
        std::thread::scope(|scope| {
            let asked: Vec<_> = connections
                .iter_mut()
                .map(|connection| {
                    scope.spawn(|| {
                        connection.send(&bytes).unwrap();
                        connection.answer().unwrap()
                    })
                })
                .collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// A body with the numbers of the incidents it names.
    fn filled(&self, body: &Value) -> Value {
        let mut body = body.clone();
        let known = body["instance_id"].as_str().and_then(|name| self.incidents.get(name));
        if let Some(known) = known {
            body["instance_id"] = known.parse::<u64>().unwrap().into();
        }
        body
    }

    fn check(&mut self, member: &str, wanted: &Value, answers: &[Answer], forwarded: &[Value], place: &str) {
        match member {
            "note" => {}
            "status" => answers.iter().for_each(|answer| assert_eq!(Value::from(answer.status), *wanted, "{place}")),
            "outcome" if wanted.is_null() => {
                answers.iter().for_each(|answer| assert_eq!(answer.header("x-surgegate-outcome"), None, "{place}"));
            }
            "outcome" => {
                let allowed: Vec<&str> = wanted.as_str().unwrap().split('|').collect();
                for answer in answers {
                    assert!(allowed.contains(&answer.outcome()), "{place}: {answer:?}");
                    // To a batch only its header says it.
                    if let Some(said) = answer.json().get("outcome") {
                        assert_eq!(said, answer.outcome(), "{place}");
                    }
                }
            }
            "error" => answers.iter().for_each(|answer| assert_eq!(answer.json()["error"], *wanted, "{place}")),
            "response_body" => answers.iter().for_each(|answer| assert_eq!(answer.text(), *wanted, "{place}")),
            "suppressed" => {
                answers.iter().for_each(|answer| assert_eq!(answer.json()["suppressed"], *wanted, "{place}"))
            }
            // `N2 > N1`: a new one with a higher number.
            "instance_id" => {
                let mut names = wanted.as_str().unwrap().split(" > ");
                let name = names.next().unwrap().to_owned();
                let number = answers[0].json()["instance_id"].as_u64().unwrap();
                if let Some(lower) = names.next() {
                    assert!(number > self.incidents[lower].parse().unwrap(), "{place}");
                    assert!(!self.incidents.contains_key(&name), "{place}");
                }
                assert_eq!(*self.incidents.entry(name).or_insert(number.to_string()), number.to_string(), "{place}");
            }
            // Compared as the step's very forwards already.
            "forwards" => {}
            "forwards_total" => assert_eq!(Value::from(forwarded.len()), *wanted, "{place}"),
            "created_total" => {
                let created = answers.iter().filter(|answer| answer.outcome() == "created").count();
                assert_eq!(Value::from(created), *wanted, "{place}");
                let incidents: BTreeSet<String> = answers.iter().map(Answer::incident).collect();
                assert_eq!(incidents.len(), created, "{place}");
            }
            "incident" => {
                for answer in answers {
                    let known =
                        self.incidents.entry(wanted.as_str().unwrap().to_owned()).or_insert_with(|| answer.incident());
                    assert_eq!(*known, answer.incident(), "{place}");
                }
                let distinct: BTreeSet<&String> = self.incidents.values().collect();
                assert_eq!(
                    distinct.len(),
                    self.incidents.len(),
                    "{place}: two incidents share an id: {:?}",
                    self.incidents
                );
            }
            "generation" => {
                // Only the normalized event shows it.
                for event in forwarded.iter().filter(|event| event.get("schema").is_some()) {
                    assert_eq!(event["incident"]["generation"], *wanted, "{place}: {event}");
                }
            }
            unknown => panic!("{place}: unknown member {unknown} of expect"),
        }
    }
}

fn walk_scenarios(kind_of: impl Fn(&'static str) -> &'static str) {
    let folder = contracts().join("scenarios");
    let mut found: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    INCIDENT_IO.iter().for_each(|name| assert!(found.remove(*name), "{name} is gone"));
    for (name, vendor) in SCENARIOS {
        assert!(found.remove(name), "{name} is gone");
        let kind = kind_of(vendor);
        let recorder = if kind == "taskcall" { TaskCall::start().into_recorder() } else { Recorder::start() };
        let surgegate = Surgegate::start(&[&configuration(4, kind, &recorder)]);
        let mut scenario =
            Scenario { name, surgegate, recorder, integrations: Vec::new(), incidents: BTreeMap::new(), forwards: 0 };
        let mut lines = lines(&folder.join(format!("{name}.jsonl"))).into_iter();
        let head = lines.next().unwrap();
        assert_eq!(text(&head, "scenario"), name);
        lines.for_each(|line| scenario.step(&line));
    }
    assert!(found.is_empty(), "nobody walks {found:?}");
}

#[test]
fn every_scenario_runs_as_told_towards_a_webhook() {
    walk_scenarios(|_| "webhook");
}

#[test]
fn every_scenario_runs_as_told_towards_the_senders_own_vendor() {
    walk_scenarios(|vendor| vendor);
}
