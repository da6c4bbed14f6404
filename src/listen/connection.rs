//! A connection's bytes: notes progress for the watch, and lets a client read an early answer before the
//! connection closes. A close with unread bytes would make the kernel reset it and erase the answer
//! (DESIGN 5.8): so writing is shut down, and what still comes is discarded for a bounded time. Ambiguous framing
//! is found here too, before hyper reads it.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::Framing;
use super::transport::Transport;
use super::watch::Watched;
use crate::metrics::Metrics;

/// Bounds of lingering (DESIGN 5.8).
const LINGER_BYTES_MAX: usize = 128 * 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(30);
const LINGERING_MAX: usize = 256;

/// The bytes of one HTTP/1 connection.
pub(super) struct Wire<S> {
    stream: S,
    watched: Arc<Watched>,
    framing: Framing,
    /// Ambiguous framing was found: nothing more is read.
    poisoned: bool,
    /// Set by the service when an answer left body bytes unread.
    unread: Arc<AtomicBool>,
    linger: Linger,
    metrics: Arc<Metrics>,
    lingering: Arc<AtomicUsize>,
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
    pub(super) fn new(
        stream: S,
        watched: Arc<Watched>,
        unread: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
        lingering: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            stream,
            watched,
            framing: Framing::new(),
            poisoned: false,
            unread,
            linger: Linger::NotYet,
            metrics,
            lingering,
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
        if self.poisoned {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.watched.read();
            let found = self.framing.feed(&buffer.filled()[before..]);
            if let Err(violation) = found {
                // hyper reads the good bytes, then a NUL, then the end: it answers 400 and closes.
                tracing::debug!(fault = %violation.fault, "ambiguous framing");
                buffer.set_filled(before + violation.good);
                buffer.put_slice(&[0]);
                self.poisoned = true;
                self.unread.store(true, Ordering::Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, data) {
            Poll::Ready(written) => {
                self.watched.wrote();
                Poll::Ready(written)
            }
            Poll::Pending => {
                self.watched.stuck();
                Poll::Pending
            }
        }
    }

    /// An answer is small: copied behind its head it leaves by `send`, cheaper than `writev` on the kernel's side.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
                match Place::take(&self.lingering) {
                    Some(place) => {
                        let until = Box::pin(tokio::time::sleep(LINGER_TIME_MAX));
                        self.linger = Linger::Discarding { until, left: LINGER_BYTES_MAX, _place: place };
                    }
                    None => self.metrics.lingering_refused.inc(),
                }
            }
        }
        ready!(self.poll_discard(cx));
        self.linger = Linger::Over;
        Poll::Ready(Ok(()))
    }
}
