//! Open-loop load at a constant rate. Each request has an intended start on a schedule made ahead
//! of time; latency counts from there, whether or not a connection was free, so a server that
//! stalls is charged for every request that should have started meanwhile.
//! Called by `main.rs`; the pieces are `pacer` (when), `plan` (which event), `sender` (one connection), `report`.
//!
//! The generator watches itself: when it started requests late although a connection was free, or
//! no connection was free while its own thread lacked CPU (then the answers were there, unread,
//! and lateness shows nothing), the run is INVALID and its figures say nothing about the server.

mod pacer;
mod plan;
mod report;
mod sender;

use std::cell::RefCell;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;

pub use report::Report;

use crate::connection::Connection;
use crate::process::thread_demand;
use crate::template::{Templates, run_number};
use crate::{keys, target, units};
use pacer::Schedule;
use plan::Plan;
use sender::{Records, Shared};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Server: `http://HOST:PORT` or HOST:PORT
    #[arg(long, value_name = "URL")]
    target: String,
    /// Requests a second, all connections together
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long requests are started; answers are awaited up to --timeout longer
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    duration: Duration,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    #[arg(long, default_value_t = 400)]
    body_bytes: usize,
    /// Path before the key
    #[arg(long, default_value = "/v2/incidents/api/")]
    path_prefix: String,
    /// Integration key, repeatable; without any, 100 made-up ones
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// File with one integration key a line
    #[arg(long, value_name = "FILE", alias = "keys-file")]
    key_file: Option<PathBuf>,
    /// Fraction of requests that repeat one of the last 1,000 events, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    duplicates: f64,
    /// Write the event_id of each request answered 2xx, one a line
    #[arg(long, value_name = "FILE")]
    accepted_log: Option<PathBuf>,
    /// A request without its answer after this long has failed
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    timeout: Duration,
    /// The run is INVALID when the generator's own lateness has a higher p99
    #[arg(long, default_value = "10ms", value_parser = units::parse_duration)]
    max_lateness: Duration,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the load and returns its report. INT ends it early, with the report of what was sent.
///
/// # Errors
/// Arguments that do not fit, or an accepted log that cannot be written. A server that cannot be
/// reached is no error: its failures are in the report.
pub fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    ensure!((0.0..=1.0).contains(&arguments.duplicates), "--duplicates is a fraction of 0 to 1");
    let keys = keys::collect(&arguments.keys, arguments.key_file.as_deref())?;
    let target = target::parse(&arguments.target)?;
    let run_number = run_number();
    let templates = Templates::new(&target, &arguments.path_prefix, &keys, arguments.body_bytes, run_number)?;
    let accepted_log = arguments
        .accepted_log
        .as_ref()
        .map(|path| File::create(path).map(BufWriter::new).with_context(|| format!("cannot write {}", path.display())))
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Opened before the schedule starts. One that fails is tried again by its sender.
        let mut connections = Vec::new();
        for _ in 0..arguments.connections {
            connections.push(Connection::open(target.address).await.ok());
        }
        let schedule = Schedule::starting_now(arguments.rate, arguments.duration);
        ensure!(schedule.requests() > 0, "rate times duration is less than one request");
        let plan = Plan::new(u64::from(run_number), arguments.duplicates);
        let shared = Rc::new(Shared {
            address: target.address,
            templates,
            schedule,
            timeout: arguments.timeout,
            due: Arc::new(Semaphore::new(0)),
            records: RefCell::new(Records::new(plan, accepted_log)?),
        });
        let demand_before = thread_demand();
        offer(arguments, &shared, connections).await?;
        let demand = demand_before.zip(thread_demand());
        let mut records = shared.records.borrow_mut();
        records.flush_accepted_log()?;
        Ok(Report::new(arguments, &shared.schedule, &records, demand))
    })
}

/// Starts the senders and the pacer and waits for the last answer, INT, or the last time-out.
async fn offer(arguments: &Arguments, shared: &Rc<Shared>, connections: Vec<Option<Connection>>) -> anyhow::Result<()> {
    let mut senders = tokio::task::JoinSet::new();
    for connection in connections {
        senders.spawn_local(sender::send_when_due(Rc::clone(shared), connection));
    }
    let pacer = pacer::start(shared.schedule.clone(), Arc::clone(&shared.due))?;
    // A request started at the very end may open a connection and then wait for its answer.
    let last = arguments.duration + arguments.timeout * 2;
    tokio::select! {
        () = async { while senders.join_next().await.is_some() {} } => {}
        () = tokio::time::sleep(last) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for INT")?,
    }
    shared.schedule.stop();
    senders.shutdown().await;
    // It looks at the stop every few milliseconds.
    pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))
}
