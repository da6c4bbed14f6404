//! One truth: page, API, `top`, `tap` and scrape tell the same of one process, in an outage with everything on its books.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{at_work, set};
use crate::harness::{KEY, PATH, Surgegate, ended, resolve, trigger, verb, wait_for, wait_until};

/// What each of them can be asked for: names and counts.
type Figures = BTreeMap<String, u64>;

const OF_FLOW: [&str; 5] = ["received", "accepted", "absorbed", "refused", "delivered"];
const OF_INTEGRATIONS: [(&str, &str); 4] =
    [("Accepted", "accepted"), ("Absorbed", "absorbed"), ("Limited", "limited"), ("Refused", "refused")];

fn of_name(surgegate: &Surgegate, words: &[&str]) -> Command {
    let mut command = verb(words[0]);
    command.args(&words[1..]).env("SURGEGATE_ADMIN", format!("http://{}", surgegate.admin_address()));
    command
}

fn number(text: &str) -> u64 {
    text.trim().replace(',', "").parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// Sentences without what moves on from one look to the next.
fn timeless(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| !["s", "min", "h", "d", "days", "ms"].contains(word));
    words.collect::<Vec<_>>().join(" ").replace(|c: char| c.is_ascii_digit() || c == ',' || c == '.', "")
}

fn rows(value: &Value) -> Figures {
    let row = |row: &Value| (row[0].as_str().unwrap().to_owned(), row[1].as_u64().unwrap());
    value.as_array().unwrap().iter().map(row).filter(|(_, count)| *count > 0).collect()
}

fn of_api(status: &Value) -> Figures {
    let events = &status["events"];
    let sum = |value: &Value| rows(value).values().sum();
    let upstreams = status["upstreams"].as_array().unwrap();
    let of_upstreams = |name: &str| upstreams.iter().map(|upstream| upstream[name].as_u64().unwrap()).sum();
    let flow = [
        events["received"].as_u64().unwrap(),
        events["accepted"].as_u64().unwrap(),
        sum(&events["absorbed"]),
        sum(&events["rejected"]),
        of_upstreams("delivered"),
    ];
    let mut figures: Figures = OF_FLOW.map(str::to_owned).into_iter().zip(flow).collect();
    for one in status["integrations"].as_array().unwrap() {
        let count = |name: &str| one[name].as_u64().unwrap();
        let of_one = [count("accepted"), count("absorbed"), count("limited"), count("rejected") - count("limited")];
        for ((_, name), value) in OF_INTEGRATIONS.iter().zip(of_one) {
            figures.insert(format!("{} {name}", one["name"].as_str().unwrap()), value);
        }
    }
    figures.insert("waiting".to_owned(), of_upstreams("spool_events"));
    figures.insert("dead letters".to_owned(), of_upstreams("dead_letters"));
    figures.insert("dropped".to_owned(), of_upstreams("dropped"));
    figures.insert("lost".to_owned(), status["losses"]["unaccounted"].as_u64().unwrap());
    figures
}

/// Text of HTML, with a blank for each mark.
fn plain(html: &str) -> String {
    let parts = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect::<Vec<_>>().join(" ").replace("&#39;", "'")
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to:?} after {from:?}")).0
}

