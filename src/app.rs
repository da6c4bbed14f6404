//! Builds the rooms, joins them, starts and stops them in order. The only room that knows all others.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::admin::{self, Access, Desk, Door};
use crate::config::Config;
use crate::dedup::Dedup;
use crate::delivery::{self, Delivery};
use crate::event::Micros;
use crate::gate::{Keys, UnauthenticatedBucket};
use crate::intake::Intake;
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::store::{self, Durability, Store};
use crate::tap::Tap;

/// How often what outlived its time is forgotten, and at most how often the log is told of an incident that it was
/// seen again (DESIGN 5.6).
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the spool cannot be opened: {0}")]
    Spool(#[from] store::OpenError),
    #[error("cannot listen on {address} ({door}): {source}")]
    Listen { door: &'static str, address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Delivery(#[from] delivery::StartError),
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
    delivery: Delivery,
    tap: Arc<Tap>,
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

        let durability = config.spool.durability;
        let integrations = delivery::integrations(config.integrations, &metrics);
        let opened = delivery::open(config.spool, config.dedup, &metrics, workers)?;
        let delivery = opened.start(&integrations, config.upstreams)?;
        let Delivery { dedup, store, forward } = &delivery;

        let unauthenticated =
            NonZeroU32::new(config.ingest.unauthenticated_requests_per_second).unwrap_or(NonZeroU32::MIN);
        let line = Arc::clone(forward);
        let tap = Arc::<Tap>::default();
        let intake = Arc::new(Intake::new(
            Keys::new(integrations),
            Arc::clone(dedup),
            Arc::clone(store),
            Arc::clone(&metrics),
            config.body,
            config.ingest.uri_bytes,
            UnauthenticatedBucket::new(unauthenticated),
            Box::new(move |integration| line.unknown_line_is_full(integration)),
            Arc::clone(&tap),
        ));
        let address = config.ingest.address;
        let listener = Listener::start(config.ingest, Arc::clone(&intake), workers)
            .map_err(|source| StartError::Listen { door: "ingest", address, source })?;

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
            store: Arc::clone(store),
            dedup: Arc::clone(dedup),
            forward: Arc::clone(forward),
            durability,
            draining: Arc::clone(&draining),
            began,
            warnings,
            access: Access::new(config.admin.token.as_deref(), admin.1),
            intake,
            tap: Arc::clone(&tap),
            searching: Arc::new(Semaphore::new(1)),
        });
        let tasks = vec![
            tokio::spawn(admin::serve(Door::Observe, observe.0, Arc::clone(&desk))),
            tokio::spawn(admin::serve(Door::Admin, admin.0, desk)),
            tokio::spawn(keep_states(Arc::clone(dedup), Arc::clone(store))),
        ];
        Ok(Self { addresses, draining, drain: config.drain, listener, delivery, tap, tasks })
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
        // No more decisions: who watches gets the end of the stream while the rest stops.
        self.tap.close();
        self.delivery.stop().await;
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
