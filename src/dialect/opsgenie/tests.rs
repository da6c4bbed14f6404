//! What the Alert API says and answers, read from bodies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Rules;
use crate::dialect::json::with_document;
use crate::event::{Action, KeyKind, TargetKind};
use crate::gate::Settings;

struct Said {
    judged: Judged,
    content: Value,
    extra: Vec<String>,
}

fn decode(endpoint: &str, segment: Option<&str>, query: &str, body: &str, judge_only: bool) -> Result<Said, Faults> {
    let settings = Settings::default();
    let args: Vec<Box<str>> = segment.into_iter().map(Box::from).collect();
    let rules = Rules { require_description: true, judge_only, settings: Some(&settings) };
    let asked = Asked { args: &args, query, ..Asked::at(endpoint, rules) };
    let mut said = None;
    with_document(body.as_bytes(), |document| {
        Opsgenie.decode(&asked, document, &mut |decoded| {
            said = Some(Said {
                judged: decoded.judged,
                content: serde_json::to_value(&decoded.content).unwrap(),
                extra: decoded.extra.iter().map(|extra| extra.name().to_owned()).collect(),
            });
        })
    })
    .unwrap()?;
    Ok(said.unwrap())
}

fn create(body: &str) -> Result<Said, Faults> {
    decode("create", None, "", body, false)
}

fn on_alias(endpoint: &str, body: &str) -> Result<Said, Faults> {
    decode(endpoint, Some("db-7%2Fdisk"), "identifierType=alias", body, false)
}

#[test]
fn a_create_says_all_it_has_and_keeps_the_rest_verbatim() {
    let said = create(
        r#"{"message":"m","alias":"a","description":"d","priority":"P2","tags":["prod"," "],"details":{"free":"1%","n":1.50,
        "b":true,"gone":null},"entity":"mysql","source":"s","note":"n","responders":[{"type":"team","name":"x"}],
        "visibleTo":[{"type":"team","name":"y"}],"actions":["ping"],"user":"u","odd":1}"#,
    )
    .unwrap();
    let judged = &said.judged;
    assert_eq!((judged.action, judged.key.as_ref().unwrap().canon()), (Action::Trigger, "a"));
    assert_eq!(judged.severity.unwrap().level(), 4);
    let content = said.content;
    assert_eq!(content["tags"]["prod"]["bare"], true);
    assert_eq!(content["tags"]["n"], json!({"value": "1.50", "type": "number"}));
    assert_eq!(content["tags"]["b"], json!({"value": "true", "type": "bool"}));
    assert!(content["tags"].get("gone").is_none() && content["tags"].get(" ").is_none());
    assert_eq!(
        (&content["component"], &content["source"], &content["note"]),
        (&json!("mysql"), &json!("s"), &json!("n"))
    );
    assert_eq!(content["assignment"]["responders"], json!([{"type": "team", "name": "x"}]));
    assert_eq!(said.extra, ["visibleTo", "actions", "user", "odd"]);
    let view = judged.view.as_deref().unwrap();
    assert_eq!(view["details"], json!({"free": "1%", "n": "1.50", "b": "true"}));
    assert_eq!((&view["op"], &view["tags"], &view["message"]), (&json!("create"), &json!(["prod"]), &json!("m")));
}

