//! What a sender that waits is told, in each dialect: delivered, spooled, refused.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PAIRS, ack, created, dead_letters, dropped, pair};
use crate::harness::{Http2, Recorder, Reply, Stand, Surgegate, wait_until};

const DELIVERED: &str = "ack: delivered";

#[test]
fn an_answer_comes_when_the_upstream_has_the_event() {
    for pair in PAIRS {
        let stand = pair.stand();
        let surgegate = pair.start(&stand, DELIVERED, "");
        let answer = pair.create(&surgegate);
        assert_eq!((answer.outcome(), ack(&answer)), ("created", Some("delivered")), "{} {answer:?}", pair.dialect);
        assert_eq!(created(&stand), 1, "{}: answered before it was there", pair.dialect);
        let again = pair.create(&surgegate);
        let absorbed = ["duplicate", "replayed"].contains(&again.outcome());
        assert!(absorbed && again.status == answer.status, "{} {again:?}", pair.dialect);
        assert_eq!(created(&stand), 1);
        surgegate.wait_until_delivered();
    }
}

#[test]
fn who_waited_in_vain_gets_the_spooled_answer_and_the_event_comes_later() {
    for pair in PAIRS {
        let stand = pair.stand();
        stand.faults(&["hang,times=1"]);
        let surgegate = pair.start(&stand, &format!("{DELIVERED}\n    ack_timeout: 300ms"), ", timeout: 2s");
        let answer = pair.create(&surgegate);
        assert_eq!((answer.outcome(), ack(&answer)), ("created", Some("spooled")), "{} {answer:?}", pair.dialect);
        surgegate.wait_until_delivered();
        assert_eq!(created(&stand), 1, "{}", pair.dialect);
    }
}

#[test]
fn a_refusal_is_told_in_the_dialects_form_and_the_corrected_retry_is_new() {
    for pair in PAIRS {
        let (theirs, ours) = pair.refusal;
        let stand = pair.stand();
        stand.faults(&[&format!("status={theirs},times=2")]);
        let mut surgegate = pair.start(&stand, DELIVERED, "");
        for round in 1..=2 {
            let answer = pair.create(&surgegate);
            assert_eq!((answer.status, ack(&answer)), (ours, None), "{} {answer:?}", pair.dialect);
            check_refusal(pair.dialect, &answer.json());
            assert_eq!((dropped(&surgegate), dead_letters(&surgegate)), (round, 0), "{}", pair.dialect);
            if round == 1 {
                // What was refused stays refused.
                surgegate.kill();
                surgegate.start_again();
                assert_eq!((dropped(&surgegate), created(&stand)), (1, Value::from(0)), "{}", pair.dialect);
            }
        }
        let answer = pair.create(&surgegate);
        assert_eq!((answer.outcome(), ack(&answer)), ("created", Some("delivered")), "{} {answer:?}", pair.dialect);
        assert_eq!(created(&stand), 1);
        surgegate.wait_until_delivered();
    }
}

