//! The forwarder's door for the other threads: the mailbox of new events, and the admin API's questions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};

use super::Log;
use super::answers::Answers;
use super::dead::{Letter, Refused};
use super::letters::{Filter, Group};
use super::replay::{How, Replayed};
use crate::claim::Pacing;
use crate::event::{Action, Micros, Uid};
use crate::sink::{self, Answer, Reader, UpstreamConfig};
use crate::store::{LaneKey, Outlet, Queued, Rejected, Stored};

/// Admin requests that wait for the forwarder.
const COMMANDS_MAX: usize = 64;
/// Most rows of dead letters in one answer; the next page begins after the last.
const ROWS_MAX: usize = 1000;
/// Unknown resolves of an integration that may wait (contracts 5.5).
const UNKNOWN_WAITING_MAX: usize = 10_000;

/// What other threads put down and the forwarder picks up.
#[derive(Default)]
pub(super) struct Mailbox {
    queued: Mutex<Vec<Queued>>,
    rejected: Mutex<Vec<Rejected>>,
    pub(super) wake: Notify,
    /// Unknown resolves that wait, by integration.
    unknown_waiting: Mutex<HashMap<Arc<str>, usize>>,
    pub(super) answers: Answers,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Swaps what has gathered with an empty vector.
    pub(super) fn take(&self, empty: &mut Vec<Queued>) {
        std::mem::swap(&mut *lock(&self.queued), empty);
    }

    /// The same of rejected elements.
    pub(super) fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut *lock(&self.rejected))
    }

    pub(super) fn unknown_came(&self, integration: &Arc<str>) {
        *lock(&self.unknown_waiting).entry(Arc::clone(integration)).or_default() += 1;
    }

    pub(super) fn unknown_went(&self, integration: &str) {
        let mut waiting = lock(&self.unknown_waiting);
        if let Some(count) = waiting.get_mut(integration) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(integration);
            }
        }
    }
}

pub(super) enum Command {
    Configure(Vec<Arc<UpstreamConfig>>, oneshot::Sender<()>),
    Status(oneshot::Sender<Vec<UpstreamStatus>>),
    Letters { filter: Filter, after: Option<(String, u64)>, rows_max: usize, to: oneshot::Sender<Vec<Row>> },
    Letter { upstream: String, sequence: u64, to: oneshot::Sender<Option<Row>> },
    Groups(Filter, oneshot::Sender<Vec<Group>>),
    Replay { upstream: String, sequence: u64, to: oneshot::Sender<Result<usize, Refused>> },
    ReplayAll { filter: Filter, how: How, to: oneshot::Sender<Replayed> },
    Drop { upstream: String, sequence: u64, to: oneshot::Sender<Result<(), Refused>> },
    DropAll { filter: Filter, confirm: Option<usize>, to: oneshot::Sender<Result<usize, Refused>> },
    Heads { lane: LaneKey, sequence: u64, to: oneshot::Sender<Vec<Head>> },
    Ask { upstream: Arc<str>, path: String, to: oneshot::Sender<Option<Answer>> },
    Stop(Duration, oneshot::Sender<bool>),
}

/// A dead letter with its name, before its event is read.
pub(super) type Row = (Arc<str>, u64, Letter);

/// One line of `/api/v1/dead-letters` (INTERFACE 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadRow {
    pub id: String,
    pub event_uid: Uid,
    pub upstream: String,
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub attempts: u32,
    pub at: Micros,
    pub integration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Its ends only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One dead letter in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub row: DeadRow,
    /// What the upstream said when it was refused, its begin, without secrets; of the newest, and since the last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_answer: Option<String>,
    /// What it says, without secrets; `None` where it cannot be read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<serde_json::Value>,
}

/// An event at the head of its lane at one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub upstream: Arc<str>,
    /// A request with it has no answer yet.
    pub under_way: bool,
    /// So far.
    pub attempts: u32,
    /// Of the last answer.
    pub status: Option<u16>,
}

