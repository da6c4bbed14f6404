//! Accepting: one thread takes connections and gives each to the worker with the fewest. It survives the
//! exhaustion of descriptors by waiting, never by spinning.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

use super::{Arrival, Shared, Worker};
use crate::metrics::Metrics;

/// Connections the kernel holds for us while we are busy; it caps this itself (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// After a failed accept: long enough not to spin, short enough to be back within a second of relief.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be at once.
pub(super) struct Cap {
    free: Arc<Semaphore>,
    most: Mutex<usize>,
}

impl Cap {
    pub(super) fn new(connections_max: usize) -> Self {
        let most = connections_max.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), most: Mutex::new(most) }
    }

    /// Another number. Connections that are there stay; where there are too many, those that end make no room. Needs a
    /// runtime.
    pub(super) fn resize(&self, connections_max: usize) {
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *most, connections_max.min(Semaphore::MAX_PERMITS));
        self.free.add_permits(most.saturating_sub(before));
        let mut surplus = before.saturating_sub(*most);
        surplus -= self.free.forget_permits(surplus);
        if surplus > 0 {
            let free = Arc::clone(&self.free);
            tokio::spawn(async move {
                for _ in 0..surplus {
                    let Ok(permit) = free.acquire().await else { return };
                    permit.forget();
                }
            });
        }
    }
}

pub(super) struct Acceptor {
    runtime: tokio::runtime::Runtime,
    stopped: watch::Receiver<bool>,
    door: Door,
}

/// Where connections come from and go to.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    free: Arc<Semaphore>,
    workers: Vec<Worker>,
    metrics: Arc<Metrics>,
}

/// Takes an address, so that nobody else can, without listening: connections are refused until [`Acceptor::listen`].
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Acceptor {
    pub(super) fn listen(
        socket: TcpSocket,
        shared: &Shared,
        cap: &Cap,
        workers: Vec<Worker>,
        stopped: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let listening = socket.listen(BACKLOG).and_then(|listener| Ok((listener.local_addr()?, listener)));
        drop(guard);
        let (address, listener) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                // The caller may be on a runtime of its own, where none can be waited for.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let free = Arc::clone(&cap.free);
        let metrics = Arc::clone(&shared.intake.metrics);
        Ok(Self { runtime, stopped, door: Door { listener, address, free, workers, metrics } })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// Accepts until told to stop. Dropping the workers' channels at the end lets them drain.
    pub(super) fn run(self) {
        let Self { runtime, mut stopped, door } = self;
        runtime.block_on(async {
            tokio::select! {
                () = door.accept_all() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

impl Door {
    async fn accept_all(&self) {
        loop {
            // At the cap the kernel's backlog holds the rest.
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Small answers must not wait for the peer's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let Ok(stream) = stream.into_std() else { continue };
                    let emptiest = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
                    if let Some(worker) = emptiest {
                        // A worker lives as long as this channel.
                        let _ = worker.arrivals.send(Arrival { stream, peer, permit });
                    }
                }
                Err(error) => {
                    self.metrics.connections_refused.inc();
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
