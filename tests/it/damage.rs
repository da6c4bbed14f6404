//! D4 and D7: a damaged spool. Copies of one that the binary wrote itself are torn, flipped, cut, emptied, mixed up
//! and given strange company; each is started from. The start never fails and never loops, damage is counted and kept
//! for a look, what is not damaged arrives, each event once, and the books balance.
//!
//! Of the layout only this is known here: `spool/*.log` are segments, a record begins with `SGR1` and ends with the
//! sender's body, a segment's head stands twice, in its first two pages. What a process of a later version would have
//! written is made here: for that a head's and a record's checksum are known as well.
//!
//! `SURGEGATE_TORTURE_CUTS_EVERY` cuts at every nth byte only, `SURGEGATE_TORTURE_FLIPS` sets the number of flipped
//! bits, `TEST_SEED` makes a run's choices again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use tempfile::TempDir;

use crate::crash::{configuration, figure};
use crate::faults::{Fault, Upstream};
use crate::harness::{Auditor, PATH, Surgegate, alone, seed, wait_until};

const PAGE: usize = 4096;
/// Each start begins a segment.
const SEGMENTS: usize = 8;
/// Events of these are delivered before the damage; they may come again, under their ids.
const SETTLED: usize = 2;
const EVENTS_EACH: usize = 8;
/// Between the end of a body and the next record there is less than this.
const PADDING_MAX: usize = 16;

/// An event, as found in the files.
#[derive(Clone, Debug)]
struct Event {
    key: String,
    /// Number of the segment, of those with content, in order.
    segment: usize,
    /// Where its record begins, and where its body ends.
    begins: usize,
    ends: usize,
    is_settled: bool,
}

/// A spool to damage copies of, and the process that starts from them.
struct Bench {
    upstream: Upstream,
    surgegate: Surgegate,
    auditor: Auditor,
    directory: TempDir,
    events: Vec<Event>,
    /// Segments with content, in order.
    segments: Vec<PathBuf>,
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in files_in(from) {
        let target = to.join(file.file_name().unwrap());
        if file.is_dir() {
            copy(&file, &target);
        } else {
            std::fs::copy(&file, target).unwrap();
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).rposition(|window| window == word)
}

fn content_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

impl Bench {
    fn set() -> Self {
        let upstream = Upstream::scripted(|_| Fault::Answer(200));
        let config = configuration(&upstream.url(), "connections: 8");
        let mut surgegate = Surgegate::start(&[&config, "spool: { max_bytes: 16MiB }\n"]);
        for start in 0..SEGMENTS {
            let mut connection = surgegate.connect();
            for number in 0..EVENTS_EACH {
                // So that a segment's records take several pages.
                let description = "d".repeat(700);
                let body =
                    format!(r#"{{"message":"m","description":"{description}","event_id":"key-{start}-{number}"}}"#);
                assert_eq!(connection.post(PATH, body).unwrap().status, 202);
            }
            if start < SETTLED {
                surgegate.wait_until_delivered();
            }
            if start + 1 == SETTLED {
                upstream.tell(|_| Fault::Answer(503));
            }
            // Half of them end in order, the last one does not.
            if start % 2 == 0 {
                assert!(surgegate.stop().success())
            } else {
                surgegate.kill()
            }
            if start + 1 < SEGMENTS {
                surgegate.start_again();
            }
        }
        upstream.tell(|_| Fault::Answer(200));
        let directory = TempDir::new().unwrap();
        copy(&surgegate.spool(), directory.path());
        let auditor = Auditor::start(surgegate.observe_address());
        let mut bench = Self { upstream, surgegate, auditor, directory, events: Vec::new(), segments: Vec::new() };
        bench.find_events();
        bench
    }

    fn find_events(&mut self) {
        for file in files_in(&self.directory.path().join("spool")) {
            let bytes = std::fs::read(&file).unwrap();
            if file.extension().is_none_or(|end| end != "log") || content_end(&bytes) == 0 {
                continue;
            }
            for (start, number) in (0..SEGMENTS).flat_map(|start| (0..EVENTS_EACH).map(move |number| (start, number))) {
                let key = format!("key-{start}-{number}");
                let body = format!(r#""event_id":"{key}"}}"#);
                let Some(at) = find(&bytes, body.as_bytes()) else { continue };
                let begins = find(&bytes[..at], b"SGR1").expect("a record");
                let (segment, ends) = (self.segments.len(), at + body.len());
                self.events.push(Event { key, segment, begins, ends, is_settled: start < SETTLED });
            }
            self.segments.push(PathBuf::from(file.file_name().unwrap()));
        }
        self.events.sort_by_key(|event| (event.segment, event.begins));
        assert_eq!(self.events.len(), SEGMENTS * EVENTS_EACH, "every event stands in the files once");
    }

    fn of(&self, segment: usize) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.segment == segment)
    }

