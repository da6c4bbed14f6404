//! The log (DESIGN 4): the one durable truth. Intake appends, the forwarder reads and settles, and a start
//! rebuilds everything else from it.
//!
//! # Layout
//!
//! ```text
//! DIRECTORY/                 0700
//!   spool/lock               held by the one process that owns the directory
//!   spool/0000000001.log     a segment, 0600; the highest one or two may be blank, made ahead of time
//!   quarantine/              copies of damaged bytes, at most 64 MiB; looked at by people alone
//!
//! segment  := head (8 KiB: two copies in two pages) frame* zero*
//! head     := "SURGLOG1" format:u32 id:u32 first_sequence:u64 salt:u64 crc:u32
//! frame    := "SGR1" len:u32 crc:u32 kind:u8 version:u8 0:u16 sequence:u64 payload[len] zero-padding to 8
//! position := segment << 32 | offset of the frame
//! ```
//!
//! All numbers are little endian. `crc` covers the frame but itself and begins with the segment's random
//! salt: neither a body that a sender made to look like a frame nor what an older file left on the disk
//! passes for a record. `sequence` names the event that the record is about; only an `Accepted` takes a new
//! one. Payloads: `store/record.rs`. A frame of an unknown kind or version is skipped and counted.
//!
//! Limits: a payload 1 MiB, a segment 4 GiB, 64 MiB in memory on the way to the disk, and the last 8 MiB written
//! stay there for the forwarder.
//!
//! # Invariants
//!
//! 1. A segment is written front to back, in positions' order, and its bytes never change (the page that
//!    a commit ends in is written again, as it stands, with what follows). A start never
//!    appends to a segment of the process before it.
//! 2. An event is answered when the write that holds it is synced, and the head and all segments before it.
//! 3. An ending of an event stands behind the event.
//! 4. After a failed write or sync the segment takes no more. The fresh one begins with `Void` records that
//!    name every sequence refused since, and is synced before the next 2xx.
//! 5. Sequences are never given to two events.
//!
//! # What a crash leaves
//!
//! | at | the next start finds |
//! | --- | --- |
//! | filling a segment | a blank file: removed |
//! | the first write of a segment | a torn head: nothing in it was answered; set aside |
//! | a write | a torn end: cut, with a copy in quarantine; nothing in it was answered |
//! | between write and sync, or sync and answer | the events: delivered, and again if their senders retry |
//! | between a failed write and the void's sync | as above: the refused events, beside their retries |
//! | within 50 ms of a settlement | the event still waiting: delivered again under the same uid |

// The log's writer is a thread of its own: no runtime runs there, and no test pauses its clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod files;
mod frame;
mod linger;
mod pending;
mod reader;
mod recent;
mod record;
mod recovery;
mod scan;
mod settlements;
mod shelf;
mod writer;

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use tokio::sync::{Notify, oneshot};

use self::files::{Disk, Files, Real, Segment};
use self::pending::{Health, Pending, Waiting};
use self::reader::Reader;
use self::recent::Recent;
use self::shelf::Shelf;
use self::writer::Writer;
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

/// A request's channel and what it is told.
type Answer = (oneshot::Sender<Result<Accepted, Reason>>, Result<Accepted, Reason>);

/// Answers for the requests of one worker's runtime.
#[derive(Default)]
struct Mailbox {
    answers: Mutex<Vec<Answer>>,
    arrived: Notify,
    /// The runtime has something to do.
    busy: AtomicBool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answers: &mut Vec<Answer>) {
        if !answers.is_empty() {
            self.lock().append(answers);
            self.arrived.notify_one();
        }
    }
}

/// What the store's threads share.
struct Core {
    disk: Disk,
    shelf: Shelf,
    pending: Mutex<Pending>,
    /// The writer sleeps on it.
    wake: Condvar,
    /// It waits for company though few are there.
    few_wait: AtomicBool,
    recent: Recent,
    mailboxes: Vec<Mailbox>,
    metrics: Arc<Metrics>,
    durability: Durability,
    max_bytes: u64,
    closed: AtomicBool,
}

