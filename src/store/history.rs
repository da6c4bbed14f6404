//! What became of an event, as the log tells it: for the admin API, never for a request. There is no index by uid or by
//! key: the log is read, within bounds, from the first segment that can hold the event, and on from the event to its
//! endings. Reads alone; whoever calls it blocks.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};

use super::frame::{self, Frame, Kind};
use super::reader::{event_in, join, split};
use super::record::{Accepted, DeadNote, Ended, Need, Reassigned, VERSION, void_last};
use super::scan::{self, Next, Scan};
use super::{Ending, Store, Stored};
use crate::claim::Position;
use crate::event::{Micros, Uid};
use crate::outcome::DropReason;

/// An event's record may stand so much behind its stamp: it waited in its key's line (10 s at most) and for the disk,
/// and two threads take their stamps in another order than they reach the log.
const STAMP_SLACK: Duration = Duration::from_secs(60);
/// An ending is on disk 50 ms after it was told; on a busy disk later.
const SETTLING: Duration = Duration::from_millis(20);
const SETTLING_TRIES: u32 = 50;
/// Frames between two looks at the clock.
const FRAMES_A_LOOK: u32 = 256;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Sought<'a> {
    Uid(Uid),
    /// The newest events on a canonical key, whatever its family.
    Key {
        integration: &'a str,
        key: &'a str,
        /// Where the key's state was last written: hardly anything newer is on it.
        last_at: Option<Position>,
        newest: usize,
    },
}

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub bytes_max: u64,
    pub time_max: Duration,
}

/// Something that befell an event at one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    pub at: Micros,
    pub upstream: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Ended(Ending),
    /// It goes to this one instead.
    Reassigned(String),
}

/// Where an event stands at one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    Waiting,
    /// As of the last time it died.
    Dead(DeadNote),
    Ended(Ending, Micros),
    /// It ended; when and how stands in a part of the log that is gone, or that was not searched.
    Unknown,
}

/// An event with all that is known of it.
#[derive(Clone, Debug)]
pub struct Traced {
    pub stored: Stored,
    /// In the order of the log.
    pub happened: Vec<Happened>,
    pub upstreams: Vec<(String, Stand)>,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Oldest first.
    pub events: Vec<Traced>,
    /// Nothing was left out: neither events nor what became of them.
    pub complete: bool,
    /// The oldest event that was looked at.
    pub searched_since: Option<Micros>,
}

struct Budget {
    bytes: u64,
    until: Instant,
    looks: u32,
}

impl Budget {
    /// False: it is spent.
    fn take(&mut self, bytes: usize) -> bool {
        self.looks += 1;
        let left = self.bytes.checked_sub(bytes as u64);
        self.bytes = left.unwrap_or(0);
        left.is_some() && (!self.looks.is_multiple_of(FRAMES_A_LOOK) || Instant::now() < self.until)
    }
}

/// How a walk over a segment ended.
enum Walked {
    /// At the last record; it may go on from here.
    End(u64),
    Stopped,
    Spent,
    /// There is no such segment any more.
    Gone,
}

/// An event that was found, while its endings are looked for.
struct Draft {
    at: Position,
    stored: Stored,
    happened: Vec<Happened>,
    /// `None`: not ended as far as was read.
    upstreams: Vec<(String, Option<Stand>)>,
    voided: bool,
}

impl Draft {
    fn new(at: Position, kind: u8, event: &Accepted<'_>, sequence: u64) -> Option<Self> {
        let stored = event.to_stored(sequence)?;
        let mut upstreams: Vec<(String, Option<Stand>)> = event.targets().map(|name| (name.to_owned(), None)).collect();
        if kind == Kind::Moved as u8 {
            // Who is not among those that needed the copy was done with it before.
            let needs = Need::decode_all(event.rest);
            for (name, stand) in &mut upstreams {
                if !needs.iter().any(|need| *need.upstream == **name) {
                    *stand = Some(Stand::Unknown);
                }
            }
            for need in needs {
                if !upstreams.iter().any(|(name, _)| **name == *need.upstream) {
                    upstreams.push((need.upstream.to_string(), None));
                }
            }
        }
        Some(Self { at, stored, happened: vec![], upstreams, voided: false })
    }

