//! Answers: the headers that every one carries (INTERFACE 4) around the body a dialect writes.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Response, StatusCode};

use super::headers::value;
use super::{Ended, Known, Trail};
use crate::dialect::{self, Dialect, Ending, Limited, Named, Replying, RequestIdForm};
use crate::event::{Micros, as_uuid};
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

/// 32 lower-case hex digits that name a request, with or without the hyphens of a UUID.
#[derive(Clone, Copy)]
pub struct RequestId {
    text: [u8; 36],
    length: u8,
}

impl RequestId {
    pub(super) fn new(form: RequestIdForm) -> Self {
        let random = fastrand::u128(..);
        match form {
            RequestIdForm::Hex => Self::of(random, form),
            RequestIdForm::Uuid | RequestIdForm::Telling => Self::of(as_uuid(random, 4), form),
        }
    }

    fn of(id: u128, form: RequestIdForm) -> Self {
        let mut text = [0; 36];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(id.to_be_bytes()) {
            *pair = HEX[usize::from(byte)];
        }
        if form == RequestIdForm::Hex {
            return Self { text, length: 32 };
        }
        // From the last part to the first, so that none is moved over another.
        for (part, hyphens) in [(20..32, 4), (16..20, 3), (12..16, 2), (8..12, 1)] {
            let from = part.start;
            text.copy_within(part, from + hyphens);
            text[from + hyphens - 1] = b'-';
        }
        Self { text, length: 36 }
    }

