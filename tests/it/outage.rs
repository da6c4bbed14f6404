//! O4: an upstream that is dead, hangs, resets, cuts its answers, answers 5xx or 429, flaps, or chokes on one key.
//! Nothing is lost, it is not hammered, its circuit is told where it is, its pace holds when it returns and it is
//! climbed, not stormed, memory stays flat, and what it refuses for good becomes dead letters that an operator can send
//! again or drop.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::crash::{configuration, fill};
use crate::faults::{Arrival, Fault, Upstream, first_arrivals};
use crate::harness::{Answer, PATH, Surgegate, alone, ask, measured, resolve, trigger, wait_for, wait_until, within};

/// Each is triggered and resolved.
const KEYS: usize = 150;
const EVENTS: usize = 2 * KEYS;
const CONNECTIONS: usize = 8;
const PER_SECOND: usize = 100;
/// Requests at once. Where arrivals are noted late, each shows what the other hides: this one, that no more go at once.
const SMALL_BURST: usize = 20;
/// And this one, that nothing follows before the burst's second is over.
const WHOLE_BURST: usize = PER_SECOND;
/// The upstream may note a request so much later than it came, and the next one at once: its processor may have been
/// taken away. Without its window, or its burst, the pace is beyond that.
const NOTED_LATE: Duration = Duration::from_millis(400);
/// Failed requests after which the outage has lasted long enough.
const PROBES: u64 = 3;
/// It takes 0.3 MiB to get to know an outage: connections, their buffers, what is told of the circuit.
const GROWTH_MAX: u64 = 3 << 20;

fn settings(burst: usize) -> String {
    format!(
        "connections: {CONNECTIONS}, timeout: 2s, rate_limit: {{ requests_per_second: {PER_SECOND}, burst: {burst} }}"
    )
}

/// Triggers of all keys, then their resolves.
fn post_all(surgegate: &Surgegate) {
    let mut connection = surgegate.connect();
    let triggers = (0..KEYS).map(|number| trigger(&format!("key-{number}")));
    for body in triggers.chain((0..KEYS).map(|number| resolve(&format!("key-{number}")))) {
        assert_eq!(connection.post(PATH, body).unwrap().status, 202);
    }
}

fn attempts(surgegate: &Surgegate) -> u64 {
    surgegate.scrape().count("upstream_requests_total", &[])
}

fn status(surgegate: &Surgegate) -> Value {
    surgegate.admin("/api/v1/status").json()["upstreams"][0]["now"].clone()
}

/// Everything was taken once, in order within each key.
fn taken_once_and_in_order(arrivals: &[Arrival]) {
    let taken: Vec<Arrival> = arrivals.iter().filter(|arrival| arrival.taken).cloned().collect();
    let by_key = first_arrivals(&taken);
    assert_eq!(by_key.len(), KEYS);
    for (key, events) in by_key {
        let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(actions, ["trigger", "resolve"], "of {key}");
    }
    assert_eq!(taken.len(), EVENTS, "taken more than once");
}

/// `Err` with a span of time that saw more than the set pace allows: the burst and so many a second, and never more in a
/// second than that many.
fn pace_held(burst: usize, arrivals: &[Arrival]) -> Result<(), String> {
    for (index, first) in arrivals.iter().enumerate() {
        for (last, inside) in arrivals[index..].iter().zip(1..) {
            let span = last.at - first.at;
            let seconds = (span + NOTED_LATE).as_secs_f64();
            let most = (burst as f64 + PER_SECOND as f64 * seconds).min(PER_SECOND as f64 * seconds.ceil());
            within(f64::from(inside) <= most, format!("{inside} requests within {span:?}, {most:.0} at most"))?;
        }
    }
    Ok(())
}

/// The circuit as the status tells it. The metric must say the same, unless it changed between.
fn circuit(surgegate: &Surgegate) -> String {
    let said = || status(surgegate)["circuit"].as_str().expect("a circuit").to_owned();
    let before = said();
    let gauge = surgegate.scrape().count("upstream_circuit_state", &[]);
    let after = said();
    // It may pass through half open and be back.
    assert!(
        before != after || gauge == 1 || before == ["closed", "half_open", "open"][gauge as usize],
        "{before}: {gauge}"
    );
    after
}