    fn open(&self) -> usize {
        if self.voided { 0 } else { self.upstreams.iter().filter(|(_, stand)| stand.is_none()).count() }
    }

    fn stand(&mut self, upstream: &str) -> &mut Option<Stand> {
        let at = self.upstreams.iter().position(|(name, _)| name == upstream).unwrap_or_else(|| {
            self.upstreams.push((upstream.to_owned(), None));
            self.upstreams.len() - 1
        });
        &mut self.upstreams[at].1
    }

    fn take(&mut self, frame: &Frame<'_>, kind: Kind) {
        if kind == Kind::Reassigned {
            let Some(Reassigned { from, to, at, .. }) = Reassigned::decode(frame.payload) else { return };
            *self.stand(from) = Some(Stand::Ended(Ending::Dropped(DropReason::Reassigned), at));
            self.stand(to);
            self.happened.push(Happened { at, upstream: from.to_owned(), what: What::Reassigned(to.to_owned()) });
            return;
        }
        let Some(Ended { upstream, ending, at, .. }) = Ended::decode(kind, frame.payload) else { return };
        *self.stand(upstream) = match ending {
            Ending::Delivered { .. } | Ending::Dropped(_) => Some(Stand::Ended(ending, at)),
            // The log goes on with it: what stands in memory says where it is now.
            Ending::Dead { .. } | Ending::Replayed => None,
        };
        self.happened.push(Happened { at, upstream: upstream.to_owned(), what: What::Ended(ending) });
    }

    fn finish(self, needs: &[Need]) -> Traced {
        let Self { stored, happened, upstreams, .. } = self;
        let stand = |name: &str, ended: Option<Stand>| {
            let need = needs.iter().find(|need| *need.upstream == *name);
            match need.map(|need| need.dead) {
                Some(Some(note)) => Stand::Dead(note),
                Some(None) => Stand::Waiting,
                None => ended.unwrap_or(Stand::Unknown),
            }
        };
        let upstreams = upstreams.into_iter().map(|(name, ended)| (stand(&name, ended), name));
        let upstreams = upstreams.map(|(stand, name)| (name, stand)).collect();
        Traced { stored, happened, upstreams }
    }
}

impl Store {
    /// Looks for events and what became of them. Blocks: it reads up to `bounds` of the log.
    ///
    /// # Errors
    /// A segment cannot be read just now.
    pub fn trace(&self, sought: Sought<'_>, bounds: Bounds) -> io::Result<Trace> {
        let mut budget = Budget { bytes: bounds.bytes_max, until: Instant::now() + bounds.time_max, looks: 0 };
        let (mut drafts, mut complete, searched_since) = match sought {
            Sought::Uid(uid) => self.find_uid(uid, &mut budget)?,
            Sought::Key { integration, key, last_at, newest } => {
                let is_on_key = |event: &Accepted<'_>| event.integration == integration && event.has_key(key);
                self.find_newest(&is_on_key, last_at, newest, &mut budget)?
            }
        };
        complete &= self.follow(&mut drafts, &mut budget)?;
        let pending = self.core.lock();
        let needs: Vec<Vec<Need>> = drafts.iter().map(|draft| pending.standing.needs(draft.stored.sequence)).collect();
        drop(pending);
        let events = drafts.into_iter().zip(needs).filter(|(draft, _)| !draft.voided);
        let events = events.map(|(draft, needs)| draft.finish(&needs)).collect();
        Ok(Trace { events, complete, searched_since })
    }

    /// Where the log on disk ends.
    fn written_to(&self) -> (u32, u64) {
        let pending = self.core.lock();
        // Nothing of this process yet: all that stands there is of those before it.
        if pending.durable == Position(0) { (pending.tail().0, 0) } else { split(pending.durable) }
    }

