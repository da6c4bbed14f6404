//! Dead letters by filter: seen, grouped, replayed at once and at a pace, dropped when they were counted.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{get, text, to, write};
use crate::faults::{Arrival, Fault, Upstream};
use crate::harness::{KEY, PATH, Surgegate, ended, resolve, trigger, verb, wait_until};

fn count(surgegate: &Surgegate) -> u64 {
    surgegate.scrape().count("dead_letters", &[])
}

fn rows(surgegate: &Surgegate, query: &str) -> Vec<Value> {
    get(surgegate, &format!("/api/v1/dead-letters{query}")).as_array().unwrap().clone()
}

/// So many events that the upstream refuses.
fn with_dead_letters(names: &[&str], keys: usize) -> (Upstream, Surgegate) {
    let upstream = Upstream::scripted(|arrival| Fault::Answer(if arrival.key.ends_with('0') { 400 } else { 422 }));
    let surgegate = Surgegate::start(&[&to(&upstream, names)]);
    let mut connection = surgegate.connect();
    for number in 0..keys {
        assert_eq!(connection.post(PATH, trigger(&format!("poison-{number}"))).unwrap().status, 202);
    }
    wait_until("dead letters", || count(&surgegate) == (keys * names.len()) as u64);
    (upstream, surgegate)
}

#[test]
fn filters_choose_and_groups_count() {
    let (_upstream, surgegate) = with_dead_letters(&["pager", "archive"], 12);
    surgegate.post(PATH, resolve("poison-1"));
    wait_until("what follows a dead trigger", || count(&surgegate) == 26);
    assert_eq!(rows(&surgegate, "").len(), 26);
    assert_eq!(rows(&surgegate, "?upstream=pager").len(), 13);
    assert_eq!(rows(&surgegate, "?reason=predecessor_dead").len(), 2);
    assert_eq!(rows(&surgegate, "?integration=payments&reason=refused&upstream=archive").len(), 12);
    assert_eq!((rows(&surgegate, "?since=1h").len(), rows(&surgegate, "?until=1h").len()), (26, 0));
    // Half of them, split at the moment of one.
    let of_pager = rows(&surgegate, "?upstream=pager");
    let moment = text(&of_pager[6], "at").to_owned();
    let before = of_pager.iter().filter(|row| text(row, "at") < moment.as_str()).count();
    assert_eq!(rows(&surgegate, &format!("?upstream=pager&until={moment}")).len(), before);
    assert_eq!(rows(&surgegate, &format!("?upstream=pager&since={moment}")).len(), 13 - before);
    // Page by page.
    let mut paged = vec![];
    let mut after = String::new();
    loop {
        let page = rows(&surgegate, &format!("?reason=refused&limit=5{after}"));
        let Some(last) = page.last() else { break };
        after = format!("&after={}", text(last, "id"));
        paged.extend(page);
    }
    assert_eq!(paged, rows(&surgegate, "?reason=refused"));

    let groups = get(&surgegate, "/api/v1/dead-letters/groups");
    let shown: Vec<_> =
        groups.as_array().unwrap().iter().map(|g| (&g["upstream"], &g["reason"], &g["status"], &g["count"])).collect();
    let group = |upstream: &str, reason: &str, status: Value, count: u32| {
        (json!(upstream), json!(reason), status, json!(count))
    };
    let expected = ["archive", "pager"].into_iter().flat_map(|name| {
        [
            group(name, "predecessor_dead", Value::Null, 1),
            group(name, "refused", json!(400), 2),
            group(name, "refused", json!(422), 10),
        ]
    });
    let expected: Vec<_> = expected.collect();
    assert_eq!(shown, expected.iter().map(|(a, b, c, d)| (a, b, c, d)).collect::<Vec<_>>());
    for group in groups.as_array().unwrap() {
        assert!(text(group, "oldest_at") <= text(group, "newest_at"));
        let example = get(&surgegate, &format!("/api/v1/dead-letters/{}", text(group, "example_id")));
        assert_eq!((&example["reason"], &example["at"]), (&group["reason"], &group["oldest_at"]));
    }
    assert_eq!(
        get(&surgegate, "/api/v1/dead-letters/groups?reason=refused&upstream=pager").as_array().unwrap().len(),
        2
    );
}

