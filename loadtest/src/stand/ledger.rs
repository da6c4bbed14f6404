//! The incidents and alerts of a stand-in, what was done to each, and who was called: what
//! `GET /_stand/incidents` shows. Written by the vendors' files.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::call::Stamp;

/// More incidents than this are refused: nothing is forgotten silently.
const INCIDENTS_AT_MOST: usize = 100_000;
/// Bytes of bodies that were applied; beyond, all writes are refused.
const APPLIED_BYTES_AT_MOST: usize = 256 * 1024 * 1024;
/// Of each list of an incident.
const ENTRIES_AT_MOST: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Open,
    Acknowledged,
    Resolved,
}

/// What a request did to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Effect {
    Created,
    Duplicate,
    Acknowledged,
    Unacknowledged,
    Resolved,
    Updated,
    Noop,
}

#[derive(Debug, Clone, Serialize)]
struct Applied {
    request: u64,
    at_us: i64,
    action: &'static str,
    effect: Effect,
    severity: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Calling {
    request: u64,
    at_us: i64,
    why: &'static str,
    whom: Vec<String>,
}

/// What a vendor knows of an incident when it makes one.
#[derive(Default)]
pub(super) struct NewIncident {
    pub(super) id: String,
    pub(super) number: Option<u64>,
    pub(super) kind: &'static str,
    pub(super) scope: String,
    pub(super) key: Option<String>,
    pub(super) vendor_state: String,
    pub(super) severity: Option<String>,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) own: Map<String, Value>,
}

/// An incident or an alert, as the inspection shows it.
#[derive(Debug, Serialize)]
pub(super) struct Incident {
    pub(super) id: String,
    pub(super) number: Option<u64>,
    pub(super) kind: &'static str,
    pub(super) scope: String,
    pub(super) key: Option<String>,
    pub(super) state: State,
    pub(super) vendor_state: String,
    pub(super) severity: Option<String>,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) count: u64,
    pub(super) created_at_us: i64,
    pub(super) acknowledged_at_us: Option<i64>,
    pub(super) resolved_at_us: Option<i64>,
    called: Vec<Calling>,
    history: Vec<Applied>,
    history_left_off: u64,
    pub(super) own: Map<String, Value>,
    #[serde(skip)]
    calls: u64,
    /// Of the last change, microseconds since 1970.
    #[serde(skip)]
    pub(super) updated_at_us: i64,
}

impl Incident {
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Resolved
    }

    /// Enters a request into the history.
    pub(super) fn apply(
        &mut self,
        when: impl Into<Stamp>,
        action: &'static str,
        effect: Effect,
        severity: Option<String>,
    ) {
        let when = when.into();
        self.updated_at_us = when.at_us;
        if self.history.len() < ENTRIES_AT_MOST {
            self.history.push(Applied { request: when.request, at_us: when.at_us, action, effect, severity });
        } else {
            self.history_left_off += 1;
        }
    }

    /// Somebody is called.
    pub(super) fn call_out(&mut self, when: impl Into<Stamp>, why: &'static str, whom: Vec<String>) {
        let when = when.into();
        self.calls += 1;
        if self.called.len() < ENTRIES_AT_MOST {
            self.called.push(Calling { request: when.request, at_us: when.at_us, why, whom });
        }
    }

    /// Changes the state, if it is another, and enters the request.
    pub(super) fn turn(&mut self, when: impl Into<Stamp>, action: &'static str, state: State, vendor_state: &str) {
        let when = when.into();
        let effect = match state {
            _ if state == self.state => Effect::Noop,
            State::Open => Effect::Unacknowledged,
            State::Acknowledged => Effect::Acknowledged,
            State::Resolved => Effect::Resolved,
        };
        if effect != Effect::Noop {
            self.state = state;
            vendor_state.clone_into(&mut self.vendor_state);
            self.acknowledged_at_us = match state {
                State::Open => None,
                State::Acknowledged => Some(when.at_us),
                State::Resolved => self.acknowledged_at_us,
            };
            self.resolved_at_us = (state == State::Resolved).then_some(when.at_us);
        }
        self.apply(when, action, effect, None);
    }

    /// Adds to one of the vendor's own lists, up to its bound.
    pub(super) fn own_push(&mut self, name: &str, value: Value) {
        let list = self.own.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list
            && list.len() < ENTRIES_AT_MOST
        {
            list.push(value);
        }
    }

    /// What was done, and when, in order.
    pub(super) fn actions(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.history.iter().map(|applied| (applied.action, applied.at_us))
    }

    pub(super) fn own_text(&self, name: &str) -> Option<&str> {
        self.own.get(name).and_then(Value::as_str)
    }
}

