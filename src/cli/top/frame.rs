//! What `top` shows, as lines: the facts in the process's own sentences, the worst first, as its status page has them; then
//! flow, upstreams, integrations, and the rest, as far as there is room.

use crossterm::style::Color;
use serde::Deserialize;
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

use super::super::output::{Column, Screen, count, fit, printable, span, table, thousands};
use crate::words::{short, size};

/// Facts that are shown, the worst of them; the status page has all.
const FACTS_MAX: usize = 4;
/// Integrations that are shown, the busiest.
const INTEGRATIONS_MAX: usize = 5;

/// From so many columns on upstreams have all of theirs.
const WIDE: usize = 110;

/// `/api/v1/status`; a process of another version may leave out any of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    version: String,
    facts: Vec<Fact>,
    uptime_s: f64,
    ready: bool,
    durability: String,
    events: Events,
    losses: Losses,
    upstreams: Vec<Upstream>,
    integrations: Vec<Integration>,
    spool: Spool,
    dedup_entries: u64,
    connections: i64,
}

/// A sentence of the process's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Fact {
    level: String,
    text: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Losses {
    unaccounted: u64,
    damaged_records: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spool {
    bytes: u64,
    free_bytes: u64,
    empty_in_s: Option<f64>,
    full_in_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Integration {
    name: String,
    events_per_second: f64,
    accepted: u64,
    absorbed: u64,
    rejected: u64,
    limited: u64,
    last_event_ago_s: Option<f64>,
    last_refusal: Option<LastRefusal>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LastRefusal {
    ago_s: f64,
    reason: String,
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
    state: String,
    level: String,
    delivered: u64,
    dropped: u64,
    dead_letters: u64,
    spool_events: u64,
    now: Option<Now>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Now {
    requests_in_flight: u64,
    next_try_in_s: Option<f64>,
    answer_s: Option<f64>,
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

    /// Broken between words: a sentence is read to its end.
    fn wrapped(self, width: usize) -> Vec<Self> {
        let mut lines: Vec<String> = vec![];
        for word in printable(&self.text).split(' ') {
            match lines.last_mut() {
                Some(line) if line.width() + 1 + word.width() <= width => *line = format!("{line} {word}"),
                _ => lines.push(word.to_owned()),
            }
        }
        lines.into_iter().map(|text| Self { text, colour: self.colour }).collect()
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
        let [mut top, upstreams, integrations, bottom] = self.parts(width);
        top.extend(upstreams);
        top.extend(integrations);
        top.extend(bottom);
        top
    }

    /// As much as `height` rows hold: integrations give way first, then upstreams, the quiet ones before those in trouble.
    pub(super) fn lines_within(&self, width: usize, height: usize) -> Vec<Line> {
        let [mut lines, mut upstreams, integrations, bottom] = self.parts(width);
        let room = height.saturating_sub(lines.len() + bottom.len());
        if upstreams.len() + integrations.len() <= room {
            upstreams.extend(integrations);
        }
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

    fn parts(&self, width: usize) -> [Vec<Line>; 4] {
        let fitted = |line: Line| Line { text: fit(&printable(&line.text), width), ..line };
        let parts = [self.top(width), self.upstreams(width), self.integrations(width), self.bottom()];
        parts.map(|lines| lines.into_iter().map(fitted).collect())
    }

    fn top(&self, width: usize) -> Vec<Line> {
        let status = &self.now.status;
        let mut lines =
            vec![Line::plain(format!("Surgegate {}  {}  up {}", status.version, self.base, span(status.uptime_s)))];
        lines.extend(self.facts().into_iter().flat_map(|fact| fact.wrapped(width)));
        lines.push(Line::plain(""));
        lines.extend(self.flow(width));
        lines.push(Line::plain(""));
        lines
    }

    /// The worst first, in the words of the process; that it is away is the one fact that it cannot tell.
    fn facts(&self) -> Vec<Line> {
        let status = &self.now.status;
        if let Some(trouble) = self.trouble {
            let age = span(self.now.at.elapsed().as_secs_f64());
            return vec![Line { text: format!("NO ANSWER for {age}: {trouble}"), colour: Some(Color::Red) }];
        }
        if status.facts.is_empty() {
            let text = if status.ready { "It accepts; its version tells no more." } else { "NOT ACCEPTING." };
            return vec![Line::plain(text)];
        }
        let line = |fact: &Fact| Line { text: fact.text.clone(), colour: colour(&fact.level) };
        status.facts.iter().take(FACTS_MAX).map(line).collect()
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
        const COLUMNS: [Column; 10] = [
            Column::flexible("UPSTREAM"),
            Column::text("STATE"),
            Column::number("WAITING"),
            Column::number("IN FLIGHT"),
            Column::number("OLDEST"),
            Column::number("A SECOND"),
            Column::number("ANSWERS IN"),
            Column::number("NEXT TRY"),
            Column::number("DEAD"),
            Column::flexible("LAST ERROR"),
        ];
        const IN_FLIGHT: usize = 3;
        const ANSWERS_IN: usize = 6;
        let mut upstreams: Vec<&Upstream> = self.now.status.upstreams.iter().collect();
        upstreams.sort_by_key(|upstream| (!upstream.is_troubled(), std::cmp::Reverse(upstream.spool_events)));
        let before = |name: &str| self.before?.status.upstreams.iter().find(|upstream| upstream.name == name);
        let none = || "-".to_owned();
        let row = |upstream: &&Upstream| {
            let now = upstream.now.as_ref();
            let rate = before(&upstream.name).and_then(|before| self.rate(before.delivered, upstream.delivered));
            vec![
                upstream.name.clone(),
                upstream.state.clone(),
                thousands(upstream.spool_events),
                now.map_or_else(none, |now| now.requests_in_flight.to_string()),
                now.and_then(|now| now.oldest_event_age_s).map_or_else(none, span),
                rate.map_or_else(none, |rate| format!("{rate:.1}")),
                now.and_then(|now| now.answer_s).map_or_else(none, short),
                now.and_then(|now| now.next_try_in_s).map_or_else(none, short),
                thousands(upstream.dead_letters),
                now.and_then(|now| now.last_error.clone()).unwrap_or_else(none),
            ]
        };
        let mut rows: Vec<Vec<String>> = upstreams.iter().map(row).collect();
        if rows.is_empty() {
            return vec![Line::plain("no upstreams")];
        }
        let mut columns = COLUMNS.to_vec();
        if width < WIDE {
            // The status page has them.
            for at in [ANSWERS_IN, IN_FLIGHT] {
                columns.remove(at);
                rows.iter_mut().for_each(|row| drop(row.remove(at)));
            }
        }
        let colours = upstreams.iter().map(|upstream| colour(&upstream.level).filter(|_| upstream.is_troubled()));
        let lines = table(&columns, &rows, Some(width)).into_iter();
        lines.zip(std::iter::once(None).chain(colours)).map(|(text, colour)| Line { text, colour }).collect()
    }

    /// The busiest.
    fn integrations(&self, width: usize) -> Vec<Line> {
        const COLUMNS: [Column; 8] = [
            Column::flexible("INTEGRATION"),
            Column::number("A SECOND"),
            Column::number("ACCEPTED"),
            Column::number("ABSORBED"),
            Column::number("LIMITED"),
            Column::number("REFUSED"),
            Column::number("LAST EVENT"),
            Column::flexible("LAST REFUSAL"),
        ];
        let mut all: Vec<&Integration> = self.now.status.integrations.iter().collect();
        all.sort_by(|a, b| b.events_per_second.total_cmp(&a.events_per_second).then_with(|| a.name.cmp(&b.name)));
        let none = || "-".to_owned();
        let row = |one: &&Integration| {
            let refusal = one.last_refusal.as_ref();
            vec![
                one.name.clone(),
                format!("{:.1}", one.events_per_second),
                thousands(one.accepted),
                thousands(one.absorbed),
                thousands(one.limited),
                thousands(one.rejected.saturating_sub(one.limited)),
                one.last_event_ago_s.map_or_else(none, |ago| format!("{} ago", span(ago))),
                refusal.map_or_else(none, |last| format!("{}, {} ago", last.reason, span(last.ago_s))),
            ]
        };
        let rows: Vec<Vec<String>> = all.iter().take(INTEGRATIONS_MAX).map(row).collect();
        if rows.is_empty() {
            return vec![];
        }
        let mut lines = vec![Line::plain("")];
        lines.extend(table(&COLUMNS, &rows, Some(width)).into_iter().map(Line::plain));
        if all.len() > INTEGRATIONS_MAX {
            lines.push(Line::plain(format!("... {} more", all.len() - INTEGRATIONS_MAX)));
        }
        lines
    }

    fn bottom(&self) -> Vec<Line> {
        let status = &self.now.status;
        let gauge = |value: i64| u64::try_from(value).unwrap_or(0);
        let dead: u64 = status.upstreams.iter().map(|upstream| upstream.dead_letters).sum();
        let dropped: u64 = status.upstreams.iter().map(|upstream| upstream.dropped).sum();
        let refused: Vec<String> =
            by_count(&status.events.rejected).map(|(name, count)| format!("{} {name}", thousands(*count))).collect();
        let lost = status.losses.unaccounted + status.losses.damaged_records;
        let spool = &status.spool;
        let mut space = format!("{} used, {} free", size(spool.bytes), size(spool.free_bytes));
        for (what, seconds) in [("empty", spool.empty_in_s), ("full", spool.full_in_s)] {
            if let Some(seconds) = seconds {
                space += &format!(", {what} in {}", span(seconds));
            }
        }
        let mut lines = vec![
            Line::plain(""),
            Line {
                text: format!(
                    "lost {}   dead letters {}, dropped {}",
                    thousands(lost),
                    thousands(dead),
                    thousands(dropped)
                ),
                colour: (lost > 0).then_some(Color::Red),
            },
            Line::plain(format!("spool {space}, {}", status.durability)),
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
        matches!(self.level.as_str(), "bad" | "warn")
    }
}

fn colour(level: &str) -> Option<Color> {
    match level {
        "bad" => Some(Color::Red),
        "warn" => Some(Color::Yellow),
        "good" => Some(Color::Green),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