fn of_page(html: &str) -> Figures {
    let flow = between(html, "<section id=\"flow\"", "</section>");
    let stage = |title: &str| {
        let stage = between(flow, &format!("<h3>{title}</h3>"), "</li>");
        let beside = plain(between(stage, "<small>", "</small>"));
        let beside: Vec<(u64, String)> = beside
            .split(", ")
            .filter_map(|part| part.trim().split_once(' '))
            .map(|(count, name)| (number(count), name.to_owned()))
            .collect();
        (number(&plain(between(stage, "<b>", "</b>"))), beside)
    };
    let (received, beside_received) = stage("Received");
    let (accepted, beside_accepted) = stage("Accepted");
    let (delivered, beside_delivered) = stage("Delivered");
    let of = |beside: &[(u64, String)], name: &str| beside.iter().find(|(_, of)| of.starts_with(name)).unwrap().0;
    let flow_of =
        [received, accepted, of(&beside_accepted, "more absorbed"), of(&beside_received, "refused"), delivered];
    let mut figures: Figures = OF_FLOW.map(str::to_owned).into_iter().zip(flow_of).collect();
    for name in ["waiting", "dead letters", "dropped"] {
        figures.insert(name.to_owned(), of(&beside_delivered, name));
    }
    let lost = between(between(flow, "<h3>Lost</h3>", "</li>"), "<b>", "</b>");
    figures.insert("lost".to_owned(), number(plain(lost).trim_matches(|c: char| !c.is_ascii_digit())));
    let integrations = between(html, "<section id=\"integrations\"", "</section>");
    for name in ["payments", "storage"] {
        let row = between(integrations, &format!("<tr data-key=\"{name}\">"), "</tr>");
        for (head, figure) in OF_INTEGRATIONS {
            let cell = between(row, &format!("data-label=\"{head}\">"), "<");
            figures.insert(format!("{name} {figure}"), number(cell));
        }
    }
    figures
}

/// The cell below a head of a table in a frame whose numbers end where their heads do.
fn below(head: &str, name: &str, row: &str) -> u64 {
    let end = head.find(name).unwrap_or_else(|| panic!("no {name} in {head}")) + name.len();
    let cells: String = row.chars().take(end).collect();
    number(cells.split_whitespace().last().unwrap())
}

fn of_top(frame: &str) -> Figures {
    let lines: Vec<&str> = frame.lines().collect();
    let table = |head: &str, row: &str| {
        let at = lines.iter().position(|line| line.contains(head)).unwrap_or_else(|| panic!("no {head}: {frame}"));
        let row = lines[at..].iter().find(|line| line.split_whitespace().next() == Some(row)).unwrap();
        (lines[at], *row)
    };
    let mut figures = Figures::new();
    let (head, row) = table("RECEIVED", "events");
    for name in OF_FLOW {
        figures.insert(name.to_owned(), below(head, &name.to_uppercase(), row));
    }
    for integration in ["payments", "storage"] {
        let (head, row) = table("INTEGRATION", integration);
        for (name, figure) in OF_INTEGRATIONS {
            figures.insert(format!("{integration} {figure}"), below(head, &name.to_uppercase(), row));
        }
    }
    let (head, row) = table("UPSTREAM", "pager");
    figures.insert("waiting".to_owned(), below(head, "WAITING", row));
    assert_eq!(below(head, "DEAD", row), 2, "{frame}");
    let losses = lines.iter().find(|line| line.starts_with("lost ")).unwrap();
    for name in ["lost", "dead letters", "dropped"] {
        let count = losses.split_once(name).unwrap().1.trim_start().split([' ', ',']).next().unwrap();
        figures.insert(name.to_owned(), number(count));
    }
    figures
}

/// Everything that has a place on the books, and an upstream that stops in the end.
fn busy(surgegate: &Surgegate, status: &std::sync::Mutex<u16>) {
    let other = PATH.replace("5ca1ab1e", "0ddba115");
    let mut bodies: Vec<String> =
        ["disk-1", "disk-2", "disk-3", "disk-1", "disk-1", "poison-1", "poison-2"].map(trigger).into();
    bodies.extend([resolve("disk-2"), resolve("never-seen"), "{".to_owned(), r#"{"event_id":"k"}"#.to_owned()]);
    for body in bodies {
        surgegate.post(PATH, body);
    }
    (0..5).for_each(|number| drop(surgegate.post(&other, trigger(&format!("storage-{number}")))));
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) == 2);
    surgegate.wait_until_delivered();
    set(status, 503);
    (0..8).for_each(|number| drop(surgegate.post(PATH, trigger(&format!("outage-{number}")))));
}

