//! How long a failed lane waits, and how an upstream that fails on many lanes is spared: one probe at a
//! time until it answers again. A circuit that operators can see and tune has its place beside it.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::LaneKey;

/// First wait of a failed lane; doubled each time (contracts 7.1).
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);
/// So many different lanes must fail, without a success between, before the upstream itself counts as
/// down: events that the upstream chokes on must not stop the others.
const LANES_FAILING_MIN: usize = 5;
/// Longest wait between probes: a returned upstream is noticed after so long.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(15);

/// The wait before attempt `attempts + 1`: full jitter under a doubling ceiling.
pub(super) fn wait(attempts: u32) -> Duration {
    jittered(ceiling(attempts, WAIT_MAX))
}

fn ceiling(failures: u32, max: Duration) -> Duration {
    WAIT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max)
}

fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64())
}

/// Whether an upstream is there, as far as its answers tell.
#[derive(Default)]
pub(super) struct Health {
    /// Lanes that failed since the last success; at most [`LANES_FAILING_MIN`].
    failing: Vec<LaneKey>,
    down: Option<Down>,
}

struct Down {
    since: Instant,
    probes_failed: u32,
    probe_at: Instant,
    probing: bool,
}

impl Health {
    /// When a request may go: `None` while a probe is under way, else its time.
    pub(super) fn free_at(&self, now: Instant) -> Option<Instant> {
        match &self.down {
            None => Some(now),
            Some(down) if down.probing => None,
            Some(down) => Some(down.probe_at.max(now)),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// How long it has been down.
    pub(super) fn down_for(&self, now: Instant) -> Option<Duration> {
        self.down.as_ref().map(|down| now.saturating_duration_since(down.since))
    }

    /// A request goes out; true when it is a probe.
    pub(super) fn sent(&mut self) -> bool {
        self.down.as_mut().is_some_and(|down| {
            down.probing = true;
            true
        })
    }

    /// The upstream answered for itself. True when it was down until now.
    pub(super) fn up(&mut self) -> bool {
        self.failing.clear();
        self.down.take().is_some()
    }

    /// A request of these lanes failed for what seems the upstream's own reason. True when a probe did.
    pub(super) fn failed(&mut self, lanes: impl Iterator<Item = LaneKey>, probe: bool, now: Instant) -> bool {
        if let Some(down) = &mut self.down {
            if probe {
                down.probing = false;
                down.probes_failed += 1;
                // At least half of the ceiling: attempts on a dead upstream are bounded by it.
                let ceiling = ceiling(down.probes_failed, PROBE_WAIT_MAX);
                down.probe_at = now + ceiling / 2 + jittered(ceiling / 2);
            }
            return probe;
        }
        for lane in lanes {
            if self.failing.len() < LANES_FAILING_MIN && !self.failing.contains(&lane) {
                self.failing.push(lane);
            }
        }
        if self.failing.len() >= LANES_FAILING_MIN {
            let probe_at = now + WAIT_FIRST / 2 + jittered(WAIT_FIRST / 2);
            self.down = Some(Down { since: now, probes_failed: 0, probe_at, probing: false });
        }
        false
    }

    /// A probe ended without telling anything of the upstream (it was held): the next may go.
    pub(super) fn probe_is_void(&mut self) {
        if let Some(down) = &mut self.down {
            down.probing = false;
        }
    }
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

    #[test]
    fn one_failing_lane_never_makes_its_upstream_down_but_five_do() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 0..100 {
            health.failed([LaneKey(1)].into_iter(), false, now);
        }
        assert!(!health.is_down());
        for lane in 2..=4 {
            health.failed([LaneKey(lane)].into_iter(), false, now);
            assert!(!health.is_down());
        }
        health.failed([LaneKey(5)].into_iter(), false, now);
        assert!(health.is_down());
        assert!(health.free_at(now).is_some_and(|at| at > now), "not at once");
        assert!(health.sent(), "what goes now is a probe");
        assert_eq!(health.free_at(now), None, "one probe at a time");
        assert!(health.up());
        assert_eq!(health.free_at(now), Some(now));
    }
}
