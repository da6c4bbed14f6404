//! What Zabbix says.

use super::*;
use crate::dialect::hooks::tests::{hear, plainly};
use crate::gate::Settings;

#[test]
fn zabbix_has_a_scale_of_its_own() {
    let levels = ["Disaster", "high", "Average", "Warning", "Information", "Not classified", "5", "2", "1", "0", "p1"];
    let levels = levels.map(|word| {
        let body = format!(r#"{{"status":"PROBLEM","event_id":"1","subject":"s","severity":"{word}"}}"#);
        plainly(&Zabbix, &body).unwrap().unwrap().level()
    });
    assert_eq!(levels, [Some(5), Some(4), Some(3), Some(2), Some(1), None, Some(5), Some(2), Some(1), None, None]);
}

#[test]
fn the_key_is_the_problems_id_unless_the_triggers_is_wanted() {
    let by_trigger = Settings { zabbix_key: ZabbixKey::TriggerId, ..Settings::default() };
    let both = br#"{"status":"OK","event_id":"1","id":16021}"#;
    assert_eq!(hear(&Zabbix, &Settings::default(), both, None).unwrap().unwrap().key(), Some("1"));
    assert_eq!(hear(&Zabbix, &by_trigger, both, None).unwrap().unwrap().key(), Some("16021"));
    assert_eq!(plainly(&Zabbix, r#"{"value":"1","id":"7"}"#).unwrap().unwrap().key(), Some("7"));
    assert!(plainly(&Zabbix, r#"{"value":"1","event_id":[1]}"#).is_err());
}

#[test]
fn lines_are_split_at_the_first_colon_and_go_on_until_the_next_name() {
    let heard =
        plainly(&Zabbix, "status:PROBLEM\r\nevent_id: 9\r\nname:disk: full\nsecond line\nurl:http://z/x?a=1:2\n");
    let heard = heard.unwrap().unwrap();
    assert_eq!((heard.key(), heard.content.title.as_deref()), (Some("9"), Some("disk: full\nsecond line")));
    assert_eq!(heard.content.links[0].href, "http://z/x?a=1:2");
    assert!(plainly(&Zabbix, "no colon at all").is_err());
    // As Zabbix' own default message begins.
    let lines = "Problem started at: 10:00:05 on 2026.03.01\nname:disk full\nHost: db-7\nOperational data: 97 %\nof 1 TB\n\
                 status:PROBLEM\nsee http://wiki/x\n:odd";
    let heard = plainly(&Zabbix, lines).unwrap().unwrap();
    assert_eq!((heard.content.title.as_deref(), heard.content.description.as_deref()), (Some("disk full"), None));
    assert_eq!(heard.judged.action, Action::Trigger);
    assert_eq!(heard.extra, ["Problem started at", "Host", "Operational data", "see http"]);
    assert!(plainly(&Zabbix, "name:x").err().unwrap().starts_with("status: "));
}

#[test]
fn a_recovery_that_names_no_problem_goes_nowhere() {
    let ends = |body: &str| plainly(&Zabbix, body).unwrap().unwrap().judged.ends;
    for body in [
        r#"{"status":"OK","subject":"s"}"#,
        r#"{"value":"0"}"#,
        r#"{"status":"RESOLVED","event_id":" ","id":null}"#,
        r#"{"alert_uid":"","state":"ok"}"#,
        "status:OK\nname:x",
    ] {
        assert_eq!(ends(body), Some(Outcome::Unmatched), "{body}");
    }
    assert_eq!(ends(r#"{"status":"OK","id":"7"}"#), None);
    assert_eq!(ends(r#"{"status":"PROBLEM","subject":"s"}"#), None, "a trigger needs no key");
    assert_eq!(ends(r#"{"alert_uid":"","state":"alerting"}"#), None);
}

#[test]
fn what_is_neither_problem_nor_recovery_is_refused() {
    for body in [
        r#"{"subject":"x","event_id":"1"}"#,
        r#"{"status":"NEW"}"#,
        r#"{"value":"2"}"#,
        r#"{"alert_uid":"1","state":"?"}"#,
    ] {
        assert!(plainly(&Zabbix, body).is_err(), "{body}");
    }
}
