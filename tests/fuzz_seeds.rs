//! The fuzz targets on the stable toolchain: every seed, and some thousand mutations of them. The seed of the random
//! numbers is printed; `SURGEGATE_FUZZ_SEED` gives it again, `SURGEGATE_FUZZ_CASES` more of them.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test that cannot go on has failed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/targets/config.rs"]
mod config;
#[path = "../fuzz/targets/decode_dialects.rs"]
mod decode_dialects;
#[path = "../fuzz/targets/decode_squadcast.rs"]
mod decode_squadcast;
#[path = "../fuzz/targets/route_and_head.rs"]
mod route_and_head;
#[path = "../fuzz/targets/store_recovery.rs"]
mod store_recovery;

/// Words that no byte change finds.
const WORDS: [&str; 28] = [
    "null",
    "true",
    "-0",
    "1E400",
    "18446744073709551616",
    "\"status\":\"resolve\"",
    "\"event_id\":",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[",
    "{\"a\":",
    "\u{FEFF}",
    "\r\n",
    "\r\n\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "0\r\n\r\n",
    "HTTP/1.1",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "${A:-b}",
    "&a ",
    "*a",
    "- ",
    ": ",
    " = ",
    "\"\"\"",
    "[[upstreams]]\n",
    "'",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// What stands in these files and folders, in the order of their names.
fn seeds(places: &[&str]) -> Vec<Vec<u8>> {
    let mut files = vec![];
    for place in places {
        let place = root().join(place);
        if place.is_dir() {
            let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
            files.extend(entries.filter(|path| path.is_file()));
        } else {
            files.push(place);
        }
    }
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One to four small changes, as a fuzzer makes them.
fn mutate(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.choice(seeds).unwrap().clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=bytes.len());
        let to = random.usize(at..=bytes.len().min(at + 64));
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let part = bytes[at..to].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let word = random.choice(WORDS).unwrap().bytes();
                bytes.splice(at..at, word);
            }
            5 => {
                let other = random.choice(seeds).unwrap();
                let from = random.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => bytes.insert(at, random.u8(..)),
        }
    }
    bytes
}

/// Runs a target over its seeds and `usual` mutations; an input that fails is printed and kept.
fn smoke(name: &str, places: &[&str], usual: usize, run: impl Fn(&[u8]) -> bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SURGEGATE_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = number("SURGEGATE_FUZZ_CASES").map_or(usual, |cases| usize::try_from(cases).unwrap());
    println!("{name}: SURGEGATE_FUZZ_SEED={seed}, {cases} mutations");
    let mut random = fastrand::Rng::with_seed(seed);
    let seeds = seeds(places);
    let mut said = [0usize; 2];
    for index in 0..seeds.len() + cases {
        let input = seeds.get(index).cloned().unwrap_or_else(|| mutate(&mut random, &seeds));
        match catch_unwind(AssertUnwindSafe(|| run(&input))) {
            Ok(good) => said[usize::from(good)] += 1,
            Err(panic) => {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}-{index}"));
                fs::write(&kept, &input).unwrap();
                println!("{name} fails on {}:\n{}", kept.display(), input.escape_ascii());
                resume_unwind(panic);
            }
        }
    }
    println!("{name}: {} good, {} refused", said[1], said[0]);
    assert!(said.iter().all(|count| *count > 0), "the inputs reach one side only");
}

#[test]
fn any_body_is_read_as_the_rules_say_and_can_be_answered() {
    smoke("decode_squadcast", &["fuzz/seeds/decode_squadcast"], 5_000, decode_squadcast::run);
}

#[test]
fn any_body_of_any_dialect_is_read_the_same_each_time() {
    smoke("decode_dialects", &["fuzz/seeds/decode_dialects"], 2_000, decode_dialects::run);
}

/// By their names, and by what they say: some of them are read by the dialect, and some are not.
#[test]
fn every_dialect_has_seeds_that_it_reads_and_seeds_that_it_refuses() {
    for dialect in surgegate::dialect::DIALECTS {
        let name = dialect.name();
        let folder = if name == "squadcast" { "decode_squadcast" } else { "decode_dialects" };
        let entries = fs::read_dir(root().join("fuzz/seeds").join(folder)).unwrap().map(|entry| entry.unwrap());
        let own = entries.filter(|entry| {
            folder == "decode_squadcast" || entry.file_name().to_string_lossy().starts_with(&format!("{name}-"))
        });
        let is_read: Vec<bool> =
            own.map(|entry| decode_dialects::is_read(*dialect, &fs::read(entry.path()).unwrap())).collect();
        assert!(is_read.contains(&true), "{name} reads none of its {} seeds", is_read.len());
        assert!(is_read.contains(&false), "{name} reads all of its {} seeds", is_read.len());
    }
}

#[test]
fn any_path_and_any_split_of_a_connection_are_taken() {
    smoke("route_and_head", &["fuzz/seeds/route_and_head"], 5_000, route_and_head::run);
}

#[test]
fn any_segment_is_recovered_from() {
    smoke("store_recovery", &["fuzz/seeds/store_recovery"], 500, store_recovery::run);
}

#[test]
fn any_text_is_a_configuration_or_says_why_not() {
    smoke("config", &["fuzz/seeds/config", "config"], 2_000, config::run);
}
