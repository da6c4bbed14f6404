//! `surgegate spool`: looks are free, also beside a running process; what changes something is refused there, and says
//! what to do; and whatever was done to a spool, its books balance at the next start and nothing that was not named
//! is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::faults::{Fault, Upstream};
use crate::harness::{KEY, PATH, Said, Stop, Surgegate, alone, ended, resolve, signal, trigger, verb, wait_until};

fn command(arguments: &[&str]) -> Command {
    let mut command = verb("spool");
    command.args(arguments);
    command
}

/// A verb on a directory.
fn on(directory: &Path, verb: &str, more: &[&str]) -> Said {
    ended(command(&[verb, "--directory", directory.to_str().unwrap()]).args(more))
}

/// A verb with the configuration of a process.
fn with(surgegate: &Surgegate, verb: &str, more: &[&str]) -> Said {
    ended(&mut configured(surgegate, verb, more))
}

fn configured(surgegate: &Surgegate, verb: &str, more: &[&str]) -> Command {
    let mut command = command(&[verb]);
    for file in surgegate.files() {
        command.arg("--config").arg(file);
    }
    command.args(more);
    command
}

/// One integration, and upstreams by name with their addresses. The integration sends to the first.
fn to(upstreams: &[(&str, &str)]) -> String {
    let first = upstreams[0].0;
    let rows = upstreams.iter().map(|(name, url)| format!("  - {{ name: {name}, kind: webhook, url: '{url}' }}\n"));
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [{first}]\n    \
         rate_limit: {{ requests_per_second: 1000000 }}\nupstreams:\n{}",
        rows.collect::<String>()
    )
}

