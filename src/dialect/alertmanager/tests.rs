//! Bodies taken apart and read, as intake does it, and read again from what is stored.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::dialect::json::{with_document, with_document_in};
use crate::dialect::{Judged, Rules, reread};
use crate::event::{Action, Content, Event, KeyKind, Rel, Severity};
use crate::gate::{GroupMode, Settings};

const MOST: Most = Most { elements: 1000, event_bytes: 30_720 };

/// What a body comes to: each alert judged, and read again from the log.
fn read_all(hook: &'static Hook, settings: &Settings, body: &Value) -> Vec<Result<(Judged, Stored), Faults>> {
    let body = Bytes::from(body.to_string());
    let rules = Rules { require_description: true, judge_only: true, settings: Some(settings) };
    let asked = Asked::at("hooks/alertmanager", rules);
    let Split { envelope, elements, levels, .. } = hook.split(&asked, &body, MOST).unwrap();
    let mut all = Vec::new();
    let mut each = |raw: &Bytes, envelope_read: Option<Document<'_>>| {
        let asked = Asked { envelope: envelope_read, ..asked };
        let mut judged = None;
        let read = with_document_in(levels, raw, |document| {
            hook.decode(&asked, document, &mut |said| {
                assert_eq!(
                    said.content,
                    Content {
                        severity: said.judged.severity,
                        severity_raw: said.content.severity_raw.clone(),
                        ..Content::default()
                    }
                );
                judged = Some(said.judged);
            })
        });
        all.push(read.unwrap().map(|()| {
            let judged = judged.unwrap();
            let stored = Stored::of(hook, raw, envelope.as_ref(), &judged);
            (judged, stored)
        }));
    };
    match &envelope {
        None => elements.iter().for_each(|raw| each(raw, None)),
        Some(text) => {
            with_document(text, |document| elements.iter().for_each(|raw| each(raw, Some(document)))).unwrap()
        }
    }
    all
}

/// What the log gives back.
struct Stored {
    content: Content<'static>,
    extra: Value,
}

impl Stored {
    fn of(hook: &Hook, raw: &Bytes, envelope: Option<&Bytes>, judged: &Judged) -> Self {
        let event = Event {
            dialect: hook.name.into(),
            endpoint: format!("hooks/{}", hook.name).into(),
            action: judged.action,
            raw: raw.clone(),
            envelope: envelope.cloned(),
            ..crate::event::tests::event("k")
        };
        let again = reread(&event).unwrap();
        let extra =
            again.extra.iter().map(|(name, value)| (name.to_string(), serde_json::from_str(value.get()).unwrap()));
        Self { extra: Value::Object(extra.collect()), content: again.content }
    }
}

fn one(hook: &'static Hook, body: &Value) -> (Judged, Stored) {
    read_all(hook, &Settings::default(), body).remove(0).unwrap()
}

