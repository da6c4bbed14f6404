//! A checkpoint: the log up to a place, summed up, so that a start reads the rest alone and segments can go. A file
//! of its own in the shape of a segment, `spool/NNNNNNNNNN.checkpoint`: it counts only when whole, which its last
//! frame says. Frames stand in the order of [`Part`]; their sequence is their number in the file.
//!
//! The states may be newer than the place: what the log says behind it is replayed over them and ends where they
//! are, because a record holds the whole state. What upstreams call incidents may be newer for the same reason. Everything else stands exactly as it stood there.

use std::io;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::States;
use super::frame::{self, Frame, Head, Kind, Seed};
use super::record::{Steps, VERSION, incident, note, put_incident, put_note, put_text};
use super::remotes::{Remotes, learned, put_learned};
use super::standing::{Cut, Standing};
use crate::claim::{ById, Position, Scope};
use crate::event::{Micros, StateKey, Uid};
use crate::metrics::{Metrics, UpstreamBook};
use crate::outcome::{DeadReason, DropReason, Outcome, Reason};

/// Bytes handed to the disk at once; no frame's payload is larger than twice this.
const STEP: usize = 256 << 10;

/// What a frame says; stands in its payload's first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Part {
    Meta = 1,
    Counter = 2,
    Segment = 3,
    Upstream = 4,
    Waiting = 5,
    Dead = 6,
    Moved = 7,
    Unknown = 8,
    States = 9,
    End = 10,
    ById = 11,
    Remotes = 16,
}

impl Part {
    fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Meta,
            Self::Counter,
            Self::Segment,
            Self::Upstream,
            Self::Waiting,
            Self::Dead,
            Self::Moved,
            Self::Unknown,
            Self::States,
            Self::End,
            Self::ById,
            Self::Remotes,
        ];
        all.into_iter().find(|part| *part as u8 == code)
    }
}

/// What a checkpoint tells of the intake side: events that went nowhere, which the log says nothing of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) absorbed: Vec<(Outcome, u64)>,
    pub(super) rejected: Vec<(Reason, u64)>,
}

impl Counters {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let book = metrics.intake();
        let some = |count: &u64| *count > 0;
        Self {
            absorbed: Outcome::ALL.into_iter().zip(book.absorbed).filter(|(_, count)| some(count)).collect(),
            rejected: Reason::all().zip(book.rejected).filter(|(_, count)| some(count)).collect(),
        }
    }
}

/// Everything but the states.
pub(super) struct Summary {
    pub(super) cut: Cut,
    /// Nothing was under way when it was made, and the process ended with it.
    pub(super) clean: bool,
    pub(super) counters: Counters,
    /// When the segments before it were last written to.
    pub(super) sealed: Vec<(u32, Micros)>,
}

/// Encodes frames and hands them on in large steps.
struct Encoder<'a> {
    buffer: Vec<u8>,
    seed: Seed,
    frames: u64,
    bytes: u64,
    /// The first failure; nothing is handed on after it.
    failed: Option<io::Error>,
    out: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
}

impl Encoder<'_> {
    fn put(&mut self, part: Part, write: impl FnOnce(&mut Vec<u8>)) {
        let encoded = frame::encode(&mut self.buffer, self.seed, Kind::Checkpoint as u8, VERSION, self.frames, |out| {
            out.push(part as u8);
            write(out);
        });
        if encoded.is_none() {
            self.failed.get_or_insert_with(|| io::ErrorKind::InvalidData.into());
        }
        self.frames += 1;
        if self.buffer.len() >= STEP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = (self.out)(&self.buffer).err();
        }
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
    }

    /// Those of an upstream stand together, behind its name.
    fn put_remotes(&mut self, remotes: &Remotes) {
        let mut some = Vec::new();
        let mut of: Option<Arc<str>> = None;
        remotes.each(&mut |upstream, at, learned| {
            if !some.is_empty() && (some.len() >= STEP || of.as_ref() != Some(upstream)) {
                self.put(Part::Remotes, |out| out.append(&mut some));
            }
            if some.is_empty() {
                put_text(&mut some, upstream.as_bytes());
                of = Some(Arc::clone(upstream));
            }
            some.extend_from_slice(&at.0.to_le_bytes());
            put_learned(&mut some, Some(learned));
        });
        if !some.is_empty() {
            self.put(Part::Remotes, |out| out.append(&mut some));
        }
    }

    /// A set in pieces; an empty piece ends it.
    fn put_set(&mut self, part: Part, names: &[&str], set: &RoaringTreemap) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(set.serialized_size());
        set.serialize_into(&mut bytes)?;
        for piece in bytes.chunks(STEP).chain([&[] as &[u8]]) {
            self.put(part, |out| {
                names.iter().for_each(|name| put_text(out, name.as_bytes()));
                put_text(out, piece);
            });
        }
        Ok(())
    }
}

