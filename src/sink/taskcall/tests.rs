//! What an account is told under names of its own.

use serde_json::json;

use super::*;
use crate::dialect;
use crate::event::{Event, State};
use crate::sink::{Said, VendorConfig, samples};

/// Path and body of what the upstream gets of an operation on its instance 8912.
fn sent(vendor: VendorConfig, endpoint: &'static str, action: Action, members: &Value) -> (String, Value) {
    let raw = json!({ "instance_id": 7 }).as_object().unwrap().clone();
    let raw: Map<String, Value> = raw.into_iter().chain(members.as_object().unwrap().clone()).collect();
    let event = samples::event(action, Some("k"), &Value::Object(raw).to_string());
    let event = Event { dialect: DIALECT.into(), family: DIALECT.into(), endpoint: endpoint.into(), ..event };
    let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
    let reread = dialect::reread(&stored.event).unwrap();
    let severity = reread.content.severity;
    let stored = crate::store::Stored { event: Event { severity, ..stored.event.clone() }, ..stored };
    let said = Said { content: reread.content, extra: reread.extra };
    let upstream = UpstreamConfig { vendor, ..samples::upstream("up", Kind::TaskCall) };
    let remote = Remote::new("8912", None).unwrap();
    let call = TaskCall.encode(&Ask { remote: Some(&remote), ..samples::ask(&stored, &said, &upstream) }).unwrap().call;
    (call.path.unwrap(), serde_json::from_slice(&call.body).unwrap())
}

/// Section 7: `urgency_level` alone, unless the account wants the sample's member too.
#[test]
fn an_urgency_has_one_name_or_both_by_choice() {
    for (both, expected) in [
        (false, json!({ "instance_id": 8912, "urgency_level": 4 })),
        (true, json!({ "instance_id": 8912, "urgency_level": 4, "amend-urgency": 4 })),
    ] {
        for name in ["urgency_level", "amend-urgency", "amend_urgency"] {
            let vendor = VendorConfig { amend_both: both, ..VendorConfig::default() };
            let (path, body) = sent(vendor, AMEND, Action::Update, &json!({ name: 4 }));
            assert_eq!((path.as_str(), body), ("/amend-urgency", expected.clone()), "{name}");
        }
    }
}

/// contracts/taskcall.md 2: what is accepted in another form goes out in the vendor's own.
#[test]
fn a_tolerated_form_goes_out_as_the_vendors_own() {
    let said = |endpoint, members: Value| sent(VendorConfig::default(), endpoint, Action::Admin, &members).1;
    let added = said("add-subscribers", json!({ "subscribers": ["", "a", ""], "task_ref_id": 77 }));
    assert_eq!(added, json!({ "instance_id": 8912, "subscribers": ["a"], "task_ref_id": "77" }));
    let added = said("add-subscribers", json!({ "subscribers": "a" }));
    assert_eq!(added["subscribers"], json!(["a"]));
}

/// Contracts 8, row 29.
#[test]
fn runbooks_go_by_the_senders_name_or_by_the_accounts() {
    let sets = ("/run-response-set", json!({ "instance_id": 8912, "response_set_ref_id": "R" }));
    let flows = ("/run-workflow", json!({ "instance_id": 8912, "workflow_ref_id": "R" }));
    for (runbooks, of_sets, of_flows) in [
        (None, &sets, &flows),
        (Some(Runbooks::ResponseSets), &sets, &sets),
        (Some(Runbooks::Workflows), &flows, &flows),
    ] {
        let said = |endpoint, member: &str| {
            let vendor = VendorConfig { runbooks, ..VendorConfig::default() };
            sent(vendor, endpoint, Action::Admin, &json!({ member: "R" }))
        };
        let (path, body) = said("run-response-set", "response_set_ref_id");
        assert_eq!((path.as_str(), &body), (of_sets.0, &of_sets.1));
        let (path, body) = said("run-workflow", "workflow_ref_id");
        assert_eq!((path.as_str(), &body), (of_flows.0, &of_flows.1));
    }
}
