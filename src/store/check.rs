//! Reads a whole spool from front to back and says what is not as it was written: for `spool check` and `spool repair`.
//! Changes nothing. A running process may go on beside it: a file that seems damaged is read again, one that is gone
//! meanwhile is left out with a note.
//!
//! Damage that a start has copied to `quarantine/` still stands in its segment, whose bytes never change: it is told,
//! and is no news.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use roaring::RoaringTreemap;
use serde::Serialize;

use super::checkpoint::Check;
use super::files::Disk;
use super::frame::{self, HEAD_SPAN, Kind};
use super::look::{AGAIN, Look, Presence, TRIES, untouched};
use super::record::{VERSION, void_last};
use super::scan::{self, Next, Scan};
use super::{OpenError, Store, Unreadable};
use crate::metrics::Metrics;

/// What is wrong in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// A segment that cannot be read at all: neither copy of its head can.
    Head,
    /// Bytes that are no record, with readable ones behind them.
    Records,
    /// The last record is not whole, where that is what a crash or a failed write leaves.
    TornEnd,
    /// The same in a segment that others follow as if nothing were wrong.
    LostEnd,
    /// A whole record of a kind or version that this program does not know.
    UnknownRecord,
    /// A checkpoint that is not whole.
    Checkpoint,
    /// Records before the first one of this segment are gone without a trace.
    Gap,
    /// The file cannot be opened or read.
    Unreadable,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the directory.
    pub file: String,
    pub what: Wrong,
    /// Offsets in the file.
    pub from: u64,
    pub to: u64,
    /// A start or a repair has copied these bytes to `quarantine/` and goes on without them.
    pub set_aside: bool,
    /// Of a gap: how many events. Of an unknown record: its kind and version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip)]
    segment: Option<u32>,
}

