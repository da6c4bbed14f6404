//! What became of an event: through waiting, delivery, dead letter, replay and drop, by uid and by key, before and after a
//! restart.

use serde_json::{Value, json};

use super::{get, text, to, write};
use crate::faults::{Fault, Upstream};
use crate::harness::{PATH, Surgegate, resolve, trigger, wait_for, wait_until};

fn event(surgegate: &Surgegate, uid: &str) -> Value {
    get(surgegate, &format!("/api/v1/events/{uid}"))
}

fn by_key(surgegate: &Surgegate, key: &str) -> Value {
    get(surgegate, &format!("/api/v1/events?integration=payments&key={key}"))
}

/// The newest event on a key, once it is there.
fn newest(surgegate: &Surgegate, key: &str) -> Value {
    by_key(surgegate, key)["events"].as_array().unwrap().last().cloned().unwrap_or_else(|| panic!("nothing on {key}"))
}

fn states(event: &Value) -> Vec<&str> {
    event["upstreams"].as_array().unwrap().iter().map(|upstream| text(upstream, "state")).collect()
}

fn steps(event: &Value) -> Vec<&str> {
    event["history"].as_array().unwrap().iter().map(|step| text(step, "what")).collect()
}

#[test]
fn an_event_is_told_from_waiting_to_delivered_and_after_a_restart() {
    let upstream = Upstream::scripted(|_| Fault::Answer(503));
    let mut surgegate = Surgegate::start(&[&to(&upstream, &["pager", "archive"])]);
    let answer = surgegate.post(PATH, trigger("disk-db-7"));
    let incident = answer.incident();
    let waiting = wait_for("an attempt that failed at both", || {
        let event = newest(&surgegate, "disk-db-7");
        let tried = |upstream: &Value| upstream["attempts"].as_u64() >= Some(1) && upstream["status"] == 503;
        event["upstreams"].as_array().unwrap().iter().all(tried).then_some(event)
    });
    assert_eq!((states(&waiting), steps(&waiting)), (vec!["waiting", "waiting"], vec!["received"]));
    assert_eq!(waiting["incident"]["iid"], incident.as_str());
    assert_eq!((&waiting["event"]["key"], &waiting["event"]["outcome"]), (&"di***-7".into(), &"created".into()));
    assert_eq!((&waiting["event"]["title"], &waiting["event"]["raw"]), (&"disk full".into(), &Value::Null));
    let uid = text(&waiting["event"], "event_uid").to_owned();
    assert_eq!(states(&event(&surgegate, &uid)), ["waiting", "waiting"]);

    upstream.tell(|_| Fault::Answer(201));
    surgegate.wait_until_delivered();
    // At once: what was told to the log a moment ago is waited for.
    let delivered = event(&surgegate, &uid);
    assert_eq!(
        (states(&delivered), steps(&delivered)),
        (vec!["delivered"; 2], vec!["received", "delivered", "delivered"])
    );
    for row in delivered["upstreams"].as_array().unwrap() {
        assert_eq!(row["status"], 201);
        assert!(
            row["attempts"].as_u64() >= Some(2) && text(row, "at") >= text(&delivered["event"], "received_at"),
            "{row}"
        );
    }
    assert_eq!(delivered["complete"], true);
    surgegate.kill();
    surgegate.start_again();
    // A kill may forget what was settled in its last 50 ms; it is delivered again then.
    surgegate.wait_until_delivered();
    let again = event(&surgegate, &uid);
    assert_eq!(states(&again), ["delivered"; 2]);
    assert_eq!((&again["event"], &again["incident"]), (&delivered["event"], &delivered["incident"]));
    let missing = surgegate.admin("/api/v1/events/7ZZZZZZZZZ0000000000000000");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("goes back to"), "{}", missing.text());
    let old = surgegate.admin("/api/v1/events/0000000000000000000000000A");
    assert!(old.status == 404 && old.text().contains("the id was made at 1970"), "{}", old.text());
}

#[test]
fn an_event_under_way_is_told_so() {
    let upstream = Upstream::scripted(|_| Fault::Hang);
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    surgegate.post(PATH, trigger("disk-db-7"));
    surgegate.post(PATH, resolve("disk-db-7"));
    let events = wait_for("a request without an answer", || {
        let events = by_key(&surgegate, "disk-db-7")["events"].clone();
        (events[0]["upstreams"][0]["under_way"] == true).then_some(events)
    });
    assert_eq!((states(&events[0]), states(&events[1])), (vec!["waiting"], vec!["waiting"]));
    assert_eq!(events[1]["upstreams"][0].get("under_way"), None, "it waits behind the first");
}

