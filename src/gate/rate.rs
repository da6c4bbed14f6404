//! Token limits, and the only home of `governor`. A limiter lives in its integration's own struct: a keyed
//! store would never forget a key. The time is the caller's: a request reads the clock once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// Per-second limit with its burst. `burst` defaults to one second's worth, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

/// Shows the time it was last told, in nanoseconds since the limiter was made. Two threads may tell it
/// microseconds apart: a token is then late by as much.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

pub(super) struct Limiter {
    made: Instant,
    clock: Told,
    inner: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = Told::default();
        Self { made: Instant::now(), inner: RateLimiter::direct_with_clock(quota, clock.clone()), clock }
    }

    /// Takes a token, or says how long until there is one.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.made);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.clock.0.store(nanos, Ordering::Relaxed);
        self.inner.check().map_err(|until| until.wait_time_from(Nanos::from(nanos)))
    }
}
