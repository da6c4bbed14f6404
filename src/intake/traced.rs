//! The trace of a request: found in its head, recorded as a span when it is answered.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use std::sync::Arc;

use super::{Came, Intake, Trail};
use crate::event::Micros;
use crate::event::trace::Trace;
use crate::outcome::Refusal;
use crate::spans::{Kind, Span, Value};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// As the log writes it.
pub(super) fn trace_id(trace: &Trace) -> String {
    format!("{:032x}", trace.id)
}

impl Intake {
    /// The trace that the head names, continued; else a new one, where somebody collects them.
    pub(super) fn trace_of(&self, headers: &HeaderMap) -> Option<Arc<Trace>> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let trace = match (parents.next(), parents.next()) {
            (Some(parent), None) => {
                let states = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
                parent.to_str().ok().and_then(|parent| Trace::continued(parent, states))
            }
            // Two that disagree are none.
            _ => None,
        };
        trace.or_else(|| self.spans.begin()).map(Arc::new)
    }

    /// The span of a request that is answered, where somebody collects it. The path is its template: the key may stand in it.
    pub(super) fn record_span(
        &self,
        came: &Came,
        trail: &Trail,
        dialect: Option<&'static str>,
        refusal: Option<&Refusal>,
        status: u16,
    ) {
        let Some(trace) = trail.trace.as_ref().filter(|trace| self.spans.want(trace)) else { return };
        let ended = Micros::now();
        let took = i64::try_from(came.at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let mut values = vec![("http.response.status_code", Value::Number(status.into()))];
        let name = match trail.route {
            Some(route) => {
                values.push(("http.request.method", Value::Text(route.method.to_owned())));
                values.push(("http.route", Value::Text(route.path.to_owned())));
                format!("{} {}", route.method, route.path)
            }
            None => "no route".to_owned(),
        };
        values.extend(dialect.map(|dialect| ("surgegate.dialect", Value::Text(dialect.to_owned()))));
        values.extend(refusal.map(|refusal| ("surgegate.reason", Value::Text(refusal.reason.label().to_owned()))));
        let outcomes: Vec<&str> = trail.ended.iter().filter_map(|ended| Some(ended.outcome?.name())).take(1).collect();
        values.extend(outcomes.first().map(|outcome| ("surgegate.outcome", Value::Text((*outcome).to_owned()))));
        if trail.ended.len() > 1 {
            values.push(("surgegate.events", Value::Number(i64::try_from(trail.ended.len()).unwrap_or(i64::MAX))));
        }
        self.spans.record(Span {
            trace: Arc::clone(trace),
            id: trace.span,
            parent: trace.caller,
            links: Vec::new(),
            name,
            kind: Kind::Server,
            began: Micros(ended.0.saturating_sub(took)),
            ended,
            values,
            failed: status >= 500,
        });
    }
}
