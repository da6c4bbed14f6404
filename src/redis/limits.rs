//! Event limits that hold for all replicas together. The gate takes tokens; nothing on its path waits for Redis.
//!
//! Each replica has a lease: tokens that it may spend at once. What it spent it tells Redis at most every 20 ms, where a
//! script takes them from the one bucket of the limit, by Redis's clock, and says how many are left for the next lease.
//! Leases are given on trust: what is spent is always charged, so over time the limit holds exactly; at any moment
//! replicas are ahead of it by at most **replicas × lease**, and a lease is at most the replica's share of the burst,
//! and at least 1.
//!
//! While Redis is away a replica holds its share alone: rate and burst divided by the replicas that last lived.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::Value;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::replica::Replica;
use super::{Call, Link, Script};
use crate::gate::{Fleet, Rate, SharedLimit};
use crate::metrics::Metrics;

static SPEND: Script = Script::new(include_str!("scripts/spend.lua"));

/// Least time between two reports of one limit.
const GAP: Duration = Duration::from_millis(20);
/// Between two tries while Redis is away.
const AWAY_GAP: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Makes the limits of integrations that all replicas hold together.
pub struct Limits {
    link: Arc<Link>,
    replica: Arc<Replica>,
    counts: Arc<Counts>,
}

/// For `rate_limit_fallback`.
#[derive(Default)]
struct Counts {
    limits: AtomicUsize,
    alone: AtomicUsize,
}

impl Limits {
    pub fn start(link: &Arc<Link>, replica: &Arc<Replica>, metrics: &Arc<Metrics>) -> Self {
        let counts = Arc::<Counts>::default();
        link.spawn(show(Arc::downgrade(link), Arc::clone(&counts), Arc::clone(metrics)));
        Self { link: Arc::clone(link), replica: Arc::clone(replica), counts }
    }
}

/// Keeps the gauge.
async fn show(link: Weak<Link>, counts: Arc<Counts>, metrics: Arc<Metrics>) {
    while let Some(link) = link.upgrade() {
        let held = counts.limits.load(Ordering::Relaxed) > 0;
        let alone = held && (!link.is_up() || counts.alone.load(Ordering::Relaxed) > 0);
        metrics.rate_limit_fallback.set(i64::from(alone));
        drop(link);
        sleep(LOOK_EVERY).await;
    }
}

impl Fleet for Limits {
    fn limit(&self, integration: &str, rate: Rate) -> Arc<dyn SharedLimit> {
        let wake = Arc::<Notify>::default();
        let limit = Arc::new(Limit {
            key: format!("{}:limit:{{{integration}}}", self.link.prefix()).into(),
            rate,
            link: Arc::clone(&self.link),
            replica: Arc::clone(&self.replica),
            counts: Arc::clone(&self.counts),
            purse: Mutex::new(Purse::new(Instant::now())),
            asked: AtomicBool::new(true),
            wake: Arc::clone(&wake),
        });
        limit.purse().left = limit.lease_most();
        self.counts.limits.fetch_add(1, Ordering::Relaxed);
        wake.notify_one();
        self.link.spawn(keep(Arc::downgrade(&limit), wake));
        limit
    }
}

/// The limit of one integration.
struct Limit {
    key: Bytes,
    rate: Rate,
    link: Arc<Link>,
    replica: Arc<Replica>,
    counts: Arc<Counts>,
    purse: Mutex<Purse>,
    /// The task knows that there is something to report.
    asked: AtomicBool,
    wake: Arc<Notify>,
}

/// What this replica may spend, and has spent.
struct Purse {
    left: i64,
    /// Not reported yet.
    spent: i64,
    /// When Redis will have a token again, where it has none.
    more_at: Instant,
    /// Redis is away: the share is held alone.
    alone: bool,
    /// When the share's bucket would be full again.
    full_at: Instant,
}

impl Purse {
    fn new(now: Instant) -> Self {
        Self { left: 0, spent: 0, more_at: now, alone: false, full_at: now }
    }

    /// From the lease, or says how long until there may be more.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.left <= 0 {
            return Err(self.more_at.saturating_duration_since(now).max(GAP));
        }
        self.left -= 1;
        self.spent += 1;
        Ok(())
    }

    /// From this replica's share.
    fn take_alone(&mut self, now: Instant, rate: Rate, replicas: u32) -> Result<(), Duration> {
        let interval = interval(rate) * replicas;
        let burst = (rate.burst.get() / replicas).max(1);
        let full_at = self.full_at.max(now) + interval;
        let most = now + interval * burst;
        if full_at > most {
            return Err(full_at - most);
        }
        self.full_at = full_at;
        Ok(())
    }
}

