//! What a run is made against: a server that stands somewhere or one of ours, its credentials, and the upstream behind it.
//! Called by `drive.rs`, before the load.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail, ensure};

use super::{Options, environment, plan};
use crate::ledger::Ledger;
use crate::results::Environment;
use crate::scenario::Scenario;
use crate::server::Servers;
use crate::server::configuration::{self, Credentials};
use crate::server::redis::Redis;
use crate::upstream::{fault, own::Own};
use crate::witness::Witness;
use crate::{dialect, target};

pub(super) struct Stand {
    pub(super) servers: Servers,
    pub(super) host: Option<String>,
    pub(super) base_path: String,
}

/// The server: one that stands somewhere, or one of ours.
pub(super) fn stand(
    scenario: &Scenario,
    options: &Options,
    credentials: &[Option<Credentials>],
    upstream: Option<&Own>,
    redis: Option<&Redis>,
    directory: PathBuf,
    environment: &mut Environment,
) -> anyhow::Result<Stand> {
    if let Some(text) = &options.target {
        let text = text.strip_prefix("https://").unwrap_or(text);
        let target = target::parse(text)?;
        environment.target = text.to_owned();
        let servers = Servers::elsewhere(target.address, options.observe);
        return Ok(Stand { servers, host: Some(target.host), base_path: target.base_path });
    }
    let binary = binary(options)?;
    let upstream = upstream.context("a server of ours needs an upstream of ours")?;
    let redis = redis.map(Redis::url);
    let configuration = configuration::make(scenario, credentials, upstream.address, redis.as_deref(), &directory)?;
    environment.configuration = Some(configuration::masked(&configuration));
    environment.commit = environment::commit_of(&binary);
    environment.target = binary.display().to_string();
    let servers = Servers::start(binary, directory, configuration)?;
    Ok(Stand { servers, host: None, base_path: String::new() })
}

fn binary(options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(binary) = &options.surgegate {
        ensure!(binary.is_file(), "{} is no file", binary.display());
        return binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()));
    }
    let own = std::env::current_exe().context("cannot find the load tester itself")?;
    let near = own.ancestors().skip(1).take(2).map(|directory| directory.join("surgegate"));
    let Some(found) = near.clone().find(|candidate| candidate.is_file()) else {
        let looked: Vec<String> = near.map(|candidate| candidate.display().to_string()).collect();
        bail!(
            "no surgegate at {}: build it, or name it with --surgegate, or load another with --target",
            looked.join(" or ")
        );
    };
    Ok(found)
}

pub(super) fn credentials(
    scenario: &Scenario,
    options: &Options,
    seed: u64,
) -> anyhow::Result<Vec<Option<Credentials>>> {
    let of = |(index, source): (usize, &crate::scenario::Source)| {
        let Some(dialect) = source.dialect.as_deref().and_then(dialect::named) else {
            return Ok(None);
        };
        if options.target.is_none() {
            return Ok(Some(configuration::credentials(index, source, dialect, seed)));
        }
        ensure!(!source.keys.is_empty(), "{}: a --target needs `keys` of its integrations in the mix", source.name());
        Ok(Some(Credentials { keys: source.keys.clone().into(), ids: source.ids.clone().into(), names: None }))
    };
    scenario.mix.iter().enumerate().map(of).collect()
}

/// The own upstream; a target has one only where it was told to listen.
pub(super) fn upstream(
    scenario: &Scenario,
    options: &Options,
    run: u32,
    entries: &[plan::Entry],
    ledger: &Arc<Mutex<Ledger>>,
) -> anyhow::Result<Option<Own>> {
    let address = match (options.upstream, &options.target) {
        (Some(address), _) => address,
        (None, None) => SocketAddr::from(([127, 0, 0, 1], 0)),
        (None, Some(_)) => return Ok(None),
    };
    let witness = Witness::new(run, plan::expected(entries), Arc::clone(ledger));
    let faults = scenario.upstream.faults.iter().map(|spec| fault::parse(spec)).collect::<Result<Vec<_>, _>>();
    let latency = scenario.upstream.latency.unwrap_or_default().0;
    Own::start(address, witness, latency, faults.map_err(anyhow::Error::msg)?).map(Some)
}
