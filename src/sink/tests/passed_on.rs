//! Which bodies go as they came (contracts 3.4): what only the model has no room for is the vendor's to take; what the
//! vendor has no room for is encoded anew, and so is what was tolerated.

use serde_json::{Map, Value, json};

use super::*;
use crate::dialect;

const KEY: &str = "db-7/disk";

/// What the upstream gets of this body.
fn sent(dialect: &'static str, endpoint: &'static str, action: Action, kind: Kind, raw: &Value) -> Value {
    let raw_text = raw.to_string();
    let event = Event {
        dialect: dialect.into(),
        family: dialect.into(),
        endpoint: endpoint.into(),
        ..samples::event(action, Some(KEY), &raw_text)
    };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let said = dialect::reread(&stored.event).map(|reread| Said { content: reread.content, extra: reread.extra });
    let upstream = UpstreamConfig { credential: Some("k".into()), ..samples::upstream("up", kind) };
    let encoded = of(kind).unwrap().encode(&samples::ask(&stored, &said.unwrap(), &upstream)).unwrap();
    serde_json::from_slice(&encoded.call.body).unwrap()
}

fn opsgenie(endpoint: &'static str, action: Action, raw: &Value) -> Value {
    sent("opsgenie", endpoint, action, Kind::Opsgenie, raw)
}

fn opsgenie_create(members: Value) -> (Value, Value) {
    let raw = with(json!({"message": "m", "alias": KEY}), members);
    (opsgenie("create", Action::Trigger, &raw), raw)
}

fn with(mut body: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("an object") };
    body.as_object_mut().unwrap().extend(members);
    body
}

fn numbered(count: usize) -> Map<String, Value> {
    (0..count).map(|n| (format!("k{n}"), json!("v"))).collect()
}

#[test]
fn opsgenie_gets_whole_what_it_takes_and_cut_what_it_does_not() {
    let emoji = |count: usize| "\u{1F600}".repeat(count);
    for members in [
        json!({"entity": "e".repeat(512)}),
        json!({"details": numbered(70)}),
        json!({"details": {"n".repeat(200): "v"}}),
        json!({"tags": ["disk"], "details": {"disk": "full"}}),
        json!({"description": emoji(15_000)}),
    ] {
        let (sent, raw) = opsgenie_create(members);
        assert_eq!(sent, raw);
    }
    let (sent, _) = opsgenie_create(json!({"entity": "e".repeat(513), "message": "m".repeat(131)}));
    let chars = |member: &str| sent[member].as_str().unwrap().chars().count();
    assert_eq!((chars("entity"), chars("message")), (512, 130), "the target's limits, not the model's");
    // Of each more than the model tells of.
    for (member, value) in [
        ("description", json!(emoji(15_001))),
        ("note", json!("n".repeat(25_001))),
        ("details", json!({"n".repeat(7_990): "v".repeat(100)})),
        ("details", json!((0..70).map(|n| (format!("k{n}"), json!("v".repeat(200)))).collect::<Map<_, _>>())),
        ("tags", json!(vec!["a"; 21])),
        ("details", with(json!(numbered(70)), json!({"k69": 1}))),
    ] {
        let (sent, raw) = opsgenie_create(json!({ member: value }));
        assert_ne!(sent[member], raw[member], "{member}");
    }
    for (endpoint, action, raw, fits) in [
        ("close", Action::Resolve, json!({"source": "s".repeat(100), "note": "n"}), true),
        ("close", Action::Resolve, json!({"source": "s".repeat(101), "note": "n"}), false),
        ("acknowledge", Action::Acknowledge, json!({"note": "n".repeat(25_001)}), false),
        ("details", Action::Admin, json!({"details": numbered(70)}), true),
        ("tags", Action::Admin, json!({"tags": vec!["a"; 21]}), false),
    ] {
        assert_eq!(opsgenie(endpoint, action, &raw) == raw, fits, "{endpoint}");
    }
}

