//! PagerDuty's dialects from outside (contracts/pagerduty.md): the key in the body and the order of checks around it, the
//! life of a key over both APIs, change events, and a published client.

use serde_json::{Value, json};

use crate::harness::{Answer, Recorder, Reply, Surgegate, request, wait_until};

mod secrets;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const UPSTREAM_KEY: &str = "77777777777777777777777777777777";
const V2: &str = "/v2/enqueue";
const V1: &str = "/generic/2010-04-15/create_event.json";
const CHANGE: &str = "/v2/change/enqueue";

/// Two integrations, the second as told, and one upstream of this kind.
fn configuration(kind: &str, recorder: &Recorder, other: &str) -> String {
    let credential = if kind == "pagerduty" { format!(", credential: '{UPSTREAM_KEY}'") } else { String::new() };
    // Of `pagerduty` the base; `/hook` stands below it otherwise.
    let url = recorder.url();
    let url = if kind == "pagerduty" { url.trim_end_matches("/hook") } else { &url };
    format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [target] }}\n\
         \x20 - {{ name: other, keys: [{{ key: '{OTHER}' }}], upstreams: [target]{other} }}\n\
         upstreams:\n  - {{ name: target, kind: {kind}, url: '{url}'{credential} }}\n"
    )
}

fn trigger(key: &str, dedup_key: &str) -> String {
    json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "payload": { "summary": "disk full", "source": "db-7", "severity": "error" },
    })
    .to_string()
}

fn errors(answer: &Answer) -> Value {
    answer.json()["errors"].clone()
}

#[test]
fn a_key_lives_over_both_apis_until_it_is_resolved_and_no_resolve_changes_its_title() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let by_v1 = |action: &str, more: &str| {
        format!(
            r#"{{"service_key":"{KEY}","event_type":"{action}","incident_key":"6","event_action":"","payload":null{more}}}"#
        )
    };
    let resolve = json!({
        "routing_key": KEY,
        "event_action": "resolve",
        "dedup_key": "6",
        "payload": { "summary": "[RESOLVED] disk", "source": "db-7", "severity": "critical" },
    });
    let number = trigger(KEY, "x").replace("\"x\"", "6");
    for (path, body, status, outcome) in [
        (V2, number, 202, "created"),
        (V2, trigger(KEY, "6"), 202, "duplicate"),
        (V1, by_v1("trigger", r#","description":"again""#), 200, "duplicate"),
        (V1, by_v1("acknowledge", ""), 200, "acknowledged"),
        (V2, trigger(OTHER, "6"), 202, "created"),
        (V2, resolve.to_string(), 202, "resolved"),
        (V1, by_v1("resolve", ""), 200, "duplicate_resolve"),
        (V2, trigger(KEY, "6"), 202, "created"),
    ] {
        let answer = surgegate.post(path, &body);
        assert_eq!((answer.status, answer.outcome()), (status, outcome), "{body}: {}", answer.text());
        let member = if path == V1 { "incident_key" } else { "dedup_key" };
        assert_eq!(answer.json(), json!({ "status": "success", "message": "Event processed", member: "6" }));
    }
    surgegate.wait_until_delivered();
    let events = recorder.events();
    let resolved = events.iter().find(|event| event["action"] == "resolve").unwrap();
    assert_eq!((&resolved["title"], &resolved["severity"]), (&Value::Null, &Value::Null), "{resolved}");
    assert_eq!(resolved["extra"]["payload"]["summary"], "[RESOLVED] disk", "what it said is not lost");
    assert_eq!(events.len(), 5);
}

#[test]
fn a_trigger_without_a_key_is_given_one_and_never_deduplicates() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let mut body: Value = serde_json::from_str(&trigger(KEY, "")).unwrap();
    let made: Vec<String> = [json!(""), json!("  "), Value::Null]
        .into_iter()
        .map(|blank| {
            body["dedup_key"] = blank;
            let answer = surgegate.post(V2, body.to_string());
            assert_eq!(answer.outcome(), "created");
            answer.json()["dedup_key"].as_str().unwrap().to_owned()
        })
        .collect();
    for key in &made {
        let parts: Vec<&str> = key.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{key}");
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{key} is no version 4");
        let resolve = json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": key });
        assert_eq!(surgegate.post(V2, resolve.to_string()).outcome(), "resolved", "{key}");
    }
    surgegate.wait_until_delivered();
    let keys: std::collections::BTreeSet<&String> = made.iter().collect();
    assert_eq!((keys.len(), recorder.count()), (3, 6));
}

