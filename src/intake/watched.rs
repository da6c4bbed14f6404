//! What the tap is told of a request, and the log at debug: gathered on its way, only while somebody wants it.

use std::sync::Arc;

use super::traced::trace_id;
use crate::event::trace::Trace;
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
        trace: Option<&Trace>,
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
            // What was refused as a whole has its line in `told`; an element that was refused alone has it here.
            if outcome.is_some() || (refused.is_some() && reason.is_none()) {
                let line = Line { action, outcome, reason: refused, key: key.as_ref(), event_uid };
                log(&refused_request, &line, trace);
            }
            tap.tell(Decision { action, key, outcome, event_uid, reason: refused, ..refused_request.clone() });
        }
    }
}

/// What the log says of one event.
struct Line<'a> {
    action: Option<Action>,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
    key: Option<&'a Key>,
    event_uid: Option<Uid>,
}

/// One line an event. A key that has no value is left out.
fn log(request: &Decision, line: &Line<'_>, trace: Option<&Trace>) {
    let Decision { request_id, integration, dialect, status, .. } = request;
    let (integration, key) = (integration.as_deref(), line.key.map(Key::masked));
    let (action, outcome) = (line.action.map(Action::name), line.outcome.map(Outcome::name));
    let (reason, event_uid) = (line.reason.map(Reason::label), line.event_uid.map(|uid| uid.to_string()));
    let trace_id = trace.map(trace_id);
    tracing::debug!(
        %request_id, integration, dialect, action, outcome, reason, status, key, event_uid, trace_id, "event"
    );
}
