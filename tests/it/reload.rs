//! A changed configuration on a running process (DESIGN 5.5): by HUP, by the API, by the file alone. No request is
//! dropped, an invalid file changes nothing and is told everywhere, what waits for an upstream that is gone is kept.

mod mounted;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::{Fault, Upstream, first_arrivals};
use crate::harness::{
    Answer, PATH, Raw, Recorder, Stop, Surgegate, alone, ask, binary, request, resolve, say, signal, standard, trigger,
    wait_for, wait_until,
};
use crate::strace::Watch;

const OLD: &str = "01dkey0000000000000000000000000000000000";
const NEW: &str = "4e3key0000000000000000000000000000000000";

fn path(key: &str) -> String {
    format!("/v2/incidents/api/{key}")
}

/// One integration with these keys and further lines, and one upstream.
fn integration(keys: &[&str], more: &str, url: &str) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("{{ key: '{key}' }}")).collect();
    let keys = keys.join(", ");
    format!(
        "integrations:\n  - {{ name: payments, keys: [{keys}], upstreams: [pager]{more} }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{url}' }}\n"
    )
}

/// The file that a test changes: the last one.
fn own(surgegate: &Surgegate) -> PathBuf {
    surgegate.files().last().unwrap().clone()
}

/// As editors and deployments do it: a new file takes the old one's name.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn reload(surgegate: &Surgegate) -> Answer {
    ask(surgegate.admin_address(), "POST", "/api/v1/reload", &[]).unwrap()
}

fn configuration(surgegate: &Surgegate) -> Value {
    surgegate.admin("/api/v1/status").json()["configuration"].clone()
}

fn change(surgegate: &Surgegate, text: &str) {
    replace(&own(surgegate), text);
    let answer = reload(surgegate);
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("reloaded")), "{}", answer.text());
}

fn level(surgegate: &Surgegate) -> Value {
    surgegate.admin("/api/v1/log-level").json()["level"].clone()
}

fn set_level(surgegate: &Surgegate, body: &str) -> u16 {
    say(surgegate.admin_address(), "PUT", "/api/v1/log-level", &[], body).unwrap().status
}

