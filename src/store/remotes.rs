//! What upstreams call the incidents that they were sent: ids and links that answers taught, by upstream, lane and
//! generation. The ending that taught one carries it in the log, checkpoints carry all. Asked by the forwarder for each
//! event that addresses an incident by such an id, and by the admin API.
//!
//! One lives as long as its incident is the one its key names, and [`KEPT`] beyond that, for what is still on its way. All
//! together take at most as many bytes as the index: then those go whose incident is gone, oldest first, then the oldest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LaneKey;
use super::record::{Steps, put_text};
use crate::event::{Micros, Uid};

/// How long one is kept whose incident is gone, from when it was learned.
const KEPT_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// Longest id of an upstream; a longer one is none of its ids.
pub const REMOTE_ID_BYTES_MAX: usize = 512;
/// Longest link to an incident; a longer one is left out.
pub const REMOTE_URL_BYTES_MAX: usize = 2_048;
/// Bytes that one takes beside its texts, about.
const ROW_BYTES: u64 = 176;

/// What an upstream calls an incident. Shown to operators: holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    id: Box<str>,
    url: Option<Box<str>>,
}

impl Remote {
    /// `None` for an id that is empty, has control characters or is longer than [`REMOTE_ID_BYTES_MAX`]; a link that is
    /// longer than [`REMOTE_URL_BYTES_MAX`] is left out.
    pub fn new(id: &str, url: Option<&str>) -> Option<Self> {
        let is_id = !id.is_empty() && id.len() <= REMOTE_ID_BYTES_MAX && !id.chars().any(char::is_control);
        let url = url.filter(|url| !url.is_empty() && url.len() <= REMOTE_URL_BYTES_MAX);
        is_id.then(|| Self { id: id.into(), url: url.map(Into::into) })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    fn bytes(&self) -> u64 {
        (self.id.len() + self.url.as_ref().map_or(0, |url| url.len())) as u64 + ROW_BYTES
    }
}

/// What an answer taught of one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    pub lane: LaneKey,
    pub iid: Uid,
    pub remote: Remote,
}

/// Behind an ending, and in checkpoints: 0 for none, else 1 and what was learned.
pub(super) fn put_learned(out: &mut Vec<u8>, learned: Option<&Learned>) {
    let Some(Learned { lane, iid, remote }) = learned else { return out.push(0) };
    out.push(1);
    out.extend_from_slice(&lane.0.to_le_bytes());
    out.extend_from_slice(&iid.0.to_le_bytes());
    put_text(out, remote.id.as_bytes());
    put_text(out, remote.url().unwrap_or("").as_bytes());
}

/// `None` also where an older record ends before it.
pub(super) fn learned(steps: &mut Steps<'_>) -> Option<Learned> {
    if steps.u8()? != 1 {
        return None;
    }
    let (lane, iid) = (LaneKey(steps.u128()?), Uid(steps.u128()?));
    let (id, url) = (steps.text()?, steps.text()?);
    Remote::new(id, Some(url)).map(|remote| Learned { lane, iid, remote })
}

#[derive(Clone)]
struct Row {
    iid: Uid,
    at: Micros,
    remote: Arc<Remote>,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Default)]
struct Table {
    upstreams: Map<Arc<str>, Map<LaneKey, Vec<Row>>>,
    /// By [`hash_of`] upstream and id; the last that was learned under it.
    by_id: Map<u64, (LaneKey, Uid)>,
    bytes: u64,
}

/// Two ids meet once in 2^64 pairs; who looks one up compares it.
fn hash_of(upstream: &str, id: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    (upstream, id).hash(&mut hasher);
    hasher.finish()
}

/// All of them, under a lock of their own: no request ever asks.
#[derive(Default)]
pub(super) struct Remotes(Mutex<Table>);

