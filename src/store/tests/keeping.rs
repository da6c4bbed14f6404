//! The keeper at work: what a checkpoint saves a start, what may go, what is copied, and when.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Rig, canon, config, image, segments, wait_until};
use crate::event::Micros;
use crate::event::trace::Trace;
use crate::outcome::{DeadReason, Reason};
use crate::store::doubles::Event;
use crate::store::{Config, Durability, Ending};

fn checkpoints(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "checkpoint")).collect();
    paths.sort();
    paths
}

/// Nothing stays longer than it must.
pub(super) fn unretained(directory: &Path) -> Config {
    Config { retain: Duration::ZERO, ..config(directory) }
}

pub(super) const DEAD: Ending = Ending::Dead { reason: DeadReason::Refused, status: Some(422), attempts: 3 };

impl Rig {
    /// A checkpoint now.
    pub(super) fn sums_up(&self) {
        let mut threads = self.store.threads();
        assert!(threads.keeper.as_mut().expect("started without a keeper").checkpoint(false));
    }

    pub(super) fn keeps_house(&self) {
        self.store.threads().keeper.as_mut().expect("started without a keeper").round();
    }

    /// Accepts and delivers, so that segments are filled.
    pub(super) fn fills(&self, events: u64) {
        for n in 0..events {
            let before = self.kept.0.lock().unwrap().last().map_or(0, |queued| queued.sequence);
            self.append(&Event {
                raw: vec![b'x'; 1000],
                targets: vec!["pager"],
                ..self.event(&format!("fill-{}", n % 100))
            })
            .unwrap();
            let sequence = self.kept.0.lock().unwrap().last().unwrap().sequence;
            assert!(sequence > before);
            self.settle("pager", sequence, Ending::DELIVERED);
        }
        self.is_on_disk();
    }

    pub(super) fn is_on_disk(&self) {
        wait_until("everything is on disk", || self.store.is_written());
    }
}

#[test]
fn a_start_from_a_checkpoint_finds_what_a_start_without_one_finds() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    for n in 0..300 {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
    }
    for sequence in 1..=300 {
        match sequence % 3 {
            0 => rig.settle("pager", sequence, Ending::DELIVERED),
            1 => rig.settle("pager", sequence, DEAD),
            _ => {}
        }
        if sequence % 2 == 0 {
            rig.settle("archive", sequence, Ending::DELIVERED);
        }
        if sequence == 150 {
            rig.sums_up();
        }
    }
    for n in 300..400 {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
    }
    rig.settle("pager", 1, Ending::Replayed);
    rig.store.close();
    let with = image(directory.path());
    let without = image(directory.path());
    checkpoints(without.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(checkpoints(with.path()).len(), 2, "the one made by hand, and the last");
    let (with, without) = (Rig::open(with.path()), Rig::open(without.path()));
    assert!(with.transitions.len() == 400 && without.transitions.len() == 400);
    assert_eq!(with.queued, without.queued);
    let dead = |rig: &Rig| rig.recovered.dead.iter().map(|dead| (dead.sequence, dead.status)).collect::<Vec<_>>();
    assert_eq!((dead(&with), dead(&with).len()), (dead(&without), 99));
    for name in ["pager", "archive"] {
        assert_eq!(with.metrics.upstream(name).book(), without.metrics.upstream(name).book());
        assert!(with.metrics.upstream(name).book().balances());
    }
    assert_eq!(with.metrics.intake().accepted, without.metrics.intake().accepted);
    assert!(!with.recovered.clean, "nobody said that nothing was under way");
}

