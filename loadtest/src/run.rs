//! The verb `run`: a scenario against a server, its report in files, its verdict as exit code. Called by `main.rs`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::drive::{self, Options, Outcome};
use crate::progress::Mode;
use crate::report;
use crate::results::{Results, Verdict};
use crate::scenario::{self, Scenario};
use crate::threshold::{show_bytes, show_number, show_us};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  surgegate-loadtest run loadtest/scenarios/storm.yaml --report out
      starts the surgegate beside this binary, runs the storm, writes out/report.html, results.json and *.hgrm
  surgegate-loadtest run loadtest/scenarios/chaos.yaml --small
      the same shape in a tenth of the time and rate
  surgegate-loadtest run mine.yaml --target http://10.0.0.7:8080 --observe 10.0.0.7:9464 --upstream 10.0.0.2:9000
      a server that stands somewhere and forwards to this machine; `keys` in the mix name its integrations

Exit codes: 0 passed, 1 INVALID (the generator was the bottleneck) or an error, 2 usage, 99 a threshold was missed or the run broken off.")]
pub struct Arguments {
    /// The scenario's file
    #[arg(value_name = "SCENARIO.yaml")]
    scenario: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Directory for report.html, results.json and the .hgrm files
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the results as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// What `run` and `knee` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// A server that stands somewhere, `http://HOST:PORT`; without it one is started
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The observe listener of --target, for its metrics
    #[arg(long, value_name = "ADDR", requires = "target")]
    observe: Option<SocketAddr>,
    /// Where the own upstream listens; with --target there is none without it, and so no ledger
    #[arg(long, value_name = "ADDR")]
    upstream: Option<SocketAddr>,
    /// The binary that is started; by default the one beside this
    #[arg(long, value_name = "PATH", conflicts_with = "target")]
    surgegate: Option<PathBuf>,
    /// Where a server that is started keeps its files; a temporary directory by default
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Rates and times multiplied by the scenario's `small` (a tenth each by default)
    #[arg(long)]
    small: bool,
    /// All rates multiplied by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// All times multiplied by this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Random choices of this seed, in place of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    progress: Mode,
}

impl Common {
    pub(crate) fn options(&self) -> Options {
        Options {
            target: self.target.clone(),
            observe: self.observe,
            upstream: self.upstream,
            surgegate: self.surgegate.clone(),
            directory: self.directory.clone(),
            progress: self.progress,
        }
    }

    /// Reads a scenario and scales it as asked.
    pub(crate) fn load(&self, path: &Path) -> anyhow::Result<Scenario> {
        let mut scenario = scenario::load(path)?;
        scenario.seed = self.seed.or(scenario.seed);
        let small = scenario.small;
        if self.small {
            scenario.scale(small.rate, small.time);
        }
        scenario.scale(self.scale, self.time_scale);
        Ok(scenario)
    }
}

/// Runs the scenario and writes what was asked for; the verdict.
///
/// # Errors
/// See [`scenario::load`] and [`drive::drive`]; and files that cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<(Verdict, String)> {
    let scenario = arguments.common.load(&arguments.scenario)?;
    let outcome = drive::drive(&scenario, &arguments.common.options())?;
    if let Some(directory) = &arguments.report {
        write(directory, &outcome)?;
    }
    let results = &outcome.results;
    let mut shown = if arguments.json { serde_json::to_string(results)? + "\n" } else { text(results) };
    if let Some(directory) = arguments.report.as_ref().filter(|_| !arguments.json) {
        let _ = writeln!(shown, "report        {}", directory.join("report.html").display());
    }
    Ok((results.verdict, shown))
}

/// Writes `results.json`, `report.html` and the `.hgrm` files.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn write(directory: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let put = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("results.json", &serde_json::to_string_pretty(&outcome.results)?)?;
    for (name, histogram) in &outcome.histograms {
        let name: String = name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
        put(&format!("{name}.hgrm"), &histogram.hgrm())?;
    }
    put("report.html", &report::html(&outcome.results)?)
}

/// The results for a terminal.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    // Into a string: it cannot fail.
    let _ = write_text(results, &mut out);
    out
}

