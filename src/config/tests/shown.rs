//! `config show`: what is meant, where it comes from, and that it loads again and tells no secret.

use super::*;

const FILLED: &str = "\
listen: { admin: { address: '127.0.0.1:0' } }
integrations:
  - name: payments
    keys:
      - key_sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    upstreams: [pager, out]
    dialects: [squadcast]
    source_networks: [10.0.0.0/8, '::/0']
    rate_limit: { events_per_second: 5 }
upstreams:
  - { name: pager, kind: webhook, url: 'https://a.example/hook?a=b', rate_limit: { requests_per_second: 0.25 }, batch: {} }
  - { name: out, kind: stdout, rate_limit: {} }
spool: { directory: '/a b/$$c: \"#' }
log:
";

#[test]
fn what_is_shown_loads_again_and_shows_the_same() {
    let first = show_text(&[("surgegate.yaml", FILLED)], &[], &nothing);
    let second = show_text(&[("surgegate.yaml", &first)], &[], &nothing);
    assert_eq!(first.replace("a=***", "a=b"), second.replace("a=***", "a=b"));
    let config = read(&first).unwrap_or_else(|errors| panic!("{first}\n{errors}"));
    assert_eq!(config.spool.directory, Path::new("/a b/$c: \"#"));
    assert_eq!(config.upstreams[0].pace, read(FILLED).unwrap().upstreams[0].pace);
    for line in [
        "    keys:\n      - key_sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\n",
        "    source_networks: [10.0.0.0/8, \"::/0\"]\n",
        "      events_per_second: 5\n      burst: 5\n      requests_per_second: 10000\n",
        "      requests_per_second: 0.25\n      burst: 1\n",
        "    batch:\n      max_events: 100\n      max_wait: 10ms\n",
        "    kind: stdout\n    mode: normalized\n    rate_limit: {}\n",
        "  directory: \"/a b/$$c: \\\"#\"\n",
        "log:\n  format: auto\n  level: info\n",
    ] {
        assert!(first.contains(line), "{line} is not in\n{first}");
    }
    // What is off unless it is written is not switched on by showing it.
    assert_eq!(first.matches("batch:").count(), 1);
}

#[test]
fn each_value_says_which_of_the_four_it_comes_from() {
    let base =
        text("", "", "limits: { headers: 10, uri_bytes: 1KiB }\nlog: { level: warn }\n").replace(KEY, "\"${KEY}\"");
    let over = "limits = { headers = 20, header_bytes = \"${SIZE:-8KiB}\" }\n";
    let environment = |name: &str| match name {
        "KEY" => Some(KEY.to_owned()),
        "SURGEGATE__LIMITS__URI_BYTES" => Some("3KiB".to_owned()),
        "SURGEGATE__LOG__LEVEL" => Some("debug".to_owned()),
        _ => None,
    };
    let files = [("base.yaml", base.as_str()), ("over.toml", over)];
    let flags = ["log.level=trace", "upstreams=[{ name: pager, kind: stdout }]"];
    let shown = show_with(&files, &flags, &environment, true);
    for (value, origin) in [
        ("  body_bytes: 30720", "default"),
        ("  headers: 20", "over.toml:1:22"),
        ("  header_bytes: 8KiB", "over.toml:1:41"),
        ("  uri_bytes: 3KiB", "environment variable SURGEGATE__LIMITS__URI_BYTES"),
        ("  level: trace", "flag --set log.level"),
        ("  - name: payments", "base.yaml:2:11"),
        ("      - key: \"***\"", "base.yaml:3:19, ${KEY}"),
        ("    upstreams: [pager]", "base.yaml:4:16"),
        ("    kind: stdout", "flag --set upstreams"),
        ("    mode: normalized", "default"),
    ] {
        let found = shown.lines().find(|line| line.split("  # ").next().unwrap().trim_end() == value);
        let found = found.unwrap_or_else(|| panic!("{value} is not in\n{shown}"));
        assert!(found.ends_with(&format!("  # {origin}")), "{found}");
    }
    // With origins it is still the same YAML.
    let plain = show_with(&files, &flags, &environment, false);
    assert!(!plain.contains('#'));
    assert_eq!(
        shown.lines().map(|line| line.split("  # ").next().unwrap().trim_end()).collect::<Vec<_>>(),
        plain.lines().collect::<Vec<_>>()
    );
}

