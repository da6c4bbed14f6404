//! What few requests do: wait for another change of their key. Called by `intake` when an event could not be decided at
//! once; boxed there, so that no other connection has room for it.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::Gathered;
use super::{Came, Ended, Intake, Known, Trail};
use crate::body::Reserved;
use crate::dedup::{self, Claimed};
use crate::event::{Event, Key};
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
    /// Many events, each by itself.
    Batch(Box<Gathered>),
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
    pub(super) on: On,
    pub(super) _reserved: Reserved,
}

impl Intake {
    /// Waits for one event's end.
    pub(super) async fn wait_for(&self, came: &Came, known: &Known, on: On, trail: &mut Trail) -> Result<(), Refusal> {
        let on = match on {
            On::Line(contended) => self.stand_in_line(came, known, contended, trail).await?,
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
        came: &Came,
        known: &Known,
        waits: Box<Contended>,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Contended { mut line, event, rules, ticket } = *waits;
        let deadline = Instant::now() + LINE_WAIT_MAX;
        loop {
            let in_time = line.wait(deadline.saturating_duration_since(Instant::now())).await;
            match self.dedup.claim(&event, known.integration.targets(&event), rules) {
                Claimed::Contended(next) if in_time => line = next,
                claimed => return self.admit(came, known, claimed, event, rules, ticket, trail),
            }
        }
    }
}
