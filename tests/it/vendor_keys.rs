//! INTERFACE 3 for vendors' upstreams: each of their keys is seen in what the vendor gets, and `replay_ttl` in what is taken anew.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::tls::Authority;
use crate::harness::{
    KEY, Named, PATH, Recorded, Recorder, Reply, Settings, Surgegate, binary, run, wait_for, wait_until,
};

/// What an upstream of this kind gets of one trigger.
fn first_request(kind: &str, settings: &str) -> Recorded {
    let recorder = Recorder::scripted(|request| match request.path.as_str() {
        "/incidents/create" | "/create" => Reply::Json(200, json!({ "instance_id": 7, "timestamp": "x" })),
        "/v1/incidents" | "/v2/incidents" => Reply::Json(200, json!({ "incident": { "id": "R" } })),
        // Asked for before, of an account whose levels are not all mapped.
        "/v1/severities" => Reply::Json(200, json!({ "severities": [] })),
        _ => Reply::Json(202, json!({ "requestId": "q" })),
    });
    let surgegate = Surgegate::start(&[&format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [vendor] }}\n\
         upstreams:\n  - {{ name: vendor, kind: {kind}, url: '{}', credential: k, {settings} }}\n",
        recorder.base()
    )]);
    let body = json!({
        "message": "disk full", "description": "volume /data", "event_id": "disk", "priority": "P1",
        "tags": { "team": "storage", "load": "17" },
    });
    assert_eq!(surgegate.post(PATH, body.to_string()).status, 202);
    wait_for("its request", || recorder.requests().into_iter().find(|request| request.line().starts_with("POST ")))
}

#[test]
fn each_key_of_a_vendors_upstream_is_seen_in_what_it_gets() {
    let incidentio = "visibility: public, default_severity_id: SEV";
    for (kind, settings, line, seen) in [
        ("taskcall", "policy_ref_id: [P1, P2]", "POST /create", json!({ "/policy_ref_id": ["P1", "P2"] })),
        ("taskcall", "users: [jdoe], path_style: incidents", "POST /incidents/create", json!({ "/users": ["jdoe"] })),
        ("taskcall", "service_ref_id: S, path_style: root", "POST /create", json!({ "/service_ref_id": "S" })),
        (
            "incidentio",
            &format!("api: v1, {incidentio}, incident_type_id: TYPE"),
            "POST /v1/incidents",
            json!({ "/incident_type_id": "TYPE", "/visibility": "public", "/severity_id": "SEV" }),
        ),
        (
            "incidentio",
            &format!(
                "{incidentio}, severity_map: {{ 5: WORST }}, field_map: [{{ tag: team, custom_field_id: F1 }}, \
                 {{ tag: load, custom_field_id: F2, value: numeric }}]"
            ),
            "POST /v2/incidents",
            json!({
                "/severity_id": "WORST",
                "/custom_field_entries": [
                    { "custom_field_id": "F1", "values": [{ "value_text": "storage" }] },
                    { "custom_field_id": "F2", "values": [{ "value_numeric": "17" }] },
                ],
            }),
        ),
        (
            "opsgenie",
            "responders: [{ type: team, name: storage }, { type: user, username: j@x.example }]",
            "POST /v2/alerts",
            json!({ "/responders": [{ "type": "team", "name": "storage" }, { "type": "user", "username": "j@x.example" }] }),
        ),
        (
            "pagerduty",
            "source: edge-7",
            "POST /v2/enqueue",
            json!({ "/payload/source": "edge-7", "/routing_key": "k" }),
        ),
        (
            "cloudevents",
            "source: /fleet, type_prefix: com.example",
            "POST /",
            json!({ "/source": "/fleet", "/type": "com.example.triggered" }),
        ),
        ("incidentio_alert", "source_config_id: SRC", "POST /v2/alert_events/http/SRC", json!({ "/status": "firing" })),
    ] {
        let got = first_request(kind, settings);
        assert_eq!(got.line(), line, "{kind}: {settings}");
        let body = got.json();
        for (pointer, value) in seen.as_object().unwrap() {
            assert_eq!(body.pointer(pointer), Some(value), "{kind}: {settings}: {pointer} in {body}");
        }
    }
}

