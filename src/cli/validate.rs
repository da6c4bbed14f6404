//! `surgegate validate`: everything that is wrong with a configuration, before it runs.

use std::process::ExitCode;

use super::Files;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match arguments.files.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
    println!("the configuration is valid");
    ExitCode::SUCCESS
}
