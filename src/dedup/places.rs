//! Where the rows of a shard are, by 32 bits of their keys: 8 bytes a slot, probed in line, so that a look-up touches
//! one line of the processor's cache, known key or not. (A table that keeps its control bytes apart touches two.)

/// Fewest slots that memory is taken for.
const SLOTS_MIN: usize = 8;

/// A slot: 0, or the tag above the row's number plus 1.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Self = Self(0);

    fn new(tag: u32, row: u32) -> Self {
        // No memory holds so many rows.
        Self(u64::from(tag) << 32 | u64::from(row.saturating_add(1)))
    }

    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn row(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }
}

/// At most four in five slots are taken.
pub(super) struct Places {
    /// A power of two, or none.
    slots: Vec<Slot>,
    taken: usize,
    /// Odd, and this process's own: nobody can choose keys that meet here.
    mix: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self { slots: Vec::new(), taken: 0, mix: fastrand::u64(..) | 1 }
    }
}

impl Places {
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.slots.len().wrapping_sub(1)
    }

    /// Where a tag's slot would be if no other stood there.
    fn home(&self, tag: u32) -> usize {
        (u64::from(tag).wrapping_mul(self.mix) >> 32) as usize & self.slots.len().wrapping_sub(1)
    }

    fn slot_of(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(tag);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == Slot::EMPTY {
                return None;
            }
            if slot.tag() == tag && is_it(slot.row()) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// The row with that tag that is the one.
    pub(super) fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.slot_of(tag, is_it)?;
        self.slots.get(at).map(|slot| slot.row())
    }

    /// Puts a row that is not there.
    pub(super) fn insert(&mut self, tag: u32, row: u32) {
        if self.taken >= self.slots.len() / 5 * 4 {
            self.grow();
        }
        self.taken += 1;
        self.put(Slot::new(tag, row));
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag());
        while self.slots.get(at).is_some_and(|slot| *slot != Slot::EMPTY) {
            at = self.after(at);
        }
        if let Some(free) = self.slots.get_mut(at) {
            *free = slot;
        }
    }

    fn grow(&mut self) {
        let more = vec![Slot::EMPTY; (self.slots.len() * 2).max(SLOTS_MIN)];
        let less = std::mem::replace(&mut self.slots, more);
        less.into_iter().filter(|slot| *slot != Slot::EMPTY).for_each(|slot| self.put(slot));
    }

    pub(super) fn remove(&mut self, tag: u32, row: u32) {
        let Some(mut hole) = self.slot_of(tag, |other| other == row) else { return };
        // Those behind it that would no longer be found move up.
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.after(hole);
        while let Some(&slot) = self.slots.get(at).filter(|slot| **slot != Slot::EMPTY) {
            let from_home = at.wrapping_sub(self.home(slot.tag())) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = Slot::EMPTY;
        self.taken -= 1;
    }

    /// Tag and row of each, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.slots.iter().filter(|slot| **slot != Slot::EMPTY).map(|slot| (slot.tag(), slot.row()))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few tags: slots meet, runs go round the end, holes are closed in all their ways.
        #[test]
        fn places_hold_what_a_set_holds(
            mix in any::<u64>(),
            steps in prop::collection::vec((any::<bool>(), 0u32..6, 0u32..40), 0..300),
        ) {
            let mut places = Places { mix: mix | 1, ..Places::default() };
            let mut set = BTreeSet::new();
            for (goes, tag, row) in steps {
                let tag = tag.wrapping_mul(0x9e37_79b9);
                if goes {
                    places.remove(tag, row);
                    set.remove(&(tag, row));
                } else if set.insert((tag, row)) {
                    places.insert(tag, row);
                }
                prop_assert_eq!(places.find(tag, |other| other == row).is_some(), set.contains(&(tag, row)));
                prop_assert_eq!(places.iter().collect::<BTreeSet<_>>(), set.clone());
            }
            for (tag, row) in &set {
                prop_assert_eq!(places.find(*tag, |other| other == *row), Some(*row));
            }
        }
    }
}
