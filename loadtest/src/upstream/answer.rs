//! The bodies of the answers, among them one that breaks off. Called by `serve.rs`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use jiff::Timestamp;

use super::fault::RetryAfter;
use crate::stand::Reply;

/// Ends the connection on purpose: hyper drops it when a service or a body fails.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off by a scripted fault")
    }
}

impl std::error::Error for BrokenOff {}

/// A whole body, or one that promises more than it sends.
pub(super) enum Answer {
    Whole(Option<Bytes>),
    /// Data, then a pause in which hyper writes it out, then the end of the connection.
    Truncated {
        steps_done: u8,
    },
}

const TRUNCATED_PROMISES_BYTES: u64 = 64;
const TRUNCATED_SENDS: &[u8] = b"{\"status\":";

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Truncated { steps_done } => {
                *steps_done = steps_done.saturating_add(1);
                match steps_done {
                    1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(TRUNCATED_SENDS))))),
                    2 => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    _ => Poll::Ready(Some(Err(BrokenOff))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(body) => body.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Truncated { .. } => TRUNCATED_PROMISES_BYTES,
        })
    }
}

/// An answer without body.
pub(super) fn status(code: u16, retry_after: Option<RetryAfter>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(None));
    // The grammar lets no other codes through; an odd one would be our own mistake.
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(retry_after) = retry_after
        && let Ok(value) = HeaderValue::try_from(retry_after.header(Timestamp::now()))
    {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

pub(super) fn json(code: u16, text: String) -> Response<Answer> {
    let mut response = status(code, None);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Answer::Whole(Some(Bytes::from(text)));
    response
}

/// What a stand-in answers.
pub(super) fn reply(reply: &Reply) -> Response<Answer> {
    let mut response = json(reply.status, reply.body.to_string());
    for (name, value) in &reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

pub(super) fn truncated(code: u16) -> Response<Answer> {
    let mut response = status(code, None);
    *response.body_mut() = Answer::Truncated { steps_done: 0 };
    response
}
