//! The document of the ingest routes, held to the real binary by schemathesis: no answer that it does not know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use surgegate::dialect::DIALECTS;

use crate::harness::{KEY, Recorder, Surgegate, standard};

fn tool() -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("tools/schemathesis/bin/schemathesis")
}

/// The document with the one key that is known here beside one that is not.
fn document(surgegate: &Surgegate) -> Value {
    let mut document = surgegate.admin("/api/v1/ingest-openapi.json").json();
    for (path, item) in document["paths"].as_object_mut().unwrap() {
        // An alert source of each kind has its kind's name.
        let source = path.strip_prefix("/v2/alert_events/").and_then(|rest| rest.strip_suffix("/{id}"));
        for operation in item.as_object_mut().unwrap().values_mut() {
            for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                if parameter["name"] == "key" {
                    parameter["schema"] = json!({ "type": "string", "enum": [KEY, "0123"] });
                    parameter["example"] = KEY.into();
                }
                if let Some(source) = source.filter(|_| parameter["name"] == "id") {
                    parameter["schema"] = json!({ "type": "string", "enum": [source, "0123"] });
                    parameter["example"] = source.into();
                }
            }
            let contents = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
            for media in contents.into_iter().flat_map(|all| all.values_mut()) {
                for member in ["routing_key", "service_key"] {
                    if let Some(key) = media.pointer_mut(&format!("/example/{member}")) {
                        *key = KEY.into();
                    }
                }
            }
        }
    }
    document
}

/// Dialects that have an example of a body.
fn with_example(document: &Value) -> BTreeSet<String> {
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let has_example = |operation: &&Value| operation["requestBody"].to_string().contains("\"example\":");
    operations.filter(has_example).map(|operation| operation["tags"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_answer_stands_outside_the_document() {
    let recorder = Recorder::start();
    let source = |kind: &str| format!("      - {{ id: {kind}, kind: {kind}, secret: '{KEY}' }}\n");
    let sources: String = ["http", "alertmanager", "http_custom"].map(source).concat();
    let configuration = standard(&recorder)
        .replace("upstreams: [pager]\n", &format!("upstreams: [pager]\n    alert_sources:\n{sources}"));
    let surgegate = Surgegate::start(&[&configuration]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ingest.json");
    let document = document(&surgegate);
    std::fs::write(&file, document.to_string()).unwrap();
    let seed = fastrand::u32(..).to_string();
    let run = |authorization: &str, which: [&str; 2]| {
        let run = Command::new(tool())
            .current_dir(directory.path())
            .arg("run")
            .arg(&file)
            .args(["--url", &format!("http://{}", surgegate.ingest()), "--header", authorization])
            .args(["--checks", "status_code_conformance,content_type_conformance,response_schema_conformance"])
            .args(["--phases", "examples,fuzzing", "--max-examples", "3", "--seed", &seed, "--no-color"])
            .args(["--suppress-health-check", "all"])
            .args(which)
            .env("NO_COLOR", "1")
            .output()
            .expect("schemathesis: make install-tools");
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "seed {seed}: {said}");
        assert!(said.contains("fuzzing") || said.contains("Fuzzing"), "nothing was asked: {said}");
        let selected = said.split(" selected / ").next().and_then(|before| before.split_whitespace().last());
        selected.and_then(|count| count.parse::<usize>().ok()).unwrap_or_else(|| panic!("how many? {said}"))
    };
    let asked = run(&format!("Authorization: Bearer {KEY}"), ["--exclude-tag", "opsgenie"])
        + run(&format!("Authorization: GenieKey {KEY}"), ["--include-tag", "opsgenie"]);
    let operations = document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len());
    let routes = DIALECTS.iter().map(|dialect| dialect.routes().len());
    assert_eq!(
        (asked, operations.sum::<usize>()),
        (routes.clone().sum::<usize>(), routes.sum::<usize>()),
        "every route is asked"
    );
    let books = surgegate.scrape();
    for dialect in DIALECTS {
        let name = dialect.name();
        assert!(books.count("http_requests_total", &[("dialect", name)]) > 0, "{name} was not asked");
    }
    let examples = with_example(&document);
    assert!(examples.len() >= 14, "{examples:?}");
    for name in &examples {
        let taken: u64 = ["200", "201", "202"]
            .map(|code| books.count("http_requests_total", &[("dialect", name), ("code", code)]))
            .iter()
            .sum();
        assert!(taken > 0, "{name}: its example is refused");
    }
    assert!(books.count("http_requests_total", &[]) > 100, "it asked");
    assert!(books.count("events_received_total", &[]) > 20, "it got past the keys");
    assert_eq!(books.count("http_requests_total", &[("code", "500")]), 0);
}
