//! What a service manager hears through `NOTIFY_SOCKET`: ready when it is, and never before; each reading of the
//! configuration; its end; signs of life.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::crash::configuration;
use crate::faults::{Fault, Upstream};
use crate::harness::{PATH, PATIENCE, Recorder, Settings, Surgegate, binary, signal, standard, trigger, wait_until};
use crate::strace::under;

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// Settings of a process that speaks to it, with these other variables.
    fn settings(&self, others: &[&str]) -> Settings {
        let mut words = vec!["env".to_owned(), format!("NOTIFY_SOCKET={}", self.path().display())];
        words.extend(others.iter().map(|&other| other.to_owned()));
        Settings { under: words, ..Settings::default() }
    }

    /// The next message, if one comes within this time.
    fn hears_within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 8192];
        self.socket.recv(&mut bytes).ok().map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// The next message that says this; those before it.
    fn hears(&self, what: &str) -> (String, Vec<String>) {
        let (until, mut before) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.hears_within(left) {
                Some(message) if message.contains(what) => return (message, before),
                Some(message) => before.push(message),
                None => panic!("{what} is not said, but {before:?}"),
            }
        }
    }
}

fn spare(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn the_service_manager_hears_of_a_whole_life() {
    let (manager, recorder) = (Manager::new(), Recorder::start());
    let mut surgegate = Surgegate::start_with(manager.settings(&[]), &[&standard(&recorder)]);
    let (ready, before) = manager.hears("READY=1\n");
    assert!(ready.contains("STATUS=accepting events\n"), "{ready}");
    assert!(before.iter().all(|message| message.starts_with("EXTEND_TIMEOUT_USEC=")), "{before:?}");

    signal("HUP", surgegate.pid());
    let (reloading, before) = manager.hears("RELOADING=1\n");
    assert!(reloading.contains("MONOTONIC_USEC=") && before.is_empty(), "{reloading} after {before:?}");
    let (ready, _) = manager.hears("READY=1\n");
    assert_eq!(ready, "READY=1\nSTATUS=accepting events\n");

    // A file that is wrong, noticed by itself: it goes on, and says why.
    let file = surgegate.files().last().unwrap().clone();
    spare(&file, "integrations: 7\n");
    manager.hears("RELOADING=1\n");
    let (ready, _) = manager.hears("READY=1\n");
    assert!(ready.contains("STATUS=accepting events; the changed configuration was not taken: "), "{ready}");
    assert_eq!(ready.lines().count(), 2, "{ready}");
    assert_eq!(surgegate.post(PATH, trigger("still")).status, 202);

    assert!(surgegate.stop().success());
    let (stopping, _) = manager.hears("STOPPING=1\n");
    assert!(
        stopping.contains("EXTEND_TIMEOUT_USEC=60000000\n"),
        "no drain, and time for what is under way: {stopping}"
    );
}

/// A recovery on a disk that takes 8 s for each sync: it is not ready, whoever asks, and asks for more time instead.
#[test]
fn ready_is_said_when_it_is_and_never_before() {
    let (manager, upstream) = (Manager::new(), Upstream::scripted(|_| Fault::Hang));
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 4")]);
    for number in 0..20 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("key-{number}"))).status, 202);
    }
    surgegate.kill();
    let slow = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=8s"].map(str::to_owned);
    let words = under(&surgegate.spool().with_extension("notes"), &slow);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_surgegate")).env("NOTIFY_SOCKET", manager.path());
    for file in surgegate.files() {
        command.arg("--config").arg(file);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..2 {
        let message = manager.hears_within(PATIENCE).expect("it asks for more time");
        assert_eq!(message, "EXTEND_TIMEOUT_USEC=30000000\n");
    }
    child.kill().unwrap();
    child.wait().unwrap();

    // And with its disk as quick as ever, at the very moment of the word.
    let words = manager.settings(&[]).under;
    surgegate.try_start_under(&words).unwrap();
    manager.hears("READY=1\n");
    assert_eq!(surgegate.observe("/readyz").unwrap().status, 200);
    assert_eq!(surgegate.post(PATH, trigger("two")).status, 202);
}

#[test]
fn a_start_that_fails_never_says_ready() {
    let manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = TempDir::new().unwrap();
    let text = format!(
        "listen: {{ ingest: {{ address: '{}' }}, observe: {{ address: '127.0.0.1:0' }}, admin: {{ address: '127.0.0.1:0' }} }}\n{}",
        taken.local_addr().unwrap(),
        standard(&Recorder::start())
    );
    std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
    let child = binary(directory.path(), &["run"]).env("NOTIFY_SOCKET", manager.path()).output().unwrap();
    assert_eq!(child.status.code(), Some(1));
    while let Some(message) = manager.hears_within(Duration::from_millis(50)) {
        assert!(!message.contains("READY=1"), "{message}");
    }
}

#[test]
fn it_says_that_it_lives_as_often_as_the_manager_wants_to_hear_it() {
    let (manager, recorder) = (Manager::new(), Recorder::start());
    let surgegate = Surgegate::start_with(manager.settings(&["WATCHDOG_USEC=200000"]), &[&standard(&recorder)]);
    manager.hears("READY=1\n");
    for _ in 0..3 {
        assert_eq!(manager.hears("WATCHDOG=1\n").0, "WATCHDOG=1\n");
    }
    // Hung, it says nothing: what was under way comes first.
    signal("STOP", surgegate.pid());
    wait_until("silence", || manager.hears_within(Duration::from_secs(1)).is_none());
    signal("CONT", surgegate.pid());
    manager.hears("WATCHDOG=1\n");
}

/// A manager that reads nothing: probes and reloads go on.
#[test]
fn a_manager_that_reads_nothing_holds_up_nothing() {
    let (manager, recorder) = (Manager::new(), Recorder::start());
    let settings = manager.settings(&["WATCHDOG_USEC=2000"]);
    let mut surgegate = Surgegate::start_with(settings, &[&standard(&recorder)]);
    // Far more signs of life than its socket holds.
    std::thread::sleep(Duration::from_secs(2));
    let said = surgegate.said().matches("was read again and is in force").count();
    signal("HUP", surgegate.pid());
    wait_until("a reload", || surgegate.said().matches("was read again and is in force").count() > said);
    assert_eq!(surgegate.observe("/livez").unwrap().status, 200);
    assert_eq!(surgegate.post(PATH, trigger("one")).status, 202);
    assert!(surgegate.stop().success());
}