impl Remotes {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an answer taught; the last one of a generation counts.
    pub(super) fn learn(&self, upstream: &Arc<str>, at: Micros, learned: Learned) {
        let Learned { lane, iid, remote } = learned;
        let mut table = self.lock();
        let Table { upstreams, by_id, bytes } = &mut *table;
        by_id.insert(hash_of(upstream, remote.id()), (lane, iid));
        let rows = upstreams.entry(Arc::clone(upstream)).or_default().entry(lane).or_default();
        rows.retain(|row| {
            let other = row.iid != iid;
            *bytes -= if other { 0 } else { row.remote.bytes() };
            other
        });
        *bytes += remote.bytes();
        rows.push(Row { iid, at, remote: Arc::new(remote) });
    }

    /// Of one generation.
    pub(super) fn get(&self, upstream: &str, lane: LaneKey, iid: Uid) -> Option<Arc<Remote>> {
        let table = self.lock();
        let rows = table.upstreams.get(upstream)?.get(&lane)?;
        rows.iter().find(|row| row.iid == iid).map(|row| Arc::clone(&row.remote))
    }

    /// What an upstream calls so: lane and generation.
    pub(super) fn by_id(&self, upstream: &str, id: &str) -> Option<(LaneKey, Uid)> {
        let (lane, iid) = *self.lock().by_id.get(&hash_of(upstream, id))?;
        self.get(upstream, lane, iid).filter(|remote| remote.id() == id).map(|_| (lane, iid))
    }

    /// The one that was learned last on a lane, of whatever generation.
    pub(super) fn last(&self, upstream: &str, lane: LaneKey) -> Option<Arc<Remote>> {
        let table = self.lock();
        table.upstreams.get(upstream)?.get(&lane)?.last().map(|row| Arc::clone(&row.remote))
    }

