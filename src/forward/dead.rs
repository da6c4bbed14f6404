//! The dead letters of one upstream (DESIGN 5.3): what ended without delivery, grouped by lane and
//! generation, and the rules of what may be sent again. The log holds the events; here stand their places.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::claim::Position;
use crate::event::{Action, Micros, Uid};
use crate::outcome::DeadReason;
use crate::store::LaneKey;
use crate::words::letters_match;

/// A dead letter. Its number is bounded by the log's own share for them (DESIGN 4).
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) at: Position,
    /// Of its record, about.
    pub(super) bytes: u32,
    pub(super) lane: LaneKey,
    pub(super) integration: Arc<str>,
    pub(super) event_uid: Uid,
    /// The generation; `None` where the event acts on no incident or could not be read.
    pub(super) iid: Option<Uid>,
    /// `None` when it could not be read.
    pub(super) action: Option<Action>,
    pub(super) reason: DeadReason,
    pub(super) status: Option<u16>,
    pub(super) attempts: u32,
    pub(super) since: Micros,
}

impl Letter {
    /// One whose event cannot be read: it has a lane of its own.
    pub(super) fn unreadable(integration: Arc<str>, sequence: u64, since: Micros) -> Self {
        Self {
            at: Position::default(),
            bytes: 0,
            lane: LaneKey(sequence.into()),
            integration,
            event_uid: Uid::default(),
            iid: None,
            action: None,
            reason: DeadReason::Unreadable,
            status: None,
            attempts: 0,
            since,
        }
    }
}

/// Why a dead letter may not be replayed or dropped; the admin API answers 404 or 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no such dead letter")]
    Unknown,
    #[error("the incident was resolved at this upstream since: the event can only be shown or dropped")]
    Closed,
    #[error("the key was opened anew since: the event can only be shown or dropped")]
    Followed,
    #[error("its event cannot be read back: it can only be shown or dropped")]
    Unreadable,
    #[error("it was rejected at intake and never was a valid event: it can only be shown or dropped")]
    Rejected,
    #[error("its upstream is no longer configured: configure it again, or drop the dead letter")]
    Orphaned,
    #[error("{}, not {confirmed}: nothing was dropped", letters_match(*matching))]
    Miscounted { matching: usize, confirmed: usize },
    #[error("the forwarder has stopped")]
    Stopped,
}

struct Group {
    iid: Uid,
    /// Ascending.
    sequences: Vec<u64>,
    /// A resolve of this generation was delivered.
    closed: bool,
    /// An event of a later generation was on its way.
    followed: bool,
    /// From before a restart: the flags may have been lost.
    recovered: bool,
}

#[derive(Default)]
pub(super) struct DeadLetters {
    letters: BTreeMap<u64, Letter>,
    bytes: u64,
    groups: HashMap<LaneKey, Vec<Group>>,
    /// Generations whose trigger died here and was not delivered since.
    undelivered: HashSet<(LaneKey, Uid)>,
}

