//! What the dialects ask of an integration beyond the common rules (INTERFACE 3). Made by `config`, read by the dialects.

use std::sync::Arc;

use super::{Mapping, Signature};
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
    /// incident.io and TaskCall: the upstreams of these vendors that answer what is asked of them alone.
    pub incidentio_upstream: Option<Arc<str>>,
    pub taskcall_upstream: Option<Arc<str>>,
    /// TaskCall: the list in which that upstream has its runbooks, where it has but one of the two.
    pub taskcall_runbooks: Option<&'static str>,
    /// Opsgenie: the upstream whose answers senders get, and that knows how its requests ended.
    pub opsgenie_upstream: Option<Arc<str>>,
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
    /// Grafana before version 9: a rule without data says nothing.
    pub ignores_no_data: bool,
    /// SNS: what is believed, and what CloudWatch's alarms mean.
    pub sns: SnsSettings,
    /// Zabbix: what an incident is known by.
    pub zabbix_key: ZabbixKey,
    /// Generic webhook, and what SNS brings in a shape of its own. `None`: guessed.
    pub generic: Option<Mapping>,
}

/// Which id keys an incident of Zabbix (contracts/others.md 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZabbixKey {
    /// Of the problem: each is an incident of its own.
    #[default]
    EventId,
    /// Of the trigger: problems of one trigger are one incident.
    TriggerId,
}

/// What an integration's topics may do (contracts/others.md 3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnsSettings {
    /// Messages must be signed.
    pub verify: bool,
    /// Subscriptions of these topics are confirmed; of no others.
    pub auto_confirm: bool,
    pub topics: Vec<Arc<str>>,
    /// An alarm that lacks data is a trigger.
    pub insufficient_data_triggers: bool,
    /// The first that fits says the level of an alarm.
    pub levels: Vec<AlarmLevel>,
}

/// The level of alarms by their names and topics; `*` stands for any text.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmLevel {
    pub topic: Option<Arc<str>>,
    pub alarm: Option<Arc<str>>,
    pub severity: Severity,
}

impl AlarmLevel {
    pub fn fits(&self, topic: &str, alarm: &str) -> bool {
        let is = |pattern: &Option<Arc<str>>, text| pattern.as_deref().is_none_or(|pattern| matches(pattern, text));
        is(&self.topic, topic) && is(&self.alarm, alarm)
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any text. Each part is looked for once: linear in the text for
/// each part.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("*", ""), ("a*", "a"), ("*prod*", "arn:prod:x"), ("a*b*c", "abbc"), ("a", "a"), ("*a", "aa")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*", "b"), ("*a", "ab"), ("a*b*c", "acb"), ("a", "ab"), ("a*a", "a"), ("", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
