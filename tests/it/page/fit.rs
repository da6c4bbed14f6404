//! Fit for those who read it and for where it is read: light and dark, narrow, by the rules of accessibility, from one
//! origin, without anything inline, small, and with no secret on it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::browser::{Browser, ENTER};
use super::{at_work, configuration, set, upstream};
use crate::harness::{KEY, PATH, PATIENCE, Surgegate, ask, trigger, wait_until};

#[test]
fn it_is_light_and_dark_narrow_and_accessible_in_calm_and_in_trouble() {
    let (surgegate, _recorder, status) = at_work();
    let browser = Browser::at(surgegate.admin_address());
    browser.wait_for("#link", "live");
    let ground = || {
        browser.script("return getComputedStyle(document.documentElement).backgroundColor").as_str().unwrap().to_owned()
    };
    let faults = |what: &str| {
        let found = browser.faults();
        assert!(found.is_empty(), "{what}: {found:#?}");
    };
    browser.scheme("light");
    assert_eq!(ground(), "rgb(255, 255, 255)");
    faults("calm, light");
    // Everything there is to show: refusals opened, dead letters, an outage, decisions, a dialog.
    surgegate.post(PATH, "{}");
    surgegate.post(PATH, trigger("poison-1"));
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    browser.tab_to("#watch");
    browser.press(ENTER);
    browser.wait_for("#tapped", "Watching.");
    set(&status, 503);
    (0..8).for_each(|number| drop(surgegate.post(PATH, trigger(&format!("disk-{number}")))));
    browser.wait_for("#worst", "DELIVERY STOPPED");
    browser.wait_for("#decisions", "created");
    browser.script("document.querySelectorAll('details').forEach((row) => { row.open = true })");
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        for width in [1280, 800, 320] {
            browser.width(width);
            let wide = browser.script("return document.documentElement.scrollWidth").as_u64().unwrap();
            assert!(wide <= u64::from(width), "{wide} columns on a screen of {width}");
            faults(&format!("trouble, {scheme}, {width}"));
        }
    }
    assert_eq!(ground(), "rgb(13, 17, 23)");
    // Shapes and words beside colours.
    assert!(browser.text("#worst").starts_with('■'));
    assert!(browser.text("#upstreams tr[data-key=pager]").contains('■'));
    browser.script("document.querySelector('#dead [data-act=drop]').click()");
    browser.wait_for("#ask-text", "would be dropped");
    let dialog =
        "const box = document.getElementById('ask').getBoundingClientRect(); return box.left >= 0 && box.right <= 320";
    assert_eq!(browser.script(dialog), true);
    faults("a dialog, dark, narrow");
    browser.scheme("light");
    faults("a dialog, light, narrow");
}

