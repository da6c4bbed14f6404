//! DESIGN 5.1: a refused event leaves no trace. After every kind of refusal the sender's retry is new, or shares
//! the first one's fate, and the upstream sees the event exactly once. (A panic inside a claim cannot be brought
//! about from outside: the claim's own tests show that one.)

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Answer, KEY, PATH, Recorder, Reply, Surgegate, request, resolve, standard, trigger, wait_for, wait_until,
};

fn limited(recorder: &Recorder, settings: &str) -> Surgegate {
    let integrations =
        format!("integrations: [{{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager], {settings} }}]\n");
    Surgegate::start(&[&standard(recorder), &integrations])
}

/// The key and action of every event that the upstream got, each event once.
fn forwarded(recorder: &Recorder) -> Vec<(String, String)> {
    let mut seen = std::collections::HashSet::new();
    let events = recorder.events().into_iter().filter(|event| seen.insert(event["event_uid"].to_string()));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events.map(|event| (text(&event["key"]), text(&event["action"]))).collect()
}

fn times(recorder: &Recorder, key: &str) -> usize {
    forwarded(recorder).iter().filter(|(own, _)| own == key).count()
}

/// Says when to come back, in whole seconds of at least one.
fn retry_after(answer: &Answer) -> u64 {
    let seconds: u64 =
        answer.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {answer:?}")).parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
    seconds
}

/// Posts again until it is taken, as the answer asks.
fn retry(surgegate: &Surgegate, body: &str) -> Answer {
    wait_for("the retry's success", || {
        let answer = surgegate.post(PATH, body);
        if answer.status == 202 {
            return Some(answer);
        }
        std::thread::sleep(Duration::from_secs(retry_after(&answer)).min(Duration::from_secs(3)));
        None
    })
}

#[test]
fn a_retry_after_429_by_the_event_limit_is_new() {
    let recorder = Recorder::start();
    let surgegate = limited(&recorder, "on_limit: reject, rate_limit: { events_per_second: 1, burst: 1 }");
    let refused = (0..1000).find_map(|number| {
        let key = format!("e-{number}");
        let answer = surgegate.post(PATH, trigger(&key));
        (answer.status != 202).then_some((key, answer))
    });
    let (key, answer) = refused.expect("the limit strikes");
    assert_eq!(answer.status, 429);
    retry_after(&answer);
    assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some(), "{answer:?}");
    assert!(answer.header("x-surgegate-outcome").is_none(), "{answer:?}");
    assert_eq!(retry(&surgegate, &trigger(&key)).outcome(), "created");
    // Resolves and duplicates are never refused by this limit (contracts 2.1).
    for _ in 0..20 {
        assert_eq!(surgegate.post(PATH, trigger(&key)).outcome(), "duplicate");
    }
    assert_eq!(surgegate.post(PATH, resolve(&key)).outcome(), "resolved");
    surgegate.wait_until_delivered();
    assert_eq!(times(&recorder, &key), 2, "one trigger, one resolve");
}

#[test]
fn a_retry_after_429_by_the_request_limit_is_new() {
    let recorder = Recorder::start();
    let surgegate = limited(&recorder, "rate_limit: { requests_per_second: 1 }");
    let refused = (0..1000).find_map(|number| {
        let key = format!("r-{number}");
        let answer = surgegate.post(PATH, trigger(&key));
        (answer.status != 202).then_some((key, answer))
    });
    let (key, answer) = refused.expect("the limit strikes");
    assert_eq!(answer.status, 429);
    retry_after(&answer);
    assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some(), "{answer:?}");
    assert_eq!(retry(&surgegate, &trigger(&key)).outcome(), "created");
    surgegate.wait_until_delivered();
    assert_eq!(times(&recorder, &key), 1);
}

#[test]
fn a_sender_that_never_retries_is_spooled_instead_of_refused() {
    let recorder = Recorder::start();
    let surgegate = limited(&recorder, "rate_limit: { events_per_second: 5, burst: 1 }");
    for number in 0..20 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("s-{number}"))).outcome(), "created");
    }
    surgegate.wait_until_delivered();
    assert_eq!(forwarded(&recorder).len(), 20);
}