#[test]
fn pagerduty_gets_whole_what_it_takes_and_a_summary_it_can_read() {
    let body = |payload: Value, beside: Value| {
        let payload = with(json!({"summary": "s", "source": "db-7", "severity": "error"}), payload);
        with(json!({"routing_key": "k", "event_action": "trigger", "dedup_key": KEY, "payload": payload}), beside)
    };
    let links = |count: usize| json!((0..count).map(|n| json!({"href": format!("https://h/{n}")})).collect::<Vec<_>>());
    let send = |raw: &Value| sent("pagerduty_v2", "v2/enqueue", Action::Trigger, Kind::PagerDuty, raw);
    for (payload, beside) in [
        (json!({"component": "c".repeat(300), "group": "g".repeat(300)}), json!({})),
        (json!({}), json!({"links": links(20), "client_url": format!("https://h/{}", "p".repeat(2_048))})),
        (json!({}), json!({"images": [{"src": format!("https://h/{}", "p".repeat(2_048))}]})),
        (json!({"custom_details": {"description": "d".repeat(40_000)}}), json!({})),
        (json!({"summary": format!("{}…", "ü".repeat(1_023))}), json!({})),
    ] {
        let raw = body(payload, beside);
        assert_eq!(send(&raw), raw);
    }
    let cut = send(&body(json!({"summary": "ü".repeat(1_025)}), json!({})));
    assert_eq!(cut["payload"]["summary"].as_str().unwrap().chars().count(), 1_024);
    let tolerated = send(&body(json!({}), json!({"links": [{"text": "nowhere"}, {"href": "https://h"}]})));
    assert_eq!(tolerated["links"], json!([{"href": "https://h"}]));
    // Warnings are counted: a tolerance is no less one behind many cuts.
    let many = format!("https://h/{}", "p".repeat(2_048));
    let many: Vec<_> = (0..40).map(|_| json!({"href": many})).chain([json!({"text": "nowhere"})]).collect();
    let tolerated = send(&body(json!({}), json!({ "links": many })));
    assert_eq!(tolerated.get("links"), None);
}

#[test]
fn the_other_vendors_get_their_own_bodies_whole() {
    let task = |members: Value| with(json!({"title": "t", "users": ["u"], "dedup_key": KEY}), members);
    let words: Vec<_> = (0..70).map(|n| format!("t{n}")).collect();
    let taskcall = |raw: &Value| sent("taskcall", "create", Action::Trigger, Kind::TaskCall, raw);
    for (members, fits) in [
        (json!({ "tags": words }), true),
        (json!({"notes": "n".repeat(25_001)}), true),
        (json!({"title": "t".repeat(1_025)}), false),
        (json!({"description": "d".repeat(32_769)}), false),
    ] {
        let raw = task(members);
        assert_eq!(taskcall(&raw) == raw, fits);
    }
    let squad = |members: Value| with(json!({"message": "m", "description": "d", "event_id": KEY}), members);
    let squadcast = |raw: &Value| sent("squadcast", "v2/incidents/api", Action::Trigger, Kind::Squadcast, raw);
    for (members, fits) in [
        (json!({ "tags": numbered(70) }), true),
        (json!({ "tags": {"n".repeat(129): "v", "long": "v".repeat(1_025)} }), true),
        (json!({"message": "\u{1F600}".repeat(1_024)}), true),
        (json!({"message": "m".repeat(1_025)}), false),
        (json!({"description": "d".repeat(15_001)}), false),
        (json!({"tags": {"": "v"}}), false),
    ] {
        let raw = squad(members);
        assert_eq!(squadcast(&raw) == raw, fits);
    }
    let alert = json!({
        "title": "t".repeat(1_025), "status": "firing", "deduplication_key": KEY, "description": "d".repeat(40_000),
        "source_url": format!("https://h/{}", "p".repeat(2_048)), "metadata": numbered(70),
    });
    let endpoint = crate::vendor::ALERT_HTTP_ENDPOINT;
    assert_eq!(sent("incidentio_alert", endpoint, Action::Trigger, Kind::IncidentIoAlert, &alert), alert);
    for (name, fits) in [(512, true), (513, false)] {
        let raw = json!({
            "idempotency_key": KEY, "visibility": "public", "severity_id": "01S", "name": "n".repeat(name),
            "summary": "s".repeat(40_000),
        });
        assert_eq!(sent("incidentio_v2", "v2/incidents", Action::Trigger, Kind::IncidentIo, &raw) == raw, fits);
    }
    let labels = with(json!(numbered(70)), json!({"alertname": "a"}));
    let annotations = json!({"summary": "t".repeat(1_025), "description": "d".repeat(40_000)});
    let alert = json!({
        "status": "firing", "labels": labels, "annotations": annotations, "fingerprint": KEY,
        "startsAt": "2026-11-20T10:00:00Z",
    });
    let whole = json!({"version": "4", "status": "firing", "alerts": [alert]});
    let event = Event {
        envelope: Some(json!({"version": "4", "status": "firing"}).to_string().into()),
        ..samples::event(Action::Trigger, Some(KEY), &alert.to_string())
    };
    let event = Event {
        dialect: "alertmanager".into(),
        family: "alertmanager".into(),
        endpoint: "alertmanager".into(),
        ..event
    };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let reread = dialect::reread(&stored.event).unwrap();
    let said = Said { content: reread.content, extra: reread.extra };
    let upstream = samples::upstream("up", Kind::Alertmanager);
    let encoded = of(Kind::Alertmanager).unwrap().encode(&samples::ask(&stored, &said, &upstream)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&encoded.call.body).unwrap(), whole);
}
