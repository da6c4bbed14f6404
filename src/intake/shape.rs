//! What a refused body looked like, without what it said: names and kinds of its members. For the sample of a refusal
//! (`told`), so that whoever mends a sender need not guess.

use std::fmt::Write;

use serde_json::Value;

/// Longest text that comes of it, in characters.
const CHARS_MAX: usize = 400;
/// Members shown of one object, elements of one list.
const MEMBERS_MAX: usize = 16;
const DEPTH_MAX: usize = 4;
/// A longer name, or one of more digits, may be no name: a key that stands in the wrong place.
const NAME_CHARS_MAX: usize = 24;
const NAME_DIGITS_MAX: usize = 3;

/// The shape of a body; `None` where it is no JSON.
pub(super) fn of(body: &[u8]) -> Option<Box<str>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let mut out = String::new();
    put(&mut out, &value, 0);
    if let Some((at, _)) = out.char_indices().nth(CHARS_MAX) {
        out.truncate(at);
        out.push('…');
    }
    Some(out.into())
}

fn put(out: &mut String, value: &Value, depth: usize) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Null => write!(out, "null"),
        Value::Bool(flag) => write!(out, "{flag}"),
        Value::Number(_) => write!(out, "a number"),
        Value::String(text) if text.is_empty() => write!(out, "\"\""),
        Value::String(text) => write!(out, "\"***\" of {} B", text.len()),
        Value::Array(items) if depth >= DEPTH_MAX => write!(out, "[{} elements]", items.len()),
        Value::Object(members) if depth >= DEPTH_MAX => write!(out, "{{{} members}}", members.len()),
        Value::Array(items) => return list(out, items, depth),
        Value::Object(members) => return object(out, members, depth),
    };
}

fn list(out: &mut String, items: &[Value], depth: usize) {
    out.push('[');
    // Elements are mostly alike.
    items.iter().take(1).for_each(|item| put(out, item, depth + 1));
    if items.len() > 1 {
        let _ = write!(out, ", and {} more", items.len() - 1);
    }
    out.push(']');
}

fn object(out: &mut String, members: &serde_json::Map<String, Value>, depth: usize) {
    out.push('{');
    for (at, (name, value)) in members.iter().take(MEMBERS_MAX).enumerate() {
        let _ = write!(out, "{}{}: ", if at > 0 { ", " } else { "" }, masked(name));
        put(out, value, depth + 1);
    }
    if members.len() > MEMBERS_MAX {
        let _ = write!(out, ", and {} more", members.len() - MEMBERS_MAX);
    }
    out.push('}');
}

/// A name that can be one.
fn masked(name: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let is_short = !name.is_empty() && name.len() <= NAME_CHARS_MAX && digits <= NAME_DIGITS_MAX;
    if is_short && name.bytes().all(is_word) { name } else { "***" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_are_told_and_no_value() {
        let body =
            br#"{"message":7,"description":"secret text","event_id":"","tags":{"team":{"value":"x","deep":{"a":{}}}},
            "5ca1ab1e0123456789abcdef0123456789abcdef":null,"list":["s1","s2",3],"on":true}"#;
        let shape = of(body).unwrap();
        assert_eq!(
            &*shape,
            "{message: a number, description: \"***\" of 11 B, event_id: \"\", tags: {team: {value: \"***\" of 1 B, \
             deep: {a: {0 members}}}}, ***: null, list: [\"***\" of 2 B, and 2 more], on: true}"
        );
        for secret in ["secret", "5ca1ab1e", "s1"] {
            assert!(!shape.contains(secret), "{shape}");
        }
        assert_eq!(of(b"{nothing"), None);
        assert!(of(format!("[{}]", "{\"a\":[\"bcd\"]},".repeat(200).trim_end_matches(',')).as_bytes()).is_some());
        let wide: String = (0..100).map(|at| format!("\"member_number_{at}\":{at},")).collect();
        let wide = of(format!("{{{}}}", wide.trim_end_matches(',')).as_bytes()).unwrap();
        assert!(wide.chars().count() <= CHARS_MAX + 1 && wide.ends_with('…'), "{wide}");
    }
}
