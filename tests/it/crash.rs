//! D1 and D7: SIGKILL at random moments under load. Nothing that was answered 2xx is lost, order holds in each key,
//! repeats are those a crash explains, and the books balance at every scrape. SIGKILL keeps the page cache: what it
//! shows is the order of writes and answers, not syncing.
//!
//! `SURGEGATE_TORTURE_KILLS` sets the number of kills, `TEST_SEED` makes a run's choices again.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::faults::{Arrival, Fault, Upstream};
use crate::fleet::{Fleet, ToldByKey, judge};
use crate::harness::{PATH, Surgegate, alone, request, seed, try_scrape, wait_until};

const CLIENTS: usize = 8;
/// Requests the upstream may have in flight.
const CONNECTIONS: usize = 8;
/// A spool is made anew after so many kills, so that a long run stays within its disk.
const KILLS_PER_SPOOL: usize = 50;
/// A settlement rides on a commit at latest after 50 ms; a busy machine's sync may hold that commit up: one of over
/// half a second was seen while others built on the same disk.
const SETTLED_AFTER: Duration = Duration::from_millis(2000);
/// Clients are silent for so long before some of the kills: longer than a settlement may take.
const QUIET: Duration = Duration::from_millis(2500);

/// A figure that a long run raises.
pub fn figure(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// One integration without limits, and an upstream with this many connections.
pub fn configuration(url: &str, upstream: &str) -> String {
    let key = crate::harness::KEY;
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{key}' }}]\n    upstreams: [pager]\n    \
         rate_limit: {{ requests_per_second: 1000000 }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{url}', {upstream} }}\n"
    )
}

/// What kills found.
#[derive(Debug, Default)]
struct Found {
    kills: usize,
    asking: usize,
    sending: usize,
    waiting: usize,
    quiet: usize,
    in_recovery: usize,
    broken: usize,
    scrapes: usize,
    events: usize,
    repeats: usize,
    oldest_repeated: Duration,
    slowest_start: Duration,
}

#[test]
fn a_kill_at_any_moment_under_load_loses_nothing_that_was_answered() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let kills = figure("SURGEGATE_TORTURE_KILLS", 20);
    let mut found = Found::default();
    for round in 0..kills.div_ceil(KILLS_PER_SPOOL) {
        let kills = KILLS_PER_SPOOL.min(kills - found.kills);
        run(round, kills, &mut rng, &mut found);
    }
    eprintln!("{found:?}");
    let most = kills / 2;
    assert!(found.asking > most, "few kills found requests in flight: {found:?}");
    assert!(found.sending > most, "few kills found requests at the upstream: {found:?}");
    assert!(found.waiting > most, "few kills found events waiting: {found:?}");
    assert!(found.broken > most, "answers were not lost: {found:?}");
    assert!(found.scrapes > most, "the books were hardly looked at: {found:?}");
}

fn run(round: usize, kills: usize, rng: &mut Rng, found: &mut Found) {
    let slow = Duration::from_millis(15);
    let upstream = Upstream::scripted(move |_| Fault::After(slow, 200));
    let config = configuration(&upstream.url(), &format!("connections: {CONNECTIONS}"));
    let mut surgegate = Surgegate::start(&[&config, "spool: { durability: fsync }\n"]);
    let fleet = Fleet::new(&surgegate);
    let mut moments = Vec::new();
    let told: ToldByKey = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (fleet, rng) = (&fleet, Rng::with_seed(rng.u64(..)));
                scope.spawn(move || fleet.client(&format!("{round}-{id}"), rng))
            })
            .collect();
        scope.spawn(|| fleet.scrape());
        // The others end also when this one fails.
        let ends = fleet.ends();
        for _ in 0..kills {
            // A random moment is the point here.
            std::thread::sleep(Duration::from_millis(rng.u64(20..500)));
            let waiting = try_scrape(surgegate.observe_address()).map_or(0, |scrape| scrape.count("spool_events", &[]));
            let quiet = rng.u8(..5) == 0;
            if quiet {
                found.quiet += 1;
                fleet.quiet.store(true, Ordering::Relaxed);
                std::thread::sleep(QUIET);
            }
            found.asking += usize::from(fleet.asking.load(Ordering::Relaxed) > 0);
            found.sending += usize::from(upstream.in_flight() > 0);
            found.waiting += usize::from(waiting > 0);
            fleet.move_to(None);
            let before = Instant::now();
            surgegate.kill();
            moments.push((before, Instant::now()));
            if rng.u8(..4) == 0 {
                found.in_recovery += 1;
                kill_in_recovery(&surgegate, Duration::from_millis(rng.u64(..60)));
                moments.push((before, Instant::now()));
            }
            let start = Instant::now();
            surgegate.start_again();
            found.slowest_start = found.slowest_start.max(start.elapsed());
            fleet.quiet.store(false, Ordering::Relaxed);
            fleet.move_to(Some(&surgegate));
            found.kills += 1;
        }
        drop(ends);
        clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect()
    });
    upstream.tell(|_| Fault::Answer(200));
    let scrape = surgegate.wait_until_delivered();
    let arrivals = upstream.arrivals();
    judge(&told, &arrivals, &scrape);
    found.events += told.values().map(Vec::len).sum::<usize>();
    found.broken += fleet.broken.load(Ordering::Relaxed);
    found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
    judge_repeats(&arrivals, &moments, found);
}

