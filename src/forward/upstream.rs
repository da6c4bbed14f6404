//! One upstream as the forwarder keeps it: its lanes and dead letters, and when it may be sent to.
//!
//! Three things hold a request back, and the latest of them says when it goes (`next_try_in_s` in the status):
//! * the **circuit**, of an upstream that fails, or hangs: with a wait of its own, or that of the 503 that opened it;
//! * a **hold**: a 429 stops the whole upstream for its `Retry-After`, or by backoff. It is no failure: it neither opens the
//!   circuit nor closes it, and a probe that meets one goes again after it;
//! * the **pace**: every request takes its place in the window, probes too, and what failed took it as well. So what an
//!   upstream sees on its return is the ramp of the circuit under the ceiling of the pace.
//!
//! A lane's own backoff is another matter: it holds back its key alone. While the circuit is open a probe may take a
//! lane out of it, if no other is ready: the wait is the circuit's then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::{Circuit, Pass, State};
use super::dead::DeadLetters;
use super::lanes::Lanes;
use super::pace::Window;
use super::questions::Ranked;
use super::wire::{Dial, Wire};
use crate::event::Micros;
use crate::metrics::UpstreamMeter;
use crate::sink::{Sink, UpstreamConfig};

/// Longest error text kept, in characters.
const ERROR_CHARS_MAX: usize = 256;

/// What one answer's time weighs in the mean.
const ANSWER_WEIGHT: f64 = 1.0 / 16.0;

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
    /// `incidentio`: what its account says of severities.
    pub(super) ranked: Ranked,
    pub(super) lanes: Lanes,
    pub(super) dead: DeadLetters,
    /// The oldest event that waits, and since when.
    pub(super) oldest: Option<(u64, Micros)>,
    /// So many of the next events that are taken may have been delivered before a restart.
    pub(super) doubtful: usize,
    pub(super) circuit: Circuit,
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
    /// What its answers take, the last ones more than the first.
    pub(super) answer_seconds: Option<f64>,
    /// When the log was last told of a failure.
    told_at: Option<Instant>,
}

#[derive(Clone)]
pub(super) struct Route {
    pub(super) config: Arc<UpstreamConfig>,
    pub(super) sink: &'static dyn Sink,
    pub(super) wire: Arc<dyn Wire>,
}

impl Upstream {
    pub(super) fn new(meter: Arc<UpstreamMeter>) -> Self {
        Self {
            meter,
            route: None,
            ranked: Ranked::default(),
            lanes: Lanes::default(),
            dead: DeadLetters::default(),
            oldest: None,
            doubtful: 0,
            // Nothing is sent before a configuration.
            circuit: Circuit::new(1, Duration::ZERO),
            window: None,
            in_flight: 0,
            held_until: None,
            holds: 0,
            gathering_since: None,
            last_error: None,
            last_status: None,
            answer_seconds: None,
            told_at: None,
        }
    }

    /// Takes a configuration, or none. What did not change keeps its connections and its spent pace.
    pub(super) fn configure(&mut self, config: Option<&Arc<UpstreamConfig>>, dial: &dyn Dial) {
        // A kind without a sink is in no configuration that was read.
        let Some((config, sink)) = config.and_then(|config| Some((config, dial.sink(config)?))) else {
            if self.route.take().is_some() {
                self.warn_of_orphans();
            }
            self.reset_circuit(1, Duration::ZERO);
            return;
        };
        if self.route.as_ref().is_some_and(|route| route.config == *config) {
            return;
        }
        if self.window.as_ref().map(Window::pace) != config.pace {
            self.window = config.pace.map(Window::new);
        }
        // A changed address or credential may be the cure: what was held against the old one is forgotten.
        (self.held_until, self.holds) = (None, 0);
        self.renew_circuit(config.connections, config.timeout);
        self.lanes.outage_is_over();
        self.lanes
            .expect_in_flight(config.connections.saturating_mul(config.batch.map_or(1, |batch| batch.max_events)));
        self.lanes.ask_again();
        self.ranked.forget();
        self.route = Some(Route { config: Arc::clone(config), sink, wire: dial.dial(config) });
    }

    /// Nobody who removes or renames an upstream may think that what waited for it goes on its way (DESIGN 5.5).
    pub(super) fn warn_of_orphans(&self) {
        let waiting = self.meter.book().spool_events;
        if waiting > 0 {
            tracing::warn!(
                upstream = %self.meter.name, waiting,
                "events wait for an upstream that is not configured: configure it again, or stop and use \
                 `surgegate spool reassign` or `drop`"
            );
        }
    }

