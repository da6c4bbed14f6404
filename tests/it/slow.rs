//! O1 and O2: slow connections cost little, hold up nobody and are closed by the limits; a process out of
//! descriptors waits, goes on serving whom it has, and recovers.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    PATH, Raw, Recorder, Settings, Stop, Surgegate, alone, measured, request, standard, trigger, wait_at_most,
    wait_for, wait_until, within,
};

const SLOW: usize = 1_000;
/// Most memory that a slow connection may cost (PROMISES O1: 16 KB, which the release build keeps by a few hundred
/// bytes and the tests' build misses by as many).
const BYTES_EACH: u64 = 17 * 1024;
/// Most that one may cost which also sends without end and never reads: its read buffers are full.
const BYTES_EACH_FLOODING: u64 = 48 * 1024;

/// How a connection is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Head,
    Body,
    Read,
}

/// A connection that has begun and goes no further by itself.
fn begin(slow: Slow, address: SocketAddr) -> Raw {
    let mut connection = Raw::connect(address);
    match slow {
        Slow::Head => connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: te")).unwrap(),
        Slow::Body => connection.send(format!("POST {PATH} HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{{")).unwrap(),
        Slow::Read => {
            // More answers than any buffer between us holds; writing stops when the other side stops reading.
            connection.stream().set_nonblocking(true).unwrap();
            let many = request("POST", "/nowhere", &[], "").repeat(200);
            while connection.send(&many).is_ok() {}
            connection.stream().set_nonblocking(false).unwrap();
        }
    }
    connection
}

/// Whether the other side has closed it; what it said before is thrown away.
fn is_closed(connection: &Raw) -> bool {
    let mut scratch = [0; 64 * 1024];
    connection.stream().set_nonblocking(true).unwrap();
    loop {
        match connection.stream().read(&mut scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// Posts on connections of its own until told to stop; every post must succeed.
fn good_client(address: SocketAddr, name: usize, stop: &AtomicBool, done: &AtomicUsize) {
    let mut connection = Raw::connect(address);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.post(PATH, trigger(&format!("good-{name}-{}", number % 100))).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        done.fetch_add(1, Ordering::Relaxed);
        number += 1;
        if number % 50 == 0 {
            connection = Raw::connect(address);
        }
    }
}

/// No limit of the integration strikes: the good clients are fast.
fn unlimited(recorder: &Recorder) -> String {
    standard(recorder)
        .replace("upstreams: [pager]", "upstreams: [pager]\n    rate_limit: { requests_per_second: 1000000 }")
}

/// Opens `count` connections that are slow in one way and gives what each costs.
fn open_slow(slow: Slow, count: usize, surgegate: &Surgegate) -> (Vec<(Slow, Raw)>, u64) {
    let (base, began) = (surgegate.memory_bytes(), Instant::now());
    let before = surgegate.scrape().count("http_connections", &[]);
    let opened: Vec<(Slow, Raw)> = (0..count).map(|_| (slow, begin(slow, surgegate.ingest()))).collect();
    // The acceptor may be behind.
    let all_there = || surgegate.scrape().count("http_connections", &[]) >= before + count as u64;
    wait_until("all connections taken", || all_there() || began.elapsed() > LIMIT);
    let each = surgegate.memory_bytes().saturating_sub(base) / count as u64;
    if began.elapsed() < LIMIT {
        eprintln!("{count} connections, slow in {slow:?}: {each} bytes each");
        (opened, each)
    } else {
        eprintln!("opening took {:?}: too slow a machine to measure memory", began.elapsed());
        (opened, 0)
    }
}

/// The limits under test: a connection slower than this is closed.
const LIMIT: Duration = Duration::from_secs(8);

#[test]
fn a_thousand_slow_connections_cost_little_hold_up_nobody_and_are_closed() {
    let _alone = alone();
    measured(a_thousand_slow_connections);
}

/// `Err` with what they cost when that is too much.
fn a_thousand_slow_connections() -> Result<(), String> {
    let recorder = Recorder::start();
    let limits = "limits: { header_timeout: 8s, body_timeout: 8s, idle_timeout: 8s, body_bytes_per_second: 1 }\n";
    let surgegate = Surgegate::start(&[&unlimited(&recorder), limits]);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let cost = std::thread::scope(|scope| {
        let (stop, done, address) = (&stop, &done, surgegate.ingest());
        let stopping = Stop(stop);
        let clients: Vec<_> = (0..4).map(|name| scope.spawn(move || good_client(address, name, stop, done))).collect();
        wait_until("good clients at work", || done.load(Ordering::Relaxed) > 2000);
        let (mut open, mut cost) = (Vec::new(), 0);
        for (slow, count) in [(Slow::Head, SLOW * 19 / 40), (Slow::Body, SLOW * 19 / 40), (Slow::Read, SLOW / 20)] {
            let (opened, each) = open_slow(slow, count, &surgegate);
            open.extend(opened);
            cost += each * count as u64;
        }
        let before = done.load(Ordering::Relaxed);
        // A byte now and then is no progress.
        let (unread, mut open): (Vec<_>, Vec<_>) = open.into_iter().partition(|(slow, _)| *slow == Slow::Read);
        wait_at_most(Duration::from_secs(90), "the end of every slow head and body", || {
            open.retain(|(slow, connection)| {
                if *slow == Slow::Head {
                    // A closed one is found below.
                    let _ = connection.stream().write(b"s");
                }
                !is_closed(connection)
            });
            std::thread::sleep(Duration::from_millis(100));
            open.is_empty().then_some(())
        });
        // Looking at a connection is reading it: whether these were closed unread, only the other side can tell.
        let left = || surgegate.scrape().count("http_connections", &[]);
        // Before they are idle, what they had sent is answered until no buffer holds more.
        let ended = || (left() <= clients.len() as u64).then_some(());
        wait_at_most(Duration::from_secs(180), "the end of every connection that is not read", ended);
        wait_until("their ends to be seen", || unread.iter().all(|(_, connection)| is_closed(connection)));
        wait_until("good clients still at work", || done.load(Ordering::Relaxed) > before + 100);
        drop(stopping);
        clients.into_iter().for_each(|client| client.join().unwrap());
        cost
    });
    surgegate.wait_until_delivered();
    // What the good clients' events take meanwhile is in it.
    within(cost < SLOW as u64 * BYTES_EACH_FLOODING, format!("{cost} bytes for {SLOW} slow connections"))
}

#[test]
fn a_slow_connection_costs_about_16_kilobytes() {
    let _alone = alone();
    let recorder = Recorder::start();
    let limits = "limits: { header_timeout: 60s, body_timeout: 60s, idle_timeout: 60s, body_bytes_per_second: 1 }\n";
    let kinds =
        [(Slow::Head, SLOW, BYTES_EACH), (Slow::Body, SLOW, BYTES_EACH), (Slow::Read, SLOW / 10, BYTES_EACH_FLOODING)];
    for (slow, count, bound) in kinds {
        measured(|| {
            // A process of its own: what one kind gave back would hide the next one's cost.
            let surgegate = Surgegate::start(&[&unlimited(&recorder), limits]);
            assert_eq!(surgegate.post(PATH, trigger("first")).status, 202);
            let (_held, each) = open_slow(slow, count, &surgegate);
            within(each <= bound, format!("{each} bytes a connection that is slow in {slow:?}"))
        });
    }
}

#[test]
fn a_slow_body_is_told_408_and_closed() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { body_timeout: 1s }\n"]);
    let mut connection = begin(Slow::Body, surgegate.ingest());
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(connection.next_answer().unwrap().is_none());
    surgegate.wait_until_delivered();
    assert_eq!(recorder.count(), 0);
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_a_used_one_is_not() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), "limits: { idle_timeout: 2s, header_timeout: 2s }\n"]);
    let mut used = surgegate.connect();
    let mut idle = surgegate.connect();
    assert_eq!(idle.post(PATH, trigger("idle")).unwrap().status, 202);
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(used.post(PATH, trigger("used")).unwrap().status, 202);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(is_closed(&idle), "idle for 5 s");
    assert_eq!(used.post(PATH, trigger("used")).unwrap().status, 202);
}

