//! How events end: what an answer makes of the events of its request, and what an operator makes of dead
//! letters. Every ending is told to the log, to the books and to the lane, in this order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use super::circuit::{End, Reach};
use super::dead::{Letter, Refused};
use super::desk::{Cargo, Desk, Landed, age, record_bytes};
use crate::claim::Pacing;
use crate::dedup::Rest;
use crate::event::{Action, Micros};
use crate::metrics::INTAKE;
use crate::outcome::{DeadReason, DropReason};
use crate::sink::{Failed, Hold, Verdict, answer};
use crate::store::{Dead, Ending, LaneKey, Rejected, Remote};

/// Of an upstream that was down longer than `give_up_after`, so many unsent events are given up per failed probe.
const GIVEN_UP_UNSENT_MAX: usize = 256;

impl Desk {
    /// A request has ended.
    pub(super) fn landed(&mut self, landed: Landed) {
        let now = Instant::now();
        let place = landed.upstream;
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        upstream.in_flight -= 1;
        let status = landed.result.as_ref().ok().map(|answer| answer.status);
        upstream.meter.answered(status.as_ref().map_or("error", hyper::StatusCode::as_str));
        upstream.last_status = status.map(|status| status.as_u16()).or(upstream.last_status);
        if status.is_some() {
            upstream.answered_in(landed.ticket.age(now));
        }
        for one in &landed.cargo {
            if let Some(lane) = upstream.lanes.get_mut(one.lane) {
                lane.attempts = lane.attempts.saturating_add(1);
                lane.status = status.map(|status| status.as_u16());
            }
        }
        let verdict = match &landed.result {
            Ok(answer) => landed.sink.read_answer(answer, Micros::now()),
            Err(failure) => {
                upstream.note_error(&failure.text);
                if failure.perhaps_sent {
                    for one in &landed.cargo {
                        if let Some(lane) = upstream.lanes.get_mut(one.lane) {
                            lane.head.doubt();
                        }
                    }
                }
                Verdict::Retry(Hold::Lane(None))
            }
        };
        if let (Some(status), false) = (status, matches!(verdict, Verdict::Delivered(_))) {
            upstream.note_error(&format!("answered {status}"));
        }
        self.judge_health(place, &landed, &verdict, now);
        self.apply(place, &landed, verdict, now);
    }

    /// What the verdict says of the upstream, whatever it says of the events.
    fn judge_health(&mut self, place: usize, landed: &Landed, verdict: &Verdict, now: Instant) {
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let lanes: Vec<LaneKey>;
        let end = match verdict {
            Verdict::Retry(Hold::Lane(after)) => {
                let reach = match &landed.result {
                    Ok(_) => Reach::Answer,
                    Err(failure) if failure.perhaps_sent => Reach::Silence,
                    Err(_) => Reach::Nothing,
                };
                lanes = landed.cargo.iter().map(|one| one.lane).collect();
                End::Failure { lanes: &lanes, reach, after: *after }
            }
            Verdict::Retry(Hold::Upstream(after)) => {
                upstream.holds = upstream.holds.saturating_add(1);
                let until = now + after.unwrap_or_else(|| backoff::wait(upstream.holds).max(Duration::from_secs(1)));
                upstream.hold(until);
                End::Held
            }
            Verdict::Delivered(_) | Verdict::Partly(_) | Verdict::Unclear | Verdict::Refused => {
                upstream.holds = 0;
                // Its last one for now: the next waits instead of being refused.
                if let Some(wait) = landed.result.as_ref().ok().and_then(|answer| answer::spent(answer, Micros::now()))
                {
                    upstream.hold(now + wait);
                }
                End::Success
            }
        };
        if upstream.tell_circuit(now, |circuit| circuit.land(landed.ticket, end, now, fastrand::f64())) {
            upstream.lanes.outage_is_over();
        }
        let failed_probe = landed.ticket.probe && matches!(end, End::Failure { .. });
        let give_up_after = landed.config.give_up_after;
        if failed_probe && upstream.circuit.useless_for(now).is_some_and(|useless| useless >= give_up_after) {
            self.give_up_unsent(place, give_up_after);
        }
    }

