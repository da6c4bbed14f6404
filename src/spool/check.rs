//! `spool check`: what is damaged, and where.

use std::io;

use serde_json::json;

use super::{Ended, FAILED, Format, Load, Out, Where, beside, count, size, unusable};
use crate::store::{Checked, Finding, Store, Wrong};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Where,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: Arguments, load: Load, out: Out) -> Ended {
    let place = arguments.place.find(load)?;
    let checked = Store::check(&place.directory).map_err(|error| unusable(&place.directory, &error))?;
    let directory = place.directory.display().to_string();
    match arguments.format {
        Format::Json => {
            let mut whole = json!({ "directory": directory, "damaged": checked.is_damaged() });
            if let (Some(object), Ok(serde_json::Value::Object(rest))) =
                (whole.as_object_mut(), serde_json::to_value(&checked))
            {
                object.extend(rest);
            }
            writeln!(out, "{whole:#}")?;
        }
        Format::Text => text(&directory, &checked, out)?,
    }
    Ok(if checked.is_damaged() { FAILED } else { 0 })
}

fn text(directory: &str, checked: &Checked, out: Out) -> io::Result<()> {
    let used: u64 = checked.bytes.values().sum();
    let blank = checked.segments.iter().filter(|row| row.state == "blank").count();
    let blank = if blank == 0 { String::new() } else { format!(" ({blank} blank, made ahead of time)") };
    let whole = checked.checkpoints.iter().filter(|row| row.state == "whole").count();
    let segments = count(checked.segments.len() as u64, "segment");
    let checkpoints = count(checked.checkpoints.len() as u64, "checkpoint");
    writeln!(out, "{directory}: {segments}{blank}, {checkpoints} ({whole} whole), {}", size(used))?;
    if let Some(line) = beside(checked.presence) {
        writeln!(out, "{line}")?;
    }
    for (kind, bytes) in &checked.bytes {
        writeln!(out, "  {kind:12} {}", size(*bytes))?;
    }
    checked.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    checked.findings.iter().try_for_each(|finding| writeln!(out, "{}", line(finding)))?;
    for lost in &checked.lost {
        let events = count(lost.events, "event");
        let (upstream, integration) = (&lost.upstream, &lost.integration);
        writeln!(out, "LOST {events} of {integration} that should wait for {upstream}: no record of them is left")?;
    }
    if checked.is_damaged() {
        writeln!(out, "something is damaged: what is not goes on to be delivered")?;
        writeln!(out, "  stop the process, if one runs, then: surgegate spool repair --directory {directory}")
    } else {
        writeln!(out, "nothing is damaged")
    }
}

fn line(finding: &Finding) -> String {
    let grade = if finding.is_damage() { "DAMAGED" } else { "note:" };
    let aside = if finding.set_aside { " (set aside before: a copy is in quarantine/)" } else { "" };
    format!("{grade} {}{aside}", described(finding))
}

/// What was found, and where.
pub(super) fn described(finding: &Finding) -> String {
    let Finding { file, what, from, to, detail, .. } = finding;
    let detail = detail.as_deref().unwrap_or_default();
    let range = format!("offsets {from} to {to}, {}", size(to - from));
    let what = match what {
        Wrong::Head => format!("no readable head, so nothing in it can be read ({})", size(*to)),
        Wrong::Records => format!("damaged records: {range}"),
        Wrong::TornEnd => format!("torn end, as a crash leaves it: {range}"),
        Wrong::LostEnd => format!("its end is damaged: {range}"),
        Wrong::UnknownRecord => format!("a record of another version of this program ({detail}): {range}"),
        Wrong::Checkpoint => "not whole; a start takes the one before it".to_owned(),
        Wrong::Gap => format!("{detail} before its first are gone without a trace"),
        Wrong::Unreadable => format!("cannot be read: {detail}"),
    };
    format!("{file}: {what}")
}
