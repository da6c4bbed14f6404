//! Segments made ahead of time: a thread fills the next one with zeros while the current one is used.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::files::{Disk, Segment};

/// After a segment could not be made. Accepting again must come within 1 s of space (PROMISES D5).
const AGAIN: Duration = Duration::from_millis(100);

/// A head alone.
const SKIPPED_BYTES: u32 = 8 << 10;

/// Whether so many bytes more stay within `max_bytes`.
type Room<'a> = dyn Fn(u64) -> bool + 'a;
/// Hears of each segment whether it could be made.
type Tell<'a> = dyn Fn(u32, Result<(), &io::Error>) + 'a;

#[derive(Default)]
struct Shelves {
    /// Made and not yet used.
    ready: BTreeMap<u32, (Segment, u32)>,
    /// Bytes of those that are wanted and not taken yet.
    sizes: BTreeMap<u32, u32>,
    /// Highest that was made.
    made: u32,
    /// Highest that is wanted.
    wanted: u32,
    /// Up to here `max_bytes` does not matter: the writer needs it for what it already holds.
    forced: u32,
    /// What the last try failed with.
    error: Option<io::Error>,
    /// Space was made.
    again: bool,
    /// A thread makes them; before that, and in tests without threads, who takes one makes it.
    manned: bool,
    stopped: bool,
}

/// A segment that could not be made.
pub(super) struct Unmade {
    id: u32,
    /// It was tried although there was no room.
    forced: bool,
}

pub(super) struct Shelf {
    shelves: Mutex<Shelves>,
    changed: Condvar,
    /// Segments are written ahead: only worth it where commits are synced.
    written: bool,
}

impl Shelf {
    /// `made`: the highest segment number in use.
    pub(super) fn new(made: u32, written: bool) -> Self {
        let shelves = Shelves { made, wanted: made, ..Shelves::default() };
        Self { shelves: Mutex::new(shelves), changed: Condvar::new(), written }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one that was made elsewhere.
    pub(super) fn put(&self, id: u32, file: Segment, bytes: u32) {
        let mut shelves = self.lock();
        shelves.made = shelves.made.max(id);
        shelves.wanted = shelves.wanted.max(id);
        shelves.sizes.retain(|other, _| *other >= id);
        shelves.ready.insert(id, (file, bytes));
    }

    /// Asks for a segment of so many bytes, and for all before it. One that is not taken yet changes its size: what is
    /// made already is made longer when it is taken.
    pub(super) fn want(&self, id: u32, bytes: u32) {
        let mut shelves = self.lock();
        if id <= shelves.made && !shelves.ready.contains_key(&id) {
            return;
        }
        shelves.sizes.insert(id, bytes);
        shelves.wanted = shelves.wanted.max(id);
        self.changed.notify_all();
    }

    /// Bytes that those up to `id` will take, which are not made yet.
    pub(super) fn missing_bytes(&self, id: u32) -> u64 {
        let shelves = self.lock();
        shelves
            .sizes
            .iter()
            .filter(|(other, _)| (shelves.made + 1..=id).contains(other))
            .map(|(_, bytes)| u64::from(*bytes))
            .sum()
    }

    /// Bytes of segments behind that one which are made and not used yet.
    pub(super) fn blank_bytes(&self, segment: u32) -> u64 {
        self.lock().ready.range(segment.saturating_add(1)..).map(|(_, (_, bytes))| u64::from(*bytes)).sum()
    }

    /// Has what failed tried again now.
    pub(super) fn try_again(&self) {
        self.lock().again = true;
        self.changed.notify_all();
    }

    /// From now on somebody is in [`Self::run`], or soon.
    pub(super) fn man(&self) {
        self.lock().manned = true;
    }

    /// Takes a segment; waits while it is being made, and has it made beyond `max_bytes` if need be.
    pub(super) fn take(&self, id: u32, disk: &Disk, has_room: &Room<'_>, tell: &Tell<'_>) -> io::Result<Segment> {
        let mut shelves = self.lock();
        shelves.wanted = shelves.wanted.max(id);
        shelves.forced = shelves.forced.max(id);
        shelves.error = None;
        self.changed.notify_all();
        loop {
            if let Some((file, bytes)) = shelves.ready.remove(&id) {
                let wanted = shelves.sizes.remove(&id).unwrap_or(bytes);
                drop(shelves);
                if wanted > bytes
                    && let Err(error) = disk.lengthen_segment(&file, bytes, wanted)
                {
                    // It is there as it was made, for the next try: its number is not given to another.
                    let mut shelves = self.lock();
                    shelves.sizes.entry(id).or_insert(wanted);
                    shelves.ready.insert(id, (file, bytes));
                    return Err(error);
                }
                return Ok(file);
            }
            if let Some(error) = shelves.error.take() {
                return Err(error);
            }
            if shelves.stopped || shelves.made >= id {
                return Err(io::ErrorKind::NotFound.into());
            }
            if shelves.manned {
                shelves = self.changed.wait(shelves).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(shelves);
                self.make_next(disk, has_room, tell);
                shelves = self.lock();
            }
        }
    }

    /// The thread.
    pub(super) fn run(&self, disk: &Disk, has_room: &Room<'_>, tell: &Tell<'_>) {
        loop {
            let mut shelves = self.lock();
            while !shelves.stopped && shelves.made >= shelves.wanted {
                shelves = self.changed.wait(shelves).unwrap_or_else(PoisonError::into_inner);
            }
            if shelves.stopped {
                return;
            }
            drop(shelves);
            if let Some(unmade) = self.make_next(disk, has_room, tell) {
                self.rest(&unmade);
            }
        }
    }

    /// Makes the next one that is wanted.
    pub(super) fn make_next(&self, disk: &Disk, has_room: &Room<'_>, tell: &Tell<'_>) -> Option<Unmade> {
        let (id, bytes, forced) = {
            let mut shelves = self.lock();
            let id = shelves.made + 1;
            if id > shelves.wanted {
                return None;
            }
            shelves.again = false;
            // One that was skipped after a failure is never used, but its number is.
            let bytes = shelves.sizes.get(&id).copied().unwrap_or(SKIPPED_BYTES);
            (id, bytes, id <= shelves.forced)
        };
        let made = if forced || has_room(bytes.into()) {
            disk.make_segment(id, bytes, self.written, &|| self.lock().stopped)
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        match made {
            Ok(file) => {
                self.put(id, file, bytes);
                tell(id, Ok(()));
                self.changed.notify_all();
                None
            }
            Err(error) => {
                tell(id, Err(&error));
                let mut shelves = self.lock();
                if id <= shelves.forced && !forced {
                    // The writer needs what was refused for `max_bytes`.
                    return None;
                }
                shelves.error = Some(error);
                self.changed.notify_all();
                Some(Unmade { id, forced })
            }
        }
    }

    /// Waits for the next try; no longer once the writer needs what was refused for `max_bytes`, or space was made.
    fn rest(&self, unmade: &Unmade) {
        let until =
            |shelves: &mut Shelves| !shelves.stopped && !shelves.again && (unmade.forced || unmade.id > shelves.forced);
        let waited = self.changed.wait_timeout_while(self.lock(), AGAIN, until);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the thread and removes what was made in vain.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn clear(&self, disk: &Disk) {
        for id in std::mem::take(&mut self.lock().ready).into_keys() {
            disk.remove(id);
        }
    }
}
