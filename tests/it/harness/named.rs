//! A server of somebody else's name on this machine: port 443 of an address of its own, a certificate of the test's authority,
//! and a process whose `/etc/hosts` and `SSL_CERT_FILE` lead to it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};

use super::tls::Authority;

pub struct Named {
    address: String,
    hosts: Vec<String>,
    /// The first line of each request, and the host that it was sent to.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Named {
    /// `answer`: status and body, for the first line of a request.
    pub fn start(
        authority: &Authority,
        hosts: &[&str],
        answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + 'static,
    ) -> Self {
        authority.certify_hosts("named", hosts);
        // The port is everybody's.
        let (address, listener) = std::iter::repeat_with(|| {
            format!("127.{}.{}.{}", fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255))
        })
        .find_map(|address| Some((address.clone(), TcpListener::bind((address, 443)).ok()?)))
        .unwrap();
        let (config, asked) = (authority.server("named"), Arc::<Mutex<Vec<(String, String)>>>::default());
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(session, stream.unwrap());
                let (line, host) = request(&mut stream);
                let (status, body) = answer(&line);
                heard.lock().unwrap().push((line, host));
                let head =
                    format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // Whoever has gone is told nothing.
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body))
                    .and_then(|()| stream.flush());
            }
        });
        Self { address, hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), asked }
    }

    /// First lines of requests, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }

    /// The same with their hosts.
    pub fn asked_of(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }

    /// What a process is started under so that it finds this server; `more`: further lines of its `/etc/hosts`.
    pub fn under(&self, authority: &Authority, more: &str) -> Vec<String> {
        let mut lines = format!("127.0.0.1 localhost\n{more}");
        for host in &self.hosts {
            let _ = writeln!(lines, "{} {host}", self.address);
        }
        let hosts = authority.path("hosts");
        std::fs::write(&hosts, lines).unwrap();
        let mount = format!("mount --bind '{}' /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
        let trust = format!("SSL_CERT_FILE={}", authority.path("ca.crt").display());
        ["env", &trust, "unshare", "--mount", "sh", "-c", &mount].map(str::to_owned).to_vec()
    }
}

/// The first line and the host of a request, read to its end.
fn request(stream: &mut impl Read) -> (String, String) {
    let (mut bytes, mut block) = (Vec::new(), [0; 1024]);
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(end) = head {
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let field = |name: &str| {
                let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
                line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
            };
            let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return (text.lines().next().unwrap_or_default().to_owned(), field("host:").unwrap_or_default());
            }
        }
        match stream.read(&mut block) {
            Ok(count @ 1..) => bytes.extend_from_slice(&block[..count]),
            _ => return (String::new(), String::new()),
        }
    }
}
