//! One body of each dialect that its first route takes, for the document of the ingest routes.

use serde_json::{Value, json};

/// What a sender of this dialect would post to this path; `None`: the path wants another.
pub(super) fn of(dialect: &str, path: &str) -> Option<Value> {
    Some(match dialect {
        "squadcast" => json!({ "message": "disk full", "description": "volume /data at 99 %", "event_id": "disk-db-7",
            "status": "trigger", "priority": "P2" }),
        "pagerduty_v2" => json!({ "routing_key": "KEY", "event_action": "trigger", "dedup_key": "disk-db-7",
            "payload": { "summary": "disk full", "source": "db-7", "severity": "critical" } }),
        "pagerduty_v1" => json!({ "service_key": "KEY", "event_type": "trigger", "incident_key": "disk-db-7",
            "description": "disk full" }),
        "pagerduty_change" => json!({ "routing_key": "KEY", "payload": { "summary": "deployed 1.2.3" } }),
        "opsgenie" if path == "/v2/alerts" => json!({ "message": "disk full", "alias": "disk-db-7", "priority": "P2" }),
        "alertmanager" => json!({ "version": "4", "status": "firing", "alerts": [{ "status": "firing",
            "labels": { "alertname": "DiskFull", "severity": "critical" }, "annotations": { "summary": "disk full" },
            "fingerprint": "8f3a1c2d4e5b6a70" }] }),
        "grafana" => json!({ "version": "1", "orgId": 1, "status": "firing", "alerts": [{ "status": "firing",
            "labels": { "alertname": "DiskFull" }, "fingerprint": "8f3a1c2d4e5b6a70" }] }),
        "datadog" => json!({ "alert_cycle_key": "8923470002", "alert_transition": "Triggered", "alert_priority": "P2",
            "title": "CPU high on web-3", "body": "cpu over 95 %" }),
        "cloudevents" => {
            json!({ "specversion": "1.0", "id": "7", "source": "/fleet", "type": "com.example.alert.firing",
            "data": { "title": "disk full" } })
        }
        "zabbix" => json!({ "name": "disk full on db-7", "event_id": "991204", "hostname": "db-7", "value": "1",
            "status": "PROBLEM", "severity": "High" }),
        "nagios" => json!({ "alert_source": "HOST", "notification_type": "PROBLEM", "hostname": "db-7",
            "host_state": "DOWN", "host_output": "no route" }),
        "icinga" => json!({ "alert_source": "HOST", "notification_type": "PROBLEM", "hostname": "db-7",
            "data": { "host_state": "DOWN", "host_output": "no route" } }),
        "checkmk" => json!({ "source": "HOST", "notificationType": "PROBLEM", "hostname": "db-7", "hostState": "DOWN",
            "hostOutput": "no route" }),
        "generic" => json!({ "title": "disk full", "status": "firing", "dedup_key": "disk-db-7", "severity": "high" }),
        _ => return None,
    })
}
