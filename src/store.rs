//! The log (DESIGN 4): the one durable truth. Intake appends, the forwarder reads and settles, and a start
//! rebuilds everything else from it. `writer` commits, `shelf` makes segments ahead of time, `keeper` sums up and lets
//! go, each on a thread of its own; `pending` and `standing` are what they share with the requests, under one lock.
//!
//! # Layout
//!
//! ```text
//! DIRECTORY/                 0700
//!   spool/lock               held by the one process that owns the directory
//!   spool/0000000001.log     a segment, 0600; the highest one or two may be blank, made ahead of time
//!   spool/0000000001.checkpoint  the log up to a place, summed up; the last two are kept
//!   spool/0000000001.draft   one that is being written, or a segment that is copied; removed at a start
//!   quarantine/              copies of damaged bytes, at most 64 MiB; looked at by people alone
//!
//! segment  := head (8 KiB: two copies in two pages) frame* zero*
//! head     := "SURGLOG1" format:u32 id:u32 first_sequence:u64 salt:u64 crc:u32
//! frame    := "SGR1" len:u32 crc:u32 kind:u8 version:u8 0:u16 sequence:u64 payload[len] zero-padding to 8
//! position := segment:31 << 32 | offset of the frame; a state's with bit 63 where the record shows something
//! ```
//!
//! All numbers are little endian. `crc` covers the frame but itself and begins with the segment's random
//! salt: neither a body that a sender made to look like a frame nor what an older file left on the disk
//! passes for a record. `sequence` names the event that the record is about; only an `Accepted` or a `Rejected` takes a
//! new one. What a batch says of all its events is a record of its own (`Envelope`), written once in each segment that has
//! some of them, before the first; they name its offset. Deliveries of a commit are told of together (`Delivered`, with the
//! highest of their sequences), other endings one by one. Payloads: `store/record.rs`. A frame of an unknown kind or version is skipped and counted. A checkpoint has the
//! shape of a segment; its parts: `store/checkpoint.rs`.
//!
//! # Limits
//!
//! A payload 1 MiB, a segment 4 GiB, 64 MiB in memory on the way to the disk, and the last 8 MiB written stay there
//! for the forwarder. `index_bytes` bounds what waits and where it stands: a bit to two bytes a waiting event (compressed
//! sets of sequences, one for each upstream and integration) and 16 B for each 32 KiB of the log (marks, thinned where
//! they take more than a quarter); past it new events are refused. `max_bytes` counts every file. New events leave free
//! what all that waits needs to be settled once, and the next checkpoint.
//!
//! # What goes, and when
//!
//! A segment may go when a checkpoint speaks of a place behind it and none of its events waits or is a dead letter.
//! It goes when it was sealed `retain` ago, or, oldest first, when less than an eighth of `max_bytes` is free or the disk
//! is full: before anything is refused. Where few events keep an old segment, they are copied to the end of the log
//! (`Moved`), and it goes when a checkpoint knows of the copies. So is what answers show of incidents whose last record it
//! holds (`Snapshot`, without the body), as long as there is a state of them; `store/snapshots.rs`. Where nothing may go, new events are refused, and what
//! waits is forwarded and settled as before.
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
//! 6. The tail is never behind a checkpoint: one is made of what is on disk, and gets its name when it is itself. What a
//!    checkpoint says is exact at its place, but for the states, which may be newer: records behind the place hold whole
//!    states and end where they are.
//! 7. An event's record goes after its last ending and never before: an event that waits can be read, or is counted as
//!    damaged.
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
//! | within 50 ms of a settlement | the event still waiting: delivered again under the same uid; of a replay: a dead letter still |
//! | between an upstream's refusal and its record | the event still waiting, its sender without an answer: sent again, and then a dead letter |
//! | writing a checkpoint | a draft: removed; the two before it count |
//! | between a checkpoint's name and the older one's end | three of them: the newest counts |
//! | copying events | copies of events that stand in their places as well: one of the two is read |
//! | removing segments | some of what may go: it goes later |
//!
//! Bytes that are not as they were written never fail a start. Bytes that the disk does not give, and a sync that it refuses,
//! do: nothing is given up for them but by hand ([`Unreadable`]).

// The log's writer is a thread of its own: no runtime runs there, and no test pauses its clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod check;
mod checkpoint;
mod deliveries;
mod files;
mod frame;
mod history;
mod keeper;
mod left;
mod linger;
mod look;
mod pending;
mod places;
mod reader;
mod recent;
mod record;
mod recovery;
mod remotes;
mod room;
mod scan;
mod search;
mod sequences;
mod shelf;
mod snapshots;
mod standing;
mod writer;

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use self::files::{Disk, Files, Real, Segment};
use self::keeper::Keeper;
use self::pending::{Batch, Health, Owed, Pending, Waiting};
use self::places::Places;
use self::reader::{Reader, event_in, split};
use self::recent::Recent;
use self::record::Touched;
use self::remotes::Remotes;
use self::shelf::Shelf;
use self::standing::Cut;
use self::writer::Writer;
use crate::claim::{Accepted, Admitted, ById, Pacing, Position, TakenBack, Targets};
use crate::event::{Action, Event, Incident, Key, Micros, StateKey, Uid};
use crate::metrics::{INTAKE, Metrics, Ticket, UpstreamMeter};
use crate::outcome::{DeadReason, DropReason, Outcome, Reason, Unfit};

