//! What alerts, dashboard and runbooks rest on: every metric and label that they name is in a scrape of a live process,
//! Prometheus' own tool can read what they ask, and what the runbooks tell to type works.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::redis::Redis;
use crate::harness::tls::{Authority, Client};
use crate::harness::{
    Http2, PATH, Recorder, Reply, Surgegate, ask, ended, run, standard, trigger, wait_for, wait_until,
};

/// Labels that Prometheus, Kubernetes or a histogram bring.
const OF_TARGETS: [&str; 5] = ["job", "instance", "namespace", "pod", "le"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// An expression, with where it stands and the labels that the text around it uses.
struct Asked {
    place: String,
    expression: String,
    shown: Vec<String>,
}

fn braced(text: &str, open: &str) -> Vec<String> {
    let names = text.split(open).skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

fn of_rules() -> Vec<Asked> {
    let text = read("config/prometheus/rules.yaml");
    let rule = |rule: &str| {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("expr: ").unwrap();
        let ends = ["\n        for: ", "\n        labels: "].iter().filter_map(|end| rest.find(end)).min().unwrap();
        let (expression, rest) = rest.split_at(ends);
        Asked {
            place: name.to_owned(),
            expression: expression.trim_start_matches("|-").to_owned(),
            shown: braced(rest, "$labels."),
        }
    };
    text.split("- alert: ").skip(1).map(rule).collect()
}

fn of_dashboard() -> Vec<Asked> {
    let dashboard: Value = serde_json::from_str(&read("helm/surgegate/files/dashboard.json")).unwrap();
    let mut asked = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.push(Asked {
                place: panel["title"].as_str().unwrap().to_owned(),
                expression: target["expr"].as_str().unwrap().to_owned(),
                shown: braced(target["legendFormat"].as_str().unwrap(), "{{"),
            });
        }
    }
    asked
}

impl Asked {
    /// Metrics it names, each with the labels that it is chosen by.
    fn metrics(&self) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        let text = &self.expression;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut at = 0;
        while let Some(start) = text[at..].find(|c: char| c.is_ascii_alphabetic()).map(|found| at + found) {
            let end = text[start..].find(|c| !is_name(c)).map_or(text.len(), |length| start + length);
            let name = &text[start..end];
            at = end;
            let rest = &text[end..];
            let quoted = text[..start].matches('"').count() % 2 == 1;
            if quoted || !(name.starts_with("surgegate_") || name.starts_with("process_")) {
                continue;
            }
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let labels = matchers.split(',').filter(|matcher| !matcher.is_empty());
            let label = |matcher: &str| matcher.trim().split(|c| !is_name(c)).next().unwrap_or_default().to_owned();
            found.push((name.to_owned(), labels.map(label).collect()));
        }
        found
    }

    /// Labels that it groups or joins by.
    fn grouped(&self) -> Vec<String> {
        let mut found = Vec::new();
        for word in ["by (", "without (", "on (", "ignoring ("] {
            for rest in self.expression.split(word).skip(1) {
                found.extend(rest.split(')').next().unwrap().split(',').map(|label| label.trim().to_owned()));
            }
        }
        found
    }
}

/// Names of the series of a scrape, with the labels that any of them has.
fn series(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name: String = line.chars().take_while(|c| !['{', ' '].contains(c)).collect();
        let labels = line.split_once('{').map_or("", |(_, rest)| rest);
        let names = labels
            .split("=\"")
            .filter_map(|part| part.rsplit(['{', ',', '"']).next())
            .filter(|name| !name.contains('}'));
        found.entry(name).or_default().extend(names.map(str::to_owned));
    }
    found
}

/// What the binary is told about Redis; its own bound would be missed on a busy machine.
fn with(redis: &Redis) -> String {
    format!("redis: {{ url: '{}', timeout: 500ms }}\n", redis.url())
}

/// A process to which everything has happened once that gives a metric its first series.
fn well_used(recorder: &Recorder, authority: &Authority, redis: &Redis) -> Surgegate {
    recorder.answer(|request| {
        let poison = String::from_utf8_lossy(&request.body).contains("poison");
        Reply::Status(if poison { 400 } else { 200 })
    });
    let tls = format!(
        "listen: {{ ingest: {{ tls: {{ certificate: '{}', key: '{}' }} }} }}\n",
        authority.path("tls.crt").display(),
        authority.path("tls.key").display()
    );
    let surgegate = Surgegate::start(&[&standard(recorder), &tls, &with(redis)]);
    wait_until("Redis", || surgegate.scrape().sum("redis_up", &[]) == 1.0);
    let client: Client = authority.client();
    let connection = Http2::connect_tls(surgegate.ingest(), &client);
    for (path, body, status) in [
        (PATH, trigger("disk-db-7"), 202),
        (PATH, trigger("disk-db-7"), 202),
        (PATH, trigger("poison-1"), 202),
        (PATH, trigger("poison-2"), 202),
        (PATH, "{".to_owned(), 400),
        ("/v2/incidents/api/nobody", trigger("k"), 404),
    ] {
        assert_eq!(connection.post(path, body).unwrap().status, status, "{path}");
    }
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) == 2);
    let letters: Value = surgegate.admin("/api/v1/dead-letters").json();
    let id = letters[0]["id"].as_str().unwrap();
    let dropped = ask(surgegate.admin_address(), "DELETE", &format!("/api/v1/dead-letters/{id}"), &[]).unwrap();
    assert!(dropped.status < 300, "{}", dropped.text());
    assert_eq!(surgegate.scrape().count("http_unauthenticated_requests_total", &[]), 1, "the one unknown key");
    wait_until("how full the spool is", || surgegate.scrape().count("spool_capacity_bytes", &[]) > 0);
    surgegate
}

