//! Order in a lane, independence between lanes, batches, restarts and stopping.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::world::{World, after, config, lost_answer, refused_connection, says, status, trigger};
use crate::event::{Action, Uid};
use crate::outcome::DeadReason;
use crate::sink::{Answer, Batch, Kind, UpstreamConfig, samples};

#[tokio::test(start_paused = true)]
async fn a_lane_keeps_its_order_and_sends_one_event_at_a_time_whatever_fails() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| match fastrand::u8(..10) {
        0 => status(500),
        1 => refused_connection(),
        2 => lost_answer(),
        _ => status(202),
    });
    let all: Vec<_> = (0..2_000).map(|index| trigger(&format!("key-{}", index % 40))).collect();
    world.push_all(&all);
    world.until_endings(2_000).await;

    let mut delivered: HashMap<u64, Vec<u64>> = HashMap::new();
    world.delivered().into_iter().for_each(|sequence| delivered.entry(sequence % 40).or_default().push(sequence));
    assert!(delivered.values().all(|lane| lane.is_sorted()), "delivered in order");
    let mut sent: HashMap<u64, Vec<u64>> = HashMap::new();
    world.upstream("up").sent().into_iter().for_each(|sequence| sent.entry(sequence % 40).or_default().push(sequence));
    assert!(
        sent.values().all(|lane| lane.is_sorted()),
        "none was sent while an earlier one of its lane was not delivered"
    );
    assert!(sent.values().map(Vec::len).sum::<usize>() > 2_100, "failures did hit");
    let meter = world.metrics.upstream("up");
    assert_eq!((meter.book().delivered, meter.book().spool_events), (2_000, 0));
    assert!(meter.book().repeated > 0, "a lost answer may mean a repeat");
    assert!(meter.retries.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_connections() {
    let mut world = World::started(&[UpstreamConfig { connections: 7, ..config() }]);
    *world.upstream("up").latency.lock().unwrap() = Duration::from_secs(1);
    let all: Vec<_> = (0..100).map(|index| trigger(&index.to_string())).collect();
    world.push_all(&all);
    world.until_endings(100).await;
    assert_eq!(world.upstream("up").in_flight.lock().unwrap().1, 7);
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_holds_up_no_other_key() {
    for poison in [400, 500, 302] {
        let mut world = World::started(&[UpstreamConfig { connections: 1, ..config() }]);
        world.upstream("up").answers(move |seen| status(if seen.keys[0] == "poison" { poison } else { 200 }));
        let bad = world.push_all(&[trigger("poison"), trigger("poison")]);
        for round in 0..20 {
            let good = world.push(&trigger(&format!("good-{round}")));
            world.pass(0.9).await;
            assert!(world.delivered().contains(&good), "{poison} in round {round}");
        }
        assert!(!world.delivered().contains(&bad));
        assert!(world.dead().iter().all(|(_, reason)| *reason == DeadReason::Refused));
        assert_eq!(world.dead().len(), if poison == 400 { 2 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_one_integration_does_not_delay_another() {
    let mut world = World::started(&[UpstreamConfig { connections: 1, ..config() }]);
    let storm: Vec<_> = (0..1_000).map(|index| trigger(&index.to_string())).collect();
    world.push_all(&storm);
    let mut quiet = trigger("quiet");
    quiet.integration = "billing";
    let quiet = world.push(&quiet);
    world.until_endings(1_001).await;
    let turn = world.delivered().iter().position(|sequence| *sequence == quiet).unwrap();
    assert!(turn <= 2, "its turn came as number {turn}");
}

#[tokio::test(start_paused = true)]
async fn upstreams_do_not_wait_for_each_other() {
    let mut world = World::started(&[config(), samples::upstream("other", Kind::Webhook)]);
    world.upstream("up").answers(|_| refused_connection());
    let mut both = trigger("key");
    both.targets = vec!["up", "other"];
    for _ in 0..50 {
        world.push(&both);
    }
    world.pass(1.0).await;
    assert_eq!(world.metrics.upstream("other").book().delivered, 50);
    assert_eq!(world.metrics.upstream("up").book().spool_events, 50);
}

fn batching() -> UpstreamConfig {
    UpstreamConfig { batch: Some(Batch { max_events: 10, max_wait: Duration::from_millis(10) }), ..config() }
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_one_event_a_lane_and_waits_to_fill() {
    let mut world = World::started(&[batching()]);
    let all: Vec<_> = (0..40).map(|index| trigger(&format!("{}", index % 8))).collect();
    world.push_all(&all);
    world.until_endings(40).await;
    let seen = world.upstream("up").seen();
    assert_eq!(seen.len(), 5, "eight lanes a time");
    for request in &seen {
        let mut keys = request.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_207_names_fails_alone() {
    let mut world = World::started(&[batching()]);
    world.upstream("up").answers(|seen| {
        let of = |key: &str, status: u16| {
            let place = seen.keys.iter().position(|other| other == key)?;
            Some(format!("{{\"event_uid\":\"{}\",\"status\":{status}}}", Uid(u128::from(seen.sequences[place]))))
        };
        let failed: Vec<String> = [of("bad", 400), of("busy", 503)].into_iter().flatten().collect();
        let late = seen.sequences.len() == 1;
        let failed = if late { String::new() } else { failed.join(",") };
        Ok(Answer { body: Bytes::from(format!("{{\"failed\":[{failed}]}}")), ..Answer::new(StatusCode::MULTI_STATUS) })
    });
    let first = world.push_all(&[trigger("a"), trigger("bad"), trigger("busy"), trigger("b")]);
    world.until_endings(4).await;
    assert_eq!(world.dead(), [(first + 1, DeadReason::Refused)]);
    assert_eq!(world.delivered(), [first, first + 3, first + 2], "what was busy came later");
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_tried_again_event_by_event() {
    let mut world = World::started(&[batching()]);
    world.upstream("up").answers(|seen| status(if seen.keys.iter().any(|key| key == "bad") { 422 } else { 200 }));
    let first = world.push_all(&[trigger("a"), trigger("bad"), trigger("b")]);
    world.until_endings(3).await;
    assert_eq!(world.dead(), [(first + 1, DeadReason::Refused)]);
    assert_eq!(world.delivered(), [first, first + 2]);
    assert_eq!(world.upstream("up").seen().len(), 4);
    assert_eq!(world.metrics.upstream("up").book().repeated, 0, "a refused batch delivered nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_alone_shares_no_request_with_what_came_meanwhile() {
    let mut world = World::started(&[batching()]);
    *world.upstream("up").latency.lock().unwrap() = Duration::from_secs(1);
    world.upstream("up").answers(|seen| status(if seen.keys.iter().any(|key| key == "bad") { 422 } else { 200 }));
    world.push_all(&[trigger("a"), trigger("bad")]);
    world.pass(1.005).await;
    // Within the time a batch takes to fill, so it is queued before the refusal is known.
    world.push_all(&[trigger("c"), trigger("d")]);
    world.until_endings(4).await;
    let requests: Vec<Vec<u64>> = world.upstream("up").seen().into_iter().map(|seen| seen.sequences).collect();
    assert_eq!(requests[0], [1, 2]);
    assert!(requests[1..].contains(&vec![3, 4]), "{requests:?}");
    assert!(requests[1..].contains(&vec![1]) && requests[1..].contains(&vec![2]), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_full_waits_for_more_but_not_for_long() {
    let mut world = World::started(&[batching()]);
    for index in 0..3 {
        world.push(&trigger(&index.to_string()));
        world.pass(0.003).await;
    }
    world.pass(0.002).await;
    assert_eq!(world.upstream("up").seen()[0].sequences, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_possible_repeats_are_the_heads_that_could_be_under_way() {
    let mut world = World::before_start();
    let all: Vec<_> = (0..50).map(|index| trigger(&format!("{}", index % 25))).collect();
    world.push_all(&all);
    world.start(&[UpstreamConfig { connections: 8, ..config() }]);
    world.push(&trigger("later"));
    world.until_endings(51).await;
    assert_eq!(world.metrics.upstream("up").book().repeated, 8);
    assert_eq!(world.delivered().len(), 51);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_removed_upstream_are_kept_and_counted_until_it_comes_back() {
    let mut world = World::started(&[]);
    world.push_all(&[trigger("a"), trigger("b")]);
    world.pass(2.0).await;
    assert_eq!(world.metrics.spool_orphaned_events.get(), 2);
    assert_eq!(
        world.handle().status().await.iter().map(|row| (row.configured, row.waiting_events)).next(),
        Some((false, 2))
    );
    world.handle().configure(vec![std::sync::Arc::new(config())]).await;
    world.until_endings(2).await;
    assert_eq!(world.metrics.spool_orphaned_events.get(), 0);
    world.handle().configure(Vec::new()).await;
    world.push(&trigger("c"));
    world.pass(2.0).await;
    assert_eq!((world.delivered().len(), world.metrics.spool_orphaned_events.get()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_under_way_and_sends_nothing_new() {
    let mut world = World::started(&[UpstreamConfig { connections: 2, ..config() }]);
    *world.upstream("up").latency.lock().unwrap() = Duration::from_secs(3);
    world.push_all(&[trigger("a"), trigger("b"), trigger("c")]);
    world.pass(1.0).await;
    let began = tokio::time::Instant::now();
    world.handle().stop(Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((world.delivered().len(), world.upstream("up").seen().len()), (2, 2));
    world.pass(60.0).await;
    assert_eq!(world.upstream("up").seen().len(), 2);
    assert_eq!(world.handle().replay("up-1").await, Err(crate::forward::Refused::Stopped));
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_no_longer_than_its_deadline() {
    let mut world = World::started(&[config()]);
    *world.upstream("up").latency.lock().unwrap() = Duration::from_secs(600);
    world.push(&trigger("a"));
    world.pass(1.0).await;
    let began = tokio::time::Instant::now();
    world.handle().stop(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(world.endings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn status_tells_what_waits_and_why() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| after(429, "30"));
    let mut old = trigger("a");
    old.received_at.0 -= 5_000_000;
    world.push(&old);
    world.pass(1.5).await;
    let row = world.handle().status().await.remove(0);
    assert_eq!((row.name.as_str(), row.waiting_events, row.requests_in_flight), ("up", 1, 0));
    assert_eq!((row.last_status, row.last_error.as_deref()), (Some(429), Some("answered 429 Too Many Requests")));
    assert!(row.held_for_s.is_some_and(|seconds| (20.0..30.0).contains(&seconds)), "{row:?}");
    assert!(!row.down);
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_has_no_word_for_is_a_dead_letter() {
    let mut world = World::started(&[samples::upstream("up", Kind::Squadcast)]);
    let all: Vec<_> = (0..1_000).map(|index| says(Action::Update, &index.to_string())).collect();
    world.push_all(&all);
    world.until_endings(1_000).await;
    assert!(world.dead().iter().all(|(_, reason)| *reason == DeadReason::NotExpressible));
    assert!(world.upstream("up").seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_keeps_its_order_within_every_key_and_forgets_nothing() {
    let batch = Batch { max_events: 700, max_wait: Duration::from_millis(10) };
    for batch in [None, Some(batch)] {
        let mut world = World::started(&[UpstreamConfig { connections: 3, batch, ..config() }]);
        world.upstream("up").answers(|_| if fastrand::u8(..20) == 0 { status(500) } else { status(200) });
        *world.upstream("up").latency.lock().unwrap() = Duration::from_millis(1);
        // Far more keys than lanes are made for, each said again behind all the others; one key in between all.
        let mut all: Vec<_> = (0..3_000).map(|index| trigger(&format!("key-{}", index % 1_000))).collect();
        (0..3_000).step_by(100).for_each(|place| all[place] = trigger("everywhere"));
        let names: Vec<_> = all.iter().map(|says| says.key.clone()).collect();
        let first = world.push_all(&all);
        assert_eq!(world.metrics.upstream("up").book().spool_events, 3_000);
        world.until_endings(3_000).await;
        let mut of_key: HashMap<_, Vec<u64>> = HashMap::new();
        for sequence in world.delivered() {
            let name = &names[usize::try_from(sequence - first).unwrap()];
            of_key.entry(name).or_default().push(sequence);
        }
        assert!(of_key.values().all(|lane| lane.is_sorted()), "in order within each key");
        assert_eq!(of_key.values().map(Vec::len).sum::<usize>(), 3_000);
        world.check_books();
    }
}

#[tokio::test(start_paused = true)]
async fn lanes_that_wait_for_a_retry_do_not_hold_up_what_stands_behind_them() {
    let mut world = World::started(&[UpstreamConfig { connections: 4, ..config() }]);
    world.upstream("up").answers(|seen| status(if seen.keys[0].starts_with("poison") { 500 } else { 200 }));
    let kinds = ["poison", "fine"];
    let mixed: Vec<_> = (0..1_200).map(|index| trigger(&format!("{}-{index}", kinds[index % 2]))).collect();
    world.push_all(&mixed);
    let good = world.push(&trigger("good"));
    // The stand-in answers about 400 requests a second, and every second one is poisoned.
    world.pass(4.0).await;
    assert!(world.delivered().contains(&good), "600 poisoned keys before it, more than lanes are made for");
}