/// An event in the log's hands.
#[must_use = "only its end tells whether the event may be answered 2xx"]
pub enum Append {
    Ended(Result<Accepted, Reason>),
    Waits(oneshot::Receiver<Result<Accepted, Reason>>),
}

impl Future for Append {
    type Output = Result<Accepted, Reason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ended(ended) => Poll::Ready(*ended),
            Self::Waits(answer) => Pin::new(answer).poll(cx).map(|ended| ended.unwrap_or(Err(Reason::SpoolFailed))),
        }
    }
}

/// The event ends here: its sender's retry is a new one.
fn refuse(admitted: Admitted, reason: Reason) {
    let Admitted { claim, ticket, .. } = admitted;
    ticket.reject(reason);
    drop(claim);
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new segment is being filled: has its successor made, if there is room for one.
    fn segment_began(&self, pending: &mut Pending) {
        let next = pending.tail().0.saturating_add(1);
        pending.no_next = (!self.shelf.can_be_had(next, &self.disk)).then_some(Reason::SpoolFull);
        self.shelf.want(next);
    }

    /// What became of the making of a segment.
    fn segment_made(&self, id: u32, made: Result<(), &std::io::Error>) {
        let mut pending = self.lock();
        if id == pending.tail().0.saturating_add(1) {
            if let (Err(error), None) = (made, pending.no_next) {
                // Told once: the next try is soon.
                tracing::warn!(%error, segment = id, "the next segment of the spool cannot be made");
            }
            pending.no_next =
                made.err().map(|error| if files::is_full(error) { Reason::SpoolFull } else { Reason::SpoolFailed });
        }
    }

    /// For the writer.
    fn take_segment(&self, id: u32) -> std::io::Result<Segment> {
        self.shelf.take(id, &self.disk, &|id, made| self.segment_made(id, made))
    }

    fn within_limit(&self) -> Result<(), Reason> {
        if self.disk.bytes() > self.max_bytes { Err(Reason::SpoolFull) } else { Ok(()) }
    }

    fn hand_over(&self, worker: usize, admitted: Admitted) -> Append {
        let lane = record::lane(&admitted.event, &admitted.claim);
        let mut pending = self.lock();
        let segment = pending.tail().0;
        let placed = self.within_limit().and_then(|()| pending.place_event(&admitted, lane));
        if pending.tail().0 != segment {
            self.segment_began(&mut pending);
        }
        let (sequence, at) = match placed {
            Ok(placed) => placed,
            Err(reason) => {
                drop(pending);
                refuse(admitted, reason);
                return Append::Ended(Err(reason));
            }
        };
        let handed_over = match self.durability {
            Durability::Fsync => {
                let (answer, receiver) = oneshot::channel();
                pending.batch.waiting.push(Waiting { admitted, sequence, at, lane, worker, answer });
                Append::Waits(receiver)
            }
            Durability::Memory => {
                let queued = pending::queued(&admitted, sequence, at, lane);
                pending.batch.queued.extend(queued);
                // Under the lock: the writer must not hand it on before the books and the state know it.
                Append::Ended(Ok(admitted.accept(at)))
            }
        };
        let wake = pending.should_wake();
        drop(pending);
        if wake {
            self.wake.notify_one();
        }
        handed_over
    }

    /// Whether no request thread has anything to do.
    fn is_idle(&self) -> bool {
        !self.mailboxes.iter().any(|mailbox| mailbox.busy.load(Ordering::Acquire))
    }

    fn settle(&self, upstream: &str, sequence: u64, ending: Ending) {
        let at = Micros::now();
        let mut pending = self.lock();
        let segment = pending.tail().0;
        pending.place_ending(upstream, sequence, ending, at);
        if pending.tail().0 != segment {
            self.segment_began(&mut pending);
        }
        let wake = pending.should_wake();
        drop(pending);
        if wake {
            self.wake.notify_one();
        }
    }
}