#[test]
fn every_metric_and_label_that_rules_and_dashboard_name_is_in_a_live_scrape() {
    let (recorder, authority, redis) = (Recorder::start(), Authority::new(), Redis::start());
    let surgegate = well_used(&recorder, &authority, &redis);
    let page = surgegate.observe("/metrics").unwrap().text();
    let known = series(&page);
    let mut faults = BTreeSet::new();
    let mut named = BTreeSet::new();
    for asked in of_rules().into_iter().chain(of_dashboard()) {
        let mut labels: BTreeSet<String> = OF_TARGETS.iter().map(|label| (*label).to_owned()).collect();
        for (name, chosen_by) in asked.metrics() {
            named.insert(name.clone());
            let Some(has) = known.get(&name) else {
                faults.insert(format!("{}: no metric {name}", asked.place));
                continue;
            };
            for label in chosen_by {
                if !has.contains(&label) && !OF_TARGETS.contains(&label.as_str()) {
                    faults.insert(format!("{}: {name} has no label {label}", asked.place));
                }
            }
            labels.extend(has.iter().cloned());
        }
        for label in asked.grouped().into_iter().chain(asked.shown) {
            if !labels.contains(&label) {
                faults.insert(format!("{}: no metric in it has the label {label}", asked.place));
            }
        }
    }
    assert!(faults.is_empty(), "{}", Vec::from_iter(faults).join("\n"));
    assert!(named.len() > 50, "only {} metrics are named", named.len());
    // And nothing is measured that nobody shows, but for what says nothing alone.
    let bases = known.keys().filter_map(|name| name.strip_suffix("_bucket").or(Some(name)));
    let unseen: Vec<_> = bases
        .filter(|name| name.starts_with("surgegate_") && !name.ends_with("_sum") && !name.ends_with("_count"))
        .filter(|name| !named.contains(*name) && !named.contains(&format!("{name}_bucket")))
        .collect();
    assert!(unseen.is_empty(), "in no rule and on no panel: {unseen:?}");
}

/// The dashboard's queries as rules, for Prometheus' own tool.
#[test]
fn prometheus_can_read_every_query_of_the_dashboard() {
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, asked) in of_dashboard().iter().enumerate() {
        let expression = asked.expression.replace("$__rate_interval", "5m");
        rules +=
            &format!("      - record: asked:{number}\n        expr: {}\n", serde_json::to_string(&expression).unwrap());
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("dashboard.yaml");
    std::fs::write(&path, rules).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Commands in the shell's blocks of the runbooks, each with its page.
fn typed() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let page = std::fs::read_to_string(entry.path()).unwrap();
        for block in page.split("```sh\n").skip(1) {
            let lines = block.split("```").next().unwrap().lines();
            found.extend(lines.map(|line| (entry.file_name().into_string().unwrap(), line.to_owned())));
        }
    }
    found
}

