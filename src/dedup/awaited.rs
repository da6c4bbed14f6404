//! Events whose senders wait for their delivery, by the key they changed (DESIGN 5.7): their duplicates wait with them,
//! and a refused one is taken back as if it had never come. A row lives while a refusal can still end its event; all of it
//! under the key's shard, so a duplicate either waits with it or is decided after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::shared::{Commit, Standing};
use super::table::{AWAITED, CREATES_ONCE, Entry, HAS_LINE, IN_FLIGHT, Slot};
use super::{Dedup, lock};
use crate::awaited::Awaited;
use crate::claim::{Goes, Position, TakenBack};
use crate::event::{Incident, Micros, State, StateKey, Uid};

/// All rows. Locked after the shard.
#[derive(Default)]
pub(super) struct Rows(Mutex<HashMap<StateKey, Row, foldhash::fast::RandomState>>);

struct Row {
    awaited: Arc<Awaited>,
    before: Option<(Incident, Position)>,
}

impl Rows {
    fn get(&self, key: StateKey) -> Option<Arc<Awaited>> {
        lock(&self.0).get(&key).map(|row| Arc::clone(&row.awaited))
    }

    fn take(&self, key: StateKey) -> Option<Row> {
        lock(&self.0).remove(&key)
    }

    pub(super) fn remove(&self, key: StateKey) {
        self.take(key);
    }
}

impl Dedup {
    /// The event that is claiming a key is awaited: before it goes to the log.
    pub fn await_delivery(&self, key: StateKey, awaited: &Arc<Awaited>) {
        let Some(mut entry) = self.table.get_mut(key) else { return };
        let before = entry.incident().map(|incident| (incident, entry.at));
        entry.set(AWAITED, true);
        lock(&self.awaited.0).insert(key, Row { awaited: Arc::clone(awaited), before });
    }

    /// No refusal ends the event any more.
    pub fn not_awaited(&self, key: StateKey, uid: Uid) {
        if let Some(mut entry) = self.table.get_mut(key)
            && entry.has(AWAITED)
            && self.awaited.get(key).is_some_and(|awaited| awaited.uid() == uid)
        {
            self.awaited.take(key);
            entry.set(AWAITED, false);
        }
    }

    /// The event that is awaited on a key, for its duplicate.
    pub(super) fn awaited_on(&self, key: StateKey, entry: &Entry) -> Option<Arc<Awaited>> {
        if entry.has(AWAITED) { self.awaited.get(key) } else { None }
    }

    /// Another event goes on from what an awaited one did: that stays.
    pub(super) fn build_on(&self, key: StateKey, entry: &mut Entry) {
        if entry.has(AWAITED) {
            entry.set(AWAITED, false);
            if let Some(row) = self.awaited.take(key) {
                row.awaited.keep();
            }
        }
    }

    /// The upstream refused an awaited event. If nobody was told that it is taken, and nothing was built on it, its key is
    /// as before, and claimed until [`Self::taken_back`]: whoever comes stands in its line. The inner `None`: it changed no
    /// state. The outer: it stays.
    pub fn take_back(&self, key: StateKey, awaited: &Awaited) -> Option<Option<TakenBack>> {
        let mut slot = match self.table.entry(key) {
            Slot::Occupied(slot) if slot.has(AWAITED) => slot,
            // It has no state, or its row is gone: then it was kept.
            _ => return awaited.refuse().then_some(None),
        };
        if slot.has(IN_FLIGHT) || self.awaited.get(key).is_none_or(|known| known.uid() != awaited.uid()) {
            awaited.keep();
            return None;
        }
        if !awaited.refuse() {
            return None;
        }
        let before = self.awaited.take(key).and_then(|row| row.before);
        let iid = slot.incident()?.iid;
        slot.set(AWAITED, false);
        slot.set(IN_FLIGHT, true);
        let taken = TakenBack { key, iid, before };
        self.undo(&mut slot, &taken);
        Some(Some(taken))
    }

    /// That is on disk: the key is free, and the other replicas are told.
    pub fn taken_back(&self, key: StateKey) {
        if let Slot::Occupied(mut slot) = self.table.entry(key)
            && slot.has(IN_FLIGHT)
        {
            slot.set(IN_FLIGHT, false);
            if let Some(shared) = self.shared() {
                let (order, lease) = shared.sides.commit(key, Micros::now());
                match slot.incident() {
                    Some(incident) => {
                        let standing = Standing { incident, order };
                        let told = Commit { key, standing, creates_once: slot.has(CREATES_ONCE), row: None };
                        shared.claims.commit(told, lease, Goes { sequence: 0, targets: &self.nowhere });
                    }
                    None => shared.claims.forget(key, order),
                }
            }
            if self.after(key, &mut slot) {
                self.forget(slot);
            }
        }
    }

    /// Puts back what the log tells of it; before anything runs.
    pub fn restore_taken_back(&self, taken: &TakenBack) {
        let Slot::Occupied(mut slot) = self.table.entry(taken.key) else {
            // What it had changed is lost.
            if let Some((incident, at)) = taken.before {
                self.restore(taken.key, incident, at);
            }
            return;
        };
        self.undo(&mut slot, taken);
        if slot.state().is_none() && !slot.has(HAS_LINE) {
            self.forget(slot);
        }
    }

    fn undo(&self, entry: &mut Entry, taken: &TakenBack) {
        let was_unknown = entry.is_unknown();
        match taken.before {
            Some((incident, at)) => {
                entry.put(&incident);
                entry.at = at;
                if incident.state == State::Resolved {
                    self.note_resolved(taken.key, incident.changed_at.seconds());
                }
            }
            None => entry.clear(),
        }
        self.note_unknown(was_unknown, entry.is_unknown());
        if taken.before.is_none_or(|(incident, _)| incident.iid != taken.iid) {
            lock(&self.index).remove(taken.iid, taken.before.map(|(incident, _)| incident.number));
        }
    }
}
