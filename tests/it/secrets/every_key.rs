//! I5 for the configuration: each key that holds a secret, or names a file that does, is planted, all of them are used, refused
//! and shown by every command, and none is told. A new such key fails here until it is planted.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use fastrand::Rng;
use serde_json::json;
use tempfile::TempDir;

use super::{Planted, files};
use crate::harness::redis::{Redis, Sentinels};
use crate::harness::tls::{Authority, Client};
use crate::harness::{Recorder, Reply, Surgegate, binary, request, run, seed, standard, trigger, wait_until};

/// Kinds of values, in the words of the reference, that may be secret or lead to one.
const KINDS: [&str; 5] = ["text, secret", "64 hex digits", "URL", "URL or list of URLs", "path"];
/// Of those kinds, and no secret.
const HARMLESS: [&str; 4] =
    ["listen.ingest.tls.certificate", "listen.ingest.tls.client_ca", "redis.ca_file", "spool.directory"];

/// Plants a secret for each key, and remembers for which.
struct Garden {
    planted: Planted,
    keys: BTreeSet<String>,
    folder: TempDir,
}

impl Garden {
    fn plant(&mut self, key: &str) -> String {
        self.keys.insert(key.to_owned());
        self.planted.plant()
    }

    /// A file with a secret, and the secret.
    fn plant_file(&mut self, key: &str) -> (String, String) {
        let secret = self.plant(key);
        let path = self.folder.path().join(&secret[..8]);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        (path.display().to_string(), secret)
    }
}

/// Keys of the reference whose values may be secret.
fn keys_that_may_hold_one() -> BTreeSet<String> {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let may = rows.filter(|(_, rest)| rest.split(" | ").next().is_some_and(|kind| KINDS.contains(&kind)));
    may.map(|(key, _)| key.to_owned()).filter(|key| !HARMLESS.contains(&key.as_str())).collect()
}

/// Upstreams of every kind, each with its credential, written or in a file.
fn upstreams(garden: &mut Garden, recorder: &Recorder) -> (String, Vec<&'static str>) {
    let kinds = [
        ("squadcast", ""),
        ("incidentio", "visibility: private, default_severity_id: 01S"),
        ("incidentio_alert", "source_config_id: 01SRC"),
        ("taskcall", "service_ref_id: SRV"),
        ("pagerduty", ""),
        ("opsgenie", ""),
        ("alertmanager", ""),
        ("cloudevents", ""),
        ("webhook", ""),
    ];
    let mut text = "upstreams:\n".to_owned();
    for (number, (kind, more)) in kinds.into_iter().enumerate() {
        let in_path = garden.plant("upstreams[].url");
        // What the vendors' paths are built on has no query.
        let query = if matches!(kind, "webhook" | "cloudevents" | "alertmanager") {
            format!("?token={}", garden.plant("upstreams[].url"))
        } else {
            String::new()
        };
        let credential = if number % 2 == 0 {
            format!("credential_file: '{}'", garden.plant_file("upstreams[].credential_file").0)
        } else {
            format!("credential: '{}'", garden.plant("upstreams[].credential"))
        };
        let url = format!("{}/{in_path}{query}", recorder.base());
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        text += &format!(
            "  - {{ name: {}, kind: {kind}, url: '{url}', {credential}{more}, rate_limit: {{ requests_per_second: 1000 }} }}\n",
            kind.replace('_', "-")
        );
    }
    (text, kinds.map(|(kind, _)| kind).to_vec())
}

struct Stand {
    garden: Garden,
    authority: Authority,
    redis: Redis,
    recorder: Recorder,
    surgegate: Surgegate,
    keys: [String; 3],
    sources: [String; 2],
    hmac: String,
    token: String,
}

const USER: &str = "gate";

