//! Replicas that share a Redis and an upstream, and a model of what becomes of events that are posted to any of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::foretold::{Said, State, Told};
use crate::harness::{KEY, PATH, Raw, Recorder, Scrape, Stop, Surgegate, wait_until};

/// So long an answer of Redis is waited for where nothing is wrong with it: a busy machine must not fail a test.
pub const PATIENT: &str = "5s";

pub struct Fleet {
    pub recorder: Recorder,
    pub replicas: Vec<Surgegate>,
    /// What those that were killed had counted.
    ended: HashMap<&'static str, u64>,
}

/// What replicas count that lasts no longer than they.
const COUNTED: [&str; 2] = ["order_given_up_total", "dedup_unconfirmed_total"];

impl Fleet {
    /// Waits until all of them share their states.
    pub fn start(url: &str, replicas: usize, timeout: &str) -> Self {
        let fleet = Self::start_with(&vec![url.to_owned(); replicas], timeout, "");
        fleet.wait_until_joined();
        fleet
    }

    /// Each with a URL of its own.
    pub fn start_with(urls: &[String], timeout: &str, further: &str) -> Self {
        let recorder = Recorder::start();
        let common = format!(
            "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [pager]\n    \
             rate_limit: {{ requests_per_second: 1000000 }}\n\
             upstreams:\n  - {{ name: pager, kind: webhook, url: '{}', batch: {{ max_events: 100, max_wait: 10ms }} }}\n\
             limits: {{ idle_timeout: 10m }}\n",
            recorder.url()
        );
        let replicas = (0..).zip(urls).map(|(id, url)| {
            let redis = format!("redis:\n  url: {url}\n  timeout: {timeout}\n  replica_id: {id}\n");
            Surgegate::start(&[&common, &redis, further])
        });
        Self { replicas: replicas.collect(), recorder, ended: HashMap::new() }
    }

    pub fn wait_until_joined(&self) {
        for replica in &self.replicas {
            wait_until("Redis", || replica.scrape().sum("redis_up", &[]) == 1.0);
        }
    }

    pub fn wait_until_delivered(&self) {
        for replica in &self.replicas {
            replica.wait_until_delivered();
        }
    }

    /// Keeps what a replica that ends has counted.
    fn keep_counted(&mut self, last: &Scrape) {
        for metric in COUNTED {
            *self.ended.entry(metric).or_default() += last.count(metric, &[]);
        }
    }

    /// Waits until a replica has ended that was told to.
    pub fn wait_until_ended(&mut self, at: usize) {
        let mut last = None;
        wait_until("its end", || {
            last = self.replicas[at].observe("/metrics").ok().map(|page| Scrape::parse(&page.text())).or(last.take());
            self.replicas[at].ended().is_some()
        });
        last.iter().for_each(|last| self.keep_counted(last));
    }

    /// SIGKILL, and a new process on the same spool: ready, and the others know what it knew.
    pub fn kill_and_start(&mut self, at: usize) {
        let last = self.replicas[at].scrape();
        self.keep_counted(&last);
        self.replicas[at].kill();
        self.replicas[at].start_again();
        wait_until("Redis to be told", || self.replicas[at].scrape().sum("redis_write_lag_seconds", &[]) == 0.0);
    }

    /// Over all replicas, and those that were killed.
    fn counted(&self, metric: &str) -> u64 {
        self.sum(metric) + self.ended.get(metric).copied().unwrap_or_default()
    }

    /// Over all replicas.
    pub fn sum(&self, metric: &str) -> u64 {
        self.replicas.iter().map(|replica| replica.scrape().count(metric, &[])).sum()
    }
}

/// One key, as this client knows it.
#[derive(Default)]
struct Key {
    told: Told,
    /// The last event was a resolve, answered there and then.
    resolved: Option<(usize, Instant)>,
}

/// One client with its own keys: it knows the order of all that is said of them.
pub struct Model {
    name: String,
    keys: Vec<Key>,
    random: Rng,
    /// Where each event goes; `None`: anywhere.
    home: Option<usize>,
}

const KEYS_EACH: usize = 32;
/// Between a resolve's answer and a trigger elsewhere (PROMISES R2): so long word of it may take.
const APART: Duration = Duration::from_millis(100);
/// From here on nothing is believed without a question.
const APART_MOST: Duration = Duration::from_millis(1_100);
/// How late threads get to run of late, in microseconds.
static LATE: AtomicU64 = AtomicU64::new(0);

