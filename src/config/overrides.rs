//! What stands over the files: variables for single values and lists of them (`SURGEGATE__SPOOL__DIRECTORY`), and above
//! them flags for any key outside lists of mappings (`--set spool.directory=/data`).

use std::str::FromStr;

use super::interpolate::{Environment, interpolate};
use super::keys::{self, ROWS, Row, Shape};
use super::report::{FLAG, Place, Report, Wrong, nearest};
use super::tree::{self, Entry, Format, Node, Origin, Scalar, Value, merge};

const PREFIX: &str = "SURGEGATE__";

/// A key that a flag sets: `--set spool.directory=/data`. Not to be printed: a value can be a secret.
#[derive(Clone)]
pub struct Flag {
    key: String,
    value: String,
}

impl FromStr for Flag {
    type Err = &'static str;

    /// # Errors
    /// It is not `KEY=VALUE` with a dotted key. Whether there is such a key, and whether the value fits, the load says.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, e.g. spool.directory=/var/lib/surgegate")?;
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if key.contains('[') {
            return Err("a list is set as a whole: 'upstreams=[{ name: pager, kind: stdout }]'");
        }
        if !key.split('.').all(is_word) {
            return Err("a key is words with dots between them, e.g. spool.directory");
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// What stands over the files.
#[derive(Clone, Default)]
pub struct Over {
    pub flags: Vec<Flag>,
    /// The names of all variables of the environment; those that begin as ours must name a key.
    pub variables: Vec<String>,
}

/// Reports variables that begin as ours and name no key that a variable sets.
pub(super) fn refuse_unknown(report: &mut Report, variables: &[String]) {
    let keys = || ROWS.iter().filter(|row| !row.path.contains("[]") && !row.is_opened());
    let words: Vec<String> = keys().map(|row| words(row.path)).collect();
    for name in variables {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !words.iter().any(|words| words == rest)) else {
            continue;
        };
        let source = report.add_source(format!("environment variable {}", name.escape_debug()), "", Format::Yaml);
        let key = rest.to_lowercase().replace("__", ".");
        let hint = match nearest(rest, words.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None if ROWS.iter().any(|row| row.is_opened() && key.starts_with(row.path)) => {
                "a variable sets a value, or a list of values, outside lists of mappings; elsewhere write ${VARIABLE} in the file"
                    .to_owned()
            }
            None => format!("{PREFIX}SPOOL__DIRECTORY sets spool.directory; give others another name"),
        };
        let wrong = Wrong::value("names no key").code("unknown_key").hint(hint);
        report.error(Place { source, ..Place::default() }, wrong);
    }
}

/// Warns of variables that would be ours with two underscores where they have one: nothing reads them. Others that begin so
/// are somebody's: Kubernetes sets some for a service of our name.
pub(super) fn warn_of_unread(report: &mut Report, variables: &[String]) {
    for name in variables.iter().filter(|name| !name.starts_with(PREFIX)) {
        let Some(rest) = name.strip_prefix("SURGEGATE_") else { continue };
        let rows = ROWS.iter().filter(|row| !row.path.contains("[]") && !row.is_opened());
        let meant = rows.map(|row| words(row.path)).find(|words| words.replace("__", "_") == rest.replace("__", "_"));
        let hint = match meant {
            Some(words) => format!("did you mean {PREFIX}{words}?"),
            None if rest == "CONFIG" => "a configuration is named with --config FILE".to_owned(),
            None => continue,
        };
        let source = report.add_source(format!("environment variable {name}"), "", Format::Yaml);
        let wrong = Wrong::value(format!("{name} is not read")).code("unread_variable").hint(hint);
        report.warning(Place { source, ..Place::default() }, wrong);
    }
}

/// The part of a variable's name that is its key's.
fn words(path: &str) -> String {
    path.to_uppercase().replace('.', "__")
}

/// Lays each variable that names a value, or a list of single values, over the tree. Mappings have no such names.
pub(super) fn lay_variables_over(root: &mut Node, report: &mut Report, environment: &Environment) {
    for row in ROWS.iter().filter(|row| !row.path.contains("[]") && !row.is_opened()) {
        let name = format!("{PREFIX}{}", words(row.path));
        let Some(text) = environment(&name) else { continue };
        let source = report.add_source(format!("environment variable {name}"), "", Format::Yaml);
        let place = Place { source, ..Place::default() };
        let scalar =
            |text: &str| Value::Scalar(Scalar { text: text.to_owned(), plain: true, origin: Origin::Environment });
        let value = match listed(row, &text) {
            Some(items) => Value::List(items.map(|item| Node { place, value: scalar(item) }).collect()),
            None => scalar(&text),
        };
        merge(report, root, under(row.path, Node { place, value }, 0));
    }
}

/// The entries of a list as a variable holds it: `one,two` or `[one, two]`. A URL may hold commas, so a list of those
/// needs the brackets; `None`: it is no list.
fn listed<'t>(row: &Row, text: &'t str) -> Option<impl Iterator<Item = &'t str>> {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let may_be = row.is_list() || inner.is_some() && matches!(row.shape, Shape::Links);
    let unquoted = |item: &'t str| {
        let item = item.trim();
        let within = |quote| item.strip_prefix(quote).and_then(|item| item.strip_suffix(quote));
        within('"').or_else(|| within('\'')).unwrap_or(item)
    };
    // The URLs of a Cluster hold none: Sentinels, whose URL does, are one URL.
    let items = inner.unwrap_or(text).split(',').map(unquoted);
    may_be.then(|| items.filter(|item| !item.is_empty()))
}

/// Lays each flag over the tree.
pub(super) fn lay_flags_over(root: &mut Node, report: &mut Report, flags: &[Flag], environment: &Environment) {
    for Flag { key, value } in flags {
        let source = report.add_source(format!("{FLAG}{key}"), value.as_str(), Format::Yaml);
        // A single value is taken as it is, so that [::1]:8080 needs no quotes; the rest is YAML.
        let is_single = |row: &Row| !row.is_opened() && listed(row, value).is_none();
        let node = if keys::find(key).is_some_and(is_single) {
            let place = Place { source, start: 0, end: value.len(), line: 1, column: 0 };
            report.set_scalars(source, Some(std::iter::once(0..value.len()).collect()));
            let scalar = Scalar { text: value.clone(), plain: true, origin: Origin::Written };
            Some(Node { place, value: Value::Scalar(scalar) })
        } else {
            tree::parse(report, source, value)
        };
        match node {
            Some(mut node) => {
                interpolate(&mut node, report, environment);
                merge(report, root, under(key, node, value.len()));
            }
            None => report.is_partial = true,
        }
    }
}

/// The node at this path, in a tree of its own. `end`: of the text that it was read from.
fn under(path: &str, mut node: Node, end: usize) -> Node {
    let place = node.place;
    // Names are shown, by where they begin: no value begins behind all of them, and each may be a secret.
    let named = Place { start: end, end, ..place };
    for key in path.rsplit('.') {
        node = Node { place, value: Value::Map(vec![Entry { key: key.to_owned(), place: named, value: node }]) };
    }
    node
}
