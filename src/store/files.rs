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
    ) -> io::Result<File> {
        let path = self.path(id);
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path)?;
        let filled = self.fill(&file, &path, bytes, written, cancelled);
        if let Err(error) = filled {
            drop(file);
            // A leftover is empty of records; the next start removes it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.grow(u64::from(bytes));
        Ok(file)
    }

    fn fill(
        &self,
        file: &File,
        path: &Path,
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
            let direct = OpenOptions::new().write(true).custom_flags(direct_flag()).open(path);
            let direct = direct.ok().map(|direct| write_zeros(&direct, bytes, cancelled));
            match direct {
                Some(Ok(())) => {}
                // Not every file system takes direct writes.
                Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                Some(Err(_)) | None => write_zeros(file, bytes, cancelled)?,
            }
        }
        file.sync_all()?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.spool)?.sync_all()
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8], at: u32) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write(file, bytes, at)?;
        let end = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(bytes.len());
        let padding = &[0; PAGE][..end.next_multiple_of(PAGE) - end];
        let both = [io::IoSlice::new(bytes), io::IoSlice::new(padding)];
        let written = rustix::io::pwritev(file, &both, u64::from(at)).unwrap_or(0);
        // The zeros are there already: only the bytes matter.
        let rest = bytes.get(written..).unwrap_or_default();
        file.write_all_at(rest, u64::from(at) + (bytes.len() - rest.len()) as u64)
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
    let buffer = vec![0; FILL_STEP + PAGE];
    let aligned = buffer.as_ptr().align_offset(PAGE);
    let zeros = buffer.get(aligned..aligned.saturating_add(FILL_STEP)).unwrap_or_default();
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
