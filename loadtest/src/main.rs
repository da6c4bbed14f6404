//! The command line of the load tester: picks the verb, prints its report, sets the exit code.
//! What the verbs do is in the library.
// A command-line tool: its report belongs on standard output and its errors on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use surgegate_loadtest::{bare, run, saturate, upstream};

/// The proxy runs on it too: client, yardstick and proxy are compared on equal terms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load tester and counting upstream for Surgegate; sees only the wire
#[derive(Debug, Parser)]
#[command(name = "surgegate-loadtest", version)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Open-loop load at a fixed rate; latency from the intended start of each request
    Run(run::Arguments),
    /// Closed-loop load; requests per server CPU-second
    Saturate(saturate::Arguments),
    /// Counting upstream with scripted faults; with --vendor it stands in for a vendor, state and all
    Upstream(upstream::Arguments),
    /// The yardstick: a bare hyper server that answers 202
    Bare(bare::Arguments),
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
            let report = run::run(arguments)?;
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
