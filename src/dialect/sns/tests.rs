//! What SNS and CloudWatch say.

use super::*;
use crate::dialect::hooks::tests::{Heard, hear};
use crate::event::{Action, Severity};
use crate::gate::{AlarmLevel, Settings, SnsSettings};
use crate::outcome::Outcome;

fn alarm(state: &str, before: &str) -> String {
    let message = json!({
        "AlarmName": "cpu", "NewStateValue": state, "OldStateValue": before, "AWSAccountId": "1", "Region": "EU",
        "AlarmDescription": null, "NewStateReason": "why",
        "Trigger": { "Namespace": "AWS/EC2", "Threshold": 95.0, "Dimensions": [{ "name": "I", "value": "i-0" }] },
    });
    json!({ "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:t", "Message": message.to_string() })
        .to_string()
}

fn read(settings: &Settings, body: &str) -> Result<Option<Heard>, String> {
    hear(&Sns, settings, body.as_bytes(), Some(&HeaderMap::new()))
}

#[test]
fn an_alarm_is_read_out_of_the_text_that_it_comes_in() {
    let heard = read(&Settings::default(), &alarm("ALARM", "OK")).unwrap().unwrap();
    assert_eq!((heard.judged.action, heard.key(), heard.level()), (Action::Trigger, Some("1:EU:cpu"), None));
    assert_eq!(heard.judged.replay.as_deref(), Some("m-1"));
    assert_eq!((heard.content.description.as_deref(), heard.tags()), (Some("why"), vec!["I=i-0".to_owned()]));
    assert_eq!(heard.extra, ["OldStateValue", "AWSAccountId", "Region", "Trigger", "MessageId", "TopicArn"]);
    let first_report = read(&Settings::default(), &alarm("OK", "INSUFFICIENT_DATA")).unwrap().unwrap();
    assert!(first_report.judged.drops_unknown);
    assert!(!read(&Settings::default(), &alarm("OK", "ALARM")).unwrap().unwrap().judged.drops_unknown);
    assert!(read(&Settings::default(), &alarm("BAD", "OK")).is_err());
}

#[test]
fn levels_and_missing_data_are_as_they_are_configured() {
    let level = |topic: Option<&str>, alarm: Option<&str>, level| AlarmLevel {
        topic: topic.map(Into::into),
        alarm: alarm.map(Into::into),
        severity: Severity::new(level).unwrap(),
    };
    let sns = SnsSettings {
        insufficient_data_triggers: true,
        levels: vec![level(None, Some("disk-*"), 5), level(Some("arn:*"), None, 2)],
        ..SnsSettings::default()
    };
    let settings = Settings { sns, ..Settings::default() };
    assert_eq!(read(&settings, &alarm("ALARM", "OK")).unwrap().unwrap().level(), Some(2));
    let heard = read(&settings, &alarm("INSUFFICIENT_DATA", "OK")).unwrap().unwrap();
    assert_eq!((heard.judged.action, heard.level()), (Action::Trigger, Some(2)));
    assert!(read(&Settings::default(), &alarm("INSUFFICIENT_DATA", "OK")).unwrap().is_none());
}

