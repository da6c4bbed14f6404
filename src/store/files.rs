//! The directory: every call of the log to the file system stands here (and in `scan`, which reads).
//! The tests inject faults at this seam.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::OpenError;
use crate::metrics::Metrics;

/// Zeros are written in steps of this, so that a commit beside it never waits for more.
const FILL_STEP: usize = 1 << 20;
/// What the page cache and direct writes work in. A commit is filled up to it with zeros, so that the kernel never
/// has to read the rest of a page from disk before it can take a part of it.
const PAGE: usize = 4096;
/// Most bytes of one direct write; a larger commit takes several.
const DIRECT_STEP: usize = 1 << 20;
/// Damaged bytes kept for a look at them (DESIGN 4).
const QUARANTINE_BYTES_MAX: u64 = 64 << 20;

/// A segment found on disk.
pub(super) struct Found {
    pub(super) id: u32,
    /// `None`: something else has the name.
    pub(super) bytes: Option<u64>,
}

pub(super) struct Disk {
    spool: PathBuf,
    quarantine: PathBuf,
    /// Held as long as the store lives.
    _lock: File,
    /// Bytes of all files, those set aside included.
    bytes: AtomicU64,
    quarantined: AtomicU64,
    metrics: Arc<Metrics>,
    #[cfg(test)]
    pub(super) faults: super::doubles::Faults,
}

/// A segment that is being written.
pub(super) struct Segment {
    file: File,
    /// `None` where the file system takes no direct writes.
    direct: Option<Direct>,
}

/// Writes past the page cache: copying into fresh pages of it cost more than all else the writer does. Whole pages
/// are written, so the one that the last write ended in is kept and written again with what follows.
struct Direct {
    file: File,
    aligned: Aligned,
    /// Where the last write ended; what stands before it in its page stands at the start of `aligned`.
    end: u64,
}

impl Segment {
    fn new(file: File, direct: Option<File>) -> Self {
        Self { file, direct: direct.map(|file| Direct { file, aligned: Aligned::default(), end: 0 }) }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes `bytes` at `at`, and zeros up to the end of the last page, where there are zeros already.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(direct) = &mut self.direct {
            match direct.write(&self.file, bytes, at) {
                // Opened, but not written directly: some file systems say so only now.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                result => return result,
            }
        }
        let end = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(bytes.len());
        let padding = &[0; PAGE][..end.next_multiple_of(PAGE) - end];
        let both = [io::IoSlice::new(bytes), io::IoSlice::new(padding)];
        let written = rustix::io::pwritev(&self.file, &both, at).unwrap_or(0);
        // The zeros are there already: only the bytes matter.
        let rest = bytes.get(written..).unwrap_or_default();
        self.file.write_all_at(rest, at + (bytes.len() - rest.len()) as u64)
    }
}

