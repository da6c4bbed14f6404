//! `validate` against a real environment: ports, upstreams, certificates, files of keys, the spool and its room, the
//! limit of descriptors; what is a warning and what an error; and that it changes nothing.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::tls::Authority;
use crate::harness::{Ended, KEY, PATH, Recorder, Surgegate, TlsServer, binary, run, standard, trigger};

/// One line of YAML a key, so that findings can be told by their lines.
struct Setup {
    ingest: String,
    key: String,
    url: String,
    spool: String,
    limits: String,
}

impl Setup {
    /// Finds nothing wrong beside this upstream.
    fn with(url: &str) -> Self {
        Self {
            ingest: "127.0.0.1:0".to_owned(),
            key: format!("key: '{KEY}'"),
            url: url.to_owned(),
            spool: "directory: spool, max_bytes: 64MiB".to_owned(),
            limits: "{}".to_owned(),
        }
    }

    fn write(&self) -> TempDir {
        let Self { ingest, key, url, spool, limits } = self;
        let text = format!(
            "listen:\n  ingest: {{ address: '{ingest}' }}\n  observe: {{ address: '127.0.0.1:0' }}\n  admin: {{ address: '127.0.0.1:0' }}\n\
             limits: {limits}\nspool: {{ {spool} }}\n\
             integrations: [{{ name: payments, keys: [{{ {key} }}], upstreams: [pager] }}]\n\
             upstreams: [{{ name: pager, kind: webhook, url: '{url}' }}]\n"
        );
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("surgegate.yaml"), text).unwrap();
        directory
    }
}

/// What a run for machines found.
struct Verdict {
    code: Option<i32>,
    whole: Value,
}

impl Verdict {
    fn of(ended: &Ended) -> Self {
        let whole = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!(ended.err, "", "beside the JSON");
        Self { code: ended.code, whole }
    }

    /// The one finding of this code; kinds of file systems differ with the machine and are nobody's here.
    fn only(&self, code: &str) -> &Value {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{:#}", self.whole);
        assert_eq!(findings[0]["code"], code, "{:#}", self.whole);
        findings[0]
    }

    fn findings(&self) -> Vec<&Value> {
        let all = self.whole["findings"].as_array().unwrap();
        all.iter().filter(|finding| finding["code"] != "file_system").collect()
    }
}

fn validate(directory: &Path, more: &[&str]) -> Verdict {
    let arguments = [&["validate", "--format", "json"], more].concat();
    Verdict::of(&run(binary(directory, &arguments), ""))
}

/// Nobody listens there: it was taken and given back.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push((path, entry.metadata().unwrap().len()));
    }
    found.sort();
    found
}

