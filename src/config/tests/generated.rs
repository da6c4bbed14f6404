//! What is generated from the table: the reference file, the reference for users, the starting files and the schema.
//! `SURGEGATE_REGENERATE=1 cargo test --lib config::tests::generated` writes the first two anew.

use serde_json::{Value as Json, json};

use super::super::commented::{self, Extent};
use super::super::keys::ROWS;
use super::super::reference;
use super::super::tree::{Scalar, Value};
use super::*;

fn assert_current(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SURGEGATE_REGENERATE").is_some() {
        fs::write(&file, text).unwrap();
    }
    let stands = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        stands == text,
        "{path} is not what the table gives: SURGEGATE_REGENERATE=1 cargo test --lib config::tests::generated"
    );
}

#[test]
fn the_reference_file_is_what_the_table_gives() {
    assert_current("config/surgegate.yaml", &commented::file(Extent::Reference));
}

#[test]
fn the_reference_for_users_is_what_the_table_gives() {
    assert_current("docs/configuration.md", &reference::reference());
}

/// The generator can forget a key, or a default; the file is what counts.
#[test]
fn the_reference_file_has_every_key_and_the_defaults_of_the_table() {
    let shown = show_text(&[("surgegate.yaml", REFERENCE)], &[], &environment_of_the_reference);
    for row in ROWS {
        let name = row.name();
        let is_there = |line: &str| line.trim_start_matches(['#', ' ', '-']).starts_with(&format!("{name}:"));
        assert!(REFERENCE.lines().any(is_there), "config/surgegate.yaml does not show {}", row.path);
        if let keys::Fallback::Text(default) = row.default
            && row.path != "upstreams[].batch.max_events"
            && row.path != "upstreams[].batch.max_wait"
            && row.path != "upstreams[].field_map[].value"
            && !row.path.starts_with("integrations[].alert_sources[].")
            && !row.path.starts_with("redis.")
        {
            assert!(shown.contains(&format!("{name}: {default}\n")), "{} is not {default} in it", row.path);
        }
    }
}

#[test]
fn starting_files_load_once_their_variable_is_set() {
    for minimal in [false, true] {
        let text = starting_file(minimal);
        let config = load_text("surgegate.yaml", &text, &environment_of_the_reference)
            .unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert_eq!(config.ingest.address.port(), 8080, "only defaults");
        let errors = read(&text).expect_err("a variable is missing");
        assert!(errors.to_string().contains("environment variable PAYMENTS_KEY is not set"), "{errors}");
        assert_eq!(errors.count(), 1);
    }
    assert!(starting_file(false).len() > 3 * starting_file(true).len());
}

/// Every example that stands in a comment is one that loads: of keys that exclude each other, the first.
fn everything() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, KEY).unwrap();
    let text = commented::file(Extent::Everything);
    // What only another kind has a use for is tried with that kind.
    let (mut kept, mut below) = (Vec::new(), None);
    for line in text.lines().filter(|line| !["credential_file:", "secret_file:"].iter().any(|key| line.contains(key))) {
        let depth = line.len() - line.trim_start().len();
        if below.is_some_and(|of| depth > of) {
            continue;
        }
        below = vendors::KEYS
            .iter()
            .any(|(key, _)| *key != "batch" && line.trim_start().starts_with(&format!("{key}:")))
            .then_some(depth);
        if below.is_none() {
            kept.push(line);
        }
    }
    let kept = kept.into_iter();
    let lines = kept.map(|line| match line.split_once("token_file:") {
        Some((before, _)) => format!("{before}token_file: {}\n", secret.display()),
        None => format!("{line}\n"),
    });
    let text = lines.collect();
    (directory, text)
}

fn environment_of_everything(name: &str) -> Option<String> {
    ["PAYMENTS_KEY", "PAGER_SECRET", "GRAFANA_SECRET", "CHECKOUT_ALERTS_SECRET"].contains(&name).then(|| KEY.to_owned())
}

