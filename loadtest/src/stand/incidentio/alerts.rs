//! Alert events v2 of incident.io: deduplicated while firing. Called by `incidentio.rs`.

use serde_json::{Map, Value, json};

use super::{Refused, not_json, unprocessable};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Effect, Ledger, NewIncident, State};
use crate::stand::members::{Members, Text};

const KEY_CHARS_AT_MOST: usize = 512;

pub(super) fn take(call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Result<Reply, Refused> {
    let body = call.object().ok_or_else(|| not_json(call))?;
    let mut members = Members::new(&body);
    let title = members.text("title", Text::required(usize::MAX)).unwrap_or_default();
    let status = members.word("status", &["firing", "resolved"], true).unwrap_or_default();
    let key = members.text("deduplication_key", Text::optional(KEY_CHARS_AT_MOST));
    for name in ["description", "source_url"] {
        members.text(name, Text::optional(usize::MAX));
    }
    let metadata = members.object("metadata", false);
    if !members.findings.is_empty() {
        return Err(unprocessable(call, &members.findings).into());
    }
    // Without a key the source and the title are it.
    let key = key.filter(|key| !key.trim().is_empty()).map_or_else(|| format!("auto-{title}"), str::to_owned);
    let severity = metadata.and_then(|metadata| metadata.get("severity")).and_then(Value::as_str).map(str::to_owned);
    let open = ledger.open_with_key(scope, &key);
    match (open.and_then(|id| ledger.by_id_mut(&id)), status) {
        (Some(alert), "firing") => {
            alert.count += 1;
            alert.apply(call, "firing", Effect::Duplicate, severity);
        }
        (Some(alert), _) => alert.turn(call, "resolved", State::Resolved, "resolved"),
        (None, "firing") => fire(call, scope, key.clone(), severity, &body, ledger)?,
        (None, _) => ledger.unknown += 1,
    }
    let message = "Event accepted for processing";
    Ok(Reply::new(202, json!({ "status": "success", "message": message, "deduplication_key": key })))
}

fn fire(
    call: &Call<'_>,
    scope: &str,
    key: String,
    severity: Option<String>,
    body: &Map<String, Value>,
    ledger: &mut Ledger,
) -> Result<(), Refused> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let pick = |name: &str| (name.to_owned(), body.get(name).cloned().unwrap_or_default());
    let new = NewIncident {
        id: format!("01STANDART{:016}", ledger.next_serial()),
        kind: "alert",
        scope: scope.to_owned(),
        key: Some(key),
        vendor_state: "firing".to_owned(),
        severity,
        title: text("title"),
        description: text("description"),
        own: ["metadata", "source_url"].into_iter().map(pick).collect(),
        ..NewIncident::default()
    };
    ledger.create(call, "firing", vec![scope.to_owned()], new)?;
    Ok(())
}
