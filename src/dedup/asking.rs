//! Claims on keys that several replicas share (DESIGN 5.4): whether an event can be decided here, the question where it
//! cannot, and what its answer makes of the table. `intake` waits for the answer; the key is in flight here meanwhile, so a
//! replica asks for a key once at a time and everybody else on it stands in its line.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::shared::{Ask, Asked, Ids, Looking, Reply, Rest, SharedClaims, Standing, Takes, Token};
use super::sides::{Again, Sides};
use super::table::{CREATES_ONCE, Entry, HAS_LINE, IN_FLIGHT, Slot, UNDELIVERED};
use super::{Claimed, Dedup, Rules, lock};
use crate::claim::{ById, Ledger, Pacing, Position, REPLAY_GENERATION, Scope, Targets};
use crate::event::{Action, Event, Incident, Micros, State, StateKey, Uid};
use crate::machine::{self, Change, Decision, Forward, KeyLife, Known};
use crate::outcome::Outcome;
use crate::store::Remote;

/// A key that another replica holds is asked for again so often, unless a change of it is told before.
pub const ASK_AGAIN: Duration = Duration::from_millis(5);

/// The other replicas.
pub(super) struct Shared(pub(super) Arc<dyn SharedClaims>);

/// The same, with what stands beside the table for them.
#[derive(Clone, Copy)]
pub(super) struct SharedRef<'d> {
    pub(super) claims: &'d dyn SharedClaims,
    pub(super) sides: &'d Sides,
}

/// How a claim is decided.
#[derive(Clone, Copy, Default)]
pub(super) struct Basis {
    /// The ids of a new incident, if they are set.
    pub(super) ids: Option<(Uid, u64)>,
    /// What is known here may have been overtaken elsewhere.
    pub(super) unsure: bool,
}

/// A question under way. Dropping it leaves the key as it was.
#[must_use = "only its end says what becomes of the event"]
pub struct Asking {
    dedup: Arc<Dedup>,
    key: StateKey,
    ids: Ids,
    token: Token,
    answer: Asked,
    /// The key is ours here.
    holds: bool,
}

/// What one question came to.
pub enum Answered {
    Claimed(Claimed),
    /// Another replica's change is in flight: to be asked again.
    Held(Asking),
}

enum Concluded {
    Claimed(Claimed),
    /// It takes a lease after all.
    Again,
}

impl SharedRef<'_> {
    /// Whether an event that changes nothing may be answered by what is known here: a trigger of what is open. Word of a
    /// change elsewhere takes its time; only a resolve just before a trigger may be that late.
    fn is_known_here(self, key: StateKey, entry: &Entry, event: &Event) -> bool {
        let is_open = matches!(entry.state(), Some(State::Open | State::Acked));
        is_open && event.action == Action::Trigger && self.sides.is_confirmed(key, true)
    }
}

impl Dedup {
    /// Joins the replicas; once, before anything is claimed. Nothing where the configuration did not say so.
    pub fn share(&self, claims: Arc<dyn SharedClaims>) {
        let _ = self.shared.set(Shared(claims));
    }

