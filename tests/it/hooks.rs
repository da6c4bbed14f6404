//! Senders that choose their URL (contracts/others.md), against the real binary: ids that a transport sends again, a vendor's
//! paths for each tool, keys beside the path, what is looked into before it is believed.

mod meanings;

use serde_json::{Value, json};

use crate::harness::{Answer, KEY, Recorder, Scrape, Surgegate, request, wait_until};

const JSON: &str = "Content-Type: application/json";
const CLOUD: &str = "Content-Type: application/cloudevents+json";
const CLOUD_BATCH: &str = "Content-Type: application/cloudevents-batch+json";

fn start(recorder: &Recorder, more: &str) -> Surgegate {
    Surgegate::start(&[&format!(
        "integrations:\n  - {{ name: edge, keys: [{{ key: '{KEY}' }}], upstreams: [pager]{more} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )])
}

fn ask(surgegate: &Surgegate, method: &str, path: &str, fields: &[&str], body: &str) -> Answer {
    let mut connection = surgegate.connect();
    connection.send(request(method, &path.replace("{key}", KEY), fields, body)).unwrap();
    connection.answer().unwrap()
}

fn post(surgegate: &Surgegate, path: &str, kind: &str, body: &Value) -> Answer {
    ask(surgegate, "POST", path, &[kind], &body.to_string())
}

fn notification(id: &str, message: &str) -> Value {
    json!({ "Type": "Notification", "MessageId": id, "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": message })
}

pub fn cloud_event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "com.example.alert" })
}

fn forwarded(surgegate: &Surgegate, recorder: &Recorder) -> Vec<Value> {
    surgegate.wait_until_delivered();
    recorder.events()
}

#[test]
fn what_a_transport_sends_again_is_answered_and_no_more_through_a_kill() {
    let recorder = Recorder::start();
    let mut surgegate = start(&recorder, "");
    let text = notification("m-1", "backup failed");
    let first = post(&surgegate, "/hooks/sns/{key}", JSON, &text);
    assert_eq!((first.status, first.outcome()), (200, "created"));
    let cloud = post(&surgegate, "/hooks/cloudevents/{key}", CLOUD, &cloud_event("e-1"));
    assert_eq!((cloud.status, cloud.outcome()), (202, "created"));
    for _ in 0..2 {
        let again = post(&surgegate, "/hooks/sns/{key}", JSON, &text);
        assert_eq!((again.status, again.outcome()), (200, "replayed"));
        assert_eq!(again.json()["incident_id"], first.json()["incident_id"], "the same incident");
        assert_eq!(post(&surgegate, "/hooks/cloudevents/{key}", CLOUD, &cloud_event("e-1")).outcome(), "replayed");
        surgegate.kill();
        surgegate.start_again();
    }
    assert_eq!(post(&surgegate, "/hooks/sns/{key}", JSON, &notification("m-2", "backup failed")).outcome(), "created");
    assert_eq!(post(&surgegate, "/hooks/cloudevents/{key}", CLOUD, &cloud_event("m-1")).outcome(), "created");
    // As elements of a batch, and twice in one.
    let batch = json!([cloud_event("e-1"), cloud_event("e-2"), cloud_event("e-2")]);
    assert_eq!(post(&surgegate, "/hooks/cloudevents/{key}", CLOUD_BATCH, &batch).outcome(), "mixed");
    let mut events = forwarded(&surgegate, &recorder);
    events.dedup_by_key(|event| event["event_uid"].clone());
    let mut uids: Vec<String> = events.iter().map(|event| event["event_uid"].to_string()).collect();
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), 5, "m-1, e-1, m-2, the event m-1, e-2: {events:?}");
    surgegate.scrape().assert_books_balance();
}

#[test]
fn of_many_at_once_that_are_one_by_their_id_one_creates() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let body = notification("m-1", "burst");
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| post(&surgegate, "/hooks/sns/{key}", JSON, &body).outcome().to_owned()))
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "created").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "replayed").count(), 15, "{outcomes:?}");
    assert_eq!(forwarded(&surgegate, &recorder).len(), 1);
}

