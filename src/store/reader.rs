//! Reads single records back for the forwarder and for `details`. A reader in log order costs about one
//! system call for each block.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::files::{Disk, File};
use super::frame::{self, Frame, HEADER, Kind, Seed};
use super::places::{Hint, Places};
use super::record::{Accepted, Envelope, Snapshot, VERSION, with_envelope};
use super::scan::{self, Next, Scan};
use super::{ReadError, Shown, Stored};
use crate::claim::Position;
use crate::event::{Incident, StateKey};

/// Read at once of an incident's last record: a view and a body of usual length fit.
const SHOWN_BLOCK: usize = 8 << 10;
/// Segments held open for requests that look at incidents.
const SHOWN_FILES_MAX: usize = 16;
/// Segments held open; the process has descriptors for others too.
const FILES_MAX: usize = 64;
/// Read ahead where most of it is used: at 1 KB a record one call in 64.
const BLOCK: usize = 64 << 10;
/// Read where it is not known what is.
const SMALL_BLOCK: usize = 4 << 10;
/// Looks for an event that the disk cannot read, before it counts as damaged.
/// A second apart: ten minutes.
const TRIES_MAX: u32 = 600;
/// Events that are counted so; a disk that fails in more places than this is given up on later.
const MISSED_MAX: usize = 1024;
/// Blocks held: one for each place in the log that is being read on from (an integration's queue, retries, looks).
const BLOCKS: usize = 16;

#[derive(Default)]
struct Block {
    segment: u32,
    at: u64,
    bytes: Vec<u8>,
    /// Bytes of it that were asked for.
    used: usize,
}

impl Block {
    /// Whether all of a frame may stand here.
    fn holds(&self, segment: u32, at: u64) -> bool {
        let from = at.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        let rest = from.filter(|_| segment == self.segment).and_then(|from| self.bytes.get(from..));
        rest.is_some_and(|rest| frame::claimed_span(rest).is_some_and(|span| span <= rest.len()))
    }

    /// The undamaged frame at `at`, if all of it stands here. What was still zero when the block was read
    /// is no frame, so it is never served stale.
    fn frame(&self, segment: u32, at: u64, seed: Seed) -> Option<frame::Frame<'_>> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        if segment != self.segment {
            return None;
        }
        frame::parse(self.bytes.get(from..)?, seed)
    }

    fn is_followed_by(&self, segment: u32, at: u64) -> bool {
        let end = self.at + self.bytes.len() as u64;
        segment == self.segment && at >= self.at && at <= end + BLOCK as u64
    }

    /// How much to read behind it: more where a quarter of it was used, else less. The events of one of many integrations
    /// stand far apart.
    fn next_bytes(&self) -> usize {
        let length = self.bytes.len();
        let next = if self.used * 4 >= length { length * 4 } else { length / 4 };
        next.clamp(SMALL_BLOCK, BLOCK)
    }
}

#[derive(Clone)]
struct Handle {
    segment: u32,
    file: Arc<dyn File>,
    seed: Seed,
}

impl Handle {
    fn open(disk: &Disk, segment: u32) -> io::Result<Self> {
        let file = disk.open_segment(segment)?;
        // A disk that cannot read it now is not a file that has none.
        let head = scan::head(&*file)?.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { segment, file: Arc::from(file), seed: Seed::of(head.salt) })
    }

    /// `length` bytes at `at`, or as many as the file has.
    fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// What is not there, or not what was written, against what cannot be read just now.
fn failed(error: io::Error, at: Position) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData => ReadError::Damaged(at),
        _ => error.into(),
    }
}

#[derive(Default)]
struct Cache {
    /// Last used last.
    handles: Vec<Handle>,
    blocks: Vec<Block>,
    /// Events in parts that the disk could not read, and how often each was looked for.
    missed: BTreeMap<u64, u32>,
    /// The envelope that was read last: the events of a batch follow each other.
    envelope: Option<(Position, Bytes)>,
    /// Envelopes that are damaged, each counted once.
    lost: BTreeSet<Position>,
}

#[derive(Default)]
pub(super) struct Reader {
    cache: Mutex<Cache>,
    /// For requests: never locked over a call to the disk.
    handles: Mutex<Vec<Handle>>,
}

impl Cache {
    /// A disk that fails may come round; one that does not must not hold up what stands behind.
    fn may_try_again(&mut self, sequence: u64) -> bool {
        if self.missed.len() >= MISSED_MAX {
            self.missed.clear();
        }
        let tries = self.missed.entry(sequence).or_default();
        *tries += 1;
        *tries < TRIES_MAX
    }

