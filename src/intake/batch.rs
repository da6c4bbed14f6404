//! Requests with many events (DESIGN 5.1). Each event is claimed and committed by itself: what is free goes to the log
//! at once and shares its syncs; what another event holds comes after that. A request never waits while it holds a
//! claim: a claim is the log's as soon as it is made, and who waits in a line waits for the log of others alone.
//!
//! Whatever the sender has to send again makes the whole answer 503, and the rest stays: a repeat makes progress. What is
//! no event is refused alone and kept as a dead letter, for these senders do not come back after a 4xx.

mod elements;

use std::collections::HashSet;

use bytes::Bytes;
use tokio::time::Instant;

use super::event::{Said, Unaddressed};
use super::wait::{LINE_WAIT_MAX, On};
use super::{Came, Ended, Intake, Known, Trail};
use crate::dedup::{self, ASK_AGAIN, Answered, Asking, Claimed, Line};
use crate::dialect::Judged;
use crate::event::{Action, Event, Key, StateKey, Tolerated};
use crate::metrics::Ticket;
use crate::outcome::{Class, Outcome, Reason, Refusal};
use crate::store::{Append, Waits};
use elements::{Bad, Element, Elements};

/// Bytes handed to the log before it is waited for: the log's memory is for all requests,
const WINDOW_BYTES: usize = 4 << 20;
/// and so many events at most.
const WINDOW_EVENTS: usize = 4096;
/// What a record takes beside its bodies, about.
const RECORD_BYTES: usize = 512;

/// A batch body, as it came.
pub(super) struct Gathered {
    pub(super) bytes: Bytes,
    pub(super) tolerated: Tolerated,
    /// Of its first event.
    pub(super) ticket: Ticket,
}

/// An event of the batch that is not decided yet.
struct Candidate {
    place: Place,
    event: Event,
    rules: dedup::Rules,
    ticket: Ticket,
}

/// Which event it is: of the batch, and of those that are watched.
#[derive(Clone, Copy)]
struct Place {
    in_batch: usize,
    watched: usize,
}

/// An element that is no event.
struct Rejected {
    place: Place,
    event: Event,
    bad: Bad,
    ticket: Ticket,
}

/// How far the elements of a request have come.
#[derive(Default)]
struct Progress {
    /// In the order of the elements.
    ends: Vec<Option<Ended>>,
    rejected: Vec<Rejected>,
    /// The first refusal of what might be taken another time: the whole request is answered with it.
    refused: Option<Refusal>,
    /// Keys whose events were refused: what follows on them would overtake them.
    given_up: HashSet<StateKey>,
}

/// An event in the log's hands.
struct Underway {
    place: Place,
    key: Option<StateKey>,
    waits: Waits,
    /// For the answer.
    shown: Option<Key>,
}

/// What is claimed together.
#[derive(Default)]
struct Round {
    waits: Vec<Underway>,
    bytes: usize,
    /// Keys that an event of this round holds or waits for: what follows on them comes later, in order.
    held: HashSet<StateKey>,
    later: Vec<Candidate>,
    /// Behind the first key that somebody else holds.
    line: Option<Line>,
    /// Events whose keys other replicas are asked for, all at once.
    asking: Vec<(Candidate, Box<Asking>)>,
    /// Another replica holds a key: it is asked again after a while.
    elsewhere: bool,
}

impl Intake {
    /// Steps 8 to 12 for each event of a batch.
    pub(super) async fn take_batch(
        &self,
        came: &Came<'_>,
        known: &Known,
        batch: Gathered,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let Gathered { bytes, tolerated, ticket } = batch;
        let (ticket, Elements { envelope, all }) = ticket.check(self.elements(known, &bytes).await)?;
        if all.is_empty() {
            ticket.absorb(Outcome::Ignored);
            return Ok(());
        }
        let mut progress = Progress::default();
        progress.ends.resize_with(all.len(), || None);
        let mut first = Some(ticket);
        let mut round = Round::default();
        for (in_batch, element) in all.into_iter().enumerate() {
            let ticket = first.take().unwrap_or_else(|| self.receive(came, &known.integration));
            let said = |raw| Said { raw, tolerated, envelope: envelope.clone() };
            if let Some(candidate) = self.candidate(known, in_batch, element, said, ticket, trail, &mut progress) {
                self.take(came, known, candidate, trail, &mut progress, &mut round);
            }
            if round.is_full() {
                self.wait_for_round(came, known, &mut round, trail, &mut progress).await;
            }
        }
        self.wait_for_round(came, known, &mut round, trail, &mut progress).await;
        self.take_later(came, known, round, trail, &mut progress).await;
        self.keep_rejected(came, trail, &mut progress).await;
        trail.ended = progress.ends.into_iter().flatten().collect();
        if let Some(refused) = progress.refused {
            return Err(refused);
        }
        self.wait_for_all(known, trail).await;
        Ok(())
    }

