//! State shared between replicas, and the only home of `redis`: connections, limits over the fleet, replica ids.
//! Called by `app`, which starts it where `redis.url` is set.
//!
//! Redis is an accelerator (DESIGN 2.5): whatever becomes of it, nothing here waits without a bound, and a call that
//! fails leaves its caller with what this replica knows.
//!
//! * [`servers`]: what `redis.url` names. * [`call`]: one script with its keys. * [`link`]: the way to Redis for
//!   everyone here; `dial` makes connections, `node` speaks to one server, `topology` knows which of a Cluster has a key.
//! * [`replica`]: this one's id, and which others live. * [`limits`]: event limits of all replicas together.
//! * [`claims`]: keys claimed among replicas. `mirror`: states told behind the answers; `layout`: how they stand in Redis;
//!   `leases`: kept alive; `queues`: what of a key waits where.

mod call;
mod claims;
mod dial;
mod layout;
mod leases;
pub mod limits;
pub mod link;
mod mirror;
mod node;
mod pace;
mod queues;
pub mod replica;
pub mod servers;
mod topology;

use std::path::PathBuf;
use std::time::Duration;

pub use ::redis::Value as Reply;
pub use call::{Call, Down, Script};
pub use claims::Claims;
pub use dial::{Unreached, reach};
pub use limits::Limits;
pub use link::{Invalid, Link};
pub use queues::KEYS_MAX;
pub use replica::Replica;
pub use servers::Servers;

/// What Redis is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// States are copied to it behind the answer; each replica decides alone.
    Mirror,
    /// A key is claimed in it before its event is logged (DESIGN 5.4).
    #[default]
    Shared,
}

/// `redis` as meant by the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub servers: Servers,
    pub scope: Scope,
    /// Longest wait of a request for Redis.
    pub timeout: Duration,
    /// Every key begins with it and a colon.
    pub key_prefix: String,
    /// `None`: the host name's ordinal, else the lowest free one.
    pub replica_id: Option<u16>,
    /// PEM; `None`: the web's public authorities, as for upstreams.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// Whether a request's key is claimed in Redis before its event is logged.
    pub fn asks(&self) -> bool {
        self.scope == Scope::Shared
    }

    /// Differs where what lets us in does, without telling it.
    pub fn fingerprint(&self) -> String {
        self.servers.fingerprint()
    }
}