#[test]
fn what_is_as_it_should_be_is_valid_and_nothing_is_changed() {
    let recorder = Recorder::start();
    let directory = Setup::with(&recorder.url()).write();
    let before = files(directory.path());
    let verdict = validate(directory.path(), &["--strict"]);
    assert_eq!((verdict.code, &verdict.whole["valid"]), (Some(0), &true.into()), "{:#}", verdict.whole);
    assert!(verdict.findings().is_empty(), "{:#}", verdict.whole);
    assert_eq!(files(directory.path()), before);
    assert_eq!(recorder.count(), 0, "a request was sent");
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_warning_and_75_where_that_is_asked_for() {
    let at = nobody();
    let directory = Setup::with(&format!("http://{at}/v2/hidden-key")).write();
    let verdict = validate(directory.path(), &[]);
    assert_eq!((verdict.code, &verdict.whole["valid"]), (Some(0), &true.into()));
    let finding = verdict.only("upstream_unreachable");
    assert_eq!((&finding["level"], &finding["line"]), (&"warning".into(), &8.into()), "{finding:#}");
    let message = finding["message"].as_str().unwrap();
    assert_eq!(
        message,
        format!("upstreams[0].url: cannot be reached: {at}: connection refused: nothing listens there")
    );
    assert!(!verdict.whole.to_string().contains("hidden-key"), "{:#}", verdict.whole);

    assert_eq!(validate(directory.path(), &["--strict"]).code, Some(75));
    assert_eq!(validate(directory.path(), &["--strict", "--no-environment"]).code, Some(0));
    let text = run(binary(directory.path(), &["validate", "--strict"]), "");
    assert_eq!(text.code, Some(75), "{text:?}");
    assert!(text.err.contains("warning: upstreams[0].url: cannot be reached"), "{text:?}");
    assert!(text.out.contains("the configuration is valid; "), "{text:?}");
}

#[test]
fn a_name_that_nobody_has_is_told_as_that() {
    let directory = Setup::with("http://no-such-host.invalid/hook").write();
    let verdict = validate(directory.path(), &[]);
    let message = verdict.only("upstream_unreachable")["message"].to_string();
    // Where there is no name server at all it is asked for until the time is over.
    assert!(message.contains("no-such-host.invalid") && verdict.code == Some(0), "{message}");
}

#[test]
fn a_certificate_that_is_refused_is_an_error() {
    let server = TlsServer::start();
    let directory = Setup::with(&format!("https://localhost:{}/hook", server.address.port())).write();
    let verdict = validate(directory.path(), &[]);
    assert_eq!(verdict.code, Some(78), "{:#}", verdict.whole);
    let finding = verdict.only("upstream_certificate");
    assert!(finding["message"].as_str().unwrap().contains("no public authority has issued it"), "{finding:#}");
}

#[test]
fn a_port_that_is_taken_names_who_has_it_and_where_it_is_written() {
    let recorder = Recorder::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let directory = Setup { ingest: at.to_string(), ..Setup::with(&recorder.url()) }.write();
    let verdict = validate(directory.path(), &[]);
    assert_eq!((verdict.code, &verdict.whole["valid"]), (Some(78), &false.into()));
    let finding = verdict.only("address_in_use");
    assert_eq!((&finding["line"], &finding["column"]), (&2.into(), &22.into()), "{finding:#}");
    assert!(finding["snippet"].as_str().unwrap().contains(&at.to_string()), "{finding:#}");
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");

    let directory = Setup { ingest: "192.0.2.1:8080".to_owned(), ..Setup::with(&recorder.url()) }.write();
    let verdict = validate(directory.path(), &[]);
    assert_eq!(verdict.code, Some(78));
    assert!(verdict.only("address")["message"].as_str().unwrap().contains("not an address of this machine"));
}

#[test]
fn the_addresses_of_the_proxy_that_runs_on_the_spool_are_not_taken() {
    let recorder = Recorder::start();
    let running = Surgegate::start(&[&standard(&recorder), "spool: { max_bytes: 64MiB }\n"]);
    let (ingest, spool) = (running.ingest().to_string(), running.spool().display().to_string());
    let beside =
        Setup { spool: format!("directory: '{spool}', max_bytes: 64MiB"), ingest, ..Setup::with(&recorder.url()) };
    let verdict = validate(beside.write().path(), &["--strict"]);
    assert_eq!(verdict.code, Some(0), "{:#}", verdict.whole);
    assert!(verdict.findings().is_empty(), "{:#}", verdict.whole);
    assert!(verdict.whole["notes"][0].as_str().unwrap().contains(&format!("process {}", running.pid())));
    // On another spool it would be another proxy.
    let other = Setup { spool: "directory: spool, max_bytes: 64MiB".to_owned(), ..beside };
    assert_eq!(validate(other.write().path(), &[]).only("address_in_use")["level"], "error");
    assert_eq!(running.post(PATH, trigger("undisturbed")).status, 202);
}

#[test]
fn a_file_of_a_key_that_everyone_can_read_is_a_warning() {
    let recorder = Recorder::start();
    let directory = Setup { key: "key_file: payments.key".to_owned(), ..Setup::with(&recorder.url()) }.write();
    let path = directory.path().join("payments.key");
    std::fs::write(&path, KEY).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    // It does not pass by itself, and is no error.
    let verdict = validate(directory.path(), &["--strict"]);
    assert_eq!(verdict.code, Some(0));
    assert!(verdict.only("secret_mode")["message"].as_str().unwrap().contains("(mode 0644)"), "{:#}", verdict.whole);
    mode(0o640);
    assert!(validate(directory.path(), &[]).findings().is_empty());
}

#[test]
fn an_admin_token_that_can_be_guessed_is_a_warning_here_and_at_a_start() {
    let recorder = Recorder::start();
    let directory = Setup::with(&recorder.url()).write();
    let token = directory.path().join("token");
    let set = format!("listen.admin.token_file={}", token.display());
    let write = |text: &str| {
        std::fs::write(&token, text).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    for weak in ["hunter2", "fifteen-charact", "aaaaaaaabbbbbbbbaaaaaaaabbbbbbbb"] {
        write(weak);
        let verdict = validate(directory.path(), &["--strict", "--set", &set]);
        assert_eq!(verdict.code, Some(0));
        let finding = verdict.only("weak_token");
        assert_eq!(finding["level"], "warning");
        assert!(!verdict.whole.to_string().contains(weak), "{:#}", verdict.whole);
    }
    write("5ca1ab1e01234567");
    assert!(validate(directory.path(), &["--set", &set]).findings().is_empty());
    write("hunter2");
    let listen = format!("listen: {{ admin: {{ token_file: '{}' }} }}\n", token.display());
    let surgegate = Surgegate::start(&[&standard(&recorder), &listen]);
    assert!(surgegate.is_said("listen.admin.token_file: a token that can be guessed"));
    assert!(!surgegate.said().contains("hunter2"));
}

#[test]
fn a_spool_that_cannot_be_made_is_an_error_and_one_without_room_is_a_warning() {
    let recorder = Recorder::start();
    let with = |spool: &str| Setup { spool: spool.to_owned(), ..Setup::with(&recorder.url()) }.write();
    let directory = with("directory: taken/spool, max_bytes: 64MiB");
    std::fs::write(directory.path().join("taken"), "a file").unwrap();
    let verdict = validate(directory.path(), &[]);
    assert_eq!(verdict.code, Some(78), "{:#}", verdict.whole);
    assert!(verdict.only("spool")["message"].as_str().unwrap().contains("taken/spool cannot be made"));

    // Where the kernel shows itself permissions say nothing: root may write there, and nothing can be made.
    for directory in ["/proc", "/proc/surgegate", "/sys/kernel/spool/of/ours"] {
        let verdict = validate(with(&format!("directory: {directory}, max_bytes: 64MiB")).path(), &[]);
        assert_eq!(verdict.code, Some(78), "{:#}", verdict.whole);
        assert_eq!(verdict.only("spool")["line"], 6, "{:#}", verdict.whole);
    }

    let directory = with("directory: spool, max_bytes: 4096GiB");
    assert_eq!(validate(directory.path(), &[]).only("space")["level"], "warning");
    assert_eq!(validate(directory.path(), &["--strict"]).code, Some(75));
}

#[test]
fn a_spool_that_is_damaged_is_found_and_left_as_it_is() {
    let recorder = Recorder::start();
    let mut broken = Surgegate::start(&[&standard(&recorder), "spool: { max_bytes: 64MiB }\n"]);
    for key in ["a", "b", "c"] {
        assert_eq!(broken.post(PATH, trigger(key)).status, 202);
    }
    broken.wait_until_delivered();
    broken.kill();
    let segment = broken.spool().join("spool/0000000001.log");
    // Behind the head of 8 KiB: in the first record.
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"damage", (8 << 10) + 40).unwrap();
    let before = files(&broken.spool());
    let spool = format!("directory: '{}', max_bytes: 64MiB", broken.spool().display());
    let verdict = validate(Setup { spool, ..Setup::with(&recorder.url()) }.write().path(), &["--strict"]);
    assert_eq!(verdict.code, Some(0), "{:#}", verdict.whole);
    assert!(verdict.only("spool_damaged")["hint"].as_str().unwrap().contains("surgegate spool check"));
    assert_eq!(files(&broken.spool()), before);
}

#[test]
fn more_connections_than_descriptors_are_a_warning() {
    let recorder = Recorder::start();
    let directory = Setup { limits: "{ connections: 1000 }".to_owned(), ..Setup::with(&recorder.url()) }.write();
    let with = |limit: &str| {
        let mut command = Command::new("sh");
        let line = format!("ulimit -n {limit} && exec \"$0\" validate --format json");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_surgegate")]).current_dir(directory.path());
        Verdict::of(&run(command, ""))
    };
    let finding = with("1511");
    assert!(finding.only("descriptors")["hint"].as_str().unwrap().contains("at most 999"), "{:#}", finding.whole);
    assert!(with("1512").findings().is_empty());
}

#[test]
fn what_is_wrong_in_the_file_and_outside_it_is_told_together() {
    let at = nobody();
    let mut setup = Setup::with(&format!("http://{at}/hook"));
    setup.key = "key: short".to_owned();
    let verdict = validate(setup.write().path(), &[]);
    let codes: Vec<_> = verdict.findings().iter().map(|finding| finding["code"].clone()).collect();
    assert_eq!(codes.len(), 2, "{:#}", verdict.whole);
    assert_eq!(codes[1], "upstream_unreachable");
    // A file that is wrong is told before anything is looked at.
    setup.key = "kee: short".to_owned();
    let verdict = validate(setup.write().path(), &[]);
    assert_eq!(verdict.code, Some(78));
    assert!(verdict.findings().iter().all(|finding| finding["code"] != "upstream_unreachable"), "{:#}", verdict.whole);
}

#[test]
fn a_spool_in_memory_is_a_warning_unless_that_is_what_was_asked_for() {
    let recorder = Recorder::start();
    let kind = Command::new("stat").args(["-f", "-c", "%T", "/dev/shm"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kind.stdout).trim(), "tmpfs", "/dev/shm must be a tmpfs for this test");
    let with = |durability: &str| {
        // Never made.
        let spool = format!("directory: /dev/shm/surgegate-absent, max_bytes: 16MiB, durability: {durability}");
        let directory = Setup { spool, ..Setup::with(&recorder.url()) }.write();
        let verdict = validate(directory.path(), &["--strict"]);
        assert_eq!(verdict.code, Some(0), "{:#}", verdict.whole);
        let all = verdict.whole["findings"].as_array().unwrap();
        all.iter().filter(|finding| finding["code"] == "file_system").count()
    };
    assert_eq!((with("fsync"), with("memory")), (1, 0));
}

#[test]
fn a_certificate_that_has_expired_or_soon_will_or_does_not_match_is_told_at_its_key() {
    let authority = Authority::new();
    let recorder = Recorder::start();
    let told = || {
        let directory = Setup::with(&recorder.url()).write();
        std::fs::write(directory.path().join("tls.yaml"), authority.listen("")).unwrap();
        std::fs::set_permissions(authority.path("tls.key"), PermissionsExt::from_mode(0o600)).unwrap();
        let verdict = validate(directory.path(), &["--config", "surgegate.yaml", "--config", "tls.yaml"]);
        let found: Vec<(String, String)> = verdict
            .findings()
            .iter()
            .map(|finding| (finding["level"].as_str().unwrap().to_owned(), finding["message"].to_string()))
            .collect();
        (verdict.code, found)
    };
    assert_eq!(told(), (Some(0), vec![]));
    for (from, until, code, level, words) in [
        (-90, -3, 78, "error", "tls.certificate: the certificate expired"),
        (-90, 5, 0, "warning", "tls.certificate: the certificate expires in"),
        (2, 90, 78, "error", "tls.certificate: the certificate is not valid yet"),
    ] {
        authority.certify_days("tls", from, until);
        let (ended, found) = told();
        assert_eq!((ended, found.len()), (Some(code), 1), "{found:?}");
        assert!(found[0].0 == level && found[0].1.contains(words), "{found:?}");
    }
    authority.certify("tls", 2040);
    authority.certify("other", 2040);
    std::fs::rename(authority.path("other.key"), authority.path("tls.key")).unwrap();
    let (ended, found) = told();
    assert!(ended == Some(78) && found[0].1.contains("does not belong to the first certificate"), "{found:?}");
    std::fs::write(authority.path("tls.key"), "nothing").unwrap();
    let (ended, found) = told();
    assert!(ended == Some(78) && found[0].1.contains("tls.key: "), "{found:?}");
}
