//! What the sink says, and that its own dialect reads the same from it.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect;
use crate::event::{Content, Event, Key, Severity, State, Tag, TagType};
use crate::sink::{Said, UpstreamConfig, samples};
use crate::store::Stored;

fn body(stored: &Stored, said: &Said<'_>, upstream: &UpstreamConfig) -> Value {
    let call = Alertmanager.encode(&samples::ask(stored, said, upstream)).unwrap().call;
    assert_eq!(call.path, None, "the URL is whole");
    serde_json::from_slice(&call.body).unwrap()
}

fn upstream() -> UpstreamConfig {
    samples::upstream("receiver", Kind::Alertmanager)
}

fn stored(action: Action, key: Option<&str>) -> Stored {
    samples::stored(1, samples::event(action, key, "{}"), Some(samples::incident(1, State::Open)))
}

#[test]
fn an_incident_of_another_dialect_is_an_alert_with_its_key_hashed() {
    let body = body(&stored(Action::Trigger, Some("disk\"7")), &samples::said(), &upstream());
    let key = r#"payments:squadcast:disk"7"#;
    assert_eq!(body["groupKey"], "{}:{key=\"payments:squadcast:disk\\\"7\"}");
    assert_eq!(
        (&body["version"], &body["receiver"], &body["status"]),
        (&json!("4"), &json!("receiver"), &json!("firing"))
    );
    let alert = &body["alerts"][0];
    assert_eq!(alert["fingerprint"], sha256_hex(&[key])[..16]);
    assert_eq!(
        alert["labels"],
        json!({"alertname": "disk full on db-7", "classification": "backend", "severity": "high", "team": "storage"})
    );
    assert_eq!(alert["annotations"], json!({"summary": "disk full on db-7", "description": "volume /data at 99 %"}));
    assert_eq!(alert["endsAt"], NEVER);
    assert_eq!(body["commonLabels"], alert["labels"]);
}

#[test]
fn a_resolve_ends_the_same_alert() {
    let trigger = body(&stored(Action::Trigger, Some("k")), &samples::said(), &upstream());
    let resolve = body(&stored(Action::Resolve, Some("k")), &Said::default(), &upstream());
    let alert = &resolve["alerts"][0];
    assert_eq!((&resolve["status"], &alert["status"]), (&json!("resolved"), &json!("resolved")));
    assert_eq!(alert["endsAt"], samples::AT.to_string());
    assert_eq!(alert["fingerprint"], trigger["alerts"][0]["fingerprint"]);
    assert_eq!(resolve["groupKey"], trigger["groupKey"]);
}

#[test]
fn names_of_labels_are_cleaned_and_the_first_of_two_counts() {
    let tag = |value: &'static str, bare| Tag { value: value.into(), kind: TagType::String, color: None, bare };
    let tags = vec![
        ("a.b".into(), tag("1", false)),
        ("a-b".into(), tag("2", false)),
        ("9é".into(), tag("3", false)),
        ("alertname".into(), tag("4", false)),
        ("".into(), tag("", true)),
    ];
    let content = Content { class: Some("Disk".into()), source: Some("db-7".into()), tags, ..Content::default() };
    let said = Said { content, extra: Vec::new() };
    let body = body(&stored(Action::Trigger, None), &said, &upstream());
    let labels =
        json!({"_": "true", "_9_": "3", "a_b": "1", "alertname": "Disk", "instance": "db-7", "severity": "high"});
    assert_eq!(body["alerts"][0]["labels"], labels);
}

const ALERT: &str = r#"{"status":"firing","labels":{"alertname":"X","odd name":"v"},"annotations":{"summary":"s","b":1.50},"fingerprint":"8f3a1c2d4e5b6a70","new":[1.0]}"#;
const ENVELOPE: &str = r#"{"receiver":"edge","status":"resolved","groupKey":"g","version":"4"}"#;

fn own(raw: &'static str, envelope: Option<&'static str>) -> Event {
    Event {
        dialect: "alertmanager".into(),
        endpoint: "hooks/alertmanager".into(),
        family: "alertmanager".into(),
        envelope: envelope.map(|text| text.into()),
        ..samples::event(Action::Trigger, Some("8f3a1c2d4e5b6a70"), raw)
    }
}

fn text(event: Event, upstream: &UpstreamConfig) -> String {
    let reread = dialect::reread(&event).unwrap();
    let said = Said {
        content: reread.content,
        extra: reread
            .extra
            .into_iter()
            .map(|(name, value)| (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned())))
            .collect(),
    };
    let stored = samples::stored(1, event.clone(), Some(samples::incident(1, State::Open)));
    let call = Alertmanager.encode(&samples::ask(&stored, &said, upstream)).unwrap().call;
    String::from_utf8(call.body.to_vec()).unwrap()
}