#[test]
fn a_message_of_another_shape_is_guessed_and_text_is_a_title() {
    let body = |message: &str| json!({ "Type": "Notification", "Subject": "s", "Message": message }).to_string();
    let heard = read(&Settings::default(), &body(r#"{"status":"resolved","id":5,"x":1.50}"#)).unwrap().unwrap();
    assert_eq!((heard.judged.action, heard.key()), (Action::Resolve, Some("5")));
    assert_eq!(heard.extra, ["x"]);
    let heard = read(&Settings::default(), &body("{ no json\nat all")).unwrap().unwrap();
    assert_eq!((heard.content.title.as_deref(), heard.key()), (Some("s"), None));
    assert_eq!(heard.content.description.as_deref(), Some("{ no json\nat all"));
    // A mapping is found again beside the stored event.
    let fields = crate::gate::Fields { title: vec!["/a/b".into()], ..Default::default() };
    let settings = Settings { generic: Some(crate::gate::Mapping::new(fields)), ..Settings::default() };
    let heard = read(&settings, &body(r#"{"a":{"b":"deep"},"title":"no"}"#)).unwrap().unwrap();
    assert_eq!(heard.content.title.as_deref(), Some("deep"));
}

#[test]
fn a_raw_delivery_is_the_message_itself_and_its_head_says_the_rest() {
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let pairs = pairs.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), hyper::header::HeaderValue::from_static(value))
        });
        pairs.collect::<HeaderMap>()
    };
    let raw = headers(&[(RAW, "true"), (MESSAGE_ID, "m-2"), (TOPIC, "arn:t")]);
    let heard = hear(&Sns, &Settings::default(), b"backup failed\nsee log", Some(&raw)).unwrap().unwrap();
    assert_eq!((heard.content.title.as_deref(), heard.judged.replay.as_deref()), (Some("backup failed"), Some("m-2")));
    let message = br#"{"AlarmName":"cpu","NewStateValue":"ALARM","AlarmArn":"arn:a"}"#;
    assert_eq!(hear(&Sns, &Settings::default(), message, Some(&raw)).unwrap().unwrap().key(), Some("arn:a"));
    let typed = headers(&[(TYPE, "Notification")]);
    assert!(hear(&Sns, &Settings::default(), br#"{"Message":"x"}"#, Some(&typed)).unwrap().is_some());
    assert!(hear(&Sns, &Settings::default(), b"hello", Some(&typed)).is_err());
    let confirms = headers(&[(TYPE, "SubscriptionConfirmation")]);
    assert!(hear(&Sns, &Settings::default(), br#"{"Message":"x"}"#, Some(&confirms)).unwrap().is_none());
}

#[test]
fn a_body_with_its_envelope_is_no_raw_delivery_whatever_the_head_says() {
    let raw: HeaderMap =
        [(hyper::header::HeaderName::from_static(RAW), hyper::header::HeaderValue::from_static("true"))]
            .into_iter()
            .collect();
    let heard = |body: &[u8]| hear(&Sns, &Settings::default(), body, Some(&raw)).unwrap();
    let resolved = heard(alarm("OK", "ALARM").as_bytes()).unwrap();
    assert_eq!((resolved.judged.action, resolved.key()), (Action::Resolve, Some("1:EU:cpu")));
    assert_eq!(resolved.judged.replay.as_deref(), Some("m-1"), "its own id");
    assert!(heard(b"\xEF\xBB\xBF {\"Type\":\"SubscriptionConfirmation\",\"Message\":\"x\"}").is_none());
    let message = heard(br#"{"Type":"disk","title":"t"}"#).unwrap();
    assert_eq!(message.content.title.as_deref(), Some("t"), "another Type is the message's own");
}

#[test]
fn a_title_that_is_cut_or_made_of_nothing_is_told() {
    let warnings = |body: serde_json::Value| {
        let content = read(&Settings::default(), &body.to_string()).unwrap().unwrap().content;
        let told = content.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.path));
        (content.title.as_deref().map(|title| title.chars().count()), told.collect::<Vec<_>>())
    };
    let long = json!({ "Type": "Notification", "Message": "m".repeat(1025) });
    assert_eq!(warnings(long), (Some(1024), vec!["truncated title".to_owned()]));
    let nothing = json!({ "Type": "Notification", "Message": " \n " });
    assert_eq!(warnings(nothing), (Some("sns alert".len()), vec!["title_made ".to_owned()]));
    let line = json!({ "Type": "Notification", "Message": "a\nb" });
    assert_eq!(warnings(line), (Some(1), vec![]), "the contract's title of a text");
}

#[test]
fn what_a_key_is_made_of_is_a_string_or_a_number() {
    let message = r#"{"AlarmName":"cpu","NewStateValue":"ALARM","AWSAccountId":true,"Region":"EU"}"#;
    let body = json!({ "Type": "Notification", "Message": message }).to_string();
    assert!(read(&Settings::default(), &body).is_err());
}

#[test]
fn a_resolve_that_nobody_can_match_is_told_apart() {
    let body = json!({ "Type": "Notification", "Message": r#"{"AlarmName":"cpu","NewStateValue":"OK"}"# }).to_string();
    assert_eq!(read(&Settings::default(), &body).unwrap().unwrap().judged.ends, Some(Outcome::Unmatched));
}
