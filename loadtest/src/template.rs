//! Requests made ahead of time: one per key, whole, with a fixed-width gap for the `event_id`.
//! A request costs one copy and one patch. Called by [`crate::run`] and [`crate::saturate`].

use anyhow::{Context, ensure};

use crate::target::Target;

/// `lt-`, 8 hex digits of the run, `-`, 12 hex digits of the event: always 24 bytes.
pub const EVENT_ID_BYTES: usize = 24;
/// Larger than any limit of the proxy (a test may want a 413), still bounded.
const LARGEST_BODY_BYTES: usize = 8 * 1024 * 1024;

const BODY_START: &str = r#"{"message":"disk full on db-7","event_id":""#;
const BODY_MIDDLE: &str = r##"","status":"trigger","tags":{"severity":"high","team":{"value":"storage","color":"#ff0000"},"region":"eu-central-1"},"description":""##;
const BODY_END: &str = r#""}"#;
/// What the description is filled with, over and over: text as it occurs, no long run of one byte.
const FILLER: &[u8] = b"volume /data at 99 % on host db-7.eu-central-1, read latency above 250 ms; ";

/// The requests of a run.
#[derive(Debug)]
pub struct Templates {
    requests: Vec<Request>,
    run: u32,
}

#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    event_id_at: usize,
}

impl Templates {
    /// One request per key, `POST {base}{path_prefix}{key}`, with a Squadcast body of exactly
    /// `body_bytes`. `run` tells the event ids of one run from those of another.
    ///
    /// # Errors
    /// No key, or a body too small for its fixed members or too large.
    pub fn new(
        target: &Target,
        path_prefix: &str,
        keys: &[String],
        body_bytes: usize,
        run: u32,
    ) -> anyhow::Result<Self> {
        ensure!(!keys.is_empty(), "no integration key");
        let body = squadcast_body(body_bytes)?;
        let requests = keys
            .iter()
            .map(|key| {
                let head = format!(
                    "POST {}{path_prefix}{key} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n",
                    target.base_path, target.host
                );
                let event_id_at = head.len() + BODY_START.len();
                let mut bytes = head.into_bytes();
                bytes.extend_from_slice(&body);
                Request { bytes, event_id_at }
            })
            .collect();
        Ok(Self { requests, run })
    }

    /// Replaces `out` by the request of `event`. Equal events have the same id and the same key:
    /// a repeat of an event is a duplicate to the server.
    pub fn fill(&self, event: u64, out: &mut Vec<u8>) {
        out.clear();
        let index = event % (self.requests.len() as u64);
        // The remainder is below a `usize`: the conversion loses nothing.
        let request = &self.requests[index as usize];
        out.extend_from_slice(&request.bytes);
        let id = self.event_id(event);
        out[request.event_id_at..request.event_id_at + EVENT_ID_BYTES].copy_from_slice(&id);
    }

    /// The `event_id` of an event, ASCII. Only its low 48 bits count: at a million a second they
    /// last for eight years.
    #[must_use]
    pub fn event_id(&self, event: u64) -> [u8; EVENT_ID_BYTES] {
        let mut id = *b"lt-00000000-000000000000";
        hex(u64::from(self.run), &mut id[3..11]);
        hex(event, &mut id[12..24]);
        id
    }
}

/// Lower-case hex, right-aligned, cut to the width of `out`.
fn hex(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xF) as usize];
        number >>= 4;
    }
}

fn squadcast_body(body_bytes: usize) -> anyhow::Result<Vec<u8>> {
    ensure!(body_bytes <= LARGEST_BODY_BYTES, "a body has at most {LARGEST_BODY_BYTES} bytes");
    let fixed = BODY_START.len() + EVENT_ID_BYTES + BODY_MIDDLE.len() + BODY_END.len();
    let filler = body_bytes.checked_sub(fixed).with_context(|| format!("a body needs at least {fixed} bytes"))?;
    let mut body = Vec::with_capacity(body_bytes);
    body.extend_from_slice(BODY_START.as_bytes());
    body.extend_from_slice(&[b'0'; EVENT_ID_BYTES]);
    body.extend_from_slice(BODY_MIDDLE.as_bytes());
    body.extend(FILLER.iter().cycle().take(filler));
    body.extend_from_slice(BODY_END.as_bytes());
    Ok(body)
}

/// A number that differs between runs: the wall clock's and the process's.
#[must_use]
pub fn run_number() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mixed = crate::random::draw(u64::from(std::process::id()), now.as_micros() as u64);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(keys: &[&str], body_bytes: usize) -> Templates {
        let target = crate::target::parse("http://127.0.0.1:1/edge").expect("target");
        let keys: Vec<String> = keys.iter().map(|&k| k.to_owned()).collect();
        Templates::new(&target, "/v2/incidents/api/", &keys, body_bytes, 0xABCD).expect("templates")
    }

    #[test]
    fn a_request_holds_key_length_and_the_patched_event_id() {
        let mut out = Vec::new();
        templates(&["k0", "k1"], 362).fill(0x1F, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /edge/v2/incidents/api/k1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Content-Length: 362"), "{head}");
        assert_eq!(body.len(), 362);
        let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(json["event_id"], "lt-0000abcd-00000000001f");
        assert_eq!(json["tags"]["team"]["color"], "#ff0000");
    }

    #[test]
    fn the_smallest_body_is_told_and_one_byte_less_is_refused() {
        let smallest = squadcast_body(0).expect_err("too small").to_string();
        let bytes: usize = smallest.split(' ').find_map(|word| word.parse().ok()).expect("a number");
        assert_eq!(squadcast_body(bytes).expect("fits").len(), bytes);
        assert!(squadcast_body(bytes - 1).is_err());
    }
}
