//! The books of INTERFACE 6: what must balance at every scrape. Each term is counted where it happens,
//! and every move of an event from one term to another is one step under one lock, so a scrape, which
//! takes the locks in turn, never sees an event twice or not at all. A thread counts on its own page:
//! its lock is free but for the scrapes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, IntCounter, IntCounterVec};
use tokio::time::Instant;

use super::{INTAKE, Metrics, page::PREFIX, tally};
use crate::outcome::{Outcome, Reason, Refusal};

/// Events of the intake side: `received = accepted + absorbed + rejected + in_flight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeBook {
    pub received: u64,
    pub accepted: u64,
    /// By `Outcome as usize`.
    pub absorbed: [u64; Outcome::ALL.len()],
    /// By `Reason::index`.
    pub rejected: [u64; Reason::COUNT],
    pub in_flight: u64,
}

impl Default for IntakeBook {
    fn default() -> Self {
        Self { received: 0, accepted: 0, absorbed: [0; _], rejected: [0; _], in_flight: 0 }
    }
}

impl IntakeBook {
    pub fn balances(&self) -> bool {
        let absorbed: u64 = self.absorbed.iter().sum();
        let rejected: u64 = self.rejected.iter().sum();
        self.received == self.accepted + absorbed + rejected + self.in_flight
    }
}

/// One thread's page of the intake books.
#[derive(Default)]
pub(super) struct Shard(Mutex<IntakeBook>);

impl Shard {
    fn book(&self) -> MutexGuard<'_, IntakeBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn recovered(&self, accepted: u64, absorbed: &[(Outcome, u64)], rejected: &[(Reason, u64)]) {
        let mut book = self.book();
        book.received += accepted;
        book.accepted += accepted;
        for (outcome, count) in absorbed {
            book.received += count;
            book.absorbed[*outcome as usize] += count;
        }
        for (reason, count) in rejected {
            book.received += count;
            book.rejected[reason.index()] += count;
        }
    }
}

/// All pages added up while every one of them is held.
pub(super) fn sum(shards: &[Arc<Shard>]) -> IntakeBook {
    let held: Vec<_> = shards.iter().map(|shard| shard.book()).collect();
    let mut total = IntakeBook::default();
    for book in &held {
        total.received += book.received;
        total.accepted += book.accepted;
        total.in_flight += book.in_flight;
        total.absorbed.iter_mut().zip(book.absorbed).for_each(|(sum, part)| *sum += part);
        total.rejected.iter_mut().zip(book.rejected).for_each(|(sum, part)| *sum += part);
    }
    total
}

/// One event in flight. It ends exactly once; dropped unsettled it is a rejection of our own making.
#[must_use = "an event ends as accepted, absorbed or rejected"]
pub struct Ticket {
    /// Until it ends.
    shard: Option<Arc<Shard>>,
    /// Of its integration.
    tally: Option<Arc<tally::Page>>,
}

impl Ticket {
    pub(super) fn new(shard: &Arc<Shard>) -> Self {
        let mut book = shard.book();
        book.received += 1;
        book.in_flight += 1;
        drop(book);
        Self { shard: Some(Arc::clone(shard)), tally: None }
    }

    /// It is an event of the integration whose page this is, and came at `at`.
    pub fn of(mut self, page: &Arc<tally::Page>, at: Instant) -> Self {
        page.sees(at);
        self.tally = Some(Arc::clone(page));
        self
    }

    /// It goes to at least one upstream.
    pub fn accept(self) {
        self.end(|book| book.accepted += 1, tally::Page::accepts);
    }

    /// It goes to none.
    pub fn absorb(self, outcome: Outcome) {
        self.end(|book| book.absorbed[outcome as usize] += 1, tally::Page::absorbs);
    }

    /// It was refused; the sender's retry is a new event.
    pub fn reject(self, reason: Reason) {
        self.end(|book| book.rejected[reason.index()] += 1, |page| page.rejects(reason));
    }

