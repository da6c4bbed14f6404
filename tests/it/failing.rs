//! D6 and D7: a disk that fails: EIO or ENOSPC at each of the first 300 calls that reach it, and writes cut short.
//! What was answered 2xx is there after a kill, what was refused does not come back, and `strace` tells, call by
//! call, that no 2xx left before its event was synced in a file whose directory entry was synced, and that a file
//! whose sync failed took nothing more.
//!
//! An error that `strace` puts in place of a call is honest: nothing was written, and the process is told so. A short
//! count in place of a call is not: the process would believe in bytes that are nowhere, and no log could stand
//! that. So writes are cut short by a limit of the file size: the kernel writes up to it and says how much that was.
//!
//! `SURGEGATE_TORTURE_ERRORS_EVERY` fails every nth call only, `SURGEGATE_TORTURE_SHORT_WRITES` sets how many writes
//! are cut, `TEST_SEED` makes a run's choices again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::crash::{configuration, figure, fill};
use crate::faults::{Fault, Upstream};
use crate::fleet::{Fleet, Told, ToldByKey, judge};
use crate::harness::{PATH, Settings, Surgegate, alone, request, seed, wait_until};
use crate::strace::{self, Call, DISK, Watch};

/// So many calls are failed in turn.
const CALLS: usize = 300;
const EVENTS: usize = 200;
/// So that they go over the end of a segment: the smallest spool's have 4 MiB.
const PADDING: usize = 24_000;
/// Of a write, enough for all of a batch of one event.
const NOTED_BYTES: usize = 64 << 10;
const QUEUED: usize = 20;
const FAULTS: [&str; 2] = ["EIO", "ENOSPC"];

/// The end of every body, and so of its record.
fn token(number: usize) -> String {
    format!("token-{number:05}-end")
}

fn body(number: usize) -> String {
    let description = "x".repeat(PADDING);
    format!(r#"{{"message":"event {number}","description":"{description}","event_id":"{}"}}"#, token(number))
}

/// One client, one event at a time, each said until it is answered 202; every seventh once more. The tokens of its
/// answers in order.
fn post(fleet: &Fleet, events: std::ops::Range<usize>) -> Vec<usize> {
    let mut connection = None;
    let mut answered = Vec::new();
    for number in events {
        let again = if number % 7 == 0 { 2 } else { 1 };
        for outcome in ["created", "duplicate"].iter().take(again) {
            let bytes = request("POST", PATH, &["Content-Type: application/json"], body(number));
            let (answer, broken) = fleet.say(&mut connection, &bytes);
            // Refused, it left no trace: its retry is new.
            assert!(answer.outcome() == *outcome && !broken, "event {number}: {answer:?} for {outcome}");
            answered.push(number);
        }
    }
    answered
}

fn told(events: std::ops::Range<usize>) -> ToldByKey {
    events.map(|number| (token(number), vec![Told { action: "trigger", title: format!("event {number}") }])).collect()
}

/// Posts all events while the books are looked at.
fn post_and_scrape(fleet: &Fleet, events: usize) -> Vec<usize> {
    std::thread::scope(|scope| {
        let _ends = fleet.ends();
        scope.spawn(|| fleet.scrape());
        let client = scope.spawn(|| post(fleet, 0..events));
        client.join().expect("the client failed")
    })
}

/// Takes half of the events, so that the other half is there after a kill only if it is on disk.
fn half(upstream: &Upstream) {
    upstream.tell(|arrival| Fault::Answer(if arrival.title.ends_with(['1', '3', '5', '7', '9']) { 503 } else { 200 }));
}

/// Kills it, and lets everything come.
fn judge_after_kill(surgegate: &mut Surgegate, upstream: &Upstream, told: &ToldByKey) {
    surgegate.kill();
    upstream.tell(|_| Fault::Answer(200));
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    judge(told, &upstream.arrivals(), &scrape);
}

#[derive(Debug, Default)]
struct Found {
    /// Calls that were failed, by name.
    failed: BTreeMap<String, usize>,
    /// Runs that never came to their call.
    missed: usize,
    /// Starts that said so and ended.
    ended: usize,
    /// Answers with 503.
    refused: usize,
    /// Answers with 2xx whose event was found synced before.
    synced_before: usize,
    scrapes: usize,
}

#[test]
fn an_error_at_any_call_to_the_disk_loses_nothing_and_nothing_is_answered_before_it_is_synced() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let every = figure("SURGEGATE_TORTURE_ERRORS_EVERY", 20);
    let directory = TempDir::new().unwrap();
    let notes = directory.path().join("notes");
    let mut found = Found::default();
    let (starts, mut run) = calls_without_errors(&notes, &mut found);
    // So that every kind of call that is frequent enough gets its share.
    run.sort();
    let first = rng.usize(..every.min(starts.len()));
    // In turn, or all at each call when none is left out.
    let faults = |index: usize| if every == 1 { &FAULTS[..] } else { std::slice::from_ref(&FAULTS[index % 2]) };
    for (index, (call, nth)) in starts.iter().skip(first).step_by(every).enumerate() {
        faults(index).iter().for_each(|fault| fail_in_start(call, *nth, fault, &notes, &mut found));
    }
    for (index, (call, nth)) in run.iter().skip(rng.usize(..every.min(run.len()))).step_by(every).enumerate() {
        for fault in faults(index) {
            fail_in_run(Some((call, *nth, fault)), &notes, &mut found);
        }
    }
    eprintln!("Found {found:?}");
    let failed: usize = found.failed.values().sum();
    assert!(failed >= run.len() / every && found.missed * 4 <= failed, "{found:?}");
    let met = |names: &[&str]| names.iter().any(|name| found.failed.contains_key(*name));
    assert!(met(&["pwrite64", "pwritev", "pwritev2"]) && met(&["fdatasync", "fsync"]), "{found:?}");
    assert!(found.refused > 0 && found.scrapes > failed / 4 && found.synced_before > EVENTS, "{found:?}");
}

