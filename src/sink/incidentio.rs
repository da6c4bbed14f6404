//! Upstream kind `incidentio`: incidents of incident.io, v2 and v1 (contracts/incident-io.md 7). A create is remembered by
//! its key for ever there, so from other dialects each generation has its own; everything later is an edit of v2,
//! addressed by the id that the create's answer told. Severities are those of the configuration, or of the account by their
//! ranks, which `forward` puts in their place.

mod fields;

use serde_json::Value;

use super::answer::judge;
use super::container::{Container, Home, fenced, object, tag_json};
use super::keys::{Fits, create_once_key};
use super::text::{quoted, to_characters};
use super::verbatim::{self, Body};
use super::{
    Answer, Ask, Encoded, IncidentApi, Kind, Parcel, Sink, Statement, Unsaid, UpstreamConfig, Verdict, percent_encoded,
};
use crate::event::{Action, DESCRIPTION_BYTES_MAX, Micros, Mode, Severity, Visibility};
use crate::outcome::Outcome;
use crate::store::Remote;
use crate::vendor::EDIT_ENDPOINT;

const V1: &str = "incidentio_v1";
const V2: &str = "incidentio_v2";
const NATIVE: &[&str] = &[V1, V2];
const KEY_BYTES_MAX: usize = 512;
const NAME_CHARS_MAX: usize = 512;
/// None is documented; as for alert events.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// Statuses no repetition will change (contracts 7.1). A state that is refused is one of them.
const PERMANENT: [u16; 5] = [400, 401, 403, 404, 422];

/// What a create has members for.
const HOMES: &[Home] = &[Home::Description, Home::Severity, Home::Visibility, Home::Mode];

/// Members of the vendor's own create that the model keeps as they were written, by version.
const KEPT_V1: [&str; 6] = [
    "custom_field_entries",
    "incident_role_assignments",
    "incident_type_id",
    "slack_team_id",
    "source_message_channel_id",
    "source_message_timestamp",
];
const KEPT_V2: [&str; 7] = [
    "custom_field_entries",
    "incident_role_assignments",
    "incident_type_id",
    "slack_team_id",
    "incident_timestamp_values",
    "retrospective_incident_options",
    "slack_channel_name_override",
];
/// The same of an edit.
const KEPT_EDIT: [&str; 5] = [
    "custom_field_entries",
    "incident_role_assignments",
    "incident_timestamp_values",
    "call_url",
    "slack_channel_name_override",
];

pub struct IncidentIo;

impl Sink for IncidentIo {
    fn kind(&self) -> Kind {
        Kind::IncidentIo
    }

    fn expresses(&self, statement: Statement<'_>) -> bool {
        match statement.action {
            Action::Trigger | Action::Resolve => true,
            // Of the updates the vendor's own, and those that are a severity: TaskCall's and Opsgenie's operations.
            Action::Update => {
                statement.endpoint == EDIT_ENDPOINT
                    || matches!(statement.endpoint.rsplit('/').next(), Some("amend-urgency" | "priority"))
            }
            Action::Acknowledge | Action::Unacknowledge | Action::Admin | Action::Change => false,
        }
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        if !self.expresses(Statement::of(event)) {
            return Err(Unsaid::NotExpressible(event.action));
        }
        let again = matches!(ask.stored.outcome, Outcome::Escalated | Outcome::Duplicate);
        match (event.action, ask.remote) {
            (Action::Trigger, Some(remote)) if again => raise(ask, remote),
            (Action::Trigger, _) => Ok(create(ask)),
            (_, None) => Err(Unsaid::Unresolvable),
            (_, Some(remote)) if event.endpoint == EDIT_ENDPOINT => Ok(own_edit(ask, remote)),
            (Action::Resolve, Some(remote)) => {
                let closed = &ask.upstream.vendor.closed_status_id;
                let closed = closed.as_deref().ok_or(Unsaid::NotExpressible(event.action))?;
                Ok(edit(ask, remote, true, &[("incident_status_id", quoted(closed))]))
            }
            (_, Some(remote)) => raise(ask, remote),
        }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        match judge(answer, &PERMANENT, now) {
            Verdict::Delivered(_) => Verdict::Delivered(incident_of(&answer.body)),
            verdict => verdict,
        }
    }

    fn question(&self, path: &str, upstream: &UpstreamConfig) -> Option<Parcel> {
        Some(Parcel::default().by(hyper::Method::GET).to(path).authorized("Bearer", upstream))
    }
}

/// The id and the link that an answer tells.
fn incident_of(body: &[u8]) -> Option<Remote> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let incident = answer.get("incident")?;
    Remote::new(incident.get("id")?.as_str()?, incident.get("permalink").and_then(Value::as_str))
}