#[test]
fn keys_change_under_load_and_no_request_fails() {
    let _alone = alone();
    let recorder = Recorder::start();
    let both = integration(&[OLD, NEW], "", &recorder.url());
    let surgegate = Surgegate::start(&[&integration(&[OLD], "", &recorder.url())]);
    // Each uses the old key until the new one is in force, as a fleet that is changed over does.
    let (ready, done) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let sent: usize = std::thread::scope(|scope| {
        let end = Stop(done);
        let clients: Vec<_> = (0..4)
            .map(|id| {
                let ingest = surgegate.ingest();
                scope.spawn(move || {
                    let mut connection = Raw::connect(ingest);
                    let mut sent = 0;
                    while !done.load(Ordering::SeqCst) {
                        let key = if ready.load(Ordering::SeqCst) { NEW } else { OLD };
                        let answer = connection.post(&path(key), trigger(&format!("k-{id}-{sent}"))).unwrap();
                        assert_eq!(answer.status, 202, "with {key}: {}", answer.text());
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for round in 0..20 {
            change(
                &surgegate,
                &integration(&[OLD], &format!(", default_severity: {}", round % 5 + 1), &recorder.url()),
            );
        }
        change(&surgegate, &both);
        ready.store(true, Ordering::SeqCst);
        // Whoever still had the old key in hand has sent it.
        std::thread::sleep(Duration::from_millis(300));
        for round in 0..20 {
            change(
                &surgegate,
                &integration(&[NEW], &format!(", default_severity: {}", round % 5 + 1), &recorder.url()),
            );
        }
        drop(end);
        clients.into_iter().map(|client| client.join().expect("a request failed")).sum()
    });
    assert!(sent > 200, "only {sent} requests: no load");
    assert_eq!(surgegate.post(&path(OLD), trigger("late")).status, 404);
    let scrape = surgegate.wait_until_delivered();
    scrape.assert_books_balance();
    assert_eq!(scrape.count("events_delivered_total", &[]), sent as u64);
    assert_eq!(scrape.count("events_rejected_total", &[]), 0);
}

#[test]
fn hup_and_the_api_and_the_file_alone_each_take_a_changed_file() {
    let recorder = Recorder::start();
    let text = |key: &str| integration(&[key], "", &recorder.url());
    let surgegate = Surgegate::start(&[&text(OLD)]);
    let keys = ["aaaa", "bbbb", "cccc", "dddd"].map(|head| format!("{head}{}", &OLD[4..]));
    let works = |key: &str| surgegate.post(&path(key), trigger("k")).status == 202;
    assert_eq!(configuration(&surgegate)["trigger"], "start");

    // In place, as `echo >` does it.
    std::fs::write(own(&surgegate), text(&keys[0])).unwrap();
    wait_until("the file to be noticed", || works(&keys[0]));
    assert_eq!(configuration(&surgegate)["trigger"], "file");
    assert!(!works(OLD));

    replace(&own(&surgegate), &text(&keys[1]));
    wait_until("the new file to be noticed", || works(&keys[1]));

    replace(&own(&surgegate), &text(&keys[2]));
    signal("HUP", surgegate.pid());
    wait_until("HUP to be heard", || works(&keys[2]));

    change(&surgegate, &text(&keys[3]));
    assert!(works(&keys[3]) && !works(&keys[2]));
}

#[test]
fn a_swapped_link_as_kubernetes_makes_it_is_noticed_for_the_file_and_for_a_key_beside_it() {
    let recorder = Recorder::start();
    let directory = tempfile::TempDir::new().unwrap();
    let root = directory.path();
    // A mounted volume: files are links through `..data`, which is a link to a folder of this version.
    let version = |name: &str, key: &str| {
        let folder = root.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("key"), format!("{key}\n")).unwrap();
        let next = root.join("..next");
        symlink(name, &next).unwrap();
        std::fs::rename(&next, root.join("..data")).unwrap();
    };
    version("..1", OLD);
    symlink("..data/key", root.join("key")).unwrap();
    let text = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key_file: '{}' }}], upstreams: [pager] }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        root.join("key").display(),
        recorder.url()
    );
    let surgegate = Surgegate::start(&[&text]);
    assert_eq!(surgegate.post(&path(OLD), trigger("k")).status, 202);
    version("..2", NEW);
    wait_until("the swap to be noticed", || surgegate.post(&path(NEW), trigger("k")).status == 202);
    assert_eq!(surgegate.post(&path(OLD), trigger("k")).status, 404);
}

/// One integration whose key stands in this file, which is a pipe from now on.
fn with_key_in_a_pipe(recorder: &Recorder) -> (Surgegate, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, OLD).unwrap();
    let surgegate = Surgegate::start(&[&integration(&[], "", &recorder.url())
        .replace("keys: []", &format!("keys: [{{ key_file: '{}' }}]", key.display()))]);
    std::fs::remove_file(&key).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&key).status().unwrap().success());
    (surgegate, key, folder)
}

#[test]
fn a_key_that_is_a_pipe_nobody_writes_holds_up_no_later_reload() {
    let recorder = Recorder::start();
    let (mut surgegate, key, _folder) = with_key_in_a_pipe(&recorder);
    (0..3).for_each(|_| signal("HUP", surgegate.pid()));
    wait_until("the pipe is refused", || configuration(&surgegate)["status"] == "invalid");
    assert!(configuration(&surgegate)["message"].as_str().unwrap().contains("a pipe that nobody writes"));
    assert_eq!(surgegate.connect().post(&path(OLD), trigger("a")).unwrap().status, 202, "the old one is in force");
    replace(&key, NEW);
    wait_until("the new key", || surgegate.connect().post(&path(NEW), trigger("b")).unwrap().status == 202);
    assert!(surgegate.stop().success());
}

