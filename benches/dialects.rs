//! A usual body of every dialect, made as long as is asked for by the text that people write, and its way from bytes to what
//! deciding needs: for the benches that set them beside Squadcast's. `tests/tidy.rs` holds the list to the dialects.

// Each bench takes what it needs of it.
#![allow(dead_code)]
// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use hyper::HeaderMap;
use surgegate::dialect::{self, Asked, Matched, Most, Rules, Takes, json};
use surgegate::gate::{AlertSource, Settings};

/// Of every body: the smallest of them all does not fit into less than a kibibyte.
pub(crate) const BYTES: usize = 2048;

/// Dialect, path, and its body with `TEXT` where the text stands.
pub(crate) static BODIES: [(&str, &str, &str); 19] = [
    (
        "squadcast",
        "/v2/incidents/api/k",
        r##"{"message":"disk full on db-7","event_id":"lt-00000000-000000000001","status":"trigger","tags":{"severity":"high","team":{"value":"storage","color":"#ff0000"},"region":"eu-central-1"},"description":"TEXT"}"##,
    ),
    (
        "incidentio_v1",
        "/v1/incidents",
        r#"{"idempotency_key":"lt-00000000-000000000001","visibility":"public","status":"investigating","severity_id":"01FCNDV6P870EA6S7TK1DSYDG0","name":"disk full on db-7","mode":"real","summary":"TEXT"}"#,
    ),
    (
        "incidentio_v2",
        "/v2/incidents",
        r#"{"idempotency_key":"lt-00000000-000000000001","visibility":"public","severity_id":"01FCNDV6P870EA6S7TK1DSYDG0","name":"disk full on db-7","mode":"standard","summary":"TEXT"}"#,
    ),
    (
        "incidentio_alert",
        "/v2/alert_events/http/one",
        r#"{"title":"disk full on db-7","status":"firing","deduplication_key":"lt-00000000-000000000001","source_url":"https://prom.example.com/graph","metadata":{"severity":"high","team":"storage","region":"eu-central-1"},"description":"TEXT"}"#,
    ),
    (
        "taskcall",
        "/create",
        r#"{"title":"disk full on db-7","service_ref_id":"SRV0123456789","urgency_level":4,"dedup_key":"lt-00000000-000000000001","tags":["storage","eu-central-1"],"description":"TEXT"}"#,
    ),
    (
        "alertmanager",
        "/hooks/alertmanager/k",
        r#"{"receiver":"edge","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"DiskFull","severity":"high","team":"storage","region":"eu-central-1"},"annotations":{"summary":"disk full on db-7","description":"TEXT"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"https://prom.example.com/graph","fingerprint":"5ef6a0b1c2d3e4f5"}],"groupLabels":{"alertname":"DiskFull"},"commonLabels":{},"commonAnnotations":{},"externalURL":"https://am.example.com","version":"4","groupKey":"{}:{alertname=\"DiskFull\"}","truncatedAlerts":0}"#,
    ),
    (
        "grafana",
        "/hooks/grafana/k",
        r#"{"receiver":"edge","status":"firing","orgId":1,"alerts":[{"status":"firing","labels":{"alertname":"DiskFull","severity":"high","team":"storage","region":"eu-central-1"},"annotations":{"summary":"disk full on db-7","description":"TEXT"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"https://grafana.example.com/alerting","fingerprint":"5ef6a0b1c2d3e4f5","dashboardURL":"https://grafana.example.com/d/1"}],"groupLabels":{"alertname":"DiskFull"},"commonLabels":{},"commonAnnotations":{},"externalURL":"https://grafana.example.com","version":"1","groupKey":"{}:{alertname=\"DiskFull\"}","truncatedAlerts":0}"#,
    ),
    (
        "opsgenie",
        "/v2/alerts",
        r#"{"message":"disk full on db-7","alias":"lt-00000000-000000000001","priority":"P2","tags":["storage"],"details":{"region":"eu-central-1"},"entity":"db-7","description":"TEXT"}"#,
    ),
    (
        "pagerduty_v2",
        "/v2/enqueue",
        r#"{"routing_key":"5ca1ab1e0123456789abcdef01234567","event_action":"trigger","dedup_key":"lt-00000000-000000000001","payload":{"summary":"disk full on db-7","source":"db-7","severity":"error","component":"storage","group":"eu-central-1","custom_details":{"description":"TEXT"}}}"#,
    ),
    (
        "pagerduty_v1",
        "/generic/2010-04-15/create_event.json",
        r#"{"service_key":"5ca1ab1e0123456789abcdef01234567","event_type":"trigger","incident_key":"lt-00000000-000000000001","description":"disk full on db-7","client":"monitor","details":{"region":"eu-central-1","text":"TEXT"}}"#,
    ),
    (
        "pagerduty_change",
        "/v2/change/enqueue",
        r#"{"routing_key":"5ca1ab1e0123456789abcdef01234567","payload":{"summary":"deployed 1.4.2","source":"ci","timestamp":"2026-03-01T10:00:00Z","custom_details":{"region":"eu-central-1","text":"TEXT"}}}"#,
    ),
    (
        "datadog",
        "/hooks/datadog/k",
        r#"{"alert_id":"4711","alert_cycle_key":"lt-00000000-000000000001","aggreg_key":"a1","alert_transition":"Triggered","alert_type":"error","alert_priority":"P2","title":"[Triggered] disk full on db-7","alert_scope":"host:db-7","alert_metric":"system.disk.in_use","hostname":"db-7","tags":"team:storage,region:eu-central-1","link":"https://app.datadoghq.com/event","date":"1772359331000","id":"1","org_id":"2","body":"TEXT"}"#,
    ),
    (
        "sns",
        "/hooks/sns/k",
        r#"{"Type":"Notification","MessageId":"5ca1ab1e-0000-0000-0000-000000000001","TopicArn":"arn:aws:sns:eu-west-1:123456789012:alarms","Subject":"ALARM: disk full on db-7","Message":"{\"AlarmName\":\"disk full on db-7\",\"AlarmArn\":\"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:disk\",\"NewStateValue\":\"ALARM\",\"OldStateValue\":\"OK\",\"StateChangeTime\":\"2026-03-01T10:02:11.123+0000\",\"Region\":\"EU\",\"Trigger\":{\"Namespace\":\"CWAgent\",\"MetricName\":\"disk\",\"Dimensions\":[{\"name\":\"host\",\"value\":\"db-7\"}]},\"NewStateReason\":\"TEXT\"}","Timestamp":"2026-03-01T10:02:12.000Z","SignatureVersion":"1","Signature":"RVhBTVBMRQ=="}"#,
    ),
    (
        "cloudevents",
        "/hooks/cloudevents/k",
        r#"{"specversion":"1.0","id":"lt-00000000-000000000001","source":"/monitor/disk","type":"com.example.disk.full","subject":"db-7","time":"2026-03-01T10:02:11Z","severity":"high","data":{"title":"disk full on db-7","status":"firing","team":"storage","region":"eu-central-1","description":"TEXT"}}"#,
    ),
    (
        "zabbix",
        "/hooks/zabbix/k",
        r#"{"subject":"Problem: disk full","name":"disk full on db-7","id":"16021","status":"PROBLEM","hostname":"db-7","ip":"192.0.2.7","value":"1","event_id":"000000000001","severity":"High","url":"","message":"TEXT"}"#,
    ),
    (
        "nagios",
        "/hooks/nagios/k",
        r#"{"alert_source":"SERVICE","notification_type":"PROBLEM","hostname":"db-7","hostaddress":"192.0.2.7","servicedesc":"disk /data","service_state":"CRITICAL","service_output":"TEXT"}"#,
    ),
    (
        "icinga",
        "/hooks/icinga/k",
        r#"{"alert_source":"SERVICE","notification_type":"PROBLEM","hostname":"db-7","host_alias":"db-7.eu-central-1","data":{"service_description":"disk /data","service_state":"CRITICAL","hostaddress":"192.0.2.7","service_output":"TEXT"}}"#,
    ),
    (
        "checkmk",
        "/hooks/checkmk/k",
        r#"{"source":"SERVICE","hostname":"db-7","hostState":"UP","hostOutput":"","notifyDateTime":"2026-03-01 10:02:11","notificationType":"PROBLEM","serviceDesc":"disk /data","serviceState":"CRIT","hostNotifNumber":"0","serviceNotifNumber":"1","serviceOutput":"TEXT"}"#,
    ),
    (
        "generic",
        "/hooks/generic/k",
        r#"{"title":"disk full on db-7","status":"firing","id":"lt-00000000-000000000001","severity":"high","host":"db-7","url":"https://prom.example.com/graph","tags":{"team":"storage","region":"eu-central-1"},"description":"TEXT"}"#,
    ),
];

