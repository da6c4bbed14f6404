//! The command line of INTERFACE 2: every verb, its exit code, and what it prints. `main` calls [`run`].
//!
//! One file a verb; what a verb does lives in the rooms below. Exit codes: 0 fine, 1 failed, 2 usage, 75 a needed
//! service cannot be reached (only where asked for), 78 invalid configuration. Nothing here panics when the reader of
//! its output goes away.

mod completions;
mod configuration;
mod dead_letters;
mod demo;
mod events;
mod keys;
mod log_level;
mod man;
mod output;
mod probe;
mod reload;
mod remote;
mod run;
mod tap;
mod top;
mod translate;
mod validate;
mod version;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, Flag, Over};
use crate::spool;

/// Exit codes of INTERFACE 2.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHED: u8 = 75;
const INVALID_CONFIGURATION: u8 = 78;

/// High-throughput edge ingestion proxy for incident APIs.
///
/// Without a verb it runs: it reads ./surgegate.yaml or /etc/surgegate/surgegate.yaml. Try `surgegate demo` first.
#[derive(Parser)]
#[command(
    name = "surgegate",
    version,
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  surgegate demo                                 a proxy, a stub upstream, and lines to paste; no configuration
  surgegate keys generate                        a key for a sender, and its line in the configuration
  surgegate validate --config surgegate.yaml     everything that is wrong, and what would fail in production
  surgegate --config surgegate.yaml              run

Signals of a running proxy: TERM drains and stops; INT too, and skips the wait on a terminal; a second one stops at once.

Exit codes: 0 fine, 1 failed at run time, 2 usage, 75 a needed service cannot be reached (only where asked for),
78 invalid configuration."
)]
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
    #[command(after_long_help = run::HELP)]
    Run(Files),
    /// Run the proxy with a stub upstream and no configuration, and print lines to paste.
    #[command(after_long_help = demo::HELP)]
    Demo,
    /// Check a configuration: everything that is wrong with it, and what would fail in production.
    #[command(after_long_help = validate::HELP)]
    Validate(validate::Arguments),
    /// Make a key for a sender, or the hash of one.
    #[command(after_long_help = keys::HELP)]
    Keys(keys::Arguments),
    /// Look at a configuration, or begin one: show | schema | init.
    Config(configuration::Arguments),
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
    /// What an event becomes: a body in one dialect as the requests that an upstream of another would get.
    #[command(after_long_help = translate::HELP)]
    Translate(translate::Arguments),
    /// Ask a URL once whether it answers 2xx, e.g. for a container's health check.
    #[command(after_long_help = probe::HELP)]
    Probe(probe::Arguments),
    /// Print what completes this command line in a shell.
    #[command(after_long_help = completions::HELP)]
    Completions(completions::Arguments),
    /// Print the manual page.
    #[command(after_long_help = man::HELP)]
    Man,
    /// Print what this binary is: version, commit, compiler, target.
    #[command(after_long_help = version::HELP)]
    Version(version::Arguments),
}

/// Reads the process's arguments and does what they say.
pub fn run() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| with_tip(error).exit());
    match arguments.verb.unwrap_or(Verb::Run(arguments.run)) {
        Verb::Run(files) => run::run(&files),
        Verb::Demo => demo::run(),
        Verb::Validate(arguments) => validate::run(&arguments),
        Verb::Keys(arguments) => keys::run(&arguments),
        Verb::Config(arguments) => configuration::run(&arguments),
        Verb::Spool(arguments) => spool::run(arguments, &|config| Files { config, set: Vec::new() }.load()),
        Verb::DeadLetters(arguments) => dead_letters::run(arguments),
        Verb::Events(arguments) => events::run(arguments),
        Verb::Tap(arguments) => tap::run(&arguments),
        Verb::Top(arguments) => top::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::LogLevel(arguments) => log_level::run(&arguments),
        Verb::Translate(arguments) => translate::run(&arguments),
        Verb::Probe(arguments) => probe::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Man => man::run(),
        Verb::Version(arguments) => version::run(&arguments),
    }
}

/// Slips whose usage text would not say what to write.
fn with_tip(mut error: clap::Error) -> clap::Error {
    const NAMED: &str = "a configuration is named with --config FILE";
    let is_file = |word: &str| [".yaml", ".yml", ".toml", ".json"].iter().any(|ending| word.ends_with(ending));
    let tip = match (error.kind(), error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word)), _) if word.contains('.') => NAMED,
        (ErrorKind::UnknownArgument, _, Some(ContextValue::String(word))) if is_file(word) => NAMED,
        // With a verb; two options that exclude each other name none.
        (ErrorKind::ArgumentConflict, Some(_), _) => "options stand behind the verb: surgegate VERB --config FILE",
        _ => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.to_owned().into()]));
    error
}

/// The command line as clap knows it: for the manual page, the completions and docs/command-line.md.
pub fn command() -> clap::Command {
    Arguments::command()
}

impl Files {
    /// The named files, or the one that is found.
    fn paths(&self) -> Result<Vec<PathBuf>, config::NotFound> {
        if !self.config.is_empty() {
            return Ok(self.config.clone());
        }
        config::find().map(|path| vec![path])
    }

    /// What stands over the files.
    fn over(&self) -> Over {
        // A name that is no text can be none of ours.
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        Over { flags: self.set.clone(), variables }
    }

    /// The configuration; says itself what is wrong with it.
    fn load(&self) -> Result<Config, ExitCode> {
        let paths = self.paths().map_err(|error| invalid(&error))?;
        config::load_with(&paths, &self.over(), &environment).map_err(|errors| invalid(&errors))
    }
}

/// A variable of the process's environment.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn invalid(error: &dyn std::fmt::Display) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(INVALID_CONFIGURATION)
}

/// Writes the whole text to standard output, and gives the code to end with: a reader that went away (`| head`) has
/// read enough, a disk that is full has not got it.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("surgegate: standard output cannot be written: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// A line beside a proxy that runs: without a reader it goes on.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A text to standard error. Where nobody reads it, the exit code tells.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
