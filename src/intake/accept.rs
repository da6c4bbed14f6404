//! Steps 8 to 12 of contracts 2.1 for one event: what it says, its claim, the event limit, the log.

use std::sync::Arc;

use bytes::Bytes;

use super::delivery::Delivery;
use super::event::{Said, Unaddressed};
use super::known::{invalid, not_json};
use super::wait::{Asked, Contended, On};
use super::{Came, Ended, Intake, Known, Trail, records, shape};
use crate::awaited::Awaited;
use crate::claim::{Admitted, Pacing};
use crate::dedup::{self, Claimed};
use crate::dialect::{Judged, Takes, json};
use crate::event::{Action, Event, Key};
use crate::gate::Integration;
use crate::metrics::Ticket;
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::Append;

impl Intake {
    /// Steps 8 and 9: parse and validate. `None`: a body that says nothing.
    pub(super) fn hear(&self, known: &Known, body: &Bytes) -> Result<Option<Judged>, Refusal> {
        // Of what is refused now and then one is looked at once more: for the sample on the status page.
        Self::listen(known, body).map_err(|refusal| match self.told.is_next(refusal.reason) {
            true => refusal.with_shape(shape::of(body)),
            false => refusal,
        })
    }

    fn listen(known: &Known, body: &Bytes) -> Result<Option<Judged>, Refusal> {
        let asked = known.asked(None);
        if let Some(judged) = known.dialect.judge(asked.endpoint, body, asked.rules) {
            return Ok(Some(known.with_default(judged)));
        }
        let is_empty = body.iter().all(u8::is_ascii_whitespace);
        let text: &[u8] = match known.route.takes {
            Takes::Nothing => b"{}",
            Takes::Perhaps if is_empty => b"{}",
            _ => body,
        };
        let made = known.dialect.as_json(&asked, text).map_err(invalid)?;
        json::with_document(made.as_deref().unwrap_or(text), |document| known.hear(document)).map_err(not_json)?
    }

    /// Steps 10 to 12: claim, event limit, log. What ended is in `trail`; else what it waits for comes back.
    pub(super) fn accept(
        &self,
        came: &Came<'_>,
        known: &Known,
        body: Said,
        heard: Judged,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { integration, .. } = known;
        if let Some(outcome) = heard.ends {
            ticket.absorb(outcome);
            trail.end(Ended { outcome: Some(outcome), incident: None, key: heard.key }, false);
            return Ok(None);
        }
        let (event, rules) = match self.event(known, body, heard) {
            Ok((event, rules)) => (Event { trace: trail.trace.clone(), ..event }, rules),
            Err(Unaddressed::Unknown) => {
                ticket.absorb(Outcome::Unknown);
                trail.end(Ended { outcome: Some(Outcome::Unknown), incident: None, key: None }, false);
                return Ok(None);
            }
            Err(Unaddressed::Absorbed(outcome, incident)) => {
                ticket.absorb(outcome);
                trail.end(Ended { outcome: Some(outcome), incident, key: None }, false);
                return Ok(None);
            }
            Err(Unaddressed::Refused(refusal)) => {
                ticket.reject(refusal.reason);
                return Err(refusal);
            }
        };
        if let Some(watched) = &mut trail.watched {
            watched.begins(&event, Some(event.action));
        }
        let targets = integration.targets(&event);
        let nobody_can = || {
            (known.dialect.refuses_what_nobody_does() && !integration.is_done(&event))
                || (known.dialect.refuses_what_nobody_is_told() && targets.is_empty())
        };
        if event.action == Action::Admin && nobody_can() {
            ticket.reject(Reason::NotSupported);
            return Err(Refusal::new(Reason::NotSupported, "no upstream of this integration can do this"));
        }
        if event.action == Action::Change && targets.is_empty() {
            // No incident, and nobody to tell (contracts/pagerduty.md 6).
            ticket.absorb(Outcome::Ignored);
            trail.end(Ended { outcome: Some(Outcome::Ignored), incident: None, key: event.key }, false);
            return Ok(None);
        }
        match self.dedup.claim(&event, targets, rules) {
            Claimed::Contended(line) => Ok(Some(On::Line(Box::new(Contended { line, event, rules, ticket })))),
            Claimed::Asking(asking) => Ok(Some(On::Others(Box::new(Asked { asking, event, rules, ticket })))),
            claimed => self.admit(came, known, claimed, event, rules, ticket, trail),
        }
    }

