//! Upstream kind `alertmanager`: Alertmanager's webhook, version 4, as many receivers take it (contracts/alertmanager.md 6).
//! One request an event, with one alert. An alert that came by that webhook goes on as it came, in a body of its own.

use std::collections::BTreeMap;

use super::container::{Container, Home, object};
use super::keys::{Fits, out_key, sha256_hex};
use super::text::quoted;
use super::verbatim::{self, Body};
use super::{Answer, Ask, Encoded, Kind, Mode, Parcel, Sink, Statement, Unsaid, Verdict};
use crate::event::{Action, KeyKind, Link, Micros, Rel, Tolerated};
use crate::vendor;

/// The dialect its receivers read,
const DIALECT: &str = "alertmanager";
/// and those whose annotations are like its own.
const FAMILY: [&str; 2] = [DIALECT, "grafana"];
const KEY_BYTES_MAX: usize = 512;
/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 16;
/// A time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 6] = [400, 404, 410, 413, 415, 422];

/// What an alert has a member, a label or an annotation for.
const HOMES: &[Home] = &[
    Home::Description,
    Home::Severity,
    Home::Source,
    Home::Component,
    Home::Class,
    Home::Service,
    Home::StartedAt,
    Home::Tags,
];

pub struct Alertmanager;

impl Sink for Alertmanager {
    fn kind(&self) -> Kind {
        Kind::Alertmanager
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        matches!(statement.action, Action::Trigger | Action::Resolve)
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let body = as_it_came(ask).unwrap_or_else(|| encoded(ask));
        Ok(Encoded::new(event.uid, Parcel::json(body).authorized("Bearer", ask.upstream)))
    }

    fn repeats(&self) -> bool {
        true
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        super::answer::judge(answer, &PERMANENT, now)
    }
}

fn status(action: Action) -> &'static str {
    if action == Action::Resolve { "resolved" } else { "firing" }
}

/// The sender's own alert with what its group said, or its whole group where that is one event.
fn as_it_came(ask: &Ask<'_>) -> Option<String> {
    let event = &ask.stored.event;
    if verbatim::is_allowed(ask, &[DIALECT], usize::MAX) {
        return String::from_utf8(event.raw.to_vec()).ok();
    }
    let is_own = ask.upstream.mode == Mode::Verbatim
        && event.dialect == DIALECT
        && event.tolerated == Tolerated::default()
        && !ask.said.content.tolerated
        && !ask.upstream.shared;
    let envelope = Body::read(event.envelope.as_ref().filter(|_| is_own)?)?;
    let alert = Body::read(&event.raw)?;
    // An alert without a status has its group's, which is another one's in a body of its own.
    if alert.text("status")? != status(event.action) {
        return None;
    }
    let status = [("status".into(), quoted(status(event.action)))];
    let others = envelope.into_members().filter(|(name, _)| name != "status");
    let alerts = [("alerts".into(), format!("[{}]", std::str::from_utf8(&event.raw).ok()?))];
    let members: Vec<_> = status.into_iter().chain(alerts).chain(others).collect();
    Some(object(members.iter().map(|(name, json)| (&**name, json.clone()))))
}

fn encoded(ask: &Ask<'_>) -> String {
    let event = &ask.stored.event;
    let key = out_key(ask.stored, &[DIALECT], ask.upstream, Fits::Bytes(KEY_BYTES_MAX));
    let (labels, annotations) = (texts(labels(ask)), texts(annotations(ask)));
    let status = quoted(status(event.action));
    let (starts_at, ends_at) = times(ask);
    let mut alert = vec![
        ("status", status.clone()),
        ("labels", labels.clone()),
        ("annotations", annotations.clone()),
        ("startsAt", quoted(&starts_at)),
        ("endsAt", quoted(&ends_at)),
        ("generatorURL", quoted(href(ask, Rel::Source))),
        ("fingerprint", quoted(&fingerprint(ask, &key))),
    ];
    let alert = object(alert.drain(..));
    let members = [
        ("version", quoted("4")),
        ("groupKey", quoted(&format!("{{}}:{{key={}}}", as_label(&key)))),
        ("truncatedAlerts", "0".to_owned()),
        ("status", status),
        ("receiver", quoted(&ask.upstream.name)),
        ("groupLabels", object([("key", quoted(&key))].into_iter())),
        ("commonLabels", labels),
        ("commonAnnotations", annotations),
        ("externalURL", quoted(href(ask, Rel::Client))),
        ("alerts", format!("[{alert}]")),
    ];
    object(members.into_iter())
}

