//! One connection of the upstream: reads requests, decides, answers or breaks.
//! Called by `upstream.rs`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::answer::{self, Answer, BrokenOff};
use super::books::{Books, Counts};
use super::fault::{self, Effect};
use super::received::{self, Received};
use super::script::{FAULTS_AT_MOST, FaultStats, Script};
use crate::ledger::Given;
use crate::stand::{Call, Stand};
use crate::witness::Witness;

/// A batch of 1,000 events at the proxy's body limit, escaped, fits.
const LARGEST_BODY_BYTES: usize = 64 * 1024 * 1024;
/// How long `hang` holds a request; every client has given up by then.
const LONGEST_HANG: Duration = Duration::from_secs(600);

pub(super) struct Upstream {
    pub(super) script: RefCell<Script>,
    pub(super) books: RefCell<Books>,
    /// None: it counts only.
    pub(super) stand: RefCell<Option<Stand>>,
    pub(super) latency: Duration,
    /// Who writes the ledger of a scenario.
    pub(super) witness: Option<Witness>,
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
        let faults = faults?;
        fault::check(&faults, self.stand.borrow().is_some())?;
        *self.script.borrow_mut() = Script::new(faults);
        Ok(())
    }

    /// Decides and enters a delivery at its arrival, so that the log has the order of arrival.
    fn take_in(&self, head: &Parts, body: &[u8]) -> (Option<Effect>, Response<Answer>) {
        let path = head.uri.path();
        let webhook_id = head.headers.get("webhook-id").and_then(|value| value.to_str().ok());
        // With a witness the events are read there, and here only for faults that look for keys.
        let received = if self.witness.is_none() || self.script.borrow().looks_at_keys() {
            received::read(body, webhook_id)
        } else {
            Received { events: Vec::new(), is_json: true }
        };
        let endpoint = format!("{} {path}", head.method);
        let keys = received.events.iter().filter_map(|event| event.key.as_deref());
        let mut stand = self.stand.borrow_mut();
        let (effect, response) = match stand.as_mut() {
            None => {
                let decision = self.script.borrow_mut().decide(Instant::now(), &endpoint, keys);
                let effect = decision.map(|(effect, _)| effect);
                let response = match effect {
                    Some(Effect::Status { code, retry_after }) => answer::status(code, retry_after),
                    _ => answer::status(200, None),
                };
                (effect, response)
            }
            Some(stand) => {
                let call = Call {
                    number: stand.next_number(),
                    at: Timestamp::now(),
                    now: Instant::now(),
                    method: &head.method,
                    path,
                    query: head.uri.query(),
                    headers: &head.headers,
                    body,
                };
                let addressed = stand.names(&call);
                let keys = keys.chain(addressed.iter().map(String::as_str));
                let decision = self.script.borrow_mut().decide(call.now, &endpoint, keys);
                let (effect, processed) = decision.map_or((None, true), |(effect, done)| (Some(effect), done));
                (effect, answer::reply(&stand.take(&call, effect, processed)))
            }
        };
        if let Some(witness) = &self.witness {
            witness.see(body, given(effect));
        }
        let label = effect.map_or_else(|| response.status().as_u16().to_string(), Effect::label);
        // A read is no delivery.
        if head.method != Method::GET {
            let unnamed = Received { events: Vec::new(), is_json: true };
            // The ledger tells repeats apart: the books then count requests and answers alone.
            let told = if self.witness.is_some() { &unnamed } else { &received };
            self.books.borrow_mut().enter(told, path, body.len(), &label);
        }
        (effect, response)
    }
}

