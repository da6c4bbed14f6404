//! Puts a start on its feet: the newest checkpoint that is whole, then the log behind it, in order, over windows of
//! the segments (DESIGN 4, Recovery). Memory grows with what stands alone.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::{Check, Counters, Loader};
use super::files::{Disk, File, Found};
use super::frame::{Frame, Head, Kind};
use super::places::Places;
use super::reader::{join, split, with_view};
use super::record::{
    Accepted, DeadNote, Delivered, Ended, Need, Reassigned, Snapshot, Steps, Touched, VERSION, note, void_last,
};
use super::remotes::Remotes;
use super::scan::{self, Next, Scan};
use super::standing::{Standing, Whose};
use super::{Dead, Ending, OpenError, Recovered, States, Unreadable};
use crate::claim::{Position, replay_mark};
use crate::event::Micros;
use crate::metrics::{INTAKE, Metrics, UpstreamMeter};

/// Sequences left out after damage: more than any segment holds, so that one that stood only in a damaged
/// record is not given away again.
const GAP_AFTER_DAMAGE: u64 = 1 << 32;

/// A longer stop, from the newest stamp in the log on, is a clock that was set: it does not count (DESIGN 5.6).
const CLOCK_JUMP_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// What the writer goes on from.
pub(super) struct Resume {
    pub(super) next_sequence: u64,
    pub(super) next_segment: u32,
    pub(super) standing: Standing,
    pub(super) places: Places,
    pub(super) remotes: Remotes,
    /// Checkpoints that count, with the place each speaks of; oldest first.
    pub(super) checkpoints: Vec<(u32, Position)>,
    pub(super) next_checkpoint: u32,
}

struct Segment {
    id: u32,
    bytes: u64,
    head: Head,
}

struct Replay<'a> {
    metrics: &'a Arc<Metrics>,
    states: &'a dyn States,
    standing: Standing,
    /// Records before it are in the checkpoint.
    from: Position,
    counters: Counters,
    remotes: Remotes,
    voids: Vec<(u64, u64)>,
    recovered: Recovered,
    next_sequence: u64,
    unread: u64,
    /// Records that were replayed.
    replayed: u64,
    clean: bool,
    sealed: Vec<(u32, Micros)>,
    unreadable: Unreadable,
}

/// Opens the log, cuts torn tails and replays it.
pub(super) fn recover(
    disk: &Disk,
    metrics: &Arc<Metrics>,
    states: &dyn States,
    unreadable: Unreadable,
) -> Result<(Recovered, Resume), OpenError> {
    let found = disk.segments()?;
    let mut replay = Replay {
        metrics,
        states,
        standing: Standing::default(),
        from: Position(0),
        counters: Counters::default(),
        remotes: Remotes::default(),
        voids: vec![],
        recovered: Recovered::default(),
        next_sequence: 1,
        unread: 0,
        replayed: 0,
        clean: false,
        sealed: vec![],
        unreadable,
    };
    let names = disk.checkpoints()?;
    let next_checkpoint = highest(&names).saturating_add(1);
    let checkpoints = replay.checkpoint(disk, &names)?;
    // A new segment may not take the name of one that a checkpoint speaks of and that is gone.
    let last_name = highest(&found);
    // A process after the one that ended in order began a segment, even if it came to write nothing.
    replay.clean &= last_name <= split(replay.from).0;
    let last_name = last_name.max(split(replay.from).0);
    let mut segments = vec![];
    for file in found {
        if let Some(segment) = replay.open(disk, &file)? {
            segments.push(segment);
        }
    }
    let mut places = Places::default();
    for segment in &segments {
        let sealed = replay.sealed.iter().find(|(id, _)| *id == segment.id).map(|(_, at)| *at);
        places.began(segment.id, segment.head.first_sequence, sealed);
    }
    segments.retain(|segment| segment.id >= split(replay.from).0);
    let voids = segments.iter().map(|segment| replay.read_voids(disk, segment));
    let begins_with_void: Vec<bool> = voids.collect::<Result<_, _>>()?;
    for (index, segment) in segments.iter().enumerate() {
        // A torn end is what a crash leaves in the last segment, or a failed write in one that was given up.
        let may_be_torn = begins_with_void.get(index + 1).copied().unwrap_or(true);
        replay.segment(disk, segment, may_be_torn, &mut places)?;
    }
    let now = Micros::now();
    places.sealed_before(u32::MAX, replay.standing.newest.min(now));
    let next_sequence = replay.next_sequence();
    let remotes = std::mem::take(&mut replay.remotes);
    let (recovered, standing) = replay.finish(now);
    let next_segment = last_name + 1;
    Ok((recovered, Resume { next_sequence, next_segment, standing, places, remotes, checkpoints, next_checkpoint }))
}

