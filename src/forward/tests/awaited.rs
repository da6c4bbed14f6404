//! Senders that wait: what they are told, and what becomes of an event that is refused while they do.

use std::time::Duration;

use super::world::{World, config, status, trigger};
use crate::awaited::Ended;
use crate::event::Uid;
use crate::outcome::{DeadReason, DropReason};
use crate::sink::{Kind, UpstreamConfig, samples};
use crate::store::Ending;

const REFUSED: Ending = Ending::Dropped(DropReason::Refused);

fn balances(world: &World, name: &str) {
    let book = world.metrics.upstream(name).book();
    assert!(book.balances(), "{name}: {book:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_told_of_the_delivery_and_of_the_refusal() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|seen| status(if seen.keys[0] == "bad" { 422 } else { 200 }));
    let awaited = [1, 2].map(|uid| world.awaiting.begin(Uid(uid), &"up".into()).unwrap());
    world.push_all(&[trigger("good"), trigger("bad")]);
    assert!(matches!(awaited[0].ended().await, Ended::Delivered(said) if said.status == 200));
    assert!(matches!(awaited[1].ended().await, Ended::Refused(said) if said.status == 422));
    assert!(world.dead().is_empty());
    assert!(world.endings().contains(&(2, REFUSED)));
    assert_eq!(world.metrics.upstream("up").book().dropped, [("refused", 1)].into());
    balances(&world, "up");
    // The lane goes on.
    world.upstream("up").answers(|_| status(200));
    let again = world.push(&trigger("bad"));
    world.until_endings(3).await;
    assert!(world.delivered().contains(&again));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_when_it_is_on_disk_and_not_before() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| status(400));
    *world.log.sync_takes.lock().unwrap() = Duration::from_secs(3);
    let awaited = world.awaiting.begin(Uid(1), &"up".into()).unwrap();
    world.push(&trigger("bad"));
    world.pass(2.0).await;
    assert!(awaited.now().is_none() && !awaited.keep(), "decided, and not told");
    assert!(matches!(awaited.ended().await, Ended::Refused(_)));

    *world.log.closes.lock().unwrap() = true;
    let awaited = world.awaiting.begin(Uid(2), &"up".into()).unwrap();
    world.push(&trigger("bad"));
    assert!(matches!(awaited.ended().await, Ended::Unwritten), "nobody may say that it is refused");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_waits_for_is_a_dead_letter() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| status(400));
    let kept = world.awaiting.begin(Uid(1), &"up".into()).unwrap();
    assert!(kept.keep());
    drop(world.awaiting.begin(Uid(2), &"up".into()).unwrap());
    let elsewhere = world.awaiting.begin(Uid(3), &"archive".into()).unwrap();
    world.push_all(&[trigger("a"), trigger("b"), trigger("c")]);
    world.until_endings(3).await;
    assert_eq!(world.dead().iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [DeadReason::Refused; 3]);
    assert!(matches!(kept.ended().await, Ended::Undelivered), "who still waits need not wait longer");
    assert!(elsewhere.now().is_none());
    balances(&world, "up");
}

#[tokio::test(start_paused = true)]
async fn other_upstreams_are_not_sent_a_refused_event_that_they_have_not_begun() {
    let other = samples::upstream("archive", Kind::Webhook);
    let mut world = World::started(&[config(), UpstreamConfig { connections: 1, ..other }]);
    world.upstream("up").answers(|_| status(400));
    *world.upstream("archive").latency.lock().unwrap() = Duration::from_secs(5);
    let mut says = trigger("first");
    says.targets = vec!["archive"];
    world.push(&says);
    world.pass(1.0).await;
    let awaited = world.awaiting.begin(Uid(2), &"up".into()).unwrap();
    says = trigger("bad");
    says.targets = vec!["up", "archive"];
    world.push(&says);
    assert!(matches!(awaited.ended().await, Ended::Refused(_)));
    says = trigger("bad");
    says.targets = vec!["archive"];
    world.push(&says);
    world.pass(30.0).await;
    assert_eq!(world.upstream("archive").sent(), [1, 3], "the refused one is left out, and what follows it goes");
    assert!(world.endings().contains(&(2, REFUSED)));
    balances(&world, "archive");
}
