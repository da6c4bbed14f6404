//! The verb `calibrate`: what the generator can do on this machine. Offers ever higher rates to the bare server, which does
//! the least that a server can, until the generator is late or lacks a core. Above what comes out a run's INVALID is to be
//! expected, and figures of a server close to it deserve doubt. Called by `main.rs`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::drive::{self, Options};
use crate::knee::{Range, Try, search};
use crate::progress::Mode;
use crate::scenario;
use crate::threshold::show_us;
use crate::units;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Measured time of a try
    #[arg(long, default_value = "3s", value_parser = units::parse_duration)]
    duration: Duration,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// No rate above this is tried
    #[arg(long, default_value_t = 200_000.0)]
    to: f64,
}

/// The bare server, ended when dropped.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries rates; the text for the terminal.
///
/// # Errors
/// The bare server does not start.
pub fn run(arguments: &Arguments) -> anyhow::Result<String> {
    let bare = start_bare()?;
    let text = format!(
        "name: calibrate\nclient: {{ connections: {} }}\n\
         phases:\n- {{ name: warm-up, warm_up: true, duration: 500ms, arrivals: {{ constant: RATE }} }}\n\
         - {{ name: measured, duration: {}ms, arrivals: {{ poisson: RATE }} }}\n\
         mix: [{{ dialect: squadcast, keys: [0123456789abcdef0123456789abcdef01234567] }}]\n",
        arguments.connections,
        arguments.duration.as_millis(),
    );
    let options = Options {
        target: Some(bare.address.to_string()),
        observe: None,
        upstream: None,
        surgegate: None,
        directory: None,
        progress: Mode::None,
    };
    let mut out = String::new();
    let range = Range { from: 1000.0, to: arguments.to, steps: 5, repeats: 2 };
    let (_, found) = search(range, |number, rate| {
        let scenario = scenario::parse(&text.replace("RATE", &format!("{rate}")))
            .map_err(|wrongs| anyhow::anyhow!("{wrongs:?}"))?;
        let results = drive::drive(&scenario, &options)?.results;
        let total = &results.total;
        // The bare server is never the one to blame: what it does not answer in time the generator did not ask in time.
        let held = results.generator.valid
            && total.accepted as f64 >= 0.98 * total.planned as f64
            && total.held_up as f64 <= 0.01 * total.started as f64;
        let generator = &results.generator;
        let share =
            |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let why = if held { "held" } else { "too much" };
        // Into a string: it cannot fail.
        let _ = writeln!(
            out,
            "{rate:>9.0}/s  lateness p99 {:>8}  latency p99 {:>8}  ran {}  waited for a core {}  {why}",
            show_us(generator.lateness.p99_us as f64),
            show_us(total.latency.p99_us as f64),
            share(generator.running),
            share(generator.waiting),
        );
        Ok(Try {
            number,
            rate,
            held,
            invalid: !generator.valid,
            value: None,
            shown: String::new(),
            accepted_per_second: 0.0,
            why: why.to_owned(),
        })
    })?;
    match found.held {
        Some(rate) => {
            let _ = writeln!(
                out,
                "this machine's generator can offer {rate:.0} requests a second beside a server as cheap as a bare one"
            );
        }
        None => out.push_str("this machine has no core for a generator now\n"),
    }
    Ok(out)
}

fn start_bare() -> anyhow::Result<Bare> {
    let own = std::env::current_exe().context("cannot find the load tester itself")?;
    let mut child = Command::new(own)
        .args(["bare", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the bare server")?;
    let stderr = child.stderr.take().context("no standard error")?;
    let mut line = String::new();
    BufReader::new(stderr).read_line(&mut line)?;
    match line.trim().rsplit(' ').next().and_then(|word| word.parse().ok()) {
        Some(address) => Ok(Bare { child, address }),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the bare server said `{}`", line.trim())
        }
    }
}
