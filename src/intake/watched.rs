//! What the tap is told of a request, and the log at debug: gathered on its way, only while somebody wants it.

use std::sync::Arc;

use crate::event::{Action, Event, Key, Micros, Uid};
use crate::outcome::{Outcome, Reason};
use crate::tap::{Decision, Tap};

/// An event of the request, as far as it has come.
struct Seen {
    /// `None`: an element of a batch that could not be read.
    action: Option<Action>,
    key: Option<Key>,
    uid: Uid,
    /// The log has it, by its uid.
    is_stored: bool,
    ended: Option<Result<Outcome, Reason>>,
}

/// A request that somebody watches.
#[derive(Default)]
pub(super) struct Watched {
    integration: Option<Arc<str>>,
    events: Vec<Seen>,
    /// Which of them is being decided.
    current: usize,
}

impl Watched {
    /// While somebody listens, or the log takes a line for each event.
    pub(super) fn if_wanted(tap: &Tap) -> Option<Box<Self>> {
        (tap.is_heard() || tracing::enabled!(tracing::Level::DEBUG)).then(Box::default)
    }

    pub(super) fn knows(&mut self, integration: &Arc<str>) {
        self.integration = Some(Arc::clone(integration));
    }

    /// An event of which this is known; it is the one that is being decided. Its place comes back.
    pub(super) fn begins(&mut self, event: &Event, action: Option<Action>) -> usize {
        self.current = self.events.len();
        self.events.push(Seen { action, key: event.key.clone(), uid: event.uid, is_stored: false, ended: None });
        self.current
    }

    /// Now another one is being decided.
    pub(super) fn turn_to(&mut self, place: usize) {
        self.current = place;
    }

    /// `is_stored`: the log has the event, by its uid.
    pub(super) fn ends(&mut self, outcome: Outcome, is_stored: bool) {
        self.end(Ok(outcome), is_stored);
    }

    /// It alone was refused; the request may be answered otherwise.
    pub(super) fn refuses(&mut self, reason: Reason, is_stored: bool) {
        self.end(Err(reason), is_stored);
    }

    fn end(&mut self, ended: Result<Outcome, Reason>, is_stored: bool) {
        if let Some(seen) = self.events.get_mut(self.current) {
            (seen.ended, seen.is_stored) = (Some(ended), is_stored);
        }
    }

    /// One decision an event; of a request that was refused before any could be read, one in all.
    pub(super) fn tell(
        self,
        tap: &Tap,
        request_id: &str,
        dialect: Option<&'static str>,
        reason: Option<Reason>,
        status: u16,
    ) {
        let Self { integration, events, .. } = self;
        let request_id: Arc<str> = request_id.into();
        let at = Micros::now();
        let refused_request = Decision {
            at,
            request_id,
            integration,
            dialect,
            action: None,
            outcome: None,
            reason,
            status,
            key: None,
            event_uid: None,
        };
        if events.is_empty() {
            return tap.tell(refused_request);
        }
        for Seen { action, key, uid, is_stored, ended } in events {
            let (outcome, refused) = ended.map_or((None, reason), |ended| (ended.ok(), ended.err()));
            let event_uid = is_stored.then_some(uid);
            if let (Some(action), Some(outcome)) = (action, outcome) {
                log(&refused_request, action, outcome, key.as_ref(), event_uid);
            }
            tap.tell(Decision { action, key, outcome, event_uid, reason: refused, ..refused_request.clone() });
        }
    }
}

/// One line an event (refusals have theirs in `told`).
fn log(request: &Decision, action: Action, outcome: Outcome, key: Option<&Key>, event_uid: Option<Uid>) {
    let Decision { request_id, integration, dialect, status, .. } = request;
    let (integration, key) = (integration.as_deref(), key.map(Key::masked));
    let (action, outcome, event_uid) = (action.name(), outcome.name(), event_uid.map(|uid| uid.to_string()));
    tracing::debug!(%request_id, integration, dialect, action, outcome, status, key, event_uid, "event");
}
