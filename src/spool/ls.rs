//! `spool ls`: what waits for which upstream, and what is dead.

use std::io;

use serde_json::{Value, json};

use super::{Ended, Failure, Format, Load, Out, Where, beside, count, size, table, unusable};
use crate::config::Config;
use crate::metrics::INTAKE;
use crate::store::{Look, QueueRow, Store, Stored};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Only what goes to this upstream.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// List the events that wait, in order for each upstream; as JSON one object a line.
    #[arg(long)]
    events: bool,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments, load: Load, out: Out) -> Ended {
    let place = arguments.place.find(load)?;
    let look = Store::look(&place.directory).map_err(|error| unusable(&place.directory, &error))?;
    let mut rows = look.queues();
    rows.retain(|row| arguments.upstream.as_ref().is_none_or(|name| **name == *row.upstream));
    if arguments.events {
        events(&look, &rows, arguments.format, out)?;
        return Ok(0);
    }
    let directory = place.directory.display().to_string();
    match arguments.format {
        Format::Json => {
            let queues: Vec<Value> = rows.iter().map(|row| queue_as_json(row, place.config.as_ref())).collect();
            let whole = json!({
                "directory": directory,
                "process": look.presence,
                "segments": look.segments,
                "bytes": look.bytes,
                "quarantine_bytes": look.quarantined_bytes,
                "damaged": look.damaged,
                "waiting": rows.iter().map(|row| row.waiting).sum::<u64>(),
                "dead_letters": rows.iter().map(dead).sum::<u64>(),
                "queues": queues,
            });
            writeln!(out, "{whole:#}")?;
        }
        Format::Text => text(&directory, &look, &rows, place.config.as_ref(), out)?,
    }
    Ok(0)
}

fn dead(row: &QueueRow) -> u64 {
    row.dead_letters.iter().map(|(_, count)| count).sum()
}

/// Whether an upstream can be sent to, as far as anybody said.
fn is_configured(config: Option<&Config>, upstream: &str) -> Option<bool> {
    config.map(|config| upstream == INTAKE || config.upstreams.iter().any(|known| *known.name == *upstream))
}

fn queue_as_json(row: &QueueRow, config: Option<&Config>) -> Value {
    let mut value = json!({
        "upstream": &*row.upstream,
        "integration": &*row.integration,
        "waiting": row.waiting,
        "dead_letters": row.dead_letters.iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
    });
    if let Some(oldest) = row.oldest {
        value["oldest_received_at"] = json!(oldest);
    }
    if let Some(configured) = is_configured(config, &row.upstream) {
        value["configured"] = json!(configured);
    }
    value
}

fn text(directory: &str, look: &Look, rows: &[QueueRow], config: Option<&Config>, out: Out) -> io::Result<()> {
    let segments = count(look.segments as u64, "segment");
    writeln!(out, "{directory}: {segments}, {}", size(look.bytes))?;
    if let Some(line) = beside(look.presence) {
        writeln!(out, "{line}")?;
    }
    if look.damaged > 0 {
        writeln!(out, "{} damaged: `surgegate spool check` says where", count(look.damaged, "place"))?;
    }
    if rows.is_empty() {
        return writeln!(out, "nothing waits, and there are no dead letters");
    }
    let head = ["UPSTREAM", "INTEGRATION", "WAITING", "OLDEST SINCE", "DEAD LETTERS"].map(str::to_owned).to_vec();
    let mut cells = vec![head];
    for row in rows {
        let letters: Vec<String> = row.dead_letters.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        cells.push(vec![
            row.upstream.to_string(),
            row.integration.to_string(),
            row.waiting.to_string(),
            row.oldest.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            if letters.is_empty() { "-".to_owned() } else { letters.join(", ") },
        ]);
    }
    table(out, &cells)?;
    let [waiting, letters] = [rows.iter().map(|row| row.waiting).sum(), rows.iter().map(dead).sum()];
    writeln!(out, "in all {} and {}", count(waiting, "waiting event"), count(letters, "dead letter"))?;
    let mut orphans: Vec<&str> = rows
        .iter()
        .filter(|row| row.waiting > 0 && is_configured(config, &row.upstream) == Some(false))
        .map(|row| &*row.upstream)
        .collect();
    orphans.dedup();
    if !orphans.is_empty() {
        writeln!(out, "not in the configuration, so nothing is sent there: {}", orphans.join(", "))?;
        writeln!(out, "  surgegate spool reassign --from {} --to NAME, or surgegate spool drop", orphans[0])?;
    }
    Ok(())
}

fn events(look: &Look, rows: &[QueueRow], format: Format, out: Out) -> Result<(), Failure> {
    if format == Format::Text {
        if let Some(line) = beside(look.presence) {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "{:>10}  {:26}  {:27}  {:10}  UPSTREAM  INTEGRATION  KEY",
            "SEQUENCE", "EVENT UID", "RECEIVED AT", "ACTION"
        )?;
    }
    for row in rows {
        let mut written = Ok(());
        let mut each = |sequence: u64, event: Option<Stored>| {
            if written.is_ok() {
                written = match format {
                    Format::Text => writeln!(out, "{}", event_line(row, sequence, event.as_ref())),
                    Format::Json => writeln!(out, "{}", event_as_json(row, sequence, event.as_ref())),
                };
            }
        };
        look.events(&row.upstream, &row.integration, &mut each)
            .map_err(|error| Failure::text(format!("the log cannot be read now: {error}"), "try again"))?;
        written?;
    }
    Ok(())
}

fn event_as_json(row: &QueueRow, sequence: u64, stored: Option<&Stored>) -> Value {
    let mut value = json!({ "sequence": sequence, "upstream": &*row.upstream, "integration": &*row.integration });
    match stored {
        Some(Stored { event, .. }) => {
            value["event_uid"] = json!(event.uid);
            value["received_at"] = json!(event.received_at);
            value["action"] = json!(event.action);
            if let Some(key) = &event.key {
                value["key"] = json!(key.masked());
            }
        }
        None => value["unreadable"] = json!(true),
    }
    value
}

fn event_line(row: &QueueRow, sequence: u64, stored: Option<&Stored>) -> String {
    let (uid, at, action, key) = match stored {
        Some(Stored { event, .. }) => (
            event.uid.to_string(),
            event.received_at.to_string(),
            format!("{:?}", event.action).to_lowercase(),
            event.key.as_ref().map_or_else(|| "-".to_owned(), |key| key.masked()),
        ),
        None => ("-".to_owned(), "-".to_owned(), "unreadable".to_owned(), "-".to_owned()),
    };
    format!("{sequence:>10}  {uid:26}  {at:27}  {action:11} {}  {}  {key}", row.upstream, row.integration)
}