impl Direct {
    fn write(&mut self, file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        let in_page = |at: u64| usize::try_from(at % PAGE as u64).unwrap_or_default();
        if self.end != at {
            // Written again after a failure, or the first write: what stands before it is on disk.
            let page = self.aligned.bytes(PAGE);
            file.read_exact_at(&mut page[..in_page(at)], at - in_page(at) as u64)?;
        }
        // Until all is written nothing is known of the page it ends in.
        self.end = u64::MAX;
        while !bytes.is_empty() {
            let kept = in_page(at);
            let (now, later) = bytes.split_at(bytes.len().min(DIRECT_STEP - kept));
            let filled = kept + now.len();
            let whole = filled.next_multiple_of(PAGE);
            let buffer = self.aligned.bytes(whole);
            buffer[kept..filled].copy_from_slice(now);
            buffer[filled..].fill(0);
            self.file.write_all_at(buffer, at - kept as u64)?;
            // The page it ends in begins the next write.
            let last = filled - filled % PAGE;
            buffer.copy_within(last..filled, 0);
            (bytes, at) = (later, at + now.len() as u64);
        }
        self.end = at;
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

/// Makes `path` and its parents for the owner alone.
fn make_directory(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn file_sizes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

impl Disk {
    /// Makes what is missing and takes the owner's lock.
    pub(super) fn open(directory: &Path, metrics: &Arc<Metrics>) -> Result<Self, OpenError> {
        let (spool, quarantine) = (directory.join("spool"), directory.join("quarantine"));
        make_directory(&spool)?;
        make_directory(&quarantine)?;
        let path = spool.join("lock");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io)?;
        match fs4::FileExt::try_lock(&lock) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err(OpenError::Locked(directory.to_owned())),
            Err(fs4::TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
        // The entries of both directories, before anything is promised to be in them.
        for made in [directory, &spool] {
            File::open(made)
                .and_then(|entry| entry.sync_all())
                .map_err(|source| OpenError::Io { path: made.to_owned(), source })?;
        }
        let quarantined = file_sizes(&quarantine);
        let disk = Self {
            bytes: AtomicU64::new(0),
            quarantined: AtomicU64::new(quarantined),
            spool,
            quarantine,
            _lock: lock,
            metrics: Arc::clone(metrics),
            #[cfg(test)]
            faults: super::doubles::Faults::default(),
        };
        disk.grow(file_sizes(&disk.spool).saturating_add(quarantined));
        Ok(disk)
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

    fn path(&self, id: u32) -> PathBuf {
        self.spool.join(format!("{id:010}.log"))
    }

    /// Every file that is named like a segment, in order.
    pub(super) fn segments(&self) -> Result<Vec<Found>, OpenError> {
        let io = |source| OpenError::Io { path: self.spool.clone(), source };
        let mut found = vec![];
        for entry in fs::read_dir(&self.spool).map_err(io)? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some(digits) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
            let all_digits = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let Some(id) = digits.parse().ok().filter(|_| all_digits) else { continue };
            let bytes = entry.metadata().ok().filter(fs::Metadata::is_file).map(|file| file.len());
            found.push(Found { id, bytes });
        }
        found.sort_unstable_by_key(|segment| segment.id);
        Ok(found)
    }

    pub(super) fn open_segment(&self, id: u32) -> io::Result<File> {
        File::open(self.path(id))
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
        let path = self.path(id);
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path)?;
        // Not every file system takes direct writes.
        let mut direct = OpenOptions::new().write(true).custom_flags(direct_flag()).open(&path).ok();
        let filled = self.fill(&file, &mut direct, bytes, written, cancelled);
        if let Err(error) = filled {
            drop(file);
            // A leftover is empty of records; the next start removes it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.grow(u64::from(bytes));
        Ok(Segment::new(file, direct))
    }

    fn fill(
        &self,
        file: &File,
        direct: &mut Option<File>,
        bytes: u32,
        written: bool,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        #[cfg(test)]
        self.faults.space()?;
        // Asks for all the space first: on a full disk it fails at once and takes nothing from others.
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, u64::from(bytes)) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(u64::from(bytes))?,
            Err(error) => return Err(error.into()),
        }
        if written {
            // Past the page cache: copying zeros through it was the largest single cost of an append.
            match direct.as_ref().map(|direct| write_zeros(direct, bytes, cancelled)) {
                Some(Ok(())) => {}
                Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                Some(Err(_)) | None => {
                    *direct = None;
                    write_zeros(file, bytes, cancelled)?;
                }
            }
        }
        file.sync_all()?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.spool)?.sync_all()
    }

