//! What the dialects ask of an integration beyond the common rules (INTERFACE 3). Made by `config`, read by the dialects.

use std::sync::Arc;

use super::Signature;
use crate::event::{Assignment, Severity};

/// The parts of an integration that only some dialects look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// incident.io: the severity of an incident that names none.
    pub default_severity_id: Option<Arc<str>>,
    /// incident.io: the severities that are served and known, in configured order.
    pub severities: Vec<SeverityRow>,
    /// incident.io: the statuses that are served and known; they say which one closes an incident.
    pub incident_statuses: Vec<StatusRow>,
    /// incident.io: statuses by which the integration's upstreams end incidents.
    pub closed_status_ids: Vec<Arc<str>>,
    /// incident.io alert events: the sources whose secrets this integration knows.
    pub alert_sources: Vec<AlertSource>,
    /// TaskCall: who is called by an incident that names nobody.
    pub assignment: Option<Assignment>,
    /// Alertmanager and Grafana: what is one event.
    pub group_mode: GroupMode,
    /// Grafana: the level of an alert that stands for missing data, where it says none.
    pub no_data_severity: Option<Severity>,
    /// Grafana: what its bodies must be signed with. `None`: the key is enough.
    pub grafana_hmac: Option<Signature>,
}

/// What is one event of a body that groups alerts (contracts/alertmanager.md 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupMode {
    /// Each alert, by its fingerprint.
    #[default]
    Alert,
    /// The group, by its group key.
    Group,
}

/// A severity of an incident.io account; a lower rank is less severe (contracts 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeverityRow {
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub rank: i64,
}

/// A status of an incident.io account (contracts/incident-io.md 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRow {
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub category: Arc<str>,
}

/// An alert source of contracts/incident-io.md 6; its id is unique over all integrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSource {
    pub id: Arc<str>,
    /// `http`, `alertmanager` or `http_custom`.
    pub kind: Arc<str>,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// Refuse events that name no key.
    pub require_dedup_key: bool,
}
