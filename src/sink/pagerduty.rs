//! Upstream kind `pagerduty`: Events API v2 and change events (contracts/pagerduty.md 2, 6). What a sender wrote in the
//! vendor's own form goes as it came, with the routing key replaced; else a body is encoded, at most 512,000 B. Addressed
//! by key alone: nothing is learned from its answers.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;

use super::answer::judge;
use super::container::{Container, Home, object};
use super::keys::{Fits, out_key};
use super::text::{quoted, to_bytes, to_characters};
use super::verbatim::{self, Body};
use super::{Answer, Ask, Encoded, Hold, Kind, Parcel, Sink, Statement, Unsaid, Verdict};
use crate::event::{Action, DESCRIPTION_BYTES_MAX, Image, KeyKind, Link, Micros, Rel, TITLE_CHARS_MAX};
use crate::vendor;

/// The dialects the vendor reads itself, and the path of each.
const EVENTS: &str = "pagerduty_v2";
const OLDER_EVENTS: &str = "pagerduty_v1";
const CHANGES: &str = "pagerduty_change";
const EVENTS_PATH: &str = "/v2/enqueue";
const CHANGES_PATH: &str = "/v2/change/enqueue";
const BODY_BYTES_MAX: usize = 512_000;
const KEY_CHARS_MAX: usize = 255;

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 1] = [400];
/// How long a 429 without a time holds: the vendor counts over 60 s.
const STEP: Duration = Duration::from_secs(30);

/// What a payload, or the message around it, has members for.
const HOMES: &[Home] = &[
    Home::Severity,
    Home::Source,
    Home::Component,
    Home::Group,
    Home::Class,
    Home::StartedAt,
    Home::Links,
    Home::Images,
];

pub struct PagerDuty;

impl Sink for PagerDuty {
    fn kind(&self) -> Kind {
        Kind::PagerDuty
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        match statement.action {
            Action::Trigger | Action::Acknowledge | Action::Resolve => true,
            Action::Change => statement.dialect == CHANGES,
            Action::Unacknowledge | Action::Update | Action::Admin => false,
        }
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let path = if event.action == Action::Change { CHANGES_PATH } else { EVENTS_PATH };
        if let Some(body) = as_it_came(ask) {
            return Ok(Encoded::new(event.uid, Parcel::json(body).to(path)));
        }
        let mut cut = Vec::new();
        let body = match event.action {
            Action::Trigger => trigger(ask, &mut cut),
            Action::Change => change(ask, &mut cut),
            action => {
                let word = if action == Action::Resolve { "resolve" } else { "acknowledge" };
                object(head(ask, word).into_iter())
            }
        };
        Ok(Encoded { cut, ..Encoded::new(event.uid, Parcel::json(body).to(path)) })
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        // 403 is how v1 says that it is too much (contracts 7.1).
        let is_limit = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN);
        match judge(answer, &PERMANENT, now) {
            Verdict::Retry(Hold::Upstream(after) | Hold::Lane(after)) if is_limit => {
                Verdict::Retry(Hold::Upstream(Some(after.unwrap_or(STEP))))
            }
            verdict => verdict,
        }
    }
}

fn routing_key(ask: &Ask<'_>) -> String {
    quoted(ask.upstream.credential.as_deref().unwrap_or_default())
}

fn dedup_key(ask: &Ask<'_>) -> String {
    out_key(ask.stored, &[EVENTS, OLDER_EVENTS], ask.upstream, Fits::Characters(KEY_CHARS_MAX))
}

/// The sender's own body, where the vendor reads it as it was read here.
fn as_it_came(ask: &Ask<'_>) -> Option<Vec<u8>> {
    let event = &ask.stored.event;
    let dialect = if event.action == Action::Change { CHANGES } else { EVENTS };
    if !verbatim::is_allowed(ask, &[dialect], BODY_BYTES_MAX) {
        return None;
    }
    let body = Body::read(&event.raw)?;
    let agrees = event.action == Action::Change || {
        let key = event.key.as_ref().filter(|key| key.kind == KeyKind::String)?;
        body.text("event_action").as_deref() == Some(event.action.name())
            && body.text("dedup_key").as_deref() == Some(key.canon())
    };
    body.with(&[("routing_key", routing_key(ask))]).filter(|_| agrees && summary_fits(ask, &body))
}

/// Whether the vendor takes the summary whole. A content with a shorter one has it as it was said.
fn summary_fits(ask: &Ask<'_>, body: &Body<'_>) -> bool {
    let is_short = ask.said.content.title.as_deref().is_none_or(|title| title.len() < TITLE_CHARS_MAX);
    let payload = || Body::read(body.get("payload")?.as_bytes());
    is_short || payload().is_some_and(|payload| payload.fits("summary", TITLE_CHARS_MAX))
}

/// What every message begins with.
fn head(ask: &Ask<'_>, action: &str) -> Vec<(&'static str, String)> {
    vec![("routing_key", routing_key(ask)), ("event_action", quoted(action)), ("dedup_key", quoted(&dedup_key(ask)))]
}

fn trigger(ask: &Ask<'_>, cut: &mut Vec<&'static str>) -> String {
    let content = &ask.said.content;
    let severity = ask.stored.event.severity.or(content.severity);
    let mut payload = vec![
        ("summary", quoted(&summary(ask, cut))),
        ("source", quoted(&source(ask))),
        ("severity", quoted(vendor::pagerduty_word(severity))),
    ];
    payload.extend(content.started_at.map(|at| ("timestamp", quoted(&at.to_string()))));
    for (name, text) in [("component", &content.component), ("group", &content.group), ("class", &content.class)] {
        payload.extend(text.as_deref().filter(|text| !text.is_empty()).map(|text| (name, quoted(text))));
    }
    with_details(ask, cut, |details| {
        let mut payload = payload.clone();
        payload.extend((!details.is_empty()).then_some(("custom_details", details)));
        let mut message = head(ask, "trigger");
        message.push(("payload", object(payload.into_iter())));
        message.extend(around(ask));
        object(message.into_iter())
    })
}