fn put_counts<'a>(out: &mut Vec<u8>, counts: impl ExactSizeIterator<Item = (&'a str, u64)>) {
    out.extend_from_slice(&u32::try_from(counts.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, count) in counts {
        put_text(out, name.as_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }
}

/// Writes a checkpoint, and returns its bytes; `see` is told where each state's record stands.
///
/// # Errors
/// What `out` fails with.
pub(super) fn write(
    id: u32,
    summary: &Summary,
    states: &dyn States,
    see: &mut dyn FnMut(StateKey, Position),
    remotes: &Remotes,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let salt = fastrand::u64(..);
    let mut encoder = Encoder { buffer: vec![], seed: Seed::of(salt), frames: 0, bytes: 0, failed: None, out };
    let Summary { cut, clean, counters, sealed } = summary;
    let Cut { standing, at, next_sequence } = cut;
    Head { id, first_sequence: *next_sequence, salt }.encode(&mut encoder.buffer);
    encoder.put(Part::Meta, |out| {
        out.push(u8::from(*clean));
        for number in [at.0, *next_sequence, standing.highest_number, standing.accepted, standing.jump_before] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&standing.newest.0.to_le_bytes());
        out.extend_from_slice(&standing.jump_micros.to_le_bytes());
    });
    encoder.put(Part::Counter, |out| {
        put_counts(out, counters.absorbed.iter().map(|(outcome, count)| (outcome.name(), *count)));
        put_counts(out, counters.rejected.iter().map(|(reason, count)| (reason.label(), *count)));
    });
    for (segment, at) in sealed {
        encoder.put(Part::Segment, |out| {
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
        });
    }
    for upstream in &standing.upstreams {
        let name = &*upstream.meter.name;
        encoder.put(Part::Upstream, |out| {
            put_text(out, name.as_bytes());
            let book = &upstream.book;
            for number in [book.enqueued, book.delivered, upstream.meter.book().repeated] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_counts(out, book.dropped.iter().map(|(name, count)| (*name, *count)));
            put_counts(out, book.dead_lettered.iter().map(|(name, count)| (*name, *count)));
        });
        for queue in &upstream.queues {
            if !queue.waiting.is_empty() {
                encoder.put_set(Part::Waiting, &[name, &queue.integration], &queue.waiting.whole())?;
            }
            for (sequence, note) in &queue.dead {
                encoder.put(Part::Dead, |out| {
                    put_text(out, name.as_bytes());
                    put_text(out, queue.integration.as_bytes());
                    out.extend_from_slice(&sequence.to_le_bytes());
                    put_note(out, Some(note));
                });
            }
        }
    }
    for (sequence, at) in &standing.moved {
        encoder.put(Part::Moved, |out| {
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
        });
    }
    encoder.put_set(Part::Unknown, &[], &standing.unknown)?;
    let mut some = Vec::with_capacity(STEP + 128);
    states.each(&mut |key, incident, at| {
        see(key, at);
        some.extend_from_slice(&key.0.to_le_bytes());
        some.extend_from_slice(&at.0.to_le_bytes());
        put_incident(&mut some, &incident);
        if some.len() >= STEP {
            encoder.put(Part::States, |out| out.append(&mut some));
        }
    });
    encoder.put(Part::States, |out| out.append(&mut some));
    states.each_by_id(&mut |row| {
        let ById { scope, number, iid, key } = row;
        some.extend_from_slice(&scope.0.to_le_bytes());
        some.extend_from_slice(&number.to_le_bytes());
        some.extend_from_slice(&iid.0.to_le_bytes());
        some.extend_from_slice(&key.0.to_le_bytes());
        if some.len() >= STEP {
            encoder.put(Part::ById, |out| out.append(&mut some));
        }
    });
    if !some.is_empty() {
        encoder.put(Part::ById, |out| out.append(&mut some));
    }
    encoder.put_remotes(remotes);
    let frames = encoder.frames;
    encoder.put(Part::End, |out| out.extend_from_slice(&frames.to_le_bytes()));
    encoder.flush();
    encoder.failed.map_or(Ok(encoder.bytes), Err)
}

/// Reads the frames of a checkpoint in order and holds them to each other.
#[derive(Default)]
pub(super) struct Check {
    frames: u64,
    whole: bool,
}

impl Check {
    /// False: the file is damaged, or is no checkpoint.
    pub(super) fn take(&mut self, frame: Frame<'_>) -> bool {
        let right = frame.kind == Kind::Checkpoint as u8
            && frame.version == VERSION
            && frame.sequence == self.frames
            && !self.whole;
        let part = frame.payload.first().copied().and_then(Part::from_code);
        if part == Some(Part::End) {
            self.whole = Steps(&frame.payload[1..]).u64() == Some(self.frames);
        }
        self.frames += 1;
        right && part.is_some() && ((self.frames == 1) == (part == Some(Part::Meta)))
    }

    /// Whether its last frame was there.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
}

/// Puts a checkpoint together from its frames; they were checked before.
pub(super) struct Loader<'a> {
    metrics: &'a Arc<Metrics>,
    states: &'a dyn States,
    remotes: &'a Remotes,
    /// The pieces of a set that has not ended.
    piece: Vec<u8>,
    summary: Summary,
}

