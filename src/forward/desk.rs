//! The forwarder's thread: takes what came, sends what may go, waits for whatever is next. What becomes
//! of an event after its answer is in `settle`.

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::awaited::{Refused, Told};
use super::circuit::{State, Ticket};
use super::handle::{Command, Head, Mailbox, UpstreamStatus};
use super::lanes::{IntegrationNumber, Stage, Waiting, Want};
use super::lines::{Lines, Place};
use super::remote::{HalfSent, LOOK_AGAIN};
use super::replay::Paced;
use super::upstream::{Door, Route, Upstream};
use super::wire::{Dial, Failure};
use super::{DeadLetterLimits, Integrations, Log, Map, Parts, States};
use crate::awaited::Awaiting;
use crate::claim::Pacing;
use crate::dedup::Look;
use crate::event::{Action, Event, Micros, Uid};
use crate::metrics::{INTAKE, Metrics, UpstreamMeter};
use crate::outcome::{DeadReason, DropReason};
use crate::sink::{Answer, Encoded, Reader, Sink, Unsaid, UpstreamConfig};
use crate::store::{Ask, Found, LaneKey, Next, Queued, ReadError, Recovered, Stored};

/// Lanes one upstream may work off before the others, and answers, get their turn.
const TURNS_MAX: usize = 256;
/// How often gauges of ages are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);
/// Most events taken from the log at once: what else the thread has to do waits for it.
const TAKEN_AT_ONCE: usize = 1024;
/// Turns that were granted to events that some upstream has not taken from the log; beyond it some take a second.
const GRANTED_MAX: usize = 100_000;

/// One event of a request under way.
#[derive(Clone, Copy)]
pub(super) struct Cargo {
    pub(super) lane: LaneKey,
    pub(super) sequence: u64,
    pub(super) uid: Uid,
    pub(super) iid: Option<Uid>,
    pub(super) action: Action,
    pub(super) received_at: Micros,
    /// Of its trace; 0: none.
    pub(super) trace_id: u128,
    /// Of its record, about.
    pub(super) bytes: u32,
    /// Which of its requests this is, and how many there are.
    pub(super) step: usize,
    pub(super) steps: usize,
    /// It is not sent again if it may have arrived.
    pub(super) once: bool,
}

impl Cargo {
    /// Of which nothing is known but its place.
    pub(super) fn unread(lane: LaneKey, sequence: u64) -> Self {
        Self {
            lane,
            sequence,
            uid: Uid::default(),
            iid: None,
            action: Action::Change,
            received_at: Micros::default(),
            trace_id: 0,
            bytes: 0,
            step: 0,
            steps: 1,
            once: false,
        }
    }

    /// As the log writes the trace.
    pub(super) fn trace(&self) -> Option<String> {
        (self.trace_id != 0).then(|| format!("{:032x}", self.trace_id))
    }

    /// In one request, that may be repeated.
    pub(super) fn of(stored: &Stored, lane: LaneKey, sequence: u64) -> Self {
        let event = &stored.event;
        Self {
            lane,
            sequence,
            uid: event.uid,
            iid: stored.incident.map(|incident| incident.iid),
            action: event.action,
            received_at: event.received_at,
            trace_id: event.trace.as_ref().map_or(0, |trace| trace.id),
            bytes: record_bytes(event),
            step: 0,
            steps: 1,
            once: false,
        }
    }
}

/// Bytes of a record beside the body, about.
const RECORD_BYTES: usize = 300;

/// Bytes of an event's record, about.
pub(super) fn record_bytes(event: &Event) -> u32 {
    u32::try_from(event.raw.len() + RECORD_BYTES).unwrap_or(u32::MAX)
}

/// A request that has ended.
pub(super) struct Landed {
    pub(super) upstream: usize,
    pub(super) cargo: Vec<Cargo>,
    pub(super) ticket: Ticket,
    pub(super) config: Arc<UpstreamConfig>,
    pub(super) sink: &'static dyn Sink,
    pub(super) result: Result<Answer, Failure>,
}

