//! The two listeners of the people who run it (INTERFACE 4): `observe` (health and metrics, read-only) and
//! `admin` (status page, admin API: `routes` is its table). Neither is on the way of an event; both survive whatever happens there.

mod access;
mod dead_letters;
mod dispatch;
mod events;
mod facts;
mod ingest;
mod live;
mod names;
mod observe;
mod openapi;
mod operate;
mod page;
mod pulse;
mod query;
mod rates;
mod refusals;
mod routes;
mod schemas;
mod status;
mod tap;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use access::Access;
pub use live::{Live, watch};
pub use operate::{Operator, Reload, ReloadStatus, Trigger};
use pulse::{Held, Pulse};

use crate::dedup::Dedup;
use crate::event::Micros;
use crate::forward;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::outcome::Reason;
use crate::redis::{Link, Replica};
use crate::store::{Durability, Store};
use crate::tap::Tap;

/// Connections of one of these listeners at once.
const CONNECTIONS_MAX: usize = 128;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

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
    pub settings: Arc<ArcSwap<Settings>>,
    /// `None`: this replica stands alone.
    pub redis: Option<(Arc<Link>, Arc<Replica>)>,
    pub operator: Arc<dyn Operator>,
    pub access: Access,
    /// For the integrations as they are configured now.
    pub intake: Arc<Intake>,
    pub tap: Arc<Tap>,
    /// Its one permit: a search of the log.
    pub searching: Arc<Semaphore>,
    pub live: Live,
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
    let mut held = Held::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, ?door, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Whoever asks gets an answer, whatever holds the others.
        if free.available_permits() == 0 {
            held.give_way();
        }
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let desk = Arc::clone(&desk);
        let pulse = Arc::new(Pulse::new());
        let beats = Arc::clone(&pulse);
        let connection = tokio::spawn(async move {
            let pulse = Arc::clone(&beats);
            let service = service_fn(move |request| answer(door, Arc::clone(&desk), peer, Arc::clone(&beats), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A client that goes away is its own affair.
                _ = connection => {}
                () = pulse.stops() => {}
            }
            drop(permit);
        });
        held.enter(pulse, connection.abort_handle());
    }
}

type Answered = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(
    door: Door,
    desk: Arc<Desk>,
    peer: SocketAddr,
    pulse: Arc<Pulse>,
    request: Request<Incoming>,
) -> Result<Answered, Infallible> {
    pulse.beats();
    let mut response = match door {
        Door::Observe => observe::answer(&desk, &request),
        Door::Admin => dispatch::answer(&desk, peer, &pulse, request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
    );
    Ok(response)
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answered {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answered {
    text(status, "application/json", body.to_string())
}

/// Something that says by itself how it is shown.
fn shown(what: &impl serde::Serialize) -> Answered {
    match serde_json::to_value(what) {
        Ok(body) => json(StatusCode::OK, &body),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

fn error(status: StatusCode, message: &str) -> Answered {
    json(status, &serde_json::json!({ "status": "error", "message": message }))
}