/// The error body of each dialect (contracts 2.7).
fn check_refusal(dialect: &str, body: &Value) {
    match dialect {
        "squadcast" => assert!(body["status"] == "error" && body["errors"].is_array(), "{body}"),
        "incidentio_v2" | "incidentio_alert" => {
            assert!(body["type"] == "validation_error" && body["status"] == 422 && body["errors"].is_array(), "{body}");
        }
        "taskcall" => assert!(body["error"] == "bad_request" && body["message"].is_string(), "{body}"),
        "pagerduty_v2" => assert!(body["status"] == "invalid event" && body["errors"].is_array(), "{body}"),
        "opsgenie" => assert!(body["errors"].is_object() && body["requestId"].is_string(), "{body}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_refusal_that_is_not_the_senders_fault_says_come_back() {
    // PagerDuty's 403 is not permanent (contracts 7.1).
    for pair in PAIRS.iter().filter(|pair| pair.vendor != "pagerduty") {
        let stand = pair.stand();
        stand.faults(&["status=403,times=1"]);
        let surgegate = pair.start(&stand, DELIVERED, "");
        let answer = pair.create(&surgegate);
        assert_eq!(answer.status, 503, "{} {answer:?}", pair.dialect);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(!answer.text().contains("up-secret"));
        assert_eq!((dropped(&surgegate), dead_letters(&surgegate)), (1, 0));
        assert_eq!(pair.create(&surgegate).outcome(), "created");
    }
}

/// A sender that goes away, or closes its side, may not be there to hear of a refusal: then it is a dead letter.
#[test]
fn nobody_is_told_of_a_refusal_who_may_be_gone() {
    let pair = pair("squadcast");
    for leaves in ["closes", "half", "h2"] {
        let recorder = Recorder::scripted(|_| Reply::After(Duration::from_millis(700), 400));
        let surgegate = Surgegate::start(&[&webhook(&recorder, DELIVERED)]);
        match leaves {
            "closes" => {
                drop(pair.begin(&surgegate));
                recorder.wait_for(1);
            }
            "half" => {
                let mut connection = pair.begin(&surgegate);
                connection.end_of_requests().unwrap();
                let answer = connection.answer().unwrap();
                assert_eq!((answer.status, ack(&answer)), (202, Some("spooled")), "{answer:?}");
            }
            _ => {
                let address = surgegate.ingest();
                let client = thread::spawn(move || {
                    let client = Http2::connect(address);
                    client.post_and_leave(pair.path, pair.create, Duration::from_millis(200));
                });
                recorder.wait_for(1);
                client.join().unwrap();
            }
        }
        wait_until("the dead letter", || dead_letters(&surgegate) == 1);
        assert_eq!(dropped(&surgegate), 0, "{leaves}");
        // Its generation is marked undelivered: the next one goes there again.
        recorder.answer(|_| Reply::Status(200));
        let again = pair.create(&surgegate);
        assert_eq!((again.outcome(), ack(&again)), ("duplicate", Some("delivered")), "{leaves}: {again:?}");
        assert_eq!(recorder.count(), 2);
        wait_until("the first is superseded", || dead_letters(&surgegate) == 0);
    }
}

fn webhook(recorder: &Recorder, integration: &str) -> String {
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {} }}]\n    upstreams: [pager]\n    {integration}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        super::KEY,
        recorder.url()
    )
}

#[test]
fn duplicates_wait_on_the_same_settlement() {
    let pair = pair("squadcast");
    for (status, expected) in [(200, 202), (422, 400)] {
        let recorder = Recorder::scripted(move |_| Reply::After(Duration::from_millis(700), status));
        let surgegate = Surgegate::start(&[&webhook(&recorder, DELIVERED)]);
        let mut first = pair.begin(&surgegate);
        recorder.wait_for(1);
        let mut others: Vec<_> = (0..5).map(|_| pair.begin(&surgegate)).collect();
        let answers: Vec<_> =
            std::iter::once(&mut first).chain(&mut others).map(|client| client.answer().unwrap()).collect();
        for answer in &answers {
            assert_eq!(answer.status, expected, "{answer:?}");
            assert_eq!(ack(answer), (expected == 202).then_some("delivered"), "{answer:?}");
        }
        assert_eq!(recorder.count(), 1);
        assert_eq!(dropped(&surgegate), u64::from(status == 422));
        let scrape = surgegate.scrape();
        let refused = scrape.count("events_rejected_total", &[("reason", "upstream_refused")]);
        let absorbed = scrape.count("events_absorbed_total", &[("outcome", "duplicate")]);
        assert_eq!((refused, absorbed), if status == 422 { (5, 0) } else { (0, 5) });
        scrape.assert_books_balance();
    }
}

