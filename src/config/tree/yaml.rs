//! YAML text to a tree. The only home of the YAML parser.
//!
//! What a configuration does not need is refused, as it only helps an attacker or hides a mistake: anchors and
//! aliases (a short file can expand to gigabytes), tags, a second document, repeated keys, deep nesting.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, options};

use super::{DEPTH_MAX, Entry, Node, Origin, Scalar, Value, repeated};
use crate::config::report::{Place, Report, Wrong};

/// Parses the source; `None` where it is no YAML (reported).
pub(super) fn parse(report: &mut Report, source: usize, text: &str) -> Option<Node> {
    let options = options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        // Kept out of snippets: `credential: #secret` is a comment.
        emit_comments: true,
        max_buffered_comment_events: usize::MAX,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, report, source, scalars: Vec::new(), stopped: false };
    let root = builder.document();
    let Builder { scalars, stopped, .. } = builder;
    report.set_scalars(source, (!stopped).then_some(scalars));
    root.filter(|_| !stopped)
}

struct Builder<'s, 'r> {
    parser: Parser<'s, StrInput<'s>>,
    report: &'r Report,
    source: usize,
    scalars: Vec<Range<usize>>,
    /// A syntax error was reported: nothing more comes.
    stopped: bool,
}

impl<'s> Builder<'s, '_> {
    fn place(&self, span: &Span) -> Place {
        Place {
            source: self.source,
            start: span.start.byte_offset().unwrap_or(0),
            end: span.end.byte_offset().unwrap_or(0),
            line: span.start.line(),
            column: span.start.col(),
        }
    }

    /// The next event of the tree itself; tags, anchors and comments are noted here, as they can be secrets
    /// written without quotes.
    fn next(&mut self) -> Option<(Event<'s>, Place)> {
        while !self.stopped {
            let (event, span) = match self.parser.next()? {
                Ok(next) => next,
                Err(error) => {
                    self.stop(&error);
                    break;
                }
            };
            let place = self.place(&span);
            if let Some(tag) = span.tag_start().and_then(|mark| mark.byte_offset()) {
                self.scalars.push(tag..place.start.max(tag));
            }
            match event {
                Event::Comment(..) => self.scalars.push(place.start..place.end),
                Event::Anchor(..) => {
                    self.scalars.push(place.start..place.end);
                    self.refuse(place, "anchors are not supported", "quote a text that begins with \"&\"");
                }
                event => return Some((event, place)),
            }
        }
        None
    }

    fn stop(&mut self, error: &ScanError) {
        self.stopped = true;
        let mark = *error.marker();
        let place = self.place(&Span::new(mark, mark));
        let line = self.report.line_before(place);
        let hint = if line.rsplit_once("${").is_some_and(|(_, inner)| !inner.contains(['}', '"', '\''])) {
            "inside { } and [ ] a variable needs quotes: \"${NAME}\""
        } else if error.info().contains("directive") {
            "remove the line that begins with %"
        } else if line.trim().is_empty() && line.contains('\t') || error.info().contains("tab") {
            "indent with spaces: YAML takes no tabs there"
        } else if error.info().contains("'-' indicator") {
            "keys of one entry stand in one column, the first of them behind the dash"
        } else {
            "check indentation, quotes and brackets here and just above; a colon needs a space behind it"
        };
        self.report.error(place, Wrong::value(plain(&error.info())).code("syntax").hint(hint));
    }

    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        let mut documents = 0;
        while let Some((event, place)) = self.next() {
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        let wrong = Wrong::value("a second document in one file").code("syntax");
                        self.report.error(place, wrong.hint("pass several files with --config instead"));
                        break;
                    }
                }
                event => root = self.node(event, place),
            }
        }
        let empty = Place { source: self.source, line: 1, ..Place::default() };
        Some(root.unwrap_or(Node { place: empty, value: Value::Map(Vec::new()) }))
    }

    /// The node that `event` begins; `None` after a syntax error. Recursion is bounded by the parser's limits.
    fn node(&mut self, event: Event<'s>, place: Place) -> Option<Node> {
        if event.tag().is_some() {
            self.refuse(place, "tags are not supported", "remove the word that begins with \"!\"");
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                self.scalars.push(place.start..place.end);
                Value::Scalar(Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                    origin: Origin::Written,
                })
            }
            Event::SequenceStart(..) => Value::List(self.list()?),
            Event::MappingStart(..) => Value::Map(self.map()?),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                // Perhaps a secret that begins with an asterisk.
                self.scalars.push(place.start..place.end);
                self.refuse(
                    place,
                    "aliases are not supported",
                    "write the value out; quote a text that begins with \"*\"",
                );
                Value::Scalar(Scalar { text: String::new(), plain: true, origin: Origin::Broken })
            }
            _ => return None,
        };
        // A block mapping begins at its first key: point at the whole key.
        let place = match &value {
            Value::Map(entries) => {
                entries.first().filter(|first| first.place.start == place.start).map(|first| first.place)
            }
            _ => None,
        }
        .unwrap_or(place);
        Some(Node { place, value })
    }

    fn list(&mut self) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(items),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn map(&mut self) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Some(entries);
            }
            let key = self.node(event, place)?;
            let (event, place) = self.next()?;
            let value = self.node(event, place)?;
            let Value::Scalar(Scalar { text, .. }) = key.value else {
                self.refuse(key.place, "a key must be a single word", "write \"key: value\"");
                continue;
            };
            if let Some(line) = lines.get(&text) {
                repeated(self.report, &text, key.place, *line);
                continue;
            }
            lines.insert(text.clone(), key.place.line);
            entries.push(Entry { key: text, place: key.place, value });
        }
    }

    fn refuse(&self, place: Place, message: &str, hint: &str) {
        self.report.error(place, Wrong::value(message).code("syntax").hint(hint));
    }
}

/// What the parser says, in the words of whoever writes the file.
fn plain(info: &str) -> &str {
    const WORDS: [(&str, &str); 7] = [
        (
            "did not find expected '-' indicator",
            "this line is indented like nothing above it: no entry of the list, no key of one",
        ),
        ("did not find expected key", "this line is indented like nothing above it: no key begins in this column"),
        (
            "mapping values are not allowed",
            "a colon where no key can stand: indented too deep, or a text that needs quotes",
        ),
        ("tabs disallowed", "a tab in the indentation"),
        ("found a tab", "a tab in the indentation"),
        ("expected ',' or ']'", "a list in [ ] that goes on without a comma"),
        ("expected ',' or '}'", "a mapping in { } that goes on without a comma"),
    ];
    WORDS.iter().find(|(said, _)| info.contains(said)).map_or(info, |(_, plain)| *plain)
}
