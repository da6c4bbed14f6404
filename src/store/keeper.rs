//! Keeps house behind the writer: sums the log up in checkpoints, lets go of segments that nobody needs, copies
//! forward what keeps a segment alone, and holds the index to its bound. A thread of its own, off every path.
//!
//! A segment may go when a checkpoint speaks of a place behind it, and none of its events waits or is a dead letter
//! (or there is a copy of it that such a checkpoint knows of). It goes when it was sealed `retain` ago, or sooner,
//! oldest first, when space is short: before anything is refused. Two checkpoints are kept, and without need a
//! segment goes only when the older one covers it too, so that a start survives the loss of either.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::checkpoint::{self, Counters, Summary};
use super::pending::Pending;
use super::reader::{Reader, join, split};
use super::snapshots::{self, Snapshots, Views};
use super::standing::Cut;
use super::{Core, Durability, LaneKey, States};
use crate::claim::Position;
use crate::event::{Micros, StateKey};

/// How often it looks whether there is something to do.
const TICK: Duration = Duration::from_millis(100);
/// A checkpoint is made when so much was written since the last one, or twice as much as that took, whichever is
/// more: a start then reads little (about a second's work), and checkpoints cost at most half of what the log does.
const CHECKPOINT_BYTES: u64 = 512 << 20;
const CHECKPOINT_PART: u64 = 2;
/// The same by time, where anything was written.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(300);
/// After one that failed.
const CHECKPOINT_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for the writer; it takes longer only where the disk hangs, and then there is time.
const WRITER_MAX: Duration = Duration::from_secs(5);
/// A segment with more events that are needed than this is a queue, not a leftover: nothing is copied.
const MERGE_EVENTS_MAX: usize = 4096;
/// And where they take more than this part of it.
const MERGE_PART: u64 = 4;
/// How often it is told how full the spool is.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
/// Segments removed in one round while the disk itself is full: how much that helps is seen in the next.
const REMOVED_AT_ONCE: usize = 2;
/// The checkpoints that are kept.
const KEPT: usize = 2;

pub(super) struct Keeper {
    core: Arc<Core>,
    reader: Arc<Reader>,
    states: Arc<dyn States>,
    /// Those on disk, with the place each speaks of; oldest first.
    checkpoints: Vec<(u32, Position)>,
    next_checkpoint: u32,
    /// Bytes of the last one.
    bytes: u64,
    /// `placed_bytes` and time of the last one.
    placed: u64,
    made_at: Instant,
    failed_at: Option<Instant>,
    /// Segments whose events were copied, with the first checkpoint that knows of the copies.
    merged: BTreeMap<u32, Merged>,
    /// Copies on their way to the disk.
    copies: Option<Copies>,
    /// Segments that hold what is shown of incidents.
    views: Views,
    snapshots: Option<Snapshots>,
    measured_at: Option<Instant>,
}

struct Copies {
    segment: u32,
    copied: Vec<(u64, Position)>,
    lost: BTreeSet<u64>,
    /// They are on disk when the log is up to here, and no write failed since.
    end: Position,
    failures: u64,
}

struct Merged {
    known_from: u32,
    /// Events that can no longer be read: nothing is gained by keeping the segment.
    lost: BTreeSet<u64>,
}

/// A segment that is not written to any more.
struct Sealed {
    id: u32,
    sequences: Range<u64>,
    at: Micros,
}

impl Keeper {
    pub(super) fn new(
        core: Arc<Core>,
        reader: Arc<Reader>,
        states: Arc<dyn States>,
        checkpoints: Vec<(u32, Position)>,
        next_checkpoint: u32,
    ) -> Self {
        // Nothing runs yet: all that those before this process wrote is in the states.
        let mut views = Views::upto(core.lock().tail().0);
        states.each(&mut |key, _, at| views.see(key, at));
        Self {
            core,
            reader,
            states,
            checkpoints,
            next_checkpoint,
            bytes: 0,
            placed: 0,
            made_at: Instant::now(),
            failed_at: None,
            merged: BTreeMap::new(),
            copies: None,
            views,
            snapshots: None,
            measured_at: None,
        }
    }

    /// Until the store closes.
    pub(super) fn run(&mut self) {
        loop {
            let stopping = self.core.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            if *stopping {
                return;
            }
            let waited = self.core.keeper_wake.wait_timeout(stopping, TICK);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            self.round();
        }
    }

