//! How long a commit waits for company. A sync costs 60 to 90 µs of CPU however much it carries
//! (PERFORMANCE 3), so under load it pays to gather first. It never pays once the request threads are idle: who
//! could come already waits.

use std::time::Duration;

/// Longest a commit is held up, and only while the request threads are busy: with so much to do, a request waits
/// longer for its turn on the core than for this.
const LONGEST: Duration = Duration::from_millis(3);
/// The first look at who came. Shorter than a sync, so a look in vain costs less than what it tries to save.
const FIRST_STEP: Duration = Duration::from_micros(150);
/// Later looks: each costs a switch to the writer and back.
const STEP: Duration = Duration::from_micros(600);
/// Beyond this a record's share of the sync is below 0.4 µs and the curve is flat (415,000 records/s at
/// 256, 578,000 at 4,096).
const ENOUGH: usize = 256;
/// With fewer, a request thread that becomes idle says so at once: a lone request waits for nothing.
pub(super) const FEW: usize = 8;

/// What the last commits taught.
#[derive(Debug)]
pub(super) struct Linger {
    /// About as many as will come before all who could wait.
    target: usize,
}

/// How long to wait at most, and for how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) at_most: Duration,
    pub(super) gathered: usize,
}

impl Default for Linger {
    fn default() -> Self {
        Self { target: ENOUGH }
    }
}

impl Linger {
    /// `None`: commit now. `gathered` wait since `waited`; `idle`: every request thread has nothing to do.
    pub(super) fn wait_for(&mut self, gathered: usize, idle: bool, waited: Duration) -> Option<Wait> {
        if gathered >= self.target {
            // Perhaps more would come: ask for a little more the next time.
            self.target = (gathered + gathered / 8 + 1).min(ENOUGH);
            return None;
        }
        if idle || waited >= LONGEST {
            self.target = gathered.max(FEW);
            return None;
        }
        let step = if waited < FIRST_STEP { FIRST_STEP } else { STEP };
        Some(Wait { at_most: step.min(LONGEST - waited), gathered: self.target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_threads_that_have_nothing_to_do() {
        for gathered in [1, FEW, ENOUGH - 1] {
            assert_eq!(Linger::default().wait_for(gathered, true, Duration::ZERO), None);
        }
    }

    #[test]
    fn a_busy_commit_waits_for_enough_but_not_past_its_limit() {
        let mut linger = Linger::default();
        let wait = |at_most| Some(Wait { at_most, gathered: ENOUGH });
        assert_eq!(linger.wait_for(1, false, Duration::ZERO), wait(FIRST_STEP));
        assert_eq!(linger.wait_for(40, false, FIRST_STEP), wait(STEP));
        assert_eq!(linger.wait_for(99, false, LONGEST - FIRST_STEP), wait(FIRST_STEP));
        assert_eq!(linger.wait_for(200, false, LONGEST), None);
        assert_eq!(Linger::default().wait_for(ENOUGH, false, STEP), None);
    }

    #[test]
    fn once_all_who_could_come_wait_the_next_commit_does_not_wait_longer_for_them() {
        let mut linger = Linger::default();
        assert_eq!(linger.wait_for(64, true, FIRST_STEP), None, "64 connections: all of them wait");
        assert_eq!(linger.wait_for(30, false, Duration::ZERO).map(|wait| wait.gathered), Some(64));
        assert_eq!(linger.wait_for(64, false, FIRST_STEP), None);
        assert_eq!(linger.target, 73, "and it asks for a little more each time");
    }
}
