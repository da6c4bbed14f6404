//! What the machine gives: descriptors for the connections, and a clock.

use rustix::process::{Resource, getrlimit};

use super::Book;
use super::spool::Spool;
use crate::config::Config;
use crate::event::Micros;
use crate::listen::DESCRIPTORS_RESERVED;

/// 2024-01-01: this program is younger, so a clock before it was never set.
const EARLIEST: Micros = Micros(1_704_067_200 * 1_000_000);
/// A clock that was set back by so much takes new events for older than those in the log (DESIGN 5.6).
const BACK_MICROS_MAX: i64 = 60 * 1_000_000;
/// Fewer connections at once than this are seldom meant.
const FEW: usize = 512;

pub(super) fn check(config: &Config, spool: &Spool, book: &mut Book<'_>) {
    descriptors(config.ingest.connections, limit(), book);
    clock(Micros::now(), spool.newest, book);
}

/// What a start can raise its limit to.
fn limit() -> Option<usize> {
    getrlimit(Resource::Nofile).maximum.and_then(|limit| usize::try_from(limit).ok())
}

fn descriptors(connections: Option<usize>, limit: Option<usize>, book: &mut Book<'_>) {
    let Some(limit) = limit else { return };
    let free = limit.saturating_sub(DESCRIPTORS_RESERVED);
    let hint = "raise the process's limit: LimitNOFILE= of systemd, `ulimit -Hn` of a shell";
    match connections {
        Some(wanted) if wanted > free => {
            let message = format!(
                "{wanted} connections, but this process may open {limit} files, {DESCRIPTORS_RESERVED} of them for the log and the upstreams"
            );
            book.warning("descriptors", "limits.connections", &message, format!("{hint}, or write at most {free}"));
        }
        None if free < FEW => {
            let message = format!("this process may open {limit} files: few are left for connections");
            book.warning("descriptors", "limits.connections", &message, hint);
        }
        _ => {}
    }
}

fn clock(now: Micros, newest: Option<Micros>, book: &mut Book<'_>) {
    if now < EARLIEST {
        let message = format!("this machine's clock says {now}");
        book.error(
            "clock",
            "spool",
            &message,
            "set it (chronyd or systemd-timesyncd keep it right): time stamps and certificates depend on it",
        );
        return;
    }
    let Some(newest) = newest.filter(|newest| newest.0 - now.0 > BACK_MICROS_MAX) else { return };
    let message = format!("this machine's clock says {now}, but the spool has a record of {newest}");
    book.warning(
        "clock",
        "spool.directory",
        &message,
        "set the clock right: until it has caught up, ages of incidents stand still",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Level, Over, load_with_places};

    const NOON: Micros = Micros(1_790_000_000 * 1_000_000);

    fn told(now: Micros, newest: Option<Micros>) -> Vec<(Level, &'static str)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        let text = "integrations: [{ name: a, keys: [{ key_sha256: '0000000000000000000000000000000000000000000000000000000000000000' }], upstreams: [b] }]\nupstreams: [{ name: b, kind: stdout }]\n";
        std::fs::write(&path, text).unwrap();
        let (_, places) = load_with_places(&[path], &Over::default(), &|_| None).unwrap();
        let mut book = Book { places: &places, report: super::super::Report::default() };
        clock(now, newest, &mut book);
        book.report.found.iter().map(|found| (found.finding.level, found.finding.code)).collect()
    }

    #[test]
    fn a_clock_that_was_never_set_is_an_error_and_one_behind_the_log_a_warning() {
        let later = |micros| Some(Micros(NOON.0 + micros));
        assert_eq!(told(Micros(EARLIEST.0 - 1), None), [(Level::Error, "clock")]);
        assert_eq!(told(EARLIEST, None), []);
        assert_eq!(told(NOON, later(BACK_MICROS_MAX)), []);
        assert_eq!(told(NOON, later(BACK_MICROS_MAX + 1)), [(Level::Warning, "clock")]);
        assert_eq!(told(NOON, Some(EARLIEST)), []);
    }
}
