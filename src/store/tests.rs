//! The promises of the room as a whole: what is answered stands in the log, and nothing else.

mod deliveries;
mod envelopes;
mod failing_disk;
mod history;
mod keeping;
mod reading;
mod rejected;
mod snapshots;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::doubles::{Event, Failing, Faults, Kept, Notes, Remembers, Waits, admitted, all_waiting, waiting};
use super::fake::{End, Fake};
use super::files::{Files, Real};
use super::{Config, Durability, Ending, NoStates, OpenError, ReadError, Recovered, Store, Unreadable};
use crate::claim::{Accepted, Position};
use crate::event::{Incident, StateKey};
use crate::metrics::Metrics;
use crate::outcome::{DeadReason, DropReason, Reason};

const SEGMENT: u32 = 64 << 10;

pub(super) struct Rig {
    pub(super) store: Arc<Store>,
    pub(super) kept: Arc<Kept>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ledger: Arc<Notes>,
    pub(super) faults: Arc<Faults>,
    pub(super) recovered: Recovered,
    pub(super) queued: Vec<Waits>,
    pub(super) transitions: Vec<(StateKey, Incident, Position)>,
    pub(super) runtime: Runtime,
}

pub(super) fn config(directory: &Path) -> Config {
    Config {
        directory: directory.to_owned(),
        durability: Durability::Fsync,
        max_bytes: 1 << 30,
        segment_bytes: SEGMENT,
        retain: Duration::from_secs(3600),
        index_bytes: 16 << 20,
        unreadable: Unreadable::default(),
    }
}

impl Rig {
    pub(super) fn open(directory: &Path) -> Self {
        Self::with(config(directory))
    }

    pub(super) fn with(config: Config) -> Self {
        Self::on(Arc::new(Real::below(&config.directory)), config, true)
    }

    /// The test keeps house itself.
    pub(super) fn without_keeper(config: Config) -> Self {
        Self::on(Arc::new(Real::below(&config.directory)), config, false)
    }

    pub(super) fn states(&self) -> &Remembers {
        &self.ledger.remembers
    }

    fn on(files: Arc<dyn Files>, config: Config, keeper: bool) -> Self {
        let metrics = Metrics::new(1).unwrap();
        let states = Arc::<Remembers>::default();
        let faults = Arc::<Faults>::default();
        let files = Failing { files, faults: Arc::clone(&faults) };
        let opened = Store::open_on(Arc::new(files), config, &metrics, 2, Arc::clone(&states) as _);
        let (store, recovered) = opened.unwrap();
        let queued = waiting(&store, &recovered);
        let transitions = states.transitions.lock().unwrap().clone();
        let kept = Arc::new(Kept::default());
        let kept_back = (!keeper).then(|| store.threads().keeper.take()).flatten();
        store.start(Arc::clone(&kept) as _);
        if let Some(keeper) = kept_back {
            store.threads().keeper = Some(keeper);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for worker in 0..2 {
            runtime.spawn(Arc::clone(&store).deliver_completions(worker));
        }
        let ledger = Arc::new(Notes { remembers: states, ..Notes::default() });
        Self { store, kept, metrics, ledger, faults, recovered, queued, transitions, runtime }
    }

    pub(super) fn event(&self, key: &str) -> Event {
        Event { metrics: Arc::clone(&self.metrics), ledger: Arc::clone(&self.ledger), ..Event::keyed(key) }
    }

    pub(super) fn append(&self, event: &Event) -> Result<Accepted, Reason> {
        self.runtime.block_on(self.store.append(0, admitted(event)))
    }

    /// Appends all at once; the keys that were accepted.
    fn append_all(&self, events: &[Event]) -> Vec<Result<Accepted, Reason>> {
        self.runtime.block_on(async {
            let tasks: Vec<_> = events
                .iter()
                .enumerate()
                .map(|(worker, event)| {
                    let (store, admitted) = (Arc::clone(&self.store), admitted(event));
                    tokio::spawn(async move { store.append(worker, admitted).await })
                })
                .collect();
            let mut answers = vec![];
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers
        })
    }

    pub(super) fn settle(&self, upstream: &str, sequence: u64, ending: Ending) {
        self.store.settle(&self.metrics.upstream(upstream), "fleet", sequence, ending);
    }

    fn read_from_disk(&self, at: Position) -> Result<super::Stored, ReadError> {
        self.store.reader.event(&self.store.core.disk, at)
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let read = |queued: &Waits| {
            let stored = self.store.read(queued.sequence, queued.at?).unwrap();
            assert_eq!(stored.sequence, queued.sequence);
            Some(stored.event.key.unwrap().canon().to_owned())
        };
        self.queued.iter().filter_map(read).collect()
    }
}

/// What a crash now would leave. The keeper may delete or rename a file while others are copied: what was in it then
/// stands in a file that is newer than the list, so that the copy is begun again.
pub(crate) fn image(directory: &Path) -> TempDir {
    loop {
        let copy = TempDir::new().unwrap();
        fs::create_dir(copy.path().join("spool")).unwrap();
        let copied = fs::read_dir(directory.join("spool")).unwrap().try_for_each(|entry| {
            let entry = entry?;
            fs::copy(entry.path(), copy.path().join("spool").join(entry.file_name())).map(drop)
        });
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => {
                done.unwrap();
                return copy;
            }
        }
    }
}