/// The first segment of a process is small, so that a start need not wait for a large one to be filled.
const FIRST_BYTES: u32 = 8 << 20;
/// A body at its limit (30,720 B) with everything around it counts as room for one more event.
const ROOM_FOR_ONE: u64 = 64 << 10;
/// Smallest segment that makes sense: its head and a page.
const SEGMENT_BYTES_MIN: u32 = 12 << 10;
/// Offsets are 32 bits wide.
const SEGMENT_BYTES_MAX: u32 = u32::MAX - (1 << 20);

#[derive(Default)]
struct Threads {
    /// Until it is started.
    writer: Option<Writer>,
    writing: Option<JoinHandle<()>>,
    preparing: Option<JoinHandle<()>>,
}

/// The log. Dropping it closes it.
pub struct Store {
    core: Arc<Core>,
    reader: Reader,
    threads: Mutex<Threads>,
}

impl Store {
    /// Opens or makes the directory, replays the log, and restores the books of `metrics`. `transition` gets
    /// each tracked key's incident in log order. Damaged data never fails it.
    ///
    /// # Errors
    /// Another process owns the directory, or it cannot be used at all.
    pub fn open(
        config: Config,
        metrics: &Arc<Metrics>,
        workers: usize,
        transition: &mut dyn FnMut(StateKey, Incident, Position),
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        let files = Arc::new(Real::below(&config.directory));
        Self::open_on(files, config, metrics, workers, transition)
    }

    /// On a file system of the tests' choice.
    fn open_on(
        files: Arc<dyn Files>,
        config: Config,
        metrics: &Arc<Metrics>,
        workers: usize,
        transition: &mut dyn FnMut(StateKey, Incident, Position),
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        let disk = Disk::open(files, &config.directory, metrics)?;
        let (recovered, resume) = recovery::recover(&disk, metrics, transition)?;
        let segment_bytes = config.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(4096);
        let first_bytes = segment_bytes.min(FIRST_BYTES);
        let first = resume.next_segment;
        let written = config.durability == Durability::Fsync;
        let shelf = Shelf::new(first.saturating_sub(1), segment_bytes, config.max_bytes, written);
        let mut pending = Pending::new(&resume, first_bytes, segment_bytes);
        match disk.make_segment(first, first_bytes, written, &|| false) {
            Ok(file) => shelf.put(first, file),
            Err(error) => {
                tracing::error!(%error, "no segment can be made in the spool; new events are refused");
                let reason = if files::is_full(&error) { Reason::SpoolFull } else { Reason::SpoolFailed };
                // The writer tries again from its start on.
                pending.health = Health::Failed(reason);
            }
        }
        let core = Arc::new(Core {
            disk,
            shelf,
            pending: Mutex::new(pending),
            wake: Condvar::new(),
            few_wait: AtomicBool::new(false),
            recent: Recent::default(),
            mailboxes: (0..workers.max(1)).map(|_| Mailbox::default()).collect(),
            metrics: Arc::clone(metrics),
            durability: config.durability,
            max_bytes: config.max_bytes,
            closed: AtomicBool::new(false),
        });
        core.segment_began(&mut core.lock());
        let writer = Some(Writer::new(Arc::clone(&core), first.saturating_sub(1)));
        let threads = Mutex::new(Threads { writer, ..Threads::default() });
        Ok((Arc::new(Self { core, reader: Reader::default(), threads }), recovered))
    }

