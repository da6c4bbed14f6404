//! The API's document against the API: every operation is tried, and every answer has a status and a shape that stand in it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{get, text, to};
use crate::faults::{Arrival, Fault, Upstream};
use crate::harness::{Answer, PATH, Surgegate, ask, say, trigger, wait_until};

/// Where a value is not as a schema says.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        return faults(document, target.unwrap_or_else(|| panic!("no {reference}")), value, at, found);
    }
    let mut fault = |what: &str| found.push(format!("{at}: {what}: {value}"));
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        fault("another constant");
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        fault("none of the words");
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        None => true,
        Some(other) => panic!("the test does not know the type {other}"),
    };
    if !fits {
        fault("another type");
    }
    if schema["format"] == "date-time" && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err()) {
        fault("no time");
    }
    if schema["pattern"].as_str().is_some_and(|pattern| pattern.ends_with("{26}$"))
        && value.as_str().unwrap().len() != 26
    {
        fault("no id");
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let of = if schema["prefixItems"].is_array() { &schema["prefixItems"][index] } else { &schema["items"] };
        faults(document, of, item, &format!("{at}[{index}]"), found);
    }
    let Some(members) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, member) in members {
        match schema["properties"].get(name) {
            Some(schema) => faults(document, schema, member, &format!("{at}.{name}"), found),
            None if schema["additionalProperties"] == false => {
                found.push(format!("{at}: {name} is not in the document"))
            }
            None => {}
        }
    }
}

/// The document, and what of it was tried.
struct Contract<'a> {
    surgegate: &'a Surgegate,
    document: Value,
    tried: BTreeSet<(String, u16)>,
}

impl Contract<'_> {
    /// Asks, and holds the answer to the document.
    fn ask(&mut self, method: &str, path: &str, concrete: &str, status: u16) -> Answer {
        self.say(method, path, concrete, "", status)
    }

    /// As [`Contract::ask`], with a body.
    fn say(&mut self, method: &str, path: &str, concrete: &str, body: &str, status: u16) -> Answer {
        let answer = say(self.surgegate.admin_address(), method, concrete, &[], body).unwrap();
        assert_eq!(answer.status, status, "{method} {concrete}: {}", answer.text());
        let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
        let kinds = &operation["responses"][status.to_string()]["content"];
        let (kind, content) =
            kinds.as_object().unwrap_or_else(|| panic!("{method} {path} {status}")).iter().next().unwrap();
        assert_eq!(answer.header("content-type"), Some(kind.as_str()), "{method} {concrete}");
        let mut found = vec![];
        faults(&self.document, &content["schema"], &answer.json(), "answer", &mut found);
        assert!(found.is_empty(), "{method} {concrete}: {found:#?}");
        self.tried.insert((text(operation, "operationId").to_owned(), status));
        answer
    }
}

