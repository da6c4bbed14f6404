//! `spool reassign` and `spool drop`: what waits for an upstream goes to another, or nowhere.

use std::path::Path;

use super::{Ended, Failure, Held, Load, Out, Place, USAGE, Where, beside, count, must_be_free, unusable};
use crate::config::Config;
use crate::outcome::DropReason;
use crate::store::{Ending, QueueRow, Store};
use crate::words::verb;

/// Events taken at once.
const STEP: usize = 4096;

#[derive(clap::Args)]
pub(super) struct Reassign {
    #[command(flatten)]
    place: Where,
    /// The upstream that events wait for; it may be gone from the configuration.
    #[arg(long, value_name = "NAME")]
    from: String,
    /// An upstream of the configuration.
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Only events of this integration.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
pub(super) struct Drop {
    #[command(flatten)]
    place: Where,
    /// The upstream; it may be gone from the configuration.
    #[arg(long, value_name = "NAME")]
    upstream: String,
    /// Only events of this integration.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// The dead letters of that upstream in place of what waits for it.
    #[arg(long)]
    dead_letters: bool,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Say what would be dropped, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

const STOP_FIRST: &str = "stop it first; --dry-run may be used beside it";

/// The queues of one upstream.
fn queues(directory: &Path, upstream: &str, integration: Option<&str>, out: Out) -> Result<Vec<QueueRow>, Failure> {
    let look = Store::look(directory).map_err(|error| unusable(directory, &error))?;
    if let Some(line) = beside(look.presence) {
        writeln!(out, "{line}")?;
    }
    let mut rows = look.queues();
    rows.retain(|row| *row.upstream == *upstream && integration.is_none_or(|name| *row.integration == *name));
    Ok(rows)
}

/// Whether an upstream, or an integration at it, is known to have anything here; else who has.
fn must_have(directory: &Path, upstream: &str) -> Failure {
    let rows = Store::look(directory).map(|look| look.queues()).unwrap_or_default();
    let mut names: Vec<String> = rows.iter().map(|row| row.upstream.to_string()).collect();
    names.dedup();
    let next = if names.is_empty() {
        "nothing waits in this spool, and there are no dead letters".to_owned()
    } else {
        format!("something waits, or is dead, for {}; `surgegate spool ls` says more", names.join(", "))
    };
    Failure::text(format!("nothing here for {upstream}"), next)
}

fn dead_letters(rows: &[QueueRow]) -> u64 {
    rows.iter().flat_map(|row| &row.dead_letters).map(|(_, count)| count).sum()
}

fn by_integration(rows: impl Iterator<Item = (String, u64)>) -> String {
    let parts: Vec<String> =
        rows.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

pub(super) fn reassign(arguments: &Reassign, load: Load, out: Out) -> Ended {
    let Reassign { place, from, to, integration, dry_run } = arguments;
    let config = place.load(load)?;
    must_be_an_upstream(&config, from, to)?;
    let directory = config.spool.directory.clone();
    if !dry_run {
        must_be_free(&directory, STOP_FIRST)?;
    }
    let rows = queues(&directory, from, integration.as_deref(), out)?;
    let waiting: u64 = rows.iter().map(|row| row.waiting).sum();
    let parts = by_integration(rows.iter().map(|row| (row.integration.to_string(), row.waiting)));
    if rows.is_empty() {
        return Err(must_have(&directory, from));
    }
    if *dry_run {
        writeln!(out, "would give {}{parts} from {from} to {to}", count(waiting, "event"))?;
    } else {
        let held = Held::open(Place { directory, config: Some(config) }, STOP_FIRST)?;
        let given = give(&held, from, to, integration.as_deref());
        held.close()?;
        writeln!(out, "gave {}{parts} from {from} to {to}: sent at the next start", count(given, "event"))?;
    }
    let dead = dead_letters(&rows);
    if dead > 0 {
        let stay = verb(dead, "stays where it is", "stay where they are");
        writeln!(out, "{} of {from} {stay}", count(dead, "dead letter"))?;
    }
    Ok(0)
}

fn must_be_an_upstream(config: &Config, from: &str, to: &str) -> Result<(), Failure> {
    if from == to {
        return Err(Failure::text(format!("--from and --to are both {to}"), "name two upstreams"));
    }
    if config.upstreams.iter().any(|upstream| *upstream.name == *to) {
        return Ok(());
    }
    let names: Vec<&str> = config.upstreams.iter().map(|upstream| &*upstream.name).collect();
    let next = format!("give them to one of: {}", names.join(", "));
    Err(Failure::text(format!("{to} is no upstream of the configuration"), next))
}

/// Every waiting event of a queue, while it is being emptied.
fn each_waiting(held: &Held, upstream: &str, integration: Option<&str>, act: &mut dyn FnMut(&str, u64)) -> u64 {
    let mut done = 0;
    for (meter, name) in &held.opened.recovered.queues {
        if *meter.name != *upstream || integration.is_some_and(|wanted| **name != *wanted) {
            continue;
        }
        let mut after = 0;
        loop {
            let some = held.opened.store.waiting_sequences(meter, name, after, STEP);
            let Some(last) = some.last() else { break };
            after = *last;
            some.iter().for_each(|sequence| act(name, *sequence));
            done += some.len() as u64;
        }
    }
    done
}

fn give(held: &Held, from: &str, to: &str, integration: Option<&str>) -> u64 {
    let [source, target] = [from, to].map(|name| held.metrics.upstream(name));
    each_waiting(held, from, integration, &mut |name, sequence| {
        held.opened.store.reassign(&source, &target, name, sequence);
        source.drop_waiting(DropReason::Reassigned.name());
        target.enqueue();
    })
}

pub(super) fn drop(arguments: &Drop, load: Load, out: Out) -> Ended {
    let Drop { place, upstream, integration, dead_letters: letters, yes, dry_run: _ } = arguments;
    let place = place.find(load)?;
    let directory = place.directory.clone();
    if *yes {
        must_be_free(&directory, STOP_FIRST)?;
    }
    let rows = queues(&directory, upstream, integration.as_deref(), out)?;
    if rows.is_empty() {
        return Err(must_have(&directory, upstream));
    }
    let of = |row: &QueueRow| if *letters { dead_letters(std::slice::from_ref(row)) } else { row.waiting };
    let parts = by_integration(rows.iter().map(|row| (row.integration.to_string(), of(row))));
    let noun = if *letters { "dead letter" } else { "waiting event" };
    if !yes {
        let number = rows.iter().map(of).sum();
        writeln!(out, "would drop {}{parts} of {upstream} for good", count(number, noun))?;
        if arguments.dry_run {
            return Ok(0);
        }
        writeln!(out, "nothing was dropped: say --yes to do it")?;
        return Ok(USAGE);
    }
    let held = Held::open(place, STOP_FIRST)?;
    let dropped = if *letters {
        drop_letters(&held, upstream, integration.as_deref())
    } else {
        let meter = held.metrics.upstream(upstream);
        each_waiting(&held, upstream, integration.as_deref(), &mut |name, sequence| {
            held.opened.store.settle(&meter, name, sequence, Ending::Dropped(DropReason::Operator));
            meter.drop_waiting(DropReason::Operator.name());
        })
    };
    held.close()?;
    writeln!(out, "dropped {}{parts} of {upstream}", count(dropped, noun))?;
    Ok(0)
}

fn drop_letters(held: &Held, upstream: &str, integration: Option<&str>) -> u64 {
    let mut dropped = 0;
    for dead in &held.opened.recovered.dead {
        if *dead.upstream.name != *upstream || integration.is_some_and(|wanted| *dead.integration != *wanted) {
            continue;
        }
        let ending = Ending::Dropped(DropReason::Operator);
        held.opened.store.settle(&dead.upstream, &dead.integration, dead.sequence, ending);
        dead.upstream.drop_dead(DropReason::Operator.name());
        dropped += 1;
    }
    dropped
}
