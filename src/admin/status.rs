//! The figures of the status page and of `/api/v1/status`, gathered once for both.

use serde::Serialize;

use super::dispatch::Call;
use super::operate::{Reload, ReloadStatus};
use super::{Answered, Desk, observe, shown};
use crate::event::Micros;
use crate::forward::UpstreamStatus;
use crate::gate::IntegrationConfig;
use crate::outcome::{Outcome, Reason};

/// Everything the page shows.
#[derive(Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) uptime_s: i64,
    pub(super) ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_ready: Option<&'static str>,
    pub(super) durability: &'static str,
    pub(super) events: Events,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) dedup_entries: usize,
    pub(super) connections: i64,
    pub(super) spool_bytes: i64,
    pub(super) spool_damaged_records: u64,
    pub(super) warnings: Vec<String>,
    pub(super) integrations: Vec<Integration>,
    /// How reading it ended the last time.
    pub(super) configuration: Reload,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) descriptors: Option<Descriptors>,
    /// Those that watch decisions now.
    pub(super) tap_listeners: usize,
}

/// One integration, as it is configured now.
#[derive(Serialize)]
pub(super) struct Integration {
    name: String,
    enabled: bool,
    keys: usize,
    upstreams: Vec<String>,
    /// All, where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialects: Option<Vec<String>>,
}

/// Of the process.
#[derive(Serialize)]
pub(super) struct Descriptors {
    open: usize,
    limit: u64,
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
pub(super) struct Events {
    pub(super) received: u64,
    pub(super) accepted: u64,
    pub(super) absorbed: Vec<(&'static str, u64)>,
    pub(super) rejected: Vec<(&'static str, u64)>,
    pub(super) in_flight: u64,
}

/// One upstream: its books, and how it does.
#[derive(Serialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) enqueued: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) dead_letters: u64,
    pub(super) spool_events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) now: Option<UpstreamStatus>,
}

fn integration(config: &IntegrationConfig) -> Integration {
    Integration {
        name: config.name.to_string(),
        enabled: config.enabled,
        keys: config.key_hashes.len(),
        upstreams: config.upstreams.iter().map(ToString::to_string).collect(),
        dialects: config.dialects.clone(),
    }
}

impl Status {
    pub(super) async fn of(desk: &Desk) -> Self {
        let mut live = desk.forward.status().await;
        let upstreams = desk.metrics.upstreams().into_iter().map(|meter| {
            let book = meter.book();
            let at = live.iter().position(|status| *status.name == *meter.name);
            Upstream {
                name: meter.name.to_string(),
                enqueued: book.enqueued,
                delivered: book.delivered,
                dropped: book.dropped.values().sum(),
                dead_letters: book.dead_letters,
                spool_events: book.spool_events,
                now: at.map(|at| live.swap_remove(at)),
            }
        });
        let upstreams = upstreams.collect();
        let book = desk.metrics.intake();
        let absorbed = Outcome::ALL.iter().map(|outcome| outcome.name()).zip(book.absorbed);
        let rejected = Reason::all().map(Reason::label).zip(book.rejected);
        let some = |(_, count): &(&str, u64)| *count > 0;
        let ready = desk.ready();
        Self {
            version: env!("CARGO_PKG_VERSION"),
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
            upstreams,
            dedup_entries: desk.dedup.entries(),
            connections: desk.metrics.connections.get(),
            spool_bytes: desk.metrics.spool_bytes.get(),
            spool_damaged_records: desk.metrics.spool_damaged_records.get(),
            warnings: desk.settings.load().warnings.clone(),
            integrations: desk.intake.integrations().iter().map(|one| integration(&one.config)).collect(),
            configuration: desk.operator.last_reload(),
            descriptors: Descriptors::now(),
            tap_listeners: desk.tap.listeners(),
        }
    }

    /// The worst fact first.
    pub(super) fn headline(&self) -> (bool, String) {
        if let Some(reason) = self.not_ready {
            return (false, format!("NOT ACCEPTING: {reason}. Senders get 503 and are asked to come back."));
        }
        let troubled = self.upstreams.iter().find(|upstream| {
            upstream.now.as_ref().is_some_and(|now| now.down || now.held_for_s.is_some()) && upstream.spool_events > 0
        });
        if let Some(upstream) = troubled {
            let why = upstream.now.as_ref().and_then(|now| now.last_error.clone()).unwrap_or_default();
            let waiting = upstream.spool_events;
            return (false, format!("DELIVERY HELD: {} ({why}). {waiting} events wait on disk.", upstream.name));
        }
        if self.configuration.status != ReloadStatus::Reloaded {
            let what = "CONFIGURATION NOT TAKEN: what changed in its files is not in force".to_owned();
            return (false, format!("{what}; run `surgegate validate`."));
        }
        let dead: u64 = self.upstreams.iter().map(|upstream| upstream.dead_letters).sum();
        match dead {
            0 => {}
            1 => return (false, "1 dead letter needs a look.".to_owned()),
            _ => return (false, format!("{dead} dead letters need a look.")),
        }
        (true, "All is well: accepting and delivering.".to_owned())
    }
}
