//! Serving one connection: tells HTTP/2 from HTTP/1 by its first bytes, runs hyper on it, ends it in order.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::connection::Wire;
use super::frames::Frames;
use super::source::announced;
use super::transport::{Encrypted, Transport, begins_as_h2};
use super::watch::Watched;
use super::{Seat, Shared};
use crate::intake;

/// Streams one HTTP/2 connection may have open at once.
const H2_STREAMS_MAX: u32 = 256;
/// Most that a request in work holds: the allocator is quick, and 512 of them stay in the cache. Each member of the
/// futures in `intake` counts.
const REQUEST_BYTES_MAX: usize = 1024;
/// Receive window of one stream: an over-size body is refused after few of these.
const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// One connection.
pub(super) struct Connection {
    pub(super) worker: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// Whom the connection comes from: the peer, or whom a proxy announces.
    pub(super) source: IpAddr,
    pub(super) watched: Arc<Watched>,
    pub(super) seat: Seat,
}

impl Connection {
    pub(super) async fn serve(mut self, mut stream: TcpStream) {
        let announces = self.shared.config.load().proxies.announces(self.peer.ip());
        if announces {
            match Box::pin(announced(&mut stream)).await {
                Ok(source) => self.source = source.unwrap_or(self.source),
                Err(error) => return tracing::debug!(peer = %self.peer, %error, "no PROXY protocol"),
            }
        }
        match self.shared.tls.load_full() {
            None => {
                let Ok(is_h2) = begins_as_h2(&stream).await else { return };
                self.speak(stream, is_h2).await;
            }
            // Boxed: a plain connection must not hold its room.
            Some(config) => Box::pin(self.speak_encrypted(stream, config)).await,
        }
        drop(self.seat);
    }

    async fn speak_encrypted(&self, stream: TcpStream, config: Arc<ServerConfig>) {
        let accepted = async {
            let mut stream = Encrypted::accept(stream, config).await?;
            let is_h2 = stream.begins_as_h2().await?;
            Ok((stream, is_h2))
        };
        match accepted.await {
            Ok((stream, is_h2)) => self.speak(stream, is_h2).await,
            Err(error) => self.tell_refused(&error),
        }
    }

    fn tell_refused(&self, error: &std::io::Error) {
        use rustls::{Error, InvalidMessage};
        let why = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => "not TLS: plain HTTP on this port?",
            _ => "no TLS connection",
        };
        tracing::debug!(peer = %self.peer, %error, "{why}");
    }

    async fn speak<S: Transport>(&self, stream: S, is_h2: bool) {
        let config = self.shared.config.load_full();
        let unread = Arc::new(AtomicBool::new(false));
        let service = {
            let handler = Arc::new(Handler {
                worker: self.worker,
                shared: Arc::clone(&self.shared),
                source: self.source,
                is_forwarded: config.proxies.forwards(self.source),
                watched: Arc::clone(&self.watched),
                unread: Arc::clone(&unread),
            });
            // Boxed: an idle connection must not hold the room of a request in work.
            service_fn(move |request| {
                let answer = Arc::clone(&handler).answer(request);
                debug_assert!(size_of_val(&answer) <= REQUEST_BYTES_MAX, "{} B a request", size_of_val(&answer));
                Box::pin(answer)
            })
        };
        if is_h2 {
            let mut h2 = http2::Builder::new(TokioExecutor::new());
            h2.timer(TokioTimer::new())
                .max_concurrent_streams(H2_STREAMS_MAX)
                .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
                .max_header_list_size(u32::try_from(config.header_bytes).unwrap_or(u32::MAX));
            // Boxed: an HTTP/1 connection must not hold its room.
            let frames = Frames::new(stream, Arc::clone(&self.watched), Arc::clone(&self.shared.intake.metrics));
            let mut connection = Box::pin(h2.serve_connection(TokioIo::new(frames), service));
            self.drive(connection.as_mut(), |connection| connection.graceful_shutdown()).await;
        } else {
            let metrics = Arc::clone(&self.shared.intake.metrics);
            let lingering = Arc::clone(&self.shared.lingering);
            let wire = Wire::new(stream, Arc::clone(&self.watched), unread, metrics, lingering);
            let mut h1 = http1::Builder::new();
            // Our own watch holds heads to their time: hyper's timer costs 5% (PERFORMANCE 1).
            h1.header_read_timeout(None)
                // A half-close after a whole request still gets its answer (DESIGN 5.8).
                .half_close(true)
                .max_headers(config.headers)
                .max_buf_size(config.header_bytes.max(8192));
            // Pinned where it is made, and boxed: as a local it would stand in the task twice.
            let mut connection = Box::pin(h1.serve_connection(TokioIo::new(wire), service));
            self.drive(connection.as_mut(), |connection| connection.graceful_shutdown()).await;
        }
    }

    /// Runs a connection to its end; asked to close, it ends after the requests in flight.
    async fn drive<C>(&self, mut connection: Pin<&mut C>, close: fn(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let (mut registered, mut told) = (false, false);
        let ended = poll_fn(|cx: &mut Context<'_>| -> Poll<hyper::Result<()>> {
            if !registered {
                registered = true;
                self.watched.register(cx.waker());
            }
            if !told && self.watched.is_asked_to_close() {
                told = true;
                close(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Answers the requests of one connection.
struct Handler {
    worker: usize,
    shared: Arc<Shared>,
    source: IpAddr,
    /// The source is a proxy whose requests name theirs.
    is_forwarded: bool,
    watched: Arc<Watched>,
    unread: Arc<AtomicBool>,
}

impl Handler {
    fn source_of(&self, request: &Request<Incoming>) -> IpAddr {
        match self.is_forwarded {
            true => self.shared.config.load().proxies.source_of(request.headers(), self.source),
            false => self.source,
        }
    }

    /// No `async fn`: that would hold its arguments twice, in each connection.
    #[allow(clippy::manual_async_fn)]
    fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> impl Future<Output = Answered> {
        async move {
            let version = request.version();
            self.watched.until_it_reads().await;
            let in_work = InWork::begin(&self, version);
            let mut work = pin!(self.shared.intake.answer(self.worker, self.source_of(&request), &mut request));
            let answer = poll_fn(|cx| {
                // A defect in one request must not end the others of its connection, nor lose their answers.
                let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
                polled.unwrap_or_else(|_| Poll::Ready(intake::panicked()))
            })
            .await;
            drop(in_work);
            let mut response = answer.response;
            if answer.leaves && version == Version::HTTP_2 {
                // Answers under way go out, behind a GOAWAY.
                self.watched.ask_to_close();
            } else if (answer.close || answer.leaves) && version < Version::HTTP_2 {
                self.unread.store(true, Ordering::Relaxed);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }
}

type Answered = Result<Response<Full<Bytes>>, Infallible>;

/// A request in work; hyper drops the handler of a client that is gone, and that ends it too.
struct InWork<'h>(&'h Handler);

impl<'h> InWork<'h> {
    fn begin(handler: &'h Handler, version: Version) -> Self {
        handler.watched.begin(version == Version::HTTP_2);
        handler.shared.intake.metrics.request_begins(handler.worker);
        Self(handler)
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.watched.end();
        self.0.shared.intake.metrics.request_ends(self.0.worker);
    }
}