/// From `back` on no more requests were under way than had succeeded, and one; and one each half second where answers
/// are late.
fn was_climbed(arrivals: &[Arrival], back: Instant) {
    let first = arrivals.iter().map(|arrival| arrival.at).find(|at| *at >= back).expect("an arrival after the return");
    for arrival in arrivals.iter().filter(|arrival| arrival.at >= back) {
        // The first may have been longer on its way than those that follow.
        let late = usize::try_from((arrival.at - first).as_millis().saturating_sub(100).div_ceil(500)).unwrap();
        let under_way = arrivals.iter().filter(|other| {
            let forgotten = other.at < back && other.answered.is_none();
            !forgotten && other.at <= arrival.at && other.answered.is_none_or(|at| at > arrival.at)
        });
        let under_way = under_way.count();
        let taken = |other: &&Arrival| other.taken && other.answered.is_some_and(|at| at <= arrival.at);
        let successes = arrivals.iter().filter(taken).count();
        assert!(under_way <= successes + 1 + late, "{under_way} under way after {successes} successes");
    }
}

/// What the circuit does in an outage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Circuit {
    Opens,
    StaysClosed,
}

fn is_noticed(surgegate: &Surgegate, circuit_does: Circuit) -> bool {
    let now = status(surgegate);
    let waits = now["next_try_in_s"].as_f64();
    match circuit_does {
        Circuit::Opens => circuit(surgegate) == "open" && waits.is_some_and(|seconds| seconds <= 20.0),
        Circuit::StaysClosed => now["held_for_s"].is_number() && waits.is_some(),
    }
}

/// An outage from the start until `back`, with a restart in the middle.
fn ride_out(
    name: &str,
    burst: usize,
    upstream: impl Fn() -> Upstream,
    circuit_does: Circuit,
    back: impl Fn(&mut Upstream),
) {
    measured(|| rides_out(name, burst, upstream(), circuit_does, &back));
}

/// `Err` with the memory or the pace where they are not as promised; all else fails at once.
fn rides_out(
    name: &str,
    burst: usize,
    mut upstream: Upstream,
    circuit_does: Circuit,
    back: impl FnOnce(&mut Upstream),
) -> Result<(), String> {
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), &settings(burst))]);
    post_all(&surgegate);
    wait_until("the outage to be noticed", || is_noticed(&surgegate, circuit_does));
    let before = surgegate.memory_bytes();
    let failed = attempts(&surgegate);
    wait_until("some more attempts", || attempts(&surgegate) >= failed + PROBES);
    let (failed, after) = (attempts(&surgegate), surgegate.memory_bytes());
    // Whoever watches it sees nothing wrong with it: it accepts.
    for path in ["/livez", "/readyz"] {
        assert_eq!(surgegate.observe(path).unwrap().status, 200, "{path}");
    }
    surgegate.scrape().assert_books_balance();
    assert_eq!(surgegate.scrape().count("spool_events", &[]) as usize, EVENTS);
    let flat = within(after < before + GROWTH_MAX, format!("from {before} to {after} bytes of memory"));
    // What waits and its order outlive the process.
    surgegate.kill();
    surgegate.start_again();
    assert_eq!(surgegate.scrape().count("spool_events", &[]) as usize, EVENTS);
    wait_until("the outage to be noticed again", || is_noticed(&surgegate, circuit_does));
    let returned = Instant::now();
    back(&mut upstream);
    let mut states = vec![circuit(&surgegate)];
    wait_until("the circuit to close and all to be delivered", || {
        states.push(circuit(&surgegate));
        states.last().is_some_and(|state| state == "closed") && surgegate.scrape().count("spool_events", &[]) == 0
    });
    states.dedup();
    let scrape = surgegate.wait_until_delivered();
    let all = failed + scrape.count("upstream_requests_total", &[]);
    eprintln!(
        "{name}: {failed} attempts before the restart, {all} in all for {EVENTS} events, memory {before} then {after}, \
         all there {:?} after the return, circuit {states:?}",
        returned.elapsed()
    );
    assert!(all as f64 <= 1.2 * EVENTS as f64, "{all} attempts for {EVENTS} events");
    let arrivals = upstream.arrivals();
    taken_once_and_in_order(&arrivals);
    let paced = pace_held(burst, &arrivals);
    was_climbed(&arrivals, returned);
    let said = surgegate.said();
    let (opened, closed) =
        (said.matches("its circuit is open\"").count(), said.matches("its circuit is closed\"").count());
    match circuit_does {
        Circuit::Opens => {
            assert!(states.contains(&"half_open".to_owned()), "{states:?}");
            assert_eq!(opened, closed + 1, "a line for each change, and the first process died with an open one");
            assert!(closed > 0);
        }
        Circuit::StaysClosed => assert_eq!((states, opened, closed), (vec!["closed".to_owned()], 0, 0)),
    }
    flat.and(paced)
}