    /// Starts from a copy that `damage` has been at, given the folder of segments. Afterwards that folder and the
    /// quarantine stand as the start left them.
    fn start_from(&mut self, damage: impl FnOnce(&Path)) -> After {
        let home = self.surgegate.spool();
        std::fs::remove_dir_all(&home).unwrap();
        copy(self.directory.path(), &home);
        damage(&home.join("spool"));
        self.upstream.forget();
        self.surgegate.start_again();
        self.auditor.move_to(self.surgegate.observe_address());
        let scrape = self.surgegate.wait_until_delivered();
        let mut came = BTreeMap::<String, usize>::new();
        for arrival in self.upstream.arrivals() {
            *came.entry(arrival.key).or_default() += 1;
        }
        let missing = self.events.iter().filter(|event| !event.is_settled && !came.contains_key(&event.key));
        let after = After {
            missing: missing.map(|event| event.key.clone()).collect(),
            twice: came.iter().filter(|(_, times)| **times > 1).map(|(key, _)| key.clone()).collect(),
            damaged: scrape.count("spool_damaged_records_total", &[]),
            set_aside: files_in(&home.join("quarantine")).len(),
        };
        assert!(after.twice.is_empty(), "sent twice: {after:?}");
        let strangers: Vec<_> = came.keys().filter(|key| !self.events.iter().any(|event| event.key == **key)).collect();
        assert!(strangers.is_empty(), "nobody posted {strangers:?}");
        after
    }

    /// The books balanced at every look.
    fn end(self) {
        // Each start was looked at once as well: some are over before the auditor comes round.
        self.auditor.end();
    }

