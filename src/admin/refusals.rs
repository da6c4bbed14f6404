//! What is refused, for whoever has to mend its sender: by reason, the most first, with the last that was seen and what
//! to send instead.

use serde::Serialize;

use super::Desk;
use crate::event::Micros;
use crate::intake::Sample;
use crate::metrics::IntakeBook;
use crate::outcome::{Class, Reason};

/// One reason.
#[derive(Serialize)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    /// Events; requests without a known sender are none.
    pub(super) count: u64,
    /// What it means, or what to look at.
    pub(super) about: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instead: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<Seen>,
}

/// The last one that was looked at: no key, no path, no value of its body.
#[derive(Serialize)]
pub(super) struct Seen {
    pub(super) at: Micros,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) integration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dialect: Option<&'static str>,
    pub(super) source: String,
    pub(super) status: u16,
    pub(super) request_id: String,
    /// What its sender was told.
    pub(super) message: String,
    pub(super) errors: Vec<String>,
    /// The body, its values masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
}

impl From<Sample> for Seen {
    fn from(sample: Sample) -> Self {
        let Sample { at, dialect, integration, source, status, request_id, message, errors, shape } = sample;
        Self {
            at,
            integration: integration.map(|name| name.to_string()),
            dialect,
            source: source.to_string(),
            status,
            request_id: request_id.into(),
            message,
            errors,
            body: shape.map(Into::into),
        }
    }
}

/// Reasons with something to show, the most events first.
pub(super) fn of(desk: &Desk, book: &IntakeBook) -> Vec<Refused> {
    let mut samples = desk.intake.refusal_samples();
    let rows = Reason::all().map(|reason| {
        let at = samples.iter().position(|(of, _)| *of == reason);
        let sample = at.map(|at| samples.swap_remove(at).1);
        Refused {
            reason: reason.label(),
            count: book.rejected[reason.index()],
            about: reason.about(),
            instead: instead(reason, sample.as_ref().and_then(|sample| sample.dialect)),
            sample: sample.map(Seen::from),
        }
    });
    let mut rows: Vec<Refused> = rows.filter(|row| row.count > 0 || row.sample.is_some()).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

/// The least that each dialect takes, by the id of contracts 1. A test sends those that stand alone.
pub(super) const LEAST: &[(&str, &str)] = &[
    ("squadcast", r#"{"message": "disk full", "description": "volume /data", "event_id": "disk-db-7"}"#),
    (
        "incidentio_v1",
        r#"{"idempotency_key": "disk-db-7", "visibility": "public", "severity_id": "01...", "name": "disk full"}"#,
    ),
    (
        "incidentio_v2",
        r#"{"idempotency_key": "disk-db-7", "visibility": "public", "severity_id": "01...", "name": "disk full"}"#,
    ),
    ("incidentio_alert", r#"{"title": "disk full", "status": "firing", "deduplication_key": "disk-db-7"}"#),
    ("taskcall", r#"{"title": "disk full", "dedup_key": "disk-db-7", "service_ref": "..."}"#),
    (
        "alertmanager",
        r#"what an Alertmanager's webhook_configs sends, unchanged: {"version": "4", "status": "firing", "alerts": [...]}"#,
    ),
    (
        "grafana",
        r#"what Grafana's webhook contact point sends, without a template: {"status": "firing", "alerts": [...]}"#,
    ),
    ("opsgenie", r#"{"message": "disk full", "alias": "disk-db-7"}"#),
    (
        "pagerduty_v2",
        r#"{"routing_key": KEY, "event_action": "trigger", "dedup_key": "disk-db-7", "payload": {"summary": "disk full", "source": "db-7", "severity": "critical"}}"#,
    ),
    (
        "pagerduty_v1",
        r#"{"service_key": KEY, "event_type": "trigger", "incident_key": "disk-db-7", "description": "disk full"}"#,
    ),
    ("pagerduty_change", r#"{"routing_key": KEY, "payload": {"summary": "deployed 1.2", "source": "ci"}}"#),
    ("datadog", r#"{"title": "disk full", "alert_transition": "Triggered", "alert_cycle_key": "disk-db-7"}"#),
    ("sns", r#"{"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:...", "Message": "disk full"}"#),
    ("cloudevents", r#"{"specversion": "1.0", "id": "1", "source": "/fleet", "type": "disk.full", "subject": "db-7"}"#),
    ("zabbix", r#"{"subject": "disk full", "status": "PROBLEM", "event_id": "1"}"#),
    ("nagios", r#"{"hostname": "db-7", "servicedesc": "disk", "service_state": "CRITICAL"}"#),
    ("icinga", r#"{"notification_type": "PROBLEM", "hostname": "db-7", "data": {"host_state": "DOWN"}}"#),
    ("checkmk", r#"{"source": "HOST", "notificationType": "PROBLEM", "hostname": "db-7", "hostState": "DOWN"}"#),
    ("generic", r#"{"title": "disk full", "id": "disk-db-7", "status": "firing"}"#),
];

/// What a sender should send in place of what was refused; `None`: the sender is not at fault.
fn instead(reason: Reason, dialect: Option<&str>) -> Option<&'static str> {
    match reason {
        Reason::InvalidJson | Reason::InvalidEvent => {
            LEAST.iter().find(|(name, _)| Some(*name) == dialect).map(|(_, body)| *body)
        }
        Reason::NotSigned => Some("the same by Amazon SNS itself, without raw delivery."),
        Reason::UnknownKey => Some("a key of a configured integration: `surgegate keys generate` makes one."),
        Reason::NoRoute => Some("to a path that the README's table names."),
        Reason::BodyTooLarge => Some("less: cut long texts, or raise `integrations[].body_bytes`."),
        Reason::ContentType => Some("`Content-Type: application/json`."),
        Reason::ContentEncoding | Reason::InvalidGzip => Some("the body without `Content-Encoding`."),
        Reason::RequestLimit | Reason::EventLimit => {
            Some("the same again after `Retry-After`, or raise the integration's `rate_limit`.")
        }
        Reason::IntegrationDisabled | Reason::DialectNotAllowed | Reason::SourceNotAllowed => {
            Some("the same, once the integration allows it: `enabled`, `dialects`, `source_networks`.")
        }
        reason if matches!(reason.class(), Class::Overload | Class::Unavailable) => {
            Some("the same again after `Retry-After`.")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::DIALECTS;

    #[test]
    fn every_dialect_has_something_to_send_instead() {
        for dialect in DIALECTS {
            assert!(instead(Reason::InvalidEvent, Some(dialect.name())).is_some(), "{}", dialect.name());
        }
        assert_eq!(instead(Reason::Internal, None), None);
    }
}