/// The sender's own where it had one and nobody else's can be taken for it.
fn fingerprint(ask: &Ask<'_>, key: &str) -> String {
    let own = ask.stored.event.key.as_ref().filter(|own| own.kind == KeyKind::String && own.canon() == key);
    match own.filter(|_| ask.stored.event.dialect == DIALECT) {
        Some(own) => own.canon().to_owned(),
        None => sha256_hex(&[key]).chars().take(FINGERPRINT_DIGITS).collect(),
    }
}

/// When it began: as it was said, else when the incident was opened here. And its end, once it has one.
fn times(ask: &Ask<'_>) -> (String, String) {
    let content = &ask.said.content;
    let event = &ask.stored.event;
    let opened = ask.stored.incident.map_or(event.received_at, |incident| incident.iid.made_at());
    let ended = match event.action {
        Action::Resolve => content.ended_at.unwrap_or(event.received_at).to_string(),
        _ => NEVER.to_owned(),
    };
    (content.started_at.unwrap_or(opened).to_string(), ended)
}

/// Names as Prometheus has them; of two that come to the same the first counts.
fn labels(ask: &Ask<'_>) -> BTreeMap<String, String> {
    let content = &ask.said.content;
    let event = &ask.stored.event;
    let name = content.class.as_deref().filter(|class| !class.trim().is_empty());
    let name = name.map_or_else(|| ask.said.title_of(event).into_owned(), str::to_owned);
    let mut labels = BTreeMap::from([("alertname".to_owned(), name)]);
    if let Some(severity) = event.severity.or(content.severity) {
        labels.insert("severity".to_owned(), vendor::word_of(severity).to_owned());
    }
    for (name, tag) in &content.tags {
        let value = if tag.bare { "true" } else { &*tag.value };
        labels.entry(label_name(name)).or_insert_with(|| value.to_owned());
    }
    for (name, text) in [("instance", &content.source), ("job", &content.component), ("service", &content.service)] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            labels.entry(name.to_owned()).or_insert_with(|| text.to_owned());
        }
    }
    labels
}

/// What a reader looks for first under its usual name, and everything without a home as JSON.
fn annotations(ask: &Ask<'_>) -> BTreeMap<String, String> {
    let content = &ask.said.content;
    let mut annotations = BTreeMap::new();
    if let Some(title) = &content.title {
        annotations.insert("summary".to_owned(), title.to_string());
    }
    let description = content.description.as_deref().filter(|text| !text.is_empty());
    annotations.extend(description.map(|text| ("description".to_owned(), text.to_owned())));
    for (name, rel) in [("runbook_url", Rel::Runbook), ("dashboard_url", Rel::Dashboard)] {
        let href = Some(href(ask, rel)).filter(|href| !href.is_empty());
        annotations.extend(href.map(|href| (name.to_owned(), href.to_owned())));
    }
    let mut rest = Container::of(ask, HOMES);
    let has_home = |link: &Link<'_>| {
        let rels = [Rel::Source, Rel::Client, Rel::Runbook, Rel::Dashboard];
        link.rel.is_some_and(|rel| rels.contains(&rel) && href(ask, rel) == link.href)
    };
    let all_links_have = content.links.iter().all(has_home);
    rest.0.retain(|(name, _)| name != "ended_at" && name != "extra" && !(name == "links" && all_links_have));
    let (own, extra): (Vec<_>, Vec<_>) = ask.said.extra.iter().partition(|(name, value)| {
        name == "annotations" && FAMILY.contains(&&*ask.stored.event.dialect) && value.get().starts_with('{')
    });
    for (_, value) in own {
        let texts: BTreeMap<String, serde_json::Value> = serde_json::from_str(value.get()).unwrap_or_default();
        for (name, text) in texts {
            let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
            annotations.entry(name).or_insert(text);
        }
    }
    if !extra.is_empty() {
        let members = extra.iter().map(|(name, value)| (&**name, value.get().to_owned()));
        rest.0.push(("extra".into(), object(members)));
    }
    if !rest.is_empty() {
        annotations.insert("extra".to_owned(), rest.json());
    }
    annotations
}

fn href<'a>(ask: &'a Ask<'_>, rel: Rel) -> &'a str {
    let link = ask.said.content.links.iter().find(|link| link.rel == Some(rel));
    link.map_or("", |link| &link.href)
}

fn texts(texts: BTreeMap<String, String>) -> String {
    object(texts.iter().map(|(name, text)| (name.as_str(), quoted(text))))
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
fn label_name(name: &str) -> String {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let cleaned = name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' });
    (!begins).then_some('_').into_iter().chain(cleaned).collect()
}

/// A label's value as it stands in a group key.
fn as_label(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests;