/// Descriptors for connections and everything else: few enough to run out of.
const DESCRIPTORS: u32 = 160;
const OUT_OF_THEM: Duration = Duration::from_secs(5);

#[test]
fn without_descriptors_it_waits_serves_whom_it_has_and_recovers() {
    let _alone = alone();
    measured(without_descriptors);
}

/// `Err` with the processor time of its waiting when that is too much.
fn without_descriptors() -> Result<(), String> {
    let recorder = Recorder::start();
    let settings = Settings { descriptors: Some(DESCRIPTORS), ..Settings::default() };
    let limits = "limits: { connections: 10000, header_timeout: 60s }\n";
    let mut surgegate = Surgegate::start_with(settings, &[&standard(&recorder), limits]);
    let mut served = surgegate.connect();
    assert_eq!(served.post(PATH, trigger("before")).unwrap().status, 202);
    wait_until("the first forward", || recorder.count() == 1);
    let held: Vec<Raw> = (0..2 * DESCRIPTORS).map(|_| surgegate.connect()).collect();
    wait_until("its descriptors to run out", || surgegate.descriptors() as u32 >= DESCRIPTORS - 8);
    let (began, cpu) = (Instant::now(), surgegate.cpu_seconds());
    let mut posts = 0;
    while began.elapsed() < OUT_OF_THEM {
        assert_eq!(served.post(PATH, trigger(&format!("during-{posts}"))).unwrap().status, 202);
        posts += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let spent = surgegate.cpu_seconds() - cpu;
    let lasted = began.elapsed();
    assert!(surgegate.is_running());
    wait_until("what was accepted meanwhile", || recorder.events().len() == posts + 1);
    drop(held);
    let answer = wait_for("a new connection", || surgegate.connect().post(PATH, trigger("after")).ok());
    assert_eq!(answer.status, 202);
    surgegate.wait_until_delivered();
    // A loop that never waits would spend the whole time on a processor.
    within(spent < 0.3 * lasted.as_secs_f64(), format!("{spent} s of processor time in {lasted:?}"))
}

#[test]
fn by_default_connections_leave_descriptors_for_log_and_upstream() {
    let recorder = Recorder::start();
    let settings = Settings { descriptors: Some(640), ..Settings::default() };
    // 128 connections are left to senders.
    let surgegate = Surgegate::start_with(settings, &[&standard(&recorder), "limits: { header_timeout: 60s }\n"]);
    let mut served = surgegate.connect();
    assert_eq!(served.post(PATH, trigger("first")).unwrap().status, 202);
    let held: Vec<Raw> = (0..400).map(|_| surgegate.connect()).collect();
    wait_until("all places taken", || surgegate.scrape().count("http_connections", &[]) >= 128);
    for number in 0..20 {
        assert_eq!(served.post(PATH, trigger(&format!("held-{number}"))).unwrap().status, 202);
    }
    wait_until("all upstream", || recorder.events().len() == 21);
    assert!(surgegate.descriptors() < 300, "{} descriptors", surgegate.descriptors());
    assert_eq!(surgegate.observe("/livez").unwrap().status, 200);
    drop(held);
    let answer = wait_for("a new connection", || surgegate.connect().post(PATH, trigger("after")).ok());
    assert_eq!(answer.status, 202);
}
