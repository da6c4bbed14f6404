//! incident.io: idempotency for ever, the edit, the reads, alert events.

use serde_json::{Value, json};

use crate::common::Stand;

fn stand(options: &[&str]) -> Stand {
    Stand::start("incidentio", options).authorized("Bearer secret")
}

/// The id of the n-th severity or status.
fn listed(stand: &Stand, list: &str, place: usize) -> Value {
    stand.get(&format!("/v1/{list}")).body[list][place]["id"].clone()
}

fn status_of(stand: &Stand, category: &str) -> Value {
    let statuses = stand.get("/v1/incident_statuses").body["incident_statuses"].clone();
    let found = statuses.as_array().unwrap().iter().find(|status| status["category"] == category);
    found.unwrap()["id"].clone()
}

#[test]
fn a_key_gives_its_incident_for_ever_on_both_versions() {
    let stand = stand(&[]);
    let severity = listed(&stand, "severities", 1);
    let body = json!({ "idempotency_key": "k", "visibility": "public", "name": "n", "severity_id": severity });
    let first = stand.post("/v2/incidents", &body);
    assert_eq!(first.status, 200, "{first:?}");
    let incident = first.body["incident"].clone();
    assert_eq!(
        (&incident["severity"]["name"], &incident["incident_status"]["category"]),
        (&"Major".into(), &"live".into())
    );
    let id = incident["id"].as_str().unwrap();
    let edit =
        json!({ "notify_incident_channel": false, "incident": { "incident_status_id": status_of(&stand, "closed") } });
    let closed = stand.post(&format!("/v2/incidents/{id}/actions/edit"), &edit);
    assert_eq!(closed.body["incident"]["incident_status"]["category"], "closed", "{closed:?}");
    let other = json!({ "idempotency_key": "k", "visibility": "private", "name": "other" });
    let again = stand.post("/v1/incidents", &other);
    assert_eq!((again.status, &again.body["incident"]["id"]), (200, &incident["id"]));
    let v1 = &again.body["incident"];
    assert_eq!((&v1["status"], &v1["name"], &v1["reference"]), (&"closed".into(), &"n".into(), &incident["reference"]));
    let done = ["create:created", "edit:resolved", "create:duplicate"];
    assert_eq!(stand.incidents(), [("k".into(), "resolved".into(), 2, done.map(str::to_owned).to_vec())]);
    assert_eq!(stand.overview()["called"], 1);
    assert_eq!(stand.get(&format!("/v1/incidents/{id}")).body["incident"]["id"], incident["id"]);
    assert_eq!(stand.get("/v2/incidents/none").status, 404);
    let other = "Authorization: Bearer other\r\nContent-Type: application/json\r\n";
    let independent = stand.post_with("/v2/incidents", other, &body);
    assert_ne!(independent.body["incident"]["id"], incident["id"], "another API key");
}

#[test]
fn required_members_are_422_with_their_fields_and_consume_no_key() {
    let stand = stand(&[]);
    let answer = stand.post("/v2/incidents", &json!({}));
    assert_eq!((answer.status, &answer.body["type"]), (422, &"validation_error".into()));
    let fields = |answer: &Value| -> Vec<String> {
        let errors = answer["errors"].as_array().unwrap().iter();
        errors.map(|e| format!("{} {}", e["source"]["field"].as_str().unwrap(), e["code"].as_str().unwrap())).collect()
    };
    assert_eq!(
        fields(&answer.body),
        ["idempotency_key is_required", "visibility is_required", "severity_id is_required"]
    );
    let minimal = json!({ "idempotency_key": "k", "visibility": "public" });
    assert_eq!(stand.post("/v2/incidents", &minimal).status, 422, "severity");
    assert_eq!(stand.post("/v1/incidents", &minimal).status, 200, "v1 begins in triage");
    let unknown = json!({ "idempotency_key": "l", "visibility": "public", "severity_id": "none" });
    assert_eq!(fields(&stand.post("/v2/incidents", &unknown).body), ["severity_id invalid_value"]);
    let entries = json!({ "idempotency_key": "l", "visibility": "public", "custom_field_entries": [{ "values": [] }] });
    let answer = stand.post("/v1/incidents", &entries);
    assert_eq!(fields(&answer.body), ["custom_field_entries.0.custom_field_id is_required"]);
    let answer = stand.send("POST", "/v2/incidents", "{");
    assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (400, &"invalid_json".into()));
    assert_eq!(stand.overview()["created"], 1);
}

