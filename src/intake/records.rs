//! The incidents that senders address by id: found in the table, read from the log (contracts 5.2, DESIGN 4).

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Ended, Intake};
use crate::claim::{ById, Scope};
use crate::dedup::{Dedup, IdName};
use crate::dialect::{Dialect, Judged, Named, Record, Records, VIEW_BYTES_MAX, View};
use crate::event::{Event, Incident, Key, KeyKind, State, StateKey, Target, TargetKind, Uid};
use crate::gate::IntegrationConfig;
use crate::store::{LaneKey, ReadError, Shown, Store};

/// A record that is not written yet is looked for again so often, with so much between: 10 ms in all.
const UNWRITTEN_TRIES: u32 = 20;
const UNWRITTEN_WAIT: Duration = Duration::from_micros(500);

/// The incidents of one integration and family.
pub(super) struct Known<'i> {
    dedup: &'i Dedup,
    store: &'i Store,
    integration: &'i IntegrationConfig,
    family: &'i str,
    /// What was asked for and is not known here.
    missed: RefCell<Vec<IdName>>,
}

impl<'i> Known<'i> {
    pub(super) fn new(dedup: &'i Dedup, store: &'i Store, integration: &'i IntegrationConfig, family: &'i str) -> Self {
        Self { dedup, store, integration, family, missed: RefCell::default() }
    }

    /// By what others may know the incidents that were asked for in vain.
    pub(super) fn missed(&self) -> Vec<IdName> {
        self.missed.take()
    }

    /// By what others may know the incident that a target names; nothing where it is known here.
    fn names(&self, target: &Target) -> Vec<IdName> {
        if self.find(target).is_some() {
            return Vec::new();
        }
        let scope = self.scope();
        let number = || target.value.parse().ok().map(|number| IdName::number(scope, number));
        let iid = || iid_of(&target.value).map(|iid| IdName::iid(scope, iid));
        let remote = || self.relayed().map(|upstream| IdName::remote(upstream, &target.value));
        let names = match target.kind {
            TargetKind::InstanceId => [remote(), number(), None],
            TargetKind::TinyId => [number(), None, None],
            TargetKind::AlertId => [iid(), None, None],
            TargetKind::IncidentId => [remote(), iid(), number()],
            // A key: its state is asked for as every other's.
            TargetKind::Alias => [None; 3],
        };
        names.into_iter().flatten().collect()
    }

    fn miss(&self, name: IdName) {
        self.missed.borrow_mut().push(name);
    }