pub use check::{Checked, FileRow, Finding, Lost, Wrong};
pub use history::{Bounds, Happened, Sought, Stand, Trace, Traced, What};
pub use left::{Left, LeftEvent};
pub use look::{Look, Presence, QueueRow};
pub use record::DeadNote;
pub use remotes::{Learned, REMOTE_ID_BYTES_MAX, REMOTE_URL_BYTES_MAX, Remote};
pub use room::Room;

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
    /// How long segments stay after their last event was delivered, while there is space.
    pub retain: Duration,
    /// Memory for knowing what waits and where it stands; past it new events are refused.
    pub index_bytes: u64,
    pub unreadable: Unreadable,
}

/// What an open makes of bytes that the disk cannot read, tried twice. They may be as good as ever, and what is behind
/// them, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// It fails and gives nothing up: who starts the process tries again.
    #[default]
    FailsOpen,
    /// It goes on without them, as over damage: somebody said so.
    IsDamage,
}

/// Resolves when what was settled is on disk.
pub type Settled = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The same; false where the log was closed before.
pub type Written = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What holds the states: implemented over `dedup`. A start puts them back, a checkpoint writes them down.
pub trait States: Send + Sync {
    /// A key's incident, in log order.
    fn restore(&self, key: StateKey, incident: Incident, at: Position);
    /// The incident `iid` of a key was seen again; nothing where it is another one by now.
    fn touched(&self, key: StateKey, iid: Uid, count: u32, last_seen: Micros);
    /// What an event did to a key never was, in log order.
    fn taken_back(&self, _taken: &TakenBack) {}
    /// Every key's state as last committed. Keys that change meanwhile may be given as before or after.
    fn each(&self, visit: &mut dyn FnMut(StateKey, Incident, Position));
    /// An incident that is addressed by id, in log order; its state comes beside it.
    fn restore_by_id(&self, _row: ById) {}
    /// Every incident that is addressed by id.
    fn each_by_id(&self, _visit: &mut dyn FnMut(ById)) {}
    /// A key's state as last committed, with the place of the record that says so.
    fn at(&self, key: StateKey) -> Option<(Incident, Position)>;
    /// What the record at `from` shows of the incident `iid` stands at `to` now; nothing where the key's state is not that
    /// of `from` any more.
    fn moved(&self, key: StateKey, iid: Uid, from: Position, to: Position);
    /// False: `each` would give nothing.
    fn are_kept(&self) -> bool {
        true
    }
    /// Whether a key's incident is `iid` still; the key of an incident without one is its iid.
    fn lives(&self, _key: StateKey, _iid: Uid) -> bool {
        true
    }
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

    /// The same for rejected elements that are kept. Who shows no dead letters has no use for them.
    fn keep_rejected(&self, letters: &mut Vec<Rejected>) {
        letters.clear();
    }
}

/// An element of a batch that was rejected alone and is kept, as the forwarder gets it: a dead letter at
/// [`INTAKE`] from the beginning.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub sequence: u64,
    pub at: Position,
    pub lane: LaneKey,
    pub integration: Arc<str>,
    pub event_uid: Uid,
    pub action: Action,
    pub reason: DeadReason,
    pub rejected_at: Micros,
    /// Of its record, about.
    pub bytes: u32,
}

/// An event read back from the log.
#[derive(Clone, Debug)]
pub struct Stored {
    pub sequence: u64,
    pub lane: LaneKey,
    pub event: Event,
    /// The incident as it stood after the event.
    pub incident: Option<Incident>,
    /// Where the record stands that the incident's state was last written with before; it may be gone with its segment.
    /// `None`: the event began it, or that is not known.
    pub before: Option<Position>,
    pub outcome: Outcome,
    pub pacing: Pacing,
}

/// What an incident's last record tells of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Of the event that changed it last.
    pub uid: Uid,
    pub received_at: Micros,
    pub integration: Arc<str>,
    pub dialect: Box<str>,
    pub endpoint: Box<str>,
    pub family: Box<str>,
    pub key: Option<Key>,
    /// As it stood then, or when it was copied: `dedup` has it as it stands now.
    pub incident: Option<Incident>,
    /// [`Event::view`].
    pub view: Option<Bytes>,
    /// `None`: the event's own record is gone with its segment.
    pub raw: Option<Bytes>,
}

/// How an event ended at one upstream, or began again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Delivered {
        /// Its answer's; `None` where that is not known.
        status: Option<u16>,
        attempts: u32,
    },
    Dropped(DropReason),
    Dead {
        reason: DeadReason,
        status: Option<u16>,
        attempts: u32,
    },
    /// A dead letter waits again.
    Replayed,
}

impl Ending {
    /// Delivered, nobody says how.
    pub const DELIVERED: Self = Self::Delivered { status: None, attempts: 0 };
}

/// For tools that look at queues alone: no checkpoint is made, for it would have no states.
pub struct NoStates;

impl States for NoStates {
    fn restore(&self, _: StateKey, _: Incident, _: Position) {}

    fn touched(&self, _: StateKey, _: Uid, _: u32, _: Micros) {}

    fn each(&self, _: &mut dyn FnMut(StateKey, Incident, Position)) {}

