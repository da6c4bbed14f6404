//! The circuit: against a naive model, and in the forwarder on the paused clock.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::world::{World, after, config, lost_answer, refused_connection, status, trigger};
use crate::forward::circuit::{Circuit, End, LOOK_AGAIN, Pass, Reach, State, Ticket, WAIT_MAX};
use crate::sink::UpstreamConfig;
use crate::store::LaneKey;

const TIMEOUT: Duration = Duration::from_secs(10);

/// One request as the model remembers it.
struct Sent {
    ticket: Ticket,
    at: Instant,
    /// After the last opening.
    counts: bool,
}

/// What the circuit should be at, from lists that are searched anew each time.
struct Model {
    connections: usize,
    patience: Duration,
    state: State,
    under_way: Vec<Sent>,
    failures: Vec<(u64, Reach)>,
    answered_at: Option<Instant>,
    suspected_at: Option<Instant>,
    /// Since the opening, or before it since ever.
    successes: usize,
    opened_at: Instant,
    asked: Duration,
    /// Failures of different lanes in a row, whatever the state.
    lanes_in_a_row: HashSet<u64>,
}

impl Model {
    fn new(connections: usize, now: Instant) -> Self {
        Self {
            connections,
            patience: Duration::from_millis(2500),
            state: State::Closed,
            under_way: Vec::new(),
            failures: Vec::new(),
            answered_at: None,
            suspected_at: None,
            successes: 0,
            opened_at: now,
            asked: Duration::ZERO,
            lanes_in_a_row: HashSet::new(),
        }
    }

    fn counting(&self) -> usize {
        self.under_way.iter().filter(|sent| sent.counts).count()
    }

    fn enough(&self) -> usize {
        match (self.state, self.successes) {
            (State::HalfOpen, 0) => 1,
            (State::HalfOpen, _) => 2,
            _ => 5,
        }
    }

    fn open(&mut self, now: Instant, asked: Duration) {
        (self.state, self.opened_at, self.asked, self.successes) = (State::Open, now, asked, 0);
        self.under_way.iter_mut().for_each(|sent| sent.counts = false);
        self.failures.clear();
        self.suspected_at = None;
    }

    fn send(&mut self, ticket: Ticket, now: Instant) {
        if self.state == State::Open {
            self.state = State::HalfOpen;
        }
        self.under_way.push(Sent { ticket, at: now, counts: true });
    }

    fn succeed(&mut self, sent: &Sent, asked_until: Option<Instant>, now: Instant) {
        self.answered_at = Some(now);
        self.failures.clear();
        self.lanes_in_a_row.clear();
        if now - sent.at >= self.patience {
            self.patience = ((now - sent.at) * 2).min(TIMEOUT.max(self.patience));
        }
        if self.state == State::Closed || self.state == State::Open && asked_until.is_some_and(|at| at > now) {
            return;
        }
        self.state = State::HalfOpen;
        self.successes += 1;
        if self.successes == 3 {
            self.state = State::Closed;
        }
    }

    fn fail(&mut self, sent: &Sent, lane: u64, reach: Reach, asked: Duration, now: Instant) {
        if reach == Reach::Answer {
            self.answered_at = Some(now);
        }
        if !sent.counts {
            return;
        }
        self.lanes_in_a_row.insert(lane);
        self.failures.push((lane, reach));
        let lanes: HashSet<u64> = self.failures.iter().map(|(lane, _)| *lane).collect();
        let unconnected = self.failures.iter().filter(|(_, reach)| *reach == Reach::Nothing).count();
        if lanes.len().max(unconnected) >= self.enough() {
            self.open(now, asked);
        }
    }

