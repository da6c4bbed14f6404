//! The least of an HTTP/1.1 response parser that is still right: status, `Content-Length`,
//! `Connection: close`. It works on what has arrived so far and may be called again with more.
//! Called by [`crate::connection`] for every answer, so it allocates nothing.

use memchr::memchr;

/// A head longer than this is no answer of an ingest endpoint.
pub const LARGEST_HEAD_BYTES: usize = 16 * 1024;
/// The client keeps a whole answer in memory.
pub const LARGEST_BODY_BYTES: usize = 1024 * 1024;

/// A whole head, and how far the answer reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Where the body begins.
    pub body_at: usize,
    /// Bytes of head and body together.
    pub total_bytes: usize,
    /// The server ends the connection after this answer.
    pub close: bool,
}

/// Why an answer cannot be read. The connection is of no use afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    StatusLine,
    HeaderLine,
    ContentLength,
    /// Neither a length nor a status without body; chunked answers are not supported.
    NoLength,
    TooLarge,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "bad status line",
            Self::HeaderLine => "bad header line",
            Self::ContentLength => "bad Content-Length",
            Self::NoLength => "answer without Content-Length",
            Self::TooLarge => "answer too large",
        })
    }
}

/// Reads the head at the start of `bytes`; `None` while its end has not arrived.
///
/// # Errors
/// See [`Malformed`].
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some((status_line, mut at)) = line(bytes, 0) else {
        return unfinished(bytes);
    };
    let status = parse_status(status_line)?;
    let mut length = None;
    let mut close = false;
    loop {
        let Some((header, next)) = line(bytes, at) else {
            return unfinished(bytes);
        };
        at = next;
        if header.is_empty() {
            break;
        }
        let colon = memchr(b':', header).ok_or(Malformed::HeaderLine)?;
        let (name, value) = (&header[..colon], header[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(parse_length(value)?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            close |= value.eq_ignore_ascii_case(b"close");
        }
    }
    let body_bytes = match length {
        Some(bytes) => bytes,
        None if matches!(status, 204 | 304) => 0,
        None => return Err(Malformed::NoLength),
    };
    if at > LARGEST_HEAD_BYTES || body_bytes > LARGEST_BODY_BYTES {
        return Err(Malformed::TooLarge);
    }
    Ok(Some(Head { status, body_at: at, total_bytes: at + body_bytes, close }))
}

/// The line that starts at `from`, without its CRLF, and where the next one starts.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let end = memchr(b'\n', rest)?;
    let text = &rest[..end];
    Some((text.strip_suffix(b"\r").unwrap_or(text), from + end + 1))
}

fn unfinished(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    if bytes.len() > LARGEST_HEAD_BYTES {
        return Err(Malformed::TooLarge);
    }
    Ok(None)
}

/// `HTTP/1.1 202 Accepted`: three digits at a fixed place.
fn parse_status(line: &[u8]) -> Result<u16, Malformed> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(Malformed::StatusLine)?;
    match rest {
        [b'0' | b'1', b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', end @ ..]
            if end.first().is_none_or(|&next| next == b' ') =>
        {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => Err(Malformed::StatusLine),
    }
}

fn parse_length(value: &[u8]) -> Result<usize, Malformed> {
    // Seven digits are above the largest body and cannot overflow.
    if value.is_empty() || value.len() > 7 {
        return Err(Malformed::ContentLength);
    }
    value.iter().try_fold(0_usize, |sum, &digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + usize::from(digit - b'0')),
        _ => Err(Malformed::ContentLength),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 202 Accepted\r\nX-A: b:c\r\ncontent-LENGTH: 5\r\nDate: now\r\n\r\nhello";

    #[test]
    fn status_and_length_are_read() {
        let head = parse_head(ANSWER).expect("well formed").expect("whole");
        assert_eq!(head, Head { status: 202, body_at: ANSWER.len() - 5, total_bytes: ANSWER.len(), close: false });
    }

    #[test]
    fn every_split_of_the_head_waits_for_the_rest() {
        let head_bytes = ANSWER.len() - 5;
        for cut in 0..head_bytes {
            assert_eq!(parse_head(&ANSWER[..cut]), Ok(None), "cut at {cut}");
        }
        for cut in head_bytes..=ANSWER.len() {
            let head = parse_head(&ANSWER[..cut]).expect("well formed").expect("whole head");
            assert_eq!(head.total_bytes, ANSWER.len(), "cut at {cut}");
        }
    }

    #[test]
    fn connection_close_is_seen() {
        let answer = b"HTTP/1.1 503 Busy\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n";
        assert!(parse_head(answer).expect("well formed").expect("whole").close);
    }

    #[test]
    fn a_status_without_body_needs_no_length_and_others_do() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        let head = parse_head(answer).expect("well formed").expect("whole");
        assert_eq!(head.total_bytes, answer.len());
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse_head(chunked), Err(Malformed::NoLength));
    }

    #[test]
    fn broken_heads_are_refused() {
        let cases: [(&[u8], Malformed); 7] = [
            (b"HTTP/2 200 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Malformed::StatusLine),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed::HeaderLine),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1a\r\n\r\n", Malformed::ContentLength),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 12345678\r\n\r\n", Malformed::ContentLength),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", Malformed::TooLarge),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_head(bytes), Err(expected));
        }
        let endless = vec![b'a'; LARGEST_HEAD_BYTES + 1];
        assert_eq!(parse_head(&endless), Err(Malformed::TooLarge));
    }
}
