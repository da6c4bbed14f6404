//! Deduplication: claims on keys, the line behind each, life times and the table's bound (contracts 5,
//! DESIGN 5.1). `intake` claims, the log's writer commits or releases, the forwarder tells what died.
//!
//! A key's transition is decided under its shard's lock and marked in flight there; it takes effect when the
//! log holds it. Whoever comes meanwhile stands in the key's line and is decided anew.
//!
//! Where several replicas share their states (DESIGN 5.4), a key is in flight from the question on whether another one
//! changes it: `asking`. What they agree by is [`SharedClaims`], which the room `redis` implements.

mod asking;
mod awaited;
mod found;
mod index;
mod line;
mod places;
mod shared;
mod sides;
mod table;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use asking::{ASK_AGAIN, Answered, Asking};
use asking::{Basis, Shared, SharedRef};
pub use found::{Finding, Found, IdName, SEEN};
use index::Index;
pub use line::Line;
use line::Lines;
pub use shared::{
    Ahead, Ask, Asked, Commit, Ids, Look, Looking, Order, Reply, Rest, SharedClaims, Standing, Takes, Token,
};
use sides::Sides;
use table::{AWAITED, CREATES_ONCE, Entry, HAS_LINE, IN_FLIGHT, Occupied, Slot, TOUCHED, Table, UNDELIVERED};

use crate::awaited::Awaited;
use crate::claim::{self, ById, Claim, Goes, Ledger, Pacing, Position, Scope, Seat, Targets};
use crate::event::{Action, Event, Incident, Micros, State, StateKey, Uid};
use crate::machine::{self, Change, Decision, Forward, KeyLife, Known, Policy, Statement, UnknownRefused};
use crate::metrics::{Metrics, UpstreamMeter};
use crate::outcome::Outcome;

#[derive(Clone, Debug)]
pub struct Config {
    pub open_ttl: Duration,
    pub resolved_ttl: Duration,
    pub idempotency_ttl: Duration,
    pub replay_ttl: Duration,
    pub max_keys: usize,
    /// At most one new try of an undelivered trigger in this time (DESIGN 5.3).
    pub redeliver_after: Duration,
    /// Low 10 bits of every incident number (DESIGN 5.4).
    pub replica_id: u16,
    /// Its states are shared with other replicas, or copied for them.
    pub is_shared: bool,
}

/// Incident numbers are `n * REPLICAS + replica_id`.
const REPLICAS: u64 = 1024;
/// Ids that are looked at under one lock.
const IDS_AT_ONCE: usize = 1024;
/// Ids of transports take at most this part of `max_keys`: then the oldest goes.
const REPLAY_PART: usize = 4;
/// Tombstones of unknown resolves take at most this part of `max_keys` (contracts 5.5).
const UNKNOWN_PART: usize = 10;

/// What the rules need to know of the event's integration and dialect.
#[derive(Clone, Copy)]
pub struct Rules {
    pub life: KeyLife,
    pub policy: Policy,
    pub notes: bool,
    /// The statement means nothing to a resolved incident.
    pub needs_open: bool,
    /// An `admin` statement that ends the incident here.
    pub closes: bool,
    /// Its incidents are addressed by id: one without a key has a state too.
    pub has_ids: bool,
    /// The state of the incident that the statement addresses by id.
    pub addressed: Option<StateKey>,
    /// An `admin` statement that makes a new incident: the state whose view that one begins with.
    pub opens_from: Option<StateKey>,
    /// It addresses an incident that we know nothing of: it is passed on, and changes nothing here.
    pub passes: bool,
    /// Where it is kept that the event's own id, of its transport, was seen (contracts 5.7).
    pub replay: Option<StateKey>,
}

impl Rules {
    /// Of a dialect whose incidents have keys alone.
    pub const fn keyed(life: KeyLife, policy: Policy) -> Self {
        Self {
            life,
            policy,
            notes: false,
            needs_open: false,
            closes: false,
            has_ids: false,
            addressed: None,
            opens_from: None,
            passes: false,
            replay: None,
        }
    }
}

/// What became of a claim.
#[must_use]
pub enum Claimed {
    /// Decided without the log: answered at once.
    Absorbed {
        outcome: Outcome,
        incident: Option<Incident>,
        /// The event that it repeats, while its sender waits for its delivery.
        awaited: Option<Arc<Awaited>>,
    },
    /// The change is ours to make durable.
    Owned(Claim, Pacing),
    /// Another event's change of this key is in flight: wait, then claim again.
    Contended(Line),
    /// The integration refuses unknown resolves.
    Refused,
    /// The incident is resolved, and the statement needs an open one.
    NotOpen,
    /// Other replicas may know better: wait for what they say. Boxed: only they that share their states have it.
    Asking(Box<Asking>),
    /// Another replica's change of the key did not end in time.
    Busy,
}

