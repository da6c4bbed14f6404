//! This replica's id, and which others live. Taken by `app` at the start, before the log is opened: incident numbers
//! carry it (DESIGN 5.4).
//!
//! The id is configured, or the ordinal in the host's name, or leased: the lowest that no replica has had for 30 days,
//! kept beside the spool. A token kept there too tells this replica, which may have it again at once, from another that
//! was given the same id, which may not while this one lives: one that said so within the last 3 s, by Redis's clock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::Value;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{Call, Link, Script};
use crate::event::{Micros, Uid};

static BEAT: Script = Script::new(include_str!("scripts/beat.lua"));

/// Ids are 0 to 1023: the low 10 bits of incident numbers.
const IDS: u16 = 1024;
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A replica lives for so long after its last word.
const LIFE: Duration = Duration::from_secs(3);
/// An id goes to another replica when nobody has had it for so long.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest wait for Redis at the start.
const REDIS_MAX: Duration = Duration::from_secs(5);
/// A replica of ours that was killed may still count as living.
const HELD_MAX: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_millis(200);
/// Redis may just have been flushed: those that live say so first.
const SETTLE: Duration = Duration::from_millis(1500);
/// Beside the spool's own folder.
const FILE: &str = "replica.json";

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("redis.replica_id: another living replica has {id}{}", if *.from_host { ", the ordinal in this host's name" } else { "" })]
    Held { id: u16, from_host: bool },
    #[error("no id for this replica: Redis, which leases them, cannot be reached")]
    Unreached,
    #[error("no id for this replica: all {IDS} are taken")]
    Full,
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
}

impl TakeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some("give each replica a redis.replica_id of its own, 0 to 1023; one that was killed counts as living for 3 s".to_owned()),
            Self::Unreached => Some("set redis.replica_id, or run it where host names end in an ordinal: then no start waits for Redis".to_owned()),
            Self::Full | Self::File { .. } => None,
        }
    }
}

/// What is kept beside the spool.
#[derive(Serialize, Deserialize)]
struct Kept {
    token: String,
    /// A leased one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u16>,
}

/// This replica among the others.
pub struct Replica {
    id: u16,
    /// Those that live, this one among them, as of the last second that Redis was there.
    living: ArcSwap<Vec<u16>>,
    /// Another one that lives has its id.
    is_taken: AtomicBool,
}

/// What Redis says to a beat.
enum Beat {
    Is(u16, Vec<u16>),
    Full,
    Held,
    Away,
}

impl Replica {
    /// Takes an id and goes on saying that it lives. `directory`: that of the spool.
    ///
    /// # Errors
    /// There is none to have; see [`TakeError`].
    pub async fn take(link: &Arc<Link>, directory: &Path) -> Result<Arc<Self>, TakeError> {
        let path = directory.join(FILE);
        let failed = |source| TakeError::File { path: path.clone(), source };
        let mut kept = read(&path).map_err(failed)?;
        let until = Instant::now() + REDIS_MAX;
        while !link.is_up() && Instant::now() < until {
            sleep(AGAIN / 10).await;
        }
        let given =
            link.config().replica_id.map(|id| (id, false)).or_else(|| ordinal(&host_name()?).map(|id| (id, true)));
        let (id, living) = match given {
            Some((id, from_host)) => fixed(link, &kept.token, id, from_host).await?,
            None => leased(link, &mut kept).await?,
        };
        kept.id = if given.is_some() { None } else { Some(id) };
        write(&path, &kept).map_err(failed)?;
        tracing::info!(id, living = living.len(), "this replica has its id");
        let replica = Arc::new(Self { id, living: ArcSwap::from_pointee(living), is_taken: AtomicBool::new(false) });
        link.spawn(go_on(Arc::downgrade(link), Arc::downgrade(&replica), kept.token));
        Ok(replica)
    }

    pub fn id(&self) -> u16 {
        self.id
    }

    /// Whether a replica lives, as of the last second that Redis was there: this one always.
    pub fn is_alive(&self, id: u16) -> bool {
        id == self.id || self.living.load().contains(&id)
    }

    /// Whether another replica that lives has the same id: their incident numbers may be the same.
    pub fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed)
    }

    /// How many live, at least 1.
    pub fn living(&self) -> u32 {
        u32::try_from(self.living.load().len()).unwrap_or(u32::MAX).max(1)
    }
}

/// One that others must not have. A Redis that is away is asked later.
async fn fixed(link: &Link, token: &str, id: u16, from_host: bool) -> Result<(u16, Vec<u16>), TakeError> {
    let until = Instant::now() + HELD_MAX;
    loop {
        match beat(link, token, Some(id)).await {
            Beat::Is(id, living) => return Ok((id, living)),
            Beat::Held if Instant::now() < until => sleep(AGAIN).await,
            Beat::Held | Beat::Full => return Err(TakeError::Held { id, from_host }),
            Beat::Away => return Ok((id, vec![id])),
        }
    }
}

