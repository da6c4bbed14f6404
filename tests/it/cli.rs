//! The small verbs and the exit codes of INTERFACE 2 from outside: keys that work, a probe that tells the truth, starts
//! that fail with a text that says what to do, and output that nobody reads. The texts themselves stand in
//! `tests/command_line`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::{Ended, Recorder, Surgegate, TlsServer, binary, run, signal, trigger, wait_until};

fn ran(arguments: &[&str]) -> Ended {
    let directory = TempDir::new().unwrap();
    run(binary(directory.path(), arguments), "")
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The words behind a name at the begin of a line.
fn after<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect()
}

#[test]
fn a_generated_key_works_when_its_line_is_pasted() {
    let ended = ran(&["keys", "generate", "--count", "3"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let keys = after(&ended.out, "key  ");
    let mut unlike = keys.clone();
    unlike.sort_unstable();
    unlike.dedup();
    assert_eq!(unlike.len(), 3, "{ended:?}");
    assert!(
        keys.iter().all(|key| key.len() == 40 && key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    );
    let hashes: Vec<String> = keys.iter().map(|key| sha256(key)).collect();
    assert_eq!(after(&ended.out, "key_sha256"), hashes);

    let recorder = Recorder::start();
    let pasted = after(&ended.out, "paste")[0];
    let surgegate = Surgegate::start(&[&format!(
        "integrations:\n  - name: payments\n    {pasted}\n    upstreams: [pager]\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )]);
    assert_eq!(surgegate.post(&format!("/v2/incidents/api/{}", keys[0]), trigger("pasted")).status, 202);
    assert_eq!(surgegate.post(&format!("/v2/incidents/api/{}", keys[1]), trigger("not")).status, 404);
}

#[test]
fn a_file_without_its_flag_and_a_flag_before_its_verb_are_told_what_to_write() {
    let file = ran(&["surgegate.yaml"]);
    assert!(file.code == Some(2) && file.err.contains("tip: a configuration is named with --config FILE"), "{file:?}");
    let before = ran(&["--config", "surgegate.yaml", "validate"]);
    assert!(before.code == Some(2) && before.err.contains("surgegate VERB --config FILE"), "{before:?}");
    let other = ran(&["dead-letter"]);
    assert!(other.err.contains("'dead-letters'") && !other.err.contains("--config FILE"), "{other:?}");
}

#[test]
fn a_key_is_hashed_from_standard_input_and_never_taken_as_an_argument() {
    let directory = TempDir::new().unwrap();
    for (input, key) in [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n")] {
        let ended = run(binary(directory.path(), &["keys", "hash"]), input);
        assert_eq!((ended.code, ended.out.trim_end()), (Some(0), sha256(key).as_str()), "{input:?}");
    }
    for input in ["", "\n"] {
        assert_eq!(run(binary(directory.path(), &["keys", "hash"]), input).code, Some(2), "{input:?}");
    }
    let ended = run(binary(directory.path(), &["keys", "hash"]), &"k".repeat(65 << 10));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let ended = ran(&["keys", "hash", "5ca1ab1e"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(!ended.err.contains("5ca1ab1e") && ended.err.contains("standard input"), "{ended:?}");
}

fn probe(url: &str, timeout: &str) -> Ended {
    ran(&["probe", url, "--timeout", timeout])
}

/// A server that sends its one client elsewhere.
fn redirecting(to: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    at
}

#[test]
fn a_probe_exits_with_0_on_2xx_1_on_others_and_75_without_a_connection() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&crate::harness::standard(&recorder)]);
    let at = surgegate.observe_address();
    let ended = probe(&format!("http://{at}/livez"), "60s");
    assert_eq!((ended.code, ended.out), (Some(0), format!("{at} answers 200 OK\n")));
    let ended = probe(&format!("http://user:hidden@{at}/absent"), "60s");
    assert_eq!((ended.code, ended.out), (Some(1), format!("{at} answers 404 Not Found\n")));

    let ended = probe(&format!("http://{}/", redirecting(format!("http://{at}/livez"))), "60s");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("302 Found (redirects are not followed)"), "{ended:?}");

    // Taken and given back: nothing listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = probe(&format!("http://{nobody}/"), "60s");
    assert_eq!((ended.code, ended.out.as_str()), (Some(75), ""));
    assert_eq!(ended.err, format!("{nobody}: connection refused: nothing listens there\n"));
    let ended = probe(&format!("https://localhost:{}/", TlsServer::start().address.port()), "60s");
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.err.contains("no public authority has issued it"), "{ended:?}");
}

#[test]
fn a_probe_of_a_server_that_is_silent_ends_with_1_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let ended = probe(&format!("http://{at}/"), "200ms");
    assert_eq!((ended.code, ended.err), (Some(1), format!("{at}: no answer within 200ms\n")));
}

const GOOD: &str = "integrations:
  - { name: payments, keys: [{ key: '5ca1ab1e0123456789abcdef0123456789abcdef' }], upstreams: [pager] }
upstreams:
  - { name: pager, kind: webhook, url: 'http://127.0.0.1:1/hook' }
";

/// A directory with a configuration that listens on free ports, except where `ingest` says.
fn configured(ingest: &str, format: &str, rest: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    let listen = format!(
        "listen: {{ ingest: {{ address: '{ingest}' }}, observe: {{ address: '127.0.0.1:0' }}, admin: {{ address: '127.0.0.1:0' }} }}\n"
    );
    let text = format!("{listen}log: {{ format: {format} }}\n{rest}{GOOD}");
    std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
    directory
}

#[test]
fn a_start_on_a_port_that_is_taken_says_who_has_it_and_leaves_the_spool_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let directory = configured(&at.to_string(), "text", "");
    let ended = run(binary(directory.path(), &[]), "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let (first, second) = ended.err.split_once('\n').unwrap();
    assert!(first.starts_with(&format!("surgegate: cannot listen on {at} (ingest): address in use: ")), "{first}");
    assert!(first.contains(&format!("(process {}) has it", std::process::id())), "{first}");
    assert_eq!(second, "  stop that process, or change listen.ingest.address\n");
    assert!(!directory.path().join("data").exists(), "the log was touched");

    // For machines it is one line of the log and nothing else.
    let directory = configured(&at.to_string(), "json", "");
    let ended = run(binary(directory.path(), &[]), "");
    let line: serde_json::Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("ERROR"), Some("cannot start")));
    assert!(line["error"].as_str().unwrap().contains("address in use"), "{line}");
    assert!(line["hint"].as_str().unwrap().contains("listen.ingest.address"), "{line}");
}