    /// One look round the house.
    pub(super) fn round(&mut self) {
        self.core.hold_index_to_its_bound();
        self.tell_snapshots();
        if self.checkpoint_is_due(self.is_short_of_space()) {
            self.checkpoint(false);
        }
        self.remove_settled();
        self.take_copies();
        if let (None, Some(leftover)) = (&self.copies, self.leftover()) {
            self.merge(&leftover);
        }
        if let (None, Some(segment)) = (&self.snapshots, self.shows_alone()) {
            self.snapshots = snapshots::copy(&self.core, &self.reader, &*self.states, &mut self.views, segment);
        }
        if self.measured_at.is_none_or(|at| at.elapsed() >= MEASURED_EVERY) {
            self.measure();
            self.measured_at = Some(Instant::now());
        }
    }

    /// Tells how much of the spool is needed, and how large it can become: what a forecast of its end is made from.
    fn measure(&self) {
        let (disk, metrics) = (&self.core.disk, &self.core.metrics);
        let spare = self.sealed().into_iter().filter(|segment| !self.is_needed(segment));
        let spare: u64 = spare.map(|segment| disk.segment_bytes(segment.id)).sum();
        let capacity = disk.capacity().map_or(self.core.max_bytes, |bytes| bytes.min(self.core.max_bytes));
        let shown = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.spool_needed_bytes.set(shown(disk.bytes().saturating_sub(spare)));
        metrics.spool_capacity_bytes.set(shown(capacity));
    }

    /// The oldest segment that would go, but for what it shows of incidents.
    fn shows_alone(&self) -> Option<u32> {
        let now = Micros::now();
        let short = self.is_short_of_space();
        let due = self.sealed().into_iter().filter(|segment| short || self.is_past_its_time(segment, now));
        due.filter(|segment| self.views.has_keys(segment.id)).find(|segment| !self.is_needed(segment)).map(|it| it.id)
    }

    /// Copies of what is shown that are on disk are where it is read from now on.
    fn tell_snapshots(&mut self) {
        if let Some(snapshots) = self.snapshots.take() {
            self.snapshots = snapshots.tell(&self.core, &*self.states, &mut self.views);
        }
    }

    /// Ids that upstreams gave to incidents go when their incidents are gone.
    fn tidy_remotes(&self) {
        let lives = |lane: LaneKey, iid| self.states.lives(StateKey(lane.0), iid);
        let lost = self.core.remotes.tidy(self.core.index_bytes, Micros::now(), &lives);
        if lost > 0 {
            tracing::warn!(
                lost,
                "ids that upstreams gave to open incidents take more than spool.index_bytes: the oldest are gone"
            );
        }
    }

    fn is_short_of_space(&self) -> bool {
        self.core.nears_limit() || self.core.disk_is_full()
    }

    fn checkpoint_is_due(&self, short: bool) -> bool {
        if self.failed_at.is_some_and(|at| at.elapsed() < CHECKPOINT_AGAIN) {
            return false;
        }
        let written = self.core.lock().placed_bytes.saturating_sub(self.placed);
        let by_bytes = written >= CHECKPOINT_BYTES.max(self.bytes.saturating_mul(CHECKPOINT_PART));
        let by_time = written > 0 && self.made_at.elapsed() >= CHECKPOINT_AFTER;
        // Something could go, but for a checkpoint that covers it, or that knows of its copies.
        let newest = self.checkpoints.last().map_or(0, |(id, _)| *id);
        let copies = self.merged.values().any(|merged| merged.known_from > newest);
        let covered = self.cover(true).map_or(0, |(_, at)| split(at).0);
        let uncovered = || self.sealed().iter().any(|segment| segment.id >= covered && !self.is_needed(segment));
        // What was copied of the states is known to the log; the look at them that lets the segment go comes with it.
        let views = short && self.views.told;
        by_bytes || by_time || copies || views || (short && written > 0 && uncovered())
    }

    /// The checkpoint that must cover what goes.
    fn cover(&self, short: bool) -> Option<(u32, Position)> {
        if short { self.checkpoints.last().copied() } else { self.checkpoints.iter().rev().nth(KEPT - 1).copied() }
    }

    fn sealed(&self) -> Vec<Sealed> {
        let all = self.core.places().ranges();
        all.into_iter().filter_map(|(id, sequences, at)| Some(Sealed { id, sequences, at: at? })).collect()
    }

    /// Events that need the segment: their only copy stands in it.
    fn needing(&self, segment: &Sealed, count: usize) -> Vec<u64> {
        let pending = self.core.lock();
        let standing = &pending.standing;
        let here = |at: &Position| split(*at).0 == segment.id;
        let is_here = |sequence| standing.moved.get(&sequence).is_none_or(here);
        let mut needing = standing.living(&segment.sequences, count, is_here);
        let copies = standing.moved.iter().filter(|(sequence, at)| here(at) && standing.lives(**sequence));
        needing.extend(copies.map(|(sequence, _)| *sequence).take(count));
        needing
    }

