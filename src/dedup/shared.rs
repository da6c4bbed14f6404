//! What replicas agree on (DESIGN 5.4), as dedup sees it: the question that is asked before a key is changed, its answer, and
//! what is told when a change is durable. The room `redis` implements [`SharedClaims`]; without it nothing here runs.
//!
//! A lease stands beside the key's shared state from before the log's write until the change is told there, and nobody
//! absorbs, changes or opens the key while it lives. So the shared state never says what is not on disk: it is written
//! after the sync, and may be written after the answer, because the lease covers the time between. A lease that nobody
//! ends lapses, and whoever takes the key over goes on under its ids.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::found::{Finding, IdName};
use crate::claim::{ById, Goes};
use crate::event::{Action, Incident, Micros, Severity, State, StateKey, Uid};
use crate::store::Remote;

/// When a key's newest change was committed: microseconds of wall time, pushed on where two clocks disagree. The higher
/// one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(pub i64);

/// What all replicas know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub incident: Incident,
    pub order: Order,
}

/// Names a lease. Never given twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// In which states of its key an event needs a lease: bit 0 for none, then one for each state and severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes(u32);

impl Takes {
    pub const ALWAYS: Self = Self(u32::MAX);
    /// Severities a state may have: none, or 1 to 5.
    pub const SEVERITIES: u32 = 6;

    /// The bit of a state; the room's script reckons alike.
    pub fn bit(known: Option<(State, Option<Severity>)>) -> u32 {
        known.map_or(0, |(state, severity)| {
            1 + (state as u32 - 1) * Self::SEVERITIES + severity.map_or(0, |severity| u32::from(severity.level()))
        })
    }

    /// Where `takes` says so.
    pub fn wherever(takes: impl Fn(Option<(State, Option<Severity>)>) -> bool) -> Self {
        let states = [State::Open, State::Acked, State::Resolved];
        let severities = [0, 1, 2, 3, 4, 5].map(Severity::new);
        let known = states.iter().flat_map(|state| severities.iter().map(move |severity| Some((*state, *severity))));
        let bits = [None].into_iter().chain(known).filter(|known| takes(*known));
        Self(bits.fold(0, |bits, known| bits | 1 << Self::bit(known)))
    }

    pub fn bits(self) -> u32 {
        self.0
    }
}

/// A change that is durable.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub key: StateKey,
    pub standing: Standing,
    pub creates_once: bool,
    /// By what its incident is addressed, if its senders use ids.
    pub row: Option<ById>,
}

/// The ids that an event's change would have: who takes over its lease goes on under them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub iid: Uid,
    pub number: u64,
    pub event_uid: Uid,
    pub action: Action,
}

/// The question before an event is decided.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub key: StateKey,
    pub takes: Takes,
    pub token: Token,
    pub ids: Ids,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The key stands so, and no lease was taken.
    Stands(Option<Standing>),
    /// The lease is ours. `adopted`: of a change whose owner is gone.
    /// `behind`: another replica has events on the key that it has not delivered everywhere.
    Leased { known: Option<Standing>, adopted: Option<Ids>, behind: bool },
    /// Another replica's change of the key is in flight.
    Held,
    /// No answer, or none that means anything.
    Lost,
}

/// An answer to come.
pub type Asked = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Whether earlier events on a key wait at other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// None does, or nobody can say.
    Nobody,
    /// At one that lives.
    Waits,
    /// At one that is gone, until its volume comes back.
    Gone,
}

/// What stands in the way of an event, and what helps it.
#[derive(Clone, Debug)]
pub struct Look {
    pub ahead: Ahead,
    /// By which its upstream knows an incident of the key.
    pub remote: Option<(Uid, Remote)>,
}

/// What waits behind an event that left its upstream's queue, on the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// This one first.
    Next(u64),
    Nothing,
    /// More of its integration stand in the log, and nobody has looked on which keys.
    Unknown,
}

/// An answer to come.
pub type Looking = Pin<Box<dyn Future<Output = Look> + Send>>;

/// What joins the replicas. Called on threads that take requests in and on the log's writer: must not block.
pub trait SharedClaims: Send + Sync {
    /// False in scope `mirror`: nobody is asked, only told.
    fn asks(&self) -> bool;
    /// Whether an answer may be had now. Where not, every replica is alone.
    fn is_up(&self) -> bool;
    /// Asked at once; resolves within the bound of a round trip.
    fn ask(&self, ask: Ask) -> Asked;
    /// A change is durable. `lease`: ends with it.
    /// `goes`: where its event waits from now on.
    fn commit(&self, commit: Commit, lease: Option<Token>, goes: Goes<'_>);
    /// What was committed is taken back, and nothing was known of the key before.
    fn forget(&self, key: StateKey, order: Order);
    /// An event on the key left its upstream's queue. `rest`: what waits behind it there.
    fn left(&self, key: StateKey, upstream: &Arc<str>, sequence: u64, rest: Rest);
    /// What an upstream calls the key's incident. `row`: of one whose senders use ids.
    fn learned(&self, key: StateKey, upstream: &Arc<str>, iid: Uid, remote: &Remote, row: Option<ById>);
    /// An id of a transport was seen.
    fn seen(&self, row: ById);
    /// The incident that a name stands for; resolves within the bounds of two round trips.
    fn find(&self, name: IdName) -> Finding;
    /// What an event waits for at an upstream, and what that calls its incident. `received_at`: the event's, which lies
    /// behind the orders of all that it followed, and before those of all that followed it.
    fn look(&self, key: StateKey, upstream: &Arc<str>, received_at: Micros) -> Looking;
    /// A lease ends, and nothing was changed.
    fn release(&self, key: StateKey, lease: Token);
    /// What is known here is to be put there, where it is newer.
    fn put(&self, key: StateKey);
    /// An event was decided by this replica alone. Counted.
    fn fell_back(&self);
    /// Whether a state of that order may be believed: no outage lies since, or all have had time to put theirs back.
    fn is_settled(&self, order: Order) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_bit_of_its_own() {
        assert_eq!(Takes::wherever(|_| true).bits().count_ones(), 19);
        assert_eq!(Takes::wherever(|known| known.is_none()).bits(), 1);
        let worst = Takes::wherever(|known| known == Some((State::Resolved, Severity::new(5))));
        assert_eq!(worst.bits(), 1 << 18);
    }
}
