//! Builds the rooms, joins them, starts and stops them in order. The only room that knows all others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::{self, Access, Desk, Door};
use crate::claim::Position;
use crate::config::Config;
use crate::dedup::Dedup;
use crate::event::{Content, Event, Incident, Micros, StateKey, Uid, Warning};
use crate::gate::{Integration, IntegrationConfig, Keys, UnauthenticatedBucket};
use crate::intake::Intake;
use crate::listen::Listener;
use crate::metrics::{Metrics, UpstreamMeter};
use crate::store::{Durability, LaneKey, Store};
use crate::{dialect, forward, sink, store};

/// Dead letters take at most this part of the spool (DESIGN 4),
const DEAD_LETTER_PART: u64 = 10;
/// and, at some 256 B each, a quarter of the index's memory.
const DEAD_LETTER_MEMORY: u64 = 1024;
/// How often what outlived its time is forgotten, and at most how often the log is told of an incident that it was
/// seen again (DESIGN 5.6).
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for upstream requests under way when stopping; what did not end is sent again after the start.
const FORWARD_STOP_MAX: Duration = Duration::from_secs(10);

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the spool cannot be opened: {0}")]
    Spool(#[from] store::OpenError),
    #[error("cannot listen on {address} ({door}): {source}")]
    Listen { door: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("TLS towards upstreams cannot be set up: {0}")]
    Tls(rustls::Error),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(String),
}

/// Where the three listeners stand.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub ingest: SocketAddr,
    pub observe: SocketAddr,
    pub admin: SocketAddr,
}

/// The running product. Made and stopped on a tokio runtime that serves the admin listeners alone.
pub struct App {
    pub addresses: Addresses,
    draining: Arc<AtomicBool>,
    drain: Duration,
    listener: Listener,
    forward: Arc<forward::Handle>,
    store: Arc<Store>,
    tasks: Vec<JoinHandle<()>>,
}

impl App {
    /// Recovers the spool, then starts forwarding, then listens: an event finds everything behind it ready.
    ///
    /// # Errors
    /// Whatever keeps it from accepting durably; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let began = Micros::now();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let metrics = Metrics::new(workers).map_err(|error| StartError::Metrics(error.to_string()))?;
        metrics.config_last_reload_successful.set(1);
        // Bind the small listeners first: a port that is taken is told before the log is touched.
        let observe = bind("observe", config.observe).await?;
        let admin = bind("admin", config.admin.address).await?;

        let dedup = Dedup::new(config.dedup, Arc::clone(&metrics));
        let durability = config.spool.durability;
        let dead_letters = forward::DeadLetterLimits {
            bytes: config.spool.max_bytes / DEAD_LETTER_PART,
            count: usize::try_from(config.spool.index_bytes / DEAD_LETTER_MEMORY).unwrap_or(usize::MAX),
        };
        let (store, recovered) = Store::open(config.spool, &metrics, workers, Arc::new(Kept(Arc::clone(&dedup))))?;
        dedup.restore_number(recovered.highest_number);
        if let Ok(jump @ 1..) = u64::try_from(recovered.clock_jump_micros()) {
            let jump = Duration::from_micros(jump);
            let days = jump.as_secs() / (24 * 3600);
            tracing::warn!(
                days,
                "the spool was last written more than 7 days ago by this clock: the time does not count"
            );
            dedup.shift_clock(jump);
        }
        tracing::info!(
            waiting = recovered.waiting,
            dead_letters = recovered.dead.len(),
            keys = dedup.entries(),
            damaged = recovered.damaged_records,
            "spool recovered"
        );

        let integrations = integrations(config.integrations, &metrics);
        let forward = forward::start(forward::Parts {
            log: Arc::clone(&store) as Arc<dyn forward::Log>,
            reader: Arc::new(Rereader),
            states: Arc::new(States(Arc::clone(&dedup))),
            integrations: Arc::new(ByName::new(&integrations)),
            metrics: Arc::clone(&metrics),
            dial: Arc::new(forward::wire::Dialer::new(None).map_err(StartError::Tls)?),
            upstreams: config.upstreams.into_iter().map(Arc::new).collect(),
            recovered,
            dead_letters,
        })
        .map_err(StartError::Thread)?;
        store.start(Arc::clone(&forward) as Arc<dyn store::Outlet>);

        let unauthenticated =
            NonZeroU32::new(config.ingest.unauthenticated_requests_per_second).unwrap_or(NonZeroU32::MIN);
        let line = Arc::clone(&forward);
        let intake = Arc::new(Intake::new(
            Keys::new(integrations),
            Arc::clone(&dedup),
            Arc::clone(&store),
            Arc::clone(&metrics),
            config.body,
            config.ingest.uri_bytes,
            UnauthenticatedBucket::new(unauthenticated),
            Box::new(move |integration| line.unknown_line_is_full(integration)),
        ));
        let address = config.ingest.address;
        let listener = Listener::start(config.ingest, intake, workers).map_err(|source| StartError::Listen {
            door: "ingest",
            address,
            source,
        })?;

