//! R3: Redis in each of twelve states of decay, for some seconds under load. Nothing fails and nothing is lost; a replica
//! stays exact for its own keys; what goes out again is counted; afterwards all replicas know all states within 10 s.
//!
//! `SURGEGATE_TORTURE_DECAY_SECONDS` sets for how long.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fleet::{Fleet, Model, arrived};
use crate::crash::figure;
use crate::harness::redis::{Redis, Relay, Sentinels, Value};
use crate::harness::{PATH, PATIENCE, Raw, Stop, Surgegate, seed, signal, trigger, wait_while_it_runs};

/// So long that a busy machine does not make an outage of its own.
const TIMEOUT: &str = "300ms";
const REPLICAS: usize = 2;
/// Clients of each replica with keys of their own.
const CLIENTS: usize = 3;
/// Keys that are triggered at all replicas and never resolved.
const COMMON: usize = 20;
/// After the return of Redis (PROMISES R3).
const COMPLETE_WITHIN: Duration = Duration::from_secs(10);

fn outage() -> Duration {
    Duration::from_secs(figure("SURGEGATE_TORTURE_DECAY_SECONDS", 3) as u64)
}

/// Lets Redis decay under load: `fall` begins it, `rise` ends it. `states`: how many states Redis holds.
fn survives(fleet: &Fleet, fall: impl FnOnce(), rise: impl FnOnce(), states: impl Fn() -> usize) {
    let seed = seed();
    let mut models: Vec<Model> = (0..REPLICAS * CLIENTS)
        .map(|at| Model::new(&format!("own{at}"), seed.wrapping_add(at as u64), Some(at % REPLICAS)))
        .collect();
    let over = AtomicBool::new(false);
    let (wrong, common): (Vec<String>, usize) = std::thread::scope(|scope| {
        let _stop = Stop(&over);
        let own: Vec<_> = models
            .iter_mut()
            .map(|model| {
                let mut connections: Vec<Raw> = fleet.replicas.iter().map(Surgegate::connect).collect();
                let over = &over;
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    while !over.load(Ordering::SeqCst) {
                        wrong.extend(model.post(&mut connections));
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    wrong
                })
            })
            .collect();
        let shared = scope.spawn(|| {
            let mut connections: Vec<Raw> = fleet.replicas.iter().map(Surgegate::connect).collect();
            let mut posted = 0;
            while !over.load(Ordering::SeqCst) {
                let answer = connections[posted % REPLICAS]
                    .post(PATH, trigger(&format!("common{}", posted / REPLICAS % COMMON)));
                assert_eq!(answer.unwrap().status, 202);
                posted += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            posted
        });
        std::thread::sleep(Duration::from_millis(500));
        fall();
        std::thread::sleep(outage());
        rise();
        std::thread::sleep(Duration::from_secs(1));
        over.store(true, Ordering::SeqCst);
        let wrong = own.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (wrong, shared.join().unwrap())
    });
    assert!(wrong.is_empty(), "{} wrong answers: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    let keys = COMMON.min(common / REPLICAS) + models.iter().map(Model::keys).sum::<usize>();
    wait_while_it_runs(COMPLETE_WITHIN, "all states in Redis", || (states() >= keys).then_some(()));
    fleet.wait_until_joined();

    // Everything arrived; what came twice was counted.
    let again = || {
        let (by_key, _) = arrived(&fleet.recorder);
        models.iter().map(|model| model.said_again(&by_key)).sum::<Result<usize, String>>()
    };
    let until = Instant::now() + PATIENCE;
    while again().is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let again = again().unwrap_or_else(|missing| panic!("{missing}"));
    let (by_key, _) = arrived(&fleet.recorder);
    let common_again: usize =
        (0..COMMON).filter_map(|at| by_key.get(&format!("common{at}"))).map(|got| got.len() - 1).sum();
    let (counted, alone) = (fleet.sum("dedup_unconfirmed_total") as usize, fleet.sum("redis_fallbacks_total"));
    eprintln!(
        "{again} of their own and {common_again} of common keys came again; {counted} counted, {alone} decided alone"
    );
    assert!(again <= counted, "{again} came again, {counted} were counted");
    // Each replica may open each common key once, and say it again twice.
    assert!(common_again <= COMMON * REPLICAS * 3, "{common_again} came again");
    fleet.replicas.iter().for_each(|replica| replica.scrape().assert_books_balance());

    // And each replica knows what the others were told meanwhile. A machine that stands still for longer than `TIMEOUT` is an
    // outage of its own: a replica that decides alone then counts it, and what it says of that key shows nothing any more.
    let (mut known, mut excused) = (0, 0);
    for model in &mut models {
        for replica in &fleet.replicas {
            let alone = || replica.scrape().count("redis_fallbacks_total", &[("use", "claims")]);
            let before = alone();
            known += model.keys();
            let wrong = model.wrong_at(&mut replica.connect());
            let (alone, shown) = (alone() - before, &wrong[..wrong.len().min(10)]);
            assert!(wrong.len() as u64 <= alone, "{} not known, {alone} decided alone: {shown:#?}", wrong.len());
            excused += wrong.len();
        }
    }
    assert!(excused * 2 < known, "of {known} states {excused} were asked for while nobody ran");
}

/// States that a server holds.
fn held(redis: &Redis) -> usize {
    redis.try_ask(&["KEYS", "surgegate:s:*"]).ok().and_then(strings).map_or(0, |keys| keys.len())
}

fn strings(value: Value) -> Option<Vec<String>> {
    redis::from_redis_value(value).ok()
}

/// One server for all.
fn with_one_server(fall: impl FnOnce(&mut Redis), rise: impl FnOnce(&mut Redis)) {
    let redis = Mutex::new(Redis::start());
    let lock = || redis.lock().unwrap();
    let fleet = Fleet::start(&lock().url(), REPLICAS, TIMEOUT);
    survives(&fleet, || fall(&mut lock()), || rise(&mut lock()), || held(&lock()));
}

/// With a relay before it.
fn with_a_way_between(fall: impl FnOnce(&Relay), rise: impl FnOnce(&Relay)) {
    let redis = Redis::start();
    let relay = Relay::start(redis.port());
    let fleet = Fleet::start(&relay.url(), REPLICAS, TIMEOUT);
    survives(&fleet, || fall(&relay), || rise(&relay), || held(&redis));
}

fn nothing<T: ?Sized>(_: &mut T) {}

#[test]
fn it_is_killed() {
    with_one_server(Redis::kill, Redis::start_again);
}

#[test]
fn it_is_stopped_and_goes_on() {
    with_one_server(|redis| redis.freeze(), |redis| redis.thaw());
}

#[test]
fn its_clients_are_paused() {
    with_one_server(|redis| redis.pause_ms(outage().as_millis() as u32), nothing);
}

#[test]
fn connections_are_refused() {
    with_a_way_between(|relay| relay.refuse(true), |relay| relay.refuse(false));
}

#[test]
fn what_is_sent_vanishes() {
    with_a_way_between(|relay| relay.silence(true), |relay| relay.silence(false));
}

#[test]
fn answers_are_slow() {
    with_a_way_between(|relay| relay.delay(Duration::from_millis(600)), |relay| relay.delay(Duration::ZERO));
}

#[test]
fn it_is_loading() {
    with_one_server(|redis| redis.restart_loading_ms(outage().as_millis() as u32), nothing);
}

#[test]
fn it_is_read_only() {
    with_one_server(|redis| redis.read_only(true), |redis| redis.read_only(false));
}

#[test]
fn it_is_out_of_memory() {
    with_one_server(|redis| redis.fill(true), |redis| redis.fill(false));
}

/// Again and again: each time all is gone.
#[test]
fn it_is_flushed() {
    with_one_server(|redis| drop(redis.ask(&["FLUSHALL"])), |redis| drop(redis.ask(&["FLUSHALL"])));
}

#[test]
fn it_fails_over_and_loses_writes() {
    let sentinels = Sentinels::start();
    let fleet = Fleet::start(&sentinels.url(), REPLICAS, TIMEOUT);
    let cut = || {
        // What is written from here on reaches no other server.
        sentinels.servers[1..].iter().for_each(Redis::freeze);
        std::thread::sleep(Duration::from_millis(400));
        signal("KILL", sentinels.servers[0].pid());
        sentinels.servers[1..].iter().for_each(Redis::thaw);
    };
    survives(&fleet, cut, || (), || held(sentinels.master()));
}

#[test]
fn its_keys_are_of_wrong_types() {
    with_one_server(|redis| redis.spoil("surgegate:s:"), |redis| redis.spoil("surgegate:s:"));
}
