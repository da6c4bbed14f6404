//! The way to Redis. Calls come from the threads that take requests in; what has gathered when a round trip is free goes
//! out as one, so that under load batches form by themselves. It has a thread of its own: Redis may hang, requests not.
//!
//! | bound | what |
//! | --- | --- |
//! | `redis.timeout` | a call, from its hand-over to its answer; with the circuit open it fails at once |
//! | ten times that, 50 ms to 1 s | until an answer that stays out opens the circuit |
//! | 1 s | connecting; writes behind answers; the longest pause between tries |
//! | 16,384 calls, 4 batches of 32 (scope `mirror`: 256) behind answers | what waits for one server; one more fails at once |

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::redis::{ServerError, Value};
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Config;
use super::call::{Call, Down};
use super::dial::{Dial, Trouble};
use super::node::{BATCH_MAX, BEHIND_CALLS_MAX, BEHIND_TIME_MAX, Node, Waiting};
use super::servers::Kind;
use super::topology::{self, Map};
use crate::metrics::{Metrics, RedisMeter};

/// An answer that stays out this many times `redis.timeout`, within these bounds, opens the circuit.
const STALL_TIMES: u32 = 10;
const STALL_LEAST: Duration = Duration::from_millis(50);
const STALL_MOST: Duration = Duration::from_secs(1);
/// A Cluster sends a call on at most so often.
const HOPS_MAX: u8 = 3;

/// What may have changed in Redis without our doing.
#[derive(Debug, PartialEq, Eq)]
pub enum Invalid<'k> {
    /// This key, which this replica had read.
    Key(&'k [u8]),
    /// Any: a connection was lost, or Redis was flushed.
    All,
}

