//! `/api/v1/tap`: decisions as server-sent events, for as long as the reader keeps up and the process runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::dispatch::Call;
use super::pulse::Pulse;
use super::query::Values;
use super::{Answered, Desk, error, names};
use crate::tap::{Filter, Heard, Listener};

/// A line that says nothing, so that both sides see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Decisions in one write.
const TOGETHER_MAX: usize = 64;

/// What a reader's stream holds on to.
struct Watching {
    listener: Listener,
    beat: Interval,
    pulse: Arc<Pulse>,
}

/// Listens with the filter of a query.
#[allow(clippy::result_large_err)] // One answer for one request of an operator.
pub(super) fn listen(desk: &Desk, values: &Values) -> Result<Listener, Answered> {
    let filter = Filter {
        integration: values.owned("integration"),
        outcome: values.outcome("outcome"),
        reason: values.reason("reason"),
        key: values.owned("key"),
    };
    if let Some(wrong) = names::unknown(desk, values) {
        return Err(wrong);
    }
    desk.tap.listen(filter).ok_or_else(|| {
        let mut full = error(StatusCode::SERVICE_UNAVAILABLE, "as many as may watch do already: try again");
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        full
    })
}

/// What a listener hears next, as text of the stream, with what has gathered behind it. Never ends where there is no
/// listener; `None`: the tap is closed.
pub(super) async fn heard(listener: &mut Option<Listener>) -> Option<String> {
    let Some(listener) = listener else { return std::future::pending().await };
    let mut text = String::new();
    write(&mut text, &listener.next().await?);
    gathered(&mut text, listener);
    Some(text)
}

fn gathered(text: &mut String, listener: &mut Listener) {
    for _ in 1..TOGETHER_MAX {
        let Some(heard) = listener.try_next() else { break };
        write(text, &heard);
    }
}

pub(super) async fn watch(call: Call<'_>) -> Answered {
    let Call { desk, values, pulse, .. } = call;
    let listener = match listen(desk, &values) {
        Ok(listener) => listener,
        Err(refused) => return refused,
    };
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = Watching { listener, beat, pulse: Arc::clone(pulse) };
    let body = StreamBody::new(stream::unfold(watching, Watching::next)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

type Piece = Result<Frame<Bytes>, std::convert::Infallible>;

impl Watching {
    /// The next piece of the stream; the first is a heartbeat, so that the reader knows it is heard. Asked for only
    /// while the reader takes what it gets, which keeps the connection alive.
    async fn next(mut self) -> Option<(Piece, Self)> {
        self.pulse.beats();
        let mut text = String::new();
        tokio::select! {
            biased;
            _ = self.beat.tick() => text.push_str(": here\n\n"),
            heard = self.listener.next() => write(&mut text, &heard?),
        }
        gathered(&mut text, &mut self.listener);
        Some((Ok(Frame::data(Bytes::from(text))), self))
    }
}

fn write(text: &mut String, heard: &Heard) {
    let (name, data) = match heard {
        Heard::Decision(decision) => ("decision", serde_json::to_string(&**decision).unwrap_or_default()),
        Heard::Lost(count) => ("lost", format!("{{\"count\":{count}}}")),
    };
    text.extend(["event: ", name, "\ndata: ", &data, "\n\n"]);
}
