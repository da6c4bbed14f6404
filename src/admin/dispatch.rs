//! Takes a request of the admin listener to its row in the table of routes: access first, then the path, then what it
//! says. Every write is told to the audit, done or refused.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::pulse::Pulse;
use super::query::{Values, decoded};
use super::routes::{ROUTES, Route, Verb};
use super::{Answered, Desk, error, page, text};

/// Largest body of a request that changes something.
const BODY_BYTES_MAX: usize = 4096;
/// Of an answer, in the audit.
const RESULT_CHARS_MAX: usize = 512;

/// A request that may be answered.
pub(super) struct Call<'a> {
    pub(super) desk: &'a Desk,
    pub(super) values: Values,
    /// Empty where the route takes none.
    pub(super) body: Bytes,
    /// Keeps a stream's connection alive.
    pub(super) pulse: &'a Arc<Pulse>,
}

impl Call<'_> {
    /// The path's `{id}`.
    pub(super) fn id(&self) -> &str {
        self.values.text("id").unwrap_or_default()
    }
}

pub(super) async fn answer(desk: &Desk, peer: SocketAddr, pulse: &Arc<Pulse>, request: Request<Incoming>) -> Answered {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let access = if reads { desk.access.may_read(&request) } else { desk.access.may_write(&request) };
    let found = find(request.uri().path(), request.method());
    if let Err(refused) = access {
        if !reads {
            let what = found.as_ref().map_or("none", |(route, _)| route.id);
            desk.access.tell_refused(peer, what, refused.status());
        }
        return refused;
    }
    match (request.uri().path(), reads) {
        ("/" | "", true) => return front_page(desk).await,
        (path, true) => {
            if let Some(file) = page::file(path) {
                return file;
            }
        }
        _ => {}
    }
    let (route, in_path) = match found {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let values = Values::parse(route.parameters, &in_path, request.uri().query().unwrap_or_default());
    let understood = match values {
        Ok(values) => body_of(route, request).await.map(|body| (values, body)),
        Err(wrong) => Err(wrong),
    };
    match understood {
        Ok((values, body)) if route.verb.writes() => written(route, peer, Call { desk, values, body, pulse }).await,
        Ok((values, body)) => (route.run)(Call { desk, values, body, pulse }).await,
        Err(wrong) => {
            let refused = error(StatusCode::BAD_REQUEST, &wrong);
            if route.verb.writes() {
                tracing::info!(target: "audit", %peer, what = route.id, status = 400, "a write was not understood");
            }
            refused
        }
    }
}

/// The body, where the route takes one.
async fn body_of(route: &Route, request: Request<Incoming>) -> Result<Bytes, String> {
    if route.body.is_none() {
        return Ok(Bytes::new());
    }
    #[allow(clippy::disallowed_methods)] // Limited.
    let collected = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let broken = |_| format!("the body is longer than {BODY_BYTES_MAX} bytes, or broke off");
    collected.map(http_body_util::Collected::to_bytes).map_err(broken)
}

/// A write, with its line for the audit: who, what, with which parameters, and what came of it.
async fn written(route: &Route, peer: SocketAddr, call: Call<'_>) -> Answered {
    let mut told = Told { what: route.id, parameters: call.values.shown(), peer, ended: false };
    let answered = (route.run)(call).await;
    told.ended = true;
    let (head, body) = answered.into_parts();
    // Bounded: we wrote it.
    #[allow(clippy::disallowed_methods)]
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (status, result) =
        (head.status.as_u16(), String::from_utf8_lossy(&body).chars().take(RESULT_CHARS_MAX).collect::<String>());
    let Told { what, parameters, .. } = &told;
    tracing::info!(target: "audit", %peer, what, parameters, status, %result, "a write through the admin API");
    Answered::from_parts(head, Full::new(body).boxed_unsync())
}

/// A write under way. Dropped before its end, its connection has ended; what it began goes on.
struct Told {
    what: &'static str,
    parameters: String,
    peer: SocketAddr,
    ended: bool,
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.ended {
            let Self { what, parameters, peer, .. } = self;
            tracing::info!(target: "audit", %peer, what, parameters, "a write whose client went away");
        }
    }
}

async fn front_page(desk: &Desk) -> Answered {
    text(StatusCode::OK, "text/html; charset=utf-8", page::render(&desk.live.now(desk).await))
}

type Found = (&'static Route, Vec<(&'static str, String)>);

/// The row of a path and method, with the values in the path.
fn find(path: &str, method: &Method) -> Result<Found, Box<Answered>> {
    let parts: Option<Vec<String>> = path.trim_matches('/').split('/').map(decoded).collect();
    let Some(parts) = parts else {
        return Err(Box::new(error(StatusCode::BAD_REQUEST, "the path is not percent-encoded UTF-8")));
    };
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut here: Vec<Verb> = vec![];
    let mut first_path = None;
    for route in ROUTES {
        let Some(values) = values_in(route.path, &parts) else { continue };
        // A path without parameters goes before those that it would match.
        if *first_path.get_or_insert(route.path) != route.path {
            continue;
        }
        if route.verb.name() == method {
            return Ok((route, values));
        }
        here.push(route.verb);
    }
    if matches!(parts.as_slice(), [one] if one.is_empty() || page::file(&format!("/{one}")).is_some()) {
        here.push(Verb::Get);
    }
    if here.is_empty() {
        return Err(Box::new(error(
            StatusCode::NOT_FOUND,
            "no such path: see / and /api/v1/openapi.json; health and metrics are at listen.observe.address, and events go to \
             listen.ingest.address",
        )));
    }
    let allowed = here.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ");
    let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allowed}"));
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        refused.headers_mut().insert(ALLOW, allowed);
    }
    Err(Box::new(refused))
}

/// The parameters in a path, if it is one of this pattern.
fn values_in(pattern: &'static str, parts: &[String]) -> Option<Vec<(&'static str, String)>> {
    let pattern: Vec<&'static str> = pattern.trim_matches('/').split('/').collect();
    if pattern.len() != parts.len() {
        return None;
    }
    let mut values = vec![];
    for (known, part) in pattern.into_iter().zip(parts) {
        match known.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => values.push((name, part.clone())),
            None if known == part => {}
            None => return None,
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_parameters_goes_before_one_it_would_match() {
        let id = |path: &str, method: Method| match find(path, &method) {
            Ok((route, values)) => (route.id.to_owned(), values.into_iter().map(|(_, value)| value).collect()),
            Err(refused) => (refused.status().as_str().to_owned(), vec![]),
        };
        let found =
            |id: &str, values: &[&str]| (id.to_owned(), values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(id("/api/v1/dead-letters/groups", Method::GET), found("deadLetterGroups", &[]));
        assert_eq!(id("/api/v1/dead-letters/a%2Fb-1", Method::GET), found("deadLetter", &["a/b-1"]));
        assert_eq!(id("/api/v1/dead-letters/replay", Method::POST), found("replayDeadLetters", &[]));
        assert_eq!(id("/api/v1/dead-letters/replay", Method::DELETE), found("405", &[]));
        assert_eq!(id("/api/v1/dead-letters/pager-1/replay", Method::POST), found("replayDeadLetter", &["pager-1"]));
        assert_eq!(id("/api/v1/status", Method::HEAD), found("status", &[]));
        assert_eq!(id("/api/v1/status", Method::POST), found("405", &[]));
        assert_eq!(id("/", Method::POST), found("405", &[]));
        assert_eq!(id("/api/v2/status", Method::GET), found("404", &[]));
        assert_eq!(id("/api/v1/events/%f", Method::GET), found("400", &[]));
    }
}
