//! Incidents that senders address by id, at another replica than the one that took them: changed, read, and answered for by
//! their idempotency key, in each dialect that has ids.

use serde_json::{Value, json};

use super::fleet::PATIENT;
use crate::harness::redis::Redis;
use crate::harness::{Answer, KEY, PATH, Recorder, Reply, Surgegate, request, standard, trigger, wait_until};
use crate::hooks::cloud_event;
use crate::incidentio::{ACCOUNT, CLOSED, MINOR};

const TASKCALL: &str = "token 5ca1ab1e-t";
const INCIDENTIO: &str = "Bearer 5ca1ab1e-i";
const OPSGENIE: &str = "GenieKey 5ca1ab1e-o";

struct Pair {
    redis: Redis,
    recorder: Recorder,
    replicas: [Surgegate; 2],
}

impl Pair {
    fn start() -> Self {
        let (redis, recorder) = (Redis::start(), Recorder::start());
        let integration = |name: &str, lines: &str| {
            format!("  - name: {name}\n    keys: [{{ key: 5ca1ab1e-{name} }}]\n    upstreams: [pager]\n{lines}")
        };
        let integrations = integration("t", "") + &integration("i", ACCOUNT) + &integration("o", "");
        let upstream = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
        let common = format!("integrations:\n{integrations}{upstream}");
        let replicas = [0, 1].map(|id| {
            let url = redis.url();
            Surgegate::start(&[&common, &format!("redis: {{ url: '{url}', timeout: {PATIENT}, replica_id: {id} }}\n")])
        });
        Self { redis, recorder, replicas }
    }

    fn ask(&self, at: usize, who: &str, method: &str, path: &str, body: &Value) -> Answer {
        let authorization = format!("Authorization: {who}");
        let fields = [&*authorization, "Content-Type: application/json"];
        let (fields, body) = match body {
            Value::Null => (&fields[..1], String::new()),
            body => (&fields[..], body.to_string()),
        };
        let mut connection = self.replicas[at].connect();
        connection.send(request(method, path, fields, &body)).unwrap();
        connection.answer().unwrap()
    }

