//! The section `upstreams`: where events go, how fast, and with which credential.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::files;
use super::integrations::Taken;
use super::process::{whole, whole32};
use super::reader::Section;
use super::report::Wrong;
use super::{units, vendors};
use crate::gate::IntegrationConfig;
use crate::metrics::INTAKE;
use crate::sink::{Batch, Kind, Mode, Pace, UpstreamConfig};

/// No event may hold up another key for longer (PROMISES O4).
const HELD_UP_MAX: Duration = Duration::from_secs(1);

/// The names that integrations may refer to, those of faulty upstreams among them.
#[derive(Default)]
pub(super) struct Names(HashMap<Arc<str>, ()>);

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<Arc<str>> {
        self.0.get_key_value(name).map(|(name, ())| Arc::clone(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The upstreams, with the sections they stand in.
pub(super) fn read<'t>(root: &Section<'t>) -> (Vec<UpstreamConfig>, Vec<Section<'t>>, Names) {
    let mut taken = Taken::default();
    let mut names = Names::default();
    let mut configs = Vec::new();
    let mut sections = Vec::new();
    for section in root.sections("upstreams") {
        let name: Option<Arc<str>> = section.name("name").map(Arc::from);
        if let Some(name) = &name {
            names.0.insert(Arc::clone(name), ());
            if **name == *INTAKE {
                let hint = "dead letters of what was rejected at intake stand under this name: take another";
                section.error("name", Wrong::value("a name of our own").hint(hint));
            }
            if let Err(wrong) = taken.take(Arc::clone(name), section.place_of("name")) {
                section.error("name", wrong.hint("names of upstreams are unique"));
            }
        }
        if let Some(config) = upstream(&section, name) {
            configs.push(config);
            sections.push(section);
        }
    }
    (configs, sections, names)
}

fn upstream(section: &Section, name: Option<Arc<str>>) -> Option<UpstreamConfig> {
    let word = section.choice("kind");
    let kind = Kind::ALL.into_iter().find(|kind| Some(kind.name()) == word);
    let mode = match section.choice("mode") {
        Some("verbatim") => Some(Mode::Verbatim),
        Some("normalized") => Some(Mode::Normalized),
        _ => None,
    };
    let url = section.url("url");
    let credential = credential(section);
    // All are read for their errors, though an upstream without name or kind goes nowhere.
    let pace = pace(&section.section("rate_limit"), kind);
    let timeout = section.duration("timeout");
    let connections = whole(section.count("connections"));
    if connections == 1 && timeout > HELD_UP_MAX && kind != Some(Kind::Stdout) {
        let message =
            format!("an event that is not answered holds up all others for {}", units::show_duration(timeout));
        let wrong = Wrong::value(message).code("one_at_a_time");
        section.warning("connections", wrong.hint("write 2 or more: order within a key is kept with any number"));
    }
    let give_up_after = section.duration("give_up_after");
    let redeliver_after = section.duration("redeliver_after");
    let batch = batch(section);
    let written = vendors::read(section);
    let kind = kind?;
    fits(section, kind, mode);
    let (url, vendor) = vendors::fit(section, kind, url, written);
    let url = match (kind, url, &credential) {
        (Kind::Squadcast, Some(base), Some(key)) => squadcast_url(section, &base, key),
        (_, url, _) => url,
    };
    let is_ours = matches!(kind, Kind::Webhook | Kind::Stdout);
    let mode = mode.unwrap_or(if is_ours { Mode::Normalized } else { Mode::Verbatim });
    let name = name?;
    Some(UpstreamConfig {
        name,
        kind,
        url,
        credential,
        mode,
        pace,
        timeout,
        connections,
        give_up_after,
        redeliver_after,
        batch,
        // Known once the integrations are read.
        shared: false,
        emit_priority: true,
        vendor,
    })
}

/// Keys that this kind needs, or has no use for.
fn fits(section: &Section, kind: Kind, mode: Option<Mode>) {
    let useless = |key: &str, hint: &str| {
        if section.has(key) {
            section.error(key, Wrong::value("not for this kind of upstream").code("conflict").hint(hint));
        }
    };
    if kind == Kind::Stdout {
        for key in ["url", "credential", "credential_file"] {
            useless(key, "stdout writes to standard output: remove it");
        }
    }
    if matches!(kind, Kind::Webhook | Kind::Stdout) && mode == Some(Mode::Verbatim) {
        let wrong = Wrong::value("verbatim is not for this kind of upstream").code("conflict");
        section.error("mode", wrong.hint("webhook and stdout send the normalized event"));
    }
}

fn credential(section: &Section) -> Option<Arc<str>> {
    let written = section.text("credential");
    let path = section.file("credential_file");
    if section.has("credential") && section.has("credential_file") {
        let wrong = Wrong::value("both credential and credential_file").code("conflict");
        section.error("credential_file", wrong.hint("keep one of the two"));
        return None;
    }
    match (written, path) {
        (Some(text), _) => Some(Arc::from(text)),
        (None, Some(path)) => files::secret(section, "credential_file", &path),
        (None, None) => None,
    }
}

/// The vendor's key is the last part of the path (contracts/squadcast.md 1): joined here when written apart.
fn squadcast_url(section: &Section, base: &hyper::Uri, key: &str) -> Option<hyper::Uri> {
    const PATH: &str = "/v2/incidents/api";
    if base.query().is_some() {
        let wrong = Wrong::value("a query before a key that comes from elsewhere").code("conflict");
        section.error("url", wrong.hint("write the address only, or the whole URL and no credential"));
        return None;
    }
    let base = base.to_string();
    let base = base.trim_end_matches('/');
    let path = if base.ends_with(PATH) { "" } else { PATH };
    let is_segment = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let joined = if is_segment { format!("{base}{path}/{key}").parse().ok() } else { None };
    if joined.is_none() {
        let name = if section.has("credential") { "credential" } else { "credential_file" };
        let wrong = Wrong::value("a key that cannot stand in a path");
        section.error(name, wrong.hint("the vendor's keys are 40 hex characters"));
    }
    joined
}

fn pace(limit: &Section, kind: Option<Kind>) -> Option<Pace> {
    let vendor = kind.and_then(Kind::pace);
    let rate = limit.rate("requests_per_second");
    let burst = limit.count("burst").map(whole32);
    match (rate, burst) {
        (Some(rate), burst) => Some(steady(rate, burst)),
        (None, None) => vendor,
        (None, Some(burst)) => {
            if vendor.is_none() && !limit.has("requests_per_second") {
                let wrong = Wrong::value("a burst without a rate").code("conflict");
                limit.error("burst", wrong.hint("add requests_per_second"));
            }
            vendor.map(|pace| Pace { burst, ..pace })
        }
    }
}

/// So many thousandths of a request each second: whole ones by the second, others one by one.
fn steady(thousandths: u64, burst: Option<u32>) -> Pace {
    let burst = burst.unwrap_or_else(|| whole32(thousandths / 1000).max(1));
    if thousandths.is_multiple_of(1000) {
        return Pace { requests: whole32(thousandths / 1000), per: Duration::from_secs(1), burst };
    }
    // Rounded up: never faster than asked for.
    let per = Duration::from_nanos(1_000_000_000_000_u64.div_ceil(thousandths));
    Pace { requests: 1, per, burst }
}

fn batch(section: &Section) -> Option<Batch> {
    let batch = section.section("batch");
    batch
        .is_given()
        .then(|| Batch { max_events: whole(batch.count("max_events")), max_wait: batch.duration("max_wait") })
}

/// What is allowed and yet seldom meant: an upstream nobody uses, or one whose keys may collide.
pub(super) fn share(upstreams: &mut [UpstreamConfig], sections: &[Section], integrations: &[IntegrationConfig]) {
    let mut users: HashMap<&str, usize> = HashMap::new();
    for name in integrations.iter().flat_map(|integration| &integration.upstreams) {
        *users.entry(name).or_default() += 1;
    }
    for (upstream, section) in upstreams.iter_mut().zip(sections) {
        let count = users.get(&*upstream.name).copied().unwrap_or(0);
        // With a mistyped name elsewhere, the upstream that was meant would seem unused.
        if count == 0 && !section.has_errors() {
            let wrong = Wrong::value("no integration sends to this upstream").code("unused");
            section.warning("name", wrong.hint("name it under an integration's upstreams, or remove it"));
        }
        // Keys of different alert sources are different: at one source upstream they would meet.
        let sources = integrations.iter().filter(|integration| integration.upstreams.contains(&upstream.name));
        let sources = sources.map(|integration| integration.settings.alert_sources.len()).sum::<usize>();
        upstream.shared = count > 1 || (upstream.kind == Kind::IncidentIoAlert && sources > 1);
        if count > 1 && upstream.mode == Mode::Verbatim {
            let message = format!("{count} integrations send to it: keys become integration:dialect:key");
            let wrong = Wrong::value(message).code("shared_keys");
            section.warning(
                "name",
                wrong.hint("give each integration an upstream of its own to send bodies as they came"),
            );
        }
    }
}
