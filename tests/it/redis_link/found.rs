//! One server, TLS, a user with few rights, a Cluster, a master by its Sentinels.

use std::process::Command;

use super::{count, is_up, link, with};
use crate::harness::redis::{Cluster, Redis, Sentinels};
use crate::harness::tls::Authority;
use crate::harness::{PATH, Recorder, Surgegate, binary, run, standard, trigger, wait_until};

/// What docs/operations/redis.md says a user needs.
const RIGHTS: &str = "docs/operations/redis.md";

#[test]
fn a_single_server_a_cluster_and_a_master_by_its_sentinels_are_found() {
    let recorder = Recorder::start();
    let (single, cluster, sentinels) = (Redis::start(), Cluster::start(), Sentinels::start());
    for url in [single.url(), cluster.urls(), sentinels.url()] {
        let surgegate = Surgegate::start(&[&standard(&recorder), &with(&url, "  replica_id: 7\n")]);
        wait_until("Redis", || is_up(&surgegate));
        assert_eq!(surgegate.post(PATH, trigger("a")).status, 202);
        let status = surgegate.admin("/api/v1/status").json();
        assert_eq!((&status["redis"]["up"], &status["redis"]["scope"]), (&true.into(), &"shared".into()));
        promtool(&surgegate);
    }
}

/// The Sentinels' password is theirs alone: the servers have none here.
#[test]
fn sentinels_are_asked_under_a_password_of_their_own() {
    let recorder = Recorder::start();
    let sentinels = Sentinels::start_with("s3ntinel-word");
    let further = |line: &str| with(&sentinels.url(), &format!("  replica_id: 7\n{line}"));
    let surgegate = Surgegate::start(&[&standard(&recorder), &further("  sentinel_password: s3ntinel-word\n")]);
    wait_until("Redis", || is_up(&surgegate));
    assert_eq!(surgegate.post(PATH, trigger("a")).status, 202);
    let refused = Surgegate::start(&[&standard(&recorder), &further("  sentinel_password: wr0ng-word\n")]);
    assert!(refused.is_said("Redis is away") && !is_up(&refused), "{}", refused.said());
    for replica in [&surgegate, &refused] {
        let shown = replica.said() + &replica.admin("/api/v1/status").text();
        assert!(!shown.contains("s3ntinel-word") && !shown.contains("wr0ng-word"), "{shown}");
    }
}

#[test]
fn sentinels_are_asked_as_a_user_of_their_own() {
    let recorder = Recorder::start();
    let sentinels = Sentinels::start_with("s3ntinel-word");
    let by = |user: &str, password: &str| {
        let more = format!("  replica_id: 7\n{user}  sentinel_password: {password}\n");
        Surgegate::start(&[&standard(&recorder), &with(&sentinels.url(), &more)])
    };
    let surgegate = by("  sentinel_user: asker\n", "s3ntinel-word-of-asker");
    wait_until("Redis", || is_up(&surgegate));
    assert_eq!(surgegate.post(PATH, trigger("a")).status, 202);
    // The password of one is not the other's.
    for (user, password) in [("  sentinel_user: asker\n", "s3ntinel-word"), ("", "s3ntinel-word-of-asker")] {
        let refused = by(user, password);
        assert!(refused.is_said("Redis is away") && !is_up(&refused), "{}", refused.said());
        // Health does not depend on it, and events are taken.
        for path in ["/livez", "/readyz"] {
            assert_eq!(refused.observe(path).unwrap().status, 200, "{path}");
        }
        assert_eq!(refused.post(PATH, trigger("a")).status, 202);
    }
}

fn promtool(surgegate: &Surgegate) {
    let page = surgegate.observe("/metrics").unwrap().text();
    let mut check =
        Command::new("promtool").args(["check", "metrics"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), page.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success());
}

/// The rights of the document, in which they stand in a line that begins with `ACL SETUSER`.
fn rights() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/redis.md")).unwrap();
    let from = text.find("ACL SETUSER").unwrap_or_else(|| panic!("{RIGHTS} names no user"));
    let block = text[from..].split("```").next().unwrap();
    block.split_whitespace().filter(|word| *word != "\\").map(str::to_owned).collect()
}

