//! Lines of the interface that no other promise shows, each on the running binary: Ctrl-C on a terminal, names of listeners,
//! the forms of the log, what a limit that spools does, what is counted of whom.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::faults::{Fault, Upstream};
use crate::harness::{
    Answer, KEY, PATH, PATIENCE, Raw, Recorder, Reply, Surgegate, ask, binary, resolve, run, signal, standard, trigger,
    wait_for, wait_until,
};

/// One that runs; ended by its own id when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already when the test has ended it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with this configuration on free ports.
fn configured(recorder: &Recorder, more: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    let text = format!(
        "listen:\n  ingest: {{ address: 'localhost:0' }}\n  observe: {{ address: 'localhost:0' }}\n  admin: {{ address: 'localhost:0' }}\n{more}{}",
        standard(recorder)
    );
    std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
    directory
}

/// Reads until these words are there.
fn until(said: &mut impl Read, words: &str) -> String {
    let (mut text, mut block, began) = (String::new(), [0; 4096], Instant::now());
    while !text.contains(words) {
        assert!(began.elapsed() < PATIENCE, "{words:?} is not in {text}");
        let count = said.read(&mut block).unwrap();
        assert!(count > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&block[..count]));
    }
    text
}

/// The command line on a terminal of its own.
fn on_a_terminal(directory: &Path) -> Running {
    let line = format!("exec {} --set shutdown.drain=90s", env!("CARGO_BIN_EXE_surgegate"));
    let child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .current_dir(directory)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux");
    Running(child)
}

#[test]
fn ctrl_c_on_a_terminal_skips_the_drain_and_the_log_is_text_there() {
    let recorder = Recorder::start();
    let directory = configured(&recorder, "");
    let mut running = on_a_terminal(directory.path());
    let mut screen = running.0.stdout.take().unwrap();
    let said = until(&mut screen, "listening");
    assert!(!said.contains("{\""), "lines of JSON on a terminal: {said}");
    let mut keyboard = running.0.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    let began = Instant::now();
    let said = until(&mut screen, "stopped");
    assert!(began.elapsed() < PATIENCE, "it waited for the drain: {:?}", began.elapsed());
    assert!(!said.contains("at once"), "one Ctrl-C stops in order: {said}");
    assert_eq!(wait_for("its end", || running.0.try_wait().unwrap()).code(), Some(0));
}

#[test]
fn the_log_is_json_lines_where_no_terminal_is_and_text_where_that_is_asked_for() {
    let recorder = Recorder::start();
    for (format, is_json) in [("auto", true), ("json", true), ("text", false)] {
        let directory = configured(&recorder, &format!("log: {{ format: {format} }}\nshutdown: {{ drain: 0s }}\n"));
        let mut command = binary(directory.path(), &["run"]);
        let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut said = running.0.stderr.take().unwrap();
        let text = until(&mut said, "listening");
        assert!(text.lines().all(|line| line.starts_with('{') == is_json), "{format}: {text}");
        signal("TERM", running.0.id());
        assert_eq!(wait_for("its end", || running.0.try_wait().unwrap()).code(), Some(0));
    }
}

#[test]
fn localhost_is_an_address_to_listen_on_and_other_names_are_told_to_be_none() {
    let recorder = Recorder::start();
    let directory = configured(&recorder, "shutdown: { drain: 0s }\n");
    let mut command = binary(directory.path(), &[]);
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let said = until(&mut running.0.stderr.take().unwrap(), "listening");
    let line = said.lines().find(|line| line.contains("listening")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}"));
    let ingest = line["ingest"].as_str().unwrap();
    assert!(ingest.starts_with("127.0.0.1:"), "{line}");
    assert_eq!(Raw::connect(ingest.parse().unwrap()).post(PATH, trigger("k")).unwrap().status, 202);
    for (address, hint) in [
        ("gate.example.com:8080", "names are not looked up: write an IP address"),
        (":8080", "0.0.0.0:8080"),
        ("8080", "write an IP address and a port"),
    ] {
        let set = format!("listen.ingest.address={address}");
        let ended = run(binary(directory.path(), &["validate", "--no-environment", "--set", &set]), "");
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let told = ended.out + &ended.err;
        assert!(told.contains("listen.ingest.address: not an address") && told.contains(hint), "{address}: {told}");
    }
}

#[test]
fn an_upstream_without_an_address_of_its_own_is_told_where_to_get_it() {
    let recorder = Recorder::start();
    let directory = configured(&recorder, "");
    let set = format!("upstreams=[{{ name: pager, kind: squadcast, credential: '{KEY}' }}]");
    let ended = run(binary(directory.path(), &["validate", "--no-environment", "--set", &set]), "");
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let told = ended.out + &ended.err;
    assert!(told.contains("upstreams[0].url: missing") && told.contains("no address that fits all"), "{told}");
}

#[test]
fn a_limit_that_spools_accepts_everything_and_paces_what_goes_upstream() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let text = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager], on_limit: spool,\n\
         \x20     rate_limit: {{ events_per_second: 2, burst: 2 }} }}\n\
         upstreams: [{{ name: pager, kind: webhook, url: '{}', rate_limit: {{ requests_per_second: 1000 }} }}]\n",
        upstream.url()
    );
    let surgegate = Surgegate::start(&[&text]);
    const NEW: usize = 8;
    for number in 0..NEW {
        let answer = surgegate.post(PATH, trigger(&format!("k-{number}")));
        assert_eq!((answer.status, answer.outcome()), (202, "created"));
    }
    // Whoever resolves needs no token.
    assert_eq!(surgegate.post(PATH, resolve("k-0")).status, 202);
    surgegate.wait_until_delivered();
    let mut came: Vec<Instant> =
        upstream.arrivals().iter().filter(|arrival| arrival.action == "trigger").map(|arrival| arrival.at).collect();
    came.sort_unstable();
    assert_eq!(came.len(), NEW);
    // Two at once, then two a second: the last is due 3 s behind the first. A busy machine is later, never sooner.
    let took = came[NEW - 1] - came[0];
    assert!(took > Duration::from_millis(2700), "{NEW} in {took:?}");
}