#[test]
fn a_reload_is_taken_whole_when_its_client_goes_away() {
    let recorder = Recorder::start();
    let (surgegate, key, _folder) = with_key_in_a_pipe(&recorder);
    // The watch finds the pipe, too: what is asked for by the API must be what is read.
    wait_until("the watch has seen it", || configuration(&surgegate)["trigger"] == "file");
    let mut client = std::net::TcpStream::connect(surgegate.admin_address()).unwrap();
    std::io::Write::write_all(&mut client, b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // Opening it waits until the process reads it.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&key).unwrap();
    drop(client);
    std::thread::sleep(Duration::from_millis(300));
    std::io::Write::write_all(&mut pipe, NEW.as_bytes()).unwrap();
    drop(pipe);
    wait_until("it is taken", || configuration(&surgegate)["trigger"] == "api");
    assert_eq!(configuration(&surgegate)["status"], "reloaded");
    assert_eq!(surgegate.connect().post(&path(NEW), trigger("a")).unwrap().status, 202);
}

#[test]
fn an_invalid_file_changes_nothing_and_is_told_everywhere() {
    let recorder = Recorder::start();
    let good = standard(&recorder);
    let surgegate = Surgegate::start(&[&good]);
    let bad = format!("{good}  - {{ name: pager, kind: carrier_pigeon }}\nlimits: {{ headers: many, odd: 1 }}\n");
    replace(&own(&surgegate), &bad);
    let answer = reload(&surgegate);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let told = answer.json();
    assert_eq!(told["status"], "invalid");
    let codes: Vec<&str> = told["findings"].as_array().unwrap().iter().filter_map(|row| row["code"].as_str()).collect();
    assert!(codes.contains(&"unknown_key") && codes.len() >= 4, "{codes:?}");
    assert!(told["findings"][0]["line"].as_u64() > Some(0), "{told}");

    assert_eq!(surgegate.scrape().count("config_last_reload_successful", &[]), 0);
    assert_eq!(configuration(&surgegate)["status"], "invalid");
    assert!(surgegate.admin("/").text().contains("RELOAD FAILED"));
    assert!(surgegate.is_said("the configuration was read again and not taken"));
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    // It is not read over and over: by the API, and perhaps by the watch before.
    std::thread::sleep(Duration::from_secs(2));
    assert!(surgegate.said().matches("read again and not taken").count() <= 2, "{}", surgegate.said());

    change(&surgegate, &good);
    assert_eq!(surgegate.scrape().count("config_last_reload_successful", &[]), 1);
    assert!(!surgegate.admin("/").text().contains("RELOAD FAILED"));

    std::fs::remove_file(own(&surgegate)).unwrap();
    assert_eq!(reload(&surgegate).status, 422);
    assert_eq!(surgegate.post(PATH, resolve("k")).status, 202);
}

#[test]
fn an_upstream_moves_under_load_and_every_event_arrives_once_at_one_of_the_two_places() {
    let _alone = alone();
    let (here, there) = (Upstream::scripted(|_| Fault::Answer(200)), Upstream::scripted(|_| Fault::Answer(200)));
    let surgegate = Surgegate::start(&[&integration(&[OLD], "", &here.url())]);
    let mut connection = surgegate.connect();
    let keys: Vec<String> = (0..600).map(|number| format!("k-{number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(connection.post(&path(OLD), trigger(key)).unwrap().status, 202);
        assert_eq!(connection.post(&path(OLD), resolve(key)).unwrap().status, 202);
        if number % 60 == 59 {
            let url = if number % 120 == 59 { there.url() } else { here.url() };
            change(&surgegate, &integration(&[OLD], "", &url));
        }
    }
    surgegate.wait_until_delivered().assert_books_balance();
    let mut arrivals = here.arrivals();
    arrivals.extend(there.arrivals());
    assert!(!here.arrivals().is_empty() && !there.arrivals().is_empty());
    assert_eq!(arrivals.len(), 2 * keys.len(), "lost or sent twice");
    assert_eq!(first_arrivals(&arrivals).len(), keys.len());
}

#[test]
fn what_waits_for_an_upstream_that_is_gone_is_kept_and_goes_when_it_is_back() {
    let recorder = Recorder::start();
    let dead = Upstream::dead();
    let with = integration(&[OLD], "", &dead.url());
    let without = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{OLD}' }}], upstreams: [other] }}\n\
         upstreams:\n  - {{ name: other, kind: webhook, url: '{}' }}\n",
        recorder.url()
    );
    let surgegate = Surgegate::start(&[&with]);
    for number in 0..20 {
        assert_eq!(surgegate.post(&path(OLD), trigger(&format!("k-{number}"))).status, 202);
    }
    change(&surgegate, &without);
    wait_until("orphans", || surgegate.scrape().count("spool_orphaned_events", &[]) == 20);
    assert!(surgegate.is_said("events wait for an upstream that is not configured"), "{}", surgegate.said());
    assert!(!surgegate.said().contains("its configuration is new"), "of one that is gone: {}", surgegate.said());
    assert_eq!(surgegate.post(&path(OLD), trigger("other")).status, 202);
    wait_until("the other's event", || recorder.count() == 1);
    change(&surgegate, &integration(&[OLD], "", &recorder.url()));
    surgegate.wait_until_delivered().assert_books_balance();
    assert_eq!(recorder.count(), 21);
    assert_eq!(surgegate.scrape().count("spool_orphaned_events", &[]), 0);
}

#[test]
fn a_limit_that_did_not_change_goes_on_where_it_stands() {
    let recorder = Recorder::start();
    let text = |more: &str| {
        let more = format!(", on_limit: reject, rate_limit: {{ events_per_second: 1, burst: 5 }}{more}");
        integration(&[OLD], &more, &recorder.url())
    };
    let surgegate = Surgegate::start(&[&text("")]);
    let taken = |prefix: &str| {
        let answers = (0..8).map(|number| surgegate.post(&path(OLD), trigger(&format!("{prefix}-{number}"))).status);
        answers.filter(|status| *status == 202).count()
    };
    assert!((5..8).contains(&taken("a")));
    change(&surgegate, &text(", default_severity: 2"));
    let after = taken("b");
    assert!(after < 5, "the reload was a new burst: {after}");
    // Another limit is another.
    let faster = integration(&[OLD], ", rate_limit: { events_per_second: 1000 }", &recorder.url());
    change(&surgegate, &faster);
    assert_eq!(taken("c"), 8);
}

#[test]
fn what_only_a_start_can_change_is_said_and_the_rest_is_taken() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let more = "listen: { observe: { address: '127.0.0.1:1' } }\ndedup: { open_ttl: 1d }\nspool: { max_bytes: 5GiB }\n\
                limits: { uri_bytes: 64 }\n";
    replace(&own(&surgegate), &format!("{}{more}", standard(&recorder)));
    let told = reload(&surgegate).json();
    assert_eq!(told["status"], "reloaded");
    let rows = told["findings"].as_array().unwrap();
    let waits: Vec<&str> = rows
        .iter()
        .filter(|row| row["code"] == "needs_restart")
        .filter_map(|row| row["message"].as_str()?.split(' ').next())
        .collect();
    assert_eq!(waits, ["listen.observe.address", "dedup.open_ttl", "spool.max_bytes"]);
    // In a line of its own: HUP has no answer.
    assert!(surgegate.is_said(r#""message":"dedup.open_ttl was changed: that waits for the next start""#));
    // The limit is in force: the usual path is too long for it.
    let long = format!("{PATH}?{}", "x".repeat(64));
    let answer = surgegate.post(&long, trigger("k"));
    assert_eq!((answer.status, &answer.json()["reason"]), (414, &json!("uri_too_long")));
    assert_eq!(surgegate.observe("/livez").unwrap().status, 200);
}

#[test]
fn fewer_and_more_connections_are_taken_at_once() {
    let recorder = Recorder::start();
    let text = |most: usize| format!("{}limits: {{ connections: {most} }}\n", standard(&recorder));
    let surgegate = Surgegate::start(&[&text(8)]);
    let mut held: Vec<Raw> = (0..6).map(|_| surgegate.connect()).collect();
    for (number, connection) in held.iter_mut().enumerate() {
        assert_eq!(connection.post(PATH, trigger(&format!("k-{number}"))).unwrap().status, 202);
    }
    let open = || surgegate.scrape().count("http_connections", &[]);
    change(&surgegate, &text(3));
    // Those that are there stay, and no other comes in but the one that the acceptor had room for already: not even in
    // the places of two that end.
    held.truncate(4);
    wait_until("two to end", || open() == 4);
    held.push(surgegate.connect());
    wait_until("the last one let in", || open() == 5);
    let mut waiting = surgegate.connect();
    waiting.send(request("POST", PATH, &[], trigger("waits"))).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(open(), 5);
    change(&surgegate, &text(10));
    assert_eq!(waiting.answer().unwrap().status, 202);
    assert_eq!(held[0].post(PATH, resolve("k-0")).unwrap().status, 202);
}

#[test]
fn the_token_of_the_admin_listener_changes_with_its_file() {
    let recorder = Recorder::start();
    let directory = tempfile::TempDir::new().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let listen = format!("listen: {{ admin: {{ token_file: '{}' }} }}\n", token.display());
    let surgegate = Surgegate::start(&[&listen, &standard(&recorder)]);
    let with = |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        ask(surgegate.admin_address(), "POST", "/api/v1/dead-letters/replay", &[&field]).unwrap().status
    };
    assert_eq!((with("first"), with("second")), (200, 401));
    replace(&token, "second\n");
    wait_until("the token's file to be noticed", || with("second") == 200);
    assert_eq!(with("first"), 401);
    assert!(!surgegate.said().contains("second"));
}

#[test]
fn the_level_of_the_log_changes_by_hand_and_with_the_file() {
    let recorder = Recorder::start();
    let text = |level: &str| format!("{}log: {{ level: {level} }}\n", standard(&recorder));
    let surgegate = Surgegate::start(&[&text("info")]);
    let request_id = surgegate.post(PATH, trigger("quiet")).header("x-request-id").unwrap().to_owned();
    assert_eq!(level(&surgegate), "info");
    assert_eq!(set_level(&surgegate, r#"{"level":"debug"}"#), 200);
    let loud = surgegate.post(PATH, trigger("loud")).header("x-request-id").unwrap().to_owned();
    wait_for("a line on the event", || surgegate.said().contains(&loud).then_some(()));
    assert!(!surgegate.said().contains(&request_id));
    for wrong in [r#"{"level":"noisy"}"#, "{}", "", "[1]"] {
        assert_eq!(set_level(&surgegate, wrong), 400, "{wrong}");
    }
    // The file's level did not change: what was set by hand stays.
    change(&surgegate, &text("info"));
    assert_eq!(level(&surgegate), "debug");
    change(&surgegate, &text("warn"));
    assert_eq!(level(&surgegate), "warn");
}

#[test]
fn a_hup_while_the_configuration_is_read_for_the_first_time_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    assert!(std::process::Command::new("mkfifo").arg(&key).status().unwrap().success());
    let listen = "listen:\n  ingest: { address: '127.0.0.1:0' }\n  observe: { address: '127.0.0.1:0' }\n  \
                  admin: { address: '127.0.0.1:0' }\nshutdown: { drain: 0s }\n";
    let rest = integration(&[], "", "http://127.0.0.1:9/").replace("keys: []", "keys: [{ key_file: key }]");
    std::fs::write(folder.path().join("surgegate.yaml"), format!("{listen}{rest}")).unwrap();
    let mut process = binary(folder.path(), &["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Opening it waits until the process reads it.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&key).unwrap();
    signal("HUP", process.id());
    std::thread::sleep(Duration::from_millis(300));
    let ended = process.try_wait().unwrap();
    std::io::Write::write_all(&mut pipe, OLD.as_bytes()).unwrap();
    replace(&key, OLD);
    drop(pipe);
    let mut said = std::io::BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(read > 0, "it ended: {ended:?}");
    }
    signal("TERM", process.id());
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_file_on_a_mount_that_does_not_answer_holds_up_neither_health_nor_a_later_reload() {
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, OLD).unwrap();
    let text = integration(&[], "", &recorder.url())
        .replace("keys: []", &format!("keys: [{{ key_file: '{}' }}]", key.display()));
    let surgegate = Surgegate::start(&[&text]);
    // Whoever opens it or looks at it waits for minutes, as for a server that is gone.
    let hang = [
        "-P",
        &key.display().to_string(),
        "-e",
        "trace=openat,statx,readlink",
        "-e",
        "inject=openat,statx,readlink:delay_enter=300s",
    ];
    let notes = folder.path().join("notes");
    let watch = Watch::process(surgegate.pid(), &notes, &hang.map(str::to_owned));
    signal("HUP", surgegate.pid());
    wait_until("it is given up", || configuration(&surgegate)["status"] == "failed");
    let told = configuration(&surgegate);
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&key.display().to_string()) && message.contains("does not answer"), "{message}");
    assert_eq!(told["findings"][0]["code"], "file", "{told}");
    assert_eq!(surgegate.observe("/livez").unwrap().status, 200);
    assert_eq!(surgegate.post(&path(OLD), trigger("a")).status, 202, "the old one is in force");
    // Without that file all is well again, though the first reading still waits.
    std::fs::write(own(&surgegate), integration(&[NEW], "", &recorder.url())).unwrap();
    let began = std::time::Instant::now();
    while reload(&surgegate).status != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", configuration(&surgegate));
    }
    assert_eq!(surgegate.post(&path(NEW), trigger("b")).status, 202);
    drop(watch);
}