    fn look_for_a_hang(&mut self, now: Instant) {
        let mut sent: Vec<Instant> = self.under_way.iter().filter(|sent| sent.counts).map(|sent| sent.at).collect();
        sent.sort_unstable();
        let enough = self.enough().min(self.connections.div_ceil(2).max(2));
        let hangs = self.patience < TIMEOUT
            && sent.get(enough - 1).is_some_and(|at| *at + self.patience <= now)
            && self.answered_at.is_none_or(|at| at + self.patience <= now);
        if !hangs {
            self.suspected_at = None;
        } else if self.suspected_at.is_some_and(|at| at + LOOK_AGAIN <= now) {
            self.open(now, Duration::ZERO);
        } else {
            self.suspected_at.get_or_insert(now);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// As many as may go.
    Send(usize),
    Success(usize),
    Held(usize),
    Failure {
        which: usize,
        lane: u64,
        reach: Reach,
        after_s: Option<u64>,
    },
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reach = prop_oneof![Just(Reach::Nothing), Just(Reach::Silence), Just(Reach::Answer)];
    let after_s = prop_oneof![8 => Just(None), 1 => (1u64..60).prop_map(Some)];
    let failure = (any::<usize>(), 0u64..12, reach, after_s);
    let step = prop_oneof![
        6 => (0u64..4_000).prop_map(Step::Wait),
        1 => (4_000u64..40_000).prop_map(Step::Wait),
        8 => (1usize..12).prop_map(Step::Send),
        5 => any::<usize>().prop_map(Step::Success),
        1 => any::<usize>().prop_map(Step::Held),
        9 => failure.prop_map(|(which, lane, reach, after_s)| Step::Failure { which, lane, reach, after_s }),
        1 => prop_oneof![9 => Just(Step::Wait(0)), 1 => Just(Step::Reset)],
    ];
    prop::collection::vec(step, 1..200)
}

/// A circuit beside its model, through some steps.
fn walk(connections: usize, chance: f64, steps: Vec<Step>) -> Result<HashSet<&'static str>, TestCaseError> {
    let mut now = Instant::now();
    let mut circuit = Circuit::new(connections, TIMEOUT);
    let mut model = Model::new(connections, now);
    let mut seen = HashSet::new();
    for step in steps {
        let which = match &step {
            Step::Success(which) | Step::Held(which) | Step::Failure { which, .. } => Some(*which),
            _ => None,
        };
        let sent = which
            .filter(|_| !model.under_way.is_empty())
            .map(|which| model.under_way.swap_remove(which % model.under_way.len()));
        match (step, sent) {
            (Step::Wait(ms), _) => now += Duration::from_millis(ms),
            (Step::Reset, _) => {
                circuit.reset(connections, TIMEOUT);
                let under_way = std::mem::take(&mut model.under_way);
                model = Model::new(connections, now);
                model.under_way = under_way.into_iter().map(|sent| Sent { counts: false, ..sent }).collect();
                prop_assert_eq!(circuit.pass(now), Pass::Now, "a reset circuit lets one through at once");
            }
            (Step::Send(count), _) => {
                for _ in 0..count {
                    if circuit.pass(now) != Pass::Now {
                        break;
                    }
                    let ticket = circuit.send(now);
                    model.send(ticket, now);
                }
            }
            (Step::Success(_), Some(sent)) => {
                let asked = Some(model.opened_at + model.asked).filter(|_| !model.asked.is_zero());
                circuit.land(sent.ticket, End::Success, now, chance);
                model.succeed(&sent, asked, now);
            }
            (Step::Held(_), Some(sent)) => {
                let before = circuit.state();
                circuit.land(sent.ticket, End::Held, now, chance);
                model.answered_at = Some(now);
                prop_assert_eq!(circuit.state(), before, "a 429 is pace");
            }
            (Step::Failure { lane, reach, after_s, .. }, Some(sent)) => {
                let after = after_s.filter(|_| reach == Reach::Answer).map(Duration::from_secs);
                let end = End::Failure { lanes: &[LaneKey(lane.into())], reach, after };
                circuit.land(sent.ticket, end, now, chance);
                // Only longer than the circuit's own wait it is the upstream's word: so it is in this walk.
                model.fail(&sent, lane, reach, after.unwrap_or_default(), now);
                if after.is_some() && circuit.state() == State::Open && model.opened_at == now {
                    let Pass::At(until) = circuit.pass(now) else { panic!("open, and lets go at once") };
                    prop_assert!(until >= now + model.asked, "sooner than asked");
                    if until > now + model.asked {
                        model.asked = Duration::ZERO;
                    }
                    seen.insert("asked");
                }
            }
            (Step::Success(_) | Step::Held(_) | Step::Failure { .. }, None) => {}
        }
        if circuit.is_hung(now) {
            circuit.hung(now, chance);
            seen.insert("hung");
        }
        model.look_for_a_hang(now);
        prop_assert_eq!(circuit.state(), model.state);
        seen.insert(circuit.state().name());
        prop_assert_eq!(circuit.open_for(now).is_none(), circuit.state() == State::Closed);
        prop_assert!(model.counting() <= connections);
        match circuit.state() {
            State::HalfOpen => {
                prop_assert!(model.counting() <= 1 + model.successes, "more probes than may be");
            }
            State::Open => {
                prop_assert_eq!(circuit.pass(model.opened_at + WAIT_MAX.max(model.asked)), Pass::Now, "stuck");
            }
            State::Closed => prop_assert!(model.lanes_in_a_row.len() < 5, "closed while every attempt fails"),
        }
        if model.under_way.iter().all(|sent| !sent.counts) {
            // Whatever it is at, it lets one through after a while without doing anything.
            prop_assert_eq!(circuit.pass(now + WAIT_MAX.max(model.asked)), Pass::Now, "stuck with nothing under way");
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_circuit_is_where_the_model_says(
        connections in 1usize..40,
        chance in 0.0..1.0f64,
        steps in steps(),
    ) {
        walk(connections, chance, steps)?;
    }
}

#[test]
fn the_walks_reach_every_state() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        seen.extend(walk(16, 0.5, steps).unwrap());
    }
    assert_eq!(seen, HashSet::from(["closed", "half_open", "open", "asked", "hung"]));
}

fn failure(lane: u128, reach: Reach) -> (Vec<LaneKey>, Reach) {
    (vec![LaneKey(lane)], reach)
}

/// Fails so often, one after the other, and gives the state after.
fn fail(circuit: &mut Circuit, failures: impl IntoIterator<Item = (Vec<LaneKey>, Reach)>, now: Instant) -> State {
    for (lanes, reach) in failures {
        let ticket = circuit.send(now);
        circuit.land(ticket, End::Failure { lanes: &lanes, reach, after: None }, now, 0.5);
    }
    circuit.state()
}

#[test]
fn one_failing_lane_never_opens_it_but_five_do_and_so_do_five_refused_connections() {
    let now = Instant::now();
    let mut circuit = Circuit::new(64, TIMEOUT);
    assert_eq!(fail(&mut circuit, (0..100).map(|_| failure(1, Reach::Answer)), now), State::Closed);
    assert_eq!(fail(&mut circuit, (2..5).map(|lane| failure(lane, Reach::Silence)), now), State::Closed);
    assert_eq!(fail(&mut circuit, [failure(5, Reach::Answer)], now), State::Open);
    let mut circuit = Circuit::new(64, TIMEOUT);
    assert_eq!(fail(&mut circuit, (0..4).map(|_| failure(1, Reach::Nothing)), now), State::Closed);
    assert_eq!(fail(&mut circuit, [failure(1, Reach::Nothing)], now), State::Open);
}

#[test]
fn a_batch_that_fails_for_one_of_its_events_is_one_failure() {
    let now = Instant::now();
    let batch = || ((0..100).map(LaneKey).collect(), Reach::Answer);
    let mut circuit = Circuit::new(64, TIMEOUT);
    assert_eq!(fail(&mut circuit, (0..4).map(|_| batch()), now), State::Closed);
    assert_eq!(fail(&mut circuit, [batch()], now), State::Open);
}

#[test]
fn each_failed_probe_makes_the_wait_longer_up_to_its_cap_and_a_close_makes_it_short_again() {
    let mut now = Instant::now();
    let mut circuit = Circuit::new(64, TIMEOUT);
    fail(&mut circuit, (0..5).map(|lane| failure(lane, Reach::Answer)), now);
    for ceiling_s in [1, 2, 4, 8, 16, 20, 20] {
        let Pass::At(at) = circuit.pass(now) else { panic!("open, and lets go at once") };
        // Chance is one half, of what is above a quarter of a second.
        assert_eq!(at - now, Duration::from_millis(125) + Duration::from_secs(ceiling_s) / 2);
        now = at;
        assert_eq!(fail(&mut circuit, [failure(9, Reach::Silence)], now), State::Open);
    }
    now += WAIT_MAX;
    for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
        let ticket = circuit.send(now);
        circuit.land(ticket, End::Success, now, 0.5);
        assert_eq!(circuit.state(), state);
    }
    fail(&mut circuit, (0..5).map(|lane| failure(lane, Reach::Answer)), now);
    assert_eq!(circuit.pass(now), Pass::At(now + Duration::from_millis(625)));
}

