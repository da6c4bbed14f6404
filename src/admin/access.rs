//! Who may read and write through the admin listener. Reads are open where the listener can be reached, but not to a page
//! in a browser that had a name of its own point here; writes need the token, or loopback and no foreign page.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use hyper::http::HeaderValue;
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{Answered, Settings, error};

/// Refused writes are told at most so often.
const REFUSAL_LINE_EVERY: Duration = Duration::from_secs(1);

/// Who may write through the admin listener.
pub struct Access {
    settings: Arc<ArcSwap<Settings>>,
    address: SocketAddr,
    refused: Mutex<Refused>,
}

/// Writes that were refused and not told yet.
#[derive(Default)]
struct Refused {
    told: Option<Instant>,
    suppressed: u64,
}

impl Access {
    /// `address`: where the listener stands.
    pub fn new(settings: Arc<ArcSwap<Settings>>, address: SocketAddr) -> Self {
        Self { settings, address, refused: Mutex::default() }
    }

    /// A listener on loopback is no secret from the browsers of its machine: a page of the web may have its own name
    /// resolve to it. Such names have a dot; an address or a name of the local network is not for the web to give.
    #[allow(clippy::result_large_err)] // One answer for one request of an operator.
    pub(super) fn may_read(&self, request: &Request<Incoming>) -> Result<(), Answered> {
        let is_foreign = |host: &str| {
            let host = name_of(host);
            let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            host.trim_end_matches('.').contains('.')
                && address.parse::<IpAddr>().is_err()
                && !host.to_ascii_lowercase().ends_with(".localhost")
        };
        let mut hosts = request.headers().get_all(HOST).iter();
        // One that is no text is no name of this machine either.
        if self.address.ip().is_loopback() && hosts.any(|host| host.to_str().map_or(true, is_foreign)) {
            return Err(error(StatusCode::FORBIDDEN, "ask for it as localhost or by its address"));
        }
        Ok(())
    }

    /// A token where one is configured; else the listener must be on loopback and the request must come from
    /// no foreign page: a browser would carry one from anywhere.
    #[allow(clippy::result_large_err)] // One answer for one request of an operator.
    pub(super) fn may_write(&self, request: &Request<Incoming>) -> Result<(), Answered> {
        let Some(expected) = self.settings.load().token_hash else {
            return if self.address.ip().is_loopback() && is_local(request) {
                Ok(())
            } else {
                Err(error(StatusCode::FORBIDDEN, "writes need listen.admin.token_file, or the listener on loopback"))
            };
        };
        let token = header(request, &AUTHORIZATION).and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let hash: [u8; 32] = Sha256::digest(token.unwrap_or_default()).into();
        if token.is_some() && bool::from(hash.ct_eq(&expected)) {
            return Ok(());
        }
        let mut refused =
            error(StatusCode::UNAUTHORIZED, "no token, or a wrong one: send Authorization: Bearer <token>");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refused)
    }

    /// Tells the audit of a write that was refused: one line a second, with how many went before it untold.
    pub(super) fn tell_refused(&self, peer: SocketAddr, what: &str, status: StatusCode) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if refused.told.is_some_and(|at| now.duration_since(at) < REFUSAL_LINE_EVERY) {
            refused.suppressed += 1;
            return;
        }
        refused.told = Some(now);
        let suppressed = std::mem::take(&mut refused.suppressed);
        drop(refused);
        tracing::warn!(target: "audit", %peer, what, status = status.as_u16(), suppressed, "a write was refused");
    }
}

fn header<'r>(request: &'r Request<Incoming>, name: &HeaderName) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Without the port.
fn name_of(authority: &str) -> &str {
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority })
}

/// The host asked for is this machine by a name that cannot be rebound, and no other origin asks.
fn is_local(request: &Request<Incoming>) -> bool {
    let host = header(request, &HOST);
    // Each of them: a second one, or one that is no text, must not pass for none.
    let mut origins = request.headers().get_all(ORIGIN).iter().map(|origin| origin.to_str().ok());
    request.headers().get_all(HOST).iter().count() == 1
        && host.is_some_and(|host| matches!(name_of(host), "localhost" | "127.0.0.1" | "[::1]"))
        && origins.all(|origin| origin.and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest) == host)
}