#[test]
fn a_late_repeat_of_an_alarm_does_not_open_it_again() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let alarm = |id: &str, state: &str, before: &str| {
        let message =
            json!({ "AlarmName": "cpu", "AlarmArn": "arn:a", "NewStateValue": state, "OldStateValue": before });
        post(&surgegate, "/hooks/sns/{key}", JSON, &notification(id, &message.to_string())).outcome().to_owned()
    };
    assert_eq!(alarm("0", "OK", "INSUFFICIENT_DATA"), "unknown", "the first report of a new alarm");
    assert_eq!(alarm("1", "ALARM", "OK"), "created");
    assert_eq!(alarm("2", "OK", "ALARM"), "resolved");
    assert_eq!(alarm("1", "ALARM", "OK"), "replayed");
    let actions: Vec<String> =
        forwarded(&surgegate, &recorder).iter().map(|event| event["action"].to_string()).collect();
    assert_eq!(actions, ["\"trigger\"", "\"resolve\""], "the first report went nowhere");
}

#[test]
fn a_vendors_path_for_each_tool_is_that_tools_hook() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let alert = json!({ "status": "firing", "labels": { "alertname": "x" }, "fingerprint": "f" });
    let group = json!({ "version": "4", "status": "firing", "alerts": [alert] });
    let host = json!({ "hostname": "db", "host_state": "DOWN" });
    let icinga = json!({ "hostname": "db", "notification_type": "PROBLEM", "data": { "host_state": "DOWN" } });
    let checkmk = json!({ "source": "HOST", "hostname": "db", "hostState": "DOWN", "notificationType": "PROBLEM" });
    let bodies = [
        ("prometheus", &group),
        ("alertmanager", &group),
        ("grafana", &group),
        ("zabbix", &json!({ "status": "PROBLEM", "event_id": "1", "subject": "s" })),
        ("nagios", &host),
        ("icinga", &icinga),
        ("icinga2", &icinga),
        ("checkmk", &checkmk),
        ("datadog", &json!({ "title": "t", "alert_cycle_key": "k" })),
        ("opsgenie", &json!({ "message": "m", "alias": "a" })),
        ("generic", &json!({ "title": "t", "id": "k" })),
        ("sns", &notification("m-1", "x")),
        ("cloudevents", &cloud_event("e-1")),
    ];
    for (tool, body) in bodies {
        for version in ["v2", "v1"] {
            let answer = post(&surgegate, &format!("/{version}/incidents/{tool}/{{key}}"), JSON, body);
            assert_eq!(answer.status, 202, "{version} {tool}: {}", answer.text());
            let unknown = post(&surgegate, &format!("/{version}/incidents/{tool}/0123"), JSON, body);
            assert_eq!(unknown.status, 404, "{version} {tool}: an unknown key");
        }
    }
    for path in ["/v2/incidents/toaster/{key}", "/v1/incidents/toaster/{key}", "/v2/incidents/sns2/{key}"] {
        assert_eq!(post(&surgegate, path, JSON, &host).status, 404, "{path}");
    }
    // What a tool's own hook knows, its path under a vendor's knows too.
    let again = post(&surgegate, "/hooks/nagios/{key}", JSON, &host);
    assert_eq!((again.status, again.outcome()), (202, "duplicate"));
}

#[test]
fn a_key_stands_in_the_path_or_beside_it_and_sns_has_it_in_the_path_alone() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let body = json!({ "title": "t", "id": "k", "hostname": "h", "host_state": "DOWN" }).to_string();
    let bearer = format!("Authorization: Bearer {KEY}");
    let basic = format!("Authorization: Basic {}", base64(&format!("any:{KEY}")));
    for hook in ["datadog", "nagios", "generic"] {
        for by in [&bearer, &basic] {
            let answer = ask(&surgegate, "POST", &format!("/hooks/{hook}"), &[JSON, by], &body);
            assert!(answer.status < 300, "{hook} {by}: {}", answer.text());
        }
        let none = ask(&surgegate, "POST", &format!("/hooks/{hook}"), &[JSON], &body);
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")), "{hook}");
        let path = format!("/hooks/{hook}/{{key}}");
        let other = ask(&surgegate, "POST", &path, &[JSON, "Authorization: Bearer 0123"], &body);
        assert_eq!(other.status, 403, "{hook}: two keys that disagree");
        assert_eq!(ask(&surgegate, "GET", &path, &[], "").status, 405, "{hook}");
    }
    let text = notification("m", "x").to_string();
    assert_eq!(ask(&surgegate, "POST", "/hooks/sns", &[JSON, &bearer], &text).status, 404);
    let beside = ask(&surgegate, "POST", "/hooks/sns/{key}", &[JSON, "Authorization: Bearer 0123"], &text);
    assert_eq!(beside.status, 200, "its path is enough");
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place <= three.len() { digit } else { '=' });
        }
    }
    out
}