/// Word goes through several threads of three processes: where each of them may run late, it takes longer.
fn apart() -> Duration {
    (APART + Duration::from_micros(LATE.load(Ordering::Relaxed)) * 10).min(APART_MOST)
}

/// Measures it until told to stop.
fn watch_lateness(over: &AtomicBool) {
    const NAP: Duration = Duration::from_millis(2);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        std::thread::sleep(NAP);
        let late = began.elapsed().saturating_sub(NAP).as_micros() as u64;
        LATE.store(late.max(LATE.load(Ordering::Relaxed) / 100 * 99), Ordering::Relaxed);
    }
}

impl Model {
    pub fn many(count: usize, seed: u64) -> Vec<Self> {
        (0..count).map(|number| Self::new(&format!("m{number}"), seed.wrapping_add(number as u64), None)).collect()
    }

    pub fn new(name: &str, seed: u64, home: Option<usize>) -> Self {
        let keys = (0..KEYS_EACH).map(|_| Key::default()).collect();
        Self { name: name.to_owned(), keys, random: Rng::with_seed(seed), home }
    }

    pub fn key(&self, at: usize) -> String {
        format!("{}-k{at}", self.name)
    }

    /// Keys that something was said of.
    pub fn keys(&self) -> usize {
        self.keys.iter().filter(|key| key.told.state != State::Absent).count()
    }

    /// Posts one event to some replica; what is wrong with the answer.
    pub fn post(&mut self, connections: &mut [Raw]) -> Option<String> {
        let replica = self.home.unwrap_or_else(|| self.random.usize(..connections.len()));
        self.post_to(replica, &mut connections[replica])
    }

    /// The same, to this one.
    pub fn post_to(&mut self, replica: usize, connection: &mut Raw) -> Option<String> {
        let too_soon = |key: &Key| key.resolved.is_some_and(|(at, since)| at != replica && since.elapsed() < apart());
        let mut at = self.random.usize(..KEYS_EACH);
        while too_soon(&self.keys[at]) {
            at = self.random.usize(..KEYS_EACH);
        }
        let resolves = self.keys[at].told.state != State::Absent && self.random.u8(..10) < 4;
        let said = if resolves { Said::Resolve } else { Said::Trigger(self.random.u8(1..=5)) };
        let name = self.key(at);
        let answer = connection.post(PATH, said.body(&name)).unwrap();
        let Key { told, resolved } = &mut self.keys[at];
        let (outcome, is_new) = told.hear(said);
        if answer.status != 202 {
            return Some(format!("{name}: {} {}", answer.status, answer.text()));
        }
        let incident = answer.incident();
        let fits = (told.incident == incident) != is_new;
        told.incident = incident;
        *resolved = matches!(said, Said::Resolve).then(|| (replica, Instant::now()));
        let got = answer.outcome();
        (got != outcome || !fits).then(|| format!("{name} at {replica}: {got} for {outcome}, incident fits: {fits}"))
    }

