//! Opsgenie: writes that take effect later, and what came of them.

use serde_json::{Value, json};

use crate::common::{Answer, Stand};

fn stand(options: &[&str]) -> Stand {
    Stand::start("opsgenie", options).authorized("GenieKey secret")
}

fn result(stand: &Stand, write: &Answer) -> Answer {
    assert_eq!(write.status, 202, "{write:?}");
    stand.get(&format!("/v2/alerts/requests/{}", write.body["requestId"].as_str().unwrap()))
}

#[test]
fn a_create_is_answered_at_once_and_read_by_its_request() {
    let stand = stand(&[]);
    let write = stand.post("/v2/alerts", &json!({ "message": "m", "alias": "db-7/disk", "priority": "P2" }));
    assert_eq!(write.body["result"], "Request will be processed");
    assert_eq!(write.header("x-request-id"), write.body["requestId"].as_str());
    let done = result(&stand, &write);
    assert_eq!((done.status, &done.body["data"]["status"]), (200, &"Created alert".into()));
    let id = done.body["data"]["alertId"].as_str().unwrap().to_owned();
    let shown = |path: &str| stand.get(path).body["data"]["id"].clone();
    assert_eq!(shown(&format!("/v2/alerts/{id}")), *id);
    assert_eq!(shown("/v2/alerts/db-7%2Fdisk?identifierType=alias"), *id);
    assert_eq!(shown("/v2/alerts/1?identifierType=tiny"), *id);
    assert_eq!(stand.get("/v2/alerts/db-7%2Fdisk").status, 404, "an alias is no id");
    assert_eq!(stand.get("/v2/alerts/1?identifierType=name").status, 422);
    let again = stand.post("/v2/alerts", &json!({ "message": "m", "alias": "db-7/disk", "priority": "P1" }));
    assert_eq!(result(&stand, &again).body["data"]["alertId"], *id);
    let alert = stand.get(&format!("/v2/alerts/{id}")).body["data"].clone();
    assert_eq!((&alert["count"], &alert["priority"]), (&2.into(), &"P2".into()), "the priority of the first stays");
}

#[test]
fn an_alert_goes_through_its_states_and_takes_changes() {
    let stand = stand(&[]);
    stand.post(
        "/v2/alerts",
        &json!({ "message": "m", "alias": "a", "responders": [{ "type": "team", "name": "ops" }] }),
    );
    let alias = |segment: &str| format!("/v2/alerts/a/{segment}?identifierType=alias");
    for segment in ["acknowledge", "unacknowledge", "acknowledge"] {
        assert_eq!(stand.send("POST", &alias(segment), "").status, 202, "{segment}");
    }
    assert_eq!(stand.post(&alias("notes"), &json!({ "note": "n" })).status, 202);
    for (member, value) in [("priority", "P1"), ("message", "new"), ("description", "long")] {
        assert_eq!(stand.send("PUT", &alias(member), &json!({ member: value }).to_string()).status, 202);
        assert_eq!(stand.send("POST", &alias(member), "{}").status, 405, "{member}");
    }
    for (segment, body) in [
        ("tags", json!({ "tags": ["t"] })),
        ("details", json!({ "details": { "k": "v" } })),
        ("snooze", json!({ "endTime": "2030-01-01T00:00:00Z" })),
        ("escalate", json!({ "escalation": { "name": "e" } })),
        ("assign", json!({ "owner": { "username": "u" } })),
        ("teams", json!({ "team": { "name": "t" } })),
        ("responders", json!({ "responder": { "type": "user", "username": "u" } })),
    ] {
        assert_eq!(stand.post(&alias(segment), &body).status, 202, "{segment}");
        assert_eq!(stand.post(&alias(segment), &json!({})).status, 422, "{segment} without its member");
    }
    let close = stand.post(&alias("close"), &json!({ "note": "done" }));
    assert_eq!(result(&stand, &close).body["data"]["success"], true);
    let overview = stand.overview();
    let alert = &overview["incidents"][0];
    assert_eq!((&alert["state"], &alert["severity"]), (&"resolved".into(), &"P1".into()));
    assert_eq!((&alert["title"], &alert["description"]), (&"new".into(), &"long".into()));
    assert_eq!((&alert["own"]["notes"], &alert["own"]["tags"]), (&json!(["n", "done"]), &json!(["t"])));
    assert_eq!(alert["called"][0]["whom"], json!(["team:ops"]));
    assert_eq!(overview["called"], 5);
    stand.post("/v2/alerts", &json!({ "message": "m", "alias": "a" }));
    assert_eq!(stand.overview()["created"], 2, "after a close the alias makes a new alert");
}