/// What the thread waits for.
pub(super) enum Done {
    Landed(Landed),
    /// What an event taught is on disk: its lane goes on.
    Written(usize, Cargo, Option<Told>),
    /// A question was answered, or not, and who asked was told.
    Asked,
    /// The severities of an account.
    Listed(usize, Arc<UpstreamConfig>, Option<Answer>),
    /// Whether the ending of an event that was refused while its sender waits is on disk.
    Refused(Refused, bool),
    /// What other replicas have waiting before a lane's head: upstream, and its event.
    Looked(usize, Cargo, Look),
}

pub(super) type Flight = Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) struct Desk {
    pub(super) log: Arc<dyn Log>,
    pub(super) reader: Arc<dyn Reader>,
    pub(super) states: Arc<dyn States>,
    pub(super) awaiting: Arc<Awaiting>,
    integrations: Arc<dyn Integrations>,
    pub(super) metrics: Arc<Metrics>,
    dial: Arc<dyn Dial>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) upstreams: Vec<Upstream>,
    places: Map<Arc<str>, usize>,
    pub(super) integration_names: Vec<Arc<str>>,
    integration_numbers: Map<Arc<str>, IntegrationNumber>,
    lines: Map<IntegrationNumber, Lines>,
    pub(super) flights: FuturesUnordered<Flight>,
    /// Events of which some requests were taken and some are still to be sent, by upstream and sequence.
    pub(super) half_sent: Map<(usize, u64), HalfSent>,
    /// Events for which other replicas were asked what the upstream calls their incident.
    pub(super) sought: HashSet<(usize, u64)>,
    /// Events that were refused at the upstream that counts, and are not sent here either, by upstream and sequence.
    pub(super) withdrawn: BTreeSet<(usize, u64)>,
    /// Replayed events that wait, by upstream and sequence: their time to give up runs from here.
    pub(super) replayed_at: Map<(usize, u64), Micros>,
    /// Turns that events were granted which another upstream has yet to take from the log.
    granted: BTreeSet<u64>,
    /// Dead letters that are released one after another.
    pub(super) paced: Option<Paced>,
    pub(super) limits: DeadLetterLimits,
    /// Events before it came to a process before this one,
    pub(super) first_sequence: u64,
    /// and those before this one are by so much younger than their stamps say (DESIGN 5.6).
    jump_before: u64,
    jump_micros: i64,
}

impl Desk {
    /// The parts but the upstreams and what was recovered: `configure` and `load` take those.
    pub(super) fn new(parts: Parts, mailbox: Arc<Mailbox>) -> Self {
        let Parts { log, reader, states, awaiting, integrations, metrics, dial, dead_letters, .. } = parts;
        Self {
            log,
            reader,
            states,
            awaiting,
            integrations,
            metrics,
            dial,
            mailbox,
            upstreams: Vec::new(),
            places: Map::default(),
            integration_names: Vec::new(),
            integration_numbers: Map::default(),
            lines: Map::default(),
            flights: FuturesUnordered::new(),
            half_sent: Map::default(),
            sought: HashSet::new(),
            withdrawn: BTreeSet::new(),
            replayed_at: Map::default(),
            granted: BTreeSet::new(),
            paced: None,
            limits: dead_letters,
            first_sequence: 0,
            jump_before: 0,
            jump_micros: 0,
        }
    }

    /// Takes the configured upstreams; those not named keep their events and send nothing.
    pub(super) fn configure(&mut self, configs: &[Arc<UpstreamConfig>]) {
        for config in configs {
            let meter = self.metrics.upstream(&config.name);
            self.place_of(&meter);
        }
        for upstream in &mut self.upstreams {
            let config = configs.iter().find(|config| config.name == upstream.meter.name);
            upstream.configure(config, &*self.dial);
        }
        self.set_gauges();
    }

