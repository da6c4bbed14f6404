//! Token limits, and the only home of `governor`. A limiter lives in its integration's own struct: a keyed
//! store would never forget a key. The clock is the monotonic one: the default may run backwards between cores.

// governor's monotonic clock is the standard library's.
#![allow(clippy::disallowed_types)]

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Per-second limit with its burst. `burst` defaults to one second's worth, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

pub(super) struct Limiter {
    inner: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self { inner: RateLimiter::direct_with_clock(quota, MonotonicClock) }
    }

    /// Takes a token, or says how long until there is one.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.inner.check().map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }
}
