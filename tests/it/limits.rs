//! O5: one key at a hundred times its limit, another one too, and keys that nobody knows, all at once. Who keeps to
//! its limit is never refused and hardly slower, each limit is exact, and what was refused leaves nothing behind.
//!
//! `SURGEGATE_TORTURE_LIMIT_SECONDS` sets how long, `SURGEGATE_TORTURE_UNKNOWN` how many unknown keys at least,
//! `SURGEGATE_TORTURE_STRICT=1` holds the slowdown to a figure that a busy machine would not keep.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::crash::figure;
use crate::harness::{
    Answer, KEY, PATH, Raw, Recorder, Surgegate, alone, measured, request, resolve, trigger, wait_until, within,
};

const HOT_KEY: &str = "b0bb1e5000000000000000000000000000000001";
const BUSY_KEY: &str = "b0bb1e5000000000000000000000000000000002";
/// Of both limits; the load is a hundred times as much.
const PER_SECOND: usize = 20;
const BURST: usize = 20;
/// Requests that a loader sends at once, so often that they come to its load.
const AT_ONCE: usize = 20;
const EVERY: Duration = Duration::from_millis(10);
/// Senders of unknown keys.
const STRANGERS: usize = 2;
/// Of a well-behaved sender.
const KEYS: usize = 100;
const THINKS: Duration = Duration::from_millis(2);
/// Unknown keys before memory is looked at first; a million of them may take many minutes.
const WARM: usize = 1_000;
const GROWTH_MAX: u64 = 16 << 20;
/// No machine is so busy.
const P99_MAX: Duration = Duration::from_secs(2);

fn configuration(recorder: &Recorder) -> String {
    let limits = |key: &str| match key {
        HOT_KEY => format!("{{ events_per_second: {PER_SECOND}, burst: {BURST}, requests_per_second: 1000000 }}"),
        BUSY_KEY => format!("{{ requests_per_second: {PER_SECOND} }}"),
        _ => "{ requests_per_second: 1000000 }".to_owned(),
    };
    let integrations: String = [("good", KEY), ("hot", HOT_KEY), ("busy", BUSY_KEY)]
        .map(|(name, key)| {
            format!(
                "  - name: {name}\n    keys: [{{ key: '{key}' }}]\n    upstreams: [pager]\n    \
                 on_limit: reject\n    rate_limit: {}\n",
                limits(key)
            )
        })
        .concat();
    format!(
        "integrations:\n{integrations}upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )
}

fn path_of(key: &str) -> String {
    PATH.replace(KEY, key)
}

fn post(key: &str, body: &str) -> Vec<u8> {
    request("POST", &path_of(key), &["Content-Type: application/json"], body)
}

/// What a loader saw: when it sent its first, and of each burst when it was sent and when it was answered.
#[derive(Default)]
struct Load {
    bursts: Vec<(Instant, Instant)>,
    accepted: usize,
    sent: usize,
}

/// A hundred times the limit on one key, until told to stop.
fn load(surgegate: &Surgegate, key: &str, body: impl Fn(usize) -> String, over: &AtomicBool) -> Load {
    let mut connection = surgegate.connect();
    let mut load = Load::default();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let bytes: Vec<u8> = (load.sent..load.sent + AT_ONCE).flat_map(|number| post(key, &body(number))).collect();
        connection.send(bytes).unwrap();
        for _ in 0..AT_ONCE {
            let answer = connection.answer().unwrap();
            match answer.status {
                202 => load.accepted += 1,
                429 => is_told_why(&answer),
                status => panic!("{status}: {}", answer.text()),
            }
        }
        load.sent += AT_ONCE;
        load.bursts.push((began, Instant::now()));
        std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
    }
    load
}

fn is_told_why(answer: &Answer) {
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)));
    assert!(answer.text().contains("limit"), "{}", answer.text());
}

impl Load {
    /// A limit lets through its burst and then its rate: within 1% of that, from before the first request to the last
    /// answer. Where the load paused for longer than the burst lasts, what was not asked for is not missed.
    fn is_exact(&self, name: &str) {
        let (first, last) = (self.bursts[0], self.bursts[self.bursts.len() - 1]);
        let within = |time: Duration| BURST as f64 + PER_SECOND as f64 * time.as_secs_f64();
        let most = within(last.1 - first.0) * 1.01;
        let paused: f64 = self
            .bursts
            .windows(2)
            .map(|two| (PER_SECOND as f64 * (two[1].1 - two[0].0).as_secs_f64() - BURST as f64).max(0.0))
            .sum();
        let least = within(last.0 - first.1) * 0.99 - paused;
        let rate = self.sent as f64 / (last.1 - first.0).as_secs_f64();
        eprintln!(
            "{name}: {} accepted of {} ({rate:.0} a second), {least:.1} to {most:.1} foretold",
            self.accepted, self.sent
        );
        let accepted = self.accepted as f64;
        // One token may be on its way at either end.
        assert!((least - 1.0..=most + 1.0).contains(&accepted), "{name}: {accepted}, not {least:.1} to {most:.1}");
        assert!(paused == 0.0 || rate > PER_SECOND as f64, "{name}: no load");
    }
}

