//! What each integration came to, for the status page: counted by the tickets of its events, as the books are, and with
//! them when the last event came and what was refused last. Not in the books' identity and not in the log: a start
//! begins at nothing. Memory: half a kilobyte an integration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::outcome::{Class, Reason};

/// Threads that take requests in share this many pages of one integration.
const PAGES: usize = 4;
/// Bits of a stamp that name the reason.
const REASON_BITS: u32 = 8;

/// One integration's.
pub struct Tally(Box<[Arc<Page>]>);

/// In lines of its own: threads that count beside each other do not wait for each other.
#[repr(align(128))]
pub struct Page {
    began: Instant,
    accepted: AtomicU64,
    absorbed: AtomicU64,
    rejected: AtomicU64,
    limited: AtomicU64,
    /// Milliseconds since it began, from 1; 0: never.
    seen: AtomicU64,
    /// The same, and the reason in the low bits.
    refused: AtomicU64,
}

/// All pages of an integration together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    pub accepted: u64,
    pub absorbed: u64,
    /// Those that were limited, too.
    pub rejected: u64,
    /// Refused because there was too much of it.
    pub limited: u64,
    /// How long ago the last event came.
    pub seen_ago: Option<Duration>,
    /// How long ago one was refused, and why.
    pub refused_ago: Option<(Duration, Reason)>,
}

impl Tally {
    pub fn new() -> Self {
        let began = Instant::now();
        let page = || Page {
            began,
            accepted: AtomicU64::new(0),
            absorbed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        Self((0..PAGES).map(|_| Arc::new(page())).collect())
    }

    /// The page that the thread of `worker` counts on.
    pub fn page(&self, worker: usize) -> &Arc<Page> {
        &self.0[worker % PAGES]
    }

    pub fn sum(&self, now: Instant) -> Tallied {
        let mut all = Tallied::default();
        let (mut seen, mut refused) = (0, 0);
        for page in &self.0 {
            all.accepted += page.accepted.load(Relaxed);
            all.absorbed += page.absorbed.load(Relaxed);
            all.rejected += page.rejected.load(Relaxed);
            all.limited += page.limited.load(Relaxed);
            seen = seen.max(page.seen.load(Relaxed));
            refused = refused.max(page.refused.load(Relaxed));
        }
        // All pages began together.
        let ago = |stamp: u64| {
            let began = self.0.first().map(|page| page.began)?;
            let at = began + Duration::from_millis(stamp.checked_sub(1)?);
            Some(now.saturating_duration_since(at))
        };
        all.seen_ago = ago(seen);
        let reason = usize::try_from(refused & ((1 << REASON_BITS) - 1)).unwrap_or(usize::MAX);
        all.refused_ago = ago(refused >> REASON_BITS).zip(Reason::all().nth(reason));
        all
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Page {
    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// An event came.
    pub(super) fn sees(&self, at: Instant) {
        let stamp = self.stamp(at);
        // Mostly another came in the same millisecond.
        if self.seen.load(Relaxed) < stamp {
            self.seen.fetch_max(stamp, Relaxed);
        }
    }

    pub(super) fn accepts(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn absorbs(&self) {
        self.absorbed.fetch_add(1, Relaxed);
    }

    pub(super) fn rejects(&self, reason: Reason) {
        self.rejected.fetch_add(1, Relaxed);
        if reason.class() == Class::Overload {
            self.limited.fetch_add(1, Relaxed);
        }
        self.refused.fetch_max(self.stamp(Instant::now()) << REASON_BITS | reason.index() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::outcome::Outcome;

    #[tokio::test(start_paused = true)]
    async fn an_integrations_tickets_are_counted_as_they_end_and_the_last_refusal_is_told() {
        const { assert!(Reason::COUNT < 1 << REASON_BITS) };
        let (metrics, tally) = (Metrics::new(2).unwrap(), Tally::new());
        assert_eq!(tally.sum(Instant::now()), Tallied::default());
        let take = |worker| metrics.receive(worker).of(tally.page(worker), Instant::now());
        take(0).accept();
        take(1).absorb(Outcome::Duplicate);
        take(5).reject(Reason::InvalidJson);
        tokio::time::advance(Duration::from_secs(2)).await;
        take(0).reject(Reason::EventLimit);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(take(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        let all = tally.sum(Instant::now());
        assert_eq!((all.accepted, all.absorbed, all.rejected, all.limited), (1, 1, 3, 1));
        assert_eq!(all.seen_ago, Some(Duration::from_secs(1)));
        assert_eq!(all.refused_ago, Some((Duration::from_secs(1), Reason::Internal)), "a dropped one is our own fault");
        assert!(metrics.intake().balances());
    }
}
