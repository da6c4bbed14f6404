//! The pages of docs/senders, run as they stand: with the real sender where it can be had, else by calling our script with the
//! environment that the sender sets. Only the address and the key are put in.

mod daemons;
mod manager;
mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::alertmanager::Alertmanager;
use crate::harness::{KEY, Recorder, Reply, Surgegate, request, tools, wait_at_most, wait_until};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> PathBuf {
    tools().join(name)
}

/// The blocks of a page in that language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/senders").join(page)).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// As it would be written for this proxy.
fn filled(text: &str, surgegate: &Surgegate) -> String {
    text.replace("https://EDGE", &format!("http://{}", surgegate.ingest()))
        .replace("jsons://EDGE", &format!("json://{}", surgegate.ingest()))
        .replace("KEY", KEY)
}

/// `more`: lines of the integration, as a page shows them.
fn start(recorder: &Recorder, more: &str) -> Surgegate {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    Surgegate::start(&[&format!(
        "integrations:\n  - name: edge\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [pager]\n{more}\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )])
}

fn delivered(surgegate: &Surgegate, recorder: &Recorder) -> Vec<Value> {
    surgegate.wait_until_delivered();
    recorder.events()
}

fn notify(url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new("python3")
        .arg(root().join("config/senders/surgegate-notify"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("SURGEGATE_URL", url)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn ran(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    ran(&output, script);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn notifications_of_nagios_icinga_and_checkmk_open_and_end_incidents() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let url = |name: &str| format!("http://{}/hooks/{name}/{KEY}", surgegate.ingest());
    let nagios = |kind: &str, state: &str| {
        let said = [
            ("NAGIOS_NOTIFICATIONTYPE", kind),
            ("NAGIOS_HOSTNAME", "db-7"),
            ("NAGIOS_HOSTADDRESS", "$HOSTADDRESS$"),
            ("NAGIOS_SERVICEDESC", "disk /data"),
            ("NAGIOS_SERVICESTATE", state),
            ("NAGIOS_SERVICEOUTPUT", "1 % free; \"quoted\" & $HOME"),
        ];
        ran(&notify(&url("nagios"), &["nagios"], &said), kind);
    };
    nagios("PROBLEM", "CRITICAL");
    nagios("ACKNOWLEDGEMENT", "CRITICAL");
    nagios("RECOVERY", "OK");
    let icinga =
        [("NOTIFICATIONTYPE", "PROBLEM"), ("HOSTNAME", "web-3"), ("HOSTSTATE", "DOWN"), ("HOSTOUTPUT", "no route")];
    ran(&notify(&url("icinga"), &["icinga"], &icinga), "icinga");
    let checkmk = [
        ("NOTIFY_WHAT", "SERVICE"),
        ("NOTIFY_HOSTNAME", "web-4"),
        ("NOTIFY_HOSTSTATE", "UP"),
        ("NOTIFY_SERVICEDESC", "CPU"),
        ("NOTIFY_SERVICESTATE", "WARNING"),
        ("NOTIFY_SERVICEOUTPUT", "load 9"),
        ("NOTIFY_NOTIFICATIONTYPE", "PROBLEM"),
        ("NOTIFY_SHORTDATETIME", "2026-03-01 10:02:11"),
    ];
    ran(&notify(&url("checkmk"), &["checkmk"], &checkmk), "checkmk");
    ran(&notify(&url("generic"), &["systemd", "backup.service"], &[]), "systemd");
    let events = delivered(&surgegate, &recorder);
    let seen: Vec<(&str, &str)> =
        events.iter().map(|event| (event["action"].as_str().unwrap(), event["key"].as_str().unwrap())).collect();
    for wanted in [
        ("trigger", "db-7/disk /data"),
        ("acknowledge", "db-7/disk /data"),
        ("resolve", "db-7/disk /data"),
        ("trigger", "web-3"),
        ("trigger", "web-4/CPU"),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
    }
    assert!(seen.iter().any(|(action, key)| *action == "trigger" && key.ends_with("/backup.service")), "{seen:?}");
    assert_eq!(events[0]["description"], "1 % free; \"quoted\" & $HOME");
}

#[test]
fn the_script_tries_again_where_that_helps_and_says_why_it_failed() {
    let recorder = Recorder::scripted({
        let mut count = 0;
        move |_| {
            count += 1;
            match count {
                1 => Reply::Cut,
                2 => Reply::Status(503),
                3 => Reply::Json(202, json!({})),
                _ => Reply::Json(400, json!({ "message": "no", "errors": ["hostname: is required"] })),
            }
        }
    });
    let said = [("NAGIOS_HOSTNAME", "db-7"), ("NAGIOS_HOSTSTATE", "DOWN")];
    let url = format!("{}/hooks/nagios/{KEY}", recorder.url());
    let output = notify(&url, &["nagios"], &said);
    ran(&output, "the third try");
    assert_eq!(recorder.requests().len(), 3);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("no answer") && told.contains("status 503") && told.contains("trying again"), "{told}");
    let output = notify(&url, &["nagios"], &said);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), recorder.requests().len()), (Some(1), 4), "no try after a refusal: {told}");
    assert!(told.contains("status 400: hostname: is required") && !told.contains(KEY), "{told}");
    for (arguments, environment) in [(&["nagios"][..], &[][..]), (&["nagos"], &said), (&[], &said)] {
        let output = notify(&url, arguments, environment);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    let nowhere = notify("ftp://x", &["nagios"], &said);
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn zabbix_runs_the_media_type() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let directory = tempfile::tempdir().unwrap();
    let run = |parameters: &Value| {
        let input = directory.path().join("parameters.json");
        std::fs::write(&input, parameters.to_string()).unwrap();
        Command::new(tool("zabbix/usr/bin/zabbix_js"))
            .arg("-s")
            .arg(root().join("config/senders/zabbix-media-type.js"))
            .arg("-i")
            .arg(&input)
            .output()
            .expect("zabbix_js: make install-tools")
    };
    let mut parameters = json!({
        "url": format!("http://{}/hooks/zabbix/{KEY}", surgegate.ingest()), "subject": "Problem: disk full",
        "name": "disk full on db-7", "id": "16021", "status": "1", "hostname": "db-7", "ip": "192.0.2.7",
        "event_id": "991204", "severity": "High", "event_url": "{TRIGGER.URL}",
    });
    ran(&run(&parameters), "the problem");
    parameters["status"] = "0".into();
    ran(&run(&parameters), "its recovery");
    parameters["url"] = format!("http://{}/hooks/zabbix/0123", surgegate.ingest()).into();
    let refused = run(&parameters);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && told.contains("Surgegate answered 404"), "{told}");
    let events = delivered(&surgegate, &recorder);
    let seen: Vec<_> = events.iter().map(|event| (&event["action"], &event["key"], &event["severity"])).collect();
    let (trigger, resolve, key, level) = (json!("trigger"), json!("resolve"), json!("991204"), json!(4));
    assert_eq!(seen, [(&trigger, &key, &level), (&resolve, &key, &level)]);
}

#[test]
fn commands_of_the_pages_for_curl_and_apprise_work_as_they_stand() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, &blocks("generic.md", "yaml")[0]);
    let apprise = filled(&blocks("generic.md", "sh")[0], &surgegate)
        .replace("apprise ", &format!("{} ", tool("schemathesis/bin/apprise").display()));
    shell(&apprise);
    let events = delivered(&surgegate, &recorder);
    assert_eq!((&events[0]["action"], &events[0]["title"]), (&"trigger".into(), &"volume /data at 99 %".into()));

    let (recorder, pages) = (Recorder::start(), blocks("curl.md", "sh"));
    let surgegate = start(&recorder, "");
    // curl has it since 7.82.
    let knows_json = shell("curl --help all").contains("--json");
    let old = |script: &str| match knows_json {
        true => script.to_owned(),
        false => script.replace("--json", "--header 'Content-Type: application/json' --data"),
    };
    let dry = shell(&old(&filled(&pages[1], &surgegate)));
    assert!(dry.contains("\"dry_run\":true"), "{dry}");
    assert!(shell(&old(&filled(&pages[0], &surgegate))).contains("created"));
    assert!(shell(&old(&filled(&pages[0], &surgegate)).replace("firing", "resolved")).contains("resolved"));
    assert_eq!(delivered(&surgegate, &recorder).len(), 2);
}

