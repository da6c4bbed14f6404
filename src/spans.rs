//! Finished spans on their way to whoever collects them: `intake` and `forward` record, `otlp` sends. Without a
//! collector nothing is recorded; without the feature `otel` asking is compiled away. A full queue loses spans and counts them.

use std::sync::Arc;

use crate::event::Micros;
use crate::event::trace::Trace;

/// Spans that wait for the exporter, about 500 B each.
#[cfg(feature = "otel")]
const WAITING_MAX: usize = 8192;

/// What a span was about. The numbers are OTLP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Server = 2,
    Client = 3,
}

/// One value of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: Arc<Trace>,
    pub id: u64,
    /// 0: it is the first of its trace.
    pub parent: u64,
    /// Other traces that it served too: of a batch.
    pub links: Vec<Arc<Trace>>,
    pub name: String,
    pub kind: Kind,
    pub began: Micros,
    pub ended: Micros,
    pub values: Vec<(&'static str, Value)>,
    pub failed: bool,
}

/// Where spans are recorded.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    #[cfg(feature = "otel")]
    on: Option<On>,
}

#[cfg(feature = "otel")]
#[derive(Clone, Debug)]
struct On {
    to: tokio::sync::mpsc::Sender<Span>,
    lost: Arc<std::sync::atomic::AtomicU64>,
    /// Part of the traces that begin here and are kept.
    part: f64,
}

/// What an exporter takes from.
#[cfg(feature = "otel")]
pub struct Finished {
    pub spans: tokio::sync::mpsc::Receiver<Span>,
    /// Those that had no room since it was last looked at.
    pub lost: Arc<std::sync::atomic::AtomicU64>,
}

impl Spans {
    /// Recording for an exporter. `part`: of the traces that begin here, how many are kept; 0 to 1.
    #[cfg(feature = "otel")]
    pub fn on(part: f64) -> (Self, Finished) {
        let (to, spans) = tokio::sync::mpsc::channel(WAITING_MAX);
        let lost = Arc::default();
        (Self { on: Some(On { to, lost: Arc::clone(&lost), part }) }, Finished { spans, lost })
    }

    /// A trace that begins here, where one is wanted.
    pub fn begin(&self) -> Option<Trace> {
        #[cfg(feature = "otel")]
        return self.on.as_ref().filter(|on| fastrand::f64() < on.part).map(|_| Trace::begun());
        #[cfg(not(feature = "otel"))]
        None
    }

    /// Whether a span of this trace is worth making.
    pub fn want(&self, trace: &Trace) -> bool {
        #[cfg(feature = "otel")]
        return self.on.is_some() && trace.is_sampled();
        #[cfg(not(feature = "otel"))]
        {
            let _ = trace;
            false
        }
    }

    /// Takes a span, or counts it as lost. Never waits.
    pub fn record(&self, span: Span) {
        #[cfg(feature = "otel")]
        if let Some(on) = &self.on
            && on.to.try_send(span).is_err()
        {
            on.lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        #[cfg(not(feature = "otel"))]
        drop(span);
    }
}
