//! A scrape of `/metrics`, and whether its books balance (INTERFACE 6).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::try_scrape;

/// How often the books are looked at (PROMISES D7).
pub const SCRAPE_EVERY: Duration = Duration::from_millis(100);

/// The samples of one scrape.
pub struct Scrape(Vec<Sample>);

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    pub fn parse(page: &str) -> Self {
        Self(page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(Sample::parse).collect())
    }

    /// Sum over all series of a metric that carry these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        for sample in &self.0 {
            if sample.name == format!("surgegate_{name}") && labels.iter().all(|label| sample.has(*label)) {
                sum += sample.value;
            }
        }
        sum
    }

    /// As [`Scrape::sum`], of a count.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name}{labels:?} is {sum}");
        sum as u64
    }

    fn upstreams(&self) -> BTreeSet<&str> {
        let of_events = self.0.iter().filter(|sample| sample.name == "surgegate_events_enqueued_total");
        of_events
            .flat_map(|sample| &sample.labels)
            .filter(|(name, _)| name == "upstream")
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Both identities of INTERFACE 6.
    pub fn assert_books_balance(&self) {
        let terms = ["events_accepted_total", "events_absorbed_total", "events_rejected_total", "events_in_flight"];
        let counts: Vec<_> = terms.iter().map(|name| (*name, self.count(name, &[]))).collect();
        let sum: u64 = counts.iter().map(|(_, count)| count).sum();
        assert_eq!(self.count("events_received_total", &[]), sum, "received is not the sum of {counts:?}");
        for upstream in self.upstreams() {
            let label = [("upstream", upstream)];
            let terms = ["events_delivered_total", "events_dropped_total", "dead_letters", "spool_events"];
            let counts: Vec<_> = terms.iter().map(|name| (*name, self.count(name, &label))).collect();
            let sum: u64 = counts.iter().map(|(_, count)| count).sum();
            let enqueued = self.count("events_enqueued_total", &label);
            assert_eq!(enqueued, sum, "enqueued for {upstream} is not the sum of {counts:?}");
        }
    }
}

/// Looks at the books again and again, of a process that may be away, until it is asked what came of it.
pub struct Auditor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<usize>>,
}

struct Shared {
    observe: Mutex<Option<SocketAddr>>,
    over: AtomicBool,
}

impl Auditor {
    pub fn start(observe: SocketAddr) -> Self {
        let shared = Arc::new(Shared { observe: Mutex::new(Some(observe)), over: AtomicBool::new(false) });
        let audited = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut scrapes = 0;
            while !audited.over.load(Ordering::Relaxed) {
                let observe = *audited.observe.lock().unwrap();
                if let Some(scrape) = observe.and_then(try_scrape) {
                    scrape.assert_books_balance();
                    scrapes += 1;
                }
                std::thread::sleep(SCRAPE_EVERY);
            }
            scrapes
        });
        Self { shared, thread: Some(thread) }
    }

    /// The process stands there now.
    pub fn move_to(&self, observe: SocketAddr) {
        *self.shared.observe.lock().unwrap() = Some(observe);
    }

    /// How many times the books balanced; they always did.
    pub fn end(mut self) -> usize {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("the books did not balance")
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Sample {
    /// `name{label="value",...} 1.5`
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels without end: {line}"));
        // No label of ours holds a quote or a comma.
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        Self { name: name.to_owned(), labels: labels.collect(), value }
    }

    fn has(&self, (name, value): (&str, &str)) -> bool {
        self.labels.iter().any(|(own, held)| own == name && held == value)
    }
}
