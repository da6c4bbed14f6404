//! The section `integrations`: who may send, with which keys, and where it goes.

mod hooks;
mod settings;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::files;
use super::process::{whole, whole32};
use super::reader::Section;
use super::report::{Place, Wrong, nearest, quote};
use super::upstreams::Names;
use crate::event::Severity;
use crate::gate::{Ack, IntegrationConfig, OnLimit, Rate};
use crate::machine::{ForwardDuplicates, Policy, UnknownResolve};
use crate::sink::{Kind, UpstreamConfig};

/// Keys the proxy issues (contracts 2.2): lower-case hex, this many characters on a path or for PagerDuty.
const KEY_LENGTHS: [usize; 2] = [40, 32];

/// The integrations, each beside its section.
pub(super) fn read<'t>(root: &Section<'t>, upstreams: &Names) -> (Vec<IntegrationConfig>, Vec<Section<'t>>) {
    let mut names = Taken::default();
    let mut keys = Taken::default();
    let mut sources = Taken::default();
    let sections = root.sections("integrations").into_iter();
    let read = |section: Section<'t>| {
        let config = integration(&section, upstreams, &mut names, &mut keys, &mut sources);
        config.map(|config| (config, section))
    };
    sections.filter_map(read).unzip()
}

/// What the dialects must know of an integration's upstreams.
pub(super) fn learn(integrations: &mut [IntegrationConfig], upstreams: &[UpstreamConfig]) {
    let closing = |name: &Arc<str>| {
        let upstream = upstreams.iter().find(|upstream| upstream.name == *name)?;
        upstream.vendor.closed_status_id.clone()
    };
    let first = |integration: &IntegrationConfig, kind: Kind| {
        let is_of = |name: &&Arc<str>| upstreams.iter().any(|one| one.name == **name && one.kind == kind);
        integration.upstreams.iter().find(is_of).cloned()
    };
    let has_any = |kind: Kind| upstreams.iter().any(|upstream| upstream.kind == kind);
    let (has_incidentio, has_taskcall) = (has_any(Kind::IncidentIo), has_any(Kind::TaskCall));
    for integration in integrations {
        if has_incidentio {
            integration.settings.incidentio_upstream = first(integration, Kind::IncidentIo);
        }
        if has_taskcall {
            let name = first(integration, Kind::TaskCall);
            let upstream = upstreams.iter().find(|one| Some(&one.name) == name.as_ref());
            integration.settings.taskcall_runbooks =
                upstream.and_then(|one| one.vendor.runbooks).map(crate::sink::Runbooks::list);
            integration.settings.taskcall_upstream = name;
        }
        if integration.ack.is_some_and(|ack| ack.relays) {
            integration.settings.opsgenie_upstream = first(integration, Kind::Opsgenie);
        }
        integration.settings.closed_status_ids = integration.upstreams.iter().filter_map(closing).collect();
    }
}

/// What must be unique, and the line where it stood first.
pub(super) struct Taken<T>(HashMap<T, usize>);

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: std::hash::Hash + Eq> Taken<T> {
    /// Takes `item`, or tells where it was taken before.
    pub(super) fn take(&mut self, item: T, place: Place) -> Result<(), Wrong> {
        match self.0.get(&item) {
            Some(line) => Err(Wrong::value(format!("already used at line {line}")).code("duplicate")),
            None => {
                self.0.insert(item, place.line);
                Ok(())
            }
        }
    }
}