fn start() -> Stand {
    let planted = Planted { random: Rng::with_seed(seed()), all: HashSet::new() };
    let mut garden = Garden { planted, keys: BTreeSet::new(), folder: TempDir::new().unwrap() };
    let mut number = 0;
    let recorder = Recorder::scripted(move |_| {
        number += 1;
        match number % 5 {
            0 => Reply::Cut,
            1 => Reply::Json(401, json!({ "error": "who are you?" })),
            2 => Reply::Status(503),
            _ => Reply::Status(404),
        }
    });
    let authority = Authority::new();
    garden.keys.insert("listen.ingest.tls.key".to_owned());
    // Goes with another URL: planted below.
    garden.keys.insert("redis.sentinel_password".to_owned());
    let redis = Redis::start();
    let password = garden.plant("redis.url");
    redis.ask(&["ACL", "SETUSER", USER, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
    let (token_file, token) = garden.plant_file("listen.admin.token_file");
    let key = garden.plant("integrations[].keys[].key");
    let (key_file, filed) = garden.plant_file("integrations[].keys[].key_file");
    let hashed = garden.planted.plant();
    let digest = run(binary(garden.folder.path(), &["keys", "hash"]), &hashed).out;
    let digest = digest.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64).unwrap().to_owned();
    garden.keys.insert("integrations[].keys[].key_sha256".to_owned());
    let secret = garden.plant("integrations[].alert_sources[].secret");
    let (secret_file, filed_secret) = garden.plant_file("integrations[].alert_sources[].secret_file");
    let hmac = garden.plant("integrations[].grafana_hmac.secret");
    let (hmac_file, _) = garden.plant_file("integrations[].grafana_hmac.secret_file");
    let (upstreams, names) = upstreams(&mut garden, &recorder);
    let names = names.join(", ").replace('_', "-");
    let integrations = format!(
        "integrations:\n\
         \x20 - {{ name: one, keys: [{{ key: '{key}' }}, {{ key_file: '{key_file}' }}], upstreams: [{names}],\n\
         \x20     grafana_hmac: {{ secret: '{hmac}' }},\n\
         \x20     alert_sources: [{{ id: first, secret: '{secret}' }}, {{ id: second, secret_file: '{secret_file}' }}] }}\n\
         \x20 - {{ name: two, keys: [{{ key_sha256: '{digest}' }}], upstreams: [webhook],\n\
         \x20     grafana_hmac: {{ secret_file: '{hmac_file}' }} }}\n"
    );
    let rest = format!(
        "redis: {{ url: 'redis://{USER}:{password}@127.0.0.1:{}/0', timeout: 100ms }}\n\
         listen: {{ admin: {{ token_file: '{token_file}' }} }}\nlog: {{ level: trace }}\n",
        redis.port()
    );
    let surgegate = Surgegate::start(&[&integrations, &upstreams, &authority.listen(""), &rest]);
    let (keys, sources) = ([key, filed, hashed], [secret, filed_secret]);
    Stand { garden, authority, redis, recorder, surgegate, keys, sources, hmac, token }
}

/// Events by every key, good and bad; what was answered.
fn send(stand: &Stand, client: &Client) -> Vec<u8> {
    let mut told = Vec::new();
    let mut say = |path: &str, field: &str, body: &str| {
        let mut connection = client.connect(stand.surgegate.ingest());
        let fields = ["Content-Type: application/json", field];
        connection.send(request("POST", path, &fields[..if field.is_empty() { 1 } else { 2 }], body)).unwrap();
        let answer = connection.answer().unwrap();
        told.extend(format!("{:?}{}\n", answer.headers, answer.text()).into_bytes());
        answer.status
    };
    for (number, key) in stand.keys.iter().enumerate() {
        let path = format!("/v2/incidents/api/{key}");
        assert_eq!(say(&path, "", &trigger(&format!("k-{number}"))), 202);
        assert_eq!(say(&path, "", "{"), 400);
        // Signed wrongly, with the secret itself where its proof should stand.
        let signature = format!("X-Grafana-Alerting-Signature: {}", stand.hmac);
        assert_eq!(say(&format!("/hooks/grafana/{key}"), &signature, "{}"), 401);
    }
    let alert = r#"{"title":"disk full","status":"firing","deduplication_key":"d-1"}"#;
    for (source, secret) in ["first", "second"].iter().zip(&stand.sources) {
        let path = format!("/v2/alert_events/http/{source}");
        assert_eq!(say(&path, &format!("Authorization: Bearer {secret}"), alert), 202);
        assert_eq!(say(&format!("{path}?token={secret}"), "", "{}"), 422);
        assert_eq!(say(&path, &format!("Authorization: Bearer {}", stand.token), alert), 401);
    }
    told
}

#[test]
fn each_key_that_holds_a_secret_is_planted_used_refused_and_shown_and_none_is_told() {
    let stand = start();
    let Stand { garden, authority, redis, recorder, surgegate, .. } = &stand;
    let missing: Vec<_> = keys_that_may_hold_one().symmetric_difference(&garden.keys).cloned().collect();
    assert!(missing.is_empty(), "plant these here, or say that they are harmless: {missing:?}");

    let private = std::fs::read_to_string(authority.path("tls.key")).unwrap();
    let private: Vec<&str> = private.lines().filter(|line| !line.starts_with("---") && line.len() >= 32).collect();
    assert!(!private.is_empty());
    let assert_none_in = |place: &str, bytes: &[u8]| {
        garden.planted.assert_none_in(place, bytes);
        let text = String::from_utf8_lossy(bytes);
        assert!(!private.iter().any(|line| text.contains(line)), "the private key is in {place}");
    };

    let answers = send(&stand, &authority.client());
    // Redis does not know the password any longer.
    redis.ask(&["ACL", "SETUSER", USER, "resetpass", ">other"]);
    redis.ask(&["CLIENT", "KILL", "USER", USER]);
    wait_until("Redis to refuse", || surgegate.scrape().count("redis_up", &[]) == 0);
    wait_until("dead letters of most kinds", || surgegate.scrape().count("dead_letters", &[]) >= 8);
    let kinds: HashSet<String> = recorder.requests().iter().map(|request| request.path.clone()).collect();
    assert!(kinds.len() >= 9, "not every upstream was called: {kinds:?}");
    assert!(garden.planted.found_in(format!("{kinds:?}").as_bytes()).len() >= 9, "the search is blind");

    let bearer = format!("Authorization: Bearer {}", stand.token);
    let admin = surgegate.admin_address();
    for (method, path) in [("POST", "/api/v1/reload"), ("POST", "/api/v1/dead-letters/replay?dry_run=true&all=true")] {
        let answer = crate::harness::ask(admin, method, path, &[&bearer]).unwrap();
        assert!(answer.status < 500 && answer.status != 401, "{path}: {answer:?}");
        assert_none_in(path, &answer.body);
        let refused = crate::harness::ask(admin, method, path, &["Authorization: Bearer wrong"]).unwrap();
        assert_eq!(refused.status, 401);
    }
    for path in ["/", "/api/v1/status", "/api/v1/dead-letters", "/api/v1/dead-letters/groups"] {
        assert_none_in(path, &surgegate.admin(path).body);
    }
    let letters = surgegate.admin("/api/v1/dead-letters").json();
    for letter in letters.as_array().unwrap() {
        for (of, member) in [("dead-letters", "id"), ("events", "event_uid")] {
            let path = format!("/api/v1/{of}/{}", letter[member].as_str().unwrap());
            assert_none_in(&path, &surgegate.admin(&path).body);
        }
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        assert_none_in(path, &surgegate.observe(path).unwrap().body);
    }
    shown(&stand, &assert_none_in);
    assert_none_in("the answers", &answers);
    for path in files(&surgegate.spool()) {
        assert_none_in(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
    assert!(surgegate.said().contains("\"TRACE\""), "nothing logged at trace");
    assert_none_in("the log", surgegate.said().as_bytes());
}

/// Right, and then wrong.
#[test]
fn the_sentinels_password_is_told_nowhere() {
    let mut planted = Planted { random: Rng::with_seed(seed()), all: HashSet::new() };
    let (password, wrong) = (planted.plant(), planted.plant());
    let recorder = Recorder::start();
    let sentinels = Sentinels::start_with(&password);
    for (word, up) in [(&password, 1), (&wrong, 0)] {
        let redis = format!(
            "redis: {{ url: '{}', sentinel_password: '{word}', replica_id: 7 }}\nlog: {{ level: trace }}\n",
            sentinels.url()
        );
        let surgegate = Surgegate::start(&[&standard(&recorder), &redis]);
        wait_until("an answer of the Sentinels", || {
            surgegate.scrape().count("redis_up", &[]) == up && (up == 1 || surgegate.said().contains("Redis is away"))
        });
        planted.assert_none_in("the status", &surgegate.admin("/api/v1/status").body);
        planted.assert_none_in("the page", &surgegate.admin("/").body);
        planted.assert_none_in("/readyz", &surgegate.observe("/readyz").unwrap().body);
        let files = surgegate.files().iter().map(|file| file.display().to_string());
        let shown = files.flat_map(|file| ["--config".to_owned(), file]);
        let words: Vec<String> = ["config", "show", "--origin"].map(str::to_owned).into_iter().chain(shown).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let shown = run(binary(&surgegate.spool(), &words), "");
        assert!(shown.out.contains("sentinel_password"), "{}", shown.out);
        planted.assert_none_in("config show", (shown.out + &shown.err).as_bytes());
        planted.assert_none_in("the log", surgegate.said().as_bytes());
    }
}

/// What each command shows of such a configuration.
fn shown(stand: &Stand, assert_none_in: &dyn Fn(&str, &[u8])) {
    let surgegate = &stand.surgegate;
    let configured: Vec<String> =
        surgegate.files().iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]).collect();
    let admin = format!("http://{}", surgegate.admin_address());
    let spool = surgegate.spool().display().to_string();
    let folder = stand.garden.folder.path();
    let at_admin = ["--admin", &admin];
    for (verb, takes_configuration) in [
        (vec!["config", "show"], true),
        (vec!["config", "show", "--origin"], true),
        (vec!["validate"], true),
        (vec!["validate", "--format", "json"], true),
        // Wrong in one place: what stands around it is shown.
        (vec!["validate", "--no-environment", "--set", "log.level=loud"], true),
        (vec!["validate", "--no-environment", "--set", "upstreams=[]"], true),
        (vec!["spool", "ls", "--directory", &spool, "--events"], false),
        (vec!["spool", "check", "--directory", &spool], false),
        ([&["dead-letters", "ls", "--json"][..], &at_admin].concat(), false),
        ([&["dead-letters", "groups"][..], &at_admin].concat(), false),
    ] {
        let configured = if takes_configuration { configured.iter().map(String::as_str).collect() } else { Vec::new() };
        let ended = run(binary(folder, &[verb.as_slice(), &configured].concat()), "");
        let said = ended.out + &ended.err;
        assert!(!said.is_empty(), "{verb:?} said nothing");
        assert_none_in(&format!("{verb:?}"), said.as_bytes());
    }
}
