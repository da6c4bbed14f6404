//! Starts a stand-in and speaks HTTP with it, a connection for each request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A running stand-in; it ends with the value.
pub(crate) struct Stand {
    child: Child,
    address: String,
    /// Headers of every request.
    headers: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Stand {
    pub(crate) fn start(vendor: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_surgegate-loadtest"))
            .args(["upstream", "--listen", "127.0.0.1:0", "--vendor", vendor])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("upstream listens on ").expect(&line).to_owned();
        Self { child, address, headers: "Content-Type: application/json\r\n".to_owned() }
    }

    /// With `Authorization` in every request.
    pub(crate) fn authorized(mut self, credential: &str) -> Self {
        self.headers += &format!("Authorization: {credential}\r\n");
        self
    }

    /// Err when no whole answer came.
    pub(crate) fn try_send(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<Answer, String> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|error| error.kind().to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).map_err(|error| format!("{body}: {error}"))?;
        Ok(Answer { status, head: head.to_owned(), body })
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, &self.headers, body).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    /// Another credential than the usual one, `headers` with their line ends.
    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &Value) -> Answer {
        self.try_send("POST", path, headers, &body.to_string()).unwrap()
    }

    pub(crate) fn faults(&self, specs: &[&str]) {
        let answer = self.post("/faults", &serde_json::json!({ "faults": specs }));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) fn overview(&self) -> Value {
        self.get("/_stand/incidents").body
    }

    /// The incidents, each as (key, state, count, actions with their effects).
    pub(crate) fn incidents(&self) -> Vec<(String, String, u64, Vec<String>)> {
        let overview = self.overview();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |incident: &Value| {
            let history = incident["history"].as_array().unwrap();
            let actions = history.iter().map(|one| format!("{}:{}", text(&one["action"]), text(&one["effect"])));
            let count = incident["count"].as_u64().unwrap();
            (text(&incident["key"]), text(&incident["state"]), count, actions.collect())
        };
        overview["incidents"].as_array().unwrap().iter().map(told).collect()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
