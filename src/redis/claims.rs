//! Keys claimed among replicas: dedup's questions and what it tells, made to scripts (DESIGN 5.4). A question is one call of
//! the link's next round trip; what is told goes behind the answer, by `mirror`.
//!
//! A change is told after its sync and perhaps after its answer. Until it has come, its lease stands: another replica that
//! gets the sender's repeat first is held, so nothing is absorbed there that is not on disk here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::redis::Value;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::call::{Call, Down, Script};
use super::layout;
use super::leases::{self, Leases};
use super::link::{Invalid, Link};
use super::mirror::{Mirror, Told};
use super::queues::{Mark, Queues};
use super::{Config, Replica};
use crate::claim::{ById, Goes};
use crate::dedup::{
    Ahead, Ask, Commit, Dedup, Finding, Found, IdName, Look, Looking, Order, Reply, Rest, SEEN, SharedClaims, Token,
};
use crate::event::{Micros, StateKey, Uid};
use crate::store::{Left, Remote};

/// A lease nobody ends or renews lapses after this (DESIGN 5.4).
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// What a lapsed lease held can be adopted for so long, where its key has no state.
const LEASE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// A key on which something waits for another replica's return is kept for so long: as long as that one's id.
const WAITS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// After an outage all replicas have put their states back within this.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// How often a start or an end looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

static ASK: Script = Script::new(include_str!("scripts/ask.lua"));
static LOOK: Script = Script::new(include_str!("scripts/look.lua"));
static NAMED: Script = Script::new(include_str!("scripts/named.lua"));
static READ: Script = Script::new(include_str!("scripts/read.lua"));

/// What the parts of this room have in common.
pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) dedup: Arc<Dedup>,
    pub(super) replica: Arc<Replica>,
    /// Tells this process's leases from others': the replica's id in its first 16 bits.
    pub(super) process: u64,
    pub(super) leases: Leases,
    /// States before it may be those of before an outage, in microseconds.
    pub(super) since: AtomicI64,
    pub(super) queues: Queues,
}

impl Shared {
    /// A call on a state.
    pub(super) fn on(&self, script: &'static Script, key: StateKey) -> Call {
        Call::on(script, |out| layout::key(self.link.prefix(), key, out))
    }
}

/// The replicas, as dedup knows them.
pub struct Claims {
    shared: Arc<Shared>,
    mirror: Arc<Mirror>,
    asks: bool,
}

impl Claims {
    /// Joins the states of this replica to those of the others, on the link's thread. `left`: what the process before left
    /// in its queues; before anything leaves them or comes.
    pub fn join(
        config: &Config,
        link: &Arc<Link>,
        replica: &Arc<Replica>,
        dedup: &Arc<Dedup>,
        left: Vec<Left>,
    ) -> Arc<Self> {
        let queues = Queues::default();
        queues.restore(left);
        let shared = Arc::new(Shared {
            link: Arc::clone(link),
            dedup: Arc::clone(dedup),
            replica: Arc::clone(replica),
            process: u64::from(replica.id()) << 48 | fastrand::u64(..1 << 48),
            leases: Leases::default(),
            since: AtomicI64::new(i64::MAX),
            queues,
        });
        let mirror = Arc::new(Mirror::new());
        link.spawn(leases::renew(Arc::clone(&shared)));
        let claims = Arc::new(Self { shared, mirror, asks: config.asks() });
        dedup.share(Arc::clone(&claims) as Arc<dyn SharedClaims>);
        let (watched, told) = (Arc::clone(&claims.shared), Arc::clone(&claims.mirror));
        link.watch(move |invalid| match invalid {
            Invalid::Key(name) => {
                if let Some(key) = layout::key_of(watched.link.prefix(), name) {
                    watched.dedup.changed_elsewhere(key);
                    told.doubt(key);
                }
            }
            Invalid::All => {
                watched.since.store(i64::MAX, Ordering::Release);
                watched.dedup.all_changed_elsewhere();
                told.outage();
            }
        });
        // Last: what dedup does not share yet it does not tell of, and all would count as put back.
        claims.mirror.start(&claims.shared);
        claims
    }