#[test]
fn everything_comes_from_one_origin_breaks_no_policy_and_is_small() {
    const MOST: f64 = 60.0 * 1024.0;
    let (surgegate, _recorder, _) = at_work();
    surgegate.post(PATH, "{}");
    surgegate.post(PATH, trigger("poison-1"));
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    let browser = Browser::start();
    let admin = surgegate.admin_address();
    browser.go(admin);
    browser.wait_for("#link", "live");
    std::thread::sleep(Duration::from_millis(1500));
    let origin = format!("http://{admin}/");
    let (mut urls, mut bytes) = (BTreeMap::<String, String>::new(), BTreeMap::<String, f64>::new());
    for entry in browser.log("performance") {
        let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        let (method, said) = (message["message"]["method"].as_str().unwrap(), &message["message"]["params"]);
        let id = said["requestId"].as_str().unwrap_or_default().to_owned();
        // What the browser asks for its own pages is not the page's.
        let is_ours = said["documentURL"].as_str().is_some_and(|url| url.starts_with(&origin));
        if method == "Network.requestWillBeSent" && is_ours {
            urls.insert(id, said["request"]["url"].as_str().unwrap().to_owned());
        } else if method == "Network.loadingFinished" && urls.contains_key(&id) {
            // As it came over the wire, heads too; the stream does not end.
            bytes.insert(id, said["encodedDataLength"].as_f64().unwrap());
        }
    }
    let foreign: Vec<&String> = urls.values().filter(|url| !url.starts_with(&origin)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let paths: Vec<&str> = urls.values().filter_map(|url| url.strip_prefix(&origin)).collect();
    for path in ["", "page.css", "page.js", "api/v1/live"] {
        assert!(paths.contains(&path), "{path}: {paths:?}");
    }
    assert_eq!(
        paths.iter().filter(|path| path.starts_with("api/")).count(),
        1,
        "one stream and nothing else: {paths:?}"
    );
    let weight: f64 = bytes.values().sum();
    eprintln!(
        "{weight} bytes in all, as sent: {:?}",
        bytes.iter().map(|(id, bytes)| (&urls[id], bytes)).collect::<Vec<_>>()
    );
    assert!(bytes.len() >= 3 && weight < MOST, "{weight} bytes");
    let console = browser.log("browser");
    assert!(console.is_empty(), "{console:#?}");

    // The policy is in force: what is put in from outside does not run.
    let page = surgegate.admin("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    browser.script(
        "const bad = document.createElement('script'); bad.textContent = 'window.ran = 1'; document.body.append(bad)",
    );
    assert_eq!(browser.script("return window.ran ?? null"), Value::Null);
    assert!(
        browser.log("browser").iter().any(|line| line["message"].as_str().unwrap().contains("Content Security Policy"))
    );
}

#[test]
fn no_secret_stands_on_the_page_or_in_its_stream() {
    let (recorder, status) = upstream();
    let planted = |what: &str| format!("planted-{what}-5f2c9d81e7");
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), planted("token")).unwrap();
    let plain = configuration(&recorder)
        .replace("kind: webhook,", &format!("kind: webhook, credential: '{}',", planted("credential")));
    let plain = plain.replace("/hook", &format!("/{}", planted("path")));
    let listen = format!("listen: {{ admin: {{ token_file: '{}' }} }}\n", token_file.path().display());
    let surgegate = Surgegate::start(&[&plain, &listen]);
    let mut secrets: Vec<String> =
        ["token", "credential", "path", "value", "key", "routing", "name", "wrong"].map(planted).into();
    secrets.extend([KEY.to_owned(), KEY.replace("5ca1ab1e", "0ddba115")]);
    let browser = Browser::at(surgegate.admin_address());
    browser.tab_to("#watch");
    browser.press(ENTER);
    browser.wait_for("#tapped", "Watching.");
    // Bodies that are refused, for their shapes are shown.
    let bad = json!({ "message": [planted("value")], "event_id": planted("key"), planted("name"): { "a": planted("value") } });
    assert_eq!(surgegate.post(PATH, bad.to_string()).status, 400);
    let routed = json!({ "routing_key": planted("routing"), "event_action": "trigger", "dedup_key": planted("key") });
    surgegate.post("/v2/enqueue", routed.to_string());
    let routed = json!({ "routing_key": KEY, "event_action": planted("value"), "dedup_key": planted("key") });
    surgegate.post("/v2/enqueue", routed.to_string());
    surgegate.post(&format!("/v2/incidents/api/{}", planted("wrong")), trigger("k"));
    // Dead letters and an outage with them.
    surgegate.post(
        PATH,
        json!({ "message": "poison", "description": planted("value"), "event_id": planted("key") }).to_string(),
    );
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    set(&status, 503);
    (0..8).for_each(|number| drop(surgegate.post(PATH, trigger(&format!("disk-{number}")))));
    browser.wait_for("#worst", "DELIVERY STOPPED");
    browser.wait_for("#decisions", "invalid_event");
    browser.script("document.querySelectorAll('details').forEach((row) => { row.open = true })");
    browser.wait_for("#refusals [data-key=invalid_event]", "masked");
    let live = browser.script("return document.documentElement.outerHTML").as_str().unwrap().to_owned();
    let at = surgegate.admin_address();
    let read = |path: &str| ask(at, "GET", path, &[]).unwrap().text();
    for (what, text) in
        [("live", live), ("page", read("/")), ("status", read("/api/v1/status")), ("log", surgegate.said())]
    {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in the {what}");
        }
    }
    // Whoever asks for the stream alone gets the same.
    let mut stream = crate::harness::Raw::connect(at);
    stream.send("GET /api/v1/live?tap=true HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut heard = String::new();
    let until = Instant::now() + PATIENCE;
    while !(heard.contains("event: part") && heard.contains("event: decision")) {
        assert!(Instant::now() < until, "{heard}");
        surgegate.post(PATH, bad.to_string());
        let mut block = [0; 64 * 1024];
        let count = stream.stream_mut().read(&mut block).unwrap();
        heard.push_str(&String::from_utf8_lossy(&block[..count]));
    }
    for secret in &secrets {
        assert!(!heard.contains(secret.as_str()), "{secret} is in the stream");
    }
}

#[test]
fn those_who_watch_the_page_are_bounded_and_one_who_reads_nothing_costs_little() {
    let (surgegate, _recorder, _) = at_work();
    let before = surgegate.memory_bytes();
    let admin = surgegate.admin_address();
    let mut streams: Vec<_> = (0..32)
        .map(|_| {
            let mut stream = crate::harness::Raw::connect(admin);
            stream.send("GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let readers = || surgegate.admin("/api/v1/status").json()["page_readers"].as_u64().unwrap();
    wait_until("all of them", || readers() == 32);
    let full = surgegate.admin("/api/v1/live");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    // Nobody reads: what is new takes the place of what is old.
    for number in 0..200 {
        surgegate.post(PATH, trigger(&format!("disk-{number}")));
    }
    std::thread::sleep(Duration::from_secs(3));
    let growth = surgegate.memory_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes for those who do not read");
    streams.pop();
    wait_until("room", || readers() == 31);
}
