//! What `top` shows, as lines: the worst fact first, then flow, upstreams, and the rest, as far as there is room.

use crossterm::style::Color;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::output::{Column, Screen, count, fit, printable, span, table, thousands};

/// Most warnings of the configuration that are shown: the log and `surgegate validate` tell them all.
const WARNINGS_MAX: usize = 3;

/// `/api/v1/status`; a process of another version may leave out any of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    version: String,
    uptime_s: f64,
    ready: bool,
    not_ready: Option<String>,
    durability: String,
    events: Events,
    upstreams: Vec<Upstream>,
    dedup_entries: u64,
    connections: i64,
    spool_bytes: i64,
    spool_damaged_records: u64,
    warnings: Vec<String>,
    configuration: Configuration,
}

/// How reading the configuration ended the last time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    status: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Events {
    received: u64,
    accepted: u64,
    absorbed: Vec<(String, u64)>,
    rejected: Vec<(String, u64)>,
    in_flight: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Upstream {
    name: String,
    delivered: u64,
    dropped: u64,
    dead_letters: u64,
    spool_events: u64,
    now: Option<Now>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Now {
    configured: bool,
    requests_in_flight: u64,
    held_for_s: Option<f64>,
    down: bool,
    circuit: Option<String>,
    last_error: Option<String>,
    oldest_event_age_s: Option<f64>,
}

/// A status and when it was read.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: Status,
}

/// One line and its colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    text: String,
    colour: Option<Color>,
}

impl Line {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None }
    }

    pub(super) fn shown(&self, screen: Screen) -> String {
        self.colour.map_or_else(|| self.text.clone(), |colour| screen.paint(&self.text, colour))
    }
}

/// All that a frame is made of.
pub(super) struct Frame<'a> {
    pub(super) base: String,
    pub(super) now: &'a Look,
    /// The look before, for rates.
    pub(super) before: Option<&'a Look>,
    /// Why there is none newer than `now`.
    pub(super) trouble: Option<&'a str>,
}