#[test]
fn a_start_without_its_spool_says_what_to_do() {
    let directory = configured("127.0.0.1:0", "text", "spool: { directory: taken }\n");
    std::fs::write(directory.path().join("taken"), "a file").unwrap();
    let ended = run(binary(directory.path(), &[]), "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("the spool cannot be opened: taken"), "{ended:?}");
    assert!(ended.err.contains("move it away, or change spool.directory"), "{ended:?}");
    assert!(!ended.err.contains("panicked"), "{ended:?}");
}

/// Runs with a standard output that nobody reads any more.
fn unread(directory: &Path, arguments: &[&str]) -> Ended {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = binary(directory, arguments);
    let output = command.stdout(Stdio::from(writer)).stderr(Stdio::piped()).output().unwrap();
    Ended { code: output.status.code(), out: String::new(), err: String::from_utf8_lossy(&output.stderr).into_owned() }
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is() {
    let directory = configured("127.0.0.1:0", "text", "");
    for arguments in [
        &["man"][..],
        &["completions", "bash"],
        &["version"],
        &["version", "--json"],
        &["keys", "generate"],
        &["validate", "--no-environment"],
        &["validate", "--no-environment", "--format", "json"],
        &["--help"],
    ] {
        let ended = unread(directory.path(), arguments);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
        if arguments != ["--help"] {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = binary(directory.path(), arguments).stdout(Stdio::from(full)).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?} on a full disk");
        }
    }
}

#[test]
fn a_demo_whose_reader_went_away_goes_on() {
    let directory = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = binary(directory.path(), &["demo"]);
    command.env("TMPDIR", directory.path()).stdout(Stdio::from(writer)).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Said just before it prints its lines, which nobody gets.
    assert!(said.any(|line| line.contains("\"listening\"")), "it ended before it listened");
    signal("TERM", child.id());
    let rest: Vec<String> = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
}

#[test]
fn an_upstream_that_is_down_is_told_in_the_log_at_its_first_event_and_not_at_each_attempt() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let surgegate = Surgegate::start(&[&GOOD.replace("127.0.0.1:1/", &format!("{nobody}/"))]);
    assert_eq!(surgegate.post(crate::harness::PATH, trigger("first")).status, 202);
    wait_until("three attempts", || surgegate.scrape().count("upstream_retries_total", &[]) >= 3);
    let said = surgegate.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("a delivery failed; the event is kept")).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(told[0].contains("\"upstream\":\"pager\"") && told[0].contains("Connection refused"), "{}", told[0]);
}
