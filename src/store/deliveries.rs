//! Deliveries on their way into the log. What is told of one says the same of nearly all others but which event it was, so
//! those of a commit stand in one record for each upstream and answer: 12 bytes an event in place of some 60, and one
//! checksum. Lives under the store's one lock, in `pending`.

use std::sync::Arc;

use super::record::Delivered;
use crate::event::Micros;
use crate::metrics::UpstreamMeter;

/// So many events are told of at once: a record fits into the smallest segment that is made for want of room.
const EVENTS_MAX: usize = 1024;
/// So many upstreams, each with its answers, are gathered for at once.
const GROUPS_MAX: usize = 64;

/// The deliveries of a record to come.
struct Group {
    upstream: Arc<UpstreamMeter>,
    status: Option<u16>,
    attempts: u32,
    highest: u64,
    rows: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Deliveries {
    groups: Vec<Group>,
    events: usize,
}

impl Deliveries {
    /// Events that the log is not told of yet.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// They are to be told of before another one is added.
    pub(super) fn is_full(&self) -> bool {
        self.events >= EVENTS_MAX || self.groups.len() >= GROUPS_MAX
    }

    /// `tag`: of the event's integration.
    pub(super) fn add(
        &mut self,
        upstream: &Arc<UpstreamMeter>,
        (status, attempts): (Option<u16>, u32),
        (sequence, tag): (u64, u32),
    ) {
        let is_it = |group: &Group| {
            Arc::ptr_eq(&group.upstream, upstream) && (group.status, group.attempts) == (status, attempts)
        };
        let place = self.groups.iter().position(is_it).unwrap_or_else(|| {
            let upstream = Arc::clone(upstream);
            self.groups.push(Group { upstream, status, attempts, highest: 0, rows: vec![] });
            self.groups.len() - 1
        });
        let group = &mut self.groups[place];
        group.highest = group.highest.max(sequence);
        Delivered::put_row(&mut group.rows, sequence, tag);
        self.events += 1;
    }

    /// A record for each upstream and answer: its sequence, and what writes its payload. Nothing is left.
    pub(super) fn told(&mut self, at: Micros, mut tell: impl FnMut(u64, &dyn Fn(&mut Vec<u8>))) {
        for group in self.groups.iter_mut().filter(|group| !group.rows.is_empty()) {
            let Group { upstream, status, attempts, highest, rows } = group;
            let record = Delivered { upstream: &upstream.name, status: *status, attempts: *attempts, at, rows };
            tell(*highest, &|out| record.put(out));
            group.rows.clear();
        }
        self.events = 0;
        if self.groups.len() >= GROUPS_MAX {
            self.groups.clear();
        }
    }
}
