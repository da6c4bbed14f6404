//! The circuit of one upstream: closed while it answers, open while it fails, half open on its way back. A pure
//! machine: times and chance are passed in. `upstream` asks it before each request, `settle` tells it how each ended.
//!
//! * **Opens** after [`EVIDENCE`] failures in a row of as many lanes: an event the upstream chokes on is one lane, however
//!   often it fails, and stops nobody else. Failures to connect are never an event's fault and count for any lane.
//!   It opens too when so many requests are under way and none was answered for [`Circuit::patience`].
//! * **Open**, nothing goes until a wait is over: full jitter under a ceiling that doubles from 1 s to [`WAIT_MAX`],
//!   and no sooner than a 503 asked for. Then it is half open as soon as there is something to send.
//! * **Half open**, as many requests are under way as have succeeded, and one more. Before the first success any
//!   failure opens it again, after it two lanes must fail. [`SUCCESSES`] close it.
//! * **Closed again**, each success makes room for one more, so that every round trip doubles them, up to `connections`.
//!   After a 429 it climbs from one as well: as long as there is no success, each hold costs one request.
//! * While nothing was answered for [`SILENCE`] half of the connections are used: those that hang do not tie up all.
//!   Beyond this, and beyond the climb of a closed circuit, one request goes every [`TRICKLE`]: an event that hangs
//!   holds up nobody else for longer.
//!
//! Any success counts, whenever its request was sent; a failure of a request from before the last opening is old news. A
//! 429 says no more than that the upstream lives. Limits: 16 B for each request under way, nothing that grows with the queue.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use crate::store::LaneKey;

/// Failures in a row, of different lanes or to connect, that open a closed circuit.
const EVIDENCE: usize = 5;
/// The same once a probe has succeeded: one event that fails must not undo it.
const EVIDENCE_HALF_OPEN: usize = 2;
/// Successes that close it.
const SUCCESSES: usize = 3;
/// Shortest wait: two probes never follow each other at once.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait, so how long a returned upstream is not noticed. Half of it in the middle: six probes a minute.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);
/// Without an answer for so long the upstream gets no more than half of its connections,
const SILENCE: Duration = Duration::from_secs(1);
/// and beyond them one request in this time.
const TRICKLE: Duration = Duration::from_millis(500);
/// Requests that hang are noticed after this part of the time-out,
const PATIENCE_DIVISOR: u32 = 4;
/// but not sooner; where the time-out is no longer it notices them itself.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// A hang is looked at twice: after a halt of this process answers may wait to be read.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    HalfOpen,
    Open,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// As `upstream_circuit_state` says it.
    pub(super) fn gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// When a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Now,
    At(Instant),
    /// When one that is under way has ended.
    Full,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    number: u64,
    sent_at: Instant,
    /// Sent by a circuit that was not closed.
    pub(super) probe: bool,
}

impl Ticket {
    /// How long it has been under way.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.sent_at)
    }
}

/// How far a failed request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not even a connection.
    Nothing,
    /// No answer, though it may have arrived.
    Silence,
    /// An answer that says it failed.
    Answer,
}

/// What the end of a request tells of the upstream.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    /// It did what it should, or refused the event for good.
    Success,
    /// 429: it lives and asks for patience.
    Held,
    /// `after`: how long a 503 asked to wait.
    Failure { lanes: &'a [LaneKey], reach: Reach, after: Option<Duration> },
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Closed,
    /// `asked`: the upstream named this time itself.
    Open {
        until: Instant,
        asked: bool,
    },
    HalfOpen {
        successes: usize,
    },
}

/// Failures since the last success.
#[derive(Debug, Default)]
struct Row {
    requests: usize,
    unconnected: usize,
    /// At most [`EVIDENCE`].
    lanes: Vec<LaneKey>,
}

impl Row {
    fn add(&mut self, lanes: &[LaneKey], reach: Reach) {
        self.requests += 1;
        self.unconnected += usize::from(reach == Reach::Nothing);
        for lane in lanes {
            if self.lanes.len() < EVIDENCE && !self.lanes.contains(lane) {
                self.lanes.push(*lane);
            }
        }
    }