    /// As [`Self::claim`], for a key that others may change.
    pub(super) fn claim_shared(
        self: &Arc<Self>,
        shared: SharedRef<'_>,
        key: StateKey,
        event: &Event,
        targets: &Targets,
        rules: Rules,
    ) -> Claimed {
        match self.table.entry(key) {
            Slot::Occupied(mut slot) => {
                if slot.has(IN_FLIGHT) {
                    slot.set(HAS_LINE, true);
                    return Claimed::Contended(super::Line::join(self, key));
                }
                let known_here = shared.is_known_here(key, &slot, event) && !self.is_a_change(key, &slot, event, rules);
                if !known_here && shared.claims.is_up() {
                    slot.set(IN_FLIGHT, true);
                } else {
                    if !known_here {
                        shared.claims.fell_back();
                    }
                    let basis = Basis { ids: None, unsure: !known_here };
                    let claimed = self.claim_known(&mut slot, event, targets, rules, basis);
                    if self.after(key, &mut slot) {
                        slot.remove();
                        self.entries.fetch_sub(1, Ordering::Relaxed);
                    }
                    return claimed;
                }
            }
            Slot::Vacant(slot) => {
                if self.entries.load(Ordering::Relaxed) >= self.config.max_keys {
                    drop(slot);
                    if !self.evict() {
                        self.metrics.dedup_untracked.inc();
                        return self.claim_nothing(event, targets, rules, true);
                    }
                    return self.claim_shared(shared, key, event, targets, rules);
                }
                let asks = shared.claims.is_up();
                let mut entry = Entry::ABSENT;
                entry.set(IN_FLIGHT, asks);
                entry.set(CREATES_ONCE, rules.life == KeyLife::CreateOnce);
                let mut slot = slot.insert(entry);
                self.entries.fetch_add(1, Ordering::Relaxed);
                if !asks {
                    shared.claims.fell_back();
                    let basis = Basis { ids: None, unsure: true };
                    let claimed = self.claim_known(&mut slot, event, targets, rules, basis);
                    if self.after(key, &mut slot) {
                        slot.remove();
                        self.entries.fetch_sub(1, Ordering::Relaxed);
                    }
                    return claimed;
                }
            }
        }
        Claimed::Asking(Box::new(self.ask(shared, key, event, rules)))
    }

    fn ask(self: &Arc<Self>, shared: SharedRef<'_>, key: StateKey, event: &Event, rules: Rules) -> Asking {
        let (iid, number) = self.new_ids(event);
        let ids = Ids { iid, number, event_uid: event.uid, action: event.action };
        let token = shared.sides.next_token();
        let takes = self.takes(key, event, rules);
        shared.sides.ask(key);
        let answer = shared.claims.ask(Ask { key, takes, token, ids });
        Asking { dedup: Arc::clone(self), key, ids, token, answer, holds: true }
    }

    /// Whether the event would change the key as it stands here.
    fn is_a_change(&self, key: StateKey, entry: &Entry, event: &Event, rules: Rules) -> bool {
        let before = self.living(entry, event, rules);
        let known = before.map(|incident| Known {
            state: incident.state,
            severity: incident.severity,
            redelivery_due: entry.has(UNDELIVERED) && self.redelivery_is_due(key, incident.iid),
        });
        before.is_none() || self.decide(known, event, rules).is_ok_and(Decision::is_durable)
    }

    /// In which states of its key the event needs a lease.
    fn takes(&self, key: StateKey, event: &Event, rules: Rules) -> Takes {
        let redelivery_due = self.redelivery_may_be_due(key);
        Takes::wherever(|known| {
            let known = known.map(|(state, severity)| Known { state, severity, redelivery_due });
            let statement = machine::Statement {
                action: event.action,
                severity: event.severity,
                notes: rules.notes,
                closes: rules.closes,
            };
            machine::decide(known, statement, rules.life, rules.policy)
                .is_ok_and(|decision| decision.is_durable() && (known.is_some() || decision.change != Change::Nothing))
        })
    }

