//! One server: its connection, the round trips over it, and the circuit. A task of its own on the link's thread.
//!
//! The circuit is open while there is no connection that has passed a probe: calls fail at once. A half-open try is a
//! new connection that must log in, write, and answer within `redis.timeout`; no call waits for it. It opens again when
//! the connection is lost, when an answer stays out, when answers are late one after the other, or when the server says
//! that it takes no writes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::sentinel::SentinelClient;
use ::redis::{Pipeline, PushInfo, PushKind, ServerError, ServerErrorKind, Value};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::call::{Call, Down};
use super::dial::{self, Trouble};
use super::link::Shared;
use super::pace::Pace;
use super::servers::Address;

/// Calls in one round trip.
pub(super) const BATCH_MAX: usize = 256;
/// Writes behind answers in one round trip: Redis runs all of them before it looks at a request's call, 10 to 20 us each.
pub(super) const BEHIND_CALLS_MAX: usize = 32;
/// Calls that wait for a round trip; each is of a request that waits at most `redis.timeout`.
const WAITING_MAX: usize = 16_384;
/// Batches of writes behind answers that wait.
const BEHIND_MAX: usize = 4;
/// Round trips of calls under way: while two are, what comes gathers for the next.
const TRIPS_MAX: usize = 2;
/// Longest wait for the answer to writes behind answers.
pub(super) const BEHIND_TIME_MAX: Duration = Duration::from_secs(1);
/// Round trips in a row that outlast `redis.timeout` before the circuit opens.
const LATE_MAX: u32 = 5;
const PROBES: u32 = 3;
/// A connection that nobody uses is looked at so often.
const IDLE: Duration = Duration::from_secs(1);
/// How often the Sentinels are asked whether the master is still the same.
const MASTER_EVERY: Duration = Duration::from_secs(1);
/// A probe's key lives so long, in milliseconds.
const PROBE_LIFE_MS: u32 = 1000;

/// A call that somebody waits for.
pub(super) struct Waiting {
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Result<Value, Down>>,
    /// A Cluster sent it on so often,
    pub(super) hops: u8,
    /// and this server only minds the key while it moves.
    pub(super) asking: bool,
}

impl Waiting {
    pub(super) fn end(self, answer: Result<Value, Down>) {
        let _ = self.answer.send(answer);
    }
}

/// What others see of a server. Dropped: its task ends.
pub(super) struct Node {
    pub(super) calls: mpsc::Sender<Waiting>,
    pub(super) behind: mpsc::Sender<Vec<Waiting>>,
    pub(super) state: Arc<State>,
}

pub(super) struct State {
    pub(super) host: String,
    pub(super) port: u16,
    up: AtomicBool,
    /// A key that this server has.
    pub(super) probe: Mutex<String>,
}

impl State {
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }
}

/// What waits for a server.
struct Work {
    calls: mpsc::Receiver<Waiting>,
    behind: mpsc::Receiver<Vec<Waiting>>,
}

impl Node {
    /// `sentinels`: who tells where the master is; host and port are then only a name.
    pub(super) fn start(
        shared: &Arc<Shared>,
        (host, port): (String, u16),
        probe: String,
        sentinels: Option<SentinelClient>,
    ) -> Arc<Self> {
        let (calls, waiting) = mpsc::channel(WAITING_MAX);
        let (behind, behind_waiting) = mpsc::channel(BEHIND_MAX);
        let state = Arc::new(State { host, port, up: AtomicBool::new(false), probe: Mutex::new(probe) });
        let work = Work { calls: waiting, behind: behind_waiting };
        tokio::spawn(run(Arc::clone(shared), Arc::clone(&state), work, sentinels));
        Arc::new(Self { calls, behind, state })
    }
}

/// Connects, serves, and connects again until nobody needs the server any longer.
async fn run(shared: Arc<Shared>, state: Arc<State>, mut work: Work, mut sentinels: Option<SentinelClient>) {
    let mut pace = Pace::default();
    let mut told = String::new();
    while !work.calls.is_closed() {
        let trouble = match open(&shared, &state, sentinels.as_mut()).await {
            Ok(line) => {
                work.refuse();
                pace.begin_anew();
                tracing::info!(server = %line.server, "Redis is there");
                state.up.store(true, Ordering::Release);
                shared.node_changed();
                let ended = serve(&shared, line, &mut work, sentinels.as_mut()).await;
                state.up.store(false, Ordering::Release);
                shared.node_lost();
                told.clear();
                let Some(trouble) = ended else { return };
                trouble
            }
            Err(trouble) => trouble,
        };
        let why = trouble.to_string();
        shared.note(&why);
        if why != told {
            let server = Address(&state.host, state.port);
            tracing::warn!(%server, why, "Redis is away: this replica goes on with what it knows itself");
            told = why;
        }
        work.refuse_for(pace.next()).await;
    }
}

