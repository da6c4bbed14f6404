//! Replays the log at a start: who still waits, what is dead, and the books (DESIGN 4, Recovery).
//! One pass in log order over windows of the segments; memory grows with what is outstanding alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::files::{Disk, File, Found};
use super::frame::{Frame, Head, Kind};
use super::reader::join;
use super::record::{Accepted, Ended, VERSION, void_last};
use super::scan::{self, Next, Scan};
use super::settlements::Settlements;
use super::{Dead, Ending, OpenError, Queued, Recovered};
use crate::claim::{Position, Targets};
use crate::event::{Incident, StateKey, Uid};
use crate::metrics::{Metrics, UpstreamBook, UpstreamMeter};

/// Sequences left out after damage: more than any segment holds, so that one that stood only in a damaged
/// record is not given away again.
const GAP_AFTER_DAMAGE: u64 = 1 << 32;

/// What the writer goes on from.
pub(super) struct Resume {
    pub(super) next_sequence: u64,
    pub(super) next_segment: u32,
    /// Endings that the log still owes.
    pub(super) owed: u64,
}

struct Segment {
    id: u32,
    bytes: u64,
    head: Head,
}

/// An event some upstream has not settled yet.
struct Waiting {
    queued: Queued,
    event_uid: Uid,
    iid: Option<Uid>,
}

struct Upstream {
    meter: Arc<UpstreamMeter>,
    book: UpstreamBook,
    settled: Settlements,
}

struct Replay<'a> {
    metrics: &'a Arc<Metrics>,
    transition: &'a mut dyn FnMut(StateKey, Incident, Position),
    voids: Vec<(u64, u64)>,
    upstreams: HashMap<Arc<str>, Upstream>,
    /// By sequence, which is log order.
    waiting: BTreeMap<u64, Waiting>,
    dead: BTreeMap<(u64, Arc<str>), Dead>,
    integrations: HashMap<Box<str>, Arc<str>>,
    targets: HashMap<Vec<Arc<str>>, Targets>,
    recovered: Recovered,
    highest_sequence: u64,
    /// Highest sequence of an event replayed so far. Heads of later segments do not count, nor do voids: an empty one
    /// names the sequence that the next event gets.
    replayed_sequence: u64,
    unread: u64,
}

/// Opens the log, cuts torn tails and replays it.
pub(super) fn recover(
    disk: &Disk,
    metrics: &Arc<Metrics>,
    transition: &mut dyn FnMut(StateKey, Incident, Position),
) -> Result<(Recovered, Resume), OpenError> {
    let found = disk.segments()?;
    let mut replay = Replay {
        metrics,
        transition,
        voids: vec![],
        upstreams: HashMap::new(),
        waiting: BTreeMap::new(),
        dead: BTreeMap::new(),
        integrations: HashMap::new(),
        targets: HashMap::new(),
        recovered: Recovered::default(),
        highest_sequence: 0,
        replayed_sequence: 0,
        unread: 0,
    };
    // Far-off names are not ours; a new segment only must not meet one.
    let last_name = found.iter().map(|file| file.id).filter(|id| *id < u32::MAX / 2).max().unwrap_or(0);
    let mut segments = vec![];
    for file in found {
        if let Some(segment) = replay.open(disk, &file) {
            segments.push(segment);
        }
    }
    let begins_with_void: Vec<bool> = segments.iter().map(|segment| replay.read_voids(disk, segment)).collect();
    for (index, segment) in segments.iter().enumerate() {
        // A torn end is what a crash leaves in the last segment, or a failed write in one that was given up.
        let may_be_torn = begins_with_void.get(index + 1).copied().unwrap_or(true);
        replay.segment(disk, segment, may_be_torn);
    }
    let resume = Resume {
        next_sequence: replay.next_sequence(),
        next_segment: last_name + 1,
        owed: replay.waiting.values().map(|event| event.queued.targets.len() as u64).sum(),
    };
    Ok((replay.finish(), resume))
}

