//! What was written last, still in memory: a forwarder that keeps up never reads the disk.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::frame::{self, Frame};
use super::pending::{Batch, Chunk};
use super::reader::{bare, beside, envelope_in, event_in, join, shown_in, split};
use super::{Shown, Stored};
use crate::claim::Position;

/// About a second of a storm on one core; then the reader's own blocks serve.
const BYTES_MAX: usize = 8 << 20;

/// One commit as it was written.
struct Commit {
    buffer: Vec<u8>,
    chunks: Vec<Chunk>,
}

impl Commit {
    /// Bytes of memory: a small commit's buffer may be much larger than what stands in it.
    fn bytes(&self) -> usize {
        self.buffer.capacity() + self.chunks.capacity() * size_of::<Chunk>() + size_of::<Self>()
    }

    fn begins(&self) -> Option<Position> {
        self.chunks.first().map(|chunk| join(chunk.segment, chunk.at))
    }

    /// The bytes from `at` on, if they stand here.
    fn from(&self, at: Position) -> Option<&[u8]> {
        let (segment, offset) = split(at);
        let chunk = self.chunks.iter().rev().find(|chunk| join(chunk.segment, chunk.at) <= at)?;
        let inside = usize::try_from(offset.checked_sub(u64::from(chunk.at))?).ok()?;
        (chunk.segment == segment).then(|| self.buffer.get(chunk.from.saturating_add(inside)..))?
    }
}

#[derive(Default)]
struct Commits {
    /// In the order of the log.
    kept: VecDeque<Commit>,
    bytes: usize,
    /// The envelope that was asked for last: the events of a batch follow each other.
    envelope: Option<(Position, Bytes)>,
}

impl Commits {
    fn frame(&self, at: Position) -> Option<Frame<'_>> {
        let after = self.kept.partition_point(|commit| commit.begins() <= Some(at));
        frame::view(self.kept.get(after.checked_sub(1)?)?.from(at)?)
    }

    fn envelope(&mut self, at: Position) -> Option<Bytes> {
        if let Some((_, envelope)) = self.envelope.as_ref().filter(|(known, _)| *known == at) {
            return Some(envelope.clone());
        }
        let envelope = Bytes::copy_from_slice(envelope_in(&self.frame(at)?)?);
        self.envelope = Some((at, envelope.clone()));
        Some(envelope)
    }
}

#[derive(Default)]
pub(super) struct Recent(Mutex<Commits>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a commit wrote; `batch` gets the largest room of the oldest in exchange, and no less than it had use for:
    /// a buffer that grows while requests are put into it is copied over and over.
    pub(super) fn put(&self, batch: &mut Batch) {
        let used = batch.buffer.len();
        let mut commits = self.lock();
        let commit = Commit { buffer: std::mem::take(&mut batch.buffer), chunks: std::mem::take(&mut batch.chunks) };
        commits.bytes += commit.bytes();
        commits.kept.push_back(commit);
        while commits.bytes > BYTES_MAX {
            let Some(oldest) = commits.kept.pop_front() else { break };
            commits.bytes -= oldest.bytes();
            if oldest.buffer.capacity() >= batch.buffer.capacity() {
                let Commit { mut buffer, mut chunks } = oldest;
                buffer.clear();
                chunks.clear();
                (batch.buffer, batch.chunks) = (buffer, chunks);
            }
        }
        drop(commits);
        batch.buffer.reserve(used.min(BYTES_MAX / 8));
    }

    /// The event at `at`, if it was written lately, and its envelope, too.
    pub(super) fn event(&self, at: Position) -> Option<Stored> {
        let mut commits = self.lock();
        let frame = commits.frame(at)?;
        let event = event_in(&frame)?;
        let mut stored = event.to_stored(frame.sequence)?;
        if let Some(offset) = event.envelope_at() {
            stored.event.envelope = Some(commits.envelope(beside(at, offset))?);
        }
        Some(stored)
    }

    /// What a state's record tells, if it was written lately.
    pub(super) fn shown(&self, at: Position) -> Option<Shown> {
        shown_in(&self.lock().frame(bare(at))?)
    }
}