#[test]
fn a_damaged_checkpoint_costs_nothing_but_time() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.append(&rig.event("waits")).unwrap();
    for _ in 0..3 {
        rig.fills(100);
        rig.sums_up();
        rig.keeps_house();
    }
    rig.fills(10);
    let whole = image(directory.path());
    let expected = Rig::open(image(directory.path()).path()).keys();
    for (damaged, place) in [(vec![1], "the newest"), (vec![0], "the older"), (vec![0, 1], "both")] {
        let copy = image(whole.path());
        let paths = checkpoints(copy.path());
        assert_eq!(paths.len(), 2);
        for index in damaged.iter().copied() {
            let mut bytes = fs::read(&paths[index]).unwrap();
            let middle = bytes.len() - 40;
            bytes[middle] ^= 1;
            fs::write(&paths[index], bytes).unwrap();
        }
        let after = Rig::open(copy.path());
        assert!(after.recovered.damaged_records >= damaged.len() as u64, "{place}");
        let keys = after.keys();
        if damaged.len() == 1 {
            assert_eq!(keys, expected, "{place}");
        } else {
            // The settlements of what was removed are gone with it; what waits is there: its copy tells of it.
            assert!(keys.contains(&"waits".to_owned()), "{place}");
        }
        assert_eq!(fs::read_dir(copy.path().join("quarantine")).unwrap().count(), damaged.len());
    }
}

#[test]
fn segments_go_when_their_time_is_over_and_nobody_needs_them() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.fills(300);
    let before = segments(directory.path()).len();
    assert!(before >= 4, "{before}");
    rig.keeps_house();
    assert_eq!(segments(directory.path()).len(), before, "no checkpoint covers them");
    rig.sums_up();
    rig.keeps_house();
    assert_eq!(segments(directory.path()).len(), before, "only the newest does");
    rig.sums_up();
    rig.keeps_house();
    assert!(segments(directory.path()).len() <= 2, "the one that is written, and the next");
    rig.append(&rig.event("after")).unwrap();
    let after = Rig::open(image(directory.path()).path());
    assert_eq!((after.keys(), after.transitions.len()), (canon(&["after"]), 101), "the states outlive the segments");
}

#[test]
fn settled_segments_stay_for_their_time_while_there_is_space() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    rig.fills(300);
    let before = segments(directory.path()).len();
    for _ in 0..2 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert_eq!(segments(directory.path()).len(), before);
}

#[test]
fn what_is_needed_of_the_spool_is_told_apart_from_what_only_stays_for_its_time() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    rig.fills(300);
    rig.keeps_house();
    let shown = || {
        let metrics = &rig.metrics;
        (metrics.spool_bytes.get(), metrics.spool_needed_bytes.get(), metrics.spool_capacity_bytes.get())
    };
    let (bytes, needed, capacity) = shown();
    assert!(needed > 0 && needed < bytes / 2, "{needed} of {bytes}");
    assert!(capacity >= bytes && capacity.unsigned_abs() <= config(directory.path()).max_bytes, "{capacity}");
    let waits = Rig::without_keeper(config(&directory.path().join("waits")));
    for n in 0..300 {
        waits.append(&Event { raw: vec![b'x'; 1000], ..waits.event(&format!("key-{n}")) }).unwrap();
    }
    waits.keeps_house();
    assert_eq!(waits.metrics.spool_needed_bytes.get(), waits.metrics.spool_bytes.get(), "all of it waits");
}

#[test]
fn with_settled_segments_to_let_go_nothing_is_refused_for_want_of_space() {
    let directory = TempDir::new().unwrap();
    // Many times as much goes through.
    let rig = Rig::with(Config { max_bytes: 2 << 20, ..config(directory.path()) });
    rig.append(&rig.event("waits")).unwrap();
    rig.fills(8_000);
    assert!(rig.store.core.disk.bytes() <= 2 << 20);
    rig.store.close();
    drop((rig.store, rig.runtime));
    let after = Rig::open(directory.path());
    assert_eq!(after.keys().first().map(String::as_str), Some("waits"));
    assert_eq!(after.recovered.damaged_records, 0);
}

