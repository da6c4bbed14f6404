//! W3C trace context: taken up from requests, kept with the event through restarts, told to upstreams as a child, and in
//! the log. Spans reach a collector.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{
    KEY, PATH, Recorded, Recorder, Reply, Surgegate, request, standard, trigger, wait_for, wait_until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn parent(trace: &str) -> String {
    format!("traceparent: 00-{trace}-{CALLER}-01")
}

fn post(surgegate: &Surgegate, path: &str, fields: &[&str], body: &str) -> u16 {
    let mut connection = surgegate.connect();
    let fields = [&["Content-Type: application/json"], fields].concat();
    connection.send(request("POST", path, &fields, body)).unwrap();
    connection.answer().unwrap().status
}

/// Trace and span of a request.
fn traced(request: &Recorded) -> Option<(String, String)> {
    let mut values = request.headers.get_all("traceparent").iter();
    let value = values.next()?.to_str().unwrap().to_owned();
    assert!(values.next().is_none(), "two: {request:?}");
    let parts: Vec<&str> = value.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{value}");
    Some((parts[1].to_owned(), parts[2].to_owned()))
}

fn state(request: &Recorded) -> Option<&str> {
    request.headers.get("tracestate").map(|value| value.to_str().unwrap())
}

#[test]
fn a_trace_reaches_the_upstream_as_a_child_at_each_attempt_and_after_a_kill() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    let fields = [&*parent(TRACE), "tracestate: vendor=abc", "tracestate: other=1"];
    assert_eq!(post(&surgegate, PATH, &fields, &trigger("disk-1")), 202);
    recorder.wait_for(2);
    surgegate.kill();
    let before = recorder.count();
    recorder.answer(|_| Reply::Status(200));
    surgegate.start_again();
    surgegate.wait_until_delivered();
    let requests = recorder.requests();
    assert!(requests.len() > before, "it was delivered before the kill");
    let mut spans = BTreeSet::new();
    for request in &requests {
        let (trace, span) = traced(request).expect("each request has it");
        assert_eq!((trace.as_str(), state(request)), (TRACE, Some("vendor=abc,other=1")));
        assert!(span != CALLER && spans.insert(span), "each request is a span of its own");
    }
}

#[test]
fn what_is_no_trace_is_not_passed_on_and_no_other_header_ever_is() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let wrong = "traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
    let two = parent("1111111111111111aaaaaaaaaaaaaaaa");
    for (number, fields) in [
        vec![],
        vec![wrong, "tracestate: a=1"],
        vec!["tracestate: a=1", "baggage: user=alice", "b3: 0"],
        vec![&*parent(TRACE), &*two],
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(post(&surgegate, PATH, &fields, &trigger(&format!("k-{number}"))), 202);
    }
    for request in recorder.wait_for(4) {
        assert!(traced(&request).is_none() && state(&request).is_none(), "{request:?}");
        assert!(!request.headers.contains_key("baggage") && !request.headers.contains_key("b3"));
    }
}

#[test]
fn the_events_of_a_batch_share_its_trace_and_a_batch_to_an_upstream_is_a_child_of_its_first() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let batch = "upstreams:\n  - name: pager\n    kind: webhook\n    batch: { max_events: 10, max_wait: 50ms }\n";
    let together = format!("{batch}    url: {}\n", recorder.url());
    let surgegate = Surgegate::start(&[&standard(&recorder), &together]);
    let alert = |number: u32| {
        json!({ "status": "firing", "labels": { "alertname": format!("a{number}") }, "annotations": {},
            "startsAt": "2026-11-20T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": format!("00000000000000{number:02x}") })
    };
    let body = json!({ "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "r",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am",
        "alerts": [alert(1), alert(2), alert(3)] });
    let path = format!("/hooks/alertmanager/{KEY}");
    let status = post(&surgegate, &path, &[&parent(TRACE)], &body.to_string());
    assert!(status < 300, "{status}");
    // Each in its own lane: whatever goes together, all of it belongs to that trace.
    recorder.wait_for(1);
    recorder.answer(|_| Reply::Status(200));
    surgegate.wait_until_delivered();
    let requests = recorder.requests();
    assert!(requests.iter().all(|request| traced(request).is_some_and(|(trace, _)| trace == TRACE)));
    assert!(requests.iter().map(|request| request.events().len()).sum::<usize>() >= 3);
}

fn lines(surgegate: &Surgegate) -> Vec<Value> {
    let said = surgegate.said();
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn the_log_names_the_trace_of_what_was_decided_refused_and_delivered() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "log: { level: debug }\n"]);
    assert_eq!(post(&surgegate, PATH, &[&parent(TRACE)], &trigger("disk-1")), 202);
    assert_eq!(post(&surgegate, PATH, &[&parent(TRACE)], "{"), 400);
    for message in ["event", "refused", "delivered"] {
        let line = wait_for(message, || lines(&surgegate).into_iter().find(|line| line["message"] == message));
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
    // An element that is refused alone has its line, with the reason.
    let body = json!({ "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "r",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am", "alerts": [{ "status": 7 }] });
    assert!(post(&surgegate, &format!("/hooks/alertmanager/{KEY}"), &[], &body.to_string()) < 300);
    wait_until("the line of what was refused alone", || {
        let refused = |line: &Value| line["message"] == "event" && line["reason"] == "invalid_event";
        lines(&surgegate).iter().any(refused)
    });
}