fn to(ask: &Ask<'_>, path: impl Into<String>, body: impl Into<bytes::Bytes>) -> Encoded {
    Encoded::new(ask.stored.event.uid, Parcel::json(body).to(path).authorized("Bearer", ask.upstream))
}

/// The configured severity of a level; of one that nothing is configured for the worst there is (contracts 4: never less
/// urgent).
fn severity_id(ask: &Ask<'_>, severity: Option<Severity>) -> Option<String> {
    let vendor = &ask.upstream.vendor;
    let worst = || vendor.severity_map.iter().rev().flatten().next();
    vendor.severity_id(severity).or_else(worst).map(|id| quoted(id))
}

/// The severity that the sender named by the vendor's own id.
fn own_severity(ask: &Ask<'_>) -> Option<String> {
    if !NATIVE.contains(&&*ask.stored.event.dialect) {
        return None;
    }
    let long = || ask.said.extra.iter().find(|(name, _)| name == "severity_id").map(|(_, json)| json.get().to_owned());
    ask.said.content.severity_raw.as_deref().map(quoted).or_else(long)
}

fn raise(ask: &Ask<'_>, remote: &Remote) -> Result<Encoded, Unsaid> {
    let event = &ask.stored.event;
    let severity = event.severity.or(ask.said.content.severity);
    let id = severity.and_then(|severity| severity_id(ask, Some(severity)));
    let id = own_severity(ask).or(id).ok_or(Unsaid::NotExpressible(event.action))?;
    Ok(edit(ask, remote, false, &[("severity_id", id)]))
}

fn edit(ask: &Ask<'_>, remote: &Remote, tells: bool, members: &[(&str, String)]) -> Encoded {
    let incident = object(members.iter().map(|(name, json)| (*name, json.clone())));
    let body = object([("notify_incident_channel", tells.to_string()), ("incident", incident)].into_iter());
    to(ask, edit_path(remote), body)
}

fn edit_path(remote: &Remote) -> String {
    format!("/v2/incidents/{}/actions/edit", percent_encoded(remote.id()))
}

/// An edit of the vendor's own, under the id it gave.
fn own_edit(ask: &Ask<'_>, remote: &Remote) -> Encoded {
    let event = &ask.stored.event;
    if verbatim::is_allowed(ask, &[V2], BODY_BYTES_MAX) && Body::read(&event.raw).is_some() {
        return to(ask, edit_path(remote), event.raw.clone());
    }
    let content = &ask.said.content;
    let text = |name, text: Option<&str>| text.map(|text| (name, quoted(text)));
    let mut members = Vec::new();
    members.extend(text("name", content.title.as_deref()));
    members.extend(text("summary", content.description.as_deref()));
    members.extend(text("severity_id", content.severity_raw.as_deref()));
    members.extend(text("incident_status_id", content.status_raw.as_deref()));
    let tells = content.params.get("notify_incident_channel").and_then(Value::as_bool).unwrap_or_default();
    for (name, json) in &ask.said.extra {
        if KEPT_EDIT.contains(&&**name) {
            members.push((name, fields::as_the_vendor_reads(name, json.get())));
        }
    }
    edit(ask, remote, tells, &members)
}

fn create(ask: &Ask<'_>) -> Encoded {
    let api = ask.upstream.vendor.api;
    let path = match api {
        IncidentApi::V1 => "/v1/incidents",
        IncidentApi::V2 => "/v2/incidents",
    };
    if let Some(body) = as_it_came(ask, api) {
        return to(ask, path, body);
    }
    let mut cut = Vec::new();
    let body = anew(ask, api, &mut cut);
    Encoded { cut, ..to(ask, path, body) }
}

/// The sender's own create, where the vendor reads it as it was read here.
fn as_it_came(ask: &Ask<'_>, api: IncidentApi) -> Option<bytes::Bytes> {
    let event = &ask.stored.event;
    let dialect = if api == IncidentApi::V1 { V1 } else { V2 };
    if !verbatim::is_allowed(ask, &[dialect], BODY_BYTES_MAX) {
        return None;
    }
    let body = Body::read(&event.raw)?;
    let has_key = body.text("idempotency_key").as_deref() == Some(event.key.as_ref()?.canon());
    let has_severity = body.text("severity_id").is_some_and(|id| !id.is_empty());
    // v1 knows by the word that no severity is known yet; of v2's statuses nobody here knows what they mean.
    let status = body.text("status");
    let needs_none = api == IncidentApi::V1 && matches!(status.as_deref(), None | Some("triage" | "declined"));
    let fits = body.fits("name", NAME_CHARS_MAX);
    (has_key && fits && (has_severity || needs_none)).then(|| event.raw.clone())
}