#[test]
fn what_is_needed_of_an_old_segment_is_copied_and_the_segment_goes() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    let trace =
        Trace::continued("00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01", ["a=1"].into_iter()).map(Arc::new);
    rig.append(&Event { trace: trace.clone(), ..rig.event("waits") }).unwrap();
    rig.append(&rig.event("dead")).unwrap();
    rig.settle("pager", 2, DEAD);
    rig.settle("archive", 2, Ending::DELIVERED);
    let at = rig.kept.0.lock().unwrap()[0].at;
    rig.fills(200);
    let first = segments(directory.path())[0].clone();
    for _ in 0..4 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert!(!first.exists());
    assert_eq!(rig.store.read(1, at).unwrap().event.key.unwrap().canon(), "waits", "it is read where it stands now");
    let (_, dead) = rig.store.event(2).unwrap();
    assert_eq!(dead.event.key.unwrap().canon(), "dead");
    // Copies are copied again, and found after every kind of start.
    rig.fills(200);
    for _ in 0..4 {
        rig.sums_up();
        rig.keeps_house();
    }
    let copy = image(directory.path());
    for _ in 0..2 {
        let after = Rig::open(copy.path());
        assert_eq!(after.keys(), ["waits"]);
        assert_eq!(after.recovered.dead.len(), 1);
        assert_eq!(after.store.event(2).unwrap().1.event.key.unwrap().canon(), "dead");
        let kept = after.store.event(1).unwrap().1.event.trace.unwrap();
        let told = |trace: &Trace| (trace.id, trace.span, trace.flags, trace.state.clone());
        assert_eq!(told(&kept), told(trace.as_ref().unwrap()), "with the trace it belongs to");
        assert_eq!(after.recovered.damaged_records, 0);
        after.store.close();
    }
    // What nobody needs any more is forgotten.
    rig.settle("pager", 1, Ending::DELIVERED);
    rig.settle("archive", 1, Ending::DELIVERED);
    rig.settle("pager", 2, Ending::DELIVERED);
    rig.sums_up();
    assert!(rig.store.core.lock().standing.moved.is_empty());
}

#[test]
fn a_crash_between_copying_and_removing_loses_and_doubles_nothing() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.append(&rig.event("waits")).unwrap();
    rig.fills(200);
    let mut images = vec![image(directory.path())];
    for _ in 0..4 {
        rig.sums_up();
        images.push(image(directory.path()));
        rig.keeps_house();
        images.push(image(directory.path()));
    }
    for copy in &images {
        let after = Rig::open(copy.path());
        assert_eq!(after.keys(), ["waits"]);
        assert_eq!(after.metrics.upstream("pager").book().enqueued, 201);
    }
}

#[test]
fn a_real_queue_is_not_copied() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    for n in 0..300 {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
    }
    let before = segments(directory.path()).len();
    for _ in 0..3 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert_eq!(segments(directory.path()).len(), before);
    assert!(rig.store.core.lock().standing.moved.is_empty());
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_tried_again_and_nothing_goes_meanwhile() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.fills(200);
    let before = segments(directory.path()).len();
    rig.faults.full.store(true, std::sync::atomic::Ordering::SeqCst);
    {
        let mut threads = rig.store.threads();
        let keeper = threads.keeper.as_mut().unwrap();
        assert!(!keeper.checkpoint(false));
        keeper.round();
    }
    assert_eq!((segments(directory.path()).len(), checkpoints(directory.path()).len()), (before, 0));
    rig.faults.full.store(false, std::sync::atomic::Ordering::SeqCst);
    rig.sums_up();
    assert_eq!(checkpoints(directory.path()).len(), 1);
}

#[test]
fn a_clean_end_is_known_as_one_and_only_the_first_time() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    rig.store.is_at_rest();
    rig.store.close();
    drop((rig.store, rig.runtime));
    let rig = Rig::open(directory.path());
    assert!(rig.recovered.clean);
    assert_eq!(rig.keys(), ["a"]);
    let crashed = image(directory.path());
    rig.append(&rig.event("b")).unwrap();
    assert!(!Rig::open(image(directory.path()).path()).recovered.clean, "more was written since");
    drop(crashed);
}

#[test]
fn states_that_memory_holds_ahead_of_the_disk_are_on_it_before_a_checkpoint_tells_them() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(Config { durability: Durability::Memory, ..config(directory.path()) });
    let keys: Vec<String> = (0..300).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        rig.append(&rig.event(key)).unwrap();
    }
    rig.sums_up();
    let after = Rig::open(image(directory.path()).path());
    assert_eq!(after.keys(), keys);
}

