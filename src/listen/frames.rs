//! Watches the frames of an HTTP/2 connection, as `framing` watches HTTP/1: ends one whose frames come to nothing
//! (PROMISES O3). Each frame that brings no request forward takes from a budget, each answer that was really sent
//! gives back, so a client that only asks never notices and a flood ends within a thousand frames, whatever it is
//! made of: pings, settings, empty or tiny data, window updates, continuations, requests that are reset, made to be
//! reset, or whose answers the client leaves no room for. hyper's own limits count some of these, each by itself,
//! over a connection's whole life or with bounds of several thousand frames.
//!
//! A connection takes in a few frames a turn, then the others of its thread have theirs: a read may bring a thousand
//! frames, which hyper would work off in one go, and start a task for each request in them.
//!
//! Allocates only where a read brings more than one turn may take; holds at most that read.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::transport::Transport;
use super::watch::Watched;
use crate::metrics::Metrics;

/// Frames that may come to nothing, one after the other. A client with 256 requests under way has sent three times
/// as many frames before the first answer.
const FRAMES_MAX: u32 = 900;
/// What an answer gives back: more than a request costs with its data, window updates, and a ping or two.
const PER_ANSWER: u32 = 8;
/// What time gives back: for the pings of a client that has nothing to say.
const PER_SECOND: u64 = 2;
/// What a reset costs: more than an answer gives, for a request may be answered and yet be reset. Some seventy
/// requests that time out at once are no attack.
const RESET_COST: u32 = 12;
/// Data frames from this size on are no burden beyond their bytes, which other limits count.
const DATA_BYTES_MIN: u32 = 256;

/// Frames of one turn: so many requests at most stand before those of others. A turn of 16 costs others some 50 us.
const FRAMES_PER_TURN: u32 = 16;

/// So many bytes of fields weigh as much as a frame: a byte may stand for a field of any length.
const FIELD_BYTES_PER_FRAME: u32 = 256;

const HEAD_BYTES: usize = 9;
/// Client's begin, before the first frame.
const PREFACE_BYTES: u32 = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
/// Reset codes that do not speak of the client's faults: NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL.
const NO_FAULT: [u32; 4] = [0, 2, 7, 8];

/// The bytes of one HTTP/2 connection.
pub(super) struct Frames<S> {
    stream: S,
    incoming: Heads,
    outgoing: Heads,
    budget: Budget,
    /// Frames that this turn has taken in.
    taken: u32,
    /// While others have their turn.
    others: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What was read beyond this turn.
    held: Bytes,
    watched: Arc<Watched>,
    metrics: Arc<Metrics>,
}

impl<S: Transport> Frames<S> {
    pub(super) fn new(stream: S, watched: Arc<Watched>, metrics: Arc<Metrics>) -> Self {
        let budget = Budget { left: FRAMES_MAX, told_ms: watched.now() };
        let incoming = Heads { skip: PREFACE_BYTES, ..Heads::default() };
        let outgoing = Heads::default();
        Self { stream, incoming, outgoing, budget, taken: 0, others: None, held: Bytes::new(), watched, metrics }
    }

    /// Pending once a turn: the thread looks at everything else first, its sockets too.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.taken >= FRAMES_PER_TURN {
            self.taken = 0;
            self.others = Some(Box::pin(yield_now()));
        }
        if let Some(others) = &mut self.others {
            ready!(others.as_mut().poll(cx));
            self.others = None;
        }
        Poll::Ready(())
    }

    /// Counts the frames of these bytes, as far as this turn goes, and says how far that is.
    fn take_in(&mut self, bytes: &[u8]) -> usize {
        let Self { incoming, budget, taken, .. } = self;
        incoming.feed(bytes, |frame| {
            match frame.kind {
                DATA if frame.length >= DATA_BYTES_MIN => {}
                RST_STREAM => budget.take(RESET_COST),
                _ => budget.take(1),
            }
            *taken += 1;
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                *taken += frame.length / FIELD_BYTES_PER_FRAME;
            }
            *taken < FRAMES_PER_TURN
        })
    }

    fn sent(&mut self, bytes: &[u8]) {
        let budget = &mut self.budget;
        self.outgoing.feed(bytes, |frame| {
            match frame {
                Frame { kind: DATA, flags, .. } if flags & END_STREAM != 0 => budget.give(PER_ANSWER),
                Frame { kind: RST_STREAM, code, .. } if !NO_FAULT.contains(&code) => budget.take(RESET_COST),
                _ => {}
            }
            true
        });
    }
}

