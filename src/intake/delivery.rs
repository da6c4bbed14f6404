//! Integrations whose answers wait until the first-listed upstream has the event (`ack: delivered`, `respond: upstream`;
//! DESIGN 5.7). Who gives up waiting gets the answer of an event that is spooled. A refusal that comes while its sender
//! waits is the sender's to know: the event never was, and its retry is new.
//!
//! A batch cannot be told that one of its events was refused: those are kept as dead letters, and only its header says
//! whether all were delivered.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use super::wait::On;
use super::{Came, Ended, Intake, Known as Sender, Peer, Trail};
use crate::awaited::{Awaited, Ended as Ending, Said};
use crate::claim::Admitted;
use crate::dedup::Dedup;
use crate::event::{Action, Key, StateKey};
use crate::metrics::Ticket;
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::Append;

const ACK: HeaderName = HeaderName::from_static("x-surgegate-ack");
const SPOOLED: HeaderValue = HeaderValue::from_static("spooled");
const DELIVERED: HeaderValue = HeaderValue::from_static("delivered");

/// What an answer tells of the delivery.
#[derive(Default)]
pub(super) struct Known {
    is_delivered: bool,
    /// The upstream's answer, where it takes the place of ours.
    relayed: Option<Arc<Said>>,
    /// It is the answer to what the event repeats, which was delivered before.
    is_stored: bool,
    /// Events of a batch that are on their way.
    batch: Vec<Arc<Awaited>>,
    /// Some of the batch cannot be waited for.
    some_are_not: bool,
    /// The event was refused, and is not taken.
    refused: bool,
}

impl Known {
    /// The answer, with what is known.
    pub(super) fn told(&self, mut response: Response<Full<bytes::Bytes>>) -> Response<Full<bytes::Bytes>> {
        if let Some(said) = &self.relayed {
            *response.body_mut() = Full::new(said.body.clone());
            *response.status_mut() = StatusCode::from_u16(said.status).unwrap_or(StatusCode::BAD_GATEWAY);
            match &said.content_type {
                Some(content_type) => response.headers_mut().insert(CONTENT_TYPE, content_type.clone()),
                None => response.headers_mut().remove(CONTENT_TYPE),
            };
        }
        if !self.refused && !self.is_stored {
            response.headers_mut().insert(ACK, if self.is_delivered { DELIVERED } else { SPOOLED });
        }
        response
    }
}

/// An upstream's answer, as a repeat of what it answers reads it.
fn again(known: &Sender, outcome: Outcome, said: Arc<Said>) -> Arc<Said> {
    match known.dialect.again(outcome, &said.body) {
        Some(body) => Arc::new(Said { body, ..Said::clone(&said) }),
        None => said,
    }
}

/// A sender that waits. Gone before it was told anything, its event stays, whatever the upstream says.
struct Waiting {
    awaited: Arc<Awaited>,
    dedup: Arc<Dedup>,
    /// The key that the event changed.
    key: Option<StateKey>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.awaited.keep()
            && let Some(key) = self.key
        {
            self.dedup.not_awaited(key, self.awaited.uid());
        }
    }
}

/// An event that is absorbed unless what it repeats is refused.
struct Absorbed(Option<(Ticket, Outcome)>);

impl Absorbed {
    fn refuse(mut self, reason: Reason) {
        if let Some((ticket, _)) = self.0.take() {
            ticket.reject(reason);
        }
    }
}

impl Drop for Absorbed {
    fn drop(&mut self) {
        if let Some((ticket, outcome)) = self.0.take() {
            ticket.absorb(outcome);
        }
    }
}

/// What a request waits for.
pub(super) struct Delivery {
    of: Of,
    timeout: Duration,
    relays: bool,
}

enum Of {
    /// Its own event, on its way to the log; `None`: nobody tells how that ends at the upstream.
    Event(Append, Option<Key>, Action, Option<Waiting>),
    /// The event that it repeats.
    Repeated(Arc<Awaited>, Ended, Absorbed),
}

impl Delivery {
    /// Of an event that repeats an awaited one. An integration that no longer waits must not say that it is taken either,
    /// unless it stays so.
    pub(super) fn repeat(
        known: &Sender,
        awaited: Arc<Awaited>,
        ended: Ended,
        outcome: Outcome,
        ticket: Ticket,
    ) -> Self {
        let ack = known.integration.config.ack;
        Self {
            of: Of::Repeated(awaited, ended, Absorbed(Some((ticket, outcome)))),
            timeout: ack.map_or(Duration::ZERO, |ack| ack.timeout),
            relays: ack.is_some_and(|ack| ack.relays),
        }
    }
}

impl Intake {
    /// Hands an event to the log whose answer waits for more than that.
    pub(super) fn append_awaited(
        &self,
        worker: usize,
        known: &Sender,
        admitted: Admitted,
        key: Option<Key>,
        action: Action,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let config = &known.integration.config;
        let changed = admitted.claim.key();
        let goes_there = |name: &&Arc<str>| admitted.claim.targets.iter().any(|target| target.name == **name);
        let first = config.upstreams.first().filter(goes_there);
        let awaited = first.and_then(|upstream| self.awaiting.begin(admitted.event.uid, upstream));
        if known.takes_batch() {
            let has_targets = !admitted.claim.targets.is_empty();
            let known = trail.delivery.get_or_insert_default();
            match awaited {
                Some(awaited) => {
                    awaited.keep();
                    known.batch.push(awaited);
                }
                None => known.some_are_not |= has_targets,
            }
            return self.append(worker, admitted, key, trail);
        }
        let waiting = awaited.map(|awaited| {
            if let Some(changed) = changed {
                self.dedup.await_delivery(changed, &awaited);
            }
            Waiting { awaited, dedup: Arc::clone(&self.dedup), key: changed }
        });
        let append = self.store.append(worker, admitted);
        let (timeout, relays) = config.ack.map_or((Duration::ZERO, false), |ack| (ack.timeout, ack.relays));
        Ok(Some(On::Delivery(Box::new(Delivery { of: Of::Event(append, key, action, waiting), timeout, relays }))))
    }