#[test]
fn after_a_success_one_failing_lane_does_not_open_it_again_but_two_do() {
    let mut now = Instant::now();
    let mut circuit = Circuit::new(64, TIMEOUT);
    fail(&mut circuit, (0..5).map(|lane| failure(lane, Reach::Answer)), now);
    now += WAIT_MAX;
    let probe = circuit.send(now);
    assert_eq!(circuit.pass(now), Pass::Full, "one probe at a time");
    assert!(circuit.land(probe, End::Success, now, 0.5), "the first success");
    let (one, other) = (circuit.send(now), circuit.send(now));
    assert_eq!(circuit.pass(now), Pass::Full, "then two");
    let poison = [LaneKey(7)];
    for ticket in [one, other] {
        circuit.land(ticket, End::Failure { lanes: &poison, reach: Reach::Answer, after: None }, now, 0.5);
        assert_eq!(circuit.state(), State::HalfOpen);
    }
    assert_eq!(fail(&mut circuit, [failure(8, Reach::Answer)], now), State::Open);
}

/// The state as the status and the metrics tell it; they must agree where it did not change between.
async fn told(world: &World) -> &'static str {
    let gauge = || world.metrics.upstream("up").circuit.get();
    loop {
        let before = gauge();
        let state = world.handle().status().await[0].circuit;
        if before == gauge() {
            assert!(["closed", "half_open", "open"].get(before as usize) == Some(&state), "{before} is not {state}");
            return state;
        }
    }
}

