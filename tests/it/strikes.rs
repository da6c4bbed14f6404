//! D2 and D7: SIGKILL at every call by which a run of 200 events reaches the disk: writes, syncs, renames, unlinks,
//! and the wake-ups between a sync and the answers. A first run tells which calls there are, in a start on a spool
//! that a crash left, in the run, and in an orderly stop; then a run is struck at each of them in turn. Nothing that
//! was answered 2xx is lost, the next start needs no hand and drains everything, and the books balance.
//!
//! `SURGEGATE_TORTURE_STRIKES_EVERY` strikes at every nth call only, `TEST_SEED` makes a run's choices again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use crate::crash::{configuration, figure, fill};
use crate::faults::{Fault, Upstream};
use crate::fleet::{Fleet, Told, ToldByKey, judge};
use crate::harness::{Surgegate, alone, seed, signal, wait_until};
use crate::strace::{self, Call, DISK, Watch};

const CLIENTS: usize = 4;
const EVENTS_EACH: usize = 50;
/// So that 200 events go over the end of a segment: the smallest spool's have 4 MiB.
const PADDING: usize = 24_000;
/// Events that wait when the start is struck.
const QUEUED: usize = 20;

/// Where to strike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    phase: Phase,
    call: String,
    nth: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// From the first call on, in whichever thread comes to the nth first.
    Start,
    /// Once it is ready, in the thread of this name.
    Run(String),
    /// Once it is ready, in any thread: for those that are not there yet.
    RunAnywhere,
}

/// A process on a spool that a kill left with events waiting, and what belongs to it.
struct Scene {
    upstream: Upstream,
    surgegate: Surgegate,
    told: ToldByKey,
    /// Notes of `strace`.
    directory: TempDir,
}

impl Scene {
    fn set() -> Self {
        let upstream = Upstream::scripted(|_| Fault::Answer(503));
        let config = configuration(&upstream.url(), "connections: 8");
        let mut surgegate = Surgegate::start(&[&config, "spool: { max_bytes: 16MiB }\n"]);
        fill(&surgegate, "queued", QUEUED);
        surgegate.kill();
        upstream.tell(|_| Fault::Answer(200));
        let title = "disk full".to_owned();
        let waiting = |number| (format!("queued-{number}"), vec![Told { action: "trigger", title: title.clone() }]);
        Self { upstream, surgegate, told: (0..QUEUED).map(waiting).collect(), directory: TempDir::new().unwrap() }
    }

    fn notes(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    /// Starts, and starts again where that one was struck. True when it was.
    fn start(&mut self, options: Option<&[String]>) -> bool {
        let under = options.map_or_else(Vec::new, |options| strace::under(&self.notes(), options));
        let ended = self.surgegate.try_start_under(&under);
        if let Err(ended) = &ended {
            assert!(was_killed(*ended) && options.is_some(), "the start failed: {ended}");
            self.surgegate.start_again();
        }
        ended.is_err()
    }

    /// Two hundred events, and an orderly stop. A process that dies is started again, once; whether one did.
    fn run(&mut self, mut rng: Rng, found: &mut Found) -> bool {
        let mut fleet = Fleet::new(&self.surgegate);
        (fleet.events_each, fleet.padding) = (EVENTS_EACH, PADDING);
        let mut died = false;
        let told: ToldByKey = std::thread::scope(|scope| {
            let ends = fleet.ends();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|id| {
                    let (fleet, rng) = (&fleet, Rng::with_seed(rng.u64(..)));
                    scope.spawn(move || fleet.client(&id.to_string(), rng))
                })
                .collect();
            scope.spawn(|| fleet.scrape());
            let mut see_to_it = |surgegate: &mut Surgegate| {
                if let Some(ended) = surgegate.ended() {
                    assert!(was_killed(ended) && !died, "it ended by itself: {ended}");
                    died = true;
                    fleet.move_to(None);
                    surgegate.start_again();
                    fleet.move_to(Some(surgegate));
                }
            };
            wait_until("two hundred answers", || {
                see_to_it(&mut self.surgegate);
                clients.iter().all(|client| client.is_finished())
            });
            wait_until("an empty queue", || {
                see_to_it(&mut self.surgegate);
                self.surgegate
                    .observe("/metrics")
                    .is_ok_and(|page| page.text().contains("spool_events{upstream=\"pager\"} 0"))
            });
            drop(ends);
            clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect()
        });
        self.told.extend(told);
        found.broken += fleet.broken.load(Ordering::Relaxed);
        found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
        if !died {
            signal("TERM", self.surgegate.pid());
            let mut ended = None;
            wait_until("its end", || {
                ended = self.surgegate.ended();
                ended.is_some()
            });
            died = ended.is_some_and(was_killed);
        }
        died
    }

    /// After everything: one more start, and all that was answered has come.
    fn judge(mut self) {
        if self.surgegate.is_running() {
            self.surgegate.kill();
        }
        self.surgegate.start_again();
        let scrape = self.surgegate.wait_until_delivered();
        assert_eq!(scrape.count("spool_damaged_records_total", &[]), 0, "a kill is no damage");
        judge(&self.told, &self.upstream.arrivals(), &scrape);
    }
}