/// Slowly at first, so that the circuit can be seen half open and more under way than may be would be seen.
fn answers(upstream: &mut Upstream) {
    let mut slow = 12;
    upstream.tell(move |_| {
        if slow == 0 {
            return Fault::Answer(200);
        }
        slow -= 1;
        Fault::After(Duration::from_millis(450), 200)
    });
}

#[test]
fn a_dead_upstream_is_waited_for() {
    ride_out("dead", WHOLE_BURST, Upstream::dead, Circuit::Opens, |upstream| {
        answers(upstream);
        upstream.live();
    });
}

#[test]
fn a_hanging_upstream_is_waited_for() {
    ride_out("hanging", SMALL_BURST, || Upstream::scripted(|_| Fault::Hang), Circuit::Opens, answers);
}

#[test]
fn an_upstream_that_fails_and_hangs_in_the_body_is_waited_for() {
    ride_out(
        "hanging in the body",
        WHOLE_BURST,
        || Upstream::scripted(|_| Fault::HangInBody(503)),
        Circuit::Opens,
        answers,
    );
}

#[test]
fn an_upstream_that_resets_connections_is_waited_for() {
    ride_out("resetting", SMALL_BURST, || Upstream::scripted(|_| Fault::Reset), Circuit::Opens, answers);
}

#[test]
fn an_upstream_that_cuts_its_answers_is_waited_for() {
    ride_out("truncating", WHOLE_BURST, || Upstream::scripted(|_| Fault::Truncate), Circuit::Opens, answers);
}

#[test]
fn an_upstream_that_fails_is_waited_for() {
    let fails = || {
        let mut turn = 0;
        Upstream::scripted(move |_| {
            turn += 1;
            Fault::Answer([500, 502, 503, 504][turn % 4])
        })
    };
    ride_out("5xx", SMALL_BURST, fails, Circuit::Opens, answers);
}

#[test]
fn an_upstream_that_asks_for_patience_gets_it() {
    let seconds = |_: &Arrival| Fault::RetryAfter(429, 2);
    ride_out("429 for seconds", WHOLE_BURST, || Upstream::scripted(seconds), Circuit::StaysClosed, answers);
}

#[test]
fn an_upstream_that_asks_for_patience_until_a_date_gets_it() {
    let date = |_: &Arrival| Fault::RetryAt(429, 3);
    ride_out("429 until a date", SMALL_BURST, || Upstream::scripted(date), Circuit::StaysClosed, answers);
}