impl Finding {
    /// Whether something is lost by it that nobody has dealt with yet.
    pub fn is_damage(&self) -> bool {
        self.what != Wrong::TornEnd && !self.set_aside
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRow {
    pub file: String,
    pub bytes: u64,
    pub records: u64,
    /// `whole`, `blank` (made ahead of time, never used), `torn`, `damaged`, `gone`.
    pub state: &'static str,
}

/// Events that wait, and whose records are not there any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub upstream: String,
    pub integration: String,
    pub events: u64,
    #[serde(skip)]
    pub sequences: Vec<u64>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    #[serde(rename = "process")]
    pub presence: Presence,
    pub segments: Vec<FileRow>,
    pub checkpoints: Vec<FileRow>,
    /// What the bytes of the spool are: by kind of record, `heads`, `checkpoints`, `free`, `damaged`, `quarantine`.
    pub bytes: BTreeMap<&'static str, u64>,
    pub findings: Vec<Finding>,
    pub lost: Vec<Lost>,
    pub notes: Vec<String>,
}

impl Checked {
    /// Something is damaged that no start has dealt with.
    pub fn is_damaged(&self) -> bool {
        !self.lost.is_empty() || self.findings.iter().any(Finding::is_damage)
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Accepted => "accepted",
        Kind::Settled => "settled",
        Kind::Dead => "dead",
        Kind::Replayed => "replayed",
        Kind::Void => "void",
        Kind::Moved => "moved",
        Kind::Touched => "touched",
        Kind::Checkpoint => "checkpoints",
        Kind::Reassigned => "reassigned",
        Kind::Envelope => "envelopes",
        Kind::Rejected => "rejected",
        Kind::Snapshot => "snapshots",
        Kind::Delivered => "delivered",
    }
}

/// A segment as it was read.
#[derive(Default)]
struct Read {
    bytes: u64,
    records: u64,
    by_kind: BTreeMap<&'static str, u64>,
    events: Vec<u64>,
    begins_with_void: bool,
    blank: bool,
    no_head: bool,
    damages: Vec<(u64, u64)>,
    unknown: Vec<(u64, u64, u8, u8)>,
    torn: Option<(u64, u64)>,
    /// The disk could not read all of it.
    failure: Option<io::Error>,
}

impl Read {
    /// Looks damaged, so it may have been read while it was written.
    fn is_doubtful(&self) -> bool {
        self.no_head || !self.damages.is_empty() || self.torn.is_some() || self.failure.is_some()
    }
}

fn read(disk: &Disk, id: u32, bytes: u64) -> io::Result<Read> {
    let file = disk.open_segment(id)?;
    let mut read = Read { bytes, ..Read::default() };
    let Some(head) = scan::head(&*file)?.filter(|head| head.id == id) else {
        read.blank = Scan::is_blank(&*file, bytes)?;
        read.no_head = !read.blank;
        return Ok(read);
    };
    let mut add = |kind: &'static str, bytes: u64| *read.by_kind.entry(kind).or_default() += bytes;
    add("heads", HEAD_SPAN as u64);
    let mut scan = Scan::new(&*file, bytes, head.salt);
    loop {
        match scan.next() {
            Next::Frame { at, frame } => {
                let span = frame::span(frame.payload.len()) as u64;
                read.records += 1;
                let known = Kind::from_code(frame.kind).filter(|_| frame.version == VERSION);
                match known {
                    Some(kind) => add(kind_name(kind), span),
                    None => {
                        add("unknown", span);
                        read.unknown.push((u64::from(at), u64::from(at) + span, frame.kind, frame.version));
                    }
                }
                if matches!(known, Some(Kind::Accepted | Kind::Rejected | Kind::Moved)) {
                    read.events.push(frame.sequence);
                }
                let is_void = known == Some(Kind::Void) && void_last(frame.sequence, frame.payload).is_some();
                read.begins_with_void |= read.records == 1 && is_void;
            }
            Next::Damage { from, to } => {
                add("damaged", to - from);
                read.damages.push((from, to));
            }
            Next::End { from, to } => {
                if to > from {
                    add("damaged", to - from);
                    read.torn = Some((from, to));
                }
                add("free", bytes.saturating_sub(to.max(from)));
                read.failure = scan.failure();
                return Ok(read);
            }
        }
    }
}

/// The records of a checkpoint, if it is whole.
fn read_checkpoint(disk: &Disk, id: u32) -> io::Result<(u64, u64, bool)> {
    let file = disk.open_checkpoint(id)?;
    let bytes = file.size()?;
    let Some(head) = scan::head(&*file)?.filter(|head| head.id == id) else { return Ok((bytes, 0, false)) };
    let (mut scan, mut check) = (Scan::new(&*file, bytes, head.salt), Check::default());
    let (mut records, mut whole) = (0, true);
    loop {
        match scan.next() {
            Next::Frame { frame, .. } => {
                records += 1;
                whole &= check.take(frame);
            }
            Next::Damage { .. } => whole = false,
            Next::End { from, to } => {
                let whole = whole && from == to && check.is_whole();
                return scan.failure().map_or(Ok((bytes, records, whole)), Err);
            }
        }
    }
}

/// Until what is read is as it was written, or so often that it is damage. `None`: the file is gone.
fn read_surely<T>(mut read: impl FnMut() -> io::Result<T>, is_sure: impl Fn(&T) -> bool) -> Option<io::Result<T>> {
    let mut tries = 1;
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Ok(read) if !is_sure(&read) && tries < TRIES => {}
            Err(_) if tries < TRIES => {}
            read => return Some(read),
        }
        tries += 1;
        std::thread::sleep(AGAIN);
    }
}

impl Checked {
    fn add(&mut self, kind: &'static str, bytes: u64) {
        *self.bytes.entry(kind).or_default() += bytes;
    }

    fn found(&mut self, file: &str, what: Wrong, (from, to): (u64, u64), set_aside: bool, segment: Option<u32>) {
        self.findings.push(Finding { file: file.to_owned(), what, from, to, set_aside, detail: None, segment });
    }

    fn gone(&mut self, file: &str) {
        self.notes.push(format!("{file} went while this was read: nobody needs it any more"));
    }

