//! `surgegate reload`: a running process reads its configuration again.

use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::output::{Out, plain, printable};
use super::remote::{self, Admin, Ended, Failure, say};
use super::{FAILED, INVALID_CONFIGURATION};
use crate::client::{Client, Query};

#[derive(clap::Args)]
#[command(after_long_help = "\
As HUP does: the process reads the files it was started with. Nothing is dropped while it changes; an invalid file
changes nothing.

Examples:
  surgegate reload
  surgegate reload --admin https://gate.example.com --token-file ./token
  surgegate reload --json | jq '.findings[]'

Exit codes: 0 reloaded, 1 failed or refused, 2 usage, 75 the admin listener cannot be reached,
78 the configuration is invalid.")]
pub(super) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    remote::run("reload", &arguments.admin, async |client, out| reload(arguments, client, out).await)
}

async fn reload(arguments: &Arguments, client: &Client, out: Out<'_>) -> Ended {
    let answer = client.exchange(Method::POST, &Query::new("/api/v1/reload"), None).await?;
    let body = &answer.body;
    let status = body["status"].as_str().unwrap_or_default().to_owned();
    if !matches!(status.as_str(), "reloaded" | "invalid" | "failed") {
        return Err(remote::older(client.refusal(&answer)));
    }
    if arguments.json {
        writeln!(out, "{body:#}")?;
    } else {
        body["findings"].as_array().into_iter().flatten().for_each(|row| say(&finding(row)));
    }
    let message = body["message"].as_str().map(str::to_owned);
    match status.as_str() {
        "reloaded" if arguments.json => {}
        "reloaded" => writeln!(out, "{}", message.unwrap_or_else(|| "reloaded".to_owned()))?,
        "invalid" => {
            let said = message.unwrap_or_else(|| "the configuration is invalid".to_owned());
            let next = "nothing was changed: the process goes on with what it had".to_owned();
            return Err(Failure::Text(said, next, INVALID_CONFIGURATION));
        }
        _ => {
            let said = message.unwrap_or_else(|| "it could not be reloaded".to_owned());
            return Err(Failure::Text(said, "its log says more".to_owned(), FAILED));
        }
    }
    Ok(0)
}

/// A finding as `surgegate validate` says it; one at no place of a file, or of an older process, without its line.
fn finding(row: &Value) -> String {
    if let Some(text) = row["text"].as_str() {
        let lines: Vec<String> = text.trim_end().lines().map(printable).collect();
        return lines.join("\n") + "\n";
    }
    let number = |name: &str| row[name].as_u64().unwrap_or(0);
    let place = match (number("line"), number("column")) {
        (0, _) => String::new(),
        (line, column) => format!(":{line}:{column}"),
    };
    let mut text = format!("{}: {}", plain(&row["level"]), plain(&row["message"]));
    // What waits for a restart stands at no place.
    if row["file"].as_str().is_some_and(|file| !file.is_empty()) {
        text.push_str(&format!("\n --> {}{place}", plain(&row["file"])));
    }
    if row["hint"].is_string() {
        text.push_str(&format!("\n  = help: {}", plain(&row["hint"])));
    }
    text
}
