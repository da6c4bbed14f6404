//! Accepting: one thread takes connections and gives each to the worker with the fewest. It survives the
//! exhaustion of descriptors by waiting, never by spinning.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

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
            // All in one, and in the row at once: one after another the acceptor would get places in between.
            let count = u32::try_from(surplus).unwrap_or(u32::MAX);
            let mut ended = Box::pin(Arc::clone(&self.free).acquire_many_owned(count));
            match ended.as_mut().now_or_never() {
                Some(permits) => drop(permits.map(OwnedSemaphorePermit::forget)),
                None => drop(tokio::spawn(async move { ended.await.map(OwnedSemaphorePermit::forget) })),
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_of_those_that_end_go_to_nobody_while_there_are_too_many() {
        let cap = Cap::new(8);
        let mut held: Vec<_> = (0..8).map(|_| Arc::clone(&cap.free).try_acquire_owned().unwrap()).collect();
        cap.resize(3);
        // Several at once, before anything else has run.
        for _ in 0..5 {
            held.pop();
            assert!(cap.free.try_acquire().is_err(), "{} are there", held.len());
        }
        tokio::task::yield_now().await;
        held.pop();
        assert_eq!(cap.free.available_permits(), 1);
        cap.resize(10);
        assert_eq!(cap.free.available_permits(), 8);
    }
}