#[test]
fn a_close_of_an_unknown_alert_is_accepted_and_only_its_request_tells() {
    let stand = stand(&[]);
    let write = stand.send("POST", "/v2/alerts/never/close?identifierType=alias", "");
    let data = result(&stand, &write).body["data"].clone();
    assert_eq!((&data["success"], &data["status"]), (&false.into(), &"Alert does not exist".into()));
    assert_eq!(stand.overview()["unknown"], 1);
}

#[test]
fn a_deleted_alert_is_gone_and_one_without_alias_has_its_id_for_one() {
    let stand = stand(&[]);
    let created = result(&stand, &stand.post("/v2/alerts", &json!({ "message": "m" }))).body["data"].clone();
    assert_eq!(created["alias"], created["alertId"]);
    let path = format!("/v2/alerts/{}", created["alertId"].as_str().unwrap());
    assert_eq!(stand.send("DELETE", &path, "").status, 202);
    assert_eq!(stand.get(&path).status, 404);
    assert_eq!(stand.overview()["incidents"][0]["vendor_state"], "deleted");
    assert_eq!(stand.get("/v2/alerts").body["data"], json!([]));
}

#[test]
fn with_processing_time_nothing_is_there_before_it() {
    let stand = stand(&["--processing", "1440m"]);
    let write = stand.post("/v2/alerts", &json!({ "message": "m", "alias": "a" }));
    assert_eq!(result(&stand, &write).status, 404);
    assert_eq!(stand.overview()["created"], 0);
}

#[test]
fn limits_are_422_with_the_member_and_credentials_401() {
    let stand = stand(&["--credential", "secret"]);
    let many = |count: usize| Value::from(vec!["t"; count]);
    for (body, member) in [
        (json!({}), "message"),
        (json!({ "message": "m".repeat(131) }), "message"),
        (json!({ "message": "m", "alias": "a".repeat(513) }), "alias"),
        (json!({ "message": "m", "priority": "p1" }), "priority"),
        (json!({ "message": "m", "tags": many(21) }), "tags"),
        (json!({ "message": "m", "tags": ["t".repeat(51)] }), "tags"),
        (json!({ "message": "m", "details": { "k": "v".repeat(8000) } }), "details"),
        (json!({ "message": "m", "details": { "k": 1 } }), "details"),
        (json!({ "message": "m", "description": "d".repeat(15_001) }), "description"),
        (json!({ "message": "m", "responders": [{ "name": "ops" }] }), "responders"),
        (json!({ "message": "m", "entity": 5 }), "entity"),
    ] {
        let answer = stand.post("/v2/alerts", &body);
        assert_eq!(answer.status, 422, "{member} {answer:?}");
        assert!(answer.body["errors"][member].is_string(), "{member} {answer:?}");
    }
    assert_eq!(stand.send("POST", "/v2/alerts", "{").status, 400);
    let whole = json!({ "message": "m".repeat(130), "tags": many(20) });
    assert_eq!(stand.post("/v2/alerts", &whole).status, 202);
    for credential in ["Bearer secret", "GenieKey wrong"] {
        let headers = format!("Content-Type: application/json\r\nAuthorization: {credential}\r\n");
        assert_eq!(stand.post_with("/v2/alerts", &headers, &whole).status, 401, "{credential}");
    }
}

#[test]
fn above_the_rate_the_vendors_headers_tell() {
    let stand = stand(&["--rate", "1/1m"]);
    let body = json!({ "message": "m" });
    assert_eq!(stand.post("/v2/alerts", &body).status, 202);
    let answer = stand.post("/v2/alerts", &body);
    assert_eq!((answer.status, answer.header("x-ratelimit-state")), (429, Some("THROTTLED")));
    assert_eq!(answer.header("x-ratelimit-period-in-sec"), Some("60"));
    assert!(answer.header("retry-after").is_some());
}
