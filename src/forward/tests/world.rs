//! The forwarder with everything around it faked: what it stands on, and what it did.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use crate::awaited::Awaiting;
use crate::claim::{Pacing, Position, TakenBack, Targets};
use crate::event::{Action, Event, Incident, Micros, State, Uid};
use crate::forward::wire::{Dial, Exchange, Failure, Wire};
use crate::forward::{DeadLetterLimits, Handle, Integrations, Log, Parts, States, assemble};
use crate::gate::Integration;
use crate::metrics::{INTAKE, Metrics, UpstreamMeter};
use crate::outcome::{DeadReason, DropReason, Outcome};
use crate::sink::samples::{self, SameReader};
use crate::sink::{self, Answer, Kind, Parcel, Sink, UpstreamConfig};
use crate::store::{
    Ask, Dead, Ending, Found, LaneKey, Learned, Next, Outlet, Queued, ReadError, Recovered, Rejected, Remote, Settled,
    Stored, Written,
};

/// A request as the upstream saw it. Events are named by their sequences.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    /// Of vendors' requests: none.
    pub(super) sequences: Vec<u64>,
    pub(super) keys: Vec<String>,
    pub(super) path: String,
    pub(super) body: serde_json::Value,
}

type Reply = dyn Fn(&Seen) -> Result<Answer, Failure> + Send + Sync;

/// An upstream: answers by a rule that tests may change, after `latency`.
pub(super) struct Upstream {
    rule: Mutex<Arc<Reply>>,
    pub(super) latency: Mutex<Duration>,
    seen: Mutex<Vec<Seen>>,
    pub(super) in_flight: Mutex<(usize, usize)>,
}

impl Upstream {
    pub(super) fn answers(&self, rule: impl Fn(&Seen) -> Result<Answer, Failure> + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Arc::new(rule);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Sequences in the order they were sent.
    pub(super) fn sent(&self) -> Vec<u64> {
        self.seen().into_iter().flat_map(|seen| seen.sequences).collect()
    }
}

struct Line(Arc<Upstream>);

impl Wire for Line {
    fn send(&self, parcel: Parcel) -> Exchange {
        let body: serde_json::Value = serde_json::from_slice(&parcel.body).unwrap();
        let events = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
        let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let seen = Seen {
            at: Instant::now(),
            sequences: events
                .iter()
                .filter_map(|event| u64::try_from(Uid::parse(&text(event, "event_uid"))?.0).ok())
                .collect(),
            keys: events.iter().map(|event| text(event, "key")).collect(),
            path: parcel.path.unwrap_or_default(),
            body,
        };
        let upstream = Arc::clone(&self.0);
        upstream.seen.lock().unwrap().push(seen.clone());
        {
            let mut in_flight = upstream.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let rule = Arc::clone(&upstream.rule.lock().unwrap());
        let latency = *upstream.latency.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(latency).await;
            upstream.in_flight.lock().unwrap().0 -= 1;
            rule(&seen)
        })
    }
}

#[derive(Default)]
struct Dials {
    upstreams: Mutex<HashMap<String, Arc<Upstream>>>,
    /// Speaks to all of them instead of their own.
    sink: Mutex<Option<&'static dyn Sink>>,
}

impl Dials {
    fn upstream(&self, name: &str) -> Arc<Upstream> {
        let mut upstreams = self.upstreams.lock().unwrap();
        let fresh = || Upstream {
            rule: Mutex::new(Arc::new(|_: &Seen| Ok(Answer::new(StatusCode::OK)))),
            latency: Mutex::new(Duration::from_millis(1)),
            seen: Mutex::default(),
            in_flight: Mutex::default(),
        };
        Arc::clone(upstreams.entry(name.to_owned()).or_insert_with(|| Arc::new(fresh())))
    }
}

impl Dial for Dials {
    fn dial(&self, config: &UpstreamConfig) -> Arc<dyn Wire> {
        Arc::new(Line(self.upstream(&config.name)))
    }

    fn sink(&self, config: &UpstreamConfig) -> Option<&'static dyn Sink> {
        self.sink.lock().unwrap().or_else(|| sink::of(config.kind))
    }
}