#[test]
fn a_dry_run_tells_what_a_replay_then_does() {
    let (upstream, surgegate) = with_dead_letters(&["pager"], 10);
    // Goes along with its trigger, though the filter does not name it.
    surgegate.post(PATH, resolve("poison-1"));
    wait_until("what follows a dead trigger", || count(&surgegate) == 11);
    let arrived = upstream.arrivals().len();
    let path = "/api/v1/dead-letters/replay?reason=refused";
    let dry = write(&surgegate, "POST", &format!("{path}&dry_run=true"), 200);
    assert_eq!(dry, json!({ "replayed": 11, "refused": 0, "dry_run": true }));
    let dry = write(&surgegate, "POST", "/api/v1/dead-letters/replay?reason=gave_up&dry_run=true", 200);
    assert_eq!(dry["replayed"], 0);
    assert_eq!((count(&surgegate), upstream.arrivals().len()), (11, arrived), "a dry run changes nothing");

    upstream.tell(|_| Fault::Answer(200));
    assert_eq!(write(&surgegate, "POST", path, 200), json!({ "replayed": 11, "refused": 0, "dry_run": false }));
    surgegate.wait_until_delivered();
    assert_eq!(count(&surgegate), 0);
    let taken: Vec<Arrival> = upstream.arrivals().into_iter().filter(|arrival| arrival.taken).collect();
    let of_one: Vec<&str> = taken.iter().filter(|a| a.key == "poison-1").map(|a| a.action.as_str()).collect();
    assert_eq!((taken.len(), of_one), (11, vec!["trigger", "resolve"]));
}

#[test]
fn what_may_not_be_sent_again_is_refused_and_the_rest_is_sent() {
    let (upstream, surgegate) = with_dead_letters(&["pager"], 3);
    surgegate.post(PATH, resolve("poison-1"));
    wait_until("what follows a dead trigger", || count(&surgegate) == 4);
    upstream.tell(|_| Fault::Answer(200));
    // A new generation arrives: the old one is over.
    surgegate.post(PATH, trigger("poison-1"));
    surgegate.wait_until_delivered();
    let dry = write(&surgegate, "POST", "/api/v1/dead-letters/replay?dry_run=true", 200);
    assert_eq!(dry, json!({ "replayed": 2, "refused": 2, "dry_run": true }));
    let done = write(&surgegate, "POST", "/api/v1/dead-letters/replay", 200);
    assert_eq!(done, json!({ "replayed": 2, "refused": 2, "dry_run": false }));
    surgegate.wait_until_delivered();
    assert_eq!(count(&surgegate), 2);
}

