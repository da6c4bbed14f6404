//! The tap: decisions as they are made, for those who watch through the admin API. `intake` tells, `admin` listens. While
//! nobody listens a request pays one relaxed load; a listener that is slow loses decisions, never a request's time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Serialize, Serializer};
use tokio::sync::Notify;

use crate::event::{Action, Key, Micros, Uid};
use crate::outcome::{Outcome, Reason};

/// Those who may listen at once.
pub const LISTENERS_MAX: usize = 8;
/// Decisions that wait for one listener, about 150 B each.
pub const QUEUED_MAX: usize = 1024;

/// What became of one event, or of a request that was refused. Nothing here is a secret: keys are shown masked.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    pub at: Micros,
    #[serde(serialize_with = "text")]
    pub request_id: Arc<str>,
    #[serde(serialize_with = "name", skip_serializing_if = "Option::is_none")]
    pub integration: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it was refused.
    #[serde(serialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub status: u16,
    #[serde(serialize_with = "masked", skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Where the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_uid: Option<Uid>,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[allow(clippy::ref_option)] // serde's own form.
fn name<S: Serializer>(name: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_deref().unwrap_or_default())
}

#[allow(clippy::ref_option)] // serde's own form.
fn label<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason.map(Reason::label).unwrap_or_default())
}

#[allow(clippy::ref_option)] // serde's own form.
fn masked<S: Serializer>(key: &Option<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&key.as_ref().map(Key::masked).unwrap_or_default())
}

/// Which decisions a listener wants; an absent part lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub integration: Option<String>,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    /// The whole canonical key.
    pub key: Option<String>,
}

impl Filter {
    fn passes(&self, decision: &Decision) -> bool {
        let key = || decision.key.as_ref().map(Key::canon);
        self.integration.as_deref().is_none_or(|name| decision.integration.as_deref() == Some(name))
            && self.outcome.is_none_or(|outcome| decision.outcome == Some(outcome))
            && self.reason.is_none_or(|reason| decision.reason == Some(reason))
            && self.key.as_deref().is_none_or(|wanted| key() == Some(wanted))
    }
}

#[derive(Default)]
struct Queue {
    decisions: Mutex<VecDeque<Arc<Decision>>>,
    lost: AtomicU64,
    filter: Filter,
    arrived: Notify,
    closed: AtomicBool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Decision>>> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where decisions are told and heard.
#[derive(Default)]
pub struct Tap {
    heard: AtomicBool,
    queues: ArcSwap<Vec<Arc<Queue>>>,
    /// Held while listeners come and go.
    change: Mutex<bool>,
}

impl Tap {
    /// Whether anybody listens: all that a request asks otherwise.
    pub fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.queues.load().len()
    }

    /// Tells every listener who wants to know. Never waits for one.
    pub fn tell(&self, decision: Decision) {
        let decision = Arc::new(decision);
        for queue in self.queues.load().iter().filter(|queue| queue.filter.passes(&decision)) {
            let mut decisions = queue.lock();
            if decisions.len() < QUEUED_MAX {
                decisions.push_back(Arc::clone(&decision));
            } else {
                queue.lost.fetch_add(1, Ordering::Relaxed);
            }
            drop(decisions);
            queue.arrived.notify_one();
        }
    }

    /// Listens from now on. `None`: [`LISTENERS_MAX`] do already, or the process is stopping.
    pub fn listen(self: &Arc<Self>, filter: Filter) -> Option<Listener> {
        let closed = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues = Vec::clone(&self.queues.load());
        if *closed || queues.len() >= LISTENERS_MAX {
            return None;
        }
        let queue = Arc::new(Queue { filter, ..Queue::default() });
        queues.push(Arc::clone(&queue));
        self.queues.store(Arc::new(queues));
        self.heard.store(true, Ordering::Relaxed);
        Some(Listener { tap: Arc::clone(self), queue })
    }

    /// Ends every listener once it has what was told, and takes no more.
    pub fn close(&self) {
        let mut closed = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        for queue in self.queues.load().iter() {
            queue.closed.store(true, Ordering::Release);
            queue.arrived.notify_one();
        }
    }
}