    fn post(&self, at: usize, who: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(at, who, "POST", path, body);
        assert!(answer.status < 300, "{path} at {at}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// The names of an incident are told behind its answer.
    fn wait_for_names(&self) {
        wait_until("the names", || self.redis.keys("surgegate:i:").len() >= 2);
    }

    /// What became of one incident at the upstream, by either replica.
    fn forwarded(&self) -> Vec<String> {
        self.replicas.iter().for_each(|replica| drop(replica.wait_until_delivered()));
        let events = self.recorder.events();
        let first = &events[0]["incident"]["iid"];
        assert!(first.is_string() && events.iter().all(|event| event["incident"]["iid"] == *first), "{events:?}");
        events.iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn an_instance_of_taskcall_is_known_by_its_number_at_any_replica() {
    let pair = Pair::start();
    let create = json!({ "title": "t", "service_ref_id": "S" });
    let id = pair.post(0, TASKCALL, "/create", &create)["instance_id"].clone();
    let named = json!({ "instance_id": id });
    pair.wait_for_names();
    pair.post(1, TASKCALL, "/acknowledge", &named);
    assert_eq!(pair.post(1, TASKCALL, "/details", &named)["instance_id"], id);
    pair.post(0, TASKCALL, "/notate", &json!({ "instance_id": id, "notes": "n" }));
    pair.post(1, TASKCALL, "/resolve", &named);
    assert_eq!(pair.forwarded(), ["trigger", "acknowledge", "update", "resolve"]);
    // What it became elsewhere counts here too.
    let refused = pair.ask(0, TASKCALL, "POST", "/acknowledge", &named);
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("incident_not_open")));
    for unknown in [json!(5), json!(9_999_999)] {
        let answer = pair.ask(1, TASKCALL, "POST", "/resolve", &json!({ "instance_id": unknown }));
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    assert_eq!(pair.ask(1, INCIDENTIO, "GET", &format!("/v2/incidents/{id}"), &Value::Null).status, 404);
}

#[test]
fn an_incident_of_incidentio_is_known_by_its_id_and_its_key_at_any_replica() {
    let pair = Pair::start();
    let create = json!({ "idempotency_key": "k", "visibility": "public", "severity_id": MINOR, "name": "n" });
    let made = pair.post(0, INCIDENTIO, "/v2/incidents", &create)["incident"].clone();
    let path = format!("/v2/incidents/{}", made["id"].as_str().unwrap());
    pair.wait_for_names();
    let read = pair.ask(1, INCIDENTIO, "GET", &path, &Value::Null);
    assert_eq!((read.status, &read.json()["incident"]["id"]), (200, &made["id"]), "{}", read.text());
    let again = pair.ask(1, INCIDENTIO, "POST", "/v2/incidents", &create);
    assert_eq!((again.outcome(), &again.json()["incident"]["id"]), ("replayed", &made["id"]));
    let close = json!({ "notify_incident_channel": false, "incident": { "incident_status_id": CLOSED } });
    pair.post(1, INCIDENTIO, &format!("{path}/actions/edit"), &close);
    assert_eq!(pair.forwarded(), ["trigger", "resolve"]);
    let again = pair.ask(0, INCIDENTIO, "POST", "/v2/incidents", &create);
    assert_eq!(
        (again.outcome(), &again.json()["incident"]["id"]),
        ("replayed", &made["id"]),
        "it creates once for all"
    );
}

#[test]
fn an_alert_of_opsgenie_is_known_by_its_ids_at_any_replica() {
    let pair = Pair::start();
    pair.post(0, OPSGENIE, "/v2/alerts", &json!({ "message": "m", "alias": "db-7" }));
    let by_alias = "/v2/alerts/db-7?identifierType=alias";
    wait_until("the alert", || pair.ask(0, OPSGENIE, "GET", by_alias, &Value::Null).status == 200);
    let alert = pair.ask(0, OPSGENIE, "GET", by_alias, &Value::Null).json()["data"].clone();
    let (id, tiny) = (alert["id"].as_str().unwrap(), alert["tinyId"].as_str().unwrap());
    pair.wait_for_names();
    let read = pair.ask(1, OPSGENIE, "GET", &format!("/v2/alerts/{id}"), &Value::Null);
    assert_eq!((read.status, read.json()["data"]["id"].as_str()), (200, Some(id)), "{}", read.text());
    pair.post(1, OPSGENIE, &format!("/v2/alerts/{tiny}/acknowledge?identifierType=tiny"), &json!({}));
    pair.post(1, OPSGENIE, &format!("/v2/alerts/{id}/close"), &json!({}));
    assert_eq!(pair.forwarded(), ["trigger", "acknowledge", "resolve"]);
}

#[test]
fn what_a_transport_sends_again_to_the_other_replica_is_answered_and_no_more() {
    let (redis, recorder) = (Redis::start(), Recorder::start());
    let replicas = [0, 1].map(|id| {
        let url = redis.url();
        let redis = format!("redis: {{ url: '{url}', timeout: {PATIENT}, replica_id: {id} }}\n");
        Surgegate::start(&[&standard(&recorder), &redis])
    });
    let post = |at: usize, id: &str| {
        let mut connection = replicas[at].connect();
        let (path, body) = (format!("/hooks/cloudevents/{KEY}"), cloud_event(id).to_string());
        connection.send(request("POST", &path, &["Content-Type: application/cloudevents+json"], body)).unwrap();
        connection.answer().unwrap().outcome().to_owned()
    };
    assert_eq!(post(0, "e-1"), "created");
    wait_until("the id", || !redis.keys("surgegate:i:").is_empty());
    assert_eq!(
        (post(1, "e-1"), post(1, "e-2"), post(1, "e-1")),
        ("replayed".into(), "created".into(), "replayed".into())
    );
}

/// An event that its upstream refused while its sender waited never was, for the other replicas too.
#[test]
fn a_refused_event_that_was_taken_back_is_new_at_the_other_replica() {
    let (redis, recorder) = (Redis::start(), Recorder::start());
    recorder.answer(|_| Reply::Status(400));
    let common =
        standard(&recorder).replace("    upstreams: [pager]\n", "    upstreams: [pager]\n    ack: delivered\n");
    let replicas = [0, 1].map(|id| {
        let url = redis.url();
        Surgegate::start(&[&common, &format!("redis: {{ url: '{url}', timeout: {PATIENT}, replica_id: {id} }}\n")])
    });
    let refused = replicas[0].post(PATH, trigger("k"));
    assert!(refused.status >= 400, "{}", refused.text());
    recorder.answer(|_| Reply::Status(200));
    wait_until("it to be taken back", || redis.keys("surgegate:s:").is_empty());
    let again = replicas[1].post(PATH, trigger("k"));
    assert_eq!((again.status, again.outcome()), (202, "created"), "{}", again.text());
}
