//! How much the log can still take: for the status page, which says how long the space lasts.

use std::sync::atomic::Ordering;

use super::Store;

/// The spool's room at a moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// `spool.max_bytes`.
    pub max: u64,
    /// What all files take, the unwritten rest of the last one with them.
    pub taken: u64,
    /// Of that: segments that nobody needs, which go before anything is refused,
    pub releasable: u64,
    /// and the rest of the segment that is written to, with those made ahead of time.
    pub unwritten: u64,
    /// Kept free for what all that waits is owed, and for the next checkpoint: new events may not take it.
    pub reserved: u64,
    /// Written since the start.
    pub placed: u64,
}

impl Room {
    /// What new events may take before any is refused, as far as `max` goes.
    pub fn free(&self) -> u64 {
        let (left, inside) = (self.max.saturating_sub(self.taken), self.releasable.saturating_add(self.unwritten));
        left.saturating_add(inside).saturating_sub(self.reserved)
    }
}

impl Store {
    /// Looks at every segment once: a few microseconds each.
    pub fn room(&self) -> Room {
        let core = &self.core;
        let sealed = core.places().ranges();
        let sealed = sealed.into_iter().filter(|(_, _, sealed_at)| sealed_at.is_some());
        let releasable = sealed
            .filter(|(_, sequences, _)| core.lock().standing.living(sequences, 1, |_| true).is_empty())
            .map(|(id, ..)| core.disk.segment_bytes(id))
            .sum();
        let pending = core.lock();
        let (segment, end) = pending.tail();
        let rest = u64::from(pending.sizes().0.saturating_sub(end));
        let (placed, taken) = (pending.placed_bytes, core.disk.bytes());
        core.set_reserve(&pending);
        drop(pending);
        let unwritten = rest.saturating_add(core.shelf.blank_bytes(segment));
        let reserved = core.reserve.load(Ordering::Relaxed);
        Room { max: core.max_bytes, taken, releasable, unwritten, reserved, placed }
    }
}
