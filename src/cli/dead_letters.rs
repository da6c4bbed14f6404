//! `surgegate dead-letters`: what a running process could not deliver; looks here, what changes it in `change`.

mod change;

use std::process::ExitCode;

use clap::Subcommand;
use hyper::StatusCode;
use serde_json::Value;

use super::output::{self, Column, Out, Screen, ago, count, fields, plain, table};
use super::remote::{self, Admin, Ended, Failure};
use crate::client::{Client, Error, Query};
use crate::event::Micros;

pub(super) const PATH: &str = "/api/v1/dead-letters";
/// Rows asked for at once; the server gives no more than a thousand.
const PAGE_ROWS: u64 = 1000;

#[derive(clap::Args)]
#[command(after_long_help = "\
A dead letter is an event that an upstream refused for good, or that could not be sent in time. It is kept until it is
replayed or dropped.

Examples:
  surgegate dead-letters groups                               what is dead, and why
  surgegate dead-letters ls --upstream pager --since 2h
  surgegate dead-letters show pager-1042                      the whole event, secrets masked
  surgegate dead-letters replay --reason gave_up --dry-run    what would be sent again
  surgegate dead-letters replay --reason gave_up --per-second 20
  surgegate dead-letters drop pager-1042

Exit codes: 0 fine, 1 failed or refused, 2 usage, 75 the admin listener cannot be reached.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Subcommand)]
enum Verb {
    /// List them, those of one upstream together, oldest first.
    #[command(after_long_help = "\
Examples:
  surgegate dead-letters ls
  surgegate dead-letters ls --upstream pager --reason refused --since 2h
  surgegate dead-letters ls --since 2026-11-21T06:00:00Z --json | jq -r .id")]
    Ls(Ls),
    /// Count them by upstream, reason and status.
    #[command(after_long_help = "\
Examples:
  surgegate dead-letters groups
  surgegate dead-letters groups --integration payments --json")]
    Groups(Groups),
    /// Show one with its event, secrets masked.
    #[command(after_long_help = "\
Examples:
  surgegate dead-letters show pager-1042
  surgegate dead-letters show pager-1042 --json | jq .event")]
    Show(Show),
    /// Send one again, or all that match.
    #[command(after_long_help = "\
One goes out with the rest of its incident, in order. What would come after a resolve or after a newer incident on its
key is not sent: it can only be shown or dropped.

Examples:
  surgegate dead-letters replay pager-1042
  surgegate dead-letters replay --upstream pager --since 2h --dry-run
  surgegate dead-letters replay --upstream pager --since 2h --per-second 20
  surgegate dead-letters replay --all")]
    Replay(change::Replay),
    /// Drop one, or all that match, for good.
    #[command(after_long_help = "\
What is dropped is never sent. By filters it only says how many match, and exits with 2, until --yes is given, too; then
it asks for that number on a terminal. Without a terminal the number is given with --confirm; when another number
matches by then, nothing is dropped.

Examples:
  surgegate dead-letters drop pager-1042
  surgegate dead-letters drop --upstream old-pager            how many match
  surgegate dead-letters drop --upstream old-pager --yes
  surgegate dead-letters drop --upstream old-pager --confirm 12")]
    Drop(change::Drop),
}

/// Which dead letters.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct Filters {
    /// Of this upstream.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// With this reason, e.g. refused, gave_up, predecessor_dead, unreadable, not_expressible, invalid_event, body_too_large.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Of this integration.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// Dead since then: a time (RFC 3339), or how long ago (2h).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Dead before then: a time (RFC 3339), or how long ago (2h).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filters {
    fn on(&self, query: Query) -> Query {
        query
            .with("upstream", self.upstream.as_ref())
            .with("reason", self.reason.as_ref())
            .with("integration", self.integration.as_ref())
            .with("since", self.since.as_ref())
            .with("until", self.until.as_ref())
    }

    fn is_empty(&self) -> bool {
        let Self { upstream, reason, integration, since, until } = self;
        [upstream, reason, integration, since, until].into_iter().all(Option::is_none)
    }
}