fn anew(ask: &Ask<'_>, api: IncidentApi, cut: &mut Vec<&'static str>) -> String {
    let (event, content, vendor) = (&ask.stored.event, &ask.said.content, &ask.upstream.vendor);
    let is_own = NATIVE.contains(&&*event.dialect);
    let key = create_once_key(ask.stored, NATIVE, ask.upstream, Fits::Bytes(KEY_BYTES_MAX));
    // Never public unless somebody said so.
    let visibility = match content.visibility.or(vendor.visibility) {
        Some(Visibility::Public) => "public",
        _ => "private",
    };
    let title = ask.said.title_of(event);
    let name = to_characters(&title, NAME_CHARS_MAX);
    if *name != *title {
        cut.push("name");
    }
    let mut body = vec![("idempotency_key", quoted(&key)), ("visibility", quoted(visibility))];
    let severity = event.severity.or(content.severity);
    body.extend(own_severity(ask).or_else(|| severity_id(ask, severity)).map(|id| ("severity_id", id)));
    body.push(("name", quoted(&name)));
    let (mapped, entries) = fields::of(ask);
    let (summary, whole) = summary(ask, is_own, api, &mapped);
    if !whole {
        cut.push("summary");
    }
    body.extend((!summary.is_empty()).then(|| ("summary", quoted(&summary))));
    body.push(("mode", quoted(mode(content.mode, api))));
    if let (IncidentApi::V1, Some(status)) = (api, content.status_raw.as_deref().filter(|_| event.dialect == V1)) {
        body.push(("status", quoted(status)));
    } else if api == IncidentApi::V1 {
        // Its own default is one that calls nobody.
        body.push(("status", quoted("investigating")));
    }
    body.extend(entries.map(|entries| ("custom_field_entries", entries)));
    let mut has_type = false;
    if is_own {
        for (name, json) in &ask.said.extra {
            let kept = kept(api).iter().find(|kept| **kept == &**name && **kept != "custom_field_entries");
            has_type |= kept == Some(&"incident_type_id");
            body.extend(kept.map(|kept| (*kept, json.get().to_owned())));
        }
    }
    let configured = vendor.incident_type_id.as_deref().filter(|_| !has_type);
    body.extend(configured.map(|id| ("incident_type_id", quoted(id))));
    object(body.into_iter())
}

fn kept(api: IncidentApi) -> &'static [&'static str] {
    match api {
        IncidentApi::V1 => &KEPT_V1,
        IncidentApi::V2 => &KEPT_V2,
    }
}

fn mode(mode: Option<Mode>, api: IncidentApi) -> &'static str {
    match (mode, api) {
        (Some(Mode::Test), _) => "test",
        (Some(Mode::Retrospective), IncidentApi::V2) => "retrospective",
        (Some(Mode::Tutorial), IncidentApi::V2) => "tutorial",
        (_, IncidentApi::V1) => "real",
        (_, IncidentApi::V2) => "standard",
    }
}

/// The description, with all that has no member of its own behind it.
fn summary(ask: &Ask<'_>, is_own: bool, api: IncidentApi, mapped: &[&str]) -> (String, bool) {
    let content = &ask.said.content;
    let mut rest = Container::of(ask, HOMES);
    if !mapped.is_empty() {
        let left = content.tags.iter().filter(|(name, _)| !mapped.contains(&&**name));
        let left = object(left.map(|(name, tag)| (&**name, tag_json(tag))));
        rest.0.iter_mut().filter(|(name, _)| name == "tags").for_each(|(_, json)| json.clone_from(&left));
        rest.0.retain(|(name, json)| name != "tags" || json != "{}");
    }
    if is_own {
        let is_left = |name: &str| !kept(api).contains(&name) && name != "severity_id";
        let left: Vec<_> = ask.said.extra.iter().filter(|(name, _)| is_left(name)).collect();
        rest.0.retain(|(name, _)| name != "extra");
        if !left.is_empty() {
            let json = object(left.into_iter().map(|(name, json)| (&**name, json.get().to_owned())));
            rest.0.push(("extra".into(), json));
        }
    }
    let description = content.description.as_deref().unwrap_or_default();
    if rest.is_empty() {
        return fenced(description, &Container::default(), DESCRIPTION_BYTES_MAX);
    }
    fenced(description, &rest, DESCRIPTION_BYTES_MAX)
}

#[cfg(test)]
mod tests;
