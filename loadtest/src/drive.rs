//! Runs a scenario: open-loop load whose requests have an intended start made ahead of time. Latency counts from there,
//! whether or not a connection was free, so a server that stalls is charged for every request that should have started
//! meanwhile. Called by the verbs `run`, `knee` and `calibrate`.
//!
//! Threads: the senders (one runtime), the `pacer` that lets requests go, the upstream with its witness, the `timeline`
//! that does what happens, the `scraper` that looks at the servers. The senders' thread is what must not be the
//! bottleneck: it measures its own lateness and its own share of a core, and says INVALID when it was.

mod abuse;
mod client;
mod environment;
mod incidents;
mod pacer;
mod plan;
mod records;
mod scrape;
mod sender;
mod stand;
mod sum;
mod timeline;
mod watch;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;

use crate::latency::Latencies;
use crate::ledger::Ledger;
use crate::process::thread_demand;
use crate::progress::{Mode, Progress};
use crate::results::{Results, Source};
use crate::scenario::Scenario;
use crate::server::fetch;
use crate::server::redis::Redis;
use crate::template::run_number;

use client::Client;
use incidents::Incidents;
use pacer::{Pacer, Schedule};
use plan::{Kind, Wheel};
use records::Records;
use scrape::Scraper;
use sender::{Queue, Shared};
use timeline::{Things, Timeline};
use watch::Watch;

/// Stretches of the series, as far as a run's length allows.
const STRETCHES: u32 = 200;
const SHORTEST_STRETCH: Duration = Duration::from_millis(100);
const LONGEST_STRETCH: Duration = Duration::from_secs(1);
/// How long deliveries are awaited when the run was broken off.
const SETTLE_AFTER_ABORT: Duration = Duration::from_secs(10);

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// A server that stands somewhere; without it one is started.
    pub target: Option<String>,
    /// The observe listener of that server: its metrics are plotted.
    pub observe: Option<SocketAddr>,
    /// Where the own upstream listens; without one a target has none, and a server that is started gets a free port.
    pub upstream: Option<SocketAddr>,
    /// The binary that is started; beside the load tester's own by default.
    pub surgegate: Option<PathBuf>,
    /// Where a server that is started keeps its files; a temporary directory by default.
    pub directory: Option<PathBuf>,
    pub progress: Mode,
}

/// A run's results, and its histograms by name for `.hgrm` files.
pub struct Outcome {
    pub results: Results,
    pub histograms: Vec<(String, Latencies)>,
}

