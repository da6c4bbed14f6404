//! INTERFACE 4: each word that `X-Surgegate-Outcome` may say, said to the sender whose event came to that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{KEY, PATH, Recorder, Surgegate, request, resolve, trigger};
use crate::incidentio::{A, ACCOUNT, integration};

const WORDS: [&str; 15] = [
    "created",
    "duplicate",
    "escalated",
    "acknowledged",
    "unacknowledged",
    "resolved",
    "duplicate_resolve",
    "replayed",
    "updated",
    "forwarded",
    "noop",
    "unknown",
    "ignored",
    "unmatched",
    "mixed",
];
const PAGES: &str = "9a6e5ca1ab1e0123456789abcdef01234567abcd";

/// Senders of every kind to a webhook, and PagerDuty's to PagerDuty.
fn start(recorder: &Recorder) -> Surgegate {
    let (webhook, pagerduty) = (recorder.url(), recorder.base());
    Surgegate::start(&[&format!(
        "integrations:\n{}{}  - {{ name: pages, keys: [{{ key: '{PAGES}' }}], upstreams: [duty] }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{webhook}' }}\n\
         \x20 - {{ name: duty, kind: pagerduty, url: '{pagerduty}', credential: k }}\n",
        integration("all", KEY, ""),
        integration("edits", A, ACCOUNT),
    )])
}

#[test]
fn each_outcome_is_told_to_the_sender_whose_event_came_to_it() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let mut told = BTreeSet::new();
    let mut say = |wanted: &str, path: &str, scheme: &str, body: &str| -> Value {
        let mut connection = surgegate.connect();
        let kind = if path.contains("cloudevents") { "application/cloudevents-batch+json" } else { "application/json" };
        let fields = [format!("Content-Type: {kind}"), format!("Authorization: {scheme}")];
        let fields: Vec<&str> = fields.iter().map(String::as_str).take(if scheme.is_empty() { 1 } else { 2 }).collect();
        connection.send(request("POST", path, &fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        assert!(answer.status < 300, "{path}: {}", answer.text());
        assert_eq!(answer.outcome(), wanted, "{path} {body}");
        told.insert(wanted.to_owned());
        answer.json()
    };
    say("created", PATH, "", &trigger("k"));
    say("duplicate", PATH, "", &trigger("k"));
    say("escalated", PATH, "", r#"{"message":"m","description":"d","event_id":"k","priority":"P1"}"#);
    say("resolved", PATH, "", &resolve("k"));
    say("duplicate_resolve", PATH, "", &resolve("k"));
    say("unknown", PATH, "", &resolve("nobody-opened-this"));

    let genie = format!("GenieKey {KEY}");
    let on = |operation: &str| format!("/v2/alerts/a/{operation}?identifierType=alias");
    say("created", "/v2/alerts", &genie, r#"{"message":"m","alias":"a"}"#);
    say("acknowledged", &on("acknowledge"), &genie, "{}");
    say("unacknowledged", &on("unacknowledge"), &genie, "{}");
    say("noop", &on("unacknowledge"), &genie, "{}");

    let bearer = format!("Bearer {A}");
    let incident = json!({ "idempotency_key": "i", "visibility": "public", "name": "n",
        "severity_id": "01FCNDV6P870EA6S7TK1DSYDG0" })
    .to_string();
    let created = say("created", "/v2/incidents", &bearer, &incident);
    say("replayed", "/v2/incidents", &bearer, &incident);
    let edit = json!({ "notify_incident_channel": false, "incident": { "name": "another" } }).to_string();
    let id = created["incident"]["id"].as_str().unwrap();
    say("updated", &format!("/v2/incidents/{id}/actions/edit"), &bearer, &edit);

    let change = json!({ "routing_key": PAGES, "payload": { "summary": "deployed 1.4.2" } }).to_string();
    say("forwarded", "/v2/change/enqueue", "", &change);
    let alarm =
        json!({ "AlarmName": "cpu", "AlarmArn": "arn:a", "NewStateValue": "INSUFFICIENT_DATA", "OldStateValue": "OK" });
    let note = json!({ "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t",
        "Message": alarm.to_string() });
    say("ignored", &format!("/hooks/sns/{KEY}"), "", &note.to_string());
    say("unmatched", &format!("/hooks/datadog/{KEY}"), "", r#"{"title":"[Recovered] x","id":"1"}"#);
    let event = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "com.example.alert" });
    let batch = json!([event("1"), event("2"), event("1")]).to_string();
    say("mixed", &format!("/hooks/cloudevents/{KEY}"), "", &batch);

    let wanted: BTreeSet<String> = WORDS.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(told, wanted);
    surgegate.wait_until_delivered().assert_books_balance();
}
