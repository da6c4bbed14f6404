//! Reads of Opsgenie's alerts. Called by `opsgenie.rs`.

use serde_json::{Value, json};

use super::deeds::Target;
use super::{answer, time};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Incident, Ledger, State};

const PAGE_DEFAULT: usize = 20;
const PAGE_AT_MOST: usize = 100;

pub(super) fn show(call: &Call<'_>, scope: &str, target: &Target, ledger: &Ledger) -> Reply {
    match target.find(scope, ledger).and_then(|id| ledger.by_id(&id)) {
        Some(alert) => answer(call, 200, json!({ "data": shape(alert) })),
        None => answer(call, 404, json!({ "message": "Alert not found" })),
    }
}

/// The newest first.
pub(super) fn list(call: &Call<'_>, scope: &str, ledger: &Ledger) -> Reply {
    let number = |name| call.query_value(name).and_then(|text| text.parse().ok());
    let limit = number("limit").unwrap_or(PAGE_DEFAULT).min(PAGE_AT_MOST);
    let shown = |alert: &&Incident| alert.scope == scope && alert.vendor_state != "deleted";
    let alerts = ledger.all().rev().filter(shown).skip(number("offset").unwrap_or(0)).take(limit);
    answer(call, 200, json!({ "data": alerts.map(shape).collect::<Vec<_>>(), "paging": {} }))
}

fn shape(alert: &Incident) -> Value {
    let own = |name: &str, otherwise: Value| alert.own.get(name).cloned().unwrap_or(otherwise);
    json!({
        "id": alert.id, "tinyId": alert.number.map(|number| number.to_string()), "alias": alert.key,
        "message": alert.title, "description": alert.description,
        "status": if alert.is_open() { "open" } else { "closed" },
        "acknowledged": alert.state == State::Acknowledged, "isSeen": false,
        "snoozed": alert.own.contains_key("snoozed_until"), "count": alert.count,
        "createdAt": time(alert.created_at_us), "updatedAt": time(alert.updated_at_us),
        "lastOccurredAt": time(alert.updated_at_us), "priority": alert.severity,
        "source": own("source", json!("")), "owner": "", "entity": own("entity", json!("")),
        "tags": own("tags", json!([])), "responders": own("responders", json!([])),
        "actions": own("actions", json!([])), "details": own("details", json!({})),
        "integration": { "id": alert.scope, "name": alert.scope, "type": "API" },
    })
}
