//! The command line of INTERFACE 2: every verb, its exit code, and what it prints. `main` calls [`run`].
//!
//! One file a verb; what a verb does lives in the rooms below. Exit codes: 0 fine, 1 failed, 2 usage, 75 a needed
//! service cannot be reached (only where asked for), 78 invalid configuration.

// A command line speaks on its streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod dead_letters;
mod demo;
mod events;
mod log_level;
mod output;
mod reload;
mod remote;
mod run;
mod tap;
mod top;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::spool;

/// Exit codes of INTERFACE 2.
const FAILED: u8 = 1;
const INVALID_CONFIGURATION: u8 = 78;

/// High-throughput edge ingestion proxy for incident APIs.
///
/// Without a verb it runs: it reads ./surgegate.yaml or /etc/surgegate/surgegate.yaml. Try `surgegate demo` first.
#[derive(Parser)]
#[command(name = "surgegate", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Files,
}

/// Which configuration.
#[derive(clap::Args)]
struct Files {
    /// Configuration file; may be given again, each laid over those before it.
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the proxy (the default).
    Run(Files),
    /// Run the proxy with a stub upstream and no configuration, and print lines to paste.
    Demo,
    /// Check a configuration and say everything that is wrong with it.
    Validate(validate::Arguments),
    /// Look at a spool, mend it, empty it: check | ls | repair | send | reassign | drop.
    Spool(spool::Arguments),
    /// What a running process could not deliver: ls | groups | show | replay | drop.
    DeadLetters(dead_letters::Arguments),
    /// What became of an event, in a running process: show | find.
    Events(events::Arguments),
    /// Watch a running process decide, one line an event.
    Tap(tap::Arguments),
    /// Watch a running process as a whole.
    Top(top::Arguments),
    /// Have a running process read its configuration again.
    Reload(reload::Arguments),
    /// Show or change what a running process logs.
    LogLevel(log_level::Arguments),
}

/// Reads the process's arguments and does what they say.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb.unwrap_or(Verb::Run(arguments.run)) {
        Verb::Run(files) => run::run(&files),
        Verb::Demo => demo::run(),
        Verb::Validate(arguments) => validate::run(&arguments),
        Verb::Spool(arguments) => spool::run(arguments, &|config| Files { config }.load()),
        Verb::DeadLetters(arguments) => dead_letters::run(arguments),
        Verb::Events(arguments) => events::run(arguments),
        Verb::Tap(arguments) => tap::run(&arguments),
        Verb::Top(arguments) => top::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::LogLevel(arguments) => log_level::run(&arguments),
    }
}

impl Files {
    /// The named files, or the one that is found.
    fn paths(&self) -> Result<Vec<PathBuf>, ExitCode> {
        if !self.config.is_empty() {
            return Ok(self.config.clone());
        }
        config::find().map(|path| vec![path]).map_err(|error| invalid(&error))
    }

    /// The configuration; says itself what is wrong with it.
    fn load(&self) -> Result<Config, ExitCode> {
        config::load(&self.paths()?, &environment).map_err(|errors| invalid(&errors))
    }
}

/// A variable of the process's environment.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn invalid(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(INVALID_CONFIGURATION)
}
