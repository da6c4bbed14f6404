//! Reads server-sent events: messages of bounded size, and an end where the line goes silent.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Error, chain};

/// Longest line and longest message, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A heartbeat comes each 15 s; three that are missing are a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// One message of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Empty where the server named none.
    pub event: String,
    /// Its data lines, joined by line ends.
    pub data: String,
}

/// The messages of one answer, in order.
pub struct Stream {
    body: Incoming,
    parser: Parser,
}

impl Stream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default() }
    }

    /// The next message; `None` at the orderly end of the stream.
    ///
    /// # Errors
    /// `Broken`: the connection broke, not even a heartbeat came for 45 s, or a message is too long.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.parser.next()? {
                return Ok(Some(message));
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await.map_err(|_| {
                Error::Broken(format!("nothing came for {} s, no heartbeat either", SILENCE_MAX.as_secs()))
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Broken(format!("the connection broke: {}", chain(&error)))),
                Some(Ok(frame)) => self.parser.feed(&frame.into_data().unwrap_or_else(|_| Bytes::new())),
            }
        }
    }
}

/// Bytes to messages; holds at most one message and what came with it.
#[derive(Default)]
struct Parser {
    read: BytesMut,
    message: Message,
    has_data: bool,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Result<Option<Message>, Error> {
        while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
            if end > LINE_BYTES_MAX {
                return Err(too_long());
            }
            let line = self.read.split_to(end);
            self.read.advance(1);
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if !line.is_empty() {
                self.field(line)?;
                continue;
            }
            let message = std::mem::take(&mut self.message);
            if std::mem::take(&mut self.has_data) {
                return Ok(Some(message));
            }
        }
        if self.read.len() > LINE_BYTES_MAX { Err(too_long()) } else { Ok(None) }
    }

    fn field(&mut self, line: &str) -> Result<(), Error> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if self.message.data.len() + value.len() > LINE_BYTES_MAX {
                    return Err(too_long());
                }
                if self.has_data {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
                self.has_data = true;
            }
            // A comment (the heartbeat), and what this stream has no use for.
            _ => {}
        }
        Ok(())
    }
}

fn too_long() -> Error {
    Error::Stranger(format!(
        "a message is longer than {} KiB: that is not the stream of decisions",
        LINE_BYTES_MAX >> 10
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str) -> Message {
        Message { event: event.to_owned(), data: data.to_owned() }
    }

    /// What a stream holds when it comes in pieces of `size` bytes.
    fn read(text: &[u8], size: usize) -> Result<Vec<Message>, Error> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for piece in text.chunks(size) {
            parser.feed(piece);
            while let Some(message) = parser.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_read_whole_however_the_bytes_are_cut() {
        let text = ": heartbeat\n\nevent: decision\ndata: {\"a\":\"ü\"}\n\nevent: lost\r\ndata:{\"count\":3}\r\n\r\nretry: 5\n\n\
                    data: one\ndata: two\n\nevent: decision\ndata: unfinished\n";
        let told = [message("decision", "{\"a\":\"ü\"}"), message("lost", "{\"count\":3}"), message("", "one\ntwo")];
        for size in 1..text.len() {
            assert_eq!(read(text.as_bytes(), size).unwrap(), told, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_and_a_message_have_a_longest_length() {
        let line = |bytes: usize| format!("data:{}\n\n", "x".repeat(bytes - 5)).into_bytes();
        assert_eq!(read(&line(LINE_BYTES_MAX), 1000).unwrap().len(), 1);
        assert!(read(&line(LINE_BYTES_MAX + 1), 1000).is_err());
        // One that never ends is given up early.
        assert!(read(&vec![b'x'; LINE_BYTES_MAX + 1], LINE_BYTES_MAX + 1).is_err());
        let many = "data: 0123456789\n".repeat(LINE_BYTES_MAX / 10 + 1);
        assert!(read(many.as_bytes(), 1000).is_err());
    }
}