/// An upstream's name for one generation of a lane.
type Named = (String, LaneKey, Uid, Arc<Remote>);

/// The log: records by sequence, what waits, endings in order. A record that is `None` is damaged.
#[derive(Default)]
pub(super) struct MemoryLog {
    records: Mutex<BTreeMap<u64, Option<Stored>>>,
    pacings: Mutex<HashMap<u64, Pacing>>,
    waiting: Mutex<HashMap<(String, String), BTreeSet<u64>>>,
    endings: Mutex<Vec<(String, u64, Ending)>>,
    /// What was learned, oldest first, and how long it takes until that is on disk.
    pub(super) remotes: Mutex<Vec<Named>>,
    pub(super) sync_takes: Mutex<Duration>,
    /// It closes before what it was told is on disk.
    pub(super) closes: Mutex<bool>,
}

fn place(sequence: u64) -> Position {
    Position(sequence * 100)
}

impl MemoryLog {
    fn waits(&self, upstream: &str, integration: &str, sequence: u64) {
        let queue = (upstream.to_owned(), integration.to_owned());
        self.waiting.lock().unwrap().entry(queue).or_default().insert(sequence);
    }
}

impl Log for MemoryLog {
    fn read(&self, sequence: u64, at: Position) -> Result<Stored, ReadError> {
        assert_eq!(at, place(sequence));
        self.event(sequence).map(|(_, stored)| stored)
    }

    fn earlier(&self, at: Position) -> Result<Stored, ReadError> {
        Err(ReadError::Damaged(at))
    }

    fn event(&self, sequence: u64) -> Result<(Position, Stored), ReadError> {
        let at = place(sequence);
        let stored = self.records.lock().unwrap().get(&sequence).cloned().flatten();
        stored.map(|stored| (at, stored)).ok_or(ReadError::Damaged(at))
    }

    fn waiting(&self, upstream: &Arc<UpstreamMeter>, asks: &[Ask]) -> std::io::Result<Vec<Vec<Next>>> {
        let waiting = self.waiting.lock().unwrap();
        let answer = |Ask { integration, after, count }: &Ask| {
            let queue = (upstream.name.to_string(), integration.to_string());
            let sequences = waiting.get(&queue).into_iter().flat_map(|all| all.range(after + 1..)).take(*count);
            let next = sequences.map(|sequence| {
                let found = self.event(*sequence).ok().map(|(at, stored)| {
                    let pacing = self.pacings.lock().unwrap().get(sequence).copied().unwrap_or_default();
                    Found { at, lane: stored.lane, pacing }
                });
                Next { sequence: *sequence, found }
            });
            next.collect()
        };
        Ok(asks.iter().map(answer).collect())
    }

    fn oldest_waiting(&self, upstream: &Arc<UpstreamMeter>) -> Option<u64> {
        let waiting = self.waiting.lock().unwrap();
        let own = waiting.iter().filter(|((name, _), _)| **name == *upstream.name);
        own.filter_map(|(_, all)| all.first().copied()).min()
    }

    fn settle(&self, upstream: &Arc<UpstreamMeter>, integration: &str, sequence: u64, ending: Ending) {
        match ending {
            Ending::Replayed => self.waits(&upstream.name, integration, sequence),
            _ => {
                let queue = (upstream.name.to_string(), integration.to_owned());
                self.waiting.lock().unwrap().entry(queue).or_default().remove(&sequence);
            }
        }
        self.endings.lock().unwrap().push((upstream.name.to_string(), sequence, ending));
    }

    fn settle_durably(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        ending: Ending,
        learned: Option<Learned>,
    ) -> Settled {
        self.settle(upstream, integration, sequence, ending);
        if let Some(Learned { lane, iid, remote }) = learned {
            let mut remotes = self.remotes.lock().unwrap();
            remotes.retain(|(name, on, known, _)| **name != *upstream.name || (*on, *known) != (lane, iid));
            remotes.push((upstream.name.to_string(), lane, iid, Arc::new(remote)));
        }
        let sync_takes = *self.sync_takes.lock().unwrap();
        Box::pin(tokio::time::sleep(sync_takes))
    }

