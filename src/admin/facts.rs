//! What is true of the proxy just now, in sentences, the worst first. Made here alone: the status page, `/api/v1/status`
//! and `surgegate top` show these sentences as they are.
//!
//! The order is that of the harm: what keeps alerts from people, then what refuses them, then what will soon do either,
//! then what an operator should know before the night. Within one kind the upstream with the most waiting comes first.

use std::cmp::Reverse;

use serde::Serialize;

use super::status::{Status, Upstream};
use crate::metrics::INTAKE;
use crate::outcome::Reason;
use crate::words::{count, size, span, thousands};

/// Space that lasts no longer is told of,
const FILLING_S: f64 = 6.0 * 3600.0;
/// and so is a spool that has less than this part left.
const FILLING_PART: u64 = 10;
/// An event that waits for longer, though its upstream answers, is old.
const OLD_S: f64 = 300.0;
/// A certificate that is valid no longer is told of; of one that has three days left, as of an outage.
const EXPIRING_S: i64 = 21 * 86_400;
const EXPIRING_SOON_S: i64 = 3 * 86_400;

/// How bad a fact is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    #[default]
    Good,
    /// To know.
    Note,
    /// To look at today.
    Warn,
    /// To look at now.
    Bad,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Good, Self::Note, Self::Warn, Self::Bad];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fact {
    pub(super) level: Level,
    /// The same for the same kind of fact, whatever its figures.
    pub(super) code: &'static str,
    pub(super) text: String,
}

/// What is to be said of one kind; nothing, mostly.
type Said = Vec<(Level, String)>;

/// Looks whether its kind is true.
type Look = fn(&Status) -> Said;

/// Every kind, in order.
const KINDS: [(&str, Look); 16] = [
    ("delivery_stopped", delivery_stopped),
    ("not_accepting", not_accepting),
    ("disk_filling", disk_filling),
    ("circuit_open", circuit_open),
    ("delivery_failing", delivery_failing),
    ("delivery_held", delivery_held),
    ("dead_letters_growing", dead_letters_growing),
    ("spool_old", spool_old),
    ("orphaned", orphaned),
    ("spool_damaged", spool_damaged),
    ("reload_failed", reload_failed),
    ("certificate_expiring", certificate_expiring),
    ("redis", redis),
    ("dead_letters", dead_letters),
    ("durability_memory", durability_memory),
    ("well", well),
];

/// The codes that facts may have.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(code, _)| *code)
}

/// All that is to be said, the worst first; never nothing.
pub(super) fn of(status: &Status) -> Vec<Fact> {
    let mut facts: Vec<Fact> = vec![];
    for (code, kind) in KINDS {
        if code == "well" && facts.iter().any(|fact| fact.level != Level::Note) {
            continue;
        }
        facts.extend(kind(status).into_iter().map(|(level, text)| Fact { level, code, text }));
    }
    // Nothing but notes: that all is well comes before them.
    if facts.last().is_some_and(|fact| fact.code == "well") {
        facts.rotate_right(1);
    }
    facts
}

/// Those of the upstreams that `is` says, the ones with the most waiting first.
fn of_upstreams(status: &Status, is: impl Fn(&Upstream) -> bool, say: impl Fn(&Upstream) -> (Level, String)) -> Said {
    let mut upstreams: Vec<&Upstream> = status.upstreams.iter().filter(|upstream| is(upstream)).collect();
    upstreams.sort_by_key(|upstream| Reverse(upstream.spool_events));
    upstreams.into_iter().map(say).collect()
}

fn is_down(upstream: &Upstream) -> bool {
    upstream.now.as_ref().is_some_and(|now| now.configured && now.down)
}

/// `pager answers 503 Service Unavailable`.
fn why(upstream: &Upstream) -> String {
    let error = upstream.now.as_ref().and_then(|now| now.last_error.as_deref());
    match error.map(|error| (error, error.strip_prefix("answered "))) {
        Some((_, Some(status))) => format!("{} answers {status}", upstream.name),
        Some((error, None)) => format!("{}: {error}", upstream.name),
        None => format!("{} does not answer", upstream.name),
    }
}

/// `48,211 events safe on disk`.
fn waiting(status: &Status, upstream: &Upstream) -> String {
    let place = if status.durability == "memory" { "waiting, in memory first" } else { "safe on disk" };
    format!("{} {place}", count(upstream.spool_events, "event"))
}

fn space(status: &Status) -> String {
    match status.spool.full_in_s {
        Some(seconds) => format!("space for {}", span(seconds)),
        None => format!("space for {} more", size(status.spool.free_bytes)),
    }
}

