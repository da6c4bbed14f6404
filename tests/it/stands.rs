//! A whole life at each vendor, through answers that are lost: what the vendor holds afterwards is what the sender said, and
//! nobody was called twice.

use serde_json::Value;

use crate::harness::{KEY, Stand, Surgegate, request, wait_until};

struct Vendor {
    name: &'static str,
    /// Of the upstream, beside its address.
    upstream: &'static str,
    /// The scope of its key: the path of its address.
    path: &'static str,
    /// What is left when the first incident was raised, acknowledged and resolved, and the key opened anew.
    severities: [&'static str; 2],
    acknowledges: bool,
    /// A raise is said there.
    raises: bool,
}

const VENDORS: &[Vendor] = &[
    Vendor {
        name: "squadcast",
        upstream: "kind: squadcast",
        path: "/v2/incidents/api/up",
        severities: ["P3", "P3"],
        acknowledges: false,
        raises: false,
    },
    Vendor {
        name: "incidentio",
        upstream: "kind: incidentio, visibility: private, default_severity_id: 01STANDSEV0000000000000001, \
                   closed_status_id: 01STANDSTS0000000000000006",
        path: "",
        severities: ["01STANDSEV0000000000000003", "01STANDSEV0000000000000002"],
        acknowledges: false,
        raises: true,
    },
    Vendor {
        name: "taskcall",
        upstream: "kind: taskcall, service_ref_id: SRV",
        path: "",
        severities: ["5", "3"],
        acknowledges: true,
        raises: true,
    },
    Vendor {
        name: "pagerduty",
        upstream: "kind: pagerduty",
        path: "",
        severities: ["critical", "warning"],
        acknowledges: true,
        raises: true,
    },
    Vendor {
        name: "opsgenie",
        upstream: "kind: opsgenie",
        path: "",
        severities: ["P1", "P3"],
        acknowledges: true,
        raises: true,
    },
];

/// Opsgenie's senders can say all of it: trigger, raise, acknowledge, resolve.
fn say(surgegate: &Surgegate, path: &str, body: &str) -> String {
    let mut connection = surgegate.connect();
    let authorization = format!("Authorization: GenieKey {KEY}");
    connection.send(request("POST", path, &["Content-Type: application/json", &authorization], body)).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.outcome().to_owned()
}

fn life(vendor: &Vendor) {
    let stand = Stand::start(vendor.name, &[]);
    // Of each kind of request the first answer is lost: the vendor has done what it says.
    stand.faults(&["reset,processed,times=1", "reset,processed,after=2,times=1", "reset,processed,after=4,times=1"]);
    let credential = if vendor.name == "squadcast" { "" } else { "credential: up-secret, " };
    let configuration = format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {KEY} }}]\n    upstreams: [vendor]\n\
         upstreams:\n  - {{ name: vendor, url: '{}{}', {credential}{}, rate_limit: {{ requests_per_second: 1000 }} }}\n",
        stand.base(),
        vendor.path,
        vendor.upstream,
    );
    let surgegate = Surgegate::start(&[&configuration]);
    let create = |priority: &str| format!(r#"{{"message":"disk full","alias":"disk","priority":"{priority}"}}"#);
    let about = |operation: &str| format!("/v2/alerts/disk/{operation}?identifierType=alias");
    assert_eq!(say(&surgegate, "/v2/alerts", &create("P3")), "created");
    assert_eq!(say(&surgegate, "/v2/alerts", &create("P3")), "duplicate");
    assert_eq!(say(&surgegate, "/v2/alerts", &create("P1")), "escalated");
    assert_eq!(say(&surgegate, &about("acknowledge"), "{}"), "acknowledged");
    surgegate.wait_until_delivered();
    if vendor.acknowledges {
        assert_eq!(stand.state()["acknowledged"], 1, "{}", vendor.name);
    }
    assert_eq!(say(&surgegate, &about("close"), "{}"), "resolved");
    assert_eq!(say(&surgegate, "/v2/alerts", &create("P3")), "created");
    surgegate.wait_until_delivered();
    wait_until("what the vendor does after its answer", || stand.state()["open"] != 0);
    let state = stand.state();
    let incidents = state["incidents"].as_array().unwrap();
    let what = format!("{}: {state:#}", vendor.name);
    // Squadcast makes an incident of each trigger it takes: of a lost answer there are two (contracts 8, row 8).
    let repeated = if vendor.name == "squadcast" { incidents.len() - 2 } else { 0 };
    assert!(repeated <= 3 && incidents.len() == 2 + repeated, "{what}");
    let (first, last) = (&incidents[0], incidents.last().unwrap());
    assert_eq!((&first["state"], &last["state"]), (&"resolved".into(), &"open".into()), "{what}");
    assert_eq!([&first["severity"], &last["severity"]], vendor.severities.map(Value::from).each_ref(), "{what}");
    assert!(first["resolved_at_us"].as_i64() <= last["created_at_us"].as_i64(), "{what}");
    assert_eq!(first["acknowledged_at_us"].is_i64(), vendor.acknowledges, "{what}");
    if vendor.name != "squadcast" {
        let called = |incident: &Value| incident["called"].as_array().unwrap().len();
        assert_eq!((called(first), called(last)), (1, 1), "{what}");
    }
    assert!(vendor.raises || first["severity"] == last["severity"], "{what}");
    let scrape = surgegate.scrape();
    scrape.assert_books_balance();
    assert!(scrape.count("upstream_retries_total", &[("upstream", "vendor")]) > 0, "{what}");
    assert_eq!(scrape.count("dead_letters", &[]), 0, "{what}");
}

#[test]
fn a_life_at_squadcast() {
    life(&VENDORS[0]);
}

#[test]
fn a_life_at_incident_io() {
    life(&VENDORS[1]);
}

#[test]
fn a_life_at_taskcall() {
    life(&VENDORS[2]);
}

#[test]
fn a_life_at_pagerduty() {
    life(&VENDORS[3]);
}

#[test]
fn a_life_at_opsgenie() {
    life(&VENDORS[4]);
}
