//! Elements of batches that were rejected alone: kept as dead letters at the intake, as durable as what is accepted.

use std::path::Path;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::keeping::unretained;
use super::{Rig, config, image, segments, wait_until};
use crate::claim::Accepted;
use crate::event;
use crate::metrics::INTAKE;
use crate::outcome::{DeadReason, DropReason, Reason, Unfit};
use crate::store::{Append, Bounds, Config, Durability, Ending, REJECTED_RAW_BYTES_MAX, Sought, Stand, What};

fn element(raw: &str) -> event::Event {
    event::Event { raw: raw.to_owned().into(), integration: "fleet".into(), ..event::tests::event("") }
}

impl Rig {
    fn hands_over_rejected(&self, element: event::Event, unfit: Unfit) -> Append {
        let faults = ["labels: missing".to_owned()];
        self.store.append_rejected(0, element, unfit, &faults, self.metrics.receive(0))
    }

    fn rejects(&self, element: event::Event, unfit: Unfit) -> Result<Accepted, Reason> {
        self.runtime.block_on(self.hands_over_rejected(element, unfit))
    }

    /// Dead letters that a start found: sequence, upstream, reason.
    fn dead(&self) -> Vec<(u64, String, DeadReason)> {
        let dead = self.recovered.dead.iter();
        dead.map(|dead| (dead.sequence, dead.upstream.name.to_string(), dead.reason)).collect()
    }

    fn letters(&self) -> Vec<u64> {
        self.kept.1.lock().unwrap().iter().map(|letter| letter.sequence).collect()
    }
}

#[test]
fn a_rejected_element_is_a_dead_letter_at_the_intake_and_counted_as_rejected_alone() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("good")).unwrap();
    rig.rejects(element("{\"status\":1}"), Unfit::Invalid).unwrap();
    rig.rejects(element("[]"), Unfit::TooLarge).unwrap();
    assert_eq!(rig.letters(), [2, 3]);
    assert_eq!(rig.kept.0.lock().unwrap().len(), 1, "nothing of it goes to an upstream");
    let intake = rig.metrics.intake();
    assert!(intake.balances());
    assert_eq!((intake.received, intake.accepted), (3, 1));
    let rejected = [Reason::InvalidEvent, Reason::BodyTooLarge].map(|reason| intake.rejected[reason.index()]);
    assert_eq!(rejected, [1, 1]);
    let book = rig.metrics.upstream(INTAKE).book();
    assert_eq!((book.enqueued, book.spool_events, book.dead_letters), (0, 0, 2));
    assert_eq!(book.dead_lettered, [("body_too_large", 1), ("invalid_event", 1)].into());
    let copy = image(directory.path());
    let after = Rig::open(copy.path());
    let expected = |sequence, reason| (sequence, INTAKE.to_owned(), reason);
    assert_eq!(after.dead(), [expected(2, DeadReason::InvalidEvent), expected(3, DeadReason::BodyTooLarge)]);
    assert_eq!((after.queued.len(), after.recovered.waiting), (1, 2), "the accepted one alone waits");
    assert_eq!(after.metrics.intake().accepted, 1);
    assert_eq!(after.metrics.upstream(INTAKE).book(), book);
    assert!(after.metrics.upstream("pager").book().balances());
    let (at, stored) = after.store.event(2).unwrap();
    assert_eq!(&stored.event.raw[..], b"{\"status\":1}");
    assert_eq!(stored.event.view.as_deref(), Some(&b"[\"labels: missing\"]"[..]), "why, for those who look");
    assert_eq!(after.store.read(2, at).unwrap().event.uid, stored.event.uid);
    // And it may be dropped.
    after.settle(INTAKE, 2, Ending::Dropped(DropReason::Operator));
    after.store.close();
    drop(after);
    let last = Rig::open(copy.path());
    assert_eq!(last.dead(), [expected(3, DeadReason::BodyTooLarge)]);
    let book = last.metrics.upstream(INTAKE).book();
    assert_eq!((book.dead_letters, book.dropped["operator"]), (1, 1));
}