#[test]
fn no_secret_is_shown_however_it_came_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, "hunter2-file").unwrap();
    let second = format!(
        "  - {{ name: b, keys: [{{ key: '${{KEY}}' }}, {{ key_file: {} }}], upstreams: [pager] }}\n",
        file.display()
    );
    let written = text("", "credential: hunter2-written", "listen: { admin: { token_file: FILE } }\n")
        .replace("FILE", &file.display().to_string())
        .replace(KEY, "'hunter2-${KEY:-hunter2-default}'")
        .replace("upstreams:\n  -", &format!("{second}upstreams:\n  - {{ name: c, kind: squadcast, url: 'https://a.example/v2/incidents/api/hunter2' }}\n  - {{ name: d, kind: webhook, url: '${{URL}}' }}\n  -"));
    let environment = |name: &str| match name {
        "KEY" => Some("hunter2-environment".to_owned()),
        "URL" => Some("https://a.example/hunter2?a=hunter2".to_owned()),
        _ => None,
    };
    for with_origins in [false, true] {
        let shown = show_with(&[("surgegate.yaml", &written)], &[], &environment, with_origins);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches(r#""***""#).count(), 3, "{shown}");
        assert!(
            shown.contains("${KEY}") == with_origins && shown.contains("https://a.example/v2/incidents/api/***"),
            "{shown}"
        );
        assert!(shown.contains("https://a.example/***?a=***"), "{shown}");
    }
}

#[test]
fn flags_are_typed_as_files_are_and_their_errors_name_them() {
    let written = text("", "", "");
    let files = [("surgegate.yaml", written.as_str())];
    let shown = show_text(
        &files,
        &["listen.ingest.address=[::1]:80", "limits={ headers: 9, gzip: false }", "spool.directory=a=b"],
        &nothing,
    );
    for line in ["    address: \"[::1]:80\"\n", "  headers: 9\n", "  gzip: false\n", "  directory: \"a=b\"\n"] {
        assert!(shown.contains(line) || shown.contains(&line.replace('"', "")), "{line} is not in\n{shown}");
    }
    let failed = |flag: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("surgegate.yaml");
        fs::write(&path, &written).unwrap();
        load_with(&[path], &Over { flags: vec![flag.parse().unwrap()], variables: Vec::new() }, &nothing)
            .unwrap_err()
            .to_string()
    };
    for (flag, message, place) in [
        ("limits.headers=many", "limits.headers: not a whole number: \"many\"", "flag --set limits.headers"),
        ("limts.headers=9", "unknown key \"limts\"", "flag --set limts.headers"),
        ("limits={ headerz: 9 }", "unknown key \"headerz\"", "flag --set limits:1:3"),
        ("limits={ headers: [", "unclosed bracket", "flag --set limits:1:12"),
        ("redis.url=http://a", "redis.url: not a Redis URL: ***", "flag --set redis.url"),
        ("spool.directory=${UNSET}", "environment variable UNSET is not set", "flag --set spool.directory"),
    ] {
        let shown = failed(flag);
        assert!(shown.contains(message) && shown.contains(place), "{flag}: {shown}");
    }
    for flag in ["", "a", "=1", "a..b=1", "upstreams[0].url=x", "a b=1"] {
        assert!(flag.parse::<Flag>().is_err(), "{flag}");
    }
}

