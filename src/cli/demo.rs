//! `surgegate demo`: the proxy and a stub upstream on free ports of loopback, on a spool that goes with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::FAILED;
use crate::{config, demo};

pub(super) const HELP: &str = "\
It listens on 127.0.0.1 alone: 8080, 9464 and 9465, or free ports where those are taken. Its spool is a directory of its
own among the temporary files, removed at the end. Ctrl-C ends it.

Example:
  surgegate demo     then paste the lines it prints into another terminal";

pub(super) fn run() -> ExitCode {
    let spool = std::env::temp_dir().join(format!("surgegate-demo-{}", std::process::id()));
    let code = run_in(&spool).unwrap_or_else(|error| {
        super::complain(&format!("surgegate demo: {error}"));
        ExitCode::from(FAILED)
    });
    // Only the demo's own directory, named after this process.
    let _ = std::fs::remove_dir_all(&spool);
    code
}

fn run_in(spool: &Path) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stub = runtime.block_on(demo::StubUpstream::bind())?;
    let addresses = [8080, 9464, 9465].map(free_port);
    let text = demo::configuration(addresses, stub.address, spool);
    let config = config::load_text("demo", &text, &|_| None)?;
    runtime.spawn(stub.run(super::print_line));
    let [ingest, observe, admin] = addresses;
    Ok(super::run::serve(super::run::Ready::new(), config, None, Some(demo::lines(ingest, observe, admin))))
}

/// The usual port on loopback, or another where it is taken.
fn free_port(usual: u16) -> SocketAddr {
    let on = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let bound = std::net::TcpListener::bind(on(usual)).or_else(|_| std::net::TcpListener::bind(on(0)));
    bound.and_then(|listener| listener.local_addr()).unwrap_or(on(usual))
}