impl DeadLetters {
    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    /// Of their records, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Letter> {
        self.letters.get(&sequence)
    }

    /// Letters after `after`, oldest first.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Letter)> {
        let from = after.map_or(0, |sequence| sequence.saturating_add(1));
        self.letters.range(from..).map(|(sequence, letter)| (*sequence, letter))
    }

    /// True when it is a trigger, so that its generation is undelivered here.
    pub(super) fn insert(&mut self, sequence: u64, letter: Letter, recovered: bool) -> bool {
        let mut is_trigger = false;
        if let Some(iid) = letter.iid {
            let groups = self.groups.entry(letter.lane).or_default();
            match groups.iter_mut().find(|group| group.iid == iid) {
                Some(group) => {
                    let place = group.sequences.partition_point(|other| *other < sequence);
                    group.sequences.insert(place, sequence);
                }
                None => {
                    groups.push(Group { iid, sequences: vec![sequence], closed: false, followed: false, recovered })
                }
            }
            is_trigger = letter.action == Some(Action::Trigger);
            if is_trigger {
                self.undelivered.insert((letter.lane, iid));
            }
        }
        self.bytes += u64::from(letter.bytes);
        self.letters.insert(sequence, letter);
        is_trigger
    }

    /// Whether the generation's trigger is a dead letter here.
    pub(super) fn has_dead_trigger(&self, lane: LaneKey, iid: Uid) -> bool {
        !self.undelivered.is_empty()
            && self.undelivered.contains(&(lane, iid))
            && self.group(lane, iid).is_some_and(|group| self.triggers(group).next().is_some())
    }

    fn group(&self, lane: LaneKey, iid: Uid) -> Option<&Group> {
        self.groups.get(&lane)?.iter().find(|group| group.iid == iid)
    }

    fn triggers(&self, group: &Group) -> impl Iterator<Item = u64> {
        group
            .sequences
            .iter()
            .copied()
            .filter(|sequence| self.letters.get(sequence).is_some_and(|letter| letter.action == Some(Action::Trigger)))
    }

    /// An event of this generation goes out: older generations on the lane have a follower.
    pub(super) fn passes(&mut self, lane: LaneKey, iid: Uid, sequence: u64) {
        if self.groups.is_empty() {
            return;
        }
        for group in self.groups.get_mut(&lane).into_iter().flatten() {
            group.followed |= group.iid != iid && group.sequences.last().is_some_and(|last| *last < sequence);
        }
    }

    /// A resolve of the generation was delivered.
    pub(super) fn close(&mut self, lane: LaneKey, iid: Uid) {
        let groups = self.groups.get_mut(&lane).into_iter().flatten();
        groups.filter(|group| group.iid == iid).for_each(|group| group.closed = true);
    }

    /// A trigger was delivered: takes out the generation's older dead triggers. The flag: whether the
    /// generation was undelivered until now.
    pub(super) fn supersede(&mut self, lane: LaneKey, iid: Uid, sequence: u64) -> (Vec<u64>, bool) {
        let was_undelivered = self.undelivered.remove(&(lane, iid));
        let older: Vec<u64> = self
            .group(lane, iid)
            .map(|group| self.triggers(group).take_while(|other| *other < sequence).collect())
            .unwrap_or_default();
        older.iter().for_each(|sequence| drop(self.remove(*sequence)));
        (older, was_undelivered)
    }

    /// Takes a letter out for good. The flag: whether its generation is no longer undelivered for that.
    pub(super) fn drop_one(&mut self, sequence: u64) -> Result<(Letter, bool), Refused> {
        let letter = self.remove(sequence).ok_or(Refused::Unknown)?;
        let Some(iid) = letter.iid else { return Ok((letter, false)) };
        let over = letter.action == Some(Action::Trigger)
            && !self.has_dead_trigger(letter.lane, iid)
            && self.undelivered.remove(&(letter.lane, iid));
        Ok((letter, over))
    }

    fn remove(&mut self, sequence: u64) -> Option<Letter> {
        let letter = self.letters.remove(&sequence)?;
        self.bytes -= u64::from(letter.bytes);
        if let Some(groups) = self.groups.get_mut(&letter.lane) {
            groups.iter_mut().for_each(|group| group.sequences.retain(|other| *other != sequence));
            groups.retain(|group| !group.sequences.is_empty());
            if groups.is_empty() {
                self.groups.remove(&letter.lane);
            }
        }
        Some(letter)
    }

    /// The letters that are replayed with this one: its generation's on this lane, in order.
    pub(super) fn replay_group(&self, sequence: u64, incident: Option<Current>) -> Result<Vec<u64>, Refused> {
        let letter = self.letters.get(&sequence).ok_or(Refused::Unknown)?;
        if letter.reason == DeadReason::Unreadable {
            return Err(Refused::Unreadable);
        }
        if letter.reason.is_of_intake() {
            return Err(Refused::Rejected);
        }
        let Some(group) = letter.iid.and_then(|iid| self.group(letter.lane, iid)) else { return Ok(vec![sequence]) };
        // What passed before a restart is told by the incident as it stands now.
        let behind = incident.filter(|_| group.recovered);
        let resolve_is_here = group
            .sequences
            .iter()
            .any(|sequence| self.letters.get(sequence).is_some_and(|letter| letter.action == Some(Action::Resolve)));
        if group.followed || behind.is_some_and(|current| current.iid != group.iid) {
            return Err(Refused::Followed);
        }
        if group.closed || behind.is_some_and(|current| current.resolved && !current.lane_waits && !resolve_is_here) {
            return Err(Refused::Closed);
        }
        Ok(group.sequences.clone())
    }

    /// Takes letters out to be sent again; their generation stays undelivered until one of them arrives.
    pub(super) fn take(&mut self, sequences: &[u64]) -> Vec<(u64, Letter)> {
        sequences.iter().filter_map(|sequence| Some((*sequence, self.remove(*sequence)?))).collect()
    }
}

/// The key's incident as `dedup` has it now.
#[derive(Clone, Copy)]
pub(super) struct Current {
    pub(super) iid: Uid,
    pub(super) resolved: bool,
    /// Events of the lane wait at this upstream: a resolve may be among them.
    pub(super) lane_waits: bool,
}
