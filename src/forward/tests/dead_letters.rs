//! Dead letters, what follows them, and what may be sent again (DESIGN 5.3).

use std::sync::Arc;

use super::world::{World, config, says, status, trigger};
use crate::event::{Action, Micros, State};
use crate::forward::{Filter, How, Refused, Replayed};
use crate::outcome::{DeadReason, DropReason};
use crate::sink::samples;
use crate::store::Ending;

/// An upstream that refuses every event whose sequence is named.
fn refusing(world: &World, refused: &'static [u64]) {
    world.upstream("up").answers(move |seen| status(if refused.contains(&seen.sequences[0]) { 400 } else { 200 }));
}

fn reopened(mut event: super::world::Says) -> super::world::Says {
    event.generation = 2;
    event
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_dead_trigger_in_its_generation_is_dead_too_and_the_next_generation_is_not() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1]);
    world.push_all(&[
        trigger("k"),
        says(Action::Acknowledge, "k"),
        says(Action::Resolve, "k"),
        reopened(trigger("k")),
        reopened(says(Action::Resolve, "k")),
        trigger("other"),
    ]);
    world.until_endings(6).await;
    let dead = [(1, DeadReason::Refused), (2, DeadReason::PredecessorDead), (3, DeadReason::PredecessorDead)];
    assert_eq!(world.dead(), dead);
    let mut delivered = world.delivered();
    delivered.sort_unstable();
    assert_eq!(delivered, [4, 5, 6]);
    assert_eq!(world.upstream("up").sent().iter().filter(|sequence| [2, 3].contains(*sequence)).count(), 0);
    let told = world.told.undelivered.lock().unwrap().clone();
    assert_eq!(told.iter().map(|(_, iid)| *iid).collect::<Vec<_>>(), [World::iid(1)]);
    let book = world.metrics.upstream("up").book();
    assert_eq!((book.dead_letters, book.dead_lettered["predecessor_dead"]), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_delivered_trigger_drops_the_dead_ones_of_its_generation() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1]);
    world.push_all(&[trigger("k"), says(Action::Acknowledge, "k"), trigger("k"), says(Action::Resolve, "k")]);
    world.until_endings(5).await;
    assert_eq!(world.delivered(), [3, 4]);
    assert!(world.endings().contains(&(1, Ending::Dropped(DropReason::Superseded))));
    assert_eq!(world.told.delivered.lock().unwrap().len(), 1);
    let book = world.metrics.upstream("up").book();
    assert_eq!((book.dropped["superseded"], book.dead_letters), (1, 1), "the acknowledge stays");
    let rows = world.handle().dead_letters(Filter::default(), None, 10).await;
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["up-2"]);
    assert_eq!(world.handle().replay("up-2").await, Err(Refused::Closed), "the resolve was delivered");
}

