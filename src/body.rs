//! Bodies: read while streaming, on decoded bytes, never past the limit (contracts 1 and 2.3).
//! A [`CappedBody`] is the proof that a whole body within its limit was read.

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use crate::outcome::{Reason, Refusal};

/// Limits of a request body (INTERFACE 3).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    pub batch_body_bytes: usize,
    /// Decode `Content-Encoding: gzip`.
    pub gzip: bool,
    /// Over all connections.
    pub body_bytes_in_flight: usize,
    /// A whole body.
    pub body_timeout: Duration,
    /// Slowest pace allowed after `slow_grace`.
    pub body_bytes_per_second: usize,
    pub slow_grace: Duration,
}

/// How a body is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
}

/// A whole body within its limit, decoded. Its bytes stay reserved in the budget until it is dropped.
#[derive(Debug)]
pub struct CappedBody {
    bytes: Bytes,
    reserved: Reserved,
}

impl CappedBody {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, and what holds their place in the budget.
    pub fn into_parts(self) -> (Bytes, Reserved) {
        (self.bytes, self.reserved)
    }
}

/// Body bytes that all connections together may hold, or some of them.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: AtomicUsize,
    /// The one that this is a part of: what is taken here is taken there too.
    whole: Option<Arc<Self>>,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most: AtomicUsize::new(bytes), whole: None })
    }

    /// A part of another one.
    pub fn part(whole: &Arc<Self>, bytes: usize) -> Arc<Self> {
        let whole = Some(Arc::clone(whole));
        Arc::new(Self { used: AtomicUsize::new(0), most: AtomicUsize::new(bytes), whole })
    }

    /// Another limit, from the next body on; what is being read keeps its room.
    pub fn resize(&self, bytes: usize) {
        self.most.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= most);
        let fits = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken).is_ok();
        let taken = fits && self.whole.as_ref().is_none_or(|whole| whole.take(bytes));
        if fits && !taken {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
        }
        taken
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        if let Some(whole) = &self.whole {
            whole.give(bytes);
        }
    }

    fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        self.take(bytes).then(|| Reserved { budget: Arc::clone(self), bytes })
    }
}

/// A place in the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reserved {
    /// Takes what is missing to so many bytes; false when there is no room.
    fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grown = more == 0 || self.budget.take(more);
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

fn too_large(cap: usize) -> Refusal {
    Refusal::new(Reason::BodyTooLarge, format!("the body is larger than {cap} bytes"))
}

/// Step 4 of contracts 2.1: a declared length above the limit is refused before a byte is read.
///
/// # Errors
/// A refusal of class too large.
pub fn precheck(declared: Option<u64>, cap: usize) -> Result<(), Refusal> {
    let over = declared.is_some_and(|bytes| bytes > cap as u64);
    if over { Err(too_large(cap)) } else { Ok(()) }
}

/// What holds every body. Asked for when it is needed: copies would cost every slow connection.
pub trait Bounds: Sync {
    /// As they are now.
    fn limits(&self) -> Limits;
    fn budget(&self) -> &Arc<Budget>;
}

/// A body that is to be read. One value by reference: what a reading holds, every slow connection holds.
pub struct Expected<'l> {
    /// The length it declares.
    pub declared: Option<u64>,
    pub encoding: Encoding,
    /// Most decoded bytes.
    pub cap: usize,
    pub room: Room,
    pub bounds: &'l dyn Bounds,
}

/// When a body takes its bytes from the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All at once, before the first: a body that was let in is read to its end.
    Whole,
    /// As they come: who announces much and sends little holds little. For senders whom nobody knows yet.
    AsItComes,
}

impl Expected<'_> {
    /// Bytes it takes from the budget at first.
    fn bytes(&self) -> usize {
        match (self.encoding, self.declared) {
            _ if self.room == Room::AsItComes => 0,
            (Encoding::Identity, Some(bytes)) => usize::try_from(bytes).map_or(self.cap, |bytes| bytes.min(self.cap)),
            _ => self.cap,
        }
    }
}

