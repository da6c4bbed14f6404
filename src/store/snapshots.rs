//! What answers show of incidents (`Event::view`) stands in each incident's last record, and outlives that record's
//! segment: before the segment goes, the keeper copies it to the end of the log, without the body, and tells the states
//! where it is now. Which segments hold some is seen when the states are written down anyway: at each checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::{Reader, bare, has_view, join, split};
use super::{Core, ReadError, States};
use crate::claim::Position;
use crate::event::{StateKey, Uid};

/// Keys that are remembered, 16 B each: those of the oldest segments. The others come with later checkpoints.
const KEYS_MAX: usize = 65_536;
/// Incidents that are copied at once,
const COPIED_MAX: usize = 4096;
/// and about so many bytes.
const COPIED_BYTES_MAX: usize = 4 << 20;
/// A segment of which more than this part is shown stays until its incidents change: copying would not make room.
const SHOWN_PART: u64 = 2;

/// The segments that hold what is shown, as the last look at all states found it. For sealed segments it only becomes
/// less: a state never goes back to one.
#[derive(Default)]
pub(super) struct Views {
    /// Segments from here on were not looked at.
    upto: u32,
    /// Of the others, those that hold some, with keys that are not copied yet.
    old: BTreeMap<u32, Vec<StateKey>>,
    keys: usize,
    /// Some were copied since.
    pub(super) told: bool,
}

impl Views {
    /// For a look at all states while everything before the segment is in them.
    pub(super) fn upto(upto: u32) -> Self {
        Self { upto, ..Self::default() }
    }

    pub(super) fn see(&mut self, key: StateKey, at: Position) {
        let (segment, _) = split(at);
        if !has_view(at) || segment >= self.upto {
            return;
        }
        let last = self.old.last_key_value().map(|(last, _)| *last);
        let keys = self.old.entry(segment).or_default();
        if self.keys < KEYS_MAX {
            keys.push(key);
            self.keys += 1;
        } else if let Some(newest) = last.filter(|last| *last > segment)
            && let Some(other) = self.old.get_mut(&newest)
            // One that was emptied before stays as it is: there are older ones to be kept.
            && other.pop().is_some()
            && let Some(keys) = self.old.get_mut(&segment)
        {
            keys.push(key);
        }
    }

    /// Whether a sealed segment may hold something that is shown.
    pub(super) fn may_hold(&self, segment: u32) -> bool {
        segment >= self.upto || self.old.contains_key(&segment)
    }

    /// Whether some of it can be copied now.
    pub(super) fn has_keys(&self, segment: u32) -> bool {
        self.old.get(&segment).is_some_and(|keys| !keys.is_empty())
    }

    /// Takes some keys, and says how many there were.
    fn take(&mut self, segment: u32) -> (Vec<StateKey>, usize) {
        let Some(keys) = self.old.get_mut(&segment) else { return (vec![], 0) };
        let count = keys.len();
        let taken = keys.split_off(count.saturating_sub(COPIED_MAX));
        self.keys -= taken.len();
        (taken, count)
    }

    fn put_back(&mut self, segment: u32, keys: impl IntoIterator<Item = StateKey>) {
        let known = self.old.entry(segment).or_default();
        let before = known.len();
        known.extend(keys);
        self.keys += known.len() - before;
    }

    /// Nothing of it is copied before the next look.
    fn leave(&mut self, segment: u32) {
        self.keys -= self.old.get_mut(&segment).map_or(0, |keys| std::mem::take(keys).len());
    }
}

/// An incident as it is copied.
struct Copy {
    key: StateKey,
    iid: Uid,
    from: Position,
    sequence: u64,
    payload: Vec<u8>,
}

/// Copies on their way to the disk.
pub(super) struct Snapshots {
    /// Key, incident, and the places before and after.
    moved: Vec<(StateKey, Uid, Position, Position)>,
    /// They are on disk when the log is up to here, and no write failed since.
    end: Position,
    failures: u64,
}