#[test]
fn checks_that_need_no_key_come_before_the_key_and_are_answered_in_the_vendors_form() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, ", body_bytes: 100000")]);
    let post = |path: &str, kind: &str, body: &[u8]| {
        let mut connection = surgegate.connect();
        connection.send(request("POST", path, &[&format!("Content-Type: {kind}")], body)).unwrap();
        connection.answer().unwrap()
    };
    let padded = |key: &str, size: usize| {
        let body = trigger(key, "k");
        body.replace("disk full", &"x".repeat(size - body.len() + "disk full".len()))
    };
    let unrecognized = "unrecognized object";
    for path in [V2, V1, CHANGE] {
        // Not even the size of a stranger's body is looked at by its key: the largest that anybody may send.
        let answer = post(path, "application/json", padded("nobody", 100_001).as_bytes());
        assert_eq!((answer.status, &answer.json()["status"]), (413, &json!("invalid event")), "{}", answer.text());
        let answer = post(path, "text/xml", b"{}");
        assert_eq!((answer.status, &answer.json()["status"]), (400, &json!(unrecognized)), "{}", answer.text());
        for broken in [&b"{"[..], b"[]", b"", b"{\"routing_key\":\"\xff\"}"] {
            let answer = post(path, "application/json", broken);
            assert_eq!((answer.status, errors(&answer)), (400, json!(["JSON parse error"])), "{}", answer.text());
            assert_eq!(answer.json()["status"], unrecognized);
        }
        for key in [
            "",
            r#""routing_key":null,"#,
            r#""routing_key":5,"service_key":[],"#,
            r#""routing_key":"no","service_key":"no","#,
        ] {
            let answer = post(path, "application/json", format!("{{{key}\"event_action\":1}}").as_bytes());
            assert_eq!((answer.status, errors(&answer)), (400, json!(["Invalid routing key"])), "{}", answer.text());
            assert_eq!(answer.json()["status"], "invalid event");
        }
    }
    let received = || surgegate.scrape().count("events_received_total", &[]);
    assert_eq!(received(), 0, "none of these is an event");
    // With the key known, its own limit holds.
    let answer = post(V2, "application/json", padded(KEY, 30_721).as_bytes());
    assert_eq!((answer.status, &answer.json()["message"]), (413, &json!("Event object is invalid")));
    assert_eq!(post(V2, "application/json", padded(KEY, 30_720).as_bytes()).status, 202);
    assert_eq!(post(V2, "application/json", padded(OTHER, 100_000).as_bytes()).status, 202);
    assert_eq!(received(), 3);
    surgegate.wait_until_delivered();
}

#[test]
fn a_key_that_may_not_send_is_answered_as_one_that_nobody_knows() {
    let recorder = Recorder::start();
    let wanted = {
        let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
        surgegate.post(V2, trigger("00000000000000000000000000000000", "k"))
    };
    for other in [", enabled: false", ", dialects: [squadcast, pagerduty_v1]", ", source_networks: [10.0.0.0/8]"] {
        let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, other)]);
        let answer = surgegate.post(V2, trigger(OTHER, "k"));
        assert_eq!((answer.status, answer.text()), (wanted.status, wanted.text()), "{other}");
        assert_eq!(answer.header("retry-after"), None);
    }
    assert_eq!((wanted.status, errors(&wanted)), (400, json!(["Invalid routing key"])));
    assert_eq!(recorder.count(), 0);
}

#[test]
fn only_wrong_keys_are_charged_to_the_bucket_of_strangers_and_a_good_key_is_never_refused_by_it() {
    let recorder = Recorder::start();
    let limit = "limits: { unauthenticated_requests_per_second: 1 }\n";
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, ""), limit]);
    let mut closed = 0;
    for number in 0..50 {
        let answer = surgegate.post(V2, trigger("no", "k"));
        assert_eq!(answer.status, 400);
        closed += usize::from(answer.header("connection") == Some("close"));
        let answer = surgegate.post(V2, trigger(KEY, &format!("k-{number}")));
        assert_eq!((answer.status, answer.header("connection")), (202, None));
    }
    assert!(closed > 20, "{closed} of 50 lost their connections");
}

