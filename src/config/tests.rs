//! The room as a whole: defaults, every check with its place, many errors in one run, hostile texts.

mod formats;
mod generated;
mod of_vendors;
mod shown;
mod together;

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::keys::{ROWS, Shape};
use super::*;
use crate::gate::OnLimit;
use crate::machine::{ForwardDuplicates, UnknownResolve};
use crate::sink::{Batch, Kind, Mode, Pace};
use crate::store::Durability;

const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
const REFERENCE: &str = include_str!("../../config/surgegate.yaml");

fn nothing(_: &str) -> Option<String> {
    None
}

/// The smallest configuration, with lines added to the integration, to the upstream, and at the end.
fn text(integration: &str, upstream: &str, rest: &str) -> String {
    let lines = |lines: &str| lines.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: {KEY} }}]\n    upstreams: [pager]\n{}\
         upstreams:\n  - name: pager\n    kind: webhook\n    url: https://a.example/hook\n{}{rest}",
        lines(integration),
        lines(upstream)
    )
}

fn read(text: &str) -> Result<Config, Errors> {
    load_text("surgegate.yaml", text, &nothing)
}

/// What `config show` prints of these texts, laid over each other.
fn show_with(files: &[(&str, &str)], flags: &[&str], environment: &Environment, with_origins: bool) -> String {
    let mut gathering = Gathering::default();
    files.iter().for_each(|(name, text)| gathering.add_text((*name).to_owned(), text, Format::of(Path::new(name))));
    let over = Over { flags: flags.iter().map(|flag| flag.parse().unwrap()).collect(), variables: Vec::new() };
    let (report, root) = gathering.finish(&over, environment);
    mean(&Section::root(&report, &root));
    let shown = show::show(&report, &root, with_origins);
    report.finish().unwrap_or_else(|errors| panic!("{shown}\n{errors}"));
    shown
}

fn show_text(files: &[(&str, &str)], flags: &[&str], environment: &Environment) -> String {
    show_with(files, flags, environment, false)
}

/// Each error as `line:column message`.
fn errors(text: &str) -> Vec<String> {
    let findings = read(text).map_or_else(|errors| errors.findings, |_| Vec::new());
    let errors = findings.into_iter().filter(|finding| finding.level == Level::Error);
    errors.map(|finding| format!("{}:{} {}", finding.line, finding.column, finding.message)).collect()
}

fn hints(text: &str) -> Vec<String> {
    let findings = read(text).map_or_else(|errors| errors.findings, |config| config.warnings);
    findings.into_iter().filter_map(|finding| finding.hint).collect()
}

#[test]
fn the_smallest_configuration_takes_every_default_of_the_interface() {
    let config = read(&text("", "", "")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.ingest.address.to_string(), "0.0.0.0:8080");
    assert_eq!(config.observe.to_string(), "0.0.0.0:9464");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9465");
    assert!(config.admin.token.is_none());
    assert_eq!((config.body.body_bytes, config.body.batch_body_bytes), (30_720, 4_194_304));
    assert!(config.body.gzip);
    assert_eq!((config.ingest.connections, config.body.body_bytes_in_flight), (None, 128 << 20));
    assert_eq!((config.ingest.header_bytes, config.ingest.headers, config.ingest.uri_bytes), (16 << 10, 64, 2 << 10));
    assert_eq!(config.ingest.header_timeout, Duration::from_secs(5));
    assert_eq!((config.body.body_timeout, config.body.slow_grace), (Duration::from_secs(10), Duration::from_secs(2)));
    assert_eq!((config.body.body_bytes_per_second, config.ingest.idle_timeout), (1024, Duration::from_secs(60)));
    assert_eq!(config.ingest.unauthenticated_requests_per_second, 1000);

    let [payments] = config.integrations.as_slice() else { panic!("one integration") };
    assert_eq!((&*payments.name, payments.key_hashes.len(), payments.enabled), ("payments", 1, true));
    assert!(payments.dialects.is_none() && payments.source_networks.is_none() && payments.event_rate.is_none());
    assert_eq!((payments.request_rate.per_second.get(), payments.request_rate.burst.get()), (10_000, 10_000));
    assert_eq!((payments.on_limit, payments.body_bytes), (OnLimit::Auto, None));
    assert_eq!(payments.policy.forward_duplicates, ForwardDuplicates::SeverityIncrease);
    assert_eq!(payments.policy.unknown_resolve, UnknownResolve::ForwardIfKeyed);
    assert_eq!((payments.default_severity, payments.require_description), (None, true));
    assert_eq!((payments.success_status, &*payments.upstreams[0]), (202, "pager"));

    let [pager] = config.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!((pager.kind, pager.mode, pager.pace, pager.batch), (Kind::Webhook, Mode::Normalized, None, None));
    assert_eq!((pager.timeout, pager.connections), (Duration::from_secs(10), 64));
    assert_eq!(pager.give_up_after, Duration::from_secs(24 * 3600));
    assert_eq!(pager.redeliver_after, Duration::from_secs(300));
    assert!(pager.credential.is_none());

    let day = Duration::from_secs(24 * 3600);
    let dedup = &config.dedup;
    assert_eq!((dedup.open_ttl, dedup.resolved_ttl, dedup.idempotency_ttl), (30 * day, day, 7 * day));
    assert_eq!((dedup.replay_ttl, dedup.max_keys, dedup.redeliver_after), (day, 1_000_000, Duration::from_secs(300)));
    let spool = &config.spool;
    assert_eq!((spool.directory.as_path(), spool.durability), (Path::new("./data"), Durability::Fsync));
    assert_eq!((spool.max_bytes, spool.segment_bytes), (10 << 30, 64 << 20));
    assert_eq!((spool.retain, spool.index_bytes), (day, 64 << 20));
    assert_eq!(config.drain, Duration::from_secs(20));
    assert_eq!(config.log, Log { format: LogFormat::Auto, level: tracing::Level::INFO });
}

