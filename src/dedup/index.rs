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

    /// Forgets every incident for which `is_gone` says so; followed ones go with the latest of their key.
    pub(super) fn retain(&mut self, is_gone: impl Fn(StateKey) -> bool) {
        for rows in self.by_number.values_mut() {
            rows.retain(|_, (iid, key)| {
                let goes = is_gone(*key);
                if goes {
                    self.by_iid.remove(iid);
                    self.latest.remove(key);
                }
                !goes
            });
        }
        self.by_number.retain(|_, rows| !rows.is_empty());
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
    fn followed_incidents_go_first_and_all_of_a_key_go_with_it() {
        let mut index = Index::default();
        [row(1, 1, 7), row(1, 2, 7), row(1, 3, 8)].into_iter().for_each(|row| index.insert(row));
        index.hold_to(2);
        assert_eq!((index.len(), index.by_number(Scope(1), 1)), (2, None));
        index.hold_to(1);
        assert_eq!(index.len(), 2, "the latest of a key never goes for room");
        index.retain(|key| key == StateKey(7));
        assert_eq!((index.len(), index.by_number(Scope(1), 2), index.by_iid(Scope(1), Uid(1002))), (1, None, None));
    }
}