#[test]
fn strangers_hold_what_they_sent_and_never_the_room_of_those_who_are_known() {
    let recorder = Recorder::start();
    let little = "limits: { body_bytes_in_flight: 1MiB, batch_body_bytes: 64KiB, body_timeout: 60s, body_bytes_per_second: 1 }\n";
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, ""), little]);
    let head =
        format!("POST {V2} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 30000\r\n\r\n");
    let open = |bytes: usize| {
        let mut connection = surgegate.connect();
        connection.send(&head).unwrap();
        connection.send(vec![b' '; bytes]).unwrap();
        connection
    };
    let squadcast = |number: usize| {
        let body = format!(r#"{{"message":"m","description":"d","event_id":"s-{number}"}}"#);
        surgegate.post(&format!("/v2/incidents/api/{KEY}"), body).status
    };
    // Much is announced, and little sent: it costs nobody anything.
    let idle: Vec<_> = (0..200).map(|_| open(10)).collect();
    wait_until("all of them in work", || surgegate.scrape().count("http_requests_in_flight", &[]) >= 200);
    for number in 0..20 {
        assert_eq!((surgegate.post(V2, trigger(KEY, &number.to_string())).status, squadcast(number)), (202, 202));
    }
    drop(idle);
    // As much is sent as would fill the whole: their own part is all that they can have.
    let full: Vec<_> = (0..40).map(|_| open(29_000)).collect();
    let refused = || surgegate.scrape().count("http_requests_total", &[("dialect", "pagerduty_v2"), ("code", "503")]);
    // Eighteen have room in half of it.
    wait_until("no room for strangers", || refused() >= 22);
    for number in 20..40 {
        assert_eq!(squadcast(number), 202);
    }
    drop(full);
    wait_until("room again", || surgegate.post(V2, trigger(KEY, "late")).status == 202);
    surgegate.wait_until_delivered();
}

#[test]
fn overload_is_429_to_v2_and_403_to_v1_and_says_when_to_come_back() {
    let recorder = Recorder::start();
    let limit = ", rate_limit: { events_per_second: 1, burst: 1 }";
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, limit)]);
    let body = |number: usize| {
        let body: Value = serde_json::from_str(&trigger(OTHER, &format!("k-{number}"))).unwrap();
        let mut both = body.clone();
        both["service_key"] = body["routing_key"].clone();
        both["event_type"] = "trigger".into();
        both["description"] = "disk".into();
        both["incident_key"] = body["dedup_key"].clone();
        both.to_string()
    };
    let mut refused = Vec::new();
    for number in 0..40 {
        let path = [V2, V1][number % 2];
        let answer = surgegate.post(path, body(number));
        if answer.status >= 300 {
            assert_eq!(answer.status, [429, 403][number % 2], "{}", answer.text());
            assert_eq!(answer.json()["status"], "throttle exceeded");
            assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 1));
            refused.push(number % 2);
        }
    }
    assert!(refused.contains(&0) && refused.contains(&1), "{refused:?}");
    surgegate.wait_until_delivered();
}

#[test]
fn a_change_goes_to_those_who_can_be_told_and_is_dropped_with_success_where_nobody_can() {
    let body = json!({ "routing_key": KEY, "payload": { "summary": "deployed 1.4.2" }, "links": [{ "href": "https://ci/2" }] });
    for (kind, outcome) in [("pagerduty", "forwarded"), ("squadcast", "ignored")] {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&configuration(kind, &recorder, "")]);
        let answer = surgegate.post(CHANGE, body.to_string());
        assert_eq!((answer.status, answer.outcome()), (202, outcome), "{kind}");
        assert_eq!(answer.json(), json!({ "status": "success", "message": "Change event processed" }));
        let scrape = surgegate.wait_until_delivered();
        let sent: Vec<(String, String)> = recorder
            .requests()
            .iter()
            .map(|sent| (sent.path.clone(), String::from_utf8_lossy(&sent.body).into_owned()))
            .collect();
        if kind == "pagerduty" {
            assert_eq!(sent, [(CHANGE.to_owned(), body.to_string().replace(KEY, UPSTREAM_KEY))]);
        } else {
            assert_eq!((sent.len(), scrape.count("events_absorbed_total", &[("outcome", "ignored")])), (0, 1));
        }
    }
}

