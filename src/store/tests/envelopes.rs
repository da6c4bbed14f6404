//! What a batch says of all its events is written once a request, and read with each of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tempfile::TempDir;

use super::keeping::unretained;
use super::{Rig, SEGMENT, config, image, segments, wait_until};
use crate::outcome::Reason;
use crate::store::doubles::Event;
use crate::store::files::calls::Access;
use crate::store::files::{Files, Real};
use crate::store::frame::{HEAD_SPAN, Kind};
use crate::store::scan::{self, Next, Scan};
use crate::store::{Append, Config, Durability, Ending, Store};

/// A buffer of its own each time.
fn envelope(letter: u8, bytes: usize) -> Bytes {
    Bytes::from(vec![letter; bytes])
}

impl Rig {
    fn in_batch(&self, key: &str, envelope: &Bytes) -> Event {
        Event { envelope: Some(envelope.clone()), targets: vec!["pager"], ..self.event(key) }
    }

    /// Appends all before the first is waited for, as a request does.
    fn appends(&self, events: &[Event]) -> Vec<Result<(), Reason>> {
        let appends: Vec<Append> = events.iter().map(|event| self.store.append(0, super::admitted(event))).collect();
        appends.into_iter().map(|append| self.runtime.block_on(append).map(drop)).collect()
    }

    /// What each event's batch says, by its key, as the forwarder reads it.
    fn envelopes(&self) -> BTreeMap<String, Option<Bytes>> {
        let read = |queued: &super::Waits| {
            let event = self.store.read(queued.sequence, queued.at.unwrap()).unwrap().event;
            assert_eq!(self.store.event(queued.sequence).unwrap().1.event.envelope, event.envelope);
            (event.key.unwrap().canon().to_owned(), event.envelope)
        };
        self.queued.iter().map(read).collect()
    }
}

/// Records of a kind in each segment, with their offsets.
fn records(directory: &Path, kind: Kind) -> Vec<Vec<usize>> {
    let directory = Real::below(directory);
    let mut all = vec![];
    let mut entries = directory.list("spool").unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".log")) {
        let file = directory.open(&format!("spool/{}", entry.name), Access::Read).unwrap();
        let Some(head) = scan::head(&*file).unwrap() else { continue };
        let mut scan = Scan::new(&*file, file.size().unwrap(), head.salt);
        let mut found = vec![];
        loop {
            match scan.next() {
                Next::Frame { at, frame } if frame.kind == kind as u8 => found.push(at as usize),
                Next::Frame { .. } | Next::Damage { .. } => {}
                Next::End { .. } => break,
            }
        }
        all.push(found);
    }
    all
}

#[test]
fn it_stands_once_in_each_segment_that_has_events_of_the_request() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let envelope = envelope(b'e', 20_000);
    let events: Vec<Event> = (0..300).map(|n| rig.in_batch(&format!("key-{n}"), &envelope)).collect();
    assert!(rig.appends(&events).iter().all(Result::is_ok));
    for queued in &*rig.kept.0.lock().unwrap() {
        let read = rig.store.read(queued.sequence, queued.at).unwrap().event.envelope;
        assert_eq!(read.as_ref(), Some(&envelope), "from memory");
        let read = rig.read_from_disk(queued.at).unwrap().event.envelope;
        assert_eq!(read.as_ref(), Some(&envelope), "from disk");
    }
    let copy = image(directory.path());
    let (envelopes, events) = (records(copy.path(), Kind::Envelope), records(copy.path(), Kind::Accepted));
    let with_events = events.iter().filter(|offsets| !offsets.is_empty()).count();
    assert!(with_events > 1, "it goes over several segments");
    for (envelopes, events) in envelopes.iter().zip(&events) {
        assert_eq!(envelopes.len(), usize::from(!events.is_empty()));
        assert!(envelopes.first() <= events.first(), "before the first that refers to it");
    }
    assert!(Store::check(copy.path()).unwrap().bytes["envelopes"] < 21_000 * with_events as u64);
    // A segment stands alone.
    let first = segments(copy.path())[0].clone();
    let of_first = events[0].len();
    fs::remove_file(first).unwrap();
    let after = Rig::open(copy.path());
    let read = after.envelopes();
    assert_eq!(read.len(), 300 - of_first);
    assert!(read.values().all(|read| read.as_ref() == Some(&envelope)));
}

#[test]
fn requests_that_come_together_keep_what_each_said() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let mut said = BTreeMap::new();
    let mut events = vec![];
    // More than the log remembers at a time, and some alike in length.
    for round in 0..30 {
        for request in 0..12_u8 {
            let key = format!("key-{round}-{request}");
            let envelope =
                said.entry(request).or_insert_with(|| envelope(b'a' + request, 500 + usize::from(request / 2)));
            events.push(rig.in_batch(&key, envelope));
        }
    }
    assert!(rig.appends(&events).iter().all(Result::is_ok));
    let read = Rig::open(image(directory.path()).path()).envelopes();
    for event in &events {
        assert_eq!(read[event.key.as_ref().unwrap()], event.envelope);
    }
}

