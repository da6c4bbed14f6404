//! Requests with many events against the real binary (DESIGN 5.1, contracts/alertmanager.md): what is free is taken, what is
//! bad is kept alone, and what was not taken is asked for again.

mod folding;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, KEY, Raw, Recorder, Reply, Surgegate, request, seed, wait_for, wait_until};

const JSON: &str = "Content-Type: application/json";

fn path() -> String {
    format!("/hooks/alertmanager/{KEY}")
}

fn alert(status: &str, key: &str) -> Value {
    json!({"status": status, "labels": {"alertname": "Disk", "instance": key}, "annotations": {"summary": "disk full"},
        "startsAt": "2026-03-01T10:02:11.315Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": key})
}

fn group(alerts: &[Value]) -> String {
    json!({"receiver": "edge", "status": "firing", "alerts": alerts, "groupLabels": {"alertname": "Disk"}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://am", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0})
    .to_string()
}

fn firing(keys: impl IntoIterator<Item = usize>) -> Vec<Value> {
    keys.into_iter().map(|key| alert("firing", &format!("{key:016x}"))).collect()
}

/// One integration with these further keys, to a webhook.
fn configuration(recorder: &Recorder, integration: &str) -> String {
    format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager]{integration} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )
}

fn count(answer: &Answer, name: &str) -> u64 {
    answer.json()[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}", answer.text()))
}

/// What arrived of each key, in order, each event once.
fn arrived(recorder: &Recorder) -> BTreeMap<String, Vec<String>> {
    let (mut keys, mut seen) = (BTreeMap::<String, Vec<String>>::new(), BTreeSet::new());
    for event in recorder.events() {
        assert!(seen.insert(event["event_uid"].to_string()), "twice: {event}");
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        keys.entry(text("key")).or_default().push(text("action"));
    }
    keys
}

#[test]
fn two_and_a_half_thousand_alerts_cost_few_syncs_and_each_arrives_once() {
    let recorder = Recorder::scripted(|_| Reply::Hang);
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let syncs = || surgegate.scrape().count("spool_sync_duration_seconds_count", &[]);
    let before = syncs();
    let answer = surgegate.post(&path(), group(&firing(0..2500)));
    let after = syncs();
    assert_eq!((answer.status, count(&answer, "created"), answer.outcome()), (200, 2500, "created"));
    assert!(after - before < 100, "{} syncs", after - before);
    recorder.answer(|_| Reply::Status(200));
    // What hung is sent again.
    let again = surgegate.post(&path(), group(&firing((0..2500).rev())));
    assert_eq!((count(&again, "duplicate"), again.outcome()), (2500, "duplicate"));
    surgegate.wait_until_delivered();
    let uids: BTreeSet<String> = recorder.events().iter().map(|event| event["event_uid"].to_string()).collect();
    assert_eq!(uids.len(), 2500);
}

#[test]
fn equal_keys_in_one_body_are_decided_in_their_order() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let other = alert("firing", "other");
    let turns = ["firing", "resolved", "resolved", "firing", "firing"].map(|status| alert(status, "same"));
    let answer = surgegate.post(&path(), group(&[&turns[..2], &[other], &turns[2..]].concat()));
    let counts = ["received", "created", "resolved", "duplicate", "rejected"].map(|name| count(&answer, name));
    assert_eq!((answer.status, counts, answer.outcome()), (200, [6, 3, 1, 2, 0], "mixed"));
    surgegate.wait_until_delivered();
    assert_eq!(arrived(&recorder)["same"], ["trigger", "resolve", "trigger"]);
}

