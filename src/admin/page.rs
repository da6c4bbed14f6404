//! The status page: plain HTML without script, refreshed by the browser. Everything shown is escaped.

use std::fmt::Write;

use super::status::{Status, Upstream};
use crate::forward::{DeadRow, UpstreamStatus};

pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--good:#1a7f37;--bad:#b42318;--line:#8884}\n\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\n\
h1{font-size:1.2rem}h2{font-size:1rem;margin-top:2rem}\n\
.headline{font-size:1.3rem;font-weight:600;padding:.6rem 1rem;border-left:.4rem solid var(--good)}\n\
.headline.bad{border-color:var(--bad)}\n\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}\n\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n\
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#ff7b72}}\n";

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

/// A table of names and counts.
fn counts(out: &mut String, title: &str, rows: &[(&str, u64)]) {
    if rows.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = write!(out, "<h2>{}</h2><div class=\"scroll\"><table>", escaped(title));
    for (name, count) in rows {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td class=\"n\">{count}</td></tr>", escaped(name));
    }
    out.push_str("</table></div>");
}

/// What an upstream fails with, and when it is tried again.
fn failing(now: &UpstreamStatus) -> String {
    let why = now.last_error.as_deref().unwrap_or("no answer");
    let next = now.next_try_in_s.map_or_else(|| "being tried".to_owned(), |s| format!("next try in {s:.0} s"));
    format!("failing, {next}: {why}")
}

fn upstream_row(out: &mut String, upstream: &Upstream) {
    let state = upstream.now.as_ref().map_or_else(
        || "not configured".to_owned(),
        |now| match (now.configured, now.down, now.held_for_s) {
            (false, _, _) => "removed: its events are kept".to_owned(),
            (_, true, _) => failing(now),
            (_, _, Some(seconds)) => format!("held for {seconds:.0} s by its own limit"),
            _ => "fine".to_owned(),
        },
    );
    let age = upstream
        .now
        .as_ref()
        .and_then(|now| now.oldest_event_age_s)
        .map_or_else(|| "–".to_owned(), |s| format!("{s:.0} s"));
    let _ = write!(
        out,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        escaped(&upstream.name),
        escaped(&state),
        upstream.delivered,
        upstream.spool_events,
        age,
        upstream.dead_letters,
        upstream.dropped,
    );
}

fn dead_letters(out: &mut String, rows: &[DeadRow]) {
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Dead letters</h2><p>Replay with <code>POST /api/v1/dead-letters/ID/replay</code>, drop with \
         <code>DELETE /api/v1/dead-letters/ID</code>.</p><div class=\"scroll\"><table><tr><th>id</th><th>reason</th>\
         <th>status</th><th class=\"n\">attempts</th><th>integration</th><th>key</th><th>since</th></tr>",
    );
    for row in rows {
        let status = row.status.map_or_else(|| "–".to_owned(), |status| status.to_string());
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{status}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&row.id),
            escaped(row.reason),
            row.attempts,
            escaped(&row.integration),
            escaped(row.key.as_deref().unwrap_or("–")),
            row.at,
        );
    }
    out.push_str("</table></div>");
}

pub(super) fn render(status: &Status, dead: &[DeadRow]) -> String {
    let (good, headline) = status.headline();
    let mut out = String::with_capacity(8192);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Surgegate</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta http-equiv=\"refresh\" content=\"5\">\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body><main><h1>Surgegate {}</h1>\
         <p class=\"headline{}\">{}</p>",
        status.version,
        if good { "" } else { " bad" },
        escaped(&headline),
    );
    for warning in &status.warnings {
        let _ = write!(out, "<p>Warning: {}</p>", escaped(warning));
    }
    let events = &status.events;
    let delivered: u64 = status.upstreams.iter().map(|upstream| upstream.delivered).sum();
    counts(
        &mut out,
        "Events",
        &[
            ("received", events.received),
            ("accepted", events.accepted),
            ("delivered", delivered),
            ("in flight", events.in_flight),
        ],
    );
    out.push_str(
        "<h2>Upstreams</h2><div class=\"scroll\"><table><tr><th>name</th><th>state</th><th class=\"n\">delivered</th>\
         <th class=\"n\">waiting</th><th class=\"n\">oldest</th><th class=\"n\">dead letters</th><th class=\"n\">dropped</th></tr>",
    );
    for upstream in &status.upstreams {
        upstream_row(&mut out, upstream);
    }
    out.push_str("</table></div>");
    dead_letters(&mut out, dead);
    counts(&mut out, "Absorbed, by outcome", &events.absorbed);
    counts(&mut out, "Refused, by reason", &events.rejected);
    let gauge = |count: i64| u64::try_from(count).unwrap_or(0);
    counts(
        &mut out,
        "Process",
        &[
            ("seconds up", gauge(status.uptime_s)),
            ("connections", gauge(status.connections)),
            ("keys held", status.dedup_entries as u64),
            ("spool bytes", gauge(status.spool_bytes)),
            ("damaged records", status.spool_damaged_records),
        ],
    );
    let _ = write!(out, "<p>Durability: {}.</p></main></body></html>", escaped(status.durability));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_shown_and_not_obeyed() {
        assert_eq!(escaped("<b a='1'>&\"x\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;x&quot;");
    }
}
