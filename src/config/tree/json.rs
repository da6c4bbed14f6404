//! JSON text to a tree, by `serde_json`: raw values are slices of the text, so each knows its own place.
//!
//! Strict: no comments, no trailing commas. The whole text is judged once; then each level is opened by itself, so the
//! depth of the recursion is ours to bound, and a key that stands twice is seen.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lines::Lines;
use super::{DEPTH_MAX, Entry, Node, Origin, Scalar, Value, repeated};
use crate::config::report::{Report, Wrong};

pub(super) fn parse(report: &mut Report, source: usize, text: &str) -> Option<Node> {
    let mut builder = Builder { text, lines: Lines::new(source, text), report, scalars: Vec::new(), stopped: false };
    let root = if text.trim().is_empty() {
        Some(Node { place: builder.lines.place(0..0), value: Value::Map(Vec::new()) })
    } else {
        builder.root()
    };
    let Builder { scalars, stopped, .. } = builder;
    report.set_scalars(source, (!stopped).then_some(scalars));
    root.filter(|_| !stopped)
}

struct Builder<'t, 'r> {
    text: &'t str,
    lines: Lines<'t>,
    report: &'r Report,
    scalars: Vec<Range<usize>>,
    /// A syntax error was reported.
    stopped: bool,
}

impl<'t> Builder<'t, '_> {
    fn root(&mut self) -> Option<Node> {
        let whole: Result<&'t RawValue, _> = serde_json::from_str(self.text);
        match whole {
            Ok(raw) => self.node(raw.get(), DEPTH_MAX),
            Err(error) => self.stop(0, &error),
        }
    }

    /// Where a slice of the text stands.
    fn range(&self, raw: &str) -> Range<usize> {
        let start = (raw.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + raw.len()
    }

    /// `base`: where the text begins that the library complains of.
    fn stop<T>(&mut self, base: usize, error: &serde_json::Error) -> Option<T> {
        let begin = self.lines.place(base..base);
        // Lines and columns are those of the slice; only its first line begins elsewhere.
        let at = match error.line() {
            0 | 1 => base + error.column().saturating_sub(1),
            line => self.lines.offset(begin.line + line - 1, error.column()),
        };
        let at = self.text.floor_char_boundary(at);
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let hint = match self.text.get(at..).unwrap_or_default().chars().next() {
            _ if message.contains("escape") || message.contains("surrogate") => {
                "write \\\\ for a backslash; \\u takes four hex digits, and two of them for a character beyond ffff"
            }
            Some('}' | ']') if !message.starts_with("expected `,`") => "remove the comma before it",
            Some('/' | '#') => "JSON has no comments; in a file that ends in .yaml they begin with #",
            Some('\'') => "texts stand in double quotes",
            _ => "check commas, quotes and brackets here and just before",
        };
        self.report.error(self.lines.place(at..at), Wrong::value(message).code("syntax").hint(hint));
        self.stopped = true;
        None
    }

    fn node(&mut self, raw: &'t str, depth: usize) -> Option<Node> {
        let range = self.range(raw);
        let place = self.lines.place(range.clone());
        if depth == 0 {
            self.report.error(place, Wrong::value("nested too deeply").code("syntax").hint("no key is that deep"));
            self.stopped = true;
            return None;
        }
        let value = match raw.as_bytes().first() {
            Some(b'{') => Value::Map(self.map(raw, depth)?),
            Some(b'[') => {
                let items: Vec<&'t RawValue> = self.open(raw)?;
                Value::List(items.into_iter().map(|item| self.node(item.get(), depth - 1)).collect::<Option<_>>()?)
            }
            first => {
                let plain = first != Some(&b'"');
                let text = if plain { raw.to_owned() } else { self.open(raw)? };
                self.scalars.push(range);
                Value::Scalar(Scalar { text, plain, origin: Origin::Written })
            }
        };
        Some(Node { place, value })
    }

    fn map(&mut self, raw: &'t str, depth: usize) -> Option<Vec<Entry>> {
        let Members(members) = self.open(raw)?;
        let mut entries = Vec::with_capacity(members.len());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (name, value) in members {
            let range = self.range(name.get());
            let place = self.lines.place(range.clone());
            self.scalars.push(range);
            let key: String = self.open(name.get())?;
            let value = self.node(value.get(), depth - 1)?;
            match seen.insert(key.clone(), place.line) {
                Some(line) => repeated(self.report, &key, place, line),
                None => entries.push(Entry { key, place, value }),
            }
        }
        Some(entries)
    }

    fn open<T: Deserialize<'t>>(&mut self, raw: &'t str) -> Option<T> {
        serde_json::from_str(raw).or_else(|error| self.stop(self.range(raw).start, &error).ok_or(())).ok()
    }
}

/// The members of an object as they stand, repeated ones too.
struct Members<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'t> Deserialize<'t> for Members<'t> {
    fn deserialize<D: Deserializer<'t>>(from: D) -> Result<Self, D::Error> {
        struct Gather;
        impl<'t> Visitor<'t> for Gather {
            type Value = Members<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Gather)
    }
}
