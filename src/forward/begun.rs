//! What a resolve ends. Few senders say it again; an upstream that is told of the alert each time gets what its trigger, and
//! the updates since, said: where their records can still be read (contracts 3.3).

use super::desk::Desk;
use crate::event::{Action, Event};
use crate::sink::Said;
use crate::store::Stored;

/// Most records read for one resolve: its incident's, from the last one back to the trigger.
const RECORDS_MAX: usize = 32;

impl Desk {
    /// Fills in what a resolve leaves out. Gives it back with the severity that its incident has, where it says none itself
    /// and something was found: the one it was stored with is then the integration's default.
    pub(super) fn begun(&self, resolve: &Stored, said: &mut Said<'_>) -> Option<Stored> {
        let iid = resolve.incident.filter(|_| resolve.event.action == Action::Resolve)?.iid;
        if said.content.title.is_some() && !said.content.tags.is_empty() {
            return None;
        }
        let mut at = resolve.before;
        let mut found = false;
        for _ in 0..RECORDS_MAX {
            // One that cannot be read is as good as gone: the resolve itself must not wait for it.
            let Some(Ok(earlier)) = at.map(|at| self.log.earlier(at)) else { break };
            if earlier.lane != resolve.lane || earlier.incident.is_none_or(|incident| incident.iid != iid) {
                break;
            }
            if matches!(earlier.event.action, Action::Trigger | Action::Update) {
                said.fill_in(&earlier.event, &self.reader.read(&earlier.event));
                found = true;
            }
            if earlier.event.action == Action::Trigger {
                break;
            }
            at = earlier.before;
        }
        let severity = said.content.severity.filter(|_| found);
        severity.map(|_| Stored { event: Event { severity, ..resolve.event.clone() }, ..resolve.clone() })
    }
}
