//! The two listeners of the people who run it (INTERFACE 4): `observe` (health and metrics, read-only) and
//! `admin` (status page, dead letters). Neither is on the way of an event; both survive whatever happens there.

mod api;
mod observe;
mod operate;
mod page;
mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use operate::{Operator, Reload, ReloadStatus, Trigger};

use crate::dedup::Dedup;
use crate::event::Micros;
use crate::forward;
use crate::metrics::Metrics;
use crate::outcome::Reason;
use crate::store::{Durability, Store};

/// Connections of one of these listeners at once.
const CONNECTIONS_MAX: usize = 128;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole exchange, the slow reader included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What both listeners show.
pub struct Desk {
    pub metrics: Arc<Metrics>,
    pub store: Arc<Store>,
    pub dedup: Arc<Dedup>,
    pub forward: Arc<forward::Handle>,
    pub durability: Durability,
    /// Readiness is down while the listener still goes on.
    pub draining: Arc<AtomicBool>,
    pub began: Micros,
    /// Where the admin listener stands: on loopback writes need no token.
    pub address: SocketAddr,
    pub settings: Arc<ArcSwap<Settings>>,
    pub operator: Arc<dyn Operator>,
}

/// What the configuration says for these listeners; changed as a whole when it is reloaded.
pub struct Settings {
    /// What it allows and yet seldom means.
    pub warnings: Vec<String>,
    /// SHA-256 of the token for writes; `None`: writes only over loopback.
    pub token_hash: Option<[u8; 32]>,
}

impl Desk {
    /// Whether events can be accepted now, and why not.
    ///
    /// # Errors
    /// The reason a request would be refused for.
    pub fn ready(&self) -> Result<(), Reason> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Reason::Stopping);
        }
        self.store.can_accept()
    }
}

/// Which of the two a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Observe,
    Admin,
}

/// Serves one of the two listeners until its task is dropped.
pub async fn serve(door: Door, listener: TcpListener, desk: Arc<Desk>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, ?door, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(door, Arc::clone(&desk), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own affair.
            let _ = tokio::time::timeout(EXCHANGE_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

type Answered = Response<Full<Bytes>>;

async fn answer(door: Door, desk: Arc<Desk>, request: Request<Incoming>) -> Result<Answered, Infallible> {
    let mut response = match door {
        Door::Observe => observe::answer(&desk, &request),
        Door::Admin => api::answer(&desk, request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    );
    Ok(response)
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answered {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answered {
    text(status, "application/json", body.to_string())
}

fn error(status: StatusCode, message: &str) -> Answered {
    json(status, &serde_json::json!({ "status": "error", "message": message }))
}
