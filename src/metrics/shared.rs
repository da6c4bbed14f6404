//! Metrics of the way to Redis; absent where none is configured, so that no alert takes that for an outage.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, Result};

use super::page::Page;

/// How calls of Redis end.
const RESULTS: [&str; 6] = ["ok", "away", "full", "late", "lost", "refused"];
/// What goes on without Redis when a call of it fails.
const USES: [&str; 2] = ["claims", "limits"];

/// The families, without children until Redis is configured.
pub(super) struct RedisFamilies {
    up: GaugeVec,
    operations: IntCounterVec,
    seconds: HistogramVec,
    outages: IntCounterVec,
    fallbacks: IntCounterVec,
    lag: GaugeVec,
}

/// Made once by the link.
#[derive(Clone)]
pub struct RedisMeter {
    up: Gauge,
    operations: [IntCounter; RESULTS.len()],
    seconds: Histogram,
    pub outages: IntCounter,
    fallbacks: [IntCounter; USES.len()],
    /// Age of the oldest write behind an answer that Redis has not confirmed, in seconds.
    pub lag: Gauge,
}

impl RedisFamilies {
    pub(super) fn new(page: &Page<'_>) -> Result<Self> {
        Ok(Self {
            up: page.gauges("redis_up", "1 when every key has a Redis that answers; absent without Redis.", &[])?,
            operations: page.counters(
                "redis_operations_total",
                "Calls of Redis, by how they ended: ok, away (circuit open), full, late, lost or refused.",
                &["result"],
            )?,
            seconds: page.histograms("redis_round_trip_duration_seconds", "Time of one round trip to Redis.", &[])?,
            outages: page.counters("redis_outages_total", "Times that a server of Redis was lost.", &[])?,
            fallbacks: page.counters(
                "redis_fallbacks_total",
                "Decisions that a replica took alone because Redis could not be asked, by what they were about.",
                &["use"],
            )?,
            lag: page.gauges(
                "redis_write_lag_seconds",
                "Age of the oldest state that Redis has not confirmed.",
                &[],
            )?,
        })
    }

    pub(super) fn meter(&self) -> RedisMeter {
        const NONE: [&str; 0] = [];
        RedisMeter {
            up: self.up.with_label_values(&NONE),
            operations: RESULTS.map(|result| self.operations.with_label_values(&[result])),
            seconds: self.seconds.with_label_values(&NONE),
            outages: self.outages.with_label_values(&NONE),
            fallbacks: USES.map(|kind| self.fallbacks.with_label_values(&[kind])),
            lag: self.lag.with_label_values(&NONE),
        }
    }
}

impl RedisMeter {
    pub fn up(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
    }

    /// `result`: one of those in the metric's help.
    pub fn operation(&self, result: &str) {
        if let Some(at) = RESULTS.iter().position(|known| *known == result) {
            self.operations[at].inc();
        }
    }

    pub fn round_trip(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// A claim was decided by this replica alone.
    pub fn claim_fell_back(&self) {
        self.fallbacks[0].inc();
    }

    /// A limit was held by this replica alone.
    pub fn limit_fell_back(&self) {
        self.fallbacks[1].inc();
    }
}