pub(super) fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    paths.sort();
    paths
}

/// For what is bound to happen: a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn canon(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_answered_event_stands_in_the_log_when_the_process_is_killed() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let keys: Vec<String> = (0..300).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        rig.append(&rig.event(key)).unwrap();
    }
    assert!(segments(directory.path()).len() > 2, "it went over several segments");
    let copy = image(directory.path());
    let after = Rig::open(copy.path());
    assert_eq!(after.recovered.damaged_records, 0);
    assert_eq!(after.keys(), keys);
    assert_eq!(after.recovered.highest_number, 1024);
    assert_eq!(after.metrics.intake().accepted, 300);
    let committed = rig.ledger.committed.lock().unwrap().clone();
    let replayed: Vec<_> = after.transitions.iter().map(|(key, _, at)| (*key, *at)).collect();
    assert_eq!(replayed, committed, "the same states at the same positions");
    assert_eq!(rig.kept.0.lock().unwrap().len(), 300);
}

#[test]
fn files_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let rig = Rig::open(&path);
    rig.append(&rig.event("a")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("spool"))), (0o700, 0o700));
    for file in segments(&path) {
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn a_second_opener_is_told_that_the_spool_is_in_use() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let second = || Store::open(config(directory.path()), &Metrics::new(1).unwrap(), 1, Arc::new(NoStates));
    assert!(matches!(second(), Err(OpenError::Locked(_))));
    drop(rig);
    assert!(second().is_ok());
}

#[test]
fn a_directory_that_cannot_be_one_fails_the_start() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    let opened = Store::open(config(&path), &Metrics::new(1).unwrap(), 1, Arc::new(NoStates));
    assert!(matches!(opened, Err(OpenError::Io { .. })));
}

#[test]
fn one_sync_carries_everything_that_gathered() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.faults.sync_millis.store(5, Ordering::SeqCst);
    let events: Vec<Event> = (0..200).map(|n| rig.event(&format!("key-{n}"))).collect();
    assert!(rig.append_all(&events).iter().all(Result::is_ok));
    let syncs = rig.metrics.spool_sync_seconds.get_sample_count();
    assert!(syncs < 30, "{syncs} syncs for 200 events");
    let queued = rig.kept.0.lock().unwrap();
    assert!(queued.is_sorted_by_key(|queued| queued.sequence));
    assert_eq!(queued.len(), 200);
}

#[test]
fn an_event_whose_client_left_is_committed_all_the_same() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.runtime.block_on(async {
        let append = rig.store.append(0, admitted(&rig.event("gone")));
        tokio::select! { biased; _ = append => panic!("too fast"), () = std::future::ready(()) => {} }
    });
    wait_until("it is committed", || rig.ledger.committed.lock().unwrap().len() == 1);
    assert!(rig.ledger.released.lock().unwrap().is_empty());
    assert_eq!(Rig::open(image(directory.path()).path()).keys(), ["gone"]);
}

#[test]
fn endings_hold_over_a_restart() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    for key in ["delivered", "dropped", "dead", "replayed", "buried", "waiting"] {
        rig.append(&rig.event(key)).unwrap();
    }
    let dead = Ending::Dead { reason: DeadReason::Refused, status: Some(422), attempts: 3 };
    for (sequence, ending) in [
        (1, Ending::DELIVERED),
        (1, Ending::DELIVERED),
        (2, Ending::Dropped(DropReason::Superseded)),
        (3, dead),
        (4, dead),
        (4, Ending::Replayed),
        (5, dead),
        (5, Ending::Dropped(DropReason::Operator)),
    ] {
        rig.settle("pager", sequence, ending);
    }
    (1..=6).for_each(|sequence| rig.settle("archive", sequence, Ending::DELIVERED));
    drop(rig.store);
    drop(rig.runtime);
    for _ in 0..2 {
        let rig = Rig::open(directory.path());
        assert_eq!(rig.keys(), canon(&["replayed", "waiting"]));
        for queued in &rig.queued {
            assert_eq!(queued.upstreams, ["pager"], "archive has settled it");
            assert_eq!(queued.integration, "fleet");
        }
        let dead: Vec<_> = rig.recovered.dead.iter().collect();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].sequence, dead[0].status, dead[0].attempts), (3, Some(422), 3));
        assert_eq!(&*dead[0].upstream.name, "pager");
        let book = rig.metrics.upstream("pager").book();
        assert!(book.balances());
        assert_eq!((book.enqueued, book.delivered, book.dead_letters, book.spool_events), (6, 1, 1, 2));
        assert_eq!(book.dropped, [("superseded", 1), ("operator", 1)].into());
        assert_eq!(book.dead_lettered, [("refused", 3)].into());
        let archive = rig.metrics.upstream("archive").book();
        assert_eq!((archive.enqueued, archive.delivered, archive.spool_events), (6, 6, 0));
        rig.append(&Event { targets: vec![], ..rig.event("state alone") }).unwrap();
    }
}

