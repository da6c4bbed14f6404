//! A connection's bytes: notes progress for the watch, and lets a client read an early answer before the
//! connection closes. A close with unread bytes would make the kernel reset it and erase the answer
//! (DESIGN 5.8): so writing is shut down, and what still comes is discarded for a bounded time. Ambiguous framing
//! is found here too, before hyper reads it; and what hyper answers by itself to a head that it cannot read leaves as
//! an answer like all others, with its reason and its `X-Request-Id`.

use std::io::Result;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::{Fault, Framing};
use super::serve::refuse_too_large;
use super::transport::Transport;
use super::watch::Watched;
use super::{Shared, plain};
use crate::outcome::Reason;

/// Bounds of lingering (DESIGN 5.8).
const LINGER_BYTES_MAX: usize = 128 * 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(30);
const LINGERING_MAX: usize = 256;
/// The first byte of a TLS record that ends, or breaks, a connection.
const TLS_ALERT: u8 = 21;

/// The bytes of one HTTP/1 connection.
pub(super) struct Wire<S> {
    stream: S,
    /// What was read of it before.
    begun: Bytes,
    watched: Arc<Watched>,
    framing: Framing,
    /// Ambiguous framing was found: nothing more is read.
    poisoned: Option<Fault>,
    /// Set by the service when an answer left body bytes unread.
    unread: Arc<AtomicBool>,
    linger: Linger,
    refuser: Refuser,
    /// Bytes that could not be written when they were offered; they come again.
    offered: usize,
    /// What is still to be written in place of hyper's own answer.
    instead: Option<Bytes>,
}

/// Answers heads that nobody can read.
pub(super) struct Refuser {
    pub(super) worker: usize,
    pub(super) source: IpAddr,
    pub(super) shared: Arc<Shared>,
}

impl Refuser {
    /// An answer as it stands on the wire, in place of hyper's own of this status.
    fn refuse(&self, status: &[u8], fault: Option<Fault>) -> Bytes {
        let Self { worker, source, shared } = self;
        let (reason, message) = match (status, fault) {
            (_, Some(fault)) => {
                (Reason::InvalidHead, format!("two readers could understand this request differently: {fault}"))
            }
            (b"431", None) => return plain::on_the_wire(refuse_too_large(shared, *worker, *source)),
            (b"414", None) => {
                let bytes = shared.config.load().uri_bytes;
                (Reason::UriTooLong, format!("the path is longer than {bytes} bytes"))
            }
            _ => (Reason::InvalidHead, "not a head of HTTP/1.1: look at the first line and at the fields".to_owned()),
        };
        plain::on_the_wire(shared.intake.refuse_head(*worker, *source, reason, message))
    }
}

enum Linger {
    NotYet,
    Discarding { until: Pin<Box<Sleep>>, left: usize, _place: Place },
    Over,
}

