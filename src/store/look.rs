//! A look at a log that changes nothing: what waits, what is dead, who holds it. For the operator's tools. It runs the
//! start's own replay over files that refuse every change, so a running process may go on beside it: what that
//! process writes, cuts or lets go of meanwhile can make a look fail or see damage, and then it is taken again.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::files::calls::{Access, Entry, Held};
use super::files::{Disk, File, Files, Real};
use super::places::Places;
use super::reader::Reader;
use super::record::DeadNote;
use super::standing::Standing;
use super::{NoStates, OpenError, Store, Stored, Unreadable, find_events, recovery};
use crate::event::Micros;
use crate::metrics::Metrics;

/// Looks until one is taken for what it is.
pub(super) const TRIES: usize = 3;
/// Between two: what a running process was at is done by then.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// Events read with one look at the queues.
const EVENTS_AT_ONCE: usize = 1024;

/// Files below a directory, to be read alone.
struct Untouched(Real);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl Files for Untouched {
    fn make_directory(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Entry>> {
        self.0.list(directory)
    }

    fn sync_directory(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.0.size(path)
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        refused()
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Box<dyn File>> {
        if access == Access::Read { Ok(Box::new(ToRead(self.0.open(path, access)?))) } else { refused() }
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Held>>> {
        refused()
    }

    fn holder(&self, path: &str) -> io::Result<Option<u32>> {
        self.0.holder(path)
    }
}

/// Opened for reading. A sync would only cost the process that writes.
struct ToRead(Box<dyn File>);

impl File for ToRead {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(bytes, at)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        refused()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory's files, to be read alone.
pub(super) fn untouched(directory: &Path, metrics: &Arc<Metrics>) -> Result<Disk, OpenError> {
    Disk::to_look_at(Arc::new(Untouched(Real::below(directory))), directory, metrics)
}

/// Who is at a directory that holds a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "pid")]
pub enum Presence {
    Nobody,
    /// The process that holds the lock; 0 where its number cannot be seen from here.
    Running(u32),
    /// The machine does not say.
    Unknown,
}

impl Presence {
    pub(super) fn at(disk: &Disk) -> Self {
        match disk.holder() {
            Ok(None) => Self::Nobody,
            Ok(Some(pid)) => Self::Running(pid),
            Err(_) => Self::Unknown,
        }
    }
}

/// The events of one integration at one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    pub upstream: Arc<str>,
    pub integration: Arc<str>,
    pub waiting: u64,
    /// When the oldest of those was received; `None` where its record cannot be read.
    pub oldest: Option<Micros>,
    /// By reason.
    pub dead_letters: Vec<(&'static str, u64)>,
}

/// What stood in a log when it was looked at.
pub struct Look {
    pub presence: Presence,
    /// Places that a start would find damaged: a check tells them.
    pub damaged: u64,
    pub segments: usize,
    /// Of everything in the directory, what was set aside included.
    pub bytes: u64,
    pub quarantined_bytes: u64,
    disk: Disk,
    reader: Reader,
    places: Mutex<Places>,
    pub(super) standing: Standing,
    pub(super) gaps: Vec<(u32, u64)>,
}

impl Look {
    fn take(directory: &Path, unreadable: Unreadable) -> Result<Self, OpenError> {
        // Books of its own: what the replay counts is nobody's.
        let metrics = Metrics::new(1).map_err(|error| OpenError::Io {
            path: directory.to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        let disk = untouched(directory, &metrics)?;
        let presence = Presence::at(&disk);
        let segments = disk.segments()?.len();
        let (recovered, resume) = recovery::recover(&disk, &metrics, &NoStates, unreadable)?;
        Ok(Self {
            presence,
            damaged: recovered.damaged_records,
            segments,
            bytes: disk.bytes(),
            quarantined_bytes: disk.quarantined_bytes(),
            disk,
            reader: Reader::default(),
            places: Mutex::new(resume.places),
            standing: resume.standing,
            gaps: recovered.gaps,
        })
    }

    /// The newest time stamp in the log; `None` in one that nothing was written to.
    pub fn newest(&self) -> Option<Micros> {
        Some(self.standing.newest).filter(|newest| *newest != Micros::default())
    }

    /// Every queue in which something waits or is dead, by upstream and integration.
    pub fn queues(&self) -> Vec<QueueRow> {
        let mut rows = vec![];
        for upstream in &self.standing.upstreams {
            for queue in upstream.queues.iter().filter(|queue| !queue.waiting.is_empty() || !queue.dead.is_empty()) {
                let mut dead_letters: Vec<(&'static str, u64)> = vec![];
                for DeadNote { reason, .. } in queue.dead.values() {
                    match dead_letters.iter_mut().find(|(name, _)| *name == reason.name()) {
                        Some((_, count)) => *count += 1,
                        None => dead_letters.push((reason.name(), 1)),
                    }
                }
                let mut oldest = None;
                let first: Vec<u64> = queue.waiting.min().into_iter().collect();
                // One that cannot be read now has no time to show.
                let _ = self.read(&first, &mut |_, event| oldest = event.map(|stored| stored.event.received_at));
                rows.push(QueueRow {
                    upstream: Arc::clone(&upstream.meter.name),
                    integration: Arc::clone(&queue.integration),
                    waiting: queue.waiting.len(),
                    oldest,
                    dead_letters,
                });
            }
        }
        rows.sort_by(|a, b| (&a.upstream, &a.integration).cmp(&(&b.upstream, &b.integration)));
        rows
    }

    /// Gives `each` event that waits at an upstream, in order, with its sequence; `None` for one that cannot be read. What
    /// its batch says of all its events is left out.
    ///
    /// # Errors
    /// The log cannot be read just now.
    pub fn events(
        &self,
        upstream: &str,
        integration: &str,
        each: &mut dyn FnMut(u64, Option<Stored>),
    ) -> io::Result<()> {
        let queues = self.standing.upstreams.iter().filter(|known| *known.meter.name == *upstream);
        for queue in queues.flat_map(|known| &known.queues).filter(|queue| *queue.integration == *integration) {
            let mut all = queue.waiting.from(0);
            loop {
                let some: Vec<u64> = all.by_ref().take(EVENTS_AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                self.read(&some, each)?;
            }
        }
        Ok(())
    }

    fn read(&self, sequences: &[u64], each: &mut dyn FnMut(u64, Option<Stored>)) -> io::Result<()> {
        let mut events: Vec<Option<Stored>> = sequences.iter().map(|_| None).collect();
        let moved = |sequence| self.standing.moved.get(&sequence).copied();
        find_events(&self.reader, &self.disk, &self.places, &moved, sequences, &mut |sequence, _, event| {
            if let Ok(index) = sequences.binary_search(&sequence) {
                events[index] = event.to_stored(sequence);
            }
        })?;
        sequences.iter().zip(events).for_each(|(sequence, event)| each(*sequence, event));
        Ok(())
    }
}

impl Store {
    /// Who is at a directory, if it holds a spool. Nothing is changed, locked or made.
    ///
    /// # Errors
    /// It holds none, or cannot be read.
    pub fn presence(directory: &Path) -> Result<Presence, OpenError> {
        let metrics = Metrics::new(1).map_err(|error| OpenError::Io {
            path: directory.to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        Ok(Presence::at(&untouched(directory, &metrics)?))
    }

    /// A look at a log, which may be in use. Nothing is changed, locked or made.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn look(directory: &Path) -> Result<Look, OpenError> {
        Self::look_past(directory, Unreadable::FailsOpen)
    }

    pub(super) fn look_past(directory: &Path, unreadable: Unreadable) -> Result<Look, OpenError> {
        let mut tries = 1;
        loop {
            let look = Look::take(directory, unreadable)?;
            if look.damaged == 0 || look.presence == Presence::Nobody || tries == TRIES {
                return Ok(look);
            }
            // A record that is just being written reads as damage, and so does a file that goes under our eyes.
            tries += 1;
            std::thread::sleep(AGAIN);
        }
    }
}
