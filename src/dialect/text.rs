//! Texts held to the limits of the model (contracts 3.1, 6). Called by the dialects.

use std::borrow::Cow;

use crate::event::{Content, DESCRIPTION_BYTES_MAX, TITLE_CHARS_MAX};

/// At most `chars` characters, the last of them an ellipsis where something was cut (contracts 6).
pub(super) fn truncated(text: Cow<'_, str>, chars: usize) -> (Cow<'_, str>, bool) {
    // A text of so few bytes cannot have more characters.
    if text.len() <= chars || text.chars().nth(chars).is_none() {
        return (text, false);
    }
    let kept: String = text.chars().take(chars - 1).chain(['\u{2026}']).collect();
    (Cow::Owned(kept), true)
}

/// At most `bytes` bytes, ending in an ellipsis where something was cut, never inside a character.
pub(super) fn cut_bytes(text: Cow<'_, str>, bytes: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= bytes {
        return (text, false);
    }
    let end = text.floor_char_boundary(bytes - '\u{2026}'.len_utf8());
    (Cow::Owned(format!("{}\u{2026}", &text[..end])), true)
}

/// A text of the model within so many characters, with a warning where it was cut; `path`: where it stands in the body.
pub(super) fn within<'d>(
    content: &mut Content<'_>,
    text: Cow<'d, str>,
    chars: usize,
    path: &'static str,
) -> Cow<'d, str> {
    let (text, cut) = truncated(text, chars);
    if cut {
        content.cut("truncated", path);
    }
    text
}

/// Takes a title within the model's limit, with a warning where it was cut; `path`: where it stands in the body.
pub(super) fn set_title<'d>(content: &mut Content<'d>, text: Cow<'d, str>, path: impl Into<Cow<'d, str>>) {
    let (title, cut) = truncated(text, TITLE_CHARS_MAX);
    if cut {
        content.cut("truncated", path);
    }
    content.title = Some(title);
}

/// The same of a description.
pub(super) fn set_description<'d>(content: &mut Content<'d>, text: Cow<'d, str>, path: impl Into<Cow<'d, str>>) {
    let (description, cut) = cut_bytes(text, DESCRIPTION_BYTES_MAX);
    if cut {
        content.cut("truncated", path);
    }
    content.description = Some(description);
}
