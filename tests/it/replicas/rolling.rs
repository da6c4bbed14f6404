//! D8: replicas that are restarted one after the other behind a balancer, under load; and one that is killed for good and
//! comes back elsewhere with its volume.
//!
//! `SURGEGATE_TORTURE_RESTARTS` sets how often each is restarted.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fleet::{Fleet, Model, PATIENT};
use crate::crash::figure;
use crate::harness::redis::Redis;
use crate::harness::{PATH, Raw, Reply, Stop, alone, resolve, seed, signal, trigger, wait_for, wait_until};

const CLIENTS: usize = 6;

/// Where a balancer sends requests: those that say they are ready, in turn.
struct Balancer(Vec<Mutex<Option<SocketAddr>>>);

impl Balancer {
    fn of(fleet: &Fleet) -> Self {
        Self(fleet.replicas.iter().map(|replica| Mutex::new(Some(replica.ingest()))).collect())
    }

    fn set(&self, replica: usize, address: Option<SocketAddr>) {
        *self.0[replica].lock().unwrap() = address;
    }

    /// One that is ready, from this one on.
    fn choose(&self, from: usize) -> (usize, SocketAddr) {
        let places = (0..self.0.len()).map(|at| (from + at) % self.0.len());
        places.filter_map(|at| Some((at, (*self.0[at].lock().unwrap())?))).next().expect("a replica that is ready")
    }
}

#[test]
fn rolling_restarts_behind_a_balancer_fail_no_request_and_lose_nothing() {
    let _alone = alone();
    let redis = Redis::start();
    let mut fleet = Fleet::start_with(&[redis.url(), redis.url()], PATIENT, "shutdown: { drain: 1s }\n");
    fleet.wait_until_joined();
    let balancer = Balancer::of(&fleet);
    let mut models = Model::many(CLIENTS, seed());
    let over = AtomicBool::new(false);
    let (wrong, posts) = std::thread::scope(|scope| {
        let _stop = Stop(&over);
        let clients: Vec<_> = models
            .iter_mut()
            .map(|model| {
                let (over, balancer) = (&over, &balancer);
                scope.spawn(move || {
                    let (mut wrong, mut posts) = (Vec::new(), 0);
                    while !over.load(Ordering::SeqCst) {
                        let (replica, address) = balancer.choose(posts);
                        // Chosen and lost in between: a balancer connects to another.
                        let Ok(mut connection) = Raw::try_connect(address) else { continue };
                        wrong.extend(model.post_to(replica, &mut connection));
                        posts += 1;
                    }
                    (wrong, posts)
                })
            })
            .collect();
        for _ in 0..figure("SURGEGATE_TORTURE_RESTARTS", 3) {
            for at in 0..fleet.replicas.len() {
                signal("TERM", fleet.replicas[at].pid());
                wait_until("readiness to go down", || {
                    fleet.replicas[at].observe("/readyz").is_ok_and(|ready| ready.status == 503)
                });
                balancer.set(at, None);
                fleet.wait_until_ended(at);
                fleet.replicas[at].start_again();
                balancer.set(at, Some(fleet.replicas[at].ingest()));
            }
        }
        over.store(true, Ordering::SeqCst);
        let ended = clients.into_iter().map(|client| client.join().unwrap());
        ended.fold((Vec::new(), 0), |(mut all, count), (wrong, posts)| {
            all.extend(wrong);
            (all, count + posts)
        })
    });
    assert!(wrong.is_empty(), "{} wrong answers: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert!(posts > 100, "{posts} posts show nothing");
    fleet.wait_until_delivered();
    Model::assert_forwarded(&models, &fleet);
}

#[test]
fn a_replica_that_comes_back_elsewhere_with_its_volume_delivers_its_queue_in_order() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(&redis.url(), 2, PATIENT);
    fleet.recorder.answer(|_| Reply::Status(503));
    for round in 0..3 {
        for key in 0..10 {
            let said = fleet.replicas[0].post(PATH, trigger(&format!("k{key}")));
            assert_eq!(said.outcome(), "created", "round {round}");
            assert_eq!(fleet.replicas[0].post(PATH, resolve(&format!("k{key}"))).outcome(), "resolved");
        }
    }
    fleet.replicas[0].kill();
    // The other one knows what became of the keys.
    assert_eq!(fleet.replicas[1].post(PATH, resolve("k0")).outcome(), "duplicate_resolve");
    fleet.recorder.answer(|_| Reply::Status(200));
    // Its ports are others now.
    fleet.replicas[0].start_again();
    fleet.wait_until_delivered();
    let mut last = std::collections::HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for event in fleet.recorder.events() {
        // Those that were refused came before.
        let uid = event["event_uid"].as_str().unwrap().to_owned();
        let place = (event["incident"]["generation"].as_u64().unwrap(), event["action"] == "resolve");
        if seen.insert(uid) {
            let before = last.insert(event["key"].as_str().unwrap().to_owned(), place);
            assert!(before.is_none_or(|before| before < place), "{event} came behind {before:?}");
        }
    }
    assert_eq!(seen.len(), 60);
}

