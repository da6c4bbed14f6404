//! Upstream kind `opsgenie`: its Alert API (contracts/opsgenie.md 6, README 5.6 and 7). Alerts are addressed by alias
//! alone: nothing is learned from its answers. What a sender wrote in the vendor's own form goes as it came, where the
//! vendor would take it; else a body is encoded. `create` makes alerts, `details` holds what has no home in one.

mod create;
mod details;

use hyper::Method;
use serde_json::Value;

use super::answer::judge;
use super::container::object;
use super::keys::{Fits, out_key};
use super::text::{quoted, to_characters};
use super::verbatim::Body;
use super::{
    Answer, Ask, Encoded, Kind, Mode, Parcel, Sink, Statement, Unsaid, UpstreamConfig, Verdict, percent_encoded,
};
use crate::event::{Action, Micros, NOTE_CHARS_MAX, Tolerated};
use crate::outcome::Outcome;
use crate::vendor;

/// The dialect the vendor reads itself.
const DIALECT: &str = "opsgenie";

/// Limits of contracts/opsgenie.md 2 and 3, in characters; a list in entries.
const ALIAS_CHARS_MAX: usize = 512;
const MESSAGE_CHARS_MAX: usize = 130;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const NAME_CHARS_MAX: usize = 100;
const ENTITY_CHARS_MAX: usize = 512;
const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 50;
const ACTIONS_MAX: usize = 10;
const PEOPLE_MAX: usize = 50;

/// Members that are texts, of creates and of operations, with their limits.
const TEXTS: [(&str, usize); 6] = [
    ("message", MESSAGE_CHARS_MAX),
    ("description", DESCRIPTION_CHARS_MAX),
    ("entity", ENTITY_CHARS_MAX),
    ("source", NAME_CHARS_MAX),
    ("user", NAME_CHARS_MAX),
    ("note", NOTE_CHARS_MAX),
];

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 6] = [400, 401, 402, 403, 404, 422];

/// Operations that the vendor would do twice.
const ONCE: [&str; 2] = ["notes", "escalate"];

pub struct Opsgenie;

impl Sink for Opsgenie {
    fn kind(&self) -> Kind {
        Kind::Opsgenie
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        match statement.action {
            Action::Trigger | Action::Acknowledge | Action::Unacknowledge | Action::Resolve | Action::Update => true,
            // Operations of other vendors have no counterpart.
            Action::Admin => statement.dialect == DIALECT,
            Action::Change => false,
        }
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        let own = event.dialect == DIALECT;
        match event.action {
            Action::Trigger => Ok(create::encode(ask)),
            Action::Resolve if own && event.endpoint == "delete" => {
                Ok(Encoded::new(event.uid, bodiless(ask).by(Method::DELETE).to(path(ask, ""))))
            }
            Action::Acknowledge => Ok(about(ask, "acknowledge")),
            Action::Unacknowledge => Ok(about(ask, "unacknowledge")),
            Action::Resolve => Ok(about(ask, "close")),
            Action::Update if !own => Ok(update(ask)),
            Action::Update | Action::Admin if own => Ok(about(ask, &event.endpoint)),
            action => Err(Unsaid::NotExpressible(action)),
        }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        judge(answer, &PERMANENT, now)
    }

    fn question(&self, path: &str, upstream: &UpstreamConfig) -> Option<Parcel> {
        Some(Parcel::default().by(Method::GET).to(path).authorized("GenieKey", upstream))
    }
}

fn alias(ask: &Ask<'_>) -> String {
    out_key(ask.stored, &[DIALECT], ask.upstream, Fits::Characters(ALIAS_CHARS_MAX))
}

/// Of an operation on the event's alert; of the alert itself where `operation` is empty.
fn path(ask: &Ask<'_>, operation: &str) -> String {
    let slash = if operation.is_empty() { "" } else { "/" };
    format!("/v2/alerts/{}{slash}{operation}?identifierType=alias", percent_encoded(&alias(ask)))
}

fn parcel(ask: &Ask<'_>, body: impl Into<bytes::Bytes>) -> Parcel {
    Parcel::json(body).authorized("GenieKey", ask.upstream)
}

fn bodiless(ask: &Ask<'_>) -> Parcel {
    Parcel::default().authorized("GenieKey", ask.upstream)
}

fn method_of(operation: &str) -> Method {
    if matches!(operation, "message" | "description" | "priority") { Method::PUT } else { Method::POST }
}

/// One operation on the event's alert: the sender's own body where it is one of this operation, else encoded.
fn about(ask: &Ask<'_>, operation: &str) -> Encoded {
    let event = &ask.stored.event;
    let body = match as_it_came(ask, operation) {
        Some(body) => body,
        None => object(members(ask, operation).into_iter()).into(),
    };
    let call = parcel(ask, body).by(method_of(operation)).to(path(ask, operation));
    Encoded { once: ONCE.contains(&operation), ..Encoded::new(event.uid, call) }
}

