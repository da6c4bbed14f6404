//! Claims, lines, life times and the bound of the table.

use super::*;
use crate::event::tests::event;
use crate::event::{Action, Severity, Target, TargetKind};

fn dedup(max_keys: usize) -> (Arc<Dedup>, Targets) {
    let metrics = Metrics::new(1).unwrap();
    let targets: Targets = Arc::from([metrics.upstream("pager")]);
    let config = Config {
        open_ttl: Duration::from_secs(3600),
        resolved_ttl: Duration::from_secs(60),
        idempotency_ttl: Duration::from_secs(3600),
        replay_ttl: Duration::from_secs(3600),
        max_keys,
        redeliver_after: Duration::from_secs(300),
        replica_id: 7,
        is_shared: false,
    };
    (Dedup::new(config, metrics), targets)
}

const RULES: Rules = Rules::keyed(
    KeyLife::OpenUntilResolved,
    Policy {
        forward_duplicates: machine::ForwardDuplicates::SeverityIncrease,
        unknown_resolve: machine::UnknownResolve::ForwardIfKeyed,
    },
);

fn said(key: &str, action: Action) -> Event {
    Event { action, ..event(key) }
}

/// Ends a claim as the log's writer would, through an admitted event.
fn commit(dedup: &Arc<Dedup>, event: Event, claim: Claim) -> Incident {
    let ticket = dedup.metrics.receive(0);
    let admitted = crate::claim::Admitted { claim, event, pacing: Pacing::default(), ticket };
    admitted.placed().accept(1, Position(1)).0.incident.unwrap()
}

fn run(dedup: &Arc<Dedup>, targets: &Targets, event: Event) -> (Outcome, Option<Incident>, bool) {
    match dedup.claim(&event, targets, RULES) {
        Claimed::Absorbed { outcome, incident, .. } => (outcome, incident, false),
        Claimed::Owned(claim, _) => {
            let (outcome, next) = (claim.outcome, claim.next);
            if next.is_some() {
                commit(dedup, event, claim);
            }
            (outcome, next, true)
        }
        Claimed::Contended(_) => panic!("nobody else claims"),
        Claimed::Refused | Claimed::NotOpen | Claimed::Asking(_) | Claimed::Busy => panic!("nothing is refused"),
    }
}

#[test]
fn a_lifecycle_runs_as_the_contract_says() {
    let (dedup, targets) = dedup(100);
    let step = |action| run(&dedup, &targets, said("k", action));
    let (created, first, forwarded) = step(Action::Trigger);
    assert_eq!((created, forwarded), (Outcome::Created, true));
    let (duplicate, again, forwarded) = step(Action::Trigger);
    assert_eq!((duplicate, forwarded), (Outcome::Duplicate, false));
    assert_eq!(again.map(|i| (i.iid, i.count)), first.map(|i| (i.iid, 2)));
    assert_eq!(step(Action::Resolve).0, Outcome::Resolved);
    assert_eq!(step(Action::Resolve).0, Outcome::DuplicateResolve);
    let (created, second, _) = step(Action::Trigger);
    assert_eq!(created, Outcome::Created);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(second.generation, 2);
    assert_ne!(second.iid, first.iid);
    assert!(second.number > first.number && second.number % 1024 == 7);
}

#[test]
fn an_unknown_resolve_is_forwarded_once_and_a_trigger_after_it_creates() {
    let (dedup, targets) = dedup(100);
    assert_eq!(run(&dedup, &targets, said("k", Action::Resolve)).0, Outcome::Unknown);
    assert_eq!(run(&dedup, &targets, said("k", Action::Resolve)).0, Outcome::DuplicateResolve);
    let (outcome, incident, _) = run(&dedup, &targets, said("k", Action::Trigger));
    assert_eq!((outcome, incident.unwrap().generation), (Outcome::Created, 1));
    assert_eq!(dedup.unknowns.load(Ordering::Relaxed), 0);
}

