//! Every metric of INTERFACE 6, and the only home of `prometheus`. Handles are made once, labels are
//! resolved when an integration or upstream loads; the request path only adds to numbers.
//!
//! The counters that must balance live in [`books`]; the rest are plain Prometheus metrics below.

// The one room that resolves labels, when things load.
#![allow(clippy::disallowed_methods)]

mod books;
mod page;
mod shared;
pub mod tally;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::outcome::{Outcome, Reason};

pub use books::{IntakeBook, Ticket, UpstreamBook, UpstreamMeter};
pub use shared::RedisMeter;

/// Where elements of batches are kept that were rejected alone: a name that no upstream may have. Outside the identity of
/// INTERFACE 6, so its book has dead letters alone.
pub const INTAKE: &str = "intake";

/// Seconds; from 0.25 ms (ECOSYSTEM 3).
const SECONDS_BUCKETS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// All metrics of the process. One per process; tests make as many as they like.
pub struct Metrics {
    registry: Registry,
    intake: Vec<Arc<books::Shard>>,
    upstreams: RwLock<BTreeMap<Arc<str>, Arc<UpstreamMeter>>>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    requests_in_flight: IntGauge,
    pub unauthenticated: IntCounter,
    in_work: Vec<InWork>,
    pub connections: IntGauge,
    pub connections_refused: IntCounter,
    pub lingering_refused: IntCounter,
    pub http2_cut: IntCounter,
    tls_expiry: GaugeVec,
    delivery_seconds: HistogramVec,
    upstream_requests: IntCounterVec,
    upstream_retries: IntCounterVec,
    upstream_circuit: GaugeVec,
    spool_oldest_age: GaugeVec,
    pub spool_sync_seconds: Histogram,
    pub spool_bytes: IntGauge,
    pub spool_orphaned_events: IntGauge,
    pub spool_damaged_records: IntCounter,
    pub spool_write_failures: IntCounter,
    pub spool_needed_bytes: IntGauge,
    pub spool_capacity_bytes: IntGauge,
    pub dedup_entries: IntGauge,
    pub dedup_untracked: IntCounter,
    pub dedup_expired: IntCounter,
    pub dedup_unconfirmed: IntCounter,
    pub order_given_up: IntCounter,
    pub unknown_absorbed: IntCounter,
    pub truncated_alerts: IntCounter,
    pub sns_unconfirmed: IntCounter,
    pub sns_unsubscribed: IntCounter,
    pub idempotency_body_mismatch: IntCounter,
    pub config_last_reload_successful: IntGauge,
    pub log_lines_suppressed: IntCounter,
    pub log_lines_dropped: IntCounter,
    pub rate_limit_fallback: IntGauge,
    redis: shared::RedisFamilies,
}

/// Requests in work on one thread, which alone writes it; in lines of its own, or threads would wait for each other.
#[derive(Default)]
#[repr(align(128))]
struct InWork(AtomicI64);

/// Counters of one dialect's requests, resolved once.
#[derive(Clone)]
pub struct DialectMeter {
    name: &'static str,
    requests: IntCounterVec,
    /// The statuses seen so far need no look-up: 100..=599.
    by_code: Arc<[std::sync::OnceLock<IntCounter>]>,
    pub seconds: Histogram,
}

impl DialectMeter {
    /// Counts one answered request.
    pub fn answered(&self, code: u16) {
        match self.by_code.get(usize::from(code).wrapping_sub(100)) {
            Some(slot) => slot.get_or_init(|| self.requests.with_label_values(&[self.name, &code.to_string()])).inc(),
            None => self.requests.with_label_values(&[self.name, "other"]).inc(),
        }
    }
}

