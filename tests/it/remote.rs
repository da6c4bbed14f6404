//! The verbs that speak to a running process: what they show and do, what they say when they cannot, and the code
//! they end with. Against the real binary where it knows the API, against `stub` where it seldom does it.

mod stub;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::faults::{Fault, Upstream};
use crate::harness::{
    KEY, PATH, PATIENCE, Recorder, Said, Surgegate, ended, resolve, standard, trigger, verb, wait_for, wait_until,
};
use stub::{Stub, fine, refused, stream};

/// A command line for the admin listener there; the first word is the verb.
fn command(admin: SocketAddr, words: &[&str]) -> Command {
    let mut command = verb(words[0]);
    command.args(&words[1..]).env("SURGEGATE_ADMIN", format!("http://{admin}"));
    command
}

fn says(admin: SocketAddr, words: &[&str]) -> Said {
    ended(&mut command(admin, words))
}

/// Whether all is well must not depend on how full the machine's disk is.
const SMALL: &str = "spool: { max_bytes: 128MiB }\n";

/// One integration and an upstream that refuses what begins with `poison`.
fn poisoned() -> (Upstream, Surgegate) {
    let upstream =
        Upstream::scripted(|arrival| Fault::Answer(if arrival.key.starts_with("poison") { 400 } else { 200 }));
    let surgegate = Surgegate::start(&[SMALL, &crate::crash::configuration(&upstream.url(), "connections: 4")]);
    (upstream, surgegate)
}

/// Rows of `dead-letters ls --json` with these words, once there are so many.
fn rows(surgegate: &Surgegate, words: &[&str], count: usize) -> Vec<Value> {
    let words = [&["dead-letters", "ls", "--json"], words].concat();
    wait_for("dead letters", || {
        let said = says(surgegate.admin_address(), &words).ended(0);
        let rows: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (rows.len() == count).then_some(rows)
    })
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

fn accept(surgegate: &Surgegate, body: String) {
    assert_eq!(surgegate.post(PATH, body).status, 202);
}

#[test]
fn dead_letters_are_listed_replayed_and_dropped_from_the_command_line() {
    let (upstream, surgegate) = poisoned();
    let admin = surgegate.admin_address();
    says(admin, &["dead-letters", "ls"]).ended(0).says("no dead letters\n");
    for key in ["poison-1", "poison-2", "poison-3"] {
        accept(&surgegate, trigger(key));
    }
    let all = rows(&surgegate, &[], 3);
    assert_eq!(ids(&rows(&surgegate, &["--limit", "2"], 2)), ids(&all)[..2]);
    let table = says(admin, &["dead-letters", "ls"]).ended(0);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 4, "{table:?}");
    assert!(lines[0].starts_with("ID ") && lines[0].contains("REASON"), "{table:?}");
    assert!(lines[1].starts_with(ids(&all)[0]) && lines[1].contains(" refused "), "{table:?}");
    assert!(!table.out.contains("poison-1"), "keys are masked: {table:?}");

    upstream.tell(|_| Fault::Answer(200));
    says(admin, &["dead-letters", "drop", ids(&all)[0]]).ended(0).says("dropped 1 dead letter\n");
    says(admin, &["dead-letters", "replay", ids(&all)[1]]).ended(0).says("replayed 1 event\n");
    says(admin, &["dead-letters", "replay", "--all"]).ended(0).says("replayed 1 event\n");
    surgegate.wait_until_delivered();
    rows(&surgegate, &[], 0);
    for verb in ["replay", "drop"] {
        let gone = says(admin, &["dead-letters", verb, ids(&all)[0]]).ended(1);
        assert_eq!(
            gone.err,
            format!(
                "surgegate dead-letters {verb}: {}: no such dead letter\n  `surgegate dead-letters ls` shows those there \
                 are; it may have been replayed or dropped since\n",
                ids(&all)[0]
            )
        );
    }
}

#[test]
fn what_may_not_be_replayed_any_more_says_what_can_be_done_with_it() {
    let (upstream, surgegate) = poisoned();
    accept(&surgegate, trigger("poison"));
    rows(&surgegate, &[], 1);
    accept(&surgegate, resolve("poison"));
    let dead = rows(&surgegate, &[], 2);
    upstream.tell(|_| Fault::Answer(200));
    accept(&surgegate, trigger("poison"));
    surgegate.wait_until_delivered();
    let id = ids(&dead)[0];
    let said = says(surgegate.admin_address(), &["dead-letters", "replay", id]).ended(1);
    said.complains("the key was opened anew since").complains(&format!("surgegate dead-letters drop {id}"));
    let all = says(surgegate.admin_address(), &["dead-letters", "replay", "--all"]).ended(0);
    all.says("replayed 0 events\n").says("2 events can only be shown or dropped: the incident went on without them");
}

