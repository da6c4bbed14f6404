//! Bodies forwarded as they came (contracts 3.4): byte for byte but for credentials and ids, which are replaced where they
//! stand.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Ask, Mode};
use crate::event::Tolerated;

/// Whether the event's own body may go to an upstream that speaks these dialects: nothing was tolerated in it, it is
/// within the send limit, and its key needs no other name. Whether its members are what the vendor would read, and
/// within its limits, is left to the sink: it looks at the body, for the content may have been cut.
pub(super) fn is_allowed(ask: &Ask<'_>, dialects: &[&str], body_bytes_max: usize) -> bool {
    let event = &ask.stored.event;
    ask.upstream.mode == Mode::Verbatim
        && dialects.contains(&&*event.dialect)
        && event.tolerated == Tolerated::default()
        && !ask.said.content.tolerated
        && event.envelope.is_none()
        && event.raw.len() <= body_bytes_max
        && (event.key.is_none() || !ask.upstream.shared)
}

/// The members of a body, in order, each value as it is written.
pub(super) struct Body<'a> {
    raw: &'a [u8],
    members: Vec<(String, &'a RawValue)>,
}

impl<'a> Body<'a> {
    /// `None`: no JSON object, or a name that is written with escapes, or twice: another reader may take it for another.
    pub(super) fn read(raw: &'a [u8]) -> Option<Self> {
        let members = serde_json::Deserializer::from_slice(raw).deserialize_map(AsWritten).ok()?;
        let is_twice = |(at, (name, _)): (usize, &(String, _))| members[..at].iter().any(|(other, _)| other == name);
        let twice = members.iter().enumerate().any(is_twice);
        (!twice).then_some(Self { raw, members })
    }

    /// A member's value as it is written.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(own, _)| own == name).map(|(_, value)| value.get())
    }

    /// Every member, with its JSON.
    pub(super) fn into_members(self) -> impl Iterator<Item = (Cow<'static, str>, String)> {
        self.members.into_iter().map(|(name, value)| (Cow::Owned(name), value.get().to_owned()))
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Whether a member, where it is a text, has at most so many characters.
    pub(super) fn fits(&self, name: &str, chars_max: usize) -> bool {
        // No character is written with less than a byte.
        self.get(name).is_none_or(|json| json.len() <= chars_max)
            || self.text(name).is_none_or(|text| text.chars().nth(chars_max).is_none())
    }

    /// With these members' values replaced by other JSON; `None` where one is not there.
    pub(super) fn with(&self, values: &[(&str, String)]) -> Option<Vec<u8>> {
        let start = self.raw.as_ptr() as usize;
        let mut places: Vec<(Range<usize>, &str)> = Vec::with_capacity(values.len());
        for (name, value) in values {
            let old = self.get(name)?;
            // The value borrows from the body.
            let from = (old.as_ptr() as usize).checked_sub(start)?;
            places.push((from..from + old.len(), value));
        }
        places.sort_unstable_by_key(|(place, _)| place.start);
        let mut body = Vec::with_capacity(self.raw.len() + 64);
        let mut done = 0;
        for (place, value) in places {
            body.extend_from_slice(self.raw.get(done..place.start)?);
            body.extend_from_slice(value.as_bytes());
            done = place.end;
        }
        body.extend_from_slice(self.raw.get(done..)?);
        Some(body)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<&RawValue>()? {
            let name = name.get();
            if name.contains('\\') {
                return Err(serde::de::Error::custom("a name with escapes"));
            }
            members.push((name.trim_matches('"').to_owned(), map.next_value()?));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_where_they_stand_and_nothing_else_changes() {
        let raw = br#"{ "b" : 1.50, "routing_key":"****" , "id":7,"c":{"id":8}}"#;
        let body = Body::read(raw).unwrap();
        let changed = body.with(&[("id", "8912".to_owned()), ("routing_key", "\"k\"".to_owned())]).unwrap();
        let expected = r#"{ "b" : 1.50, "routing_key":"k" , "id":8912,"c":{"id":8}}"#;
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
        assert!(body.with(&[("d", "1".to_owned())]).is_none());
        assert_eq!(
            (body.get("b"), body.text("routing_key").as_deref(), body.text("id")),
            (Some("1.50"), Some("****"), None)
        );
    }

    #[test]
    fn what_two_readers_may_read_differently_is_not_read_at_all() {
        for raw in [r#"{"a":1,"a":2}"#, r#"{"\u0061":1}"#, "[1]", "{", "\u{feff}{}"] {
            assert!(Body::read(raw.as_bytes()).is_none(), "{raw}");
        }
    }
}
