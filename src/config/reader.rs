//! Reads one section of the tree key by key; a wrong value is reported and stands in as its default, so
//! that one run finds every error. Types, bounds and defaults come from the table in `keys`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Fallback, Row, Shape};
use super::report::{Place, Report, Wrong, nearest, quote};
use super::tree::{Entry, Format, Node, Origin, Scalar, Value};
use super::{tell, units};
use crate::dialect;

/// What a key that the table does not know reads as; a test keeps this from happening.
static UNLISTED: Row = Row { path: "", shape: Shape::Section, default: Fallback::Absent, about: "" };

/// A longer unknown key may be a secret that was pasted in the wrong place.
const UNKNOWN_KEY_CHARS_MAX: usize = 24;

pub(super) struct Section<'t> {
    report: &'t Report,
    /// The table's rows of its keys, by their last word.
    rows: &'static [(&'static str, &'static Row)],
    /// The same for people: `integrations[0]`.
    label: String,
    place: Place,
    entries: HashMap<&'t str, &'t Entry>,
    /// What unknown keys probably meant: those are not called missing as well.
    meant: Vec<&'static str>,
    is_given: bool,
    /// Stands there, but is no mapping: that was reported, and nothing in it is missing.
    is_broken: bool,
}

impl<'t> Section<'t> {
    /// The whole configuration.
    pub(super) fn root(report: &'t Report, node: &'t Node) -> Self {
        Self::open(report, "", String::new(), Some(node), node.place)
    }

    /// Opens a section and reports the keys that do not belong there. `at`: where an absent one would stand.
    fn open(report: &'t Report, path: &str, label: String, node: Option<&'t Node>, at: Place) -> Self {
        let node = node.filter(|node| !node.is_null());
        let place = node.map_or(at, |node| node.place);
        let is_given = node.is_some();
        let is_broken = node.is_some_and(|node| !matches!(node.value, Value::Map(_)));
        let mut section = Self {
            report,
            rows: keys::keys_of(path),
            label,
            place,
            entries: HashMap::new(),
            meant: Vec::new(),
            is_given,
            is_broken,
        };
        match node.map(|node| (node, &node.value)) {
            None => {}
            Some((_, Value::Map(entries))) => entries.iter().for_each(|entry| section.take(entry)),
            Some((_, Value::Scalar(Scalar { origin: Origin::Broken, .. }))) => {}
            Some((node, _)) => {
                let what = if section.label.is_empty() { "the configuration" } else { &section.label };
                let wrong = Wrong::value(format!("{what}: expected a mapping, found {}", node.noun())).code("type");
                let example = report.format(place.source).mapping();
                let names = section.rows.iter().map(|(name, _)| *name);
                let is_key = |word: &str| section.rows.iter().any(|(name, _)| *name == word);
                let slip = match &node.value {
                    // An address where its section stands.
                    Value::Scalar(scalar) if is_key("address") && units::address(&scalar.text).is_ok() => {
                        "address: goes before it: "
                    }
                    Value::Scalar(scalar)
                        if scalar.text.split_once(':').is_some_and(|(word, _)| scalar.plain && is_key(word)) =>
                    {
                        "a colon needs a space behind it: "
                    }
                    _ => "",
                };
                let hint = format!("{slip}{example}; its keys: {}", names.collect::<Vec<_>>().join(", "));
                report.error(place, wrong.hint(hint));
            }
        }
        section
    }