    /// All at once, each on connections of its own.
    pub fn drive_all(models: &mut [Self], fleet: &Fleet, posts: usize) {
        let each = posts / models.len();
        let over = AtomicBool::new(false);
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let _stop = Stop(&over);
            scope.spawn(|| watch_lateness(&over));
            let running: Vec<_> = models
                .iter_mut()
                .map(|model| {
                    let mut connections: Vec<Raw> = fleet.replicas.iter().map(Surgegate::connect).collect();
                    scope.spawn(move || (0..each).filter_map(|_| model.post(&mut connections)).collect::<Vec<_>>())
                })
                .collect();
            running.into_iter().flat_map(|model| model.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "{} wrong answers: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    }

    /// Everything that was foretold has arrived, each event once, and nothing else, in the order in which it was said. A
    /// replica that does not get to run for seconds counts as gone, and its leases lapse: what the others then send out of
    /// turn or again they count, and as many keys may show it. On a machine that has time for them that is none.
    pub fn assert_forwarded(models: &[Self], fleet: &Fleet) {
        let (mut by_key, repeated) = arrived(&fleet.recorder);
        let (mut wrong, mut overtaken, mut again, mut foretold) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for model in models {
            for (at, Key { told, .. }) in model.keys.iter().enumerate() {
                let (got, said) = (by_key.remove(&model.key(at)).unwrap_or_default(), &told.forwards);
                foretold += said.len();
                match told_apart(&got, said) {
                    Apart::Same => {}
                    Apart::Overtaken => overtaken.push((model.key(at), got, said)),
                    Apart::Again(count) => again.extend(vec![(model.key(at), got, said); count]),
                    Apart::Wrong => wrong.push((model.key(at), got, said)),
                }
            }
        }
        assert!(wrong.is_empty(), "suppressed though new, or forwarded though a duplicate: {wrong:?}");
        assert!(by_key.is_empty(), "nobody sent {by_key:?}");
        let (given_up, unconfirmed) = (fleet.counted("order_given_up_total"), fleet.counted("dedup_unconfirmed_total"));
        assert!(overtaken.len() as u64 <= given_up, "in another order, and {given_up} were counted: {overtaken:?}");
        assert!(again.len() as u64 <= unconfirmed, "said again, and {unconfirmed} were counted: {again:?}");
        eprintln!(
            "{foretold} forwarded, {repeated} of them again after SIGKILL; {given_up} and {unconfirmed} counted: overtaken {}, \
             said again {}",
            overtaken.len(),
            again.len()
        );
    }

    /// As [`Model::assert_forwarded`], where events may have been said again: each that was foretold is there, and beside it
    /// none but repeats of it. How many those are.
    ///
    /// # Errors
    /// What is missing so far, or strange.
    pub fn said_again(&self, by_key: &HashMap<String, Vec<(String, u64)>>) -> Result<usize, String> {
        let mut again = 0;
        for (at, Key { told, .. }) in self.keys.iter().enumerate() {
            let got = by_key.get(&self.key(at)).cloned().unwrap_or_default();
            let mut rest = got.clone();
            for forward in &told.forwards {
                let place = rest.iter().position(|one| one == forward);
                rest.remove(place.ok_or_else(|| format!("{}: no {forward:?} in {got:?}", self.key(at)))?);
            }
            if rest.iter().any(|one| !told.forwards.contains(one)) {
                return Err(format!("{}: {got:?} for {:?}", self.key(at), told.forwards));
            }
            again += rest.len();
        }
        Ok(again)
    }

    /// Where each key stands, asked at a replica: duplicates of what is open, and of what is resolved. A key of which a
    /// replica says otherwise is asked for no more: what it said may have changed it.
    pub fn wrong_at(&mut self, connection: &mut Raw) -> Vec<String> {
        let mut wrong = Vec::new();
        for at in 0..KEYS_EACH {
            let (name, told) = (self.key(at), &mut self.keys[at].told);
            let (body, outcome) = match told.state {
                State::Absent => continue,
                State::Open => {
                    (format!(r#"{{"message":"m","description":"d","event_id":"{name}","priority":"P5"}}"#), "duplicate")
                }
                State::Resolved => (format!(r#"{{"status":"resolve","event_id":"{name}"}}"#), "duplicate_resolve"),
            };
            let answer = connection.post(PATH, body).unwrap();
            let is_known = answer.outcome() == outcome && answer.incident() == told.incident;
            if !is_known {
                wrong.push(format!("{name}: {} for {outcome} {}", answer.text(), told.incident));
                told.state = State::Absent;
            }
        }
        wrong
    }
}

/// What became of a key's events on the way.
enum Apart {
    Same,
    /// All are there, in another order.
    Overtaken,
    /// In order, and so many of them said again.
    Again(usize),
    Wrong,
}

fn told_apart(got: &[(String, u64)], said: &[(String, u64)]) -> Apart {
    let sorted = |all: &[(String, u64)]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all
    };
    let mut rest = got.iter();
    let in_order = said.iter().all(|one| rest.any(|other| other == one));
    if got == said {
        Apart::Same
    } else if in_order && got.iter().all(|one| said.contains(one)) {
        Apart::Again(got.len() - said.len())
    } else if sorted(got) == sorted(said) {
        Apart::Overtaken
    } else {
        Apart::Wrong
    }
}

/// By key, what the upstream got: action and generation, in order, each event once; and how many came again.
pub fn arrived(recorder: &Recorder) -> (HashMap<String, Vec<(String, u64)>>, usize) {
    let mut seen = HashSet::new();
    let mut by_key: HashMap<String, Vec<(String, u64)>> = HashMap::new();
    let mut repeated = 0;
    for event in recorder.events() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if seen.insert(text(&event["event_uid"])) {
            let said = (text(&event["action"]), event["incident"]["generation"].as_u64().unwrap_or_default());
            by_key.entry(text(&event["key"])).or_default().push(said);
        } else {
            repeated += 1;
        }
    }
    (by_key, repeated)
}

/// In the form in which ids are shown.
pub fn ulid(id: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..26).rev().map(|place| char::from(DIGITS[(id >> (5 * place) & 31) as usize])).collect()
}