/// Every file below a directory with its bytes.
fn image(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files.extend(image(&entry.path()));
        } else {
            files.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Files of the log with an ending, by name; those with something in them.
fn files(surgegate: &Surgegate, ending: &str) -> Vec<PathBuf> {
    let all = image(&surgegate.spool().join("spool")).into_iter();
    let some =
        all.filter(|(path, bytes)| path.extension().is_some_and(|end| end == ending) && bytes.iter().any(|b| *b != 0));
    some.map(|(path, _)| path).collect()
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    with(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn find(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).position(|window| window == word.as_bytes()).expect("it stands there")
}

fn post(surgegate: &Surgegate, keys: impl IntoIterator<Item = String>) {
    let mut connection = surgegate.connect();
    for key in keys {
        assert_eq!(connection.post(PATH, trigger(&key)).unwrap().status, 202);
    }
}

fn keys(upstream: &Upstream) -> Vec<String> {
    upstream.arrivals().into_iter().map(|arrival| arrival.key).collect()
}

#[test]
fn a_directory_without_a_spool_is_refused_and_stays_as_it_is() {
    let home = TempDir::new().unwrap();
    let config = home.path().join("surgegate.yaml");
    std::fs::write(&config, to(&[("pager", "http://127.0.0.1:1/")])).unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let (empty, missing) = (home.path().join("empty"), home.path().join("missing"));
    std::fs::create_dir(&empty).unwrap();
    let verbs: [(&str, &[&str]); 6] = [
        ("check", &[]),
        ("ls", &[]),
        ("repair", &[]),
        ("send", &config),
        ("reassign", &["--from", "old", "--to", "pager", config[0], config[1]]),
        ("drop", &["--upstream", "old", "--yes"]),
    ];
    for (verb, more) in verbs {
        // Named by --directory alone, which counts before the configuration's.
        on(&empty, verb, more).ended(1).complains("holds no spool").complains("--directory");
        on(&missing, verb, more).ended(1).complains("No such file");
    }
    assert!(std::fs::read_dir(&empty).unwrap().next().is_none() && !missing.exists(), "something was made");
    // The parent of one that is called so itself.
    let parent = home.path().join("parent");
    std::fs::create_dir_all(parent.join("spool/spool")).unwrap();
    std::fs::create_dir(parent.join("spool/quarantine")).unwrap();
    std::fs::write(parent.join("spool/spool/lock"), "").unwrap();
    for (verb, more) in verbs {
        on(&parent, verb, more)
            .ended(1)
            .complains("holds no spool")
            .complains("did you mean")
            .complains("parent/spool");
    }
    assert_eq!(std::fs::read_dir(parent.join("spool")).unwrap().count(), 2, "something was made");
    // The inside of one.
    let inside = home.path().join("data/spool");
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(inside.join("lock"), "").unwrap();
    on(&inside, "ls", &[]).ended(1).complains("name its parent");
}

#[test]
fn the_help_gives_examples_and_wrong_usage_ends_with_2() {
    let help = ended(&mut command(&["--help"])).ended(0);
    for verb in ["check", "ls", "repair", "send", "reassign", "drop"] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{help:?}");
        ended(&mut command(&[verb, "--help"])).ended(0).says("Example").says(&format!("surgegate spool {verb}"));
    }
    help.says("Examples:").says("Exit codes: 0");
    for wrong in [&["reassign", "--from", "a"][..], &["drop"], &["look"], &["send", "--timeout", "soon"]] {
        ended(&mut command(wrong)).ended(2);
    }
}

#[test]
fn a_running_process_may_be_looked_at_under_load_and_not_be_interfered_with() {
    let _alone = alone();
    let upstream = Upstream::scripted(|_| Fault::After(Duration::from_millis(2), 200));
    // Small segments that go as soon as nobody needs them: files come and go under the look.
    let pieces = [&to(&[("pager", &upstream.url())]), "spool: { max_bytes: 16MiB, retain: 0s }\n"];
    let surgegate = Surgegate::start(&pieces);
    let pid = surgegate.pid().to_string();
    let (over, posted) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (surgegate, over, posted) = (&surgegate, &over, &posted);
            scope.spawn(move || {
                let mut connection = surgegate.connect();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    let padding = "p".repeat(4000);
                    let body = format!(r#"{{"message":"m","description":"{padding}","event_id":"{client}-{number}"}}"#);
                    match connection.post(PATH, body).unwrap().status {
                        202 => drop(posted.fetch_add(1, Ordering::Relaxed)),
                        // The small spool is full for a moment.
                        status => assert_eq!(status, 503),
                    }
                    number += 1;
                }
            });
        }
        let guard = Stop(&over);
        wait_until("some load", || posted.load(Ordering::Relaxed) > 200);
        let directory = surgegate.spool();
        let mut looks = 0;
        // More than the spool may hold: segments went.
        while looks < 8 || posted.load(Ordering::Relaxed) < 6000 {
            looks += 1;
            on(&directory, "ls", &[]).ended(0).says(&format!("process {pid} runs on it"));
            on(&directory, "ls", &["--events"]).ended(0);
            on(&directory, "check", &[]).ended(0).says("whole)").says("nothing is damaged").says(&pid);
        }
        let listed = on(&directory, "ls", &["--format", "json"]).ended(0).json();
        assert_eq!(listed["process"]["pid"].to_string(), pid);
        on(&directory, "repair", &[])
            .ended(1)
            .complains(directory.to_str().unwrap())
            .complains(&format!("held by a running process ({pid})"))
            .complains("repairs by itself at its next start");
        with(&surgegate, "send", &[]).ended(1).complains(&pid).complains("sends what waits by itself");
        on(&directory, "drop", &["--upstream", "pager", "--yes"]).ended(1).complains(&pid).complains("stop it first");
        let reassign = ["--from", "old", "--to", "pager"];
        with(&surgegate, "reassign", &reassign).ended(1).complains(&pid).complains("stop it first");
        drop(guard);
    });
    let scrape = surgegate.wait_until_delivered();
    let posted = posted.load(Ordering::Relaxed);
    assert_eq!(scrape.count("events_delivered_total", &[]) as usize, posted);
    assert_eq!(scrape.count("spool_damaged_records_total", &[]), 0);
    let mut arrived = keys(&upstream);
    arrived.sort();
    arrived.dedup();
    assert_eq!((arrived.len(), upstream.count()), (posted, posted), "each once");
    eprintln!("{posted} events");
}