impl Metrics {
    /// `shards`: how many threads take requests in; each counts on its own page of the books.
    ///
    /// # Errors
    /// Two metrics of one name: a defect, found by any test that makes a `Metrics`.
    pub fn new(shards: usize) -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let page = page::Page { registry: &registry };
        let metrics = Arc::new(Self {
            intake: (0..shards.max(1)).map(|_| Arc::default()).collect(),
            in_work: (0..shards.max(1)).map(|_| InWork::default()).collect(),
            upstreams: RwLock::default(),
            requests: page.counters(
                "http_requests_total",
                "Requests answered, by dialect and status.",
                &["dialect", "code"],
            )?,
            request_seconds: page.histograms(
                "http_request_duration_seconds",
                "Time from a request's head to its answer.",
                &["dialect"],
            )?,
            requests_in_flight: page.gauge("http_requests_in_flight", "Requests being worked on.")?,
            unauthenticated: page
                .counter("http_unauthenticated_requests_total", "Requests whose key is missing or wrong.")?,
            connections: page.gauge("http_connections", "Open ingest connections.")?,
            connections_refused: page.counter(
                "http_connections_refused_total",
                "Connections closed for want of descriptors or at the cap.",
            )?,
            lingering_refused: page.counter(
                "http_lingering_refused_total",
                "Early answers closed at once because too many connections linger.",
            )?,
            http2_cut: page.counter(
                "http2_connections_cut_total",
                "HTTP/2 connections closed because their frames came to nothing.",
            )?,
            tls_expiry: page.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use expires, in seconds since 1970; absent without TLS.",
                &[],
            )?,
            delivery_seconds: page.histograms(
                "delivery_latency_seconds",
                "Time from receipt to the upstream's success.",
                &["upstream"],
            )?,
            upstream_requests: page.counters(
                "upstream_requests_total",
                "Requests sent upstream, by answer.",
                &["upstream", "code"],
            )?,
            upstream_retries: page.counters(
                "upstream_retries_total",
                "Requests that repeat a failed one.",
                &["upstream"],
            )?,
            upstream_circuit: page.gauges("upstream_circuit_state", "0 closed, 1 half open, 2 open.", &["upstream"])?,
            spool_oldest_age: page.gauges(
                "spool_oldest_event_age_seconds",
                "Age of the oldest event that waits.",
                &["upstream"],
            )?,
            spool_sync_seconds: page
                .histogram("spool_sync_duration_seconds", "Time of one write and sync of the log.")?,
            spool_bytes: page.gauge("spool_bytes", "Bytes the spool directory holds.")?,
            spool_orphaned_events: page
                .gauge("spool_orphaned_events", "Events that wait for an upstream no longer configured.")?,
            spool_damaged_records: page
                .counter("spool_damaged_records_total", "Records that could not be read and were set aside.")?,
            spool_write_failures: page.counter(
                "spool_write_failures_total",
                "Writes or syncs of the log that failed; until one succeeds new events are refused.",
            )?,
            spool_needed_bytes: page.gauge(
                "spool_needed_bytes",
                "Bytes of the spool that cannot be let go: what waits, dead letters, what is being written.",
            )?,
            spool_capacity_bytes: page.gauge(
                "spool_capacity_bytes",
                "Bytes the spool can come to: spool.max_bytes, or what its disk has room for.",
            )?,
            dedup_entries: page.gauge("dedup_entries", "Keys whose state is held.")?,
            dedup_untracked: page.counter(
                "dedup_untracked_total",
                "Events forwarded without deduplication because the table was full.",
            )?,
            dedup_expired: page.counter("dedup_expired_total", "Open incidents forgotten after open_ttl.")?,
            dedup_unconfirmed: page.counter(
                "dedup_unconfirmed_total",
                "Duplicates forwarded again because no replica could confirm their incident.",
            )?,
            order_given_up: page.counter(
                "order_given_up_total",
                "Events that went on although an earlier one on their key waits, or may wait, at a replica that is gone.",
            )?,
            truncated_alerts: page
                .counter("truncated_alerts_total", "Alerts that an Alertmanager left out of its groups.")?,
            sns_unconfirmed: page.counter(
                "sns_unconfirmed_total",
                "Subscriptions of Amazon SNS that were asked for and not confirmed.",
            )?,
            sns_unsubscribed: page.counter("sns_unsubscribed_total", "Subscriptions of Amazon SNS that ended.")?,
            unknown_absorbed: page
                .counter("unknown_absorbed_total", "Unknown resolves absorbed because their paced line was full.")?,
            idempotency_body_mismatch: page.counter(
                "idempotency_body_mismatch_total",
                "Repeats of an idempotency key whose body says something else; answered with the first incident.",
            )?,
            config_last_reload_successful: page
                .gauge("config_last_reload_successful", "1 when the last (re)load of the configuration worked.")?,
            log_lines_suppressed: page.counter("log_lines_suppressed_total", "Log lines left out by sampling.")?,
            log_lines_dropped: page
                .counter("log_lines_dropped_total", "Log lines lost because nobody took them fast enough.")?,
            rate_limit_fallback: page.gauge(
                "rate_limit_fallback",
                "1 while this replica holds event limits by its share alone because Redis is away.",
            )?,
            redis: shared::RedisFamilies::new(&page)?,
            registry: registry.clone(),
        });
        let build = page.gauges("build_info", "Constant 1, labelled by version.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        registry.register(Box::new(books::BooksCollector::new(&metrics)))?;
        Ok(metrics)
    }

    /// Counters of one dialect.
    pub fn dialect(&self, name: &'static str) -> DialectMeter {
        DialectMeter {
            name,
            requests: self.requests.clone(),
            by_code: (100..600).map(|_| std::sync::OnceLock::new()).collect(),
            seconds: self.request_seconds.with_label_values(&[name]),
        }
    }

    /// Metrics of the way to Redis; shown from then on.
    pub fn redis(&self) -> RedisMeter {
        self.redis.meter()
    }

    /// When the certificate in use expires, in seconds since 1970; `None`: there is none.
    pub fn tls_certificate_expires(&self, at: Option<i64>) {
        match at {
            Some(seconds) => self.tls_expiry.with_label_values::<&str>(&[]).set(seconds as f64),
            None => self.tls_expiry.reset(),
        }
    }

    /// What [`Metrics::tls_certificate_expires`] was told last.
    pub fn tls_certificate_expiry(&self) -> Option<i64> {
        let families = prometheus::core::Collector::collect(&self.tls_expiry);
        families.first()?.get_metric().first().map(|metric| metric.get_gauge().get_value() as i64)
    }

    /// The meter of an upstream; made on first use. Names come from the configuration and the log alone.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMeter> {
        let known = self.upstreams.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| {
            let mut upstreams = self.upstreams.write().unwrap_or_else(PoisonError::into_inner);
            let name: Arc<str> = name.into();
            upstreams.entry(Arc::clone(&name)).or_insert_with(|| Arc::new(UpstreamMeter::new(name, self))).clone()
        })
    }

    /// Every upstream ever named, by name.
    pub fn upstreams(&self) -> Vec<Arc<UpstreamMeter>> {
        self.upstreams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes an event into the books on the page of `shard`.
    pub fn receive(&self, shard: usize) -> Ticket {
        Ticket::new(&self.intake[shard % self.intake.len()])
    }

    /// A request is in work on the thread of `shard`, which alone calls this for it.
    pub fn request_begins(&self, shard: usize) {
        self.in_work(shard, 1);
    }

    /// It is no longer.
    pub fn request_ends(&self, shard: usize) {
        self.in_work(shard, -1);
    }

    fn in_work(&self, shard: usize, change: i64) {
        let InWork(count) = &self.in_work[shard % self.in_work.len()];
        count.store(count.load(Relaxed) + change, Relaxed);
    }

    /// Counts what the log says became of events before this process began.
    pub fn recovered(&self, accepted: u64, absorbed: &[(Outcome, u64)], rejected: &[(Reason, u64)]) {
        self.intake[0].recovered(accepted, absorbed, rejected);
    }

    /// All pages of the intake books, added up in one consistent look.
    pub fn intake(&self) -> IntakeBook {
        books::sum(&self.intake)
    }

    /// Prometheus text of everything (INTERFACE 6).
    ///
    /// # Errors
    /// When a metric cannot be written as text: a defect.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.requests_in_flight.set(self.in_work.iter().map(|InWork(count)| count.load(Relaxed)).sum());
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Reason};

    #[test]
    fn the_books_balance_whatever_becomes_of_a_ticket() {
        let metrics = Metrics::new(2).unwrap();
        metrics.receive(0).accept();
        metrics.receive(1).absorb(Outcome::Duplicate);
        metrics.receive(1).reject(Reason::InvalidJson);
        drop(metrics.receive(0));
        let open = metrics.receive(0);
        let book = metrics.intake();
        assert_eq!((book.received, book.accepted, book.in_flight), (5, 1, 1));
        assert_eq!(book.absorbed[Outcome::Duplicate as usize], 1);
        assert_eq!(book.rejected[Reason::Internal.index()], 1, "a dropped ticket is our own fault");
        assert!(book.balances());
        open.accept();
        assert!(metrics.intake().balances());
    }

    #[test]
    fn requests_in_work_on_all_threads_are_shown_together() {
        let metrics = Metrics::new(2).unwrap();
        let shown = || {
            metrics
                .text()
                .unwrap()
                .lines()
                .find_map(|line| line.strip_prefix("surgegate_http_requests_in_flight ").map(str::to_owned))
        };
        metrics.request_begins(0);
        metrics.request_begins(1);
        metrics.request_begins(1);
        assert_eq!(shown().as_deref(), Some("3"));
        metrics.request_ends(1);
        metrics.request_ends(0);
        assert_eq!(shown().as_deref(), Some("1"));
    }

    #[test]
    fn what_is_kept_at_the_intake_is_shown_as_dead_letters_alone() {
        let metrics = Metrics::new(1).unwrap();
        metrics.upstream("pager").enqueue();
        let intake = metrics.upstream(INTAKE);
        intake.keep_rejected("invalid_event");
        intake.keep_rejected("body_too_large");
        intake.drop_dead("operator");
        let text = metrics.text().unwrap();
        let shown = |line: &str| text.lines().any(|shown| shown.strip_prefix("surgegate_") == Some(line));
        assert!(shown("dead_letters{upstream=\"intake\"} 1"), "{text}");
        assert!(shown("events_dead_lettered_total{upstream=\"intake\",reason=\"invalid_event\"} 1"));
        assert!(shown("events_dropped_total{upstream=\"intake\",reason=\"operator\"} 1"));
        for family in ["events_enqueued_total", "events_delivered_total", "spool_events"] {
            assert!(!text.contains(&format!("{family}{{upstream=\"intake\"}}")), "{family} is of the identity");
            assert!(text.contains(&format!("{family}{{upstream=\"pager\"}}")));
        }
    }

    #[test]
    fn a_scrape_names_each_counter_of_the_books() {
        let metrics = Metrics::new(1).unwrap();
        let pager = metrics.upstream("pager");
        pager.enqueue();
        metrics.receive(0).reject(Reason::InvalidJson);
        metrics.dialect("squadcast").answered(202);
        let text = metrics.text().unwrap();
        for line in [
            "surgegate_events_received_total 1",
            "surgegate_events_rejected_total{reason=\"invalid_json\"} 1",
            "surgegate_events_enqueued_total{upstream=\"pager\"} 1",
            "surgegate_spool_events{upstream=\"pager\"} 1",
            "surgegate_http_requests_total{code=\"202\",dialect=\"squadcast\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