impl Snapshots {
    /// Tells the states of copies that are on disk. `Some`: they are not yet.
    pub(super) fn tell(self, core: &Core, states: &dyn States, views: &mut Views) -> Option<Self> {
        let pending = core.lock();
        if pending.failures != self.failures {
            // They may be lost with what failed; the next look at the states finds them where they were.
            return None;
        }
        if !self.moved.is_empty() && pending.durable < self.end {
            return Some(self);
        }
        drop(pending);
        self.moved.iter().for_each(|(key, iid, from, to)| states.moved(*key, *iid, *from, *to));
        views.told = true;
        None
    }
}

/// Copies what a segment shows to the end of the log, as much as fits into one turn. `None`: nothing was to be copied, or
/// there is no room, and the segment stays.
pub(super) fn copy(
    core: &Arc<Core>,
    reader: &Reader,
    states: &dyn States,
    views: &mut Views,
    segment: u32,
) -> Option<Snapshots> {
    let (keys, count) = views.take(segment);
    let mut copies: Vec<Copy> = vec![];
    let mut bytes = 0;
    let mut left = keys.into_iter();
    while bytes < COPIED_BYTES_MAX
        && let Some(key) = left.next()
    {
        let Some((incident, from)) = states.at(key) else { continue };
        if split(from).0 != segment || !has_view(from) {
            continue;
        }
        match reader.snapshot(&core.disk, key, incident, from) {
            Ok((sequence, payload)) => {
                bytes += payload.len();
                copies.push(Copy { key, iid: incident.iid, from, sequence, payload });
            }
            // Nothing can be shown of it any more, and nothing is gained by keeping the segment.
            Err(ReadError::Damaged(_)) => states.moved(key, incident.iid, from, bare(from)),
            Err(ReadError::Io(error)) => {
                tracing::warn!(%error, segment, "what an old segment of the spool shows cannot be copied now");
                return None;
            }
        }
    }
    let all = bytes as u64 * count as u64 / copies.len().max(1) as u64;
    if all > core.disk.segment_bytes(segment) / SHOWN_PART {
        views.leave(segment);
        return None;
    }
    views.put_back(segment, left);
    let snapshots = place(core, copies);
    core.wake.notify_one();
    if snapshots.is_none() {
        views.leave(segment);
    }
    snapshots
}

fn place(core: &Core, copies: Vec<Copy>) -> Option<Snapshots> {
    let mut pending = core.lock();
    let mut moved = vec![];
    for Copy { key, iid, from, sequence, payload } in copies {
        let Ok(at) = core.place(&mut pending, |pending| pending.place_snapshot(sequence, &payload)) else { break };
        moved.push((key, iid, from, at));
    }
    let ((segment, end), failures) = (pending.tail(), pending.failures);
    (!moved.is_empty()).then(|| Snapshots { moved, end: join(segment, end), failures })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reader::with_view;

    fn at(segment: u32) -> Position {
        with_view(join(segment, 8192), true)
    }

    #[test]
    fn a_look_remembers_the_keys_of_the_oldest_segments_and_which_others_hold_some() {
        let mut views = Views::upto(9);
        for n in 0..KEYS_MAX as u128 {
            views.see(StateKey(n + 1), at(7));
        }
        views.see(StateKey(1 << 100), at(3));
        views.see(StateKey(1 << 101), at(8));
        views.see(StateKey(1 << 102), at(9));
        views.see(StateKey(1 << 103), bare(at(4)));
        let held: Vec<_> = (1..=9).filter(|segment| views.may_hold(*segment)).collect();
        assert_eq!(held, [3, 7, 8, 9], "8 has no room for its key, and 9 was not looked at");
        assert_eq!(views.take(3).0, [StateKey(1 << 100)]);
        assert!(!views.has_keys(8) && views.may_hold(3));
        let (some, count) = views.take(7);
        assert_eq!((some.len(), count), (COPIED_MAX, KEYS_MAX - 1));
        views.put_back(7, some);
        views.leave(7);
        assert_eq!((views.keys, views.may_hold(7)), (0, true));
    }
}
