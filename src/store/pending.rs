//! What has gathered since the last commit: one buffer of frames ready to be written, and who waits for
//! them. Lives under the store's one lock; nothing here does I/O.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::deliveries::Deliveries;
use super::files::PAGE;
use super::frame::{self, HEAD_SPAN, Head, Kind, Seed};
use super::places;
use super::reader::{SEGMENT_MAX, join, split, with_view};
use super::record::{self, DeadNote, Need, Reassigned, Touched, VERSION};
use super::remotes::Learned;
use super::standing::{Cut, Standing, Whose};
use super::{Ending, LaneKey, Queued, Rejected};
use crate::claim::{Accepted, Admitted, Claim, Left, Pacing, Placed, Position, TakenBack};
use crate::event::{Event, Micros};
use crate::metrics::{Ticket, UpstreamMeter};
use crate::outcome::{DropReason, Outcome, Reason, Unfit};

/// More than this waits for the disk only when it hangs: then new events are refused.
pub(super) const BUFFER_MAX: usize = 64 << 20;
/// Kept free for each ending that is owed: a settlement takes 24 + 20 + 4 bytes and the upstream's name. What the answer
/// to a create taught comes on top of it, about 100 B, and is not kept free for: few events learn anything.
const ENDING_BYTES: u64 = 64;
/// No segment is made smaller than this for want of space, but where all are.
const SEGMENT_BYTES_SMALL: u32 = 256 << 10;
/// Envelopes that are known to stand in the segment: more than requests that are taken in at once. One that is forgotten is
/// written again.
const ENVELOPES_MAX: usize = 8;

/// What becomes of a record once it is durable, or cannot be.
pub(super) enum Owed {
    /// The flag: its record tells what is shown of the incident.
    Event(Placed, bool),
    Rejected(Kept),
}

/// A rejected element on its way to the disk.
pub(super) struct Kept {
    pub(super) letter: Rejected,
    pub(super) unfit: Unfit,
    pub(super) intake: Arc<UpstreamMeter>,
    pub(super) ticket: Ticket,
}

impl Kept {
    /// The log holds it: it is counted, and what the forwarder keeps of it is left.
    pub(super) fn keep(self) -> (Accepted, Rejected) {
        let Self { letter, unfit, intake, ticket } = self;
        intake.keep_rejected(unfit.dead_reason().name());
        ticket.reject(unfit.reason());
        (Accepted { incident: None, outcome: REJECTED_OUTCOME }, letter)
    }
}

/// In the record of a rejected element, which has no outcome.
pub(super) const REJECTED_OUTCOME: Outcome = Outcome::Ignored;

/// A request that waits for its record to be durable.
pub(super) struct Waiting {
    pub(super) owed: Owed,
    pub(super) sequence: u64,
    pub(super) at: Position,
    pub(super) lane: LaneKey,
    pub(super) worker: usize,
    pub(super) answer: oneshot::Sender<Result<Accepted, Reason>>,
}

/// Bytes of the buffer that go to one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) segment: u32,
    /// Offset in the segment; 0: the segment's head comes first.
    pub(super) at: u32,
    /// Start in the buffer; its end is the next chunk's start.
    pub(super) from: usize,
}