/// No room for another incident.
#[derive(Debug)]
pub(super) struct Full;

#[derive(Default)]
pub(super) struct Ledger {
    incidents: Vec<Incident>,
    by_id: HashMap<String, usize>,
    by_key: HashMap<(String, String), Vec<usize>>,
    applied_bytes: usize,
    /// Goes on over a reset.
    serial: u64,
    /// Requests that met no incident.
    pub(super) unknown: u64,
    pub(super) change_events: u64,
}

/// `GET /_stand/incidents`.
#[derive(Serialize)]
struct Overview<'a> {
    vendor: &'a str,
    created: usize,
    open: usize,
    acknowledged: usize,
    resolved: usize,
    called: u64,
    unknown: u64,
    change_events: u64,
    incidents: Vec<&'a Incident>,
}

impl Ledger {
    /// The next number for an id, from 1 on.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Notes the size of a write; false when there is no room for it.
    pub(super) fn takes(&mut self, body_bytes: usize) -> bool {
        self.applied_bytes = self.applied_bytes.saturating_add(body_bytes);
        self.applied_bytes <= APPLIED_BYTES_AT_MOST
    }

    /// Makes an incident and calls somebody.
    pub(super) fn create(
        &mut self,
        when: impl Into<Stamp>,
        action: &'static str,
        whom: Vec<String>,
        new: NewIncident,
    ) -> Result<&mut Incident, Full> {
        let when = when.into();
        let index = self.incidents.len();
        if index >= INCIDENTS_AT_MOST {
            return Err(Full);
        }
        self.by_id.insert(new.id.clone(), index);
        if let Some(key) = &new.key {
            self.by_key.entry((new.scope.clone(), key.clone())).or_default().push(index);
        }
        let mut incident = Incident {
            id: new.id,
            number: new.number,
            kind: new.kind,
            scope: new.scope,
            key: new.key,
            state: State::Open,
            vendor_state: new.vendor_state,
            severity: new.severity,
            title: new.title,
            description: new.description,
            count: 1,
            created_at_us: when.at_us,
            acknowledged_at_us: None,
            resolved_at_us: None,
            called: Vec::new(),
            history: Vec::new(),
            history_left_off: 0,
            own: new.own,
            calls: 0,
            updated_at_us: when.at_us,
        };
        let severity = incident.severity.clone();
        incident.apply(when, action, Effect::Created, severity);
        incident.call_out(when, action, whom);
        self.incidents.push(incident);
        self.incidents.last_mut().ok_or(Full)
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Incident> {
        self.incidents.get(*self.by_id.get(id)?)
    }

    pub(super) fn by_id_mut(&mut self, id: &str) -> Option<&mut Incident> {
        self.incidents.get_mut(*self.by_id.get(id)?)
    }

    /// All that ever had the key, the newest first.
    pub(super) fn with_key(&self, scope: &str, key: &str) -> impl Iterator<Item = &Incident> {
        let indices = self.by_key.get(&(scope.to_owned(), key.to_owned())).map_or(&[][..], Vec::as_slice);
        indices.iter().rev().filter_map(|&index| self.incidents.get(index))
    }

    /// The id of the one that is open under the key, where a vendor lets one be open only: the newest.
    pub(super) fn open_with_key(&self, scope: &str, key: &str) -> Option<String> {
        let newest = self.with_key(scope, key).next();
        newest.filter(|incident| incident.is_open()).map(|incident| incident.id.clone())
    }

    /// In the order of creation.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.incidents.iter()
    }

    /// Forgets all but the numbers.
    pub(super) fn reset(&mut self) {
        *self = Self { serial: self.serial, ..Self::default() };
    }

    pub(super) fn overview(&self, vendor: &str, key: Option<&str>, state: Option<&str>) -> Value {
        let count = |state| self.incidents.iter().filter(|incident| incident.state == state).count();
        let word = |state| match state {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Resolved => "resolved",
        };
        let shown = |incident: &&Incident| {
            key.is_none_or(|key| incident.key.as_deref() == Some(key))
                && state.is_none_or(|state| word(incident.state) == state)
        };
        let overview = Overview {
            vendor,
            created: self.incidents.len(),
            open: count(State::Open),
            acknowledged: count(State::Acknowledged),
            resolved: count(State::Resolved),
            called: self.incidents.iter().map(|incident| incident.calls).sum(),
            unknown: self.unknown,
            change_events: self.change_events,
            incidents: self.incidents.iter().filter(shown).collect(),
        };
        // Into memory, with string keys only: it cannot fail.
        serde_json::to_value(&overview).unwrap_or_default()
    }
}
