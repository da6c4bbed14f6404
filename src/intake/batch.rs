//! Requests with many events (DESIGN 5.1). Each event is claimed and committed by itself: what is free goes to the log
//! at once and shares its syncs, what another event holds comes after. A request never waits while it holds a claim.
//! An element that is no event is refused alone and kept as a dead letter, for its sender would not come back.

use std::collections::HashSet;

use bytes::Bytes;

use super::wait::{Contended, On};
use super::{Came, Ended, Intake, Known, Said, Trail, Unaddressed, invalid, not_json};
use crate::dedup::{self, Claimed};
use crate::dialect::{Judged, Split, SplitError, json};
use crate::event::{Event, Key, StateKey, Tolerated};
use crate::metrics::Ticket;
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::Waits;

/// A batch body, as it came.
pub(super) struct Gathered {
    pub(super) bytes: Bytes,
    pub(super) tolerated: Tolerated,
    /// Of its first event.
    pub(super) ticket: Ticket,
}

/// An element of a batch, read.
struct Element {
    raw: Bytes,
    /// Or why it is none.
    heard: Result<Option<Judged>, Refusal>,
}

/// An element whose key another event holds.
struct Later {
    event: Event,
    rules: dedup::Rules,
    ticket: Ticket,
}

/// How far the elements of a request have come.
#[derive(Default)]
struct Progress {
    waits: Vec<(Waits, Option<Key>)>,
    later: Vec<Later>,
    /// Keys of what comes later: what follows on them comes later too, in order.
    held: HashSet<StateKey>,
    /// The first refusal of an event that might be taken another time: the whole request is answered with it, and the
    /// rest stays committed.
    refused: Option<Refusal>,
}

impl Progress {
    fn refuse(&mut self, refusal: Refusal) {
        self.refused.get_or_insert(refusal);
    }
}

impl Intake {
    /// Steps 8 to 12 for each event of a batch.
    pub(super) async fn take_batch(
        &self,
        came: &Came,
        known: &Known,
        batch: Gathered,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let Gathered { bytes, tolerated, ticket } = batch;
        let (ticket, (envelope, elements)) = ticket.check(self.elements(known, &bytes))?;
        if elements.is_empty() {
            ticket.absorb(Outcome::Ignored);
            return Ok(());
        }
        let mut first = Some(ticket);
        let mut progress = Progress::default();
        for element in elements {
            let ticket = first.take().unwrap_or_else(|| self.metrics.receive(came.worker));
            self.take_element(came, known, (&envelope, tolerated), element, ticket, trail, &mut progress);
        }
        let Progress { waits, later, mut refused, .. } = progress;
        for (waits, key) in waits {
            match Ended::stored(waits.await, key) {
                Ok(ended) => trail.end(ended, true),
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                }
            }
        }
        for later in later {
            if let Err(refusal) = self.take_later(came, known, later, trail).await {
                refused.get_or_insert(refusal);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Takes a body apart and reads every element.
    fn elements(&self, known: &Known, body: &Bytes) -> Result<(Option<Bytes>, Vec<Element>), Refusal> {
        let Split { envelope, elements } =
            known.dialect.split(known.route.endpoint, body).map_err(|error| match error {
                SplitError::Json(error) => not_json(error),
                SplitError::Faults(faults) => invalid(faults),
                SplitError::EnvelopeTooLarge => Refusal::new(
                    Reason::BodyTooLarge,
                    "what the body says of all its events is larger than one event may be",
                ),
            })?;
        let cap = known.event_bytes_max(&self.terms.load().limits);
        if envelope.len() > cap {
            return Err(Refusal::new(
                Reason::BodyTooLarge,
                format!("the body around its events is larger than {cap} B"),
            ));
        }
        let read = |document: Option<json::Document<'_>>| -> Vec<Element> {
            elements.iter().map(|range| self.element(known, document, body.slice(range.clone()), cap)).collect()
        };
        if envelope.is_empty() {
            return Ok((None, read(None)));
        }
        let all = json::with_document(&envelope, |document| read(Some(document))).map_err(not_json)?;
        Ok((Some(envelope), all))
    }

    fn element(&self, known: &Known, envelope: Option<json::Document<'_>>, raw: Bytes, cap: usize) -> Element {
        if raw.len() > cap {
            let refusal = Refusal::new(Reason::BodyTooLarge, format!("one event is larger than {cap} B"));
            return Element { raw: raw.slice(..cap), heard: Err(refusal) };
        }
        let default = known.integration.config.default_severity;
        let mut heard = None;
        let decoded = json::with_document(&raw, |document| {
            known.dialect.decode(&known.asked(envelope), document, &mut |said| {
                heard = Some(Judged { severity: said.judged.severity.or(default), ..said.judged });
            })
        });
        let heard = match decoded {
            Ok(Ok(())) => Ok(heard),
            Ok(Err(faults)) => Err(invalid(faults)),
            Err(error) => Err(not_json(error)),
        };
        Element { raw, heard }
    }

    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn take_element(
        &self,
        came: &Came,
        known: &Known,
        (envelope, tolerated): (&Option<Bytes>, Tolerated),
        element: Element,
        ticket: Ticket,
        trail: &mut Trail,
        progress: &mut Progress,
    ) {
        let heard = match element.heard {
            Ok(Some(heard)) => heard,
            Ok(None) => {
                ticket.absorb(Outcome::Ignored);
                return trail.end(Ended { outcome: Some(Outcome::Ignored), incident: None, key: None }, false);
            }
            Err(refusal) => {
                ticket.reject(refusal.reason);
                return trail.end(Ended { outcome: None, incident: None, key: None }, false);
            }
        };
        let said = Said { raw: element.raw, tolerated, envelope: envelope.clone() };
        let (event, rules) = match self.event(known, said, heard) {
            Ok(made) => made,
            Err(Unaddressed::Refused(refusal)) => {
                ticket.reject(refusal.reason);
                return progress.refuse(refusal);
            }
            Err(Unaddressed::Unknown | Unaddressed::Absorbed(_)) => return ticket.absorb(Outcome::Unknown),
        };
        if let Some(watched) = &mut trail.watched {
            watched.begins(&event);
        }
        let key = event.state_key();
        if key.is_some_and(|key| progress.held.contains(&key)) {
            return progress.later.push(Later { event, rules, ticket });
        }
        match self.dedup.claim(&event, known.integration.targets(&event), rules) {
            Claimed::Contended(_) => {
                progress.held.extend(key);
                progress.later.push(Later { event, rules, ticket });
            }
            claimed => match self.admit(came, known, claimed, event, rules, ticket, trail) {
                Ok(Some(On::Log(waits, key))) => progress.waits.push((waits, key)),
                Ok(_) => {}
                Err(refusal) => progress.refuse(refusal),
            },
        }
    }

    /// An element whose key was held when it was read.
    async fn take_later(&self, came: &Came, known: &Known, later: Later, trail: &mut Trail) -> Result<(), Refusal> {
        let Later { event, rules, ticket } = later;
        let on = match self.dedup.claim(&event, known.integration.targets(&event), rules) {
            Claimed::Contended(line) => Some(On::Line(Box::new(Contended { line, event, rules, ticket }))),
            claimed => self.admit(came, known, claimed, event, rules, ticket, trail)?,
        };
        match on {
            Some(on) => self.wait_for(came, known, on, trail).await,
            None => Ok(()),
        }
    }
}