    pub fn as_str(&self) -> &str {
        self.text.get(..usize::from(self.length)).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// The id of a request whose event was taken, of a dialect whose ids tell how that ended.
pub(super) fn telling_id(known: &Known, ended: &[Ended]) -> RequestId {
    let endings: Vec<_> = ended.iter().map(|one| one.ending(None)).collect();
    let random = fastrand::u128(..);
    let id = known.dialect.telling_id(&replying(known, &endings, ""), Micros::now(), random);
    RequestId::of(id, RequestIdForm::Telling)
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

pub(super) fn build(status: StatusCode, body: Bytes, request_id: &str) -> Response<Full<Bytes>> {
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
    known: &Known,
    trail: &Trail,
    named: Option<&Named>,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let (status, body, outcome) = accepted_parts(known, trail, named, request_id);
    let Some(outcome) = outcome else { return build(status, body, request_id) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers.with(request_id, outcome);
    response
}

/// What the sender's dialect answers to what was accepted, and the outcome of its events.
pub(super) fn accepted_parts(
    known: &Known,
    trail: &Trail,
    named: Option<&Named>,
    request_id: &str,
) -> (StatusCode, Bytes, Option<&'static str>) {
    let reply = |endings: &[Ending<'_>]| known.dialect.reply(&replying(known, endings, request_id));
    let ended = trail.ended.as_slice();
    let (status, body) = match ended {
        [one] => reply(&[Ending { named, ..one.ending(trail.view.as_ref().map(|view| &***view)) }]),
        many => reply(&many.iter().map(|one| one.ending(None)).collect::<Vec<_>>()),
    };
    (status, body, outcome_word(ended))
}

fn replying<'a>(known: &'a Known, endings: &'a [Ending<'a>], request_id: &'a str) -> Replying<'a> {
    let config = &known.integration.config;
    Replying {
        endpoint: known.route.endpoint,
        status: StatusCode::from_u16(known.route.success).unwrap_or(StatusCode::ACCEPTED),
        endings,
        success: StatusCode::from_u16(config.success_status).unwrap_or(StatusCode::ACCEPTED),
        request_id,
        integration: &config.name,
        settings: &config.settings,
    }
}

/// The answer of a dialect that tells how long its answers took.
pub(super) fn timed(dialect: &dyn Dialect, response: Response<Full<Bytes>>, took: Duration) -> Response<Full<Bytes>> {
    let (mut head, mut body) = response.into_parts();
    // It stands there whole.
    let mut context = Context::from_waker(Waker::noop());
    let bytes = match Pin::new(&mut body).poll_frame(&mut context) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    let bytes = dialect.timed(bytes, took, &mut head.headers);
    Response::from_parts(head, Full::new(bytes))
}

/// The outcome of all events, or `mixed` where they differ.
fn outcome_word(ended: &[Ended]) -> Option<&'static str> {
    let mut outcomes = ended.iter().filter_map(|one| one.outcome);
    let first = outcomes.next()?;
    Some(if outcomes.all(|outcome| outcome == first) { Outcome::name(first) } else { "mixed" })
}

pub(super) fn refused(
    dialect: Option<&dyn Dialect>,
    who: &str,
    limit: Option<Rate>,
    refusal: &Refusal,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let class = refusal.reason.class();
    // Jitter, so that those refused together do not come back together.
    let retry_after_s = refusal.retry_after_s.map(|base| base.saturating_add(fastrand::u32(0..=(base / 2).max(1))));
    let mut beside = HeaderMap::new();
    let (status, body) = match dialect {
        Some(dialect) if refusal.challenges => (StatusCode::UNAUTHORIZED, dialect.error(refusal, request_id)),
        Some(dialect) if refusal.conceals => (StatusCode::NOT_FOUND, dialect.error(refusal, request_id)),
        Some(dialect) if class == Class::Overload => {
            let retry_after_s = retry_after_s.unwrap_or_default();
            let limited = Limited { integration: who, rate: limit, retry_after_s, now: Micros::now() };
            (dialect.status(class), dialect.limited(refusal, request_id, &limited, &mut beside))
        }
        Some(dialect) => (dialect.status(class), dialect.error(refusal, request_id)),
        None => {
            // Whoever sends to a path that nobody has may read any of the forms: `errors` for those who look there.
            let errors = vec![refusal.message.clone()];
            (dialect::usual_status(class), dialect::plain_error(&refusal.clone().with_errors(errors), request_id))
        }
    };
    let mut response = build(status, body, request_id);
    let headers = response.headers_mut();
    headers.extend(beside);
    if let (Some(base), Some(seconds)) = (refusal.retry_after_s, retry_after_s) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        if let Some(rate) = limit {
            let name = refusal.reason.label();
            headers.insert(RATE_LIMIT_POLICY, value(&format!("\"{name}\";q={};w=1", rate.per_second)));
            headers.insert(RATE_LIMIT, value(&format!("\"{name}\";r=0;t={base}")));
        }
    }
    match class {
        Class::WrongMethod => {
            headers.insert(ALLOW, value(refusal.allow.as_deref().unwrap_or("POST")));
        }
        Class::Unauthenticated if status == StatusCode::UNAUTHORIZED => {
            let scheme = dialect.map_or("Bearer", Dialect::challenge);
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        _ => {}
    }
    response
}

/// The answer when a handler panicked: our own fault, and nothing was accepted.
pub fn panicked() -> Answer {
    let request_id = RequestId::new(RequestIdForm::Hex);
    let refusal = Refusal::new(Reason::Internal, "an internal error; nothing was accepted, send it again");
    tracing::error!(request_id = request_id.as_str(), "a request ended in a defect of ours");
    Answer { response: refused(None, "", None, &refusal, request_id.as_str()), close: false, leaves: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_32_digits_or_by_a_uuid() {
        let hex = RequestId::new(RequestIdForm::Hex);
        assert!(hex.as_str().len() == 32 && hex.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        let uuid = RequestId::new(RequestIdForm::Uuid);
        let parts: Vec<usize> = uuid.as_str().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        let (version, variant) = (uuid.as_str().as_bytes()[14], uuid.as_str().as_bytes()[19]);
        assert!(version == b'4' && b"89ab".contains(&variant), "{}", uuid.as_str());
        assert_eq!(uuid.as_str().bytes().filter(u8::is_ascii_hexdigit).count(), 32);
    }

    #[test]
    fn copied_headers_say_what_they_are_named() {
        let headers = Headers::new().with("0123", "created");
        assert_eq!(headers.get(CONTENT_TYPE), Some(&JSON));
        assert_eq!(headers.get(REQUEST_ID), Some(&value("0123")));
        assert_eq!(headers.get(OUTCOME), Some(&value("created")));
        assert_eq!(headers.len(), 3);
    }
}
