//! `respond: upstream`: senders read what the upstream said, with its ids, and may use those.

use serde_json::{Value, json};

use super::{KEY, Pair, ack, dropped, pair};
use crate::harness::{Answer, Surgegate, request, wait_for};

const RELAYED: &str = "respond: upstream";

fn ask(surgegate: &Surgegate, pair: &Pair, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut connection = surgegate.connect();
    connection.send(request(method, path, &["Content-Type: application/json", pair.header], body)).unwrap();
    connection.answer().unwrap()
}

#[test]
fn taskcalls_senders_get_and_use_the_vendors_numbers() {
    let pair = pair("taskcall");
    let stand = pair.stand();
    let mut surgegate = pair.start(&stand, RELAYED, "");
    let answer = pair.create(&surgegate);
    assert_eq!((answer.status, answer.outcome(), ack(&answer)), (200, "created", Some("delivered")));
    let id = answer.json()["instance_id"].as_u64().unwrap();
    assert_eq!(stand.state()["incidents"][0]["id"], id.to_string());
    // What is absorbed is answered with the same number.
    let again = pair.create(&surgegate);
    assert_eq!((again.outcome(), &again.json()["instance_id"]), ("duplicate", &json!(id)));
    let about = |surgegate: &Surgegate, operation: &str, more: Value| {
        let mut body = json!({ "instance_id": id });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        ask(surgegate, pair, "POST", operation, &body)
    };
    let acknowledged = about(&surgegate, "/acknowledge", json!({}));
    assert_eq!((acknowledged.outcome(), ack(&acknowledged)), ("acknowledged", Some("delivered")));
    assert_eq!(stand.state()["acknowledged"], 1);
    surgegate.kill();
    surgegate.start_again();
    let details = about(&surgegate, "/details", json!({}));
    assert_eq!((&details.json()["instance_id"], &details.json()["status"]), (&json!(id), &json!("ACKNOWLEDGED")));
    assert_eq!(about(&surgegate, "/resolve", json!({})).outcome(), "resolved");
    assert_eq!(stand.state()["resolved"], 1);
    surgegate.wait_until_delivered();
}

#[test]
fn incident_ios_senders_get_and_use_the_vendors_ids() {
    let pair = pair("incidentio_v2");
    let stand = pair.stand();
    let mut surgegate = pair.start(&stand, RELAYED, "");
    let answer = pair.create(&surgegate);
    assert_eq!((answer.status, answer.outcome()), (200, "created"));
    let id = stand.state()["incidents"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.json()["incident"]["id"], id);
    assert!(answer.json()["incident"]["permalink"].is_string(), "the vendor's own object");
    surgegate.kill();
    surgegate.start_again();
    let again = pair.create(&surgegate);
    assert_eq!((again.outcome(), &again.json()["incident"]["id"]), ("replayed", &json!(id)));
    let shown = ask(&surgegate, pair, "GET", &format!("/v2/incidents/{id}"), &Value::Null);
    assert_eq!((shown.status, &shown.json()["incident"]["id"]), (200, &json!(id)));
    assert_eq!(shown.json()["incident"]["permalink"], answer.json()["incident"]["permalink"]);
    let edit =
        json!({ "notify_incident_channel": false, "incident": { "incident_status_id": "01STANDSTS0000000000000006" } });
    let closed = ask(&surgegate, pair, "POST", &format!("/v2/incidents/{id}/actions/edit"), &edit);
    assert_eq!((closed.status, closed.outcome(), ack(&closed)), (200, "resolved", Some("delivered")), "{closed:?}");
    assert_eq!(stand.state()["resolved"], 1);
    surgegate.wait_until_delivered();
}

/// DESIGN 5.7: a duplicate gets the stored answer. Ours would hold our time and our reference beside the vendor's id.
#[test]
fn a_repeat_reads_what_the_upstream_said_of_what_it_repeats() {
    for pair in super::PAIRS {
        let stand = pair.stand();
        let surgegate = pair.start(&stand, RELAYED, "");
        let (first, again) = (pair.create(&surgegate), pair.create(&surgegate));
        assert_eq!((again.status, ack(&again)), (first.status, None), "{}: it was not delivered", pair.dialect);
        let mut expected = first.json();
        match pair.dialect {
            "taskcall" => expected["suppressed"] = json!(true),
            // Each request has its own result.
            "opsgenie" => continue,
            _ => {}
        }
        assert_eq!(again.json(), expected, "{}", pair.dialect);
        assert_eq!(stand.state()["created"], 1, "{}", pair.dialect);
    }
}