    /// The event that an element is. `None`: it ended here, or is to be kept as a dead letter.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn candidate(
        &self,
        known: &Known,
        in_batch: usize,
        element: Element,
        said: impl FnOnce(Bytes) -> Said,
        ticket: Ticket,
        trail: &mut Trail,
        progress: &mut Progress,
    ) -> Option<Candidate> {
        let Element { raw, heard } = element;
        let (heard, bad) = match heard {
            Ok(None) => {
                progress.absorb(in_batch, Outcome::Ignored, ticket);
                return None;
            }
            Ok(Some(Judged { ends: Some(outcome), .. })) => {
                progress.absorb(in_batch, outcome, ticket);
                return None;
            }
            Ok(Some(heard)) => (heard, None),
            // Nothing can be said of it but what it is a part of.
            Err(bad) => (Judged::of(Action::Trigger), Some(bad)),
        };
        let made = self.event(known, said(raw), heard);
        let made = made.map(|(event, rules)| (Event { trace: trail.trace.clone(), ..event }, rules));
        let watched = match (&mut trail.watched, &made) {
            (Some(watched), Ok((event, _))) => watched.begins(event, bad.is_none().then_some(event.action)),
            _ => 0,
        };
        let place = Place { in_batch, watched };
        match (made, bad) {
            (Ok((event, _)), Some(bad)) => progress.rejected.push(Rejected { place, event, bad, ticket }),
            (Ok((event, rules)), None) => return Some(Candidate { place, event, rules, ticket }),
            (Err(Unaddressed::Refused(refusal)), _) => {
                ticket.reject(refusal.reason);
                progress.refuse(place, None, refusal, trail);
            }
            (Err(Unaddressed::Unknown), _) => progress.absorb(in_batch, Outcome::Unknown, ticket),
            (Err(Unaddressed::Absorbed(outcome, _)), _) => progress.absorb(in_batch, outcome, ticket),
        }
        None
    }

    /// Claims an event's key and hands it to the log, if nobody holds the key.
    fn take(
        &self,
        came: &Came<'_>,
        known: &Known,
        candidate: Candidate,
        trail: &mut Trail,
        progress: &mut Progress,
        round: &mut Round,
    ) {
        let Candidate { place, event, rules, ticket } = candidate;
        let key = event.state_key();
        if key.is_some_and(|key| progress.given_up.contains(&key)) {
            let reason = progress.refused.as_ref().map_or(Reason::KeyContended, |refusal| refusal.reason);
            ticket.reject(reason);
            let refusal = Refusal::new(reason, "an event before it on its key was not taken");
            return progress.refuse(place, key, refusal, trail);
        }
        if key.is_some_and(|key| round.held.contains(&key)) {
            return round.later.push(Candidate { place, event, rules, ticket });
        }
        match self.dedup.claim(&event, known.integration.targets(&event), rules) {
            Claimed::Contended(line) => {
                round.held.extend(key);
                round.line.get_or_insert(line);
                round.later.push(Candidate { place, event, rules, ticket });
            }
            Claimed::Asking(asking) => {
                round.held.extend(key);
                round.asking.push((Candidate { place, event, rules, ticket }, asking));
            }
            claimed => {
                self.take_claimed(
                    came,
                    known,
                    Candidate { place, event, rules, ticket },
                    claimed,
                    trail,
                    progress,
                    round,
                );
            }
        }
    }

    /// Hands an event to the log whose claim is decided.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn take_claimed(
        &self,
        came: &Came,
        known: &Known,
        candidate: Candidate,
        claimed: Claimed,
        trail: &mut Trail,
        progress: &mut Progress,
        round: &mut Round,
    ) {
        let Candidate { place, event, rules, ticket } = candidate;
        let key = event.state_key();
        let bytes = event.raw.len() + event.envelope.as_ref().map_or(0, Bytes::len) + RECORD_BYTES;
        trail.turn_to(place.watched);
        match self.admit(came, known, claimed, event, rules, ticket, trail) {
            Ok(Some(On::Log(waits, shown))) => {
                round.bytes += bytes;
                round.waits.push(Underway { place, key, waits, shown });
            }
            Ok(_) => progress.ends[place.in_batch] = trail.ended.pop(),
            Err(refusal) => progress.refuse(place, key, refusal, trail),
        }
    }

    /// Until all of a round that other replicas are asked for has its answer, and all that is on its way to the disk is
    /// there. Keys that others hold stay behind: nothing is waited for here but answers, each of them bounded.
    async fn wait_for_round(
        &self,
        came: &Came<'_>,
        known: &Known,
        round: &mut Round,
        trail: &mut Trail,
        progress: &mut Progress,
    ) {
        for (mut candidate, asking) in std::mem::take(&mut round.asking) {
            let targets = known.integration.targets(&candidate.event).clone();
            match asking.answer(&mut candidate.event, &targets, candidate.rules).await {
                Answered::Claimed(claimed) => {
                    self.take_claimed(came, known, candidate, claimed, trail, progress, round);
                }
                Answered::Held(asking) => {
                    drop(asking);
                    round.elsewhere = true;
                    round.later.push(candidate);
                }
            }
        }
        wait_for_log(round, trail, progress).await;
    }

    /// What others held, or an event before it in the batch: round by round, each as far as it is free.
    async fn take_later(
        &self,
        came: &Came<'_>,
        known: &Known,
        before: Round,
        trail: &mut Trail,
        progress: &mut Progress,
    ) {
        let deadline = Instant::now() + LINE_WAIT_MAX;
        let Round { mut later, mut line, mut elsewhere, .. } = before;
        while !later.is_empty() {
            // Those that were asked for come behind those that follow on their keys: back into their order.
            later.sort_by_key(|candidate| candidate.place.in_batch);
            if elsewhere && line.is_none() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Only this round's line is waited in: the others move on without this request, which holds nothing.
            let in_time = match line.take() {
                Some(line) => line.wait(left).await,
                None => !left.is_zero(),
            };
            let mut round = Round::default();
            for candidate in later {
                self.take(came, known, candidate, trail, progress, &mut round);
                if round.is_full() {
                    self.wait_for_round(came, known, &mut round, trail, progress).await;
                }
            }
            self.wait_for_round(came, known, &mut round, trail, progress).await;
            Round { later, line, elsewhere, .. } = round;
            if !in_time {
                for Candidate { place, event, ticket, .. } in later {
                    ticket.reject(Reason::KeyContended);
                    let refusal = Refusal::new(Reason::KeyContended, "too many changes of this key at once");
                    progress.refuse(place, event.state_key(), refusal, trail);
                }
                return;
            }
        }
    }

    /// Keeps what is no event, so that it is on disk before the answer. Not where the sender has to send all of it again:
    /// it would be kept once for each time.
    async fn keep_rejected(&self, came: &Came<'_>, trail: &mut Trail, progress: &mut Progress) {
        let is_kept = progress.refused.is_none();
        let mut waits = Vec::new();
        for Rejected { place, event, bad, ticket } in std::mem::take(&mut progress.rejected) {
            let Bad { unfit, faults } = bad;
            trail.turn_to(place.watched);
            if let Some(watched) = &mut trail.watched {
                watched.refuses(unfit.reason(), is_kept);
            }
            if is_kept {
                waits.push((place, self.store.append_rejected(came.worker(), event, unfit, &faults, ticket)));
            } else {
                ticket.reject(unfit.reason());
            }
            if waits.len() >= WINDOW_EVENTS {
                kept(std::mem::take(&mut waits), progress).await;
            }
        }
        kept(waits, progress).await;
    }
}