#[test]
fn whoever_cannot_be_asked_is_told_apart_and_named() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    let [ingest, observe, admin] = [surgegate.ingest(), surgegate.observe_address(), surgegate.admin_address()];
    let verbs: [&[&str]; 10] = [
        &["dead-letters", "ls"],
        &["dead-letters", "groups"],
        &["dead-letters", "replay", "--all"],
        &["dead-letters", "drop", "pager-1"],
        &["events", "find", "--integration", "payments", "--key", "a"],
        &["tap", "--once"],
        &["top"],
        &["reload"],
        &["log-level"],
        &["log-level", "debug"],
    ];
    for words in verbs {
        for (address, name) in [(ingest, "ingest"), (observe, "observe")] {
            // The observe listener takes no other method on any path, and says so.
            let said = says(address, words).ended(1);
            let told = said.err.contains(&format!("http://{address} is the {name} listener: name the one of"));
            assert!(told || said.err.contains("use GET"), "{words:?} at {name}: {said:?}");
        }
    }
    surgegate.kill();
    for words in verbs {
        let said = says(admin, words).ended(75);
        let name =
            words[..words.len().min(if ["dead-letters", "events"].contains(&words[0]) { 2 } else { 1 })].join(" ");
        said.complains(&format!("surgegate {name}: the admin listener of http://{admin} cannot be reached: "))
            .complains("Connection refused")
            .complains("\n  does Surgegate run there? --admin URL or SURGEGATE_ADMIN names another listener\n");
    }
}

#[test]
fn a_token_is_asked_for_and_named_when_it_is_wrong() {
    let recorder = Recorder::start();
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "correct horse\n"), file("wrong", "s3cret battery\n"));
    let surgegate =
        Surgegate::start(&[&standard(&recorder), &format!("listen: {{ admin: {{ token_file: '{right}' }} }}\n")]);
    let admin = surgegate.admin_address();
    let drop = ["dead-letters", "drop", "pager-999"];
    let without = says(admin, &drop).ended(1);
    without
        .complains("no token, or a wrong one: send Authorization: Bearer <token>\n")
        .complains("  name the file of `listen.admin.token_file` with --token-file or SURGEGATE_ADMIN_TOKEN_FILE\n");
    let with = |file: &str| says(admin, &[&drop[..], &["--token-file", file]].concat());
    let refused = with(&wrong).ended(1).complains(&format!("the token in {wrong} is not the one"));
    assert!(!refused.err.contains("s3cret"), "{refused:?}");
    with(&right).ended(1).complains("no such dead letter");
    ended(command(admin, &drop).env("SURGEGATE_ADMIN_TOKEN_FILE", &right)).ended(1).complains("no such dead letter");
    with(&file("empty", "\n")).ended(2).complains("it is empty");
    with("/nowhere/token").ended(2).complains("the token file /nowhere/token: No such file");
    // Reads need none.
    says(admin, &["dead-letters", "ls"]).ended(0);
}

#[test]
fn what_is_asked_the_wrong_way_is_usage() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let usage = |words: &[&str]| says(nowhere, words).ended(2);
    usage(&["dead-letters", "replay"]).complains("which dead letters?").complains("or --all");
    usage(&["dead-letters", "drop"]).complains("which dead letters?");
    usage(&["dead-letters", "drop", "--all", "--upstream", "pager"]);
    usage(&["dead-letters", "replay", "pager-1", "--dry-run"]);
    usage(&["dead-letters", "drop", "pager-1", "--reason", "refused"]);
    usage(&["dead-letters", "ls", "--limit", "0"]);
    usage(&["tap", "--admin", "ftp://127.0.0.1"]).complains("--admin: http or https are spoken there");
    usage(&["tap", "--admin", "http://me:s3cret@127.0.0.1"]).complains("a token goes into --token-file");
    usage(&["log-level", "loud"]).complains("[possible values: error, warn, info, debug, trace]");
    usage(&["top", "--ca-file", "/nowhere/ca.pem"]).complains("--ca-file /nowhere/ca.pem");
}

#[test]
fn one_frame_of_top_says_the_worst_first_and_needs_no_terminal() {
    let (upstream, surgegate) = poisoned();
    let admin = surgegate.admin_address();
    let frame = || says(admin, &["top", "--once"]).ended(0);
    let calm = frame();
    assert_eq!(calm.out.lines().nth(1), Some("All is well: accepting and delivering."), "{calm:?}");
    accept(&surgegate, trigger("poison"));
    wait_until("the dead letter", || {
        frame().out.lines().nth(1)
            == Some("DEAD LETTERS GROWING: 1 more in 5 min at pager. 1 dead letter needs a look.")
    });
    upstream.tell(|_| Fault::Answer(503));
    (0..40).for_each(|number| accept(&surgegate, trigger(&format!("key-{number}"))));
    let held = wait_for("trouble", || Some(frame()).filter(|said| said.out.contains("\nDELIVERY STOPPED")));
    assert!(held.out.contains("safe on disk, space for"), "{held:?}");
    // In the words of the page and the API.
    let facts = surgegate.admin("/api/v1/status").json();
    let code = |fact: &serde_json::Value| fact["code"].as_str().unwrap().to_owned();
    assert_eq!(
        facts["facts"].as_array().unwrap().iter().map(code).collect::<Vec<_>>()[..2],
        ["delivery_stopped", "dead_letters_growing"]
    );
    assert!(surgegate.admin("/").text().contains("DELIVERY STOPPED"));
    assert!(held.out.lines().any(|line| line.starts_with("pager ")), "{held:?}");
    assert!(!held.out.contains('\u{1b}'), "{held:?}");
    says(admin, &["top"]).ended(2).complains("it needs a terminal").complains("surgegate top --once");
}

