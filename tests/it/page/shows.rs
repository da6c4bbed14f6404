//! What the page shows: figures, live and without a script, filters, and trouble as soon as the proxy knows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::browser::{Browser, ENTER};
use super::{at_work, set};
use crate::harness::{KEY, PATH, resolve, trigger, wait_for, wait_until};

#[test]
fn the_figures_read_live_and_without_a_script() {
    let (surgegate, _recorder, _) = at_work();
    let other = PATH.replace("5ca1ab1e", "0ddba115");
    for number in 0..3 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("disk-{number}"))).status, 202);
    }
    let browser = Browser::at(surgegate.admin_address());
    assert_eq!(browser.text("#worst").trim_start_matches('●').trim(), "All is well: accepting and delivering.");
    browser.wait_for("#link", "live");
    // From now on nothing is loaded again: what comes, comes by the stream.
    browser.script("window.same = 'page'");
    surgegate.post(PATH, trigger("disk-1"));
    surgegate.post(PATH, resolve("disk-1"));
    assert_eq!(surgegate.post(PATH, r#"{"message":7,"event_id":"k","tags":[]}"#).status, 400);
    let statuses: Vec<u16> =
        (0..4).map(|number| surgegate.post(&other, trigger(&format!("s-{number}"))).status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    wait_until("accepted, absorbed, limited, refused", || {
        let row = browser.text("#integrations tr[data-key=payments]");
        let cells: Vec<&str> = row.split_whitespace().collect();
        cells.first() == Some(&"payments") && cells.get(2..6) == Some(&["4", "1", "0", "1"])
    });
    let limited = statuses.iter().filter(|status| **status == 429).count().to_string();
    wait_until("those that were limited", || {
        let row = browser.text("#integrations tr[data-key=storage]");
        row.contains("event_limit") && row.split_whitespace().nth(4) == Some(&*limited)
    });
    let flow = browser.wait_for("#flow", "every event is accounted for");
    assert!(flow.contains("Received") && flow.contains("Lost"), "{flow}");
    // What was wrong, without what was said, and what to send instead.
    browser.script("document.querySelector('#refusals [data-key=invalid_event]').open = true");
    let refusal = browser.wait_for("#refusals [data-key=invalid_event]", "Send instead");
    for words in ["last from payments", "description: ", "message: a number", "answered 400"] {
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    browser.wait_for("#upstreams tr[data-key=pager]", "fine");
    assert!(browser.text("#system").contains("Build") && browser.text("#spool").contains("free of"));
    // An opened row stays open, whatever is renewed around it.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(browser.script("return document.querySelector('#refusals [data-key=invalid_event]').open"), true);
    assert_eq!(browser.script("return window.same"), "page");

    browser.command("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.go(surgegate.admin_address());
    let text = browser.command("Runtime.evaluate", &json!({ "expression": "document.body.innerText" }));
    let text = text["result"]["value"].as_str().unwrap_or_default().to_owned();
    for words in ["All is well", "Received", "payments", "invalid_event", "pager", "free of", "Build", "surgegate tap"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    for button in ["Pause", "Reload…"] {
        assert!(!text.contains(button), "what needs a script is not offered without one: {text}");
    }
}

#[test]
fn a_hidden_tab_asks_for_nothing_and_comes_back() {
    let (surgegate, _recorder, _) = at_work();
    let readers = || surgegate.admin("/api/v1/status").json()["page_readers"].as_u64().unwrap();
    let browser = Browser::at(surgegate.admin_address());
    wait_until("one stream", || readers() == 1);
    let show = |hidden: bool| {
        browser.script(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    show(true);
    wait_until("no stream", || readers() == 0);
    show(false);
    wait_until("one stream again", || readers() == 1);
    surgegate.post(PATH, trigger("disk-1"));
    browser.wait_for("#integrations tr[data-key=payments]", "0 s ago");
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn an_outage_shows_within_two_seconds_of_the_proxys_own_knowledge() {
    const PROMISED_S: f64 = 2.0;
    let (surgegate, _recorder, status) = at_work();
    let browser = Browser::at(surgegate.admin_address());
    browser.script(
        "window.codes = []; const head = document.getElementById('headline'); new MutationObserver(() => \
         codes.push([head.dataset.code, Date.now() / 1000])).observe(head, { attributes: true })",
    );
    let code = || surgegate.admin("/api/v1/status").json()["facts"][0]["code"].as_str().unwrap().to_owned();
    let mut took = vec![];
    // A machine that is busy elsewhere may be late once.
    for round in 0..4 {
        set(&status, 503);
        for number in 0..8 {
            surgegate.post(PATH, trigger(&format!("outage-{round}-{number}")));
        }
        wait_until("the proxy's own knowledge", || code() == "delivery_stopped");
        let known = now();
        let text = browser.wait_for("#worst", "DELIVERY STOPPED");
        assert!(
            text.contains("pager answers 503 Service Unavailable") && text.contains("safe on disk, space for"),
            "{text}"
        );
        let seen = browser.script("return codes.findLast(([code]) => code === 'delivery_stopped')?.[1]");
        took.push(seen.as_f64().expect("the page saw it change") - known);
        let upstream = browser.text("#upstreams tr[data-key=pager]");
        assert!(upstream.contains("circuit open") || upstream.contains("probing"), "{upstream}");
        set(&status, 200);
        wait_until("the end of it", || code() != "delivery_stopped");
        browser.wait_for("#worst", "All is well");
        if took.iter().any(|took| *took <= PROMISED_S) {
            break;
        }
    }
    assert!(took.iter().any(|took| *took <= PROMISED_S), "seconds from the proxy's knowledge to the page's: {took:?}");
    // Who does not see is told of the change, once.
    assert!(
        browser.script("return document.getElementById('said').textContent").as_str().unwrap().contains("All is well")
    );
}

#[test]
fn a_page_whose_proxy_is_gone_says_that_its_figures_are_old() {
    let (mut surgegate, _recorder, _) = at_work();
    let browser = Browser::at(surgegate.admin_address());
    browser.wait_for("#link", "live");
    surgegate.kill();
    browser.wait_for("#link", "NO ANSWER for");
}

#[test]
fn decisions_are_watched_with_the_filters_and_words_of_the_tap_and_paused() {
    let (surgegate, _recorder, _) = at_work();
    let browser = Browser::at(surgegate.admin_address());
    let listeners = || surgegate.admin("/api/v1/status").json()["tap_listeners"].as_u64().unwrap();
    let rows =
        || browser.script("return [...document.querySelectorAll('#decisions tbody tr')].map((row) => row.innerText)");
    let rows = || rows().as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    // By keyboard: the filter's first field, then its button.
    browser.tab_to("#filter [name=integration]");
    browser.press("nobody");
    browser.press(ENTER);
    browser.wait_for("#tapped", "no integration is called nobody");
    assert_eq!(listeners(), 0);
    browser.script("document.querySelector('#filter [name=integration]').value = ''");
    browser.press("payments");
    browser.script("document.querySelector('#filter [name=ended]').value = 'reason=invalid_event'");
    browser.press(ENTER);
    wait_until("somebody who watches", || listeners() == 1);
    surgegate.post(PATH, trigger("disk-db-7"));
    surgegate.post(PATH, "{}");
    wait_until("the one that was asked for", || !rows().is_empty());
    assert!(
        rows()[0].contains("400") && rows()[0].contains("invalid_event") && rows()[0].contains("squadcast"),
        "{:?}",
        rows()
    );
    assert_eq!(rows().len(), 1);
    // Every word of the API's decision is there, and no more of the key.
    browser.tab_to("#watch");
    browser.press(ENTER);
    browser.wait_for("#tapped", "Not watching");
    wait_until("nobody who watches", || listeners() == 0);
    browser.script("document.querySelector('#filter').reset()");
    browser.press(ENTER);
    wait_until("somebody again", || listeners() == 1);
    surgegate.post(PATH, trigger("disk-db-8"));
    let row = wait_for("the decision", || rows().into_iter().find(|row| row.contains("created")));
    for words in ["202", "payments", "squadcast trigger", "di***-8"] {
        assert!(row.contains(words), "{words}: {row}");
    }
    assert!(!row.contains("disk-db-8") && !row.contains(KEY), "{row}");
    browser.tab_to("#pause");
    browser.press(" ");
    assert_eq!(browser.script("return document.getElementById('pause').ariaPressed"), "true");
    let before = rows().len();
    surgegate.post(PATH, trigger("disk-db-9"));
    browser.wait_for("#tapped", "1 wait");
    assert_eq!(rows().len(), before);
    browser.press(" ");
    wait_until("what waited", || rows().len() == before + 1);
    browser.tab_to("#clear");
    browser.press(ENTER);
    assert_eq!(rows(), Vec::<String>::new());
}
