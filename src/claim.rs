//! The proofs an event gathers on its way (DESIGN 1): a [`Claim`] on its key, then [`Admitted`] by the
//! event limit, then [`Accepted`] by the log. Each is made from the one before, so no stage can be
//! skipped; dropping one before the hand-over to the log releases the key, and the retry counts as new.

use std::sync::Arc;

use crate::event::{Event, Incident, Micros, State, StateKey, Uid};
use crate::metrics::{Ticket, UpstreamMeter};
use crate::outcome::{Outcome, Reason};
use crate::vendor;

/// Where a record stands in the log: segment number in the high half, byte offset in the low half. A state's has its
/// highest bit set where the record tells what is shown of the incident; it is the log's to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What holds the states: implemented by `dedup`, called when a claim ends.
pub trait Ledger: Send + Sync {
    /// The transition is durable: it holds from now on, and the line behind it moves. `scope`: of an incident that its
    /// senders address by id. `goes`: its event.
    fn commit(&self, seat: Seat, next: Incident, at: Position, scope: Option<Scope>, goes: Goes<'_>);
    /// The transition did not happen: as if the event had never come.
    fn release(&self, key: StateKey);
}

/// A key that is claimed, and the row where the ledger has its state: the writer of the log commits many at once, and need
/// not look each up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub key: StateKey,
    pub row: u32,
}

/// An event on its way out: by which number the log knows it, and where it goes.
#[derive(Clone, Copy)]
pub struct Goes<'t> {
    pub sequence: u64,
    pub targets: &'t Targets,
}

/// Integration and family, as one number: whose ids a number or an iid is looked up among. Odd where the family's keys
/// create once: what puts states back sees no family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u64);

impl Scope {
    /// Two scopes of one process are alike by chance once in 2^63 pairs.
    pub fn of(integration: &str, family: &str) -> Self {
        Self(StateKey::of(integration, family, "").0 as u64 & !1 | u64::from(family == vendor::CREATE_ONCE_FAMILY))
    }

    /// Whether its keys create once and for all (contracts 5.3).
    pub fn creates_once(self) -> bool {
        self.0 & 1 == 1
    }
}

/// An incident that its senders address by number or id, and where its state stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ById {
    pub scope: Scope,
    pub number: u64,
    pub iid: Uid,
    /// Its key's, or what stands for it where it has none.
    pub key: StateKey,
}

/// What a refused event did to its key, to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBack {
    pub key: StateKey,
    /// The incident that it made or changed.
    pub iid: Uid,
    /// As it stood before, and where the record of that stands. `None`: nothing was known of the key.
    pub before: Option<(Incident, Position)>,
}

/// The right to change one key's state, and the change. At most one lives per key.
#[must_use = "dropping a claim releases its key"]
pub struct Claim {
    held: Held,
    /// The incident as it will stand.
    pub next: Option<Incident>,
    pub outcome: Outcome,
    /// Upstreams the event goes to; empty when it changes the proxy's state alone.
    pub targets: Targets,
    /// What is shown of an incident that is addressed by id goes on from what was shown before.
    pub continues: bool,
    /// Of an incident that its senders address by id.
    pub scope: Option<Scope>,
    /// Where the record stands that the incident's state was last written with; `None` where the event begins it.
    pub before: Option<Position>,
    /// The transport's own id of the event, kept with it.
    replay: Option<Box<(Held, Incident)>>,
}

/// The key, until it is committed. `None`: an event without key, or a key the full table does not track.
struct Held(Option<(Arc<dyn Ledger>, Seat)>);

/// The upstreams of an event, in configured order; shared by every event of an integration.
pub type Targets = Arc<[Arc<UpstreamMeter>]>;

impl Claim {
    pub fn new(
        held: Option<(Arc<dyn Ledger>, Seat)>,
        next: Option<Incident>,
        outcome: Outcome,
        targets: Targets,
    ) -> Self {
        Self { held: Held(held), next, outcome, targets, continues: false, scope: None, before: None, replay: None }
    }

    pub fn key(&self) -> Option<StateKey> {
        self.held.0.as_ref().map(|(_, seat)| seat.key)
    }

    /// The transport's own id is kept with the event, or as little as the event.
    pub fn with_replay(mut self, ledger: Arc<dyn Ledger>, seat: Seat, received_at: Micros) -> Self {
        let mark = replay_mark(self.next, received_at);
        self.replay = Some(Box::new((Held(Some((ledger, seat))), mark)));
        self
    }

