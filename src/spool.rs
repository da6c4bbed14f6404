//! The verbs on a spool without a proxy: `surgegate spool check | ls | repair | send | reassign | drop`. `main` parses
//! and calls [`run`].
//!
//! `check` and `ls`, and `reassign` and `drop` with `--dry-run`, change nothing and may be used beside a running
//! process. What changes something takes the spool's lock first, as a start does, and is refused where a process has
//! it. Each of those ends with everything on disk and a checkpoint, so that the next start finds the states, too.

// A command line speaks on its streams.
#![allow(clippy::print_stderr)]

mod check;
mod give;
mod ls;
mod repair;
mod send;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::config::{self, Config};
use crate::delivery::{self, Opened};
use crate::metrics::Metrics;
use crate::store::{Durability, OpenError, Outlet, Presence, Queued, Store, Unreadable};
use crate::{dedup, store};

/// Exit codes of INTERFACE 2.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Only endings are written here: a disk that is nearly full need not have room for what a proxy would preallocate.
const SEGMENT_BYTES: u32 = 8 << 20;

/// Reads a configuration, the named files or the one that is found; says itself what is wrong with it.
pub type Load<'a> = &'a dyn Fn(Vec<PathBuf>) -> Result<Config, ExitCode>;

/// `surgegate spool`.
#[derive(clap::Args)]
#[command(after_long_help = "\
What each may be used for:
  check, ls                     at any time, also beside a running process: nothing is changed
  repair, send, reassign, drop  while no process runs on the directory

The spool is that of --directory, else of the configuration (--config, or where `surgegate run` looks for one).

Examples:
  surgegate spool ls                                        what waits, and since when
  surgegate spool check --directory /var/lib/surgegate      whether every byte is as it was written
  surgegate spool send --directory /mnt/lost-pod            deliver what a process that is gone left behind
  surgegate spool reassign --from old-pager --to pager      after an upstream was renamed

Exit codes: 0 fine, 1 failed, damaged or something is left, 2 usage, 78 invalid configuration.")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read everything and say what is damaged. Changes nothing.
    #[command(after_long_help = "\
Reads every checkpoint and every segment from front to back. A torn end of the last segment is what a crash leaves and
no damage. Exit code 1 when something is damaged that no start and no repair has set aside.

Examples:
  surgegate spool check --directory /var/lib/surgegate
  surgegate spool check --format json | jq .findings")]
    Check(check::Arguments),
    /// Say what waits for which upstream, and what is dead. Changes nothing.
    #[command(after_long_help = "\
Examples:
  surgegate spool ls
  surgegate spool ls --upstream pager --events
  surgegate spool ls --events --format json | jq -r .event_uid")]
    Ls(ls::Arguments),
    /// Do what a start does, without one: cut torn ends, set damage aside, write a checkpoint.
    #[command(after_long_help = "\
A running process needs no repair: it does the same at each start. Damaged bytes are copied to quarantine/ for a look at
them, at most 64 MiB; events that waited in them become dead letters where the log still knows of them.

Example:
  surgegate spool repair --directory /var/lib/surgegate")]
    Repair(repair::Arguments),
    /// Deliver everything that waits, without taking anything in.
    #[command(after_long_help = "\
For the spool of a process that is gone, e.g. of a replica that was removed. Order, pace, retries and ids are those of
a running proxy, so what was delivered and not recorded is repeated under the same id. It goes on until nothing can be
sent any more, for at most --timeout. TERM and INT stop it in order; what is left is kept.
Events for upstreams that are not in the configuration stay: reassign or drop them.

Examples:
  surgegate spool send --config surgegate.yaml
  surgegate spool send --config surgegate.yaml --directory /mnt/lost-pod --timeout 10m")]
    Send(send::Arguments),
    /// Give what waits for one upstream to another, e.g. after a change of names.
    #[command(after_long_help = "\
Events keep their ids, order and age. One that goes to both goes to the other once; one that was delivered there already
goes there again, under the same id. Dead letters stay where they are.

Examples:
  surgegate spool reassign --from old-pager --to pager --dry-run
  surgegate spool reassign --from old-pager --to pager --integration payments")]
    Reassign(give::Reassign),
    /// Drop what waits for an upstream, or its dead letters, for good.
    #[command(after_long_help = "\
What is dropped is never sent: an incident whose trigger is dropped stays unknown to that upstream, and its repeats are
absorbed, until it is resolved and opens anew. Without --yes it only says what would be dropped, and exits with 2.

