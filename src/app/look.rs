//! How the files of the configuration look: number, size and times. Another look is another content. `reload` notes the
//! looks before it reads, `watch` compares. All here asks a file system, which may not answer for long: never called on
//! the runtime that answers probes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::event::Micros;

/// How a file looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    file: (u64, u64),
    bytes: u64,
    written_at: (i64, i64),
    changed_at: (i64, i64),
}

impl Look {
    fn changed_at(&self) -> Micros {
        let (seconds, nanos) = self.changed_at;
        Micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
    }
}

/// `None`: it is not there, or what was read of it is not what is there.
pub(super) type Looks = BTreeMap<PathBuf, Option<Look>>;

fn look(path: &Path) -> Option<Look> {
    let found = std::fs::metadata(path).ok()?;
    Some(Look {
        file: (found.dev(), found.ino()),
        bytes: found.size(),
        written_at: (found.mtime(), found.mtime_nsec()),
        changed_at: (found.ctime(), found.ctime_nsec()),
    })
}

pub(super) fn looks(files: impl IntoIterator<Item = PathBuf>) -> Looks {
    let with_look = |path: PathBuf| {
        let look = look(&path);
        (path, look)
    };
    files.into_iter().map(with_look).collect()
}

/// The looks of files that were read from `read_at` on: those known from before keep the look they had then; of the others
/// one that was changed meanwhile may not be what was read.
pub(super) fn looks_read(files: &[PathBuf], before: &Looks, read_at: Micros) -> Looks {
    let as_read = |path: &PathBuf| match before.get(path) {
        Some(look) => *look,
        None => look(path).filter(|look| look.changed_at() <= read_at),
    };
    files.iter().map(|path| (path.clone(), as_read(path))).collect()
}

/// The folders in which a change of these files shows: where they stand, and where links lead to.
pub(super) fn folders<'f>(files: impl Iterator<Item = &'f PathBuf>) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let leads_to = |path: &PathBuf| std::fs::canonicalize(path).ok();
    files.flat_map(|path| [parent(path), leads_to(path).and_then(|real| parent(&real))]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_after_the_reading_began_is_to_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let files = [path.clone()];
        let before = looks(files.clone());
        assert!(before[&path].is_some());
        std::fs::write(&path, "other").unwrap();
        // Known from before: the look it had when the reading began. Not known: what is there was changed after it.
        assert_eq!(looks_read(&files, &before, Micros(0)), before);
        assert_ne!(looks(files.clone()), before);
        assert_eq!(looks_read(&files, &Looks::new(), Micros(0))[&path], None);
        assert_eq!(looks_read(&files, &Looks::new(), Micros(i64::MAX)), looks(files));
    }
}
