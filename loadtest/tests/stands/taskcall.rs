//! TaskCall: ids, suppression, states and all operations.

use serde_json::{Value, json};

use crate::common::Stand;

fn stand(options: &[&str]) -> Stand {
    Stand::start("taskcall", options).authorized("token secret")
}

fn create(stand: &Stand, key: &str) -> Value {
    let body = json!({ "title": "t", "service_ref_id": "S", "urgency_level": 4, "dedup_key": key });
    let answer = stand.post("/create", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["instance_id"].clone()
}

#[test]
fn a_create_is_suppressed_while_its_key_is_open_or_acknowledged() {
    let stand = stand(&[]);
    let first = create(&stand, "d");
    assert!(first.as_u64().unwrap() > 1_000_000);
    let again = stand.post("/incidents/create/", &json!({ "title": "t", "users": ["u"], "dedup_key": "d" }));
    assert_eq!((again.status, &again.body["suppressed"]), (200, &true.into()));
    assert_eq!(again.body["instance_id"], first);
    let answer = stand.post("/acknowledge", &json!({ "instance_id": first }));
    assert!(answer.body["next_alert_timestamp"].is_string(), "{answer:?}");
    assert_eq!(create(&stand, "d"), first, "acknowledged counts as open");
    let answer = stand.post("/resolve", &json!({ "instance_id": first }));
    assert_eq!((answer.status, &answer.body), (200, &"Success".into()));
    assert_ne!(create(&stand, "d"), first);
    assert_eq!((&stand.overview()["called"], stand.incidents()[0].2), (&2.into(), 3));
    let alerts = stand.post("/alerts", &json!({ "instance_id": first })).body;
    let states: Vec<_> = alerts.as_array().unwrap().iter().map(|alert| &alert["status"]).collect();
    assert_eq!(states, ["GROUPED", "GROUPED", "TRIGGERED"], "the newest first");
}

#[test]
fn a_suppressed_create_can_be_silent_about_the_id() {
    let stand = stand(&["--suppressed-without-id"]);
    assert!(create(&stand, "d").is_u64());
    assert!(create(&stand, "d").is_null());
}

#[test]
fn the_number_people_see_addresses_nothing() {
    let stand = stand(&[]);
    let id = create(&stand, "d");
    let details = stand.post("/details", &json!({ "instance_id": id })).body;
    let seen = &details["organization_instance_id"];
    assert!(seen.is_u64() && *seen != id);
    let answer = stand.post("/resolve", &json!({ "instance_id": seen }));
    assert_eq!((answer.status, &answer.body["error"]), (404, &"not_found".into()));
    assert_eq!(stand.overview()["unknown"], 1);
    let other = "Content-Type: application/json\r\nAuthorization: token other\r\n";
    assert_eq!(stand.post_with("/resolve", other, &json!({ "instance_id": id })).status, 404, "another organization");
}

/// Operation, its further members, status while open, and while resolved.
fn operations(survivor: &Value) -> Vec<(&'static str, Value, u16, u16)> {
    vec![
        ("unacknowledge", json!({}), 200, 400),
        ("escalate", json!({}), 200, 400),
        ("reassign", json!({ "reassign_to": ["p"] }), 200, 400),
        ("snooze", json!({ "snooze_for": 60 }), 200, 400),
        ("amend-urgency", json!({ "urgency_level": 5 }), 200, 400),
        ("amend-urgency", json!({ "amend-urgency": 5 }), 200, 400),
        ("add-responders", json!({ "assignees": ["p"] }), 200, 400),
        ("notate", json!({ "notes": "n" }), 200, 200),
        ("add-subscribers", json!({ "subscribers": ["u", "v"] }), 200, 200),
        ("remove-subscribers", json!({ "subscribers": ["u"] }), 200, 200),
        ("update-status", json!({ "status_update": "s" }), 200, 200),
        ("add-impact", json!({ "business_service_ref_id": "b" }), 200, 200),
        ("remove-impact", json!({ "business_service_ref_id": "b" }), 200, 200),
        ("run-response-set", json!({ "response_set_ref_id": "r" }), 200, 200),
        ("run-workflow", json!({ "workflow_ref_id": "w" }), 200, 200),
        ("edit-title", json!({ "title": "new" }), 200, 200),
        ("update-tags", json!({ "tags": ["a"] }), 200, 200),
        ("unmerge", json!({ "task_ref_id": "none" }), 404, 400),
        ("acknowledge", json!({}), 200, 400),
        ("acknowledge", json!({}), 200, 400),
        ("merge", json!({ "related_instance_id": survivor }), 200, 400),
        ("resolve", json!({}), 200, 200),
    ]
}

#[test]
fn each_operation_obeys_the_state_under_both_prefixes() {
    let stand = stand(&[]);
    let (id, survivor) = (create(&stand, "d"), create(&stand, "e"));
    for resolved in [false, true] {
        for (name, mut body, open_status, resolved_status) in operations(&survivor) {
            body["instance_id"] = id.clone();
            let expected = if resolved { resolved_status } else { open_status };
            let path = if resolved { format!("/incidents/{name}/") } else { format!("/{name}") };
            let answer = stand.post(&path, &body);
            assert_eq!(answer.status, expected, "{path} {answer:?}");
            if expected == 400 {
                assert_eq!(answer.body["error"], "incident_not_open", "{path}");
            }
            body.as_object_mut().unwrap().remove("instance_id");
            assert_eq!(stand.post(&path, &body).status, 400, "{path} without its instance");
        }
    }
    let overview = stand.overview();
    let own = &overview["incidents"][0]["own"];
    assert_eq!(overview["incidents"][0]["severity"], "5");
    assert_eq!((&own["notes"], &own["subscribers"]), (&json!(["n", "n"]), &json!(["v", "v"])));
    assert_eq!(own["merged_into"], survivor);
    assert_eq!(overview["incidents"][1]["own"]["tasks"].as_array().unwrap().len(), 2, "the survivor has both alerts");
    let called = overview["incidents"][0]["called"].as_array().unwrap();
    let why: Vec<_> = called.iter().map(|one| one["why"].as_str().unwrap()).collect();
    assert_eq!(why, ["create", "escalate", "reassign", "add-responders"]);
}

#[test]
fn an_unmerge_gives_the_alert_an_incident_of_its_own() {
    let stand = stand(&[]);
    let id = create(&stand, "d");
    create(&stand, "d");
    let alerts = stand.post("/alerts", &json!({ "instance_id": id })).body;
    let answer = stand.post("/unmerge", &json!({ "instance_id": id, "task_ref_id": alerts[0]["task_ref_id"] }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.body["instance_id"], id);
    assert_eq!(stand.overview()["open"], 2);
}

#[test]
fn creates_without_assignment_and_wrong_types_are_400_and_credentials_401() {
    let stand = stand(&["--credential", "secret"]);
    for body in [
        json!({ "title": "t" }),
        json!({ "title": "t", "users": [], "policy_ref_id": [""], "service_ref_id": "" }),
        json!({ "title": " ", "users": ["u"] }),
        json!({ "title": "t", "users": "u" }),
        json!({ "title": "t", "users": ["u"], "urgency_level": 6 }),
        json!({ "title": "t", "users": ["u"], "urgency_level": "4" }),
    ] {
        let answer = stand.post("/create", &body);
        assert_eq!((answer.status, &answer.body["error"]), (400, &"bad_request".into()), "{body}");
    }
    let whole = json!({ "title": "t", "users": ["u"] });
    for credential in ["Authorization: token wrong\r\n", "Authorization: Bearer secret\r\n", ""] {
        let headers = format!("Content-Type: application/json\r\n{credential}");
        let answer = stand.post_with("/create", &headers, &whole);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("token")), "{credential}");
    }
    assert_eq!(stand.post("/nothing", &whole).status, 404);
    assert_eq!(stand.get("/create").status, 405);
    assert_eq!(stand.overview()["created"], 0);
}

#[test]
fn lists_and_details_have_the_vendors_shape() {
    let stand = stand(&[]);
    let id = create(&stand, "d");
    for kind in ["users", "escalation-policies", "services", "business-services", "response-sets", "workflows"] {
        assert!(stand.get(&format!("/list/{kind}")).body[0].is_object(), "{kind}");
    }
    assert_eq!(stand.get("/list/incidents").body[0]["instance_id"], id);
    assert_eq!(stand.get("/list/nothing").status, 404);
    let search = |status: &str| stand.post("/incidents/list", &json!({ "status": status })).body;
    assert_eq!((search("OPEN")[0]["instance_id"].clone(), search("RESOLVED")), (id.clone(), json!([])));
    let details = stand.post("/details", &json!({ "instance_id": id })).body;
    assert_eq!((&details["status"], &details["resolved_on"]), (&"OPEN".into(), &Value::Null));
    assert_eq!(details["events"][0]["event_type"], "TRIGGER");
    let log = details["events"][0]["event_log"].as_str().expect("JSON inside of a string");
    assert!(serde_json::from_str::<Value>(log).is_ok(), "{log}");
    assert_eq!(details["task"]["urgency_level"], 4);
}