/// A child that does not outlive its test.
struct Mortal(std::process::Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        // Gone already when it ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command line on a terminal of its own. `react` sees what is new on the screen and says what is typed; the code it
/// ended with, and all it showed.
fn on_a_terminal(admin: SocketAddr, words: &str, mut react: impl FnMut(&str) -> Option<&'static str>) -> (i32, String) {
    let line = format!("stty rows 24 cols 80 && exec {} {words}", env!("CARGO_BIN_EXE_surgegate"));
    let child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .env("SURGEGATE_ADMIN", format!("http://{admin}"))
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux");
    let mut child = Mortal(child);
    let (mut keys, mut screen) = (child.0.stdin.take(), child.0.stdout.take().unwrap());
    let (mut shown, mut seen) = (Vec::new(), 0);
    let mut block = [0; 4096];
    let began = Instant::now();
    while let Ok(count @ 1..) = screen.read(&mut block) {
        assert!(began.elapsed() < PATIENCE, "not yet: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&block[..count]);
        if let (Some(typed), Some(keys)) = (react(&String::from_utf8_lossy(&shown[seen..])), &mut keys) {
            seen = shown.len();
            // It may have ended already.
            let _ = keys.write_all(typed.as_bytes());
        }
    }
    drop(keys.take());
    (child.0.wait().unwrap().code().unwrap_or(-1), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn top_takes_a_terminal_and_gives_it_back() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[SMALL, &standard(&recorder)]);
    for key in ["q", "\u{3}"] {
        let press = |new: &str| new.contains("A SECOND").then_some(key);
        let (code, shown) = on_a_terminal(surgegate.admin_address(), "top", press);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("All is well"), "{shown}");
        let [taken, given] = ["\u{1b}[?1049h", "\u{1b}[?1049l"].map(|code| shown.find(code).expect(code));
        assert!(taken < shown.find("Surgegate").unwrap() && given > shown.rfind("Surgegate").unwrap(), "{shown:?}");
        assert!(shown[given..].contains("\u{1b}[?25h"), "the cursor is shown again: {shown:?}");
    }
}

#[test]
fn top_waits_for_a_process_that_is_away() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    let admin = surgegate.admin_address();
    let mut acts = 0;
    let (code, shown) = on_a_terminal(admin, "top", |new| match acts {
        0 if new.contains("refused: ") || new.contains("connection") => {
            surgegate.kill();
            acts = 1;
            Some("")
        }
        1 if new.contains("NO ANSWER for ") => Some("q"),
        _ => None,
    });
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(&format!("the admin listener of http://{admin} ")), "{shown}");
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let many = Stub::start(|_, path| match path.contains("after=") {
        true => fine(&json!([])),
        false => fine(&Value::Array((0..1000).map(|number| letter(&format!("pager-{number}"))).collect())),
    });
    for words in [&["dead-letters", "ls"][..], &["dead-letters", "ls", "--json"]] {
        let mut child = command(many.address(), words).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(0), ""),
            "{words:?}"
        );
    }
}

fn letter(id: &str) -> Value {
    json!({ "id": id, "event_uid": "01M7XFFNW1RP8B2TZ6ZFBQKR7G", "upstream": "pager", "reason": "refused",
            "status": 400, "attempts": 1, "at": "2026-11-21T06:00:00.000000Z", "integration": "payments",
            "action": "trigger", "key": "di***-7\u{1b}[2J" })
}

