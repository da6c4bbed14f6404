//! Alert events: whose secret opens which source, what a key lives, and how the admin API finds it.

use serde_json::json;

use super::{A, B, integration};
use crate::harness::{Answer, Recorder, Surgegate, request};

fn sources(ids: &[(&str, &str)]) -> String {
    let source = |(id, kind): &(&str, &str)| format!("    - {{ id: {id}, kind: {kind}, secret: secret-{id} }}\n");
    format!("    alert_sources:\n{}", ids.iter().map(source).collect::<String>())
}

fn start(recorder: &Recorder) -> Surgegate {
    let a = integration("a", A, &sources(&[("one", "http"), ("two", "http"), ("am", "alertmanager")]));
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
        ("/v2/alert_events/alertmanager/am", "Authorization: Bearer secret-am", 404),
    ];
    for (path, authorization, status) in refused {
        let answer = post(&surgegate, path, authorization, FIRING);
        assert_eq!(answer.status, status, "{path} {authorization}: {}", answer.text());
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.text().contains("secret-"), "{}", answer.text());
    }
    let later = post(&surgegate, "/v2/alert_events/alertmanager/am", "Authorization: Bearer secret-am", FIRING);
    assert!(later.text().contains("later version"), "{}", later.text());
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
