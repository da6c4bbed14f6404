//! What stands beside the table's rows while replicas share their states: when a key changed last, when it was last
//! confirmed, and its lease. One entry of some 50 B a key that was changed or asked for since the start; none without Redis.
//!
//! Always locked after the table's shard.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::lock;
use super::shared::{Order, Token};
use crate::event::{Micros, StateKey, Uid};

const SHARDS: usize = 64;
/// So long an answer holds without asking again (DESIGN 5.4).
const CONFIRMED_FOR: Duration = Duration::from_secs(1);
/// A state that cannot be confirmed is told again at most once in this time.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Default)]
struct Side {
    order: Order,
    /// In microseconds since the start; 0: never.
    confirmed_at: u64,
    /// Changed elsewhere since it was asked for.
    stale: bool,
    lease: Option<Token>,
}

/// An incident whose duplicates go out again, for nobody can confirm that it is still open.
struct Unsure {
    iid: Uid,
    told_at: Instant,
    /// Another one waits in the log until the time is over.
    kept: bool,
}

/// What becomes of a duplicate that cannot be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Now,
    /// When the time is over.
    Later,
    /// One that waits says as much.
    Said,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

pub(super) struct Sides {
    shards: Box<[Mutex<Map<StateKey, Side>>]>,
    began: Instant,
    /// Confirmations before it mean nothing any more.
    holds_from: AtomicU64,
    unsure: Mutex<Map<StateKey, Unsure>>,
    waiting: Mutex<Map<StateKey, Arc<Notify>>>,
    tokens: AtomicU64,
}

