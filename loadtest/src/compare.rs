//! The verb `compare`: two runs beside each other, with the spread of each, and their plots overlaid. Called by `main.rs`.
//!
//! The spread is that of the middle half of a run's stretches (its series): what changed by less is noise until a longer
//! run says otherwise. Figures without a series have none.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::report;
use crate::results::{Point, Results, SCHEMA};
use crate::threshold::Unit;

/// A figure without spread has changed when it differs by more than this share.
const NOTABLE: f64 = 0.10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  surgegate-loadtest compare before/results.json after/results.json --report difference.html")]
pub struct Arguments {
    /// results.json of the run before
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// results.json of the run after
    #[arg(value_name = "B.json")]
    after: PathBuf,
    /// Write a page with both runs' plots over each other
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// One compared figure.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub before: String,
    pub before_spread: String,
    pub after: String,
    pub after_spread: String,
    pub change: String,
    pub judgement: &'static str,
}

/// Reads both runs and compares them; the text for the terminal.
///
/// # Errors
/// A file is no results.json of this version, or the page cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<String> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let rows = rows(&before, &after);
    let verdict = verdict(&before, &after, &rows);
    let names = names(&arguments.before, &arguments.after);
    if let Some(path) = &arguments.report {
        let page = report::compare_html(&[(&before, &names.0), (&after, &names.1)], &rows, &verdict)?;
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(text(&names, &rows, &verdict))
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results =
        serde_json::from_str(&text).with_context(|| format!("{} is no results.json", path.display()))?;
    ensure!(
        results.schema == SCHEMA,
        "{} has schema {}, this load tester reads {SCHEMA}",
        path.display(),
        results.schema
    );
    Ok(results)
}

/// Short names that differ: of two paths the last part that is not the same in both.
fn names(before: &Path, after: &Path) -> (String, String) {
    let parts = |path: &Path| path.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let (mut one, mut other) = (parts(before), parts(after));
    while one.len() > 1 && other.len() > 1 && one.last() == other.last() {
        one.pop();
        other.pop();
    }
    (one.pop().unwrap_or_default(), other.pop().unwrap_or_default())
}

struct Figure {
    name: &'static str,
    unit: Unit,
    more_is_better: bool,
    of: fn(&Results) -> Option<f64>,
    by_stretch: Option<fn(&Point) -> Option<f64>>,
}

fn rate_of(point: &Point) -> Option<f64> {
    (point.seconds > 0.0).then(|| point.accepted as f64 / point.seconds)
}

const fn time(
    name: &'static str,
    of: fn(&Results) -> Option<f64>,
    by_stretch: Option<fn(&Point) -> Option<f64>>,
) -> Figure {
    Figure { name, unit: Unit::Time, more_is_better: false, of, by_stretch }
}