/// Steps 6 and 7 of contracts 2.1: reserves the body's bytes in the budget and reads it, at most `cap` decoded bytes.
///
/// # Errors
/// Too large, too slow, not what it says it is, broken off; or no room for more body bytes just now.
pub async fn read<B>(mut body: B, expected: &Expected<'_>) -> Result<CappedBody, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut reserved = expected.bounds.budget().reserve(expected.bytes()).ok_or_else(no_room)?;
    let mut gathered = Gathered::new(expected);
    let mut pace = Pace { started: None, received: 0, timer: None };
    loop {
        let frame = poll_fn(|cx| pace.poll_frame(&mut body, expected.bounds, cx)).await?;
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                pace.received = pace.received.saturating_add(data.len());
                gathered.add(data, expected)?;
                if expected.room == Room::AsItComes && !reserved.grow(gathered.bytes()) {
                    return Err(no_room());
                }
            }
            // Trailers say nothing that any dialect reads.
            Some(Ok(Err(_))) => {}
            Some(Err(_)) => return Err(Refusal::new(Reason::BodyIncomplete, "the body broke off")),
            None => return Ok(CappedBody { bytes: gathered.finish(expected)?, reserved }),
        }
    }
}

/// Reserves the bytes of a body that came whole, of a length that [`precheck`] let pass.
///
/// # Errors
/// No room for more body bytes just now.
pub fn whole(body: &[u8], bounds: &impl Bounds) -> Result<CappedBody, Refusal> {
    let reserved = bounds.budget().reserve(body.len()).ok_or_else(no_room)?;
    Ok(CappedBody { bytes: Bytes::copy_from_slice(body), reserved })
}

fn no_room() -> Refusal {
    Refusal::new(Reason::BodyBudget, "too many request bodies are being read")
}

/// Takes what is left of a body that nobody wants, without waiting for more; true when it ended.
pub async fn discard_ready<B: Body<Data = Bytes> + Unpin>(mut body: B, at_most: usize) -> bool {
    let mut seen = 0;
    while seen <= at_most && !body.is_end_stream() {
        match poll_immediate(body.frame()).await {
            Some(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len),
            Some(None) => return true,
            Some(Some(Err(_))) | None => return false,
        }
    }
    body.is_end_stream()
}

/// Holds a slow body to its time-out and its least pace.
struct Pace {
    started: Option<Instant>,
    received: usize,
    /// Most bodies are here already: only one that is not pays for a timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn poll_frame<B>(
        &mut self,
        body: &mut B,
        bounds: &dyn Bounds,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Came<B>, Refusal>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(Ok(frame));
        }
        let mut deadline = || {
            let (limits, started) = (bounds.limits(), *self.started.get_or_insert_with(Instant::now));
            // The moment at which what has come is less than the pace demands.
            let paid_for = Duration::from_secs_f64(self.received as f64 / limits.body_bytes_per_second.max(1) as f64);
            started + limits.body_timeout.min(limits.slow_grace + paid_for)
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline())));
        timer.as_mut().poll(cx).map(|()| Err(Refusal::new(Reason::BodyTimeout, "the body came too slowly")))
    }
}

/// What a body gave: its next frame, or its end.
type Came<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

/// The body so far.
enum Gathered {
    /// One frame needs no copy.
    Plain {
        first: Bytes,
        rest: BytesMut,
    },
    Gzip(Box<flate2::write::MultiGzDecoder<CappedWriter>>),
}