    /// A batch is one failure, so that an event in it is no more than one either.
    fn proves(&self, evidence: usize) -> bool {
        self.requests >= evidence && (self.lanes.len() >= evidence || self.unconnected >= evidence)
    }
}

#[derive(Debug)]
pub(super) struct Circuit {
    connections: usize,
    timeout: Duration,
    /// So long without any answer is a hang. Grows when an answer took longer and was good.
    patience: Duration,
    stage: Stage,
    /// When those under way were sent, by number; of those sent since the last opening.
    under_way: BTreeMap<u64, Instant>,
    /// Requests sent so far.
    sent: u64,
    sent_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// Since when it seems to hang.
    suspected_at: Option<Instant>,
    row: Row,
    /// Most under way on the way back; `connections` when it is over.
    width: usize,
    /// Since it was closed.
    openings: u32,
    opened_at: Option<Instant>,
    /// Opened, and no success since.
    useless_since: Option<Instant>,
}

impl Circuit {
    /// Closed. `timeout` is that of a request; with none no hang is noticed.
    pub(super) fn new(connections: usize, timeout: Duration) -> Self {
        let connections = connections.max(1);
        Self {
            connections,
            timeout,
            patience: (timeout / PATIENCE_DIVISOR).max(PATIENCE_MIN),
            stage: Stage::Closed,
            under_way: BTreeMap::new(),
            sent: 0,
            sent_at: None,
            answered_at: None,
            suspected_at: None,
            row: Row::default(),
            width: connections,
            openings: 0,
            opened_at: None,
            useless_since: None,
        }
    }

    /// As new, for a new configuration. What is under way was sent by the old one and tells nothing of this.
    pub(super) fn reset(&mut self, connections: usize, timeout: Duration) {
        *self = Self { sent: self.sent, ..Self::new(connections, timeout) };
    }

    pub(super) fn state(&self) -> State {
        match self.stage {
            Stage::Closed => State::Closed,
            Stage::HalfOpen { .. } => State::HalfOpen,
            Stage::Open { .. } => State::Open,
        }
    }

    pub(super) fn pass(&self, now: Instant) -> Pass {
        let at = |at: Instant| if at <= now { Pass::Now } else { Pass::At(at) };
        match self.stage {
            Stage::Open { until, .. } => at(until),
            Stage::HalfOpen { .. } if self.under_way.len() < self.width => Pass::Now,
            Stage::HalfOpen { .. } => Pass::Full,
            Stage::Closed if self.under_way.len() >= self.connections => Pass::Full,
            Stage::Closed => {
                let answers = self.answered_at.is_some_and(|at| now.saturating_duration_since(at) < SILENCE);
                let most = if answers { self.connections } else { self.half() };
                if self.under_way.len() < most.min(self.width) {
                    return Pass::Now;
                }
                at(self.sent_at.map_or(now, |at| at + TRICKLE))
            }
        }
    }

    fn half(&self) -> usize {
        self.connections.div_ceil(2)
    }

    /// A request goes, as [`Self::pass`] allowed.
    pub(super) fn send(&mut self, now: Instant) -> Ticket {
        if matches!(self.stage, Stage::Open { .. }) {
            (self.stage, self.width) = (Stage::HalfOpen { successes: 0 }, 1);
        }
        let ticket = Ticket { number: self.sent, sent_at: now, probe: self.state() != State::Closed };
        self.sent += 1;
        self.sent_at = Some(now);
        self.under_way.insert(ticket.number, now);
        ticket
    }

