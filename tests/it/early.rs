//! O8: a 413 reaches every client, however it uploads and however much: never a reset before it is read.

use std::io::{Error, Read, Result, Write};

use crate::harness::{Answer, Http2, PATH, Raw, Recorder, Surgegate, alone, measured, standard, trigger, within};

/// The largest body that is taken (contracts 1).
const LIMIT: usize = 30_720;
/// Clients of each form that upload at once.
pub const CLIENTS: usize = 40;
const LARGEST: usize = 20 * 1024 * 1024;

/// From one byte over the limit to the largest, spread over the orders of magnitude.
pub fn size(client: usize) -> usize {
    let share = client as f64 / (CLIENTS - 1) as f64;
    let size = (LIMIT + 1) as f64 * (LARGEST as f64 / (LIMIT + 1) as f64).powf(share);
    (size.round() as usize).clamp(LIMIT + 1, LARGEST)
}

fn head(fields: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{fields}\r\n")
}

/// Uploads everything before it looks for an answer, as simple clients do.
fn upload<S: Read + Write>(connection: &mut Raw<S>, bytes: &[u8]) -> Result<()> {
    bytes.chunks(64 * 1024).try_for_each(|block| connection.send(block))
}

pub fn declared<S: Read + Write>(mut connection: Raw<S>, size: usize) -> Result<Answer> {
    connection.send(head(&format!("Content-Length: {size}\r\n")))?;
    upload(&mut connection, &vec![b' '; size])?;
    connection.answer()
}

pub fn chunked<S: Read + Write>(mut connection: Raw<S>, size: usize) -> Result<Answer> {
    connection.send(head("Transfer-Encoding: chunked\r\n"))?;
    let mut bytes = Vec::new();
    // Whatever is left unread of a body has any form: within a chunk, between two, many of them.
    let chunk = [1000, 8192, 50_000, size][size % 4];
    for block in vec![b' '; size].chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", block.len()).as_bytes());
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    upload(&mut connection, &bytes)?;
    connection.answer()
}

/// Asks first, and is told before it has sent anything.
pub fn expectant<S: Read + Write>(mut connection: Raw<S>, size: usize) -> Result<Answer> {
    connection.send(head(&format!("Content-Length: {size}\r\nExpect: 100-continue\r\n")))?;
    connection.answer()
}

/// Asks first and does not wait for the answer.
pub fn impatient<S: Read + Write>(mut connection: Raw<S>, size: usize) -> Result<Answer> {
    connection.send(head(&format!("Content-Length: {size}\r\nExpect: 100-continue\r\n")))?;
    upload(&mut connection, &vec![b' '; size])?;
    connection.answer()
}

/// Small on the wire, large when decoded.
pub fn bomb<S: Read + Write>(mut connection: Raw<S>, size: usize) -> Result<Answer> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![b' '; size * 10])?;
    let body = encoder.finish()?;
    connection.send(head(&format!("Content-Length: {}\r\nContent-Encoding: gzip\r\n", body.len())))?;
    upload(&mut connection, &body)?;
    connection.answer()
}

fn everyone_reads(form: fn(Raw, usize) -> Result<Answer>) {
    let _alone = alone();
    measured(|| all_read(form));
}

/// `Err` with the memory it took when that is too much.
fn all_read(form: fn(Raw, usize) -> Result<Answer>) -> std::result::Result<(), String> {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    assert_eq!(surgegate.post(PATH, trigger("first")).status, 202);
    let base = surgegate.memory_bytes();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let connection = surgegate.connect();
                scope.spawn(move || match form(connection, size(client)) {
                    Ok(answer) if answer.status == 413 && answer.header("x-request-id").is_some() => None,
                    other => Some(format!("{} bytes: {other:?}", size(client))),
                })
            })
            .collect();
        clients.into_iter().filter_map(|client| client.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {CLIENTS} did not read their 413: {wrong:#?}", wrong.len());
    let grown = surgegate.memory_bytes().saturating_sub(base);
    assert_eq!(surgegate.post(PATH, trigger("last")).status, 202);
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 2, "only the bodies within the limit went on");
    let allowed = (CLIENTS * LIMIT * 4 + 16 * 1024 * 1024) as u64;
    within(grown < allowed, format!("memory grew by {grown} bytes"))
}

#[test]
fn clients_that_declare_their_size_read_their_413() {
    everyone_reads(declared);
}

#[test]
fn clients_that_send_chunks_read_their_413() {
    everyone_reads(chunked);
}

#[test]
fn clients_that_ask_first_read_their_413() {
    everyone_reads(expectant);
}

#[test]
fn clients_that_ask_and_do_not_wait_read_their_413() {
    everyone_reads(impatient);
}

#[test]
fn clients_that_send_a_gzip_bomb_read_their_413() {
    everyone_reads(bomb);
}

#[test]
fn http_2_clients_read_their_413() {
    let _alone = alone();
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let address = surgegate.ingest();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let connection = Http2::connect(address);
                let answer = connection.post(PATH, vec![b' '; size(client)]);
                let answer = answer.unwrap_or_else(|error| panic!("{} bytes: {error:?}", size(client)));
                assert_eq!(answer.status, 413, "{} bytes", size(client));
                // Its connection goes on.
                let key = format!("after-{client}");
                let next = connection.post(PATH, trigger(&key)).unwrap_or_else(|error| panic!("{key}: {error:?}"));
                assert_eq!(next.status, 202);
            });
        }
    });
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), CLIENTS);
}

#[test]
fn a_body_of_exactly_the_limit_is_taken_in_every_form() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let start = r#"{"message":"m","description":""#;
    let body = format!("{start}{}\"}}", "x".repeat(LIMIT - start.len() - 2));
    assert_eq!(body.len(), LIMIT);
    let mut by_length = surgegate.connect();
    assert_eq!(by_length.post(PATH, &body).unwrap().status, 202);
    let mut by_chunks = surgegate.connect();
    by_chunks.send(head("Transfer-Encoding: chunked\r\n")).unwrap();
    by_chunks.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).unwrap();
    assert_eq!(by_chunks.answer().unwrap().status, 202);
    let zipped = || -> Result<Answer> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body.as_bytes())?;
        let mut connection = surgegate.connect();
        let body = encoder.finish()?;
        connection.send(head(&format!("Content-Length: {}\r\nContent-Encoding: gzip\r\n", body.len())))?;
        connection.send(body)?;
        connection.answer()
    };
    assert_eq!(zipped().unwrap().status, 202);
    let by_h2 = Http2::connect(surgegate.ingest()).post(PATH, body.clone()).map_err(Error::other);
    assert_eq!(by_h2.unwrap().status, 202);
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 4);
}