/// A trigger just short of the limit of a body: a spool fills in few of them.
fn large(key: &str) -> String {
    format!(r#"{{"message":"m","description":"{}","event_id":"{key}"}}"#, "x".repeat(29_000))
}

/// The smallest spool there is, filled while the upstream fails: how many were taken, which key was refused, and how.
fn fill_the_spool(recorder: &Recorder) -> (Surgegate, usize, String, Answer) {
    let surgegate =
        Surgegate::start(&[&standard(recorder), "spool: { max_bytes: 16MiB, durability: memory, retain: 0s }\n"]);
    let mut connection = surgegate.connect();
    let mut taken = 0;
    let refused = (0..5000).find_map(|number| {
        let key = format!("full-{number}");
        let mut post = || connection.post(PATH, large(&key)).unwrap();
        let mut answer = post();
        // The sender may be quicker than the disk: that passes, a full spool does not.
        for _ in 0..25 {
            if answer.status == 202 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            answer = post();
        }
        taken += usize::from(answer.status == 202);
        (answer.status != 202).then_some((key, answer))
    });
    let (key, answer) = refused.expect("the spool is full at some point");
    (surgegate, taken, key, answer)
}

#[test]
fn a_retry_after_503_by_a_full_spool_is_new() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let (surgegate, taken, key, answer) = fill_the_spool(&recorder);
    assert_eq!(answer.status, 503, "{}", answer.text());
    retry_after(&answer);
    // A duplicate of what is durable needs no room.
    assert_eq!(surgegate.post(PATH, large("full-0")).outcome(), "duplicate");
    assert_eq!(surgegate.observe("/livez").unwrap().status, 200);
    wait_until("readiness to tell", || surgegate.observe("/readyz").unwrap().status == 503);
    surgegate.scrape().assert_books_balance();
    recorder.answer(|_| Reply::Status(200));
    surgegate.wait_until_delivered();
    // A smaller one finds room where the large one did not.
    assert_eq!(retry(&surgegate, &trigger(&key)).outcome(), "created");
    surgegate.wait_until_delivered();
    assert_eq!(times(&recorder, &key), 1);
    let keys: std::collections::HashSet<String> = forwarded(&recorder).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), taken + 1, "every accepted one arrived, and no refused one");
}

#[test]
fn a_full_spool_accepts_again_once_its_events_are_delivered() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let (surgegate, _, key, _) = fill_the_spool(&recorder);
    recorder.answer(|_| Reply::Status(200));
    surgegate.wait_until_delivered();
    for again in 0..3 {
        assert_eq!(retry(&surgegate, &large(&format!("{key}-{again}"))).outcome(), "created");
    }
    wait_until("readiness again", || surgegate.observe("/readyz").unwrap().status == 200);
}

#[test]
fn a_retry_of_a_client_that_left_before_its_body_was_whole_is_new() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let whole = request("POST", PATH, &[], trigger("gone-early"));
    for cut in [whole.len() - 1, whole.len() - 30, whole.len() / 2, 20] {
        let mut connection = surgegate.connect();
        connection.send(&whole[..cut]).unwrap();
    }
    let scrape = wait_for("the broken requests' end", || {
        Some(surgegate.scrape()).filter(|scrape| scrape.count("http_requests_in_flight", &[]) == 0)
    });
    scrape.assert_books_balance();
    assert_eq!(surgegate.post(PATH, trigger("gone-early")).outcome(), "created");
    surgegate.wait_until_delivered();
    assert_eq!(times(&recorder, "gone-early"), 1);
}