fn change(ask: &Ask<'_>, cut: &mut Vec<&'static str>) -> String {
    let content = &ask.said.content;
    let mut payload = vec![("summary", quoted(&summary(ask, cut)))];
    payload.extend(content.started_at.map(|at| ("timestamp", quoted(&at.to_string()))));
    payload.extend(content.source.as_deref().map(|source| ("source", quoted(source))));
    with_details(ask, cut, |details| {
        let mut payload = payload.clone();
        payload.extend((!details.is_empty()).then_some(("custom_details", details)));
        let mut message = vec![("routing_key", routing_key(ask)), ("payload", object(payload.into_iter()))];
        message.extend(around(ask));
        object(message.into_iter())
    })
}

/// The message with what has no home of its own in `custom_details`; where that makes it too large, with the description
/// alone (the vendor's clients leave out all).
fn with_details(ask: &Ask<'_>, cut: &mut Vec<&'static str>, message: impl Fn(String) -> String) -> String {
    let whole = message(details(ask));
    if whole.len() <= BODY_BYTES_MAX {
        return whole;
    }
    cut.push("custom_details");
    let marked = |description: &str| {
        let description = Some(description).filter(|text| !text.is_empty()).map(|text| ("description", quoted(text)));
        object(description.into_iter().chain([("truncated", "true".to_owned())]))
    };
    let description = ask.said.content.description.as_deref().unwrap_or_default();
    let room = BODY_BYTES_MAX.saturating_sub(message(marked("-")).len());
    message(marked(&to_bytes(description, DESCRIPTION_BYTES_MAX, room)))
}

/// `custom_details` as JSON; empty where there is nothing to say. What the vendor's own dialects had there goes back
/// there.
fn details(ask: &Ask<'_>) -> String {
    let own = ask.stored.event.dialect.starts_with("pagerduty");
    let mut all = Container::of(ask, HOMES);
    if own {
        let (kept, rest): (Vec<_>, Vec<_>) =
            ask.said.extra.iter().partition(|(name, _)| matches!(&**name, "custom_details" | "details"));
        all.0.retain(|(name, _)| name != "extra");
        match kept.first().map(|(_, json)| (json.get(), Body::read(json.get().as_bytes()))) {
            Some((_, Some(members))) => all.0.extend(members.into_members()),
            // A text or a list there is kept as it is, where nothing else is said.
            Some((json, None)) if all.is_empty() && rest.is_empty() => return json.to_owned(),
            Some((json, None)) => all.0.push(("custom_details".into(), json.to_owned())),
            None => {}
        }
        if !rest.is_empty() {
            let rest = rest.iter().map(|(name, value)| (&**name, value.get().to_owned()));
            all.0.push(("extra".into(), object(rest)));
        }
    }
    if all.is_empty() { String::new() } else { all.json() }
}

/// Links, images and the client, which stand beside the payload.
fn around(ask: &Ask<'_>) -> Vec<(&'static str, String)> {
    let content = &ask.said.content;
    let link = |Link { href, text, .. }: &Link<'_>| {
        let text = text.as_deref().map(|text| ("text", quoted(text)));
        object([("href", quoted(href))].into_iter().chain(text))
    };
    let image = |Image { src, href, alt }: &Image<'_>| {
        let rest = [("href", href), ("alt", alt)].into_iter();
        let rest = rest.filter_map(|(name, text)| Some((name, quoted(text.as_deref()?))));
        object([("src", quoted(src))].into_iter().chain(rest))
    };
    let client = content.links.iter().find(|link| link.rel == Some(Rel::Client));
    let links: Vec<String> = content.links.iter().filter(|link| link.rel != Some(Rel::Client)).map(link).collect();
    let images: Vec<String> = content.images.iter().map(image).collect();
    let mut all = Vec::new();
    all.extend((!images.is_empty()).then(|| ("images", format!("[{}]", images.join(",")))));
    all.extend((!links.is_empty()).then(|| ("links", format!("[{}]", links.join(",")))));
    if let Some(Link { href, text, .. }) = client {
        all.extend(text.as_deref().map(|text| ("client", quoted(text))));
        all.push(("client_url", quoted(href)));
    }
    all
}

fn summary<'a>(ask: &Ask<'a>, cut: &mut Vec<&'static str>) -> Cow<'a, str> {
    let title = ask.said.title_of(&ask.stored.event);
    let short = to_characters(&title, TITLE_CHARS_MAX).into_owned();
    if short != *title {
        cut.push("payload.summary");
    }
    Cow::Owned(short)
}

/// `payload.source` is required (contracts 7): the event's, a tag that names a host, the configured one, the integration.
fn source<'a>(ask: &Ask<'a>) -> Cow<'a, str> {
    let content = &ask.said.content;
    let tag = |wanted: &str| {
        let named = content.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, tag)| &*tag.value)
    };
    let tags = ["host", "hostname", "instance"].into_iter().filter_map(tag);
    let said = content.source.as_deref().into_iter().chain(tags).find(|text| !text.trim().is_empty());
    let configured = ask.upstream.vendor.source.as_deref();
    Cow::Owned(said.or(configured).unwrap_or(&ask.stored.event.integration).to_owned())
}
