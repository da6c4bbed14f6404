//! Who may write, and what the audit says of it; who may read from a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{to, write};
use crate::faults::{Fault, Upstream};
use crate::harness::{PATH, Raw, Surgegate, ask, say, trigger, wait_for, wait_until};

const TOKEN: &str = "correct-horse-battery-staple";

/// The audit's lines so far.
fn audit(surgegate: &Surgegate) -> Vec<Value> {
    let said = surgegate.said();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

fn audited(surgegate: &Surgegate, what: &str, status: u64) -> Value {
    wait_for("a line of the audit", || {
        audit(surgegate).into_iter().find(|line| line["what"] == what && line["status"] == status)
    })
}

#[test]
fn writes_where_all_can_reach_it_need_the_token_and_leave_a_line_each() {
    let upstream = Upstream::scripted(|_| Fault::Answer(422));
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let listen = format!("listen: {{ admin: {{ address: '0.0.0.0:0', token_file: '{}' }} }}\n", file.display());
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"]), &listen]);
    for number in 0..3 {
        surgegate.post(PATH, trigger(&format!("poison-{number}")));
    }
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) == 3);
    let at = SocketAddr::from(([127, 0, 0, 1], surgegate.admin_address().port()));
    let ask = |method: &str, path: &str, token: &str| {
        let field = format!("Authorization: Bearer {token}");
        let fields = [field.as_str()];
        ask(at, method, path, if token.is_empty() { &[] } else { &fields }).unwrap()
    };
    // Reads need none.
    assert_eq!(ask("GET", "/api/v1/dead-letters", "").status, 200);
    let began = Instant::now();
    let writes = [
        ("POST", "/api/v1/dead-letters/replay"),
        ("DELETE", "/api/v1/dead-letters?confirm=3"),
        ("DELETE", "/api/v1/dead-letters/pager-1"),
        ("POST", "/api/v1/dead-letters/pager-1/replay"),
    ];
    for (method, path) in writes {
        assert_eq!(ask(method, path, "").status, 401, "{method} {path}");
        assert_eq!(ask(method, path, "wrong-horse").status, 401, "{method} {path}");
    }
    for _ in 0..40 {
        assert_eq!(ask("DELETE", "/api/v1/dead-letters/pager-1", "").status, 401);
    }
    let refusals_in = began.elapsed();
    assert_eq!(surgegate.scrape().count("dead_letters", &[]), 3, "what was refused was done");
    // A body that nobody wants is not waited for.
    let mut large = Raw::connect(at);
    large.send("POST /api/v1/dead-letters/replay HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n").unwrap();
    assert_eq!(large.answer().unwrap().status, 401);
    let refused = audited(&surgegate, "replayDeadLetters", 401);
    assert!(refused["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{refused}");

    assert_eq!(ask("DELETE", "/api/v1/dead-letters?upstream=pager&confirm=7", TOKEN).status, 409);
    assert_eq!(ask("DELETE", "/api/v1/dead-letters?upstream=pager&confirm=3", TOKEN).status, 200);
    assert_eq!(surgegate.scrape().count("dead_letters", &[]), 0);
    audited(&surgegate, "dropDeadLetters", 409);
    let done = audited(&surgegate, "dropDeadLetters", 200);
    assert_eq!(
        (&done["parameters"], &done["result"]),
        (&"upstream=pager confirm=3".into(), &r#"{"dropped":3}"#.into())
    );
    assert!(done["peer"].as_str().unwrap().starts_with("127.0.0.1:") && done["level"] == "INFO", "{done}");
    assert_eq!(ask("DELETE", "/api/v1/dead-letters/pager-1?nonsense=1", TOKEN).status, 400);
    audited(&surgegate, "dropDeadLetter", 400);
    // The line above is behind them all.
    let told = audit(&surgegate).iter().filter(|line| line["status"] == 401).count() as u64;
    assert!(told <= refusals_in.as_secs() + 2, "{told} refusals in {refusals_in:?}: one a second is told");
    let said = surgegate.said();
    assert!(!said.contains(TOKEN) && !said.contains("wrong-horse"), "a token stands in the log");
}

/// Whatever the document has that is no GET: done with the token and told, refused without it. A new write fails here by itself.
#[test]
fn each_write_of_the_document_is_refused_without_the_token_and_leaves_its_line_with_it() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let listen = format!("listen: {{ admin: {{ token_file: '{}' }} }}\n", file.display());
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"]), &listen]);
    let document = super::get(&surgegate, "/api/v1/openapi.json");
    let mut writes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap().iter().filter(|(method, _)| *method != "get") {
            let (id, method) = (super::text(operation, "operationId"), method.to_ascii_uppercase());
            let path = path.replace("{id}", "pager-1");
            let body = if id == "setLogLevel" { r#"{"level":"debug"}"# } else { "" };
            let bearer = format!("Authorization: Bearer {TOKEN}");
            let say = |fields: &[&str]| say(surgegate.admin_address(), &method, &path, fields, body).unwrap().status;
            assert_eq!(say(&[]), 401, "{id}");
            let status = say(&[&bearer]);
            assert!(![401, 403, 405].contains(&status), "{id}: {status}");
            let line = audited(&surgegate, id, u64::from(status));
            assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            writes += 1;
        }
    }
    assert!(writes >= 6, "only {writes} writes in the document");
}

