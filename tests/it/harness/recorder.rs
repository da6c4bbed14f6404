//! An upstream that writes down every request in the order of arrival and answers as scripted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::oneshot;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: hyper::Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    /// `POST /create`
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The body as JSON; null for none.
    pub fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// The JSON objects in the body; those of a batch one by one.
    pub fn events(&self) -> Vec<Value> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Array(events)) => events,
            Ok(event) => vec![event],
            Err(error) => panic!("{error} in {:?}", self.body),
        }
    }
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    After(Duration, u16),
    /// A status with a JSON body, and further headers.
    Json(u16, Value),
    With(u16, Vec<(&'static str, String)>, Value),
    /// Never answers.
    Hang,
    /// Closes the connection in place of an answer.
    Cut,
}

type Script = Box<dyn FnMut(&Recorded) -> Reply + Send>;

struct Shared {
    requests: Mutex<Vec<Recorded>>,
    script: Mutex<Script>,
    open: AtomicUsize,
}

/// The recording upstream, on a thread of its own.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Answers 200 to everything.
    pub fn start() -> Self {
        Self::scripted(|_| Reply::Status(200))
    }

    /// Asks `script` what to do with each request, once it is written down.
    pub fn scripted(script: impl FnMut(&Recorded) -> Reply + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            open: AtomicUsize::new(0),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The address below which a vendor's paths stand.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many requests came, and gives all.
    pub fn wait_for(&self, count: usize) -> Vec<Recorded> {
        super::wait_until("requests at the upstream", || self.count() >= count);
        self.requests()
    }

    /// From now on answers so.
    pub fn answer(&self, script: impl FnMut(&Recorded) -> Reply + Send + 'static) {
        *locked(&self.shared.script) = Box::new(script);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        locked(&self.shared.requests).clone()
    }

    pub fn count(&self) -> usize {
        locked(&self.shared.requests).len()
    }

    /// Every event so far, in the order of arrival.
    pub fn events(&self) -> Vec<Value> {
        self.requests().iter().flat_map(Recorded::events).collect()
    }

    /// The actions of each incident in their order, those of most first: keys go beside each other as they like.
    pub fn told_by_incident(&self) -> Vec<Vec<String>> {
        let mut told: Vec<(Value, Vec<String>)> = Vec::new();
        for event in self.events() {
            let action = event["action"].as_str().unwrap().to_owned();
            let incident = event["incident"]["iid"].clone();
            match told.iter_mut().find(|(known, _)| *known == incident) {
                Some((_, actions)) => actions.push(action),
                None => told.push((incident, vec![action])),
            }
        }
        let mut told: Vec<Vec<String>> = told.into_iter().map(|(_, actions)| actions).collect();
        told.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        told
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Already gone when its runtime has failed.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it each answer waits for the other side's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::Relaxed);
            let service = hyper::service::service_fn(|request| take(request, Arc::clone(&shared)));
            // A connection that was cut on purpose ends in an error.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut as scripted")]
struct Cut;

async fn take(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Err(Cut) };
    let recorded =
        Recorded { method: head.method, path: head.uri.to_string(), headers: head.headers, body: body.to_bytes() };
    let reply = locked(&shared.script)(&recorded);
    locked(&shared.requests).push(recorded);
    let (mut headers, mut body) = (Vec::new(), Value::Null);
    let status = match reply {
        Reply::Status(status) => status,
        Reply::Json(status, json) => {
            body = json;
            status
        }
        Reply::With(status, more, json) => {
            (headers, body) = (more, json);
            status
        }
        Reply::After(delay, status) => {
            tokio::time::sleep(delay).await;
            status
        }
        Reply::Hang => std::future::pending::<Infallible>().await as u16,
        Reply::Cut => return Err(Cut),
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = if body.is_null() { Full::default() } else { Full::from(body.to_string()) };
    Ok(response.body(body).unwrap_or_default())
}