#[test]
fn a_wait_that_is_asked_for_differs_from_sender_to_sender() {
    let recorder = Recorder::start();
    let text = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager], on_limit: reject,\n\
         \x20     rate_limit: {{ events_per_second: 1, burst: 1 }} }}\n\
         upstreams: [{{ name: pager, kind: webhook, url: '{}' }}]\n",
        recorder.url()
    );
    let surgegate = Surgegate::start(&[&text]);
    let refused = |number: usize| surgegate.post(PATH, trigger(&format!("k-{number}")));
    let refused: Vec<Answer> = (0..60).map(refused).filter(|answer| answer.status == 429).collect();
    let earliest = |answer: &Answer| {
        let limit = answer.header("ratelimit").unwrap();
        limit.rsplit_once("t=").unwrap().1.parse().unwrap()
    };
    differ(refused.iter().map(|answer| (answer, earliest(answer))));
}

#[test]
fn a_wait_that_a_full_spool_asks_for_differs_too() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let surgegate = Surgegate::start(&[&standard(&recorder), "spool: { max_bytes: 16MiB }\n"]);
    let mut connection = surgegate.connect();
    let large =
        |number: usize| format!(r#"{{"message":"m","description":"{}","event_id":"k-{number}"}}"#, "x".repeat(20_000));
    let mut refused = vec![];
    for number in 0.. {
        let answer = connection.post(PATH, large(number)).unwrap();
        if answer.status == 503 {
            refused.push(answer);
        }
        if refused.len() == 60 {
            break;
        }
        assert!(number < 10_000, "it never fills");
    }
    differ(refused.iter().map(|answer| (answer, 1)));
}

/// Answers with the earliest second at which to come again: none asks for less or for much more, and not all for the same.
fn differ<'a>(answers: impl Iterator<Item = (&'a Answer, u64)>) {
    let waits: BTreeSet<(u64, u64)> = answers
        .map(|(answer, earliest)| {
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!(earliest >= 1 && wait >= earliest, "{answer:?}");
            assert!(wait <= earliest + (earliest / 2).max(1), "half as long again at most: {answer:?}");
            (earliest, wait)
        })
        .collect();
    let all_differ = waits.iter().all(|(earliest, _)| waits.iter().filter(|(other, _)| other == earliest).count() > 1);
    assert!(!waits.is_empty() && all_differ, "all come back together: {waits:?}");
}

#[test]
fn whoever_asks_at_the_wrong_port_is_told_which_one_is_right() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let (ingest, observe, admin) = (surgegate.ingest(), surgegate.observe_address(), surgegate.admin_address());
    for (at, method, path, wanted) in [
        (ingest, "GET", "/metrics", "listen.observe.address"),
        (ingest, "GET", "/livez", "listen.observe.address"),
        (ingest, "GET", "/readyz/", "listen.observe.address"),
        (ingest, "GET", "/healthz", "/livez"),
        (ingest, "GET", "/", "listen.admin.address"),
        (ingest, "GET", "/api/v1/status", "listen.admin.address"),
        (ingest, "POST", "/api/v1/reload", "listen.admin.address"),
        (ingest, "POST", "/v2/incident/api/k", "/v2/incidents/api/KEY"),
        (observe, "GET", "/api/v1/status", "listen.admin.address"),
        (observe, "GET", "/", "listen.admin.address"),
        (observe, "GET", PATH, "listen.ingest.address"),
        (admin, "GET", "/metrics", "listen.observe.address"),
        (admin, "POST", PATH, "listen.ingest.address"),
    ] {
        let answer = ask(at, method, path, &[]).unwrap();
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 404 && message.contains(wanted), "{method} {path}: {}", answer.text());
        // Who may only send is not told where the others stand.
        assert!(
            !message.contains(&format!(":{}", observe.port())) && !message.contains(&admin.port().to_string()),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_key_counts_as_a_request_alone_and_a_broken_body_as_an_event_rejected() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let requests =
        |code: &str| surgegate.scrape().count("http_requests_total", &[("dialect", "squadcast"), ("code", code)]);
    let events = || {
        let scrape = surgegate.scrape();
        ["events_received_total", "events_accepted_total", "events_absorbed_total", "events_rejected_total"]
            .map(|name| scrape.count(name, &[]))
    };
    assert_eq!(surgegate.post(&PATH.replace("5ca1ab1e", "deadbeef"), trigger("k")).status, 404);
    assert_eq!((requests("404"), events()), (1, [0; 4]));
    assert_eq!(surgegate.post(PATH, "{").status, 400);
    assert_eq!((requests("400"), events()), (1, [1, 0, 0, 1]));
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    assert_eq!((requests("202"), events()), (2, [4 - 1, 1, 1, 1]));
    wait_until("its delivery", || recorder.count() == 1);
    surgegate.wait_until_delivered().assert_books_balance();
}