/// What an event would come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// `incident`: as it would stand; a new one without number. `goes`: to the upstreams that can be told it.
    Ends {
        outcome: Outcome,
        incident: Option<Incident>,
        goes: bool,
    },
    Refused,
    NotOpen,
}

/// What the events of one body that were foreseen already would leave behind, for those that follow.
#[derive(Default)]
pub struct Foretold {
    states: HashMap<StateKey, Incident>,
    replays: HashSet<StateKey>,
}

/// What is known of a transport's own id.
enum Replay {
    /// It was seen, or is being seen just now.
    Ended(Claimed),
    /// It is held, to be committed or released.
    Held(Seat),
    /// There is no room to know it.
    Untracked,
}

/// Upstreams where a generation's trigger is a dead letter.
struct Undelivered {
    iid: Uid,
    upstreams: Vec<Arc<UpstreamMeter>>,
    tried: Option<Instant>,
}

/// All states of the process.
pub struct Dedup {
    config: Config,
    table: Table,
    entries: AtomicUsize,
    unknowns: AtomicUsize,
    lines: Lines,
    undelivered: Mutex<HashMap<StateKey, Undelivered>>,
    awaited: awaited::Rows,
    /// In milliseconds. A reload changes it with the upstreams that it comes from.
    redeliver_after_ms: AtomicU64,
    /// Resolved keys, oldest first: what a full table gives up. May hold stale rows; they are skipped.
    resolved: Mutex<VecDeque<(StateKey, u32)>>,
    /// Ids of transports that were seen, oldest first; as `resolved`.
    replays: Mutex<VecDeque<(StateKey, u32)>>,
    /// Keys that were seen again since the log was told.
    touched: Mutex<Vec<StateKey>>,
    number: AtomicU64,
    index: Mutex<Index>,
    nowhere: Targets,
    metrics: Arc<Metrics>,
    /// What stands beside the rows, where states are shared.
    sides: Option<Sides>,
    /// Set once, after what the log tells was put back.
    shared: OnceLock<Shared>,
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dedup {
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Arc<Self> {
        let redeliver_after_ms = AtomicU64::new(whole_millis(config.redeliver_after));
        let sides = config.is_shared.then(Sides::new);
        Arc::new(Self {
            config,
            table: Table::new(),
            entries: AtomicUsize::new(0),
            unknowns: AtomicUsize::new(0),
            lines: Lines::default(),
            undelivered: Mutex::default(),
            awaited: awaited::Rows::default(),
            redeliver_after_ms,
            resolved: Mutex::default(),
            replays: Mutex::default(),
            touched: Mutex::default(),
            number: AtomicU64::new(0),
            index: Mutex::default(),
            nowhere: Arc::from([]),
            metrics,
            sides,
            shared: OnceLock::new(),
        })
    }

    /// Decides an event and, where that must become durable, claims its key. `targets` are the upstreams
    /// of the event's integration.
    pub fn claim(self: &Arc<Self>, event: &Event, targets: &Targets, rules: Rules) -> Claimed {
        if rules.passes {
            let decision =
                Decision { outcome: Outcome::Forwarded, change: Change::Nothing, forward: Forward::Everywhere };
            return self.without_state(decision, None, targets);
        }
        let Some(replay) = rules.replay else { return self.claim_said(event, targets, rules) };
        match self.hold_replay(replay, event) {
            Replay::Ended(claimed) => claimed,
            Replay::Untracked => self.claim_said(event, targets, rules),
            Replay::Held(seat) => match self.claim_said(event, targets, rules) {
                Claimed::Owned(claim, pacing) => {
                    let ledger = Arc::clone(self) as Arc<dyn Ledger>;
                    Claimed::Owned(claim.with_replay(ledger, seat, event.received_at), pacing)
                }
                Claimed::Absorbed { outcome, incident, awaited } => {
                    // Nothing of it goes to the log: its id is known until a restart.
                    let mark = claim::replay_mark(incident, event.received_at);
                    self.commit(seat, mark, Position::default(), None, Goes { sequence: 0, targets: &self.nowhere });
                    Claimed::Absorbed { outcome, incident, awaited }
                }
                // Nothing is held while it waits.
                claimed => {
                    self.release(replay);
                    claimed
                }
            },
        }
    }

    /// Whether a transport's own id was seen; if not, it is being seen now.
    fn hold_replay(self: &Arc<Self>, replay: StateKey, event: &Event) -> Replay {
        match self.table.entry(replay) {
            Slot::Occupied(mut slot) => {
                if slot.has(IN_FLIGHT) {
                    slot.set(HAS_LINE, true);
                    return Replay::Ended(Claimed::Contended(Line::join(self, replay)));
                }
                if let Some(mark) = slot.incident().filter(|_| !self.is_expired(&slot, event.received_at)) {
                    drop(slot);
                    let known = event.state_key().and_then(|key| self.incident(key));
                    let known = known.or_else(|| (mark.iid.0 != 0).then_some(Incident { generation: 1, ..mark }));
                    return Replay::Ended(Claimed::Absorbed {
                        outcome: Outcome::Replayed,
                        incident: known,
                        awaited: None,
                    });
                }
                slot.set(IN_FLIGHT, true);
                Replay::Held(slot.seat())
            }
            Slot::Vacant(slot) => {
                if self.entries.load(Ordering::Relaxed) >= self.config.max_keys {
                    // The shard's lock must be free while others are evicted.
                    drop(slot);
                    return if self.evict() { self.hold_replay(replay, event) } else { Replay::Untracked };
                }
                let mut entry = Entry::ABSENT;
                entry.set(IN_FLIGHT, true);
                let seat = slot.insert(entry).seat();
                self.entries.fetch_add(1, Ordering::Relaxed);
                Replay::Held(seat)
            }
        }
    }

    /// What a claim of this event would come to after those that were foretold; nothing is claimed, and nothing changes.
    pub fn foresee(&self, event: &Event, rules: Rules, foretold: &mut Foretold) -> Foreseen {
        let state_of = |key: StateKey| {
            if let Some(incident) = foretold.states.get(&key) {
                return Some(*incident);
            }
            let entry = self.table.get(key)?;
            entry.incident().filter(|_| !self.is_expired(&entry, event.received_at))
        };
        let key = rules.addressed.or_else(|| event.state_key());
        let before = key.and_then(state_of);
        if rules.replay.is_some_and(|replay| foretold.replays.contains(&replay) || state_of(replay).is_some()) {
            return Foreseen::Ends { outcome: Outcome::Replayed, incident: before, goes: false };
        }
        if rules.needs_open && before.is_some_and(|incident| incident.state == State::Resolved) {
            return Foreseen::NotOpen;
        }
        let known =
            before.map(|before| Known { state: before.state, severity: before.severity, redelivery_due: false });
        let Ok(decision) = self.decide(known, event, rules) else { return Foreseen::Refused };
        // A number is given to what happens alone.
        let next = machine::apply(before, decision.change, event.severity, event.received_at, || (Uid(0), 0));
        foretold.replays.extend(rules.replay);
        // What goes nowhere near the log leaves no state where there was none.
        let stays = before.is_some() || decision.is_durable();
        foretold.states.extend(key.zip(next).filter(|_| stays));
        let incident = next.filter(|incident| incident.generation > 0);
        Foreseen::Ends { outcome: decision.outcome, incident, goes: decision.forward != Forward::Nowhere }
    }

    fn claim_said(self: &Arc<Self>, event: &Event, targets: &Targets, rules: Rules) -> Claimed {
        if let Some(from) = rules.opens_from {
            return self.claim_opened(from, event, targets, rules);
        }
        let Some(key) = rules.addressed.or_else(|| event.state_key()) else {
            return self.claim_nothing(event, targets, rules, false);
        };
        match self.claim_key(key, event, targets, rules) {
            Claimed::Owned(mut claim, pacing) if rules.has_ids => {
                claim.scope = Some(Scope::of(&event.integration, &event.family));
                Claimed::Owned(claim, pacing)
            }
            claimed => claimed,
        }
    }

    fn claim_key(self: &Arc<Self>, key: StateKey, event: &Event, targets: &Targets, rules: Rules) -> Claimed {
        if let Some(shared) = self.shared().filter(|shared| shared.claims.asks()) {
            return self.claim_shared(shared, key, event, targets, rules);
        }
        match self.table.entry(key) {
            Slot::Occupied(mut slot) => {
                if slot.has(IN_FLIGHT) {
                    slot.set(HAS_LINE, true);
                    return Claimed::Contended(Line::join(self, key));
                }
                let claimed = self.claim_known(&mut slot, event, targets, rules, Basis::default());
                let leave = self.after(key, &mut slot);
                if leave {
                    self.forget(slot);
                }
                claimed
            }
            Slot::Vacant(slot) => {
                let full = self.entries.load(Ordering::Relaxed) >= self.config.max_keys;
                if full {
                    // The shard's lock must be free while others are evicted.
                    drop(slot);
                    if !self.evict() {
                        self.metrics.dedup_untracked.inc();
                        return self.claim_nothing(event, targets, rules, true);
                    }
                    return self.claim_key(key, event, targets, rules);
                }
                let decision = match self.decide(None, event, rules) {
                    Ok(decision) => decision,
                    Err(UnknownRefused) => return Claimed::Refused,
                };
                let next = self.next(None, decision, event);
                if !decision.is_durable() || next.is_none() {
                    return self.without_state(decision, next, targets);
                }
                let mut entry = Entry::ABSENT;
                entry.set(IN_FLIGHT, true);
                entry.set(CREATES_ONCE, rules.life == KeyLife::CreateOnce);
                let seat = slot.insert(entry).seat();
                self.entries.fetch_add(1, Ordering::Relaxed);
                self.owned(Some(seat), decision, next, self.targets_of(decision, targets, key))
            }
        }
    }

    fn claim_known(
        self: &Arc<Self>,
        slot: &mut Occupied<'_>,
        event: &Event,
        targets: &Targets,
        rules: Rules,
        basis: Basis,
    ) -> Claimed {
        let seat = slot.seat();
        let (key, entry) = (seat.key, &mut **slot);
        let before = self.living(entry, event, rules);
        if rules.needs_open && before.is_some_and(|incident| incident.state == State::Resolved) {
            return Claimed::NotOpen;
        }
        let known = before.map(|incident| Known {
            state: incident.state,
            severity: incident.severity,
            redelivery_due: entry.has(UNDELIVERED) && self.redelivery_is_due(key, incident.iid),
        });
        let decision = match self.decide(known, event, rules) {
            Ok(decision) => decision,
            Err(UnknownRefused) => return Claimed::Refused,
        };
        let (decision, pacing) =
            if basis.unsure { self.say_again(key, before, decision) } else { (decision, Pacing::default()) };
        let next = self.next_as(before, decision, event, basis.ids);
        if !decision.is_durable() {
            if let Some(next) = next.filter(|_| decision.change == Change::Touch) {
                entry.put(&next);
                if !entry.has(TOUCHED) {
                    entry.set(TOUCHED, true);
                    lock(&self.touched).push(key);
                }
            }
            let awaited = self.awaited_on(key, entry);
            return Claimed::Absorbed { outcome: decision.outcome, incident: next, awaited };
        }
        if next.is_none() {
            return self.without_state(decision, next, targets);
        }
        self.build_on(key, entry);
        entry.set(IN_FLIGHT, true);
        let same = before.is_some_and(|before| next.is_some_and(|next| next.iid == before.iid));
        let mut claimed = self.owned(Some(seat), decision, next, self.targets_of(decision, targets, key));
        if let Claimed::Owned(claim, paced) = &mut claimed {
            claim.continues = same && rules.has_ids;
            claim.before = Some(entry.at).filter(|at| same && *at != Position::default());
            *paced = paced.with(pacing);
        }
        claimed
    }

    /// A key's incident, if it has one whose time is not over.
    fn living(&self, entry: &Entry, event: &Event, rules: Rules) -> Option<Incident> {
        entry.incident().filter(|_| {
            let now = event.received_at;
            // Its key may create again, though the incident itself is still known and can be changed.
            let creates = event.action == Action::Trigger && rules.life == KeyLife::CreateOnce;
            if creates { self.is_held_once(entry, now) } else { !self.is_expired(entry, now) }
        })
    }

    fn decide(&self, known: Option<Known>, event: &Event, rules: Rules) -> Result<Decision, UnknownRefused> {
        let Rules { notes, closes, .. } = rules;
        let statement = Statement { action: event.action, severity: event.severity, notes, closes };
        let mut decision = machine::decide(known, statement, rules.life, rules.policy)?;
        if decision.outcome == Outcome::Unknown && names_nothing(event, rules) {
            // Upstream it could only go under a name that was made up here.
            return Ok(Decision { outcome: Outcome::Unmatched, change: Change::Nothing, forward: Forward::Nowhere });
        }
        let room = self.config.max_keys / UNKNOWN_PART;
        if decision.change == Change::Tombstone && self.unknowns.load(Ordering::Relaxed) >= room {
            decision.change = Change::Nothing;
        }
        Ok(decision)
    }

    fn next(&self, before: Option<Incident>, decision: Decision, event: &Event) -> Option<Incident> {
        self.next_as(before, decision, event, None)
    }

    /// The same, with ids that a new incident is to have.
    fn next_as(
        &self,
        before: Option<Incident>,
        decision: Decision,
        event: &Event,
        ids: Option<(Uid, u64)>,
    ) -> Option<Incident> {
        let fresh = || ids.unwrap_or_else(|| self.new_ids(event));
        machine::apply(before, decision.change, event.severity, event.received_at, fresh)
    }

    /// What is shared, if anything is.
    fn shared(&self) -> Option<SharedRef<'_>> {
        Some(SharedRef { claims: &*self.shared.get()?.0, sides: self.sides.as_ref()? })
    }