fn integration(
    section: &Section,
    upstreams: &Names,
    names: &mut Taken<String>,
    keys: &mut Taken<[u8; 32]>,
    sources: &mut Taken<String>,
) -> Option<IntegrationConfig> {
    let name = section.name("name");
    if let Some(name) = &name
        && let Err(wrong) = names.take(name.clone(), section.place_of("name"))
    {
        section.error("name", wrong.hint("names of integrations are unique"));
    }
    let key_hashes = section.sections("keys").iter().filter_map(|entry| key(entry, keys)).collect();
    let (event_rate, request_rate) = rates(&section.section("rate_limit"));
    let config = IntegrationConfig {
        // The name was reported; the rest is read for its errors.
        name: Arc::from(name.clone().unwrap_or_default()),
        key_hashes,
        enabled: section.switch("enabled"),
        dialects: section.dialects("dialects").map(|list| list.into_iter().map(|(_, word)| word.to_owned()).collect()),
        source_networks: section.networks("source_networks").map(|list| list.into_iter().map(|(_, net)| net).collect()),
        upstreams: targets(section, upstreams),
        event_rate,
        request_rate,
        on_limit: match section.choice("on_limit") {
            Some("reject") => OnLimit::Reject,
            Some("spool") => OnLimit::Spool,
            _ => OnLimit::Auto,
        },
        body_bytes: section.size("body_bytes").map(|bytes| whole(Some(bytes))),
        policy: Policy {
            forward_duplicates: match section.choice("forward_duplicates") {
                Some("none") => ForwardDuplicates::None,
                Some("all") => ForwardDuplicates::All,
                _ => ForwardDuplicates::SeverityIncrease,
            },
            unknown_resolve: match section.choice("unknown_resolve") {
                Some("drop") => UnknownResolve::Drop,
                Some("reject") => UnknownResolve::Reject,
                _ => UnknownResolve::ForwardIfKeyed,
            },
        },
        default_severity: level(section, "default_severity"),
        require_description: section.switch("require_description"),
        success_status: section.count("success_status").and_then(|status| u16::try_from(status).ok()).unwrap_or(202),
        ack: ack(section),
        passes_ids: passes_ids(section),
        settings: settings::read(section, sources),
    };
    name.map(|_| config)
}

fn passes_ids(section: &Section) -> bool {
    let passes = section.has("id_passthrough") && section.switch("id_passthrough");
    if passes && section.choice("respond") != Some("upstream") {
        let wrong = Wrong::value("nobody but the upstream can answer for such an id").code("conflict");
        section.error("id_passthrough", wrong.hint("add respond: upstream, or remove it"));
    }
    passes
}

fn ack(section: &Section) -> Option<Ack> {
    let relays = section.choice("respond") == Some("upstream");
    let waits = section.choice("ack") == Some("delivered") || relays;
    // Read for its errors too, and of ten thousand that do not wait only where it is written.
    let timeout = (waits || section.has("ack_timeout")).then(|| section.duration("ack_timeout"));
    timeout.filter(|_| waits).map(|timeout| Ack { timeout, relays })
}

/// Whether each integration that gives its upstream's answers speaks what that speaks; one that does not say what it
/// speaks is held to that.
pub(super) fn relay(sections: &[Section], integrations: &mut [IntegrationConfig], upstreams: &[UpstreamConfig]) {
    let relays = |one: &IntegrationConfig| one.ack.is_some_and(|ack| ack.relays);
    for (integration, section) in integrations.iter_mut().zip(sections).filter(|(one, _)| relays(one)) {
        let first = integration.upstreams.first();
        let Some(upstream) = upstreams.iter().find(|upstream| Some(&upstream.name) == first) else { continue };
        let own = upstream.kind.dialects();
        let fault = match &integration.dialects {
            _ if own.is_empty() => Some(format!("upstreams of kind {} answer in no dialect", upstream.kind.name())),
            Some(all) => all.iter().find(|dialect| !own.contains(&dialect.as_str())).map(|dialect| {
                format!("{} is not what upstreams of kind {} speak", quote(dialect), upstream.kind.name())
            }),
            None => {
                integration.dialects = Some(own.iter().map(|dialect| (*dialect).to_owned()).collect());
                None
            }
        };
        if let Some(fault) = fault {
            let wrong = Wrong::value(fault).code("conflict");
            section.error("respond", wrong.hint("an answer is relayed to senders of the same dialect alone"));
        }
    }
}

fn level(section: &Section, key: &str) -> Option<Severity> {
    section.count(key).and_then(|level| u8::try_from(level).ok()).and_then(Severity::new)
}

