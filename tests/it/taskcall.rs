//! TaskCall's API from outside (contracts/taskcall.md): ids, states, what is shown, what nobody can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, Recorded, Recorder, Reply, Surgegate, request, wait_until};

/// Each integration its own key.
const KEYS: [&str; 2] = ["5ca1ab1e-a", "5ca1ab1e-b"];
/// The first number of the [`Vendor`].
const FIRST: u64 = 700_000_001;

/// The vendor as an upstream: gives its instances numbers of its own.
pub struct Vendor(Recorder);

impl Vendor {
    pub fn start() -> Self {
        let next = Arc::new(AtomicU64::new(FIRST));
        Self(Recorder::scripted(move |asked| match operation(asked) {
            "create" | "unmerge" => {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let body = json!({ "instance_id": number, "timestamp": "2026-03-01T10:02:11.343825" });
                Reply::Json(200, body)
            }
            _ => Reply::Json(200, json!("Success")),
        }))
    }

    pub fn into_recorder(self) -> Recorder {
        self.0
    }

    /// Its line among the upstreams.
    pub fn upstream(&self, name: &str) -> String {
        let pace = "rate_limit: { requests_per_second: 1000 }";
        format!(
            "  - {{ name: {name}, kind: taskcall, url: '{}', credential: k, service_ref_id: SRV, {pace} }}\n",
            self.0.url()
        )
    }

    /// What it was told, in order: the operation and its body.
    fn told(&self) -> Vec<(String, Value)> {
        let requests = self.0.requests();
        requests.iter().map(|asked| (operation(asked).to_owned(), asked.events().remove(0))).collect()
    }
}

fn operation(asked: &Recorded) -> &str {
    asked.path.rsplit('/').next().unwrap_or_default()
}

/// The form of every answer (sections 3 and 4).
pub fn check_form(answer: &Answer, place: &str) {
    let body = answer.json();
    if answer.status < 300 {
        assert_eq!(answer.status, 200, "{place}");
        return;
    }
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["error", "message"], "{place}: {body}");
    let code = body["error"].as_str().unwrap();
    let codes: &[&str] = match answer.status {
        400 => &["bad_request", "incident_not_open"],
        401 => &["unauthorized"],
        403 => &["forbidden"],
        404 => &["not_found"],
        405 => &["method_not_allowed"],
        413 => &["payload_too_large"],
        415 => &["unsupported_media_type"],
        429 => &["rate_limited"],
        501 => &["not_supported"],
        503 => &["unavailable"],
        other => panic!("{place}: {other}"),
    };
    assert!(codes.contains(&code), "{place}: {body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{place}");
    assert_eq!(answer.header("www-authenticate"), (answer.status == 401).then_some("token"), "{place}");
}

/// Two integrations, `a` and `b`, each towards these upstreams.
fn configuration(names: &str, upstreams: &str) -> String {
    let [a, b] = KEYS;
    format!(
        "integrations:\n  - {{ name: a, keys: [{{ key: {a} }}], upstreams: [{names}] }}\n  \
         - {{ name: b, keys: [{{ key: {b} }}], upstreams: [{names}] }}\nupstreams:\n{upstreams}"
    )
}

fn hook(recorder: &Recorder) -> String {
    format!("  - {{ name: hook, kind: webhook, url: '{}' }}\n", recorder.url())
}

/// A sender: the key is one of [`KEYS`].
struct Sender<'s> {
    surgegate: &'s Surgegate,
    key: usize,
}