/// A call to fail: its name and its number in its thread.
type Place = (String, usize);

/// Calls of a start on a queue, and the first ones of a run: name and number in their thread.
fn calls_without_errors(notes: &Path, found: &mut Found) -> (Vec<Place>, Vec<Place>) {
    let (upstream, mut surgegate) = with_a_queue();
    let calls_of_log = |calls: &[Call], spool: &Path| {
        let touches = |call: &Call| call.arguments.contains(spool.to_str().unwrap());
        let steps = strace::first_steps(calls, touches);
        // Wake-ups, lines of the log and answers go by `write`, too, and are no matter of the disk.
        let of_disk = steps.into_iter().filter(|step| !["write", "writev"].contains(&step.call.as_str()));
        of_disk.map(|step| (step.call, step.nth)).collect::<Vec<_>>()
    };
    surgegate.try_start_under(&strace::under(notes, &strace::note(&format!("{DISK},pread64"), 32))).unwrap();
    surgegate.wait_until_ready();
    let starts = calls_of_log(&strace::calls(notes), &surgegate.spool());
    drop((surgegate, upstream));
    let (calls, spool) = fail_in_run(None, notes, found);
    let mut run = calls_of_log(&calls, &spool);
    run.truncate(CALLS);
    (starts, run)
}

/// Stopped, with events waiting.
fn with_a_queue() -> (Upstream, Surgegate) {
    let upstream = Upstream::scripted(|_| Fault::Answer(503));
    let config = configuration(&upstream.url(), "connections: 8");
    let mut surgegate = Surgegate::start(&[&config, "spool: { max_bytes: 16MiB }\n"]);
    fill(&surgegate, "queued", QUEUED);
    surgegate.kill();
    (upstream, surgegate)
}

/// A start may fail when the directory cannot be used at all; then the next one finds everything.
fn fail_in_start(call: &str, nth: usize, fault: &str, notes: &Path, found: &mut Found) {
    let (upstream, mut surgegate) = with_a_queue();
    let mut options = strace::note(&format!("{DISK},pread64"), 32);
    options.extend(strace::strike(call, nth, &format!("error={fault}")));
    let started = surgegate.try_start_under(&strace::under(notes, &options));
    if let Err(ended) = started {
        found.ended += 1;
        assert_eq!(ended.code(), Some(1), "{call} {nth} {fault}: neither a start nor an orderly end");
        surgegate.start_anyway();
    }
    surgegate.wait_until_ready();
    let mut fleet = Fleet::new(&surgegate);
    fleet.may_refuse = true;
    post_and_scrape(&fleet, 20);
    let mut told = told(0..20);
    let waiting = Told { action: "trigger", title: "disk full".to_owned() };
    told.extend((0..QUEUED).map(|number| (format!("queued-{number}"), vec![waiting.clone()])));
    judge_after_kill(&mut surgegate, &upstream, &told);
    note_struck(&strace::calls(notes), call, found);
    found.refused += fleet.refused.load(Ordering::Relaxed);
    found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
}

