//! What upstreams answered under `respond: upstream`, for repeats of what they answered (DESIGN 5.7). Of the newest, and in
//! memory alone: who repeats an older one, or after a start, gets our answer with the upstream's id.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Known;
use crate::awaited::Said;
use crate::dialect::Repeats;
use crate::event::{Action, Uid};

/// Incidents whose answers are kept,
const KEPT_MAX: usize = 4096;
/// and bytes of their answers, all together.
const BYTES_MAX: usize = 16 << 20;

/// What an answer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// One statement: an operation's repeats get that operation's answer.
    Statement(&'static str, Action),
    /// Any statement: it shows the incident as it is, in this dialect's shape.
    Incident(&'static str),
}

/// By incident.
#[derive(Default)]
pub(super) struct Answered(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    rows: HashMap<Uid, Vec<(To, Arc<Said>)>>,
    /// From the oldest to the newest; an incident that was forgotten may still stand here, and once more for each time.
    order: VecDeque<Uid>,
    bytes: usize,
}

fn to(known: &Known, action: Action) -> Option<To> {
    match known.dialect.repeats() {
        Repeats::Statement => Some(To::Statement(known.route.endpoint, action)),
        Repeats::Incident => Some(To::Incident(known.dialect.name())),
        Repeats::Ours => None,
    }
}

impl Answered {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement was taken; `said`: what the upstream answered to it, where the sender was told so.
    pub(super) fn took(&self, known: &Known, action: Action, iid: Uid, said: Option<&Arc<Said>>) {
        if let Some(to) = to(known, action) {
            self.kept().took(iid, to, said);
        }
    }

    /// What the upstream answered to what this repeats.
    pub(super) fn find(&self, known: &Known, action: Action, iid: Uid) -> Option<Arc<Said>> {
        let to = to(known, action)?;
        self.kept().find(iid, to)
    }
}

impl Kept {
    fn took(&mut self, iid: Uid, to: To, said: Option<&Arc<Said>>) {
        // An incident's answer shows a state that it no longer has.
        let is_old = |other: To| matches!(other, To::Incident(_)) || other == to;
        if said.is_some() || matches!(to, To::Incident(_)) {
            self.forget(iid, is_old);
        }
        let Some(said) = said else { return };
        let rows = self.rows.entry(iid).or_default();
        if rows.is_empty() {
            self.order.push_back(iid);
        }
        rows.push((to, Arc::clone(said)));
        self.bytes += said.body.len();
        while self.order.len() > KEPT_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.forget(oldest, |_| true);
        }
    }

    fn forget(&mut self, iid: Uid, is_old: impl Fn(To) -> bool) {
        let Some(rows) = self.rows.get_mut(&iid) else { return };
        let (bytes, mut freed) = (&mut self.bytes, 0);
        rows.retain(|(to, said)| {
            freed += if is_old(*to) { said.body.len() } else { 0 };
            !is_old(*to)
        });
        *bytes -= freed;
        if rows.is_empty() {
            self.rows.remove(&iid);
        }
    }

    fn find(&self, iid: Uid, to: To) -> Option<Arc<Said>> {
        self.rows.get(&iid)?.iter().find(|(own, _)| *own == to).map(|(_, said)| Arc::clone(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: usize) -> Arc<Said> {
        Arc::new(Said { status: 200, content_type: None, body: vec![b' '; bytes].into() })
    }

    const CREATE: To = To::Statement("create", Action::Trigger);
    const RESOLVE: To = To::Statement("resolve", Action::Resolve);

    #[test]
    fn a_statements_answer_stays_and_an_incidents_is_the_last_one() {
        let mut kept = Kept::default();
        kept.took(Uid(1), CREATE, Some(&said(1)));
        kept.took(Uid(1), RESOLVE, Some(&said(2)));
        kept.took(Uid(1), RESOLVE, None);
        let length = |kept: &Kept, iid, to| kept.find(Uid(iid), to).map(|said| said.body.len());
        assert_eq!(
            (length(&kept, 1, CREATE), length(&kept, 1, RESOLVE), length(&kept, 2, CREATE)),
            (Some(1), Some(2), None)
        );
        let (v1, v2) = (To::Incident("v1"), To::Incident("v2"));
        kept.took(Uid(2), v1, Some(&said(3)));
        kept.took(Uid(2), v2, Some(&said(4)));
        assert_eq!((length(&kept, 2, v1), length(&kept, 2, v2), kept.bytes), (None, Some(4), 7));
        kept.took(Uid(2), v2, None);
        assert_eq!((length(&kept, 2, v2), kept.bytes, kept.rows.len()), (None, 3, 1));
    }

    #[test]
    fn the_oldest_go_beyond_the_limits() {
        let mut kept = Kept::default();
        (0..=KEPT_MAX).for_each(|n| kept.took(Uid(n as u128), CREATE, Some(&said(1))));
        assert!(kept.find(Uid(0), CREATE).is_none() && kept.find(Uid(1), CREATE).is_some());
        assert_eq!((kept.rows.len(), kept.bytes), (KEPT_MAX, KEPT_MAX));
        let mut kept = Kept::default();
        (0..300).for_each(|n| kept.took(Uid(n), CREATE, Some(&said(65_536))));
        assert_eq!((kept.rows.len(), kept.bytes), (256, BYTES_MAX));
        assert!(kept.find(Uid(299), CREATE).is_some());
    }
}