    /// Step 11, and the hand-over to the log.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    pub(super) fn admit(
        &self,
        came: &Came<'_>,
        known: &Known,
        claimed: Claimed,
        mut event: Event,
        rules: dedup::Rules,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { dialect, integration, .. } = known;
        let (claim, pacing) = match claimed {
            Claimed::Owned(claim, pacing) if self.is_beyond_the_unknown_line(pacing, integration) => {
                // The claim is released: a resolve of a key nobody knows changes nothing here.
                self.metrics.unknown_absorbed.inc();
                ticket.absorb(claim.outcome);
                trail.end(Ended { outcome: Some(claim.outcome), incident: None, key: event.key }, false);
                return Ok(None);
            }
            Claimed::Owned(claim, pacing) => (claim, pacing),
            Claimed::Absorbed { outcome, incident, awaited } => {
                if rules.has_ids {
                    trail.view = self.view_now(&integration.config, &event, rules);
                }
                if outcome == Outcome::Replayed
                    && let (Some(known), Some(said)) = (&trail.view, &event.view)
                    && dialect.says_otherwise(known, said)
                {
                    self.metrics.idempotency_body_mismatch.inc();
                }
                let ended = Ended { outcome: Some(outcome), incident, key: event.key };
                return Ok(self.absorb(known, ended, event.action, awaited, ticket, trail));
            }
            Claimed::Refused => {
                ticket.reject(Reason::UnknownResolve);
                let refusal = Refusal::new(Reason::UnknownResolve, "no open incident has this key");
                return Err(refusal.with_errors(vec!["event_id: names no open incident".into()]));
            }
            Claimed::NotOpen => {
                ticket.reject(Reason::NotOpen);
                return Err(Refusal::new(Reason::NotOpen, "the incident is resolved"));
            }
            Claimed::Contended(_) | Claimed::Asking(_) | Claimed::Busy => {
                ticket.reject(Reason::KeyContended);
                return Err(Refusal::new(Reason::KeyContended, "too many changes of this key at once"));
            }
        };
        let mut claim = claim;
        if rules.passes {
            // The id is that upstream's.
            let first = integration.config.upstreams.first();
            claim.targets = claim.targets.iter().filter(|target| Some(&target.name) == first).cloned().collect();
        }
        if claim.outcome == Outcome::Escalated {
            claim.targets = self.dedup.raised(claim.key(), &claim.targets, integration.raised(&event));
        }
        if rules.has_ids && !rules.passes {
            let before = if claim.continues { self.view_now(&integration.config, &event, rules) } else { None };
            event.view = records::fold(*dialect, before.as_deref(), &event);
            trail.view = event.view.clone().map(Box::new);
        }
        let (key, action) = (event.key.clone(), event.action);
        let worker = came.worker();
        match integration.admit(claim, event, ticket, dialect.retries_overload(), pacing) {
            // From here on the log alone decides, whether or not this request lives (DESIGN 5.1).
            Ok(admitted) if integration.config.ack.is_some() => {
                self.append_awaited(worker, known, admitted, key, action, trail)
            }
            Ok(admitted) => self.append(worker, admitted, key, trail),
            Err((refusal, ticket)) => {
                ticket.reject(refusal.reason);
                Err(refusal)
            }
        }
    }

    /// To the log.
    pub(super) fn append(
        &self,
        worker: usize,
        admitted: Admitted,
        key: Option<Key>,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        match self.store.append(worker, admitted) {
            Append::Ended(stored) => {
                trail.end(Ended::stored(stored, key)?, true);
                Ok(None)
            }
            Append::Waits(waits) => Ok(Some(On::Log(waits, key))),
        }
    }

    /// An event that changed nothing. One that repeats an event whose sender waits for its delivery waits as that does.
    fn absorb(
        &self,
        known: &Known,
        ended: Ended,
        action: Action,
        awaited: Option<Arc<Awaited>>,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Option<On> {
        let outcome = ended.outcome?;
        if let Some(awaited) = awaited.filter(|_| !known.takes_batch()) {
            return Some(On::Delivery(Box::new(Delivery::repeat(known, awaited, ended, outcome, ticket))));
        }
        self.tell_again(known, &ended, action, trail);
        ticket.absorb(outcome);
        trail.end(ended, false);
        None
    }

    pub(super) fn is_beyond_the_unknown_line(&self, pacing: Pacing, integration: &Integration) -> bool {
        pacing.has(Pacing::UNKNOWN) && (self.unknown_line_is_full)(&integration.config.name)
    }
}
