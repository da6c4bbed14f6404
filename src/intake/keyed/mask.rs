//! The key of a body, overwritten with `*` of equal length (DESIGN 2.8): the value of every top-level member that holds
//! keys, whatever it says, and the key itself in any other text, however either is escaped. What is no text stays as it
//! is, so that the body stays the JSON it was.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use crate::dialect;

/// Shorter keys stand in too many words to be looked for inside them; the keys that the proxy makes have 32 bytes.
const KEY_BYTES_INSIDE_MIN: usize = 16;

/// A body without its key.
pub(super) struct Masked {
    pub(super) body: Bytes,
    /// The key stood in other texts too.
    pub(super) beside: bool,
}

/// `body` is JSON, an object.
pub(super) fn masked(body: &Bytes, key: &str) -> Masked {
    let mut masked = BytesMut::from(&**body);
    let finder = (key.len() >= KEY_BYTES_INSIDE_MIN).then(|| Finder::new(key));
    let mut beside = false;
    for text in Texts::of(body) {
        if text.depth == 1 && text.name.is_some_and(|name| holds_a_key(&body[name])) {
            masked[text.place].fill(b'*');
        } else if let Some(finder) = &finder {
            for found in places(&body[text.place.clone()], finder) {
                masked[text.place.start + found.start..text.place.start + found.end].fill(b'*');
                beside = true;
            }
        }
    }
    Masked { body: masked.freeze(), beside }
}

/// Whether some dialect's key stands in the member of this name, as it is written.
fn holds_a_key(name: &[u8]) -> bool {
    let read = Unescaped::of(name);
    dialect::keys_in_bodies().any(|member| member.as_bytes() == read.bytes)
}

/// Where a text as it is written says what is looked for.
fn places(written: &[u8], finder: &Finder<'_>) -> Vec<Range<usize>> {
    let length = finder.needle().len();
    if memchr(b'\\', written).is_none() {
        return finder.find_iter(written).map(|at| at..at + length).collect();
    }
    let read = Unescaped::of(written);
    finder.find_iter(&read.bytes).map(|at| read.starts[at]..read.starts[at + length]).collect()
}

/// A text in JSON.
struct Text {
    /// Between its quotes.
    place: Range<usize>,
    /// How many objects and lists it stands in.
    depth: usize,
    /// Of the member whose value it is.
    name: Option<Range<usize>>,
}

/// The texts of a body that is known to be JSON, names of members too.
struct Texts<'b> {
    body: &'b [u8],
    at: usize,
    depth: usize,
    last: Option<Range<usize>>,
    name: Option<Range<usize>>,
}

impl<'b> Texts<'b> {
    fn of(body: &'b [u8]) -> Self {
        Self { body, at: 0, depth: 0, last: None, name: None }
    }

    /// Past the closing quote of the text that begins here.
    fn end_of(&self, from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            at += memchr2(b'"', b'\\', self.body.get(at..)?)?;
            if self.body[at] == b'"' {
                return Some(at);
            }
            at += 2;
        }
    }
}

