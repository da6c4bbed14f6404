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
        "facts": [
            { "level": "bad", "code": "delivery_stopped",
              "text": "DELIVERY STOPPED 3 min: pager answers 503\u{1b}[2J. 48,211 events safe on disk, space for 9 h." },
            { "level": "warn", "code": "dead_letters", "text": "4 dead letters need a look." },
            { "level": "note", "code": "of_a_later_version", "text": "a", "more": 1 },
        ],
        "events": { "received": 1000 + delivered, "accepted": 900, "absorbed": [["duplicate", 60], ["noop", 10]],
                    "rejected": [["invalid_json", 2], ["event_limit", 28]], "in_flight": 3 },
        "losses": { "unaccounted": 0, "damaged_records": 0, "dropped": [["operator", 1]], "dead_letters": 4 },
        "upstreams": [
            { "name": "quiet", "state": "fine", "level": "good", "delivered": 5, "dropped": 1, "dead_letters": 0,
              "spool_events": 0, "now": { "configured": true, "requests_in_flight": 0, "down": false } },
            { "name": "pager", "state": "circuit open", "level": "bad", "delivered": delivered, "dropped": 0, "dead_letters": 4,
              "spool_events": 48211,
              "now": { "configured": true, "requests_in_flight": 64, "down": false, "circuit": "open", "answer_s": 0.0124,
                       "next_try_in_s": 5.68, "last_error": "answered 503\u{1b}[2J", "oldest_event_age_s": 181.0, "new": [1] } },
        ],
        "integrations": [
            { "name": "slow", "events_per_second": 0.0, "accepted": 1, "absorbed": 2, "rejected": 3, "limited": 0 },
            { "name": "payments", "events_per_second": 12.5, "accepted": 899, "absorbed": 68, "rejected": 30, "limited": 28,
              "last_event_ago_s": 0.4, "last_refusal": { "ago_s": 3.0, "reason": "event_limit" } },
        ],
        "spool": { "bytes": 5242880, "free_bytes": 9663676416_u64, "full_in_s": 32400.0 },
        "dedup_entries": 12345, "connections": 17, "of_a_later_version": { "a": 1 },
    })
}

#[tokio::test(start_paused = true)]
async fn the_worst_comes_first_then_the_flow_with_its_rates() {
    let before = look(busy(100));
    tokio::time::advance(Duration::from_secs(2)).await;
    let now = look(busy(350));
    let shown = text(&Frame { base: "http://a".to_owned(), now: &now, before: Some(&before), trouble: None }, 120, 40);
    let expected = "\
Surgegate 0.1.0  http://a  up 2 h
DELIVERY STOPPED 3 min: pager answers 503\u{fffd}[2J. 48,211 events safe on disk, space for 9 h.
4 dead letters need a look.
a

          RECEIVED  ACCEPTED  ABSORBED  REFUSED  DELIVERED
events       1,350       900        70       30        355
a second     125.0       0.0       0.0      0.0      125.0

UPSTREAM  STATE         WAITING  IN FLIGHT  OLDEST  A SECOND  ANSWERS IN  NEXT TRY  DEAD  LAST ERROR
pager     circuit open   48,211         64   3 min     125.0       12 ms     5.7 s     4  answered 503\u{fffd}[2J
quiet     fine                0          0       -       0.0           -         -     0  -

INTEGRATION  A SECOND  ACCEPTED  ABSORBED  LIMITED  REFUSED  LAST EVENT  LAST REFUSAL
payments         12.5       899        68       28        2     0 s ago  event_limit, 3 s ago
slow              0.0         1         2        0        3           -  -

lost 0   dead letters 4, dropped 1
spool 5.0 MiB used, 9.0 GiB free, full in 9 h, fsync
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
        let sentence =
            frame.lines(width).iter().skip(1).take(9).map(|line| line.text.clone()).collect::<Vec<_>>().join(" ");
        assert!(
            width < 40 || sentence.contains("space for 9 h."),
            "{width}: a sentence is shown to its end: {sentence}"
        );
        for height in [0, 1, 2, 10, 24, 100] {
            let lines = frame.lines_within(width, height);
            assert!(lines.len() <= height, "{width}x{height}");
            assert!(lines.iter().all(|line| line.text.width() <= width), "{width}x{height}: {lines:#?}");
        }
    }
    let small = text(&frame, 80, 24);
    assert_eq!(small.lines().count(), 24, "{small}");
    assert!(small.contains("DELIVERY STOPPED 3 min: pager") && small.contains("\npager "), "{small}");
    assert!(small.contains(" more\n") && small.contains("refused: 28"), "{small}");
}

#[tokio::test(start_paused = true)]
async fn the_process_tells_its_facts_and_top_tells_when_it_is_away() {
    let fact = |level: &str, text: &str| json!({ "level": level, "code": "c", "text": text });
    let facts: Vec<Value> = (0..9).map(|number| fact("warn", &format!("fact {number}"))).collect();
    let shown = alone(json!({ "ready": true, "facts": facts }));
    assert!(shown.contains("\nfact 0\nfact 1\nfact 2\nfact 3\n\n"), "{shown}");
    assert!(alone(json!({ "ready": false })).contains("\nNOT ACCEPTING.\n"), "of an older version");
    let now = look(json!({ "ready": true, "facts": [fact("good", "All is well: accepting and delivering.")] }));
    assert_eq!(now.status.facts.first().and_then(|fact| colour(&fact.level)), Some(Color::Green));
    tokio::time::advance(Duration::from_secs(12)).await;
    let frame = Frame { base: String::new(), now: &now, before: None, trouble: Some("gone") };
    let shown = text(&frame, 100, 40);
    assert!(shown.contains("NO ANSWER for 12 s: gone") && !shown.contains("All is well"), "{shown}");
    assert_eq!(Line { text: "a".to_owned(), colour: None }, Line::plain("a"));
}

#[tokio::test(start_paused = true)]
async fn integrations_give_way_before_upstreams() {
    let now = look(busy(1));
    let frame = Frame { base: String::new(), now: &now, before: None, trouble: None };
    assert!(text(&frame, 120, 40).contains("payments"));
    let low = text(&frame, 120, 18);
    assert!(!low.contains("payments") && low.contains("\nquiet") && low.contains("lost 0"), "{low}");
}
