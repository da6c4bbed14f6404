//! Accepting: one thread takes connections and gives each to the worker with the fewest. It survives the
//! exhaustion of descriptors by waiting, never by spinning.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

use super::{Arrival, Shared, Worker};
use crate::metrics::Metrics;

/// Connections the kernel holds for us while we are busy; it caps this itself (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// After a failed accept: long enough not to spin, short enough to be back within a second of relief.
const PAUSE: Duration = Duration::from_millis(100);

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

impl Acceptor {
    pub(super) fn bind(
        shared: &Shared,
        connections_max: usize,
        workers: Vec<Worker>,
        stopped: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bound = {
            let _guard = runtime.enter();
            listen_on(shared.config.address)
        };
        let (listener, address) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                // It was made on a thread of another one, where a plain drop panics: it would wait.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let free = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
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

/// A listening socket, and its address. Called within a runtime.
fn listen_on(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
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
