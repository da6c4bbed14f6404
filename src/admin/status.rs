//! The figures of the status page and of `/api/v1/status`, gathered once for both; `facts` says what they mean.

use serde::Serialize;

use super::dispatch::Call;
use super::facts::{self, Fact, Level};
use super::operate::Reload;
use super::refusals::{self, Refused};
use super::{Answered, Desk, observe, shown};
use crate::event::Micros;
use crate::forward::UpstreamStatus;
use crate::gate::{Integration as Gated, IntegrationConfig};
use crate::metrics::Metrics;
use crate::metrics::tally::Tallied;
use crate::outcome::{Outcome, Reason};
use crate::redis::{Link, Replica, Scope};

/// Everything the page shows.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) build: Build,
    /// The worst first; never none.
    pub(super) facts: Vec<Fact>,
    pub(super) uptime_s: i64,
    pub(super) ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_ready: Option<&'static str>,
    pub(super) durability: &'static str,
    pub(super) events: Events,
    pub(super) per_second: PerSecond,
    pub(super) losses: Losses,
    pub(super) integrations: Vec<Integration>,
    pub(super) refusals: Vec<Refused>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) spool: Spool,
    pub(super) dedup_entries: usize,
    pub(super) connections: i64,
    pub(super) spool_bytes: i64,
    pub(super) spool_damaged_records: u64,
    pub(super) warnings: Vec<String>,
    /// How reading it ended the last time.
    pub(super) configuration: Reload,
    /// Of the ingest listener, where it speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<Certificate>,
    /// Where replicas share what they know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redis: Option<Redis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) descriptors: Option<Descriptors>,
    /// Those that watch decisions now,
    pub(super) tap_listeners: usize,
    /// and those that watch the status page.
    pub(super) page_readers: usize,
}

/// What runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Build {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<&'static str>,
    pub(super) rustc: &'static str,
    pub(super) target: &'static str,
}

/// One integration, as it is configured now, and what its events came to since the start.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Integration {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) keys: usize,
    pub(super) upstreams: Vec<String>,
    /// All, where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dialects: Option<Vec<String>>,
    pub(super) events_per_second: f64,
    pub(super) accepted: u64,
    pub(super) absorbed: u64,
    /// Those that were limited, too.
    pub(super) rejected: u64,
    pub(super) limited: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_event_ago_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_refusal: Option<LastRefusal>,
}

#[derive(Serialize)]
pub(super) struct LastRefusal {
    pub(super) ago_s: f64,
    pub(super) reason: &'static str,
}

/// Of the process.
#[derive(Serialize)]
pub(super) struct Descriptors {
    pub(super) open: usize,
    pub(super) limit: u64,
}

impl Descriptors {
    /// `None` where the machine does not say.
    fn now() -> Option<Self> {
        // The look itself has one open.
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
        Some(Self { open, limit })
    }
}

pub(super) async fn answer(call: Call<'_>) -> Answered {
    shown(&Status::of(call.desk).await)
}

/// The intake books.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Events {
    pub(super) received: u64,
    pub(super) accepted: u64,
    pub(super) absorbed: Vec<(&'static str, u64)>,
    pub(super) rejected: Vec<(&'static str, u64)>,
    pub(super) in_flight: u64,
}

/// Events a second, over the last few.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct PerSecond {
    pub(super) received: f64,
    pub(super) accepted: f64,
    pub(super) absorbed: f64,
    pub(super) rejected: f64,
    pub(super) delivered: f64,
}

/// What did not go the way from received to delivered.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Losses {
    /// By the books (INTERFACE 6): 0, or something is wrong with us.
    pub(super) unaccounted: u64,
    pub(super) damaged_records: u64,
    pub(super) dropped: Vec<(&'static str, u64)>,
    pub(super) dead_letters: u64,
}

/// One upstream: its books, and how it does.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Upstream {
    pub(super) name: String,
    /// In a word.
    pub(super) state: &'static str,
    pub(super) level: Level,
    pub(super) enqueued: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) dead_letters: u64,
    /// Became one in the last five minutes.
    pub(super) dead_lettered_lately: u64,
    pub(super) spool_events: u64,
    pub(super) delivered_per_second: f64,
    /// When nothing waits any more, if it goes on as now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) empty_in_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) now: Option<UpstreamStatus>,
}

/// The log on disk.
#[derive(Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Spool {
    /// That wait, each once for each upstream it waits for.
    pub(super) events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest_event_age_s: Option<f64>,
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    /// What can still be taken: within `max_bytes`, on its disk, with what nobody needs gone.
    pub(super) free_bytes: u64,
    /// When nothing waits any more, if it goes on as now; of the slowest upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) empty_in_s: Option<f64>,
    /// When it is full, if it goes on as now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) full_in_s: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Certificate {
    pub(super) expires_at: Micros,
    pub(super) expires_in_s: i64,
}

