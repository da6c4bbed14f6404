//! The running faults: which of them, if any, a request meets. Called by `serve.rs`.

use std::time::Instant;

use serde::Serialize;

use super::fault::{Effect, Fault};
use crate::random::falls_into;

/// More faults than this are a mistake of a script.
pub(super) const FAULTS_AT_MOST: usize = 1000;

pub(super) struct Script {
    running: Vec<Running>,
}

struct Running {
    fault: Fault,
    looked_at: u64,
    active_since: Option<Instant>,
    fired: u64,
}

/// A fault in `GET /stats`.
#[derive(Debug, Serialize)]
pub(super) struct FaultStats {
    pub(super) spec: String,
    pub(super) fired: u64,
}

impl Script {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        let running =
            faults.into_iter().map(|fault| Running { fault, looked_at: 0, active_since: None, fired: 0 }).collect();
        Self { running }
    }

    /// The effect of the first fault that applies to a request with events of these keys, and
    /// whether the request is done nevertheless. `endpoint` is its `METHOD /path`.
    pub(super) fn decide<'a>(
        &mut self,
        now: Instant,
        endpoint: &str,
        keys: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<(Effect, bool)> {
        let seed_and_running = self.running.iter_mut().enumerate();
        for (seed, running) in seed_and_running {
            if running.applies(seed as u64, now, endpoint, keys.clone()) {
                running.fired += 1;
                return Some((running.fault.effect, running.fault.processed));
            }
        }
        None
    }

    /// Whether a fault wants to know the keys of events.
    pub(super) fn looks_at_keys(&self) -> bool {
        self.running.iter().any(|running| running.fault.key.is_some())
    }

    pub(super) fn stats(&self) -> Vec<FaultStats> {
        self.running
            .iter()
            .map(|running| FaultStats { spec: running.fault.spec.clone(), fired: running.fired })
            .collect()
    }
}

impl Running {
    fn applies<'a>(
        &mut self,
        seed: u64,
        now: Instant,
        endpoint: &str,
        mut keys: impl Iterator<Item = &'a str>,
    ) -> bool {
        let fault = &self.fault;
        if fault.path.as_deref().is_some_and(|part| !endpoint.contains(part)) {
            return false;
        }
        if fault.key.as_deref().is_some_and(|wanted| !keys.any(|key| key == wanted)) {
            return false;
        }
        self.looked_at += 1;
        if self.looked_at <= fault.after_requests {
            return false;
        }
        let since = *self.active_since.get_or_insert(now);
        fault.lasts.is_none_or(|lasts| now.saturating_duration_since(since) < lasts)
            && fault.times.is_none_or(|times| self.fired < times)
            && falls_into(seed, self.looked_at, fault.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::fault::parse;
    use std::time::Duration;

    fn script(specs: &[&str]) -> Script {
        Script::new(specs.iter().map(|spec| parse(spec).expect("a fault")).collect())
    }

    fn fires(script: &mut Script, now: Instant, keys: &[&str]) -> bool {
        script.decide(now, "POST /hook", keys.iter().copied()).is_some()
    }

    #[test]
    fn a_fault_starts_after_its_requests_and_ends_after_its_time() {
        let mut script = script(&["status=503,for=3s,after=2"]);
        let start = Instant::now();
        assert!(!fires(&mut script, start, &[]) && !fires(&mut script, start, &[]));
        let first = start + Duration::from_secs(60);
        assert!(fires(&mut script, first, &[]), "its time starts with the third request");
        assert!(fires(&mut script, first + Duration::from_millis(2999), &[]));
        assert!(!fires(&mut script, first + Duration::from_secs(3), &[]));
    }

    #[test]
    fn a_key_is_looked_for_in_the_whole_batch_and_other_requests_do_not_count() {
        let mut script = script(&["status=400,match=b,after=1"]);
        let now = Instant::now();
        assert!(!fires(&mut script, now, &["a"]));
        assert!(!fires(&mut script, now, &["a", "b"]), "the first match is skipped");
        assert!(fires(&mut script, now, &["a", "b"]));
    }

    #[test]
    fn the_first_fault_that_applies_wins_and_times_ends_it() {
        let mut script = script(&["hang,times=1", "reset"]);
        let now = Instant::now();
        assert_eq!(script.decide(now, "", std::iter::empty()), Some((Effect::Hang, false)));
        assert_eq!(script.decide(now, "", std::iter::empty()), Some((Effect::Reset, false)));
        assert_eq!(script.stats()[0].fired, 1);
    }

    #[test]
    fn a_path_names_requests_by_method_and_path() {
        let mut script = script(&["reset,processed,path=POST /create"]);
        let now = Instant::now();
        let mut decide = |endpoint| script.decide(now, endpoint, std::iter::empty());
        assert_eq!(decide("POST /create/"), Some((Effect::Reset, true)));
        assert_eq!(decide("GET /create"), None);
        assert_eq!(decide("POST /resolve"), None);
    }

    #[test]
    fn a_rate_meets_its_fraction() {
        let mut script = script(&["reset,rate=0.3"]);
        let now = Instant::now();
        let fired = (0..10_000).filter(|_| fires(&mut script, now, &[])).count();
        assert!((2_800..3_200).contains(&fired), "{fired}");
    }
}
