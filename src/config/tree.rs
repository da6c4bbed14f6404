//! A configuration as nodes that know where they stand: the one meeting point of YAML, TOML and JSON.
//!
//! Each format has a reader of its own, because a message must speak of what the user wrote:
//! * `yaml`: the parser's events, which carry positions.
//! * `toml`: the library's document with spans.
//! * `json`: not through the YAML reader, which takes comments, bare words and trailing commas (a file that only we could
//!   read), does not know pairs of surrogates, and calls a missing comma a fault of indentation.
//!
//! From here on the formats differ only in the examples of hints ([`Format`]).

mod json;
mod lines;
mod toml;
mod yaml;

use std::collections::HashMap;
use std::path::Path;

use super::keys;
use super::report::{Place, Report, Wrong, quote};

/// The configuration itself is six deep.
const DEPTH_MAX: usize = 24;

/// How a text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Yaml,
    Toml,
    Json,
}

impl Format {
    /// By the ending of its name; YAML unless it is one of the two others.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("toml") => Self::Toml,
            Some("json") => Self::Json,
            _ => Self::Yaml,
        }
    }

    /// How a mapping is written.
    pub(super) fn mapping(self) -> &'static str {
        match self {
            Self::Yaml => "write \"key: value\" lines, or { key: value }",
            Self::Toml => "write a [section] with key = value lines, or { key = value }",
            Self::Json => "write { \"key\": value }",
        }
    }

    /// How a list of mappings is written.
    pub(super) fn mappings(self) -> &'static str {
        match self {
            Self::Yaml => "write \"- key: value\" lines, or [{ key: value }]",
            Self::Toml => "write [[section]] before each, or [{ key = value }]",
            Self::Json => "write [{ \"key\": value }]",
        }
    }

    /// How a list of single values is written.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Yaml => "write [one, two]",
            Self::Toml | Self::Json => "write [\"one\", \"two\"]",
        }
    }

    /// How a list of this one value is written.
    pub(super) fn list_of(self, text: &str) -> String {
        match self {
            Self::Yaml => format!("write [{}]", quote(text).trim_matches('"')),
            Self::Toml | Self::Json => format!("write [{}]", quote(text)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes.
    pub(super) plain: bool,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Written,
    /// Holds a value of the environment, which must not be printed.
    Environment,
    /// Already reported: whoever reads it stays silent.
    Broken,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// What stands there, for "found ...".
    pub(super) fn noun(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Scalar {
    pub(super) fn is_null(&self) -> bool {
        self.plain && self.origin == Origin::Written && matches!(self.text.as_str(), "" | "~" | "null")
    }
}

/// Parses a source; `None` where it is not of its format (reported).
pub(super) fn parse(report: &mut Report, source: usize, text: &str) -> Option<Node> {
    match report.format(source) {
        Format::Yaml => yaml::parse(report, source, text),
        Format::Toml => toml::parse(report, source, text),
        Format::Json => json::parse(report, source, text),
    }
}

/// Reports a key that stands a second time. One that is no key of ours may be a secret.
fn repeated(report: &Report, key: &str, place: Place, line: usize) {
    if report.is_full() {
        return report.error(place, Wrong::value(""));
    }
    let is_known = keys::is_name(key);
    if is_known {
        report.show(place);
    }
    let name = if is_known { quote(key) } else { "this key".to_owned() };
    let wrong = Wrong::value(format!("{name} already stands at line {line}")).code("duplicate_key");
    report.error(place, wrong.hint("keep one of the two"));
}

/// `over` laid on `base`: mappings are joined key by key, anything else is replaced.
pub(super) fn merge(report: &Report, base: &mut Node, over: Node) {
    let (below, above) = match (&mut base.value, over.value) {
        (Value::Map(below), Value::Map(above)) => (below, above),
        (_, value) => {
            *base = Node { place: over.place, value };
            return;
        }
    };
    let index: HashMap<String, usize> = below.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at)).collect();
    for entry in above {
        match index.get(&entry.key).and_then(|at| below.get_mut(*at)) {
            Some(slot) => {
                // Nobody reads it at its first place, where a finding about its neighbour may show it.
                if keys::is_name(&slot.key) {
                    report.show(slot.place);
                }
                slot.place = entry.place;
                merge(report, &mut slot.value, entry.value);
            }
            None => below.push(entry),
        }
    }
}
