//! The dialects senders speak: one trait, one list, one line a dialect. A dialect knows its routes, reads a
//! body into what it says, and answers in its sender's own form. It never sees a socket, a key or a clock.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::value::RawValue;

use crate::event::{Action, Content, Event, Incident, Key, Severity};
use crate::machine::KeyLife;
use crate::outcome::{Class, Outcome, Refusal};

pub mod json;
mod squadcast;

/// Every dialect. A new one is its file, a `mod` line and a line here.
pub static DIALECTS: &[&dyn Dialect] = &[&squadcast::Squadcast];

/// A path a dialect serves (contracts 1). The key is the last segment; a slash after it is tolerated.
pub struct Route {
    /// The only method; others get 405.
    pub method: &'static str,
    /// Path up to the key, with both slashes.
    pub prefix: &'static str,
    /// Stored with the event: needed to decode and re-encode it.
    pub endpoint: &'static str,
}

/// What an integration asks of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub require_description: bool,
    /// Only what deciding needs: action, key, severity and all faults. The rest of the content stays empty.
    pub judge_only: bool,
}

impl Rules {
    /// For a body that was accepted before: nothing is demanded any more.
    pub const ACCEPTED: Self = Self { require_description: false, judge_only: false };
}

/// One statement read from a body.
#[derive(Debug)]
pub struct Decoded<'d> {
    pub action: Action,
    pub key: Option<Key>,
    pub content: Content<'d>,
    /// Names of the members that the decoder did not consume.
    pub extra: Vec<&'d str>,
    /// An update that adds a note.
    pub notes: bool,
}

/// What deciding needs of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub action: Action,
    pub key: Option<Key>,
    pub severity: Option<Severity>,
    /// An update that adds a note.
    pub notes: bool,
}

/// The faults of a body, `member: reason` each (contracts 2.7).
pub type Faults = Vec<String>;

/// How one event of a request ended, for the answer.
pub struct Ending<'a> {
    pub outcome: Outcome,
    pub incident: Option<&'a Incident>,
    pub key: Option<&'a Key>,
}

/// A sender's language (DESIGN 3).
pub trait Dialect: Sync {
    /// Id of contracts 1; a metric label and part of the stored event.
    fn name(&self) -> &'static str;

    fn routes(&self) -> &'static [Route];

    /// Dedup family of contracts 5.1.
    fn family(&self) -> &'static str;

    fn key_life(&self) -> KeyLife {
        KeyLife::OpenUntilResolved
    }

    /// Whether its senders come back after an overload answer (contracts 2.6).
    fn retries_overload(&self) -> bool;

    /// The one statement of a body, where a glance shows what deciding needs of it. `None`: it must be read whole. Never
    /// says what [`Self::decode`] would not say.
    fn judge(&self, _endpoint: &str, _body: &[u8], _rules: Rules) -> Option<Judged> {
        None
    }

