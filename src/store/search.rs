//! Searches the log for `history`: from front to back, within a budget, for an event by its uid or for the newest on a
//! key. Reads alone.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::Store;
use super::frame::{self, Frame, Kind};
use super::history::Draft;
use super::reader::{event_in, join, split};
use super::record::{Accepted, VERSION};
use super::scan::{self, Next, Scan};
use crate::claim::Position;
use crate::event::{Micros, Uid};

/// An event's record may stand so much behind its stamp: it waited in its key's line (10 s at most) and for the disk,
/// and two threads take their stamps in another order than they reach the log.
const STAMP_SLACK: Duration = Duration::from_secs(60);
/// Frames between two looks at the clock.
const FRAMES_A_LOOK: u32 = 256;

/// What may still be read, and until when.
pub(super) struct Budget {
    bytes: u64,
    until: Instant,
    looks: u32,
}

impl Budget {
    pub(super) fn new(bytes: u64, until: Instant) -> Self {
        Self { bytes, until, looks: 0 }
    }

    pub(super) fn extend(&mut self, bytes: u64, until: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.until = until;
    }

    /// False: it is spent.
    fn take(&mut self, bytes: usize) -> bool {
        self.looks += 1;
        let left = self.bytes.checked_sub(bytes as u64);
        self.bytes = left.unwrap_or(0);
        left.is_some() && (!self.looks.is_multiple_of(FRAMES_A_LOOK) || Instant::now() < self.until)
    }
}

/// How a walk over a segment ended.
pub(super) enum Walked {
    /// At the last record; it may go on from here.
    End(u64),
    Stopped,
    Spent,
    /// There is no such segment any more.
    Gone,
}

impl Store {
    /// Where the log on disk ends.
    pub(super) fn written_to(&self) -> (u32, u64) {
        let pending = self.core.lock();
        // Nothing of this process yet: all that stands there is of those before it.
        if pending.durable == Position(0) { (pending.tail().0, 0) } else { split(pending.durable) }
    }

    /// Gives `visit` the records of a segment from an offset on, until it says to stop.
    pub(super) fn walk(
        &self,
        (segment, from): (u32, u64),
        budget: &mut Budget,
        visit: &mut dyn FnMut(Position, &Frame<'_>) -> bool,
    ) -> io::Result<Walked> {
        let file = match self.core.disk.open_segment(segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Walked::Gone),
            file => file?,
        };
        let Some(head) = scan::head(&*file)? else { return Ok(Walked::End(from)) };
        let (last, end) = self.written_to();
        let size = file.size()?;
        // What stands behind it is being written, or blank.
        let bytes = if segment < last { size } else { size.min(end) };
        let mut scan = Scan::new(&*file, bytes, head.salt).starting_at(from);
        loop {
            match scan.next() {
                Next::Frame { at, frame } => {
                    if !budget.take(frame::span(frame.payload.len())) {
                        return Ok(Walked::Spent);
                    }
                    if frame.version == VERSION && !visit(join(segment, at), &frame) {
                        return Ok(Walked::Stopped);
                    }
                }
                Next::Damage { from, to } => {
                    if !budget.take(usize::try_from(to - from).unwrap_or(usize::MAX)) {
                        return Ok(Walked::Spent);
                    }
                }
                Next::End { from, .. } => return Ok(Walked::End(from)),
            }
        }
    }