/// The hash of one key entry.
fn key(entry: &Section, keys: &mut Taken<[u8; 32]>) -> Option<[u8; 32]> {
    let written = entry.text("key").map(|text| ("key", text));
    let path = entry.file("key_file");
    let digest = entry.digest("key_sha256").map(|digest| ("key_sha256", digest));
    let given: Vec<&str> = ["key", "key_file", "key_sha256"].into_iter().filter(|key| entry.has(key)).collect();
    match given.as_slice() {
        [] if entry.is_broken() => return None,
        [] => {
            let wrong = Wrong::value("no key").code("missing");
            entry.error_here(wrong.hint("write exactly one of key, key_file and key_sha256"));
            return None;
        }
        [_] => {}
        [_, second, ..] => {
            let wrong = Wrong::value("more than one key in one entry").code("conflict");
            entry.error(second, wrong.hint("write exactly one of key, key_file and key_sha256"));
            return None;
        }
    }
    let read = path.and_then(|path| files::secret(entry, "key_file", &path)).map(|text| ("key_file", text.to_string()));
    let (from, hash) = match written.or(read) {
        Some((from, text)) => {
            judge(entry, from, &text);
            (from, Sha256::digest(text.as_bytes()).into())
        }
        None => digest?,
    };
    if let Err(wrong) = keys.take(hash, entry.place()) {
        entry.error(from, wrong.hint("a key names one integration: give each its own"));
    }
    Some(hash)
}

/// A key must fit into a path or a header; other than the issued form it is only warned about.
fn judge(entry: &Section, from: &str, text: &str) {
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        entry.error(
            from,
            Wrong::value("a key with white space in it").hint("remove it: a key stands in a path or a header"),
        );
        return;
    }
    let issued =
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) && KEY_LENGTHS.contains(&text.len());
    if !issued {
        let wrong = Wrong::value("not of the recommended form").code("key_form");
        entry.warning(from, wrong.hint(form_hint(text)));
    }
}

/// What was most likely meant by a key of another form.
fn form_hint(text: &str) -> &'static str {
    match text.as_bytes() {
        [b'"' | b'\'', ..] | [.., b'"' | b'\''] => {
            "the quotes are part of the key: remove them from the variable or the file"
        }
        [b'$', ..] => "a variable is written with braces: ${NAME}",
        _ => "use 40 lower-case hex characters: surgegate keys generate",
    }
}

fn targets(section: &Section, upstreams: &Names) -> Vec<Arc<str>> {
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    for (place, name) in section.names("upstreams") {
        match upstreams.find(&name) {
            Some(_) if !seen.insert(name.clone()) => {
                section.error_at(
                    place,
                    "upstreams",
                    Wrong::value(format!("{} stands twice", quote(&name)))
                        .code("duplicate")
                        .hint("remove one: an event goes to each upstream once"),
                );
            }
            Some(upstream) => targets.push(upstream),
            // Every name would be unknown; what is wrong with the upstreams was reported.
            None if upstreams.count() == 0 => {}
            None if section.is_full() => section.error_at(place, "upstreams", Wrong::value("")),
            None => {
                let known = || upstreams.iter().collect::<Vec<_>>().join(", ");
                let hint = match nearest(&name, upstreams.iter()) {
                    Some(near) => format!("did you mean {}?", quote(near)),
                    None if upstreams.count() <= 10 => format!("known upstreams: {}", known()),
                    None => "add it under upstreams".to_owned(),
                };
                let wrong = Wrong::value(format!("no upstream is called {}", quote(&name))).code("unknown_upstream");
                section.error_at(place, "upstreams", wrong.hint(hint));
            }
        }
    }
    targets
}

fn rates(limit: &Section) -> (Option<Rate>, Rate) {
    let rate = |per_second: u64, burst: Option<u64>| Rate {
        per_second: NonZeroU32::new(whole32(per_second)).unwrap_or(NonZeroU32::MIN),
        burst: NonZeroU32::new(whole32(burst.unwrap_or(per_second))).unwrap_or(NonZeroU32::MIN),
    };
    let events = limit.count("events_per_second");
    let burst = limit.count("burst");
    if burst.is_some() && !limit.has("events_per_second") {
        let wrong = Wrong::value("a burst without a rate").code("conflict");
        limit.error("burst", wrong.hint("add events_per_second"));
    }
    let requests = limit.count("requests_per_second").unwrap_or_default();
    (events.map(|events| rate(events, burst)), rate(requests, None))
}
