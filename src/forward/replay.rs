//! Sends dead letters again (DESIGN 5.3): one with its generation's, all that pass a filter, at once or at a pace. A
//! paced release lives in memory alone: what it has not come to when the process ends stays a dead letter.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::dead::{Current, Refused};
use super::desk::Desk;
use super::lanes::Waiting;
use super::letters::Filter;
use crate::claim::Pacing;
use crate::event::{Incident, Micros, State};
use crate::store::Ending;

/// A release that fell behind, because the thread had other things to do, catches up on so much.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How many dead letters are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Only told, not done.
    DryRun,
    AtOnce,
    /// So many events a second. It takes the place of one that is under way.
    PerSecond(NonZeroU32),
}

/// What replaying many came to, in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// In a dry run: that would be.
    pub replayed: usize,
    /// Closed, followed or unreadable: they can only be shown or dropped. Or their upstream is configured no longer.
    pub refused: usize,
    pub dry_run: bool,
    /// Released one after another from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<usize>,
    /// What a paced replay before this one had not come to: dead letters still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<usize>,
}

/// A release under way: 24 B a dead letter, of which there is a bounded number.
pub(super) struct Paced {
    left: VecDeque<(Arc<str>, u64)>,
    per_second: NonZeroU32,
    next_at: Instant,
    done: Replayed,
}

impl Desk {
    /// The events that would be sent with a dead letter, in order.
    fn replay_group(&self, name: &str, sequence: u64) -> Result<Vec<u64>, Refused> {
        let place = self.find(name).ok_or(Refused::Unknown)?;
        let upstream = self.upstreams.get(place).ok_or(Refused::Unknown)?;
        let lane = upstream.dead.get(sequence).ok_or(Refused::Unknown)?.lane;
        let current = self.states.current(lane).map(|Incident { iid, state, .. }| Current {
            iid,
            resolved: state == State::Resolved,
            lane_waits: upstream.lanes.get(lane).is_some(),
        });
        let group = upstream.dead.replay_group(sequence, current)?;
        if upstream.route.is_some() { Ok(group) } else { Err(Refused::Orphaned) }
    }

    /// Sends a dead letter's group again.
    pub(super) fn replay(&mut self, name: &str, sequence: u64) -> Result<usize, Refused> {
        let group = self.replay_group(name, sequence)?;
        let place = self.find(name).ok_or(Refused::Unknown)?;
        let upstream = self.upstreams.get_mut(place).ok_or(Refused::Unknown)?;
        let letters = upstream.dead.take(&group);
        let Some((lane, integration)) =
            letters.first().map(|(_, letter)| (letter.lane, Arc::clone(&letter.integration)))
        else {
            return Err(Refused::Unknown);
        };
        let now = Micros::now();
        let mut waiting = Vec::with_capacity(letters.len());
        for (sequence, letter) in &letters {
            self.log.settle(&upstream.meter, &integration, *sequence, Ending::Replayed);
            upstream.meter.replay();
            self.replayed_at.insert((place, *sequence), now);
            waiting.push(Waiting::new(*sequence, letter.at, Pacing::default()));
        }
        let integration = self.integration_number(&integration);
        self.with_lanes(place, |lanes| lanes.put_back(lane, integration, waiting));
        Ok(letters.len())
    }

    pub(super) fn replay_all(&mut self, filter: &Filter, how: How) -> Replayed {
        let all = self.matching_ids(filter);
        match how {
            How::DryRun => self.would_replay(&all),
            How::AtOnce => {
                let mut sum = Replayed::default();
                all.iter().for_each(|(name, sequence)| self.add_replay(name, *sequence, &mut sum));
                sum
            }
            How::PerSecond(per_second) => {
                let would = self.would_replay(&all);
                let done = Replayed::default();
                let next = Paced { left: all.into(), per_second, next_at: Instant::now(), done };
                let before = self.paced.replace(next);
                Replayed {
                    replayed: 0,
                    dry_run: false,
                    scheduled: Some(would.replayed),
                    given_up: before.map(|paced| self.still_dead(&paced.left)),
                    ..would
                }
            }
        }
    }

    fn still_dead(&self, left: &VecDeque<(Arc<str>, u64)>) -> usize {
        let is_dead = |(name, sequence): &&(Arc<str>, u64)| self.letter(name, *sequence).is_some();
        left.iter().filter(is_dead).count()
    }

    fn add_replay(&mut self, name: &str, sequence: u64, sum: &mut Replayed) {
        match self.replay(name, sequence) {
            Ok(count) => sum.replayed += count,
            // Went along with its group already.
            Err(Refused::Unknown) => {}
            Err(_) => sum.refused += 1,
        }
    }

    fn would_replay(&self, all: &[(Arc<str>, u64)]) -> Replayed {
        let mut sum = Replayed { dry_run: true, ..Replayed::default() };
        let mut along = HashSet::<(&str, u64)>::new();
        for (name, sequence) in all {
            if along.contains(&(&**name, *sequence)) {
                continue;
            }
            match self.replay_group(name, *sequence) {
                Ok(group) => {
                    sum.replayed += group.len();
                    along.extend(group.into_iter().map(|sequence| (&**name, sequence)));
                }
                Err(_) => sum.refused += 1,
            }
        }
        sum
    }

    /// Releases what is due; when there is more to release.
    pub(super) fn release_paced(&mut self, now: Instant) -> Option<Instant> {
        let mut paced = self.paced.take()?;
        if let Some(late) = now.checked_sub(CATCH_UP) {
            paced.next_at = paced.next_at.max(late);
        }
        while paced.next_at <= now {
            let Some((name, sequence)) = paced.left.pop_front() else {
                let Replayed { replayed, refused, .. } = paced.done;
                tracing::info!(target: "audit", replayed, refused, "the paced replay of dead letters is through");
                return None;
            };
            let before = paced.done.replayed;
            self.add_replay(&name, sequence, &mut paced.done);
            let count = u32::try_from(paced.done.replayed - before).unwrap_or(u32::MAX);
            paced.next_at += Duration::from_secs(1) * count / paced.per_second.get();
        }
        let next_at = paced.next_at;
        self.paced = Some(paced);
        Some(next_at)
    }
}
