//! `surgegate completions`: what completes this command line in a shell.

use std::process::ExitCode;

use clap_complete::Shell;

pub(super) const HELP: &str = "\
Examples:
  surgegate completions bash > /usr/share/bash-completion/completions/surgegate
  surgegate completions zsh > \"${fpath[1]}/_surgegate\"
  surgegate completions fish > ~/.config/fish/completions/surgegate.fish";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "surgegate", &mut text);
    super::print(&text)
}
