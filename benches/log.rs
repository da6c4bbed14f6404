//! A running log of its own, and one by hand: what appending is measured on.

// Each bench takes what it needs of it.
#![allow(dead_code)]
// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use surgegate::claim::{Accepted, Position};
use surgegate::dedup::Dedup;
use surgegate::outcome::Reason;
use surgegate::store::{self, Durability, Ending, Outlet, Queued, Store};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::rooms::Desk;

/// Takes what became durable, as a forwarder does; what that one does with it is not the log's.
struct Taken;

impl Outlet for Taken {
    fn push(&self, batch: &mut Vec<Queued>) {
        batch.clear();
    }
}

/// The same, and remembers where it stood.
#[derive(Default)]
struct Seen(Mutex<Vec<Position>>);

impl Outlet for Seen {
    fn push(&self, batch: &mut Vec<Queued>) {
        self.0.lock().unwrap().extend(batch.drain(..).map(|queued| queued.at));
    }
}

/// A log is made anew past this: nothing settles what is appended, so nothing frees it. Less than the 64 MiB that may
/// wait for the disk: in durability `memory`, appends are faster than any disk, and past that they are refused.
const LOG_BYTES: u64 = 48 << 20;
pub(crate) const SEGMENT_BYTES: u32 = 32 << 20;
/// More than this is not appended at once where the space is there before.
pub(crate) const AT_ONCE_BYTES: u64 = 16 << 20;

/// Where the space comes from that a log is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Segments are filled beside the commits, as in a log that runs on and on.
    Made,
    /// It is there before the time begins, as where something is written by hand.
    There,
}

/// A running log of its own in a new directory.
pub(crate) struct Log<'d> {
    desk: &'d Desk,
    dedup: Arc<Dedup>,
    store: Arc<Store>,
    runtime: Runtime,
    durability: Durability,
    space: Space,
    next: u64,
    directory: tempfile::TempDir,
}

impl<'d> Log<'d> {
    pub(crate) fn new(desk: &'d Desk, durability: Durability, space: Space) -> Self {
        let directory = directory();
        let config = store::Config {
            directory: directory.path().into(),
            durability,
            max_bytes: 8 * LOG_BYTES,
            segment_bytes: SEGMENT_BYTES,
            retain: Duration::from_secs(3600),
            index_bytes: 64 << 20,
            unreadable: store::Unreadable::default(),
        };
        let (store, _) = Store::open(config, &desk.metrics, 1, Arc::new(store::NoStates)).unwrap();
        store.start(Arc::new(Taken));
        // As the listener's runtimes do: a commit waits for what a busy thread is about to hand over.
        let (rests, goes_on) = (Arc::clone(&store), Arc::clone(&store));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || rests.worker_rests(0))
            .on_thread_unpark(move || goes_on.worker_goes_on(0))
            .build()
            .unwrap();
        runtime.spawn(Arc::clone(&store).deliver_completions(0));
        store.worker_goes_on(0);
        Self { desk, dedup: desk.dedup(0), store, runtime, durability, space, next: 0, directory }
    }

    /// The time of `iterations` batches of `size` events. Twice as many are under way, as where connections wait for
    /// their answers: while one batch is synced the next one gathers. `settles`: each event that was answered is
    /// settled, as a forwarder that keeps up does.
    pub(crate) fn append(&mut self, iterations: u64, size: u64, record: u64, settles: bool) -> Duration {
        let mut taken = Duration::ZERO;
        let mut left = iterations * size;
        while left > 0 {
            // So many that beginning and end, where less is under way, do not count for much.
            let events = left.min((32 * size).max(1024));
            // Where nothing is filled beside, the disk keeps up with more of it.
            let log_bytes = if self.space == Space::Made { LOG_BYTES } else { 2 * LOG_BYTES };
            if self.next * record > log_bytes {
                self.store.close();
                *self = Self::new(self.desk, self.durability, self.space);
            }
            // What reaches into the next segment has another one filled beside it: it is appended outside the time.
            let counts = self.space == Space::Made || self.space_is_there() > events * record * 5 / 4;
            left -= if counts { events } else { 0 };
            let admitted: Vec<_> =
                (self.next..self.next + events).map(|number| self.desk.admitted(&self.dedup, number)).collect();
            // Sequences are given from 1 on, in order.
            let mut settled = self.next;
            self.next += events;
            let began = Instant::now();
            self.runtime.block_on(async {
                // Answered in order, so the first tells of all: a set of futures costs more than the log.
                let mut under_way = VecDeque::with_capacity(2 * size as usize);
                for admitted in admitted {
                    if under_way.len() as u64 >= 2 * size {
                        self.is_accepted(under_way.pop_front().unwrap().await);
                        settled += 1;
                        if settles {
                            self.store.settle(&self.desk.targets[0], "fleet", settled, Ending::DELIVERED);
                        }
                    }
                    under_way.push_back(self.store.append(0, admitted));
                }
                for append in under_way {
                    self.is_accepted(append.await);
                }
            });
            self.store.worker_goes_on(0);
            taken += if counts { began.elapsed() } else { Duration::ZERO };
        }
        taken
    }

    /// Bytes left of the segment that is written, when the one behind it is there.
    fn space_is_there(&self) -> u64 {
        loop {
            let unwritten = self.store.room().unwritten;
            if let Some(rest) = unwritten.checked_sub(u64::from(SEGMENT_BYTES)) {
                return rest;
            }
            // Polled: the log tells nobody when it has made one.
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            self.store.worker_goes_on(0);
        }
    }

    fn is_accepted(&self, answer: Result<Accepted, Reason>) {
        let mebibytes = || self.free_mebibytes();
        assert!(answer.is_ok(), "the log refuses, {} MiB of disk are free: {answer:?}", mebibytes());
    }

    /// The log takes nothing on a full disk.
    fn free_mebibytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.directory.path()).unwrap();
        (disk.f_bavail * disk.f_frsize) >> 20
    }
}

