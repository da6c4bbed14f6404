//! TERM and INT: readiness falls first, every request in flight is answered, nothing answered is lost, exit code 0.
//! A second signal stops at once.

use std::collections::HashSet;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::crash::configuration;
use crate::faults::{Fault, Upstream, first_arrivals};
use crate::harness::{PATH, Raw, Surgegate, alone, request, signal, trigger, wait_for, wait_until};
use crate::strace::under;

const CLIENTS: usize = 6;
/// Requests that are begun before the signal and finished after it.
const HALVES: usize = 20;

/// Halves wait for their end until the drain is over.
const SLOW_SENDERS: &str = "shutdown: { drain: 1s }\nlimits: { body_bytes_per_second: 1B, body_timeout: 1m }\n";

fn end(surgegate: &mut Surgegate) -> ExitStatus {
    wait_for("its end", || surgegate.ended())
}

fn readiness(surgegate: &Surgegate) -> Option<(u16, String)> {
    surgegate.observe("/readyz").ok().map(|answer| (answer.status, answer.text()))
}

#[test]
fn term_under_load_answers_what_is_in_flight_and_loses_nothing() {
    stops_in_order("TERM");
}

#[test]
fn int_without_a_terminal_drains_as_term_does() {
    stops_in_order("INT");
}

fn stops_in_order(name: &str) {
    let _alone = alone();
    let upstream = Upstream::scripted(|_| Fault::After(Duration::from_millis(20), 200));
    let config = configuration(&upstream.url(), "connections: 4");
    let mut surgegate = Surgegate::start(&[&config, SLOW_SENDERS]);
    let ingest = surgegate.ingest();
    let (accepted_while_draining, draining) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut accepted: HashSet<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (draining, accepted_while_draining) = (&draining, &accepted_while_draining);
                scope.spawn(move || {
                    let mut accepted = HashSet::new();
                    let Ok(mut connection) = Raw::try_connect(ingest) else { return accepted };
                    for number in 0.. {
                        let key = format!("load-{id}-{number}");
                        // Closed between two requests: a sender takes a new connection, of which there is none any more.
                        let Ok(answer) = connection.post(PATH, trigger(&key)) else { break };
                        assert_eq!(answer.status, 202, "{}", answer.text());
                        accepted.insert(key);
                        accepted_while_draining
                            .fetch_add(usize::from(draining.load(Ordering::SeqCst)), Ordering::Relaxed);
                    }
                    accepted
                })
            })
            .collect();
        let mut halves: Vec<(String, Raw, Vec<u8>)> = (0..HALVES)
            .map(|number| {
                let key = format!("half-{number}");
                let bytes = request("POST", PATH, &["Content-Type: application/json"], trigger(&key));
                let (begun, rest) = bytes.split_at(bytes.len() - 10);
                let mut connection = surgegate.connect();
                connection.send(begun).unwrap();
                (key, connection, rest.to_vec())
            })
            .collect();
        wait_until("load, and requests in flight", || {
            upstream.count() > 50 && surgegate.scrape().count("events_in_flight", &[]) >= HALVES as u64
        });
        signal(name, surgegate.pid());
        wait_until("readiness to fall", || readiness(&surgegate).is_some_and(|(status, _)| status == 503));
        draining.store(true, Ordering::SeqCst);
        let (_, body) = readiness(&surgegate).expect("the listener goes on while it drains");
        assert!(body.contains("stopping"), "{body}");
        // Half of them are finished while the listener still accepts, half once it is closed.
        let mut accepted = HashSet::new();
        let mut finish = |halves: Vec<(String, Raw, Vec<u8>)>| {
            for (key, mut connection, rest) in halves {
                connection.send(rest).unwrap();
                let answer =
                    connection.answer().unwrap_or_else(|error| panic!("{key} was in flight and not answered: {error}"));
                assert_eq!(answer.status, 202, "{}", answer.text());
                accepted.insert(key);
            }
        };
        let late = halves.split_off(HALVES / 2);
        finish(halves);
        wait_until("the listener to close", || Raw::try_connect(ingest).is_err());
        finish(late);
        for client in clients {
            accepted.extend(client.join().expect("a client failed"));
        }
        accepted
    });
    assert_eq!(end(&mut surgegate).code(), Some(0));
    assert!(accepted_while_draining.load(Ordering::Relaxed) > 0, "nothing was accepted while readiness was down");
    upstream.tell(|_| Fault::Answer(200));
    surgegate.start_again();
    surgegate.wait_until_delivered();
    let came: HashSet<String> = first_arrivals(&upstream.arrivals()).into_keys().collect();
    let lost: Vec<_> = accepted.difference(&came).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    // An orderly stop ends what is under way: nothing is sent twice.
    assert_eq!(upstream.count(), came.len());
    accepted.retain(|key| key.starts_with("half"));
    assert_eq!(accepted.len(), HALVES);
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "TERM")] {
        let upstream = Upstream::scripted(|_| Fault::Hang);
        let config = configuration(&upstream.url(), "connections: 4");
        let mut surgegate = Surgegate::start(&[&config, "shutdown: { drain: 10m }\n"]);
        for number in 0..20 {
            assert_eq!(surgegate.post(PATH, trigger(&format!("key-{number}"))).status, 202);
        }
        signal(first, surgegate.pid());
        wait_until("readiness to fall", || readiness(&surgegate).is_some_and(|(status, _)| status == 503));
        assert!(surgegate.is_running());
        let began = Instant::now();
        signal(second, surgegate.pid());
        assert_eq!(end(&mut surgegate).code(), Some(0), "{first}, then {second}");
        // The drain lasts ten minutes.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?} after the second", began.elapsed());
        upstream.tell(|_| Fault::Answer(200));
        surgegate.start_again();
        surgegate.wait_until_delivered();
        assert_eq!(first_arrivals(&upstream.arrivals()).len(), 20);
    }
}

#[test]
fn term_during_a_slow_recovery_ends_it_there_and_loses_nothing() {
    let upstream = Upstream::scripted(|_| Fault::Hang);
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 4")]);
    for number in 0..20 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("key-{number}"))).status, 202);
    }
    surgegate.kill();
    for name in ["TERM", "INT"] {
        // Each read of the log takes 20 s: as a large spool on a slow disk. Of its files alone: a loader reads, too.
        let notes = surgegate.spool().with_extension("notes");
        let mut slow =
            ["-y", "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=20s"].map(str::to_owned).to_vec();
        for file in std::fs::read_dir(surgegate.spool()).unwrap() {
            slow.extend(["-P".to_owned(), file.unwrap().path().display().to_string()]);
        }
        let words = under(&notes, &slow);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_surgegate"));
        for file in surgegate.files() {
            command.arg("--config").arg(file);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let has_begun = |pid: u32| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut files = open.filter_map(|file| std::fs::read_link(file.path()).ok());
            files.any(|file| file.starts_with(surgegate.spool()))
        };
        wait_until("its recovery to begin", || has_begun(child.id()) || child.try_wait().unwrap().is_some());
        signal(name, child.id());
        wait_for("its end", || child.try_wait().unwrap());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert_eq!(ended.status.code(), Some(0), "{name}: {said}");
        assert!(said.contains("stopped before it listened") && !said.contains("spool recovered"), "{name}: {said}");
    }
    upstream.tell(|_| Fault::Answer(200));
    surgegate.start_again();
    surgegate.wait_until_delivered();
    assert_eq!(first_arrivals(&upstream.arrivals()).len(), 20);
}
