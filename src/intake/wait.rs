//! What few requests do: wait for another change of their key. Called by `intake` when an event could not be decided at
//! once; boxed there, so that no other connection has room for it.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::Gathered;
use super::delivery::Delivery;
use super::event::Said;
use super::outside::Unread;
use super::{Came, Ended, Intake, Known, Trail};
use crate::body::Reserved;
use crate::dedup::{self, Claimed};
use crate::dialect::Judged;
use crate::event::{Event, Key};
use crate::metrics::Ticket;
use crate::outcome::Refusal;
use crate::store::Waits;

/// Longest time an event stands in its key's line (DESIGN 5.1).
pub(super) const LINE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What an event waits for.
pub(super) enum On {
    /// Its record's way to the disk; with its key for the answer.
    Log(Waits, Option<Key>),
    /// Another change of its key.
    Line(Box<Contended>),
    /// What other replicas know of its key.
    Others(Box<Asked>),
    /// Whether another replica knows its incident's id.
    Elsewhere(Box<Sought>),
    /// The upstream too.
    Delivery(Box<Delivery>),
    /// Many events, each by itself.
    Batch(Box<Gathered>),
    /// What somebody else says of it.
    Outside(Box<Unread>),
    /// Nothing: only what would happen is asked for.
    DryRun(Box<Unread>),
}

/// An event whose key another one holds.
pub(super) struct Contended {
    pub(super) line: dedup::Line,
    pub(super) event: Event,
    pub(super) rules: dedup::Rules,
    pub(super) ticket: Ticket,
}

/// A statement whose incident is not known here.
pub(super) struct Sought {
    pub(super) names: Vec<dedup::IdName>,
    pub(super) body: Said,
    pub(super) heard: Judged,
    pub(super) ticket: Ticket,
}

/// An event whose key other replicas are asked for.
pub(super) struct Asked {
    pub(super) asking: Box<dedup::Asking>,
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
    pub(super) async fn wait_for(
        &self,
        came: &Came<'_>,
        known: &Known,
        on: On,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let on = match on {
            On::Elsewhere(sought) => {
                let Sought { names, body, heard, ticket } = *sought;
                self.dedup.find_elsewhere(&names).await;
                match self.accept(came, known, body, heard, ticket, trail)? {
                    Some(on) => on,
                    None => return Ok(()),
                }
            }
            on => on,
        };
        let on = match on {
            On::Line(contended) => self.stand_in_line(came, known, contended, trail).await?,
            On::Others(asked) => self.ask_others(came, known, asked, Instant::now() + LINE_WAIT_MAX, trail).await?,
            log => Some(log),
        };
        match on {
            Some(On::Log(waits, key)) => trail.end(Ended::stored(waits.await, key)?, true),
            Some(On::Delivery(delivery)) => self.wait_for_delivery(came, known, *delivery, trail).await?,
            _ => {}
        }
        Ok(())
    }

    /// Another change of the key is in flight: waits for the turn and claims again. Who waited in vain claims
    /// once more, and is refused if that fails too.
    async fn stand_in_line(
        &self,
        came: &Came<'_>,
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
                Claimed::Asking(asking) => {
                    let asked = Box::new(Asked { asking, event, rules, ticket });
                    return self.ask_others(came, known, asked, deadline, trail).await;
                }
                claimed => return self.admit(came, known, claimed, event, rules, ticket, trail),
            }
        }
    }

    /// Another replica may change the key, or know it better: waits for the answer, and while a change of theirs is in
    /// flight until the deadline.
    async fn ask_others(
        &self,
        came: &Came<'_>,
        known: &Known,
        asked: Box<Asked>,
        deadline: Instant,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Asked { asking, mut event, rules, ticket } = *asked;
        let targets = known.integration.targets(&event).clone();
        let claimed = asking.end(&mut event, &targets, rules, deadline).await;
        self.admit(came, known, claimed, event, rules, ticket, trail)
    }
}
