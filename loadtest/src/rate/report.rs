//! The report of an open-loop run, as text and as JSON. Called by `main.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Arguments;
use super::pacer::Schedule;
use super::sender::Records;
use crate::latency::Summary;
use crate::process::{Demand, is_starved};

#[derive(Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Valid,
    /// The generator was late or lacked CPU: the figures are not the server's.
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
    /// Shares of the time the generator's thread ran, and waited for a core; absent where the
    /// kernel does not tell.
    pub generator_running: Option<f64>,
    pub generator_waiting: Option<f64>,
}

impl Report {
    pub(super) fn new(
        arguments: &Arguments,
        schedule: &Schedule,
        records: &Records,
        demand: Option<(Demand, Demand)>,
    ) -> Self {
        let answered: u64 = records.statuses.values().sum();
        let failed: u64 = records.failures.values().sum();
        let lateness = records.lateness.summary();
        let late = lateness.p99_us > micros(arguments.max_lateness);
        let seconds = schedule.elapsed().as_secs_f64();
        let share = |of: fn(Demand) -> Duration| {
            demand.map(|(before, after)| of(after).saturating_sub(of(before)).as_secs_f64() / seconds)
        };
        let (running, waiting) = (share(|demand| demand.running), share(|demand| demand.waiting));
        let starved = is_starved(records.started, records.held_up, running, waiting);
        Self {
            verdict: if late || starved { Verdict::Invalid } else { Verdict::Valid },
            target_rate: arguments.rate,
            connections: arguments.connections,
            seconds,
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
            generator_running: running,
            generator_waiting: waiting,
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
            self.started, self.planned, self.distinct_events, self.seconds, self.target_rate, self.connections
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
            writeln!(f, "held up       {} started late, no connection was free", self.held_up)?;
        }
        writeln!(f, "latency       {}  from the intended start", self.latency)?;
        writeln!(f, "service time  {}  from the real start", self.service_time)?;
        writeln!(f, "lateness      {}  of the generator itself", self.lateness)?;
        if let Some((running, waiting)) = self.generator_running.zip(self.generator_waiting) {
            let (running, waiting) = (running * 100.0, waiting * 100.0);
            writeln!(f, "generator     ran {running:.0} %, waited for a core {waiting:.0} % of the time")?;
        }
        match self.verdict {
            Verdict::Valid => writeln!(f, "VALID"),
            Verdict::Invalid => writeln!(
                f,
                "INVALID: the generator was late (p99 {} us, bound {} us), or requests were held up \
                 while it lacked CPU; the figures are not the server's",
                self.lateness.p99_us, self.max_lateness_us
            ),
        }
    }
}
