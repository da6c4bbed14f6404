//! A server's configuration, made from a scenario: an integration for each key of each dialect in the mix, one webhook
//! upstream, free ports on loopback. What the scenario lays over it wins. Called by [`crate::drive`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::dialect::{self, Dialect};
use crate::random::draw;
use crate::scenario::{Scenario, Source};

/// What a sender needs to speak for the integrations of one source.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub keys: Arc<[String]>,
    /// Ids of alert sources, where the dialect has them.
    pub ids: Arc<[String]>,
    /// Names of the integrations, where they are ours to know.
    pub names: Option<Vec<String>>,
}

/// The credentials of one source in a server of ours: repeatable for a seed.
#[must_use]
pub fn credentials(index: usize, source: &Source, dialect: &Dialect, seed: u64) -> Credentials {
    let numbers = 0..u64::from(source.integrations);
    let key = |number: u64| {
        let place = (index as u64) << 32 | number << 2;
        let digits: String = (0..3).map(|part| format!("{:016x}", draw(seed, place + part))).collect();
        digits[..dialect.key_digits].to_owned()
    };
    Credentials {
        keys: numbers.clone().map(key).collect(),
        ids: numbers.clone().map(|number| format!("lt-{index}-{number}")).collect(),
        names: Some(numbers.map(|number| format!("lt-{index}-{number}")).collect()),
    }
}

/// The whole configuration.
///
/// # Errors
/// The certificate for TLS cannot be made or written.
pub fn make(
    scenario: &Scenario,
    credentials: &[Option<Credentials>],
    upstream: SocketAddr,
    redis: Option<&str>,
    directory: &Path,
) -> anyhow::Result<Value> {
    let mut integrations = Vec::new();
    for (source, credentials) in scenario.mix.iter().zip(credentials) {
        let dialect = source.dialect.as_deref().and_then(dialect::named);
        let (Some(dialect), Some(credentials)) = (dialect, credentials) else {
            continue;
        };
        for (number, key) in credentials.keys.iter().enumerate() {
            let name = credentials.names.iter().flatten().nth(number);
            let mut integration = json!({ "name": name, "keys": [{ "key": key }], "upstreams": ["behind"] });
            if dialect.id == "incidentio_alert" {
                integration["alert_sources"] =
                    json!([{ "id": credentials.ids[number], "kind": "http", "secret": key }]);
                // The source's secret is no key as well.
                integration["keys"] = json!([{ "key": key.chars().rev().collect::<String>() }]);
            }
            lay_over(&mut integration, serde_json::from_str(dialect.integration)?);
            lay_over(&mut integration, Value::Object(scenario.surgegate.integration.clone()));
            integrations.push(integration);
        }
    }
    let mut behind = json!({ "name": "behind", "kind": "webhook", "url": format!("http://{upstream}/hook") });
    lay_over(&mut behind, Value::Object(scenario.upstream.settings.clone()));
    let mut configuration = json!({
        "listen": {
            "ingest": { "address": "127.0.0.1:0" },
            "observe": { "address": "127.0.0.1:0" },
            "admin": { "address": "127.0.0.1:0" },
        },
        "shutdown": { "drain": "0s" },
        "log": { "format": "json", "level": "info" },
        "spool": { "directory": "spool" },
        "integrations": integrations,
        "upstreams": [behind],
    });
    if let Some(url) = redis {
        configuration["redis"] = json!({ "url": url });
    }
    if scenario.client.tls {
        configuration["listen"]["ingest"]["tls"] = certificate(directory)?;
    }
    lay_over(&mut configuration, Value::Object(scenario.surgegate.settings.clone()));
    Ok(configuration)
}

/// One more integration, which nobody uses: what a reload reads.
pub fn add_integration(configuration: &mut Value) {
    if let Some(integrations) = configuration.get_mut("integrations").and_then(Value::as_array_mut) {
        let number = integrations.len();
        let key = format!("{:040x}", draw(number as u64, 0));
        integrations
            .push(json!({ "name": format!("reloaded-{number}"), "keys": [{ "key": key }], "upstreams": ["behind"] }));
    }
}

/// The configuration without its keys and secrets, for reports.
#[must_use]
pub fn masked(configuration: &Value) -> Value {
    match configuration {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| {
                    let secret = ["key", "secret", "credential", "url"].contains(&name.as_str()) && value.is_string();
                    let keep = name == "url" && value.as_str().is_some_and(|url| url.starts_with("http://127.0.0.1"));
                    (name.clone(), if secret && !keep { json!("***") } else { masked(value) })
                })
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        other => other.clone(),
    }
}

/// Members of objects are laid over each other, anything else is replaced.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                lay_over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A certificate of its own making, for 127.0.0.1.
fn certificate(directory: &Path) -> anyhow::Result<Value> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .context("cannot make a certificate")?;
    let write = |name: &str, text: String| -> anyhow::Result<String> {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let certificate = write("certificate.pem", made.cert.pem())?;
    let key = write("key.pem", made.signing_key.serialize_pem())?;
    Ok(json!({ "certificate": certificate, "key": key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_over_wins_and_leaves_its_neighbours() {
        let mut base = json!({ "spool": { "directory": "d", "durability": "fsync" }, "upstreams": [1] });
        lay_over(&mut base, json!({ "spool": { "durability": "memory" }, "upstreams": [2, 3], "new": true }));
        assert_eq!(
            base,
            json!({ "spool": { "directory": "d", "durability": "memory" }, "upstreams": [2, 3], "new": true })
        );
    }

    #[test]
    fn no_key_is_in_the_masked_configuration() {
        let configuration =
            json!({ "integrations": [{ "keys": [{ "key": "abcdef" }], "alert_sources": [{ "secret": "abcdef" }] }] });
        assert!(!masked(&configuration).to_string().contains("abcdef"));
    }

    #[test]
    fn keys_differ_between_sources_and_integrations_and_repeat_for_a_seed() {
        let scenario = crate::scenario::parse(
            "name: n\nphases: [{ name: p, duration: 1s, arrivals: { constant: 1 } }]\nmix: [{ dialect: squadcast, integrations: 300 }]\n",
        )
        .expect("a scenario");
        let squadcast = dialect::named("squadcast").expect("a dialect");
        let of = |index| credentials(index, &scenario.mix[0], squadcast, 7).keys;
        let mut all: Vec<String> = of(0).iter().chain(of(1).iter()).cloned().collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 600);
        assert_eq!(of(0), of(0));
        assert!(all.iter().all(|key| key.len() == 40));
    }
}
