//! What a template of Datadog's says.

use super::*;
use crate::dialect::hooks::tests::plainly;

fn level(priority: &str, kind: &str, transition: &str) -> Option<u8> {
    let body = serde_json::json!({
        "title": "t", "alert_cycle_key": "k", "alert_priority": priority, "alert_type": kind, "alert_transition": transition,
    });
    plainly(&Datadog, &body.to_string()).unwrap().unwrap().level()
}

#[test]
fn a_priority_comes_before_a_type_and_a_warning_is_no_worse_than_one() {
    assert_eq!(level("P1", "info", "Triggered"), Some(5));
    assert_eq!(level("$ALERT_PRIORITY", "error", "Triggered"), Some(4));
    assert_eq!(level("", "warning", "Triggered"), Some(3));
    assert_eq!(level("", "info", "Triggered"), Some(1));
    assert_eq!(level("", "success", "Recovered"), None);
    assert_eq!(level("P1", "error", "Re-Warn"), Some(3));
    assert_eq!(level("P5", "error", "Warn"), Some(1));
}

#[test]
fn every_transition_is_read_in_any_case_and_others_are_refused() {
    for word in ["Triggered", "re-triggered", "WARN", "Re-Warn", "No Data", "Re-No Data", "Renotify"] {
        let body = format!(r#"{{"title":"t","alert_transition":"{word}"}}"#);
        assert_eq!(plainly(&Datadog, &body).unwrap().unwrap().judged.action, Action::Trigger, "{word}");
    }
    assert!(plainly(&Datadog, r#"{"title":"t","alert_transition":"Exploded"}"#).is_err());
    let without = |title: &str| plainly(&Datadog, &format!(r#"{{"title":"{title}","id":"1"}}"#)).unwrap().unwrap();
    assert_eq!(without("[Recovered] x").judged.ends, Some(Outcome::Unmatched), "nobody knows which");
    assert_eq!(without("[Triggered] x").content.title.as_deref(), Some("[Triggered] x"), "no transition beside it");
}

#[test]
fn the_key_is_the_cycle_then_the_aggregate_then_alert_and_scope() {
    let key = |body: &str| plainly(&Datadog, body).unwrap().unwrap().key().map(str::to_owned);
    assert_eq!(key(r#"{"title":"t","alert_cycle_key":1,"aggreg_key":"a"}"#).as_deref(), Some("1"));
    assert_eq!(key(r#"{"title":"t","alert_cycle_key":"null","aggreg_key":"a"}"#).as_deref(), Some("a"));
    assert_eq!(key(r#"{"title":"t","alert_id":"1","alert_scope":"host:x"}"#).as_deref(), Some("1:host:x"));
    assert_eq!(key(r#"{"title":"t","alert_id":"1"}"#), None);
    assert_eq!(key(r#"{"title":"t","alert_cycle_key":"$5 bill"}"#).as_deref(), Some("$5 bill"), "no variable");
    let kind = |body: &str| plainly(&Datadog, body).unwrap().unwrap().judged.key.unwrap().kind;
    assert_eq!(kind(r#"{"title":"t","alert_cycle_key":1}"#), KeyKind::Integer);
    assert_eq!(kind(r#"{"title":"t","alert_cycle_key":1.50}"#), KeyKind::String);
    assert_eq!(kind(r#"{"title":"t","alert_cycle_key":"1"}"#), KeyKind::String);
    for body in [
        r#"{"title":"t","alert_cycle_key":true}"#,
        r#"{"title":"t","alert_cycle_key":[1],"aggreg_key":"a"}"#,
        r#"{"title":"t","aggreg_key":{}}"#,
        r#"{"title":"t","alert_id":[1],"alert_scope":"s"}"#,
        r#"{"title":"t","alert_id":[1]}"#,
        r#"{"title":"t","alert_id":1,"alert_scope":false}"#,
    ] {
        assert!(
            plainly(&Datadog, body).err().is_some_and(|why| why.contains("must be a string or a number")),
            "{body}"
        );
    }
}

#[test]
fn a_form_is_read_as_the_same_members_would_be() {
    let heard = plainly(&Datadog, "title=a%20b&title=CPU+high&tags=env%3Aprod%2Ccanary&hostname=web&alert_id=7\n")
        .unwrap()
        .unwrap();
    assert_eq!(heard.content.title.as_deref(), Some("CPU high"), "of a repeated field the last");
    assert_eq!(
        (heard.tags(), heard.extra),
        (vec!["env=prod".to_owned(), "canary".to_owned()], vec!["alert_id".to_owned()])
    );
    assert!(plainly(&Datadog, "alert_id=7").is_err(), "nothing to make a title from");
    let many: String = (0..300).map(|n| format!("f{n}=x&")).collect();
    assert!(plainly(&Datadog, &many).err().unwrap().contains("256 fields"));
}