#[test]
fn one_whose_place_in_memory_is_used_again_is_not_taken_for_the_one_before() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    for n in 0..100_u8 {
        // Freed when the event is in the log, so that the next may come to stand there.
        let event = rig.in_batch(&format!("key-{n}"), &envelope(n, 64));
        assert!(rig.appends(&[event])[0].is_ok());
    }
    let read = Rig::open(image(directory.path()).path()).envelopes();
    assert!((0..100_u8).all(|n| read[&format!("key-{n}")] == Some(envelope(n, 64))));
}

#[test]
fn events_whose_envelope_is_damaged_are_delivered_without_it() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let (first, second) = (envelope(b'1', 2000), envelope(b'2', 2000));
    let events: Vec<Event> =
        (0..20).map(|n| rig.in_batch(&format!("key-{n}"), if n % 2 == 0 { &first } else { &second })).collect();
    assert!(rig.appends(&events).iter().all(Result::is_ok));
    let copy = image(directory.path());
    let at = records(copy.path(), Kind::Envelope)[0][0];
    let path = segments(copy.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[at + 500] ^= 1;
    fs::write(path, bytes).unwrap();
    let after = Rig::open(copy.path());
    assert_eq!((after.recovered.damaged_records, after.queued.len()), (1, 20));
    let before = after.metrics.spool_damaged_records.get();
    let read = after.envelopes();
    for n in 0..20 {
        let expected = if n % 2 == 0 { None } else { Some(second.clone()) };
        assert_eq!(read[&format!("key-{n}")], expected, "key-{n}");
    }
    assert_eq!(after.metrics.spool_damaged_records.get() - before, 1, "counted once");
}

#[test]
fn an_event_that_outlives_its_segment_takes_its_envelope_along() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(unretained(directory.path()));
    let envelope = envelope(b'e', 3000);
    let events = ["waits", "goes", "stays"].map(|key| rig.in_batch(key, &envelope));
    assert!(rig.appends(&events).iter().all(Result::is_ok));
    rig.settle("pager", 2, Ending::DELIVERED);
    rig.fills(200);
    let first = segments(directory.path())[0].clone();
    for _ in 0..4 {
        rig.sums_up();
        rig.keeps_house();
    }
    assert!(!first.exists());
    let copy = image(directory.path());
    for after in [Rig::open(copy.path()), Rig::open(image(copy.path()).path())] {
        let read = after.envelopes();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["stays", "waits"]);
        assert!(read.values().all(|read| read.as_ref() == Some(&envelope)));
        after.store.close();
    }
}

#[test]
fn after_a_failed_write_it_is_written_again() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let envelope = envelope(b'e', 1000);
    assert!(rig.appends(&[rig.in_batch("before", &envelope)])[0].is_ok());
    rig.faults.syncs.store(1, Ordering::SeqCst);
    let refused = ["a", "b"].map(|key| rig.in_batch(key, &envelope));
    assert!(rig.appends(&refused).contains(&Err(Reason::SpoolFailed)));
    wait_until("it accepts again", || rig.store.can_accept().is_ok());
    assert!(rig.appends(&[rig.in_batch("after", &envelope)])[0].is_ok());
    let after = Rig::open(image(directory.path()).path());
    assert_eq!(after.recovered.damaged_records, 0);
    let read = after.envelopes();
    assert!(read.contains_key("before") && read.contains_key("after"));
    assert!(read.values().all(|read| read.as_ref() == Some(&envelope)));
}

#[test]
fn in_memory_it_is_there_when_the_event_is() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    let envelope = envelope(b'e', 1000);
    rig.append(&rig.in_batch("first", &envelope)).unwrap();
    rig.is_on_disk();
    rig.faults.writes.store(2, Ordering::SeqCst);
    let events: Vec<Event> = (0..200).map(|n| rig.in_batch(&format!("key-{n}"), &envelope)).collect();
    let taken = 1 + rig.appends(&events).iter().filter(|ended| ended.is_ok()).count();
    wait_until("it is handed on", || rig.kept.0.lock().unwrap().len() == taken);
    let read = Rig::open(image(directory.path()).path()).envelopes();
    assert_eq!(read.len(), taken);
    assert!(read.values().all(|read| read.as_ref() == Some(&envelope)));
}

#[test]
fn a_pair_that_no_segment_holds_is_refused_and_leaves_the_log_as_it_was() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let room = SEGMENT as usize - HEAD_SPAN;
    let large = Event { raw: vec![b'x'; room / 2], ..rig.in_batch("large", &envelope(b'e', room / 2)) };
    assert_eq!(rig.appends(&[large]), [Err(Reason::Internal)]);
    assert!(rig.appends(&[rig.in_batch("small", &envelope(b'e', room / 2))])[0].is_ok());
    assert_eq!(segments(directory.path()).len(), 2, "the first, and the one made ahead");
}