fn delivery_stopped(status: &Status) -> Said {
    of_upstreams(
        status,
        |upstream| is_down(upstream) && upstream.spool_events > 0,
        |upstream| {
            let since = upstream
                .now
                .as_ref()
                .and_then(|now| now.down_for_s)
                .map_or_else(String::new, |s| format!(" {}", span(s)));
            let (why, waiting, space) = (why(upstream), waiting(status, upstream), space(status));
            (Level::Bad, format!("DELIVERY STOPPED{since}: {why}. {waiting}, {space}."))
        },
    )
}

fn not_accepting(status: &Status) -> Said {
    let Some(reason) = status.not_ready else { return vec![] };
    let (level, text) = match reason {
        reason if reason == Reason::Stopping.label() => {
            (Level::Warn, "STOPPING: readiness is down, balancers send elsewhere; what is accepted stays on disk.")
        }
        reason if reason == Reason::SpoolFull.label() => {
            (Level::Bad, "NOT ACCEPTING: the spool is full. Senders get 503 and are asked to come back.")
        }
        reason if reason == Reason::SpoolFailed.label() => {
            (Level::Bad, "NOT ACCEPTING: the spool cannot be written. Senders get 503 and are asked to come back.")
        }
        _ => {
            return vec![(Level::Bad, format!("NOT ACCEPTING: {reason}. Senders get 503 and are asked to come back."))];
        }
    };
    vec![(level, text.to_owned())]
}

fn disk_filling(status: &Status) -> Said {
    let spool = &status.spool;
    let left = size(spool.free_bytes);
    match spool.full_in_s {
        Some(seconds) if seconds < FILLING_S => {
            let level = if seconds < FILLING_S / 6.0 { Level::Bad } else { Level::Warn };
            vec![(level, format!("DISK FILLING: {left} are left, full in {} at this rate.", span(seconds)))]
        }
        _ if spool.free_bytes < spool.max_bytes / FILLING_PART => {
            let most = size(spool.max_bytes);
            vec![(
                Level::Warn,
                format!("DISK FILLING: {left} of {most} are left; what waits or is dead takes the rest."),
            )]
        }
        _ => vec![],
    }
}

fn circuit_open(status: &Status) -> Said {
    of_upstreams(
        status,
        |upstream| is_down(upstream) && upstream.spool_events == 0,
        |upstream| (Level::Warn, format!("CIRCUIT OPEN: {}. Nothing waits for it just now.", why(upstream))),
    )
}

/// Its circuit is closed still: it refuses a few, or has only begun to refuse.
fn delivery_failing(status: &Status) -> Said {
    let refuses = |upstream: &Upstream| {
        let now = upstream.now.as_ref().filter(|now| now.configured);
        now.and_then(|now| now.last_status).is_some_and(|status| status >= 500)
    };
    of_upstreams(
        status,
        |upstream| !is_down(upstream) && refuses(upstream) && upstream.spool_events > 0,
        |upstream| {
            let waits = count(upstream.spool_events, "event");
            let verb = if upstream.spool_events == 1 { "is" } else { "are" };
            (Level::Warn, format!("DELIVERY FAILS: {}. {waits} {verb} tried again.", why(upstream)))
        },
    )
}

fn delivery_held(status: &Status) -> Said {
    let held = |upstream: &Upstream| upstream.now.as_ref().and_then(|now| now.held_for_s);
    let is = |upstream: &Upstream| held(upstream).is_some() && !is_down(upstream) && upstream.spool_events > 0;
    of_upstreams(status, is, |upstream| {
        let (left, waiting) = (span(held(upstream).unwrap_or_default()), waiting(status, upstream));
        (Level::Warn, format!("DELIVERY HELD {left} more: {} asked for it. {waiting}.", upstream.name))
    })
}

fn dead_letters_growing(status: &Status) -> Said {
    of_upstreams(
        status,
        |upstream| upstream.dead_lettered_lately > 0,
        |upstream| {
            let Upstream { name, dead_lettered_lately, dead_letters, .. } = upstream;
            let (grown, all) = (thousands(*dead_lettered_lately), count(*dead_letters, "dead letter"));
            let needs = if *dead_letters == 1 { "needs" } else { "need" };
            let at = if *name == INTAKE { "rejected at the intake".to_owned() } else { format!("at {name}") };
            (Level::Warn, format!("DEAD LETTERS GROWING: {grown} more in 5 min {at}. {all} {needs} a look."))
        },
    )
}

