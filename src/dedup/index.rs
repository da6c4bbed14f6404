//! Incidents by id: what dialects whose senders address incidents by number or id look them up in. One row an incident
//! of such a dialect, by its scope, so that an id of one integration never reaches another's. Counted apart from the keys.

use std::collections::{BTreeMap, HashMap};

use crate::claim::{ById, Scope};
use crate::event::{StateKey, Uid};

/// All rows.
#[derive(Default)]
pub(super) struct Index {
    by_number: HashMap<Scope, BTreeMap<u64, (Uid, StateKey)>, foldhash::fast::RandomState>,
    by_iid: HashMap<Uid, (Scope, u64), foldhash::fast::RandomState>,
    /// A key's latest incident: the others were followed by it.
    latest: HashMap<StateKey, u64, foldhash::fast::RandomState>,
}

impl Index {
    pub(super) fn insert(&mut self, row: ById) {
        let ById { scope, number, iid, key } = row;
        self.by_iid.insert(iid, (scope, number));
        self.by_number.entry(scope).or_default().insert(number, (iid, key));
        self.latest.entry(key).and_modify(|latest| *latest = number.max(*latest)).or_insert(number);
    }

    /// An incident that never was; `before`: the number of its key's incident before it.
    pub(super) fn remove(&mut self, iid: Uid, before: Option<u64>) {
        let Some((scope, number)) = self.by_iid.remove(&iid) else { return };
        let Some((_, key)) = self.by_number.get_mut(&scope).and_then(|rows| rows.remove(&number)) else { return };
        match before {
            Some(before) => self.latest.insert(key, before),
            None => self.latest.remove(&key),
        };
    }

    pub(super) fn by_number(&self, scope: Scope, number: u64) -> Option<ById> {
        let (iid, key) = *self.by_number.get(&scope)?.get(&number)?;
        Some(ById { scope, number, iid, key })
    }

    pub(super) fn by_iid(&self, scope: Scope, iid: Uid) -> Option<ById> {
        let (owner, number) = *self.by_iid.get(&iid)?;
        if owner != scope {
            return None;
        }
        self.by_number(scope, number)
    }

    /// Of whatever scope.
    pub(super) fn of_iid(&self, iid: Uid) -> Option<ById> {
        let (scope, number) = *self.by_iid.get(&iid)?;
        self.by_number(scope, number)
    }

    /// At most `count` rows with numbers below `before`, the highest first.
    pub(super) fn list(&self, scope: Scope, before: u64, count: usize) -> Vec<ById> {
        let Some(rows) = self.by_number.get(&scope) else { return Vec::new() };
        let row =
            |(number, (iid, key)): (&u64, &(Uid, StateKey))| ById { scope, number: *number, iid: *iid, key: *key };
        rows.range(..before).rev().take(count).map(row).collect()
    }

    pub(super) fn count(&self, scope: Scope) -> usize {
        self.by_number.get(&scope).map_or(0, BTreeMap::len)
    }

    pub(super) fn len(&self) -> usize {
        self.by_iid.len()
    }

    pub(super) fn each(&self, visit: &mut dyn FnMut(ById)) {
        for (scope, rows) in &self.by_number {
            rows.iter()
                .for_each(|(number, (iid, key))| visit(ById { scope: *scope, number: *number, iid: *iid, key: *key }));
        }
    }

    pub(super) fn scopes(&self) -> Vec<Scope> {
        self.by_number.keys().copied().collect()
    }

    /// At most `count` rows of a scope with numbers from `from` on, the lowest first.
    pub(super) fn some(&self, (scope, from): (Scope, u64), count: usize) -> Vec<ById> {
        let rows = self.by_number.get(&scope).into_iter().flat_map(|rows| rows.range(from..));
        rows.take(count).map(|(&number, &(iid, key))| ById { scope, number, iid, key }).collect()
    }