    pub(super) fn place_of(&mut self, meter: &Arc<UpstreamMeter>) -> usize {
        if let Some(place) = self.places.get(&meter.name) {
            return *place;
        }
        self.places.insert(Arc::clone(&meter.name), self.upstreams.len());
        self.upstreams.push(Upstream::new(Arc::clone(meter)));
        self.upstreams.len() - 1
    }

    pub(super) fn integration_number(&mut self, name: &Arc<str>) -> IntegrationNumber {
        if let Some(number) = self.integration_numbers.get(name) {
            return *number;
        }
        // As many as there ever were configured integrations.
        let number = IntegrationNumber::try_from(self.integration_names.len()).unwrap_or(IntegrationNumber::MAX);
        self.integration_names.push(Arc::clone(name));
        self.integration_numbers.insert(Arc::clone(name), number);
        number
    }

    /// Loads what recovery found: the queues stay in the log until they are taken. Unless the process before ended
    /// with nothing under way, the first `connections` events of each upstream count as possible repeats.
    pub(super) fn load(&mut self, recovered: Recovered) {
        self.first_sequence = recovered.first_sequence;
        (self.jump_before, self.jump_micros) = (recovered.jump_before, recovered.jump_micros);
        for (integration, count) in &recovered.unknown_waiting {
            (0..*count).for_each(|_| self.mailbox.unknown_came(integration));
        }
        for (meter, integration) in &recovered.queues {
            let (place, integration) = (self.place_of(meter), self.integration_number(integration));
            self.with_lanes(place, |lanes| lanes.falls_behind(integration));
        }
        for upstream in &mut self.upstreams {
            let connections = upstream.route.as_ref().map_or(0, |route| route.config.connections);
            upstream.doubtful = if recovered.clean { 0 } else { connections };
        }
        for dead in recovered.dead {
            self.load_dead(dead);
        }
        self.hold_dead_letters_to_their_limits();
        self.upstreams.iter().filter(|upstream| upstream.route.is_none()).for_each(Upstream::warn_of_orphans);
    }