#[test]
fn the_vendors_own_form_goes_on_byte_for_byte_but_for_the_key() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("pagerduty", &recorder, "")
        .replace(&format!("  - {{ name: other, keys: [{{ key: '{OTHER}' }}], upstreams: [target] }}\n"), "")]);
    let own = |key: &str| {
        format!(
            "{{ \"payload\" : {{\"summary\":\"a \\u0062\",\"source\":\"s\",\"severity\":\"info\",\"custom_details\":{{\"load\":1.50}}}},\
             \n\"dedup_key\":\"k\",\"event_action\":\"trigger\" ,\"routing_key\" : \"{key}\" }}"
        )
    };
    assert_eq!(surgegate.post(V2, own(KEY)).outcome(), "created");
    wait_until("the trigger", || recorder.count() == 1);
    let v1 = json!({ "service_key": KEY, "event_type": "Acknowledge", "incident_key": "k" });
    assert_eq!(surgegate.post(V1, v1.to_string()).outcome(), "acknowledged");
    wait_until("the acknowledge", || recorder.count() == 2);
    let [trigger, acknowledge] = &recorder.requests()[..] else { panic!("two requests") };
    assert_eq!((&*trigger.path, &*trigger.body), (V2, own(UPSTREAM_KEY).as_bytes()));
    let encoded: Value = serde_json::from_slice(&acknowledge.body).unwrap();
    assert_eq!(encoded, json!({ "routing_key": UPSTREAM_KEY, "event_action": "acknowledge", "dedup_key": "k" }));
}

/// 1,020 bytes: in the log, its checkpoint, and on the way back.
#[test]
fn a_key_of_255_characters_lives_on_over_restarts_however_many_bytes_it_takes() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&configuration("pagerduty", &recorder, "")
        .replace(&format!("  - {{ name: other, keys: [{{ key: '{OTHER}' }}], upstreams: [target] }}\n"), "")]);
    let key = "\u{1F525}".repeat(255);
    let v1 = |action: &str, key: &str| {
        json!({ "service_key": KEY, "event_type": action, "incident_key": key, "description": "fire" }).to_string()
    };
    assert_eq!(surgegate.post(V2, trigger(KEY, &key)).outcome(), "created");
    surgegate.wait_until_delivered();
    assert!(surgegate.stop().success());
    surgegate.start_again();
    assert_eq!(surgegate.post(V1, v1("trigger", &key)).outcome(), "duplicate");
    surgegate.kill();
    surgegate.start_again();
    let answer = surgegate.post(V1, v1("resolve", &key));
    assert_eq!((answer.outcome(), &answer.json()["incident_key"]), ("resolved", &json!(key)));
    surgegate.wait_until_delivered();
    let keys: Vec<Value> = recorder.requests().iter().map(|request| request.json()["dedup_key"].clone()).collect();
    assert_eq!(keys, [json!(key), json!(key)]);
    let refused = surgegate.post(V1, v1("trigger", &format!("{key}a")));
    assert_eq!(errors(&refused), json!(["'incident_key' is too long (maximum is 255 characters)"]));
}

/// The vendor's own client for Python, installed by scripts/install-tools.sh.
#[test]
fn the_published_client_creates_repeats_acknowledges_and_resolves() {
    let recorder = Recorder::scripted(|_| Reply::Status(200));
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), std::path::PathBuf::from);
    let python = target.join("tools/clients/bin/python");
    assert!(python.exists(), "no published clients at {}: run scripts/install-tools.sh", python.display());
    let address = format!("http://{}", surgegate.ingest());
    let script = here.join("tests/clients/pagerduty_events.py");
    let said = std::process::Command::new(python).arg(script).args([&address, KEY]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&said.stdout).trim(), "ok", "{}", text(&said.stderr));
    surgegate.wait_until_delivered();
    let told = recorder.told_by_incident();
    assert_eq!(told, [&["trigger", "acknowledge", "resolve"][..], &["trigger", "resolve"], &["change"]]);
}