    pub(super) async fn wait_for_delivery(
        &self,
        came: &Came<'_>,
        known: &Sender,
        delivery: Delivery,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let Delivery { of, timeout, relays } = delivery;
        match of {
            Of::Event(append, key, action, waiting) => {
                let ended = Ended::stored(append.await, key)?;
                let told = match &waiting {
                    Some(waiting) => wait(&waiting.awaited, timeout, &**came.peer).await,
                    None => Ending::Undelivered,
                };
                tell(trail, &told, relays).inspect_err(|refusal| {
                    if let Some(watched) = &mut trail.watched {
                        watched.refuses(refusal.reason, true);
                    }
                })?;
                if relays && let Some(incident) = &ended.incident {
                    let said = trail.delivery.as_ref().and_then(|told| told.relayed.as_ref());
                    self.answered.took(known, action, incident.iid, said);
                }
                trail.end(ended, true);
            }
            Of::Repeated(awaited, ended, absorbed) => {
                let told = wait(&awaited, timeout, &**came.peer).await;
                if let Err(refusal) = tell(trail, &told, relays) {
                    absorbed.refuse(refusal.reason);
                    return Err(refusal);
                }
                if known.integration.config.ack.is_none() {
                    trail.delivery = None;
                }
                if let (Some(told), Some(outcome)) = (&mut trail.delivery, ended.outcome) {
                    told.relayed = told.relayed.take().map(|said| again(known, outcome, said));
                }
                trail.end(ended, false);
            }
        }
        Ok(())
    }

    /// What the upstream said to what an event repeats stands for our answer too.
    pub(super) fn tell_again(&self, known: &Sender, ended: &Ended, action: Action, trail: &mut Trail) {
        let relays = known.integration.config.ack.is_some_and(|ack| ack.relays);
        if let (true, Some(outcome), Some(incident)) = (relays, ended.outcome, &ended.incident)
            && let Some(said) = self.answered.find(known, action, incident.iid)
        {
            let relayed = Some(again(known, outcome, said));
            trail.delivery = Some(Box::new(Known { relayed, is_stored: true, ..Known::default() }));
        }
    }

    /// Waits for all events of a batch at once.
    pub(super) async fn wait_for_all(&self, known: &Sender, trail: &mut Trail) {
        let Some(ack) = known.integration.config.ack else { return };
        let Some(delivery) = &mut trail.delivery else { return };
        let deadline = Instant::now() + ack.timeout;
        let mut all = !delivery.some_are_not;
        for awaited in std::mem::take(&mut delivery.batch) {
            all &= matches!(timeout_at(deadline, awaited.ended()).await, Ok(Ending::Delivered(_)));
        }
        delivery.is_delivered = all;
    }
}

/// Waits for an event's ending; who waited in vain has it kept. So has who closed its side: it may be gone, or only have
/// nothing more to say.
async fn wait(awaited: &Awaited, at_most: Duration, peer: &dyn Peer) -> Ending {
    let mut gone = false;
    let mut ended = pin!(awaited.ended());
    let ended = poll_fn(|cx| {
        if !gone && peer.poll_gone(cx).is_ready() {
            gone = true;
            awaited.keep();
        }
        ended.as_mut().poll(cx)
    });
    match timeout(at_most, ended).await {
        Ok(ended) => ended,
        Err(_) if awaited.keep() => awaited.now().unwrap_or(Ending::Undelivered),
        // Refused just now: when that is written down, its sender is told.
        Err(_) => awaited.ended().await,
    }
}

/// What the answer tells of an ending.
fn tell(trail: &mut Trail, ended: &Ending, relays: bool) -> Result<(), Refusal> {
    let known = trail.delivery.get_or_insert_default();
    match ended {
        Ending::Delivered(said) => {
            known.is_delivered = true;
            known.relayed = Some(Arc::clone(said)).filter(|said| relays && !said.body.is_empty());
            Ok(())
        }
        Ending::Undelivered => Ok(()),
        Ending::Unwritten => {
            known.refused = true;
            Err(Refusal::new(Reason::SpoolFailed, super::answer::why(Reason::SpoolFailed)))
        }
        Ending::Refused(said) => {
            known.refused = true;
            let refusal = refusal(said.status);
            let is_theirs = refusal.reason == Reason::UpstreamRefused;
            known.relayed = Some(Arc::clone(said)).filter(|said| relays && is_theirs && !said.body.is_empty());
            Err(refusal)
        }
    }
}

/// Whether the event was refused, or we were: a wrong credential or path is not the sender's fault, and may be put right.
fn refusal(status: u16) -> Refusal {
    match status {
        401..=405 | 407 | 410 => Refusal::new(
            Reason::UpstreamUnusable,
            "the upstream does not take events from us now; nothing was accepted, send it again",
        ),
        _ => Refusal::new(Reason::UpstreamRefused, format!("the upstream refused the event with status {status}"))
            .with_errors(vec![format!("body: refused by the upstream with status {status}")]),
    }
}
