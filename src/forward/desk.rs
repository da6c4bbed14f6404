//! The forwarder's thread: takes what came, sends what may go, waits for whatever is next. What becomes
//! of an event after its answer is in `settle`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::handle::{Command, Mailbox, Replayed, Row, UpstreamStatus};
use super::lanes::{IntegrationNumber, Stage, Waiting};
use super::lines::{Lines, Place};
use super::upstream::{Door, Route, Upstream};
use super::wire::{Dial, Failure};
use super::{Integrations, Log, Map, States};
use crate::claim::Pacing;
use crate::event::{Action, Micros, Uid};
use crate::metrics::{Metrics, UpstreamMeter};
use crate::outcome::DeadReason;
use crate::sink::{self, Answer, Encoded, Reader, UpstreamConfig};
use crate::store::{LaneKey, Queued, ReadError, Recovered};

/// Lanes one upstream may work off before the others, and answers, get their turn.
const TURNS_MAX: usize = 256;
/// How often gauges of ages are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);
/// Of the recovered events each so manieth is read at start to learn its age.
const AGE_SAMPLE: usize = 1000;

/// One event of a request under way.
#[derive(Clone, Copy)]
pub(super) struct Cargo {
    pub(super) lane: LaneKey,
    pub(super) sequence: u64,
    pub(super) uid: Uid,
    pub(super) iid: Option<Uid>,
    pub(super) action: Action,
    pub(super) received_at: Micros,
}

/// A request that has ended.
pub(super) struct Landed {
    pub(super) upstream: usize,
    pub(super) cargo: Vec<Cargo>,
    pub(super) probe: bool,
    pub(super) config: Arc<UpstreamConfig>,
    pub(super) result: Result<Answer, Failure>,
}

type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

pub(super) struct Desk {
    pub(super) log: Arc<dyn Log>,
    reader: Arc<dyn Reader>,
    pub(super) states: Arc<dyn States>,
    integrations: Arc<dyn Integrations>,
    metrics: Arc<Metrics>,
    dial: Arc<dyn Dial>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) upstreams: Vec<Upstream>,
    places: Map<Arc<str>, usize>,
    pub(super) integration_names: Vec<Arc<str>>,
    integration_numbers: Map<Arc<str>, IntegrationNumber>,
    lines: Map<IntegrationNumber, Lines>,
    flights: FuturesUnordered<Flight>,
    /// Replayed events that wait, by upstream and sequence: their time to give up runs from here.
    pub(super) replayed_at: Map<(usize, u64), Micros>,
}

