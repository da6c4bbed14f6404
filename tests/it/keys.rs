//! Keys of the configuration that no other promise shows: each does on the running binary what its line in the reference
//! says.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::{KEY, PATH, Recorder, Reply, Surgegate, request, resolve, standard, trigger, wait_until};

/// One integration with these further lines, one upstream with those.
fn with(recorder: &Recorder, integration: &str, upstream: &str) -> String {
    format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager]{integration} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}'{upstream} }}\n",
        recorder.url()
    )
}

fn of_severity(key: &str, severity: &str) -> String {
    format!(r#"{{"message":"m","description":"d","event_id":"{key}","tags":{{"severity":{{"value":"{severity}"}}}}}}"#)
}

fn outcome(surgegate: &Surgegate, body: impl AsRef<[u8]>) -> (u16, String) {
    let answer = surgegate.post(PATH, body);
    (answer.status, answer.header("x-surgegate-outcome").unwrap_or_default().to_owned())
}

fn said(status: u16, outcome: &str) -> (u16, String) {
    (status, outcome.to_owned())
}

#[test]
fn forward_duplicates_says_which_repeats_go_upstream() {
    for (value, forwarded) in [("none", 1), ("severity_increase", 2), ("all", 3)] {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&with(&recorder, &format!(", forward_duplicates: {value}"), "")]);
        for severity in ["low", "low", "critical"] {
            assert_eq!(surgegate.post(PATH, of_severity("k", severity)).status, 202);
        }
        surgegate.wait_until_delivered().assert_books_balance();
        assert_eq!(recorder.count(), forwarded, "{value}");
    }
}

#[test]
fn unknown_resolve_says_what_becomes_of_a_resolve_that_nobody_waits_for() {
    for (value, status, forwarded) in [("forward_if_keyed", 202, 1), ("drop", 202, 0), ("reject", 400, 0)] {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&with(&recorder, &format!(", unknown_resolve: {value}"), "")]);
        let answer = surgegate.post(PATH, resolve("nobody"));
        assert_eq!(answer.status, status, "{value}: {}", answer.text());
        surgegate.wait_until_delivered().assert_books_balance();
        assert_eq!(recorder.count(), forwarded, "{value}");
        if status == 400 {
            assert!(answer.text().contains("unknown_resolve"), "{}", answer.text());
        }
    }
}

#[test]
fn severity_description_and_status_are_as_the_integration_says() {
    let recorder = Recorder::start();
    let more = ", default_severity: 2, require_description: false, success_status: 200";
    let surgegate = Surgegate::start(&[&with(&recorder, more, "")]);
    assert_eq!(surgegate.post(PATH, r#"{"message":"m","event_id":"a"}"#).status, 200);
    assert_eq!(surgegate.post(PATH, of_severity("b", "critical")).status, 200);
    surgegate.wait_until_delivered();
    let severities: Vec<Value> = recorder.events().iter().map(|event| event["severity"].clone()).collect();
    assert_eq!(severities, [2, 5]);

    let usual = Surgegate::start(&[&standard(&recorder)]);
    let refused = usual.post(PATH, r#"{"message":"m","event_id":"a"}"#);
    assert!(refused.status == 400 && refused.text().contains("description"), "{}", refused.text());
}

#[test]
fn an_integration_may_have_a_smaller_body_than_the_others() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&with(&recorder, ", body_bytes: 100", "")]);
    let of = |bytes: usize| format!("{}{}", trigger("k"), " ".repeat(bytes - trigger("k").len()));
    assert_eq!(surgegate.post(PATH, of(100)).status, 202);
    assert_eq!(surgegate.post(PATH, of(101)).status, 413);
}

#[test]
fn heads_are_held_to_their_number_and_their_size() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { headers: 8, header_bytes: 8KiB }\n"]);
    let status = |fields: &[&str]| {
        let mut connection = surgegate.connect();
        connection.send(request("POST", PATH, fields, trigger("k"))).unwrap();
        connection.answer().unwrap().status
    };
    // Beside Host and Content-Length.
    assert_eq!(status(&["A: 1"; 6]), 202);
    assert_eq!(status(&["A: 1"; 7]), 431);
    let long = format!("A: {}", "x".repeat(7000));
    assert_eq!(status(&[&long]), 202);
    let longer = format!("A: {}", "x".repeat(9000));
    assert_eq!(status(&[&longer]), 431);
}

