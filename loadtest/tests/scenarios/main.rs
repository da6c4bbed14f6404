//! Whole runs of the load tester: `storm` and `chaos`, small, against the real proxy; and against a proxy that misbehaves on
//! purpose, whose every misdeed must be found. No assertion is about time: the machine may be slow.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)] // A test that cannot go on has failed.

mod crooked;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The load tester with these arguments.
fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_surgegate-loadtest")).args(arguments).output().expect("the load tester")
}

fn scenario(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{name}.yaml")).display().to_string()
}

/// The proxy that stands beside the load tester: `cargo test --workspace` builds both.
fn surgegate() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_surgegate-loadtest")).with_file_name("surgegate");
    assert!(beside.is_file(), "{} is missing: cargo build --bin surgegate", beside.display());
    beside
}

/// Runs a scenario of the tree, small; its results, which fit their schema.
fn run_small(name: &str, report: &Path) -> Value {
    let (path, binary) = (scenario(name), surgegate());
    let arguments = ["run", &path, "--small", "--json", "--progress", "none", "--surgegate", binary.to_str().unwrap()];
    let output = loadtest(&[&arguments[..], &["--report", report.to_str().unwrap()]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    let results: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    // A slow machine may miss a latency, or be too slow for the generator: then it is 99 or 1, and the ledger counts.
    assert!([Some(0), Some(1), Some(99)].contains(&output.status.code()), "{:?}: {told}", output.status);
    results
}

fn fits_schema(results: &Value) {
    let output = loadtest(&["schema", "results"]);
    let schema: Value = serde_json::from_slice(&output.stdout).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a validator");
    let errors: Vec<String> = validator.iter_errors(results).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Nothing lost, nothing wrong, nothing out of order; whatever the pace was.
fn assert_ledger_is_clean(results: &Value) {
    let ledger = &results["ledger"];
    for fault in ["lost", "wrong", "reordered", "missed_duplicates", "foreign", "refused_delivered"] {
        assert_eq!(ledger[fault], 0, "{fault}: {ledger:#}\n{:#}", results["happenings"]);
    }
    let delivered = ledger["delivered"].as_u64().unwrap();
    assert!(delivered > 50, "hardly anything was sent: {ledger:#}");
}

#[test]
fn a_small_storm_loses_nothing_and_absorbs_its_duplicates() {
    let report = tempfile::tempdir().unwrap();
    let results = run_small("storm", report.path());
    assert_ledger_is_clean(&results);
    fits_schema(&results);
    let again = results["ledger"]["sent_again"].as_u64().unwrap();
    assert!(again > results["ledger"]["statements"].as_u64().unwrap() / 4, "few duplicates: {:#}", results["ledger"]);
    for file in
        ["report.html", "results.json", "latency.hgrm", "service-time.hgrm", "delivery.hgrm", "latency-storm.hgrm"]
    {
        let written =
            std::fs::read_to_string(report.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(written.len() > 200, "{file}");
    }
    let (one, page) = (report.path().join("results.json"), report.path().join("difference.html"));
    let (one, page) = (one.to_str().unwrap(), page.to_str().unwrap());
    let output = loadtest(&["compare", one, one, "--report", page]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("equal") && !text.contains("worse "), "{text}");
    assert!(std::fs::metadata(page).unwrap().len() > 1000);
}

#[test]
fn a_small_chaos_loses_nothing_whatever_is_killed() {
    let report = tempfile::tempdir().unwrap();
    let results = run_small("chaos", report.path());
    assert_ledger_is_clean(&results);
    fits_schema(&results);
    let happened: Vec<&str> =
        results["happenings"].as_array().unwrap().iter().map(|happening| happening["what"].as_str().unwrap()).collect();
    assert!(!happened.iter().any(|what| what.starts_with("FAILED")), "{happened:#?}");
    for word in ["killed", "stopped", "told to reload", "upstream: status=503", "well again"] {
        assert!(happened.iter().any(|what| what.contains(word)), "{word}: {happened:#?}");
    }
    // The faults really hit.
    let answered_badly = results["total"]["failed"].as_u64().unwrap() + results["total"]["refused"].as_u64().unwrap();
    assert!(answered_badly > 0, "no request met a kill: {:#}", results["total"]);
    for source in results["sources"].as_array().unwrap().iter().filter(|source| source["abuse"] == false) {
        assert!(!source["outcomes"].as_object().unwrap().is_empty(), "{source:#}");
    }
}

/// Runs a scenario of these words against the real proxy.
fn run_text(text: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.yaml");
    std::fs::write(&path, text).unwrap();
    let binary = surgegate();
    let fixed = [path.to_str().unwrap(), "--json", "--progress", "none", "--surgegate", binary.to_str().unwrap()];
    loadtest(&[&more[..1], &fixed[..], &more[1..]].concat())
}

const TLS: &str = "name: tls
client: { connections: 8, http2: 0.5, streams: 4, tls: true }
phases: [{ name: all, duration: 2s, arrivals: { poisson: 100 } }]
mix:
  - { dialect: squadcast, duplicates: 0.2, resolves: 0.3 }
  - { dialect: opsgenie, duplicates: 0.2, resolves: 0.3 }
  - { abuse: bad_json, weight: 0.2 }
events: [{ at: 1s, surgegate: scale_out }]
abort_when: [accepted > 1000000]
";

#[test]
fn over_tls_and_http2_and_two_servers_nothing_is_lost() {
    let output = run_text(TLS, &["run"]);
    let told = String::from_utf8_lossy(&output.stderr);
    let results: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_ledger_is_clean(&results);
    assert_eq!(results["total"]["failed"], 0, "{:#}", results["total"]);
    assert!(
        results["happenings"][0]["what"].as_str().unwrap().starts_with("one more server"),
        "{:#}",
        results["happenings"]
    );
    let abuse = results["sources"].as_array().unwrap().iter().find(|source| source["abuse"] == true).unwrap();
    assert!(abuse["statuses"]["400"].as_u64() > Some(0), "{abuse:#}");
}

#[test]
fn a_run_is_broken_off_when_it_is_told_to_be() {
    let endless = TLS.replace("duration: 2s", "duration: 60s").replace("accepted > 1000000", "accepted > 50");
    let output = run_text(&endless, &["run"]);
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), results["verdict"].as_str()), (Some(99), Some("ABORTED")), "{results:#}");
    assert!(results["why"][0].as_str().unwrap().contains("accepted > 50"), "{:#}", results["why"]);
    assert_eq!(results["ledger"]["lost"], 0, "what was on its way is waited for: {:#}", results["ledger"]);
}

#[test]
fn a_knee_search_tells_each_of_its_tries() {
    let more = [
        "knee",
        "--keep",
        "lost == 0",
        "--from",
        "20",
        "--to",
        "40",
        "--duration",
        "1s",
        "--steps",
        "1",
        "--repeats",
        "1",
    ];
    let output = run_text(TLS, &more);
    let knee: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let tries = knee["tries"].as_array().unwrap();
    assert!(!tries.is_empty() && tries.iter().all(|one| one["shown"] == "0"), "nothing was lost: {knee:#}");
    assert!(knee["sentence"].as_str().unwrap().len() > 10);
}

#[test]
fn every_scenario_of_the_tree_is_well_formed() {
    let names = ["steady", "storm", "outage", "chaos", "soak", "abuse", "mixed-fleet", "redis", "ledger"].map(scenario);
    let arguments: Vec<&str> = std::iter::once("validate").chain(names.iter().map(String::as_str)).collect();
    let output = loadtest(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_error_of_a_scenario_is_told_at_once_with_its_place() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text = "name: n\nphases:\n  - name: a\n    duration: 5\n    arrivals: { constnt: 5, poisson: 3 }\nmix:\n  - dialect: squadcastt\n  - { dialect: incidentio_v1, resolves: 0.5 }\nthresholds: [p99 < 5, lost == 0]\n";
    std::fs::write(file.path(), text).unwrap();
    let output = loadtest(&["validate", file.path().to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in [
        ":4:5: \"5\" or 5 is not",
        ":5:17: nothing is called `constnt` here; did you mean `constant`?",
        ":7:5: \"squadcastt\" is none of squadcast, ",
    ] {
        let (place, words) = part.split_at(part.find(": ").unwrap());
        assert!(told.contains(place), "{place}: {told}");
        assert!(words.contains(" or ") || told.contains(words), "{words}: {told}");
    }
    // What the schema cannot say is told when the schema has nothing more to say.
    let meant = text
        .replace("duration: 5\n", "duration: 5s\n")
        .replace("constnt", "constant")
        .replace("squadcastt", "squadcast");
    std::fs::write(file.path(), meant).unwrap();
    let output = loadtest(&["validate", file.path().to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    for part in [":5:5: exactly one of constant", ":8:31: incidentio_v1 cannot resolve", ":9:14: `p99 < 5`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_a_crooked_proxy_does_is_found_to_the_last_event() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = crooked::free_address();
    let proxy = crooked::Proxy::start(upstream);
    let path = directory.path().join("crooked.yaml");
    let text = format!(
        "name: crooked\nclient: {{ connections: 8 }}\nseed: 5\nsettle: 3s\n\
         phases: [{{ name: all, duration: 3s, arrivals: {{ poisson: 300 }} }}]\n\
         mix: [{{ dialect: squadcast, duplicates: 0.2, resolves: 0.4, keys: [{}] }}]\n\
         thresholds: [lost == 0, wrong == 0, reordered == 0]\n",
        crooked::KEY
    );
    std::fs::write(&path, text).unwrap();
    let target = format!("http://{}", proxy.address);
    let output = loadtest(&[
        "run",
        path.to_str().unwrap(),
        "--target",
        &target,
        "--upstream",
        &upstream.to_string(),
        "--json",
        "--progress",
        "none",
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    let results: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(output.status.code(), Some(99), "{results:#}");
    let done = proxy.deeds();
    let ledger = &results["ledger"];
    for (fault, done) in [
        ("lost", done.lost),
        ("repeated", done.repeated),
        ("missed_duplicates", done.anew),
        ("reordered", done.reordered),
        ("wrong", done.changed),
        ("foreign", done.invented),
    ] {
        assert!(done > 0, "it did not commit {fault}: the test shows nothing");
        assert_eq!(ledger[fault], done, "{fault}: {ledger:#}");
    }
    let missed: Vec<&Value> =
        results["thresholds"].as_array().unwrap().iter().filter(|checked| checked["met"] == false).collect();
    assert_eq!(missed.len(), 3, "{missed:#?}");
}
