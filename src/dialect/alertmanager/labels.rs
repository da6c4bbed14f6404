//! Labels and annotations: objects of texts. What is no text is taken as one (section 2).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::dialect::json::{Document, Kind, Value, clean};
use crate::event::is_blank;

/// An object of texts in an alert, or among what is said of all.
#[derive(Clone, Copy)]
pub(super) struct Texts<'d> {
    document: Document<'d>,
    member: &'static str,
    value: Option<Value<'d>>,
}

impl<'d> Texts<'d> {
    /// The member of that name. `None`: it is absent or no object.
    pub(super) fn of(document: Document<'d>, member: &'static str) -> Option<Self> {
        let value = document.root.member(member).filter(|value| value.is_object())?;
        Some(Self { document, member, value: Some(value) })
    }

    /// No texts at all.
    pub(super) fn none(document: Document<'d>) -> Self {
        Self { document, member: "", value: None }
    }

    /// The last of that name; what is blank is absent.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'d, str>> {
        let value = self.value?.member(name)?;
        self.text(name, value).filter(|text| !is_blank(text))
    }

    fn text(&self, name: &str, value: Value<'d>) -> Option<Cow<'d, str>> {
        match value.kind() {
            Kind::String(text) => Some(clean(text)),
            Kind::Null => None,
            Kind::Bool(true) => Some("true".into()),
            Kind::Bool(false) => Some("false".into()),
            Kind::Integer(_) | Kind::Number => self.document.number_text(value, &[self.member, name]),
            Kind::Array | Kind::Object => self.document.source(&[self.member, name]),
        }
    }

    /// All of them in the order of their names, each once, and whether it was a text.
    pub(super) fn sorted(&self) -> Vec<(&'d str, Cow<'d, str>, bool)> {
        let Some(value) = self.value else { return Vec::new() };
        let mut members: Vec<_> = value.members().collect();
        // Stable: of a repeated name the last stays last, and is kept.
        members.sort_by_key(|(name, _)| *name);
        members.reverse();
        members.dedup_by_key(|(name, _)| *name);
        members.reverse();
        let texts = members.into_iter().filter_map(|(name, value)| {
            let is_text = matches!(value.kind(), Kind::String(_));
            Some((name, self.text(name, value)?, is_text))
        });
        texts.collect()
    }

    /// Lower-case hexadecimal SHA-256 over names and texts: the key of what has none (section 3).
    pub(super) fn hashed(&self) -> String {
        let mut hash = Sha256::new();
        for (name, text, _) in self.sorted() {
            for part in [name, "\u{1F}", &*text, "\u{1E}"] {
                hash.update(part);
            }
        }
        hex(&hash.finalize())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;

    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
