//! `?dry_run=1`: what a request would come to, on every dialect's routes, and that it changes nothing.

use serde_json::{Value, json};

use crate::harness::{Answer, KEY, Recorder, Scrape, Surgegate, request, resolve, trigger};

const JSON: &str = "Content-Type: application/json";

fn start(recorder: &Recorder) -> Surgegate {
    Surgegate::start(&[&format!(
        "integrations:\n  - {{ name: edge, keys: [{{ key: '{KEY}' }}], upstreams: [pager, vendor],\n      \
         rate_limit: {{ events_per_second: 1 }} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n  - {{ name: vendor, kind: squadcast, url: '{}' }}\n",
        recorder.url(),
        recorder.url()
    )])
}

fn ask(surgegate: &Surgegate, path: &str, fields: &[&str], body: &str) -> Answer {
    let mut connection = surgegate.connect();
    connection.send(request("POST", &path.replace("{key}", KEY), fields, body)).unwrap();
    connection.answer().unwrap()
}

fn one(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(body["dry_run"], true, "{body}");
    assert_eq!(body["events"].as_array().map(Vec::len), Some(1), "{body}");
    body["events"][0].clone()
}

#[test]
fn what_would_happen_is_told_and_nothing_happens() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let path = format!("/v2/incidents/api/{KEY}");
    let dry = format!("{path}?dry_run=1");
    for _ in 0..50 {
        let answer = ask(&surgegate, &dry, &[JSON], &trigger("k"));
        assert_eq!(answer.status, 202, "no token is taken: {}", answer.text());
        assert_eq!(answer.header("x-surgegate-outcome"), None, "nothing came of it");
        let event = one(&answer);
        assert_eq!(
            (&event["outcome"], &event["action"], &event["key"]),
            (&"created".into(), &"trigger".into(), &"k".into())
        );
        assert_eq!(event["upstreams"], json!(["pager", "vendor"]));
        assert_eq!(event["incident"], json!({ "state": "OPEN", "generation": 1, "count": 1, "severity": null }));
        assert_eq!(event["event"]["title"], "disk full");
    }
    assert_eq!(one(&ask(&surgegate, &dry, &[JSON], &resolve("k")))["outcome"], "unknown");
    let refused = ask(&surgegate, &dry, &[JSON], "{}");
    assert_eq!((refused.status, &refused.json()["reason"]), (400, &"invalid_event".into()));
    assert_eq!(ask(&surgegate, "/v2/incidents/api/0123?dry_run=1", &[JSON], &trigger("k")).status, 404);
    let books: Scrape = surgegate.scrape();
    assert_eq!((books.count("events_accepted_total", &[]), books.count("dedup_entries", &[])), (0, 0));
    books.assert_books_balance();

    let real = ask(&surgegate, &path, &[JSON], &trigger("k"));
    assert_eq!((real.status, real.outcome()), (202, "created"), "its token was left");
    let event = one(&ask(&surgegate, &dry, &[JSON], &trigger("k")));
    assert_eq!(
        (&event["outcome"], &event["upstreams"], &event["incident"]["count"]),
        (&"duplicate".into(), &json!([]), &2.into())
    );
    assert_eq!(event["incident"]["iid"], real.json()["incident_id"]);
    let event = one(&ask(&surgegate, &dry, &[JSON], &resolve("k")));
    assert_eq!((&event["outcome"], &event["incident"]["state"]), (&"resolved".into(), &"RESOLVED".into()));
    surgegate.wait_until_delivered();
    assert_eq!(recorder.requests().len(), 2, "the one that was no dry run, to both");
}

