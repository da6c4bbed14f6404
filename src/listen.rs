//! The ingest listener: accepts, hands connections out evenly to one current-thread runtime a core
//! (PERFORMANCE 1), speaks HTTP/1.1 and HTTP/2 by hyper, over TLS by rustls where that is configured, holds every connection to its limits, drains.

mod accept;
mod connection;
mod frames;
pub mod framing;
mod holder;
mod plain;
mod refused;
mod serve;
mod source;
pub mod tls;
mod transport;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch as watch_channel};

use crate::intake::Intake;
use crate::metrics::Metrics;
pub use source::Proxies;
use watch::Watch;

pub use holder::Holder;
pub use refused::Refused;

/// Limits of the ingest listener (INTERFACE 3).
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    /// `None`: descriptors - 512.
    pub connections: Option<usize>,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    /// From the first byte of a head, or from the connection's begin, to the head's end.
    pub header_timeout: Duration,
    /// Without a request and without progress.
    pub idle_timeout: Duration,
    pub unauthenticated_requests_per_second: u32,
    /// `None`: plain HTTP.
    pub tls: Option<tls::Config>,
    pub proxies: Proxies,
}

/// An accepted connection on its way to a worker.
struct Arrival {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// What every thread of the listener shares.
struct Shared {
    /// As of the last reload; a connection keeps what it began with.
    config: ArcSwap<Config>,
    intake: Arc<Intake>,
    /// What the next handshake is held by; `None`: plain HTTP.
    tls: ArcSwapOption<ServerConfig>,
    /// Connections whose early answer the client may still have to read.
    lingering: Arc<AtomicUsize>,
}

impl Shared {
    fn set_tls(&self, tls: Option<tls::Loaded>) {
        let metrics: &Metrics = &self.intake.metrics;
        metrics.tls_certificate_expires(tls.as_ref().map(|tls| tls.facts.not_after));
        if let Some(tls) = &tls {
            tls.tell();
        }
        self.tls.store(tls.map(|tls| tls.server));
    }
}

/// One thread with its own runtime.
struct Worker {
    arrivals: mpsc::UnboundedSender<Arrival>,
    open: Arc<AtomicUsize>,
}

/// The running listener.
pub struct Listener {
    address: SocketAddr,
    controls: Arc<Controls>,
    stopping: watch_channel::Sender<bool>,
    acceptor: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

/// What may be changed while it listens.
pub struct Controls {
    shared: Arc<Shared>,
    watches: Vec<Arc<Watch>>,
    cap: accept::Cap,
}

impl Controls {
    /// Takes the limits of a reloaded configuration: time limits at once, others for connections that come, as with
    /// `tls`: those that are open go on as they are. The address stays. Needs a runtime.
    pub fn configure(&self, config: Config, tls: Option<tls::Loaded>) {
        self.shared.set_tls(tls);
        self.watches.iter().for_each(|watch| watch.configure(&config));
        self.cap.resize(connections_max(&config));
        self.shared.config.store(Arc::new(config));
    }
}

/// Takes the address of a listener without listening yet: a start knows that it can have it before it begins the rest.
///
/// # Errors
/// It cannot be had.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    accept::bind(address)
}

/// Descriptors that connections never take: the log, the upstreams and the other listeners need theirs.
pub const DESCRIPTORS_RESERVED: usize = 512;

impl Listener {
    /// Listens on what [`bind`] took and starts `workers` threads; connections arrive from here on. `tls`: what
    /// `config.tls` names, loaded.
    ///
    /// # Errors
    /// The address cannot be listened on, or a thread or runtime cannot be made.
    pub fn start(
        config: Config,
        tls: Option<tls::Loaded>,
        socket: TcpSocket,
        intake: Arc<Intake>,
        workers: usize,
    ) -> std::io::Result<Self> {
        let cap = accept::Cap::new(connections_max(&config));
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(config),
            intake,
            tls: ArcSwapOption::empty(),
            lingering: Arc::default(),
        });
        shared.set_tls(tls);
        let (stopping, stopped) = watch_channel::channel(false);
        let mut handles = Vec::new();
        let mut seats = Vec::new();
        let mut watches = Vec::new();
        for index in 0..workers.max(1) {
            let (arrivals, incoming) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let [rests, goes_on] = [(); 2].map(|()| Arc::clone(&shared.intake.store));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(move || rests.worker_rests(index))
                .on_thread_unpark(move || goes_on.worker_goes_on(index))
                .build()?;
            let watch = Watch::new(&shared.config.load());
            watches.push(Arc::clone(&watch));
            let worker = Running { index, shared: Arc::clone(&shared), open: Arc::clone(&open), incoming, watch };
            let thread = std::thread::Builder::new().name(format!("ingest-{index}"));
            handles.push(thread.spawn(move || runtime.block_on(worker.run()))?);
            seats.push(Worker { arrivals, open });
        }
        let acceptor = accept::Acceptor::listen(socket, &shared, &cap, seats, stopped)?;
        let address = acceptor.address();
        let thread = std::thread::Builder::new().name("accept".into()).spawn(move || acceptor.run())?;
        let controls = Arc::new(Controls { shared, watches, cap });
        Ok(Self { address, controls, stopping, acceptor: Some(thread), workers: handles })
    }

    /// What a reload changes.
    pub fn controls(&self) -> Arc<Controls> {
        Arc::clone(&self.controls)
    }

    /// Where it listens; the port is known even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets every request in flight end, and joins the threads. Blocks; a worker gives its
    /// connections at most [`DRAIN_MAX`].
    pub fn stop(mut self) {
        // Nobody listens any more only when the acceptor is gone already.
        let _ = self.stopping.send(true);
        for thread in self.acceptor.take().into_iter().chain(self.workers.drain(..)) {
            if thread.join().is_err() {
                tracing::error!("a listener thread panicked");
            }
        }
    }
}