/// The client is gone at every moment around the hand-over to the log: by a reset, so that its handler is dropped.
#[test]
fn a_retry_of_a_client_that_left_around_the_hand_over_shares_its_fate() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let mut outcomes = std::collections::BTreeMap::new();
    for number in 0..300 {
        let key = format!("gone-{number}");
        let mut connection = surgegate.connect();
        // An answer that is never read turns the close into a reset.
        connection.send(request("POST", PATH, &[], "{}")).unwrap();
        let mut byte = [0];
        connection.stream().peek(&mut byte).unwrap();
        connection.send(request("POST", PATH, &[], trigger(&key))).unwrap();
        if number % 3 > 0 {
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..3000)));
        }
        drop(connection);
        let answer = surgegate.post(PATH, trigger(&key));
        assert_eq!(answer.status, 202);
        *outcomes.entry(answer.outcome().to_owned()).or_insert(0) += 1;
        // Whoever was first: one incident.
        assert_eq!(surgegate.post(PATH, trigger(&key)).incident(), answer.incident());
    }
    assert!(outcomes.keys().all(|outcome| ["created", "duplicate"].contains(&outcome.as_str())), "{outcomes:?}");
    assert!(outcomes.contains_key("duplicate"), "no reset came after its hand-over: {outcomes:?}");
    surgegate.wait_until_delivered();
    let keys = forwarded(&recorder);
    for number in 0..300 {
        let key = format!("gone-{number}");
        assert_eq!(keys.iter().filter(|(own, _)| *own == key).count(), 1, "{key}; {outcomes:?}");
    }
    assert_eq!(keys.len(), 300);
}

#[test]
fn a_retry_after_a_refused_body_is_new() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    for refused in [r#"{"event_id":"bad","message":"m"}"#, r#"{"event_id":"bad","message":"m","description":"d""#] {
        assert_eq!(surgegate.post(PATH, refused).status, 400);
    }
    let large = format!(r#"{{"event_id":"bad","message":"m","description":"{}"}}"#, "x".repeat(31_000));
    assert_eq!(surgegate.post(PATH, large).status, 413);
    assert_eq!(surgegate.post(PATH, trigger("bad")).outcome(), "created");
    surgegate.wait_until_delivered();
    assert_eq!(times(&recorder, "bad"), 1);
}

/// Many at once on one key, some of them gone: those that stay all name one incident.
#[test]
fn those_who_wait_in_a_keys_line_share_its_owners_fate() {
    let recorder = Recorder::start();
    // An upstream that takes its time keeps nobody waiting.
    recorder.answer(|_| Reply::After(Duration::from_millis(300), 200));
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    for round in 0..20 {
        let key = format!("line-{round}");
        let bytes = request("POST", PATH, &[], trigger(&key));
        let mut stay: Vec<_> = (0..16).map(|_| surgegate.connect()).collect();
        let mut leave: Vec<_> = (0..16).map(|_| surgegate.connect()).collect();
        for (staying, leaving) in stay.iter_mut().zip(&mut leave) {
            leaving.send(&bytes).unwrap();
            staying.send(&bytes).unwrap();
        }
        drop(leave);
        let answers: Vec<Answer> = stay.iter_mut().map(|connection| connection.answer().unwrap()).collect();
        let incidents: std::collections::BTreeSet<String> = answers.iter().map(Answer::incident).collect();
        assert_eq!(incidents.len(), 1, "{answers:?}");
        let created = answers.iter().filter(|answer| answer.outcome() == "created").count();
        assert!(created <= 1, "{answers:?}");
    }
    surgegate.wait_until_delivered();
    assert_eq!(forwarded(&recorder).len(), 20);
}

#[test]
fn every_refusal_has_its_errors_whether_or_not_a_dialect_was_met() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { uri_bytes: 100 }\n"]);
    let unknown = PATH.replace("5ca1ab1e", "deadbeef");
    let long = "x".repeat(200);
    for (path, body, status, reason) in [
        ("/nowhere", "{}", 404, "no_route"),
        (&format!("/nowhere/{long}"), "{}", 404, "no_route"),
        (&format!("{PATH}?{long}"), "{}", 414, "uri_too_long"),
        (&unknown, "{}", 404, "unknown_key"),
        (PATH, "{", 400, "invalid_json"),
        (PATH, "{}", 400, "invalid_event"),
    ] {
        let answer = surgegate.post(path, body);
        let said = answer.json();
        assert_eq!((answer.status, &said["reason"]), (status, &serde_json::json!(reason)), "{path}: {said}");
        let errors = said["errors"].as_array().unwrap_or_else(|| panic!("{path}: no errors in {said}"));
        assert!(!errors.is_empty() && errors.iter().all(serde_json::Value::is_string), "{path}: {said}");
        assert!(said["message"].is_string() && said["request_id"].is_string(), "{path}: {said}");
    }
}
