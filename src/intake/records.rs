//! The incidents that senders address by id: found in the table, read from the log (contracts 5.2, DESIGN 4).

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;

use crate::claim::{ById, Scope};
use crate::dedup::Dedup;
use crate::dialect::{Dialect, Record, Records, VIEW_BYTES_MAX, View};
use crate::event::{Event, Incident, Key, KeyKind, State, StateKey, Target, TargetKind, Uid};
use crate::store::{ReadError, Shown, Store};

/// A record that is not written yet is looked for again so often, with so much between: 10 ms in all.
const UNWRITTEN_TRIES: u32 = 20;
const UNWRITTEN_WAIT: Duration = Duration::from_micros(500);

/// The incidents of one integration and family.
pub(super) struct Known<'i> {
    dedup: &'i Dedup,
    store: &'i Store,
    integration: &'i str,
    family: &'i str,
}

impl<'i> Known<'i> {
    pub(super) fn new(dedup: &'i Dedup, store: &'i Store, integration: &'i str, family: &'i str) -> Self {
        Self { dedup, store, integration, family }
    }

    fn scope(&self) -> Scope {
        Scope::of(self.integration, self.family)
    }

    /// The incident that a target names; `None` for what is not known here.
    pub(super) fn find(&self, target: &Target) -> Option<ById> {
        let scope = self.scope();
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
        let key = StateKey::of(self.integration, self.family, canon);
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
        let is_ours = *shown.integration == *self.integration && *shown.family == *self.family;
        (is_ours && shown.incident.is_some_and(|said| said.iid == incident.iid)).then_some((incident, shown))
    }

    pub(super) fn incident(&self, row: &ById) -> Option<Incident> {
        self.record(row).map(|record| record.incident)
    }

    fn record(&self, row: &ById) -> Option<Record> {
        match self.shown(row.key) {
            Some((incident, shown)) if incident.iid == row.iid => {
                Some(Record { incident, key: shown.key, view: view_of(shown.view.as_deref()) })
            }
            shown => {
                let followed = self.was_followed(row);
                let now = self.dedup.incident(row.key)?;
                let mut incident = Incident { iid: row.iid, number: row.number, ..now };
                if followed {
                    incident.state = State::Resolved;
                }
                // The incident that followed it has its key.
                Some(Record { incident, key: shown.and_then(|(_, shown)| shown.key), view: View::new() })
            }
        }
    }
}

impl Records for Known<'_> {
    fn by_number(&self, number: u64) -> Option<Record> {
        self.record(&self.dedup.by_number(self.scope(), number)?)
    }

    fn by_iid(&self, iid: Uid) -> Option<Record> {
        self.record(&self.dedup.by_iid(self.scope(), iid)?)
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
