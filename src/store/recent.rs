//! What was written last, still in memory: a forwarder that keeps up never reads the disk.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stored;
use super::frame;
use super::pending::{Batch, Chunk};
use super::reader::{event_in, join, split};
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
}

#[derive(Default)]
pub(super) struct Recent(Mutex<Commits>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a commit wrote; `batch` gets the oldest one's room in exchange.
    pub(super) fn put(&self, batch: &mut Batch) {
        let mut commits = self.lock();
        let commit = Commit { buffer: std::mem::take(&mut batch.buffer), chunks: std::mem::take(&mut batch.chunks) };
        commits.bytes += commit.bytes();
        commits.kept.push_back(commit);
        while commits.bytes > BYTES_MAX {
            let Some(oldest) = commits.kept.pop_front() else { break };
            commits.bytes -= oldest.bytes();
            let Commit { mut buffer, mut chunks } = oldest;
            buffer.clear();
            chunks.clear();
            (batch.buffer, batch.chunks) = (buffer, chunks);
        }
    }

    /// The event at `at`, if it was written lately.
    pub(super) fn event(&self, at: Position) -> Option<Stored> {
        let commits = self.lock();
        let after = commits.kept.partition_point(|commit| commit.begins() <= Some(at));
        let frame = frame::view(commits.kept.get(after.checked_sub(1)?)?.from(at)?)?;
        event_in(&frame)?.to_stored(frame.sequence)
    }
}
