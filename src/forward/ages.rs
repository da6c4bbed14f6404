//! How old the oldest waiting event of an upstream is, without a time stamp an event: events are counted
//! in marks of about a second, found again by their sequence.

use std::collections::VecDeque;

use crate::event::Micros;

/// Marks kept, 24 B each; when they are all used, neighbours are joined and the answer gets coarser.
const MARKS_MAX: usize = 4096;
const MARK_MICROS: i64 = 1_000_000;

#[derive(Clone, Copy)]
struct Mark {
    first_sequence: u64,
    since: Micros,
    waiting: u32,
}

#[derive(Default)]
pub(super) struct Ages {
    marks: VecDeque<Mark>,
}

impl Ages {
    /// An event that came at about `since` waits. Sequences that are not the newest join the mark they fall into.
    pub(super) fn add(&mut self, sequence: u64, since: Micros) {
        let place = self.marks.partition_point(|mark| mark.first_sequence <= sequence);
        let fresh = Mark { first_sequence: sequence, since, waiting: 1 };
        let is_newest = place == self.marks.len();
        match place.checked_sub(1).and_then(|index| self.marks.get_mut(index)) {
            None => self.marks.push_front(fresh),
            Some(mark) if !is_newest || since.0 - mark.since.0 < MARK_MICROS => mark.waiting += 1,
            Some(_) => self.marks.push_back(fresh),
        }
        if self.marks.len() > MARKS_MAX {
            self.join_neighbours();
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let place = self.marks.partition_point(|mark| mark.first_sequence <= sequence);
        if let Some(mark) = place.checked_sub(1).and_then(|index| self.marks.get_mut(index)) {
            mark.waiting = mark.waiting.saturating_sub(1);
        }
        while self.marks.front().is_some_and(|mark| mark.waiting == 0) {
            self.marks.pop_front();
        }
    }

    /// When the oldest waiting event came, within a second in the usual case.
    pub(super) fn oldest(&self) -> Option<Micros> {
        self.marks.front().map(|mark| mark.since)
    }

    fn join_neighbours(&mut self) {
        let marks: Vec<Mark> = self.marks.drain(..).collect();
        self.marks = marks
            .chunks(2)
            .filter_map(|pair| {
                let first = pair.first()?;
                Some(Mark { waiting: pair.iter().map(|mark| mark.waiting).sum(), ..*first })
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_known_whatever_order_events_end_in() {
        let mut ages = Ages::default();
        for second in 0..10_i64 {
            for event in 0..3_u64 {
                ages.add(u64::try_from(second).unwrap() * 3 + event, Micros(second * MARK_MICROS));
            }
        }
        [1, 4, 3, 5, 0].into_iter().for_each(|sequence| ages.remove(sequence));
        assert_eq!(ages.oldest(), Some(Micros(0)), "2 still waits");
        ages.remove(2);
        assert_eq!(ages.oldest(), Some(Micros(2 * MARK_MICROS)));
        (6..30).for_each(|sequence| ages.remove(sequence));
        assert_eq!(ages.oldest(), None);
    }

    #[test]
    fn memory_stays_bounded_and_nothing_is_forgotten() {
        let mut ages = Ages::default();
        let count = 3 * u64::try_from(MARKS_MAX).unwrap();
        for sequence in 0..count {
            ages.add(sequence, Micros(i64::try_from(sequence).unwrap() * MARK_MICROS));
        }
        assert!(ages.marks.len() <= MARKS_MAX);
        assert_eq!(ages.oldest(), Some(Micros(0)));
        (0..count).for_each(|sequence| ages.remove(sequence));
        assert_eq!(ages.oldest(), None);
    }
}
