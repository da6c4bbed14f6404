//! TOML text to a tree, by the `toml` crate's document, whose keys and values carry their spans.
//!
//! The lexer is asked besides for what the document does not hold: comments and repeated headers can be secrets in the
//! wrong place, and snippets must hide them.

use std::ops::Range;

use ::toml::Spanned;
use ::toml::de::{DeInteger, DeTable, DeValue, Error};
use toml_parser::lexer::TokenKind;

use super::lines::Lines;
use super::{DEPTH_MAX, Entry, Node, Origin, Scalar, Value};
use crate::config::keys;
use crate::config::report::{Place, Report, Wrong, quote};

pub(super) fn parse(report: &mut Report, source: usize, text: &str) -> Option<Node> {
    let lines = Lines::new(source, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report.set_scalars(source, None);
        errors.iter().for_each(|error| refuse(report, &lines, text, error));
        return None;
    }
    let mut builder = Builder { lines, report, scalars: Vec::new() };
    let place = builder.lines.place(0..0);
    let entries = builder.map(root.get_ref(), DEPTH_MAX);
    let mut scalars = builder.scalars;
    hide_the_rest(text, &mut scalars);
    report.set_scalars(source, Some(scalars));
    Some(Node { place, value: Value::Map(entries?) })
}

fn refuse(report: &Report, lines: &Lines, text: &str, error: &Error) {
    if report.is_full() {
        return report.error(Place::default(), Wrong::value(""));
    }
    let span = error.span().unwrap_or_default();
    let place = lines.place(text.floor_char_boundary(span.start)..text.floor_char_boundary(span.end));
    let message = error.message().trim_end_matches(", expected nothing");
    if message.starts_with("duplicate key") {
        let key = text.get(place.start..place.end).filter(|key| keys::is_name(key));
        let name = key.map_or("this key".to_owned(), quote);
        let wrong = Wrong::value(format!("{name} already stands above")).code("duplicate_key");
        return report.error(place, wrong.hint("keep one of the two"));
    }
    let hint = if message.contains("recursion") {
        "no key is that deep"
    } else if ["unclosed", "missing", "extra", "newline"].iter().any(|word| message.contains(word)) {
        "check quotes and brackets here and just before; each line has one key = value"
    } else {
        "texts stand in quotes, durations and sizes with a unit too: timeout = \"10s\""
    };
    report.error(place, Wrong::value(message).code("syntax").hint(hint));
}

struct Builder<'t, 'r> {
    lines: Lines<'t>,
    report: &'r Report,
    scalars: Vec<Range<usize>>,
}

impl Builder<'_, '_> {
    fn map(&mut self, table: &DeTable, depth: usize) -> Option<Vec<Entry>> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| self.entry(key, value, depth);
        table.iter().map(entry).collect()
    }

    fn entry(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue>,
        depth: usize,
    ) -> Option<Entry> {
        self.scalars.push(key.span());
        let place = self.lines.place(key.span());
        let value = self.node(value, place, depth)?;
        Some(Entry { key: key.get_ref().clone().into_owned(), place, value })
    }

    /// `key`: where the key stands that leads here.
    fn node(&mut self, value: &Spanned<DeValue>, key: Place, depth: usize) -> Option<Node> {
        // A table that only headers of others imply has no span.
        let place = if value.span().is_empty() { key } else { self.lines.place(value.span()) };
        if depth == 0 {
            self.report.error(place, Wrong::value("nested too deeply").code("syntax").hint("no key is that deep"));
            return None;
        }
        let scalar = |text: String, plain| Value::Scalar(Scalar { text, plain, origin: Origin::Written });
        let is_single = !matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_));
        if is_single {
            self.scalars.push(value.span());
        }
        let value = match value.get_ref() {
            DeValue::String(text) => scalar(text.clone().into_owned(), false),
            DeValue::Integer(number) => scalar(decimal(number), true),
            DeValue::Float(number) => scalar(number.as_str().to_owned(), true),
            DeValue::Boolean(value) => scalar(value.to_string(), true),
            DeValue::Datetime(time) => scalar(time.to_string(), true),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item, place, depth - 1)).collect::<Option<_>>()?)
            }
            DeValue::Table(table) => Value::Map(self.map(table, depth - 1)?),
        };
        Some(Node { place, value })
    }
}

/// As people read it: `0x10` is 16.
fn decimal(number: &DeInteger) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => value.to_string(),
        Err(_) => number.as_str().to_owned(),
    }
}

/// Adds comments, and words that no key or value of the document covers and that are no known key.
fn hide_the_rest(text: &str, scalars: &mut Vec<Range<usize>>) {
    scalars.sort_by_key(|range| range.start);
    let covered = scalars.len();
    for token in toml_parser::Source::new(text).lex() {
        let span = token.span();
        let range = span.start()..span.end();
        let is_word = matches!(
            token.kind(),
            TokenKind::Atom
                | TokenKind::LiteralString
                | TokenKind::BasicString
                | TokenKind::MlLiteralString
                | TokenKind::MlBasicString
        );
        let known = scalars.get(..covered).unwrap_or_default();
        let at = known.partition_point(|scalar| scalar.end <= range.start);
        let is_covered = known.get(at).is_some_and(|scalar| scalar.start <= range.start);
        let is_hidden = is_word && !is_covered && !text.get(range.clone()).is_some_and(keys::is_name);
        if is_hidden || token.kind() == TokenKind::Comment {
            scalars.push(range);
        }
    }
}