#[test]
fn an_edit_raises_the_severity_and_knows_states_it_refuses() {
    let stand = stand(&["--severities", "5"]);
    let (low, high) = (listed(&stand, "severities", 0), listed(&stand, "severities", 4));
    assert_eq!(stand.get("/v1/severities").body["severities"][4]["rank"], 5, "a higher rank is worse");
    let body = json!({ "idempotency_key": "k", "visibility": "public", "severity_id": low });
    let id = stand.post("/v2/incidents", &body).body["incident"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/incidents/{id}/actions/edit");
    let edit = |incident: Value| stand.post(&path, &json!({ "notify_incident_channel": true, "incident": incident }));
    assert_eq!(edit(json!({ "severity_id": high })).body["incident"]["severity"]["id"], high);
    assert_eq!(edit(json!({ "incident_status_id": status_of(&stand, "triage") })).status, 422);
    assert_eq!(edit(json!({ "severity_id": "none" })).status, 422);
    assert_eq!(
        stand.post(&path, &json!({ "incident": {} })).body["errors"][0]["source"]["field"],
        "notify_incident_channel"
    );
    assert_eq!(stand.post("/v2/incidents/none/actions/edit", &json!({})).status, 404);
    assert_eq!(stand.incidents()[0].3, ["create:created", "edit:updated"]);
}

#[test]
fn reads_are_there_and_pages_follow_each_other() {
    let stand = stand(&["--credential", "secret"]);
    for key in 0..5 {
        let body = json!({ "idempotency_key": key.to_string(), "visibility": "public" });
        stand.post("/v1/incidents", &body);
    }
    let page = stand.get("/v2/incidents?page_size=3").body;
    assert_eq!(page["incidents"].as_array().unwrap().len(), 3);
    let after = page["pagination_meta"]["after"].as_str().unwrap();
    let rest = stand.get(&format!("/v2/incidents?page_size=3&after={after}")).body;
    assert_eq!(rest["incidents"].as_array().unwrap().len(), 2);
    assert_eq!(rest["pagination_meta"], json!({ "after": null, "page_size": 3, "total_record_count": 5 }));
    assert_eq!(stand.get("/v2/incidents?status_category[one_of]=live").body["incidents"], json!([]));
    for path in ["/v1/incident_types", "/v2/custom_fields", "/v1/identity", "/v1/incident_statuses"] {
        assert_eq!(stand.get(path).status, 200, "{path}");
    }
    let severity = listed(&stand, "severities", 0);
    let path = format!("/v1/severities/{}", severity.as_str().unwrap());
    assert_eq!(stand.get(&path).body["severity"]["name"], "Minor");
    let answer = stand.try_send("GET", "/v1/severities", "Authorization: Bearer wrong\r\n", "").unwrap();
    assert_eq!((answer.status, &answer.body["type"]), (401, &"authentication_error".into()));
}

#[test]
fn alert_events_are_deduplicated_while_they_fire() {
    let stand = stand(&["--alert-source", "src=s3cret"]);
    let bearer = "Content-Type: application/json\r\nAuthorization: Bearer s3cret\r\n";
    let event = |status: &str| json!({ "title": "t", "status": status, "deduplication_key": "k" });
    let path = "/v2/alert_events/http/src";
    let answer = stand.post_with(path, bearer, &event("firing"));
    assert_eq!((answer.status, &answer.body["deduplication_key"]), (202, &"k".into()));
    stand.post_with(path, bearer, &event("firing"));
    let by_query = format!("{path}?token=s3cret");
    assert_eq!(stand.post_with(&by_query, "Content-Type: application/json\r\n", &event("resolved")).status, 202);
    let basic = "Content-Type: application/json\r\nAuthorization: Basic dXNlcjpzM2NyZXQ=\r\n";
    assert_eq!(stand.post_with(path, basic, &event("resolved")).status, 202, "unknown, accepted");
    stand.post_with(path, bearer, &event("firing"));
    let incidents = stand.incidents();
    assert_eq!(incidents[0].3, ["firing:created", "firing:duplicate", "resolved:resolved"]);
    assert_eq!((incidents.len(), &*incidents[1].1), (2, "open"));
    assert_eq!(stand.post(path, &event("firing")).status, 401, "the API key is no secret of a source");
    assert_eq!(stand.post_with("/v2/alert_events/http/none", bearer, &event("firing")).status, 404);
    assert_eq!(stand.post_with(path, bearer, &event("Firing")).status, 422);
    let shown = stand.get("/_stand/requests").body.to_string();
    assert!(!shown.contains("s3cret") && shown.contains("token=***"), "{shown}");
}

#[test]
fn the_rate_is_told_in_headers_and_body() {
    let stand = stand(&["--rate", "2/60s"]);
    let body = json!({ "idempotency_key": "k", "visibility": "public" });
    let first = stand.post("/v1/incidents", &body);
    assert_eq!(
        (first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")),
        (Some("2, 2;window=60"), Some("1"))
    );
    stand.post("/v1/incidents", &body);
    let answer = stand.post("/v1/incidents", &body);
    assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (429, &"too_many_requests".into()));
    assert_eq!((answer.header("x-ratelimit-used"), answer.header("x-ratelimit-remaining")), (Some("2"), Some("0")));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
    assert!(answer.body["rate_limit"]["retry_after"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn severities_and_statuses_can_have_ids_of_ones_own() {
    let stand = stand(&["--severity-id", "low", "--severity-id", "high", "--incident-status", "closed=done"]);
    let severities = stand.get("/v1/severities").body["severities"].clone();
    let ranks: Vec<_> = severities.as_array().unwrap().iter().map(|one| (&one["id"], &one["rank"])).collect();
    assert_eq!(ranks, [(&"low".into(), &1.into()), (&"high".into(), &2.into())]);
    let body = json!({ "idempotency_key": "k", "visibility": "public", "severity_id": "high" });
    let id = stand.post("/v2/incidents", &body).body["incident"]["id"].as_str().unwrap().to_owned();
    let edit = json!({ "notify_incident_channel": false, "incident": { "incident_status_id": "done" } });
    assert_eq!(stand.post(&format!("/v2/incidents/{id}/actions/edit"), &edit).status, 200);
    assert_eq!(stand.overview()["resolved"], 1);
    assert_eq!(stand.get(&format!("/v1/incidents/{id}")).body["incident"]["status"], "closed");
}