/// The body of an operation names no alert: it goes as it came whatever the alert is called.
fn as_it_came(ask: &Ask<'_>, operation: &str) -> Option<bytes::Bytes> {
    let event = &ask.stored.event;
    let is_own = ask.upstream.mode == Mode::Verbatim
        && event.dialect == DIALECT
        && event.endpoint == operation
        && event.tolerated == Tolerated::default()
        && !ask.said.content.tolerated;
    if !is_own {
        return None;
    }
    if event.raw.iter().all(u8::is_ascii_whitespace) {
        return Some(bytes::Bytes::from_static(b"{}"));
    }
    Body::read(&event.raw).filter(fits_whole).map(|_| event.raw.clone())
}

/// Whether nothing in a body is over the vendor's limits; of what was cut to the model's the content does not tell.
fn fits_whole(body: &Body<'_>) -> bool {
    let list = |name: &str| body.get(name).and_then(|json| serde_json::from_str::<Vec<Value>>(json).ok());
    let listed = |name: &str, most: usize, chars_max: usize| {
        let fits = |value: &Value| value.as_str().is_none_or(|text| text.chars().nth(chars_max).is_none());
        list(name).is_none_or(|list| list.len() <= most && list.iter().all(fits))
    };
    TEXTS.iter().all(|(name, chars_max)| body.fits(name, *chars_max))
        && listed("tags", TAGS_MAX, TAG_CHARS_MAX)
        && listed("actions", ACTIONS_MAX, TAG_CHARS_MAX)
        && listed("responders", PEOPLE_MAX, 0)
        && listed("visibleTo", PEOPLE_MAX, 0)
        && body.get("details").is_none_or(details::fit_as_written)
}

/// What an operation says, encoded.
fn members<'a>(ask: &Ask<'a>, operation: &str) -> Vec<(&'a str, String)> {
    let content = &ask.said.content;
    let mut all = Vec::new();
    match operation {
        "message" => {
            all.push(("message", quoted(&to_characters(&ask.said.title_of(&ask.stored.event), MESSAGE_CHARS_MAX))))
        }
        "description" => {
            let text = content.description.as_deref().unwrap_or_default();
            all.push(("description", quoted(&to_characters(text, DESCRIPTION_CHARS_MAX))));
        }
        "priority" => {
            let severity = ask.stored.event.severity.or(content.severity);
            all.extend(severity.map(|severity| ("priority", quoted(vendor::priority_of(severity)))));
        }
        "tags" => all.push(("tags", create::tags(ask))),
        "details" => all.push(("details", details::of(ask).0)),
        // The arguments of another vendor's operation mean nothing here.
        _ if ask.stored.event.dialect == DIALECT => {
            all.extend(content.params.iter().map(|(name, value)| (name.as_str(), value.to_string())));
        }
        _ => {}
    }
    let texts = [("note", &content.note, NOTE_CHARS_MAX), ("source", &content.source, NAME_CHARS_MAX)];
    for (name, text, most) in texts {
        let text = text.as_deref().filter(|text| !text.is_empty());
        all.extend(text.map(|text| (name, quoted(&to_characters(text, most)))));
    }
    if ask.stored.event.dialect == DIALECT {
        all.extend(ask.said.extra.iter().map(|(name, value)| (&**name, create::own(name, value.get()))));
    }
    all
}

/// An update of another vendor's: each part by its own operation; of what has none a note tells.
fn update(ask: &Ask<'_>) -> Encoded {
    let content = &ask.said.content;
    let event = &ask.stored.event;
    let severity = event.severity.or(content.severity);
    let parts = [
        ("message", content.title.as_ref().is_some_and(|title| !title.trim().is_empty())),
        ("description", content.description.is_some()),
        ("priority", severity.is_some()),
        ("tags", content.tags.iter().any(|(_, tag)| tag.bare)),
        ("details", content.tags.iter().any(|(_, tag)| !tag.bare)),
        ("notes", content.note.is_some()),
    ];
    let call = |operation: &str, members: Vec<(&str, String)>| {
        let body = object(members.into_iter());
        parcel(ask, body).by(method_of(operation)).to(path(ask, operation))
    };
    // Each says its own part alone: the note would be there as often.
    let own = |operation: &str| {
        let own = if operation == "notes" { "note" } else { operation };
        members(ask, operation).into_iter().filter(|(name, _)| *name == own).collect()
    };
    let mut calls: Vec<Parcel> =
        parts.iter().filter(|(_, is_said)| *is_said).map(|(operation, _)| call(operation, own(operation))).collect();
    if calls.is_empty() {
        let told = format!("{} {}", event.dialect, event.endpoint);
        calls.push(call("notes", vec![("note", quoted(&told))]));
    }
    let then = calls.split_off(1);
    let first = calls.pop().unwrap_or_default();
    let once = then.iter().chain([&first]).any(is_note);
    Encoded { then, once, ..Encoded::new(event.uid, first) }
}

fn is_note(call: &Parcel) -> bool {
    call.path.as_deref().is_some_and(|path| path.contains("/notes?"))
}

/// What follows a create that raises the severity of an open alert (contracts 7).
fn raise(ask: &Ask<'_>) -> Option<Parcel> {
    let severity = ask.stored.event.severity.or(ask.said.content.severity)?;
    let is_raise = ask.stored.outcome == Outcome::Escalated;
    let body = || format!("{{\"priority\":\"{}\"}}", vendor::priority_of(severity));
    is_raise.then(|| parcel(ask, body()).by(Method::PUT).to(path(ask, "priority")))
}

#[cfg(test)]
mod tests;
