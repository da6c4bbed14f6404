//! The sharded table of states. A shard holds small slots (`places`), and the states in rows, in order of arrival: a new
//! key touches one line of the slots and the row behind the last one, and growing moves slots alone. Measured beside
//! `dashmap`: 64 B a row and 10 to 20 B of slots a key, against 75 to 150 B (docs/decisions).
//!
//! What a row leaves out (first seen: in the iid's own time stamp) is had from the log.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::places::Places;
use super::shared::Order;
use crate::claim::{Position, REPLAY_GENERATION, Seat};
use crate::event::{Incident, Micros, Severity, State, StateKey, Uid};

/// So many that a shard's growth stalls few requests, and these not for long; so few that the ends of their rows stay in
/// the processor's cache, and the next row is there when a new key comes.
const SHARDS: usize = 64;
/// Rows that memory is taken for at once.
const CHUNK: usize = 64;

#[derive(Clone, Copy)]
struct Row {
    key: StateKey,
    entry: Entry,
}

impl Row {
    /// No key is 0: it is a hash.
    const FREE: Self = Self { key: StateKey(0), entry: Entry::ABSENT };
}

#[derive(Default)]
struct Shard {
    places: Places,
    chunks: Vec<Vec<Row>>,
    /// Rows that were given up, to be used again.
    free: Vec<u32>,
}

impl Shard {
    fn row(&self, row: u32) -> &Row {
        let row = row as usize;
        &self.chunks[row / CHUNK][row % CHUNK]
    }

    fn row_mut(&mut self, row: u32) -> &mut Row {
        let row = row as usize;
        &mut self.chunks[row / CHUNK][row % CHUNK]
    }

    fn find(&self, key: StateKey) -> Option<u32> {
        self.places.find(tag(key), |row| self.row(row).key == key)
    }

    fn insert(&mut self, key: StateKey, entry: Entry) -> u32 {
        let new = Row { key, entry };
        let row = if let Some(row) = self.free.pop() {
            *self.row_mut(row) = new;
            row
        } else {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let before = (self.chunks.len() - 1) * CHUNK;
            let chunk = &mut self.chunks[before / CHUNK];
            chunk.push(new);
            // More rows than any memory holds in one shard of 256.
            u32::try_from(before + chunk.len() - 1).unwrap_or(u32::MAX)
        };
        self.places.insert(tag(key), row);
        row
    }

    fn remove(&mut self, key: StateKey) -> Option<Entry> {
        let row = self.find(key)?;
        self.places.remove(tag(key), row);
        self.free.push(row);
        // Nobody's: a seat that is held no longer must not be taken for one.
        Some(std::mem::replace(self.row_mut(row), Row::FREE).entry)
    }
}

/// A state key is a hash already: parts of it serve.
fn tag(key: StateKey) -> u32 {
    key.0 as u32
}

fn shard(key: StateKey) -> usize {
    (key.0 >> 120) as usize % SHARDS
}

pub(super) struct Table(Box<[Mutex<Shard>]>);

/// A key's place, with its shard locked. Never held over an `.await`.
pub(super) enum Slot<'a> {
    Occupied(Occupied<'a>),
    Vacant(Vacant<'a>),
}

pub(super) struct Occupied<'a> {
    shard: MutexGuard<'a, Shard>,
    row: u32,
}

pub(super) struct Vacant<'a> {
    shard: MutexGuard<'a, Shard>,
    key: StateKey,
}

impl Deref for Occupied<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.shard.row(self.row).entry
    }
}

impl DerefMut for Occupied<'_> {
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.shard.row_mut(self.row).entry
    }
}

impl Occupied<'_> {
    pub(super) fn seat(&self) -> Seat {
        Seat { key: self.shard.row(self.row).key, row: self.row }
    }

    pub(super) fn remove(mut self) {
        let key = self.shard.row(self.row).key;
        self.shard.remove(key);
    }
}

impl<'a> Vacant<'a> {
    pub(super) fn insert(mut self, entry: Entry) -> Occupied<'a> {
        let row = self.shard.insert(self.key, entry);
        Occupied { shard: self.shard, row }
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.0[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn entry(&self, key: StateKey) -> Slot<'_> {
        let shard = self.lock(shard(key));
        match shard.find(key) {
            Some(row) => Slot::Occupied(Occupied { shard, row }),
            None => Slot::Vacant(Vacant { shard, key }),
        }
    }