#[test]
fn every_error_is_reported_in_one_run_with_its_line_a_caret_and_a_hint() {
    let written = "\
listen:
  ingest: { address: 8080, tls: { certificate: a } }
limits:
  body_timeout: 10
  gzip: yes
  body_byte: 30720
integrations:
  - name: Payments
    keys: [{ key: hunter2hunter2, key_sha256: zz }]
    upstream: [pager]
    ack: deliverd
upstreams:
  - name: pager
    kind: webhok
    url: https://user:hunter2@a.example
    batch: { max_events: 0 }
";
    let shown = read(written).unwrap_err().to_string();
    let golden = include_str!("golden/many_errors.txt");
    assert_eq!(shown.trim_end(), golden.trim_end(), "\n{shown}");
    assert!(!shown.contains("hunter2"), "a secret is shown");
}

#[test]
fn each_check_names_its_key_and_place() {
    let upstream = |upstream: &str| text("", upstream, "");
    let integration = |integration: &str| text(integration, "", "");
    let rest = |rest: &str| text("", "", rest);
    let keys = |keys: &str| text("", "", "").replace(&format!("[{{ key: {KEY} }}]"), keys);
    let key = |first: &str| keys(&format!("[{{ key: {first} }}]"));
    let second = |name: &str, key: &str| {
        let line = "integrations:\n";
        text("", "", "")
            .replace(line, &format!("{line}  - name: {name}\n    keys: [{{ key: {key} }}]\n    upstreams: [pager]\n"))
    };
    let other = "f".repeat(40);
    let replaced = |from: &str, to: &str| text("", "", "").replace(from, to);
    let digest = "0".repeat(64);
    let cases: Vec<(String, &[&str])> = vec![
        // Names.
        (replaced("name: payments", "name: -a"), &["2:11 integrations[0].name: not a name: \"-a\""]),
        (
            replaced("name: payments", &format!("name: {}", "a".repeat(65))),
            &[
                "2:11 integrations[0].name: not a name: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\"",
            ],
        ),
        (replaced("  - name: payments\n    keys", "  - keys"), &["2:5 missing key \"integrations[0].name\""]),
        (second("payments", &other), &["5:11 integrations[1].name: already used at line 2"]),
        (rest("  - { name: intake, kind: stdout }\n"), &["9:13 upstreams[1].name: a name of our own"]),
        (rest("  - { name: pager, kind: stdout }\n"), &["9:13 upstreams[1].name: already used at line 6"]),
        // Keys.
        (second("other", KEY), &["6:19 integrations[1].keys[0].key: already used at line 3"]),
        (
            keys(&format!("[{{ key: {KEY} }}, {{ key: {KEY} }}]")),
            &["3:70 integrations[0].keys[1].key: already used at line 3"],
        ),
        (
            keys(&format!("[{{ key: {KEY} }}, {{ key: {other} }}, {{ key_sha256: {digest} }}]")),
            &["3:11 integrations[0].keys: 3 entries, expected 1 to 2"],
        ),
        (keys("[]"), &["3:11 integrations[0].keys: 0 entries, expected 1 to 2"]),
        (keys("[{}]"), &["3:12 integrations[0].keys[0]: no key"]),
        (
            keys(&format!("[{{ key: {KEY}, key_file: nowhere }}]")),
            &["3:71 integrations[0].keys[0].key_file: more than one key in one entry"],
        ),
        (keys("[{ key_sha256: abc }]"), &["3:26 integrations[0].keys[0].key_sha256: not a SHA-256 in hex: ***"]),
        (keys("secret"), &["3:11 integrations[0].keys: expected a list of mappings, found a single value"]),
        (keys("[secret]"), &["3:12 integrations[0].keys[0]: expected a mapping, found a single value"]),
        (key("'two words'"), &["3:19 integrations[0].keys[0].key: a key with white space in it"]),
        (key("''"), &["3:19 integrations[0].keys[0].key: empty"]),
        (key(""), &["3:17 integrations[0].keys[0].key: no value"]),
        // References.
        (replaced("[pager]", "[pagre]"), &["4:17 integrations[0].upstreams: no upstream is called \"pagre\""]),
        (replaced("[pager]", "[pager, pager]"), &["4:24 integrations[0].upstreams: \"pager\" stands twice"]),
        (replaced("[pager]", "[]"), &["4:16 integrations[0].upstreams: an empty list"]),
        (
            replaced("[pager]", "pager"),
            &["4:16 integrations[0].upstreams: expected a list of values, found a single value"],
        ),
        (replaced("    upstreams: [pager]\n", ""), &["2:5 missing key \"integrations[0].upstreams\""]),
        // Integration.
        (integration("body_bytes: 513KiB"), &["5:17 integrations[0].body_bytes: out of bounds: \"513KiB\""]),
        (integration("success_status: 300"), &["5:21 integrations[0].success_status: out of bounds: \"300\""]),
        (integration("success_status: 199"), &["5:21 integrations[0].success_status: out of bounds: \"199\""]),
        (integration("default_severity: 0"), &["5:23 integrations[0].default_severity: out of bounds: \"0\""]),
        (integration("default_severity: 6"), &["5:23 integrations[0].default_severity: out of bounds: \"6\""]),
        (
            integration("default_severity: '3'"),
            &["5:23 integrations[0].default_severity: a text where a number is expected: \"3\""],
        ),
        (
            integration("dialects: [squadcst]"),
            &["5:16 integrations[0].dialects: not one of the known words: \"squadcst\""],
        ),
        (
            integration("source_networks: [10.0.0.0/33]"),
            &["5:23 integrations[0].source_networks: a prefix of 33 bits, where an address has 32: \"10.0.0.0/33\""],
        ),
        (integration("dialects: []"), &["5:15 integrations[0].dialects: an empty list"]),
        (
            integration("source_networks: [10.0.0.1/8, x]"),
            &[
                "5:23 integrations[0].source_networks: the address has bits beyond the prefix: \"10.0.0.1/8\"",
                "5:35 integrations[0].source_networks: not a network: \"x\"",
            ],
        ),
        (integration("rate_limit: { burst: 5 }"), &["5:26 integrations[0].rate_limit.burst: a burst without a rate"]),
        (
            integration("rate_limit: { events_per_second: 0 }"),
            &["5:38 integrations[0].rate_limit.events_per_second: out of bounds: \"0\""],
        ),
        (integration("on_limit: drop"), &["5:15 integrations[0].on_limit: not one of the known words: \"drop\""]),
        (integration("ack: received"), &["5:10 integrations[0].ack: not one of the known words: \"received\""]),
        (
            integration("respond: upstream"),
            &["5:14 integrations[0].respond: upstreams of kind webhook answer in no dialect"],
        ),
        (integration("assignment: {}"), &["5:17 integrations[0].assignment: nobody is named"]),
        (
            integration("alert_sources: [{ id: a/b, secret: s }, { id: c }, { id: d, secret: s, secret_file: f }]"),
            &[
                "5:27 integrations[0].alert_sources[0].id: no id of a source: \"a/b\"",
                "5:45 integrations[0].alert_sources[1]: no secret",
                "5:89 integrations[0].alert_sources[2].secret_file: both a secret and a file of it",
            ],
        ),
        (
            integration("alert_sources: [{ id: a, kind: pigeon, secret: 's s' }, { id: a, secret: s }]"),
            &[
                "5:36 integrations[0].alert_sources[0].kind: not one of the known words: \"pigeon\"",
                "5:52 integrations[0].alert_sources[0].secret: a secret with white space in it",
                "5:67 integrations[0].alert_sources[1].id: already used at line 5",
            ],
        ),
        (
            integration(
                "severities: [{ id: a, name: A, rank: 1 }, { id: a, name: B, rank: 1 }]\ndefault_severity_id: b",
            ),
            &[
                "5:53 integrations[0].severities[1].id: stands twice",
                "5:71 integrations[0].severities[1].rank: stands twice",
                "6:26 integrations[0].default_severity_id: none of the severities has this id",
            ],
        ),
        (
            integration("incident_statuses: [{ id: a, name: A, category: open }, { id: a, name: B, category: live }]"),
            &[
                "5:53 integrations[0].incident_statuses[0].category: not one of the known words: \"open\"",
                "5:67 integrations[0].incident_statuses[1].id: stands twice",
            ],
        ),
        (integration("enabled: 'true'"), &["5:14 integrations[0].enabled: not true or false: \"true\""]),
        (integration("enabled:"), &["5:12 integrations[0].enabled: no value"]),
        // Upstream.
        (replaced("    url: https://a.example/hook\n", ""), &["6:5 upstreams[0].url: missing"]),
        (replaced("https://a.example/hook", "/hook"), &["8:10 upstreams[0].url: not an absolute URL: ***"]),
        (
            replaced("https://a.example/hook", "ftp://a.example"),
            &["8:10 upstreams[0].url: a URL of scheme \"ftp\": ***"],
        ),
        (
            replaced("https://a.example/hook", "https://u:p@a.example"),
            &["8:10 upstreams[0].url: a URL with a user name or password in it: ***"],
        ),
        (
            replaced("kind: webhook\n    url: https://a.example/hook", "kind: squadcast"),
            &["6:5 upstreams[0].url: missing"],
        ),
        (
            replaced("webhook", "squadcast").replace("/hook", "/hook\n    batch: {}"),
            &["9:12 upstreams[0].batch: not for this kind of upstream"],
        ),
        (replaced("webhook", "stdout"), &["8:10 upstreams[0].url: not for this kind of upstream"]),
        (replaced("    kind: webhook\n", ""), &["6:5 missing key \"upstreams[0].kind\""]),
        (
            upstream("credential: a\ncredential_file: b"),
            &["10:22 upstreams[0].credential_file: both credential and credential_file"],
        ),
        (
            upstream("credential_file: nowhere/at/all"),
            &["9:22 upstreams[0].credential_file: cannot be read: No such file or directory (os error 2)"],
        ),
        (upstream("mode: verbatim"), &["9:11 upstreams[0].mode: verbatim is not for this kind of upstream"]),
        (upstream("rate_limit: { burst: 5 }"), &["9:26 upstreams[0].rate_limit.burst: a burst without a rate"]),
        (
            upstream("rate_limit: { requests_per_second: 0 }"),
            &["9:40 upstreams[0].rate_limit.requests_per_second: out of bounds: \"0\""],
        ),
        (upstream("batch: { max_events: 10001 }"), &["9:26 upstreams[0].batch.max_events: out of bounds: \"10001\""]),
        (upstream("timeout: 0s"), &["9:14 upstreams[0].timeout: out of bounds: \"0s\""]),
        (upstream("type_prefix: eu"), &["9:18 upstreams[0].type_prefix: not for this kind of upstream"]),
        (upstream("region: eu"), &["9:13 upstreams[0].region: not for this kind of upstream"]),
        // The process.
        (
            rest("listen: { observe: { address: '127.0.0.1:8080' } }\n"),
            &["9:31 listen.observe.address: another listener has this address"],
        ),
        (
            rest("listen: { ingest: { address: 'ingest:8080' } }\n"),
            &["9:30 listen.ingest.address: not an address: \"ingest:8080\""],
        ),
        (
            rest("listen: { admin: { token_file: nowhere/at/all } }\n"),
            &["9:32 listen.admin.token_file: cannot be read: No such file or directory (os error 2)"],
        ),
        (
            rest("listen: { ingest: { proxy_protocol: yes, trusted_proxies: [10.0.0.1/8], tls: { key: k } } }\n"),
            &[
                "9:37 listen.ingest.proxy_protocol: not true or false: \"yes\"",
                "9:60 listen.ingest.trusted_proxies: the address has bits beyond the prefix: \"10.0.0.1/8\"",
                "9:78 missing key \"listen.ingest.tls.certificate\"",
            ],
        ),
        (rest("redis: { url: redis://a?x }\n"), &["9:15 redis.url: nothing may stand behind the database: ***"]),
        (rest("redis: { url: [redis://a, redis+sentinel://b] }\n"), &["9:27 redis.url: no name of a master: ***"]),
        (
            rest("redis: { url: [redis://a, rediss://b] }\n"),
            &["9:15 redis.url: the servers of a Cluster share TLS, user and password"],
        ),
        (
            rest("redis: { url: redis://a, sentinel_user: u }\n"),
            &["9:41 redis.sentinel_user: redis.url names no Sentinels"],
        ),
        (rest("redis: { scope: shared }\n"), &["9:8 missing key \"redis.url\""]),
        (
            rest("limits: { body_bytes: 20KiB, batch_body_bytes: 10KiB }\n"),
            &["9:48 limits.batch_body_bytes: less than limits.body_bytes"],
        ),
        (
            rest("limits: { body_bytes_in_flight: 1MiB }\n"),
            &["9:33 limits.body_bytes_in_flight: less than limits.batch_body_bytes"],
        ),
        (rest("dedup: { idempotency_ttl: 23h }\n"), &["9:27 dedup.idempotency_ttl: out of bounds: \"23h\""]),
        (rest("spool: { max_bytes: 1MiB }\n"), &["9:21 spool.max_bytes: out of bounds: \"1MiB\""]),
        (rest("spool: { durability: none }\n"), &["9:22 spool.durability: not one of the known words: \"none\""]),
        (rest("shutdown: [20s]\n"), &["9:11 shutdown: expected a mapping, found a list"]),
        (rest("log: { level: { a: b } }\n"), &["9:15 log.level: expected a word, found a mapping"]),
        // The text.
        (rest("log: {}\nlog: {}\n"), &["10:1 \"log\" already stands at line 9"]),
        (rest("log: &a {}\ndedup: *a\n"), &["9:6 anchors are not supported", "10:8 aliases are not supported"]),
        (rest("log: !x {}\n"), &["9:9 tags are not supported"]),
        (rest("---\nlog: {}\n"), &["9:1 a second document in one file"]),
        (rest("{ a: b }: c\n"), &["9:1 a key must be a single word"]),
        ("".into(), &["1:1 missing key \"integrations\"", "1:1 missing key \"upstreams\""]),
        ("[]".into(), &["1:1 the configuration: expected a mapping, found a list"]),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        for finding in read(&text).unwrap_err().findings {
            assert!(finding.hint.is_some(), "{finding} says not what to do");
        }
        let found = errors(&text);
        let mut sorted: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
        let mut unordered = found.clone();
        sorted.sort();
        unordered.sort();
        if sorted != unordered {
            wrong.push(format!("{text}\nexpected {expected:#?}\nfound {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_mistyped_word_is_answered_with_the_nearest_known_one() {
    for (text, hint) in [
        (text("forward_duplicate: all", "", ""), "did you mean \"forward_duplicates\"?"),
        (text("", "", "").replace("[pager]", "[pagre]"), "did you mean \"pager\"?"),
        (text("directory: x", "", ""), "it belongs to spool"),
        (text("", "", "spool: { log: {} }\n"), "it stands at the top of the file, not here"),
        (text("", "", "kind: webhook\n"), "it belongs to upstreams[]"),
        (text("on_limit: rejct", "", ""), "did you mean \"reject\"?"),
        (text("", "timeout: 10", ""), "write 10s for seconds"),
        (text("", "", "spool: { max_bytes: 1GB }\n"), "write 1GiB"),
    ] {
        assert_eq!(hints(&text), [hint], "{text}");
    }
}

#[test]
fn what_is_seldom_meant_is_a_warning() {
    let second = format!("  - name: b\n    keys: [{{ key: {} }}]\n    upstreams: [pager]\n", "f".repeat(40));
    let shared = text("", "", "")
        .replace("webhook", "squadcast")
        .replace("upstreams:\n  -", &format!("{second}upstreams:\n  -"));
    for (text, code) in [
        (text("", "", "").replace(KEY, "short"), "key_form"),
        (text("", "", "").replace(KEY, &KEY.to_uppercase()), "key_form"),
        (text("", "", "").replace(KEY, "abcdef"), "key_form"),
        (text("", "", "  - { name: spare, kind: stdout }\n"), "unused"),
        (text("", "", "listen: { admin: { address: '0.0.0.0:9465' } }\n"), "read_only"),
        (shared, "shared_keys"),
    ] {
        let codes: Vec<_> = read(&text).unwrap().warnings.into_iter().map(|warning| warning.code).collect();
        assert_eq!(codes, [code], "{text}");
    }
}

#[test]
fn a_key_that_was_pasted_wrongly_is_told_what_to_change() {
    for (key, words) in [
        ("short", "surgegate keys generate"),
        (r#"'"a1"'"#, "remove them"),
        ("\"'a1'\"", "remove them"),
        ("$PAYMENTS_KEY", "${NAME}"),
    ] {
        let warnings = read(&text("", "", "").replace(KEY, key)).unwrap().warnings;
        let hint = warnings[0].hint.as_deref().unwrap_or_default();
        assert!(hint.contains(words) && !hint.contains("a1"), "{key}: {hint}");
    }
}

#[test]
fn written_values_arrive_as_they_were_meant() {
    let config = read(&text(
        "rate_limit: { events_per_second: 5, burst: 50, requests_per_second: 7 }\non_limit: spool\nenabled: false\n\
         dialects: [squadcast]\nsource_networks: [10.0.0.0/8]\nforward_duplicates: all\nunknown_resolve: drop\n\
         default_severity: 3\nbody_bytes: 64KiB\nsuccess_status: 200\nrequire_description: false",
        "credential: whsec_x\nbatch: {}\nconnections: 3",
        "spool: { durability: memory, max_bytes: 16MiB }\nlog: { format: json, level: debug }\nshutdown: { drain: 0s }\n\
         listen: { ingest: { tls: { certificate: c, key: k }, trusted_proxies: [10.0.0.0/8], proxy_protocol: true } }\n",
    ))
    .unwrap();
    let files = listen::tls::Config { certificate: "c".into(), key: "k".into(), client_ca: None };
    assert_eq!(config.ingest.tls, Some(files));
    assert_eq!(config.ingest.proxies.trusted, Some(vec![("10.0.0.0".parse().unwrap(), 8)]));
    assert!(config.ingest.proxies.protocol);
    let [payments] = config.integrations.as_slice() else { panic!("one integration") };
    let events = payments.event_rate.unwrap();
    assert_eq!((events.per_second.get(), events.burst.get()), (5, 50));
    assert_eq!((payments.request_rate.per_second.get(), payments.request_rate.burst.get()), (7, 7));
    assert_eq!((payments.on_limit, payments.enabled), (OnLimit::Spool, false));
    assert_eq!(payments.dialects.as_deref(), Some(["squadcast".to_owned()].as_slice()));
    assert_eq!(payments.source_networks.as_deref(), Some([("10.0.0.0".parse().unwrap(), 8)].as_slice()));
    assert_eq!(payments.policy.forward_duplicates, ForwardDuplicates::All);
    assert_eq!(payments.policy.unknown_resolve, UnknownResolve::Drop);
    assert_eq!(payments.default_severity.map(crate::event::Severity::level), Some(3));
    assert_eq!(
        (payments.body_bytes, payments.success_status, payments.require_description),
        (Some(64 << 10), 200, false)
    );
    let [pager] = config.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!((pager.credential.as_deref(), pager.connections), (Some("whsec_x"), 3));
    assert_eq!(pager.batch, Some(Batch { max_events: 100, max_wait: Duration::from_millis(10) }));
    assert_eq!((config.spool.durability, config.spool.segment_bytes), (Durability::Memory, 1 << 20));
    assert_eq!(config.log, Log { format: LogFormat::Json, level: tracing::Level::DEBUG });
    assert_eq!(config.drain, Duration::ZERO);
}

#[test]
fn an_upstream_is_paced_as_its_vendor_asks_or_as_written() {
    let pace = |kind: &str, limit: &str| {
        let config = read(&text("", limit, "").replace("webhook", kind)).unwrap();
        config.upstreams[0].pace
    };
    let second = Duration::from_secs(1);
    for (kind, limit, expected) in [
        ("webhook", "", None),
        ("squadcast", "", Some(Pace { requests: 15, per: 60 * second, burst: 15 })),
        ("squadcast", "rate_limit: { burst: 3 }", Some(Pace { requests: 15, per: 60 * second, burst: 3 })),
        ("squadcast", "rate_limit: { requests_per_second: 2 }", Some(Pace { requests: 2, per: second, burst: 2 })),
        ("webhook", "rate_limit: { requests_per_second: 0.25 }", Some(Pace { requests: 1, per: 4 * second, burst: 1 })),
        (
            "webhook",
            "rate_limit: { requests_per_second: 2.5, burst: 9 }",
            Some(Pace { requests: 1, per: second * 2 / 5, burst: 9 }),
        ),
    ] {
        assert_eq!(pace(kind, limit), expected, "{kind} {limit}");
    }
}

#[test]
fn squadcast_is_sent_verbatim_unless_told_otherwise() {
    let mode = |mode: &str| read(&text("", mode, "").replace("webhook", "squadcast")).unwrap().upstreams[0].mode;
    assert_eq!((mode(""), mode("mode: normalized")), (Mode::Verbatim, Mode::Normalized));
}

#[test]
fn a_key_is_the_same_however_it_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let windows = directory.path().join("windows");
    fs::write(&windows, format!("{KEY}\r\n")).unwrap();
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(KEY).into();
    let digest: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let environment = |name: &str| (name == "KEY").then(|| KEY.to_owned());
    for entry in [
        format!("key: {KEY}"),
        "key: '${KEY}'".to_owned(),
        format!("key_file: {}", file.display()),
        format!("key_file: {}", windows.display()),
        format!("key_sha256: {digest}"),
        format!("key_sha256: {}", digest.to_uppercase()),
    ] {
        let text = text("", "", "").replace(&format!("key: {KEY}"), &entry);
        let config = load_text("surgegate.yaml", &text, &environment).unwrap();
        assert_eq!(
            (config.integrations[0].key_hashes.as_slice(), config.warnings.len()),
            ([hash].as_slice(), 0),
            "{entry}"
        );
    }
}

#[test]
fn secret_files_are_read_without_their_last_line_break() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, "a b\n\n").unwrap();
    let path = file.display();
    let rest = format!("listen: {{ admin: {{ token_file: {path} }} }}\n");
    let config = read(&text("", &format!("credential_file: {path}"), &rest)).unwrap();
    assert_eq!(config.upstreams[0].credential.as_deref(), Some("a b\n"));
    assert_eq!(config.admin.token.as_deref(), Some("a b\n"));

    fs::write(&file, "\n").unwrap();
    let expected = "9:22 upstreams[0].credential_file: the file is empty";
    assert_eq!(errors(&text("", &format!("credential_file: {path}"), "")), [expected]);
    let endless = "9:22 upstreams[0].credential_file: larger than 64KiB";
    assert_eq!(errors(&text("", "credential_file: /dev/zero", "")), [endless]);
}

#[test]
fn an_unset_variable_is_an_error_at_its_own_place() {
    let text = text("", "credential: \"a-${UNSET}\"", "log: { level: '${LEVEL}' }\n");
    let environment = |name: &str| (name == "LEVEL").then(|| "loud-secret".to_owned());
    let shown = load_text("surgegate.yaml", &text, &environment).unwrap_err().to_string();
    assert!(shown.contains("surgegate.yaml:9:20"), "{shown}");
    assert!(shown.contains("environment variable UNSET is not set"), "{shown}");
    assert!(shown.contains("log.level: not one of the known words: ***"), "{shown}");
    assert!(!shown.contains("loud-secret"), "{shown}");
    assert!(shown.ends_with("2 errors"), "{shown}");
}

#[test]
fn secrets_are_never_shown_wherever_they_were_mistyped() {
    for line in [
        "keyss: hunter2",
        "credential: [hunter2]",
        "credential: { hunter2: hunter2 }",
        "credentials: hunter2",
        "credential: hunter2\ncredential_file: nowhere",
        "credential: hunter2\ncredential: hunter2",
        "credential: *hunter2",
        "credential: !hunter2 x",
        "credential: &hunter2 x",
        "credential: &hunter2",
        "credential: #hunter2",
        "batch: { x: \"hunter2\n  hunter2\", y: 1 }",
        "credential: \"hunter2",
        "credential: hunter2: hunter2",
        "url: hunter2",
        "batch: hunter2",
        "batch: [hunter2]",
        "a_very_long_key_that_may_be_a_secret_hunter2: x",
    ] {
        let shown = read(&text("", line, "")).unwrap_err();
        let rows = serde_json::to_string(&shown).unwrap();
        assert!(!shown.to_string().contains("hunter2"), "{line}\n{shown}");
        assert!(!rows.contains("hunter2"), "{line}\n{rows}");
    }
    let config = read(&text("", "credential: hunter2", "")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn variables_replace_single_values_and_their_errors_name_them() {
    let environment = |name: &str| match name {
        "SURGEGATE__SPOOL__DIRECTORY" => Some("/var/spool".to_owned()),
        "SURGEGATE__LISTEN__INGEST__ADDRESS" => Some("127.0.0.1:1".to_owned()),
        "SURGEGATE__LIMITS__GZIP" => Some("false".to_owned()),
        _ => None,
    };
    let written = text("", "", "spool: { directory: ./here, max_bytes: 1GiB }\n");
    let config = load_text("surgegate.yaml", &written, &environment).unwrap();
    assert_eq!(config.spool.directory, Path::new("/var/spool"));
    assert_eq!(config.spool.max_bytes, 1 << 30);
    assert_eq!((config.ingest.address.port(), config.body.gzip), (1, false));

    let environment = |name: &str| match name {
        "SURGEGATE__LIMITS__HEADERS" => Some("many-secret".to_owned()),
        "SURGEGATE__REDIS__URL" => Some("http://secret".to_owned()),
        _ => None,
    };
    let shown = load_text("surgegate.yaml", &written, &environment).unwrap_err().to_string();
    assert!(
        shown.contains(
            "error: limits.headers: not a whole number: ***\n --> environment variable SURGEGATE__LIMITS__HEADERS\n"
        ),
        "{shown}"
    );
    assert!(shown.contains(" --> environment variable SURGEGATE__REDIS__URL\n"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn files_are_laid_over_each_other_and_errors_name_the_right_one() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let base = write("base.yaml", &text("", "", "log: { level: warn, format: json }\nspool: { directory: a }\n"));
    let over = write("over.yaml", "log: { level: debug }\nupstreams: [{ name: pager, kind: stdout }]\n");
    let config = load(&[base.clone(), over], &nothing).unwrap();
    assert_eq!(config.log, Log { format: LogFormat::Json, level: tracing::Level::DEBUG });
    assert_eq!((config.upstreams[0].kind, config.spool.directory.as_path()), (Kind::Stdout, Path::new("a")));

    let bad = write("bad.yaml", "\nlog: { level: loud }\n");
    let errors = load(&[base.clone(), bad.clone()], &nothing).unwrap_err();
    assert_eq!((errors.findings[0].file.as_str(), errors.findings[0].line), (&*bad.display().to_string(), 2));

    let absent = directory.path().join("absent.yaml");
    let latin = directory.path().join("latin.yaml");
    fs::write(&latin, b"log: \xff\n").unwrap();
    let huge = write("huge.yaml", &"#".repeat(4 << 20 | 1));
    let errors = load(&[base, absent, latin, huge, directory.path().into()], &nothing).unwrap_err();
    let messages: Vec<_> = errors.findings.iter().map(|finding| finding.message.as_str()).collect();
    let expected = [
        "cannot be read: No such file or directory (os error 2)",
        "not UTF-8 text",
        "larger than 4MiB",
        "cannot be read: Is a directory (os error 21)",
    ];
    assert_eq!(messages, expected);
    assert_eq!((errors.findings[1].line, errors.findings[1].column), (1, 6), "the first byte that is none");
    assert_eq!(load(&[], &nothing).unwrap_err().findings[0].message, "no file was named");
}

#[test]
fn the_search_names_both_places_and_the_demo() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a.yaml"), directory.path().join("b.yaml"));
    let error = find_among(&[&first, &second]).unwrap_err().to_string();
    assert!(error.contains(&format!("neither {} nor {} exists", first.display(), second.display())), "{error}");
    assert!(error.contains("surgegate demo"), "{error}");
    fs::write(&second, "").unwrap();
    assert_eq!(find_among(&[&first, &second]), Ok(second.clone()));
    fs::write(&first, "").unwrap();
    assert_eq!(find_among(&[&first, &second]), Ok(first.clone()));
}

fn environment_of_the_reference(name: &str) -> Option<String> {
    (name == "PAYMENTS_KEY").then(|| KEY.to_owned())
}

#[test]
fn the_reference_file_loads_without_a_warning() {
    let config = load_text("surgegate.yaml", REFERENCE, &environment_of_the_reference)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_reader_asks_for_every_key_of_the_table() {
    let mut report = Report::default();
    let vendors = "batch: {}\nfield_map: [{}]\nresponders: [{}]";
    let dialects = "severities: [{}]\nincident_statuses: [{}]\nalert_sources: [{}]\nsns: { severities: [{}] }\n\
                    generic: { actions: [{}], severities: [{}] }\nzabbix: {}\ngrafana: {}\n\
                    ack: delivered\nack_timeout: 5s\nid_passthrough: true";
    let text = text(dialects, vendors, "listen: { ingest: { tls: { certificate: c, key: k } } }\nredis: {}\n");
    let source = report.add_source("surgegate.yaml", text.as_str(), Format::Yaml);
    let root = tree::parse(&mut report, source, &text).unwrap();
    mean(&Section::root(&report, &root));
    let asked = report.asked.borrow();
    let unread: Vec<_> = ROWS.iter().filter(|row| !asked.contains(row.path)).map(|row| row.path).collect();
    assert!(unread.is_empty(), "accepted and never read: {unread:?}");
}

#[test]
fn each_word_of_a_choice_is_accepted_by_the_reader() {
    for row in ROWS {
        let Shape::Choice(words) = row.shape else { continue };
        let (section, name) = row.path.rsplit_once('.').unwrap();
        for word in words {
            if name == "kind" && !["webhook", "squadcast", "stdout"].contains(word) || *word == "upstream" {
                // `of_vendors` is about those.
                continue;
            }
            let line = format!("{name}: {word}");
            let text = match section {
                "integrations[]" => text(&line, "", ""),
                "upstreams[]" if name == "kind" => text("", "", "").replace("kind: webhook", &line),
                "upstreams[]" if name == "mode" => text("", &line, "").replace("webhook", "squadcast"),
                // Each is tried with the kind that has a use for it.
                section if section.starts_with("upstreams[]") || section.starts_with("integrations[].") => continue,
                "redis" => text("", "", &format!("redis: {{ url: redis://a, {line} }}\n")),
                section => text("", "", &format!("{section}: {{ {line} }}\n")),
            };
            let text = if *word == "stdout" { text.replace("    url: https://a.example/hook\n", "") } else { text };
            assert_eq!(errors(&text), [""; 0], "{line}");
        }
    }
}

#[test]
fn hostile_texts_are_refused_soon() {
    let bomb = {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            let below = format!("*a{},", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        text
    };
    let many = |line: &dyn Fn(usize) -> String, bytes: usize| {
        let mut text = String::new();
        let mut count = 0;
        while text.len() < bytes {
            text.push_str(&line(count));
            count += 1;
        }
        text
    };
    let most = 4 << 20;
    for (name, text) in [
        ("flow nesting", "[".repeat(most)),
        ("mapping nesting", "{a: ".repeat(most / 4)),
        ("block nesting", (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
        ("compact nesting", "- ".repeat(most / 2)),
        ("alias bomb", bomb),
        ("self alias", "log: &a [*a]".to_owned()),
        ("unknown keys", many(&|count| format!("k{count}: v\n"), most - 16)),
        ("equal keys", many(&|_| "log: {}\n".to_owned(), most - 16)),
        ("one long line", format!("log: {}", "x".repeat(most - 8))),
        ("one long key", format!("{}: 1", "x".repeat(most - 8))),
        ("unclosed quote", format!("log: \"{}", "x\n".repeat(most / 2 - 4))),
        ("variables", format!("log: '{}'", "${A}".repeat(most / 4 - 4))),
        ("dollars", format!("log: '{}'", "$".repeat(most - 8))),
        ("bytes that are not text", "\u{0}\u{1}\u{feff}\u{2028}".repeat(1000)),
        ("too large", "#".repeat(most + 1)),
        ("integrations", format!("integrations:\n{}", many(&|_| "- upstreams: [a, b]\n".to_owned(), most - 64))),
        ("references", text("", "", "").replace("[pager]", &format!("[{}]", "pagre, ".repeat(most / 8)))),
        (
            "names",
            format!(
                "integrations:\n{}upstreams:\n{}",
                many(
                    &|count| format!("- {{name: i{count}, keys: [{{key: k{count}}}], upstreams: [x{count}]}}\n"),
                    most / 2
                ),
                many(&|count| format!("- {{name: u{count}, kind: stdout}}\n"), most / 2 - 64)
            ),
        ),
    ] {
        // No clock: what blows up does not come to an end.
        let errors = read(&text).unwrap_err();
        let shown = errors.to_string();
        assert!(errors.count() > 0, "{name}");
        assert!(shown.len() < 1 << 20, "{name}: {} bytes shown", shown.len());
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let tabs = read(&text("", "", "log: {\tlevel: loud }\n")).unwrap_err().to_string();
    assert!(tabs.contains("log: { level: loud }"), "{tabs}");
    let shown = read(&text("", "", "log: { level: \"a\\e[31m\", \"\\a\\e\": 1 }\n")).unwrap_err().to_string();
    assert!(shown.chars().all(|character| character == '\n' || !character.is_control()), "{shown:?}");
}

#[test]
fn a_secret_of_several_lines_is_masked_on_each() {
    let shown = read(&text("", "batch: { x: \"one\n  two\", yyy: 1 }", "")).unwrap_err().to_string();
    assert!(shown.contains("10 | ***, yyy: *** }\n   |      ^^^\n"), "{shown}");
}

#[test]
fn a_squadcast_key_stands_in_the_url_or_is_joined_to_it() {
    let url = |url: &str, rest: &str| {
        let text = text("", rest, "").replace("webhook", "squadcast").replace("https://a.example/hook", url);
        read(&text).unwrap().upstreams[0].url.clone().unwrap().to_string()
    };
    let whole = "https://a.example/v2/incidents/api/abc";
    for (written, credential) in [
        (whole, ""),
        ("https://a.example", "credential: abc"),
        ("https://a.example/", "credential: abc"),
        ("https://a.example/v2/incidents/api/", "credential: abc"),
    ] {
        assert_eq!(url(written, credential), whole, "{written}");
    }
    assert_eq!(url("https://a.example/proxy", "credential: abc"), "https://a.example/proxy/v2/incidents/api/abc");
    let bad = |url: &str, key: &str| {
        let text = text("", &format!("credential: {key}"), "").replace("webhook", "squadcast");
        errors(&text.replace("https://a.example/hook", url))
    };
    assert_eq!(bad("https://a.example", "a/b"), ["9:17 upstreams[0].credential: a key that cannot stand in a path"]);
    let query = "8:10 upstreams[0].url: a query before a key that comes from elsewhere";
    assert_eq!(bad("https://a.example?x=y", "abc"), [query]);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = read(&text).map_err(|errors| errors.to_string());
    }

    /// Pieces of real configurations in any order come much further into the reader.
    #[test]
    fn shuffled_pieces_of_configurations_never_panic(pieces in prop::collection::vec((0usize..12, "(integrations|upstreams|listen|limits|name|keys|key|url|kind|spool|dedup|batch|rate_limit|burst|log|[a-z0-9$&*!|>?%@'\"é]{1,6})"), 0..40)) {
        let marks = [": ", ":\n", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", " #"];
        let text: String = pieces.iter().flat_map(|(mark, word)| [word.as_str(), marks[*mark]]).collect();
        let _ = read(&text).map_err(|errors| errors.to_string());
    }

    /// A byte changed anywhere in the reference: read or refused, never a panic, and no key shown.
    #[test]
    fn a_damaged_reference_never_panics(at in 0..REFERENCE.len(), with in any::<char>()) {
        let mut text = REFERENCE.to_owned();
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, &with.to_string());
        }
        let shown = load_text("surgegate.yaml", &text, &environment_of_the_reference).map_or_else(|errors| errors.to_string(), |_| String::new());
        prop_assert!(!shown.contains(KEY));
    }
}
