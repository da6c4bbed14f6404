//! Answers to plain requests as they stand on the wire: what hyper would write.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;

use crate::intake::plain::Reply;

impl Reply {
    /// Whether the connection is to end after it.
    pub(super) fn closes(&self) -> bool {
        match self {
            Self::Accepted { .. } => false,
            Self::Other(answer) => answer.close || answer.leaves,
        }
    }

    /// Puts the whole answer behind what stands in `out`.
    pub(super) fn write(self, closes: bool, out: &mut Vec<u8>) {
        match self {
            Self::Accepted { status, request_id, outcome, body } => {
                out.reserve(256 + body.len());
                begin(status, out);
                out.extend_from_slice(b"content-type: application/json\r\nx-request-id: ");
                out.extend_from_slice(request_id.as_str().as_bytes());
                out.extend_from_slice(b"\r\nx-surgegate-outcome: ");
                out.extend_from_slice(outcome.as_bytes());
                out.extend_from_slice(b"\r\n");
                end(&body, closes, out);
            }
            Self::Other(answer) => {
                let (head, mut body) = answer.response.into_parts();
                begin(head.status, out);
                for (name, value) in &head.headers {
                    out.extend_from_slice(name.as_str().as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                // It stands there whole.
                let whole = match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                    _ => Bytes::new(),
                };
                end(&whole, closes, out);
            }
        }
    }
}

fn begin(status: StatusCode, out: &mut Vec<u8>) {
    match status {
        StatusCode::ACCEPTED => out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\n"),
        StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn end(body: &Bytes, closes: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    put_number(body.len(), out);
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(&date());
    out.extend_from_slice(if closes { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    out.extend_from_slice(body);
}

fn put_number(number: usize, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let (mut rest, mut at) = (number, text.len());
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

thread_local! {
    /// The second it was written for, and the date.
    static DATE: Cell<(u64, [u8; 29])> = const { Cell::new((0, [b' '; 29])) };
}

/// Now, as an answer's `Date` says it.
fn date() -> [u8; 29] {
    // Not the kernel's last tick by rustix, which is cheaper by some nanoseconds and cannot be run under valgrind.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (second, text) = DATE.get();
    if second == since {
        return text;
    }
    let mut fresh = [b' '; 29];
    let written = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(since));
    fresh.iter_mut().zip(written.bytes()).for_each(|(place, byte)| *place = byte);
    DATE.set((since, fresh));
    fresh
}
