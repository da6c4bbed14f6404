//! The line behind a claimed key: who waits is woken one at a time, first come first served, and decides
//! anew. A woken request that is gone passes its turn on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Dedup, lock};
use crate::event::StateKey;

/// All lines of the process. A line exists only while somebody stands in it. Always locked after the shard.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<StateKey, VecDeque<oneshot::Sender<()>>>>);

impl Lines {
    fn join(&self, key: StateKey) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        lock(&self.0).entry(key).or_default().push_back(wake);
        woken
    }

    /// Wakes the first who still waits; true when more stand behind.
    pub(super) fn wake_first(&self, key: StateKey) -> bool {
        let mut lines = lock(&self.0);
        let Some(line) = lines.get_mut(&key) else { return false };
        while let Some(first) = line.pop_front() {
            if first.send(()).is_ok() {
                break;
            }
        }
        let more = !line.is_empty();
        if !more {
            lines.remove(&key);
        }
        more
    }
}

/// A place in a key's line.
#[must_use = "wait, then claim again"]
pub struct Line {
    dedup: Arc<Dedup>,
    key: StateKey,
    woken: oneshot::Receiver<()>,
}

impl Line {
    /// Call with the key's entry locked, so that no wake is missed.
    pub(super) fn join(dedup: &Arc<Dedup>, key: StateKey) -> Self {
        Self { dedup: Arc::clone(dedup), key, woken: dedup.lines.join(key) }
    }

    /// Waits for this place's turn; false when it did not come in time. The caller then claims again at once.
    pub async fn wait(mut self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, &mut self.woken).await.is_ok_and(|turn| turn.is_ok())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.woken.close();
        // A turn that came and was never taken: the next one's.
        if self.woken.try_recv().is_ok() {
            self.dedup.pass_on(self.key);
        }
    }
}
