//! HTTP/1.1 by hand: any bytes out, answers in. A client that never corrects what a test gets wrong on purpose.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// An answer as read from the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn outcome(&self) -> &str {
        self.header("x-surgegate-outcome").unwrap_or_else(|| panic!("no outcome in {self:?}"))
    }

    /// The incident that the answer names.
    pub fn incident(&self) -> String {
        let body = self.json();
        body["incident_id"].as_str().unwrap_or_else(|| panic!("no incident in {body}")).to_owned()
    }
}

/// A whole request with a `Content-Length` and these further header lines (each `Name: value`).
pub fn request(method: &str, path: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for field in fields {
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// One connection: TCP, or what `tls` lays over it.
pub struct Raw<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    /// Closes the way there; answers can still be read.
    pub fn end_of_requests(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl<S: Read + Write> Raw<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends a JSON body and reads its answer.
    pub fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Result<Answer> {
        self.send(request("POST", path, &["Content-Type: application/json"], body))?;
        self.answer()
    }

    /// The next answer, an interim one too.
    pub fn answer(&mut self) -> Result<Answer> {
        self.next_answer()?.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "closed without an answer"))
    }

    /// The next answer, or `None` at an orderly end of the connection.
    pub fn next_answer(&mut self) -> Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                let rest = String::from_utf8_lossy(&self.read).into_owned();
                return if rest.is_empty() { Ok(None) } else { Err(cut(&rest)) };
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|_| Error::new(ErrorKind::InvalidData, "a head that is no text"))?;
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head.clone()))?;
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut answer = Answer { status, headers: headers.collect(), body: Vec::new() };
        if let Some(length) = answer.header("content-length") {
            let length: usize =
                length.parse().map_err(|_| Error::new(ErrorKind::InvalidData, "a length that is none"))?;
            while self.read.len() < length {
                if !self.fill()? {
                    return Err(cut(&head));
                }
            }
            answer.body = self.read.drain(..length).collect();
        }
        Ok(Some(answer))
    }

    fn fill(&mut self) -> Result<bool> {
        let mut block = [0; 16 * 1024];
        let count = self.stream.read(&mut block)?;
        self.read.extend_from_slice(&block[..count]);
        Ok(count > 0)
    }
}

fn cut(head: &str) -> Error {
    Error::new(ErrorKind::UnexpectedEof, format!("an answer cut short: {head}"))
}
