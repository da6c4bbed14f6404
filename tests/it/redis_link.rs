//! The way to Redis (issue 6) with real servers: how it finds them, and what becomes of calls when they decay. The calls
//! themselves cannot be seen from outside, so these tests use the crate's own link beside the real binary.

mod found;
mod told;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use surgegate::metrics::Metrics;
use surgegate::redis::{Call, Config, Down, Link, Reply, Scope, Script, Servers};

use crate::harness::{Surgegate, wait_until};

/// Far above what a server on this machine needs, far below a test's patience.
const TIMEOUT: Duration = Duration::from_millis(400);
/// Counts, and reads what it counted, so that it is told of the next change.
static COUNT: Script = Script::new("redis.call('INCR', KEYS[1]) return tonumber(redis.call('GET', KEYS[1]))");
static READ: Script = Script::new("return redis.call('GET', KEYS[1])");
static WRITE: Script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");

/// `urls`: one, or several in brackets.
fn config(urls: &str) -> Config {
    let urls: Vec<String> = urls.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect();
    Config {
        servers: Servers::parse(&urls).unwrap(),
        scope: Scope::Shared,
        timeout: TIMEOUT,
        key_prefix: "surgegate".to_owned(),
        replica_id: None,
        ca_file: None,
    }
}

/// A link that is up, and its metrics.
fn link(urls: &str) -> (Arc<Link>, Arc<Metrics>) {
    let metrics = Metrics::new(1).unwrap();
    let link = Link::start(&config(urls), &metrics).unwrap();
    wait_until("Redis", || link.is_up());
    (link, metrics)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn call(link: &Link, script: &'static Script, key: &str, arg: &str) -> Result<Reply, Down> {
    runtime().block_on(link.call(Call::new(script, format!("surgegate:{key}")).arg(arg)))
}

fn count(link: &Link, key: &str) -> Result<i64, Down> {
    call(link, &COUNT, key, "").map(|reply| redis::from_redis_value(reply).unwrap())
}

/// What the binary is told about Redis. On a busy machine its own bound would be missed for no reason of ours.
fn with(url: &str, further: &str) -> String {
    format!("redis:\n  url: {url}\n  timeout: 500ms\n{further}")
}

fn is_up(surgegate: &Surgegate) -> bool {
    surgegate.scrape().sum("redis_up", &[]) == 1.0
}