    fn apply(&mut self, place: usize, landed: &Landed, verdict: Verdict, now: Instant) {
        let one_by_one = landed.cargo.len() > 1;
        for cargo in &landed.cargo {
            match &verdict {
                Verdict::Refused | Verdict::Unclear if one_by_one => self.with_lanes(place, |lanes| {
                    if let Some(lane) = lanes.get_mut(cargo.lane) {
                        lane.alone = true;
                    }
                    lanes.make_ready(cargo.lane);
                }),
                Verdict::Delivered(remote) => self.delivered(place, cargo, remote.clone(), landed),
                Verdict::Unclear => self.delivered(place, cargo, None, landed),
                Verdict::Refused => self.refuse_or_bury(place, cargo, landed),
                Verdict::Partly(failed) => match failed.iter().find(|failed| failed.event_uid == cargo.uid) {
                    None => self.delivered(place, cargo, None, landed),
                    Some(failed) => self.failed_alone(place, cargo, *failed, landed, now),
                },
                Verdict::Retry(hold) => self.retry(place, cargo, *hold, landed, now),
            }
        }
    }

    /// One event of a batch failed, the batch did not.
    fn failed_alone(&mut self, place: usize, cargo: &Cargo, failed: Failed, landed: &Landed, now: Instant) {
        self.with_lanes(place, |lanes| {
            if let Some(lane) = lanes.get_mut(cargo.lane) {
                lane.status = Some(failed.status);
            }
        });
        if failed.refused {
            self.refuse_or_bury(place, cargo, landed);
        } else {
            self.retry(place, cargo, Hold::Lane(None), landed, now);
        }
    }

    fn retry(&mut self, place: usize, cargo: &Cargo, hold: Hold, landed: &Landed, now: Instant) {
        // A repeat begins at the first request.
        self.half_sent.remove(&(place, cargo.sequence));
        if !Self::may_repeat(cargo, hold, landed) {
            self.bury(place, cargo, DeadReason::Uncertain);
            return;
        }
        let since = self.since(place, cargo.sequence, cargo.received_at);
        if age(since, Micros::now()) >= landed.config.give_up_after {
            self.keep_answer(cargo, landed);
            self.bury(place, cargo, DeadReason::GaveUp);
            return;
        }
        match hold {
            // The hold is the upstream's: the lane keeps its turn.
            Hold::Upstream(_) => self.with_lanes(place, |lanes| lanes.make_next(cargo.lane)),
            Hold::Lane(after) => self.back_off(place, cargo.lane, now, after),
        }
    }

    /// The lane waits as asked, else by its own backoff.
    pub(super) fn back_off(&mut self, place: usize, lane: LaneKey, now: Instant, after: Option<Duration>) {
        self.with_lanes(place, |lanes| {
            let attempts = lanes.get(lane).map_or(1, |lane| lane.attempts);
            lanes.hold(lane, now + after.unwrap_or_else(|| backoff::wait(attempts)), after.is_none());
        });
    }

    fn delivered(&mut self, place: usize, cargo: &Cargo, mut remote: Option<Remote>, landed: &Landed) {
        if self.goes_on(place, cargo, &mut remote) {
            return;
        }
        let learned = self.learned(place, cargo, remote, landed);
        let waits = learned.is_some() || cargo.once;
        let told = self.told(place, cargo, landed);
        let Some(integration) = self.integration_of(place, cargo.lane) else { return };
        let lane = self.upstreams.get(place).and_then(|upstream| upstream.lanes.get(cargo.lane));
        let (status, attempts) = lane.map_or((None, 0), |lane| (lane.status, lane.attempts));
        self.settle_delivered(place, &integration, cargo, Ending::Delivered { status, attempts }, learned, told);
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let meter = &upstream.meter;
        meter.deliver();
        meter.delivery_seconds.observe(age(cargo.received_at, Micros::now()).as_secs_f64());
        if upstream.lanes.get(cargo.lane).is_some_and(|lane| lane.head.is_doubtful()) {
            meter.repeat();
        }
        tracing::debug!(upstream = %meter.name, event_uid = %cargo.uid, status, attempts, trace_id = cargo.trace(), "delivered");
        match (cargo.action, cargo.iid) {
            (Action::Trigger, Some(iid)) => {
                let (superseded, was_undelivered) = upstream.dead.supersede(cargo.lane, iid, cargo.sequence);
                for sequence in superseded {
                    self.log.settle(meter, &integration, sequence, Ending::Dropped(DropReason::Superseded));
                    meter.drop_dead(DropReason::Superseded.name());
                }
                if was_undelivered {
                    self.states.delivered(cargo.lane, iid, meter);
                }
            }
            (Action::Resolve, Some(iid)) => upstream.dead.close(cargo.lane, iid),
            _ => {}
        }
        if !waits {
            self.leave(place, cargo);
        }
    }