#[test]
fn a_list_is_paged_to_its_end_with_its_filters() {
    let stub = Stub::start(|_, path| match path.split("after=").nth(1).and_then(|rest| rest.split('&').next()) {
        None => fine(&json!([letter("pager-1"), letter("pager-2")])),
        Some("pager-2") => fine(&json!([letter("pager-9")])),
        Some(_) => fine(&json!([])),
    });
    let filters = [
        "--upstream",
        "pager",
        "--reason",
        "gave_up",
        "--integration",
        "a b",
        "--since",
        "2h",
        "--until",
        "2026-11-21T06:00:00+01:00",
    ];
    let said = says(stub.address(), &[&["dead-letters", "ls"], &filters[..]].concat()).ended(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 4, "{said:?}");
    assert!(lines[3].starts_with("pager-9  refused     400      1  "), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
    let query = "upstream=pager&reason=gave_up&integration=a%20b&since=2h&until=2026-11-21T06%3A00%3A00%2B01%3A00";
    let page = |after: &str| format!("GET /api/v1/dead-letters?{query}{after}&limit=1000");
    assert_eq!(stub.asked(), [page(""), page("&after=pager-2"), page("&after=pager-9")]);

    // A server that gives the same page again and again is not asked for ever.
    let stuck = Stub::start(|_, _| fine(&json!([letter("pager-1")])));
    says(stuck.address(), &["dead-letters", "ls"]).ended(1).complains("is the same page again");
    let other = Stub::start(|_, _| fine(&json!({ "rows": [] })));
    says(other.address(), &["dead-letters", "ls"]).ended(1).complains("the answer is no list");
}

#[test]
fn many_are_dropped_only_once_their_number_was_confirmed() {
    let stub = Stub::start(|_, path| match path {
        path if path.contains("dry_run=true") => fine(&json!({ "would_drop": 12, "dry_run": true })),
        path if path.contains("confirm=12") => fine(&json!({ "dropped": 12 })),
        _ => refused(409, "13 dead letters match now, not 11: nothing was dropped"),
    });
    let admin = stub.address();
    let drop = |more: &[&str]| says(admin, &[&["dead-letters", "drop", "--upstream", "pager"], more].concat());
    drop(&["--dry-run"]).ended(0).says("would drop 12 dead letters\n");
    drop(&[]).ended(2).says("would drop 12 dead letters\n").complains("nothing was dropped");
    // No terminal: nobody can type the number.
    drop(&["--yes"]).ended(2).complains("--confirm 12 does it without one");
    assert!(stub.asked().iter().all(|asked| asked == "DELETE /api/v1/dead-letters?upstream=pager&dry_run=true"));
    drop(&["--confirm", "11"]).ended(1).complains("13 dead letters match now").complains("nothing was dropped");
    drop(&["--confirm", "12"]).ended(0).says("dropped 12 dead letters\n");
    assert_eq!(stub.asked().last().unwrap(), "DELETE /api/v1/dead-letters?upstream=pager&confirm=12");

    let ask = |typed: &'static str| {
        let type_it = |new: &str| new.contains("to drop them: ").then_some(typed);
        on_a_terminal(admin, "dead-letters drop --upstream pager --yes", type_it)
    };
    let before = stub.asked().len();
    let (code, shown) = ask("yes\n");
    assert!(code == 1 && shown.contains("that is not the number: nothing was dropped"), "{code} {shown}");
    assert_eq!(stub.asked().len(), before + 1, "only the dry run");
    let (code, shown) = ask("12\n");
    assert!(code == 0 && shown.contains("dropped 12 dead letters"), "{code} {shown}");
}

#[test]
fn a_replay_of_many_says_what_it_came_to() {
    let stub = Stub::start(|_, path| match path {
        path if path.contains("reason=old") => fine(&json!({ "replayed": 7, "refused": 0 })),
        path if path.contains("dry_run=true") => fine(&json!({ "replayed": 7, "refused": 1, "dry_run": true })),
        path if path.contains("per_second=20") => fine(&json!({ "scheduled": 2000, "refused": 2, "dry_run": false })),
        _ => fine(&json!({ "replayed": 7, "refused": 0, "dry_run": false })),
    });
    let replay = |more: &[&str]| says(stub.address(), &[&["dead-letters", "replay", "--since", "2h"], more].concat());
    let dry = replay(&["--dry-run"]).ended(0).says("would replay 7 events\n");
    dry.says("1 event can only be shown or dropped");
    replay(&["--per-second", "20"]).ended(0).says("will replay 2,000 events, 20 a second\n");
    assert_eq!(replay(&[]).ended(0).out, "replayed 7 events\n");
    // A process that does not know of dry runs has done it: that must not be passed over.
    replay(&["--dry-run", "--reason", "old"]).ended(1).complains("knows no dry run, and has replayed them");
    let base = "POST /api/v1/dead-letters/replay?";
    assert_eq!(
        stub.asked(),
        [
            format!("{base}since=2h&dry_run=true"),
            format!("{base}since=2h&per_second=20"),
            format!("{base}since=2h"),
            format!("{base}reason=old&since=2h&dry_run=true")
        ]
    );
}

