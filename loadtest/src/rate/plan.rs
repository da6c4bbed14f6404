//! Which event the next request carries: a fresh one, or a repeat of a recent one.
//! Called by `run/sender.rs`.

use crate::random::{draw, falls_into};

/// Repeats are of one of this many newest events: an alert storm repeats what is firing now.
const RECENT_EVENTS: u64 = 1000;

/// Repeatable for a seed.
#[derive(Debug)]
pub(super) struct Plan {
    seed: u64,
    duplicates: f64,
    requests: u64,
    events: u64,
}

impl Plan {
    /// `duplicates` is the fraction of requests that repeat an event, 0 to 1.
    pub(super) fn new(seed: u64, duplicates: f64) -> Self {
        Self { seed, duplicates, requests: 0, events: 0 }
    }

    /// The event of the next request. The first request is never a repeat.
    pub(super) fn next_event(&mut self) -> u64 {
        let request = self.requests;
        self.requests += 1;
        if self.events > 0 && falls_into(self.seed, request, self.duplicates) {
            let back = draw(!self.seed, request) % self.events.min(RECENT_EVENTS);
            return self.events - 1 - back;
        }
        self.events += 1;
        self.events - 1
    }

    /// Different events so far.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_of_repeats_is_met_and_repeats_are_recent() {
        let mut plan = Plan::new(1, 0.8);
        for _ in 0..50_000 {
            let newest = plan.events();
            let event = plan.next_event();
            let is_fresh = plan.events() > newest;
            // A repeat is of an event that was sent; a fresh one has the next number.
            assert_eq!(event < newest, !is_fresh);
            assert!(event <= newest && event + RECENT_EVENTS >= newest);
        }
        assert!((9_500..10_500).contains(&plan.events()), "{}", plan.events());
    }

    #[test]
    fn without_duplicates_every_event_is_fresh() {
        let mut plan = Plan::new(1, 0.0);
        assert!((0..1000).all(|expected| plan.next_event() == expected));
    }
}