    /// Until the shared states can be asked for, at most so long: what comes before that is decided alone.
    pub async fn is_joined(&self, at_most: Duration) -> bool {
        let is_joined = || self.is_up() && self.shared.since.load(Ordering::Acquire) < i64::MAX;
        wait(at_most, is_joined).await;
        is_joined()
    }

    /// Until the others know what this replica's log told, at most so long: what a process that was killed had not told of a
    /// key is decided by what it left in Redis.
    pub async fn is_put_back(&self, at_most: Duration) -> bool {
        wait(at_most, || !self.is_up() || self.mirror.is_complete()).await;
        self.mirror.is_complete()
    }

    /// Until Redis has been told everything, at most so long: for the end of the process.
    pub async fn leave(&self, at_most: Duration) {
        wait(at_most, || !self.is_up() || self.mirror.is_idle()).await;
    }
}

/// Until it is over, at most so long.
async fn wait(at_most: Duration, is_over: impl Fn() -> bool) {
    let until = Instant::now() + at_most;
    while !is_over() && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl SharedClaims for Claims {
    fn asks(&self) -> bool {
        self.asks
    }

    fn is_up(&self) -> bool {
        self.shared.link.is_up()
    }

    fn ask(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let shared = Arc::clone(&self.shared);
        let deadline = Instant::now() + shared.link.config().timeout;
        let call = shared
            .on(&ASK, ask.key)
            .number(ask.takes.bits())
            .arg(layout::token(shared.process, ask.token))
            .put(|out| layout::put_ids(&ask.ids, out))
            .number(LEASE.as_millis())
            .number(LEASE_KEPT.as_millis())
            .number(shared.replica.id());
        shared.leases.begin(ask.token, ask.key);
        // Handed over at once: what is asked for together shares a round trip.
        let answer = shared.link.hand_over(call);
        Box::pin(async move {
            let said = match answer {
                Ok(answer) => match timeout_at(deadline, answer).await {
                    Ok(said) => said.unwrap_or(Err(Down::Lost)),
                    Err(_) => Err(Down::Late),
                },
                Err(down) => Err(down),
            };
            shared.link.counted(&said);
            let reply = said.ok().and_then(read).unwrap_or(Reply::Lost);
            // Without an answer it may be held all the same.
            if matches!(reply, Reply::Stands(_) | Reply::Held) {
                shared.leases.end(ask.token);
            }
            reply
        })
    }

    fn commit(&self, commit: Commit, lease: Option<Token>, goes: Goes<'_>) {
        // Its lease is renewed until Redis has been told.
        let tell = |targets| self.mirror.tell(Told::Commit { commit, lease, targets });
        if self.asks {
            self.shared.queues.push(commit.key, commit.standing.order, goes, tell);
        } else {
            tell(None);
        }
    }

    fn forget(&self, key: StateKey, order: Order) {
        self.mirror.tell(Told::Forget { key, order });
    }

    fn left(&self, key: StateKey, upstream: &Arc<str>, sequence: u64, rest: Rest) {
        if !self.asks {
            return;
        }
        self.shared.queues.pop(key, upstream, sequence, rest, |mark| {
            let value = match mark {
                Mark::Stays => return,
                Mark::Moves(order) => order.0.to_string().into(),
                Mark::Goes => Bytes::new(),
            };
            let field = layout::queue(self.shared.replica.id(), upstream);
            self.mirror.tell(Told::Field { key, field, value });
        });
    }

    fn learned(&self, key: StateKey, upstream: &Arc<str>, iid: Uid, remote: &Remote, row: Option<ById>) {
        let value = layout::put_remote(iid, remote);
        self.mirror.tell(Told::Field { key, field: layout::called(upstream), value });
        if let Some(row) = row {
            self.mirror.tell(Told::Name { name: IdName::remote(upstream, remote.id()), row });
        }
    }

    fn seen(&self, row: ById) {
        self.mirror.tell(Told::Name { name: IdName::replay(row.key), row });
    }

    fn find(&self, name: IdName) -> Finding {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let named = Call::on(&NAMED, |out| layout::name(shared.link.prefix(), name, out));
            let Ok(Value::BulkString(row)) = shared.link.call(named).await else { return None };
            let row = layout::row(&row)?;
            if row.scope == SEEN {
                return Some(Found { row, standing: None });
            }
            let Ok(Value::Array(parts)) = shared.link.call(shared.on(&READ, row.key)).await else {
                return None;
            };
            let [Value::BulkString(order), Value::BulkString(state)] = <[Value; 2]>::try_from(parts).ok()? else {
                return None;
            };
            Some(Found { row, standing: Some(layout::standing(&order, &state)?) })
        })
    }

    fn look(&self, key: StateKey, upstream: &Arc<str>, received_at: Micros) -> Looking {
        let (shared, upstream) = (Arc::clone(&self.shared), Arc::clone(upstream));
        Box::pin(async move {
            let call = shared
                .on(&LOOK, key)
                .number(shared.replica.id())
                .arg(&*upstream)
                .number(received_at.0)
                .number(WAITS_FOR.as_millis());
            let parts = match shared.link.call(call).await {
                Ok(Value::Array(parts)) => parts,
                // One answer that came late says nothing: it is looked again, until the link is given up.
                Err(_) if shared.link.is_up() => return Look { ahead: Ahead::Waits, remote: None },
                _ => return Look { ahead: Ahead::Nobody, remote: None },
            };
            let mut parts = parts.into_iter();
            let remote = match parts.next() {
                Some(Value::BulkString(bytes)) => layout::remote(&bytes),
                _ => None,
            };
            let ids: Vec<u16> = parts.filter_map(|part| ::redis::from_redis_value(part).ok()).collect();
            let ahead = match ids.iter().any(|id| shared.replica.is_alive(*id)) {
                true => Ahead::Waits,
                false if ids.is_empty() => Ahead::Nobody,
                false => Ahead::Gone,
            };
            Look { ahead, remote }
        })
    }

    fn release(&self, key: StateKey, lease: Token) {
        self.shared.leases.end(lease);
        self.mirror.tell(Told::Release { key, lease });
    }

    fn fell_back(&self) {
        self.shared.link.meter().claim_fell_back();
    }

    fn put(&self, key: StateKey) {
        self.mirror.put(key);
    }

    fn is_settled(&self, order: Order) -> bool {
        let since = self.shared.since.load(Ordering::Acquire);
        let settled_at = since.saturating_add(i64::try_from(SETTLED_AFTER.as_micros()).unwrap_or(i64::MAX));
        order.0 >= since || (Micros::now().0 >= settled_at && self.mirror.is_complete())
    }
}

/// `None` for an answer that means nothing.
fn read(said: Value) -> Option<Reply> {
    let Value::Array(parts) = said else { return None };
    let [Value::Int(code), order, state, held, Value::Int(behind)] = <[Value; 5]>::try_from(parts).ok()? else {
        return None;
    };
    let behind = behind != 0;
    let known = match (order, state) {
        (Value::BulkString(order), Value::BulkString(state)) => Some(layout::standing(&order, &state)?),
        (Value::Nil, Value::Nil) => None,
        _ => return None,
    };
    match (code, held) {
        (0, _) => Some(Reply::Stands(known)),
        (1, Value::BulkString(held)) => Some(Reply::Leased { known, adopted: layout::ids(&held), behind }),
        (1, _) => Some(Reply::Leased { known, adopted: None, behind }),
        (2, _) => Some(Reply::Held),
        _ => None,
    }
}