impl Sender<'_> {
    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Authorization: token {}", KEYS[self.key]);
        let fields = [&*authorization, "Content-Type: application/json"];
        let mut connection = self.surgegate.connect();
        connection.send(request(method, path, &fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        check_form(&answer, path);
        answer
    }

    fn say(&self, operation: &str, body: Value) -> Answer {
        self.ask("POST", &format!("/{operation}"), &body.to_string())
    }

    /// An operation that is taken.
    fn done(&self, operation: &str, body: Value) -> Value {
        let answer = self.say(operation, body);
        assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
        answer.json()
    }

    fn create(&self, key: Option<&str>) -> u64 {
        let created = self.done("create", json!({ "title": "t", "service_ref_id": "S", "dedup_key": key }));
        created["instance_id"].as_u64().unwrap()
    }

    fn details(&self, id: u64) -> Value {
        self.done("details", json!({ "instance_id": id }))
    }
}

/// Every operation that names an instance, with the further member it needs, and whether a resolved one is refused.
/// `OTHER` stands for the number of another instance.
pub const OPERATIONS: [(&str, &str, bool); 20] = [
    ("acknowledge", "{}", true),
    ("unacknowledge", "{}", true),
    ("resolve", "{}", false),
    ("escalate", "{}", true),
    ("reassign", r#"{"reassign_to":["p"]}"#, true),
    ("snooze", r#"{"snooze_for":30}"#, true),
    ("amend-urgency", r#"{"urgency_level":3}"#, true),
    ("add-responders", r#"{"assignees":["p"]}"#, true),
    ("notate", r#"{"notes":"n"}"#, false),
    ("merge", r#"{"related_instance_id":"OTHER"}"#, true),
    ("unmerge", r#"{"task_ref_id":"t"}"#, true),
    ("add-subscribers", r#"{"subscribers":["u"]}"#, false),
    ("remove-subscribers", r#"{"subscribers":["u"]}"#, false),
    ("update-status", r#"{"status_update":"s"}"#, false),
    ("add-impact", r#"{"business_service_ref_id":"b"}"#, false),
    ("remove-impact", r#"{"business_service_ref_id":"b"}"#, false),
    ("run-response-set", r#"{"response_set_ref_id":"r"}"#, false),
    ("run-workflow", r#"{"workflow_ref_id":"w"}"#, false),
    ("edit-title", r#"{"title":"t2"}"#, false),
    ("update-tags", r#"{"tags":["a"]}"#, false),
];

/// What the proxy does itself; the others are an `admin` to it.
const OWN: [&str; 8] = [
    "acknowledge",
    "unacknowledge",
    "resolve",
    "amend-urgency",
    "notate",
    "update-status",
    "edit-title",
    "update-tags",
];

fn body(member: &str, id: u64, other: u64) -> Value {
    let mut body: Value = serde_json::from_str(&member.replace("\"OTHER\"", &other.to_string())).unwrap();
    body["instance_id"] = id.into();
    body
}

#[test]
fn an_instance_lives_its_whole_life_over_a_kill_and_is_shown_as_it_was() {
    let vendor = Vendor::start();
    let mut surgegate = Surgegate::start(&[&configuration("tc", &vendor.upstream("tc"))]);
    let (id, created, before, listed) = {
        let a = Sender { surgegate: &surgegate, key: 0 };
        let body = json!({ "title": "disk full", "description": "volume /data", "service_ref_id": "S", "users": ["u1"],
            "tags": ["ops"], "notes": "first", "urgency_level": 2, "dedup_key": "d" });
        let created = a.done("create", body.clone());
        let id = created["instance_id"].as_u64().unwrap();
        let suppressed = a.done("create", body);
        assert_eq!(suppressed, json!({ "instance_id": id, "timestamp": created["timestamp"], "suppressed": true }));
        // A higher urgency goes through, the number stays.
        let raised = json!({ "title": "t", "service_ref_id": "S", "urgency_level": 5, "dedup_key": "d" });
        assert_eq!(a.say("create", raised).outcome(), "escalated");
        let acknowledged = a.done("acknowledge", json!({ "instance_id": id.to_string() }));
        assert_eq!(acknowledged.as_object().unwrap().keys().collect::<Vec<_>>(), ["next_alert_timestamp"]);
        assert_eq!(a.done("notate", json!({ "instance_id": id, "notes": "second" })), "Success");
        a.done("update-status", json!({ "instance_id": id, "status_update": "soon" }));
        a.done("add-subscribers", json!({ "instance_id": id, "subscribers": "u9" }));
        a.done("edit-title", json!({ "instance_id": id, "title": "disk really full" }));
        let listed = a.ask("GET", "/list/incidents", "").json();
        (id, created, a.details(id), listed)
    };
    assert_eq!(before["status"], "ACKNOWLEDGED");
    assert_eq!(before["instance_timestamp"], created["timestamp"]);
    assert_eq!(before["task"]["task_title"], "disk really full");
    assert_eq!(before["task"]["urgency_level"], 5);
    assert_eq!((&before["subscribers"], &before["task"]["labels"]), (&json!(["u9"]), &json!(["ops"])));
    let notes: Vec<&Value> = before["notes"].as_array().unwrap().iter().map(|note| &note["notes"]).collect();
    assert_eq!(notes, ["first", "second"]);
    let kinds: Vec<&str> =
        before["events"].as_array().unwrap().iter().map(|e| e["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["TRIGGER", "ACKNOWLEDGE", "NOTATE", "UPDATE_STATUS", "ADD_SUBSCRIBERS", "EDIT_TITLE"]);
    for event in before["events"].as_array().unwrap() {
        assert!(serde_json::from_str::<Value>(event["event_log"].as_str().unwrap()).unwrap().is_object());
    }

    surgegate.kill();
    surgegate.start_again();
    let a = Sender { surgegate: &surgegate, key: 0 };
    assert_eq!(a.details(id), before);
    assert_eq!(a.ask("GET", "/list/incidents/", "").json(), listed);
    let statuses = a.done("alerts", json!({ "instance_id": id }));
    let statuses: Vec<&Value> = statuses.as_array().unwrap().iter().map(|alert| &alert["status"]).collect();
    // The one that was absorbed was in memory alone, unless a checkpoint came before the kill.
    assert!(
        matches!(statuses.as_slice(), [Value::String(grouped), .., Value::String(first)]
        if grouped == "GROUPED" && first == "TRIGGERED"),
        "{statuses:?}"
    );
    let again = a.done("create", json!({ "title": "t", "service_ref_id": "S", "dedup_key": "d" }));
    assert_eq!(again, json!({ "instance_id": id, "timestamp": created["timestamp"], "suppressed": true }));
    a.done("resolve", json!({ "instance_id": id }));
    let refused = a.say("acknowledge", json!({ "instance_id": id }));
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("incident_not_open")));
    let next = a.create(Some("d"));
    assert!(next > id);
    // The first stays resolved and known, though its key has another now.
    assert_eq!(a.details(id)["status"], "RESOLVED");
    assert_eq!(a.say("resolve", json!({ "instance_id": id })).outcome(), "duplicate_resolve");
    assert_eq!(a.say("snooze", json!({ "instance_id": id, "snooze_for": 5 })).status, 400);
    assert_eq!(a.details(next)["status"], "OPEN");

    surgegate.wait_until_delivered();
    let told = vendor.told();
    let operations: Vec<&str> = told.iter().map(|(operation, _)| operation.as_str()).collect();
    let expected = [
        "create",
        "amend-urgency",
        "acknowledge",
        "notate",
        "update-status",
        "add-subscribers",
        "edit-title",
        "resolve",
        "create",
    ];
    // A kill may repeat the last of what was sent before it, in order; all but the creates are said once here.
    let mut once: Vec<&str> = Vec::new();
    for operation in operations {
        let is_repeat = if operation == "create" { once.last() == Some(&"create") } else { once.contains(&operation) };
        if !is_repeat {
            once.push(operation);
        }
    }
    assert_eq!(once, expected);
    for (operation, body) in told.iter().filter(|(operation, _)| operation != "create") {
        assert_eq!(body["instance_id"], FIRST, "{operation}: {body}");
    }
}

#[test]
fn ids_never_reach_another_integration() {
    let vendor = Vendor::start();
    let surgegate = Surgegate::start(&[&configuration("tc", &vendor.upstream("tc"))]);
    let [a, b] = [0, 1].map(|key| Sender { surgegate: &surgegate, key });
    let (theirs, own) = (a.create(Some("d")), b.create(Some("d")));
    assert_ne!(theirs, own);
    let before = a.details(theirs);
    for (operation, member, _) in OPERATIONS.into_iter().chain([("details", "{}", false), ("alerts", "{}", false)]) {
        for prefix in ["", "incidents/"] {
            let path = format!("{prefix}{operation}");
            let foreign = b.say(&path, body(member, theirs, own));
            assert_eq!((foreign.status, &foreign.json()["error"]), (404, &json!("not_found")), "{path}");
            // Nobody learns whether somebody else has it.
            let unknown = b.say(&path, body(member, 999_999_999, own));
            assert_eq!((unknown.status, unknown.text()), (404, foreign.text()), "{path}");
        }
    }
    let merged = b.say("merge", json!({ "instance_id": own, "related_instance_id": theirs }));
    assert_eq!(merged.status, 404);
    let lists = [
        b.ask("GET", "/list/incidents", ""),
        b.ask("POST", "/incidents/list", ""),
        b.ask("POST", "/incidents/list", "{}"),
    ];
    for list in lists {
        let ids: Vec<_> = list.json().as_array().unwrap().iter().map(|row| row["instance_id"].clone()).collect();
        assert_eq!(ids, [json!(own)]);
    }
    // An unmerge of another's alert takes nothing of it.
    let alert = before["task"]["task_ref_id"].clone();
    let parted = b.done("unmerge", json!({ "instance_id": own, "task_ref_id": alert }));
    assert_ne!(b.details(parted["instance_id"].as_u64().unwrap())["task"]["task_ref_id"], alert);
    assert_eq!(a.details(theirs), before);
    surgegate.wait_until_delivered();
    let told: Vec<String> = vendor.told().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(told, ["create", "create", "unmerge"]);
}

#[test]
fn every_operation_holds_to_the_table_of_states() {
    let vendor = Vendor::start();
    let surgegate = Surgegate::start(&[&configuration("tc", &vendor.upstream("tc"))]);
    let a = Sender { surgegate: &surgegate, key: 0 };
    let other = a.create(None);
    for (operation, member, needs_open) in OPERATIONS {
        for state in ["OPEN", "ACKNOWLEDGED", "RESOLVED"] {
            let place = format!("{operation} on {state}");
            let id = a.create(None);
            match state {
                "ACKNOWLEDGED" => drop(a.done("acknowledge", json!({ "instance_id": id }))),
                "RESOLVED" => drop(a.done("resolve", json!({ "instance_id": id }))),
                _ => {}
            }
            assert_eq!(a.details(id)["status"], state);
            let answer = a.say(operation, body(member, id, other));
            if needs_open && state == "RESOLVED" {
                assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("incident_not_open")), "{place}");
                assert_eq!(a.details(id)["status"], state, "{place}");
                continue;
            }
            assert_eq!(answer.status, 200, "{place}: {}", answer.text());
            let after = match (operation, state) {
                ("acknowledge", _) => "ACKNOWLEDGED",
                ("unacknowledge", _) => "OPEN",
                ("resolve" | "merge", _) => "RESOLVED",
                _ => state,
            };
            assert_eq!(a.details(id)["status"], after, "{place}");
            let has_no_effect = matches!(
                (operation, state),
                ("acknowledge", "ACKNOWLEDGED") | ("unacknowledge", "OPEN") | ("resolve", "RESOLVED")
            );
            let absorbed = matches!(answer.outcome(), "noop" | "duplicate_resolve");
            // A title and tags of what is resolved stay as they are.
            let is_late = state == "RESOLVED" && matches!(operation, "edit-title" | "update-tags");
            assert_eq!(absorbed, has_no_effect || is_late, "{place}: {}", answer.outcome());
        }
    }
    let survivor = a.create(None);
    a.done("resolve", json!({ "instance_id": survivor }));
    let merged = a.say("merge", json!({ "instance_id": other, "related_instance_id": survivor }));
    assert_eq!((merged.status, &merged.json()["error"]), (400, &json!("incident_not_open")));
    assert_eq!(a.details(other)["status"], "OPEN");
}

#[test]
fn what_no_upstream_can_do_is_said_so_and_changes_nothing() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("hook", &hook(&recorder))]);
    let a = Sender { surgegate: &surgegate, key: 0 };
    let other = a.create(None);
    for (operation, member, _) in OPERATIONS {
        let id = a.create(None);
        let before = a.details(id);
        let answer = a.say(operation, body(member, id, other));
        if OWN.contains(&operation) {
            assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
            continue;
        }
        assert_eq!((answer.status, &answer.json()["error"]), (501, &json!("not_supported")), "{operation}");
        assert_eq!(a.details(id), before, "{operation}");
        // What is wrong with the request itself is said first.
        assert_eq!(a.say(operation, body(member, 999_999_999, other)).status, 404, "{operation}");
        assert_eq!(a.say(operation, json!({ "instance_id": "x" })).status, 400, "{operation}");
    }
    surgegate.wait_until_delivered();
    assert!(recorder.events().iter().all(|event| event["action"] != "admin"));
    // Beside a vendor that can, everybody is told.
    let vendor = Vendor::start();
    let both = hook(&recorder) + &vendor.upstream("tc");
    let surgegate = Surgegate::start(&[&configuration("hook, tc", &both)]);
    let a = Sender { surgegate: &surgegate, key: 0 };
    let id = a.create(None);
    let escalated = a.say("escalate", json!({ "instance_id": id }));
    assert_eq!((escalated.status, escalated.outcome()), (200, "forwarded"));
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().last().unwrap()["action"], "admin");
    assert_eq!(vendor.told().last().unwrap(), &("escalate".to_owned(), json!({ "instance_id": FIRST })));
}

#[test]
fn what_was_merged_is_resolved_and_what_was_parted_is_new_on_both_sides_and_after_a_kill() {
    let vendor = Vendor::start();
    let mut surgegate = Surgegate::start(&[&configuration("tc", &vendor.upstream("tc"))]);
    let (first, second, parted) = {
        let a = Sender { surgegate: &surgegate, key: 0 };
        let body = json!({ "title": "the first", "service_ref_id": "S", "dedup_key": "one", "urgency_level": 4 });
        let first = a.done("create", body)["instance_id"].as_u64().unwrap();
        let second = a.create(Some("two"));
        let alert = a.details(first)["task"]["task_ref_id"].clone();
        assert_eq!(a.done("merge", json!({ "instance_id": first, "related_instance_id": second })), "Success");
        let merged = a.details(first);
        assert_eq!((&merged["status"], merged["resolved_on"].is_string()), (&json!("RESOLVED"), true));
        assert_eq!(a.say("acknowledge", json!({ "instance_id": first })).status, 400);
        assert_eq!(a.details(second)["status"], "OPEN");
        let answer = a.say("unmerge", json!({ "instance_id": second, "task_ref_id": alert }));
        assert_eq!((answer.status, answer.outcome()), (200, "forwarded"), "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["instance_id", "timestamp"]);
        (first, second, answer["instance_id"].as_u64().unwrap())
    };
    assert!(parted > second);
    // The vendor names it, and the name outlives the kill; at worst it is asked twice.
    surgegate.wait_until_delivered();
    surgegate.kill();
    surgegate.start_again();
    let a = Sender { surgegate: &surgegate, key: 0 };
    let shown = a.details(parted);
    assert_eq!((&shown["status"], &shown["task"]["task_title"]), (&json!("OPEN"), &json!("the first")));
    assert_eq!((&shown["task"]["urgency_level"], shown["events"].as_array().unwrap().len()), (&json!(4), 1));
    a.done("acknowledge", json!({ "instance_id": parted }));
    a.done("resolve", json!({ "instance_id": parted }));
    // The merged key is free; the survivor is as it was.
    assert!(a.create(Some("one")) > parted);
    assert_eq!(a.details(second)["status"], "OPEN");
    assert_eq!(a.details(first)["status"], "RESOLVED");
    surgegate.wait_until_delivered();
    let told = vendor.told();
    let merge = told.iter().find(|(operation, _)| operation == "merge").unwrap();
    assert_eq!(merge.1, json!({ "instance_id": FIRST, "related_instance_id": FIRST + 1 }));
    let unmerge = told.iter().find(|(operation, _)| operation == "unmerge").unwrap();
    assert_eq!(unmerge.1["instance_id"], FIRST + 1);
    let resolve = told.iter().find(|(operation, _)| operation == "resolve").unwrap();
    let named = told.iter().filter(|(operation, _)| operation == "unmerge").count() as u64;
    assert_eq!(resolve.1["instance_id"], FIRST + 1 + named);
}

#[test]
fn what_is_shown_has_every_member_of_the_contracts_answers() {
    let surgegate = {
        let recorder = Recorder::start();
        Surgegate::start(&[&configuration("hook", &hook(&recorder))])
    };
    let a = Sender { surgegate: &surgegate, key: 0 };
    let id = a.create(Some("d"));
    a.create(Some("d"));
    let shapes = |name: &str| -> Value {
        let path = format!("{}/tests/contracts/taskcall/responses/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (shown, wanted) = (a.details(id), shapes("details"));
    assert_eq!(names(&shown), names(&wanted));
    assert_eq!(names(&shown["task"]), names(&wanted["task"]));
    assert_eq!(names(&shown["events"][0]), names(&wanted["events"][0]));
    assert_eq!(shown["instance_id"], shown["organization_instance_id"]);
    let (alerts, wanted) = (a.done("alerts", json!({ "instance_id": id })), shapes("alerts"));
    assert_eq!(alerts.as_array().unwrap().len(), 2);
    for (alert, wanted) in alerts.as_array().unwrap().iter().zip(wanted.as_array().unwrap()) {
        assert_eq!(names(alert), names(wanted));
        assert_eq!(alert["status"], wanted["status"]);
        assert_eq!(alert["task_ref_id"], shown["task"]["task_ref_id"]);
    }
    assert_eq!(names(&a.done("acknowledge", json!({ "instance_id": id }))), names(&shapes("acknowledge")));
    for _ in 0..150 {
        a.create(Some("d"));
    }
    let alerts = a.done("alerts", json!({ "instance_id": id }));
    assert_eq!(alerts.as_array().unwrap().len(), 100);
    assert_eq!(alerts[99]["status"], "TRIGGERED");
}

#[test]
fn lists_show_what_fits_newest_first_and_refuse_what_they_cannot_read() {
    let recorder = Recorder::start();
    let assignment = "{ service_ref: SRV, policy_refs: [P1, P2], user_refs: [u1] }";
    let config = configuration("hook", &hook(&recorder)).replacen(
        "upstreams: [hook] }",
        &format!("upstreams: [hook], assignment: {assignment} }}"),
        1,
    );
    let surgegate = Surgegate::start(&[&config]);
    let a = Sender { surgegate: &surgegate, key: 0 };
    let ids: Vec<u64> = (0..3).map(|_| a.create(None)).collect();
    a.done("acknowledge", json!({ "instance_id": ids[1] }));
    a.done("resolve", json!({ "instance_id": ids[2] }));
    let found = |filter: Value| -> Vec<u64> {
        let rows = a.done("incidents/list", filter);
        rows.as_array().unwrap().iter().map(|row| row["instance_id"].as_u64().unwrap()).collect()
    };
    assert_eq!(found(json!({})), [ids[2], ids[1], ids[0]]);
    assert_eq!(found(json!({ "status": "acknowledged" })), [ids[1]]);
    assert_eq!(found(json!({ "status": "OPEN", "service_ref_id": "S" })), [ids[0]]);
    assert!(found(json!({ "service_ref_id": "other" })).is_empty());
    assert!(found(json!({ "end_timestamp": "2020-01-01 00:00:00" })).is_empty());
    assert_eq!(found(json!({ "start_timestamp": "2020-01-01 00:00:00" })).len(), 3);
    assert_eq!(
        found(json!({ "start_timestamp": "2020-01-01T00:00:00.000001", "end_timestamp": "9000-01-01T00:00:00Z" }))
            .len(),
        3
    );
    for wrong in
        [json!({ "status": "LOST" }), json!({ "start_timestamp": "yesterday" }), json!({ "status": 5 }), json!([])]
    {
        assert_eq!(a.say("incidents/list", wrong).status, 400);
    }
    let list = |kind: &str| a.ask("GET", &format!("/list/{kind}"), "").json();
    assert_eq!(list("services"), json!([[null, "SRV"]]));
    assert_eq!(list("escalation-policies"), json!([[null, "P1"], [null, "P2"]]));
    assert_eq!(list("users"), json!([[null, "u1"]]));
    for kind in ["business-services", "response-sets", "workflows"] {
        assert_eq!(list(kind), json!([]));
    }
    assert_eq!(list("incidents").as_array().unwrap().len(), 3);
    assert_eq!(a.ask("GET", "/list/nothing", "").status, 404);
    let b = Sender { surgegate: &surgegate, key: 1 };
    assert_eq!(b.ask("GET", "/list/services", "").json(), json!([]));
    // Nobody is named, but somebody is configured; the other integration has nobody.
    let unnamed = json!({ "title": "nobody in particular" });
    a.done("create", unnamed.clone());
    assert_eq!(b.say("create", unnamed).status, 400);
    wait_until("it is told", || recorder.events().iter().any(|event| event["title"] == "nobody in particular"));
    let events = recorder.events();
    let told = events.iter().find(|event| event["title"] == "nobody in particular").unwrap();
    assert_eq!(told["assignment"], json!({ "service_ref": "SRV", "policy_refs": ["P1", "P2"], "user_refs": ["u1"] }));
    assert_eq!(told["raw"], r#"{"title":"nobody in particular"}"#);
}

#[test]
fn keys_come_in_a_header_alone_and_errors_have_their_form() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("hook", &hook(&recorder))]);
    let key = KEYS[0];
    let ask = |path: &str, fields: &[&str], body: &str| {
        let mut connection = surgegate.connect();
        connection.send(request("POST", path, fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        check_form(&answer, path);
        answer.status
    };
    let json = "Content-Type: application/json";
    let create = r#"{"title":"t","users":"u"}"#;
    for scheme in ["token", "Token", "TOKEN  ", "Bearer"] {
        assert_eq!(ask("/create/", &[json, &format!("Authorization: {scheme} {key}")], create), 200, "{scheme}");
    }
    for wrong in [
        format!("Authorization: {key}"),
        format!("Authorization: Basic {key}"),
        "Authorization: token x".into(),
        "X: y".into(),
    ] {
        assert_eq!(ask("/create", &[json, &wrong], create), 401, "{wrong}");
    }
    let right = format!("Authorization: token {key}");
    assert_eq!(ask("/create", &[json, &right, &right], create), 400);
    assert_eq!(ask("/incidents/create", &[json, &right], &"x".repeat(30_721)), 413);
    assert_eq!(ask("/create", &["Content-Type: text/xml", &right], "<a/>"), 415);
    assert_eq!(ask("/create", &[json, &right], "[]"), 400);
}
