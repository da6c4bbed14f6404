//! What the golden files of the arrows (`tests/arrows`) do not show: repeats, ids, answers, sizes.

use std::borrow::Cow;

use hyper::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect;
use crate::event::{Event, KeyKind, State, Visibility};
use crate::sink::{Hold, Said, UpstreamConfig, VendorConfig, samples};
use crate::store::Stored;

fn upstream(api: IncidentApi) -> UpstreamConfig {
    let id = |text: &str| Some(std::sync::Arc::from(text));
    let vendor = VendorConfig {
        api,
        visibility: Some(Visibility::Private),
        severity_map: [None, None, id("sev-3"), id("sev-4"), None],
        closed_status_id: id("closed"),
        ..VendorConfig::default()
    };
    UpstreamConfig { credential: id("key"), vendor, ..samples::upstream("incidents", Kind::IncidentIo) }
}

fn encode(stored: &Stored, said: &Said<'_>, remote: Option<&str>) -> Result<Encoded, Unsaid> {
    let remote = remote.and_then(|id| Remote::new(id, None));
    let upstream = upstream(IncidentApi::V2);
    IncidentIo.encode(&Ask { remote: remote.as_ref(), ..samples::ask(stored, said, &upstream) })
}

fn stored(action: Action, outcome: Outcome, generation: u32) -> Stored {
    let event = samples::event(action, Some("disk-db-7"), "{}");
    Stored { outcome, ..samples::stored(1, event, Some(samples::incident(generation, State::Open))) }
}

fn body(encoded: &Encoded) -> Value {
    serde_json::from_slice(&encoded.call.body).unwrap()
}

#[test]
fn each_generation_is_created_under_its_own_key_and_edited_by_the_id_it_got() {
    let said = samples::said();
    let key = |generation| {
        let made = encode(&stored(Action::Trigger, Outcome::Created, generation), &said, None).unwrap();
        assert_eq!(made.call.path.as_deref(), Some("/v2/incidents"));
        body(&made)["idempotency_key"].clone()
    };
    assert_eq!(key(1), samples::incident(1, State::Open).iid.to_string());
    assert_ne!(key(1), key(2));
    let resolve = stored(Action::Resolve, Outcome::Resolved, 1);
    assert_eq!(encode(&resolve, &said, None), Err(Unsaid::Unresolvable));
    let closed = encode(&resolve, &said, Some("01JZ/..")).unwrap();
    assert_eq!(closed.call.path.as_deref(), Some("/v2/incidents/01JZ%2F../actions/edit"));
    assert_eq!(body(&closed)["incident"], json!({ "incident_status_id": "closed" }));
}

#[test]
fn a_repeat_that_is_passed_on_raises_the_severity_and_creates_where_nothing_is_known() {
    let said = samples::said();
    let raised = stored(Action::Trigger, Outcome::Escalated, 1);
    let edit = encode(&raised, &said, Some("I1")).unwrap();
    assert_eq!(body(&edit)["incident"], json!({ "severity_id": "sev-4" }));
    assert_eq!(encode(&raised, &said, None).unwrap().call.path.as_deref(), Some("/v2/incidents"));
}

#[test]
fn a_level_without_a_severity_takes_the_next_worse_one_or_the_worst() {
    let level = |level| {
        let stored = stored(Action::Trigger, Outcome::Created, 1);
        let event = Event { severity: level, ..stored.event.clone() };
        let said = Said { content: crate::event::Content { severity: None, ..samples::said().content }, extra: vec![] };
        body(&encode(&Stored { event, ..stored }, &said, None).unwrap())["severity_id"].clone()
    };
    let ids: Vec<_> = (1..=5).map(|at| level(Severity::new(at))).collect();
    assert_eq!(ids, ["sev-3", "sev-3", "sev-3", "sev-4", "sev-4"]);
    assert_eq!(level(None), "sev-4");
}

#[test]
fn the_answers_id_and_link_are_kept_and_a_refused_state_is_no_loop() {
    let answer = |status, text: &'static str| {
        let answer = Answer { body: text.into(), ..Answer::new(StatusCode::from_u16(status).unwrap()) };
        IncidentIo.read_answer(&answer, samples::AT)
    };
    let made = r#"{"incident":{"id":"I1","permalink":"https://app.example/1"}}"#;
    assert_eq!(answer(200, made), Verdict::Delivered(Remote::new("I1", Some("https://app.example/1"))));
    assert_eq!(answer(200, "{}"), Verdict::Delivered(None));
    for status in PERMANENT {
        assert_eq!(answer(status, "{}"), Verdict::Refused);
    }
    assert_eq!(answer(429, "{}"), Verdict::Retry(Hold::Upstream(None)));
    assert_eq!(answer(500, "{}"), Verdict::Retry(Hold::Lane(None)));
}

