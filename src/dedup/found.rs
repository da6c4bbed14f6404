//! Incidents that senders address by id at another replica than the one that took them (contracts 5.2): found by their
//! names among the shared states. And ids of transports that another one has seen (contracts 5.7). Asked for by `intake`
//! where an id is not known here; from then on it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use super::shared::Standing;
use super::table::{CREATES_ONCE, Entry, IN_FLIGHT, Slot};
use super::{Dedup, lock};
use crate::claim::{ById, REPLAY_GENERATION, Scope};
use crate::event::{Incident, Micros, State, StateKey, Uid};

/// By what an incident is addressed, as one hash: nothing of a sender's text is told to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdName(pub u128);

impl IdName {
    pub fn number(scope: Scope, number: u64) -> Self {
        Self::of("number", &scope.0.to_string(), &number.to_string())
    }

    pub fn iid(scope: Scope, iid: Uid) -> Self {
        Self::of("iid", &scope.0.to_string(), &iid.to_string())
    }

    /// An upstream's own id of it.
    pub fn remote(upstream: &str, id: &str) -> Self {
        Self::of("remote", upstream, id)
    }

    /// An id of a transport, by where it is kept that it was seen.
    pub fn replay(key: StateKey) -> Self {
        Self::of("replay", "", &key.0.to_string())
    }

    fn of(kind: &str, whose: &str, id: &str) -> Self {
        Self(StateKey::of(kind, whose, id).0)
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub row: ById,
    /// Of its key, as all replicas know it: perhaps of an incident that followed. `None` for an id of a transport.
    pub standing: Option<Standing>,
}

/// Of rows that stand for an id of a transport: its key is where that is kept, number and iid are those of its incident.
pub const SEEN: Scope = Scope(0);

/// An answer to come.
pub type Finding = Pin<Box<dyn Future<Output = Option<Found>> + Send>>;

impl Dedup {
    /// Whether others may know ids that are not known here.
    pub fn asks_for_ids(&self) -> bool {
        self.shared().is_some_and(|shared| shared.claims.asks() && shared.claims.is_up())
    }

    /// Asks the others for these names; true where an incident is known here now that was not.
    pub async fn find_elsewhere(&self, names: &[IdName]) -> bool {
        let mut is_found = false;
        for name in names {
            let Some(finding) = self.shared().map(|shared| shared.claims.find(*name)) else { break };
            if let Some(found) = finding.await {
                self.take_found(found);
                is_found = true;
            }
        }
        is_found
    }

    /// By what an incident of the key is addressed.
    pub fn row_of(&self, iid: Uid, key: StateKey) -> Option<ById> {
        lock(&self.index).of_iid(iid).filter(|row| row.key == key)
    }

    /// Whether a transport's own id was seen here.
    pub fn has_seen(&self, replay: StateKey) -> bool {
        self.table.get(replay).is_some()
    }

    fn take_seen(&self, row: ById) {
        if self.entries.load(Ordering::Relaxed) >= self.config.max_keys && !self.evict() {
            return;
        }
        let (ById { key, number, iid, .. }, now) = (row, Micros::now());
        let mark = Incident {
            iid,
            number,
            generation: REPLAY_GENERATION,
            state: State::Resolved,
            severity: None,
            count: 0,
            last_seen: now,
            changed_at: now,
        };
        if let Slot::Vacant(slot) = self.table.entry(key) {
            let mut entry = Entry::ABSENT;
            entry.put(&mark);
            slot.insert(entry);
            self.entries.fetch_add(1, Ordering::Relaxed);
        } else {
            return;
        }
        self.note_ended(key, &mark);
    }

    fn take_found(&self, found: Found) {
        let Found { row, standing } = found;
        let Some(standing) = standing else { return self.take_seen(row) };
        let (Some(shared), ById { scope, key, .. }) = (self.shared(), row) else { return };
        if self.entries.load(Ordering::Relaxed) >= self.config.max_keys
            && self.table.get(key).is_none()
            && !self.evict()
        {
            return;
        }
        let mut slot = match self.table.entry(key) {
            Slot::Occupied(slot) => slot,
            Slot::Vacant(slot) => {
                let mut entry = Entry::ABSENT;
                entry.set(CREATES_ONCE, scope.creates_once());
                self.entries.fetch_add(1, Ordering::Relaxed);
                slot.insert(entry)
            }
        };
        // A change that is in flight learns by itself.
        if !slot.has(IN_FLIGHT) {
            let order = shared.sides.order(key).unwrap_or_else(|| slot.order());
            if slot.incident().is_none() || standing.order > order {
                self.adopt(key, &mut slot, &standing.incident, None);
                shared.sides.learn(key, standing.order);
            }
        }
        drop(slot);
        // Without the shard's lock: nobody else of the key waits for it.
        let mut index = lock(&self.index);
        let Incident { iid, number, generation, .. } = standing.incident;
        if generation > 0 {
            index.insert(ById { scope, number, iid, key });
        }
        index.insert(row);
    }
}