#[test]
fn a_listener_on_loopback_is_not_read_through_a_name_of_the_web() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let at = surgegate.admin_address();
    let status = |path: &str, host: &str| ask(at, "GET", path, &[&format!("Host: {host}")]).unwrap().status;
    for path in ["/", "/api/v1/status", "/api/v1/dead-letters", "/api/v1/openapi.json", "/api/v1/tap"] {
        for host in
            ["evil.example", "evil.example:9465", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."]
        {
            assert_eq!(status(path, host), 403, "{path} as {host}");
        }
    }
    for host in ["localhost", "LOCALHOST:9465", "127.0.0.1:1", "[::1]:9465", "surgegate", "my.localhost", "10.0.0.7"] {
        assert_eq!(status("/api/v1/status", host), 200, "as {host}");
    }
    // Elsewhere it stands behind names that are its own.
    let everywhere = Surgegate::start(&[&to(&upstream, &["pager"]), "listen: { admin: { address: '0.0.0.0:0' } }\n"]);
    let at = SocketAddr::from(([127, 0, 0, 1], everywhere.admin_address().port()));
    assert_eq!(ask(at, "GET", "/api/v1/status", &["Host: admin.example.com"]).unwrap().status, 200);
    assert_eq!(ask(at, "POST", "/api/v1/dead-letters/replay", &[]).unwrap().status, 403);
    audited(&everywhere, "replayDeadLetters", 403);
    write(&surgegate, "POST", "/api/v1/dead-letters/replay", 200);
    audited(&surgegate, "replayDeadLetters", 200);
}

#[test]
fn a_second_origin_or_one_that_is_no_text_does_not_pass_for_none() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let status = |fields: &[u8]| {
        let mut connection = Raw::connect(surgegate.admin_address());
        let head = [b"POST /api/v1/dead-letters/replay HTTP/1.1\r\n", fields, b"Content-Length: 0\r\n\r\n"].concat();
        connection.send(head).unwrap();
        connection.answer().unwrap().status
    };
    assert_eq!(status(b"Host: localhost\r\n"), 200);
    assert_eq!(status(b"Host: localhost\r\nOrigin: http://localhost\r\n"), 200);
    for fields in [
        &b"Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n"[..],
        b"Host: localhost\r\nOrigin: http://ev\xeel\r\n",
        b"Host: localhost\r\nHost: evil.example\r\n",
        b"Host: localhost\r\nOrigin: null\r\n",
    ] {
        assert_eq!(status(fields), 403, "{}", String::from_utf8_lossy(fields));
    }
}

#[test]
fn health_and_status_are_told_however_many_clients_take_no_answer() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    for (address, much, asked) in [
        (surgegate.observe_address(), "/metrics", "/livez"),
        (surgegate.admin_address(), "/api/v1/openapi.json", "/api/v1/status"),
    ] {
        // As many as it holds at once, and some. Each asks for more than sockets hold, and reads none of it.
        let ask_much = format!("GET {much} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(1000);
        let held: Vec<TcpStream> = (0..140)
            .map(|_| {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(ask_much.as_bytes()).unwrap();
                client
            })
            .collect();
        let mut probe = TcpStream::connect(address).unwrap();
        // Half of the time that one exchange may take.
        probe.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        probe
            .write_all(format!("GET {asked} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap_or_else(|error| panic!("no answer to {asked}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(held);
    }
}