    /// Goes on with what passed; what was refused is counted as rejected for its reason.
    ///
    /// # Errors
    /// The refusal itself.
    pub fn check<T>(self, passed: Result<T, Refusal>) -> Result<(Self, T), Refusal> {
        match passed {
            Ok(value) => Ok((self, value)),
            Err(refusal) => {
                self.reject(refusal.reason);
                Err(refusal)
            }
        }
    }

    fn end(mut self, count: impl FnOnce(&mut IntakeBook), tally: impl FnOnce(&tally::Page)) {
        if let Some(shard) = self.shard.take() {
            let mut book = shard.book();
            book.in_flight -= 1;
            count(&mut book);
        }
        if let Some(page) = &self.tally {
            tally(page);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shard) = self.shard.take() {
            let mut book = shard.book();
            book.in_flight -= 1;
            book.rejected[Reason::Internal.index()] += 1;
            drop(book);
            if let Some(page) = &self.tally {
                page.rejects(Reason::Internal);
            }
        }
    }
}

/// Events of one upstream: `enqueued = delivered + dropped + dead_letters + spool_events`. What was rejected and is kept at
/// [`INTAKE`] was never enqueued: that book does not balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamBook {
    pub enqueued: u64,
    pub delivered: u64,
    pub dropped: BTreeMap<&'static str, u64>,
    /// Dead letters there are now.
    pub dead_letters: u64,
    /// Events that wait or are under way now.
    pub spool_events: u64,
    /// Events that ever became a dead letter, by reason.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Deliveries of an event that may have been delivered before.
    pub repeated: u64,
}

impl UpstreamBook {
    pub fn balances(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.enqueued == self.delivered + dropped + self.dead_letters + self.spool_events
    }

    /// Events that are in no term of the identity: none, or something is wrong. What was rejected at intake, and dropped
    /// since, was never in it.
    pub fn unaccounted(&self) -> u64 {
        let dropped: u64 = self.dropped.values().sum();
        let ended = self.delivered + dropped + self.dead_letters + self.spool_events;
        if self.enqueued == 0 { 0 } else { self.enqueued.abs_diff(ended) }
    }
}

/// Books and handles of one upstream.
pub struct UpstreamMeter {
    pub name: Arc<str>,
    book: Mutex<UpstreamBook>,
    requests: IntCounterVec,
    pub retries: IntCounter,
    pub delivery_seconds: Histogram,
    pub circuit: prometheus::Gauge,
    pub oldest_age_seconds: prometheus::Gauge,
}

impl UpstreamMeter {
    pub(super) fn new(name: Arc<str>, metrics: &Metrics) -> Self {
        Self {
            book: Mutex::default(),
            requests: metrics.upstream_requests.clone(),
            retries: metrics.upstream_retries.with_label_values(&[&*name]),
            delivery_seconds: metrics.delivery_seconds.with_label_values(&[&*name]),
            circuit: metrics.upstream_circuit.with_label_values(&[&*name]),
            oldest_age_seconds: metrics.spool_oldest_age.with_label_values(&[&*name]),
            name,
        }
    }

