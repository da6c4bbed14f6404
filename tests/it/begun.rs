//! A configuration begun by `surgegate config init`, by four questions or by flags: the process takes it as it is, and the
//! key that was shown is taken at the addresses that were shown.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::harness::{PATIENCE, Recorder, Surgegate, binary, ended, trigger};

const ALERT: &str = r#"{"version":"4","groupKey":"{}","truncatedAlerts":0,"status":"firing","receiver":"surgegate",
  "groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager.example.com",
  "alerts":[{"status":"firing","labels":{"alertname":"DiskFull"},"annotations":{},"startsAt":"2026-03-01T10:02:11Z",
  "endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"8f3a1c2d4e5b6a70"}]}"#;

/// Starts on the file, and sends to each address that `told` names.
fn takes_what_it_began_with(folder: &Path, told: &str) {
    let text = std::fs::read_to_string(folder.join("surgegate.yaml")).unwrap();
    let paths: Vec<&str> = told
        .lines()
        .filter_map(|line| line.trim().strip_prefix("http://HOST:8080"))
        .map(|rest| rest.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(paths.len(), 2, "{told}");
    let key = paths[0].rsplit('/').next().unwrap();
    assert!(!text.contains(key), "the key itself is not written: {text}");
    assert_eq!(told.matches(key).count(), 3, "shown, and in each address: {told}");
    let surgegate = Surgegate::start(&[&text]);
    assert_eq!(surgegate.post(paths[0], trigger("disk-db-7")).status, 202);
    assert_eq!(surgegate.post(paths[1], ALERT).status, 200);
    let other = format!("{}{}", if key.starts_with('0') { '1' } else { '0' }, &key[1..]);
    assert_eq!(surgegate.post(&paths[0].replace(key, &other), trigger("k")).status, 404);
    surgegate.wait_until_delivered();
}

#[test]
fn flags_make_a_configuration_that_works() {
    let (recorder, folder) = (Recorder::start(), tempfile::TempDir::new().unwrap());
    let url = recorder.url();
    let spool = folder.path().join("spool").display().to_string();
    let words = ["config", "init", "--integration", "fleet", "--kind", "webhook", "--url", &url, "--spool", &spool];
    let told = ended(&mut binary(folder.path(), &[&words[..], &["--output", "surgegate.yaml"]].concat())).ended(0);
    takes_what_it_began_with(folder.path(), &told.err);
    assert_eq!(recorder.requests().len(), 2);
    let again = ended(&mut binary(folder.path(), &[&words[..4], &["--kind", "webhook"]].concat()));
    again.ended(2).complains("--kind webhook needs --url");
}

#[test]
fn a_wrong_answer_is_wrong_usage_and_told_by_its_flag() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = ["--url", "https://incidents.example.com/hook"];
    for (flags, told) in [
        (&["--url", "foo"][..], "--url: not an absolute URL"),
        (&["--url", "ftp://a.example"], "--url: a URL of scheme \"ftp\""),
        (&[&url[..], &["--integration", "Pay ments"]].concat(), "--integration: not a name: \"Pay ments\""),
        (&[&url[..], &["--spool", ""]].concat(), "a value is required for '--spool <DIRECTORY>'"),
        (&[&url[..], &["--credential-file", "absent"]].concat(), "--credential-file: cannot be read"),
        (&[&url[..], &["--set", "timeout=soon"]].concat(), "--set timeout: not a duration: \"soon\""),
        (&[&url[..], &["--set", "tiemout=5s"]].concat(), "did you mean \"timeout\"?"),
        (&[&url[..], &["--set", "timeout"]].concat(), "--set takes KEY=VALUE"),
        (&[&url[..], &["--set", "a: b=1"]].concat(), "with a key of the upstream"),
        (&[&url[..], &["--set", "url=https://a.example"]].concat(), "url is given twice"),
        (&[&url[..], &["--kind", "webhok"]].concat(), "webhook"),
    ] {
        let words = [&["config", "init", "--output", "surgegate.yaml"], flags].concat();
        let said = ended(&mut binary(folder.path(), &words)).ended(2).complains(told);
        assert!(!said.err.contains("surgegate.yaml:"), "no place in a file that nobody wrote: {said:?}");
    }
    assert!(!folder.path().join("surgegate.yaml").exists());
}

#[test]
fn four_questions_make_a_configuration_that_works() {
    let (recorder, folder) = (Recorder::start(), tempfile::TempDir::new().unwrap());
    let answers = [
        ("1/4", "fleet\n".to_owned()),
        ("2/4", "\n".to_owned()),
        ("3/4", format!("{}\n", recorder.url())),
        ("4/4", "\n".to_owned()),
    ];
    let line = format!("stty -echo && exec {} config init", env!("CARGO_BIN_EXE_surgegate"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .current_dir(folder.path())
        .envs([("TERM", "xterm"), ("SHELL", "/bin/sh")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut block, mut asked) = (String::new(), [0; 4096], 0);
    let began = Instant::now();
    while let Ok(count @ 1..) = screen.read(&mut block) {
        assert!(began.elapsed() < PATIENCE, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&block[..count]));
        if let Some((number, answer)) = answers.get(asked)
            && shown.rsplit_once(number).is_some_and(|(_, question)| question.ends_with(": "))
        {
            keyboard.write_all(answer.as_bytes()).unwrap();
            asked += 1;
        }
    }
    assert!(child.wait().unwrap().success() && asked == 4, "{shown}");
    assert!(std::fs::read_to_string(folder.path().join("surgegate.yaml")).unwrap().contains("directory: \"./data\""));
    // Its spool would stand where the test runs.
    let file = folder.path().join("surgegate.yaml");
    let data = folder.path().join("data").display().to_string();
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("./data", &data)).unwrap();
    takes_what_it_began_with(folder.path(), &shown.replace('\r', ""));
    assert_eq!(recorder.requests().len(), 2);
}
