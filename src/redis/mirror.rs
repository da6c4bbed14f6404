//! What goes to Redis behind the answers: changes that are durable, leases that end or go on, and after an outage every
//! state of this replica. One task on the link's thread, one batch at a time.
//!
//! | bound | what |
//! | --- | --- |
//! | 65,536 | changes that wait; past it only their keys are remembered, and the newest state of each is put |
//! | 262,144 keys | past it everything is put back, as after an outage |
//! | 1,024 | calls of a batch |

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::Value;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Call, Down, Script};
use super::claims::{LEASE, Shared};
use super::layout;
use super::leases::LEASES;
use crate::claim::{ById, Targets};
use crate::dedup::{Commit, IdName, Order, Standing, Token};
use crate::event::{Micros, StateKey};

const WAITING_MAX: usize = 65_536;
const KEYS_MAX: usize = 262_144;
const BATCH_MAX: usize = 1_024;
/// How often it is looked for keys that were doubted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// In scope `mirror` no lease waits for what is told: a round trip, and two changes of threads on a busy core, are for all that
/// comes within this.
const GATHER: Duration = Duration::from_millis(5);

/// After a failure, and while there is no connection.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

static COMMIT: Script = Script::new(include_str!("scripts/commit.lua"));
static FORGET: Script = Script::new(include_str!("scripts/forget.lua"));
static NAME: Script = Script::new(include_str!("scripts/name.lua"));
static FIELD: Script = Script::new(include_str!("scripts/field.lua"));
static SINCE: Script = Script::new(include_str!("scripts/since.lua"));

/// What is to be told.
pub(super) enum Told {
    Commit {
        commit: Commit,
        lease: Option<Token>,
        targets: Option<Targets>,
    },
    /// What an upstream calls an incident that is addressed by id.
    Name {
        name: IdName,
        row: ById,
    },
    /// A field of a key's state: what waits, or what an upstream calls the incident. Empty: it goes.
    Field {
        key: StateKey,
        field: Bytes,
        value: Bytes,
    },
    /// What was committed is taken back.
    Forget {
        key: StateKey,
        order: Order,
    },
    Release {
        key: StateKey,
        lease: Token,
    },
}

impl Told {
    fn lease(&self) -> Option<Token> {
        match self {
            Self::Commit { lease, .. } => *lease,
            Self::Field { .. } | Self::Forget { .. } | Self::Release { .. } | Self::Name { .. } => None,
        }
    }

    /// The key whose state is put where this failed: the change, or what waits.
    fn put(&self) -> Option<StateKey> {
        match self {
            Self::Commit { commit, .. } => Some(commit.key),
            Self::Field { key, field, .. } if layout::is_queue(field) => Some(*key),
            Self::Field { .. } | Self::Forget { .. } | Self::Release { .. } | Self::Name { .. } => None,
        }
    }
}

#[derive(Default)]
struct Waiting {
    told: Vec<Told>,
    /// Keys whose state, as it is then, is to be put.
    keys: HashSet<StateKey, foldhash::fast::RandomState>,
    /// Keys that somebody else wrote: another replica, or who has no business there.
    doubted: HashSet<StateKey, foldhash::fast::RandomState>,
}

pub(super) struct Mirror {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Outages seen, and the last one after which all was put back.
    outages: AtomicU64,
    complete: AtomicU64,
    /// An outage lies before the first connection too, but nobody saw it.
    began: AtomicBool,
    sending: AtomicBool,
}

