//! What is seen first: the facts, and the flow with what was lost on it.

use std::fmt::Write;

use super::markup::{escaped, section, shape};
use crate::admin::facts::{Fact, Level};
use crate::admin::status::Status;
use crate::event::Micros;
use crate::metrics::INTAKE;
use crate::words::{rate, span, thousands};

/// The facts, the worst first and large.
pub(super) fn headline(status: &Status) -> String {
    let mut facts = status.facts.iter();
    let worst = facts.next();
    let (level, code) = worst.map_or((Level::Good, ""), |fact| (fact.level, fact.code));
    let mut out =
        format!("<section id=\"headline\" class=\"{}\" data-code=\"{code}\" aria-label=\"Now\">", level.name());
    if let Some(worst) = worst {
        let _ = write!(out, "<p id=\"worst\">{}</p>", sentence(worst));
    }
    let others: Vec<&Fact> = facts.collect();
    if !others.is_empty() {
        out.push_str("<ul>");
        for fact in others {
            let _ = write!(out, "<li data-key=\"{}\">{}</li>", escaped(&fact.text), sentence(fact));
        }
        out.push_str("</ul>");
    }
    out + "</section>"
}

fn sentence(fact: &Fact) -> String {
    format!("{} <span>{}</span>", shape(fact.level), escaped(&fact.text))
}

/// When it was read.
pub(super) fn as_of(status: &Status) -> String {
    let now = Micros::now().to_string();
    let time = now.get(11..19).unwrap_or_default();
    let up = span(status.uptime_s as f64);
    format!("<p id=\"asof\">As of <time datetime=\"{now}\">{time}</time> UTC, up {up}</p>")
}

fn stage(out: &mut String, name: &str, total: u64, per_second: f64, beside: &[(&str, u64)]) {
    let _ = write!(out, "<li><h3>{name}</h3><b>{}</b><span>{}/s</span>", thousands(total), rate(per_second));
    out.push_str("<small>");
    let some: Vec<String> = beside.iter().map(|(name, count)| format!("{} {name}", thousands(*count))).collect();
    let _ = write!(out, "{}</small></li>", some.join(", "));
}

/// Received, accepted, delivered, and lost.
pub(super) fn flow(status: &Status, line: &[[f32; 2]]) -> String {
    let (events, rates, losses) = (&status.events, &status.per_second, &status.losses);
    let sum = |rows: &[(&'static str, u64)]| rows.iter().map(|(_, count)| count).sum::<u64>();
    let delivered = status.upstreams.iter().map(|upstream| upstream.delivered).sum();
    let mut body = String::from("<ol class=\"flow\">");
    let refused = sum(&events.rejected);
    stage(
        &mut body,
        "Received",
        events.received,
        rates.received,
        &[("refused", refused), ("in flight", events.in_flight)],
    );
    stage(
        &mut body,
        "Accepted",
        events.accepted,
        rates.accepted,
        &[("more absorbed as duplicates and the like", sum(&events.absorbed))],
    );
    let beside =
        [("waiting", status.spool.events), ("dead letters", losses.dead_letters), ("dropped", sum(&losses.dropped))];
    let upstreams = status.upstreams.iter().filter(|upstream| upstream.name != INTAKE).count();
    let title = if upstreams == 1 { "Delivered".to_owned() } else { format!("Delivered, to {upstreams} upstreams") };
    stage(&mut body, &title, delivered, rates.delivered, &beside);
    body.push_str(&loss(status));
    body.push_str("</ol>");
    sparkline(&mut body, line);
    section("flow", "Flow", &body)
}

/// What cannot be accounted for, which must be nothing.
fn loss(status: &Status) -> String {
    let losses = &status.losses;
    let lost = losses.unaccounted + losses.damaged_records;
    let (level, why) = match (losses.unaccounted, losses.damaged_records) {
        (0, 0) => (Level::Good, "every event is accounted for"),
        (0, _) => (Level::Bad, "damaged on disk, set aside in quarantine"),
        _ => (Level::Bad, "the books do not balance: a defect of ours"),
    };
    let class = level.name();
    format!(
        "<li class=\"loss {class}\"><h3>Lost</h3><b>{} {}</b><small>{why}</small></li>",
        shape(level),
        thousands(lost)
    )
}

/// The last minute as two lines, with a text that says the same.
fn sparkline(out: &mut String, line: &[[f32; 2]]) {
    let peak = line.iter().flatten().copied().fold(0.0, f32::max);
    if line.len() < 2 {
        return;
    }
    let points = |which: usize| {
        let step = 240.0 / (line.len() - 1) as f32;
        let y = |value: f32| if peak > 0.0 { 38.0 - 36.0 * value / peak } else { 38.0 };
        line.iter().enumerate().fold(String::new(), |mut points, (at, looked)| {
            let _ = write!(points, "{:.0},{:.1} ", at as f32 * step, y(looked[which]));
            points
        })
    };
    let peak = rate(f64::from(peak));
    let _ = write!(
        out,
        "<figure><svg viewBox=\"0 0 240 40\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Events a second in the \
         last minute, at most {peak}\"><polyline class=\"in\" points=\"{}\"/><polyline class=\"out\" points=\"{}\"/></svg>\
         <figcaption>The last minute, at most {peak}/s: received as a line, delivered dashed</figcaption></figure>",
        points(0).trim_end(),
        points(1).trim_end(),
    );
}