    fn new_ids(&self, event: &Event) -> (Uid, u64) {
        let n = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        (Uid::new(event.received_at), n * REPLICAS + u64::from(self.config.replica_id))
    }

    /// An event that no entry stands for: without key, or on a key that a full table cannot take (`untracked`).
    fn claim_nothing(self: &Arc<Self>, event: &Event, targets: &Targets, rules: Rules, untracked: bool) -> Claimed {
        let decision = match self.decide(None, event, rules) {
            Ok(decision) => decision,
            Err(UnknownRefused) => return Claimed::Refused,
        };
        // A tombstone that nobody keeps would only invent an incident.
        let next = self.next(None, decision, event).filter(|incident| incident.generation > 0);
        if let (true, false, Some(incident)) = (rules.has_ids, untracked, next) {
            return self.claim_by_id(incident, decision, event, targets);
        }
        match self.without_state(decision, next, targets) {
            // While the table is full, resolves of untracked keys pass outside their pace (contracts 5.5).
            Claimed::Owned(claim, _) if untracked => Claimed::Owned(claim, Pacing::default()),
            claimed => claimed,
        }
    }

    /// A new incident without a key that is addressed by its id: its state stands under that.
    fn claim_by_id(
        self: &Arc<Self>,
        incident: Incident,
        decision: Decision,
        event: &Event,
        targets: &Targets,
    ) -> Claimed {
        let key = StateKey(incident.iid.0);
        if self.entries.load(Ordering::Relaxed) >= self.config.max_keys && !self.evict() {
            self.metrics.dedup_untracked.inc();
            return self.without_state(decision, Some(incident), targets);
        }
        let mut entry = Entry::ABSENT;
        entry.set(IN_FLIGHT, true);
        // A fresh id: nobody can know it yet.
        let seat = match self.table.entry(key) {
            Slot::Vacant(slot) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                slot.insert(entry).seat()
            }
            Slot::Occupied(slot) => slot.seat(),
        };
        let mut claimed = self.owned(Some(seat), decision, Some(incident), Arc::clone(targets));
        if let Claimed::Owned(claim, _) = &mut claimed {
            claim.scope = Some(Scope::of(&event.integration, &event.family));
        }
        claimed
    }

    /// A new incident that an operation on another one makes. That one stays as it is, so it is not claimed.
    fn claim_opened(self: &Arc<Self>, from: StateKey, event: &Event, targets: &Targets, rules: Rules) -> Claimed {
        let addressed = rules.addressed.and_then(|key| self.incident(key));
        if rules.needs_open && addressed.is_none_or(|incident| incident.state == State::Resolved) {
            return Claimed::NotOpen;
        }
        let decision = Decision { outcome: Outcome::Forwarded, change: Change::Open, forward: Forward::Everywhere };
        let Some(mut incident) = self.next(None, decision, event) else {
            return Claimed::Absorbed { outcome: Outcome::Noop, incident: None, awaited: None };
        };
        let from = self.incident(from);
        incident.severity = from.and_then(|incident| incident.severity);
        let mut claimed = self.claim_by_id(incident, decision, event, targets);
        if let Claimed::Owned(claim, _) = &mut claimed {
            claim.continues = from.is_some();
        }
        claimed
    }

    fn without_state(self: &Arc<Self>, decision: Decision, next: Option<Incident>, targets: &Targets) -> Claimed {
        if decision.is_durable() {
            self.owned(None, decision, next, Arc::clone(targets))
        } else {
            Claimed::Absorbed { outcome: decision.outcome, incident: next, awaited: None }
        }
    }

    fn owned(
        self: &Arc<Self>,
        seat: Option<Seat>,
        decision: Decision,
        next: Option<Incident>,
        targets: Targets,
    ) -> Claimed {
        let held = seat.map(|seat| (Arc::clone(self) as Arc<dyn Ledger>, seat));
        let pacing = if decision.outcome == Outcome::Unknown { Pacing::UNKNOWN } else { Pacing::default() };
        Claimed::Owned(Claim::new(held, next, decision.outcome, targets), pacing)
    }

    fn targets_of(&self, decision: Decision, all: &Targets, key: StateKey) -> Targets {
        match decision.forward {
            Forward::Nowhere => Arc::clone(&self.nowhere),
            Forward::Everywhere => Arc::clone(all),
            Forward::WhereUndelivered => lock(&self.undelivered)
                .get(&key)
                .map_or_else(|| Arc::clone(&self.nowhere), |row| row.upstreams.iter().cloned().collect()),
        }
    }

    /// Where a raise goes: of `all` to the `raised`, and to those that the generation's trigger has not reached, for which it is
    /// the next trigger (DESIGN 5.3).
    pub fn raised(&self, key: Option<StateKey>, all: &Targets, raised: &Targets) -> Targets {
        let rows = lock(&self.undelivered);
        let Some(row) = key.and_then(|key| rows.get(&key)) else { return Arc::clone(raised) };
        let is_among = |these: &[Arc<UpstreamMeter>], one| these.iter().any(|known| Arc::ptr_eq(known, one));
        all.iter().filter(|one| is_among(raised, one) || is_among(&row.upstreams, one)).cloned().collect()
    }

    /// Ends an operation on an entry that is not claimed: moves the line on; true when the entry is to go.
    fn after(&self, key: StateKey, entry: &mut Entry) -> bool {
        if entry.has(IN_FLIGHT) {
            return false;
        }
        if entry.has(HAS_LINE) {
            let more = self.lines.wake_first(key);
            entry.set(HAS_LINE, more);
        }
        entry.state().is_none() && !entry.has(HAS_LINE)
    }

    /// Moves a key's line on: somebody who was woken went away without claiming.
    pub(self) fn pass_on(&self, key: StateKey) {
        if let Slot::Occupied(mut slot) = self.table.entry(key)
            && self.after(key, &mut slot)
        {
            self.forget(slot);
        }
    }

    /// The key has no state, and nobody waits for it.
    fn forget(&self, slot: Occupied<'_>) {
        slot.remove();
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_expired(&self, entry: &Entry, now: Micros) -> bool {
        let (since, ttl) = match entry.state() {
            None => return false,
            Some(_) if entry.is_replay() => (entry.changed_at_s(), self.config.replay_ttl),
            Some(State::Open | State::Acked) => (entry.last_seen_s(), self.config.open_ttl),
            Some(State::Resolved) => (entry.changed_at_s(), self.config.resolved_ttl),
        };
        let outlived = u64::from(now.seconds().saturating_sub(since)) >= ttl.as_secs().max(1);
        outlived && !(entry.has(CREATES_ONCE) && self.is_held_once(entry, now))
    }

    /// Whether a key that creates once still stands for its incident (contracts 5.7).
    fn is_held_once(&self, entry: &Entry, now: Micros) -> bool {
        u64::from(now.seconds().saturating_sub(entry.made_at_s())) < self.config.idempotency_ttl.as_secs()
    }

    /// Puts back what the log tells, in log order; before anything runs.
    pub fn restore(&self, key: StateKey, incident: Incident, at: Position) {
        let full = self.entries() >= self.config.max_keys;
        let mut slot = match self.table.entry(key) {
            Slot::Occupied(slot) => slot,
            // What made room for it then was not told to the log: it makes room again.
            Slot::Vacant(slot) if full => {
                drop(slot);
                if self.evict() {
                    self.restore(key, incident, at);
                }
                return;
            }
            Slot::Vacant(slot) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                slot.insert(Entry::ABSENT)
            }
        };
        let was_unknown = slot.is_unknown();
        slot.put(&incident);
        slot.at = at;
        if let Some(sides) = &self.sides {
            sides.restore(key, incident.changed_at.max(incident.last_seen));
        }
        self.note_unknown(was_unknown, slot.is_unknown());
        drop(slot);
        if incident.state == State::Resolved {
            self.note_ended(key, &incident);
        }
    }

    /// What may go when there is no room; called while no shard is locked.
    fn note_ended(&self, key: StateKey, incident: &Incident) {
        let at_s = incident.changed_at.seconds();
        if incident.generation == claim::REPLAY_GENERATION {
            lock(&self.replays).push_back((key, at_s));
            while lock(&self.replays).len() > self.config.max_keys / REPLAY_PART {
                self.evict_from(&self.replays);
            }
        } else {
            self.note_resolved(key, at_s);
        }
    }

    /// Puts back that an incident was seen again.
    pub fn restore_touched(&self, key: StateKey, iid: Uid, count: u32, last_seen: Micros) {
        if let Some(mut entry) = self.table.get_mut(key)
            && entry.incident().is_some_and(|incident| incident.iid == iid)
        {
            entry.touch(count, last_seen);
        }
    }

    /// The clock that all stamps were taken by stood so much before ours (DESIGN 5.6); before anything runs.
    pub fn shift_clock(&self, jump: Duration) {
        let seconds = u32::try_from(jump.as_secs()).unwrap_or(u32::MAX);
        self.table.retain(|_, entry| {
            entry.shift(seconds);
            true
        });
        for ended in [&self.resolved, &self.replays] {
            lock(ended).iter_mut().for_each(|(_, at_s)| *at_s = at_s.saturating_add(seconds));
        }
    }

    /// Gives every state as last committed; `visit` is called while nothing is locked.
    pub fn each(&self, visit: &mut dyn FnMut(StateKey, Incident, Position)) {
        self.table.each(|key, entry| {
            if let Some(incident) = entry.incident() {
                visit(key, incident, entry.at);
            }
        });
    }

    /// Incidents that were seen again since this was last asked.
    pub fn take_touched(&self) -> Vec<(StateKey, Incident)> {
        let keys = std::mem::take(&mut *lock(&self.touched));
        let incident = |key: StateKey| {
            let mut entry = self.table.get_mut(key)?;
            entry.set(TOUCHED, false);
            Some((key, entry.incident()?))
        };
        keys.into_iter().filter_map(incident).collect()
    }

    /// Goes on counting incident numbers above the highest one ever written.
    pub fn restore_number(&self, highest: u64) {
        self.number.fetch_max(highest / REPLICAS, Ordering::Relaxed);
    }

    fn note_unknown(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                self.unknowns.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.unknowns.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn note_resolved(&self, key: StateKey, at_s: u32) {
        let mut resolved = lock(&self.resolved);
        resolved.push_back((key, at_s));
        // A flapping key leaves a row each time: stale ones go from the front.
        while resolved.len() > self.config.max_keys.saturating_mul(2) {
            resolved.pop_front();
        }
    }

    /// Makes room: the oldest resolved key goes. OPEN and ACKED never do (contracts 5.7).
    fn evict(&self) -> bool {
        self.evict_from(&self.resolved) || self.evict_from(&self.replays)
    }

    fn evict_from(&self, ended: &Mutex<VecDeque<(StateKey, u32)>>) -> bool {
        loop {
            let Some((key, at_s)) = lock(ended).pop_front() else { return false };
            let removed = self.table.remove_if(key, |entry| {
                entry.state() == Some(State::Resolved)
                    && entry.changed_at_s() == at_s
                    && !entry.has(IN_FLIGHT)
                    && !entry.has(HAS_LINE)
                    && !entry.has(AWAITED)
            });
            if let Some(entry) = removed {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                self.note_unknown(entry.is_unknown(), false);
                return true;
            }
        }
    }

    /// Forgets what outlived its time; call it about once a minute. One shard is locked at a time.
    pub fn expire(&self, now: Micros) {
        self.table.retain(|key, entry| {
            let is_free = !entry.has(IN_FLIGHT) && !entry.has(HAS_LINE) && !entry.has(AWAITED);
            let goes = is_free && self.is_expired(entry, now);
            if goes {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                self.note_unknown(entry.is_unknown(), false);
                if entry.state() != Some(State::Resolved) {
                    self.metrics.dedup_expired.inc();
                }
                if entry.has(UNDELIVERED) {
                    lock(&self.undelivered).remove(&key);
                }
            }
            !goes
        });
        self.metrics.dedup_entries.set(i64::try_from(self.entries()).unwrap_or(i64::MAX));
        self.forget_ids();
        self.forget_sides();
    }

    /// Ids go with the state of their key; of those that another incident followed at most as many stay as keys may.
    fn forget_ids(&self) {
        let scopes = lock(&self.index).scopes();
        for scope in scopes {
            let mut from = Some(0);
            while let Some(at) = from {
                // Not both locks at once: a request that learns of an incident has its key's when it takes the index's.
                let some = lock(&self.index).some((scope, at), IDS_AT_ONCE);
                from = some.get(IDS_AT_ONCE - 1).map(|row| row.number + 1);
                let gone = some.into_iter().filter(|row| self.table.get(row.key).is_none());
                lock(&self.index).forget(gone);
                // Requests that look for an id wait for a slice at most.
                std::thread::yield_now();
            }
        }
        lock(&self.index).hold_to(self.config.max_keys);
    }

    /// Puts back an incident that its senders address by id; before anything runs.
    pub fn restore_row(&self, row: ById) {
        if row.scope.creates_once()
            && let Some(mut entry) = self.table.get_mut(row.key)
        {
            entry.set(CREATES_ONCE, true);
        }
        lock(&self.index).insert(row);
    }

    /// Gives every incident that its senders address by id.
    pub fn each_row(&self, visit: &mut dyn FnMut(ById)) {
        lock(&self.index).each(visit);
    }

    /// The incident of that number among those of one integration and family.
    pub fn by_number(&self, scope: Scope, number: u64) -> Option<ById> {
        lock(&self.index).by_number(scope, number)
    }

    /// The same by the incident's id.
    pub fn by_iid(&self, scope: Scope, iid: Uid) -> Option<ById> {
        lock(&self.index).by_iid(scope, iid)
    }

    /// At most `count` incidents with numbers below `before`, newest first, and how many there are in all.
    pub fn list(&self, scope: Scope, before: Option<u64>, count: usize) -> (Vec<ById>, usize) {
        let index = lock(&self.index);
        (index.list(scope, before.unwrap_or(u64::MAX), count), index.count(scope))
    }

    /// Keys whose state is held.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// The state of one key, as last committed.
    pub fn incident(&self, key: StateKey) -> Option<Incident> {
        self.table.get(key)?.incident()
    }

    /// The same, with the place of the record that says so.
    pub fn incident_at(&self, key: StateKey) -> Option<(Incident, Position)> {
        let entry = self.table.get(key)?;
        Some((entry.incident()?, entry.at))
    }

    /// What the record at `from` shows of the incident `iid` stands at `to` now; nothing where its state is not that of
    /// `from` any more.
    pub fn moved(&self, key: StateKey, iid: Uid, from: Position, to: Position) {
        if let Some(mut entry) = self.table.get_mut(key)
            && entry.at == from
            && entry.incident().is_some_and(|incident| incident.iid == iid)
        {
            entry.at = to;
        }
    }

    /// A trigger ended as a dead letter: its generation's next trigger is tried there again (DESIGN 5.3).
    pub fn undelivered(&self, key: StateKey, iid: Uid, upstream: &Arc<UpstreamMeter>) {
        let Some(mut entry) = self.table.get_mut(key) else { return };
        if entry.incident().is_none_or(|incident| incident.iid != iid) {
            return;
        }
        entry.set(UNDELIVERED, true);
        let mut rows = lock(&self.undelivered);
        let row = rows.entry(key).or_insert_with(|| Undelivered { iid, upstreams: Vec::new(), tried: None });
        if row.iid != iid {
            *row = Undelivered { iid, upstreams: Vec::new(), tried: None };
        }
        if !row.upstreams.iter().any(|known| Arc::ptr_eq(known, upstream)) {
            row.upstreams.push(Arc::clone(upstream));
        }
    }

    /// A trigger of the generation reached the upstream after all.
    pub fn delivered(&self, key: StateKey, iid: Uid, upstream: &Arc<UpstreamMeter>) {
        let Some(mut entry) = self.table.get_mut(key) else { return };
        let mut rows = lock(&self.undelivered);
        let Some(row) = rows.get_mut(&key).filter(|row| row.iid == iid) else { return };
        row.upstreams.retain(|known| !Arc::ptr_eq(known, upstream));
        if row.upstreams.is_empty() {
            rows.remove(&key);
            entry.set(UNDELIVERED, false);
        }
    }

    fn redelivery_is_due(&self, key: StateKey, iid: Uid) -> bool {
        let after = Duration::from_millis(self.redeliver_after_ms.load(Ordering::Relaxed));
        lock(&self.undelivered)
            .get(&key)
            .is_some_and(|row| row.iid == iid && row.tried.is_none_or(|at| at.elapsed() >= after))
    }

    /// Whatever incident the key has: a question is asked before that is known.
    fn redelivery_may_be_due(&self, key: StateKey) -> bool {
        let iid = lock(&self.undelivered).get(&key).map(|row| row.iid);
        iid.is_some_and(|iid| self.redelivery_is_due(key, iid))
    }

    /// At most one new try of an undelivered trigger in this time, from now on.
    pub fn set_redeliver_after(&self, after: Duration) {
        self.redeliver_after_ms.store(whole_millis(after), Ordering::Relaxed);
    }
}

