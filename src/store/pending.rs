//! What has gathered since the last commit: one buffer of frames ready to be written, and who waits for
//! them. Lives under the store's one lock; nothing here does I/O.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::frame::{self, HEAD_SPAN, Head, Kind, Seed};
use super::reader::join;
use super::record::{self, VERSION};
use super::{Ending, LaneKey, Queued};
use crate::claim::{Accepted, Admitted, Position};
use crate::event::Micros;
use crate::outcome::Reason;

/// More than this waits for the disk only when it hangs: then new events are refused.
pub(super) const BUFFER_MAX: usize = 64 << 20;
/// Kept at a segment's end for each ending that is owed: a settlement takes 24 + 9 + 4 bytes and the
/// upstream's name.
const ENDING_BYTES: u64 = 64;

/// A request that waits for its record to be durable.
pub(super) struct Waiting {
    pub(super) admitted: Admitted,
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
    /// When the first byte came.
    pub(super) since: Option<Instant>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes of each chunk.
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
                if ![Kind::Accepted as u8, Kind::Void as u8].contains(&frame.kind) {
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
}

pub(super) struct Pending {
    pub(super) batch: Batch,
    tail: Tail,
    next_sequence: u64,
    /// Size of the segments that are still to come.
    segment_bytes: u32,
    pub(super) health: Health,
    /// Why the segment after this one cannot be had, if so.
    pub(super) no_next: Option<Reason>,
    /// Endings that the log still owes; the reserve is kept for them.
    owed: u64,
    /// Ranges of sequences that failed and that no synced record has named yet.
    voids: Vec<(u64, u64)>,
    /// The writer sleeps until this many requests or bytes wait.
    pub(super) sleeping: bool,
    pub(super) wake_waiting: usize,
    pub(super) wake_bytes: usize,
}

impl Pending {
    pub(super) fn new(resume: &super::recovery::Resume, first_bytes: u32, segment_bytes: u32) -> Self {
        let mut pending = Self {
            batch: Batch::default(),
            tail: Tail { segment: 0, seed: Seed::of(0), offset: 0, capacity: 0 },
            next_sequence: resume.next_sequence.max(1),
            segment_bytes,
            health: Health::Serving,
            no_next: None,
            owed: resume.owed,
            voids: vec![],
            sleeping: false,
            wake_waiting: 1,
            wake_bytes: 1,
        };
        pending.begin_segment(resume.next_segment, first_bytes);
        pending
    }

    /// The segment that the next byte goes to, and its end.
    pub(super) fn tail(&self) -> (u32, u32) {
        (self.tail.segment, self.tail.offset)
    }

    fn begin_segment(&mut self, id: u32, capacity: u32) {
        let salt = fastrand::u64(..);
        let from = self.batch.buffer.len();
        self.batch.chunks.push(Chunk { segment: id, at: 0, from });
        self.batch.since.get_or_insert_with(Instant::now);
        Head { id, first_sequence: self.next_sequence, salt }.encode(&mut self.batch.buffer);
        let offset = u32::try_from(HEAD_SPAN).unwrap_or(u32::MAX);
        self.tail = Tail { segment: id, seed: Seed::of(salt), offset, capacity };
    }

    /// Room at the end of the segment that only endings may use.
    fn reserve(&self) -> u64 {
        self.owed.saturating_mul(ENDING_BYTES).min(u64::from(self.tail.capacity) / 4)
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
            let from = self.batch.buffer.len();
            let span = frame::encode(&mut self.batch.buffer, self.tail.seed, kind, VERSION, sequence, write)
                .ok_or(Reason::Internal)?;
            let allowed = if is_event { self.may_take(span as u64) } else { Ok(()) };
            if allowed.is_ok() && span as u64 <= u64::from(self.tail.capacity.saturating_sub(self.tail.offset)) {
                if self.batch.chunks.is_empty() {
                    let Tail { segment, offset, .. } = self.tail;
                    self.batch.chunks.push(Chunk { segment, at: offset, from });
                }
                self.batch.since.get_or_insert_with(Instant::now);
                let at = join(self.tail.segment, self.tail.offset);
                self.tail.offset += u32::try_from(span).unwrap_or(u32::MAX);
                return Ok(at);
            }
            self.batch.buffer.truncate(from);
            allowed?;
            if span as u64 + HEAD_SPAN as u64 > u64::from(self.segment_bytes) {
                return Err(Reason::Internal);
            }
            self.begin_segment(self.tail.segment.checked_add(1).ok_or(Reason::SpoolFailed)?, self.segment_bytes);
        }
        Err(Reason::Internal)
    }