    /// Since when an event waits, by this process's clock.
    pub(super) fn since(&self, place: usize, sequence: u64, received_at: Micros) -> Micros {
        let jump = if sequence < self.jump_before { self.jump_micros } else { 0 };
        let replayed = self.replayed_at.get(&(place, sequence)).copied();
        replayed.unwrap_or(Micros(received_at.0.saturating_add(jump)))
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mailbox = Arc::clone(&self.mailbox);
        let mut gathered = Vec::new();
        let mut gauges_at = Instant::now();
        let mut stop: Option<(Instant, oneshot::Sender<bool>)> = None;
        loop {
            mailbox.take(&mut gathered);
            gathered.drain(..).for_each(|queued| self.enqueue(&queued));
            self.keep_rejected(mailbox.take_rejected());

            let now = Instant::now();
            if now >= gauges_at {
                self.set_gauges();
                gauges_at = now + GAUGE_INTERVAL;
            }
            let next = if stop.is_none() { self.work(now) } else { None };
            let next = [next, stop.as_ref().map(|(deadline, _)| *deadline)]
                .into_iter()
                .flatten()
                .fold(gauges_at, Instant::min);
            if stop.as_ref().is_some_and(|(deadline, _)| self.flights.is_empty() || *deadline <= now) {
                break;
            }
            if next <= now {
                // More to do at once: connections and timers of this thread get their turn between.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                Some(done) = self.flights.next() => {
                    self.done(done);
                    while let Some(Some(done)) = self.flights.next().now_or_never() {
                        self.done(done);
                    }
                }
                command = commands.recv() => match command {
                    Some(Command::Stop(deadline, done)) => {
                        stop = Some((Instant::now() + deadline, done));
                    }
                    Some(command) => self.obey(command),
                    // Nobody holds the forwarder any more: nothing new can come, and nobody waits.
                    None => break,
                },
                () = mailbox.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
        if let Some((_, done)) = stop {
            let _ = done.send(self.flights.is_empty());
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Landed(landed) => self.landed(landed),
            Done::Written(place, cargo, told) => {
                told.into_iter().for_each(Told::tell);
                self.leave(place, &cargo);
            }
            Done::Asked => {}
            Done::Listed(place, asked, answer) => self.listed(place, &asked, answer.as_ref()),
            Done::Refused(refused, written) => self.refused(refused, written),
            Done::Looked(place, cargo, look) => self.looked(place, &cargo, look),
        }
    }

    fn enqueue(&mut self, queued: &Queued) {
        let integration = self.integration_number(&queued.integration);
        for meter in queued.targets.iter() {
            let place = self.place_of(meter);
            let Some(upstream) = self.upstreams.get_mut(place) else { continue };
            if upstream.lanes.takes(integration, queued.sequence) {
                let waiting = Waiting::new(queued.sequence, queued.at, queued.pacing);
                self.join_lane(place, queued.lane, integration, waiting);
            }
        }
    }

    fn join_lane(&mut self, place: usize, key: LaneKey, integration: IntegrationNumber, mut waiting: Waiting) {
        let Some(Upstream { lanes, doubtful, .. }) = self.upstreams.get_mut(place) else { return };
        if waiting.sequence() < self.first_sequence && *doubtful > 0 {
            *doubtful -= 1;
            waiting.doubt();
        }
        if !lanes.push(key, integration, waiting) {
            // A follower on the key: an unknown resolve before it goes at once (contracts 5.5).
            let head = lanes.get(key).map(|lane| lane.head);
            // So does a duplicate that waits for its time (DESIGN 5.4).
            if let Some(head) = head.filter(|head| head.waits_for(Pacing::UNCONFIRMED)) {
                let held = lanes.get(key).is_some_and(|lane| matches!(lane.stage, Stage::Until { .. }));
                self.grant(key, head.sequence(), integration, Pacing::UNCONFIRMED);
                if held {
                    self.with_lanes(place, |lanes| lanes.make_ready(key));
                }
            }
            if let Some(head) = head.filter(|head| head.waits_for(Pacing::UNKNOWN)) {
                self.grant(key, head.sequence(), integration, Pacing::UNKNOWN);
            }
        }
    }

    /// Takes events from the log into lanes where there is room for them.
    fn take_from_log(&mut self, place: usize) {
        while let Some(upstream) = self.upstreams.get_mut(place).filter(|upstream| upstream.route.is_some()) {
            let wants = upstream.lanes.wants(TAKEN_AT_ONCE);
            let meter = Arc::clone(&upstream.meter);
            let name_of = |want: &Want| self.integration_names.get(usize::try_from(want.integration).ok()?).cloned();
            let asks: Vec<Ask> = wants
                .iter()
                .filter_map(|want| Some(Ask { integration: name_of(want)?, after: want.after, count: want.count }))
                .collect();
            if asks.is_empty() || asks.len() < wants.len() {
                break;
            }
            let all = match self.log.waiting(&meter, &asks) {
                Ok(all) => all,
                Err(error) => {
                    tracing::warn!(%error, upstream = %meter.name, "the queue cannot be read now; it is tried again");
                    self.with_lanes(place, super::lanes::Lanes::wants_later);
                    break;
                }
            };
            for ((Want { integration, after, count }, ask), waiting) in wants.into_iter().zip(asks).zip(all) {
                let taken = waiting.last().map_or(after, |last| last.sequence);
                self.with_lanes(place, |lanes| lanes.took(integration, taken, waiting.len() < count));
                for Next { sequence, found } in waiting {
                    self.take(place, integration, &ask.integration, sequence, found);
                }
            }
        }
    }

    /// Puts an event from the log into its lane.
    fn take(
        &mut self,
        place: usize,
        integration: IntegrationNumber,
        name: &Arc<str>,
        sequence: u64,
        found: Option<Found>,
    ) {
        match found {
            None => self.bury_lost(place, name, sequence),
            // Replayed already.
            Some(found) if self.with_lanes(place, |lanes| lanes.holds(found.lane, sequence)) => {}
            Some(Found { at, lane, pacing }) => {
                let granted = self.granted.contains(&sequence);
                let pacing = if granted { Pacing::default() } else { pacing };
                self.join_lane(place, lane, integration, Waiting::new(sequence, at, pacing));
            }
        }
    }

    /// Sends all that may go now; returns when there is something to do next.
    fn work(&mut self, now: Instant) -> Option<Instant> {
        self.call_lines(now);
        let mut next = self.release_paced(now);
        let mut soonest = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        for place in 0..self.upstreams.len() {
            let mut turns = 0;
            loop {
                self.take_from_log(place);
                let Some(upstream) = self.upstreams.get_mut(place) else { break };
                upstream.lanes.wake_due(now);
                upstream.notice_hang(now);
                match upstream.door(now) {
                    Door::Open if turns < TURNS_MAX => {
                        turns += 1;
                        self.send(place, now);
                    }
                    door => {
                        match door {
                            Door::Open => soonest(Some(now)),
                            Door::Until(at) => soonest(Some(at)),
                            Door::Shut => {}
                        }
                        break;
                    }
                }
            }
            // A lane in backoff is looked at again even where the door is shut for want of ready lanes.
            soonest(self.upstreams.get(place).and_then(|upstream| upstream.lanes.next_timer()));
            soonest(self.upstreams.get(place).and_then(|upstream| upstream.circuit.hangs_at()));
        }
        // Work may have put lanes in line.
        let lines = self.lines.values().filter_map(|lines| lines.next_at(now)).min();
        [next, lines].into_iter().flatten().min()
    }

    /// Lets go the heads in line whose turn has come.
    fn call_lines(&mut self, now: Instant) {
        let due: Vec<IntegrationNumber> = self
            .lines
            .iter()
            .filter(|(_, lines)| lines.next_at(now).is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let integration = self.integration(number);
            while let Some(lines) = self.lines.get_mut(&number) {
                let upstreams = &self.upstreams;
                let is_live = |place: Place| {
                    let lane = upstreams.get(place.upstream).and_then(|upstream| upstream.lanes.get(place.lane));
                    lane.is_some_and(|lane| lane.stage == Stage::InLine && lane.head.sequence() == place.sequence)
                };
                let Some((place, pacing)) = lines.next(integration.as_deref(), now, is_live) else { break };
                self.grant(place.lane, place.sequence, number, pacing);
            }
        }
    }

    /// Whether an integration's senders use the ids of its upstream.
    pub(super) fn relays(&self, integration: &str) -> bool {
        let integration = self.integrations.by_name(integration);
        integration.is_some_and(|one| one.config.ack.is_some_and(|ack| ack.relays))
    }

    fn integration(&self, number: IntegrationNumber) -> Option<Arc<crate::gate::Integration>> {
        let name = self.integration_names.get(usize::try_from(number).ok()?)?;
        self.integrations.by_name(name)
    }

    /// Takes a pacing off an event at every upstream it goes to: paid once.
    pub(super) fn grant(&mut self, lane: LaneKey, sequence: u64, integration: IntegrationNumber, pacing: Pacing) {
        let mut granted = false;
        for upstream in &mut self.upstreams {
            granted |= upstream.lanes.grant(lane, sequence, pacing);
        }
        if granted && self.upstreams.len() > 1 && self.granted.len() < GRANTED_MAX {
            self.granted.insert(sequence);
        }
        if let (true, true, Some(name)) = (
            granted,
            pacing.has(Pacing::UNKNOWN),
            usize::try_from(integration).ok().and_then(|n| self.integration_names.get(n)),
        ) {
            self.mailbox.unknown_went(name);
        }
    }

    /// Sends one request to an upstream whose door is open.
    fn send(&mut self, place: usize, now: Instant) {
        let Some(route) = self.upstreams.get(place).and_then(|upstream| upstream.route.clone()) else { return };
        let events_max = route.config.batch.map_or(1, |batch| batch.max_events.max(1));
        let probes = self.upstreams.get(place).is_some_and(|upstream| upstream.circuit.state() != State::Closed);
        let (mut cargo, mut encoded) = (Vec::new(), Vec::new());
        let mut turns = 0;
        while cargo.len() < events_max && turns < TURNS_MAX {
            turns += 1;
            let Some(lane) =
                self.upstreams.get_mut(place).and_then(|upstream| upstream.lanes.pop_ready(!cargo.is_empty(), probes))
            else {
                break;
            };
            let alone =
                self.upstreams.get(place).and_then(|upstream| upstream.lanes.get(lane)).is_some_and(|lane| lane.alone);
            if alone && !cargo.is_empty() {
                self.with_lanes(place, |lanes| lanes.make_next(lane));
                break;
            }
            if let Some((one, body)) = self.prepare(place, lane, &route, now) {
                cargo.push(one);
                encoded.push(body);
            }
            if alone {
                break;
            }
        }
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        upstream.gathering_since = None;
        if cargo.is_empty() {
            return;
        }
        for one in &cargo {
            if let Some(lane) = upstream.lanes.get_mut(one.lane) {
                lane.stage = Stage::Flying;
            }
        }
        upstream.in_flight += 1;
        let ticket = upstream.tell_circuit(now, |circuit| circuit.send(now));
        if let Some(window) = &mut upstream.window {
            // Reading and encoding took their time, and the next window counts from here.
            window.take(Instant::now().max(now));
        }
        let again = |one: &Cargo| one.step == 0 && upstream.lanes.get(one.lane).is_some_and(|lane| lane.attempts > 0);
        if cargo.iter().any(again) {
            upstream.meter.retries.inc();
        }
        let Route { config, sink, wire } = route;
        let mut parcel = match (cargo.first(), encoded.first()) {
            (Some(Cargo { step: step @ 1.., .. }), Some(event)) => event.call_at(*step).clone(),
            _ => sink.parcel(&encoded, &config, Micros::now()),
        };
        parcel.traces = encoded.iter().filter_map(|event| event.trace.clone()).collect();
        let exchange = wire.send(parcel);
        self.flights.push(Box::pin(async move {
            let result = exchange.await;
            Done::Landed(Landed { upstream: place, cargo, ticket, config, sink, result })
        }));
    }

    pub(super) fn with_lanes<T: Default>(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut super::lanes::Lanes) -> T,
    ) -> T {
        self.upstreams.get_mut(place).map(|upstream| act(&mut upstream.lanes)).unwrap_or_default()
    }