    pub(super) fn write(&self, segment: &mut Segment, bytes: &[u8], at: u32) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write(&segment.file, bytes, at)?;
        segment.write(bytes, u64::from(at))
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        file.sync_data()
    }

    /// Removes a segment that holds nothing anybody was promised. Best effort: it would only take space.
    pub(super) fn remove(&self, id: u32) {
        let path = self.path(id);
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if fs::remove_file(&path).is_ok() {
            self.shrink(bytes);
        }
    }

    /// Cuts a segment behind its last record. Best effort: what is behind is never read as a record.
    pub(super) fn cut(&self, id: u32, bytes: u64) {
        let cut = || -> io::Result<u64> {
            let file = OpenOptions::new().write(true).open(self.path(id))?;
            let before = file.metadata()?.len();
            file.set_len(bytes)?;
            file.sync_all()?;
            Ok(before.saturating_sub(bytes))
        };
        match cut() {
            Ok(freed) => self.shrink(freed),
            Err(error) => tracing::warn!(segment = id, %error, "the unused end of a segment could not be cut"),
        }
    }

    /// Moves a whole file that cannot be read out of the log's way, or leaves it when there is no room.
    pub(super) fn set_aside_file(&self, id: u32, bytes: u64) -> bool {
        let room = self.quarantined.load(Ordering::Relaxed).saturating_add(bytes) <= QUARANTINE_BYTES_MAX;
        let target = self.quarantine.join(format!("{id:010}.log"));
        let moved = room && !target.exists() && fs::rename(self.path(id), target).is_ok();
        if moved {
            self.quarantined.fetch_add(bytes, Ordering::Relaxed);
        }
        moved
    }

    /// Copies damaged bytes of a segment, once however often it is read. Best effort, bounded.
    pub(super) fn set_aside(&self, file: &File, id: u32, from: u64, to: u64) {
        let target = self.quarantine.join(format!("{id:010}-{from}.bin"));
        let room = QUARANTINE_BYTES_MAX.saturating_sub(self.quarantined.load(Ordering::Relaxed));
        let wanted = to.saturating_sub(from).min(room);
        let Ok(mut copy) = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&target) else { return };
        let mut block = vec![0; 64 << 10];
        let mut done = 0;
        while done < wanted {
            let step = usize::try_from(wanted - done).unwrap_or(block.len()).min(block.len());
            let Ok(read @ 1..) = file.read_at(&mut block[..step], from + done) else { break };
            if io::Write::write_all(&mut copy, &block[..read]).is_err() {
                break;
            }
            done += read as u64;
        }
        self.quarantined.fetch_add(done, Ordering::Relaxed);
        self.grow(done);
    }
}

fn direct_flag() -> i32 {
    i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0)
}

/// Writes `bytes` zeros from a buffer that is aligned as direct writes want it.
fn write_zeros(file: &File, bytes: u32, cancelled: &dyn Fn() -> bool) -> io::Result<()> {
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

    /// Writes one behind the other; each failed one is written again, as after a full disk.
    fn written(direct: bool, sizes: &[(usize, bool)]) -> (Vec<u8>, Vec<u8>) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("log");
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        let direct = OpenOptions::new().write(true).custom_flags(direct_flag()).open(&path).ok().filter(|_| direct);
        let mut segment = Segment::new(file, direct);
        let mut expected = vec![];
        for (index, (size, again)) in sizes.iter().enumerate() {
            let bytes = vec![u8::try_from(index % 255).unwrap() + 1; *size];
            let at = expected.len() as u64;
            if *again {
                segment.write(&vec![0xff; size / 2], at).unwrap();
            }
            segment.write(&bytes, at).unwrap();
            expected.extend_from_slice(&bytes);
        }
        let mut found = fs::read(&path).unwrap();
        assert_eq!(found.len(), 8 << 20, "never longer than it was made");
        found.truncate(expected.len());
        (found, expected)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn what_is_written_stands_there_whatever_its_size(
            sizes in prop::collection::vec((prop_oneof![1..9000_usize, 1..3_usize, Just(PAGE)], any::<bool>()), 1..60),
            direct: bool,
        ) {
            let (found, expected) = written(direct, &sizes);
            prop_assert!(found == expected);
        }
    }

    #[test]
    fn a_write_larger_than_a_step_arrives_whole() {
        for direct in [true, false] {
            let (found, expected) = written(direct, &[(77, false), (DIRECT_STEP * 3 + 1, true), (5, false)]);
            assert!(found == expected);
        }
    }
}
