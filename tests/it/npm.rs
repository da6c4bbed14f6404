//! The vendors' clients that npm has, against the real binary: create, repeat, acknowledge, resolve. (PyPI's stand beside
//! their dialects' tests; npm has none of incident.io.)

use serde_json::Value;

use crate::harness::tls::Authority;
use crate::harness::{Recorder, Surgegate, run_node_client};

/// 32 hexadecimal digits, as PagerDuty's keys are.
const KEY: &str = "5ca1ab1e0123456789abcdef01234567";

fn configuration(recorder: &Recorder) -> String {
    format!(
        "integrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )
}

fn actions(surgegate: &Surgegate, recorder: &Recorder) -> Vec<Value> {
    surgegate.wait_until_delivered();
    let mut events = recorder.events();
    // Lanes of different keys go as they like.
    events.sort_by_key(|event| event["event_uid"].to_string());
    events.iter().map(|event| event["action"].clone()).collect()
}

#[test]
fn pagerdutys_client_creates_repeats_acknowledges_resolves_and_tells_of_a_change() {
    let (recorder, authority) = (Recorder::start(), Authority::new());
    let surgegate = Surgegate::start(&[&configuration(&recorder), &authority.listen("")]);
    let server = format!("localhost:{}", surgegate.ingest().port());
    let trust = [
        ("NODE_EXTRA_CA_CERTS", authority.path("ca.crt").display().to_string()),
        ("NODE_OPTIONS", "--dns-result-order=ipv4first".to_owned()),
    ];
    assert_eq!(run_node_client("pagerduty", &[&server, KEY], &trust).trim(), "ok");
    assert_eq!(actions(&surgegate, &recorder), ["trigger", "acknowledge", "resolve", "trigger", "resolve", "change"]);
}

#[test]
fn opsgenies_client_creates_repeats_acknowledges_closes_and_asks_what_came_of_it() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration(&recorder)]);
    let address = format!("http://{}", surgegate.ingest());
    assert_eq!(run_node_client("opsgenie", &[&address, KEY], &[]).trim(), "ok");
    let said = actions(&surgegate, &recorder);
    assert_eq!(&said[..2], ["trigger", "acknowledge"], "{said:?}");
    assert!(said.contains(&"resolve".into()), "{said:?}");
}
