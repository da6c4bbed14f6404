//! The three formats: the same meaning, each with its own positions, examples and traps.

use super::*;

const YAML: &str = "\
integrations:
  - name: payments
    keys: [{ key: 0123456789abcdef0123456789abcdef01234567 }]
    upstreams: [pager]
    default_severity: 3
    rate_limit: { events_per_second: 16 }
upstreams:
  - name: pager
    kind: webhook
    url: https://a.example/hook
    rate_limit: { requests_per_second: 0.25 }
limits: { gzip: false, body_bytes: 20KiB, headers: \"${HEADERS:-70}\" }
spool: { directory: \"/é/\\\"x\\\"\" }
";
const TOML: &str = r#"
limits.gzip = false
limits.body_bytes = "20KiB"
limits.headers = "${HEADERS:-70}"
spool.directory = '/é/"x"'

[[integrations]]
name = "payments" # a comment
keys = [{ key = "0123456789abcdef0123456789abcdef01234567" }]
upstreams = [
  "pager",
]
default_severity = 3
[integrations.rate_limit]
events_per_second = 0x10

[[upstreams]]
name = "pager"
kind = "webhook"
url = "https://a.example/hook"
rate_limit = { requests_per_second = 0.25 }
"#;
const JSON: &str = r#"{
	"integrations": [{
		"name": "payments", "keys": [{ "key": "0123456789abcdef0123456789abcdef01234567" }], "upstreams": ["pager"],
		"default_severity": 3, "rate_limit": { "events_per_second": 16 }
	}],
	"upstreams": [{ "name": "pager", "kind": "webhook", "url": "https:\/\/a.example\/hook", "rate_limit": { "requests_per_second": 0.25 } }],
	"limits": { "gzip": false, "body_bytes": "20KiB", "headers": "${HEADERS:-70}" },
	"spool": { "directory": "/\u00e9/\"x\"" }
}"#;

#[test]
fn the_three_formats_mean_the_same() {
    let yaml = show_text(&[("a.yaml", YAML)], &[], &nothing);
    assert!(yaml.contains("directory: \"/é/\\\"x\\\"\"") && yaml.contains("headers: 70"), "{yaml}");
    assert_eq!(show_text(&[("a.toml", TOML)], &[], &nothing), yaml);
    assert_eq!(show_text(&[("a.json", JSON)], &[], &nothing), yaml);
    // By the ending alone, in either case; a mark at the beginning of the file is no part of it.
    assert_eq!(show_text(&[("a.JSON", &format!("\u{feff}{JSON}"))], &[], &nothing), yaml);
    assert_eq!(show_text(&[("a.toml", &format!("\u{feff}{TOML}"))], &[], &nothing), yaml);
    assert_eq!(show_text(&[("a.yml", &format!("\u{feff}{YAML}"))], &[], &nothing), yaml);
    assert_eq!(show_text(&[("conf", YAML)], &[], &nothing), yaml);
    // JSON is YAML, too, as long as it keeps to what both know.
    assert_eq!(show_text(&[("a.yaml", JSON)], &[], &nothing), yaml);
}

#[test]
fn files_of_different_formats_are_laid_over_each_other() {
    let files = [
        ("a.json", r#"{ "limits": { "headers": 1, "uri_bytes": "1KiB", "header_bytes": "1KiB" } }"#),
        ("b.yaml", YAML),
        ("c.toml", "limits.uri_bytes = \"3KiB\"\n[[upstreams]]\nname = \"pager\"\nkind = \"stdout\"\n"),
    ];
    let shown = show_text(&files, &[], &nothing);
    for line in ["  headers: 70\n", "  uri_bytes: 3KiB\n", "  header_bytes: 1KiB\n", "    kind: stdout\n"] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    assert!(!shown.contains("webhook"), "lists are replaced whole");
}

/// Each error as `line:column message`, with its hint.
fn found(name: &str, text: &str) -> Vec<(String, String)> {
    let findings = load_text(name, text, &nothing).map_or_else(|errors| errors.findings, |config| config.warnings);
    let tell = |finding: Finding| {
        let text = format!("{}:{} {}", finding.line, finding.column, finding.message);
        (text, finding.hint.unwrap_or_default())
    };
    findings.into_iter().filter(|finding| finding.level == Level::Error).map(tell).collect()
}

/// What is not as expected: each message's beginning, and a part of its hint.
fn differing(found: Vec<(String, String)>, expected: &[(&str, &str)]) -> Option<String> {
    let is_told = |(message, hint): &(&str, &str)| {
        found.iter().any(|(text, help)| text.starts_with(message) && help.contains(hint))
    };
    let fits = found.len() == expected.len() && expected.iter().all(is_told);
    (!fits).then(|| format!("expected {expected:#?}\nfound {found:#?}"))
}

#[test]
fn errors_of_toml_have_their_places_and_their_own_examples() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        (
            TOML.replace("gzip = false", "gzip = \"no\""),
            vec![("2:15 limits.gzip: not true or false: \"no\"", "without quotes")],
        ),
        (
            TOML.replace("[integrations.rate_limit]", "[integrations.rate_limi]"),
            vec![("14:15 unknown key \"rate_limi\"", "did you mean \"rate_limit\"?")],
        ),
        (
            TOML.replace("events_per_second = 0x10", "events_per_second = 1.5"),
            vec![("15:21 integrations[0].rate_limit.events_per_second: not a whole number: \"1.5\"", "digits only")],
        ),
        (
            TOML.replace("default_severity = 3", "default_severity = 2026-01-01"),
            vec![("13:20 integrations[0].default_severity: not a whole number: \"2026-01-01\"", "digits only")],
        ),
        (TOML.replace("name = \"pager\"\n", ""), vec![("17:1 missing key \"upstreams[0].name\"", "Unique")]),
        (TOML.replace("limits.gzip = false", "log.level = info"), vec![("2:13 ", "stand in quotes")]),
        (format!("{TOML}kind = \"stdout\"\n"), vec![("22:1 \"kind\" already stands above", "keep one")]),
        (
            TOML.replace("[[upstreams]]", "[upstreams]"),
            vec![("17:1 upstreams: expected a list of mappings, found a mapping", "[[section]]")],
        ),
        (
            TOML.replace("keys = [{", "keys = {").replace("}]", "}"),
            vec![("9:8 integrations[0].keys: expected a list of mappings, found a mapping", "[[section]]")],
        ),
        ("log = \"x\"\n".to_owned() + TOML, vec![("1:7 log: expected a mapping, found a single value", "[section]")]),
        (String::new(), vec![("1:1 missing key \"integrations\"", ""), ("1:1 missing key \"upstreams\"", "")]),
    ] {
        wrong.extend(differing(found("a.toml", &text), &expected));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_of_json_have_their_places_and_their_own_examples() {
    let mut wrong = Vec::new();
    let edited = |from: &str, to: &str| {
        assert!(JSON.contains(from), "{from}");
        JSON.replacen(from, to, 1)
    };
    for (text, expected) in [
        (edited("false", "\"no\""), vec![("7:22 limits.gzip: not true or false: \"no\"", "without quotes")]),
        (edited("false", "null"), vec![("7:22 limits.gzip: no value", "remove the key")]),
        (edited("\"limits\"", "\"limit\""), vec![("7:2 unknown key \"limit\"", "did you mean \"limits\"?")]),
        (edited("\"limits\"", "\"upstreams\""), vec![("7:2 \"upstreams\" already stands at line 6", "keep one")]),
        (
            edited("\"gzip\"", "\"\\u0067zip\": true, \"gzip\""),
            vec![("7:33 \"gzip\" already stands at line 7", "keep one")],
        ),
        (edited("false,", "false"), vec![("7:28 expected `,` or `}`", "commas")]),
        (edited("}\n}", "},\n}"), vec![("9:1 key must be a string", "remove the comma")]),
        (edited("{\n", "{ // x\n"), vec![("1:3 key must be a string", "JSON has no comments")]),
        (edited("{\n", "{ 'x': 1,\n"), vec![("1:3 key must be a string", "double quotes")]),
        (format!("{JSON} x"), vec![("9:3 trailing characters", "")]),
        (JSON[..JSON.len() - 1].to_owned(), vec![("9:1 EOF while parsing an object", "brackets")]),
        (
            edited("pager", "\\ud83d\\ude00"),
            vec![("3:102 integrations[0].upstreams: no upstream is called \"😀\"", "")],
        ),
        (edited("\\u00e9", "\\ud800"), vec![("8:34 unexpected end of hex escape", "four hex digits")]),
        (edited("\"payments\"", "[]"), vec![("3:11 integrations[0].name: expected a name, found a list", "")]),
        (
            edited("[\"pager\"]", "\"pager\""),
            vec![(
                "3:101 integrations[0].upstreams: expected a list of values, found a single value",
                "write [\"pager\"]",
            )],
        ),
        ("[]".into(), vec![("1:1 the configuration: expected a mapping, found a list", "{ \"key\": value }")]),
        ("\n".into(), vec![("1:1 missing key \"integrations\"", ""), ("1:1 missing key \"upstreams\"", "")]),
        (format!("{{ \"log\": {}1{} }}", "[".repeat(40), "]".repeat(40)), vec![("1:33 nested too deeply", "")]),
    ] {
        wrong.extend(differing(found("a.json", &text), &expected));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As a newcomer sees them: read the golden files aloud.
#[test]
fn many_errors_of_toml_and_json_are_reported_in_one_run() {
    let toml = r#"# Ours
title = "hunter2"

[listen]
ingest.address = 8080

[limits]
body_timeout = "10"
gzip = "yes"
redis = 1

[[integrations]]
name = "Payments"
keys = ["hunter2"]
upstream = ["pager"] # hunter2

[[upstreams]]
name = "pager"
kind = "webhok"
url = "https://user:hunter2@a.example"
batch = { max_events = 0 }
"#;
    let json = r#"{
  "title": "hunter2",
  "listen": { "ingest": { "address": 8080 } },
  "limits": { "body_timeout": "10", "gzip": "yes", "gzip": false },
  "integrations": { "name": "Payments", "keys": ["hunter2"] },
  "upstreams": [
    { "name": "pager", "kind": "webhok", "url": "https://user:hunter2@a.example", "batch": { "max_events": 0 } },
    "hunter2"
  ]
}"#;
    for (name, text, golden) in [
        ("surgegate.toml", toml, include_str!("../golden/many_errors_toml.txt")),
        ("surgegate.json", json, include_str!("../golden/many_errors_json.txt")),
    ] {
        let shown = load_text(name, text, &nothing).unwrap_err().to_string();
        assert_eq!(shown.trim_end(), golden.trim_end(), "\n{shown}");
        assert!(!shown.contains("hunter2"), "a secret is shown");
    }
}

#[test]
fn secrets_in_toml_and_json_are_never_shown() {
    let lines = [
        "keyss = \"hunter2\"",
        "credential = [\"hunter2\"]",
        "credential = { hunter2 = \"hunter2\" }",
        "credential = \"hunter2\"\ncredential_file = \"nowhere\"",
        "credential = \"hunter2\"\ncredential = \"hunter2\"",
        "credential = hunter2",
        "credential = \"hunter2",
        "credential = \"hunter2\" x = 1",
        "timeout = 1 # hunter2",
        "timeout = 1 # \"hunter2",
        "a_very_long_key_that_may_be_a_secret_hunter2 = 1",
        "url = \"hunter2\"",
        "credential = \"\"\"\nhunter2 \"\"\", x = 1",
        "[hunter2.x]\na=1\n[hunter2.y]\nb=1",
        "hunter2",
    ];
    for line in lines {
        let text = format!("{TOML}{line}\n");
        let shown = load_text("a.toml", &text, &nothing).unwrap_err();
        let rows = serde_json::to_string(&shown).unwrap();
        // A short unknown key is told, as it helps more than it harms.
        let told = if line.starts_with("[hunter2") { "unknown" } else { "hunter2" };
        assert!(!shown.to_string().contains(told) || told == "unknown", "{line}\n{shown}");
        assert!(!rows.contains("hunter2") || told == "unknown", "{line}\n{rows}");
    }
    for member in [
        r#""keyss": "hunter2""#,
        r#""credential": ["hunter2"]"#,
        r#""credential": {"hunter2": "hunter2"}"#,
        r#""credential": "hunter2", "credential": "hunter2""#,
        r#""credential": hunter2"#,
        r#""credential": "hunter2"#,
        r#""credential": "hunter2" "x""#,
        r#""credential": "hunter2\ud800""#,
        r#""timeout": 1, // hunter2"#,
    ] {
        let text = JSON.replace("\"kind\"", &format!("{member}, \"kind\""));
        let shown = load_text("a.json", &text, &nothing).unwrap_err();
        let rows = serde_json::to_string(&shown).unwrap();
        assert!(!shown.to_string().contains("hunter2"), "{member}\n{shown}");
        assert!(!rows.contains("hunter2"), "{member}\n{rows}");
    }
}

#[test]
fn hostile_texts_of_toml_and_json_are_refused_soon() {
    let most = 4 << 20;
    let dotted = format!("{}a = 1\n", "a.".repeat(most / 2 - 8));
    let inline = "a = {".to_owned() + &"b = {".repeat(most / 5 - 8);
    let headers: String = (0..most / 12).map(|count| format!("[k{count}]\n")).collect();
    let keys: String = (0..most / 12).map(|count| format!("k{count} = 1\n")).collect();
    let members: String = (0..most / 12).map(|count| format!("\"k{count}\":1,")).collect();
    for (name, text) in [
        ("nesting.json", "[".repeat(most)),
        ("objects.json", "{\"a\":".repeat(most / 5)),
        ("closed.json", "[".repeat(most / 2) + &"]".repeat(most / 2)),
        ("members.json", format!("{{{members}\"a\":1}}")),
        ("equal.json", format!("{{{}\"a\":1}}", "\"a\":1,".repeat(most / 6 - 8))),
        ("items.json", format!("{{\"log\":[{}1]}}", "1,".repeat(most / 2 - 16))),
        ("text.json", format!("{{\"log\":\"{}\"}}", "é".repeat(most / 2 - 16))),
        ("zeros.json", "\0".repeat(most)),
        ("nesting.toml", format!("a = {}", "[".repeat(most - 8))),
        ("inline.toml", inline),
        ("dotted.toml", dotted),
        ("headers.toml", headers),
        ("keys.toml", keys),
        ("equal.toml", "a = 1\n".repeat(most / 6)),
        ("quotes.toml", "\"".repeat(most)),
        ("zeros.toml", "\0".repeat(most)),
        ("brackets.toml", "]\n".repeat(most / 2)),
        ("multiline.toml", format!("log = \"\"\"{}\"\"\"", "é\n".repeat(most / 3 - 8))),
    ] {
        let errors = load_text(name, &text, &nothing).unwrap_err();
        let shown = errors.to_string();
        assert!(errors.count() > 0 && shown.len() < 1 << 20, "{name}: {} bytes shown", shown.len());
    }
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics_and_its_places_lie_in_it(at in 0..JSON.len(), with in any::<char>(), which in 0..2usize) {
        let (name, mut text) = [("a.json", JSON.to_owned()), ("a.toml", TOML.to_owned())][which].clone();
        let at = at % text.len();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &with.to_string());
        }
        if let Err(errors) = load_text(name, &text, &nothing) {
            let lines: Vec<&str> = text.split('\n').collect();
            for finding in &errors.findings {
                prop_assert!((1..=lines.len()).contains(&finding.line), "{}", errors);
                prop_assert!((1..=lines[finding.line - 1].chars().count() + 1).contains(&finding.column), "{}", errors);
            }
            prop_assert!(!errors.to_string().contains(KEY));
        }
    }
}
