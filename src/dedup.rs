//! STUB.
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    pub open_ttl: Duration,
    pub resolved_ttl: Duration,
    pub idempotency_ttl: Duration,
    pub replay_ttl: Duration,
    pub max_keys: usize,
    /// At most one new try of an undelivered trigger in this time (DESIGN 5.3).
    pub redeliver_after: Duration,
}
