//! Those who send: integrations, and what was refused of them.

use std::fmt::Write;

use super::ROWS_MAX;
use super::markup::{Column, NONE, escaped, section, shape, table};
use crate::admin::facts::Level;
use crate::admin::refusals::{Refused, Seen};
use crate::admin::status::{Integration, Status};
use crate::words::{rate, span, thousands};

const COLUMNS: [Column; 8] = [
    Column::text("Integration"),
    Column::number("A second"),
    Column::number("Accepted"),
    Column::number("Absorbed"),
    Column::number("Limited"),
    Column::number("Refused"),
    Column::number("Last event"),
    Column::text("Last refusal"),
];

/// The busiest first; those that never sent last.
pub(super) fn integrations(status: &Status) -> String {
    let mut all: Vec<&Integration> = status.integrations.iter().collect();
    all.sort_by(|a, b| b.events_per_second.total_cmp(&a.events_per_second).then_with(|| a.name.cmp(&b.name)));
    let rows: Vec<_> = all.iter().take(ROWS_MAX).map(|one| (one.name.clone(), row(one))).collect();
    let mut body = String::new();
    table(&mut body, &COLUMNS, &rows);
    super::more(&mut body, all.len());
    let title = format!("Integrations <small>{}</small>", thousands(all.len() as u64));
    section("integrations", &title, &body)
}

fn row(one: &Integration) -> Vec<String> {
    let none = || NONE.to_owned();
    let state = if one.enabled { String::new() } else { format!(" {} disabled", shape(Level::Warn)) };
    let refusal =
        one.last_refusal.as_ref().map_or_else(none, |last| format!("{}, {} ago", last.reason, span(last.ago_s)));
    vec![
        escaped(&one.name) + &state,
        rate(one.events_per_second),
        thousands(one.accepted),
        thousands(one.absorbed),
        thousands(one.limited),
        thousands(one.rejected - one.limited.min(one.rejected)),
        one.last_event_ago_s.map_or_else(none, |ago| format!("{} ago", span(ago))),
        refusal,
    ]
}

/// Each reason with its last refusal and what to send instead.
pub(super) fn refusals(status: &Status) -> String {
    let mut body = String::new();
    if status.refusals.is_empty() {
        body.push_str("<p>Nothing was refused.</p>");
    }
    status.refusals.iter().for_each(|refused| reason(&mut body, refused));
    section("refusals", "Refusals by reason", &body)
}

fn reason(out: &mut String, refused: &Refused) {
    let Refused { reason, count, about, instead, sample } = refused;
    let from = sample
        .as_ref()
        .and_then(|sample| sample.integration.as_deref())
        .map_or_else(String::new, |name| format!(", last from {}", escaped(name)));
    let count = if *count > 0 { thousands(*count) } else { NONE.to_owned() };
    let _ = write!(
        out,
        "<details data-key=\"{reason}\"><summary><b>{count}</b> {reason}{from}</summary><p>{}</p>",
        code(about)
    );
    if let Some(sample) = sample {
        sampled(out, sample);
    }
    if let Some(instead) = instead {
        let _ = write!(
            out,
            "<p>Send instead: {}</p>",
            if instead.contains('{') { format!("<code>{}</code>", escaped(instead)) } else { code(instead) }
        );
    }
    out.push_str("</details>");
}

fn sampled(out: &mut String, sample: &Seen) {
    let Seen { at, dialect, source, status, request_id, message, errors, body, .. } = sample;
    let at = at.to_string();
    let time = at.get(11..19).unwrap_or_default();
    let _ = write!(
        out,
        "<p>Last: {time} UTC from {}, {}, answered {status}: {}. Request {}.</p>",
        escaped(source),
        dialect.unwrap_or("no dialect"),
        escaped(message),
        escaped(request_id),
    );
    if !errors.is_empty() {
        let lines: String = errors.iter().map(|error| format!("<li>{}</li>", escaped(error))).collect();
        let _ = write!(out, "<ul>{lines}</ul>");
    }
    if let Some(body) = body {
        let _ = write!(out, "<p>Its body, masked: <code>{}</code></p>", escaped(body));
    }
}

/// Text whose words between backticks are code.
fn code(text: &str) -> String {
    text.split('`').enumerate().fold(String::new(), |mut out, (at, part)| {
        let part = escaped(part);
        let _ = if at % 2 == 1 { write!(out, "<code>{part}</code>") } else { write!(out, "{part}") };
        out
    })
}
