//! When requests are meant to start: offsets from the beginning of a phase, one after the other, the same for the
//! same seed. A profile is a list of stretches whose rate changes evenly; even arrivals keep one request's worth of
//! the profile between two starts, random ones an exponential draw of it (a Poisson process).
//! Called by [`crate::drive`]: its pacer and its senders walk the same sequence.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::random::unit;

/// A recorded file holds at most so many offsets.
const RECORDED_AT_MOST: usize = 50_000_000;

/// A stretch of time whose rate goes evenly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    pub seconds: f64,
    /// Requests a second at its beginning and end.
    pub from: f64,
    pub to: f64,
}

impl Stretch {
    #[must_use]
    pub fn even(seconds: f64, rate: f64) -> Self {
        Self { seconds, from: rate, to: rate }
    }

    /// Requests in it, not a whole number.
    fn requests(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// The time at which so many requests of it are over.
    fn time_of(&self, requests: f64) -> f64 {
        if requests <= 0.0 {
            return 0.0;
        }
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * requests).max(0.0).sqrt();
        // This form of the quadratic formula divides by no slope that may be zero.
        2.0 * requests / (self.from + root)
    }
}

#[derive(Debug, Clone)]
enum Pace {
    Profile { stretches: Arc<[Stretch]>, at: usize, before: f64, passed: f64, random: Option<u64>, drawn: u64 },
    Recorded { offsets: Arc<[u64]>, at: usize, speed: f64, end: f64 },
}

/// The offsets of one phase, in ascending order.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pace: Pace,
}

impl Arrivals {
    /// Starts along a profile; `random` is the seed of random arrivals.
    #[must_use]
    pub fn profile(stretches: Vec<Stretch>, random: Option<u64>) -> Self {
        let stretches: Arc<[Stretch]> =
            stretches.into_iter().filter(|stretch| stretch.seconds > 0.0).collect::<Vec<_>>().into();
        let mut pace = Pace::Profile { stretches, at: 0, before: 0.0, passed: 0.0, random, drawn: 0 };
        // Random arrivals do not begin with a request at zero.
        if let Pace::Profile { passed, random: Some(seed), drawn, .. } = &mut pace {
            *passed = exponential(*seed, 0);
            *drawn = 1;
        }
        Self { pace }
    }

    /// Starts at recorded offsets (seconds, one a line, ascending; blank lines and `#` comments are skipped), played
    /// at `speed` times their pace and cut at `end`.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no ascending number.
    pub fn recorded(path: &Path, speed: f64, end: Option<Duration>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut offsets = Vec::new();
        let mut last = 0.0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let seconds: f64 = line
                .parse()
                .ok()
                .filter(|seconds: &f64| seconds.is_finite())
                .with_context(|| format!("{}:{}: `{line}` is no offset in seconds", path.display(), number + 1))?;
            ensure!(seconds >= last, "{}:{}: {seconds} is before the line above", path.display(), number + 1);
            last = seconds;
            offsets.push((seconds * 1e9) as u64);
            ensure!(offsets.len() <= RECORDED_AT_MOST, "{}: more than {RECORDED_AT_MOST} lines", path.display());
        }
        ensure!(!offsets.is_empty(), "{} holds no offset", path.display());
        let end = end.map_or(f64::INFINITY, |end| end.as_secs_f64());
        Ok(Self { pace: Pace::Recorded { offsets: offsets.into(), at: 0, speed, end } })
    }

    /// The last offset of a recorded file.
    #[must_use]
    pub fn recorded_end(&self) -> Option<Duration> {
        match &self.pace {
            Pace::Recorded { offsets, speed, .. } => {
                offsets.last().map(|last| Duration::from_secs_f64(*last as f64 / 1e9 / speed))
            }
            Pace::Profile { .. } => None,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match &mut self.pace {
            Pace::Recorded { offsets, at, speed, end } => {
                let seconds = *offsets.get(*at)? as f64 / 1e9 / *speed;
                *at += 1;
                (seconds < *end).then(|| Duration::from_secs_f64(seconds))
            }
            Pace::Profile { stretches, at, before, passed, random, drawn } => {
                let mut stretch = stretches.get(*at)?;
                // A hair of rounding must not put a request of the end into the next phase.
                while *passed >= stretch.requests() - 1e-9 {
                    *passed = (*passed - stretch.requests()).max(0.0);
                    *before += stretch.seconds;
                    *at += 1;
                    stretch = stretches.get(*at)?;
                }
                let seconds = *before + stretch.time_of(*passed);
                *passed += match random {
                    None => 1.0,
                    Some(seed) => exponential(*seed, *drawn),
                };
                *drawn += 1;
                Some(Duration::from_secs_f64(seconds))
            }
        }
    }
}

