//! Configuration: text as written to [`Config`] as meant. Called by `main` at start and on reload.
//!
//! A load goes through five stages, none of which stops at the first error:
//! 1. `tree`: YAML to nodes that know their place; several files are laid over each other.
//! 2. `overrides`: `SURGEGATE__SECTION__KEY` over single values.
//! 3. `interpolate`: `${VAR}` in values.
//! 4. `reader`: sections, by the table in `keys`; `process`, `upstreams` and `integrations` give them meaning.
//! 5. `report`: findings, in file order, with a snippet in which secrets are hidden.
//!
//! This is the only room that knows the others' `Config`; they never import it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod files;
mod finding;
mod integrations;
mod interpolate;
mod keys;
mod overrides;
mod places;
mod process;
mod reader;
mod report;
mod tree;
mod units;
mod upstreams;

#[cfg(test)]
mod tests;

pub use finding::{Errors, Finding, Level};
pub use interpolate::Environment;
pub use places::Places;

use crate::event::Micros;
use crate::{body, dedup, gate, listen, sink, store};
use reader::Section;
use report::{Place, Report, Wrong};
use tree::Node;

/// What an operator meant: each room's own configuration (INTERFACE 3).
pub struct Config {
    pub ingest: listen::Config,
    pub observe: SocketAddr,
    pub admin: Admin,
    pub body: body::Limits,
    pub dedup: dedup::Config,
    pub spool: store::Config,
    pub integrations: Vec<gate::IntegrationConfig>,
    pub upstreams: Vec<sink::UpstreamConfig>,
    /// How long the listener goes on while readiness is down.
    pub drain: Duration,
    pub log: Log,
    /// Every file it was read from, those with keys and credentials too: a change of one is a change of it.
    pub files: Vec<PathBuf>,
    /// Before the first of them was read.
    pub read_at: Micros,
    /// What is allowed and yet seldom meant.
    pub warnings: Vec<Finding>,
}

impl fmt::Debug for Config {
    /// Names only: the rest holds keys and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let integrations: Vec<_> = self.integrations.iter().map(|integration| &integration.name).collect();
        let upstreams: Vec<_> = self.upstreams.iter().map(|upstream| &upstream.name).collect();
        f.debug_struct("Config")
            .field("integrations", &integrations)
            .field("upstreams", &upstreams)
            .finish_non_exhaustive()
    }
}

/// The listener of the status page and the admin API.
pub struct Admin {
    pub address: SocketAddr,
    /// `None`: writes are refused unless the address is loopback.
    pub token: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: tracing::Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines elsewhere.
    Auto,
    Text,
    Json,
}

/// Where a configuration is looked for when none is named.
pub const SEARCH: [&str; 2] = ["./surgegate.yaml", "/etc/surgegate/surgegate.yaml"];

/// No configuration was named, and none stands where it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no configuration: neither {} exists; name one with --config, or try `surgegate demo`, which needs none",
    .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor ")
)]
pub struct NotFound(pub Vec<PathBuf>);

/// The first of [`SEARCH`] that exists.
pub fn find() -> Result<PathBuf, NotFound> {
    find_among(&SEARCH.map(Path::new))
}

fn find_among(candidates: &[&Path]) -> Result<PathBuf, NotFound> {
    let found = candidates.iter().find(|path| path.exists());
    found.map(|path| path.to_path_buf()).ok_or_else(|| NotFound(candidates.iter().map(|path| path.into()).collect()))
}

/// Reads the files, each laid over those before it: mappings are joined, lists and values replaced.
/// `environment` looks up a variable.
pub fn load(paths: &[PathBuf], environment: &Environment) -> Result<Config, Errors> {
    let read_at = Micros::now();
    let (report, files) = read(paths);
    let mut config = assemble(report, files, environment, |_, _| ()).map(|(config, ())| config)?;
    config.files.extend_from_slice(paths);
    config.read_at = read_at;
    Ok(config)
}

/// As [`load`], with where each key stands, for checks of what lies outside the files.
pub fn load_placed(paths: &[PathBuf], environment: &Environment) -> Result<(Config, Places), Errors> {
    let (report, files) = read(paths);
    assemble(report, files, environment, Places::gather)
}

