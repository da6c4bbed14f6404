//! `surgegate top`: a running process at a glance, drawn anew each second. What is drawn is made in `frame`.

mod frame;
mod terminal;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyModifiers};
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::USAGE;
use super::output::{Out, Screen};
use super::remote::{self, Admin, Ended, Failure};
use crate::client::{Client, Error, Query};
use frame::{Frame, Look, Status};
use terminal::Terminal;

/// How often it is drawn.
const INTERVAL: Duration = Duration::from_secs(1);
/// Columns of a plain frame where no terminal says how many: nothing is cut.
const PLAIN_WIDTH: usize = 1000;

#[derive(clap::Args)]
#[command(after_long_help = "\
The worst fact first, in the sentences of the status page, then the flow with its rates, the upstreams, the integrations,
what was lost, and the spool. q, Esc or Ctrl-C ends.

Examples:
  surgegate top
  surgegate top --admin http://127.0.0.1:9465 --once    one plain frame, for scripts

Exit codes: 0 fine, 1 failed, 2 usage, 75 the admin listener cannot be reached.")]
pub(super) struct Arguments {
    /// Print one frame without rates, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    remote::run("top", &arguments.admin, async |client, out| top(arguments, client, out).await)
}

async fn top(arguments: &Arguments, client: &Client, out: Out<'_>) -> Ended {
    let first = look(client).await?;
    if arguments.once {
        let screen = Screen::of_stdout();
        let frame = Frame { base: client.base().to_string(), now: &first, before: None, trouble: None };
        let width = screen.width.unwrap_or(PLAIN_WIDTH);
        frame.lines(width).iter().try_for_each(|line| writeln!(out, "{}", line.shown(screen)))?;
        return Ok(0);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let next = "surgegate top --once prints one frame".to_owned();
        return Err(Failure::Text("it needs a terminal".to_owned(), next, USAGE));
    }
    watch(client, first, out).await
}

async fn look(client: &Client) -> Result<Look, Error> {
    let status = client.get(&Query::new("/api/v1/status")).await?;
    let status: Status = serde_json::from_value(status)
        .map_err(|error| Error::Stranger(format!("{} tells no status of ours: {error}", client.base())))?;
    Ok(Look { at: Instant::now(), status })
}

/// Draws until it is told to end. A process that is away is waited for: it may be starting again.
async fn watch(client: &Client, first: Look, out: Out<'_>) -> Ended {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut terminal = Terminal::take()?;
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let (mut now, mut before, mut trouble) = (first, None, None::<String>);
    // A look under way must not keep a key waiting.
    let mut looking = Box::pin(look(client));
    let mut is_looking = false;
    loop {
        let frame =
            Frame { base: client.base().to_string(), now: &now, before: before.as_ref(), trouble: trouble.as_deref() };
        terminal.draw(&frame, out)?;
        tokio::select! {
            _ = terminate.recv() => return Ok(0),
            _ = interrupt.recv() => return Ok(0),
            key = keys.next() => match key {
                Some(Ok(event)) if is_end(&event) => return Ok(0),
                // A change of size is drawn at once.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(0),
            },
            _ = tick.tick(), if !is_looking => {
                looking = Box::pin(look(client));
                is_looking = true;
            }
            looked = &mut looking, if is_looking => {
                is_looking = false;
                match looked {
                    Ok(look) => {
                        before = Some(std::mem::replace(&mut now, look));
                        trouble = None;
                    }
                    Err(error) => trouble = Some(error.to_string()),
                }
            }
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc) || (control && key.code == KeyCode::Char('c'))
}
