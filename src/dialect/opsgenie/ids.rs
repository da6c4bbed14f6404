//! Ids in the form of a UUID: of alerts, and those that are made for alerts without an alias (contracts/opsgenie.md 5).

use std::fmt::Write;

use crate::dialect::Record;
use crate::event::{Key, KeyKind, StateKey, Uid, as_uuid};

/// Bits of a made alias that follow from its others: by them it is known again, whoever sends it and however late.
const CHECK_BITS: u32 = 32;
const CHECK_MASK: u128 = (1 << CHECK_BITS) - 1;

/// `8-4-4-4-12` lower-case hexadecimal digits.
pub(super) fn text_of(id: u128) -> String {
    let mut text = String::with_capacity(36);
    let parts = [id >> 96, (id >> 80) & 0xFFFF, (id >> 64) & 0xFFFF, (id >> 48) & 0xFFFF, id & 0xFFFF_FFFF_FFFF];
    for (part, (hyphen, digits)) in parts.into_iter().zip([("", 8), ("-", 4), ("-", 4), ("-", 4), ("-", 12)]) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{hyphen}{part:0digits$x}");
    }
    text
}

/// The other way; digits in either case.
pub(super) fn parse(text: &str) -> Option<u128> {
    let mut id = 0;
    let mut parts = text.split('-');
    for digits in [8, 4, 4, 4, 12] {
        let part = parts.next().filter(|part| part.len() == digits && !part.starts_with('+'))?;
        id = id << (4 * digits) | u128::from(u64::from_str_radix(part, 16).ok()?);
    }
    parts.next().is_none().then_some(id)
}

fn check_of(id: u128) -> u128 {
    StateKey::of("opsgenie", "alias", &text_of(id & !CHECK_MASK)).0 & CHECK_MASK
}

/// A fresh alias of an alert that was created without one: a UUID, version 4.
pub(super) fn made_alias() -> Option<Key> {
    let id = as_uuid(fastrand::u128(..) & !CHECK_MASK, 4);
    Key::parse(&text_of(id | check_of(id)), KeyKind::Generated)
}

/// Whether [`made_alias`] made it: then it is the alert's id too.
pub(super) fn is_made(alias: &str) -> bool {
    parse(alias).is_some_and(|id| id & CHECK_MASK == check_of(id) && text_of(id) == alias)
}

/// An alias as a key. `None`: blank, or longer than a key may be.
pub(super) fn key_of(alias: &str) -> Option<Key> {
    Key::parse(alias, if is_made(alias) { KeyKind::Generated } else { KeyKind::String })
}

/// The id that answers give an alert: its alias where that was made for it, else its own in the form of a UUID.
pub(super) fn alert_id(record: &Record) -> String {
    match &record.key {
        Some(key) if key.kind == KeyKind::Generated => key.canon().to_owned(),
        _ => text_of(record.incident.iid.0),
    }
}

/// What an alert id may name: an alert, or the alias that was made for one.
pub(super) enum AlertId<'t> {
    Own(Uid),
    Made(&'t str),
}

impl<'t> AlertId<'t> {
    /// `None`: no alert has such an id.
    pub(super) fn of(text: &'t str) -> Option<Self> {
        if is_made(text) { Some(Self::Made(text)) } else { parse(text).map(|id| Self::Own(Uid(id))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_alias_is_a_uuid_that_is_known_again_and_no_other_uuid_is() {
        let alias = made_alias().unwrap();
        let text = alias.canon();
        assert_eq!((text.len(), &text[14..15], alias.kind), (36, "4", KeyKind::Generated));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert!(is_made(text));
        assert_eq!(key_of(text).unwrap().kind, KeyKind::Generated);
        assert_ne!(text, made_alias().unwrap().canon());
        for other in [&text.to_uppercase(), &text.replacen('-', "", 1), "00000000-0000-4000-8000-000000000000", "a"] {
            assert!(!is_made(other), "{other}");
        }
    }

    #[test]
    fn ids_survive_their_text() {
        let id = 0x0192_5bd2_b7c0_4e1a_8000_0000_0000_0001;
        assert_eq!(text_of(id), "01925bd2-b7c0-4e1a-8000-000000000001");
        assert_eq!(parse(&text_of(id)), Some(id));
        for wrong in ["", "01925bd2-b7c0-4e1a-8000-00000000001", "01925bd2-b7c0-4e1a-8000-00000000000g"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