#[test]
fn senders_of_one_group_in_different_orders_create_each_incident_once() {
    const ALERTS: usize = 400;
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let mut random = fastrand::Rng::with_seed(seed());
    for status in ["firing", "resolved"] {
        let bodies: Vec<String> = (0..6)
            .map(|_| {
                let mut keys: Vec<usize> = (0..ALERTS).collect();
                random.shuffle(&mut keys);
                let alerts: Vec<Value> = keys.iter().map(|key| alert(status, &format!("{key:016x}"))).collect();
                group(&alerts)
            })
            .collect();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let threads: Vec<_> = bodies
                .iter()
                .map(|body| {
                    scope.spawn({
                        let surgegate = &surgegate;
                        move || surgegate.post(&path(), body)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let changed = if status == "firing" { "created" } else { "resolved" };
        answers.iter().for_each(|answer| assert_eq!(answer.status, 200, "{}", answer.text()));
        let sum = |name| answers.iter().map(|answer| count(answer, name)).sum::<u64>();
        assert_eq!((sum(changed), sum("duplicate")), (ALERTS as u64, 5 * ALERTS as u64));
    }
    surgegate.wait_until_delivered();
    let arrived = arrived(&recorder);
    assert_eq!(arrived.len(), ALERTS);
    arrived.values().for_each(|actions| assert_eq!(*actions, ["trigger", "resolve"]));
}

#[test]
fn what_the_event_limit_refuses_is_asked_for_again_and_the_rest_stays() {
    let recorder = Recorder::start();
    let limit = ", rate_limit: { events_per_second: 4, burst: 5 }";
    let surgegate = Surgegate::start(&[&configuration(&recorder, limit)]);
    let mut alerts = firing(0..12);
    alerts.insert(3, json!("oops"));
    let body = group(&alerts);
    let first = surgegate.post(&path(), &body);
    assert_eq!((first.status, first.json()["reason"].as_str()), (503, Some("event_limit")), "{}", first.text());
    assert!(first.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 1));
    let taken = surgegate.wait_until_delivered();
    assert!((5..12).contains(&recorder.count()), "{} of it stay", recorder.count());
    assert_eq!(taken.count("dead_letters", &[("upstream", "intake")]), 0, "the sender sends it again");
    let mut answers = 0;
    let last = wait_for("all of it", || {
        answers += 1;
        std::thread::sleep(Duration::from_millis(300));
        Some(surgegate.post(&path(), &body)).filter(|answer| answer.status == 200)
    });
    assert!(answers > 1, "it was refused at least twice");
    assert_eq!((count(&last, "received"), count(&last, "rejected")), (13, 1));
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("dead_letters", &[("upstream", "intake")]), 1, "kept once");
    assert_eq!(arrived(&recorder).len(), 12);
}

#[test]
fn a_bad_or_over_size_alert_is_kept_with_its_faults_and_the_others_go_on() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let pad = |key: &str, bytes: usize| {
        let mut alert = alert("firing", key);
        alert["pad"] = "".into();
        let room = bytes - alert.to_string().len();
        alert["pad"] = "x".repeat(room).into();
        alert
    };
    let alerts = [pad("fits", 30_720), alert("pending", "odd"), pad("large", 30_721)];
    let answer = surgegate.post(&path(), group(&alerts));
    assert_eq!((answer.status, count(&answer, "created"), count(&answer, "rejected")), (200, 1, 2));
    let scrape = surgegate.wait_until_delivered();
    for reason in ["invalid_event", "body_too_large"] {
        assert_eq!(scrape.count("events_rejected_total", &[("reason", reason)]), 1, "{reason}");
    }
    assert_eq!(arrived(&recorder).into_keys().collect::<Vec<_>>(), ["fits"]);
    let letters = || {
        let rows = surgegate.admin("/api/v1/dead-letters").json().as_array().unwrap().clone();
        Some(rows).filter(|rows| rows.len() == 2)
    };
    let letters = wait_for("both letters", letters);
    let said = |letter: &Value| {
        (letter["upstream"].as_str().unwrap().to_owned(), letter["reason"].as_str().unwrap().to_owned())
    };
    let all: BTreeSet<_> = letters.iter().map(said).collect();
    let wanted = ["body_too_large", "invalid_event"].map(|reason| ("intake".to_owned(), reason.to_owned()));
    assert_eq!(all, BTreeSet::from(wanted));
    let odd = letters.iter().find(|letter| letter["reason"] == "invalid_event").unwrap();
    let shown = surgegate.admin(&format!("/api/v1/dead-letters/{}", odd["id"].as_str().unwrap())).text();
    assert!(shown.contains("status: must be"), "{shown}");
}

#[test]
fn a_body_that_is_no_batch_is_refused_as_a_whole() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let nested = |levels: usize| {
        let mut alert = alert("firing", "deep");
        alert["x"] = "X".into();
        group(&[alert]).replace("\"X\"", &("[".repeat(levels) + &"]".repeat(levels)))
    };
    let many = "0,".repeat(16_384) + "0";
    for (body, status, reason) in [
        (nested(62), 400, "invalid_json"),
        (group(&firing(0..3)).replace("0000000000000001", "\\ud800"), 400, "invalid_json"),
        (group(&firing(0..3)).replace("\"2026-03-01T10:02:11.315Z\"", "1e999"), 400, "invalid_json"),
        (format!("{{\"alerts\":[{many}]}}"), 413, "body_too_large"),
        (format!("{{\"alerts\":[],\"x\":\"{}\"}}", "x".repeat(30_720)), 413, "body_too_large"),
        (format!("{{\"alerts\":[{{}}],\"x\":\"{}\"}}", "x".repeat(4 << 20)), 413, "body_too_large"),
    ] {
        let answer = surgegate.post(&path(), &body);
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (status, Some(reason)), "{}", answer.text());
    }
    assert_eq!(surgegate.post(&path(), nested(61)).status, 200);
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_received_total", &[]), 7, "a refused body counts once");
    assert_eq!(recorder.count(), 1);
}

