//! When the requests of a run start: its phases one after the other, and the thread that lets each request go at its
//! time. A thread of its own, because the runtime's timers have steps of a millisecond. Called by `drive.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;

use crate::arrivals::{Arrivals, Stretch};
use crate::scenario::{Phase, Scenario};

/// The longest sleep of the pacer: how late it may see that it was stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// A run that plans more is a typing error, and its ledger would not fit.
const REQUESTS_AT_MOST: u64 = 100_000_000;

/// The starts of all phases, in order: phase, and offset from the beginning of the run.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    phases: Arc<[Planned]>,
    at: usize,
    current: Option<Arrivals>,
}

/// A phase with its place in time.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) start: Duration,
    pub(super) length: Duration,
    pub(super) requests: u64,
    arrivals: Arrivals,
}

impl Schedule {
    /// # Errors
    /// A recorded file that cannot be read, or a run without a request or with too many.
    pub(super) fn new(scenario: &Scenario, seed: u64) -> anyhow::Result<Self> {
        let mut phases = Vec::new();
        let mut start = Duration::ZERO;
        for (index, phase) in scenario.phases.iter().enumerate() {
            let arrivals = arrivals(phase, seed.wrapping_add(index as u64))?;
            let length = phase.duration.map(|length| length.0).or_else(|| arrivals.recorded_end()).unwrap_or_default();
            let requests = arrivals.clone().take(REQUESTS_AT_MOST as usize + 1).count() as u64;
            phases.push(Planned { start, length, requests, arrivals });
            start += length;
        }
        let all: u64 = phases.iter().map(|phase| phase.requests).sum();
        ensure!(all > 0, "the phases hold no request: longer or faster ones are needed");
        ensure!(all <= REQUESTS_AT_MOST, "the phases hold more than {REQUESTS_AT_MOST} requests");
        let phases: Arc<[Planned]> = phases.into();
        let current = phases.first().map(|phase| phase.arrivals.clone());
        Ok(Self { phases, at: 0, current })
    }

    pub(super) fn phases(&self) -> &[Planned] {
        &self.phases
    }

    pub(super) fn requests(&self) -> u64 {
        self.phases.iter().map(|phase| phase.requests).sum()
    }

    /// From the first to the end of the last phase.
    pub(super) fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }
}

impl Iterator for Schedule {
    type Item = (usize, Duration);

    fn next(&mut self) -> Option<(usize, Duration)> {
        loop {
            if let Some(offset) = self.current.as_mut()?.next() {
                return Some((self.at, self.phases[self.at].start + offset));
            }
            self.at += 1;
            self.current = self.phases.get(self.at).map(|phase| phase.arrivals.clone());
        }
    }
}

fn arrivals(phase: &Phase, seed: u64) -> anyhow::Result<Arrivals> {
    let given = &phase.arrivals;
    let seconds = phase.duration.map_or(0.0, |length| length.0.as_secs_f64());
    if let Some(recorded) = &given.recorded {
        return Arrivals::recorded(&recorded.file, recorded.speed, phase.duration.map(|length| length.0));
    }
    let random = (given.random || given.poisson.is_some()).then_some(seed);
    let mut stretches = Vec::new();
    if let Some(rate) = given.constant.or(given.poisson) {
        stretches.push(Stretch::even(seconds, rate));
    } else if let Some(ramp) = &given.ramp {
        stretches.push(Stretch { seconds, from: ramp.from, to: ramp.to });
    } else if let Some(step) = &given.step {
        for number in 0..step.steps {
            let rate = step.from + (step.to - step.from) * f64::from(number) / f64::from(step.steps - 1);
            stretches.push(Stretch::even(seconds / f64::from(step.steps), rate));
        }
    } else if let Some(burst) = &given.burst {
        let (every, lasts) = (burst.every.0.as_secs_f64(), burst.lasts.0.as_secs_f64());
        let mut passed = 0.0;
        while passed < seconds {
            let calm = (every - lasts).min(seconds - passed);
            stretches.push(Stretch::even(calm, burst.base));
            stretches.push(Stretch::even(lasts.min(seconds - passed - calm), burst.peak));
            passed += every;
        }
    }
    Ok(Arrivals::profile(stretches, random))
}

/// The thread that puts one permit into `due` for each request at its time.
pub(super) struct Pacer {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    pub(super) fn start(schedule: Schedule, start: Instant, due: Arc<Semaphore>) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || release_when_due(schedule, start, &due, &stop)
            })
            .context("cannot start the pacer")?;
        Ok(Self { thread, stop })
    }

    /// Ends it, within milliseconds.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

fn release_when_due(schedule: Schedule, start: Instant, due: &Semaphore, stop: &AtomicBool) {
    for (_, offset) in schedule {
        let at = start + offset;
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let wait = at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            std::thread::sleep(wait.min(LONGEST_SLEEP));
        }
        due.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(phases: &str) -> Schedule {
        let text = format!("name: n\nmix: [{{ dialect: squadcast }}]\nphases:\n{phases}");
        let scenario = crate::scenario::parse(&text).unwrap_or_else(|wrongs| panic!("{wrongs:?}"));
        Schedule::new(&scenario, 1).expect("a schedule")
    }

    #[test]
    fn phases_follow_each_other_with_their_own_requests() {
        let schedule = schedule(
            "- { name: a, duration: 1s, arrivals: { constant: 10 } }\n\
             - { name: b, duration: 2s, arrivals: { step: { from: 10, to: 30, steps: 2 } } }\n\
             - { name: c, duration: 4s, arrivals: { burst: { base: 1, peak: 100, every: 2s, lasts: 500ms } } }\n",
        );
        let by_phase: Vec<u64> = schedule.phases().iter().map(|phase| phase.requests).collect();
        // c: twice 1.5 s at 1 and 0.5 s at 100.
        assert_eq!(by_phase[..2], [10, 40]);
        assert!((102..=104).contains(&by_phase[2]), "{by_phase:?}");
        assert_eq!(schedule.length(), Duration::from_secs(7));
        let starts: Vec<(usize, Duration)> = schedule.clone().collect();
        assert_eq!(starts.len() as u64, schedule.requests());
        assert!(starts.windows(2).all(|pair| pair[0] <= pair[1]), "in order");
        assert_eq!(starts[10], (1, Duration::from_secs(1)));
    }

    #[test]
    fn the_pacer_lets_every_request_go_and_ends() {
        let schedule = schedule("- { name: a, duration: 50ms, arrivals: { constant: 10000 } }\n");
        let due = Arc::new(Semaphore::new(0));
        let pacer = Pacer::start(schedule, Instant::now(), Arc::clone(&due)).expect("a thread");
        pacer.thread.join().expect("its end");
        assert_eq!(due.available_permits(), 500);
    }
}