/// What replicas share, where `redis.url` is set.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Redis {
    /// Hosts and ports.
    pub(super) servers: String,
    pub(super) up: bool,
    /// `mirror` or `shared`.
    pub(super) scope: &'static str,
    /// Times that a server was lost since the start.
    pub(super) outages: u64,
    /// This replica holds to its own share of the limits.
    pub(super) limiter_fallback: bool,
    pub(super) replica_id: u16,
    /// Another replica that lives has the same id.
    pub(super) replica_id_taken: bool,
}

impl Redis {
    fn now(link: &Link, replica: &Replica, metrics: &Metrics) -> Self {
        let scope = match link.config().scope {
            Scope::Mirror => "mirror",
            Scope::Shared => "shared",
        };
        Self {
            servers: link.config().servers.to_string(),
            up: link.is_up(),
            scope,
            outages: link.outages(),
            limiter_fallback: metrics.rate_limit_fallback.get() > 0,
            replica_id: replica.id(),
            replica_id_taken: replica.is_taken(),
        }
    }
}

/// With two digits behind the point: nobody reads more.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn integration(gated: &Gated, tallied: &Tallied, events_per_second: f64) -> Integration {
    let IntegrationConfig { name, enabled, key_hashes, upstreams, dialects, .. } = &gated.config;
    Integration {
        name: name.to_string(),
        enabled: *enabled,
        keys: key_hashes.len(),
        upstreams: upstreams.iter().map(ToString::to_string).collect(),
        dialects: dialects.clone(),
        events_per_second: rounded(events_per_second),
        accepted: tallied.accepted,
        absorbed: tallied.absorbed,
        rejected: tallied.rejected,
        limited: tallied.limited,
        last_event_ago_s: tallied.seen_ago.map(|ago| rounded(ago.as_secs_f64())),
        last_refusal: tallied
            .refused_ago
            .map(|(ago, reason)| LastRefusal { ago_s: rounded(ago.as_secs_f64()), reason: reason.label() }),
    }
}

/// How an upstream does, in a word.
fn state(now: Option<&UpstreamStatus>, waiting: u64) -> (Level, &'static str) {
    let Some(now) = now else { return (Level::Warn, "unknown") };
    match (now.configured, now.circuit, now.held_for_s) {
        (false, ..) if waiting > 0 => (Level::Warn, "removed"),
        (false, ..) => (Level::Note, "removed"),
        (_, "open", _) => (Level::Bad, "circuit open"),
        (_, "half_open", _) => (Level::Bad, "probing"),
        (.., Some(_)) => (Level::Warn, "held"),
        _ if waiting > 0 && now.last_status.is_some_and(|status| status >= 500) => (Level::Warn, "failing"),
        _ => (Level::Good, "fine"),
    }
}

impl Status {
    pub(super) async fn of(desk: &Desk) -> Self {
        let (losses, upstreams) = Self::upstreams(desk).await;
        let book = desk.metrics.intake();
        let absorbed = Outcome::ALL.iter().map(|outcome| outcome.name()).zip(book.absorbed);
        let rejected = Reason::all().map(Reason::label).zip(book.rejected);
        let some = |(_, count): &(&str, u64)| *count > 0;
        let (ready, rates) = (desk.ready(), desk.live.rates.all());
        let now = tokio::time::Instant::now();
        let sum = |one: &Gated| one.tally().sum(now);
        let integrations = desk.intake.integrations();
        let mut status = Self {
            version: env!("CARGO_PKG_VERSION"),
            build: Build {
                commit: option_env!("SURGEGATE_COMMIT").filter(|commit| !commit.is_empty()),
                rustc: env!("SURGEGATE_RUSTC"),
                target: env!("SURGEGATE_TARGET"),
            },
            facts: vec![],
            uptime_s: (Micros::now().0 - desk.began.0) / 1_000_000,
            ready: ready.is_ok(),
            not_ready: ready.err().map(Reason::label),
            durability: observe::durability(desk.durability),
            events: Events {
                received: book.received,
                accepted: book.accepted,
                absorbed: absorbed.filter(some).collect(),
                rejected: rejected.filter(some).collect(),
                in_flight: book.in_flight,
            },
            per_second: PerSecond {
                received: rounded(rates.received),
                accepted: rounded(rates.accepted),
                absorbed: rounded(rates.absorbed),
                rejected: rounded(rates.rejected),
                delivered: rounded(rates.delivered),
            },
            losses: Losses { unaccounted: losses.unaccounted + unaccounted_in(&book), ..losses },
            integrations: integrations
                .iter()
                .map(|one| integration(one, &sum(one), desk.live.rates.integration(&one.config.name)))
                .collect(),
            refusals: refusals::of(desk, &book),
            spool: Spool::of(desk, &upstreams),
            upstreams,
            dedup_entries: desk.dedup.entries(),
            connections: desk.metrics.connections.get(),
            spool_bytes: desk.metrics.spool_bytes.get(),
            spool_damaged_records: desk.metrics.spool_damaged_records.get(),
            warnings: desk.settings.load().warnings.clone(),
            configuration: desk.operator.last_reload(),
            certificate: desk.metrics.tls_certificate_expiry().map(Certificate::until),
            redis: desk.redis.as_ref().map(|(link, replica)| Redis::now(link, replica, &desk.metrics)),
            descriptors: Descriptors::now(),
            tap_listeners: desk.tap.listeners(),
            page_readers: desk.live.readers(),
        };
        status.facts = facts::of(&status);
        status
    }