#[test]
fn groups_and_one_letter_are_shown_whole() {
    let stub = Stub::start(|_, path| match path {
        "/api/v1/dead-letters/groups?upstream=pager" => fine(&json!([
            { "upstream": "pager", "reason": "refused", "status": 400, "count": 4096,
              "oldest_at": "2026-11-01T00:00:00Z", "newest_at": "2026-11-21T06:00:00Z", "example_id": "pager-17" },
            { "upstream": "pager", "reason": "gave_up", "count": 1, "oldest_at": "2026-11-21T06:00:00Z",
              "newest_at": "2026-11-21T06:00:00Z", "example_id": "pager-99" }])),
        "/api/v1/dead-letters/pager-17" => {
            let mut letter = letter("pager-17");
            letter["event"] = json!({ "title": "disk full", "tags": { "team": { "value": "storage" } } });
            letter["last_answer"] = "no such \u{9b}service".into();
            letter["extra"] = json!({});
            fine(&letter)
        }
        _ => refused(404, "no such dead letter"),
    });
    let groups = says(stub.address(), &["dead-letters", "groups", "--upstream", "pager"]).ended(0);
    let lines: Vec<Vec<&str>> = groups.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..4], ["4,096", "pager", "refused", "400"], "{groups:?}");
    assert_eq!((lines[2][3], lines[2].last()), ("-", Some(&"pager-99")), "{groups:?}");
    groups.says("in all 4,097 dead letters\n");
    let shown = says(stub.address(), &["dead-letters", "show", "pager-17"]).ended(0);
    let shown = shown
        .says("reason       refused\n")
        .says("event\n  title  disk full\n  tags\n    team\n      value  storage\n");
    assert!(
        shown
            .says("last_answer  no such \u{fffd}service\n")
            .out
            .lines()
            .all(|line| !line.contains('\u{1b}') && line != "extra")
    );
    let raw = says(stub.address(), &["dead-letters", "show", "pager-17", "--json"]).ended(0).json();
    assert_eq!(raw["event"]["title"], "disk full");
    says(stub.address(), &["dead-letters", "show", "pager-1"]).ended(1).complains("no such dead letter");
}

#[test]
fn what_became_of_an_event_reads_from_top_to_bottom() {
    let event = json!({
        "event": { "event_uid": "01M7XFFNW1RP8B2TZ6ZFBQKR7G", "action": "trigger", "key": "di***-7" },
        "upstreams": [
            { "upstream": "pager", "state": "dead_letter", "status": 400, "attempts": 1, "reason": "refused",
              "at": "2026-11-21T06:00:01.000000Z", "dead_letter_id": "pager-17" },
            { "upstream": "archive", "state": "waiting" }],
        "history": [{ "at": "2026-11-21T06:00:00.000000Z", "what": "accepted", "outcome": "created" }],
    });
    let mut known = event.clone();
    known["incident"] = json!({ "iid": "01M7", "state": "OPEN", "count": 3 });
    let stub = Stub::start(move |_, path| match path {
        "/api/v1/events/01M7XFFNW1RP8B2TZ6ZFBQKR7G" => fine(&known),
        "/api/v1/events?integration=payments&key=disk%20%26%20db&limit=5" => fine(&json!({
            "incident": { "iid": "01M7" }, "events": [event], "complete": false, "searched_since": "2026-11-20T00:00:00Z" })),
        _ => refused(404, "no such event since 2026-11-20T00:00:00Z"),
    });
    let shown = says(stub.address(), &["events", "show", "01M7XFFNW1RP8B2TZ6ZFBQKR7G"]).ended(0);
    let expected = "\
event
  event_uid  01M7XFFNW1RP8B2TZ6ZFBQKR7G
  action     trigger
  key        di***-7
UPSTREAM  STATE        STATUS  TRIES  AT                           WHY
pager     dead_letter     400      1  2026-11-21T06:00:01.000000Z  refused pager-17
archive   waiting           -      -  -
history
  2026-11-21T06:00:00.000000Z  accepted  outcome=created
incident
  iid    01M7
  state  OPEN
  count  3
";
    assert_eq!(shown.out, expected);
    let find = ["events", "find", "--integration", "payments", "--key", "disk & db", "--limit", "5"];
    let found = says(stub.address(), &find).ended(0);
    found.says("  iid  01M7\n1 event, searched back to 2026-11-20T00:00:00Z; there may be more\n");
    let unknown = says(stub.address(), &["events", "show", "01M7XFFNW1RP8B2TZ6ZFBQKR7H"]).ended(1);
    assert_eq!(unknown.err, "surgegate events show: no such event since 2026-11-20T00:00:00Z\n");
}

