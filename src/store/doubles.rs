//! Stand-ins for the tests of this room: events, a ledger that remembers, and a disk that fails on demand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::files::calls::{Access, Entry, File, Files, Held};
use super::{Ask, Outlet, Queued, Recovered, Rejected, Store};
use crate::claim::{Admitted, ById, Claim, Goes, Ledger, Pacing, Position, Scope, Seat};
use crate::event::{Action, Event as Inner, Incident, Key, KeyKind, Micros, Severity, State, StateKey, Tolerated, Uid};
use crate::metrics::{Metrics, UpstreamMeter};
use crate::outcome::Outcome;

/// What of an event a test wants to choose.
#[derive(Clone)]
pub(super) struct Event {
    /// A new one each time where it is `None`.
    pub(super) uid: Option<Uid>,
    pub(super) key: Option<String>,
    pub(super) integration: &'static str,
    pub(super) tracked: bool,
    pub(super) incident: bool,
    pub(super) number: u64,
    pub(super) targets: Vec<&'static str>,
    pub(super) raw: Vec<u8>,
    pub(super) envelope: Option<Bytes>,
    pub(super) view: Option<Bytes>,
    pub(super) trace: Option<Arc<crate::event::trace::Trace>>,
    pub(super) received_at: Micros,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ledger: Arc<Notes>,
}

