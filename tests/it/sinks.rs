//! Vendors' upstreams over real sockets: the requests they get, the ids that their answers tell and that later events use,
//! through kills and restarts, and what becomes of events that cannot be told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{KEY, PATH, Recorded, Recorder, Reply, Surgegate, resolve, trigger, wait_until};

/// One integration with one upstream of this kind.
fn to(kind: &str, recorder: &Recorder, keys: &str) -> String {
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [vendor]\n\
         upstreams:\n  - {{ name: vendor, kind: {kind}, url: '{}', {keys} }}\n",
        recorder.base()
    )
}

fn to_taskcall(recorder: &Recorder) -> String {
    to("taskcall", recorder, "credential: tc-secret-key, service_ref_id: SRV-1")
}

/// A TaskCall that numbers its instances from `first` on.
fn taskcall(first: u64) -> Recorder {
    let next = AtomicU64::new(first);
    Recorder::scripted(move |request| numbered(request, &next))
}

fn numbered(request: &Recorded, next: &AtomicU64) -> Reply {
    if request.path == "/create" {
        let timestamp = "2026-11-21T10:00:00.000000";
        Reply::Json(200, json!({ "instance_id": next.fetch_add(1, Ordering::Relaxed), "timestamp": timestamp }))
    } else {
        Reply::Json(200, json!("Success"))
    }
}

fn said(requests: &[Recorded]) -> Vec<(String, Value)> {
    requests.iter().map(|request| (request.line(), request.json()["instance_id"].clone())).collect()
}

fn row(line: &str, id: impl Into<Value>) -> (String, Value) {
    (line.to_owned(), id.into())
}

#[test]
fn a_resolve_waits_for_the_answer_to_its_create_and_uses_the_id_in_it() {
    let recorder = taskcall(8912);
    let surgegate = Surgegate::start(&[&to_taskcall(&recorder)]);
    assert_eq!(surgegate.post(PATH, trigger("disk")).status, 202);
    assert_eq!(surgegate.post(PATH, resolve("disk")).status, 202);
    assert_eq!(surgegate.post(PATH, trigger("disk")).status, 202);
    assert_eq!(surgegate.post(PATH, resolve("disk")).status, 202);
    let requests = recorder.wait_for(4);
    let expected = [
        row("POST /create", Value::Null),
        row("POST /resolve", 8912),
        row("POST /create", Value::Null),
        row("POST /resolve", 8913),
    ];
    assert_eq!(said(&requests), expected);
    assert_eq!(requests[0].headers["authorization"], "token tc-secret-key");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    let create = requests[0].json();
    assert_eq!((&create["dedup_key"], &create["service_ref_id"]), (&"payments:squadcast:disk".into(), &"SRV-1".into()));
    surgegate.wait_until_delivered().assert_books_balance();
    assert!(!surgegate.said().contains("tc-secret-key"), "a credential is in the log");
}

/// The next request of a lane builds on the id, so the id must be on disk before it goes.
#[test]
fn an_id_is_on_disk_before_the_lanes_next_request_goes() {
    for round in 0..5 {
        let recorder = taskcall(7000 + round);
        let mut surgegate = Surgegate::start(&[&to_taskcall(&recorder)]);
        let next = AtomicU64::new(7000 + round);
        recorder.answer(move |request| if request.path == "/resolve" { Reply::Hang } else { numbered(request, &next) });
        assert_eq!(surgegate.post(PATH, trigger("disk")).status, 202);
        assert_eq!(surgegate.post(PATH, resolve("disk")).status, 202);
        recorder.wait_for(2);
        surgegate.kill();
        let next = AtomicU64::new(1);
        recorder.answer(move |request| numbered(request, &next));
        surgegate.start_again();
        surgegate.wait_until_delivered().assert_books_balance();
        let requests = recorder.requests();
        assert_eq!(
            requests.iter().filter(|request| request.path == "/create").count(),
            1,
            "created again: {requests:?}"
        );
        assert!(requests[1..].iter().all(|request| request.json()["instance_id"] == 7000 + round), "{requests:?}");
    }
}

