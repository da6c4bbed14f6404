//! Keys of the configuration that say what a tool's words mean, each by its effect on what reaches the upstream.

use serde_json::{Value, json};

use super::{JSON, forwarded, notification, post, start};
use crate::harness::Recorder;

/// What becomes of these bodies on this hook, with this configuration: the outcome of each, and the events upstream.
fn sent(more: &str, hook: &str, bodies: &[Value]) -> (Vec<String>, Vec<Value>) {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, more);
    let path = format!("/hooks/{hook}/{{key}}");
    let outcome = |body: &Value| {
        let answer = post(&surgegate, &path, JSON, body);
        assert!((200..300).contains(&answer.status), "{body}: {}", answer.text());
        answer.header("x-surgegate-outcome").unwrap_or_default().to_owned()
    };
    (bodies.iter().map(outcome).collect(), forwarded(&surgegate, &recorder))
}

fn of(events: &[Value], member: &str) -> Vec<Value> {
    events.iter().map(|event| event[member].clone()).collect()
}

#[test]
fn grafanas_missing_data_has_the_level_that_is_configured() {
    let group = |name: &str, more: &str| {
        let labels: Value = serde_json::from_str(&format!(r#"{{"alertname":"{name}"{more}}}"#)).unwrap();
        let alert = json!({ "status": "firing", "labels": labels, "fingerprint": format!("{name}{more}") });
        json!({ "version": "1", "orgId": 1, "status": "firing", "alerts": [alert] })
    };
    let bodies = [
        group("DatasourceNoData", ""),
        group("DatasourceError", ""),
        group("DatasourceNoData", r#","severity":"critical""#),
        group("DiskFull", ""),
    ];
    let levels = |more: &str| of(&sent(more, "grafana", &bodies).1, "severity");
    assert_eq!(levels(", no_data_severity: 2, default_severity: 4"), [json!(2), json!(2), json!(5), json!(4)]);
    assert_eq!(levels(", default_severity: 4"), [json!(4), json!(4), json!(5), json!(4)], "by default none of its own");
}

#[test]
fn an_old_rule_of_grafana_without_data_is_an_incident_unless_it_is_to_be_ignored() {
    let rule = json!({ "state": "no_data", "ruleId": 7, "ruleName": "cpu", "title": "cpu", "orgId": 1 });
    let bodies = [rule];
    for usual in ["", ", grafana: { no_data: trigger }"] {
        let (outcomes, events) = sent(usual, "grafana", &bodies);
        assert_eq!((outcomes, of(&events, "action")), (vec!["created".to_owned()], vec![json!("trigger")]), "{usual}");
    }
    let (outcomes, events) = sent(", grafana: { no_data: ignore }", "grafana", &bodies);
    assert_eq!((outcomes, events), (vec!["ignored".to_owned()], vec![]));
}

#[test]
fn an_alarm_that_lacks_data_is_nothing_unless_it_is_to_trigger() {
    let alarm = json!({ "AlarmName": "cpu", "AlarmArn": "arn:a", "NewStateValue": "INSUFFICIENT_DATA" });
    let bodies = [notification("m-1", &alarm.to_string())];
    for usual in ["", ", sns: { insufficient_data: ignore }"] {
        let (outcomes, events) = sent(usual, "sns", &bodies);
        assert_eq!((outcomes, events), (vec!["ignored".to_owned()], vec![]), "{usual}");
    }
    let (outcomes, events) = sent(", sns: { insufficient_data: trigger }", "sns", &bodies);
    assert_eq!((outcomes, of(&events, "title")), (vec!["created".to_owned()], vec![json!("cpu")]));
}

#[test]
fn a_problem_of_zabbix_is_known_by_the_id_that_is_configured() {
    let problem = |event: &str| json!({ "event_id": event, "id": "t-9", "status": "PROBLEM", "name": "disk" });
    let bodies = [problem("e-1"), problem("e-2")];
    for (more, outcomes, keys) in [
        ("", ["created", "created"], vec!["e-1", "e-2"]),
        (", zabbix: { key: event_id }", ["created", "created"], vec!["e-1", "e-2"]),
        (", zabbix: { key: trigger_id }", ["created", "duplicate"], vec!["t-9"]),
    ] {
        let (told, events) = sent(more, "zabbix", &bodies);
        assert_eq!(
            (told, of(&events, "key")),
            (outcomes.map(str::to_owned).to_vec(), keys.iter().map(|key| json!(key)).collect()),
            "{more}"
        );
    }
}

/// A mapping of the generic hook with these further lines.
fn mapping(more: &str) -> String {
    format!(", generic: {{ title: [/name], action: [/state], key: [/id], severity: [/prio]{more} }}")
}

#[test]
fn an_event_without_a_title_has_the_one_that_is_configured_and_is_refused_without() {
    let bodies = [json!({ "id": "a" }), json!({ "id": "b", "name": "its own" })];
    let (_, events) = sent(&mapping(", default_title: 'backup job'"), "generic", &bodies);
    assert_eq!(of(&events, "title"), [json!("backup job"), json!("its own")]);

    let recorder = Recorder::start();
    let surgegate = start(&recorder, &mapping(""));
    let answer = post(&surgegate, "/hooks/generic/{key}", JSON, &bodies[0]);
    assert_eq!((answer.status, &answer.json()["reason"]), (400, &json!("invalid_event")), "{}", answer.text());
}

#[test]
fn what_no_word_tells_means_what_is_configured() {
    let bodies = [
        json!({ "id": "a", "name": "n", "state": "open" }),
        json!({ "id": "a", "name": "n" }),
        json!({ "id": "a", "name": "n", "state": "open" }),
        json!({ "id": "a", "name": "n", "state": "gone fishing" }),
    ];
    let actions = |more: &str| of(&sent(&mapping(more), "generic", &bodies).1, "action");
    assert_eq!(actions(", default_action: resolve"), ["trigger", "resolve", "trigger", "resolve"]);
    assert_eq!(actions(", default_action: acknowledge"), ["trigger", "acknowledge"]);
    assert_eq!(actions(""), ["trigger"], "triggers of an open incident all");
}

#[test]
fn words_levels_times_and_parts_stand_where_the_mapping_says() {
    let more = ", actions: [{ word: kaputt, action: trigger }, { word: heil, action: resolve }], \
                severities: [{ word: P1, severity: 5 }], started_at: [/at], group: [/team], class: [/kind], \
                service: [/service], component: [/part], source: [/host], description: [/text], link: [/see], tags: [/labels]";
    let body = json!({ "id": "a", "name": "disk", "state": "Kaputt", "prio": "p1", "at": 1_772_359_331, "team": "storage",
        "kind": "disk", "service": "db", "part": "sda", "host": "db-7", "text": "full", "see": "https://example.com/a",
        "labels": { "rack": "12" } });
    let (_, events) = sent(&mapping(more), "generic", &[body, json!({ "id": "a", "state": "heil" })]);
    assert_eq!(of(&events, "action"), ["trigger", "resolve"]);
    let trigger = &events[0];
    for (member, value) in [
        ("severity", json!(5)),
        ("started_at", json!("2026-03-01T10:02:11.000000Z")),
        ("group", json!("storage")),
        ("class", json!("disk")),
        ("service", json!("db")),
        ("component", json!("sda")),
        ("source", json!("db-7")),
        ("description", json!("full")),
    ] {
        assert_eq!(trigger[member], value, "{member}: {trigger}");
    }
    assert_eq!(trigger["links"][0]["href"], "https://example.com/a", "{trigger}");
    assert_eq!(trigger["tags"]["rack"]["value"], "12", "{trigger}");

    // A word that the mapping does not know is refused, so that no resolve becomes a trigger.
    let recorder = Recorder::start();
    let surgegate = start(&recorder, &mapping(more));
    let answer = post(&surgegate, "/hooks/generic/{key}", JSON, &json!({ "id": "a", "name": "n", "state": "huh" }));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("a word that the mapping does not know"), "{}", answer.text());
}
