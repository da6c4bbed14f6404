//! The script behind event limits against a model, on a real server, whose clock nobody sets: the model is told when a
//! call began and ended, and knows between what its answer must lie.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::redis::Redis;

const SPEND: &str = include_str!("../../../src/redis/scripts/spend.lua");
/// Thousandths are cut, and a clock's microseconds are floats.
const ROUNDING: f64 = 0.01;
/// A script sees the time that the server noted before it began to read, to the millisecond in some versions.
const CLOCK_BEHIND_MICROS: f64 = 1000.0;

struct Bucket {
    connection: redis::Connection,
    key: String,
    interval: f64,
    burst: u32,
    /// When it would be full again: at least and at most.
    full: (f64, f64),
}

impl Bucket {
    /// The server's clock in microseconds.
    fn now(&mut self) -> f64 {
        let (seconds, micros): (f64, f64) = redis::cmd("TIME").query(&mut self.connection).unwrap();
        seconds * 1e6 + micros
    }

    /// What is left of it, and between what that must lie.
    fn spend(&mut self, spent: u32) -> (f64, (f64, f64)) {
        let from = self.now() - CLOCK_BEHIND_MICROS;
        let left: i64 = redis::cmd("EVAL")
            .arg(SPEND)
            .arg(1)
            .arg(&self.key)
            .arg((spent, self.interval, self.burst, 3))
            .query(&mut self.connection)
            .unwrap();
        let to = self.now();
        let (spent, burst) = (f64::from(spent) * self.interval, f64::from(self.burst));
        let ahead = (2.0 * burst + 3.0) * self.interval;
        let least = self.full.0.min(from + ahead).max(from) + spent;
        let most = self.full.1.min(to + ahead).max(to) + spent;
        self.full = (least, most);
        let bounds = (burst - (most - from) / self.interval, burst - (least - to) / self.interval);
        (left as f64 / 1000.0, bounds)
    }
}

#[test]
fn the_script_keeps_one_bucket_whoever_spends() {
    let server = Redis::start();
    let client = redis::Client::open(server.url()).unwrap();
    let cases = (1_u32..20_000, 1_u32..5_000, prop::collection::vec(0_u32..3_000, 1..25));
    let number = std::cell::Cell::new(0);
    TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() })
        .run(&cases, |(per_second, burst, spends)| {
            number.set(number.get() + 1);
            let connection = client.get_connection().unwrap();
            let key = format!("limit:{}", number.get());
            let mut bucket = Bucket { connection, key, interval: 1e6 / f64::from(per_second), burst, full: (0.0, 0.0) };
            for spent in spends {
                let (left, (least, most)) = bucket.spend(spent);
                prop_assert!(left >= least - ROUNDING && left <= most + ROUNDING, "{left} not in {least}..{most}");
                prop_assert!(left <= f64::from(burst));
            }
            Ok(())
        })
        .unwrap();
    // A key that the clock of another server put far ahead does not shut the limit for ever.
    server.ask(&["SET", "limit:far", "9e15"]);
    let connection = client.get_connection().unwrap();
    let mut bucket = Bucket { connection, key: "limit:far".into(), interval: 1000.0, burst: 10, full: (9e15, 9e15) };
    let (left, _) = bucket.spend(0);
    assert!(left >= -13.0, "{left}");
    // Nor does a bucket that is full take room.
    let (_, _) = bucket.spend(1);
    let life: i64 = redis::from_redis_value(server.ask(&["PTTL", "limit:far"])).unwrap();
    assert!(life > 0 && life < 5_000, "{life}");
}