/// A duplicate that was told "taken" holds the event, though its first sender still waits.
#[test]
fn who_was_told_that_it_is_taken_may_rely_on_it() {
    let pair = pair("squadcast");
    let recorder = Recorder::scripted(|_| Reply::After(Duration::from_secs(2), 400));
    let surgegate = Surgegate::start(&[&webhook(&recorder, &format!("{DELIVERED}\n    ack_timeout: 1s"))]);
    let mut first = pair.begin(&surgegate);
    recorder.wait_for(1);
    thread::sleep(Duration::from_millis(500));
    let mut second = pair.begin(&surgegate);
    for connection in [&mut first, &mut second] {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, ack(&answer)), (202, Some("spooled")), "{answer:?}");
    }
    wait_until("the dead letter", || dead_letters(&surgegate) == 1);
    assert_eq!(dropped(&surgegate), 0);
}

/// Another change of the key was taken meanwhile: what it was built on stays.
#[test]
fn a_trigger_that_was_resolved_meanwhile_stays_though_it_is_refused() {
    let pair = pair("squadcast");
    let recorder = Recorder::scripted(|_| Reply::After(Duration::from_secs(1), 400));
    let surgegate = Surgegate::start(&[&webhook(&recorder, DELIVERED)]);
    let mut first = pair.begin(&surgegate);
    recorder.wait_for(1);
    let mut resolve = surgegate.connect();
    resolve.send(pair.bytes(r#"{"status":"resolve","event_id":"disk"}"#)).unwrap();
    for connection in [&mut first, &mut resolve] {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, ack(&answer)), (202, Some("spooled")), "{answer:?}");
    }
    wait_until("both as dead letters", || dead_letters(&surgegate) == 2);
}

#[test]
fn a_kill_while_senders_wait_loses_nothing_and_a_kill_after_a_refusal_brings_nothing_back() {
    for pair in PAIRS {
        let stand = pair.stand();
        stand.faults(&["hang,times=1"]);
        let mut surgegate = pair.start(&stand, DELIVERED, ", timeout: 1s");
        let mut client = pair.begin(&surgegate);
        wait_until("the request at the upstream", || stand.requests().len() == 1);
        surgegate.kill();
        assert!(client.answer().is_err(), "{}: answered", pair.dialect);
        surgegate.start_again();
        surgegate.wait_until_delivered();
        assert_eq!(created(&stand), 1, "{}", pair.dialect);
        let again = pair.create(&surgegate);
        assert!(["duplicate", "replayed"].contains(&again.outcome()), "{} {again:?}", pair.dialect);
    }
}

/// Between the upstream's refusal and the answer a kill may come at any moment: whoever was told nothing has its event, as
/// a dead letter whose key goes there again, or has nothing at all.
#[test]
fn a_kill_around_a_refusal_leaves_the_event_or_nothing() {
    let pair = pair("squadcast");
    for delay_ms in [0, 1, 3, 8] {
        let recorder = Recorder::scripted(|_| Reply::Status(400));
        let mut surgegate = Surgegate::start(&[&webhook(&recorder, DELIVERED)]);
        let mut client = pair.begin(&surgegate);
        recorder.wait_for(1);
        thread::sleep(Duration::from_millis(delay_ms));
        surgegate.kill();
        let answered = client.answer().ok();
        assert!(answered.as_ref().is_none_or(|answer| answer.status == 400), "{answered:?}");
        surgegate.start_again();
        wait_until("an end", || surgegate.scrape().count("spool_events", &[]) == 0);
        let (dead, refused) = (dead_letters(&surgegate), dropped(&surgegate));
        assert_eq!(dead + refused, 1);
        if answered.is_some() {
            assert_eq!(dead, 0, "it was told that it is refused");
        }
        recorder.answer(|_| Reply::Status(200));
        let sent = recorder.count();
        let again = pair.create(&surgegate);
        assert_eq!(again.outcome(), if dead == 1 { "duplicate" } else { "created" });
        assert_eq!((ack(&again), recorder.count()), (Some("delivered"), sent + 1), "no retry is silenced");
    }
}