#[test]
fn forms_and_lines_are_read_where_their_sender_sends_them_and_nowhere_else() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let text = "Content-Type: text/plain";
    let send = |path: &str, kind: &str, body: &str| ask(&surgegate, "POST", path, &[kind], body).status;
    assert_eq!(send("/hooks/datadog/{key}", form, "title=CPU%20high&alert_cycle_key=1"), 200);
    assert_eq!(send("/hooks/datadog/{key}", text, "title=CPU%20high"), 415);
    assert_eq!(send("/hooks/zabbix/{key}", text, "status:PROBLEM\nevent_id:1\nsubject:x"), 202);
    assert_eq!(send("/hooks/zabbix/{key}", form, "status:PROBLEM\nevent_id:1\nsubject:x"), 415);
    assert_eq!(send("/hooks/nagios/{key}", form, "hostname=x"), 415);
    assert_eq!(send("/hooks/datadog/{key}", form, r#"{"title":"t"}"#), 200, "mislabelled JSON");
    assert_eq!(send("/hooks/datadog/{key}", "Content-Type: text/xml", "<x/>"), 415);
    for (path, body) in [("/hooks/datadog/{key}", "title=CPU"), ("/hooks/zabbix/{key}", "status:PROBLEM\nevent_id:2")] {
        for json in [JSON, "Content-Type: application/vnd.x+json; charset=utf-8"] {
            let answer = ask(&surgegate, "POST", path, &[json], body);
            assert_eq!((answer.status, &answer.json()["reason"]), (400, &"invalid_json".into()), "{path} {json}");
        }
    }
    let events = forwarded(&surgegate, &recorder);
    let raws: Vec<&str> = events.iter().map(|event| event["raw"].as_str().unwrap()).collect();
    assert!(raws.contains(&"status:PROBLEM\nevent_id:1\nsubject:x"), "as it was sent: {raws:?}");
    assert!(raws.contains(&"title=CPU%20high&alert_cycle_key=1"), "{raws:?}");
}

#[test]
fn a_recovery_that_names_nothing_is_answered_and_goes_nowhere() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let text = "Content-Type: text/plain";
    for (path, kind, body, status) in [
        ("/hooks/zabbix/{key}", JSON, r#"{"status":"OK","subject":"s"}"#, 202),
        ("/hooks/zabbix/{key}", JSON, r#"{"alert_uid":"","state":"ok"}"#, 202),
        ("/hooks/zabbix/{key}", text, "status:OK\nOperational data: 97 %", 202),
        ("/hooks/grafana/{key}", JSON, r#"{"state":"ok","evalMatches":null}"#, 200),
        ("/hooks/cloudevents/{key}", CLOUD, &cloud_event("1").to_string().replace(".alert", ".resolved"), 202),
    ] {
        let answer = ask(&surgegate, "POST", path, &[kind], body);
        assert_eq!((answer.status, answer.outcome()), (status, "unmatched"), "{path} {body}: {}", answer.text());
        let dry = ask(&surgegate, "POST", &format!("{path}?dry_run=1"), &[kind], body).json();
        assert_eq!(dry["events"], json!([{ "outcome": "unmatched", "upstreams": [] }]), "{path} {body}");
    }
    let nameless = ask(&surgegate, "POST", "/hooks/grafana/{key}", &[JSON], r#"{"state":"alerting","evalMatches":[]}"#);
    assert_eq!((nameless.status, nameless.outcome()), (200, "created"));
    assert_eq!(forwarded(&surgegate, &recorder).len(), 1, "the trigger alone");
    surgegate.scrape().assert_books_balance();
}

#[test]
fn a_receiver_of_cloudevents_says_whom_it_lets_send() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let path = "/hooks/cloudevents/{key}";
    let answer = ask(&surgegate, "OPTIONS", path, &["WebHook-Request-Origin: eventemitter.example.com"], "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("webhook-allowed-origin"), Some("eventemitter.example.com"));
    assert_eq!((answer.header("webhook-allowed-rate"), answer.header("allow")), (Some("*"), Some("POST")));
    assert_eq!(ask(&surgegate, "OPTIONS", "/hooks/cloudevents/0123", &[], "").status, 404);
    let large = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "x".repeat(31_000) });
    assert_eq!(post(&surgegate, path, CLOUD, &large).status, 413, "one event has one event's limit");
    let batch = post(&surgegate, path, CLOUD_BATCH, &json!([large, cloud_event("2")]));
    assert_eq!(batch.status, 202, "{}", batch.text());
    wait_until("the one that is too large", || {
        surgegate.scrape().count("dead_letters", &[("upstream", "intake")]) == 1
    });
}

#[test]
fn what_amazon_did_not_sign_is_refused_where_signatures_are_wanted() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, ", sns: { verify: true }");
    let path = "/hooks/sns/{key}";
    let mut body = notification("m-1", "x");
    assert_eq!(post(&surgegate, path, JSON, &body).status, 403, "no signature at all");
    body["SignatureVersion"] = "2".into();
    body["Signature"] = "RVhBTVBMRQ==".into();
    body["Timestamp"] = "2026-03-01T10:02:12.000Z".into();
    for url in ["https://sns.eu-west-1.amazonaws.com.evil.example/c.pem", "http://sns.eu-west-1.amazonaws.com/c.pem"] {
        body["SigningCertURL"] = url.into();
        let answer = post(&surgegate, path, JSON, &body);
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &"not_signed".into()), "{url}");
        assert!(answer.text().contains("SigningCertURL"), "{}", answer.text());
    }
    let raw = ask(&surgegate, "POST", path, &["x-amz-sns-rawdelivery: true"], "text");
    assert_eq!(raw.status, 403, "nobody signs a raw delivery");
    assert_eq!(surgegate.scrape().count("events_rejected_total", &[("reason", "not_signed")]), 4);
    assert!(forwarded(&surgegate, &recorder).is_empty());
}

