//! Limits of upstreams and integrations, holds, backoff, dead upstreams and giving up.

use std::time::Duration;

use tokio::time::Instant;

use super::world::{World, after, config, refused_connection, says, status, trigger};
use crate::claim::Pacing;
use crate::event::{Action, Micros};
use crate::outcome::DeadReason;
use crate::sink::{Pace, UpstreamConfig};

fn most_in_any(window: Duration, times: &[Instant]) -> usize {
    let inside =
        |(index, first): (usize, &Instant)| times[index..].iter().take_while(|at| **at < *first + window).count();
    times.iter().enumerate().map(inside).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn an_upstream_never_sees_more_than_its_pace_even_when_it_returns() {
    let pace = Pace { requests: 15, per: Duration::from_secs(60), burst: 15 };
    let mut world = World::started(&[UpstreamConfig { pace: Some(pace), ..config() }]);
    world.upstream("up").answers(|_| refused_connection());
    let all: Vec<_> = (0..60).map(|index| trigger(&index.to_string())).collect();
    world.push_all(&all);
    world.pass(300.0).await;
    world.upstream("up").answers(|_| status(202));
    world.until_endings(60).await;
    let times: Vec<Instant> = world.upstream("up").seen().iter().map(|seen| seen.at).collect();
    assert_eq!(most_in_any(pace.per, &times), 15);
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_the_whole_upstream_for_its_time() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|seen| if seen.keys[0] == "first" { after(429, "7") } else { status(200) });
    world.push(&trigger("first"));
    world.pass(0.1).await;
    let others: Vec<_> = (0..10).map(|index| trigger(&index.to_string())).collect();
    world.push_all(&others);
    world.pass(6.8).await;
    assert_eq!(world.upstream("up").seen().len(), 1, "everything waits");
    world.upstream("up").answers(|_| status(200));
    world.pass(0.3).await;
    assert_eq!(world.delivered().len(), 11);
    assert_eq!(world.delivered()[0], 1, "the held event is the next");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_met_a_429_is_the_first_to_go_after_it() {
    let mut world = World::started(&[UpstreamConfig { connections: 1, ..config() }]);
    world.upstream("up").answers(|_| after(429, "7"));
    world.push_all(&[trigger("first"), trigger("second"), trigger("third")]);
    world.pass(1.0).await;
    world.upstream("up").answers(|_| status(200));
    world.until_endings(3).await;
    assert_eq!(world.upstream("up").sent(), [1, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_503_with_a_time_holds_its_lane_alone() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|seen| if seen.keys[0] == "first" { after(503, "7") } else { status(200) });
    world.push_all(&[trigger("first"), trigger("first"), trigger("other")]);
    world.pass(6.9).await;
    assert_eq!(world.delivered(), [3]);
    assert_eq!(world.upstream("up").seen().len(), 2);
    world.upstream("up").answers(|_| status(200));
    world.pass(0.2).await;
    assert_eq!(world.delivered(), [3, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_costs_few_attempts_and_is_back_at_once() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    let events = 1_000;
    for index in 0..events {
        world.push(&trigger(&index.to_string()));
        world.pass(0.3).await;
    }
    let outage = world.upstream("up").seen().len();
    assert!(outage <= 60, "{outage} attempts in 5 minutes");
    assert!(world.handle().status().await[0].down);
    world.upstream("up").answers(|_| status(200));
    let returned = Instant::now();
    world.until_endings(events).await;
    assert!(returned.elapsed() < Duration::from_secs(21), "{:?}", returned.elapsed());
    let attempts = world.upstream("up").seen().len();
    assert!(attempts * 10 <= events * 12, "{attempts} attempts for {events} events");
    assert!(!world.handle().status().await[0].down);
    assert_eq!(world.metrics.upstream("up").retries.get(), u64::try_from(attempts - events).unwrap());
}

#[tokio::test(start_paused = true)]
async fn once_an_upstream_answers_again_no_lane_waits_out_its_backoff() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| refused_connection());
    let all: Vec<_> = (0..20).map(|index| trigger(&index.to_string())).collect();
    world.push_all(&all);
    world.pass(7200.0).await;
    world.upstream("up").answers(|_| status(200));
    world.push(&trigger("fresh"));
    world.pass(21.0).await;
    assert_eq!(world.delivered().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn one_event_is_tried_again_ever_less_often() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| status(500));
    world.push(&trigger("a"));
    world.pass(3600.0).await;
    let attempts = world.upstream("up").seen().len();
    assert!((12..80).contains(&attempts), "{attempts} attempts in an hour");
    assert!(world.endings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_old_is_given_up_after_a_failed_attempt_only() {
    let mut world = World::started(&[config()]);
    let mut old = trigger("old");
    old.received_at.0 -= 86_400_000_000;
    let first = world.push(&old);
    world.until_endings(1).await;
    assert_eq!(world.delivered(), [first], "age alone buries nothing");
    world.upstream("up").answers(|_| status(500));
    let second = world.push(&old);
    let young = world.push(&trigger("young"));
    world.pass(60.0).await;
    assert_eq!(world.dead(), [(second, DeadReason::GaveUp)]);
    assert!(!world.endings().iter().any(|(sequence, _)| *sequence == young));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stays_dead_is_given_up_on_for_every_event() {
    let give_up_after = Duration::from_secs(60);
    let mut world = World::started(&[UpstreamConfig { give_up_after, ..config() }]);
    world.upstream("up").answers(|_| refused_connection());
    // Too young to be given up by age in the first minutes: the wall clock stands still here.
    let young: Vec<_> = (0..70).map(|index| trigger(&format!("young-{index}"))).collect();
    world.push_all(&young);
    world.pass(100.0).await;
    let old: Vec<_> = (0..200)
        .map(|index| {
            let mut old = trigger(&format!("old-{index}"));
            old.received_at = Micros(old.received_at.0 - 61_000_000);
            old
        })
        .collect();
    world.push_all(&old);
    world.pass(60.0).await;
    assert_eq!(world.dead().len(), 200);
    assert!(world.upstream("up").seen().len() < 100);
}

fn unknown(key: &str) -> super::world::Says {
    super::world::Says { pacing: Pacing::UNKNOWN, ..says(Action::Resolve, key) }
}

#[tokio::test(start_paused = true)]
async fn unknown_resolves_go_ten_a_minute_and_count_against_their_line() {
    let mut world = World::started(&[config()]);
    let all: Vec<_> = (0..25).map(|index| unknown(&index.to_string())).collect();
    world.push_all(&all);
    world.pass(50.0).await;
    assert_eq!(world.delivered().len(), 10);
    let mut other = unknown("other");
    other.integration = "billing";
    world.push(&other);
    world.push(&trigger("fresh"));
    world.pass(1.0).await;
    assert_eq!(world.delivered().len(), 12, "another integration and other events do not wait");
    world.pass(200.0).await;
    assert_eq!(world.delivered().len(), 27);
    let times: Vec<Instant> =
        world.upstream("up").seen().iter().filter(|seen| seen.sequences[0] <= 25).map(|seen| seen.at).collect();
    assert_eq!(most_in_any(Duration::from_secs(60), &times), 10);
}

#[tokio::test(start_paused = true)]
async fn a_follower_on_the_key_sends_its_waiting_unknown_resolve_at_once_and_first() {
    let mut world = World::started(&[config(), crate::sink::samples::upstream("other", crate::sink::Kind::Webhook)]);
    let all: Vec<_> = (0..15)
        .map(|index| super::world::Says { targets: vec!["up", "other"], ..unknown(&index.to_string()) })
        .collect();
    world.push_all(&all);
    world.pass(1.0).await;
    assert_eq!(world.delivered().len(), 20, "a turn pays for both upstreams");
    world.push(&super::world::Says { targets: vec!["up", "other"], ..trigger("14") });
    world.pass(1.0).await;
    assert_eq!(world.delivered().len(), 24);
    let sent = world.upstream("up").sent();
    assert_eq!(sent[sent.len() - 2..], [15, 16]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_resolve_that_is_followed_already_does_not_wait_when_it_becomes_the_head() {
    let mut world = World::started(&[config()]);
    let spent: Vec<_> = (0..10).map(|index| unknown(&index.to_string())).collect();
    world.push_all(&spent);
    world.push_all(&[trigger("k"), unknown("k"), trigger("k")]);
    world.pass(1.0).await;
    assert_eq!(world.delivered().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn the_line_of_the_unknown_has_ten_thousand_places() {
    let mut world = World::started(&[config()]);
    let all: Vec<_> = (0..10_010).map(|index| unknown(&index.to_string())).collect();
    world.push_all(&all[..9_999]);
    assert!(!world.handle().unknown_line_is_full("payments"));
    world.push(&all[9_999]);
    assert!(world.handle().unknown_line_is_full("payments"));
    assert!(!world.handle().unknown_line_is_full("billing"));
    world.pass(1.0).await;
    assert!(!world.handle().unknown_line_is_full("payments"), "ten have gone");
}
