//! The directory: what stands in it under which name, how much, and how a segment is made and written.
//! `calls` is the seam to the file system, where the tests put theirs; `real` is the one file that calls it.

pub(super) mod calls;
mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use self::calls::{Access, Held};
pub(super) use self::calls::{File, Files};
pub(super) use self::real::Real;
use super::OpenError;
use crate::metrics::Metrics;

/// Zeros are written in steps of this, so that a commit beside it never waits for more.
const FILL_STEP: usize = 1 << 20;
/// What the page cache and direct writes work in. A commit is filled up to it with zeros, so that the kernel never
/// has to read the rest of a page from disk before it can take a part of it.
pub(super) const PAGE: usize = 4096;
/// Most bytes of one write; a larger commit takes several.
const WRITE_STEP: usize = 1 << 20;
/// Damaged bytes kept for a look at them (DESIGN 4).
const QUARANTINE_BYTES_MAX: u64 = 64 << 20;
const SPOOL: &str = "spool";
const QUARANTINE: &str = "quarantine";
const LOCK: &str = "spool/lock";

/// A segment or a checkpoint found on disk.
pub(super) struct Found {
    pub(super) id: u32,
    /// `None`: something else has the name.
    pub(super) bytes: Option<u64>,
}

pub(super) struct Disk {
    files: Arc<dyn Files>,
    /// For messages.
    directory: PathBuf,
    /// Held as long as the store lives.
    _lock: Box<dyn Held>,
    /// Bytes of all files, those set aside included.
    bytes: AtomicU64,
    quarantined: AtomicU64,
    /// Segment that could not be made, and whose file could not be removed; 0: none.
    leftover: AtomicU32,
    metrics: Arc<Metrics>,
}

/// A segment that is being written.
pub(super) struct Segment {
    file: Box<dyn File>,
    /// Writes past the page cache: copying into fresh pages of it cost more than all else the writer does. `None`
    /// where the file system takes no such writes.
    direct: Option<Box<dyn File>>,
    pages: Pages,
}

/// Whole pages are written, so the one that the last write ended in is kept and written again with what follows.
struct Pages {
    aligned: Aligned,
    /// Where the last write ended; what stands before it in its page stands at the start of `aligned`.
    end: u64,
}

impl Segment {
    fn new(file: Box<dyn File>, direct: Option<Box<dyn File>>) -> Self {
        Self { file, direct, pages: Pages { aligned: Aligned::default(), end: 0 } }
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Writes `bytes` at `at`, and zeros up to the end of the last page, where there are zeros already.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct {
            match self.pages.write(&**direct, &*self.file, bytes, at) {
                // Opened, but not written directly: some file systems say so only now.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                result => return result,
            }
        }
        self.pages.write(&*self.file, &*self.file, bytes, at)
    }
}

impl Pages {
    /// Writes to `file`; `source` is the same one, to be read.
    fn write(&mut self, file: &dyn File, source: &dyn File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        let in_page = |at: u64| usize::try_from(at % PAGE as u64).unwrap_or_default();
        if self.end != at {
            // Written again after a failure, or the first write: what stands before it is on disk.
            let page = self.aligned.bytes(PAGE);
            source.read_exact_at(&mut page[..in_page(at)], at - in_page(at) as u64)?;
        }
        // Until all is written nothing is known of the page it ends in.
        self.end = u64::MAX;
        while !bytes.is_empty() {
            let kept = in_page(at);
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_STEP - kept));
            self.step(file, now, at - kept as u64, kept)?;
            (bytes, at) = (later, at + now.len() as u64);
        }
        self.end = at;
        Ok(())
    }

    /// One write, from the border of a page on: the `kept` bytes that stand here already, `now`, and zeros. The page that it
    /// ends in stands here then.
    fn step(&mut self, file: &dyn File, now: &[u8], at: u64, kept: usize) -> io::Result<()> {
        let (first, rest) = now.split_at(((PAGE - kept) % PAGE).min(now.len()));
        let (middle, last) = rest.split_at(rest.len() - rest.len() % PAGE);
        if !middle.is_empty() && middle.as_ptr().align_offset(PAGE) == 0 {
            // Whole pages in memory too: they are written from where they stand.
            let pages = self.aligned.bytes(2 * PAGE);
            let (begin, end) = pages.split_at_mut(PAGE);
            begin[kept..kept + first.len()].copy_from_slice(first);
            end[..last.len()].copy_from_slice(last);
            end[last.len()..].fill(0);
            let begin_part: &[u8] = if kept == 0 { &[] } else { begin };
            let end_part: &[u8] = if last.is_empty() { &[] } else { end };
            file.write_all_vectored_at(&mut [begin_part, middle, end_part], at)?;
            begin[..last.len()].copy_from_slice(last);
            return Ok(());
        }
        let filled = kept + now.len();
        let buffer = self.aligned.bytes(filled.next_multiple_of(PAGE));
        buffer[kept..filled].copy_from_slice(now);
        buffer[filled..].fill(0);
        file.write_all_at(buffer, at)?;
        buffer.copy_within(filled - filled % PAGE..filled, 0);
        Ok(())
    }
}

