//! Times of a run as a histogram, and their summary. Called by everything that
//! measures.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::results::CurvePoint;

/// One minute: a longer time is counted as this, and still shows as the maximum.
const LONGEST_MICROS: u64 = 60_000_000;

/// Microseconds, to three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        // The constructor fails for other bounds than these only.
        Self { histogram: Histogram::new_with_bounds(1, LONGEST_MICROS, 3).unwrap_or_else(|_| unreachable!()) }
    }
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

    /// Adds all times of another.
    pub fn add(&mut self, other: &Self) {
        // Equal bounds: it cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The value below which so many of the times are, by quantile, dense where plots need it.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        let mut points: Vec<CurvePoint> = Vec::new();
        for value in self.histogram.iter_quantiles(4) {
            let point = CurvePoint { quantile: value.quantile_iterated_to(), us: value.value_iterated_to() };
            points.push(point);
        }
        points
    }

    /// The distribution in the text form that HdrHistogram's plotters read (`.hgrm`), values in milliseconds.
    #[must_use]
    pub fn hgrm(&self) -> String {
        use std::fmt::Write;
        let mut text =
            format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
        let mut count = 0;
        for value in self.histogram.iter_quantiles(5) {
            count += value.count_since_last_iteration();
            let quantile = value.quantile_iterated_to();
            let ms = value.value_iterated_to() as f64 / 1000.0;
            // Into a string: it cannot fail.
            let _ = if quantile < 1.0 {
                writeln!(text, "{ms:>12.3} {quantile:>2.12} {count:>10} {:>14.2}", 1.0 / (1.0 - quantile))
            } else {
                writeln!(text, "{ms:>12.3} {quantile:>2.12} {count:>10}")
            };
        }
        let mean = self.histogram.mean() / 1000.0;
        let deviation = self.histogram.stdev() / 1000.0;
        let max = self.histogram.max() as f64 / 1000.0;
        let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
        let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", self.histogram.len());
        let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", self.histogram.buckets(), 2048);
        text
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
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        }
    }
}

/// What is printed of a histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p95_us: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand() -> Latencies {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies
    }

    #[test]
    fn the_hgrm_text_holds_ascending_values_and_every_count() {
        let text = thousand().hgrm();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("Value"))
            .map(|line| line.split_whitespace().map(|word| word.parse().expect(line)).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        let last = rows.last().expect("rows");
        assert_eq!((last[0], last[1], last[2]), (1.0, 1.0, 1000.0));
        let half = rows.iter().find(|row| row[1] >= 0.5).expect("the median");
        assert!((0.49..=0.51).contains(&half[0]), "{half:?}");
    }

    #[test]
    fn the_curve_ends_at_the_maximum_and_sums_add_up() {
        let mut both = thousand();
        both.add(&thousand());
        assert_eq!(both.summary().count, 2000);
        assert_eq!(both.curve().last().map(|point| point.us), Some(1000));
    }
}
