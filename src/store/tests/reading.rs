//! How much is read from the disk for what waits: a long queue is gone through at about the speed of its bytes.

use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::super::doubles::Event;
use super::super::{Ask, Config, Durability, Found};
use super::{Rig, config};

const INTEGRATIONS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
/// More than is held in memory of what was read.
const EACH: usize = 400;

#[test]
fn a_queue_of_many_integrations_is_read_about_once() {
    let directory = TempDir::new().unwrap();
    let settings = Config { segment_bytes: 256 << 10, durability: Durability::Memory, ..config(directory.path()) };
    let rig = Rig::with(settings.clone());
    let mut log_bytes = 0;
    for number in 0..EACH * INTEGRATIONS.len() {
        let integration = INTEGRATIONS[number % INTEGRATIONS.len()];
        let raw = vec![b'x'; 900];
        log_bytes += raw.len() as u64;
        let event = Event { integration, raw, targets: vec!["pager"], ..rig.event(&format!("key-{number}")) };
        rig.append(&event).unwrap();
    }
    drop((rig.store, rig.runtime));

    let rig = Rig::with(settings);
    let read_bytes = || rig.faults.read_bytes.swap(0, Ordering::SeqCst);
    let ask = |integration: &&str| Ask { integration: (*integration).into(), after: 0, count: EACH };
    let asks: Vec<Ask> = INTEGRATIONS.iter().map(ask).collect();
    read_bytes();
    let all = rig.store.waiting(&rig.metrics.upstream("pager"), &asks).unwrap();
    let read = read_bytes();
    assert!(read < 2 * log_bytes, "{read} bytes to find what stands in {log_bytes}");
    let found: Vec<Vec<(u64, Found)>> =
        all.iter().map(|waiting| waiting.iter().map(|next| (next.sequence, next.found.unwrap())).collect()).collect();
    assert!(found.iter().all(|waiting| waiting.len() == EACH));

    // In the log's order.
    for turn in 0..EACH {
        found.iter().for_each(|waiting| drop(rig.store.read(waiting[turn].0, waiting[turn].1.at).unwrap()));
    }
    let read = read_bytes();
    assert!(read < 2 * log_bytes, "{read} bytes for what takes {log_bytes}");

    // Each at a place of its own, further from the others than what is read ahead.
    for turn in 0..EACH {
        for (place, waiting) in found.iter().enumerate() {
            let (sequence, found) = waiting[(turn + place * EACH / INTEGRATIONS.len()) % EACH];
            drop(rig.store.read(sequence, found.at).unwrap());
        }
    }
    let read = read_bytes();
    assert!(read < 8 * log_bytes, "{read} bytes for what takes {log_bytes}");
}
