//! When requests start: the schedule, and the thread that lets each request go at its time.
//! A thread of its own, because the runtime's timers have steps of a millisecond.
//! Called by `run.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;

const NANOS_A_SECOND: u128 = 1_000_000_000;
/// The longest sleep of the pacer: how late it may see that it was stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// A constant rate: request `i` is meant to start at `start + i / rate`.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    start: Instant,
    rate: u128,
    requests: u64,
    stopped: Arc<AtomicBool>,
}

impl Schedule {
    pub(super) fn starting_now(rate: u32, duration: Duration) -> Self {
        let rate = u128::from(rate);
        let requests = duration.as_nanos() * rate / NANOS_A_SECOND;
        Self {
            start: Instant::now(),
            rate,
            // A day at a million a second: far below the bound.
            requests: u64::try_from(requests).unwrap_or(u64::MAX),
            stopped: Arc::default(),
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn intended_start(&self, request: u64) -> Instant {
        let nanos = u128::from(request) * NANOS_A_SECOND / self.rate;
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How many requests are meant to have started at `now`.
    fn due(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let due = elapsed * self.rate / NANOS_A_SECOND + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.requests)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread that puts one permit into `due` for each request at its time. What nobody
/// takes in time piles up as a number, never as memory.
pub(super) fn start(schedule: Schedule, due: Arc<Semaphore>) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(move || release_when_due(&schedule, &due))
        .context("cannot start the pacer")
}

fn release_when_due(schedule: &Schedule, due: &Semaphore) {
    let mut released = 0;
    while released < schedule.requests() && !schedule.stopped.load(Ordering::Relaxed) {
        let now = Instant::now();
        let more = schedule.due(now) - released;
        if more == 0 {
            let wait = schedule.intended_start(released).saturating_duration_since(now);
            // At least 1 ns past the rounding of the division, or it would spin.
            std::thread::sleep((wait + Duration::from_nanos(1)).min(LONGEST_SLEEP));
            continue;
        }
        due.add_permits(usize::try_from(more).unwrap_or(usize::MAX >> 3));
        released += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_their_intended_start_and_not_before() {
        let schedule = Schedule::starting_now(3, Duration::from_secs(2));
        assert_eq!(schedule.requests(), 6);
        for request in 0..6 {
            let start = schedule.intended_start(request);
            let just_after = start + Duration::from_nanos(1);
            assert_eq!(schedule.due(just_after), request + 1);
            if request > 0 {
                assert_eq!(schedule.due(start - Duration::from_nanos(1)), request);
            }
        }
        assert_eq!(schedule.due(schedule.intended_start(100)), 6, "never more than planned");
    }

    #[test]
    fn the_pacer_lets_every_request_go_and_ends() {
        let schedule = Schedule::starting_now(10_000, Duration::from_millis(50));
        let due = Arc::new(Semaphore::new(0));
        start(schedule, Arc::clone(&due)).expect("thread").join().expect("pacer");
        assert_eq!(due.available_permits(), 500);
    }
}