/// With nothing outstanding at the end of a segment, all before it is settled for good: and nothing after it.
#[test]
fn what_a_later_process_settled_stays_settled_though_an_earlier_one_left_nothing_outstanding() {
    let directory = TempDir::new().unwrap();
    for start in 0..4 {
        let rig = Rig::open(directory.path());
        assert_eq!(rig.keys(), canon(&[]), "start {start}");
        for number in 1..=3 {
            rig.append(&Event { targets: vec!["pager"], ..rig.event(&format!("{start}-{number}")) }).unwrap();
            rig.settle("pager", start * 3 + number, Ending::DELIVERED);
        }
        rig.store.close();
    }
}

/// What is voided before anything was refused has no sequence of its own, and must not stand for the next event's.
#[test]
fn a_settlement_counts_after_a_start_that_found_no_space() {
    let fake = Fake::new(1);
    let directory = Path::new("fake");
    let event = |rig: &Rig, key: &str| Event { targets: vec!["pager"], ..rig.event(key) };
    let rig = Rig::on(Arc::new(fake.clone()), config(directory), true);
    rig.append(&event(&rig, "before")).unwrap();
    rig.settle("pager", 1, Ending::DELIVERED);
    rig.store.close();
    let fake = fake.after(End::Kill);
    fake.set_capacity(Some(fake.used()));
    let rig = Rig::on(Arc::new(fake.clone()), config(directory), true);
    assert_eq!(rig.append(&event(&rig, "refused")).err(), Some(Reason::SpoolFull));
    // More than a segment of them: the next event stands in another one.
    (0..2_000).for_each(|_| rig.settle("pager", 1, Ending::DELIVERED));
    wait_until("the writer meets the full disk", || fake.full() > 5);
    fake.set_capacity(None);
    wait_until("it accepts", || rig.append(&event(&rig, "after")).is_ok());
    rig.settle("pager", 2, Ending::DELIVERED);
    rig.store.close();
    let rig = Rig::on(Arc::new(fake.after(End::Kill)), config(directory), true);
    assert_eq!((rig.transitions.len(), rig.keys()), (2, canon(&[])));
}

#[test]
fn a_settlement_is_on_disk_within_its_time_without_another_event() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&Event { targets: vec!["pager"], ..rig.event("a") }).unwrap();
    rig.settle("pager", 1, Ending::DELIVERED);
    wait_until("it is settled", || Rig::open(image(directory.path()).path()).queued.is_empty());
}

#[test]
fn an_event_does_not_wait_for_the_time_of_a_settlement() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    // The quickest of them, whatever else the machine does: behind the settlement's time (50 ms) each would take nearly all of it.
    let quickest = (0..20).map(|_| {
        rig.settle("pager", 1, Ending::DELIVERED);
        std::thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        rig.append(&rig.event("a")).unwrap();
        started.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(25), "{quickest:?}");
}

#[test]
fn a_torn_end_is_cut_at_whatever_byte_it_tears() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let keys = ["first", "second", "third"];
    let ends: Vec<usize> = keys
        .iter()
        .map(|key| {
            rig.append(&rig.event(key)).unwrap();
            usize::try_from(rig.store.core.lock().tail().1).unwrap()
        })
        .collect();
    let whole = fs::read(&segments(directory.path())[0]).unwrap();
    for zeros_follow in [true, false] {
        for cut in ends[0]..ends[2] {
            let copy = TempDir::new().unwrap();
            let spool = copy.path().join("spool");
            fs::create_dir(&spool).unwrap();
            let mut torn = whole[..cut].to_vec();
            if zeros_follow {
                torn.resize(whole.len(), 0);
            }
            fs::write(spool.join("0000000001.log"), torn).unwrap();
            let after = recover(copy.path());
            // Padding can be missing.
            let full = |end: usize| whole[cut.min(end)..end].iter().all(|byte| *byte == 0);
            let left = 1 + ends[1..].iter().filter(|end| cut >= **end || full(**end)).count();
            assert_eq!(after.queued.len(), left, "cut at {cut} of {ends:?}");
            assert_eq!(after.damaged_records, 0);
            let length = fs::metadata(spool.join("0000000001.log")).unwrap().len();
            assert!(length <= ends[left - 1] as u64, "nothing is left behind the last record");
            let again = recover(copy.path());
            assert_eq!(again.queued.len(), left, "the second start finds the same");
        }
    }
}

