//! What several replicas hold together through Redis: event limits, and ids of which each has its own.

mod ids;
mod model;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::redis::Redis;
use crate::harness::{KEY, PATH, Raw, Recorder, Stop, Surgegate, trigger, wait_until};

const PER_SECOND: u32 = 30;
const BURST: u32 = 30;
const REPLICAS: u32 = 3;

fn limited(recorder: &Recorder, on_limit: &str) -> String {
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [pager]\n    on_limit: {on_limit}\n    \
         rate_limit: {{ events_per_second: {PER_SECOND}, burst: {BURST} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}', rate_limit: {{ requests_per_second: 100000 }} }}\n",
        recorder.url()
    )
}

fn shared(server: &Redis, id: u32) -> String {
    format!("redis: {{ url: '{}', timeout: 500ms, replica_id: {id} }}\n", server.url())
}

fn replicas(recorder: &Recorder, server: &Redis, on_limit: &str) -> Vec<Surgegate> {
    let replicas: Vec<Surgegate> =
        (0..REPLICAS).map(|id| Surgegate::start(&[&limited(recorder, on_limit), &shared(server, id)])).collect();
    // Each has seen the others' beat.
    std::thread::sleep(Duration::from_secs(2));
    replicas
}

/// New incidents at one replica until told to stop; those that were accepted are counted.
fn load(replica: usize, connection: &mut Raw, accepted: &AtomicUsize, over: &AtomicBool) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    while !over.load(Ordering::SeqCst) {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let answer = connection.post(PATH, trigger(&format!("{replica}-{number}"))).unwrap();
        match answer.status {
            202 => drop(accepted.fetch_add(1, Ordering::SeqCst)),
            429 | 503 => std::thread::sleep(Duration::from_millis(2)),
            status => panic!("{status}: {}", answer.text()),
        }
    }
}

/// How many were accepted in how long, by all that take load.
fn offered(replicas: &[&Surgegate], time: Duration) -> (f64, f64) {
    let (accepted, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let stop = Stop(&over);
        for (at, replica) in replicas.iter().enumerate() {
            let (accepted, over) = (&accepted, &over);
            scope.spawn(move || load(at, &mut replica.connect(), accepted, over));
        }
        std::thread::sleep(time);
        drop(stop);
    });
    (accepted.load(Ordering::SeqCst) as f64, began.elapsed().as_secs_f64())
}

/// What docs/operations/redis.md promises: rate times time, the burst, and a lease for each replica.
fn most(seconds: f64) -> f64 {
    f64::from(PER_SECOND) * seconds + f64::from(BURST) + f64::from(REPLICAS * (BURST / REPLICAS))
}

#[test]
fn an_event_limit_holds_for_all_replicas_together_and_by_shares_while_redis_is_away() {
    let recorder = Recorder::start();
    let mut server = Redis::start();
    let replicas = replicas(&recorder, &server, "reject");
    let all: Vec<&Surgegate> = replicas.iter().collect();
    let is_alone = |replica: &Surgegate| replica.scrape().sum("rate_limit_fallback", &[]) == 1.0;
    assert!(!all.iter().any(|replica| is_alone(replica)));

    let (accepted, took) = offered(&all, Duration::from_secs(6));
    assert!(accepted <= most(took), "{accepted} in {took} s");
    // Nor is it wasted.
    assert!(accepted >= f64::from(PER_SECOND) * took * 0.8, "{accepted} in {took} s");

    server.kill();
    wait_until("shares", || all.iter().all(|replica| is_alone(replica)));
    let (accepted, took) = offered(&all, Duration::from_secs(6));
    assert!(accepted <= most(took), "{accepted} in {took} s without Redis");
    assert!(accepted >= f64::from(PER_SECOND) * took * 0.8, "{accepted} in {took} s without Redis");
    // One alone has its share, not all of it.
    let (accepted, took) = offered(&all[..1], Duration::from_secs(4));
    assert!(accepted <= most(took) / f64::from(REPLICAS) + 1.0, "{accepted} in {took} s by one");
    assert!(all[0].scrape().sum("redis_fallbacks_total", &[("use", "limits")]) > 0.0);

    server.start_again();
    wait_until("the common limit", || !all.iter().any(|replica| is_alone(replica)));
    // Of which one may have all when the others are idle.
    let (accepted, took) = offered(&all[..1], Duration::from_secs(6));
    assert!(accepted >= f64::from(PER_SECOND) * took * 0.8, "{accepted} in {took} s by one");
    assert!(accepted <= most(took), "{accepted} in {took} s by one");
}

#[test]
fn what_is_kept_for_a_token_is_forwarded_at_the_pace_of_all_replicas() {
    let recorder = Recorder::start();
    let server = Redis::start();
    let replicas = replicas(&recorder, &server, "spool");
    let began = Instant::now();
    for (at, replica) in replicas.iter().enumerate() {
        let mut connection = replica.connect();
        for number in 0..80 {
            assert_eq!(connection.post(PATH, trigger(&format!("{at}-{number}"))).unwrap().status, 202);
        }
    }
    recorder.wait_for(240);
    let took = began.elapsed().as_secs_f64();
    assert!(240.0 <= most(took), "all within {took} s");
}

#[test]
fn spoiled_limits_begin_anew() {
    let recorder = Recorder::start();
    let server = Redis::start();
    let one = Surgegate::start(&[&limited(&recorder, "reject"), &shared(&server, 0)]);
    assert_eq!(one.post(PATH, trigger("a")).status, 202);
    wait_until("the limit's own key", || !server.keys("surgegate:limit:").is_empty());
    server.spoil("surgegate:");
    let _ = offered(&[&one], Duration::from_secs(2));
    assert_eq!(one.scrape().sum("rate_limit_fallback", &[]), 0.0);
    let kind: String = redis::from_redis_value(server.ask(&["TYPE", &server.keys("surgegate:limit:")[0]])).unwrap();
    assert_eq!(kind, "string");
    let kind: String = redis::from_redis_value(server.ask(&["TYPE", "surgegate:replicas"])).unwrap();
    assert_eq!(kind, "hash");
}