impl<'a> Loader<'a> {
    pub(super) fn new(metrics: &'a Arc<Metrics>, states: &'a dyn States, remotes: &'a Remotes) -> Self {
        let cut = Cut { standing: Standing::default(), at: Position(0), next_sequence: 1 };
        let summary = Summary { cut, clean: false, counters: Counters::default(), sealed: vec![] };
        Self { metrics, states, remotes, piece: vec![], summary }
    }

    pub(super) fn finish(self) -> Summary {
        self.summary
    }

    /// `None`: a frame that says nothing this version can read, though its checksum holds.
    pub(super) fn take(&mut self, frame: Frame<'_>) -> Option<()> {
        let (code, payload) = frame.payload.split_first()?;
        let mut steps = Steps(payload);
        let Summary { cut, clean, counters, sealed } = &mut self.summary;
        let standing = &mut cut.standing;
        match Part::from_code(*code)? {
            Part::Meta => {
                *clean = steps.u8()? != 0;
                cut.at = Position(steps.u64()?);
                cut.next_sequence = steps.u64()?;
                standing.highest_number = steps.u64()?;
                standing.accepted = steps.u64()?;
                standing.jump_before = steps.u64()?;
                standing.newest = steps.micros()?;
                standing.jump_micros = steps.micros()?.0;
            }
            Part::Counter => {
                let by_name = |name: &str| Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
                counters.absorbed = counts(&mut steps, by_name)?;
                counters.rejected = counts(&mut steps, |name| Reason::all().find(|reason| reason.label() == name))?;
            }
            Part::Segment => sealed.push((steps.u32()?, steps.micros()?)),
            Part::Upstream => {
                let meter = self.metrics.upstream(steps.text()?);
                let book = UpstreamBook {
                    enqueued: steps.u64()?,
                    delivered: steps.u64()?,
                    repeated: steps.u64()?,
                    dropped: counts(&mut steps, |name| {
                        DropReason::ALL.map(DropReason::name).into_iter().find(|one| *one == name)
                    })?
                    .into_iter()
                    .collect(),
                    dead_lettered: counts(&mut steps, |name| {
                        DeadReason::ALL.map(DeadReason::name).into_iter().find(|one| *one == name)
                    })?
                    .into_iter()
                    .collect(),
                    ..UpstreamBook::default()
                };
                standing.upstream(&meter).book = book;
            }
            Part::Waiting => {
                let meter = self.metrics.upstream(steps.text()?);
                let integration = steps.text()?;
                let piece = steps.bytes()?;
                self.piece.extend_from_slice(piece);
                if piece.is_empty() {
                    let set = RoaringTreemap::deserialize_from(&*self.piece).ok()?;
                    self.piece.clear();
                    standing.restore_queue(&meter, integration, set);
                }
            }
            Part::Dead => {
                let meter = self.metrics.upstream(steps.text()?);
                let (integration, sequence) = (steps.text()?, steps.u64()?);
                standing.restore_dead(&meter, integration, sequence, note(&mut steps)??);
            }
            Part::Moved => drop(standing.moved.insert(steps.u64()?, Position(steps.u64()?))),
            Part::Unknown => {
                let piece = steps.bytes()?;
                self.piece.extend_from_slice(piece);
                if piece.is_empty() {
                    standing.unknown = RoaringTreemap::deserialize_from(&*self.piece).ok()?;
                    self.piece.clear();
                }
            }
            Part::States => {
                while !steps.0.is_empty() {
                    let (key, at) = (StateKey(steps.u128()?), Position(steps.u64()?));
                    self.states.restore(key, incident(&mut steps)?, at);
                }
            }
            Part::ById => {
                while !steps.0.is_empty() {
                    let (scope, number) = (Scope(steps.u64()?), steps.u64()?);
                    let (iid, key) = (Uid(steps.u128()?), StateKey(steps.u128()?));
                    self.states.restore_by_id(ById { scope, number, iid, key });
                }
            }
            Part::Remotes => {
                let meter = self.metrics.upstream(steps.text()?);
                while !steps.0.is_empty() {
                    let at = steps.micros()?;
                    self.remotes.learn(&meter.name, at, learned(&mut steps)?);
                }
            }
            Part::End => {}
        }
        Some(())
    }
}

