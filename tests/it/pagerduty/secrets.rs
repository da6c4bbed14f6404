//! The key stands in the body, which is stored: it appears nowhere, however it is written and wherever else it stands.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{CHANGE, KEY, OTHER, V1, V2, configuration, trigger};
use crate::harness::{Recorder, Reply, Surgegate, wait_until};

/// What must not be found in any place: the keys as they are, in either case.
fn assert_no_key(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    for key in [KEY, OTHER] {
        let found = text.find(key).map(|at| text[at.saturating_sub(200)..(at + 40).min(text.len())].to_owned());
        assert_eq!(found, None, "the key in {place}");
    }
}

fn files(folder: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() { files(&entry.path(), all) } else { all.push(entry.path()) }
    }
}

#[test]
fn a_key_in_the_body_appears_nowhere() {
    // Each third is refused for good, and each fifth for now: dead letters, and what is logged of failures.
    let recorder = Recorder::scripted({
        let mut number = 0;
        move |_| {
            number += 1;
            match number {
                number if number % 3 == 0 => Reply::Status(400),
                number if number % 5 == 0 => Reply::Status(503),
                _ => Reply::Status(200),
            }
        }
    });
    let loud = "log: { level: trace }\n";
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, ", enabled: false"), loud]);
    let mut tap = TcpStream::connect(surgegate.admin_address()).unwrap();
    std::io::Write::write_all(&mut tap, b"GET /api/v1/tap HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let tapped: Arc<Mutex<Vec<u8>>> = Arc::default();
    let into = Arc::clone(&tapped);
    std::thread::spawn(move || {
        let mut block = [0; 4096];
        while let Ok(count @ 1..) = tap.read(&mut block) {
            into.lock().unwrap().extend_from_slice(&block[..count]);
        }
    });
    wait_until("the tap's head", || !tapped.lock().unwrap().is_empty());

    let escaped = KEY.replace('a', "\\u0061");
    let full = |key: &str, number: usize| {
        format!(
            r#"{{"routing_key":"{OTHER}","routing_key":"{key}","event_action":"trigger","dedup_key":"of-{key}-{number}",
                "payload":{{"summary":"it is {key}","source":"{escaped}","severity":"info","custom_details":{{"{key}":["{key}"],"tags":{{"k":"{key}"}}}}}},
                "client_url":"https://mon/?key={key}","service_key":"{key}","unknown":"{key}"}}"#
        )
    };
    let mut answers = Vec::new();
    for number in 0..30 {
        for (path, body) in [
            (V2, full(KEY, number)),
            (V2, full(&escaped, number)),
            (V2, trigger(KEY, &format!("plain-{number}"))),
            (V1, format!(r#"{{"service_key":"{KEY}","event_type":"resolve","incident_key":"v1-{KEY}-{number}"}}"#)),
            (CHANGE, format!(r#"{{"routing_key":"{KEY}","payload":{{"summary":"{KEY}"}}}}"#)),
            // Refused, each for another reason.
            (V2, full(OTHER, number)),
            (V2, format!(r#"{{"routing_key":"{KEY}","event_action":"{KEY}"}}"#)),
            (V2, format!(r#"{{"routing_key":"{KEY}","event_action""#)),
            (V2, format!(r#"{{"routing_key":"{KEY}{}"}}"#, " ".repeat(40_000))),
        ] {
            let answer = surgegate.post(path, &body);
            assert!(matches!(answer.status, 200 | 202 | 400 | 413), "{}", answer.text());
            answers.extend(format!("{:?}{}\n", answer.headers, answer.text()).into_bytes());
        }
    }
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) > 10);
    wait_until("decisions at the tap", || tapped.lock().unwrap().len() > 10_000);
    surgegate.scrape().assert_books_balance();
    assert!(surgegate.said().contains("\"TRACE\""), "nothing logged at trace");

    assert_no_key("the answers", &answers);
    assert_no_key("the tap", &tapped.lock().unwrap());
    assert_no_key("the log", surgegate.said().as_bytes());
    assert_no_key("the metrics", &surgegate.observe("/metrics").unwrap().body);
    for path in ["/", "/api/v1/status", "/api/v1/dead-letters", "/api/v1/dead-letters/groups"] {
        let answer = surgegate.admin(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_no_key(path, &answer.body);
    }
    let dead = surgegate.admin("/api/v1/dead-letters").json();
    let rows = dead.as_array().or_else(|| dead.as_object()?.values().find_map(|value| value.as_array())).unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let letter = surgegate.admin(&format!("/api/v1/dead-letters/{}", row["id"].as_str().unwrap()));
        assert_no_key("a dead letter", &letter.body);
    }
    let mut all = Vec::new();
    files(&surgegate.spool(), &mut all);
    let mut seen = false;
    for path in all {
        let bytes = std::fs::read(&path).unwrap();
        seen |= memchr::memmem::find(&bytes, b"plain-7").is_some();
        assert_no_key(&path.display().to_string(), &bytes);
    }
    assert!(seen, "the bodies are not in the files that were looked at");
    for sent in recorder.requests() {
        assert_no_key("what the upstream got", &sent.body);
        assert_no_key("the head that the upstream got", format!("{:?}", sent.headers).as_bytes());
    }
}