    fn lock(&self) -> MutexGuard<'_, UpstreamBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn book(&self) -> UpstreamBook {
        self.lock().clone()
    }

    /// Puts the book as the log tells it; only while nothing runs yet.
    pub fn restore(&self, book: UpstreamBook) {
        *self.lock() = book;
    }

    /// An accepted event goes to this upstream and waits.
    pub fn enqueue(&self) {
        let mut book = self.lock();
        book.enqueued += 1;
        book.spool_events += 1;
    }

    /// A waiting event was delivered.
    pub fn deliver(&self) {
        let mut book = self.lock();
        book.spool_events = book.spool_events.saturating_sub(1);
        book.delivered += 1;
    }

    /// A waiting event was given up without delivery.
    pub fn drop_waiting(&self, reason: &'static str) {
        let mut book = self.lock();
        book.spool_events = book.spool_events.saturating_sub(1);
        *book.dropped.entry(reason).or_default() += 1;
    }

    /// A waiting event became a dead letter.
    pub fn bury(&self, reason: &'static str) {
        let mut book = self.lock();
        book.spool_events = book.spool_events.saturating_sub(1);
        book.dead_letters += 1;
        *book.dead_lettered.entry(reason).or_default() += 1;
    }

    /// What was rejected at intake is a dead letter from the beginning; of [`INTAKE`](super::INTAKE) alone.
    pub fn keep_rejected(&self, reason: &'static str) {
        let mut book = self.lock();
        book.dead_letters += 1;
        *book.dead_lettered.entry(reason).or_default() += 1;
    }

    /// A dead letter waits again.
    pub fn replay(&self) {
        let mut book = self.lock();
        book.dead_letters = book.dead_letters.saturating_sub(1);
        book.spool_events += 1;
    }

    /// A dead letter was given up for good.
    pub fn drop_dead(&self, reason: &'static str) {
        let mut book = self.lock();
        book.dead_letters = book.dead_letters.saturating_sub(1);
        *book.dropped.entry(reason).or_default() += 1;
    }

    /// A delivery that may repeat one whose record was lost.
    pub fn repeat(&self) {
        self.lock().repeated += 1;
    }

    /// A request was answered with `code`, or failed before an answer (`error`).
    pub fn answered(&self, code: &str) {
        self.requests.with_label_values(&[&*self.name, code]).inc();
    }
}

/// Reads the books at a scrape.
pub(super) struct BooksCollector {
    metrics: Weak<Metrics>,
    descs: Vec<Desc>,
}

struct Family {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    kind: MetricType,
}

const fn family(name: &'static str, help: &'static str, label: Option<&'static str>, kind: MetricType) -> Family {
    Family { name, help, label, kind }
}

const RECEIVED: Family = family(
    "events_received_total",
    "Events received: accepted + absorbed + rejected + in flight.",
    None,
    MetricType::COUNTER,
);
const ACCEPTED: Family =
    family("events_accepted_total", "Events accepted that go to at least one upstream.", None, MetricType::COUNTER);
const ABSORBED: Family =
    family("events_absorbed_total", "Events accepted that go to no upstream.", Some("outcome"), MetricType::COUNTER);
const REJECTED: Family =
    family("events_rejected_total", "Events refused; a retry counts as new.", Some("reason"), MetricType::COUNTER);
const IN_FLIGHT: Family = family("events_in_flight", "Events being decided.", None, MetricType::GAUGE);
const ENQUEUED: Family = family(
    "events_enqueued_total",
    "Events for an upstream: delivered + dropped + dead letters + waiting.",
    Some("upstream"),
    MetricType::COUNTER,
);
const DELIVERED: Family =
    family("events_delivered_total", "Events the upstream took.", Some("upstream"), MetricType::COUNTER);
const DROPPED: Family =
    family("events_dropped_total", "Events given up without delivery.", Some("upstream,reason"), MetricType::COUNTER);
const REPEATED: Family = family(
    "deliveries_repeated_total",
    "Deliveries that may repeat one whose record was lost.",
    Some("upstream"),
    MetricType::COUNTER,
);
const DEAD_LETTERED: Family = family(
    "events_dead_lettered_total",
    "Events that became a dead letter.",
    Some("upstream,reason"),
    MetricType::COUNTER,
);
const DEAD_LETTERS: Family = family("dead_letters", "Dead letters there are now.", Some("upstream"), MetricType::GAUGE);
const SPOOL_EVENTS: Family = family(
    "spool_events",
    "Events that wait for an upstream or are under way to it.",
    Some("upstream"),
    MetricType::GAUGE,
);

