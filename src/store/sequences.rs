//! A set of sequences in little memory, made for a queue: nearly all come in order, and most leave while they are among
//! the newest. So the newest stand in a short list, and what is compressed behind it is touched once for many.

use std::borrow::Cow;
use std::collections::VecDeque;

use roaring::RoaringTreemap;

/// The list's length: what it costs to find the end of the set is paid once for so many, and what is under way to an upstream
/// that keeps up never gets there.
const NEWEST_MAX: usize = 1024;
/// Kept of it where nothing waits: a process may have many queues.
const NEWEST_KEPT: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Sequences {
    set: RoaringTreemap,
    /// Ascending, and above all that the set ever held.
    newest: VecDeque<u64>,
    highest: u64,
}

impl From<RoaringTreemap> for Sequences {
    fn from(set: RoaringTreemap) -> Self {
        let highest = set.max().unwrap_or(0);
        Self { set, newest: VecDeque::new(), highest }
    }
}

impl PartialEq for Sequences {
    fn eq(&self, other: &Self) -> bool {
        self.whole() == other.whole()
    }
}

impl Sequences {
    /// Whether it was not there.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        if sequence <= self.highest {
            return !self.newest.contains(&sequence) && self.insert_late(sequence);
        }
        if self.newest.len() == NEWEST_MAX {
            self.put_away();
        }
        self.highest = sequence;
        self.newest.push_back(sequence);
        true
    }

    fn insert_late(&mut self, sequence: u64) -> bool {
        self.put_away();
        self.set.insert(sequence)
    }

    fn put_away(&mut self) {
        // Behind the last one, without a search for each.
        let behind = self.set.append(self.newest.iter().copied());
        debug_assert!(behind.is_ok(), "what is newest stands above the set");
        if behind.is_err() {
            self.set.extend(self.newest.iter().copied());
        }
        self.newest.clear();
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, sequence: u64) -> bool {
        // Most leave in the order in which they came.
        let is_first = self.newest.front() == Some(&sequence);
        match if is_first { Ok(0) } else { self.newest.binary_search(&sequence) } {
            Ok(place) => {
                self.newest.remove(place);
                if self.newest.is_empty() {
                    self.newest.shrink_to(NEWEST_KEPT);
                }
                true
            }
            Err(_) => self.set.remove(sequence),
        }
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.newest.binary_search(&sequence).is_ok() || self.set.contains(sequence)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty() && self.set.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.set.len() + self.newest.len() as u64
    }

    pub(super) fn min(&self) -> Option<u64> {
        self.set.min().or_else(|| self.newest.front().copied())
    }

    /// The one that has so many before it.
    pub(super) fn select(&self, before: u64) -> Option<u64> {
        self.set.select(before).or_else(|| {
            let place = usize::try_from(before.checked_sub(self.set.len())?).ok()?;
            self.newest.get(place).copied()
        })
    }

    /// Those that are not below `first`, in order.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = u64> {
        let mut set = self.set.iter();
        set.advance_to(first);
        set.chain(self.newest.iter().copied().filter(move |sequence| *sequence >= first))
    }

    /// The whole as one set.
    pub(super) fn whole(&self) -> Cow<'_, RoaringTreemap> {
        if self.newest.is_empty() {
            return Cow::Borrowed(&self.set);
        }
        let mut whole = self.set.clone();
        whole.extend(self.newest.iter().copied());
        Cow::Owned(whole)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.set.serialized_size() + self.newest.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            steps in prop::collection::vec((0u8..11, 0u64..60), 0..200),
            from in 0u64..60,
        ) {
            let (mut sequences, mut set, mut next) = (Sequences::default(), BTreeSet::new(), 0);
            for (step, any) in steps {
                match step {
                    0..=4 => {
                        next += 1;
                        prop_assert_eq!(sequences.insert(next), set.insert(next));
                    }
                    5 => prop_assert_eq!(sequences.insert(any), set.insert(any)),
                    // More than the list holds.
                    10 => {
                        for _ in 0..NEWEST_MAX / 2 {
                            next += 1;
                            prop_assert_eq!(sequences.insert(next), set.insert(next));
                        }
                    }
                    6 => {
                        sequences = sequences.whole().into_owned().into();
                    }
                    _ => {
                        let any = next.max(60) * any / 60;
                        prop_assert_eq!(sequences.remove(any), set.remove(&any));
                    }
                }
                prop_assert_eq!(sequences.len(), set.len() as u64);
                prop_assert_eq!(sequences.is_empty(), set.is_empty());
                prop_assert_eq!(sequences.min(), set.first().copied());
                prop_assert_eq!(sequences.contains(any), set.contains(&any));
                let place = usize::try_from(any).unwrap();
                prop_assert_eq!(sequences.select(any), set.iter().nth(place).copied());
            }
            let whole: Vec<u64> = sequences.whole().iter().collect();
            prop_assert_eq!(&whole, &set.iter().copied().collect::<Vec<_>>());
            let (rest, all): (Vec<_>, Vec<_>) = (sequences.from(from).collect(), set.range(from..).copied().collect());
            prop_assert_eq!(rest, all);
        }
    }
}