#[test]
fn an_edit_that_names_a_file_on_such_a_mount_is_tried_once_and_not_over_and_over() {
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, NEW).unwrap();
    let surgegate = Surgegate::start(&[&integration(&[OLD], "", &recorder.url())]);
    let hang = ["-P", &key.display().to_string(), "-e", "trace=openat", "-e", "inject=openat:delay_enter=300s"];
    let watch = Watch::process(surgegate.pid(), &folder.path().join("notes"), &hang.map(str::to_owned));
    let text = integration(&[], "", &recorder.url());
    replace(&own(&surgegate), &text.replace("keys: []", &format!("keys: [{{ key_file: '{}' }}]", key.display())));
    wait_until("it is given up", || configuration(&surgegate)["status"] == "failed");
    // Another reading would be given up by then, too.
    std::thread::sleep(Duration::from_secs(18));
    assert_eq!(surgegate.said().matches("read again and not taken").count(), 1, "{}", surgegate.said());
    assert_eq!(surgegate.post(&path(OLD), trigger("a")).status, 202);
    drop(watch);
}

#[test]
fn an_edit_and_its_hup_are_one_reading() {
    let recorder = Recorder::start();
    let text = |severity: usize| integration(&[OLD], &format!(", default_severity: {severity}"), &recorder.url());
    let surgegate = Surgegate::start(&[&text(1)]);
    let triggers = || -> Vec<Value> {
        let said = surgegate.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let read = lines.filter(|line| line["message"] == "the configuration was read again and is in force");
        read.map(|line| line["trigger"].clone()).collect()
    };
    for round in 1..4 {
        let before = triggers().len();
        replace(&own(&surgegate), &text(round + 1));
        signal("HUP", surgegate.pid());
        wait_until("the signal to be heard", || triggers()[before..].contains(&json!("signal")));
        // Longer than a file is waited for to settle.
        std::thread::sleep(Duration::from_secs(1));
        // The watch may have been quicker than the signal; behind it there is nothing left to read.
        assert_eq!(triggers().last(), Some(&json!("signal")), "{:?}", &triggers()[before..]);
    }
    // And what changes without a signal is read still.
    let before = triggers().len();
    replace(&own(&surgegate), &text(5));
    wait_until("the watch", || triggers()[before..] == [json!("file")]);
}

