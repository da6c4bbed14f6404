//! Files, variables and flags, laid over each other: one tree, and the report that knows their texts.

use std::path::Path;

use super::files::{self, CONFIG_BYTES_MAX};
use super::interpolate::{Environment, interpolate};
use super::overrides::{self, Over};
use super::report::{Place, Report, Wrong};
use super::tree::{self, Format, Node, Value};
use super::units;

/// What was read so far.
#[derive(Default)]
pub(super) struct Gathering {
    report: Report,
    root: Option<Node>,
}

impl Gathering {
    pub(super) fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match files::bytes(path, CONFIG_BYTES_MAX) {
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.add_text(name, text, Format::of(path)),
                Err(error) => {
                    let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                    let last = String::from_utf8_lossy(good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default());
                    let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let place = Place { line, column: last.chars().count(), ..Place::default() };
                    let wrong = Wrong::value("not UTF-8 text").code("file").hint("save the file as UTF-8");
                    self.refuse(name, place, wrong);
                }
            },
            Err(wrong) => self.refuse(name, Place::default(), wrong),
        }
    }

    pub(super) fn add_text(&mut self, name: String, text: &str, format: Format) {
        if text.len() as u64 > CONFIG_BYTES_MAX {
            let message = format!("larger than {}", units::show_size(CONFIG_BYTES_MAX));
            return self.refuse(name, Place::default(), Wrong::value(message).code("file").hint(files::TOO_LARGE));
        }
        // Some editors begin a file with a mark that is no part of its text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = self.report.add_source(name, text, format);
        match (tree::parse(&mut self.report, source, text), &mut self.root) {
            (None, _) => self.report.is_partial = true,
            (Some(node), Some(base)) => tree::merge(&self.report, base, node),
            (Some(node), root) => *root = Some(node),
        }
    }

    fn refuse(&mut self, name: String, place: Place, wrong: Wrong) {
        let source = self.report.add_source(name, "", Format::Yaml);
        self.report.error(Place { source, ..place }, wrong);
        self.report.is_partial = true;
    }

    /// Variables in values, variables over values, flags over both. What could not be read was reported, and the rest is
    /// read for its errors.
    pub(super) fn finish(mut self, over: &Over, environment: &Environment) -> (Report, Node) {
        if self.root.is_none() && !self.report.is_partial {
            self.refuse(
                "configuration".to_owned(),
                Place::default(),
                Wrong::value("no file was named").code("file").hint("name one with --config FILE"),
            );
        }
        let mut root = self.root.unwrap_or(Node { place: Place::default(), value: Value::Map(Vec::new()) });
        interpolate(&mut root, &self.report, environment);
        overrides::lay_variables_over(&mut root, &mut self.report, environment);
        overrides::refuse_unknown(&mut self.report, &over.variables);
        overrides::warn_of_unread(&mut self.report, &over.variables);
        overrides::lay_flags_over(&mut root, &mut self.report, &over.flags, environment);
        (self.report, root)
    }
}