#[test]
fn a_repeat_reads_the_state_that_the_upstream_showed_last() {
    let pair = pair("incidentio_v2");
    let stand = pair.stand();
    let surgegate = pair.start(&stand, RELAYED, "");
    let id = pair.create(&surgegate).json()["incident"]["id"].as_str().unwrap().to_owned();
    let rename = json!({ "notify_incident_channel": false, "incident": { "name": "two disks full" } });
    let renamed = ask(&surgegate, pair, "POST", &format!("/v2/incidents/{id}/actions/edit"), &rename);
    assert_eq!((renamed.status, &renamed.json()["incident"]["name"]), (200, &json!("two disks full")), "{renamed:?}");
    let again = pair.create(&surgegate);
    assert_eq!((again.outcome(), again.json()), ("replayed", renamed.json()));
    // In the other version's shape: the vendor said nothing in that.
    let v1 =
        ask(&surgegate, pair, "POST", "/v1/incidents", &json!({ "idempotency_key": "disk", "visibility": "private" }));
    assert!(v1.status != 200 || v1.json()["incident"]["status"].is_string(), "{v1:?}");
}

/// An operation between does not make the create's answer another one.
#[test]
fn a_suppressed_create_is_told_the_vendors_own_time() {
    let pair = pair("taskcall");
    let stand = pair.stand();
    let surgegate = pair.start(&stand, RELAYED, "");
    let first = pair.create(&surgegate).json();
    let acknowledge = || ask(&surgegate, pair, "POST", "/acknowledge", &json!({ "instance_id": first["instance_id"] }));
    let (acknowledged, again) = (acknowledge(), acknowledge());
    assert_eq!((acknowledged.outcome(), again.outcome()), ("acknowledged", "noop"));
    assert_eq!(again.json(), acknowledged.json());
    let suppressed = pair.create(&surgegate);
    assert_eq!(suppressed.json()["timestamp"], first["timestamp"]);
    assert_eq!(suppressed.json()["suppressed"], true);
}

/// Published clients ask what became of the request that their answer names.
#[test]
fn opsgenies_senders_ask_the_vendor_for_its_own_requests_and_us_for_ours() {
    let pair = pair("opsgenie");
    let stand = pair.stand();
    let surgegate = pair.start(&stand, RELAYED, "");
    let answer = pair.create(&surgegate);
    assert_eq!((answer.status, answer.outcome(), ack(&answer)), (202, "created", Some("delivered")));
    let theirs = answer.json()["requestId"].as_str().unwrap().to_owned();
    let told = |id: &str| {
        wait_for("the result", || {
            let told = ask(&surgegate, pair, "GET", &format!("/v2/alerts/requests/{id}"), &Value::Null);
            (told.status == 200).then(|| told.json())
        })
    };
    let data = told(&theirs)["data"].clone();
    assert_eq!((&data["success"], &data["alias"]), (&json!(true), &json!("disk")), "{data}");
    // A repeat is answered by us, and so is what is asked of it.
    let again = pair.create(&surgegate);
    assert_eq!(again.outcome(), "duplicate");
    assert_eq!(told(again.json()["requestId"].as_str().unwrap())["data"]["status"], "Increased count of alert");
    let nobodys =
        ask(&surgegate, pair, "GET", "/v2/alerts/requests/f3b1c0de-0000-4000-8000-000000000000", &Value::Null);
    assert_eq!(nobodys.status, 404, "{nobodys:?}");
}

#[test]
fn the_upstreams_own_refusal_is_relayed_and_its_word_on_our_key_is_not() {
    for pair in super::PAIRS {
        let stand = pair.stand();
        let surgegate = pair.start(&stand, RELAYED, "");
        stand.faults(&[&format!("status={},times=1", pair.refusal.0)]);
        let refused = pair.create(&surgegate);
        assert_eq!((refused.status, dropped(&surgegate)), (pair.refusal.0, 1), "{}", pair.dialect);
        let sent = stand.requests().pop().unwrap();
        assert_eq!(sent["answer"], pair.refusal.0.to_string());
        assert!(refused.json().is_object() && refused.header("x-request-id").is_some());
        let created = pair.create(&surgegate);
        assert_eq!((created.outcome(), ack(&created)), ("created", Some("delivered")), "{}", pair.dialect);
        if pair.vendor == "taskcall" {
            stand.faults(&["status=401,times=1"]);
            let other = pair.send(&surgegate, &pair.create.replace("\"disk\"", "\"memory\""));
            assert_eq!((other.status, &other.json()["error"]), (503, &json!("unavailable")), "{other:?}");
        }
    }
}