#[test]
fn tap_shows_each_decision_and_says_how_it_ended_and_what_was_lost() {
    let decision = |key: &str| {
        let data = json!({ "at": "2026-11-21T06:43:15.123456Z", "request_id": "r1", "integration": "payments",
            "dialect": "squadcast", "action": "trigger", "outcome": "created", "status": 202, "key": key,
            "event_uid": "01M7XF" });
        format!("event: decision\ndata: {data}\n\n")
    };
    let text = format!(": hello\n\n{}event: lost\ndata: {{\"count\":1200}}\n\n{}", decision("a"), decision("b"));
    let stub = Stub::start(move |_, path| match path {
        path if path.contains("outcome=nonsense") => refused(400, "no such outcome: nonsense"),
        _ => stream(&text),
    });
    let filters = ["--integration", "payments", "--outcome", "created", "--reason", "x", "--key", "disk/db"];
    let all = says(stub.address(), &[&["tap"], &filters[..]].concat()).ended(1);
    assert_eq!(stub.asked(), ["GET /api/v1/tap?integration=payments&outcome=created&reason=x&key=disk%2Fdb"]);
    assert_eq!(all.out.lines().count(), 2, "{all:?}");
    assert!(all.out.starts_with("06:43:15.123456Z  202  created "), "{all:?}");
    assert!(!all.out.contains('\u{1b}'), "no colours without a terminal: {all:?}");
    all.complains("1,200 decisions were not shown\n").complains("surgegate tap: the process ended the stream\n");
    let once = says(stub.address(), &["tap", "--once", "--json"]).ended(0);
    assert_eq!((once.json()["key"].as_str(), once.out.lines().count()), (Some("a"), 1), "{once:?}");
    says(stub.address(), &["tap", "--outcome", "nonsense"]).ended(1).complains("no such outcome: nonsense");
    let (code, coloured) = on_a_terminal(stub.address(), "tap --once", |_| None);
    assert!(code == 0 && coloured.contains("created") && coloured.contains("\u{1b}["), "{code} {coloured:?}");
    let (code, plain) = on_a_terminal(stub.address(), "tap --once --json", |_| None);
    assert!(code == 0 && !plain.contains('\u{1b}'), "{code} {plain:?}");
}

#[test]
fn a_reload_says_what_it_came_to_with_every_finding() {
    let finding = json!({ "level": "error", "code": "unknown_key", "file": "surgegate.yaml", "line": 3, "column": 5,
        "message": "unknown key \"upstrems\"", "hint": "did you mean `upstreams`?" });
    let answer = |status: u16, body: Value| (status, "application/json", body.to_string());
    for (status, body, code, out, err) in [
        (200, json!({ "status": "reloaded", "findings": [] }), 0, "reloaded\n", ""),
        (
            422,
            json!({ "status": "invalid", "findings": [finding] }),
            78,
            "",
            "error: unknown key \"upstrems\"\n --> surgegate.yaml:3:5\n  = help: did you mean `upstreams`?\n\
             surgegate reload: the configuration is invalid\n  nothing was changed: the process goes on with what it had\n",
        ),
        (
            500,
            json!({ "status": "failed", "findings": [], "message": "cannot listen on 0.0.0.0:80" }),
            1,
            "",
            "surgegate reload: cannot listen on 0.0.0.0:80\n  its log says more\n",
        ),
    ] {
        let stub = Stub::start(move |_, _| answer(status, body.clone()));
        let said = says(stub.address(), &["reload"]).ended(code);
        assert_eq!((said.out.as_str(), said.err.as_str()), (out, err));
        assert_eq!(stub.asked(), ["POST /api/v1/reload"]);
        assert!(says(stub.address(), &["reload", "--json"]).ended(code).json()["findings"].is_array());
    }
    let old = Stub::start(|_, _| refused(404, "try /, /api/v1/status or /api/v1/dead-letters"));
    says(old.address(), &["reload"]).ended(1).complains("try /,").complains("may be of an older version");
}

#[test]
fn the_log_level_is_shown_and_changed() {
    let stub = Stub::start(|method, _| match method {
        "PUT" => fine(&json!({ "level": "debug" })),
        _ => fine(&json!({ "level": "info" })),
    });
    assert_eq!(says(stub.address(), &["log-level"]).ended(0).out, "info\n");
    assert_eq!(says(stub.address(), &["log-level", "debug"]).ended(0).out, "debug\n");
    assert_eq!(stub.asked(), ["GET /api/v1/log-level", "PUT /api/v1/log-level {\"level\":\"debug\"}"]);
}

/// The words of an example: up to a comment or a pipe, and without the text that stands beside it.
fn example(line: &str) -> Option<Vec<&str>> {
    let line = line.trim().strip_prefix("surgegate ")?;
    let line = line.split(" #").next()?.split(" | ").next()?.split("  ").next()?;
    Some(line.split_whitespace().collect())
}

#[test]
fn every_example_in_help_and_documents_is_one_that_is_understood() {
    let (free, nowhere) = (std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap(), "token");
    let admin = free.local_addr().unwrap();
    drop(free);
    let directory = tempfile::TempDir::new().unwrap();
    std::fs::write(directory.path().join(nowhere), "horse").unwrap();
    let mut texts = vec![document()];
    for words in [
        "dead-letters",
        "dead-letters ls",
        "dead-letters groups",
        "dead-letters show",
        "dead-letters replay",
        "dead-letters drop",
        "events",
        "events show",
        "events find",
        "tap",
        "top",
        "reload",
        "log-level",
    ] {
        let mut command = verb(words.split(' ').next().unwrap());
        let help = ended(command.args(words.split(' ').skip(1)).arg("--help")).ended(0);
        assert!(help.out.contains("\nExamples:\n  surgegate "), "{words} --help has no examples: {help:?}");
        assert!(help.out.contains("--admin <URL>") && help.out.contains("[env: SURGEGATE_ADMIN"), "{words}: {help:?}");
        texts.push(help.out);
    }
    let mut tried = 0;
    for words in texts.iter().flat_map(|text| text.lines()).filter_map(example) {
        let elsewhere = words.iter().position(|word| *word == "--admin");
        let words: Vec<&str> = words
            .iter()
            .enumerate()
            .filter(|(at, _)| elsewhere.is_none_or(|admin| *at != admin && *at != admin + 1))
            .map(|(_, word)| *word)
            .collect();
        let said = ended(command(admin, &words).current_dir(directory.path()));
        assert_eq!(said.code, 75, "`surgegate {}`: {said:?}", words.join(" "));
        tried += 1;
    }
    assert!(tried > 40, "only {tried} examples were found");
}

