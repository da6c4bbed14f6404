//! Reads a file that people name: a piece of the configuration, a secret, a certificate. Bounded in bytes and in time: a pipe
//! that nobody writes must not hold up whoever reads it for ever. Called by `config`, `listen::tls` and `client`.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tokio::time::Instant;

/// A pipe must have been written and closed within this time.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Which file a thread reads, for others to see: a file system that does not answer holds the thread up for as long as it
/// likes, and only another one can say where.
#[derive(Default)]
pub struct Progress(Mutex<Option<PathBuf>>);

impl Progress {
    fn set(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that is read, or was last.
    pub fn file(&self) -> Option<PathBuf> {
        self.set().clone()
    }
}

thread_local! {
    static TOLD: RefCell<Option<Arc<Progress>>> = const { RefCell::new(None) };
}

/// Does what reads files on this thread, and tells which.
pub fn told_to<T>(progress: Arc<Progress>, work: impl FnOnce() -> T) -> T {
    TOLD.set(Some(progress));
    let done = work();
    TOLD.set(None);
    done
}

/// This thread asks for that file now.
fn tell(path: &Path) {
    TOLD.with_borrow(|told| {
        if let Some(progress) = told {
            *progress.set() = Some(path.to_owned());
        }
    });
}

/// The file from its begin, and no more than one byte beyond `most`: the caller says what is wrong with that.
/// Blocks, 10 s at most.
///
/// # Errors
/// It cannot be opened or read; `TimedOut`: a pipe into which nothing was written.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    tell(path);
    read_within(path, most, TIME_MAX)
}

fn read_within(path: &Path, most: u64, time: Duration) -> io::Result<Vec<u8>> {
    // Only pipes and terminals heed it; without it opening one waits for its writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let until = Instant::now() + time;
    let mut bytes = Vec::new();
    loop {
        let left = usize::try_from((most + 1).saturating_sub(bytes.len() as u64)).unwrap_or(usize::MAX);
        let begun = bytes.len();
        await_bytes(&file, until)?;
        bytes.resize(begun + left.min(64 * 1024), 0);
        let read = match file.read(bytes.get_mut(begun..).unwrap_or_default()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            other => Some(other?),
        };
        bytes.truncate(begun + read.unwrap_or(0));
        if read == Some(0) || bytes.len() as u64 > most {
            return Ok(bytes);
        }
    }
}

/// Until there is something to read, or its end. A pipe that no writer has opened yet has neither.
fn await_bytes(file: &File, until: Instant) -> io::Result<()> {
    let mut ready = [PollFd::new(file, PollFlags::IN)];
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&left)) {
            Ok(0) => return Err(io::Error::new(ErrorKind::TimedOut, "a pipe that nobody writes and closes")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn no_more_than_a_byte_beyond_the_most_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read(&path, 5).unwrap(), b"012345");
        assert_eq!(read(Path::new("/dev/zero"), 200_000).unwrap().len(), 200_001);
        assert_eq!(read(folder.path(), 5).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_waited_for_only_so_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(&folder);
        assert_eq!(read_within(&path, 10, Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || std::fs::write(path, "secret"))
        };
        assert_eq!(read(&path, 10).unwrap(), b"secret");
        writer.join().unwrap().unwrap();
        let held = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let error = read_within(&path, 10, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "a writer that neither writes nor goes");
        drop(held);
    }
}