#[test]
fn what_became_of_a_rejected_element_is_told() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let element = element("[]");
    let uid = element.uid;
    rig.rejects(element, Unfit::Invalid).unwrap();
    let bounds = Bounds { bytes_max: 1 << 20, time_max: std::time::Duration::from_secs(60) };
    let trace = rig.store.trace(Sought::Uid(uid), bounds).unwrap();
    let [traced] = &trace.events[..] else { panic!("{trace:?}") };
    assert!(matches!(&traced.upstreams[..], [(name, Stand::Dead(note))]
        if name == INTAKE && note.reason == DeadReason::InvalidEvent));
    assert!(matches!(&traced.happened[..], [happened] if happened.upstream == INTAKE
        && matches!(happened.what, What::Ended(Ending::Dead { reason: DeadReason::InvalidEvent, .. }))));
    assert!(trace.complete);
}

#[test]
fn a_long_element_is_kept_as_far_as_its_limit_and_says_so() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { segment_bytes: 256 << 10, ..config(directory.path()) });
    for (sequence, length) in [(1, REJECTED_RAW_BYTES_MAX), (2, REJECTED_RAW_BYTES_MAX + 1), (3, 4 << 20)] {
        rig.rejects(element(&"x".repeat(length)), Unfit::TooLarge).unwrap();
        let event = rig.store.event(sequence).unwrap().1.event;
        assert_eq!(event.raw.len(), REJECTED_RAW_BYTES_MAX);
        let faults: Vec<String> = serde_json::from_slice(&event.view.unwrap()).unwrap();
        assert_eq!(faults.len(), if length > REJECTED_RAW_BYTES_MAX { 2 } else { 1 }, "{faults:?}");
    }
}

#[test]
fn a_rejected_element_outlives_its_segment() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.rejects(element("[1]"), Unfit::Invalid).unwrap();
    rig.fills(200);
    let first = segments(directory.path())[0].clone();
    for _ in 0..4 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert!(!first.exists());
    let book = rig.metrics.upstream(INTAKE).book();
    let without_checkpoints = |copy: &Path| {
        for entry in std::fs::read_dir(copy.join("spool")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "checkpoint") {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    for bare in [false, true] {
        let copy = image(directory.path());
        if bare {
            // Only its copy tells of it.
            without_checkpoints(copy.path());
        }
        let after = Rig::open(copy.path());
        assert_eq!(after.dead(), [(1, INTAKE.to_owned(), DeadReason::InvalidEvent)]);
        assert_eq!(after.metrics.upstream(INTAKE).book(), book);
        assert_eq!(&after.store.event(1).unwrap().1.event.raw[..], b"[1]");
    }
}

#[test]
fn a_rejected_element_that_could_not_be_kept_does_not_come_back() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("before")).unwrap();
    rig.faults.syncs.store(1, Ordering::SeqCst);
    assert_eq!(rig.rejects(element("[]"), Unfit::Invalid).err(), Some(Reason::SpoolFailed));
    wait_until("it accepts again", || rig.store.can_accept().is_ok());
    rig.append(&rig.event("after")).unwrap();
    assert!(rig.letters().is_empty());
    let intake = rig.metrics.intake();
    assert_eq!((intake.rejected[Reason::SpoolFailed.index()], intake.rejected[Reason::InvalidEvent.index()]), (1, 0));
    let after = Rig::open(image(directory.path()).path());
    assert!(after.dead().is_empty());
    assert_eq!(after.metrics.upstream(INTAKE).book(), crate::metrics::UpstreamBook::default());
    assert_eq!(after.recovered.damaged_records, 0);
}

#[test]
fn in_memory_a_rejected_element_is_kept_at_once_and_written_soon() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    let kept = rig.hands_over_rejected(element("[]"), Unfit::Invalid);
    assert!(matches!(kept, Append::Ended(Ok(_))));
    assert_eq!(rig.metrics.upstream(INTAKE).book().dead_letters, 1);
    wait_until("it is handed on", || rig.letters() == [1]);
    let after = Rig::open(image(directory.path()).path());
    assert_eq!(after.dead(), [(1, INTAKE.to_owned(), DeadReason::InvalidEvent)]);
}