/// "From the command line" of the operator's document.
fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n## From the command line\n").nth(1).expect("the section");
    section.split("\n## ").next().unwrap_or(section).to_owned()
}

mod with_the_api {
    //! What the process of this version must know first.

    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn letters_are_grouped_filtered_shown_and_dropped_by_number() {
        let (_upstream, surgegate) = poisoned();
        let admin = surgegate.admin_address();
        accept(&surgegate, trigger("poison-1"));
        rows(&surgegate, &[], 1);
        accept(&surgegate, resolve("poison-1"));
        accept(&surgegate, trigger("poison-2"));
        let all = rows(&surgegate, &[], 3);
        assert_eq!(rows(&surgegate, &["--reason", "predecessor_dead"], 1)[0]["action"], "resolve");
        rows(&surgegate, &["--reason", "refused", "--upstream", "pager", "--integration", "payments"], 2);
        rows(&surgegate, &["--reason", "gave_up"], 0);
        rows(&surgegate, &["--until", "2h"], 0);
        rows(&surgegate, &["--since", "2h"], 3);
        let groups = says(admin, &["dead-letters", "groups"]).ended(0);
        groups.says("predecessor_dead").says("in all 3 dead letters\n");
        let id = ids(&all)[0];
        let letter = says(admin, &["dead-letters", "show", id, "--json"]).ended(0).json();
        assert_eq!((letter["id"].as_str(), letter["event"].is_object()), (Some(id), true), "{letter}");
        let shown = says(admin, &["dead-letters", "show", id]).ended(0).says("disk full");
        assert!(!shown.out.contains("poison-1") && !shown.out.contains(KEY), "{shown:?}");
        says(admin, &["dead-letters", "show", "pager-999999"]).ended(1).complains("no such dead letter");
        says(admin, &["dead-letters", "ls", "--since", "nonsense"]).ended(1);

        let replay = ["dead-letters", "replay", "--reason", "refused"];
        says(admin, &[&replay[..], &["--dry-run"]].concat()).ended(0).says("would replay 3 events\n");
        rows(&surgegate, &[], 3);
        let drop = ["dead-letters", "drop", "--reason", "refused"];
        says(admin, &[&drop[..], &["--dry-run"]].concat()).ended(0).says("would drop 2 dead letters\n");
        says(admin, &[&drop[..], &["--confirm", "3"]].concat())
            .ended(1)
            .complains("2")
            .complains("nothing was dropped");
        rows(&surgegate, &[], 3);
        says(admin, &[&drop[..], &["--confirm", "2"]].concat()).ended(0).says("dropped 2 dead letters\n");
        rows(&surgegate, &[], 1);
        surgegate.wait_until_delivered();
    }

    #[test]
    fn many_go_out_again_at_the_pace_that_was_asked_for() {
        let (upstream, surgegate) = poisoned();
        (0..5).for_each(|number| accept(&surgegate, trigger(&format!("poison-{number}"))));
        rows(&surgegate, &[], 5);
        upstream.tell(|_| Fault::Answer(200));
        let replay = ["dead-letters", "replay", "--all", "--per-second", "50"];
        says(surgegate.admin_address(), &replay).ended(0).says("will replay 5 events, 50 a second\n");
        rows(&surgegate, &[], 0);
        surgegate.wait_until_delivered();
    }