    /// The head of a lane, read and encoded; `None` when it waits or has ended instead.
    fn prepare(&mut self, place: usize, key: LaneKey, route: &Route, now: Instant) -> Option<(Cargo, Encoded)> {
        let lane = self.upstreams.get(place)?.lanes.get(key)?;
        let (head, integration, followed) = (lane.head, lane.integration, lane.has_followers());
        if self.withdrawn.remove(&(place, head.sequence())) {
            self.leave(place, &Cargo::unread(key, head.sequence()));
            return None;
        }
        for pacing in [Pacing::UNKNOWN, Pacing::EVENT_LIMIT] {
            if !head.waits_for(pacing) {
                continue;
            }
            let line = Place { upstream: place, lane: key, sequence: head.sequence() };
            let gate = self.integration(integration);
            let at_once = pacing == Pacing::UNKNOWN && followed;
            if !at_once && !self.lines.entry(integration).or_default().enter(pacing, line, gate.as_deref(), now) {
                self.with_lanes(place, |lanes| lanes.stand_in_line(key));
                return None;
            }
            self.grant(key, head.sequence(), integration, pacing);
        }
        if head.waits_for(Pacing::UNCONFIRMED) {
            let until = self.states.waits_until(key).filter(|at| !followed && *at > now);
            if let Some(at) = until {
                self.with_lanes(place, |lanes| lanes.hold(key, at, false));
                return None;
            }
            self.grant(key, head.sequence(), integration, Pacing::UNCONFIRMED);
        }
        let stored = match self.log.read(head.sequence(), head.at) {
            Ok(stored) => stored,
            Err(ReadError::Damaged(_)) => {
                self.bury_unread(place, key);
                return None;
            }
            Err(ReadError::Io(error)) => {
                tracing::warn!(%error, "an event cannot be read from the log now; it is tried again");
                self.back_off(place, key, now, None);
                return None;
            }
        };
        let event = &stored.event;
        let mut cargo = Cargo::of(&stored, key, head.sequence());
        let dead = &mut self.upstreams.get_mut(place)?.dead;
        if let Some(iid) = cargo.iid {
            dead.passes(key, iid, head.sequence());
            if event.action != Action::Trigger && dead.has_dead_trigger(key, iid) {
                self.bury(place, &cargo, DeadReason::PredecessorDead);
                return None;
            }
        }
        if head.waits_for(Pacing::BEHIND) {
            if self.look(place, &cargo) {
                return None;
            }
            self.with_lanes(place, |lanes| lanes.grant(key, head.sequence(), Pacing::BEHIND));
        }
        // The vendor's own senders name its severities themselves.
        let is_native = route.config.kind.dialects().contains(&&*event.dialect);
        if !is_native && self.waits_for_severities(place, now) {
            self.with_lanes(place, |lanes| lanes.hold(key, now + LOOK_AGAIN, false));
            return None;
        }
        match self.encode(place, &cargo, &stored, route) {
            Ok(mut encoded) => {
                encoded.trace.clone_from(&event.trace);
                let step = self.half_sent.get(&(place, cargo.sequence)).map_or(0, |half| half.step);
                cargo = Cargo { step, steps: encoded.calls(), once: encoded.once, ..cargo };
                if !encoded.cut.is_empty() {
                    let (upstream, event_uid, cut) = (&route.config.name, cargo.uid, &encoded.cut);
                    tracing::debug!(%upstream, %event_uid, ?cut, "members were cut to the upstream's limits");
                }
                return Some((cargo, encoded));
            }
            Err(Unsaid::NotExpressible(_)) => self.bury(place, &cargo, DeadReason::NotExpressible),
            Err(Unsaid::Unresolvable) if self.sought.insert((place, cargo.sequence)) && self.look(place, &cargo) => {}
            Err(Unsaid::Unresolvable) => self.drop_waiting(place, &cargo, DropReason::Unresolvable),
            Err(Unsaid::NotYet) => self.wait_for_others(place, &cargo, &route.config, now),
        }
        None
    }

