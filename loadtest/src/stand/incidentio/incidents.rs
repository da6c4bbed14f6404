//! Incidents of incident.io: create with its idempotency, and reads, in the shapes of both versions.
//! Called by `incidentio.rs`.

use serde_json::{Map, Value, json};

use super::lists::{Lists, v1_word};
use super::{Refused, Version, error, not_json, time, unprocessable};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Effect, Full, Incident, Ledger, NewIncident, State};
use crate::stand::members::{Code, Members, Text};

const PAGE_DEFAULT: usize = 25;
const PAGE_AT_MOST: usize = 250;
pub(super) const NAME: Text = Text::optional(512);
const IDEMPOTENCY_KEY_CHARS_AT_MOST: usize = 512;

impl From<Full> for Refused {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// The same key gives the same incident, open or not, whatever the body says.
pub(super) fn create(
    call: &Call<'_>,
    scope: &str,
    version: Version,
    lists: &Lists,
    ledger: &mut Ledger,
) -> Result<Reply, Refused> {
    let body = call.object().ok_or_else(|| not_json(call))?;
    let new = read(call, version, &body, lists)?;
    let key = new.key.clone().unwrap_or_default();
    let before = ledger.with_key(scope, &key).next().map(|incident| incident.id.clone());
    let incident = match before.and_then(|id| ledger.by_id_mut(&id)) {
        Some(incident) => {
            incident.count += 1;
            incident.apply(call, "create", Effect::Duplicate, new.severity);
            incident
        }
        None => {
            let serial = ledger.next_serial();
            let over = new.own.get("status").is_some_and(super::lists::is_over);
            let new = NewIncident {
                id: format!("01STANDCAS{serial:016}"),
                number: Some(serial),
                scope: scope.to_owned(),
                ..new
            };
            let incident = ledger.create(call, "create", vec!["account".to_owned()], new)?;
            if over {
                incident.state = State::Resolved;
                incident.resolved_at_us = Some(call.at_us());
            }
            incident
        }
    };
    Ok(Reply::new(200, json!({ "incident": shape(incident, version, lists) })))
}

/// Reads a create; its findings are one 422.
fn read(call: &Call<'_>, version: Version, body: &Map<String, Value>, lists: &Lists) -> Result<NewIncident, Refused> {
    let mut members = Members::new(body);
    let key = members.text("idempotency_key", Text::required(IDEMPOTENCY_KEY_CHARS_AT_MOST));
    members.word("visibility", &["public", "private"], true);
    let name = members.text("name", NAME);
    let summary = members.text("summary", Text::optional(usize::MAX));
    let modes: &[&str] = match version {
        Version::V1 => &["real", "test"],
        Version::V2 => &["standard", "retrospective", "test", "tutorial"],
    };
    members.word("mode", modes, false);
    let status = status(&mut members, version, lists);
    let severity = severity(&mut members, lists);
    let light = matches!(status["category"].as_str(), Some("triage" | "declined"));
    if members.get("severity_id").is_none() && !light {
        members.find("severity_id", Code::IsRequired, "is required");
    }
    members.text("incident_type_id", Text::optional(usize::MAX));
    check_lists(&mut members);
    if !members.findings.is_empty() {
        return Err(unprocessable(call, &members.findings).into());
    }
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut own = Map::new();
    own.insert("severity".to_owned(), severity.cloned().unwrap_or_default());
    own.insert("status".to_owned(), status.clone());
    own.insert("request".to_owned(), Value::Object(body.clone()));
    Ok(NewIncident {
        kind: "incident",
        key: key.map(str::to_owned),
        vendor_state: status["category"].as_str().unwrap_or_default().to_owned(),
        severity: severity.and_then(|severity| severity["id"].as_str()).map(str::to_owned),
        title: name.map_or_else(|| "Incident".to_owned(), str::to_owned),
        description: text(summary),
        own,
        ..NewIncident::default()
    })
}

fn status(members: &mut Members<'_>, version: Version, lists: &Lists) -> Value {
    let none = Value::Null;
    let status = match version {
        Version::V1 => {
            let words = ["triage", "investigating", "fixing", "monitoring", "closed", "declined"];
            let word = members.word("status", &words, false).unwrap_or("triage");
            lists.status_of_v1(word)
        }
        Version::V2 => match members.text("incident_status_id", Text::optional(usize::MAX)) {
            None => lists.first_live(),
            Some(id) => {
                let status = lists.status(id);
                if status.is_none() {
                    members.find("incident_status_id", Code::InvalidValue, "names no status");
                }
                status
            }
        },
    };
    status.unwrap_or(&none).clone()
}

/// The severity that is named; an unknown one is a finding.
pub(super) fn severity<'l>(members: &mut Members<'_>, lists: &'l Lists) -> Option<&'l Value> {
    let id = members.text("severity_id", Text::optional(usize::MAX))?;
    let severity = lists.severity(id);
    if severity.is_none() {
        members.find("severity_id", Code::InvalidValue, "names no severity");
    }
    severity
}

/// The lists that create and edit share.
pub(super) fn check_lists(members: &mut Members<'_>) {
    for (index, entry) in members.objects("custom_field_entries", usize::MAX).into_iter().enumerate() {
        let prefix = format!("custom_field_entries.{index}.");
        let mut entry = Members::below(&prefix, entry);
        entry.text("custom_field_id", Text::required(usize::MAX));
        if entry.get("values").is_none() {
            entry.find("values", Code::IsRequired, "is missing");
        }
        entry.objects("values", usize::MAX);
        members.findings.append(&mut entry.findings);
    }
    for (index, entry) in members.objects("incident_role_assignments", usize::MAX).into_iter().enumerate() {
        let prefix = format!("incident_role_assignments.{index}.");
        let mut entry = Members::below(&prefix, entry);
        entry.text("incident_role_id", Text::required(usize::MAX));
        entry.object("assignee", false);
        members.findings.append(&mut entry.findings);
    }
}

/// The incident by its id, or by the number of its reference.
pub(super) fn find(call: &Call<'_>, scope: &str, id: &str, ledger: &Ledger) -> Result<String, Refused> {
    let by_id = ledger.by_id(id);
    let by_number = || id.parse().ok().and_then(|number: u64| ledger.all().find(|i| i.number == Some(number)));
    let found = by_id.or_else(by_number).filter(|incident| incident.scope == scope && incident.kind == "incident");
    match found {
        Some(incident) => Ok(incident.id.clone()),
        None => Err(error(call, 404, "not_found", "No such incident").into()),
    }
}

pub(super) fn show(
    call: &Call<'_>,
    scope: &str,
    version: Version,
    id: &str,
    lists: &Lists,
    ledger: &Ledger,
) -> Result<Reply, Refused> {
    let id = find(call, scope, id, ledger)?;
    let incident = ledger.by_id(&id).map(|incident| shape(incident, version, lists));
    Ok(Reply::new(200, json!({ "incident": incident })))
}

/// The newest first; `after` is the id of the last one of the page before.
pub(super) fn list(call: &Call<'_>, scope: &str, version: Version, lists: &Lists, ledger: &Ledger) -> Reply {
    let size = call.query_value("page_size").and_then(|size| size.parse().ok()).unwrap_or(PAGE_DEFAULT);
    let size = size.clamp(1, PAGE_AT_MOST);
    let category = call.query_value("status_category[one_of]");
    let word = call.query_value("status");
    let wanted = |incident: &&Incident| {
        incident.kind == "incident"
            && incident.scope == scope
            && category.as_deref().is_none_or(|category| incident.vendor_state == category)
            && word.as_deref().is_none_or(|word| v1_word(&incident.own["status"]) == word)
    };
    let all: Vec<&Incident> = ledger.all().rev().filter(wanted).collect();
    let after = call.query_value("after");
    let start = after.and_then(|after| all.iter().position(|i| i.id == after)).map_or(0, |place| place + 1);
    let page: Vec<&&Incident> = all.iter().skip(start).take(size).collect();
    let more = start + page.len() < all.len();
    let after = page.last().filter(|_| more).map(|incident| incident.id.clone());
    let shapes: Vec<Value> = page.iter().map(|incident| shape(incident, version, lists)).collect();
    let meta = json!({ "after": after, "page_size": size, "total_record_count": all.len() });
    Reply::new(200, json!({ "incidents": shapes, "pagination_meta": meta }))
}

/// The incident as an answer tells it.
pub(super) fn shape(incident: &Incident, version: Version, lists: &Lists) -> Value {
    let request = &incident.own["request"];
    let number = incident.number.unwrap_or_default();
    let mode = request["mode"].as_str().unwrap_or("standard");
    let mode = match (version, mode) {
        (Version::V1, "test") | (Version::V2, "test") => "test",
        (Version::V1, "tutorial") => "tutorial",
        (Version::V1, _) => "real",
        (Version::V2, "real") => "standard",
        (Version::V2, mode) => mode,
    };
    let mut shape = json!({
        "id": incident.id, "reference": format!("INC-{number}"), "name": incident.title,
        "summary": incident.description, "mode": mode, "visibility": request["visibility"],
        "creator": { "api_key": { "id": incident.scope, "name": incident.scope } },
        "created_at": time(incident.created_at_us), "updated_at": time(incident.updated_at_us),
        "custom_field_entries": [], "incident_role_assignments": [], "team_ids": [],
        "slack_channel_id": "", "slack_team_id": "",
        "permalink": format!("https://app.incident.invalid/incidents/{number}"),
    });
    if let Some(severity) = incident.severity.as_deref().and_then(|id| lists.severity(id)) {
        shape["severity"] = severity.clone();
    }
    match version {
        Version::V1 => shape["status"] = json!(v1_word(&incident.own["status"])),
        Version::V2 => shape["incident_status"] = incident.own["status"].clone(),
    }
    shape
}