/// One of the places for lingering connections.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(lingering: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = lingering
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < LINGERING_MAX).then_some(count + 1));
        taken.is_ok().then(|| Self(Arc::clone(lingering)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Transport> Wire<S> {
    /// `begun`: bytes of the stream that were read already.
    pub(super) fn new(
        (stream, begun): (S, Bytes),
        watched: Arc<Watched>,
        unread: Arc<AtomicBool>,
        refuser: Refuser,
    ) -> Self {
        Self {
            stream,
            begun,
            watched,
            framing: Framing::new(),
            poisoned: None,
            unread,
            linger: Linger::NotYet,
            refuser,
            offered: 0,
            instead: None,
        }
    }

    /// The status of an answer that hyper made, where one begins behind what was offered before: of a head that it cannot
    /// read, and the last of the connection.
    fn hypers_own(&self, data: &[u8]) -> Option<[u8; 3]> {
        let fresh = data.get(self.offered..).filter(|fresh| !fresh.is_empty())?;
        if self.watched.is_answered() {
            return None;
        }
        match fresh.strip_prefix(b"HTTP/1.")? {
            [_, b' ', b'4', tens, ones, ..] => Some([b'4', *tens, *ones]),
            _ => None,
        }
    }

    /// Writes what was offered before, then our answer in place of hyper's.
    fn poll_instead(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        if let Some(before) = data.get(..self.offered).filter(|before| !before.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, before))?;
            self.offered -= count;
            return Poll::Ready(Ok(count));
        }
        while let Some(rest) = self.instead.as_deref().filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            if let Some(instead) = &mut self.instead {
                instead.advance(count);
            }
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Whether the other side has closed, for a request in work that wants to know: without reading what may follow it. Of
    /// TLS the alert that says so comes first.
    fn look_at_peer(&mut self, cx: &mut Context<'_>) {
        let mut first = [0; 1];
        let mut buffer = ReadBuf::new(&mut first);
        let is_closed = match self.stream.tcp().poll_peek(cx, &mut buffer) {
            Poll::Ready(Ok(0) | Err(_)) => true,
            Poll::Ready(Ok(_)) => S::HOLDS_BACK && buffer.filled() == [TLS_ALERT],
            Poll::Pending => false,
        };
        if is_closed {
            self.watched.closed();
            cx.waker().wake_by_ref();
        }
    }

    /// Reads and throws away until the client is done or the bound is reached.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Linger::Discarding { until, left, .. } = &mut self.linger else { return Poll::Ready(()) };
        let mut scratch = [0; 16 * 1024];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(self.stream.tcp()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buffer.filled().len())
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S: Transport> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.poisoned.is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if self.begun.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let count = self.begun.len().min(buffer.remaining());
            buffer.put_slice(&self.begun.split_to(count));
        }
        if buffer.filled().len() > before {
            self.watched.read();
            let found = self.framing.feed(&buffer.filled()[before..]);
            if let Err(violation) = found {
                // hyper reads the good bytes, then a NUL, then the end: it answers, in our words, and closes.
                tracing::debug!(fault = %violation.fault, "ambiguous framing");
                buffer.set_filled(before + violation.good);
                buffer.put_slice(&[0]);
                self.poisoned = Some(violation.fault);
                self.unread.store(true, Ordering::Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none()
            && let Some(status) = this.hypers_own(data)
        {
            this.instead = Some(this.refuser.refuse(&status, this.poisoned));
            // Whoever sent such a head may still be sending, and is to read why it ends.
            this.unread.store(true, Ordering::Relaxed);
        }
        let written = match this.instead {
            Some(_) => this.poll_instead(cx, data),
            None => {
                let written = Pin::new(&mut this.stream).poll_write(cx, data);
                let count = if let Poll::Ready(Ok(count)) = &written { *count } else { 0 };
                this.offered = data.len() - count;
                written
            }
        };
        match written {
            Poll::Ready(_) => this.watched.wrote(),
            Poll::Pending => this.watched.stuck(),
        }
        written
    }

    /// An answer is small: copied behind its head it leaves by `send`, cheaper than `writev` on the kernel's side.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.watched.is_looked_at() {
            self.look_at_peer(cx);
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if S::HOLDS_BACK {
            match flushed {
                Poll::Pending => self.watched.stuck(),
                Poll::Ready(_) => self.watched.flushed(),
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Linger::NotYet = self.linger {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.linger = Linger::Over;
            if self.unread.load(Ordering::Relaxed) {
                match Place::take(&self.refuser.shared.lingering) {
                    Some(place) => {
                        let until = Box::pin(tokio::time::sleep(LINGER_TIME_MAX));
                        self.linger = Linger::Discarding { until, left: LINGER_BYTES_MAX, _place: place };
                    }
                    None => self.refuser.shared.intake.metrics.lingering_refused.inc(),
                }
            }
        }
        ready!(self.poll_discard(cx));
        self.linger = Linger::Over;
        Poll::Ready(Ok(()))
    }
}
