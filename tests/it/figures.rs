//! INTERFACE 6: figures that no other promise shows, each against what really happened: times, retries, repeats, dead letters, bytes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{PATH, Recorder, Reply, Scrape, Surgegate, resolve, standard, trigger, wait_until};

const PAGER: [(&str, &str); 1] = [("upstream", "pager")];

#[test]
fn a_retry_and_the_time_until_an_upstream_took_an_event_are_told() {
    let wait = Duration::from_millis(300);
    let mut first = true;
    let recorder =
        Recorder::scripted(
            move |_| if std::mem::take(&mut first) { Reply::After(wait, 503) } else { Reply::Status(200) },
        );
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let began = Instant::now();
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    surgegate.wait_until_delivered();
    // A page is not written in a moment: of the same delivery some of it may be older.
    wait_until("its time", || surgegate.scrape().count("delivery_latency_seconds_count", &PAGER) > 0);
    let (most, scrape) = (began.elapsed(), surgegate.scrape());
    assert_eq!(scrape.count("upstream_retries_total", &PAGER), 1);
    for (code, requests) in [("503", 1), ("200", 1)] {
        assert_eq!(scrape.count("upstream_requests_total", &[PAGER[0], ("code", code)]), requests, "{code}");
    }
    let latency = scrape.sum("delivery_latency_seconds_sum", &PAGER);
    assert_eq!(scrape.count("delivery_latency_seconds_count", &PAGER), 1, "one event, whatever it took");
    assert!(latency >= wait.as_secs_f64() && latency <= most.as_secs_f64(), "{latency} s of {most:?}");
    // What is not delivered yet has no latency, and none that is told of a duplicate.
    assert_eq!(surgegate.post(PATH, trigger("k")).outcome(), "duplicate");
    assert_eq!(surgegate.scrape().count("delivery_latency_seconds_count", &PAGER), 1);
}

#[test]
fn requests_and_writes_of_the_log_are_timed_where_they_happen() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let of = |scrape: &Scrape| {
        let requests = scrape.count("http_request_duration_seconds_count", &[("dialect", "squadcast")]);
        (requests, scrape.count("spool_sync_duration_seconds_count", &[]))
    };
    let began = Instant::now();
    let (requests, writes) = of(&surgegate.scrape());
    for (body, status) in [(trigger("k"), 202), (trigger("k"), 202), ("{".to_owned(), 400), (resolve("k"), 202)] {
        assert_eq!(surgegate.post(PATH, body).status, status);
    }
    surgegate.wait_until_delivered();
    wait_until("the last answer's time", || of(&surgegate.scrape()).0 >= requests + 4);
    let (took, after) = (began.elapsed().as_secs_f64(), surgegate.scrape());
    let (requests_after, writes_after) = of(&after);
    assert_eq!(requests_after - requests, 4, "each answer, whatever it says");
    // The trigger and the resolve, one after the other; settlements may ride along or not.
    assert!(writes_after >= writes + 2, "{writes} then {writes_after} writes of the log");
    for name in ["http_request_duration_seconds_sum", "spool_sync_duration_seconds_sum"] {
        let seconds = after.sum(name, &[]);
        assert!(seconds > 0.0, "{name}: {seconds}");
    }
    assert!(after.sum("http_request_duration_seconds_sum", &[]) <= took, "longer than the test");
}

#[test]
fn the_age_of_the_oldest_that_waits_grows_until_it_is_taken_and_is_that_of_its_receipt_after_a_kill() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    let age = |surgegate: &Surgegate| surgegate.scrape().sum("spool_oldest_event_age_seconds", &PAGER);
    assert_eq!(age(&surgegate), 0.0);
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    let began = Instant::now();
    wait_until("it to grow old", || age(&surgegate) >= 1.0);
    surgegate.kill();
    surgegate.start_again();
    // Told a little late, and by another clock.
    wait_until("its age since the receipt", || age(&surgegate) >= began.elapsed().as_secs_f64() - 2.0);
    let (told, is) = (age(&surgegate), began.elapsed().as_secs_f64());
    assert!(told <= is + 1.0, "{told} s after {is} s");
    recorder.answer(|_| Reply::Status(200));
    surgegate.wait_until_delivered();
    wait_until("nothing to be old", || age(&surgegate) == 0.0);
}