#[test]
fn page_api_top_tap_and_scrape_tell_the_same_of_one_process() {
    let (surgegate, _recorder, status) = at_work();
    let heard = tempfile::NamedTempFile::new().unwrap();
    let mut tap = of_name(&surgegate, &["tap", "--json"]);
    let mut tap = tap.stdout(heard.reopen().unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let api = || surgegate.admin("/api/v1/status").json();
    wait_until("somebody who watches", || api()["tap_listeners"] == 1);
    busy(&surgegate, &status);
    wait_until("the outage", || api()["facts"][0]["code"] == "delivery_stopped");

    // Sentences, in their order.
    let sentences = |texts: Vec<String>| texts.iter().map(|text| timeless(text)).collect::<Vec<_>>();
    let told = wait_for("the same sentences", || {
        let of_api =
            api()["facts"].as_array().unwrap().iter().map(|fact| fact["text"].as_str().unwrap().to_owned()).collect();
        let html = surgegate.admin("/").text();
        let headline = between(&html, "<section id=\"headline\"", "</section>").to_owned();
        let of_page =
            headline.split("<span>").skip(1).map(|part| plain(part.split_once("</span>").unwrap().0)).collect();
        let frame = ended(&mut of_name(&surgegate, &["top", "--once"])).ended(0).out;
        let of_top = frame.lines().skip(1).take_while(|line| !line.is_empty()).map(str::to_owned).collect();
        let (of_api, of_page, of_top) = (sentences(of_api), sentences(of_page), sentences(of_top));
        (of_api == of_page && of_api.starts_with(&of_top)).then_some(of_api)
    });
    assert!(told.len() >= 2 && told[0].starts_with("DELIVERY STOPPED"), "{told:?}");

    // Figures: nothing moves any more but the tries at the upstream.
    let now = api();
    let expected = of_api(&now);
    let html = surgegate.admin("/").text();
    let frame = ended(&mut of_name(&surgegate, &["top", "--once"])).ended(0).out;
    assert_eq!(of_page(&html), expected, "the page");
    assert_eq!(of_top(&frame), expected, "top: {frame}");
    assert!(expected["waiting"] == 8 && expected["dead letters"] == 2 && expected["lost"] == 0, "{expected:?}");
    for name in OF_FLOW.iter().take(4) {
        assert!(expected[*name] > 0, "nothing was {name}: {expected:?}");
    }
    let scrape = surgegate.scrape();
    for (metric, name) in [
        ("events_received_total", "received"),
        ("events_accepted_total", "accepted"),
        ("events_absorbed_total", "absorbed"),
        ("events_rejected_total", "refused"),
        ("events_delivered_total", "delivered"),
        ("events_dropped_total", "dropped"),
        ("spool_events", "waiting"),
        ("dead_letters", "dead letters"),
    ] {
        assert_eq!(scrape.count(metric, &[]), expected[name], "{metric}");
    }

    // Each decision once: what was absorbed and refused by its word, and everything else was accepted.
    let decisions = wait_for("every decision", || {
        let text = std::fs::read_to_string(heard.path()).unwrap();
        let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let lines: Vec<Value> = complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() as u64 >= expected["received"]).then_some(lines)
    });
    tap.kill().unwrap();
    tap.wait().unwrap();
    assert_eq!(decisions.len() as u64, expected["received"]);
    let mut words = Figures::new();
    for decision in &decisions {
        let word = decision["outcome"].as_str().or(decision["reason"].as_str()).unwrap();
        *words.entry(word.to_owned()).or_default() += 1;
    }
    let (absorbed, rejected) = (rows(&now["events"]["absorbed"]), rows(&now["events"]["rejected"]));
    for (word, count) in absorbed.iter().chain(&rejected) {
        assert_eq!(words.remove(word), Some(*count), "{word}");
    }
    assert_eq!(words.values().sum::<u64>(), expected["accepted"], "{words:?}");
    let of_one = |name: &str| decisions.iter().filter(|decision| decision["integration"] == name).count() as u64;
    for name in ["payments", "storage"] {
        let sum: u64 = OF_INTEGRATIONS.iter().map(|(_, figure)| expected[&format!("{name} {figure}")]).sum();
        assert_eq!(of_one(name), sum, "decisions of {name}");
    }
    assert!(!html.contains(KEY) && !frame.contains(KEY));
}
