//! What of each key waits at which upstream here, so that other replicas' events on it come behind (DESIGN 5.4): a field
//! `q:REPLICA:UPSTREAM` of the key's state, with the order of the oldest event that waits. Told by `claims`.
//!
//! Events stand here by the log's sequences: what the forwarder takes from the log may leave before the log's writer has
//! said here that it came, and a dead letter that is replayed leaves twice.
//!
//! At a start the newest 100,000 that wait are put back from the log, with the stamps of their receipt for orders. Where
//! more wait for an upstream, the older ones have the fields that the process before told of. Past 100,000 keys that wait
//! no more are told, and their order holds within this replica alone.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use crate::claim::{Goes, Targets};
use crate::dedup::{Order, Rest};
use crate::event::StateKey;
use crate::store::{Left, LeftEvent};

/// Keys that are told of, and events that a start puts back.
pub const KEYS_MAX: usize = 100_000;
/// Events that left before they came, at most: the writer is some batches behind.
const EARLY_MAX: usize = 10_000;

type Orders = VecDeque<(u64, Order)>;
type Rows = HashMap<StateKey, SmallVec<[(Arc<str>, Orders); 1]>, foldhash::fast::RandomState>;

#[derive(Default)]
struct Known {
    rows: Rows,
    /// The last event that came, and those behind it that have left already.
    last: u64,
    early: BTreeSet<(u64, Arc<str>)>,
    /// Upstreams with events of before the start that are not known here.
    partly: HashSet<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Queues(Mutex<Known>);

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Stays,
    /// The oldest is this one now.
    Moves(Order),
    Goes,
}

/// A key's fields as they should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The oldest that waits at each upstream.
    pub(super) oldest: SmallVec<[(Arc<str>, Order); 1]>,
    /// Upstreams of which no more is known than that.
    pub(super) partly: SmallVec<[Arc<str>; 1]>,
}

impl Queues {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts back what waited; before anything leaves or comes.
    pub(super) fn restore(&self, left: Vec<Left>) {
        let mut known = self.lock();
        for Left { upstream, events, all } in left {
            for LeftEvent { sequence, key, received_at } in events {
                known.last = known.last.max(sequence);
                known.put(key, &upstream, sequence, Order(received_at.0));
            }
            if !all {
                known.partly.insert(upstream);
            }
        }
    }

    /// Keys of which something waits.
    pub(super) fn keys(&self) -> Vec<StateKey> {
        self.lock().rows.keys().copied().collect()
    }

    /// An event waits from now on; `tell` says where, or that it is not told. Within the lock: what leaves meanwhile must not
    /// be told first.
    pub(super) fn push(&self, key: StateKey, order: Order, goes: Goes<'_>, tell: impl FnOnce(Option<Targets>)) {
        let Goes { sequence, targets } = goes;
        if targets.is_empty() {
            return tell(None);
        }
        let mut known = self.lock();
        known.last = known.last.max(sequence);
        let waits = match known.early.is_empty() {
            true => Arc::clone(targets),
            false => known.not_left(sequence, targets),
        };
        if waits.is_empty() || (known.rows.len() >= KEYS_MAX && !known.rows.contains_key(&key)) {
            return tell(None);
        }
        for target in waits.iter() {
            known.put(key, &target.name, sequence, order);
        }
        tell(Some(waits));
    }

    /// A key's fields as they should be now.
    pub(super) fn marks(&self, key: StateKey) -> Marks {
        let known = self.lock();
        let oldest = known.rows.get(&key).into_iter().flatten();
        let oldest = oldest.filter_map(|(name, orders)| Some((Arc::clone(name), orders.front()?.1))).collect();
        Marks { oldest, partly: known.partly.iter().cloned().collect() }
    }

    /// One left; `tell` says what becomes of the field. Within the lock: what comes meanwhile must not be told first.
    pub(super) fn pop(&self, key: StateKey, upstream: &Arc<str>, sequence: u64, rest: Rest, tell: impl FnOnce(Mark)) {
        let mut known = self.lock();
        let mark = known.pop(key, upstream, sequence, rest);
        tell(mark);
    }
}

