//! The v2 edit of incident.io, by which an incident is closed. Called by `incidentio.rs`.

use serde_json::{Map, Value, json};

use super::incidents::{NAME, check_lists, find, severity, shape};
use super::lists::{Lists, is_over};
use super::{Refused, Version, not_json, unprocessable};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Effect, Incident, Ledger, State};
use crate::stand::members::{Code, Members, Text};

/// What an edit changes.
struct Edit<'a> {
    name: Option<&'a str>,
    summary: Option<&'a str>,
    severity: Option<&'a Value>,
    status: Option<&'a Value>,
}

pub(super) fn edit(
    call: &Call<'_>,
    scope: &str,
    id: &str,
    lists: &Lists,
    ledger: &mut Ledger,
) -> Result<Reply, Refused> {
    let body = call.object().ok_or_else(|| not_json(call))?;
    let id = match find(call, scope, id, ledger) {
        Ok(id) => id,
        Err(refused) => {
            ledger.unknown += 1;
            return Err(refused);
        }
    };
    let Some(incident) = ledger.by_id_mut(&id) else { return Err(Refused::Full) };
    let edit = read(call, &body, incident, lists)?;
    apply(call, edit, incident);
    Ok(Reply::new(200, json!({ "incident": shape(incident, Version::V2, lists) })))
}

fn read<'a>(
    call: &Call<'_>,
    body: &'a Map<String, Value>,
    incident: &Incident,
    lists: &'a Lists,
) -> Result<Edit<'a>, Refused> {
    let mut members = Members::new(body);
    members.boolean("notify_incident_channel", true);
    let mut edit = Edit { name: None, summary: None, severity: None, status: None };
    if let Some(inner) = members.object("incident", true) {
        let mut inner = Members::below("incident.", inner);
        edit.name = inner.text("name", NAME);
        edit.summary = inner.text("summary", Text::optional(usize::MAX));
        edit.severity = severity(&mut inner, lists);
        edit.status = status(&mut inner, incident, lists);
        check_lists(&mut inner);
        members.findings.append(&mut inner.findings);
    }
    if members.findings.is_empty() { Ok(edit) } else { Err(unprocessable(call, &members.findings).into()) }
}

/// Nothing goes back to triage, and nothing comes back from a merge.
fn status<'l>(members: &mut Members<'_>, incident: &Incident, lists: &'l Lists) -> Option<&'l Value> {
    let id = members.text("incident_status_id", Text::optional(usize::MAX))?;
    let status = lists.status(id);
    let now = incident.vendor_state.as_str();
    match status.and_then(|status| status["category"].as_str()) {
        None => members.find("incident_status_id", Code::InvalidValue, "names no status"),
        Some("triage") if now != "triage" => {
            members.find("incident_status_id", Code::InvalidValue, "cannot go back to triage");
        }
        Some(next) if now == "merged" && next != "merged" => {
            members.find("incident_status_id", Code::InvalidValue, "cannot leave the status of a merged incident");
        }
        Some(_) => {}
    }
    status
}

fn apply(call: &Call<'_>, edit: Edit<'_>, incident: &mut Incident) {
    if let Some(name) = edit.name {
        name.clone_into(&mut incident.title);
    }
    if let Some(summary) = edit.summary {
        summary.clone_into(&mut incident.description);
    }
    let mut said = None;
    if let Some(severity) = edit.severity {
        said = severity["id"].as_str().map(str::to_owned);
        incident.severity.clone_from(&said);
        incident.own.insert("severity".to_owned(), severity.clone());
    }
    let mut effect = Effect::Updated;
    if let Some(status) = edit.status {
        let over = is_over(status);
        if over == incident.is_open() {
            effect = if over { Effect::Resolved } else { Effect::Updated };
            incident.state = if over { State::Resolved } else { State::Open };
            incident.resolved_at_us = over.then(|| call.at_us());
        }
        status["category"].as_str().unwrap_or_default().clone_into(&mut incident.vendor_state);
        incident.own.insert("status".to_owned(), status.clone());
    }
    incident.apply(call, "edit", effect, said);
}