impl Gathered {
    fn new(expected: &Expected<'_>) -> Self {
        match expected.encoding {
            Encoding::Identity => Self::Plain { first: Bytes::new(), rest: BytesMut::new() },
            Encoding::Gzip => {
                let writer = CappedWriter { cap: expected.cap, bytes: Vec::new(), over: false };
                Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(writer)))
            }
        }
    }

    fn add(&mut self, data: Bytes, expected: &Expected<'_>) -> Result<(), Refusal> {
        match self {
            Self::Plain { first, rest } => {
                let held = if rest.is_empty() { first.len() } else { rest.len() };
                if data.len() > expected.cap.saturating_sub(held) {
                    return Err(too_large(expected.cap));
                }
                if first.is_empty() && rest.is_empty() {
                    *first = data;
                    return Ok(());
                }
                if rest.is_empty() {
                    rest.reserve(expected.bytes().max(first.len() + data.len()));
                    rest.extend_from_slice(first);
                }
                rest.extend_from_slice(&data);
                Ok(())
            }
            Self::Gzip(decoder) => {
                let written = decoder.write_all(&data);
                Self::judge(written, decoder.get_ref().over, expected.cap)
            }
        }
    }

    /// Bytes it holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Plain { first, rest } => first.len().max(rest.capacity()),
            Self::Gzip(decoder) => decoder.get_ref().bytes.capacity(),
        }
    }

    fn finish(self, expected: &Expected<'_>) -> Result<Bytes, Refusal> {
        match self {
            Self::Plain { first, rest } => Ok(if rest.is_empty() { first } else { rest.freeze() }),
            Self::Gzip(mut decoder) => {
                let ended = decoder.try_finish();
                Self::judge(ended, decoder.get_ref().over, expected.cap)?;
                Ok(std::mem::take(&mut decoder.get_mut().bytes).into())
            }
        }
    }

    fn judge(result: std::io::Result<()>, over: bool, cap: usize) -> Result<(), Refusal> {
        match result {
            _ if over => Err(too_large(cap)),
            Ok(()) => Ok(()),
            Err(_) => Err(Refusal::new(Reason::InvalidGzip, "the body says gzip and is not")),
        }
    }
}

/// Takes at most `cap` bytes; a gzip bomb ends here.
struct CappedWriter {
    cap: usize,
    bytes: Vec<u8>,
    over: bool,
}

impl Write for CappedWriter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if data.len() > self.cap - self.bytes.len() {
            self.over = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;

    use super::*;

    const CAP: usize = 100;

    fn limits() -> Limits {
        Limits {
            body_bytes: CAP,
            batch_body_bytes: CAP,
            gzip: true,
            body_bytes_in_flight: 250,
            body_timeout: Duration::from_secs(10),
            body_bytes_per_second: 1024,
            slow_grace: Duration::from_secs(2),
        }
    }

    /// Limits of a test, and its budget.
    struct Held(Limits, Arc<Budget>);

    impl Bounds for Held {
        fn limits(&self) -> Limits {
            self.0
        }

        fn budget(&self) -> &Arc<Budget> {
            &self.1
        }
    }

    fn held() -> Held {
        Held(limits(), Budget::new(250))
    }

