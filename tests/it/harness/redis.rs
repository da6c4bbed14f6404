//! Real redis-server processes on free loopback ports, each with a directory of its own: alone, with replicas and
//! Sentinels, or as a Cluster. Ended by their own process ids. `relay` stands between one and the product.

mod cluster;
mod relay;
mod sentinel;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub use cluster::Cluster;
pub use redis::Value;
pub use relay::Relay;
pub use sentinel::Sentinels;
use tempfile::TempDir;

use super::tls::Authority;
use super::{signal, wait_until};

/// One server. Dropped: killed, and its directory removed.
pub struct Redis {
    folder: TempDir,
    port: u16,
    tls_port: u16,
    arguments: Vec<String>,
    child: Child,
    /// What lets tests in where not everybody is.
    login: String,
}

/// A port that nobody listens on, for a server that cannot choose one itself.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    /// In memory, and without what it would write to its directory.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further words of its command line: `["--maxmemory", "1mb"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        // Another process may have taken the port meanwhile.
        for _ in 0..10 {
            if let Some(started) = Self::try_start(free_port(), arguments) {
                return started;
            }
        }
        panic!("redis-server does not start: run scripts/install-tools.sh");
    }

    /// With TLS alone; the certificate is for `localhost`.
    pub fn start_tls(authority: &Authority) -> Self {
        let file = |name: &str| authority.path(name).display().to_string();
        let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
        for _ in 0..10 {
            let port = free_port();
            let words = [
                "--tls-port",
                &port.to_string(),
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
                "--tls-ca-cert-file",
                &ca,
                "--tls-auth-clients",
                "no",
            ];
            // The plain port is another one, by which tests look into it.
            if let Some(mut started) = Self::try_start(free_port(), &words) {
                started.tls_port = port;
                return started;
            }
        }
        panic!("redis-server does not start with TLS");
    }

    /// The port of [`Redis::start_tls`].
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = launch(folder.path(), port, &arguments);
        let mut started = Self { folder, port, tls_port: 0, arguments, child, login: String::new() };
        let mut ended = false;
        wait_until("a redis-server", || {
            ended = started.child.try_wait().unwrap().is_some();
            ended || started.try_ask(&["PING"]).is_ok()
        });
        (!ended).then_some(started)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// For [`Redis::ask`], where the default user may no longer: `user:password@`.
    pub fn log_in_as(&mut self, login: &str) {
        self.login = login.to_owned();
    }

    /// A command on a connection of its own.
    ///
    /// # Errors
    /// The server's, and those of the way to it.
    pub fn try_ask(&self, words: &[&str]) -> redis::RedisResult<Value> {
        ask(&format!("redis://{}127.0.0.1:{}", self.login, self.port), words)
    }

    pub fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// How many keys begin so.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        redis::from_redis_value(self.ask(&["KEYS", &format!("{prefix}*")])).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same port, with what its directory holds.
    pub fn start_again(&mut self) {
        self.start_again_with(&[]);
        wait_until("the redis-server's return", || self.try_ask(&["PING"]).is_ok());
    }

    /// As [`Redis::start_again`], with further words, and without waiting for it.
    pub fn start_again_with(&mut self, further: &[&str]) {
        assert!(self.child.try_wait().unwrap().is_some(), "still running");
        let words: Vec<String> =
            self.arguments.iter().cloned().chain(further.iter().map(ToString::to_string)).collect();
        self.child = launch(self.folder.path(), self.port, &words);
    }

    /// SIGSTOP: it takes connections and answers nothing.
    pub fn freeze(&self) {
        signal("STOP", self.pid());
    }

    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }

    /// No command is run for so long.
    pub fn pause_ms(&self, millis: u32) {
        self.ask(&["CLIENT", "PAUSE", &millis.to_string(), "ALL"]);
    }

    /// Every write is refused with OOM, or no longer.
    pub fn fill(&self, full: bool) {
        self.ask(&["CONFIG", "SET", "maxmemory", if full { "1" } else { "0" }]);
    }

    /// Every write is refused with READONLY, or no longer: a replica of a master that is nowhere.
    pub fn read_only(&self, on: bool) {
        let words = if on { ["REPLICAOF", "127.0.0.1", "1"] } else { ["REPLICAOF", "NO", "ONE"] };
        self.ask(&words);
    }

    /// Killed and started with data that takes it at least so long to load; until then it answers LOADING.
    pub fn restart_loading_ms(&mut self, millis: u32) {
        // It looks at its connections between two blocks of what it reads.
        self.ask(&["CONFIG", "SET", "rdbcompression", "no"]);
        for key in 0..100 {
            self.ask(&["SET", &format!("ballast:{key}"), &"x".repeat(4096)]);
        }
        let keys: u32 = redis::from_redis_value(self.ask(&["DBSIZE"])).unwrap();
        self.ask(&["SAVE"]);
        self.kill();
        // It waits so long for each key, those of the product too.
        let delay = (millis * 1000 / keys).to_string();
        self.start_again_with(&["--key-load-delay", &delay, "--loading-process-events-interval-bytes", "1024"]);
    }

    /// Each key that begins so gets a value of another type.
    pub fn spoil(&self, prefix: &str) {
        for key in self.keys(prefix) {
            // At once: the product may write it anew in between.
            let spoil = "redis.call('DEL', KEYS[1]) return redis.call('GEOADD', KEYS[1], 13.4, 52.5, 'spoiled')";
            self.ask(&["EVAL", spoil, "1", &key]);
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Gone already when the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- the last of redis-server's log\n{}\n---", lines[lines.len().saturating_sub(8)..].join("\n"));
        }
    }
}

fn launch(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder).arg("--logfile").arg(folder.join("log")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server: run scripts/install-tools.sh")
}

/// A command on a connection of its own, which waits 2 s at most.
fn ask(url: &str, words: &[&str]) -> redis::RedisResult<Value> {
    let client = redis::Client::open(url)?;
    let most = std::time::Duration::from_secs(2);
    let mut connection = client.get_connection_with_timeout(most)?;
    connection.set_read_timeout(Some(most))?;
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query(&mut connection)
}
