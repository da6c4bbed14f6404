//! What a configuration may be written in, what wins over what, and the verbs `config show`, `schema` and `init`: by the
//! binary, real files and a real environment.

use std::path::Path;
use std::process::Output;

use crate::config::{GOOD, ran, written};
use crate::harness::{PATH, Recorder, Surgegate, binary, standard, trigger};

/// Runs it with these variables: exit code, standard output, standard error.
fn run(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = binary(directory, arguments);
    command.envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn put(directory: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(directory.join(name), text).unwrap();
}

const GOOD_TOML: &str = "\
[[integrations]]
name = 'payments'
keys = [{ key = '5ca1ab1e0123456789abcdef0123456789abcdef' }]
upstreams = ['pager']

[[upstreams]]
name = 'pager'
kind = 'webhook'
url = 'http://127.0.0.1:1/hook'
";
const GOOD_JSON: &str = r#"{
  "integrations": [
    { "name": "payments", "keys": [{ "key": "5ca1ab1e0123456789abcdef0123456789abcdef" }], "upstreams": ["pager"] }
  ],
  "upstreams": [{ "name": "pager", "kind": "webhook", "url": "http:\/\/127.0.0.1:1\/hook" }]
}
"#;

#[test]
fn yaml_toml_and_json_mean_the_same_and_can_be_laid_over_each_other() {
    let directory = written(GOOD);
    let at = directory.path();
    put(at, "good.toml", GOOD_TOML);
    put(at, "good.json", GOOD_JSON);
    put(at, "over.toml", "[limits]\nheaders = 99\n");
    put(at, "over.json", r#"{ "limits": { "uri_bytes": "4KiB" } }"#);
    let shown = ["surgegate.yaml", "good.toml", "good.json"].map(|file| {
        let (code, stdout, stderr) = run(at, &[], &["config", "show", "--config", file]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{file}");
        stdout
    });
    assert!(shown[0].contains("url: http://127.0.0.1:1/hook\n"), "{}", shown[0]);
    assert!(shown.iter().all(|text| *text == shown[0]), "{shown:#?}");

    let mut arguments = vec!["config", "show", "--origin"];
    for file in ["surgegate.yaml", "over.toml", "over.json"] {
        arguments.extend(["--config", file]);
    }
    let (code, stdout, _) = run(at, &[], &arguments);
    assert_eq!(code, Some(0));
    for (value, origin) in [
        ("  headers: 99 ", "# over.toml:2:11"),
        ("  uri_bytes: 4KiB ", "# over.json:1:28"),
        ("  gzip: true ", "# default"),
    ] {
        let line = stdout.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{value}: {stdout}"));
        assert!(line.ends_with(origin), "{line}");
    }
}

#[test]
fn a_proxy_runs_from_toml_and_flags() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let directory = tempfile::TempDir::new().unwrap();
    put(directory.path(), "a.toml", GOOD_TOML.replace("http://127.0.0.1:1/hook", &recorder.url()));
    // A port that is taken by the first: the flag is what the second tries to bind.
    let taken = format!("listen.ingest.address={}", surgegate.ingest());
    let free = ["--set", "listen.observe.address=127.0.0.1:0", "--set", "listen.admin.address=127.0.0.1:0"];
    let (code, said) = ran(directory.path(), &[&["--config", "a.toml", "--set", &taken], &free[..]].concat());
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {} (ingest): ", surgegate.ingest())) && !said.contains("panicked"),
        "{said}"
    );
    assert_eq!(surgegate.post(PATH, trigger("undisturbed")).status, 202);
}