/// What the effect means for who sent the request.
fn given(effect: Option<Effect>) -> Given {
    match effect {
        None => Given::Taken,
        Some(Effect::Status { code, .. }) if (200..300).contains(&code) => Given::Taken,
        Some(Effect::Truncate) => Given::BrokenOff,
        Some(Effect::Status { .. } | Effect::Hang | Effect::Reset) => Given::Refused,
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
    let Some(body) = read_body(body).await? else {
        return Ok(answer::status(413, None));
    };
    if let Some(stand) = upstream.stand.borrow_mut().as_mut() {
        if Stand::is_own_path(path) {
            return Ok(answer::reply(&stand.inspect(&head.method, path, head.uri.query())));
        }
    } else if head.method != Method::POST {
        return Ok(answer::status(405, None));
    }
    if head.method == Method::POST && path == "/faults" {
        return Ok(match upstream.replace_faults(&body) {
            Ok(()) => answer::json(200, upstream.stats()),
            Err(error) => answer::json(400, serde_json::json!({ "error": error }).to_string()),
        });
    }
    let (effect, response) = upstream.take_in(&head, &body);
    if !upstream.latency.is_zero() {
        tokio::time::sleep(upstream.latency).await;
    }
    match effect {
        None | Some(Effect::Status { .. }) => Ok(response),
        Some(Effect::Truncate) => Ok(answer::truncated(response.status().as_u16())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Connection, Failure};
    use std::io::ErrorKind;
    use tokio::net::TcpListener;

    /// Sends the requests, each on its own connection, to an upstream with these faults.
    async fn exchange(specs: &[&str], requests: &[&str]) -> (Vec<Result<u16, Failure>>, String) {
        let faults = specs.iter().map(|spec| fault::parse(spec).expect("a fault")).collect();
        let upstream = Rc::new(Upstream {
            script: RefCell::new(Script::new(faults)),
            books: RefCell::new(Books::open(None, false).expect("books")),
            stand: RefCell::new(None),
            latency: Duration::ZERO,
            witness: None,
        });
        let answers = tokio::task::LocalSet::new()
            .run_until(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
                let address = listener.local_addr().expect("address");
                let mut answers = Vec::new();
                for request in requests {
                    let mut client = Connection::open(address).await.expect("connect");
                    let (stream, _) = listener.accept().await.expect("accept");
                    tokio::task::spawn_local(serve_connection(Rc::clone(&upstream), stream));
                    let answer = client.exchange(request.as_bytes());
                    let answer = tokio::time::timeout(Duration::from_millis(300), answer).await;
                    answers.push(match answer {
                        Ok(answer) => answer.map(|head| head.status),
                        Err(_) => Err(Failure::Io(ErrorKind::TimedOut.into())),
                    });
                }
                answers
            })
            .await;
        (answers, upstream.stats())
    }

    fn post(path: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn each_effect_is_seen_on_the_wire_and_in_the_books() {
        let event = post("/hook", r#"{"event_uid":"u1"}"#);
        let specs = ["reset,times=1", "truncate,times=1", "hang,times=1", "status=503,times=1"];
        let (answers, stats) = exchange(&specs, &[event.as_str(); 5]).await;
        let is_io = |answer: &Result<u16, Failure>, kind| matches!(answer, Err(Failure::Io(e)) if e.kind() == kind);
        assert!(is_io(&answers[0], ErrorKind::ConnectionReset), "{answers:?}");
        assert!(matches!(answers[1], Err(Failure::Closed)), "{answers:?}");
        assert!(is_io(&answers[2], ErrorKind::TimedOut), "{answers:?}");
        assert!(matches!(answers[3], Ok(503)), "{answers:?}");
        assert!(matches!(answers[4], Ok(200)), "{answers:?}");
        let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
        assert_eq!((&stats["requests"], &stats["repeats"]), (&5.into(), &4.into()));
        assert_eq!(stats["delivered_distinct"], 1);
        assert_eq!(stats["answers"]["truncate"], 1);
    }

    #[tokio::test]
    async fn a_truncated_answer_starts_well_and_breaks_off() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let upstream = Rc::new(Upstream {
            script: RefCell::new(Script::new(vec![fault::parse("truncate").expect("a fault")])),
            books: RefCell::new(Books::open(None, false).expect("books")),
            stand: RefCell::new(None),
            latency: Duration::ZERO,
            witness: None,
        });
        let text = tokio::task::LocalSet::new()
            .run_until(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
                let address = listener.local_addr().expect("address");
                let mut client = TcpStream::connect(address).await.expect("connect");
                let (stream, _) = listener.accept().await.expect("accept");
                tokio::task::spawn_local(serve_connection(upstream, stream));
                client.write_all(post("/hook", "{}").as_bytes()).await.expect("write");
                let mut text = String::new();
                client.read_to_string(&mut text).await.expect("an orderly end");
                text
            })
            .await;
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(text.contains("content-length: 64"), "{text}");
        assert!(text.ends_with("\r\n\r\n{\"status\":"), "{text}");
    }

    #[tokio::test]
    async fn faults_are_replaced_as_a_whole_or_not_at_all() {
        let event = post("/hook", "{}");
        let requests = [
            event.clone(),
            post("/faults", r#"{"faults":["status=429","nonsense"]}"#),
            event.clone(),
            post("/faults", r#"{"faults":[]}"#),
            event,
        ];
        let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
        let (answers, _) = exchange(&["status=503"], &requests).await;
        let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.expect("answer")).collect();
        assert_eq!(statuses, [503, 400, 503, 200, 200]);
    }
}