/// Runs it.
///
/// # Errors
/// What keeps the run from taking place: no server, no upstream, no binary. What goes wrong in it is in the results.
pub fn drive(scenario: &Scenario, options: &Options) -> anyhow::Result<Outcome> {
    let seed = scenario.seed.unwrap_or_else(|| u64::from(run_number()));
    let run = run_number();
    let schedule = Schedule::new(scenario, seed)?;
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = options.directory.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let mut environment = environment::look();
    (environment.seed, environment.scenario) = (seed, scenario.shown());

    let credentials = stand::credentials(scenario, options, seed)?;
    let body_limit = scenario.surgegate.settings.get("limits").and_then(|limits| limits.get("body_bytes"));
    let entries = plan::entries(
        scenario,
        &credentials,
        body_limit.and_then(serde_json::Value::as_u64).unwrap_or(30_720) as usize,
    );
    let start_of_ledger = Instant::now();
    let ledger = Arc::new(Mutex::new(Ledger::new(start_of_ledger)?));
    let upstream = stand::upstream(scenario, options, run, &entries, &ledger)?;
    let redis = scenario.redis.then(|| Redis::start(&directory)).transpose()?;
    let stand =
        stand::stand(scenario, options, &credentials, upstream.as_ref(), redis.as_ref(), directory, &mut environment)?;
    let servers = Arc::new(stand.servers);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the runtime")?;
    let way = client::Way::new(scenario.client.tls, stand.host, stand.base_path)?;
    let wheels = scenario.phases.iter().map(|phase| Wheel::new(&entries, phase)).collect::<Vec<_>>();
    ensure!(wheels.iter().all(Option::is_some), "in one of the phases every weight is 0");
    let told = scenario.mix.iter().map(told_of).collect();
    let pretence = pretence(&entries);
    let sources = entries.len();
    let shared = |start: Instant| -> anyhow::Result<Rc<Shared>> {
        Ok(Rc::new(Shared {
            run,
            seed,
            start,
            timeout: scenario.client.timeout.0,
            retries: scenario.client.retries,
            retry_wait: scenario.client.retry_wait.0,
            phases: scenario.phases.clone(),
            entries,
            wheels,
            pretence,
            servers: Arc::clone(&servers),
            way,
            ledger: Arc::clone(&ledger),
            incidents: RefCell::new(Incidents::new(sources, seed)),
            records: RefCell::new(Records::new(scenario.phases.len(), told)?),
            queue: RefCell::new(Queue::new(schedule.clone())),
            abusers: Cell::new(0),
            due: Arc::new(Semaphore::new(0)),
        }))
    };
    let offered = Offered {
        scenario,
        schedule: &schedule,
        has_metrics: options.target.is_none() || options.observe.is_some(),
        upstream: upstream.as_ref().map(|own| own.address),
        redis: Cell::new(redis),
        progress: RefCell::new(Progress::new(options.progress, &scenario.name)),
    };
    let ran = runtime.block_on(offered.offer(shared))?;
    let outcome = sum::up(scenario, &schedule, environment, ran, upstream.is_some());
    // The servers end before the upstream, as they would miss it.
    drop(servers);
    Ok(outcome)
}

/// What [`sum::up`] makes results of.
struct Ran {
    shared: Rc<Shared>,
    demand: Option<(crate::process::Demand, crate::process::Demand)>,
    sending: Duration,
    whole: Duration,
    cpu: Duration,
    seen: scrape::Seen,
    happened: Vec<crate::results::Happening>,
    aborted: Option<String>,
}

fn told_of(source: &crate::scenario::Source) -> Source {
    Source {
        name: source.name().to_owned(),
        kind: source.dialect.clone().or(source.abuse.map(|abuse| abuse.name().to_owned())).unwrap_or_default(),
        abuse: source.abuse.is_some(),
        requests: 0,
        statuses: Default::default(),
        failures: Default::default(),
        outcomes: Default::default(),
        unexpected: 0,
        latency: Default::default(),
    }
}

/// Bad clients say they are the first integration of the mix.
fn pretence(entries: &[plan::Entry]) -> abuse::Pretence {
    let spoken = entries.iter().find_map(|entry| match &entry.kind {
        Kind::Spoken(spoken) => Some(spoken),
        Kind::Abuse { .. } => None,
    });
    let Some(spoken) = spoken else {
        return abuse::Pretence::default();
    };
    let mut text = plan::Text::default();
    let said = plan::Said { run: 0, statement: 0, key: 0, integration: 0, resolve: false, remote: None };
    spoken.fill(&said, &mut text);
    let word = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    abuse::Pretence { path: word(text.path), authorization: word(text.authorization) }
}

/// The load itself.
struct Offered<'s> {
    scenario: &'s Scenario,
    schedule: &'s Schedule,
    has_metrics: bool,
    upstream: Option<SocketAddr>,
    redis: Cell<Option<Redis>>,
    progress: RefCell<Progress>,
}

