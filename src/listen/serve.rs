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

use super::connection::{Refuser, Wire};
use super::frames::Frames;
use super::plain::{self, Plain};
use super::source::announced;
use super::transport::{Encrypted, Transport, begins_as_h2};
use super::watch::Watched;
use super::{Seat, Shared};
use crate::intake::{self, Answer, Peer};
use crate::metrics::Metrics;
use crate::outcome::Reason;

/// Streams one HTTP/2 connection may have open at once.
const H2_STREAMS_MAX: u32 = 256;
/// Most that a request in work holds that is not plain: 512 of them stay in the cache, and a slow one costs little. Each
/// member of the futures in `intake` counts.
const REQUEST_BYTES_MAX: usize = 1280;
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
        let is_forwarded = config.proxies.forwards(self.source);
        let (stream, begun) = if is_h2 || is_forwarded {
            (stream, Bytes::new())
        } else {
            self.watched.register(&poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
            match Plain::new(self, stream).await {
                plain::Ended::Closed => return,
                plain::Ended::Odd(stream, begun) => (stream, begun),
            }
        };
        let unread = Arc::new(AtomicBool::new(false));
        let service = {
            let handler = Arc::new(Handler {
                worker: self.worker,
                shared: Arc::clone(&self.shared),
                source: self.source,
                is_forwarded,
                watched: Arc::clone(&self.watched),
                peer: Arc::clone(&self.watched) as Arc<dyn Peer>,
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
                // Beyond this h2 answers by itself, without a word; up to it the handler does.
                .max_header_list_size(u32::try_from(2 * config.header_bytes).unwrap_or(u32::MAX));
            // Boxed: an HTTP/1 connection must not hold its room.
            let frames = Frames::new(stream, Arc::clone(&self.watched), Arc::clone(&self.shared.intake.metrics));
            let mut connection = Box::pin(h2.serve_connection(TokioIo::new(frames), service));
            self.drive(connection.as_mut(), |connection| connection.graceful_shutdown()).await;
        } else {
            let refuser = Refuser { worker: self.worker, source: self.source, shared: Arc::clone(&self.shared) };
            let wire = Wire::new((stream, begun), Arc::clone(&self.watched), unread, refuser);
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
    /// The same, as `intake` knows it.
    peer: Arc<dyn Peer>,
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
            if let Some(answer) = self.refused(&request) {
                return Ok(self.finish(answer, version));
            }
            let in_work =
                InWork::begin(&self.watched, &self.shared.intake.metrics, self.worker, version == Version::HTTP_2);
            let mut work =
                pin!(self.shared.intake.answer(self.worker, self.source_of(&request), &self.peer, &mut request));
            let answer = poll_fn(|cx| {
                // A defect in one request must not end the others of its connection, nor lose their answers.
                let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
                polled.unwrap_or_else(|_| Poll::Ready(intake::panicked()))
            })
            .await;
            drop(in_work);
            Ok(self.finish(answer, version))
        }
    }

    /// A head larger than it may be, as an answer. hyper looks at sizes only while a head is not whole, from 8 KiB on, and h2
    /// counts by its own measure: both let more pass.
    fn refused(&self, request: &Request<Incoming>) -> Option<Answer> {
        /// Blanks, colons, line ends and the version, as HTTP/1.1 has them.
        const LINE_BYTES: usize = "  HTTP/1.1\r\n\r\n".len();
        const FIELD_BYTES: usize = ": \r\n".len();
        let config = self.shared.config.load();
        let (headers, uri) = (request.headers(), request.uri());
        let line = request.method().as_str().len() + uri.path_and_query().map_or(0, |path| path.as_str().len());
        let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
        let bytes = LINE_BYTES + line + fields.sum::<usize>();
        (bytes > config.header_bytes || headers.len() > config.headers)
            .then(|| refuse_too_large(&self.shared, self.worker, self.source_of(request)))
    }

    /// What leaves, and what becomes of the connection.
    fn finish(&self, answer: Answer, version: Version) -> Response<Full<Bytes>> {
        let mut response = answer.response;
        if answer.leaves && version == Version::HTTP_2 {
            // Answers under way go out, behind a GOAWAY.
            self.watched.ask_to_close();
        } else if (answer.close || answer.leaves) && version < Version::HTTP_2 {
            self.unread.store(true, Ordering::Relaxed);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.watched.answers();
        response
    }
}

/// The answer to a head larger than it may be.
pub(super) fn refuse_too_large(shared: &Shared, worker: usize, source: IpAddr) -> Answer {
    let config = shared.config.load();
    let (bytes, fields) = (config.header_bytes, config.headers);
    let message = format!("the head is larger than {bytes} bytes, or has more than {fields} fields");
    shared.intake.refuse_head(worker, source, Reason::HeadTooLarge, message)
}

type Answered = Result<Response<Full<Bytes>>, Infallible>;

/// A request in work; that of a client that is gone ends with whatever holds it.
pub(super) struct InWork<'w> {
    watched: &'w Watched,
    metrics: &'w Metrics,
    worker: usize,
}

impl<'w> InWork<'w> {
    pub(super) fn begin(watched: &'w Watched, metrics: &'w Metrics, worker: usize, is_h2: bool) -> Self {
        watched.begin(is_h2);
        metrics.request_begins(worker);
        Self { watched, metrics, worker }
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.watched.end();
        self.metrics.request_ends(self.worker);
    }
}
