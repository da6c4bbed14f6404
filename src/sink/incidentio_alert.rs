//! Upstream kind `incidentio_alert`: alert events v2 (contracts/incident-io.md 6, 7). Addressed by key alone; what has no
//! member of its own stands in `metadata`, under names that the dialect of the same name reads back.

use super::answer::judge;
use super::container::{Container, Home, object};
use super::keys::{Fits, out_key};
use super::text::{quoted, to_bytes, to_characters};
use super::verbatim::{self, Body};
use super::{Answer, Ask, Encoded, Kind, Parcel, Sink, Statement, Unsaid, Verdict, percent_encoded};
use crate::event::{Action, DESCRIPTION_BYTES_MAX, Micros, Rel, Severity, TITLE_CHARS_MAX};
use crate::vendor;

const DIALECT: &str = "incidentio_alert";
const KEY_BYTES_MAX: usize = 512;
/// As Alertmanager's own sender has it.
const BODY_BYTES_MAX: usize = 524_288;

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 5] = [400, 401, 403, 404, 422];

/// What the message itself, or the head of `metadata`, has members for.
const HOMES: &[Home] = &[
    Home::Description,
    Home::Severity,
    Home::Source,
    Home::Component,
    Home::Group,
    Home::Class,
    Home::Service,
    Home::StartedAt,
    Home::Links,
    Home::Tags,
];

/// What is left out when a body is too large, in this order.
const DROPPED: [&str; 3] = ["extra", "links", "tags"];

pub struct IncidentIoAlert;

impl Sink for IncidentIoAlert {
    fn kind(&self) -> Kind {
        Kind::IncidentIoAlert
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        matches!(statement.action, Action::Trigger | Action::Resolve)
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let source = ask.upstream.vendor.source_config_id.as_deref().unwrap_or_default();
        let path = format!("/v2/alert_events/http/{}", percent_encoded(source));
        let mut cut = Vec::new();
        let body = as_it_came(ask).unwrap_or_else(|| anew(ask, &mut cut).into());
        let parcel = Parcel::json(body).to(path).authorized("Bearer", ask.upstream);
        Ok(Encoded { cut, ..Encoded::new(event.uid, parcel) })
    }

    fn repeats(&self) -> bool {
        true
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        judge(answer, &PERMANENT, now)
    }
}

fn status(ask: &Ask<'_>) -> &'static str {
    if ask.stored.event.action == Action::Resolve { "resolved" } else { "firing" }
}

/// The sender's own body, where the vendor reads it as it was read here.
fn as_it_came(ask: &Ask<'_>) -> Option<bytes::Bytes> {
    let event = &ask.stored.event;
    if !verbatim::is_allowed(ask, &[DIALECT], BODY_BYTES_MAX) || event.endpoint != vendor::ALERT_HTTP_ENDPOINT {
        return None;
    }
    let body = Body::read(&event.raw)?;
    let agrees = body.text("status").as_deref() == Some(status(ask))
        && body.text("deduplication_key").as_deref() == Some(event.key.as_ref()?.canon());
    agrees.then(|| event.raw.clone())
}

/// One that reads back as the same level (contracts 4).
fn word(severity: Severity) -> &'static str {
    match severity.level() {
        5 => "critical",
        4 => "high",
        3 => "medium",
        2 => "low",
        _ => "info",
    }
}

fn anew(ask: &Ask<'_>, cut: &mut Vec<&'static str>) -> String {
    let (event, content) = (&ask.stored.event, &ask.said.content);
    let title = ask.said.title_of(event);
    let short = to_characters(&title, TITLE_CHARS_MAX);
    if *short != *title {
        cut.push("title");
    }
    let key = out_key(ask.stored, &[DIALECT], ask.upstream, Fits::Bytes(KEY_BYTES_MAX));
    let mut head =
        vec![("title", quoted(&short)), ("status", quoted(status(ask))), ("deduplication_key", quoted(&key))];
    if let Some(description) = content.description.as_deref().filter(|text| !text.is_empty()) {
        let kept = to_bytes(description, DESCRIPTION_BYTES_MAX, usize::MAX);
        if *kept != *description {
            cut.push("description");
        }
        head.push(("description", quoted(&kept)));
    }
    let source = content.links.iter().find(|link| link.rel == Some(Rel::Source));
    head.extend(source.map(|link| ("source_url", quoted(&link.href))));
    let mut metadata = metadata(ask);
    let whole = |metadata: &Container| {
        let metadata = (!metadata.is_empty()).then(|| ("metadata", metadata.json()));
        object(head.iter().cloned().chain(metadata))
    };
    let mut body = whole(&metadata);
    for name in DROPPED {
        if body.len() > BODY_BYTES_MAX {
            metadata.0.retain(|(own, _)| own != name);
            cut.push(name);
            body = whole(&metadata);
        }
    }
    if body.len() > BODY_BYTES_MAX {
        cut.push("metadata");
        body = whole(&Container::default());
    }
    body
}

fn metadata(ask: &Ask<'_>) -> Container {
    let (event, content) = (&ask.stored.event, &ask.said.content);
    let mut all = Container::default();
    if let Some(severity) = event.severity.or(content.severity) {
        all.0.push(("severity".into(), quoted(word(severity))));
        all.0.push(("severity_level".into(), severity.level().to_string()));
    }
    let texts = [
        ("source", &content.source),
        ("service", &content.service),
        ("component", &content.component),
        ("group", &content.group),
        ("class", &content.class),
    ];
    for (name, text) in texts {
        all.0.extend(text.as_deref().filter(|text| !text.is_empty()).map(|text| (name.into(), quoted(text))));
    }
    all.0.extend(content.started_at.map(|at| ("started_at".into(), quoted(&at.to_string()))));
    // What else has no home, `extra` at its end.
    let mut rest = Container::of(ask, HOMES).0;
    let extra = rest.iter().position(|(name, _)| name == "extra").map(|at| rest.remove(at));
    all.0.extend(rest);
    if !content.tags.is_empty() {
        let tags = content.tags.iter().map(|(name, tag)| (&**name, super::container::tag_value(tag)));
        all.0.push(("tags".into(), object(tags)));
    }
    let source = content.links.iter().position(|link| link.rel == Some(Rel::Source));
    let links = content.links.iter().enumerate().filter(|(at, _)| Some(*at) != source);
    let links: Vec<String> = links.filter_map(|(_, link)| serde_json::to_string(link).ok()).collect();
    if !links.is_empty() {
        all.0.push(("links".into(), format!("[{}]", links.join(","))));
    }
    all.0.extend(extra);
    all
}

#[cfg(test)]
mod tests;
