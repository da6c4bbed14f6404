//! Fleets that remember: clients that say everything until it is answered 2xx, know what each answer must be, and
//! write down what the upstream owes them; and a scraper that looks at the books meanwhile. Used where the process
//! is killed, its disk fails or its machine loses power.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;

use crate::faults::{Arrival, first_arrivals};
use crate::harness::{Answer, PATH, Raw, SCRAPE_EVERY, Scrape, Surgegate, request, try_scrape};

/// What clients, the scraper and the test share.
pub struct Fleet {
    /// Where to post and where to scrape; `None` while the process is away.
    addresses: Mutex<Option<(SocketAddr, SocketAddr)>>,
    over: AtomicBool,
    /// Clients keep silent, so that nothing but time commits what is settled.
    pub quiet: AtomicBool,
    /// Requests sent and not answered.
    pub asking: AtomicUsize,
    /// Requests whose connection ended in place of an answer.
    pub broken: AtomicUsize,
    /// Answers with 503.
    pub refused: AtomicUsize,
    pub scrapes: AtomicUsize,
    /// A client stops after so many events.
    pub events_each: usize,
    /// Bytes of a trigger's description.
    pub padding: usize,
    /// The log may be out of order for a while: 503 is then an answer, and what it refused must leave no trace.
    pub may_refuse: bool,
}

/// By key, in order, what must have reached the upstream.
pub type ToldByKey = HashMap<String, Vec<Told>>;

/// An event that was answered 2xx and is no duplicate.
#[derive(Clone, Debug)]
pub struct Told {
    pub action: &'static str,
    pub title: String,
}

/// Ends the clients when dropped.
pub struct End<'a>(&'a Fleet);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Fleet {
    pub fn new(surgegate: &Surgegate) -> Self {
        Self {
            addresses: Mutex::new(Some((surgegate.ingest(), surgegate.observe_address()))),
            over: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            asking: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            scrapes: AtomicUsize::new(0),
            events_each: usize::MAX,
            padding: 1,
            may_refuse: false,
        }
    }

