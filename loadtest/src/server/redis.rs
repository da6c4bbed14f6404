//! A redis-server of a run's own: nothing kept on disk, a port on loopback. Called by [`crate::drive`] and its timeline.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::scenario::RedisAct;

const PATIENCE: Duration = Duration::from_secs(20);

/// Ended when dropped.
pub struct Redis {
    directory: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl Redis {
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// `redis-server` is not there, or does not come up.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        // A port that was free a moment ago: it must be the same after a kill.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = launch(directory, address)?;
        Ok(Self { directory: directory.to_owned(), address, child })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Does what the scenario says.
    ///
    /// # Errors
    /// The process is gone, or does not come up again.
    pub fn act(&mut self, act: RedisAct) -> anyhow::Result<()> {
        let signal = |child: &Child, signal| {
            kill_process(Pid::from_child(child), signal)
                .with_context(|| format!("cannot signal process {}", child.id()))
        };
        match act {
            RedisAct::Kill => {
                self.child.kill().context("cannot kill redis-server")?;
                self.child.wait()?;
            }
            RedisAct::Start => {
                if self.child.try_wait()?.is_some() {
                    self.child = launch(&self.directory, self.address)?;
                }
            }
            RedisAct::Pause => signal(&self.child, Signal::STOP)?,
            RedisAct::Resume => signal(&self.child, Signal::CONT)?,
        }
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(directory: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start redis-server (Debian: apt-get install redis-server)")?;
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("redis-server ended with {status}");
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            bail!("redis-server does not listen after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}