    fn at(&self, _: StateKey) -> Option<(Incident, Position)> {
        None
    }

    fn moved(&self, _: StateKey, _: Uid, _: Position, _: Position) {}

    fn are_kept(&self) -> bool {
        false
    }
}

/// A dead letter, as the log tells it after a restart. What the event says is read where it stands.
#[derive(Clone)]
pub struct Dead {
    pub sequence: u64,
    pub upstream: Arc<UpstreamMeter>,
    pub integration: Arc<str>,
    pub reason: DeadReason,
    pub status: Option<u16>,
    pub attempts: u32,
    pub at: Micros,
}

/// Which events are asked for: up to `count` of an integration's, behind the sequence `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub integration: Arc<str>,
    pub after: u64,
    pub count: usize,
}

/// A waiting event, by its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub sequence: u64,
    /// `None`: its record cannot be read any more.
    pub found: Option<Found>,
}

/// What the forwarder must know of an event before its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub at: Position,
    pub lane: LaneKey,
    pub pacing: Pacing,
}

/// What recovery found.
#[derive(Default)]
pub struct Recovered {
    /// Where events wait: upstream and integration. [`Store::waiting`] tells which.
    pub queues: Vec<(Arc<UpstreamMeter>, Arc<str>)>,
    /// Events that wait, counted once for each upstream.
    pub waiting: u64,
    /// Unknown resolves that wait, by integration.
    pub unknown_waiting: Vec<(Arc<str>, usize)>,
    pub dead: Vec<Dead>,
    /// Highest `Incident::number` ever written.
    pub highest_number: u64,
    /// Events from here on came after the start.
    pub first_sequence: u64,
    pub damaged_records: u64,
    /// Segments before which events are gone without a trace, and how many.
    pub gaps: Vec<(u32, u64)>,
    /// The process before ended with nothing under way.
    pub clean: bool,
    /// The clock jumped by so much since the log was last written: states are to be taken for so much younger.
    pub clock_jump_micros: i64,
    /// Events before this sequence are by so much younger than their stamps say.
    pub jump_before: u64,
    pub jump_micros: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    #[error("{0} holds no spool")]
    NoSpool(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be made durable: {source}")]
    Unsynced { path: PathBuf, source: std::io::Error },
}

impl OpenError {
    /// What to do about it, for whoever starts the process.
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind;
        let change = "or change spool.directory";
        match self {
            Self::Locked(directory) => {
                let who = match Store::presence(directory) {
                    Ok(Presence::Running(pid @ 1..)) => format!("process {pid} has it: "),
                    _ => String::new(),
                };
                Some(format!("{who}stop it, or give this one a spool.directory of its own"))
            }
            Self::NoSpool(_) => None,
            Self::Unreadable { .. } => Some(
                "nothing was given up: mend the disk, or go on without what cannot be read by `surgegate spool repair`"
                    .to_owned(),
            ),
            Self::Unsynced { .. } => Some("events there may not survive a loss of power: mend the disk".to_owned()),
            Self::Io { source, .. } => Some(match source.kind() {
                ErrorKind::PermissionDenied => format!("let the user that this runs as write there, {change}"),
                ErrorKind::ReadOnlyFilesystem => format!("mount it to be written to, {change}"),
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    format!("a file stands where a directory is meant: move it away, {change}")
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("make room there, {change}"),
                ErrorKind::NotFound => "nothing can be made there: change spool.directory".to_owned(),
                _ => "spool.directory says where it is".to_owned(),
            }),
        }
    }
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
    index_bytes: u64,
    retain: Duration,
    places: Mutex<Places>,
    remotes: Remotes,
    /// Some events stand elsewhere than where they were first written.
    some_moved: AtomicBool,
    /// Bytes that new events may not take: for what is owed, and for the next checkpoint.
    reserve: AtomicU64,
    /// Of the last checkpoint.
    checkpoint_bytes: AtomicU64,
    index_full: AtomicBool,
    /// A cut that was asked for.
    cut: Mutex<Option<Box<Cut>>>,
    cut_given: Condvar,
    /// Whether the keeper is to stop; it sleeps on `keeper_wake`.
    keeping: Mutex<bool>,
    keeper_wake: Condvar,
    writer_left: AtomicBool,
    closed: AtomicBool,
}

/// An event in the log's hands.
#[must_use = "only its end tells whether the event may be answered 2xx"]
pub enum Append {
    Ended(Result<Accepted, Reason>),
    Waits(Waits),
}

/// Resolves when the event is durable, or was refused; dropping it changes nothing.
#[must_use = "only its end tells whether the event may be answered 2xx"]
pub struct Waits(oneshot::Receiver<Result<Accepted, Reason>>);

impl Future for Waits {
    type Output = Result<Accepted, Reason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(cx).map(|ended| ended.unwrap_or(Err(Reason::SpoolFailed)))
    }
}

