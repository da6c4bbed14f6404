//! What answers show of incidents stands as long as their states, whatever becomes of the segments.

use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::keeping::unretained;
use super::{Rig, SEGMENT, config, image, segments};
use crate::claim::Position;
use crate::event::{Incident, Micros, StateKey, Uid};
use crate::store::doubles::Event;
use crate::store::{Config, Durability, Ending, ReadError, Shown, States, reader};

impl Rig {
    fn shows(&self, key: &str, view: &str) -> Event {
        Event { view: Some(Bytes::from(view.to_owned())), targets: vec!["pager"], ..self.event(key) }
    }

    fn state(&self, key: &str) -> (StateKey, Incident, Position) {
        let key = super::admitted(&self.event(key)).event.state_key().unwrap();
        let (incident, at) = self.states().at(key).unwrap();
        (key, incident, at)
    }

    fn shown(&self, key: &str) -> Result<Shown, ReadError> {
        self.store.shown(self.state(key).2)
    }

    fn view(&self, key: &str) -> String {
        String::from_utf8(self.shown(key).unwrap().view.unwrap().to_vec()).unwrap()
    }

    /// Keeps house until all that may go is gone.
    fn lets_go(&self) {
        for _ in 0..4 {
            self.sums_up();
            self.keeps_house();
            self.is_on_disk();
        }
    }

    fn delivers_all(&self) {
        for queued in &*self.kept.0.lock().unwrap() {
            queued.targets.iter().for_each(|meter| self.settle(&meter.name, queued.sequence, Ending::DELIVERED));
        }
    }
}

fn without_checkpoints(copy: &Path) {
    for entry in std::fs::read_dir(copy.join("spool")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "checkpoint") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_a_state_shows_is_read_with_its_body_from_memory_and_from_disk() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.shows("a", "{\"id\":1}")).unwrap();
    rig.append(&Event { raw: vec![b'x'; 20_000], ..rig.shows("long", &"v".repeat(20_000)) }).unwrap();
    rig.append(&rig.event("bare")).unwrap();
    let copy = image(directory.path());
    let after = Rig::open(copy.path());
    for rig in [&rig, &after] {
        let shown = rig.shown("a").unwrap();
        assert_eq!(
            (shown.view.as_deref(), shown.raw.as_deref()),
            (Some(&b"{\"id\":1}"[..]), Some(&b"{\"event_id\":\"a\"}"[..]))
        );
        assert_eq!((&*shown.integration, shown.key.unwrap().canon()), ("fleet", "a"));
        assert_eq!(shown.incident, Some(rig.state("a").1));
        assert_eq!((rig.view("long").len(), rig.shown("long").unwrap().raw.unwrap().len()), (20_000, 20_000));
        let bare = rig.shown("bare").unwrap();
        assert!(bare.view.is_none() && bare.raw.is_some() && bare.incident.is_some());
    }
    assert!(matches!(rig.store.shown(Position(99 << 32)), Err(ReadError::Io(_))), "not written yet, for all it knows");
    assert!(matches!(rig.store.shown(Position(1 << 32 | 8)), Err(ReadError::Damaged(_))));
}

#[test]
fn what_an_open_incident_shows_outlives_its_segment_and_every_start() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.append(&rig.shows("open", "as it was")).unwrap();
    rig.append(&rig.shows("changed", "first")).unwrap();
    rig.append(&rig.event("bare")).unwrap();
    rig.delivers_all();
    rig.fills(100);
    rig.append(&rig.shows("changed", "second")).unwrap();
    rig.delivers_all();
    rig.fills(100);
    let first = segments(directory.path())[0].clone();
    rig.lets_go();
    assert!(!first.exists());
    assert_eq!((rig.view("open"), rig.view("changed")), ("as it was".to_owned(), "second".to_owned()));
    assert!(rig.shown("open").unwrap().raw.is_none(), "never the body");
    // A copy is copied again.
    let second = segments(directory.path())[0].clone();
    rig.fills(200);
    rig.lets_go();
    assert!(!second.exists());
    assert_eq!(rig.view("open"), "as it was");
    for bare in [false, true] {
        let copy = image(directory.path());
        if bare {
            without_checkpoints(copy.path());
        }
        for _ in 0..2 {
            let after = Rig::open(copy.path());
            assert_eq!(after.recovered.damaged_records, 0);
            assert_eq!((after.view("open"), after.state("open").1), ("as it was".to_owned(), rig.state("open").1));
            assert_eq!(after.view("changed"), "second");
            after.store.close();
        }
    }
}