    /// Decides an event by an answer. The key is in flight here, and ours.
    fn conclude(
        self: &Arc<Self>,
        asking: &Asking,
        reply: Reply,
        event: &mut Event,
        targets: &Targets,
        rules: Rules,
    ) -> Concluded {
        let (key, ids) = (asking.key, asking.ids);
        let Some(shared) = self.shared() else { return Concluded::Claimed(Claimed::Refused) };
        let Slot::Occupied(mut slot) = self.table.entry(key) else { return Concluded::Claimed(Claimed::Refused) };
        let entry = &mut *slot;
        let (known, leased, adopted, behind) = match reply {
            Reply::Stands(known) => (Some(known), false, None, false),
            Reply::Leased { known, adopted, behind } => (Some(known), true, adopted, behind),
            // Who did not hear looks before it sends.
            Reply::Held | Reply::Lost => (None, false, None, true),
        };
        let scope = rules.has_ids.then(|| Scope::of(&event.integration, &event.family));
        let here = entry.incident();
        let unsure = match known {
            Some(known) => !self.learn(shared, key, entry, known, scope),
            None => true,
        };
        if known.is_some() && !leased && asking.holds && self.wants_lease(key, entry, event, rules) {
            return Concluded::Again;
        }
        if let Some(order) = shared.sides.order(key) {
            // It follows what it waited for: the log must say so too, for a start after a kill.
            event.received_at = event.received_at.max(Micros(order.0.saturating_add(1)));
        }
        // Who held a lease that lapsed may have its change on disk all the same: nothing is absorbed by what stands without it.
        let has_lapsed = adopted.is_some();
        let unsure = unsure || has_lapsed;
        let adopted = adopted.unwrap_or(ids);
        entry.set(IN_FLIGHT, false);
        let basis = Basis { ids: Some((adopted.iid, adopted.number)), unsure };
        let mut claimed = match here.filter(|_| rules.addressed.is_some()) {
            // Its sender meant the one that it knew by its id: another one has followed it elsewhere.
            Some(here) if entry.incident().is_some_and(|now| now.iid != here.iid) => followed(here, event, rules),
            _ => self.claim_known(&mut slot, event, targets, rules, basis),
        };
        if let Claimed::Owned(claim, pacing) = &mut claimed {
            claim.scope = scope;
            if behind {
                *pacing = pacing.with(Pacing::BEHIND);
            }
        }
        let next = if let Claimed::Owned(claim, _) = &claimed { claim.next } else { None };
        // A trigger of an incident that stood before may be another one, with another severity.
        let is_new = next.is_some_and(|next| next.iid == adopted.iid);
        if adopted.action == event.action && (is_new || event.action != Action::Trigger) {
            event.uid = adopted.event_uid;
        }
        let is_ours = matches!(&claimed, Claimed::Owned(claim, _) if claim.key() == Some(key));
        if has_lapsed && is_ours {
            self.metrics.order_given_up.inc();
        }
        // A question without an answer may have its lease all the same.
        let lease = (leased || known.is_none()).then_some(asking.token);
        shared.sides.lease(key, lease.filter(|_| is_ours));
        if let Some(lease) = lease.filter(|_| !is_ours) {
            shared.claims.release(key, lease);
        }
        if known.is_none() {
            shared.claims.fell_back();
        }
        if self.after(key, &mut slot) {
            slot.remove();
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        Concluded::Claimed(claimed)
    }

    /// A change that the answer gave no lease for: what is known here is newer than what is known there.
    fn wants_lease(&self, key: StateKey, entry: &Entry, event: &Event, rules: Rules) -> bool {
        let before = self.living(entry, event, rules);
        let known = before.map(|incident| Known {
            state: incident.state,
            severity: incident.severity,
            redelivery_due: entry.has(UNDELIVERED) && self.redelivery_is_due(key, incident.iid),
        });
        self.decide(known, event, rules)
            .is_ok_and(|decision| decision.is_durable() && (before.is_some() || decision.change != Change::Nothing))
    }

    /// Takes what all replicas know of a key, where it is newer; else has what is known here put there. True when what is
    /// known here now may be believed.
    fn learn(
        &self,
        shared: SharedRef<'_>,
        key: StateKey,
        entry: &mut Entry,
        known: Option<Standing>,
        scope: Option<Scope>,
    ) -> bool {
        let here = entry.incident();
        let order = shared.sides.order(key).unwrap_or_else(|| entry.order());
        let Some(there) = known else {
            // Confirmed and not changed since, or long enough ago for the others to have put theirs back.
            let sure = here.is_none() || shared.sides.is_confirmed(key, false) || shared.claims.is_settled(order);
            if here.is_some() {
                shared.claims.put(key);
            }
            shared.sides.confirm(key, order, None);
            return sure;
        };
        let is_newer = here.is_none_or(|here| there.order > order && !there.incident.says_the_same(&here));
        if is_newer {
            self.adopt(key, entry, &there.incident, scope);
        } else if here.is_some_and(|here| here.iid == there.incident.iid) {
            entry.touch(there.incident.count, there.incident.last_seen);
        }
        if there.order < order {
            shared.claims.put(key);
        }
        shared.sides.confirm(key, there.order, None);
        shared.claims.is_settled(there.order.max(if is_newer { there.order } else { order }))
    }

    /// Another replica's state of a key becomes ours.
    pub(super) fn adopt(&self, key: StateKey, entry: &mut Entry, incident: &Incident, scope: Option<Scope>) {
        let before = entry.incident();
        let was_unknown = entry.is_unknown();
        entry.put(incident);
        if before.is_none_or(|before| before.iid != incident.iid) {
            // No record of the log here tells of it.
            entry.at = Position::default();
            if entry.has(UNDELIVERED) {
                entry.set(UNDELIVERED, false);
                lock(&self.undelivered).remove(&key);
            }
        }
        self.note_unknown(was_unknown, entry.is_unknown());
        if incident.state == State::Resolved {
            self.note_resolved(key, incident.changed_at.seconds());
        }
        if let Some(scope) = scope.filter(|_| incident.generation > 0) {
            lock(&self.index).insert(ById { scope, number: incident.number, iid: incident.iid, key });
        }
    }

    /// What becomes of an event that changes nothing, where nobody can confirm what it repeats (DESIGN 5.4).
    pub(super) fn say_again(&self, key: StateKey, before: Option<Incident>, decision: Decision) -> (Decision, Pacing) {
        let repeats = matches!(decision.outcome, Outcome::Duplicate | Outcome::DuplicateResolve);
        let (Some(shared), Some(before), true) =
            (self.shared(), before.filter(|before| before.generation > 0), repeats && !decision.is_durable())
        else {
            return (decision, Pacing::default());
        };
        let pacing = match shared.sides.say_again(key, before.iid) {
            Again::Said => return (decision, Pacing::default()),
            Again::Now => Pacing::default(),
            Again::Later => Pacing::UNCONFIRMED,
        };
        self.metrics.dedup_unconfirmed.inc();
        (Decision { forward: Forward::Everywhere, ..decision }, pacing)
    }

    /// Until when a duplicate waits that nobody could confirm. `None`: it need not.
    pub fn waits_until(&self, key: StateKey) -> Option<Instant> {
        self.shared()?.sides.kept_until(key)
    }

    /// An event on a key left its upstream's queue.
    pub fn left(&self, key: StateKey, upstream: &Arc<str>, sequence: u64, rest: Rest) {
        if let Some(shared) = self.shared() {
            shared.claims.left(key, upstream, sequence, rest);
        }
    }

    /// An upstream's answer taught what it calls an incident.
    pub fn learned(&self, key: StateKey, upstream: &Arc<str>, iid: Uid, remote: &Remote) {
        if let Some(shared) = self.shared() {
            shared.claims.learned(key, upstream, iid, remote, self.row_of(iid, key));
        }
    }

    /// Asks what an event waits for; `None` where no states are shared, or nobody can be asked: then it waits for nothing.
    pub fn look(&self, key: StateKey, upstream: &Arc<str>, received_at: Micros) -> Option<Looking> {
        let shared = self.shared().filter(|shared| shared.claims.asks() && shared.claims.is_up())?;
        Some(shared.claims.look(key, upstream, received_at))
    }

    /// Whether what is known of a key was confirmed, and not overtaken since.
    pub fn is_confirmed(&self, key: StateKey) -> bool {
        self.shared().is_some_and(|shared| shared.sides.is_confirmed(key, false))
    }

    /// Another replica changed a key.
    pub fn changed_elsewhere(&self, key: StateKey) {
        if let Some(shared) = self.shared() {
            shared.sides.changed(key);
        }
    }

    /// Nothing that was confirmed until now holds any more: told after an outage, or when the shared states are gone.
    pub fn all_changed_elsewhere(&self) {
        if let Some(shared) = self.shared() {
            shared.sides.all_changed();
        }
    }

    /// A key as it is to be put among the shared states; `None` where nothing is known of it.
    pub fn standing(&self, key: StateKey) -> Option<(Standing, bool)> {
        let shared = self.shared()?;
        let entry = self.table.get(key)?;
        let order = shared.sides.order(key).unwrap_or_else(|| entry.order());
        Some((Standing { incident: entry.incident()?, order }, entry.has(CREATES_ONCE)))
    }

    /// Every key whose state is to be put back after an outage: what lives, and what was resolved.
    pub fn each_standing(&self, visit: &mut dyn FnMut(StateKey)) {
        self.table.each(|key, entry| {
            if entry.state().is_some() && !entry.is_replay() {
                visit(key);
            }
        });
    }

    /// How long a shared state is kept (contracts 5.7), from `now` on.
    pub fn lifetime(&self, incident: &Incident, creates_once: bool, now: Micros) -> Duration {
        let left = |since: Micros, ttl: Duration| {
            let age = u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
            ttl.saturating_sub(Duration::from_micros(age))
        };
        let lives = match incident.state {
            State::Resolved if incident.generation == REPLAY_GENERATION => {
                left(incident.changed_at, self.config.replay_ttl)
            }
            State::Open | State::Acked => left(incident.last_seen, self.config.open_ttl),
            State::Resolved => left(incident.changed_at, self.config.resolved_ttl),
        };
        let once =
            if creates_once { left(incident.iid.made_at(), self.config.idempotency_ttl) } else { Duration::ZERO };
        lives.max(once)
    }

    /// Forgets what stands beside keys that are gone.
    pub(super) fn forget_sides(&self) {
        if let Some(shared) = self.shared() {
            shared.sides.retain(|key| self.table.get(key).is_some());
        }
    }
}

/// An event on an incident, addressed by its id, that another one of its key has followed: it is resolved, and stays so.
fn followed(incident: Incident, event: &Event, rules: Rules) -> Claimed {
    if rules.needs_open {
        return Claimed::NotOpen;
    }
    let outcome = if event.action == Action::Resolve { Outcome::DuplicateResolve } else { Outcome::Noop };
    let incident = Some(Incident { state: State::Resolved, ..incident });
    Claimed::Absorbed { outcome, incident, awaited: None }
}

impl Asking {
    /// Waits for the end, at most so long while another replica's change is in flight.
    pub async fn end(mut self, event: &mut Event, targets: &Targets, rules: Rules, deadline: Instant) -> Claimed {
        loop {
            match self.answer(event, targets, rules).await {
                Answered::Claimed(claimed) => return claimed,
                Answered::Held(asking) => self = asking,
            }
            if Instant::now() >= deadline {
                return Claimed::Busy;
            }
            if let Some(shared) = self.dedup.shared() {
                shared.sides.wait_for_change(self.key, ASK_AGAIN).await;
            }
            self.ask_again(event, rules, None);
        }
    }

    /// Waits for one answer alone: for requests that hold other claims.
    pub async fn answer(mut self, event: &mut Event, targets: &Targets, rules: Rules) -> Answered {
        loop {
            let reply = self.answer.as_mut().await;
            if reply == Reply::Held {
                return Answered::Held(self);
            }
            let dedup = Arc::clone(&self.dedup);
            match dedup.conclude(&self, reply, event, targets, rules) {
                Concluded::Claimed(claimed) => {
                    self.holds = false;
                    return Answered::Claimed(claimed);
                }
                Concluded::Again => self.ask_again(event, rules, Some(Takes::ALWAYS)),
            }
        }
    }

    fn ask_again(&mut self, event: &Event, rules: Rules, takes: Option<Takes>) {
        let Some(shared) = self.dedup.shared() else { return };
        let takes = takes.unwrap_or_else(|| self.dedup.takes(self.key, event, rules));
        shared.sides.ask(self.key);
        self.answer = shared.claims.ask(Ask { key: self.key, takes, token: self.token, ids: self.ids });
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.holds {
            if let Some(shared) = self.dedup.shared() {
                shared.claims.release(self.key, self.token);
            }
            self.dedup.release(self.key);
        }
    }
}
