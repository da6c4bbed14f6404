//! How long a connection of an operator may go on: a whole exchange within its time, a stream for as long as its reader
//! takes what it gets. And which one gives way when every place is taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
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

/// The connections that a listener serves.
#[derive(Default)]
pub(super) struct Held(VecDeque<(Arc<Pulse>, AbortHandle)>);

impl Held {
    /// Takes one in; those that have ended leave.
    pub(super) fn enter(&mut self, pulse: Arc<Pulse>, connection: AbortHandle) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        self.0.push_back((pulse, connection));
    }

    /// Ends the one that has done nothing for the longest time: a reader that takes no answer goes before a stream that is
    /// read. What a request began goes on without it.
    pub(super) fn give_way(&mut self) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let stillest = self.0.iter().enumerate().min_by_key(|(_, (pulse, _))| *pulse.until());
        if let Some((_, connection)) = stillest.map(|(at, _)| at).and_then(|at| self.0.remove(at)) {
            connection.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_still_for_the_longest_gives_way() {
        let mut held = Held::default();
        let connections: Vec<_> = (0..3)
            .map(|_| {
                let (pulse, task) = (Arc::new(Pulse::new()), tokio::spawn(std::future::pending::<()>()));
                held.enter(Arc::clone(&pulse), task.abort_handle());
                (pulse, task)
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The first is read, the second never: it goes, though it came later.
        connections[0].0.beats();
        held.give_way();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(connections.iter().map(|(_, task)| task.is_finished()).collect::<Vec<_>>(), [false, true, false]);
        held.give_way();
        held.give_way();
        held.give_way();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(connections.iter().all(|(_, task)| task.is_finished()));
    }

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