    /// Once a second: what is read from the log for it is one event an upstream, and mostly none.
    fn set_gauges(&mut self) {
        let now = Micros::now();
        let mut orphaned = 0;
        for place in 0..self.upstreams.len() {
            self.find_oldest(place);
            let Some(upstream) = self.upstreams.get_mut(place) else { break };
            upstream.meter.oldest_age_seconds.set(upstream.oldest.map_or(0.0, |(_, at)| age(at, now).as_secs_f64()));
            if upstream.route.is_none() {
                orphaned += upstream.meter.book().spool_events;
            }
            if upstream.lanes.is_starved() {
                upstream.lanes.ask_again();
            }
        }
        self.metrics.spool_orphaned_events.set(i64::try_from(orphaned).unwrap_or(i64::MAX));
        match self.upstreams.iter().filter_map(|upstream| upstream.lanes.lowest_taken()).min() {
            None => self.granted.clear(),
            Some(taken) => self.granted = self.granted.split_off(&(taken + 1)),
        }
    }

    fn find_oldest(&mut self, place: usize) {
        let Some(upstream) = self.upstreams.get(place) else { return };
        let sequence = self.log.oldest_waiting(&upstream.meter);
        let known = upstream.oldest.filter(|(known, _)| Some(*known) == sequence);
        let oldest = known.or_else(|| {
            let (_, stored) = self.log.event(sequence?).ok()?;
            Some((sequence?, self.since(place, sequence?, stored.event.received_at)))
        });
        if let Some(upstream) = self.upstreams.get_mut(place) {
            upstream.oldest = oldest;
        }
    }