    /// Forgets rows, as far as they are there.
    pub(super) fn forget(&mut self, gone: impl Iterator<Item = ById>) {
        for ById { scope, number, iid, key } in gone {
            let Some(rows) = self.by_number.get_mut(&scope) else { continue };
            if rows.remove(&number).is_none() {
                continue;
            }
            if rows.is_empty() {
                self.by_number.remove(&scope);
            }
            self.by_iid.remove(&iid);
            // Another incident of the key may have come meanwhile.
            if self.latest.get(&key) == Some(&number) {
                self.latest.remove(&key);
            }
        }
    }

    /// Past `max` rows those go first that another incident of their key followed, the oldest first.
    pub(super) fn hold_to(&mut self, max: usize) {
        let mut over = self.len().saturating_sub(max);
        for rows in self.by_number.values_mut() {
            let followed = rows.iter().filter(|(number, (_, key))| self.latest.get(key) != Some(number));
            let numbers: Vec<u64> = followed.map(|(number, _)| *number).take(over).collect();
            for number in numbers {
                if let Some((iid, _)) = rows.remove(&number) {
                    self.by_iid.remove(&iid);
                    over -= 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scope: u64, number: u64, key: u128) -> ById {
        ById { scope: Scope(scope), number, iid: Uid(u128::from(number) + 1000), key: StateKey(key) }
    }

    #[test]
    fn an_id_of_one_scope_is_unknown_in_another() {
        let mut index = Index::default();
        index.insert(row(1, 1024, 7));
        assert_eq!(index.by_number(Scope(1), 1024), Some(row(1, 1024, 7)));
        assert_eq!(index.by_iid(Scope(1), Uid(2024)), Some(row(1, 1024, 7)));
        assert_eq!(index.by_number(Scope(2), 1024), None);
        assert_eq!(index.by_iid(Scope(2), Uid(2024)), None);
    }

    #[test]
    fn the_newest_are_listed_first_below_a_number() {
        let mut index = Index::default();
        (1..=5).for_each(|number| index.insert(row(1, number, u128::from(number))));
        let numbers =
            |before, count| index.list(Scope(1), before, count).iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!(numbers(u64::MAX, 2), [5, 4]);
        assert_eq!(numbers(4, 9), [3, 2, 1]);
        assert_eq!(index.count(Scope(1)), 5);
    }

    #[test]
    fn rows_are_looked_at_some_at_a_time_and_each_once() {
        let mut index = Index::default();
        (1..=10).for_each(|number| index.insert(row(1, number, u128::from(number))));
        let numbers = |rows: Vec<ById>| rows.into_iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!(numbers(index.some((Scope(1), 0), 4)), [1, 2, 3, 4]);
        assert_eq!(numbers(index.some((Scope(1), 9), 4)), [9, 10]);
        assert!(index.some((Scope(2), 0), 4).is_empty());
        index.forget((1..=10).filter(|number| number % 2 == 0).map(|number| row(1, number, u128::from(number))));
        assert_eq!((index.scopes(), index.len()), (vec![Scope(1)], 5));
        // Looked at before another incident of the key came.
        index.insert(row(1, 11, 9));
        index.forget([row(1, 9, 9), row(1, 9, 9)].into_iter());
        index.hold_to(0);
        assert!(index.by_number(Scope(1), 11).is_some(), "the latest of a key never goes for room");
        index.forget((1..=11).map(|number| row(1, number, u128::from(number))));
        assert!(index.scopes().is_empty() && index.len() == 0);
    }

    #[test]
    fn followed_incidents_go_first_and_all_of_a_key_go_with_it() {
        let mut index = Index::default();
        [row(1, 1, 7), row(1, 2, 7), row(1, 3, 8)].into_iter().for_each(|row| index.insert(row));
        index.hold_to(2);
        assert_eq!((index.len(), index.by_number(Scope(1), 1)), (2, None));
        index.hold_to(1);
        assert_eq!(index.len(), 2, "the latest of a key never goes for room");
        index.forget([row(1, 2, 7)].into_iter());
        assert_eq!((index.len(), index.by_number(Scope(1), 2), index.by_iid(Scope(1), Uid(1002))), (1, None, None));
    }
}