/// What one commit writes.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) buffer: Vec<u8>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) waiting: Vec<Waiting>,
    /// Answered already (`durability: memory`); handed on when written.
    pub(super) queued: Vec<Queued>,
    pub(super) rejected: Vec<Rejected>,
    /// When the first byte came.
    pub(super) since: Option<Instant>,
    /// Segments that begin here, with the first sequence that may stand in them.
    pub(super) begun: Vec<(u32, u64)>,
    /// Events that are marked: segment, sequence, offset.
    pub(super) marks: Vec<(u32, u64, u32)>,
    /// The last sequence given when it was taken, and the end of the log.
    pub(super) upto: u64,
    pub(super) end: Position,
    /// What stands when it is written, if somebody asked for that.
    pub(super) cut: Option<Box<Cut>>,
    /// Who waits for an ending to be on disk; also where the first write of it failed.
    pub(super) told: Vec<oneshot::Sender<()>>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What comes next goes to `offset` of its segment. The first bytes of a batch stand in memory as they will stand in
    /// their page on disk: then whole pages are written from where they are.
    fn stand_as_at(&mut self, offset: u32) {
        if self.chunks.is_empty() {
            self.buffer.clear();
            self.buffer.reserve(2 * PAGE);
            let (wanted, stands) = (offset as usize % PAGE, self.buffer.as_ptr().addr() % PAGE);
            self.buffer.resize((PAGE + wanted - stands) % PAGE, 0);
        }
    }

    /// The bytes of each chunk; before the first one there may be some that are nobody's.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Chunk, &[u8])> {
        self.chunks.iter().enumerate().map(|(index, chunk)| {
            let end = self.chunks.get(index + 1).map_or(self.buffer.len(), |next| next.from);
            (*chunk, self.buffer.get(chunk.from..end).unwrap_or_default())
        })
    }

    /// Every frame that must not be lost with this batch: the endings.
    fn endings(&self) -> Vec<(u8, u64, Vec<u8>)> {
        let mut endings = vec![];
        for (chunk, mut bytes) in self.parts() {
            if chunk.at == 0 {
                bytes = bytes.get(HEAD_SPAN..).unwrap_or_default();
            }
            while let Some(frame) = frame::view(bytes) {
                // A copy that failed was asked for by nobody but the keeper, who asks again.
                let goes = [Kind::Accepted, Kind::Rejected, Kind::Envelope, Kind::Void, Kind::Moved, Kind::Snapshot];
                let goes = goes.map(|kind| kind as u8);
                if !goes.contains(&frame.kind) {
                    endings.push((frame.kind, frame.sequence, frame.payload.to_vec()));
                }
                bytes = bytes.get(frame::span(frame.payload.len())..).unwrap_or_default();
            }
        }
        endings
    }

    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.chunks.clear();
        self.waiting.clear();
        self.queued.clear();
        self.rejected.clear();
        self.begun.clear();
        self.marks.clear();
        self.cut = None;
        self.told.clear();
        self.since = None;
    }
}

/// Whether new events are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Serving,
    /// The last write failed; the writer is at it again.
    Failed(Reason),
    Closing,
}

/// Where the next byte goes.
struct Tail {
    segment: u32,
    seed: Seed,
    offset: u32,
    capacity: u32,
    /// The next event from here on is marked.
    next_mark: u32,
}

pub(super) struct Pending {
    pub(super) batch: Batch,
    /// Told of by the last records of the batch.
    deliveries: Deliveries,
    /// The frame that is being made: its checksum reads what was just written, and the batch's memory is in no cache.
    frame: Vec<u8>,
    tail: Tail,
    /// Envelopes that stand in the tail's segment, with their offsets; the newest last. Held, so that no other takes their
    /// place in memory.
    envelopes: Vec<(Bytes, u32)>,
    next_sequence: u64,
    /// Configured size of a segment.
    segment_bytes: u32,
    /// Size of the one to come: less than configured where the disk has no room for that.
    next_bytes: u32,
    pub(super) health: Health,
    /// Why the segment after this one cannot be had, if so.
    pub(super) no_next: Option<Reason>,
    pub(super) standing: Standing,
    /// Every event up to here is on disk, and the log up to there.
    pub(super) durable_sequence: u64,
    pub(super) durable: Position,
    /// Writes that failed since the start.
    pub(super) failures: u64,
    /// Somebody wants to know what stands.
    pub(super) cut_wanted: bool,
    /// Bytes placed since the start.
    pub(super) placed_bytes: u64,
    /// Ranges of sequences that failed and that no synced record has named yet.
    voids: Vec<(u64, u64)>,
    /// The writer sleeps until this many requests or bytes wait.
    pub(super) sleeping: bool,
    pub(super) wake_waiting: usize,
    pub(super) wake_bytes: usize,
}