    fn take(&mut self, entry: &'t Entry) {
        let named = || self.rows.iter().copied().find(|(name, _)| *name == entry.key);
        if named().is_some() {
            self.report.show(entry.place);
            self.entries.insert(&entry.key, entry);
            return;
        }
        if self.report.is_full() {
            self.report.error(entry.place, Wrong::value(""));
            return;
        }
        let known = || self.rows.iter().copied().map(|(name, _)| name);
        let meant = nearest(&entry.key, self.rows.iter().copied().map(|(name, _)| name));
        let hint = match (keys::home_of(&entry.key), meant) {
            (Some(""), _) => "it stands at the top of the file, not here".to_owned(),
            (Some(home), _) => format!("it belongs to {home}"),
            (None, Some(name)) => format!("did you mean {}?", quote(name)),
            (None, None) => format!("known keys here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.meant.extend(meant);
        let is_harmless = meant.is_some() || entry.key.chars().count() <= UNKNOWN_KEY_CHARS_MAX;
        if is_harmless {
            self.report.show(entry.place);
        }
        let key = if is_harmless { quote(&entry.key) } else { "***".to_owned() };
        self.report.error(entry.place, Wrong::value(format!("unknown key {key}")).code("unknown_key").hint(hint));
    }

    fn row(&self, key: &str) -> &'static Row {
        let row = self.rows.iter().copied().find(|(name, _)| *name == key).map(|(_, row)| row);
        debug_assert!(row.is_some(), "{}.{key} is not in the table", self.label);
        #[cfg(test)]
        row.iter().for_each(|row| self.report.note_asked(row.path));
        row.unwrap_or(&UNLISTED)
    }

    fn name_of(&self, key: &str) -> String {
        if self.label.is_empty() { key.to_owned() } else { format!("{}.{key}", self.label) }
    }

    fn node(&self, key: &str) -> Option<&'t Node> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Whether the section stands in the file, be it empty.
    pub(super) fn is_given(&self) -> bool {
        self.is_given
    }

    pub(super) fn has_errors(&self) -> bool {
        self.report.has_errors()
    }

    /// Further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.report.is_full()
    }