#[test]
fn a_checker_that_finds_nothing_would_hold_nothing() {
    let document = serde_json::json!({ "a": { "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": { "n": { "type": "integer" }, "w": { "type": "string", "enum": ["x"] } } } });
    for (value, count) in
        [(r#"{"n":1,"w":"x"}"#, 0), (r#"{"n":"1"}"#, 1), ("{}", 1), (r#"{"n":1,"w":"y","z":1}"#, 2), ("[]", 1)]
    {
        let mut found = vec![];
        faults(&document, &document["a"], &serde_json::from_str(value).unwrap(), "", &mut found);
        assert_eq!(found.len(), count, "{value}: {found:?}");
    }
}

#[test]
fn every_operation_answers_as_its_document_says() {
    let refuses = |arrival: &Arrival| Fault::Answer(if arrival.key.starts_with("poison") { 422 } else { 200 });
    let upstream = Upstream::scripted(refuses);
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager", "archive"])]);
    for number in 0..4 {
        assert_eq!(surgegate.post(PATH, trigger(&format!("poison-{number}"))).status, 202);
    }
    assert_eq!(surgegate.post(PATH, trigger("a fine/key")).status, 202);
    assert_eq!(surgegate.post(PATH, "{}").status, 400);
    wait_until("dead letters", || surgegate.scrape().count("dead_letters", &[]) == 8);
    surgegate.wait_until_delivered();

    let document = get(&surgegate, "/api/v1/openapi.json");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin-api.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    assert_eq!(document, kept);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut contract = Contract { surgegate: &surgegate, document: document.clone(), tried: BTreeSet::new() };

    contract.ask("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", 200);
    let ingest = contract.ask("GET", "/api/v1/ingest-openapi.json", "/api/v1/ingest-openapi.json", 200).json();
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ingest-api.json");
    assert_eq!(ingest, serde_json::from_slice::<Value>(&std::fs::read(kept).unwrap()).unwrap());
    let status = contract.ask("GET", "/api/v1/status", "/api/v1/status", 200).json();
    assert_eq!(
        (&status["integrations"][0]["name"], &status["integrations"][0]["keys"]),
        (&"payments".into(), &1.into())
    );
    assert!(status["descriptors"]["open"].as_u64().unwrap() > 5);
    let letters = "/api/v1/dead-letters";
    let rows = contract.ask("GET", letters, letters, 200).json();
    let ids: Vec<&str> = rows.as_array().unwrap().iter().map(|row| text(row, "id")).collect();
    assert_eq!(ids.len(), 8);
    contract.ask("GET", letters, "/api/v1/dead-letters?limit=2&upstream=pager&since=1h", 200);
    contract.ask("GET", "/api/v1/dead-letters/groups", "/api/v1/dead-letters/groups", 200);
    let one = "/api/v1/dead-letters/{id}";
    contract.ask("GET", one, &format!("/api/v1/dead-letters/{}", ids[0]), 200);
    contract.ask("GET", one, "/api/v1/dead-letters/pager-999999", 404);
    let event = "/api/v1/events/{event_uid}";
    contract.ask("GET", event, &format!("/api/v1/events/{}", text(&rows[0], "event_uid")), 200);
    contract.ask("GET", event, "/api/v1/events/01JZ0000000000000000000000", 404);
    let by_key = "/api/v1/events";
    let fine = contract.ask("GET", by_key, "/api/v1/events?integration=payments&key=a+fine%2Fkey", 200).json();
    assert_eq!(fine["events"].as_array().unwrap().len(), 1);
    let none = contract.ask("GET", by_key, "/api/v1/events?integration=payments&key=other", 200).json();
    assert_eq!((&none["events"], &none["complete"]), (&serde_json::json!([]), &true.into()));
    contract.ask("DELETE", one, &format!("/api/v1/dead-letters/{}", ids[0]), 200);
    contract.ask("DELETE", one, &format!("/api/v1/dead-letters/{}", ids[0]), 404);
    contract.ask("DELETE", letters, letters, 409);
    contract.ask("DELETE", letters, "/api/v1/dead-letters?dry_run=true", 200);
    upstream.tell(|_| Fault::Answer(200));
    let replay = "/api/v1/dead-letters/{id}/replay";
    contract.ask("POST", replay, &format!("/api/v1/dead-letters/{}/replay", ids[1]), 200);
    contract.ask("POST", replay, &format!("/api/v1/dead-letters/{}/replay", ids[1]), 404);
    let replay_many = "/api/v1/dead-letters/replay";
    contract.ask("POST", replay_many, "/api/v1/dead-letters/replay?dry_run=true", 200);
    contract.ask("POST", replay_many, "/api/v1/dead-letters/replay?per_second=1000&upstream=pager", 200);
    contract.ask("POST", replay_many, "/api/v1/dead-letters/replay", 200);
    contract.ask("DELETE", letters, "/api/v1/dead-letters?confirm=0", 200);

    contract.ask("POST", "/api/v1/reload", "/api/v1/reload", 200);
    let level = "/api/v1/log-level";
    contract.ask("GET", level, level, 200);
    contract.say("PUT", level, level, r#"{"level":"info"}"#, 200);
    contract.say("PUT", level, level, r#"{"level":"3"}"#, 400);
    contract.say("PUT", level, level, &" ".repeat(5000), 400);

    // What is not there is refused by every one of them, and told so.
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete = path.replace("{id}", "pager-1").replace("{event_uid}", "01JZ0000000000000000000000");
        for method in operations.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
            let answer = contract.ask(&method, path, &format!("{concrete}?nonsense=1"), 400);
            assert!(text(&answer.json(), "message").starts_with("unknown parameter"), "{}", answer.text());
        }
        let answer = ask(surgegate.admin_address(), "PATCH", &concrete, &[]).unwrap();
        let allowed = operations.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase());
        let told: BTreeSet<String> = answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
        assert_eq!((answer.status, told), (405, allowed.collect()), "{path}");
    }
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    for operation in operations.map(|operation| text(operation, "operationId")) {
        // The streams have tests of their own.
        let good = contract.tried.contains(&(operation.to_owned(), 200)) || ["tap", "live"].contains(&operation);
        assert!(good && contract.tried.contains(&(operation.to_owned(), 400)), "{operation} was not tried");
    }
}

#[test]
fn what_was_mistyped_is_refused_and_changes_nothing() {
    let upstream = Upstream::scripted(|_| Fault::Answer(422));
    let surgegate = Surgegate::start(&[&to(&upstream, &["pager"])]);
    assert_eq!(surgegate.post(PATH, trigger("poison")).status, 202);
    wait_until("a dead letter", || surgegate.scrape().count("dead_letters", &[]) == 1);
    let arrived = upstream.arrivals().len();
    for (method, path) in [
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/events?key=a"),
        ("GET", "/api/v1/events?integration=payments&key=%ff"),
        ("GET", "/api/v1/events?integration=payments&key=a&limit=0"),
        ("GET", "/api/v1/events?integration=payments&key=a&limit=101"),
        ("GET", "/api/v1/events/no-uid"),
        ("GET", "/api/v1/dead-letters?reason=refusd"),
        ("GET", "/api/v1/dead-letters?since=yesterday"),
        ("GET", "/api/v1/dead-letters?upstream=pager&upstream=archive"),
        ("GET", "/api/v1/dead-letters?upstream="),
        ("GET", "/api/v1/dead-letters?after=pager"),
        ("GET", "/api/v1/dead-letters?limit=1001"),
        ("GET", "/api/v1/tap?outcome=creatd"),
        ("POST", "/api/v1/dead-letters/replay?upsteram=other"),
        ("POST", "/api/v1/dead-letters/replay?dry_run=yes"),
        ("POST", "/api/v1/dead-letters/replay?per_second=0"),
        ("DELETE", "/api/v1/dead-letters?confirm=all"),
        ("DELETE", "/api/v1/dead-letters?confirm=1&reasn=refused"),
        ("DELETE", "/api/v1/dead-letters/pager-1?dry_run=true"),
    ] {
        let answer = ask(surgegate.admin_address(), method, path, &[]).unwrap();
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text());
        assert_eq!(answer.json()["status"], "error");
    }
    assert_eq!(surgegate.scrape().count("dead_letters", &[]), 1);
    assert_eq!(upstream.arrivals().len(), arrived);
}
