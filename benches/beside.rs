//! The log beside one by hand, in turn, a few milliseconds each: what the disk does from second to second meets both alike.
//! `cargo bench --bench beside`, just over a minute.
#![allow(unreachable_pub)] // A bench has no outside.
#![allow(clippy::print_stdout)] // Its figures.

mod log;
mod rooms;

use std::time::Duration;

use log::{ByHand, Log, Space};
use rooms::{Desk, SIZES};
use surgegate::store::Durability;
use tokio::time::Instant;

/// The product's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one commit.
const SIZE: u64 = 256;
/// Commits of one side before it is the other's turn.
const COMMITS: u64 = 32;
const PAIRS: usize = 200;

/// By hand's time over the log's, pair by pair, from the least to the greatest.
fn ratios(desk: &Desk, record: u64, settles: bool, space: Space) -> Vec<f64> {
    let mut log = Log::new(desk, Durability::Fsync, space);
    let mut by_hand = ByHand::new(record);
    let directory = log::directory();
    let mut file = log::preallocated(directory.path());
    let mut logged = || log.append(COMMITS, SIZE, record, settles);
    let mut by_hand = || {
        if by_hand.at + COMMITS * SIZE * record > u64::from(log::SEGMENT_BYTES) {
            (file, by_hand.at) = (log::preallocated(directory.path()), 0);
        }
        let began = Instant::now();
        (0..COMMITS).for_each(|_| by_hand.append(&file, SIZE));
        began.elapsed()
    };
    let pair = |turn: usize| {
        let (logged, by_hand): (Duration, Duration) = if turn.is_multiple_of(2) {
            let first = logged();
            (first, by_hand())
        } else {
            let first = by_hand();
            (logged(), first)
        };
        by_hand.as_secs_f64() / logged.as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..PAIRS).map(pair).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn main() {
    let desk = Desk::new(SIZES[0].1);
    let record = log::record_bytes(&desk);
    println!(
        "commits of {SIZE} events, by hand's time over the log's: a quarter, median, three quarters of {PAIRS} pairs"
    );
    for (name, settles, space) in [
        ("append, space there", false, Space::There),
        ("append and settle, space there", true, Space::There),
        ("append, segments filled beside", false, Space::Made),
        ("append and settle, segments filled beside", true, Space::Made),
    ] {
        let ratios = ratios(&desk, record, settles, space);
        let [quarter, median, three] = [1, 2, 3].map(|quarter| ratios[quarter * PAIRS / 4]);
        println!("{name:42} {quarter:.2} {median:.2} {three:.2}");
    }
}