#[test]
fn what_waits_and_what_is_dead_is_told_of_a_killed_process() {
    let upstream = Upstream::scripted(|arrival| Fault::Answer(if arrival.key.starts_with("bad") { 422 } else { 503 }));
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &upstream.url())])]);
    post(&surgegate, ["bad-disk-1", "bad-disk-2"].map(str::to_owned));
    wait_until("two dead letters", || surgegate.scrape().count("dead_letters", &[]) == 2);
    post(&surgegate, (0..30).map(|n| format!("waits-{n:02}")));
    // A settlement may take 50 ms to the disk.
    std::thread::sleep(Duration::from_millis(500));
    surgegate.kill();
    let directory = surgegate.spool();
    let before = image(&directory);
    let said = on(&directory, "ls", &[]).ended(0).says("2 refused").says("in all 30 waiting events and 2 dead letters");
    assert!(!said.out.contains("runs on it"), "{said:?}");
    let listed = on(&directory, "ls", &["--format", "json"]).ended(0).json();
    assert_eq!(listed["process"]["state"], "nobody");
    assert_eq!((&listed["waiting"], &listed["dead_letters"]), (&30.into(), &2.into()));
    let queue = &listed["queues"][0];
    assert_eq!((&queue["upstream"], &queue["integration"]), (&"pager".into(), &"payments".into()));
    assert_eq!((&queue["waiting"], &queue["dead_letters"]["refused"]), (&30.into(), &2.into()));

    let events = on(&directory, "ls", &["--events", "--format", "json"]).ended(0);
    let events: Vec<Value> = events.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 30);
    assert_eq!(events[0]["received_at"], queue["oldest_received_at"]);
    assert!(events.windows(2).all(|two| two[0]["sequence"].as_u64() < two[1]["sequence"].as_u64()));
    let uids: std::collections::BTreeSet<&str> =
        events.iter().map(|event| event["event_uid"].as_str().unwrap()).collect();
    let sent = upstream.arrivals().into_iter().filter(|arrival| arrival.key.starts_with("waits"));
    assert!(uids.len() == 30 && sent.into_iter().all(|arrival| uids.contains(&*arrival.uid)));
    assert!(events.iter().all(|event| event["action"] == "trigger"));
    assert_eq!(events[7]["key"], "wa***07");
    let text = on(&directory, "ls", &["--events", "--upstream", "pager"]).ended(0);
    assert_eq!(text.out.lines().filter(|line| line.contains("wa***")).count(), 30, "{text:?}");
    assert!(!text.out.contains("waits-"), "a key stands there as it is");
    assert_eq!(on(&directory, "ls", &["--events", "--upstream", "other", "--format", "json"]).ended(0).out, "");
    // With the configuration orphans are named.
    std::fs::write(&surgegate.files()[2], to(&[("renamed", &upstream.url())])).unwrap();
    with(&surgegate, "ls", &[]).ended(0).says("not in the configuration").says("reassign --from pager");
    on(&directory, "check", &[]).ended(0).says("nothing is damaged");
    assert!(image(&directory) == before, "a look changed something");
}

#[test]
fn damage_is_told_where_it_is_and_a_repair_leaves_the_rest_to_be_delivered() {
    let mut upstream = Upstream::dead();
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &upstream.url())])]);
    post(&surgegate, (0..20).map(|n| format!("one-{n:02}")));
    surgegate.kill();
    let directory = surgegate.spool();
    let first = files(&surgegate, "log")[0].clone();
    let mut flipped = 0;
    change(&first, |bytes| {
        flipped = find(bytes, "one-07");
        bytes[flipped] ^= 1;
        // And an end that a crash tore: the beginning of a frame.
        let end = (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(8);
        bytes[end..end + 12].copy_from_slice(b"SGR1\x40\0\0\0torn");
    });
    let before = image(&directory);
    let name = format!("spool/{}", first.file_name().unwrap().to_str().unwrap());
    on(&directory, "check", &[])
        .ended(1)
        .says(&format!("DAMAGED {name}: damaged records"))
        .says(&format!("note: {name}: torn end"))
        .says("surgegate spool repair");
    let checked = on(&directory, "check", &["--format", "json"]).ended(1).json();
    assert_eq!(checked["damaged"], true);
    let finding = &checked["findings"][0];
    let range = finding["from"].as_u64().unwrap()..finding["to"].as_u64().unwrap();
    assert!(finding["what"] == "records" && range.contains(&(flipped as u64)), "{flipped} in {finding}");
    assert!(checked["bytes"]["accepted"].as_u64().unwrap() > 19 * 200);
    assert!(image(&directory) == before, "a check changed something");

    on(&directory, "repair", &[])
        .ended(0)
        .says(&format!("set aside: {name}: damaged records"))
        .says(&format!("cut: {name}: torn end"))
        .says("a checkpoint was written")
        .says("19 waiting events");
    let after = on(&directory, "check", &[]).ended(0).says("set aside before").says("nothing is damaged");
    assert!(!after.out.contains("torn end"), "{after:?}");
    on(&directory, "repair", &[]).ended(0).says("nothing was damaged");

    upstream.live();
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    let mut arrived = keys(&upstream);
    arrived.sort();
    let expected: Vec<String> = (0..20).filter(|n| *n != 7).map(|n| format!("one-{n:02}")).collect();
    assert_eq!(arrived, expected);
    assert_eq!(scrape.count("events_delivered_total", &[]), 19);
}