fn spool_old(status: &Status) -> Said {
    let age = |upstream: &Upstream| upstream.now.as_ref().filter(|now| now.configured)?.oldest_event_age_s;
    let is = |upstream: &Upstream| !is_down(upstream) && age(upstream).is_some_and(|age| age >= OLD_S);
    of_upstreams(status, is, |upstream| {
        let (age, waits) = (span(age(upstream).unwrap_or_default()), count(upstream.spool_events, "event"));
        let until =
            upstream.empty_in_s.map_or_else(|| "not getting less".to_owned(), |s| format!("sent in {}", span(s)));
        (Level::Warn, format!("SPOOL OLD: the oldest of {waits} for {} waits {age}; {until}.", upstream.name))
    })
}

fn orphaned(status: &Status) -> Said {
    let is_gone = |upstream: &Upstream| upstream.now.as_ref().is_none_or(|now| !now.configured);
    of_upstreams(
        status,
        |upstream| is_gone(upstream) && upstream.spool_events > 0,
        |upstream| {
            let waits = count(upstream.spool_events, "event");
            let verb = if upstream.spool_events == 1 { "waits" } else { "wait" };
            let text = format!(
                "ORPHANED: {waits} {verb} for {}, which is no longer configured; see surgegate spool reassign.",
                upstream.name
            );
            (Level::Warn, text)
        },
    )
}

fn spool_damaged(status: &Status) -> Said {
    let damaged = status.losses.damaged_records;
    let text =
        || format!("DAMAGE: {} set aside in quarantine; see surgegate spool check.", count(damaged, "damaged record"));
    (damaged > 0).then(|| (Level::Warn, text())).into_iter().collect()
}

fn reload_failed(status: &Status) -> Said {
    let reload = &status.configuration;
    if reload.is_taken() {
        return vec![];
    }
    let why = reload.message.as_deref().unwrap_or("surgegate validate says why");
    vec![(Level::Warn, format!("RELOAD FAILED: what changed in the configuration is not in force: {why}"))]
}

fn certificate_expiring(status: &Status) -> Said {
    let Some(certificate) = &status.certificate else { return vec![] };
    let left = certificate.expires_in_s;
    match left {
        ..=0 => vec![(
            Level::Bad,
            format!("CERTIFICATE EXPIRED {} ago: senders that check it are turned away.", span(-left as f64)),
        )],
        left if left < EXPIRING_S => {
            let level = if left < EXPIRING_SOON_S { Level::Bad } else { Level::Warn };
            vec![(level, format!("CERTIFICATE EXPIRING: it is valid for {} more.", span(left as f64)))]
        }
        _ => vec![],
    }
}

fn redis(status: &Status) -> Said {
    let Some(redis) = &status.redis else { return vec![] };
    if redis.replica_id_taken {
        let text = format!(
            "REPLICA ID TAKEN: another replica has the id {} too, and their incident numbers may be the same. Give each a \
             redis.replica_id of its own.",
            redis.replica_id
        );
        return vec![(Level::Warn, text)];
    }
    let limits = if redis.limiter_fallback { " Limits are this replica's own share." } else { "" };
    let servers = &redis.servers;
    match redis.up {
        true if redis.limiter_fallback => {
            vec![(Level::Note, "Limits are this replica's own share: Redis has just come back.".to_owned())]
        }
        true => vec![],
        false => {
            let text = format!(
                "REDIS AWAY: {servers}. Events are taken as before; duplicates between replicas are not told.{limits}"
            );
            vec![(Level::Warn, text)]
        }
    }
}

fn dead_letters(status: &Status) -> Said {
    let grows = |upstream: &&Upstream| upstream.dead_lettered_lately > 0;
    if status.upstreams.iter().any(|upstream| grows(&upstream)) {
        return vec![];
    }
    match status.upstreams.iter().map(|upstream| upstream.dead_letters).sum() {
        0 => vec![],
        1 => vec![(Level::Warn, "1 dead letter needs a look.".to_owned())],
        dead => vec![(Level::Warn, format!("{} need a look.", count(dead, "dead letter")))],
    }
}

fn durability_memory(status: &Status) -> Said {
    let text = "Durability is memory: a crash loses what was answered in the last moments.";
    (status.durability == "memory").then(|| (Level::Note, text.to_owned())).into_iter().collect()
}

fn well(_: &Status) -> Said {
    vec![(Level::Good, "All is well: accepting and delivering.".to_owned())]
}

#[cfg(test)]
mod tests;
