//! Replica ids: configured, the host's ordinal, or leased; never the same twice.

use super::{limited, shared};
use crate::harness::redis::{Redis, Value};
use crate::harness::{PATH, Recorder, Settings, Surgegate, binary, run, trigger, wait_until};

/// The id in the number of a new incident.
fn id_of(replica: &Surgegate, recorder: &Recorder, key: &str) -> u64 {
    let before = recorder.count();
    assert_eq!(replica.post(PATH, trigger(key)).status, 202);
    recorder.wait_for(before + 1).last().unwrap().json()["incident"]["number"].as_u64().unwrap() % 1024
}

fn on_host(name: &str, recorder: &Recorder, server: &Redis) -> Surgegate {
    let under = vec!["env".to_owned(), format!("HOSTNAME={name}")];
    let redis = format!("redis: {{ url: '{}', timeout: 500ms }}\n", server.url());
    Surgegate::start_with(Settings { under, ..Settings::default() }, &[&limited(recorder, "auto"), &redis])
}

#[test]
fn ids_are_leased_and_kept_and_an_ordinal_is_one() {
    let recorder = Recorder::start();
    let mut server = Redis::start();
    let mut replicas: Vec<Surgegate> = (0..3).map(|_| on_host("plain", &recorder, &server)).collect();
    // Keys of their own: what one has taken is a duplicate at the others.
    let ids: Vec<u64> =
        replicas.iter().zip(["a0", "a1", "a2"]).map(|(each, key)| id_of(each, &recorder, key)).collect();
    assert_eq!(ids, [0, 1, 2]);
    // One that is gone for a while keeps its own.
    replicas[1].kill();
    let other = on_host("plain", &recorder, &server);
    assert_eq!(id_of(&other, &recorder, "b"), 3);
    let named = on_host("surgegate-7", &recorder, &server);
    assert_eq!(id_of(&named, &recorder, "c"), 7);
    // Those that have one start without Redis too.
    server.kill();
    replicas[1].start_again();
    assert_eq!(id_of(&replicas[1], &recorder, "d"), 1);
    let named = on_host("surgegate-8", &recorder, &server);
    assert_eq!(id_of(&named, &recorder, "e"), 8);
}

#[test]
fn an_id_belongs_to_one_living_replica_and_to_its_spool() {
    let recorder = Recorder::start();
    let server = Redis::start();
    let mut first = Surgegate::start(&[&limited(&recorder, "auto"), &shared(&server, 5)]);
    assert_eq!(id_of(&first, &recorder, "a"), 5);

    // The same id elsewhere: told with what to do, and no start.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("second.yaml");
    let listen = "listen: { ingest: { address: '127.0.0.1:0' }, observe: { address: '127.0.0.1:0' }, admin: { address: '127.0.0.1:0' } }\n";
    let spool = format!("spool: {{ directory: '{}' }}\n", directory.path().join("spool").display());
    std::fs::write(&file, limited(&recorder, "auto") + &shared(&server, 5) + listen + &spool).unwrap();
    let ended = run(binary(directory.path(), &["run", "--config", "second.yaml"]), "");
    assert!(ended.err.contains("another living replica has 5"), "{}", ended.err);
    assert_eq!(ended.code, Some(78), "{}", ended.err);

    // Its own restart has it at once, killed or not.
    first.kill();
    first.start_again();
    assert_eq!(id_of(&first, &recorder, "b"), 5);

    // Gone, it is free after its time.
    first.kill();
    let ids: Value = server.ask(&["HKEYS", "surgegate:replicas"]);
    assert_eq!(redis::from_redis_value::<Vec<String>>(ids).unwrap(), ["5"]);
    let second = Surgegate::start(&[&limited(&recorder, "auto"), &shared(&server, 5)]);
    assert_eq!(second.post(PATH, trigger("c")).status, 202);
}

/// Two that were given the same id while Redis was away: both serve, and the one that is second says so.
#[test]
fn a_configured_id_that_another_one_has_is_shown() {
    let recorder = Recorder::start();
    let mut server = Redis::start();
    let first = Surgegate::start(&[&limited(&recorder, "auto"), &shared(&server, 5)]);
    server.kill();
    let second = Surgegate::start(&[&limited(&recorder, "auto"), &shared(&server, 5)]);
    server.start_again();
    let says_so = |replica: &Surgegate| {
        replica
            .observe("/readyz")
            .is_ok_and(|ready| ready.status == 200 && ready.text().contains("\"replica_id_taken\":true"))
    };
    wait_until("one of them to say so", || says_so(&first) || says_so(&second));
    let (mut holder, told) = if says_so(&first) { (second, first) } else { (first, second) };
    assert!(!says_so(&holder));
    let status = told.admin("/api/v1/status").json();
    assert_eq!((&status["redis"]["replica_id"], &status["redis"]["replica_id_taken"]), (&5.into(), &true.into()));
    // The other one gone, it has its id for itself.
    holder.kill();
    wait_until("it to have its id", || !says_so(&told));
}
