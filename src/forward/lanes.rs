//! The lanes of one upstream (DESIGN 5.2): what waits, in order, and whose turn it is. 16 B a waiting
//! event; a lane without events takes nothing. Turns go round the integrations, and within one first in,
//! first out over its lanes, so a storm in one integration delays no other.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

use super::Map;
use crate::claim::{Pacing, Position};
use crate::store::LaneKey;

/// The number of an integration's name, given by the forwarder.
pub(super) type IntegrationNumber = u32;

/// A waiting event. Flags stand in the high byte of the sequence: 2^56 events are enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    flagged: u64,
    pub(super) at: Position,
}

const SEQUENCE_BITS: u32 = 56;
/// It may have been delivered before a restart.
const DOUBTFUL: u64 = 1 << 63;

impl Waiting {
    pub(super) fn new(sequence: u64, at: Position, pacing: Pacing) -> Self {
        Self { flagged: (sequence & ((1 << SEQUENCE_BITS) - 1)) | (u64::from(pacing.0 & 0x3f) << SEQUENCE_BITS), at }
    }

    pub(super) fn sequence(self) -> u64 {
        self.flagged & ((1 << SEQUENCE_BITS) - 1)
    }

    pub(super) fn waits_for(self, pacing: Pacing) -> bool {
        self.flagged >> SEQUENCE_BITS & u64::from(pacing.0) != 0
    }

    /// Takes the pacing off; true when it was on.
    fn grant(&mut self, pacing: Pacing) -> bool {
        let was = self.waits_for(pacing);
        self.flagged &= !(u64::from(pacing.0) << SEQUENCE_BITS);
        was
    }

    pub(super) fn is_doubtful(self) -> bool {
        self.flagged & DOUBTFUL != 0
    }

    pub(super) fn doubt(&mut self) {
        self.flagged |= DOUBTFUL;
    }
}

/// What a lane is at. It stands in the queue of turns exactly while `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Ready,
    /// Its turn has come, and is being used.
    Chosen,
    /// Its head is under way.
    Flying,
    /// Its head failed, or its upstream asked for it. `outage`: over as soon as the upstream answers again.
    Until {
        at: Instant,
        outage: bool,
    },
    /// Its head waits in its integration's line for a token or a turn of the unknown.
    InLine,
}

pub(super) struct Lane {
    pub(super) head: Waiting,
    rest: VecDeque<Waiting>,
    pub(super) integration: IntegrationNumber,
    pub(super) stage: Stage,
    /// Attempts at the head.
    pub(super) attempts: u32,
    /// The last status its head was answered with.
    pub(super) status: Option<u16>,
    /// Its head is sent in a request of its own: a batch with it was refused.
    pub(super) alone: bool,
}

impl Lane {
    pub(super) fn has_followers(&self) -> bool {
        !self.rest.is_empty()
    }

    fn find(&mut self, sequence: u64) -> Option<&mut Waiting> {
        if self.head.sequence() == sequence {
            return Some(&mut self.head);
        }
        let index = self.rest.binary_search_by_key(&sequence, |waiting| waiting.sequence()).ok()?;
        self.rest.get_mut(index)
    }
}

/// Lanes, turns and timers of one upstream.
#[derive(Default)]
pub(super) struct Lanes {
    by_key: Map<LaneKey, Lane>,
    turns: VecDeque<IntegrationNumber>,
    queues: Map<IntegrationNumber, VecDeque<LaneKey>>,
    ready_lanes: usize,
    waiting_events: usize,
    timers: BinaryHeap<Reverse<(Instant, LaneKey)>>,
}

impl Lanes {
    /// Events that wait or are under way.
    pub(super) fn waiting_events(&self) -> usize {
        self.waiting_events
    }

    pub(super) fn ready_lanes(&self) -> usize {
        self.ready_lanes
    }