#[test]
fn ids_survive_restarts_of_every_kind() {
    let recorder = taskcall(41);
    let mut surgegate = Surgegate::start(&[&to_taskcall(&recorder)]);
    for key in ["a", "b"] {
        assert_eq!(surgegate.post(PATH, trigger(key)).status, 202);
    }
    surgegate.wait_until_delivered();
    let ids = |requests: &[Recorded]| -> Vec<String> {
        let key = |request: &Recorded| request.json()["dedup_key"].as_str().unwrap().to_owned();
        requests.iter().filter(|request| request.path == "/create").map(key).collect()
    };
    // Of a checkpoint, of the log behind one, and of a checkpoint once more.
    surgegate.stop();
    surgegate.start_again();
    surgegate.kill();
    surgegate.start_again();
    surgegate.stop();
    surgegate.start_again();
    let created = ids(&recorder.requests());
    assert_eq!(surgegate.post(PATH, resolve("a")).status, 202);
    assert_eq!(surgegate.post(PATH, resolve("b")).status, 202);
    let requests = recorder.wait_for(4);
    let at = |key: &str| 41 + created.iter().position(|own| own.ends_with(key)).unwrap();
    let mut resolved: Vec<_> = requests[2..].iter().map(|request| request.json()["instance_id"].clone()).collect();
    resolved.sort_by_key(Value::as_u64);
    let mut expected = vec![json!(at(":a")), json!(at(":b"))];
    expected.sort_by_key(Value::as_u64);
    assert_eq!(resolved, expected);
    surgegate.wait_until_delivered().assert_books_balance();
}

#[test]
fn the_admin_api_tells_what_the_upstream_calls_the_incident() {
    let recorder = taskcall(8912);
    let surgegate = Surgegate::start(&[&to_taskcall(&recorder)]);
    surgegate.post(PATH, trigger("disk"));
    surgegate.wait_until_delivered();
    let told = surgegate.admin("/api/v1/events?integration=payments&key=disk").json();
    let event = &told["events"][0];
    assert_eq!(event["upstreams"][0]["remote"], json!({ "id": "8912" }), "{told:#}");
    let delivered = event["history"].as_array().unwrap().iter().find(|step| step["what"] == "delivered").unwrap();
    assert_eq!(delivered["remote"], json!({ "id": "8912" }), "{told:#}");
}

#[test]
fn what_needs_an_id_that_nobody_told_is_dropped_and_counted() {
    let recorder = Recorder::scripted(|_| Reply::Json(200, json!({ "suppressed": true })));
    let surgegate = Surgegate::start(&[&to_taskcall(&recorder)]);
    surgegate.post(PATH, trigger("disk"));
    surgegate.post(PATH, resolve("disk"));
    surgegate.post(PATH, resolve("never"));
    let scrape = surgegate.wait_until_delivered();
    let reason = [("upstream", "vendor"), ("reason", "unresolvable")];
    assert_eq!(scrape.count("events_dropped_total", &reason), 2);
    scrape.assert_books_balance();
    assert_eq!(recorder.count(), 1);
}

#[test]
fn pagerduty_gets_its_own_form_and_its_429_holds_the_upstream() {
    const ROUTING_KEY: &str = "feedfacefeedfacefeedfacefeedface";
    let recorder = Recorder::scripted(|_| Reply::With(429, vec![("retry-after", "2".to_owned())], json!({})));
    let surgegate = Surgegate::start(&[&to("pagerduty", &recorder, &format!("credential: {ROUTING_KEY}"))]);
    surgegate.post(PATH, trigger("disk"));
    recorder.wait_for(1);
    let refused = Instant::now();
    recorder.answer(|_| Reply::Json(202, json!({ "status": "success", "dedup_key": "x" })));
    surgegate.post(PATH, trigger("other"));
    recorder.wait_for(3);
    assert!(refused.elapsed() >= Duration::from_millis(1900), "{:?}", refused.elapsed());
    surgegate.post(PATH, resolve("disk"));
    surgegate.wait_until_delivered().assert_books_balance();
    let requests = recorder.requests();
    assert!(requests.iter().all(|request| request.line() == "POST /v2/enqueue"));
    let last = requests.last().unwrap().json();
    let expected = json!({
        "routing_key": ROUTING_KEY, "event_action": "resolve", "dedup_key": "payments:squadcast:disk",
    });
    assert_eq!(last, expected);
    wait_until("the log", || surgegate.is_said("429"));
    assert!(!surgegate.said().contains(ROUTING_KEY), "a credential is in the log");
}