#[test]
fn what_ends_or_acknowledges_without_naming_anything_goes_nowhere() {
    let (dedup, targets) = dedup(100);
    for action in [Action::Resolve, Action::Acknowledge] {
        let nameless = Event { key: None, ..said("k", action) };
        let (outcome, incident, forwarded) = run(&dedup, &targets, nameless.clone());
        assert_eq!((outcome, incident, forwarded), (Outcome::Unmatched, None, false), "{action:?}");
        let Foreseen::Ends { outcome, incident: None, goes: false } =
            dedup.foresee(&nameless, RULES, &mut Foretold::default())
        else {
            panic!("foreseen otherwise")
        };
        assert_eq!(outcome, Outcome::Unmatched);
        let target = Target { kind: TargetKind::AlertId, value: "7".into() };
        let by_id = Event { target: Some(target), ..nameless };
        assert_eq!(run(&dedup, &targets, by_id).0, Outcome::Unknown, "an id that its upstream may know");
    }
    let trigger = Event { key: None, ..said("k", Action::Trigger) };
    assert!(matches!(dedup.claim(&trigger, &targets, RULES), Claimed::Owned(..)));
    assert_eq!(dedup.entries(), 0);
}

#[test]
fn a_dropped_claim_leaves_no_trace() {
    let (dedup, targets) = dedup(100);
    let Claimed::Owned(claim, _) = dedup.claim(&event("k"), &targets, RULES) else { panic!("owned") };
    drop(claim);
    assert_eq!(dedup.entries(), 0);
    assert_eq!(run(&dedup, &targets, event("k")).0, Outcome::Created);
}

#[test]
fn a_claim_dropped_by_a_panic_leaves_no_trace() {
    let (dedup, targets) = dedup(100);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let Claimed::Owned(_claim, _) = dedup.claim(&event("k"), &targets, RULES) else { return };
        let _ticket = dedup.metrics.receive(0);
        panic!("in the middle of a request");
    }));
    assert!(panicked.is_err());
    assert_eq!(run(&dedup, &targets, event("k")).0, Outcome::Created);
    assert!(dedup.metrics.intake().balances());
}

#[tokio::test(start_paused = true)]
async fn the_line_moves_one_by_one_and_all_but_the_first_are_duplicates() {
    let (dedup, targets) = dedup(100);
    let Claimed::Owned(claim, _) = dedup.claim(&event("k"), &targets, RULES) else { panic!("owned") };
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let Claimed::Contended(line) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
        let (dedup, targets) = (Arc::clone(&dedup), Arc::clone(&targets));
        waiting.push(tokio::spawn(async move {
            assert!(line.wait(Duration::from_secs(10)).await);
            run(&dedup, &targets, event("k"))
        }));
    }
    tokio::task::yield_now().await;
    let first = commit(&dedup, event("k"), claim);
    for task in waiting {
        let (outcome, incident, _) = task.await.unwrap();
        assert_eq!((outcome, incident.unwrap().iid), (Outcome::Duplicate, first.iid));
    }
}