/// Pushes so many events of different keys.
fn push_many(world: &mut World, name: &str, count: usize) {
    let all: Vec<_> = (0..count).map(|index| trigger(&format!("{name}-{index}"))).collect();
    world.push_all(&all);
}

#[tokio::test(start_paused = true)]
async fn a_returned_upstream_is_climbed_not_stormed() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    push_many(&mut world, "key", 200);
    world.pass(60.0).await;
    assert_eq!(told(&world).await, "open");
    let latency = Duration::from_millis(100);
    *world.upstream("up").latency.lock().unwrap() = latency;
    world.upstream("up").answers(|_| status(200));
    let (before, returned) = (world.upstream("up").seen().len(), Instant::now());
    let mut states = Vec::new();
    while world.delivered().len() < 200 {
        states.push(told(&world).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    states.dedup();
    assert_eq!(states, ["open", "half_open", "closed"]);
    assert!(returned.elapsed() < WAIT_MAX + Duration::from_secs(3), "{:?}", returned.elapsed());
    let sent: Vec<Instant> = world.upstream("up").seen()[before..].iter().map(|seen| seen.at).collect();
    for (index, at) in sent.iter().enumerate() {
        let answered = sent.iter().filter(|sent| **sent + latency <= *at).count();
        assert!(index - answered <= answered, "{} under way after {answered} answers", index + 1 - answered);
    }
    let most = world.upstream("up").in_flight.lock().unwrap().1;
    assert!(most > 30, "it climbs all the way, not to {most}");
}

#[tokio::test(start_paused = true)]
async fn a_hang_opens_the_circuit_before_the_time_out_and_never_takes_all_connections() {
    let mut world = World::started(&[config()]);
    assert_eq!((config().connections, config().timeout), (64, TIMEOUT), "what the figures here stand on");
    *world.upstream("up").latency.lock().unwrap() = TIMEOUT;
    world.upstream("up").answers(|_| lost_answer());
    push_many(&mut world, "key", 300);
    world.pass(1.0).await;
    assert_eq!(told(&world).await, "closed");
    world.pass(1.7).await;
    assert_eq!(told(&world).await, "open");
    assert_eq!(world.handle().status().await[0].last_error.as_deref(), Some("no answer to what is under way"));
    world.pass(300.0).await;
    let (seen, most) = (world.upstream("up").seen().len(), world.upstream("up").in_flight.lock().unwrap().1);
    assert!(most <= 32 + 8, "{most} of 64 connections");
    assert!(seen <= 32 + 8 + 60, "{seen} attempts in five minutes");
    *world.upstream("up").latency.lock().unwrap() = Duration::from_millis(1);
    world.upstream("up").answers(|_| status(200));
    // The probe that hangs is given up on, and the longest wait is waited out.
    world.pass(36.0).await;
    assert_eq!(world.delivered().len(), 300);
    assert_eq!(told(&world).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_not_taken_for_one_that_hangs_more_than_once() {
    let mut world = World::started(&[config()]);
    *world.upstream("up").latency.lock().unwrap() = Duration::from_secs(3);
    for round in 0..20 {
        push_many(&mut world, &format!("round-{round}"), 100);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // The first answers came, so it is known how long they take.
            assert!(round < 1 || told(&world).await == "closed", "in round {round}");
        }
        assert_eq!(world.delivered().len(), 100 * (round + 1), "in round {round}");
    }
    assert_eq!(world.upstream("up").seen().len(), 2000, "nothing was sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_that_hangs_holds_up_no_other_key_for_a_second() {
    let mut world = World::started(&[UpstreamConfig { connections: 2, ..config() }]);
    *world.upstream("up").latency.lock().unwrap() = TIMEOUT;
    world.upstream("up").answers(|seen| if seen.keys[0] == "poison" { lost_answer() } else { status(200) });
    world.push(&trigger("poison"));
    world.pass(0.1).await;
    *world.upstream("up").latency.lock().unwrap() = Duration::from_millis(1);
    for index in 0..40 {
        let good = world.push(&trigger(&format!("good-{index}")));
        world.pass(0.6).await;
        assert!(world.delivered().contains(&good), "good-{index}");
        // Silent for longer than any answer is remembered.
        world.pass(1.5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_does_not_open_the_circuit_again_after_an_outage() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    world.push(&trigger("poison"));
    push_many(&mut world, "key", 10);
    world.pass(120.0).await;
    assert_eq!(told(&world).await, "open");
    world.upstream("up").answers(|seen| status(if seen.keys[0] == "poison" { 500 } else { 200 }));
    world.pass(WAIT_MAX.as_secs_f64() * 2.0).await;
    assert_eq!(world.delivered().len(), 10);
    for index in 0..50 {
        let good = world.push(&trigger(&format!("good-{index}")));
        world.pass(1.0).await;
        assert!(world.delivered().contains(&good), "good-{index}");
        world.pass(20.0).await;
    }
    assert_eq!(told(&world).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn what_never_failed_is_the_next_probe_whatever_else_waits() {
    for _ in 0..10 {
        let mut world = World::started(&[config()]);
        world.upstream("up").answers(|seen| status(if seen.keys[0] == "good" { 200 } else { 500 }));
        push_many(&mut world, "poison", 50);
        world.pass(600.0).await;
        assert_eq!(told(&world).await, "open");
        let before = world.upstream("up").seen().len();
        world.push_all(&[trigger("poison"), trigger("good")]);
        world.pass(2.0 * WAIT_MAX.as_secs_f64() + 0.1).await;
        let probes: Vec<String> =
            world.upstream("up").seen()[before..].iter().flat_map(|seen| seen.keys.clone()).collect();
        assert_eq!(probes[..2], ["poison", "good"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_event_that_no_connection_takes_is_there_soon_after_the_return() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    world.push(&trigger("only"));
    world.pass(7200.0).await;
    assert_eq!(told(&world).await, "open");
    world.upstream("up").answers(|_| status(200));
    world.pass(WAIT_MAX.as_secs_f64() + 0.1).await;
    assert_eq!(world.delivered(), [1], "its own backoff is minutes by now");
    assert_eq!(told(&world).await, "half_open", "one success is not enough to tell");
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_waits_as_long_as_a_503_asks_and_the_status_says_so() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| after(503, "120"));
    push_many(&mut world, "key", 64);
    world.pass(5.0).await;
    assert_eq!(told(&world).await, "open");
    let next = world.handle().status().await[0].next_try_in_s.unwrap();
    assert!((110.0..=120.0).contains(&next), "{next}");
    let seen = world.upstream("up").seen().len();
    push_many(&mut world, "more", 64);
    world.pass(110.0).await;
    assert_eq!(world.upstream("up").seen().len(), seen, "sooner than asked");
    world.upstream("up").answers(|_| status(200));
    world.pass(15.0).await;
    assert_eq!(world.delivered().len(), 128);
    assert_eq!(told(&world).await, "closed");
    assert_eq!(world.handle().status().await[0].next_try_in_s, None);
}

#[tokio::test(start_paused = true)]
async fn a_429_never_opens_the_circuit_nor_does_what_is_refused_for_good() {
    for code in [429, 400] {
        let mut world = World::started(&[config()]);
        world.upstream("up").answers(move |_| if code == 429 { after(429, "3") } else { status(code) });
        push_many(&mut world, "key", 100);
        for _ in 0..200 {
            world.pass(0.1).await;
            assert_eq!(told(&world).await, "closed", "{code}");
        }
        let next = world.handle().status().await[0].next_try_in_s;
        assert!(next.is_none_or(|next| code == 429 && next <= 3.0), "{next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_to_everything_costs_one_request_a_hold_and_then_it_climbs() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| after(429, "10"));
    push_many(&mut world, "key", 300);
    world.pass(5.0).await;
    let first = world.upstream("up").seen().len();
    world.pass(60.0).await;
    assert_eq!(world.upstream("up").seen().len() - first, 6);
    world.upstream("up").answers(|_| status(200));
    world.pass(10.0).await;
    assert_eq!(world.delivered().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_that_hangs_after_a_429_holds_up_no_other_key_for_a_second() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| after(429, "3"));
    world.push(&trigger("poison"));
    world.pass(2.9).await;
    *world.upstream("up").latency.lock().unwrap() = TIMEOUT;
    world.upstream("up").answers(|seen| if seen.keys[0] == "poison" { lost_answer() } else { status(200) });
    world.pass(0.2).await;
    *world.upstream("up").latency.lock().unwrap() = Duration::from_millis(1);
    let good = world.push(&trigger("good"));
    world.pass(0.6).await;
    assert_eq!(world.delivered(), [good]);
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_closes_the_circuit_and_an_equal_one_does_not() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    push_many(&mut world, "key", 20);
    world.pass(120.0).await;
    world.handle().configure(vec![config().into()]).await;
    assert_eq!(told(&world).await, "open");
    world.upstream("up").answers(|_| status(200));
    world.handle().configure(vec![UpstreamConfig { connections: 8, ..config() }.into()]).await;
    assert_eq!(told(&world).await, "closed");
    world.pass(0.5).await;
    assert_eq!(world.delivered().len(), 20);
    world.handle().configure(vec![]).await;
    assert_eq!(told(&world).await, "closed");
}
