//! What must hold: `p99 < 5ms`, `storm: error_rate <= 0.1%`, `lost == 0`, `rss < 256MiB`. A name in front of a colon is a
//! phase's; without one all measured phases are meant, and for ledger, server and generator the whole run.
//! A figure that the run could not know misses its threshold. Called by the scenario's checks, by [`crate::drive`] in
//! the end and each second for `abort_when`, and by `knee`.

use crate::results::{Checked, Phase, Results, Section};
use crate::scenario;
use crate::units::parse_duration;

/// A figure that thresholds name.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub unit: Unit,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds; written with a unit.
    Time,
    /// Bytes; may have a unit.
    Bytes,
    /// 0 to 1; may be written in per cent.
    Share,
    Number,
}

#[derive(Debug)]
enum Of {
    Section(fn(&Section) -> f64),
    Lateness(fn(&crate::latency::Summary) -> f64),
    Run(fn(&Results) -> Option<f64>),
}

const fn section(name: &'static str, unit: Unit, of: fn(&Section) -> f64) -> Metric {
    Metric { name, unit, of: Of::Section(of) }
}

const fn run(name: &'static str, unit: Unit, of: fn(&Results) -> Option<f64>) -> Metric {
    Metric { name, unit, of: Of::Run(of) }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn a_second(count: u64, section: &Section) -> f64 {
    if section.seconds > 0.0 { count as f64 / section.seconds } else { 0.0 }
}

/// Every name, in the order of the manual.
pub const METRICS: &[Metric] = &[
    section("mean", Unit::Time, |s| s.latency.mean_us),
    section("p50", Unit::Time, |s| s.latency.p50_us as f64),
    section("p90", Unit::Time, |s| s.latency.p90_us as f64),
    section("p95", Unit::Time, |s| s.latency.p95_us as f64),
    section("p99", Unit::Time, |s| s.latency.p99_us as f64),
    section("p999", Unit::Time, |s| s.latency.p999_us as f64),
    section("max", Unit::Time, |s| s.latency.max_us as f64),
    section("service_p50", Unit::Time, |s| s.service_time.p50_us as f64),
    section("service_p99", Unit::Time, |s| s.service_time.p99_us as f64),
    section("rate", Unit::Number, |s| a_second(s.accepted, s)),
    section("accepted", Unit::Number, |s| s.accepted as f64),
    section("refused", Unit::Number, |s| s.refused as f64),
    section("failed", Unit::Number, |s| (s.failed + s.unfinished) as f64),
    section("error_rate", Unit::Share, |s| share(s.refused + s.failed + s.unfinished, s.started)),
    section("held_up", Unit::Share, |s| share(s.held_up, s.started)),
    Metric { name: "lateness_p99", unit: Unit::Time, of: Of::Lateness(|s| s.p99_us as f64) },
    run("lost", Unit::Number, |r| r.ledger.as_ref().map(|l| l.lost as f64)),
    run("repeated", Unit::Number, |r| r.ledger.as_ref().map(|l| l.repeated as f64)),
    run("repeated_rate", Unit::Share, |r| r.ledger.as_ref().map(|l| share(l.repeated, l.delivered))),
    run("missed_duplicates", Unit::Number, |r| r.ledger.as_ref().map(|l| l.missed_duplicates as f64)),
    run("reordered", Unit::Number, |r| r.ledger.as_ref().map(|l| l.reordered as f64)),
    run("wrong", Unit::Number, |r| r.ledger.as_ref().map(|l| l.wrong as f64)),
    run("foreign", Unit::Number, |r| r.ledger.as_ref().map(|l| l.foreign as f64)),
    run("refused_delivered", Unit::Number, |r| r.ledger.as_ref().map(|l| l.refused_delivered as f64)),
    run("delivered", Unit::Number, |r| r.ledger.as_ref().map(|l| l.delivered as f64)),
    run("delivery_p50", Unit::Time, |r| r.ledger.as_ref().map(|l| l.delivery.p50_us as f64)),
    run("delivery_p99", Unit::Time, |r| r.ledger.as_ref().map(|l| l.delivery.p99_us as f64)),
    run("delivery_max", Unit::Time, |r| r.ledger.as_ref().map(|l| l.delivery.max_us as f64)),
    run("unexpected", Unit::Number, |r| Some(r.sources.iter().map(|source| source.unexpected).sum::<u64>() as f64)),
    run("rss", Unit::Bytes, |r| r.server.as_ref().map(|s| s.rss_max_bytes as f64)),
    run("descriptors", Unit::Number, |r| r.server.as_ref().map(|s| s.descriptors_max as f64)),
    run("cpu", Unit::Number, |r| {
        r.server.as_ref().filter(|_| r.environment.seconds > 0.0).map(|s| s.cpu_s / r.environment.seconds)
    }),
    run("per_cpu_second", Unit::Number, |r| r.server.as_ref().and_then(|s| s.accepted_per_cpu_s)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Less,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    More,
}

/// A metric, a comparison and a bound.
#[derive(Debug, Clone)]
pub struct Threshold {
    pub text: String,
    pub phase: Option<String>,
    pub metric: &'static Metric,
    compare: Compare,
    bound: f64,
}

impl Threshold {
    /// Reads `[PHASE: ]METRIC COMPARISON BOUND`.
    ///
    /// # Errors
    /// A text for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (phase, rest) = match text.split_once(':') {
            Some((phase, rest)) => (Some(phase.trim().to_owned()), rest),
            None => (None, text),
        };
        let at =
            rest.find(['<', '>', '=', '!']).ok_or_else(|| format!("`{text}` compares nothing: write `p99 < 5ms`"))?;
        let (name, rest) = (rest[..at].trim(), &rest[at..]);
        let operator_bytes = rest.find(|c| !"<>=!".contains(c)).unwrap_or(rest.len());
        let compare = match &rest[..operator_bytes] {
            "<" => Compare::Less,
            "<=" => Compare::AtMost,
            "==" => Compare::Equal,
            "!=" => Compare::Unequal,
            ">=" => Compare::AtLeast,
            ">" => Compare::More,
            other => return Err(format!("`{text}`: `{other}` is none of < <= == != >= >")),
        };
        let metric = METRICS.iter().find(|metric| metric.name == name).ok_or_else(|| {
            let names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
            format!("`{text}`: `{name}` is none of {}", names.join(", "))
        })?;
        if phase.is_some() && matches!(metric.of, Of::Run(_)) {
            return Err(format!("`{text}`: {name} is known of the whole run only"));
        }
        let bound = metric.unit.parse(rest[operator_bytes..].trim()).map_err(|why| format!("`{text}`: {why}"))?;
        Ok(Self { text: text.to_owned(), phase, metric, compare, bound })
    }

    /// The figure, where the run knows it.
    #[must_use]
    pub fn value(&self, results: &Results) -> Option<f64> {
        let phase = match &self.phase {
            Some(name) => Some(results.phases.iter().find(|phase| phase.name == *name)?),
            None => None,
        };
        match &self.metric.of {
            Of::Run(of) => of(results),
            Of::Section(of) => Some(of(phase.map_or(&results.total, |phase: &Phase| &phase.section))),
            Of::Lateness(of) => Some(of(phase.map_or(&results.generator.lateness, |phase| &phase.lateness))),
        }
    }

    /// What it is compared with, in the unit of its figure.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// Whether it holds; what is not known does not.
    #[must_use]
    pub fn holds(&self, results: &Results) -> bool {
        self.value(results).is_some_and(|value| match self.compare {
            Compare::Less => value < self.bound,
            Compare::AtMost => value <= self.bound,
            Compare::Equal => (value - self.bound).abs() < f64::EPSILON,
            Compare::Unequal => (value - self.bound).abs() >= f64::EPSILON,
            Compare::AtLeast => value >= self.bound,
            Compare::More => value > self.bound,
        })
    }

    /// As a row of the results.
    #[must_use]
    pub fn check(&self, results: &Results) -> Checked {
        let value = self.value(results);
        let shown = value.map_or_else(|| "not known".to_owned(), |value| self.metric.unit.show(value));
        Checked { threshold: self.text.clone(), value, shown, met: self.holds(results) }
    }
}

