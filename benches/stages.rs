//! Time of each stage by itself: decode, claim, append. `cargo bench --bench stages [-- FILTER]`, about a minute.
//! Only figures of one run compare: see docs/decisions/0003-performance.md.
#![allow(unreachable_pub)] // A bench has no outside.

// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

mod dialects;
mod log;
mod rooms;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use log::{AT_ONCE_BYTES, ByHand, Log, SEGMENT_BYTES, Space, directory, filled, preallocated, record_bytes};
use rooms::{Desk, SIZES};
use surgegate::claim::Position;
use surgegate::dedup::{Claimed, Dedup};
use surgegate::dialect::{self, Rules, json};
use surgegate::event::Event;
use surgegate::store::Durability;
use tokio::time::Instant;

/// The product's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let matched = dialect::route("POST", "/v2/incidents/api/k").unwrap();
    let rules = Rules { require_description: true, judge_only: true, settings: None };
    for (name, bytes) in SIZES {
        let body = rooms::body(&rooms::event_id(1), bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("parse alone", name), |bencher| {
            bencher.iter(|| json::with_document(black_box(&body), |document| document.root.is_object()));
        });
        group.bench_function(BenchmarkId::new("parse and decode", name), |bencher| {
            bencher.iter(|| {
                json::with_document(black_box(&body), |document| {
                    matched.dialect.decode(&dialect::Asked::at(matched.route.endpoint, rules), document, &mut |said| {
                        black_box(said);
                    })
                })
            });
        });
    }
    group.finish();
}

/// Every dialect's, as many bytes each, beside Squadcast's.
fn decode_of(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode of");
    group.throughput(Throughput::Bytes(dialects::BYTES as u64));
    for (name, ..) in &dialects::BODIES {
        let case = dialects::Case::of(name);
        group.bench_function(*name, |bencher| bencher.iter(|| black_box(&case).decode()));
    }
    group.finish();
}

/// Events are made outside the time, so many at once.
const BLOCK: u64 = 1_000;
/// A table may grow by this part before it is made anew.
const GROWTH: u64 = 4;

/// A table with its fresh keys, and what is done to it in blocks.
struct Growing<'d> {
    desk: &'d Desk,
    keys: u64,
    dedup: Arc<Dedup>,
    next: u64,
}

impl<'d> Growing<'d> {
    fn new(desk: &'d Desk, keys: u64) -> Self {
        Self { desk, keys, dedup: desk.dedup(keys), next: keys }
    }

    /// Runs `iterations` claims on fresh keys; the time of claiming and that of committing.
    fn fresh(&mut self, iterations: u64) -> (Duration, Duration) {
        let (mut claiming, mut committing) = (Duration::ZERO, Duration::ZERO);
        let mut left = iterations;
        while left > 0 {
            if self.next - self.keys >= (self.keys / GROWTH).max(BLOCK) {
                *self = Self::new(self.desk, self.keys);
            }
            let block = left.min(BLOCK);
            left -= block;
            let events: Vec<Event> = (self.next..self.next + block).map(|number| self.desk.event(number)).collect();
            self.next += block;
            let mut claims = Vec::with_capacity(events.len());
            let began = Instant::now();
            for event in &events {
                claims.push(self.dedup.claim(event, &self.desk.targets, Desk::RULES));
            }
            claiming += began.elapsed();
            let admitted: Vec<_> = claims
                .into_iter()
                .zip(events)
                .map(|(claimed, event)| match claimed {
                    Claimed::Owned(claim, pacing) => {
                        surgegate::claim::Admitted { claim, event, pacing, ticket: self.desk.metrics.receive(0) }
                    }
                    _ => panic!("a fresh key is owned"),
                })
                .collect();
            let began = Instant::now();
            for admitted in admitted {
                black_box(admitted.placed().accept(1, Position(1)));
            }
            committing += began.elapsed();
        }
        (claiming, committing)
    }

    /// The time of `iterations` claims on known keys, spread over the whole table.
    fn duplicates(&self, iterations: u64) -> Duration {
        let mut claiming = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let block = left.min(BLOCK);
            left -= block;
            let events: Vec<Event> = (0..block).map(|_| self.desk.event(fastrand::u64(..self.keys))).collect();
            let began = Instant::now();
            for event in &events {
                let claimed = self.dedup.claim(event, &self.desk.targets, Desk::RULES);
                assert!(matches!(black_box(claimed), Claimed::Absorbed { .. }), "a known key is a duplicate");
            }
            claiming += began.elapsed();
        }
        claiming
    }
}

fn claim(criterion: &mut Criterion) {
    let desk = Desk::new(SIZES[0].1);
    let mut group = criterion.benchmark_group("claim");
    for (name, keys) in [("1,000 keys", 1_000), ("1 M keys", 1_000_000)] {
        let table = RefCell::new(Growing::new(&desk, keys));
        group.bench_function(BenchmarkId::new("duplicate", name), |bencher| {
            bencher.iter_custom(|iterations| table.borrow().duplicates(iterations));
        });
        group.bench_function(BenchmarkId::new("fresh key", name), |bencher| {
            bencher.iter_custom(|iterations| table.borrow_mut().fresh(iterations).0);
        });
        group.bench_function(BenchmarkId::new("fresh key, commit", name), |bencher| {
            bencher.iter_custom(|iterations| table.borrow_mut().fresh(iterations).1);
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    // What fails on the disk, the log says itself.
    let warnings = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr);
    warnings.init();
    let desk = Desk::new(SIZES[0].1);
    let record = record_bytes(&desk);
    let mut group = criterion.benchmark_group("append");
    for size in [1, 16, 256, 4096] {
        group.throughput(Throughput::Elements(size));
        for (name, durability, settles, space) in [
            ("memory", Durability::Memory, false, Space::Made),
            ("fsync", Durability::Fsync, false, Space::Made),
            ("fsync, with settling", Durability::Fsync, true, Space::Made),
            ("fsync, space there", Durability::Fsync, false, Space::There),
            ("fsync, with settling, space there", Durability::Fsync, true, Space::There),
        ] {
            // More than there is space for at once.
            if space == Space::There && 32 * size * record > AT_ONCE_BYTES {
                continue;
            }
            let log = RefCell::new(Log::new(&desk, durability, space));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|iterations| log.borrow_mut().append(iterations, size, record, settles));
            });
        }
        let directory = directory();
        let mut by_hand = ByHand::new(record);
        let is_full = |by_hand: &ByHand| by_hand.at + record * size > u64::from(SEGMENT_BYTES);
        let file = filled(directory.path());
        group.bench_function(BenchmarkId::new("by hand, filled before", size), |bencher| {
            bencher.iter(|| {
                if is_full(&by_hand) {
                    by_hand.at = 0;
                }
                by_hand.append(&file, size);
            });
        });
        // PERFORMANCE 3's: each segment a new one, its blocks reserved.
        group.bench_function(BenchmarkId::new("by hand, preallocated", size), |bencher| {
            let mut file = preallocated(directory.path());
            by_hand.at = 0;
            bencher.iter_custom(|iterations| {
                let mut taken = Duration::ZERO;
                for _ in 0..iterations {
                    if is_full(&by_hand) {
                        (file, by_hand.at) = (preallocated(directory.path()), 0);
                    }
                    let began = Instant::now();
                    by_hand.append(&file, size);
                    taken += began.elapsed();
                }
                taken
            });
        });
    }
    group.finish();
}

/// Short: the whole file is run by `make bench`. `-- --measurement-time 5` for finer figures.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

criterion_group! { name = stages; config = short(); targets = decode, decode_of, claim, append }
criterion_main!(stages);
