//! The yardstick: the least a hyper server can do for the same answer. It reads the whole body
//! and answers 202 with an empty one; no route, no JSON, no timeout. PERFORMANCE's ratios are
//! against this. Called by `main.rs`.
//!
//! As in the proxy: one current-thread runtime per thread, connections handed out evenly by one
//! acceptor, TCP_NODELAY, a hand-written loop over the body's frames.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::pin::Pin;

use anyhow::Context;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Connections that wait for a thread to take them. The acceptor waits when it is full.
const HANDED_OUT_AT_MOST: usize = 1024;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on
    #[arg(long)]
    listen: SocketAddr,
    /// Threads that serve, each with its own runtime
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be bound, or a thread cannot start.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut threads = Vec::new();
    for _ in 0..arguments.threads {
        let (sender, receiver) = mpsc::channel(HANDED_OUT_AT_MOST);
        std::thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || serve(receiver))
            .context("cannot start a thread")?;
        threads.push(sender);
    }
    let runtime = current_thread_runtime()?;
    runtime.block_on(accept(arguments.listen, &threads))
}

fn current_thread_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// Round robin: connections are long, so an even count is an even load.
async fn accept(address: SocketAddr, threads: &[mpsc::Sender<StdTcpStream>]) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    // With port 0 this is the only place that tells the port.
    let _ = writeln!(std::io::stderr(), "bare listens on {}", listener.local_addr()?);
    for thread in threads.iter().cycle() {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        // Through std: a tokio stream belongs to the runtime that made it.
        thread.send(stream.into_std()?).await.context("a serving thread has ended")?;
    }
    Ok(())
}

/// A serving thread. An error of one connection ends that connection only.
fn serve(mut connections: mpsc::Receiver<StdTcpStream>) {
    let Ok(runtime) = current_thread_runtime() else {
        return;
    };
    runtime.block_on(async move {
        while let Some(stream) = connections.recv().await {
            let Ok(stream) = TcpStream::from_std(stream) else {
                continue;
            };
            tokio::spawn(async move {
                // A client that goes away is not worth a word.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
}

async fn answer(request: Request<Incoming>) -> Result<Response<Empty>, hyper::Error> {
    let mut body = request.into_body();
    let mut bytes = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Some(data) = frame?.data_ref() {
            bytes += data.len();
        }
    }
    // The length is what a server needs at the least; the optimiser may not know that none does.
    std::hint::black_box(bytes);
    let mut response = Response::new(Empty);
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// A body of no bytes.
struct Empty;

impl Body for Empty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