#[test]
fn a_dead_letter_is_told_through_its_replay_and_its_drop() {
    let upstream = Upstream::scripted(|_| Fault::Answer(422));
    let mut surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    surgegate.post(PATH, trigger("poison-1"));
    let dead =
        wait_for("a dead letter", || Some(newest(&surgegate, "poison-1")).filter(|e| states(e) == ["dead_letter"]));
    let row = &dead["upstreams"][0];
    assert_eq!((&row["reason"], &row["status"], &row["attempts"]), (&"refused".into(), &422.into(), &1.into()));
    let (id, uid) = (text(row, "dead_letter_id").to_owned(), text(&dead["event"], "event_uid").to_owned());
    let shown = get(&surgegate, &format!("/api/v1/dead-letters/{id}"));
    assert_eq!(
        (&shown["event_uid"], &shown["key"], &shown["event"]["title"]),
        (&json!(uid), &"po***-1".into(), &"disk full".into())
    );
    assert!(!shown.to_string().contains("poison-1"), "{shown}");

    upstream.tell(|_| Fault::Answer(200));
    assert_eq!(write(&surgegate, "POST", &format!("/api/v1/dead-letters/{id}/replay"), 200), json!({ "replayed": 1 }));
    surgegate.wait_until_delivered();
    let expected = ["received", "dead_letter", "replayed", "delivered"];
    let replayed = event(&surgegate, &uid);
    assert_eq!((states(&replayed), steps(&replayed)), (vec!["delivered"], expected.to_vec()));

    upstream.tell(|_| Fault::Answer(422));
    surgegate.post(PATH, trigger("poison-2"));
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    let letter = get(&surgegate, "/api/v1/dead-letters")[0].clone();
    write(&surgegate, "DELETE", &format!("/api/v1/dead-letters/{}", text(&letter, "id")), 200);
    let dropped = event(&surgegate, text(&letter, "event_uid"));
    assert_eq!((states(&dropped), &dropped["upstreams"][0]["reason"]), (vec!["dropped"], &"operator".into()));
    surgegate.stop();
    surgegate.start_again();
    let restarted = (event(&surgegate, &uid), event(&surgegate, text(&letter, "event_uid")));
    assert_eq!((&restarted.0, &restarted.1), (&replayed, &dropped));
}

#[test]
fn a_key_is_told_through_resolve_and_reopening() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let mut surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    for body in [trigger("web-1"), trigger("other-1"), trigger("web-1"), resolve("web-1"), trigger("web-1")] {
        assert_eq!(surgegate.post(PATH, body).status, 202);
        surgegate.wait_until_delivered();
    }
    let check = |surgegate: &Surgegate| {
        let found = by_key(surgegate, "web-1");
        let events = found["events"].as_array().unwrap();
        let outcomes: Vec<&str> = events.iter().map(|event| text(&event["event"], "outcome")).collect();
        assert_eq!(outcomes, ["created", "resolved", "created"], "a duplicate is not kept");
        assert!(events.iter().all(|event| states(event) == ["delivered"]), "{found}");
        assert_eq!((&found["incident"]["generation"], &found["incident"]["state"]), (&2.into(), &"OPEN".into()));
        // The first generation is over: its events have no incident of now.
        assert_eq!((&events[0]["incident"], &events[2]["incident"]), (&Value::Null, &found["incident"]));
        assert_eq!((&found["complete"], found["searched_since"].is_string()), (&true.into(), true));
        let two = get(surgegate, "/api/v1/events?integration=payments&key=web-1&limit=2");
        let kept: Vec<&str> = two["events"].as_array().unwrap().iter().map(|e| text(&e["event"], "outcome")).collect();
        assert_eq!((kept, &two["complete"]), (vec!["resolved", "created"], &false.into()));
        assert_eq!(get(surgegate, "/api/v1/events?integration=payments&key=web-9")["events"], json!([]));
    };
    check(&surgegate);
    surgegate.stop();
    surgegate.start_again();
    check(&surgegate);
}

#[test]
fn one_search_goes_on_at_a_time_and_the_others_are_told() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    surgegate.post(PATH, trigger("web-1"));
    std::thread::scope(|scope| {
        let ask = || {
            let statuses = (0..30).map(|_| surgegate.admin("/api/v1/events?integration=payments&key=web-1").status);
            statuses.filter(|status| [200, 503].contains(status)).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 30);
        }
    });
    assert_eq!(by_key(&surgegate, "web-1")["events"].as_array().unwrap().len(), 1, "the turn is given back");
}