#[test]
fn a_variable_that_begins_as_ours_and_names_no_key_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surgegate.yaml");
    fs::write(&path, text("", "", "")).unwrap();
    let variables =
        |names: &[&str]| Over { flags: Vec::new(), variables: names.iter().map(|name| (*name).to_owned()).collect() };
    let fine = ["PATH", "SURGEGATE_PORT", "SURGEGATE__LOG__LEVEL", "SURGEGATE__LISTEN__INGEST__ADDRESS"];
    assert!(load_with(std::slice::from_ref(&path), &variables(&fine), &nothing).is_ok());
    for (name, hint) in [
        ("SURGEGATE__LOG__LEVL", "did you mean SURGEGATE__LOG__LEVEL?"),
        ("SURGEGATE__UPSTREAMS__0__CREDENTIAL_FILE", "outside lists"),
        ("SURGEGATE__X", "another name"),
    ] {
        let shown = load_with(std::slice::from_ref(&path), &variables(&[name]), &nothing).unwrap_err().to_string();
        assert!(shown.contains(&format!("error: names no key\n --> environment variable {name}\n")), "{shown}");
        assert!(shown.contains(hint), "{shown}");
    }
}

#[test]
fn a_variable_of_ours_with_one_underscore_too_few_is_a_warning_and_those_of_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surgegate.yaml");
    fs::write(&path, text("", "", "")).unwrap();
    let warned = |names: &[&str]| -> Vec<String> {
        let variables = names.iter().map(|name| (*name).to_owned()).collect();
        let over = Over { flags: Vec::new(), variables };
        let warnings = load_with(std::slice::from_ref(&path), &over, &nothing).unwrap().warnings;
        let ours = warnings.iter().filter(|warning| warning.code == "unread_variable");
        ours.map(|warning| format!("{} | {}", warning.file, warning.hint.clone().unwrap_or_default())).collect()
    };
    assert_eq!(
        warned(&["SURGEGATE_SPOOL_DIRECTORY", "SURGEGATE_LISTEN__INGEST_ADDRESS", "SURGEGATE_CONFIG"]),
        [
            "environment variable SURGEGATE_SPOOL_DIRECTORY | did you mean SURGEGATE__SPOOL__DIRECTORY?",
            "environment variable SURGEGATE_LISTEN__INGEST_ADDRESS | did you mean SURGEGATE__LISTEN__INGEST__ADDRESS?",
            "environment variable SURGEGATE_CONFIG | a configuration is named with --config FILE",
        ]
    );
    // Ours that are read, and those that Kubernetes sets beside a service of our name.
    let others = ["SURGEGATE_ADMIN", "SURGEGATE_ADMIN_TOKEN_FILE", "SURGEGATE_PORT", "SURGEGATE_SERVICE_PORT_INGEST"];
    assert_eq!(warned(&others), [""; 0]);
    assert_eq!(warned(&["SURGEGATE__SPOOL__DIRECTORY", "SURGEGATES_LOG_LEVEL"]), [""; 0]);
}

#[test]
fn others_can_make_findings_at_the_place_of_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surgegate.yaml");
    fs::write(&path, text("", "credential: hunter2", "log: {}\n")).unwrap();
    let (config, places) = load_with_places(std::slice::from_ref(&path), &Over::default(), &nothing).unwrap();
    assert_eq!(config.upstreams.len(), 1);
    let at = |key: &str| {
        let finding = places.finding(Level::Warning, "unreachable", key, "cannot be reached", Some("start it"));
        (finding.line, finding.column)
    };
    assert_eq!(
        [at("upstreams[0].url"), at("upstreams[0].timeout"), at("spool.directory"), at("upstreams[9].url")],
        [(8, 10), (6, 5), (1, 1), (1, 1)]
    );
    let shown = places.finding(Level::Warning, "x", "upstreams[0].credential", "bad", None).to_string();
    assert!(shown.starts_with("warning: upstreams[0].credential: bad\n") && !shown.contains("hunter2"), "{shown}");
    assert!(load_with_places(&[directory.path().join("absent")], &Over::default(), &nothing).is_err());
}
