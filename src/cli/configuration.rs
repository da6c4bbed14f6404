//! `surgegate config show | schema | init`: what a configuration means, what it may be, and how one begins.

mod init;

use std::process::ExitCode;

use clap::Subcommand;

use super::{Files, complain, environment, invalid, print};
use crate::config;
use init::Init;

#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  surgegate config init                            four questions, and a file that works
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
    /// Write a configuration to begin with: one that works from four answers, or a commented example.
    #[command(after_long_help = "\
On a terminal, without flags, it asks who sends, where incidents go, to which address, and where the spool may stand, and
writes ./surgegate.yaml. The same answers as flags ask nothing. The senders' key is made and shown once; its hash is what
is written. Without a terminal and without answers it prints a commented example: names, keys and addresses in it are
examples, and keys that have defaults stand in comments.

Examples:
  surgegate config init                                  four questions
  surgegate config init --kind webhook --url https://incidents.example.com/hook --output surgegate.yaml
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

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.verb {
        Verb::Show(arguments) => show(arguments),
        Verb::Schema => print(config::schema().as_bytes()),
        Verb::Init(arguments) => init::run(arguments),
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
