//! What upstreams call incidents, on the way: asked for when an event is encoded, kept when an answer taught it. And the
//! events that take several requests, or may not be sent twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::awaited::Told;
use super::desk::{Cargo, Desk, Done, Landed, age};
use super::lanes::Stage;
use super::upstream::Route;
use crate::claim::Pacing;
use crate::dedup::{Ahead, Look};
use crate::event::{Action, Micros, Uid};
use crate::outcome::{DeadReason, DropReason};
use crate::sink::{Ask, Encoded, Hold, Other, Others, Unsaid, UpstreamConfig};
use crate::store::{Ending, LaneKey, Learned, Remote, Stored};

/// A lane whose head waits for another incident's events looks again so often.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How far an event of several requests has come.
pub(super) struct HalfSent {
    /// The next request.
    pub(super) step: usize,
    remote: Option<Remote>,
}

/// The other incidents of an event's integration, at one upstream.
struct Neighbours<'a> {
    desk: &'a Desk,
    place: usize,
    integration: &'a str,
    family: &'a str,
    sequence: u64,
    name: &'a str,
}

impl Others for Neighbours<'_> {
    fn by_number(&self, number: u64) -> Other {
        let theirs = || self.desk.log.by_remote(self.name, &number.to_string());
        let named = if self.desk.relays(self.integration) { theirs() } else { None };
        let ours = || self.desk.states.by_number(self.integration, self.family, number);
        let Some((lane, iid)) = named.or_else(ours) else { return Other::Unknown };
        // Events come into lanes in the order of their sequences: what was earlier stands in its lane, or has left it.
        let head =
            self.desk.upstreams.get(self.place).and_then(|upstream| upstream.lanes.get(lane)).map(|lane| lane.head);
        if head.is_some_and(|head| head.sequence() < self.sequence) {
            return Other::NotYet;
        }
        self.desk.log.remote(self.name, lane, iid).map_or(Other::Unknown, Other::Known)
    }
}

impl Desk {
    pub(super) fn encode(
        &self,
        place: usize,
        cargo: &Cargo,
        stored: &Stored,
        route: &Route,
    ) -> Result<Encoded, Unsaid> {
        let name = &*route.config.name;
        let (integration, family) = (&*stored.event.integration, &*stored.event.family);
        let known = cargo.iid.and_then(|iid| self.log.remote(name, cargo.lane, iid));
        // Of no incident of ours: its sender's own id is passed on (`id_passthrough`).
        let passed = || Remote::new(&stored.event.target.as_ref()?.value, None).map(Arc::new);
        let remote = if stored.incident.is_none() { known.or_else(passed) } else { known };
        let mut said = self.reader.read(&stored.event);
        let begun = if route.sink.repeats() { self.begun(stored, &mut said) } else { None };
        let stored = begun.as_ref().unwrap_or(stored);
        let others = Neighbours { desk: self, place, integration, family, sequence: cargo.sequence, name };
        let known = self.upstreams.get(place).map(|upstream| &upstream.ranked);
        route.sink.encode(&Ask {
            stored,
            said: &said,
            remote: remote.as_deref(),
            upstream: known.map_or(&route.config, |ranked| ranked.over(&route.config)),
            others: &others,
        })
    }

    /// Its turn comes when earlier events of another incident have gone.
    pub(super) fn wait_for_others(&mut self, place: usize, cargo: &Cargo, config: &UpstreamConfig, now: Instant) {
        if age(self.since(place, cargo.sequence, cargo.received_at), Micros::now()) >= config.give_up_after {
            self.bury(place, cargo, DeadReason::GaveUp);
        } else {
            self.with_lanes(place, |lanes| lanes.hold(cargo.lane, now + LOOK_AGAIN, false));
        }
    }

    /// Asks what other replicas have waiting before an event (DESIGN 5.4), and what they know its incident by. False: nobody
    /// is there to be asked.
    pub(super) fn look(&mut self, place: usize, cargo: &Cargo) -> bool {
        let Some(upstream) = self.upstreams.get_mut(place) else { return false };
        let Some(looking) = self.states.look(cargo.lane, &upstream.meter.name, cargo.received_at) else { return false };
        if let Some(lane) = upstream.lanes.get_mut(cargo.lane) {
            lane.stage = Stage::Flying;
        }
        let cargo = *cargo;
        self.flights.push(Box::pin(async move { Done::Looked(place, cargo, looking.await) }));
        true
    }

