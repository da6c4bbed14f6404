//! Senders that wait for an event's ending (DESIGN 5.7): told when it is delivered, or that it was refused, if nobody was
//! told before that it is taken. Called by `settle`.

use std::sync::Arc;

use hyper::header::CONTENT_TYPE;

use super::desk::{Cargo, Desk, Done, Landed};
use crate::awaited::{Awaited, Ended, Said};
use crate::event::StateKey;
use crate::outcome::{DeadReason, DropReason};

/// A sender, and what it is told.
pub(super) struct Told {
    awaited: Arc<Awaited>,
    ended: Ended,
}

impl Told {
    pub(super) fn tell(self) {
        self.awaited.end(self.ended);
    }
}

/// A refused event whose sender is told so when that is on disk.
pub(super) struct Refused {
    place: usize,
    cargo: Cargo,
    /// The key that is held until then.
    key: Option<StateKey>,
    told: Told,
}

/// What the sender may see of an answer.
fn said(landed: &Landed) -> Arc<Said> {
    let Ok(answer) = &landed.result else {
        return Arc::new(Said { status: 0, content_type: None, body: bytes::Bytes::new() });
    };
    let body = if answer.complete { answer.body.clone() } else { bytes::Bytes::new() };
    let content_type = answer.headers.get(CONTENT_TYPE).cloned();
    Arc::new(Said { status: answer.status.as_u16(), content_type, body })
}

impl Desk {
    fn awaited(&self, place: usize, cargo: &Cargo) -> Option<Arc<Awaited>> {
        let upstream = self.upstreams.get(place)?;
        self.awaiting.find(cargo.uid, &upstream.meter.name)
    }

    /// What the sender of a delivered event is told, if it waits.
    pub(super) fn told(&self, place: usize, cargo: &Cargo, landed: &Landed) -> Option<Told> {
        let awaited = self.awaited(place, cargo)?;
        Some(Told { awaited, ended: Ended::Delivered(said(landed)) })
    }

    /// The event is no longer at the head of its lane: whoever waits and was told nothing else need not wait longer.
    pub(super) fn tell_undelivered(&self, place: usize, cargo: &Cargo) {
        if let Some(awaited) = self.awaited(place, cargo) {
            awaited.end(Ended::Undelivered);
        }
    }

    /// A permanent refusal: told to the sender while it waits, else a dead letter.
    pub(super) fn refuse_or_bury(&mut self, place: usize, cargo: &Cargo, landed: &Landed) {
        if self.refuse(place, cargo, landed).is_none() {
            self.keep_answer(cargo, landed);
            self.bury(place, cargo, DeadReason::Refused);
        }
    }

    /// `None`: nobody waits who could be told.
    fn refuse(&mut self, place: usize, cargo: &Cargo, landed: &Landed) -> Option<()> {
        if cargo.step > 0 {
            // A part of it was taken.
            return None;
        }
        let awaited = self.awaited(place, cargo)?;
        let integration = self.integration_of(place, cargo.lane)?;
        let meter = Arc::clone(&self.upstreams.get(place)?.meter);
        let taken = self.states.take_back(cargo.lane, &awaited)?;
        let written = self.log.settle_refused(&meter, &integration, cargo.sequence, taken);
        meter.drop_waiting(DropReason::Refused.name());
        let status = landed.result.as_ref().ok().map(|answer| answer.status.as_u16());
        tracing::info!(
            upstream = %meter.name, %integration, event_uid = %cargo.uid, status,
            "an event was refused, and its sender is told so"
        );
        self.withdraw(place, cargo, &integration);
        let told = Told { awaited, ended: Ended::Refused(said(landed)) };
        let refused = Refused { place, cargo: *cargo, key: taken.map(|taken| taken.key), told };
        self.flights.push(Box::pin(async move {
            let written = written.await;
            Done::Refused(refused, written)
        }));
        Some(())
    }

    /// Upstreams that were not yet sent a refused event are not sent it any more. Where it is under way, or was delivered,
    /// it stays: the corrected one follows it there, on the same key.
    fn withdraw(&mut self, place: usize, cargo: &Cargo, integration: &Arc<str>) {
        use super::lanes::Stage;
        for (other, upstream) in self.upstreams.iter_mut().enumerate().filter(|(other, _)| *other != place) {
            let is_flying =
                |lane: &super::lanes::Lane| lane.stage == Stage::Flying && lane.head.sequence() == cargo.sequence;
            if !upstream.lanes.holds(cargo.lane, cargo.sequence)
                || upstream.lanes.get(cargo.lane).is_some_and(is_flying)
            {
                continue;
            }
            let ending = crate::store::Ending::Dropped(DropReason::Refused);
            self.log.settle(&upstream.meter, integration, cargo.sequence, ending);
            upstream.meter.drop_waiting(DropReason::Refused.name());
            self.withdrawn.insert((other, cargo.sequence));
        }
    }

    /// The refusal is written down: the key is free, then its sender is told.
    pub(super) fn refused(&mut self, refused: Refused, written: bool) {
        let Refused { place, cargo, key, told } = refused;
        if let Some(key) = key {
            self.states.taken_back(key);
        }
        if written {
            told.tell();
        } else {
            told.awaited.end(Ended::Unwritten);
        }
        self.leave(place, &cargo);
    }
}
