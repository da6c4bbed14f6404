//! The command line and the two listeners of those who run it: `validate` and its exit codes, `demo` and the lines it
//! prints, the metrics as promtool sees them, and who may write through the admin listener.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::faults::{Fault, Upstream};
use crate::harness::{
    PATH, Recorder, Surgegate, ask, binary, resolve, signal, standard, trigger, wait_at_most, wait_for, wait_until,
};

/// Runs it to its end: exit code and both streams.
pub fn ran(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = binary(directory, arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

pub fn written(text: &str) -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().unwrap();
    std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
    directory
}

pub const GOOD: &str = "integrations:
  - { name: payments, keys: [{ key: '5ca1ab1e0123456789abcdef0123456789abcdef' }], upstreams: [pager] }
upstreams:
  - { name: pager, kind: webhook, url: 'http://127.0.0.1:1/hook' }
";

#[test]
fn a_valid_configuration_is_found_said_to_be_valid_and_exits_with_0() {
    let directory = written(GOOD);
    let arguments = [&["validate", "--no-environment"][..], &["validate", "--no-environment", "-c", "surgegate.yaml"]];
    for arguments in arguments {
        let (code, said) = ran(directory.path(), arguments);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("the configuration is valid"), "{said}");
    }
    // Nothing was begun.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn every_fault_of_a_configuration_is_said_at_once_with_its_place_and_exits_with_78() {
    let directory = written(
        "listen: { ingest: { address: nowhere } }
integrations:
  - { name: Payments, keys: [], upstreams: [pager] }
upstreams:
  - { name: pager, kind: pigeon, url: 'http://127.0.0.1:1/hook' }
spool: { max_bytes: many }
surprise: 1
",
    );
    for verb in [&["validate"][..], &["run"], &[]] {
        let (code, said) = ran(directory.path(), verb);
        assert_eq!(code, Some(78), "{said}");
        for (what, line) in [
            ("listen.ingest.address", 1),
            ("integrations[0].name", 3),
            ("integrations[0].keys", 3),
            ("upstreams[0].kind", 5),
            ("spool.max_bytes", 6),
            ("surprise", 7),
        ] {
            assert!(said.contains(what), "{what} is not in {said}");
            assert!(said.contains(&format!("surgegate.yaml:{line}:")), "line {line} is not in {said}");
        }
        assert!(said.contains("6 errors"), "{said}");
    }
}