    fn renew_circuit(&mut self, connections: usize, timeout: Duration) {
        if self.circuit.state() != State::Closed {
            tracing::info!(upstream = %self.meter.name, "the upstream's circuit is closed: its configuration is new");
        }
        self.reset_circuit(connections, timeout);
    }

    fn reset_circuit(&mut self, connections: usize, timeout: Duration) {
        self.circuit.reset(connections, timeout);
        self.meter.circuit.set(self.circuit.state().gauge());
    }

    /// Lets the circuit hear of something. The books and the log are told when its state changes by it.
    pub(super) fn tell_circuit<T>(&mut self, now: Instant, tell: impl FnOnce(&mut Circuit) -> T) -> T {
        let (before, open_for) = (self.circuit.state(), self.circuit.open_for(now));
        let told = tell(&mut self.circuit);
        let after = self.circuit.state();
        if before == after {
            return told;
        }
        self.meter.circuit.set(after.gauge());
        let (upstream, error) = (&self.meter.name, self.last_error.as_deref());
        let waiting = self.meter.book().spool_events;
        match (before, after) {
            (State::Closed, _) => {
                let next_try_in_s = self.next_try_in(now).map(|wait| wait.as_secs_f64());
                tracing::warn!(%upstream, error, waiting, next_try_in_s, "the upstream fails: its circuit is open");
            }
            (_, State::Open) => {
                let next_try_in_s = self.next_try_in(now).map(|wait| wait.as_secs_f64());
                tracing::debug!(%upstream, error, next_try_in_s, "the upstream fails still: its circuit is open again");
            }
            (_, State::HalfOpen) => tracing::debug!(%upstream, "the upstream is tried: its circuit is half open"),
            (_, State::Closed) => {
                let after_s = open_for.map(|open| open.as_secs_f64());
                tracing::info!(%upstream, waiting, after_s, "the upstream answers again: its circuit is closed");
            }
        }
        told
    }

    /// Opens the circuit of an upstream that takes requests and is silent.
    pub(super) fn notice_hang(&mut self, now: Instant) {
        if self.circuit.is_hung(now) {
            self.note_error("no answer to what is under way");
            self.tell_circuit(now, |circuit| circuit.hung(now, fastrand::f64()));
        }
    }

    /// Nothing is sent for so long: the upstream asked for it.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |at| at.max(until)));
    }

    /// From when on the circuit, the pace and a hold let a request go; `None`: once one that is under way has ended.
    fn free_at(&self, now: Instant) -> Option<Instant> {
        let circuit = match self.circuit.pass(now) {
            Pass::Now => now,
            Pass::At(at) => at,
            Pass::Full => return None,
        };
        let paced = self.window.as_ref().map_or(now, |window| window.free_at(now));
        Some(circuit.max(paced).max(self.held_until.unwrap_or(now)))
    }

    /// How much longer the upstream is sent nothing, if it is held back.
    pub(super) fn next_try_in(&self, now: Instant) -> Option<Duration> {
        self.free_at(now).map(|at| at.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    pub(super) fn door(&mut self, now: Instant) -> Door {
        let Some(route) = &self.route else { return Door::Shut };
        if self.in_flight >= route.config.connections.max(1) {
            return Door::Shut;
        }
        let Some(free_at) = self.free_at(now) else { return Door::Shut };
        if self.lanes.ready_lanes() == 0 {
            // All are in backoff, or there are none.
            if self.circuit.state() != State::Open || self.lanes.next_timer().is_none() {
                return Door::Shut;
            }
            if free_at > now {
                return Door::Until(free_at);
            }
            if !self.lanes.wake_for_probe() {
                return Door::Shut;
            }
        }
        let ready_lanes = self.lanes.ready_lanes();
        let gathered = route.config.batch.map_or(now, |batch| {
            let since = *self.gathering_since.get_or_insert(now);
            if ready_lanes >= batch.max_events { now } else { since + batch.max_wait }
        });
        let at = gathered.max(free_at);
        if at <= now { Door::Open } else { Door::Until(at) }
    }

    /// An answer took so long.
    pub(super) fn answered_in(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.answer_seconds = Some(self.answer_seconds.map_or(took, |mean| mean + (took - mean) * ANSWER_WEIGHT));
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
