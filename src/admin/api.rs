//! The admin listener's paths: the page, the status, dead letters. Writes need the token, or loopback.

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use hyper::http::HeaderValue;
use hyper::{Method, Request, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::status::Status;
use super::{Answered, Desk, error, json, operate, page, text};
use crate::forward::Refused;

/// Dead letters the page shows; the API gives more.
const PAGE_ROWS: usize = 20;
const ROWS_USUAL: usize = 100;

pub(super) async fn answer(desk: &Desk, request: Request<Incoming>) -> Answered {
    if matches!(request.uri().path(), "/api/v1/log-level") && *request.method() == Method::PUT {
        return match desk.may_write(&request) {
            Ok(()) => operate::set_log_level(desk, request).await,
            Err(refused) => refused,
        };
    }
    let request = &request;
    let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    if !matches!(*request.method(), Method::GET | Method::HEAD)
        && let Err(refused) = desk.may_write(request)
    {
        return refused;
    }
    match (request.method(), path.as_slice()) {
        (&Method::GET | &Method::HEAD, [""]) => {
            let dead = desk.forward.dead_letters(None, None, PAGE_ROWS).await;
            let page = page::render(&Status::of(desk).await, &dead);
            text(StatusCode::OK, "text/html; charset=utf-8", page)
        }
        (&Method::GET | &Method::HEAD, ["style.css"]) => text(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
        (&Method::GET | &Method::HEAD, ["api", "v1", "status"]) => shown(StatusCode::OK, &Status::of(desk).await),
        (&Method::GET | &Method::HEAD, ["api", "v1", "dead-letters"]) => {
            let rows = parameter(request, "limit").and_then(|text| text.parse().ok()).unwrap_or(ROWS_USUAL);
            let (upstream, after) = (parameter(request, "upstream"), parameter(request, "after"));
            shown(StatusCode::OK, &desk.forward.dead_letters(upstream, after, rows).await)
        }
        (&Method::POST, ["api", "v1", "dead-letters", "replay"]) => {
            let replayed = desk.forward.replay_all(parameter(request, "upstream")).await;
            tracing::info!(target: "audit", ?replayed, "dead letters replayed");
            shown(StatusCode::OK, &replayed)
        }
        (&Method::POST, ["api", "v1", "dead-letters", id, "replay"]) => match desk.forward.replay(id).await {
            Ok(replayed) => {
                tracing::info!(target: "audit", id, replayed, "dead letter replayed");
                json(StatusCode::OK, &serde_json::json!({ "replayed": replayed }))
            }
            Err(refused) => refusal(&refused),
        },
        (&Method::DELETE, ["api", "v1", "dead-letters", id]) => match desk.forward.drop_letter(id).await {
            Ok(()) => {
                tracing::info!(target: "audit", id, "dead letter dropped");
                json(StatusCode::OK, &serde_json::json!({ "dropped": 1 }))
            }
            Err(refused) => refusal(&refused),
        },
        (&Method::POST, ["api", "v1", "reload"]) => operate::reload(desk).await,
        (&Method::GET | &Method::HEAD, ["api", "v1", "log-level"]) => operate::log_level(desk),
        (
            _,
            ["" | "style.css"]
            | ["api", "v1", "status" | "dead-letters" | "reload" | "log-level"]
            | ["api", "v1", "dead-letters", ..],
        ) => error(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method"),
        _ => error(StatusCode::NOT_FOUND, "try /, /api/v1/status or /api/v1/dead-letters"),
    }
}

pub(super) fn shown(status: StatusCode, what: &impl serde::Serialize) -> Answered {
    match serde_json::to_value(what) {
        Ok(body) => json(status, &body),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

fn refusal(refused: &Refused) -> Answered {
    let status = match refused {
        Refused::Unknown => StatusCode::NOT_FOUND,
        Refused::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    };
    error(status, &refused.to_string())
}

/// A parameter of the query, as it stands: names of upstreams and ids need no escapes.
fn parameter<'r>(request: &'r Request<Incoming>, name: &str) -> Option<&'r str> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value).next_back()
}

impl Desk {
    /// A token where one is configured; else the listener must be on loopback and the request must come from
    /// no foreign page: a browser would carry one from anywhere.
    #[allow(clippy::result_large_err)] // One answer for one request of an operator.
    fn may_write(&self, request: &Request<Incoming>) -> Result<(), Answered> {
        let Some(expected) = self.settings.load().token_hash else {
            return if self.address.ip().is_loopback() && is_local(request) {
                Ok(())
            } else {
                Err(error(StatusCode::FORBIDDEN, "writes need listen.admin.token_file, or the listener on loopback"))
            };
        };
        let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = presented.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let hash: [u8; 32] = Sha256::digest(token.unwrap_or_default()).into();
        if token.is_some() && bool::from(hash.ct_eq(&expected)) {
            return Ok(());
        }
        let mut refused = error(StatusCode::UNAUTHORIZED, "send Authorization: Bearer <token>");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refused)
    }
}

/// The host asked for is this machine by a name that cannot be rebound, and no other origin asks.
fn is_local(request: &Request<Incoming>) -> bool {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let local = |authority: &str| {
        let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority }
        });
        matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    };
    let host = header(HOST);
    host.is_some_and(local)
        && header(ORIGIN).is_none_or(|origin| origin.split_once("://").map(|(_, authority)| authority) == host)
}
