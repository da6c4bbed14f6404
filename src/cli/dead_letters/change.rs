//! `dead-letters replay` and `dead-letters drop`: what changes something says first what it would come to.

use std::io::{self, BufRead, IsTerminal, Write};

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::super::FAILED;
use super::super::USAGE;
use super::super::output::{Out, count};
use super::super::remote::{Ended, Failure, say};
use super::{Filters, PATH, about, odd};
use crate::client::{Client, Error, Query};

#[derive(clap::Args)]
pub(in super::super) struct Replay {
    /// One dead letter, as `ls` shows it, e.g. pager-1042.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "upstream", "reason", "integration", "since", "until", "dry_run", "per_second"])]
    id: Option<String>,
    #[command(flatten)]
    filters: Filters,
    /// All there are.
    #[arg(long, conflicts_with_all = ["upstream", "reason", "integration", "since", "until"])]
    all: bool,
    /// Only say how many would be sent again.
    #[arg(long)]
    dry_run: bool,
    /// Release so many a second and no more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    per_second: Option<u64>,
}

#[derive(clap::Args)]
pub(in super::super) struct Drop {
    /// One dead letter, as `ls` shows it, e.g. pager-1042.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "upstream", "reason", "integration", "since", "until", "dry_run", "yes", "confirm"])]
    id: Option<String>,
    #[command(flatten)]
    filters: Filters,
    /// All there are.
    #[arg(long, conflicts_with_all = ["upstream", "reason", "integration", "since", "until"])]
    all: bool,
    /// Only say how many would be dropped.
    #[arg(long, conflicts_with_all = ["yes", "confirm"])]
    dry_run: bool,
    /// Drop them, once their number was typed on a terminal.
    #[arg(long)]
    yes: bool,
    /// Drop them, where so many match, and ask nothing.
    #[arg(long, value_name = "N")]
    confirm: Option<u64>,
}

/// What was named: one, or all that match.
enum Named<'a> {
    One(&'a str),
    Matching,
}

fn named<'a>(verb: &str, id: Option<&'a str>, filters: &Filters, all: bool) -> Result<Named<'a>, Failure> {
    match id {
        Some(id) => Ok(Named::One(id)),
        None if all || !filters.is_empty() => Ok(Named::Matching),
        None => {
            let next = format!("surgegate dead-letters {verb} ID, or --upstream NAME and other filters, or --all");
            Err(Failure::Text("which dead letters?".to_owned(), next, USAGE))
        }
    }
}

fn number(answer: &Value, name: &str) -> Result<u64, Failure> {
    answer[name].as_u64().ok_or_else(|| odd(&format!("does not say how many were {name}")))
}

pub(super) async fn replay(arguments: &Replay, client: &Client, out: Out<'_>) -> Ended {
    let Replay { id, filters, all, dry_run, per_second } = arguments;
    if let Named::One(id) = named("replay", id.as_deref(), filters, *all)? {
        let query = Query::new(PATH).part(id).part("replay");
        let answer = client.ask(Method::POST, &query, None).await.map_err(|error| about(id, error))?;
        let replayed = number(&answer, "replayed")?;
        let with = if replayed > 1 { ", with the rest of its incident" } else { "" };
        writeln!(out, "replayed {}{with}", count(replayed, "event"))?;
        return Ok(0);
    }
    let query = filters.on(Query::new(PATH).part("replay"));
    let query = query.with("dry_run", dry_run.then_some(true)).with("per_second", per_second.as_ref());
    let answer = client.ask(Method::POST, &query, None).await?;
    if *dry_run && answer["dry_run"] != true {
        let said = "this process knows no dry run, and has replayed them".to_owned();
        return Err(Failure::Text(said, "surgegate top shows how they fare".to_owned(), FAILED));
    }
    let (verb, replayed) = match (answer["scheduled"].as_u64(), dry_run) {
        (Some(scheduled), false) => ("will replay", scheduled),
        (Some(scheduled), true) => ("would replay", scheduled),
        (None, true) => ("would replay", number(&answer, "replayed")?),
        (None, false) => ("replayed", number(&answer, "replayed")?),
    };
    let pace = per_second.map_or_else(String::new, |pace| format!(", {pace} a second"));
    writeln!(out, "{verb} {}{pace}", count(replayed, "event"))?;
    if let Some(refused @ 1..) = answer["refused"].as_u64() {
        let them = if refused == 1 { "it" } else { "them" };
        writeln!(out, "{} can only be shown or dropped: the incident went on without {them}", count(refused, "event"))?;
    }
    Ok(0)
}

pub(super) async fn drop(arguments: &Drop, client: &Client, out: Out<'_>) -> Ended {
    let Drop { id, filters, all, dry_run, yes, confirm } = arguments;
    if let Named::One(id) = named("drop", id.as_deref(), filters, *all)? {
        let query = Query::new(PATH).part(id);
        let answer = client.ask(Method::DELETE, &query, None).await.map_err(|error| about(id, error))?;
        writeln!(out, "dropped {}", count(number(&answer, "dropped")?, "dead letter"))?;
        return Ok(0);
    }
    let confirmed = match confirm {
        Some(confirmed) => *confirmed,
        None => {
            let query = filters.on(Query::new(PATH)).with("dry_run", Some(true));
            let answer = client.ask(Method::DELETE, &query, None).await?;
            let matching = number(&answer, "would_drop")?;
            if *dry_run || !*yes || matching == 0 {
                writeln!(out, "would drop {}", count(matching, "dead letter"))?;
                return if *dry_run || matching == 0 { Ok(0) } else { Err(not_without(matching)) };
            }
            confirmation(matching)?
        }
    };
    let query = filters.on(Query::new(PATH)).with("confirm", Some(confirmed));
    let answer = client.ask(Method::DELETE, &query, None).await.map_err(|error| match error {
        Error::Refused { status: StatusCode::CONFLICT, message } => {
            let next = "look at them, and confirm their number".to_owned();
            Failure::Text(message, next, FAILED)
        }
        error => Failure::Client(error),
    })?;
    writeln!(out, "dropped {}", count(number(&answer, "dropped")?, "dead letter"))?;
    Ok(0)
}

fn not_without(matching: u64) -> Failure {
    let next = format!("--yes asks for it on a terminal, --confirm {matching} does it without one");
    Failure::Text("nothing was dropped: it is for good".to_owned(), next, USAGE)
}

/// The number, typed by whoever sits there.
fn confirmation(matching: u64) -> Result<u64, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(not_without(matching));
    }
    let _ = write!(
        io::stderr(),
        "{} would be dropped for good. Type the number to drop them: ",
        count(matching, "dead letter")
    );
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim().replace(',', "").parse() == Ok(matching) {
        return Ok(matching);
    }
    say("");
    Err(Failure::Text("that is not the number: nothing was dropped".to_owned(), String::new(), FAILED))
}
