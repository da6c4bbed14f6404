//! `/api/v1/live`: the status page for those who watch it, as server-sent events: each part when it changes, and decisions
//! where they are asked for. A part is made once a second for all readers, and only while there are any; a reader who is
//! slow gets the newest. `app` has [`watch`] run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as newest};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::dispatch::Call;
use super::page::{self, Group, Parts};
use super::pulse::Pulse;
use super::rates::{Flow, Rates, Totals};
use super::status::Status;
use super::{Answered, Desk, error, tap};
use crate::tap::Listener;

/// How often it is looked, and at most how old a part is.
const EVERY: Duration = Duration::from_secs(1);
/// The disk is asked for its room once in so many looks.
const DISK_LOOKS: u32 = 5;
/// Those who may watch the page at once.
const READERS_MAX: usize = 32;

/// What the page has between two looks.
pub struct Live {
    pub(super) rates: Rates,
    parts: newest::Sender<Arc<Parts>>,
    seats: Arc<Semaphore>,
    /// What was read of the dead letters, and the books at that moment: reading them costs a look into the log.
    dead: Mutex<Option<(Marks, Arc<Vec<Group>>)>>,
}

/// Each upstream's dead letters, now and ever.
type Marks = Vec<(u64, u64)>;

impl Default for Live {
    fn default() -> Self {
        let seats = Arc::new(Semaphore::new(READERS_MAX));
        Self { rates: Rates::default(), parts: newest::Sender::default(), seats, dead: Mutex::default() }
    }
}

impl Live {
    /// How many watch now.
    pub(super) fn readers(&self) -> usize {
        READERS_MAX - self.seats.available_permits()
    }

    async fn dead(&self, desk: &Desk) -> Arc<Vec<Group>> {
        let books = desk.metrics.upstreams().into_iter().map(|meter| meter.book());
        let marks: Marks = books.map(|book| (book.dead_letters, book.dead_lettered.values().sum())).collect();
        let kept = self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((known, groups)) = kept.filter(|(known, _)| *known == marks) {
            drop(known);
            return groups;
        }
        let groups = Arc::new(Group::all(desk).await);
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = Some((marks, Arc::clone(&groups)));
        groups
    }

    /// Every part as it is now.
    pub(super) async fn now(&self, desk: &Desk) -> Parts {
        let status = Status::of(desk).await;
        let dead = self.dead(desk).await;
        page::parts(&status, &dead, &self.rates.line())
    }

    /// Looks at the counters, for the rates.
    fn look(&self, desk: &Desk) {
        let book = desk.metrics.intake();
        let mut delivered = 0;
        let upstreams: Vec<_> = desk
            .metrics
            .upstreams()
            .into_iter()
            .map(|meter| {
                let book = meter.book();
                delivered += book.delivered;
                let dead_lettered = book.dead_lettered.values().sum();
                (Arc::clone(&meter.name), Flow { enqueued: book.enqueued, delivered: book.delivered, dead_lettered })
            })
            .collect();
        let totals = Totals {
            received: book.received,
            accepted: book.accepted,
            absorbed: book.absorbed.iter().sum(),
            rejected: book.rejected.iter().sum(),
            delivered,
            placed: desk.store.room().placed,
        };
        let now = Instant::now();
        let integrations: Vec<_> = desk
            .intake
            .integrations()
            .iter()
            .map(|one| {
                let tallied = one.tally().sum(now);
                (Arc::clone(&one.config.name), tallied.accepted + tallied.absorbed + tallied.rejected)
            })
            .collect();
        self.rates.see(now, totals, &upstreams, &integrations);
    }
}

/// Keeps the rates, and the page of those who watch it, until its task is dropped. `spool`: whose disk's room is told.
pub async fn watch(desk: Arc<Desk>, spool: std::path::PathBuf) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut looks, asking) = (0_u32, Arc::new(()));
    loop {
        tick.tick().await;
        // A file system that does not answer is asked once.
        if looks.is_multiple_of(DISK_LOOKS) && Arc::strong_count(&asking) == 1 {
            let (desk, spool, asked) = (Arc::clone(&desk), spool.clone(), Arc::clone(&asking));
            tokio::task::spawn_blocking(move || {
                desk.live.rates.disk_has(free_bytes(&spool));
                drop(asked);
            });
        }
        looks = looks.wrapping_add(1);
        desk.live.look(&desk);
        if desk.live.parts.receiver_count() > 0 {
            let parts = desk.live.now(&desk).await;
            desk.live.parts.send_replace(Arc::new(parts));
        }
    }
}

/// On the disk, for whoever this process is.
fn free_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What a reader's stream holds on to.
struct Reading {
    parts: newest::Receiver<Arc<Parts>>,
    /// What it has of each part.
    seen: Vec<u64>,
    /// `None`: only the page.
    listener: Option<Listener>,
    pulse: Arc<Pulse>,
    _seat: OwnedSemaphorePermit,
}

pub(super) async fn answer(call: Call<'_>) -> Answered {
    let Call { desk, values, pulse, .. } = call;
    let full = |message| {
        let mut full = error(StatusCode::SERVICE_UNAVAILABLE, message);
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        full
    };
    let Ok(seat) = Arc::clone(&desk.live.seats).try_acquire_owned() else {
        return full("as many as may watch the page do already: try again");
    };
    let listener = if values.flag("tap") {
        match tap::listen(desk, &values) {
            Ok(listener) => Some(listener),
            Err(refused) => return refused,
        }
    } else {
        None
    };
    let mut parts = desk.live.parts.subscribe();
    // The page as it is now comes first, whatever was made for others.
    parts.mark_unchanged();
    let mut reading = Reading { parts, seen: vec![], listener, pulse: Arc::clone(pulse), _seat: seat };
    let mut first = String::new();
    reading.write(&mut first, &desk.live.now(desk).await);
    let first = stream::iter([Ok(Frame::data(Bytes::from(first)))]);
    let rest = stream::unfold(reading, Reading::next);
    let body = StreamBody::new(futures_util::StreamExt::chain(first, rest)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

type Piece = Result<Frame<Bytes>, std::convert::Infallible>;

impl Reading {
    /// The next piece; asked for only while the reader takes what it gets.
    async fn next(mut self) -> Option<(Piece, Self)> {
        self.pulse.beats();
        let mut text = String::new();
        while text.is_empty() {
            tokio::select! {
                changed = self.parts.changed() => {
                    changed.ok()?;
                    let parts = Arc::clone(&self.parts.borrow_and_update());
                    self.write(&mut text, &parts);
                }
                heard = tap::heard(&mut self.listener) => text = heard?,
            }
        }
        Some((Ok(Frame::data(Bytes::from(text))), self))
    }

    /// The parts that are not as this reader has them.
    fn write(&mut self, text: &mut String, parts: &Parts) {
        self.seen.resize(parts.len(), 0);
        for ((id, html), seen) in parts.iter().zip(&mut self.seen) {
            let mut hasher = DefaultHasher::new();
            html.hash(&mut hasher);
            let hash = hasher.finish();
            if std::mem::replace(seen, hash) != hash {
                let data = serde_json::json!({ "id": id, "html": html }).to_string();
                text.extend(["event: part\ndata: ", &data, "\n\n"]);
            }
        }
    }
}