fn read(paths: &[PathBuf]) -> (Report, Files) {
    let mut report = Report::default();
    let mut files = Files::default();
    for path in paths {
        let name = path.display().to_string();
        let text = match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml") => {
                let wrong = Wrong::value("TOML comes with a later version").code("later_version");
                Err(wrong.hint("write YAML, in a file that ends in .yaml"))
            }
            _ => files::text(path, files::CONFIG_BYTES_MAX),
        };
        match text {
            Ok(text) => files.add(&mut report, name, &text),
            Err(wrong) => files.refuse(&mut report, name, wrong),
        }
    }
    (report, files)
}

/// As [`load`], of one text that is called `name` in findings.
pub fn load_text(name: &str, text: &str, environment: &Environment) -> Result<Config, Errors> {
    let mut report = Report::default();
    let mut files = Files::default();
    files.add(&mut report, name.to_owned(), text);
    assemble(report, files, environment, |_, _| ()).map(|(config, ())| config)
}

/// What was read so far.
#[derive(Default)]
struct Files {
    root: Option<Node>,
    /// A file is missing from `root`: errors found in the rest would only confuse.
    is_partial: bool,
}

impl Files {
    fn add(&mut self, report: &mut Report, name: String, text: &str) {
        if text.len() as u64 > files::CONFIG_BYTES_MAX {
            let message = format!("larger than {}", units::show_size(files::CONFIG_BYTES_MAX));
            return self.refuse(report, name, Wrong::value(message).code("file"));
        }
        let source = report.add_source(name, text);
        match (tree::parse(report, source, text), &mut self.root) {
            (None, _) => self.is_partial = true,
            (Some(node), Some(base)) => tree::merge(base, node),
            (Some(node), root) => *root = Some(node),
        }
    }

    fn refuse(&mut self, report: &mut Report, name: String, wrong: Wrong) {
        let source = report.add_source(name, "");
        report.error(Place { source, ..Place::default() }, wrong);
        self.is_partial = true;
    }
}

/// Reads a duration as the configuration writes them: `500ms`, `5s`, `2m`, `24h`, `30d`.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text)
        .map_err(|wrong| wrong.hint.map_or(wrong.message.clone(), |hint| format!("{}: {hint}", wrong.message)))
}

/// `look` sees the tree once all of it was read.
fn assemble<T>(
    mut report: Report,
    files: Files,
    environment: &Environment,
    look: impl FnOnce(&Report, &Node) -> T,
) -> Result<(Config, T), Errors> {
    let mut root = match files.root {
        Some(root) if !files.is_partial => root,
        _ => {
            if !files.is_partial {
                report.add_source("configuration", "");
                report.error(Place::default(), Wrong::value("no file was named").code("file"));
            }
            return Err(report.into_errors());
        }
    };
    interpolate::interpolate(&mut root, &report, environment);
    overrides::lay_over(&mut root, &mut report, environment);
    let config = mean(&Section::root(&report, &root));
    let seen = look(&report, &root);
    let files = report.read.take();
    let warnings = report.finish()?;
    Ok((Config { files, warnings, ..config }, seen))
}

fn mean(root: &Section) -> Config {
    let limits = root.section("limits");
    let (ingest, observe, admin) = process::listeners(root, &limits);
    let (mut upstreams, sections, names) = upstreams::read(root);
    let integrations = integrations::read(root, &names);
    upstreams::share(&mut upstreams, &sections, &integrations);
    let redeliver_after = upstreams.iter().map(|upstream| upstream.redeliver_after).min().unwrap_or_default();
    Config {
        ingest,
        observe,
        admin,
        body: process::body(&limits),
        dedup: process::dedup(root, redeliver_after),
        spool: process::spool(root),
        integrations,
        upstreams,
        drain: root.section("shutdown").duration("drain"),
        log: process::log(root),
        files: Vec::new(),
        read_at: Micros::now(),
        warnings: Vec::new(),
    }
}