/// What a start finds, without one.
struct Finds {
    queued: Vec<Waits>,
    damaged_records: u64,
}

fn recover(directory: &Path) -> Finds {
    let metrics = Metrics::new(1).unwrap();
    // A process that another test starts has a copy of every descriptor, the last lock's too, until it is another program.
    let open = || super::files::Disk::open(Arc::new(Real::below(directory)), directory, &metrics);
    let is_free = |opened: &Result<_, OpenError>| !matches!(opened, Err(OpenError::Locked(_)));
    let disk = std::iter::repeat_with(open).take(100_000).find(is_free).unwrap().unwrap();
    let (recovered, resume) = super::recovery::recover(&disk, &metrics, &NoStates, Unreadable::default()).unwrap();
    let (places, reader) = (Mutex::new(resume.places), super::reader::Reader::default());
    let queued = all_waiting(&recovered.queues, |meter, integration, after, count| {
        let sequences = resume.standing.waiting_after(meter, integration, after, u64::MAX, count);
        let mut all: Vec<(u64, Option<Position>)> = sequences.iter().map(|sequence| (*sequence, None)).collect();
        let found = &mut |at, frame: super::frame::Frame<'_>| {
            let index = sequences.binary_search(&frame.sequence).unwrap();
            all[index].1 = Some(at);
        };
        reader.find(&disk, &places, &sequences, false, found).unwrap();
        all
    });
    Finds { queued, damaged_records: recovered.damaged_records }
}

#[test]
fn a_flipped_bit_costs_at_most_the_record_it_hits() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let keys: Vec<String> = (0..120).map(|n| format!("key-{n}")).collect();
    let mut starts = vec![];
    for key in &keys {
        rig.append(&rig.event(key)).unwrap();
        starts.push(rig.kept.0.lock().unwrap().last().unwrap().at);
    }
    rig.store.close();
    let files: Vec<_> = segments(directory.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lost_some = 0;
    for _ in 0..500 {
        let copy = TempDir::new().unwrap();
        let spool = copy.path().join("spool");
        fs::create_dir(&spool).unwrap();
        let hit = random.usize(..files.len());
        let bit = random.usize(..files[hit].len() * 8);
        for (index, bytes) in files.iter().enumerate() {
            let mut bytes = bytes.clone();
            if index == hit {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            fs::write(spool.join(format!("{:010}.log", index + 1)), bytes).unwrap();
        }
        let after = recover(copy.path());
        let left: BTreeSet<_> = after.queued.iter().filter_map(|queued| queued.at).collect();
        let at = super::reader::join(u32::try_from(hit + 1).unwrap(), u32::try_from(bit / 8).unwrap());
        let struck = starts.iter().rev().find(|start| **start <= at && (start.0 >> 32) == (at.0 >> 32));
        let missing: Vec<_> = starts.iter().filter(|start| !left.contains(start)).collect();
        assert!(missing.is_empty() || missing == struck.iter().copied().collect::<Vec<_>>(), "{missing:?} for {at:?}");
        if !missing.is_empty() {
            lost_some += 1;
            assert!(fs::read_dir(copy.path().join("quarantine")).unwrap().count() == 1, "it is kept for a look");
        }
    }
    assert!(lost_some > 300, "the flips hit records: {lost_some}");
}

#[test]
fn missing_empty_and_foreign_files_do_not_fail_a_start() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let keys: Vec<String> = (0..1200).map(|n| format!("key-{n}")).collect();
    assert!(keys.iter().all(|key| rig.append(&rig.event(key)).is_ok()));
    drop((rig.store, rig.runtime));
    let files = segments(directory.path());
    assert!(files.len() >= 4);
    fs::remove_file(&files[1]).unwrap();
    fs::write(&files[2], "").unwrap();
    let spool = directory.path().join("spool");
    fs::write(spool.join("4294967295.log"), "no segment").unwrap();
    fs::write(spool.join("0000000077.log"), vec![0; 5000]).unwrap();
    fs::write(spool.join("notes.txt"), "x").unwrap();
    fs::copy(&files[0], spool.join("0000000078.log")).unwrap();
    fs::create_dir(spool.join("0000000079.log")).unwrap();
    for _ in 0..2 {
        let rig = Rig::open(directory.path());
        let left = rig.keys();
        assert!(left.contains(&keys[0]) && left.contains(&keys[1199]) && left.len() < 1200);
        assert_eq!(left.iter().collect::<BTreeSet<_>>().len(), left.len(), "nothing twice");
        rig.append(&Event { targets: vec![], ..rig.event("new") }).unwrap();
    }
}

