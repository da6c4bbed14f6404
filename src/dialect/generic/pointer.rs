//! JSON pointers (RFC 6901) into a body.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::dialect::json::{Document, Kind, Value, clean, members_as_text};
use crate::event::is_blank;

/// What a pointer leads to.
#[derive(Clone, Copy)]
pub(super) struct Pointed<'d, 'p> {
    document: Document<'d>,
    pointer: &'p str,
    pub(super) value: Value<'d>,
}

/// A step, with its two escapes opened.
fn step(text: &str) -> Cow<'_, str> {
    if text.contains('~') { Cow::Owned(text.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(text) }
}

fn steps(pointer: &str) -> impl Iterator<Item = Cow<'_, str>> {
    // The text before the first slash is empty.
    pointer.split('/').skip(1).map(step)
}

/// Where `pointer` leads; nothing and `null` are absent.
pub(super) fn pointed<'d, 'p>(document: Document<'d>, pointer: &'p str) -> Option<Pointed<'d, 'p>> {
    let value = steps(pointer).try_fold(document.root, |value, step| match value.kind() {
        Kind::Array => value.elements().nth(step.parse().ok()?),
        _ => value.member(&step),
    })?;
    (!value.is_null()).then_some(Pointed { document, pointer, value })
}

impl<'d> Pointed<'d, '_> {
    /// As text: numbers as they were written; blank texts, lists and objects are none.
    pub(super) fn text(&self) -> Option<Cow<'d, str>> {
        let text = match self.value.kind() {
            Kind::String(text) => clean(text),
            Kind::Bool(true) => "true".into(),
            Kind::Bool(false) => "false".into(),
            Kind::Integer(number) if number != 0 => number.to_string().into(),
            Kind::Integer(_) | Kind::Number => self.source()?.into(),
            Kind::Null | Kind::Array | Kind::Object => return None,
        };
        (!is_blank(&text)).then_some(text)
    }

    /// As it was written.
    pub(super) fn source(&self) -> Option<String> {
        let whole = self.document.source(&[])?;
        let mut text: &str = &whole;
        for step in steps(self.pointer) {
            text = match text.as_bytes().first()? {
                b'[' => serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(step.parse::<usize>().ok()?)?.get(),
                _ => members_as_text(text)?.remove(&*step)?.get(),
            };
        }
        Some(text.to_owned())
    }

    /// The top-level member that it leads through, where it leads to that and no further.
    pub(super) fn member(&self) -> Option<Cow<'_, str>> {
        let mut steps = steps(self.pointer);
        let first = steps.next()?;
        steps.next().is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json::with_document;

    #[test]
    fn pointers_lead_through_objects_and_lists_to_what_was_written() {
        let body = br#"{"a":[{"b/c":1.50,"~":"t"},-0],"":{"x":null,"y":" "},"n":12345678901234567890123}"#;
        let read = |pointer: &str| {
            with_document(body, |document| pointed(document, pointer)?.text().map(Cow::into_owned)).unwrap()
        };
        for (pointer, wanted) in [
            ("/a/0/b~1c", Some("1.50")),
            ("/a/0/~0", Some("t")),
            ("/a/1", Some("-0")),
            ("/n", Some("12345678901234567890123")),
            ("//x", None),
            ("//y", None),
            ("/a/2", None),
            ("/a/x", None),
            ("/a", None),
            ("/b/c", None),
        ] {
            assert_eq!(read(pointer).as_deref(), wanted, "{pointer}");
        }
    }
}
