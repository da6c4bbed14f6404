//! Refusals in the log: one line a second for each reason, which says how many others there were. A storm of bad
//! requests costs no storm of lines; the counters know them all.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::outcome::{Reason, Refusal};

/// When each reason was told last, and what was left out since.
pub(super) struct Told {
    began: Instant,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    /// The second of the last line, from 1; 0: none yet.
    second: AtomicU64,
    suppressed: AtomicU64,
}

/// What a line says beside the reason.
pub(super) struct Facts<'a> {
    pub(super) dialect: Option<&'static str>,
    pub(super) integration: Option<&'a str>,
    pub(super) source: IpAddr,
    pub(super) status: u16,
    pub(super) request_id: &'a str,
}

impl Told {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), rows: Reason::all().map(|_| Row::default()).collect() }
    }

    /// How many were left out since the last line, if this one is to be told.
    fn is_told(&self, reason: Reason, now: Instant) -> Option<u64> {
        let row = self.rows.get(reason.index())?;
        let second = now.saturating_duration_since(self.began).as_secs() + 1;
        let last = row.second.load(Relaxed);
        if last < second && row.second.compare_exchange(last, second, Relaxed, Relaxed).is_ok() {
            return Some(row.suppressed.swap(0, Relaxed));
        }
        row.suppressed.fetch_add(1, Relaxed);
        None
    }

    pub(super) fn refused(&self, refusal: &Refusal, facts: &Facts, now: Instant, metrics: &Metrics) {
        let Some(suppressed) = self.is_told(refusal.reason, now) else {
            metrics.log_lines_suppressed.inc();
            return;
        };
        let Facts { dialect, integration, source, status, request_id } = facts;
        let reason = refusal.reason.label();
        if refusal.reason.is_loud() {
            tracing::warn!(reason, status, dialect, integration, %source, request_id, suppressed, "refused");
        } else {
            tracing::info!(reason, status, dialect, integration, %source, request_id, suppressed, "refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_refusals_for_one_reason_one_a_second_is_told_with_the_number_of_the_others() {
        let told = Told::new();
        let tell = |reason| told.is_told(reason, Instant::now());
        assert_eq!(tell(Reason::UnknownKey), Some(0));
        assert_eq!((0..9).filter_map(|_| tell(Reason::UnknownKey)).count(), 0);
        assert_eq!(tell(Reason::InvalidJson), Some(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tell(Reason::UnknownKey), Some(9));
        assert_eq!(tell(Reason::UnknownKey), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!((tell(Reason::UnknownKey), tell(Reason::InvalidJson)), (Some(1), Some(0)));
    }
}