    fn is_needed(&self, segment: &Sealed) -> bool {
        let lost = self.merged.get(&segment.id).map(|merged| &merged.lost);
        // Of those that are needed only the lost ones may be left.
        let count = lost.map_or(1, |lost| lost.len() + 1);
        self.needing(segment, count).iter().any(|sequence| lost.is_none_or(|lost| !lost.contains(sequence)))
    }

    fn is_past_its_time(&self, segment: &Sealed, now: Micros) -> bool {
        let age = u64::try_from(now.0.saturating_sub(segment.at.0)).unwrap_or(0);
        Duration::from_micros(age) >= self.core.retain
    }

    /// Lets go of segments that nobody needs.
    fn remove_settled(&mut self) {
        let now = Micros::now();
        let mut removed = 0;
        for segment in self.sealed() {
            let short = self.core.nears_limit() || (self.core.disk_is_full() && removed < REMOVED_AT_ONCE);
            if !short && !self.is_past_its_time(&segment, now) {
                break;
            }
            let Some((checkpoint, at)) = self.cover(short) else { break };
            let knows = self.merged.get(&segment.id).is_none_or(|merged| merged.known_from <= checkpoint);
            if segment.id >= split(at).0 || !knows || self.views.may_hold(segment.id) || self.is_needed(&segment) {
                continue;
            }
            if removed == 0 && !self.everything_is_on_disk() {
                // What settled these events may be lost yet, and their records must not be.
                return;
            }
            self.core.places().remove(segment.id);
            self.core.disk.remove(segment.id);
            self.reader.forget(segment.id);
            self.merged.remove(&segment.id);
            removed += 1;
        }
        if removed > 0 {
            tracing::debug!(removed, "segments of the spool that nobody needs are gone");
            self.core.space_was_made();
        }
    }

    /// The oldest segment that would go, but for a few events.
    fn leftover(&self) -> Option<Sealed> {
        let now = Micros::now();
        let short = self.is_short_of_space();
        let mut due = self.sealed().into_iter().filter(|segment| short || self.is_past_its_time(segment, now));
        due.find(|segment| !self.merged.contains_key(&segment.id) && self.is_needed(segment))
    }

    /// Copies what is needed of a segment to the end of the log. Nothing is removed here: a checkpoint must know of the
    /// copies first.
    fn merge(&mut self, segment: &Sealed) {
        let mut wanted = self.needing(segment, MERGE_EVENTS_MAX + 1);
        if wanted.len() > MERGE_EVENTS_MAX {
            return;
        }
        wanted.sort_unstable();
        match self.copy(segment, &wanted) {
            // None where it is too much to copy, or there is no room: the events may settle by themselves.
            Ok(copies) => self.copies = copies,
            Err(error) => tracing::warn!(%error, segment = segment.id, "an old segment of the spool cannot be copied"),
        }
    }

    /// Copies that are on disk are where their events are read from now on.
    fn take_copies(&mut self) {
        let Some(Copies { segment, copied, lost, end, failures }) = self.copies.take() else { return };
        let mut pending = self.core.lock();
        if pending.failures != failures {
            // They may be lost with what failed: it is done again.
            return;
        }
        if !copied.is_empty() && pending.durable < end {
            self.copies = Some(Copies { segment, copied, lost, end, failures });
            return;
        }
        let (events, lost_events) = (copied.len(), lost.len());
        for (sequence, at) in copied {
            if pending.standing.lives(sequence) {
                pending.standing.moved.insert(sequence, at);
                self.core.some_moved.store(true, Ordering::Release);
            }
        }
        drop(pending);
        tracing::info!(segment, events, lost_events, "what is still needed of an old segment of the spool was copied");
        self.merged.insert(segment, Merged { known_from: self.next_checkpoint, lost });
    }

