//! The room as a whole: defaults, every check with its place, many errors in one run, hostile texts.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::keys::{Fallback, ROWS, Shape};
use super::tree::{Node, Value};
use super::*;
use crate::gate::OnLimit;
use crate::machine::{ForwardDuplicates, UnknownResolve};
use crate::sink::{Batch, Kind, Mode, Pace};
use crate::store::Durability;

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const REFERENCE: &str = include_str!("../../config/surgegate.yaml");

fn nothing(_: &str) -> Option<String> {
    None
}

/// The smallest configuration, with lines added to the integration, to the upstream, and at the end.
fn text(integration: &str, upstream: &str, rest: &str) -> String {
    let lines = |lines: &str| lines.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {KEY} }}]\n    upstreams: [pager]\n{}\
         upstreams:\n  - name: pager\n    kind: webhook\n    url: https://a.example/hook\n{}{rest}",
        lines(integration),
        lines(upstream)
    )
}

fn read(text: &str) -> Result<Config, Errors> {
    load_text("surgegate.yaml", text, &nothing)
}

/// Each error as `line:column message`.
fn errors(text: &str) -> Vec<String> {
    let findings = read(text).map_or_else(|errors| errors.findings, |_| Vec::new());
    let errors = findings.into_iter().filter(|finding| finding.level == Level::Error);
    errors.map(|finding| format!("{}:{} {}", finding.line, finding.column, finding.message)).collect()
}

fn hints(text: &str) -> Vec<String> {
    let findings = read(text).map_or_else(|errors| errors.findings, |config| config.warnings);
    findings.into_iter().filter_map(|finding| finding.hint).collect()
}

#[test]
fn the_smallest_configuration_takes_every_default_of_the_interface() {
    let config = read(&text("", "", "")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.ingest.address.to_string(), "0.0.0.0:8080");
    assert_eq!(config.observe.to_string(), "0.0.0.0:9464");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9465");
    assert!(config.admin.token.is_none());
    assert_eq!((config.body.body_bytes, config.body.batch_body_bytes), (30_720, 4_194_304));
    assert!(config.body.gzip);
    assert_eq!((config.ingest.connections, config.body.body_bytes_in_flight), (None, 128 << 20));
    assert_eq!((config.ingest.header_bytes, config.ingest.headers, config.ingest.uri_bytes), (16 << 10, 64, 2 << 10));
    assert_eq!(config.ingest.header_timeout, Duration::from_secs(5));
    assert_eq!((config.body.body_timeout, config.body.slow_grace), (Duration::from_secs(10), Duration::from_secs(2)));
    assert_eq!((config.body.body_bytes_per_second, config.ingest.idle_timeout), (1024, Duration::from_secs(60)));
    assert_eq!(config.ingest.unauthenticated_requests_per_second, 1000);

    let [payments] = config.integrations.as_slice() else { panic!("one integration") };
    assert_eq!((&*payments.name, payments.key_hashes.len(), payments.enabled), ("payments", 1, true));
    assert!(payments.dialects.is_none() && payments.source_networks.is_none() && payments.event_rate.is_none());
    assert_eq!((payments.request_rate.per_second.get(), payments.request_rate.burst.get()), (10_000, 10_000));
    assert_eq!((payments.on_limit, payments.body_bytes), (OnLimit::Auto, None));
    assert_eq!(payments.policy.forward_duplicates, ForwardDuplicates::SeverityIncrease);
    assert_eq!(payments.policy.unknown_resolve, UnknownResolve::ForwardIfKeyed);
    assert_eq!((payments.default_severity, payments.require_description), (None, true));
    assert_eq!((payments.success_status, &*payments.upstreams[0]), (202, "pager"));

    let [pager] = config.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!((pager.kind, pager.mode, pager.pace, pager.batch), (Kind::Webhook, Mode::Normalized, None, None));
    assert_eq!((pager.timeout, pager.connections), (Duration::from_secs(10), 64));
    assert_eq!(pager.give_up_after, Duration::from_secs(24 * 3600));
    assert_eq!(pager.redeliver_after, Duration::from_secs(300));
    assert!(pager.credential.is_none());

    let day = Duration::from_secs(24 * 3600);
    let dedup = &config.dedup;
    assert_eq!((dedup.open_ttl, dedup.resolved_ttl, dedup.idempotency_ttl), (30 * day, day, 7 * day));
    assert_eq!((dedup.replay_ttl, dedup.max_keys, dedup.redeliver_after), (day, 1_000_000, Duration::from_secs(300)));
    let spool = &config.spool;
    assert_eq!((spool.store.directory.as_path(), spool.store.durability), (Path::new("./data"), Durability::Fsync));
    assert_eq!((spool.store.max_bytes, spool.store.segment_bytes), (10 << 30, 64 << 20));
    assert_eq!((spool.retain, spool.index_bytes), (day, 64 << 20));
    assert_eq!(config.drain, Duration::from_secs(20));
    assert_eq!(config.log, Log { format: LogFormat::Auto, level: tracing::Level::INFO });
}

#[test]
fn every_error_is_reported_in_one_run_with_its_line_a_caret_and_a_hint() {
    let written = "\
listen:
  ingest: { address: 8080, tls: { certificate: a, key: b } }
limits:
  body_timeout: 10
  gzip: yes
  body_byte: 30720
integrations:
  - name: Payments
    keys: [{ key: hunter2hunter2, key_sha256: zz }]
    upstream: [pager]
    ack: delivered
upstreams:
  - name: pager
    kind: webhok
    url: https://user:hunter2@a.example
    batch: { max_events: 0 }
";
    let expected = "\
error: listen.ingest.address: not an address: \"8080\"
 --> surgegate.yaml:2:22
  |
2 |   ingest: { address: 8080, tls: { *** *** *** *** } }
  |                      ^^^^
  = help: write an IP address and a port: \"0.0.0.0:8080\" or \"[::1]:8080\"
";
    let shown = read(written).unwrap_err().to_string();
    let golden = include_str!("golden/many_errors.txt");
    assert_eq!(shown.trim_end(), golden.trim_end(), "\n{shown}");
    assert!(!shown.contains("hunter2"), "a secret is shown");
    let _ = expected;
}