impl Replay<'_> {
    fn damaged(&mut self) {
        self.recovered.damaged_records += 1;
        self.metrics.spool_damaged_records.inc();
    }

    /// A segment that can be read; others are removed (blank) or set aside.
    fn open(&mut self, disk: &Disk, found: &Found) -> Option<Segment> {
        let bytes = found.bytes?;
        let file = match disk.open_segment(found.id) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(segment = found.id, %error, "a segment of the spool cannot be opened");
                self.damaged();
                return None;
            }
        };
        if let Some(head) = scan::head(&*file).filter(|head| head.id == found.id) {
            self.highest_sequence = self.highest_sequence.max(head.first_sequence.saturating_sub(1));
            return Some(Segment { id: found.id, bytes, head });
        }
        if Scan::is_blank(&*file, bytes) {
            // Made ahead of time and never used.
            disk.remove(found.id);
        } else {
            let moved = disk.set_aside_file(found.id, bytes);
            tracing::warn!(segment = found.id, moved, "a segment of the spool has no readable head");
            self.damaged();
        }
        None
    }

    /// Notes the void ranges at a segment's start; whether there are any.
    fn read_voids(&mut self, disk: &Disk, segment: &Segment) -> bool {
        let Ok(file) = disk.open_segment(segment.id) else { return false };
        // The first window is enough for what is read here, and is mostly in the page cache later.
        let mut scan = Scan::new(&*file, segment.bytes, segment.head.salt);
        let before = self.voids.len();
        while let Next::Frame { frame, .. } = scan.next() {
            let last = void_last(frame.sequence, frame.payload).filter(|_| frame.kind == Kind::Void as u8);
            let Some(last) = last else { break };
            self.voids.push((frame.sequence, last));
        }
        self.voids.len() > before
    }

    fn segment(&mut self, disk: &Disk, segment: &Segment, may_be_torn: bool) {
        let Ok(file) = disk.open_segment(segment.id) else { return self.damaged() };
        let mut scan = Scan::new(&*file, segment.bytes, segment.head.salt);
        loop {
            match scan.next() {
                Next::Frame { at, frame } => self.frame(join(segment.id, at), frame),
                Next::Damage { from, to } => {
                    tracing::warn!(segment = segment.id, from, to, "damaged records in the spool are skipped");
                    self.damaged();
                    disk.set_aside(&*file, segment.id, from, to);
                }
                Next::End { from, to } => {
                    self.end(disk, &*file, segment, (from, to), may_be_torn);
                    break;
                }
            }
        }
        let watermark = self.lowest_outstanding().map_or(self.replayed_sequence, |lowest| lowest.saturating_sub(1));
        for upstream in self.upstreams.values_mut() {
            upstream.settled.raise(watermark);
        }
    }

    fn end(&mut self, disk: &Disk, file: &dyn File, segment: &Segment, (from, to): (u64, u64), may_be_torn: bool) {
        if to > from {
            tracing::warn!(segment = segment.id, from, to, "the torn end of a segment is cut");
            disk.set_aside(file, segment.id, from, to);
            if may_be_torn {
                self.unread += 1;
            } else {
                self.damaged();
            }
        }
        if segment.bytes > from {
            disk.cut(segment.id, from);
        }
        // A killed process leaves records that were written and not synced. From here on duplicates are
        // answered because of them, so they must be durable.
        if let Err(error) = disk.sync(file) {
            tracing::error!(segment = segment.id, %error, "a segment of the spool cannot be synced");
        }
    }

    fn lowest_outstanding(&self) -> Option<u64> {
        let waiting = self.waiting.keys().next().copied();
        let dead = self.dead.keys().next().map(|(sequence, _)| *sequence);
        waiting.into_iter().chain(dead).min()
    }

    fn next_sequence(&self) -> u64 {
        let damage = self.recovered.damaged_records + self.unread > 0;
        let gap = if damage { GAP_AFTER_DAMAGE } else { 1 };
        self.highest_sequence.saturating_add(gap)
    }

    fn frame(&mut self, at: Position, frame: Frame<'_>) {
        let known = Kind::from_code(frame.kind).filter(|_| frame.version == VERSION);
        let read = known.and_then(|kind| match kind {
            Kind::Accepted => self.accepted(at, frame),
            Kind::Settled | Kind::Dead | Kind::Replayed => {
                let ended = Ended::decode(kind, frame.payload)?;
                self.ended(frame.sequence, ended);
                Some(())
            }
            Kind::Void => {
                self.highest_sequence = self.highest_sequence.max(void_last(frame.sequence, frame.payload)?);
                Some(())
            }
        });
        self.highest_sequence = self.highest_sequence.max(frame.sequence);
        if known == Some(Kind::Accepted) {
            self.replayed_sequence = self.replayed_sequence.max(frame.sequence);
        }
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

    fn upstream(&mut self, name: &str) -> &mut Upstream {
        let meter = self.metrics.upstream(name);
        self.upstreams.entry(Arc::clone(&meter.name)).or_insert_with(|| Upstream {
            meter,
            book: UpstreamBook::default(),
            settled: Settlements::default(),
        })
    }

    fn accepted(&mut self, at: Position, frame: Frame<'_>) -> Option<()> {
        let accepted = Accepted::decode(frame.payload)?;
        let number = accepted.incident.map_or(0, |incident| incident.number);
        self.recovered.highest_number = self.recovered.highest_number.max(number);
        if self.voids.iter().any(|(first, last)| (*first..=*last).contains(&frame.sequence)) {
            return Some(());
        }
        if let (Some(key), Some(incident)) = (accepted.state_key, accepted.incident) {
            (self.transition)(key, incident, at);
        }
        let mut names = vec![];
        for name in accepted.targets() {
            let upstream = self.upstream(name);
            upstream.book.enqueued += 1;
            upstream.book.spool_events += 1;
            names.push(Arc::clone(&upstream.meter.name));
        }
        if names.is_empty() {
            return Some(());
        }
        self.recovered.accepted += 1;
        let queued = Queued {
            sequence: frame.sequence,
            at,
            lane: accepted.lane,
            integration: self.integration(accepted.integration),
            targets: self.targets(names),
            pacing: accepted.pacing,
        };
        let iid = accepted.incident.map(|incident| incident.iid);
        self.waiting.insert(frame.sequence, Waiting { queued, event_uid: accepted.uid, iid });
        Some(())
    }

    fn integration(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.integrations.get(name) {
            return Arc::clone(known);
        }
        let made: Arc<str> = name.into();
        self.integrations.insert(name.into(), Arc::clone(&made));
        made
    }

    /// One list for all events that go to the same upstreams.
    fn targets(&mut self, names: Vec<Arc<str>>) -> Targets {
        if let Some(known) = self.targets.get(&names) {
            return Arc::clone(known);
        }
        let made: Targets = names.iter().map(|name| self.metrics.upstream(name)).collect();
        self.targets.insert(names, Arc::clone(&made));
        made
    }

    /// Takes `upstream` out of the event's waiting targets; the event as it stood, if it waited there.
    fn stop_waiting(&mut self, sequence: u64, upstream: &str) -> Option<(Queued, Uid, Option<Uid>)> {
        let event = self.waiting.get(&sequence)?;
        let held = (event.queued.clone(), event.event_uid, event.iid);
        let names = |targets: &Targets| targets.iter().map(|meter| Arc::clone(&meter.name)).collect::<Vec<_>>();
        let mut left = names(&held.0.targets);
        left.retain(|name| **name != *upstream);
        if left.len() == held.0.targets.len() {
            return None;
        }
        if left.is_empty() {
            self.waiting.remove(&sequence);
        } else {
            let targets = self.targets(left);
            self.waiting.get_mut(&sequence)?.queued.targets = targets;
        }
        Some(held)
    }

    fn ended(&mut self, sequence: u64, ended: Ended<'_>) {
        match ended.ending {
            Ending::Delivered | Ending::Dropped(_) => self.settled(sequence, ended),
            Ending::Dead { reason, status, attempts } => {
                let Some((mut queued, event_uid, iid)) = self.stop_waiting(sequence, ended.upstream) else { return };
                let upstream = self.upstream(ended.upstream);
                upstream.book.spool_events = upstream.book.spool_events.saturating_sub(1);
                upstream.book.dead_letters += 1;
                *upstream.book.dead_lettered.entry(reason.name()).or_default() += 1;
                let meter = Arc::clone(&upstream.meter);
                queued.targets = self.targets(vec![Arc::clone(&meter.name)]);
                let key = (sequence, Arc::clone(&meter.name));
                let dead = Dead { queued, upstream: meter, event_uid, iid, reason, status, attempts, at: ended.at };
                self.dead.insert(key, dead);
            }
            Ending::Replayed => {
                let Some(dead) = self.dead.remove(&(sequence, ended.upstream.into())) else { return };
                let upstream = self.upstream(ended.upstream);
                upstream.book.dead_letters = upstream.book.dead_letters.saturating_sub(1);
                upstream.book.spool_events += 1;
                let joined = self.waiting.get(&sequence).map(|event| {
                    let waiting = event.queued.targets.iter().map(|meter| Arc::clone(&meter.name));
                    waiting.chain([Arc::clone(&dead.upstream.name)]).collect::<Vec<_>>()
                });
                let mut queued = dead.queued;
                if let Some(names) = joined {
                    queued.targets = self.targets(names);
                }
                self.waiting.insert(sequence, Waiting { queued, event_uid: dead.event_uid, iid: dead.iid });
            }
        }
    }

    fn settled(&mut self, sequence: u64, ended: Ended<'_>) {
        if self.upstream(ended.upstream).settled.contains(sequence) {
            return;
        }
        let waited = self.stop_waiting(sequence, ended.upstream).is_some();
        let was_dead = !waited && self.dead.remove(&(sequence, ended.upstream.into())).is_some();
        if !waited && !was_dead {
            // The event was voided or damaged.
            return;
        }
        let Upstream { book, settled, .. } = self.upstream(ended.upstream);
        settled.insert(sequence);
        let left = if waited { &mut book.spool_events } else { &mut book.dead_letters };
        *left = left.saturating_sub(1);
        match ended.ending {
            Ending::Dropped(reason) => *book.dropped.entry(reason.name()).or_default() += 1,
            _ => book.delivered += 1,
        }
    }

    fn finish(self) -> Recovered {
        let Self { mut recovered, waiting, dead, upstreams, metrics, .. } = self;
        for upstream in upstreams.into_values() {
            upstream.meter.restore(upstream.book);
        }
        metrics.recovered(recovered.accepted);
        recovered.queued = waiting.into_values().map(|event| event.queued).collect();
        recovered.dead = dead.into_values().collect();
        recovered
    }
}