    /// Gives every one, oldest of a lane first, while nothing is locked: one upstream is copied at a time.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&Arc<str>, Micros, &Learned)) {
        let names: Vec<Arc<str>> = self.lock().upstreams.keys().map(Arc::clone).collect();
        for name in names {
            let copied: Vec<(LaneKey, Vec<Row>)> = match self.lock().upstreams.get(&name) {
                Some(lanes) => lanes.iter().map(|(lane, rows)| (*lane, rows.clone())).collect(),
                None => continue,
            };
            for (lane, rows) in copied {
                for Row { iid, at, remote } in rows {
                    visit(&name, at, &Learned { lane, iid, remote: Remote::clone(&remote) });
                }
            }
        }
    }

    /// Lets go of those whose incident is gone since long, and of more where they take too much. How many were still of
    /// use.
    pub(super) fn tidy(&self, bytes_max: u64, now: Micros, lives: &dyn Fn(LaneKey, Uid) -> bool) -> u64 {
        let old = now.0.saturating_sub(KEPT_MICROS);
        self.retain(&|lane, row| row.at.0 > old || lives(lane, row.iid));
        let bytes = self.lock().bytes;
        if bytes <= bytes_max {
            return 0;
        }
        let mut all: Vec<(bool, Micros, u64)> = vec![];
        self.each(&mut |_, at, learned| all.push((lives(learned.lane, learned.iid), at, learned.remote.bytes())));
        all.sort_unstable();
        // An eighth more than must go, so that this is not done for each one that comes.
        let mut excess = (bytes - bytes_max).saturating_add(bytes_max / 8);
        let goes = all.iter().take_while(|(_, _, bytes)| {
            let goes = excess > 0;
            excess = excess.saturating_sub(*bytes);
            goes
        });
        let Some((last_lived, last_at, _)) = goes.last().copied() else { return 0 };
        let before = self.count();
        self.retain(&|lane, row| (lives(lane, row.iid), row.at) > (last_lived, last_at));
        if last_lived { (before - self.count()) as u64 } else { 0 }
    }

    fn retain(&self, keep: &dyn Fn(LaneKey, &Row) -> bool) {
        let mut table = self.lock();
        let Table { upstreams, by_id, bytes } = &mut *table;
        for (name, lanes) in upstreams.iter_mut() {
            lanes.retain(|lane, rows| {
                rows.retain(|row| {
                    let kept = keep(*lane, row);
                    if !kept {
                        *bytes -= row.remote.bytes();
                        let hash = hash_of(name, row.remote.id());
                        if by_id.get(&hash) == Some(&(*lane, row.iid)) {
                            by_id.remove(&hash);
                        }
                    }
                    kept
                });
                !rows.is_empty()
            });
        }
    }

    fn count(&self) -> usize {
        self.lock().upstreams.values().flat_map(HashMap::values).map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn learned(lane: u128, iid: u128, id: &str) -> Learned {
        Learned { lane: LaneKey(lane), iid: Uid(iid), remote: Remote::new(id, None).unwrap() }
    }

    #[test]
    fn an_id_that_is_none_is_not_taken_and_a_link_that_is_too_long_is_left_out() {
        for bad in ["", "a\nb", &"x".repeat(REMOTE_ID_BYTES_MAX + 1)] {
            assert_eq!(Remote::new(bad, None), None);
        }
        let long = "x".repeat(REMOTE_URL_BYTES_MAX + 1);
        assert_eq!(Remote::new("a", Some(&long)).unwrap().url(), None);
        assert_eq!(Remote::new("a", Some(&long[1..])).unwrap().url(), Some(&long[1..]));
    }

    #[test]
    fn those_whose_incident_is_gone_go_first_when_they_are_old_or_when_there_are_too_many() {
        let remotes = Remotes::default();
        let day = 24 * 3600 * 1_000_000;
        for n in 0..10_u128 {
            let at = Micros(i64::try_from(n).unwrap() * day);
            remotes.learn(&"up".into(), at, learned(n, n, "id"));
        }
        let lives = |_: LaneKey, iid: Uid| iid.0.is_multiple_of(2);
        let there = || (0..10).filter(|n| remotes.get("up", LaneKey(*n), Uid(*n)).is_some()).collect::<Vec<_>>();
        assert_eq!(remotes.tidy(u64::MAX, Micros(10 * day), &lives), 0);
        assert_eq!(there(), [0, 2, 4, 5, 6, 7, 8, 9], "a gone one is kept for 7 days");
        assert_eq!(remotes.tidy(6 * (ROW_BYTES + 2), Micros(10 * day), &lives), 0);
        assert_eq!(there(), [0, 2, 4, 6, 8], "of gone ones the oldest, and an eighth more");
        assert_eq!(remotes.tidy(4 * (ROW_BYTES + 2), Micros(10 * day), &lives), 2);
        assert_eq!(there(), [4, 6, 8], "of living ones the oldest");
    }

    proptest! {
        /// Against a list: the last of a generation counts, and the bytes are those of what is there.
        #[test]
        fn what_was_learned_last_is_known(
            steps in prop::collection::vec((0usize..2, 0u128..4, 0u128..3, "[a-z]{1,8}"), 0..60),
        ) {
            let remotes = Remotes::default();
            let mut list: Vec<(usize, Learned)> = vec![];
            for (upstream, lane, iid, id) in steps {
                let new = learned(lane, iid, &id);
                remotes.learn(&["a", "b"][upstream].into(), Micros(0), new.clone());
                list.retain(|(at, old)| (*at, old.lane, old.iid) != (upstream, new.lane, new.iid));
                list.push((upstream, new));
            }
            for (upstream, name) in ["a", "b"].into_iter().enumerate() {
                for lane in 0..4 {
                    let on_lane = || list.iter().filter(|(at, one)| *at == upstream && one.lane.0 == lane);
                    let last = on_lane().next_back().map(|(_, one)| one.remote.clone());
                    let got = remotes.last(name, LaneKey(lane)).map(|remote| Remote::clone(&remote));
                    prop_assert_eq!(got, last);
                    for iid in 0..3 {
                        let own = on_lane().find(|(_, one)| one.iid.0 == iid).map(|(_, one)| &one.remote);
                        let got = remotes.get(name, LaneKey(lane), Uid(iid));
                        prop_assert_eq!(got.as_deref(), own);
                    }
                }
            }
            let bytes: u64 = list.iter().map(|(_, one)| one.remote.bytes()).sum();
            let held = remotes.lock().bytes;
            prop_assert_eq!((held, remotes.count()), (bytes, list.len()));
        }
    }
}