    fn settle_refused(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        _taken: Option<TakenBack>,
    ) -> Written {
        self.settle(upstream, integration, sequence, Ending::Dropped(DropReason::Refused));
        let (sync_takes, closes) = (*self.sync_takes.lock().unwrap(), *self.closes.lock().unwrap());
        Box::pin(async move {
            tokio::time::sleep(sync_takes).await;
            !closes
        })
    }

    fn remote(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>> {
        let remotes = self.remotes.lock().unwrap();
        let known = remotes.iter().find(|known| known.0 == upstream && known.1 == lane && known.2 == iid);
        known.map(|known| Arc::clone(&known.3))
    }

    fn last_remote(&self, upstream: &str, lane: LaneKey) -> Option<Arc<Remote>> {
        let remotes = self.remotes.lock().unwrap();
        let known = remotes.iter().rev().find(|known| known.0 == upstream && known.1 == lane);
        known.map(|known| Arc::clone(&known.3))
    }
}

#[derive(Default)]
pub(super) struct Told {
    pub(super) undelivered: Mutex<Vec<(LaneKey, Uid)>>,
    pub(super) delivered: Mutex<Vec<(LaneKey, Uid)>>,
    pub(super) current: Mutex<HashMap<LaneKey, Incident>>,
    pub(super) numbers: Mutex<HashMap<u64, (LaneKey, Uid)>>,
}

impl States for Told {
    fn undelivered(&self, lane: LaneKey, iid: Uid, _upstream: &Arc<UpstreamMeter>) {
        self.undelivered.lock().unwrap().push((lane, iid));
    }

    fn delivered(&self, lane: LaneKey, iid: Uid, _upstream: &Arc<UpstreamMeter>) {
        self.delivered.lock().unwrap().push((lane, iid));
    }

    fn current(&self, lane: LaneKey) -> Option<Incident> {
        self.current.lock().unwrap().get(&lane).copied()
    }

    fn by_number(&self, integration: &str, _family: &str, number: u64) -> Option<(LaneKey, Uid)> {
        assert_eq!(integration, "payments");
        self.numbers.lock().unwrap().get(&number).copied()
    }
}

struct NoIntegrations;

impl Integrations for NoIntegrations {
    fn by_name(&self, _name: &str) -> Option<Arc<Integration>> {
        None
    }
}

/// An event to be pushed.
#[derive(Clone)]
pub(super) struct Says {
    pub(super) action: Action,
    pub(super) key: Option<String>,
    pub(super) generation: u32,
    pub(super) integration: &'static str,
    pub(super) pacing: Pacing,
    pub(super) received_at: Micros,
    pub(super) targets: Vec<&'static str>,
    pub(super) dialect: &'static str,
    pub(super) endpoint: &'static str,
    pub(super) raw: String,
    pub(super) outcome: Outcome,
}

pub(super) fn says(action: Action, key: &str) -> Says {
    Says {
        action,
        key: Some(key.to_owned()),
        generation: 1,
        integration: "payments",
        pacing: Pacing::default(),
        received_at: Micros::now(),
        targets: vec!["up"],
        dialect: "squadcast",
        endpoint: "v2/incidents/api",
        raw: "{}".to_owned(),
        outcome: Outcome::Created,
    }
}

pub(super) fn trigger(key: &str) -> Says {
    says(Action::Trigger, key)
}

pub(super) struct World {
    pub(super) log: Arc<MemoryLog>,
    dials: Arc<Dials>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) told: Arc<Told>,
    pub(super) awaiting: Arc<Awaiting>,
    pub(super) handle: Option<Arc<Handle>>,
    next: u64,
    recovered: Recovered,
    pub(super) dead_letters: DeadLetterLimits,
}

pub(super) fn config() -> UpstreamConfig {
    samples::upstream("up", Kind::Webhook)
}