#[test]
fn what_a_checkpoint_knows_and_no_segment_holds_becomes_a_dead_letter() {
    let mut upstream = Upstream::dead();
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &upstream.url())])]);
    post(&surgegate, (0..10).map(|n| format!("key-{n}")));
    assert!(surgegate.stop().success());
    let directory = surgegate.spool();
    // Behind the back of the checkpoint.
    let segment = files(&surgegate, "log")[0].clone();
    change(&segment, |bytes| {
        let at = find(bytes, "key-3");
        bytes[at] ^= 1;
    });
    on(&directory, "check", &[]).ended(1).says("LOST 1 event of payments that should wait for pager");
    on(&directory, "repair", &[]).ended(0).says("1 waiting event without a record: a dead letter now (unreadable)");
    on(&directory, "check", &[]).ended(0);
    on(&directory, "ls", &[]).ended(0).says("1 unreadable").says("9 waiting events");
    // A checkpoint that is not whole.
    let checkpoint = files(&surgegate, "checkpoint").pop().unwrap();
    change(&checkpoint, |bytes| {
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
    });
    on(&directory, "check", &[]).ended(1).says(".checkpoint: not whole");
    on(&directory, "repair", &[]).ended(0).says("9 waiting events");
    on(&directory, "check", &[]).ended(0);
    upstream.live();
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    assert_eq!((scrape.count("events_delivered_total", &[]), scrape.count("dead_letters", &[])), (9, 1));
    assert_eq!(surgegate.post(PATH, trigger("key-1")).outcome(), "duplicate", "the states are there, too");
}

#[test]
fn events_that_are_gone_without_a_trace_are_told() {
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &Upstream::dead().url())])]);
    post(&surgegate, (0..6).map(|n| format!("one-{n}")));
    surgegate.kill();
    surgegate.start_again();
    post(&surgegate, (0..3).map(|n| format!("two-{n}")));
    surgegate.kill();
    let [first, second] = &files(&surgegate, "log")[..] else { panic!("two segments") };
    change(first, |bytes| {
        let body = find(bytes, "one-4");
        let record = bytes[..body].windows(4).rposition(|window| window == b"SGR1").unwrap();
        bytes[record..].fill(0);
    });
    let directory = surgegate.spool();
    let name = second.file_name().unwrap().to_str().unwrap();
    let gap = format!("DAMAGED spool/{name}: 2 events before its first are gone without a trace");
    on(&directory, "check", &[]).ended(1).says(&gap);
    on(&directory, "repair", &[]).ended(0).says("noted: ").says("7 waiting events");
    on(&directory, "check", &[]).ended(0);
}

#[test]
fn a_send_delivers_what_a_killed_process_left_in_order_and_once() {
    const KEYS: usize = 40;
    const EACH: usize = 6;
    let mut upstream = Upstream::dead();
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &upstream.url())])]);
    let mut connection = surgegate.connect();
    for step in 0..EACH {
        for key in 0..KEYS {
            let key = format!("key-{key}");
            let body = if step % 2 == 0 { trigger(&key) } else { resolve(&key) };
            assert_eq!(connection.post(PATH, body).unwrap().status, 202);
        }
    }
    surgegate.kill();
    // Moved elsewhere: --directory counts before the configuration's.
    let elsewhere = TempDir::new().unwrap();
    let volume = elsewhere.path().join("volume");
    std::fs::rename(surgegate.spool(), &volume).unwrap();
    let volume_name = volume.to_str().unwrap();
    // Nobody listens there yet.
    let said = with(&surgegate, "send", &["--directory", volume_name, "--timeout", "2500ms"]).ended(1);
    let said = said.says("delivered 0 events").says("left: 240 events for pager");
    let progress = said.err.lines().filter(|line| line.contains("to send: pager 240")).count();
    assert!((1..=3).contains(&progress), "about one line a second: {said:?}");

    upstream.live();
    let send = ["--directory", volume_name, "--timeout", "60s"];
    with(&surgegate, "send", &send).ended(0).says("delivered 240 events").says("nothing waits any more");
    let mut by_key = BTreeMap::<String, Vec<String>>::new();
    let mut uids = std::collections::BTreeSet::new();
    for arrival in upstream.arrivals() {
        assert!(uids.insert(arrival.uid.clone()), "sent twice: {arrival:?}");
        by_key.entry(arrival.key).or_default().push(arrival.action);
    }
    let order: Vec<&str> = ["trigger", "resolve"].into_iter().cycle().take(EACH).collect();
    assert_eq!(by_key.len(), KEYS);
    assert!(by_key.values().all(|actions| *actions == order), "out of order: {by_key:?}");
    with(&surgegate, "send", &send).ended(0).says("delivered 0 events");
    on(&volume, "check", &[]).ended(0);

    std::fs::rename(&volume, surgegate.spool()).unwrap();
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_delivered_total", &[]), (KEYS * EACH) as u64);
    assert_eq!(upstream.count(), KEYS * EACH, "sent again after it was delivered");
    assert_eq!(surgegate.post(PATH, resolve("key-0")).outcome(), "duplicate_resolve", "the states are there, too");
}

