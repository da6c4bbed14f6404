//! The upstream of a scenario: the same as the verb's, on a thread of its own in the generator's process, with a witness
//! that writes the ledger. Called by [`crate::drive`].

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::books::Books;
use super::fault::Fault;
use super::script::Script;
use super::serve::Upstream;
use crate::witness::Witness;

/// Serves until it is dropped.
pub struct Own {
    pub address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Own {
    /// Listens on `address` and serves from then on.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(address: SocketAddr, witness: Witness, latency: Duration, faults: Vec<Fault>) -> anyhow::Result<Self> {
        let (end, ended) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || {
                let outcome = serve(address, witness, latency, faults, &tell, ended);
                if let Err(error) = outcome {
                    let _ = tell.send(Err(error));
                }
            })
            .context("cannot start the upstream")?;
        let address = told.recv().context("the upstream ended")??;
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    address: SocketAddr,
    witness: Witness,
    latency: Duration,
    faults: Vec<Fault>,
    tell: &mpsc::Sender<anyhow::Result<SocketAddr>>,
    ended: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the upstream's runtime")?;
    let upstream = Rc::new(Upstream {
        script: RefCell::new(Script::new(faults)),
        books: RefCell::new(Books::open(None, false)?),
        stand: RefCell::new(None),
        latency,
        witness: Some(witness),
    });
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let _ = tell.send(listener.local_addr().context("no address"));
        tokio::select! {
            ended = super::accept(&upstream, &listener) => ended,
            _ = ended => Ok(()),
        }
    })
}
