//! What can be done to an instance of TaskCall, and in which state. Called by `taskcall.rs`.

use serde_json::{Map, Value, json};

use super::create::{LIST_AT_MOST, number};
use super::{Refused, bad_request, error, time};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Effect, Incident, Ledger, NewIncident, State};
use crate::stand::members::{Code, Members, Text};

/// Above this a JSON number is not exact everywhere.
const LARGEST_INTEGER: u64 = (1 << 53) - 1;
const SNOOZE_MINUTES_AT_MOST: u64 = 525_600;
/// When an instance that nobody resolves calls again.
pub(super) const NEXT_ALERT_US: i64 = 15 * 60 * 1_000_000;

/// An operation on an instance: its name, the member it needs, and whether it works on a resolved one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Operation {
    name: &'static str,
    needs: Needs,
    when_resolved: bool,
}

/// The member that an operation needs besides `instance_id`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Text(&'static str),
    Texts(&'static str),
    Minutes(&'static str),
    Instance(&'static str),
    Urgency,
}

const OPERATIONS: [Operation; 20] = [
    Operation { name: "acknowledge", needs: Needs::Nothing, when_resolved: false },
    Operation { name: "unacknowledge", needs: Needs::Nothing, when_resolved: false },
    Operation { name: "resolve", needs: Needs::Nothing, when_resolved: true },
    Operation { name: "escalate", needs: Needs::Nothing, when_resolved: false },
    Operation { name: "reassign", needs: Needs::Texts("reassign_to"), when_resolved: false },
    Operation { name: "snooze", needs: Needs::Minutes("snooze_for"), when_resolved: false },
    Operation { name: "amend-urgency", needs: Needs::Urgency, when_resolved: false },
    Operation { name: "add-responders", needs: Needs::Texts("assignees"), when_resolved: false },
    Operation { name: "notate", needs: Needs::Text("notes"), when_resolved: true },
    Operation { name: "merge", needs: Needs::Instance("related_instance_id"), when_resolved: false },
    Operation { name: "unmerge", needs: Needs::Text("task_ref_id"), when_resolved: false },
    Operation { name: "add-subscribers", needs: Needs::Texts("subscribers"), when_resolved: true },
    Operation { name: "remove-subscribers", needs: Needs::Texts("subscribers"), when_resolved: true },
    Operation { name: "update-status", needs: Needs::Text("status_update"), when_resolved: true },
    Operation { name: "add-impact", needs: Needs::Text("business_service_ref_id"), when_resolved: true },
    Operation { name: "remove-impact", needs: Needs::Text("business_service_ref_id"), when_resolved: true },
    Operation { name: "run-response-set", needs: Needs::Text("response_set_ref_id"), when_resolved: true },
    Operation { name: "run-workflow", needs: Needs::Text("workflow_ref_id"), when_resolved: true },
    Operation { name: "edit-title", needs: Needs::Text("title"), when_resolved: true },
    Operation { name: "update-tags", needs: Needs::Texts("tags"), when_resolved: true },
];

impl Operation {
    pub(super) fn named(name: &str) -> Option<Self> {
        OPERATIONS.into_iter().find(|operation| operation.name == name)
    }
}

/// The id in the body, as the ledger spells it, if it is one of this organization.
pub(super) fn instance_id(scope: &str, members: &mut Members<'_>, ledger: &Ledger) -> Result<String, Refused> {
    let id = members.integer("instance_id", 1, LARGEST_INTEGER, true).map(|id| id.to_string());
    if !members.findings.is_empty() {
        return Err(bad_request(&members.findings));
    }
    let known = id.filter(|id| ledger.by_id(id).is_some_and(|instance| instance.scope == scope));
    known.ok_or_else(|| error(404, "not_found", "no such incident").into())
}

/// Runs an operation: members first, then the instance, then its state.
pub(super) fn run(
    call: &Call<'_>,
    scope: &str,
    operation: Operation,
    body: &Map<String, Value>,
    ledger: &mut Ledger,
) -> Result<Reply, Refused> {
    let mut members = Members::new(body);
    let argument = argument(operation.needs, &mut members);
    let id = match instance_id(scope, &mut members, ledger) {
        Ok(id) => id,
        Err(refused) => {
            ledger.unknown += u64::from(members.findings.is_empty());
            return Err(refused);
        }
    };
    if operation.needs == Needs::Instance("related_instance_id") {
        check_survivor(scope, &id, &argument, ledger)?;
    }
    let Some(instance) = ledger.by_id_mut(&id) else { return Err(Refused::Full) };
    if !instance.is_open() && !operation.when_resolved {
        return Err(error(400, "incident_not_open", "the incident is resolved").into());
    }
    match operation.name {
        "acknowledge" => {
            instance.turn(call, "acknowledge", State::Acknowledged, "ACKNOWLEDGED");
            let next = instance.acknowledged_at_us.unwrap_or_default() + NEXT_ALERT_US;
            return Ok(Reply::new(200, json!({ "next_alert_timestamp": time(next) })));
        }
        "unacknowledge" => instance.turn(call, "unacknowledge", State::Open, "OPEN"),
        "resolve" => instance.turn(call, "resolve", State::Resolved, "RESOLVED"),
        "merge" => merge(call, &id, &argument, ledger),
        "unmerge" => return unmerge(call, scope, &id, &argument, ledger),
        _ => change(call, operation, &argument, instance),
    }
    Ok(Reply::new(200, json!("Success")))
}

fn argument(needs: Needs, members: &mut Members<'_>) -> Value {
    match needs {
        Needs::Nothing => Value::Null,
        Needs::Text(name) => json!(members.text(name, Text::required(usize::MAX))),
        Needs::Texts(name) => json!(members.texts(name, LIST_AT_MOST, usize::MAX, true)),
        Needs::Minutes(name) => json!(members.integer(name, 1, SNOOZE_MINUTES_AT_MOST, true)),
        Needs::Instance(name) => json!(members.integer(name, 1, LARGEST_INTEGER, true)),
        Needs::Urgency => {
            // The vendor's own sample calls it otherwise.
            let names = ["urgency_level", "amend-urgency", "amend_urgency"];
            let said: Vec<&str> = names.into_iter().filter(|name| members.get(name).is_some()).collect();
            let levels: Vec<_> = said.iter().map(|name| members.integer(name, 1, 5, true)).collect();
            if said.is_empty() {
                members.find("urgency_level", Code::IsRequired, "is missing");
            } else if levels.iter().any(|level| *level != levels[0]) {
                members.find("urgency_level", Code::InvalidValue, "is said twice, and differently");
            }
            json!(levels.first().copied().flatten())
        }
    }
}

/// The operations that change an instance without turning its state.
fn change(call: &Call<'_>, operation: Operation, argument: &Value, instance: &mut Incident) {
    let listed = |value: &Value| match value {
        Value::Array(list) => list.clone(),
        other => vec![other.clone()],
    };
    let whom = || listed(argument).iter().filter_map(Value::as_str).map(|one| format!("policy:{one}")).collect();
    let mut severity = None;
    match operation.name {
        "amend-urgency" => {
            severity = argument.as_u64().map(|level| level.to_string());
            instance.severity.clone_from(&severity);
        }
        "edit-title" => argument.as_str().unwrap_or_default().clone_into(&mut instance.title),
        "update-tags" => {
            instance.own.insert("tags".to_owned(), argument.clone());
        }
        "snooze" => {
            instance.own.insert("snoozed_minutes".to_owned(), argument.clone());
        }
        "escalate" => instance.call_out(call, "escalate", Vec::new()),
        "reassign" => {
            instance.own.insert("assignees".to_owned(), json!(listed(argument)));
            instance.call_out(call, "reassign", whom());
        }
        "add-responders" => {
            listed(argument).into_iter().for_each(|one| instance.own_push("assignees", one));
            instance.call_out(call, "add-responders", whom());
        }
        "notate" => instance.own_push("notes", argument.clone()),
        "update-status" => instance.own_push("status_update", argument.clone()),
        "add-subscribers" => listed(argument).into_iter().for_each(|one| instance.own_push("subscribers", one)),
        "remove-subscribers" => remove(instance, "subscribers", &listed(argument)),
        "add-impact" => instance.own_push("impacted_business_services", argument.clone()),
        "remove-impact" => remove(instance, "impacted_business_services", &listed(argument)),
        _ => instance.own_push("runs", argument.clone()),
    }
    instance.apply(call, operation.name, Effect::Updated, severity);
}

fn remove(instance: &mut Incident, list: &str, gone: &[Value]) {
    if let Some(Value::Array(list)) = instance.own.get_mut(list) {
        list.retain(|one| !gone.contains(one));
    }
}

fn check_survivor(scope: &str, id: &str, survivor: &Value, ledger: &Ledger) -> Result<(), Refused> {
    let survivor = survivor.to_string();
    if survivor == id {
        return Err(error(400, "bad_request", "related_instance_id is the incident itself").into());
    }
    match ledger.by_id(&survivor).filter(|instance| instance.scope == scope) {
        None => Err(error(404, "not_found", "no such related incident").into()),
        Some(instance) if !instance.is_open() => {
            Err(error(400, "incident_not_open", "the related incident is resolved").into())
        }
        Some(_) => Ok(()),
    }
}

/// The survivor takes the alerts; the merged one is resolved.
fn merge(call: &Call<'_>, id: &str, survivor: &Value, ledger: &mut Ledger) {
    let mut tasks = Vec::new();
    if let Some(merged) = ledger.by_id_mut(id) {
        if let Some(Value::Array(list)) = merged.own.insert("tasks".to_owned(), json!([])) {
            tasks = list;
        }
        merged.own.insert("merged_into".to_owned(), survivor.clone());
        merged.turn(call, "merge", State::Resolved, "RESOLVED");
    }
    if let Some(survivor) = ledger.by_id_mut(&survivor.to_string()) {
        for mut task in tasks {
            task["status"] = json!("GROUPED");
            survivor.own_push("tasks", task);
        }
        survivor.apply(call, "merge", Effect::Updated, None);
    }
}

/// An alert gets an instance of its own again.
fn unmerge(call: &Call<'_>, scope: &str, id: &str, reference: &Value, ledger: &mut Ledger) -> Result<Reply, Refused> {
    let serial = ledger.next_serial();
    let Some(instance) = ledger.by_id_mut(id) else { return Err(Refused::Full) };
    let Some(Value::Array(tasks)) = instance.own.get_mut("tasks") else { return Err(Refused::Full) };
    let Some(place) = tasks.iter().position(|task| task["task_ref_id"] == *reference) else {
        return Err(error(404, "not_found", "no such alert in the incident").into());
    };
    if tasks.len() == 1 {
        return Err(error(400, "bad_request", "the incident has no other alert").into());
    }
    let mut task = tasks.remove(place);
    instance.apply(call, "unmerge", Effect::Updated, None);
    task["status"] = json!("TRIGGERED");
    let whom = instance.own.get("assignees").cloned().unwrap_or_default();
    let new = NewIncident {
        id: super::create::instance_number(serial),
        number: Some(serial),
        kind: "incident",
        scope: scope.to_owned(),
        vendor_state: "OPEN".to_owned(),
        severity: instance.severity.clone(),
        title: task["task_title"].as_str().unwrap_or_default().to_owned(),
        description: task["text_msg"].as_str().unwrap_or_default().to_owned(),
        own: Map::from_iter([
            ("tasks".to_owned(), json!([task])),
            ("notes".to_owned(), json!([])),
            ("assignees".to_owned(), whom.clone()),
        ]),
        ..NewIncident::default()
    };
    let whom = whom.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let instance = ledger.create(call, "unmerge", whom, new)?;
    Ok(Reply::new(200, json!({ "instance_id": number(&instance.id), "timestamp": time(instance.created_at_us) })))
}