#[test]
fn each_event_of_a_batch_is_told_to_who_watches() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    surgegate.post(&path(), group(&[alert("firing", "b")]));
    let mut tap = Raw::connect(surgegate.admin_address());
    tap.send("GET /api/v1/tap HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_until("a listener", || surgegate.admin("/api/v1/status").json()["tap_listeners"] == 1);
    // The second waits for the first: what is decided later must not be told of another.
    let alerts = [alert("firing", "a"), alert("resolved", "a"), json!("oops"), alert("firing", "b")];
    surgegate.post(&path(), group(&alerts));
    let mut text = String::new();
    wait_until("four decisions", || {
        use std::io::Read;
        let mut block = [0; 4096];
        let count = tap.stream_mut().read(&mut block).unwrap();
        text += std::str::from_utf8(&block[..count]).unwrap();
        text.matches("\"request_id\"").count() >= 4
    });
    let said: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data.trim()).ok()))
        .filter(|decision| decision.get("request_id").is_some())
        .collect();
    let told: Vec<_> = said
        .iter()
        .map(|one| [&one["action"], &one["outcome"], &one["reason"]].map(|word| word.as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        told,
        [
            ["trigger", "created", "-"],
            ["resolve", "resolved", "-"],
            ["-", "-", "invalid_event"],
            ["trigger", "duplicate", "-"]
        ]
    );
    assert!(said[..3].iter().all(|one| one["event_uid"].is_string()), "{said:?}");
}

#[test]
fn a_batch_that_the_spool_has_no_room_for_is_asked_for_again_and_nothing_of_it_is_lost() {
    let recorder = Recorder::scripted(|_| Reply::Hang);
    let small = "spool: { max_bytes: 16MiB }\n";
    let surgegate = Surgegate::start(&[&configuration(&recorder, ""), small]);
    let body = |from: usize| {
        let mut alerts = firing(from..from + 100);
        for alert in &mut alerts {
            alert["pad"] = "x".repeat(24_000).into();
        }
        group(&alerts)
    };
    let mut taken = 0;
    let refused = wait_for("a full spool", || {
        let answer = surgegate.post(&path(), body(taken));
        taken += 100;
        Some(answer).filter(|answer| answer.status != 200)
    });
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (503, Some("spool_full")), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert!(taken > 100, "some fit");
    recorder.answer(|_| Reply::Status(200));
    wait_until("room for what was refused", || {
        std::thread::sleep(Duration::from_millis(100));
        surgegate.post(&path(), body(taken - 100)).status == 200
    });
    surgegate.wait_until_delivered();
    let uids: BTreeSet<(String, String)> =
        recorder.events().iter().map(|event| (event["key"].to_string(), event["event_uid"].to_string())).collect();
    let keys: BTreeSet<&String> = uids.iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), uids.len()), (taken, taken), "each once, by its uid");
}

