//! Each fact has its sentence, and the worst comes first.

use super::super::operate::ReloadStatus;
use super::super::status::{Certificate, Integration, Losses, Redis, Spool};
use super::*;
use crate::event::Micros;
use crate::forward::UpstreamStatus;

fn now() -> UpstreamStatus {
    UpstreamStatus {
        name: "pager".to_owned(),
        configured: true,
        waiting_events: 0,
        requests_in_flight: 0,
        dead_letters: 0,
        held_for_s: None,
        down: false,
        circuit: "closed",
        down_for_s: None,
        answer_s: None,
        next_try_in_s: None,
        last_error: None,
        last_status: Some(200),
        oldest_event_age_s: None,
    }
}

fn down(error: &str) -> UpstreamStatus {
    UpstreamStatus {
        down: true,
        circuit: "open",
        down_for_s: Some(181.0),
        last_error: Some(error.to_owned()),
        last_status: Some(503),
        ..now()
    }
}

fn upstream(name: &str, spool_events: u64, now: UpstreamStatus) -> Upstream {
    Upstream { name: name.to_owned(), spool_events, now: Some(now), ..Upstream::default() }
}

fn fine() -> Status {
    let spool = Spool { max_bytes: 10 << 30, free_bytes: 9 << 30, ..Spool::default() };
    let integrations = vec![Integration { name: "payments".to_owned(), ..Integration::default() }];
    let upstreams = vec![upstream("pager", 0, now())];
    Status { ready: true, durability: "fsync", spool, integrations, upstreams, ..Status::default() }
}

fn worst(status: &Status) -> (Level, &'static str, String) {
    let facts = of(status);
    let first = facts.first().unwrap();
    (first.level, first.code, first.text.clone())
}

/// Makes it true.
type Make = fn(&mut Status);

/// Refuses, with its circuit closed.
fn fails() -> UpstreamStatus {
    let last_error = Some("answered 500 Internal Server Error".into());
    UpstreamStatus { last_status: Some(500), last_error, ..now() }
}

/// Every trouble there is, the worst first, each alone.
fn troubles() -> Vec<(&'static str, Make)> {
    vec![
        ("delivery_stopped", |s| s.upstreams.push(upstream("a", 48_211, down("answered 503 Service Unavailable")))),
        ("not_accepting", |s| (s.ready, s.not_ready) = (false, Some("spool_full"))),
        ("disk_filling", |s| s.spool.full_in_s = Some(3600.0 * 4.0)),
        ("circuit_open", |s| s.upstreams.push(upstream("b", 0, down("cannot connect")))),
        ("delivery_failing", |s| s.upstreams.push(upstream("h", 2, fails()))),
        ("delivery_held", |s| {
            s.upstreams.push(upstream(
                "c",
                3,
                UpstreamStatus { held_for_s: Some(42.0), last_status: Some(429), ..now() },
            ));
        }),
        ("dead_letters_growing", |s| {
            let grows = Upstream { dead_letters: 40, dead_lettered_lately: 12, ..upstream("d", 0, now()) };
            s.upstreams.push(grows);
        }),
        ("spool_old", |s| {
            s.upstreams.push(upstream("e", 3000, UpstreamStatus { oldest_event_age_s: Some(720.0), ..now() }));
        }),
        ("orphaned", |s| s.upstreams.push(upstream("f", 1, UpstreamStatus { configured: false, ..now() }))),
        ("spool_damaged", |s| s.losses = Losses { damaged_records: 2, ..Losses::default() }),
        ("reload_failed", |s| {
            s.configuration.status = ReloadStatus::Invalid;
            s.configuration.message = Some("a.yaml:3:5: unknown key \"x\"".to_owned());
        }),
        ("certificate_expiring", |s| {
            s.certificate = Some(Certificate { expires_at: Micros(0), expires_in_s: 20 * 86_400 });
        }),
        ("redis", |s| {
            let servers = "redis-1:6379".to_owned();
            s.redis = Some(Redis {
                servers,
                up: false,
                scope: "shared",
                outages: 1,
                limiter_fallback: true,
                replica_id: 3,
                replica_id_taken: false,
            });
        }),
        ("dead_letters", |s| {
            s.upstreams.push(Upstream { dead_letters: 7, ..upstream("g", 0, now()) });
        }),
        ("durability_memory", |s| s.durability = "memory"),
    ]
}

#[test]
fn the_worst_fact_comes_first_whatever_else_is_true() {
    let troubles = troubles();
    let known: Vec<&str> = codes().filter(|code| *code != "well").collect();
    assert_eq!(troubles.iter().map(|(code, _)| *code).collect::<Vec<_>>(), known, "each kind has its trouble here");
    // Everything at once, then without the worst, and so on: the order is the table's.
    for from in 0..troubles.len() {
        let mut status = fine();
        troubles[from..].iter().for_each(|(_, make)| make(&mut status));
        let told: Vec<&str> = of(&status).iter().map(|fact| fact.code).collect();
        let mut wanted: Vec<&str> = troubles[from..].iter().map(|(code, _)| *code).collect();
        if wanted.contains(&"dead_letters_growing") {
            // Told already.
            wanted.retain(|code| *code != "dead_letters");
        }
        if wanted == ["durability_memory"] {
            // A choice is no trouble.
            wanted.insert(0, "well");
        }
        assert_eq!(told, wanted);
    }
}

