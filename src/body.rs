//! STUB.
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    pub batch_body_bytes: usize,
    pub gzip: bool,
    pub body_bytes_in_flight: usize,
    pub body_timeout: Duration,
    /// Slowest pace allowed after `slow_grace`.
    pub body_bytes_per_second: usize,
    pub slow_grace: Duration,
}