    /// The event of this name, if the log has it; whether all that can hold it was read; since when the log tells.
    pub(super) fn find_uid(&self, uid: Uid, budget: &mut Budget) -> io::Result<(Vec<Draft>, bool, Option<Micros>)> {
        let slack = i64::try_from(STAMP_SLACK.as_micros()).unwrap_or(i64::MAX);
        let (earliest, latest) = (uid.made_at().0.saturating_sub(slack), uid.made_at().0.saturating_add(slack));
        let ranges = self.core.places().ranges();
        let since = ranges.first().map(|(id, ..)| self.first_stamp(*id)).transpose()?.flatten();
        let mut found = None;
        let mut spent = false;
        let candidates = ranges.iter().filter(|(_, _, sealed)| sealed.is_none_or(|at| at.0 >= earliest));
        for (id, ..) in candidates {
            let walked = self.walk((*id, 0), budget, &mut |at, frame| {
                let Some(event) = event_in(frame) else { return true };
                if event.uid == uid {
                    found = Draft::new(at, frame.kind, &event, frame.sequence);
                    return false;
                }
                // Copies stand among later events.
                frame.kind == Kind::Moved as u8 || event.received_at.0 <= latest
            })?;
            match walked {
                Walked::End(_) | Walked::Gone => {}
                Walked::Stopped => break,
                Walked::Spent => {
                    spent = true;
                    break;
                }
            }
        }
        if found.is_none() && !spent {
            (found, spent) = self.find_moved(uid, budget)?;
        }
        Ok((found.into_iter().collect(), !spent, since))
    }

    /// Among the events whose segments are gone. The flag: not all could be looked at.
    fn find_moved(&self, uid: Uid, budget: &mut Budget) -> io::Result<(Option<Draft>, bool)> {
        let moved = self.core.lock().standing.moved.clone();
        for (sequence, at) in moved {
            let (segment, offset) = split(at);
            let mut found = None;
            let walked = self.walk((segment, offset), budget, &mut |at, frame| {
                let event = event_in(frame).filter(|event| event.uid == uid && frame.sequence == sequence);
                found = event.and_then(|event| Draft::new(at, frame.kind, &event, sequence));
                false
            })?;
            if found.is_some() || matches!(walked, Walked::Spent) {
                return Ok((found, matches!(walked, Walked::Spent)));
            }
        }
        Ok((None, false))
    }

    /// When the first event of a segment came.
    fn first_stamp(&self, segment: u32) -> io::Result<Option<Micros>> {
        let mut stamp = None;
        let mut few = Budget::new(16 << 20, Instant::now() + Duration::from_secs(1));
        self.walk((segment, 0), &mut few, &mut |_, frame| {
            stamp = event_in(frame).filter(|_| Kind::is_first(frame.kind)).map(|event| event.received_at);
            stamp.is_none()
        })?;
        Ok(stamp)
    }

    /// The newest events that `is_sought`, oldest first: segment by segment, the newest first, from where the state was
    /// written on.
    pub(super) fn find_newest(
        &self,
        is_sought: &dyn Fn(&Accepted<'_>) -> bool,
        last_at: Option<Position>,
        newest: usize,
        budget: &mut Budget,
    ) -> io::Result<(Vec<Draft>, bool, Option<Micros>)> {
        let mut order: Vec<u32> = self.core.places().ranges().into_iter().map(|(id, ..)| id).rev().collect();
        if let Some((last, _)) = last_at.map(split) {
            // What the state does not know of may stand behind it.
            order.sort_by_key(|id| *id > last);
        }
        let mut found = BTreeMap::<u64, Draft>::new();
        let (mut complete, mut since) = (true, None::<Micros>);
        for (nth, id) in order.iter().enumerate() {
            let walked = self.walk((*id, 0), budget, &mut |at, frame| {
                let Some(event) = event_in(frame) else { return true };
                if Kind::is_first(frame.kind) {
                    since = Some(since.map_or(event.received_at, |since| since.min(event.received_at)));
                }
                if is_sought(&event)
                    && let Some(draft) = Draft::new(at, frame.kind, &event, frame.sequence)
                {
                    // Of an event and its copy the one that was first tells more.
                    found.insert(frame.sequence, draft);
                    if found.len() > newest {
                        found.pop_first();
                        complete = false;
                    }
                }
                true
            })?;
            if matches!(walked, Walked::Spent) {
                complete = false;
                break;
            }
            if found.len() >= newest {
                complete &= nth + 1 == order.len();
                break;
            }
        }
        Ok((found.into_values().collect(), complete, since))
    }
}
