//! What is looked at while the load goes on: each stretch of time is written down, shown, and held against `abort_when`;
//! in the end deliveries are awaited. Called by `drive.rs`.

use std::rc::Rc;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::scrape::Scraper;
use super::sender::Shared;
use super::timeline::{self, Timeline};
use super::{Offered, sum};
use crate::progress::Now;
use crate::results::Point;
use crate::server::Usage;
use crate::threshold::Threshold;

/// What is looked at while the load goes on.
pub(super) struct Watch<'w> {
    offered: &'w Offered<'w>,
    shared: &'w Rc<Shared>,
    scraper: &'w Scraper,
    timeline: &'w Timeline,
    stretch: Duration,
    /// Emptied when it is enough.
    pub(super) aborts: Vec<Threshold>,
    last: Duration,
    last_usage: Option<Usage>,
    last_delivered: u64,
    due: Box<dyn Iterator<Item = Duration>>,
    next_due: Option<Duration>,
}

impl<'w> Watch<'w> {
    pub(super) fn new(
        offered: &'w Offered<'w>,
        shared: &'w Rc<Shared>,
        scraper: &'w Scraper,
        timeline: &'w Timeline,
        stretch: Duration,
    ) -> Self {
        let aborts = offered.scenario.abort_when.iter().filter_map(|text| Threshold::parse(text).ok()).collect();
        let mut due = Box::new(offered.schedule.clone().map(|(_, offset)| offset));
        let next_due = due.next();
        Self {
            offered,
            shared,
            scraper,
            timeline,
            stretch,
            aborts,
            last: Duration::ZERO,
            last_usage: None,
            last_delivered: 0,
            due,
            next_due,
        }
    }

    /// Ends each stretch at its time; returns when a threshold says that it is enough.
    pub(super) async fn until_aborted(&mut self) -> String {
        loop {
            let next = self.last + self.stretch;
            tokio::time::sleep_until((self.shared.start + next).into()).await;
            if let Some(why) = self.stretch_over() {
                return why;
            }
        }
    }

    /// Waits until everything accepted is delivered and, if wished, all events are done.
    pub(super) async fn settle(&mut self, patience: Duration, events_too: bool) -> Option<String> {
        let begun = Instant::now();
        let events: Vec<_> = {
            let starts: Vec<Duration> = self.offered.schedule.phases().iter().map(|phase| phase.start).collect();
            timeline::plan(self.offered.scenario, &starts, self.offered.schedule.length())
        };
        let look_again = self.stretch / 2;
        loop {
            let owed = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).owed();
            let events_done = !events_too || self.timeline.happened().len() >= events.len();
            let nobody_to_wait_for = self.offered.upstream.is_none();
            if events_done && (owed == 0 || nobody_to_wait_for) || begun.elapsed() > patience {
                return None;
            }
            tokio::select! {
                why = self.until_aborted() => return Some(why),
                () = tokio::time::sleep(look_again) => {}
                _ = tokio::signal::ctrl_c() => return Some("interrupted".to_owned()),
            }
        }
    }

    /// Writes down the stretch that passed.
    pub(super) fn stretch_over(&mut self) -> Option<String> {
        let elapsed = self.shared.start.elapsed();
        let seconds = elapsed.saturating_sub(self.last).as_secs_f64();
        let mut due = 0;
        while self.next_due.is_some_and(|next| next < elapsed) {
            due += 1;
            self.next_due = self.due.next();
        }
        let seen = self.scraper.seen();
        let (owed, delivered, full) = {
            let ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            (ledger.owed(), ledger.delivered(), ledger.is_full(1000))
        };
        let used =
            seen.usage.zip(self.last_usage).map(|(now, before)| now.cpu.saturating_sub(before.cpu).as_secs_f64());
        let known = Point {
            at_s: self.last.as_secs_f64(),
            seconds,
            due,
            delivered: delivered - self.last_delivered,
            owed,
            cpu_cores: used.filter(|_| seconds > 0.0).map(|used| used / seconds),
            rss_bytes: seen.usage.map(|usage| usage.rss_bytes),
            descriptors: seen.usage.map(|usage| usage.descriptors),
            metrics: seen.metrics,
            ..Point::default()
        };
        self.last = elapsed;
        self.last_usage = seen.usage;
        self.last_delivered = delivered;
        let mut records = self.shared.records.borrow_mut();
        let point = records.end_stretch(known).clone();
        drop(records);
        let phases = self.offered.schedule.phases();
        let phase = phases.iter().rposition(|phase| phase.start <= elapsed).unwrap_or(0);
        let over = elapsed >= self.offered.schedule.length();
        let name = if over { "settling" } else { &self.offered.scenario.phases[phase].name };
        let happened = self.timeline.happened();
        let now = Now { phase: name, elapsed, whole: self.offered.schedule.length(), happened: &happened };
        self.offered.progress.borrow_mut().tick(&point, now);
        if full {
            return Some("the ledger is full: fewer or shorter phases".to_owned());
        }
        if self.aborts.is_empty() {
            return None;
        }
        let partial = sum::so_far(self.offered.scenario, self.shared, self.offered.upstream.is_some());
        self.aborts
            .iter()
            .find(|threshold| threshold.holds(&partial))
            .map(|threshold| format!("{} ({})", threshold.text, threshold.check(&partial).shown))
    }
}
