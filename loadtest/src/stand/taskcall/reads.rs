//! Reads of TaskCall: details, alerts, and the lists. Called by `taskcall.rs`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::create::number;
use super::operations::{NEXT_ALERT_US, instance_id};
use super::{Refused, bad_request, time};
use crate::stand::call::Reply;
use crate::stand::ledger::{Incident, Ledger};
use crate::stand::members::{Members, Text};

/// What `GET /list/{type}` knows.
pub(super) const LISTS: [&str; 7] =
    ["users", "escalation-policies", "services", "business-services", "response-sets", "incidents", "workflows"];
/// Of alerts in an answer.
const ALERTS_AT_MOST: usize = 100;

pub(super) fn list(scope: &str, kind: &str, ledger: &Ledger) -> Reply {
    let named = |name: &str, reference: &str| json!([{ name: "Example", reference: "dyExampleRef0" }]);
    Reply::new(
        200,
        match kind {
            "users" => {
                json!([{ "display_name": "Example", "preferred_username": "example.user", "policy_id": "dyExampleRef0" }])
            }
            "escalation-policies" => named("policy_name", "policy_ref_id"),
            "services" => named("service_name", "service_ref_id"),
            "business-services" => named("business_service_name", "business_service_ref_id"),
            "response-sets" => named("response_set_name", "response_set_ref_id"),
            "workflows" => named("workflow_name", "workflow_ref_id"),
            _ => json!(ledger.all().filter(|instance| instance.scope == scope).map(summary).collect::<Vec<_>>()),
        },
    )
}

/// POST `/incidents/list`: by state, service and time of creation.
pub(super) fn search(scope: &str, body: &Map<String, Value>, ledger: &Ledger) -> Result<Reply, Refused> {
    let mut members = Members::new(body);
    let status = members.word("status", &["OPEN", "ACKNOWLEDGED", "RESOLVED"], false);
    let mut text = |name| members.text(name, Text::optional(usize::MAX));
    let (service, start, end) = (text("service_ref_id"), text("start_timestamp"), text("end_timestamp"));
    if !members.findings.is_empty() {
        return Err(bad_request(&members.findings));
    }
    // In this form times compare as texts.
    let spelled = |at_us| Timestamp::from_microsecond(at_us).unwrap_or_default().strftime("%F %T").to_string();
    let wanted = |instance: &&Incident| {
        let at = spelled(instance.created_at_us);
        instance.scope == scope
            && status.is_none_or(|status| instance.vendor_state == status)
            && service.is_none_or(|service| instance.own_text("service_ref_id") == Some(service))
            && start.is_none_or(|start| at.as_str() >= start)
            && end.is_none_or(|end| at.as_str() <= end)
    };
    Ok(Reply::new(200, json!(ledger.all().filter(wanted).map(summary).collect::<Vec<_>>())))
}

fn summary(instance: &Incident) -> Value {
    json!({
        "instance_id": number(&instance.id), "organization_instance_id": instance.number,
        "status": instance.vendor_state, "instance_timestamp": time(instance.created_at_us),
        "task_title": instance.title, "urgency_level": urgency(instance),
        "resolved_on": instance.resolved_at_us.map(time),
    })
}

fn urgency(instance: &Incident) -> Value {
    instance.severity.as_deref().map_or(Value::Null, number)
}

fn read<'l>(scope: &str, body: &Map<String, Value>, ledger: &'l Ledger) -> Result<&'l Incident, Refused> {
    let id = instance_id(scope, &mut Members::new(body), ledger)?;
    ledger.by_id(&id).ok_or(Refused::Full)
}

pub(super) fn details(scope: &str, body: &Map<String, Value>, ledger: &Ledger) -> Result<Reply, Refused> {
    let instance = read(scope, body, ledger)?;
    let own = |name: &str| instance.own.get(name).cloned().unwrap_or_default();
    let created = time(instance.created_at_us);
    let tasks = own("tasks");
    let first = tasks.get(0).map(|task| task["task_ref_id"].clone()).unwrap_or_default();
    let last_alert = tasks.as_array().and_then(|tasks| tasks.last()).map(|task| task["timestamp"].clone());
    let changed = instance.resolved_at_us.or(instance.acknowledged_at_us).unwrap_or(instance.created_at_us);
    let next = instance.is_open().then(|| time(changed + NEXT_ALERT_US));
    Ok(Reply::new(
        200,
        json!({
            "instance_id": number(&instance.id), "organization_instance_id": instance.number,
            "status": instance.vendor_state, "instance_timestamp": created,
            "last_alert_timestamp": last_alert, "next_alert_timestamp": next,
            "state_timestamp": time(changed), "resolved_on": instance.resolved_at_us.map(time),
            "assignee_level": 1, "assignees": own("assignees"), "subscribers": own("subscribers"),
            "conference_bridges": null, "impacted_business_services": own("impacted_business_services"),
            "status_update": own("status_update"), "notes": own("notes"), "events": events(instance),
            "task": {
                "task_id": first, "task_ref_id": first, "related_task_id": first,
                "task_title": instance.title, "text_msg": instance.description,
                "urgency_level": urgency(instance), "services": own("service_ref_id"),
                "assignees": own("assignees"), "labels": own("tags"), "integration_key": null,
                "integration_name": null, "created_by": null, "task_time": &created[11..19],
                "start_date": &created[..10], "task_timezone": "UTC", "repeat": null,
                "with_completion_notice": false,
            },
        }),
    ))
}

/// The history in the vendor's words. `event_log` is JSON inside of a string.
fn events(instance: &Incident) -> Vec<Value> {
    let event = |(action, at_us): (&str, i64)| {
        let at = time(at_us);
        let kind = if action == "create" { "TRIGGER".to_owned() } else { action.to_uppercase().replace('-', "_") };
        json!({
            "event_type": kind, "event_timestamp": at, "event_date": &at[..10],
            "event_method": "INTEGRATIONS_API", "event_by": null,
            "event_log": json!({ "at": at }).to_string(), "instance_id": number(&instance.id),
        })
    };
    instance.actions().map(event).collect()
}

pub(super) fn alerts(scope: &str, body: &Map<String, Value>, ledger: &Ledger) -> Result<Reply, Refused> {
    let instance = read(scope, body, ledger)?;
    let tasks = instance.own.get("tasks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let whole = |task: &Value| {
        let mut alert = task.clone();
        alert["instance_id"] = number(&instance.id);
        alert["organization_instance_id"] = json!(instance.number);
        alert["integration_name"] = Value::Null;
        alert["services"] = instance.own.get("service_ref_id").cloned().unwrap_or_default();
        alert["resolved_on"] = json!(instance.resolved_at_us.map(time));
        alert
    };
    // The newest first.
    Ok(Reply::new(200, json!(tasks.iter().rev().take(ALERTS_AT_MOST).map(whole).collect::<Vec<_>>())))
}
