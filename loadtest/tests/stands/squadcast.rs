//! Squadcast: no deduplication, resolved together.

use serde_json::json;

use crate::common::Stand;

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

fn path() -> String {
    format!("/v2/incidents/api/{KEY}")
}

#[test]
fn equal_event_ids_make_several_incidents_that_one_resolve_closes() {
    let stand = Stand::start("squadcast", &["--credential", KEY]);
    let trigger = json!({ "message": "m", "description": "", "event_id": 6, "priority": "P2" });
    for body in [&trigger, &json!({ "message": "m", "description": "d", "event_id": "6", "status": "trigger" })] {
        let answer = stand.post(&path(), body);
        assert_eq!((answer.status, &answer.body["event_id"]), (202, &body["event_id"]));
        assert!(answer.body.get("incident_id").is_none(), "the vendor never tells it: {answer:?}");
    }
    assert_eq!(stand.overview()["open"], 2);
    assert_eq!(stand.post(&path(), &json!({ "status": "resolve", "event_id": "6" })).status, 202);
    assert_eq!(stand.post(&path(), &json!({ "status": "resolve", "event_id": "never" })).status, 202);
    let overview = stand.overview();
    assert_eq!((&overview["resolved"], &overview["called"], &overview["unknown"]), (&2.into(), &2.into(), &1.into()));
    assert_eq!(overview["incidents"][0]["severity"], "P2");
    assert_eq!(stand.incidents()[1].3, ["trigger:created", "resolve:resolved"]);
}

#[test]
fn what_the_vendor_refuses_is_refused_with_its_status() {
    let stand = Stand::start("squadcast", &["--credential", KEY]);
    let whole = json!({ "message": "m", "description": "d" });
    assert_eq!(stand.post("/v2/incidents/api/wrong", &whole).status, 404);
    assert_eq!(stand.post("/v2/incidents", &whole).status, 404);
    let answer = stand.get(&path());
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(stand.post_with(&path(), "Content-Type: text/plain\r\n", &whole).status, 415);
    let padded = |bytes: usize| {
        let empty = json!({ "message": "", "description": "d" }).to_string().len();
        json!({ "message": "m".repeat(bytes - empty), "description": "d" })
    };
    assert_eq!(stand.post(&path(), &padded(30_000)).status, 202);
    assert_eq!(stand.post(&path(), &padded(30_001)).status, 413);
    for (body, told) in [
        (json!({ "description": "d" }), "message: "),
        (json!({ "message": "m" }), "description: "),
        (json!({ "message": "m", "description": "d".repeat(15_001) }), "description: "),
        (json!({ "message": "m", "description": "d", "tags": [] }), "tags: "),
        (json!({ "message": "m", "description": "d", "status": "ok" }), "status: "),
        (json!({ "status": "resolve" }), "event_id: "),
        (json!({ "status": "resolve", "event_id": true }), "event_id: "),
    ] {
        let answer = stand.post(&path(), &body);
        assert_eq!((answer.status, &answer.body["status"]), (400, &"error".into()), "{body}");
        assert!(answer.body["errors"][0].as_str().unwrap().starts_with(told), "{body}: {answer:?}");
    }
    assert_eq!(stand.send("POST", &path(), "{").status, 400);
    assert_eq!(stand.overview()["created"], 1, "the one of 30,000 bytes");
}

#[test]
fn the_legacy_path_triggers_whatever_the_status_says() {
    let stand = Stand::start("squadcast", &[]);
    let body = json!({ "message": "m", "description": "d", "status": "resolve", "event_id": "e" });
    assert_eq!(stand.post(&format!("/v1/incidents/create/{KEY}"), &body).status, 202);
    assert_eq!(stand.overview()["open"], 1);
}