impl Ledger for Dedup {
    fn commit(&self, seat: Seat, next: Incident, at: Position, scope: Option<Scope>, goes: Goes<'_>) {
        let key = seat.key;
        // A tombstone of an unknown resolve names no incident.
        let row = scope.filter(|_| next.generation > 0);
        let row = row.map(|scope| ById { scope, number: next.number, iid: next.iid, key });
        if let Some(row) = row {
            lock(&self.index).insert(row);
        }
        let Some(mut entry) = self.table.seated(seat) else { return };
        let was_unknown = entry.is_unknown();
        let same_generation = entry.incident().is_some_and(|before| before.iid == next.iid);
        entry.put(&next);
        entry.at = at;
        entry.set(IN_FLIGHT, false);
        self.note_unknown(was_unknown, entry.is_unknown());
        if entry.has(UNDELIVERED) {
            let mut rows = lock(&self.undelivered);
            match rows.get_mut(&key) {
                Some(row) if same_generation => row.tried = Some(Instant::now()),
                _ => {
                    rows.remove(&key);
                    entry.set(UNDELIVERED, false);
                }
            }
        }
        // Before anybody else here can ask for the key.
        if let Some(shared) = self.shared().filter(|_| next.generation == claim::REPLAY_GENERATION) {
            shared.claims.seen(ById { scope: SEEN, number: next.number, iid: next.iid, key });
        } else if let Some(shared) = self.shared() {
            let (order, lease) = shared.sides.commit(key, Micros::now());
            let told = Commit {
                key,
                standing: Standing { incident: next, order },
                creates_once: entry.has(CREATES_ONCE),
                row,
            };
            shared.claims.commit(told, lease, goes);
        }
        // The entry has a state: it stays.
        self.after(key, &mut entry);
        drop(entry);
        if next.state == State::Resolved {
            self.note_ended(key, &next);
        }
    }

    fn release(&self, key: StateKey) {
        if let Some(shared) = self.shared()
            && let Some(lease) = shared.sides.release(key)
        {
            shared.claims.release(key, lease);
        }
        if let Slot::Occupied(mut slot) = self.table.entry(key) {
            slot.set(IN_FLIGHT, false);
            if slot.has(AWAITED) {
                // It was never taken; its sender is told why.
                slot.set(AWAITED, false);
                self.awaited.remove(key);
            }
            if self.after(key, &mut slot) {
                self.forget(slot);
            }
        }
    }
}

/// Whether an event names no incident at all, neither by a key nor by an id.
fn names_nothing(event: &Event, rules: Rules) -> bool {
    event.key.is_none() && event.target.is_none() && rules.addressed.is_none()
}

#[cfg(test)]
mod tests;
