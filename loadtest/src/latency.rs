//! Times of a run as a histogram, and their summary. Called by [`crate::run`] and
//! [`crate::saturate`].

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// One minute: a longer time is counted as this, and still shows as the maximum.
const LONGEST_MICROS: u64 = 60_000_000;

/// Microseconds, to three significant digits.
#[derive(Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// An empty histogram.
    ///
    /// # Errors
    /// Never with these constants; the library's constructor is fallible.
    pub fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3).context("histogram bounds")?;
        Ok(Self { histogram })
    }

    /// Adds one time; below 1 µs it counts as 1 µs.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_MICROS);
        self.histogram.saturating_record(micros.max(1));
    }

    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    #[must_use]
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Summary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean(),
            p50_us: at(0.50),
            p90_us: at(0.90),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        }
    }
}

/// What is printed of a histogram.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  (us)",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}
