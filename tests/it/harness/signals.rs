//! Signals to processes of our own, and looks at a process that may be away.

use std::net::SocketAddr;

use super::{Answer, Raw, Scrape};

/// Sends a signal by its name to one process by its id.
pub fn signal(name: &str, pid: u32) {
    let told = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(told.success(), "cannot send {name} to {pid}");
}

/// A request without a body on a connection of its own.
pub fn ask(address: SocketAddr, method: &str, path: &str, fields: &[&str]) -> std::io::Result<Answer> {
    say(address, method, path, fields, "")
}

/// A request on a connection of its own.
pub fn say(address: SocketAddr, method: &str, path: &str, fields: &[&str], body: &str) -> std::io::Result<Answer> {
    let mut connection = Raw::try_connect(address)?;
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let host =
        if fields.to_ascii_lowercase().contains("host:") { String::new() } else { format!("Host: {address}\r\n") };
    let length = body.len();
    connection.send(format!(
        "{method} {path} HTTP/1.1\r\n{host}{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))?;
    connection.answer()
}

/// A scrape of a process that may just be gone.
pub fn try_scrape(observe: SocketAddr) -> Option<Scrape> {
    let answer = ask(observe, "GET", "/metrics", &[]).ok()?;
    (answer.status == 200).then(|| Scrape::parse(&answer.text()))
}