#[test]
fn an_integration_that_is_renamed_is_told_to_begin_anew() {
    let recorder = Recorder::start();
    let text = |name: &str| integration(&[OLD], "", &recorder.url()).replace("payments", name);
    let surgegate = Surgegate::start(&[&text("payments")]);
    assert_eq!(surgegate.post(&path(OLD), trigger("k")).status, 202);
    replace(&own(&surgegate), &text("billing"));
    let told = reload(&surgegate).json();
    let row = told["findings"].as_array().unwrap().iter().find(|row| row["code"] == "renamed");
    let message = row.unwrap_or_else(|| panic!("{told}"))["message"].as_str().unwrap();
    assert!(message.contains("integration payments is now billing") && message.contains("begin anew"), "{message}");
    assert!(surgegate.is_said("integration payments is now billing"));
    // As it says: the open incident of the old name is none of the new one's.
    let answer = surgegate.post(&path(OLD), trigger("k"));
    assert_eq!((answer.status, answer.outcome()), (202, "created"));
    // Another key is another integration: nothing is told.
    change(&surgegate, &integration(&[NEW], "", &recorder.url()).replace("payments", "others"));
    let findings = configuration(&surgegate)["findings"].clone();
    assert!(!findings.to_string().contains("renamed"), "{findings}");
}