/// What a listener hears next.
#[derive(Clone, Debug)]
pub enum Heard {
    Decision(Arc<Decision>),
    /// So many went past since the last one heard.
    Lost(u64),
}

/// Hears decisions until it is dropped.
pub struct Listener {
    tap: Arc<Tap>,
    queue: Arc<Queue>,
}

impl Listener {
    fn take(&self) -> Option<Heard> {
        let mut decisions = self.queue.lock();
        // What was lost came behind everything that waits.
        if let Some(decision) = decisions.pop_front() {
            return Some(Heard::Decision(decision));
        }
        let lost = self.queue.lost.swap(0, Ordering::Relaxed);
        (lost > 0).then_some(Heard::Lost(lost))
    }

    /// The next one, if it has come.
    pub fn try_next(&mut self) -> Option<Heard> {
        self.take()
    }

    /// The next one. `None`: the tap is closed.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let closed = self.queue.closed.load(Ordering::Acquire);
            if let Some(heard) = self.take() {
                return Some(heard);
            }
            if closed {
                return None;
            }
            self.queue.arrived.notified().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _change = self.tap.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues = Vec::clone(&self.tap.queues.load());
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.tap.heard.store(!queues.is_empty(), Ordering::Relaxed);
        self.tap.queues.store(Arc::new(queues));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::KeyKind;

    fn decision(outcome: Outcome, key: &str) -> Decision {
        Decision {
            at: Micros(1),
            request_id: "r".into(),
            integration: Some("payments".into()),
            dialect: Some("squadcast"),
            action: Some(Action::Trigger),
            outcome: Some(outcome),
            reason: None,
            status: 202,
            key: Key::parse(key, KeyKind::String),
            event_uid: None,
        }
    }

    #[tokio::test]
    async fn a_slow_listener_loses_what_has_no_room_and_is_told_how_many() {
        let tap = Arc::new(Tap::default());
        assert!(!tap.is_heard());
        let mut listener = tap.listen(Filter::default()).unwrap();
        assert!(tap.is_heard());
        (0..QUEUED_MAX + 3).for_each(|number| tap.tell(decision(Outcome::Created, &format!("key-{number}"))));
        for number in 0..QUEUED_MAX {
            let Some(Heard::Decision(heard)) = listener.next().await else { panic!("{number} was lost") };
            assert_eq!(heard.key.as_ref().unwrap().canon(), format!("key-{number}"));
        }
        assert!(matches!(listener.next().await, Some(Heard::Lost(3))));
        tap.close();
        assert!(listener.next().await.is_none());
        drop(listener);
        assert!(!tap.is_heard() && tap.listen(Filter::default()).is_none(), "closed for good");
    }

    #[tokio::test]
    async fn listeners_hear_what_they_asked_for_and_are_no_more_than_eight() {
        let tap = Arc::new(Tap::default());
        let outcome = Filter { outcome: Some(Outcome::Duplicate), ..Filter::default() };
        let mut duplicates = tap.listen(outcome).unwrap();
        let mut key = tap.listen(Filter { key: Some("a-key".to_owned()), ..Filter::default() }).unwrap();
        let rest: Vec<_> = (2..LISTENERS_MAX).map(|_| tap.listen(Filter::default()).unwrap()).collect();
        assert!(tap.listen(Filter::default()).is_none());
        drop(rest);
        tap.tell(decision(Outcome::Created, "a-key"));
        tap.tell(decision(Outcome::Duplicate, "another"));
        let heard = |heard| match heard {
            Some(Heard::Decision(decision)) => serde_json::to_value(&*decision).unwrap(),
            other => panic!("{other:?}"),
        };
        let (first, second) = (heard(duplicates.next().await), heard(key.next().await));
        assert_eq!((&first["outcome"], &first["key"]), (&"duplicate".into(), &"***".into()));
        assert_eq!((&second["outcome"], second.get("reason")), (&"created".into(), None));
    }
}
