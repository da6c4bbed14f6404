//! Deliveries are told together: fewer bytes and no less said.

use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::{Rig, SEGMENT, config, fs, image, segments, wait_until};
use crate::store::doubles::Event;
use crate::store::{Config, Ending};

const TAKEN: Ending = Ending::Delivered { status: Some(202), attempts: 1 };

fn bytes(rig: &Rig) -> u64 {
    rig.store.room().placed
}

fn accepts(rig: &Rig, events: u64) {
    for n in 0..events {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
    }
    wait_until("they are written", || rig.store.is_written());
}

#[test]
fn those_of_a_commit_stand_in_a_record_for_each_upstream_and_answer_and_each_counts() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { segment_bytes: 4 * SEGMENT, ..config(directory.path()) });
    accepts(&rig, 300);
    let before = bytes(&rig);
    // All at once: while this is synced the others gather.
    rig.faults.sync_millis.store(50, Ordering::SeqCst);
    for sequence in 1..=300 {
        rig.settle("pager", sequence, if sequence % 3 == 0 { Ending::DELIVERED } else { TAKEN });
        if sequence % 2 == 0 {
            rig.settle("archive", sequence, TAKEN);
        }
    }
    wait_until("they are told", || rig.store.is_written());
    let took = bytes(&rig) - before;
    assert!(took < 450 * 16, "{took} bytes for 450 deliveries");
    rig.settle("pager", 7, TAKEN);
    assert!(rig.store.is_written(), "one that was told before is not told again");
    let after = Rig::open(image(directory.path()).path());
    let waiting: Vec<u64> = after.queued.iter().map(|queued| queued.sequence).collect();
    assert_eq!(waiting, (1..=300).step_by(2).collect::<Vec<_>>(), "for the archive");
    let (pager, archive) = (after.metrics.upstream("pager").book(), after.metrics.upstream("archive").book());
    assert_eq!((pager.delivered, archive.delivered, after.recovered.damaged_records), (300, 150, 0));
}

/// More than one record holds, with the room of a whole segment: the last of them begin another one.
#[test]
fn a_full_spool_takes_all_of_them() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { max_bytes: 8 * u64::from(SEGMENT), ..config(directory.path()) });
    let event = |n: u64| Event { raw: vec![], ..rig.event(&format!("key-{n}")) };
    let mut accepted = 0;
    while rig.append(&event(accepted)).is_ok() {
        accepted += 1;
    }
    rig.faults.sync_millis.store(20, Ordering::SeqCst);
    for sequence in 1..=accepted {
        rig.settle("pager", sequence, TAKEN);
        rig.settle("archive", sequence, TAKEN);
    }
    wait_until("they are told", || rig.store.is_written());
    let taken: u64 = segments(directory.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(taken <= 8 * u64::from(SEGMENT), "{taken}");
    drop((rig.store, rig.runtime));
    assert!(Rig::open(directory.path()).queued.is_empty());
}

/// What waits until the log is on disk waits for them too: a segment goes only then.
#[test]
fn the_end_of_the_log_is_behind_all_that_was_told() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    accepts(&rig, 1);
    let mut pending = rig.store.core.lock();
    let (pager, before) = (rig.metrics.upstream("pager"), pending.tail());
    assert!(pending.place_ending(&pager, "fleet", 1, (TAKEN, None)));
    assert!(!pending.is_empty() && !pending.is_durable());
    let end = pending.end();
    assert!(end > before);
    drop(pending);
    rig.settle("archive", 1, TAKEN);
    wait_until("they are on disk", || rig.store.is_written());
    assert!(Rig::open(image(directory.path()).path()).queued.is_empty());
}
