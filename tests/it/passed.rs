//! Questions that a vendor's own upstream answers: its lists, kept for a minute, and the severities that stand for levels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, KEY, PATH, Recorder, Reply, Stand, Surgegate, request, trigger, wait_until};

fn get(surgegate: &Surgegate, path: &str, scheme: &str) -> Answer {
    let mut connection = surgegate.connect();
    connection.send(request("GET", path, &[&format!("Authorization: {scheme} {KEY}")], "")).unwrap();
    connection.answer().unwrap()
}

fn configuration(base: &str, upstream: &str) -> String {
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {KEY} }}]\n    upstreams: [vendor]\n\
         upstreams:\n  - {{ name: vendor, url: '{base}', credential: up-secret, {upstream} }}\n"
    )
}

const INCIDENTIO: &str = "kind: incidentio, visibility: private, default_severity_id: DEFAULT";

#[test]
fn an_accounts_lists_are_its_own() {
    let stand = Stand::start("incidentio", &[]);
    let surgegate = Surgegate::start(&[&configuration(&stand.base(), INCIDENTIO)]);
    let listed = get(&surgegate, "/v1/severities", "Bearer");
    let ids: Vec<_> = listed.json()["severities"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    let expected = [1, 2, 3].map(|rank| json!(format!("01STANDSEV{rank:016}")));
    assert_eq!((listed.status, ids.as_slice()), (200, &expected[..]));
    assert!(listed.header("x-request-id").is_some());
    let one = get(&surgegate, "/v1/severities/01STANDSEV0000000000000002", "Bearer");
    assert_eq!((one.status, &one.json()["severity"]["rank"]), (200, &json!(2)));
    let none = get(&surgegate, "/v1/severities/01NONE", "Bearer");
    assert_eq!((none.status, &none.json()["type"]), (404, &json!("not_found")));
    assert_eq!(get(&surgegate, "/v1/incident_statuses", "Bearer").json()["incident_statuses"][5]["category"], "closed");
    for path in ["/v1/incident_types", "/v2/custom_fields", "/v1/identity"] {
        assert_eq!(get(&surgegate, path, "Bearer").status, 200, "{path}");
    }
    let asked = stand.requests().len();
    for _ in 0..5 {
        assert_eq!(get(&surgegate, "/v1/severities", "Bearer").status, 200);
    }
    assert_eq!(stand.requests().len(), asked, "kept for a minute");
    // Down: what it said last; what it never said cannot be told.
    stand.faults(&["status=503"]);
    assert_eq!(get(&surgegate, "/v1/severities", "Bearer").json(), listed.json());
    let unknown = get(&surgegate, "/v1/severities/01STANDSEV0000000000000003", "Bearer");
    assert_eq!((unknown.status, unknown.header("retry-after").is_some()), (503, true), "{unknown:?}");
    assert!(!surgegate.said().contains("up-secret"));
}

/// An account without a list has an empty one (contracts/incident-io.md 5); all else that it does not have is its own word.
#[test]
fn what_an_account_does_not_have_is_told_in_its_own_words() {
    let recorder = Recorder::scripted(|request| match request.path.as_str() {
        "/v1/identity" => Reply::Status(404),
        _ => Reply::Json(404, json!({ "type": "not_found", "status": 404, "request_id": "theirs", "errors": [] })),
    });
    let surgegate = Surgegate::start(&[&configuration(&recorder.base(), INCIDENTIO)]);
    for (path, name) in [
        ("/v1/severities", "severities"),
        ("/v1/incident_statuses", "incident_statuses"),
        ("/v1/incident_types", "incident_types"),
        ("/v2/custom_fields", "custom_fields"),
    ] {
        let listed = get(&surgegate, path, "Bearer");
        assert_eq!((listed.status, listed.json()), (200, json!({ name: [] })), "{path}");
    }
    let none = get(&surgegate, "/v1/severities/01NONE", "Bearer");
    assert_eq!((none.status, &none.json()["request_id"]), (404, &json!("theirs")));
    assert!(none.header("x-request-id").is_some());
    let page = get(&surgegate, "/v1/identity", "Bearer");
    assert_eq!((page.status, &page.json()["errors"][0]["code"]), (404, &json!("not_found")), "no JSON: ours");
}

#[test]
fn taskcalls_lists_are_those_of_its_account() {
    let recorder = Recorder::scripted(|request| match request.path.as_str() {
        "/list/services" => Reply::Json(200, json!([["Payments", "SRV-9"]])),
        _ => Reply::Status(500),
    });
    let keys = "kind: taskcall, service_ref_id: SRV-1";
    let surgegate = Surgegate::start(&[&configuration(&recorder.base(), keys)]);
    assert_eq!(get(&surgegate, "/list/services", "token").json(), json!([["Payments", "SRV-9"]]));
    let asked = recorder.requests().pop().unwrap();
    assert_eq!(
        (asked.line(), &asked.headers["authorization"]),
        ("GET /list/services".into(), &"token up-secret".parse().unwrap())
    );
    assert_eq!(get(&surgegate, "/list/users", "token").status, 503);
    // Incidents are our own.
    assert_eq!((get(&surgegate, "/list/incidents", "token").json(), recorder.count()), (json!([]), 2));
}

fn level(key: &str, priority: &str) -> String {
    trigger(key).replacen('{', &format!("{{\"priority\":\"{priority}\","), 1).replace("disk full", key)
}

/// With three severities levels 1 to 5 are 1, 2, 2, 3, 3 (contracts 4.1).
#[test]
fn levels_stand_for_severities_by_rank() {
    let stand = Stand::start("incidentio", &[]);
    let surgegate = Surgegate::start(&[&configuration(&stand.base(), INCIDENTIO)]);
    for priority in ["P5", "P4", "P3", "P2", "P1"] {
        assert_eq!(surgegate.post(PATH, level(priority, priority)).status, 202);
    }
    surgegate.wait_until_delivered();
    let state = stand.state();
    let severity = |priority: &str| {
        let incidents = state["incidents"].as_array().unwrap();
        incidents.iter().find(|one| one["title"] == priority).unwrap()["severity"].clone()
    };
    let expected = [("P5", 1), ("P4", 2), ("P3", 2), ("P2", 3), ("P1", 3)];
    for (priority, rank) in expected {
        assert_eq!(severity(priority), format!("01STANDSEV{rank:016}"), "{priority}");
    }
}

#[test]
fn while_the_list_cannot_be_had_the_configured_severity_stands() {
    let lists = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&lists);
    let recorder = Recorder::scripted(move |request| match request.path.as_str() {
        "/v1/severities" if answers.load(Ordering::SeqCst) => {
            Reply::Json(200, json!({ "severities": [{ "id": "MILD", "rank": 1 }, { "id": "BAD", "rank": 2 }] }))
        }
        "/v1/severities" => Reply::Status(503),
        _ => Reply::Json(200, json!({ "incident": { "id": "R1" } })),
    });
    let sent = |recorder: &Recorder| -> Vec<Value> {
        let creates = recorder.requests().into_iter().filter(|request| request.path == "/v2/incidents");
        creates.map(|request| request.json()["severity_id"].clone()).collect()
    };
    let configuration = configuration(&recorder.base(), INCIDENTIO);
    let surgegate = Surgegate::start(&[&configuration]);
    assert_eq!(surgegate.post(PATH, level("a", "P1")).status, 202);
    surgegate.wait_until_delivered();
    assert_eq!(sent(&recorder), ["DEFAULT"]);
    drop(surgegate);
    lists.store(true, Ordering::SeqCst);
    let surgegate = Surgegate::start(&[&configuration]);
    for (key, priority) in [("a", "P1"), ("b", "P4")] {
        assert_eq!(surgegate.post(PATH, level(key, priority)).status, 202);
        surgegate.wait_until_delivered();
    }
    assert_eq!(sent(&recorder), ["DEFAULT", "BAD", "MILD"]);
    // One that says no severity has the configured one.
    assert_eq!(surgegate.post(PATH, trigger("c")).status, 202);
    wait_until("the create", || sent(&recorder).len() == 4);
    assert_eq!(sent(&recorder)[3], "DEFAULT");
}
