//! The command line of the load tester: picks the verb, prints its report, sets the exit code.
//! What the verbs do is in the library.
// A command-line tool: its report belongs on standard output and its errors on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use surgegate_loadtest::results::Verdict;
use surgegate_loadtest::{bare, calibrate, compare, knee, rate, results, run, saturate, scenario, upstream};

/// The proxy runs on it too: client, yardstick and proxy are compared on equal terms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A threshold was missed, or the run broken off.
const MISSED: u8 = 99;

/// Load tester, counting upstream and yardstick for Surgegate; sees only the wire
#[derive(Debug, Parser)]
#[command(name = "surgegate-loadtest", version)]
#[command(after_help = "\
Examples:
  surgegate-loadtest run loadtest/scenarios/storm.yaml --small --report out
  surgegate-loadtest validate mine.yaml
  surgegate-loadtest schema > scenario.schema.json
  surgegate-loadtest upstream --listen 127.0.0.1:9000 --fault status=503,after=100,for=5s
  surgegate-loadtest rate --target http://127.0.0.1:8080 --rate 2000 --duration 10s")]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A scenario: open-loop load, faults in its middle, and a ledger of what became of every event
    Run(run::Arguments),
    /// The highest rate at which a scenario's mix keeps a bound, with its confidence
    Knee(knee::Arguments),
    /// Two runs beside each other, with their spread; plots over each other
    Compare(compare::Arguments),
    /// What the generator can do on this machine
    Calibrate(calibrate::Arguments),
    /// Whether scenarios are well formed; every error at once, with its line
    Validate {
        #[arg(value_name = "SCENARIO.yaml", required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// The JSON Schema of scenarios, or of results.json
    Schema {
        #[arg(value_enum, default_value_t = Which::Scenario)]
        of: Which,
    },
    /// Open-loop load of one kind at a fixed rate, without a scenario; latency from the intended start
    Rate(rate::Arguments),
    /// Closed-loop load; requests per server CPU-second
    Saturate(saturate::Arguments),
    /// Counting upstream with scripted faults; with --vendor it stands in for a vendor, state and all
    Upstream(upstream::Arguments),
    /// The yardstick: a bare hyper server that answers 202
    Bare(bare::Arguments),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Scenario,
    Results,
}

fn main() -> ExitCode {
    match dispatch(&CommandLine::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("surgegate-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: &Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(arguments) => {
            let (verdict, text) = run::run(arguments)?;
            print!("{text}");
            return Ok(code_of(verdict));
        }
        Verb::Knee(arguments) => print!("{}", knee::run(arguments)?),
        Verb::Compare(arguments) => print!("{}", compare::run(arguments)?),
        Verb::Calibrate(arguments) => print!("{}", calibrate::run(arguments)?),
        Verb::Validate { scenarios } => {
            for path in scenarios {
                let scenario = scenario::load(path)?;
                println!("{}: {} is well formed", path.display(), scenario.name);
            }
        }
        Verb::Schema { of } => {
            let schema = match of {
                Which::Scenario => scenario::schema(),
                Which::Results => results::schema(),
            };
            println!("{}", serde_json::to_string_pretty(&schema)?);
        }
        Verb::Rate(arguments) => {
            let report = rate::run(arguments)?;
            if arguments.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print!("{report}");
            }
            // A figure that the generator spoiled must not pass for one of the server.
            return Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Saturate(arguments) => {
            println!("{}", serde_json::to_string(&saturate::run(arguments)?)?);
        }
        Verb::Upstream(arguments) => upstream::run(arguments)?,
        Verb::Bare(arguments) => bare::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn code_of(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Invalid => ExitCode::FAILURE,
        Verdict::Missed | Verdict::Aborted => ExitCode::from(MISSED),
    }
}
