//! Gathers findings while a configuration is read, and knows what of its text may be shown.
//!
//! A secret can stand anywhere a user mistyped, so a snippet hides every scalar except those that the
//! reader has recognised as harmless.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;

use super::finding::{Errors, Finding, Level, Snippet};
use super::keys;
use super::tree::Format;
pub(super) use crate::spelling::nearest;

/// Findings listed in one run. What a person can work through; bounds the cost of a hostile file.
const FINDINGS_MAX: usize = 100;
/// Longest shown part of a line, in characters.
const SNIPPET_CHARS_MAX: usize = 120;
/// Bytes on either side of a place that can come into its snippet.
const WINDOW_BYTES: usize = 4 * SNIPPET_CHARS_MAX;
/// How the name of a flag's source begins.
pub(super) const FLAG: &str = "flag --set ";
const MASK: &str = "***";

/// Where something stands. Offsets are bytes, `line` from 1, `column` from 0 in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) source: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What a value should have been, told by the one who tried to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self { code: "value", message: message.into(), hint: None }
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

struct Source {
    name: String,
    text: String,
    format: Format,
    /// Scalars in file order.
    scalars: Vec<Range<usize>>,
    /// The text did not parse: nothing is known of its scalars.
    broken: bool,
}

/// One load's findings. Shared by all sections that are open at once, hence the cells.
#[derive(Default)]
pub(super) struct Report {
    sources: Vec<Source>,
    found: RefCell<Vec<(Place, Level, Wrong)>>,
    more: Cell<usize>,
    shown: RefCell<HashSet<(usize, usize)>>,
    /// A file or a flag could not be read: what would be wrong only for want of it is not reported.
    pub(super) is_partial: bool,
    /// Files that the configuration names and that were read for it.
    pub(super) read: RefCell<Vec<PathBuf>>,
    /// Keys that the reader asked for.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<&'static str>>,
}

impl Report {
    /// Adds a text to report on; the answer is its `Place::source`.
    pub(super) fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>, format: Format) -> usize {
        self.sources.push(Source { name: name.into(), text: text.into(), format, scalars: Vec::new(), broken: false });
        self.sources.len() - 1
    }

    /// How a source is written.
    pub(super) fn format(&self, source: usize) -> Format {
        self.sources.get(source).map_or(Format::Yaml, |source| source.format)
    }

    /// The file, or what else it is called in findings.
    pub(super) fn name(&self, source: usize) -> &str {
        self.sources.get(source).map_or("", |source| &source.name)
    }

    /// Whether it is a flag's value: its lines mean nothing to people.
    pub(super) fn is_flag(&self, source: usize) -> bool {
        self.name(source).starts_with(FLAG)
    }

    /// Hands over where a source's scalars stand; `None`: it did not parse.
    pub(super) fn set_scalars(&mut self, source: usize, scalars: Option<Vec<Range<usize>>>) {
        if let Some(source) = self.sources.get_mut(source) {
            source.broken = scalars.is_none();
            source.scalars = scalars.unwrap_or_default();
            source.scalars.sort_by_key(|range| range.start);
        }
    }

    /// The bytes at `place`, as written.
    pub(super) fn written(&self, place: Place) -> &str {
        self.sources.get(place.source).and_then(|source| source.text.get(place.start..place.end)).unwrap_or_default()
    }

    /// What stands on the line of `place` before it, and the character there.
    pub(super) fn line_before(&self, place: Place) -> &str {
        let text = self.sources.get(place.source).map_or("", |source| source.text.as_str());
        let end = text.ceil_char_boundary(place.start.saturating_add(1));
        let begin = text.floor_char_boundary(end.saturating_sub(WINDOW_BYTES));
        let head = text.get(begin..end).unwrap_or_default().trim_end_matches('\n');
        head.rsplit('\n').next().unwrap_or_default()
    }

    /// The scalar at `place` is no secret.
    pub(super) fn show(&self, place: Place) {
        self.shown.borrow_mut().insert((place.source, place.start));
    }

    #[cfg(test)]
    pub(super) fn note_asked(&self, path: &'static str) {
        self.asked.borrow_mut().insert(path);
    }

    pub(super) fn error(&self, place: Place, wrong: Wrong) {
        if self.is_full() {
            self.more.set(self.more.get() + 1);
        } else {
            self.found.borrow_mut().push((place, Level::Error, wrong));
        }
    }

    pub(super) fn warning(&self, place: Place, wrong: Wrong) {
        if !self.is_full() {
            self.found.borrow_mut().push((place, Level::Warning, wrong));
        }
    }

    /// Further errors are only counted: no need to work out a hint.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().len() >= FINDINGS_MAX
    }

    pub(super) fn has_errors(&self) -> bool {
        self.more.get() > 0 || self.found.borrow().iter().any(|(_, level, _)| *level == Level::Error)
    }

    /// The warnings, or everything when there is an error.
    pub(super) fn finish(self) -> Result<Vec<Finding>, Errors> {
        let all = self.into_errors();
        if all.count() > 0 { Err(all) } else { Ok(all.findings) }
    }

    pub(super) fn into_errors(self) -> Errors {
        Errors { findings: self.findings(), more: self.more.get() }
    }

    /// What was found so far, in file order.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found = self.found.take();
        // Stable: two findings at one place stay in the order in which they were made.
        found.sort_by_key(|(place, ..)| *place);
        found.into_iter().map(|(place, level, wrong)| self.finding(place, level, wrong)).collect()
    }

    pub(super) fn finding(&self, place: Place, level: Level, Wrong { code, message, hint }: Wrong) -> Finding {
        let source = self.sources.get(place.source);
        Finding {
            level,
            code,
            message,
            file: source.map(|source| source.name.clone()).unwrap_or_default(),
            line: place.line,
            column: if place.line == 0 { 0 } else { place.column + 1 },
            hint,
            snippet: source.filter(|_| place.line > 0).and_then(|source| self.snippet(source, place)),
        }
    }

    fn snippet(&self, source: &Source, place: Place) -> Option<Snippet> {
        let text = source.text.as_str();
        let begin = text.get(..place.start)?.rfind('\n').map_or(0, |at| at + 1);
        let end = text.get(place.start..)?.find('\n').map_or(text.len(), |at| place.start + at);
        // Of a line of megabytes only the neighbourhood is looked at.
        let begin = begin.max(text.floor_char_boundary(place.start.saturating_sub(WINDOW_BYTES)));
        let end = end.min(text.floor_char_boundary(place.start.saturating_add(WINDOW_BYTES)));
        let line = text.get(begin..end)?.trim_end();
        if line.is_empty() {
            return None;
        }
        let hidden = if source.broken { hide_all(line, begin) } else { self.hidden(source, place.source, begin..end) };

        let mut shown = String::new();
        let (mut width, mut indent, mut carets) = (0, None, 0);
        let mut hidden = hidden.into_iter().peekable();
        for (at, character) in line.char_indices().map(|(at, character)| (begin + at, character)) {
            while hidden.next_if(|range| range.end <= at).is_some() {}
            let masked = hidden.peek().filter(|range| range.start <= at);
            // A hidden scalar that began on an earlier line is masked from this line's first byte.
            let piece = match masked {
                Some(range) if range.start == at || at == begin => MASK,
                Some(_) => "",
                None if character.is_control() => " ",
                None => &line[at - begin..at - begin + character.len_utf8()],
            };
            let covered = at >= place.start && (at < place.end || at == place.start);
            if covered && indent.is_none() {
                // Inside a hidden scalar the carets stand below its mask.
                indent = Some(if piece.is_empty() { width - MASK.len() } else { width });
                carets = if piece.is_empty() { MASK.len() } else { 0 };
            }
            let size = piece.chars().count();
            if covered {
                carets += size;
            }
            shown.push_str(piece);
            width += size;
        }
        Some(cut(shown, indent.unwrap_or(width), carets.max(1)))
    }

    /// The scalars on these bytes that nobody declared harmless.
    fn hidden(&self, source: &Source, index: usize, line: Range<usize>) -> Vec<Range<usize>> {
        let shown = self.shown.borrow();
        let first = source.scalars.partition_point(|range| range.end <= line.start);
        let on_line = source.scalars.iter().skip(first).take_while(|range| range.start < line.end);
        on_line.filter(|range| !shown.contains(&(index, range.start)) && !range.is_empty()).cloned().collect()
    }
}

