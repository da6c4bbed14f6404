//! Closed-loop load: every connection sends its next request when the last is answered. It finds
//! what a server's CPU can do, and says nothing about latency under a given load (that is
//! [`crate::run`]). Called by `main.rs`; `scripts/bench.py` reads its JSON.
//!
//! Made to cost less than the cheapest server it measures: one thread, requests ready as bytes,
//! one clock reading a request, no allocation between two requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::connection::Connection;
use crate::latency::Latencies;
use crate::process::{Process, cpu_time};
use crate::target::{self, Target};
use crate::template::{Templates, run_number};
use crate::{keys, units};

/// What a connection waits before it tries again: a server that refuses is not hammered.
const RECONNECT_WAIT: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Server: HOST:PORT or `http://HOST:PORT`
    #[arg(long)]
    target: String,
    /// Path before the key
    #[arg(long, default_value = "/v2/incidents/api/")]
    path_prefix: String,
    /// Integration key, repeatable; without any, 100 made-up ones
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// File with one integration key a line
    #[arg(long, value_name = "FILE", alias = "key-file")]
    keys_file: Option<PathBuf>,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Measured window
    #[arg(long, default_value = "5s", value_parser = units::parse_duration)]
    duration: Duration,
    /// Load before the window, not measured
    #[arg(long, default_value = "1s", value_parser = units::parse_duration)]
    warmup: Duration,
    #[arg(long, default_value_t = 362)]
    body_bytes: usize,
    /// Send one and the same event for each key, over and over
    #[arg(long)]
    duplicate: bool,
    /// Never sleep: a client that waits must be woken for each answer, which is charged to the server
    #[arg(long)]
    spin: bool,
    /// Process whose CPU time is charged
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

/// What is printed, as JSON. Counts are of the measured window where the name does not say else.
#[derive(Debug, Serialize)]
pub struct Report {
    pub requests: u64,
    pub non_2xx: BTreeMap<u16, u64>,
    pub transport_errors: u64,
    pub seconds: f64,
    pub requests_per_second: f64,
    /// User and system time of the server, all threads; absent without `--server-pid`.
    pub cpu_seconds: Option<f64>,
    pub requests_per_cpu_second: Option<f64>,
    pub client_cpu_seconds: f64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Answered 2xx from the first request on, warm-up included.
    pub accepted_total: u64,
}

/// What the connections share. One thread: no lock, no atomic.
struct Shared {
    target: Target,
    templates: Templates,
    /// Events to choose from; `u64::MAX` for a fresh one each time.
    distinct_events: u64,
    next_event: Cell<u64>,
    accepted_total: Cell<u64>,
    window: RefCell<Window>,
}

struct Window {
    latencies: Latencies,
    requests: u64,
    non_2xx: BTreeMap<u16, u64>,
    transport_errors: u64,
}

impl Shared {
    fn next_event(&self) -> u64 {
        let event = self.next_event.get();
        self.next_event.set(event + 1);
        event % self.distinct_events
    }

    fn answered(&self, status: u16, time: Duration) {
        let mut window = self.window.borrow_mut();
        window.requests += 1;
        window.latencies.record(time);
        if (200..300).contains(&status) {
            self.accepted_total.set(self.accepted_total.get() + 1);
        } else {
            *window.non_2xx.entry(status).or_default() += 1;
        }
    }
}

