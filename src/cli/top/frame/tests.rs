//! Frames of statuses as processes of this and other versions tell them.

use std::time::Duration;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::*;

fn look(status: Value) -> Look {
    Look { at: Instant::now(), status: serde_json::from_value(status).unwrap() }
}

fn text(frame: &Frame, width: usize, height: usize) -> String {
    frame.lines_within(width, height).into_iter().map(|line| line.text + "\n").collect()
}

fn alone(status: Value) -> String {
    let now = look(status);
    text(&Frame { base: "http://a".to_owned(), now: &now, before: None, trouble: None }, 100, 40)
}

fn busy(delivered: u64) -> Value {
    json!({
        "version": "0.1.0", "uptime_s": 7200, "ready": true, "durability": "fsync",
        "events": { "received": 1000 + delivered, "accepted": 900, "absorbed": [["duplicate", 60], ["noop", 10]],
                    "rejected": [["invalid_json", 2], ["event_limit", 28]], "in_flight": 3 },
        "upstreams": [
            { "name": "quiet", "delivered": 5, "dropped": 1, "dead_letters": 0, "spool_events": 0,
              "now": { "configured": true, "requests_in_flight": 0, "down": false } },
            { "name": "pager", "delivered": delivered, "dropped": 0, "dead_letters": 4, "spool_events": 48211,
              "now": { "configured": true, "requests_in_flight": 64, "down": false, "circuit": "open",
                       "last_error": "answered 503\u{1b}[2J", "oldest_event_age_s": 181.0, "new": [1] } },
        ],
        "dedup_entries": 12345, "connections": 17, "spool_bytes": 5242880, "spool_damaged_records": 0,
        "warnings": ["durability is memory"], "of_a_later_version": { "a": 1 },
    })
}

#[tokio::test(start_paused = true)]
async fn the_worst_comes_first_then_the_flow_with_its_rates() {
    let before = look(busy(100));
    tokio::time::advance(Duration::from_secs(2)).await;
    let now = look(busy(350));
    let shown = text(&Frame { base: "http://a".to_owned(), now: &now, before: Some(&before), trouble: None }, 100, 40);
    let expected = "\
Surgegate 0.1.0  http://a  up 2 h
DELIVERY HELD: pager (answered 503\u{fffd}[2J). 48,211 events wait on disk.
warning: durability is memory

          RECEIVED  ACCEPTED  ABSORBED  REFUSED  DELIVERED
events       1,350       900        70       30        355
a second     125.0       0.0       0.0      0.0      125.0

UPSTREAM  STATE         WAITING  IN FLIGHT  OLDEST  A SECOND  DEAD  LAST ERROR
pager     circuit open   48,211         64   3 min     125.0     4  answered 503\u{fffd}[2J
quiet     fine                0          0       -       0.0     0  -

spool 5.0 MiB, fsync   dead letters 4, dropped 1
17 connections   events in flight 3   keys 12,345
refused: 28 event_limit, 2 invalid_json
";
    assert_eq!(shown, expected);
    let again = look(busy(10));
    let shown = text(&Frame { base: String::new(), now: &again, before: Some(&now), trouble: None }, 100, 40);
    assert!(shown.contains("a second         -"), "counters that began anew have no rate: {shown}");
}

#[tokio::test(start_paused = true)]
async fn it_fits_any_terminal_and_keeps_the_worst() {
    let mut status = busy(1);
    let pager = status["upstreams"][1].clone();
    let upstreams = status["upstreams"].as_array_mut().unwrap();
    for number in 0..30 {
        let mut more = pager.clone();
        more["name"] = format!("upstream-with-a-long-name-{number}").into();
        more["spool_events"] = number.into();
        upstreams.push(more);
    }
    let now = look(status);
    let frame = Frame { base: "http://127.0.0.1:9465".to_owned(), now: &now, before: Some(&now), trouble: None };
    for width in [0, 1, 10, 40, 80, 300] {
        for height in [0, 1, 2, 10, 24, 100] {
            let lines = frame.lines_within(width, height);
            assert!(lines.len() <= height, "{width}x{height}");
            assert!(lines.iter().all(|line| line.text.width() <= width), "{width}x{height}: {lines:#?}");
        }
    }
    let small = text(&frame, 80, 24);
    assert_eq!(small.lines().count(), 24, "{small}");
    assert!(small.contains("DELIVERY HELD: pager") && small.contains("\npager "), "{small}");
    assert!(small.contains(" more\n") && small.contains("refused: 28"), "{small}");
}

#[tokio::test(start_paused = true)]
async fn each_trouble_has_its_headline() {
    assert!(alone(json!({ "ready": false, "not_ready": "spool_full" })).contains("NOT ACCEPTING: spool_full."));
    let upstream = |now: Value, waiting: u64, dead: u64| {
        alone(json!({ "ready": true, "upstreams": [
            { "name": "pager", "spool_events": waiting, "dead_letters": dead, "now": now }] }))
    };
    let fine = json!({ "configured": true });
    assert!(upstream(fine.clone(), 9, 0).contains("All is well"));
    assert!(upstream(fine.clone(), 9, 1).contains("1 dead letter needs"));
    assert!(upstream(fine, 9, 2000).contains("2,000 dead letters need"));
    assert!(
        upstream(json!({ "configured": true, "down": true }), 1, 2).contains("HELD: pager (failing). 1 event waits")
    );
    assert!(upstream(json!({ "configured": true, "held_for_s": 42.0 }), 2, 0).contains("HELD: pager (held 42 s)"));
    assert!(upstream(json!({ "configured": false }), 2, 0).contains("HELD: pager (removed)"));
    assert!(upstream(json!({ "configured": true, "circuit": "half_open" }), 2, 0).contains("probing"));
    assert!(alone(json!({ "ready": true, "spool_damaged_records": 1 })).contains("1 damaged record in the spool"));
    let not_taken = json!({ "ready": true, "configuration": { "status": "invalid" } });
    assert!(alone(not_taken).contains("CONFIGURATION NOT TAKEN"));
    let taken = json!({ "ready": true, "configuration": { "status": "reloaded" } });
    assert!(alone(taken).contains("All is well"));
    let now = look(json!({ "ready": true }));
    tokio::time::advance(Duration::from_secs(12)).await;
    let frame = Frame { base: String::new(), now: &now, before: None, trouble: Some("gone") };
    assert!(text(&frame, 100, 40).contains("NO ANSWER for 12 s: gone"));
}