    async fn upstreams(desk: &Desk) -> (Losses, Vec<Upstream>) {
        let mut live = desk.forward.status().await;
        let mut dropped = std::collections::BTreeMap::<&'static str, u64>::new();
        let mut losses = Losses {
            unaccounted: 0,
            damaged_records: desk.metrics.spool_damaged_records.get(),
            dropped: vec![],
            dead_letters: 0,
        };
        let mut upstreams = vec![];
        for meter in desk.metrics.upstreams() {
            let book = meter.book();
            let now = live.iter().position(|status| *status.name == *meter.name).map(|at| live.swap_remove(at));
            let rates = desk.live.rates.upstream(&meter.name);
            let (level, state) = state(now.as_ref(), book.spool_events);
            let sinks = rates.delivered - rates.enqueued;
            let empty_in_s = (book.spool_events > 0 && sinks > 0.1).then(|| rounded(book.spool_events as f64 / sinks));
            book.dropped.iter().for_each(|(reason, count)| *dropped.entry(reason).or_default() += count);
            losses.dead_letters += book.dead_letters;
            losses.unaccounted += book.unaccounted();
            upstreams.push(Upstream {
                name: meter.name.to_string(),
                state,
                level,
                enqueued: book.enqueued,
                delivered: book.delivered,
                dropped: book.dropped.values().sum(),
                dead_letters: book.dead_letters,
                dead_lettered_lately: rates.dead_lettered_lately.min(book.dead_letters),
                spool_events: book.spool_events,
                delivered_per_second: rounded(rates.delivered),
                empty_in_s,
                now,
            });
        }
        losses.dropped = dropped.into_iter().filter(|(_, count)| *count > 0).collect();
        (losses, upstreams)
    }
}

/// Events that are in no term of the identity.
fn unaccounted_in(book: &crate::metrics::IntakeBook) -> u64 {
    let ended = book.accepted + book.absorbed.iter().sum::<u64>() + book.rejected.iter().sum::<u64>() + book.in_flight;
    book.received.abs_diff(ended)
}

impl Certificate {
    fn until(expires: i64) -> Self {
        let left = expires - Micros::now().0 / 1_000_000;
        Self { expires_at: Micros(expires.saturating_mul(1_000_000)), expires_in_s: left }
    }
}

/// A spool that is full later than this does not fill.
const NEVER_S: f64 = 30.0 * 86_400.0;

impl Spool {
    fn of(desk: &Desk, upstreams: &[Upstream]) -> Self {
        let room = desk.store.room();
        let on_disk = desk
            .live
            .rates
            .disk_free()
            .map_or(u64::MAX, |free| free.saturating_add(room.releasable).saturating_add(room.unwritten));
        let free_bytes = room.free().min(on_disk);
        let kept = desk.live.rates.all().kept_bytes;
        let full_in_s = (kept >= 1.0).then(|| free_bytes as f64 / kept).filter(|seconds| *seconds < NEVER_S);
        let ages = upstreams.iter().filter_map(|upstream| upstream.now.as_ref()?.oldest_event_age_s);
        let waits = || upstreams.iter().filter(|upstream| upstream.spool_events > 0);
        // Of those that get less and those that do not, the latter are never empty.
        let empty: Option<Vec<f64>> = waits().map(|upstream| upstream.empty_in_s).collect();
        Self {
            events: waits().map(|upstream| upstream.spool_events).sum(),
            oldest_event_age_s: ages.reduce(f64::max),
            bytes: room.taken,
            max_bytes: room.max,
            free_bytes,
            empty_in_s: empty.and_then(|all| all.into_iter().reduce(f64::max)),
            full_in_s: full_in_s.map(rounded),
        }
    }
}
