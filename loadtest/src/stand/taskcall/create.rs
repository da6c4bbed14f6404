//! TaskCall's create, and its suppression by `dedup_key` while an instance is open or acknowledged.
//! Called by `taskcall.rs`.

use serde_json::{Map, Value, json};

use super::{Refused, bad_request, time};
use crate::stand::call::{Call, Reply};
use crate::stand::ledger::{Effect, Ledger, NewIncident};
use crate::stand::members::{Code, Members, Text};

/// The first `instance_id`, apart from the numbers people see, so that mixing them up shows.
const INSTANCE_IDS_FROM: u64 = 1_000_000;
/// Other organizations take the ids in between.
const INSTANCE_IDS_STEP: u64 = 3;
pub(super) const LIST_AT_MOST: usize = 50;

/// A create that holds.
struct Create {
    title: String,
    description: String,
    urgency: Option<u64>,
    key: Option<String>,
    notes: Option<String>,
    whom: Vec<String>,
}

pub(super) fn create(
    call: &Call<'_>,
    scope: &str,
    body: &Map<String, Value>,
    suppressed_without_id: bool,
    ledger: &mut Ledger,
) -> Result<Reply, Refused> {
    let new = read(body)?;
    let task = |reference: String, status: &str| {
        json!({
            "task_ref_id": reference, "task_title": new.title, "text_msg": new.description,
            "timestamp": time(call.at_us()), "status": status, "urgency_level": new.urgency,
        })
    };
    let serial = ledger.next_serial();
    let open = new.key.as_deref().and_then(|key| ledger.open_with_key(scope, key));
    if let Some(instance) = open.and_then(|id| ledger.by_id_mut(&id)) {
        instance.count += 1;
        instance.own_push("tasks", task(format!("dyTk{serial}"), "GROUPED"));
        instance.apply(call, "create", Effect::Duplicate, new.urgency.map(|urgency| urgency.to_string()));
        let mut answer = json!({ "timestamp": time(instance.created_at_us), "suppressed": true });
        if !suppressed_without_id {
            answer["instance_id"] = number(&instance.id);
        }
        return Ok(Reply::new(200, answer));
    }
    let mut own = Map::new();
    own.insert("tasks".to_owned(), json!([task(format!("dyTk{serial}"), "TRIGGERED")]));
    own.insert("notes".to_owned(), json!(new.notes.iter().collect::<Vec<_>>()));
    own.insert("assignees".to_owned(), json!(new.whom));
    own.insert("tags".to_owned(), body.get("tags").cloned().unwrap_or_default());
    own.insert("service_ref_id".to_owned(), body.get("service_ref_id").cloned().unwrap_or_default());
    let incident = NewIncident {
        id: instance_number(serial),
        number: Some(serial),
        kind: "incident",
        scope: scope.to_owned(),
        key: new.key,
        vendor_state: "OPEN".to_owned(),
        severity: new.urgency.map(|urgency| urgency.to_string()),
        title: new.title,
        description: new.description,
        own,
    };
    let instance = ledger.create(call, "create", new.whom, incident)?;
    Ok(Reply::new(200, json!({ "instance_id": number(&instance.id), "timestamp": time(instance.created_at_us) })))
}

fn read(body: &Map<String, Value>) -> Result<Create, Refused> {
    let mut members = Members::new(body);
    let any = Text::optional(usize::MAX);
    let title = members.text("title", Text::required(usize::MAX));
    let description = members.text("description", any);
    let service = members.text("service_ref_id", any).filter(|service| !service.trim().is_empty());
    // An empty name is nobody's.
    let mut named = |list| {
        let names = members.texts(list, LIST_AT_MOST, usize::MAX, false);
        names.into_iter().filter(|name| !name.trim().is_empty()).collect::<Vec<_>>()
    };
    let (policies, users) = (named("policy_ref_id"), named("users"));
    let urgency = members.integer("urgency_level", 1, 5, false);
    let notes = members.text("notes", any);
    members.texts("tags", usize::MAX, usize::MAX, false);
    let key = members.text("dedup_key", any).filter(|key| !key.trim().is_empty());
    let whom: Vec<String> = (service.into_iter().map(|service| format!("service:{service}")))
        .chain(policies.into_iter().map(|policy| format!("policy:{policy}")))
        .chain(users.into_iter().map(|user| format!("user:{user}")))
        .collect();
    if whom.is_empty() && members.findings.is_empty() {
        members.find("service_ref_id", Code::IsRequired, "or policy_ref_id or users is required");
    }
    if !members.findings.is_empty() {
        return Err(bad_request(&members.findings));
    }
    Ok(Create {
        title: title.unwrap_or_default().to_owned(),
        description: description.unwrap_or_default().to_owned(),
        urgency,
        key: key.map(str::to_owned),
        notes: notes.map(str::to_owned),
        whom,
    })
}

/// The `instance_id` of the serial-th instance.
pub(super) fn instance_number(serial: u64) -> String {
    (INSTANCE_IDS_FROM + serial * INSTANCE_IDS_STEP).to_string()
}

/// An id as the integer that it is on the wire.
pub(super) fn number(id: &str) -> Value {
    id.parse().map_or(Value::Null, |number: u64| json!(number))
}
