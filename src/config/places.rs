//! Where each key of a configuration stands, kept for the checks that are made after it was read: `preflight`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Level};
use super::keys::{ROWS, Shape};
use super::report::{Place, Report, Wrong};
use super::tree::{Node, Scalar, Value};

/// The keys that are written, by their name for people: `upstreams[0].url`.
pub struct Places {
    /// A finding at each key's place that says nothing yet.
    keys: HashMap<String, Finding>,
    /// At the file as a whole: for keys that have their default.
    whole: Finding,
    files: Vec<(String, PathBuf)>,
}

impl Places {
    pub(super) fn gather(report: &Report, root: &Node) -> Self {
        let at = |place| report.finding(place, Level::Error, Wrong::value(""));
        let whole = at(Place { source: root.place.source, ..Place::default() });
        let mut places = Self { keys: HashMap::new(), whole, files: Vec::new() };
        places.walk(String::new(), "", root, &at);
        places
    }

    /// `path`: the name as the table of keys has it, `upstreams[].url`.
    fn walk(&mut self, name: String, path: &str, node: &Node, at: &impl Fn(Place) -> Finding) {
        match &node.value {
            Value::Map(entries) => {
                let joined = |before: &str, key: &str| {
                    if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") }
                };
                for entry in entries {
                    self.walk(joined(&name, &entry.key), &joined(path, &entry.key), &entry.value, at);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(format!("{name}[{index}]"), &format!("{path}[]"), item, at);
                }
            }
            Value::Scalar(Scalar { text, .. }) => {
                let row = ROWS.iter().find(|row| row.path == path);
                if row.is_some_and(|row| matches!(row.shape, Some(Shape::File))) {
                    self.files.push((name.clone(), PathBuf::from(text)));
                }
                self.keys.insert(name, at(node.place));
            }
        }
    }

    /// The keys that name a file or directory, with what they name, in file order.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|(key, path)| (key.as_str(), path.as_path()))
    }

    /// A finding about a key: where it stands, or at its file where it has its default.
    pub fn finding(&self, level: Level, code: &'static str, key: &str, message: &str, hint: Option<String>) -> Finding {
        let place = self.keys.get(key).unwrap_or(&self.whole).clone();
        Finding { level, code, message: format!("{key}: {message}"), hint, ..place }
    }
}