    fn expected(encoding: Encoding, bounds: &Held) -> Expected<'_> {
        Expected { declared: None, encoding, cap: CAP, room: Room::Whole, bounds }
    }

    async fn read_frames(frames: Vec<Vec<u8>>, encoding: Encoding) -> Result<Vec<u8>, Reason> {
        let frames = frames.into_iter().map(|data| Ok::<_, Infallible>(Frame::data(Bytes::from(data))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let held = held();
        let read = read(body, &expected(encoding, &held)).await;
        assert_eq!(held.1.used.load(Ordering::Relaxed), if read.is_ok() { CAP } else { 0 });
        read.map(|body| body.bytes().to_vec()).map_err(|refusal| refusal.reason)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn the_limit_is_inclusive_in_one_frame_and_in_many() {
        for size in [CAP, CAP + 1] {
            let expected = if size == CAP { Ok(vec![b'x'; size]) } else { Err(Reason::BodyTooLarge) };
            assert_eq!(read_frames(vec![vec![b'x'; size]], Encoding::Identity).await, expected);
            let many = vec![vec![b'x'; 1]; size];
            assert_eq!(read_frames(many, Encoding::Identity).await, expected);
            assert_eq!(read_frames(vec![gzip(&vec![b'x'; size])], Encoding::Gzip).await, expected);
        }
    }

    #[tokio::test]
    async fn a_gzip_bomb_ends_at_the_limit_and_broken_gzip_is_told() {
        let bomb = gzip(&vec![0; 10_000_000]);
        assert_eq!(read_frames(vec![bomb], Encoding::Gzip).await, Err(Reason::BodyTooLarge));
        assert_eq!(read_frames(vec![b"{}".to_vec()], Encoding::Gzip).await, Err(Reason::InvalidGzip));
        let mut cut = gzip(b"hello");
        cut.truncate(cut.len() - 3);
        assert_eq!(read_frames(vec![cut], Encoding::Gzip).await, Err(Reason::InvalidGzip));
        let split: Vec<_> = gzip(b"hello").chunks(1).map(<[u8]>::to_vec).collect();
        assert_eq!(read_frames(split, Encoding::Gzip).await, Ok(b"hello".to_vec()));
    }

    #[tokio::test]
    async fn what_does_not_fit_the_budget_is_refused_and_gives_back_what_it_took() {
        let bounds = Held(limits(), Budget::new(150));
        let held = bounds.1.reserve(100).unwrap();
        let body = || StreamBody::new(futures_util::stream::iter(Vec::<Result<Frame<Bytes>, Infallible>>::new()));
        let refused = read(body(), &expected(Encoding::Identity, &bounds)).await;
        assert_eq!(refused.unwrap_err().reason, Reason::BodyBudget);
        drop(held);
        assert!(read(body(), &expected(Encoding::Identity, &bounds)).await.is_ok());
    }

    #[tokio::test]
    async fn a_strangers_body_takes_room_as_it_comes_and_within_its_part_alone() {
        let whole = Budget::new(150);
        let bounds = Held(limits(), Budget::part(&whole, 60));
        let used = || (bounds.1.used.load(Ordering::Relaxed), whole.used.load(Ordering::Relaxed));
        let expected = Expected { declared: Some(90), room: Room::AsItComes, ..expected(Encoding::Identity, &bounds) };
        let frame = |bytes| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; bytes])));
        let body = |frames: Vec<usize>| StreamBody::new(futures_util::stream::iter(frames.into_iter().map(frame)));
        let read = |frames| read(body(frames), &expected);
        let held = read(vec![40]).await.unwrap();
        assert_eq!(used(), (40, 40), "what it announced costs nothing");
        assert_eq!(read(vec![30]).await.unwrap_err().reason, Reason::BodyBudget);
        assert_eq!(used(), (40, 40));
        drop(held);
        assert_eq!(used(), (0, 0));
        let other = whole.reserve(120).unwrap();
        assert_eq!(read(vec![40]).await.unwrap_err().reason, Reason::BodyBudget, "the whole is full");
        assert_eq!(used(), (0, 120));
        drop(other);
        assert!(read(vec![10, 10]).await.is_ok());
    }

    /// A body that gives one byte each `interval`.
    fn dripping(interval: Duration) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let stream = futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(interval).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        StreamBody::new(Box::pin(stream))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_below_the_least_pace_ends_after_the_grace_and_any_body_after_its_time_out() {
        let began = Instant::now();
        let usual = held();
        let slow = read(dripping(Duration::from_millis(500)), &expected(Encoding::Identity, &usual)).await;
        assert_eq!(slow.unwrap_err().reason, Reason::BodyTimeout);
        assert!(began.elapsed() < Duration::from_millis(2100), "{:?}", began.elapsed());
        let began = Instant::now();
        let patient = Held(Limits { body_bytes_per_second: 1, ..limits() }, Budget::new(250));
        let long = read(dripping(Duration::from_millis(500)), &expected(Encoding::Identity, &patient)).await;
        assert_eq!(long.unwrap_err().reason, Reason::BodyTimeout);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }
}
