//! Requests to upstreams as parts of traces: what their heads say of it, and their spans, where somebody collects them.

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, StatusCode};

use crate::event::Micros;
use crate::event::trace::{self, Trace};
use crate::spans::{Kind, Span, Spans, Value};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Of one upstream.
pub(super) struct Calls {
    upstream: Arc<str>,
    host: Arc<str>,
    spans: Spans,
}

/// A request under way that has a span.
pub(super) struct Call {
    spans: Spans,
    upstream: Arc<str>,
    host: Arc<str>,
    traces: Vec<Arc<Trace>>,
    id: u64,
    method: String,
    began: Micros,
}

impl Calls {
    pub(super) fn new(upstream: &str, url: &hyper::Uri, spans: Spans) -> Self {
        Self { upstream: upstream.into(), host: url.host().unwrap_or_default().into(), spans }
    }

    /// Makes a request a child of the first of these traces; `None`: nobody collects its span.
    pub(super) fn begin<B>(&self, traces: Vec<Arc<Trace>>, request: &mut Request<B>) -> Option<Call> {
        let trace = traces.first()?;
        let id = trace::fresh();
        if let Ok(parent) = HeaderValue::try_from(trace.parent_of(id)) {
            request.headers_mut().insert(TRACEPARENT, parent);
        }
        if let Some(state) = HeaderValue::from_str(&trace.state).ok().filter(|state| !state.is_empty()) {
            request.headers_mut().insert(TRACESTATE, state);
        }
        self.spans.want(trace).then(|| Call {
            spans: self.spans.clone(),
            upstream: Arc::clone(&self.upstream),
            host: Arc::clone(&self.host),
            id,
            method: request.method().to_string(),
            began: Micros::now(),
            traces,
        })
    }
}

impl Call {
    /// It was answered, or failed with these words.
    pub(super) fn ends(self, answered: Result<StatusCode, &str>) {
        let Self { spans, upstream, host, mut traces, id, method, began } = self;
        let trace = traces.swap_remove(0);
        let name = format!("{method} {upstream}");
        let mut values = vec![
            ("http.request.method", Value::Text(method)),
            ("server.address", Value::Text(host.to_string())),
            ("surgegate.upstream", Value::Text(upstream.to_string())),
        ];
        values.push(match answered {
            Ok(status) => ("http.response.status_code", Value::Number(status.as_u16().into())),
            Err(text) => ("error.type", Value::Text(text.to_owned())),
        });
        let failed = !answered.is_ok_and(|status| status.is_success());
        let (parent, ended) = (trace.span, Micros::now());
        spans.record(Span { trace, id, parent, links: traces, name, kind: Kind::Client, began, ended, values, failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(id: u128) -> Arc<Trace> {
        Arc::new(Trace::stored(id, 7, 1, "a=1").unwrap())
    }

    fn url() -> hyper::Uri {
        hyper::Uri::from_static("https://pager.example.com/hook")
    }

    #[test]
    fn a_request_of_several_traces_is_a_child_of_the_first() {
        let calls = Calls::new("pager", &url(), Spans::default());
        let mut request = Request::new(());
        // Nobody collects spans: the head says it all the same.
        assert!(calls.begin(vec![trace(1), trace(2)], &mut request).is_none());
        let parent = request.headers()[TRACEPARENT].to_str().unwrap();
        assert!(parent.starts_with(&format!("00-{:032x}-", 1)) && parent.ends_with("-01"), "{parent}");
        assert_eq!(request.headers()[TRACESTATE], "a=1");
        let mut untraced = Request::new(());
        assert!(calls.begin(vec![], &mut untraced).is_none() && untraced.headers().is_empty());
    }

    #[cfg(feature = "otel")]
    #[tokio::test]
    async fn its_span_is_linked_to_the_others() {
        let (spans, mut finished) = Spans::on(1.0);
        let calls = Calls::new("pager", &url(), spans);
        let call = calls.begin(vec![trace(1), trace(2), trace(3)], &mut Request::new(())).unwrap();
        call.ends(Err("no answer within 10s"));
        let span = finished.spans.recv().await.unwrap();
        assert_eq!((span.trace.id, span.parent, span.failed), (1, 7, true));
        let mut links: Vec<u128> = span.links.iter().map(|trace| trace.id).collect();
        links.sort_unstable();
        assert_eq!(links, [2, 3]);
    }
}
