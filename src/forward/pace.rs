//! The pace of sending: at most n requests in any window (contracts 7.1), shaped by a burst.
//! A log of the last sends makes "any window" exact; a bucket alone would let twice the limit through
//! across the edge of a window.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::sink::Pace;

/// Most sends remembered; a pace beyond that many a window is as good as none. 16 B each.
const SENDS_MAX: usize = 1_000_000;
/// The window is longer than asked by 1/50, at most 1 s: requests reach the upstream with unequal delays,
/// and *its* window must hold too.
const SLACK_DIVISOR: u32 = 50;
const SLACK_MAX: Duration = Duration::from_secs(1);

/// A sliding window over past sends, with a leaky bucket in front for a burst below the limit.
#[derive(Debug)]
pub(super) struct Window {
    pace: Pace,
    sends_max: usize,
    span: Duration,
    sends: VecDeque<Instant>,
    /// Time between sends once the burst is spent, and when the bucket is empty again.
    interval: Duration,
    drained_at: Option<Instant>,
}

impl Window {
    pub(super) fn new(pace: Pace) -> Self {
        let requests = pace.requests.max(1);
        Self {
            pace,
            sends_max: usize::try_from(requests).unwrap_or(SENDS_MAX).min(SENDS_MAX),
            span: pace.per + (pace.per / SLACK_DIVISOR).min(SLACK_MAX),
            sends: VecDeque::new(),
            interval: pace.per / requests,
            drained_at: None,
        }
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// When the next send may go; `now` or earlier means at once.
    pub(super) fn free_at(&self, now: Instant) -> Instant {
        let full = self.sends.len() >= self.sends_max;
        let window = if full { self.sends.front().map(|first| *first + self.span) } else { None };
        let burst = self.interval * (self.pace.burst.max(1) - 1);
        let bucket = self.drained_at.map(|at| at.checked_sub(burst).unwrap_or(at));
        [window, bucket].into_iter().flatten().fold(now, Instant::max)
    }

    /// Counts a send at `now`.
    pub(super) fn take(&mut self, now: Instant) {
        while self.sends.front().is_some_and(|first| *first + self.span <= now) {
            self.sends.pop_front();
        }
        self.sends.push_back(now);
        self.drained_at = Some(self.drained_at.map_or(now, |at| at.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(requests: u32, per_ms: u64, burst: u32) -> Pace {
        Pace { requests, per: Duration::from_millis(per_ms), burst }
    }

    #[test]
    fn a_free_window_is_spent_at_once_and_then_waits_for_its_first_send_to_age() {
        let start = Instant::now();
        let mut window = Window::new(pace(15, 60_000, 15));
        for _ in 0..15 {
            assert!(window.free_at(start) <= start);
            window.take(start);
        }
        assert_eq!(window.free_at(start), start + Duration::from_secs(61));
    }

    #[test]
    fn a_burst_below_the_limit_spreads_the_rest() {
        let start = Instant::now();
        let mut window = Window::new(pace(10, 1_000, 2));
        window.take(start);
        assert_eq!(window.free_at(start), start);
        window.take(start);
        assert_eq!(window.free_at(start), start + Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_the_pace(
            requests in 1u32..40,
            burst in 1u32..40,
            per_ms in 1u64..5_000,
            waits_ms in prop::collection::vec(0u64..400, 1..300),
        ) {
            let per = Duration::from_millis(per_ms);
            let mut window = Window::new(pace(requests, per_ms, burst.min(requests)));
            let mut now = Instant::now();
            let mut sends: Vec<Instant> = Vec::new();
            for wait_ms in waits_ms {
                now += Duration::from_millis(wait_ms);
                // Impatient half of the time: waits exactly until it may.
                if wait_ms % 2 == 0 { now = now.max(window.free_at(now)); }
                if window.free_at(now) <= now {
                    window.take(now);
                    sends.push(now);
                }
            }
            for (index, first) in sends.iter().enumerate() {
                let inside = sends[index..].iter().take_while(|at| **at < *first + per).count();
                prop_assert!(inside <= requests as usize, "{inside} in one window of {requests}");
            }
        }
    }
}
