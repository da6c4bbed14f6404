//! `spool repair`: what a start does to a spool, without one; and what a start does not do by itself: it gives up what the
//! disk cannot read.

use super::check::described;
use super::{Ended, FAILED, Held, Load, Out, Where, count, must_be_free, unusable};
use crate::outcome::DeadReason;
use crate::store::{Checked, Ending, ReadError, Store, Unreadable, Wrong};
use crate::words::verb;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Where,
}

const INSTEAD: &str = "it repairs by itself at its next start; to repair now, stop it first";

pub(super) fn run(arguments: Arguments, load: Load, out: Out) -> Ended {
    let place = arguments.place.find(load)?;
    let directory = place.directory.clone();
    must_be_free(&directory, INSTEAD)?;
    // Looked at before: opening it is the repair.
    let found = Store::check(&directory).map_err(|error| unusable(&directory, &error))?;
    let held = Held::open_past(place, Unreadable::IsDamage, INSTEAD)?;
    held.opened.store.set_aside(&found);
    let lost = bury_lost(&held, &found);
    let waiting = held.opened.recovered.waiting - lost;
    held.close()?;

    let after = Store::check(&directory).map_err(|error| unusable(&directory, &error))?;
    let news: Vec<_> = found.findings.iter().filter(|finding| !finding.set_aside).collect();
    for finding in &news {
        let done = match finding.what {
            Wrong::TornEnd => "cut",
            Wrong::Head | Wrong::Records | Wrong::LostEnd | Wrong::Checkpoint => "set aside",
            Wrong::Gap => "noted",
            Wrong::UnknownRecord | Wrong::Unreadable => "left",
        };
        writeln!(out, "{done}: {}", described(finding))?;
    }
    if lost > 0 {
        let reason = DeadReason::Unreadable.name();
        let now = verb(lost, "a dead letter", "dead letters");
        writeln!(out, "{} without a record: {now} now ({reason})", count(lost, "waiting event"))?;
    }
    if news.is_empty() && lost == 0 {
        writeln!(out, "nothing was damaged")?;
    }
    let checkpoint = after.checkpoints.last().is_some_and(|row| row.state == "whole");
    writeln!(out, "{}", if checkpoint { "a checkpoint was written" } else { "no checkpoint could be written" })?;
    writeln!(out, "{} in {}", count(waiting, "waiting event"), directory.display())?;
    if !after.is_damaged() && checkpoint {
        return Ok(0);
    }
    if after.is_damaged() {
        writeln!(out, "still damaged; a start goes on without it all the same:")?;
        let still = after.findings.iter().filter(|finding| finding.is_damage());
        still.into_iter().try_for_each(|finding| writeln!(out, "  {}", described(finding)))?;
    }
    Ok(FAILED)
}

/// Events that are owed and stand nowhere any more end as the forwarder would end them. Returns how many.
fn bury_lost(held: &Held, found: &Checked) -> u64 {
    let store = &held.opened.store;
    let mut buried = 0;
    for lost in &found.lost {
        let meter = held.metrics.upstream(&lost.upstream);
        for sequence in &lost.sequences {
            if !matches!(store.event(*sequence), Err(ReadError::Damaged(_))) {
                continue;
            }
            let ending = Ending::Dead { reason: DeadReason::Unreadable, status: None, attempts: 0 };
            store.settle(&meter, &lost.integration, *sequence, ending);
            meter.bury(DeadReason::Unreadable.name());
            buried += 1;
        }
    }
    buried
}