    #[test]
    fn an_event_is_found_by_its_id_and_by_its_key() {
        let (upstream, surgegate) = poisoned();
        let admin = surgegate.admin_address();
        accept(&surgegate, trigger("disk & db/7"));
        surgegate.wait_until_delivered();
        accept(&surgegate, resolve("disk & db/7"));
        surgegate.wait_until_delivered();
        let uid = upstream.arrivals()[0].uid.clone();
        let event = says(admin, &["events", "show", &uid, "--json"]).ended(0).json();
        assert_eq!(event["upstreams"][0]["state"], "delivered", "{event}");
        says(admin, &["events", "show", &uid]).ended(0).says(&uid).says("delivered").says("\nhistory\n");
        let find = ["events", "find", "--integration", "payments", "--key", "disk & db/7"];
        let found = says(admin, &[&find[..], &["--json"]].concat()).ended(0).json();
        assert_eq!(found["events"].as_array().unwrap().len(), 2, "{found}");
        says(admin, &find).ended(0).says("\n2 events, searched back to ");
        says(admin, &["events", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).ended(1);
        says(admin, &["events", "show", "nonsense"]).ended(1);
    }

    /// Posts until the tap has shown what it waits for: nobody can tell from outside when it listens.
    fn until_it_ends(surgegate: &Surgegate, mut tap: std::process::Child, body: impl Fn(usize) -> String) -> Said {
        let mut number = 0;
        let code = wait_for("the tap's end", || {
            surgegate.post(PATH, body(number));
            number += 1;
            tap.try_wait().unwrap()
        });
        let output = tap.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: code.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    #[test]
    fn tap_shows_what_is_decided_and_ends_with_the_process() {
        let recorder = Recorder::start();
        let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
        let admin = surgegate.admin_address();
        let tap = |words: &[&str]| command(admin, &[&["tap"], words].concat()).spawn().unwrap();
        let once = until_it_ends(&surgegate, tap(&["--once"]), |number| trigger(&format!("key-{number}"))).ended(0);
        assert_eq!(once.out.lines().count(), 1, "{once:?}");
        once.says("  202  created ").says(" payments ").says(" squadcast trigger ");
        let wanted =
            tap(&["--once", "--json", "--key", "wanted", "--outcome", "duplicate", "--integration", "payments"]);
        let named =
            until_it_ends(&surgegate, wanted, |number| trigger(if number % 2 == 0 { "wanted" } else { "unwanted" }));
        let data = named.ended(0).json();
        assert_eq!((&data["outcome"], &data["status"]), (&"duplicate".into(), &202.into()), "{data}");
        let refused = tap(&["--once", "--json", "--reason", "invalid_json"]);
        let refused = until_it_ends(&surgegate, refused, |_| "{".to_owned());
        assert!(refused.code == 0 && !refused.out.contains(KEY), "{refused:?}");

        let mut endless = command(admin, &["tap"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(endless.stdout.take().unwrap()).lines();
        let (told, first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let _ = lines.next();
            let _ = told.send(());
            lines.count()
        });
        wait_until("the first line", || {
            surgegate.post(PATH, trigger("again"));
            first.try_recv().is_ok()
        });
        assert!(surgegate.stop().success());
        let output = endless.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("surgegate tap: the "), "{output:?}");
        reader.join().unwrap();
    }

    #[test]
    fn the_log_level_changes_what_is_logged() {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&standard(&recorder)]);
        let admin = surgegate.admin_address();
        let lines = || surgegate.said().matches(r#""message":"event""#).count();
        assert_eq!(says(admin, &["log-level"]).ended(0).out, "info\n");
        accept(&surgegate, trigger("at-info"));
        assert_eq!(says(admin, &["log-level", "debug"]).ended(0).out, "debug\n");
        assert_eq!(says(admin, &["log-level"]).ended(0).out, "debug\n");
        says(admin, &["log-level", "nonsense"]).ended(2);
        assert_eq!(says(admin, &["log-level"]).ended(0).out, "debug\n");
        accept(&surgegate, trigger("at-debug"));
        wait_until("the line of the second event alone", || lines() == 1);
        says(admin, &["log-level", "info"]).ended(0);
        accept(&surgegate, trigger("at-info-again"));
        // Written behind everything before it.
        says(admin, &["reload"]).ended(0);
        wait_until("a line of the reload", || surgegate.is_said("reload"));
        assert_eq!(lines(), 1, "{}", surgegate.said());
    }

    #[test]
    fn a_reload_takes_a_valid_configuration_and_refuses_another() {
        let recorder = Recorder::start();
        let surgegate = Surgegate::start(&[&standard(&recorder)]);
        let admin = surgegate.admin_address();
        says(admin, &["reload"]).ended(0).says("reloaded");
        let file = surgegate.files().last().unwrap().clone();
        let valid = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{valid}upstrems: []\n")).unwrap();
        let invalid = says(admin, &["reload"]).ended(78);
        // Each finding as `validate` says it: the line, and the place in it.
        let mut validate = verb("validate");
        surgegate.files().iter().for_each(|file| {
            validate.arg("--config").arg(file);
        });
        let validated = ended(validate.arg("--no-environment")).ended(78);
        let finding = validated.err.split("\n\n").next().unwrap();
        assert!(finding.contains("| upstrems: []\n") && finding.contains("| ^^^^^^^^"), "{finding}");
        invalid.complains(&format!("{finding}\n\n")).complains(&format!(" --> {}:", file.display()));
        accept(&surgegate, trigger("still-there"));
        let other = "0badcafe0123456789abcdef0123456789abcdef";
        std::fs::write(&file, valid.replace(KEY, other)).unwrap();
        says(admin, &["reload"]).ended(0).says("reloaded");
        wait_until("the new key", || surgegate.post(&PATH.replace(KEY, other), trigger("new")).status == 202);
    }
}