const fn count(name: &'static str, of: fn(&Results) -> Option<f64>) -> Figure {
    Figure { name, unit: Unit::Number, more_is_better: false, of, by_stretch: None }
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "accepted a second",
        unit: Unit::Number,
        more_is_better: true,
        of: |r| (r.total.seconds > 0.0).then(|| (r.total.accepted as f64 / r.total.seconds).round()),
        by_stretch: Some(rate_of),
    },
    time("p50", |r| Some(r.total.latency.p50_us as f64), Some(|p| (p.p50_us > 0).then_some(p.p50_us as f64))),
    time("p99", |r| Some(r.total.latency.p99_us as f64), Some(|p| (p.p99_us > 0).then_some(p.p99_us as f64))),
    time("p99.9", |r| Some(r.total.latency.p999_us as f64), None),
    time("max", |r| Some(r.total.latency.max_us as f64), Some(|p| (p.max_us > 0).then_some(p.max_us as f64))),
    time("service p99", |r| Some(r.total.service_time.p99_us as f64), None),
    time("delivery p99", |r| r.ledger.as_ref().map(|l| l.delivery.p99_us as f64), None),
    Figure {
        name: "requests a CPU-second",
        unit: Unit::Number,
        more_is_better: true,
        of: |r| r.server.as_ref().and_then(|s| s.accepted_per_cpu_s).map(f64::round),
        by_stretch: None,
    },
    Figure {
        name: "cores in use",
        unit: Unit::Number,
        more_is_better: false,
        of: |r| r.server.as_ref().filter(|_| r.environment.seconds > 0.0).map(|s| s.cpu_s / r.environment.seconds),
        by_stretch: Some(|p| p.cpu_cores),
    },
    Figure {
        name: "memory",
        unit: Unit::Bytes,
        more_is_better: false,
        of: |r| r.server.as_ref().map(|s| s.rss_max_bytes as f64),
        by_stretch: Some(|p| p.rss_bytes.map(|bytes| bytes as f64)),
    },
    count("refused", |r| Some(r.total.refused as f64)),
    count("failed", |r| Some((r.total.failed + r.total.unfinished) as f64)),
    count("lost", |r| r.ledger.as_ref().map(|l| l.lost as f64)),
    count("repeated", |r| r.ledger.as_ref().map(|l| l.repeated as f64)),
    count("duplicates missed", |r| r.ledger.as_ref().map(|l| l.missed_duplicates as f64)),
    count("reordered", |r| r.ledger.as_ref().map(|l| l.reordered as f64)),
    count("wrong", |r| r.ledger.as_ref().map(|l| l.wrong as f64)),
];

/// The first and third quartile over the stretches of measured phases.
fn spread(results: &Results, of: fn(&Point) -> Option<f64>) -> Option<(f64, f64)> {
    let within = |point: &&Point| {
        let middle = point.at_s + point.seconds / 2.0;
        let measured = |phase: &crate::results::Phase| {
            !phase.warm_up && phase.start_s <= middle && middle < phase.start_s + phase.section.seconds
        };
        results.phases.iter().any(measured)
    };
    let mut values: Vec<f64> = results.series.iter().filter(within).filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    // Fewer do not have quartiles worth the name.
    (values.len() >= 4).then(|| (values[values.len() / 4], values[values.len() * 3 / 4]))
}

/// Every figure that both runs know.
#[must_use]
pub fn rows(before: &Results, after: &Results) -> Vec<Row> {
    let row = |figure: &Figure| {
        let (one, other) = ((figure.of)(before)?, (figure.of)(after)?);
        let spreads = figure.by_stretch.map(|of| (spread(before, of), spread(after, of)));
        let (one_spread, other_spread) = spreads.unwrap_or_default();
        let shown = |spread: Option<(f64, f64)>| {
            spread.map_or_else(String::new, |(low, high)| {
                format!("{} to {}", figure.unit.show(low), figure.unit.show(high))
            })
        };
        Some(Row {
            name: figure.name,
            before: figure.unit.show(one),
            before_spread: shown(one_spread),
            after: figure.unit.show(other),
            after_spread: shown(other_spread),
            change: if one > 0.0 { format!("{:+.1} %", (other / one - 1.0) * 100.0) } else { String::new() },
            judgement: judge(figure, one, other, one_spread.zip(other_spread)),
        })
    };
    FIGURES.iter().filter_map(row).collect()
}

fn judge(figure: &Figure, before: f64, after: f64, spreads: Option<((f64, f64), (f64, f64))>) -> &'static str {
    if (before - after).abs() < f64::EPSILON {
        return "equal";
    }
    let is_exact = figure.by_stretch.is_none() && figure.unit == Unit::Number && !figure.more_is_better;
    let noise = match spreads {
        Some(((low, high), (other_low, other_high))) => low <= other_high && other_low <= high,
        None => !is_exact && (after - before).abs() <= NOTABLE * before.abs(),
    };
    match (noise, (after > before) == figure.more_is_better) {
        (true, _) => "within the spread",
        (false, true) => "better",
        (false, false) => "worse",
    }
}