#[test]
fn a_body_made_to_look_like_records_is_not_read_as_records_after_damage() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    // The sender knows the format, and has seen a segment of another instance.
    let mut forged = vec![0; 3];
    let other = super::frame::Seed::of(fastrand::u64(..));
    let sample = admitted(&rig.event("forged"));
    for _ in 0..20 {
        // The body begins at some offset: every alignment is tried.
        forged.push(0);
        super::frame::encode(&mut forged, other, 1, 1, 999, |out| {
            super::record::put_accepted(out, &sample.event, &sample.claim, sample.pacing, super::LaneKey(1), None);
        });
    }
    drop(sample);
    rig.append(&Event { raw: forged, ..rig.event("evil") }).unwrap();
    rig.append(&rig.event("good")).unwrap();
    let copy = image(directory.path());
    let file = &segments(copy.path())[0];
    let mut bytes = fs::read(file).unwrap();
    bytes[super::frame::HEAD_SPAN + 1] ^= 1;
    fs::write(file, bytes).unwrap();
    let after = Rig::open(copy.path());
    assert_eq!(after.keys(), ["good"]);
    assert_eq!(after.recovered.damaged_records, 1);
}

#[test]
fn a_record_of_a_later_version_is_skipped_and_counted() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    let copy = image(directory.path());
    let file = &segments(copy.path())[0];
    let mut bytes = fs::read(file).unwrap();
    let head = super::frame::Head::decode(&bytes).unwrap();
    let end = usize::try_from(rig.store.core.lock().tail().1).unwrap();
    let mut more = vec![];
    super::frame::encode(&mut more, super::frame::Seed::of(head.salt), 8, 7, 0, |out| out.push(1));
    bytes[end..end + more.len()].copy_from_slice(&more);
    fs::write(file, bytes).unwrap();
    let after = Rig::open(copy.path());
    assert_eq!((after.keys(), after.recovered.damaged_records), (canon(&["a"]), 1));
    assert_eq!(after.metrics.spool_damaged_records.get(), 1);
}

fn refused_events_do_not_come_back(fault: impl Fn(&Rig)) {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("before")).unwrap();
    let faults = &rig.faults;
    faults.sync_millis.store(100, Ordering::SeqCst);
    let answers = rig.runtime.block_on(async {
        let post = |key: &str| {
            let (store, admitted) = (Arc::clone(&rig.store), admitted(&rig.event(key)));
            tokio::spawn(async move { store.append(0, admitted).await })
        };
        // While this one is synced the others gather, and the endings behind them.
        let slow = post("slow");
        tokio::time::sleep(Duration::from_millis(30)).await;
        let posts: Vec<_> = (0..5).map(|n| post(&format!("refused-{n}"))).collect();
        tokio::task::yield_now().await;
        for (upstream, sequence) in [("pager", 1), ("archive", 1), ("pager", 2), ("archive", 2)] {
            rig.settle(upstream, sequence, Ending::DELIVERED);
        }
        fault(&rig);
        faults.sync_millis.store(0, Ordering::SeqCst);
        assert!(slow.await.unwrap().is_ok());
        let mut answers = vec![];
        for post in posts {
            answers.push(post.await.unwrap());
        }
        answers
    });
    assert!(answers.iter().all(|answer| matches!(answer, Err(Reason::SpoolFailed))), "{answers:?}");
    assert!(rig.faults.hit.load(Ordering::SeqCst) > 0, "the fault was met");
    assert!(rig.metrics.spool_write_failures.get() > 0, "and counted");
    assert_eq!(rig.ledger.released.lock().unwrap().len(), 5, "the keys are free for the retry");
    wait_until("it accepts again", || rig.store.can_accept().is_ok());
    rig.append(&rig.event("after")).unwrap();
    assert_eq!(rig.ledger.committed.lock().unwrap().len(), 3);
    assert!(rig.metrics.intake().balances());
    let copy = image(directory.path());
    let after = Rig::open(copy.path());
    assert_eq!(after.keys(), ["after"], "and the endings of the failed batch are not lost");
    assert_eq!(after.recovered.damaged_records, 0, "a failed write is no damage");
    assert_eq!(after.transitions.len(), 3);
    assert!(after.queued[0].sequence > 7, "sequences are not given again");
    let sequences: Vec<_> = rig.kept.0.lock().unwrap().iter().map(|queued| queued.sequence).collect();
    assert_eq!(sequences, [1, 2, after.queued[0].sequence]);
}