/// On the disk of the build: a memory file system would make a sync free.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Bytes that a record of `desk`'s events takes in the log.
pub(crate) fn record_bytes(desk: &Desk) -> u64 {
    let log = Log::new(desk, Durability::Fsync, Space::Made);
    let seen = Arc::new(Seen::default());
    let config = store::Config {
        directory: log.directory.path().join("measured"),
        durability: Durability::Fsync,
        max_bytes: 4 * LOG_BYTES,
        segment_bytes: SEGMENT_BYTES,
        retain: Duration::from_secs(3600),
        index_bytes: 64 << 20,
        unreadable: store::Unreadable::default(),
    };
    let (store, _) = Store::open(config, &desk.metrics, 1, Arc::new(store::NoStates)).unwrap();
    store.start(Arc::clone(&seen) as Arc<dyn Outlet>);
    log.runtime.spawn(Arc::clone(&store).deliver_completions(0));
    for number in 0..2 {
        log.runtime.block_on(store.append(0, desk.admitted(&log.dedup, number))).unwrap();
    }
    store.close();
    let at = seen.0.lock().unwrap();
    at[1].0 - at[0].0
}

/// The least that any log must do with records that come one by one: each gets its length and a checksum and is put behind
/// the others; one write into space made ahead of time, one sync.
pub(crate) struct ByHand {
    /// So many that they stand in no cache, as events that were just decoded elsewhere.
    records: Vec<Vec<u8>>,
    next: usize,
    buffer: Vec<u8>,
    pub(crate) at: u64,
}

impl ByHand {
    const RECORDS: usize = 8192;
    const HEAD: usize = 8;

    /// `record`: bytes of one in the file.
    pub(crate) fn new(record: u64) -> Self {
        let length = usize::try_from(record).unwrap() - Self::HEAD;
        let made = || std::iter::repeat_with(|| fastrand::u8(1..)).take(length).collect();
        Self { records: std::iter::repeat_with(made).take(Self::RECORDS).collect(), next: 0, buffer: vec![], at: 0 }
    }

    pub(crate) fn append(&mut self, file: &File, size: u64) {
        self.buffer.clear();
        for _ in 0..size {
            let record = &self.records[self.next];
            self.next = (self.next + 1) % Self::RECORDS;
            self.buffer.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
            self.buffer.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
            self.buffer.extend_from_slice(record);
        }
        file.write_all_at(&self.buffer, self.at).unwrap();
        self.at += self.buffer.len() as u64;
        file.sync_data().unwrap();
    }
}

/// Filled, not only allocated: the first write of an allocated block costs a journal entry at the sync.
pub(crate) fn filled(directory: &Path) -> File {
    let file = File::create(directory.join("by-hand")).unwrap();
    file.write_all_at(&vec![0; SEGMENT_BYTES as usize], 0).unwrap();
    file.sync_all().unwrap();
    file
}

/// Reserved and not written to yet: nothing is done outside the time but that.
pub(crate) fn preallocated(directory: &Path) -> File {
    let path = directory.join("preallocated");
    // In place of the one before.
    let _ = std::fs::remove_file(&path);
    let file = File::create(path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, u64::from(SEGMENT_BYTES)).unwrap();
    file.sync_all().unwrap();
    file
}
