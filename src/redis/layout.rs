//! How states stand in Redis: one hash a state key, `PREFIX:s:` and 32 hex digits. Written and read here alone; the scripts
//! look at two bytes of it and at the orders.
//!
//! | field | what |
//! | --- | --- |
//! | `o` | order of the newest change: microseconds |
//! | `s` | version, state, severity, flags, generation, iid, number, count, last seen, changed: 52 bytes, big endian |
//! | `t` | the lease's token: the replica's id in its first two bytes, the process in its first half |
//! | `u` | until when it lasts, in milliseconds of Redis's clock |
//! | `l` | what its change would make: iid, number, uid of the event, its action: 41 bytes |
//! | `q:REPLICA:UPSTREAM` | order of the oldest event on the key that waits there |
//! | `r:UPSTREAM` | what that upstream calls the incident: iid, bytes of the id, id, link |
//!
//! And `PREFIX:i:` with 32 hex digits, a string for each name of an incident that is addressed by id: state key, scope, number,
//! iid; 48 bytes.
//!
//! Every script takes one key, so a Cluster runs them wherever a key happens to be, and one integration's keys are spread
//! over all of it. A state of an unknown version is left as it is, and its replicas decide alone.

use bytes::Bytes;

use crate::claim::{ById, Scope};
use crate::dedup::{IdName, Ids, Order, Standing, Token};
use crate::event::{Action, Incident, Micros, Severity, State, StateKey, Uid};
use crate::store::Remote;

const VERSION: u8 = 1;
/// Bytes of a state,
const STATE_BYTES: usize = 52;
/// and of what a lease holds.
const LEASE_BYTES: usize = 41;
/// The key creates once (contracts 5.3).
const CREATES_ONCE: u8 = 1;
const HEX: usize = 32;

pub(super) fn key(prefix: &str, key: StateKey, out: &mut Vec<u8>) {
    hex(prefix, b":s:", key.0, out);
}

fn hex(prefix: &str, kind: &[u8], of: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(kind);
    let digits = of.to_be_bytes().map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    out.extend_from_slice(digits.as_flattened());
}

/// The key that a name of ours stands for.
pub(super) fn key_of(prefix: &str, name: &[u8]) -> Option<StateKey> {
    let rest = name.strip_prefix(prefix.as_bytes())?.strip_prefix(b":s:")?;
    let hex = std::str::from_utf8(rest).ok().filter(|hex| hex.len() == HEX)?;
    u128::from_str_radix(hex, 16).ok().map(StateKey)
}

pub(super) fn name(prefix: &str, name: IdName, out: &mut Vec<u8>) {
    hex(prefix, b":i:", name.0, out);
}

/// What a name stands for,
pub(super) fn put_row(row: &ById, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.key.0.to_be_bytes());
    out.extend_from_slice(&row.scope.0.to_be_bytes());
    out.extend_from_slice(&row.number.to_be_bytes());
    out.extend_from_slice(&row.iid.0.to_be_bytes());
}

/// read.
pub(super) fn row(bytes: &[u8]) -> Option<ById> {
    let key = StateKey(u128::from_be_bytes(part(bytes, 0)?));
    let (scope, number) = (Scope(u64::from_be_bytes(part(bytes, 16)?)), u64::from_be_bytes(part(bytes, 24)?));
    Some(ById { scope, number, iid: Uid(u128::from_be_bytes(part(bytes, 32)?)), key })
}

pub(super) fn token(process: u64, token: Token) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&process.to_be_bytes());
    bytes[8..].copy_from_slice(&token.0.to_be_bytes());
    bytes
}

pub(super) fn put_state(incident: &Incident, creates_once: bool, out: &mut Vec<u8>) {
    let severity = incident.severity.map_or(0, Severity::level);
    out.extend_from_slice(&[VERSION, incident.state as u8, severity, u8::from(creates_once) * CREATES_ONCE]);
    out.extend_from_slice(&incident.generation.to_be_bytes());
    out.extend_from_slice(&incident.iid.0.to_be_bytes());
    out.extend_from_slice(&incident.number.to_be_bytes());
    out.extend_from_slice(&incident.count.to_be_bytes());
    out.extend_from_slice(&incident.last_seen.0.to_be_bytes());
    out.extend_from_slice(&incident.changed_at.0.to_be_bytes());
}

/// `None` for what is none of ours, or of another version.
pub(super) fn standing(order: &[u8], state: &[u8]) -> Option<Standing> {
    let order = Order(std::str::from_utf8(order).ok()?.parse().ok()?);
    let state: &[u8; STATE_BYTES] = state.try_into().ok()?;
    if state[0] != VERSION {
        return None;
    }
    let incident = Incident {
        state: State::from_code(state[1])?,
        severity: Severity::new(state[2]),
        generation: u32::from_be_bytes(part(state, 4)?),
        iid: Uid(u128::from_be_bytes(part(state, 8)?)),
        number: u64::from_be_bytes(part(state, 24)?),
        count: u32::from_be_bytes(part(state, 32)?),
        last_seen: Micros(i64::from_be_bytes(part(state, 36)?)),
        changed_at: Micros(i64::from_be_bytes(part(state, 44)?)),
    };
    Some(Standing { incident, order })
}