#[test]
fn what_the_runbooks_tell_to_type_works() {
    let recorder = Recorder::scripted(|request| {
        let poison = String::from_utf8_lossy(&request.body).contains("poison");
        Reply::Status(if poison { 400 } else { 200 })
    });
    let redis = Redis::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), &with(&redis)]);
    wait_until("Redis", || surgegate.scrape().sum("redis_up", &[]) == 1.0);
    for key in ["disk-db-7", "poison-1"] {
        assert_eq!(surgegate.post(PATH, trigger(key)).status, 202);
    }
    let id = wait_for("a dead letter", || {
        surgegate.admin("/api/v1/dead-letters").json()[0]["id"].as_str().map(str::to_owned)
    });
    let folder = surgegate.files()[0].parent().unwrap();
    let spool = folder.join("spool");
    let files: Vec<String> = surgegate.files().iter().map(|file| format!("--config {}", file.display())).collect();
    let path = Path::new(env!("CARGO_BIN_EXE_surgegate")).parent().unwrap();
    let mut done = BTreeSet::new();
    for (page, line) in typed() {
        // One that goes on until it is told to stop: its form is held by tests/alerts.rs.
        if line.starts_with("surgegate tap") || !done.insert(line.clone()) {
            continue;
        }
        let command = line
            .replace("--config /etc/surgegate/surgegate.yaml", &files.join(" "))
            .replace("/var/lib/surgegate", &spool.display().to_string())
            .replace("pager-1042", &id)
            .replace("127.0.0.1:9464", &surgegate.observe_address().to_string())
            .replace("127.0.0.1:9465", &surgegate.admin_address().to_string());
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &command]);
        shell.env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
        shell.env("SURGEGATE_ADMIN", format!("http://{}", surgegate.admin_address()));
        shell.current_dir(folder);
        let said = ended(shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()));
        // What only a process with TLS shows is not found here.
        let finds_nothing = said.code == 1 && line.contains("tls_certificate");
        // It looks at the ports, which this very process has.
        let looks_around = line.starts_with("surgegate validate") && said.code != 2;
        assert!(said.code == 0 || finds_nothing || looks_around, "{page}: `{line}`: {said:?}");
    }
    assert!(done.len() > 20, "{done:?}");
}

/// INTERFACE 6, name by name, with all labels that each may have; `process_*` has no prefix.
const METRICS: [(&str, &[&str]); 31] = [
    ("events_received_total", &[]),
    ("events_accepted_total", &[]),
    ("events_absorbed_total", &["outcome"]),
    ("events_rejected_total", &["reason"]),
    ("events_in_flight", &[]),
    ("events_enqueued_total", &["upstream"]),
    ("events_delivered_total", &["upstream"]),
    ("events_dropped_total", &["upstream", "reason"]),
    ("deliveries_repeated_total", &["upstream"]),
    ("events_dead_lettered_total", &["upstream", "reason"]),
    ("dead_letters", &["upstream"]),
    ("spool_events", &["upstream"]),
    ("spool_orphaned_events", &[]),
    ("spool_bytes", &[]),
    ("spool_oldest_event_age_seconds", &["upstream"]),
    ("spool_sync_duration_seconds", &[]),
    ("http_requests_total", &["dialect", "code"]),
    ("http_request_duration_seconds", &["dialect"]),
    ("http_requests_in_flight", &[]),
    ("http_connections", &[]),
    ("delivery_latency_seconds", &["upstream"]),
    ("upstream_requests_total", &["upstream", "code"]),
    ("upstream_retries_total", &["upstream"]),
    ("upstream_circuit_state", &["upstream"]),
    ("dedup_entries", &[]),
    ("redis_up", &[]),
    ("redis_operations_total", &["result"]),
    ("rate_limit_fallback", &[]),
    ("config_last_reload_successful", &[]),
    ("tls_certificate_expiry_timestamp_seconds", &[]),
    ("build_info", &["version"]),
];
/// Whatever a metric is called, no other label: none of these grows with what senders say.
const LABELS: [&str; 9] = ["code", "dialect", "le", "outcome", "reason", "result", "upstream", "use", "version"];

#[test]
fn every_metric_of_the_interface_is_in_a_live_scrape_with_its_labels_and_promtool_finds_no_fault() {
    let (recorder, authority, redis) = (Recorder::start(), Authority::new(), Redis::start());
    let surgegate = well_used(&recorder, &authority, &redis);
    wait_until("Redis to be asked", || surgegate.scrape().count("redis_operations_total", &[]) > 0);
    let page = surgegate.observe("/metrics").unwrap().text();
    let known = series(&page);
    for (name, labels) in METRICS {
        let name = format!("surgegate_{name}");
        let has = known.get(&name).or_else(|| known.get(&format!("{name}_bucket")));
        let has = has.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
        let has: BTreeSet<&str> = has.iter().map(String::as_str).filter(|label| !["le", ""].contains(label)).collect();
        assert_eq!(has, labels.iter().copied().collect(), "{name}");
    }
    assert!(known.keys().any(|name| name.starts_with("process_")), "{page}");
    for (name, labels) in known.iter().filter(|(name, _)| name.starts_with("surgegate_")) {
        let others: Vec<_> =
            labels.iter().filter(|label| !label.is_empty() && !LABELS.contains(&label.as_str())).collect();
        assert!(others.is_empty(), "{name} has labels that the interface does not know: {others:?}");
    }
    // Neither a key, nor a path, nor an id of an event.
    let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    for word in [crate::harness::KEY, "5ca1ab1e", "disk-db-7", "poison-1", "nobody", "/v2/"] {
        let told = samples.iter().find(|line| line.contains(word));
        assert!(told.is_none(), "{word} is in {told:?}");
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let promtool = run(promtool, &page);
    assert!(promtool.code == Some(0) && (promtool.out.clone() + &promtool.err).is_empty(), "{promtool:?}");
}
