//! The binary: arguments, configuration, log, run, exit code.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command line speaks on its streams.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use surgegate::app::App;
use surgegate::config::{self, Config, LogFormat};
use surgegate::{demo, spool};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes of INTERFACE 2.
const FAILED: u8 = 1;
const INVALID_CONFIGURATION: u8 = 78;

/// High-throughput edge ingestion proxy for incident APIs.
///
/// Without a verb it runs: it reads ./surgegate.yaml or /etc/surgegate/surgegate.yaml. Try `surgegate demo` first.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Files,
}

#[derive(clap::Args)]
struct Files {
    /// Configuration file; may be given again, each laid over those before it.
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the proxy (the default).
    Run(Files),
    /// Run the proxy with a stub upstream and no configuration, and print lines to paste.
    Demo,
    /// Check a configuration and say everything that is wrong with it.
    Validate(Files),
    /// Look at a spool, mend it, empty it: check | ls | repair | send | reassign | drop.
    Spool(spool::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Thousands of slow connections hold a few kilobytes each: in huge pages each would cost twice that. Best effort.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match arguments.verb.unwrap_or(Verb::Run(arguments.run)) {
        Verb::Run(files) => load(files).map_or_else(std::convert::identity, |config| run(config, None)),
        Verb::Validate(files) => load(files).map_or_else(std::convert::identity, |config| {
            config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            println!("the configuration is valid");
            ExitCode::SUCCESS
        }),
        Verb::Demo => run_demo(),
        Verb::Spool(arguments) => spool::run(arguments, &|config| load(Files { config })),
    }
}

fn load(files: Files) -> Result<Config, ExitCode> {
    let invalid = |error: &dyn std::fmt::Display| {
        eprintln!("{error}");
        ExitCode::from(INVALID_CONFIGURATION)
    };
    let paths =
        if files.config.is_empty() { vec![config::find().map_err(|error| invalid(&error))?] } else { files.config };
    config::load(&paths, &|name| std::env::var(name).ok()).map_err(|errors| invalid(&errors))
}

/// Runs until told to stop. `greeting` is printed once everything listens.
fn run(config: Config, greeting: Option<String>) -> ExitCode {
    let _flush = start_log(config.log);
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
            Err(error) => return failed(&error),
        };
        tracing::info!(ingest = %app.addresses.ingest, observe = %app.addresses.observe, admin = %app.addresses.admin, "listening");
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

fn run_demo() -> ExitCode {
    let spool = std::env::temp_dir().join(format!("surgegate-demo-{}", std::process::id()));
    let code = demo_in(&spool).unwrap_or_else(|error| {
        eprintln!("surgegate demo: {error}");
        ExitCode::from(FAILED)
    });
    // Only the demo's own directory, named after this process.
    let _ = std::fs::remove_dir_all(&spool);
    code
}

fn demo_in(spool: &std::path::Path) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stub = runtime.block_on(demo::StubUpstream::bind())?;
    let addresses = [8080, 9464, 9465].map(free_port);
    let text = demo::configuration(addresses, stub.address, spool);
    let config = config::load_text("demo", &text, &|_| None)?;
    runtime.spawn(stub.run(|line| println!("{line}")));
    let [ingest, observe, admin] = addresses;
    Ok(run(config, Some(demo::lines(ingest, observe, admin))))
}

/// The usual port on loopback, or another where it is taken.
fn free_port(usual: u16) -> SocketAddr {
    let on = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let bound = std::net::TcpListener::bind(on(usual)).or_else(|_| std::net::TcpListener::bind(on(0)));
    bound.and_then(|listener| listener.local_addr()).unwrap_or(on(usual))
}

/// Lines to standard error by a thread of their own: no request waits for the log.
fn start_log(log: config::Log) -> tracing_appender::non_blocking::WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_writer(writer).with_max_level(log.level);
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    guard
}
