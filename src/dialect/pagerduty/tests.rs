//! What the three APIs read, by the sections of contracts/pagerduty.md.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CHANGE, PagerDuty, V1, V2};
use crate::dialect::json::with_document;
use std::sync::LazyLock;

use crate::dialect::{self, Asked, Dialect, Faults, Judged, Rules};
use crate::event::{Action, Event, Key, KeyKind};
use crate::gate::Settings;

static EMPTY: LazyLock<Settings> = LazyLock::new(Settings::default);

fn judged(api: &PagerDuty, body: &Value) -> Result<Judged, Faults> {
    let mut judged = None;
    with_document(body.to_string().as_bytes(), |document| {
        let rules = Rules { require_description: true, judge_only: true, settings: Some(&EMPTY) };
        api.decode(&Asked::at(api.routes()[0].endpoint, rules), document, &mut |said| judged = Some(said.judged))
    })
    .unwrap()?;
    Ok(judged.unwrap())
}

/// Content, and what has no home, as they come out of the log.
fn read(api: &PagerDuty, action: Action, raw: &str) -> (Value, Value) {
    let event = Event {
        dialect: api.name().into(),
        endpoint: api.routes()[0].endpoint.into(),
        action,
        raw: raw.to_owned().into(),
        ..crate::event::tests::event("k")
    };
    let reread = dialect::reread(&event).unwrap();
    let extra = reread.extra.into_iter().map(|(name, value)| (name.into_owned(), value.get().to_owned()));
    let extra = extra.map(|(name, value)| (name, Value::from(value))).collect();
    (serde_json::to_value(&reread.content).unwrap(), Value::Object(extra))
}

fn trigger() -> Value {
    json!({ "event_action": "trigger", "payload": { "summary": "s", "source": "h", "severity": "info" } })
}

fn with(name: &str, value: Value) -> Value {
    let mut body = trigger();
    match name.strip_prefix("payload.") {
        Some(name) => body["payload"][name] = value,
        None => body[name] = value,
    }
    body
}

#[test]
fn keys_have_at_most_255_characters_and_numbers_are_keys() {
    let key = |value: Value| judged(&V2, &with("dedup_key", value)).map(|judged| judged.key.unwrap());
    assert_eq!(key(json!("k".repeat(255))).unwrap().canon().len(), 255);
    assert_eq!(key(json!("ü".repeat(255))).unwrap().canon().chars().count(), 255);
    assert_eq!(key(json!("k".repeat(256))).unwrap_err(), ["dedup_key: is too long (maximum is 255 characters)"]);
    assert_eq!(key(json!("\u{1F525}".repeat(255))).unwrap().canon().len(), 1_020);
    assert!(key(json!("\u{1F525}".repeat(256))).is_err());
    let six = key(json!(6)).unwrap();
    assert_eq!((six.canon(), six.kind), ("6", KeyKind::Integer));
    for odd in [json!(true), json!([]), json!({})] {
        assert_eq!(key(odd).unwrap_err(), ["dedup_key: must be a string"]);
    }
    let (one, other) = (key(json!("")).unwrap(), key(Value::Null).unwrap());
    assert_eq!((one.kind, other.kind), (KeyKind::Generated, KeyKind::Generated));
    assert_ne!(one, other);
}

#[test]
fn all_faults_are_told_at_once_and_only_those_of_the_action() {
    let body = json!({ "event_action": "close", "dedup_key": [], "payload": { "summary": 5, "severity": "low" } });
    let faults = judged(&V2, &body).unwrap_err();
    let members: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    assert_eq!(members, ["event_action", "dedup_key", "payload.summary", "payload.source", "payload.severity"]);
    for (api, action, key) in [(&V2, "event_action", "dedup_key"), (&V1, "event_type", "incident_key")] {
        for word in ["acknowledge", "Resolve"] {
            let mut body = json!({ action: word, key: "k", "payload": [], "description": 7, "details": 5 });
            assert_eq!(judged(api, &body).unwrap().key.as_ref().map(Key::canon), Some("k"), "{body}");
            body[key] = " ".into();
            assert_eq!(judged(api, &body).unwrap_err(), [format!("{key}: is missing or blank")]);
        }
        assert_eq!(judged(api, &json!({})).unwrap_err()[0], format!("{action}: is missing or blank"));
    }
    assert_eq!(judged(&CHANGE, &json!({ "payload": { "summary": "s" } })).unwrap(), Judged::of(Action::Change));
    assert_eq!(judged(&CHANGE, &json!({ "payload": {} })).unwrap_err(), ["payload.summary: is missing or blank"]);
}

