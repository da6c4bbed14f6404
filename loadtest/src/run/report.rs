//! The report of an open-loop run, as text and as JSON. Called by `main.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Arguments;
use super::pacer::Schedule;
use super::sender::Records;
use crate::latency::Summary;

#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Valid,
    /// The generator was late: the figures are not the server's.
    Invalid,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub target_rate: u32,
    pub connections: u32,
    pub seconds: f64,
    /// Requests the schedule holds.
    pub planned: u64,
    pub started: u64,
    /// Answered with any status.
    pub answered: u64,
    /// Started, but neither answered nor failed when the run ended.
    pub unfinished: u64,
    /// Started more than 1 ms late because every connection was waiting for its answer.
    pub held_up: u64,
    pub distinct_events: u64,
    pub statuses: BTreeMap<u16, u64>,
    pub failures: BTreeMap<String, u64>,
    /// From the intended start.
    pub latency: Summary,
    /// From the real start.
    pub service_time: Summary,
    /// From the moment a request could have started to its real start: the generator's own.
    pub lateness: Summary,
    pub max_lateness_us: u128,
}

impl Report {
    pub(super) fn new(arguments: &Arguments, schedule: &Schedule, records: &Records) -> Self {
        let answered: u64 = records.statuses.values().sum();
        let failed: u64 = records.failures.values().sum();
        let lateness = records.lateness.summary();
        let late = lateness.p99_us > micros(arguments.max_lateness);
        Self {
            verdict: if late {
                Verdict::Invalid
            } else {
                Verdict::Valid
            },
            target_rate: arguments.rate,
            connections: arguments.connections,
            seconds: schedule.elapsed().as_secs_f64(),
            planned: schedule.requests(),
            started: records.started,
            answered,
            unfinished: records.started.saturating_sub(answered + failed),
            held_up: records.held_up,
            distinct_events: records.distinct_events(),
            statuses: records.statuses.clone(),
            failures: records.failures.clone(),
            latency: records.latency.summary(),
            service_time: records.service_time.summary(),
            lateness,
            max_lateness_us: arguments.max_lateness.as_micros(),
        }
    }

    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self.verdict, Verdict::Valid)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests      {} of {} planned ({} events) in {:.2} s at {}/s over {} connections",
            self.started,
            self.planned,
            self.distinct_events,
            self.seconds,
            self.target_rate,
            self.connections
        )?;
        for (status, count) in &self.statuses {
            writeln!(f, "status {status}    {count}")?;
        }
        for (failure, count) in &self.failures {
            writeln!(f, "failed        {count}  {failure}")?;
        }
        if self.unfinished > 0 {
            writeln!(f, "unfinished    {}", self.unfinished)?;
        }
        if self.held_up > 0 {
            writeln!(
                f,
                "held up       {} started late, no connection was free",
                self.held_up
            )?;
        }
        writeln!(f, "latency       {}  from the intended start", self.latency)?;
        writeln!(
            f,
            "service time  {}  from the real start",
            self.service_time
        )?;
        writeln!(
            f,
            "lateness      {}  of the generator itself",
            self.lateness
        )?;
        match self.verdict {
            Verdict::Valid => writeln!(f, "VALID"),
            Verdict::Invalid => writeln!(
                f,
                "INVALID: the generator was late (p99 {} us, bound {} us); the figures are not the server's",
                self.lateness.p99_us, self.max_lateness_us
            ),
        }
    }
}
