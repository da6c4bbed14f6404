//! What the log tells of an event's history: across segments, copies and failed writes, and within bounds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;

use super::keeping::{DEAD, unretained};
use super::{Rig, config, segments};
use crate::event::{Micros, Uid};
use crate::outcome::DropReason;
use crate::store::doubles::Event;
use crate::store::{Bounds, Ending, Sought, Stand, Trace, Traced, What};

const ALL: Bounds = Bounds { bytes_max: u64::MAX, time_max: Duration::from_secs(600) };

impl Rig {
    /// An event of now: its stamp tells where it stands.
    fn now(&self, key: &str) -> Event {
        let received_at = Micros::now();
        Event { uid: Some(Uid::new(received_at)), received_at, raw: vec![b'x'; 1000], ..self.event(key) }
    }

    fn takes(&self, key: &str) -> Uid {
        let event = self.now(key);
        self.append(&event).unwrap();
        event.uid.unwrap()
    }

    fn by_uid(&self, uid: Uid, bounds: Bounds) -> Trace {
        self.store.trace(Sought::Uid(uid), bounds).unwrap()
    }

    fn one(&self, uid: Uid) -> Traced {
        let trace = self.by_uid(uid, ALL);
        assert!(trace.complete && trace.events.len() == 1, "{trace:?}");
        trace.events.into_iter().next().unwrap()
    }

    fn on_key(&self, key: &str, newest: usize) -> (Vec<u64>, bool) {
        let last_at = self.ledger.committed.lock().unwrap().last().map(|(_, at)| *at);
        for last_at in [None, last_at] {
            let sought = Sought::Key { integration: "fleet", key, last_at, newest };
            let trace = self.store.trace(sought, ALL).unwrap();
            let sequences: Vec<u64> = trace.events.iter().map(|traced| traced.stored.sequence).collect();
            if last_at.is_some() {
                return (sequences, trace.complete);
            }
        }
        panic!("nothing was committed")
    }
}

fn ended(ending: Ending) -> What {
    What::Ended(ending)
}

fn whats(traced: &Traced) -> Vec<(&str, What)> {
    traced.happened.iter().map(|happened| (happened.upstream.as_str(), happened.what.clone())).collect()
}

#[test]
fn an_event_is_found_in_its_segment_and_followed_to_its_endings_in_others() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    let uids: Vec<Uid> = (1..=300).map(|n| rig.takes(&format!("key-{n}"))).collect();
    assert!(segments(directory.path()).len() > 4);
    let delivered = Ending::Delivered { status: Some(202), attempts: 2 };
    rig.settle("pager", 7, DEAD);
    rig.settle("pager", 7, Ending::Replayed);
    rig.settle("pager", 7, delivered);
    rig.settle("archive", 7, DEAD);
    let moved = (rig.metrics.upstream("pager"), rig.metrics.upstream("spare"));
    rig.store.reassign(&moved.0, &moved.1, "fleet", 8);
    // At once: what is on its way to the disk is waited for.
    let seventh = rig.one(uids[6]);
    assert_eq!(seventh.stored.event.key.as_ref().unwrap().canon(), "key-7");
    let told = [
        ("pager", ended(DEAD)),
        ("pager", ended(Ending::Replayed)),
        ("pager", ended(delivered)),
        ("archive", ended(DEAD)),
    ];
    assert_eq!(whats(&seventh), told);
    let [(pager, at_pager), (archive, at_archive)] = seventh.upstreams.as_slice() else { panic!("{seventh:?}") };
    assert_eq!((pager.as_str(), archive.as_str()), ("pager", "archive"));
    assert!(matches!(at_pager, Stand::Ended(ending, _) if *ending == delivered), "{at_pager:?}");
    assert!(
        matches!(at_archive, Stand::Dead(note) if note.status == Some(422) && note.attempts == 3),
        "{at_archive:?}"
    );
    let eighth = rig.one(uids[7]);
    assert_eq!(whats(&eighth), [("pager", What::Reassigned("spare".to_owned()))]);
    let names: Vec<_> =
        eighth.upstreams.iter().map(|(name, stand)| (name.as_str(), matches!(stand, Stand::Waiting))).collect();
    assert_eq!(names, [("pager", false), ("archive", true), ("spare", true)]);
    for (index, uid) in uids.iter().enumerate() {
        assert_eq!(rig.one(*uid).stored.sequence, index as u64 + 1);
    }
    let none = rig.by_uid(Uid::new(Micros::now()), ALL);
    assert!(none.events.is_empty() && none.complete && none.searched_since.is_some(), "{none:?}");

    rig.store.close();
    drop(rig);
    let after = Rig::open(directory.path());
    assert_eq!(whats(&after.one(uids[6])), told);
    assert_eq!(after.one(uids[299]).stored.sequence, 300);
}

