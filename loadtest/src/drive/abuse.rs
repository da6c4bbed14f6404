//! What bad clients send, as raw bytes on a connection of its own each, and whether the answer is the contract's.
//! An early answer is read while the body still goes out. Called by the senders, as tasks of their own.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};

use super::client::Way;
use crate::response::parse_head;
use crate::scenario::Abuse;
use crate::stream::Stream;

/// Between two bytes of a slow client: below one a second is what the limits cut.
const SLOW_BYTE_EVERY: Duration = Duration::from_millis(500);
/// Every limit of the server has struck by then.
const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 4096;
const SLOW_BODY_BYTES: usize = 400;
const LARGEST_ANSWER_BYTES: usize = 64 * 1024;

/// Who it pretends to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Pretence {
    /// Path with a key that is good, and what goes with it.
    pub(super) path: String,
    pub(super) authorization: String,
}

/// The answer's status, or how the connection ended.
pub(super) async fn commit(
    abuse: Abuse,
    way: &Way,
    address: SocketAddr,
    pretence: &Pretence,
    body: &Bytes,
) -> Result<u16, String> {
    let stream = Stream::open(address, way.http1_tls.as_ref()).await.map_err(|error| error.kind().to_string())?;
    let pieces = pieces(abuse, way, address, pretence, body);
    let (read, mut write) = tokio::io::split(stream);
    let writing = async {
        for piece in pieces {
            // It has answered and gone: the answer tells.
            if write.write_all(&piece.bytes).await.is_err() {
                break;
            }
            if !piece.pause.is_zero() {
                tokio::time::sleep(piece.pause).await;
            }
        }
        write
    };
    let exchange = async {
        let reading = read_status(read);
        tokio::pin!(reading);
        tokio::select! {
            status = &mut reading => status,
            // Held until the answer is there: closing would hide it.
            _held = writing => reading.await,
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("timed out".to_owned()))
}

/// Whether the contract answers so.
pub(super) fn is_expected(abuse: Abuse, answer: &Result<u16, String>) -> bool {
    match (abuse, answer) {
        (Abuse::BadJson, Ok(400)) => true,
        (Abuse::UnknownKey, Ok(404 | 429)) => true,
        (Abuse::OversizeDeclared | Abuse::OversizeChunked | Abuse::OversizeGzip, Ok(413)) => true,
        (Abuse::SlowBody | Abuse::SlowHead, Ok(408)) => true,
        (Abuse::SlowBody | Abuse::SlowHead | Abuse::UnknownKey, Err(end)) => end != "timed out",
        // A server that is shedding load may say so to anybody.
        (_, Ok(429 | 503)) => true,
        _ => false,
    }
}

struct Sent {
    bytes: Bytes,
    pause: Duration,
}

/// The body that this abuse sends, framed as it goes out: made once, as packing one takes the senders' time.
pub(super) fn prepare(abuse: Abuse, body_bytes: usize) -> Bytes {
    let made = match abuse {
        Abuse::BadJson => br#"{"message":"broken off","description":"#.to_vec(),
        Abuse::UnknownKey => br#"{"message":"m","description":"d"}"#.to_vec(),
        Abuse::OversizeDeclared => body(body_bytes),
        Abuse::OversizeGzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            // Into memory: it cannot fail.
            let _ = encoder.write_all(&body(body_bytes));
            encoder.finish().unwrap_or_default()
        }
        Abuse::OversizeChunked => {
            let mut bytes = Vec::new();
            for chunk in body(body_bytes).chunks(CHUNK_BYTES) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes
        }
        Abuse::SlowBody => vec![b' '; SLOW_BODY_BYTES],
        Abuse::SlowHead => Vec::new(),
    };
    Bytes::from(made)
}

fn pieces(abuse: Abuse, way: &Way, address: SocketAddr, pretence: &Pretence, body: &Bytes) -> Vec<Sent> {
    let host = way.host.clone().unwrap_or_else(|| address.to_string());
    let unknown = "/v2/incidents/api/0000000000000000000000000000000000000000";
    let path = if abuse == Abuse::UnknownKey { unknown } else { &pretence.path };
    let mut head =
        format!("POST {}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n", way.base_path);
    if !pretence.authorization.is_empty() && abuse != Abuse::UnknownKey {
        head.push_str(&format!("Authorization: {}\r\n", pretence.authorization));
    }
    if abuse == Abuse::OversizeGzip {
        head.push_str("Content-Encoding: gzip\r\n");
    }
    let slowly = |bytes: Bytes| Sent { bytes, pause: SLOW_BYTE_EVERY };
    if abuse == Abuse::SlowHead {
        let head = Bytes::from(head);
        return (0..head.len()).map(|at| slowly(head.slice(at..=at))).collect();
    }
    head.push_str(&match abuse {
        Abuse::OversizeChunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n\r\n", body.len()),
    });
    let mut sent = vec![Sent { bytes: Bytes::from(head), pause: Duration::ZERO }];
    if abuse == Abuse::SlowBody {
        sent.extend((0..body.len()).map(|at| slowly(body.slice(at..=at))));
    } else {
        sent.push(Sent { bytes: body.clone(), pause: Duration::ZERO });
    }
    sent
}

/// A body of this size that would be good, were it smaller.
fn body(bytes: usize) -> Vec<u8> {
    let (start, end) = (br#"{"message":"m","description":""#, br#""}"#);
    let mut body = start.to_vec();
    body.resize(bytes.saturating_sub(end.len()).max(start.len()), b'x');
    body.extend_from_slice(end);
    body
}

async fn read_status(mut read: ReadHalf<Stream>) -> Result<u16, String> {
    let mut bytes = Vec::new();
    loop {
        let mut block = [0; 4096];
        match read.read(&mut block).await {
            Ok(0) => return Err("closed without an answer".to_owned()),
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(error) => return Err(error.kind().to_string()),
        }
        match parse_head(&bytes) {
            Ok(Some(head)) => return Ok(head.status),
            Ok(None) if bytes.len() < LARGEST_ANSWER_BYTES => {}
            Ok(None) => return Err("an endless answer".to_owned()),
            Err(why) => return Err(why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_size_and_is_json() {
        for bytes in [100, 30_721, 1_000_000] {
            let body = body(bytes);
            assert_eq!(body.len(), bytes);
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }

    #[test]
    fn only_the_contracts_answers_are_expected() {
        assert!(is_expected(Abuse::BadJson, &Ok(400)) && !is_expected(Abuse::BadJson, &Ok(202)));
        assert!(is_expected(Abuse::OversizeChunked, &Ok(413)));
        assert!(!is_expected(Abuse::OversizeChunked, &Err("connection reset".into())), "the answer must be readable");
        assert!(is_expected(Abuse::SlowBody, &Err("closed without an answer".into())));
        assert!(!is_expected(Abuse::SlowHead, &Err("timed out".into())), "nobody cut it");
    }
}
