//! From offsets to lines and columns, for the readers whose parser tells only offsets.

use std::ops::Range;

use super::Place;

/// Characters are counted once for each block of so many bytes: a file can be one line of megabytes.
const BLOCK_BYTES: usize = 64;

pub(super) struct Lines<'t> {
    text: &'t [u8],
    source: usize,
    /// Where each line begins.
    begins: Vec<usize>,
    /// Characters before each block.
    before: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(source: usize, text: &'t str) -> Self {
        let text = text.as_bytes();
        let breaks = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let begins = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let before = text
            .chunks(BLOCK_BYTES)
            .scan(0, |sum, block| Some(std::mem::replace(sum, *sum + characters(block))))
            .collect();
        Self { text, source, begins, before }
    }

    /// Characters that begin before this byte.
    fn characters_before(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        let block = at / BLOCK_BYTES;
        match self.before.get(block) {
            Some(before) => before + characters(self.text.get(block * BLOCK_BYTES..at).unwrap_or_default()),
            // The very end of a text of whole blocks.
            None => characters(self.text),
        }
    }

    pub(super) fn place(&self, range: Range<usize>) -> Place {
        let line = self.begins.partition_point(|begin| *begin <= range.start).max(1);
        let begin = self.begins.get(line - 1).copied().unwrap_or_default();
        Place {
            source: self.source,
            start: range.start,
            end: range.end.max(range.start),
            line,
            column: self.characters_before(range.start) - self.characters_before(begin),
        }
    }

    /// The offset of a line and a column in bytes, both from 1; within the text, and where a character begins.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let begin = self.begins.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let mut at = (begin + column.saturating_sub(1)).min(self.text.len());
        while self.text.get(at).is_some_and(|byte| is_inside(*byte)) {
            at -= 1;
        }
        at
    }
}

/// Whether a byte of UTF-8 continues a character.
fn is_inside(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !is_inside(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_as_the_text_has_them() {
        let text = format!("é\n{}é x\n", "ü".repeat(3 * BLOCK_BYTES));
        let lines = Lines::new(7, &text);
        for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let head = &text[..at];
            let begin = head.rfind('\n').map_or(0, |at| at + 1);
            let place = lines.place(at..at);
            assert_eq!((place.line, place.column), (head.matches('\n').count() + 1, head[begin..].chars().count()));
            assert_eq!((place.source, lines.offset(place.line, at - begin + 1)), (7, at));
        }
    }

    #[test]
    fn an_offset_beyond_the_text_is_its_end() {
        let lines = Lines::new(0, "é");
        assert_eq!([lines.offset(1, 2), lines.offset(1, 9), lines.offset(9, 1), lines.offset(0, 0)], [0, 2, 2, 0]);
    }
}
