//! I5: 10,000 planted secrets, and none of them in logs at their loudest, metrics, answers, dead letters, the
//! spool or the status page. The key stands in the path, so every layer that names a path could tell it.

mod every_key;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;

use crate::harness::{
    Http2, Recorder, Reply, Surgegate, alone, binary, request, resolve, run, seed, trigger, wait_until,
};

const UNKNOWN: usize = 9_400;
const INTEGRATIONS: usize = 250;
const UPSTREAMS: usize = 100;
/// Every secret has this many lower-case hex digits.
const DIGITS: usize = 40;

struct Planted {
    random: Rng,
    all: HashSet<String>,
}

impl Planted {
    fn plant(&mut self) -> String {
        let secret: String = (0..DIGITS).map(|_| self.random.digit(16)).collect();
        self.all.insert(secret.clone());
        secret
    }

    /// The secrets that occur in these bytes, in either case.
    fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
            if run >= DIGITS {
                let digits = String::from_utf8_lossy(&bytes[at + 1 - DIGITS..=at]).to_ascii_lowercase();
                if self.all.contains(&digits) {
                    found.push(digits);
                }
            }
        }
        found
    }

    fn assert_none_in(&self, place: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        let line = found.first().map(|secret| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().find(|line| line.contains(secret)).unwrap_or_default().chars().take(400).collect::<String>()
        });
        assert!(found.is_empty(), "{} secrets in {place}, the first here: {line:?}", found.len());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn no_planted_secret_is_told_anywhere() {
    let _alone = alone();
    let mut planted = Planted { random: Rng::with_seed(seed()), all: HashSet::new() };
    // Some deliveries fail for good, some for now: what is logged of them counts.
    let recorder = Recorder::scripted({
        let mut number = 0;
        move |_| {
            number += 1;
            match number % 7 {
                0 => Reply::Status(404),
                1 => Reply::Cut,
                _ => Reply::Status(200),
            }
        }
    });
    let mut configuration = "integrations:\n".to_owned();
    let mut keys = Vec::new();
    for number in 0..INTEGRATIONS {
        let (old, new) = (planted.plant(), planted.plant());
        let upstream = number % UPSTREAMS;
        configuration += &format!(
            "  - {{ name: i-{number}, keys: [{{ key: '{old}' }}, {{ key: '{new}' }}], upstreams: [u-{upstream}] }}\n"
        );
        keys.extend([old, new]);
    }
    configuration += "upstreams:\n";
    let mut credentials = HashSet::new();
    for number in 0..UPSTREAMS {
        let credential = planted.plant();
        credentials.insert(credential.clone());
        let kind = if number % 2 == 0 { "webhook" } else { "squadcast" };
        let url = recorder.url();
        configuration += &format!(
            "  - {{ name: u-{number}, kind: {kind}, url: '{url}', credential: '{credential}', rate_limit: {{ requests_per_second: 1000 }} }}\n"
        );
    }
    let surgegate = Surgegate::start(&[&configuration, "log: { level: trace }\n"]);
    let mut answers = Vec::new();

    let unknown: Vec<String> = (0..UNKNOWN).map(|_| planted.plant()).collect();
    let mut connection = surgegate.connect();
    for (number, key) in unknown.iter().enumerate() {
        let path = match number % 6 {
            0 => format!("/v2/incidents/api/{key}"),
            1 => format!("/v1/incidents/create/{key}/"),
            2 => format!("/v2/incidents/api/{key}/more?token={key}"),
            3 => format!("/{key}"),
            4 => format!("/v2/incidents/prometheus/{key}"),
            _ => format!("/v2/incidents/api/{}", key.to_uppercase()),
        };
        let method = if number % 10 == 9 { "GET" } else { "POST" };
        let authorization = format!("Authorization: Bearer {key}");
        connection
            .send(request(method, &path, &[&authorization, "Content-Type: application/json"], trigger("x")))
            .unwrap();
        let answer = connection.answer().unwrap();
        assert!(matches!(answer.status, 404 | 405), "{}", answer.text());
        answers.extend(format!("{:?}{}", answer.headers, answer.text()).into_bytes());
        if answer.header("connection") == Some("close") {
            connection = surgegate.connect();
        }
    }
    // HTTP/2's own library logs too.
    let mut by_h2 = Http2::connect(surgegate.ingest());
    for key in unknown.iter().take(50).chain(keys.iter().take(50)) {
        let path = format!("/v2/incidents/api/{key}");
        let answer = by_h2.post(&path, trigger("h2")).unwrap_or_else(|_| {
            // So many unknown keys: the connection was told to go.
            by_h2 = Http2::connect(surgegate.ingest());
            by_h2.post(&path, trigger("h2")).unwrap()
        });
        answers.extend(format!("{:?}{}", answer.headers, answer.text()).into_bytes());
    }
    for (number, key) in keys.iter().enumerate() {
        let mut connection = surgegate.connect();
        let path = format!("/v2/incidents/api/{key}");
        for body in [
            trigger(&format!("k-{number}")),
            resolve(&format!("k-{number}")),
            "{}".into(),
            "no json".into(),
            " ".repeat(40_000),
        ] {
            let answer = connection.post(&path, body).unwrap();
            answers.extend(format!("{:?}{}", answer.headers, answer.text()).into_bytes());
        }
        // Broken in the head, with the key in it.
        let mut broken = surgegate.connect();
        broken
            .send(format!("POST {path} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"))
            .unwrap();
        let mut cut = surgegate.connect();
        cut.send(format!("POST {path} HTT")).unwrap();
    }
    assert_eq!(planted.all.len(), UNKNOWN + 2 * INTEGRATIONS + UPSTREAMS);
    wait_until("some deliveries", || recorder.count() > 300);
    wait_until("some dead letters", || surgegate.scrape().count("dead_letters", &[]) > 10);
    surgegate.scrape().assert_books_balance();

    // What the search can find: it is not blind, and the log is as loud as it gets.
    assert_eq!(planted.found_in(format!("x{}y", keys[0]).as_bytes()).len(), 1);
    assert!(surgegate.said().contains("\"TRACE\""), "nothing logged at trace");

    planted.assert_none_in("the answers", &answers);
    planted.assert_none_in("the metrics", &surgegate.observe("/metrics").unwrap().body);
    planted.assert_none_in("/readyz", &surgegate.observe("/readyz").unwrap().body);
    for path in [
        "/",
        "/api/v1/status",
        "/api/v1/dead-letters",
        "/api/v1/dead-letters/groups",
        "/api/v1/events?integration=i-0&key=k-0",
    ] {
        let answer = surgegate.admin(path);
        assert_eq!(answer.status, 200, "{path}");
        planted.assert_none_in(path, &answer.body);
    }
    let dead = surgegate.admin("/api/v1/dead-letters").json();
    let rows = dead.as_array().or_else(|| dead.as_object()?.values().find_map(|value| value.as_array()));
    for row in rows.unwrap_or_else(|| panic!("no rows in {dead}")).iter().take(20) {
        let event = surgegate.admin(&format!("/api/v1/events/{}", row["event_uid"].as_str().unwrap()));
        assert_eq!(event.status, 200);
        planted.assert_none_in("an event's history", &event.body);
        let letter = surgegate.admin(&format!("/api/v1/dead-letters/{}", row["id"].as_str().unwrap()));
        assert_eq!(letter.status, 200);
        planted.assert_none_in("a dead letter", &letter.body);
    }
    planted.assert_none_in("the log", surgegate.said().as_bytes());
    for path in files(&surgegate.spool()) {
        planted.assert_none_in(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
    // An upstream gets its own credential and nothing else: no body, no header of a sender holds a key.
    let (mut paths, mut rest) = (HashSet::new(), Vec::new());
    for request in recorder.requests() {
        paths.extend(planted.found_in(request.path.as_bytes()));
        rest.extend_from_slice(&request.body);
        rest.extend_from_slice(format!("\n{:?}\n", request.headers).as_bytes());
        assert!(request.path != "/hook" || request.headers.contains_key("webhook-signature"), "{:?}", request.headers);
    }
    planted.assert_none_in("what upstreams got", &rest);
    assert!(
        paths.is_subset(&credentials) && !paths.is_empty(),
        "{} of {} are in paths",
        paths.len(),
        credentials.len()
    );
}

#[test]
fn a_wrong_configuration_is_reported_without_its_secrets() {
    let mut planted = Planted { random: Rng::with_seed(seed()), all: HashSet::new() };
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("wrong.yaml");
    let (key, other, credential) = (planted.plant(), planted.plant(), planted.plant());
    for configuration in [
        format!(
            "integrations: [{{ name: A, keys: [{{ key: '{key}' }}], upstreams: [none] }}]\nupstreams: [{{ name: u, kind: odd, credential: '{credential}' }}]\n"
        ),
        format!("integrations: [{{ name: a, keys: [{{ key: '{key}', key: '{other}' }}], upstreams: [] }}]\n"),
        format!(
            "integrations: [{{ name: a, keys: ['{key}'], keyz: '{other}', upstreams: [u] }}]\nupstreams: {credential}\n"
        ),
        format!(
            "integrations:\n  - keys: [{{ key: '{key}' }}, {{ key: '{key}' }}, {{ key: '{other}' }}]\n bad indent: '{credential}'\n"
        ),
        format!(
            "integrations: [{{ name: a, keys: [{{ key_sha256: '{key}' }}], upstreams: [u] }}]\nupstreams: [{{ name: u, kind: webhook, url: 'https://user:{credential}@h/{other}' }}]\n"
        ),
    ] {
        std::fs::write(&path, &configuration).unwrap();
        for verb in ["run", "validate"] {
            let output =
                Command::new(env!("CARGO_BIN_EXE_surgegate")).arg(verb).arg("--config").arg(&path).output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{configuration}");
            assert!(!output.stderr.is_empty());
            planted.assert_none_in("standard error", &output.stderr);
            planted.assert_none_in("standard output", &output.stdout);
        }
    }
}

/// What a flag sets is shown where it is wrong, as a file's line is: never what may be secret.
#[test]
fn a_secret_in_a_flag_is_shown_by_no_error() {
    const SECRET: &str = "hunter2-of-the-flag";
    let folder = tempfile::tempdir().unwrap();
    let text = "integrations: [{ name: a, keys: [{ key: '0123456789abcdef0123456789abcdef01234567' }], upstreams: [u] }]\n\
        upstreams: [{ name: u, kind: stdout }]\n";
    std::fs::write(folder.path().join("surgegate.yaml"), text).unwrap();
    for (key, value) in [
        ("redis.url", format!("redis://:{SECRET}@127.0.0.1:1")),
        ("redis.url", format!("redis://:{SECRET}@127.0.0.1:1/abc")),
        ("redis.url", format!("[redis://:{SECRET}@127.0.0.1:1/abc]")),
        ("redis.sentinel_password", SECRET.to_owned()),
        ("upstreams", format!("[{{ name: u, kind: webhook, url: 'nowhere', credential: {SECRET} }}]")),
    ] {
        let set = format!("{key}={value}");
        for verb in [&["validate"][..], &["validate", "--format", "json"], &["config", "show", "--origin"]] {
            let ended = run(binary(folder.path(), &[verb, &["--set", &set]].concat()), "");
            let said = ended.out + &ended.err;
            assert!(!said.is_empty() && !said.contains(SECRET), "{verb:?} --set {key}: {said}");
        }
    }
}
