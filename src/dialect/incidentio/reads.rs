//! Answers of the incident APIs: to creates and edits, and to questions (contracts/incident-io.md 4 and 5).

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::filters::{Filters, Scan};
use super::object::{self, Around};
use super::{Version, lists};
use crate::dialect::{Asked, Passed, Question, Record, Replying, View};
use crate::event::Uid;
use crate::gate::Settings;
use crate::outcome::{Reason, Refusal};

pub(super) const LIST_V1: &str = "v1/incidents";
pub(super) const LIST_V2: &str = "v2/incidents";
pub(super) const ONE_V1: &str = "v1/incidents/id";
pub(super) const ONE_V2: &str = "v2/incidents/id";
pub(super) const SEVERITIES: &str = "v1/severities";
pub(super) const SEVERITY: &str = "v1/severities/id";
pub(super) const STATUSES: &str = "v1/incident_statuses";
pub(super) const TYPES: &str = "v1/incident_types";
pub(super) const IDENTITY: &str = "v1/identity";
pub(super) const FIELDS: &str = "v2/custom_fields";

/// What a key of the proxy may do, in the vendor's words.
const ROLES: [&str; 3] = ["viewer", "incident_creator", "incident_editor"];

fn fine(body: &Value) -> (StatusCode, Bytes) {
    (StatusCode::OK, body.to_string().into())
}

/// Exactly 200 and the whole object: clients read nothing else as success.
pub(super) fn reply(version: Version, replying: &Replying<'_>) -> (StatusCode, Bytes) {
    let Replying { endings, settings, integration, .. } = *replying;
    let ending = endings.first();
    let view: View =
        ending.and_then(|ending| ending.view).and_then(|view| serde_json::from_slice(view).ok()).unwrap_or_default();
    let around = Around { version, integration, settings };
    let named = ending.and_then(|ending| ending.named);
    let shown =
        ending.and_then(|ending| ending.incident).map(|incident| object::incident(around, incident, &view, named));
    fine(&json!({ "incident": shown }))
}

/// Whether a repeat's body differs from the first one's, of the same version.
pub(super) fn says_otherwise(known: &[u8], said: &[u8]) -> bool {
    let hash = |view: &[u8]| {
        let view: View = serde_json::from_slice(view).ok()?;
        view.get(object::HASH).and_then(Value::as_str).map(str::to_owned)
    };
    match (hash(known), hash(said)) {
        (Some(known), Some(said)) => known.get(..1) == said.get(..1) && known != said,
        _ => false,
    }
}

pub(super) fn read(version: Version, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
    let Question { asked, settings, integration, .. } = question;
    let arg = || asked.args.first().map(|id| &**id).unwrap_or_default();
    let body = match asked.endpoint {
        LIST_V1 | LIST_V2 => return list(version, question),
        ONE_V1 | ONE_V2 => {
            let record = one(question, arg())?;
            json!({ "incident": shown(version, question, &record) })
        }
        SEVERITIES => {
            json!({ "severities": settings.severities.iter().map(object::severity_json).collect::<Vec<_>>() })
        }
        SEVERITY => {
            let row = lists::severity(settings, arg());
            let unknown = || Refusal::new(Reason::NotFound, "no severity has this id");
            json!({ "severity": object::severity_json(row.ok_or_else(unknown)?) })
        }
        STATUSES => {
            let rows = settings.incident_statuses.iter();
            let rows: Vec<_> = rows.map(|row| object::status_json(&row.id, &row.name, &row.category)).collect();
            json!({ "incident_statuses": rows })
        }
        TYPES => json!({ "incident_types": [] }),
        FIELDS => json!({ "custom_fields": [] }),
        IDENTITY => {
            json!({ "identity": {
                "name": integration, "roles": ROLES, "team_roles": [], "teams": [], "dashboard_url": "",
            } })
        }
        _ => return Err(Refusal::new(Reason::NotFound, "nothing is known of this")),
    };
    Ok(fine(&body))
}

/// Longest id that is asked for.
const ID_BYTES_MAX: usize = 64;

/// What an account of the vendor's knows better than the configuration.
pub(super) fn passes(asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
    let upstream = settings.incidentio_upstream.clone()?;
    let is_id = |id: &&str| {
        id.len() <= ID_BYTES_MAX
            && !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let path = match asked.endpoint {
        SEVERITIES | STATUSES | TYPES | FIELDS | IDENTITY => format!("/{}", asked.endpoint),
        SEVERITY => format!("/{SEVERITIES}/{}", asked.args.first().map(|id| &**id).filter(is_id)?),
        _ => return None,
    };
    // Section 5: lists that are empty rather than 404.
    let absent = match asked.endpoint {
        SEVERITIES => Some(r#"{"severities":[]}"#),
        STATUSES => Some(r#"{"incident_statuses":[]}"#),
        TYPES => Some(r#"{"incident_types":[]}"#),
        FIELDS => Some(r#"{"custom_fields":[]}"#),
        _ => None,
    };
    Some(Passed { upstream, path, absent })
}

fn shown(version: Version, question: &Question<'_>, record: &Record) -> Value {
    let around = Around { version, integration: question.integration, settings: question.settings };
    object::incident(around, &record.incident, &record.view, Some(&record.named))
}

/// By id, or by the number of the reference.
fn one(question: &Question<'_>, id: &str) -> Result<Record, Refusal> {
    let by_number = || question.records.by_number(id.parse().ok()?);
    let by_iid = || question.records.by_iid(Uid::parse(id)?);
    let record = question.records.by_name(id).or_else(by_iid).or_else(by_number);
    record.ok_or_else(|| Refusal::new(Reason::NotFound, "no incident has this id"))
}

/// Newest first, a page at a time.
fn list(version: Version, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
    let filters = Filters::parse(version, question.asked.query, question.settings).map_err(|faults| {
        Refusal::new(Reason::InvalidEvent, "the question breaks the rules of this API").with_errors(faults)
    })?;
    let before = match &filters.after {
        None => None,
        Some(after) => {
            let found = Uid::parse(after).and_then(|iid| question.records.by_iid(iid));
            let unknown = || {
                let refusal = Refusal::new(Reason::InvalidEvent, "the question breaks the rules of this API");
                refusal.with_errors(vec!["after: names no incident".to_owned()])
            };
            Some(found.ok_or_else(unknown)?.incident.number)
        }
    };
    let Scan { page, after, total } = filters.scan(question, before);
    let incidents: Vec<_> = page.iter().map(|record| shown(version, question, record)).collect();
    let mut meta = json!({ "page_size": filters.page_size });
    if let Some(after) = after {
        meta["after"] = json!(after);
    }
    if let Some(total) = total {
        meta["total_record_count"] = total.into();
    }
    Ok(fine(&json!({ "incidents": incidents, "pagination_meta": meta })))
}
