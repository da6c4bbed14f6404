//! `surgegate config show | schema | init`: what a configuration means, what it may be, and how one begins.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{FAILED, Files, complain, environment, invalid, print};
use crate::config;

#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  surgegate config init --output surgegate.yaml    a commented file to begin with
  surgegate config show --origin                   what is meant, and where each value comes from
  surgegate config schema > surgegate.schema.json  for editors")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the configuration as it is meant: files, variables, flags and defaults joined, secrets masked.
    #[command(after_long_help = "\
The output is YAML and loads again once the secrets are put back. A value is taken from the last of these that has it:
default, file, environment variable (SURGEGATE__SPOOL__DIRECTORY), flag (--set spool.directory=...).

Examples:
  surgegate config show
  surgegate config show --origin --config base.yaml --config production.toml
  surgegate config show --set listen.ingest.address=127.0.0.1:9000")]
    Show(Show),
    /// Print the JSON Schema (draft-07) of a configuration, for editors and charts.
    #[command(after_long_help = "\
Example:
  surgegate config schema > surgegate.schema.json
A first line `# yaml-language-server: $schema=surgegate.schema.json` makes many editors check and complete the file.")]
    Schema,
    /// Print a commented configuration to begin with.
    #[command(after_long_help = "\
Names, keys and addresses in it are examples. Keys that have defaults stand in comments.

Examples:
  surgegate config init --output surgegate.yaml
  surgegate config init --minimal > surgegate.yaml")]
    Init(Init),
}

#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    files: Files,
    /// Say behind each value where it comes from: default, file and place, variable or flag.
    #[arg(long)]
    origin: bool,
}

#[derive(clap::Args)]
struct Init {
    /// Only what must be written.
    #[arg(long)]
    minimal: bool,
    /// Write to this file, which must not exist yet, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.verb {
        Verb::Show(arguments) => show(arguments),
        Verb::Schema => print(config::schema().as_bytes()),
        Verb::Init(arguments) => {
            let text = config::starting_file(arguments.minimal);
            match &arguments.output {
                Some(path) => create(path, &text),
                None => print(text.as_bytes()),
            }
        }
    }
}

fn show(arguments: &Show) -> ExitCode {
    let paths = match arguments.files.paths() {
        Ok(paths) => paths,
        Err(error) => return invalid(&error),
    };
    match config::show(&paths, &arguments.files.over(), &environment, arguments.origin) {
        Ok((text, warnings)) => {
            warnings.iter().for_each(|warning| complain(&warning.to_string()));
            print(text.as_bytes())
        }
        Err(errors) => invalid(&errors),
    }
}

/// A new file; an old one may hold what somebody wrote.
fn create(path: &Path, text: &str) -> ExitCode {
    let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            complain(&format!(
                "{} is written; `surgegate validate --config {0}` says what is left to do",
                path.display()
            ));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            complain(&format!("surgegate: {} exists already and stays as it is: name another file", path.display()));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            complain(&format!("surgegate: {}: {error}", path.display()));
            ExitCode::from(FAILED)
        }
    }
}
