//! What is accepted, from whom, in which forms: real senders and every form of HTTP they speak.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Http2, KEY, PATH, Raw, Recorder, Surgegate, request, standard, trigger, wait_for, wait_until};

fn started() -> (Recorder, Surgegate) {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    (recorder, surgegate)
}

/// Runs a tool that must be there, with this on its standard input, and gives its standard output.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    // A tool that has read enough closes its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} failed: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn curl(arguments: &[&str]) -> String {
    let quiet = ["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--write-out", " %{http_code} %{http_version}"];
    run("curl", &[&quiet, arguments].concat(), b"")
}

/// Waits until the event of this key has arrived.
fn arrives(recorder: &Recorder, key: &str) {
    wait_until(&format!("{key} upstream"), || recorder.events().iter().any(|event| event["key"] == key));
}

#[test]
fn curl_posts_json_under_its_form_label() {
    let (recorder, surgegate) = started();
    let url = format!("http://{}{PATH}", surgegate.ingest());
    let said = curl(&["-d", &trigger("curl-1"), &url]);
    assert!(said.contains(r#""outcome":"created""#) && said.ends_with(" 202 1.1"), "{said}");
    arrives(&recorder, "curl-1");
}

#[test]
fn curl_posts_a_large_body_after_asking_to_continue() {
    let (recorder, surgegate) = started();
    let url = format!("http://{}{PATH}", surgegate.ingest());
    let padding = "x".repeat(20_000);
    let body = format!(r#"{{"message":"m","description":"{padding}","event_id":"curl-2"}}"#);
    let said = curl(&["-H", "Expect: 100-continue", "-d", &body, &url]);
    assert!(said.ends_with(" 202 1.1"), "{said}");
    arrives(&recorder, "curl-2");
}

#[test]
fn curl_speaks_http_2_by_prior_knowledge() {
    let (recorder, surgegate) = started();
    let url = format!("http://{}{PATH}", surgegate.ingest());
    if !curl(&["--version"]).contains("HTTP2") {
        panic!("this curl has no HTTP/2: the test needs one that has");
    }
    let said = curl(&["--http2-prior-knowledge", "-d", &trigger("curl-3"), &url]);
    assert!(said.ends_with(" 202 2"), "{said}");
    let upgraded = curl(&["--http2", "-d", &trigger("curl-4"), &url]);
    assert!(upgraded.contains(" 202 "), "{upgraded}");
    arrives(&recorder, "curl-3");
    arrives(&recorder, "curl-4");
}

#[test]
fn python_posts_with_urlopen() {
    let (recorder, surgegate) = started();
    let script = "import sys, urllib.request\n\
        answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], sys.stdin.buffer.read(), 60)\n\
        print(answer.status, answer.headers['X-Surgegate-Outcome'])";
    let url = format!("http://{}{PATH}", surgegate.ingest());
    assert_eq!(run("python3", &["-c", script, &url], trigger("py-1").as_bytes()), "202 created\n");
    arrives(&recorder, "py-1");
}

#[test]
fn a_chunked_body_is_taken_whatever_its_chunks() {
    let (recorder, surgegate) = started();
    let body = trigger("chunked");
    for size in [1, 7, body.len()] {
        let mut connection = surgegate.connect();
        connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")).unwrap();
        for chunk in body.as_bytes().chunks(size) {
            connection.send([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).unwrap();
        }
        connection.send("0\r\nX-Trailer: 1\r\n\r\n").unwrap();
        assert_eq!(connection.answer().unwrap().status, 202, "chunks of {size}");
        // The connection goes on behind the trailers.
        assert_eq!(connection.post(PATH, &body).unwrap().outcome(), "duplicate");
    }
    arrives(&recorder, "chunked");
}

#[test]
fn a_sender_of_http_1_0_is_answered_and_closed() {
    let (recorder, surgegate) = started();
    let body = trigger("old");
    let mut connection = surgegate.connect();
    connection.send(format!("POST {PATH} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())).unwrap();
    assert_eq!(connection.answer().unwrap().status, 202);
    assert!(connection.next_answer().unwrap().is_none(), "HTTP/1.0 ends after its answer");
    arrives(&recorder, "old");
}

#[test]
fn expect_continue_gets_the_continue_only_for_a_body_that_is_wanted() {
    let (_recorder, surgegate) = started();
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let body = trigger("expect");
    let mut connection = surgegate.connect();
    connection.send(head(PATH, body.len())).unwrap();
    assert_eq!(connection.answer().unwrap().status, 100);
    connection.send(&body).unwrap();
    assert_eq!(connection.answer().unwrap().status, 202);

    let mut connection = surgegate.connect();
    connection.send(head(PATH, 200 * 1024)).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 413, "the final answer in place of the 100");
    assert!(connection.next_answer().unwrap().is_none(), "nothing follows, the connection ends");

    let mut connection = surgegate.connect();
    connection.send(head("/v2/incidents/api/0000000000000000000000000000000000000000", 100)).unwrap();
    assert_eq!(connection.answer().unwrap().status, 404);
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    let (recorder, surgegate) = started();
    let mut pipeline = Vec::new();
    for number in 0..50 {
        // A trailing slash and a query change nothing (contracts, squadcast 1).
        let path = [PATH.to_owned(), format!("{PATH}/"), format!("{PATH}?source=a/b&x=1"), format!("{PATH}/?y")];
        let body = trigger(&format!("p-{number}"));
        pipeline.extend(request("POST", &path[number % path.len()], &["Content-Type: application/json"], body));
    }
    let mut connection = surgegate.connect();
    connection.send(&pipeline).unwrap();
    for number in 0..50 {
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 202, "request {number}: {}", answer.text());
        assert_eq!(answer.json()["event_id"], format!("p-{number}"), "answers in order");
    }
    wait_until("all upstream", || recorder.count() == 50);
}

#[test]
fn a_half_close_after_a_whole_request_still_gets_its_answers() {
    let (recorder, surgegate) = started();
    for close in ["", "Connection: close"] {
        let mut connection = surgegate.connect();
        let mut bytes = request("POST", PATH, &[], trigger("half-1"));
        let fields: &[&str] = if close.is_empty() { &[] } else { &[close] };
        bytes.extend(request("POST", PATH, fields, trigger("half-2")));
        connection.send(bytes).unwrap();
        connection.end_of_requests().unwrap();
        assert_eq!(connection.answer().unwrap().status, 202);
        assert_eq!(connection.answer().unwrap().status, 202);
        assert!(connection.next_answer().unwrap().is_none());
    }
    arrives(&recorder, "half-1");
    arrives(&recorder, "half-2");
}

#[test]
fn http_2_streams_of_one_connection_are_answered_each() {
    let (recorder, surgegate) = started();
    let client = Http2::connect(surgegate.ingest());
    let bodies: Vec<_> = (0..40).map(|number| trigger(&format!("h2-{number}")).into()).collect();
    for (number, answer) in client.post_all(PATH, &bodies).into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json()["event_id"], format!("h2-{number}"));
        assert!(answer.header("x-request-id").is_some());
    }
    wait_until("all upstream", || recorder.count() == 40);
}

#[test]
fn every_answer_carries_its_own_request_id() {
    let (_recorder, surgegate) = started();
    let unknown = "/v2/incidents/api/0000000000000000000000000000000000000000";
    let mut seen = std::collections::HashSet::new();
    let mut statuses = Vec::new();
    for (method, path, body) in [
        ("POST", PATH, trigger("id").as_str()),
        ("POST", PATH, trigger("id").as_str()),
        ("POST", PATH, "{}"),
        ("POST", PATH, "no json"),
        ("POST", unknown, "{}"),
        ("POST", "/", "{}"),
        ("POST", "/nowhere", "{}"),
        ("GET", PATH, ""),
        ("PUT", PATH, "{}"),
        ("DELETE", PATH, ""),
        ("OPTIONS", PATH, ""),
        ("PATCH", PATH, "{}"),
        ("PROPFIND", PATH, ""),
    ] {
        let mut connection = surgegate.connect();
        connection.send(request(method, path, &["Content-Type: application/json"], body)).unwrap();
        let answer = connection.answer().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        assert!(seen.insert(id.to_owned()), "{id} twice");
        assert_eq!(answer.json()["request_id"], id, "{method} {path}");
        assert_eq!(answer.header("allow"), (answer.status == 405).then_some("POST"), "{method} {path}");
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [202, 202, 400, 400, 404, 404, 404, 405, 405, 405, 405, 405, 405]);
}

const DISABLED: &str = "d15ab1ed00000000000000000000000000000000";
const OTHER_DIALECT: &str = "0dd0000000000000000000000000000000000000";
const OTHER_NETWORK: &str = "0e70000000000000000000000000000000000000";
const OLD: &str = "01d0000000000000000000000000000000000000";
const NEW: &str = "4e70000000000000000000000000000000000000";

fn path_of(key: &str) -> String {
    format!("/v2/incidents/api/{key}")
}

#[test]
fn a_known_key_that_may_not_is_told_so_and_an_unknown_one_learns_nothing() {
    let recorder = Recorder::start();
    let integrations = format!(
        "integrations:\n\
         \x20 - {{ name: good, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n\
         \x20 - {{ name: disabled, enabled: false, keys: [{{ key: '{DISABLED}' }}], upstreams: [pager] }}\n\
         \x20 - {{ name: network, source_networks: ['192.0.2.0/24'], keys: [{{ key: '{OTHER_NETWORK}' }}], upstreams: [pager] }}\n"
    );
    let surgegate = Surgegate::start(&[&standard(&recorder), &integrations]);
    assert_eq!(surgegate.post(PATH, trigger("a")).status, 202);
    for key in [DISABLED, OTHER_NETWORK] {
        let answer = surgegate.post(&path_of(key), trigger("a"));
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    // Unknown, malformed, almost right, empty: all alike.
    let unknown = [&"0".repeat(40), "x", &KEY[1..], &KEY.to_uppercase(), &format!("{KEY}0"), "%00", ""];
    let mut answers = std::collections::BTreeSet::new();
    for key in unknown {
        let answer = surgegate.post(&path_of(key), trigger("a"));
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        answers.insert((answer.status, body["status"].to_string()));
        assert_eq!(answer.status, 404, "{key:?}");
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(surgegate.wait_until_delivered().count("events_delivered_total", &[]), 1);
}

#[test]
fn a_key_that_is_not_for_this_dialect_is_told_so() {
    let recorder = Recorder::start();
    for (dialects, status) in [("[squadcast]", 202), ("[]", 403)] {
        let integrations = format!(
            "integrations: [{{ name: other, dialects: {dialects}, keys: [{{ key: '{OTHER_DIALECT}' }}], upstreams: [pager] }}]\n"
        );
        let surgegate = Surgegate::start(&[&standard(&recorder), &integrations]);
        assert_eq!(surgegate.post(&path_of(OTHER_DIALECT), trigger("a")).status, status, "{dialects}");
    }
}

#[test]
fn both_keys_of_a_rotation_name_one_integration() {
    let recorder = Recorder::start();
    let integrations =
        format!("integrations: [{{ name: rotated, keys: [{{ key: '{OLD}' }}, {{ key: '{NEW}' }}], upstreams: [pager] }}]\n");
    let surgegate = Surgegate::start(&[&standard(&recorder), &integrations]);
    let by_old = surgegate.post(&path_of(OLD), trigger("r"));
    let by_new = surgegate.post(&path_of(NEW), trigger("r"));
    assert_eq!((by_old.outcome(), by_new.outcome()), ("created", "duplicate"));
    assert_eq!(by_old.incident(), by_new.incident());
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_body_is_taken_unless_that_is_switched_off() {
    let recorder = Recorder::start();
    let fields = ["Content-Type: application/json", "Content-Encoding: gzip"];
    let zipped = request("POST", PATH, &fields, gzip(trigger("gz").as_bytes()));
    let ask = |surgegate: &Surgegate, bytes: &[u8]| {
        let mut connection: Raw = surgegate.connect();
        connection.send(bytes).unwrap();
        connection.answer().unwrap()
    };
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    assert_eq!(ask(&surgegate, &zipped).status, 202);
    let event = wait_for("the event", || recorder.events().pop());
    assert_eq!(event["raw"], trigger("gz"), "raw is what was decoded");
    for (body, status) in [
        (gzip(&[b' '; 30_721]), 413),
        (gzip(trigger("gz").as_bytes())[..20].to_vec(), 400),
        (b"\x1f\x8b".to_vec(), 400),
    ] {
        assert_eq!(ask(&surgegate, &request("POST", PATH, &fields, body)).status, status);
    }
    let odd = request("POST", PATH, &["Content-Encoding: br"], trigger("br"));
    assert_eq!(ask(&surgegate, &odd).status, 415);
    let off = Surgegate::start(&[&standard(&recorder), "limits: { gzip: false }\n"]);
    assert_eq!(ask(&off, &zipped).status, 415);
}