    /// They answered. An event waits while an earlier one on its key waits at a replica that lives. Where that one is gone,
    /// a trigger goes on; anything else waits for its return, or until something follows it.
    pub(super) fn looked(&mut self, place: usize, cargo: &Cargo, look: Look) {
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        if let Some((iid, remote)) = look.remote.filter(|(iid, _)| cargo.iid == Some(*iid)) {
            self.log.learn(&upstream.meter.name, Learned { lane: cargo.lane, iid, remote });
        }
        let followed = upstream.lanes.get(cargo.lane).is_some_and(super::lanes::Lane::has_followers);
        let waits = match look.ahead {
            Ahead::Nobody => false,
            Ahead::Waits => true,
            Ahead::Gone => cargo.action != Action::Trigger && !followed,
        };
        if waits {
            upstream.lanes.hold(cargo.lane, Instant::now() + LOOK_AGAIN, false);
        } else {
            if look.ahead == Ahead::Gone {
                self.metrics.order_given_up.inc();
            }
            upstream.lanes.grant(cargo.lane, cargo.sequence, Pacing::BEHIND);
            upstream.lanes.make_next(cargo.lane);
        }
    }

    /// The event ends undelivered, and nobody can change that.
    pub(super) fn drop_waiting(&mut self, place: usize, cargo: &Cargo, reason: DropReason) {
        let Some(integration) = self.integration_of(place, cargo.lane) else { return };
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        self.log.settle(&upstream.meter, &integration, cargo.sequence, Ending::Dropped(reason));
        upstream.meter.drop_waiting(reason.name());
        tracing::debug!(
            upstream = %upstream.meter.name, %integration, event_uid = %cargo.uid, reason = reason.name(),
            "an event was dropped"
        );
        self.leave(place, cargo);
    }

    /// A request was taken: true when more of the event's are to be sent, and the lane goes on with the next.
    pub(super) fn goes_on(&mut self, place: usize, cargo: &Cargo, remote: &mut Option<Remote>) -> bool {
        let at = (place, cargo.sequence);
        let before = self.half_sent.remove(&at).and_then(|half| half.remote);
        *remote = remote.take().or(before);
        let step = cargo.step + 1;
        if step >= cargo.steps {
            return false;
        }
        self.half_sent.insert(at, HalfSent { step, remote: remote.take() });
        self.with_lanes(place, |lanes| lanes.make_next(cargo.lane));
        true
    }

    /// What the answer to a create taught, or to an operation that made an incident nobody had named there; other answers may
    /// name something else. Where it says nothing of one that the upstream may have suppressed, the id that is known for the
    /// key holds.
    pub(super) fn learned(
        &self,
        place: usize,
        cargo: &Cargo,
        remote: Option<Remote>,
        landed: &Landed,
    ) -> Option<Learned> {
        let (lane, iid) = (cargo.lane, cargo.iid?);
        let name = &*self.upstreams.get(place)?.meter.name;
        let is_named = || self.log.remote(name, lane, iid).is_some();
        let makes = cargo.action == Action::Trigger || (cargo.action == Action::Admin && !is_named());
        if !makes {
            return None;
        }
        let remote = remote.or_else(|| {
            let known = if landed.sink.suppresses() { self.known(name, lane, iid) } else { None };
            known.map(|known| Remote::clone(&known))
        })?;
        // What is on disk already need not go there again.
        let news = self.log.remote(name, lane, iid).is_none_or(|known| *known != remote);
        news.then_some(Learned { lane, iid, remote })
    }

    fn known(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>> {
        self.log.remote(upstream, lane, iid).or_else(|| self.log.last_remote(upstream, lane))
    }

    /// The event was delivered: its lane goes on, at once, or when what comes next may build on it.
    pub(super) fn settle_delivered(
        &mut self,
        place: usize,
        integration: &Arc<str>,
        cargo: &Cargo,
        ending: Ending,
        learned: Option<Learned>,
        told: Option<Told>,
    ) {
        let Some(upstream) = self.upstreams.get(place) else { return };
        if learned.is_none() && !cargo.once {
            self.log.settle(&upstream.meter, integration, cargo.sequence, ending);
            told.into_iter().for_each(Told::tell);
            return;
        }
        if let Some(learned) = &learned {
            self.states.learned(learned, &upstream.meter.name);
        }
        let written = self.log.settle_durably(&upstream.meter, integration, cargo.sequence, ending, learned);
        let cargo = *cargo;
        self.flights.push(Box::pin(async move {
            written.await;
            Done::Written(place, cargo, told)
        }));
    }

    /// Whether a failed request may be sent again: one that the upstream would take for another only if it certainly did
    /// not arrive. A 429 says that it was not looked at.
    pub(super) fn may_repeat(cargo: &Cargo, hold: Hold, landed: &Landed) -> bool {
        let arrived = match &landed.result {
            Ok(_) => !matches!(hold, Hold::Upstream(_)),
            Err(failure) => failure.perhaps_sent,
        };
        !cargo.once || !arrived
    }
}