    /// The event is no longer at the head of its lane.
    pub(super) fn leave(&mut self, place: usize, cargo: &Cargo) {
        self.replayed_at.remove(&(place, cargo.sequence));
        self.half_sent.remove(&(place, cargo.sequence));
        self.tell_undelivered(place, cargo);
        let lane = self.upstreams.get(place).and_then(|upstream| upstream.lanes.get(cargo.lane));
        if let Some((head, integration)) = lane.map(|lane| (lane.head, lane.integration))
            && head.waits_for(Pacing::UNKNOWN)
        {
            // Given up before its turn: its place in the paced line is free.
            self.grant(cargo.lane, cargo.sequence, integration, Pacing::UNKNOWN);
        }
        if !self.sought.is_empty() {
            self.sought.remove(&(place, cargo.sequence));
        }
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let integration = upstream.lanes.get(cargo.lane).map(|lane| lane.integration);
        upstream.lanes.advance(cargo.lane);
        let rest = match upstream.lanes.get(cargo.lane) {
            Some(lane) => Rest::Next(lane.head.sequence()),
            None if integration.is_some_and(|integration| upstream.lanes.is_behind(integration)) => Rest::Unknown,
            None => Rest::Nothing,
        };
        self.states.left(cargo.lane, &upstream.meter.name, cargo.sequence, rest);
    }

    /// What the upstream said is of use to whoever looks at the dead letter.
    pub(super) fn keep_answer(&self, cargo: &Cargo, landed: &Landed) {
        if let Ok(answer) = &landed.result {
            self.mailbox.answers.keep(&landed.config, cargo.sequence, answer);
        }
    }

    /// The event becomes a dead letter.
    pub(super) fn bury(&mut self, place: usize, cargo: &Cargo, reason: DeadReason) {
        self.bury_as(place, cargo, Some(cargo.action), reason);
    }

    /// The event at the head of a lane cannot be read back.
    pub(super) fn bury_unread(&mut self, place: usize, lane: LaneKey) {
        let Some(sequence) = self.with_lanes(place, |lanes| lanes.get(lane).map(|lane| lane.head.sequence())) else {
            return;
        };
        self.metrics.spool_damaged_records.inc();
        self.bury_as(place, &Cargo::unread(lane, sequence), None, DeadReason::Unreadable);
    }

    /// A waiting event whose record is not there any more, so that nothing is known of its lane.
    pub(super) fn bury_lost(&mut self, place: usize, integration: &Arc<str>, sequence: u64) {
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let reason = DeadReason::Unreadable;
        let ending = Ending::Dead { reason, status: None, attempts: 0 };
        self.log.settle(&upstream.meter, integration, sequence, ending);
        upstream.meter.bury(reason.name());
        self.metrics.spool_damaged_records.inc();
        tracing::warn!(
            upstream = %upstream.meter.name, %integration, sequence, reason = reason.name(),
            "an event became a dead letter: its record in the spool cannot be read"
        );
        let letter = Letter::unreadable(Arc::clone(integration), sequence, Micros::now());
        upstream.dead.insert(sequence, letter, false);
        self.hold_dead_letters_to_their_limits();
    }

    /// Past what they may take the oldest are dropped (DESIGN 4).
    pub(super) fn hold_dead_letters_to_their_limits(&mut self) {
        let mut dropped = 0_u64;
        loop {
            let (bytes, count) = self
                .upstreams
                .iter()
                .fold((0, 0), |(bytes, count), upstream| (bytes + upstream.dead.bytes(), count + upstream.dead.len()));
            if bytes <= self.limits.bytes && count <= self.limits.count {
                break;
            }
            let oldest = self.upstreams.iter().enumerate().filter_map(|(place, upstream)| {
                upstream.dead.after(None).next().map(|(sequence, _)| (sequence, place))
            });
            let Some((sequence, place)) = oldest.min() else { break };
            self.drop_dead(place, sequence, DropReason::DeadLetterSpace).ok();
            dropped += 1;
        }
        if dropped > 0 {
            tracing::warn!(dropped, "dead letters take more room than they may: the oldest are gone for good");
        }
    }

    pub(super) fn integration_of(&self, place: usize, lane: LaneKey) -> Option<Arc<str>> {
        let number = self.upstreams.get(place)?.lanes.get(lane)?.integration;
        self.integration_names.get(usize::try_from(number).ok()?).cloned()
    }