impl Iterator for Texts<'_> {
    type Item = Text;

    fn next(&mut self) -> Option<Text> {
        loop {
            let byte = *self.body.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => {
                    let place = self.at..self.end_of(self.at)?;
                    self.at = place.end + 1;
                    self.last = Some(place.clone());
                    return Some(Text { place, depth: self.depth, name: self.name.take() });
                }
                b':' => self.name = self.last.take(),
                b',' => self.name = None,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.name = None;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// A text without its escapes.
struct Unescaped {
    bytes: Vec<u8>,
    /// Where what became each byte begins, and the end.
    starts: Vec<usize>,
}

impl Unescaped {
    fn of(written: &[u8]) -> Self {
        let mut read = Self { bytes: Vec::with_capacity(written.len()), starts: Vec::with_capacity(written.len() + 1) };
        let mut at = 0;
        while let Some(&byte) = written.get(at) {
            let (character, length) = match (byte, written.get(at + 1)) {
                (b'\\', Some(b'u')) => unit(written, at),
                (b'\\', Some(escape)) => (escaped(*escape), 2),
                _ => {
                    read.bytes.push(byte);
                    read.starts.push(at);
                    at += 1;
                    continue;
                }
            };
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                read.bytes.push(byte);
                read.starts.push(at);
            }
            at += length;
        }
        read.starts.push(written.len());
        read
    }
}

const fn escaped(escape: u8) -> char {
    match escape {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => other as char,
    }
}

/// The character of the `\uXXXX` that begins at `at`, or of the pair of them, and its length.
fn unit(written: &[u8], at: usize) -> (char, usize) {
    let digits = |at: usize| {
        let text = std::str::from_utf8(written.get(at + 2..at + 6)?).ok()?;
        u32::from_str_radix(text, 16).ok().filter(|_| written[at] == b'\\')
    };
    let replaced = char::REPLACEMENT_CHARACTER;
    match digits(at) {
        Some(high @ 0xD800..0xDC00) => {
            let low = digits(at + 6).filter(|low| (0xDC00..0xE000).contains(low));
            let whole = low.and_then(|low| char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
            (whole.unwrap_or(replaced), if whole.is_some() { 12 } else { 6 })
        }
        Some(code) => (char::from_u32(code).unwrap_or(replaced), 6),
        None => (replaced, 2),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn mask(body: &str) -> (String, bool) {
        let masked = masked(&Bytes::from(body.to_owned()), KEY);
        assert_eq!(masked.body.len(), body.len());
        (String::from_utf8(masked.body.to_vec()).unwrap(), masked.beside)
    }

    #[test]
    fn every_member_that_holds_keys_is_overwritten_whatever_it_says_and_no_deeper_one() {
        let body = "\u{feff}{\"routing_key\":\"old \\\" \\u0041\", \"a\":{\"routing_key\":\"no key\"},\
                    \"service_key\" : \"other\",\"routing_key\":5,\"r\\u006futing_key\":\"x\"}";
        let wanted = "\u{feff}{\"routing_key\":\"*************\", \"a\":{\"routing_key\":\"no key\"},\
                      \"service_key\" : \"*****\",\"routing_key\":5,\"r\\u006futing_key\":\"*\"}";
        assert_eq!(mask(body), (wanted.to_owned(), false));
    }

    #[test]
    fn the_key_is_overwritten_in_every_text_however_it_is_written() {
        let stars = "*".repeat(32);
        let escaped = KEY.replace('a', "\\u0061");
        for (body, wanted) in [
            (
                format!(r#"{{"routing_key":"{KEY}","t":"is {KEY}!"}}"#),
                format!(r#"{{"routing_key":"{stars}","t":"is {stars}!"}}"#),
            ),
            (
                format!(r#"{{"{KEY}":[{{"x":"\n\"{escaped}\\"}}]}}"#),
                format!(r#"{{"{stars}":[{{"x":"\n\"{}\\"}}]}}"#, "*".repeat(escaped.len())),
            ),
        ] {
            assert_eq!(mask(&body), (wanted, true), "{body}");
        }
        let other = KEY.to_uppercase();
        assert_eq!(mask(&format!(r#"{{"a":"{other}"}}"#)), (format!(r#"{{"a":"{other}"}}"#), false));
    }

    #[test]
    fn a_short_key_is_not_looked_for_in_words() {
        let masked = masked(&Bytes::from_static(br#"{"routing_key":"event","event_action":"event"}"#), "event");
        assert_eq!(&*masked.body, br#"{"routing_key":"*****","event_action":"event"}"#);
        assert!(!masked.beside);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof![
            ".{0,6}",
            Just(KEY.to_owned()),
            (".{0,4}", ".{0,4}").prop_map(|(before, after)| format!("{before}{KEY}{after}")),
        ];
        let leaf =
            prop_oneof![text.clone().prop_map(serde_json::Value::from), any::<i64>().prop_map(serde_json::Value::from)];
        leaf.prop_recursive(4, 20, 4, move |inner| {
            let name = prop_oneof![text.clone(), Just("routing_key".to_owned())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same JSON with some characters written as escapes.
    fn with_escapes(json: &str, seed: u64) -> String {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut out, mut inside) = (String::new(), false);
        let mut rest = json;
        while let Some(character) = rest.chars().next() {
            let escape = if rest.starts_with("\\u") { 6 } else { 2 };
            let length = if character == '\\' { escape } else { character.len_utf8() };
            let (token, after) = rest.split_at(length);
            inside ^= character == '"';
            if inside && character != '\\' && character.is_alphanumeric() && random.u8(..4) == 0 {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units).iter();
                out.extend(units.map(|unit| format!("\\u{unit:04x}")));
            } else {
                out.push_str(token);
            }
            rest = after;
        }
        out
    }

    proptest! {
        #[test]
        fn a_masked_body_is_the_same_json_without_the_key(value in value(), seed: u64) {
            let object = serde_json::json!({ "routing_key": KEY, "rest": value });
            let body = with_escapes(&object.to_string(), seed);
            let (masked, _) = mask(&body);
            let read: serde_json::Value = serde_json::from_str(&masked).unwrap();
            prop_assert!(!read.to_string().contains(KEY), "{}", masked);
            // A text that is written longer is masked longer: of the rest only texts with the key differ.
            fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
                use serde_json::Value;
                match (one, other) {
                    (Value::String(one), _) if one.contains(KEY) => other.is_string(),
                    (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
                    (Value::Object(one), Value::Object(other)) => {
                        one.len() == other.len()
                            && one.iter().filter(|(name, _)| !name.contains(KEY)).all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
                    }
                    (one, other) => one == other,
                }
            }
            prop_assert!(same(&object["rest"], &read["rest"]), "{}\n{}", body, masked);
        }
    }
}