#[test]
fn a_send_that_is_told_to_stop_keeps_what_is_left() {
    let upstream = Upstream::scripted(|_| Fault::Answer(503));
    let mut surgegate = Surgegate::start(&[&to(&[("pager", &upstream.url())])]);
    post(&surgegate, (0..200).map(|n| format!("key-{n}")));
    surgegate.kill();
    upstream.forget();
    // One after another, so that some are left.
    upstream.tell(|_| Fault::After(Duration::from_millis(400), 200));
    for (name, code) in [("TERM", 1), ("INT", 1)] {
        let before = upstream.count();
        let child = configured(&surgegate, "send", &[]).spawn().unwrap();
        wait_until("something sent", || upstream.count() > before);
        signal(name, child.id());
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{name}: {out} {err}");
        assert!(err.contains("told to stop") && out.contains("left: "), "{name}: {out} {err}");
    }
    upstream.tell(|_| Fault::Answer(200));
    let listed = on(&surgegate.spool(), "ls", &["--format", "json"]).ended(0).json();
    let left = listed["waiting"].as_u64().unwrap();
    assert!((1..200).contains(&left), "{left} left");
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_delivered_total", &[]), 200);
    let mut uids: Vec<String> = upstream.arrivals().into_iter().map(|arrival| arrival.uid).collect();
    uids.sort();
    uids.dedup();
    assert_eq!((uids.len(), upstream.count()), (200, 200), "each once: it stopped in order");
}

#[test]
fn after_an_upstream_was_renamed_its_events_are_named_and_can_be_given_to_the_new_name() {
    let upstream = Upstream::scripted(|arrival| Fault::Answer(if arrival.key == "bad-one" { 422 } else { 503 }));
    let url = upstream.url();
    let mut surgegate = Surgegate::start(&[&to(&[("old-pager", &url)])]);
    post(&surgegate, ["bad-one".to_owned()]);
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    post(&surgegate, (0..25).map(|n| format!("key-{n}")));
    assert!(surgegate.stop().success());
    upstream.forget();
    upstream.tell(|_| Fault::Answer(200));
    std::fs::write(&surgegate.files()[2], to(&[("pager", &url), ("archive", &url)])).unwrap();
    with(&surgegate, "send", &[])
        .ended(1)
        .says("left: 25 events for old-pager, which is not in the configuration")
        .says("surgegate spool reassign --from old-pager --to NAME");

    let give = ["--from", "old-pager", "--to", "pager"];
    let dry: Vec<&str> = give.iter().copied().chain(["--dry-run"]).collect();
    let before = image(&surgegate.spool());
    with(&surgegate, "reassign", &dry).ended(0).says("would give 25 events (payments 25) from old-pager to pager");
    assert!(image(&surgegate.spool()) == before, "a dry run changed something");
    with(&surgegate, "reassign", &["--from", "old-pager", "--to", "nobody"])
        .ended(1)
        .complains("nobody is no upstream of the configuration")
        .complains("pager, archive");
    with(&surgegate, "reassign", &["--from", "other", "--to", "pager"])
        .ended(1)
        .complains("nothing here for other")
        .complains("old-pager");
    with(&surgegate, "reassign", &["--from", "pager", "--to", "pager"]).ended(1);
    let none: Vec<&str> = give.iter().copied().chain(["--integration", "other"]).collect();
    with(&surgegate, "reassign", &none).ended(1).complains("nothing here for old-pager");
    with(&surgegate, "reassign", &give)
        .ended(0)
        .says("gave 25 events (payments 25) from old-pager to pager")
        .says("1 dead letter of old-pager stay");
    assert_eq!(upstream.count(), 0, "nothing is sent by it");

    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(keys(&upstream).len(), 25);
    let old = ("upstream", "old-pager");
    assert_eq!(scrape.count("events_dropped_total", &[old, ("reason", "reassigned")]), 25);
    assert_eq!(scrape.count("events_enqueued_total", &[("upstream", "pager")]), 25);
    assert_eq!(scrape.count("events_delivered_total", &[("upstream", "pager")]), 25);
    assert_eq!(scrape.count("dead_letters", &[old]), 1);
    assert_eq!(scrape.count("spool_orphaned_events", &[]), 0);
}