#[test]
fn events_refused_for_a_failed_sync_do_not_come_back() {
    refused_events_do_not_come_back(|rig| rig.faults.syncs.store(1, Ordering::SeqCst));
}

#[test]
fn events_refused_for_a_torn_write_do_not_come_back() {
    refused_events_do_not_come_back(|rig| rig.faults.writes.store(1, Ordering::SeqCst));
}

#[test]
fn events_refused_do_not_come_back_when_the_next_segments_fail_too() {
    refused_events_do_not_come_back(|rig| {
        rig.faults.writes.store(2, Ordering::SeqCst);
        rig.faults.syncs.store(2, Ordering::SeqCst);
    });
}

#[test]
fn a_full_spool_refuses_events_and_still_takes_every_settlement() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { max_bytes: 3 * u64::from(SEGMENT), ..config(directory.path()) });
    let mut accepted = 0;
    let refused = loop {
        match rig.append(&rig.event(&format!("key-{accepted}"))) {
            Ok(_) => accepted += 1,
            Err(reason) => break reason,
        }
    };
    assert_eq!(refused, Reason::SpoolFull);
    assert_eq!(rig.store.can_accept(), Err(Reason::SpoolFull));
    let bytes: u64 = segments(directory.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= 3 * u64::from(SEGMENT), "{bytes}");
    assert_eq!(u64::try_from(rig.metrics.spool_bytes.get()).unwrap(), bytes);
    assert_eq!(rig.ledger.released.lock().unwrap().len(), 1);
    assert!(rig.metrics.intake().balances());
    for sequence in 1..=accepted {
        rig.settle("pager", sequence, Ending::DELIVERED);
        rig.settle("archive", sequence, Ending::DELIVERED);
    }
    wait_until("all is settled", || Rig::open(image(directory.path()).path()).queued.is_empty());
    drop((rig.store, rig.runtime));
    assert!(recover(directory.path()).queued.is_empty());
}

#[test]
fn a_full_disk_refuses_events_and_takes_them_again_when_there_is_space() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    rig.faults.full.store(true, Ordering::SeqCst);
    let mut accepted = 1;
    let refused = loop {
        match rig.append(&Event { raw: vec![b'x'; 2000], ..rig.event(&format!("key-{accepted}")) }) {
            Ok(_) => accepted += 1,
            Err(reason) => break reason,
        }
    };
    assert_eq!(refused, Reason::SpoolFull);
    for sequence in 1..=accepted {
        rig.settle("pager", sequence, Ending::DELIVERED);
        rig.settle("archive", sequence, Ending::DELIVERED);
    }
    let settled = || Rig::open(image(directory.path()).path()).queued.is_empty();
    wait_until("the reserve takes every settlement", settled);
    rig.faults.full.store(false, Ordering::SeqCst);
    // More than the reserve has room for. How soon it is (PROMISES D5) is seen on the running product, in tests/it/full.rs.
    for _ in 0..20 {
        let later = Event { raw: vec![b'x'; 2000], ..rig.event("later") };
        wait_until("it accepts again", || rig.append(&later).is_ok());
    }
    assert_eq!(Rig::open(image(directory.path()).path()).keys(), ["later"; 20]);
}

/// A file system of its own, as only root may make one.
struct Small(TempDir);

impl Small {
    fn mount(options: &str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let small = Self(directory);
        small.mounted(options).then_some(small)
    }

