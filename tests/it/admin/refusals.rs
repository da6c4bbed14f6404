//! What the status tells of refusals: a sample without values, and something to send instead that is taken.

use serde_json::Value;

use super::{get, text, to};
use crate::faults::{Fault, Upstream};
use crate::harness::{KEY, PATH, Surgegate, request};

fn refusals(surgegate: &Surgegate) -> Value {
    get(surgegate, "/api/v1/status")["refusals"].clone()
}

#[test]
fn what_is_told_to_send_instead_is_taken() {
    let upstream = Upstream::scripted(|_| Fault::Answer(200));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    let bearer = format!("Authorization: Bearer {KEY}");
    let genie = format!("Authorization: GenieKey {KEY}");
    for (dialect, path, field, bad) in [
        ("squadcast", PATH, "", "{}".to_owned()),
        ("opsgenie", "/v2/alerts", genie.as_str(), "{}".to_owned()),
        ("incidentio_v2", "/v2/incidents", bearer.as_str(), "{}".to_owned()),
        ("pagerduty_v2", "/v2/enqueue", "", format!(r#"{{"routing_key":"{KEY}"}}"#)),
        ("pagerduty_v1", "/generic/2010-04-15/create_event.json", "", format!(r#"{{"service_key":"{KEY}"}}"#)),
    ] {
        let post = |body: &str| {
            let mut fields = vec!["Content-Type: application/json"];
            fields.extend((!field.is_empty()).then_some(field));
            let mut connection = surgegate.connect();
            connection.send(request("POST", path, &fields, body)).unwrap();
            connection.answer().unwrap()
        };
        let refused = post(&bad);
        assert!((400..500).contains(&refused.status), "{dialect}: {refused:?}");
        let told = refusals(&surgegate);
        let of = |row: &&Value| row["sample"]["dialect"] == dialect;
        let row = told.as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{dialect}: {told}"));
        assert_eq!(row["sample"]["status"], refused.status, "{row}");
        let instead = text(row, "instead").replace("KEY", &format!("\"{KEY}\""));
        let taken = post(&instead);
        assert!((200..300).contains(&taken.status), "{dialect}: {instead}: {taken:?}");
        // The next of its reason is told in another second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let invalid = refusals(&surgegate).as_array().unwrap().iter().find(|row| row["reason"] == "invalid_event").cloned();
    assert!(invalid.is_some_and(|row| row["count"].as_u64() >= Some(5)), "each was counted");
}
