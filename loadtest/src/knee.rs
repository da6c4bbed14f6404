//! The verb `knee`: the highest rate at which a scenario's mix keeps a bound. Doubles the rate until the bound breaks, halves
//! the gap some times, and then tries the rates on both sides again, as one lucky run proves nothing. Called by `main.rs`;
//! [`search`] is also what `calibrate` uses, with another try.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::drive;
use crate::report;
use crate::results::{Results, Verdict};
use crate::run::Common;
use crate::scenario::{Arrivals, Phase, Ramp, Scenario, Time};
use crate::threshold::{Threshold, Unit};
use crate::units;

/// Of the requests that were due, so many must have been accepted for a rate to be reached at all.
const REACHED: f64 = 0.98;
/// Two-sided 95 %.
const Z: f64 = 1.96;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  surgegate-loadtest knee loadtest/scenarios/steady.yaml --keep 'p99 < 5ms' --keep 'error_rate == 0%'
  surgegate-loadtest knee mine.yaml --keep 'delivery_p99 < 1s' --from 200 --to 20000 --repeats 5 --report out")]
pub struct Arguments {
    /// The scenario whose mix, client, server and upstream are taken; its phases and events are not
    #[arg(value_name = "SCENARIO.yaml")]
    scenario: PathBuf,
    #[command(flatten)]
    common: Common,
    /// What must hold, in the grammar of thresholds; repeatable
    #[arg(long, value_name = "THRESHOLD", default_value = "p99 < 5ms")]
    keep: Vec<String>,
    /// The first rate, requests a second
    #[arg(long, default_value_t = 250.0)]
    from: f64,
    /// No rate above this is tried
    #[arg(long, default_value_t = 100_000.0)]
    to: f64,
    /// Measured time of a try; a quarter of it more to get warm
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    duration: Duration,
    /// Halvings of the gap
    #[arg(long, default_value_t = 5)]
    steps: u32,
    /// Tries of the two rates around the knee
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Directory for knee.html and knee.json
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// One try of one rate.
#[derive(Debug, Clone, Serialize)]
pub struct Try {
    pub number: usize,
    pub rate: f64,
    pub held: bool,
    /// The generator was the bottleneck: nothing is known of the server at this rate.
    pub invalid: bool,
    /// The figure of the first bound.
    pub value: Option<f64>,
    pub shown: String,
    pub accepted_per_second: f64,
    pub why: String,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Knee {
    pub scenario: String,
    pub metric: String,
    pub bounds: Vec<String>,
    /// The highest rate at which every try held.
    pub rate: Option<f64>,
    /// The lowest rate above it at which most tries did not.
    pub broken_at: Option<f64>,
    /// With 95 % confidence, at least this share of runs at `rate` hold.
    pub holds_at_least: f64,
    /// The generator gave up before the server.
    pub generator_limit: bool,
    pub sentence: String,
    pub tries: Vec<Try>,
}

/// Searches and writes what was asked for; the text for the terminal.
///
/// # Errors
/// A threshold that is none, and what [`drive::drive`] fails with.
pub fn run(arguments: &Arguments) -> anyhow::Result<String> {
    ensure!(arguments.from > 0.0 && arguments.from <= arguments.to, "--from is above --to, or 0");
    let scenario = arguments.common.load(&arguments.scenario)?;
    let bounds = arguments
        .keep
        .iter()
        .map(|text| Threshold::parse(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::msg)?;
    let range = Range { from: arguments.from, to: arguments.to, steps: arguments.steps, repeats: arguments.repeats };
    let options = arguments.common.options();
    let (tries, found) = search(range, |number, rate| {
        let at_rate = at_rate(&scenario, rate, arguments.duration, &arguments.keep);
        let outcome = drive::drive(&at_rate, &options)?;
        Ok(judge(number, rate, &outcome.results, &bounds))
    })?;
    let knee = sum_up(&scenario.name, &bounds, tries, found);
    if let Some(directory) = &arguments.report {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let points = knee.tries.iter().filter_map(|one| Some((one.rate, one.value?))).collect();
        let bound = bounds[0].metric.unit == Unit::Time;
        let page = report::knee_html(&knee, points, bound.then(|| bounds[0].bound()), bounds[0].metric.name)?;
        std::fs::write(directory.join("knee.html"), page)?;
        std::fs::write(directory.join("knee.json"), serde_json::to_string_pretty(&knee)?)?;
    }
    Ok(if arguments.json { serde_json::to_string(&knee)? + "\n" } else { text(&knee) })
}

/// The scenario's mix at one rate.
fn at_rate(scenario: &Scenario, rate: f64, duration: Duration, keep: &[String]) -> Scenario {
    let phase = |name: &str, warm_up, duration, arrivals| Phase {
        name: name.to_owned(),
        warm_up,
        duration: Some(Time(duration)),
        arrivals,
        duplicates: None,
        weights: Default::default(),
    };
    let ramp = Arrivals { ramp: Some(Ramp { from: rate / 4.0, to: rate }), ..Arrivals::default() };
    let even = Arrivals { poisson: Some(rate), ..Arrivals::default() };
    Scenario {
        name: format!("{} at {rate:.0}/s", scenario.name),
        phases: vec![phase("warm-up", true, duration / 4, ramp), phase("measured", false, duration, even)],
        events: Vec::new(),
        thresholds: keep.to_vec(),
        abort_when: Vec::new(),
        ..scenario.clone()
    }
}

fn judge(number: usize, rate: f64, results: &Results, bounds: &[Threshold]) -> Try {
    let total = &results.total;
    let reached = total.accepted as f64 >= REACHED * total.planned as f64;
    let missed = bounds.iter().find(|bound| !bound.holds(results));
    let invalid = results.verdict == Verdict::Invalid;
    let why = if invalid {
        "the generator was the bottleneck".to_owned()
    } else if !reached {
        format!(
            "only {:.1} % of what was due was accepted",
            total.accepted as f64 / total.planned.max(1) as f64 * 100.0
        )
    } else if let Some(missed) = missed {
        format!("missed: {} (it is {})", missed.text, missed.check(results).shown)
    } else {
        "held".to_owned()
    };
    let first = bounds[0].check(results);
    Try {
        number,
        rate,
        held: !invalid && reached && missed.is_none(),
        invalid,
        value: first.value,
        shown: first.shown,
        accepted_per_second: if total.seconds > 0.0 { (total.accepted as f64 / total.seconds).round() } else { 0.0 },
        why,
    }
}

/// Where and how hard to look.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub from: f64,
    pub to: f64,
    pub steps: u32,
    pub repeats: u32,
}

/// The highest rate that held in every try, and the lowest above it that mostly did not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    pub held: Option<f64>,
    pub broken: Option<f64>,
}

/// Looks for the knee with this way of trying a rate.
///
/// # Errors
/// Those of a try.
pub fn search(
    range: Range,
    mut try_rate: impl FnMut(usize, f64) -> anyhow::Result<Try>,
) -> anyhow::Result<(Vec<Try>, Found)> {
    let mut tries: Vec<Try> = Vec::new();
    let mut once = |rate: f64, tries: &mut Vec<Try>| -> anyhow::Result<bool> {
        let one = try_rate(tries.len() + 1, rate)?;
        let held = one.held;
        tries.push(one);
        Ok(held)
    };
    let mut found = Found { held: None, broken: None };
    let mut rate = range.from;
    while rate <= range.to {
        if !once(rate, &mut tries)? {
            found.broken = Some(rate);
            break;
        }
        found.held = Some(rate);
        if rate >= range.to {
            break;
        }
        rate = (rate * 2.0).min(range.to);
    }
    for _ in 0..range.steps {
        let (Some(low), Some(high)) = (found.held, found.broken) else { break };
        // The middle of their ratio, not of their difference.
        let middle = (low * high).sqrt().round();
        if middle <= low || middle >= high {
            break;
        }
        if once(middle, &mut tries)? { found.held = Some(middle) } else { found.broken = Some(middle) }
    }
    // Each side again: a rate that fails once is no rate that holds.
    while let Some(low) = found.held {
        let mut all_held = true;
        for _ in 1..range.repeats {
            if !once(low, &mut tries)? {
                all_held = false;
                break;
            }
        }
        if all_held {
            break;
        }
        found.broken = Some(low);
        found.held = tries
            .iter()
            .filter(|one| one.held && one.rate < low && !has_failed(&tries, one.rate))
            .map(|one| one.rate)
            .reduce(f64::max);
    }
    if let Some(high) = found.broken {
        for _ in 1..range.repeats {
            let _ = once(high, &mut tries)?;
        }
    }
    Ok((tries, found))
}

fn has_failed(tries: &[Try], rate: f64) -> bool {
    tries.iter().any(|one| (one.rate - rate).abs() < f64::EPSILON && !one.held)
}

fn sum_up(scenario: &str, bounds: &[Threshold], tries: Vec<Try>, found: Found) -> Knee {
    let at = |rate: f64| tries.iter().filter(move |one| (one.rate - rate).abs() < f64::EPSILON);
    let held = |rate: f64| at(rate).filter(|one| one.held).count();
    let lower = found.held.map_or(0.0, |rate| wilson_lower(held(rate), at(rate).count()));
    let generator_limit = found.broken.is_some_and(|rate| at(rate).any(|one| one.invalid));
    let sentence = match (found.held, found.broken) {
        (Some(rate), Some(broken)) => format!(
            "{rate:.0} requests a second: {} of {} tries held there ({:.0} % of runs or more do, with 95 % confidence), {} of {} at {broken:.0}.{}",
            held(rate),
            at(rate).count(),
            lower * 100.0,
            held(broken),
            at(broken).count(),
            if generator_limit { " Above it the generator was the bottleneck: the server may go further." } else { "" },
        ),
        (Some(rate), None) => format!("{rate:.0} requests a second and perhaps more: no higher rate was tried (--to)."),
        (None, _) => "None: the lowest rate did not hold either (--from).".to_owned(),
    };
    Knee {
        scenario: scenario.to_owned(),
        metric: bounds.first().map_or_else(String::new, |bound| bound.metric.name.to_owned()),
        bounds: bounds.iter().map(|bound| bound.text.clone()).collect(),
        rate: found.held,
        broken_at: found.broken,
        holds_at_least: lower,
        generator_limit,
        sentence,
        tries,
    }
}

/// The lower end of Wilson's interval for a share.
fn wilson_lower(held: usize, tries: usize) -> f64 {
    if tries == 0 {
        return 0.0;
    }
    let (n, share) = (tries as f64, held as f64 / tries as f64);
    let centre = share + Z * Z / (2.0 * n);
    let margin = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - margin) / (1.0 + Z * Z / n)).max(0.0)
}

