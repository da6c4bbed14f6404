//! What the golden files of the arrows (`tests/arrows`) do not show: that the dialect reads back what is written here, and
//! how a body that is too large is cut.

use std::borrow::Cow;
use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect;
use crate::event::{Content, Event, Key, KeyKind, Link, State, Tag, TagType};
use crate::sink::{Said, UpstreamConfig, VendorConfig, samples};

fn upstream() -> UpstreamConfig {
    let vendor = VendorConfig { source_config_id: Some("S1".into()), ..VendorConfig::default() };
    UpstreamConfig { credential: Some("secret".into()), vendor, ..samples::upstream("alerts", Kind::IncidentIoAlert) }
}

fn event(raw: &str) -> Event {
    Event {
        dialect: DIALECT.into(),
        endpoint: vendor::ALERT_HTTP_ENDPOINT.into(),
        family: "incidentio_alert:S0".into(),
        key: Key::parse("k", KeyKind::String),
        severity: None,
        ..samples::event(Action::Trigger, None, raw)
    }
}

fn encoded(content: &Content<'_>, event: Event) -> Encoded {
    let said = Said { content: content.clone(), extra: Vec::new() };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    IncidentIoAlert.encode(&samples::ask(&stored, &said, &upstream())).unwrap()
}

fn some_content() -> impl Strategy<Value = Content<'static>> {
    let text =
        || "[ -~ä€]{1,12}".prop_filter("blank", |text| !text.trim().is_empty()).prop_map(Cow::<'static, str>::Owned);
    let tag = (text(), prop::sample::select(vec![TagType::String, TagType::Number, TagType::Bool, TagType::Json]))
        .prop_map(|(value, kind)| {
            let value = match kind {
                TagType::String => value,
                TagType::Number => "1.50".into(),
                TagType::Bool => "true".into(),
                TagType::Json => "[1.0,{}]".into(),
            };
            Tag { value, kind, color: None, bare: false }
        });
    let link = (text(), prop::option::of(text()), prop::option::of(Just(Rel::Runbook)))
        .prop_map(|(href, text, rel)| Link { href, text, rel });
    let texts =
        (prop::option::of(text()), prop::option::of(text()), prop::option::of(text()), prop::option::of(text()));
    let source = prop::option::of(text().prop_map(|href| Link { href, text: None, rel: Some(Rel::Source) }));
    (
        text(),
        texts,
        prop::option::of(1u8..=5),
        prop::collection::btree_map("[a-z]{4,9}", tag, 0..4),
        (source, prop::collection::vec(link, 0..3)),
        prop::option::of(0i64..4_000_000_000),
    )
        .prop_map(|(title, texts, level, tags, (source, links), at)| {
            let severity = level.and_then(Severity::new);
            Content {
                title: Some(title),
                status_raw: Some("firing".into()),
                description: texts.0,
                severity,
                severity_raw: severity.map(|severity| word(severity).into()),
                source: texts.1,
                component: texts.2,
                service: texts.3,
                tags: tags.into_iter().map(|(name, tag)| (name.into(), tag)).collect(),
                links: source.into_iter().chain(links).collect(),
                started_at: at.map(|seconds| Micros(seconds * 1_000_000)),
                ..Content::default()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(500)))]

    #[test]
    fn what_is_written_here_is_read_back_as_it_was(content in some_content()) {
        let made = encoded(&content, event("{}"));
        let again = event(std::str::from_utf8(&made.call.body).unwrap());
        let read = dialect::reread(&again).unwrap();
        prop_assert_eq!(&read.content, &content);
        prop_assert!(read.extra.is_empty());
    }
}

#[test]
fn too_large_a_body_loses_what_is_least_first() {
    let long = |name: &'static str, count: usize| {
        let tag = Tag { value: "x".repeat(count).into(), kind: TagType::String, color: None, bare: false };
        (Cow::Borrowed(name), tag)
    };
    let link = |href: &str| Link { href: href.to_owned().into(), text: None, rel: None };
    let names = |made: &Encoded| -> BTreeSet<String> {
        let body: Value = serde_json::from_slice(&made.call.body).unwrap();
        body["metadata"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    };
    let content = |bytes| Content {
        title: Some("t".into()),
        source: Some("s".into()),
        tags: vec![long("a", bytes)],
        links: vec![link(&"l".repeat(1000))],
        ..Content::default()
    };
    let fits = encoded(&content(1000), event("{}"));
    assert_eq!((names(&fits).len(), fits.cut.len()), (3, 0));
    let links = encoded(&content(BODY_BYTES_MAX - 500), event("{}"));
    assert_eq!((names(&links), links.cut), (["source", "tags"].map(str::to_owned).into(), vec!["extra", "links"]));
    let tags = encoded(&content(BODY_BYTES_MAX), event("{}"));
    assert_eq!(names(&tags), ["source".to_owned()].into());
    assert!(tags.call.body.len() <= BODY_BYTES_MAX);
}