#[cfg(feature = "otel")]
mod exported {
    use super::*;
    use crate::harness::Settings;

    const TOKEN: &str = "c0ffee5eed1abe1faded0ddba11cab1eb0a710ad";

    #[test]
    fn a_collector_that_speaks_otherwise_keeps_no_alert_out() {
        let recorder = Recorder::start();
        let under = ["env", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"];
        let settings = Settings { under: under.map(str::to_owned).to_vec(), ..Settings::default() };
        let surgegate = Surgegate::start_with(settings, &[&standard(&recorder)]);
        assert_eq!(post(&surgegate, PATH, &[], &trigger("disk-1")), 202);
        let told = lines(&surgegate).into_iter().find(|line| line["message"] == "no spans are exported").unwrap();
        assert_eq!(told["error"], "OTEL_EXPORTER_OTLP_PROTOCOL: this binary speaks http/json, not grpc");
    }

    /// Spans that a collector was sent, each with its attributes as a map.
    fn spans(collector: &Recorder) -> Vec<Value> {
        let mut found = Vec::new();
        for request in collector.requests() {
            assert_eq!(request.line(), "POST /v1/traces");
            assert_eq!(request.headers["x-team"], "storage");
            assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
            for resource in request.json()["resourceSpans"].as_array().unwrap() {
                let named = |of: &Value| of["key"] == "service.name" && of["value"]["stringValue"] == "surgegate";
                assert!(resource["resource"]["attributes"].as_array().unwrap().iter().any(named));
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    found.extend(scope["spans"].as_array().unwrap().iter().cloned());
                }
            }
        }
        found
    }

    fn value<'s>(span: &'s Value, key: &str) -> Option<&'s str> {
        let found = span["attributes"].as_array().unwrap().iter().find(|one| one["key"] == key)?;
        found["value"]["stringValue"].as_str().or_else(|| found["value"]["intValue"].as_str())
    }

    #[test]
    fn spans_of_the_request_and_of_its_delivery_reach_a_collector_that_may_be_away() {
        let (recorder, collector) = (Recorder::start(), Recorder::start());
        let mut tries = 0;
        collector.answer(move |_| {
            tries += 1;
            Reply::Status(if tries == 1 { 503 } else { 200 })
        });
        let under = [
            "env",
            &format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.base()),
            &format!("OTEL_EXPORTER_OTLP_HEADERS=x-team=storage,authorization=Bearer%20{TOKEN}"),
        ];
        let settings = Settings { under: under.map(str::to_owned).to_vec(), ..Settings::default() };
        let mut surgegate = Surgegate::start_with(settings, &[&standard(&recorder), "log: { level: trace }\n"]);
        assert_eq!(post(&surgegate, PATH, &[&parent(TRACE)], &trigger("disk-1")), 202);
        // One that begins here, and one that its sender does not keep.
        assert_eq!(post(&surgegate, PATH, &[], &trigger("disk-2")), 202);
        let unkept = format!("traceparent: 00-{}-{CALLER}-00", "2".repeat(32));
        assert_eq!(post(&surgegate, PATH, &[&unkept], &trigger("disk-3")), 202);
        let requests = recorder.wait_for(3);
        surgegate.wait_until_delivered();
        assert_eq!(surgegate.stop().code(), Some(0));
        let spans = spans(&collector);
        assert!(!spans.iter().any(|span| span["traceId"] == "2".repeat(32)), "its sender does not keep it");
        let of = |kind: u64, trace: &str| {
            spans
                .iter()
                .find(|span| span["kind"] == kind && span["traceId"] == trace)
                .unwrap_or_else(|| panic!("{spans:?}"))
        };
        let (server, client) = (of(2, TRACE), of(3, TRACE));
        assert_eq!((&server["parentSpanId"], &client["parentSpanId"]), (&json!(CALLER), &server["spanId"]));
        // Its span is what the upstream was told.
        let told = requests.iter().filter_map(traced).find(|(trace, _)| trace == TRACE).unwrap().1;
        assert_eq!(client["spanId"], told);
        assert_eq!(value(server, "http.route"), Some("/v2/incidents/api/{key}"));
        assert_eq!(
            (value(server, "surgegate.outcome"), value(server, "http.response.status_code")),
            (Some("created"), Some("202"))
        );
        assert_eq!(
            (value(client, "surgegate.upstream"), value(client, "http.response.status_code")),
            (Some("pager"), Some("200"))
        );
        let nanos = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos(server, "startTimeUnixNano") <= nanos(client, "endTimeUnixNano"));
        // Some were sent twice: the collector was away.
        let servers: BTreeSet<&str> =
            spans.iter().filter(|span| span["kind"] == 2).filter_map(|span| span["spanId"].as_str()).collect();
        assert_eq!(servers.len(), 2);
        // What proves us to the collector is told to it alone (I5), though it refused once and the log is loud.
        assert!(!surgegate.said().contains(TOKEN), "the collector's token is in the log");
        // The key is in the path, and in no span.
        let all: String =
            collector.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
        assert!(!all.contains(KEY), "{all}");
    }
}