    /// Encodes an event; its sequence and position.
    pub(super) fn place_event(&mut self, admitted: &Admitted, lane: LaneKey) -> Result<(u64, Position), Reason> {
        let size = frame::span(admitted.event.raw.len());
        if size > frame::PAYLOAD_MAX {
            return Err(Reason::Internal);
        }
        self.may_take(size as u64)?;
        let sequence = self.next_sequence;
        // Only a damaged log has come so far: it takes no more.
        let next_sequence = sequence.checked_add(1).ok_or(Reason::SpoolFailed)?;
        let at = self.place(Kind::Accepted as u8, sequence, true, &|out| {
            record::put_accepted(out, admitted, lane, 0);
        })?;
        self.next_sequence = next_sequence;
        self.owed = self.owed.saturating_add(admitted.claim.targets.len() as u64);
        Ok((sequence, at))
    }

    pub(super) fn place_ending(&mut self, upstream: &str, sequence: u64, ending: Ending, at: Micros) {
        self.owed = match ending {
            Ending::Replayed => self.owed.saturating_add(1),
            _ => self.owed.saturating_sub(1),
        };
        let kind = record::kind_of(ending) as u8;
        // Only a segment number past 2^32 or a name of a mebibyte is refused: it is then a repeat.
        let _ = self.place(kind, sequence, false, &|out| record::put_ending(out, upstream, ending, at));
    }

    /// Whether the writer sleeps although there is enough to do.
    pub(super) fn should_wake(&mut self) -> bool {
        let wake = self.sleeping
            && (self.batch.waiting.len() >= self.wake_waiting || self.batch.buffer.len() >= self.wake_bytes);
        if wake {
            self.sleeping = false;
        }
        wake
    }

    /// Takes what has gathered; `spare` takes its place.
    pub(super) fn swap(&mut self, spare: &mut Batch) -> Batch {
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
        let endings: Vec<_> = failed.endings().into_iter().chain(gathered.endings()).collect();
        let refused: Vec<Waiting> = failed.waiting.into_iter().chain(gathered.waiting).collect();
        let sequences = || refused.iter().map(|waiting| waiting.sequence);
        match sequences().min().zip(sequences().max()) {
            Some(range) => self.voids.push(range),
            // An empty range still tells recovery why the segment before ends torn.
            None if self.voids.is_empty() => self.voids.push((self.next_sequence, self.next_sequence - 1)),
            None => {}
        }
        let owed: u64 = refused.iter().map(|waiting| waiting.admitted.claim.targets.len() as u64).sum();
        self.owed = self.owed.saturating_sub(owed);
        self.begin_segment(id, self.segment_bytes);
        for (first, last) in self.voids.clone() {
            let _ = self.place(Kind::Void as u8, first, false, &|out| record::put_void(out, last));
        }
        for (kind, sequence, payload) in endings {
            let _ = self.place(kind, sequence, false, &|out| out.extend_from_slice(&payload));
        }
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
pub(super) fn queued(admitted: &Admitted, sequence: u64, at: Position, lane: LaneKey) -> Option<Queued> {
    let Admitted { claim, event, pacing, .. } = admitted;
    (!claim.targets.is_empty()).then(|| Queued {
        sequence,
        at,
        lane,
        integration: Arc::clone(&event.integration),
        targets: Arc::clone(&claim.targets),
        pacing: *pacing,
    })
}