#[test]
fn the_log_is_told_of_incidents_that_were_seen_again() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    rig.append(&rig.event("a")).unwrap();
    let (key, incident, _) = {
        let states = rig.ledger.remembers.states.lock().unwrap();
        let (key, (incident, at)) = states.first_key_value().unwrap();
        (*key, *incident, *at)
    };
    rig.store.touch(key, incident.iid, 77, Micros(5));
    rig.store.close();
    checkpoints(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    drop((rig.store, rig.runtime));
    let after = Rig::open(directory.path());
    assert_eq!(*after.states().touches.lock().unwrap(), [(key, 77)]);
}

#[test]
fn an_index_past_its_bound_refuses_and_takes_again_when_there_is_room() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(Config { index_bytes: 2_000, ..config(directory.path()) });
    let mut accepted = 0;
    // One in two settles: the sets do not compress well.
    while rig.append(&rig.event(&format!("key-{accepted}"))).is_ok() {
        accepted += 1;
        if accepted % 2 == 0 {
            rig.settle("pager", accepted, Ending::DELIVERED);
        }
        rig.keeps_house();
        assert!(accepted < 5_000);
    }
    assert!(accepted > 100, "{accepted}");
    (1..=accepted).for_each(|sequence| {
        rig.settle("pager", sequence, Ending::DELIVERED);
        rig.settle("archive", sequence, Ending::DELIVERED);
    });
    rig.keeps_house();
    assert!(rig.append(&rig.event("again")).is_ok());
}

#[test]
fn a_stop_of_more_than_a_week_counts_as_a_clock_that_was_set() {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    for (days, counts) in [(-3, 0), (6, 0), (8, 8)] {
        let directory = TempDir::new().unwrap();
        let rig = Rig::open(directory.path());
        let received_at = Micros(Micros::now().0 - days * DAY);
        rig.append(&Event { received_at, ..rig.event("a") }).unwrap();
        rig.store.close();
        drop((rig.store, rig.runtime));
        let after = Rig::open(directory.path());
        assert_eq!(after.recovered.clock_jump_micros / DAY, counts, "{days}");
        assert_eq!(
            (after.recovered.jump_micros / DAY, after.recovered.jump_before),
            (counts, 2 * u64::from(counts > 0))
        );
        assert_eq!((after.keys(), after.recovered.first_sequence), (canon(&["a"]), 2));
        after.store.close();
        drop((after.store, after.runtime));
        // It counts once for the states, which were written down, and goes on for the event, which stands as it came.
        let again = Rig::open(directory.path());
        assert_eq!((again.recovered.clock_jump_micros, again.recovered.jump_micros / DAY), (0, counts), "{days}");
    }
}

#[test]
fn the_keeper_sums_up_by_itself_when_enough_was_written() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { max_bytes: 1 << 20, ..config(directory.path()) });
    // More than there is room for at once: where the keeper is behind, an event is refused and comes again.
    for n in 0..1_000 {
        let event = Event { raw: vec![b'x'; 1000], targets: vec!["pager"], ..rig.event(&format!("fill-{}", n % 100)) };
        wait_until("the keeper makes room", || match rig.append(&event) {
            Err(reason) => {
                assert_eq!(reason, Reason::SpoolFull);
                false
            }
            Ok(_) => true,
        });
        let sequence = rig.kept.0.lock().unwrap().last().unwrap().sequence;
        rig.settle("pager", sequence, Ending::DELIVERED);
    }
    rig.is_on_disk();
    let arc = Arc::clone(&rig.store);
    wait_until("there are two checkpoints", || {
        arc.core.disk.bytes() <= 1 << 20 && checkpoints(directory.path()).len() == 2
    });
}

#[test]
fn segments_made_ahead_of_time_are_room_and_what_is_reserved_is_not() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    let segment = u64::from(config(directory.path()).segment_bytes);
    wait_until("the next segment is made", || rig.store.room().taken == 2 * segment);
    let room = rig.store.room();
    // The head alone is written.
    assert_eq!(room.free(), room.max - room.reserved - 8192);
    rig.append(&Event { raw: vec![b'x'; 1000], targets: vec!["pager"], ..rig.event("waits") }).unwrap();
    let after = rig.store.room();
    assert!(after.reserved > room.reserved, "it is owed its ending");
    assert!(after.free() < room.free() - 1000);
}