impl Known {
    /// Of an event that comes: where it has not left already.
    fn not_left(&mut self, sequence: u64, targets: &Targets) -> Targets {
        // They come in order: those before it never do.
        self.early = self.early.split_off(&(sequence, Arc::from("")));
        let left = |known: &mut BTreeSet<_>, name: &Arc<str>| known.remove(&(sequence, Arc::clone(name)));
        targets.iter().filter(|target| !left(&mut self.early, &target.name)).cloned().collect()
    }

    fn put(&mut self, key: StateKey, upstream: &Arc<str>, sequence: u64, order: Order) {
        let waiting = self.rows.entry(key).or_default();
        match waiting.iter_mut().find(|(name, _)| name == upstream) {
            Some((_, orders)) => orders.push_back((sequence, order)),
            None => waiting.push((Arc::clone(upstream), VecDeque::from([(sequence, order)]))),
        }
    }

    fn orders(&mut self, key: StateKey, upstream: &str) -> Option<&mut Orders> {
        self.rows.get_mut(&key)?.iter_mut().find(|(name, _)| &**name == upstream).map(|(_, orders)| orders)
    }

    fn pop(&mut self, key: StateKey, upstream: &Arc<str>, sequence: u64, rest: Rest) -> Mark {
        if sequence > self.last {
            // Of events without a state it is never said that they came.
            if self.early.len() >= EARLY_MAX {
                self.early.pop_first();
            }
            self.early.insert((sequence, Arc::clone(upstream)));
            return Mark::Stays;
        }
        let is_partly = self.partly.contains(upstream);
        let orders = self.orders(key, upstream);
        let (place, next) = match orders {
            None => (None, None),
            Some(orders) => {
                let place = orders.iter().position(|(known, _)| *known == sequence);
                place.map(|place| orders.remove(place));
                (place, orders.front().copied())
            }
        };
        match (place, next) {
            (Some(0), Some((_, order))) => Mark::Moves(order),
            (Some(_), Some(_)) => Mark::Stays,
            (Some(_), None) => {
                self.forget(key, upstream);
                Mark::Goes
            }
            // Of before the start, and not known: its field goes on to the first one that is.
            (None, Some((first, order))) if is_partly && rest == Rest::Next(first) => Mark::Moves(order),
            (None, None) if is_partly && rest == Rest::Nothing => Mark::Goes,
            (None, _) => Mark::Stays,
        }
    }