impl Desk {
    pub(super) fn new(
        log: Arc<dyn Log>,
        reader: Arc<dyn Reader>,
        states: Arc<dyn States>,
        integrations: Arc<dyn Integrations>,
        metrics: Arc<Metrics>,
        dial: Arc<dyn Dial>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        Self {
            log,
            reader,
            states,
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
            replayed_at: Map::default(),
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

    /// Loads what recovery found. The heads of the oldest `connections` lanes of each upstream may have
    /// been under way when the process ended: their delivery counts as a possible repeat.
    pub(super) fn load(&mut self, recovered: Recovered) {
        let mut since = Micros::now();
        for (index, queued) in recovered.queued.iter().enumerate() {
            if index % AGE_SAMPLE == 0 {
                since = self.log.read(queued.at).map_or(since, |stored| stored.event.received_at);
            }
            if queued.pacing.has(Pacing::UNKNOWN) {
                self.mailbox.unknown_came(&queued.integration);
            }
            self.enqueue(queued, since);
        }
        for upstream in &mut self.upstreams {
            let lanes = upstream.route.as_ref().map_or(0, |route| route.config.connections);
            upstream.lanes.doubt_oldest_heads(lanes);
        }
        for dead in recovered.dead {
            self.load_dead(dead);
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mailbox = Arc::clone(&self.mailbox);
        let mut gathered = Vec::new();
        let mut gauges_at = Instant::now();
        let mut stop: Option<(Instant, oneshot::Sender<()>)> = None;
        loop {
            mailbox.take(&mut gathered);
            let came = Micros::now();
            gathered.drain(..).for_each(|queued| self.enqueue(&queued, came));

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
                Some(landed) = self.flights.next() => {
                    self.landed(landed);
                    while let Some(Some(landed)) = self.flights.next().now_or_never() {
                        self.landed(landed);
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
            let _ = done.send(());
        }
    }

    fn enqueue(&mut self, queued: &Queued, since: Micros) {
        let integration = self.integration_number(&queued.integration);
        for meter in queued.targets.iter() {
            let place = self.place_of(meter);
            let Some(upstream) = self.upstreams.get_mut(place) else { continue };
            upstream.ages.add(queued.sequence, since);
            let waiting = Waiting::new(queued.sequence, queued.at, queued.pacing);
            if !upstream.lanes.hold_back(queued.lane, integration, waiting) {
                self.join_lane(place, queued.lane, integration, waiting);
            }
        }
    }

    fn join_lane(&mut self, place: usize, key: LaneKey, integration: IntegrationNumber, waiting: Waiting) {
        let Some(Upstream { lanes, .. }) = self.upstreams.get_mut(place) else { return };
        if !lanes.push(key, integration, waiting) {
            // A follower on the key: an unknown resolve before it goes at once (contracts 5.5).
            let head = lanes.get(key).map(|lane| lane.head);
            if let Some(head) = head.filter(|head| head.waits_for(Pacing::UNKNOWN)) {
                self.grant(key, head.sequence(), integration, Pacing::UNKNOWN);
            }
        }
    }

    /// Events of the backlogs get lanes where there is room for them.
    fn move_up(&mut self, place: usize) {
        while let Some((key, integration, waiting)) =
            self.upstreams.get_mut(place).and_then(|upstream| upstream.lanes.moves_up())
        {
            self.join_lane(place, key, integration, waiting);
        }
    }

    /// Sends all that may go now; returns when there is something to do next.
    fn work(&mut self, now: Instant) -> Option<Instant> {
        self.call_lines(now);
        let mut next = None;
        let mut soonest = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        for place in 0..self.upstreams.len() {
            let mut turns = 0;
            loop {
                self.move_up(place);
                let Some(upstream) = self.upstreams.get_mut(place) else { break };
                upstream.lanes.wake_due(now);
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

    fn integration(&self, number: IntegrationNumber) -> Option<Arc<crate::gate::Integration>> {
        let name = self.integration_names.get(usize::try_from(number).ok()?)?;
        self.integrations.by_name(name)
    }

    /// Takes a pacing off an event at every upstream it goes to: paid once.
    pub(super) fn grant(&mut self, lane: LaneKey, sequence: u64, integration: IntegrationNumber, pacing: Pacing) {
        let mut granted = false;
        for upstream in &mut self.upstreams {
            granted |= upstream.lanes.grant(lane, integration, sequence, pacing);
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
        let (mut cargo, mut encoded) = (Vec::new(), Vec::new());
        let mut turns = 0;
        while cargo.len() < events_max && turns < TURNS_MAX {
            turns += 1;
            let Some(lane) =
                self.upstreams.get_mut(place).and_then(|upstream| upstream.lanes.pop_ready(!cargo.is_empty()))
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
        let probe = upstream.health.sent();
        if let Some(window) = &mut upstream.window {
            window.take(now);
        }
        if cargo.iter().any(|one| upstream.lanes.get(one.lane).is_some_and(|lane| lane.attempts > 0)) {
            upstream.meter.retries.inc();
        }
        let Route { config, wire } = route;
        let exchange = wire.send(sink::of(config.kind).parcel(&encoded, &config, Micros::now()));
        self.flights.push(Box::pin(async move {
            let result = exchange.await;
            Landed { upstream: place, cargo, probe, config, result }
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
        let stored = match self.log.read(head.at) {
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
        let cargo = Cargo {
            lane: key,
            sequence: head.sequence(),
            uid: event.uid,
            iid: stored.incident.map(|incident| incident.iid),
            action: event.action,
            received_at: event.received_at,
        };
        let dead = &mut self.upstreams.get_mut(place)?.dead;
        if let Some(iid) = cargo.iid {
            dead.passes(key, iid, head.sequence());
            if event.action != Action::Trigger && dead.has_dead_trigger(key, iid) {
                self.bury(place, &cargo, DeadReason::PredecessorDead);
                return None;
            }
        }
        let said = self.reader.read(event);
        match sink::of(route.config.kind).encode(&stored, &said, &route.config) {
            Ok(encoded) => Some((cargo, encoded)),
            Err(sink::NotExpressible(_)) => {
                self.bury(place, &cargo, DeadReason::NotExpressible);
                None
            }
        }
    }

    fn set_gauges(&self) {
        let now = Micros::now();
        let mut orphaned = 0;
        for upstream in &self.upstreams {
            upstream.meter.oldest_age_seconds.set(upstream.ages.oldest().map_or(0.0, |at| age(at, now).as_secs_f64()));
            if upstream.route.is_none() {
                orphaned += upstream.lanes.waiting_events();
            }
        }
        self.metrics.spool_orphaned_events.set(i64::try_from(orphaned).unwrap_or(i64::MAX));
    }

    fn obey(&mut self, command: Command) {
        // A requester that went away is no reason not to do what it asked.
        match command {
            Command::Configure(configs, done) => {
                self.configure(&configs);
                let _ = done.send(());
            }
            Command::Status(to) => drop(to.send(self.status())),
            Command::Letters { upstream, after, rows_max, to } => {
                drop(to.send(self.letters(upstream.as_deref(), after.as_ref(), rows_max)));
            }
            Command::Replay { upstream, sequence, to } => drop(to.send(self.replay(&upstream, sequence))),
            Command::ReplayAll { upstream, to } => drop(to.send(self.replay_all(upstream.as_deref()))),
            Command::Drop { upstream, sequence, to } => drop(to.send(self.drop_letter(&upstream, sequence))),
            Command::Stop(_, done) => drop(done.send(())),
        }
    }

    fn status(&self) -> Vec<UpstreamStatus> {
        let (now, wall) = (Instant::now(), Micros::now());
        let row = |upstream: &Upstream| UpstreamStatus {
            name: upstream.meter.name.to_string(),
            configured: upstream.route.is_some(),
            waiting_events: upstream.lanes.waiting_events(),
            requests_in_flight: upstream.in_flight,
            dead_letters: upstream.dead.len(),
            held_for_s: upstream.held_until.filter(|at| *at > now).map(|at| (at - now).as_secs_f64()),
            down: upstream.health.is_down(),
            last_error: upstream.last_error.clone(),
            last_status: upstream.last_status,
            oldest_event_age_s: upstream.ages.oldest().map(|at| age(at, wall).as_secs_f64()),
        };
        let mut rows: Vec<_> = self.upstreams.iter().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn letters(&self, of: Option<&str>, after: Option<&(String, u64)>, rows_max: usize) -> Vec<Row> {
        let mut upstreams: Vec<&Upstream> =
            self.upstreams.iter().filter(|upstream| of.is_none_or(|name| *upstream.meter.name == *name)).collect();
        upstreams.sort_by(|a, b| a.meter.name.cmp(&b.meter.name));
        let rows = upstreams.into_iter().flat_map(|upstream| {
            let name = &upstream.meter.name;
            let from = match after {
                Some((last, sequence)) if last.as_str() == &**name => Some(Some(*sequence)),
                Some((last, _)) if last.as_str() > &**name => None,
                _ => Some(None),
            };
            from.into_iter().flat_map(|from| {
                upstream.dead.after(from).map(|(sequence, letter)| (Arc::clone(name), sequence, letter.clone()))
            })
        });
        rows.take(rows_max).collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn replay_all(&mut self, of: Option<&str>) -> Replayed {
        let upstreams = self.upstreams.iter().filter(|upstream| of.is_none_or(|name| *upstream.meter.name == *name));
        let all: Vec<(Arc<str>, u64)> = upstreams
            .flat_map(|upstream| {
                upstream.dead.after(None).map(|(sequence, _)| (Arc::clone(&upstream.meter.name), sequence))
            })
            .collect();
        let mut sum = Replayed::default();
        for (name, sequence) in all {
            match self.replay(&name, sequence) {
                Ok(count) => sum.replayed += count,
                // Went along with its group already.
                Err(super::Refused::Unknown) => {}
                Err(_) => sum.refused += 1,
            }
        }
        sum
    }
}

/// Time since a stored stamp; a stamp in the future is no age.
pub(super) fn age(at: Micros, now: Micros) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0))
}