impl Frame<'_> {
    /// All of it, each line at most `width` columns wide.
    pub(super) fn lines(&self, width: usize) -> Vec<Line> {
        let [mut top, upstreams, bottom] = self.parts(width);
        top.extend(upstreams);
        top.extend(bottom);
        top
    }

    /// As much as `height` rows hold: upstreams give way first, the quiet ones before those in trouble.
    pub(super) fn lines_within(&self, width: usize, height: usize) -> Vec<Line> {
        let [mut lines, mut upstreams, bottom] = self.parts(width);
        let room = height.saturating_sub(lines.len() + bottom.len());
        if upstreams.len() > room {
            // The last row says what is missing; the heads are one of those that stay.
            let hidden = upstreams.len() - room.saturating_sub(1);
            upstreams.truncate(room.saturating_sub(1));
            if room > 0 {
                upstreams.push(Line::plain(fit(&format!("... {hidden} more"), width)));
            }
        }
        lines.extend(upstreams);
        lines.extend(bottom);
        lines.truncate(height);
        lines
    }

    fn parts(&self, width: usize) -> [Vec<Line>; 3] {
        let fitted = |line: Line| Line { text: fit(&printable(&line.text), width), ..line };
        [self.top(width), self.upstreams(width), self.bottom()].map(|lines| lines.into_iter().map(fitted).collect())
    }

    fn top(&self, width: usize) -> Vec<Line> {
        let status = &self.now.status;
        let mut lines =
            vec![Line::plain(format!("Surgegate {}  {}  up {}", status.version, self.base, span(status.uptime_s)))];
        lines.push(self.headline());
        let warnings = status.warnings.iter().take(WARNINGS_MAX);
        lines.extend(warnings.map(|text| Line { text: format!("warning: {text}"), colour: Some(Color::Yellow) }));
        lines.push(Line::plain(""));
        lines.extend(self.flow(width));
        lines.push(Line::plain(""));
        lines
    }

    /// The worst fact.
    fn headline(&self) -> Line {
        let bad = |text: String| Line { text, colour: Some(Color::Red) };
        let warn = |text: String| Line { text, colour: Some(Color::Yellow) };
        let status = &self.now.status;
        if let Some(trouble) = self.trouble {
            let age = span(self.now.at.elapsed().as_secs_f64());
            return bad(format!("NO ANSWER for {age}: {trouble}"));
        }
        if !status.ready {
            let why = status.not_ready.as_deref().unwrap_or("not ready");
            return bad(format!("NOT ACCEPTING: {why}. Senders get 503 and are asked to come back."));
        }
        let troubled = status.upstreams.iter().filter(|upstream| upstream.is_troubled() && upstream.spool_events > 0);
        if let Some(worst) = troubled.max_by_key(|upstream| upstream.spool_events) {
            let wait = count(worst.spool_events, "event");
            let verb = if worst.spool_events == 1 { "waits" } else { "wait" };
            return bad(format!("DELIVERY HELD: {} ({}). {wait} {verb} on disk.", worst.name, worst.why()));
        }
        if status.spool_damaged_records > 0 {
            return warn(format!("DAMAGE: {} in the spool.", count(status.spool_damaged_records, "damaged record")));
        }
        if status.configuration.status.as_deref().is_some_and(|status| status != "reloaded") {
            let what = "CONFIGURATION NOT TAKEN: what changed in its files is not in force";
            return bad(format!("{what}; run surgegate validate."));
        }
        match status.upstreams.iter().map(|upstream| upstream.dead_letters).sum() {
            0 => Line { text: "All is well: accepting and delivering.".to_owned(), colour: Some(Color::Green) },
            1 => warn("1 dead letter needs a look: surgegate dead-letters ls".to_owned()),
            dead => warn(format!("{} need a look: surgegate dead-letters groups", count(dead, "dead letter"))),
        }
    }

    /// Totals, and what came to them since the look before.
    fn flow(&self, width: usize) -> Vec<Line> {
        const COLUMNS: [Column; 6] = [
            Column::text(""),
            Column::number("RECEIVED"),
            Column::number("ACCEPTED"),
            Column::number("ABSORBED"),
            Column::number("REFUSED"),
            Column::number("DELIVERED"),
        ];
        let totals = self.now.status.flow();
        let row = |name: &str, cells: [String; 5]| std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>();
        let mut rows = vec![row("events", totals.map(thousands))];
        if let Some(before) = self.before {
            let then = before.status.flow();
            let rates: [Option<f64>; 5] = std::array::from_fn(|at| self.rate(then[at], totals[at]));
            rows.push(row(
                "a second",
                rates.map(|rate| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))),
            ));
        }
        table(&COLUMNS, &rows, Some(width)).into_iter().map(Line::plain).collect()
    }

    /// Per second between the two looks; none where the process began anew.
    fn rate(&self, before: u64, now: u64) -> Option<f64> {
        let seconds = (self.now.at - self.before?.at).as_secs_f64();
        let more = now.checked_sub(before)?;
        (seconds > 0.0).then(|| more as f64 / seconds)
    }

    fn upstreams(&self, width: usize) -> Vec<Line> {
        const COLUMNS: [Column; 8] = [
            Column::flexible("UPSTREAM"),
            Column::text("STATE"),
            Column::number("WAITING"),
            Column::number("IN FLIGHT"),
            Column::number("OLDEST"),
            Column::number("A SECOND"),
            Column::number("DEAD"),
            Column::flexible("LAST ERROR"),
        ];
        let mut upstreams: Vec<&Upstream> = self.now.status.upstreams.iter().collect();
        upstreams.sort_by_key(|upstream| (!upstream.is_troubled(), std::cmp::Reverse(upstream.spool_events)));
        let before = |name: &str| self.before?.status.upstreams.iter().find(|upstream| upstream.name == name);
        let none = || "-".to_owned();
        let row = |upstream: &&Upstream| {
            let now = upstream.now.as_ref();
            let rate = before(&upstream.name).and_then(|before| self.rate(before.delivered, upstream.delivered));
            vec![
                upstream.name.clone(),
                upstream.state(),
                thousands(upstream.spool_events),
                now.map_or_else(none, |now| now.requests_in_flight.to_string()),
                now.and_then(|now| now.oldest_event_age_s).map_or_else(none, span),
                rate.map_or_else(none, |rate| format!("{rate:.1}")),
                thousands(upstream.dead_letters),
                now.and_then(|now| now.last_error.clone()).unwrap_or_else(none),
            ]
        };
        let rows: Vec<Vec<String>> = upstreams.iter().map(row).collect();
        if rows.is_empty() {
            return vec![Line::plain("no upstreams")];
        }
        let colours = upstreams.iter().map(|upstream| upstream.is_troubled().then_some(Color::Red));
        let lines = table(&COLUMNS, &rows, Some(width)).into_iter();
        lines.zip(std::iter::once(None).chain(colours)).map(|(text, colour)| Line { text, colour }).collect()
    }

    fn bottom(&self) -> Vec<Line> {
        let status = &self.now.status;
        let gauge = |value: i64| u64::try_from(value).unwrap_or(0);
        let dead: u64 = status.upstreams.iter().map(|upstream| upstream.dead_letters).sum();
        let dropped: u64 = status.upstreams.iter().map(|upstream| upstream.dropped).sum();
        let refused: Vec<String> =
            by_count(&status.events.rejected).map(|(name, count)| format!("{} {name}", thousands(*count))).collect();
        let mut lines = vec![
            Line::plain(""),
            Line::plain(format!(
                "spool {}, {}   dead letters {}, dropped {}",
                size(gauge(status.spool_bytes)),
                status.durability,
                thousands(dead),
                thousands(dropped)
            )),
            Line::plain(format!(
                "{}   events in flight {}   keys {}",
                count(gauge(status.connections), "connection"),
                thousands(status.events.in_flight),
                thousands(status.dedup_entries)
            )),
        ];
        if !refused.is_empty() {
            lines.push(Line::plain(format!("refused: {}", refused.join(", "))));
        }
        lines
    }
}

