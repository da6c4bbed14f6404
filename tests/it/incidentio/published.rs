//! A published client of incident.io, installed by `scripts/install-tools.sh`.

use std::path::Path;
use std::process::Command;

use super::{A, ACCOUNT, CLOSED, MINOR, integration};
use crate::harness::{Recorder, Surgegate};

#[test]
fn a_published_client_creates_repeats_reads_edits_and_fires() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/clients/bin/python");
    assert!(python.exists(), "no {}: scripts/install-tools.sh puts it there", python.display());
    let recorder = Recorder::start();
    let lines = format!("{ACCOUNT}    alert_sources: [{{ id: one, secret: secret-one }}]\n");
    let integrations = integration("a", A, &lines);
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    let surgegate = Surgegate::start(&[&format!("integrations:\n{integrations}{upstreams}")]);
    let address = format!("http://{}", surgegate.ingest());
    let ended = Command::new(python)
        .arg(root.join("tests/it/incidentio/published.py"))
        .args([&address, A, MINOR, CLOSED, "one", "secret-one"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.ends_with("fine\n"), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    surgegate.wait_until_delivered();
    let actions: Vec<_> = recorder.events().iter().map(|event| event["action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve", "trigger", "trigger", "resolve"]);
}
