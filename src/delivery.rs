//! The half of the product behind the answer: the log with the states, and the forwarder over both. Opened, joined and
//! stopped here for `app`, which lets events in before it, and for `spool`, which works on what is there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::awaited::{Awaited, Awaiting};
use crate::claim::{ById, Position, Scope, TakenBack, Targets};
use crate::dedup::{self, Dedup};
use crate::event::{Content, Event, Incident, Micros, StateKey, Uid};
use crate::gate::{Fleet, Integration, IntegrationConfig, Whom};
use crate::metrics::{Metrics, UpstreamMeter};
use crate::sink::{self, Reach, Statement, UpstreamConfig};
use crate::spans::Spans;
use crate::store::{self, LaneKey, Learned, Recovered, Store};
use crate::{dialect, forward};

/// Dead letters take at most this part of the spool (DESIGN 4),
const DEAD_LETTER_PART: u64 = 10;
/// and, at some 256 B each, a quarter of the index's memory.
const DEAD_LETTER_MEMORY: u64 = 1024;
/// Longest wait for upstream requests under way when stopping; what did not end is sent again after the start.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why nothing can be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("TLS towards upstreams cannot be set up: {0}")]
    Tls(rustls::Error),
}

/// The log, recovered, and the states that it told. Nothing runs yet.
pub struct Opened {
    pub dedup: Arc<Dedup>,
    pub store: Arc<Store>,
    pub recovered: Recovered,
    metrics: Arc<Metrics>,
    dead_letters: forward::DeadLetterLimits,
}

/// Opens or makes the spool and puts everything back that its log tells. `workers`: threads that take requests in.
///
/// # Errors
/// Another process owns the directory, or it cannot be used at all; never what stands in it.
pub fn open(
    spool: store::Config,
    dedup: dedup::Config,
    metrics: &Arc<Metrics>,
    workers: usize,
) -> Result<Opened, store::OpenError> {
    let dedup = Dedup::new(dedup, Arc::clone(metrics));
    let dead_letters = forward::DeadLetterLimits {
        bytes: spool.max_bytes / DEAD_LETTER_PART,
        count: usize::try_from(spool.index_bytes / DEAD_LETTER_MEMORY).unwrap_or(usize::MAX),
    };
    let (store, recovered) = Store::open(spool, metrics, workers, Arc::new(Kept(Arc::clone(&dedup))))?;
    dedup.restore_number(recovered.highest_number);
    if let Ok(jump @ 1..) = u64::try_from(recovered.clock_jump_micros) {
        let jump = Duration::from_micros(jump);
        let days = jump.as_secs() / (24 * 3600);
        tracing::warn!(days, "the spool was last written more than 7 days ago by this clock: the time does not count");
        dedup.shift_clock(jump);
    }
    tracing::info!(
        waiting = recovered.waiting,
        dead_letters = recovered.dead.len(),
        keys = dedup.entries(),
        damaged = recovered.damaged_records,
        "spool recovered"
    );
    Ok(Opened { dedup, store, recovered, metrics: Arc::clone(metrics), dead_letters })
}

impl Opened {
    /// Starts the forwarder and the log's writer.
    ///
    /// # Errors
    /// A thread cannot be made, or TLS cannot be set up.
    pub fn start(
        self,
        integrations: &[Arc<Integration>],
        upstreams: Vec<UpstreamConfig>,
        spans: Spans,
    ) -> Result<Delivery, StartError> {
        let Self { dedup, store, recovered, metrics, dead_letters } = self;
        let integrations = Arc::new(ByName::new(integrations));
        let awaiting = Arc::<Awaiting>::default();
        let forward = forward::start(forward::Parts {
            log: Arc::clone(&store) as Arc<dyn forward::Log>,
            reader: Arc::new(Rereader),
            states: Arc::new(States(Arc::clone(&dedup))),
            awaiting: Arc::clone(&awaiting),
            integrations: Arc::clone(&integrations) as Arc<dyn forward::Integrations>,
            metrics,
            dial: Arc::new(forward::wire::Dialer::new(None).map_err(StartError::Tls)?.traced(spans)),
            upstreams: upstreams.into_iter().map(Arc::new).collect(),
            recovered,
            dead_letters,
        })
        .map_err(StartError::Thread)?;
        store.start(Arc::clone(&forward) as Arc<dyn store::Outlet>);
        Ok(Delivery { dedup, store, forward, awaiting, integrations })
    }
}

/// Everything behind the answer, running.
pub struct Delivery {
    pub dedup: Arc<Dedup>,
    pub store: Arc<Store>,
    pub forward: Arc<forward::Handle>,
    /// Events whose senders wait for their delivery.
    pub awaiting: Arc<Awaiting>,
    integrations: Arc<ByName>,
}

impl Delivery {
    /// What a reload changes here.
    pub fn changer(&self) -> Changer {
        Changer {
            dedup: Arc::clone(&self.dedup),
            forward: Arc::clone(&self.forward),
            integrations: Arc::clone(&self.integrations),
        }
    }