#[test]
fn who_waited_in_vain_gets_our_answer_and_our_ids_which_work_as_well() {
    let pair = pair("taskcall");
    let stand = pair.stand();
    stand.faults(&["hang,times=1"]);
    let surgegate = pair.start(&stand, &format!("{RELAYED}\n    ack_timeout: 200ms"), ", timeout: 1s");
    let answer = pair.create(&surgegate);
    assert_eq!((answer.outcome(), ack(&answer)), ("created", Some("spooled")));
    let ours = answer.json()["instance_id"].as_u64().unwrap();
    surgegate.wait_until_delivered();
    let theirs = stand.state()["incidents"][0]["id"].as_str().unwrap().parse::<u64>().unwrap();
    assert_ne!(ours, theirs);
    for id in [ours, theirs] {
        let details = ask(&surgegate, pair, "POST", "/details", &json!({ "instance_id": id }));
        assert_eq!((details.status, &details.json()["instance_id"]), (200, &json!(theirs)), "{details:?}");
    }
    let resolved = ask(&surgegate, pair, "POST", "/resolve", &json!({ "instance_id": ours }));
    assert_eq!(resolved.outcome(), "resolved");
    surgegate.wait_until_delivered();
    assert_eq!(stand.state()["resolved"], 1);
}

#[test]
fn an_id_that_nobody_here_gave_is_404_or_passed_on_by_choice() {
    for dialect in ["taskcall", "incidentio_v2"] {
        let pair = pair(dialect);
        let stand = pair.stand();
        // Made past the proxy.
        let direct = pair.start(&stand, RELAYED, "");
        assert_eq!(pair.create(&direct).status, 200);
        let id = stand.state()["incidents"][0]["id"].as_str().unwrap().to_owned();
        drop(direct);
        let resolve = |surgegate: &Surgegate| match dialect {
            "taskcall" => {
                let number: u64 = id.parse().unwrap();
                ask(surgegate, pair, "POST", "/resolve", &json!({ "instance_id": number }))
            }
            _ => {
                let edit = json!({ "notify_incident_channel": false,
                    "incident": { "incident_status_id": "01STANDSTS0000000000000006" } });
                ask(surgegate, pair, "POST", &format!("/v2/incidents/{id}/actions/edit"), &edit)
            }
        };
        let surgegate = pair.start(&stand, RELAYED, "");
        assert_eq!(resolve(&surgegate).status, 404, "{dialect}");
        assert_eq!(stand.state()["open"], 1, "{dialect}");
        let surgegate = pair.start(&stand, &format!("{RELAYED}\n    id_passthrough: true"), "");
        let passed = resolve(&surgegate);
        assert_eq!((passed.status, passed.outcome()), (200, "forwarded"), "{dialect} {passed:?}");
        assert_eq!(stand.state()["resolved"], 1, "{dialect}");
        surgegate.wait_until_delivered();
    }
}

/// Two integrations on one upstream: what it calls the one's incidents is nothing to the other.
#[test]
fn an_upstreams_id_reaches_no_other_integrations_incident() {
    let pair = pair("taskcall");
    let stand = pair.stand();
    let other = "5ca1ab1e0123456789abcdef76543210";
    let configuration = pair.configuration(&stand, RELAYED, "").replace(
        "upstreams:\n  -",
        &format!(
            "  - name: billing\n    keys: [{{ key: {other} }}]\n    upstreams: [pager]\n    {RELAYED}\nupstreams:\n  -"
        ),
    );
    let surgegate = Surgegate::start(&[&configuration]);
    let id = pair.create(&surgegate).json()["instance_id"].clone();
    for operation in ["/details", "/acknowledge", "/resolve"] {
        let mut connection = surgegate.connect();
        let header = format!("Authorization: token {other}");
        let body = json!({ "instance_id": id }).to_string();
        connection.send(request("POST", operation, &["Content-Type: application/json", &header], body)).unwrap();
        assert_eq!(connection.answer().unwrap().status, 404, "{operation}");
    }
    assert_eq!(stand.state()["open"], 1);
    assert!(!surgegate.said().contains(KEY));
}
