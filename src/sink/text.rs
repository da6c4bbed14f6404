//! Texts cut to an upstream's limits (contracts 6): whole characters, the ellipsis inside the limit.

use std::borrow::Cow;

pub(super) const ELLIPSIS: char = '\u{2026}';

/// At most `most` characters, which are at least one.
pub(super) fn to_characters(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(most.saturating_sub(1)).chain([ELLIPSIS]).collect())
}

/// At most `plain_max` bytes as they are and `escaped_max` as the inside of a JSON text; empty where not even the mark fits.
pub(super) fn to_bytes(text: &str, plain_max: usize, escaped_max: usize) -> Cow<'_, str> {
    let mark = ELLIPSIS.len_utf8();
    let (mut plain, mut escaped, mut fits) = (0, 0, 0);
    for character in text.chars() {
        plain += character.len_utf8();
        escaped += escaped_bytes(character);
        if plain > plain_max || escaped > escaped_max {
            let kept = &text[..fits];
            let room = fits + mark <= plain_max && mark <= escaped_max;
            return if room { Cow::Owned(format!("{kept}{ELLIPSIS}")) } else { Cow::Borrowed("") };
        }
        if plain + mark <= plain_max && escaped + mark <= escaped_max {
            fits = plain;
        }
    }
    Cow::Borrowed(text)
}

/// Bytes a character takes inside a JSON text as `serde_json` writes it.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// A JSON text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_in_an_ellipsis_inside_their_limit() {
        let title: String = "ä".repeat(1024);
        assert_eq!(to_characters(&title, 1024), title);
        assert_eq!(to_characters(&(title.clone() + "b"), 1024).chars().count(), 1024);
        assert!(to_characters(&(title + "b"), 1024).ends_with(ELLIPSIS));
        let text = "x".repeat(15_000);
        assert_eq!(to_bytes(&text, 15_000, usize::MAX), text);
        let longer = to_bytes(&(text + "y"), 15_000, usize::MAX).into_owned();
        assert_eq!((longer.len(), longer.ends_with(ELLIPSIS)), (15_000, true));
        assert_eq!(to_bytes("\u{1}\u{1}\u{1}", 99, 17), "\u{1}\u{1}…", "escapes count as they are written");
        assert_eq!(to_bytes("abc", 99, 2), "", "no room for the mark");
    }
}
