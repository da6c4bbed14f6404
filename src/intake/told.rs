//! Refusals in the log: one line a second for each reason, which says how many others there were. A storm of bad
//! requests costs no storm of lines; the counters know them all. What a line told last is kept as a sample, which the
//! status page shows.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::traced::trace_id;
use crate::event::Micros;
use crate::event::trace::Trace;
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
    sample: Mutex<Option<Arc<Sample>>>,
}

/// Faults of a body that a sample shows,
const SAMPLE_FAULTS: usize = 3;
/// and of each text so many characters.
const SAMPLE_CHARS: usize = 200;

/// One refusal, for whoever mends its sender. Holds no key, path or value of a body.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Micros,
    pub dialect: Option<&'static str>,
    pub integration: Option<Arc<str>>,
    pub source: IpAddr,
    pub status: u16,
    pub request_id: Box<str>,
    /// What the sender was told.
    pub message: String,
    pub errors: Vec<String>,
    /// The body, its values masked.
    pub shape: Option<Box<str>>,
}

impl Sample {
    fn of(refusal: &Refusal, facts: &Facts) -> Self {
        let cut = |text: &String| text.chars().take(SAMPLE_CHARS).collect::<String>();
        Self {
            at: Micros::now(),
            dialect: facts.dialect,
            integration: facts.integration.cloned(),
            source: facts.source,
            status: facts.status,
            request_id: facts.request_id.into(),
            message: cut(&refusal.message),
            errors: refusal.errors.iter().take(SAMPLE_FAULTS).map(cut).collect(),
            shape: refusal.shape.clone(),
        }
    }
}

/// What a line says beside the reason.
pub(super) struct Facts<'a> {
    pub(super) dialect: Option<&'static str>,
    pub(super) integration: Option<&'a Arc<str>>,
    pub(super) source: IpAddr,
    pub(super) status: u16,
    pub(super) request_id: &'a str,
    pub(super) trace: Option<&'a Trace>,
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

    /// Whether the next refusal for this reason would be told.
    pub(super) fn is_next(&self, reason: Reason) -> bool {
        let second = Instant::now().saturating_duration_since(self.began).as_secs() + 1;
        self.rows.get(reason.index()).is_some_and(|row| row.second.load(Relaxed) < second)
    }

    /// The last that was told for each reason.
    pub(super) fn samples(&self) -> Vec<(Reason, Sample)> {
        let kept = |row: &Row| row.sample.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = Reason::all().zip(&self.rows);
        rows.filter_map(|(reason, row)| Some((reason, Sample::clone(&*kept(row)?)))).collect()
    }

    pub(super) fn refused(&self, refusal: &Refusal, facts: &Facts, now: Instant, metrics: &Metrics) {
        let Some(suppressed) = self.is_told(refusal.reason, now) else {
            metrics.log_lines_suppressed.inc();
            return;
        };
        if let Some(row) = self.rows.get(refusal.reason.index()) {
            *row.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Sample::of(refusal, facts)));
        }
        let Facts { dialect, integration, source, status, request_id, trace } = facts;
        let (integration, trace_id) = (integration.map(|name| &**name), trace.map(trace_id));
        let reason = refusal.reason.label();
        if refusal.reason.is_loud() {
            tracing::warn!(reason, status, dialect, integration, %source, request_id, trace_id, suppressed, "refused");
        } else {
            tracing::info!(reason, status, dialect, integration, %source, request_id, trace_id, suppressed, "refused");
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