#[test]
fn flags_win_over_variables_over_files_over_defaults() {
    let directory = written(&format!("{GOOD}limits: {{ headers: 10, uri_bytes: 1KiB, header_bytes: 2KiB }}\n"));
    let variables = [("SURGEGATE__LIMITS__URI_BYTES", "3KiB"), ("SURGEGATE__LIMITS__HEADER_BYTES", "4KiB")];
    let arguments = ["config", "show", "--origin", "--set", "limits.header_bytes=5KiB"];
    let (code, stdout, stderr) = run(directory.path(), &variables, &arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for (value, origin) in [
        ("  body_bytes: 30720", "default"),
        ("  headers: 10", "./surgegate.yaml:5:20"),
        ("  uri_bytes: 3KiB", "environment variable SURGEGATE__LIMITS__URI_BYTES"),
        ("  header_bytes: 5KiB", "flag --set limits.header_bytes"),
    ] {
        let line = stdout
            .lines()
            .find(|line| line.starts_with(&format!("{value} ")))
            .unwrap_or_else(|| panic!("{value}: {stdout}"));
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn what_is_wrong_with_a_flag_or_a_variable_is_said_by_its_name() {
    let directory = written(GOOD);
    for verb in [&["validate"][..], &["config", "show"], &["run"]] {
        let arguments = [verb, &["--set", "limits.headers=many", "--set", "lisen.ingest.address=127.0.0.1:1"]].concat();
        let variables = [("SURGEGATE__LIMITS__URI_BYTES", "wide-hunter2"), ("SURGEGATE__LIMIT__GZIP", "true")];
        let (code, _, stderr) = run(directory.path(), &variables, &arguments);
        assert_eq!(code, Some(78), "{stderr}");
        for text in [
            "limits.headers: not a whole number: \"many\"",
            "--> flag --set limits.headers:1:1",
            "unknown key \"lisen\"",
            "did you mean \"listen\"?",
            "limits.uri_bytes: not a size: ***",
            "--> environment variable SURGEGATE__LIMITS__URI_BYTES",
            "--> environment variable SURGEGATE__LIMIT__GZIP",
            "did you mean SURGEGATE__LIMITS__GZIP?",
            "4 errors",
        ] {
            assert!(stderr.contains(text), "{text} is not in {stderr}");
        }
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    for wrong in ["headers", "=1", "limits..headers=1", "upstreams[0].name=x"] {
        let (code, said) = ran(directory.path(), &["validate", "--set", wrong]);
        assert_eq!(code, Some(2), "{said}");
    }
}

#[test]
fn a_variable_that_is_not_read_is_told_with_the_one_that_is() {
    let directory = written(GOOD);
    let arguments = ["validate", "--no-environment"];
    let (code, stdout, stderr) = run(directory.path(), &[("SURGEGATE_LOG_LEVEL", "debug-hunter2")], &arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let said = stdout + &stderr;
    for text in ["warning: SURGEGATE_LOG_LEVEL is not read", "did you mean SURGEGATE__LOG__LEVEL?"] {
        assert!(said.contains(text), "{text} is not in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

/// Everything a newcomer may pass for a configuration.
#[test]
fn wrong_files_of_every_kind_exit_with_78_a_place_and_a_hint() {
    let directory = tempfile::TempDir::new().unwrap();
    let at = directory.path();
    std::fs::create_dir(at.join("folder.yaml")).unwrap();
    let huge = [b"# ".as_slice(), &vec![b'x'; 5 << 20]].concat();
    for (name, text, place, hint) in [
        ("empty.yaml", b"".as_slice(), "empty.yaml:1:1", "surgegate config init --minimal"),
        ("empty.toml", b"", "empty.toml:1:1", "surgegate config init --minimal"),
        ("empty.json", b"", "empty.json:1:1", "surgegate config init --minimal"),
        ("tab.yaml", b"log:\n\tlevel: info\n", "tab.yaml:2:2", "indent with spaces"),
        ("brace.yaml", b"log: { level: ${LEVEL} }\n", "brace.yaml:1:16", "a variable needs quotes"),
        ("colon.yaml", b"log:\n  level:info\n", "colon.yaml:2:3", "write \"key: value\" lines"),
        ("latin.yaml", b"log: {}\n# caf\xe9\n", "latin.yaml:2:6", "save the file as UTF-8"),
        ("utf16.yaml", b"\xff\xfel\0o\0g\0", "utf16.yaml:1:1", "save the file as UTF-8"),
        ("huge.yaml", &huge, "huge.yaml\n", "larger than 4MiB"),
        ("twice.yaml", b"log: {}\nlog: {}\n", "twice.yaml:2:1", "keep one of the two"),
        ("twice.json", b"{\"log\": {},\n \"log\": {}}", "twice.json:2:2", "keep one of the two"),
        ("twice.toml", b"log.level = 'info'\nlog.level = 'info'\n", "twice.toml:2:5", "keep one of the two"),
        ("anchor.yaml", b"a: &b 1\nlog: *b\n", "anchor.yaml:2:6", "write the value out"),
        ("comma.json", b"{ \"log\": {}, }", "comma.json:1:14", "remove the comma"),
        ("comment.json", b"{ // no\n}", "comment.json:1:3", "JSON has no comments"),
        ("bare.toml", b"log.level = info\n", "bare.toml:1:13", "stand in quotes"),
        ("unit.toml", b"limits.idle_timeout = 5\n", "unit.toml:1:23", "write 5s for seconds"),
        ("list.json", b"[]", "list.json:1:1", "{ \"key\": value }"),
    ] {
        put(at, name, text);
        let (code, said) = ran(at, &["validate", "--config", name]);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(said.contains(&format!("--> {place}")), "{place} is not in\n{said}");
        assert!(said.contains(hint), "{hint} is not in\n{said}");
    }
    for (name, hint) in [("folder.yaml", "name the file in it"), ("absent.yaml", "begin at the working directory")] {
        let (code, said) = ran(at, &["validate", "--config", name]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(name) && said.contains(hint), "{said}");
    }
}

#[test]
fn what_is_shown_loads_again_and_holds_no_secret() {
    let directory = tempfile::TempDir::new().unwrap();
    let at = directory.path();
    put(at, "key", "0123456789abcdef0123456789abcdef01234567\n");
    put(
        at,
        "surgegate.yaml",
        "integrations:
  - name: a
    keys: [{ key_file: key }, { key_sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae }]
    upstreams: [pager]
upstreams:
  - { name: pager, kind: webhook, url: 'http://127.0.0.1:1/hook', credential_file: key, rate_limit: { requests_per_second: 2.5 } }
",
    );
    let (code, first, stderr) = run(at, &[], &["config", "show"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(!first.contains("0123456789abcdef0123456789abcdef01234567"), "{first}");
    put(at, "shown.yaml", &first);
    let (code, second, _) = run(at, &[], &["config", "show", "--config", "shown.yaml"]);
    assert_eq!((code, second), (Some(0), first));
    // With origins it loads, too.
    let (_, with_origins, _) = run(at, &[], &["config", "show", "--origin"]);
    put(at, "origins.yaml", with_origins);
    assert_eq!(run(at, &[], &["validate", "--config", "origins.yaml", "--set", "spool.directory=spool"]).0, Some(0));

    let secrets = "integrations:
  - { name: a, keys: [{ key: hunter2-written }, { key: 'x-${KEY}' }], upstreams: [pager, old] }
upstreams:
  - { name: pager, kind: webhook, url: 'http://127.0.0.1:1/?token=hunter2-query', credential: '${NOT_SET:-hunter2-default}' }
  - { name: old, kind: squadcast, url: 'http://127.0.0.1:1/v2/incidents/api/hunter2-path' }
";
    put(at, "secrets.yaml", secrets);
    for arguments in [
        &["config", "show", "--config", "secrets.yaml"][..],
        &["config", "show", "--origin", "--config", "secrets.yaml"],
    ] {
        let (code, stdout, stderr) = run(at, &[("KEY", "hunter2-variable")], arguments);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "{stdout}\n{stderr}");
        assert!(stdout.matches("***").count() == 5, "{stdout}");
    }
    let (code, stdout, stderr) =
        run(at, &[("KEY", "hunter2 variable")], &["config", "show", "--config", "secrets.yaml"]);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_started_file_is_not_overwritten_and_loads_once_its_variable_is_set() {
    let directory = tempfile::TempDir::new().unwrap();
    let at = directory.path();
    let key = [("PAYMENTS_KEY", "0123456789abcdef0123456789abcdef01234567")];
    for minimal in [&[][..], &["--minimal"]] {
        let (code, text, _) = run(at, &[], &[&["config", "init"], minimal].concat());
        assert_eq!(code, Some(0));
        let _ = std::fs::remove_file(at.join("surgegate.yaml"));
        let (code, stdout, stderr) =
            run(at, &[], &[&["config", "init", "--output", "surgegate.yaml"], minimal].concat());
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
        assert_eq!(std::fs::read_to_string(at.join("surgegate.yaml")).unwrap(), text);
        assert_eq!(run(at, &[], &["validate"]).0, Some(78), "the key is missing");
        // Shown, not validated: the example's upstream is not there to be reached.
        let (code, _, stderr) = run(at, &key, &["config", "show"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
    }
    put(at, "mine.yaml", "mine");
    let (code, said) = ran(at, &["config", "init", "--output", "mine.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("mine.yaml exists already"), "{said}");
    assert_eq!(std::fs::read_to_string(at.join("mine.yaml")).unwrap(), "mine");
}

#[test]
fn the_printed_schema_judges_files_as_the_loader_does() {
    let directory = tempfile::TempDir::new().unwrap();
    let (code, stdout, stderr) = run(directory.path(), &[], &["config", "schema"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let schema = serde_json::from_str(&stdout).unwrap();
    assert!(jsonschema::draft7::meta::is_valid(&schema));
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let good: serde_json::Value = serde_json::from_str(GOOD_JSON).unwrap();
    assert!(validator.is_valid(&good));
    for (pointer, wrong) in [
        ("/upstreams/0/kind", "pigeon"),
        ("/upstreams/0/url", "nowhere"),
        ("/integrations/0/name", "Payments"),
        ("/integrations/0/upstreams", "pager"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong.into();
        assert!(!validator.is_valid(&bad), "{pointer}");
        put(directory.path(), "bad.json", bad.to_string());
        assert_eq!(ran(directory.path(), &["validate", "--config", "bad.json"]).0, Some(78), "{pointer}");
    }
}

#[test]
fn the_file_in_the_working_directory_is_the_one_that_is_found() {
    let directory = written(&GOOD.replace("payments", "found-here"));
    let (code, stdout, _) = run(directory.path(), &[], &["config", "show"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("name: found-here"), "{stdout}");
    // Named ones are read in its place.
    put(directory.path(), "other.yaml", GOOD);
    let (_, stdout, _) = run(directory.path(), &[], &["config", "show", "--config", "other.yaml"]);
    assert!(!stdout.contains("found-here"), "{stdout}");
    let (code, said) = ran(directory.path(), &["config"]);
    assert_eq!(code, Some(2), "{said}");
}

/// What the schema says of a key: `integrations[].on_limit`.
fn in_schema<'s>(schema: &'s serde_json::Value, key: &str) -> &'s serde_json::Value {
    key.split('.').fold(schema, |at, step| {
        let at = &at["properties"][step.trim_end_matches("[]")];
        if step.ends_with("[]") { &at["items"] } else { at }
    })
}

/// INTERFACE 3, key by key: the defaults are promises, and the printed schema says them.
#[test]
fn keys_defaults_and_words_are_those_of_the_interface() {
    let directory = tempfile::TempDir::new().unwrap();
    let (_, stdout, _) = run(directory.path(), &[], &["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for (key, default) in [
        ("listen.ingest.address", "0.0.0.0:8080"),
        ("listen.observe.address", "0.0.0.0:9464"),
        ("listen.admin.address", "127.0.0.1:9465"),
        ("limits.body_bytes", "30720"),
        ("limits.batch_body_bytes", "4194304"),
        ("limits.gzip", "true"),
        ("limits.body_bytes_in_flight", "128MiB"),
        ("limits.header_bytes", "16KiB"),
        ("limits.headers", "64"),
        ("limits.uri_bytes", "2KiB"),
        ("limits.header_timeout", "5s"),
        ("limits.body_timeout", "10s"),
        ("limits.body_bytes_per_second", "1KiB"),
        ("limits.idle_timeout", "60s"),
        ("limits.unauthenticated_requests_per_second", "1000"),
        ("integrations[].enabled", "true"),
        ("integrations[].rate_limit.requests_per_second", "10000"),
        ("integrations[].on_limit", "auto"),
        ("integrations[].ack", "spooled"),
        ("integrations[].ack_timeout", "10s"),
        ("integrations[].respond", "proxy"),
        ("integrations[].forward_duplicates", "severity_increase"),
        ("integrations[].unknown_resolve", "forward_if_keyed"),
        ("integrations[].require_description", "true"),
        ("integrations[].success_status", "202"),
        ("upstreams[].timeout", "10s"),
        ("upstreams[].connections", "64"),
        ("upstreams[].give_up_after", "24h"),
        ("upstreams[].redeliver_after", "5m"),
        ("dedup.open_ttl", "30d"),
        ("dedup.resolved_ttl", "24h"),
        ("dedup.idempotency_ttl", "7d"),
        ("dedup.replay_ttl", "24h"),
        ("dedup.max_keys", "1000000"),
        ("spool.directory", "./data"),
        ("spool.durability", "fsync"),
        ("spool.max_bytes", "10GiB"),
        ("spool.retain", "24h"),
        ("spool.index_bytes", "64MiB"),
        ("redis.scope", "shared"),
        ("redis.timeout", "5ms"),
        ("shutdown.drain", "20s"),
        ("log.format", "auto"),
        ("log.level", "info"),
    ] {
        let said = &in_schema(&schema, key)["default"];
        let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        assert_eq!(said, default, "{key}");
    }
    for (key, words) in [
        ("integrations[].on_limit", &["auto", "reject", "spool"][..]),
        ("integrations[].ack", &["spooled", "delivered"]),
        ("integrations[].respond", &["proxy", "upstream"]),
        ("integrations[].forward_duplicates", &["none", "severity_increase", "all"]),
        ("integrations[].unknown_resolve", &["forward_if_keyed", "drop", "reject"]),
        (
            "upstreams[].kind",
            &[
                "webhook",
                "squadcast",
                "incidentio",
                "incidentio_alert",
                "taskcall",
                "pagerduty",
                "opsgenie",
                "alertmanager",
                "cloudevents",
                "stdout",
            ],
        ),
        ("upstreams[].mode", &["verbatim", "normalized"]),
        ("upstreams[].api", &["v2", "v1"]),
        ("spool.durability", &["fsync", "memory"]),
        ("redis.scope", &["mirror", "shared"]),
        ("log.format", &["auto", "text", "json"]),
    ] {
        let said: std::collections::BTreeSet<&str> = in_schema(&schema, key)["anyOf"][0]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|word| word.as_str())
            .collect();
        assert_eq!(said, words.iter().copied().collect(), "{key}");
    }
    // Those without a default of their own.
    for key in [
        "listen.ingest.tls.client_ca",
        "listen.ingest.trusted_proxies",
        "listen.ingest.proxy_protocol",
        "listen.admin.token_file",
        "limits.connections",
        "integrations[].dialects",
        "integrations[].source_networks",
        "integrations[].rate_limit.events_per_second",
        "integrations[].rate_limit.burst",
        "integrations[].body_bytes",
        "integrations[].default_severity",
        "integrations[].default_severity_id",
        "integrations[].severities[].rank",
        "integrations[].incident_statuses[].category",
        "integrations[].alert_sources[].secret_file",
        "integrations[].assignment.user_refs",
        "upstreams[].credential_file",
        "upstreams[].rate_limit.burst",
        "upstreams[].batch.max_events",
        "upstreams[].visibility",
        "upstreams[].severity_map",
        "upstreams[].closed_status_id",
        "upstreams[].incident_type_id",
        "upstreams[].field_map",
        "upstreams[].region",
        "upstreams[].service_ref_id",
        "upstreams[].policy_ref_id",
        "upstreams[].users",
        "upstreams[].path_style",
        "upstreams[].source_config_id",
        "upstreams[].responders",
        "upstreams[].source",
        "upstreams[].type_prefix",
        "redis.url",
        "redis.key_prefix",
        "redis.replica_id",
    ] {
        assert!(in_schema(&schema, key).is_object(), "{key} is not in the schema");
    }
}
