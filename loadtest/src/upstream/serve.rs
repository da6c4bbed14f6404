//! One connection of the stub upstream: reads requests, decides, answers or breaks.
//! Called by `upstream.rs`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::answer::{self, Answer, BrokenOff};
use super::books::{Books, Counts};
use super::fault::{self, Effect};
use super::received;
use super::script::{FAULTS_AT_MOST, FaultStats, Script};

/// A batch of 1,000 events at the proxy's body limit, escaped, fits.
const LARGEST_BODY_BYTES: usize = 64 * 1024 * 1024;
/// How long `hang` holds a request; every client has given up by then.
const LONGEST_HANG: Duration = Duration::from_secs(600);

pub(super) struct Upstream {
    pub(super) script: RefCell<Script>,
    pub(super) books: RefCell<Books>,
    pub(super) latency: Duration,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    counts: &'a Counts,
    faults: Vec<FaultStats>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFaults {
    faults: Vec<String>,
}

impl Upstream {
    pub(super) fn stats(&self) -> String {
        let books = self.books.borrow();
        let stats = Stats { counts: &books.counts, faults: self.script.borrow().stats() };
        serde_json::to_string(&stats).unwrap_or_default()
    }

    /// All new faults or none.
    fn replace_faults(&self, body: &[u8]) -> Result<(), String> {
        let new: NewFaults = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if new.faults.len() > FAULTS_AT_MOST {
            return Err(format!("more than {FAULTS_AT_MOST} faults"));
        }
        let faults: Result<Vec<_>, _> = new.faults.iter().map(|spec| fault::parse(spec)).collect();
        *self.script.borrow_mut() = Script::new(faults?);
        Ok(())
    }

    /// Decides and enters a delivery at its arrival, so that the log has the order of arrival.
    fn take_in(&self, path: &str, webhook_id: Option<&str>, body: &[u8]) -> Option<Effect> {
        let received = received::read(body, webhook_id);
        let keys = received.events.iter().filter_map(|event| event.key.as_deref());
        let effect = self.script.borrow_mut().decide(Instant::now(), keys);
        let code;
        let answer = match effect {
            None => "200",
            Some(Effect::Status { code: number, .. }) => {
                code = number.to_string();
                &code
            }
            Some(Effect::Hang) => "hang",
            Some(Effect::Reset) => "reset",
            Some(Effect::Truncate) => "truncate",
        };
        self.books.borrow_mut().enter(&received, path, body.len(), answer);
        effect
    }
}

/// Serves one connection to its end.
pub(super) async fn serve_connection(upstream: Rc<Upstream>, stream: TcpStream) {
    let reset = Rc::new(Cell::new(false));
    let service = service_fn({
        let reset = Rc::clone(&reset);
        // Boxed: the connection is polled by reference below.
        move |request| Box::pin(respond(Rc::clone(&upstream), Rc::clone(&reset), request))
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that goes away is not worth a word, nor is our own fault.
    let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    if reset.get() {
        // With a linger of zero the close that follows is a reset.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn respond(
    upstream: Rc<Upstream>,
    reset: Rc<Cell<bool>>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, BrokenOff> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if head.method == Method::GET && path == "/stats" {
        return Ok(answer::json(200, upstream.stats()));
    }
    if head.method != Method::POST {
        return Ok(answer::status(405, None));
    }
    let Some(body) = read_body(body).await? else {
        return Ok(answer::status(413, None));
    };
    if path == "/faults" {
        return Ok(match upstream.replace_faults(&body) {
            Ok(()) => answer::json(200, upstream.stats()),
            Err(error) => answer::json(400, serde_json::json!({ "error": error }).to_string()),
        });
    }
    let webhook_id = head.headers.get("webhook-id").and_then(|value| value.to_str().ok());
    let effect = upstream.take_in(path, webhook_id, &body);
    if !upstream.latency.is_zero() {
        tokio::time::sleep(upstream.latency).await;
    }
    match effect {
        None => Ok(answer::status(200, None)),
        Some(Effect::Status { code, retry_after_seconds }) => {
            Ok(answer::status(code, retry_after_seconds))
        }
        Some(Effect::Truncate) => Ok(answer::truncated()),
        Some(Effect::Hang) => {
            tokio::time::sleep(LONGEST_HANG).await;
            Err(BrokenOff)
        }
        Some(Effect::Reset) => {
            reset.set(true);
            Err(BrokenOff)
        }
    }
}

/// The whole body; `None` when it is too large.
async fn read_body(mut body: Incoming) -> Result<Option<Vec<u8>>, BrokenOff> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_client_gone| BrokenOff)?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > LARGEST_BODY_BYTES {
                return Ok(None);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Some(bytes))
}