#[test]
fn an_alert_goes_on_as_it_came_in_a_body_of_its_own() {
    let sent = text(own(ALERT, Some(ENVELOPE)), &upstream());
    let wanted = format!(r#"{{"status":"firing","alerts":[{ALERT}],"receiver":"edge","groupKey":"g","version":"4"}}"#);
    assert_eq!(sent, wanted);
    let group = r#"{"status":"firing","groupKey":"g", "alerts":[{"labels":{}}],"commonAnnotations":{"summary":"s"}}"#;
    assert_eq!(text(own(group, None), &upstream()), group, "a group that is one event");
}

#[test]
fn what_its_reader_would_take_for_something_else_is_encoded_anew() {
    let is_anew = |event: Event, upstream: &UpstreamConfig| {
        let sent: Value = serde_json::from_str(&text(event, upstream)).unwrap();
        assert_eq!(sent["receiver"], "receiver", "{sent}");
        sent
    };
    let shared = UpstreamConfig { shared: true, ..upstream() };
    let sent = is_anew(own(ALERT, Some(ENVELOPE)), &shared);
    assert_ne!(sent["alerts"][0]["fingerprint"], "8f3a1c2d4e5b6a70");
    let sent = is_anew(own(ALERT, Some(ENVELOPE)), &UpstreamConfig { mode: Mode::Normalized, ..upstream() });
    assert_eq!(sent["alerts"][0]["fingerprint"], "8f3a1c2d4e5b6a70");
    assert_eq!(sent["alerts"][0]["annotations"]["b"], "1.5", "annotations are texts");
    let statusless = r#"{"labels":{"alertname":"X"},"annotations":{"summary":"s"},"fingerprint":"8f3a1c2d4e5b6a70"}"#;
    is_anew(own(statusless, Some(r#"{"status":"firing"}"#)), &upstream());
    is_anew(Event { tolerated: Tolerated::CONTENT_TYPE, ..own(ALERT, Some(ENVELOPE)) }, &upstream());
    is_anew(Event { dialect: "grafana".into(), ..own(ALERT, Some(ENVELOPE)) }, &upstream());
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äé\"\\\\{}]{0,12}x".prop_map(|text| text.trim().to_owned())
}

proptest! {
    /// Encode, then decode: the identity on what the dialect can say (issue 5).
    #[test]
    fn what_is_said_is_read_back(
        texts in (word(), word(), word(), word(), word(), word()),
        key in "[0-9a-f]{16}",
        level in 1_u8..=5,
        labels in prop::collection::btree_map("l_[a-z0-9_]{1,6}", word(), 0..6),
        resolves in any::<bool>(),
        times in (0_i64..4_000_000_000_000_000, 0_i64..4_000_000_000_000_000),
        hrefs in prop::option::of(("https://[a-z]{3}", "https://[a-z]{3}", "https://[a-z]{3}", "https://[a-z]{3}")),
    ) {
        let (title, description, class, source, component, service) = texts;
        let mut tags: std::collections::BTreeMap<String, String> = labels;
        for (name, text) in [("alertname", &class), ("instance", &source), ("job", &component), ("service", &service)] {
            tags.insert(name.to_owned(), text.clone());
        }
        let tag = |text: String| Tag { value: text.into(), kind: TagType::String, color: None, bare: false };
        let links = hrefs.into_iter().flat_map(|(a, b, c, d)| {
            [(a, Rel::Source), (b, Rel::Client), (c, Rel::Runbook), (d, Rel::Dashboard)]
        });
        let severity = Severity::new(level);
        let content = Content {
            title: Some(title.into()),
            description: Some(description.into()),
            severity,
            severity_raw: severity.map(|level| vendor::word_of(level).into()),
            status_raw: Some(if resolves { "resolved" } else { "firing" }.into()),
            tags: tags.into_iter().map(|(name, text)| (name.into(), tag(text))).collect(),
            source: Some(source.into()),
            component: Some(component.into()),
            class: Some(class.into()),
            service: Some(service.into()),
            links: links.map(|(href, rel)| Link { href: href.into(), text: None, rel: Some(rel) }).collect(),
            started_at: Some(Micros(times.0)),
            ended_at: resolves.then_some(Micros(times.1)),
            ..Content::default()
        };
        let action = if resolves { Action::Resolve } else { Action::Trigger };
        let event = Event { action, key: Key::parse(&key, KeyKind::String), severity, ..own("{}", None) };
        let said = Said { content, extra: Vec::new() };
        let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
        let normalized = UpstreamConfig { mode: Mode::Normalized, ..upstream() };
        let sent = Alertmanager.encode(&samples::ask(&stored, &said, &normalized)).unwrap().call.body;
        let (judged, read) = read_back(&sent);
        prop_assert_eq!((judged.action, judged.key, judged.severity), (action, Key::parse(&key, KeyKind::String), severity));
        prop_assert_eq!(read, said.content);
    }
}

/// The one alert of a body, as the dialect takes it in.
fn read_back(body: &bytes::Bytes) -> (dialect::Judged, Content<'static>) {
    let hook = dialect::by_name("alertmanager").unwrap();
    let asked = dialect::Asked::at("hooks/alertmanager", dialect::Rules::ACCEPTED);
    let most = dialect::Most { elements: 1, event_bytes: 30_720 };
    let split = hook.split(&asked, body, most).unwrap();
    let mut read = None;
    dialect::json::with_document(&split.envelope.unwrap(), |envelope| {
        dialect::json::with_document_in(split.levels, &split.elements[0], |document| {
            let asked = dialect::Asked { envelope: Some(envelope), ..asked };
            hook.decode(&asked, document, &mut |said| read = Some((said.judged, said.content.into_owned())))
        })
    })
    .unwrap()
    .unwrap()
    .unwrap();
    read.unwrap()
}