    fn obey(&mut self, command: Command) {
        // A requester that went away is no reason not to do what it asked.
        match command {
            Command::Configure(configs, done) => {
                self.configure(&configs);
                let _ = done.send(());
            }
            Command::Status(to) => drop(to.send(self.status())),
            Command::Letters { filter, after, rows_max, to } => {
                drop(to.send(self.letters(&filter, after.as_ref(), rows_max)));
            }
            Command::Letter { upstream, sequence, to } => drop(to.send(self.letter(&upstream, sequence))),
            Command::Groups(filter, to) => drop(to.send(self.groups(&filter))),
            Command::Replay { upstream, sequence, to } => drop(to.send(self.replay(&upstream, sequence))),
            Command::ReplayAll { filter, how, to } => drop(to.send(self.replay_all(&filter, how))),
            Command::Drop { upstream, sequence, to } => drop(to.send(self.drop_letter(&upstream, sequence))),
            Command::DropAll { filter, confirm, to } => drop(to.send(self.drop_all(&filter, confirm))),
            Command::Heads { lane, sequence, to } => drop(to.send(self.heads(lane, sequence))),
            Command::Ask { upstream, path, to } => self.ask_upstream(&upstream, &path, to),
            Command::Stop(_, done) => drop(done.send(false)),
        }
    }