    pub(super) fn get_mut(&self, key: StateKey) -> Option<Occupied<'_>> {
        match self.entry(key) {
            Slot::Occupied(slot) => Some(slot),
            Slot::Vacant(_) => None,
        }
    }

    /// The state of a claimed key, which stays in its row: it is not looked up.
    pub(super) fn seated(&self, Seat { key, row }: Seat) -> Option<Occupied<'_>> {
        let shard = self.lock(shard(key));
        let is_there = shard.chunks.get(row as usize / CHUNK).and_then(|chunk| chunk.get(row as usize % CHUNK));
        is_there.is_some_and(|there| there.key == key).then_some(Occupied { shard, row })
    }

    pub(super) fn get(&self, key: StateKey) -> Option<Entry> {
        self.get_mut(key).map(|entry| *entry)
    }

    pub(super) fn remove_if(&self, key: StateKey, goes: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let mut shard = self.lock(shard(key));
        let row = shard.find(key)?;
        if goes(&shard.row(row).entry) { shard.remove(key) } else { None }
    }

    /// Looks at every entry, one shard locked at a time, and keeps those that `keep` says.
    pub(super) fn retain(&self, mut keep: impl FnMut(StateKey, &mut Entry) -> bool) {
        for number in 0..self.0.len() {
            let Shard { places, chunks, free } = &mut *self.lock(number);
            let mut leaves = |&(_, row): &(u32, u32)| {
                let row = row as usize;
                let Row { key, entry } = &mut chunks[row / CHUNK][row % CHUNK];
                !keep(*key, entry)
            };
            let gone: Vec<(u32, u32)> = places.iter().filter(|place| leaves(place)).collect();
            for (tag, row) in gone {
                places.remove(tag, row);
                chunks[row as usize / CHUNK][row as usize % CHUNK] = Row::FREE;
                free.push(row);
            }
        }
    }

    /// Bytes of memory taken, used or not.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let of = |shard: &Shard| {
            let rows = shard.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Row>()).sum::<usize>();
            let lists = shard.chunks.capacity() * size_of::<Vec<Row>>() + shard.free.capacity() * size_of::<u32>();
            shard.places.bytes() + rows + lists + size_of::<Mutex<Shard>>()
        };
        (0..self.0.len()).map(|number| of(&self.lock(number))).sum()
    }

    /// Gives every entry while nothing is locked: one shard is copied at a time.
    pub(super) fn each(&self, mut visit: impl FnMut(StateKey, Entry)) {
        let mut some = Vec::new();
        for number in 0..self.0.len() {
            {
                let shard = self.lock(number);
                some.extend(shard.places.iter().map(|(_, row)| *shard.row(row)));
            }
            some.drain(..).for_each(|Row { key, entry }| visit(key, entry));
        }
    }
}

/// A key's state, packed.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    iid: [u64; 2],
    /// Bits 0..53 the number, 53..55 the state (0: absent), 55..58 the severity (0: none), then the flags.
    bits: u64,
    pub(super) at: Position,
    count: u32,
    generation: u32,
    last_seen_s: u32,
    changed_at_s: u32,
}

const STATE_SHIFT: u32 = 53;
const SEVERITY_SHIFT: u32 = 55;
const NUMBER_MASK: u64 = (1 << STATE_SHIFT) - 1;

/// A flag of an entry.
#[derive(Clone, Copy)]
pub(super) struct Flag(u64);

/// A claim lives on the key.
pub(super) const IN_FLIGHT: Flag = Flag(1 << 58);
/// Requests wait in the key's line.
pub(super) const HAS_LINE: Flag = Flag(1 << 59);
/// Somewhere the generation's trigger is a dead letter.
pub(super) const UNDELIVERED: Flag = Flag(1 << 60);
/// Seen again since the log was told.
pub(super) const TOUCHED: Flag = Flag(1 << 61);
/// The key creates once (contracts 5.3).
pub(super) const CREATES_ONCE: Flag = Flag(1 << 62);
/// Somebody waits for the delivery of the event that made the state.
pub(super) const AWAITED: Flag = Flag(1 << 63);

