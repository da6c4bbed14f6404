//! D9 and D7: order. Keys are triggered, resolved and reopened again and again while the upstream fails three requests
//! in ten and the process is restarted, by SIGKILL and by TERM in turn. The recorder finds no event ahead of the one
//! before it on its key, none out of turn when it is repeated, and every reopening as a generation of its own.
//!
//! `SURGEGATE_TORTURE_ORDER` sets the number of events, `SURGEGATE_TORTURE_RESTARTS` how often it is restarted,
//! `TEST_SEED` makes a run's choices again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::crash::{configuration, figure};
use crate::faults::{Arrival, Fault, Upstream};
use crate::fleet::Fleet;
use crate::harness::{PATH, Raw, Surgegate, alone, request, resolve, seed, trigger, wait_at_most};

const CLIENTS: usize = 8;
/// Events of one key in a round, on average.
const EVENTS_A_KEY: usize = 5;
/// Requests a client has under way, each of another key.
const PIPELINE: usize = 25;
/// A spool is made anew after so many.
const EVENTS_A_SPOOL: usize = 100_000;
/// Failures in a row after which one request goes well: more of them count as an outage (`outage.rs` is about those),
/// and the rest would wait for probes.
const FAILURES_IN_A_ROW: usize = 3;
/// Failures of one event after which it goes well: each doubles the wait of its lane, and a thousand lanes would wait
/// for the unluckiest of them.
const FAILURES_AN_EVENT: usize = 2;

/// What was said of each key of one client, by the key's number: its events are trigger, resolve, trigger, ...
struct Speaker {
    name: String,
    said: Vec<usize>,
    rng: Rng,
}

impl Speaker {
    fn key(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn body(&self, number: usize) -> String {
        let key = self.key(number);
        if self.said[number].is_multiple_of(2) { trigger(&key) } else { resolve(&key) }
    }

    /// Says the next event of so many keys, until each is answered.
    fn speak(&mut self, fleet: &Fleet, connection: &mut Option<Raw>, count: usize) {
        let mut unanswered: Vec<(usize, bool)> = Vec::new();
        while unanswered.len() < count {
            let number = self.rng.usize(..self.said.len());
            if unanswered.iter().all(|(other, _)| *other != number) {
                unanswered.push((number, false));
            }
        }
        while !unanswered.is_empty() {
            let open = fleet.connect(connection);
            let requests = unanswered
                .iter()
                .flat_map(|(number, _)| request("POST", PATH, &["Content-Type: application/json"], self.body(*number)))
                .collect::<Vec<u8>>();
            let sent = open.send(requests);
            // Answers come in order; what has none may have been kept all the same.
            while let Some((number, again)) = unanswered.first().copied().filter(|_| sent.is_ok()) {
                let Ok(answer) = open.answer() else { break };
                let foretold = match (self.said[number].is_multiple_of(2), again) {
                    (true, false) => &["created"][..],
                    (true, true) => &["created", "duplicate"],
                    (false, false) => &["resolved"],
                    (false, true) => &["resolved", "duplicate_resolve"],
                };
                assert!(
                    answer.status == 202 && foretold.contains(&answer.outcome()),
                    "{} event {}: {} instead of {foretold:?}",
                    self.key(number),
                    self.said[number],
                    answer.text()
                );
                self.said[number] += 1;
                unanswered.remove(0);
            }
            if !unanswered.is_empty() {
                *connection = None;
                fleet.broken.fetch_add(1, Ordering::Relaxed);
                unanswered.iter_mut().for_each(|(_, again)| *again = true);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    events: usize,
    requests: usize,
    failed: usize,
    kills: usize,
    orderly: usize,
    broken: usize,
    repeats: usize,
    reopenings: usize,
    scrapes: usize,
}

#[test]
fn order_holds_within_every_key_while_the_upstream_fails_and_the_process_is_restarted() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let events = figure("SURGEGATE_TORTURE_ORDER", 20_000);
    let restarts = figure("SURGEGATE_TORTURE_RESTARTS", 4);
    let rounds = events.div_ceil(EVENTS_A_SPOOL);
    let mut found = Found::default();
    for round in 0..rounds {
        run(round, events / rounds, restarts.div_ceil(rounds), &mut rng, &mut found);
    }
    eprintln!("Found {found:?}");
    assert!(found.failed * 4 > found.requests, "too few failures: {found:?}");
    assert!(found.broken >= found.kills && found.repeats > 0, "the kills found nothing under way: {found:?}");
    assert!(found.reopenings * 4 > found.events, "{found:?}");
}

/// Three requests in ten fail: refused, cut off, or with half an answer.
fn failing(mut rng: Rng) -> impl FnMut(&Arrival) -> Fault + Send + 'static {
    let mut in_a_row = 0;
    let mut of_event = HashMap::<String, usize>::new();
    move |arrival| {
        let failures = of_event.get(&arrival.uid).copied().unwrap_or_default();
        // A third of the first and second tries are three tenths of all.
        if in_a_row == FAILURES_IN_A_ROW || failures == FAILURES_AN_EVENT || rng.u8(..100) >= 33 {
            in_a_row = 0;
            of_event.remove(&arrival.uid);
            return Fault::Answer(200);
        }
        in_a_row += 1;
        of_event.insert(arrival.uid.clone(), failures + 1);
        match rng.u8(..6) {
            0 => Fault::Reset,
            1 => Fault::Truncate,
            _ => Fault::Answer(503),
        }
    }
}

fn run(round: usize, events: usize, restarts: usize, rng: &mut Rng, found: &mut Found) {
    let upstream = Upstream::scripted(failing(Rng::with_seed(rng.u64(..))));
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 64")]);
    let fleet = Fleet::new(&surgegate);
    let keys = (events / EVENTS_A_KEY / CLIENTS).max(PIPELINE);
    let answered = AtomicUsize::new(0);
    let mut kills = Vec::new();
    let speakers: Vec<Speaker> = std::thread::scope(|scope| {
        let ends = fleet.ends();
        let speakers: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let rng = Rng::with_seed(rng.u64(..));
                let mut speaker = Speaker { name: format!("key-{round}-{id}"), said: vec![0; keys], rng };
                let (fleet, answered) = (&fleet, &answered);
                scope.spawn(move || {
                    let mut connection = None;
                    for _ in 0..events / CLIENTS / PIPELINE {
                        speaker.speak(fleet, &mut connection, PIPELINE);
                        answered.fetch_add(PIPELINE, Ordering::Relaxed);
                    }
                    speaker
                })
            })
            .collect();
        scope.spawn(|| fleet.scrape());
        for restart in 0..restarts {
            let mark = (restart + 1) * events / (restarts + 1);
            wait_at_most(Duration::from_secs(600), "more answers", || {
                let is_over = speakers.iter().all(|speaker| speaker.is_finished());
                (answered.load(Ordering::Relaxed) >= mark || is_over).then_some(())
            });
            fleet.move_to(None);
            let before = Instant::now();
            if restart % 2 == 0 {
                surgegate.kill();
                kills.push((before, Instant::now()));
            } else {
                assert!(surgegate.stop().success());
                found.orderly += 1;
            }
            surgegate.start_again();
            fleet.move_to(Some(&surgegate));
        }
        let speakers = speakers.into_iter().map(|speaker| speaker.join().expect("a client failed")).collect();
        drain(&surgegate, &upstream);
        drop(ends);
        speakers
    });
    let scrape = surgegate.wait_until_delivered();
    let mut by_key = HashMap::<String, Vec<Arrival>>::new();
    for arrival in upstream.arrivals() {
        found.requests += 1;
        found.failed += usize::from(!arrival.taken);
        by_key.entry(arrival.key.clone()).or_default().push(arrival);
    }
    let mut said = 0;
    for speaker in &speakers {
        for (number, count) in speaker.said.iter().enumerate() {
            let key = speaker.key(number);
            let arrivals = by_key.remove(&key).unwrap_or_default();
            found.repeats += in_order(&key, &arrivals, *count, &kills);
            found.reopenings += (*count + 1).div_euclid(2).saturating_sub(1);
            said += count;
        }
    }
    assert!(by_key.is_empty(), "nobody said {:?}", by_key.keys());
    assert_eq!(scrape.count("events_accepted_total", &[]) as usize, said);
    assert_eq!(scrape.count("events_delivered_total", &[]) as usize, said);
    found.events += said;
    found.kills += kills.len();
    found.broken += fleet.broken.load(Ordering::Relaxed);
    found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
}