    /// Stops in order: sends under way end, within 10 s, then the log is closed with a checkpoint.
    pub async fn stop(self) {
        let at_rest = self.forward.stop(STOP_MAX).await;
        let store = self.store;
        if at_rest {
            store.is_at_rest();
        }
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

/// What takes a changed configuration behind the answer.
pub struct Changer {
    dedup: Arc<Dedup>,
    forward: Arc<forward::Handle>,
    integrations: Arc<ByName>,
}

impl Changer {
    /// Takes the integrations and upstreams of a reloaded configuration. Upstreams that it no longer names keep their
    /// events (DESIGN 5.5). Returns once they are in force.
    pub async fn change(
        &self,
        integrations: &[Arc<Integration>],
        upstreams: Vec<UpstreamConfig>,
        redeliver_after: Duration,
    ) {
        self.integrations.set(integrations);
        self.forward.configure(upstreams.into_iter().map(Arc::new).collect()).await;
        self.dedup.set_redeliver_after(redeliver_after);
    }
}

/// The integrations as they run: with their limits, and the meters of their upstreams. `before`: those that they
/// replace, whose limits go on where they did not change. `fleet`: who holds event limits over all replicas.
pub fn integrations(
    configs: &[IntegrationConfig],
    upstreams: &[UpstreamConfig],
    metrics: &Metrics,
    before: &[Arc<Integration>],
    fleet: Option<&dyn Fleet>,
) -> Vec<Arc<Integration>> {
    let before: HashMap<&str, &Integration> = before.iter().map(|one| (&*one.config.name, &**one)).collect();
    let live = configs.iter().map(|config| {
        let kind = |name: &Arc<str>| upstreams.iter().find(|upstream| upstream.name == *name).map(|one| one.kind);
        let targets: Vec<_> =
            config.upstreams.iter().filter_map(|name| Some((kind(name)?, metrics.upstream(name)))).collect();
        let whom = Box::new(ByStatement(Reach::new(&targets)));
        Arc::new(Integration::in_fleet(config.clone(), whom, before.get(&*config.name).copied(), fleet))
    });
    live.collect()
}

/// Which of an integration's upstreams can be told what (contracts 7): made with the integrations, asked on the path. An
/// upstream that is not configured is told nothing.
pub fn reach(integration: &IntegrationConfig, upstreams: &[UpstreamConfig], metrics: &Metrics) -> sink::Reach {
    let find = |name: &Arc<str>| upstreams.iter().find(|upstream| upstream.name == *name);
    let configured = integration.upstreams.iter().filter_map(find);
    let upstreams: Vec<_> = configured.map(|upstream| (upstream.kind, metrics.upstream(&upstream.name))).collect();
    sink::Reach::new(&upstreams)
}

/// The integrations as the forwarder asks for them.
struct ByName(ArcSwap<HashMap<Arc<str>, Arc<Integration>>>);

impl ByName {
    fn new(integrations: &[Arc<Integration>]) -> Self {
        Self(ArcSwap::from_pointee(Self::map(integrations)))
    }

    fn set(&self, integrations: &[Arc<Integration>]) {
        self.0.store(Arc::new(Self::map(integrations)));
    }

    fn map(integrations: &[Arc<Integration>]) -> HashMap<Arc<str>, Arc<Integration>> {
        integrations.iter().map(|one| (Arc::clone(&one.config.name), Arc::clone(one))).collect()
    }
}

impl forward::Integrations for ByName {
    fn by_name(&self, name: &str) -> Option<Arc<Integration>> {
        self.0.load().get(name).cloned()
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

    fn taken_back(&self, taken: &TakenBack) {
        self.0.restore_taken_back(taken);
    }

    fn each(&self, visit: &mut dyn FnMut(StateKey, Incident, Position)) {
        self.0.each(visit);
    }

    fn restore_by_id(&self, row: ById) {
        self.0.restore_row(row);
    }

    fn each_by_id(&self, visit: &mut dyn FnMut(ById)) {
        self.0.each_row(visit);
    }

    fn lives(&self, key: StateKey, iid: Uid) -> bool {
        self.0.incident(key).is_some_and(|incident| incident.iid == iid)
    }

    fn at(&self, key: StateKey) -> Option<(Incident, Position)> {
        self.0.incident_at(key)
    }

    fn moved(&self, key: StateKey, iid: Uid, from: Position, to: Position) {
        self.0.moved(key, iid, from, to);
    }
}

/// The sinks as the gate knows them.
struct ByStatement(Reach);

impl Whom for ByStatement {
    fn raised(&self, event: &Event) -> &Targets {
        self.0.raised(Statement::of(event))
    }

    fn targets(&self, event: &Event) -> &Targets {
        self.0.targets(Statement::of(event))
    }

    fn is_done(&self, event: &Event) -> bool {
        self.0.is_done(Statement::of(event))
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

    fn take_back(&self, lane: LaneKey, awaited: &Awaited) -> Option<Option<TakenBack>> {
        self.0.take_back(StateKey(lane.0), awaited)
    }

    fn taken_back(&self, key: StateKey) {
        self.0.taken_back(key);
    }

    fn current(&self, lane: LaneKey) -> Option<Incident> {
        self.0.incident(StateKey(lane.0))
    }

    fn look(&self, lane: LaneKey, upstream: &Arc<str>, received_at: Micros) -> Option<dedup::Looking> {
        self.0.look(StateKey(lane.0), upstream, received_at)
    }

    fn left(&self, lane: LaneKey, upstream: &Arc<str>, sequence: u64, rest: dedup::Rest) {
        self.0.left(StateKey(lane.0), upstream, sequence, rest);
    }

    fn learned(&self, learned: &Learned, upstream: &Arc<str>) {
        self.0.learned(StateKey(learned.lane.0), upstream, learned.iid, &learned.remote);
    }

    fn waits_until(&self, lane: LaneKey) -> Option<tokio::time::Instant> {
        self.0.waits_until(StateKey(lane.0))
    }

    fn by_number(&self, integration: &str, family: &str, number: u64) -> Option<(LaneKey, Uid)> {
        let row = self.0.by_number(Scope::of(integration, family), number)?;
        Some((LaneKey(row.key.0), row.iid))
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
                let mut content = Content { title: Some(Cow::Borrowed(title)), ..Content::default() };
                content.warn("undecodable", "");
                sink::Said { content, extra: Vec::new() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
