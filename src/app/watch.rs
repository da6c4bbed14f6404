//! Notices that a file of the configuration changed, and has it read again.
//!
//! The folders are watched, not the files: an editor puts a new file in the old one's place, and Kubernetes swaps a
//! link (`..data`) beside them. What tells a change is how the files look then, compared with how they looked when they were
//! last read, by whomever. File systems that tell nothing are looked at every ten seconds. One that does not answer holds
//! up this task and nobody else.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::{JoinError, spawn_blocking};

use super::look::{Looks, folders, looks};
use super::reload::Reloader;

/// A file must have looked the same for so long before it is read: whoever writes it may not be done.
const SETTLE: Duration = Duration::from_millis(200);
/// For a file that is written all the time.
const SETTLE_ROUNDS_MAX: usize = 25;
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Runs until its task is dropped.
pub(super) async fn run(reloader: Arc<Reloader>) {
    if let Err(error) = watch(&reloader).await {
        tracing::warn!(%error, "changes of the configuration are noticed no more: use HUP");
    }
}

async fn watch(reloader: &Arc<Reloader>) -> Result<(), JoinError> {
    let stirred = Arc::new(Notify::new());
    let mut watch = Folders::new(&stirred);
    loop {
        let files: Vec<PathBuf> = reloader.seen().into_keys().collect();
        let (watched, now) = spawn_blocking(move || {
            watch.set(folders(files.iter()));
            (watch, looks(files))
        })
        .await?;
        watch = watched;
        if now == reloader.seen() {
            // Whatever stirs, or nothing: the look decides.
            let _ = tokio::time::timeout(LOOK_EVERY, stirred.notified()).await;
        }
        let now = settled(reloader).await?;
        if now == reloader.seen() {
            // Something else in these folders, maybe a log: one look for all that is written meanwhile.
            tokio::time::sleep(SETTLE).await;
        } else {
            Arc::clone(reloader).reload_changed(now).await;
        }
    }
}

/// How the files look once nobody writes them any more.
async fn settled(reloader: &Reloader) -> Result<Looks, JoinError> {
    let look = || {
        let files: Vec<PathBuf> = reloader.seen().into_keys().collect();
        spawn_blocking(move || looks(files))
    };
    let mut last = look().await?;
    for _ in 0..SETTLE_ROUNDS_MAX {
        if last == reloader.seen() {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let now = look().await?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
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
