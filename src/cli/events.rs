//! `surgegate events`: what became of an event, by its id or by its key.

use std::io;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::dead_letters::odd;
use super::output::{Column, Out, Screen, count, fields, plain, table};
use super::remote::{self, Admin, Ended};
use crate::client::{Client, Query};

const PATH: &str = "/api/v1/events";

#[derive(clap::Args)]
#[command(after_long_help = "\
The log is searched as far back as it goes (`spool.retain`); keys and credentials are masked in what is shown.

Examples:
  surgegate events show 01M7XFFNW1RP8B2TZ6ZFBQKR7G
  surgegate events find --integration payments --key disk-db-7

Exit codes: 0 fine, 1 failed or not known, 2 usage, 75 the admin listener cannot be reached.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Subcommand)]
enum Verb {
    /// One event, by its `event_uid`, as upstreams and dead letters name it.
    #[command(after_long_help = "\
Examples:
  surgegate events show 01M7XFFNW1RP8B2TZ6ZFBQKR7G
  surgegate events show 01M7XFFNW1RP8B2TZ6ZFBQKR7G --json | jq .upstreams")]
    Show(Show),
    /// The events of a key and its incident, oldest first.
    #[command(after_long_help = "\
Examples:
  surgegate events find --integration payments --key disk-db-7
  surgegate events find --integration payments --key disk-db-7 --limit 5 --json")]
    Find(Find),
}

#[derive(clap::Args)]
struct Show {
    #[arg(value_name = "EVENT_UID")]
    uid: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Find {
    /// Whose key it is.
    #[arg(long, value_name = "NAME")]
    integration: String,
    /// The dedup key as its sender writes it, e.g. Squadcast's `event_id`.
    #[arg(long, value_name = "KEY")]
    key: String,
    /// At most so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { verb, admin } = arguments;
    match verb {
        Verb::Show(arguments) => {
            remote::run("events show", &admin, async |client, out| show(&arguments, client, out).await)
        }
        Verb::Find(arguments) => {
            remote::run("events find", &admin, async |client, out| find(&arguments, client, out).await)
        }
    }
}

async fn show(arguments: &Show, client: &Client, out: Out<'_>) -> Ended {
    let answer = client.get(&Query::new(PATH).part(&arguments.uid)).await?;
    if arguments.json {
        writeln!(out, "{answer:#}")?;
        return Ok(0);
    }
    if !answer["event"].is_object() {
        return Err(odd("has no event"));
    }
    event(out, &answer, Screen::of_stdout())?;
    incident(out, &answer)?;
    Ok(0)
}

async fn find(arguments: &Find, client: &Client, out: Out<'_>) -> Ended {
    let query = Query::new(PATH).with("integration", Some(&arguments.integration)).with("key", Some(&arguments.key));
    let answer = client.get(&query.with("limit", arguments.limit)).await?;
    let events = answer["events"].as_array().ok_or_else(|| odd("has no list of events"))?;
    if arguments.json {
        writeln!(out, "{answer:#}")?;
        return Ok(0);
    }
    let screen = Screen::of_stdout();
    for found in events {
        event(out, found, screen)?;
        writeln!(out)?;
    }
    incident(out, &answer)?;
    let since = &answer["searched_since"];
    let back = if since.is_null() { String::new() } else { format!(", searched back to {}", plain(since)) };
    let more = if answer["complete"] == false { "; there may be more" } else { "" };
    writeln!(out, "{}{back}{more}", count(events.len() as u64, "event"))?;
    Ok(0)
}

/// What came in, where it went, and what happened on the way.
fn event(out: Out, found: &Value, screen: Screen) -> io::Result<()> {
    const UPSTREAMS: [Column; 6] = [
        Column::text("UPSTREAM"),
        Column::text("STATE"),
        Column::number("STATUS"),
        Column::number("TRIES"),
        Column::text("AT"),
        Column::flexible("WHY"),
    ];
    writeln!(out, "event")?;
    fields(out, &found["event"], 2)?;
    let list = |name: &str| found[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = list("upstreams")
        .iter()
        .map(|row| {
            let [upstream, state, status, attempts, at, reason, letter] =
                ["upstream", "state", "status", "attempts", "at", "reason", "dead_letter_id"].map(|n| plain(&row[n]));
            // A dropped one has a reason, too.
            let letter = [reason, letter].into_iter().filter(|cell| cell != "-").collect::<Vec<_>>().join(" ");
            vec![upstream, state, status, attempts, at, letter]
        })
        .collect();
    match rows.is_empty() {
        true => writeln!(out, "goes to no upstream")?,
        false => table(&UPSTREAMS, &rows, screen.width).iter().try_for_each(|line| writeln!(out, "{line}"))?,
    }
    if !list("history").is_empty() {
        writeln!(out, "history")?;
    }
    for step in list("history") {
        let more = step.as_object().into_iter().flatten().filter(|(name, _)| !matches!(name.as_str(), "at" | "what"));
        let more: String =
            more.map(|(name, value)| format!("  {}={}", plain(&name.as_str().into()), plain(value))).collect();
        writeln!(out, "  {}  {}{more}", plain(&step["at"]), plain(&step["what"]))?;
    }
    Ok(())
}

fn incident(out: Out, answer: &Value) -> io::Result<()> {
    if !answer["incident"].is_object() {
        return Ok(());
    }
    writeln!(out, "incident")?;
    fields(out, &answer["incident"], 2)
}
