//! The time limits of connections. A timer per request costs 5% of a bare server's throughput (PERFORMANCE 1),
//! so connections only note on a coarse clock what they do, and one sweep a quarter of a second closes those
//! that take too long.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::Config;
use crate::intake::Peer;

/// How late a limit may strike.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// All connections of one worker.
pub(super) struct Watch {
    header_timeout_ms: AtomicU64,
    idle_timeout_ms: AtomicU64,
    began: Instant,
    /// Milliseconds since `began`, plus 1: 0 stands for "not".
    clock_ms: Arc<AtomicU64>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    entered: Option<(u64, Arc<Watched>)>,
    running: HashMap<u64, (Arc<Watched>, AbortHandle)>,
}

/// What one connection notes of itself. Only its worker's thread does, so nothing here is a locked instruction.
pub(super) struct Watched {
    clock_ms: Arc<AtomicU64>,
    /// When the head under way began to arrive; 0: none is.
    head_since_ms: AtomicU64,
    /// Last end of a request, or progress in writing.
    active_ms: AtomicU64,
    requests: AtomicU32,
    /// HTTP/2 sends control frames at any time: heads are not told from them here.
    is_h2: AtomicBool,
    asked_to_close: AtomicBool,
    waker: AtomicWaker,
    /// The other side does not read: an answer could not be written.
    is_stuck: AtomicBool,
    written: AtomicWaker,
    /// An answer of ours is on its way to where bytes are written.
    answers: AtomicBool,
    /// A request in work wants to know whether the other side closes,
    is_looked_at: AtomicBool,
    /// and it did.
    is_closed: AtomicBool,
}