    /// It is over when this is dropped, also by a panic.
    pub fn ends(&self) -> End<'_> {
        End(self)
    }

    /// The process stands here now, or is away.
    pub fn move_to(&self, surgegate: Option<&Surgegate>) {
        *self.addresses.lock().unwrap() = surgegate.map(|process| (process.ingest(), process.observe_address()));
    }

    fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        *self.addresses.lock().unwrap()
    }

    /// The open connection, or a new one, once the process is there.
    pub fn connect<'a>(&self, connection: &'a mut Option<Raw>) -> &'a mut Raw {
        while connection.is_none() {
            *connection = self.addresses().and_then(|(ingest, _)| Raw::try_connect(ingest).ok());
            if connection.is_none() {
                assert!(!self.over.load(Ordering::Relaxed), "it is over, and an event was never answered");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        connection.as_mut().expect("a connection")
    }

    /// Says it until the 2xx is read. The flag: whether an answer was lost before.
    pub fn say(&self, connection: &mut Option<Raw>, bytes: &[u8]) -> (Answer, bool) {
        let mut again = false;
        loop {
            let open = self.connect(connection);
            self.asking.fetch_add(1, Ordering::Relaxed);
            let answer = open.send(bytes).and_then(|()| open.answer());
            self.asking.fetch_sub(1, Ordering::Relaxed);
            match answer {
                Ok(answer) if self.may_refuse && answer.status == 503 => {
                    assert!(answer.header("retry-after").is_some(), "503 without Retry-After: {answer:?}");
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    assert!(!self.over.load(Ordering::Relaxed), "refused to the end: {}", answer.text());
                    // Sooner than it asks for: more finds the disk as it fails.
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 202, "{}", answer.text());
                    return (answer, again);
                }
                Err(_) => {
                    self.broken.fetch_add(1, Ordering::Relaxed);
                    again = true;
                    *connection = None;
                }
            }
        }
    }

    /// One fleet: fresh triggers, duplicates, resolves and reopenings on keys of its own, which `name` tells from
    /// others'.
    pub fn client(&self, name: &str, mut rng: Rng) -> ToldByKey {
        let mut told = ToldByKey::new();
        let (mut open, mut resolved) = (Vec::<String>::new(), Vec::<String>::new());
        let mut connection = None;
        let description = "x".repeat(self.padding);
        for number in 0..self.events_each {
            while self.quiet.load(Ordering::Relaxed) && !self.over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let title = format!("event {name}-{number}");
            let trigger =
                |key: &str| format!(r#"{{"message":"{title}","description":"{description}","event_id":"{key}"}}"#);
            let mut one_of =
                |keys: &mut Vec<String>| (!keys.is_empty()).then(|| keys.swap_remove(rng.usize(..keys.len())));
            let (key, action) = match number % 10 {
                0 | 1 => (one_of(&mut open), "duplicate"),
                2..=4 => (one_of(&mut open), "resolve"),
                5 => (one_of(&mut resolved), "trigger"),
                _ => (None, "trigger"),
            };
            let (key, action) = key.map_or_else(|| (format!("key-{name}-{number}"), "trigger"), |key| (key, action));
            let body = if action == "resolve" { crate::harness::resolve(&key) } else { trigger(&key) };
            let (answer, again) =
                self.say(&mut connection, &request("POST", PATH, &["Content-Type: application/json"], body));
            let foretold: &[&str] = match (action, again) {
                ("trigger", false) => &["created"],
                // The event may have been kept although its answer was not read.
                ("trigger", true) => &["created", "duplicate"],
                ("resolve", false) => &["resolved"],
                ("resolve", true) => &["resolved", "duplicate_resolve"],
                _ => &["duplicate"],
            };
            assert!(
                foretold.contains(&answer.outcome()),
                "{action} of {key} (again: {again}) gave {}",
                answer.outcome()
            );
            if action != "duplicate" {
                told.entry(key.clone()).or_default().push(Told { action, title });
            }
            if action == "resolve" { resolved.push(key) } else { open.push(key) }
        }
        told
    }

    /// Scrapes until it is over and looks whether the books balance (PROMISES D7); the process may be away at any
    /// moment.
    pub fn scrape(&self) {
        while !self.over.load(Ordering::Relaxed) {
            if let Some(scrape) = self.addresses().and_then(|(_, observe)| try_scrape(observe)) {
                scrape.assert_books_balance();
                self.scrapes.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(SCRAPE_EVERY);
        }
    }
}

/// What was answered 2xx came, in order within its key, nothing else came, and the books of an empty queue say so.
pub fn judge(told: &ToldByKey, arrivals: &[Arrival], scrape: &Scrape) {
    let (first, last) = (first_arrivals(arrivals), last_arrivals(arrivals));
    for (key, told) in told {
        let came = first.get(key).map_or(&[][..], Vec::as_slice);
        same_order(key, told, came);
        let last = last.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        assert!(came.iter().map(|arrival| &arrival.uid).eq(last), "repeats turned the order of {key}");
    }
    assert_eq!(first.len(), told.len(), "keys came that nobody posted");
    let events: usize = told.values().map(Vec::len).sum();
    assert_eq!(scrape.count("events_accepted_total", &[]) as usize, events);
    assert_eq!(scrape.count("events_delivered_total", &[]) as usize, events);
    assert_eq!(scrape.count("dead_letters", &[]) + scrape.count("events_dropped_total", &[]), 0);
}

fn same_order(key: &str, told: &[Told], came: &[Arrival]) {
    // A resolve has no title of its own.
    let words =
        |action: &str, title: &str| if action == "trigger" { format!("trigger {title}") } else { action.to_owned() };
    let mut generation = 0;
    let told = told.iter().map(|told| {
        generation += u64::from(told.action == "trigger");
        (words(told.action, &told.title), generation)
    });
    let came = came.iter().map(|arrival| (words(&arrival.action, &arrival.title), arrival.generation));
    assert_eq!(came.collect::<Vec<_>>(), told.collect::<Vec<_>>(), "of {key}: what came, and what was answered 2xx");
}

/// By key, its events in the order of their last arrival.
fn last_arrivals(arrivals: &[Arrival]) -> HashMap<&str, Vec<&str>> {
    let mut seen = HashSet::new();
    let mut by_key = HashMap::<&str, Vec<&str>>::new();
    for arrival in arrivals.iter().rev() {
        if seen.insert(arrival.uid.as_str()) {
            by_key.entry(&arrival.key).or_default().push(&arrival.uid);
        }
    }
    by_key.values_mut().for_each(|uids| uids.reverse());
    by_key
}