/// One upstream at this moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    /// False: removed from the configuration, its events are kept.
    pub configured: bool,
    /// Events that wait or are under way.
    pub waiting_events: u64,
    pub requests_in_flight: usize,
    pub dead_letters: usize,
    /// How much longer a 429 holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_for_s: Option<f64>,
    /// Its circuit is not closed.
    pub down: bool,
    /// `closed`, `half_open` or `open`.
    pub circuit: &'static str,
    /// Since when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_for_s: Option<f64>,
    /// What its answers take just now, from the request's head on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_s: Option<f64>,
    /// How much longer nothing is sent, whether the circuit, a 429 or the pace wants it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_in_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_event_age_s: Option<f64>,
}

/// What the rest of the process holds of the forwarder.
pub struct Handle {
    mailbox: Arc<Mailbox>,
    commands: mpsc::Sender<Command>,
    log: Arc<dyn Log>,
    reader: Arc<dyn Reader>,
}

impl Outlet for Handle {
    fn push(&self, batch: &mut Vec<Queued>) {
        for queued in batch.iter().filter(|queued| queued.pacing.has(Pacing::UNKNOWN)) {
            self.mailbox.unknown_came(&queued.integration);
        }
        lock(&self.mailbox.queued).append(batch);
        self.mailbox.wake.notify_one();
    }

    fn keep_rejected(&self, letters: &mut Vec<Rejected>) {
        lock(&self.mailbox.rejected).append(letters);
        self.mailbox.wake.notify_one();
    }
}

impl Handle {
    pub(super) fn new(log: Arc<dyn Log>, reader: Arc<dyn Reader>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { mailbox: Arc::default(), commands, log, reader }, receiver)
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Whether another unknown resolve of the integration must be absorbed: its paced line is full (contracts 5.5).
    pub fn unknown_line_is_full(&self, integration: &str) -> bool {
        lock(&self.mailbox.unknown_waiting).get(integration).is_some_and(|waiting| *waiting >= UNKNOWN_WAITING_MAX)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.commands.send(command(to)).await.ok()?;
        answer.await.ok()
    }

    /// Takes the upstreams of a reloaded configuration. Those left out keep their events.
    pub async fn configure(&self, upstreams: Vec<Arc<UpstreamConfig>>) {
        let _ = self.ask(|to| Command::Configure(upstreams, to)).await;
    }

    /// Every upstream, by name; empty once stopped.
    pub async fn status(&self) -> Vec<UpstreamStatus> {
        self.ask(Command::Status).await.unwrap_or_default()
    }

    /// Dead letters in order, after the row with the id `after`; at most 1000.
    pub async fn dead_letters(&self, filter: Filter, after: Option<&str>, rows_max: usize) -> Vec<DeadRow> {
        let after = after.and_then(parse_id);
        let rows_max = rows_max.min(ROWS_MAX);
        let rows = self.ask(|to| Command::Letters { filter, after, rows_max, to }).await.unwrap_or_default();
        rows.into_iter().map(|row| self.row(row)).collect()
    }

    /// Dead letters by upstream, reason and status.
    pub async fn dead_letter_groups(&self, filter: Filter) -> Vec<Group> {
        self.ask(|to| Command::Groups(filter, to)).await.unwrap_or_default()
    }

    /// One dead letter, and what is shown of it alone.
    ///
    /// # Errors
    /// Unknown id (404).
    pub async fn dead_letter(&self, id: &str) -> Result<Shown, Refused> {
        let (upstream, sequence) = parse_id(id).ok_or(Refused::Unknown)?;
        let row = self.ask(|to| Command::Letter { upstream, sequence, to }).await.ok_or(Refused::Stopped)?;
        let (upstream, sequence, letter) = row.ok_or(Refused::Unknown)?;
        let stored = self.log.read(sequence, letter.at).ok();
        let answer = self.mailbox.answers.of(&upstream, sequence);
        let key = stored.as_ref().and_then(|stored| stored.event.key.as_ref());
        let last_answer = answer.map(|text| key.map_or_else(|| text.clone(), |key| sink::masked_text(&text, key)));
        let event = stored.and_then(|stored| {
            let mut shown = self.shown(&stored)?;
            // Of what was rejected nothing can be said but why.
            let faults = stored.event.view.filter(|_| letter.reason.is_of_intake());
            if let Some(faults) = faults.and_then(|faults| serde_json::from_slice(&faults).ok())
                && let Some(members) = shown.as_object_mut()
            {
                members.insert("errors".to_owned(), faults);
            }
            Some(shown)
        });
        Ok(Shown { row: self.row((upstream, sequence, letter)), event, last_answer })
    }

