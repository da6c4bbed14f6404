//! What the senders write down: by phase, by entry of the mix, and for the stretch of time that passes now. Times are
//! microseconds in the histograms. Called by the senders for each answer and by `drive.rs` at each stretch's end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::Answer;
use crate::latency::Latencies;
use crate::results::{Point, Section, Source};

/// A start this long after its time, because no connection was free, counts as held up.
pub(super) const HELD_UP_AFTER: Duration = Duration::from_millis(1);
/// Points of the series; when they are all used, each two become one.
const POINTS_AT_MOST: usize = 1200;
/// Different texts of failures kept apart, by source and by phase.
const FAILURES_AT_MOST: usize = 100;

/// Of a phase.
pub(super) struct PhaseRecords {
    pub(super) latency: Latencies,
    pub(super) service_time: Latencies,
    pub(super) lateness: Latencies,
    pub(super) section: Section,
}

/// Of an entry of the mix, warm-ups left out.
pub(super) struct SourceRecords {
    pub(super) latency: Latencies,
    pub(super) told: Source,
}

/// All of them.
pub(super) struct Records {
    pub(super) phases: Vec<PhaseRecords>,
    pub(super) sources: Vec<SourceRecords>,
    stretch: Latencies,
    point: Point,
    pub(super) series: Vec<Point>,
}

/// One request's times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From the intended start.
    pub(super) latency: Duration,
    /// From the real start.
    pub(super) service: Duration,
}

impl Records {
    pub(super) fn new(phases: usize, sources: Vec<Source>) -> anyhow::Result<Self> {
        let phase = || -> anyhow::Result<PhaseRecords> {
            Ok(PhaseRecords {
                latency: Latencies::new()?,
                service_time: Latencies::new()?,
                lateness: Latencies::new()?,
                section: Section::default(),
            })
        };
        Ok(Self {
            phases: (0..phases).map(|_| phase()).collect::<anyhow::Result<_>>()?,
            sources: sources
                .into_iter()
                .map(|told| Ok(SourceRecords { latency: Latencies::new()?, told }))
                .collect::<anyhow::Result<_>>()?,
            stretch: Latencies::new()?,
            point: Point::default(),
            series: Vec::new(),
        })
    }

    /// A request of the schedule goes out.
    pub(super) fn started(&mut self, phase: usize, lateness: Duration, held_up: bool) {
        let records = &mut self.phases[phase];
        records.lateness.record(lateness);
        records.section.started += 1;
        records.section.held_up += u64::from(held_up);
        self.point.started += 1;
    }

    /// A twin of one goes out.
    pub(super) fn started_again(&mut self, phase: usize) {
        self.phases[phase].section.started += 1;
        self.point.started += 1;
    }

    /// A try of a request got this answer, or this failure; `first` when it is no retry, whose times count for nothing.
    pub(super) fn ended(
        &mut self,
        phase: usize,
        source: Option<usize>,
        times: Times,
        answer: &Result<Answer, String>,
        first: bool,
    ) {
        let section = &mut self.phases[phase].section;
        if !first {
            section.retries += 1;
        }
        let source = source.map(|source| &mut self.sources[source]);
        match answer {
            Ok(answer) => {
                let accepted = (200..300).contains(&answer.status);
                if first {
                    section.answered += 1;
                    section.accepted += u64::from(accepted);
                    section.refused += u64::from(!accepted);
                    *section.statuses.entry(answer.status).or_default() += 1;
                    self.point.accepted += u64::from(accepted);
                    self.point.refused += u64::from(!accepted);
                }
                if let Some(source) = source {
                    source.told.requests += u64::from(first);
                    *source.told.statuses.entry(answer.status).or_default() += 1;
                    if let Some(outcome) = &answer.outcome {
                        count(&mut source.told.outcomes, outcome);
                    }
                    if first {
                        source.latency.record(times.latency);
                    }
                }
            }
            Err(failure) => {
                if first {
                    section.failed += 1;
                    self.point.failed += 1;
                    count(&mut section.failures, failure);
                }
                if let Some(source) = source {
                    source.told.requests += u64::from(first);
                    count(&mut source.told.failures, failure);
                }
            }
        }
        // A refused connection is quick: its time would flatter the server. One that timed out counts in full.
        if first && answer.as_ref().map_or_else(|failure| failure == TIMED_OUT, |_| true) {
            self.phases[phase].latency.record(times.latency);
            self.phases[phase].service_time.record(times.service);
            self.stretch.record(times.latency);
        }
    }

    /// A stretch of time is over; what is known of it beside the requests comes along.
    pub(super) fn end_stretch(&mut self, known: Point) -> &Point {
        let summary = self.stretch.summary();
        let requests = std::mem::take(&mut self.point);
        self.stretch.clear();
        self.series.push(Point {
            started: requests.started,
            accepted: requests.accepted,
            refused: requests.refused,
            failed: requests.failed,
            p50_us: summary.p50_us,
            p99_us: summary.p99_us,
            max_us: summary.max_us,
            ..known
        });
        if self.series.len() > POINTS_AT_MOST {
            self.series = self.series.chunks(2).map(joined).collect();
        }
        // One was pushed above.
        &self.series[self.series.len() - 1]
    }
}

/// What a request failed with that got no answer in time.
pub(super) const TIMED_OUT: &str = "timed out";

fn count(counts: &mut BTreeMap<String, u64>, what: &str) {
    if let Some(count) = counts.get_mut(what) {
        *count += 1;
    } else if counts.len() < FAILURES_AT_MOST {
        counts.insert(what.to_owned(), 1);
    }
}

/// Two neighbours as one: counts are added, of times and levels the worse is kept.
fn joined(pair: &[Point]) -> Point {
    let [one, other] = pair else {
        return pair.first().cloned().unwrap_or_default();
    };
    let higher = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(f64::max);
    let mut metrics = one.metrics.clone();
    metrics.extend(other.metrics.iter().map(|(name, value)| (name.clone(), *value)));
    Point {
        at_s: one.at_s,
        seconds: one.seconds + other.seconds,
        due: one.due + other.due,
        started: one.started + other.started,
        accepted: one.accepted + other.accepted,
        refused: one.refused + other.refused,
        failed: one.failed + other.failed,
        p50_us: one.p50_us.max(other.p50_us),
        p99_us: one.p99_us.max(other.p99_us),
        max_us: one.max_us.max(other.max_us),
        delivered: one.delivered + other.delivered,
        owed: one.owed.max(other.owed),
        cpu_cores: higher(one.cpu_cores, other.cpu_cores),
        rss_bytes: one.rss_bytes.max(other.rss_bytes),
        descriptors: one.descriptors.max(other.descriptors),
        metrics,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_sums_in_fewer_points() {
        let mut records = Records::new(1, Vec::new()).expect("records");
        for second in 0..5000 {
            records.started(0, Duration::ZERO, false);
            records.end_stretch(Point { at_s: f64::from(second), seconds: 1.0, due: 2, ..Point::default() });
        }
        assert!(records.series.len() <= POINTS_AT_MOST);
        assert_eq!(records.series.iter().map(|point| point.due).sum::<u64>(), 10_000);
        assert_eq!(records.series.iter().map(|point| point.started).sum::<u64>(), 5000);
        assert!((records.series.iter().map(|point| point.seconds).sum::<f64>() - 5000.0).abs() < 1e-6);
    }
}
