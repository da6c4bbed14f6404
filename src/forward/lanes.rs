//! The lanes of one upstream (DESIGN 5.2): what waits, in order, and whose turn it is. Turns go round the
//! integrations, and within one first in, first out over its lanes, so a storm in one integration delays no other.
//!
//! A lane takes about 100 B, so an integration has no more of them ready than can be sent soon: what comes beyond
//! stays in the log alone, and is taken from there, in its order, as lanes end. Lanes that wait for something of
//! their own (a retry, a token) hold up nobody until there are [`LANES_MAX`] of them.

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

/// Ready lanes that an integration has before what comes for it stays in the log.
const READY_MAX: usize = 256;
/// However many requests an upstream may have under way, and however many events each.
const READY_LIMIT: usize = 10_000;
/// Lanes of one integration, whatever they wait for.
const LANES_MAX: usize = 8_192;
/// Lanes of all.
const ALL_LANES_MAX: usize = 65_536;

/// Integrations that are looked for at once.
const WANTS_MAX: usize = 64;
/// An eighth of what may be ready is worth a look.
const SOME_ROOM: usize = 8;

/// What an integration takes from the log: up to `count` events behind the sequence `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) integration: IntegrationNumber,
    pub(super) after: u64,
    pub(super) count: usize,
}

/// How far an integration's events were taken.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// Every event up to this sequence has been in a lane.
    taken: u64,
    /// Events behind it wait in the log.
    behind: bool,
    lanes: usize,
}

/// The ready lanes of an integration. Those that failed before take every second turn at most: however many there
/// are, they neither hold up the others nor follow each other so closely that the upstream seems down.
#[derive(Default)]
struct Queue {
    fresh: VecDeque<LaneKey>,
    again: VecDeque<LaneKey>,
    again_had_its_turn: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.again.is_empty()
    }

    fn pop(&mut self, prefers_fresh: bool) -> Option<LaneKey> {
        let fresh_first = self.again_had_its_turn || prefers_fresh;
        let again = !self.again.is_empty() && (self.fresh.is_empty() || !fresh_first);
        self.again_had_its_turn = again;
        if again { self.again.pop_front() } else { self.fresh.pop_front() }
    }
}

/// Lanes, turns and timers of one upstream.
#[derive(Default)]
pub(super) struct Lanes {
    by_key: Map<LaneKey, Lane>,
    turns: VecDeque<IntegrationNumber>,
    queues: Map<IntegrationNumber, Queue>,
    cursors: Map<IntegrationNumber, Cursor>,
    /// Integrations that are behind and have few lanes ready.
    hungry: Vec<IntegrationNumber>,
    /// Some are behind because there are too many lanes.
    starved: bool,
    /// Events that can be under way at once, where that is more than [`READY_MAX`].
    in_flight_max: usize,
    /// Integrations that were behind when somebody asked last.
    behind: usize,
    ready_lanes: usize,
    timers: BinaryHeap<Reverse<(Instant, LaneKey)>>,
}

impl Lanes {
    pub(super) fn ready_lanes(&self) -> usize {
        self.ready_lanes
    }

    /// So many lanes can be under way at once.
    pub(super) fn expect_in_flight(&mut self, lanes: usize) {
        self.in_flight_max = lanes.min(READY_LIMIT);
    }

    fn fresh_lanes(&self, integration: IntegrationNumber) -> usize {
        self.queues.get(&integration).map_or(0, |queue| queue.fresh.len())
    }

    /// Twice what can be under way, shared by those that are behind: a lane that is ready long before its turn is in no
    /// cache any more when that comes.
    fn ready_max(&self) -> usize {
        (2 * self.in_flight_max / self.behind.max(1)).min(self.in_flight_max).max(READY_MAX)
    }

    fn has_room(&mut self, integration: IntegrationNumber) -> bool {
        let own = self.cursors.get(&integration).map_or(0, |cursor| cursor.lanes);
        if own >= LANES_MAX || self.by_key.len() >= ALL_LANES_MAX {
            self.starved = true;
            return false;
        }
        self.fresh_lanes(integration) < self.ready_max()
    }

    /// Whether an event that came is to be pushed now. Otherwise it was taken from the log before, or will be.
    pub(super) fn takes(&mut self, integration: IntegrationNumber, sequence: u64) -> bool {
        let room = self.has_room(integration);
        let cursor = self.cursors.entry(integration).or_default();
        if cursor.behind || sequence <= cursor.taken {
            return false;
        }
        cursor.behind = !room;
        if room {
            cursor.taken = sequence;
        }
        room
    }

    /// Events of the integration wait in the log.
    pub(super) fn falls_behind(&mut self, integration: IntegrationNumber) {
        self.cursors.entry(integration).or_default().behind = true;
        self.hungry.push(integration);
    }

    /// Whether events of the integration wait in the log alone.
    pub(super) fn is_behind(&self, integration: IntegrationNumber) -> bool {
        self.cursors.get(&integration).is_some_and(|cursor| cursor.behind)
    }