/// The most first.
fn by_count(rows: &[(String, u64)]) -> impl Iterator<Item = &(String, u64)> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    rows.into_iter()
}

fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

impl Status {
    /// Received, accepted, absorbed, refused, delivered.
    fn flow(&self) -> [u64; 5] {
        let sum = |rows: &[(String, u64)]| rows.iter().map(|(_, count)| count).sum();
        let delivered = self.upstreams.iter().map(|upstream| upstream.delivered).sum();
        let events = &self.events;
        [events.received, events.accepted, sum(&events.absorbed), sum(&events.rejected), delivered]
    }
}

impl Upstream {
    fn is_troubled(&self) -> bool {
        self.now.as_ref().map_or(self.spool_events > 0, |now| {
            let is_open = now.circuit.as_deref().is_some_and(|circuit| circuit != "closed");
            now.down || is_open || now.held_for_s.is_some() || (!now.configured && self.spool_events > 0)
        })
    }

    fn state(&self) -> String {
        let Some(now) = &self.now else { return "unknown".to_owned() };
        match (now.configured, now.circuit.as_deref(), now.held_for_s) {
            (false, ..) => "removed".to_owned(),
            (_, Some("open"), _) => "circuit open".to_owned(),
            (_, Some("half_open"), _) => "probing".to_owned(),
            _ if now.down => "failing".to_owned(),
            (.., Some(seconds)) => format!("held {}", span(seconds)),
            _ => "fine".to_owned(),
        }
    }

    fn why(&self) -> String {
        let error = self.now.as_ref().and_then(|now| now.last_error.as_deref());
        error.map_or_else(|| self.state(), str::to_owned)
    }
}

#[cfg(test)]
mod tests;
