//! Dialects that carry the key in the body (PagerDuty): steps 4, 5, 7 and 8 of contracts 2.1 come before 3, and 6 after it.
//! The key is overwritten before anything is stored.

use bytes::{Bytes, BytesMut};
use hyper::body::Body;
use hyper::{HeaderMap, Request, Uri};
use serde_json::value::RawValue;

use super::know::Routed;
use super::{Announced, Came, Intake, Known, Said, Taken, Trail, Underway, headers, not_json};
use crate::body::{self, CappedBody};
use crate::dialect::json::{self, Kind};
use crate::outcome::{Reason, Refusal};

impl Intake {
    pub(super) async fn take_in_keyed<B>(
        &self,
        came: &Came,
        routed: Routed,
        member: &'static str,
        request: &mut Request<B>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let announced = match self.announced_of_anyone(request.headers()) {
            Ok(announced) => announced,
            Err(refusal) => return Err(self.unread(request, trail, refusal).await),
        };
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let read = body::read(request.body_mut(), &announced.expected).await;
        trail.close |= read.is_err() && !request.body().is_end_stream();
        let body = read?;
        let tolerated = announced.content.tolerate(body.bytes())?;
        let key = key_in(body.bytes(), member)?;
        let terms = self.terms.load_full();
        let Some(integration) = key.as_deref().and_then(|key| terms.keys.find(key)) else {
            return Err(self.unknown(came.at, trail));
        };
        let Routed { dialect, route } = routed;
        let known = Known { dialect, route, integration: integration.clone(), beside: None };
        if let Some(watched) = &mut trail.watched {
            watched.knows(&known.integration.config.name);
        }
        // The sender is known: from here on what is refused is counted.
        let ticket = self.metrics.receive(came.worker);
        let decided = ticket.check(self.may_send(came, &known, &body)).and_then(|(ticket, ())| {
            let (ticket, heard) = ticket.check(self.hear(&known, body.bytes()))?;
            let Some(heard) = heard else { return Ok(None) };
            let (raw, reserved) = body.into_parts();
            let raw = masked(&raw, member, key.as_deref().unwrap_or_default());
            let said = Said { raw, tolerated, envelope: None };
            let on = self.accept(came, &known, said, heard, ticket, trail)?;
            Ok(on.map(|on| Underway { on, _reserved: reserved }))
        });
        self.end(came, known, decided, trail).await
    }

    /// What may be announced while nobody knows who sends: the largest that any integration may send.
    fn announced_of_anyone(&self, said: &HeaderMap) -> Result<Announced<'_>, Refusal> {
        let terms = self.terms.load();
        let cap = terms.keys.body_bytes_max().max(terms.limits.body_bytes);
        let said = headers::Said::of(said);
        body::precheck(said.length, cap)?;
        Ok(Announced::new(said.length, said.content(terms.limits.gzip)?, cap, self))
    }

    fn may_send(&self, came: &Came, known: &Known, body: &CappedBody) -> Result<(), Refusal> {
        known.integration.allows(&known.allowed_as(), came.source)?;
        body::precheck(Some(body.bytes().len() as u64), known.event_bytes_max(&self.terms.load().limits))?;
        known.integration.take_request(came.at)
    }
}

/// The text of the member that holds the key; `None` where there is none.
fn key_in(body: &Bytes, member: &str) -> Result<Option<String>, Refusal> {
    let found = json::with_document(body, |document| {
        if !document.root.is_object() {
            return Err(Refusal::new(Reason::InvalidJson, "the body must be a JSON object"));
        }
        Ok(match document.root.member(member).map(json::Value::kind) {
            Some(Kind::String(text)) => Some(text.to_owned()),
            _ => None,
        })
    });
    found.map_err(not_json)?
}

/// The body with the key overwritten by `*` of equal length, wherever it stands: as the value of each member of that
/// name, however it is escaped, and in the clear elsewhere.
fn masked(body: &Bytes, member: &str, key: &str) -> Bytes {
    let mut masked = BytesMut::from(&**body);
    let start = body.as_ptr() as usize;
    let text = std::str::from_utf8(body).unwrap_or_default();
    for (name, value) in members(text.trim_start_matches('\u{FEFF}')) {
        let inner = value.get();
        if name == member && inner.len() >= 2 && inner.starts_with('"') {
            let from = inner.as_ptr() as usize - start + 1;
            masked[from..from + inner.len() - 2].fill(b'*');
        }
    }
    if !key.is_empty() {
        let places: Vec<usize> = memchr::memmem::find_iter(&masked, key.as_bytes()).collect();
        places.into_iter().for_each(|at| masked[at..at + key.len()].fill(b'*'));
    }
    masked.freeze()
}

/// The top-level members, repeated names included.
fn members(text: &str) -> Vec<(String, &RawValue)> {
    struct All;
    impl<'de> serde::de::Visitor<'de> for All {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = map.next_entry()? {
                all.push(entry);
            }
            Ok(all)
        }
    }
    use serde::Deserializer;
    serde_json::Deserializer::from_str(text).deserialize_map(All).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_overwritten_wherever_it_stands() {
        let body = Bytes::from_static(
            b"\xEF\xBB\xBF{\"routing_key\":\"x\",\"a\":\"k\\u0065y1 key1\",\"routing_key\" : \"k\\u0065y1\"}",
        );
        let masked = masked(&body, "routing_key", "key1");
        let text = std::str::from_utf8(&masked).unwrap();
        assert_eq!(masked.len(), body.len());
        assert_eq!(
            text.trim_start_matches('\u{FEFF}'),
            "{\"routing_key\":\"*\",\"a\":\"k\\u0065y1 ****\",\"routing_key\" : \"*********\"}"
        );
    }

    #[test]
    fn the_last_of_repeated_members_names_the_key() {
        let key =
            |body: &'static str| key_in(&Bytes::from_static(body.as_bytes()), "k").map_err(|refusal| refusal.reason);
        assert_eq!(key(r#"{"k":"a","k":"b"}"#), Ok(Some("b".into())));
        assert_eq!(key(r#"{"k":5}"#), Ok(None));
        assert_eq!(key("{}"), Ok(None));
        assert_eq!(key("[1]"), Err(Reason::InvalidJson));
        assert_eq!(key("{"), Err(Reason::InvalidJson));
    }
}
