//! JSON as contracts 2.4 wants it, and the only home of `simd_json`. A body is parsed into a tape in buffers
//! that a thread reuses, so parsing allocates nothing once warm.
//!
//! The tape keeps no number text. Where it matters (keys, tags) and the number is no plain 64-bit integer,
//! the text is taken from the original bytes with `serde_json`'s `RawValue`, on that rare way alone.

mod digest;
pub mod glance;
pub mod list;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use serde_json::value::RawValue;
use simd_json::{Buffers, Node, StaticNode, Tape};

/// Deepest nesting; the top object is 1 (contracts 2.4).
pub const DEPTH_MAX: usize = 64;

/// Scratch larger than this is given back after use: a thread keeps no more between requests.
const SCRATCH_KEPT_BYTES: usize = 256 * 1024;

/// Why a body is not the JSON that a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the body is empty")]
    Empty,
    #[error("the body is not valid JSON")]
    Syntax,
    #[error("the body is not valid JSON: line {line}, column {column}: {why}")]
    SyntaxAt { line: usize, column: usize, why: &'static str },
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("the body holds a number that no 64-bit float can hold")]
    NumberRange,
}

struct Scratch {
    bytes: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Parses `body` and hands the document to `look`; what it borrows lives as long as that call.
///
/// # Errors
/// [`JsonError`] when the body is not JSON, too deep, or holds a number beyond `f64`.
pub fn with_document<R>(body: &[u8], look: impl FnOnce(Document<'_>) -> R) -> Result<R, JsonError> {
    with_document_in(0, body, look)
}

/// The same for a part of a body that stands `levels` deep in it: its nesting is counted from the body's top.
///
/// # Errors
/// As [`with_document`].
pub fn with_document_in<R>(levels: usize, body: &[u8], look: impl FnOnce(Document<'_>) -> R) -> Result<R, JsonError> {
    let depth_max = DEPTH_MAX.saturating_sub(levels);
    let original = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if original.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let mut scratch = SCRATCH.take().unwrap_or_else(|| {
        Box::new(Scratch {
            bytes: Vec::new(),
            buffers: Buffers::with_max_depth(4096, DEPTH_MAX + 1),
            tape: Tape(Vec::new()),
        })
    });
    let Scratch { bytes, buffers, tape } = &mut *scratch;
    bytes.clear();
    bytes.extend_from_slice(original);
    bytes.resize(original.len() + simd_json::INPUT_PADDING, 0);
    let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
    let parsed = match simd_json::fill_tape_padded(bytes, original.len(), buffers, &mut filled) {
        Ok(()) => check(&filled.0, depth_max).map(|()| look(Document { root: Value { nodes: &filled.0 }, original })),
        Err(error) => Err(classify(&error, original, depth_max)),
    };
    *tape = filled.reset();
    if bytes.capacity() + tape.0.capacity() * size_of::<Node<'_>>() <= SCRATCH_KEPT_BYTES {
        SCRATCH.set(Some(scratch));
    }
    parsed
}

fn classify(error: &simd_json::Error, original: &[u8], depth_max: usize) -> JsonError {
    use simd_json::ErrorType;
    match error.error() {
        ErrorType::InvalidUtf8 => JsonError::NotUtf8,
        ErrorType::InvalidNumber if std::str::from_utf8(original).is_ok_and(is_json_but_for_range) => {
            JsonError::NumberRange
        }
        _ if std::str::from_utf8(original).is_err() => JsonError::NotUtf8,
        _ if nests_too_deep(original, depth_max) => JsonError::TooDeep,
        _ => syntax(original),
    }
}

/// Only to word an error well: where a second parser stops, if it does.
fn syntax(original: &[u8]) -> JsonError {
    match serde_json::from_slice::<&RawValue>(original) {
        Err(error) => stopped(&error),
        // What its texts say is looked at only where they are taken out.
        Ok(_) => serde_json::from_slice::<serde_json::Value>(original)
            .map_or_else(|error| stopped(&error), |_| JsonError::Syntax),
    }
}

/// Where the second parser stopped, and why, in words for whoever wrote the body; none of it is the body's.
fn stopped(error: &serde_json::Error) -> JsonError {
    const WORDS: [(&str, &str); 11] = [
        ("EOF", "it ends too early"),
        ("key must be a string", "a name in double quotes belongs here, or the comma before it is too many"),
        ("trailing comma", "nothing follows the comma before it"),
        ("trailing characters", "something follows its end"),
        ("expected `:`", "a colon belongs here"),
        ("expected `,`", "a comma or a closing bracket belongs here"),
        ("expected value", "no value begins so; a text stands in double quotes"),
        ("control character", "a line break or tab inside a text; write \\n or \\t"),
        ("invalid escape", "no such escape; a backslash is written \\\\"),
        ("lone leading surrogate", HALF),
        ("unexpected end of hex escape", HALF),
    ];
    const HALF: &str = "half of a pair of \\u escapes; without the other half it is no character";
    let said = error.to_string();
    let why = WORDS.iter().find(|(begin, _)| said.starts_with(begin)).map_or("this is no JSON", |(_, why)| *why);
    JsonError::SyntaxAt { line: error.line(), column: error.column(), why }
}

/// Only to word an error well: JSON that fails for its numbers alone passes when they are kept as text.
fn is_json_but_for_range(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Only to word an error well: brackets outside strings, whatever else is wrong.
fn nests_too_deep(original: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in original {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest > depth_max
}

/// What the parser itself lets pass: nesting past the limit, and numbers that overflowed to infinity.
fn check(nodes: &[Node<'_>], depth_max: usize) -> Result<(), JsonError> {
    let is_infinite = |node: &Node<'_>| matches!(node, Node::Static(StaticNode::F64(number)) if !number.is_finite());
    if nodes.len() <= depth_max {
        // Too few to nest too deep.
        return if nodes.iter().any(is_infinite) { Err(JsonError::NumberRange) } else { Ok(()) };
    }
    let mut ends = [0usize; DEPTH_MAX];
    let mut depth = 0;
    for (index, node) in nodes.iter().enumerate() {
        match node {
            Node::Object { count, .. } | Node::Array { count, .. } => {
                while depth > 0 && ends[depth - 1] <= index {
                    depth -= 1;
                }
                if depth == depth_max {
                    return Err(JsonError::TooDeep);
                }
                ends[depth] = index + count + 1;
                depth += 1;
            }
            node if is_infinite(node) => return Err(JsonError::NumberRange),
            _ => {}
        }
    }
    Ok(())
}

/// A parsed body.
#[derive(Clone, Copy)]
pub struct Document<'d> {
    pub root: Value<'d>,
    /// The bytes as received, without a byte order mark.
    original: &'d [u8],
}

/// One JSON value.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    /// The value's own node first, what it holds after it.
    nodes: &'d [Node<'d>],
}

/// A value by its type.
#[derive(Clone, Copy)]
pub enum Kind<'d> {
    Null,
    Bool(bool),
    /// A 64-bit integer. Signed and unsigned share a type that holds both.
    Integer(i128),
    /// Any other number: its text is had by [`Document::source`].
    Number,
    String(&'d str),
    Array,
    Object,
}

impl<'d> Value<'d> {
    pub fn kind(self) -> Kind<'d> {
        match self.nodes.first() {
            Some(Node::String(text)) => Kind::String(text),
            Some(Node::Object { .. }) => Kind::Object,
            Some(Node::Array { .. }) => Kind::Array,
            Some(Node::Static(StaticNode::Bool(value))) => Kind::Bool(*value),
            Some(Node::Static(StaticNode::I64(value))) => Kind::Integer(i128::from(*value)),
            Some(Node::Static(StaticNode::U64(value))) => Kind::Integer(i128::from(*value)),
            Some(Node::Static(StaticNode::F64(_))) => Kind::Number,
            Some(Node::Static(StaticNode::Null)) | None => Kind::Null,
        }
    }

    /// The members in order of appearance, repeated names included; nothing when it is no object.
    pub fn members(self) -> impl Iterator<Item = (&'d str, Value<'d>)> {
        let mut rest = match self.nodes.first() {
            Some(Node::Object { .. }) => &self.nodes[1..],
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (Node::String(name), after) = rest.split_first()? else { return None };
            let span = after.first().map(span_of)?;
            let (value, tail) = after.split_at_checked(span)?;
            rest = tail;
            Some((*name, Value { nodes: value }))
        })
    }