#[test]
fn a_paced_replay_takes_its_time_and_is_replaced_by_the_next() {
    const LETTERS: usize = 40;
    let (upstream, surgegate) = with_dead_letters(&["pager"], LETTERS);
    upstream.tell(|_| Fault::Answer(200));
    let taken = || upstream.arrivals().iter().filter(|arrival| arrival.taken).count();
    let began = Instant::now();
    let answer = write(&surgegate, "POST", "/api/v1/dead-letters/replay?per_second=10", 200);
    assert_eq!(answer, json!({ "replayed": 0, "refused": 0, "dry_run": false, "scheduled": LETTERS }));
    wait_until("the first ones", || taken() >= 5);
    // However busy the machine is: never more than the pace allows, and one second's worth to catch up.
    while taken() < 25 {
        let allowed = began.elapsed().as_secs_f64() * 10.0 + 12.0;
        assert!((taken() as f64) < allowed, "{} after {:?}", taken(), began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > Duration::from_millis(1200), "all at once: {:?}", began.elapsed());
    // What is refused changes nothing: it goes on.
    write(&surgegate, "POST", "/api/v1/dead-letters/replay?per_second=1&upstream=none", 400);
    wait_until("the paced replay to go on", || taken() >= 27);
    let stopped = write(&surgegate, "POST", "/api/v1/dead-letters/replay?per_second=1&reason=gave_up", 200);
    assert_eq!(stopped["scheduled"], 0);
    let given_up = stopped["given_up"].as_u64().unwrap_or(0);
    surgegate.wait_until_delivered();
    assert_eq!(count(&surgegate), given_up, "the rest stays dead");
    let answer = write(&surgegate, "POST", "/api/v1/dead-letters/replay?per_second=10000", 200);
    assert_eq!(answer["scheduled"], given_up);
    wait_until("no dead letter", || count(&surgegate) == 0);
    surgegate.wait_until_delivered();
    assert_eq!(taken(), LETTERS, "each once");
}

#[test]
fn what_a_paced_replay_has_not_come_to_is_still_dead_after_a_restart() {
    let (upstream, mut surgegate) = with_dead_letters(&["pager"], 20);
    upstream.tell(|_| Fault::Answer(200));
    write(&surgegate, "POST", "/api/v1/dead-letters/replay?per_second=1", 200);
    wait_until("the first", || upstream.arrivals().iter().any(|arrival| arrival.taken));
    // Endings are written within 50 ms; before what comes after them is answered.
    assert_eq!(surgegate.post(PATH, trigger("after")).status, 202);
    surgegate.kill();
    surgegate.start_again();
    surgegate.wait_until_delivered();
    let left = count(&surgegate);
    assert!((1..20).contains(&left), "{left}");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(count(&surgegate), left, "nothing goes on by itself");
}

#[test]
fn many_are_dropped_only_when_they_were_counted() {
    let (_upstream, surgegate) = with_dead_letters(&["pager", "archive"], 6);
    let drop = |query: &str, status| write(&surgegate, "DELETE", &format!("/api/v1/dead-letters{query}"), status);
    let told = drop("", 409);
    assert!(text(&told, "message").contains("12 dead letters match now"), "{told}");
    let told = drop("?upstream=pager&confirm=12", 409);
    assert!(text(&told, "message").contains("6 dead letters match now"), "{told}");
    assert_eq!(drop("?upstream=pager&dry_run=true", 200), json!({ "would_drop": 6, "dry_run": true }));
    assert_eq!(drop("?upstream=pager&dry_run=true&confirm=6", 200), json!({ "would_drop": 6, "dry_run": true }));
    assert_eq!(count(&surgegate), 12);
    assert_eq!(drop("?upstream=pager&confirm=6", 200), json!({ "dropped": 6 }));
    assert_eq!(rows(&surgegate, "?upstream=pager").len(), 0);
    let scrape = surgegate.scrape();
    scrape.assert_books_balance();
    assert_eq!((count(&surgegate), scrape.count("events_dropped_total", &[("reason", "operator")])), (6, 6));
    assert_eq!(drop("?confirm=6", 200), json!({ "dropped": 6 }));
    assert_eq!(drop("?confirm=0", 200), json!({ "dropped": 0 }));
}

#[test]
fn a_filter_by_a_name_that_nothing_has_is_told_and_not_an_empty_answer() {
    let (_upstream, surgegate) = with_dead_letters(&["pager", "archive"], 1);
    let told = |method: &str, path: &str| write(&surgegate, method, path, 400)["message"].as_str().unwrap().to_owned();
    let near = "no upstream is called pagr: did you mean pager?";
    assert_eq!(told("GET", "/api/v1/dead-letters?upstream=pagr"), near);
    assert_eq!(told("GET", "/api/v1/dead-letters/groups?upstream=pagr"), near);
    assert_eq!(told("POST", "/api/v1/dead-letters/replay?upstream=pagr"), near);
    assert_eq!(told("POST", "/api/v1/dead-letters/replay?upstream=pagr&dry_run=true"), near);
    assert_eq!(told("DELETE", "/api/v1/dead-letters?upstream=pagr"), near);
    assert_eq!(told("DELETE", "/api/v1/dead-letters?upstream=pagr&confirm=0"), near);
    let listed = "no upstream is called x-y; there are: archive, pager";
    assert_eq!(told("GET", "/api/v1/dead-letters?upstream=x-y"), listed);
    let near = "no integration is called paymets: did you mean payments?";
    assert_eq!(told("GET", "/api/v1/dead-letters?integration=paymets"), near);
    assert_eq!(told("GET", "/api/v1/tap?integration=paymets"), near);
    assert_eq!(told("GET", "/api/v1/events?integration=paymets&key=poison-0"), near);
    // What is there and has none, and the page behind the last one, are no mistakes.
    assert_eq!(rows(&surgegate, "?upstream=pager&reason=gave_up"), [Value::Null; 0]);
    let last = rows(&surgegate, "?upstream=pager")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(rows(&surgegate, &format!("?upstream=pager&after={last}")), [Value::Null; 0]);
    assert_eq!(count(&surgegate), 2, "nothing was changed");
    // From the command line.
    let admin = surgegate.admin_address().to_string();
    for words in ["dead-letters ls --upstream pagr", "dead-letters groups --upstream pagr", "tap --integration paymets"]
    {
        let mut words = words.split(' ');
        let said = ended(verb(words.next().unwrap()).args(words).env("SURGEGATE_ADMIN", format!("http://{admin}")));
        said.ended(1).complains(": did you mean pa");
    }
}

/// A server that refuses everything with this body.
fn refusing(body: String) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, body) = (stream.unwrap(), body.clone());
            std::thread::spawn(move || {
                // Each request comes in one or two pieces, and ends with the event's last brace.
                let mut seen = Vec::new();
                let mut block = [0; 16 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut block) {
                    seen.extend_from_slice(&block[..count]);
                    if seen.ends_with(b"}") {
                        seen.clear();
                        let length = body.len();
                        let head = format!("HTTP/1.1 422 Unprocessable\r\ncontent-length: {length}\r\n\r\n");
                        stream.write_all((head + &body).as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    address
}

#[test]
fn what_the_upstream_said_when_it_refused_is_shown_with_the_dead_letter_without_secrets() {
    const CREDENTIAL: &str = "whsec_c2VjcmV0LXRoYXQtbm9ib2R5LXNlZXM";
    const IN_PATH: &str = "hook-4f1d9a77c2b0";
    // The second one stands across the place of the cut, which must leave no half of it.
    let body = format!(
        "no such service for {IN_PATH} with {CREDENTIAL}: poison-0 {}{CREDENTIAL}tail{}",
        "x".repeat(410),
        "y".repeat(600)
    );
    let at = refusing(body);
    let text = format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n\
         upstreams: [{{ name: pager, kind: webhook, url: 'http://{at}/{IN_PATH}', credential: '{CREDENTIAL}' }}]\n"
    );
    let mut surgegate = Surgegate::start(&[&text]);
    assert_eq!(surgegate.post(PATH, trigger("poison-0")).status, 202);
    wait_until("a dead letter", || count(&surgegate) == 1);
    let id = rows(&surgegate, "")[0]["id"].as_str().unwrap().to_owned();
    assert!(rows(&surgegate, "")[0]["last_answer"].is_null(), "a list is no place for it");
    let letter = get(&surgegate, &format!("/api/v1/dead-letters/{id}"));
    let said = letter["last_answer"].as_str().unwrap_or_else(|| panic!("{letter}"));
    assert!(said.starts_with("no such service for *** with ***: po***"), "{said}");
    assert!(said.contains("x***taily") && (500..=520).contains(&said.len()), "{} B: {said}", said.len());
    for secret in [&CREDENTIAL[..12], IN_PATH, "poison-0"] {
        assert!(!letter["last_answer"].to_string().contains(secret), "{secret} in {said}");
    }
    let admin = format!("http://{}", surgegate.admin_address());
    let shown = ended(verb("dead-letters").args(["show", &id]).env("SURGEGATE_ADMIN", admin)).ended(0);
    shown.says("last_answer  no such service for ***");
    // It is kept in memory alone.
    surgegate.stop();
    surgegate.start_again();
    let letter = get(&surgegate, &format!("/api/v1/dead-letters/{id}"));
    assert!(letter["last_answer"].is_null() && letter["status"] == 422, "{letter}");
}