impl Entry {
    /// A key that is claimed for the first time.
    pub(super) const ABSENT: Self =
        Self { iid: [0; 2], bits: 0, at: Position(0), count: 0, generation: 0, last_seen_s: 0, changed_at_s: 0 };

    pub(super) fn has(&self, flag: Flag) -> bool {
        self.bits & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.bits |= flag.0;
        } else {
            self.bits &= !flag.0;
        }
    }

    pub(super) fn state(&self) -> Option<State> {
        State::from_code((self.bits >> STATE_SHIFT & 0b11) as u8)
    }

    /// A tombstone of an unknown resolve.
    pub(super) fn is_unknown(&self) -> bool {
        self.state() == Some(State::Resolved) && self.generation == 0
    }

    /// It stands for a transport's own id, and for no incident.
    pub(super) fn is_replay(&self) -> bool {
        self.generation == REPLAY_GENERATION && self.state() == Some(State::Resolved)
    }

    /// When its incident came to be.
    pub(super) fn made_at_s(&self) -> u32 {
        Uid(u128::from(self.iid[0]) << 64 | u128::from(self.iid[1])).made_at().seconds()
    }

    pub(super) fn last_seen_s(&self) -> u32 {
        self.last_seen_s
    }

    pub(super) fn changed_at_s(&self) -> u32 {
        self.changed_at_s
    }

    /// When it changed last, as far as a row says so.
    pub(super) fn order(&self) -> Order {
        Order(Micros::from_seconds(self.changed_at_s).0)
    }

    /// Puts what a later record tells of the same incident.
    pub(super) fn touch(&mut self, count: u32, last_seen: Micros) {
        self.count = self.count.max(count);
        self.last_seen_s = self.last_seen_s.max(last_seen.seconds());
    }

    /// Its stamps stand in a clock that has jumped by so much since.
    pub(super) fn shift(&mut self, seconds: u32) {
        self.last_seen_s = self.last_seen_s.saturating_add(seconds);
        self.changed_at_s = self.changed_at_s.saturating_add(seconds);
    }

    /// `None` while the key is claimed for the first time.
    pub(super) fn incident(&self) -> Option<Incident> {
        Some(Incident {
            iid: Uid(u128::from(self.iid[0]) << 64 | u128::from(self.iid[1])),
            number: self.bits & NUMBER_MASK,
            generation: self.generation,
            state: self.state()?,
            severity: Severity::new((self.bits >> SEVERITY_SHIFT & 0b111) as u8),
            count: self.count,
            last_seen: Micros::from_seconds(self.last_seen_s),
            changed_at: Micros::from_seconds(self.changed_at_s),
        })
    }

    /// As before the key was first claimed; the flags stay, but those of the incident.
    pub(super) fn clear(&mut self) {
        self.bits &= IN_FLIGHT.0 | HAS_LINE.0;
        *self = Self { bits: self.bits, ..Self::ABSENT };
    }

    /// Puts the incident; the flags stay.
    pub(super) fn put(&mut self, incident: &Incident) {
        let flags = self.bits & (IN_FLIGHT.0 | HAS_LINE.0 | UNDELIVERED.0 | TOUCHED.0 | CREATES_ONCE.0 | AWAITED.0);
        let severity = incident.severity.map_or(0, Severity::level);
        self.iid = [(incident.iid.0 >> 64) as u64, incident.iid.0 as u64];
        self.bits = incident.number & NUMBER_MASK
            | (incident.state as u64) << STATE_SHIFT
            | u64::from(severity) << SEVERITY_SHIFT
            | flags;
        self.count = incident.count;
        self.generation = incident.generation;
        self.last_seen_s = incident.last_seen.seconds();
        self.changed_at_s = incident.changed_at.seconds();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_64_bytes() {
        assert_eq!(size_of::<Row>(), 64);
    }

    fn entry(number: u32) -> Entry {
        Entry { generation: number, ..Entry::ABSENT }
    }

    fn all(table: &Table) -> BTreeMap<StateKey, u32> {
        let mut all = BTreeMap::new();
        table.each(|key, entry| assert_eq!(all.insert(key, entry.generation), None, "twice"));
        all
    }

    proptest! {
        /// Keys that share a shard, a tag, or both. What has gone has no seat, whoever has its row since.
        #[test]
        fn a_table_holds_what_a_map_holds(steps in prop::collection::vec((0u8..4, 0u128..8, 0u128..4, any::<u32>()), 0..400)) {
            let table = Table::new();
            let (mut map, mut seats) = (BTreeMap::new(), BTreeMap::new());
            for (step, low, high, number) in steps {
                let key = StateKey(high << 118 | 1 << 60 | (low / 2) << 40 | (low % 2));
                match step {
                    0 | 1 => {
                        match table.entry(key) {
                            Slot::Occupied(mut slot) => slot.generation = number,
                            Slot::Vacant(slot) => {
                                seats.insert(key, slot.insert(entry(number)).seat());
                            }
                        }
                        map.insert(key, number);
                    }
                    2 => {
                        let removed = table.remove_if(key, |entry| entry.generation % 3 > 0);
                        let expected = map.get(&key).copied().filter(|number| number % 3 > 0);
                        prop_assert_eq!(removed.map(|entry| entry.generation), expected);
                        if expected.is_some() {
                            map.remove(&key);
                        }
                    }
                    _ => {
                        table.retain(|other, entry| other.0 % 2 == key.0 % 2 || entry.generation % 2 == 0);
                        map.retain(|other: &StateKey, number| other.0 % 2 == key.0 % 2 || *number % 2 == 0);
                    }
                }
                prop_assert_eq!(table.get(key).map(|entry| entry.generation), map.get(&key).copied());
                for (key, seat) in &seats {
                    prop_assert_eq!(table.seated(*seat).map(|entry| entry.generation), map.get(key).copied());
                }
            }
            prop_assert_eq!(all(&table), map);
        }
    }

    /// PROMISES R4: the stated bytes are 88 a key, at whatever number of keys from a hundred thousand on.
    #[test]
    fn a_key_takes_at_most_88_bytes() {
        let keys = std::env::var("SURGEGATE_TORTURE_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(500_000);
        let table = Table::new();
        let mut random = fastrand::Rng::new();
        let mut most = 0;
        for n in 1..=keys {
            if let Slot::Vacant(slot) = table.entry(StateKey(random.u128(..))) {
                slot.insert(entry(1));
            }
            if n >= 100_000 && n % (keys / 100) == 0 {
                most = most.max(table.bytes() / n);
            }
        }
        println!("at most {most} B a key, {} at {keys} keys", table.bytes() / keys);
        assert!(most <= 88, "{most} B a key");
    }

    #[test]
    fn rows_that_were_given_up_are_used_again() {
        let table = Table::new();
        let key = |n: u32| StateKey(u128::from(n));
        for round in 0..5 {
            for n in 0..1000 {
                let Slot::Vacant(slot) = table.entry(key(n + round)) else { panic!("{n} is there") };
                slot.insert(entry(n));
            }
            assert_eq!(table.lock(0).chunks.len(), 1000_usize.div_ceil(CHUNK));
            table.retain(|_, _| false);
        }
        assert!(all(&table).is_empty());
    }

    proptest! {
        #[test]
        fn an_incident_survives_packing_to_the_second(
            iid in any::<u128>(), number in 1u64..1 << 53, generation in any::<u32>(), state in 1u8..=3,
            severity in prop::option::of(1u8..=5), count in any::<u32>(), seen in any::<u32>(), changed in any::<u32>(),
        ) {
            let incident = Incident {
                iid: Uid(iid), number, generation, state: State::from_code(state).unwrap(),
                severity: severity.and_then(Severity::new), count,
                last_seen: Micros::from_seconds(seen), changed_at: Micros::from_seconds(changed),
            };
            let mut entry = Entry::ABSENT;
            entry.set(HAS_LINE, true);
            entry.put(&incident);
            prop_assert_eq!(entry.incident(), Some(incident));
            prop_assert!(entry.has(HAS_LINE) && !entry.has(IN_FLIGHT));
        }
    }
}