#[test]
fn a_missing_configuration_names_both_places_and_the_demo() {
    let directory = tempfile::TempDir::new().unwrap();
    for verb in [&[][..], &["run"], &["validate"], &["config", "show"]] {
        let (code, said) = ran(directory.path(), verb);
        assert_eq!(code, Some(78), "{said}");
        for name in ["./surgegate.yaml", "/etc/surgegate/surgegate.yaml", "surgegate demo", "surgegate config init"] {
            assert!(said.contains(name), "{name} is not in {said}");
        }
    }
    let (code, said) = ran(directory.path(), &["--config", "absent.yaml"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("absent.yaml"), "{said}");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let directory = tempfile::TempDir::new().unwrap();
    for arguments in [&["--surprise"][..], &["surprise"], &["validate", "--surprise"], &["run", "--config"]] {
        let (code, said) = ran(directory.path(), arguments);
        assert_eq!(code, Some(2), "{said}");
    }
}

#[test]
fn a_spool_that_another_process_holds_exits_with_1_and_says_so() {
    let recorder = Recorder::start();
    let running = Surgegate::start(&[&standard(&recorder)]);
    let mut arguments = vec![];
    for file in running.files() {
        arguments.extend(["--config", file.to_str().unwrap()]);
    }
    let (code, said) = ran(running.files()[0].parent().unwrap(), &arguments);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert_eq!(running.post(PATH, trigger("undisturbed")).status, 202);
}

/// A running demo, and what it has said. Killed when dropped.
struct Demo {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Demo {
    fn start(directory: &Path) -> Self {
        let mut command = binary(directory, &["demo"]);
        // Its spool goes here, and is looked for afterwards.
        command.env("TMPDIR", directory).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let keep = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut block) {
                keep.lock().unwrap().extend_from_slice(&block[..count]);
            }
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Gone already when the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_lines_the_demo_prints_work_when_pasted_and_ctrl_c_ends_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut demo = Demo::start(directory.path());
    wait_until("its lines", || demo.said().contains("Ctrl-C ends the demo"));
    let printed = demo.said();
    let paste = |line: &str| {
        let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains("curl ")).collect();
    let expected = [
        ("202", "created"),
        ("202", "duplicate"),
        ("202", "resolved"),
        ("413", "body_too_large"),
        ("400", "invalid_event"),
    ];
    assert_eq!(lines.len(), expected.len() + 1, "{printed}");
    for (line, (status, word)) in lines.iter().zip(expected) {
        let answer = paste(line);
        // A client that waits for a 100 reads the final answer in its place.
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}\n{answer}");
        assert!(answer.contains(word), "{line}\n{answer}");
    }
    wait_until("the upstream's lines", || demo.said().matches("upstream got").count() == 2);
    let figures = paste(lines[5]);
    assert!(figures.contains("surgegate_events_received_total 5\n"), "{figures}");
    let page = printed
        .split_whitespace()
        .find(|word| word.starts_with("http://") && word.ends_with('/'))
        .expect("the page's address");
    assert!(paste(&format!("curl -s {page}")).contains("<h1>Surgegate"));
    signal("INT", demo.child.id());
    let status = wait_for("its end after Ctrl-C", || demo.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    // It leaves nothing behind.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn promtool_finds_no_fault_in_a_live_scrape() {
    let refuses_one = |arrival: &crate::faults::Arrival| Fault::Answer(if arrival.key == "poison" { 400 } else { 200 });
    let upstream = Upstream::scripted(refuses_one);
    let surgegate = Surgegate::start(&[&crate::crash::configuration(&upstream.url(), "connections: 4")]);
    // Each family has something to show.
    for body in [trigger("a"), trigger("a"), resolve("a"), trigger("poison"), "{".to_owned()] {
        surgegate.post(PATH, body);
    }
    surgegate.post("/v2/incidents/api/nobody", trigger("a"));
    surgegate.wait_until_delivered();
    let page = surgegate.observe("/metrics").unwrap().text();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed; scripts/install-tools.sh installs it");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    // Every name of the interface that needs no Redis and no certificate.
    for name in [
        "events_received_total",
        "events_accepted_total",
        "events_absorbed_total{outcome=\"duplicate\"}",
        "events_rejected_total{reason=\"invalid_json\"}",
        "events_in_flight",
        "events_enqueued_total{upstream=\"pager\"}",
        "events_delivered_total{upstream=\"pager\"}",
        "events_dead_lettered_total",
        "dead_letters{upstream=\"pager\"}",
        "deliveries_repeated_total{upstream=\"pager\"}",
        "spool_events{upstream=\"pager\"}",
        "spool_orphaned_events",
        "spool_bytes",
        "spool_oldest_event_age_seconds{upstream=\"pager\"}",
        "spool_sync_duration_seconds_count",
        "http_requests_total",
        "http_request_duration_seconds_count",
        "http_requests_in_flight",
        "http_connections",
        "upstream_circuit_state{upstream=\"pager\"} 0",
        "delivery_latency_seconds_count{upstream=\"pager\"}",
        "upstream_requests_total",
        "upstream_retries_total{upstream=\"pager\"}",
        "dedup_entries",
        "config_last_reload_successful 1",
        "build_info",
    ] {
        assert!(page.contains(&format!("\nsurgegate_{name}")), "{name} is not in\n{page}");
    }
    assert!(page.contains("\nprocess_resident_memory_bytes"));
}

/// An address of this machine that is not loopback is not to be had everywhere: all of them are asked for instead.
const EVERYWHERE: &str = "listen: { admin: { address: '0.0.0.0:0' } }\n";
const DROP: &str = "/api/v1/dead-letters/pager-999";

/// The admin listener by way of loopback, wherever it listens.
fn admin(surgegate: &Surgegate) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], surgegate.admin_address().port()))
}

