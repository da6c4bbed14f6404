//! Steps 1 to 3 of contracts 2.1: path, method, key. What a head says of who sends, and nothing of the body.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use tokio::time::Instant;

use super::{Intake, Known, Terms, Trail};
use crate::dialect::{self, Args, Credentials, Dialect, Matched, Miss, Route, Scheme};
use crate::gate::Integration;
use crate::outcome::{Reason, Refusal};

/// A request whose path is served.
#[derive(Clone, Copy)]
pub(super) struct Routed {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) route: &'static Route,
}

/// What a request says beside its body, where its route's decoder may ask for it. Owned: the head is let go while the
/// body comes.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) args: Vec<Box<str>>,
    pub(super) query: Box<str>,
    pub(super) headers: Option<HeaderMap>,
}

impl Beside {
    /// `None` for routes that have nothing but a key in their path.
    pub(super) fn of(route: &Route, args: &Args<'_>, query: Option<&str>, headers: &HeaderMap) -> Option<Box<Self>> {
        let wanted = !args.is_empty() || query.is_some() || route.wants_headers;
        wanted.then(|| {
            Box::new(Self {
                args: args.iter().map(|text| Box::from(*text)).collect(),
                query: query.unwrap_or_default().into(),
                headers: route.wants_headers.then(|| headers.clone()),
            })
        })
    }
}

/// What the path alone says: who speaks, and in which dialect, unless the key stands in the body.
pub(super) enum Found {
    Known(Known),
    /// The body has the key.
    InBody(Routed, &'static str),
}

/// What a path that no dialect has was meant for, most likely. The other listeners are named by their keys: where they stand is
/// nobody's business who may only send.
fn no_such_path(path: &str) -> &'static str {
    match path.trim_end_matches('/') {
        "/livez" | "/readyz" | "/metrics" | "/health" | "/healthz" | "/live" | "/ready" => {
            "no such path here: /livez, /readyz and /metrics are at another port, listen.observe.address (9464 by default)"
        }
        root if root.is_empty() || root == "/api" || root.starts_with("/api/v1") => {
            "no such path: POST to /v2/incidents/api/KEY, /hooks/generic/KEY, or as the sender's page in docs/senders says; \
             the status page and its API are at another port, listen.admin.address (9465 by default)"
        }
        _ => {
            "no such path: POST to /v2/incidents/api/KEY, /hooks/generic/KEY, or as the sender's page in docs/senders says"
        }
    }
}

impl Intake {
    pub(super) fn know(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        now: Instant,
        trail: &mut Trail,
    ) -> Result<Found, Refusal> {
        let terms = self.terms.load();
        let matched = match dialect::route(method.as_str(), uri.path()) {
            Ok(matched) => matched,
            Err(Miss::NoRoute) => {
                return Err(Refusal::new(Reason::NoRoute, no_such_path(uri.path())));
            }
            Err(Miss::WrongMethod { index, allow }) => {
                trail.matched = u8::try_from(index).ok();
                let allow = allow.join(", ");
                return Err(Refusal::new(Reason::WrongMethod, format!("use {allow}")).allow(allow));
            }
        };
        trail.matched = u8::try_from(matched.index).ok();
        trail.route = Some(matched.route);
        let uri_bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > terms.uri_bytes_max {
            let message = format!("the path is longer than {} bytes", terms.uri_bytes_max);
            return Err(Refusal::new(Reason::UriTooLong, message));
        }
        let Matched { dialect, route, args, .. } = &matched;
        let integration = match route.credentials {
            Credentials::Path => terms.keys.find(matched.key),
            Credentials::Body(member) => {
                return Ok(Found::InBody(Routed { dialect: *dialect, route }, member));
            }
            _ => presented(&terms, &matched, uri.query(), headers)?,
        };
        let Some(integration) = integration else {
            let refusal = self.unknown(now, trail);
            // The same dialect may take its key in the path too, where what is unknown is not found.
            let by_header = matches!(route.credentials, Credentials::Header(_));
            return Err(match route.credentials {
                _ if by_header => refusal.challenging(),
                Credentials::Path | Credentials::PathOrHeader(_) => refusal.concealing(),
                _ => refusal,
            });
        };
        let beside = Beside::of(route, args, uri.query(), headers);
        Ok(Found::Known(Known { dialect: *dialect, route, integration: Arc::clone(integration), beside }))
    }

