//! What an incident.io account is made of: severities, statuses, types. Ids are the same in every
//! run: tests and configurations name them. Called by `incidentio.rs` and its neighbours.

use serde_json::{Value, json};

use super::{Refused, error, time};
use crate::stand::call::{Call, Reply};

/// Name and category, in the order of the rank; the first of category `live` is where an incident begins.
const STATUSES: [(&str, &str); 10] = [
    ("Triage", "triage"),
    ("Investigating", "live"),
    ("Fixing", "live"),
    ("Monitoring", "live"),
    ("Documenting", "learning"),
    ("Closed", "closed"),
    ("Declined", "declined"),
    ("Canceled", "canceled"),
    ("Merged", "merged"),
    ("Paused", "paused"),
];
/// Statuses of v1 and the names above.
const V1_STATUSES: [(&str, &str); 6] = [
    ("triage", "Triage"),
    ("investigating", "Investigating"),
    ("fixing", "Fixing"),
    ("monitoring", "Monitoring"),
    ("closed", "Closed"),
    ("declined", "Declined"),
];
/// The names of the usual three; more are numbered.
const SEVERITIES: [&str; 3] = ["Minor", "Major", "Critical"];

/// A read of a list or of one of its elements.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Severities,
    Severity(String),
    Statuses,
    Types,
    CustomFields,
    Identity,
}

impl Read {
    pub(super) fn from_path(segments: &[&str]) -> Option<Self> {
        match segments {
            ["v1", "severities"] => Some(Self::Severities),
            ["v1", "severities", id] => Some(Self::Severity((*id).to_owned())),
            ["v1", "incident_statuses"] => Some(Self::Statuses),
            ["v1", "incident_types"] => Some(Self::Types),
            ["v2", "custom_fields"] => Some(Self::CustomFields),
            ["v1", "identity"] => Some(Self::Identity),
            _ => None,
        }
    }
}

pub(super) struct Lists {
    severities: Vec<Value>,
    statuses: Vec<Value>,
}

impl Lists {
    pub(super) fn new(severities: u8) -> Self {
        let severity = |rank: usize| {
            let name = match SEVERITIES.get(rank - 1) {
                Some(name) if severities == 3 => (*name).to_owned(),
                _ => format!("Severity {rank}"),
            };
            element("SEV", rank, &name)
        };
        let status = |(index, (name, category)): (usize, &(&str, &str))| {
            let mut status = element("STS", index + 1, name);
            status["category"] = json!(category);
            status
        };
        Self {
            // A higher rank is worse.
            severities: (1..=usize::from(severities)).map(severity).collect(),
            statuses: STATUSES.iter().enumerate().map(status).collect(),
        }
    }

    pub(super) fn severity(&self, id: &str) -> Option<&Value> {
        self.severities.iter().find(|severity| severity["id"] == id)
    }

    pub(super) fn status(&self, id: &str) -> Option<&Value> {
        self.statuses.iter().find(|status| status["id"] == id)
    }

    /// The status a v1 word means.
    pub(super) fn status_of_v1(&self, word: &str) -> Option<&Value> {
        let (_, name) = V1_STATUSES.iter().find(|(known, _)| *known == word)?;
        self.statuses.iter().find(|status| status["name"] == *name)
    }

    /// The status of an incident that says none.
    pub(super) fn first_live(&self) -> Option<&Value> {
        self.statuses.iter().find(|status| status["category"] == "live")
    }

    pub(super) fn read(&self, call: &Call<'_>, read: &Read) -> Result<Reply, Refused> {
        let body = match read {
            Read::Severities => json!({ "severities": self.severities }),
            Read::Severity(id) => match self.severity(id) {
                Some(severity) => json!({ "severity": severity }),
                None => return Err(error(call, 404, "not_found", "No such severity").into()),
            },
            Read::Statuses => json!({ "incident_statuses": self.statuses }),
            Read::Types => json!({ "incident_types": [element("TYP", 1, "Default")] }),
            Read::CustomFields => json!({ "custom_fields": [] }),
            Read::Identity => json!({ "identity": { "name": "stand-in", "roles": ["incident_creator", "viewer"] } }),
        };
        Ok(Reply::new(200, body))
    }
}

/// The v1 word for a status, by its name, else by its category.
pub(super) fn v1_word(status: &Value) -> &'static str {
    let by_name = V1_STATUSES.iter().find(|(_, name)| status["name"] == *name);
    match (by_name, status["category"].as_str()) {
        (Some((word, _)), _) => word,
        (None, Some("canceled" | "merged")) => "declined",
        (None, Some("learning")) => "closed",
        _ => "monitoring",
    }
}

/// Whether an incident of this status is over.
pub(super) fn is_over(status: &Value) -> bool {
    matches!(status["category"].as_str(), Some("closed" | "declined" | "canceled" | "merged" | "learning"))
}

fn element(kind: &str, rank: usize, name: &str) -> Value {
    let at = time(0);
    json!({
        "id": format!("01STAND{kind}{rank:016}"), "name": name, "description": name, "rank": rank,
        "created_at": at, "updated_at": at,
    })
}
