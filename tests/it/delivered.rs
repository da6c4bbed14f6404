//! `ack: delivered`: answers that wait for the upstream, and what becomes of an event that it refuses (DESIGN 5.7). The
//! upstreams are stand-ins that keep a vendor's state, and fail on demand.

mod relayed;
mod waiting;

use serde_json::Value;

use crate::harness::{Answer, Raw, Stand, Surgegate, request};

/// The key of every integration here, and the secret of its alert source.
const KEY: &str = "5ca1ab1e0123456789abcdef01234567";

/// A vendor whose senders speak to a stand-in of the same vendor.
struct Pair {
    dialect: &'static str,
    vendor: &'static str,
    kind: &'static str,
    /// What its upstream needs beside a credential.
    needs: &'static str,
    path: &'static str,
    header: &'static str,
    /// A create of the key `disk`.
    create: &'static str,
    /// The status that its stand-in refuses a body with, and the one that its senders then read.
    refusal: (u16, u16),
}

const PAIRS: &[Pair] = &[
    Pair {
        dialect: "squadcast",
        vendor: "squadcast",
        kind: "squadcast",
        needs: "",
        path: "/v2/incidents/api/5ca1ab1e0123456789abcdef01234567",
        header: "Accept: */*",
        create: r#"{"message":"disk full","description":"d","event_id":"disk"}"#,
        refusal: (400, 400),
    },
    Pair {
        dialect: "incidentio_v2",
        vendor: "incidentio",
        kind: "incidentio",
        needs: "visibility: private, default_severity_id: 01STANDSEV0000000000000001, closed_status_id: 01STANDSTS0000000000000006",
        path: "/v2/incidents",
        header: "Authorization: Bearer 5ca1ab1e0123456789abcdef01234567",
        create: r#"{"idempotency_key":"disk","visibility":"private","severity_id":"01STANDSEV0000000000000001","name":"disk full"}"#,
        refusal: (422, 422),
    },
    Pair {
        dialect: "incidentio_alert",
        vendor: "incidentio",
        kind: "incidentio_alert",
        needs: "source_config_id: SRC1",
        path: "/v2/alert_events/http/SRC1",
        header: "Authorization: Bearer 5ca1ab1e0123456789abcdef01234567",
        create: r#"{"title":"disk full","status":"firing","deduplication_key":"disk"}"#,
        refusal: (422, 422),
    },
    Pair {
        dialect: "taskcall",
        vendor: "taskcall",
        kind: "taskcall",
        needs: "service_ref_id: SRV",
        path: "/create",
        header: "Authorization: token 5ca1ab1e0123456789abcdef01234567",
        create: r#"{"title":"disk full","service_ref_id":"SRV","dedup_key":"disk"}"#,
        refusal: (400, 400),
    },
    Pair {
        dialect: "pagerduty_v2",
        vendor: "pagerduty",
        kind: "pagerduty",
        needs: "",
        path: "/v2/enqueue",
        header: "Accept: */*",
        create: r#"{"routing_key":"5ca1ab1e0123456789abcdef01234567","event_action":"trigger","dedup_key":"disk","payload":{"summary":"disk full","source":"db","severity":"error"}}"#,
        refusal: (400, 400),
    },
    Pair {
        dialect: "opsgenie",
        vendor: "opsgenie",
        kind: "opsgenie",
        needs: "",
        path: "/v2/alerts",
        header: "Authorization: GenieKey 5ca1ab1e0123456789abcdef01234567",
        create: r#"{"message":"disk full","alias":"disk"}"#,
        refusal: (422, 422),
    },
];

fn pair(dialect: &str) -> &'static Pair {
    PAIRS.iter().find(|pair| pair.dialect == dialect).unwrap()
}

impl Pair {
    fn stand(&self) -> Stand {
        Stand::start(self.vendor, &[])
    }

    /// `integration`: more of its keys; `upstream`: more of the upstream's.
    fn configuration(&self, stand: &Stand, integration: &str, upstream: &str) -> String {
        let Self { kind, needs, .. } = self;
        let sources = if self.dialect == "incidentio_alert" {
            format!("\n    alert_sources: [{{ id: SRC1, kind: http, secret: {KEY} }}]")
        } else {
            String::new()
        };
        let url = if *kind == "squadcast" { format!("{}/v2/incidents/api/up", stand.base()) } else { stand.base() };
        let credential = if *kind == "squadcast" { "" } else { "credential: up-secret, " };
        let comma = if needs.is_empty() { "" } else { ", " };
        format!(
            "integrations:\n  - name: payments\n    keys: [{{ key: {KEY} }}]{sources}\n    upstreams: [pager]\n    {integration}\n\
             upstreams:\n  - {{ name: pager, kind: {kind}, url: '{url}', {credential}{needs}{comma}\
             rate_limit: {{ requests_per_second: 1000 }}{upstream} }}\n",
        )
    }

    fn start(&self, stand: &Stand, integration: &str, upstream: &str) -> Surgegate {
        Surgegate::start(&[&self.configuration(stand, integration, upstream)])
    }

    fn bytes(&self, body: &str) -> Vec<u8> {
        request("POST", self.path, &["Content-Type: application/json", self.header], body)
    }

    fn send(&self, surgegate: &Surgegate, body: &str) -> Answer {
        let mut connection = surgegate.connect();
        connection.send(self.bytes(body)).unwrap();
        connection.answer().unwrap()
    }

    fn create(&self, surgegate: &Surgegate) -> Answer {
        self.send(surgegate, self.create)
    }

    /// Sent, and not waited for.
    fn begin(&self, surgegate: &Surgegate) -> Raw {
        let mut connection = surgegate.connect();
        connection.send(self.bytes(self.create)).unwrap();
        connection
    }
}

fn ack(answer: &Answer) -> Option<&str> {
    answer.header("x-surgegate-ack")
}

fn dropped(surgegate: &Surgegate) -> u64 {
    let scrape = surgegate.scrape();
    scrape.assert_books_balance();
    scrape.count("events_dropped_total", &[("upstream", "pager"), ("reason", "refused")])
}

fn dead_letters(surgegate: &Surgegate) -> u64 {
    let scrape = surgegate.scrape();
    scrape.assert_books_balance();
    scrape.count("dead_letters", &[("upstream", "pager")])
}

fn created(stand: &Stand) -> Value {
    stand.state()["created"].clone()
}
