//! Notices that a file of the configuration changed, and has it read again.
//!
//! The folders are watched, not the files: an editor puts a new file in the old one's place, and Kubernetes swaps a
//! link (`..data`) beside them. What tells a change is how the files look then: number, size and times. File systems
//! that tell nothing are looked at every ten seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::reload::Reloader;
use crate::admin::{Operator, Trigger};
use crate::event::Micros;

/// A file must have looked the same for so long before it is read: whoever writes it may not be done.
const SETTLE: Duration = Duration::from_millis(200);
/// For a file that is written all the time.
const SETTLE_ROUNDS_MAX: usize = 25;
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How a file looks; another look is another content.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    bytes: u64,
    written_at: (i64, i64),
    changed_at: (i64, i64),
}

impl Look {
    fn changed_at(&self) -> Micros {
        let (seconds, nanos) = self.changed_at;
        Micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
    }
}

/// `None`: it is not there.
type Looks = BTreeMap<PathBuf, Option<Look>>;

fn look(path: &Path) -> Option<Look> {
    let found = std::fs::metadata(path).ok()?;
    Some(Look {
        file: (found.dev(), found.ino()),
        bytes: found.size(),
        written_at: (found.mtime(), found.mtime_nsec()),
        changed_at: (found.ctime(), found.ctime_nsec()),
    })
}

fn looks(files: impl IntoIterator<Item = PathBuf>) -> Looks {
    let with_look = |path: PathBuf| {
        let look = look(&path);
        (path, look)
    };
    files.into_iter().map(with_look).collect()
}

/// The folders in which a change of these files shows: where they stand, and where links lead to.
fn folders<'f>(files: impl Iterator<Item = &'f PathBuf>) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let leads_to = |path: &PathBuf| std::fs::canonicalize(path).ok();
    files.flat_map(|path| [parent(path), leads_to(path).and_then(|real| parent(&real))]).flatten().collect()
}

/// Runs until its task is dropped.
pub(super) async fn run(reloader: Arc<Reloader>) {
    let stirred = Arc::new(Notify::new());
    let mut watch = Folders::new(&stirred);
    let mut seen = looks(reloader.files());
    // Between the reading and the end of recovery some time has passed.
    let mut changed = seen.values().any(|look| look.is_some_and(|look| look.changed_at() > reloader.read_at()));
    loop {
        watch.set(folders(seen.keys()));
        if !changed {
            // Whatever stirs, or nothing: the look decides.
            let _ = tokio::time::timeout(LOOK_EVERY, stirred.notified()).await;
        }
        let now = settled(&seen).await;
        if changed || now != seen {
            Arc::clone(&reloader).reload(Trigger::File).await;
        } else {
            // Something else in these folders, maybe a log: one look for all that is written meanwhile.
            tokio::time::sleep(SETTLE).await;
        }
        changed = false;
        // The files may be others now. Those that are not keep the look they had before they were read.
        seen = looks(reloader.files());
        seen.iter_mut().for_each(|(path, look)| *look = now.get(path).copied().unwrap_or(*look));
    }
}

/// How the files look once nobody writes them any more.
async fn settled(seen: &Looks) -> Looks {
    let mut last = looks(seen.keys().cloned());
    for _ in 0..SETTLE_ROUNDS_MAX {
        if last == *seen {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let now = looks(seen.keys().cloned());
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// The watched folders.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    fn new(stirred: &Arc<Notify>) -> Self {
        let stirred = Arc::clone(stirred);
        let watcher = notify::recommended_watcher(move |_| stirred.notify_one());
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "changes of the configuration are noticed late: no watch"))
            .ok();
        Self { watcher, watched: BTreeSet::new() }
    }

    fn set(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        for new in folders.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %new.display(), "changes of the configuration here are noticed late");
            }
        }
        self.watched = folders;
    }
}
