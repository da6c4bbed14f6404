//! All errors at once: what cannot be read hides nothing that is wrong elsewhere.

use super::*;

/// Files in a folder of their own, loaded together; each finding as `place message | hint`.
fn told(files: &[(&str, &str)], flags: &[&str], environment: &Environment) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| directory.path().join(name)).collect();
    paths.iter().zip(files).for_each(|(path, (_, text))| fs::write(path, text).unwrap());
    let over = Over { flags: flags.iter().map(|flag| flag.parse().unwrap()).collect(), variables: Vec::new() };
    let findings =
        load_with(&paths, &over, environment).map_or_else(|errors| errors.findings, |config| config.warnings);
    let folder = format!("{}/", directory.path().display());
    let row = |finding: &Finding| {
        format!("{} {} | {}", finding.place(), finding.message, finding.hint.as_deref().unwrap_or("NO HINT"))
            .replace(&folder, "")
    };
    findings.iter().map(row).collect()
}

fn begins(found: &[String], expected: &[&str]) {
    let fits =
        found.len() == expected.len() && found.iter().zip(expected).all(|(found, begin)| found.starts_with(begin));
    assert!(fits, "{found:#?}");
}

#[test]
fn a_file_that_cannot_be_parsed_hides_no_error_of_the_others() {
    let other = "limits: { body_bytes: wide }\nlog: { level: loud, formt: text }\nlisten: { admin: { address: '0.0.0.0:9' } }\n\
                 integrations: [{ name: Pay, keys: [{}], upstreams: [elsewhere] }]\n";
    let variable = |name: &str| (name == "SURGEGATE__LIMITS__HEADERS").then(|| "many".to_owned());
    let found = told(
        &[("broken.yaml", "spool: {\n"), ("other.yaml", other), ("also.json", "{ nothing }")],
        &["limits.gzip=perhaps", "limits={ headers: [", "spool.durability=none"],
        &variable,
    );
    begins(
        &found,
        &[
            "broken.yaml:",
            "other.yaml:1:23 limits.body_bytes: not a size",
            "other.yaml:2:15 log.level: not one of the known words",
            "other.yaml:2:21 unknown key \"formt\"",
            "other.yaml:4:24 integrations[0].name: not a name",
            "other.yaml:4:36 integrations[0].keys[0]: no key",
            "also.json:1:3 ",
            "environment variable SURGEGATE__LIMITS__HEADERS limits.headers: not a whole number: ***",
            "flag --set limits.gzip:1:1 limits.gzip: not true or false",
            "flag --set limits:1:12 ",
            "flag --set spool.durability:1:1 spool.durability: not one of the known words",
        ],
    );
    assert!(found.iter().all(|line| !line.contains("NO HINT")), "{found:#?}");
}

#[test]
fn what_a_broken_file_may_hold_is_not_missed() {
    for name in ["broken.yaml", "broken.toml", "broken.json"] {
        let found = told(&[(name, "{ ["), ("other.yaml", "log: { level: info }\n")], &[], &nothing);
        assert!(found.len() == 1 && found[0].starts_with(name), "{found:#?}");
    }
    let other = text("", "", "limits: { body_bytes: 8MiB }\n").replace("8MiB", "400KiB");
    assert_eq!(told(&[("other.yaml", &other)], &[], &nothing), [""; 0]);
}

#[test]
fn lists_are_taken_from_variables_and_flags() {
    let written = text("", "", "listen: { ingest: { trusted_proxies: [10.9.0.0/16] } }\n");
    let files = [("surgegate.yaml", written.as_str())];
    for set in
        ["10.0.0.0/8,192.0.2.7", " 10.0.0.0/8 , 192.0.2.7 ", "[10.0.0.0/8, \"192.0.2.7\"]", "['10.0.0.0/8',192.0.2.7]"]
    {
        let variable = |name: &str| (name == "SURGEGATE__LISTEN__INGEST__TRUSTED_PROXIES").then(|| set.to_owned());
        let shown = show_text(&files, &[], &variable);
        assert!(shown.contains("trusted_proxies: [10.0.0.0/8, 192.0.2.7]\n"), "{set}: {shown}");
    }
    let urls = "[redis://a:1, redis://b:2]";
    let variable = |name: &str| (name == "SURGEGATE__REDIS__URL").then(|| urls.to_owned());
    let by_flag = format!("redis.url={urls}");
    for shown in [show_text(&files, &[], &variable), show_text(&files, &[&by_flag], &nothing)] {
        assert!(shown.contains("url: [redis://a:1, redis://b:2]\n"), "{shown}");
    }
    // The commas of one URL stay its own.
    let sentinels = |name: &str| (name == "SURGEGATE__REDIS__URL").then(|| "redis+sentinel://a,b/main".to_owned());
    assert!(show_text(&files, &[], &sentinels).contains("redis+sentinel://a,b/"));
    // What is wrong in one is told without what it holds.
    let variable =
        |name: &str| (name == "SURGEGATE__LISTEN__INGEST__TRUSTED_PROXIES").then(|| "10.0.0.0/8,hunter2".to_owned());
    let found = told(&files, &[], &variable);
    begins(
        &found,
        &[
            "environment variable SURGEGATE__LISTEN__INGEST__TRUSTED_PROXIES listen.ingest.trusted_proxies: not a network: ***",
        ],
    );
    assert!(!found[0].contains("hunter2") && found[0].contains("list of networks"), "{found:#?}");
}

