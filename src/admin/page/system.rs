//! The process itself: what replicas share, the configuration in force, certificate, build.

use std::fmt::Write;

use super::markup::{button, escaped, pairs, section, shape};
use crate::admin::facts::Level;
use crate::admin::status::Status;
use crate::event::Micros;
use crate::words::{span, thousands};

pub(super) fn system(status: &Status) -> String {
    let mut rows = vec![("Redis", redis(status)), ("Limits", limits(status)), ("Configuration", configuration(status))];
    if !status.warnings.is_empty() {
        let lines = status.warnings.iter().fold(String::new(), |mut lines, warning| {
            let _ = write!(lines, "<li>{} {}</li>", shape(Level::Note), escaped(warning));
            lines
        });
        rows.push(("Warnings", format!("<ul>{lines}</ul>")));
    }
    rows.push(("Certificate", certificate(status)));
    let descriptors = status.descriptors.as_ref().map_or_else(String::new, |descriptors| {
        format!(", {} of {} descriptors", thousands(descriptors.open as u64), thousands(descriptors.limit))
    });
    let connections = thousands(u64::try_from(status.connections).unwrap_or(0));
    rows.push(("Connections", format!("{connections} of senders{descriptors}")));
    rows.push(("Keys held", thousands(status.dedup_entries as u64)));
    let (tap, page) = (status.tap_listeners, status.page_readers);
    rows.push(("Watching", format!("{page} this page, {tap} decisions")));
    let commit = status.build.commit.map_or_else(String::new, |commit| format!(", commit {}", escaped(commit)));
    let build = &status.build;
    rows.push((
        "Build",
        format!("Surgegate {}{commit}, {}, {}", status.version, escaped(build.rustc), escaped(build.target)),
    ));
    let mut body = String::new();
    pairs(&mut body, &rows);
    section("system", "This process", &body)
}

fn redis(status: &Status) -> String {
    let Some(redis) = &status.redis else { return "not used: this replica decides alone".to_owned() };
    let level = if redis.up { Level::Good } else { Level::Warn };
    let state = if redis.up { "up" } else { "away" };
    format!("{} {state}, {}: {}; replica {}", shape(level), redis.scope, escaped(&redis.servers), redis.replica_id)
}

fn limits(status: &Status) -> String {
    match &status.redis {
        Some(redis) if redis.limiter_fallback => format!("{} this replica's own share", shape(Level::Warn)),
        Some(_) => "over all replicas together".to_owned(),
        _ => "of this replica".to_owned(),
    }
}

fn configuration(status: &Status) -> String {
    let reload = &status.configuration;
    let ago = span((Micros::now().0 - reload.at.0) as f64 / 1e6);
    let (level, what) = if reload.is_taken() { (Level::Good, "in force") } else { (Level::Warn, "not taken") };
    let mut out = format!("{} {what}, read {ago} ago ({}) ", shape(level), reload.trigger.name());
    out += &button("reload", "Reload…", "Reload the configuration", &[]);
    if let Some(message) = &reload.message {
        let _ = write!(out, "<p>{}</p>", escaped(message));
    }
    let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    if !reload.findings.is_empty() {
        out.push_str("<ul>");
        for finding in reload.findings.iter().take(super::FINDINGS_MAX) {
            let line = finding["line"].as_u64().map_or_else(String::new, |line| format!(":{line}"));
            let place = format!("{}{line}", text(finding, "file"));
            let place = if place.is_empty() { place } else { format!("{place}: ") };
            let _ = write!(out, "<li>{}{}</li>", escaped(&place), escaped(&text(finding, "message")));
        }
        out.push_str("</ul>");
    }
    out
}

fn certificate(status: &Status) -> String {
    let Some(certificate) = &status.certificate else { return "none: the ingest listener speaks no TLS".to_owned() };
    let left = certificate.expires_in_s;
    let until = certificate.expires_at.to_string();
    let until = until.get(..10).unwrap_or_default();
    if left <= 0 {
        format!("{} expired on {until}", shape(Level::Bad))
    } else {
        format!("until {until}, {} more", span(left as f64))
    }
}