#[test]
fn a_long_summary_gives_up_its_block_first() {
    let said = Said {
        content: crate::event::Content { description: Some("d".repeat(32_760).into()), ..samples::said().content },
        extra: Vec::new(),
    };
    let made = encode(&stored(Action::Trigger, Outcome::Created, 1), &said, None).unwrap();
    assert_eq!((made.cut.as_slice(), &body(&made)["summary"]), (["summary"].as_slice(), &json!("d".repeat(32_760))));
}

#[test]
fn only_what_can_be_said_is_addressed_here() {
    let says = |action, dialect, endpoint| IncidentIo.expresses(Statement { action, dialect, endpoint });
    assert!(says(Action::Update, V2, EDIT_ENDPOINT));
    assert!(says(Action::Update, "taskcall", "amend-urgency") && says(Action::Update, "opsgenie", "priority"));
    assert!(!says(Action::Update, "opsgenie", "notes") && !says(Action::Acknowledge, "opsgenie", "acknowledge"));
}

/// A body of either version, of members that it can say.
fn some_create(version: &'static str) -> impl Strategy<Value = Value> {
    let text = || "[ -~ä€]{1,12}".prop_filter("blank", |text| !text.trim().is_empty());
    let members = (
        text(),
        prop::sample::select(vec!["public", "private"]),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(prop::sample::select(match version {
            V1 => vec!["real", "test"],
            _ => vec!["standard", "test", "tutorial", "retrospective"],
        })),
        prop::option::of(text()),
        prop::option::of(prop::sample::select(vec!["triage", "fixing", "closed"])),
    );
    members.prop_map(move |(key, visibility, name, summary, mode, kind, status)| {
        let mut body = json!({ "idempotency_key": key, "visibility": visibility, "severity_id": "sev-1" });
        let mut put = |name: &str, value: Option<Value>| {
            body.as_object_mut().unwrap().extend(value.map(|value| (name.to_owned(), value)))
        };
        put("name", Some(name.unwrap_or_else(|| "n".to_owned()).into()));
        put("summary", summary.map(Value::from));
        put("mode", mode.map(Value::from));
        put("incident_type_id", kind.map(Value::from));
        put("status", status.map(Value::from).filter(|_| version == V1));
        put("custom_field_entries", Some(json!([{ "custom_field_id": "f", "values": [{ "value_text": "v" }] }])));
        body
    })
}

/// The event that a body of this dialect is.
fn event_of(version: &'static str, body: &Value) -> Event {
    let endpoint = if version == V1 { "v1/incidents" } else { "v2/incidents" };
    let key = body["idempotency_key"].as_str().unwrap();
    Event {
        dialect: Cow::Borrowed(version),
        endpoint: Cow::Borrowed(endpoint),
        family: Cow::Borrowed(crate::vendor::CREATE_ONCE_FAMILY),
        key: crate::event::Key::parse(key, KeyKind::String),
        severity: None,
        ..samples::event(Action::Trigger, None, &body.to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(500)))]

    /// What is written anew says what was read: to the same version all of it.
    #[test]
    fn a_create_that_is_encoded_reads_as_it_did(
        (version, body) in prop_oneof![
            some_create(V1).prop_map(|body| (V1, body)),
            some_create(V2).prop_map(|body| (V2, body)),
        ]
    ) {
        let event = event_of(version, &body);
        let first = dialect::reread(&event).unwrap();
        let said = Said { content: first.content.clone(), extra: first.extra.clone() };
        let stored = samples::stored(1, event.clone(), Some(samples::incident(1, State::Open)));
        let api = if version == V1 { IncidentApi::V1 } else { IncidentApi::V2 };
        let upstream = UpstreamConfig { mode: crate::sink::Mode::Normalized, ..upstream(api) };
        let encoded = IncidentIo.encode(&samples::ask(&stored, &said, &upstream)).unwrap();
        let again = Event { raw: encoded.call.body.clone(), ..event.clone() };
        let second = dialect::reread(&again).unwrap();
        // A status that nobody named is said in v1.
        let mut content = second.content.clone();
        if first.content.status_raw.is_none() {
            content.status_raw = None;
        }
        prop_assert_eq!(&content, &first.content);
        let members = |extra: &[(Cow<'_, str>, Cow<'_, serde_json::value::RawValue>)]| {
            extra.iter().map(|(name, json)| (name.to_string(), json.get().to_owned())).collect::<std::collections::BTreeMap<_, _>>()
        };
        prop_assert_eq!(members(&second.extra), members(&first.extra));
    }
}