    /// The upstream whose ids senders read, and use.
    fn relayed(&self) -> Option<&'i Arc<str>> {
        self.integration.ack.filter(|ack| ack.relays).and_then(|_| self.integration.upstreams.first())
    }

    /// The incident that such an id names: it counts before our own.
    fn by_remote(&self, id: &str) -> Option<ById> {
        let (_, iid) = self.store.by_remote(self.relayed()?, id)?;
        self.dedup.by_iid(self.scope(), iid)
    }

    /// What upstreams call an incident.
    pub(super) fn named(&self, row: &ById) -> Named {
        let lane = LaneKey(row.key.0);
        let remote = |upstream: &Arc<str>| self.store.remote(upstream, lane, row.iid);
        let id = self.relayed().and_then(remote).map(|remote| remote.id().into());
        let mut links = self.integration.upstreams.iter().filter_map(remote);
        let url = links.find_map(|remote| remote.url().map(Into::into));
        Named { id, url }
    }

    fn scope(&self) -> Scope {
        Scope::of(&self.integration.name, self.family)
    }

    /// The incident that a target names; `None` for what is not known here.
    pub(super) fn find(&self, target: &Target) -> Option<ById> {
        let scope = self.scope();
        if matches!(target.kind, TargetKind::InstanceId | TargetKind::IncidentId)
            && let Some(row) = self.by_remote(&target.value)
        {
            return Some(row);
        }
        match target.kind {
            TargetKind::InstanceId | TargetKind::TinyId => self.dedup.by_number(scope, target.value.parse().ok()?),
            // An alias under this name addresses nothing, unless it was made for the alert (contracts 9, trap 10).
            TargetKind::AlertId => {
                let by_iid = iid_of(&target.value).and_then(|iid| self.dedup.by_iid(scope, iid));
                by_iid.or_else(|| self.row_of_key(&target.value).filter(|row| self.has_generated_key(row)))
            }
            TargetKind::IncidentId => {
                let by_iid = iid_of(&target.value).and_then(|iid| self.dedup.by_iid(scope, iid));
                let by_number = || self.dedup.by_number(scope, target.value.parse().ok()?);
                // incident.io's keys are no ids: its senders choose them, and one may look like another's number.
                let by_key = || (target.kind == TargetKind::AlertId).then(|| self.row_of_key(&target.value))?;
                by_iid.or_else(by_number).or_else(by_key)
            }
            TargetKind::Alias => self.row_of_key(&target.value),
        }
    }

    fn row_of_key(&self, canon: &str) -> Option<ById> {
        let key = StateKey::of(&self.integration.name, self.family, canon);
        let incident = self.dedup.incident(key).filter(|incident| incident.generation > 0)?;
        Some(ById { scope: self.scope(), number: incident.number, iid: incident.iid, key })
    }

    fn has_generated_key(&self, row: &ById) -> bool {
        key_of(self, row).is_some_and(|key| key.kind == KeyKind::Generated)
    }

    /// Whether another incident of its key followed it: then it is resolved, and no more is known of it.
    pub(super) fn was_followed(&self, row: &ById) -> bool {
        self.dedup.incident(row.key).is_none_or(|incident| incident.iid != row.iid)
    }

    pub(super) fn is_resolved(&self, row: &ById) -> bool {
        self.dedup.incident(row.key).is_none_or(|incident| incident.state == State::Resolved)
    }

    /// What the last record of a state shows.
    pub(super) fn shown(&self, key: StateKey) -> Option<(Incident, Shown)> {
        let mut tries = 0;
        let (incident, shown) = loop {
            let (incident, at) = self.dedup.incident_at(key)?;
            tries += 1;
            match self.store.shown(at) {
                Ok(shown) => break (incident, shown),
                // With `durability: memory` a record may be on its way to the disk for a moment: what was said of the
                // incident just now must not be forgotten for that.
                Err(ReadError::Io(error)) if error.kind() == ErrorKind::WouldBlock && tries < UNWRITTEN_TRIES => {
                    #[allow(clippy::disallowed_methods)] // At most 10 ms, and only with `durability: memory`.
                    std::thread::sleep(UNWRITTEN_WAIT);
                }
                // It may have been copied just now: the state has its new place.
                Err(ReadError::Damaged(_)) if tries == 1 => {}
                Err(error) => {
                    tracing::warn!(%error, "what is shown of an incident cannot be read");
                    return None;
                }
            }
        };
        let is_ours = *shown.integration == *self.integration.name && *shown.family == *self.family;
        (is_ours && shown.incident.is_some_and(|said| said.iid == incident.iid)).then_some((incident, shown))
    }

    pub(super) fn incident(&self, row: &ById) -> Option<Incident> {
        self.record(row).map(|record| record.incident)
    }

    fn record(&self, row: &ById) -> Option<Record> {
        match self.shown(row.key) {
            Some((incident, shown)) if incident.iid == row.iid => {
                Some(Record { incident, key: shown.key, view: view_of(shown.view.as_deref()), named: self.named(row) })
            }
            shown => {
                let followed = self.was_followed(row);
                let now = self.dedup.incident(row.key)?;
                let mut incident = Incident { iid: row.iid, number: row.number, ..now };
                if followed {
                    incident.state = State::Resolved;
                }
                // The incident that followed it has its key.
                let key = shown.and_then(|(_, shown)| shown.key);
                Some(Record { incident, key, view: View::new(), named: self.named(row) })
            }
        }
    }
}