#[test]
fn a_search_ends_at_its_bounds_and_says_so() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    let uids: Vec<Uid> = (1..=300).map(|n| rig.takes(&format!("key-{n}"))).collect();
    let few = Bounds { bytes_max: 20_000, ..ALL };
    assert!(rig.by_uid(uids[0], few).events.len() == 1 && !rig.by_uid(uids[0], few).complete, "its end is far");
    let missed = rig.by_uid(uids[299], Bounds { bytes_max: 1000, ..ALL });
    assert!(missed.events.is_empty() && !missed.complete);
    let no_time = rig.by_uid(uids[299], Bounds { time_max: Duration::ZERO, ..ALL });
    assert!(!no_time.complete);
    let sought = Sought::Key { integration: "fleet", key: "key-1", last_at: None, newest: 5 };
    let trace = rig.store.trace(sought, Bounds { bytes_max: 100_000, ..ALL }).unwrap();
    assert!(trace.events.is_empty() && !trace.complete);
    let since = trace.searched_since.unwrap();
    assert!(since > rig.one(uids[0]).stored.event.received_at && since < rig.one(uids[299]).stored.event.received_at);
}

#[test]
fn the_newest_events_of_a_key_are_found_wherever_they_stand() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    for n in 1..=300 {
        rig.takes(if n % 50 == 0 { "wanted" } else { "other" });
    }
    assert_eq!(rig.on_key("wanted", 100), (vec![50, 100, 150, 200, 250, 300], true));
    assert_eq!(rig.on_key("wanted", 2), (vec![250, 300], false));
    assert_eq!(rig.on_key("none", 2), (vec![], true));
    let other = Sought::Key { integration: "navy", key: "wanted", last_at: None, newest: 9 };
    assert!(rig.store.trace(other, ALL).unwrap().events.is_empty());
}

#[test]
fn an_event_whose_segment_went_is_found_in_its_copy() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    let (waits, dead) = (rig.takes("waits"), rig.takes("dead"));
    rig.settle("archive", 2, Ending::DELIVERED);
    rig.settle("pager", 2, DEAD);
    let first = segments(directory.path())[0].clone();
    rig.fills(200);
    for _ in 0..4 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert!(!first.exists());
    let stands = |uid| rig.one(uid).upstreams.into_iter().map(|(_, stand)| stand).collect::<Vec<_>>();
    assert_eq!(stands(waits), [Stand::Waiting; 2]);
    assert!(matches!(stands(dead)[..], [Stand::Dead(_), Stand::Unknown]), "{:?}", stands(dead));
    rig.settle("pager", 2, Ending::Dropped(DropReason::Operator));
    rig.is_on_disk();
    let dropped = rig.one(dead);
    assert_eq!(whats(&dropped), [("pager", ended(Ending::Dropped(DropReason::Operator)))]);
    assert_eq!(rig.on_key("waits", 9).0, [1]);
}

#[test]
fn an_event_that_was_refused_never_was() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    rig.takes("before");
    rig.faults.syncs.store(1, Ordering::SeqCst);
    assert!(rig.append(&rig.now("wanted")).is_err());
    assert!(rig.faults.hit.load(Ordering::SeqCst) > 0, "the fault was met");
    // The sender's retry.
    let uid = loop {
        let event = rig.now("wanted");
        if rig.append(&event).is_ok() {
            break event.uid.unwrap();
        }
    };
    let (sequences, complete) = rig.on_key("wanted", 9);
    assert_eq!((sequences, complete), (vec![rig.one(uid).stored.sequence], true));
}
