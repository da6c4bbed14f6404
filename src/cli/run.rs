//! `surgegate run`: the proxy, until a signal ends it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FAILED, Files, INVALID_CONFIGURATION, UNREACHED};
use crate::app::{Again, App, Load};
use crate::config::{self, Config};
use crate::logging;
use crate::systemd::ServiceManager;

pub(super) const HELP: &str = "\
Reads ./surgegate.yaml, or /etc/surgegate/surgegate.yaml, where no file is named. A variable SURGEGATE__SECTION__KEY
replaces one value of the file: SURGEGATE__SPOOL__DIRECTORY=/var/lib/surgegate.

TERM takes readiness down, goes on for shutdown.drain, lets what is under way end and stops; INT too, and skips the wait
on a terminal; a second signal stops at once. What was accepted and not delivered waits in the spool for the next start.

Examples:
  surgegate run --config surgegate.yaml
  surgegate run --config base.yaml --config site.yaml     site.yaml laid over base.yaml

Exit codes: 0 stopped in order, 1 cannot start or failed, 2 usage, 78 invalid configuration.";

pub(super) fn run(files: &Files) -> ExitCode {
    let paths = match files.paths() {
        Ok(paths) => paths,
        Err(error) => return super::invalid(&error),
    };
    let over = files.over();
    let load = move || config::load_with_places(&paths, &over, &super::environment);
    let ready = Ready::new();
    match load() {
        Ok((config, _)) => serve(ready, config, Some(Box::new(load)), None),
        Err(errors) => super::invalid(&errors),
    }
}

/// What must stand before the configuration is read, which may take its time.
pub(super) struct Ready {
    runtime: Runtime,
    /// Wishes for a reload, which would end the process otherwise.
    hangup: Signal,
}

impl Ready {
    pub(super) fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
        Ok(Self { runtime, hangup })
    }
}

/// Runs until told to stop. `load` reads the configuration again. `greeting` is printed once everything listens.
pub(super) fn serve(
    ready: std::io::Result<Ready>,
    config: Config,
    load: Option<Load>,
    greeting: Option<String>,
) -> ExitCode {
    let logging = logging::start(config.log);
    let manager = ServiceManager::find();
    let again = Again { load, log: Some(logging.control.clone()), manager: manager.clone() };
    let json = logging::is_json(config.log);
    let failed = |error: &dyn std::fmt::Display, hint: Option<String>| {
        // Once: as a line of the log where machines read it, else for people.
        match (json, hint) {
            (true, hint) => tracing::error!(%error, hint, "cannot start"),
            (false, Some(hint)) => super::complain(&format!("surgegate: {error}\n  {hint}")),
            (false, None) => super::complain(&format!("surgegate: {error}")),
        }
        ExitCode::from(FAILED)
    };
    let Ready { runtime, hangup } = match ready {
        Ok(ready) => ready,
        Err(error) => return failed(&error, None),
    };
    let code = runtime.block_on(async {
        // Before anything starts: a signal that comes during recovery must end it in order, too.
        let mut signals = match Signals::new(hangup) {
            Ok(signals) => signals,
            Err(error) => return failed(&error, None),
        };
        let started = tokio::select! {
            started = App::start(config, again) => started,
            never = manager.starting() => match never {},
            () = signals.end() => {
                tracing::info!("stopped before it listened");
                return ExitCode::SUCCESS;
            }
        };
        let app = match started {
            Ok(app) => app,
            Err(error) => {
                let code = failed(&error, error.hint());
                // What the configuration names is not what it should be.
                return match error {
                    error if error.is_of_configuration() => ExitCode::from(INVALID_CONFIGURATION),
                    error if error.is_unreached() => ExitCode::from(UNREACHED),
                    _ => code,
                };
            }
        };
        let addresses = app.addresses;
        tracing::info!(ingest = %addresses.ingest, observe = %addresses.observe, admin = %addresses.admin, "listening");
        if let Some(text) = greeting {
            super::print_line(&text);
        }
        manager.ready("accepting events".to_owned());
        tokio::spawn(manager.clone().alive());
        until_told(app, signals, &manager).await;
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
    fn new(hangup: Signal) -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// TERM or INT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// TERM drains and stops; INT on a terminal skips the drain; a second one stops at once.
async fn until_told(app: App, mut signals: Signals, manager: &ServiceManager) {
    let skip_drain = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break false,
            _ = signals.interrupt.recv() => break std::io::stdin().is_terminal(),
            _ = signals.hangup.recv() => app.reload(),
        }
    };
    let drain = if skip_drain { Duration::ZERO } else { app.drain_time() };
    tracing::info!(drain_s = drain.as_secs_f64(), "stopping");
    manager.stopping(drain);
    app.begin_drain();
    let stop = async {
        tokio::time::sleep(drain).await;
        app.stop().await;
    };
    tokio::select! {
        () = stop => tracing::info!("stopped"),
        () = signals.end() => tracing::warn!("stopped at once"),
    }
}