    /// The elements in order; nothing when it is no array.
    pub fn elements(self) -> impl Iterator<Item = Value<'d>> {
        let mut rest = match self.nodes.first() {
            Some(Node::Array { .. }) => &self.nodes[1..],
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (value, tail) = rest.split_at_checked(rest.first().map(span_of)?)?;
            rest = tail;
            Some(Value { nodes: value })
        })
    }

    /// The last member of that name: repeated names are allowed, the last one wins (contracts 2.4).
    pub fn member(self, name: &str) -> Option<Value<'d>> {
        self.members().filter(|(member, _)| *member == name).last().map(|(_, value)| value)
    }

    /// Members of an object or elements of an array, repeated names counted.
    pub fn len(self) -> usize {
        match self.nodes.first() {
            Some(Node::Object { len, .. } | Node::Array { len, .. }) => *len,
            _ => 0,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn is_object(self) -> bool {
        matches!(self.kind(), Kind::Object)
    }

    pub fn is_null(self) -> bool {
        matches!(self.kind(), Kind::Null)
    }
}

fn span_of(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        _ => 1,
    }
}

impl<'d> Document<'d> {
    /// The text of a number as the sender wrote it; `path` names the members that lead to it.
    pub fn number_text(&self, value: Value<'d>, path: &[&str]) -> Option<Cow<'d, str>> {
        match value.kind() {
            // `-0` is an integer without its sign on the tape.
            Kind::Integer(0) if self.original.windows(2).any(|pair| pair == b"-0") => self.source(path),
            Kind::Integer(number) => Some(Cow::Owned(number.to_string())),
            Kind::Number => self.source(path),
            _ => None,
        }
    }

    /// The source text of the value that `path` leads to, compact: white space outside strings left out.
    pub fn source(&self, path: &[&str]) -> Option<Cow<'d, str>> {
        let mut text = std::str::from_utf8(self.original).ok()?;
        for name in path {
            text = members_as_text(text)?.remove(*name)?.get();
        }
        Some(compact(text.trim()))
    }
}

