//! `spool send`: the forwarder on a spool, without anything coming in.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::{Ended, FAILED, Failure, Load, Where, count, is_written, open, parse_duration};
use crate::config::Config;
use crate::delivery;
use crate::forward::UpstreamStatus;
use crate::metrics::Metrics;
use crate::sink::Kind;
use crate::spans::Spans;

/// How often it is looked whether something is left,
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// and how often it is said what.
const SAY_EVERY: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Stop after this time, e.g. 30s or 10m, whatever is left.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

const INSTEAD: &str = "it sends what waits by itself";

/// Events of an upstream at the start: delivered, dead-lettered and dropped so far.
type Before = BTreeMap<Arc<str>, (u64, u64, u64)>;

fn ended_so_far(metrics: &Metrics) -> Before {
    let row = |meter: &Arc<crate::metrics::UpstreamMeter>| {
        let book = meter.book();
        let ended = (book.delivered, book.dead_lettered.values().sum(), book.dropped.values().sum());
        (Arc::clone(&meter.name), ended)
    };
    metrics.upstreams().iter().map(row).collect()
}

pub(super) fn run(arguments: Arguments, load: Load) -> Ended {
    let config = arguments.place.load(load)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(send(config, arguments.timeout));
    runtime.shutdown_background();
    ended
}

struct Stopped {
    terminate: Signal,
    interrupt: Signal,
}

impl Stopped {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn send(config: Config, timeout: Option<Duration>) -> Ended {
    let mut signals = Stopped::new()?;
    let Config { spool, dedup, integrations, upstreams, .. } = config;
    // An upstream that writes events to standard output has it for itself.
    let out_is_taken = upstreams.iter().any(|upstream| upstream.kind == Kind::Stdout);
    let directory = spool.directory.clone();
    let held = open(spool, dedup, INSTEAD)?;
    let metrics = held.metrics;
    let before = ended_so_far(&metrics);
    let integrations = delivery::integrations(&integrations, &upstreams, &metrics, &[], None);
    let began = Instant::now();
    let delivery = held
        .opened
        .start(&integrations, upstreams, Spans::default())
        .map_err(|error| Failure::text(error.to_string(), ""))?;
    let store = Arc::clone(&delivery.store);

    let deadline = timeout.map(|timeout| began + timeout);
    let mut say_at = began + SAY_EVERY;
    let why = loop {
        let status = delivery.forward.status().await;
        if sendable(&status) == 0 {
            break None;
        }
        let now = Instant::now();
        if now >= say_at {
            eprintln!("{}", progress(&metrics, &before, &status));
            say_at = now + SAY_EVERY;
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            break Some("the time is over");
        }
        tokio::select! {
            () = signals.told() => break Some("told to stop"),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    };
    if let Some(why) = why {
        eprintln!("{why}: what is under way ends first");
    }
    let status = delivery.forward.status().await;
    tokio::select! {
        () = delivery.stop() => {}
        () = signals.told() => {
            let said = format!("stopped at once; what was under way in {} may be sent again", directory.display());
            return Err(Failure::text(said, "under the same ids"));
        }
    }
    is_written(&store)?;
    let report = Report { metrics: &metrics, before: &before, took: began.elapsed(), status: &status };
    if out_is_taken { report.write(&mut io::stderr().lock()) } else { report.write(&mut io::stdout().lock()) }
}

/// Events that wait for upstreams of the configuration.
fn sendable(status: &[UpstreamStatus]) -> u64 {
    status.iter().filter(|row| row.configured).map(|row| row.waiting_events).sum()
}

/// Delivered and dead-lettered by this run.
fn done(metrics: &Metrics, before: &Before) -> (u64, u64) {
    let now = ended_so_far(metrics);
    now.iter().fold((0, 0), |(delivered, dead), (name, ended)| {
        let (was_delivered, was_dead, _) = before.get(name).copied().unwrap_or_default();
        (delivered + ended.0 - was_delivered, dead + ended.1 - was_dead)
    })
}

fn progress(metrics: &Metrics, before: &Before, status: &[UpstreamStatus]) -> String {
    let (delivered, dead) = done(metrics, before);
    let rows = status.iter().filter(|row| row.configured && row.waiting_events > 0).map(|row| {
        let mut text = format!("{} {}", row.name, row.waiting_events);
        if row.down {
            text += " down";
        }
        if let Some(seconds) = row.held_for_s {
            text += &format!(" held for {seconds:.0} s");
        }
        match (&row.last_error, row.last_status) {
            (Some(error), _) => text += &format!(" ({error})"),
            (None, Some(status)) if status >= 300 => text += &format!(" (last answer {status})"),
            _ => {}
        }
        text
    });
    let waiting: Vec<String> = rows.collect();
    let (delivered, dead) = (format!("{delivered} delivered"), count(dead, "dead letter"));
    format!("{delivered}, {dead}, {} to send: {}", sendable(status), waiting.join(", "))
}

struct Report<'a> {
    metrics: &'a Metrics,
    before: &'a Before,
    took: Duration,
    status: &'a [UpstreamStatus],
}

impl Report<'_> {
    fn write(&self, out: &mut dyn Write) -> Ended {
        let (delivered, dead) = done(self.metrics, self.before);
        let took = self.took.as_secs_f64();
        writeln!(out, "delivered {} in {took:.1} s", count(delivered, "event"))?;
        if dead > 0 {
            writeln!(out, "{}: `surgegate spool ls` says why", count(dead, "new dead letter"))?;
        }
        let mut left = 0;
        let mut orphans = vec![];
        for meter in self.metrics.upstreams() {
            let waiting = meter.book().spool_events;
            if waiting == 0 {
                continue;
            }
            left += waiting;
            let configured = self.status.iter().any(|row| row.configured && *row.name == *meter.name);
            let why = if configured { "" } else { ", which is not in the configuration" };
            writeln!(out, "left: {} for {}{why}", count(waiting, "event"), meter.name)?;
            if !configured {
                orphans.push(meter.name.to_string());
            }
        }
        if let Some(name) = orphans.first() {
            writeln!(out, "  give them to another: surgegate spool reassign --from {name} --to NAME")?;
            writeln!(out, "  or drop them: surgegate spool drop --upstream {name}")?;
        }
        if left == 0 {
            writeln!(out, "nothing waits any more")?;
        }
        Ok(if left == 0 { 0 } else { FAILED })
    }
}
