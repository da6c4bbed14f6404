//! The scenarios of contracts that need incident.io: its clients' headers, ids and statuses.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::{A, ACCOUNT, B, CLOSED, integration};
use crate::harness::{Recorder, Surgegate, request};

pub fn lines(name: &str) -> Vec<Map<String, Value>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts/scenarios").join(format!("{name}.jsonl"));
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a scenario calls incidents, and what answers call them.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn filled(&self, text: &str, key: &str) -> String {
        let text = text.replace("{key}", key).replace("{closed_status_id}", CLOSED);
        self.0.iter().fold(text, |text, (name, id)| text.replace(&format!("{{{name}}}"), id))
    }
}

#[test]
fn the_same_key_is_the_same_incident_for_ever() {
    let recorder = Recorder::start();
    let integrations = integration("a", A, ACCOUNT) + &integration("b", B, ACCOUNT);
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    let surgegate = Surgegate::start(&[&format!("integrations:\n{integrations}{upstreams}")]);
    let (mut names, mut forwards) = (Names::default(), 0);
    for step in &lines("incidentio-idempotency")[1..] {
        let (asked, expect) = (&step["request"], step["expect"].as_object().unwrap());
        let key = if asked["integration"] == "A" { A } else { B };
        let path = names.filled(asked["path"].as_str().unwrap(), key);
        let body = names.filled(&asked["body"].to_string(), key);
        let fields = [&*format!("Authorization: Bearer {key}"), "Content-Type: application/json"];
        let mut connection = surgegate.connect();
        connection.send(request(asked["method"].as_str().unwrap(), &path, &fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        surgegate.wait_until_delivered();
        let forwarded: Vec<Value> = recorder.events().split_off(forwards);
        forwards += forwarded.len();
        for (member, wanted) in expect {
            match member.as_str() {
                "note" => {}
                "status" => assert_eq!(Value::from(answer.status), *wanted, "{step:?}: {}", answer.text()),
                "outcome" => assert_eq!(answer.header("x-surgegate-outcome"), wanted.as_str(), "{step:?}"),
                "forwards" => {
                    let actions: Value = forwarded.iter().map(|event| event["action"].clone()).collect();
                    assert_eq!(actions, *wanted, "{step:?}");
                }
                "incident" => {
                    let incident = &answer.json()["incident"];
                    let id = incident["id"].as_str().unwrap().to_owned();
                    let known = names.0.entry(wanted.as_str().unwrap().to_owned()).or_insert(id.clone());
                    assert_eq!(*known, id, "{step:?}");
                    assert_eq!(incident["name"], "x", "{step:?}");
                }
                unknown => panic!("unknown member {unknown} in {step:?}"),
            }
        }
    }
    assert_eq!(names.0.len(), 3);
}
