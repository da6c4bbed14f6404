//! Plain requests and odd ones go two ways through the listener (docs/decisions/0019): nobody can tell them apart.

use std::time::Duration;

use crate::harness::{Answer, PATH, Raw, Recorder, Surgegate, request, standard, trigger};

const PLAIN: &str = "Content-Type: application/json";
/// A field that changes nothing, but makes a request odd.
const ODD: &str = "TE: trailers";

fn started() -> (Recorder, Surgegate) {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    (recorder, surgegate)
}

/// Without what differs between any two answers.
fn shape(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let varies = ["date", "x-request-id", "content-length", "retry-after"];
    let fields = answer.headers.iter().map(|(name, value)| {
        (name.clone(), if varies.contains(&&**name) { "varies".to_owned() } else { value.clone() })
    });
    let mut body = answer.json();
    for name in ["incident_id", "event_id", "request_id"] {
        if let Some(value) = body.get_mut(name) {
            *value = "varies".into();
        }
    }
    (answer.status, fields.collect(), body.to_string())
}

#[test]
fn both_ways_say_the_same() {
    let (_recorder, surgegate) = started();
    let ways = [vec![PLAIN], vec![PLAIN, ODD]];
    let mut connections = [Raw::connect(surgegate.ingest()), Raw::connect(surgegate.ingest())];
    let resolve = |key: &str| format!(r#"{{"event_id": "{key}", "status": "resolve"}}"#);
    type Body<'b> = &'b dyn Fn(&str) -> String;
    let cases: [(&str, Body<'_>, u16); 8] = [
        ("new", &trigger, 202),
        ("a duplicate", &trigger, 202),
        ("its resolve", &resolve, 202),
        ("resolved twice", &resolve, 202),
        ("unknown", &|key| resolve(&format!("{key}-unknown")), 202),
        ("not JSON", &|_| "{".to_owned(), 400),
        ("no object", &|_| "[]".to_owned(), 400),
        ("no message", &|key| format!(r#"{{"event_id": "{key}"}}"#), 400),
    ];
    for (name, body, status) in cases {
        let [plain, odd] = [0, 1].map(|way| {
            let body = body(if way == 0 { "plain" } else { "odd-1" });
            connections[way].send(request("POST", PATH, &ways[way], body)).unwrap();
            connections[way].answer().unwrap()
        });
        assert_eq!(plain.status, status, "{name}");
        assert_eq!(shape(&plain), shape(&odd), "{name}");
    }
}

#[test]
fn a_request_in_pieces_is_answered_and_its_connection_goes_on() {
    let (_recorder, surgegate) = started();
    let mut connection = Raw::connect(surgegate.ingest());
    // The second wait is longer than plain requests are waited for.
    for (turn, pause_ms) in [0, 20, 300, 0].into_iter().enumerate() {
        let bytes = request("POST", PATH, &[PLAIN], trigger(&format!("pieces-{turn}")));
        for piece in bytes.chunks(bytes.len() / 2 + 1) {
            connection.send(piece).unwrap();
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
        assert_eq!(connection.answer().unwrap().outcome(), "created", "{turn}");
    }
}

#[test]
fn requests_behind_each_other_are_answered_in_order() {
    let (_recorder, surgegate) = started();
    let mut connection = Raw::connect(surgegate.ingest());
    let plain = |key: &str| request("POST", PATH, &[PLAIN], trigger(key));
    connection.send(plain("first")).unwrap();
    let first = connection.answer().unwrap();
    // Two in one piece, then a plain one by itself.
    connection.send([plain("first"), plain("second")].concat()).unwrap();
    let again = connection.answer().unwrap();
    assert_eq!((again.outcome(), again.incident()), ("duplicate", first.incident()));
    assert_eq!(connection.answer().unwrap().outcome(), "created");
    connection.send(plain("second")).unwrap();
    assert_eq!(connection.answer().unwrap().outcome(), "duplicate");
}

#[test]
fn a_half_close_behind_a_plain_request_still_gets_its_answer() {
    let (_recorder, surgegate) = started();
    let mut connection = Raw::connect(surgegate.ingest());
    connection.send(request("POST", PATH, &[PLAIN], trigger("half"))).unwrap();
    connection.end_of_requests().unwrap();
    assert_eq!(connection.answer().unwrap().outcome(), "created");
    assert!(connection.next_answer().unwrap().is_none());
}

#[test]
fn a_head_whose_body_never_comes_is_told_408() {
    let (_recorder, surgegate) = started();
    let mut connection = Raw::connect(surgegate.ingest());
    let bytes = request("POST", PATH, &[PLAIN], trigger("late"));
    connection.send(&bytes[..bytes.len() - 4]).unwrap();
    assert_eq!(connection.answer().unwrap().status, 408);
}