impl Work {
    /// What waited for a connection waited too long.
    fn refuse(&mut self) {
        while let Ok(waiting) = self.calls.try_recv() {
            waiting.end(Err(Down::Away));
        }
        while let Ok(batch) = self.behind.try_recv() {
            batch.into_iter().for_each(|waiting| waiting.end(Err(Down::Away)));
        }
    }

    /// Until the next try; callers that came as the circuit opened are told at once.
    async fn refuse_for(&mut self, wait: Duration) {
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                waiting = self.calls.recv() => match waiting {
                    Some(waiting) => waiting.end(Err(Down::Away)),
                    None => return,
                },
                Some(batch) = self.behind.recv() => {
                    batch.into_iter().for_each(|waiting| waiting.end(Err(Down::Away)));
                }
            }
        }
    }
}

/// A connection that has shown that it can be used.
struct Line {
    server: String,
    at: (String, u16),
    connection: MultiplexedConnection,
    lost: mpsc::Receiver<()>,
}

async fn open(shared: &Arc<Shared>, state: &State, sentinels: Option<&mut SentinelClient>) -> Result<Line, Trouble> {
    let at = match sentinels {
        Some(sentinels) => dial::master(sentinels).await?,
        None => (state.host.clone(), state.port),
    };
    let client = shared.dial.client(&at.0, at.1)?;
    let (tell_lost, lost) = mpsc::channel(1);
    let watching = Arc::clone(shared);
    let pushed = move |push: PushInfo| {
        match push.kind {
            PushKind::Invalidate => watching.invalid(push.data),
            // Full: it was told.
            PushKind::Disconnection => drop(tell_lost.try_send(())),
            _ => {}
        }
        Ok(())
    };
    let mut connection = shared.dial.connect(&client, pushed).await?;
    let mut tracking = Pipeline::new();
    tracking.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
    send(&mut connection, &tracking, shared.stall()).await?;
    probe(shared, state, &mut connection).await?;
    Ok(Line { server: Address(&at.0, at.1).to_string(), at, connection, lost })
}

/// One write in time. A first answer may be slow for reasons of the connection's youth.
async fn probe(shared: &Shared, state: &State, connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    let key = state.probe.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut write = Pipeline::new();
    write.cmd("EVAL").arg("return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])").arg(1).arg(key).arg(PROBE_LIFE_MS);
    for _ in 0..PROBES {
        let began = Instant::now();
        send(connection, &write, shared.stall()).await.inspect_err(|_| shared.look_again())?;
        if began.elapsed() <= shared.timeout {
            return Ok(());
        }
    }
    Err(Trouble::Slow(shared.timeout))
}

/// One command whose refusal is trouble.
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    command: &Pipeline,
    most: Duration,
) -> Result<Value, Trouble> {
    let sending = connection.send_packed_commands(command, 0, command.len());
    let mut values = timeout(most, sending).await.map_err(|_| Trouble::Silent(most))??;
    match values.pop() {
        Some(Value::ServerError(error)) => Err(Trouble::refused(&error)),
        Some(value) => Ok(value),
        None => Err(Trouble::Lost),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trip {
    Calls,
    Behind,
    Ping,
}

/// A round trip that has come back, or will not.
struct Landed {
    trip: Trip,
    batch: Vec<Waiting>,
    answers: Result<Vec<Value>, Trouble>,
    took: Duration,
}

/// One connection from its first call to its last.
struct Serving<'s> {
    shared: &'s Arc<Shared>,
    connection: MultiplexedConnection,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    calls_under_way: usize,
    behind_under_way: bool,
    late_in_row: u32,
    /// Scripts that this server has been sent whole.
    loaded: HashSet<usize>,
}

/// Until there is trouble, or (`None`) nobody needs the server any longer.
async fn serve(
    shared: &Arc<Shared>,
    line: Line,
    work: &mut Work,
    sentinels: Option<&mut SentinelClient>,
) -> Option<Trouble> {
    let Line { connection, mut lost, at, .. } = line;
    let mut serving = Serving {
        shared,
        connection,
        flights: FuturesUnordered::new(),
        calls_under_way: 0,
        behind_under_way: false,
        late_in_row: 0,
        loaded: HashSet::new(),
    };
    let moved = moved(sentinels, at);
    tokio::pin!(moved);
    let mut gathered = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            _ = lost.recv() => return Some(Trouble::Lost),
            Some(landed) = serving.flights.next(), if !serving.flights.is_empty() => {
                if let Err(trouble) = serving.land(landed) {
                    return Some(trouble);
                }
            }
            () = &mut moved => return Some(Trouble::Moved),
            count = work.calls.recv_many(&mut gathered, BATCH_MAX), if serving.calls_under_way < TRIPS_MAX => {
                if count == 0 {
                    return None;
                }
                // Those that gave up are not sent.
                gathered.retain(|waiting| !waiting.answer.is_closed());
                serving.launch(Trip::Calls, std::mem::take(&mut gathered));
            }
            Some(batch) = work.behind.recv(), if !serving.behind_under_way => serving.launch(Trip::Behind, batch),
            () = tokio::time::sleep(IDLE), if serving.flights.is_empty() => serving.launch(Trip::Ping, Vec::new()),
        }
    }
}

