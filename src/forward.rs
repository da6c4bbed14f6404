//! From the log to the upstreams: lanes in order, each upstream's pace, sending, and how each event ends
//! (DESIGN 5.2, 5.3, 5.5; contracts 7.1). The log's writer pushes what became durable; one thread with a
//! runtime of its own owns everything here, so its state needs no lock; the admin API asks by message.
//!
//! Limits: a lane has one event under way, an upstream at most `connections` requests and 65,536 lanes of about
//! 100 B; what waits beyond that waits in the log. At the head of a lane the event is read from the log, again for
//! each attempt.
//!
//! Order: an event leaves its lane only when it was delivered, dropped or buried, so nothing overtakes. Where its answer
//! taught what the upstream calls the incident, or the upstream would take a repeat for another one, it leaves when that
//! is on disk (`remote`): what comes next builds on it.
//! Giving up: `give_up_after` runs from the event's receipt (for a replay, from the replay); an event is
//! given up after an attempt that failed at that age, or unsent at an upstream that was down all that time.

mod answers;
mod awaited;
mod backoff;
mod begun;
mod calls;
mod circuit;
mod dead;
mod desk;
mod handle;
mod lanes;
mod letters;
mod lines;
mod pace;
mod questions;
mod remote;
mod replay;
mod settle;
mod upstream;
pub mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::awaited::{Awaited, Awaiting};
use crate::claim::{Position, TakenBack};
use crate::dedup::{Looking, Rest};
use crate::event::{Incident, Micros, StateKey, Uid};
use crate::gate::Integration;
use crate::metrics::{Metrics, UpstreamMeter};
use crate::sink::{Reader, UpstreamConfig};
use crate::store::{
    Ask, Ending, LaneKey, Learned, Next, ReadError, Recovered, Remote, Settled, Store, Stored, Written,
};

pub use dead::Refused;
pub use handle::{DeadRow, Handle, Head, UpstreamStatus};
pub use letters::{Filter, Group};
pub use replay::{How, Replayed};

/// Keys here are hashes already, small numbers, or names from the configuration: a fast hasher serves.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What the forwarder needs of the log.
pub trait Log: Send + Sync {
    /// The event at a place. Blocks for one read.
    ///
    /// # Errors
    /// The record is damaged, or the file cannot be read just now.
    fn read(&self, sequence: u64, at: Position) -> Result<Stored, ReadError>;

    /// The event at a place that another one's record names. Blocks for one read.
    ///
    /// # Errors
    /// As above, or it is there no more.
    fn earlier(&self, at: Position) -> Result<Stored, ReadError>;

    /// The event with a sequence, and its place. Blocks for one read.
    ///
    /// # Errors
    /// As above.
    fn event(&self, sequence: u64) -> Result<(Position, Stored), ReadError>;

    /// What waits for an upstream, in order, for each of those who ask. Blocks for some reads.
    ///
    /// # Errors
    /// The log cannot be read just now.
    fn waiting(&self, upstream: &Arc<UpstreamMeter>, asks: &[Ask]) -> std::io::Result<Vec<Vec<Next>>>;

    /// The oldest event that waits for an upstream.
    fn oldest_waiting(&self, upstream: &Arc<UpstreamMeter>) -> Option<u64>;

    /// Records an ending; durable with the next commit.
    fn settle(&self, upstream: &Arc<UpstreamMeter>, integration: &str, sequence: u64, ending: Ending);

    /// The same, with what the answer taught; resolves when it is on disk.
    fn settle_durably(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        ending: Ending,
        learned: Option<Learned>,
    ) -> Settled;

    /// Ends a refused event whose sender waits; true when that is on disk.
    fn settle_refused(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        taken: Option<TakenBack>,
    ) -> Written;

    /// What an upstream calls one generation of a lane's key.
    fn remote(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>>;

    /// What it calls the generation that it was told of last.
    fn last_remote(&self, upstream: &str, lane: LaneKey) -> Option<Arc<Remote>>;

    /// Takes what another replica's answer taught; kept in memory.
    fn learn(&self, _upstream: &Arc<str>, _learned: Learned) {}

    /// The lane and generation that an upstream calls so.
    fn by_remote(&self, _upstream: &str, _id: &str) -> Option<(LaneKey, Uid)> {
        None
    }
}

impl Log for Store {
    fn read(&self, sequence: u64, at: Position) -> Result<Stored, ReadError> {
        Self::read(self, sequence, at)
    }

    fn earlier(&self, at: Position) -> Result<Stored, ReadError> {
        Self::earlier(self, at)
    }

    fn event(&self, sequence: u64) -> Result<(Position, Stored), ReadError> {
        Self::event(self, sequence)
    }

    fn waiting(&self, upstream: &Arc<UpstreamMeter>, asks: &[Ask]) -> std::io::Result<Vec<Vec<Next>>> {
        Self::waiting(self, upstream, asks)
    }

    fn oldest_waiting(&self, upstream: &Arc<UpstreamMeter>) -> Option<u64> {
        Self::oldest_waiting(self, upstream)
    }

    fn settle(&self, upstream: &Arc<UpstreamMeter>, integration: &str, sequence: u64, ending: Ending) {
        Self::settle(self, upstream, integration, sequence, ending);
    }

