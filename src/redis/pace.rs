//! How long until the next try of a connection: doubling, with jitter, so that replicas do not come back as one.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Pace {
    tries: u32,
}

impl Pace {
    pub(super) fn begin_anew(&mut self) {
        self.tries = 0;
    }

    /// At least half of the whole, at most 1 s.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(8)).min(MOST);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_begin_anew() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..20).map(|_| pace.next()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits.iter().all(|wait| *wait <= MOST));
        assert!(waits[10..].iter().all(|wait| *wait >= MOST / 2));
        pace.begin_anew();
        assert!(pace.next() <= FIRST);
    }
}