    /// Starts the writer thread; `outlet` gets what became durable. A second call does nothing.
    pub fn start(self: &Arc<Self>, outlet: Arc<dyn Outlet>) {
        let mut threads = self.threads();
        let Some(writer) = threads.writer.take() else { return };
        let writer = writer.with_outlet(outlet);
        self.core.shelf.man();
        let core = Arc::clone(&self.core);
        let prepare = move || core.shelf.run(&core.disk, &|id, made| core.segment_made(id, made));
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let spawned = named("spool-prepare").spawn(prepare).and_then(|thread| {
            threads.preparing = Some(thread);
            threads.writing = Some(named("spool-write").spawn(move || writer.run())?);
            Ok(())
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "a thread of the spool cannot be started; new events are refused");
            self.core.lock().health = Health::Failed(Reason::SpoolFailed);
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an admitted event to the log, at once. The future resolves when it is durable; dropping it changes
    /// nothing.
    ///
    /// # Errors
    /// `SpoolFull`, `SpoolFailed`, `Stopping`, or `Internal` for a record above 1 MiB. The event has then
    /// ended in the books and its key is free.
    pub fn append(&self, worker: usize, admitted: Admitted) -> Append {
        self.core.hand_over(worker, admitted)
    }

    /// Wakes the waiting requests of one worker's runtime as a batch; each worker runs one. Ends when the
    /// store is closed.
    pub async fn deliver_completions(self: Arc<Self>, worker: usize) {
        let mailboxes = &self.core.mailboxes;
        let Some(mailbox) = mailboxes.get(worker % mailboxes.len()) else { return };
        let mut answers = vec![];
        loop {
            let closed = self.core.closed.load(Ordering::Acquire);
            std::mem::swap(&mut *mailbox.lock(), &mut answers);
            if answers.is_empty() {
                if closed {
                    return;
                }
                mailbox.arrived.notified().await;
            }
            for (request, answer) in answers.drain(..) {
                // Who is gone does not mind.
                let _ = request.send(answer);
            }
        }
    }

    /// The runtime of `worker` has nothing to do: a commit that waits for company need not wait for it.
    pub fn worker_rests(&self, worker: usize) {
        let Some(mailbox) = self.core.mailboxes.get(worker) else { return };
        mailbox.busy.store(false, Ordering::Release);
        if self.core.durability == Durability::Fsync && self.core.few_wait.load(Ordering::Acquire) {
            let pending = self.core.lock();
            if pending.sleeping && (1..linger::FEW).contains(&pending.batch.waiting.len()) {
                drop(pending);
                self.core.wake.notify_one();
            }
        }
    }

    /// The runtime of `worker` goes on.
    pub fn worker_goes_on(&self, worker: usize) {
        if let Some(mailbox) = self.core.mailboxes.get(worker) {
            mailbox.busy.store(true, Ordering::Release);
        }
    }

    /// Records an ending; rides on the next commit, at latest 50 ms later. Never refused; after `close` it is
    /// lost, and the event delivered again. The caller counts it on the upstream's books.
    pub fn settle(&self, upstream: &Arc<UpstreamMeter>, sequence: u64, ending: Ending) {
        self.core.settle(&upstream.name, sequence, ending);
    }

    /// Reads an event back. Cheapest in log order.
    ///
    /// # Errors
    /// The record is not there, damaged, or cannot be read.
    pub fn read(&self, at: Position) -> Result<Stored, ReadError> {
        match self.core.recent.event(at) {
            Some(stored) => Ok(stored),
            None => self.reader.event(&self.core.disk, at),
        }
    }

    /// Whether new events can be accepted durably now; for `/readyz`.
    ///
    /// # Errors
    /// The reason new events are refused for.
    pub fn can_accept(&self) -> Result<(), Reason> {
        self.core.within_limit()?;
        self.core.lock().may_take(ROOM_FOR_ONE)
    }

    /// Writes and syncs what has gathered and stops the threads; blocks. Later appends are refused.
    pub fn close(&self) {
        let mut threads = self.threads();
        self.core.lock().health = Health::Closing;
        self.core.wake.notify_all();
        if let Some(writer) = threads.writer.take() {
            writer.run();
        }
        // A panic was logged where it happened.
        let join = |thread: Option<JoinHandle<()>>| thread.map(|thread| drop(thread.join()));
        join(threads.writing.take());
        self.core.shelf.stop();
        join(threads.preparing.take());
        self.core.shelf.clear(&self.core.disk);
        self.core.closed.store(true, Ordering::Release);
        self.core.mailboxes.iter().for_each(|mailbox| mailbox.arrived.notify_one());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