Examples:
  surgegate spool drop --upstream old-pager --dry-run
  surgegate spool drop --upstream old-pager --yes
  surgegate spool drop --upstream pager --dead-letters --yes")]
    Drop(give::Drop),
}

/// Which spool.
#[derive(clap::Args)]
struct Where {
    /// The spool's directory, in place of the configuration's `spool.directory`.
    #[arg(long, short, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Configuration file; may be given again, each laid over those before it.
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Why a verb did not do it.
enum Failure {
    /// And what to do next.
    Text(String, String),
    /// It was said already.
    Said(ExitCode),
    Output(io::Error),
}

impl Failure {
    fn text(said: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Text(said.into(), next.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The code that a verb ends with.
type Ended = Result<u8, Failure>;

/// Standard output: a reader that went away ends the verb, not the process's good name.
type Out<'a> = &'a mut dyn Write;

/// Does as told, and says so.
pub fn run(arguments: Arguments, load: Load) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let (name, ended) = match arguments.verb {
        Verb::Check(arguments) => ("check", check::run(arguments, load, &mut out)),
        Verb::Ls(arguments) => ("ls", ls::run(&arguments, load, &mut out)),
        Verb::Repair(arguments) => ("repair", repair::run(arguments, load, &mut out)),
        // It may have an upstream that writes there, too.
        Verb::Send(arguments) => {
            drop(out);
            return ended("send", send::run(arguments, load));
        }
        Verb::Reassign(arguments) => ("reassign", give::reassign(&arguments, load, &mut out)),
        Verb::Drop(arguments) => ("drop", give::drop(&arguments, load, &mut out)),
    };
    let flushed = out.flush().map_err(Failure::Output);
    self::ended(name, ended.and_then(|code| flushed.map(|()| code)))
}

fn ended(verb: &str, ended: Ended) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Said(code)) => code,
        // `| head` has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => {
            eprintln!("surgegate spool {verb}: {error}");
            ExitCode::from(FAILED)
        }
        Err(Failure::Text(said, next)) => {
            eprintln!("surgegate spool {verb}: {said}");
            if !next.is_empty() {
                eprintln!("  {next}");
            }
            ExitCode::from(FAILED)
        }
    }
}

/// A spool that was named.
struct Place {
    directory: PathBuf,
    config: Option<Config>,
}

impl Where {
    /// The directory; the configuration too, where one was named or is needed to find it.
    fn find(&self, load: Load) -> Result<Place, Failure> {
        match &self.directory {
            Some(directory) if self.config.is_empty() => Ok(Place { directory: directory.clone(), config: None }),
            _ => {
                let config = self.load(load)?;
                Ok(Place { directory: config.spool.directory.clone(), config: Some(config) })
            }
        }
    }

    /// The configuration, with the directory in it.
    fn load(&self, load: Load) -> Result<Config, Failure> {
        let mut config = load(self.config.clone()).map_err(|code| {
            if self.directory.is_none() {
                eprintln!("or name the spool alone, for check, ls, repair and drop: --directory DIR");
            }
            Failure::Said(code)
        })?;
        if let Some(directory) = &self.directory {
            config.spool.directory.clone_from(directory);
        }
        Ok(config)
    }
}

/// What a directory that cannot be looked at says.
fn unusable(directory: &Path, error: &OpenError) -> Failure {
    let next = match error {
        OpenError::NoSpool(_) if directory.join("lock").exists() => {
            "this is the inside of one: name its parent".to_owned()
        }
        OpenError::NoSpool(_) if directory.join("spool/spool").is_dir() => {
            format!("did you mean {}?", directory.join("spool").display())
        }
        OpenError::Unreadable { .. } | OpenError::Unsynced { .. } => error.hint().unwrap_or_default(),
        _ => "name the directory that `spool.directory` says, with --directory or --config".to_owned(),
    };
    Failure::text(error.to_string(), next)
}

/// Refuses a directory without a spool, and one that a process runs on. `instead`: what to do then.
fn must_be_free(directory: &Path, instead: &str) -> Result<(), Failure> {
    match Store::presence(directory).map_err(|error| unusable(directory, &error))? {
        Presence::Running(pid) => Err(held(directory, pid, instead)),
        Presence::Nobody | Presence::Unknown => Ok(()),
    }
}