impl Unit {
    fn parse(self, text: &str) -> Result<f64, String> {
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| format!("`{text}` is no number"));
        match self {
            Self::Time => parse_duration(text).map(|time| time.as_secs_f64() * 1e6),
            Self::Bytes => scenario::parse_size(text).map(|bytes| bytes as f64),
            Self::Share => match text.strip_suffix('%') {
                Some(percent) => number(percent).map(|percent| percent / 100.0),
                None => number(text),
            },
            Self::Number => number(text),
        }
    }

    /// The value with its unit, for people.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time => show_us(value),
            Self::Bytes => show_bytes(value),
            Self::Share => format!("{:.3} %", value * 100.0),
            Self::Number => show_number(value),
        }
    }
}

/// Microseconds in the unit that reads best.
#[must_use]
pub fn show_us(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// Bytes in the unit that reads best.
#[must_use]
pub fn show_bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes if bytes < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
        bytes => format!("{:.2} GiB", bytes / 1024.0 / 1024.0 / 1024.0),
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn show_number(value: f64) -> String {
    if value.fract().abs() > 1e-9 && value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 { format!("-{shown}") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::LedgerCounts;

    fn results() -> Results {
        let mut results = crate::results::tests::empty();
        results.total.latency.p99_us = 5000;
        results.total.started = 1000;
        results.total.refused = 1;
        results.total.accepted = 999;
        results.total.seconds = 10.0;
        results
    }

    #[test]
    fn bounds_are_exact_and_take_units() {
        let holds = |text: &str| Threshold::parse(text).expect(text).holds(&results());
        assert!(!holds("p99 < 5ms") && holds("p99 <= 5ms") && holds("p99 < 5.1ms") && holds("p99==5000us"));
        assert!(holds("p99 >= 5ms") && !holds("p99 > 5ms") && holds("p99 != 4ms"));
        assert!(holds("error_rate <= 0.1%") && holds("error_rate <= 0.001") && !holds("error_rate < 0.1 %"));
        assert!(holds("rate >= 99.9") && holds("accepted == 999"));
    }

    #[test]
    fn what_is_not_known_is_missed() {
        let mut results = results();
        for text in ["lost == 0", "rss < 1GiB", "gone: p99 < 1s"] {
            let threshold = Threshold::parse(text).expect(text);
            let checked = threshold.check(&results);
            assert!(!checked.met && checked.shown == "not known", "{text}");
        }
        results.ledger = Some(LedgerCounts::default());
        assert!(Threshold::parse("lost == 0").expect("a threshold").holds(&results));
    }

    #[test]
    fn mistakes_are_told_with_what_there_is() {
        for (text, word) in [
            ("p99", "compares nothing"),
            ("p98 < 5ms", "none of mean, p50"),
            ("p99 < 5", "unit"),
            ("p99 =< 5ms", "none of <"),
            ("lost == none", "no number"),
            ("rss < 5MB", "KiB"),
            ("storm: lost == 0", "whole run"),
        ] {
            let error = Threshold::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn figures_are_shown_for_people() {
        assert_eq!(
            (show_us(950.0), show_us(5_120.0), show_us(2.5e6)),
            ("950 µs".into(), "5.12 ms".into(), "2.5 s".into())
        );
        assert_eq!((show_bytes(512.0), show_bytes(268_435_456.0)), ("512 B".into(), "256.0 MiB".into()));
        assert_eq!(
            (show_number(1_234_567.0), show_number(1.5), show_number(-1000.0)),
            ("1,234,567".into(), "1.50".into(), "-1,000".into())
        );
    }
}