    fn handle(&mut self, disk: &Disk, segment: u32) -> Result<Handle, io::Error> {
        if let Some(at) = self.handles.iter().position(|handle| handle.segment == segment) {
            let handle = self.handles.remove(at);
            self.handles.push(handle.clone());
            return Ok(handle);
        }
        let handle = Handle::open(disk, segment)?;
        if self.handles.len() >= FILES_MAX {
            self.handles.remove(0);
        }
        self.handles.push(handle.clone());
        Ok(handle)
    }

    /// Reads a block from `at` on, in place of the one used longest ago.
    fn load(&mut self, handle: &Handle, at: u64, length: usize) -> io::Result<&Block> {
        let mut block = if self.blocks.len() < BLOCKS { Block::default() } else { self.blocks.remove(0) };
        block.segment = handle.segment;
        block.at = at;
        block.used = 0;
        block.bytes.resize(length, 0);
        let mut filled = 0;
        let outcome = loop {
            match handle.file.read_at(&mut block.bytes[filled..], at + filled as u64) {
                Ok(0) => break Ok(()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        block.bytes.truncate(filled);
        self.blocks.push(block);
        outcome?;
        self.blocks.last().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The envelope at a place; `None` where it is damaged: its events go without it.
    fn envelope(&mut self, disk: &Disk, at: Position) -> io::Result<Option<Bytes>> {
        if let Some((_, envelope)) = self.envelope.as_ref().filter(|(known, _)| *known == at) {
            return Ok(Some(envelope.clone()));
        }
        match self.read(disk, at, &|frame| envelope_in(&frame).map(Bytes::copy_from_slice)) {
            Ok(envelope) => {
                self.envelope = Some((at, envelope.clone()));
                Ok(Some(envelope))
            }
            Err(ReadError::Io(error)) => Err(error),
            Err(ReadError::Damaged(_)) => {
                if self.lost.len() >= MISSED_MAX {
                    self.lost.clear();
                }
                if self.lost.insert(at) {
                    tracing::warn!(at = at.0, "what a batch says of all its events is damaged: they go without it");
                    disk.met_damage();
                }
                Ok(None)
            }
        }
    }

    fn read<T>(
        &mut self,
        disk: &Disk,
        at: Position,
        take: &dyn Fn(frame::Frame<'_>) -> Option<T>,
    ) -> Result<T, ReadError> {
        let damaged = ReadError::Damaged(at);
        let (segment, offset) = split(at);
        let handle = self.handle(disk, segment).map_err(|error| failed(error, at))?;
        if let Some(at) = self.blocks.iter().position(|block| block.holds(segment, offset)) {
            let block = self.blocks.remove(at);
            self.blocks.push(block);
            if let Some(taken) = self.taken(segment, offset, handle.seed, take) {
                return taken.ok_or(damaged);
            }
        }
        let mut length = SMALL_BLOCK;
        if let Some(at) = self.blocks.iter().position(|block| block.is_followed_by(segment, offset)) {
            // It is read on from here: its successor takes its place.
            let block = self.blocks.remove(at);
            length = block.next_bytes();
            self.blocks.insert(0, block);
        }
        let block = self.load(&handle, offset, length)?;
        let span = frame::claimed_span(block.bytes.get(..HEADER).unwrap_or_default());
        let span = span.ok_or(ReadError::Damaged(at))?;
        if span > block.bytes.len() {
            self.load(&handle, offset, span)?;
        }
        self.taken(segment, offset, handle.seed, take).flatten().ok_or(damaged)
    }

    /// The same of the block that was used last; `None` where no undamaged frame stands there.
    fn taken<T>(
        &mut self,
        segment: u32,
        at: u64,
        seed: Seed,
        take: &dyn Fn(frame::Frame<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let block = self.blocks.last_mut()?;
        let frame = block.frame(segment, at, seed)?;
        let span = frame::span(frame.payload.len());
        let taken = take(frame);
        block.used += span;
        Some(taken)
    }
}

/// Set in a state's position where the record tells what is shown of the incident.
const VIEW: u64 = 1 << 63;
/// Segments are numbered up to here.
pub(super) const SEGMENT_MAX: u32 = u32::MAX / 2;

/// Segment and offset of a position.
pub(super) fn split(at: Position) -> (u32, u64) {
    (u32::try_from(bare(at).0 >> 32).unwrap_or(u32::MAX), at.0 & u64::from(u32::MAX))
}

/// A record's position as a state has it.
pub(super) fn with_view(at: Position, shows: bool) -> Position {
    Position(at.0 | if shows { VIEW } else { 0 })
}

pub(super) fn has_view(at: Position) -> bool {
    at.0 & VIEW != 0
}

/// The position alone.
pub(super) fn bare(at: Position) -> Position {
    Position(at.0 & !VIEW)
}

pub(super) fn join(segment: u32, offset: u32) -> Position {
    Position(u64::from(segment) << 32 | u64::from(offset))
}

/// The event in a frame: as it was accepted or rejected, or a copy of that.
pub(super) fn event_in<'a>(frame: &Frame<'a>) -> Option<Accepted<'a>> {
    let is_event = Kind::is_first(frame.kind) || frame.kind == Kind::Moved as u8;
    if is_event && frame.version == VERSION { Accepted::decode(frame.payload) } else { None }
}

/// What a batch says of all its events, if the frame says that.
pub(super) fn envelope_in<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    (frame.kind == Kind::Envelope as u8 && frame.version == VERSION).then_some(frame.payload)
}

/// What is shown of an incident, if the frame tells that.
pub(super) fn snapshot_in<'a>(frame: &Frame<'a>) -> Option<Snapshot<'a>> {
    match Kind::from_code(frame.kind).filter(|_| frame.version == VERSION)? {
        Kind::Snapshot => Snapshot::decode(frame.payload),
        Kind::Accepted => Snapshot::of(&Accepted::decode(frame.payload)?),
        _ => None,
    }
}

/// What a state's record tells, whether or not something is shown of the incident.
pub(super) fn shown_in(frame: &Frame<'_>) -> Option<Shown> {
    match snapshot_in(frame) {
        Some(snapshot) => {
            let raw = event_in(frame).map(|event| event.to_raw());
            snapshot.to_shown(raw)
        }
        None => event_in(frame)?.to_shown(),
    }
}

/// The place of an event's envelope, by the event's own.
pub(super) fn beside(event: Position, offset: u32) -> Position {
    join(split(event).0, offset)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(super) fn event(&self, disk: &Disk, at: Position) -> Result<Stored, ReadError> {
        let mut cache = lock(&self.cache);
        let (mut stored, envelope_at) = cache.read(disk, at, &|frame| {
            let event = event_in(&frame)?;
            Some((event.to_stored(frame.sequence)?, event.envelope_at()))
        })?;
        if let Some(offset) = envelope_at {
            stored.event.envelope = cache.envelope(disk, beside(at, offset))?;
        }
        Ok(stored)
    }

    /// What is shown of an incident, ready to be copied: the sequence of its record and a payload.
    pub(super) fn snapshot(
        &self,
        disk: &Disk,
        key: StateKey,
        incident: Incident,
        from: Position,
    ) -> Result<(u64, Vec<u8>), ReadError> {
        lock(&self.cache).read(disk, bare(from), &|frame| {
            let snapshot = snapshot_in(&frame)?.of_state(key, incident, from);
            let mut payload = vec![];
            snapshot.put(&mut payload);
            Some((frame.sequence, payload))
        })
    }

    /// What a state's record tells: mostly one call to the disk, and no lock is held over it.
    pub(super) fn shown(&self, disk: &Disk, at: Position) -> Result<Shown, ReadError> {
        self.single(disk, at, shown_in)
    }

    /// An event, with its envelope, read for itself: the block that a reader in log order is at stays.
    pub(super) fn alone(&self, disk: &Disk, at: Position) -> Result<Stored, ReadError> {
        let (mut stored, envelope_at) = self.single(disk, at, |frame| {
            let event = event_in(frame)?;
            Some((event.to_stored(frame.sequence)?, event.envelope_at()))
        })?;
        if let Some(offset) = envelope_at {
            let envelope = |frame: &Frame<'_>| envelope_in(frame).map(Bytes::copy_from_slice);
            stored.event.envelope = Some(self.single(disk, beside(at, offset), envelope)?);
        }
        Ok(stored)
    }

    fn single<T>(&self, disk: &Disk, at: Position, read: impl FnOnce(&Frame<'_>) -> Option<T>) -> Result<T, ReadError> {
        let at = bare(at);
        let (segment, offset) = split(at);
        let handle = self.handle(disk, segment).map_err(|error| failed(error, at))?;
        let mut bytes = handle.bytes(offset, SHOWN_BLOCK)?;
        let span = frame::claimed_span(&bytes).ok_or(ReadError::Damaged(at))?;
        if span > bytes.len() && bytes.len() == SHOWN_BLOCK {
            bytes.extend(handle.bytes(offset + SHOWN_BLOCK as u64, span - SHOWN_BLOCK)?);
        }
        frame::parse(&bytes, handle.seed).and_then(|frame| read(&frame)).ok_or(ReadError::Damaged(at))
    }

    fn handle(&self, disk: &Disk, segment: u32) -> io::Result<Handle> {
        let known = |handles: &[Handle]| handles.iter().find(|handle| handle.segment == segment).cloned();
        if let Some(handle) = known(&lock(&self.handles)) {
            return Ok(handle);
        }
        let opened = Handle::open(disk, segment)?;
        let mut handles = lock(&self.handles);
        if let Some(handle) = known(&handles) {
            return Ok(handle);
        }
        if handles.len() >= SHOWN_FILES_MAX {
            handles.remove(0);
        }
        handles.push(opened.clone());
        Ok(opened)
    }

    /// The envelope of an event, which says at which offset it stands.
    ///
    /// # Errors
    /// The file cannot be read just now.
    pub(super) fn envelope(&self, disk: &Disk, event: Position, offset: u32) -> io::Result<Option<Bytes>> {
        lock(&self.cache).envelope(disk, beside(event, offset))
    }

    /// The payload of an event's record, as it was accepted, with its envelope in it.
    pub(super) fn payload(&self, disk: &Disk, at: Position) -> Result<Vec<u8>, ReadError> {
        let mut cache = lock(&self.cache);
        let (payload, beside_it) = cache.read(disk, at, &|frame| {
            let event = event_in(&frame)?;
            let beside_it = match event.envelope {
                Some(Envelope::At { offset, from }) => Some((offset, from)),
                Some(Envelope::Here(_)) | None => None,
            };
            Some((frame.payload[..frame.payload.len() - event.rest.len()].to_vec(), beside_it))
        })?;
        let Some((offset, from)) = beside_it else { return Ok(payload) };
        let envelope = cache.envelope(disk, beside(at, offset))?;
        with_envelope(&payload, from, envelope.as_deref()).ok_or(ReadError::Damaged(at))
    }

    /// The segment's file is not held open any longer.
    pub(super) fn forget(&self, segment: u32) {
        lock(&self.handles).retain(|handle| handle.segment != segment);
        let mut cache = lock(&self.cache);
        cache.handles.retain(|handle| handle.segment != segment);
        cache.envelope.take_if(|(at, _)| split(*at).0 == segment);
    }

    /// Looks for events by their sequences, in order, and gives `found` each one with its place; one that is not
    /// there, or damaged, is left out.
    ///
    /// `insists`: one in a part that the disk cannot read is never given up.
    ///
    /// # Errors
    /// A file cannot be read just now.
    pub(super) fn find(
        &self,
        disk: &Disk,
        places: &Mutex<Places>,
        sequences: &[u64],
        insists: bool,
        found: &mut dyn FnMut(Position, Frame<'_>),
    ) -> io::Result<()> {
        let mut rest = sequences;
        while let Some((first, later)) = rest.split_first() {
            let hint = lock(places).hint(*first);
            let Some(Hint { segment, offset }) = hint else {
                rest = later;
                continue;
            };
            let end = lock(places).end(segment);
            let handle = lock(&self.cache).handle(disk, segment);
            let handle = match handle {
                Ok(handle) => handle,
                // No such segment, or one that nothing can be read in.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    rest = later;
                    continue;
                }
                Err(error) if insists || lock(&self.cache).may_try_again(*first) => return Err(error),
                Err(_) => {
                    rest = later;
                    continue;
                }
            };
            // What stands close by is met on the way.
            let mut marks = vec![];
            let scan = Scan::over(&*handle.file, handle.seed)?;
            let mut scan = scan.starting_at(offset.into()).in_small_steps();
            let before = rest.len();
            let mut passed_over = None;
            loop {
                let (at, frame) = match scan.next() {
                    Next::Frame { at, frame } => (at, frame),
                    Next::Damage { from, to } => {
                        disk.set_aside(&*handle.file, segment, from, to);
                        continue;
                    }
                    Next::End { from, to } => {
                        // It ends before what is known to stand in it.
                        disk.set_aside(&*handle.file, segment, from, to);
                        break;
                    }
                };
                if !Kind::is_first(frame.kind) {
                    continue;
                }
                let sequence = frame.sequence;
                marks.push((sequence, at));
                while let Some(missed) = rest.first().filter(|wanted| **wanted < sequence) {
                    passed_over.get_or_insert(*missed);
                    rest = &rest[1..];
                }
                if rest.first() == Some(&sequence) {
                    found(join(segment, at), frame);
                    rest = &rest[1..];
                }
                // The next one may be far away, and there is a mark before it.
                let Some(next) = rest.first() else { break };
                let follows = *next == sequence + 1 && *next < end;
                let elsewhere = |hint: Hint| hint.segment != segment || hint.offset > at;
                if !follows && lock(places).hint(*next).is_none_or(elsewhere) {
                    break;
                }
            }
            let unreadable = scan.failure();
            let mut places = lock(places);
            marks.iter().for_each(|(sequence, at)| places.mark(segment, *sequence, *at));
            drop(places);
            // Not in the segment that it would stand in.
            let missed = passed_over.or_else(|| (rest.len() == before).then_some(*first));
            if let (Some(missed), Some(error)) = (missed, unreadable)
                && (insists || lock(&self.cache).may_try_again(missed))
            {
                return Err(error);
            }
            if rest.len() == before {
                rest = later;
            }
        }
        Ok(())
    }
}
