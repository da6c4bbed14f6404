//! incident.io as an upstream, over real sockets: creates under keys of their own, edits by the id that was told, states
//! that are refused, and bodies of its own dialects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{A, CLOSED, MINOR, ask, create, edit, integration};
use crate::harness::{Recorded, Recorder, Reply, Surgegate, request, resolve, trigger, wait_until};

/// What incident.io does with keys and ids: a key creates once, an edit wants an id that was given, and a status that is
/// `refused` is none.
fn vendor() -> Recorder {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    Recorder::scripted(move |request| {
        if request.path.ends_with("/actions/edit") {
            let id = request.path.split('/').nth(3).unwrap_or_default();
            let is_known = given.values().any(|own| own == id);
            let refused = request.json()["incident"]["incident_status_id"] == "refused";
            return match (is_known, refused) {
                (false, _) => Reply::Json(404, json!({ "type": "not_found" })),
                (true, true) => Reply::Json(422, json!({ "type": "validation_error" })),
                (true, false) => Reply::Json(200, json!({ "incident": { "id": id } })),
            };
        }
        let fresh = format!("REMOTE{}", given.len());
        let key = request.json()["idempotency_key"].as_str().unwrap_or_default().to_owned();
        let id = given.entry(key).or_insert(fresh).clone();
        Reply::Json(200, json!({ "incident": { "id": id, "permalink": format!("https://app.example/{id}") } }))
    })
}

fn to_incidentio(recorder: &Recorder, more: &str) -> String {
    let upstream = format!(
        "  - {{ name: pager, kind: incidentio, url: '{}', credential: io-secret-key, visibility: private, \
         default_severity_id: {MINOR}, severity_map: {{ 5: SEV-5 }}, closed_status_id: {CLOSED}{more} }}\n",
        recorder.base()
    );
    format!("integrations:\n{}upstreams:\n{upstream}", integration("a", A, ""))
}

fn says(requests: &[Recorded]) -> Vec<String> {
    requests.iter().map(Recorded::line).collect()
}

/// The scenario squadcast-to-incidentio-reopen.
#[test]
fn a_key_that_is_opened_anew_calls_somebody_anew() {
    let recorder = vendor();
    let surgegate = Surgegate::start(&[&to_incidentio(&recorder, "")]);
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut forwards = 0;
    for step in &super::scenarios::lines("squadcast-to-incidentio-reopen")[1..] {
        let (asked, expect) = (&step["request"], step["expect"].as_object().unwrap());
        let path = asked["path"].as_str().unwrap().replace("{key}", A);
        let answer = surgegate.post(&path, asked["body"].to_string());
        surgegate.wait_until_delivered();
        let requests = recorder.requests().split_off(forwards);
        forwards += requests.len();
        for (member, wanted) in expect {
            match member.as_str() {
                "note" => {}
                "status" => assert_eq!(Value::from(answer.status), *wanted),
                "outcome" => assert_eq!(answer.outcome(), wanted.as_str().unwrap()),
                "forwards" => {
                    let did = |request: &Recorded| if request.path == "/v2/incidents" { "trigger" } else { "resolve" };
                    assert_eq!(Value::from(requests.iter().map(did).collect::<Vec<_>>()), *wanted, "{requests:?}");
                }
                "upstream_idempotency_key" => {
                    let name = wanted.as_str().unwrap().split(' ').next().unwrap().to_owned();
                    let key = requests[0].json()["idempotency_key"].as_str().unwrap().to_owned();
                    assert!(!keys.values().any(|other| *other == key), "{keys:?} {key}");
                    keys.insert(name, key);
                }
                unknown => panic!("unknown member {unknown} in {step:?}"),
            }
        }
    }
    assert_eq!(keys.len(), 2);
    let first = &recorder.requests()[0];
    assert_eq!(first.headers["authorization"], "Bearer io-secret-key");
    assert!(!surgegate.said().contains("io-secret-key"), "a credential is in the log");
}

#[test]
fn later_events_use_the_id_that_was_told_through_kills_and_raise_the_severity() {
    let recorder = vendor();
    let mut surgegate = Surgegate::start(&[&to_incidentio(&recorder, "")]);
    let path = format!("/v2/incidents/api/{A}");
    surgegate.post(&path, trigger("disk"));
    surgegate.post(&path, trigger("other"));
    surgegate.wait_until_delivered();
    surgegate.kill();
    surgegate.start_again();
    let before = recorder.count();
    let worse = r#"{"message":"m","description":"d","event_id":"disk","priority":"P1"}"#;
    assert_eq!(surgegate.post(&path, worse).outcome(), "escalated");
    assert_eq!(surgegate.post(&path, resolve("disk")).outcome(), "resolved");
    surgegate.wait_until_delivered();
    let mut requests = recorder.requests().split_off(before);
    // What was delivered just before the kill may come again.
    requests.retain(|request| request.path != "/v2/incidents");
    let id = requests[0].path.split('/').nth(3).unwrap().to_owned();
    let line = format!("POST /v2/incidents/{id}/actions/edit");
    assert_eq!(says(&requests), [line.clone(), line]);
    assert_eq!(requests[0].json()["incident"], json!({ "severity_id": "SEV-5" }));
    assert_eq!(requests[1].json()["incident"], json!({ "incident_status_id": CLOSED }));
}