    fn mounted(&self, options: &str) -> bool {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(self.0.path())
            .stderr(std::process::Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_start_on_a_full_disk_succeeds_and_accepts_when_there_is_space() {
    let Some(small) = Small::mount("size=8k") else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    let rig = Rig::open(small.0.path());
    assert_eq!(rig.append(&rig.event("a")).err(), Some(Reason::SpoolFull));
    assert_eq!(rig.store.can_accept(), Err(Reason::SpoolFull));
    assert!(small.mounted("remount,size=1m"));
    // Within a second, as tests/it/full.rs measures.
    wait_until("it accepts", || rig.append(&rig.event("a")).is_ok());
    rig.store.close();
}

#[test]
fn a_closed_store_refuses_and_leaves_no_blank_space() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    rig.settle("pager", 1, Ending::DELIVERED);
    rig.store.close();
    rig.store.close();
    assert_eq!(rig.append(&rig.event("b")).err(), Some(Reason::Stopping));
    assert_eq!(rig.ledger.released.lock().unwrap().len(), 1);
    let files = segments(directory.path());
    assert_eq!(files.len(), 1);
    assert!(fs::metadata(&files[0]).unwrap().len() < 16 << 10);
    drop((rig.store, rig.runtime));
    assert_eq!(recover(directory.path()).queued[0].upstreams, ["archive"]);
}

#[test]
fn a_store_that_was_never_started_closes() {
    let directory = TempDir::new().unwrap();
    let metrics = Metrics::new(1).unwrap();
    let (store, _) = Store::open(config(directory.path()), &metrics, 1, Arc::new(NoStates)).unwrap();
    store.settle(&metrics.upstream("pager"), "fleet", 1, Ending::DELIVERED);
    store.close();
}

#[test]
fn memory_answers_at_once_and_is_written_soon() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    let keys: Vec<String> = (0..300).map(|n| format!("key-{n}")).collect();
    assert!(keys.iter().all(|key| rig.append(&rig.event(key)).is_ok()));
    wait_until("it is handed on", || rig.kept.0.lock().unwrap().len() == 300);
    assert_eq!(Rig::open(image(directory.path()).path()).keys(), keys);
}

#[test]
fn memory_keeps_what_it_answered_while_the_disk_fails() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    rig.faults.writes.store(3, Ordering::SeqCst);
    rig.append(&rig.event("a")).unwrap();
    wait_until("it refuses", || rig.append(&rig.event("b")).err() == Some(Reason::SpoolFailed));
    wait_until("it accepts again", || rig.append(&rig.event("c")).is_ok());
    rig.store.close();
    assert_eq!(rig.faults.hit.load(Ordering::SeqCst), 3);
    drop((rig.store, rig.runtime));
    let keys = Rig::open(directory.path()).keys();
    assert_eq!((keys.first().unwrap().as_str(), keys.last().unwrap().as_str()), ("a", "c"));
}

#[test]
fn memory_goes_on_when_there_is_space_though_settlements_began_a_segment_that_could_not_be_had() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, ..config(directory.path()) });
    rig.faults.full.store(true, Ordering::SeqCst);
    let mut accepted = 0;
    while rig.append(&rig.event(&format!("key-{accepted}"))).is_ok() {
        accepted += 1;
        std::thread::sleep(Duration::from_micros(100));
    }
    // More than a segment's reserve, twice over.
    for round in 0..2_000 {
        rig.settle("pager", round % accepted + 1, Ending::DELIVERED);
    }
    wait_until("the writer meets the full disk", || rig.append(&rig.event("b")).is_err());
    std::thread::sleep(Duration::from_millis(300));
    rig.faults.full.store(false, Ordering::SeqCst);
    wait_until("it accepts again", || rig.append(&rig.event("c")).is_ok());
    rig.store.close();
    drop((rig.store, rig.runtime));
    assert_eq!(Rig::open(directory.path()).keys().last().unwrap(), "c");
}

#[test]
fn a_record_above_its_limit_is_refused_and_its_key_is_free() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    for size in [60 << 10, 2 << 20] {
        let refused = rig.append(&Event { raw: vec![b'x'; size], ..rig.event("large") });
        assert_eq!(refused.err(), Some(Reason::Internal), "{size}");
    }
    assert_eq!(rig.ledger.released.lock().unwrap().len(), 2);
    assert!(rig.append(&Event { raw: vec![b'x'; 50 << 10], ..rig.event("fits") }).is_ok());
}

#[test]
fn a_damaged_record_is_not_served() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    rig.append(&rig.event("a")).unwrap();
    let at = rig.kept.0.lock().unwrap()[0].at;
    let file = fs::OpenOptions::new().write(true).open(&segments(directory.path())[0]).unwrap();
    // The last byte of the uid.
    let byte = (at.0 & 0xffff_ffff) + 24 + 8 + 15;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff], byte).unwrap();
    assert!(matches!(rig.read_from_disk(at), Err(ReadError::Damaged(_))));
}

#[test]
fn what_was_written_last_is_read_from_memory_and_the_rest_from_disk() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let event = |n: usize| Event { raw: vec![b'x'; 30 << 10], ..rig.event(&format!("key-{n}")) };
    // More than is kept, over several segments, several events a commit.
    for round in 0..40 {
        let events: Vec<_> = (0..8).map(|n| event(round * 8 + n)).collect();
        assert!(rig.append_all(&events).iter().all(Result::is_ok));
    }
    let places: Vec<_> = rig.kept.0.lock().unwrap().iter().map(|queued| (queued.at, queued.sequence)).collect();
    let in_memory: Vec<_> = places.iter().map(|(at, _)| rig.store.core.recent.event(*at).is_some()).collect();
    assert!(!in_memory[0] && in_memory[319], "the oldest went, the newest stays");
    assert!(in_memory.is_sorted(), "only the oldest went");
    for (at, sequence) in places {
        let (read, on_disk) = (rig.store.read(sequence, at).unwrap(), rig.read_from_disk(at).unwrap());
        assert_eq!((read.sequence, on_disk.sequence), (sequence, sequence));
        assert_eq!(read.event.key, on_disk.event.key);
        assert_eq!(read.event.raw, on_disk.event.raw);
    }
}