    pub(super) fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.by_key.get_mut(&key)
    }

    pub(super) fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.by_key.get(&key)
    }

    /// Appends an event. True when it is the lane's only one.
    pub(super) fn push(&mut self, key: LaneKey, integration: IntegrationNumber, waiting: Waiting) -> bool {
        self.waiting_events += 1;
        match self.by_key.entry(key) {
            Entry::Occupied(mut lane) => {
                lane.get_mut().rest.push_back(waiting);
                false
            }
            Entry::Vacant(place) => {
                let stage = Stage::Chosen;
                let rest = VecDeque::new();
                place.insert(Lane { head: waiting, rest, integration, stage, attempts: 0, status: None, alone: false });
                self.make_ready(key);
                true
            }
        }
    }

    /// Puts replayed events back where their sequences belong, though never before a head that is under way.
    pub(super) fn put_back(&mut self, key: LaneKey, integration: IntegrationNumber, mut replayed: Vec<Waiting>) {
        replayed.sort_unstable_by_key(|waiting| waiting.sequence());
        let Some(lane) = self.by_key.get_mut(&key) else {
            replayed.into_iter().for_each(|waiting| {
                self.push(key, integration, waiting);
            });
            return;
        };
        self.waiting_events += replayed.len();
        lane.rest.extend(replayed);
        let flying = lane.stage == Stage::Flying;
        if !flying {
            lane.rest.push_back(lane.head);
        }
        lane.rest.make_contiguous().sort_unstable_by_key(|waiting| waiting.sequence());
        if let (false, Some(first)) = (flying, lane.rest.front().copied()) {
            lane.rest.pop_front();
            lane.head = first;
            (lane.attempts, lane.status, lane.alone) = (0, None, false);
            // Whatever the former head waited for in a line, the new one does not.
            if lane.stage == Stage::InLine {
                self.make_ready(key);
            }
        }
    }

    /// Gives the lane a place in the queue of turns, at its end.
    pub(super) fn make_ready(&mut self, key: LaneKey) {
        self.enqueue(key, false);
    }

    /// Gives the lane the next turn of its integration.
    pub(super) fn make_next(&mut self, key: LaneKey) {
        self.enqueue(key, true);
    }

    fn enqueue(&mut self, key: LaneKey, first: bool) {
        let Some(lane) = self.by_key.get_mut(&key) else { return };
        if lane.stage == Stage::Ready {
            return;
        }
        lane.stage = Stage::Ready;
        let queue = self.queues.entry(lane.integration).or_default();
        if queue.is_empty() {
            self.turns.push_back(lane.integration);
        }
        if first {
            queue.push_front(key)
        } else {
            queue.push_back(key)
        }
        self.ready_lanes += 1;
    }

    /// The lane whose turn it is. The caller gives it its next stage.
    pub(super) fn pop_ready(&mut self) -> Option<LaneKey> {
        let integration = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&integration)?;
        let key = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&integration);
        } else {
            self.turns.push_back(integration);
        }
        self.ready_lanes -= 1;
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.stage = Stage::Chosen;
        }
        Some(key)
    }

    /// The head has ended: the next event moves up, or the lane goes.
    pub(super) fn advance(&mut self, key: LaneKey) {
        let Some(lane) = self.by_key.get_mut(&key) else { return };
        self.waiting_events -= 1;
        match lane.rest.pop_front() {
            None => drop(self.by_key.remove(&key)),
            Some(next) => {
                lane.head = next;
                (lane.attempts, lane.status, lane.alone) = (0, None, false);
                if lane.rest.len() * 4 < lane.rest.capacity() {
                    lane.rest.shrink_to_fit();
                }
                lane.stage = Stage::Chosen;
                self.make_ready(key);
            }
        }
        if self.by_key.is_empty() {
            // A drained upstream gives back what its rush took.
            *self = Self::default();
        }
    }

    /// The lane waits in its integration's line.
    pub(super) fn stand_in_line(&mut self, key: LaneKey) {
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.stage = Stage::InLine;
        }
    }

    /// The lane waits until `at`.
    pub(super) fn hold(&mut self, key: LaneKey, at: Instant, outage: bool) {
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.stage = Stage::Until { at, outage };
            self.timers.push(Reverse((at, key)));
        }
    }

    /// Makes the lanes ready whose wait is over.
    pub(super) fn wake_due(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if self.by_key.get(&key).is_some_and(|lane| matches!(lane.stage, Stage::Until { at: due, .. } if due == at))
            {
                self.make_ready(key);
            }
        }
    }

    /// The upstream answers again: lanes that waited for that alone are ready.
    pub(super) fn outage_is_over(&mut self) {
        let timers = std::mem::take(&mut self.timers);
        for Reverse((at, key)) in timers.into_sorted_vec().into_iter().rev() {
            match self.by_key.get(&key).map(|lane| lane.stage) {
                Some(Stage::Until { at: due, outage: true }) if due == at => self.make_ready(key),
                Some(Stage::Until { at: due, outage: false }) if due == at => self.timers.push(Reverse((at, key))),
                _ => {}
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a pacing off an event wherever it stands in its lane; true when it was on.
    pub(super) fn grant(&mut self, key: LaneKey, sequence: u64, pacing: Pacing) -> bool {
        let Some(lane) = self.by_key.get_mut(&key) else { return false };
        let granted = lane.find(sequence).is_some_and(|waiting| waiting.grant(pacing));
        if granted && lane.stage == Stage::InLine && lane.head.sequence() == sequence {
            self.make_ready(key);
        }
        granted
    }

    /// Marks the heads of the `lanes` oldest lanes as possibly delivered before a restart.
    pub(super) fn doubt_oldest_heads(&mut self, lanes: usize) {
        let mut heads: Vec<(u64, LaneKey)> =
            self.by_key.iter().map(|(key, lane)| (lane.head.sequence(), *key)).collect();
        heads.sort_unstable();
        for (_, key) in heads.into_iter().take(lanes) {
            if let Some(lane) = self.by_key.get_mut(&key) {
                lane.head.doubt();
            }
        }
    }
}
