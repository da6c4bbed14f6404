//! Requests as nearly every sender writes them: a POST of JSON with its length, whole, in one or two pieces, one at a time. They are
//! read into a room that all connections of a thread share, taken in and answered here, without hyper, which would cost more than
//! all our own work (docs/decisions/0019). Whatever is odd in the least, a request or a connection, is left to hyper from its
//! first byte on: nothing here judges what is wrong.

mod head;
mod reply;

use std::cell::RefCell;
use std::io::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use self::head::Parsed;
use super::serve::{Connection, InWork};
use super::transport::Transport;
use crate::intake::plain::{Reply, Taken, Waiting};
use crate::intake::{Answer, panicked};

/// Most bytes of a plain request, and of what is handed on to hyper: all of it fits the buffer that hyper begins with.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long the rest of a request is waited for here: its own time-outs are hyper's and the body's.
const PARTIAL_TIME_MAX: Duration = Duration::from_millis(100);

thread_local! {
    /// Between two polls nothing stands here.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; REQUEST_BYTES_MAX].into_boxed_slice());
}

/// An answer of ours, whole, after which the connection closes.
pub(super) fn on_the_wire(answer: Answer) -> Bytes {
    let mut bytes = Vec::new();
    Reply::Other(Box::new(answer)).write(true, &mut bytes);
    bytes.into()
}

/// How serving plain requests ends.
pub(super) enum Ended<S> {
    /// The connection is done with.
    Closed,
    /// What comes next is not plain; these bytes of it were read.
    Odd(S, Bytes),
}

/// A connection as long as its requests are plain.
pub(super) struct Plain<'c, S> {
    connection: &'c Connection,
    /// `None`: handed on.
    stream: Option<S>,
    limits: head::Limits,
    /// Of a request that is not whole.
    partial: Vec<u8>,
    late: Option<Pin<Box<Sleep>>>,
    waiting: Option<(Waiting, InWork<'c>)>,
    /// Of an answer, and how much of it has left.
    answer: Vec<u8>,
    sent: usize,
    closes: bool,
}

impl<'c, S: Transport> Plain<'c, S> {
    pub(super) fn new(connection: &'c Connection, stream: S) -> Self {
        let config = connection.shared.config.load();
        Self {
            connection,
            stream: Some(stream),
            limits: head::Limits { fields: config.headers, bytes: config.header_bytes },
            partial: Vec::new(),
            late: None,
            waiting: None,
            answer: Vec::new(),
            sent: 0,
            closes: false,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((waiting, _)) = &mut self.waiting else { return Poll::Ready(()) };
        let intake = &self.connection.shared.intake;
        // A defect in one request must not end its connection.
        let polled = catch_unwind(AssertUnwindSafe(|| intake.poll_plain(waiting, cx)));
        let reply = ready!(polled.unwrap_or_else(|_| Poll::Ready(Reply::Other(Box::new(panicked())))));
        self.waiting = None;
        self.put(reply);
        Poll::Ready(())
    }

    fn put(&mut self, reply: Reply) {
        let asked = self.connection.watched.is_asked_to_close();
        self.closes |= asked || reply.closes();
        reply.write(self.closes, &mut self.answer);
        self.connection.watched.answered();
    }

    /// Sends what waits to be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        let watched = &self.connection.watched;
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.sent += written?;
                    watched.wrote();
                }
                Poll::Pending => {
                    watched.stuck();
                    return Poll::Pending;
                }
            }
        }
        if S::HOLDS_BACK && self.sent > 0 {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    watched.flushed();
                }
                Poll::Pending => {
                    watched.stuck();
                    return Poll::Pending;
                }
            }
        }
        // An idle connection holds no room.
        self.answer = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads what there is and takes it in. `Some`: the end of plain requests.
    fn poll_request(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Option<Ended<S>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Some(Ended::Closed)) };
        let mut buffer = ReadBuf::new(room);
        let held = self.partial.len();
        buffer.put_slice(&self.partial);
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Ended::Closed)),
            Poll::Pending => {
                ready!(self.poll_late(cx));
                return Poll::Ready(Some(self.odd(buffer.filled())));
            }
        }
        let bytes = buffer.filled();
        if bytes.len() == held {
            // The end of the stream; of what has begun hyper knows how it ends.
            if held > 0 {
                return Poll::Ready(Some(self.odd(bytes)));
            }
            self.closes = true;
            return Poll::Ready(None);
        }
        self.connection.watched.read();
        let Connection { shared, worker, source, .. } = self.connection;
        match head::parse(bytes, self.limits) {
            Parsed::Whole(request) => {
                let taken = catch_unwind(AssertUnwindSafe(|| shared.intake.take_plain(*worker, *source, request)));
                match taken.unwrap_or_else(|_| Taken::Answered(Reply::Other(Box::new(panicked())))) {
                    Taken::Odd => return Poll::Ready(Some(self.odd(bytes))),
                    Taken::Answered(reply) => self.put(reply),
                    Taken::Waits(waiting) => {
                        let Connection { watched, .. } = self.connection;
                        let in_work = InWork::begin(watched, &shared.intake.metrics, *worker, false);
                        self.waiting = Some((waiting, in_work));
                    }
                }
                (self.partial, self.late) = (Vec::new(), None);
            }
            Parsed::Partial if bytes.len() < REQUEST_BYTES_MAX => {
                self.partial = bytes.to_vec();
                self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(PARTIAL_TIME_MAX)));
            }
            Parsed::Partial | Parsed::Odd => return Poll::Ready(Some(self.odd(bytes))),
        }
        Poll::Ready(None)
    }

    /// Ready when the rest of a request is late.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.late {
            Some(late) => late.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    fn odd(&mut self, bytes: &[u8]) -> Ended<S> {
        self.stream.take().map_or(Ended::Closed, |stream| Ended::Odd(stream, Bytes::copy_from_slice(bytes)))
    }

    /// Nothing is under way, and the connection is to end.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }
}

impl<S: Transport> Future for Plain<'_, S> {
    type Output = Ended<S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<S>> {
        let this = &mut *self;
        loop {
            ready!(this.poll_answer(cx));
            if ready!(this.poll_send(cx)).is_err() {
                return Poll::Ready(Ended::Closed);
            }
            if this.closes || (this.partial.is_empty() && this.connection.watched.is_asked_to_close()) {
                return this.poll_close(cx).map(|()| Ended::Closed);
            }
            let ended = ROOM.with_borrow_mut(|room| this.poll_request(cx, room));
            if let Some(ended) = ready!(ended) {
                return Poll::Ready(ended);
            }
        }
    }
}
