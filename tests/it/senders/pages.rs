//! Pages whose sender cannot be had here: what they have somebody install is installed and called as the sender calls it; what
//! they have somebody configure is read, and a sample of what the sender posts is posted as it says.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::{blocks, delivered, filled, ran, root, start, tool};
use crate::harness::{KEY, Recorder, request};

#[test]
fn checkmks_page_installs_one_method_and_that_one_tells() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let site = tempfile::tempdir().unwrap();
    // A site has it.
    let methods = site.path().join("local/share/check_mk/notifications");
    std::fs::create_dir_all(&methods).unwrap();
    let mut install = Command::new("sh");
    install.args(["-ec", &blocks("checkmk.md", "sh")[0]]).current_dir(root()).env("HOME", site.path());
    ran(&install.output().unwrap(), "the page's commands");
    let listed: Vec<_> = std::fs::read_dir(&methods).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [method] = &listed[..] else { panic!("each of them would be a method: {listed:?}") };
    assert_eq!(std::fs::metadata(method).unwrap().permissions().mode() & 0o111, 0o111);
    let name = std::fs::read_to_string(method).unwrap().lines().nth(1).unwrap().to_owned();
    let text = std::fs::read_to_string(root().join("docs/senders/checkmk.md")).unwrap();
    assert!(text.contains(&format!("the method \"{}\"", name.trim_start_matches("# "))), "{name}");
    let (_, url) = text.split_once("only parameter `").unwrap();
    let url = filled(url.split('`').next().unwrap(), &surgegate);
    for (kind, state) in [("PROBLEM", "CRITICAL"), ("RECOVERY", "OK")] {
        let mut notify = Command::new(method);
        notify.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", site.path());
        notify.envs([("NOTIFY_PARAMETER_1", url.as_str()), ("NOTIFY_NOTIFICATIONTYPE", kind)]);
        notify.envs([("NOTIFY_WHAT", "SERVICE"), ("NOTIFY_HOSTNAME", "web-4"), ("NOTIFY_HOSTSTATE", "UP")]);
        notify.envs([
            ("NOTIFY_SERVICEDESC", "CPU"),
            ("NOTIFY_SERVICESTATE", state),
            ("NOTIFY_SERVICEOUTPUT", "load 9"),
        ]);
        ran(&notify.output().unwrap(), kind);
    }
    let events = delivered(&surgegate, &recorder);
    let seen: Vec<_> = events.iter().map(|event| (&event["action"], &event["key"])).collect();
    let (trigger, resolve, key) = (json!("trigger"), json!("resolve"), json!("web-4/CPU"));
    assert_eq!(seen, [(&trigger, &key), (&resolve, &key)]);
}

/// A file of YAML as others read it.
fn read(yaml: &str) -> Value {
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1])))";
    let read = Command::new(tool("schemathesis/bin/python")).args(["-c", program, yaml]).output();
    let read = read.expect("schemathesis: make install-tools");
    ran(&read, yaml);
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
fn grafana_posts_where_its_page_says() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let page = read(&filled(&blocks("grafana.md", "yaml")[0], &surgegate));
    assert_eq!(page["apiVersion"], 1);
    let receiver = &page["contactPoints"][0]["receivers"][0];
    assert_eq!(receiver["type"], "webhook");
    let settings = receiver["settings"].as_object().unwrap();
    let url = settings["url"].as_str().unwrap();
    let path = url.strip_prefix(&format!("http://{}", surgegate.ingest())).unwrap();
    let mut fields = vec!["Content-Type: application/json".to_owned()];
    if let (Some(scheme), Some(key)) = (settings.get("authorization_scheme"), settings.get("authorization_credentials"))
    {
        fields.push(format!("Authorization: {} {}", scheme.as_str().unwrap(), key.as_str().unwrap()));
    }
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    // Of version 9 and later, and of those before it, to the same URL.
    for sample in ["unified-firing", "legacy-ok"] {
        let file = root().join(format!("tests/contracts/grafana/{sample}.json"));
        let body = std::fs::read(&file).unwrap();
        let mut connection = surgegate.connect();
        let method = settings["httpMethod"].as_str().unwrap();
        connection.send(request(method, path, &fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 200, "{sample}: {}", answer.text());
    }
    let events = delivered(&surgegate, &recorder);
    assert!(!events.is_empty() && events.iter().all(|event| event["dialect"] == "grafana"), "{events:?}");
}

#[test]
fn the_generic_mapping_reads_what_it_names() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, &blocks("generic.md", "yaml")[0]);
    for state in ["kaputt", "heil"] {
        let body = json!({ "alert": { "name": "disk full", "id": 7, "state": state, "prio": "1", "labels": { "team": "db" } } });
        let mut connection = surgegate.connect();
        let fields = ["Content-Type: application/json"];
        connection.send(request("POST", &format!("/hooks/generic/{KEY}"), &fields, body.to_string())).unwrap();
        assert_eq!(connection.answer().unwrap().status, 202);
    }
    let events = delivered(&surgegate, &recorder);
    let actions: Vec<&Value> = events.iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert!(events.iter().all(|event| event["key"] == "7"), "{events:?}");
    let trigger = &events[0];
    assert_eq!((&trigger["title"], &trigger["severity"]), (&"disk full".into(), &5.into()));
    assert!(trigger["tags"].to_string().contains("\"team\""), "{trigger}");
}
