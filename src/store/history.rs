//! What became of an event, as the log tells it: for the admin API, never for a request. There is no index by uid or by
//! key: the log is read, within bounds, from the first segment that can hold the event, and on from the event to its
//! endings. Reads alone; whoever calls it blocks. `search` does the reading.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::frame::{Frame, Kind};
use super::reader::split;
use super::record::{Accepted, DeadNote, Delivered, Ended, Need, Reassigned, Steps, note, void_last};
use super::search::{Budget, Walked};
use super::{Ending, Remote, Store, Stored};
use crate::claim::Position;
use crate::event::{Micros, Uid};
use crate::outcome::DropReason;

/// An ending is on disk 50 ms after it was told; on a busy disk later.
const SETTLING: Duration = Duration::from_millis(20);
const SETTLING_TRIES: u32 = 50;

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
    /// What the upstream calls the incident, where its answer said so.
    pub remote: Option<Remote>,
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

/// An event that was found, while its endings are looked for.
pub(super) struct Draft {
    at: Position,
    stored: Stored,
    /// Where its envelope stands, if that is not in its record.
    envelope_at: Option<u32>,
    happened: Vec<Happened>,
    /// `None`: not ended as far as was read.
    upstreams: Vec<(String, Option<Stand>)>,
    voided: bool,
}

impl Draft {
    pub(super) fn new(at: Position, kind: u8, event: &Accepted<'_>, sequence: u64) -> Option<Self> {
        let stored = event.to_stored(sequence)?;
        let mut upstreams: Vec<(String, Option<Stand>)> = event.targets().map(|name| (name.to_owned(), None)).collect();
        let mut happened = vec![];
        if kind == Kind::Rejected as u8
            && let Some(Some(DeadNote { reason, status, attempts, at })) = note(&mut Steps(event.rest))
        {
            let ended = Ending::Dead { reason, status, attempts };
            happened.extend(event.targets().map(|name| Happened {
                at,
                upstream: name.to_owned(),
                what: What::Ended(ended),
                remote: None,
            }));
        }
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
        Some(Self { at, stored, envelope_at: event.envelope_at(), happened, upstreams, voided: false })
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
            let what = What::Reassigned(to.to_owned());
            self.happened.push(Happened { at, upstream: from.to_owned(), what, remote: None });
            return;
        }
        let Some(Ended { upstream, ending, at, learned, .. }) = Ended::decode(kind, frame.payload) else { return };
        self.end(upstream, ending, at, learned.map(|learned| learned.remote));
    }

    fn end(&mut self, upstream: &str, ending: Ending, at: Micros, remote: Option<Remote>) {
        *self.stand(upstream) = match ending {
            Ending::Delivered { .. } | Ending::Dropped(_) => Some(Stand::Ended(ending, at)),
            // The log goes on with it: what stands in memory says where it is now.
            Ending::Dead { .. } | Ending::Replayed => None,
        };
        self.happened.push(Happened { at, upstream: upstream.to_owned(), what: What::Ended(ending), remote });
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
        let (began, half) = (Instant::now(), bounds.bytes_max / 2);
        let mut budget = Budget::new(half, began + bounds.time_max / 2);
        let (mut drafts, mut complete, searched_since) = match sought {
            Sought::Uid(uid) => self.find_uid(uid, &mut budget)?,
            Sought::Key { integration, key, last_at, newest } => {
                let is_on_key = |event: &Accepted<'_>| event.integration == integration && event.has_key(key);
                self.find_newest(&is_on_key, last_at, newest, &mut budget)?
            }
        };
        // What was found is worth the rest.
        budget.extend(bounds.bytes_max - half, began + bounds.time_max);
        complete &= self.follow(&mut drafts, &mut budget)?;
        for draft in &mut drafts {
            if let Some(offset) = draft.envelope_at {
                draft.stored.event.envelope = self.reader.envelope(&self.core.disk, draft.at, offset)?;
            }
        }
        let pending = self.core.lock();
        let needs: Vec<Vec<Need>> = drafts.iter().map(|draft| pending.standing.needs(draft.stored.sequence)).collect();
        drop(pending);
        let events = drafts.into_iter().zip(needs).filter(|(draft, _)| !draft.voided);
        let events = events.map(|(draft, needs)| draft.finish(&needs)).collect();
        Ok(Trace { events, complete, searched_since })
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
    if kind == Kind::Delivered {
        let Some(delivered) = Delivered::decode(frame.payload) else { return };
        for (sequence, _) in delivered.events() {
            let Some(draft) = by_sequence.get(&sequence).and_then(|index| drafts.get_mut(*index)) else { continue };
            let before = draft.open();
            draft.end(delivered.upstream, delivered.ending(), delivered.at, None);
            *open = *open + draft.open() - before;
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