#[test]
fn severities_have_four_words_in_any_case() {
    for (word, level) in [("critical", 5), ("ERROR", 4), ("Warning", 3), ("info", 1)] {
        let judged = judged(&V2, &with("payload.severity", json!(word))).unwrap();
        assert_eq!(judged.severity.map(|severity| severity.level()), Some(level), "{word}");
    }
    for odd in [json!("low"), json!(5), json!("")] {
        let faults = judged(&V2, &with("payload.severity", odd)).unwrap_err();
        assert!(faults[0].starts_with("payload.severity: is invalid (must be one of"), "{faults:?}");
    }
}

#[test]
fn every_member_finds_its_home_and_what_has_none_is_kept_as_it_was_written() {
    let (content, extra) = read(
        &V2,
        Action::Trigger,
        r#"{"routing_key":"***","event_action":"trigger","dedup_key":"k","client":"Mon","client_url":"https://mon/1",
            "links":[{"href":"https://a","text":"t"},{"text":"no href"}],"images":[{"src":"https://i","alt":"x"},{}],"more":1.50,
            "payload":{"summary":"s","source":"h","severity":"error","timestamp":"2026-03-01 10:02:11+0000","component":"c","group":"g",
            "class":5,"own":[1.0],"custom_details":{"description":"d","tags":{"team":"db","n":1.50,"on":true,"no":null},"load":0.750}}}"#,
    );
    assert_eq!(
        content,
        json!({
            "title": "s", "description": "d", "severity": 4, "severity_raw": "error", "status_raw": "trigger",
            "source": "h", "component": "c", "group": "g", "started_at": "2026-03-01T10:02:11.000000Z",
            "tags": {
                "team": { "value": "db", "type": "string" },
                "n": { "value": "1.50", "type": "number" },
                "on": { "value": "true", "type": "bool" },
            },
            "links": [
                { "href": "https://mon/1", "text": "Mon", "rel": "client" },
                { "href": "https://a", "text": "t" },
            ],
            "images": [{ "src": "https://i", "alt": "x" }],
            "warnings": [
                { "code": "member_ignored", "path": "payload.class" },
                { "code": "link_dropped", "path": "links" },
                { "code": "image_dropped", "path": "images" },
            ],
        })
    );
    let kept =
        json!({ "payload": r#"{"class":5,"own":[1.0]}"#, "custom_details": r#"{"load":0.750}"#, "more": "1.50" });
    assert_eq!(extra, kept);
}

#[test]
fn details_may_be_anything_and_what_are_no_tags_stay_in_them() {
    for (details, tags) in [
        (r#"["a",1]"#, json!(null)),
        (r#""text""#, json!(null)),
        (r#"{"tags":["a",1]}"#, json!(null)),
        (r#"{"tags":5,"description":7}"#, json!(null)),
    ] {
        let raw = with("payload.custom_details", json!("HERE")).to_string().replace("\"HERE\"", details);
        let (content, extra) = read(&V2, Action::Trigger, &raw);
        assert_eq!((&content["tags"], &extra["custom_details"]), (&tags, &json!(details)), "{details}");
        assert_eq!(content.get("warnings"), None, "nothing of it was changed");
    }
    let (content, extra) =
        read(&V2, Action::Trigger, &with("payload.custom_details", json!({ "tags": ["a", "b:c"] })).to_string());
    assert_eq!(content["tags"]["b:c"], json!({ "bare": true }));
    assert_eq!(extra, json!({}));
    let odd = json!({ "tags": { "a": "q", "list": [1, 1.50], "more": { "value": "v" }, "none": null } });
    let (content, extra) = read(&V2, Action::Trigger, &with("payload.custom_details", odd).to_string());
    assert_eq!(content["tags"]["a"], json!({ "value": "q", "type": "string" }), "one that is odd costs no other");
    assert_eq!(content["tags"]["more"], json!({ "value": r#"{"value":"v"}"#, "type": "json" }));
    assert_eq!((content["tags"].as_object().unwrap().len(), extra), (3, json!({})));
    let many: Vec<_> = (0..65).map(|number| number.to_string()).collect();
    let (content, extra) =
        read(&V2, Action::Trigger, &with("payload.custom_details", json!({ "tags": many })).to_string());
    assert_eq!((content.get("tags"), extra["custom_details"].is_string()), (None, true), "more than the model holds");
}

#[test]
fn a_resolve_says_nothing_of_its_incident_and_loses_nothing() {
    let mut body = with("event_action", json!("resolve"));
    body["client"] = "Mon".into();
    let (content, extra) = read(&V2, Action::Resolve, &body.to_string());
    assert_eq!(content, json!({ "status_raw": "resolve" }));
    assert_eq!(extra, json!({ "payload": body["payload"].to_string(), "client": "\"Mon\"" }));
}

#[test]
fn v1s_details_stay_whole_and_go_back_as_custom_details() {
    use crate::event::State;
    use crate::sink::{self, Kind, Said, samples};

    let details = r#"{"description":"d","tags":{"team":"db"},"load":1.50}"#;
    let raw = format!(r#"{{"service_key":"***","event_type":"trigger","description":"t","details":{details}}}"#);
    let (content, extra) = read(&V1, Action::Trigger, &raw);
    assert_eq!((content.get("description"), content.get("tags")), (None, None));
    assert_eq!(extra, json!({ "details": details }));
    let event = Event {
        dialect: "pagerduty_v1".into(),
        family: "pagerduty".into(),
        endpoint: "generic/create_event".into(),
        ..samples::event(Action::Trigger, Some("k"), &raw)
    };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let said = dialect::reread(&stored.event).map(|reread| Said { content: reread.content, extra: reread.extra });
    let upstream = samples::upstream("pd", Kind::PagerDuty);
    let sink = sink::of(Kind::PagerDuty).unwrap();
    let sent = sink.encode(&samples::ask(&stored, &said.unwrap(), &upstream)).unwrap().call.body;
    let sent = String::from_utf8(sent.to_vec()).unwrap();
    assert!(sent.contains(&format!(r#""custom_details":{details}"#)), "{sent}");
}

#[test]
fn v1_has_a_title_details_and_contexts_and_alertmanagers_empty_members_are_nothing() {
    let (content, extra) = read(
        &V1,
        Action::Trigger,
        r#"{"service_key":"***","event_type":"trigger","description":"FAILURE","client":"Mon","details":{"ping":"1500ms"},
            "event_action":"","payload":null,"contexts":[{"type":"link","href":"https://l"},{"type":"image","src":"https://i"},{"type":"x"}]}"#,
    );
    assert_eq!(
        content,
        json!({
            "title": "FAILURE", "status_raw": "trigger",
            "links": [{ "href": "https://l" }], "images": [{ "src": "https://i" }],
            "warnings": [{ "code": "link_dropped", "path": "contexts" }],
        })
    );
    assert_eq!(extra, json!({ "details": r#"{"ping":"1500ms"}"#, "client": "\"Mon\"" }));
}

#[test]
fn a_long_summary_is_cut_and_a_time_that_is_none_is_dropped_both_with_a_warning() {
    let mut body = with("payload.summary", json!("ü".repeat(1025)));
    body["payload"]["timestamp"] = "yesterday".into();
    let (content, extra) = read(&V2, Action::Trigger, &body.to_string());
    assert_eq!(content["title"], format!("{}\u{2026}", "ü".repeat(1023)));
    let codes: Vec<_> = content["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["truncated", "time_ignored"]);
    assert_eq!(extra["payload"], r#"{"timestamp":"yesterday"}"#);
}

fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec!["", " ", "trigger", "resolve", "critical", "k", "2026-03-01T10:00:00Z", "link"])
            .prop_map(Value::from),
    ];
    let names = [
        "event_action",
        "event_type",
        "dedup_key",
        "incident_key",
        "payload",
        "summary",
        "source",
        "severity",
        "description",
        "details",
        "custom_details",
        "tags",
        "links",
        "images",
        "contexts",
        "href",
        "src",
        "type",
        "client",
        "client_url",
        "x",
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        let member = (prop::sample::select(names.to_vec()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::from),
            prop::collection::vec(member, 0..8)
                .prop_map(|all| Value::Object(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    /// What is accepted once is read again, whole, and says the same of what was decided by.
    #[test]
    fn what_was_accepted_is_read_again(body in some_json()) {
        for api in [&V2, &V1, &CHANGE] {
            let Some(judged) = body.is_object().then(|| judged(api, &body)).and_then(Result::ok) else { continue };
            let (content, _) = read(api, judged.action, &body.to_string());
            prop_assert_eq!(content.get("severity").cloned(), judged.severity.map(|severity| json!(severity)));
            prop_assert_eq!(content.get("title").is_some(), matches!(judged.action, Action::Trigger | Action::Change));
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Zäß\"\\\\ /.:]{1,12}[a-z]"
}

/// A trigger with everything that v2 has a member for.
fn whole() -> impl Strategy<Value = Value> {
    let words = prop::collection::vec(word(), 8);
    let tags = prop::collection::btree_map(
        "[a-z]{1,6}",
        prop_oneof![word().prop_map(Value::from), any::<i32>().prop_map(Value::from)],
        0..4,
    );
    let details = prop::collection::btree_map("[f-k]{2,6}", some_json(), 0..3);
    (words, tags, details, prop::sample::select(vec!["critical", "error", "warning", "info"]), 0..4_000_000_000_i64).prop_map(
        |(words, tags, details, severity, seconds)| {
            let mut custom: serde_json::Map<_, _> = details.into_iter().collect();
            custom.insert("description".into(), words[5].clone().into());
            if !tags.is_empty() {
                custom.insert("tags".into(), tags.into_iter().collect());
            }
            json!({
                "routing_key": "****", "event_action": "trigger", "dedup_key": "k",
                "payload": {
                    "summary": words[0], "source": words[1], "severity": severity, "component": words[2], "group": words[3],
                    "class": words[4], "timestamp": crate::event::Micros(seconds * 1_000_000).to_string(), "custom_details": custom,
                },
                "links": [{ "href": words[6], "text": words[7] }, { "href": words[0] }],
                "images": [{ "src": words[1], "alt": words[2] }],
                "client": words[3], "client_url": words[4],
            })
        },
    )
}

proptest! {
    /// Encoded anew for the vendor and read again: the same.
    #[test]
    fn what_is_encoded_for_the_vendor_reads_as_before(body in whole()) {
        use crate::event::State;
        use crate::sink::{Ask, Kind, Mode, Said, SINKS, UpstreamConfig, samples};

        let raw = body.to_string();
        let judged = judged(&V2, &body).unwrap();
        let event = Event {
            dialect: "pagerduty_v2".into(),
            family: "pagerduty".into(),
            endpoint: "v2/enqueue".into(),
            raw: raw.clone().into(),
            severity: judged.severity,
            ..crate::event::tests::event("k")
        };
        let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
        let reread = dialect::reread(&stored.event).unwrap();
        let said = Said { content: reread.content, extra: reread.extra };
        let upstream = UpstreamConfig { mode: Mode::Normalized, ..samples::upstream("pd", Kind::PagerDuty) };
        let sink = SINKS.iter().find(|sink| sink.kind() == Kind::PagerDuty).unwrap();
        let encoded = sink.encode(&Ask { ..samples::ask(&stored, &said, &upstream) }).unwrap();
        let again = String::from_utf8(encoded.call.body.to_vec()).unwrap();
        prop_assert_eq!(self::judged(&V2, &serde_json::from_str(&again).unwrap()).unwrap(), judged);
        let (before, after) = (read(&V2, Action::Trigger, &raw), read(&V2, Action::Trigger, &again));
        prop_assert_eq!(&before.0, &after.0, "{}\n{}", raw, again);
        let details = |extra: &Value| extra["custom_details"].as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
        prop_assert_eq!(details(&before.1), details(&after.1), "{}\n{}", raw, again);
    }
}