/// The one it had before, or another.
async fn leased(link: &Link, kept: &mut Kept) -> Result<(u16, Vec<u16>), TakeError> {
    match (kept.id, beat_of(link, kept).await) {
        (_, Some(Beat::Is(id, living))) => return Ok((id, living)),
        (Some(id), Some(Beat::Away)) => return Ok((id, vec![id])),
        _ => {}
    }
    let until = Instant::now() + REDIS_MAX;
    sleep(SETTLE).await;
    loop {
        match beat(link, &kept.token, None).await {
            Beat::Is(id, living) => return Ok((id, living)),
            Beat::Full | Beat::Held => return Err(TakeError::Full),
            Beat::Away if Instant::now() < until => sleep(AGAIN).await,
            Beat::Away => return Err(TakeError::Unreached),
        }
    }
}

/// For the id that is kept, where one is.
async fn beat_of(link: &Link, kept: &Kept) -> Option<Beat> {
    Some(beat(link, &kept.token, Some(kept.id?)).await)
}

async fn beat(link: &Link, token: &str, id: Option<u16>) -> Beat {
    let call = Call::new(&BEAT, format!("{}:replicas", link.prefix()))
        .number(id.map_or(-1, i32::from))
        .arg(token)
        .number(LIFE.as_millis())
        .number(KEEP.as_millis());
    let Some(Ok(Value::Array(answer))) = link.send_behind(vec![call]).await.pop() else { return Beat::Away };
    let mut numbers = answer.iter().map(|value| if let Value::Int(number) = value { *number } else { -1 });
    match numbers.next() {
        Some(-2) => Beat::Held,
        Some(id) => match u16::try_from(id) {
            Ok(id) => Beat::Is(id, numbers.filter_map(|id| u16::try_from(id).ok()).collect()),
            Err(_) => Beat::Full,
        },
        None => Beat::Away,
    }
}

/// Says that it lives, until the link or the replica is gone.
async fn go_on(link: Weak<Link>, replica: Weak<Replica>, token: String) {
    loop {
        sleep(BEAT_EVERY).await;
        let (Some(link), Some(replica)) = (link.upgrade(), replica.upgrade()) else { return };
        match beat(&link, &token, Some(replica.id)).await {
            Beat::Is(_, living) => {
                replica.living.store(Arc::new(living));
                replica.is_taken.store(false, Ordering::Relaxed);
            }
            Beat::Held | Beat::Full => {
                if !replica.is_taken.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        id = replica.id,
                        "another replica has this one's id: their incident numbers may be the same. Give each a redis.replica_id of its own"
                    );
                }
            }
            Beat::Away => {}
        }
    }
}

/// What stands behind the last dash of a StatefulSet's pod.
fn ordinal(host: &str) -> Option<u16> {
    let name = host.split('.').next()?;
    let (set, ordinal) = name.rsplit_once('-')?;
    // Clouds name machines after their address.
    let parts: Vec<&str> = name.split('-').collect();
    let is_address =
        matches!(parts[..], ["ip", a, b, c, d] if [a, b, c, d].iter().all(|part| part.parse::<u8>().is_ok()));
    let is_plain = ordinal == "0" || !ordinal.starts_with('0');
    let digits = ordinal.bytes().all(|byte| byte.is_ascii_digit());
    let id = ordinal.parse().ok().filter(|id| *id < IDS)?;
    (!set.is_empty() && !is_address && is_plain && digits).then_some(id)
}

/// As a container is told, else as the machine says.
fn host_name() -> Option<String> {
    let told = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    told.or_else(|| rustix::system::uname().nodename().to_str().ok().map(str::to_owned))
}

/// What cannot be read is made anew: the token only tells replicas apart.
fn read(path: &Path) -> io::Result<Kept> {
    let fresh = || Kept { token: Uid::new(Micros::now()).to_string(), id: None };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh()),
        Err(error) => return Err(error),
    };
    let kept = serde_json::from_str(&text).ok();
    Ok(kept.filter(|kept: &Kept| Uid::parse(&kept.token).is_some()).unwrap_or_else(fresh))
}

/// Whole or not at all.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let beside = path.with_extension("json.new");
    let mut file = std::fs::File::create(&beside)?;
    serde_json::to_writer(&mut file, kept)?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_is_that_of_a_stateful_set() {
        for (host, id) in [
            ("surgegate-0", Some(0)),
            ("surgegate-17.surgegate.alerts.svc", Some(17)),
            ("a-b-1023", Some(1023)),
            ("a-b-1024", None),
            ("surgegate-01", None),
            ("surgegate-+1", None),
            ("surgegate", None),
            ("-3", None),
            ("surgegate-5d9c7b8f6-x7k2p", None),
            ("ip-10-0-0-12", None),
            ("", None),
        ] {
            assert_eq!(ordinal(host), id, "{host}");
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_nonsense_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below").join(FILE);
        let first = read(&path).unwrap();
        write(&path, &Kept { token: first.token.clone(), id: Some(7) }).unwrap();
        let again = read(&path).unwrap();
        assert_eq!((again.token, again.id), (first.token.clone(), Some(7)));
        std::fs::write(&path, "{\"token\": \"a b\"}").unwrap();
        assert_ne!(read(&path).unwrap().token, first.token);
    }
}