impl<S: Transport> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        ready!(this.poll_turn(cx));
        this.budget.pass(this.watched.now());
        if this.held.is_empty() {
            let before = buffer.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    this.taken = 0;
                    return Poll::Pending;
                }
            }
            let read = buffer.filled().get(before..).unwrap_or_default();
            let taken = this.take_in(read);
            this.held = Bytes::copy_from_slice(read.get(taken..).unwrap_or_default());
            buffer.set_filled(before + taken);
        } else {
            let mut next = this.held.slice(..this.held.len().min(buffer.remaining()));
            next.truncate(this.take_in(&next));
            this.held.advance(next.len());
            buffer.put_slice(&next);
        }
        if this.budget.left == 0 {
            this.metrics.http2_cut.inc();
            return Poll::Ready(Err(Error::other("too many HTTP/2 frames that come to nothing")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, data))?;
        self.sent(data.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        let mut left = count;
        for piece in pieces {
            let taken = left.min(piece.len());
            self.sent(piece.get(..taken).unwrap_or_default());
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Budget {
    left: u32,
    /// When time last gave something.
    told_ms: u64,
}

impl Budget {
    fn take(&mut self, frames: u32) {
        self.left = self.left.saturating_sub(frames);
    }

    fn give(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(FRAMES_MAX);
    }

    fn pass(&mut self, now_ms: u64) {
        let seconds = now_ms.saturating_sub(self.told_ms) / 1000;
        if seconds > 0 {
            self.told_ms = now_ms;
            self.give(u32::try_from(seconds * PER_SECOND).unwrap_or(FRAMES_MAX));
        }
    }
}

/// What a frame's head says; `code` of a reset alone.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    code: u32,
}

/// Finds the heads of frames in bytes split anywhere.
#[derive(Default)]
struct Heads {
    /// Bytes of payload still to come.
    skip: u32,
    /// A head, and behind that of a reset its code.
    head: [u8; HEAD_BYTES + 4],
    have: usize,
}

impl Heads {
    /// Tells each frame by its head, until there are no more or it is told to stop; so many bytes were looked at.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame) -> bool) -> usize {
        let mut left = bytes;
        while !left.is_empty() {
            let skipped = left.len().min(self.skip as usize);
            self.skip -= skipped as u32;
            left = left.get(skipped..).unwrap_or_default();
            let wanted = self.wanted();
            let taken = left.len().min(wanted - self.have);
            let (head, rest) = left.split_at(taken);
            if let Some(room) = self.head.get_mut(self.have..self.have + taken) {
                room.copy_from_slice(head);
            }
            self.have += taken;
            left = rest;
            if self.have == self.wanted() && !each(self.take()) {
                break;
            }
        }
        bytes.len() - left.len()
    }

    /// How many bytes are wanted of the head as far as it is known.
    fn wanted(&self) -> usize {
        let [_, _, length, kind, ..] = self.head;
        if self.have >= HEAD_BYTES && kind == RST_STREAM && length >= 4 { self.head.len() } else { HEAD_BYTES }
    }

    fn take(&mut self) -> Frame {
        let [l0, l1, l2, kind, flags, _, _, _, _, c0, c1, c2, c3] = self.head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        self.skip = length.saturating_sub((self.have - HEAD_BYTES) as u32);
        self.have = 0;
        Frame { length, kind, flags, code: u32::from_be_bytes([c0, c1, c2, c3]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn heads_are_found_wherever_the_bytes_are_split() {
        let frames = [
            frame(4, 0, &[0; 6]),
            frame(1, 4, &[9; 300]),
            frame(0, 1, b""),
            frame(3, 0, &[0, 0, 0, 5]),
            frame(6, 0, &[1; 8]),
        ];
        let bytes = frames.concat();
        for step in 1..40 {
            let (mut heads, mut found) = (Heads::default(), Vec::new());
            for block in bytes.chunks(step) {
                heads.feed(block, |frame| {
                    found.push((frame.kind, frame.length, frame.flags, frame.code));
                    true
                });
            }
            let kinds: Vec<_> = found.iter().map(|(kind, length, flags, _)| (*kind, *length, *flags)).collect();
            assert_eq!(kinds, [(4, 6, 0), (1, 300, 4), (0, 0, 1), (3, 4, 0), (6, 8, 0)], "blocks of {step}");
            assert_eq!(found[3].3, 5, "the code of the reset");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::test_cases(256)))]
        #[test]
        fn any_bytes_say_the_same_however_they_are_split(
            bytes in proptest::collection::vec(0_u8..9, 0..400),
            step in 1_usize..50,
        ) {
            let told = |step: usize| {
                let (mut heads, mut found) = (Heads::default(), Vec::new());
                for block in bytes.chunks(step) {
                    heads.feed(block, |frame| {
                        found.push((frame.kind, frame.length, frame.flags));
                        true
                    });
                }
                found
            };
            proptest::prop_assert_eq!(told(step), told(400));
            // Turn by turn, nothing is told twice or left out.
            let (mut heads, mut found, mut rest) = (Heads::default(), Vec::new(), &bytes[..]);
            while !rest.is_empty() {
                let mut left = step;
                let taken = heads.feed(rest, |frame| {
                    found.push((frame.kind, frame.length, frame.flags));
                    left -= 1;
                    left > 0
                });
                proptest::prop_assert!(taken > 0);
                rest = &rest[taken..];
            }
            proptest::prop_assert_eq!(found, told(400));
        }
    }

    /// The other end of a connection over which these bytes come.
    async fn reading(bytes: &[u8]) -> (Frames<tokio::net::TcpStream>, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, bytes).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let config = super::super::watch::tests::config(5, 60);
        let watched = super::super::watch::Watch::new(&config).enter();
        (Frames::new(stream, watched, Metrics::new(1).unwrap()), client)
    }

    #[tokio::test]
    async fn a_turn_takes_few_frames_and_what_was_read_beyond_it_comes_in_the_next() {
        const COUNT: usize = 100;
        let flood = [vec![b'p'; PREFACE_BYTES as usize], frame(6, 0, &[1; 8]).repeat(COUNT)].concat();
        let (mut frames, client) = reading(&flood).await;
        drop(client);
        // Others on the thread: how often they had their turn.
        let turns = std::rc::Rc::new(std::cell::Cell::new(0));
        let others = {
            let turns = std::rc::Rc::clone(&turns);
            async move {
                while turns.get() < usize::MAX {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        };
        let mut all = Vec::new();
        tokio::select! {
            biased;
            read = tokio::io::AsyncReadExt::read_to_end(&mut frames, &mut all) => drop(read.unwrap()),
            () = others => {}
        }
        assert_eq!(all, flood);
        assert!(turns.get() >= COUNT / FRAMES_PER_TURN as usize, "{} turns", turns.get());
    }

    #[test]
    fn time_and_answers_give_back_and_never_more_than_the_whole() {
        let mut budget = Budget { left: FRAMES_MAX, told_ms: 1 };
        budget.give(5);
        assert_eq!(budget.left, FRAMES_MAX);
        budget.take(FRAMES_MAX - 10);
        budget.pass(900);
        assert_eq!(budget.left, 10);
        budget.pass(2001);
        assert_eq!(budget.left, 14);
        budget.take(FRAMES_MAX);
        assert_eq!(budget.left, 0);
    }
}