#[test]
fn an_upstream_that_says_200_and_then_hangs_has_taken_the_event() {
    let mut first = 3 * CONNECTIONS;
    let upstream = Upstream::scripted(move |_| {
        first = usize::saturating_sub(first, 1);
        if first > 0 { Fault::HangInBody(200) } else { Fault::Answer(200) }
    });
    let surgegate = Surgegate::start(&[&configuration(&upstream.url(), &format!("connections: {CONNECTIONS}"))]);
    post_all(&surgegate);
    wait_until("all to be delivered", || {
        assert_eq!(circuit(&surgegate), "closed");
        surgegate.scrape().count("spool_events", &[]) == 0
    });
    assert_eq!(attempts(&surgegate) as usize, EVENTS, "nothing is sent twice");
    taken_once_and_in_order(&upstream.arrivals());
}

#[test]
fn a_hang_is_noticed_before_the_time_out_and_leaves_connections_free() {
    let upstream = Upstream::scripted(|_| Fault::Hang);
    let surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 64, timeout: 8s")]);
    post_all(&surgegate);
    let (mut most, mut failed) = (0, 0);
    wait_until("the circuit to open", || {
        let now = status(&surgegate);
        most = most.max(now["requests_in_flight"].as_u64().unwrap());
        failed = attempts(&surgegate);
        now["circuit"] == "open"
    });
    assert_eq!(failed, 0, "by time-outs");
    assert!((32..60).contains(&most), "{most} of 64 connections");
    // Where it was noticed, the hang ends for what comes next; what hung is tried again after its time-out.
    upstream.tell(|_| Fault::Answer(200));
    surgegate.wait_until_delivered();
    taken_once_and_in_order(&upstream.arrivals());
    let all = attempts(&surgegate);
    assert!(all as f64 <= 1.2 * EVENTS as f64, "{all} attempts for {EVENTS} events");
}

#[test]
fn a_flapping_upstream_gets_everything_once_and_is_not_hammered() {
    measured(is_not_hammered);
}

/// `Err` with the pace where it is not held; all else fails at once.
fn is_not_hammered() -> Result<(), String> {
    let began = Instant::now();
    let flaps = move |arrival: &Arrival| {
        let period = began.elapsed().as_secs();
        match (period < 8 && period % 2 == 1, arrival.key.ends_with('7')) {
            (false, _) => Fault::Answer(200),
            (true, false) => Fault::Answer(503),
            (true, true) => Fault::Reset,
        }
    };
    let upstream = Upstream::scripted(flaps);
    let surgegate = Surgegate::start(&[&configuration(&upstream.url(), &settings(SMALL_BURST))]);
    post_all(&surgegate);
    let mut states = Vec::new();
    wait_until("all to be delivered", || {
        states.push(circuit(&surgegate));
        surgegate.scrape().count("spool_events", &[]) == 0
    });
    states.dedup();
    let scrape = surgegate.wait_until_delivered();
    let failed = scrape.count("upstream_requests_total", &[("code", "503")]);
    let all = scrape.count("upstream_requests_total", &[]);
    eprintln!("flapping: {all} attempts for {EVENTS} events, {failed} failed, circuit {states:?}");
    assert!(failed > 0, "it did not flap");
    assert!(states.contains(&"open".to_owned()), "{states:?}");
    assert!(all as f64 <= 1.2 * EVENTS as f64, "{all} attempts for {EVENTS} events");
    taken_once_and_in_order(&upstream.arrivals());
    pace_held(SMALL_BURST, &upstream.arrivals())
}

#[test]
fn memory_is_flat_while_a_dead_upstream_stays_dead() {
    let _alone = alone();
    let queued = crate::crash::figure("SURGEGATE_TORTURE_OUTAGE", 20_000);
    measured(|| stays_flat(queued));
}

/// `Err` with the memory it took when that is too much.
fn stays_flat(queued: usize) -> Result<(), String> {
    let upstream = Upstream::dead();
    let surgegate = Surgegate::start(&[&configuration(&upstream.url(), &settings(SMALL_BURST))]);
    fill(&surgegate, "first", queued);
    let before = surgegate.memory_bytes();
    fill(&surgegate, "second", queued);
    let per_event = surgegate.memory_bytes().saturating_sub(before) as f64 / queued as f64;
    eprintln!("{per_event:.0} B of memory a queued event with its key");
    // A state of 88 B at most, 16 B of the index, and a lane; not the body.
    within(per_event < 400.0, format!("{per_event:.0} B of memory a queued event"))?;
    let (attempts_before, before) = (attempts(&surgegate), surgegate.memory_bytes());
    wait_until("probes", || attempts(&surgegate) >= attempts_before + PROBES);
    let after = surgegate.memory_bytes();
    within(after < before + (8 << 20), format!("from {before} to {after} bytes while nothing came"))
}

