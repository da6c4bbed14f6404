//! What all stand-ins have in common: faults in the vendor's form, lost answers, what is shown.

use serde_json::{Value, json};

use crate::common::Stand;

fn create() -> Value {
    json!({ "title": "t", "users": ["u"], "dedup_key": "d" })
}

fn taskcall() -> Stand {
    Stand::start("taskcall", &[]).authorized("token s3cret")
}

#[test]
fn an_answer_can_be_lost_after_the_request_is_done() {
    let stand = taskcall();
    let headers = "Content-Type: application/json\r\nAuthorization: token s3cret\r\n";
    stand.faults(&["reset,processed,path=POST /create,times=1", "truncate,processed,path=/create,times=1"]);
    for lost in ["reset", "truncate"] {
        let answer = stand.try_send("POST", "/create", headers, &create().to_string());
        assert!(answer.is_err(), "{lost}: {answer:?}");
    }
    let answer = stand.post("/create", &create());
    assert_eq!(answer.body["suppressed"], true, "the first had made it: {answer:?}");
    assert_eq!(stand.incidents()[0].3, ["create:created", "create:duplicate", "create:duplicate"]);
    let requests = stand.get("/_stand/requests").body;
    let answers: Vec<_> = requests["requests"].as_array().unwrap().iter().map(|one| &one["answer"]).collect();
    assert_eq!(answers, ["reset", "truncate", "200"]);
    stand.faults(&["reset"]);
    assert!(stand.try_send("POST", "/create", headers, &json!({ "title": "t", "users": ["u"] }).to_string()).is_err());
    assert_eq!(stand.overview()["created"], 1, "without `processed` nothing is done");
}

#[test]
fn a_scripted_status_has_the_vendors_form() {
    for (vendor, path, credential, member) in [
        ("squadcast", "/v2/incidents/api/k", "", "request_id"),
        ("incidentio", "/v2/incidents", "Bearer k", "rate_limit"),
        ("taskcall", "/create", "token k", "error"),
        ("pagerduty", "/v2/enqueue", "", "status"),
        ("opsgenie", "/v2/alerts", "GenieKey k", "requestId"),
    ] {
        let stand = Stand::start(vendor, &[]).authorized(credential);
        stand.faults(&["status=429,retry_after=7,retry_after_form=utc,times=1", "status=503,times=1"]);
        let answer = stand.post(path, &json!({}));
        assert_eq!(answer.status, 429, "{vendor}");
        assert!(!answer.body[member].is_null(), "{vendor}: {answer:?}");
        assert!(answer.header("retry-after").unwrap().ends_with(" UTC"), "{vendor}: {answer:?}");
        let answer = stand.post(path, &json!({}));
        assert_eq!((answer.status, answer.header("retry-after")), (503, None), "{vendor}");
        assert!(answer.body.is_object(), "{vendor}: {answer:?}");
        let requests = stand.get("/_stand/requests").body;
        assert_eq!(requests["requests"][1]["processed"], false, "{vendor}");
    }
}

#[test]
fn a_fault_finds_the_incident_behind_an_id() {
    let stand = taskcall();
    let id = stand.post("/create", &create()).body["instance_id"].clone();
    stand.faults(&["status=503,match=d"]);
    assert_eq!(stand.post("/resolve", &json!({ "instance_id": id })).status, 503);
    assert_eq!(stand.post("/create", &json!({ "title": "t", "users": ["u"] })).status, 200);
}

#[test]
fn requests_are_shown_without_their_credentials() {
    let taskcall = taskcall();
    taskcall.post("/create", &create());
    let pagerduty = Stand::start("pagerduty", &[]);
    let payload = json!({ "summary": "s", "source": "h", "severity": "info" });
    pagerduty.post("/v2/enqueue", &json!({ "routing_key": "s3cret", "event_action": "trigger", "payload": payload }));
    let squadcast = Stand::start("squadcast", &["--credential", "s3cret"]);
    squadcast.post("/v2/incidents/api/s3cret", &json!({ "status": "resolve", "event_id": "k" }));
    squadcast.post("/v2/incidents/api/wr0ng/", &json!({}));
    for (stand, hidden) in [
        (&taskcall, "\"authorization\":\"token ***\""),
        (&pagerduty, "\"routing_key\":\"***\""),
        (&squadcast, "/v2/incidents/api/***"),
    ] {
        let shown = stand.get("/_stand/requests").body;
        let text = shown.to_string();
        assert!(text.contains(hidden) && !text.contains("s3cret") && !text.contains("wr0ng"), "{text}");
        assert!(!stand.overview().to_string().contains("s3cret"));
        assert_eq!(shown["requests"][0]["number"], 1);
    }
    let one = squadcast.get("/_stand/requests?last=1").body;
    assert_eq!((&one["taken"], &one["left_off"], &one["requests"][0]["number"]), (&2.into(), &1.into(), &2.into()));
    assert_eq!(one["requests"][0]["answer"], "404");
}

#[test]
fn incidents_are_shown_by_key_and_state_and_ids_come_once() {
    let stand = taskcall();
    let first = stand.post("/create", &create()).body["instance_id"].clone();
    stand.post("/create", &json!({ "title": "t", "users": ["u"], "dedup_key": "a/b" }));
    stand.post("/resolve", &json!({ "instance_id": first }));
    let shown = |query: &str| stand.get(&format!("/_stand/incidents?{query}")).body;
    assert_eq!(shown("key=a%2Fb")["incidents"].as_array().unwrap().len(), 1);
    let resolved = shown("state=resolved");
    assert_eq!(resolved["incidents"][0]["id"].as_str().map(str::to_owned), Some(first.to_string()));
    assert_eq!((&resolved["created"], &resolved["open"], &resolved["resolved"]), (&2.into(), &1.into(), &1.into()));
    stand.post("/_stand/reset", &json!({}));
    assert_eq!(stand.get("/_stand/requests").body["taken"], 0);
    assert_eq!(stand.post("/resolve", &json!({ "instance_id": first })).status, 404);
    assert_ne!(stand.post("/create", &create()).body["instance_id"], first);
}

#[test]
fn lost_answers_need_a_vendor_and_vendor_options_too() {
    for (arguments, told) in [
        (&["--fault", "reset,processed"][..], "processed"),
        (&["--credential", "k"], "--vendor"),
        (&["--vendor", "taskcall", "--rate", "5"], "120/60s"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_surgegate-loadtest"))
            .args(["upstream", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(told), "{arguments:?}: {text}");
    }
}