/// Runs the load and returns its report.
///
/// # Errors
/// Arguments that do not fit, a server that cannot be reached at all, or a server process that
/// is gone at the end of the window.
pub fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let keys = keys::collect(&arguments.keys, arguments.keys_file.as_deref())?;
    let target = target::parse(&arguments.target)?;
    let templates = Templates::new(&target, &arguments.path_prefix, &keys, arguments.body_bytes, run_number())?;
    ensure!(!arguments.duration.is_zero(), "the duration must not be 0");
    let shared = Rc::new(Shared {
        target,
        templates,
        distinct_events: if arguments.duplicate { keys.len() as u64 } else { u64::MAX },
        next_event: Cell::new(0),
        accepted_total: Cell::new(0),
        window: RefCell::new(Window {
            latencies: Latencies::new()?,
            requests: 0,
            non_2xx: BTreeMap::new(),
            transport_errors: 0,
        }),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the runtime")?;
    runtime.block_on(measure(arguments, &shared))
}

async fn measure(arguments: &Arguments, shared: &Rc<Shared>) -> anyhow::Result<Report> {
    for _ in 0..arguments.connections {
        // Opened one after the other, before any load: a backlog overrun would cost seconds.
        let connection = Connection::open(shared.target.address)
            .await
            .with_context(|| format!("cannot connect to {}", shared.target.address))?;
        tokio::task::spawn_local(keep_busy(Rc::clone(shared), connection));
    }
    if arguments.spin {
        // A task that is always ready keeps the runtime polling; it ends with it.
        tokio::task::spawn_local(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    tokio::time::sleep(arguments.warmup).await;
    let server = arguments.server_pid.map(Process::Pid);
    // From here to the clock reading nothing else runs on this thread: counts and times fit.
    {
        let mut window = shared.window.borrow_mut();
        window.latencies.clear();
        window.requests = 0;
        window.non_2xx.clear();
        window.transport_errors = 0;
    }
    let server_before = server.map(cpu_time).transpose()?;
    let client_before = cpu_time(Process::Own)?;
    let start = Instant::now();
    tokio::time::sleep(arguments.duration).await;
    let seconds = start.elapsed().as_secs_f64();
    let server_after = server.map(cpu_time).transpose()?;
    let client_cpu = cpu_time(Process::Own)?.saturating_sub(client_before);
    let window = shared.window.borrow();
    let summary = window.latencies.summary();
    let cpu_seconds = server_after.zip(server_before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
    Ok(Report {
        requests: window.requests,
        non_2xx: window.non_2xx.clone(),
        transport_errors: window.transport_errors,
        seconds,
        requests_per_second: window.requests as f64 / seconds,
        cpu_seconds,
        requests_per_cpu_second: cpu_seconds.filter(|&cpu| cpu > 0.0).map(|cpu| window.requests as f64 / cpu),
        client_cpu_seconds: client_cpu.as_secs_f64(),
        mean_us: summary.mean_us,
        p50_us: summary.p50_us,
        p99_us: summary.p99_us,
        max_us: summary.max_us,
        accepted_total: shared.accepted_total.get(),
    })
}

/// One connection's life; it ends with the runtime.
async fn keep_busy(shared: Rc<Shared>, first: Connection) {
    let mut connection = Some(first);
    let mut request = Vec::new();
    loop {
        let Some(open) = connection.as_mut() else {
            match Connection::open(shared.target.address).await {
                Ok(fresh) => connection = Some(fresh),
                Err(_) => {
                    shared.window.borrow_mut().transport_errors += 1;
                    tokio::time::sleep(RECONNECT_WAIT).await;
                }
            }
            continue;
        };
        let close = exchange_until_failure(&shared, open, &mut request).await;
        connection = None;
        if !close {
            shared.window.borrow_mut().transport_errors += 1;
            tokio::time::sleep(RECONNECT_WAIT).await;
        }
    }
}

/// Returns when the connection is of no more use: true when the server asked for the end.
async fn exchange_until_failure(shared: &Shared, connection: &mut Connection, request: &mut Vec<u8>) -> bool {
    let mut before = Instant::now();
    loop {
        shared.templates.fill(shared.next_event(), request);
        let Ok(head) = connection.exchange(request).await else {
            return false;
        };
        // The end of one exchange is the start of the next.
        let now = Instant::now();
        shared.answered(head.status, now - before);
        before = now;
        if head.close {
            return true;
        }
    }
}
