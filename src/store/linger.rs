//! How long a commit waits for company. A sync costs 60 to 90 µs of CPU however much it carries
//! (PERFORMANCE 3), so under load it pays to gather first; when idle, or when everybody who could come
//! already waits, it only costs time.

use std::time::Duration;

/// Longest a commit is held up: a request already waits 150 to 290 µs for its sync.
const LONGEST: Duration = Duration::from_millis(1);
/// One look at who came. Shorter than a sync, so a look in vain costs less than what it tries to save.
pub(super) const STEP: Duration = Duration::from_micros(150);
/// Fewer than this in one look: the sync's cost a record no longer falls enough to pay for the wait.
const FRESH_MIN: usize = 4;
/// Beyond this a record's share of the sync is below 0.4 µs and the curve is flat (415,000 records/s at
/// 256, 578,000 at 4,096).
const ENOUGH: usize = 256;

/// What the last commits taught.
#[derive(Debug)]
pub(super) struct Linger {
    /// About as many as will come before all who could wait.
    target: usize,
}

impl Default for Linger {
    fn default() -> Self {
        Self { target: ENOUGH }
    }
}

impl Linger {
    /// How many to wait for, for one [`STEP`]; `None`: commit now.
    /// `gathered` wait, `fresh` of them came in the last step (at first: during the last sync).
    pub(super) fn wait_for(&mut self, gathered: usize, fresh: usize, waited: Duration) -> Option<usize> {
        if gathered >= self.target {
            // Perhaps more would come: ask for a little more the next time.
            self.target = (gathered + gathered / 8 + 1).min(ENOUGH);
            return None;
        }
        if waited >= LONGEST || fresh < FRESH_MIN {
            self.target = gathered.max(2 * FRESH_MIN);
            return None;
        }
        Some(self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_commit_never_waits() {
        let mut linger = Linger::default();
        for gathered in 1..FRESH_MIN {
            assert_eq!(linger.wait_for(gathered, gathered, Duration::ZERO), None);
        }
    }

    #[test]
    fn a_busy_commit_waits_while_others_come_but_not_past_its_limit() {
        let mut linger = Linger::default();
        assert_eq!(linger.wait_for(20, 20, Duration::ZERO), Some(ENOUGH));
        assert_eq!(linger.wait_for(40, 20, STEP), Some(ENOUGH));
        assert_eq!(linger.wait_for(41, 1, 2 * STEP), None, "the stream dried up");
        assert_eq!(Linger::default().wait_for(200, 50, LONGEST), None);
        assert_eq!(Linger::default().wait_for(ENOUGH, 50, STEP), None);
    }

    #[test]
    fn once_all_who_could_come_wait_the_next_commit_does_not_wait_longer_for_them() {
        let mut linger = Linger::default();
        assert_eq!(linger.wait_for(64, 0, STEP), None, "64 connections: all of them wait");
        assert_eq!(linger.wait_for(30, 30, Duration::ZERO), Some(64));
        assert_eq!(linger.wait_for(64, 34, STEP), None);
        assert_eq!(linger.target, 73, "and it asks for a little more each time");
    }
}