    /// What to take from the log next, about `count` events; nothing when nobody is hungry. Whoever has some room goes with
    /// those that are: their events stand among each other, and one way through the log finds all. The caller pushes them and
    /// says so by [`Self::took`].
    pub(super) fn wants(&mut self, count: usize) -> Vec<Want> {
        if self.hungry.is_empty() {
            return vec![];
        }
        let cursors = self.cursors.iter().filter(|(_, cursor)| cursor.behind);
        let behind: Vec<(IntegrationNumber, u64)> = cursors.map(|(number, cursor)| (*number, cursor.taken)).collect();
        self.behind = behind.len();
        let mut wants = vec![];
        for (integration, after) in behind {
            let room = self.ready_max().saturating_sub(self.fresh_lanes(integration));
            if room * SOME_ROOM >= self.ready_max() && self.has_room(integration) {
                wants.push(Want { integration, after, count: room });
            }
        }
        wants.sort_unstable_by_key(|want| want.after);
        // They ask until they are full; what goes to lanes that there are already fills nothing.
        self.hungry = wants.iter().map(|want| want.integration).collect();
        wants.truncate(WANTS_MAX);
        let each = (count / wants.len().max(1)).max(1);
        wants.iter_mut().for_each(|want| want.count = want.count.min(each));
        wants
    }

    /// Up to `taken` everything of the integration was taken from the log; `all`: nothing was left there.
    pub(super) fn took(&mut self, integration: IntegrationNumber, taken: u64, all: bool) {
        let cursor = self.cursors.entry(integration).or_default();
        cursor.taken = cursor.taken.max(taken);
        cursor.behind = !all;
    }

    /// The log cannot be read now: nothing is asked for until lanes end or time passes.
    pub(super) fn wants_later(&mut self) {
        self.hungry.clear();
        self.starved = true;
    }

    /// Whether somebody is behind who does not ask.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Everybody who is behind may ask again.
    pub(super) fn ask_again(&mut self) {
        self.starved = false;
        let behind = self.cursors.iter().filter(|(_, cursor)| cursor.behind).map(|(integration, _)| *integration);
        self.hungry = behind.collect();
    }

    /// The lowest sequence that some integration has taken while more waits; `None` when nobody is behind.
    pub(super) fn lowest_taken(&self) -> Option<u64> {
        self.cursors.values().filter(|cursor| cursor.behind).map(|cursor| cursor.taken).min()
    }

