//! How long a connection of an operator may go on: a whole exchange within its time, a stream for as long as its reader
//! takes what it gets.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A whole exchange, the slow reader included; for a stream the time in which its reader takes nothing.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time by which something must have moved.
pub(super) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now() + EXCHANGE_TIMEOUT))
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come, or the reader of a stream took what it got.
    pub(super) fn beats(&self) {
        *self.until() = Instant::now() + EXCHANGE_TIMEOUT;
    }

    /// Returns when the time is over.
    pub(super) async fn stops(&self) {
        loop {
            let until = *self.until();
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_exchange_has_its_time_and_a_stream_begins_it_anew() {
        let began = Instant::now();
        let pulse = Pulse::new();
        let stream = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                pulse.beats();
            }
        };
        tokio::join!(stream, pulse.stops());
        assert_eq!(began.elapsed(), Duration::from_secs(560));
    }
}