impl Sides {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            began: Instant::now(),
            holds_from: AtomicU64::new(0),
            unsure: Mutex::default(),
            waiting: Mutex::default(),
            tokens: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: StateKey) -> MutexGuard<'_, Map<StateKey, Side>> {
        lock(&self.shards[(key.0 >> 112) as usize % SHARDS])
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The key is asked for: what is told from now on is newer than the answer.
    pub(super) fn ask(&self, key: StateKey) {
        self.shard(key).entry(key).or_default().stale = false;
    }

    /// When a key changed last, as far as that is known since the start.
    pub(super) fn order(&self, key: StateKey) -> Option<Order> {
        self.shard(key).get(&key).map(|side| side.order).filter(|order| order.0 > 0)
    }

    /// The log tells when a key changed last. A row says it to the second: no more is kept of what is told no finer.
    pub(super) fn restore(&self, key: StateKey, changed: Micros) {
        if changed.0 % 1_000_000 != 0 {
            self.shard(key).entry(key).or_default().order = Order(changed.0);
        } else {
            self.shard(key).remove(&key);
        }
    }

    /// The answer that came is what holds, unless it was overtaken.
    pub(super) fn confirm(&self, key: StateKey, order: Order, lease: Option<Token>) {
        let now = self.now();
        let mut shard = self.shard(key);
        let side = shard.entry(key).or_default();
        side.order = side.order.max(order);
        side.lease = lease;
        side.confirmed_at = if side.stale { 0 } else { now };
    }

    /// An answer that was not asked for a change: the next change asks again.
    pub(super) fn learn(&self, key: StateKey, order: Order) {
        let mut shard = self.shard(key);
        let side = shard.entry(key).or_default();
        side.order = side.order.max(order);
    }

    pub(super) fn lease(&self, key: StateKey, lease: Option<Token>) {
        self.shard(key).entry(key).or_default().lease = lease;
    }

    /// A change is durable: its order, and the lease it was made under. While that lives nobody else changes the key.
    pub(super) fn commit(&self, key: StateKey, now: Micros) -> (Order, Option<Token>) {
        let confirmed_at = self.now();
        let mut shard = self.shard(key);
        let side = shard.entry(key).or_default();
        side.order = Order(now.0.max(side.order.0.saturating_add(1)));
        let lease = side.lease.take();
        side.confirmed_at = if lease.is_some() && !side.stale { confirmed_at } else { 0 };
        (side.order, lease)
    }

    pub(super) fn release(&self, key: StateKey) -> Option<Token> {
        self.shard(key).get_mut(&key).and_then(|side| side.lease.take())
    }

    /// Whether the last answer still holds; `within`: also whether it is younger than a second.
    pub(super) fn is_confirmed(&self, key: StateKey, young: bool) -> bool {
        let from = self.holds_from.load(Ordering::Acquire);
        let oldest = if young { self.now().saturating_sub(micros(CONFIRMED_FOR)) } else { 0 };
        let shard = self.shard(key);
        let Some(side) = shard.get(&key) else { return false };
        !side.stale && side.confirmed_at > from.max(oldest)
    }

    /// Another replica changed the key.
    pub(super) fn changed(&self, key: StateKey) {
        if let Entry::Occupied(mut side) = self.shard(key).entry(key) {
            side.get_mut().stale = true;
            side.get_mut().confirmed_at = 0;
        }
        if let Some(waiting) = lock(&self.waiting).get(&key) {
            waiting.notify_one();
        }
    }

    /// Nothing that was confirmed until now holds.
    pub(super) fn all_changed(&self) {
        self.holds_from.fetch_max(self.now(), Ordering::AcqRel);
        lock(&self.waiting).values().for_each(|waiting| waiting.notify_one());
    }

    /// Waits until another replica changed the key, at most so long. One request waits for a key at a time.
    pub(super) async fn wait_for_change(&self, key: StateKey, at_most: Duration) {
        let changes = Arc::clone(lock(&self.waiting).entry(key).or_default());
        let _ = tokio::time::timeout(at_most, changes.notified()).await;
        lock(&self.waiting).remove(&key);
    }

    /// A duplicate that cannot be confirmed (DESIGN 5.4).
    pub(super) fn say_again(&self, key: StateKey, iid: Uid) -> Again {
        let now = Instant::now();
        let mut rows = lock(&self.unsure);
        match rows.entry(key) {
            Entry::Occupied(mut row) if row.get().iid == iid && now - row.get().told_at < AGAIN_AFTER => {
                let row = row.get_mut();
                if std::mem::replace(&mut row.kept, true) { Again::Said } else { Again::Later }
            }
            row => {
                row.insert_entry(Unsure { iid, told_at: now, kept: false });
                Again::Now
            }
        }
    }

    /// Until when the one that was kept waits; `None` where nothing says so.
    pub(super) fn kept_until(&self, key: StateKey) -> Option<Instant> {
        lock(&self.unsure).get(&key).map(|row| row.told_at + AGAIN_AFTER)
    }

    /// Forgets what is over, and what `keeps` does not say of.
    pub(super) fn retain(&self, keeps: impl Fn(StateKey) -> bool) {
        lock(&self.unsure).retain(|_, row| row.told_at.elapsed() < AGAIN_AFTER);
        for shard in &self.shards {
            // The table's shards come first: nothing may be locked here while it is asked.
            let keys: Vec<StateKey> = lock(shard).keys().copied().collect();
            let gone: Vec<StateKey> = keys.into_iter().filter(|key| !keeps(*key)).collect();
            let mut sides = lock(shard);
            for key in gone {
                if sides.get(&key).is_some_and(|side| side.lease.is_none()) {
                    sides.remove(&key);
                }
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StateKey = StateKey(7);

    fn after(time: Duration) -> impl Future<Output = ()> {
        tokio::time::advance(time)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_second_unless_it_was_overtaken() {
        let sides = Sides::new();
        sides.ask(KEY);
        sides.confirm(KEY, Order(5), None);
        after(CONFIRMED_FOR - Duration::from_micros(1)).await;
        assert!(sides.is_confirmed(KEY, true));
        after(Duration::from_micros(2)).await;
        assert!(!sides.is_confirmed(KEY, true) && sides.is_confirmed(KEY, false));
        sides.ask(KEY);
        sides.changed(KEY);
        sides.confirm(KEY, Order(6), None);
        assert!(!sides.is_confirmed(KEY, false), "told of a change between question and answer");
        sides.ask(KEY);
        sides.confirm(KEY, Order(6), None);
        after(Duration::from_micros(1)).await;
        sides.all_changed();
        assert!(!sides.is_confirmed(KEY, false));
    }

    #[test]
    fn orders_grow_though_the_clock_goes_back() {
        let sides = Sides::new();
        assert_eq!(sides.commit(KEY, Micros(100)).0, Order(100));
        assert_eq!(sides.commit(KEY, Micros(50)).0, Order(101));
        sides.confirm(KEY, Order(300), Some(Token(1)));
        assert_eq!(sides.commit(KEY, Micros(200)), (Order(301), Some(Token(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_confirmed_is_said_once_a_minute_and_once_more_at_its_end() {
        let sides = Sides::new();
        let said: Vec<Again> = (0..3).map(|_| sides.say_again(KEY, Uid(1))).collect();
        assert_eq!(said, [Again::Now, Again::Later, Again::Said]);
        assert_eq!(sides.say_again(KEY, Uid(2)), Again::Now, "another incident");
        after(AGAIN_AFTER).await;
        assert_eq!(sides.say_again(KEY, Uid(2)), Again::Now);
    }
}