/// Contracts 7: a second trigger may be a second incident there, so a raise is sent only where the operator asks for it.
#[test]
fn a_raise_is_no_second_incident_at_squadcast_unless_duplicates_are_wanted() {
    let severity = |level: &str| format!(r#"{{"message":"m","description":"d","event_id":"k","priority":"{level}"}}"#);
    for (policy, sent) in [("severity_increase", 1), ("all", 2)] {
        let recorder = Recorder::start();
        let text = to("squadcast", &recorder, "credential: sq, rate_limit: { requests_per_second: 1000 }");
        let text = text.replacen("upstreams: [", &format!("forward_duplicates: {policy}\n    upstreams: ["), 1);
        let surgegate = Surgegate::start(&[&text]);
        assert_eq!(surgegate.post(PATH, severity("P4")).outcome(), "created");
        assert_eq!(surgegate.post(PATH, severity("P1")).outcome(), "escalated");
        surgegate.wait_until_delivered().assert_books_balance();
        assert_eq!(recorder.requests().len(), sent, "{policy}");
    }
}

/// PagerDuty's senders end an incident by its key alone. The record of its trigger may be from before a restart.
#[test]
fn a_resolve_that_says_nothing_ends_what_its_trigger_began_under_its_name() {
    const EVENTS: &str = "/v2/enqueue";
    let event = |action: &str, key: &str| {
        let payload = json!({
            "summary": "disk full", "source": "db-7", "severity": "error", "class": "disk", "component": "storage",
            "timestamp": "2026-11-20T10:00:00Z", "custom_details": { "tags": { "team": "db" } },
        });
        let mut event = json!({ "routing_key": KEY, "event_action": action, "dedup_key": key });
        if action == "trigger" {
            event["payload"] = payload;
        }
        event.to_string()
    };
    for (kind, keys) in [("incidentio_alert", "credential: t, source_config_id: c"), ("alertmanager", "timeout: 10s")] {
        let recorder = Recorder::start();
        // A resolve without a severity is stored with this one.
        let text = to(kind, &recorder, keys).replacen("    upstreams:", "    default_severity: 2\n    upstreams:", 1);
        let mut surgegate = Surgegate::start(&[&text]);
        for key in ["near", "far"] {
            assert_eq!(surgegate.post(EVENTS, event("trigger", key)).outcome(), "created");
            assert_eq!(surgegate.post(EVENTS, event("acknowledge", key)).outcome(), "acknowledged");
        }
        assert_eq!(surgegate.post(EVENTS, event("resolve", "near")).outcome(), "resolved");
        surgegate.wait_until_delivered();
        assert!(surgegate.stop().success());
        surgegate.start_again();
        assert_eq!(surgegate.post(EVENTS, event("resolve", "far")).outcome(), "resolved");
        // Of what nobody knows nothing can be said but whence it came.
        assert_eq!(surgegate.post(EVENTS, event("resolve", "unknown")).outcome(), "unknown");
        surgegate.wait_until_delivered();
        let said: Vec<Value> = recorder.requests().iter().map(|request| request.json()).collect();
        for key in ["near", "far"] {
            let on_key: Vec<&Value> =
                said.iter().filter(|body| body.to_string().contains(&format!(":{key}\""))).collect();
            let [began, ended] = on_key[..] else { panic!("{kind}: two requests for {key}: {said:?}") };
            if kind == "alertmanager" {
                let (began, ended) = (&began["alerts"][0], &ended["alerts"][0]);
                assert_eq!(ended["status"], "resolved");
                assert_eq!(began["labels"]["alertname"], "disk", "{began}");
                for member in ["labels", "startsAt", "fingerprint"] {
                    assert_eq!(ended[member], began[member], "{key} {member}");
                }
            } else {
                assert_eq!((&ended["status"], &ended["title"]), (&json!("resolved"), &json!("disk full")), "{key}");
                assert_eq!(ended["metadata"], began["metadata"], "{key}");
            }
        }
        let unknown = said.iter().find(|body| body.to_string().contains(":unknown\"")).unwrap();
        assert!(unknown.to_string().contains("\"pagerduty_v2 alert\""), "{unknown}");
    }
}
