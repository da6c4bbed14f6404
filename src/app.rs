//! Builds the rooms, joins them, starts and stops them in order. The only room that knows all others.

mod look;
mod reload;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::admin::{self, Access, Desk, Door, Operator, Trigger};
use crate::config::Config;
use crate::dedup::Dedup;
use crate::delivery::{self, Delivery};
use crate::dialect::Passed;
use crate::event::Micros;
use crate::forward::{self, wire};
use crate::gate::Fleet;
use crate::intake::Intake;
use crate::listen::{self, Listener, tls};
use crate::metrics::Metrics;
#[cfg(feature = "otel")]
use crate::otlp;
use crate::redis::replica::TakeError;
use crate::redis::{Claims, KEYS_MAX, Limits, Link, Replica};
use crate::sns::Amazon;
#[cfg(not(feature = "otel"))]
use crate::spans::Spans;
use crate::store::{self, Store};
use crate::tap::Tap;
use reload::Reloader;
pub use reload::{Again, Load};

/// How often what outlived its time is forgotten, and at most how often the log is told of an incident that it was
/// seen again (DESIGN 5.6).
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// A start waits so long for Redis.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(1);

/// An end waits so long until Redis knows all that was decided here.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the spool cannot be opened: {0}")]
    Spool(#[from] store::OpenError),
    #[error(transparent)]
    Listen(#[from] listen::Refused),
    #[error("listen.ingest.tls: {0}")]
    Tls(#[from] tls::TlsErrors),
    #[error(transparent)]
    Delivery(#[from] delivery::StartError),
    #[error("redis: {0}")]
    Redis(#[from] crate::redis::link::StartError),
    #[error(transparent)]
    Replica(#[from] TakeError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(String),
}

impl StartError {
    /// The configuration has to be changed: trying again does not help.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Redis(_) | Self::Replica(TakeError::Held { .. }))
    }

    /// A service that is needed cannot be reached just now.
    pub fn is_unreached(&self) -> bool {
        matches!(self, Self::Replica(TakeError::Unreached))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spool(error) => error.hint(),
            Self::Tls(_) => Some("`surgegate validate` looks at the files as a start does".to_owned()),
            Self::Listen(refused) => Some(refused.hint()),
            Self::Replica(error) => error.hint(),
            Self::Redis(_) | Self::Delivery(_) | Self::Metrics(_) => None,
        }
    }
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
    reloader: Arc<Reloader>,
    listener: Listener,
    delivery: Delivery,
    tap: Arc<Tap>,
    /// Goes last: what is settled while stopping is still told.
    _redis: Option<Arc<Link>>,
    claims: Option<Arc<Claims>>,
    tasks: Vec<JoinHandle<()>>,
    #[cfg(feature = "otel")]
    exporter: Option<otlp::Exporter>,
}

impl App {
    /// Recovers the spool, then starts forwarding, then listens: an event finds everything behind it ready. Dropped
    /// during the recovery, that goes on until the process ends, which may be at once: as a kill it does no harm.
    ///
    /// # Errors
    /// Whatever keeps it from accepting durably; nothing is left running.
    pub async fn start(mut config: Config, again: Again) -> Result<Self, StartError> {
        let began = Micros::now();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let metrics = Metrics::new(workers).map_err(|error| StartError::Metrics(error.to_string()))?;
        let redis = config.redis.as_ref().map(|redis| Link::start(redis, &metrics)).transpose()?;
        let tls = config.ingest.tls.as_ref().map(tls::load).transpose()?;
        // Ports first: one that is taken is told before the log is touched. Ingest is listened on last.
        let address = config.ingest.address;
        let ingest_failed = |source| listen::Refused { door: "ingest", address, source };
        let ingest = listen::bind(address).map_err(ingest_failed)?;
        let observe = bind("observe", config.observe).await?;
        let admin = bind("admin", config.admin.address).await?;

        let mut replica = None;
        let fleet = match &redis {
            Some(link) => {
                let taken = replica.insert(Replica::take(link, &config.spool.directory).await?);
                config.dedup.replica_id = taken.id();
                Some(Arc::new(Limits::start(link, taken, &metrics)) as Arc<dyn Fleet>)
            }
            None => None,
        };
        let integrations =
            delivery::integrations(&config.integrations, &config.upstreams, &metrics, &[], fleet.as_deref());
        let (opened, left) = recover(&config, &metrics, workers).await?;
        #[cfg(not(feature = "otel"))]
        let spans = Spans::default();
        #[cfg(feature = "otel")]
        let (spans, exporter) = otlp::start(&|name| std::env::var(name).ok()).unwrap_or_else(|error| {
            // These variables are often set for a whole cluster: what they say to others keeps no alert out.
            tracing::warn!(%error, "no spans are exported");
            Default::default()
        });
        // Before anything is forwarded: others hear of what leaves.
        let claims = match (&config.redis, &redis, &replica) {
            (Some(settings), Some(link), Some(replica)) => {
                Some(Claims::join(settings, link, replica, &opened.dedup, left))
            }
            _ => None,
        };
        let delivery = opened.start(&integrations, config.upstreams.clone(), spans.clone())?;
        let Delivery { dedup, store, forward, .. } = &delivery;
        if let Some(claims) = &claims {
            if !claims.is_joined(JOIN_WAIT_MAX).await {
                // What comes before the states are shared is decided alone.
                tracing::warn!("Redis is not there yet: this replica begins with what it knows itself");
            } else if !claims.is_put_back(JOIN_WAIT_MAX).await {
                tracing::debug!("more states are put back than a start waits for");
            }
        }

        let (line, asked) = (Arc::clone(forward), Arc::clone(forward));
        let tap = Arc::<Tap>::default();
        let intake = Arc::new(Intake::new(
            reload::terms(&config, &integrations),
            Arc::clone(dedup),
            Arc::clone(store),
            Arc::clone(&metrics),
            Arc::clone(&delivery.awaiting),
            Box::new(move |integration| line.unknown_line_is_full(integration)),
            Box::new(move |question| ask_upstream(&asked, question)),
            Arc::clone(&tap),
            Arc::new(Amazon::new(wire::public_trust().map_err(delivery::StartError::Tls)?)),
            spans,
        ));
        let listener =
            Listener::start(config.ingest.clone(), tls, ingest, Arc::clone(&intake), workers).map_err(ingest_failed)?;

        let draining = Arc::new(AtomicBool::new(false));
        let settings = Arc::new(ArcSwap::from_pointee(reload::settings(&config)));
        let rooms = reload::Rooms {
            intake: Arc::clone(&intake),
            listener: listener.controls(),
            delivery: delivery.changer(),
            settings: Arc::clone(&settings),
            fleet,
        };
        let reloader = Reloader::new(&config, integrations, again, rooms, Arc::clone(&metrics));
        let addresses = Addresses { ingest: listener.address(), observe: observe.1, admin: admin.1 };
        let desk = Arc::new(Desk {
            redis: redis.clone().zip(replica.clone()),
            metrics,
            store: Arc::clone(store),
            dedup: Arc::clone(dedup),
            forward: Arc::clone(forward),
            durability: config.spool.durability,
            draining: Arc::clone(&draining),
            began,
            access: Access::new(Arc::clone(&settings), admin.1),
            settings,
            operator: Arc::clone(&reloader) as Arc<dyn Operator>,
            intake,
            tap: Arc::clone(&tap),
            searching: Arc::new(Semaphore::new(1)),
            live: admin::Live::default(),
        });
        let tasks = vec![
            tokio::spawn(watch::run(Arc::clone(&reloader))),
            tokio::spawn(admin::serve(Door::Observe, observe.0, Arc::clone(&desk))),
            tokio::spawn(admin::serve(Door::Admin, admin.0, Arc::clone(&desk))),
            tokio::spawn(admin::watch(desk, config.spool.directory.clone())),
            tokio::spawn(keep_states(Arc::clone(dedup), Arc::clone(store))),
        ];
        Ok(Self {
            addresses,
            draining,
            reloader,
            listener,
            delivery,
            tap,
            _redis: redis,
            claims,
            tasks,
            #[cfg(feature = "otel")]
            exporter,
        })
    }

    /// How long the listener goes on while readiness is down.
    pub fn drain_time(&self) -> Duration {
        self.reloader.drain()
    }

    /// Has the configuration read again and taken, or nothing changed; the log says which. Does not wait: a file that
    /// cannot be read just now must not keep a signal from ending the process.
    pub fn reload(&self) {
        drop(Arc::clone(&self.reloader).reload(Trigger::Signal));
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
        if let Some(claims) = self.claims {
            claims.leave(LEAVE_MAX).await;
        }
        #[cfg(feature = "otel")]
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Opens the spool beside the runtime: a recovery takes its time, and a signal must be heard meanwhile. With what waits
/// there, where other replicas ask for it.
async fn recover(
    config: &Config,
    metrics: &Arc<Metrics>,
    workers: usize,
) -> Result<(delivery::Opened, Vec<store::Left>), StartError> {
    let (spool, dedup, metrics) = (config.spool.clone(), config.dedup.clone(), Arc::clone(metrics));
    let asks = config.redis.as_ref().is_some_and(crate::redis::Config::asks);
    let opening = tokio::task::spawn_blocking(move || {
        let opened = delivery::open(spool, dedup, &metrics, workers)?;
        let left = if asks { opened.store.left(&opened.recovered, KEYS_MAX) } else { Vec::new() };
        Ok::<_, store::OpenError>((opened, left))
    });
    match opening.await {
        Ok(opened) => Ok(opened?),
        // It cannot be cancelled: a defect of ours, told as every other.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A whole answer alone counts: half a list would be taken for all of it.
fn ask_upstream(forward: &forward::Handle, question: Passed) -> BoxFuture<'static, Option<(StatusCode, Bytes)>> {
    let answer = forward.question(question.upstream, question.path);
    answer.map(|answer| answer.filter(|answer| answer.complete).map(|answer| (answer.status, answer.body))).boxed()
}

async fn bind(door: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| listen::Refused { door, address, source };
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