#[test]
fn a_read_sees_what_was_written_after_its_block_was_cached() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    for n in 0..100 {
        rig.append(&rig.event(&format!("key-{n}"))).unwrap();
        let at = rig.kept.0.lock().unwrap()[n].at;
        assert_eq!(rig.read_from_disk(at).unwrap().event.key.unwrap().canon(), format!("key-{n}"));
    }
    let first = rig.kept.0.lock().unwrap()[0].at;
    assert!(matches!(rig.store.read(u64::MAX, Position(first.0 + 8)), Err(ReadError::Damaged(_))));
    assert!(matches!(rig.store.read(u64::MAX, Position(u64::MAX)), Err(ReadError::Damaged(_))));
    assert!(matches!(rig.store.read(u64::MAX, Position(0)), Err(ReadError::Damaged(_))));
}

#[test]
fn a_hundred_thousand_waiting_events_wait_again_after_a_start() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::with(Config { durability: Durability::Memory, segment_bytes: 64 << 20, ..config(directory.path()) });
    let event = Event { raw: vec![b'x'; 1000], targets: vec!["pager"], ..rig.event("a") };
    for _ in 0..100_000 {
        // Faster than the disk: the buffer may fill.
        while rig.append(&event).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    drop((rig.store, rig.runtime));
    assert_eq!(Rig::open(directory.path()).queued.len(), 100_000);
}

/// CPU of the whole process so far, in nanoseconds.
fn cpu_nanos() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(')').unwrap().1.split(' ').skip(1).map(|f| f.parse().unwrap_or(0)).collect();
    (fields[11] + fields[12]) * 10_000_000
}

/// A hand-written log of the same records: one write and one sync a batch.
fn by_hand(batch: usize) -> (u64, u64) {
    let directory = TempDir::new_in(".").unwrap();
    let file = fs::File::create(directory.path().join("log")).unwrap();
    let (size, record) = (64 << 20, vec![b'x'; 1300]);
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; size], 0).unwrap();
    file.sync_all().unwrap();
    let (started, cpu, mut at, mut records) = (Instant::now(), cpu_nanos(), 0, 0);
    let mut buffer = vec![];
    while started.elapsed() < Duration::from_secs(2) {
        buffer.clear();
        (0..batch).for_each(|_| buffer.extend_from_slice(&record));
        if at + buffer.len() > size {
            at = 0;
        }
        std::os::unix::fs::FileExt::write_all_at(&file, &buffer, at as u64).unwrap();
        file.sync_data().unwrap();
        at += buffer.len();
        records += batch as u64;
    }
    (records * 1000 / started.elapsed().as_millis() as u64, (cpu_nanos() - cpu) / records)
}

#[test]
#[ignore = "a measurement"]
fn what_an_append_costs() {
    let metrics = Metrics::new(1).unwrap();
    let event = Event { metrics, raw: vec![b'x'; 1000], targets: vec!["pager"], ..Event::keyed("a") };
    let (started, cpu) = (Instant::now(), cpu_nanos());
    let mut made = 0;
    while started.elapsed() < Duration::from_secs(1) {
        (0..1000).for_each(|_| drop(admitted(&event)));
        made += 1000;
    }
    println!("an event alone: {} ns CPU", (cpu_nanos() - cpu) / made);
    for senders in [1, 16, 64, 256, 512] {
        let directory = TempDir::new_in(".").unwrap();
        let rig = Rig::with(Config { segment_bytes: 64 << 20, max_bytes: 1 << 40, ..config(directory.path()) });
        std::thread::sleep(Duration::from_millis(500));
        let event = Event { raw: vec![b'x'; 1000], targets: vec!["pager"], ..rig.event("a") };
        let (started, cpu) = (Instant::now(), cpu_nanos());
        let done = std::sync::atomic::AtomicU64::new(0);
        rig.runtime.block_on(async {
            let loops = (0..senders).map(|_| async {
                while started.elapsed() < Duration::from_secs(2) {
                    rig.store.append(0, admitted(&event)).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            futures_util::future::join_all(loops).await;
        });
        let done = done.into_inner();
        let syncs = rig.metrics.spool_sync_seconds.get_sample_count();
        println!(
            "{senders} senders: {}/s, {} ns CPU each, {} a sync; by hand {:?}",
            done / 2,
            (cpu_nanos() - cpu) / done,
            done / syncs,
            by_hand(senders)
        );
    }
}