impl Future for Append {
    type Output = Result<Accepted, Reason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ended(ended) => Poll::Ready(*ended),
            Self::Waits(waits) => Pin::new(waits).poll(cx),
        }
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places records; where they began a segment its successor is made.
    fn place<T>(&self, pending: &mut Pending, act: impl FnOnce(&mut Pending) -> T) -> T {
        let segment = pending.tail().0;
        let done = act(pending);
        if pending.tail().0 != segment {
            self.segment_began(pending);
        }
        done
    }

    /// Takes what has gathered; `spare` takes its place.
    fn take(&self, pending: &mut Pending, spare: &mut Batch) -> Batch {
        self.place(pending, |pending| pending.swap(spare))
    }

    /// A new segment is being filled: has its successor made, if there is room for one.
    fn segment_began(&self, pending: &mut Pending) {
        let (id, (bytes, next_bytes)) = (pending.tail().0, pending.sizes());
        let next = id.saturating_add(1);
        self.shelf.want(id, bytes);
        self.shelf.want(next, next_bytes);
        self.set_reserve(pending);
        let room = self.has_room(self.shelf.missing_bytes(next));
        pending.no_next = (!room).then_some(Reason::SpoolFull);
        if !self.has_room(self.headroom(pending)) {
            self.keeper_wake.notify_all();
        }
    }

    /// What became of the making of a segment.
    fn segment_made(&self, id: u32, made: Result<(), &std::io::Error>) {
        let mut pending = self.lock();
        // While it closes, nobody waits for it.
        if id != pending.tail().0.saturating_add(1) || pending.health == Health::Closing {
            return;
        }
        match made {
            Ok(()) => pending.no_next = None,
            Err(error) => {
                if pending.no_next.is_none() {
                    // Told once: the next try is soon.
                    tracing::warn!(%error, segment = id, "the next segment of the spool cannot be made");
                }
                let full = files::is_full(error);
                pending.no_next = Some(if full { Reason::SpoolFull } else { Reason::SpoolFailed });
                if full && pending.take_smaller() {
                    self.shelf.want(id, pending.sizes().1);
                    self.shelf.try_again();
                }
            }
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        let taken = self.disk.bytes().saturating_add(self.reserve.load(Ordering::Relaxed));
        taken.saturating_add(bytes) <= self.max_bytes
    }

    fn set_reserve(&self, pending: &Pending) {
        let checkpoint = self.checkpoint_bytes.load(Ordering::Relaxed);
        let checkpoint = checkpoint.saturating_add(checkpoint / 4).saturating_add(CHECKPOINT_MIN);
        let reserve = pending.reserve().saturating_add(checkpoint.min(self.max_bytes / 16));
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    /// Whether what nobody needs should go now, so that nothing is refused soon: the limit comes close,
    fn nears_limit(&self) -> bool {
        let pending = self.lock();
        self.set_reserve(&pending);
        !self.has_room(self.headroom(&pending))
    }

    /// or the disk is full before it.
    fn disk_is_full(&self) -> bool {
        self.lock().no_next == Some(Reason::SpoolFull)
    }

    /// What is kept free of segments that nobody needs.
    fn headroom(&self, pending: &Pending) -> u64 {
        (2 * u64::from(pending.sizes().1)).max(self.max_bytes / 8)
    }

    fn space_was_made(&self) {
        self.shelf.try_again();
    }

    /// For the writer.
    fn take_segment(&self, id: u32) -> std::io::Result<Segment> {
        self.shelf.take(id, &self.disk, &|bytes| self.has_room(bytes), &|id, made| self.segment_made(id, made))
    }

    fn within_limit(&self) -> Result<(), Reason> {
        let full = self.disk.bytes() > self.max_bytes || self.index_full.load(Ordering::Relaxed);
        if full { Err(Reason::SpoolFull) } else { Ok(()) }
    }

    /// Memory of the index stays within its bound: first looking takes longer, then new events are refused.
    fn hold_index_to_its_bound(&self) {
        let mut places = self.places();
        while places.bytes() as u64 > self.index_bytes / 4 && places.thin() {}
        let places = places.bytes() as u64;
        let standing = self.lock().standing.bytes() as u64;
        let full = places.saturating_add(standing) > self.index_bytes;
        if full && !self.index_full.swap(full, Ordering::Relaxed) {
            tracing::warn!(bytes = places + standing, "the spool's index is full; new events are refused");
        }
        self.index_full.store(full, Ordering::Relaxed);
    }

    /// A batch is on disk.
    fn written(&self, batch: &mut Batch) {
        let mut places = self.places();
        batch.begun.drain(..).for_each(|(id, first)| places.began(id, first, None));
        batch.marks.drain(..).for_each(|(id, sequence, offset)| places.mark(id, sequence, offset));
        places.sealed_before(split(batch.end).0, Micros::now());
        drop(places);
        let mut pending = self.lock();
        (pending.durable_sequence, pending.durable) = (batch.upto, batch.end);
        drop(pending);
        // Who is gone does not mind.
        batch.told.drain(..).for_each(|told| {
            let _ = told.send(());
        });
    }

    fn give_cut(&self, cut: Box<Cut>) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
        self.cut_given.notify_all();
    }

    /// What stands at some moment from now on, all of it on disk. `None` when the writer did not come round to it.
    fn take_cut(&self, at_most: Duration) -> Option<Box<Cut>> {
        let mut slot = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        {
            let mut pending = self.lock();
            if self.writer_left.load(Ordering::Acquire) {
                return pending.is_durable().then(|| pending.cut());
            }
            pending.cut_wanted = true;
        }
        self.wake.notify_one();
        let waited = self.cut_given.wait_timeout_while(slot, at_most, |slot| slot.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    fn hand_over(&self, worker: usize, admitted: Admitted) -> Append {
        let lane = record::lane(&admitted.event, &admitted.claim);
        let mut pending = self.lock();
        let placed =
            self.within_limit().and_then(|()| self.place(&mut pending, |pending| pending.place_event(&admitted, lane)));
        match placed {
            Ok((sequence, at)) => {
                let shows = admitted.event.view.is_some();
                self.owe(pending, Owed::Event(admitted.placed(), shows), sequence, at, lane, worker)
            }
            Err(reason) => {
                drop(pending);
                admitted.placed().refuse(reason);
                Append::Ended(Err(reason))
            }
        }
    }

    fn hand_over_rejected(&self, worker: usize, event: &Event, unfit: Unfit, ticket: Ticket) -> Append {
        let intake = self.metrics.upstream(INTAKE);
        let (lane, rejected_at) = (LaneKey(event.uid.0), Micros::now());
        let note = DeadNote { reason: unfit.dead_reason(), status: None, attempts: 0, at: rejected_at };
        let mut pending = self.lock();
        let placed = self
            .within_limit()
            .and_then(|()| self.place(&mut pending, |pending| pending.place_rejected(event, &intake, lane, note)));
        match placed {
            Ok((sequence, at)) => {
                let letter = Rejected {
                    sequence,
                    at,
                    lane,
                    integration: Arc::clone(&event.integration),
                    event_uid: event.uid,
                    action: event.action,
                    reason: note.reason,
                    rejected_at,
                    bytes: u32::try_from(event.raw.len() + RECORD_BYTES).unwrap_or(u32::MAX),
                };
                let kept = pending::Kept { letter, unfit, intake, ticket };
                self.owe(pending, Owed::Rejected(kept), sequence, at, lane, worker)
            }
            Err(reason) => {
                drop(pending);
                ticket.reject(reason);
                Append::Ended(Err(reason))
            }
        }
    }

    /// A record is placed: what becomes of it is told when it is durable, or at once in memory.
    fn owe(
        &self,
        mut pending: MutexGuard<'_, Pending>,
        owed: Owed,
        sequence: u64,
        at: Position,
        lane: LaneKey,
        worker: usize,
    ) -> Append {
        let handed_over = match (self.durability, owed) {
            (Durability::Fsync, owed) => {
                let (answer, receiver) = oneshot::channel();
                pending.batch.waiting.push(Waiting { owed, sequence, at, lane, worker, answer });
                Append::Waits(Waits(receiver))
            }
            // Under the lock: the writer must not hand it on before the books and the state know it.
            (Durability::Memory, Owed::Event(placed, shows)) => {
                let (accepted, left) = placed.accept(sequence, reader::with_view(at, shows));
                pending.batch.queued.extend(pending::queued(left, sequence, at, lane));
                Append::Ended(Ok(accepted))
            }
            (Durability::Memory, Owed::Rejected(kept)) => {
                let (accepted, letter) = kept.keep();
                pending.batch.rejected.push(letter);
                Append::Ended(Ok(accepted))
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

    /// Places what is never refused.
    fn tell(&self, act: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        self.place(&mut pending, act);
        let wake = pending.should_wake();
        drop(pending);
        if wake {
            self.wake.notify_one();
        }
    }
}

/// Kept free for a checkpoint, beyond a quarter more than the last one took.
const CHECKPOINT_MIN: u64 = 64 << 10;
/// The first segment of a process is small, so that a start need not wait for a large one to be filled.
const FIRST_BYTES: u32 = 8 << 20;
/// A body at its limit (30,720 B) with everything around it counts as room for one more event.
const ROOM_FOR_ONE: u64 = 64 << 10;
/// Bytes of a record beside the body, about.
const RECORD_BYTES: usize = 300;
/// Most of a rejected element that is kept: four times what an event may have, and it fits into any segment.
pub const REJECTED_RAW_BYTES_MAX: usize = 120 << 10;
/// Most faults that are kept of one,
pub const FAULTS_MAX: usize = 32;
/// and of each so many characters.
pub const FAULT_CHARS_MAX: usize = 256;
/// Smallest segment that makes sense: its head and a page.
const SEGMENT_BYTES_MIN: u32 = 12 << 10;
/// Offsets are 32 bits wide.
const SEGMENT_BYTES_MAX: u32 = u32::MAX - (1 << 20);

#[derive(Default)]
struct Threads {
    /// Until it is started.
    writer: Option<Writer>,
    keeper: Option<Keeper>,
    writing: Option<JoinHandle<()>>,
    preparing: Option<JoinHandle<()>>,
    keeping: Option<JoinHandle<Keeper>>,
}

/// The log. Dropping it closes it.
pub struct Store {
    core: Arc<Core>,
    reader: Arc<Reader>,
    /// Of this process; those before it are on disk.
    first_segment: u32,
    threads: Mutex<Threads>,
    /// Nothing is under way: the last checkpoint says so.
    at_rest: AtomicBool,
}

impl Store {
    /// Opens or makes the directory, replays the log into `states`, and restores the books of `metrics`. Damaged data
    /// never fails it.
    ///
    /// # Errors
    /// Another process owns the directory, or the disk does not let it be used: not all of the log can be read, or not
    /// made durable ([`Unreadable`]).
    pub fn open(
        config: Config,
        metrics: &Arc<Metrics>,
        workers: usize,
        states: Arc<dyn States>,
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        let files = Arc::new(Real::below(&config.directory));
        Self::open_on(files, config, metrics, workers, states)
    }

    /// On a file system of the tests' choice.
    fn open_on(
        files: Arc<dyn Files>,
        config: Config,
        metrics: &Arc<Metrics>,
        workers: usize,
        states: Arc<dyn States>,
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        let disk = Disk::open(files, &config.directory, metrics)?;
        let (recovered, mut resume) = recovery::recover(&disk, metrics, &*states, config.unreadable)?;
        let segment_bytes = config.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(4096);
        let written = config.durability == Durability::Fsync;
        let first = resume.next_segment;
        let shelf = Shelf::new(first.saturating_sub(1), written);
        let mut first_bytes = segment_bytes.min(FIRST_BYTES);
        let made = loop {
            let made = disk.make_segment(first, first_bytes, written, &|| false);
            let smaller = (first_bytes / 2).next_multiple_of(4096);
            match &made {
                Err(error) if files::is_full(error) && smaller >= SEGMENT_BYTES_MIN => first_bytes = smaller,
                _ => break made,
            }
        };
        let places = Mutex::new(std::mem::take(&mut resume.places));
        let remotes = std::mem::take(&mut resume.remotes);
        let some_moved = AtomicBool::new(!resume.standing.moved.is_empty());
        let (checkpoints, next_checkpoint) = (std::mem::take(&mut resume.checkpoints), resume.next_checkpoint);
        let mut pending = Pending::new(resume, first_bytes, segment_bytes);
        match made {
            Ok(file) => shelf.put(first, file, first_bytes),
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
            index_bytes: config.index_bytes,
            retain: config.retain,
            places,
            remotes,
            some_moved,
            reserve: AtomicU64::new(0),
            checkpoint_bytes: AtomicU64::new(0),
            index_full: AtomicBool::new(false),
            cut: Mutex::default(),
            cut_given: Condvar::new(),
            keeping: Mutex::default(),
            keeper_wake: Condvar::new(),
            writer_left: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        core.segment_began(&mut core.lock());
        let reader = Arc::new(Reader::default());
        let writer = Some(Writer::new(Arc::clone(&core), first.saturating_sub(1)));
        let keeper = Keeper::new(Arc::clone(&core), Arc::clone(&reader), states, checkpoints, next_checkpoint);
        let threads = Mutex::new(Threads { writer, keeper: Some(keeper), ..Threads::default() });
        Ok((Arc::new(Self { core, reader, first_segment: first, threads, at_rest: AtomicBool::new(false) }), recovered))
    }

    /// Starts the writer thread; `outlet` gets what became durable. A second call does nothing.
    pub fn start(self: &Arc<Self>, outlet: Arc<dyn Outlet>) {
        let mut threads = self.threads();
        let Some(writer) = threads.writer.take() else { return };
        let keeper = threads.keeper.take();
        let writer = writer.with_outlet(outlet);
        self.core.shelf.man();
        let core = Arc::clone(&self.core);
        let prepare =
            move || core.shelf.run(&core.disk, &|bytes| core.has_room(bytes), &|id, made| core.segment_made(id, made));
        let keep = |mut keeper: Keeper| {
            move || {
                keeper.run();
                keeper
            }
        };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let spawned = named("spool-prepare").spawn(prepare).and_then(|thread| {
            threads.preparing = Some(thread);
            threads.writing = Some(named("spool-write").spawn(move || writer.run())?);
            threads.keeping = keeper.map(|keeper| named("spool-keep").spawn(keep(keeper))).transpose()?;
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

    /// Keeps an element of a batch that was rejected alone as a dead letter at [`INTAKE`] (INTERFACE 6), awaited as
    /// [`Self::append`] is: the answer waits for it. `event` is what could be said of it; its `raw` is kept up to
    /// [`REJECTED_RAW_BYTES_MAX`]. `faults` are shown with it: at most [`FAULTS_MAX`], each of at most
    /// [`FAULT_CHARS_MAX`] characters. The [`Accepted`] that comes back says only that it is durable: the element is
    /// counted as rejected, and its outcome means nothing.
    ///
    /// # Errors
    /// As [`Self::append`]; it is then counted as rejected for that reason.
    pub fn append_rejected(
        &self,
        worker: usize,
        mut event: Event,
        unfit: Unfit,
        faults: &[String],
        ticket: Ticket,
    ) -> Append {
        let mut shown: Vec<String> =
            faults.iter().take(FAULTS_MAX).map(|fault| fault.chars().take(FAULT_CHARS_MAX).collect()).collect();
        if event.raw.len() > REJECTED_RAW_BYTES_MAX {
            shown.push(format!("kept: the first {REJECTED_RAW_BYTES_MAX} of {} bytes", event.raw.len()));
            event.raw.truncate(REJECTED_RAW_BYTES_MAX);
        }
        event.view = serde_json::to_vec(&shown).ok().map(Bytes::from);
        self.core.hand_over_rejected(worker, &event, unfit, ticket)
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
    pub fn settle(&self, upstream: &Arc<UpstreamMeter>, integration: &str, sequence: u64, ending: Ending) {
        self.core.tell(|pending| {
            pending.place_ending(upstream, integration, sequence, (ending, None));
        });
    }

    /// As [`Self::settle`], with what the answer taught of the incident. Resolves when it is on disk (at once with
    /// `durability: memory` once it is written): before that nothing may be sent that builds on it (DESIGN 4). When the
    /// store closes it resolves as well.
    pub fn settle_durably(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        ending: Ending,
        learned: Option<Learned>,
    ) -> Settled {
        let at = Micros::now();
        let (told, settled) = oneshot::channel();
        let mut placed = false;
        self.core.tell(|pending| {
            placed = pending.place_ending(upstream, integration, sequence, (ending, learned.as_ref()));
            if placed {
                pending.batch.told.push(told);
            }
        });
        if let Some(learned) = learned.filter(|_| placed) {
            self.core.remotes.learn(&upstream.name, at, learned);
        }
        Box::pin(async move { drop(settled.await) })
    }

    /// Ends an event that its upstream refused while its sender waits: dropped, and what it did to its key taken back. The
    /// sender is told when it is on disk, so that a crash does not bring back what its retry is told apart from.
    pub fn settle_refused(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        taken: Option<TakenBack>,
    ) -> Written {
        let at = Micros::now();
        let (told, settled) = oneshot::channel();
        self.core.tell(|pending| {
            if pending.place_refused(upstream, integration, sequence, taken.as_ref(), at) {
                pending.batch.told.push(told);
            }
        });
        Box::pin(async move { settled.await.is_ok() })
    }

    /// What an upstream calls one generation of a key.
    pub fn remote(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>> {
        self.core.remotes.get(upstream, lane, iid)
    }

    /// Takes what another replica's upstream answered: known until the process ends, and asked for again then.
    pub fn learn(&self, upstream: &Arc<str>, learned: Learned) {
        self.core.remotes.learn(upstream, Micros::now(), learned);
    }

    /// The lane and generation that an upstream calls so.
    pub fn by_remote(&self, upstream: &str, id: &str) -> Option<(LaneKey, Uid)> {
        self.core.remotes.by_id(upstream, id)
    }

    /// What an upstream calls the generation of a key that it was told of last.
    pub fn last_remote(&self, upstream: &str, lane: LaneKey) -> Option<Arc<Remote>> {
        self.core.remotes.last(upstream, lane)
    }

    /// Gives a waiting event or dead letter of `from` to `to`, as [`Self::settle`] does. The caller counts it on
    /// the books of both.
    pub fn reassign(&self, from: &Arc<UpstreamMeter>, to: &Arc<UpstreamMeter>, integration: &str, sequence: u64) {
        let at = Micros::now();
        self.core.tell(|pending| pending.place_reassigned(from, to, integration, sequence, at));
    }

    /// Tells the log of an incident's `count` and `last_seen`; left out where there is no room for an event.
    pub fn touch(&self, key: StateKey, iid: Uid, count: u32, last_seen: Micros) {
        let touched = Touched { key, iid, count, last_seen };
        self.core.tell(|pending| {
            let _ = pending.place_touched(touched);
        });
    }

    /// Reads an event back from where it was first written. Cheapest in log order.
    ///
    /// # Errors
    /// The record is not there, damaged, or cannot be read.
    pub fn read(&self, sequence: u64, at: Position) -> Result<Stored, ReadError> {
        if let Some(stored) = self.core.recent.event(at) {
            return Ok(stored);
        }
        let moved = |at| self.moved(sequence).unwrap_or(at);
        match self.reader.event(&self.core.disk, moved(at)) {
            // It may have been moved just now.
            Err(ReadError::Damaged(_)) if moved(at) != at => self.reader.event(&self.core.disk, moved(at)),
            read => read,
        }
    }

    /// The event at a place that another one's record names, far from what is read else: mostly one call to the disk.
    ///
    /// # Errors
    /// It is not there any more, damaged, or cannot be read.
    pub fn earlier(&self, at: Position) -> Result<Stored, ReadError> {
        let at = reader::bare(at);
        self.core.recent.event(at).map_or_else(|| self.reader.alone(&self.core.disk, at), Ok)
    }

    /// By this a state's position is before another's in the log.
    pub fn order(at: Position) -> Position {
        reader::bare(at)
    }

    /// What the record that a state names tells of its incident: for requests. One call to the disk, or none for what was
    /// written lately; no lock is held over it. A view stands as long as its state; the body may be gone after `retain`.
    ///
    /// # Errors
    /// `Damaged`: it is not there or not what was written. Where it was copied meanwhile the state has its new place: ask
    /// for that, once. `Io` with `WouldBlock`: with `durability: memory` it is not written yet, which takes 5 ms.
    pub fn shown(&self, at: Position) -> Result<Shown, ReadError> {
        if let Some(shown) = self.core.recent.shown(at) {
            return Ok(shown);
        }
        let shown = self.reader.shown(&self.core.disk, at);
        let is_written = || reader::bare(at) < self.core.lock().durable || split(at).0 < self.first_segment;
        match shown {
            Err(ReadError::Damaged(_)) if !is_written() => {
                // It may have been written just now.
                let again = self.core.recent.shown(at);
                again.ok_or_else(|| ReadError::Io(std::io::ErrorKind::WouldBlock.into()))
            }
            shown => shown,
        }
    }

    fn moved(&self, sequence: u64) -> Option<Position> {
        if !self.core.some_moved.load(Ordering::Acquire) {
            return None;
        }
        self.core.lock().standing.moved.get(&sequence).copied()
    }

    /// What waits for an upstream, in order, for each of those who ask. Their events stand among each other in the log: it is
    /// gone through once for all of them.
    ///
    /// # Errors
    /// A part of the log cannot be read just now.
    pub fn waiting(&self, upstream: &Arc<UpstreamMeter>, asks: &[Ask]) -> std::io::Result<Vec<Vec<Next>>> {
        let mut wanted: Vec<(u64, usize)> = vec![];
        {
            let pending = self.core.lock();
            let upto = pending.durable_sequence;
            for (index, Ask { integration, after, count }) in asks.iter().enumerate() {
                let sequences = pending.standing.waiting_after(upstream, integration, *after, upto, *count);
                wanted.extend(sequences.into_iter().map(|sequence| (sequence, index)));
            }
        }
        wanted.sort_unstable();
        let sequences: Vec<u64> = wanted.iter().map(|(sequence, _)| *sequence).collect();
        let mut places: Vec<Option<Found>> = vec![None; sequences.len()];
        self.find(&sequences, &mut |sequence, at, event| {
            if let Ok(index) = sequences.binary_search(&sequence) {
                places[index] = Some(Found { at, lane: event.lane, pacing: event.pacing });
            }
        })?;
        let mut all: Vec<Vec<Next>> =
            asks.iter().map(|ask| Vec::with_capacity(ask.count.min(sequences.len()))).collect();
        for ((sequence, index), found) in wanted.into_iter().zip(places) {
            all[index].push(Next { sequence, found });
        }
        Ok(all)
    }

    /// Looks for events wherever they stand now.
    fn find(
        &self,
        sequences: &[u64],
        found: &mut dyn FnMut(u64, Position, record::Accepted<'_>),
    ) -> std::io::Result<()> {
        let Core { disk, places, .. } = &*self.core;
        find_events(&self.reader, disk, places, &|sequence| self.moved(sequence), sequences, found)
    }

    /// The sequences of [`Self::waiting`], without a look at the log.
    pub fn waiting_sequences(
        &self,
        upstream: &Arc<UpstreamMeter>,
        integration: &str,
        after: u64,
        count: usize,
    ) -> Vec<u64> {
        self.core.lock().standing.waiting_after(upstream, integration, after, u64::MAX, count)
    }

    /// Whether everything that the log was told is on disk.
    pub fn is_written(&self) -> bool {
        self.core.lock().is_durable()
    }

    /// The event with a sequence, and where it stands.
    ///
    /// # Errors
    /// Its record is not there, damaged, or cannot be read just now.
    pub fn event(&self, sequence: u64) -> Result<(Position, Stored), ReadError> {
        let mut read = None;
        self.find(&[sequence], &mut |sequence, at, event| {
            read = event.to_stored(sequence).map(|stored| (at, stored, event.envelope_at()));
        })?;
        let (at, mut stored, envelope_at) = read.ok_or(ReadError::Damaged(Position(0)))?;
        if let Some(offset) = envelope_at {
            stored.event.envelope = self.reader.envelope(&self.core.disk, at, offset)?;
        }
        Ok((at, stored))
    }

    /// The oldest event that waits for an upstream.
    pub fn oldest_waiting(&self, upstream: &Arc<UpstreamMeter>) -> Option<u64> {
        self.core.lock().standing.oldest_waiting(upstream)
    }

    /// Nothing is under way to an upstream, and nothing will be: a start need not take any delivery for a repeat.
    pub fn is_at_rest(&self) {
        self.at_rest.store(true, Ordering::Release);
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
        self.core.writer_left.store(true, Ordering::Release);
        *self.core.keeping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.core.keeper_wake.notify_all();
        let keeper = threads.keeping.take().and_then(|thread| thread.join().ok()).or_else(|| threads.keeper.take());
        if let Some(mut keeper) = keeper {
            keeper.checkpoint(self.at_rest.load(Ordering::Acquire));
        }
        self.core.shelf.stop();
        join(threads.preparing.take());
        self.core.shelf.clear(&self.core.disk);
        self.core.closed.store(true, Ordering::Release);
        self.core.mailboxes.iter().for_each(|mailbox| mailbox.arrived.notify_one());
    }
}

/// Looks for events: where they were moved to, or where they were first written.
fn find_events(
    reader: &Reader,
    disk: &Disk,
    places: &Mutex<Places>,
    moved: &dyn Fn(u64) -> Option<Position>,
    sequences: &[u64],
    found: &mut dyn FnMut(u64, Position, record::Accepted<'_>),
) -> std::io::Result<()> {
    let mut here: Vec<u64> = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        match moved(*sequence) {
            None => here.push(*sequence),
            Some(at) => match reader.payload(disk, at) {
                Ok(payload) => {
                    record::Accepted::decode(&payload).into_iter().for_each(|event| found(*sequence, at, event));
                }
                Err(ReadError::Io(error)) => return Err(error),
                Err(ReadError::Damaged(_)) => {}
            },
        }
    }
    reader.find(disk, places, &here, false, &mut |at, frame| {
        event_in(&frame).into_iter().for_each(|event| found(frame.sequence, at, event));
    })
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