    fn forget(&mut self, key: StateKey, upstream: &str) {
        if let Some(waiting) = self.rows.get_mut(&key) {
            waiting.retain(|(name, _)| &**name != upstream);
            if waiting.is_empty() {
                self.rows.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Micros;
    use crate::metrics::Metrics;

    const KEY: StateKey = StateKey(7);

    fn targets(names: &[&str]) -> Targets {
        let metrics = Metrics::new(1).unwrap();
        names.iter().map(|name| metrics.upstream(name)).collect()
    }

    /// Where it is told to wait.
    fn push(queues: &Queues, sequence: u64, order: i64, targets: &Targets) -> String {
        let mut told = None;
        queues.push(KEY, Order(order), Goes { sequence, targets }, |waits| told = Some(waits));
        let waits = told.unwrap();
        waits.iter().flat_map(|waits| waits.iter()).map(|target| &*target.name).collect::<Vec<_>>().join(" ")
    }

    fn pop(queues: &Queues, upstream: &str, sequence: u64, rest: Rest) -> Mark {
        let mut told = None;
        queues.pop(KEY, &upstream.into(), sequence, rest, |mark| told = Some(mark));
        told.unwrap()
    }

    fn oldest(queues: &Queues) -> Vec<(String, i64)> {
        queues.marks(KEY).oldest.iter().map(|(name, order)| (name.to_string(), order.0)).collect()
    }

    #[test]
    fn the_oldest_that_waits_is_told_until_none_does() {
        let (queues, both) = (Queues::default(), targets(&["a", "b"]));
        assert_eq!((push(&queues, 4, 1, &both), push(&queues, 6, 2, &both)), ("a b".to_owned(), "a b".to_owned()));
        assert_eq!(pop(&queues, "a", 4, Rest::Next(6)), Mark::Moves(Order(2)));
        assert_eq!(oldest(&queues), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(pop(&queues, "a", 6, Rest::Nothing), Mark::Goes);
        assert_eq!(pop(&queues, "b", 5, Rest::Next(6)), Mark::Stays, "one that was not told");
        assert_eq!(pop(&queues, "b", 4, Rest::Next(6)), Mark::Moves(Order(2)));
        assert_eq!(pop(&queues, "b", 4, Rest::Next(6)), Mark::Stays, "a dead letter that was replayed");
        assert_eq!(pop(&queues, "b", 6, Rest::Unknown), Mark::Goes);
        assert!(queues.lock().rows.is_empty() && oldest(&queues).is_empty());
        assert_eq!(push(&queues, 7, 3, &targets(&[])), "");
    }

    #[test]
    fn what_left_before_it_came_leaves_no_field() {
        let (queues, both) = (Queues::default(), targets(&["a", "b"]));
        push(&queues, 1, 1, &both);
        assert_eq!(pop(&queues, "a", 3, Rest::Nothing), Mark::Stays);
        assert_eq!(pop(&queues, "b", 2, Rest::Nothing), Mark::Stays, "one without a state");
        assert_eq!(push(&queues, 3, 2, &both), "b", "it waits for the other alone");
        assert_eq!(pop(&queues, "a", 1, Rest::Nothing), Mark::Goes);
        assert_eq!(pop(&queues, "b", 1, Rest::Next(3)), Mark::Moves(Order(2)));
        assert!(queues.lock().early.is_empty());
    }

    #[test]
    fn what_waited_at_the_start_moves_the_field_as_what_came_since() {
        let queues = Queues::default();
        let event = |sequence, at| LeftEvent { sequence, key: KEY, received_at: Micros(at) };
        queues.restore(vec![Left { upstream: "a".into(), events: vec![event(8, 80), event(9, 90)], all: true }]);
        assert_eq!(queues.keys(), [KEY]);
        push(&queues, 12, 120, &targets(&["a"]));
        assert_eq!(pop(&queues, "a", 8, Rest::Next(9)), Mark::Moves(Order(90)));
        assert_eq!(pop(&queues, "a", 9, Rest::Next(12)), Mark::Moves(Order(120)));
        assert_eq!(pop(&queues, "a", 12, Rest::Nothing), Mark::Goes);
    }

    #[test]
    fn a_field_of_what_is_not_known_any_more_stays_until_what_is_known_comes_first() {
        let queues = Queues::default();
        let event = LeftEvent { sequence: 9, key: KEY, received_at: Micros(90) };
        queues.restore(vec![Left { upstream: "a".into(), events: vec![event], all: false }]);
        assert_eq!(queues.marks(KEY).partly.as_slice(), [Arc::<str>::from("a")]);
        assert_eq!(pop(&queues, "a", 2, Rest::Next(3)), Mark::Stays);
        assert_eq!(pop(&queues, "a", 3, Rest::Unknown), Mark::Stays);
        assert_eq!(pop(&queues, "a", 4, Rest::Next(9)), Mark::Moves(Order(90)));
        assert_eq!(pop(&queues, "a", 9, Rest::Nothing), Mark::Goes);
        assert_eq!(pop(&queues, "a", 5, Rest::Nothing), Mark::Goes, "nothing of its key is known, and nothing waits");
        assert_eq!(pop(&queues, "b", 5, Rest::Nothing), Mark::Stays);
    }
}
