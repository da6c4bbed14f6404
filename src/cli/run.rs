//! `surgegate run`: the proxy, until a signal ends it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FAILED, Files, INVALID_CONFIGURATION};
use crate::app::{App, StartError};
use crate::config::{self, Config};
use crate::logging;

pub(super) fn run(files: &Files) -> ExitCode {
    let paths = match files.paths() {
        Ok(paths) => paths,
        Err(code) => return code,
    };
    match config::load(&paths, &super::environment) {
        Ok(config) => serve(config, Some(paths), None),
        Err(errors) => super::invalid(&errors),
    }
}

/// Runs until told to stop. `files`: where the configuration is read again from. `greeting` is printed once everything
/// listens.
pub(super) fn serve(config: Config, files: Option<Vec<PathBuf>>, greeting: Option<String>) -> ExitCode {
    let _ = files;
    let _flush = logging::start(config.log);
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "cannot start");
        eprintln!("surgegate: {error}");
        ExitCode::from(FAILED)
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(async {
        // Before anything starts: a signal that comes during recovery must end it in order, too.
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return failed(&error),
        };
        let app = match App::start(config).await {
            Ok(app) => app,
            Err(error) => {
                let code = failed(&error);
                // What the configuration names is not what it should be.
                return if matches!(error, StartError::Tls(_)) { ExitCode::from(INVALID_CONFIGURATION) } else { code };
            }
        };
        let addresses = app.addresses;
        tracing::info!(ingest = %addresses.ingest, observe = %addresses.observe, admin = %addresses.admin, "listening");
        if let Some(text) = greeting {
            println!("{text}");
        }
        until_told(app, signals).await;
        ExitCode::SUCCESS
    });
    runtime.shutdown_background();
    code
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// TERM drains and stops; INT on a terminal skips the drain; a second one stops at once.
async fn until_told(app: App, mut signals: Signals) {
    let skip_drain = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break false,
            _ = signals.interrupt.recv() => break std::io::stdin().is_terminal(),
            _ = signals.hangup.recv() => tracing::warn!("reloading comes with a later version: nothing changed"),
        }
    };
    tracing::info!("stopping");
    app.begin_drain();
    let drain = app.drain_time();
    let stop = async {
        if !skip_drain {
            tokio::time::sleep(drain).await;
        }
        app.stop().await;
    };
    tokio::select! {
        () = stop => tracing::info!("stopped"),
        _ = signals.terminate.recv() => tracing::warn!("stopped at once"),
        _ = signals.interrupt.recv() => tracing::warn!("stopped at once"),
    }
}