#[test]
fn a_user_with_the_documented_rights_over_tls_is_enough_and_no_other_may_in() {
    let authority = Authority::new();
    let mut server = Redis::start_tls(&authority);
    let rights = rights();
    server.ask(&rights.iter().map(String::as_str).collect::<Vec<_>>());
    server.ask(&["ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all"]);
    server.log_in_as("admin:admin@");
    server.ask(&["ACL", "SETUSER", "default", "off"]);
    let (user, password) = (&rights[2], rights.iter().find_map(|word| word.strip_prefix('>')).unwrap());
    let recorder = Recorder::start();
    let limit = standard(&recorder)
        .replace("    upstreams: [pager]\n", "    upstreams: [pager]\n    rate_limit: { events_per_second: 1000 }\n");
    let url = format!("rediss://{user}:{password}@localhost:{}", server.tls_port());
    let ca = format!("  ca_file: '{}'\n", authority.path("ca.crt").display());
    let surgegate = Surgegate::start(&[&limit, &with(&url, &ca)]);
    wait_until("Redis", || is_up(&surgegate));
    assert_eq!(surgegate.post(PATH, trigger("a")).status, 202);
    wait_until("the limit's own key", || !server.keys("surgegate:limit:").is_empty());
    wait_until("some beats", || surgegate.scrape().sum("redis_operations_total", &[("result", "ok")]) > 4.0);
    assert_eq!(surgegate.scrape().sum("redis_operations_total", &[("result", "refused")]), 0.0);
    assert!(!surgegate.said().contains(password), "a password in the log");
    let log: Vec<redis::Value> = redis::from_redis_value(server.ask(&["ACL", "LOG"])).unwrap();
    assert!(log.is_empty(), "refused by the ACL: {log:?}");
    // Nobody who has another authority, or another password, is let in; the reason is told.
    for (url, ca, why) in [(url.clone(), "", "nknown"), (url.replace(password, "wrong"), ca.as_str(), "WRONGPASS")] {
        let surgegate = Surgegate::start(&[&limit, &with(&url, &format!("{ca}  replica_id: 9\n"))]);
        assert!(surgegate.is_said(why), "{why}");
        assert!(!is_up(&surgegate));
        assert_eq!(surgegate.post(PATH, trigger("b")).status, 202);
    }
}

#[test]
fn validate_tells_a_redis_that_cannot_be_reached_as_a_warning() {
    let recorder = Recorder::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surgegate.yaml");
    let mut server = Redis::start();
    let checked = |url: &str| {
        let spool = format!("spool: {{ directory: '{}' }}\n", directory.path().display());
        std::fs::write(&path, standard(&recorder) + &spool + &with(url, "")).unwrap();
        let ended = run(binary(directory.path(), &["validate", "--strict", "--config", "surgegate.yaml"]), "");
        (ended.code, ended.out + &ended.err)
    };
    let url = server.url().replace("redis://", "redis://:hush@");
    let (_, said) = checked(&server.url());
    assert!(!said.contains("cannot be used"), "{said}");
    server.kill();
    let (code, said) = checked(&url);
    assert!(said.contains("cannot be used") && !said.contains("hush"), "{said}");
    assert_eq!(code, Some(75), "{said}");
}

#[test]
fn calls_find_their_server_of_a_cluster_and_follow_a_key_that_moves() {
    let cluster = Cluster::start();
    let (link, _) = link(&cluster.urls());
    for key in 0..60 {
        assert_eq!(count(&link, &format!("{{{key}}}")), Ok(1));
    }
    for node in &cluster.nodes {
        assert!(!node.keys("surgegate:").is_empty(), "a server without a key");
    }
    let key = "surgegate:{1}";
    let from = cluster.owner(key);
    cluster.move_slot(cluster.slot(key), from, (from + 1) % 3);
    // Sent on by MOVED, at the latest when the map was read again.
    assert_eq!(count(&link, "{1}"), Ok(2));
    wait_until("the new map", || count(&link, "{1}").is_ok());
    assert!(link.is_up());
}

#[test]
fn a_cluster_without_one_of_its_servers_serves_the_keys_of_the_others() {
    let mut cluster = Cluster::start();
    for node in &cluster.nodes {
        node.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let (link, _) = link(&cluster.urls());
    let keys: Vec<String> = (0..3)
        .map(|at| {
            (0..).map(|tag| format!("{{{tag}}}")).find(|tag| cluster.owner(&format!("surgegate:{tag}")) == at).unwrap()
        })
        .collect();
    cluster.nodes[1].kill();
    wait_until("its loss", || !link.is_up());
    assert!(count(&link, &keys[1]).is_err());
    for at in [0, 2] {
        wait_until("a key of another", || count(&link, &keys[at]).is_ok());
    }
    cluster.nodes[1].start_again();
    cluster.wait_until_whole();
    wait_until("its return", || count(&link, &keys[1]).is_ok() && link.is_up());
}
