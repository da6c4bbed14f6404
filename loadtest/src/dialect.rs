//! Every dialect that the load tester speaks, one row each: where its events go, what they look like, what it can say.
//! A dialect more is one row more in [`ALL`]; tests walk the list. Called by the scenario's checks, by the senders
//! and, to know what must arrive, by the ledger's witness.

mod template;

pub use template::{Context, EVENT_ID_BYTES, MARK_BYTES, Piece, Template, event_id, mark_of};

/// One dialect. Texts in braces are filled in: `{key}` the integration's key, `{event}` what the dialect deduplicates
/// by, `{mark}` the statement's mark (by it the ledger knows what arrives), `{text}` a filler, `{remote}` the id that
/// the answer to the trigger gave, `{source}` the id of an alert source, `{alerts}` the elements of a batch.
#[derive(Debug)]
pub struct Dialect {
    /// As in the normalized event and in scenarios.
    pub id: &'static str,
    pub path: &'static str,
    /// The header `Authorization`.
    pub authorization: Option<&'static str>,
    pub trigger: &'static str,
    pub resolve: Option<Resolve>,
    /// What is around the elements of a dialect that sends many at once; `trigger` is then an element.
    pub envelope: Option<Envelope>,
    /// What a trigger is called in the normalized event.
    pub action: &'static str,
    /// Where the answer to a trigger holds the id that a resolve needs, as a JSON pointer.
    pub remote: Option<&'static str>,
    /// A repeat is absorbed while the incident is open.
    pub deduplicates: bool,
    /// A trigger after the resolve opens the key anew.
    pub reopens: bool,
    /// What stands before `{event}` in the normalized `key`; `None` where that is something else.
    pub key_prefix: Option<&'static str>,
    /// The body's key is overwritten before the body is stored.
    pub masks_key: bool,
    /// Hex digits of a key.
    pub key_digits: usize,
    /// JSON that each of its integrations needs beside name, keys and upstreams.
    pub integration: &'static str,
}

/// How an incident is resolved.
#[derive(Debug)]
pub struct Resolve {
    /// `None`: as the trigger's.
    pub path: Option<&'static str>,
    pub body: &'static str,
}

/// Around a batch.
#[derive(Debug)]
pub struct Envelope {
    pub firing: &'static str,
    pub resolved: &'static str,
}

const PLAIN: Dialect = Dialect {
    id: "",
    path: "",
    authorization: None,
    trigger: "",
    resolve: None,
    envelope: None,
    action: "trigger",
    remote: None,
    deduplicates: true,
    reopens: true,
    key_prefix: Some(""),
    masks_key: false,
    key_digits: 40,
    integration: "{}",
};

const fn body(body: &'static str) -> Option<Resolve> {
    Some(Resolve { path: None, body })
}

