//! The file system of the machine: the one file of the log that calls it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use smallvec::SmallVec;

use super::calls::{Access, Entry, File, Files, Held};

/// Everything below one directory.
pub(in crate::store) struct Real(PathBuf);

impl Real {
    pub(in crate::store) fn below(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

fn direct_flag() -> i32 {
    i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0)
}

impl Held for fs::File {}

impl Files for Real {
    fn make_directory(&self, path: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.path(path))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Entry>> {
        let entries = fs::read_dir(self.path(directory))?.flatten();
        let seen = entries.map(|entry| Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            bytes: entry.metadata().ok().filter(fs::Metadata::is_file).map(|file| file.len()),
        });
        Ok(seen.collect())
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        fs::File::open(self.path(path))?.sync_all()
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(path))?.len())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(self.path(path))?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.write(true),
            Access::Direct => options.write(true).custom_flags(direct_flag()),
        };
        Ok(Box::new(options.open(self.path(path))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn lock(&self, path: &str) -> io::Result<Option<Box<dyn Held>>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.path(path))?;
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs4::TryLockError::WouldBlock) => Ok(None),
            Err(fs4::TryLockError::Error(error)) => Err(error),
        }
    }

    /// From the kernel's list: trying the lock instead would refuse a process that starts at that moment.
    fn holder(&self, path: &str) -> io::Result<Option<u32>> {
        let inode = match fs::metadata(self.path(path)) {
            Ok(file) => file.ino().to_string(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:9977922 0 EOF`. The device is left out: some file systems give the
        // kernel another number than they give us.
        let locks = fs::read_to_string("/proc/locks")?;
        let holder = locks.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
            (kind == "FLOCK" && file.rsplit(':').next() == Some(&*inode)).then(|| pid.parse().unwrap_or(0))
        });
        Ok(holder)
    }

    /// What the file system leaves to those who are not root.
    fn free_bytes(&self) -> io::Result<u64> {
        let room = rustix::fs::statvfs(&self.0)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }
}

impl File for fs::File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<usize> {
        if let [bytes] = parts {
            return FileExt::write_at(self, bytes, at);
        }
        // Of those that are empty the kernel makes nothing.
        let parts: SmallVec<[IoSlice<'_>; 3]> = parts.iter().map(|part| IoSlice::new(part)).collect();
        Ok(rustix::io::pwritev(self, &parts, at)?)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fs::File::set_len(self, bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }
}
