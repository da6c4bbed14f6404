//! Any bytes as a segment of the log (PROMISES D4, I4): the store opens, what it says waits can be read, an event is
//! accepted after it, and the next start finds the same and that event. The first byte of the input says what the
//! rest is: the file itself, or records with good checksums around any payload, or damage to a real log. The
//! latter two reach what a checksum hides from a fuzzer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use surgegate::claim::{Admitted, Claim, Pacing, Targets};
use surgegate::event::{Action, Event, Incident, Key, KeyKind, Micros, State, Tolerated, Uid};
use surgegate::metrics::Metrics;
use surgegate::outcome::Outcome;
use surgegate::store::{Ask, Config, Durability, Ending, Next, NoStates, Recovered, Store, Unreadable};

/// The layout as the head of `src/store.rs` tells it.
const HEAD_SPAN: usize = 8192;
const SALT: u64 = 7;

/// Whether events wait in it.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((shape, rest)) = input.split_first() else { return false };
    let segment = match shape {
        b'r' => rest.to_vec(),
        b's' => sealed(rest),
        _ => damaged(rest),
    };
    let directory = directory();
    made(fs::create_dir_all(directory.path().join("spool")));
    made(fs::write(segment_path(directory.path()), segment));

    let (store, before) = open(directory.path());
    let waited = waiting(&store, &before);
    for Next { sequence, found } in &waited {
        let read = found.map(|found| store.read(*sequence, found.at));
        // A well-sealed record may still say what no event says (a newer version's), or stand where no log would put
        // it: it becomes a dead letter.
        if *shape == b's' && !matches!(read, Some(Ok(_))) {
            continue;
        }
        let is_there = matches!(&read, Some(Ok(stored)) if stored.sequence == *sequence);
        assert!(is_there, "{sequence}: {read:?}");
    }
    let uid = append(&store, 1);
    store.close();
    drop(store);

    let (store, after) = open(directory.path());
    let waits = waiting(&store, &after);
    let sequences = |waiting: &[Next]| waiting.iter().map(|next| next.sequence).collect::<Vec<_>>();
    let Some((last, others)) = waits.split_last() else { panic!("the accepted event is lost") };
    assert_eq!(sequences(others), sequences(&waited), "the second start finds the same");
    let stored = last.found.map(|found| store.read(last.sequence, found.at));
    assert!(stored.is_some_and(|stored| stored.is_ok_and(|stored| stored.event.uid == uid)), "another event");
    !waited.is_empty()
}

/// What waits in any queue, in order, once each.
fn waiting(store: &Store, recovered: &Recovered) -> Vec<Next> {
    let mut all = BTreeMap::new();
    for (upstream, integration) in &recovered.queues {
        let ask = Ask { integration: Arc::clone(integration), after: 0, count: usize::MAX };
        let waiting = store.waiting(upstream, &[ask]).unwrap_or_default();
        all.extend(waiting.into_iter().flatten().map(|next| (next.sequence, next)));
    }
    all.into_values().collect()
}

fn made<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the temporary directory: {error}"))
}

/// In memory where that is known to be, or every input would wait for the disk.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    made(if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() })
}

fn segment_path(directory: &Path) -> PathBuf {
    directory.join("spool/0000000001.log")
}

fn open(directory: &Path) -> (Arc<Store>, Recovered) {
    let Ok(metrics) = Metrics::new(1) else { panic!("metrics") };
    let config = Config {
        directory: directory.into(),
        durability: Durability::Memory,
        max_bytes: 1 << 30,
        // Small: it is filled with zeros at every start.
        segment_bytes: 64 << 10,
        retain: Duration::from_secs(3600),
        index_bytes: 16 << 20,
        unreadable: Unreadable::default(),
    };
    match Store::open(config, &metrics, 1, Arc::new(NoStates)) {
        Ok(opened) => opened,
        Err(error) => panic!("a start fails: {error}"),
    }
}