    /// The next start finds nothing left to do, and takes new events.
    fn start_once_more(&mut self) {
        // In order, so that what was delivered in the last moments is settled, too.
        assert!(self.surgegate.stop().success());
        let before = self.upstream.count();
        self.surgegate.start_again();
        self.surgegate.wait_until_delivered();
        assert_eq!(self.upstream.count(), before, "the second start sent something again");
        assert_eq!(self.surgegate.post(PATH, crate::harness::trigger("new")).outcome(), "created");
        wait_until("the new event", || self.upstream.count() > before);
    }
}

#[derive(Debug)]
struct After {
    /// Waiting events that did not come.
    missing: BTreeSet<String>,
    twice: Vec<String>,
    damaged: u64,
    set_aside: usize,
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    with(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_two_records_costs_these_at_most() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let every = figure("SURGEGATE_TORTURE_CUTS_EVERY", 20);
    let mut bench = Bench::set();
    let last = bench.segments.len() - 1;
    let file = bench.segments[last].clone();
    let records: Vec<Event> = bench.of(last).cloned().collect();
    let [.., before, one, two] = &records[..] else { panic!("three records") };
    let range = before.ends + PADDING_MAX..two.ends + PADDING_MAX;
    let (mut cuts, mut lost, mut kept_apart) = (0, 0, 0);
    for cut in range.skip(rng.usize(..every)).step_by(every) {
        let zeros_follow = rng.bool();
        bench.surgegate.kill();
        let after = bench.start_from(|spool| {
            change(&spool.join(&file), |bytes| {
                let whole = bytes.len();
                bytes.truncate(cut);
                if zeros_follow {
                    bytes.resize(whole, 0);
                }
            });
        });
        let may_miss: BTreeSet<String> =
            [one, two].iter().filter(|event| cut < event.ends + PADDING_MAX).map(|event| event.key.clone()).collect();
        let must_miss = [one, two].iter().filter(|event| cut < event.ends).count();
        assert!(after.missing.is_subset(&may_miss), "cut at {cut}: {after:?}");
        assert!(after.missing.len() >= must_miss, "cut at {cut}, and a torn record was read: {after:?}");
        // A cut between two records, or in the zeros at the end of one, leaves nothing to set aside.
        let torn = [one, two].iter().any(|event| (event.begins + 8..event.ends).contains(&cut));
        assert!(!torn || after.set_aside > 0, "cut at {cut}, and the torn record was not kept: {after:?}");
        (cuts, lost, kept_apart) =
            (cuts + 1, lost + after.missing.len(), kept_apart + usize::from(after.set_aside > 0));
    }
    eprintln!("Found {cuts} cuts, {lost} torn events, {kept_apart} times the torn bytes were kept");
    assert!(lost > cuts / 2 && kept_apart > cuts / 2, "the cuts hit nothing");
    bench.start_once_more();
    bench.end();
}

#[test]
fn a_flipped_bit_costs_the_record_it_hits_at_most_and_is_noticed() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let flips = figure("SURGEGATE_TORTURE_FLIPS", 10_000 / 20);
    let mut bench = Bench::set();
    let (mut flipped, mut lost) = (0, 0);
    while flipped < flips {
        // One in each segment: their damage does not add up.
        let mut places = Vec::new();
        let segments = bench.segments.clone();
        bench.surgegate.kill();
        let after = bench.start_from(|spool| {
            for segment in &segments {
                change(&spool.join(segment), |bytes| {
                    // Mostly where something stands.
                    let end = if rng.u8(..8) == 0 { bytes.len() } else { content_end(bytes) };
                    let bit = rng.usize(..end * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    places.push(bit / 8);
                });
            }
        });
        flipped += places.len();
        let is_hit = |event: &Event| {
            let at = places[event.segment];
            (event.begins..event.ends + PADDING_MAX).contains(&at)
        };
        let may_miss: BTreeSet<String> =
            bench.events.iter().filter(|event| is_hit(event)).map(|event| event.key.clone()).collect();
        assert!(after.missing.is_subset(&may_miss), "flips at {places:?}: {after:?}, but may {may_miss:?}");
        // What was read although a bit of it was wrong would be no event of anybody: found as a stranger.
        assert!(after.set_aside >= after.missing.len(), "flips at {places:?}: {after:?}");
        lost += after.missing.len();
    }
    eprintln!("Found {flipped} flipped bits, {lost} events lost");
    assert!(lost * 10 > flipped, "the flips hit nothing");
    bench.start_once_more();
    bench.end();
}

/// Changes both copies of a head, which are whole afterwards.
fn change_head(bytes: &mut [u8], with: impl Fn(&mut [u8])) {
    for copy in [0, PAGE] {
        let head = &mut bytes[copy..copy + 36];
        with(&mut head[..32]);
        let checksum = crc32fast::hash(&head[..32]);
        head[32..].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Changes the header of a record, which is whole afterwards.
fn change_record(bytes: &mut [u8], at: usize, with: impl Fn(&mut [u8])) {
    let seed = crc32fast::hash(&bytes[24..32]);
    let frame = &mut bytes[at..];
    let length = 24 + u32_at(frame, 4);
    with(&mut frame[..24]);
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&frame[..8]);
    hasher.update(&frame[12..length]);
    frame[8..12].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// What a damage may cost, and whether it must be noticed.
struct Cost {
    may_miss: BTreeSet<String>,
    must_miss: usize,
    is_noticed: bool,
    /// What is not understood and whole stays where it is.
    is_set_aside: bool,
}

#[test]
fn every_kind_of_damage_to_the_files_costs_what_it_hits_and_no_more() {
    let _alone = alone();
    let mut bench = Bench::set();
    // Segments in the middle: what comes after them must be read, too.
    let [one, other] = [SETTLED + 1, SETTLED + 3];
    let events: Vec<Event> = bench.of(one).filter(|event| !event.is_settled).cloned().collect();
    assert_eq!(events.len(), EVENTS_EACH, "a start made one segment");
    let others: Vec<Event> = bench.of(other).cloned().collect();
    let third = events[2].clone();
    let third_at = third.begins;
    let names = |events: &[Event]| events.iter().map(|event| event.key.clone()).collect::<BTreeSet<_>>();
    let nothing = || Cost { may_miss: BTreeSet::new(), must_miss: 0, is_noticed: false, is_set_aside: false };
    let unseen = |events: &[Event]| Cost { may_miss: names(events), must_miss: events.len(), ..nothing() };
    let all_of = |events: &[Event]| Cost { is_noticed: true, is_set_aside: true, ..unseen(events) };
    let segments = bench.segments.clone();
    let path = |spool: &Path, segment: usize| spool.join(&segments[segment]);
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 4;
    let fill = |from: usize, to: usize, with: u8| move |bytes: &mut Vec<u8>| bytes[from..to].fill(with);
    let past = |spool: &Path| spool.join("0000009000.log");
    let in_page: Vec<Event> = {
        let page = third.begins / PAGE;
        let touched = |event: &&Event| event.begins / PAGE <= page && (event.ends + PADDING_MAX) / PAGE >= page;
        events.iter().filter(touched).cloned().collect()
    };
    let page = third.begins / PAGE * PAGE;
    let cut = third.begins + 30;
    type Damage<'a> = Box<dyn Fn(&Path) + 'a>;
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let at_one = |with: Change| -> Damage<'_> { Box::new(move |spool| change(&path(spool, one), |bytes| with(bytes))) };
    let third_alone = || all_of(std::slice::from_ref(&third));
    let cases: Vec<(&str, Cost, Damage<'_>)> = vec![
        ("nothing at all", nothing(), Box::new(|_| ())),
        ("a flip in a record's mark", third_alone(), at_one(Box::new(flip(third.begins)))),
        ("a flip in a record's length", third_alone(), at_one(Box::new(flip(third.begins + 4)))),
        ("a flip that makes a record very long", third_alone(), at_one(Box::new(flip(third.begins + 6)))),
        ("a flip in a record's checksum", third_alone(), at_one(Box::new(flip(third.begins + 8)))),
        ("a flip in a record's kind", third_alone(), at_one(Box::new(flip(third.begins + 12)))),
        ("a flip in a record's sequence", third_alone(), at_one(Box::new(flip(third.begins + 16)))),
        ("a flip in a payload", third_alone(), at_one(Box::new(flip(third.ends - 20)))),
        ("the head's first page lost", nothing(), at_one(Box::new(fill(0, PAGE, 0xff)))),
        ("the head's second page lost", nothing(), at_one(Box::new(fill(PAGE, 2 * PAGE, 0xff)))),
        ("the head's first page blank", nothing(), at_one(Box::new(fill(0, PAGE, 0)))),
        ("both pages of the head lost", all_of(&events), at_one(Box::new(fill(0, 2 * PAGE, 0xff)))),
        (
            "a page in the middle blank",
            Cost { must_miss: 1, ..all_of(&in_page) },
            at_one(Box::new(move |bytes| {
                let end = (page + PAGE).min(bytes.len());
                bytes[page..end].fill(0);
            })),
        ),
        (
            "a record of a later version",
            Cost { is_set_aside: false, ..third_alone() },
            at_one(Box::new(move |bytes| change_record(bytes, third_at, |header| header[13] = 99))),
        ),
        (
            "a record of a kind that nobody knows",
            Cost { is_set_aside: false, ..third_alone() },
            at_one(Box::new(move |bytes| change_record(bytes, third_at, |header| header[12] = 99))),
        ),
        (
            "a record twice",
            nothing(),
            at_one(Box::new(move |bytes| {
                let length = (24 + u32_at(bytes, third_at + 4)).next_multiple_of(8);
                let record = bytes[third_at..third_at + length].to_vec();
                let end = content_end(bytes).next_multiple_of(8);
                bytes.resize(bytes.len().max(end + length), 0);
                bytes[end..end + length].copy_from_slice(&record);
            })),
        ),
        (
            "a head of a later format",
            all_of(&events),
            at_one(Box::new(|bytes| change_head(bytes, |head| head[8] = 99))),
        ),
        (
            "a head with another number",
            all_of(&events),
            at_one(Box::new(|bytes| change_head(bytes, |head| head[12] ^= 0x40))),
        ),
        (
            "a head with another salt",
            all_of(&events),
            at_one(Box::new(|bytes| change_head(bytes, |head| head[24] ^= 1))),
        ),
        ("cut in the middle of a record", all_of(&events[2..]), at_one(Box::new(move |bytes| bytes.truncate(cut)))),
        ("missing", unseen(&events), Box::new(|spool| std::fs::remove_file(path(spool, one)).unwrap())),
        ("empty", unseen(&events), at_one(Box::new(|bytes| bytes.clear()))),
        ("blank", unseen(&events), at_one(Box::new(|bytes| bytes.fill(0)))),
        ("all noise", all_of(&events), at_one(Box::new(|bytes| bytes.fill_with(|| fastrand::u8(1..))))),
        (
            "swapped with another",
            // Whether the events of the two are still believed is the store's to say; if not, they are kept apart.
            Cost { must_miss: 0, ..all_of(&[&events[..], &others[..]].concat()) },
            Box::new(|spool| {
                let (left, right) = (path(spool, one), path(spool, other));
                let bytes = std::fs::read(&left).unwrap();
                std::fs::copy(&right, &left).unwrap();
                std::fs::write(&right, bytes).unwrap();
            }),
        ),
        (
            "a copy under a later number",
            nothing(),
            Box::new(|spool| assert!(std::fs::copy(path(spool, one), past(spool)).is_ok())),
        ),
        (
            "noise under a later number",
            nothing(),
            Box::new(|spool| std::fs::write(past(spool), vec![7; 9000]).unwrap()),
        ),
        ("an empty file under a later number", nothing(), Box::new(|spool| std::fs::write(past(spool), "").unwrap())),
        ("a directory under a later number", nothing(), Box::new(|spool| std::fs::create_dir(past(spool)).unwrap())),
        (
            "a directory in a segment's place",
            unseen(&events),
            Box::new(|spool| {
                std::fs::remove_file(path(spool, one)).unwrap();
                std::fs::create_dir(path(spool, one)).unwrap();
            }),
        ),
        (
            "a link to nowhere",
            nothing(),
            Box::new(|spool| std::os::unix::fs::symlink("/nowhere", past(spool)).unwrap()),
        ),
        (
            "the highest number there is",
            nothing(),
            Box::new(|spool| std::fs::write(spool.join("4294967295.log"), "x").unwrap()),
        ),
        (
            "files with odd names",
            nothing(),
            Box::new(|spool| {
                for name in [
                    "notes.txt",
                    "1.log",
                    "00000000000000000001.log",
                    ".log",
                    "000000000x.log",
                    "0000000001.LOG",
                    "a b\n",
                ] {
                    std::fs::write(spool.join(name), "not ours").unwrap();
                }
            }),
        ),
    ];
    for (name, cost, damage) in &cases {
        bench.surgegate.kill();
        let after = bench.start_from(damage);
        eprintln!("{name}: {} missing, {} counted, {} set aside", after.missing.len(), after.damaged, after.set_aside);
        assert!(after.missing.is_subset(&cost.may_miss), "{name}: {after:?}");
        assert!(after.missing.len() >= cost.must_miss, "{name}: read all the same: {after:?}");
        assert!(!cost.is_noticed || after.damaged > 0, "{name}: not noticed: {after:?}");
        assert!(!cost.is_set_aside || after.set_aside > 0, "{name}: not kept for a look: {after:?}");
        bench.start_once_more();
    }
    bench.end();
}

/// The log stands behind every checkpoint, and one of them behind the other: whatever becomes of them, nothing is lost.
#[test]
fn no_damage_to_checkpoints_costs_an_event() {
    let _alone = alone();
    let mut bench = Bench::set();
    type Damage = Box<dyn Fn(&[PathBuf])>;
    let both = |with: fn(&mut Vec<u8>)| -> Damage {
        Box::new(move |checkpoints| checkpoints.iter().for_each(|path| change(path, with)))
    };
    let newest = |with: fn(&mut Vec<u8>)| -> Damage { Box::new(move |checkpoints| change(&checkpoints[1], with)) };
    let flip: fn(&mut Vec<u8>) = |bytes| {
        let end = content_end(bytes);
        bytes[2 * PAGE + (end - 2 * PAGE) / 2] ^= 4;
    };
    // Whether it is noticed: a file that is not there may never have been.
    let cases: Vec<(&str, bool, Damage)> = vec![
        ("a flip in the newest", true, newest(flip)),
        ("a flip in the older one", true, Box::new(move |checkpoints| change(&checkpoints[0], flip))),
        ("a flip in both", true, both(flip)),
        ("the newest cut in half", true, newest(|bytes| bytes.truncate(2 * PAGE + (bytes.len() - 2 * PAGE) / 2))),
        ("both cut by a byte", true, both(|bytes| bytes.truncate(content_end(bytes) - 1))),
        ("the newest without its head", true, newest(|bytes| bytes[..2 * PAGE].fill(0xff))),
        ("one page of its head lost", false, newest(|bytes| bytes[..PAGE].fill(0xff))),
        ("the newest empty", true, newest(Vec::clear)),
        ("both blank", true, both(|bytes| bytes.fill(0))),
        ("both noise", true, both(|bytes| bytes.fill_with(|| fastrand::u8(1..)))),
        ("both of a later format", true, both(|bytes| change_head(bytes, |head| head[8] = 99))),
        ("both with records of a later version", true, both(|bytes| change_record(bytes, 2 * PAGE, |it| it[13] = 99))),
        ("the newest missing", false, Box::new(|checkpoints| std::fs::remove_file(&checkpoints[1]).unwrap())),
        (
            "both missing",
            false,
            Box::new(|checkpoints| checkpoints.iter().for_each(|path| std::fs::remove_file(path).unwrap())),
        ),
        (
            "each under the other's name",
            true,
            Box::new(|checkpoints| {
                let bytes = std::fs::read(&checkpoints[0]).unwrap();
                std::fs::copy(&checkpoints[1], &checkpoints[0]).unwrap();
                std::fs::write(&checkpoints[1], bytes).unwrap();
            }),
        ),
        (
            "the newest once more under a later number",
            true,
            Box::new(|checkpoints| {
                std::fs::copy(&checkpoints[1], checkpoints[1].with_file_name("0000009000.checkpoint")).unwrap();
            }),
        ),
        (
            "a directory in the newest one's place",
            false,
            Box::new(|checkpoints| {
                std::fs::remove_file(&checkpoints[1]).unwrap();
                std::fs::create_dir(&checkpoints[1]).unwrap();
            }),
        ),
        (
            "noise under the highest number there is",
            true,
            Box::new(|checkpoints| {
                std::fs::write(checkpoints[1].with_file_name("4294967295.checkpoint"), "x").unwrap();
            }),
        ),
        (
            "a draft that a crash left",
            false,
            Box::new(|checkpoints| std::fs::write(checkpoints[1].with_extension("draft"), "half").unwrap()),
        ),
    ];
    let checkpoints = |spool: &Path| -> Vec<PathBuf> {
        let is_one = |path: &PathBuf| path.is_file() && path.extension().is_some_and(|end| end == "checkpoint");
        files_in(spool).into_iter().filter(is_one).collect()
    };
    for (name, is_noticed, damage) in &cases {
        bench.surgegate.kill();
        let after = bench.start_from(|spool| {
            let checkpoints = checkpoints(spool);
            assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
            damage(&checkpoints);
        });
        eprintln!("{name}: {} counted, {} set aside", after.damaged, after.set_aside);
        assert!(after.missing.is_empty(), "{name}: {after:?}");
        assert_eq!(after.damaged > 0 && after.set_aside > 0, *is_noticed, "{name}: {after:?}");
        let spool = bench.surgegate.spool().join("spool");
        let before = checkpoints(&spool).pop();
        bench.start_once_more();
        assert!(checkpoints(&spool).pop() > before, "{name}: no checkpoint can be made any more");
    }
    bench.end();
}

/// Losses that leave no unreadable byte behind. The log can know of them all the same: each segment's head says at
/// which sequence it begins.
#[test]
fn events_that_are_gone_without_a_trace_are_counted_as_damage() {
    let _alone = alone();
    let mut bench = Bench::set();
    let one = SETTLED + 1;
    let file = bench.segments[one].clone();
    let cut = bench.of(one).nth(2).unwrap().begins;
    type Damage = Box<dyn Fn(&Path)>;
    let cases: [(&str, Damage); 5] = [
        ("missing", Box::new(|path| std::fs::remove_file(path).unwrap())),
        ("empty", Box::new(|path| std::fs::write(path, "").unwrap())),
        ("blank", Box::new(|path| change(path, |bytes| bytes.fill(0)))),
        ("its second half blank", Box::new(move |path| change(path, |bytes| bytes[cut..].fill(0)))),
        ("cut between two records", Box::new(move |path| change(path, |bytes| bytes.truncate(cut)))),
    ];
    for (name, damage) in cases {
        bench.surgegate.kill();
        let after = bench.start_from(|spool| damage(&spool.join(&file)));
        assert!(!after.missing.is_empty(), "{name}: nothing was lost");
        assert!(after.damaged > 0, "{name}: not noticed: {after:?}");
        bench.start_once_more();
    }
}