/// A resolve at one replica, whose trigger another one has not delivered yet: it waits, also while that one is gone.
#[test]
fn a_resolve_waits_for_its_trigger_at_another_replica_and_for_that_ones_return() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(&redis.url(), 2, PATIENT);
    fleet.recorder.answer(|_| Reply::Status(503));
    fleet.replicas[0].post(PATH, trigger("k"));
    assert_eq!(fleet.replicas[1].post(PATH, resolve("k")).outcome(), "resolved");
    let resolves = |fleet: &Fleet| fleet.recorder.events().iter().filter(|event| event["action"] == "resolve").count();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(resolves(&fleet), 0, "it went though the trigger waits");
    fleet.replicas[0].kill();
    fleet.recorder.answer(|_| Reply::Status(200));
    // It counts as living for 3 s.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(resolves(&fleet), 0, "it went though the trigger's replica is to come back");
    fleet.replicas[0].start_again();
    fleet.wait_until_delivered();
    let events = fleet.recorder.events();
    let last: Vec<&str> = events.iter().rev().take(2).map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(last, ["resolve", "trigger"]);
}

/// Its state's time is over long before the volume is back: what waits for it has not forgotten for whom.
#[test]
fn a_resolve_waits_longer_than_its_state_lives_for_a_volume_that_comes_back_hours_later() {
    let redis = Redis::start();
    let mut fleet = Fleet::start_with(&[redis.url(), redis.url()], PATIENT, "dedup: { resolved_ttl: 3s }\n");
    fleet.wait_until_joined();
    fleet.recorder.answer(|_| Reply::Status(503));
    fleet.replicas[0].post(PATH, trigger("k"));
    assert_eq!(fleet.replicas[1].post(PATH, resolve("k")).outcome(), "resolved");
    fleet.replicas[0].kill();
    fleet.recorder.answer(|_| Reply::Status(200));
    // It counts as living for 3 s, and its state lives for 3 s.
    std::thread::sleep(Duration::from_secs(8));
    let went = fleet.recorder.events().iter().any(|event| event["action"] == "resolve");
    assert!(!went, "it went though the trigger's replica is to come back");
    fleet.replicas[0].start_again();
    fleet.wait_until_delivered();
    let events = fleet.recorder.events();
    let last: Vec<&str> = events.iter().rev().take(2).map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(last, ["resolve", "trigger"]);
}

/// As above, but a trigger follows at the second replica: alerts go on without the one that is gone.
#[test]
fn what_waits_for_a_replica_that_is_gone_goes_when_a_trigger_follows_it() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(&redis.url(), 2, PATIENT);
    fleet.recorder.answer(|_| Reply::Status(503));
    fleet.replicas[0].post(PATH, trigger("k"));
    let name = wait_for("its key", || redis.keys("surgegate:s:").pop());
    // Until then the other one knows of a lease alone.
    wait_until("its state", || redis::from_redis_value::<i64>(redis.ask(&["HEXISTS", &name, "o"])).unwrap() == 1);
    fleet.replicas[0].kill();
    fleet.recorder.answer(|_| Reply::Status(200));
    assert_eq!(fleet.replicas[1].post(PATH, resolve("k")).outcome(), "resolved");
    assert_eq!(fleet.replicas[1].post(PATH, trigger("k")).outcome(), "created");
    fleet.replicas[1].wait_until_delivered();
    let events = fleet.recorder.events();
    let last: Vec<&str> = events.iter().rev().take(2).map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(last, ["trigger", "resolve"]);
}