/// Ends when the Sentinels know another master; never where there are none.
async fn moved(sentinels: Option<&mut SentinelClient>, at: (String, u16)) {
    let Some(sentinels) = sentinels else { return std::future::pending().await };
    loop {
        tokio::time::sleep(MASTER_EVERY).await;
        if dial::master(sentinels).await.is_ok_and(|now| now != at) {
            return;
        }
    }
}

impl Serving<'_> {
    fn launch(&mut self, trip: Trip, batch: Vec<Waiting>) {
        let mut pipeline = Pipeline::with_capacity(batch.len().max(1));
        for waiting in &batch {
            if waiting.asking {
                pipeline.cmd("ASKING");
            }
            let script = std::ptr::from_ref(waiting.call.script).addr();
            waiting.call.add_to(&mut pipeline, self.loaded.insert(script));
        }
        let most = match trip {
            Trip::Calls if batch.is_empty() => return,
            Trip::Calls => {
                self.calls_under_way += 1;
                self.shared.stall()
            }
            Trip::Behind => {
                self.behind_under_way = true;
                self.shared.behind_most()
            }
            Trip::Ping => {
                pipeline.cmd("PING");
                self.shared.stall()
            }
        };
        let mut connection = self.connection.clone();
        let began = Instant::now();
        self.flights.push(Box::pin(async move {
            let sending = connection.send_packed_commands(&pipeline, 0, pipeline.len());
            let answers = match timeout(most, sending).await {
                Ok(answers) => answers.map_err(Trouble::from),
                Err(_) => Err(Trouble::Silent(most)),
            };
            Landed { trip, batch, answers, took: began.elapsed() }
        }));
    }

    /// Hands the answers on.
    ///
    /// # Errors
    /// The server cannot be used any longer.
    fn land(&mut self, landed: Landed) -> Result<(), Trouble> {
        let Landed { trip, batch, answers, took } = landed;
        match trip {
            Trip::Calls => self.calls_under_way -= 1,
            Trip::Behind => self.behind_under_way = false,
            Trip::Ping => {}
        }
        // Dropped, they tell those who wait that they are lost.
        let mut answers = answers?.into_iter();
        self.shared.meter.round_trip(took);
        let mut trouble = None;
        let mut again = Vec::new();
        for waiting in batch {
            let answer = if waiting.asking { answers.nth(1) } else { answers.next() };
            match answer {
                Some(Value::ServerError(error)) => self.refused(waiting, &error, &mut again, &mut trouble),
                Some(value) => waiting.end(Ok(value)),
                None => waiting.end(Err(Down::Lost)),
            }
        }
        if !again.is_empty() {
            self.loaded.clear();
            self.launch(trip, again);
        }
        match trouble {
            Some(trouble) => Err(trouble),
            None => self.in_time(trip, took),
        }
    }

    fn in_time(&mut self, trip: Trip, took: Duration) -> Result<(), Trouble> {
        if trip == Trip::Behind {
            return Ok(());
        }
        self.late_in_row = if took > self.shared.timeout { self.late_in_row + 1 } else { 0 };
        if self.late_in_row < LATE_MAX { Ok(()) } else { Err(Trouble::Slow(self.shared.timeout)) }
    }

    fn refused(&self, waiting: Waiting, error: &ServerError, again: &mut Vec<Waiting>, trouble: &mut Option<Trouble>) {
        match error.kind() {
            // Its scripts were flushed.
            Some(ServerErrorKind::NoScript) if waiting.hops == 0 => again.push(Waiting { hops: 1, ..waiting }),
            Some(ServerErrorKind::Moved) => self.shared.send_on(waiting, error, false),
            Some(ServerErrorKind::Ask) => self.shared.send_on(waiting, error, true),
            _ => {
                if takes_no_calls(error.code()) && trouble.is_none() {
                    *trouble = Some(Trouble::refused(error));
                }
                waiting.end(Err(Down::Refused(error.code().into())));
            }
        }
    }
}

/// Whether an error is about the server as a whole, not about one call.
fn takes_no_calls(code: &str) -> bool {
    const CODES: [&str; 10] = [
        "LOADING",
        "READONLY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "OOM",
        "MISCONF",
        "NOAUTH",
        "NOREPLICAS",
        "BUSY",
        "WRONGPASS",
    ];
    CODES.contains(&code)
}
