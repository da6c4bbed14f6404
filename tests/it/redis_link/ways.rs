//! The twelve ways in which Redis goes (R3), at the link: no call waits longer than its bound, the circuit says so, and
//! all is well soon after its return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use surgegate::redis::{Down, Invalid, Link};

use super::{TIMEOUT, count, link};
use crate::harness::redis::{Redis, Relay, Sentinels};
use crate::harness::wait_until;

/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(3);
/// Beyond its bound a call may wait for a machine that is busy; one that hangs would wait for ever.
const BUSY: Duration = Duration::from_secs(3);

/// Calls all the time, from another thread.
struct Caller {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<Duration>>,
}

impl Caller {
    fn start(link: &Arc<Link>) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (link, until, done) = (Arc::clone(link), Arc::clone(&over), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !until.load(Ordering::SeqCst) {
                let began = Instant::now();
                let _ = count(&link, "called");
                longest = longest.max(began.elapsed());
                done.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        Self { over, answered, thread: Some(thread) }
    }

    fn end(mut self) {
        self.over.store(true, Ordering::SeqCst);
        let longest = self.thread.take().unwrap().join().unwrap();
        assert!(longest < TIMEOUT + BUSY, "a call waited {longest:?}");
        assert!(self.answered.load(Ordering::SeqCst) > 10, "hardly a call was answered");
    }
}

/// Redis goes and comes back while calls are made. With it away calls fail at once.
fn lose(link: &Arc<Link>, go: impl FnOnce(), come: impl FnOnce()) {
    let all = Arc::<AtomicBool>::default();
    let told = Arc::clone(&all);
    link.watch(move |invalid| {
        if invalid == Invalid::All {
            told.store(true, Ordering::SeqCst);
        }
    });
    assert!(count(link, "before").is_ok());
    let outages = link.outages();
    let caller = Caller::start(link);
    go();
    wait_until("an open circuit", || !link.is_up());
    assert!(link.outages() > outages && all.load(Ordering::SeqCst), "what was read may have changed");
    assert!(matches!(count(link, "away"), Err(Down::Away)), "a call that waits for an open circuit");
    std::thread::sleep(AWAY);
    assert!(!link.is_up());
    come();
    wait_until("its return", || link.is_up() && count(link, "after").is_ok());
    caller.end();
}

#[test]
fn killed() {
    let mut server = Redis::start();
    let (link, _) = link(&server.url());
    let pid = server.pid();
    lose(
        &link,
        || crate::harness::signal("KILL", pid),
        || {
            server.kill();
            server.start_again();
        },
    );
}

#[test]
fn stopped() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    lose(&link, || server.freeze(), || server.thaw());
}

#[test]
fn paused() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    lose(&link, || server.pause_ms(10_000), || drop(server.try_ask(&["CLIENT", "UNPAUSE"])));
}

#[test]
fn refused() {
    let server = Redis::start();
    let relay = Relay::start(server.port());
    let (link, _) = link(&relay.url());
    lose(&link, || relay.refuse(true), || relay.refuse(false));
}

#[test]
fn silent() {
    let server = Redis::start();
    let relay = Relay::start(server.port());
    let (link, _) = link(&relay.url());
    lose(&link, || relay.silence(true), || relay.silence(false));
}

#[test]
fn slow() {
    let server = Redis::start();
    let relay = Relay::start(server.port());
    let (link, _) = link(&relay.url());
    lose(&link, || relay.delay(TIMEOUT * 3 / 2), || relay.delay(Duration::ZERO));
}

#[test]
fn loading() {
    let server = std::cell::RefCell::new(Redis::start());
    let (link, _) = link(&server.borrow().url());
    let took = AWAY * 3;
    lose(
        &link,
        || server.borrow_mut().restart_loading_ms(took.as_millis() as u32),
        || {
            let info = server.borrow().try_ask(&["INFO", "persistence"]).unwrap();
            let info: String = redis::from_redis_value(info).unwrap();
            assert!(info.contains("loading:1"), "it has loaded too soon to show anything");
        },
    );
}

#[test]
fn read_only() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    lose(&link, || server.read_only(true), || server.read_only(false));
}

#[test]
fn out_of_memory() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    lose(&link, || server.fill(true), || server.fill(false));
}

#[test]
fn flushed() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    let told = Arc::<AtomicBool>::default();
    let tell = Arc::clone(&told);
    link.watch(move |invalid| tell.store(invalid == Invalid::All, Ordering::SeqCst));
    assert_eq!((count(&link, "a"), count(&link, "a")), (Ok(1), Ok(2)));
    server.ask(&["FLUSHALL"]);
    wait_until("word that all may have changed", || told.load(Ordering::SeqCst));
    assert_eq!(count(&link, "a"), Ok(1));
    assert_eq!(link.outages(), 0);
}

#[test]
fn wrong_types() {
    let server = Redis::start();
    let (link, _) = link(&server.url());
    assert!(count(&link, "a").is_ok());
    server.spoil("surgegate:");
    let Err(Down::Refused(code)) = count(&link, "a") else { panic!("it counts a place") };
    assert!(code.contains("WRONGTYPE"), "{code}");
    assert_eq!(count(&link, "b"), Ok(1));
    assert!(link.is_up(), "one wrong key is no outage");
}

/// The new master does not have the last writes of the old one.
#[test]
fn failed_over() {
    let mut sentinels = Sentinels::start();
    let (link, _) = link(&sentinels.url());
    let caller = Caller::start(&link);
    wait_until("calls", || caller.answered.load(Ordering::SeqCst) > 10);
    let outages = link.outages();
    sentinels.fail_over();
    wait_until("word of another master", || link.outages() > outages);
    wait_until("its return", || link.is_up() && count(&link, "after").is_ok());
    // And once more, this time because it is gone.
    let outages = link.outages();
    let gone = sentinels.master().port();
    sentinels.servers.iter_mut().find(|server| server.port() == gone).unwrap().kill();
    wait_until("its loss", || link.outages() > outages);
    wait_until("another master", || link.is_up() && count(&link, "after").is_ok());
    caller.end();
}