impl World {
    /// Not started: events pushed now are found in the log at the start.
    pub(super) fn before_start() -> Self {
        Self {
            log: Arc::default(),
            dials: Arc::default(),
            metrics: Metrics::new(1).unwrap(),
            told: Arc::default(),
            awaiting: Arc::default(),
            handle: None,
            next: 1,
            recovered: Recovered::default(),
            dead_letters: DeadLetterLimits { bytes: 1 << 30, count: 1000 },
        }
    }

    pub(super) fn started(upstreams: &[UpstreamConfig]) -> Self {
        let mut world = Self::before_start();
        world.start(upstreams);
        world
    }

    pub(super) fn start(&mut self, upstreams: &[UpstreamConfig]) {
        let (handle, desk) = assemble(Parts {
            log: self.log.clone(),
            reader: Arc::new(SameReader),
            states: self.told.clone(),
            awaiting: self.awaiting.clone(),
            integrations: Arc::new(NoIntegrations),
            metrics: self.metrics.clone(),
            dial: self.dials.clone(),
            upstreams: upstreams.iter().cloned().map(Arc::new).collect(),
            recovered: std::mem::take(&mut self.recovered),
            dead_letters: self.dead_letters,
        });
        tokio::spawn(desk);
        self.handle = Some(handle);
    }

    pub(super) fn upstream(&self, name: &str) -> Arc<Upstream> {
        self.dials.upstream(name)
    }

    /// Every upstream is spoken to so.
    pub(super) fn speaks(&self, sink: &'static dyn Sink) {
        *self.dials.sink.lock().unwrap() = Some(sink);
    }

    /// The lane of a key of the one integration.
    pub(super) fn lane(key: &str) -> LaneKey {
        LaneKey(crate::event::StateKey::of("payments", "squadcast", key).0)
    }

    pub(super) fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    pub(super) fn iid(generation: u32) -> Uid {
        samples::incident(generation, State::Open).iid
    }

    fn record(&mut self, says: &Says) -> Queued {
        let sequence = self.next;
        self.next += 1;
        let mut incident = samples::incident(says.generation, State::Open);
        if says.key.is_none() {
            incident.iid = Uid(1 << 100 | u128::from(sequence));
        }
        let event = Event {
            uid: Uid(u128::from(sequence)),
            received_at: says.received_at,
            integration: says.integration.into(),
            dialect: says.dialect.into(),
            endpoint: says.endpoint.into(),
            ..samples::event(says.action, says.key.as_deref(), &says.raw)
        };
        let stored = Stored { outcome: says.outcome, ..samples::stored(sequence, event, Some(incident)) };
        let at = place(sequence);
        let targets: Targets = says.targets.iter().map(|name| self.metrics.upstream(name)).collect();
        targets.iter().for_each(|meter| meter.enqueue());
        let lane = stored.lane;
        self.log.records.lock().unwrap().insert(sequence, Some(stored));
        self.log.pacings.lock().unwrap().insert(sequence, says.pacing);
        targets.iter().for_each(|meter| self.log.waits(&meter.name, says.integration, sequence));
        Queued { sequence, at, lane, integration: says.integration.into(), targets, pacing: says.pacing }
    }