/// Hides every word of a line that did not parse, except the names of keys.
fn hide_all(line: &str, begin: usize) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut at = 0;
    let is_word = |character: char| !character.is_whitespace() && !"[]{},:=\"'#".contains(character);
    for piece in line.split_inclusive(|character| !is_word(character)) {
        let word = piece.trim_end_matches(|character| !is_word(character));
        if !word.is_empty() && word != "-" && !word.split('.').all(keys::is_name) {
            hidden.push(begin + at..begin + at + word.len());
        }
        at += piece.len();
    }
    hidden
}

/// Keeps the part of a long line around the carets.
fn cut(text: String, indent: usize, carets: usize) -> Snippet {
    let length = text.chars().count();
    if length <= SNIPPET_CHARS_MAX {
        return Snippet { text, indent, carets: carets.min(length.saturating_sub(indent).max(1)) };
    }
    let skipped = indent.saturating_sub(SNIPPET_CHARS_MAX / 2);
    let text: String = text.chars().skip(skipped).take(SNIPPET_CHARS_MAX).collect();
    let indent = indent - skipped;
    Snippet { text, indent, carets: carets.min(SNIPPET_CHARS_MAX.saturating_sub(indent).max(1)) }
}

/// A value in quotes for a message: control characters escaped, long ones cut.
pub(super) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let short: String = text.chars().take(CHARS_MAX).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_did_not_parse_shows_nothing_but_names_of_keys() {
        let mut report = Report::default();
        let text = "  - name: pay\n    keys: [{ key: hunter2";
        let source = report.add_source("a.yaml", text, Format::Yaml);
        report.set_scalars(source, None);
        report.error(
            Place { source, start: text.len(), end: text.len(), line: 2, column: 23 },
            Wrong::value("broken").code("syntax"),
        );
        let shown = report.finish().unwrap_err().to_string();
        assert!(shown.contains("keys: [{ key: ***"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