impl Records for Known<'_> {
    fn by_number(&self, number: u64) -> Option<Record> {
        let row = self.by_remote(&number.to_string()).or_else(|| self.dedup.by_number(self.scope(), number));
        if row.is_none() {
            self.relayed().into_iter().for_each(|upstream| self.miss(IdName::remote(upstream, &number.to_string())));
            self.miss(IdName::number(self.scope(), number));
        }
        self.record(&row?)
    }

    fn by_iid(&self, iid: Uid) -> Option<Record> {
        let row = self.dedup.by_iid(self.scope(), iid);
        if row.is_none() {
            self.miss(IdName::iid(self.scope(), iid));
        }
        self.record(&row?)
    }

    fn by_name(&self, id: &str) -> Option<Record> {
        let row = self.by_remote(id);
        if row.is_none() {
            self.relayed().into_iter().for_each(|upstream| self.miss(IdName::remote(upstream, id)));
        }
        self.record(&row?)
    }

    fn by_key(&self, canon: &str) -> Option<Record> {
        self.record(&self.row_of_key(canon)?)
    }

    fn list(&self, before: Option<u64>, count: usize) -> Vec<Record> {
        let (rows, _) = self.dedup.list(self.scope(), before, count);
        rows.iter().filter_map(|row| self.record(row)).collect()
    }

    fn count(&self) -> usize {
        self.dedup.list(self.scope(), None, 0).1
    }
}

impl Intake {
    /// By what others may know the incidents that a statement addresses, and its transport's own id; nothing where all are known here, or nobody can be
    /// asked.
    pub(super) fn names_elsewhere(&self, request: &super::Known, heard: &Judged) -> Vec<IdName> {
        let targets = [heard.target.as_ref(), heard.other.as_ref()];
        if (targets == [None, None] && heard.replay.is_none()) || !self.dedup.asks_for_ids() {
            return Vec::new();
        }
        let (family, config) = (request.dialect.family(request.args()), &request.integration.config);
        let replay = heard.replay.as_ref().map(|id| StateKey::of_replay(&config.name, &family, id));
        let replay = replay.filter(|key| !self.dedup.has_seen(*key)).map(IdName::replay);
        let known = Known::new(&self.dedup, &self.store, config, &family);
        targets.into_iter().flatten().flat_map(|target| known.names(target)).chain(replay).collect()
    }

    /// What upstreams call the incident of a request's one event, where the answer shows it.
    pub(super) fn named(&self, request: &super::Known, ended: &[Ended]) -> Option<Box<Named>> {
        let config = &request.integration.config;
        let [Ended { incident: Some(incident), .. }] = ended else { return None };
        if !request.dialect.shows_links() && !config.ack.is_some_and(|ack| ack.relays) {
            return None;
        }
        let family = request.dialect.family(request.args());
        let known = Known::new(&self.dedup, &self.store, config, &family);
        let row = self.dedup.by_iid(known.scope(), incident.iid)?;
        Some(Box::new(known.named(&row)))
    }
}

/// An incident's id, as a ULID or in the form of a UUID.
fn iid_of(text: &str) -> Option<Uid> {
    Uid::parse(text).or_else(|| {
        let hex: String = text.split('-').collect();
        (text.len() == 36 && hex.len() == 32).then(|| u128::from_str_radix(&hex, 16).ok().map(Uid))?
    })
}

pub(super) fn view_of(bytes: Option<&[u8]>) -> View {
    bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}

/// What answers show after an event: its own statement upon what was shown before. Left as it was where it would become
/// too large.
pub(super) fn fold(dialect: &dyn Dialect, before: Option<&Bytes>, event: &Event) -> Option<Bytes> {
    let said = view_of(event.view.as_deref());
    let after = dialect.fold(view_of(before.map(|bytes| &**bytes)), said, event.received_at);
    let bytes = serde_json::to_vec(&after).unwrap_or_default();
    if bytes.len() <= VIEW_BYTES_MAX { Some(bytes.into()) } else { before.cloned() }
}

/// The key under which an event on an addressed incident stands: that incident's own.
pub(super) fn key_of(known: &Known<'_>, row: &ById) -> Option<Key> {
    known.shown(row.key).and_then(|(_, shown)| shown.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_ulid_or_looks_like_a_uuid() {
        let uid = Uid(0x0192_5bd2_b7c0_4e1a_8000_0000_0000_0001);
        assert_eq!(iid_of(&uid.to_string()), Some(uid));
        assert_eq!(iid_of("01925bd2-b7c0-4e1a-8000-000000000001"), Some(uid));
        for wrong in ["", "1", "01925bd2b7c04e1a8000000000000001", "01925bd2-b7c0-4e1a-8000-00000000000g"] {
            assert_eq!(iid_of(wrong), None, "{wrong}");
        }
    }
}
