//! What stands: which events each upstream has not ended, what became of the others, and the books. The log
//! tells it and a checkpoint keeps it: the same steps run when a record is placed and when it is replayed. Lives
//! under the store's one lock; nothing here does I/O.
//!
//! A waiting event costs a bit to two bytes: sequences stand in compressed sets, one for each upstream and
//! integration, and what an event says is read from the log when its turn comes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::Ending;
use super::record::{DeadNote, Need};
use super::sequences::Sequences;
use crate::claim::{Pacing, Position};
use crate::event::Micros;
use crate::metrics::{UpstreamBook, UpstreamMeter};
use crate::outcome::DropReason;

/// Bytes that a dead letter takes here, about.
const DEAD_BYTES: usize = 64;
/// Bytes that a moved event takes here, about.
const MOVED_BYTES: usize = 32;

/// Who an ending is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    Integration(&'a str),
    /// As an ending's record says it: [`tag`] of the integration's name.
    Tag(u32),
}

/// What stands for an integration's name in the record of an ending. Two names may share one.
pub(super) fn tag(integration: &str) -> u32 {
    crc32fast::hash(integration.as_bytes())
}

/// The events of one integration at one upstream.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) integration: Arc<str>,
    tag: u32,
    pub(super) waiting: Sequences,
    pub(super) dead: BTreeMap<u64, DeadNote>,
}

#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) meter: Arc<UpstreamMeter>,
    pub(super) queues: Vec<Queue>,
    by_name: Map<Arc<str>, usize>,
    pub(super) book: UpstreamBook,
}

type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// All of it. A copy of it is what a checkpoint writes.
#[derive(Clone, Default)]
pub(super) struct Standing {
    pub(super) upstreams: Vec<Upstream>,
    /// Events that went to at least one upstream.
    pub(super) accepted: u64,
    pub(super) highest_number: u64,
    /// The newest time stamp in the log.
    pub(super) newest: Micros,
    /// The clock was set: events before this sequence are by so much younger than their stamps say.
    pub(super) jump_before: u64,
    pub(super) jump_micros: i64,
    /// Events that wait for a turn of the unknown (contracts 5.5), and some that no longer do.
    pub(super) unknown: RoaringTreemap,
    /// Where copies of events stand whose segments were to go.
    pub(super) moved: BTreeMap<u64, Position>,
    /// Endings that are owed: an event counts once for each upstream it waits for.
    waiting: u64,
    dead: u64,
}

/// The log up to a place, summed up: what a checkpoint is made of.
pub(super) struct Cut {
    pub(super) standing: Standing,
    /// Records from here on are not in it.
    pub(super) at: Position,
    pub(super) next_sequence: u64,
}

impl Upstream {
    fn queue(&mut self, integration: &str) -> &mut Queue {
        let place = match self.by_name.get(integration) {
            Some(place) => *place,
            None => {
                let integration: Arc<str> = integration.into();
                self.by_name.insert(Arc::clone(&integration), self.queues.len());
                let tag = tag(&integration);
                self.queues.push(Queue { integration, tag, waiting: Sequences::default(), dead: BTreeMap::new() });
                self.queues.len() - 1
            }
        };
        &mut self.queues[place]
    }

    /// The queue that has it: `takes` is asked of those of the integration.
    fn find(&mut self, whose: Whose<'_>, mut takes: impl FnMut(&mut Queue) -> bool) -> Option<&mut Queue> {
        match whose {
            Whose::Integration(name) => {
                let queue = self.queues.get_mut(*self.by_name.get(name)?)?;
                takes(queue).then_some(queue)
            }
            Whose::Tag(tag) => {
                self.queues.iter_mut().find_map(|queue| (queue.tag == tag && takes(queue)).then_some(queue))
            }
        }
    }
}

impl Standing {
    pub(super) fn upstream(&mut self, meter: &Arc<UpstreamMeter>) -> &mut Upstream {
        let known = self.upstreams.iter().position(|upstream| Arc::ptr_eq(&upstream.meter, meter));
        let place = known.unwrap_or_else(|| {
            self.upstreams.push(Upstream {
                meter: Arc::clone(meter),
                queues: vec![],
                by_name: Map::default(),
                book: UpstreamBook::default(),
            });
            self.upstreams.len() - 1
        });
        &mut self.upstreams[place]
    }