    /// What an event says, its key masked and without the body it came in.
    pub fn shown(&self, stored: &Stored) -> Option<serde_json::Value> {
        sink::masked(stored, &self.reader.read(&stored.event))
    }

    /// What an event does at the upstreams where its turn has come.
    pub async fn heads(&self, lane: LaneKey, sequence: u64) -> Vec<Head> {
        self.ask(|to| Command::Heads { lane, sequence, to }).await.unwrap_or_default()
    }

    /// What an upstream answers to a question of its own API, below its configured URL; `None`: it cannot be asked, or does
    /// not answer.
    pub fn question(&self, upstream: Arc<str>, path: String) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let commands = self.commands.clone();
        async move {
            let (to, answer) = oneshot::channel();
            commands.send(Command::Ask { upstream, path, to }).await.ok()?;
            answer.await.ok()?
        }
    }

    fn row(&self, (upstream, sequence, letter): Row) -> DeadRow {
        let event = self.log.read(sequence, letter.at).ok().map(|stored| stored.event);
        DeadRow {
            id: format!("{upstream}-{sequence}"),
            event_uid: letter.event_uid,
            upstream: upstream.to_string(),
            reason: letter.reason.name(),
            status: letter.status,
            attempts: letter.attempts,
            at: letter.since,
            integration: letter.integration.to_string(),
            action: letter.action.or(event.as_ref().map(|event| event.action)),
            key: event.and_then(|event| event.key).map(|key| key.masked()),
        }
    }

    /// Sends a dead letter again, with the rest of its generation's on the lane, in order. Returns how many.
    ///
    /// # Errors
    /// Unknown id (404), or its generation is closed or followed by a newer one (409).
    pub async fn replay(&self, id: &str) -> Result<usize, Refused> {
        let (upstream, sequence) = parse_id(id).ok_or(Refused::Unknown)?;
        self.ask(|to| Command::Replay { upstream, sequence, to }).await.unwrap_or(Err(Refused::Stopped))
    }

    /// Sends every dead letter again that passes the filter and may be sent, each with its generation's.
    ///
    /// # Errors
    /// The forwarder has stopped.
    pub async fn replay_all(&self, filter: Filter, how: How) -> Result<Replayed, Refused> {
        self.ask(|to| Command::ReplayAll { filter, how, to }).await.ok_or(Refused::Stopped)
    }

    /// Drops every dead letter that passes the filter, for good; returns how many. Without `confirm` nothing is dropped.
    ///
    /// # Errors
    /// `confirm` is not how many there are now (409).
    pub async fn drop_letters(&self, filter: Filter, confirm: Option<usize>) -> Result<usize, Refused> {
        self.ask(|to| Command::DropAll { filter, confirm, to }).await.unwrap_or(Err(Refused::Stopped))
    }

    /// Drops a dead letter for good.
    ///
    /// # Errors
    /// Unknown id (404).
    pub async fn drop_letter(&self, id: &str) -> Result<(), Refused> {
        let (upstream, sequence) = parse_id(id).ok_or(Refused::Unknown)?;
        self.ask(|to| Command::Drop { upstream, sequence, to }).await.unwrap_or(Err(Refused::Stopped))
    }

    /// Sends nothing new, and returns when what is under way has ended, or after `deadline`; what has
    /// not ended by then is sent again after the next start. True: everything had ended.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.ask(|done| Command::Stop(deadline, done)).await.unwrap_or(false)
    }
}

/// `{upstream}-{sequence}`.
fn parse_id(id: &str) -> Option<(String, u64)> {
    let (upstream, sequence) = id.rsplit_once('-')?;
    Some((upstream.to_owned(), sequence.parse().ok()?))
}
