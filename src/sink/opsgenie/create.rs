//! Creates: the sender's own body, or one that is encoded within the vendor's limits (contracts/opsgenie.md 3 and 6).

use serde_json::{Map, Value};

use super::super::container::object;
use super::super::text::{quoted, to_characters};
use super::super::verbatim::{self, Body};
use super::super::{Ask, Encoded, Responder};
use super::{
    ACTIONS_MAX, DESCRIPTION_CHARS_MAX, DIALECT, ENTITY_CHARS_MAX, MESSAGE_CHARS_MAX, NAME_CHARS_MAX, PEOPLE_MAX,
    TAG_CHARS_MAX, TAGS_MAX, alias, details, fits_whole, parcel, raise,
};
use crate::event::{KeyKind, NOTE_CHARS_MAX};
use crate::vendor;

/// As the intake: the vendor states members' limits only.
const BODY_BYTES_MAX: usize = 512_000;

pub(super) fn encode(ask: &Ask<'_>) -> Encoded {
    let mut cut = Vec::new();
    let body = as_it_came(ask).unwrap_or_else(|| object(members(ask, &mut cut).into_iter()).into_bytes());
    let call = parcel(ask, body).to("/v2/alerts");
    Encoded { then: raise(ask).into_iter().collect(), cut, ..Encoded::new(ask.stored.event.uid, call) }
}

/// The sender's own body, where the vendor takes it and reads it as it was read here. An alias that was made for it is put
/// before all it says.
fn as_it_came(ask: &Ask<'_>) -> Option<Vec<u8>> {
    let event = &ask.stored.event;
    if !verbatim::is_allowed(ask, &[DIALECT], BODY_BYTES_MAX) {
        return None;
    }
    let body = Body::read(&event.raw).filter(fits_whole)?;
    let key = event.key.as_ref()?;
    let calls_somebody = body.get("responders").is_some() || ask.upstream.vendor.responders.is_empty();
    if !calls_somebody {
        return None;
    }
    if body.text("alias").as_deref() == Some(key.canon()) {
        return Some(event.raw.to_vec());
    }
    let is_made = key.kind == KeyKind::Generated && body.get("alias").is_none();
    let rest = event.raw.trim_ascii_start().strip_prefix(b"{").filter(|_| is_made)?;
    Some([format!("{{\"alias\":{},", quoted(key.canon())).as_bytes(), rest].concat())
}

fn members<'a>(ask: &Ask<'a>, cut: &mut Vec<&'static str>) -> Vec<(&'a str, String)> {
    let content = &ask.said.content;
    let mut all = Vec::new();
    let title = ask.said.title_of(&ask.stored.event);
    // The vendor takes more of its own than the model holds of a component.
    let vendors = Some(&ask.stored.event).filter(|event| event.dialect == DIALECT);
    let entity = vendors.and_then(|event| Body::read(&event.raw)?.text("entity"));
    let texts = [
        ("message", Some(&*title), MESSAGE_CHARS_MAX),
        ("alias", None, 0),
        ("description", content.description.as_deref(), DESCRIPTION_CHARS_MAX),
        ("entity", entity.as_deref().or(content.component.as_deref()), ENTITY_CHARS_MAX),
        ("source", content.source.as_deref(), NAME_CHARS_MAX),
        ("note", content.note.as_deref(), NOTE_CHARS_MAX),
    ];
    for (name, text, most) in texts {
        if name == "alias" {
            all.push((name, quoted(&alias(ask))));
        }
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        let short = to_characters(text, most);
        if short != text {
            cut.push(name);
        }
        all.push((name, quoted(&short)));
    }
    let severity = ask.stored.event.severity.or(content.severity);
    all.extend(severity.map(|severity| ("priority", quoted(vendor::priority_of(severity)))));
    all.extend(responders(ask).map(|responders| ("responders", responders)));
    let bare = content.tags.iter().filter(|(_, tag)| tag.bare);
    if bare.clone().count() > TAGS_MAX || bare.clone().any(|(name, _)| name.chars().nth(TAG_CHARS_MAX).is_some()) {
        cut.push("tags");
    }
    if bare.count() > 0 {
        all.push(("tags", tags(ask)));
    }
    let (details, is_whole) = details::of(ask);
    if details != "{}" {
        all.push(("details", details));
    }
    if !is_whole {
        cut.push("details");
    }
    if ask.stored.event.dialect == DIALECT {
        all.extend(ask.said.extra.iter().map(|(name, value)| (&**name, own(name, value.get()))));
    }
    all
}

/// A member of the vendor's own that stands among the extra ones, within its limits.
pub(super) fn own(name: &str, json: &str) -> String {
    let short = |most: usize| {
        let list: Option<Vec<Value>> = serde_json::from_str(json).ok();
        let cut = |value: Value| match value {
            Value::String(text) => Value::String(to_characters(&text, TAG_CHARS_MAX).into_owned()),
            value => value,
        };
        list.map(|list| Value::Array(list.into_iter().take(most).map(cut).collect()).to_string())
    };
    let cut = match name {
        "actions" => short(ACTIONS_MAX),
        "visibleTo" => short(PEOPLE_MAX),
        "user" => serde_json::from_str::<String>(json)
            .ok()
            .filter(|user| user.chars().nth(NAME_CHARS_MAX).is_some())
            .map(|user| quoted(&to_characters(&user, NAME_CHARS_MAX))),
        _ => None,
    };
    cut.unwrap_or_else(|| json.to_owned())
}

/// Bare tags, as a list.
pub(super) fn tags(ask: &Ask<'_>) -> String {
    let bare = ask.said.content.tags.iter().filter(|(_, tag)| tag.bare).take(TAGS_MAX);
    let words: Vec<String> = bare.map(|(name, _)| quoted(&to_characters(name, TAG_CHARS_MAX))).collect();
    format!("[{}]", words.join(","))
}

/// Whom the event names in the vendor's own form, else whom the configuration names.
fn responders(ask: &Ask<'_>) -> Option<String> {
    let said = ask.said.content.assignment.as_ref().and_then(|assignment| assignment.responders.as_ref());
    let said = said.and_then(Value::as_array).filter(|list| ask.stored.event.dialect == DIALECT && !list.is_empty());
    if let Some(list) = said {
        return Some(Value::Array(list.iter().take(PEOPLE_MAX).cloned().collect()).to_string());
    }
    let named = |Responder { kind, by, named }: &Responder| {
        let mut responder = Map::new();
        responder.insert("type".into(), (*kind).into());
        responder.insert((*by).to_owned(), (**named).into());
        Value::Object(responder)
    };
    let configured = &ask.upstream.vendor.responders;
    (!configured.is_empty()).then(|| Value::Array(configured.iter().map(named).collect()).to_string())
}
