//! Answers: the headers that every one carries (INTERFACE 4) around the body a dialect writes.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Response, StatusCode};

use super::Ended;
use super::headers::value;
use crate::dialect::{self, Dialect, Ending};
use crate::gate::Rate;
use crate::outcome::{Class, Outcome, Reason, Refusal};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OUTCOME: HeaderName = HeaderName::from_static("x-surgegate-outcome");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, and what the connection does after it.
pub struct Answer {
    pub response: Response<Full<Bytes>>,
    /// Body bytes may be left unread: where requests share their bytes with the connection, say so, close after the answer,
    /// and let the client read it first.
    pub close: bool,
    /// The client is to lose its connection after the answer, whatever it speaks (DESIGN 5.8).
    pub leaves: bool,
}

/// 32 lower-case hex digits that name a request.
#[derive(Clone, Copy)]
pub(super) struct RequestId([u8; 32]);

impl RequestId {
    pub(super) fn new() -> Self {
        let mut text = [0; 32];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(fastrand::u128(..).to_le_bytes()) {
            *pair = HEX[usize::from(byte)];
        }
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The two digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xF]];
        byte += 1;
    }
    pairs
};

/// What the sender reads when the log could not take the event.
pub(super) fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::SpoolFull => "the spool is full; nothing was accepted, send it again",
        Reason::Stopping => "this replica is stopping; nothing was accepted, send it again",
        _ => "the event could not be stored; nothing was accepted, send it again",
    }
}

fn build(status: StatusCode, body: Bytes, request_id: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(REQUEST_ID, value(request_id));
    response
}

/// The headers of an accepted request: made once and copied, for three insertions cost more than all else in an answer.
pub(super) struct Headers(HeaderMap);

impl Headers {
    pub(super) fn new() -> Self {
        Self([(CONTENT_TYPE, JSON), (REQUEST_ID, EMPTY), (OUTCOME, EMPTY)].into_iter().collect())
    }

    /// With the values of one answer; values are visited in the order in which they came in.
    fn with(&self, request_id: &str, outcome: &'static str) -> HeaderMap {
        let mut headers = self.0.clone();
        let values = [JSON, value(request_id), HeaderValue::from_static(outcome)];
        headers.values_mut().zip(values).for_each(|(place, value)| *place = value);
        headers
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

pub(super) fn accepted(
    headers: &Headers,
    dialect: &dyn Dialect,
    ended: &[Ended],
    success: StatusCode,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let (status, body) = match ended {
        [one] => dialect.reply(&[one.ending()], success, request_id),
        many => {
            let endings: Vec<Ending<'_>> = many.iter().map(Ended::ending).collect();
            dialect.reply(&endings, success, request_id)
        }
    };
    let Some(outcome) = outcome_word(ended) else { return build(status, body, request_id) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers.with(request_id, outcome);
    response
}

/// The outcome of all events, or `mixed` where they differ.
fn outcome_word(ended: &[Ended]) -> Option<&'static str> {
    let first = ended.first()?.outcome;
    let same = ended.iter().all(|one| one.outcome == first);
    Some(if same { Outcome::name(first) } else { "mixed" })
}

pub(super) fn refused(
    dialect: Option<&dyn Dialect>,
    limit: Option<Rate>,
    refusal: &Refusal,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let class = refusal.reason.class();
    let (status, body) = match dialect {
        Some(dialect) => (dialect.status(class), dialect.error(refusal, request_id)),
        None => {
            let none = if class == Class::NoRoute { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
            // Whoever sends to a path that nobody has may read any of the forms: `errors` for those who look there.
            let errors = vec![refusal.message.clone()];
            (none, dialect::plain_error(&refusal.clone().with_errors(errors), request_id))
        }
    };
    let mut response = build(status, body, request_id);
    let headers = response.headers_mut();
    if let Some(base) = refusal.retry_after_s {
        // Jitter, so that those refused together do not come back together.
        let seconds = base.saturating_add(fastrand::u32(0..=(base / 2).max(1)));
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        if let Some(rate) = limit {
            let name = refusal.reason.label();
            headers.insert(RATE_LIMIT_POLICY, value(&format!("\"{name}\";q={};w=1", rate.per_second)));
            headers.insert(RATE_LIMIT, value(&format!("\"{name}\";r=0;t={base}")));
        }
    }
    match class {
        Class::WrongMethod => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Class::Unauthenticated if status == StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

/// The answer when a handler panicked: our own fault, and nothing was accepted.
pub fn panicked() -> Answer {
    let request_id = RequestId::new();
    let refusal = Refusal::new(Reason::Internal, "an internal error; nothing was accepted, send it again");
    tracing::error!(request_id = request_id.as_str(), "a request ended in a defect of ours");
    Answer { response: refused(None, None, &refusal, request_id.as_str()), close: false, leaves: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_headers_say_what_they_are_named() {
        let headers = Headers::new().with("0123", "created");
        assert_eq!(headers.get(CONTENT_TYPE), Some(&JSON));
        assert_eq!(headers.get(REQUEST_ID), Some(&value("0123")));
        assert_eq!(headers.get(OUTCOME), Some(&value("created")));
        assert_eq!(headers.len(), 3);
    }
}
