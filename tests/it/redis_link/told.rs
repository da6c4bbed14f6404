//! Batches, scripts that are gone, and what is told of keys that change elsewhere.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use surgegate::redis::{Call, Down, Invalid, Link};

use super::{COUNT, READ, WRITE, call, config, count, link, runtime};
use crate::harness::redis::{Cluster, Redis};
use crate::harness::{Scrape, wait_until};

/// Collects what a link is told: keys, and `*` for all.
fn collected(link: &Link) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let into = Arc::clone(&told);
    link.watch(move |invalid| {
        into.lock().unwrap().push(match invalid {
            Invalid::Key(key) => String::from_utf8_lossy(key).into_owned(),
            Invalid::All => "*".to_owned(),
        });
    });
    told
}

#[test]
fn calls_that_come_together_share_round_trips_and_each_has_its_own_answer() {
    const CALLS: i64 = 5_000;
    let server = Redis::start();
    let (link, metrics) = link(&server.url());
    let calls = (0..CALLS).map(|_| link.call(Call::new(&COUNT, "surgegate:n")));
    let mut answers: Vec<i64> = runtime()
        .block_on(join_all(calls))
        .into_iter()
        .map(|answer| redis::from_redis_value(answer.unwrap()).unwrap())
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, (1..=CALLS).collect::<Vec<_>>());
    let scrape = Scrape::parse(&metrics.text().unwrap());
    assert_eq!(scrape.sum("redis_operations_total", &[("result", "ok")]), CALLS as f64);
    let trips = scrape.sum("redis_round_trip_duration_seconds_count", &[]);
    assert!(trips < CALLS as f64 / 10.0, "{trips} round trips");
}

#[test]
fn writes_behind_go_in_their_order_each_with_its_answer() {
    let (single, cluster) = (Redis::start(), Cluster::start());
    for urls in [single.url(), cluster.urls()] {
        let (link, _) = link(&urls);
        let calls: Vec<Call> =
            (0..1000).map(|at| Call::new(&WRITE, format!("surgegate:{{{}}}", at % 7)).number(at)).collect();
        let answers = runtime().block_on(link.send_behind(calls));
        assert_eq!((answers.len(), answers.iter().filter(|answer| answer.is_ok()).count()), (1000, 1000));
        for key in 0..7 {
            let last = (0..1000).rev().find(|at| at % 7 == key).unwrap();
            let stands: String =
                redis::from_redis_value(call(&link, &READ, &format!("{{{key}}}"), "").unwrap()).unwrap();
            assert_eq!(stands, last.to_string());
        }
    }
}

#[test]
fn a_server_that_forgot_its_scripts_is_sent_them_again() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    assert_eq!((count(&link, "a"), count(&link, "a")), (Ok(1), Ok(2)));
    server.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!((count(&link, "a"), count(&link, "a")), (Ok(3), Ok(4)));
    assert_eq!(link.outages(), 0);
}

#[test]
fn a_replica_is_told_of_changes_by_others_and_not_of_its_own() {
    let (single, cluster) = (Redis::start(), Cluster::start());
    for urls in [single.url(), cluster.urls()] {
        let ((one, _), (other, _)) = (link(&urls), link(&urls));
        let (to_one, to_other) = (collected(&one), collected(&other));
        for _ in 0..3 {
            assert!(count(&one, "{a}").is_ok() && count(&one, "{a}").is_ok());
            assert!(count(&other, "{a}").is_ok());
            wait_until("word of it", || to_one.lock().unwrap().contains(&"surgegate:{a}".to_owned()));
            // Read again by its own count, which the other is told of.
            assert!(count(&one, "{a}").is_ok());
            wait_until("word of it", || to_other.lock().unwrap().contains(&"surgegate:{a}".to_owned()));
            assert_eq!((to_one.lock().unwrap().len(), to_other.lock().unwrap().len()), (1, 1), "{urls}");
            to_one.lock().unwrap().clear();
            to_other.lock().unwrap().clear();
        }
    }
}

#[test]
fn what_waits_is_bounded_and_what_is_too_much_fails_at_once() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    server.freeze();
    let calls = (0..30_000).map(|_| link.call(Call::new(&COUNT, "surgegate:n")));
    let answers = runtime().block_on(join_all(calls));
    let full = answers.iter().filter(|answer| **answer == Err(Down::Full)).count();
    assert!(full > 10_000, "{full}");
    assert!(answers.iter().all(Result::is_err));
    server.thaw();
    wait_until("its return", || count(&link, "other").is_ok());
}

#[test]
fn a_link_that_nobody_holds_ends_its_connections() {
    let server = Redis::start();
    let metrics = surgegate::metrics::Metrics::new(1).unwrap();
    let link = Link::start(&config(&server.url()), &metrics).unwrap();
    wait_until("Redis", || link.is_up());
    let clients = || {
        let list: String = redis::from_redis_value(server.ask(&["CLIENT", "LIST"])).unwrap();
        list.lines().count()
    };
    // The one that asks is one of them.
    assert_eq!(clients(), 2);
    drop(link);
    wait_until("its end", || clients() == 1);
}
