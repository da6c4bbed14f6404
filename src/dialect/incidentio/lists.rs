//! What is known of an account's severities and statuses, and the lists that creates and edits have in common.

use super::Version;
use super::body::{Found, Object};
use crate::dialect::json::Kind;
use crate::event::Severity;
use crate::gate::{Settings, SeverityRow, StatusRow};
use crate::vendor;

pub(super) fn severity<'s>(settings: &'s Settings, id: &str) -> Option<&'s SeverityRow> {
    settings.severities.iter().find(|row| *row.id == *id)
}

pub(super) fn status<'s>(settings: &'s Settings, id: &str) -> Option<&'s StatusRow> {
    settings.incident_statuses.iter().find(|row| *row.id == *id)
}

/// The level of a severity by its rank (contracts 4.1).
pub(super) fn level(settings: &Settings, id: &str) -> Option<Severity> {
    let rank = severity(settings, id)?.rank;
    let milder = settings.severities.iter().filter(|row| row.rank < rank).count();
    vendor::level_of_place(milder, settings.severities.len())
}

/// Looks for faults in what is kept as it was written. True: a number stands where the vendor wants its text.
pub(super) fn check(version: Version, object: &Object<'_>, found: &mut Found) -> bool {
    let mut numeric = false;
    for entry in object.objects(found, "custom_field_entries").unwrap_or_default() {
        entry.required_id(found, "custom_field_id");
        if entry.get("values").is_none() {
            entry.missing(found, "values");
        }
        for value in entry.objects(found, "values").unwrap_or_default() {
            for text in
                ["id", "value_text", "value_link", "value_option_id", "value_catalog_entry_id", "value_timestamp"]
            {
                value.text(found, text);
            }
            match value.get("value_numeric").map(|number| number.kind()) {
                Some(Kind::Integer(_) | Kind::Number) => numeric = true,
                _ => drop(value.text(found, "value_numeric")),
            }
        }
    }
    for assignment in object.objects(found, "incident_role_assignments").unwrap_or_default() {
        assignment.required_id(found, "incident_role_id");
        if let Some(assignee) = assignment.object(found, "assignee") {
            for text in ["id", "email", "slack_user_id"] {
                assignee.text(found, text);
            }
        }
    }
    // Unknown to v1, and what is unknown is never a fault.
    if version == Version::V1 {
        return numeric;
    }
    for stamp in object.objects(found, "incident_timestamp_values").unwrap_or_default() {
        stamp.required_id(found, "incident_timestamp_id");
        stamp.text(found, "value");
    }
    numeric
}
