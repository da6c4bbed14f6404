//! A start on a disk that does not read, or does not sync: that is told apart from damage, and nothing is given up for it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::{Rig, config, image, segments};
use crate::metrics::Metrics;
use crate::store::doubles::{Event, Failing, Faults, Remembers, waiting};
use crate::store::files::Real;
use crate::store::{Config, OpenError, Recovered, Store, Unreadable};

const EVENTS: usize = 30;
const PAGE: u64 = 4096;

/// A spool as a kill leaves it, with events in one segment behind a checkpoint.
fn killed() -> TempDir {
    let directory = TempDir::new().unwrap();
    let rig = Rig::without_keeper(config(directory.path()));
    let event = |n: usize| Event { raw: vec![b'x'; 1000], targets: vec!["pager"], ..rig.event(&format!("key-{n}")) };
    for n in 0..2 * EVENTS {
        if n == EVENTS {
            rig.sums_up();
        }
        rig.append(&event(n)).unwrap();
    }
    image(directory.path())
}

fn opened(
    directory: &Path,
    faults: &Arc<Faults>,
    unreadable: Unreadable,
) -> Result<(Arc<Store>, Recovered), OpenError> {
    let files = Failing { files: Arc::new(Real::below(directory)), faults: Arc::clone(faults) };
    let config = Config { unreadable, ..config(directory) };
    let metrics = Metrics::new(1).unwrap();
    Store::open_on(Arc::new(files), config, &metrics, 1, Arc::<Remembers>::default())
}

/// Files of the log, but for what is blank.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = fs::read_dir(directory.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let read = all.map(|path| (path.clone(), fs::read(path).unwrap()));
    read.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).collect()
}

/// Where the last byte of a file's content stands.
fn end(path: &Path) -> u64 {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64
}

/// Each part of a file that a start reads, with a name.
fn parts(directory: &Path) -> Vec<(&'static str, String, Range<u64>)> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let segments: Vec<PathBuf> = segments(directory).into_iter().filter(|path| end_or_blank(path).is_some()).collect();
    let (first, last) = (&segments[0], &segments[segments.len() - 1]);
    let tail = end(last) / PAGE * PAGE;
    let checkpoint = files(directory).into_keys().find(|path| path.extension().is_some_and(|e| e == "checkpoint"));
    vec![
        ("both copies of a head", name(first), 0..2 * PAGE),
        ("records", name(last), tail - 2 * PAGE..tail - PAGE),
        ("the end", name(last), tail..tail + PAGE),
        ("a checkpoint's head", name(checkpoint.as_ref().unwrap()), 0..2 * PAGE),
        ("a checkpoint's records", name(checkpoint.as_ref().unwrap()), 2 * PAGE..3 * PAGE),
    ]
}

fn end_or_blank(path: &Path) -> Option<u64> {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map(|at| at as u64)
}

#[test]
fn what_the_disk_cannot_read_fails_a_start_and_is_all_there_at_the_next() {
    let home = killed();
    for (name, file, part) in parts(home.path()) {
        let copy = image(home.path());
        let before = files(copy.path());
        let faults = Arc::<Faults>::default();
        *faults.bad.lock().unwrap() = Some((file.clone(), part));
        faults.bad_times.store(u32::MAX, Ordering::SeqCst);
        let refused = opened(copy.path(), &faults, Unreadable::FailsOpen).map(drop).unwrap_err();
        assert!(matches!(&refused, OpenError::Unreadable { path, .. } if path.ends_with(&file)), "{name}: {refused}");
        assert!(refused.hint().unwrap().contains("spool repair"));
        assert_eq!(fs::read_dir(copy.path().join("quarantine")).unwrap().count(), 0, "{name}: good data is set aside");
        let after = files(copy.path());
        let content = |bytes: &[u8]| bytes[..bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1].to_vec();
        for (path, bytes) in before {
            assert_eq!(content(&after[&path]), content(&bytes), "{name}: {}", path.display());
        }
        // It reads again.
        faults.bad.lock().unwrap().take();
        let (store, recovered) = opened(copy.path(), &faults, Unreadable::FailsOpen).unwrap();
        assert_eq!((recovered.waiting, recovered.damaged_records), (2 * EVENTS as u64, 0), "{name}");
        assert!(waiting(&store, &recovered).iter().all(|event| event.at.is_some()), "{name}");
    }
}

#[test]
fn a_read_that_fails_once_is_made_again() {
    let home = killed();
    for (name, file, part) in parts(home.path()) {
        let copy = image(home.path());
        let faults = Arc::<Faults>::default();
        *faults.bad.lock().unwrap() = Some((file, part));
        faults.bad_times.store(1, Ordering::SeqCst);
        let (_store, recovered) = opened(copy.path(), &faults, Unreadable::FailsOpen).unwrap();
        assert_eq!(faults.hit.load(Ordering::SeqCst), 1, "{name}: nobody read it");
        assert_eq!((recovered.waiting, recovered.damaged_records), (2 * EVENTS as u64, 0), "{name}");
    }
}

#[test]
fn a_repair_goes_on_without_what_cannot_be_read() {
    let home = killed();
    for (name, file, part) in parts(home.path()) {
        let copy = image(home.path());
        let faults = Arc::<Faults>::default();
        *faults.bad.lock().unwrap() = Some((file, part));
        faults.bad_times.store(u32::MAX, Ordering::SeqCst);
        let (_store, recovered) = opened(copy.path(), &faults, Unreadable::IsDamage).unwrap();
        assert!(name == "the end" || recovered.damaged_records > 0, "{name}: not noticed");
        assert!(recovered.waiting >= EVENTS as u64, "{name}: {} wait", recovered.waiting);
    }
}

#[test]
fn a_sync_that_fails_at_a_start_is_made_good_by_a_copy_or_fails_it() {
    use std::os::unix::fs::MetadataExt;
    let home = killed();
    let copy = image(home.path());
    // The first one behind the checkpoint.
    let segment = files(copy.path()).into_keys().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    let inode = fs::metadata(&segment).unwrap().ino();
    let faults = Arc::<Faults>::default();
    // And nowhere to copy it to.
    faults.syncs.store(1, Ordering::SeqCst);
    faults.full.store(true, Ordering::SeqCst);
    let refused = opened(copy.path(), &faults, Unreadable::FailsOpen).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Unsynced { path, .. } if *path == segment), "{refused}");
    let drafts =
        || files(copy.path()).into_keys().filter(|path| path.extension().is_some_and(|e| e == "draft")).count();
    assert_eq!((faults.hit.swap(0, Ordering::SeqCst), drafts()), (1, 0));

    faults.full.store(false, Ordering::SeqCst);
    faults.syncs.store(1, Ordering::SeqCst);
    let (store, recovered) = opened(copy.path(), &faults, Unreadable::FailsOpen).unwrap();
    assert_eq!(faults.hit.load(Ordering::SeqCst), 1);
    assert_ne!(fs::metadata(&segment).unwrap().ino(), inode, "it stands in another file");
    assert_eq!((recovered.waiting, recovered.damaged_records), (2 * EVENTS as u64, 0));
    assert!(waiting(&store, &recovered).iter().all(|event| event.at.is_some()));
    let on_disk: u64 = files_bytes(copy.path());
    assert_eq!(store.core.disk.bytes(), on_disk, "what it takes is known");
}

fn files_bytes(directory: &Path) -> u64 {
    fs::read_dir(directory.join("spool")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