/// One key's events end so; another key's do not wait for them, and the circuit stays closed.
fn beside_poison(poison: Fault) {
    let _alone = alone();
    measured(|| others_pass(poison.clone()));
}

/// `Err` with the time that another key's event waited when that is too much.
fn others_pass(poison: Fault) -> Result<(), String> {
    let name = format!("{poison:?}");
    let refused = matches!(poison, Fault::Answer(400));
    let upstream =
        Upstream::scripted(move |arrival| if arrival.key == "poison" { poison.clone() } else { Fault::Answer(200) });
    let surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 4, timeout: 1s")]);
    assert_eq!(surgegate.post(PATH, trigger("poison")).status, 202);
    assert_eq!(surgegate.post(PATH, resolve("poison")).status, 202);
    wait_until("the poison to arrive", || upstream.count() > 0);
    let mut slowest = Duration::ZERO;
    let poisoned = || upstream.arrivals().iter().filter(|arrival| arrival.key == "poison").count();
    for number in 0.. {
        // Several failures of the poison, and what they lead to, are lived through.
        if number >= 40 && (poisoned() > 2 || refused) {
            break;
        }
        let key = format!("key-{number}");
        let posted = Instant::now();
        assert_eq!(surgegate.post(PATH, trigger(&key)).status, 202);
        wait_until("another key's event", || upstream.arrivals().iter().any(|arrival| arrival.key == key));
        slowest = slowest.max(posted.elapsed());
        assert_eq!(circuit(&surgegate), "closed");
    }
    eprintln!("beside a poison event ({name}) another key waited at most {slowest:?}");
    upstream.tell(|_| Fault::Answer(200));
    surgegate.wait_until_delivered();
    if refused {
        // The trigger, and the resolve that is nothing without it.
        assert_eq!(letters(&surgegate).len(), 2);
    } else {
        let arrivals = first_arrivals(&upstream.arrivals());
        let poison: Vec<&str> = arrivals["poison"].iter().map(|arrival| arrival.action.as_str()).collect();
        assert_eq!(poison, ["trigger", "resolve"]);
    }
    // PROMISES O4. A held-up lane would wait for the poison's backoff, again and again.
    within(slowest <= Duration::from_secs(1), format!("another key waited {slowest:?}"))
}

#[test]
fn events_it_hangs_on_hold_up_no_other_key() {
    beside_poison(Fault::Hang);
}

#[test]
fn events_it_fails_on_hold_up_no_other_key() {
    beside_poison(Fault::Answer(500));
}

#[test]
fn events_it_refuses_hold_up_no_other_key() {
    beside_poison(Fault::Answer(400));
}

fn letters(surgegate: &Surgegate) -> Vec<Value> {
    surgegate.admin("/api/v1/dead-letters").json().as_array().expect("rows").clone()
}

fn write(surgegate: &Surgegate, method: &str, path: &str) -> Answer {
    ask(surgegate.admin_address(), method, path, &[]).unwrap()
}