impl Pending {
    pub(super) fn new(resume: super::recovery::Resume, first_bytes: u32, segment_bytes: u32) -> Self {
        let mut pending = Self {
            batch: Batch::default(),
            deliveries: Deliveries::default(),
            frame: Vec::new(),
            tail: Tail { segment: 0, seed: Seed::of(0), offset: 0, capacity: 0, next_mark: 0 },
            envelopes: vec![],
            next_sequence: resume.next_sequence.max(1),
            segment_bytes,
            next_bytes: segment_bytes,
            health: Health::Serving,
            no_next: None,
            standing: resume.standing,
            durable_sequence: resume.next_sequence.max(1) - 1,
            durable: Position(0),
            failures: 0,
            cut_wanted: false,
            placed_bytes: 0,
            voids: vec![],
            sleeping: false,
            wake_waiting: 1,
            wake_bytes: 1,
        };
        pending.begin_segment(resume.next_segment, first_bytes);
        pending
    }

    /// Size of the segment that bytes go to now, and of the one after it.
    pub(super) fn sizes(&self) -> (u32, u32) {
        (self.tail.capacity, self.next_bytes)
    }

    /// The disk has no room for a segment as large as wanted. False: nor for a smaller one.
    pub(super) fn take_smaller(&mut self) -> bool {
        let smaller = (self.next_bytes / 2).next_multiple_of(PAGE as u32);
        let possible = smaller >= SEGMENT_BYTES_SMALL.min(self.segment_bytes / 2).max(super::SEGMENT_BYTES_MIN);
        if possible {
            self.next_bytes = smaller;
        }
        possible
    }

    /// The segment that the next byte goes to, and its end.
    pub(super) fn tail(&self) -> (u32, u32) {
        (self.tail.segment, self.tail.offset)
    }

    /// The same, behind all that was told.
    pub(super) fn end(&mut self) -> (u32, u32) {
        self.place_deliveries();
        self.tail()
    }

