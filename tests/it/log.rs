//! The log: one line an event at debug, refusals sampled with a count of the others, JSON that a machine reads, and
//! nothing that waits for whoever reads it.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{
    PATH, Raw, Recorder, Scrape, Surgegate, binary, standard, trigger, try_scrape, wait_for, wait_until,
};

/// Every line as JSON.
fn lines(surgegate: &Surgegate) -> Vec<Value> {
    let said = surgegate.said();
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn refusals_are_sampled_and_the_lines_say_how_many_were_left_out() {
    const MANY: u64 = 2000;
    let recorder = Recorder::start();
    let limits = "limits: { unauthenticated_requests_per_second: 1000000 }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), limits]);
    let mut connection = surgegate.connect();
    for _ in 0..MANY {
        assert_eq!(connection.post("/v2/incidents/api/nobody", trigger("k")).unwrap().status, 404);
    }
    assert_eq!(connection.post(PATH, "{").unwrap().status, 400);
    // The line that comes after a second's silence tells of those before it.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(connection.post("/v2/incidents/api/nobody", trigger("k")).unwrap().status, 404);
    let told = || -> Vec<Value> { lines(&surgegate).into_iter().filter(|line| line["message"] == "refused").collect() };
    let suppressed = |told: &[Value]| -> u64 { told.iter().map(|line| line["suppressed"].as_u64().unwrap()).sum() };
    wait_until("all to be told of", || told().len() as u64 + suppressed(&told()) == MANY + 2);
    let told = told();
    assert!(told.len() < 60, "{} lines", told.len());
    assert_eq!(surgegate.scrape().count("log_lines_suppressed_total", &[]), suppressed(&told));
    let bad = told.iter().find(|line| line["reason"] == "invalid_json").expect("the other reason has its own line");
    assert_eq!(
        (&bad["integration"], &bad["status"], &bad["dialect"]),
        (&"payments".into(), &400.into(), &"squadcast".into())
    );
    assert!(told.iter().all(|line| line["source"] == "127.0.0.1" && line["request_id"].is_string()));
}

#[test]
fn at_debug_each_event_has_one_line_with_fixed_keys() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "log: { level: debug }\n"]);
    let answers: Vec<_> =
        (0..50).map(|number| surgegate.post(PATH, trigger(&format!("disk-{}", number % 40)))).collect();
    surgegate.wait_until_delivered();
    for answer in answers {
        let request_id = answer.header("x-request-id").unwrap().to_owned();
        let line =
            wait_for("its line", || lines(&surgegate).into_iter().find(|line| line["request_id"] == *request_id));
        for key in [
            "timestamp",
            "level",
            "target",
            "message",
            "integration",
            "dialect",
            "action",
            "outcome",
            "status",
            "event_uid",
        ] {
            let absorbed = key == "event_uid" && answer.outcome() == "duplicate";
            assert!(!line[key].is_null() || absorbed, "no {key} in {line}");
        }
        assert_eq!(line["outcome"], answer.outcome());
        let same = lines(&surgegate).into_iter().filter(|line| line["request_id"] == *request_id).count();
        assert_eq!(same, 1, "{request_id}");
    }
    // Only our own lines: libraries have debug lines as well.
    assert!(lines(&surgegate).iter().all(|line| {
        let target = line["target"].as_str().unwrap();
        target.starts_with("surgegate") || target == "audit"
    }));
    // The path holds the key.
    assert!(!surgegate.said().contains(crate::harness::KEY));
}

/// Ended with the test, also with one that fails.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_of_the_log_that_hangs_holds_up_no_request_and_lost_lines_are_counted() {
    const REQUESTS: usize = 20_000;
    let recorder = Recorder::start();
    let directory = tempfile::TempDir::new().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let [ingest, observe, admin]: [SocketAddr; 3] = [free(), free(), free()];
    let text = format!(
        "{}listen:\n  ingest: {{ address: '{ingest}' }}\n  observe: {{ address: '{observe}' }}\n  admin: {{ address: '{admin}' }}\n\
         spool: {{ directory: '{}', durability: memory }}\nlog: {{ level: debug, format: json }}\nshutdown: {{ drain: 0s }}\n",
        // One connection alone sends more than the usual limit.
        standard(&recorder).replace(
            "    upstreams: [pager]\n",
            "    upstreams: [pager]\n    rate_limit: { requests_per_second: 1000000 }\n"
        ),
        directory.path().join("spool").display()
    );
    let file = directory.path().join("surgegate.yaml");
    std::fs::write(&file, text).unwrap();
    // Nobody reads the pipe: it is full after 64 KiB.
    let mut command = binary(directory.path(), &["run", "--config", "surgegate.yaml"]);
    let mut child = Ends(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    wait_until("readiness", || {
        crate::harness::ask(observe, "GET", "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
    });
    let mut connection = Raw::connect(ingest);
    for number in 0..REQUESTS {
        assert_eq!(connection.post(PATH, trigger(&format!("k-{}", number % 10))).unwrap().status, 202);
    }
    let dropped = |scrape: Scrape| scrape.count("log_lines_dropped_total", &[]);
    wait_for("lost lines to be counted", || try_scrape(observe).map(dropped).filter(|lines| *lines > 0));
    let hangs = child.0.stderr.take();
    crate::harness::signal("TERM", child.0.id());
    let status = wait_for("its end", || child.0.try_wait().unwrap());
    drop(hangs);
    assert_eq!(status.code(), Some(0));
}
