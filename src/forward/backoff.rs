//! How long a failed lane waits. How an upstream that fails on many of them is spared is the circuit's.

use std::time::Duration;

/// First wait of a failed lane; doubled each time (contracts 7.1).
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The wait before attempt `attempts + 1`: full jitter under a doubling ceiling.
pub(super) fn wait(attempts: u32) -> Duration {
    ceiling(attempts, WAIT_MAX).mul_f64(fastrand::f64())
}

/// What a wait doubles up to after so many failures: from 1 s to `max`.
pub(super) fn ceiling(failures: u32, max: Duration) -> Duration {
    WAIT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_under_its_cap_and_is_jittered_over_all_of_it() {
        for (attempts, ceiling_s) in [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (u32::MAX, 300)] {
            let ceiling = Duration::from_secs(ceiling_s);
            let waits: Vec<Duration> = (0..2_000).map(|_| wait(attempts)).collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            assert!(waits.iter().any(|wait| *wait < ceiling / 4), "full jitter");
            assert!(waits.iter().any(|wait| *wait > ceiling.mul_f64(0.75)), "up to the ceiling");
        }
    }
}