    /// Whether all that was told is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.deliveries.events() == 0 && self.durable == join(self.tail.segment, self.tail.offset)
    }

    fn begin_segment(&mut self, id: u32, capacity: u32) {
        let salt = fastrand::u64(..);
        self.envelopes.clear();
        self.batch.stand_as_at(0);
        let from = self.batch.buffer.len();
        self.batch.chunks.push(Chunk { segment: id, at: 0, from });
        self.batch.begun.push((id, self.next_sequence));
        self.batch.since.get_or_insert_with(Instant::now);
        Head { id, first_sequence: self.next_sequence, salt }.encode(&mut self.batch.buffer);
        let offset = u32::try_from(HEAD_SPAN).unwrap_or(u32::MAX);
        self.placed_bytes += HEAD_SPAN as u64;
        // After one that was small for want of room the next tries to be larger.
        self.next_bytes = self.next_bytes.saturating_mul(2).min(self.segment_bytes);
        self.tail = Tail { segment: id, seed: Seed::of(salt), offset, capacity, next_mark: offset };
    }

    /// Room that only endings may use: each that is owed can be written once.
    pub(super) fn reserve(&self) -> u64 {
        let owed = self.standing.owed().saturating_add(self.deliveries.events() as u64);
        owed.saturating_mul(ENDING_BYTES)
    }

    /// Whether an event of `bytes` may be taken now.
    pub(super) fn may_take(&self, bytes: u64) -> Result<(), Reason> {
        match self.health {
            Health::Serving => {}
            Health::Failed(reason) => return Err(reason),
            Health::Closing => return Err(Reason::Stopping),
        }
        if self.batch.buffer.len() >= BUFFER_MAX {
            return Err(Reason::SpoolFull);
        }
        let left = u64::from(self.tail.capacity.saturating_sub(self.tail.offset));
        match self.no_next {
            Some(reason) if bytes.saturating_add(self.reserve()) > left => Err(reason),
            _ => Ok(()),
        }
    }

    /// Encodes a frame behind the last one, in the next segment where this one has no room left.
    /// An ending goes there even when that segment cannot be had now: the writer waits for it.
    fn place(
        &mut self,
        kind: u8,
        sequence: u64,
        is_event: bool,
        write: &dyn Fn(&mut Vec<u8>),
    ) -> Result<Position, Reason> {
        for _ in 0..2 {
            self.frame.clear();
            let span = frame::encode(&mut self.frame, self.tail.seed, kind, VERSION, sequence, write)
                .ok_or(Reason::Internal)?;
            let allowed = if is_event { self.may_take(span as u64) } else { Ok(()) };
            if allowed.is_ok() && span as u64 <= u64::from(self.tail.capacity.saturating_sub(self.tail.offset)) {
                if self.batch.chunks.is_empty() {
                    let Tail { segment, offset, .. } = self.tail;
                    self.batch.stand_as_at(offset);
                    let from = self.batch.buffer.len();
                    self.batch.chunks.push(Chunk { segment, at: offset, from });
                }
                self.batch.buffer.extend_from_slice(&self.frame);
                self.batch.since.get_or_insert_with(Instant::now);
                let at = join(self.tail.segment, self.tail.offset);
                if Kind::is_first(kind) && self.tail.offset >= self.tail.next_mark {
                    self.batch.marks.push((self.tail.segment, sequence, self.tail.offset));
                    self.tail.next_mark = self.tail.offset.saturating_add(places::STEP);
                }
                self.placed_bytes += span as u64;
                self.tail.offset += u32::try_from(span).unwrap_or(u32::MAX);
                return Ok(at);
            }
            allowed?;
            self.next_segment(span)?;
        }
        Err(Reason::Internal)
    }

    /// The tail has no room for so many bytes: they go to the next segment, if that will have.
    fn next_segment(&mut self, bytes: usize) -> Result<(), Reason> {
        let needed = bytes as u64 + HEAD_SPAN as u64;
        if needed > u64::from(self.next_bytes) {
            // The next one may only be small for want of room.
            return Err(if needed > u64::from(self.segment_bytes) { Reason::Internal } else { Reason::SpoolFull });
        }
        let next = self.tail.segment.checked_add(1).filter(|id| *id <= SEGMENT_MAX).ok_or(Reason::SpoolFailed)?;
        self.begin_segment(next, self.next_bytes);
        Ok(())
    }

    /// Encodes a record of so many bytes and, unless it stands in the segment already, the envelope that it refers to: a
    /// segment stands alone.
    fn place_with_envelope(
        &mut self,
        envelope: &Bytes,
        (kind, sequence, bytes): (u8, u64, usize),
        write: &dyn Fn(&mut Vec<u8>, Option<u32>),
    ) -> Result<Position, Reason> {
        let both = frame::span(bytes) + frame::span(envelope.len());
        let is_it = |known: &Bytes| known.as_ptr() == envelope.as_ptr() && known.len() == envelope.len();
        for _ in 0..2 {
            let known = self.envelopes.iter().rev().find(|(known, _)| is_it(known)).map(|(_, offset)| *offset);
            let needed = if known.is_some() { frame::span(bytes) } else { both };
            self.may_take(needed as u64)?;
            if needed > self.tail.capacity.saturating_sub(self.tail.offset) as usize {
                self.next_segment(both)?;
                continue;
            }
            let offset = match known {
                Some(offset) => offset,
                None => self.place_envelope(envelope)?,
            };
            let at = self.place(kind, sequence, true, &|out| write(out, Some(offset)))?;
            debug_assert!(split(at).1 > u64::from(offset), "in one segment, and the envelope before its event");
            return Ok(at);
        }
        Err(Reason::Internal)
    }

    fn place_envelope(&mut self, envelope: &Bytes) -> Result<u32, Reason> {
        let at = self.place(Kind::Envelope as u8, 0, true, &|out| out.extend_from_slice(envelope))?;
        let offset = u32::try_from(split(at).1).unwrap_or(u32::MAX);
        if self.envelopes.len() >= ENVELOPES_MAX {
            self.envelopes.remove(0);
        }
        self.envelopes.push((envelope.clone(), offset));
        Ok(offset)
    }

    /// Encodes an event; its sequence and position.
    pub(super) fn place_event(&mut self, admitted: &Admitted, lane: LaneKey) -> Result<(u64, Position), Reason> {
        let Admitted { claim, event, pacing, .. } = admitted;
        let bytes = record::accepted_bytes(event, claim);
        let (sequence, at) = self.place_first(Kind::Accepted, event, bytes, &|out, envelope| {
            record::put_accepted(out, event, claim, *pacing, lane, envelope);
        })?;
        self.standing.accepted(sequence, &event.integration, claim.targets.iter(), *pacing);
        let number = claim.next.map_or(0, |incident| incident.number);
        self.standing.highest_number = self.standing.highest_number.max(number);
        Ok((sequence, at))
    }

    /// The same for an element that was rejected: from here on it is a dead letter at the intake.
    pub(super) fn place_rejected(
        &mut self,
        event: &Event,
        intake: &Arc<UpstreamMeter>,
        lane: LaneKey,
        note: DeadNote,
    ) -> Result<(u64, Position), Reason> {
        let claim = Claim::new(None, None, REJECTED_OUTCOME, Arc::from([Arc::clone(intake)]));
        let bytes = record::accepted_bytes(event, &claim) + record::NOTE_BYTES;
        let (sequence, at) = self.place_first(Kind::Rejected, event, bytes, &|out, envelope| {
            record::put_accepted(out, event, &claim, Pacing::default(), lane, envelope);
            record::put_note(out, Some(&note));
        })?;
        self.standing.rejected(intake, &event.integration, sequence, note);
        Ok((sequence, at))
    }

    /// The first record of an event, of so many bytes; it takes a sequence.
    fn place_first(
        &mut self,
        kind: Kind,
        event: &Event,
        bytes: usize,
        write: &dyn Fn(&mut Vec<u8>, Option<u32>),
    ) -> Result<(u64, Position), Reason> {
        let envelope = event.envelope.as_ref();
        if bytes > frame::PAYLOAD_MAX || envelope.is_some_and(|envelope| envelope.len() > frame::PAYLOAD_MAX) {
            return Err(Reason::Internal);
        }
        self.may_take(frame::span(bytes) as u64)?;
        let sequence = self.next_sequence;
        // Only a damaged log has come so far: it takes no more.
        let next_sequence = sequence.checked_add(1).ok_or(Reason::SpoolFailed)?;
        let at = match envelope {
            None => self.place(kind as u8, sequence, true, &|out| write(out, None))?,
            Some(envelope) => self.place_with_envelope(envelope, (kind as u8, sequence, bytes), write)?,
        };
        self.next_sequence = next_sequence;
        self.standing.newest = self.standing.newest.max(event.received_at);
        Ok((sequence, at))
    }

    /// An ending is never refused: only a segment number past 2^32 or a name of a mebibyte cannot be placed, and it is
    /// then a repeat after the next start. False: the event is not in the state that this ends, and nothing was placed.
    pub(super) fn place_ending(
        &mut self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        (ending, learned): (Ending, Option<&Learned>),
    ) -> bool {
        let gathers = matches!(ending, Ending::Delivered { .. }) && learned.is_none();
        // A clock is half of what an ending costs: deliveries have one for all of them.
        let at = if gathers { Micros::default() } else { Micros::now() };
        let whose = Whose::Integration(integration);
        let Some(tag) = self.standing.ended(upstream, whose, sequence, ending, at) else { return false };
        if let (Ending::Delivered { status, attempts }, true) = (ending, gathers) {
            if self.deliveries.is_full() {
                self.place_deliveries();
            }
            self.deliveries.add(upstream, (status, attempts), (sequence, tag));
            self.batch.since.get_or_insert_with(Instant::now);
            return true;
        }
        self.place_deliveries();
        let kind = record::kind_of(ending) as u8;
        let _ = self
            .place(kind, sequence, false, &|out| record::put_ending(out, &upstream.name, tag, (ending, learned), at))
            .inspect_err(|_| tracing::error!(sequence, "an ending cannot be placed in the log"));
        true
    }

    /// What was delivered is told of here: before any other ending, and before what says who needs an event.
    fn place_deliveries(&mut self) {
        if self.deliveries.events() == 0 {
            return;
        }
        let at = Micros::now();
        self.standing.newest = self.standing.newest.max(at);
        let mut deliveries = std::mem::take(&mut self.deliveries);
        deliveries.told(at, |sequence, write| {
            let _ = self
                .place(Kind::Delivered as u8, sequence, false, write)
                .inspect_err(|_| tracing::error!(sequence, "deliveries cannot be placed in the log"));
        });
        self.deliveries = deliveries;
    }

    /// As [`Self::place_ending`]: the sender of a refused event is told so, and what that did to its key never was.
    pub(super) fn place_refused(
        &mut self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        taken: Option<&TakenBack>,
        at: Micros,
    ) -> bool {
        let ending = Ending::Dropped(DropReason::Refused);
        let whose = Whose::Integration(integration);
        let Some(tag) = self.standing.ended(upstream, whose, sequence, ending, at) else { return false };
        self.place_deliveries();
        let placed = self.place(Kind::Settled as u8, sequence, false, &|out| {
            record::put_refused(out, &upstream.name, tag, taken, at);
        });
        placed.inspect_err(|_| tracing::error!(sequence, "an ending cannot be placed in the log")).is_ok()
    }

    /// As [`Self::place_ending`]: an event goes to another upstream.
    pub(super) fn place_reassigned(
        &mut self,
        from: &Arc<UpstreamMeter>,
        to: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        at: Micros,
    ) {
        self.place_deliveries();
        self.standing.reassigned(from, to, integration, sequence, at);
        let record = Reassigned { integration, from: &from.name, to: &to.name, at };
        let _ = self.place(Kind::Reassigned as u8, sequence, false, &|out| record.put(out));
    }

    /// Tells the log how an incident stands, unless there is no room for an event.
    pub(super) fn place_touched(&mut self, touched: Touched) -> Result<(), Reason> {
        self.place(Kind::Touched as u8, 0, true, &|out| touched.put(out)).map(drop)
    }

    /// Copies an event's record to the end of the log, unless there is no room for an event.
    pub(super) fn place_moved(&mut self, sequence: u64, event: &[u8]) -> Result<Position, Reason> {
        self.place_deliveries();
        let needs = self.standing.needs(sequence);
        self.place(Kind::Moved as u8, sequence, true, &|out| {
            out.extend_from_slice(event);
            Need::put_all(&needs, out);
        })
    }

    /// Copies what is shown of an incident to the end of the log, unless there is no room for an event. What comes back is
    /// its place as a state has it.
    pub(super) fn place_snapshot(&mut self, sequence: u64, snapshot: &[u8]) -> Result<Position, Reason> {
        let at = self.place(Kind::Snapshot as u8, sequence, true, &|out| out.extend_from_slice(snapshot))?;
        Ok(with_view(at, true))
    }

    /// What stands, with everything that was placed.
    pub(super) fn cut(&mut self) -> Box<Cut> {
        self.cut_wanted = false;
        self.standing.tidy();
        let at = join(self.tail.segment, self.tail.offset);
        Box::new(Cut { standing: self.standing.clone(), at, next_sequence: self.next_sequence })
    }

    /// Whether the writer sleeps although there is enough to do.
    pub(super) fn should_wake(&mut self) -> bool {
        let wake = self.sleeping && (self.batch.waiting.len() >= self.wake_waiting || self.bytes() >= self.wake_bytes);
        if wake {
            self.sleeping = false;
        }
        wake
    }

    /// Whether nothing has gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.deliveries.events() == 0
    }

    /// Bytes that have gathered, about.
    pub(super) fn bytes(&self) -> usize {
        self.batch.buffer.len() + self.deliveries.events()
    }

    /// Takes what has gathered; `spare` takes its place.
    pub(super) fn swap(&mut self, spare: &mut Batch) -> Batch {
        self.place_deliveries();
        if self.cut_wanted {
            self.batch.cut = Some(self.cut());
        }
        self.batch.upto = self.next_sequence - 1;
        self.batch.end = join(self.tail.segment, self.tail.offset);
        spare.clear();
        std::mem::swap(&mut self.batch, spare);
        std::mem::take(spare)
    }

    /// After a failed write: what waits is given up, its sequences are void, its endings are written again
    /// into a fresh segment `id`. Returns who must be refused, and what to write instead.
    pub(super) fn begin_again(&mut self, failed: Batch, id: u32, reason: Reason) -> (Vec<Waiting>, Batch) {
        if self.health != Health::Closing {
            self.health = Health::Failed(reason);
        }
        let gathered = std::mem::take(&mut self.batch);
        let mut endings: Vec<_> = failed.endings().into_iter().chain(gathered.endings()).collect();
        self.deliveries.told(Micros::now(), |sequence, write| {
            let mut payload = vec![];
            write(&mut payload);
            endings.push((Kind::Delivered as u8, sequence, payload));
        });
        let told = failed.told.into_iter().chain(gathered.told).collect();
        let refused: Vec<Waiting> = failed.waiting.into_iter().chain(gathered.waiting).collect();
        let sequences = || refused.iter().map(|waiting| waiting.sequence);
        match sequences().min().zip(sequences().max()) {
            Some(range) => self.voids.push(range),
            // An empty range still tells recovery why the segment before ends torn.
            None if self.voids.is_empty() => self.voids.push((self.next_sequence, self.next_sequence - 1)),
            None => {}
        }
        self.failures += 1;
        for Waiting { sequence, owed, .. } in &refused {
            match owed {
                Owed::Event(placed, _) => {
                    self.standing.void(*sequence, &placed.integration, placed.claim.targets.iter());
                }
                Owed::Rejected(Kept { letter, intake, .. }) => {
                    self.standing.void_rejected(intake, &letter.integration, *sequence);
                }
            }
        }
        if reason == Reason::SpoolFull {
            self.take_smaller();
        }
        self.begin_segment(id, self.next_bytes);
        for (first, last) in self.voids.clone() {
            let _ = self.place(Kind::Void as u8, first, false, &|out| record::put_void(out, last));
        }
        for (kind, sequence, payload) in endings {
            let _ = self.place(kind, sequence, false, &|out| out.extend_from_slice(&payload));
        }
        self.batch.told = told;
        self.batch.upto = self.next_sequence - 1;
        self.batch.end = join(self.tail.segment, self.tail.offset);
        (refused, std::mem::take(&mut self.batch))
    }

    /// The fresh segment is synced: events are taken again.
    pub(super) fn resume(&mut self) {
        self.voids.clear();
        if let Health::Failed(_) = self.health {
            self.health = Health::Serving;
        }
    }
}

/// What the forwarder gets of an event.
pub(super) fn queued(left: Left, sequence: u64, at: Position, lane: LaneKey) -> Option<Queued> {
    let Left { integration, targets, pacing } = left;
    (!targets.is_empty()).then_some(Queued { sequence, at, lane, integration, targets, pacing })
}