const FAMILIES: [&Family; 12] = [
    &RECEIVED,
    &ACCEPTED,
    &ABSORBED,
    &REJECTED,
    &IN_FLIGHT,
    &ENQUEUED,
    &DELIVERED,
    &DROPPED,
    &REPEATED,
    &DEAD_LETTERED,
    &DEAD_LETTERS,
    &SPOOL_EVENTS,
];

impl BooksCollector {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let desc = |family: &&Family| {
            let labels = family.label.map_or_else(Vec::new, |names| names.split(',').map(str::to_owned).collect());
            Desc::new(
                format!("{PREFIX}_{}", family.name),
                family.help.to_owned(),
                labels,
                std::collections::HashMap::new(),
            )
        };
        // A name that Prometheus would refuse is a defect that the scrape test shows: leave it out here.
        Self { metrics: Arc::downgrade(metrics), descs: FAMILIES.iter().filter_map(|f| desc(f).ok()).collect() }
    }
}

impl Collector for BooksCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(metrics) = self.metrics.upgrade() else { return Vec::new() };
        let book = metrics.intake();
        let upstreams: Vec<_> =
            metrics.upstreams().iter().map(|meter| (Arc::clone(&meter.name), meter.book())).collect();
        let per_upstream = |family: &Family, read: fn(&UpstreamBook) -> u64| {
            // Nothing is sent to the intake: what is kept there is a dead letter or was dropped, and no other term is shown.
            let is_shown = |name: &str| name != INTAKE || family.name == DEAD_LETTERS.name;
            let shown = upstreams.iter().filter(|(name, _)| is_shown(name));
            filled(family, shown.map(|(name, book)| (vec![&**name], read(book))).collect())
        };
        let by_reason = |family: &Family, read: fn(&UpstreamBook) -> &BTreeMap<&'static str, u64>| {
            let rows = upstreams.iter().flat_map(|(name, book)| {
                read(book).iter().map(move |(reason, count)| (vec![&**name, *reason], *count))
            });
            filled(family, rows.collect())
        };
        let absorbed = Outcome::ALL.iter().zip(book.absorbed).map(|(outcome, count)| (vec![outcome.name()], count));
        let rejected = Reason::all().zip(book.rejected).map(|(reason, count)| (vec![reason.label()], count));
        vec![
            filled(&RECEIVED, vec![(vec![], book.received)]),
            filled(&ACCEPTED, vec![(vec![], book.accepted)]),
            filled(&ABSORBED, absorbed.collect()),
            filled(&REJECTED, rejected.collect()),
            filled(&IN_FLIGHT, vec![(vec![], book.in_flight)]),
            per_upstream(&ENQUEUED, |book| book.enqueued),
            per_upstream(&DELIVERED, |book| book.delivered),
            by_reason(&DROPPED, |book| &book.dropped),
            per_upstream(&REPEATED, |book| book.repeated),
            by_reason(&DEAD_LETTERED, |book| &book.dead_lettered),
            per_upstream(&DEAD_LETTERS, |book| book.dead_letters),
            per_upstream(&SPOOL_EVENTS, |book| book.spool_events),
        ]
    }
}

/// One family with a metric per row of label values and count.
fn filled(family: &Family, rows: Vec<(Vec<&str>, u64)>) -> MetricFamily {
    let names: Vec<&str> = family.label.map_or_else(Vec::new, |names| names.split(',').collect());
    let metrics = rows.into_iter().map(|(values, count)| {
        let pairs = names.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut metric = Metric::default();
        metric.set_label(pairs.collect());
        // Exact up to 2^53 events.
        #[allow(clippy::cast_precision_loss)]
        let value = count as f64;
        if family.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    });
    let mut filled = MetricFamily::default();
    filled.set_name(format!("{PREFIX}_{}", family.name));
    filled.set_help(family.help.to_owned());
    filled.set_field_type(family.kind);
    filled.set_metric(metrics.collect());
    filled
}