#[test]
fn with_a_token_file_writes_need_the_token_and_reads_do_not() {
    let recorder = Recorder::start();
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "correct horse\n").unwrap();
    for address in ["", "address: '0.0.0.0:0', "] {
        let listen = format!("listen: {{ admin: {{ {address}token_file: '{}' }} }}\n", file.display());
        let surgegate = Surgegate::start(&[&standard(&recorder), &listen]);
        let status = |fields: &[&str]| ask(admin(&surgegate), "DELETE", DROP, fields).unwrap().status;
        assert_eq!(status(&[]), 401);
        assert_eq!(status(&["Authorization: Bearer wrong"]), 401);
        assert_eq!(status(&["Authorization: Bearer "]), 401);
        assert_eq!(status(&["Authorization: Basic correct horse"]), 401);
        // Let through to what it asks for, which is not there.
        assert_eq!(status(&["Authorization: Bearer correct horse"]), 404);
        assert_eq!(ask(admin(&surgegate), "GET", "/api/v1/status", &[]).unwrap().status, 200);
    }
}

#[test]
fn without_a_token_file_writes_need_loopback_and_no_foreign_page() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let at = admin(&surgegate);
    let status = |fields: &[&str]| ask(at, "DELETE", DROP, fields).unwrap().status;
    assert_eq!(status(&[]), 404);
    assert_eq!(status(&[&format!("Origin: http://{at}")]), 404);
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"] {
        assert_eq!(status(&[&format!("Origin: {foreign}")]), 403, "{foreign}");
    }
    // A name that was rebound to this machine.
    assert_eq!(status(&["Host: evil.example"]), 403);
    assert_eq!(
        status(&[&format!("Host: evil.example:{}", at.port()), &format!("Origin: http://evil.example:{}", at.port())]),
        403
    );

    let open = Surgegate::start(&[&standard(&recorder), EVERYWHERE]);
    for (method, path) in
        [("DELETE", DROP), ("POST", "/api/v1/dead-letters/replay"), ("POST", "/api/v1/dead-letters/pager-1/replay")]
    {
        assert_eq!(ask(admin(&open), method, path, &[]).unwrap().status, 403, "{method} {path}");
    }
    assert_eq!(ask(admin(&open), "GET", "/api/v1/status", &[]).unwrap().status, 200);
    assert!(open.said().contains("writes are refused"), "a warning tells of it");
}

#[test]
fn the_status_page_has_nothing_inline_and_shows_names_escaped() {
    let upstream = Upstream::scripted(|_| Fault::Answer(400));
    let surgegate = Surgegate::start(&[&crate::crash::configuration(&upstream.url(), "connections: 4")]);
    // The ends of a key are shown.
    let key = "<b>middle</i>";
    assert_eq!(surgegate.post(PATH, trigger(key)).status, 202);
    let page = wait_at_most(Duration::from_secs(30), "the dead letter on the page", || {
        Some(surgegate.admin("/")).filter(|page| page.text().contains("&lt;b***i&gt;"))
    });
    let text = page.text();
    assert!(text.contains("&lt;b***i&gt;"), "{text}");
    assert!(!text.contains("<b*") && !text.contains("i></td"), "{text}");
    let lower = text.to_ascii_lowercase();
    assert_eq!(lower.matches("<script").count(), 1, "{text}");
    assert!(lower.contains("<script src=\"/page.js\" defer></script>"), "{text}");
    for word in ["javascript:", " onload", " onclick", " onerror", "style=\"", "<style", "https://"] {
        assert!(!lower.contains(word), "{word} is in {text}");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(surgegate.admin("/page.css").header("content-type"), Some("text/css; charset=utf-8"));
}

#[test]
fn the_observe_listener_takes_no_writes() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(surgegate.observe(path).unwrap().status, 200);
        assert_eq!(ask(surgegate.observe_address(), "POST", path, &[]).unwrap().status, 405);
    }
    for path in ["/", "/api/v1/status", "/api/v1/dead-letters"] {
        assert_eq!(surgegate.observe(path).unwrap().status, 404);
    }
    let ready = surgegate.observe("/readyz").unwrap().json();
    assert_eq!((&ready["ready"], &ready["durability"]), (&true.into(), &"fsync".into()));
}