    /// An event was accepted for these upstreams.
    pub(super) fn accepted<'a>(
        &mut self,
        sequence: u64,
        integration: &str,
        targets: impl Iterator<Item = &'a Arc<UpstreamMeter>>,
        pacing: Pacing,
    ) {
        let mut goes_out = false;
        for meter in targets {
            let upstream = self.upstream(meter);
            if upstream.queue(integration).waiting.insert(sequence) {
                upstream.book.enqueued += 1;
                upstream.book.spool_events += 1;
                self.waiting += 1;
                goes_out = true;
            }
        }
        if goes_out {
            self.accepted += 1;
            if pacing.has(Pacing::UNKNOWN) {
                self.unknown.insert(sequence);
            }
        }
    }

    /// The event never was: its record could not be made durable.
    pub(super) fn void<'a>(
        &mut self,
        sequence: u64,
        integration: &str,
        targets: impl Iterator<Item = &'a Arc<UpstreamMeter>>,
    ) {
        let mut went_out = false;
        for meter in targets {
            let upstream = self.upstream(meter);
            if upstream.queue(integration).waiting.remove(sequence) {
                upstream.book.enqueued -= 1;
                upstream.book.spool_events -= 1;
                self.waiting -= 1;
                went_out = true;
            }
        }
        self.accepted -= u64::from(went_out);
    }

    /// An element of a batch was rejected alone: a dead letter at the intake, outside the identity of the books.
    pub(super) fn rejected(&mut self, intake: &Arc<UpstreamMeter>, integration: &str, sequence: u64, note: DeadNote) {
        self.newest = self.newest.max(note.at);
        let upstream = self.upstream(intake);
        if upstream.queue(integration).dead.insert(sequence, note).is_none() {
            upstream.book.dead_letters += 1;
            *upstream.book.dead_lettered.entry(note.reason.name()).or_default() += 1;
            self.dead += 1;
        }
    }

    /// It was not: its record could not be made durable.
    pub(super) fn void_rejected(&mut self, intake: &Arc<UpstreamMeter>, integration: &str, sequence: u64) {
        let upstream = self.upstream(intake);
        if let Some(note) = upstream.queue(integration).dead.remove(&sequence) {
            upstream.book.dead_letters -= 1;
            *upstream.book.dead_lettered.entry(note.reason.name()).or_default() -= 1;
            self.dead -= 1;
        }
    }

    /// An event ended at an upstream, or began again. One that is not in the state that this ends changes nothing:
    /// it was told before, or its event was damaged. The tag of its integration, where something changed.
    pub(super) fn ended(
        &mut self,
        meter: &Arc<UpstreamMeter>,
        whose: Whose<'_>,
        sequence: u64,
        ending: Ending,
        at: Micros,
    ) -> Option<u32> {
        self.newest = self.newest.max(at);
        let upstream = self.upstream(meter);
        let waited = |queue: &mut Queue| queue.waiting.remove(sequence);
        let was_dead_letter = |queue: &mut Queue| queue.dead.remove(&sequence).is_some();
        let tag = match ending {
            Ending::Delivered { .. } | Ending::Dropped(_) => {
                let waiting = upstream.find(whose, waited).map(|queue| queue.tag);
                let was_dead = waiting.is_none();
                let dead = || upstream.find(whose, was_dead_letter).map(|queue| queue.tag);
                let tag = waiting.or_else(dead)?;
                let book = &mut upstream.book;
                match ending {
                    Ending::Dropped(reason) => *book.dropped.entry(reason.name()).or_default() += 1,
                    _ => book.delivered += 1,
                }
                if was_dead {
                    book.dead_letters -= 1;
                    self.dead -= 1;
                } else {
                    book.spool_events -= 1;
                    self.waiting -= 1;
                }
                tag
            }
            Ending::Dead { reason, status, attempts } => {
                let queue = upstream.find(whose, waited)?;
                let tag = queue.tag;
                queue.dead.insert(sequence, DeadNote { reason, status, attempts, at });
                upstream.book.spool_events -= 1;
                upstream.book.dead_letters += 1;
                *upstream.book.dead_lettered.entry(reason.name()).or_default() += 1;
                self.waiting -= 1;
                self.dead += 1;
                tag
            }
            Ending::Replayed => {
                let queue = upstream.find(whose, was_dead_letter)?;
                let tag = queue.tag;
                queue.waiting.insert(sequence);
                upstream.book.dead_letters -= 1;
                upstream.book.spool_events += 1;
                self.waiting += 1;
                self.dead -= 1;
                tag
            }
        };
        Some(tag)
    }

    /// An event goes to another upstream instead: dropped here, enqueued there (INTERFACE 6).
    pub(super) fn reassigned(
        &mut self,
        from: &Arc<UpstreamMeter>,
        to: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        at: Micros,
    ) {
        let whose = Whose::Integration(integration);
        if self.ended(from, whose, sequence, Ending::Dropped(DropReason::Reassigned), at).is_some() {
            let upstream = self.upstream(to);
            // Where it went there as well, it still goes there once, or is a dead letter there.
            let queue = upstream.queue(integration);
            if !queue.dead.contains_key(&sequence) && queue.waiting.insert(sequence) {
                upstream.book.enqueued += 1;
                upstream.book.spool_events += 1;
                self.waiting += 1;
            }
        }
    }

    /// Puts what a checkpoint tells of a queue; the upstream's book stands already.
    pub(super) fn restore_queue(&mut self, meter: &Arc<UpstreamMeter>, integration: &str, waiting: RoaringTreemap) {
        self.waiting += waiting.len();
        let upstream = self.upstream(meter);
        upstream.book.spool_events += waiting.len();
        upstream.queue(integration).waiting = waiting.into();
    }

    pub(super) fn restore_dead(
        &mut self,
        meter: &Arc<UpstreamMeter>,
        integration: &str,
        sequence: u64,
        note: DeadNote,
    ) {
        let upstream = self.upstream(meter);
        upstream.book.dead_letters += 1;
        upstream.queue(integration).dead.insert(sequence, note);
        self.dead += 1;
    }

    /// Endings that the log still owes to waiting events.
    pub(super) fn owed(&self) -> u64 {
        self.waiting
    }

    #[cfg(test)]
    pub(super) fn dead_letters(&self) -> u64 {
        self.dead
    }

    /// Up to `count` waiting events behind `after`, not beyond `upto`, in order.
    pub(super) fn waiting_after(
        &self,
        meter: &Arc<UpstreamMeter>,
        integration: &str,
        after: u64,
        upto: u64,
        count: usize,
    ) -> Vec<u64> {
        let upstream = self.upstreams.iter().find(|upstream| Arc::ptr_eq(&upstream.meter, meter));
        let Some(queue) = upstream.and_then(|upstream| upstream.queues.get(*upstream.by_name.get(integration)?)) else {
            return vec![];
        };
        let sequences = queue.waiting.from(after.saturating_add(1));
        sequences.take_while(|sequence| *sequence <= upto).take(count).collect()
    }

    /// The newest `count` of the same, and whether those are all.
    pub(super) fn newest_waiting(&self, meter: &Arc<UpstreamMeter>, integration: &str, count: u64) -> (Vec<u64>, bool) {
        let upstream = self.upstreams.iter().find(|upstream| Arc::ptr_eq(&upstream.meter, meter));
        let Some(queue) = upstream.and_then(|upstream| upstream.queues.get(*upstream.by_name.get(integration)?)) else {
            return (vec![], true);
        };
        let before = queue.waiting.len().saturating_sub(count);
        let first = queue.waiting.select(before).unwrap_or(u64::MAX);
        (queue.waiting.from(first).collect(), before == 0)
    }

    /// Who needs the event.
    pub(super) fn needs(&self, sequence: u64) -> Vec<Need> {
        let mut needs = vec![];
        for upstream in &self.upstreams {
            let name = || Arc::clone(&upstream.meter.name);
            for queue in &upstream.queues {
                if queue.waiting.contains(sequence) {
                    needs.push(Need { upstream: name(), dead: None });
                }
                needs.extend(queue.dead.get(&sequence).map(|note| Need { upstream: name(), dead: Some(*note) }));
            }
        }
        needs
    }

    /// Whether some upstream still needs the event.
    pub(super) fn lives(&self, sequence: u64) -> bool {
        let mut queues = self.upstreams.iter().flat_map(|upstream| &upstream.queues);
        queues.any(|queue| queue.waiting.contains(sequence) || queue.dead.contains_key(&sequence))
    }

    /// Up to `count` events of a range that some upstream still needs, and that `counts` lets pass, in order, each once.
    pub(super) fn living(&self, range: &Range<u64>, count: usize, counts: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut all = vec![];
        if range.is_empty() {
            return all;
        }
        for queue in self.upstreams.iter().flat_map(|upstream| &upstream.queues) {
            let waiting = queue.waiting.from(range.start);
            let dead = queue.dead.range(range.clone()).map(|(sequence, _)| *sequence);
            let waiting = waiting.take_while(|sequence| *sequence < range.end);
            all.extend(waiting.filter(|sequence| counts(*sequence)).take(count));
            all.extend(dead.filter(|sequence| counts(*sequence)).take(count));
        }
        all.sort_unstable();
        all.dedup();
        all.truncate(count);
        all
    }

    /// The oldest event that waits for an upstream.
    pub(super) fn oldest_waiting(&self, meter: &Arc<UpstreamMeter>) -> Option<u64> {
        let upstream = self.upstreams.iter().find(|upstream| Arc::ptr_eq(&upstream.meter, meter))?;
        upstream.queues.iter().filter_map(|queue| queue.waiting.min()).min()
    }

    /// How many events of an integration wait for a turn of the unknown.
    pub(super) fn unknown_waiting(&self) -> Vec<(Arc<str>, usize)> {
        let mut counts: Vec<(Arc<str>, usize)> = vec![];
        for sequence in &self.unknown {
            let mut queues = self.upstreams.iter().flat_map(|upstream| &upstream.queues);
            let Some(queue) = queues.find(|queue| queue.waiting.contains(sequence)) else { continue };
            match counts.iter_mut().find(|(name, _)| *name == queue.integration) {
                Some((_, count)) => *count += 1,
                None => counts.push((Arc::clone(&queue.integration), 1)),
            }
        }
        counts
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn tidy(&mut self) {
        let mut moved = std::mem::take(&mut self.moved);
        moved.retain(|sequence, _| self.lives(*sequence));
        self.moved = moved;
        let waits = |sequence| {
            let mut queues = self.upstreams.iter().flat_map(|upstream| &upstream.queues);
            queues.any(|queue| queue.waiting.contains(sequence))
        };
        let over: Vec<u64> = self.unknown.iter().filter(|sequence| !waits(*sequence)).collect();
        for sequence in over {
            self.unknown.remove(sequence);
        }
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let queues = self.upstreams.iter().flat_map(|upstream| &upstream.queues);
        let sets = queues.map(|queue| queue.waiting.bytes() + queue.dead.len() * DEAD_BYTES);
        sets.sum::<usize>() + self.unknown.serialized_size() + self.moved.len() * MOVED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::outcome::DeadReason;

    const DEAD: Ending = Ending::Dead { reason: DeadReason::Refused, status: Some(422), attempts: 3 };

    struct Rig {
        standing: Standing,
        metrics: Arc<Metrics>,
    }

    impl Rig {
        fn new() -> Self {
            Self { standing: Standing::default(), metrics: Metrics::new(1).unwrap() }
        }

        fn accept(&mut self, sequence: u64, integration: &str, upstreams: &[&str]) {
            let meters: Vec<_> = upstreams.iter().map(|name| self.metrics.upstream(name)).collect();
            self.standing.accepted(sequence, integration, meters.iter(), Pacing::default());
        }

        fn end(&mut self, upstream: &str, integration: &str, sequence: u64, ending: Ending) -> bool {
            let meter = self.metrics.upstream(upstream);
            let changed =
                self.standing.ended(&meter, Whose::Tag(tag(integration)), sequence, ending, Micros(5)).is_some();
            assert!(self.standing.upstreams.iter().all(|upstream| upstream.book.balances()));
            let books = self.standing.upstreams.iter().map(|upstream| &upstream.book);
            assert_eq!(self.standing.owed(), books.clone().map(|book| book.spool_events).sum::<u64>());
            assert_eq!(self.standing.dead_letters(), books.map(|book| book.dead_letters).sum::<u64>());
            changed
        }

        fn waiting(&self, upstream: &str, integration: &str, after: u64) -> Vec<u64> {
            self.standing.waiting_after(&self.metrics.upstream(upstream), integration, after, 100, 10)
        }
    }

    #[test]
    fn an_event_waits_for_each_of_its_upstreams_until_each_has_ended_it() {
        let mut rig = Rig::new();
        (1..=3).for_each(|sequence| rig.accept(sequence, "payments", &["pager", "archive"]));
        rig.accept(4, "search", &["pager"]);
        assert_eq!(rig.standing.owed(), 7);
        assert!(rig.end("pager", "payments", 2, Ending::DELIVERED));
        assert!(!rig.end("pager", "payments", 2, Ending::DELIVERED), "told twice, counted once");
        assert!(!rig.end("pager", "search", 1, Ending::DELIVERED), "of another integration");
        assert_eq!(rig.waiting("pager", "payments", 0), [1, 3]);
        assert_eq!(rig.waiting("archive", "payments", 1), [2, 3]);
        assert_eq!(rig.waiting("pager", "search", 0), [4]);
        assert_eq!((rig.standing.accepted, rig.standing.owed()), (4, 6));
    }

    #[test]
    fn a_dead_letter_waits_again_when_replayed_and_can_be_dropped() {
        let mut rig = Rig::new();
        (1..=2).for_each(|sequence| rig.accept(sequence, "payments", &["pager"]));
        assert!(rig.end("pager", "payments", 1, DEAD) && rig.end("pager", "payments", 2, DEAD));
        assert_eq!((rig.standing.owed(), rig.standing.dead_letters()), (0, 2));
        assert!(rig.standing.lives(1));
        assert!(rig.end("pager", "payments", 1, Ending::Replayed));
        assert!(!rig.end("pager", "payments", 1, Ending::Replayed));
        assert_eq!(rig.waiting("pager", "payments", 0), [1]);
        assert!(rig.end("pager", "payments", 2, Ending::Dropped(DropReason::Operator)));
        assert!(!rig.standing.lives(2));
        assert_eq!(rig.standing.living(&(0..10), 10, |_| true), [1]);
        rig.accept(3, "payments", &["pager"]);
        assert_eq!(
            rig.standing.living(&(0..10), 1, |sequence| sequence > 1),
            [3],
            "those that do not count take no place"
        );
    }

    #[test]
    fn what_could_not_be_made_durable_leaves_no_trace() {
        let mut rig = Rig::new();
        let meter = rig.metrics.upstream("pager");
        rig.accept(1, "payments", &["pager"]);
        rig.accept(2, "payments", &["pager"]);
        rig.standing.void(2, "payments", [&meter].into_iter());
        assert_eq!(rig.waiting("pager", "payments", 0), [1]);
        assert_eq!((rig.standing.accepted, rig.standing.owed()), (1, 1));
        assert_eq!(rig.standing.upstreams[0].book.enqueued, 1);
    }

    #[test]
    fn a_reassigned_event_is_dropped_there_and_enqueued_here() {
        let mut rig = Rig::new();
        let (from, to) = (rig.metrics.upstream("old"), rig.metrics.upstream("new"));
        rig.accept(1, "payments", &["old"]);
        rig.standing.reassigned(&from, &to, "payments", 1, Micros(1));
        assert_eq!(rig.waiting("new", "payments", 0), [1]);
        assert!(rig.waiting("old", "payments", 0).is_empty());
        assert_eq!(rig.standing.upstreams[0].book.dropped, [("reassigned", 1)].into());
        assert_eq!((rig.standing.upstreams[1].book.enqueued, rig.standing.accepted), (1, 1));
    }

    #[test]
    fn ten_million_waiting_events_take_two_megabytes() {
        let mut rig = Rig::new();
        let meter = rig.metrics.upstream("pager");
        let all = RoaringTreemap::from_iter(1..=10_000_000_u64);
        rig.standing.restore_queue(&meter, "payments", all);
        assert_eq!(rig.standing.owed(), 10_000_000);
        assert!(rig.standing.bytes() < 2 << 20, "{}", rig.standing.bytes());
        assert_eq!(rig.standing.oldest_waiting(&meter), Some(1));
    }
}
