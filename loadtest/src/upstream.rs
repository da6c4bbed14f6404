//! An upstream that counts what arrives, fails on demand, and stands in for a vendor if wished.
//!
//! Every POST is a delivery; `GET /stats` tells the counts, `POST /faults` replaces the scripted
//! faults. A request's life: read the body, recognise its events ([`received`]), ask the script
//! ([`script`], written in the grammar of [`fault`]), enter it into the books ([`books`]), answer
//! ([`answer`]). With `--vendor` a stand-in ([`crate::stand`]) makes the answer. Called by `main.rs`, and by `scripts/bench.py` for the rows with forwarding.

mod answer;
mod books;
pub mod fault;
pub mod own;
mod received;
mod script;
mod serve;

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::{stand, units};
use books::Books;
use fault::Fault;
use script::Script;
use serve::Upstream;

/// Connections served at the same time; more wait in the system's backlog.
const CONNECTIONS_AT_MOST: usize = 10_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on
    #[arg(long)]
    listen: SocketAddr,
    #[command(flatten)]
    stand: stand::Options,
    /// Scripted fault, repeatable; the first that applies wins. Terms joined by commas: one of
    /// status=N[,retry_after=SECONDS[,retry_after_form=seconds|imf|utc]], hang, reset, truncate; and
    /// any of after=REQUESTS, for=DURATION, times=N, rate=FRACTION, match=KEY, path=TEXT (a part of
    /// METHOD /path). With --vendor, processed beside it: the request is done, its answer lost
    #[arg(long = "fault", value_name = "SPEC", value_parser = fault::parse)]
    faults: Vec<Fault>,
    /// Print a line for each event
    #[arg(long)]
    print: bool,
    /// Wait before each answer
    #[arg(long, default_value = "0ms", value_parser = units::parse_duration)]
    latency: Duration,
    /// Append a JSON line for each event
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Serves until INT or TERM, then prints the counts.
///
/// # Errors
/// The address cannot be bound, or the log cannot be opened.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the runtime")?;
    let stand = arguments.stand.stand();
    fault::check(&arguments.faults, stand.is_some()).map_err(anyhow::Error::msg)?;
    let upstream = Rc::new(Upstream {
        script: RefCell::new(Script::new(arguments.faults.clone())),
        books: RefCell::new(Books::open(arguments.log.as_deref(), arguments.print)?),
        stand: RefCell::new(stand),
        latency: arguments.latency,
        witness: None,
    });
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen)
            .await
            .with_context(|| format!("cannot listen on {}", arguments.listen))?;
        // With port 0 this is the only place that tells the port.
        let _ = writeln!(std::io::stderr(), "upstream listens on {}", listener.local_addr()?);
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = accept(&upstream, &listener) => ended?,
            _ = terminated.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        // A closed standard output at the end is no failure of the run.
        let _ = writeln!(std::io::stdout(), "{}", upstream.stats());
        Ok(())
    })
}

async fn accept(upstream: &Rc<Upstream>, listener: &TcpListener) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_AT_MOST));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let upstream = Rc::clone(upstream);
        tokio::task::spawn_local(async move {
            serve::serve_connection(upstream, stream).await;
            drop(slot);
        });
    }
}