    /// Reads a parsed body; `each` gets every statement in it, in order.
    ///
    /// # Errors
    /// All faults of the body at once, when it cannot be read as this dialect.
    fn decode(
        &self,
        endpoint: &str,
        document: json::Document<'_>,
        rules: Rules,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults>;

    /// The answer to a request that was accepted; `success` is the integration's status where it may choose.
    fn reply(&self, endings: &[Ending<'_>], success: StatusCode, request_id: &str) -> (StatusCode, Bytes);

    /// Status of a refusal (contracts 2.1, 2.2, 2.6).
    fn status(&self, class: Class) -> StatusCode {
        match class {
            Class::NoRoute | Class::Unauthenticated => StatusCode::NOT_FOUND,
            Class::UriTooLong => StatusCode::URI_TOO_LONG,
            Class::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Class::Forbidden => StatusCode::FORBIDDEN,
            Class::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Class::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Class::Timeout => StatusCode::REQUEST_TIMEOUT,
            Class::Malformed | Class::Invalid => StatusCode::BAD_REQUEST,
            Class::Overload => StatusCode::TOO_MANY_REQUESTS,
            Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Body of a refusal, in the dialect's own form (contracts 2.7).
    fn error(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        plain_error(refusal, request_id)
    }
}

/// The form that `/hooks/*` and paths of no dialect use (contracts 2.7); `errors` only where there are any.
pub fn plain_error(refusal: &Refusal, request_id: &str) -> Bytes {
    let mut body = serde_json::json!({
        "status": "error",
        "reason": refusal.reason.label(),
        "message": refusal.message,
        "request_id": request_id,
    });
    if !refusal.errors.is_empty() {
        body["errors"] = refusal.errors.clone().into();
    }
    body.to_string().into()
}

/// A path that some dialect serves, with the key it carries.
pub struct Matched<'p> {
    /// Its place in [`DIALECTS`].
    pub index: usize,
    pub dialect: &'static dyn Dialect,
    pub route: &'static Route,
    /// Never logged (contracts 2.2).
    pub key: &'p str,
}

/// Finds the dialect that serves a path, whatever the method. The query is not part of `path`.
pub fn route(path: &str) -> Option<Matched<'_>> {
    DIALECTS.iter().enumerate().find_map(|(index, dialect)| {
        dialect.routes().iter().find_map(|route| {
            let rest = path.strip_prefix(route.prefix)?;
            let key = rest.strip_suffix('/').unwrap_or(rest);
            (!key.is_empty() && memchr::memchr(b'/', key.as_bytes()).is_none()).then_some(Matched {
                index,
                dialect: *dialect,
                route,
                key,
            })
        })
    })
}

/// The dialect of that name: how a stored event finds its decoder again.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}

/// What a stored event says, with the members its decoder did not consume, as the sender wrote them.
pub struct Reread<'e> {
    pub content: Content<'static>,
    pub extra: Vec<(Cow<'e, str>, Cow<'e, RawValue>)>,
}

/// Decodes a stored event's body once more. `None` when it does not decode any longer: a newer version may
/// be stricter than the one that accepted it, and the event still has to arrive.
pub fn reread(event: &Event) -> Option<Reread<'_>> {
    let dialect = by_name(&event.dialect)?;
    let (mut content, mut names) = (None, Vec::new());
    let decoded = json::with_document(&event.raw, |document| {
        dialect.decode(&event.endpoint, document, Rules::ACCEPTED, &mut |said| {
            content = Some(said.content.into_owned());
            names = said.extra.iter().map(|name| (*name).to_owned()).collect();
        })
    });
    if !matches!(decoded, Ok(Ok(()))) {
        return None;
    }
    let mut extra = Vec::new();
    if !names.is_empty() {
        let text = std::str::from_utf8(&event.raw).ok()?;
        let mut members = json::members_as_text(text.strip_prefix('\u{FEFF}').unwrap_or(text))?;
        extra = names
            .into_iter()
            .filter_map(|name| members.remove_entry(name.as_str()))
            .map(|(name, value)| (name, Cow::Borrowed(value)))
            .collect();
    }
    Some(Reread { content: content?, extra })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    #[test]
    fn no_two_routes_of_the_list_collide() {
        let mut prefixes: Vec<_> = DIALECTS.iter().flat_map(|d| d.routes()).map(|r| (r.method, r.prefix)).collect();
        prefixes.sort_unstable();
        let before = prefixes.len();
        prefixes.dedup();
        assert_eq!(prefixes.len(), before);
    }

    #[test]
    fn a_route_takes_one_segment_and_an_optional_slash() {
        let key = |path| route(path).map(|matched| matched.key.to_owned());
        assert_eq!(key("/v2/incidents/api/k1").as_deref(), Some("k1"));
        assert_eq!(key("/v2/incidents/api/k1/").as_deref(), Some("k1"));
        assert_eq!(key("/v1/incidents/create/k1").as_deref(), Some("k1"));
        for path in
            ["/v2/incidents/api/", "/v2/incidents/api", "/v2/incidents/api/a/b", "/v2/incidents/api/k//", "/", ""]
        {
            assert_eq!(key(path), None, "{path}");
        }
    }

    #[test]
    fn a_stored_event_is_read_again_with_its_other_members_verbatim() {
        let mut event = crate::event::tests::event("k");
        event.raw = r#"{"message":"m","description":"d","n": 1.50,"o":{"a": [1.0]},"n":2.50}"#.into();
        let reread = reread(&event).unwrap();
        assert_eq!(reread.content.title.as_deref(), Some("m"));
        let extra: Vec<_> = reread.extra.iter().map(|(name, value)| (&**name, value.get())).collect();
        assert_eq!(extra, [("o", r#"{"a": [1.0]}"#), ("n", "2.50")]);
    }

    #[test]
    fn every_dialect_answers_every_reason_with_a_json_object_that_names_the_request() {
        for dialect in DIALECTS {
            for reason in Reason::all() {
                let refusal = Refusal::new(reason, "because").with_errors(vec!["a: b".into()]);
                let body = dialect.error(&refusal, "r1");
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(body["request_id"], "r1", "{} {}", dialect.name(), reason.label());
                assert!(dialect.status(reason.class()).as_u16() >= 400);
            }
        }
    }
}