/// Keys that nobody knows, each once, so many a second, until told to stop.
fn strangers(surgegate: &Surgegate, per_second: usize, seen: &AtomicUsize, over: &AtomicBool) {
    let mut random = fastrand::Rng::new();
    let mut connection: Option<Raw> = None;
    let (began, mut count) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let due = Duration::from_secs_f64(count as f64 / per_second as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let key = format!("{:032x}{:08x}", random.u128(..), random.u32(..));
        let open = connection.get_or_insert_with(|| surgegate.connect());
        let Ok(answer) = open.send(post(&key, &trigger("x"))).and_then(|()| open.answer()) else {
            // Closed by an earlier answer.
            connection = None;
            continue;
        };
        assert!(answer.status == 404 && answer.text().contains("unknown_key"), "{}", answer.text());
        count += 1;
        seen.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            connection = None;
        }
    }
}

/// A sender that keeps to its limit: the times of its answers.
fn behave(surgegate: &Surgegate, turns: &mut usize, over: impl Fn() -> bool) -> Vec<Duration> {
    let mut connection = surgegate.connect();
    let mut times = Vec::new();
    while !over() {
        let key = format!("good-{}", *turns % KEYS);
        let body = if (*turns / KEYS).is_multiple_of(2) { trigger(&key) } else { resolve(&key) };
        *turns += 1;
        let began = Instant::now();
        let answer = connection.post(PATH, body).unwrap();
        times.push(began.elapsed());
        assert_eq!(answer.status, 202, "refused although it keeps to its limit: {}", answer.text());
        std::thread::sleep(THINKS);
    }
    times.sort();
    times
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

#[test]
fn a_key_far_above_its_limit_and_unknown_keys_hold_up_nobody_and_leave_nothing_behind() {
    let _alone = alone();
    let seconds = figure("SURGEGATE_TORTURE_LIMIT_SECONDS", 10);
    let unknown = figure("SURGEGATE_TORTURE_UNKNOWN", 10_000);
    measured(|| beside_a_storm(seconds, unknown));
}

/// `Err` with another key's latency or the memory that it took when that is too much.
fn beside_a_storm(seconds: usize, unknown: usize) -> Result<(), String> {
    let lasts = Duration::from_secs(seconds as u64);
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder)]);
    let (over, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut turns = 0;
    let calm = {
        let began = Instant::now();
        behave(&surgegate, &mut turns, || began.elapsed() > lasts / 4)
    };
    let (hot, busy, times, before, after) = std::thread::scope(|scope| {
        // Also when something fails here.
        let ends = Stop(&over);
        let (surgegate, over, seen, turns) = (&surgegate, &over, &seen, &mut turns);
        let hot = scope.spawn(move || load(surgegate, HOT_KEY, |number| trigger(&format!("hot-{number}")), over));
        let busy = scope.spawn(move || load(surgegate, BUSY_KEY, |_| trigger("busy"), over));
        let each = unknown / seconds / STRANGERS + 1;
        let strangers: Vec<_> =
            (0..STRANGERS).map(|_| scope.spawn(move || strangers(surgegate, each, seen, over))).collect();
        let good = scope.spawn(move || behave(surgegate, turns, || over.load(Ordering::Relaxed)));
        let began = Instant::now();
        wait_until("the storm", || {
            strangers.iter().any(|one| one.is_finished()) || seen.load(Ordering::Relaxed) > WARM
        });
        let before = surgegate.memory_bytes();
        while began.elapsed() < lasts || seen.load(Ordering::Relaxed) < unknown {
            surgegate.scrape().assert_books_balance();
            let loads_on = !hot.is_finished() && !busy.is_finished() && !good.is_finished();
            assert!(loads_on && strangers.iter().all(|one| !one.is_finished()), "a client failed");
            std::thread::sleep(Duration::from_millis(100));
        }
        let after = surgegate.memory_bytes();
        drop(ends);
        (hot.join().unwrap(), busy.join().unwrap(), good.join().unwrap(), before, after)
    });
    hot.is_exact("event limit");
    busy.is_exact("request limit");
    let seen = seen.into_inner();
    let (quiet, loud) = (percentile(&calm, 99), percentile(&times, 99));
    eprintln!(
        "Found {seen} unknown keys; another key's p99 {quiet:?} before ({} posts, median {:?}), {loud:?} beside it ({} posts, \
         median {:?}); memory {before} then {after}",
        calm.len(),
        percentile(&calm, 50),
        times.len(),
        percentile(&times, 50),
    );
    let scrape = surgegate.wait_until_delivered();
    // A state for each incident and for nothing that was refused.
    assert_eq!(scrape.count("dedup_entries", &[]) as usize, KEYS.min(turns) + hot.accepted + 1);
    assert!(scrape.count("events_rejected_total", &[("reason", "event_limit")]) as usize >= hot.sent - hot.accepted);
    within(loud < P99_MAX, format!("p99 {loud:?}"))?;
    if figure("SURGEGATE_TORTURE_STRICT", 0) == 1 {
        let promised = loud.as_secs_f64() <= 1.1 * quiet.as_secs_f64();
        within(promised, format!("p99 {loud:?} beside the storm, {quiet:?} before"))?;
    }
    within(after < before + GROWTH_MAX, format!("memory from {before} to {after} bytes"))
}

/// Dropped, also by a failure: the clients stop.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