        let draining = Arc::new(AtomicBool::new(false));
        let mut warnings: Vec<String> = config.warnings.iter().map(|finding| finding.message.clone()).collect();
        if durability == Durability::Memory {
            warnings.push("durability is memory: a crash loses what was answered in the last moments".to_owned());
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let addresses = Addresses { ingest: listener.address(), observe: observe.1, admin: admin.1 };
        let desk = Arc::new(Desk {
            metrics,
            store: Arc::clone(&store),
            dedup: Arc::clone(&dedup),
            forward: Arc::clone(&forward),
            durability,
            draining: Arc::clone(&draining),
            began,
            warnings,
            access: Access {
                token_hash: config.admin.token.map(|token| Sha256::digest(token.as_bytes()).into()),
                address: admin.1,
            },
        });
        let tasks = vec![
            tokio::spawn(admin::serve(Door::Observe, observe.0, Arc::clone(&desk))),
            tokio::spawn(admin::serve(Door::Admin, admin.0, desk)),
            tokio::spawn(keep_states(dedup, Arc::clone(&store))),
        ];
        Ok(Self { addresses, draining, drain: config.drain, listener, forward, store, tasks })
    }

    /// How long the listener goes on while readiness is down.
    pub fn drain_time(&self) -> Duration {
        self.drain
    }

    /// Takes readiness down; the listener goes on, so that balancers notice before anything is refused.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Stops in order: no new requests, those in flight end, sends under way end, the log is closed.
    pub async fn stop(self) {
        self.begin_drain();
        let listener = self.listener;
        // Joining threads blocks; the admin listeners go on meanwhile.
        let _ = tokio::task::spawn_blocking(move || listener.stop()).await;
        let at_rest = self.forward.stop(FORWARD_STOP_MAX).await;
        let store = self.store;
        if at_rest {
            store.is_at_rest();
        }
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn bind(door: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { door, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Forgets what outlived its time and tells the log what was seen again, off the threads that take requests.
async fn keep_states(dedup: Arc<Dedup>, store: Arc<Store>) {
    let mut tick = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tick.tick().await;
        let (dedup, store) = (Arc::clone(&dedup), Arc::clone(&store));
        let round = move || {
            dedup.expire(Micros::now());
            for (key, incident) in dedup.take_touched() {
                store.touch(key, incident.iid, incident.count, incident.last_seen);
            }
        };
        let _ = tokio::task::spawn_blocking(round).await;
    }
}

fn integrations(configs: Vec<IntegrationConfig>, metrics: &Metrics) -> Vec<Arc<Integration>> {
    let live = configs.into_iter().map(|config| {
        let targets: Arc<[Arc<UpstreamMeter>]> = config.upstreams.iter().map(|name| metrics.upstream(name)).collect();
        Arc::new(Integration::new(config, targets))
    });
    live.collect()
}

/// The integrations as the forwarder asks for them.
struct ByName(HashMap<Arc<str>, Arc<Integration>>);

impl ByName {
    fn new(integrations: &[Arc<Integration>]) -> Self {
        Self(integrations.iter().map(|one| (Arc::clone(&one.config.name), Arc::clone(one))).collect())
    }
}

impl forward::Integrations for ByName {
    fn by_name(&self, name: &str) -> Option<Arc<Integration>> {
        self.0.get(name).cloned()
    }
}

/// `dedup` as the log knows it.
struct Kept(Arc<Dedup>);

impl store::States for Kept {
    fn restore(&self, key: StateKey, incident: Incident, at: Position) {
        self.0.restore(key, incident, at);
    }

    fn touched(&self, key: StateKey, iid: Uid, count: u32, last_seen: Micros) {
        self.0.restore_touched(key, iid, count, last_seen);
    }

    fn each(&self, visit: &mut dyn FnMut(StateKey, Incident, Position)) {
        self.0.each(visit);
    }
}

/// `dedup` as the forwarder knows it: a lane with a key has that key's state key.
struct States(Arc<Dedup>);

impl forward::States for States {
    fn undelivered(&self, lane: LaneKey, iid: Uid, upstream: &Arc<UpstreamMeter>) {
        self.0.undelivered(StateKey(lane.0), iid, upstream);
    }

    fn delivered(&self, lane: LaneKey, iid: Uid, upstream: &Arc<UpstreamMeter>) {
        self.0.delivered(StateKey(lane.0), iid, upstream);
    }

    fn current(&self, lane: LaneKey) -> Option<Incident> {
        self.0.incident(StateKey(lane.0))
    }
}

/// The dialects as the sinks need them.
struct Rereader;

impl sink::Reader for Rereader {
    fn read<'a>(&self, event: &'a Event) -> sink::Said<'a> {
        match dialect::reread(event) {
            Some(reread) => sink::Said { content: reread.content, extra: reread.extra },
            // It was accepted, so it must arrive, as well as it can be said.
            None => {
                let title = event.key.as_ref().map_or("an event that can no longer be read", |key| key.canon());
                let warnings = vec![Warning { code: "undecodable", path: Cow::Borrowed("") }];
                let content = Content { title: Some(Cow::Borrowed(title)), warnings, ..Content::default() };
                sink::Said { content, extra: Vec::new() }
            }
        }
    }
}