/// The ids of the dead letters, once there are so many.
fn ids(surgegate: &Surgegate, count: usize) -> Vec<String> {
    let rows = wait_for("dead letters", || Some(letters(surgegate)).filter(|rows| rows.len() == count));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn replay(surgegate: &Surgegate, id: &str) -> u16 {
    write(surgegate, "POST", &format!("/api/v1/dead-letters/{id}/replay")).status
}

#[test]
fn what_is_refused_becomes_dead_letters_that_are_replayed_or_dropped() {
    let refuses = |arrival: &Arrival| Fault::Answer(if arrival.key.starts_with("poison") { 400 } else { 200 });
    let upstream = Upstream::scripted(refuses);
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 4")]);
    let say = |surgegate: &Surgegate, body: String| assert_eq!(surgegate.post(PATH, body).status, 202);
    say(&surgegate, trigger("poison-1"));
    ids(&surgegate, 1);
    // The resolve of a trigger that never arrived follows it.
    say(&surgegate, resolve("poison-1"));
    say(&surgegate, trigger("fine"));
    let rows = {
        ids(&surgegate, 2);
        letters(&surgegate)
    };
    assert_eq!(
        (&rows[0]["reason"], &rows[0]["status"], &rows[0]["attempts"]),
        (&"refused".into(), &400.into(), &1.into())
    );
    assert_eq!(rows[1]["reason"], "predecessor_dead");
    for name in ["id", "event_uid", "upstream", "at"] {
        assert!(rows.iter().all(|row| row[name].is_string()), "{name} in {rows:?}");
    }
    wait_until("the other key", || upstream.arrivals().iter().any(|arrival| arrival.key == "fine" && arrival.taken));
    surgegate.wait_until_delivered();

    // They outlive the process, and are refused again as long as the upstream does.
    surgegate.kill();
    surgegate.start_again();
    let recovered = ids(&surgegate, 2);
    assert_eq!(recovered[0], rows[0]["id"].as_str().unwrap());
    assert_eq!(replay(&surgegate, &recovered[0]), 200);
    ids(&surgegate, 2);
    wait_until("another refusal", || {
        upstream.arrivals().iter().filter(|arrival| arrival.key == "poison-1").count() == 2
    });
    surgegate.wait_until_delivered();

    // Replayed when the upstream takes them: both, in order, under the same ids.
    upstream.tell(|_| Fault::Answer(200));
    let again = ids(&surgegate, 2);
    assert_eq!(replay(&surgegate, &again[0]), 200);
    wait_until("no dead letter", || letters(&surgegate).is_empty());
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("dead_letters", &[]), 0);
    let taken: Vec<Arrival> =
        upstream.arrivals().into_iter().filter(|arrival| arrival.key == "poison-1" && arrival.taken).collect();
    let said: Vec<(&str, &str)> = taken.iter().map(|arrival| (arrival.action.as_str(), arrival.uid.as_str())).collect();
    let uid = |row: usize| rows[row]["event_uid"].as_str().unwrap();
    assert_eq!(said, [("trigger", uid(0)), ("resolve", uid(1))]);
    assert_eq!(replay(&surgegate, &again[0]), 404, "it is no dead letter any more");

    // A generation that a newer one followed cannot be replayed, only dropped.
    upstream.tell(refuses);
    say(&surgegate, trigger("poison-2"));
    ids(&surgegate, 1);
    say(&surgegate, resolve("poison-2"));
    ids(&surgegate, 2);
    upstream.tell(|_| Fault::Answer(200));
    say(&surgegate, trigger("poison-2"));
    surgegate.wait_until_delivered();
    let closed = ids(&surgegate, 2);
    for restarted in [false, true] {
        assert_eq!(replay(&surgegate, &closed[0]), 409, "restarted: {restarted}");
        if !restarted {
            surgegate.kill();
            surgegate.start_again();
        }
    }
    for id in &closed {
        let path = format!("/api/v1/dead-letters/{id}");
        assert_eq!(write(&surgegate, "DELETE", &path).status, 200);
        assert_eq!(write(&surgegate, "DELETE", &path).status, 404);
    }
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_dropped_total", &[("reason", "operator")]), 2);
    // A kill may repeat it, under the same id.
    let taken: Vec<Arrival> = upstream.arrivals().into_iter().filter(|arrival| arrival.taken).collect();
    let generations: Vec<u64> = first_arrivals(&taken)["poison-2"].iter().map(|arrival| arrival.generation).collect();
    assert_eq!(generations, [2], "only the new generation arrived");
}
