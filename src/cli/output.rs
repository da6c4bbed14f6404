//! How the verbs that speak to a running process write: tables that fit a terminal, fields one a line, ages, and
//! nothing from outside that a terminal would obey.

use std::io::{self, IsTerminal, Write};

use crossterm::style::{Color, Stylize};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::event::Micros;
pub(super) use crate::words::{count, span, thousands};

/// Where a verb writes. A reader that went away ends the verb, not the process's good name.
pub(super) type Out<'a> = &'a mut dyn Write;

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// Columns of the terminal; `None` where it is none: nothing is cut then.
    pub(super) width: Option<usize>,
    pub(super) is_coloured: bool,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self { width: None, is_coloured: false };
        }
        let width = crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width).max(1));
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_coloured = set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb");
        Self { width: Some(width), is_coloured }
    }

    /// The text in a colour, where colours are shown.
    pub(super) fn paint(self, text: &str, colour: Color) -> String {
        if self.is_coloured { text.with(colour).to_string() } else { text.to_owned() }
    }
}

/// Text from outside as a terminal may have it, in one line: what would move the cursor or turn the writing is shown
/// as `�`.
pub(super) fn printable(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if harmful(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The text in at most so many columns, its end as `…` where it is longer.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        out.push(character);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// As `fit`, filled up with spaces on the right, or on the left.
pub(super) fn pad(text: &str, width: usize, to_the_right: bool) -> String {
    let text = fit(text, width);
    let space = " ".repeat(width - text.width().min(width));
    if to_the_right { space + &text } else { text + &space }
}

/// A column of a table.
#[derive(Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    is_number: bool,
    /// May be cut where the terminal is narrow.
    is_flexible: bool,
}

impl Column {
    pub(super) const fn text(head: &'static str) -> Self {
        Self { head, is_number: false, is_flexible: false }
    }

    pub(super) const fn number(head: &'static str) -> Self {
        Self { head, is_number: true, is_flexible: false }
    }

    pub(super) const fn flexible(head: &'static str) -> Self {
        Self { head, is_number: false, is_flexible: true }
    }
}

/// A cut cell still says something.
const CELL_WIDTH_MIN: usize = 4;
const GAP: &str = "  ";

/// Rows as lines below the columns' heads, each column as wide as its widest cell, and no line wider than `width`.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let widest = |at: usize| cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max().unwrap_or(0);
    let mut widths: Vec<usize> =
        columns.iter().enumerate().map(|(at, column)| widest(at).max(column.head.width())).collect();
    if let Some(width) = width {
        shrink(columns, &mut widths, width);
    }
    let heads = columns.iter().map(|column| column.head.to_owned()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(columns).zip(&widths);
        let cells: Vec<String> = cells.map(|((cell, column), width)| pad(cell, *width, column.is_number)).collect();
        let line = cells.join(GAP);
        width.map_or_else(|| line.trim_end().to_owned(), |width| fit(line.trim_end(), width))
    };
    std::iter::once(&heads).chain(&cells).map(line).collect()
}

/// Takes from the widest flexible column until the line fits, or nothing more can be taken.
fn shrink(columns: &[Column], widths: &mut [usize], width: usize) {
    loop {
        let line = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let flexible =
            widths.iter_mut().zip(columns).filter(|(width, column)| column.is_flexible && **width > CELL_WIDTH_MIN);
        match flexible.map(|(width, _)| width).max() {
            Some(widest) if line > width => *widest -= 1,
            _ => return,
        }
    }
}

/// The members of an object, one a line; objects and lists in it below their name, further in, and empty ones not.
pub(super) fn fields(out: Out, value: &Value, indent: usize) -> io::Result<()> {
    let Value::Object(members) = value else { return writeln!(out, "{:indent$}{}", "", plain(value)) };
    let is_scalar = |value: &Value| !matches!(value, Value::Object(_) | Value::Array(_));
    let is_empty =
        |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty) || *value == Value::Array(vec![]);
    let names = members.iter().filter(|(_, value)| is_scalar(value)).map(|(name, _)| name.width());
    let widest = names.max().unwrap_or(0);
    for (name, value) in members.iter().filter(|(_, value)| !is_empty(value)) {
        let name = printable(name);
        match value {
            Value::Object(_) => {
                writeln!(out, "{:indent$}{name}", "")?;
                fields(out, value, indent + 2)?;
            }
            Value::Array(items) => {
                writeln!(out, "{:indent$}{name}", "")?;
                items.iter().try_for_each(|item| fields(out, item, indent + 2))?;
            }
            scalar => writeln!(out, "{:indent$}{}  {}", "", pad(&name, widest, false), plain(scalar))?,
        }
    }
    Ok(())
}

/// A value as a cell: text without its quotes, `-` where there is none.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// How long ago an RFC 3339 time was, as `12 s`, `5 min`, `3 h`, `2 d`; what is no time stays as it is.
pub(super) fn ago(at: &Value, now: Micros) -> String {
    let stamp = at.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    stamp.map_or_else(|| plain(at), |stamp| span((now.0 - stamp.as_microsecond()) as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_fits_its_terminal_and_cuts_what_may_be_cut_first() {
        let columns = [Column::text("ID"), Column::flexible("KEY"), Column::number("N"), Column::flexible("MORE")];
        let row = |key: &str, n: &str| vec!["pager-17".to_owned(), key.to_owned(), n.to_owned(), "m".repeat(12)];
        let rows = [row("a rather long key of a disk", "3"), row("ünïcödé 漢字", "1200")];
        let whole = table(&columns, &rows, None);
        assert_eq!(whole[1], format!("pager-17  a rather long key of a disk     3  {}", "m".repeat(12)));
        for width in [60, 40, 31] {
            let lines = table(&columns, &rows, Some(width));
            assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:#?}");
            assert!(lines[1].starts_with("pager-17  a") && lines[2].contains("  1200  "), "{width}: {lines:#?}");
        }
        assert!(table(&columns, &rows, Some(10)).iter().all(|line| line.width() <= 10));
    }

    #[test]
    fn nothing_from_outside_reaches_a_terminal_as_a_command() {
        let key = "a\x1b[2Jb\u{202e}c\r\nd\u{9b}e";
        assert_eq!(printable(key), "a\u{fffd}[2Jb\u{fffd}c  d\u{fffd}e");
        let mut shown = Vec::new();
        fields(&mut shown, &json!({ key: key, "list": [key], "in": { key: [key] } }), 0).unwrap();
        let lines = table(&[Column::text("KEY")], &[vec![key.to_owned()]], None);
        for text in [String::from_utf8(shown).unwrap(), lines.join("\n")] {
            assert!(text.contains('\u{fffd}'));
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[test]
    fn ages_read_well() {
        let now = Micros(1_800_000_000_000_000);
        let at = |seconds: i64| json!(Micros(now.0 - seconds * 1_000_000));
        for (seconds, shown) in [(-5, "0 s"), (99, "99 s"), (100, "2 min"), (7200, "2 h"), (172_800, "2 d")] {
            assert_eq!(ago(&at(seconds), now), shown);
        }
        assert_eq!([ago(&json!("soon"), now), ago(&Value::Null, now)], ["soon", "-"]);
    }
}