#[test]
fn a_copy_does_not_undo_what_came_before_it_in_the_log_and_was_committed_after() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.append(&rig.shows("a", "old")).unwrap();
    rig.delivers_all();
    rig.fills(200);
    rig.sums_up();
    // The keeper has looked at the state; a change of it reaches the log before the copy.
    let (key, before, from) = rig.state("a");
    rig.append(&Event { number: 2048, ..rig.shows("a", "new") }).unwrap();
    let (_, after, at) = rig.state("a");
    let (sequence, payload) = rig.store.reader.snapshot(&rig.store.core.disk, key, before, from).unwrap();
    let copied = rig.store.core.lock().place_snapshot(sequence, &payload).unwrap();
    rig.states().moved(key, before.iid, from, copied);
    assert_eq!(rig.state("a").2, at, "the state is not where it was copied from any more");
    rig.fills(1);
    let copy = image(directory.path());
    let started = Rig::open(copy.path());
    assert_eq!((started.view("a"), started.state("a").1), ("new".to_owned(), after));
    assert_eq!(started.state("a").2, at);
}

#[test]
fn a_segment_stays_while_most_of_it_is_shown() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    let room = SEGMENT as usize - 8192;
    for n in 0..20 {
        rig.append(&rig.shows(&format!("key-{n}"), &"v".repeat(room / 25))).unwrap();
    }
    rig.delivers_all();
    rig.fills(200);
    let first = segments(directory.path())[0].clone();
    rig.lets_go();
    assert!(first.exists(), "copying would make no room");
    // Half of them change, and what is left is worth a copy.
    for n in 0..14 {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
    }
    rig.delivers_all();
    rig.lets_go();
    assert!(!first.exists());
    assert_eq!(rig.view("key-19").len(), room / 25);
}

#[test]
fn a_damaged_view_does_not_keep_its_segment() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    rig.append(&rig.shows("a", "what was shown")).unwrap();
    rig.delivers_all();
    rig.fills(200);
    let first = segments(directory.path())[0].clone();
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.windows(14).position(|window| window == b"what was shown").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    rig.lets_go();
    assert!(!first.exists());
    assert!(!reader::has_view(rig.state("a").2), "nothing is shown of it any more");
    let copy = image(directory.path());
    assert!(matches!(Rig::open(copy.path()).shown("a"), Err(ReadError::Damaged(_))));
}

#[test]
fn in_memory_what_is_not_written_yet_is_told_from_what_is_damaged() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    rig.append(&rig.shows("first", "1")).unwrap();
    rig.is_on_disk();
    rig.faults.writes.store(u32::MAX, std::sync::atomic::Ordering::SeqCst);
    rig.append(&rig.shows("a", "2")).unwrap();
    assert_eq!(rig.view("first"), "1");
    let early = rig.shown("a");
    assert!(matches!(&early, Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock), "{early:?}");
    rig.faults.writes.store(0, std::sync::atomic::Ordering::SeqCst);
    rig.is_on_disk();
    super::wait_until("it is written", || rig.shown("a").is_ok());
}

#[test]
fn the_table_takes_a_new_place_for_what_has_not_changed_alone() {
    let metrics = crate::metrics::Metrics::new(1).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let config = crate::dedup::Config {
        open_ttl: hour,
        resolved_ttl: hour,
        idempotency_ttl: hour,
        replay_ttl: hour,
        max_keys: 10,
        redeliver_after: hour,
        replica_id: 0,
        is_shared: false,
    };
    let dedup = crate::dedup::Dedup::new(config, metrics);
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.shows("a", "v")).unwrap();
    let (key, incident, at) = rig.state("a");
    assert!(reader::has_view(at));
    let incident = Incident { last_seen: Micros::now(), changed_at: Micros::now(), ..incident };
    dedup.restore(key, incident, at);
    let to = Position(at.0 + 64);
    dedup.moved(key, Uid(1), at, to);
    dedup.moved(key, incident.iid, to, to);
    assert_eq!(dedup.incident_at(key).unwrap().1, at);
    dedup.moved(key, incident.iid, at, to);
    assert_eq!(dedup.incident_at(key).unwrap().1, to);
}
