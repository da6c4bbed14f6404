//! Alert events: whose secret opens which source, what a key lives, and how the admin API finds it.

use serde_json::json;

use super::{A, B, integration};
use crate::harness::{Answer, Recorder, Surgegate, request};

fn sources(ids: &[(&str, &str)]) -> String {
    let source = |(id, kind): &(&str, &str)| format!("    - {{ id: {id}, kind: {kind}, secret: secret-{id} }}\n");
    format!("    alert_sources:\n{}", ids.iter().map(source).collect::<String>())
}

fn start(recorder: &Recorder) -> Surgegate {
    let a = integration(
        "a",
        A,
        &sources(&[("one", "http"), ("two", "http"), ("am", "alertmanager"), ("own", "http_custom")]),
    );
    let b = integration("b", B, &sources(&[("three", "http")]));
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    Surgegate::start(&[&format!("integrations:\n{a}{b}{upstreams}")])
}

fn post(surgegate: &Surgegate, path: &str, authorization: &str, body: &str) -> Answer {
    let fields = [authorization, "Content-Type: application/json"];
    let fields = if authorization.is_empty() { &fields[1..] } else { &fields[..] };
    let mut connection = surgegate.connect();
    connection.send(request("POST", path, fields, body)).unwrap();
    connection.answer().unwrap()
}

const FIRING: &str = r#"{"title":"latency","status":"firing","deduplication_key":"k","metadata":{"severity":"high"}}"#;
const RESOLVED: &str = r#"{"title":"latency","status":"resolved","deduplication_key":"k"}"#;

#[test]
fn a_sources_own_secret_opens_it_and_nothing_else_does() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let path = "/v2/alert_events/http/one";
    // printf 'anybody:secret-one' | base64
    for authorization in ["Authorization: bearer secret-one", "Authorization: Basic YW55Ym9keTpzZWNyZXQtb25l"] {
        let answer = post(&surgegate, path, authorization, FIRING);
        assert_eq!(answer.status, 202, "{authorization}: {}", answer.text());
        assert_eq!(
            answer.json(),
            json!({ "status": "success", "message": "Event accepted for processing", "deduplication_key": "k" })
        );
    }
    assert_eq!(post(&surgegate, "/v2/alert_events/http/one?token=secret-one", "", FIRING).status, 202);
    let integration_key = format!("Authorization: Bearer {A}");
    let refused = [
        (path, "Authorization: Bearer secret-two", 401),
        (path, integration_key.as_str(), 401),
        (path, "", 401),
        ("/v2/alert_events/http/one?token=secret-two", "", 401),
        ("/v2/alert_events/http/one?token=secret-one", "Authorization: Bearer secret-two", 401),
        ("/v2/alert_events/http/nobody", "Authorization: Bearer secret-one", 404),
        ("/v2/alert_events/pigeon/one", "Authorization: Bearer secret-one", 404),
        ("/v2/alert_events/http/am", "Authorization: Bearer secret-am", 404),
        ("/v2/alert_events/http_custom/am", "Authorization: Bearer secret-am", 404),
        ("/v2/alert_events/alertmanager/one", "Authorization: Bearer secret-one", 404),
        ("/v2/alert_events/alertmanager/am", "Authorization: Bearer secret-one", 401),
        ("/v2/alert_events/alertmanager/am", "Authorization: Bearer secret-am", 422),
    ];
    for (path, authorization, status) in refused {
        let answer = post(&surgegate, path, authorization, FIRING);
        assert_eq!(answer.status, status, "{path} {authorization}: {}", answer.text());
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.text().contains("secret-"), "{}", answer.text());
    }
    surgegate.wait_until_delivered();
    assert_eq!(recorder.count(), 1, "one incident, seen three times");
    assert!(!surgegate.said().contains("secret-"), "{}", surgegate.said());
}

#[test]
fn an_alert_lives_while_it_fires_and_belongs_to_its_source() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let say = |source: &str, body: &str| {
        let authorization = format!("Authorization: Bearer secret-{source}");
        let answer = post(&surgegate, &format!("/v2/alert_events/http/{source}"), &authorization, body);
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.outcome().to_owned()
    };
    assert_eq!(say("one", FIRING), "created");
    assert_eq!(say("one", FIRING), "duplicate");
    assert_eq!(say("two", FIRING), "created", "another source, another alert");
    assert_eq!(say("three", FIRING), "created");
    assert_eq!(say("one", RESOLVED), "resolved");
    assert_eq!(say("one", RESOLVED), "duplicate_resolve");
    assert_eq!(say("one", FIRING), "created", "it fires anew");
    let keyless = |status: &str| format!(r#"{{"title":"no key","status":"{status}"}}"#);
    assert_eq!(say("one", &keyless("firing")), "created");
    assert_eq!(say("one", &keyless("resolved")), "resolved");
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events()[0]["severity"], 4);
    // The look-up by key knows the families of all sources.
    let found = surgegate.admin("/api/v1/events?integration=a&key=k").json();
    assert_eq!(found["incident"]["state"], "OPEN", "{found}");
    assert_eq!(found["events"].as_array().unwrap().len(), 4, "{found}");
}

#[test]
fn a_source_of_alertmanagers_reads_each_alert_of_a_group() {
    reads_groups("alertmanager", "am");
}

/// Section 6: any body with `groupKey` and `alerts` is one.
#[test]
fn a_group_is_read_as_one_at_a_source_of_any_kind() {
    reads_groups("http", "one");
    reads_groups("http_custom", "own");
}

