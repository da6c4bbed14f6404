//! What the vendor gets: limits, whose body goes as it came, and that nothing is lost on the way to it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect;
use crate::event::{Event, Key, KeyKind, Severity, State};
use crate::sink::{Mode, Said, UpstreamConfig, samples};

fn upstream() -> UpstreamConfig {
    UpstreamConfig { credential: Some("vendor-key".into()), ..samples::upstream("up", Kind::Opsgenie) }
}

fn normalized() -> UpstreamConfig {
    UpstreamConfig { mode: Mode::Normalized, ..upstream() }
}

/// An event of the vendor's own dialect.
fn event(endpoint: &'static str, action: Action, raw: &str) -> Event {
    let severity = serde_json::from_str::<Value>(raw).ok();
    let severity = severity.and_then(|body| vendor::severity_of_priority(body["priority"].as_str()?));
    let event = samples::event(action, Some("db-7/disk"), raw);
    Event { dialect: DIALECT.into(), family: DIALECT.into(), endpoint: endpoint.into(), severity, ..event }
}

fn encoded(event: Event, upstream: &UpstreamConfig) -> Encoded {
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let reread = dialect::reread(&stored.event).unwrap();
    let said = Said { content: reread.content, extra: reread.extra };
    Opsgenie.encode(&samples::ask(&stored, &said, upstream)).unwrap()
}

fn body(encoded: &Encoded) -> Value {
    serde_json::from_slice(&encoded.call.body).unwrap()
}

fn create(raw: &Value, upstream: &UpstreamConfig) -> Encoded {
    encoded(event("create", Action::Trigger, &raw.to_string()), upstream)
}

#[test]
fn a_body_goes_as_it_came_up_to_the_vendors_limits_and_not_beyond() {
    let raw = |message: usize, tags: usize, tag: usize, details: usize| {
        let tags: Vec<String> = (0..tags).map(|n| format!("{n:0tag$}")).collect();
        json!({
            "message": "ü".repeat(message), "alias": "db-7/disk", "tags": tags, "details": {"a": "b".repeat(details - 1)},
        })
    };
    let is_verbatim = |raw: Value| {
        let encoded = create(&raw, &upstream());
        (encoded.call.body == raw.to_string(), encoded.cut)
    };
    assert_eq!(is_verbatim(raw(130, 20, 50, 8_000)), (true, vec![]));
    assert_eq!(is_verbatim(raw(131, 20, 50, 8_000)), (false, vec!["message"]));
    assert_eq!(is_verbatim(raw(130, 21, 50, 8_000)), (false, vec!["tags"]));
    assert_eq!(is_verbatim(raw(130, 20, 51, 8_000)), (false, vec!["tags"]));
    assert_eq!(is_verbatim(raw(130, 20, 50, 8_001)), (false, vec!["details"]));
    let cut = body(&create(&raw(131, 21, 51, 8_001), &upstream()));
    let message = cut["message"].as_str().unwrap();
    assert_eq!((message.chars().count(), message.ends_with('…')), (130, true));
    let tags = cut["tags"].as_array().unwrap();
    assert_eq!((tags.len(), tags[0].as_str().unwrap().chars().count()), (20, 50));
    assert_eq!(cut["details"], json!({"truncated": "true"}));
}

/// The vendor's limit is of characters; the model's 64 tags are none of its business.
#[test]
fn details_beyond_the_models_tags_are_kept_where_a_body_is_encoded_anew() {
    let details: serde_json::Map<String, Value> = (0..70).map(|n| (format!("d{n}"), json!("x"))).collect();
    let raw = json!({"message": "m".repeat(131), "alias": "db-7/disk", "tags": ["a", "b"], "details": details});
    let anew = create(&raw, &upstream());
    assert_eq!((anew.cut.as_slice(), &body(&anew)["details"]), (&["message"][..], &raw["details"]));
    let odd = json!({"message": "m", "alias": "db-7/disk", "details": {"n": 1, "t": true, "nothing": null}});
    assert_eq!(body(&create(&odd, &upstream()))["details"], json!({"n": "1", "t": "true"}));
    let written = r#"{"message":"m","alias":"db-7/disk","details":{"n":1.50}}"#;
    let sent = body(&encoded(event("create", Action::Trigger, written), &upstream()));
    assert_eq!(sent["details"], json!({"n": "1.50"}));
}

