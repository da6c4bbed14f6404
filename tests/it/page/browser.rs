//! Chromium, headless, driven by the W3C WebDriver protocol: JSON over HTTP, of which the tests need a dozen calls. Ended by
//! its own process group.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, wait_for};

pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";

/// One call. The driver writes heads in a form of its own, and leaves the connection open.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut stream = BufReader::new(stream);
    let (mut status, mut length) = (String::new(), 0);
    stream.read_line(&mut status).unwrap();
    for line in stream.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// One window at one page.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Opens the page.
    pub fn at(admin: SocketAddr) -> Self {
        let browser = Self::start();
        browser.go(admin);
        browser
    }

    /// With an empty window.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: run scripts/install-tools.sh");
        let said = BufReader::new(driver.stdout.take().unwrap());
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver's port")));
        let profile = tempfile::TempDir::new().unwrap();
        let mut browser = Self { driver, address, session: String::new(), profile };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-first-run",
            "--window-size=1280,1000",
            &format!("--user-data-dir={}", browser.profile.path().display()),
            "about:blank",
        ]
        .map(str::to_owned);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "pageLoad": 60_000, "script": 60_000 },
        } } });
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}")).to_owned();
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = exchange(self.address, method, path, &body.to_string());
        assert!(status.contains(" 200 "), "{method} {path}: {status} {answer}");
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub fn go(&self, admin: SocketAddr) {
        self.post("/url", &json!({ "url": format!("http://{admin}/") }));
    }

    /// What a script gives.
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of the first element, as it is seen.
    pub fn text(&self, selector: &str) -> String {
        let found = self.script(&format!("return document.querySelector({selector:?})?.innerText ?? ''"));
        found.as_str().unwrap().to_owned()
    }

    /// Waits until the text of an element has these words.
    pub fn wait_for(&self, selector: &str, words: &str) -> String {
        wait_for(&format!("{words:?} in {selector}"), || Some(self.text(selector)).filter(|text| text.contains(words)))
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &str) {
        let strokes = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })));
        let actions: Vec<Value> = strokes.collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }));
    }

    /// Goes on with the tabulator until the element that has the focus is that one.
    pub fn tab_to(&self, selector: &str) {
        for _ in 0..80 {
            if self.has_focus(selector) {
                return;
            }
            self.press(TAB);
        }
        panic!("{selector} cannot be reached by keyboard");
    }

    pub fn has_focus(&self, selector: &str) -> bool {
        self.script(&format!("return document.activeElement?.matches({selector:?}) ?? false")) == true
    }

    /// A command of the browser's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    /// `light` or `dark`, as its user has set it.
    pub fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    pub fn width(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// What it wrote down since the last look: `browser` (the console) or `performance` (its protocol).
    pub fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }

    /// Which accessibility rules are broken, and where.
    pub fn faults(&self) -> Vec<String> {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
        let axe = target.join("tools/axe/axe.min.js");
        let axe = std::fs::read_to_string(&axe).expect("axe: run scripts/install-tools.sh");
        // By the protocol, which the page's own policy does not bind.
        self.command("Runtime.evaluate", &json!({ "expression": axe }));
        let run = "axe.run(document, { resultTypes: ['violations'] }).then((found) => JSON.stringify(found.violations.map((fault) => \
                   fault.id + ': ' + fault.help + ': ' + fault.nodes.map((node) => node.html.slice(0, 120)).join(' | '))))";
        let found = self.command("Runtime.evaluate", &json!({ "expression": run, "awaitPromise": true }));
        let found = found["result"]["value"].as_str().unwrap_or_else(|| panic!("axe did not end: {found}"));
        serde_json::from_str(found).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The window first; then whatever is left of its own group.
        if !self.session.is_empty() && !std::thread::panicking() {
            exchange(self.address, "DELETE", &format!("/session/{}", self.session), "");
        }
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.driver.wait();
    }
}
