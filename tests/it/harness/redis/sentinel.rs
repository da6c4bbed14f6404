//! A master, two replicas and three Sentinels that fail over within a second or two.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Redis, ask, free_port};
use crate::harness::wait_until;

/// What the Sentinels call the master.
pub const MASTER: &str = "main";
/// A user of Sentinels that have a password, whose own is `PASSWORD-of-asker`.
pub const ASKER: &str = "asker";

pub struct Sentinels {
    /// The first is the first master.
    pub servers: Vec<Redis>,
    watchers: Vec<Watcher>,
    /// As it stands in a URL.
    login: String,
}

struct Watcher {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Sentinels {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Those who ask the Sentinels log in with it; empty: anybody may.
    pub fn start_with(password: &str) -> Self {
        let master = Redis::start();
        let of = master.port().to_string();
        let mut servers = vec![master];
        for _ in 0..2 {
            servers.push(Redis::start_with(&["--replicaof", "127.0.0.1", &of]));
        }
        wait_until("two replicas that follow", || {
            servers[1..].iter().all(|server| info(server).contains("master_link_status:up"))
        });
        let started = Self {
            watchers: (0..3).map(|_| watch(servers[0].port(), password)).collect(),
            login: login_of(password),
            servers,
        };
        for watcher in &started.watchers {
            wait_until("Sentinels that know each other", || {
                let url = started.watcher(watcher);
                let told = ask(&url, &["SENTINEL", "MASTER", MASTER]);
                let told: Vec<String> =
                    told.ok().and_then(|told| redis::from_redis_value(told).ok()).unwrap_or_default();
                let is = |name: &str, count: &str| told.chunks(2).any(|pair| pair[0] == name && pair[1] == count);
                is("num-other-sentinels", "2") && is("num-slaves", "2")
            });
        }
        started
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.watchers.iter().map(|watcher| format!("127.0.0.1:{}", watcher.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    fn watcher(&self, watcher: &Watcher) -> String {
        format!("redis://{}127.0.0.1:{}", self.login, watcher.port)
    }

    /// The server that the first Sentinel takes for the master.
    pub fn master(&self) -> &Redis {
        let url = self.watcher(&self.watchers[0]);
        let address = ask(&url, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).unwrap();
        let address: Vec<String> = redis::from_redis_value(address).unwrap();
        self.servers.iter().find(|server| server.port().to_string() == address[1]).unwrap()
    }

    /// Has the Sentinels choose another master, and waits until they have.
    pub fn fail_over(&self) {
        let before = self.master().port();
        let url = self.watcher(&self.watchers[0]);
        wait_until("a failover that begins", || ask(&url, &["SENTINEL", "FAILOVER", MASTER]).is_ok());
        wait_until("another master", || self.master().port() != before);
    }
}

fn info(server: &Redis) -> String {
    redis::from_redis_value(server.ask(&["INFO", "replication"])).unwrap()
}

fn login_of(password: &str) -> String {
    if password.is_empty() { String::new() } else { format!(":{password}@") }
}

fn watch(master: u16, password: &str) -> Watcher {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nlogfile {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 4000\n",
        folder.path().display(),
        folder.path().join("log").display(),
    );
    let text = if password.is_empty() {
        text
    } else {
        let asker = format!("user {ASKER} on >{password}-of-{ASKER} allchannels +@all");
        format!("{text}requirepass {password}\nsentinel sentinel-pass {password}\n{asker}\n")
    };
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("redis-sentinel");
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("redis-sentinel: run scripts/install-tools.sh");
    Watcher { port, child, _folder: folder }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Gone already when something else has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