#[test]
fn the_vendors_own_senders_reach_it_byte_for_byte_under_its_ids() {
    let recorder = vendor();
    let surgegate = Surgegate::start(&[&to_incidentio(&recorder, "")]);
    let body = create("k1", "x").replace(':', " : ");
    let made = ask(&surgegate, "POST", "/v2/incidents", A, &body).json();
    let path = format!("/v2/incidents/{}/actions/edit", made["incident"]["id"].as_str().unwrap());
    let close = edit(&json!({ "incident_status_id": CLOSED }));
    // No list of statuses is configured: the upstream's own closing status is known.
    let closed = ask(&surgegate, "POST", &path, A, &close);
    assert_eq!(
        (closed.outcome(), &closed.json()["incident"]["incident_status"]["category"]),
        ("resolved", &json!("closed"))
    );
    assert_eq!(ask(&surgegate, "POST", "/v2/incidents", A, &body).outcome(), "replayed");
    surgegate.wait_until_delivered();
    let requests = recorder.requests();
    assert_eq!(says(&requests), ["POST /v2/incidents", "POST /v2/incidents/REMOTE0/actions/edit"]);
    assert_eq!((&*requests[0].body, &*requests[1].body), (body.as_bytes(), close.as_bytes()));
}

#[test]
fn a_state_that_the_vendor_refuses_is_a_dead_letter_and_no_loop() {
    let recorder = vendor();
    let config = to_incidentio(&recorder, "").replace(CLOSED, "refused");
    let surgegate = Surgegate::start(&[&config]);
    let path = format!("/v2/incidents/api/{A}");
    surgegate.post(&path, trigger("disk"));
    surgegate.post(&path, resolve("disk"));
    wait_until("the dead letter", || surgegate.scrape().count("dead_letters", &[("upstream", "pager")]) == 1);
    assert_eq!(recorder.count(), 2);
    let letter = &surgegate.admin("/api/v1/dead-letters").json()[0];
    assert_eq!((&letter["reason"], &letter["status"]), (&json!("refused"), &json!(422)), "{letter}");
}

#[test]
fn alerts_reach_their_source_as_they_came_and_others_in_its_form() {
    let recorder = Recorder::scripted(|_| Reply::Json(202, json!({ "status": "success" })));
    let source = "    alert_sources: [{ id: one, secret: secret-one }]\n";
    let upstream = format!(
        "  - {{ name: pager, kind: incidentio_alert, url: '{}', credential: alert-secret, source_config_id: SRC1 }}\n",
        recorder.base()
    );
    let surgegate =
        Surgegate::start(&[&format!("integrations:\n{}upstreams:\n{upstream}", integration("a", A, source))]);
    let firing = r#"{ "title":"latency", "status":"firing","deduplication_key":"k","metadata":{"n":1.50}}"#;
    let mut connection = surgegate.connect();
    let fields = ["Authorization: Bearer secret-one", "Content-Type: application/json"];
    connection.send(request("POST", "/v2/alert_events/http/one", &fields, firing)).unwrap();
    assert_eq!(connection.answer().unwrap().status, 202);
    surgegate.post(&format!("/v2/incidents/api/{A}"), trigger("disk"));
    surgegate.post(&format!("/v2/incidents/api/{A}"), resolve("disk"));
    surgegate.wait_until_delivered();
    let mut requests = recorder.requests();
    assert!(requests.iter().all(|request| request.line() == "POST /v2/alert_events/http/SRC1"), "{requests:?}");
    assert!(requests.iter().all(|request| request.headers["authorization"] == "Bearer alert-secret"));
    let own = requests.iter().position(|request| *request.body == *firing.as_bytes()).expect("the very bytes");
    requests.remove(own);
    let said: Vec<_> = requests
        .iter()
        .map(|request| (request.json()["status"].clone(), request.json()["deduplication_key"].clone()))
        .collect();
    let key = json!("a:squadcast:disk");
    assert_eq!(said, [(json!("firing"), key.clone()), (json!("resolved"), key)]);
}