    /// A request has ended. `chance` is drawn evenly from 0 to 1, for a wait. True: the first success since it opened.
    pub(super) fn land(&mut self, ticket: Ticket, end: End<'_>, now: Instant, chance: f64) -> bool {
        let is_news = self.under_way.remove(&ticket.number).is_some();
        if !matches!(end, End::Failure { reach: Reach::Nothing | Reach::Silence, .. }) {
            self.answered_at = Some(now);
        }
        match end {
            End::Held => {
                if matches!(self.stage, Stage::Closed) {
                    self.width = 1;
                }
                false
            }
            End::Success => {
                let took = now.saturating_duration_since(ticket.sent_at);
                if took >= self.patience {
                    self.patience = (took * 2).min(self.timeout.max(self.patience));
                }
                self.succeed(now)
            }
            End::Failure { lanes, reach, after } => {
                if is_news {
                    self.row.add(lanes, reach);
                    if self.row.proves(self.evidence()) {
                        self.open(now, after, chance);
                    }
                }
                false
            }
        }
    }

    fn succeed(&mut self, now: Instant) -> bool {
        self.row = Row::default();
        let first = self.useless_since.take().is_some();
        match self.stage {
            Stage::Closed => self.width = (self.width + 1).min(self.connections),
            Stage::Open { until, asked: true } if until > now => {}
            Stage::Open { .. } => self.climb(1),
            Stage::HalfOpen { successes } => self.climb(successes + 1),
        }
        first
    }

    fn climb(&mut self, successes: usize) {
        self.width = (successes + 1).min(self.connections);
        self.stage = Stage::HalfOpen { successes };
        if successes >= SUCCESSES {
            self.stage = Stage::Closed;
            (self.openings, self.opened_at) = (0, None);
        }
    }

    fn evidence(&self) -> usize {
        match self.stage {
            Stage::HalfOpen { successes: 0 } => 1,
            Stage::HalfOpen { .. } => EVIDENCE_HALF_OPEN,
            _ => EVIDENCE,
        }
    }

    /// When what is under way will have hung for too long, and [`Self::is_hung`] is to be asked.
    pub(super) fn hangs_at(&self) -> Option<Instant> {
        self.silent_at().map(|at| self.suspected_at.map_or(at, |suspected| at.max(suspected + LOOK_AGAIN)))
    }

    fn silent_at(&self) -> Option<Instant> {
        if self.patience >= self.timeout {
            return None;
        }
        // Of few connections no more than half hang before this.
        let enough = self.evidence().min(self.half().max(EVIDENCE_HALF_OPEN));
        let sent_at = self.under_way.values().nth(enough - 1)?;
        Some(self.answered_at.map_or(*sent_at, |at| at.max(*sent_at)) + self.patience)
    }

    /// Whether too much hangs, at the second look.
    pub(super) fn is_hung(&mut self, now: Instant) -> bool {
        if self.silent_at().is_none_or(|at| at > now) {
            self.suspected_at = None;
            return false;
        }
        *self.suspected_at.get_or_insert(now) + LOOK_AGAIN <= now
    }

    /// Opens because of a hang.
    pub(super) fn hung(&mut self, now: Instant, chance: f64) {
        self.open(now, None, chance);
    }

    fn open(&mut self, now: Instant, after: Option<Duration>, chance: f64) {
        self.openings = self.openings.saturating_add(1);
        let ceiling = backoff::ceiling(self.openings, WAIT_MAX);
        let wait = WAIT_MIN + ceiling.saturating_sub(WAIT_MIN).mul_f64(chance.clamp(0.0, 1.0));
        let asked = after.is_some_and(|after| after > wait);
        self.stage = Stage::Open { until: now + after.map_or(wait, |after| after.max(wait)), asked };
        self.under_way.clear();
        (self.row, self.suspected_at) = (Row::default(), None);
        self.opened_at.get_or_insert(now);
        self.useless_since.get_or_insert(now);
    }

    /// How long ago it was closed; `None` while it is.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        self.opened_at.map(|at| now.saturating_duration_since(at))
    }

    /// For how long it has not been closed and nothing has succeeded.
    pub(super) fn useless_for(&self, now: Instant) -> Option<Duration> {
        self.useless_since.map(|at| now.saturating_duration_since(at))
    }
}