#[test]
fn an_alert_without_alias_gets_one_and_a_blank_one_is_none() {
    for body in [r#"{"message":"m"}"#, r#"{"message":"m","alias":" "}"#, r#"{"message":"m","alias":null}"#] {
        let key = create(body).unwrap().judged.key.unwrap();
        assert_eq!((key.kind, key.canon().len()), (KeyKind::Generated, 36), "{body}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = |body| create(body).err().map(|faults| faults.join("; "));
    assert_eq!(faults(r#"{"message":" "}"#).as_deref(), Some("message: Message can not be empty."));
    let all = create(
        r#"{"alias":6,"description":1,"priority":"P6","tags":"a","details":["a"],"entity":1,"source":1,"note":1,
        "responders":{},"visibleTo":["x"],"actions":[1],"user":1}"#,
    )
    .err()
    .unwrap();
    let members: Vec<_> = all.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    assert_eq!(
        members,
        [
            "alias",
            "message",
            "description",
            "priority",
            "entity",
            "tags",
            "details",
            "responders",
            "actions",
            "visibleTo",
            "user",
            "note",
            "source"
        ]
    );
    assert_eq!(faults(r#"{"message":"m","details":{"a":{}}}"#).as_deref(), Some("details.a: must be a string"));
    assert_eq!(faults(r#"{"message":"m","tags":["a",1]}"#).as_deref(), Some("tags: must be an array of strings"));
    let long = format!(r#"{{"message":"m","alias":"{}"}}"#, "k".repeat(513));
    assert!(create(&long).is_err() && create(&long.replacen('k', "", 1)).is_ok());
}

#[test]
fn an_operation_demands_what_it_is_about_and_nothing_else() {
    for (endpoint, body, action) in [
        ("close", "{}", Action::Resolve),
        ("delete", "{}", Action::Resolve),
        ("acknowledge", r#"{"user":5,"note":[],"source":{}}"#, Action::Acknowledge),
        ("unacknowledge", "{}", Action::Unacknowledge),
        ("notes", r#"{"note":"n"}"#, Action::Update),
        ("message", r#"{"message":"m"}"#, Action::Update),
        ("description", r#"{"description":""}"#, Action::Update),
        ("priority", r#"{"priority":"P1"}"#, Action::Update),
        ("tags", r#"{"tags":["a"]}"#, Action::Admin),
        ("details", r#"{"details":{"a":"b"}}"#, Action::Admin),
        ("snooze", r#"{"endTime":"2026-11-21T10:00:00Z"}"#, Action::Admin),
        ("escalate", r#"{"escalation":{"name":"e"}}"#, Action::Admin),
        ("assign", r#"{"owner":{"username":"u"}}"#, Action::Admin),
        ("teams", r#"{"team":{"name":"t"}}"#, Action::Admin),
        ("responders", r#"{"responder":{"type":"user","username":"u"}}"#, Action::Admin),
    ] {
        let judged = on_alias(endpoint, body).unwrap_or_else(|faults| panic!("{endpoint}: {faults:?}")).judged;
        assert_eq!((judged.action, judged.key.unwrap().canon()), (action, "db-7/disk"), "{endpoint}");
        assert_eq!(judged.notes, endpoint == "notes", "{endpoint}");
        let is_bare = matches!(action, Action::Resolve | Action::Acknowledge | Action::Unacknowledge);
        assert_eq!(on_alias(endpoint, "{}").is_ok(), is_bare, "{endpoint}");
    }
    let snoozed = on_alias("snooze", r#"{"endTime":"2026-11-21T10:00:00Z"}"#).unwrap();
    assert_eq!(snoozed.content["params"], json!({"endTime": "2026-11-21T10:00:00Z"}));
}

#[test]
fn an_id_is_a_target_and_an_alias_a_key() {
    let judged = |query| decode("close", Some("7"), query, "{}", true).map(|said| said.judged);
    let target = |query| judged(query).unwrap().target.map(|target| target.kind);
    assert_eq!(target(""), Some(TargetKind::AlertId));
    assert_eq!(target("identifierType=tiny"), Some(TargetKind::TinyId));
    assert_eq!(target("identifierType=alias"), None);
    assert_eq!(judged("identifierType=name").err(), Some(vec!["identifierType: must be id, alias or tiny".to_owned()]));
}

#[test]
fn an_answer_names_its_request_and_tells_its_time() {
    let replying = Replying {
        status: StatusCode::OK,
        endpoint: "close",
        endings: &[],
        success: StatusCode::OK,
        request_id: "r",
        integration: "a",
        settings: &Settings::default(),
    };
    let (status, body) = Opsgenie.reply(&replying);
    let mut headers = HeaderMap::new();
    let body = Opsgenie.timed(body, Duration::from_millis(2), &mut headers);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(body, json!({"result": "Request will be processed", "took": 0.002, "requestId": "r"}));
    assert_eq!(headers["x-response-time"], "0.002");
}

fn some_member() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "null",
        "\"\"",
        "\"x\"",
        "\"P1\"",
        "\"p3\"",
        "\"P9\"",
        "5",
        "1.50",
        "true",
        "[]",
        "{}",
        "[\"a\"]",
        "[{}]",
        "{\"a\":\"b\"}",
        "{\"a\":1.5}",
        "{\"a\":[]}",
        "[1]",
    ]);
    let name = prop::sample::select(vec![
        "message",
        "alias",
        "description",
        "priority",
        "tags",
        "details",
        "entity",
        "source",
        "note",
        "user",
        "responders",
        "actions",
        "visibleTo",
        "endTime",
        "owner",
        "team",
        "responder",
        "escalation",
        "odd",
    ]);
    (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(2_000)))]

    /// The short reading at intake and the full one must never disagree on what was decided, and what was accepted once
    /// is read again.
    #[test]
    fn judging_decides_what_the_full_reading_decides(
        members in prop::collection::vec(some_member(), 0..8),
        route in 0_usize..19,
    ) {
        let endpoint = ROUTES[route].endpoint;
        let body = format!("{{{}}}", members.join(","));
        let read = |judge_only| decode(endpoint, Some("a"), "identifierType=alias", &body, judge_only);
        match (read(true), read(false)) {
            (Ok(short), Ok(full)) => {
                prop_assert_eq!(&short.judged, &full.judged, "{} {}", endpoint, body);
                let mut again = None;
                let decoded = with_document(body.as_bytes(), |document| {
                    Opsgenie.decode(&Asked::at(endpoint, Rules::ACCEPTED), document, &mut |said| {
                        again = Some(serde_json::to_value(&said.content).unwrap());
                    })
                });
                prop_assert!(matches!(decoded, Ok(Ok(()))), "{} {}", endpoint, body);
                prop_assert_eq!(again, Some(full.content), "{} {}", endpoint, body);
            }
            (Err(short), Err(full)) => prop_assert_eq!(short, full, "{} {}", endpoint, body),
            (short, full) => prop_assert!(false, "{endpoint} {body}: {} {}", short.is_ok(), full.is_ok()),
        }
    }
}