pub(super) fn put_ids(ids: &Ids, out: &mut Vec<u8>) {
    out.extend_from_slice(&ids.iid.0.to_be_bytes());
    out.extend_from_slice(&ids.number.to_be_bytes());
    out.extend_from_slice(&ids.event_uid.0.to_be_bytes());
    out.push(ids.action as u8);
}

pub(super) fn ids(lease: &[u8]) -> Option<Ids> {
    let lease: &[u8; LEASE_BYTES] = lease.try_into().ok()?;
    Some(Ids {
        iid: Uid(u128::from_be_bytes(part(lease, 0)?)),
        number: u64::from_be_bytes(part(lease, 16)?),
        event_uid: Uid(u128::from_be_bytes(part(lease, 24)?)),
        action: Action::from_code(lease[40])?,
    })
}

/// The field of what waits for an upstream at a replica.
pub(super) fn queue(replica: u16, upstream: &str) -> Bytes {
    format!("q:{replica}:{upstream}").into()
}

pub(super) fn is_queue(field: &[u8]) -> bool {
    field.starts_with(b"q:")
}

/// The field of what an upstream calls the incident,
pub(super) fn called(upstream: &str) -> Bytes {
    format!("r:{upstream}").into()
}

/// and its value.
pub(super) fn put_remote(iid: Uid, remote: &Remote) -> Bytes {
    let mut out = Vec::with_capacity(18 + remote.id().len());
    out.extend_from_slice(&iid.0.to_be_bytes());
    out.extend_from_slice(&u16::try_from(remote.id().len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(remote.id().as_bytes());
    out.extend_from_slice(remote.url().unwrap_or_default().as_bytes());
    out.into()
}

pub(super) fn remote(bytes: &[u8]) -> Option<(Uid, Remote)> {
    let iid = Uid(u128::from_be_bytes(part(bytes, 0)?));
    let end = 18 + usize::from(u16::from_be_bytes(part(bytes, 16)?));
    let (id, url) = (std::str::from_utf8(bytes.get(18..end)?).ok()?, std::str::from_utf8(bytes.get(end..)?).ok()?);
    Remote::new(id, Some(url)).map(|remote| (iid, remote))
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn a_key_is_read_back_from_its_name_and_no_other_name_is_one() {
        let name = written(|out| key("surgegate", StateKey(0xab), out));
        assert_eq!(&name[..], b"surgegate:s:000000000000000000000000000000ab");
        assert_eq!(key_of("surgegate", &name), Some(StateKey(0xab)));
        for other in ["surgegate:s:ab", "other:s:000000000000000000000000000000ab", "surgegate:epoch", ""] {
            assert_eq!(key_of("surgegate", other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_state_and_a_lease_are_read_as_they_were_written(
            iid in any::<u128>(), number in 1u64..1 << 53, generation in any::<u32>(), state in 1u8..=3,
            severity in prop::option::of(1u8..=5), count in any::<u32>(), seen in any::<i64>(), changed in any::<i64>(),
            order in 0i64.., once in any::<bool>(), garbage in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let incident = Incident {
                iid: Uid(iid), number, generation, state: State::from_code(state).unwrap(),
                severity: severity.and_then(Severity::new), count, last_seen: Micros(seen), changed_at: Micros(changed),
            };
            let bytes = written(|out| put_state(&incident, once, out));
            let said = standing(order.to_string().as_bytes(), &bytes);
            prop_assert_eq!(said, Some(Standing { incident, order: Order(order) }));
            let held = Ids { iid: Uid(iid), number, event_uid: Uid(iid ^ 1), action: Action::Resolve };
            prop_assert_eq!(ids(&written(|out| put_ids(&held, out))), Some(held));
            prop_assert!(standing(b"x", &bytes).is_none() && standing(b"1", &bytes[1..]).is_none());
            let by_id = ById { scope: Scope(number ^ 1), number, iid: Uid(iid), key: StateKey(iid ^ 7) };
            prop_assert_eq!(row(&written(|out| put_row(&by_id, out))), Some(by_id));
            let _ = (standing(&garbage, &garbage), ids(&garbage), remote(&garbage), row(&garbage));
            let named = Remote::new("id-7", Some("https://vendor.example/7")).unwrap();
            prop_assert_eq!(remote(&put_remote(Uid(iid), &named)), Some((Uid(iid), named)));
        }
    }
}