#[test]
fn what_an_upstream_may_have_had_before_a_kill_is_counted_as_repeated() {
    let recorder = Recorder::scripted(|_| Reply::Hang);
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    assert_eq!(surgegate.post(PATH, trigger("other")).status, 202);
    recorder.wait_for(2);
    assert_eq!(surgegate.scrape().count("deliveries_repeated_total", &PAGER), 0);
    surgegate.kill();
    recorder.answer(|_| Reply::Status(200));
    surgegate.start_again();
    surgegate.wait_until_delivered();
    wait_until("both to be counted", || surgegate.scrape().count("deliveries_repeated_total", &PAGER) >= 2);
    let events = recorder.events();
    let mut uids: Vec<&str> = events.iter().map(|event| event["event_uid"].as_str().unwrap()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!((events.len(), uids.len()), (4, 2), "each twice, under its own id");
    assert_eq!(surgegate.scrape().count("deliveries_repeated_total", &PAGER), 2);
}

#[test]
fn dead_letters_are_counted_by_why_they_died_and_stay_counted_when_they_are_gone() {
    let recorder = Recorder::scripted(|request| {
        let is_poison = request.json()["key"].as_str().is_some_and(|key| key.starts_with("poison"));
        if is_poison { Reply::Json(400, json!({ "error": "no" })) } else { Reply::Status(200) }
    });
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    for body in [trigger("poison-1"), resolve("poison-1"), trigger("poison-2"), trigger("fine")] {
        assert_eq!(surgegate.post(PATH, body).status, 202);
    }
    wait_until("the dead", || surgegate.scrape().count("dead_letters", &PAGER) == 3);
    let counted = |surgegate: &Surgegate| {
        let scrape = surgegate.scrape();
        let of = |reason| scrape.count("events_dead_lettered_total", &[PAGER[0], ("reason", reason)]);
        (of("refused"), of("predecessor_dead"), scrape.count("events_dead_lettered_total", &[]))
    };
    assert_eq!(counted(&surgegate), (2, 1, 3));
    let address = surgegate.admin_address();
    let told = crate::harness::ask(address, "DELETE", "/api/v1/dead-letters?confirm=3", &[]).unwrap();
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(surgegate.scrape().count("dead_letters", &[]), 0);
    assert_eq!(counted(&surgegate), (2, 1, 3), "it counts deaths, not the dead");
    assert!(surgegate.stop().success());
    surgegate.start_again();
    assert_eq!(counted(&surgegate), (2, 1, 3), "and over a restart");
}

fn bytes_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let sizes = entries.filter_map(|entry| {
        // The keeper may have deleted it since.
        let file = entry.metadata().ok()?;
        Some(if file.is_dir() { bytes_of(&entry.path()) } else { file.size() })
    });
    sizes.sum()
}

#[test]
fn the_bytes_of_the_spool_are_those_of_its_files() {
    let recorder = Recorder::scripted(|_| Reply::Status(503));
    let mut surgegate = Surgegate::start(&[&standard(&recorder), "spool: { max_bytes: 64MiB }\n"]);
    let told = |surgegate: &Surgegate| surgegate.scrape().count("spool_bytes", &[]);
    let is_so = |surgegate: &Surgegate| told(surgegate) == bytes_of(&surgegate.spool());
    wait_until("the bytes of the files", || is_so(&surgegate));
    let before = told(&surgegate);
    assert!(before > 0 && before <= 64 << 20, "{before}");
    let mut connection = surgegate.connect();
    let large =
        |number: usize| format!(r#"{{"message":"m","description":"{}","event_id":"k-{number}"}}"#, "x".repeat(20_000));
    // More than a segment holds.
    for number in 0..600 {
        assert_eq!(connection.post(PATH, large(number)).unwrap().status, 202);
    }
    wait_until("more, and the files' again", || told(&surgegate) > before && is_so(&surgegate));
    surgegate.kill();
    surgegate.start_again();
    wait_until("the same after a restart", || is_so(&surgegate));
}

#[test]
fn the_version_that_is_told_is_that_of_the_binary() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let page = surgegate.observe("/metrics").unwrap().text();
    let line = page.lines().find(|line| line.starts_with("surgegate_build_info{")).unwrap_or_else(|| panic!("{page}"));
    let version = crate::harness::ended(crate::harness::verb("version").arg("--json")).ended(0).json();
    let version = version["version"].as_str().unwrap();
    assert!(line.contains(&format!("version=\"{version}\"")) && line.ends_with("} 1"), "{line}");
}