impl Offered<'_> {
    async fn offer(&self, shared: impl FnOnce(Instant) -> anyhow::Result<Rc<Shared>>) -> anyhow::Result<Ran> {
        let clients = self.clients();
        // The schedule begins when the connections are open: the first requests must not wait for them.
        let shared = shared(Instant::now())?;
        let shared = warm(shared, clients).await?;
        let (shared, clients) = shared;
        let length = self.schedule.length();
        let stretch = (length / STRETCHES).clamp(SHORTEST_STRETCH, LONGEST_STRETCH);
        let starts: Vec<Duration> = self.schedule.phases().iter().map(|phase| phase.start).collect();
        let scraper = Scraper::start(Arc::clone(&shared.servers), stretch, self.has_metrics)?;
        let things = Things { servers: Arc::clone(&shared.servers), upstream: self.upstream, redis: self.redis.take() };
        let planned = timeline::plan(self.scenario, &starts, length);
        let timeline = Timeline::start(planned, shared.start, things)?;
        let cpu_before = crate::process::cpu_time(crate::process::Process::Own).unwrap_or_default();
        let demand_before = thread_demand();
        let mut senders = tokio::task::JoinSet::new();
        for client in clients {
            senders.spawn_local(sender::send_when_due(Rc::clone(&shared), client));
        }
        let pacer = Pacer::start(self.schedule.clone(), shared.start, Arc::clone(&shared.due))?;
        let mut watch = Watch::new(self, &shared, &scraper, &timeline, stretch);
        // A request started at the very end may open a connection, wait for its answer, and be tried again.
        let tries = 1 + self.scenario.client.retries;
        let last = length + (self.scenario.client.timeout.0 * 2 + self.scenario.client.retry_wait.0) * tries;
        let mut aborted = tokio::select! {
            () = async { while senders.join_next().await.is_some() {} } => None,
            () = tokio::time::sleep(last) => None,
            why = watch.until_aborted() => Some(why),
            _ = tokio::signal::ctrl_c() => Some("interrupted".to_owned()),
        };
        let demand = demand_before.zip(thread_demand());
        let sending = shared.start.elapsed();
        shared.due.close();
        senders.shutdown().await;
        pacer.stop();
        if aborted.is_some() {
            // What is on its way now would be called lost: it gets a moment, and an upstream that takes it.
            watch.aborts.clear();
            if let Some(upstream) = self.upstream {
                let _ = fetch::post(upstream, "/faults", r#"{"faults":[]}"#);
            }
        }
        let patience = self.scenario.settle.0;
        let patience = if aborted.is_some() { patience.min(SETTLE_AFTER_ABORT) } else { patience };
        // Events may still be to come: an outage that ends with the last phase, say.
        let broken_off = watch.settle(patience, aborted.is_none()).await;
        aborted = aborted.or(broken_off);
        watch.stretch_over();
        let whole = shared.start.elapsed();
        let happened = timeline.stop();
        let seen = scraper.stop();
        self.progress.borrow().end();
        let cpu = crate::process::cpu_time(crate::process::Process::Own).unwrap_or_default().saturating_sub(cpu_before);
        Ok(Ran { shared, demand, sending, whole, cpu, seen, happened, aborted })
    }

    fn clients(&self) -> Vec<Client> {
        let client = &self.scenario.client;
        let http2 = (f64::from(client.connections) * client.http2).round() as u32;
        let mut clients: Vec<Client> = (http2..client.connections).map(|_| Client::http1()).collect();
        let mut left = http2;
        while left > 0 {
            let connection = client::Shared::default();
            let streams = left.min(client.streams);
            clients.extend((0..streams).map(|_| Client::Http2(Rc::clone(&connection))));
            left -= streams;
        }
        clients
    }
}

/// Opens the connections, one after the other, and lets the run begin behind them.
async fn warm(shared: Rc<Shared>, mut clients: Vec<Client>) -> anyhow::Result<(Rc<Shared>, Vec<Client>)> {
    if let Some(addresses) = shared.servers.address(0) {
        for client in &mut clients {
            client.warm(&shared.way, addresses.ingest).await;
        }
    }
    let mut shared = Rc::try_unwrap(shared).map_err(|_| anyhow::anyhow!("somebody holds the run already"))?;
    shared.start = Instant::now();
    shared.ledger = Arc::clone(&shared.ledger);
    shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).begin(shared.start);
    Ok((Rc::new(shared), clients))
}