#[test]
fn every_example_of_the_reference_loads() {
    let (_files, text) = everything();
    let config = load_text("surgegate.yaml", &text, &environment_of_everything);
    let config = config.unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    assert!(config.admin.token.is_some() && config.upstreams[0].batch.is_some());
    assert_eq!(config.ingest.connections, Some(10_000));
}

fn the_schema() -> Json {
    serde_json::from_str(&schema()).unwrap()
}

/// A tree as JSON, plain words typed as YAML's core schema does.
fn json_of(node: &tree::Node) -> Json {
    match &node.value {
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.clone(), json_of(&entry.value))).collect())
        }
        Value::Scalar(Scalar { text, plain: true, .. }) => match text.as_str() {
            "" | "~" | "null" => Json::Null,
            text => {
                serde_json::from_str(text).ok().filter(|value: &Json| !value.is_string()).unwrap_or_else(|| text.into())
            }
        },
        Value::Scalar(Scalar { text, .. }) => text.as_str().into(),
    }
}

fn json_of_text(text: &str) -> Json {
    let mut report = Report::default();
    let source = report.add_source("surgegate.yaml", text, Format::Yaml);
    json_of(&tree::parse(&mut report, source, text).unwrap())
}

#[test]
fn the_schema_is_draft_7_stands_alone_and_has_every_key() {
    let schema = the_schema();
    assert!(jsonschema::draft7::meta::is_valid(&schema));
    let text = schema.to_string();
    assert!(!text.contains("\"$ref\"") && !text.contains("\"$id\""), "it is embedded in others");
    for row in ROWS {
        let mut at = &schema;
        for step in row.path.split('.') {
            at = &at["properties"][step.trim_end_matches("[]")];
            if step.ends_with("[]") {
                at = &at["items"];
            }
        }
        assert!(at["description"].as_str().unwrap().starts_with(row.about), "{}", row.path);
        assert_eq!(at["default"].is_null(), !matches!(row.default, keys::Fallback::Text(_)), "{}", row.path);
    }
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let validator = jsonschema::draft7::new(&the_schema()).unwrap();
    let (_files, everything) = everything();
    let starting = [starting_file(false), starting_file(true), everything, REFERENCE.to_owned(), text("", "", "")];
    let squadcast =
        text("", "credential: abc\nrate_limit: { burst: 3 }\nmode: verbatim", "").replace("webhook", "squadcast");
    let stdout = text("", "", "").replace("kind: webhook\n    url: https://a.example/hook", "kind: stdout");
    let bare = text("rate_limit:", "rate_limit:", "log:\nlisten: { ingest: { address: '[::1]:80' } }\n");
    let sizes = text("body_bytes: 7", "", "limits: { body_bytes: 20KiB, batch_body_bytes: 99999 }\n");
    let readme = include_str!("../../../README.md").split("```").find_map(|block| block.strip_prefix("yaml\n"));
    // Its key stands in a file, which another test makes.
    let readme = readme.expect("an example").replace("key_file: alerts.key", &format!("key: {KEY}"));
    let bounds = text("body_bytes: 512KiB", "timeout: 60 m\ngive_up_after: 030d", "limits: { uri_bytes: 64 }\n");
    let variables = text(
        "enabled: ${A:-true}\nsuccess_status: \"${B:-200}\"\nforward_duplicates: ${C:-all}",
        "timeout: ${D:-1s}",
        "spool: { max_bytes: \"${E:-1GiB}\" }\n",
    );
    for text in starting.iter().chain([&squadcast, &stdout, &bare, &sizes, &bounds, &variables, &readme]) {
        let loaded = load_text("surgegate.yaml", text, &environment_of_everything);
        loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        let value = json_of_text(text);
        let faults: Vec<_> =
            validator.iter_errors(&value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{text}\n{faults:#?}");
    }
}

#[test]
fn what_the_schema_refuses_the_loader_refuses_too_and_so_the_other_way() {
    let validator = jsonschema::draft7::new(&the_schema()).unwrap();
    let upstream = |upstream: &str| text("", upstream, "");
    let integration = |integration: &str| text(integration, "", "");
    let rest = |rest: &str| text("", "", rest);
    let keys = |keys: &str| text("", "", "").replace(&format!("[{{ key: {KEY} }}]"), keys);
    let replaced = |from: &str, to: &str| text("", "", "").replace(from, to);
    let wrong = [
        String::new(),
        "[]".into(),
        "integrations: []\nupstreams: []\n".into(),
        rest("surprise: 1\n"),
        rest("redis: { url: http://a }\n"),
        rest("redis: {}\n"),
        rest("redis: { url: [] }\n"),
        rest("redis: { url: redis://a, scope: all }\n"),
        rest("redis: { url: redis://a, replica_id: 1024 }\n"),
        rest("listen: { ingest: { tlss: {} } }\n"),
        rest("listen: { ingest: { address: 8080 } }\n"),
        rest("listen: { ingest: { address: nowhere } }\n"),
        rest("limits: { body_bytes: 0 }\n"),
        rest("limits: { body_bytes: 30kb }\n"),
        rest("limits: { body_bytes: 513KiB }\n"),
        rest("limits: { body_bytes: 524289 }\n"),
        rest("spool: { max_bytes: 15MiB }\n"),
        rest("spool: { max_bytes: 1025TiB }\n"),
        rest("dedup: { idempotency_ttl: 23h }\n"),
        rest("dedup: { idempotency_ttl: 3651d }\n"),
        upstream("timeout: 0s"),
        upstream("timeout: 61m"),
        upstream("timeout: 3600001ms"),
        rest("limits: { gzip: yes }\n"),
        rest("limits: { header_timeout: 5 }\n"),
        rest("limits: { header_timeout: 5 sec }\n"),
        rest("limits: { headers: 1001 }\n"),
        rest("limits: { headers: '64' }\n"),
        rest("spool: { durability: none }\n"),
        rest("spool: { directory: }\n"),
        rest("log: { level: loud }\n"),
        rest("log: loud\n"),
        rest("dedup: []\n"),
        replaced("name: payments", "name: Payments"),
        replaced("    upstreams: [pager]\n", ""),
        replaced("[pager]", "[]"),
        replaced("[pager]", "pager"),
        replaced("    kind: webhook\n", ""),
        replaced("    url: https://a.example/hook\n", ""),
        replaced("https://a.example/hook", "/hook"),
        replaced("https://a.example/hook", "ftp://a.example"),
        replaced("https://a.example/hook", "https://u:p@a.example"),
        replaced("webhook", "webhok"),
        replaced("webhook", "stdout"),
        keys("[]"),
        keys("[{}]"),
        keys("[{ key: a, key_file: b }]"),
        keys("[{ key_sha256: abc }]"),
        keys(&format!("[{{ key: a }}, {{ key: b }}, {{ key_sha256: {} }}]", "0".repeat(64))),
        integration("success_status: 300"),
        integration("default_severity: 2.5"),
        integration("dialects: [zabix]"),
        integration("generic: { title: [title] }"),
        integration("dialects: []"),
        integration("source_networks: [x]"),
        integration("rate_limit: { burst: 5 }"),
        integration("ack: received"),
        integration("respond: upstreams"),
        integration("alert_sources: []"),
        upstream("credential: a\ncredential_file: b"),
        upstream("rate_limit: { requests_per_second: 0 }"),
        upstream("batch: { max_events: 10001 }"),
        upstream("mode: verbatim"),
        upstream("region: eu"),
        upstream("connections: -1"),
    ];
    for text in &wrong {
        assert!(read(text).is_err(), "the loader takes\n{text}");
        assert!(!validator.is_valid(&json_of_text(text)), "the schema takes\n{text}");
    }
    // What only the loader can know.
    let text = replaced("[pager]", "[pagre]");
    assert!(read(&text).is_err() && validator.is_valid(&json_of_text(&text)), "{text}");
    assert!(!validator.is_valid(&json!(null)));
}
