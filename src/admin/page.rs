//! The status page: plain HTML, made here as a whole and, for those who watch, part by part (`live`). It reads without a
//! script; with one its parts are renewed in place, and what an operator may do is done through the admin API. Its files
//! are in `page/`: HTML around the parts, style, script.

mod delivery;
mod flow;
mod markup;
mod senders;
mod system;

use std::collections::BTreeMap;
use std::fmt::Write;

use hyper::StatusCode;

use super::status::Status;
use super::{Answered, Desk, text};
use crate::event::Micros;
use crate::forward::{DeadRow, Filter};
use crate::outcome::{DeadReason, Outcome, Reason};

const HTML: &str = include_str!("page/index.html");

/// Beside the page itself: path, content type, text.
const FILES: [(&str, &str, &str); 3] = [
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Integrations and upstreams that the page lists; the API gives all.
const ROWS_MAX: usize = 200;
/// Findings of the last reload.
const FINDINGS_MAX: usize = 10;
/// Groups of dead letters, and letters shown of each.
const GROUPS_MAX: usize = 20;
const LETTERS_MAX: usize = 5;

/// One of the page's own files.
pub(super) fn file(path: &str) -> Option<Answered> {
    let name = path.strip_prefix('/')?;
    let (_, kind, body) = FILES.iter().find(|(known, ..)| *known == name)?;
    Some(text(StatusCode::OK, kind, *body))
}

/// Dead letters of one upstream and reason, with the first of them.
pub(super) struct Group {
    upstream: String,
    reason: &'static str,
    statuses: Vec<String>,
    count: usize,
    oldest: Micros,
    rows: Vec<DeadRow>,
}

impl Group {
    /// All there are now, the largest first.
    pub(super) async fn all(desk: &Desk) -> Vec<Self> {
        let mut groups = BTreeMap::<(String, &'static str), Self>::new();
        for row in desk.forward.dead_letter_groups(Filter::default()).await {
            let key = (row.upstream.clone(), row.reason);
            let group = groups.entry(key).or_insert_with(|| Self {
                upstream: row.upstream,
                reason: row.reason,
                statuses: vec![],
                count: 0,
                oldest: row.oldest_at,
                rows: vec![],
            });
            group.count += row.count;
            group.oldest = group.oldest.min(row.oldest_at);
            group.statuses.extend(row.status.map(|status| status.to_string()));
        }
        let mut groups: Vec<Self> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups.truncate(GROUPS_MAX);
        for group in &mut groups {
            let reason = DeadReason::ALL.into_iter().find(|reason| reason.name() == group.reason);
            let filter = Filter { upstream: Some(group.upstream.clone()), reason, ..Filter::default() };
            group.rows = desk.forward.dead_letters(filter, None, LETTERS_MAX).await;
        }
        groups
    }
}

/// The parts in which the page is renewed, by their ids.
pub(super) type Parts = Vec<(&'static str, String)>;

pub(super) fn parts(status: &Status, dead: &[Group], line: &[[f32; 2]]) -> Parts {
    vec![
        ("headline", flow::headline(status)),
        ("asof", flow::as_of(status)),
        ("flow", flow::flow(status, line)),
        ("upstreams", delivery::upstreams(status)),
        ("integrations", senders::integrations(status)),
        ("refusals", senders::refusals(status)),
        ("dead", delivery::dead_letters(dead)),
        ("spool", delivery::spool(status)),
        ("system", system::system(status)),
    ]
}

/// The whole page.
pub(super) fn render(parts: &Parts) -> String {
    // Everything is between markers of the form `{{name}}`.
    let mut out = String::with_capacity(32 * 1024);
    for (at, piece) in HTML.split("{{").enumerate() {
        if at == 0 {
            out.push_str(piece);
            continue;
        }
        let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
        match (name, parts.iter().find(|(id, _)| *id == name)) {
            (_, Some((_, part))) => out.push_str(part),
            ("decisions", _) => out.push_str(&decisions()),
            _ => {}
        }
        out.push_str(rest);
    }
    out
}

/// The words by which decisions can be filtered.
fn decisions() -> String {
    let options = |kind: &str, label: &str, words: &mut dyn Iterator<Item = &'static str>| {
        let words: String = words.map(|word| format!("<option value=\"{kind}={word}\">{word}</option>")).collect();
        format!("<optgroup label=\"{label}\">{words}</optgroup>")
    };
    options("outcome", "accepted as", &mut Outcome::ALL.iter().map(|outcome| outcome.name()))
        + &options("reason", "refused for", &mut Reason::all().map(Reason::label))
}

/// What a list leaves out.
fn more(out: &mut String, all: usize) {
    if all > ROWS_MAX {
        let hidden = all - ROWS_MAX;
        let _ = write!(out, "<p>And {hidden} more: <a href=\"/api/v1/status\">/api/v1/status</a> has all.</p>");
    }
}

#[cfg(test)]
mod tests;