fn text(knee: &Knee) -> String {
    let mut out = String::new();
    // Into a string: it cannot fail.
    for one in &knee.tries {
        let _ = writeln!(out, "{:>3}  {:>9.0}/s  {} {:<10}  {}", one.number, one.rate, knee.metric, one.shown, one.why);
    }
    let _ = writeln!(out, "knee  {}", knee.sentence);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(number: usize, rate: f64, held: bool) -> Try {
        Try {
            number,
            rate,
            held,
            invalid: false,
            value: None,
            shown: String::new(),
            accepted_per_second: rate,
            why: String::new(),
        }
    }

    const RANGE: Range = Range { from: 100.0, to: 100_000.0, steps: 6, repeats: 3 };

    #[test]
    fn a_sharp_knee_is_found_between_two_close_rates() {
        let (tries, found) = search(RANGE, |number, rate| Ok(tried(number, rate, rate <= 3000.0))).expect("a knee");
        let (held, broken) = (found.held.expect("held"), found.broken.expect("broken"));
        assert!(held <= 3000.0 && broken > 3000.0 && broken / held < 1.02, "{held} {broken}");
        assert!(tries.iter().filter(|one| one.rate == held).count() >= 3, "tried again");
    }

    #[test]
    fn a_rate_that_held_by_luck_is_given_up() {
        // Holds at 1600 once, and never again.
        let mut lucky = true;
        let (_, found) = search(RANGE, |number, rate| {
            let held = rate <= 800.0 || rate <= 1600.0 && std::mem::take(&mut lucky);
            Ok(tried(number, rate, held))
        })
        .expect("a knee");
        assert_eq!(found.held, Some(800.0));
    }

    #[test]
    fn no_knee_is_said_as_such() {
        let (_, found) = search(RANGE, |number, rate| Ok(tried(number, rate, false))).expect("tries");
        assert_eq!(found.held, None);
        let (_, found) = search(RANGE, |number, rate| Ok(tried(number, rate, true))).expect("tries");
        assert_eq!((found.held, found.broken), (Some(100_000.0), None));
    }

    #[test]
    fn confidence_grows_with_the_tries() {
        assert!((wilson_lower(3, 3) - 0.4385).abs() < 0.001);
        assert!(wilson_lower(10, 10) > wilson_lower(3, 3) && wilson_lower(9, 10) < wilson_lower(10, 10));
    }
}