#[test]
fn the_key_stands_in_the_path_or_in_a_header_and_both_must_agree() {
    let recorder = Recorder::start();
    let other = "ffffffffffffffffffffffffffffffffffffffff";
    let second = format!("  - {{ name: other, keys: [{{ key: '{other}' }}], upstreams: [pager] }}\nupstreams:");
    let text = configuration(&recorder, "").replace("upstreams:\n", &format!("{second}\n"));
    let surgegate = Surgegate::start(&[&text]);
    let post = |method: &str, path: &str, authorization: Option<String>| {
        let field = authorization.map(|value| format!("Authorization: {value}"));
        let fields: Vec<&str> = [Some(JSON), field.as_deref()].into_iter().flatten().collect();
        let mut connection = surgegate.connect();
        connection.send(request(method, path, &fields, group(&[]))).unwrap();
        let answer = connection.answer().unwrap();
        (answer.status, answer.header("www-authenticate").map(str::to_owned))
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("anyone:{KEY}")));
    let bearer = Some("Bearer".to_owned());
    for hook in ["alertmanager", "grafana"] {
        let (bare, keyed) = (format!("/hooks/{hook}"), format!("/hooks/{hook}/{KEY}"));
        assert_eq!(post("POST", &bare, Some(format!("bearer  {KEY}"))), (200, None));
        assert_eq!(post("POST", &bare, Some(basic.clone())), (200, None));
        assert_eq!(post("POST", &keyed, Some(basic.clone())), (200, None));
        assert_eq!(post("POST", &keyed, Some(format!("Bearer {other}"))), (403, None));
        assert_eq!(post("POST", &keyed, Some("Bearer nobody".into())), (403, None));
        assert_eq!(post("POST", &format!("/hooks/{hook}/nobody"), Some(basic.clone())), (404, None));
        assert_eq!(post("POST", &bare, None), (401, bearer.clone()));
        assert_eq!(post("POST", &bare, Some("Bearer nobody".into())), (401, bearer.clone()));
        assert_eq!(post("GET", &keyed, None).0, 405);
    }
    assert_eq!(post("PUT", &format!("/hooks/grafana/{KEY}"), None).0, 200);
    assert_eq!(post("PUT", &format!("/hooks/alertmanager/{KEY}"), None).0, 405);
}

#[test]
fn a_grafana_that_signs_is_believed_only_with_its_signature() {
    let recorder = Recorder::start();
    let signed = ", grafana_hmac: { secret: s3cret, timestamp_header: X-Time }";
    let surgegate = Surgegate::start(&[&configuration(&recorder, signed)]);
    let body = group(&[alert("firing", "a")]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let sign = |secret: &str, time: u64| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, format!("{time}:{body}").as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        vec![format!("X-Grafana-Alerting-Signature: {hex}"), format!("X-Time: {time}")]
    };
    let post = |path: &str, fields: Vec<String>| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).chain([JSON]).collect();
        let mut connection = surgegate.connect();
        connection.send(request("POST", &format!("{path}/{KEY}"), &fields, &body)).unwrap();
        let answer = connection.answer().unwrap();
        assert!(!answer.text().contains("s3cret"));
        (answer.status, answer.json()["reason"].as_str().map(str::to_owned))
    };
    let refused = (401, Some("invalid_signature".to_owned()));
    assert_eq!(post("/hooks/grafana", Vec::new()), refused);
    assert_eq!(post("/hooks/grafana", sign("other", now)), refused);
    assert_eq!(post("/hooks/grafana", sign("s3cret", now - 301)), refused);
    assert_eq!(recorder.count(), 0);
    assert_eq!(post("/hooks/grafana", sign("s3cret", now)), (200, None));
    assert_eq!(post("/hooks/alertmanager", Vec::new()), (200, None), "only Grafana signs so");
    assert!(!surgegate.said().contains("s3cret"));
}

#[test]
fn a_group_is_one_incident_where_it_is_meant_so() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, ", group_mode: group")]);
    let body = group(&firing(0..300));
    let answer = surgegate.post(&path(), &body);
    assert_eq!((answer.status, count(&answer, "received"), answer.outcome()), (200, 1, "created"));
    assert_eq!(surgegate.post(&path(), &body).outcome(), "duplicate");
    assert_eq!(surgegate.post(&path(), body.replace("firing", "resolved")).outcome(), "resolved");
    surgegate.wait_until_delivered();
    let actions: Vec<_> = arrived(&recorder).into_values().collect();
    assert_eq!(actions, [["trigger", "resolve"]]);
}