    fn copy(&self, segment: &Sealed, wanted: &[u64]) -> io::Result<Option<Copies>> {
        let mut places: BTreeMap<u64, Position> = BTreeMap::new();
        {
            let pending = self.core.lock();
            let moved = |sequence: &u64| pending.standing.moved.get(sequence).map(|at| (*sequence, *at));
            places.extend(wanted.iter().filter_map(moved));
        }
        let first: Vec<u64> = wanted.iter().copied().filter(|sequence| !places.contains_key(sequence)).collect();
        self.reader.find(&self.core.disk, &self.core.places, &first, true, &mut |at, frame| {
            places.insert(frame.sequence, at);
        })?;
        let mut lost = BTreeSet::new();
        let mut payloads = vec![];
        let mut bytes = 0;
        let most = self.core.disk.segment_bytes(segment.id) / MERGE_PART;
        for sequence in wanted {
            let read = places.get(sequence).map(|at| self.reader.payload(&self.core.disk, *at));
            match read {
                Some(Ok(payload)) => {
                    // An envelope counts for each event that is copied with it.
                    bytes += payload.len() as u64;
                    if bytes > most {
                        return Ok(None);
                    }
                    payloads.push((*sequence, payload));
                }
                Some(Err(super::ReadError::Io(error))) => return Err(error),
                Some(Err(super::ReadError::Damaged(_))) | None => drop(lost.insert(*sequence)),
            }
        }
        let mut copied = vec![];
        let (end, failures) = {
            let mut pending = self.core.lock();
            for (sequence, payload) in &payloads {
                if !pending.standing.lives(*sequence) {
                    continue;
                }
                let Ok(at) = self.core.place(&mut pending, |pending| pending.place_moved(*sequence, payload)) else {
                    return Ok(None);
                };
                copied.push((*sequence, at));
            }
            let (segment, offset) = pending.tail();
            (join(segment, offset), pending.failures)
        };
        self.core.wake.notify_one();
        Ok(Some(Copies { segment: segment.id, copied, lost, end, failures }))
    }

    /// Waits until the log is on disk as far as it goes now.
    fn everything_is_on_disk(&self) -> bool {
        let ((last, end), failures) = {
            let mut pending = self.core.lock();
            (self.core.place(&mut pending, Pending::end), pending.failures)
        };
        self.core.wake.notify_one();
        let synced = || self.core.durability == Durability::Fsync || self.core.disk.sync_segment(last).is_ok();
        self.is_durable(join(last, end), failures) && synced()
    }

    /// Waits until the log is on disk up to a place, and nothing failed on the way.
    fn is_durable(&self, end: Position, failures: u64) -> bool {
        let began = Instant::now();
        while began.elapsed() < WRITER_MAX {
            let pending = self.core.lock();
            if pending.failures != failures {
                return false;
            }
            if pending.durable >= end {
                return true;
            }
            drop(pending);
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Sums the log up. `last`: nothing is written any more.
    pub(super) fn checkpoint(&mut self, clean: bool) -> bool {
        if !self.states.are_kept() {
            return false;
        }
        self.tidy_remotes();
        // A checkpoint has each state where it was copied from, with the copy behind its place, or where it was copied to.
        self.tell_snapshots();
        if self.snapshots.is_some() {
            return false;
        }
        let Some(cut) = self.core.take_cut(WRITER_MAX) else { return false };
        let at = cut.at;
        let placed = self.core.lock().placed_bytes;
        let id = self.next_checkpoint;
        let began = Instant::now();
        let mut views = Views::upto(split(at).0);
        match self.write(id, *cut, clean, &mut views) {
            Ok(bytes) => {
                self.views = views;
                tracing::debug!(bytes, took_ms = began.elapsed().as_millis(), "a checkpoint of the spool was made");
                self.next_checkpoint = id.saturating_add(1);
                self.checkpoints.push((id, at));
                while self.checkpoints.len() > KEPT {
                    self.core.disk.remove_checkpoint(self.checkpoints.remove(0).0);
                }
                (self.bytes, self.placed, self.made_at) = (bytes, placed, Instant::now());
                self.core.checkpoint_bytes.store(bytes, Ordering::Relaxed);
                self.failed_at = None;
                true
            }
            Err(error) => {
                if self.failed_at.is_none() {
                    tracing::warn!(%error, "no checkpoint of the spool can be made; it is tried again");
                }
                self.failed_at = Some(Instant::now());
                false
            }
        }
    }

    fn write(&self, id: u32, cut: Cut, clean: bool, views: &mut Views) -> io::Result<u64> {
        let core = &self.core;
        let first = split(cut.at).0;
        let sealed = core.places().ranges().into_iter().filter_map(|(id, _, at)| Some((id, at?))).collect();
        let summary = Summary { cut, clean, counters: Counters::of(&core.metrics), sealed };
        core.disk.write_checkpoint(id, |out| {
            let bytes =
                checkpoint::write(id, &summary, &*self.states, &mut |key, at| views.see(key, at), &core.remotes, out)?;
            if core.durability == Durability::Memory {
                // States hold here before they are on disk: the log must not end before what they say.
                let mut pending = core.lock();
                let ((last, end), failures) = (core.place(&mut pending, Pending::end), pending.failures);
                drop(pending);
                core.wake.notify_one();
                if !self.is_durable(join(last, end), failures) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                for segment in first..=last {
                    core.disk.sync_segment(segment)?;
                }
            }
            Ok(bytes)
        })
    }
}