/// The vendors' own addresses, by the names that the process looks up and that the certificate must have.
#[test]
fn an_upstream_without_a_url_is_the_vendors_own_host_of_its_region() {
    let hosts = [
        ("taskcall", "service_ref_id: S, region: eu", "incidents-api.taskcallapp.com", "POST /create"),
        ("taskcall", "service_ref_id: S, region: us", "incidents-api.us.taskcallapp.com", "POST /create"),
        ("opsgenie", "region: eu", "api.eu.opsgenie.com", "POST /v2/alerts"),
        ("opsgenie", "region: us", "api.opsgenie.com", "POST /v2/alerts"),
        ("pagerduty", "region: eu", "events.eu.pagerduty.com", "POST /v2/enqueue"),
        ("pagerduty", "timeout: 5s", "events.pagerduty.com", "POST /v2/enqueue"),
        ("incidentio", "visibility: private, default_severity_id: S", "api.incident.io", "POST /v2/incidents"),
        ("incidentio_alert", "source_config_id: S", "api.incident.io", "POST /v2/alert_events/http/S"),
    ];
    let (authority, names) = (Authority::new(), hosts.map(|(_, _, host, _)| host));
    let vendors = Named::start(&authority, &names, |line| match line.split(' ').nth(1) {
        Some("/create") => (200, br#"{"instance_id":7,"timestamp":"x"}"#.to_vec()),
        Some("/v2/incidents") => (200, br#"{"incident":{"id":"R"}}"#.to_vec()),
        Some("/v1/severities") => (200, br#"{"severities":[]}"#.to_vec()),
        _ => (202, br#"{"requestId":"q"}"#.to_vec()),
    });
    let (mut integrations, mut upstreams) = (String::new(), String::new());
    for (number, (kind, settings, ..)) in hosts.iter().enumerate() {
        integrations +=
            &format!("  - {{ name: i{number}, keys: [{{ key: '{number:040}' }}], upstreams: [u{number}] }}\n");
        upstreams += &format!("  - {{ name: u{number}, kind: {kind}, credential: k, {settings} }}\n");
    }
    let under = vendors.under(&authority, "");
    let surgegate = Surgegate::start_with(
        Settings { under, ..Settings::default() },
        &[&format!("integrations:\n{integrations}upstreams:\n{upstreams}")],
    );
    for (number, (kind, settings, host, begin)) in hosts.iter().enumerate() {
        let before = vendors.asked_of().len();
        let body = json!({ "message": "disk full", "description": "volume /data", "event_id": "disk" });
        let answer = surgegate.post(&format!("/v2/incidents/api/{number:040}"), body.to_string());
        assert_eq!(answer.status, 202, "{}", answer.text());
        let asked = wait_for("its request", || {
            let asked = vendors.asked_of().split_off(before);
            asked.into_iter().find(|(line, _)| line.starts_with("POST "))
        });
        assert!(asked.0.starts_with(&format!("{begin} ")) && asked.1 == *host, "{kind}, {settings}: {asked:?}");
        surgegate.wait_until_delivered();
    }
}

/// Where a region is meant, nobody is asked: the address is what the configuration says of it.
#[test]
fn a_region_is_taken_where_the_vendor_has_it_and_refused_elsewhere() {
    let validate = |kind: &str, settings: &str| {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [vendor] }}\n\
             upstreams:\n  - {{ name: vendor, kind: {kind}, credential: k, {settings} }}\n"
        );
        std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
        let ended = run(binary(directory.path(), &["validate", "--no-environment"]), "");
        (ended.code, ended.out + &ended.err)
    };
    for (kind, settings) in
        [("taskcall", "service_ref_id: S, region: us"), ("opsgenie", "region: eu"), ("pagerduty", "region: eu")]
    {
        assert_eq!(validate(kind, settings).0, Some(0), "{kind}");
    }
    let (code, told) = validate("pagerduty", "region: mars");
    assert!(code == Some(78) && told.contains("use one of: eu, us"), "{told}");
    let (code, told) = validate("webhook", "url: 'http://127.0.0.1:1', region: eu");
    assert!(code == Some(78) && told.contains("region"), "{told}");
}

#[test]
fn what_a_transport_repeats_is_known_for_replay_ttl_and_new_after_it() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&format!(
        "integrations:\n  - {{ name: edge, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\ndedup: {{ replay_ttl: 2s }}\n",
        recorder.url()
    )]);
    let note = json!({ "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": "backup failed" });
    let post = |note: &Value| surgegate.post(&format!("/hooks/sns/{KEY}"), note.to_string()).outcome().to_owned();
    assert_eq!([post(&note), post(&note)], ["created", "replayed"]);
    // Stamps are kept in whole seconds.
    std::thread::sleep(Duration::from_millis(4200));
    assert_eq!(post(&note), "created");
    wait_until("both", || recorder.count() == 2);
}
