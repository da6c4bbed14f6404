//! The lines of an integration: lanes whose head waits for a token of the event limit (`on_limit: spool`)
//! or for a turn of the unknown resolves (contracts 5.5). A token pays for an event at all its upstreams.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Window;
use crate::claim::Pacing;
use crate::gate::Integration;
use crate::sink::Pace;
use crate::store::LaneKey;

/// Unknown resolves and acknowledges of an integration (contracts 5.5).
const UNKNOWN_PACE: Pace = Pace { requests: 10, per: Duration::from_secs(60), burst: 10 };
/// A token is never asked for more often.
const TOKEN_WAIT_MIN: Duration = Duration::from_millis(1);

/// A lane's head in line. Stale once that head has gone another way.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) upstream: usize,
    pub(super) lane: LaneKey,
    pub(super) sequence: u64,
}

pub(super) struct Lines {
    tokens: VecDeque<Place>,
    token_at: Option<Instant>,
    unknown: VecDeque<Place>,
    unknown_pace: Window,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            tokens: VecDeque::new(),
            token_at: None,
            unknown: VecDeque::new(),
            unknown_pace: Window::new(UNKNOWN_PACE),
        }
    }
}

impl Lines {
    /// The head needs this pacing: true when it may go at once, else it stands in line.
    pub(super) fn enter(
        &mut self,
        pacing: Pacing,
        place: Place,
        integration: Option<&Integration>,
        now: Instant,
    ) -> bool {
        let goes = if pacing.has(Pacing::UNKNOWN) {
            self.unknown.is_empty() && self.take_turn(now)
        } else {
            self.tokens.is_empty() && self.take_token(integration, now)
        };
        if !goes {
            let line = if pacing.has(Pacing::UNKNOWN) { &mut self.unknown } else { &mut self.tokens };
            line.push_back(place);
        }
        goes
    }

    /// The next head that may go now. `is_live` tells whether a place still holds.
    pub(super) fn next(
        &mut self,
        integration: Option<&Integration>,
        now: Instant,
        is_live: impl Fn(Place) -> bool,
    ) -> Option<(Place, Pacing)> {
        while self.unknown.front().is_some_and(|place| !is_live(*place)) {
            self.unknown.pop_front();
        }
        if !self.unknown.is_empty() && self.take_turn(now) {
            return self.unknown.pop_front().map(|place| (place, Pacing::UNKNOWN));
        }
        while self.tokens.front().is_some_and(|place| !is_live(*place)) {
            self.tokens.pop_front();
        }
        if !self.tokens.is_empty() && self.token_at.is_none_or(|at| at <= now) && self.take_token(integration, now) {
            return self.tokens.pop_front().map(|place| (place, Pacing::EVENT_LIMIT));
        }
        None
    }

    /// When to look again; `None` when nobody is in line.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let token = if self.tokens.is_empty() { None } else { Some(self.token_at.unwrap_or(now)) };
        let turn = if self.unknown.is_empty() { None } else { Some(self.unknown_pace.free_at(now)) };
        [token, turn].into_iter().flatten().min()
    }

    fn take_turn(&mut self, now: Instant) -> bool {
        let free = self.unknown_pace.free_at(now) <= now;
        if free {
            self.unknown_pace.take(now);
        }
        free
    }

    /// A removed integration has no limit left: its queue drains.
    fn take_token(&mut self, integration: Option<&Integration>, now: Instant) -> bool {
        self.token_at = None;
        match integration.map_or(Ok(()), |integration| integration.take_event_token()) {
            Ok(()) => true,
            Err(wait) => {
                self.token_at = Some(now + wait.max(TOKEN_WAIT_MIN));
                false
            }
        }
    }
}
