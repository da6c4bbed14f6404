//! R2: several replicas with Redis are as exact as one. The real binary, real servers; every answer and every forward is
//! foretold by a model. R3, the ways in which Redis decays, is in `decay`.
//!
//! `SURGEGATE_TORTURE_SHARED` sets the number of mixed posts, `TEST_SEED` makes a run's choices again.

mod decay;
mod fleet;
mod ids;
mod rolling;

use self::fleet::{Fleet, Model, PATIENT};
use crate::crash::figure;
use crate::foretold::one_is_created;
use crate::harness::redis::{Cluster, Redis, Sentinels};
use crate::harness::{PATH, Raw, Reply, alone, resolve, seed, trigger, wait_until};

const CONNECTIONS: usize = 64;
/// How a lease writes the action.
const RESOLVE: u8 = 4;

/// All at once, spread over the replicas: one creates, all others are told of the same incident.
fn one_key_is_forwarded_once(url: &str, replicas: usize) {
    let fleet = Fleet::start(url, replicas, PATIENT);
    let posts = 5_000 / CONNECTIONS + 1;
    let mut connections: Vec<Raw> = (0..CONNECTIONS).map(|at| fleet.replicas[at % replicas].connect()).collect();
    one_is_created(&mut connections, posts);
    fleet.wait_until_delivered();
    assert_eq!(fleet.recorder.events().len(), 1);
    assert_eq!(fleet.sum("redis_fallbacks_total"), 0);
}

#[test]
fn of_five_thousand_concurrent_posts_of_one_key_over_two_replicas_one_is_forwarded() {
    let _alone = alone();
    one_key_is_forwarded_once(&Redis::start().url(), 2);
}

#[test]
fn of_five_thousand_concurrent_posts_of_one_key_over_three_replicas_one_is_forwarded() {
    let _alone = alone();
    one_key_is_forwarded_once(&Redis::start().url(), 3);
}

#[test]
fn a_cluster_of_three_keeps_one_key_exact() {
    let _alone = alone();
    let cluster = Cluster::start();
    one_key_is_forwarded_once(&cluster.urls(), 2);
}

/// A resolve's answer and a trigger elsewhere lie 100 ms apart (PROMISES R2).
#[test]
fn mixed_posts_over_three_replicas_are_answered_and_forwarded_as_a_model_foretells() {
    let _alone = alone();
    let redis = Redis::start();
    let mut fleet = Fleet::start(&redis.url(), 3, PATIENT);
    let posts = figure("SURGEGATE_TORTURE_SHARED", 20_000);
    let mut models: Vec<Model> = Model::many(CONNECTIONS, seed());
    Model::drive_all(&mut models, &fleet, posts / 2);
    // What one replica knew, it knows again, and the others with it.
    fleet.kill_and_start(0);
    Model::drive_all(&mut models, &fleet, posts / 2);
    fleet.wait_until_delivered();
    Model::assert_forwarded(&models, &fleet);
}

#[test]
fn a_failover_of_the_sentinels_changes_nothing_that_was_said_before() {
    let _alone = alone();
    let sentinels = Sentinels::start();
    let fleet = Fleet::start(&sentinels.url(), 2, PATIENT);
    let [one, other] = [&fleet.replicas[0], &fleet.replicas[1]];
    let open = one.post(PATH, trigger("open")).incident();
    let closed = one.post(PATH, trigger("closed")).incident();
    assert_eq!(other.post(PATH, resolve("closed")).outcome(), "resolved");
    sentinels.fail_over();
    fleet.wait_until_joined();
    wait_until("the states to be put back", || sentinels.master().keys("surgegate:s:").len() >= 2);
    let again = other.post(PATH, trigger("open"));
    assert_eq!((again.outcome(), again.incident()), ("duplicate", open));
    let again = one.post(PATH, resolve("closed"));
    assert_eq!((again.outcome(), again.incident()), ("duplicate_resolve", closed));
}

/// SIGKILL of the one that holds a key's lease: the other goes on under its ids when it lapses.
#[test]
fn a_lapsed_lease_is_taken_over_under_its_ids() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2, PATIENT);
    // As a replica would leave it that died before its log was written: the key's name is taken from a real one.
    fleet.replicas[0].post(PATH, trigger("leased"));
    let name = wait_until_one(&redis);
    fleet.replicas[0].post(PATH, resolve("leased"));
    let lease: Vec<u8> = (1..=41).map(|byte| if byte == 41 { 1 } else { byte }).collect();
    let until = now_ms() + 1500;
    let held = std::str::from_utf8(&lease).unwrap();
    redis.ask(&["HSET", &name, "t", "somebodyelse0000", "l", held, "u", &until.to_string()]);
    let answer = fleet.replicas[1].post(PATH, trigger("leased"));
    assert!(now_ms() >= until, "it did not wait for the lease");
    assert_eq!((answer.status, answer.outcome()), (202, "created"));
    let iid = u128::from_be_bytes(lease[..16].try_into().unwrap());
    let uid = u128::from_be_bytes(lease[24..40].try_into().unwrap());
    fleet.wait_until_delivered();
    let events = fleet.recorder.events();
    let last = events.last().unwrap();
    let text = |id: u128| fleet::ulid(id);
    assert_eq!(last["incident"]["iid"], text(iid));
    assert_eq!(last["event_uid"], text(uid));
    assert_eq!(answer.incident(), text(iid));
}

/// SIGKILL between the log's write and the word to Redis: the state there is the one before, under a lease. The process that
/// comes back puts its own state there and ends the lease; nobody goes on under ids that are in its log.
fn its_lease_ends_with_its_return(still_waits: bool) {
    let redis = Redis::start();
    let mut fleet = Fleet::start(&redis.url(), 2, PATIENT);
    if still_waits {
        fleet.recorder.answer(|_| Reply::Status(503));
    }
    let incident = fleet.replicas[0].post(PATH, trigger("left")).incident();
    let name = wait_until_one(&redis);
    if !still_waits {
        fleet.wait_until_delivered();
    }
    fleet.replicas[0].kill();
    fleet.recorder.answer(|_| Reply::Status(200));
    let held: Vec<u8> = (1..=41).map(|byte| if byte == 41 { RESOLVE } else { byte }).collect();
    let (held, until) = (std::str::from_utf8(&held).unwrap(), (now_ms() + 60_000).to_string());
    // Its tokens begin with its id, 0; a field of what it has delivered stands there too.
    redis.ask(&["HSET", &name, "t", "\0\0killedprocess0", "l", held, "u", &until, "o", "1", "q:0:pager", "1"]);
    fleet.replicas[0].start_again();
    let answer = fleet.replicas[1].post(PATH, resolve("left"));
    assert_eq!((answer.outcome(), answer.incident()), ("resolved", incident));
    fleet.wait_until_delivered();
    let events = fleet.recorder.events();
    let uid = u128::from_be_bytes(held.as_bytes()[24..40].try_into().unwrap());
    assert_ne!(events.last().unwrap()["event_uid"], fleet::ulid(uid));
    assert_eq!(fleet.sum("dedup_unconfirmed_total"), 0);
}

#[test]
fn a_lease_that_a_killed_process_left_ends_with_its_return() {
    its_lease_ends_with_its_return(false);
}

#[test]
fn a_lease_that_a_killed_process_left_ends_with_its_return_while_its_event_still_waits() {
    its_lease_ends_with_its_return(true);
}

fn now_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

fn wait_until_one(redis: &Redis) -> String {
    crate::harness::wait_for("a key", || redis.keys("surgegate:s:").pop())
}
