//! What waits when a process starts: whose keys, and since when. Asked for by `app` where replicas share their states, before
//! anything is forwarded.

use std::sync::Arc;

use super::{Recovered, Store};
use crate::event::{Micros, StateKey};

/// The newest events that wait for an upstream, the older first.
pub struct Left {
    pub upstream: Arc<str>,
    pub events: Vec<LeftEvent>,
    /// None but these wait there.
    pub all: bool,
}

/// One of them. `key`: its lane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftEvent {
    pub sequence: u64,
    pub key: StateKey,
    pub received_at: Micros,
}

impl Store {
    /// The newest `events_max` events that wait, in equal parts of each integration's queue at each upstream; reads these
    /// alone, however many wait. What cannot be read is left out.
    pub fn left(&self, recovered: &Recovered, events_max: usize) -> Vec<Left> {
        let part = events_max / recovered.queues.len().max(1);
        let mut all: Vec<Left> = Vec::new();
        for (meter, integration) in &recovered.queues {
            let count = u64::try_from(part).unwrap_or(u64::MAX);
            let (sequences, is_all) = self.core.lock().standing.newest_waiting(meter, integration, count);
            let mut events = Vec::with_capacity(sequences.len());
            let read = self.find(&sequences, &mut |sequence, _, event| {
                events.push(LeftEvent { sequence, key: StateKey(event.lane.0), received_at: event.received_at });
            });
            if let Err(error) = read {
                tracing::warn!(%error, upstream = %meter.name, "a queue cannot be read at the start: its order over replicas may not hold");
            }
            events.sort_unstable_by_key(|event| event.sequence);
            let is_all = is_all && events.len() == sequences.len();
            match all.iter_mut().find(|left| left.upstream == meter.name) {
                // Each key is of one integration.
                Some(left) => {
                    left.events.append(&mut events);
                    left.all &= is_all;
                }
                None => all.push(Left { upstream: Arc::clone(&meter.name), events, all: is_all }),
            }
        }
        all
    }
}