/// Starts the binary on the same spool and kills it, most likely before it is ready.
fn kill_in_recovery(surgegate: &Surgegate, after: Duration) {
    let mut child = spawn_on(surgegate);
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The binary on the same spool, with nobody to hear what it says.
pub fn spawn_on(surgegate: &Surgegate) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_surgegate"));
    for file in surgegate.files() {
        command.arg("--config").arg(file);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A repeat is explained by a kill that found the event on its way, or just delivered.
fn judge_repeats(arrivals: &[Arrival], moments: &[(Instant, Instant)], found: &mut Found) {
    let mut last = HashMap::<&str, &Arrival>::new();
    for arrival in arrivals {
        let Some(before) = last.insert(&arrival.uid, arrival) else { continue };
        let explained = moments.iter().position(|(began, ended)| {
            let settled = before.answered.is_some_and(|answered| answered + SETTLED_AFTER < *began);
            before.at <= *ended && *began <= arrival.at && !settled
        });
        let kill =
            explained.unwrap_or_else(|| panic!("repeated without a kill to explain it: {before:?}, {arrival:?}"));
        found.repeats += 1;
        if let Some(answered) = before.answered {
            found.oldest_repeated = found.oldest_repeated.max(moments[kill].0.saturating_duration_since(answered));
        }
    }
}

/// Posts fresh triggers, many at once on each of four connections.
pub fn fill(surgegate: &Surgegate, prefix: &str, count: usize) {
    const AT_ONCE: usize = 50;
    const FILLERS: usize = 4;
    std::thread::scope(|scope| {
        for filler in 0..FILLERS {
            scope.spawn(move || {
                let mut connection = surgegate.connect();
                let numbers: Vec<usize> = (filler..count).step_by(FILLERS).collect();
                for some in numbers.chunks(AT_ONCE) {
                    let requests: Vec<u8> = some
                        .iter()
                        .flat_map(|number| {
                            let body = crate::harness::trigger(&format!("{prefix}-{number}"));
                            request("POST", PATH, &["Content-Type: application/json"], body)
                        })
                        .collect();
                    connection.send(requests).unwrap();
                    for _ in some {
                        let answer = connection.answer().unwrap();
                        assert_eq!(answer.status, 202, "{}", answer.text());
                    }
                }
            });
        }
    });
}

#[test]
fn with_a_hundred_thousand_events_queued_it_is_ready_again_soon_after_a_kill() {
    let _alone = alone();
    let queued = figure("SURGEGATE_TORTURE_QUEUED", 100_000);
    let upstream = Upstream::dead();
    let config = configuration(&upstream.url(), "connections: 4");
    // Only so that filling is quick: what is timed is the start.
    let mut surgegate = Surgegate::start(&[&config, "spool: { durability: memory }\n"]);
    fill(&surgegate, "queued", queued);
    // Written within milliseconds; the queue is as long on disk when nothing has moved for a while.
    std::thread::sleep(Duration::from_secs(1));
    surgegate.kill();
    let start = Instant::now();
    surgegate.start_again();
    let ready = start.elapsed();
    eprintln!("ready {ready:?} after a kill with {queued} queued");
    let scrape = surgegate.scrape();
    assert_eq!(scrape.count("spool_events", &[]) as usize, queued);
    scrape.assert_books_balance();
    assert!(ready < Duration::from_secs(10), "ready only after {ready:?}");
    wait_until("an answer after it", || surgegate.post(PATH, crate::harness::trigger("after")).outcome() == "created");
}
