//! Those who are sent to: upstreams, the spool before them, and what they would not take.

use std::fmt::Write;

use super::markup::{Column, NONE, button, escaped, pairs, section, shape, table};
use super::{Group, ROWS_MAX};
use crate::admin::status::{Status, Upstream};
use crate::event::Micros;
use crate::forward::DeadRow;
use crate::metrics::INTAKE;
use crate::words::{count, rate, short, size, span, thousands};

const UPSTREAMS: [Column; 9] = [
    Column::text("Upstream"),
    Column::text("State"),
    Column::number("Waiting"),
    Column::number("Oldest"),
    Column::number("Delivered/s"),
    Column::number("Answers in"),
    Column::text("Circuit"),
    Column::number("Next try"),
    Column::text("Last error"),
];

const LETTERS: [Column; 5] = [
    Column::text("Dead letter"),
    Column::text("Event"),
    Column::number("Attempts"),
    Column::number("Since"),
    Column::text("Do"),
];

fn none() -> String {
    NONE.to_owned()
}

/// Those in trouble first, then those with the most waiting.
pub(super) fn upstreams(status: &Status) -> String {
    let mut all: Vec<&Upstream> = status.upstreams.iter().filter(|upstream| upstream.name != INTAKE).collect();
    all.sort_by_key(|upstream| (std::cmp::Reverse(upstream.level as u8), std::cmp::Reverse(upstream.spool_events)));
    let rows: Vec<_> = all.iter().take(ROWS_MAX).map(|upstream| (upstream.name.clone(), row(upstream))).collect();
    let mut body = String::new();
    table(&mut body, &UPSTREAMS, &rows);
    super::more(&mut body, all.len());
    section("upstreams", "Upstreams", &body)
}

fn row(upstream: &Upstream) -> Vec<String> {
    let now = upstream.now.as_ref();
    let is_troubled = now.is_some_and(|now| now.down) || upstream.spool_events > 0;
    let circuit = now.map_or(NONE, |now| now.circuit).replace('_', " ");
    let since =
        now.and_then(|now| now.down_for_s).map_or_else(String::new, |seconds| format!(" for {}", span(seconds)));
    vec![
        escaped(&upstream.name),
        format!("{} {}", shape(upstream.level), upstream.state),
        thousands(upstream.spool_events),
        now.and_then(|now| now.oldest_event_age_s).map_or_else(none, span),
        rate(upstream.delivered_per_second),
        now.and_then(|now| now.answer_s).map_or_else(none, short),
        format!("{circuit}{since}"),
        now.and_then(|now| now.next_try_in_s).map_or_else(none, |seconds| format!("in {}", short(seconds))),
        now.and_then(|now| now.last_error.as_deref()).filter(|_| is_troubled).map_or_else(none, escaped),
    ]
}

pub(super) fn spool(status: &Status) -> String {
    let spool = &status.spool;
    let used = spool.max_bytes.saturating_sub(spool.free_bytes);
    let meter = format!(
        "<meter min=\"0\" max=\"{max}\" low=\"{low}\" high=\"{high}\" optimum=\"0\" value=\"{used}\" \
         aria-label=\"Space of the spool in use\"></meter> {} free of {}",
        size(spool.free_bytes),
        size(spool.max_bytes),
        max = spool.max_bytes,
        low = spool.max_bytes / 2,
        high = spool.max_bytes / 10 * 9,
    );
    let empty = match (spool.events, spool.empty_in_s) {
        (0, _) => "now".to_owned(),
        (_, Some(seconds)) => format!("in {}", span(seconds)),
        (_, None) => "not at this rate".to_owned(),
    };
    let mut body = String::new();
    pairs(
        &mut body,
        &[
            ("Waiting", count(spool.events, "event")),
            ("Oldest", spool.oldest_event_age_s.map_or_else(none, span)),
            ("Empty", empty),
            ("Full", spool.full_in_s.map_or_else(|| "not at this rate".to_owned(), |s| format!("in {}", span(s)))),
            ("Space", meter),
            ("Durability", status.durability.to_owned()),
        ],
    );
    section("spool", "Spool", &body)
}

/// Groups with their newest letters, and what can be done about each.
pub(super) fn dead_letters(groups: &[Group]) -> String {
    let all: usize = groups.iter().map(|group| group.count).sum();
    let mut body = String::new();
    if groups.is_empty() {
        body.push_str("<p>None.</p>");
    } else {
        body.push_str("<p class=\"js\">");
        let sendable: usize = groups.iter().filter(|group| group.upstream != INTAKE).map(|group| group.count).sum();
        if sendable > 0 {
            body.push_str(&many("replay", "Replay all…", "", sendable, "of all upstreams"));
        }
        body.push_str(&many("drop", "Drop all…", "", all, "of all upstreams"));
        body.push_str("</p><noscript><p>Replay and drop them with <code>surgegate dead-letters</code>.</p></noscript>");
    }
    groups.iter().for_each(|group| one_group(&mut body, group));
    let title = format!("Dead letters <small>{}</small>", thousands(all as u64));
    section("dead", &title, &body)
}

fn many(act: &str, label: &str, query: &str, count: usize, what: &str) -> String {
    let about = format!("{} {} {what}", label.trim_end_matches('…'), crate::words::count(count as u64, "dead letter"));
    button(act, label, &about, &[("query", query), ("what", what)])
}

fn one_group(out: &mut String, group: &Group) {
    let Group { upstream, reason, statuses, count, oldest, rows, .. } = group;
    let statuses = if statuses.is_empty() { String::new() } else { format!(" ({})", statuses.join(", ")) };
    let place = if upstream == INTAKE { "at the intake".to_owned() } else { format!("at {}", escaped(upstream)) };
    let since = span((Micros::now().0 - oldest.0) as f64 / 1e6);
    let _ = write!(
        out,
        "<details data-key=\"{key}\"><summary><b>{}</b> {reason}{statuses} {place}, the oldest {since} ago</summary><p class=\"js\">",
        thousands(*count as u64),
        key = escaped(&format!("{upstream}-{reason}")),
    );
    let query = format!("upstream={upstream}&reason={reason}");
    let what = format!("{reason} at {upstream}");
    if upstream != INTAKE {
        out.push_str(&many("replay", "Replay group…", &query, *count, &what));
    }
    out.push_str(&many("drop", "Drop group…", &query, *count, &what));
    out.push_str("</p>");
    let rows: Vec<_> = rows.iter().map(|row| (row.id.clone(), letter(row))).collect();
    let shown = rows.len();
    table(out, &LETTERS, &rows);
    if shown < *count {
        let _ = write!(out, "<p>The first {shown}; <code>surgegate dead-letters ls</code> lists all.</p>");
    }
    out.push_str("</details>");
}

fn letter(row: &DeadRow) -> Vec<String> {
    let action = row.action.map_or("", crate::event::Action::name);
    let key = row.key.as_deref().map_or_else(String::new, |key| format!(" of {}", escaped(key)));
    let since = span((Micros::now().0 - row.at.0) as f64 / 1e6);
    let id = &[("id", row.id.as_str())];
    let one =
        |act, label: &str| button(act, label, &format!("{} dead letter {}", label.trim_end_matches('…'), row.id), id);
    let mut acts = one("show", "Show");
    if row.upstream != INTAKE {
        acts += &one("replay-one", "Replay…");
    }
    acts += &one("drop-one", "Drop…");
    vec![
        escaped(&row.id),
        format!("{action}{key}, {}", escaped(&row.integration)),
        row.attempts.to_string(),
        format!("{since} ago"),
        acts,
    ]
}
