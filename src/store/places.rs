//! Where each event stands: the segments in use, and in each a mark for every so many bytes. A sequence is found
//! by reading on from the mark before it; a segment of a process before this one gets its marks as it is read.

use std::ops::Range;

use crate::event::Micros;

/// One mark for so many bytes of the log, 16 B of memory: 10 GiB take 5 MiB.
pub(super) const STEP: u32 = 32 << 10;

pub(super) struct Place {
    pub(super) id: u32,
    /// Sequences in it are not below this one.
    pub(super) first_sequence: u64,
    /// When its last record was written; `None` while it is written to.
    pub(super) sealed_at: Option<Micros>,
    /// Events in their order, no two closer than a step.
    marks: Vec<(u64, u32)>,
}

/// Ordered by id, and so by sequence.
pub(super) struct Places {
    all: Vec<Place>,
    step: u32,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: vec![], step: STEP }
    }
}

/// Where to begin looking for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl Places {
    fn index(&self, id: u32) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id, |place| place.id)
    }

    pub(super) fn began(&mut self, id: u32, first_sequence: u64, sealed_at: Option<Micros>) {
        let place = Place { id, first_sequence, sealed_at, marks: vec![] };
        match self.index(id) {
            Ok(index) => self.all[index] = place,
            Err(index) => self.all.insert(index, place),
        }
    }

    /// Nothing more is written to the segments before `id`.
    pub(super) fn sealed_before(&mut self, id: u32, at: Micros) {
        for place in self.all.iter_mut().rev().skip_while(|place| place.id >= id) {
            if place.sealed_at.is_some() {
                break;
            }
            place.sealed_at = Some(at);
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        if let Ok(index) = self.index(id) {
            self.all.remove(index);
        }
    }

    /// An event stands here. Kept when it is far enough from its neighbours.
    pub(super) fn mark(&mut self, id: u32, sequence: u64, offset: u32) {
        let step = self.step;
        let Ok(index) = self.index(id) else { return };
        let marks = &mut self.all[index].marks;
        let place = marks.partition_point(|(_, other)| *other < offset);
        let far = |other: Option<&(u64, u32)>| other.is_none_or(|(_, other)| other.abs_diff(offset) >= step);
        if far(marks.get(place)) && far(place.checked_sub(1).and_then(|before| marks.get(before))) {
            marks.insert(place, (sequence, offset));
        }
    }

    /// The place to begin looking for a sequence.
    pub(super) fn hint(&self, sequence: u64) -> Option<Hint> {
        let after = self.all.partition_point(|place| place.first_sequence <= sequence);
        let place = self.all.get(after.checked_sub(1)?)?;
        let mark = place.marks.partition_point(|(other, _)| *other <= sequence);
        let offset = mark.checked_sub(1).and_then(|mark| place.marks.get(mark)).map_or(0, |(_, offset)| *offset);
        Some(Hint { segment: place.id, offset })
    }

    /// Sequences in a segment are below this one.
    pub(super) fn end(&self, id: u32) -> u64 {
        let next = self.index(id).map_or_else(|index| index, |index| index + 1);
        self.all.get(next).map_or(u64::MAX, |place| place.first_sequence)
    }

    /// Every segment with the sequences that may stand in it, oldest first.
    pub(super) fn ranges(&self) -> Vec<(u32, Range<u64>, Option<Micros>)> {
        let next = self.all.iter().skip(1).map(|place| place.first_sequence).chain([u64::MAX]);
        self.all.iter().zip(next).map(|(place, end)| (place.id, place.first_sequence..end, place.sealed_at)).collect()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.all.iter().map(|place| size_of::<Place>() + place.marks.capacity() * size_of::<(u64, u32)>()).sum()
    }

    /// Halves the marks: looking takes longer, memory less. False: there are none.
    pub(super) fn thin(&mut self) -> bool {
        self.step = self.step.saturating_mul(2);
        for place in &mut self.all {
            let mut keep = false;
            place.marks.retain(|_| {
                keep = !keep;
                keep
            });
            place.marks.shrink_to_fit();
        }
        self.all.iter().any(|place| place.marks.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let mut places = Places::default();
        places.began(1, 1, None);
        places.began(2, 100, None);
        // Endings alone.
        places.began(3, 200, None);
        places.began(4, 200, None);
        places
    }

    #[test]
    fn an_event_is_looked_for_behind_the_mark_before_it() {
        let mut places = places();
        assert_eq!(places.hint(99), Some(Hint { segment: 1, offset: 0 }));
        places.mark(2, 100, 8192);
        places.mark(2, 110, 8192 + STEP - 8);
        places.mark(2, 120, 8192 + STEP);
        assert_eq!(places.hint(119), Some(Hint { segment: 2, offset: 8192 }), "110 is too close for a mark");
        assert_eq!(places.hint(130), Some(Hint { segment: 2, offset: 8192 + STEP }));
        assert_eq!(places.hint(200), Some(Hint { segment: 4, offset: 0 }), "the later of two that begin alike");
        assert_eq!(places.hint(0), None);
        assert_eq!([1, 2, 3, 4].map(|id| places.end(id)), [100, 200, 200, u64::MAX]);
        places.thin();
        assert_eq!(places.hint(130), Some(Hint { segment: 2, offset: 8192 }));
    }

    #[test]
    fn a_segment_is_sealed_when_the_next_is_written() {
        let mut places = places();
        places.sealed_before(3, Micros(5));
        places.sealed_before(4, Micros(6));
        let sealed: Vec<_> = places.ranges().into_iter().map(|(_, _, at)| at).collect();
        assert_eq!(sealed, [Some(Micros(5)), Some(Micros(5)), Some(Micros(6)), None]);
        places.remove(2);
        assert_eq!(
            places.ranges().into_iter().map(|(_, range, _)| range).collect::<Vec<_>>(),
            [1..200, 200..200, 200..u64::MAX]
        );
    }
}