/// A buffer that begins at a page's border in memory, as direct writes want it.
#[derive(Default)]
struct Aligned(Vec<u8>);

impl Aligned {
    /// The first `count` bytes; what was written there before still stands there.
    fn bytes(&mut self, count: usize) -> &mut [u8] {
        let start = |buffer: &Vec<u8>| buffer.as_ptr().align_offset(PAGE);
        if self.0.len() < start(&self.0).saturating_add(count) {
            let mut larger = vec![0; count.max(64 << 10).next_power_of_two() + PAGE];
            let (from, to) = (start(&self.0), start(&larger));
            if let Some(page) = self.0.get(from..from.saturating_add(PAGE)) {
                larger[to..to + PAGE].copy_from_slice(page);
            }
            self.0 = larger;
        }
        let from = start(&self.0);
        &mut self.0[from..from + count]
    }
}

fn checkpoint_path(id: u32) -> String {
    format!("{SPOOL}/{id:010}.checkpoint")
}

/// Of a file while it is written: a checkpoint, or a segment that is written anew.
fn draft_path(id: u32) -> String {
    format!("{SPOOL}/{id:010}.draft")
}

/// The number in a name of ours.
fn number(name: &str, ending: &str) -> Option<u32> {
    let digits = name.strip_suffix(ending)?;
    let all_digits = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

fn path(id: u32) -> String {
    format!("{SPOOL}/{id:010}.log")
}

/// There is no log in a directory, or not even that.
fn no_spool(files: &dyn Files, directory: &Path) -> OpenError {
    match files.list("") {
        Ok(_) => OpenError::NoSpool(directory.to_owned()),
        Err(source) => OpenError::Io { path: directory.to_owned(), source },
    }
}

impl Disk {
    /// Makes what is missing and takes the owner's lock. `directory` is what `files` calls "", for messages.
    pub(super) fn open(files: Arc<dyn Files>, directory: &Path, metrics: &Arc<Metrics>) -> Result<Self, OpenError> {
        let io = |path: &str| {
            let path = directory.join(path);
            |source| OpenError::Io { path, source }
        };
        files.make_directory(SPOOL).map_err(io(SPOOL))?;
        files.make_directory(QUARANTINE).map_err(io(QUARANTINE))?;
        let lock = files.lock(LOCK).map_err(io(LOCK))?.ok_or_else(|| OpenError::Locked(directory.to_owned()))?;
        // The entries of both directories, before anything is promised to be in them.
        for made in ["", SPOOL] {
            files.sync_directory(made).map_err(io(made))?;
        }
        let disk = Self {
            bytes: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            leftover: AtomicU32::new(0),
            files,
            directory: directory.to_owned(),
            _lock: lock,
            metrics: Arc::clone(metrics),
        };
        let quarantined = disk.file_sizes(QUARANTINE);
        disk.quarantined.store(quarantined, Ordering::Relaxed);
        disk.grow(disk.file_sizes(SPOOL).saturating_add(quarantined));
        Ok(disk)
    }

    /// Of a directory that is there, without making or taking anything; `files` must change nothing either.
    pub(super) fn to_look_at(
        files: Arc<dyn Files>,
        directory: &Path,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        struct Nothing;
        impl Held for Nothing {}
        // A spool that is itself in a directory called so makes its parent look like one.
        let is_ours = |name: &str| number(name, ".log").or(number(name, ".checkpoint")).is_some();
        match files.list(SPOOL) {
            Ok(entries) if files.size(LOCK).is_ok() || entries.iter().any(|entry| is_ours(&entry.name)) => {}
            Ok(_) => return Err(OpenError::NoSpool(directory.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_spool(&*files, directory)),
            Err(source) => return Err(OpenError::Io { path: directory.join(SPOOL), source }),
        }
        let disk = Self {
            bytes: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            leftover: AtomicU32::new(0),
            files,
            directory: directory.to_owned(),
            _lock: Box::new(Nothing),
            metrics: Arc::clone(metrics),
        };
        disk.quarantined.store(disk.file_sizes(QUARANTINE), Ordering::Relaxed);
        disk.grow(disk.file_sizes(SPOOL).saturating_add(disk.quarantined_bytes()));
        Ok(disk)
    }

    /// A record that somebody asked for is not what was written.
    pub(super) fn met_damage(&self) {
        self.metrics.spool_damaged_records.inc();
    }

    pub(super) fn quarantined_bytes(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// The process that owns the directory; `Err` where that cannot be told.
    pub(super) fn holder(&self) -> io::Result<Option<u32>> {
        self.files.holder(LOCK)
    }

    /// Whether damaged bytes of a segment were copied by [`Self::set_aside`] before.
    pub(super) fn is_set_aside(&self, id: u32, from: u64) -> bool {
        self.files.size(&format!("{QUARANTINE}/{id:010}-{from}.bin")).is_ok()
    }

    fn file_sizes(&self, directory: &str) -> u64 {
        let entries = self.files.list(directory).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.bytes).sum()
    }

    /// Bytes that all files together can come to on this disk; `None` where that cannot be told.
    pub(super) fn capacity(&self) -> Option<u64> {
        self.files.free_bytes().ok().map(|free| self.bytes().saturating_add(free))
    }

    /// Bytes of all files in the directory.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, by: u64) {
        let before = self.bytes.fetch_add(by, Ordering::Relaxed);
        self.metrics.spool_bytes.set(i64::try_from(before.saturating_add(by)).unwrap_or(i64::MAX));
    }

    fn shrink(&self, by: u64) {
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
        let before = before.unwrap_or_else(|now| now);
        self.metrics.spool_bytes.set(i64::try_from(before.saturating_sub(by)).unwrap_or(i64::MAX));
    }

    /// Every file that is named like a segment, in order.
    pub(super) fn segments(&self) -> Result<Vec<Found>, OpenError> {
        let io = |source| OpenError::Io { path: self.directory.join(SPOOL), source };
        let mut found = vec![];
        for entry in self.files.list(SPOOL).map_err(io)? {
            let Some(id) = number(&entry.name, ".log") else { continue };
            found.push(Found { id, bytes: entry.bytes });
        }
        found.sort_unstable_by_key(|segment| segment.id);
        Ok(found)
    }

    /// Everything that is named like a checkpoint, oldest first. Removes drafts that a process left.
    pub(super) fn checkpoints(&self) -> Result<Vec<Found>, OpenError> {
        let io = |source| OpenError::Io { path: self.directory.join(SPOOL), source };
        let mut found = vec![];
        for entry in self.files.list(SPOOL).map_err(io)? {
            if let Some(id) = number(&entry.name, ".draft").filter(|_| entry.bytes.is_some()) {
                self.remove_file(&draft_path(id));
            }
            found.extend(number(&entry.name, ".checkpoint").map(|id| Found { id, bytes: entry.bytes }));
        }
        found.sort_unstable_by_key(|checkpoint| checkpoint.id);
        Ok(found)
    }

    pub(super) fn open_checkpoint(&self, id: u32) -> io::Result<Box<dyn File>> {
        self.files.open(&checkpoint_path(id), Access::Read)
    }

    /// Writes a checkpoint under a name of its own, and gives it its name when it is on disk.
    pub(super) fn write_checkpoint(
        &self,
        id: u32,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64>,
    ) -> io::Result<u64> {
        let draft = draft_path(id);
        let made = || {
            let file = self.files.create(&draft)?;
            // Past the page cache: it is read at a start alone, and takes as much as all states.
            let mut draft_file = Segment::new(file, self.files.open(&draft, Access::Direct).ok());
            let mut at = 0;
            let bytes = write(&mut |bytes| {
                draft_file.write(bytes, at)?;
                at += bytes.len() as u64;
                Ok(())
            })?;
            // Whole pages were written.
            draft_file.file.set_len(at)?;
            draft_file.file.sync_all()?;
            self.files.rename(&draft, &checkpoint_path(id))?;
            self.files.sync_directory(SPOOL)?;
            Ok(bytes)
        };
        let made = made();
        match &made {
            Ok(bytes) => self.grow(*bytes),
            // Best effort: a start removes it. It may have had its name already, and not for sure.
            Err(_) => {
                let _ = self.files.remove(&draft);
                let _ = self.files.remove(&checkpoint_path(id));
            }
        }
        made
    }

    pub(super) fn remove_checkpoint(&self, id: u32) {
        self.remove_file(&checkpoint_path(id));
    }

    /// Moves a checkpoint that cannot be read out of the way, or removes it where there is no room.
    pub(super) fn set_aside_checkpoint(&self, id: u32) {
        let from = checkpoint_path(id);
        let bytes = self.files.size(&from).unwrap_or(0);
        if !self.keep_aside(&from, &format!("{id:010}.checkpoint"), bytes) {
            self.remove_file(&from);
        }
    }

    /// For messages.
    pub(super) fn segment_file(&self, id: u32) -> PathBuf {
        self.directory.join(path(id))
    }

    pub(super) fn checkpoint_file(&self, id: u32) -> PathBuf {
        self.directory.join(checkpoint_path(id))
    }

    pub(super) fn open_segment(&self, id: u32) -> io::Result<Box<dyn File>> {
        self.files.open(&path(id), Access::Read)
    }

    /// Makes a segment of `bytes` zeros, on disk with its directory entry. On failure nothing of it is left.
    /// `written`: its zeros are written, so that a sync has no extents to convert; else the space is only reserved.
    pub(super) fn make_segment(
        &self,
        id: u32,
        bytes: u32,
        written: bool,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Segment> {
        let path = path(id);
        let file = self.create_segment(id, &path)?;
        // Not every file system takes direct writes.
        let mut direct = self.files.open(&path, Access::Direct).ok();
        let filled = self.fill(&*file, &mut direct, bytes, written, cancelled);
        if let Err(error) = filled {
            drop(file);
            // A leftover is empty of records; the next try or the next start removes it.
            let removed = self.files.remove(&path).is_ok();
            self.leftover.store(if removed { 0 } else { id }, Ordering::Relaxed);
            return Err(error);
        }
        self.grow(u64::from(bytes));
        Ok(Segment::new(file, direct))
    }

    fn create_segment(&self, id: u32, path: &str) -> io::Result<Box<dyn File>> {
        match self.files.create(path) {
            // Without this a disk that failed twice would keep its name taken until a restart.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && self.leftover.load(Ordering::Relaxed) == id =>
            {
                self.files.remove(path)?;
                self.files.create(path)
            }
            result => result,
        }
    }

    fn fill(
        &self,
        file: &dyn File,
        direct: &mut Option<Box<dyn File>>,
        bytes: u32,
        written: bool,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        // Asks for all the space first: on a full disk it fails at once and takes nothing from others.
        file.allocate(u64::from(bytes))?;
        if written {
            // Past the page cache: copying zeros through it was the largest single cost of an append.
            match direct.as_ref().map(|direct| write_zeros(&**direct, bytes, cancelled)) {
                Some(Ok(())) => {}
                Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                Some(Err(_)) | None => {
                    *direct = None;
                    write_zeros(file, bytes, cancelled)?;
                }
            }
        }
        file.sync_all()?;
        self.files.sync_directory(SPOOL)
    }

    /// Reserves more for one that was made smaller than is wanted by now.
    pub(super) fn lengthen_segment(&self, segment: &Segment, from: u32, to: u32) -> io::Result<()> {
        segment.file.allocate(u64::from(to))?;
        segment.file.sync_all()?;
        self.grow(u64::from(to.saturating_sub(from)));
        Ok(())
    }

    pub(super) fn write(&self, segment: &mut Segment, bytes: &[u8], at: u32) -> io::Result<()> {
        segment.write(bytes, u64::from(at))
    }

    pub(super) fn sync(&self, file: &dyn File) -> io::Result<()> {
        file.sync_data()
    }

    /// Puts a copy of a segment's first bytes in its place, on disk and on other blocks than before; all or nothing.
    pub(super) fn write_anew(&self, id: u32, from: &dyn File, bytes: u64) -> io::Result<()> {
        let (draft, path) = (draft_path(id), path(id));
        let copy = || {
            let file = self.files.create(&draft)?;
            let mut block = vec![0; WRITE_STEP];
            let mut at = 0;
            while at < bytes {
                let step = usize::try_from(bytes - at).unwrap_or(WRITE_STEP).min(WRITE_STEP);
                from.read_exact_at(&mut block[..step], at)?;
                file.write_all_at(&block[..step], at)?;
                at += step as u64;
            }
            file.sync_all()?;
            let before = self.files.size(&path)?;
            self.files.rename(&draft, &path)?;
            self.files.sync_directory(SPOOL)?;
            self.grow(bytes);
            self.shrink(before);
            Ok(())
        };
        let copied = copy();
        if copied.is_err() {
            // Best effort: a start removes it.
            let _ = self.files.remove(&draft);
        }
        copied
    }

    /// Bytes of a segment's file; 0 where there is none.
    pub(super) fn segment_bytes(&self, id: u32) -> u64 {
        self.files.size(&path(id)).unwrap_or(0)
    }

    /// Makes durable what was written to a segment.
    pub(super) fn sync_segment(&self, id: u32) -> io::Result<()> {
        match self.files.open(&path(id), Access::Write) {
            Ok(file) => file.sync_data(),
            // Skipped, or made and never used.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a segment that holds nothing anybody needs. Best effort: it would only take space.
    pub(super) fn remove(&self, id: u32) {
        self.remove_file(&path(id));
    }

    fn remove_file(&self, path: &str) {
        let bytes = self.files.size(path).unwrap_or(0);
        if self.files.remove(path).is_ok() {
            self.shrink(bytes);
        }
    }

    /// Cuts a segment behind its last record. Best effort: what is behind is never read as a record.
    ///
    /// # Errors
    /// A sync failed: nobody knows what of the file is on disk, and the next sync need not say so.
    pub(super) fn cut(&self, id: u32, bytes: u64) -> io::Result<()> {
        let cut = || -> io::Result<Box<dyn File>> {
            let file = self.files.open(&path(id), Access::Write)?;
            let before = file.size()?;
            file.set_len(bytes)?;
            self.shrink(before.saturating_sub(bytes));
            Ok(file)
        };
        match cut() {
            Ok(file) => file.sync_all(),
            Err(error) => {
                tracing::warn!(segment = id, %error, "the unused end of a segment could not be cut");
                Ok(())
            }
        }
    }

    /// Moves a whole segment that cannot be read out of the log's way, or leaves it when there is no room.
    pub(super) fn set_aside_file(&self, id: u32, bytes: u64) -> bool {
        self.keep_aside(&path(id), &format!("{id:010}.log"), bytes)
    }

    fn keep_aside(&self, from: &str, name: &str, bytes: u64) -> bool {
        let room = self.quarantined.load(Ordering::Relaxed).saturating_add(bytes) <= QUARANTINE_BYTES_MAX;
        let target = format!("{QUARANTINE}/{name}");
        let taken = self.files.size(&target).is_ok();
        let moved = room && !taken && self.files.rename(from, &target).is_ok();
        if moved {
            self.quarantined.fetch_add(bytes, Ordering::Relaxed);
        }
        moved
    }

    /// Copies damaged bytes of a segment, once however often it is read. Best effort, bounded.
    pub(super) fn set_aside(&self, file: &dyn File, id: u32, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let target = format!("{QUARANTINE}/{id:010}-{from}.bin");
        let room = QUARANTINE_BYTES_MAX.saturating_sub(self.quarantined.load(Ordering::Relaxed));
        let wanted = to.saturating_sub(from).min(room);
        let Ok(copy) = self.files.create(&target) else { return };
        let mut block = vec![0; 64 << 10];
        let mut done = 0;
        while done < wanted {
            let step = usize::try_from(wanted - done).unwrap_or(block.len()).min(block.len());
            let Ok(read @ 1..) = file.read_at(&mut block[..step], from + done) else { break };
            if copy.write_all_at(&block[..read], done).is_err() {
                break;
            }
            done += read as u64;
        }
        self.quarantined.fetch_add(done, Ordering::Relaxed);
        self.grow(done);
    }
}

/// Writes `bytes` zeros from a buffer that is aligned as direct writes want it.
fn write_zeros(file: &dyn File, bytes: u32, cancelled: &dyn Fn() -> bool) -> io::Result<()> {
    let mut aligned = Aligned::default();
    let zeros = aligned.bytes(FILL_STEP);
    let mut at = 0;
    while at < u64::from(bytes) {
        if cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = usize::try_from(u64::from(bytes) - at).unwrap_or(FILL_STEP).min(FILL_STEP);
        file.write_all_at(zeros.get(..step).unwrap_or_default(), at)?;
        at += step as u64;
    }
    Ok(())
}

/// No space, or no more allowed: the disk is full rather than broken.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// Writes one behind the other; each failed one is written again, as after a full disk. `in_place`: each stands in
    /// memory as in its pages on disk, as what gathers does.
    fn written((direct, in_place): (bool, bool), sizes: &[(usize, bool)]) -> (Vec<u8>, Vec<u8>) {
        let directory = TempDir::new().unwrap();
        let files = Real::below(directory.path());
        let file = files.create("log").unwrap();
        file.set_len(8 << 20).unwrap();
        let direct = files.open("log", Access::Direct).ok().filter(|_| direct);
        let mut segment = Segment::new(file, direct);
        let mut expected = vec![];
        for (index, (size, again)) in sizes.iter().enumerate() {
            let at = expected.len() as u64;
            let mut memory = Aligned::default();
            let begins = usize::try_from(at).unwrap() % PAGE + usize::from(!in_place);
            let bytes = &mut memory.bytes(begins + size)[begins..];
            bytes.fill(u8::try_from(index % 255).unwrap() + 1);
            if *again {
                segment.write(&vec![0xff; size / 2], at).unwrap();
            }
            segment.write(bytes, at).unwrap();
            expected.extend_from_slice(bytes);
        }
        let mut found = std::fs::read(directory.path().join("log")).unwrap();
        assert_eq!(found.len(), 8 << 20, "never longer than it was made");
        found.truncate(expected.len());
        (found, expected)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn what_is_written_stands_there_whatever_its_size(
            sizes in prop::collection::vec((prop_oneof![1..20_000_usize, 1..3_usize, Just(PAGE)], any::<bool>()), 1..60),
            how: (bool, bool),
        ) {
            let (found, expected) = written(how, &sizes);
            prop_assert!(found == expected);
        }
    }

    #[test]
    fn a_write_larger_than_a_step_arrives_whole() {
        for how in [(true, true), (true, false), (false, true), (false, false)] {
            let (found, expected) = written(how, &[(77, false), (WRITE_STEP * 3 + 1, true), (5, false)]);
            assert!(found == expected);
        }
    }
}
