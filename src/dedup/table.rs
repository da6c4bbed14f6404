//! The sharded table of states, and the only home of `dashmap`. An entry is 48 bytes beside its 16-byte key;
//! what an entry leaves out (first seen: in the iid's own time stamp) is had from the log.

use std::hash::{BuildHasher, Hasher};

use dashmap::DashMap;

use crate::claim::Position;
use crate::event::{Incident, Micros, Severity, State, StateKey, Uid};

/// So many shards that one shard's growth stalls few (PERFORMANCE 2: p99 2.8 ms with 256, 11 ms with 8).
const SHARDS: usize = 256;

pub(super) type Table = DashMap<StateKey, Entry, KeyIsHash>;

pub(super) fn new() -> Table {
    DashMap::with_capacity_and_hasher_and_shard_amount(0, KeyIsHash, SHARDS)
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

    pub(super) fn last_seen_s(&self) -> u32 {
        self.last_seen_s
    }

    pub(super) fn changed_at_s(&self) -> u32 {
        self.changed_at_s
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

    /// Puts the incident; the flags stay.
    pub(super) fn put(&mut self, incident: &Incident) {
        let flags = self.bits & (IN_FLIGHT.0 | HAS_LINE.0 | UNDELIVERED.0 | TOUCHED.0);
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

/// A state key is a hash already: its own low bits serve.
#[derive(Clone, Copy, Default)]
pub(super) struct KeyIsHash;

impl BuildHasher for KeyIsHash {
    type Hasher = Taken;

    fn build_hasher(&self) -> Taken {
        Taken(0)
    }
}

#[derive(Default)]
pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Never called for a state key; kept right for any other.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_with_its_key_is_64_bytes() {
        assert_eq!(size_of::<(StateKey, Entry)>(), 64);
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