#[test]
fn only_what_is_named_is_dropped_and_only_when_it_is_meant() {
    let upstream = Upstream::scripted(|arrival| Fault::Answer(if arrival.key.starts_with("bad") { 422 } else { 503 }));
    let url = upstream.url();
    let pieces = to(&[("pager", &url), ("archive", &url)]).replace("upstreams: [pager]", "upstreams: [pager, archive]");
    let mut surgegate = Surgegate::start(&[&pieces]);
    post(&surgegate, ["bad-1", "bad-2", "bad-3"].map(str::to_owned));
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) == 6);
    post(&surgegate, (0..12).map(|n| format!("key-{n}")));
    surgegate.stop();
    let directory = surgegate.spool();
    let before = image(&directory);
    let archive = ["--upstream", "archive"];
    let also = |more: &[&'static str]| archive.iter().copied().chain(more.iter().copied()).collect::<Vec<&str>>();
    on(&directory, "drop", &archive)
        .ended(2)
        .says("would drop 12 waiting events (payments 12) of archive for good")
        .says("--yes");
    on(&directory, "drop", &also(&["--dry-run", "--dead-letters"])).ended(0).says("would drop 3 dead letters");
    on(&directory, "drop", &also(&["--dry-run", "--yes"])).ended(2);
    on(&directory, "drop", &["--upstream", "other", "--yes"]).ended(1).complains("archive, pager");
    assert!(image(&directory) == before, "what was only asked was done");
    on(&directory, "drop", &also(&["--yes"])).ended(0).says("dropped 12 waiting events (payments 12) of archive");
    on(&directory, "ls", &[]).ended(0).says("in all 12 waiting events and 6 dead letters");
    on(&directory, "drop", &also(&["--dead-letters", "--yes"])).ended(0).says("dropped 3 dead letters");
    on(&directory, "drop", &archive).ended(1).complains("nothing here for archive");

    upstream.forget();
    upstream.tell(|_| Fault::Answer(200));
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(upstream.count(), 12, "each to pager");
    assert_eq!(scrape.count("events_dropped_total", &[("upstream", "archive"), ("reason", "operator")]), 15);
    assert_eq!(scrape.count("dead_letters", &[("upstream", "pager")]), 3);
    assert_eq!(scrape.count("dead_letters", &[("upstream", "archive")]), 0);
}

/// The commands of the README's section, as they stand there, where a configuration and an orphaned spool are.
#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## The spool\n").nth(1).expect("a section on the spool");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    let upstream = Upstream::scripted(|_| Fault::Answer(503));
    let mut surgegate = Surgegate::start(&[&to(&[("old-pager", &upstream.url())])]);
    post(&surgegate, (0..5).map(|n| format!("key-{n}")));
    surgegate.kill();
    upstream.forget();
    upstream.tell(|_| Fault::Answer(200));
    let home = TempDir::new().unwrap();
    std::fs::rename(surgegate.spool(), home.path().join("data")).unwrap();
    let config = to(&[("pager", &upstream.url())]) + "spool: { directory: ./data }\n";
    std::fs::write(home.path().join("surgegate.yaml"), config).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_surgegate")).parent().unwrap().to_str().unwrap();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap());
    let mut verbs = vec![];
    for line in block.lines() {
        let said = ended(Command::new("sh").args(["-c", line]).env("PATH", &path).current_dir(home.path()));
        eprintln!("{line}\n{}{}", said.out, said.err);
        said.ended(0);
        verbs.extend(line.split_whitespace().nth(2).map(str::to_owned));
    }
    verbs.sort();
    verbs.dedup();
    assert_eq!(verbs, ["check", "drop", "ls", "reassign", "repair", "send"]);
    assert_eq!(upstream.count(), 5, "given to the new name, and sent");
}