/// Longest time for requests in flight to end once no connection is accepted any more.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// The state of one worker thread.
struct Running {
    index: usize,
    shared: Arc<Shared>,
    open: Arc<AtomicUsize>,
    incoming: mpsc::UnboundedReceiver<Arrival>,
    watch: Arc<Watch>,
}

impl Running {
    /// Serves what arrives until the acceptor is gone, then drains.
    async fn run(mut self) {
        let completions = Arc::clone(&self.shared.intake.store);
        tokio::spawn(completions.deliver_completions(self.index));
        let watch = &self.watch;
        let sweeper = tokio::spawn(Arc::clone(watch).sweep());
        while let Some(arrival) = self.incoming.recv().await {
            self.open.fetch_add(1, Ordering::Relaxed);
            let Ok(stream) = TcpStream::from_std(arrival.stream) else {
                self.open.fetch_sub(1, Ordering::Relaxed);
                continue;
            };
            let seat = Seat::new(&self.shared, &self.open, arrival.permit);
            let connection = serve::Connection {
                worker: self.index,
                shared: Arc::clone(&self.shared),
                peer: arrival.peer,
                source: arrival.peer.ip(),
                watched: watch.enter(),
                seat,
            };
            let task = tokio::spawn(connection.serve(stream));
            watch.started(task);
        }
        watch.ask_all_to_close();
        let emptied = async {
            while self.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, emptied).await.is_err() {
            tracing::warn!(connections = self.open.load(Ordering::Relaxed), "closed connections that did not end");
        }
        sweeper.abort();
    }
}

/// A connection's place in all counts; leaving gives it back.
struct Seat {
    shared: Arc<Shared>,
    open: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    fn new(shared: &Arc<Shared>, open: &Arc<AtomicUsize>, permit: OwnedSemaphorePermit) -> Self {
        shared.intake.metrics.connections.inc();
        Self { shared: Arc::clone(shared), open: Arc::clone(open), _permit: permit }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.intake.metrics.connections.dec();
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections at once: as configured, or what descriptors leave.
fn connections_max(config: &Config) -> usize {
    config.connections.unwrap_or_else(|| raise_descriptor_limit().saturating_sub(DESCRIPTORS_RESERVED).max(64))
}

/// Raises the soft limit of descriptors to the hard one and returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.map_or(1 << 20, |limit| usize::try_from(limit).unwrap_or(1 << 20)).min(1 << 20)
}