#[test]
fn each_trouble_is_told_in_a_sentence() {
    let sentences = [
        "DELIVERY STOPPED 3 min: a answers 503 Service Unavailable. 48,211 events safe on disk, space for 9.0 GiB more.",
        "NOT ACCEPTING: the spool is full. Senders get 503 and are asked to come back.",
        "DISK FILLING: 9.0 GiB are left, full in 4 h at this rate.",
        "CIRCUIT OPEN: b: cannot connect. Nothing waits for it just now.",
        "DELIVERY FAILS: h answers 500 Internal Server Error. 2 events are tried again.",
        "DELIVERY HELD 42 s more: c asked for it. 3 events safe on disk.",
        "DEAD LETTERS GROWING: 12 more in 5 min at d. 40 dead letters need a look.",
        "SPOOL OLD: the oldest of 3,000 events for e waits 12 min; not getting less.",
        "ORPHANED: 1 event waits for f, which is no longer configured; see surgegate spool reassign.",
        "DAMAGE: 2 damaged records set aside in quarantine; see surgegate spool check.",
        "RELOAD FAILED: what changed in the configuration is not in force: a.yaml:3:5: unknown key \"x\"",
        "CERTIFICATE EXPIRING: it is valid for 20 d more.",
        "REDIS AWAY: redis-1:6379. Events are taken as before; duplicates between replicas are not told. Limits are this replica's \
         own share.",
        "7 dead letters need a look.",
        "Durability is memory: a crash loses what was answered in the last moments.",
    ];
    for ((code, make), sentence) in troubles().into_iter().zip(sentences) {
        let mut status = fine();
        make(&mut status);
        let told = of(&status);
        assert!(told.iter().any(|fact| fact.code == code && fact.text == sentence), "{sentence}\n{told:#?}");
    }
    assert_eq!(worst(&fine()), (Level::Good, "well", "All is well: accepting and delivering.".to_owned()));
}

#[test]
fn the_space_is_told_in_time_where_the_rate_is_known_and_memory_is_no_disk() {
    let mut status = fine();
    status.upstreams.push(upstream("slow", 5, down("answered 500 Internal Server Error")));
    status.upstreams.push(upstream("pager", 48_211, down("answered 503 Service Unavailable")));
    status.spool.full_in_s = Some(9.0 * 3600.0);
    let (level, _, text) = worst(&status);
    assert_eq!(level, Level::Bad);
    assert!(
        text.contains("pager answers 503") && text.ends_with("48,211 events safe on disk, space for 9 h."),
        "{text}"
    );
    status.durability = "memory";
    assert!(!worst(&status).2.contains("safe on disk"));
}

#[test]
fn levels_follow_the_time_that_is_left() {
    let level = |make: &dyn Fn(&mut Status)| {
        let mut status = fine();
        make(&mut status);
        worst(&status).0
    };
    let left = |days: i64| Some(Certificate { expires_at: Micros(0), expires_in_s: days * 86_400 });
    assert_eq!(level(&|s| s.certificate = left(21)), Level::Good);
    assert_eq!(level(&|s| s.certificate = left(3)), Level::Warn);
    assert_eq!(level(&|s| s.certificate = left(2)), Level::Bad);
    assert_eq!(level(&|s| s.certificate = left(-1)), Level::Bad);
    assert_eq!(level(&|s| s.spool.full_in_s = Some(6.0 * 3600.0)), Level::Good);
    assert_eq!(level(&|s| s.spool.full_in_s = Some(3601.0)), Level::Warn);
    assert_eq!(level(&|s| s.spool.full_in_s = Some(3599.0)), Level::Bad);
    assert_eq!(level(&|s| s.spool.free_bytes = s.spool.max_bytes / 10 - 1), Level::Warn);
    assert_eq!(level(&|s| s.not_ready = Some("stopping")), Level::Warn);
}

#[test]
fn an_upstream_that_refuses_a_few_is_told_so_until_its_circuit_opens_and_no_circuit_is_named_before() {
    let told = |waiting, now| {
        let mut status = fine();
        status.upstreams = vec![upstream("pager", waiting, now)];
        worst(&status).1
    };
    assert_eq!(told(2, fails()), "delivery_failing");
    assert_eq!(told(0, fails()), "well", "all of it has gone meanwhile");
    assert_eq!(told(2, UpstreamStatus { last_status: Some(429), ..fails() }), "well");
    assert_eq!(told(2, UpstreamStatus { down: true, ..fails() }), "delivery_stopped");
    assert_eq!(told(0, UpstreamStatus { down: true, ..fails() }), "circuit_open");
}