#[test]
fn a_later_layer_masks_no_name_in_an_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surgegate.yaml");
    fs::write(&path, text("", "", "limits: { headers: 9, extra: 1, body_bytes: wide }\n")).unwrap();
    let over = Over { flags: vec!["limits.headers=8".parse().unwrap()], variables: Vec::new() };
    let shown = load_with(&[path], &over, &nothing).unwrap_err().to_string();
    assert!(shown.contains("9 | limits: { headers: ***, extra: ***, body_bytes: wide }"), "{shown}");
}

#[test]
fn every_error_says_what_to_do() {
    let set_and_empty = |name: &str| (name == "EMPTY").then(String::new);
    let large = format!("# {}", "x".repeat(5 << 20));
    let broken = |integration: &str, rest: &str| text(integration, "", rest);
    for (text, environment, hint) in [
        (large.as_str(), &nothing as &Environment, "that is no configuration: name the right file"),
        (&broken("", "log: { level: '${UNSET:?}' }\n"), &nothing, "UNSET is not set: give it a value"),
        (&broken("", "log: { level: '${EMPTY:?}' }\n"), &set_and_empty, "EMPTY is empty: give it a value"),
        (&broken("", "log: { level: '${UNSET:?ask Ann}' }\n"), &nothing, "UNSET is not set: give it a value"),
        (
            &broken("", "limits: { idle_timeout: 99999999999999999999d }\n"),
            &nothing,
            "write a whole number with a unit",
        ),
        (&broken("", "limits: { idle_timeout: 18446744073709551615d }\n"), &nothing, "no key takes more"),
        (&broken("", "limits: { uri_bytes: 18446744073709551615TiB }\n"), &nothing, "write bytes, or a unit that fits"),
        (&broken("", "limits: { uri_bytes: [1] }\n"), &nothing, "Path and query"),
        (&broken("", "listen: { ingest: '0.0.0.0:8080' }\n"), &nothing, "address: goes before it"),
        (&broken("", "listen: { ingest: address:8080 }\n"), &nothing, "a colon needs a space behind it"),
        (&broken("", "log: nothing:here\n"), &nothing, "write \"key: value\" lines"),
        (&broken("source_networks: [10.0.0.0/33]", ""), &nothing, "write 10.0.0.0/32 for this one address"),
    ] {
        let found = told(&[("surgegate.yaml", text)], &[], environment);
        assert!(found.len() == 1 && found[0].contains(&format!("| {hint}")), "{hint}: {found:#?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    for (bytes, hint) in
        [(&[b'x'; 70_000][..], "the secret and nothing else"), (b"\xff", "the secret and nothing else")]
    {
        fs::write(&path, bytes).unwrap();
        let written = text("", &format!("credential_file: {}", path.display()), "");
        let found = told(&[("surgegate.yaml", &written)], &[], &nothing);
        assert!(found.len() == 1 && found[0].contains(hint), "{found:#?}");
    }
}

#[test]
fn one_request_at_once_is_a_warning_where_a_hanging_event_would_hold_up_others() {
    let found = |upstream: &str| told(&[("surgegate.yaml", &text("", upstream, ""))], &[], &nothing);
    begins(
        &found("connections: 1"),
        &[
            "surgegate.yaml:9:18 upstreams[0].connections: an event that is not answered holds up all others for 10s | write 2",
        ],
    );
    assert_eq!(found("connections: 2"), [""; 0]);
    assert_eq!(found("connections: 1\ntimeout: 1s"), [""; 0]);
}