fn was_killed(ended: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    ended.signal() == Some(9)
}

#[derive(Debug, Default)]
struct Found {
    /// Kills by the call they met.
    kills: BTreeMap<String, usize>,
    in_start: usize,
    /// Places that this run did not come to: runs differ a little.
    missed: usize,
    broken: usize,
    scrapes: usize,
}

/// All places of a start and of a run, in the order of the calls.
fn places(rng: &mut Rng) -> Vec<Place> {
    let mut scene = Scene::set();
    let spool = scene.surgegate.spool();
    let touches = |call: &Call| call.arguments.contains(spool.to_str().unwrap());
    let options = strace::note(DISK, 32);
    scene.start(Some(&options));
    scene.surgegate.wait_until_ready();
    let begun = strace::calls(&scene.notes());
    scene.surgegate.kill();
    let begun = strace::first_steps(&begun, touches);
    let mut places: Vec<Place> =
        begun.into_iter().map(|step| Place { phase: Phase::Start, call: step.call, nth: step.nth }).collect();

    scene.surgegate.start_again();
    let (pid, notes) = (scene.surgegate.pid(), scene.notes());
    let names = strace::threads(pid);
    let watch = Watch::process(pid, &notes, &options);
    assert!(!scene.run(Rng::with_seed(rng.u64(..)), &mut Found::default()), "it died without a strike");
    let phase = |thread: u32| names.get(&thread).map_or(Phase::RunAnywhere, |name| Phase::Run(name.clone()));
    let run = strace::steps(&watch.calls(), touches);
    places.extend(run.into_iter().map(|step| Place { phase: phase(step.thread), call: step.call, nth: step.nth }));
    scene.judge();
    places
}

#[test]
fn a_kill_at_any_call_to_the_disk_loses_nothing_and_the_next_start_drains_everything() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let every = figure("SURGEGATE_TORTURE_STRIKES_EVERY", 10);
    let mut all = places(&mut rng);
    // So that every kind of call that is frequent enough gets its share.
    all.sort_by(|one, other| one.call.cmp(&other.call));
    let mut found = Found::default();
    let first = rng.usize(..every.min(all.len()));
    for place in all.iter().skip(first).step_by(every) {
        strike(place, Rng::with_seed(rng.u64(..)), &mut found);
    }
    eprintln!("Found {} calls, {found:?}", all.len());
    let kills: usize = found.kills.values().sum();
    let tried = kills + found.missed;
    assert!(tried >= all.len() / every, "only {tried} strikes");
    assert!(found.missed * 4 <= tried, "too many strikes met no call: {found:?}");
    let met = |names: &[&str]| names.iter().any(|name| found.kills.contains_key(*name));
    assert!(met(&["pwrite64", "pwritev", "pwritev2"]) && met(&["fdatasync", "fsync"]), "{found:?}");
    assert!(found.broken > 0 && found.scrapes > kills / 4, "{found:?}");
}

fn strike(place: &Place, rng: Rng, found: &mut Found) {
    let mut scene = Scene::set();
    let notes = scene.notes();
    let mut options = strace::note(&place.call, 32);
    options.extend(strace::strike(&place.call, place.nth, "signal=KILL"));
    let in_start = scene.start(Some(&options).filter(|_| place.phase == Phase::Start).map(Vec::as_slice));
    found.in_start += usize::from(in_start);
    scene.surgegate.wait_until_ready();
    let pid = scene.surgegate.pid();
    let watch = match &place.phase {
        Phase::Start => None,
        Phase::Run(name) => {
            // A helper may not be there this time.
            let thread = strace::threads(pid).into_iter().find(|(_, own)| own == name);
            Some(match thread {
                Some((thread, _)) => Watch::thread(pid, thread, &notes, &options),
                None => Watch::process(pid, &notes, &options),
            })
        }
        Phase::RunAnywhere => Some(Watch::process(pid, &notes, &options)),
    };
    let died = scene.run(rng, found) || in_start;
    let calls = watch.map_or_else(|| strace::calls(&notes), Watch::calls);
    if died {
        let struck = calls.iter().rev().find(|call| !call.succeeded()).expect("the call that was struck");
        assert_eq!(struck.name, place.call, "at {place:?}");
        *found.kills.entry(place.call.clone()).or_default() += 1;
    } else {
        found.missed += 1;
    }
    scene.judge();
}

/// That a strike strikes before the call is done, and not some time later.
#[test]
fn a_struck_call_is_not_carried_out() {
    let directory = TempDir::new().unwrap();
    let (notes, file) = (directory.path().join("notes"), directory.path().join("file"));
    std::fs::write(&file, "").unwrap();
    let mut command = strace::under(&notes, &strace::note("unlink,unlinkat", 32));
    command.extend(strace::strike("unlink,unlinkat", 1, "signal=KILL"));
    let status = std::process::Command::new(&command[0]).args(&command[1..]).arg("rm").arg(&file).status().unwrap();
    assert!(was_killed(status), "{status}");
    std::thread::sleep(Duration::from_millis(50));
    assert!(file.exists());
}
