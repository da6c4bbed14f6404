//! Reads an edit of v2, the only way to change an incident (contracts/incident-io.md 5): one that moves it to a status
//! that ends incidents resolves it, any other updates it.

use std::borrow::Cow;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::body::{Found, Object};
use super::{ENDED, Version, lists, object};
use crate::dialect::json::{Document, clean};
use crate::dialect::text::{set_description, set_title};
use crate::dialect::{Asked, Decoded, Extra, Faults, Judged, View};
use crate::event::{Action, Content, HREF_BYTES_MAX, Severity, Target, TargetKind, is_blank};
use crate::gate::Settings;

const FLAG: &str = "notify_incident_channel";
/// Members of `incident` with a home in the model.
const HOMES: [&str; 4] = ["name", "summary", "severity_id", "incident_status_id"];
/// Longest raw words of the model (contracts 3.1).
const RAW_BYTES_MAX: usize = 64;

struct Said<'d> {
    name: Option<&'d str>,
    summary: Option<&'d str>,
    severity_id: Option<&'d str>,
    severity: Option<Severity>,
    status_id: Option<&'d str>,
    call_url: Option<&'d str>,
    numeric: bool,
    notify: Option<bool>,
}

pub(super) fn decode(
    asked: &Asked<'_>,
    document: Document<'_>,
    each: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Faults> {
    let top = Object::top(document.root);
    let mut found = Found::default();
    let settings = asked.rules.settings;
    let said = read(&top, settings, &mut found);
    if settings.is_some() && !found.0.is_empty() {
        return Err(found.0);
    }
    let ends = settings.is_some_and(|settings| said.status_id.is_some_and(|id| ends(settings, id)));
    let target = asked.args.first().map(|id| Target { kind: TargetKind::IncidentId, value: id.clone() });
    let judged = Judged {
        target,
        severity: said.severity,
        view: settings.map(|_| Box::new(view(&said))),
        ..Judged::of(if ends { Action::Resolve } else { Action::Update })
    };
    if asked.rules.judge_only {
        each(Decoded { judged, content: Content::default(), extra: Vec::new() });
        return Ok(());
    }
    let beside = document.root.members().map(|(name, _)| name).filter(|name| !matches!(*name, "incident" | FLAG));
    let beside = beside.map(|name| Extra::Member(Cow::Borrowed(name)));
    let inner = document.root.member("incident");
    let names = inner.into_iter().flat_map(|incident| incident.members()).map(|(name, _)| name);
    let made = names.filter(|name| !HOMES.contains(name)).filter_map(|name| {
        let text = document.source(&["incident", name])?.into_owned();
        Some(Extra::Made(Cow::Borrowed(name), RawValue::from_string(text).ok()?))
    });
    let extra = made.chain(beside).collect();
    each(Decoded { judged, content: content(&said), extra });
    Ok(())
}

fn read<'d>(top: &Object<'d>, settings: Option<&Settings>, found: &mut Found) -> Said<'d> {
    let notify = top.switch(found, FLAG);
    if top.get(FLAG).is_none() {
        top.missing(found, FLAG);
    }
    if top.get("incident").is_none() {
        top.missing(found, "incident");
    }
    let nothing = Said {
        name: None,
        summary: None,
        severity_id: None,
        severity: None,
        status_id: None,
        call_url: None,
        numeric: false,
        notify,
    };
    let Some(incident) = top.object(found, "incident") else { return nothing };
    let severity_id = incident.id(found, "severity_id");
    let status_id = incident.id(found, "incident_status_id");
    let mut severity = None;
    if let Some(settings) = settings {
        let unknown_severity = |id| !settings.severities.is_empty() && lists::severity(settings, id).is_none();
        if severity_id.is_some_and(unknown_severity) {
            incident.wrong(found, "severity_id", "names no severity of this account");
        }
        severity = severity_id.and_then(|id| lists::level(settings, id));
    }
    let numeric = lists::check(Version::V2, &incident, found);
    incident.text(found, "slack_channel_name_override");
    Said {
        name: incident.text(found, "name").filter(|name| !is_blank(name)),
        summary: incident.text(found, "summary"),
        severity_id,
        severity,
        status_id,
        call_url: incident.bounded(found, "call_url", HREF_BYTES_MAX),
        numeric,
        notify,
    }
}

/// Whether a status ends an incident: by its category, or because an upstream is configured to end incidents by it.
fn ends(settings: &Settings, id: &str) -> bool {
    let category = lists::status(settings, id).map(|row| &*row.category);
    category.map_or_else(
        || settings.closed_status_ids.iter().any(|closed| **closed == *id),
        |category| ENDED.contains(&category),
    )
}

fn view(said: &Said<'_>) -> View {
    let mut view = View::new();
    let mut put = |name: &str, value: Option<Cow<'_, str>>| {
        if let Some(value) = value {
            view.insert(name.to_owned(), value.into_owned().into());
        }
    };
    put(object::NAME, said.name.map(|name| object::short(&clean(name), object::NAME_BYTES_MAX).into_owned().into()));
    put(object::SUMMARY, said.summary.map(|text| object::short(text, object::SUMMARY_BYTES_MAX)));
    put(object::SEVERITY, said.severity_id.map(Cow::Borrowed));
    put(object::STATUS_ID, said.status_id.map(Cow::Borrowed));
    put(object::CALL_URL, said.call_url.map(Cow::Borrowed));
    if said.status_id.is_some() {
        // The word of a v1 create holds no longer.
        view.insert(object::STATUS.to_owned(), Json::Null);
    }
    view
}

fn content<'d>(said: &Said<'d>) -> Content<'d> {
    let raw = |id: Option<&'d str>| id.filter(|id| id.len() <= RAW_BYTES_MAX).map(Cow::Borrowed);
    let mut content = Content {
        severity: said.severity,
        severity_raw: raw(said.severity_id),
        status_raw: raw(said.status_id),
        ..Content::default()
    };
    // For the vendor alone: no other knows such a flag.
    content.params.extend(said.notify.map(|notify| (FLAG.to_owned(), notify.into())));
    if let Some(name) = said.name {
        set_title(&mut content, clean(name), "incident.name");
    }
    if let Some(summary) = said.summary {
        set_description(&mut content, clean(summary), "incident.summary");
    }
    if said.numeric {
        content.warn("number_as_text", "incident.custom_field_entries");
    }
    content
}
