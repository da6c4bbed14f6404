//! `surgegate log-level`: what a running process logs from now on.

use std::process::ExitCode;

use hyper::Method;
use serde_json::json;

use super::dead_letters::odd;
use super::output::{Out, printable};
use super::remote::{self, Admin, Ended};
use crate::client::{Client, Query};

#[derive(clap::Args)]
#[command(after_long_help = "\
It holds until the process ends or its configuration is reloaded.

Examples:
  surgegate log-level            what it is
  surgegate log-level debug      one line an event
  surgegate log-level info

Exit codes: 0 fine, 1 failed or refused, 2 usage, 75 the admin listener cannot be reached.")]
pub(super) struct Arguments {
    /// error, warn, info, debug or trace; without it, it is only shown.
    #[arg(value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"], hide_possible_values = true)]
    level: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    remote::run("log-level", &arguments.admin, async |client, out| log_level(arguments, client, out).await)
}

async fn log_level(arguments: &Arguments, client: &Client, out: Out<'_>) -> Ended {
    let query = Query::new("/api/v1/log-level");
    let answer = match &arguments.level {
        None => client.get(&query).await,
        Some(level) => client.ask(Method::PUT, &query, Some(&json!({ "level": level }))).await,
    };
    let answer = answer.map_err(remote::older)?;
    let level = answer["level"].as_str().ok_or_else(|| odd("does not say the level"))?;
    writeln!(out, "{}", printable(level))?;
    Ok(0)
}
