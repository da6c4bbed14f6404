//! What Nagios, Icinga and Checkmk say.

use super::*;
use crate::dialect::checkmk::Checkmk;
use crate::dialect::hooks::tests::plainly;
use crate::dialect::icinga::Icinga;

fn host(state: &str, kind: &str) -> Result<Option<(Action, Option<u8>)>, String> {
    let kind = if kind.is_empty() { String::new() } else { format!(r#","notification_type":"{kind}""#) };
    let body = format!(r#"{{"alert_source":"HOST","hostname":"db","host_state":"{state}","host_output":"o"{kind}}}"#);
    plainly(&Nagios, &body).map(|heard| heard.map(|heard| (heard.judged.action, heard.level())))
}

#[test]
fn every_state_means_what_the_table_says_in_any_case() {
    use Action::{Resolve, Trigger};
    for (state, wanted) in [
        ("UP", (Resolve, None)),
        ("ok", (Resolve, None)),
        ("Down", (Trigger, Some(5))),
        ("UNREACHABLE", (Trigger, Some(4))),
        ("critical", (Trigger, Some(5))),
        ("WARNING", (Trigger, Some(3))),
        ("UNKNOWN", (Trigger, Some(3))),
    ] {
        assert_eq!(host(state, ""), Ok(Some(wanted)), "{state}");
        assert_eq!(host(state, "PROBLEM"), Ok(Some(wanted)), "{state}");
    }
    assert!(host("SLEEPY", "").unwrap_err().contains("host_state: is no state"));
    assert!(host("SLEEPY", "PROBLEM").is_err());
}

#[test]
fn the_kind_of_notification_wins_over_the_state() {
    assert_eq!(host("DOWN", "ACKNOWLEDGEMENT"), Ok(Some((Action::Acknowledge, None))));
    assert_eq!(host("DOWN", "recovery"), Ok(Some((Action::Resolve, None))));
    for kind in ["DOWNTIMESTART", "DOWNTIMEEND", "FLAPPINGSTART", "FLAPPINGSTOP", "CUSTOM"] {
        assert_eq!(host("DOWN", kind), Ok(None), "{kind}");
    }
}

#[test]
fn a_service_is_named_and_all_that_is_missing_is_told_at_once() {
    let body = r#"{"alert_source":"SERVICE","hostname":"db","servicedesc":"disk /data","service_state":"WARNING",
        "service_output":"90 %","hostaddress":"192.0.2.7","x":1}"#;
    let heard = plainly(&Nagios, body).unwrap().unwrap();
    assert_eq!((heard.key(), heard.level()), (Some("db/disk /data"), Some(3)));
    assert_eq!(heard.content.title.as_deref(), Some("db/disk /data is WARNING"));
    assert_eq!(heard.content.description.as_deref(), Some("90 %"));
    assert_eq!((heard.tags(), heard.extra), (vec!["hostaddress=192.0.2.7".to_owned()], vec!["x".to_owned()]));
    let faults = plainly(&Nagios, r#"{"alert_source":"SERVICE"}"#).err().unwrap();
    for member in ["hostname", "servicedesc", "service_state"] {
        assert!(faults.contains(member), "{faults}");
    }
    let long = format!(r#"{{"hostname":"{}","host_state":"DOWN"}}"#, "x".repeat(513));
    assert!(plainly(&Nagios, &long).err().unwrap().contains("longer than 512 bytes"));
}

#[test]
fn icinga_keeps_its_details_and_checkmk_its_names() {
    let body = r#"{"alert_source":"HOST","notification_type":"PROBLEM","hostname":"db","host_alias":"d",
        "data":{"host_state":"DOWN","host_output":"o","host_attempts":"3","n":null}}"#;
    let heard = plainly(&Icinga, body).unwrap().unwrap();
    assert_eq!((heard.key(), heard.level(), &*heard.extra), (Some("db"), Some(5), &["data".to_owned()][..]));
    assert!(plainly(&Icinga, r#"{"hostname":"db","data":[]}"#).is_err());
    let body = r#"{"source":"SERVICE","hostname":"db","serviceDesc":"d","serviceState":"CRIT","serviceOutput":"o",
        "notificationType":"PROBLEM","notifyDateTime":"2026-03-01 10:02:11","hostState":"UP"}"#;
    let heard = plainly(&Checkmk, body).unwrap().unwrap();
    assert_eq!((heard.key(), heard.level()), (Some("db/d"), Some(5)));
    assert_eq!(heard.content.started_at.unwrap().to_string(), "2026-03-01T10:02:11.000000Z");
    assert_eq!(heard.extra, ["hostState"]);
}

#[test]
fn what_a_key_is_made_of_is_a_string_or_a_number() {
    let told = |dialect: &dyn Dialect, body: &str| plainly(dialect, body).err().unwrap_or_else(|| panic!("{body}"));
    for body in [
        r#"{"hostname":true,"host_state":"DOWN"}"#,
        r#"{"hostname":["db"],"host_state":"DOWN"}"#,
        r#"{"hostname":"db","servicedesc":false,"service_state":"OK"}"#,
        r#"{"alert_source":"SERVICE","hostname":"db","servicedesc":{},"service_state":"OK"}"#,
    ] {
        assert!(told(&Nagios, body).contains("must be a string or a number"), "{body}");
        assert!(!told(&Nagios, body).contains("is required"), "{body}");
    }
    let icinga = r#"{"hostname":"db","data":{"service_description":[1],"service_state":"OK"}}"#;
    assert_eq!(told(&Icinga, icinga), "data.service_description: must be a string or a number");
    let checkmk = r#"{"source":"SERVICE","hostname":"db","serviceDesc":true,"serviceState":"OK"}"#;
    assert_eq!(told(&Checkmk, checkmk), "serviceDesc: must be a string or a number");
    let number = plainly(&Nagios, r#"{"hostname":7,"host_state":"DOWN"}"#).unwrap().unwrap();
    assert_eq!(number.key(), Some("7"));
}

#[test]
fn a_name_longer_than_a_field_is_cut_and_that_is_told() {
    let long = "h".repeat(300);
    let body = format!(r#"{{"hostname":"{long}","host_state":"DOWN"}}"#);
    let content = plainly(&Nagios, &body).unwrap().unwrap().content;
    assert_eq!(content.source.as_deref().map(|source| source.chars().count()), Some(256));
    let warnings: Vec<_> = content.warnings.iter().map(|warning| (warning.code, &*warning.path)).collect();
    assert_eq!(warnings, [("truncated", "source")]);
}