fn with(alert: Value) -> Value {
    json!({"receiver": "edge", "status": "firing", "alerts": [alert], "groupLabels": {"alertname": "X"}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://am", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0})
}

fn alert(changes: Value) -> Value {
    let mut alert = json!({"status": "firing", "labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db-7:9100",
        "job": "node", "service": "billing"}, "annotations": {"summary": "disk full", "description": "99 %", "owner": "bob",
        "runbook_url": "https://run"}, "startsAt": "2026-03-01T10:02:11.315Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prom", "fingerprint": "8f3a1c2d4e5b6a70"});
    for (name, value) in changes.as_object().unwrap() {
        alert[name] = value.clone();
    }
    alert
}

fn level(judged: &Judged) -> Option<u8> {
    judged.severity.map(Severity::level)
}

#[test]
fn an_alert_says_what_section_3_maps() {
    let (judged, Stored { content, extra }) = one(&ALERTMANAGER, &with(alert(json!({"odd": 1.50}))));
    assert_eq!((judged.action, level(&judged)), (Action::Trigger, Some(5)));
    let key = judged.key.unwrap();
    assert_eq!((key.canon(), key.kind), ("8f3a1c2d4e5b6a70", KeyKind::String));
    let said = serde_json::to_value(&content).unwrap();
    assert_eq!(
        said,
        json!({"title": "disk full", "description": "99 %", "severity": 5, "severity_raw": "critical", "status_raw": "firing",
            "source": "db-7:9100", "component": "node", "class": "DiskFull", "service": "billing",
            "tags": {"alertname": {"value": "DiskFull", "type": "string"}, "instance": {"value": "db-7:9100", "type": "string"},
                "job": {"value": "node", "type": "string"}, "service": {"value": "billing", "type": "string"}},
            "started_at": "2026-03-01T10:02:11.315000Z",
            "links": [{"href": "http://prom", "rel": "source"}, {"href": "http://am", "rel": "client"},
                {"href": "https://run", "rel": "runbook"}]})
    );
    assert_eq!(
        extra,
        json!({"odd": 1.5, "receiver": "edge", "groupLabels": {"alertname": "X"}, "commonLabels": {}, "commonAnnotations": {},
            "groupKey": "{}:{}", "truncatedAlerts": 0, "annotations": {"owner": "bob"}})
    );
}

#[test]
fn an_alert_has_its_own_status_and_else_its_groups() {
    let action = |status: Value| one(&ALERTMANAGER, &with(alert(json!({"status": status})))).0.action;
    assert_eq!((action(json!("firing")), action(json!("resolved"))), (Action::Trigger, Action::Resolve));
    let mut body = with(alert(json!({"status": null})));
    assert_eq!(one(&ALERTMANAGER, &body).0.action, Action::Trigger);
    body["status"] = "resolved".into();
    assert_eq!(one(&ALERTMANAGER, &body).0.action, Action::Resolve);
    for odd in [json!("Firing"), json!("pending"), json!(1)] {
        let faults = read_all(&ALERTMANAGER, &Settings::default(), &with(alert(json!({"status": odd}))));
        assert_eq!(faults[0].as_ref().err().unwrap(), &["status: must be \"firing\" or \"resolved\""]);
    }
}

#[test]
fn what_is_wrong_with_an_alert_is_told_of_it_alone() {
    let mut body = with(alert(json!({})));
    let bad = [
        json!("oops"),
        json!({"status": "firing"}),
        alert(json!({"labels": null})),
        alert(json!({"fingerprint": []})),
        alert(json!({"fingerprint": "f".repeat(513)})),
    ];
    body["alerts"].as_array_mut().unwrap().extend(bad);
    let faults: Vec<_> =
        read_all(&ALERTMANAGER, &Settings::default(), &body).into_iter().map(|one| one.err()).collect();
    let told = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(
        faults,
        [
            None,
            told("alert: must be an object"),
            told("labels: must be an object"),
            told("labels: must be an object"),
            told("fingerprint: must be a string"),
            told("fingerprint: is longer than 512 bytes")
        ]
    );
}

#[test]
fn without_a_fingerprint_the_labels_are_the_key_in_any_order() {
    let key = |labels: &str| {
        let body = format!(r#"{{"alerts":[{{"status":"firing","labels":{labels}}}]}}"#);
        let key = one(&ALERTMANAGER, &serde_json::from_str(&body).unwrap()).0.key.unwrap();
        assert_eq!(key.kind, KeyKind::Derived);
        key.canon().to_owned()
    };
    // printf 'a\x1f1\x1eb\x1f2\x1e' | sha256sum
    let hash = "df4f5ee92b33fee2eda167420fbc0b6abe7c928a10ef1ce7eceb1f00493aa2da";
    assert_eq!(key(r#"{"a":"1","b":"2"}"#), key(r#"{"b":"2","a":"1"}"#));
    assert_eq!(key(r#"{"a":1,"b":"2"}"#), key(r#"{"b":"2","a":"1"}"#), "what is no text is taken as one");
    assert_ne!(key(r#"{"a":"1","b":"2"}"#), key(r#"{"a":"1b","":"2"}"#));
    assert_eq!(key(r#"{"a":"1","b":"2"}"#), hash);
}

#[test]
fn the_first_label_that_yields_a_level_counts_and_an_unknown_word_is_kept() {
    let said = |labels: Value| {
        let (judged, stored) = one(&ALERTMANAGER, &with(alert(json!({"labels": labels}))));
        (level(&judged), stored.content.severity_raw.map(|word| word.into_owned()))
    };
    assert_eq!(said(json!({"severity": "page"})), (Some(5), Some("page".into())));
    assert_eq!(said(json!({"priority": "P2"})), (Some(4), Some("P2".into())));
    assert_eq!(said(json!({"severity": "purple", "priority": "P2"})), (Some(4), Some("P2".into())));
    assert_eq!(said(json!({"severity": "purple"})), (None, Some("purple".into())));
    assert_eq!(said(json!({"severity": "3"})), (None, Some("3".into())));
    assert_eq!(said(json!({"severity": " "})), (None, None));
}

#[test]
fn a_trigger_has_a_title_in_any_case() {
    let title =
        |changes: Value| one(&ALERTMANAGER, &with(alert(changes))).1.content.title.map(|title| title.into_owned());
    assert_eq!(title(json!({"annotations": {"title": "t"}})).as_deref(), Some("t"));
    assert_eq!(title(json!({"annotations": null})).as_deref(), Some("DiskFull on db-7:9100"));
    assert_eq!(title(json!({"annotations": {}, "labels": {"alertname": "A"}})).as_deref(), Some("A"));
    assert_eq!(title(json!({"annotations": {"message": "\n line \nmore"}, "labels": {}})).as_deref(), Some("line"));
    assert_eq!(title(json!({"annotations": {}, "labels": {}})).as_deref(), Some("alertmanager alert"));
    assert_eq!(title(json!({"annotations": {}, "labels": {}, "status": "resolved"})), None);
    let long = title(json!({"annotations": {"summary": "ä".repeat(2000)}})).unwrap();
    assert_eq!((long.chars().count(), long.ends_with('…')), (1024, true));
}

#[test]
fn odd_labels_times_and_links_are_kept_as_far_as_they_go() {
    let mut labels = serde_json::Map::new();
    for index in 0..70 {
        labels.insert(format!("l{index:02}"), json!("v"));
    }
    labels.insert("a".into(), json!({"x": [1.50]}));
    labels.insert("b".into(), json!(null));
    let changes =
        json!({"labels": labels, "startsAt": "soon", "endsAt": 5, "generatorURL": "h".repeat(3000), "annotations": []});
    let (_, Stored { content, extra }) = one(&ALERTMANAGER, &with(alert(changes)));
    assert_eq!(content.tags.len(), 64);
    assert_eq!(content.tags[0].0, "a", "in name order");
    assert_eq!(content.tags[0].1.value, r#"{"x":[1.5]}"#);
    assert_eq!(content.links.len(), 1, "only the client's");
    let codes: std::collections::BTreeSet<_> = content.warnings.iter().map(|warning| warning.code).collect();
    let wanted = ["link_dropped", "tag_coerced", "tag_dropped", "time_ignored", "title_made"];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), wanted);
    assert_eq!(extra.get("annotations"), None);
}

#[test]
fn what_is_cut_to_the_limits_of_the_model_is_told_and_tolerates_nothing() {
    let long = |chars: usize| "ä".repeat(chars);
    let said = |chars: usize| {
        let labels = json!({"instance": long(chars), "job": long(chars), "alertname": long(chars),
            "service": long(chars), "severity": long(chars - 192)});
        one(&ALERTMANAGER, &with(alert(json!({"labels": labels, "annotations": {"summary": "s"}})))).1.content
    };
    assert_eq!(said(256).warnings, []);
    let cut = said(257);
    let told: Vec<_> = cut.warnings.iter().map(|warning| (warning.code, &*warning.path)).collect();
    let paths = ["labels.severity", "labels.instance", "labels.job", "labels.alertname", "labels.service"];
    assert_eq!(told, paths.map(|path| ("truncated", path)));
    assert!(!cut.tolerated);
    assert_eq!(cut.severity_raw.unwrap().chars().count(), 64);
    let unnamed = one(&ALERTMANAGER, &with(alert(json!({"labels": {}, "annotations": {}})))).1.content;
    assert_eq!((unnamed.warnings[0].code, unnamed.tolerated), ("title_made", false));
}

#[test]
fn grafana_adds_links_values_and_the_organization_to_the_key() {
    let more = json!({"values": {"B": 99.1}, "valueString": "[ var='B' ]", "silenceURL": "https://s", "dashboardURL": "https://d",
        "panelURL": "", "imageURL": "https://i"});
    let mut body = with(alert(more));
    body["orgId"] = 1.into();
    body["title"] = "[FIRING:1]".into();
    let (judged, Stored { content, extra }) = one(&GRAFANA, &body);
    assert_eq!(judged.key.unwrap().canon(), "1:8f3a1c2d4e5b6a70");
    let rels: Vec<_> = content.links.iter().filter_map(|link| link.rel).collect();
    assert_eq!(rels, [Rel::Source, Rel::Client, Rel::Runbook, Rel::Silence, Rel::Dashboard, Rel::Image]);
    assert_eq!(
        (&extra["values"]["B"], &extra["title"], &extra["orgId"]),
        (&json!(99.1), &json!("[FIRING:1]"), &json!(1))
    );
    assert_eq!(extra.get("silenceURL"), None);
    assert_eq!(one(&ALERTMANAGER, &body).0.key.unwrap().canon(), "8f3a1c2d4e5b6a70", "only Grafana has organizations");
    body["alerts"][0]["fingerprint"] = "".into();
    let key = one(&GRAFANA, &body).0.key.unwrap();
    assert!(key.canon().starts_with("1:") && key.canon().len() == 66 && key.kind == KeyKind::Derived);
}

#[test]
fn missing_data_has_its_own_level_unless_it_says_one() {
    let settings = Settings { no_data_severity: Severity::new(2), ..Settings::default() };
    let said = |hook, labels: Value| {
        let body = with(alert(json!({"labels": labels})));
        level(&read_all(hook, &settings, &body).remove(0).unwrap().0)
    };
    assert_eq!(said(&GRAFANA, json!({"alertname": "DatasourceNoData"})), Some(2));
    assert_eq!(said(&GRAFANA, json!({"alertname": "DatasourceError"})), Some(2));
    assert_eq!(said(&GRAFANA, json!({"alertname": "DatasourceNoData", "severity": "critical"})), Some(5));
    assert_eq!(said(&GRAFANA, json!({"alertname": "DiskFull"})), None);
    assert_eq!(said(&ALERTMANAGER, json!({"alertname": "DatasourceNoData"})), None);
}

fn by_group() -> Settings {
    Settings { group_mode: GroupMode::Group, ..Settings::default() }
}

#[test]
fn a_group_is_one_event_where_it_is_meant_so() {
    let mut body = with(alert(json!({})));
    body["alerts"].as_array_mut().unwrap().push(alert(json!({"startsAt": "2026-03-01T09:00:00Z"})));
    body["commonLabels"] = json!({"alertname": "DiskFull", "job": "node"});
    body["commonAnnotations"] = json!({"summary": "disks full", "owner": "bob"});
    body["groupKey"] = "{}:{alertname=\"DiskFull\"}".into();
    let all = read_all(&ALERTMANAGER, &by_group(), &body);
    let [Ok((judged, Stored { content, extra }))] = all.as_slice() else { panic!("{} events", all.len()) };
    let key = judged.key.clone().unwrap();
    // printf '{}:{alertname="DiskFull"}' | sha256sum
    assert_eq!(key.canon(), "17c4e445d234645c9e547ff6d32a864af0ebdadcd1902771c24c8d366637ff41");
    assert_eq!((judged.action, level(judged), key.kind), (Action::Trigger, Some(5), KeyKind::Derived));
    assert_eq!((content.title.as_deref(), content.component.as_deref()), (Some("disks full"), Some("node")));
    assert_eq!(content.started_at.unwrap().to_string(), "2026-03-01T09:00:00.000000Z");
    assert_eq!(extra["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(extra["annotations"], json!({"owner": "bob"}));
    body["alerts"] = json!([]);
    body["status"] = "resolved".into();
    let all = read_all(&ALERTMANAGER, &by_group(), &body);
    let [Ok((judged, Stored { content, .. }))] = all.as_slice() else { panic!("{} events", all.len()) };
    assert_eq!((judged.action, judged.key.as_ref()), (Action::Resolve, Some(&key)), "a group without alerts says so");
    assert_eq!(content.title.as_deref(), Some("disks full"));
    body["status"] = "firing".into();
    body["alerts"] = json!([alert(json!({}))]);
    body["groupKey"] = json!(null);
    let faults = read_all(&ALERTMANAGER, &by_group(), &body).remove(0).err().unwrap();
    assert_eq!(faults, ["groupKey: is required where a group is one event"]);
}

#[test]
fn a_group_larger_than_an_event_keeps_its_first_alerts() {
    let mut body = with(alert(json!({})));
    body["alerts"] = (0..300).map(|_| alert(json!({}))).collect();
    let all = read_all(&ALERTMANAGER, &by_group(), &body);
    let [Ok((_, Stored { extra, .. }))] = all.as_slice() else { panic!("{} events", all.len()) };
    let kept = extra["alerts"].as_array().unwrap().len();
    assert!((50..100).contains(&kept), "{kept}");
    assert!(extra.to_string().len() < MOST.event_bytes);
}

#[test]
fn what_is_no_batch_is_refused_as_a_whole() {
    let asked = Asked::at("hooks/alertmanager", Rules::ACCEPTED);
    let split = |body: &str, most| ALERTMANAGER.split(&asked, &Bytes::from(body.to_owned()), most);
    let fault = |body: &str| match split(body, MOST) {
        Err(SplitError::Faults(faults)) => faults.join("; "),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault("[]"), "body: must be a JSON object");
    assert_eq!(fault("{}"), "alerts: is required");
    assert_eq!(fault(r#"{"alerts":null}"#), "alerts: must be an array");
    assert_eq!(fault(r#"{"ruleId":7,"state":"ok"}"#), "alerts: is required", "no rule of Grafana's");
    assert!(matches!(split("alert: x", MOST), Err(SplitError::Json(_))));
    for wrong in [r#""\ud800""#.to_owned(), "[".repeat(70) + &"]".repeat(70), "1e999".to_owned()] {
        let empty = format!(r#"{{"alerts":[],"x":{wrong}}}"#);
        assert!(matches!(split(&empty, MOST), Err(SplitError::Json(_))), "{wrong}");
    }
    let few = Most { elements: 1, ..MOST };
    assert!(matches!(split(r#"{"alerts":[{},{}]}"#, few), Err(SplitError::TooMany)));
    let wide = format!(r#"{{"alerts":[],"groupKey":"{}"}}"#, "k".repeat(30_720));
    assert!(matches!(split(&wide, MOST), Err(SplitError::EnvelopeTooLarge)));
    let left_out = |body| split(body, MOST).unwrap().left_out;
    assert_eq!(left_out(r#"{"alerts":[],"truncatedAlerts":12}"#), 12);
    assert_eq!(left_out(r#"{"alerts":[],"truncatedAlerts":-1}"#), 0);
}

#[test]
fn nesting_is_counted_from_the_top_of_the_body() {
    let nested = |levels: usize| {
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        let alert = format!(r#"{{"status":"firing","labels":{{}},"x":{deep}}}"#);
        with_document_in(2, alert.as_bytes(), |_| ()).is_ok()
    };
    assert!(nested(61) && !nested(62), "two levels above it, and its own");
}

#[test]
fn the_answer_counts_what_the_alerts_came_to() {
    use crate::dialect::Ending;
    use crate::outcome::Outcome;

    let ending = |outcome| Ending { outcome, incident: None, key: None, view: None, named: None };
    let endings = [
        ending(Some(Outcome::Created)),
        ending(Some(Outcome::Escalated)),
        ending(Some(Outcome::DuplicateResolve)),
        ending(Some(Outcome::Resolved)),
        ending(Some(Outcome::Unknown)),
        ending(None),
    ];
    let settings = Settings::default();
    let replying = Replying {
        status: StatusCode::OK,
        endpoint: "hooks/alertmanager",
        endings: &endings,
        success: StatusCode::ACCEPTED,
        request_id: "r1",
        integration: "a",
        settings: &settings,
    };
    let (status, body) = ALERTMANAGER.reply(&replying);
    assert_eq!(status, StatusCode::OK);
    let wanted = concat!(
        r#"{"status":"ok","received":6,"created":1,"duplicate":2,"resolved":1,"rejected":1,"other":1,"#,
        r#""request_id":"r1"}"#
    );
    assert_eq!(body, wanted);
}

#[test]
fn an_overload_is_never_answered_by_a_status_that_loses_alerts() {
    for class in [Class::Overload, Class::Unavailable] {
        assert_eq!(ALERTMANAGER.status(class), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(GRAFANA.status(class), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(ALERTMANAGER.retries_overload());
    assert!(!GRAFANA.retries_overload(), "not relied on: under `on_limit: auto` its alerts are kept");
}
