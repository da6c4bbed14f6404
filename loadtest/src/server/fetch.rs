//! One request at a time, blocking, on a connection of its own: readiness, metrics, an upstream's faults. Not for load.
//! Called by `server.rs`, the scraper and the timeline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Whoever takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A scrape of many series; more is no answer of ours.
const LARGEST_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// An answer's status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// GET.
///
/// # Errors
/// Those of the connection; an answer that is none is `InvalidData`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// POST of JSON.
///
/// # Errors
/// As [`get`].
pub fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<Answer> {
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn exchange(address: SocketAddr, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(LARGEST_ANSWER_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).ok_or_else(invalid)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    // Numbers are looked for line by line: the sizes of chunks between them do no harm, and are taken out.
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Answer { status, body: if chunked { unchunked(body) } else { body.to_owned() } })
}

fn unchunked(body: &str) -> String {
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let bytes = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = behind.get(..bytes).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        whole.push_str(chunk);
        rest = behind.get(bytes + 2..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