    /// Elements that were rejected at intake, as the log's writer hands them on.
    pub(super) fn keep_rejected(&mut self, count: usize) {
        let intake = self.metrics.upstream(INTAKE);
        let mut letters = vec![];
        for _ in 0..count {
            let Queued { sequence, at, lane, integration, .. } =
                self.record(&Says { key: None, targets: vec![], ..trigger("") });
            if let Some(Some(stored)) = self.log.records.lock().unwrap().get_mut(&sequence) {
                stored.event.view = Some(r#"["labels: missing"]"#.into());
            }
            intake.keep_rejected(DeadReason::InvalidEvent.name());
            letters.push(Rejected {
                sequence,
                at,
                lane,
                integration,
                event_uid: Uid(sequence.into()),
                action: Action::Trigger,
                reason: DeadReason::InvalidEvent,
                rejected_at: Micros::now(),
                bytes: 300,
            });
        }
        self.handle().keep_rejected(&mut letters);
    }

    pub(super) fn push(&mut self, says: &Says) -> u64 {
        self.push_all(std::slice::from_ref(says))
    }

    /// Pushes a batch, and returns the first sequence.
    pub(super) fn push_all(&mut self, all: &[Says]) -> u64 {
        let mut batch: Vec<Queued> = all.iter().map(|says| self.record(says)).collect();
        let first = batch[0].sequence;
        match &self.handle {
            Some(handle) => handle.push(&mut batch),
            None => {
                self.recovered.first_sequence = self.next;
                for queued in &batch {
                    for meter in queued.targets.iter() {
                        let queue = (Arc::clone(meter), Arc::clone(&queued.integration));
                        if !self
                            .recovered
                            .queues
                            .iter()
                            .any(|(known, name)| known.name == queue.0.name && *name == queue.1)
                        {
                            self.recovered.queues.push(queue);
                        }
                    }
                    if queued.pacing.has(Pacing::UNKNOWN) {
                        self.recovered.unknown_waiting.push((Arc::clone(&queued.integration), 1));
                    }
                }
            }
        }
        first
    }

    /// A dead letter that the log tells of at the start.
    pub(super) fn was_dead(&mut self, says: &Says) -> u64 {
        let queued = self.record(says);
        let meter = Arc::clone(&queued.targets[0]);
        meter.bury("refused");
        let sequence = queued.sequence;
        for all in self.log.waiting.lock().unwrap().values_mut() {
            all.remove(&sequence);
        }
        self.recovered.dead.push(Dead {
            sequence,
            upstream: meter,
            integration: Arc::clone(&queued.integration),
            reason: DeadReason::Refused,
            status: Some(400),
            attempts: 1,
            at: samples::AT,
        });
        sequence
    }

    pub(super) fn damage(&self, sequence: u64) {
        self.log.records.lock().unwrap().insert(sequence, None);
    }

    pub(super) fn endings(&self) -> Vec<(u64, Ending)> {
        self.log.endings.lock().unwrap().iter().map(|(_, sequence, ending)| (*sequence, *ending)).collect()
    }

    pub(super) fn delivered(&self) -> Vec<u64> {
        let delivered = self.endings().into_iter().filter(|(_, ending)| matches!(ending, Ending::Delivered { .. }));
        delivered.map(|(sequence, _)| sequence).collect()
    }

    pub(super) fn dead(&self) -> Vec<(u64, DeadReason)> {
        let dead = self.endings().into_iter().filter_map(|(sequence, ending)| match ending {
            Ending::Dead { reason, .. } => Some((sequence, reason)),
            _ => None,
        });
        dead.collect()
    }

    /// Lets virtual time pass until there are so many endings.
    pub(super) async fn until_endings(&self, count: usize) {
        for _ in 0..10_000_000 {
            if self.endings().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(self.endings().len() >= count, "{} of {count} endings", self.endings().len());
        self.check_books();
    }

    /// Lets virtual time pass.
    pub(super) async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        self.check_books();
    }

    pub(super) fn check_books(&self) {
        // What is kept at the intake stands outside the identity.
        for meter in self.metrics.upstreams().into_iter().filter(|meter| *meter.name != *INTAKE) {
            assert!(meter.book().balances(), "{}: {:?}", meter.name, meter.book());
        }
    }
}

pub(super) fn status(code: u16) -> Result<Answer, Failure> {
    Ok(Answer::new(StatusCode::from_u16(code).unwrap()))
}

pub(super) fn after(code: u16, seconds: &str) -> Result<Answer, Failure> {
    let mut answer = Answer::new(StatusCode::from_u16(code).unwrap());
    answer.headers.insert(hyper::header::RETRY_AFTER, seconds.parse().unwrap());
    Ok(answer)
}

pub(super) fn refused_connection() -> Result<Answer, Failure> {
    Err(Failure { text: "connection refused".to_owned(), perhaps_sent: false })
}

pub(super) fn lost_answer() -> Result<Answer, Failure> {
    Err(Failure { text: "connection reset".to_owned(), perhaps_sent: true })
}