    /// Where it is kept that the transport's own id was seen.
    pub fn replay_key(&self) -> Option<StateKey> {
        self.replay.as_ref().and_then(|replay| replay.0.0.as_ref()).map(|(_, seat)| seat.key)
    }

    /// The record is durable at `at`.
    fn commit(self, sequence: u64, at: Position) -> Targets {
        let Self { mut held, next, targets, scope, replay, .. } = self;
        if let Some((mut replay, mark)) = replay.map(|replay| *replay)
            && let Some((ledger, seat)) = replay.0.take()
        {
            let nowhere = Targets::from([]);
            ledger.commit(seat, mark, Position::default(), None, Goes { sequence, targets: &nowhere });
        }
        if let (Some((ledger, seat)), Some(next)) = (held.0.take(), next) {
            ledger.commit(seat, next, at, scope, Goes { sequence, targets: &targets });
        }
        targets
    }
}

/// The generation of no incident.
pub const REPLAY_GENERATION: u32 = u32::MAX;

/// What stands for a transport's own id that was seen: an entry like a resolved incident's, which is none (contracts 5.7). It
/// names the incident that the event was about.
pub fn replay_mark(incident: Option<Incident>, received_at: Micros) -> Incident {
    Incident {
        iid: incident.map_or(Uid(0), |incident| incident.iid),
        number: incident.map_or(0, |incident| incident.number),
        generation: REPLAY_GENERATION,
        state: State::Resolved,
        severity: None,
        count: 0,
        last_seen: received_at,
        changed_at: received_at,
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((ledger, seat)) = self.0.take() {
            ledger.release(seat.key);
        }
    }
}

/// How forwarding of an event is paced beyond its upstream's own limit. Bits are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pacing(pub u8);

impl Pacing {
    /// Accepted above the integration's event limit: its lane waits for a token (`on_limit: spool`).
    pub const EVENT_LIMIT: Self = Self(1);
    /// A resolve or acknowledge nothing was known of: 10 a minute an integration (contracts 5.5).
    pub const UNKNOWN: Self = Self(2);
    /// A duplicate of an incident that nobody can confirm: at most one a minute (DESIGN 5.4).
    pub const UNCONFIRMED: Self = Self(4);
    /// Another replica has events on the key that may not have been delivered (DESIGN 5.4).
    pub const BEHIND: Self = Self(8);

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A claim that passed the event limit, with the event and its place in the books. Only `gate` makes one.
#[must_use = "dropping it releases the key and counts the event as rejected"]
pub struct Admitted {
    pub claim: Claim,
    pub event: Event,
    pub pacing: Pacing,
    pub ticket: Ticket,
}

impl Admitted {
    /// Its record is placed: what the event says stands there, and is given back here, by the thread that made it.
    pub fn placed(self) -> Placed {
        let Self { claim, event, pacing, ticket } = self;
        Placed { claim, integration: event.integration, pacing, ticket }
    }
}

/// An admitted event whose record is on its way to the disk.
#[must_use = "dropping it releases the key and counts the event as rejected"]
pub struct Placed {
    pub claim: Claim,
    pub integration: Arc<str>,
    pub pacing: Pacing,
    pub ticket: Ticket,
}

impl Placed {
    /// The log holds it at `at`: commits the transition and counts the event; what forwarding needs is left.
    /// Called by the log's writer alone, whether or not the requester still lives (DESIGN 5.1).
    pub fn accept(self, sequence: u64, at: Position) -> (Accepted, Left) {
        let Self { claim, integration, pacing, ticket } = self;
        let accepted = Accepted { incident: claim.next, outcome: claim.outcome };
        if claim.targets.is_empty() {
            ticket.absorb(claim.outcome);
        } else {
            for target in claim.targets.iter() {
                target.enqueue();
            }
            ticket.accept();
        }
        (accepted, Left { targets: claim.commit(sequence, at), integration, pacing })
    }

    /// The event ends here: its sender's retry is a new one.
    pub fn refuse(self, reason: Reason) {
        self.ticket.reject(reason);
    }
}

/// What is left of an accepted event in memory: where it goes.
pub struct Left {
    pub integration: Arc<str>,
    pub targets: Targets,
    pub pacing: Pacing,
}

/// The proof that an event is durable: only now may it be answered 2xx.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    pub incident: Option<Incident>,
    pub outcome: Outcome,
}
