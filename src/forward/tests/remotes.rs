//! What upstreams call incidents: learned before the next event of the lane goes, asked for by those that need it; events
//! of several requests; those that may not be sent twice.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::time::Instant;

use super::world::{Says, Seen, World, config, refused_connection, says, status, trigger};
use crate::event::{Action, Micros, Uid};
use crate::forward::wire::Failure;
use crate::outcome::{DeadReason, DropReason, Outcome};
use crate::sink::{Answer, Ask, Encoded, Kind, Parcel, Sink, Statement, Unsaid, UpstreamConfig, Verdict, samples};
use crate::store::{Ending, LaneKey, Remote};

fn taskcall() -> UpstreamConfig {
    samples::upstream("up", Kind::TaskCall)
}

fn operation(operation: &'static str, key: &str) -> Says {
    let action = match operation {
        "resolve" => Action::Resolve,
        "notate" => Action::Update,
        _ => Action::Admin,
    };
    Says { dialect: "taskcall", endpoint: operation, raw: r#"{"instance_id":1}"#.to_owned(), ..says(action, key) }
}

/// Answers creates with numbers from 1 on, everything else with success.
fn answers(world: &World) {
    let next = Mutex::new(0);
    world.upstream("up").answers(move |seen: &Seen| {
        if seen.path != "/create" {
            return status(200);
        }
        let mut next = next.lock().unwrap();
        *next += 1;
        told(&format!(r#"{{"instance_id":{next}}}"#))
    });
}

fn told(body: &str) -> Result<Answer, Failure> {
    Ok(Answer { body: Bytes::copy_from_slice(body.as_bytes()), ..Answer::new(StatusCode::OK) })
}

fn seen(world: &World) -> Vec<String> {
    let row = |seen: Seen| format!("{} {}", seen.path, seen.body["instance_id"]);
    world.upstream("up").seen().into_iter().map(row).collect()
}

fn dropped(world: &World) -> Vec<(u64, DropReason)> {
    let dropped = world.endings().into_iter().filter_map(|(sequence, ending)| match ending {
        Ending::Dropped(reason) => Some((sequence, reason)),
        _ => None,
    });
    dropped.collect()
}

#[tokio::test(start_paused = true)]
async fn a_resolve_waits_until_the_creates_id_is_on_disk_and_other_lanes_do_not() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    *world.log.sync_takes.lock().unwrap() = Duration::from_secs(5);
    let started = Instant::now();
    world.push_all(&[trigger("a"), says(Action::Resolve, "a"), trigger("b")]);
    world.pass(4.0).await;
    assert_eq!(seen(&world), ["/create null", "/create null"]);
    world.until_endings(3).await;
    assert_eq!(seen(&world)[2..], ["/resolve 1"]);
    assert!(world.upstream("up").seen()[2].at >= started + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_id_is_one_generations_and_what_taught_none_is_unresolvable() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    let second = |action| Says { generation: 2, ..says(action, "a") };
    world.push_all(&[trigger("a"), says(Action::Resolve, "a"), second(Action::Trigger), second(Action::Resolve)]);
    world.until_endings(4).await;
    assert_eq!(seen(&world), ["/create null", "/resolve 1", "/create null", "/resolve 2"]);
    let never = world.push(&says(Action::Resolve, "never"));
    world.until_endings(5).await;
    assert_eq!(dropped(&world), [(never, DropReason::Unresolvable)]);
    assert_eq!(world.metrics.upstream("up").book().dropped["unresolvable"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_suppressed_without_an_id_takes_the_one_known_for_its_key() {
    let mut world = World::started(&[taskcall()]);
    world.upstream("up").answers(|_| told("{}"));
    world.push_all(&[trigger("a"), says(Action::Resolve, "a")]);
    world.until_endings(2).await;
    assert_eq!(dropped(&world).len(), 1, "nothing is known of the key");
    answers(&world);
    world.push(&Says { generation: 2, ..trigger("a") });
    world.until_endings(3).await;
    world.upstream("up").answers(|_| told("{}"));
    world.push_all(&[Says { generation: 3, ..trigger("a") }, Says { generation: 3, ..says(Action::Resolve, "a") }]);
    world.until_endings(5).await;
    assert_eq!(seen(&world).last().unwrap(), "/resolve 1");
}

#[tokio::test(start_paused = true)]
async fn a_raised_severity_amends_what_is_known_and_creates_what_is_not() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    let raised = |key| Says { outcome: Outcome::Escalated, ..trigger(key) };
    world.push_all(&[trigger("a"), raised("a"), raised("b")]);
    world.until_endings(3).await;
    let mut seen = seen(&world);
    seen.sort();
    assert_eq!(seen, ["/amend-urgency 1", "/create null", "/create null"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_twice_is_repeated_only_when_it_did_not_arrive() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    world.push_all(&[trigger("a"), trigger("b"), trigger("c"), trigger("d")]);
    world.until_endings(4).await;
    let refused = Mutex::new(false);
    world.upstream("up").answers(move |_| {
        let mut refused = refused.lock().unwrap();
        if std::mem::replace(&mut *refused, true) { status(200) } else { refused_connection() }
    });
    let first = world.push(&operation("snooze", "a"));
    world.until_endings(5).await;
    assert_eq!(world.delivered().last(), Some(&first));
    world.upstream("up").answers(|_| Err(Failure { text: "cut".to_owned(), perhaps_sent: true }));
    let cut = world.push(&operation("escalate", "b"));
    world.until_endings(6).await;
    world.upstream("up").answers(|_| status(502));
    let unclear = world.push(&operation("notate", "c"));
    world.until_endings(7).await;
    assert_eq!(world.dead(), [(cut, DeadReason::Uncertain), (unclear, DeadReason::Uncertain)]);
    let busy = Mutex::new(false);
    world
        .upstream("up")
        .answers(move |_| if std::mem::replace(&mut *busy.lock().unwrap(), true) { status(200) } else { status(429) });
    let held = world.push(&operation("run-workflow", "d"));
    world.until_endings(8).await;
    assert_eq!(world.delivered().last(), Some(&held), "a 429 was not looked at");
    world.upstream("up").answers(|_| status(502));
    world.push(&operation("resolve", "d"));
    world.pass(5.0).await;
    assert_eq!(world.dead().len(), 2, "a resolve is safe to repeat");
}

#[tokio::test(start_paused = true)]
async fn a_merge_goes_when_neither_lane_has_an_earlier_event_queued() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    let known = |key| (World::lane(key), World::iid(1));
    world.told.numbers.lock().unwrap().extend([(7, known("survivor")), (8, known("never"))]);
    let merge = |number: u64| Says {
        raw: format!(r#"{{"instance_id":5,"related_instance_id":{number}}}"#),
        ..operation("merge", "merged")
    };
    world.push(&trigger("merged"));
    world.until_endings(1).await;
    world.upstream("up").answers(|_| status(503));
    world.push_all(&[trigger("survivor"), merge(7)]);
    world.pass(2.0).await;
    assert!(!seen(&world).iter().any(|row| row.starts_with("/merge")), "the survivor is not there yet");
    world.upstream("up").answers(|_| told(r#"{"instance_id":"77"}"#));
    world.until_endings(3).await;
    let last = world.upstream("up").seen().pop().unwrap();
    assert_eq!(last.body, serde_json::json!({ "instance_id": 1, "related_instance_id": 77 }));
    let lost = world.push(&merge(8));
    world.until_endings(4).await;
    assert_eq!(dropped(&world), [(lost, DropReason::Unresolvable)]);
}

#[tokio::test(start_paused = true)]
async fn a_merge_whose_survivor_never_comes_is_given_up() {
    let mut world = World::started(&[taskcall()]);
    world.told.numbers.lock().unwrap().insert(7, (World::lane("survivor"), World::iid(1)));
    answers(&world);
    world.push(&trigger("merged"));
    world.until_endings(1).await;
    world.upstream("up").answers(|_| status(500));
    world.push(&trigger("survivor"));
    let mut merge =
        Says { raw: r#"{"instance_id":5,"related_instance_id":7}"#.to_owned(), ..operation("merge", "merged") };
    merge.received_at = Micros(merge.received_at.0 - 86_400_000_000);
    let merge = world.push(&merge);
    world.pass(2.0).await;
    assert_eq!(world.dead(), [(merge, DeadReason::GaveUp)]);
}

#[tokio::test(start_paused = true)]
async fn a_spent_limit_holds_the_upstream_before_it_refuses() {
    let mut world = World::started(&[config()]);
    world.upstream("up").answers(|_| {
        let mut answer = Answer::new(StatusCode::OK);
        answer.headers.insert("x-ratelimit-remaining", "0".parse().unwrap());
        answer.headers.insert("x-ratelimit-reset", "40".parse().unwrap());
        Ok(answer)
    });
    world.push(&trigger("a"));
    world.until_endings(1).await;
    world.upstream("up").answers(|_| status(200));
    world.push(&trigger("b"));
    world.pass(38.0).await;
    assert_eq!(world.delivered().len(), 1);
    world.pass(3.0).await;
    assert_eq!(world.delivered().len(), 2);
}

/// Says everything in three requests; the first answer teaches an id.
struct Thrice;

impl Sink for Thrice {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn expresses(&self, _: Statement<'_>) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let step = |step: &str| Parcel::json(format!(r#""{}""#, ask.remote.map_or("", Remote::id))).to(step);
        Ok(Encoded { then: vec![step("/2"), step("/3")], ..Encoded::new(ask.stored.event.uid, step("/1")) })
    }

    fn read_answer(&self, answer: &Answer, _: Micros) -> Verdict {
        let remote = std::str::from_utf8(&answer.body).ok().and_then(|id| Remote::new(id, None));
        if answer.status.is_success() {
            Verdict::Delivered(remote)
        } else {
            Verdict::Retry(crate::sink::Hold::Lane(None))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_an_event_go_in_order_and_a_repeat_begins_at_the_first() {
    let mut world = World::before_start();
    world.speaks(&Thrice);
    world.start(&[config()]);
    let failed = Mutex::new(false);
    world.upstream("up").answers(move |seen| match &*seen.path {
        "/1" => told("r1"),
        "/2" if !std::mem::replace(&mut *failed.lock().unwrap(), true) => status(500),
        _ => status(200),
    });
    world.push(&trigger("a"));
    world.until_endings(1).await;
    let paths = |world: &World| world.upstream("up").seen().into_iter().map(|seen| seen.path).collect::<String>();
    assert_eq!(paths(&world), "/1/2/1/2/3");
    assert_eq!(world.metrics.upstream("up").retries.get(), 1, "what follows is no retry");
    world.push(&says(Action::Resolve, "a"));
    world.until_endings(2).await;
    assert_eq!(world.upstream("up").seen().last().unwrap().body, "r1");
    assert_eq!(world.log.remotes.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_operation_is_answered_with_does_not_rename_the_incident() {
    let mut world = World::started(&[taskcall()]);
    answers(&world);
    world.push(&trigger("a"));
    world.until_endings(1).await;
    world.upstream("up").answers(|_| told(r#"{"instance_id":99}"#));
    world.push_all(&[operation("escalate", "a"), says(Action::Resolve, "a")]);
    world.until_endings(3).await;
    assert_eq!(seen(&world)[1..], ["/escalate 1", "/resolve 1"]);
    let (lane, iid): (LaneKey, Uid) = (World::lane("a"), World::iid(1));
    let known = world.log.remotes.lock().unwrap().iter().map(|known| (known.1, known.2)).collect::<Vec<_>>();
    assert_eq!(known, [(lane, iid)]);
}
