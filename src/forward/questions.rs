//! Questions to upstreams: what a vendor's senders ask of it, passed on by `intake`, and the severities of an incident.io
//! account, which say what stands for a level there (contracts 4.1). They take no place in a lane and no pace: the answers
//! are kept for a minute by who asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::desk::{Desk, Done};
use super::upstream::{Route, Upstream};
use crate::event::Severity;
use crate::sink::{Answer, Kind, UpstreamConfig};
use crate::vendor;

/// How long the account's list holds; it is asked for again when an event needs it.
const LIST_HOLDS: Duration = Duration::from_secs(60);
/// Longest wait of an event for the first list, which is asked for again meanwhile; then the configured severity stands.
const LIST_WAIT: Duration = Duration::from_secs(5);
const LIST_AGAIN: Duration = Duration::from_secs(1);
const LISTED_MAX: usize = 100;
const SEVERITIES: &str = "/v1/severities";

/// What is known of an account's severities.
#[derive(Default)]
pub(super) struct Ranked {
    /// The configuration with a severity for each level.
    config: Option<Arc<UpstreamConfig>>,
    asked_at: Option<Instant>,
    /// When the first event wanted it.
    since: Option<Instant>,
    is_under_way: bool,
}

impl Ranked {
    /// Another configuration: it may be another account.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How the upstream is configured, as far as the account says too.
    pub(super) fn over<'a>(&'a self, configured: &'a Arc<UpstreamConfig>) -> &'a Arc<UpstreamConfig> {
        self.config.as_ref().unwrap_or(configured)
    }
}

fn is_ranked(config: &UpstreamConfig) -> bool {
    config.kind == Kind::IncidentIo && config.vendor.severity_map.iter().all(Option::is_none)
}

/// The configuration with the severities of an account by their ranks; `None`: the answer lists none.
fn by_rank(config: &UpstreamConfig, answer: &Answer) -> Option<UpstreamConfig> {
    if !answer.status.is_success() || !answer.complete {
        return None;
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let row = |row: &serde_json::Value| Some((row.get("rank")?.as_i64()?, Arc::<str>::from(row.get("id")?.as_str()?)));
    let mut rows: Vec<_> = body.get("severities")?.as_array()?.iter().take(LISTED_MAX).filter_map(row).collect();
    rows.sort();
    let mut ranked = config.clone();
    for (level, id) in (1..=5).zip(&mut ranked.vendor.severity_map) {
        let place = Severity::new(level).and_then(|level| vendor::rank_place(level, rows.len()));
        *id = place.and_then(|place| rows.get(place)).map(|(_, id)| Arc::clone(id));
    }
    (!rows.is_empty()).then_some(ranked)
}

impl Desk {
    /// Asks an upstream for what stands at a path; `None`: it cannot be asked, or does not answer.
    pub(super) fn ask_upstream(&mut self, name: &str, path: &str, to: oneshot::Sender<Option<Answer>>) {
        let place = self.find(name);
        let route = place.and_then(|place| self.upstreams.get(place)).and_then(|upstream| upstream.route.as_ref());
        let Some((parcel, wire)) =
            route.and_then(|Route { config, sink, wire }| Some((sink.question(path, config)?, wire)))
        else {
            drop(to.send(None));
            return;
        };
        let exchange = wire.send(parcel);
        self.flights.push(Box::pin(async move {
            // Who asked may be gone.
            drop(to.send(exchange.await.ok()));
            Done::Asked
        }));
    }

    /// Whether an upstream's events wait for the list of its account's severities; asks for it where that is due.
    pub(super) fn waits_for_severities(&mut self, place: usize, now: Instant) -> bool {
        let Some(Upstream { route: Some(Route { config, sink, wire }), ranked, .. }) = self.upstreams.get_mut(place)
        else {
            return false;
        };
        if !is_ranked(config) {
            return false;
        }
        let is_first = ranked.config.is_none() && now - *ranked.since.get_or_insert(now) < LIST_WAIT;
        let after = if is_first { LIST_AGAIN } else { LIST_HOLDS };
        let is_due = !ranked.is_under_way && ranked.asked_at.is_none_or(|at| now - at >= after);
        if is_due && let Some(parcel) = sink.question(SEVERITIES, config) {
            (ranked.asked_at, ranked.is_under_way) = (Some(now), true);
            let (exchange, config) = (wire.send(parcel), Arc::clone(config));
            self.flights.push(Box::pin(async move { Done::Listed(place, config, exchange.await.ok()) }));
        }
        is_first
    }

    /// The list came, or did not: what was known before holds on.
    pub(super) fn listed(&mut self, place: usize, asked: &Arc<UpstreamConfig>, answer: Option<&Answer>) {
        let Some(Upstream { route: Some(route), ranked, meter, .. }) = self.upstreams.get_mut(place) else { return };
        if !Arc::ptr_eq(&route.config, asked) {
            return;
        }
        ranked.is_under_way = false;
        match answer.and_then(|answer| by_rank(asked, answer)) {
            Some(config) => ranked.config = Some(Arc::new(config)),
            None => tracing::warn!(upstream = %meter.name, "the account's severities cannot be listed"),
        }
    }
}