/// A run in which the nth call of this name fails, in each thread.
/// Gives its calls and where its spool was.
fn fail_in_run(failure: Option<(&str, usize, &str)>, notes: &Path, found: &mut Found) -> (Vec<Call>, PathBuf) {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    half(&upstream);
    let config = configuration(&upstream.url(), "connections: 8");
    let mut surgegate = Surgegate::start(&[&config, "spool: { max_bytes: 16MiB }\n"]);
    let mut fleet = Fleet::new(&surgegate);
    fleet.may_refuse = true;
    let mut options = strace::note(&format!("{DISK},sendto,sendmsg"), NOTED_BYTES);
    if let Some((call, nth, fault)) = failure {
        options.extend(strace::strike(call, nth, &format!("error={fault}")));
    }
    let watch = Watch::process(surgegate.pid(), notes, &options);
    let answered = post_and_scrape(&fleet, EVENTS);
    assert!(surgegate.is_running(), "{failure:?} ended it");
    judge_after_kill(&mut surgegate, &upstream, &told(0..EVENTS));
    let calls = watch.calls();
    if let Some((call, ..)) = failure {
        note_struck(&calls, call, found);
    }
    found.refused += fleet.refused.load(Ordering::Relaxed);
    found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
    found.synced_before += Disk::default().watch(&calls, &answered);
    (calls, surgegate.spool())
}

fn note_struck(calls: &[Call], name: &str, found: &mut Found) {
    match calls.iter().filter(|call| call.is_struck()).count() {
        0 => found.missed += 1,
        count => *found.failed.entry(name.to_owned()).or_default() += count,
    }
}

/// What a disk that keeps only what was synced would hold, as the calls tell.
#[derive(Default)]
struct Disk {
    written: HashMap<String, HashSet<usize>>,
    synced: HashMap<String, HashSet<usize>>,
    /// New files whose directory was not synced since.
    unnamed: HashSet<String>,
    /// Their sync failed.
    given_up: HashSet<String>,
}

impl Disk {
    /// Goes through the calls in their order. How many answers with 202 there were, each behind its event's sync.
    fn watch(mut self, calls: &[Call], answered: &[usize]) -> usize {
        let mut moments: Vec<(usize, bool, &Call)> =
            calls.iter().flat_map(|call| [(call.begins, true, call), (call.ends, false, call)]).collect();
        // A call that is noted in one line begins before it ends.
        moments.sort_by_key(|(line, begins, _)| (*line, !begins));
        let mut syncing = HashMap::<usize, (HashSet<usize>, HashSet<String>)>::new();
        let mut answers = 0;
        for (_, begins, call) in moments {
            let path = call.path().unwrap_or_default().to_owned();
            let is_segment = path.ends_with(".log");
            match (call.name.as_str(), begins) {
                ("sendto" | "sendmsg" | "write" | "writev", true) if call.arguments.contains("HTTP/1.1 202") => {
                    let number = answered[answers];
                    assert!(self.holds(number), "event {number} was answered and not on disk: {call:?}");
                    answers += 1;
                }
                ("pwrite64" | "pwritev" | "pwritev2", true) => {
                    let again = is_segment && self.given_up.contains(&path);
                    assert!(!again, "written after its sync failed: {path}, {}", call.result);
                }
                ("pwrite64" | "pwritev" | "pwritev2" | "write" | "writev", false) if call.is_whole() => {
                    self.written.entry(path).or_default().extend(tokens(&call.arguments));
                }
                ("fdatasync" | "fsync", true) => {
                    let inside = |file: &&String| Path::new(file).parent() == Some(Path::new(&path));
                    let named = self.unnamed.iter().filter(inside).cloned().collect();
                    syncing.insert(call.begins, (self.written.get(&path).cloned().unwrap_or_default(), named));
                }
                ("fdatasync" | "fsync", false) => {
                    let (written, named) = syncing.remove(&call.begins).unwrap_or_default();
                    if call.succeeded() {
                        self.synced.entry(path).or_default().extend(written);
                        self.unnamed.retain(|file| !named.contains(file));
                    } else if call.is_struck() {
                        // The kernel may have dropped what was dirty: a later sync would say nothing of it.
                        self.written.remove(&path);
                        self.given_up.insert(path);
                    }
                }
                ("openat", false) if call.succeeded() && call.arguments.contains("O_EXCL") => {
                    self.forget(&path);
                    self.unnamed.insert(path);
                }
                ("unlink" | "unlinkat", false) if call.succeeded() => self.forget(&path),
                _ => {}
            }
        }
        assert_eq!(answers, answered.len(), "not all answers were noted");
        answers
    }