    fn status(&mut self) -> Vec<UpstreamStatus> {
        (0..self.upstreams.len()).for_each(|place| self.find_oldest(place));
        let (now, wall) = (Instant::now(), Micros::now());
        let row = |upstream: &Upstream| UpstreamStatus {
            name: upstream.meter.name.to_string(),
            // Nothing waits at the intake, so nothing there wants for an upstream.
            configured: upstream.route.is_some() || *upstream.meter.name == *INTAKE,
            waiting_events: upstream.meter.book().spool_events,
            requests_in_flight: upstream.in_flight,
            dead_letters: upstream.dead.len(),
            held_for_s: upstream.held_until.filter(|at| *at > now).map(|at| (at - now).as_secs_f64()),
            down: upstream.circuit.state() != State::Closed,
            circuit: upstream.circuit.state().name(),
            down_for_s: upstream.circuit.open_for(now).map(|open| open.as_secs_f64()),
            answer_s: upstream.answer_seconds,
            next_try_in_s: upstream.next_try_in(now).map(|wait| wait.as_secs_f64()),
            last_error: upstream.last_error.clone(),
            last_status: upstream.last_status,
            oldest_event_age_s: upstream.oldest.map(|(_, at)| age(at, wall).as_secs_f64()),
        };
        let mut rows: Vec<_> = self.upstreams.iter().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// What an event does at the upstreams where it is the head of its lane.
    fn heads(&self, lane: LaneKey, sequence: u64) -> Vec<Head> {
        let heads = self.upstreams.iter().filter_map(|upstream| {
            let lane = upstream.lanes.get(lane).filter(|lane| lane.head.sequence() == sequence)?;
            Some(Head {
                upstream: Arc::clone(&upstream.meter.name),
                under_way: lane.stage == Stage::Flying,
                attempts: lane.attempts,
                status: lane.status,
            })
        });
        heads.collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

/// Time since a stored stamp; a stamp in the future is no age.
pub(super) fn age(at: Micros, now: Micros) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0))
}