    fn settle_durably(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        ending: Ending,
        learned: Option<Learned>,
    ) -> Settled {
        Self::settle_durably(self, upstream, integration, sequence, ending, learned)
    }

    fn settle_refused(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        taken: Option<TakenBack>,
    ) -> Written {
        Self::settle_refused(self, upstream, integration, sequence, taken)
    }

    fn remote(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>> {
        Self::remote(self, upstream, lane, iid)
    }

    fn last_remote(&self, upstream: &str, lane: LaneKey) -> Option<Arc<Remote>> {
        Self::last_remote(self, upstream, lane)
    }

    fn learn(&self, upstream: &Arc<str>, learned: Learned) {
        Self::learn(self, upstream, learned);
    }

    fn by_remote(&self, upstream: &str, id: &str) -> Option<(LaneKey, Uid)> {
        Self::by_remote(self, upstream, id)
    }
}

/// What `dedup` is told, and asked, of generations (DESIGN 5.3). Called on the forwarder's thread: must not block.
pub trait States: Send + Sync {
    /// The generation's trigger is a dead letter at this upstream.
    fn undelivered(&self, lane: LaneKey, iid: Uid, upstream: &Arc<UpstreamMeter>);

    /// No longer: a trigger of the generation was delivered there, or its dead letters were dropped.
    fn delivered(&self, lane: LaneKey, iid: Uid, upstream: &Arc<UpstreamMeter>);

    /// The upstream refused an awaited event, and its sender may still be told so: what it did to the lane's key is undone,
    /// and the key held until [`Self::taken_back`]. `None`: it is too late for that. The inner `None`: it changed nothing.
    fn take_back(&self, _lane: LaneKey, awaited: &Awaited) -> Option<Option<TakenBack>> {
        awaited.refuse().then_some(None)
    }

    /// That is on disk.
    fn taken_back(&self, _key: StateKey) {}

    /// The lane's incident as it stands now: tells whether a dead letter from before a restart may be
    /// replayed. `None` where the lane has no key or nothing is known of it.
    fn current(&self, _lane: LaneKey) -> Option<Incident> {
        None
    }

    /// What other replicas have waiting before this lane's head at an upstream. `None`: nothing is shared, and it may go.
    fn look(&self, _lane: LaneKey, _upstream: &Arc<str>, _received_at: Micros) -> Option<Looking> {
        None
    }

    /// An event left its upstream's queue. `rest`: what waits there behind it on its lane.
    fn left(&self, _lane: LaneKey, _upstream: &Arc<str>, _sequence: u64, _rest: Rest) {}

    /// An answer taught what an upstream calls an incident.
    fn learned(&self, _learned: &Learned, _upstream: &Arc<str>) {}

    /// Until when a duplicate on this lane waits that no replica could confirm (DESIGN 5.4). `None`: it need not.
    fn waits_until(&self, _lane: LaneKey) -> Option<tokio::time::Instant> {
        None
    }

    /// The lane and generation of the incident that an integration knows by this number.
    fn by_number(&self, _integration: &str, _family: &str, _number: u64) -> Option<(LaneKey, Uid)> {
        None
    }
}

/// The configured integrations, for their event limits.
pub trait Integrations: Send + Sync {
    fn by_name(&self, name: &str) -> Option<Arc<Integration>>;
}

/// Everything the forwarder stands on.
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub reader: Arc<dyn Reader>,
    pub states: Arc<dyn States>,
    /// Events whose senders wait for their ending.
    pub awaiting: Arc<Awaiting>,
    pub integrations: Arc<dyn Integrations>,
    pub metrics: Arc<Metrics>,
    pub dial: Arc<dyn wire::Dial>,
    pub upstreams: Vec<Arc<UpstreamConfig>>,
    /// Its queues and dead letters are loaded before anything that is pushed.
    pub recovered: Recovered,
    pub dead_letters: DeadLetterLimits,
}

/// What dead letters may take; past it the oldest are dropped (DESIGN 4).
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterLimits {
    /// Of the log.
    pub bytes: u64,
    /// Each takes about 256 B of memory.
    pub count: usize,
}

/// Starts the forwarder's thread. Pass the handle to `Store::start` as its outlet.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub fn start(parts: Parts) -> std::io::Result<Arc<Handle>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, desk) = assemble(parts);
    std::thread::Builder::new().name("forward".to_owned()).spawn(move || {
        runtime.block_on(desk);
        // A name look-up may hang in the system's resolver: do not wait for it.
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

/// The handle, and the forwarder's work as a future.
fn assemble(mut parts: Parts) -> (Arc<Handle>, impl Future<Output = ()> + Send) {
    let (handle, commands) = Handle::new(Arc::clone(&parts.log), Arc::clone(&parts.reader));
    let handle = Arc::new(handle);
    let mailbox = handle.mailbox();
    let desk = async move {
        let recovered = std::mem::take(&mut parts.recovered);
        let upstreams = std::mem::take(&mut parts.upstreams);
        let mut desk = desk::Desk::new(parts, mailbox);
        desk.configure(&upstreams);
        desk.load(recovered);
        desk.run(commands).await;
    };
    (handle, desk)
}
