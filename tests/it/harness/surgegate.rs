//! The real binary as a child process, on free ports and a spool of its own. Ended by its own process id.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Raw, Scrape, wait_for, wait_until};

/// How the process is started.
#[derive(Clone, Default)]
pub struct Settings {
    /// Limit of open files.
    pub descriptors: Option<u32>,
    /// Command and arguments that run it; they must end in `exec`, so that its process is the binary's.
    pub under: Vec<String>,
    /// Files of configuration that the test keeps itself, laid over the pieces.
    pub over: Vec<PathBuf>,
}

/// Where the listeners of a running process stand.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    ingest: SocketAddr,
    observe: SocketAddr,
    admin: SocketAddr,
}

/// A process and its directory. Dropped: killed, and its directory removed.
pub struct Surgegate {
    directory: TempDir,
    files: Vec<PathBuf>,
    settings: Settings,
    child: Child,
    addresses: Addresses,
    /// What it said so far, on both streams, over all its starts.
    said: Arc<Mutex<Vec<u8>>>,
}

const BASE: &str = "listen:
  ingest: { address: '127.0.0.1:0' }
  observe: { address: '127.0.0.1:0' }
  admin: { address: '127.0.0.1:0' }
shutdown: { drain: 0s }
log: { format: json, level: info }
";

impl Surgegate {
    /// Starts with these pieces of configuration, each laid over those before it, and waits until it is ready.
    pub fn start(pieces: &[&str]) -> Self {
        Self::start_with(Settings::default(), pieces)
    }

    pub fn start_with(settings: Settings, pieces: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let spool = format!("spool: {{ directory: '{}' }}\n", directory.path().join("spool").display());
        let files: Vec<PathBuf> = [BASE, &spool]
            .iter()
            .chain(pieces)
            .enumerate()
            .map(|(index, piece)| {
                let path = directory.path().join(format!("{index}.yaml"));
                std::fs::write(&path, piece).unwrap();
                path
            })
            .chain(settings.over.iter().cloned())
            .collect();
        let said = Arc::default();
        let (child, addresses) = launch(&files, &settings, &said).unwrap_or_else(|ended| panic!("it ended: {ended}"));
        let started = Self { directory, files, settings, child, addresses, said };
        started.wait_until_ready();
        started
    }

    /// TERM, and its end.
    pub fn stop(&mut self) -> ExitStatus {
        let told = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(told.success(), "cannot signal {}", self.pid());
        wait_for("its end after TERM", || self.child.try_wait().unwrap())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same spool, with the same configuration.
    pub fn start_again(&mut self) {
        self.start_anyway();
        self.wait_until_ready();
    }

    /// As [`Surgegate::start_again`], without waiting for readiness: it may have no room.
    pub fn start_anyway(&mut self) {
        self.try_start_under(&[]).unwrap_or_else(|ended| panic!("it ended: {ended}"));
    }

    /// Starts again, this time by this command; how it ended when it did before it listened.
    pub fn try_start_under(&mut self, under: &[String]) -> Result<(), ExitStatus> {
        assert!(self.child.try_wait().unwrap().is_some(), "still running");
        let mut settings = self.settings.clone();
        settings.under.extend_from_slice(under);
        (self.child, self.addresses) = launch(&self.files, &settings, &self.said)?;
        Ok(())
    }

    pub fn wait_until_ready(&self) {
        wait_until("readiness", || self.observe("/readyz").is_ok_and(|answer| answer.status == 200));
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn observe_address(&self) -> SocketAddr {
        self.addresses.observe
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Its configuration, each file laid over those before it.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ingest(&self) -> SocketAddr {
        self.addresses.ingest
    }

    pub fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    /// A connection to the ingest listener.
    pub fn connect(&self) -> Raw {
        Raw::connect(self.ingest())
    }

    /// Posts JSON on a connection of its own.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.connect().post(path, body).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    pub fn observe(&self, path: &str) -> std::io::Result<Answer> {
        get(self.addresses.observe, path)
    }

    pub fn admin(&self, path: &str) -> Answer {
        get(self.addresses.admin, path).unwrap_or_else(|error| panic!("no answer from admin: {error}"))
    }

    pub fn scrape(&self) -> Scrape {
        let answer = self.observe("/metrics").unwrap_or_else(|error| panic!("no metrics: {error}"));
        assert_eq!(answer.status, 200);
        Scrape::parse(&answer.text())
    }

    /// Waits until nothing is queued, then looks at the books.
    pub fn wait_until_delivered(&self) -> Scrape {
        let scrape =
            wait_for("an empty queue", || Some(self.scrape()).filter(|scrape| scrape.count("spool_events", &[]) == 0));
        scrape.assert_books_balance();
        scrape
    }

    /// All it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Whether these words stand in what it said, now or soon: the log is written behind it.
    pub fn is_said(&self, words: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(5);
        while !self.said().contains(words) {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Resident memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Time on a processor so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name in brackets: user and system time are the 12th and 13th, in hundredths.
        let fields = stat.rsplit_once(") ").unwrap().1;
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        ticks as f64 / 100.0
    }
}

impl Drop for Surgegate {
    fn drop(&mut self) {
        // Gone already when the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!(
                "--- the last of what surgegate said\n{}\n---",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut connection = Raw::try_connect(address)?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))?;
    connection.answer()
}

/// The process, once it listens, or how it ended before.
fn launch(
    files: &[PathBuf],
    settings: &Settings,
    said: &Arc<Mutex<Vec<u8>>>,
) -> Result<(Child, Addresses), ExitStatus> {
    let mut words = settings.under.clone();
    if let Some(limit) = settings.descriptors {
        words.extend(["sh".to_owned(), "-c".to_owned(), format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
    }
    words.push(env!("CARGO_BIN_EXE_surgegate").to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    for file in files {
        command.arg("--config").arg(file);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What stands in the environment of whoever runs the tests must not configure the product.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SURGEGATE_")) {
        command.env_remove(name);
    }
    let from = said.lock().unwrap_or_else(PoisonError::into_inner).len();
    let mut child = command.spawn().unwrap();
    for stream in [child.stdout.take().map(keep), child.stderr.take().map(keep)] {
        let said = Arc::clone(said);
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut block = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&block[..count]);
            }
        });
    }
    let addresses = wait_for("the addresses it listens on", || {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said[from..]);
        child.try_wait().unwrap().map(Err).or_else(|| text.lines().find_map(addresses_in).map(Ok))
    });
    addresses.map(|addresses| (child, addresses))
}

fn keep(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

/// The line that tells where it listens.
fn addresses_in(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str()?.parse().ok();
    Some(Addresses { ingest: address("ingest")?, observe: address("observe")?, admin: address("admin")? })
}
