//! PagerDuty: v2, v1 and change events.

use serde_json::{Value, json};

use crate::common::Stand;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn event(action: &str, severity: &str) -> Value {
    let payload = json!({ "summary": "s", "source": "h", "severity": severity });
    json!({ "routing_key": KEY, "event_action": action, "dedup_key": "k", "payload": payload })
}

#[test]
fn one_alert_is_open_for_a_key_and_v1_shares_it() {
    let stand = Stand::start("pagerduty", &["--credential", KEY]);
    let answer = stand.post("/v2/enqueue", &event("trigger", "error"));
    assert_eq!((answer.status, &answer.body["dedup_key"]), (202, &"k".into()));
    stand.post("/v2/enqueue", &event("trigger", "critical"));
    let v1 = |kind: &str| json!({ "service_key": KEY, "event_type": kind, "incident_key": "k", "description": "d" });
    let answer = stand.post("/generic/2010-04-15/create_event.json", &v1("acknowledge"));
    assert_eq!((answer.status, &answer.body["incident_key"]), (200, &"k".into()));
    stand.post("/v2/enqueue", &event("resolve", "error"));
    assert_eq!(stand.post("/v2/enqueue", &event("resolve", "error")).status, 202, "dropped");
    stand.post("/generic/2010-04-15/create_event.json", &v1("trigger"));
    let done = ["trigger:created", "trigger:duplicate", "acknowledge:acknowledged", "resolve:resolved"];
    let incidents = stand.incidents();
    assert_eq!(incidents[0], ("k".into(), "resolved".into(), 2, done.map(str::to_owned).to_vec()));
    assert_eq!((incidents.len(), &*incidents[1].1), (2, "open"), "never reopened: a new one");
    let overview = stand.overview();
    assert_eq!((&overview["called"], &overview["unknown"]), (&2.into(), &1.into()));
    assert_eq!(overview["incidents"][0]["severity"], "critical");
}

#[test]
fn another_routing_key_is_another_scope_and_no_key_never_deduplicates() {
    let stand = Stand::start("pagerduty", &[]);
    stand.post("/v2/enqueue", &event("trigger", "error"));
    let mut other = event("trigger", "error");
    other["routing_key"] = "another".into();
    stand.post("/v2/enqueue", &other);
    other.as_object_mut().unwrap().remove("dedup_key");
    let first = stand.post("/v2/enqueue", &other).body["dedup_key"].clone();
    let second = stand.post("/v2/enqueue", &other).body["dedup_key"].clone();
    assert!(first.is_string() && first != second, "{first} {second}");
    let overview = stand.overview();
    let scopes: Vec<_> = overview["incidents"].as_array().unwrap().iter().map(|one| &one["scope"]).collect();
    assert_eq!(scopes, ["credential-1", "credential-2", "credential-2", "credential-2"]);
}

#[test]
fn faults_of_a_body_are_400_in_the_vendors_words() {
    let stand = Stand::start("pagerduty", &["--credential", KEY]);
    let changed = |pointer: &str, value: Value| {
        let mut body = event("trigger", "error");
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    for (body, told) in [
        (changed("/routing_key", "wrong".into()), "Invalid routing key"),
        (
            changed("/payload/severity", "Critical".into()),
            "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')",
        ),
        (
            changed("/payload/summary", "s".repeat(1025).into()),
            "'payload.summary' is too long (maximum is 1024 characters)",
        ),
        (changed("/payload/source", "".into()), "'payload.source' is missing or blank"),
        (changed("/dedup_key", "k".repeat(256).into()), "'dedup_key' is too long (maximum is 255 characters)"),
        (changed("/payload", Value::Null), "'payload' is missing"),
        (json!({ "routing_key": KEY, "event_action": "resolve" }), "'dedup_key' is missing or blank"),
    ] {
        let answer = stand.post("/v2/enqueue", &body);
        assert_eq!((answer.status, &answer.body["status"]), (400, &"invalid event".into()), "{body}");
        assert_eq!(answer.body["errors"], json!([told]), "{body}");
    }
    let answer = stand.send("POST", "/v2/enqueue", "{");
    assert_eq!((answer.status, &answer.body["status"]), (400, &"unrecognized object".into()));
    assert_eq!(stand.post("/v2/enqueue", &changed("/payload/summary", "s".repeat(1024).into())).status, 202);
}

#[test]
fn a_change_event_is_counted_and_no_alert() {
    let stand = Stand::start("pagerduty", &[]);
    let answer = stand.post("/v2/change/enqueue", &json!({ "routing_key": KEY, "payload": { "summary": "deploy" } }));
    assert_eq!((answer.status, &answer.body["message"]), (202, &"Change event processed".into()));
    let overview = stand.overview();
    assert_eq!((&overview["change_events"], &overview["created"]), (&1.into(), &0.into()));
}

#[test]
fn above_the_rate_v2_says_429_and_v1_403() {
    let stand = Stand::start("pagerduty", &["--rate", "2/1m"]);
    for _ in 0..2 {
        assert_eq!(stand.post("/v2/enqueue", &event("trigger", "error")).status, 202);
    }
    let answer = stand.post("/v2/enqueue", &event("trigger", "error"));
    assert_eq!((answer.status, &answer.body["status"]), (429, &"throttle exceeded".into()));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
    let v1 = json!({ "service_key": KEY, "event_type": "trigger", "description": "d" });
    assert_eq!(stand.post("/generic/2010-04-15/create_event.json", &v1).status, 403);
    assert_eq!(stand.incidents()[0].2, 2, "what was refused is not taken");
    assert_eq!(stand.post("/_stand/reset", &json!({})).status, 200);
    assert_eq!(stand.overview()["created"], 0);
    assert_eq!(stand.post("/v2/enqueue", &event("trigger", "error")).status, 202, "the rate is fresh");
}
