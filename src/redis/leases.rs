//! The leases that live here: renewed from the grant until Redis has been told what became of the change, on the way of
//! requests' calls and not behind what waits to be told. Kept by `claims` and `mirror`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::call::Script;
use super::claims::{LEASE, Shared};
use super::layout;
use crate::dedup::Token;
use crate::event::StateKey;

/// How often they are looked at; one is renewed when it is so old.
const RENEW_EVERY: Duration = Duration::from_millis(250);

pub(super) static LEASES: Script = Script::new(include_str!("scripts/lease.lua"));

type Rows = HashMap<Token, (StateKey, Instant), foldhash::fast::RandomState>;

#[derive(Default)]
pub(super) struct Leases(Mutex<Rows>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for, and may be granted from now on.
    pub(super) fn begin(&self, lease: Token, key: StateKey) {
        self.lock().insert(lease, (key, Instant::now()));
    }

    /// Redis was told of its end, or it was not granted, or it is to lapse.
    pub(super) fn end(&self, lease: Token) {
        self.lock().remove(&lease);
    }

    fn due(&self) -> Vec<(Token, StateKey)> {
        let now = Instant::now();
        let mut rows = self.lock();
        let old = rows.iter_mut().filter(|(_, (_, since))| now - *since >= RENEW_EVERY);
        let due = old.map(|(lease, (key, since))| {
            *since = now;
            (*lease, *key)
        });
        due.collect()
    }
}

/// Renews them, until the link ends.
pub(super) async fn renew(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let calls = shared.leases.due().into_iter().filter_map(|(lease, key)| {
            let token = layout::token(shared.process, lease);
            shared.link.hand_over(shared.on(&LEASES, key).arg(token).number(LEASE.as_millis())).ok()
        });
        let answers: Vec<_> = calls.collect();
        // Whatever they say: one that is not held any more lapses or is another's.
        let _ = timeout(LEASE, join_all(answers)).await;
    }
}
