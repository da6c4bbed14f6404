//! Events whose senders wait until the upstream has them (`ack: delivered`, `respond: upstream`; DESIGN 5.7). `intake`
//! registers one before its record goes to the log, `forward` tells how it ended there, `dedup` shows it to duplicates.
//!
//! A refusal ends the event only while nobody was told that it is taken: that is decided here, once, under one lock. Who
//! was first wins: the sender that gives up or goes away ([`Awaited::keep`]), or the forwarder ([`Awaited::refuse`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::watch;

use crate::event::Uid;

/// Events that are awaited at once; beyond it senders get the spooled answer at once.
pub const AWAITED_MAX: usize = 65_536;

/// What an upstream answered, as far as its sender may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    pub content_type: Option<HeaderValue>,
    /// At most 64 KiB; empty where it was longer.
    pub body: Bytes,
}

/// How an awaited event ended at the upstream.
#[derive(Clone, Debug)]
pub enum Ended {
    Delivered(Arc<Said>),
    /// And it left no trace: durable.
    Refused(Arc<Said>),
    /// It is a dead letter, or was dropped: it stays accepted.
    Undelivered,
    /// It was refused, and that could not be written down.
    Unwritten,
}

#[derive(Clone, Debug)]
enum Stage {
    Open,
    /// Somebody was told that it is taken, or its sender is gone: no refusal ends it any more.
    Kept,
    /// The upstream refused it; that is being written down.
    Refusing,
    Ended(Ended),
}

/// All events that are awaited.
#[derive(Default)]
pub struct Awaiting {
    rows: Mutex<HashMap<Uid, Weak<Awaited>>>,
    count: AtomicUsize,
}

impl Awaiting {
    fn rows(&self) -> MutexGuard<'_, HashMap<Uid, Weak<Awaited>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the event's ending at this upstream is told. `None`: [`AWAITED_MAX`] are awaited already.
    pub fn begin(self: &Arc<Self>, uid: Uid, upstream: &Arc<str>) -> Option<Arc<Awaited>> {
        let mut rows = self.rows();
        if rows.len() >= AWAITED_MAX {
            return None;
        }
        let stage = watch::Sender::new(Stage::Open);
        let awaited = Arc::new(Awaited { uid, upstream: Arc::clone(upstream), stage, among: Arc::clone(self) });
        rows.insert(uid, Arc::downgrade(&awaited));
        self.count.store(rows.len(), Ordering::Release);
        Some(awaited)
    }

    /// The event, if somebody waits for its ending at this upstream. Takes no lock while nothing is awaited.
    pub fn find(&self, uid: Uid, upstream: &str) -> Option<Arc<Awaited>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        // The last one that goes takes the lock itself: it must be free by then.
        let found = self.rows().get(&uid).and_then(Weak::upgrade);
        found.filter(|awaited| *awaited.upstream == *upstream)
    }
}

/// An event that is awaited, by its sender or by those of its duplicates.
pub struct Awaited {
    uid: Uid,
    /// The upstream whose ending counts: the first-listed.
    upstream: Arc<str>,
    stage: watch::Sender<Stage>,
    among: Arc<Awaiting>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut rows = self.among.rows();
        rows.remove(&self.uid);
        self.among.count.store(rows.len(), Ordering::Release);
    }
}

impl Awaited {
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Somebody is to be told that the event is taken, or its sender is gone. False: too late, it is refused.
    pub fn keep(&self) -> bool {
        let mut kept = true;
        self.stage.send_if_modified(|stage| match stage {
            Stage::Open => {
                *stage = Stage::Kept;
                true
            }
            Stage::Refusing | Stage::Ended(Ended::Refused(_) | Ended::Unwritten) => {
                kept = false;
                false
            }
            Stage::Kept | Stage::Ended(_) => false,
        });
        kept
    }

    /// The upstream refused it. False: too late, it was told to be taken, and stays so.
    pub fn refuse(&self) -> bool {
        self.stage.send_if_modified(|stage| {
            let open = matches!(stage, Stage::Open);
            if open {
                *stage = Stage::Refusing;
            }
            open
        })
    }

    /// How it ended; the first ending counts.
    pub fn end(&self, ended: Ended) {
        self.stage.send_if_modified(|stage| {
            let is_first = !matches!(stage, Stage::Ended(_));
            if is_first {
                *stage = Stage::Ended(ended);
            }
            is_first
        });
    }

    /// The ending, if it has come.
    pub fn now(&self) -> Option<Ended> {
        match &*self.stage.borrow() {
            Stage::Ended(ended) => Some(ended.clone()),
            _ => None,
        }
    }

    /// Waits for the ending.
    pub async fn ended(&self) -> Ended {
        let mut stages = self.stage.subscribe();
        match stages.wait_for(|stage| matches!(stage, Stage::Ended(_))).await.as_deref() {
            Ok(Stage::Ended(ended)) => ended.clone(),
            // It cannot be closed while this is here.
            _ => Ended::Undelivered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Arc<Said> {
        Arc::new(Said { status: 400, content_type: None, body: Bytes::new() })
    }

    fn begun() -> (Arc<Awaiting>, Arc<Awaited>) {
        let awaiting = Arc::<Awaiting>::default();
        let awaited = awaiting.begin(Uid(1), &"pager".into()).unwrap();
        (awaiting, awaited)
    }

    #[tokio::test]
    async fn who_is_first_decides_what_becomes_of_a_refused_event() {
        let (_all, awaited) = begun();
        assert!(awaited.keep() && !awaited.refuse() && awaited.keep());
        let (_all, awaited) = begun();
        assert!(awaited.refuse() && !awaited.keep() && !awaited.refuse());
        awaited.end(Ended::Refused(said()));
        assert!(!awaited.keep());
        awaited.end(Ended::Undelivered);
        assert!(matches!(awaited.ended().await, Ended::Refused(_)), "the first ending counts");
    }

    #[tokio::test]
    async fn what_was_kept_is_still_told_to_whoever_waits() {
        let (all, awaited) = begun();
        assert!(awaited.keep());
        all.find(Uid(1), "pager").unwrap().end(Ended::Delivered(said()));
        assert!(matches!(awaited.ended().await, Ended::Delivered(_)));
        assert!(awaited.keep(), "delivered: it may be told so");
    }

    #[test]
    fn it_is_found_by_its_upstream_while_somebody_waits() {
        let (all, awaited) = begun();
        assert!(all.find(Uid(1), "archive").is_none() && all.find(Uid(2), "pager").is_none());
        let again = all.find(Uid(1), "pager").unwrap();
        drop(awaited);
        assert!(all.find(Uid(1), "pager").is_some(), "a duplicate still waits");
        drop(again);
        assert!(all.find(Uid(1), "pager").is_none());
        assert_eq!(all.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_are_awaited_than_the_limit() {
        let all = Arc::<Awaiting>::default();
        let upstream = Arc::<str>::from("pager");
        let kept: Vec<_> = (0..AWAITED_MAX).map(|n| all.begin(Uid(n as u128), &upstream).unwrap()).collect();
        assert!(all.begin(Uid(u128::MAX), &upstream).is_none());
        drop(kept);
        assert!(all.begin(Uid(u128::MAX), &upstream).is_some());
    }
}