#[tokio::test(start_paused = true)]
async fn a_replay_sends_its_generation_in_order_and_before_what_came_later() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1]);
    world.push_all(&[trigger("key-long-enough"), says(Action::Acknowledge, "key-long-enough")]);
    world.until_endings(2).await;
    let rows =
        world.handle().dead_letters(Filter { upstream: Some("up".to_owned()), ..Filter::default() }, None, 10).await;
    let shown = serde_json::to_value(&rows[0]).unwrap();
    for (name, expected) in [
        ("id", serde_json::json!("up-1")),
        ("upstream", "up".into()),
        ("reason", "refused".into()),
        ("status", 400.into()),
        ("attempts", 1.into()),
        ("integration", "payments".into()),
        ("action", "trigger".into()),
        ("key", "ke***gh".into()),
    ] {
        assert_eq!(shown[name], expected, "{name}");
    }
    assert_eq!(world.handle().dead_letters(Filter::default(), Some("up-1"), 10).await, rows[1..]);

    world.upstream("up").answers(|_| status(500));
    world.push(&says(Action::Resolve, "other"));
    assert_eq!(world.handle().replay("up-2").await, Ok(2), "the whole group, whichever is named");
    world.push(&says(Action::Resolve, "key-long-enough"));
    world.pass(1.0).await;
    world.upstream("up").answers(|_| status(200));
    world.until_endings(8).await;
    let lane: Vec<u64> = world.delivered().into_iter().filter(|sequence| *sequence != 3).collect();
    assert_eq!(lane, [1, 2, 4]);
    assert_eq!(world.told.delivered.lock().unwrap().len(), 1);
    assert_eq!(world.metrics.upstream("up").book().dead_letters, 0);
    assert_eq!(world.handle().replay("up-1").await, Err(Refused::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_removed_upstream_is_replayed_when_it_is_back() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1]);
    world.push(&trigger("k"));
    world.until_endings(1).await;
    world.handle().configure(Vec::new()).await;
    assert_eq!(world.handle().replay("up-1").await, Err(Refused::Orphaned));
    for (how, dry_run) in [(How::DryRun, true), (How::AtOnce, false)] {
        let came = world.handle().replay_all(Filter::default(), how).await;
        assert_eq!(came, Ok(Replayed { refused: 1, dry_run, ..Replayed::default() }));
    }
    world.handle().configure(vec![Arc::new(config())]).await;
    world.upstream("up").answers(|_| status(200));
    assert_eq!(world.handle().replay("up-1").await, Ok(1));
    world.pass(1.0).await;
    world.until_endings(3).await;
    assert_eq!(world.delivered(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_was_followed_by_a_newer_one_is_not_replayed() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1, 5]);
    world.push_all(&[trigger("k"), says(Action::Resolve, "k"), reopened(trigger("k")), trigger("j"), trigger("free")]);
    world.until_endings(5).await;
    assert_eq!(world.handle().replay("up-1").await, Err(Refused::Followed));
    assert_eq!(world.handle().replay("up-2").await, Err(Refused::Followed));
    world.upstream("up").answers(|_| status(200));
    assert_eq!(
        world.handle().replay_all(Filter::default(), How::AtOnce).await,
        Ok(Replayed { replayed: 1, refused: 2, ..Replayed::default() })
    );
    assert_eq!(world.handle().drop_letter("up-1").await, Ok(()));
    assert_eq!(world.handle().drop_letter("up-1").await, Err(Refused::Unknown));
    assert_eq!(world.told.delivered.lock().unwrap().len(), 1, "no dead trigger is left of it");
    world.pass(1.0).await;
    assert!(world.delivered().contains(&5));
    let book = world.metrics.upstream("up").book();
    assert_eq!((book.dropped["operator"], book.dead_letters), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_living_incident_tells_what_may_be_replayed() {
    let mut world = World::before_start();
    let lane = |key: &str| samples::stored(1, samples::event(Action::Trigger, Some(key), "{}"), None).lane;
    let dead = |world: &mut World, key: &str| world.was_dead(&trigger(key));
    let (open, newer, ack) =
        (dead(&mut world, "open"), dead(&mut world, "newer"), world.was_dead(&says(Action::Acknowledge, "ack")));
    let (whole, lost) = (dead(&mut world, "whole"), dead(&mut world, "lost"));
    world.was_dead(&says(Action::Resolve, "whole"));
    for (key, incident) in [
        ("open", samples::incident(1, State::Open)),
        ("newer", samples::incident(2, State::Open)),
        ("ack", samples::incident(1, State::Resolved)),
        ("whole", samples::incident(1, State::Resolved)),
    ] {
        world.told.current.lock().unwrap().insert(lane(key), incident);
    }
    world.push(&says(Action::Resolve, "lost"));
    world.start(&[config()]);
    world.until_endings(1).await;
    assert_eq!(world.dead(), [(7, DeadReason::PredecessorDead)], "the mark outlives the restart");
    assert_eq!(world.told.undelivered.lock().unwrap().len(), 4);
    let replay = async |sequence: u64| world.handle().replay(&format!("up-{sequence}")).await;
    assert_eq!(replay(newer).await, Err(Refused::Followed));
    assert_eq!(replay(ack).await, Err(Refused::Closed));
    assert_eq!(replay(open).await, Ok(1));
    assert_eq!(replay(whole).await, Ok(2));
    assert_eq!(replay(lost).await, Ok(2));
    assert_eq!(replay(99).await, Err(Refused::Unknown));
    world.until_endings(1 + 5 + 5).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_a_dead_letter_and_its_lane_goes_on() {
    let mut world = World::before_start();
    world.push_all(&[trigger("k"), says(Action::Resolve, "k")]);
    world.damage(1);
    world.start(&[config()]);
    world.until_endings(2).await;
    assert_eq!(world.dead(), [(1, DeadReason::Unreadable)]);
    assert_eq!(world.delivered(), [2]);
    assert_eq!(world.handle().replay("up-1").await, Err(Refused::Unreadable));
    assert_eq!(world.handle().drop_letter("up-1").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_replayed_event_gets_the_full_time_to_give_up_again() {
    let mut world = World::started(&[config()]);
    refusing(&world, &[1]);
    let mut old = trigger("k");
    old.received_at.0 -= 90_000_000_000;
    world.push(&old);
    world.until_endings(1).await;
    world.upstream("up").answers(|_| status(500));
    assert_eq!(world.handle().replay("up-1").await, Ok(1));
    world.pass(60.0).await;
    assert_eq!(world.dead().len(), 1, "it is tried on");
    world.upstream("up").answers(|_| status(200));
    world.until_endings(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_paced_replay_releases_so_many_a_second_and_gives_way_to_the_next() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| status(400));
    let keys: Vec<_> = (0..10).map(|number| trigger(&format!("key-{number}"))).collect();
    world.push_all(&keys);
    world.until_endings(10).await;
    world.upstream("up").answers(|_| status(200));
    let pace = |per_second| How::PerSecond(std::num::NonZeroU32::new(per_second).unwrap());
    let all = Filter::default;
    let scheduled = Replayed { scheduled: Some(10), ..Replayed::default() };
    assert_eq!(world.handle().replay_all(all(), pace(2)).await, Ok(scheduled));
    for (seconds, delivered) in [(0.1, 1), (1.0, 3), (1.0, 5)] {
        world.pass(seconds).await;
        assert_eq!(world.delivered().len(), delivered);
    }
    // One that is named meanwhile is not sent twice.
    assert_eq!(world.handle().replay("up-10").await, Ok(1));
    let next = world.handle().replay_all(Filter { until: Some(Micros(0)), ..all() }, pace(1)).await.unwrap();
    assert_eq!((next.scheduled, next.given_up), (Some(0), Some(4)));
    world.pass(10.0).await;
    assert_eq!(world.delivered(), [1, 2, 3, 4, 5, 10], "of what was given up nothing is sent");
    assert_eq!(world.metrics.upstream("up").book().dead_letters, 4);
    let last = world.handle().replay_all(all(), pace(1000)).await.unwrap();
    assert_eq!((last.scheduled, last.given_up), (Some(4), None));
    world.pass(1.0).await;
    assert_eq!(world.delivered().len(), 10, "each once");
}

#[tokio::test(start_paused = true)]
async fn what_was_rejected_at_intake_is_shown_and_dropped_and_never_sent() {
    let mut world = World::started(&[config()]);
    world.keep_rejected(2);
    let rows = loop {
        let rows = world.handle().dead_letters(Filter::default(), None, 10).await;
        if rows.len() == 2 {
            break rows;
        }
        tokio::task::yield_now().await;
    };
    let shown: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.upstream.as_str(), row.reason)).collect();
    assert_eq!(shown, [("intake-1", "intake", "invalid_event"), ("intake-2", "intake", "invalid_event")]);
    let event = world.handle().dead_letter("intake-1").await.unwrap().event;
    assert_eq!(event.unwrap()["errors"], serde_json::json!(["labels: missing"]));
    assert_eq!(world.handle().replay("intake-1").await, Err(Refused::Rejected));
    let all = world.handle().replay_all(Filter::default(), How::AtOnce).await.unwrap();
    assert_eq!(all, Replayed { refused: 2, ..Replayed::default() });
    world.handle().drop_letter("intake-1").await.unwrap();
    assert_eq!(world.endings(), [(1, Ending::Dropped(DropReason::Operator))]);
    let book = world.metrics.upstream("intake").book();
    assert_eq!((book.dead_letters, book.dropped["operator"], book.spool_events), (1, 1, 0));
    let status = world.handle().status().await;
    let intake = status.iter().find(|row| row.name == "intake").unwrap();
    assert!(intake.configured && intake.dead_letters == 1 && intake.waiting_events == 0);
    // A trigger of a good neighbour goes out as ever.
    let good = world.push(&trigger("k"));
    world.until_endings(2).await;
    assert_eq!(world.delivered(), [good]);
}

#[tokio::test(start_paused = true)]
async fn what_was_rejected_at_intake_takes_its_part_of_the_room_for_dead_letters() {
    let mut world = World::before_start();
    world.dead_letters.count = 3;
    world.start(&[config()]);
    world.keep_rejected(5);
    world.until_endings(2).await;
    let space = |sequence| (sequence, Ending::Dropped(DropReason::DeadLetterSpace));
    assert_eq!(world.endings(), [space(1), space(2)]);
}