    pub(super) fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.by_key.get_mut(&key)
    }

    pub(super) fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.by_key.get(&key)
    }

    /// Appends an event. True when it is the lane's only one.
    pub(super) fn push(&mut self, key: LaneKey, integration: IntegrationNumber, waiting: Waiting) -> bool {
        match self.by_key.entry(key) {
            Entry::Occupied(mut lane) => {
                lane.get_mut().rest.push_back(waiting);
                false
            }
            Entry::Vacant(place) => {
                let stage = Stage::Chosen;
                let rest = VecDeque::new();
                place.insert(Lane { head: waiting, rest, integration, stage, attempts: 0, status: None, alone: false });
                self.cursors.entry(integration).or_default().lanes += 1;
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
        let failed_before = lane.attempts > 0;
        let line = if failed_before { &mut queue.again } else { &mut queue.fresh };
        if first {
            line.push_front(key);
            queue.again_had_its_turn = !failed_before;
        } else {
            line.push_back(key);
        }
        self.ready_lanes += 1;
    }

    /// The lane whose turn it is. The caller gives it its next stage. `joins`: it goes into a request with others,
    /// so one that must go alone is passed over if there is another. `probes`: it tells whether the upstream is
    /// back, so one is preferred that never failed.
    pub(super) fn pop_ready(&mut self, joins: bool, probes: bool) -> Option<LaneKey> {
        let integration = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&integration)?;
        let is_alone = |key: &LaneKey| self.by_key.get(key).is_some_and(|lane| lane.alone);
        let key = queue.pop(probes || joins && queue.again.front().is_some_and(is_alone))?;
        let left = queue.fresh.len();
        if queue.is_empty() {
            self.queues.remove(&integration);
        } else {
            self.turns.push_back(integration);
        }
        self.ready_lanes -= 1;
        if left <= self.ready_max() / 2
            && self.hungry.last() != Some(&integration)
            && self.cursors.get(&integration).is_some_and(|cursor| cursor.behind)
        {
            self.hungry.push(integration);
        }
        if let Some(lane) = self.by_key.get_mut(&key) {
            lane.stage = Stage::Chosen;
        }
        Some(key)
    }

    /// The head has ended: the next event moves up, or the lane goes.
    pub(super) fn advance(&mut self, key: LaneKey) {
        let Some(lane) = self.by_key.get_mut(&key) else { return };
        match lane.rest.pop_front() {
            None => self.remove(key),
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
    }

    fn remove(&mut self, key: LaneKey) {
        let Some(lane) = self.by_key.remove(&key) else { return };
        if let Some(cursor) = self.cursors.get_mut(&lane.integration) {
            cursor.lanes = cursor.lanes.saturating_sub(1);
            if self.starved && cursor.lanes <= LANES_MAX / 2 && self.by_key.len() <= ALL_LANES_MAX / 2 {
                self.ask_again();
            }
        }
        if self.by_key.is_empty() {
            // A drained upstream gives back what its rush took.
            self.by_key.shrink_to_fit();
            self.timers = BinaryHeap::new();
            self.queues = Map::default();
            self.turns = VecDeque::new();
            self.ready_lanes = 0;
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

    /// Makes the lane ready that would be next, of those that wait for no more than the end of an outage. False: none does.
    pub(super) fn wake_for_probe(&mut self) -> bool {
        let waits = |key: LaneKey, at: Instant| {
            self.by_key.get(&key).is_some_and(|lane| lane.stage == Stage::Until { at, outage: true })
        };
        let due = self.timers.iter().map(|Reverse(timer)| *timer).filter(|(at, key)| waits(*key, *at)).min();
        // Its timer finds it in another stage, and goes.
        due.map(|(_, key)| self.make_ready(key)).is_some()
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

    /// Whether the event stands in its lane.
    pub(super) fn holds(&mut self, key: LaneKey, sequence: u64) -> bool {
        self.by_key.get_mut(&key).is_some_and(|lane| lane.find(sequence).is_some())
    }

    /// Takes a pacing off an event wherever it stands in its lane; true when it was on.
    pub(super) fn grant(&mut self, key: LaneKey, sequence: u64, pacing: Pacing) -> bool {
        let Some(lane) = self.by_key.get_mut(&key) else { return false };
        let Some(waiting) = lane.find(sequence) else { return false };
        let granted = waiting.grant(pacing);
        if granted && lane.stage == Stage::InLine && lane.head.sequence() == sequence {
            self.make_ready(key);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integrations 0, 1 and 2 are behind, and 256 may be ready.
    fn behind() -> Lanes {
        let mut lanes = Lanes::default();
        (0..3).for_each(|integration| lanes.falls_behind(integration));
        lanes
    }

    /// Takes what is wanted, each event in a lane of its own.
    fn take(lanes: &mut Lanes, wants: Vec<Want>) {
        for Want { integration, after, count } in wants {
            let last = after + count as u64;
            for sequence in after + 1..=last {
                let lane = LaneKey(u128::from(integration) << 64 | u128::from(sequence));
                lanes.push(lane, integration, Waiting::new(sequence, Position(0), Pacing::default()));
            }
            lanes.took(integration, last, false);
        }
    }

    fn counts(wants: &[Want]) -> Vec<(IntegrationNumber, usize)> {
        let mut counts: Vec<_> = wants.iter().map(|want| (want.integration, want.count)).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn those_that_are_behind_are_looked_for_together_until_all_are_full() {
        let mut lanes = behind();
        let wants = lanes.wants(300);
        assert_eq!(counts(&wants), [(0, 100), (1, 100), (2, 100)]);
        take(&mut lanes, wants);
        let wants = lanes.wants(3000);
        assert_eq!(counts(&wants), [(0, 156), (1, 156), (2, 156)]);
        take(&mut lanes, wants);
        assert_eq!(lanes.wants(300), []);
        // Turns go round, so all have the same room when the first has half of its lanes left.
        (0..3 * 127).for_each(|_| assert!(lanes.pop_ready(false, false).is_some()));
        assert_eq!(lanes.wants(300), [], "nobody is hungry yet");
        lanes.pop_ready(false, false).unwrap();
        assert_eq!(lanes.wants(3000).len(), 3, "and who is not takes the way with who is");
    }

    #[test]
    fn what_goes_to_lanes_that_there_are_fills_nothing() {
        let mut lanes = behind();
        let wants = lanes.wants(300);
        for Want { integration, after, count } in wants {
            let last = after + count as u64;
            for sequence in after + 1..=last {
                let waiting = Waiting::new(sequence, Position(0), Pacing::default());
                lanes.push(LaneKey(integration.into()), integration, waiting);
            }
            lanes.took(integration, last, integration == 2);
        }
        let wants = lanes.wants(300);
        assert_eq!(counts(&wants), [(0, 150), (1, 150)], "more is looked for behind it; nothing is left of the third");
        assert!(wants.iter().all(|want| want.after == 100));
    }

    #[test]
    fn a_few_have_more_lanes_ready_where_many_events_can_be_under_way() {
        let mut lanes = behind();
        lanes.expect_in_flight(6400);
        assert_eq!(counts(&lanes.wants(usize::MAX)), [(0, 4266), (1, 4266), (2, 4266)]);
        let mut lanes = behind();
        (3..200).for_each(|integration| lanes.falls_behind(integration));
        lanes.expect_in_flight(6400);
        assert_eq!(lanes.wants(usize::MAX).len(), WANTS_MAX);
        assert!(lanes.wants(usize::MAX).iter().all(|want| want.count == READY_MAX));
    }
}