fn write_text(results: &Results, out: &mut String) -> std::fmt::Result {
    let number = |count: u64| show_number(count as f64);
    writeln!(out, "{}: {}", results.scenario, results.about.trim())?;
    for phase in &results.phases {
        let own = &phase.section;
        let latency = &own.latency;
        writeln!(
            out,
            "{:<13} {:>9} of {} in {:.1} s{}  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            phase.name,
            number(own.started),
            number(own.planned),
            own.seconds,
            if phase.warm_up { " (warm-up)" } else { "" },
            show_us(latency.p50_us as f64),
            show_us(latency.p90_us as f64),
            show_us(latency.p99_us as f64),
            show_us(latency.p999_us as f64),
            show_us(latency.max_us as f64),
        )?;
    }
    let total = &results.total;
    let service = &total.service_time;
    writeln!(out, "latency       {}  from the intended start", total.latency)?;
    writeln!(out, "service time  {service}  from the real start")?;
    let statuses: Vec<String> =
        total.statuses.iter().map(|(status, count)| format!("{status}: {}", number(*count))).collect();
    writeln!(out, "answers       {}", statuses.join("  "))?;
    for (failure, count) in &total.failures {
        writeln!(out, "failed        {}  {failure}", number(*count))?;
    }
    if total.unfinished + total.held_up > 0 {
        writeln!(out, "held up       {}, unfinished {}", number(total.held_up), number(total.unfinished))?;
    }
    for source in results.sources.iter().filter(|source| source.abuse) {
        let statuses: Vec<String> =
            source.statuses.iter().map(|(status, count)| format!("{status}: {}", number(*count))).collect();
        let failures: Vec<String> =
            source.failures.iter().map(|(failure, count)| format!("{failure}: {}", number(*count))).collect();
        writeln!(
            out,
            "abuse         {:<18} {} sent, {} answered otherwise than the contract says  {} {}",
            source.name,
            number(source.requests),
            number(source.unexpected),
            statuses.join("  "),
            failures.join("  "),
        )?;
    }
    write_ledger(results, out)?;
    let generator = &results.generator;
    let share = |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:.0}", share * 100.0));
    writeln!(
        out,
        "generator     lateness {}  ran {} %, waited for a core {} % of the time",
        generator.lateness,
        share(generator.running),
        share(generator.waiting),
    )?;
    if let Some(server) = &results.server {
        writeln!(
            out,
            "server        {:.1} s of CPU  at most {}  {} descriptors  started {} times",
            server.cpu_s,
            show_bytes(server.rss_max_bytes as f64),
            number(server.descriptors_max),
            server.starts
        )?;
    }
    for happening in &results.happenings {
        writeln!(out, "{:>8.1} s    {}", happening.at_s, happening.what)?;
    }
    for checked in &results.thresholds {
        let mark = if checked.met { "met   " } else { "MISSED" };
        writeln!(out, "{mark}        {}  (it is {})", checked.threshold, checked.shown)?;
    }
    for why in &results.why {
        writeln!(out, "              {why}")?;
    }
    writeln!(out, "{}", format!("{:?}", results.verdict).to_uppercase())
}

fn write_ledger(results: &Results, out: &mut String) -> std::fmt::Result {
    let Some(ledger) = &results.ledger else {
        return writeln!(out, "ledger        none: the run had no upstream of its own");
    };
    let number = |count: u64| show_number(count as f64);
    writeln!(
        out,
        "ledger        {} statements, {} sent again; accepted {}  delivered {}  LOST {}",
        number(ledger.statements),
        number(ledger.sent_again),
        number(ledger.accepted),
        number(ledger.delivered),
        number(ledger.lost)
    )?;
    writeln!(
        out,
        "              repeated {}  missed duplicates {}  reordered {}  wrong {}  foreign {}",
        number(ledger.repeated),
        number(ledger.missed_duplicates),
        number(ledger.reordered),
        number(ledger.wrong),
        number(ledger.foreign)
    )?;
    if ledger.broken_off > 0 {
        writeln!(
            out,
            "              {} more met an answer of 2xx that broke off in its middle",
            number(ledger.broken_off)
        )?;
    }
    writeln!(
        out,
        "              delivered without an accepted answer: {} whose answer was lost, {} refused",
        number(ledger.unanswered_delivered),
        number(ledger.refused_delivered)
    )?;
    writeln!(out, "delivery      {}  from the intended start to the upstream's 2xx", ledger.delivery)?;
    for (fault, examples) in &ledger.examples {
        for example in examples {
            writeln!(out, "  {fault:<11} {example}")?;
        }
    }
    Ok(())
}
