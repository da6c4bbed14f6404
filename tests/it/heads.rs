//! Every answer says why and carries `X-Request-Id` (INTERFACE 4): those to heads that nobody can read too, over HTTP/1.1 and
//! HTTP/2, and they are counted and logged as all others.

use bytes::Bytes;

use crate::harness::tls::Authority;
use crate::harness::{Answer, Http2, PATH, Recorder, Surgegate, request, standard, trigger, wait_until};

/// The refusal, told in full.
fn assert_told(answer: &Answer, status: u16, reason: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{what}: no X-Request-Id in {answer:?}"));
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{what}: {id}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let said = answer.json();
    assert_eq!((&said["reason"], &said["request_id"]), (&reason.into(), &id.into()), "{what}: {said}");
    assert!(said["message"].is_string() && said["errors"].is_array(), "{what}: {said}");
}

fn head(line: &str, fields: &str) -> String {
    format!("{line}\r\nHost: test\r\nContent-Length: 0\r\n{fields}\r\n")
}

/// Heads that hyper refuses by itself, or our watch before it.
fn unreadable() -> Vec<(&'static str, String, u16, &'static str, &'static str)> {
    let post = format!("POST {PATH} HTTP/1.1");
    let fine = "first line";
    vec![
        ("no method", head("PO(ST / HTTP/1.1", ""), 400, "invalid_head", fine),
        ("no path", head("POST ^ HTTP/1.1", ""), 400, "invalid_head", fine),
        ("no request at all", "\u{16}\u{3}\u{1}\r\n\r\n".into(), 400, "invalid_head", "a control byte"),
        ("another version", head("POST / HTTP/1.2", ""), 400, "invalid_head", "neither HTTP/1.1 nor HTTP/1.0"),
        ("a bare LF", head(&post, "A: b\n"), 400, "invalid_head", "LF without CR"),
        ("two lengths", head(&post, "Content-Length: 0\r\n"), 400, "invalid_head", "more than one Content-Length"),
        ("too many fields", head(&post, &"A: b\r\n".repeat(8)), 431, "head_too_large", "more than 8 fields"),
        ("a large head", head(&post, &format!("A: {}\r\n", "x".repeat(1000))), 431, "head_too_large", "1024 bytes"),
        ("a head without end", format!("{post}\r\nA: {}", "x".repeat(20_000)), 431, "head_too_large", "1024 bytes"),
    ]
}

#[test]
fn a_head_that_cannot_be_read_is_answered_why_under_an_id() {
    let recorder = Recorder::start();
    let limits = "limits: { headers: 8, header_bytes: 1KiB }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), limits]);
    let mut ids = std::collections::HashSet::new();
    let counted = |code: &str| surgegate.scrape().count("http_requests_total", &[("dialect", "none"), ("code", code)]);
    for (what, bytes, status, reason, message) in unreadable() {
        let before = counted(&status.to_string());
        let mut connection = surgegate.connect();
        connection.send(&bytes).unwrap();
        let answer = connection.answer().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_told(&answer, status, reason, what);
        assert!(answer.text().contains(message), "{what}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
        assert!(ids.insert(answer.header("x-request-id").unwrap().to_owned()), "{what}: an id twice");
        connection.end_of_requests().unwrap();
        assert!(connection.next_answer().unwrap().is_none(), "{what}: more than one answer");
        assert_eq!(counted(&status.to_string()), before + 1, "{what}: not counted");
    }
    wait_until("their lines", || ["invalid_head", "head_too_large"].iter().all(|reason| surgegate.is_said(reason)));
    assert!(ids.iter().any(|id| surgegate.is_said(id)), "no line names one of the ids");
    // Beyond what a path can ever hold, hyper does not look further.
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { header_bytes: 1MiB }\n"]);
    let mut connection = surgegate.connect();
    connection.send(head(&format!("POST /{} HTTP/1.1", "x".repeat(66_000)), "")).unwrap();
    assert_told(&connection.answer().unwrap(), 414, "uri_too_long", "an endless path");
}

#[test]
fn good_requests_before_it_are_answered_first_and_nobody_else_is() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { headers: 8 }\n"]);
    for (what, bytes, status, reason, _) in unreadable().into_iter().filter(|(_, bytes, ..)| bytes.len() < 1000) {
        let mut connection = surgegate.connect();
        let good = request("POST", PATH, &["X: odd", "Expect:"], trigger("good"));
        connection.send([good.as_slice(), &good, bytes.as_bytes()].concat()).unwrap();
        for _ in 0..2 {
            assert_eq!(connection.answer().unwrap().status, 202, "{what}");
        }
        assert_told(&connection.answer().unwrap(), status, reason, what);
        assert!(connection.next_answer().unwrap().is_none(), "{what}: more than one answer");
    }
}

#[test]
fn a_chunk_that_is_none_is_answered_under_an_id_too() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let mut connection = surgegate.connect();
    connection
        .send(format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n"))
        .unwrap();
    let answer = connection.answer().unwrap();
    assert_told(&answer, 400, answer.json()["reason"].as_str().unwrap(), "a chunk");
}

#[test]
fn over_tls_it_is_the_same() {
    let recorder = Recorder::start();
    let authority = Authority::new();
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let mut connection = authority.client().connect(surgegate.ingest());
    connection.send(head("PO(ST / HTTP/1.1", "")).unwrap();
    assert_told(&connection.answer().unwrap(), 400, "invalid_head", "over TLS");
}

#[test]
fn over_http_2_heads_are_held_to_the_same_limits() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { headers: 8, header_bytes: 1KiB }\n"]);
    let client = Http2::connect(surgegate.ingest());
    let with = |fields: usize, bytes: usize| {
        let value = "x".repeat(bytes);
        let fields: Vec<_> = (0..fields).map(|number| (format!("x-{number}"), value.clone())).collect();
        client.post_with(PATH, &fields, Bytes::from(trigger("k"))).unwrap()
    };
    // Beside Content-Type and Content-Length.
    assert_eq!(with(6, 10).status, 202);
    assert_told(&with(7, 10), 431, "head_too_large", "many fields");
    assert_eq!(with(1, 700).status, 202);
    assert_told(&with(1, 1000), 431, "head_too_large", "a long field");
    // The connection goes on.
    assert_eq!(with(0, 0).status, 202);
    // From twice the limit on h2 answers by itself, without a word (docs/decisions/0006); the connection goes on still.
    let wordless = with(1, 2500);
    assert_eq!((wordless.status, wordless.header("x-request-id"), wordless.body.len()), (431, None, 0));
    assert_eq!(with(0, 0).status, 202);
}