async fn kept(waits: Vec<(Place, Append)>, progress: &mut Progress) {
    for (place, append) in waits {
        match append.await {
            Ok(_) => progress.ends[place.in_batch] = Some(Ended { outcome: None, incident: None, key: None }),
            Err(reason) => {
                progress.refused.get_or_insert_with(|| Refusal::new(reason, super::answer::why(reason)));
            }
        }
    }
}

/// Until all of a round that is on its way to the disk is there. Keys that others hold stay behind.
async fn wait_for_log(round: &mut Round, trail: &mut Trail, progress: &mut Progress) {
    round.bytes = 0;
    for Underway { place, key, waits, shown } in std::mem::take(&mut round.waits) {
        trail.turn_to(place.watched);
        match Ended::stored(waits.await, shown) {
            Ok(ended) => {
                trail.end(ended, true);
                progress.ends[place.in_batch] = trail.ended.pop();
            }
            Err(refusal) => progress.refuse(place, key, refusal, trail),
        }
    }
}

impl Progress {
    /// An event was not taken, and is counted. Where another time may be better the sender has to send all of it again;
    /// else it is refused alone, for a 4xx would lose the others for good.
    fn refuse(&mut self, place: Place, key: Option<StateKey>, refusal: Refusal, trail: &mut Trail) {
        trail.turn_to(place.watched);
        if let Some(watched) = &mut trail.watched {
            watched.refuses(refusal.reason, false);
        }
        match refusal.reason.class() {
            Class::Overload | Class::Unavailable | Class::Timeout | Class::Internal => {
                self.given_up.extend(key);
                self.refused.get_or_insert(refusal);
            }
            _ => self.ends[place.in_batch] = Some(Ended { outcome: None, incident: None, key: None }),
        }
    }

    fn absorb(&mut self, in_batch: usize, outcome: Outcome, ticket: Ticket) {
        ticket.absorb(outcome);
        self.ends[in_batch] = Some(Ended { outcome: Some(outcome), incident: None, key: None });
    }
}

impl Round {
    fn is_full(&self) -> bool {
        self.waits.len() + self.asking.len() >= WINDOW_EVENTS || self.bytes >= WINDOW_BYTES
    }
}