    fn bury_as(&mut self, place: usize, cargo: &Cargo, action: Option<Action>, reason: DeadReason) {
        let Some(integration) = self.integration_of(place, cargo.lane) else { return };
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let Some(lane) = upstream.lanes.get(cargo.lane) else { return };
        let letter = Letter {
            at: lane.head.at,
            bytes: cargo.bytes,
            lane: cargo.lane,
            integration: Arc::clone(&integration),
            event_uid: cargo.uid,
            iid: cargo.iid,
            action,
            reason,
            status: lane.status,
            attempts: lane.attempts,
            since: Micros::now(),
        };
        let meter = &upstream.meter;
        let ending = Ending::Dead { reason, status: letter.status, attempts: letter.attempts };
        self.log.settle(meter, &integration, cargo.sequence, ending);
        meter.bury(reason.name());
        tracing::warn!(
            upstream = %meter.name, %integration, event_uid = %cargo.uid, reason = reason.name(),
            status = letter.status, attempts = letter.attempts, "an event became a dead letter"
        );
        if upstream.dead.insert(cargo.sequence, letter, false)
            && let Some(iid) = cargo.iid
        {
            self.states.undelivered(cargo.lane, iid, &upstream.meter);
        }
        self.leave(place, cargo);
        self.hold_dead_letters_to_their_limits();
    }

    /// An upstream that was down longer than an event may wait has been tried for all of them.
    fn give_up_unsent(&mut self, place: usize, give_up_after: Duration) {
        let mut kept = Vec::new();
        for _ in 0..GIVEN_UP_UNSENT_MAX {
            let Some(key) = self.with_lanes(place, |lanes| lanes.pop_ready(false, false)) else { break };
            let Some(head) = self.with_lanes(place, |lanes| lanes.get(key).map(|lane| lane.head)) else { continue };
            // What cannot be read is dealt with when it is sent.
            let overdue = self.log.read(head.sequence(), head.at).ok().and_then(|stored| {
                let since = self.since(place, head.sequence(), stored.event.received_at);
                (age(since, Micros::now()) >= give_up_after).then_some(stored)
            });
            match overdue {
                Some(stored) => {
                    self.bury(place, &Cargo::of(&stored, key, head.sequence()), DeadReason::GaveUp);
                }
                None => kept.push(key),
            }
        }
        kept.into_iter().for_each(|key| self.with_lanes(place, |lanes| lanes.make_ready(key)));
    }

    /// Elements that were rejected at intake: dead letters from the beginning.
    pub(super) fn keep_rejected(&mut self, letters: Vec<Rejected>) {
        let Some(Rejected { integration, event_uid, reason, .. }) = letters.first() else { return };
        tracing::warn!(
            letters = letters.len(), %integration, %event_uid, reason = reason.name(),
            "elements of batches were rejected and are kept as dead letters; told of the first"
        );
        let place = self.place_of(&self.metrics.upstream(INTAKE));
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        for Rejected { sequence, at, lane, integration, event_uid, action, reason, rejected_at, bytes } in letters {
            let letter = Letter {
                at,
                bytes,
                lane,
                integration,
                event_uid,
                iid: None,
                action: Some(action),
                reason,
                status: None,
                attempts: 0,
                since: rejected_at,
            };
            upstream.dead.insert(sequence, letter, false);
        }
        self.hold_dead_letters_to_their_limits();
    }

    /// A dead letter from before the start. Its event is read for what the log's ending does not say.
    pub(super) fn load_dead(&mut self, dead: Dead) {
        let place = self.place_of(&dead.upstream);
        let Dead { sequence, upstream: meter, integration, reason, status, attempts, at: since } = dead;
        let letter = match self.log.event(sequence) {
            Ok((at, stored)) => Letter {
                at,
                bytes: record_bytes(&stored.event),
                lane: stored.lane,
                integration,
                event_uid: stored.event.uid,
                iid: stored.incident.map(|incident| incident.iid),
                action: Some(stored.event.action),
                reason,
                status,
                attempts,
                since,
            },
            Err(_) => Letter::unreadable(integration, sequence, since),
        };
        let Some(upstream) = self.upstreams.get_mut(place) else { return };
        let (lane, iid) = (letter.lane, letter.iid);
        if upstream.dead.insert(sequence, letter, true)
            && let Some(iid) = iid
        {
            self.states.undelivered(lane, iid, &meter);
        }
    }

    /// Drops a dead letter for good.
    pub(super) fn drop_letter(&mut self, name: &str, sequence: u64) -> Result<(), Refused> {
        let place = self.find(name).ok_or(Refused::Unknown)?;
        self.drop_dead(place, sequence, DropReason::Operator)
    }

    fn drop_dead(&mut self, place: usize, sequence: u64, reason: DropReason) -> Result<(), Refused> {
        let upstream = self.upstreams.get_mut(place).ok_or(Refused::Unknown)?;
        let (letter, over) = upstream.dead.drop_one(sequence)?;
        self.log.settle(&upstream.meter, &letter.integration, sequence, Ending::Dropped(reason));
        upstream.meter.drop_dead(reason.name());
        if let (true, Some(iid)) = (over, letter.iid) {
            self.states.delivered(letter.lane, iid, &upstream.meter);
        }
        Ok(())
    }
}
