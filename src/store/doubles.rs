//! Stand-ins for the tests of this room: events, a ledger that remembers, and a disk that fails on demand.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Outlet, Queued};
use crate::claim::{Admitted, Claim, Ledger, Pacing, Position};
use crate::event::{Action, Event as Inner, Incident, Key, KeyKind, Micros, Severity, State, StateKey, Tolerated, Uid};
use crate::metrics::Metrics;
use crate::outcome::Outcome;

/// What of an event a test wants to choose.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) key: Option<String>,
    pub(super) tracked: bool,
    pub(super) incident: bool,
    pub(super) number: u64,
    pub(super) targets: Vec<&'static str>,
    pub(super) raw: Vec<u8>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ledger: Arc<Notes>,
}

impl Event {
    pub(super) fn keyed(key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            tracked: true,
            incident: true,
            number: 1024,
            targets: vec!["pager", "archive"],
            raw: format!("{{\"event_id\":\"{key}\"}}").into_bytes(),
            metrics: Metrics::new(1).unwrap(),
            ledger: Arc::default(),
        }
    }

    pub(super) fn keyless() -> Self {
        Self { key: None, tracked: false, incident: false, ..Self::keyed("") }
    }
}

/// Everything a ledger was told.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) committed: Mutex<Vec<(StateKey, Position)>>,
    pub(super) released: Mutex<Vec<StateKey>>,
}

impl Ledger for Notes {
    fn commit(&self, key: StateKey, _: Incident, at: Position) {
        self.committed.lock().unwrap().push((key, at));
    }

    fn release(&self, key: StateKey) {
        self.released.lock().unwrap().push(key);
    }
}

pub(super) fn admitted(sample: &Event) -> Admitted {
    let event = Inner {
        uid: Uid::new(Micros(1_800_000_000_000_000)),
        received_at: Micros(1_800_000_000_000_001),
        integration: "fleet".into(),
        dialect: Cow::Borrowed("squadcast"),
        endpoint: Cow::Borrowed("v2/incidents/api"),
        family: Cow::Borrowed("squadcast"),
        action: Action::Trigger,
        key: sample.key.as_deref().and_then(|key| Key::parse(key, KeyKind::String)),
        severity: Severity::new(4),
        tolerated: Tolerated::CONTENT_TYPE,
        raw: Bytes::from(sample.raw.clone()),
    };
    let incident = Incident {
        iid: Uid(99),
        number: sample.number,
        generation: 2,
        state: State::Open,
        severity: None,
        count: 3,
        last_seen: Micros(1),
        changed_at: Micros(2),
    };
    let ledger: Arc<dyn Ledger> = Arc::clone(&sample.ledger) as _;
    let held = event.state_key().filter(|_| sample.tracked).map(|key| (ledger, key));
    let targets = sample.targets.iter().map(|name| sample.metrics.upstream(name)).collect();
    let claim = Claim::new(held, sample.incident.then_some(incident), Outcome::Created, targets);
    Admitted { claim, event, pacing: Pacing::EVENT_LIMIT, ticket: sample.metrics.receive(0) }
}

/// An outlet that keeps what it gets.
#[derive(Default)]
pub(super) struct Kept(pub(super) Mutex<Vec<Queued>>);

impl Outlet for Kept {
    fn push(&self, batch: &mut Vec<Queued>) {
        self.0.lock().unwrap().append(batch);
    }
}

/// Faults to come. Counts are of calls that fail from now on.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) writes: AtomicU32,
    pub(super) syncs: AtomicU32,
    pub(super) full: AtomicBool,
    pub(super) hit: AtomicU32,
    /// Each sync takes so long.
    pub(super) sync_millis: AtomicU32,
}

impl Faults {
    fn strike(&self, left: &AtomicU32) -> bool {
        let struck = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        self.hit.fetch_add(u32::from(struck), Ordering::SeqCst);
        struck
    }

    /// Writes half, then fails.
    pub(super) fn write(&self, file: &File, bytes: &[u8], at: u32) -> io::Result<()> {
        if self.strike(&self.writes) {
            file.write_all_at(&bytes[..bytes.len() / 2], u64::from(at))?;
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let struck = self.strike(&self.syncs);
        std::thread::sleep(std::time::Duration::from_millis(self.sync_millis.load(Ordering::SeqCst).into()));
        if struck { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    pub(super) fn space(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}