/// Each alert by itself, under its fingerprint, of this source alone.
fn reads_groups(kind: &str, source: &str) {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let (path, authorization) =
        (format!("/v2/alert_events/{kind}/{source}"), format!("Authorization: Bearer secret-{source}"));
    let dry = |body: &str| post(&surgegate, &format!("{path}?dry_run=1"), &authorization, body).json();
    let alert = |key: &str, status: &str| {
        json!({ "status": status, "labels": { "alertname": key, "severity": "critical" }, "annotations": { "summary": key },
            "startsAt": "2026-11-21T10:00:00Z", "fingerprint": key })
    };
    let say = |alerts: Vec<serde_json::Value>| {
        let body = json!({ "version": "4", "groupKey": "g", "status": "firing", "receiver": "r", "groupLabels": {},
            "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am.example", "alerts": &alerts });
        let body = body.to_string();
        assert_eq!(dry(&body)["events"].as_array().map(Vec::len), Some(alerts.len()), "{}", dry(&body));
        let answer = post(&surgegate, &path, &authorization, &body);
        assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("success")), "{}", answer.text());
        assert_eq!(answer.json().get("deduplication_key"), None);
        answer.outcome().to_owned()
    };
    assert_eq!(say(vec![alert("disk", "firing"), alert("memory", "firing")]), "created");
    assert_eq!(say(vec![alert("disk", "firing"), alert("memory", "resolved")]), "mixed");
    assert_eq!(say(vec![alert("disk", "resolved"), alert("clock", "resolved")]), "mixed");
    surgegate.wait_until_delivered();
    let events = recorder.events();
    let said: Vec<_> =
        events.iter().map(|event| (event["key"].as_str().unwrap(), event["action"].as_str().unwrap())).collect();
    for expected in
        [("disk", "trigger"), ("memory", "trigger"), ("memory", "resolve"), ("disk", "resolve"), ("clock", "resolve")]
    {
        assert_eq!(said.iter().filter(|said| **said == expected).count(), 1, "{expected:?} in {said:?}");
    }
    assert_eq!((&events[0]["dialect"], &events[0]["severity"]), (&json!("incidentio_alert"), &json!(5)));
    // A text that speaks of both is none.
    let alike = r#"{"title":"\"groupKey\" and \"alerts\"","status":"firing","metadata":{"groupKey":"g","alerts":[]}}"#;
    let kept = post(&surgegate, &path, &authorization, alike);
    assert_eq!(kept.status, if kind == "alertmanager" { 422 } else { 202 }, "{}", kept.text());
}

/// A source whose bodies have any shape: read by the integration's mapping, else by a guess, answered as every source is.
#[test]
fn a_source_of_bodies_of_any_shape_reads_them_by_the_mapping_or_a_guess() {
    let recorder = Recorder::start();
    let source =
        "    alert_sources:\n    - { id: mapped, kind: http_custom, secret: secret-mapped, require_dedup_key: true }\n";
    let mapping = "    generic:\n      title: [/alert/name]\n      key: [/alert/id]\n      action: [/alert/state]\n      \
                   actions: [{ word: kaputt, action: trigger }, { word: heil, action: resolve }]\n";
    let a = integration("a", A, &sources(&[("own", "http_custom"), ("one", "http")]));
    let b = integration("b", B, &format!("{source}{mapping}"));
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    let mut surgegate = Surgegate::start(&[&format!("integrations:\n{a}{b}{upstreams}")]);
    let say = |surgegate: &Surgegate, source: &str, body: serde_json::Value| {
        let path = format!("/v2/alert_events/http_custom/{source}");
        post(surgegate, &path, &format!("Authorization: Bearer secret-{source}"), &body.to_string())
    };
    let guessed = |state: &str| json!({ "name": "disk full", "state": state, "id": "d-1", "urgency": "high" });
    let fired = say(&surgegate, "own", guessed("alerting"));
    assert_eq!((fired.status, fired.outcome()), (202, "created"), "{}", fired.text());
    assert_eq!((&fired.json()["status"], &fired.json()["deduplication_key"]), (&json!("success"), &json!("d-1")));
    assert_eq!(say(&surgegate, "own", guessed("ok")).outcome(), "resolved");
    let mapped = |state: &str| json!({ "alert": { "name": "disk full", "state": state, "id": "m-1" }, "more": 1 });
    assert_eq!(say(&surgegate, "mapped", mapped("kaputt")).outcome(), "created");
    // What was taken is read again as it was meant.
    surgegate.kill();
    surgegate.start_again();
    assert_eq!(say(&surgegate, "mapped", mapped("kaputt")).outcome(), "duplicate");
    assert_eq!(say(&surgegate, "mapped", mapped("heil")).outcome(), "resolved");
    for (source, body) in [
        ("own", json!({})),
        ("mapped", mapped("perhaps")),
        ("mapped", json!({ "alert": { "name": "no key", "state": "kaputt" } })),
    ] {
        let refused = say(&surgegate, source, body);
        assert_eq!((refused.status, &refused.json()["type"]), (422, &json!("validation_error")), "{}", refused.text());
    }
    surgegate.wait_until_delivered();
    let mut events = recorder.events();
    events.dedup_by_key(|event| event["event_uid"].clone());
    let said: Vec<_> = events.iter().map(|event| (&event["key"], &event["action"], &event["title"])).collect();
    let (title, trigger, resolve) = (json!("disk full"), json!("trigger"), json!("resolve"));
    for (key, action) in [("d-1", &trigger), ("d-1", &resolve), ("m-1", &trigger), ("m-1", &resolve)] {
        assert!(said.contains(&(&json!(key), action, &title)), "{key} {action} in {said:?}");
    }
    assert_eq!(events.iter().find(|event| event["key"] == "d-1").unwrap()["severity"], 4);
}