#[test]
fn a_subscription_waits_for_somebody_to_confirm_it_and_is_counted() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let confirm = |url: &str| {
        let body = json!({ "Type": "SubscriptionConfirmation", "MessageId": "1", "TopicArn": "arn:t", "Token": "t",
            "Message": "x", "SubscribeURL": url });
        post(&surgegate, "/hooks/sns/{key}", "Content-Type: text/plain", &body)
    };
    for url in ["https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription", "https://evil.example/"] {
        let answer = confirm(url);
        assert_eq!((answer.status, answer.outcome()), (200, "ignored"), "{url}");
    }
    let ended = json!({ "Type": "UnsubscribeConfirmation", "MessageId": "2", "TopicArn": "arn:t", "Message": "x" });
    assert_eq!(post(&surgegate, "/hooks/sns/{key}", "Content-Type: text/plain", &ended).status, 200);
    let scrape: Scrape = surgegate.scrape();
    assert_eq!(scrape.count("sns_unconfirmed_total", &[]), 1, "a URL that is not Amazon's asks for nothing");
    assert_eq!(scrape.count("sns_unsubscribed_total", &[]), 1);
    assert!(surgegate.said().contains("waits to be confirmed") && !surgegate.said().contains("Token"));
}

#[test]
fn an_event_goes_through_two_proxies_as_cloudevents() {
    let recorder = Recorder::start();
    let last = start(&recorder, "");
    let first = Surgegate::start(&[&format!(
        "integrations:\n  - {{ name: edge, keys: [{{ key: '{KEY}' }}], upstreams: [next] }}\n\
         upstreams:\n  - {{ name: next, kind: cloudevents, url: 'http://{}/hooks/cloudevents', credential: '{KEY}', \
         source: /fleet, type_prefix: com.example }}\n",
        last.ingest()
    )]);
    let icinga = |kind: &str| {
        let data = json!({ "host_state": "DOWN", "host_output": "no route", "n": "1" });
        let body = json!({ "hostname": "db", "notification_type": kind, "data": data });
        assert_eq!(post(&first, "/hooks/icinga/{key}", JSON, &body).status, 202);
    };
    ["PROBLEM", "ACKNOWLEDGEMENT", "RECOVERY"].into_iter().for_each(icinga);
    first.wait_until_delivered();
    let events = forwarded(&last, &recorder);
    let seen: Vec<_> =
        events.iter().map(|event| (event["action"].as_str().unwrap(), event["class"].as_str().unwrap())).collect();
    assert_eq!(
        seen,
        [
            ("trigger", "com.example.triggered"),
            ("acknowledge", "com.example.acknowledged"),
            ("resolve", "com.example.resolved")
        ]
    );
    let trigger = &events[0];
    assert_eq!((&trigger["key"], &trigger["severity"]), (&"edge:icinga:db".into(), &5.into()));
    assert_eq!((&trigger["title"], &trigger["description"]), (&"db is DOWN".into(), &"no route".into()));
    assert_eq!(trigger["source"], "/fleet");
    assert!(
        trigger["extra"]["data"]["extra"].to_string().contains(r#""n":"1""#),
        "nothing is lost on the way: {trigger}"
    );
}