/// An event of that number for one upstream.
fn append(store: &Store, number: u32) -> Uid {
    let Ok(metrics) = Metrics::new(1) else { panic!("metrics") };
    let now = Micros::now();
    let event = Event {
        uid: Uid::new(now),
        received_at: now,
        integration: "fleet".into(),
        dialect: Cow::Borrowed("squadcast"),
        endpoint: Cow::Borrowed("v2/incidents/api"),
        family: Cow::Borrowed("squadcast"),
        action: Action::Trigger,
        key: Key::parse(&format!("k{number}"), KeyKind::String),
        severity: None,
        target: None,
        envelope: None,
        view: None,
        trace: None,
        tolerated: Tolerated::default(),
        raw: Bytes::from_static(br#"{"message":"m","description":"d"}"#),
    };
    let next = Incident {
        iid: Uid::new(now),
        number: u64::from(number) * 1024,
        generation: 1,
        state: State::Open,
        severity: None,
        count: 1,
        last_seen: now,
        changed_at: now,
    };
    let targets: Targets = Arc::from([metrics.upstream("pager")]);
    let claim = Claim::new(None, Some(next), Outcome::Created, targets);
    let uid = event.uid;
    let admitted = Admitted { claim, event, pacing: Pacing::default(), ticket: metrics.receive(0) };
    let accepted = store.append(0, admitted).now_or_never();
    assert!(matches!(accepted, Some(Ok(_))), "an event is refused: {accepted:?}");
    uid
}

/// A real log: events, some of them settled.
fn real() -> &'static [u8] {
    static LOG: OnceLock<Vec<u8>> = OnceLock::new();
    LOG.get_or_init(|| {
        let directory = directory();
        let (store, _) = open(directory.path());
        let Ok(metrics) = Metrics::new(1) else { panic!("metrics") };
        let pager = metrics.upstream("pager");
        for number in 1..=8 {
            append(&store, number);
            if number % 3 == 0 {
                store.settle(&pager, "fleet", u64::from(number), Ending::DELIVERED);
            }
        }
        store.close();
        let mut log = made(fs::read(segment_path(directory.path())));
        let end = log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 9);
        log.truncate(end);
        log
    })
}

/// Every four bytes change one byte of a real log, the first two of all cut its end.
fn damaged(orders: &[u8]) -> Vec<u8> {
    let mut log = real().to_vec();
    let Some((cut, changes)) = orders.split_first_chunk::<2>() else { return log };
    let cut = usize::from(u16::from_le_bytes(*cut));
    log.truncate(log.len().saturating_sub(cut % 2048));
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % (HEAD_SPAN + 4096);
        if let Some(byte) = log.get_mut(at) {
            *byte = if change[2] == 0 { change[3] } else { *byte ^ change[3] };
        }
    }
    log
}

/// Records as the input orders them: kind, version, sequence (one byte each), length (two), payload.
fn sealed(mut orders: &[u8]) -> Vec<u8> {
    let mut head = vec![];
    head.extend_from_slice(b"SURGLOG1");
    head.extend_from_slice(&1u32.to_le_bytes());
    head.extend_from_slice(&1u32.to_le_bytes());
    head.extend_from_slice(&1u64.to_le_bytes());
    head.extend_from_slice(&SALT.to_le_bytes());
    let checksum = crc32fast::hash(&head);
    head.extend_from_slice(&checksum.to_le_bytes());
    let mut segment = vec![0; HEAD_SPAN];
    for copy in [0, 4096] {
        segment[copy..copy + head.len()].copy_from_slice(&head);
    }
    let seed = crc32fast::hash(&SALT.to_le_bytes());
    while let Some(([kind, version, sequence, low, high], rest)) = orders.split_first_chunk::<5>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, others) = rest.split_at(length);
        orders = others;
        let mut frame = vec![];
        frame.extend_from_slice(b"SGR1");
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&[*kind, *version, 0, 0]);
        frame.extend_from_slice(&u64::from(*sequence).to_le_bytes());
        frame.extend_from_slice(payload);
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(&frame[..8]);
        hasher.update(&frame[12..]);
        let checksum = hasher.finalize();
        frame[8..12].copy_from_slice(&checksum.to_le_bytes());
        frame.resize(frame.len().next_multiple_of(8), 0);
        segment.extend_from_slice(&frame);
    }
    segment
}
