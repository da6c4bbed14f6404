//! I1: any bytes on the wire: no crash, no hang, no answer that is not documented, and memory and descriptors
//! come back to where they were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use crate::harness::{
    PATH, Raw, Recorder, Surgegate, alone, measured, request, seed, standard, trigger, wait_until, within,
};

const THREADS: usize = 16;
const CONNECTIONS_EACH: usize = 200;
/// What a sender may be told: contracts 2.1, and what the head's limits answer.
const DOCUMENTED: [u16; 17] = [100, 202, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 429, 431, 503];

/// Whole requests that mutations begin from.
fn good(random: &mut Rng) -> Vec<u8> {
    let body = trigger(&format!("g-{}", random.u8(..)));
    match random.u8(..6) {
        0 => {
            let head = format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            format!("{head}{:x}\r\n{body}\r\n0\r\nX: y\r\n\r\n", body.len()).into_bytes()
        }
        1 => request("POST", PATH, &["Expect: 100-continue"], body),
        2 => request("POST", PATH, &["Content-Encoding: gzip"], body),
        3 => request("GET", "/livez", &[], ""),
        4 => request(
            "POST",
            PATH,
            &["Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
            body,
        ),
        _ => request("POST", PATH, &["Content-Type: application/json"], body),
    }
}

/// The opening of an HTTP/2 connection, with an empty SETTINGS frame.
const H2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

fn noise(random: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.u8(..)).collect()
}

/// An HTTP/2 frame with a plausible head and any payload.
fn frame(random: &mut Rng) -> Vec<u8> {
    let payload = random.usize(..200);
    let said = if random.u8(..8) == 0 { random.usize(..1 << 24) } else { payload };
    let mut frame = (said as u32).to_be_bytes()[1..].to_vec();
    frame.extend([random.u8(..12), random.u8(..)]);
    frame.extend((random.u32(..8)).to_be_bytes());
    frame.extend(noise(random, payload));
    frame
}

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    const PIECES: [&[u8]; 12] = [
        b"\r\n",
        b"\n",
        b"\0",
        b":",
        b" ",
        b"\xff\xfe",
        b"Content-Length: 99999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"%00%ff%zz",
        b"Expect: 100-continue\r\n",
        b"HTTP/1.0",
        b"\xef\xbb\xbf",
    ];
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..bytes.len().max(1));
        match random.u8(..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), random.u8(..)),
            2 => {
                let piece = PIECES[random.usize(..PIECES.len())];
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), piece.iter().copied());
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            4 => {
                let again = bytes[..at.min(bytes.len())].to_vec();
                bytes.extend(again);
            }
            _ if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {}
        }
    }
}

fn any_bytes(random: &mut Rng) -> Vec<u8> {
    match random.u8(..10) {
        0 => {
            let length = random.usize(..4096);
            noise(random, length)
        }
        1 => {
            let mut bytes = H2.to_vec();
            for _ in 0..random.usize(..20) {
                bytes.extend(frame(random));
            }
            bytes
        }
        2 => {
            let mut bytes = H2[..random.usize(..H2.len())].to_vec();
            let length = random.usize(..50);
            bytes.extend(noise(random, length));
            bytes
        }
        3 => {
            let fields =
                (0..random.usize(..300)).map(|number| format!("X-{number}: {}", "y".repeat(random.usize(..200))));
            let fields: Vec<String> = fields.collect();
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            request("POST", &format!("/{}", "p".repeat(random.usize(..5000))), &fields, "{}")
        }
        4 => {
            let length = random.usize(..3000);
            request("POST", PATH, &["Content-Type: application/json"], noise(random, length))
        }
        _ => {
            let mut bytes = good(random);
            for _ in 0..random.usize(..3) {
                bytes.extend(good(random));
            }
            mutate(random, &mut bytes);
            bytes
        }
    }
}

/// One connection: sends in pieces, then goes, or half-closes and reads. Gives the statuses it read.
fn attack(address: SocketAddr, random: &mut Rng) -> Vec<u16> {
    let bytes = any_bytes(random);
    let mut connection = Raw::connect(address);
    connection.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let piece = if random.bool() { bytes.len().max(1) } else { random.usize(1..200) };
    for piece in bytes.chunks(piece) {
        if connection.send(piece).is_err() {
            break;
        }
    }
    let mut statuses = Vec::new();
    if random.u8(..4) > 0 {
        // It may have been closed already.
        let _ = connection.end_of_requests();
        // Answers in HTTP/2 are no text and end the reading.
        while let Ok(Some(answer)) = connection.next_answer() {
            statuses.push(answer.status);
        }
    }
    statuses
}

#[test]
fn any_bytes_leave_it_as_it_was() {
    let _alone = alone();
    let seed = seed();
    measured(|| storms(seed));
}

/// `Err` with the memory they left behind when that is too much.
fn storms(seed: u64) -> Result<(), String> {
    let recorder = Recorder::start();
    let limits = "limits: { header_timeout: 2s, body_timeout: 2s, idle_timeout: 5s }\n";
    let mut surgegate = Surgegate::start(&[&standard(&recorder), limits]);
    let address = surgegate.ingest();
    let storm = |part: u64| {
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut random = Rng::with_seed(seed.wrapping_add(part * 1000 + thread));
                        (0..CONNECTIONS_EACH).flat_map(|_| attack(address, &mut random)).collect::<Vec<u16>>()
                    })
                })
                .collect();
            for status in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                *statuses.entry(status).or_default() += 1;
            }
        });
        statuses
    };
    let all_gone = |what: &str| {
        let last = std::cell::Cell::default();
        wait_until(what, || {
            let scrape = surgegate.scrape();
            let left = ["http_connections", "http_requests_in_flight"].map(|name| scrape.count(name, &[]));
            if left != last.get() {
                eprintln!("{what}: {left:?} connections and requests are left");
                last.set(left);
            }
            left == [0, 0]
        });
    };
    // Buffers and pools have their size after the first storm.
    let mut statuses = storm(0);
    all_gone("the first storm's end");
    let (memory, descriptors) = (surgegate.memory_bytes(), surgegate.descriptors());
    for (status, count) in storm(1) {
        *statuses.entry(status).or_default() += count;
    }
    all_gone("the second storm's end");
    wait_until("descriptors as before", || surgegate.descriptors() <= descriptors + 4);
    let grown = surgegate.memory_bytes().saturating_sub(memory);
    assert!(surgegate.is_running());
    let odd: Vec<_> = statuses.iter().filter(|(status, _)| !DOCUMENTED.contains(status)).collect();
    assert!(odd.is_empty(), "undocumented: {odd:?} of {statuses:?}");
    for status in [202, 400, 404, 405] {
        assert!(statuses.contains_key(&status), "the storm never brought about {status}: {statuses:?}");
    }
    assert!(!surgegate.said().contains("panicked"), "a thread panicked");
    assert_eq!(surgegate.post(PATH, trigger("after the storm")).status, 202);
    surgegate.wait_until_delivered();
    within(grown < 16 * 1024 * 1024, format!("memory grew by {grown} bytes"))
}