#[test]
fn bodies_in_flight_share_one_budget() {
    let recorder = Recorder::start();
    let limits =
        "limits: { body_bytes: 400KiB, batch_body_bytes: 1MiB, body_bytes_in_flight: 1MiB, body_timeout: 1m }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), limits]);
    let begin = || {
        let mut connection = surgegate.connect();
        connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Length: 409600\r\n\r\n{{")).unwrap();
        connection
    };
    let held = [begin(), begin()];
    wait_until("two to be read", || surgegate.scrape().count("events_in_flight", &[]) == 2);
    let refused = begin().answer().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("body_budget") && refused.header("retry-after").is_some());
    drop(held);
    wait_until("room again", || surgegate.post(PATH, format!("{}{}", trigger("k"), " ".repeat(300_000))).status == 202);
}

#[test]
fn a_webhook_is_signed_with_its_credential_written_or_in_a_file() {
    let secret = [7_u8; 24];
    let written = format!("whsec_{}", STANDARD.encode(secret));
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, format!("{written}\n")).unwrap();
    for upstream in [format!(", credential: '{written}'"), format!(", credential_file: '{}'", file.display())] {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&with(&recorder, "", &upstream)]);
        assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
        surgegate.wait_until_delivered();
        let sent = &recorder.requests()[0];
        let field = |name: &str| sent.headers[name].to_str().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{}.{}.", field("webhook-id"), field("webhook-timestamp")).as_bytes());
        mac.update(&sent.body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(field("webhook-signature"), signature);
        assert_eq!(field("webhook-id"), recorder.events()[0]["event_uid"]);
    }
}

#[test]
fn a_batch_holds_what_came_within_its_time() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&with(&recorder, "", ", batch: { max_events: 3, max_wait: 30s }")]);
    for number in 0..6 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("k-{number}"))).status, 202);
    }
    surgegate.wait_until_delivered().assert_books_balance();
    // Full ones do not wait for their time.
    let sizes: Vec<usize> = recorder.requests().iter().map(|sent| sent.events().len()).collect();
    assert_eq!(sizes, [3, 3]);
    assert!(recorder.requests()[0].body.starts_with(b"["));
}

#[test]
fn squadcast_gets_bodies_as_they_came_or_made_anew() {
    let body = r#"{ "message" : "m", "description" : "d", "event_id" : "k", "odd" : [1] }"#;
    for (mode, same) in [("", true), (", mode: verbatim", true), (", mode: normalized", false)] {
        let recorder = Recorder::start();
        let url = recorder.url().replace("/hook", "");
        let text = format!(
            "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n\
             upstreams:\n  - {{ name: pager, kind: squadcast, url: '{url}', credential: abc123{mode} }}\n"
        );
        let surgegate = Surgegate::start(&[&text]);
        assert_eq!(surgegate.post(PATH, body).status, 202);
        surgegate.wait_until_delivered();
        let sent = &recorder.requests()[0];
        assert_eq!(sent.path, "/v2/incidents/api/abc123");
        assert_eq!(sent.body == body, same, "{mode}: {:?}", sent.body);
        let event = &sent.events()[0];
        assert_eq!((&event["message"], &event["event_id"]), (&"m".into(), &"k".into()));
    }
}

#[test]
fn standard_output_gets_an_event_a_line() {
    let text = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [out] }}\n\
         upstreams:\n  - {{ name: out, kind: stdout }}\n"
    );
    let surgegate = Surgegate::start(&[&text]);
    assert_eq!(surgegate.post(PATH, trigger("a-line")).status, 202);
    surgegate.wait_until_delivered();
    wait_until("the line", || surgegate.said().contains("a-line"));
    let said = surgegate.said();
    let line = said.lines().find(|line| line.contains("a-line")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&event["schema"], &event["key"], &event["action"]), (&1.into(), &"a-line".into(), &"trigger".into()));
}

#[test]
fn an_event_that_fails_too_long_is_given_up() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let surgegate = Surgegate::start(&[&with(&recorder, "", ", give_up_after: 1s")]);
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    wait_until("the dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    surgegate.scrape().assert_books_balance();
    assert!(recorder.count() > 1, "it was tried once only");
}

#[test]
fn a_refused_trigger_is_tried_again_once_in_redeliver_after() {
    for (time, again) in [("1h", false), ("1s", true)] {
        let recorder = Recorder::scripted(|_| Reply::Status(400));
        let surgegate = Surgegate::start(&[&with(&recorder, "", &format!(", redeliver_after: {time}"))]);
        assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
        wait_until("the dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
        // The first repeat is always tried, then at most one in that time.
        assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
        wait_until("the second try", || recorder.count() == 2);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
        surgegate.wait_until_delivered().assert_books_balance();
        assert_eq!(recorder.count(), if again { 3 } else { 2 }, "{time}");
    }
}

#[test]
fn incidents_are_forgotten_after_their_times() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "dedup: { open_ttl: 2s, resolved_ttl: 2s }\n"]);
    assert_eq!(outcome(&surgegate, trigger("open")), said(202, "created"));
    assert_eq!(outcome(&surgegate, trigger("shut")), said(202, "created"));
    assert_eq!(outcome(&surgegate, resolve("shut")), said(202, "resolved"));
    assert_eq!(outcome(&surgegate, trigger("open")), said(202, "duplicate"));
    assert_eq!(outcome(&surgegate, resolve("shut")), said(202, "duplicate_resolve"));
    // Stamps are kept in whole seconds.
    std::thread::sleep(Duration::from_millis(4200));
    assert_eq!(outcome(&surgegate, trigger("open")), said(202, "created"));
    assert_eq!(outcome(&surgegate, resolve("shut")), said(202, "unknown"));
}