type Watcher = Box<dyn Fn(Invalid<'_>) + Send + Sync>;

/// Why the link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Setting(String),
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

/// The way to Redis. Dropped: its thread ends, and what waits fails.
pub struct Link {
    config: Config,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    _stop: oneshot::Sender<()>,
}

/// What the link's tasks have in common.
pub(super) struct Shared {
    pub(super) dial: Dial,
    pub(super) timeout: Duration,
    pub(super) prefix: String,
    pub(super) map: ArcSwap<Map>,
    pub(super) meter: RedisMeter,
    look: Notify,
    up: AtomicBool,
    outages: AtomicU64,
    watchers: RwLock<Vec<Watcher>>,
    trouble: Mutex<Option<String>>,
}

impl Link {
    /// Starts its thread, which connects and keeps connecting; a Redis that is away is no error.
    ///
    /// # Errors
    /// Settings that can never work, or no thread.
    pub fn start(config: &Config, metrics: &Metrics) -> Result<Arc<Self>, StartError> {
        let setting = |trouble: Trouble| StartError::Setting(trouble.to_string());
        let dial = Dial::new(config).map_err(setting)?;
        let sentinels = dial.sentinels().map_err(setting)?;
        let servers = &config.servers;
        for (host, port) in &servers.hosts {
            dial.client(host, *port).map_err(setting)?;
        }
        let shared = Arc::new(Shared {
            dial,
            timeout: config.timeout,
            prefix: config.key_prefix.clone(),
            map: ArcSwap::default(),
            meter: metrics.redis(),
            look: Notify::new(),
            up: AtomicBool::new(false),
            outages: AtomicU64::new(0),
            watchers: RwLock::default(),
            trouble: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (kind, hosts, tasks) = (servers.kind.clone(), servers.hosts.clone(), Arc::clone(&shared));
        let run = async move {
            match (kind, hosts.first()) {
                (Kind::Cluster, _) | (_, None) => drop(tokio::spawn(topology::keep(tasks, hosts))),
                (_, Some(first)) => {
                    let probe = format!("{}:probe", tasks.prefix);
                    let node = Node::start(&tasks, first.clone(), probe, sentinels);
                    tasks.map.store(Arc::new(Map::single(node)));
                }
            }
            // Its sender is dropped.
            let _ = stopped.await;
        };
        let thread = std::thread::Builder::new().name("redis".to_owned());
        thread.spawn(move || runtime.block_on(run)).map_err(StartError::Thread)?;
        Ok(Arc::new(Self { config: config.clone(), shared, runtime: handle, _stop: stop }))
    }

    /// One call, answered within `redis.timeout` or not at all. The time counts from here: what waits behind a slow
    /// round trip is late too.
    ///
    /// A key that the script reads is watched from then on: mark it as asked *before* the call, and do not trust an
    /// answer if the key became [`Invalid`] meanwhile, for the two come from different threads.
    ///
    /// # Errors
    /// Whatever keeps the answer away; the call may have been run.
    pub async fn call(&self, call: Call) -> Result<Value, Down> {
        let answer = match self.hand_over(call) {
            Ok(answer) => match timeout(self.shared.timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Down::Lost),
                Err(_) => Err(Down::Late),
            },
            Err(down) => Err(down),
        };
        self.shared.count(&answer);
        answer
    }

    /// The first half of [`Self::call`], for who minds the time itself and says what came of it by [`Self::counted`].
    pub(super) fn hand_over(&self, call: Call) -> Result<oneshot::Receiver<Result<Value, Down>>, Down> {
        let map = self.shared.map.load();
        let node = map.node_of(call.key()).filter(|node| node.state.is_up()).ok_or(Down::Away)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { call, answer, hops: 0, asking: false };
        node.calls.try_send(waiting).map_err(|_| Down::Full)?;
        Ok(answered)
    }

    pub(super) fn counted(&self, answer: &Result<Value, Down>) {
        self.shared.count(answer);
    }

    /// Writes that no request waits for, in order for each key, in round trips of their own. An answer for each, within
    /// 2 s for each 32 of them, or 256 where no request's call could wait for them.
    pub async fn send_behind(&self, calls: Vec<Call>) -> Vec<Result<Value, Down>> {
        let mut answers = Vec::with_capacity(calls.len());
        let most = if self.config.asks() { BEHIND_CALLS_MAX } else { BATCH_MAX };
        let mut calls = calls.into_iter().peekable();
        while calls.peek().is_some() {
            let batch: Vec<Call> = calls.by_ref().take(most).collect();
            answers.extend(self.send_batch(batch).await);
        }
        answers.iter().for_each(|answer| self.shared.count(answer));
        answers
    }

    async fn send_batch(&self, batch: Vec<Call>) -> Vec<Result<Value, Down>> {
        let most = self.shared.behind_most();
        let mut of_nodes: Vec<(Arc<Node>, Vec<Waiting>)> = Vec::new();
        let mut answers = Vec::with_capacity(batch.len());
        {
            let map = self.shared.map.load();
            for call in batch {
                let node = map.node_of(call.key()).filter(|node| node.state.is_up());
                let (answer, answered) = oneshot::channel();
                let waiting = Waiting { call, answer, hops: 0, asking: false };
                match node {
                    None => waiting.end(Err(Down::Away)),
                    Some(node) => match of_nodes.iter_mut().find(|(other, _)| Arc::ptr_eq(other, node)) {
                        Some((_, waiting_there)) => waiting_there.push(waiting),
                        None => of_nodes.push((Arc::clone(node), vec![waiting])),
                    },
                }
                answers.push(answered);
            }
        }
        // What a full or lost server does not take is dropped, which tells the one who waits.
        let handing = of_nodes.into_iter().map(|(node, waiting)| async move {
            let _ = timeout(most, node.behind.send(waiting)).await;
        });
        join_all(handing).await;
        // They come back together: one timer is enough.
        let until = Instant::now() + most;
        let mut said = Vec::with_capacity(answers.len());
        for answer in answers {
            said.push(match timeout_at(until, answer).await {
                Ok(answer) => answer.unwrap_or(Err(Down::Lost)),
                Err(_) => Err(Down::Late),
            });
        }
        said
    }

    /// Whether every key has a server that answers.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Why a server was away last; holds no secret.
    pub fn last_trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Grows each time a connection is lost: what was read before it may have changed unnoticed.
    pub fn outages(&self) -> u64 {
        self.shared.outages.load(Ordering::Acquire)
    }

    /// Has `watcher` told of keys that changed elsewhere. It is called on the link's thread and must not wait.
    pub fn watch(&self, watcher: impl Fn(Invalid<'_>) + Send + Sync + 'static) {
        self.shared.watchers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(watcher));
    }

    /// Runs a task of this room on the link's thread, until it ends or the link does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// With what each key begins, without the colon.
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    pub(super) fn meter(&self) -> &RedisMeter {
        &self.shared.meter
    }
}

impl Shared {
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// How long an answer may stay out before the connection counts as lost.
    pub(super) fn stall(&self) -> Duration {
        (self.timeout * STALL_TIMES).clamp(STALL_LEAST, STALL_MOST).max(self.timeout)
    }

    /// The same of a batch of writes behind answers.
    pub(super) fn behind_most(&self) -> Duration {
        BEHIND_TIME_MAX.max(self.stall())
    }

    fn count(&self, answer: &Result<Value, Down>) {
        self.meter.operation(answer.as_ref().map_or_else(Down::label, |_| "ok"));
    }

    /// A server came or went.
    pub(super) fn node_changed(&self) {
        let up = self.map.load().is_up();
        self.up.store(up, Ordering::Release);
        self.meter.up(up);
    }

    /// A server that was there is away.
    pub(super) fn node_lost(&self) {
        self.outages.fetch_add(1, Ordering::AcqRel);
        self.meter.outages.inc();
        self.node_changed();
        self.look_again();
        self.tell(&Invalid::All);
    }

    pub(super) fn note(&self, trouble: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.to_owned());
    }

    /// A message of client tracking: a list of keys, or nothing for all of them.
    pub(super) fn invalid(&self, data: Vec<Value>) {
        for part in data {
            match part {
                Value::Array(keys) => {
                    for key in &keys {
                        if let Value::BulkString(key) = key {
                            self.tell(&Invalid::Key(key));
                        }
                    }
                }
                _ => self.tell(&Invalid::All),
            }
        }
    }

    fn tell(&self, invalid: &Invalid<'_>) {
        for watcher in &*self.watchers.read().unwrap_or_else(PoisonError::into_inner) {
            watcher(match invalid {
                Invalid::Key(key) => Invalid::Key(key),
                Invalid::All => Invalid::All,
            });
        }
    }

    /// The map of the Cluster is out of date, or may be.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }

    pub(super) async fn asked_to_look(&self) {
        self.look.notified().await;
    }

    /// Sends a call to the server that an error of the Cluster names: `MOVED slot host:port`.
    pub(super) fn send_on(&self, waiting: Waiting, error: &ServerError, asking: bool) {
        if !asking {
            self.look_again();
        }
        let map = self.map.load();
        let node = error.details().and_then(|details| {
            let (_, address) = details.split_once(' ')?;
            let (host, port) = address.rsplit_once(':')?;
            map.at(host, port.parse().ok()?)
        });
        match node.filter(|node| node.state.is_up() && waiting.hops < HOPS_MAX) {
            Some(node) => {
                let hops = waiting.hops + 1;
                if let Err(full) = node.calls.try_send(Waiting { hops, asking, ..waiting }) {
                    full.into_inner().end(Err(Down::Full));
                }
            }
            None => waiting.end(Err(Down::Refused(error.code().into()))),
        }
    }
}