#[test]
fn requests_of_one_http2_connection_wait_side_by_side() {
    let pair = pair("squadcast");
    let recorder = Recorder::scripted(|request| match request.json()["key"].as_str() {
        Some("bad") => Reply::After(Duration::from_millis(300), 400),
        Some("slow") => Reply::After(Duration::from_millis(1500), 200),
        _ => Reply::After(Duration::from_millis(300), 200),
    });
    let surgegate = Surgegate::start(&[&webhook(&recorder, &format!("{DELIVERED}\n    ack_timeout: 900ms"))]);
    let body = |key: &str| bytes::Bytes::from(pair.create.replace("\"disk\"", &format!("\"{key}\"")));
    let client = Http2::connect(surgegate.ingest());
    let answers = client.post_all(pair.path, &["good", "bad", "slow", "bad"].map(body));
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let told: Vec<_> = answers.iter().map(|answer| (answer.status, ack(answer))).collect();
    assert_eq!(told, [(202, Some("delivered")), (400, None), (202, Some("spooled")), (400, None)]);
    surgegate.wait_until_delivered();
}

/// A batch cannot be told that one of its events was refused: those are kept.
#[test]
fn a_batch_waits_for_all_and_keeps_what_was_refused() {
    let recorder = Recorder::scripted(|request| {
        Reply::Status(if request.json()["key"].as_str().unwrap_or_default().starts_with("bad") { 400 } else { 200 })
    });
    let surgegate = Surgegate::start(&[&webhook(&recorder, DELIVERED)]);
    let path = format!("/hooks/alertmanager/{}", super::KEY);
    let alert = |key: &str| {
        format!(
            r#"{{"status":"firing","labels":{{"alertname":"{key}"}},"annotations":{{}},"startsAt":"2026-11-21T10:00:00Z","fingerprint":"{key}"}}"#
        )
    };
    let post = |keys: &[&str]| {
        let alerts: Vec<_> = keys.iter().map(|key| alert(key)).collect();
        let body = format!(
            r#"{{"version":"4","groupKey":"g","status":"firing","receiver":"r","groupLabels":{{}},"commonLabels":{{}},"commonAnnotations":{{}},"externalURL":"","alerts":[{}]}}"#,
            alerts.join(",")
        );
        surgegate.post(&path, body)
    };
    let answer = post(&["a", "b"]);
    assert_eq!((answer.status, ack(&answer), recorder.count()), (200, Some("delivered"), 2), "{answer:?}");
    let answer = post(&["c", "bad"]);
    assert_eq!((answer.status, ack(&answer)), (200, Some("spooled")), "{answer:?}");
    assert_eq!((dead_letters(&surgegate), dropped(&surgegate)), (1, 0));
}

#[test]
fn other_upstreams_keep_what_they_have_and_are_sent_nothing_more() {
    let pair = pair("squadcast");
    let first = Recorder::scripted(|_| Reply::After(Duration::from_millis(300), 400));
    let second = Recorder::start();
    let configuration = format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {} }}]\n    upstreams: [pager, archive]\n    {DELIVERED}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n  - {{ name: archive, kind: webhook, url: '{}' }}\n",
        super::KEY,
        first.url(),
        second.url()
    );
    let surgegate = Surgegate::start(&[&configuration]);
    assert_eq!(pair.create(&surgegate).status, 400);
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_delivered_total", &[("upstream", "archive")]), 1);
    first.answer(|_| Reply::Status(200));
    let answer = pair.create(&surgegate);
    assert_eq!((answer.outcome(), ack(&answer)), ("created", Some("delivered")));
    surgegate.wait_until_delivered();
    assert_eq!((first.count(), second.count()), (2, 2));
}

/// Other integrations of the process are answered as ever.
#[test]
fn who_does_not_ask_for_it_does_not_wait() {
    let stand = Stand::start("squadcast", &[]);
    stand.faults(&["hang"]);
    let pair = pair("squadcast");
    let surgegate = pair.start(&stand, "ack: spooled", "");
    let began = Instant::now();
    let answer = pair.create(&surgegate);
    assert_eq!((answer.outcome(), ack(&answer)), ("created", None));
    assert!(began.elapsed() < Duration::from_secs(9), "it waited for the upstream");
}