#[test]
fn details_are_dropped_from_the_end_and_what_says_so_fits_too() {
    let members: serde_json::Map<String, Value> = (0..10).map(|n| (format!("d{n}"), json!("x".repeat(998)))).collect();
    let cut = body(&create(&json!({"message": "m", "alias": "db-7/disk", "details": members}), &upstream()));
    let details = cut["details"].as_object().unwrap();
    assert_eq!(details.keys().collect::<Vec<_>>(), ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "truncated"]);
    let chars: usize = details.iter().map(|(name, value)| name.len() + value.as_str().unwrap().len()).sum();
    assert!(chars <= 8_000, "{chars}");
}

#[test]
fn a_made_alias_is_put_before_all_that_the_sender_wrote() {
    let made = "0f3a8a0e-4f7a-4d0b-8d15-2f3f0c0c9a11";
    let raw = r#" { "message" : "m", "n": 1.50 }"#;
    let event = Event { key: Key::parse(made, KeyKind::Generated), ..event("create", Action::Trigger, raw) };
    let sent = encoded(event.clone(), &upstream()).call.body;
    assert_eq!(sent, format!(r#"{{"alias":"{made}", "message" : "m", "n": 1.50 }}"#));
    let sent: Value = body(&encoded(event, &normalized()));
    assert_eq!(sent, json!({"message": "m", "alias": made, "n": 1.5}));
}

#[test]
fn who_is_called_is_the_senders_choice_first() {
    let responder = crate::sink::Responder { kind: "team", by: "name", named: "storage".into() };
    let mut upstream = upstream();
    upstream.vendor.responders = vec![responder];
    let own = json!([{"type": "user", "username": "u"}]);
    let said = json!({"message": "m", "alias": "db-7/disk", "responders": own});
    assert_eq!(create(&said, &upstream).call.body, said.to_string());
    let nobody = create(&json!({"message": "m", "alias": "db-7/disk"}), &upstream);
    assert_eq!(body(&nobody)["responders"], json!([{"type": "team", "name": "storage"}]));
}

#[test]
fn each_operation_has_its_path_and_method_and_its_own_body() {
    for (endpoint, action, method, raw) in [
        ("close", Action::Resolve, "POST", r#"{"note":"n","user":"u"}"#),
        ("acknowledge", Action::Acknowledge, "POST", ""),
        ("unacknowledge", Action::Unacknowledge, "POST", "{}"),
        ("notes", Action::Update, "POST", r#"{"note":"n"}"#),
        ("message", Action::Update, "PUT", r#"{"message":"m"}"#),
        ("description", Action::Update, "PUT", r#"{"description":""}"#),
        ("priority", Action::Update, "PUT", r#"{"priority":"P1"}"#),
        ("tags", Action::Admin, "POST", r#"{"tags":["a"]}"#),
        ("details", Action::Admin, "POST", r#"{"details":{"a":"b"}}"#),
        ("snooze", Action::Admin, "POST", r#"{"endTime":"2026-11-21T10:00:00Z"}"#),
        ("assign", Action::Admin, "POST", r#"{"owner":{"username":"u"}}"#),
    ] {
        let expected = format!("/v2/alerts/db-7%2Fdisk/{endpoint}?identifierType=alias");
        let wanted: Value = serde_json::from_str(if raw.is_empty() { "{}" } else { raw }).unwrap();
        for upstream in [upstream(), normalized()] {
            let encoded = encoded(event(endpoint, action, raw), &upstream);
            assert_eq!(encoded.call.path.as_deref(), Some(&*expected));
            assert_eq!(encoded.call.method.as_str(), method, "{endpoint}");
            assert_eq!(encoded.call.headers["authorization"], "GenieKey vendor-key");
            assert_eq!(body(&encoded), wanted, "{endpoint} {:?}", upstream.mode);
            assert_eq!(encoded.once, endpoint == "notes", "{endpoint}");
        }
    }
    let deleted = encoded(event("delete", Action::Resolve, ""), &upstream());
    assert_eq!((deleted.call.method, deleted.call.body.len()), (Method::DELETE, 0));
    assert_eq!(deleted.call.path.as_deref(), Some("/v2/alerts/db-7%2Fdisk?identifierType=alias"));
}

#[test]
fn a_raise_is_a_create_and_a_priority() {
    let event = Event { severity: Severity::new(5), ..samples::event(Action::Trigger, Some("k"), "{}") };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let stored = crate::store::Stored { outcome: Outcome::Escalated, ..stored };
    let said = samples::said();
    let encoded = Opsgenie.encode(&samples::ask(&stored, &said, &upstream())).unwrap();
    assert_eq!(encoded.call.path.as_deref(), Some("/v2/alerts"));
    let [raise] = encoded.then.as_slice() else { panic!("{encoded:?}") };
    assert_eq!((raise.method.as_str(), &*raise.body), ("PUT", &br#"{"priority":"P1"}"#[..]));
    assert_eq!(raise.path.as_deref(), Some("/v2/alerts/payments%3Asquadcast%3Ak/priority?identifierType=alias"));
}

fn some_create() -> impl Strategy<Value = Value> {
    let text = |chars: usize| prop::string::string_regex(&format!("[a-zü\"\\\\\n ]{{0,{chars}}}")).unwrap();
    let name = "[a-z]{1,50}";
    let details = prop::collection::btree_map("[A-Z][a-z]{0,20}", "[a-zü0-9\"]{0,40}", 0..6);
    let texts = (text(130), text(300), text(100), text(100), text(200));
    let lists = (prop::collection::btree_set(name, 0..20), prop::collection::vec("[a-z]{1,50}", 0..10));
    let rest = (prop::option::of(1_u8..=5), any::<bool>(), prop::option::of("[a-z ]{1,100}"));
    (texts, lists, details, rest).prop_map(|(texts, (tags, actions), details, (level, calls, user))| {
        let mut all = json!({
            "message": format!("m{}", texts.0.chars().skip(1).collect::<String>()), "alias": "db-7/disk",
            "description": texts.1, "entity": texts.2, "source": texts.3, "note": texts.4, "tags": tags,
            "actions": actions, "details": details, "odd": {"n": 1},
        });
        all["priority"] = level.map(|level| format!("P{level}")).into();
        all["user"] = user.into();
        if calls {
            all["responders"] = json!([{"type": "team", "name": "a"}, {"type": "user", "username": "b"}]);
            all["visibleTo"] = json!([{"type": "team", "name": "a"}]);
        }
        all
    })
}

/// What a body says, as the model has it.
fn said(raw: &[u8]) -> Value {
    let event = event("create", Action::Trigger, std::str::from_utf8(raw).unwrap());
    let reread = dialect::reread(&event).unwrap();
    let extra: std::collections::BTreeMap<String, Value> = reread
        .extra
        .iter()
        .map(|(name, value)| (name.to_string(), serde_json::from_str(value.get()).unwrap()))
        .collect();
    json!({"content": reread.content, "extra": extra})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(2_000)))]

    /// Within the vendor's limits nothing is lost: what is encoded anew says what the sender said.
    #[test]
    fn what_is_encoded_is_read_as_it_was(raw in some_create()) {
        let anew = create(&raw, &normalized());
        prop_assert_eq!(&anew.cut, &Vec::<&str>::new(), "{}", raw);
        prop_assert_eq!(said(&anew.call.body), said(raw.to_string().as_bytes()));
        let as_it_came = create(&raw, &upstream());
        prop_assert_eq!(as_it_came.call.body, raw.to_string());
    }
}