/// A body with all that decoding it takes.
pub(crate) struct Case {
    matched: Matched<'static>,
    args: Vec<Box<str>>,
    headers: HeaderMap,
    settings: Settings,
    body: Bytes,
}

impl Case {
    /// Of that dialect; of exactly [`BYTES`].
    pub(crate) fn of(name: &str) -> Self {
        const FILLER: &str = "volume /data at 99 % on host db-7.eu-central-1, read latency above 250 ms; ";
        let (_, path, body) = BODIES.iter().find(|(known, ..)| *known == name).unwrap();
        let text: String = FILLER.chars().cycle().take(BYTES + "TEXT".len() - body.len()).collect();
        let body = Bytes::from(body.replace("TEXT", &text));
        assert_eq!(body.len(), BYTES, "{name}");
        let matched = dialect::route("POST", path).unwrap_or_else(|_| panic!("{path} is not served"));
        assert_eq!(matched.dialect.name(), name);
        let source =
            AlertSource { id: "one".into(), kind: "http".into(), secret_hash: [0; 32], require_dedup_key: false };
        let settings = Settings { alert_sources: vec![source], ..Settings::default() };
        let args = matched.args.iter().map(|text| Box::from(*text)).collect();
        Self { matched, args, headers: HeaderMap::new(), settings, body }
    }

    /// From bytes to statements, as far as deciding needs them; how many there are.
    pub(crate) fn decode(&self) -> usize {
        let rules = Rules { require_description: true, judge_only: true, settings: Some(&self.settings) };
        let asked =
            Asked { args: &self.args, headers: Some(&self.headers), ..Asked::at(self.matched.route.endpoint, rules) };
        let (dialect, mut said) = (self.matched.dialect, 0);
        let mut element = |asked: &Asked<'_>, bytes: &[u8]| {
            let made = dialect.as_json(asked, bytes).unwrap();
            let decoded = json::with_document(made.as_deref().unwrap_or(bytes), |document| {
                dialect.decode(asked, document, &mut |one| {
                    black_box(one);
                    said += 1;
                })
            });
            decoded.unwrap().unwrap();
        };
        if self.matched.route.takes != Takes::Batch || !dialect.holds_many(&self.headers) {
            element(&asked, &self.body);
            return said;
        }
        let split = dialect.split(&asked, &self.body, Most { elements: 100, event_bytes: 30_720 }).unwrap();
        for bytes in &split.elements {
            match &split.envelope {
                None => element(&asked, bytes),
                Some(envelope) => json::with_document(envelope, |envelope| {
                    element(&Asked { envelope: Some(envelope), ..asked }, bytes);
                })
                .unwrap(),
            }
        }
        said
    }
}