    /// The refusal of a key that is missing or wrong.
    pub(super) fn unknown(&self, now: Instant, trail: &mut Trail) -> Refusal {
        // Same answer to all; only those beyond the global bucket lose their connection (DESIGN 5.8).
        self.metrics.unauthenticated.inc();
        trail.leaves |= !self.terms.load().unauthenticated.take(now);
        Refusal::new(Reason::UnknownKey, "unknown key or path")
    }
}

/// The integration whose key a head presents, beside the path or instead of it (contracts 2.2).
fn presented<'t>(
    terms: &'t Terms,
    matched: &Matched<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Option<&'t Arc<Integration>>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let authorization = values.next();
    if values.next().is_some() {
        return Err(Refusal::new(Reason::AmbiguousCredentials, "more than one Authorization header"));
    }
    let by_header =
        |schemes| authorization.and_then(|value| key_in(value, schemes)).and_then(|key| terms.keys.find(&key));
    match matched.route.credentials {
        Credentials::Header(schemes) => Ok(by_header(schemes)),
        Credentials::PathOrHeader(schemes) => {
            let by_path = terms.keys.find(matched.key);
            let agree = match (by_path, authorization) {
                (Some(one), Some(_)) => by_header(schemes).is_some_and(|other| Arc::ptr_eq(one, other)),
                _ => true,
            };
            if agree {
                Ok(by_path)
            } else {
                Err(Refusal::new(Reason::CredentialsDisagree, "path and Authorization name different integrations"))
            }
        }
        Credentials::Source => {
            let Some(id) = matched.args.last() else { return Ok(None) };
            let Some(source) = terms.keys.source(id) else {
                return Err(Refusal::new(Reason::NoRoute, "no such alert source"));
            };
            is_of_kind(matched, source.kind())?;
            let token = query.and_then(|query| {
                form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, value)| value)
            });
            let secret = authorization.and_then(|value| key_in(value, &[Scheme::Bearer, Scheme::Basic]));
            let said = [secret.as_deref(), token.as_deref()];
            let fits =
                said.iter().flatten().all(|secret| source.is_secret(secret)) && said.iter().flatten().count() > 0;
            Ok(fits.then_some(source.integration()))
        }
        Credentials::Path | Credentials::Body(_) => Ok(None),
    }
}

/// Whether the path is the one of the source's kind, and somebody reads it.
fn is_of_kind(matched: &Matched<'_>, kind: &str) -> Result<(), Refusal> {
    // The kind stands in the path: written out in its own route, else before the id.
    let asked = match matched.args.as_slice() {
        [asked, _] => asked,
        _ => matched.route.endpoint.rsplit('/').next().unwrap_or_default(),
    };
    if asked != kind {
        return Err(Refusal::new(Reason::NoRoute, "this alert source is of another kind: its own URL names it"));
    }
    if matched.args.len() > 1 {
        let message = "alert sources of this kind are served by a later version; http is";
        return Err(Refusal::new(Reason::NoRoute, message));
    }
    Ok(())
}

/// The key that an `Authorization` presents by one of these schemes.
fn key_in(value: &HeaderValue, schemes: &[Scheme]) -> Option<String> {
    let text = value.to_str().ok()?.trim();
    let (word, key) = text.split_once(' ')?;
    let scheme = schemes.iter().find(|scheme| scheme.word().eq_ignore_ascii_case(word))?;
    let key = key.trim_start_matches(' ');
    if *scheme != Scheme::Basic {
        return Some(key.to_owned());
    }
    let text = String::from_utf8(STANDARD.decode(key).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_words_in_any_case_with_spaces_after_them() {
        let key = |value: &'static str, schemes: &[Scheme]| key_in(&HeaderValue::from_static(value), schemes);
        assert_eq!(key("bearer k", &[Scheme::Bearer]).as_deref(), Some("k"));
        assert_eq!(key("GENIEKEY   k", &[Scheme::GenieKey]).as_deref(), Some("k"));
        assert_eq!(key("Token k", &[Scheme::Token, Scheme::Bearer]).as_deref(), Some("k"));
        assert_eq!(key("Basic dXNlcjpzZTpjcmV0", &[Scheme::Basic]).as_deref(), Some("se:cret"));
        for wrong in ["k", "Bearer", "Basic k", "Basic !!!!", "Digest k", ""] {
            assert_eq!(key(wrong, &[Scheme::Bearer, Scheme::Basic]), None, "{wrong}");
        }
        assert_eq!(key("Bearer k", &[Scheme::Token]), None);
    }
}