#[test]
fn past_max_keys_events_go_on_without_being_known() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "dedup: { max_keys: 2 }\n"]);
    for key in ["a", "b", "c", "c", "a"] {
        assert_eq!(surgegate.post(PATH, trigger(key)).status, 202);
    }
    let scrape = surgegate.wait_until_delivered();
    scrape.assert_books_balance();
    assert_eq!(scrape.count("dedup_untracked_total", &[]), 2);
    assert_eq!(recorder.count(), 4);
}

#[test]
fn dead_letters_take_no_more_of_the_index_than_their_part() {
    const MANY: usize = 1100;
    let recorder = Recorder::scripted(|_| Reply::Status(400));
    let surgegate = Surgegate::start(&[&standard(&recorder), "spool: { index_bytes: 1MiB }\n"]);
    let mut connection = surgegate.connect();
    for number in 0..MANY {
        assert_eq!(connection.post(PATH, trigger(&format!("k-{number}"))).unwrap().status, 202);
    }
    wait_until("all to be refused", || surgegate.scrape().count("spool_events", &[]) == 0);
    let scrape = surgegate.scrape();
    scrape.assert_books_balance();
    assert_eq!(scrape.count("dead_letters", &[]), 1024);
    let gone = scrape.count("events_dropped_total", &[("reason", "dead_letter_space")]);
    assert_eq!(gone, MANY as u64 - 1024);
}

/// A key that is good and may not speak the dialect: 403 everywhere, but for PagerDuty, which answers as to a wrong key
/// (contracts 2.2).
#[test]
fn an_integration_speaks_the_dialects_it_is_allowed_alone() {
    let key = "5ca1ab1e0123456789abcdef01234567";
    let recorder = crate::harness::Recorder::start();
    let authorized = |scheme: &str| format!("Authorization: {scheme} {key}");
    let enqueue = format!(
        r#"{{"routing_key":"{key}","service_key":"{key}","event_action":"trigger","event_type":"trigger","description":"d","payload":{{"summary":"s","source":"s","severity":"error"}}}}"#
    );
    // The dialect, a request of it, and what is answered where another dialect alone is allowed.
    let requests: Vec<(&str, &str, String, String, &str, u16)> = vec![
        (
            "squadcast",
            "POST",
            format!("/v2/incidents/api/{key}"),
            String::new(),
            r#"{"message":"m","description":"d"}"#,
            403,
        ),
        (
            "incidentio_v1",
            "POST",
            "/v1/incidents".into(),
            authorized("Bearer"),
            r#"{"idempotency_key":"k","visibility":"private"}"#,
            403,
        ),
        (
            "incidentio_v2",
            "POST",
            "/v2/incidents".into(),
            authorized("Bearer"),
            r#"{"idempotency_key":"k","visibility":"private","severity_id":"s"}"#,
            403,
        ),
        ("taskcall", "POST", "/create".into(), authorized("token"), r#"{"title":"t","users":["u"]}"#, 403),
        ("alertmanager", "POST", format!("/hooks/alertmanager/{key}"), String::new(), r#"{"alerts":[]}"#, 403),
        ("grafana", "POST", format!("/hooks/grafana/{key}"), String::new(), r#"{"alerts":[]}"#, 403),
        ("opsgenie", "POST", "/v2/alerts".into(), authorized("GenieKey"), r#"{"message":"m"}"#, 403),
        ("pagerduty_v2", "POST", "/v2/enqueue".into(), String::new(), &enqueue, 400),
        ("pagerduty_v1", "POST", "/generic/2010-04-15/create_event.json".into(), String::new(), &enqueue, 400),
        ("pagerduty_change", "POST", "/v2/change/enqueue".into(), String::new(), &enqueue, 400),
    ];
    let names: Vec<_> = requests.iter().map(|row| row.0).collect();
    for allowed in &names {
        let configuration = format!(
            "integrations:\n  - name: payments\n    keys: [{{ key: {key} }}]\n    dialects: [{allowed}]\n    upstreams: [pager]\n\
             upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
            recorder.url()
        );
        let surgegate = crate::harness::Surgegate::start(&[&configuration]);
        for (dialect, method, path, authorization, body, refused) in &requests {
            let fields: Vec<&str> = ["Content-Type: application/json", authorization]
                .into_iter()
                .filter(|field| !field.is_empty())
                .collect();
            let mut connection = surgegate.connect();
            connection.send(crate::harness::request(method, path, &fields, body)).unwrap();
            let answer = connection.answer().unwrap();
            if dialect == allowed {
                assert!(answer.status < 300, "{dialect}: {answer:?}");
            } else {
                assert_eq!(answer.status, *refused, "{dialect} where {allowed} is allowed: {answer:?}");
            }
        }
    }
}
