//! The spool's directory: whether a start can have it, what is in it, and how much room there is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statfs, statvfs};

use super::Book;
use crate::config::Config;
use crate::event::Micros;
use crate::store::{Durability, Look, OpenError, Presence, Store};

const KEY: &str = "spool.directory";
/// Longest look: a start takes as long, and whoever waits for a check wants an answer.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What the other checks need of it.
#[derive(Default)]
pub(super) struct Spool {
    /// The proxy that runs on it; 0 where its number cannot be seen.
    pub(super) owner: Option<u32>,
    pub(super) newest: Option<Micros>,
}

pub(super) async fn check(config: &Config, book: &mut Book<'_>) -> Spool {
    let directory = &config.spool.directory;
    let Some(stands_on) = can_be_had(directory, book) else { return Spool::default() };
    let seen = if directory.is_dir() { look(directory, book).await } else { None };
    let used = seen.as_ref().map_or(0, |look| look.bytes);
    if is_of_the_kernel(directory, &stands_on, book) {
        return Spool::default();
    }
    file_system(&stands_on, config.spool.durability, book);
    room(&stands_on, used, config.spool.max_bytes, book);
    let owner = match seen.as_ref().map(|look| look.presence) {
        Some(Presence::Running(pid)) => {
            let who = if pid == 0 { "a process".to_owned() } else { format!("process {pid}") };
            book.note(format!("{who} runs on {}: addresses that it has are not counted as taken", directory.display()));
            Some(pid)
        }
        _ => None,
    };
    Spool { owner, newest: seen.and_then(|look| look.newest()) }
}

/// The directory, or the nearest above it that is there; `None`: a start would fail.
fn can_be_had(directory: &Path, book: &mut Book<'_>) -> Option<PathBuf> {
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    // What is written to is one below it.
    let inside = whole.join("spool");
    let there = inside.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let shown = directory.display();
    let wrong = |source: io::Error| OpenError::Io { path: there.to_owned(), source };
    let refused = match access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from) {
        _ if !there.is_dir() => wrong(io::ErrorKind::NotADirectory.into()),
        Ok(()) => return Some(there.to_owned()),
        Err(error) => wrong(error),
    };
    let verb = if there.starts_with(&whole) { "used" } else { "made" };
    book.error("spool", KEY, &format!("{shown} cannot be {verb}: {refused}"), refused.hint().unwrap_or_default());
    None
}

/// The start's own replay, which changes nothing; `None` where there is no spool yet, or none that can be looked at.
async fn look(directory: &Path, book: &mut Book<'_>) -> Option<Look> {
    let path = directory.to_owned();
    let looking = tokio::task::spawn_blocking(move || Store::look(&path));
    match tokio::time::timeout(LOOK_MAX, looking).await {
        Ok(Ok(Ok(look))) => {
            if look.damaged > 0 && look.presence == Presence::Nobody {
                let places = crate::words::count(look.damaged, "place");
                let are = crate::words::verb(look.damaged, "is", "are");
                let message = format!("{places} in it {are} damaged");
                let hint = "a start goes on with what is not: `surgegate spool check` says what, and what is lost";
                book.warning("spool_damaged", KEY, &message, hint);
            }
            Some(look)
        }
        Ok(Ok(Err(OpenError::NoSpool(_)))) => None,
        Ok(Ok(Err(error))) => {
            book.error("spool", KEY, &error.to_string(), error.hint().unwrap_or_default());
            None
        }
        Ok(Err(_)) | Err(_) => {
            let message = format!("not looked through within {LOOK_MAX:?}");
            book.warning("spool_unchecked", KEY, &message, "`surgegate spool check` takes its time");
            None
        }
    }
}

/// Kinds of file systems on which a synced file does not stay (statfs(2)).
const FORGETFUL: [(u64, &str); 3] = [
    (0x0102_1994, "tmpfs: it is gone when the machine or the container stops"),
    (0x8584_58f6, "ramfs: it is gone when the machine stops"),
    (0x794c_7630, "overlay, as a container's own files are: they go with the container"),
];

/// Kinds of file systems in which the kernel shows itself: they take no files of others, whatever their permissions say
/// (magic(5), linux/magic.h).
const KERNELS_OWN: [(u64, &str); 14] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0x1cd1, "devpts"),
    (0x1980_0202, "mqueue"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x9584_58f6, "hugetlbfs"),
];

/// Whether no spool can ever be there, which is told.
fn is_of_the_kernel(directory: &Path, path: &Path, book: &mut Book<'_>) -> bool {
    let own = kind(path).and_then(|kind| KERNELS_OWN.iter().find(|(magic, _)| *magic == kind));
    if let Some((_, name)) = own {
        let message =
            format!("{} is on {name}, where the kernel shows itself: no file can be made there", directory.display());
        book.error("spool", KEY, &message, "name a directory on a disk or a volume");
    }
    own.is_some()
}

/// The kind of the file system, as statfs(2) numbers them.
fn kind(path: &Path) -> Option<u64> {
    let found = statfs(path).ok()?;
    // Signed on some machines, with the sign bit part of the number.
    #[allow(clippy::unnecessary_cast)]
    let kind = found.f_type as u64 & 0xffff_ffff;
    Some(kind)
}

fn file_system(path: &Path, durability: Durability, book: &mut Book<'_>) {
    let Some(kind) = kind(path) else { return };
    let forgetful = FORGETFUL.iter().find(|(magic, _)| *magic == kind);
    if let (Some((_, what)), Durability::Fsync) = (forgetful, durability) {
        let message = format!("on a file system of the kind {what}");
        let hint = "name a directory on a disk or a volume, or say durability: memory";
        book.warning("file_system", KEY, &message, hint);
    }
}

/// Whether `max_bytes` fits; what the spool has by now is part of it.
fn room(path: &Path, used: u64, max_bytes: u64, book: &mut Book<'_>) {
    let Ok(found) = statvfs(path) else { return };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free.saturating_add(used) < max_bytes {
        let message =
            format!("{}, but the disk has {} free and {} in use by the spool", size(max_bytes), size(free), size(used));
        let hint = "a full disk is answered 503: make room, or write less than is free";
        book.passing("space", "spool.max_bytes", &message, hint);
    }
}

/// Bytes for a reader.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