#[tokio::test(start_paused = true)]
async fn on_release_the_first_in_line_becomes_the_owner() {
    let (dedup, targets) = dedup(100);
    let Claimed::Owned(claim, _) = dedup.claim(&event("k"), &targets, RULES) else { panic!("owned") };
    let Claimed::Contended(first) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
    let Claimed::Contended(second) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
    drop(claim);
    assert!(first.wait(Duration::from_secs(10)).await);
    assert_eq!(run(&dedup, &targets, event("k")).0, Outcome::Created);
    assert!(second.wait(Duration::from_secs(10)).await);
    assert_eq!(run(&dedup, &targets, event("k")).0, Outcome::Duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_woken_request_that_is_gone_passes_its_turn_on() {
    let (dedup, targets) = dedup(100);
    let Claimed::Owned(claim, _) = dedup.claim(&event("k"), &targets, RULES) else { panic!("owned") };
    let Claimed::Contended(first) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
    let Claimed::Contended(second) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
    drop(claim);
    drop(first);
    assert!(second.wait(Duration::from_secs(10)).await);
    assert_eq!(run(&dedup, &targets, event("k")).0, Outcome::Created);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_empties_behind_a_released_first_claim_leaves_no_entry() {
    let (dedup, targets) = dedup(100);
    let Claimed::Owned(claim, _) = dedup.claim(&event("k"), &targets, RULES) else { panic!("owned") };
    let Claimed::Contended(line) = dedup.claim(&event("k"), &targets, RULES) else { panic!("in line") };
    assert!(!line.wait(Duration::from_secs(10)).await);
    drop(claim);
    assert_eq!(dedup.entries(), 0);
}

#[test]
fn a_full_table_gives_up_the_oldest_resolved_and_never_an_open_one() {
    let (dedup, targets) = dedup(3);
    for key in ["open", "r1", "r2"] {
        run(&dedup, &targets, event(key));
    }
    for key in ["r1", "r2"] {
        run(&dedup, &targets, said(key, Action::Resolve));
    }
    run(&dedup, &targets, event("new"));
    assert!(dedup.incident(event("r1").state_key().unwrap()).is_none());
    assert!(dedup.incident(event("r2").state_key().unwrap()).is_some());
    run(&dedup, &targets, event("new2"));
    // Nothing resolved is left: the next key runs untracked, forwarded each time.
    for _ in 0..2 {
        let (outcome, _, forwarded) = run(&dedup, &targets, event("new3"));
        assert_eq!((outcome, forwarded), (Outcome::Created, true));
    }
    assert_eq!(dedup.entries(), 3);
    assert_eq!(dedup.metrics.dedup_untracked.get(), 2);
    assert_eq!(run(&dedup, &targets, event("open")).0, Outcome::Duplicate);
}

#[test]
fn what_a_full_table_gave_up_makes_room_again_after_a_restart() {
    let (before, targets) = dedup(3);
    let mut log = vec![];
    for (key, action) in [
        ("open", Action::Trigger),
        ("r1", Action::Trigger),
        ("r1", Action::Resolve),
        ("r2", Action::Trigger),
        ("r2", Action::Resolve),
        ("new", Action::Trigger),
    ] {
        let event = said(key, action);
        let state_key = event.state_key().unwrap();
        let (_, incident, _) = run(&before, &targets, event);
        log.push((state_key, incident.unwrap()));
    }
    let (after, _) = dedup(3);
    log.iter().for_each(|(key, incident)| after.restore(*key, *incident, Position(1)));
    assert_eq!((before.entries(), after.entries()), (3, 3));
    for (key, _) in log {
        assert_eq!(before.incident(key).map(|one| one.iid), after.incident(key).map(|one| one.iid));
    }
}

#[test]
fn an_incident_that_is_seen_again_is_told_once_until_it_is_asked_for() {
    let (after, _) = dedup(100);
    let (dedup, targets) = dedup(100);
    run(&dedup, &targets, event("quiet"));
    for _ in 0..5 {
        run(&dedup, &targets, event("k"));
    }
    let touched = dedup.take_touched();
    assert_eq!(touched.iter().map(|(_, incident)| incident.count).collect::<Vec<_>>(), [5]);
    assert!(dedup.take_touched().is_empty());
    run(&dedup, &targets, event("k"));
    let touched = dedup.take_touched();
    assert_eq!(touched[0].1.count, 6);
    let (key, incident) = touched[0];
    after.restore(key, Incident { count: 1, ..incident }, Position(1));
    after.restore_touched(key, Uid(1), 9, incident.last_seen);
    assert_eq!(after.incident(key).unwrap().count, 1, "another incident by now");
    after.restore_touched(key, incident.iid, 6, incident.last_seen);
    assert_eq!(after.incident(key).unwrap().count, 6);
}

#[test]
fn after_a_jump_of_the_clock_nothing_has_outlived_its_time() {
    let jump = Duration::from_secs(20 * 24 * 3600);
    let old = |action| Event { received_at: Micros(Micros::now().0 - 20 * 24 * 3600 * 1_000_000), ..said("k", action) };
    for (shifts, expected) in [(true, Outcome::Duplicate), (false, Outcome::Created)] {
        let (dedup, targets) = dedup(100);
        run(&dedup, &targets, old(Action::Trigger));
        if shifts {
            dedup.shift_clock(jump);
        }
        assert_eq!(run(&dedup, &targets, event("k")).0, expected);
    }
}

#[test]
fn tombstones_of_unknown_resolves_take_a_tenth_of_the_table() {
    let (dedup, targets) = dedup(20);
    for key in 0..10 {
        assert_eq!(run(&dedup, &targets, said(&key.to_string(), Action::Resolve)).0, Outcome::Unknown);
    }
    assert_eq!(dedup.entries(), 2);
}

#[test]
fn what_outlived_its_time_is_absent_at_once_and_gone_after_expire() {
    let (dedup, targets) = dedup(100);
    run(&dedup, &targets, event("open"));
    run(&dedup, &targets, event("done"));
    run(&dedup, &targets, said("done", Action::Resolve));
    let later = |seconds: i64| Micros(Micros::now().0 + seconds * 1_000_000);
    let late_resolve = Event { received_at: later(61), ..said("done", Action::Resolve) };
    assert_eq!(run(&dedup, &targets, late_resolve).0, Outcome::Unknown);
    dedup.expire(later(200));
    assert_eq!(dedup.entries(), 1, "the open one stays for an hour");
    dedup.expire(later(4000));
    assert_eq!(dedup.entries(), 0);
    assert_eq!(dedup.metrics.dedup_expired.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_undelivered_trigger_is_tried_again_at_most_once_in_five_minutes() {
    let (dedup, targets) = dedup(100);
    let (_, incident, _) = run(&dedup, &targets, event("k"));
    let (key, iid) = (event("k").state_key().unwrap(), incident.unwrap().iid);
    dedup.undelivered(key, iid, &targets[0]);
    let (outcome, again, forwarded) = run(&dedup, &targets, event("k"));
    assert_eq!((outcome, again.unwrap().iid, forwarded), (Outcome::Duplicate, iid, true));
    assert!(!run(&dedup, &targets, event("k")).2, "not again so soon");
    tokio::time::advance(Duration::from_secs(301)).await;
    assert!(run(&dedup, &targets, event("k")).2);
    dedup.delivered(key, iid, &targets[0]);
    tokio::time::advance(Duration::from_secs(301)).await;
    assert!(!run(&dedup, &targets, event("k")).2, "delivered");
}

#[test]
fn only_a_higher_severity_is_forwarded_and_it_becomes_durable() {
    let (dedup, targets) = dedup(100);
    let at = |level| Event { severity: Severity::new(level), ..event("k") };
    run(&dedup, &targets, at(3));
    assert_eq!(run(&dedup, &targets, at(2)).0, Outcome::Duplicate);
    let (outcome, incident, forwarded) = run(&dedup, &targets, at(5));
    assert_eq!((outcome, forwarded), (Outcome::Escalated, true));
    assert_eq!(incident.unwrap().severity, Severity::new(5));
    assert_eq!(run(&dedup, &targets, at(5)).0, Outcome::Duplicate);
}

#[test]
fn a_key_that_creates_once_holds_from_its_creation_whatever_becomes_of_its_incident() {
    const ONCE: Rules = Rules { life: KeyLife::CreateOnce, has_ids: true, ..RULES };
    let (after, _) = dedup(100);
    let (dedup, targets) = dedup(100);
    let at = |seconds: i64, action| Event {
        received_at: Micros(Micros::now().0 + seconds * 1_000_000),
        family: crate::vendor::CREATE_ONCE_FAMILY.into(),
        ..said("k", action)
    };
    let claim = |dedup: &Arc<Dedup>, event: Event| match dedup.claim(&event, &targets, ONCE) {
        Claimed::Absorbed { outcome, incident, .. } => (outcome, incident.map(|incident| incident.iid)),
        Claimed::Owned(claim, _) => (claim.outcome, Some(commit(dedup, event, claim).iid)),
        _ => panic!("nobody else claims, and nothing is refused"),
    };
    let (_, first) = claim(&dedup, at(0, Action::Trigger));
    assert_eq!(claim(&dedup, at(1, Action::Resolve)), (Outcome::Resolved, first));
    // Far beyond the minute that a resolved incident is remembered.
    dedup.expire(at(3000, Action::Trigger).received_at);
    assert_eq!(claim(&dedup, at(3000, Action::Trigger)), (Outcome::Replayed, first));
    dedup.each(&mut |key, incident, at| after.restore(key, incident, at));
    dedup.each_row(&mut |row| after.restore_row(row));
    for dedup in [&dedup, &after] {
        dedup.expire(at(3500, Action::Trigger).received_at);
        assert_eq!(claim(dedup, at(3500, Action::Trigger)), (Outcome::Replayed, first), "after a start, too");
        let (outcome, second) = claim(dedup, at(3700, Action::Trigger));
        assert_eq!(outcome, Outcome::Created);
        assert_ne!(second, first);
    }
}

#[test]
fn a_raise_is_the_next_trigger_where_the_first_one_did_not_arrive() {
    let (dedup, targets) = dedup(100);
    let (_, incident, _) = run(&dedup, &targets, event("k"));
    let (key, iid) = (event("k").state_key().unwrap(), incident.unwrap().iid);
    let nobody: Targets = Arc::from([]);
    assert!(dedup.raised(Some(key), &targets, &nobody).is_empty());
    dedup.undelivered(key, iid, &targets[0]);
    let goes_to = dedup.raised(Some(key), &targets, &nobody);
    assert!(goes_to.len() == 1 && Arc::ptr_eq(&goes_to[0], &targets[0]));
    assert!(dedup.raised(None, &targets, &nobody).is_empty());
}

mod awaited;