fn verdict(before: &Results, after: &Results, rows: &[Row]) -> String {
    let named = |judgement: &str| {
        let names: Vec<&str> = rows.iter().filter(|row| row.judgement == judgement).map(|row| row.name).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let mut sentence = format!("Better: {}. Worse: {}.", named("better"), named("worse"));
    if before.environment.scenario != after.environment.scenario {
        sentence.push_str(" The scenarios differ: compare with care.");
    }
    if before.environment.processor != after.environment.processor
        || before.environment.cores != after.environment.cores
    {
        sentence.push_str(" The machines differ: times cannot be compared.");
    }
    for (results, which) in [(before, "first"), (after, "second")] {
        if !results.generator.valid {
            let _ = write!(sentence, " The {which} run is INVALID: its latencies are not the server's.");
        }
    }
    sentence
}

fn text(names: &(String, String), rows: &[Row], verdict: &str) -> String {
    let mut out = String::new();
    // Into a string: it cannot fail.
    let _ = writeln!(
        out,
        "{:<22} {:>14} {:<24} {:>14} {:<24} {:>9}",
        "", names.0, "  spread", names.1, "  spread", "change"
    );
    for row in rows {
        let _ = writeln!(
            out,
            "{:<22} {:>14}   {:<22} {:>14}   {:<22} {:>9}  {}",
            row.name, row.before, row.before_spread, row.after, row.after_spread, row.change, row.judgement
        );
    }
    let _ = writeln!(out, "{verdict}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{LedgerCounts, Phase, Section, tests::empty};

    fn run_with(p99_us: u64, noise_us: u64, lost: u64) -> Results {
        let mut results = empty();
        results.generator.valid = true;
        results.total.latency.p99_us = p99_us;
        results.total.seconds = 100.0;
        results.ledger = Some(LedgerCounts { lost, ..LedgerCounts::default() });
        results.phases.push(Phase {
            name: "p".to_owned(),
            warm_up: false,
            start_s: 0.0,
            section: Section { seconds: 100.0, ..Section::default() },
            lateness: Default::default(),
        });
        results.series = (0..100)
            .map(|at| Point {
                at_s: at as f64,
                seconds: 1.0,
                p99_us: p99_us + at % 10 * noise_us / 10,
                ..Point::default()
            })
            .collect();
        results
    }

    fn judgement(before: &Results, after: &Results, name: &str) -> &'static str {
        rows(before, after).into_iter().find(|row| row.name == name).expect(name).judgement
    }

    #[test]
    fn a_change_within_the_spread_is_none_and_one_beyond_is_told() {
        let before = run_with(1000, 500, 0);
        assert_eq!(judgement(&before, &run_with(1100, 500, 0), "p99"), "within the spread");
        assert_eq!(judgement(&before, &run_with(2000, 500, 0), "p99"), "worse");
        assert_eq!(judgement(&before, &run_with(400, 50, 0), "p99"), "better");
        assert_eq!(judgement(&before, &run_with(1000, 500, 0), "p99"), "equal");
    }

    #[test]
    fn one_lost_event_is_worse_without_any_doubt() {
        assert_eq!(judgement(&run_with(1, 0, 0), &run_with(1, 0, 1), "lost"), "worse");
        assert_eq!(judgement(&run_with(1, 0, 100), &run_with(1, 0, 99), "lost"), "better");
    }

    #[test]
    fn names_are_as_short_as_they_can_differ() {
        let names = names(Path::new("/x/a/results.json"), Path::new("/x/b/results.json"));
        assert_eq!(names, ("a".to_owned(), "b".to_owned()));
    }

    #[test]
    fn the_page_of_two_runs_stands_alone() {
        let (before, after) = (run_with(1000, 500, 0), run_with(2000, 500, 1));
        let rows = rows(&before, &after);
        let page = report::compare_html(&[(&before, "a"), (&after, "b")], &rows, "x").expect("a page");
        assert!(page.contains("worse") && !page.contains("http"), "{page}");
    }
}
