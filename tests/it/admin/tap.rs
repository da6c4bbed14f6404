//! The tap: who watches sees each decision once, as it is made and without secrets; who is slow is told what was lost, and
//! no request waits for either.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{get, text, to};
use crate::faults::{Fault, Upstream};
use crate::harness::{KEY, PATH, PATIENCE, Surgegate, request, resolve, trigger, wait_until};

/// Somebody who watches.
struct Watcher {
    stream: TcpStream,
    read: String,
    /// How far it was looked at.
    at: usize,
}

impl Watcher {
    fn asks(surgegate: &Surgegate, query: &str) -> Self {
        let mut stream = TcpStream::connect(surgegate.admin_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/v1/tap{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self { stream, read: String::new(), at: 0 }
    }

    /// Watches from when this returns.
    fn watches(surgegate: &Surgegate, query: &str) -> Self {
        let mut watcher = Self::asks(surgegate, query);
        while !watcher.read.contains(": here\n\n") {
            assert!(watcher.fill(), "{}", watcher.read);
        }
        assert!(watcher.read.starts_with("HTTP/1.1 200 OK"), "{}", watcher.read);
        assert!(watcher.read.contains("content-type: text/event-stream"), "{}", watcher.read);
        watcher
    }

    fn fill(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        let count = self.stream.read(&mut block).unwrap();
        self.read.push_str(std::str::from_utf8(&block[..count]).unwrap());
        count > 0
    }

    /// The next event: its name and data. `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let rest = &self.read[self.at..];
            if let Some(from) = rest.find("event: ")
                && let Some(to) = rest[from..].find("\n\n")
            {
                let (name, data) = rest[from + 7..from + to].split_once("\ndata: ").unwrap();
                let heard = (name.to_owned(), serde_json::from_str(data).unwrap());
                self.at += from + to + 2;
                return Some(heard);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn decision(&mut self) -> Value {
        let (name, data) = self.next().expect("the stream has ended");
        assert_eq!(name, "decision", "{data}");
        data
    }
}

#[test]
fn decisions_are_seen_as_they_are_made_with_filters_and_without_secrets() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let mut surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let mut all = Watcher::watches(&surgegate, "");
    let mut created = Watcher::watches(&surgegate, "?outcome=created");
    let mut refused = Watcher::watches(&surgegate, "?reason=invalid_event&integration=payments");
    let mut keyed = Watcher::watches(&surgegate, "?key=other+key%2F1");
    let mut nobody = Watcher::watches(&surgegate, "?integration=payments&outcome=unmatched");
    assert_eq!(get(&surgegate, "/api/v1/status")["tap_listeners"], 5);

    let wrong = PATH.replace("5ca1ab1e", "deadbeef");
    let first = surgegate.post(PATH, trigger("disk-db-7"));
    surgegate.post(PATH, trigger("disk-db-7"));
    surgegate.post(PATH, "{}");
    surgegate.post(&wrong, trigger("disk-db-7"));
    surgegate.post(PATH, trigger("other key/1"));
    surgegate.post(PATH, resolve("disk-db-7"));

    let seen: Vec<Value> = (0..6).map(|_| all.decision()).collect();
    let brief: Vec<(&str, u64)> = seen
        .iter()
        .map(|decision| {
            (
                decision["outcome"].as_str().or(decision["reason"].as_str()).unwrap(),
                decision["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            ("created", 202),
            ("duplicate", 202),
            ("invalid_event", 400),
            ("unknown_key", 404),
            ("created", 202),
            ("resolved", 202)
        ]
    );
    assert_eq!(seen[0]["request_id"].as_str(), first.header("x-request-id"));
    assert_eq!(
        (&seen[0]["integration"], &seen[0]["dialect"], &seen[0]["action"]),
        (&"payments".into(), &"squadcast".into(), &"trigger".into())
    );
    assert_eq!((&seen[0]["key"], &seen[1]["event_uid"]), (&"di***-7".into(), &Value::Null));
    let event = get(&surgegate, &format!("/api/v1/events/{}", text(&seen[0], "event_uid")));
    assert_eq!(event["event"]["title"], "disk full");
    assert!(seen[3].get("integration").is_none() && seen[3].get("key").is_none(), "{}", seen[3]);

    assert_eq!((created.decision(), created.decision()), (seen[0].clone(), seen[4].clone()));
    assert_eq!(refused.decision(), seen[2]);
    assert_eq!(keyed.decision(), seen[4]);
    // Nothing was for it: the next to come is the end of the stream, with the process.
    assert!(surgegate.stop().success());
    for watcher in [&mut all, &mut created, &mut refused, &mut keyed, &mut nobody] {
        assert!(watcher.next().is_none());
        assert!(watcher.read.ends_with("0\r\n\r\n"), "cut, not ended");
        for secret in [KEY, "deadbeef0123", "disk-db-7", "other key"] {
            assert!(!watcher.read.contains(secret), "{secret}");
        }
    }
}

#[test]
fn no_more_than_eight_watch_and_who_goes_makes_room() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let mut watchers: Vec<Watcher> = (0..8).map(|_| Watcher::watches(&surgegate, "")).collect();
    let full = surgegate.admin("/api/v1/tap");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    watchers.pop();
    wait_until("room", || get(&surgegate, "/api/v1/status")["tap_listeners"] == 7);
    Watcher::watches(&surgegate, "");
}

#[test]
fn who_does_not_read_loses_decisions_and_is_told_how_many() {
    const REQUESTS: u64 = 60_000;
    const TOGETHER: usize = 500;
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let mut watcher = Watcher::watches(&surgegate, "");
    let before = surgegate.memory_bytes();
    let mut connection = surgegate.connect();
    let many = request("GET", "/nowhere", &[], "").repeat(TOGETHER);
    for _ in 0..REQUESTS as usize / TOGETHER {
        connection.send(&many).unwrap();
        for _ in 0..TOGETHER {
            assert_eq!(connection.answer().unwrap().status, 404);
        }
    }
    let growth = surgegate.memory_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes for a reader that does not read");
    let (mut heard, mut lost) = (0, 0);
    while heard + lost < REQUESTS {
        match watcher.next().expect("the stream has ended") {
            (name, data) if name == "lost" => lost += data["count"].as_u64().unwrap(),
            (_, decision) => {
                assert_eq!(decision["reason"], "no_route");
                heard += 1;
            }
        }
    }
    eprintln!("heard {heard}, lost {lost}");
    assert_eq!(heard + lost, REQUESTS, "each was heard or is told as lost");
    assert!(lost > 0 && heard >= 1024, "heard {heard}, lost {lost}: it was no slow reader");
    // It hears again.
    surgegate.post(PATH, trigger("disk-db-7"));
    assert_eq!(watcher.decision()["outcome"], "created");
}
