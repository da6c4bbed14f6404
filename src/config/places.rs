//! Where the keys of a valid configuration stand, for those who check what lies outside it: a port that is taken is a
//! finding at the line that names it. Kept only where asked for, as it holds the files' texts.

use std::path::PathBuf;

use super::finding::{Errors, Finding, Level};
use super::keys::{self, Shape};
use super::report::{Place, Report, Wrong};
use super::tree::{Node, Scalar, Value};

pub struct Places {
    report: Report,
    root: Node,
}

impl Places {
    /// The warnings, and the places; or the errors.
    pub(super) fn of(report: Report, root: Node) -> Result<(Vec<Finding>, Self), Errors> {
        if report.has_errors() {
            return Err(report.into_errors());
        }
        Ok((report.findings(), Self { report, root }))
    }

    /// A finding at a key: `upstreams[0].url`. Of one that does not stand there, at the nearest section that does.
    /// `code`: a stable word for scripts. The message is put behind the key, and must hold no secret.
    pub fn finding(&self, level: Level, code: &'static str, key: &str, message: &str, hint: Option<&str>) -> Finding {
        let wrong = Wrong::value(format!("{key}: {message}")).code(code);
        let wrong = match hint {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        };
        self.report.finding(self.place(key), level, wrong)
    }

    /// The keys that name a file or directory, with what they name, in file order.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        named_files(String::new(), "", &self.root, &mut found);
        found
    }

    fn place(&self, key: &str) -> Place {
        let mut node = &self.root;
        for step in key.split('.') {
            let (name, index) = step.strip_suffix(']').and_then(|step| step.split_once('[')).unzip();
            let Some(mut next) = super::show::find(node, name.unwrap_or(step)) else { break };
            if let (Some(index), Value::List(items)) = (index, &next.value) {
                let Some(item) = index.parse::<usize>().ok().and_then(|index| items.get(index)) else { break };
                next = item;
            }
            node = next;
        }
        node.place
    }
}

/// `path`: the name as the table of keys has it, `upstreams[].credential_file`.
fn named_files(name: String, path: &str, node: &Node, found: &mut Vec<(String, PathBuf)>) {
    let joined = |before: &str, key: &str| if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") };
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                named_files(joined(&name, &entry.key), &joined(path, &entry.key), &entry.value, found);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                named_files(format!("{name}[{index}]"), &format!("{path}[]"), item, found);
            }
        }
        Value::Scalar(Scalar { text, .. }) => {
            let row = keys::ROWS.iter().find(|row| row.path == path);
            if row.is_some_and(|row| matches!(row.shape, Shape::File)) {
                found.push((name, PathBuf::from(text)));
            }
        }
    }
}