    fn forget(&mut self, path: &str) {
        self.written.remove(path);
        self.synced.remove(path);
        self.unnamed.remove(path);
        self.given_up.remove(path);
    }

    fn holds(&self, number: usize) -> bool {
        self.synced.iter().any(|(path, held)| held.contains(&number) && !self.unnamed.contains(path))
    }
}

impl Call {
    /// A write that wrote all it was given.
    fn is_whole(&self) -> bool {
        self.succeeded() && (self.name.contains('v') || self.asked() == self.returned())
    }

    /// Bytes that `pwrite64` was given.
    fn asked(&self) -> Option<u64> {
        let mut numbers = self.arguments.rsplit(", ");
        if self.name == "pwrite64" {
            numbers.next();
        }
        numbers.next()?.parse().ok()
    }
}

fn tokens(arguments: &str) -> impl Iterator<Item = usize> {
    arguments.match_indices("token-").filter_map(|(at, _)| {
        let rest = arguments.get(at + 6..at + 15)?;
        rest.strip_suffix("-end")?.parse().ok()
    })
}

/// Where the content of the segment that is being written ends.
fn end_of_content(spool: &Path) -> u64 {
    let files = std::fs::read_dir(spool.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    let ends = segments.iter().rev().filter_map(|path| {
        let bytes = std::fs::read(path).ok()?;
        bytes.iter().rposition(|byte| *byte != 0).map(|last| last as u64 + 1)
    });
    ends.take(1).sum()
}

#[test]
fn a_write_cut_short_is_refused_and_leaves_no_trace() {
    const PAGE: u64 = 4096;
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let cuts = figure("SURGEGATE_TORTURE_SHORT_WRITES", 8);
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    half(&upstream);
    let config = configuration(&upstream.url(), "connections: 8");
    // Past the limit the kernel also sends a signal, which would end the process.
    let deaf = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    let settings = Settings { under: deaf, ..Settings::default() };
    let mut surgegate = Surgegate::start_with(settings, &[&config, "spool: { max_bytes: 1GiB }\n"]);
    let directory = TempDir::new().unwrap();
    let notes = directory.path().join("notes");
    let options = strace::note("pwrite64,pwritev,pwritev2", 32);
    let watch = Watch::process(surgegate.pid(), &notes, &options);
    let mut fleet = Fleet::new(&surgegate);
    fleet.may_refuse = true;
    let pid = Pid::from_raw(i32::try_from(surgegate.pid()).unwrap());
    let limit = |bytes: Option<u64>| prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    let mut next = 0;
    std::thread::scope(|scope| {
        let _ends = fleet.ends();
        scope.spawn(|| fleet.scrape());
        for _ in 0..cuts {
            post(&fleet, next..next + 5);
            next += 5;
            // The next event takes seven pages or eight: of these the first few are written.
            let end = end_of_content(&surgegate.spool()).next_multiple_of(PAGE) + PAGE * rng.u64(1..6);
            limit(Some(end));
            let before = fleet.refused.load(Ordering::Relaxed);
            let client = scope.spawn({
                let fleet = &fleet;
                move || post(fleet, next..next + 1)
            });
            wait_until("a refusal", || fleet.refused.load(Ordering::Relaxed) > before);
            std::thread::sleep(Duration::from_millis(rng.u64(..200)));
            limit(None);
            client.join().expect("the client failed");
            next += 1;
        }
    });
    assert!(surgegate.is_running());
    judge_after_kill(&mut surgegate, &upstream, &told(0..next));
    let calls = watch.calls();
    let short = calls.iter().filter(|call| call.succeeded() && call.returned() < call.asked()).count();
    eprintln!("Found {short} writes cut short in {cuts} rounds, {} refusals", fleet.refused.load(Ordering::Relaxed));
    assert!(short * 2 >= cuts, "only {short} writes were cut short");
}