fn held(directory: &Path, pid: u32, instead: &str) -> Failure {
    let who = if pid == 0 { "a running process".to_owned() } else { format!("a running process ({pid})") };
    Failure::text(format!("{} is held by {who}", directory.display()), instead)
}

/// Takes nothing: no events come in here.
struct Nowhere;

impl Outlet for Nowhere {
    fn push(&self, batch: &mut Vec<Queued>) {
        batch.clear();
    }
}

/// A spool to be changed, by whoever holds its lock now.
struct Held {
    opened: Opened,
    metrics: Arc<Metrics>,
}

impl Held {
    /// As a start opens it, and with its writer at work; nothing is sent.
    fn open(place: Place, instead: &str) -> Result<Self, Failure> {
        Self::open_past(place, Unreadable::FailsOpen, instead)
    }

    fn open_past(place: Place, unreadable: Unreadable, instead: &str) -> Result<Self, Failure> {
        let Place { directory, config } = place;
        let (spool, dedup) = match config {
            Some(config) => (config.spool, config.dedup),
            None => unconfigured(directory.clone()),
        };
        let opened = open(store::Config { unreadable, ..spool }, dedup, instead)?;
        opened.opened.store.start(Arc::new(Nowhere));
        Ok(opened)
    }

    /// Everything is on disk, and a checkpoint is made.
    fn close(self) -> Result<(), Failure> {
        let store = &self.opened.store;
        // Nothing was sent: what the process before left in doubt still is.
        if self.opened.recovered.clean {
            store.is_at_rest();
        }
        store.close();
        is_written(store)
    }
}

fn is_written(store: &Store) -> Result<(), Failure> {
    if store.is_written() {
        return Ok(());
    }
    let said = "the spool could not be written: not all of this is on disk";
    Err(Failure::text(said, "make room or mend the disk, look with `surgegate spool ls`, and do it again"))
}

/// Opens a spool that is there, with the lock, and with the warnings of the log on standard error.
fn open(spool: store::Config, dedup: dedup::Config, instead: &str) -> Result<Held, Failure> {
    let directory = spool.directory.clone();
    must_be_free(&directory, instead)?;
    // In a test's process there may be one already.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(tracing::Level::WARN)
        .try_init();
    let metrics = Metrics::new(1).map_err(|error| Failure::text(error.to_string(), ""))?;
    // Whatever the proxy was allowed: what is done by hand is on disk when it is said to be done.
    let segment_bytes = spool.segment_bytes.min(SEGMENT_BYTES);
    let spool = store::Config { durability: Durability::Fsync, segment_bytes, ..spool };
    let opened = delivery::open(spool, dedup, &metrics, 1).map_err(|error| match error {
        OpenError::Locked(directory) => held(&directory, 0, instead),
        error => unusable(&directory, &error),
    })?;
    Ok(Held { opened, metrics })
}

/// A spool of which nobody knows the configuration: nothing in it outlives its time or is too much.
fn unconfigured(directory: PathBuf) -> (store::Config, dedup::Config) {
    const FOREVER: Duration = Duration::MAX;
    let spool = store::Config {
        directory,
        durability: Durability::Fsync,
        max_bytes: u64::MAX,
        segment_bytes: SEGMENT_BYTES,
        retain: FOREVER,
        index_bytes: u64::MAX,
        unreadable: Unreadable::FailsOpen,
    };
    let dedup = dedup::Config {
        open_ttl: FOREVER,
        resolved_ttl: FOREVER,
        idempotency_ttl: FOREVER,
        replay_ttl: FOREVER,
        max_keys: usize::MAX,
        redeliver_after: Duration::ZERO,
        replica_id: 0,
        is_shared: false,
    };
    (spool, dedup)
}

/// The line of a look at a directory where a process may be at work.
fn beside(presence: Presence) -> Option<String> {
    let moment = "the figures are those of a moment";
    match presence {
        Presence::Nobody => None,
        Presence::Running(0) => Some(format!("a process runs on it: {moment}")),
        Presence::Running(pid) => Some(format!("process {pid} runs on it: {moment}")),
        Presence::Unknown => Some(format!("whether a process runs on it cannot be told here; if so {moment}")),
    }
}

/// `1 event`, `2 events`.
fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Bytes for a reader.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}

/// Columns, each as wide as its widest cell but for the last.
fn table(out: Out, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line: Vec<String> = cells.collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}
