//! The log (DESIGN 4): the one durable truth. STUB: signatures only.

use std::path::PathBuf;
use std::sync::Arc;

use crate::claim::{Accepted, Admitted, Pacing, Position, Targets};
use crate::event::{Event, Incident, Micros, StateKey, Uid};
use crate::metrics::{Metrics, UpstreamMeter};
use crate::outcome::{DeadReason, DropReason, Outcome, Reason};

/// What an answer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// One synced group commit.
    #[default]
    Fsync,
    /// Nothing: a crash loses what was not written yet. A named choice.
    Memory,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub directory: PathBuf,
    pub durability: Durability,
    /// Everything in the directory counts; past it new events are refused.
    pub max_bytes: u64,
    /// Size a segment is preallocated to; at least two maximal records.
    pub segment_bytes: u32,
}

/// A lane: events on it are delivered in order. The key's state key, or the incident's id without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(pub u128);

/// A durable event that waits for its upstreams; handed to the forwarder in log order.
#[derive(Clone)]
pub struct Queued {
    pub sequence: u64,
    pub at: Position,
    pub lane: LaneKey,
    pub integration: Arc<str>,
    pub targets: Targets,
    pub pacing: Pacing,
}

/// Takes what became durable. Called by the writer thread, in log order; must not block.
pub trait Outlet: Send + Sync {
    fn push(&self, batch: &mut Vec<Queued>);
}

/// An event read back from the log.
#[derive(Clone, Debug)]
pub struct Stored {
    pub sequence: u64,
    pub lane: LaneKey,
    pub event: Event,
    /// The incident as it stood after the event.
    pub incident: Option<Incident>,
    pub outcome: Outcome,
    pub pacing: Pacing,
}

/// How an event ended at one upstream, or began again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Delivered,
    Dropped(DropReason),
    Dead {
        reason: DeadReason,
        status: Option<u16>,
        attempts: u32,
    },
    /// A dead letter waits again.
    Replayed,
}

/// A dead letter, as the log tells it after a restart.
#[derive(Clone)]
pub struct Dead {
    pub queued: Queued,
    pub upstream: Arc<UpstreamMeter>,
    pub event_uid: Uid,
    /// Generation the event belongs to.
    pub iid: Option<Uid>,
    pub reason: DeadReason,
    pub status: Option<u16>,
    pub attempts: u32,
    pub at: Micros,
}

/// What recovery found.
#[derive(Default)]
pub struct Recovered {
    /// Waiting events in log order, `targets` narrowed to the upstreams that have not settled them.
    pub queued: Vec<Queued>,
    pub dead: Vec<Dead>,
    /// Highest `Incident::number` ever written.
    pub highest_number: u64,
    /// Events accepted with at least one target, for the books.
    pub accepted: u64,
    pub damaged_records: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no readable record at {0:?}")]
    Damaged(Position),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub struct Store {}

impl Store {
    /// Opens or makes the directory, replays the log. `transition` gets each key's incident in log order.
    pub fn open(
        _config: Config,
        _metrics: &Arc<Metrics>,
        _workers: usize,
        _transition: &mut dyn FnMut(StateKey, Incident, Position),
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        Ok((Arc::new(Self {}), Recovered::default()))
    }

    /// Starts the writer thread; `outlet` gets what became durable.
    pub fn start(self: &Arc<Self>, _outlet: Arc<dyn Outlet>) {}

    /// Hands an admitted event to the log. Resolves when it is durable; dropping the future changes nothing.
    pub async fn append(&self, _worker: usize, _admitted: Admitted) -> Result<Accepted, Reason> {
        Err(Reason::SpoolFailed)
    }

    /// Wakes the waiting requests of one worker's runtime as a batch; each worker runs one.
    pub async fn deliver_completions(self: Arc<Self>, _worker: usize) {}

    /// Records an ending; rides on the next commit, at latest 50 ms later.
    pub fn settle(&self, _upstream: &Arc<UpstreamMeter>, _sequence: u64, _ending: Ending) {}

    pub fn read(&self, _at: Position) -> Result<Stored, ReadError> {
        Err(ReadError::Damaged(_at))
    }

    /// Whether new events can be accepted durably now; for `/readyz`.
    pub fn can_accept(&self) -> Result<(), Reason> {
        Ok(())
    }

    /// Writes and syncs what has gathered and stops the writer; blocks. Later appends are refused.
    pub fn close(&self) {}
}