/// A draw of the exponential distribution with mean one.
fn exponential(seed: u64, index: u64) -> f64 {
    // 1 - u is never zero.
    -(1.0 - unit(seed, index)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(arrivals: Arrivals) -> Vec<f64> {
        arrivals.map(|offset| offset.as_secs_f64()).collect()
    }

    fn counts_by_second(arrivals: Arrivals, seconds: usize) -> Vec<usize> {
        let mut counts = vec![0; seconds];
        for offset in arrivals {
            counts[offset.as_secs_f64() as usize] += 1;
        }
        counts
    }

    #[test]
    fn even_arrivals_keep_their_distance_and_their_sum() {
        let times = seconds(Arrivals::profile(vec![Stretch::even(2.0, 5.0)], None));
        assert_eq!(times.len(), 10);
        for (index, time) in times.iter().enumerate() {
            assert!((time - index as f64 / 5.0).abs() < 1e-9, "{time}");
        }
    }

    #[test]
    fn a_ramp_has_the_area_under_it_and_its_rate_grows() {
        let counts =
            counts_by_second(Arrivals::profile(vec![Stretch { seconds: 10.0, from: 0.0, to: 1000.0 }], None), 10);
        assert_eq!(counts.iter().sum::<usize>(), 5000);
        for (second, count) in counts.iter().enumerate() {
            // From 100 s to 100 (s + 1): 100 s + 50 in that second.
            assert!(count.abs_diff(second * 100 + 50) <= 1, "second {second}: {count}");
        }
        let down = counts_by_second(Arrivals::profile(vec![Stretch { seconds: 2.0, from: 100.0, to: 0.0 }], None), 2);
        assert_eq!(down, [75, 25]);
    }

    #[test]
    fn stretches_follow_each_other_and_silence_between_them_is_kept() {
        let stretches = vec![Stretch::even(1.0, 100.0), Stretch::even(2.0, 0.0), Stretch::even(1.0, 300.0)];
        assert_eq!(counts_by_second(Arrivals::profile(stretches, None), 4), [100, 0, 0, 300]);
    }

    #[test]
    fn random_arrivals_have_the_mean_and_the_spread_of_a_poisson_process() {
        let times = seconds(Arrivals::profile(vec![Stretch::even(100.0, 1000.0)], Some(7)));
        // 100,000 expected, a standard deviation of 316: five of them either way.
        assert!((98_400..101_600).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential gaps: the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{}", variance.sqrt() / mean);
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        let longer_than_mean = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        assert!((longer_than_mean - (-1.0_f64).exp()).abs() < 0.01, "{longer_than_mean}");
    }

    #[test]
    fn a_seed_gives_the_same_arrivals_and_another_one_others() {
        let of = |seed| seconds(Arrivals::profile(vec![Stretch::even(1.0, 100.0)], Some(seed)));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn recorded_offsets_are_played_at_their_speed_and_cut() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# a morning\n0.5\n1.0\n\n1.0\n4\n").expect("written");
        let played = Arrivals::recorded(file.path(), 2.0, Some(Duration::from_secs(2))).expect("recorded");
        assert_eq!(seconds(played), [0.25, 0.5, 0.5]);
        std::fs::write(file.path(), "1\n0.5\n").expect("written");
        let error = Arrivals::recorded(file.path(), 1.0, None).expect_err("descending").to_string();
        assert!(error.contains(":2:"), "{error}");
    }
}
