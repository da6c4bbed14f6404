//! Where the keys of a valid configuration stand, for those who check what lies outside it: a port that is taken is a
//! finding at the line that names it. Kept only where asked for, as it holds the files' texts.

use super::finding::{Errors, Finding, Level};
use super::report::{Place, Report, Wrong};
use super::tree::{Node, Value};

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