#[test]
fn alertmanager_takes_its_page_and_sends() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "");
    let directory = tempfile::tempdir().unwrap();
    for (number, page) in blocks("alertmanager.md", "yaml").iter().enumerate() {
        let file = directory.path().join("alertmanager.yml");
        let page = filled(page, &surgegate);
        std::fs::write(&file, &page).unwrap();
        let checked =
            Command::new("amtool").arg("check-config").arg(&file).output().expect("amtool: make install-tools");
        ran(&checked, &page);
        let (_, receiver) = page.split_once("  - name: surgegate\n").unwrap();
        let alertmanager = Alertmanager::start(receiver);
        alertmanager.tell(number..number + 1, false);
        let patience = std::time::Duration::from_secs(180);
        wait_at_most(patience, "the alert", || (recorder.events().len() > number).then_some(()));
    }
    assert!(delivered(&surgegate, &recorder).iter().all(|event| event["dialect"] == "alertmanager"));
}

#[test]
fn datadogs_template_and_the_settings_for_sns_are_read() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, &blocks("sns.md", "yaml")[0]);
    let template = blocks("datadog.md", "json")[0]
        .replace("$ALERT_TRANSITION", "Triggered")
        .replace("$EVENT_TITLE", "[Triggered] CPU");
    let template = template.replace("$ALERT_CYCLE_KEY", "77").replace("$ALERT_PRIORITY", "P1");
    let mut connection = surgegate.connect();
    let path = format!("/hooks/datadog/{KEY}");
    connection.send(request("POST", &path, &["Content-Type: application/json"], template)).unwrap();
    assert_eq!(connection.answer().unwrap().status, 200);
    let events = delivered(&surgegate, &recorder);
    assert_eq!(
        (&events[0]["title"], &events[0]["key"], &events[0]["severity"]),
        (&"CPU".into(), &"77".into(), &5.into())
    );
    assert!(
        events[0].get("source").is_none() && events[0].get("tags").is_none(),
        "variables that nobody filled in: {}",
        events[0]
    );
    wait_until("the proxy", || surgegate.scrape().count("events_received_total", &[]) == 1);
}

#[test]
fn the_unit_for_failures_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("surgegate-notify");
    std::fs::copy(root().join("config/senders/surgegate-notify"), &script).unwrap();
    let unit = std::fs::read_to_string(root().join("config/senders/surgegate-failure@.service")).unwrap();
    let unit = unit.replace("/usr/local/bin/surgegate-notify", script.to_str().unwrap());
    let file = directory.path().join("surgegate-failure@.service");
    std::fs::write(&file, unit).unwrap();
    let page = &blocks("systemd.md", "ini")[0];
    let failing = directory.path().join("failing.service");
    std::fs::write(&failing, format!("{page}\n[Service]\nType=oneshot\nExecStart=/bin/false\n")).unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(directory.path().join("surgegate-failure@x.service"))
        .arg(&failing)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.path().display()))
        .output()
        .expect("systemd-analyze: make install-tools");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "{said}");
    assert!(!said.contains("Unknown") && !said.contains("failed to"), "{said}");
}