/// The highest number in use, whatever has it. Far-off ones are not ours: a new file only must not meet one.
fn highest(found: &[Found]) -> u32 {
    found.iter().map(|file| file.id).filter(|id| *id < u32::MAX / 2).max().unwrap_or(0)
}

impl Replay<'_> {
    fn damaged(&mut self) {
        self.recovered.damaged_records += 1;
        self.metrics.spool_damaged_records.inc();
    }

    /// What could not be read fails the start, or is damage.
    fn readable<T>(&self, read: io::Result<T>, path: impl FnOnce() -> PathBuf) -> Result<Option<T>, OpenError> {
        match read {
            Ok(read) => Ok(Some(read)),
            // A name without a file is damage, and so is a file that nobody could have written.
            Err(error) if error.kind() == io::ErrorKind::NotFound || self.unreadable == Unreadable::IsDamage => {
                Ok(None)
            }
            Err(source) => Err(OpenError::Unreadable { path: path(), source }),
        }
    }

    /// What a walk over a file could not read.
    fn walked(&self, scan: &mut Scan<'_>, path: impl FnOnce() -> PathBuf) -> Result<(), OpenError> {
        self.readable(scan.failure().map_or(Ok(()), Err), path).map(drop)
    }

    /// Loads the newest checkpoint that is whole; those that are not are set aside. Returns the ones that count.
    fn checkpoint(&mut self, disk: &Disk, names: &[Found]) -> Result<Vec<(u32, Position)>, OpenError> {
        let mut count = vec![];
        for Found { id, .. } in names.iter().rev().filter(|found| found.bytes.is_some()) {
            // Older ones are looked at as well: segments go only when two of them cover it.
            let loaded = self.load(disk, *id, count.is_empty());
            let Some(at) = self.readable(loaded, || disk.checkpoint_file(*id))?.flatten() else {
                tracing::warn!(checkpoint = id, "a checkpoint of the spool is damaged and set aside");
                self.damaged();
                disk.set_aside_checkpoint(*id);
                continue;
            };
            count.insert(0, (*id, at));
        }
        Ok(count)
    }

    /// The place that a checkpoint speaks of; `take`: everything it says is taken over. `None`: it is damaged.
    fn load(&mut self, disk: &Disk, id: u32, take: bool) -> io::Result<Option<Position>> {
        let file = disk.open_checkpoint(id)?;
        let bytes = file.size()?;
        let Some(head) = scan::head(&*file)?.filter(|head| head.id == id) else { return Ok(None) };
        let mut check = Check::default();
        if !each_frame(&*file, bytes, head, &mut |frame| check.take(frame))? || !check.is_whole() {
            return Ok(None);
        }
        let states = self.states;
        let nothing: &dyn States = &super::NoStates;
        let unused = Remotes::default();
        let remotes = if take { &self.remotes } else { &unused };
        let mut loader = Loader::new(self.metrics, if take { states } else { nothing }, remotes);
        let mut first = true;
        let is_taken = each_frame(&*file, bytes, head, &mut |frame| {
            let goes_on = take || std::mem::take(&mut first);
            // The place stands in the first frame.
            !goes_on || loader.take(frame).is_some()
        })?;
        if !is_taken {
            return Ok(None);
        }
        let summary = loader.finish();
        let at = summary.cut.at;
        if take {
            (self.standing, self.next_sequence) = (summary.cut.standing, summary.cut.next_sequence);
            (self.from, self.clean) = (at, summary.clean);
            (self.counters, self.sealed) = (summary.counters, summary.sealed);
        }
        Ok(Some(at))
    }

    /// A segment with records; others are removed (blank) or set aside.
    fn open(&mut self, disk: &Disk, found: &Found) -> Result<Option<Segment>, OpenError> {
        let Some(bytes) = found.bytes else { return Ok(None) };
        let path = || disk.segment_file(found.id);
        let Some(file) = self.readable(disk.open_segment(found.id), path)? else {
            tracing::warn!(segment = found.id, "a segment of the spool cannot be opened");
            self.damaged();
            return Ok(None);
        };
        let head = self.readable(scan::head(&*file), path)?.flatten();
        if let Some(head) = head.filter(|head| head.id == found.id) {
            return Ok(Some(Segment { id: found.id, bytes, head }));
        }
        if self.readable(Scan::is_blank(&*file, bytes), path)? == Some(true) {
            // Made ahead of time and never used.
            disk.remove(found.id);
        } else {
            let moved = disk.set_aside_file(found.id, bytes);
            tracing::warn!(segment = found.id, moved, "a segment of the spool has no readable head");
            self.damaged();
        }
        Ok(None)
    }

    /// Notes the void ranges at a segment's start; whether there are any.
    fn read_voids(&mut self, disk: &Disk, segment: &Segment) -> Result<bool, OpenError> {
        let path = || disk.segment_file(segment.id);
        let Some(file) = self.readable(disk.open_segment(segment.id), path)? else { return Ok(false) };
        // The first window is enough for what is read here, and is mostly in the page cache later.
        let mut scan = Scan::new(&*file, segment.bytes, segment.head.salt);
        let before = self.voids.len();
        while let Next::Frame { frame, .. } = scan.next() {
            let last = void_last(frame.sequence, frame.payload).filter(|_| frame.kind == Kind::Void as u8);
            let Some(last) = last else { break };
            self.voids.push((frame.sequence, last));
        }
        self.walked(&mut scan, path)?;
        Ok(self.voids.len() > before)
    }

    fn segment(
        &mut self,
        disk: &Disk,
        segment: &Segment,
        may_be_torn: bool,
        places: &mut Places,
    ) -> Result<(), OpenError> {
        let path = || disk.segment_file(segment.id);
        let Some(file) = self.readable(disk.open_segment(segment.id), path)? else {
            self.damaged();
            return Ok(());
        };
        self.look_for_a_gap(segment);
        let mut scan = Scan::new(&*file, segment.bytes, segment.head.salt);
        let (first, from) = split(self.from);
        if segment.id == first {
            scan = scan.starting_at(from);
        }
        loop {
            // What was passed over was perhaps not damaged: nothing is set aside or cut for it.
            let (damage, end) = match scan.next() {
                Next::Frame { at, frame } => {
                    if Kind::is_first(frame.kind) {
                        places.mark(segment.id, frame.sequence, at);
                    }
                    self.frame(join(segment.id, at), frame);
                    continue;
                }
                Next::Damage { from, to } => (Some((from, to)), None),
                Next::End { from, to } => (None, Some((from, to))),
            };
            self.walked(&mut scan, path)?;
            if let Some((from, to)) = damage {
                tracing::warn!(segment = segment.id, from, to, "damaged records in the spool are skipped");
                self.damaged();
                disk.set_aside(&*file, segment.id, from, to);
            }
            if let Some(end) = end {
                return self.end(disk, &*file, segment, end, may_be_torn);
            }
        }
    }

    fn end(
        &mut self,
        disk: &Disk,
        file: &dyn File,
        segment: &Segment,
        (from, to): (u64, u64),
        may_be_torn: bool,
    ) -> Result<(), OpenError> {
        if to > from {
            tracing::warn!(segment = segment.id, from, to, "the torn end of a segment is cut");
            disk.set_aside(file, segment.id, from, to);
            if may_be_torn {
                self.unread += 1;
            } else {
                self.damaged();
            }
        }
        let cut = if segment.bytes > from { disk.cut(segment.id, from) } else { Ok(()) };
        // A killed process leaves records that were written and not synced. From here on duplicates are
        // answered because of them, so they must be durable. After a sync that failed nobody knows what is, and
        // another one would say nothing of it.
        let synced = cut.and_then(|()| disk.sync(file)).or_else(|error| {
            tracing::warn!(segment = segment.id, %error, "a segment of the spool cannot be synced: it is copied");
            disk.write_anew(segment.id, file, from)
        });
        synced.map_err(|source| OpenError::Unsynced { path: disk.segment_file(segment.id), source })
    }

    /// Sequences that are neither in the log nor void stood in records that are gone without a trace.
    fn look_for_a_gap(&mut self, segment: &Segment) {
        let first = segment.head.first_sequence;
        let mut expected = self.next_sequence;
        self.next_sequence = expected.max(first);
        // A start that met damage left out more than that by itself.
        if first <= expected || first - expected >= GAP_AFTER_DAMAGE - 1 || self.replayed == 0 {
            return;
        }
        let mut voids = self.voids.clone();
        voids.sort_unstable();
        for (from, to) in voids {
            if from <= expected && to >= expected {
                expected = to.saturating_add(1);
            }
        }
        if expected < first {
            let events = first - expected;
            tracing::warn!(
                segment = segment.id,
                events,
                "events before this segment of the spool are gone without a trace"
            );
            self.recovered.gaps.push((segment.id, events));
            self.damaged();
        }
    }

    fn next_sequence(&self) -> u64 {
        let damage = self.recovered.damaged_records + self.unread > 0;
        self.next_sequence.saturating_add(if damage { GAP_AFTER_DAMAGE } else { 0 })
    }

    fn frame(&mut self, at: Position, frame: Frame<'_>) {
        self.replayed += 1;
        let known = Kind::from_code(frame.kind).filter(|_| frame.version == VERSION);
        let read = known.and_then(|kind| match kind {
            Kind::Accepted => self.accepted(at, frame),
            Kind::Settled | Kind::Dead | Kind::Replayed => {
                let ended = Ended::decode(kind, frame.payload)?;
                let meter = self.metrics.upstream(ended.upstream);
                // Told even where the event itself was damaged: the upstream has its incident.
                self.standing.ended(&meter, Whose::Tag(ended.tag), frame.sequence, ended.ending, ended.at);
                if let Some(taken) = &ended.taken_back {
                    self.states.taken_back(taken);
                }
                if let Some(learned) = ended.learned {
                    self.remotes.learn(&meter.name, ended.at, learned);
                }
                Some(())
            }
            Kind::Delivered => {
                let delivered = Delivered::decode(frame.payload)?;
                let meter = self.metrics.upstream(delivered.upstream);
                for (sequence, tag) in delivered.events() {
                    self.standing.ended(&meter, Whose::Tag(tag), sequence, delivered.ending(), delivered.at);
                }
                Some(())
            }
            Kind::Reassigned => {
                let Reassigned { integration, from, to, at } = Reassigned::decode(frame.payload)?;
                let (from, to) = (self.metrics.upstream(from), self.metrics.upstream(to));
                self.standing.reassigned(&from, &to, integration, frame.sequence, at);
                Some(())
            }
            Kind::Rejected => self.rejected(frame),
            Kind::Moved => {
                let event = Accepted::decode(frame.payload)?;
                self.standing.moved.insert(frame.sequence, at);
                // It is copied only while it is needed: otherwise what told of it is lost.
                if !self.standing.lives(frame.sequence) {
                    self.put_back(frame.sequence, &event);
                }
                Some(())
            }
            Kind::Touched => {
                let Touched { key, iid, count, last_seen } = Touched::decode(frame.payload)?;
                self.standing.newest = self.standing.newest.max(last_seen);
                self.states.touched(key, iid, count, last_seen);
                Some(())
            }
            Kind::Void => {
                let last = void_last(frame.sequence, frame.payload)?;
                self.next_sequence = self.next_sequence.max(last.saturating_add(1));
                Some(())
            }
            Kind::Snapshot => self.snapshot(at, &Snapshot::decode(frame.payload)?),
            // Who refers to it finds it.
            Kind::Envelope => Some(()),
            Kind::Checkpoint => None,
        });
        self.next_sequence = self.next_sequence.max(frame.sequence.saturating_add(1));
        if read.is_none() {
            tracing::warn!(
                at = at.0,
                kind = frame.kind,
                version = frame.version,
                "a record of another kind is skipped"
            );
            self.damaged();
        }
    }

    fn accepted(&mut self, at: Position, frame: Frame<'_>) -> Option<()> {
        let accepted = Accepted::decode(frame.payload)?;
        let number = accepted.incident.map_or(0, |incident| incident.number);
        self.standing.highest_number = self.standing.highest_number.max(number);
        if self.is_void(frame.sequence) {
            return Some(());
        }
        self.standing.newest = self.standing.newest.max(accepted.received_at);
        if let (Some(key), Some(incident)) = (accepted.state_key, accepted.incident) {
            self.states.restore(key, incident, with_view(at, accepted.has_view()));
        }
        if let Some(row) = accepted.by_id() {
            self.states.restore_by_id(row);
        }
        if let Some(replay) = accepted.replay {
            self.states.restore(replay, replay_mark(accepted.incident, accepted.received_at), Position::default());
        }
        let meters: Vec<Arc<UpstreamMeter>> = accepted.targets().map(|name| self.metrics.upstream(name)).collect();
        self.standing.accepted(frame.sequence, accepted.integration, meters.iter(), accepted.pacing);
        Some(())
    }

    /// What is shown of an incident was copied here. It counts where it was copied from: what came in between stands.
    fn snapshot(&mut self, at: Position, snapshot: &Snapshot<'_>) -> Option<()> {
        let Snapshot { key, from, incident, .. } = *snapshot;
        let at = with_view(at, true);
        self.standing.highest_number = self.standing.highest_number.max(incident.number);
        match self.states.at(key) {
            Some(_) => self.states.moved(key, incident.iid, from, at),
            // All that told of it is lost, but this.
            None => self.states.restore(key, incident, at),
        }
        Some(())
    }

    fn is_void(&self, sequence: u64) -> bool {
        self.voids.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    fn rejected(&mut self, frame: Frame<'_>) -> Option<()> {
        let event = Accepted::decode(frame.payload)?;
        let note = note(&mut Steps(event.rest))??;
        if !self.is_void(frame.sequence) {
            let intake = self.metrics.upstream(INTAKE);
            self.standing.rejected(&intake, event.integration, frame.sequence, note);
        }
        Some(())
    }

    /// An event whose copy is all that is left of it.
    fn put_back(&mut self, sequence: u64, event: &Accepted<'_>) {
        let whose = Whose::Integration(event.integration);
        for Need { upstream, dead } in Need::decode_all(event.rest) {
            let meter = self.metrics.upstream(&upstream);
            if let Some(note) = dead.filter(|note| note.reason.is_of_intake()) {
                self.standing.rejected(&meter, event.integration, sequence, note);
                continue;
            }
            self.standing.accepted(sequence, event.integration, std::iter::once(&meter), event.pacing);
            if let Some(DeadNote { reason, status, attempts, at }) = dead {
                self.standing.ended(&meter, whose, sequence, Ending::Dead { reason, status, attempts }, at);
            }
        }
    }

    fn finish(self, now: Micros) -> (Recovered, Standing) {
        let Self { mut recovered, mut standing, metrics, counters, .. } = self;
        let stopped_for = now.0.saturating_sub(standing.newest.0);
        if standing.newest != Micros::default() && stopped_for > CLOCK_JUMP_MICROS {
            recovered.clock_jump_micros = stopped_for;
            standing.jump_micros = standing.jump_micros.saturating_add(stopped_for);
            standing.jump_before = self.next_sequence;
            // The states are told, and written down, by the clock of now.
            standing.newest = now;
        }
        (recovered.jump_before, recovered.jump_micros) = (standing.jump_before, standing.jump_micros);
        for upstream in &standing.upstreams {
            upstream.meter.restore(upstream.book.clone());
            for queue in &upstream.queues {
                if !queue.waiting.is_empty() {
                    recovered.queues.push((Arc::clone(&upstream.meter), Arc::clone(&queue.integration)));
                }
                recovered.dead.extend(queue.dead.iter().map(|(sequence, note)| Dead {
                    sequence: *sequence,
                    upstream: Arc::clone(&upstream.meter),
                    integration: Arc::clone(&queue.integration),
                    reason: note.reason,
                    status: note.status,
                    attempts: note.attempts,
                    at: note.at,
                }));
            }
        }
        metrics.recovered(standing.accepted, &counters.absorbed, &counters.rejected);
        recovered.waiting = standing.owed();
        recovered.unknown_waiting = standing.unknown_waiting();
        recovered.highest_number = standing.highest_number;
        recovered.first_sequence = self.next_sequence;
        recovered.clean = self.clean && self.replayed == 0;
        (recovered, standing)
    }
}

/// Every frame of a checkpoint; false where it is damaged, or `take` refuses one.
fn each_frame(file: &dyn File, bytes: u64, head: Head, take: &mut dyn FnMut(Frame<'_>) -> bool) -> io::Result<bool> {
    let mut scan = Scan::new(file, bytes, head.salt);
    let is_whole = loop {
        match scan.next() {
            Next::Frame { frame, .. } if take(frame) => {}
            Next::Frame { .. } | Next::Damage { .. } => break false,
            Next::End { from, to } => break from == to,
        }
    };
    scan.failure().map_or(Ok(is_whole), Err)
}