/// Until a token comes back.
fn interval(rate: Rate) -> Duration {
    Duration::from_secs(1) / rate.per_second.get()
}

impl SharedLimit for Limit {
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut purse = self.purse();
        let taken = if purse.alone {
            self.link.meter().limit_fell_back();
            purse.take_alone(now, self.rate, self.replica.living())
        } else {
            purse.take(now)
        };
        drop(purse);
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
        taken
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.counts.limits.fetch_sub(1, Ordering::Relaxed);
        if self.purse().alone {
            self.counts.alone.fetch_sub(1, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }
}

impl Limit {
    fn purse(&self) -> MutexGuard<'_, Purse> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest lease: this replica's share of the burst.
    fn lease_most(&self) -> i64 {
        i64::from((self.rate.burst.get() / self.replica.living()).max(1))
    }

    /// Tells Redis what was spent and takes a new lease. When to come again without being asked; `None`: the lease is as
    /// large as it gets.
    async fn report(&self) -> Option<Duration> {
        let spent = std::mem::take(&mut self.purse().spent);
        let call = Call::new(&SPEND, self.key.clone())
            .number(spent)
            .number(1e6 / f64::from(self.rate.per_second.get()))
            .number(self.rate.burst)
            .number(self.replica.living());
        let Some(Ok(Value::Int(thousandths))) = self.link.send_behind(vec![call]).await.pop() else {
            self.away(spent);
            return Some(AWAY_GAP);
        };
        let most = self.lease_most();
        let mut purse = self.purse();
        if std::mem::take(&mut purse.alone) {
            self.counts.alone.fetch_sub(1, Ordering::Relaxed);
        }
        // Spent while the report was under way.
        let room = thousandths - purse.spent * 1000;
        purse.left = (room.max(0) / 1000).min(most);
        if purse.left == most {
            return None;
        }
        let until = |tokens: i64| {
            let missing = f64::from(u32::try_from((tokens * 1000 - room).max(0)).unwrap_or(u32::MAX)) / 1000.0;
            interval(self.rate).mul_f64(missing)
        };
        purse.more_at = Instant::now() + until(1);
        Some(until(most))
    }

    /// What was spent may have been charged or not: it is charged again, so that the limit holds.
    fn away(&self, spent: i64) {
        let mut purse = self.purse();
        purse.spent = (purse.spent + spent).min(i64::from(self.rate.burst.get()));
        purse.left = 0;
        if !std::mem::replace(&mut purse.alone, true) {
            self.counts.alone.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reports when something was spent, and until the lease is whole again.
async fn keep(limit: Weak<Limit>, wake: Arc<Notify>) {
    let mut again = None;
    loop {
        match again {
            None => wake.notified().await,
            Some(wait) => drop(timeout(wait, wake.notified()).await),
        }
        let Some(limit) = limit.upgrade() else { return };
        limit.asked.store(false, Ordering::Release);
        again = limit.report().await;
        drop(limit);
        sleep(GAP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    #[test]
    fn a_share_is_a_part_of_rate_and_burst_and_at_least_one_token() {
        let now = Instant::now();
        let mut purse = Purse::new(now);
        let rate = rate(30, 9);
        let taken = (0..20).filter(|_| purse.take_alone(now, rate, 3).is_ok()).count();
        assert_eq!(taken, 3);
        let wait = purse.take_alone(now, rate, 3).unwrap_err();
        assert!(wait > Duration::from_millis(99) && wait <= Duration::from_millis(101), "{wait:?}");
        assert!(purse.take_alone(now + wait, rate, 3).is_ok());
        // More replicas than the burst.
        let mut purse = Purse::new(now);
        assert!(purse.take_alone(now, rate, 100).is_ok());
        assert!(purse.take_alone(now, rate, 100).is_err());
    }

    #[test]
    fn a_lease_is_spent_and_says_when_there_may_be_more() {
        let now = Instant::now();
        let mut purse = Purse { left: 2, more_at: now + Duration::from_secs(3), ..Purse::new(now) };
        assert!(purse.take(now).is_ok() && purse.take(now).is_ok());
        assert_eq!(purse.take(now), Err(Duration::from_secs(3)));
        assert_eq!((purse.left, purse.spent), (0, 2));
        assert_eq!(purse.take(now + Duration::from_secs(9)), Err(GAP), "asked again soon");
    }
}