    /// Gives `visit` the records of a segment from an offset on, until it says to stop.
    fn walk(
        &self,
        (segment, from): (u32, u64),
        budget: &mut Budget,
        visit: &mut dyn FnMut(Position, &Frame<'_>) -> bool,
    ) -> io::Result<Walked> {
        let file = match self.core.disk.open_segment(segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Walked::Gone),
            file => file?,
        };
        let Some(head) = scan::head(&*file) else { return Ok(Walked::End(from)) };
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
    fn find_uid(&self, uid: Uid, budget: &mut Budget) -> io::Result<(Vec<Draft>, bool, Option<Micros>)> {
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
        let mut few = Budget { bytes: 16 << 20, until: Instant::now() + Duration::from_secs(1), looks: 0 };
        self.walk((segment, 0), &mut few, &mut |_, frame| {
            stamp = event_in(frame).filter(|_| frame.kind == Kind::Accepted as u8).map(|event| event.received_at);
            stamp.is_none()
        })?;
        Ok(stamp)
    }

    /// The newest events that `is_sought`, oldest first: segment by segment, the newest first, from where the state was
    /// written on.
    fn find_newest(
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
                if frame.kind == Kind::Accepted as u8 {
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

    /// Reads on from the events to their endings. False: not all could be read.
    fn follow(&self, drafts: &mut [Draft], budget: &mut Budget) -> io::Result<bool> {
        let by_sequence: HashMap<u64, usize> =
            drafts.iter().enumerate().map(|(index, draft)| (draft.stored.sequence, index)).collect();
        let mut open: usize = drafts.iter().map(Draft::open).sum();
        let Some(first) = drafts.iter().map(|draft| draft.at).min().filter(|_| open > 0) else { return Ok(true) };
        let mut next = split(first);
        for _ in 0..SETTLING_TRIES {
            loop {
                // Asked before: what is walked then reaches at least as far.
                let last = self.written_to().0;
                let walked = self.walk(next, budget, &mut |_, frame| {
                    take(drafts, &by_sequence, frame, &mut open);
                    open > 0
                })?;
                match walked {
                    Walked::Stopped => return Ok(true),
                    Walked::Spent => return Ok(false),
                    Walked::End(offset) if next.0 >= last => {
                        next.1 = offset;
                        break;
                    }
                    Walked::Gone if next.0 >= last => break,
                    Walked::End(_) | Walked::Gone => next = (next.0.saturating_add(1), 0),
                }
            }
            if self.stands_explained(drafts) {
                return Ok(true);
            }
            // What is not there any more was told to the log a moment ago.
            std::thread::sleep(SETTLING);
        }
        Ok(true)
    }

    /// Whether each end that the log does not tell is one that has not come.
    fn stands_explained(&self, drafts: &[Draft]) -> bool {
        let pending = self.core.lock();
        drafts.iter().filter(|draft| draft.open() > 0).all(|draft| {
            let needs = pending.standing.needs(draft.stored.sequence);
            let open = draft.upstreams.iter().filter(|(_, stand)| stand.is_none());
            open.map(|(name, _)| name).all(|name| needs.iter().any(|need| *need.upstream == **name))
        })
    }
}

/// One record behind the events; keeps count of the ends that are still to come.
fn take(drafts: &mut [Draft], by_sequence: &HashMap<u64, usize>, frame: &Frame<'_>, open: &mut usize) {
    let Some(kind) = Kind::from_code(frame.kind) else { return };
    if kind == Kind::Void {
        let Some(last) = void_last(frame.sequence, frame.payload) else { return };
        let never_were = |draft: &&mut Draft| (frame.sequence..=last).contains(&draft.stored.sequence);
        for draft in drafts.iter_mut().filter(never_were) {
            *open -= draft.open();
            draft.voided = true;
        }
        return;
    }
    let is_ending = matches!(kind, Kind::Settled | Kind::Dead | Kind::Replayed | Kind::Reassigned);
    let Some(draft) = by_sequence.get(&frame.sequence).and_then(|index| drafts.get_mut(*index)) else { return };
    if is_ending {
        let before = draft.open();
        draft.take(frame, kind);
        *open = *open + draft.open() - before;
    }
}
