//! YAML text to a JSON value, with the place of each node, so that an error can point at it. Anchors, aliases, tags and
//! second documents are refused: a scenario needs none. Called by `scenario.rs`.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use super::Wrong;

/// Deeper nesting is a mistake.
const DEPTH_AT_MOST: usize = 64;

/// Line and column, both from 1.
type At = (usize, usize);

/// A text's value and where its nodes stand.
pub(super) struct Document {
    pub(super) value: Value,
    /// By JSON pointer. Of a member, the place of its key.
    places: HashMap<String, At>,
}

impl Document {
    /// An error at a node, or at the nearest node around it that was written.
    pub(super) fn wrong(&self, pointer: &str, what: String) -> Wrong {
        let mut pointer = pointer;
        let (line, column) = loop {
            if let Some(place) = self.places.get(pointer) {
                break *place;
            }
            match pointer.rfind('/') {
                Some(at) => pointer = &pointer[..at],
                None => break (1, 1),
            }
        };
        Wrong { line, column, what }
    }
}

/// Reads the text.
pub(super) fn parse(text: &str) -> Result<Document, Wrong> {
    let mut reader = Reader { parser: Parser::new_from_str(text), places: HashMap::new() };
    let mut value = Value::Null;
    let mut documents = 0;
    while let Some((event, place)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => {}
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(wrong(place, "a second document in one file"));
                }
            }
            event => value = reader.node(event, place, "", 0)?,
        }
    }
    Ok(Document { value, places: reader.places })
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    places: HashMap<String, At>,
}

fn wrong((line, column): At, what: &str) -> Wrong {
    Wrong { line, column, what: what.to_owned() }
}

fn place(span: &Span) -> At {
    // The parser counts columns from 0.
    (span.start.line(), span.start.col() + 1)
}

impl<'t> Reader<'t> {
    /// The next event but comments.
    fn next(&mut self) -> Result<Option<(Event<'t>, At)>, Wrong> {
        loop {
            match self.parser.next() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok(Some((event, place(&span)))),
                Some(Err(error)) => {
                    let mark = error.marker();
                    return Err(wrong((mark.line(), mark.col() + 1), &error.info()));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, at: At, pointer: &str, depth: usize) -> Result<Value, Wrong> {
        if depth > DEPTH_AT_MOST {
            return Err(wrong(at, "nested too deep"));
        }
        self.places.entry(pointer.to_owned()).or_insert(at);
        match event {
            Event::Scalar(text, style, ..) => Ok(scalar(&text, style == ScalarStyle::Plain)),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Some((Event::SequenceEnd, _)) => return Ok(Value::Array(items)),
                        Some((event, at)) => {
                            let pointer = format!("{pointer}/{}", items.len());
                            items.push(self.node(event, at, &pointer, depth + 1)?);
                        }
                        None => return Err(wrong(at, "a list without end")),
                    }
                }
            }
            Event::MappingStart(..) => self.map(at, pointer, depth),
            _ => Err(wrong(at, "anchors, aliases and tags are not supported")),
        }
    }

    fn map(&mut self, at: At, pointer: &str, depth: usize) -> Result<Value, Wrong> {
        let mut members = Map::new();
        loop {
            let (key, key_at) = match self.next()? {
                Some((Event::MappingEnd, _)) => return Ok(Value::Object(members)),
                Some((Event::Scalar(text, ..), at)) => (text.into_owned(), at),
                Some((_, at)) => return Err(wrong(at, "a key must be a single word")),
                None => return Err(wrong(at, "a mapping without end")),
            };
            if members.contains_key(&key) {
                return Err(wrong(key_at, &format!("`{key}` is here twice")));
            }
            let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            self.places.insert(pointer.clone(), key_at);
            let Some((event, at)) = self.next()? else {
                return Err(wrong(key_at, "a key without value"));
            };
            let value = self.node(event, at, &pointer, depth + 1)?;
            members.insert(key, value);
        }
    }
}

/// A plain word is what YAML 1.2's core schema makes of it.
fn scalar(text: &str, plain: bool) -> Value {
    if !plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.replace('_', "").parse::<u64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') => {
            serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
        }
        _ => Value::String(text.to_owned()),
    }
}