/// All of them, in the order of the contracts' table.
pub const ALL: &[Dialect] = &[
    Dialect {
        id: "squadcast",
        path: "/v2/incidents/api/{key}",
        trigger: r##"{"message":"disk full on db-7 {mark}","event_id":"{event}","status":"trigger","tags":{"severity":"high","team":{"value":"storage","color":"#ff0000"},"region":"eu-central-1"},"description":"{text}"}"##,
        resolve: body(r#"{"status":"resolve","event_id":"{event}","mark":"{mark}"}"#),
        ..PLAIN
    },
    Dialect {
        id: "incidentio_v1",
        path: "/v1/incidents",
        authorization: Some("Bearer {key}"),
        trigger: r#"{"idempotency_key":"{event}","visibility":"public","status":"triage","name":"checkout is slow {mark}","summary":"{text}"}"#,
        reopens: false,
        key_prefix: None,
        ..PLAIN
    },
    Dialect {
        id: "incidentio_v2",
        path: "/v2/incidents",
        authorization: Some("Bearer {key}"),
        trigger: r#"{"idempotency_key":"{event}","visibility":"public","severity_id":"01LOADTESTSEVERITY000000000","name":"checkout is slow {mark}","summary":"{text}"}"#,
        resolve: Some(Resolve {
            path: Some("/v2/incidents/{remote}/actions/edit"),
            body: r#"{"notify_incident_channel":false,"incident":{"incident_status_id":"01LOADTESTCLOSED00000000000"},"mark":"{mark}"}"#,
        }),
        remote: Some("/incident/id"),
        reopens: false,
        key_prefix: None,
        integration: r#"{"incident_statuses":[{"id":"01LOADTESTCLOSED00000000000","name":"Closed","category":"closed"}]}"#,
        ..PLAIN
    },
    Dialect {
        id: "incidentio_alert",
        path: "/v2/alert_events/http/{source}",
        authorization: Some("Bearer {key}"),
        trigger: r#"{"title":"checkout latency {mark}","status":"firing","deduplication_key":"{event}","description":"{text}","metadata":{"severity":"critical","service":"checkout"}}"#,
        resolve: body(r#"{"title":"checkout latency {mark}","status":"resolved","deduplication_key":"{event}"}"#),
        ..PLAIN
    },
    Dialect {
        id: "taskcall",
        path: "/create",
        authorization: Some("token {key}"),
        trigger: r#"{"title":"reconciliation failed {mark}","service_ref_id":"SRLOADTEST","dedup_key":"{event}","urgency_level":4,"description":"{text}"}"#,
        resolve: Some(Resolve { path: Some("/resolve"), body: r#"{"instance_id":{remote},"mark":"{mark}"}"# }),
        remote: Some("/instance_id"),
        ..PLAIN
    },
    Dialect {
        id: "pagerduty_v2",
        path: "/v2/enqueue",
        trigger: r#"{"routing_key":"{key}","event_action":"trigger","dedup_key":"{event}","payload":{"summary":"disk at 99 % on db-7 {mark}","source":"db-7.example.com","severity":"critical","component":"mysql","custom_details":{"text":"{text}"}}}"#,
        resolve: body(r#"{"routing_key":"{key}","event_action":"resolve","dedup_key":"{event}","mark":"{mark}"}"#),
        masks_key: true,
        key_digits: 32,
        ..PLAIN
    },
    Dialect {
        id: "pagerduty_v1",
        path: "/generic/2010-04-15/create_event.json",
        trigger: r#"{"service_key":"{key}","event_type":"trigger","incident_key":"{event}","description":"FAILURE for production/HTTP {mark}","details":{"text":"{text}"}}"#,
        resolve: body(r#"{"service_key":"{key}","event_type":"resolve","incident_key":"{event}","mark":"{mark}"}"#),
        masks_key: true,
        key_digits: 32,
        ..PLAIN
    },
    Dialect {
        id: "pagerduty_change",
        path: "/v2/change/enqueue",
        trigger: r#"{"routing_key":"{key}","payload":{"summary":"deployed 1.4.2 {mark}","source":"ci","custom_details":{"text":"{text}"}}}"#,
        action: "change",
        deduplicates: false,
        reopens: false,
        key_prefix: None,
        masks_key: true,
        key_digits: 32,
        ..PLAIN
    },
    Dialect {
        id: "opsgenie",
        path: "/v2/alerts",
        authorization: Some("GenieKey {key}"),
        trigger: r#"{"message":"disk full on db-7 {mark}","alias":"{event}","description":"{text}","priority":"P2","tags":["prod","db"],"details":{"free":"1%"},"entity":"mysql","source":"fleet-monitor"}"#,
        resolve: Some(Resolve {
            path: Some("/v2/alerts/{event}/close?identifierType=alias"),
            body: r#"{"note":"cleaned {mark}","source":"job"}"#,
        }),
        ..PLAIN
    },
    Dialect {
        id: "alertmanager",
        path: "/hooks/alertmanager/{key}",
        trigger: r#"{"status":"firing","labels":{"alertname":"DiskFull","severity":"critical","instance":"db-7:9100","job":"node"},"annotations":{"summary":"disk full {mark}","description":"{text}"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prom.example.com/graph","fingerprint":"{event}"}"#,
        resolve: body(
            r#"{"status":"resolved","labels":{"alertname":"DiskFull","severity":"critical","instance":"db-7:9100","job":"node"},"annotations":{"summary":"disk full {mark}"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"2026-03-01T10:20:00Z","generatorURL":"http://prom.example.com/graph","fingerprint":"{event}"}"#,
        ),
        envelope: Some(Envelope {
            firing: r#"{"receiver":"edge","status":"firing","alerts":[{alerts}],"groupLabels":{"alertname":"DiskFull"},"commonLabels":{"alertname":"DiskFull"},"commonAnnotations":{},"externalURL":"http://am.example.com","version":"4","groupKey":"{}:{alertname=\"DiskFull\"}","truncatedAlerts":0}"#,
            resolved: r#"{"receiver":"edge","status":"resolved","alerts":[{alerts}],"groupLabels":{"alertname":"DiskFull"},"commonLabels":{"alertname":"DiskFull"},"commonAnnotations":{},"externalURL":"http://am.example.com","version":"4","groupKey":"{}:{alertname=\"DiskFull\"}","truncatedAlerts":0}"#,
        }),
        ..PLAIN
    },
    Dialect {
        id: "grafana",
        path: "/hooks/grafana/{key}",
        trigger: r#"{"status":"firing","labels":{"alertname":"DiskFull","severity":"critical","instance":"db-7:9100"},"annotations":{"summary":"disk full {mark}","description":"{text}"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://grafana.example.com/a","fingerprint":"{event}","values":{"B":99.1},"valueString":"[ value=99.1 ]","silenceURL":"","dashboardURL":"","panelURL":"","imageURL":""}"#,
        resolve: body(
            r#"{"status":"resolved","labels":{"alertname":"DiskFull","severity":"critical","instance":"db-7:9100"},"annotations":{"summary":"disk full {mark}"},"startsAt":"2026-03-01T10:02:11.315Z","endsAt":"2026-03-01T10:20:00Z","generatorURL":"http://grafana.example.com/a","fingerprint":"{event}","values":null,"valueString":"","silenceURL":"","dashboardURL":"","panelURL":"","imageURL":""}"#,
        ),
        envelope: Some(Envelope {
            firing: r#"{"receiver":"edge","status":"firing","alerts":[{alerts}],"groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://grafana.example.com","version":"1","groupKey":"{}:{}","truncatedAlerts":0,"orgId":1,"title":"[FIRING] DiskFull","state":"alerting","message":"**Firing**"}"#,
            resolved: r#"{"receiver":"edge","status":"resolved","alerts":[{alerts}],"groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://grafana.example.com","version":"1","groupKey":"{}:{}","truncatedAlerts":0,"orgId":1,"title":"[RESOLVED] DiskFull","state":"ok","message":"**Resolved**"}"#,
        }),
        // The organization of the envelope.
        key_prefix: Some("1:"),
        ..PLAIN
    },
];

/// The dialect of this name.
#[must_use]
pub fn named(id: &str) -> Option<&'static Dialect> {
    ALL.iter().find(|dialect| dialect.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_makes_json_that_carries_its_mark_and_its_key() {
        for dialect in ALL {
            let context = Context {
                run: 0xABCD,
                statement: 7,
                event: 9,
                key: "0123456789abcdef",
                source: "SRC",
                remote: Some("42"),
                text_bytes: 20,
            };
            for (body, wanted) in [(Some(dialect.trigger), true), (dialect.resolve.as_ref().map(|own| own.body), false)]
            {
                let Some(body) = body else { continue };
                let mut out = Vec::new();
                Template::parse(body).fill(&context, &mut out);
                let text = String::from_utf8(out).expect("UTF-8");
                let json: serde_json::Value =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", dialect.id));
                assert!(json.is_object());
                assert_eq!(mark_of(text.as_bytes(), 0xABCD), Some(7), "{}: {text}", dialect.id);
                let names_event = text.contains("lt-0000abcd-00000009");
                assert!(names_event || !wanted || !dialect.deduplicates, "{}: {text}", dialect.id);
            }
        }
    }

    #[test]
    fn envelopes_are_json_around_their_elements() {
        for envelope in ALL.iter().filter_map(|dialect| dialect.envelope.as_ref()) {
            for text in [envelope.firing, envelope.resolved] {
                let filled = text.replace("{alerts}", "{},{}");
                let json: serde_json::Value = serde_json::from_str(&filled).expect("JSON");
                assert_eq!(json["alerts"].as_array().map(Vec::len), Some(2));
            }
        }
    }

    #[test]
    fn what_a_resolve_needs_from_the_answer_is_known() {
        for dialect in ALL {
            let needs = dialect.resolve.as_ref().is_some_and(|own| {
                own.body.contains("{remote}") || own.path.is_some_and(|path| path.contains("{remote}"))
            });
            assert_eq!(needs, dialect.remote.is_some(), "{}", dialect.id);
        }
    }
}
