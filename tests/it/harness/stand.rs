//! A vendor's stand-in (`surgegate-loadtest upstream --vendor NAME`) as a child process: answers as its contract says and
//! keeps the vendor's state. Ended by its own process id.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::{Answer, Raw, request};

pub struct Stand {
    child: Child,
    address: SocketAddr,
}

/// Beside the binary under test: the workspace's tests build it, a single test by its name does not.
fn loadtest() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_surgegate")).with_file_name("surgegate-loadtest");
        if !path.exists() {
            let release = path.parent().is_some_and(|folder| folder.ends_with("release"));
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--locked", "--quiet", "--package", "surgegate-loadtest", "--bins"]);
            build.args(release.then_some("--release")).current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(build.status().unwrap().success(), "surgegate-loadtest cannot be built");
        }
        path
    })
}

impl Stand {
    /// `arguments`: beside `--vendor`.
    pub fn start(vendor: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(loadtest());
        command.args(["upstream", "--listen", "127.0.0.1:0", "--vendor", vendor]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("upstream listens on ").and_then(|address| address.parse().ok()));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("the stand-in tells where it listens") }
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = Raw::connect(self.address);
        connection.send(request(method, path, &["Content-Type: application/json"], body)).unwrap();
        connection.answer().unwrap()
    }

    /// From now on these faults, in place of all before.
    pub fn faults(&self, faults: &[&str]) {
        let answer = self.ask("POST", "/faults", &serde_json::json!({ "faults": faults }).to_string());
        assert!(answer.status < 300, "{answer:?}");
    }

    /// What the vendor holds.
    pub fn state(&self) -> Value {
        self.ask("GET", "/_stand/incidents", "").json()
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Value> {
        self.ask("GET", "/_stand/requests", "").json()["requests"].as_array().unwrap().clone()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
