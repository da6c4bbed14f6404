//! Equal keys in one body (DESIGN 5.1): whatever a body says of a key, and however often, comes to what saying it one by one
//! comes to, in the body's order, and no request waits for itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{alert, configuration, count, group, path};
use crate::foretold::{Said, Told};
use crate::harness::{Recorder, Surgegate, seed};

const KEYS: usize = 3;
const ELEMENTS: usize = 40;
const BODIES: usize = 12;

fn key(number: usize) -> String {
    format!("{number:016x}")
}

/// Generation and action of what arrived of each key, in order, each event once.
fn arrived(recorder: &Recorder) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut keys = BTreeMap::<String, Vec<(String, u64)>>::new();
    let mut seen = std::collections::BTreeSet::new();
    for event in recorder.events() {
        if seen.insert(event["event_uid"].to_string()) {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            let generation = event["incident"]["generation"].as_u64().unwrap();
            keys.entry(text("key")).or_default().push((text("action"), generation));
        }
    }
    keys
}

#[test]
fn a_body_that_names_its_keys_often_comes_to_what_its_events_come_to_one_by_one() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut told: Vec<Told> = (0..KEYS).map(|_| Told::default()).collect();
    for body in 0..BODIES {
        let (mut alerts, mut expected) = (Vec::<Value>::new(), BTreeMap::<&str, u64>::new());
        for element in 0..ELEMENTS {
            // Each key begins with a trigger.
            let first = body == 0 && element < KEYS;
            let number = if first { element } else { random.usize(..KEYS) };
            let said = if first || random.bool() { Said::Trigger(1) } else { Said::Resolve };
            let (outcome, _) = told[number].hear(said);
            *expected.entry(outcome).or_default() += 1;
            alerts.push(alert(if matches!(said, Said::Trigger(_)) { "firing" } else { "resolved" }, &key(number)));
        }
        let answer = surgegate.post(&path(), group(&alerts));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let of = |name: &str| expected.get(name).copied().unwrap_or_default();
        let counts = ["received", "created", "resolved", "duplicate", "rejected"].map(|name| count(&answer, name));
        let (resolved, duplicate) = (of("resolved"), of("duplicate"));
        assert_eq!(counts[..2], [ELEMENTS as u64, of("created")], "{expected:?} {}", answer.text());
        assert_eq!(
            (counts[2], counts[3], counts[4]),
            (resolved, duplicate + of("duplicate_resolve"), 0),
            "{expected:?} {}",
            answer.text()
        );
    }
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_rejected_total", &[]), 0);
    let arrived = arrived(&recorder);
    for (number, told) in told.iter().enumerate() {
        assert_eq!(arrived[&key(number)], told.forwards, "key {number}");
    }
}

/// Each turn of a key is a transition that the next one builds on. A request that stood in its own line would be told to come
/// again after 10 s.
#[test]
fn no_request_waits_for_itself_or_for_one_that_waits_for_it() {
    const TURNS: usize = 30;
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder, "")]);
    let turns = |keys: [usize; 2]| -> String {
        let one = |turn: usize| alert(["firing", "resolved"][turn % 2], &key(keys[turn / 2 % 2]));
        group(&(0..TURNS * 2).map(one).collect::<Vec<_>>())
    };
    let bodies = [turns([0, 1]), turns([1, 0])];
    std::thread::scope(|scope| {
        let surgegate = &surgegate;
        let senders = bodies.each_ref().map(|body| scope.spawn(move || surgegate.post(&path(), body)));
        for answer in senders.map(|sender| sender.join().unwrap()) {
            assert_eq!((answer.status, count(&answer, "rejected")), (200, 0), "{}", answer.text());
            assert_eq!(count(&answer, "received"), TURNS as u64 * 2);
        }
    });
    surgegate.wait_until_delivered();
    for (key, said) in arrived(&recorder) {
        // Trigger and resolve in turn, each pair a generation.
        let expected: Vec<(String, u64)> = (0..said.len() as u64)
            .map(|place| (["trigger", "resolve"][place as usize % 2].to_owned(), place / 2 + 1))
            .collect();
        assert_eq!(said, expected, "{key}");
    }
}
