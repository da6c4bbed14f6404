//! Looks at the servers while they are loaded: processor, memory, descriptors of their processes, and their own
//! metrics. A thread of its own, because the reads block. Called by `drive.rs`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::server::{Servers, Usage, fetch};

/// Metrics that are kept of a scrape, all labels added up.
const KEPT: &[&str] = &[
    "surgegate_events_accepted_total",
    "surgegate_events_absorbed_total",
    "surgegate_events_rejected_total",
    "surgegate_events_delivered_total",
    "surgegate_deliveries_repeated_total",
    "surgegate_events_dead_lettered_total",
    "surgegate_dead_letters",
    "surgegate_spool_events",
    "surgegate_spool_bytes",
    "surgegate_http_connections",
    "surgegate_upstream_circuit_state",
    "surgegate_dedup_entries",
];
/// The longest sleep: how late it may see that it was stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// What was seen last, and the highest of the whole run.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) usage: Option<Usage>,
    pub(super) rss_max_bytes: u64,
    pub(super) descriptors_max: u64,
    pub(super) metrics: BTreeMap<String, f64>,
    /// What the server says of itself: `version` and `commit` of `build_info`.
    pub(super) build: BTreeMap<String, String>,
}

pub(super) struct Scraper {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Scraper {
    /// Looks every so often. `metrics` is false where nobody serves them.
    pub(super) fn start(servers: Arc<Servers>, every: Duration, metrics: bool) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let seen = Arc::<Mutex<Seen>>::default();
        let thread = std::thread::Builder::new()
            .name("scraper".to_owned())
            .spawn({
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                move || {
                    let mut next = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(wait) = next.checked_duration_since(Instant::now()) {
                            std::thread::sleep(wait.min(LONGEST_SLEEP));
                            continue;
                        }
                        next = Instant::now() + every;
                        look(&servers, metrics, &seen);
                    }
                }
            })
            .context("cannot start the scraper")?;
        Ok(Self { thread, stop, seen })
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn look(servers: &Servers, metrics: bool, seen: &Mutex<Seen>) {
    let usage = servers.usage();
    let mut sums = BTreeMap::new();
    let mut build = BTreeMap::new();
    for replica in 0..servers.count() {
        let addresses = servers.address(replica).filter(|_| metrics);
        if let Some(answer) = addresses.and_then(|addresses| fetch::get(addresses.observe, "/metrics").ok()) {
            add_up(&answer.body, &mut sums, &mut build);
        }
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(usage) = usage {
        seen.rss_max_bytes = seen.rss_max_bytes.max(usage.rss_bytes);
        seen.descriptors_max = seen.descriptors_max.max(usage.descriptors);
    }
    seen.usage = usage.or(seen.usage);
    seen.metrics = sums;
    if !build.is_empty() {
        seen.build = build;
    }
}

/// Adds the kept metrics of one scrape.
fn add_up(text: &str, sums: &mut BTreeMap<String, f64>, build: &mut BTreeMap<String, String>) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        if name == "surgegate_build_info" {
            for label in ["version", "commit", "revision"] {
                let value = line.split_once(&format!("{label}=\"")).and_then(|(_, rest)| rest.split_once('"'));
                build.extend(value.map(|(value, _)| (label.to_owned(), value.to_owned())));
            }
        }
        if KEPT.contains(&name)
            && let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok())
        {
            *sums.entry(name.trim_start_matches("surgegate_").to_owned()).or_default() += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_up_and_other_metrics_left_out() {
        let text = "# HELP x\nsurgegate_spool_events{upstream=\"a b\"} 3\nsurgegate_spool_events{upstream=\"c\"} 4\n\
                    surgegate_http_requests_total{code=\"202\"} 9\nsurgegate_build_info{version=\"0.1.0\",commit=\"abc\"} 1\n";
        let (mut sums, mut build) = (BTreeMap::new(), BTreeMap::new());
        add_up(text, &mut sums, &mut build);
        assert_eq!(sums, BTreeMap::from([("spool_events".to_owned(), 7.0)]));
        assert_eq!(build["commit"], "abc");
    }
}
