//! The servers that a run starts: their configuration made from the scenario, their processes, and what is done to them
//! (kill, stop, reload, one more). Called by [`crate::drive`] and, as things happen, by its timeline.
//!
//! Each server has a directory: `surgegate.json`, its spool, and `surgegate.log` with all it said over all its starts.

pub mod configuration;
pub mod fetch;
pub mod redis;

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::{Process, cpu_time};

/// Until a server that was started is ready, and until one that was told to stop has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub ingest: SocketAddr,
    pub observe: SocketAddr,
}

/// Every server of a run. Shared by the senders (where to), the scraper (whom to look at) and the timeline (what to do).
pub struct Servers {
    binary: PathBuf,
    directory: PathBuf,
    /// Of the first; a further one differs in its spool.
    configuration: Mutex<Value>,
    running: Mutex<Vec<Running>>,
    /// Where each stands, in step with `running`; `None` while it is away. Of its own, because a start holds the other.
    addresses: Mutex<Vec<Option<Addresses>>>,
}

struct Running {
    child: Child,
    directory: PathBuf,
    starts: u64,
    /// Of the processes before this one.
    cpu_before: Duration,
}

/// What the servers' processes use now, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu: Duration,
    pub rss_bytes: u64,
    pub descriptors: u64,
    pub starts: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Servers {
    /// Starts the first server and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or ends, or is not ready in a minute; with the last of what it said.
    pub fn start(binary: PathBuf, directory: PathBuf, configuration: Value) -> anyhow::Result<Self> {
        let servers = Self {
            binary,
            directory,
            configuration: Mutex::new(configuration),
            running: Mutex::new(Vec::new()),
            addresses: Mutex::new(Vec::new()),
        };
        servers.add()?;
        Ok(servers)
    }

    /// Servers that stand somewhere and that nothing can be done to.
    #[must_use]
    pub fn elsewhere(ingest: SocketAddr, observe: Option<SocketAddr>) -> Self {
        Self {
            binary: PathBuf::new(),
            directory: PathBuf::new(),
            configuration: Mutex::new(Value::Null),
            running: Mutex::new(Vec::new()),
            addresses: Mutex::new(vec![Some(Addresses { ingest, observe: observe.unwrap_or(ingest) })]),
        }
    }

    /// How many there are, those that are away among them.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.addresses).len()
    }

    /// Where a server stands now.
    #[must_use]
    pub fn address(&self, replica: usize) -> Option<Addresses> {
        lock(&self.addresses).get(replica).copied().flatten()
    }

    /// One more server, with a spool of its own.
    ///
    /// # Errors
    /// As [`Servers::start`].
    pub fn add(&self) -> anyhow::Result<()> {
        let mut running = lock(&self.running);
        let directory = self.directory.join(format!("server-{}", running.len()));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let configuration = lock(&self.configuration).clone();
        write_configuration(&directory, configuration)?;
        let (child, addresses) = self.launch(&directory)?;
        running.push(Running { child, directory, starts: 1, cpu_before: Duration::ZERO });
        lock(&self.addresses).push(Some(addresses));
        Ok(())
    }

    /// Ends a server, by SIGKILL or in its own order, and starts it again after `down` on the same spool.
    ///
    /// # Errors
    /// There is none of this number, or as [`Servers::start`].
    pub fn end_and_start(&self, replica: usize, kill: bool, down: Duration) -> anyhow::Result<()> {
        let mut all = lock(&self.running);
        let running = all.get_mut(replica).with_context(|| format!("there is no server {replica} of ours"))?;
        running.cpu_before += cpu_time(Process::Pid(running.child.id())).unwrap_or_default();
        // A server that drains still answers; one that is killed does not.
        if kill {
            lock(&self.addresses)[replica] = None;
            running.child.kill().context("cannot kill it")?;
        } else {
            signal(&running.child, Signal::TERM)?;
        }
        wait_for_end(&mut running.child)?;
        lock(&self.addresses)[replica] = None;
        std::thread::sleep(down);
        let directory = running.directory.clone();
        let (child, addresses) = self.launch(&directory)?;
        running.child = child;
        running.starts += 1;
        lock(&self.addresses)[replica] = Some(addresses);
        Ok(())
    }

    /// Adds an integration to a server's file and tells it to read it.
    ///
    /// # Errors
    /// There is none of this number, or its file cannot be written.
    pub fn reload(&self, replica: usize) -> anyhow::Result<()> {
        let all = lock(&self.running);
        let running = all.get(replica).with_context(|| format!("there is no server {replica} of ours"))?;
        let mut configuration = lock(&self.configuration);
        configuration::add_integration(&mut configuration);
        write_configuration(&running.directory, configuration.clone())?;
        signal(&running.child, Signal::HUP)
    }

    /// What the processes use now; `None` where none is ours.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        // A start holds the lock for as long as it takes: then nothing is told.
        let running = self.running.try_lock().ok()?;
        let mut usage = Usage::default();
        for one in running.iter() {
            let pid = one.child.id();
            usage.cpu += one.cpu_before + cpu_time(Process::Pid(pid)).unwrap_or_default();
            usage.rss_bytes += crate::process::resident_bytes(pid).unwrap_or_default();
            usage.descriptors += crate::process::descriptors(pid).unwrap_or_default();
            usage.starts += one.starts;
        }
        (!running.is_empty()).then_some(usage)
    }

    /// The process, once it is ready.
    fn launch(&self, directory: &Path) -> anyhow::Result<(Child, Addresses)> {
        let log_path = directory.join("surgegate.log");
        let open = || OpenOptions::new().create(true).append(true).open(&log_path);
        let log = open().with_context(|| format!("cannot write {}", log_path.display()))?;
        let said_before = log.metadata()?.len();
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(directory.join("surgegate.json"));
        // What stands in the user's environment must not configure it.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SURGEGATE_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let until = Instant::now() + PATIENCE;
        let mut addresses = None;
        loop {
            let said = std::fs::read(&log_path).unwrap_or_default();
            let said = String::from_utf8_lossy(said.get(said_before as usize..).unwrap_or_default()).into_owned();
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}\n{}", self.binary.display(), last_lines(&said));
            }
            addresses = addresses.or_else(|| said.lines().find_map(addresses_in));
            if let Some(addresses) = addresses
                && fetch::get(addresses.observe, "/readyz").is_ok_and(|answer| answer.status == 200)
            {
                return Ok((child, addresses));
            }
            if Instant::now() > until {
                let _ = child.kill();
                bail!("{} is not ready after {PATIENCE:?}\n{}", self.binary.display(), last_lines(&said));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for running in self.running.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Gone already, perhaps.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    kill_process(Pid::from_child(child), signal).with_context(|| format!("cannot signal process {}", child.id()))
}

fn wait_for_end(child: &mut Child) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < until, "it has not ended after {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn write_configuration(directory: &Path, mut configuration: Value) -> anyhow::Result<()> {
    if let Some(spool) = configuration.pointer_mut("/spool/directory") {
        *spool = directory.join("spool").display().to_string().into();
    }
    let path = directory.join("surgegate.json");
    let text = serde_json::to_string_pretty(&configuration)?;
    // Whole or not at all: a server may be reading it.
    let beside = directory.join("surgegate.json.new");
    std::fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// The line that tells where it listens.
fn addresses_in(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str()?.parse().ok();
    Some(Addresses { ingest: address("ingest")?, observe: address("observe")? })
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