impl Peer for Watched {
    /// HTTP/1 alone: a request of HTTP/2 whose client goes is dropped by itself. Its future is polled with its connection,
    /// which looks at the socket each time it has nothing more to write.
    fn poll_gone(&self, _: &mut std::task::Context<'_>) -> Poll<()> {
        self.is_looked_at.store(true, Relaxed);
        if self.is_closed.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Watched {
    /// Whether it is to be told when the other side closes.
    pub(super) fn is_looked_at(&self) -> bool {
        self.is_looked_at.load(Relaxed) && !self.is_closed.load(Relaxed)
    }

    pub(super) fn closed(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// The coarse clock: milliseconds, at most a quarter of a second late.
    pub(super) fn now(&self) -> u64 {
        self.clock_ms.load(Relaxed)
    }

    /// Bytes arrived.
    pub(super) fn read(&self) {
        if self.requests.load(Relaxed) == 0 && self.head_since_ms.load(Relaxed) == 0 && !self.is_h2.load(Relaxed) {
            self.head_since_ms.store(self.now(), Relaxed);
        }
    }

    /// Bytes left.
    pub(super) fn wrote(&self) {
        self.active_ms.store(self.now(), Relaxed);
        if self.is_stuck.load(Relaxed) {
            self.is_stuck.store(false, Relaxed);
            self.written.wake();
        }
    }

    /// All bytes have left: progress only if they could not before.
    pub(super) fn flushed(&self) {
        if self.is_stuck.load(Relaxed) {
            self.wrote();
        }
    }

    /// Bytes could not leave.
    pub(super) fn stuck(&self) {
        self.is_stuck.store(true, Relaxed);
    }

    /// Waits while the other side does not read: answers must not heap up in front of it. Such a wait counts as
    /// idleness.
    pub(super) async fn until_it_reads(&self) {
        if self.is_stuck.load(Relaxed) {
            self.head_since_ms.store(0, Relaxed);
            poll_fn(|cx| {
                self.written.register(cx.waker());
                if self.is_stuck.load(Relaxed) { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    /// A request's head is complete: the connection is not idle until its [`end`](Self::end).
    pub(super) fn begin(&self, is_h2: bool) {
        self.requests.store(self.requests.load(Relaxed) + 1, Relaxed);
        self.head_since_ms.store(0, Relaxed);
        if is_h2 {
            self.is_h2.store(true, Relaxed);
        }
    }

    /// The next answer to be written is ours: hyper makes its own where it cannot read a head.
    pub(super) fn answers(&self) {
        self.answers.store(true, Relaxed);
    }

    /// Whether it is; once for each.
    pub(super) fn is_answered(&self) -> bool {
        let is_ours = self.answers.load(Relaxed);
        self.answers.store(false, Relaxed);
        is_ours
    }

    /// A request was answered that was never waited for.
    pub(super) fn answered(&self) {
        self.active_ms.store(self.now(), Relaxed);
        self.head_since_ms.store(0, Relaxed);
    }

    /// A request has ended.
    pub(super) fn end(&self) {
        self.active_ms.store(self.now(), Relaxed);
        self.requests.store(self.requests.load(Relaxed) - 1, Relaxed);
        self.is_looked_at.store(false, Relaxed);
    }

    /// Registers the connection's task once, to be woken when it is asked to close.
    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// It is to end after what it is doing.
    pub(super) fn ask_to_close(&self) {
        self.asked_to_close.store(true, Relaxed);
        self.waker.wake();
    }

    pub(super) fn is_asked_to_close(&self) -> bool {
        self.asked_to_close.load(Relaxed)
    }
}

impl Watch {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let watch = Self {
            header_timeout_ms: AtomicU64::default(),
            idle_timeout_ms: AtomicU64::default(),
            began: Instant::now(),
            clock_ms: Arc::new(AtomicU64::new(1)),
            connections: Mutex::default(),
        };
        watch.configure(config);
        Arc::new(watch)
    }

    /// Takes other limits, for the connections that are there too.
    pub(super) fn configure(&self, config: &Config) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.header_timeout_ms.store(millis(config.header_timeout), Relaxed);
        self.idle_timeout_ms.store(millis(config.idle_timeout), Relaxed);
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection; its first head is under way.
    pub(super) fn enter(&self) -> Arc<Watched> {
        let now = self.clock_ms.load(Relaxed);
        let watched = Arc::new(Watched {
            clock_ms: Arc::clone(&self.clock_ms),
            head_since_ms: AtomicU64::new(now),
            active_ms: AtomicU64::new(now),
            requests: AtomicU32::new(0),
            is_h2: AtomicBool::new(false),
            asked_to_close: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            is_stuck: AtomicBool::new(false),
            answers: AtomicBool::new(false),
            written: AtomicWaker::new(),
            is_looked_at: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        });
        let mut connections = self.connections();
        connections.next += 1;
        connections.entered = Some((connections.next, Arc::clone(&watched)));
        watched
    }

    /// The task that serves the connection entered last.
    pub(super) fn started(&self, task: JoinHandle<()>) {
        let mut connections = self.connections();
        if let Some((id, watched)) = connections.entered.take() {
            connections.running.insert(id, (watched, task.abort_handle()));
        }
    }

    /// Asks every connection to end after what it is doing.
    pub(super) fn ask_all_to_close(&self) {
        for (watched, _) in self.connections().running.values() {
            watched.ask_to_close();
        }
    }

    /// Moves the clock and closes what takes too long; runs as long as its worker.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
            self.clock_ms.store(now, Relaxed);
            self.connections().running.retain(|_, (watched, task)| {
                if self.is_over(watched, now) {
                    task.abort();
                }
                !task.is_finished()
            });
        }
    }

    fn is_over(&self, watched: &Watched, now: u64) -> bool {
        if watched.requests.load(Relaxed) > 0 {
            return false;
        }
        let head = watched.head_since_ms.load(Relaxed);
        let idle = now.saturating_sub(watched.active_ms.load(Relaxed));
        (head != 0 && now.saturating_sub(head) > self.header_timeout_ms.load(Relaxed))
            || idle > self.idle_timeout_ms.load(Relaxed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// With these time-outs for heads and idleness, in seconds.
    fn watch_of(header_s: u64, idle_s: u64) -> Arc<Watch> {
        Watch::new(&config(header_s, idle_s))
    }

    pub(in crate::listen) fn config(header_s: u64, idle_s: u64) -> Config {
        Config {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            proxies: crate::listen::Proxies::default(),
            connections: None,
            header_bytes: 0,
            headers: 0,
            uri_bytes: 0,
            header_timeout: Duration::from_secs(header_s),
            idle_timeout: Duration::from_secs(idle_s),
            unauthenticated_requests_per_second: 1,
        }
    }

    async fn run_for(watch: &Arc<Watch>, time: Duration) {
        let sweep = tokio::spawn(Arc::clone(watch).sweep());
        tokio::time::sleep(time).await;
        sweep.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_takes_too_long_is_closed_and_a_request_in_work_is_not() {
        let watch = watch_of(5, 60);
        let slow = watch.enter();
        watch.started(tokio::spawn(std::future::pending()));
        let busy = watch.enter();
        watch.started(tokio::spawn(std::future::pending()));
        busy.begin(false);
        slow.read();
        run_for(&watch, Duration::from_secs(4)).await;
        assert_eq!(watch.connections().running.len(), 2);
        run_for(&watch, Duration::from_secs(100)).await;
        let connections = watch.connections();
        assert_eq!(connections.running.len(), 1);
        assert!(connections.running.values().all(|(watched, _)| Arc::ptr_eq(watched, &busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_lives_as_long_as_the_idle_time_out() {
        let watch = watch_of(5, 60);
        let idle = watch.enter();
        watch.started(tokio::spawn(std::future::pending()));
        idle.begin(false);
        idle.end();
        run_for(&watch, Duration::from_secs(59)).await;
        assert_eq!(watch.connections().running.len(), 1);
        run_for(&watch, Duration::from_secs(3)).await;
        assert_eq!(watch.connections().running.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn other_time_outs_hold_for_connections_that_are_there() {
        let watch = watch_of(5, 60);
        let idle = watch.enter();
        watch.started(tokio::spawn(std::future::pending()));
        idle.begin(false);
        idle.end();
        watch.configure(&config(5, 2));
        run_for(&watch, Duration::from_secs(3)).await;
        assert_eq!(watch.connections().running.len(), 0);
    }
}