    /// Whether it is no mapping, which was reported.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Where the key's value stands, or the section.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.node(key).map_or(self.place, |node| node.place)
    }

    /// Reports what is wrong with a key's value.
    pub(super) fn error(&self, key: &str, wrong: Wrong) {
        self.error_at(self.place_of(key), key, wrong);
    }

    pub(super) fn error_at(&self, place: Place, key: &str, mut wrong: Wrong) {
        if self.may_be_well(wrong.code) {
            return;
        }
        wrong.message = format!("{}: {}", self.name_of(key), wrong.message);
        self.report.error(place, wrong);
    }

    /// Whether what could not be read may put it right. A list stands in one file, so what lies in one is known whole.
    fn may_be_well(&self, code: &str) -> bool {
        let is_known_whole = self.label.contains('[');
        let of_all = code == "unknown_upstream" || !is_known_whole && matches!(code, "missing" | "conflict");
        self.report.is_partial && of_all
    }

    /// The configuration is also what stands in this file.
    pub(super) fn note_read(&self, path: &Path) {
        self.report.read.borrow_mut().push(path.to_owned());
    }

    pub(super) fn warning(&self, key: &str, mut wrong: Wrong) {
        if self.report.is_partial {
            return;
        }
        wrong.message = format!("{}: {}", self.name_of(key), wrong.message);
        self.report.warning(self.place_of(key), wrong);
    }

    /// Reports what is wrong with the section as a whole.
    pub(super) fn error_here(&self, mut wrong: Wrong) {
        if self.may_be_well(wrong.code) {
            return;
        }
        wrong.message = format!("{}: {}", self.label, wrong.message);
        self.report.error(self.place, wrong);
    }

    /// A mapping below this one; empty when absent.
    pub(super) fn section(&self, key: &str) -> Section<'t> {
        let path = self.row(key).path;
        Self::open(self.report, path, self.name_of(key), self.node(key), self.place)
    }

    /// A list of mappings.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'t>> {
        let row = self.row(key);
        let Some(node) = self.node(key) else {
            self.missing(key, row);
            return Vec::new();
        };
        let Some(items) = self.items(key, node, "mappings", Format::mappings) else { return Vec::new() };
        if let Shape::Sections(least, most) = row.shape
            && (items.len() < least || items.len() > most)
        {
            let message = format!("{} entries, expected {least} to {most}", items.len());
            let what =
                if items.len() > most { format!("keep {most} at most") } else { format!("write {least} at least") };
            self.error(key, Wrong::value(message).hint(format!("{what}; {}", row.about)));
        }
        let open = |(at, item): (usize, &'t Node)| {
            let label = format!("{}[{at}]", self.name_of(key));
            Self::open(self.report, &format!("{}[]", row.path), label, Some(item), item.place)
        };
        items.iter().enumerate().map(open).collect()
    }

    fn items(&self, key: &str, node: &'t Node, of: &str, hint: fn(Format) -> &'static str) -> Option<&'t [Node]> {
        match &node.value {
            Value::List(items) => return Some(items),
            Value::Scalar(Scalar { origin: Origin::Broken, .. }) => {}
            _ => {
                let message = format!("expected a list of {of}, found {}", node.noun());
                let format = self.report.format(node.place.source);
                let hint = match (&node.value, self.row(key).is_list()) {
                    (Value::Scalar(scalar), true) if scalar.origin == Origin::Written && !scalar.is_null() => {
                        self.report.show(node.place);
                        format.list_of(&scalar.text)
                    }
                    _ => hint(format).to_owned(),
                };
                self.error(key, Wrong::value(message).code("type").hint(hint));
            }
        }
        None
    }

    fn missing(&self, key: &str, row: &Row) {
        if row.default == Fallback::Required
            && !self.is_broken
            && !self.meant.contains(&key)
            && !self.may_be_well("missing")
        {
            let message = format!("missing key {}", quote(&self.name_of(key)));
            let example =
                if self.label.is_empty() { " `surgegate config init --minimal` shows how it is written." } else { "" };
            let hint = format!("{}{example}", row.about);
            self.report.error(self.place, Wrong::value(message).code("missing").hint(hint));
        }
    }

    /// The value of a key, its default, or nothing: then it is optional, or an error was reported.
    fn value<T>(&self, key: &str, wanted: &str, parse: impl Fn(&Scalar, &Row) -> Result<T, Wrong>) -> Option<T> {
        let row = self.row(key);
        let default = || match row.default {
            Fallback::Text(text) => {
                let scalar = Scalar { text: text.to_owned(), plain: true, origin: Origin::Written };
                parse(&scalar, row).ok()
            }
            _ => None,
        };
        let Some(node) = self.node(key) else {
            self.missing(key, row);
            return default();
        };
        self.read(key, node, wanted, row, &parse).or_else(default)
    }

    fn read<T>(
        &self,
        key: &str,
        node: &Node,
        wanted: &str,
        row: &Row,
        parse: &impl Fn(&Scalar, &Row) -> Result<T, Wrong>,
    ) -> Option<T> {
        let Value::Scalar(scalar) = &node.value else {
            let wrong = Wrong::value(format!("expected {wanted}, found {}", node.noun())).code("type");
            self.error_at(node.place, key, wrong.hint(row.about));
            return None;
        };
        if scalar.origin == Origin::Broken {
            return None;
        }
        let is_secret = matches!(row.shape, Shape::Secret | Shape::Digest | Shape::Url | Shape::Links);
        if !is_secret {
            self.report.show(node.place);
        }
        if scalar.is_null() {
            let hint = match row.default {
                Fallback::Text(text) => format!("remove the key to take the default, {text}"),
                Fallback::Absent => "remove the key, or give it a value".to_owned(),
                Fallback::Required => row.about.to_owned(),
            };
            self.error_at(node.place, key, Wrong::value("no value").code("type").hint(hint));
            return None;
        }
        match parse(scalar, row) {
            Ok(value) => Some(value),
            Err(mut wrong) => {
                let hidden = is_secret || scalar.origin == Origin::Environment;
                let value = if hidden { "***".to_owned() } else { quote(&scalar.text) };
                if !scalar.text.is_empty() {
                    wrong.message = format!("{}: {value}", wrong.message);
                }
                if hidden {
                    // A hint may repeat the value in another spelling.
                    if scalar.origin == Origin::Environment && !scalar.text.is_empty() {
                        wrong.hint = Some(format!(
                            "it came from the environment; what stands here: {}",
                            tell::shape(&row.shape)
                        ));
                    }
                }
                self.error_at(node.place, key, wrong);
                None
            }
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.value(key, "a text", |scalar, _| {
            if scalar.text.is_empty() {
                Err(Wrong::value("empty").hint("a text stands here; a variable that is set may be empty"))
            } else {
                Ok(scalar.text.clone())
            }
        })
    }

    pub(super) fn file(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    pub(super) fn switch(&self, key: &str) -> bool {
        let parse = |scalar: &Scalar, _: &Row| match scalar.text.as_str() {
            "true" if is_bare(scalar) => Ok(true),
            "false" if is_bare(scalar) => Ok(false),
            _ => Err(Wrong::value("not true or false").hint("write true or false, without quotes").code("type")),
        };
        self.value(key, "true or false", parse).unwrap_or_default()
    }

    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.value(key, "a number", |scalar, row| {
            let number = bare(scalar, units::count)?;
            let bounds = if let Shape::Count(least, most) = row.shape { (least, most) } else { (0, u64::MAX) };
            within(number, bounds, |number| number.to_string())
        })
    }

    /// In thousandths.
    pub(super) fn rate(&self, key: &str) -> Option<u64> {
        self.value(key, "a number", |scalar, row| {
            let number = bare(scalar, units::thousandths)?;
            let bounds = if let Shape::Rate(least, most) = row.shape { (least, most) } else { (0, u64::MAX) };
            within(number, bounds, |number| format!("{}.{:03}", number / 1000, number % 1000))
        })
    }

    pub(super) fn size(&self, key: &str) -> Option<u64> {
        self.value(key, "a size", |scalar, row| {
            let bounds = if let Shape::Size(least, most) = row.shape { (least, most) } else { (0, u64::MAX) };
            within(units::size(&scalar.text)?, bounds, units::show_size)
        })
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        let parse = |scalar: &Scalar, row: &Row| {
            let bounds = if let Shape::Duration(least, most) = row.shape { (least, most) } else { (0, u64::MAX) };
            let bounds = (Duration::from_millis(bounds.0), Duration::from_millis(bounds.1));
            within(units::duration(&scalar.text)?, bounds, units::show_duration)
        };
        self.value(key, "a duration", parse).unwrap_or_default()
    }

    /// One of the row's words; empty after an error on a key without default.
    pub(super) fn choice(&self, key: &str) -> Option<&'static str> {
        self.value(key, "a word", |scalar, row| match row.shape {
            Shape::Choice(words) => word(&scalar.text, words),
            _ => Err(Wrong::value("not a choice")),
        })
    }

    pub(super) fn address(&self, key: &str) -> Option<SocketAddr> {
        self.value(key, "an address", |scalar, _| units::address(&scalar.text))
    }

    pub(super) fn url(&self, key: &str) -> Option<hyper::Uri> {
        self.value(key, "a URL", |scalar, _| units::url(&scalar.text))
    }

    /// One URL or a list of them, each for itself found to be one by `parse`; empty after an error.
    pub(super) fn links(&self, key: &str, parse: impl Fn(&str) -> Result<(), Wrong>) -> Vec<String> {
        let read = |scalar: &Scalar, _: &Row| parse(&scalar.text).map(|()| scalar.text.clone());
        if self.node(key).is_some_and(|node| matches!(node.value, Value::List(_))) {
            return self.list(key, read).unwrap_or_default().into_iter().map(|(_, url)| url).collect();
        }
        self.value(key, "a URL, or a list of them", read).into_iter().collect()
    }

    pub(super) fn digest(&self, key: &str) -> Option<[u8; 32]> {
        self.value(key, "a digest", |scalar, _| {
            let wrong = || Wrong::value("not a SHA-256 in hex").hint("write 64 characters of 0-9 and a-f");
            let mut digest = [0; 32];
            let bytes = scalar.text.as_bytes();
            if bytes.len() != 2 * digest.len() || !bytes.iter().all(u8::is_ascii_hexdigit) {
                return Err(wrong());
            }
            for (at, byte) in digest.iter_mut().enumerate() {
                let pair = scalar.text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
                *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
            }
            Ok(digest)
        })
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        self.value(key, "a name", |scalar, _| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let text = scalar.text.as_str();
            let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
            let wrong =
                || Wrong::value("not a name").hint("1 to 64 characters of a-z, 0-9 and -, not beginning with -");
            fits.then(|| text.to_owned()).ok_or_else(wrong)
        })
    }

    /// A list of single values; `None`: absent.
    fn list<T>(&self, key: &str, parse: impl Fn(&Scalar, &Row) -> Result<T, Wrong>) -> Option<Vec<(Place, T)>> {
        let row = self.row(key);
        let Some(node) = self.node(key) else {
            self.missing(key, row);
            return None;
        };
        let items = self.items(key, node, "values", Format::list)?;
        if items.is_empty() {
            let hint = if row.default == Fallback::Absent { "remove the key" } else { row.about };
            self.error(key, Wrong::value("an empty list").hint(hint));
        }
        let read = |item: &Node| self.read(key, item, "a single value", row, &parse).map(|value| (item.place, value));
        Some(items.iter().filter_map(read).collect())
    }

    pub(super) fn names(&self, key: &str) -> Vec<(Place, String)> {
        self.list(key, |scalar, _| Ok(scalar.text.clone())).unwrap_or_default()
    }

    /// A list of texts; empty when absent.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let text = |scalar: &Scalar, _: &Row| {
            if scalar.text.is_empty() {
                Err(Wrong::value("empty").hint("a text stands here; a variable that is set may be empty"))
            } else {
                Ok(scalar.text.clone())
            }
        };
        self.list(key, text).unwrap_or_default().into_iter().map(|(_, text)| text).collect()
    }

    pub(super) fn dialects(&self, key: &str) -> Option<Vec<(Place, &'static str)>> {
        let known: Vec<&str> = dialect::names().collect();
        self.list(key, |scalar, _| word(&scalar.text, &known))
    }

    pub(super) fn networks(&self, key: &str) -> Option<Vec<(Place, (IpAddr, u8))>> {
        self.list(key, |scalar, _| units::network(&scalar.text))
    }
}

/// Not in quotes, or from the environment, where quotes cannot be seen.
fn is_bare(scalar: &Scalar) -> bool {
    scalar.plain || scalar.origin == Origin::Environment
}

fn bare<T>(scalar: &Scalar, parse: impl Fn(&str) -> Result<T, Wrong>) -> Result<T, Wrong> {
    let number = parse(&scalar.text)?;
    if is_bare(scalar) {
        return Ok(number);
    }
    Err(Wrong::value("a text where a number is expected").code("type").hint("remove the quotes"))
}

fn within<T: PartialOrd + Copy>(value: T, (least, most): (T, T), show: impl Fn(T) -> String) -> Result<T, Wrong> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let hint = format!("{} to {} are allowed", show(least), show(most));
    Err(Wrong::value("out of bounds").hint(hint))
}

fn word(text: &str, words: &[&'static str]) -> Result<&'static str, Wrong> {
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let hint = match nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean {}?", quote(word)),
        None => format!("use one of: {}", words.join(", ")),
    };
    Err(Wrong::value("not one of the known words").hint(hint))
}
