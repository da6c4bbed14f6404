//! One keep-alive HTTP/1.1 connection of the client: send a request that is ready as bytes, read
//! its answer to the end. No pipelining. A call costs one write and one read of the kernel.
//! Called by [`crate::run`] and [`crate::saturate`].

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::response::{self, Head, Malformed};
use crate::stream::Stream;

/// Room for an usual answer; it grows up to the parser's bounds.
const BUFFER_BYTES: usize = 4 * 1024;

/// Why an exchange failed. The connection must be dropped.
#[derive(Debug)]
pub enum Failure {
    Io(io::Error),
    /// The server closed before the end of its answer.
    Closed,
    Malformed(Malformed),
    /// Bytes behind the answer, which nobody asked for.
    Surplus,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // The kind alone: texts of the system carry numbers that would make each one unique.
            Self::Io(error) => write!(f, "{}", error.kind()),
            Self::Closed => f.write_str("closed before the end of the answer"),
            Self::Malformed(why) => why.fmt(f),
            Self::Surplus => f.write_str("bytes behind the answer"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An open connection between two exchanges.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Over a stream that is open.
    #[must_use]
    pub fn over(stream: Stream) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Opens a connection, with TCP_NODELAY: a request is one write and must leave at once.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Stream::plain(address).await.map(Self::over)
    }

    /// Whether the server has closed (or spoken) while nothing was asked of it: such a connection
    /// must be replaced, which is no failure of any request. Costs one read of the kernel.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stream.is_stale()
    }

    /// The answer that [`Connection::exchange`] read last: its head, and behind `head.body_at` its body.
    #[must_use]
    pub fn answer(&self, head: &Head) -> &[u8] {
        &self.buffer[..head.total_bytes]
    }

    /// Sends `request` and reads the whole answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Head, Failure> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read_more(filled).await?;
            let arrived = &self.buffer[..filled];
            if let Some(head) = response::parse_head(arrived).map_err(Failure::Malformed)? {
                break head;
            }
        };
        while filled < head.total_bytes {
            filled += self.read_more(filled).await?;
        }
        if filled > head.total_bytes {
            return Err(Failure::Surplus);
        }
        Ok(head)
    }

    /// Reads once behind the first `filled` bytes. The parser's bounds end the growth.
    async fn read_more(&mut self, filled: usize) -> Result<usize, Failure> {
        if filled == self.buffer.len() {
            self.buffer.resize(filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err(Failure::Closed),
            more => Ok(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that reads one request and sends these pieces one by one, then closes.
    async fn answer_in_pieces(pieces: Vec<Vec<u8>>) -> Result<Head, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            stream.set_nodelay(true).expect("nodelay");
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await.expect("read");
            for piece in pieces {
                stream.write_all(&piece).await.expect("write");
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        let mut connection = Connection::open(address).await.expect("connect");
        let result = connection.exchange(b"POST / HTTP/1.1\r\n\r\n").await;
        server.await.expect("server");
        result
    }

    #[tokio::test]
    async fn an_answer_in_single_bytes_is_read_to_its_end() {
        let answer = b"HTTP/1.1 429 No\r\nContent-Length: 3\r\n\r\nabc";
        let pieces = answer.iter().map(|&byte| vec![byte]).collect();
        let head = answer_in_pieces(pieces).await.expect("an answer");
        assert_eq!((head.status, head.total_bytes), (429, answer.len()));
    }

    #[tokio::test]
    async fn an_answer_larger_than_the_buffer_is_read_to_its_end() {
        let body = vec![b'x'; 3 * BUFFER_BYTES];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let head = answer_in_pieces(vec![head.into_bytes(), body]).await.expect("an answer");
        assert_eq!(head.status, 200);
    }

    #[tokio::test]
    async fn a_cut_answer_and_a_surplus_are_failures() {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec();
        assert!(matches!(answer_in_pieces(vec![cut]).await, Err(Failure::Closed)));
        let surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabc".to_vec();
        assert!(matches!(answer_in_pieces(vec![surplus]).await, Err(Failure::Surplus)));
    }
}