impl Event {
    pub(super) fn keyed(key: &str) -> Self {
        Self {
            uid: None,
            key: Some(key.to_owned()),
            integration: "fleet",
            tracked: true,
            incident: true,
            number: 1024,
            targets: vec!["pager", "archive"],
            raw: format!("{{\"event_id\":\"{key}\"}}").into_bytes(),
            envelope: None,
            view: None,
            trace: None,
            received_at: Micros(1_800_000_000_000_001),
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
    /// What a checkpoint is told of the states.
    pub(super) remembers: Arc<Remembers>,
}

impl Ledger for Notes {
    fn commit(&self, Seat { key, .. }: Seat, incident: Incident, at: Position, _scope: Option<Scope>, _goes: Goes<'_>) {
        self.remembers.states.lock().unwrap().insert(key, (incident, at));
        self.committed.lock().unwrap().push((key, at));
    }

    fn release(&self, key: StateKey) {
        self.released.lock().unwrap().push(key);
    }
}

pub(super) fn admitted(sample: &Event) -> Admitted {
    let event = Inner {
        uid: sample.uid.unwrap_or_else(|| Uid::new(sample.received_at)),
        received_at: sample.received_at,
        integration: sample.integration.into(),
        dialect: Cow::Borrowed("squadcast"),
        endpoint: Cow::Borrowed("v2/incidents/api"),
        family: Cow::Borrowed("squadcast"),
        action: Action::Trigger,
        key: sample.key.as_deref().and_then(|key| Key::parse(key, KeyKind::String)),
        severity: Severity::new(4),
        target: None,
        envelope: sample.envelope.clone(),
        view: sample.view.clone(),
        trace: sample.trace.clone(),
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
    let held = event.state_key().filter(|_| sample.tracked).map(|key| (ledger, Seat { key, row: 0 }));
    let targets = sample.targets.iter().map(|name| sample.metrics.upstream(name)).collect();
    let claim = Claim::new(held, sample.incident.then_some(incident), Outcome::Created, targets);
    Admitted { claim, event, pacing: Pacing::EVENT_LIMIT, ticket: sample.metrics.receive(0) }
}

/// An outlet that keeps what it gets.
#[derive(Default)]
pub(super) struct Kept(pub(super) Mutex<Vec<Queued>>, pub(super) Mutex<Vec<Rejected>>);

impl Outlet for Kept {
    fn push(&self, batch: &mut Vec<Queued>) {
        self.0.lock().unwrap().append(batch);
    }

    fn keep_rejected(&self, letters: &mut Vec<Rejected>) {
        self.1.lock().unwrap().append(letters);
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
    /// A part of a file that cannot be read, by its name, so many times.
    pub(super) bad: Mutex<Option<(String, Range<u64>)>>,
    pub(super) bad_times: AtomicU32,
    /// Bytes that were read, beside the faults.
    pub(super) read_bytes: AtomicU64,
}

impl Faults {
    fn strike(&self, left: &AtomicU32) -> bool {
        let struck = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        self.hit.fetch_add(u32::from(struck), Ordering::SeqCst);
        struck
    }
}

/// A file system whose commits meet the faults; segments are filled without one.
pub(super) struct Failing {
    pub(super) files: Arc<dyn Files>,
    pub(super) faults: Arc<Faults>,
}

struct FailingFile {
    file: Box<dyn File>,
    path: String,
    files: Arc<dyn Files>,
    faults: Arc<Faults>,
}

impl Failing {
    fn wrap(&self, path: &str, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        let (files, faults) = (Arc::clone(&self.files), Arc::clone(&self.faults));
        Ok(Box::new(FailingFile { file: file?, path: path.to_owned(), files, faults }))
    }
}

impl Files for Failing {
    fn make_directory(&self, path: &str) -> io::Result<()> {
        self.files.make_directory(path)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Entry>> {
        self.files.list(directory)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.files.sync_directory(path)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.files.size(path)
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn File>> {
        self.wrap(path, self.files.create(path))
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Box<dyn File>> {
        self.wrap(path, self.files.open(path, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    fn lock(&self, path: &str) -> io::Result<Option<Box<dyn Held>>> {
        self.files.lock(path)
    }
}

impl FailingFile {
    /// Writes half of what the write would have changed.
    fn write_half(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut before = vec![0; bytes.len()];
        self.files.open(&self.path, Access::Read)?.read_exact_at(&mut before, at)?;
        let differs = || bytes.iter().zip(&before).enumerate().filter(|(_, (new, old))| new != old);
        let Some((from, to)) = differs().next().zip(differs().next_back()) else { return Ok(()) };
        let half = &bytes[from.0..usize::midpoint(from.0, to.0 + 1)];
        self.files.open(&self.path, Access::Write)?.write_all_at(half, at + from.0 as u64)
    }
}

impl File for FailingFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let is_bad = self.faults.bad.lock().unwrap().as_ref().is_some_and(|(file, part)| {
            self.path.ends_with(file.as_str()) && at < part.end && at + bytes.len() as u64 > part.start
        });
        if is_bad && self.faults.strike(&self.faults.bad_times) {
            return Err(io::Error::other("injected"));
        }
        let read = self.file.read_at(bytes, at)?;
        self.faults.read_bytes.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        if self.path.ends_with(".draft") {
            // A checkpoint: it has no space of its own.
            let full = self.faults.full.load(Ordering::SeqCst);
            return if full { Err(io::ErrorKind::StorageFull.into()) } else { self.file.write_at(bytes, at) };
        }
        let fills = bytes.iter().all(|byte| *byte == 0);
        if !fills && self.faults.strike(&self.faults.writes) {
            self.write_half(bytes, at)?;
            return Err(io::Error::other("injected"));
        }
        self.file.write_at(bytes, at)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        let struck = self.faults.strike(&self.faults.syncs);
        std::thread::sleep(std::time::Duration::from_millis(self.faults.sync_millis.load(Ordering::SeqCst).into()));
        if struck { Err(io::Error::other("injected")) } else { self.file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// What a start put back, in log order.
#[derive(Default)]
pub(super) struct Remembers {
    pub(super) transitions: Mutex<Vec<(StateKey, Incident, Position)>>,
    pub(super) touches: Mutex<Vec<(StateKey, u32)>>,
    /// The states as they stand, with what the ledger of a test committed.
    pub(super) states: Mutex<BTreeMap<StateKey, (Incident, Position)>>,
    pub(super) by_id: Mutex<Vec<ById>>,
}

impl super::States for Remembers {
    fn restore(&self, key: StateKey, incident: Incident, at: Position) {
        self.transitions.lock().unwrap().push((key, incident, at));
        self.states.lock().unwrap().insert(key, (incident, at));
    }

    fn touched(&self, key: StateKey, _: Uid, count: u32, _: Micros) {
        self.touches.lock().unwrap().push((key, count));
    }

    fn at(&self, key: StateKey) -> Option<(Incident, Position)> {
        self.states.lock().unwrap().get(&key).copied()
    }

    fn moved(&self, key: StateKey, iid: Uid, from: Position, to: Position) {
        if let Some((incident, at)) = self.states.lock().unwrap().get_mut(&key)
            && incident.iid == iid
            && *at == from
        {
            *at = to;
        }
    }

    fn each(&self, visit: &mut dyn FnMut(StateKey, Incident, Position)) {
        self.states.lock().unwrap().iter().for_each(|(key, (incident, at))| visit(*key, *incident, *at));
    }

    fn restore_by_id(&self, row: ById) {
        self.by_id.lock().unwrap().push(row);
    }

    fn each_by_id(&self, visit: &mut dyn FnMut(ById)) {
        self.by_id.lock().unwrap().iter().for_each(|row| visit(*row));
    }
}

/// An event that waits, as the forwarder finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) sequence: u64,
    /// `None`: it cannot be read any more.
    pub(super) at: Option<Position>,
    pub(super) upstreams: Vec<String>,
    pub(super) integration: String,
}

/// Everything that waits in these queues, in the order of sequences. `next`: up to so many behind a sequence.
pub(super) fn all_waiting(
    queues: &[(Arc<UpstreamMeter>, Arc<str>)],
    next: impl Fn(&Arc<UpstreamMeter>, &str, u64, usize) -> Vec<(u64, Option<Position>)>,
) -> Vec<Waits> {
    let mut all: BTreeMap<u64, Waits> = BTreeMap::new();
    for (meter, integration) in queues {
        let mut after = 0;
        loop {
            let some = next(meter, integration, after, 100);
            let Some((last, _)) = some.last() else { break };
            after = *last;
            for (sequence, at) in some {
                let fresh = || Waits { sequence, at, upstreams: vec![], integration: integration.to_string() };
                all.entry(sequence).or_insert_with(fresh).upstreams.push(meter.name.to_string());
            }
        }
    }
    all.into_values().collect()
}

/// Everything that waits in a store.
pub(super) fn waiting(store: &Store, recovered: &Recovered) -> Vec<Waits> {
    all_waiting(&recovered.queues, |meter, integration, after, count| {
        let ask = Ask { integration: integration.into(), after, count };
        let next = store.waiting(meter, &[ask]).unwrap().remove(0);
        next.into_iter().map(|next| (next.sequence, next.found.map(|found| found.at))).collect()
    })
}
