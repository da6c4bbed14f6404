//! What few requests do: wait for another change of their key, or bring more events than one. Called by `intake` when an
//! event could not be decided at once; boxed there, so that no other connection has room for it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Came, Ended, Intake, Known, Trail};
use crate::body::Reserved;
use crate::dedup::{self, Claimed};
use crate::dialect::Judged;
use crate::event::{Event, Key, Tolerated};
use crate::metrics::Ticket;
use crate::outcome::Refusal;
use crate::store::Waits;

/// Longest time an event stands in its key's line (DESIGN 5.1).
const LINE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What an event waits for.
pub(super) enum On {
    /// Its record's way to the disk; with its key for the answer.
    Log(Waits, Option<Key>),
    /// Another change of its key.
    Line(Box<Contended>),
}

/// An event whose key another one holds.
pub(super) struct Contended {
    pub(super) line: dedup::Line,
    pub(super) event: Event,
    pub(super) rules: dedup::Rules,
    pub(super) ticket: Ticket,
}

/// A request that cannot be answered yet. It holds its place in the budget of body bytes.
pub(super) struct Underway {
    pub(super) on: Option<On>,
    pub(super) rest: Option<Box<Rest>>,
    pub(super) _reserved: Reserved,
}

/// The events of a request behind its first.
pub(super) struct Rest {
    pub(super) raw: Bytes,
    pub(super) tolerated: Tolerated,
    pub(super) heard: smallvec::IntoIter<[Judged; 1]>,
}

impl Intake {
    /// Waits for what is under way; then come the events behind it, in order.
    pub(super) async fn wait(
        &self,
        came: &Came,
        known: &Known,
        underway: Underway,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let Underway { on, rest, _reserved } = underway;
        if let Some(on) = on {
            self.wait_for(came.worker, known, on, trail).await?;
        }
        match rest {
            // Boxed: what few requests need must not make every connection larger.
            Some(rest) => Box::pin(self.accept_rest(came, known, *rest, trail)).await,
            None => Ok(()),
        }
    }

    async fn accept_rest(&self, came: &Came, known: &Known, rest: Rest, trail: &mut Trail) -> Result<(), Refusal> {
        let Rest { raw, tolerated, heard } = rest;
        for heard in heard {
            let ticket = self.metrics.receive(came.worker);
            if let Some(on) = self.accept(came, known, raw.clone(), tolerated, heard, ticket, trail)? {
                self.wait_for(came.worker, known, on, trail).await?;
            }
        }
        Ok(())
    }

    /// Waits for one event's end.
    async fn wait_for(&self, worker: usize, known: &Known, on: On, trail: &mut Trail) -> Result<(), Refusal> {
        let on = match on {
            On::Line(contended) => self.stand_in_line(worker, known, contended, trail).await?,
            log => Some(log),
        };
        if let Some(On::Log(waits, key)) = on {
            trail.end(Ended::stored(waits.await, key)?, true);
        }
        Ok(())
    }

    /// Another change of the key is in flight: waits for the turn and claims again. Who waited in vain claims
    /// once more, and is refused if that fails too.
    async fn stand_in_line(
        &self,
        worker: usize,
        known: &Known,
        waits: Box<Contended>,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Contended { mut line, event, rules, ticket } = *waits;
        let deadline = Instant::now() + LINE_WAIT_MAX;
        loop {
            let in_time = line.wait(deadline.saturating_duration_since(Instant::now())).await;
            match self.dedup.claim(&event, &known.integration.targets, rules) {
                Claimed::Contended(next) if in_time => line = next,
                claimed => return self.admit(worker, Instant::now(), known, claimed, event, ticket, trail),
            }
        }
    }
}
