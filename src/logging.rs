//! The log's lines: where they go, in which form, from which level on. `cli` starts it; `app` changes the level.

use std::io::IsTerminal;

use tracing_appender::non_blocking::WorkerGuard;

use crate::config::{Log, LogFormat};

/// Whether its lines are JSON, so that nothing else should stand between them.
pub fn is_json(log: Log) -> bool {
    match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// Lines to standard error by a thread of their own: no request waits for the log.
pub fn start(log: Log) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_writer(writer).with_max_level(log.level);
    if is_json(log) {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    guard
}
