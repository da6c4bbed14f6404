//! Configuration: text as written to [`Config`] as meant. Called by `main` at start and on reload.
//!
//! A load goes through five stages, none of which stops at the first error:
//! 1. `tree`: YAML, TOML or JSON to nodes that know their place; several files are laid over each other.
//! 2. `interpolate`: `${VAR}` in values.
//! 3. `overrides`: `SURGEGATE__SECTION__KEY` over single values, then `--set` over both. `gather` does these three.
//! 4. `reader`: sections, by the table in `keys`; `process`, `upstreams` and `integrations` give them meaning.
//! 5. `report`: findings, in file order, with a snippet in which secrets are hidden.
//!
//! This is the only room that knows the others' `Config`; they never import it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod bounds;
mod certificates;
mod commented;
mod files;
mod finding;
mod gather;
mod integrations;
mod interpolate;
mod keys;
mod overrides;
mod places;
mod process;
mod reader;
#[cfg(test)]
mod reference;
mod report;
mod schema;
mod show;
mod signed;
mod tell;
mod tree;
mod units;
mod upstreams;
mod vendors;

#[cfg(test)]
mod tests;

pub use finding::{Errors, Finding, Level};
pub use interpolate::Environment;
pub use overrides::{Flag, Over};
pub use places::Places;

use crate::event::Micros;
use crate::{body, dedup, gate, listen, sink, store};
use gather::Gathering;
use reader::Section;
use report::Report;
use tree::{Format, Node};

/// What an operator meant: each room's own configuration (INTERFACE 3).
pub struct Config {
    pub ingest: listen::Config,
    pub observe: SocketAddr,
    pub admin: Admin,
    pub body: body::Limits,
    pub dedup: dedup::Config,
    pub spool: store::Config,
    /// `None`: this replica stands alone.
    pub redis: Option<crate::redis::Config>,
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
    "no configuration: neither {} exists; name one with --config, begin one with `surgegate config init`, or try `surgegate demo`, which needs none",
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
    load_with(paths, &Over::default(), environment)
}

/// As [`load`], with what stands over the files beside single variables.
pub fn load_with(paths: &[PathBuf], over: &Over, environment: &Environment) -> Result<Config, Errors> {
    load_with_places(paths, over, environment).map(|(config, _)| config)
}

/// As [`load_with`], with the places of keys for findings that others make.
pub fn load_with_places(paths: &[PathBuf], over: &Over, environment: &Environment) -> Result<(Config, Places), Errors> {
    let read_at = Micros::now();
    let (report, root) = gather(paths, over, environment);
    let config = mean(&Section::root(&report, &root));
    let mut files = report.read.take();
    files.extend_from_slice(paths);
    let (warnings, places) = Places::of(report, root)?;
    Ok((Config { read_at, files, warnings, ..config }, places))
}

/// As [`load`], of one text that is called `name` in findings: TOML or JSON where the name ends so, else YAML.
pub fn load_text(name: &str, text: &str, environment: &Environment) -> Result<Config, Errors> {
    let mut gathering = Gathering::default();
    gathering.add_text(name.to_owned(), text, Format::of(Path::new(name)));
    let (report, root) = gathering.finish(&Over::default(), environment);
    let config = mean(&Section::root(&report, &root));
    let warnings = report.finish()?;
    Ok(Config { warnings, ..config })
}

/// The configuration as it is meant, as YAML: defaults filled in, secrets masked; with origins each value says in a
/// comment where it comes from. Beside it the warnings.
///
/// # Errors
/// As [`load`].
pub fn show(
    paths: &[PathBuf],
    over: &Over,
    environment: &Environment,
    with_origins: bool,
) -> Result<(String, Vec<Finding>), Errors> {
    let (report, root) = gather(paths, over, environment);
    mean(&Section::root(&report, &root));
    let shown = show::show(&report, &root, with_origins);
    Ok((shown, report.finish()?))
}

/// The JSON Schema (draft-07) of a configuration.
pub fn schema() -> String {
    format!("{:#}\n", schema::schema())
}

/// A key that an upstream of this kind cannot do without, and what it is for; of several that would do the plainest.
pub fn needed(kind: sink::Kind) -> impl Iterator<Item = (&'static str, &'static str)> {
    vendors::needs(kind).iter().map(|need| (need.plainest(), need.hint))
}

/// A commented configuration to begin with: every key, or only what must be written.
pub fn starting_file(minimal: bool) -> String {
    commented::file(if minimal { commented::Extent::Minimal } else { commented::Extent::Starting })
}

fn gather(paths: &[PathBuf], over: &Over, environment: &Environment) -> (Report, Node) {
    let mut gathering = Gathering::default();
    paths.iter().for_each(|path| gathering.add_file(path));
    gathering.finish(over, environment)
}

/// Reads a duration as the configuration writes them: `500ms`, `5s`, `2m`, `24h`, `30d`.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text)
        .map_err(|wrong| wrong.hint.map_or(wrong.message.clone(), |hint| format!("{}: {hint}", wrong.message)))
}

fn mean(root: &Section) -> Config {
    let limits = root.section("limits");
    let (ingest, observe, admin) = process::listeners(root, &limits);
    let (mut upstreams, sections, names) = upstreams::read(root);
    let (mut integrations, senders) = integrations::read(root, &names);
    upstreams::share(&mut upstreams, &sections, &integrations);
    integrations::learn(&mut integrations, &upstreams);
    integrations::relay(&senders, &mut integrations, &upstreams);
    let redeliver_after = upstreams.iter().map(|upstream| upstream.redeliver_after).min().unwrap_or_default();
    Config {
        ingest,
        observe,
        admin,
        body: process::body(&limits),
        dedup: process::dedup(root, redeliver_after),
        spool: process::spool(root),
        redis: process::redis(root),
        integrations,
        upstreams,
        drain: root.section("shutdown").duration("drain"),
        log: process::log(root),
        files: Vec::new(),
        read_at: Micros::now(),
        warnings: Vec::new(),
    }
}
