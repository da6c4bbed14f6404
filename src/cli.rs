//! The command line of INTERFACE 2: every verb, its exit code, and what it prints. `main` calls [`run`].
//!
//! One file a verb; what a verb does lives in the rooms below. Exit codes: 0 fine, 1 failed, 2 usage, 75 a needed
//! service cannot be reached (only where asked for), 78 invalid configuration.

// A command line speaks on its streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod configuration;
mod demo;
mod run;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config, Flag, Over};
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
    /// Set one key over files and environment, e.g. listen.ingest.address=127.0.0.1:9000; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Flag>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the proxy (the default).
    Run(Files),
    /// Run the proxy with a stub upstream and no configuration, and print lines to paste.
    Demo,
    /// Check a configuration and say everything that is wrong with it.
    Validate(validate::Arguments),
    /// Look at a configuration, or begin one: show | schema | init.
    Config(configuration::Arguments),
    /// Look at a spool, mend it, empty it: check | ls | repair | send | reassign | drop.
    Spool(spool::Arguments),
}

/// Reads the process's arguments and does what they say.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb.unwrap_or(Verb::Run(arguments.run)) {
        Verb::Run(files) => run::run(&files),
        Verb::Demo => demo::run(),
        Verb::Validate(arguments) => validate::run(&arguments),
        Verb::Config(arguments) => configuration::run(&arguments),
        Verb::Spool(arguments) => spool::run(arguments, &|config| Files { config, set: Vec::new() }.load()),
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

    /// What stands over the files.
    fn over(&self) -> Over {
        // A name that is no text can be none of ours.
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        Over { flags: self.set.clone(), variables }
    }

    /// The configuration; says itself what is wrong with it.
    fn load(&self) -> Result<Config, ExitCode> {
        config::load_with(&self.paths()?, &self.over(), &environment).map_err(|errors| invalid(&errors))
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
