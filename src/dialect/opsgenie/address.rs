//! Which alert a path means (contracts/opsgenie.md 2): the segment, percent-decoded once, is an id unless the query says
//! that it is an alias or the short number.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::ids;
use crate::dialect::json::clean;
use crate::event::{KEY_BYTES_MAX, Key, Target, TargetKind};

/// An alert that a request is about.
pub(super) struct Addressed<'p> {
    kind: IdentifierType,
    text: Cow<'p, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentifierType {
    Id,
    Alias,
    Tiny,
}

/// Reads a path's segment with the query beside it.
///
/// # Errors
/// The fault, `member: reason`.
pub(super) fn of<'p>(segment: &'p str, query: &str) -> Result<Addressed<'p>, String> {
    let kind = identifier_type(query)?;
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| "identifier: must be UTF-8".to_owned())?;
    let text = if text.contains('\0') { Cow::Owned(clean(&text).into_owned()) } else { text };
    if text.len() > KEY_BYTES_MAX {
        return Err(format!("identifier: is longer than {KEY_BYTES_MAX} bytes"));
    }
    if text.trim().is_empty() {
        return Err("identifier: must not be blank".into());
    }
    Ok(Addressed { kind, text })
}

fn identifier_type(query: &str) -> Result<IdentifierType, String> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "identifierType");
    match named.as_ref().map(|(_, value)| &**value) {
        None | Some("id") => Ok(IdentifierType::Id),
        Some("alias") => Ok(IdentifierType::Alias),
        Some("tiny") => Ok(IdentifierType::Tiny),
        Some(_) => Err("identifierType: must be id, alias or tiny".into()),
    }
}

impl Addressed<'_> {
    pub(super) fn kind(&self) -> IdentifierType {
        self.kind
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// An alias is the sender's key; ids are looked up.
    pub(super) fn into_key_or_target(self) -> (Option<Key>, Option<Target>) {
        let target = |kind| Some(Target { kind, value: (*self.text).into() });
        match self.kind {
            IdentifierType::Alias => (ids::key_of(&self.text), None),
            IdentifierType::Id => (None, target(TargetKind::AlertId)),
            IdentifierType::Tiny => (None, target(TargetKind::TinyId)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_decoded_once_and_is_an_id_unless_the_query_says_otherwise() {
        let alias = |segment| of(segment, "identifierType=alias").unwrap().into_key_or_target().0.unwrap();
        assert_eq!(alias("db-7%2Fdisk").canon(), "db-7/disk");
        assert_eq!(alias("db-7%252Fdisk").canon(), "db-7%2Fdisk");
        assert_eq!(alias("a+b%20c").canon(), "a+b c");
        assert_eq!(alias("a%zz").canon(), "a%zz");
        assert_eq!(alias("a%00b").canon(), "a\u{FFFD}b");
        let target = |query| of("7", query).unwrap().into_key_or_target().1.map(|target| target.kind);
        assert_eq!(target(""), Some(TargetKind::AlertId));
        assert_eq!(target("a=b&identifierType=id"), Some(TargetKind::AlertId));
        assert_eq!(target("identifierType=tiny"), Some(TargetKind::TinyId));
    }

    #[test]
    fn what_addresses_nothing_is_told() {
        for (segment, query) in [("a", "identifierType=name"), ("a", "identifierType="), ("%20", ""), ("%ff", "")] {
            assert!(of(segment, query).is_err(), "{segment}?{query}");
        }
        assert!(of(&"a".repeat(512), "").is_ok());
        assert!(of(&"a".repeat(513), "").is_err());
    }
}
