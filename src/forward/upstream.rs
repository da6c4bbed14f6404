//! One upstream as the forwarder keeps it: its lanes and dead letters, and whether it may be sent to now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Health;
use super::dead::DeadLetters;
use super::lanes::Lanes;
use super::pace::Window;
use super::wire::{Dial, Wire};
use crate::event::Micros;
use crate::metrics::UpstreamMeter;
use crate::sink::UpstreamConfig;

/// Longest error text kept, in characters.
const ERROR_CHARS_MAX: usize = 256;

/// At most so often the log is told that deliveries fail.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whether, and from when, a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Until(Instant),
    /// Until something happens: an event, an answer, a configuration.
    Shut,
}

pub(super) struct Upstream {
    pub(super) meter: Arc<UpstreamMeter>,
    /// `None`: no longer configured, its events are kept (DESIGN 5.5).
    pub(super) route: Option<Route>,
    pub(super) lanes: Lanes,
    pub(super) dead: DeadLetters,
    /// The oldest event that waits, and since when.
    pub(super) oldest: Option<(u64, Micros)>,
    /// So many of the next events that are taken may have been delivered before a restart.
    pub(super) doubtful: usize,
    pub(super) health: Health,
    pub(super) window: Option<Window>,
    pub(super) in_flight: usize,
    /// A 429 asked the whole upstream to wait.
    pub(super) held_until: Option<Instant>,
    /// 429 without a time, in a row.
    pub(super) holds: u32,
    /// Since when lanes are ready, for a batch that waits to fill.
    pub(super) gathering_since: Option<Instant>,
    pub(super) last_error: Option<String>,
    pub(super) last_status: Option<u16>,
    /// When the log was last told of a failure.
    told_at: Option<Instant>,
}

#[derive(Clone)]
pub(super) struct Route {
    pub(super) config: Arc<UpstreamConfig>,
    pub(super) wire: Arc<dyn Wire>,
}

impl Upstream {
    pub(super) fn new(meter: Arc<UpstreamMeter>) -> Self {
        Self {
            meter,
            route: None,
            lanes: Lanes::default(),
            dead: DeadLetters::default(),
            oldest: None,
            doubtful: 0,
            health: Health::default(),
            window: None,
            in_flight: 0,
            held_until: None,
            holds: 0,
            gathering_since: None,
            last_error: None,
            last_status: None,
            told_at: None,
        }
    }

    /// Takes a configuration, or none. What did not change keeps its connections and its spent pace.
    pub(super) fn configure(&mut self, config: Option<&Arc<UpstreamConfig>>, dial: &dyn Dial) {
        let Some(config) = config else {
            self.route = None;
            return;
        };
        if self.route.as_ref().is_some_and(|route| route.config == *config) {
            return;
        }
        if self.window.as_ref().map(Window::pace) != config.pace {
            self.window = config.pace.map(Window::new);
        }
        // A changed address or credential may be the cure: what was held against the old one is forgotten.
        (self.health, self.held_until, self.holds) = (Health::default(), None, 0);
        self.lanes.outage_is_over();
        self.lanes
            .expect_in_flight(config.connections.saturating_mul(config.batch.map_or(1, |batch| batch.max_events)));
        self.lanes.ask_again();
        self.route = Some(Route { config: Arc::clone(config), wire: dial.dial(config) });
    }

    pub(super) fn door(&mut self, now: Instant) -> Door {
        let Some(route) = &self.route else { return Door::Shut };
        let ready_lanes = self.lanes.ready_lanes();
        if ready_lanes == 0 || self.in_flight >= route.config.connections.max(1) {
            return Door::Shut;
        }
        let gathered = route.config.batch.map_or(now, |batch| {
            let since = *self.gathering_since.get_or_insert(now);
            if ready_lanes >= batch.max_events { now } else { since + batch.max_wait }
        });
        let Some(healthy) = self.health.free_at(now) else { return Door::Shut };
        let paced = self.window.as_ref().map_or(now, |window| window.free_at(now));
        let at = [gathered, healthy, paced, self.held_until.unwrap_or(now)].into_iter().fold(now, Instant::max);
        if at <= now { Door::Open } else { Door::Until(at) }
    }

    /// For the status page; the log is told of one a minute: the first failure of an upstream that was never right is
    /// all that a newcomer sees.
    pub(super) fn note_error(&mut self, text: &str) {
        let text: String = text.chars().take(ERROR_CHARS_MAX).collect();
        let now = Instant::now();
        if self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY) {
            self.told_at = Some(now);
            tracing::warn!(upstream = %self.meter.name, error = text, "a delivery failed; the event is kept (told once a minute)");
        }
        self.last_error = Some(text);
    }
}
