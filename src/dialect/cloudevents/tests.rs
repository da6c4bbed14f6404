//! What CloudEvents say, in each mode.

use super::*;
use crate::dialect::Rules;
use crate::dialect::hooks::tests::{hear, plainly};
use crate::gate::Settings;

fn event(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"com.example.alert"{more}}}"#)
}

#[test]
fn an_action_is_said_by_the_extension_then_the_data_then_the_type() {
    let action = |body: &str| plainly(&CloudEvents, body).unwrap().unwrap().judged.action;
    assert_eq!(
        action(&event(r#","alertaction":"resolve","dedupkey":"k","data":{"status":"firing"}"#)),
        Action::Resolve
    );
    assert_eq!(action(&event(r#","subject":"x","data":{"status":"odd","state":"closed"}"#)), Action::Resolve);
    assert_eq!(action(&event(r#","data":{"status":"odd"}"#)), Action::Trigger);
    let by_type = |kind: &str| action(&event(r#","subject":"x""#).replace("com.example.alert", kind));
    assert_eq!(by_type("a.Resolved"), Action::Resolve);
    assert_eq!(by_type("a.acknowledged"), Action::Acknowledge);
    assert_eq!(by_type("resolved"), Action::Trigger, "a type of one word ends in nothing");
}

#[test]
fn the_key_is_named_or_made_of_source_and_subject() {
    let key = |more: &str| plainly(&CloudEvents, &event(more)).unwrap().unwrap().key().map(str::to_owned);
    assert_eq!(key(r#","subject":"a","data":{"id":7,"fingerprint":" "}"#).as_deref(), Some("7"));
    assert_eq!(key(r#","subject":"a","data":{"id":7,"dedup_key":"d"}"#).as_deref(), Some("d"));
    assert_eq!(key(r#","subject":"a""#).as_deref(), Some("/s#a"));
    assert_eq!(key(""), None);
    assert!(plainly(&CloudEvents, &event(r#","data":{"id":[]}"#)).is_err());
    let ends = plainly(&CloudEvents, &event(r#","alertaction":"resolve""#)).unwrap().unwrap().judged.ends;
    assert_eq!(ends, Some(Outcome::Unmatched));
}

#[test]
fn attributes_of_the_head_are_decoded_once_and_kept_beside_data_of_any_type() {
    let headers = |kind: &'static str| {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-subject", "a%252Fb"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers
    };
    let heard = |kind: &'static str, body: &[u8]| hear(&CloudEvents, &Settings::default(), body, Some(&headers(kind)));
    let json = heard("application/json", br#"{"title":"x","n":1.50}"#).unwrap().unwrap();
    assert_eq!((json.key(), json.content.title.as_deref()), (Some("/s#a%2Fb"), Some("x")));
    assert_eq!(json.extra, ["id", "data"]);
    let text = heard("text/plain", b"it burns").unwrap().unwrap();
    assert_eq!((text.content.description.as_deref(), text.content.title.as_deref()), (Some("it burns"), Some("t")));
    assert_eq!(heard("image/png", b"\x89PNG\xff").unwrap().unwrap().extra, ["id", "data_base64"]);
    assert!(heard("application/json", b"it burns").is_err());
    assert!(heard("application/json", b"").unwrap().is_some(), "no data at all");
    assert!(!attributes::are_in(&headers("application/cloudevents+json")), "the body has them");
}

#[test]
fn a_batch_with_one_fault_is_taken_not_at_all() {
    let most = Most { elements: 3, event_bytes: 1000 };
    let settings = Settings::default();
    let rules = Rules { require_description: true, judge_only: true, settings: Some(&settings) };
    let split = |body: &str| CloudEvents.split(&Asked::at("hooks/cloudevents", rules), &body.to_owned().into(), most);
    let (good, bad) = (event(""), event("").replace("\"1\"", "\"\""));
    assert_eq!(split(&format!("[{good} , {good}]")).unwrap().elements.len(), 2);
    assert!(split("[]").unwrap().elements.is_empty());
    match split(&format!("[{good},{bad},7]")) {
        Err(SplitError::Faults(faults)) => {
            assert_eq!(faults, ["[1].id: must be a string that is not empty", "[2].event: must be an object"]);
        }
        split => panic!("{split:?}"),
    }
    assert!(matches!(split(&good), Err(SplitError::Faults(_))));
    assert!(matches!(split("[1,2,3,4]"), Err(SplitError::TooMany)));
    for broken in ["[", "[1,]", "", "[1]x"] {
        assert!(matches!(split(broken), Err(SplitError::Json(_))), "{broken}");
    }
}

#[test]
fn source_and_id_name_an_event_and_no_other_pair_is_taken_for_them() {
    let replay = |source: &str, id: &str| {
        let body = event("").replace("\"/s\"", &format!("\"{source}\"")).replace("\"1\"", &format!("\"{id}\""));
        plainly(&CloudEvents, &body).unwrap().unwrap().judged.replay
    };
    assert_eq!(replay("/s", "1"), replay("/s", "1"));
    assert_ne!(replay("ab", "c"), replay("a", "bc"));
}

#[test]
fn data_in_base64_is_read_as_it_would_be_plainly() {
    use base64::Engine;

    let encoded = |data: &[u8]| base64::engine::general_purpose::STANDARD.encode(data);
    let heard = |kind: &str, data: &[u8]| {
        let kind = if kind.is_empty() { String::new() } else { format!(r#","datacontenttype":"{kind}""#) };
        let body = event(&format!(r#"{kind},"data":null,"data_base64":"{}""#, encoded(data)));
        plainly(&CloudEvents, &body).unwrap().unwrap()
    };
    let recovery = br#"{"status":"resolved","id":6,"title":"t","x":1.50}"#;
    for kind in ["", "application/json; charset=utf-8", "application/vnd.x+JSON"] {
        let heard = heard(kind, recovery);
        assert_eq!((heard.judged.action, heard.key()), (Action::Resolve, Some("6")), "{kind}");
        assert_eq!((heard.content.title.as_deref(), heard.extra), (Some("t"), vec!["id".into(), "data".into()]));
    }
    for (kind, text) in [("text/plain", "it burns"), ("", "it burns"), ("text/plain", r#"{"status":"resolved"}"#)] {
        let heard = heard(kind, text.as_bytes());
        assert_eq!(
            (heard.judged.action, heard.content.description.as_deref()),
            (Action::Trigger, Some(text)),
            "{kind}"
        );
        assert_eq!(heard.extra, ["id"]);
    }
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(heard("", deep.as_bytes()).content.description.as_deref(), Some(&*deep), "deeper than a body may be");
    assert_eq!(heard("", b"\x89PNG\xff").extra, ["id", "data_base64"]);
    assert_eq!(heard("", b"").content.description, None);
    let both = event(&format!(r#","data":{{"title":"t"}},"data_base64":"{}""#, encoded(recovery)));
    let both = plainly(&CloudEvents, &both).unwrap().unwrap();
    assert_eq!((both.judged.action, both.extra), (Action::Trigger, vec!["id".into(), "data_base64".into()]));
    let odd = plainly(&CloudEvents, &event(r#","data_base64":"no base64""#)).unwrap().unwrap();
    assert_eq!(odd.extra, ["id", "data_base64"]);
    // In a batch, too: what is wrong in one is wrong with all.
    let settings = Settings::default();
    let asked = Asked::at(
        "hooks/cloudevents",
        Rules { require_description: true, judge_only: true, settings: Some(&settings) },
    );
    let batch = format!("[{}]", event(&format!(r#","data_base64":"{}""#, encoded(br#"{"id":[1]}"#))));
    match CloudEvents.split(&asked, &batch.into(), Most { elements: 3, event_bytes: 1000 }) {
        Err(SplitError::Faults(faults)) => assert_eq!(faults, ["[0].data.id: must be a string or a number"]),
        split => panic!("{split:?}"),
    }
}

#[test]
fn an_attribute_in_the_head_is_decoded_once_and_its_white_space_kept() {
    let headers: HeaderMap = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-dedupkey", "  %20a%2520 %09 "),
    ]
    .into_iter()
    .map(|(name, value)| (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect();
    let heard = hear(&CloudEvents, &Settings::default(), b"", Some(&headers)).unwrap().unwrap();
    assert_eq!(heard.key(), Some(" a%20 \t"));
}

#[test]
fn a_subject_that_is_no_text_makes_no_key() {
    assert!(plainly(&CloudEvents, &event(r#","subject":true"#)).is_err());
    assert_eq!(plainly(&CloudEvents, &event(r#","subject":7"#)).unwrap().unwrap().key(), Some("/s#7"));
}
