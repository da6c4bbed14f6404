//! `surgegate tap`: the decisions of a running process as they are made, one a line.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use crossterm::style::Color;
use serde_json::Value;

use super::FAILED;
use super::output::{Out, Screen, count, fit, pad, plain};
use super::remote::{self, Admin, Ended, Failure, say};
use crate::client::{Client, Query, Stream};

#[derive(clap::Args)]
#[command(after_long_help = "\
A line is: time (UTC), status, outcome or reason for refusing, integration, dialect and action, key (its ends only),
id of the event or else of the request. It shows what is decided from now on, and loses lines rather than
slow the process down; how many is said on standard error.

Examples:
  surgegate tap
  surgegate tap --integration payments --reason event_limit
  surgegate tap --once --key disk-db-7                  wait for the next event on this key
  surgegate tap --json --outcome created | jq -r .event_uid

Exit codes: 0 fine (with --once: it came), 1 the stream ended, 2 usage, 75 the admin listener cannot be reached.")]
pub(super) struct Arguments {
    /// Only events on this dedup key, as its sender writes it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only what was refused for this reason.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only what ended so: created, duplicate, resolved, ...
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only of this integration.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// End with the first that matches.
    #[arg(long)]
    once: bool,
    /// One JSON object a line, as the process sends it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    remote::run("tap", &arguments.admin, async |client, out| tap(arguments, client, out).await)
}

async fn tap(arguments: &Arguments, client: &Client, out: Out<'_>) -> Ended {
    let query = Query::new("/api/v1/tap")
        .with("integration", arguments.integration.as_ref())
        .with("outcome", arguments.outcome.as_ref())
        .with("reason", arguments.reason.as_ref())
        .with("key", arguments.key.as_ref());
    let mut stream = client.stream(&query).await.map_err(remote::older)?;
    if io::stderr().is_terminal() && !arguments.once {
        say(&format!("decisions of {} from now on; Ctrl-C ends", client.base()));
    }
    let mut lost = 0;
    let ended = follow(arguments, &mut stream, out, &mut lost).await;
    if lost > 0 {
        say(&format!("{} not shown in all: this reader was too slow", decisions(lost)));
    }
    ended
}

fn decisions(lost: u64) -> String {
    format!("{} {}", count(lost, "decision"), if lost == 1 { "was" } else { "were" })
}

async fn follow(arguments: &Arguments, stream: &mut Stream, out: Out<'_>, lost: &mut u64) -> Ended {
    let screen = Screen::of_stdout();
    loop {
        let message = stream.next().await.map_err(|error| broken(&error.to_string()))?;
        let Some(message) = message else { return Err(broken("the process ended the stream")) };
        let data: Value = serde_json::from_str(&message.data).unwrap_or(Value::Null);
        match message.event.as_str() {
            "decision" if arguments.json => writeln!(out, "{}", message.data.replace('\n', " "))?,
            "decision" => writeln!(out, "{}", line(&data, screen))?,
            "lost" => {
                let more = data["count"].as_u64().unwrap_or(0);
                *lost += more;
                say(&format!("{} not shown", decisions(more)));
                continue;
            }
            // Of a later version.
            _ => continue,
        }
        out.flush()?;
        if arguments.once {
            return Ok(0);
        }
    }
}

fn broken(why: &str) -> Failure {
    let next = "it stopped, or goes on without telling: run it again to see".to_owned();
    Failure::Text(why.to_owned(), next, FAILED)
}

/// A decision in one line that fits.
fn line(data: &Value, screen: Screen) -> String {
    let (what, colour) = match (data["outcome"].as_str(), data["status"].as_u64()) {
        (Some("created" | "escalated"), _) => (&data["outcome"], Color::Green),
        (Some("duplicate" | "duplicate_resolve" | "replayed" | "noop" | "ignored"), _) => {
            (&data["outcome"], Color::DarkGrey)
        }
        (Some(_), _) => (&data["outcome"], Color::Cyan),
        (None, Some(500..)) => (&data["reason"], Color::Red),
        (None, _) => (&data["reason"], Color::Yellow),
    };
    let said = |name: &str| Some(plain(&data[name])).filter(|text| text != "-");
    let words = [said("dialect"), said("action")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let id = said("event_uid").or_else(|| said("request_id")).unwrap_or_default();
    let before = format!("{}  {}  ", time(&data["at"]), pad(&plain(&data["status"]), 3, true));
    let after = format!(
        "  {}  {}  {}  {id}",
        pad(&plain(&data["integration"]), 12, false),
        pad(&words, 22, false),
        pad(&plain(&data["key"]), 14, false),
    );
    let what = pad(&plain(what), 17, false);
    // Fitted before it is coloured: colours take no room.
    let room = |used: usize| screen.width.map_or(usize::MAX, |width| width.saturating_sub(used));
    let before_fits = fit(&before, room(0));
    let what_fits = fit(&what, room(before.len()));
    let after_fits = fit(after.trim_end(), room(before.len() + 17));
    format!("{before_fits}{}{after_fits}", screen.paint(&what_fits, colour))
}

/// `06:43:15.123456Z`, or whatever it is.
fn time(at: &Value) -> String {
    let text = plain(at);
    text.split_once('T').map_or(text.clone(), |(_, time)| time.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_is_one_line_that_fits_and_obeys_nothing() {
        let data = json!({
            "at": "2026-11-21T06:43:15.123456Z", "request_id": "r1", "integration": "payments", "dialect": "squadcast",
            "action": "trigger", "outcome": "created", "status": 202, "key": "di…\u{1b}[2J7", "event_uid": "01M7XF"
        });
        let plain = |width| Screen { width, is_coloured: false };
        let whole = line(&data, plain(None));
        assert_eq!(
            whole,
            "06:43:15.123456Z  202  created            payments      squadcast trigger       di…\u{fffd}[2J7        01M7XF"
        );
        for width in 0..whole.chars().count() {
            let fitted = line(&data, plain(Some(width)));
            assert!(fitted.chars().count() <= width, "{width}: {fitted:?}");
        }
        let refused =
            json!({ "at": "2026-11-21T06:43:15Z", "request_id": "r1", "reason": "event_limit", "status": 429 });
        let coloured = line(&refused, Screen { width: Some(200), is_coloured: true });
        assert!(coloured.starts_with("06:43:15Z  429  \u{1b}[") && coloured.ends_with("r1"), "{coloured:?}");
    }
}