#[derive(clap::Args)]
struct Ls {
    #[command(flatten)]
    filters: Filters,
    /// At most so many; without it all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Groups {
    #[command(flatten)]
    filters: Filters,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Show {
    /// As `ls` shows it, e.g. pager-1042.
    #[arg(value_name = "ID")]
    id: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { verb, admin } = arguments;
    match verb {
        Verb::Ls(arguments) => {
            remote::run("dead-letters ls", &admin, async |client, out| ls(&arguments, client, out).await)
        }
        Verb::Groups(arguments) => {
            remote::run("dead-letters groups", &admin, async |client, out| groups(&arguments, client, out).await)
        }
        Verb::Show(arguments) => {
            remote::run("dead-letters show", &admin, async |client, out| show(&arguments, client, out).await)
        }
        Verb::Replay(arguments) => remote::run("dead-letters replay", &admin, async |client, out| {
            change::replay(&arguments, client, out).await
        }),
        Verb::Drop(arguments) => {
            remote::run("dead-letters drop", &admin, async |client, out| change::drop(&arguments, client, out).await)
        }
    }
}

/// An answer that is of another form than agreed.
pub(super) fn odd(what: &str) -> Failure {
    let next =
        "the process may be of another version than this command: compare `surgegate top` and `surgegate version`";
    let next = next.to_owned();
    Failure::Text(format!("the answer {what}"), next, super::FAILED)
}

/// What an id that is not there, or may not go, comes to.
fn about(id: &str, error: Error) -> Failure {
    match error {
        Error::Refused { status: StatusCode::NOT_FOUND, message } => {
            let next = "`surgegate dead-letters ls` shows those there are; it may have been replayed or dropped since";
            Failure::Text(format!("{id}: {message}"), next.to_owned(), super::FAILED)
        }
        Error::Refused { status: StatusCode::CONFLICT, message } => {
            let next = format!("surgegate dead-letters show {id}, or surgegate dead-letters drop {id}");
            Failure::Text(format!("{id}: {message}"), next, super::FAILED)
        }
        error => Failure::Client(error),
    }
}

async fn ls(arguments: &Ls, client: &Client, out: Out<'_>) -> Ended {
    let screen = Screen::of_stdout();
    let (mut shown, mut after) = (0, None::<String>);
    loop {
        let left = arguments.limit.map_or(PAGE_ROWS, |limit| (limit - shown).min(PAGE_ROWS));
        let query = arguments.filters.on(Query::new(PATH)).with("after", after.as_ref()).with("limit", Some(left));
        let page = client.get(&query).await?;
        let rows = page.as_array().ok_or_else(|| odd("is no list"))?;
        let Some(last) = rows.last() else { break };
        let last = last["id"].as_str().ok_or_else(|| odd("has a row without an id"))?;
        if after.as_deref() == Some(last) {
            return Err(odd("is the same page again"));
        }
        match arguments.json {
            true => rows.iter().try_for_each(|row| writeln!(out, "{row}"))?,
            false => letters(out, rows, screen, shown == 0)?,
        }
        out.flush()?;
        after = Some(last.to_owned());
        shown += rows.len() as u64;
        if arguments.limit.is_some_and(|limit| shown >= limit) {
            break;
        }
    }
    if shown == 0 && !arguments.json {
        let matching = if arguments.filters.is_empty() { "" } else { " that match" };
        writeln!(out, "no dead letters{matching}")?;
    }
    Ok(0)
}

fn letters(out: Out, rows: &[Value], screen: Screen, with_heads: bool) -> std::io::Result<()> {
    const COLUMNS: [Column; 8] = [
        Column::text("ID"),
        Column::text("REASON"),
        Column::number("STATUS"),
        Column::number("TRIES"),
        Column::number("AGE"),
        Column::text("ACTION"),
        Column::flexible("KEY"),
        Column::flexible("INTEGRATION"),
    ];
    let now = Micros::now();
    let row = |row: &Value| {
        let [id, reason, status, attempts, action, key, integration] =
            ["id", "reason", "status", "attempts", "action", "key", "integration"].map(|name| plain(&row[name]));
        vec![id, reason, status, attempts, ago(&row["at"], now), action, key, integration]
    };
    let cells: Vec<Vec<String>> = rows.iter().map(row).collect();
    let lines = table(&COLUMNS, &cells, screen.width);
    lines.iter().skip(usize::from(!with_heads)).try_for_each(|line| writeln!(out, "{line}"))
}

async fn groups(arguments: &Groups, client: &Client, out: Out<'_>) -> Ended {
    const COLUMNS: [Column; 7] = [
        Column::number("COUNT"),
        Column::text("UPSTREAM"),
        Column::text("REASON"),
        Column::number("STATUS"),
        Column::number("OLDEST"),
        Column::number("NEWEST"),
        Column::text("EXAMPLE"),
    ];
    let query = arguments.filters.on(Query::new(PATH).part("groups"));
    let answer = client.get(&query).await.map_err(remote::older)?;
    let groups = answer.as_array().ok_or_else(|| odd("is no list"))?;
    if arguments.json {
        groups.iter().try_for_each(|group| writeln!(out, "{group}"))?;
        return Ok(0);
    }
    if groups.is_empty() {
        writeln!(out, "no dead letters{}", if arguments.filters.is_empty() { "" } else { " that match" })?;
        return Ok(0);
    }
    let now = Micros::now();
    let row = |group: &Value| {
        let number = |name: &str| group[name].as_u64().map_or_else(|| plain(&group[name]), output::thousands);
        let [upstream, reason, status, example] =
            ["upstream", "reason", "status", "example_id"].map(|name| plain(&group[name]));
        vec![
            number("count"),
            upstream,
            reason,
            status,
            ago(&group["oldest_at"], now),
            ago(&group["newest_at"], now),
            example,
        ]
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    table(&COLUMNS, &rows, Screen::of_stdout().width).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    let all = groups.iter().filter_map(|group| group["count"].as_u64()).sum();
    writeln!(out, "in all {}", count(all, "dead letter"))?;
    Ok(0)
}

async fn show(arguments: &Show, client: &Client, out: Out<'_>) -> Ended {
    let letter = client.get(&Query::new(PATH).part(&arguments.id)).await;
    let letter = letter.map_err(|error| about(&arguments.id, error))?;
    match arguments.json {
        true => writeln!(out, "{letter:#}")?,
        false => fields(out, &letter, 0)?,
    }
    Ok(0)
}
