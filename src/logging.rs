//! The log's lines: where they go, in which form, from which level on. `cli` starts it; `app` changes the level.
//!
//! Limits: 8,192 lines wait for a reader of standard error that is slow; what comes beyond them is lost and counted,
//! so nothing ever waits for the log.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// Lines that wait for whoever reads standard error; about 300 B each.
const LINES_WAITING_MAX: usize = 8192;

/// The running log. Dropped, it writes what still waits.
pub struct Logging {
    _flush: WorkerGuard,
    pub control: Control,
}

/// Changes and tells of the running log.
#[derive(Clone)]
pub struct Control {
    level: Arc<Mutex<Level>>,
    filter: reload::Handle<Targets, Registry>,
    dropped: ErrorCounter,
}

impl Control {
    /// From which level on lines are written.
    pub fn level(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_level(&self, level: Level) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only when the log is gone, and then nobody sees.
        if self.filter.reload(filter(level)).is_ok() {
            *current = level;
        }
    }

    /// Lines lost so far.
    pub fn lines_dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

/// Our own lines from this level on; who changed something always; of the libraries' only what is wrong, but for `trace`,
/// which is everything there is, less what tells of files that changed: the log may be one, and would tell of itself
/// for ever.
fn filter(level: Level) -> Targets {
    let libraries = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    Targets::new()
        .with_default(libraries)
        .with_target("notify", level.min(Level::WARN))
        .with_target("surgegate", level)
        .with_target("audit", Level::INFO)
}

/// Whether its lines are JSON, so that nothing else should stand between them.
pub fn is_json(log: Log) -> bool {
    match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// Lines to standard error by a thread of their own: no request waits for the log.
pub fn start(log: Log) -> Logging {
    let (writer, flush) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).finish(std::io::stderr());
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(writer);
    let lines = if is_json(log) {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Logging { _flush: flush, control: Control { level: Arc::new(Mutex::new(log.level)), filter: handle, dropped } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_stands_in_a_watched_folder_does_not_tell_of_itself() {
        let all = filter(Level::TRACE);
        assert!(all.would_enable("hyper::proto", &Level::TRACE) && all.would_enable("surgegate::app", &Level::TRACE));
        assert!(!all.would_enable("notify::inotify", &Level::TRACE) && all.would_enable("notify", &Level::WARN));
        assert!(!filter(Level::ERROR).would_enable("notify", &Level::WARN));
    }
}