    fn checkpoints(&mut self, disk: &Disk) -> Result<(), OpenError> {
        for found in disk.checkpoints()? {
            let id = found.id;
            let file = format!("spool/{id:010}.checkpoint");
            if found.bytes.is_none() {
                self.notes.push(format!("{file} is no file: it is not ours"));
                continue;
            }
            match read_surely(|| read_checkpoint(disk, id), |(_, _, whole)| *whole) {
                None => self.gone(&file),
                Some(Ok((bytes, records, whole))) => {
                    self.add("checkpoints", bytes);
                    if !whole {
                        self.found(&file, Wrong::Checkpoint, (0, bytes), false, None);
                    }
                    let state = if whole { "whole" } else { "damaged" };
                    self.checkpoints.push(FileRow { file, bytes, records, state });
                }
                Some(Err(error)) => self.unreadable(&file, &error),
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, file: &str, error: &io::Error) {
        self.found(file, Wrong::Unreadable, (0, 0), false, None);
        if let Some(finding) = self.findings.last_mut() {
            finding.detail = Some(error.to_string());
        }
    }

    /// Reads every segment; the sequences of the events that stand there.
    fn segments(&mut self, disk: &Disk) -> Result<RoaringTreemap, OpenError> {
        let mut events = RoaringTreemap::new();
        let mut all: Vec<(u32, Read)> = vec![];
        for found in disk.segments()? {
            let (id, file) = (found.id, segment_name(found.id));
            let Some(bytes) = found.bytes else {
                self.notes.push(format!("{file} is no file: it is not ours"));
                continue;
            };
            // What is being written reads as damage for a moment, here now and there then.
            let mut seen: Option<Vec<u64>> = None;
            let mut read_again = || {
                let mut read = read(disk, id, bytes)?;
                read.damages.retain(|(from, _)| seen.as_ref().is_none_or(|seen| seen.contains(from)));
                seen = Some(read.damages.iter().map(|(from, _)| *from).collect());
                Ok(read)
            };
            match read_surely(&mut read_again, |read: &Read| !read.is_doubtful()) {
                None => self.gone(&file),
                Some(Err(error)) => self.unreadable(&file, &error),
                Some(Ok(mut read)) => {
                    events.extend(std::mem::take(&mut read.events));
                    all.push((id, read));
                }
            }
        }
        let follows: Vec<Option<bool>> = (0..all.len())
            .map(|index| {
                let mut later = all.iter().skip(index + 1).map(|(_, read)| read);
                later.find(|read| !read.blank && !read.no_head).map(|read| read.begins_with_void)
            })
            .collect();
        for ((id, read), follower) in all.into_iter().zip(follows) {
            self.segment(disk, id, read, follower);
        }
        Ok(events)
    }

    /// `follower`: whether the next segment with records begins with a void; `None` where there is none.
    fn segment(&mut self, disk: &Disk, id: u32, read: Read, follower: Option<bool>) {
        let file = segment_name(id);
        let before = self.findings.len();
        read.by_kind.iter().for_each(|(kind, bytes)| self.add(kind, *bytes));
        let mut state = "whole";
        if read.blank {
            self.add("free", read.bytes);
            state = "blank";
        }
        if read.no_head {
            self.add("damaged", read.bytes);
            self.found(&file, Wrong::Head, (0, read.bytes), false, Some(id));
        }
        if let Some(error) = &read.failure {
            self.unreadable(&file, error);
        }
        for (from, to) in read.damages {
            self.found(&file, Wrong::Records, (from, to), disk.is_set_aside(id, from), Some(id));
        }
        for (from, to, kind, version) in read.unknown {
            self.found(&file, Wrong::UnknownRecord, (from, to), false, None);
            if let Some(finding) = self.findings.last_mut() {
                finding.detail = Some(format!("kind {kind}, version {version}"));
            }
        }
        if let Some((from, to)) = read.torn {
            state = "torn";
            // As a start sees it: what a crash leaves in the last segment, or a failed write in one that was given up.
            let normal = follower.unwrap_or(true);
            let what = if normal { Wrong::TornEnd } else { Wrong::LostEnd };
            self.found(&file, what, (from, to), disk.is_set_aside(id, from), Some(id));
        }
        if self.findings.iter().skip(before).any(|finding| finding.what != Wrong::TornEnd) {
            state = "damaged";
        }
        self.segments.push(FileRow { file, bytes: read.bytes, records: read.records, state });
    }

    /// What waits, and stands nowhere. `replayed` was taken before the segments were read.
    fn lost(&mut self, replayed: &Look, events: &RoaringTreemap, again: Option<&Look>) {
        for upstream in &replayed.standing.upstreams {
            for queue in &upstream.queues {
                let mut lost = &*queue.waiting.whole() - events;
                if let Some(now) = again {
                    // Delivered meanwhile, and its segment let go of.
                    let here = now.standing.upstreams.iter().filter(|other| other.meter.name == upstream.meter.name);
                    let queues = here.flat_map(|other| &other.queues);
                    let same = queues.filter(|other| other.integration == queue.integration);
                    let still = same.fold(RoaringTreemap::new(), |sum, other| sum | &*other.waiting.whole());
                    lost &= still;
                }
                if !lost.is_empty() {
                    self.lost.push(Lost {
                        upstream: upstream.meter.name.to_string(),
                        integration: queue.integration.to_string(),
                        events: lost.len(),
                        sequences: lost.into_iter().collect(),
                    });
                }
            }
        }
    }
}

fn segment_name(id: u32) -> String {
    format!("spool/{id:010}.log")
}

impl Store {
    /// Reads a whole spool, which may be in use. Nothing is changed, locked or made. Takes as long as reading all of it.
    ///
    /// # Errors
    /// There is none, or its directory cannot be read.
    pub fn check(directory: &Path) -> Result<Checked, OpenError> {
        let look = Self::look_past(directory, Unreadable::IsDamage)?;
        let metrics = Metrics::new(1).map_err(|error| OpenError::Io {
            path: directory.to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        let disk = untouched(directory, &metrics)?;
        let mut checked = Checked {
            presence: Presence::at(&disk),
            segments: vec![],
            checkpoints: vec![],
            bytes: BTreeMap::new(),
            findings: vec![],
            lost: vec![],
            notes: vec![],
        };
        checked.add("quarantine", disk.quarantined_bytes());
        checked.checkpoints(&disk)?;
        let events = checked.segments(&disk)?;
        for (id, events) in &look.gaps {
            checked.found(&segment_name(*id), Wrong::Gap, (0, 0), false, None);
            if let Some(finding) = checked.findings.last_mut() {
                finding.detail = Some(format!("{events} event{}", if *events == 1 { "" } else { "s" }));
            }
        }
        checked.lost(&look, &events, None);
        if !checked.lost.is_empty() && checked.presence != Presence::Nobody {
            checked.lost.clear();
            checked.lost(&look, &events, Some(&Self::look_past(directory, Unreadable::IsDamage)?));
        }
        Ok(checked)
    }

    /// Copies the damaged bytes that a check of this spool found to `quarantine/`: a start looks behind the last
    /// checkpoint alone. Returns how many places; fewer where the quarantine is full.
    pub fn set_aside(&self, checked: &Checked) -> usize {
        let disk = &self.core.disk;
        let damaged = checked
            .findings
            .iter()
            .filter(|finding| matches!(finding.what, Wrong::Records | Wrong::LostEnd) && !finding.set_aside);
        let copied = damaged.filter(|finding| {
            let Some(id) = finding.segment else { return false };
            // The start may have cut it, or let the segment go.
            let Ok(file) = disk.open_segment(id) else { return false };
            if !disk.is_set_aside(id, finding.from) {
                disk.set_aside(&*file, id, finding.from, finding.to);
            }
            disk.is_set_aside(id, finding.from)
        });
        copied.count()
    }
}
