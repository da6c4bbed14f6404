//! What an operator does on the page, by keyboard alone: each is a call of the API, asked for first, with a line for the
//! audit; the token is asked for and kept nowhere.

use super::browser::{Browser, ENTER, ESCAPE, TAB};
use super::{configuration, set, upstream};
use crate::harness::{PATH, Recorder, Surgegate, trigger, wait_until};

const TOKEN: &str = "an-admin-token-of-the-tests-0123456789";

/// With a token for writes.
fn guarded(recorder: &Recorder) -> (Surgegate, tempfile::TempDir) {
    let directory = tempfile::TempDir::new().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let listen = format!("listen: {{ admin: {{ token_file: '{}' }} }}\n", token.display());
    (Surgegate::start(&[&configuration(recorder), &listen]), directory)
}

fn letters(surgegate: &Surgegate) -> u64 {
    surgegate.scrape().count("dead_letters", &[])
}

#[test]
fn dead_letters_are_looked_at_replayed_and_dropped_by_keyboard_alone() {
    let (recorder, status) = upstream();
    let (surgegate, _directory) = guarded(&recorder);
    for number in 0..5 {
        surgegate.post(PATH, trigger(&format!("poison-{number}")));
    }
    wait_until("dead letters", || letters(&surgegate) == 5);
    let browser = Browser::at(surgegate.admin_address());
    browser.wait_for("#dead h2", "5");
    browser.press(TAB);
    assert!(browser.has_focus(".skip"), "the first stop leads to the figures");
    // The group opens; a letter is looked at.
    browser.tab_to("#dead summary");
    browser.press(ENTER);
    browser.tab_to("#dead [data-act=show]");
    let id = browser.script("return document.activeElement.dataset.id").as_str().unwrap().to_owned();
    browser.press(ENTER);
    let shown = browser.wait_for("#ask-data", "disk full");
    assert!(shown.contains("\"status\": 422") && !shown.contains("poison-0"), "{shown}");
    browser.press(ESCAPE);
    // The focus comes back to where it was, and stays while the page is renewed around it.
    assert!(browser.has_focus(&format!("[data-act=show][data-id='{id}']")));
    surgegate.post(PATH, trigger("disk-1"));
    browser.wait_for("#integrations tr[data-key=payments]", "0 s ago");
    assert!(browser.has_focus(&format!("[data-act=show][data-id='{id}']")));

    // One letter: without a token it is refused, and asked for.
    set(&status, 204);
    browser.press(TAB);
    assert!(browser.has_focus(&format!("[data-act=replay-one][data-id='{id}']")));
    browser.press(ENTER);
    browser.wait_for("#ask-text", "sent again, with the others of its incident");
    browser.tab_to("#ask-do");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "no token");
    assert_eq!(letters(&surgegate), 5);
    assert!(browser.has_focus("[name=token]"));
    browser.press(TOKEN);
    browser.press(ENTER);
    browser.wait_for("#ask-text", "1 dead letter sent again.");
    assert!(browser.has_focus("#ask-close"));
    browser.press(ENTER);
    wait_until("its delivery", || letters(&surgegate) == 4);
    assert!(surgegate.is_said("replayDeadLetter"), "a line for the audit");

    // The rest of the group: a dry run first. The token is remembered.
    browser.wait_for("#dead h2", "4");
    browser.script("document.getElementById('main').focus()");
    browser.tab_to("#dead details [data-act=replay]");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "Dry run: 4 dead letters would be sent again, 0 refused.");
    assert_eq!(letters(&surgegate), 4, "nothing was done");
    set(&status, 200);
    browser.tab_to("#ask-do");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "4 dead letters are being sent again, 0 refused.");
    browser.press(ESCAPE);
    wait_until("dead again", || letters(&surgegate) == 4);

    // Dropping takes the number.
    browser.script("document.getElementById('main').focus()");
    browser.tab_to("#dead > p [data-act=drop]");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "4 dead letters would be dropped for good.");
    browser.tab_to("[name=count]");
    browser.press("3");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "4 dead letters match now");
    assert_eq!(letters(&surgegate), 4, "the number was wrong");
    browser.tab_to("[name=count]");
    browser.press("\u{e003}4");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "4 dead letters dropped.");
    assert_eq!(letters(&surgegate), 0);
    browser.press(ESCAPE);
    browser.wait_for("#dead", "None.");
    assert!(surgegate.is_said("dropDeadLetters"));

    // The token was kept in memory alone, and a page that is loaded again knows it no more.
    let kept = browser.script(
        "return JSON.stringify([localStorage, sessionStorage, document.cookie, document.documentElement.outerHTML])",
    );
    assert!(!kept.as_str().unwrap().contains(TOKEN));
    assert!(!surgegate.said().contains(TOKEN));
    assert_eq!(browser.script("return document.querySelector('[name=token]').value"), "");
}

#[test]
fn a_reload_that_fails_is_told_where_it_was_asked_for_and_first_of_all() {
    let (recorder, _) = upstream();
    let surgegate = Surgegate::start(&[&configuration(&recorder)]);
    let browser = Browser::at(surgegate.admin_address());
    browser.wait_for("#system", "in force");
    let own = surgegate.files().last().unwrap().clone();
    let good = std::fs::read_to_string(&own).unwrap();
    let replace = |text: &str| {
        let draft = own.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &own).unwrap();
    };
    replace(&good.replace("upstreams: [pager]", "upstream: [pager]"));
    browser.tab_to("[data-act=reload]");
    browser.press(ENTER);
    browser.tab_to("#ask-do");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "unknown key");
    browser.press(ESCAPE);
    browser.wait_for("#worst", "RELOAD FAILED: what changed in the configuration is not in force");
    browser.wait_for("#system", "not taken");
    replace(&good);
    browser.wait_for("#worst", "All is well");
    browser.tab_to("[data-act=reload]");
    browser.press(ENTER);
    browser.tab_to("#ask-do");
    browser.press(ENTER);
    browser.wait_for("#ask-text", "It is in force.");
}