/// Waits as long as something moves.
fn drain(surgegate: &Surgegate, upstream: &Upstream) {
    let (mut count, mut moved) = (upstream.count(), Instant::now());
    wait_at_most(Duration::from_secs(3600), "an empty queue", || {
        if upstream.count() > count {
            (count, moved) = (upstream.count(), Instant::now());
        }
        assert!(moved.elapsed() < Duration::from_secs(60), "nothing moves");
        (surgegate.scrape().count("spool_events", &[]) == 0).then_some(())
    });
}

/// Every arrival is the same event again, because it was not taken, or the next one, because it was; a kill may put it
/// back to an earlier one, from which it goes on as before. How many arrivals were repeats of what had been taken.
fn in_order(key: &str, arrivals: &[Arrival], said: usize, kills: &[(Instant, Instant)]) -> usize {
    let told = |index: usize| format!("of {key}, arrival {index} in {arrivals:#?}");
    let mut uids: Vec<&str> = Vec::new();
    let mut repeats = 0;
    let mut before: Option<(usize, &Arrival)> = None;
    for (index, arrival) in arrivals.iter().enumerate() {
        // The number of the event in its key: a reopening is a generation of its own.
        let generation = usize::try_from(arrival.generation).unwrap();
        assert!(generation >= 1, "no generation {}", told(index));
        let event = 2 * (generation - 1) + usize::from(arrival.action == "resolve");
        match before {
            None => assert_eq!(event, 0, "not from the start: {}", told(index)),
            Some((last, from)) => {
                let killed = kills.iter().any(|(began, ended)| from.at <= *ended && *began <= arrival.at);
                repeats += usize::from(event <= last && from.taken);
                match event.checked_sub(last) {
                    Some(0) => assert!(!from.taken || killed, "taken and sent again: {}", told(index)),
                    Some(1) => assert!(from.taken, "ahead of the one before: {}", told(index)),
                    Some(_) => panic!("one is left out: {}", told(index)),
                    None => assert!(killed, "behind a later one: {}", told(index)),
                }
            }
        }
        match uids.get(event) {
            Some(uid) => assert_eq!(*uid, arrival.uid, "repeated under another id: {}", told(index)),
            None => uids.push(&arrival.uid),
        }
        before = Some((event, arrival));
    }
    assert_eq!(uids.len(), said, "of {key} not all came, or more than was said");
    assert!(said == 0 || before.is_some_and(|(last, arrival)| last + 1 == said && arrival.taken), "of {key}");
    repeats
}