/// The members of the object that `text` is, each as its source text; the last of a repeated name wins.
pub fn members_as_text(text: &str) -> Option<HashMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str::<HashMap<String, &RawValue>>(text)
        .ok()
        .map(|members| members.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect())
}

fn compact(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Cow::Borrowed(text);
    }
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|character| {
        let was_in_string = in_string;
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        was_in_string || !character.is_ascii_whitespace()
    });
    Cow::Owned(kept.collect())
}

/// Text for a normalized field: U+0000 becomes U+FFFD (contracts 2.4).
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> Result<(), JsonError> {
        with_document(body.as_bytes(), |_| ())
    }

    /// The tape read back as `serde_json` would see it.
    fn rebuild(value: Value<'_>) -> serde_json::Value {
        match value.kind() {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => value.into(),
            Kind::Integer(number) => {
                i64::try_from(number).map_or_else(|_| u64::try_from(number).unwrap().into(), serde_json::Value::from)
            }
            Kind::Number => match value.nodes[0] {
                Node::Static(StaticNode::F64(number)) => number.into(),
                _ => unreachable!("a number"),
            },
            Kind::String(text) => text.into(),
            Kind::Array => value.elements().map(rebuild).collect::<Vec<_>>().into(),
            Kind::Object => value
                .members()
                .map(|(name, value)| (name.to_owned(), rebuild(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Accepted exactly when `serde_json` accepts and the contract's depth holds; same values.
    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let theirs = serde_json::from_str::<serde_json::Value>(text).ok().filter(|value| depth(value) <= DEPTH_MAX);
        let ours = with_document(text.as_bytes(), |document| rebuild(document.root)).ok();
        match (&ours, &theirs) {
            // serde_json reads `-0` as a float.
            (Some(ours), Some(theirs)) => prop_assert!(same(ours, theirs), "{text:?}: {ours} is not {theirs}"),
            (None, None) => {}
            _ => prop_assert!(false, "{text:?}: ours {ours:?}, theirs {theirs:?}"),
        }
        Ok(())
    }

    fn same(ours: &serde_json::Value, theirs: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (ours, theirs) {
            (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64() == b.as_f64() && a.as_f64() == Some(0.0)),
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
            }
            _ => ours == theirs,
        }
    }

    fn document() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        ];
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            number,
            any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
            "\"(\\\\u[0-9a-fA-F]{4}|\\\\[\"\\\\/bfnrt]|[a-z]){0,8}\"",
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec(("[a-c]{1,2}", inner), 0..6).prop_map(|members| {
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::test_cases(20_000)))]

        #[test]
        fn accepts_exactly_what_serde_json_accepts(text in document()) {
            agrees(&text)?;
        }

        #[test]
        fn agrees_on_documents_with_one_byte_changed(text in document(), at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                agrees(&text)?;
            }
        }

        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let accepted = with_document(&bytes, |_| ()).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes));
            prop_assert_eq!(accepted, theirs.is_ok());
        }
    }

    #[test]
    fn nesting_of_64_passes_and_65_does_not() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(parse(&nested(64)), Ok(()));
        assert_eq!(parse(&nested(65)), Err(JsonError::TooDeep));
        assert_eq!(parse(&"[".repeat(30_000)), Err(JsonError::TooDeep));
        let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert_eq!(parse(&objects(64)), Ok(()));
        assert_eq!(parse(&objects(65)), Err(JsonError::TooDeep));
    }

    #[test]
    fn a_number_beyond_f64_is_refused_as_such() {
        assert_eq!(parse("{\"n\":1e400}"), Err(JsonError::NumberRange));
        assert_eq!(parse(&format!("{{\"n\":{}}}", "9".repeat(400))), Err(JsonError::NumberRange));
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        for (body, told) in [
            ("{'a':1}", "line 1, column 2: a name in double quotes belongs here, or the comma before it is too many"),
            (
                "{\n \"a\": 1,\n}",
                "line 3, column 1: a name in double quotes belongs here, or the comma before it is too many",
            ),
            ("{} x", "line 1, column 4: something follows its end"),
            ("{\"a\":", "line 1, column 5: it ends too early"),
        ] {
            assert_eq!(parse(body).unwrap_err().to_string(), format!("the body is not valid JSON: {told}"), "{body}");
        }
        for (body, told) in [
            ("{\"a\" 1}", "a colon belongs here"),
            (
                r#"{"a": "\ud800"}"#,
                "line 1, column 14: half of a pair of \\u escapes; without the other half it is no character",
            ),
            (r#"{"a": "\udc00"}"#, "without the other half it is no character"),
            ("{\"a\": 1 \"b\": 2}", "a comma or a closing bracket belongs here"),
            ("{\"a\": x}", "no value begins so; a text stands in double quotes"),
            ("{\"a\": \"x\ny\"}", "a line break or tab inside a text; write \\n or \\t"),
            ("{\"a\": \"c:\\d\"}", "no such escape; a backslash is written \\\\"),
        ] {
            assert!(parse(body).unwrap_err().to_string().ends_with(told), "{body}");
        }
    }

    #[test]
    fn one_byte_order_mark_is_stripped_and_a_second_is_not() {
        assert_eq!(parse("\u{FEFF}{}"), Ok(()));
        assert!(parse("\u{FEFF}\u{FEFF}{}").is_err());
    }

    #[test]
    fn the_last_of_a_repeated_name_wins_here_and_in_its_source() {
        let text = r#"{"a": 1.50, "b": {"c": [1, "x y", 2.0]}, "a": 2.50}"#;
        with_document(text.as_bytes(), |document| {
            let last = document.root.member("a").unwrap();
            assert_eq!(document.number_text(last, &["a"]).as_deref(), Some("2.50"));
            assert_eq!(document.source(&["b", "c"]).as_deref(), Some(r#"[1,"x y",2.0]"#));
        })
        .unwrap();
    }

    #[test]
    fn huge_integers_keep_their_digits() {
        with_document(b"{\"event_id\": 12345678901234567890123}", |document| {
            let value = document.root.member("event_id").unwrap();
            assert_eq!(document.number_text(value, &["event_id"]).as_deref(), Some("12345678901234567890123"));
        })
        .unwrap();
    }

    #[test]
    fn a_thread_parses_inside_a_parse() {
        with_document(b"[1]", |_| with_document(b"[2]", |_| ()).unwrap()).unwrap();
    }
}