#[test]
fn every_way_in_knows_a_dry_run() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder);
    let alert = |status: &str| json!({ "status": status, "labels": { "alertname": "x" }, "fingerprint": "f" });
    let group = json!({ "alerts": [alert("firing"), alert("on fire"), alert("resolved")] }).to_string();
    let answer = ask(&surgegate, "/hooks/alertmanager/{key}?dry_run=1", &[JSON], &group);
    assert_eq!(answer.status, 200);
    let events = answer.json()["events"].clone();
    assert_eq!((&events[0]["outcome"], &events[2]["outcome"]), (&"created".into(), &"resolved".into()), "{events}");
    assert!(events[1]["rejected"][0].as_str().unwrap().starts_with("status: "), "{events}");

    let paged = json!({ "routing_key": KEY, "event_action": "trigger", "dedup_key": "d",
        "payload": { "summary": "s", "source": "x", "severity": "critical" } });
    let event = one(&ask(&surgegate, "/v2/enqueue?dry_run=true", &[JSON], &paged.to_string()));
    assert_eq!((&event["outcome"], &event["event"]["severity"]), (&"created".into(), &5.into()));

    let genie = format!("Authorization: GenieKey {KEY}");
    let event = one(&ask(&surgegate, "/v2/alerts?dry_run=1", &[JSON, &genie], r#"{"message":"m","alias":"a"}"#));
    assert_eq!((&event["outcome"], &event["key"]), (&"created".into(), &"a".into()));
    let acknowledged =
        one(&ask(&surgegate, "/v2/alerts/a/acknowledge?identifierType=alias&dry_run=1", &[JSON, &genie], "{}"));
    assert_eq!(acknowledged["outcome"], "unknown");

    let event =
        one(&ask(&surgegate, "/hooks/nagios/{key}?dry_run=1", &[JSON], r#"{"hostname":"h","host_state":"DOWN"}"#));
    assert_eq!(event["event"]["title"], "h is DOWN");
    let event = one(&ask(
        &surgegate,
        "/hooks/nagios/{key}?dry_run=1",
        &[JSON],
        r#"{"hostname":"h","host_state":"DOWN","notification_type":"CUSTOM"}"#,
    ));
    assert_eq!(event, json!({ "outcome": "ignored", "upstreams": [] }));
    assert_eq!(surgegate.scrape().count("events_accepted_total", &[]), 0);
    assert_eq!(surgegate.scrape().count("dead_letters", &[]), 0);
    assert!(recorder.requests().is_empty());
    // Said with another value, it is meant.
    assert_eq!(
        ask(&surgegate, "/hooks/nagios/{key}?dry_run=0", &[JSON], r#"{"hostname":"h","host_state":"DOWN"}"#).outcome(),
        "created"
    );
}

/// What a body's events are foretold as; it is meant afterwards, and the books must say the same.
fn foretold_and_meant(path: &str, kind: &str, body: &Value) -> Vec<String> {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&crate::harness::standard(&recorder)]);
    let foretold = ask(&surgegate, &format!("{path}?dry_run=1"), &[kind], &body.to_string()).json()["events"].clone();
    assert_eq!(surgegate.scrape().count("dedup_entries", &[]), 0, "nothing happened");
    let before = surgegate.scrape();
    let meant = ask(&surgegate, path, &[kind], &body.to_string());
    assert!(meant.status < 300, "{}", meant.text());
    surgegate.wait_until_delivered();
    let books = surgegate.scrape();
    let outcome = |event: &Value| event["outcome"].as_str().unwrap().to_owned();
    let goes = |event: &Value| event["upstreams"] != json!([]);
    let events = foretold.as_array().unwrap();
    let sent = events.iter().filter(|event| goes(event)).count();
    let accepted = books.count("events_accepted_total", &[]) - before.count("events_accepted_total", &[]);
    assert_eq!((accepted, recorder.events().len()), (sent as u64, sent), "{foretold}");
    let actions = |of: &[Value]| of.iter().map(|event| event["action"].clone()).collect::<Vec<_>>();
    let mut told = actions(&events.iter().filter(|event| goes(event)).cloned().collect::<Vec<_>>());
    let mut came = actions(&recorder.events());
    told.sort_by_key(Value::to_string);
    came.sort_by_key(Value::to_string);
    assert_eq!(told, came);
    for name in ["duplicate", "duplicate_resolve", "replayed", "unknown"] {
        let count = |books: &Scrape| books.count("events_absorbed_total", &[("outcome", name)]);
        let absorbed = events.iter().filter(|event| !goes(event) && outcome(event) == name).count();
        assert_eq!(count(&books) - count(&before), absorbed as u64, "{name}: {foretold}");
    }
    events.iter().map(outcome).collect()
}

#[test]
fn what_is_told_of_one_key_twice_in_a_body_is_what_comes() {
    let alert = |fingerprint: &str, status: &str, severity: &str| json!({ "status": status, "labels": { "alertname": "x", "severity": severity }, "fingerprint": fingerprint });
    let group = json!({ "alerts": [
        alert("f", "firing", "warning"), alert("g", "resolved", "warning"), alert("f", "firing", "warning"),
        alert("f", "firing", "critical"), alert("f", "resolved", "critical"), alert("f", "resolved", "critical"),
        alert("f", "firing", "warning"), alert("g", "firing", "warning") ] });
    let event = |id: &str, key: &str| {
        json!({ "specversion": "1.0", "id": id, "source": "/x", "type": "com.example.alert", "dedupkey": key,
            "data": { "title": "t" } })
    };
    let batch = "Content-Type: application/cloudevents-batch+json";
    let keys = json!([event("1", "k"), event("2", "k"), event("3", "other")]);
    let ids = json!([event("1", "k"), event("1", "k"), event("1", "other"), event("2", "other")]);
    for (path, kind, body, wanted) in [
        (
            "/hooks/alertmanager/{key}",
            JSON,
            group,
            &["created", "unknown", "duplicate", "escalated", "resolved", "duplicate_resolve", "created", "created"][..],
        ),
        ("/hooks/cloudevents/{key}", batch, keys, &["created", "duplicate", "created"]),
        ("/hooks/cloudevents/{key}", batch, ids, &["created", "replayed", "replayed", "created"]),
    ] {
        assert_eq!(foretold_and_meant(path, kind, &body), wanted, "{body}");
    }
}