/// Counts by name; a name that this version does not know is left out.
fn counts<T>(steps: &mut Steps<'_>, by_name: impl Fn(&str) -> Option<T>) -> Option<Vec<(T, u64)>> {
    let mut all = vec![];
    for _ in 0..steps.u32()? {
        let (name, count) = (steps.text()?, steps.u64()?);
        all.extend(by_name(name).map(|known| (known, count)));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Pacing;
    use crate::event::Incident;
    use crate::event::{Severity, State, Uid};
    use crate::store::doubles::Remembers;
    use crate::store::frame::HEAD_SPAN;
    use crate::store::standing::{Whose, tag};
    use crate::store::{Ending, LaneKey, Learned, Remote};

    fn summary(metrics: &Arc<Metrics>) -> Summary {
        let mut standing = Standing::default();
        let meters = [metrics.upstream("pager"), metrics.upstream("archive")];
        for sequence in 1..=100_000 {
            let integration = if sequence % 3 == 0 { "payments" } else { "search" };
            let pacing = if sequence % 1000 == 0 { Pacing::UNKNOWN } else { Pacing::default() };
            standing.accepted(sequence, integration, meters.iter(), pacing);
            let whose = Whose::Tag(tag(integration));
            let dead = Ending::Dead { reason: DeadReason::GaveUp, status: Some(503), attempts: 9 };
            match sequence % 7 {
                0 => assert!(standing.ended(&meters[0], whose, sequence, dead, Micros(77)).is_some()),
                1 => assert!(standing.ended(&meters[0], whose, sequence, Ending::DELIVERED, Micros(78)).is_some()),
                2 => {
                    let dropped = Ending::Dropped(DropReason::DeadLetterSpace);
                    standing.ended(&meters[1], whose, sequence, dropped, Micros(79));
                }
                _ => {}
            }
        }
        standing.moved.insert(7, Position(99));
        standing.highest_number = 4096;
        (standing.jump_before, standing.jump_micros) = (55, 66);
        Summary {
            cut: Cut { standing, at: Position(3 << 32 | 8192), next_sequence: 100_001 },
            clean: true,
            counters: Counters { absorbed: vec![(Outcome::Duplicate, 5)], rejected: vec![(Reason::SpoolFull, 6)] },
            sealed: vec![(1, Micros(4)), (2, Micros(5))],
        }
    }

    fn incident(number: u64) -> Incident {
        Incident {
            iid: Uid(number.into()),
            number,
            generation: 2,
            state: State::Acked,
            severity: Severity::new(3),
            count: 9,
            last_seen: Micros(1),
            changed_at: Micros(2),
        }
    }

    fn remotes(count: u64) -> Remotes {
        let remotes = Remotes::default();
        for n in 0..count {
            let upstream = if n % 2 == 0 { "pager" } else { "archive" };
            let remote = Remote::new(&n.to_string(), (n % 3 == 0).then_some("https://example.com/i")).unwrap();
            let lane = LaneKey(u128::from(n / 4));
            remotes.learn(&upstream.into(), Micros(9), Learned { lane, iid: Uid(n.into()), remote });
        }
        remotes
    }

    fn all(remotes: &Remotes) -> Vec<(Arc<str>, u128, u128, Remote)> {
        let mut all = vec![];
        remotes.each(&mut |upstream, at, learned| {
            assert_eq!(at, Micros(9));
            all.push((Arc::clone(upstream), learned.lane.0, learned.iid.0, learned.remote.clone()));
        });
        all.sort_by_key(|(_, _, iid, _)| *iid);
        all
    }

    fn written(summary: &Summary, states: u64) -> Vec<u8> {
        let mut file = vec![];
        let remembers = Remembers::default();
        (0..states).for_each(|n| {
            remembers.restore(StateKey(n.into()), incident(n), Position(n * 8));
            remembers.restore_by_id(by_id(n));
        });
        let bytes = write(7, summary, &remembers, &mut |_, _| {}, &remotes(states), &mut |step| {
            file.extend_from_slice(step);
            Ok(())
        });
        assert_eq!(bytes.unwrap(), file.len() as u64);
        file
    }

    fn by_id(n: u64) -> ById {
        ById { scope: Scope(n % 3), number: n, iid: Uid(n.into()), key: StateKey((n + 1).into()) }
    }

    fn frames<'a>(file: &'a [u8], mut take: impl FnMut(Frame<'a>) -> bool) -> bool {
        let seed = Seed::of(Head::decode(file).unwrap().salt);
        let mut rest = &file[HEAD_SPAN..];
        while let Some(frame) = frame::parse(rest, seed) {
            if !take(frame) {
                return false;
            }
            rest = &rest[frame::span(frame.payload.len())..];
        }
        rest.is_empty()
    }

    fn is_whole(file: &[u8]) -> bool {
        let mut check = Check::default();
        frames(file, |frame| check.take(frame)) && check.is_whole()
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was() {
        let metrics = Metrics::new(1).unwrap();
        let before = summary(&metrics);
        let file = written(&before, 20_000);
        assert!(is_whole(&file));
        let states = Remembers::default();
        let other = Metrics::new(1).unwrap();
        let known = Remotes::default();
        let mut loader = Loader::new(&other, &states, &known);
        assert!(frames(&file, |frame| loader.take(frame).is_some()));
        let after = loader.finish();
        let expected = (0..20_000).map(|n| (StateKey(n.into()), incident(n), Position(n * 8)));
        assert!(states.transitions.into_inner().unwrap().into_iter().eq(expected));
        assert!(states.by_id.into_inner().unwrap().into_iter().eq((0..20_000).map(by_id)));
        assert_eq!((all(&known).len(), all(&known)), (20_000, all(&remotes(20_000))));
        assert_eq!((after.clean, &after.counters, &after.sealed), (true, &before.counters, &before.sealed));
        assert_eq!((after.cut.at, after.cut.next_sequence), (before.cut.at, before.cut.next_sequence));
        let (then, now) = (&before.cut.standing, &after.cut.standing);
        assert_eq!((then.owed(), then.dead_letters()), (now.owed(), now.dead_letters()));
        assert_eq!((then.accepted, then.highest_number), (now.accepted, now.highest_number));
        assert_eq!((then.jump_before, then.jump_micros), (now.jump_before, now.jump_micros));
        assert_eq!((&then.unknown, &then.moved), (&now.unknown, &now.moved));
        for (then, now) in then.upstreams.iter().zip(&now.upstreams) {
            assert_eq!((&then.meter.name, then.book.delivered), (&now.meter.name, now.book.delivered));
            assert_eq!((&then.book.dropped, &then.book.dead_lettered), (&now.book.dropped, &now.book.dead_lettered));
            for (then, now) in then.queues.iter().zip(&now.queues) {
                assert_eq!((&then.integration, &then.waiting), (&now.integration, &now.waiting));
                assert_eq!(then.dead, now.dead);
            }
        }
    }

    #[test]
    fn a_cut_or_damaged_checkpoint_does_not_count() {
        let metrics = Metrics::new(1).unwrap();
        let mut file = written(&Summary { sealed: vec![], ..summary(&metrics) }, 3);
        let mut ends = vec![];
        let seed = Seed::of(Head::decode(&file).unwrap().salt);
        let mut at = HEAD_SPAN;
        while let Some(frame) = frame::parse(&file[at..], seed) {
            ends.push(at);
            at += frame::span(frame.payload.len());
        }
        for end in ends.iter().step_by(997).chain([ends.last().unwrap()]) {
            assert!(!is_whole(&file[..*end]), "cut at {end} of {at}");
        }
        let middle = ends[ends.len() / 2] + 30;
        file[middle] ^= 1;
        assert!(!is_whole(&file));
    }
}
