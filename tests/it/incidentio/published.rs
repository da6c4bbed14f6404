//! A published client of incident.io, installed by `scripts/install-tools.sh`.

use super::{A, ACCOUNT, CLOSED, MINOR, integration};
use crate::harness::{Recorder, Surgegate, run_client};

#[test]
fn a_published_client_creates_repeats_reads_edits_and_fires() {
    let recorder = Recorder::start();
    let lines = format!("{ACCOUNT}    alert_sources: [{{ id: one, secret: secret-one }}]\n");
    let integrations = integration("a", A, &lines);
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    let surgegate = Surgegate::start(&[&format!("integrations:\n{integrations}{upstreams}")]);
    let address = format!("http://{}", surgegate.ingest());
    let said = run_client("incidentio", &[&address, A, MINOR, CLOSED, "one", "secret-one"]);
    assert!(said.ends_with("fine\n"), "{said}");
    surgegate.wait_until_delivered();
    assert_eq!(recorder.told_by_incident(), [&["trigger", "resolve"][..], &["trigger", "resolve"], &["trigger"]]);
}
