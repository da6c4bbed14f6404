//! What an incident.io account is made of: severities, statuses, types. Ids are the same in every
//! run: tests and configurations name them. Called by `incidentio.rs` and its neighbours.

use serde_json::{Value, json};

use super::{Refused, error, time};
use crate::stand::Options;
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
    pub(super) fn new(options: &Options) -> Self {
        let mut severities: Vec<Value> = (1..=usize::from(options.severities))
            .map(|rank| match SEVERITIES.get(rank - 1) {
                Some(name) if options.severities == 3 => element(&id("SEV", rank), rank, name),
                _ => element(&id("SEV", rank), rank, &format!("Severity {rank}")),
            })
            .collect();
        if !options.severity_ids.is_empty() {
            let named = |(index, id): (usize, &String)| element(id, index + 1, &format!("Severity {}", index + 1));
            severities = options.severity_ids.iter().enumerate().map(named).collect();
        }
        let known = STATUSES.iter().enumerate().map(|(index, (name, category))| {
            let id = id("STS", index + 1);
            (id, (*name).to_owned(), (*category).to_owned())
        });
        let more = options.incident_statuses.iter().map(|(category, id)| (id.clone(), id.clone(), category.clone()));
        let status = |(index, (id, name, category)): (usize, (String, String, String))| {
            let mut status = element(&id, index + 1, &name);
            status["category"] = json!(category);
            status
        };
        // A higher rank is worse.
        Self { severities, statuses: known.chain(more).enumerate().map(status).collect() }
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
            Read::Types => json!({ "incident_types": [element(&id("TYP", 1), 1, "Default")] }),
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
        (None, Some("triage")) => "triage",
        (None, Some("declined" | "canceled" | "merged")) => "declined",
        (None, Some("closed" | "learning")) => "closed",
        _ => "monitoring",
    }
}

/// Whether an incident of this status is over.
pub(super) fn is_over(status: &Value) -> bool {
    matches!(status["category"].as_str(), Some("closed" | "declined" | "canceled" | "merged" | "learning"))
}

/// Whether statuses of this category exist.
pub(in crate::stand) fn is_category(word: &str) -> bool {
    STATUSES.iter().any(|(_, category)| *category == word)
}

fn id(kind: &str, rank: usize) -> String {
    format!("01STAND{kind}{rank:016}")
}

fn element(id: &str, rank: usize, name: &str) -> Value {
    let at = time(0);
    json!({ "id": id, "name": name, "description": name, "rank": rank, "created_at": at, "updated_at": at })
}
