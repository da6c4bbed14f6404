//! What the tap is told of a request, and the log at debug: gathered on its way, only while somebody wants it.

use std::sync::Arc;

use crate::event::{Action, Event, Key, Micros, Uid};
use crate::outcome::{Outcome, Reason};
use crate::tap::{Decision, Tap};

/// An event of the request, as far as it has come.
struct Seen {
    action: Action,
    key: Option<Key>,
    uid: Uid,
    /// With its name where the log has it.
    ended: Option<(Outcome, Option<Uid>)>,
}

/// A request that somebody watches.
#[derive(Default)]
pub(super) struct Watched {
    integration: Option<Arc<str>>,
    events: Vec<Seen>,
}

impl Watched {
    /// While somebody listens, or the log takes a line for each event.
    pub(super) fn if_wanted(tap: &Tap) -> Option<Box<Self>> {
        (tap.is_heard() || tracing::enabled!(tracing::Level::DEBUG)).then(Box::default)
    }

    pub(super) fn knows(&mut self, integration: &Arc<str>) {
        self.integration = Some(Arc::clone(integration));
    }

    pub(super) fn begins(&mut self, event: &Event) {
        self.events.push(Seen { action: event.action, key: event.key.clone(), uid: event.uid, ended: None });
    }

    /// `is_stored`: the log has the event, by its uid.
    pub(super) fn ends(&mut self, outcome: Outcome, is_stored: bool) {
        if let Some(last) = self.events.last_mut() {
            last.ended = Some((outcome, is_stored.then_some(last.uid)));
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
        let Self { integration, events } = self;
        let request_id: Arc<str> = request_id.into();
        let at = Micros::now();
        let refused = Decision {
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
            return tap.tell(refused);
        }
        for Seen { action, key, ended, .. } in events {
            let (outcome, event_uid) = ended.map_or((None, None), |(outcome, uid)| (Some(outcome), uid));
            let reason = reason.filter(|_| outcome.is_none());
            if let Some(outcome) = outcome {
                log(&refused, action, outcome, key.as_ref(), event_uid);
            }
            tap.tell(Decision { action: Some(action), key, outcome, event_uid, reason, ..refused.clone() });
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
