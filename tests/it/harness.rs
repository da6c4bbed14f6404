//! What every test needs: the binary as a child process, an upstream that records, clients that speak any
//! bytes, and the books.

mod binary;
mod books;
mod clients;
mod clock;
mod http1;
mod http2;
mod named;
mod recorder;
pub mod redis;
mod said;
mod signals;
mod stand;
mod surgegate;
pub mod tls;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use binary::{Ended, TlsServer, binary, run};
pub use books::{Auditor, SCRAPE_EVERY, Scrape};
pub use clients::{run_client, run_node_client, tools};
pub use clock::clock_set;
pub use http1::{Answer, Raw, request};
pub use http2::Client as Http2;
pub use named::Named;
pub use recorder::{Recorded, Recorder, Reply};
pub use said::{Said, ended, verb};
pub use signals::{ask, say, signal, try_scrape};
pub use stand::Stand;
pub use surgegate::{Settings, Surgegate};

/// The one key of [`standard`].
pub const KEY: &str = "5ca1ab1e0123456789abcdef0123456789abcdef";
/// Where events of [`standard`] go in.
pub const PATH: &str = "/v2/incidents/api/5ca1ab1e0123456789abcdef0123456789abcdef";

/// Longest wait for anything that is bound to happen; a busy machine must not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One integration with one webhook upstream.
pub fn standard(recorder: &Recorder) -> String {
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [pager]\n\
         upstreams:\n  - name: pager\n    kind: webhook\n    url: {}\n",
        recorder.url()
    )
}

/// A trigger of this key.
pub fn trigger(key: &str) -> String {
    format!(r#"{{"message":"disk full","description":"volume /data","event_id":"{key}"}}"#)
}

/// A resolve of this key.
pub fn resolve(key: &str) -> String {
    format!(r#"{{"status":"resolve","event_id":"{key}"}}"#)
}

/// Dropped, also by a failure: the clients that look at it stop.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls until `check` gives something.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, check)
}

pub fn wait_at_most<T>(patience: Duration, what: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_patiently(what, |_| patience, check)
}

/// As [`wait_at_most`], for a time that was promised: what the machine takes from this thread while it sleeps, it takes from
/// everybody, and ten times that is waited for longer; never longer than [`PATIENCE`].
pub fn wait_while_it_runs<T>(promised: Duration, what: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_patiently(what, |late| (promised + late * 10).min(PATIENCE), check)
}

/// `patience`: by how much longer than it meant to this thread has slept.
fn wait_patiently<T>(what: &str, patience: impl Fn(Duration) -> Duration, mut check: impl FnMut() -> Option<T>) -> T {
    const NAP: Duration = Duration::from_millis(10);
    let (began, mut late) = (Instant::now(), Duration::ZERO);
    loop {
        if let Some(found) = check() {
            return found;
        }
        let patience = patience(late);
        assert!(began.elapsed() < patience, "not within {patience:?}, {late:?} of which nobody ran: {what}");
        let asleep = Instant::now();
        std::thread::sleep(NAP);
        late += asleep.elapsed().saturating_sub(NAP * 2);
    }
}

/// Polls until `check` holds.
pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    wait_for(what, || check().then_some(()));
}

/// Held by a test that loads the machine or measures it: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a figure up to three times: one that the machine's other work has spoilt holds the next time, one that the
/// product breaks never does. An `Err` is a figure missed; what a measurement asserts by itself fails at once.
pub fn measured(mut measurement: impl FnMut() -> Result<(), String>) {
    let missed: Vec<String> =
        (0..3).map_while(|_| measurement().inspect_err(|told| eprintln!("missed: {told}")).err()).collect();
    assert!(missed.len() < 3, "missed each time: {missed:#?}");
}

/// A figure of [`measured`], told where it is missed.
pub fn within(holds: bool, told: String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(told) }
}

/// A seed of this run, told so that a failure can be run again: `TEST_SEED` sets it.
pub fn seed() -> u64 {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TEST_SEED={seed}");
    seed
}
