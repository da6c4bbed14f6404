//! Reads single records back for the forwarder and for `details`. A reader in log order costs about one
//! system call for each block.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Disk, File};
use super::frame::{self, Frame, HEADER, Kind, Seed};
use super::places::{Hint, Places};
use super::record::{Accepted, VERSION};
use super::scan::{self, Next, Scan};
use super::{ReadError, Stored};
use crate::claim::Position;

/// Segments held open; the process has descriptors for others too.
const FILES_MAX: usize = 64;
/// Read ahead where reads follow each other: at 1 KB a record one call in 256.
const BLOCK: usize = 256 << 10;
/// Read where they do not.
const SMALL_BLOCK: usize = 16 << 10;
/// Looks for an event that the disk cannot read, before it counts as damaged.
/// A second apart: ten minutes.
const TRIES_MAX: u32 = 600;
/// Events that are counted so; a disk that fails in more places than this is given up on later.
const MISSED_MAX: usize = 1024;
/// Blocks held: one for each place in the log that is being read on from (queue, retries, looks).
const BLOCKS: usize = 4;

#[derive(Default)]
struct Block {
    segment: u32,
    at: u64,
    bytes: Vec<u8>,
}

impl Block {
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
}

#[derive(Clone)]
struct Handle {
    segment: u32,
    file: Arc<dyn File>,
    seed: Seed,
}

#[derive(Default)]
struct Cache {
    /// Last used last.
    handles: Vec<Handle>,
    blocks: Vec<Block>,
    /// Events in parts that the disk could not read, and how often each was looked for.
    missed: BTreeMap<u64, u32>,
}

#[derive(Default)]
pub(super) struct Reader(Mutex<Cache>);

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
        let file = disk.open_segment(segment)?;
        let Some(head) = scan::head(&*file) else {
            // A disk that cannot read it now is not a file that has none.
            let mut page = [0; 4096];
            let read = file.read_exact_at(&mut page, 0);
            let missing = io::Error::from(io::ErrorKind::InvalidData);
            return Err(read.err().filter(|error| error.kind() != io::ErrorKind::UnexpectedEof).unwrap_or(missing));
        };
        let handle = Handle { segment, file: Arc::from(file), seed: Seed::of(head.salt) };
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

    fn read<T>(
        &mut self,
        disk: &Disk,
        at: Position,
        take: &dyn Fn(frame::Frame<'_>) -> Option<T>,
    ) -> Result<T, ReadError> {
        let damaged = ReadError::Damaged(at);
        let (segment, offset) = split(at);
        let handle = match self.handle(disk, segment) {
            Ok(handle) => handle,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Err(damaged);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(at) = self.blocks.iter().position(|block| block.frame(segment, offset, handle.seed).is_some()) {
            let block = self.blocks.remove(at);
            let taken = block.frame(segment, offset, handle.seed).and_then(take);
            self.blocks.push(block);
            return taken.ok_or(damaged);
        }
        let follows = self.blocks.iter().position(|block| block.is_followed_by(segment, offset));
        if let Some(at) = follows {
            // It is read on from here: its successor takes its place.
            let block = self.blocks.remove(at);
            self.blocks.insert(0, block);
        }
        let length = if follows.is_some() { BLOCK } else { SMALL_BLOCK };
        let block = self.load(&handle, offset, length)?;
        let span = frame::claimed_span(block.bytes.get(..HEADER).unwrap_or_default());
        let span = span.ok_or(ReadError::Damaged(at))?;
        let block = if span > block.bytes.len() { self.load(&handle, offset, span)? } else { block };
        block.frame(segment, offset, handle.seed).and_then(take).ok_or(damaged)
    }
}

/// Segment and offset of a position.
pub(super) fn split(at: Position) -> (u32, u64) {
    (u32::try_from(at.0 >> 32).unwrap_or(u32::MAX), at.0 & u64::from(u32::MAX))
}

pub(super) fn join(segment: u32, offset: u32) -> Position {
    Position(u64::from(segment) << 32 | u64::from(offset))
}

/// The event in a frame: as it was accepted or rejected, or a copy of that.
pub(super) fn event_in<'a>(frame: &Frame<'a>) -> Option<Accepted<'a>> {
    let is_event = Kind::is_first(frame.kind) || frame.kind == Kind::Moved as u8;
    if is_event && frame.version == VERSION { Accepted::decode(frame.payload) } else { None }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(super) fn event(&self, disk: &Disk, at: Position) -> Result<Stored, ReadError> {
        lock(&self.0).read(disk, at, &|frame| event_in(&frame)?.to_stored(frame.sequence))
    }

    /// The payload of an event's record, as it was accepted.
    pub(super) fn payload(&self, disk: &Disk, at: Position) -> Result<Vec<u8>, ReadError> {
        lock(&self.0).read(disk, at, &|frame| {
            let rest = event_in(&frame)?.rest.len();
            Some(frame.payload[..frame.payload.len() - rest].to_vec())
        })
    }

    /// The segment's file is not held open any longer.
    pub(super) fn forget(&self, segment: u32) {
        lock(&self.0).handles.retain(|handle| handle.segment != segment);
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
            let handle = lock(&self.0).handle(disk, segment);
            let handle = match handle {
                Ok(handle) => handle,
                // No such segment, or one that nothing can be read in.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    rest = later;
                    continue;
                }
                Err(error) if insists || lock(&self.0).may_try_again(*first) => return Err(error),
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
                marks.push((frame.sequence, at));
                while let Some(missed) = rest.first().filter(|wanted| **wanted < frame.sequence) {
                    passed_over.get_or_insert(*missed);
                    rest = &rest[1..];
                }
                if rest.first() == Some(&frame.sequence) {
                    found(join(segment, at), frame);
                    rest = &rest[1..];
                }
                // The next one may be far away, and there is a mark before it.
                let next = rest.first().and_then(|next| lock(places).hint(*next));
                if next.is_none_or(|hint| hint.segment != segment || hint.offset > at) {
                    break;
                }
            }
            let unreadable = scan.met_unreadable();
            let mut places = lock(places);
            marks.iter().for_each(|(sequence, at)| places.mark(segment, *sequence, *at));
            drop(places);
            // Not in the segment that it would stand in.
            let missed = passed_over.or_else(|| (rest.len() == before).then_some(*first));
            if let Some(missed) = missed
                && unreadable
                && (insists || lock(&self.0).may_try_again(missed))
            {
                return Err(io::Error::other("a part of the log cannot be read"));
            }
            if rest.len() == before {
                rest = later;
            }
        }
        Ok(())
    }
}