impl Mirror {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            outages: AtomicU64::new(1),
            complete: AtomicU64::new(0),
            began: AtomicBool::new(false),
            sending: AtomicBool::new(false),
        }
    }

    /// Puts every state of this replica there, and goes on; once, when dedup shares its states.
    pub(super) fn start(self: &Arc<Self>, shared: &Arc<Shared>) {
        let (working, on) = (Arc::clone(self), Arc::clone(shared));
        shared.link.spawn(async move { working.run(on).await });
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, told: Told) {
        let mut waiting = self.lock();
        if waiting.told.len() >= WAITING_MAX {
            // Nothing is lost: the state stands in the table, what waits in `queues`, and leases lapse when it is put.
            if let Some(key) = told.put() {
                self.remember(waiting, key);
            }
            return;
        }
        let first = waiting.told.is_empty();
        waiting.told.push(told);
        drop(waiting);
        if first {
            self.wake.notify_one();
        }
    }

    pub(super) fn put(&self, key: StateKey) {
        self.remember(self.lock(), key);
        self.wake.notify_one();
    }

    /// Somebody else wrote a key. Unless it is asked for soon, what is known here is put again, which changes nothing where
    /// another replica's change is newer.
    pub(super) fn doubt(&self, key: StateKey) {
        let mut waiting = self.lock();
        if waiting.doubted.len() < KEYS_MAX {
            waiting.doubted.insert(key);
        }
    }

    fn put_doubted(&self, shared: &Shared) {
        let doubted = std::mem::take(&mut self.lock().doubted);
        for key in doubted.into_iter().filter(|key| !shared.dedup.is_confirmed(*key)) {
            self.remember(self.lock(), key);
        }
    }

    fn remember(&self, mut waiting: MutexGuard<'_, Waiting>, key: StateKey) {
        if waiting.keys.len() < KEYS_MAX {
            waiting.keys.insert(key);
        } else {
            waiting.keys.clear();
            self.outages.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What is known there may be lost, and what was told may not have arrived.
    pub(super) fn outage(&self) {
        self.outages.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Whether nothing waits, and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.lock();
        waiting.told.is_empty() && waiting.keys.is_empty() && !self.sending.load(Ordering::Acquire)
    }

    /// Whether all of this replica's states were put back since the last outage.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire) == self.outages.load(Ordering::Acquire)
    }

    async fn run(&self, shared: Arc<Shared>) {
        let mut back: Vec<StateKey> = Vec::new();
        let mut doing = 0;
        let mut looked = Instant::now();
        // Since when something waits that is not confirmed.
        let mut behind: Option<Instant> = None;
        loop {
            shared.link.meter().lag.set(behind.map_or(0.0, |since| since.elapsed().as_secs_f64()));
            if !shared.link.is_up() {
                // What waits is told anew with everything else.
                let lost = std::mem::take(&mut *self.lock());
                lost.told.iter().filter_map(Told::lease).for_each(|lease| shared.leases.end(lease));
                (back, doing) = (Vec::new(), 0);
                behind.get_or_insert_with(Instant::now);
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
            let outages = self.outages.load(Ordering::Acquire);
            if self.complete.load(Ordering::Acquire) != outages && doing != outages {
                if !self.ask_since(&shared).await {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
                back.clear();
                shared.dedup.each_standing(&mut |key| back.push(key));
                // Those first that others' events wait for.
                back.extend(shared.queues.keys());
                doing = outages;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.put_doubted(&shared);
            }
            let (told, keys) = self.take(&mut back);
            if told.is_empty() && keys.is_empty() {
                if doing == outages && doing != 0 {
                    self.complete.store(doing, Ordering::Release);
                    doing = 0;
                }
                behind = None;
                shared.link.meter().lag.set(0.0);
                let _ = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
                continue;
            }
            behind.get_or_insert_with(Instant::now);
            self.send(&shared, told, keys).await;
            self.sending.store(false, Ordering::Release);
            if !shared.link.config().asks() && back.is_empty() && self.lock().told.len() < BATCH_MAX {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// A batch: changes first, then single keys, then what is put back.
    fn take(&self, back: &mut Vec<StateKey>) -> (Vec<Told>, Vec<StateKey>) {
        let mut waiting = self.lock();
        let count = waiting.told.len().min(BATCH_MAX);
        let rest = waiting.told.split_off(count);
        let told = std::mem::replace(&mut waiting.told, rest);
        let room = BATCH_MAX - told.len();
        let mut keys: Vec<StateKey> = waiting.keys.iter().take(room).copied().collect();
        for key in &keys {
            waiting.keys.remove(key);
        }
        self.sending.store(!(told.is_empty() && keys.is_empty()), Ordering::Release);
        drop(waiting);
        keys.extend(back.drain(back.len().saturating_sub(room - keys.len())..));
        (told, keys)
    }

    async fn send(&self, shared: &Shared, told: Vec<Told>, keys: Vec<StateKey>) {
        let now = Micros::now();
        let standing = |key: &StateKey| {
            let (standing, creates_once) = shared.dedup.standing(*key)?;
            let row = shared.dedup.row_of(standing.incident.iid, *key);
            Some(Commit { key: *key, standing, creates_once, row })
        };
        let puts: Vec<Commit> = keys.iter().filter_map(standing).collect();
        let mut calls: Vec<Call> = told.iter().map(|told| call_of(shared, told, now)).collect();
        calls.extend(puts.iter().map(|told| put(shared, told, now)));
        // Behind the rest: what becomes of them nobody asks, since each change says them again.
        let changes = told.iter().filter_map(|told| match told {
            Told::Commit { commit, .. } => Some(commit),
            _ => None,
        });
        let names: Vec<Call> = changes.chain(&puts).flat_map(|told| names(shared, told, now)).collect();
        calls.extend(names);
        let answers = shared.link.send_behind(calls).await;
        told.iter().filter_map(Told::lease).for_each(|lease| shared.leases.end(lease));
        let is_change = |told: &Told| matches!(told, Told::Commit { .. });
        let of_told = told.iter().map(|told| (told.put(), is_change(told)));
        let all = of_told.chain(puts.iter().map(|put| (Some(put.key), true)));
        let mut failed = false;
        for ((key, is_change), answer) in all.zip(answers) {
            match (key, answer) {
                // A newer one is there: what is known here is asked for before it is believed.
                (Some(key), Ok(Value::Int(0))) if is_change => shared.dedup.changed_elsewhere(key),
                // With a link that is away everything is put back later.
                (Some(_), Err(Down::Away)) => self.outage(),
                (Some(key), Err(_)) => {
                    failed = true;
                    self.remember(self.lock(), key);
                }
                _ => {}
            }
        }
        if failed {
            // Not at once: the server may be about to be found out.
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Asks since when states may be believed, and tells others of an outage that was seen here. False: no answer.
    async fn ask_since(&self, shared: &Shared) -> bool {
        let seen = self.began.load(Ordering::Acquire);
        let name = format!("{}:since", shared.link.prefix());
        let call = Call::new(&SINCE, name).number(u8::from(seen));
        let Some(Ok(Value::BulkString(since))) = shared.link.send_behind(vec![call]).await.pop() else { return false };
        let Some(since) = std::str::from_utf8(&since).ok().and_then(|since| since.parse().ok()) else { return false };
        self.began.store(true, Ordering::Release);
        shared.since.store(since, Ordering::Release);
        true
    }
}

fn call_of(shared: &Shared, told: &Told, now: Micros) -> Call {
    let lease = |key: &StateKey, lease: &Token| shared.on(&LEASES, *key).arg(layout::token(shared.process, *lease));
    match told {
        Told::Commit { commit: told, lease, targets } => {
            let call = commit(shared, told, *lease, now).arg("").number(0);
            let targets = targets.iter().flat_map(|targets| targets.iter());
            targets.fold(call, |call, target| queued(shared, call, &target.name, told.standing.order))
        }
        Told::Field { key, field, value } => shared.on(&FIELD, *key).arg(field).arg(value),
        Told::Name { name, row } => match shared.dedup.standing(row.key) {
            Some((standing, creates_once)) => {
                named(shared, *name, row, shared.dedup.lifetime(&standing.incident, creates_once, now))
            }
            None => named(shared, *name, row, LEASE),
        },
        Told::Forget { key, order } => shared.on(&FORGET, *key).number(order.0),
        Told::Release { key, lease: token } => lease(key, token).arg(""),
    }
}

/// A state as it stands here, with what waits here and nothing else of this replica: what told of it may be what failed, or
/// may have been about to be told when the process before this one was killed.
fn put(shared: &Shared, told: &Commit, now: Micros) -> Call {
    let marks = shared.queues.marks(told.key);
    let call = commit(shared, told, None, now).arg(shared.process.to_be_bytes()).number(marks.partly.len());
    let call = marks.partly.iter().fold(call, |call, name| call.arg(&**name));
    marks.oldest.iter().fold(call, |call, (upstream, order)| queued(shared, call, upstream, *order))
}

/// With the field of a queue where an event of the key waits since `order`.
fn queued(shared: &Shared, call: Call, upstream: &str, order: Order) -> Call {
    call.arg(layout::queue(shared.replica.id(), upstream)).number(order.0)
}

fn commit(shared: &Shared, told: &Commit, lease: Option<Token>, now: Micros) -> Call {
    let Commit { key, standing: Standing { incident, order }, creates_once, .. } = told;
    let lives = shared.dedup.lifetime(incident, *creates_once, now);
    let lease = lease.map(|lease| layout::token(shared.process, lease));
    shared
        .on(&COMMIT, *key)
        .arg(lease.as_ref().map_or(&[][..], |token| token))
        .number(order.0)
        .put(|out| layout::put_state(incident, *creates_once, out))
        // A lease must not end with its key.
        .number(lives.max(LEASE).as_millis())
}

/// The names by which an incident is addressed, as long as its state lives.
fn names(shared: &Shared, told: &Commit, now: Micros) -> Vec<Call> {
    let Some(row) = &told.row else { return Vec::new() };
    let lives = shared.dedup.lifetime(&told.standing.incident, told.creates_once, now);
    let names = [IdName::number(row.scope, row.number), IdName::iid(row.scope, row.iid)];
    names.map(|name| named(shared, name, row, lives)).into()
}

fn named(shared: &Shared, name: IdName, row: &ById, lives: Duration) -> Call {
    Call::on(&NAME, |out| layout::name(shared.link.prefix(), name, out))
        .put(|out| layout::put_row(row, out))
        .number(lives.max(LEASE).as_millis())
}
