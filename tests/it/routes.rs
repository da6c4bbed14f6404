//! Every route of every dialect, by the list that the binary is built from: what `?dry_run=1` tells is what comes, and changes
//! nothing; what names an incident never reaches another integration's. A new route fails here until it is said what its
//! bodies look like and what its words name.

use serde_json::{Value, json};
use surgegate::dialect::{Credentials, DIALECTS, Dialect, Route, Takes};

use crate::harness::{Answer, Recorder, Surgegate, request};
use crate::incidentio::{A, ACCOUNT, B, MINOR, integration};
use crate::taskcall::{OPERATIONS, Vendor};

/// What a route's words, or its body, name.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// Nothing that belongs to an integration alone.
    Nothing,
    /// An incident, by its number or id.
    Incident,
    /// A request, by its id.
    Request,
    /// An alert source, which has a secret of its own.
    Source,
}

fn names(dialect: &dyn Dialect, route: &Route) -> Names {
    let own = route.path.replace("{key}", "").contains('{');
    match (dialect.name(), route.endpoint) {
        // Every operation names an instance, in its body.
        ("taskcall", "create" | "incidents/list" | "list") => Names::Nothing,
        ("taskcall", _) => Names::Incident,
        ("opsgenie", _) if route.path.contains("{requestId}") => Names::Request,
        ("opsgenie", _) if own => Names::Incident,
        ("incidentio_v1" | "incidentio_v2", _) if route.path.contains("/incidents/{id}") => Names::Incident,
        // One of the account's, which every integration has in its own configuration.
        ("incidentio_v1", _) if route.path.contains("/severities/{id}") => Names::Nothing,
        ("incidentio_alert", _) => Names::Source,
        (name, _) if own => panic!("{} {} of {name}: what does its path name?", route.method, route.path),
        ("opsgenie" | "incidentio_v1" | "incidentio_v2", _) => Names::Nothing,
        (name, _) if dialect.has_ids() => {
            panic!("{} {} of {name}: does its body name an incident?", route.method, route.path)
        }
        _ => Names::Nothing,
    }
}

/// A route, and how it is asked.
struct Way {
    dialect: &'static dyn Dialect,
    route: &'static Route,
    /// Of this run alone: keys are made of it.
    word: String,
    /// The number of another incident of the same integration, where the body names one.
    other: String,
}

fn ways() -> Vec<Way> {
    let all = DIALECTS.iter().flat_map(|dialect| dialect.routes().iter().map(move |route| (*dialect, route)));
    all.enumerate()
        .map(|(number, (dialect, route))| Way { dialect, route, word: format!("w-{number}"), other: "1".to_owned() })
        .collect()
}

/// Whether it is a statement that can be taken: kinds of alert sources that nobody serves are not.
fn says(way: &Way) -> bool {
    !way.route.reads && way.route.takes != Takes::Nothing && way.route.path != "/v2/alert_events/{kind}/{id}"
}

impl Way {
    fn place(&self) -> String {
        format!("{} {} {}", self.dialect.name(), self.route.method, self.route.path)
    }

    /// Asks with `key`; `id` stands for the path's other words, and in the body.
    fn ask(&self, surgegate: &Surgegate, key: &str, id: &str, query: &str) -> Answer {
        let source = self.route.path.rsplit('/').nth(1).filter(|kind| !kind.starts_with('{')).unwrap_or("none");
        let id = if names(self.dialect, self.route) == Names::Source { source } else { id };
        let path: Vec<String> = self
            .route
            .path
            .split('/')
            .map(|word| match word {
                "{key}" => key.to_owned(),
                "{type}" => "incidents".to_owned(),
                word if word.starts_with('{') => id.to_owned(),
                word => word.to_owned(),
            })
            .collect();
        let path = path.join("/") + if query.is_empty() { "" } else { "?" } + query;
        let authorization = match self.route.credentials {
            Credentials::Header(schemes) => Some(format!("Authorization: {} {key}", schemes[0].word())),
            Credentials::Source if key == A => Some(format!("Authorization: Bearer secret-{id}")),
            Credentials::Source => Some(format!("Authorization: Bearer {key}")),
            _ => None,
        };
        let kind =
            if self.dialect.name() == "cloudevents" { "application/cloudevents+json" } else { "application/json" };
        let kind = format!("Content-Type: {kind}");
        let body = if self.route.takes == Takes::Nothing { String::new() } else { self.body(key, id).to_string() };
        let mut fields: Vec<&str> = authorization.as_deref().into_iter().collect();
        if !body.is_empty() {
            fields.push(&kind);
        }
        let mut connection = surgegate.connect();
        connection.send(request(self.route.method, &path, &fields, body)).unwrap();
        connection.answer().unwrap_or_else(|error| panic!("{}: {error}", self.place()))
    }

    /// The least that it takes.
    fn body(&self, key: &str, id: &str) -> Value {
        let (word, number) = (self.word.as_str(), id.parse::<u64>().unwrap_or_default());
        let alert = json!({ "status": "firing", "labels": { "alertname": word }, "fingerprint": word });
        match (self.dialect.name(), self.route.endpoint) {
            ("squadcast", _) => json!({ "message": "m", "description": "d", "event_id": word }),
            ("incidentio_v2", "v2/incidents/actions/edit") => {
                json!({ "notify_incident_channel": false, "incident": { "name": "another" } })
            }
            ("incidentio_v1" | "incidentio_v2", _) => {
                json!({ "idempotency_key": word, "visibility": "public", "severity_id": MINOR, "name": "n" })
            }
            ("incidentio_alert", "v2/alert_events/alertmanager") | ("alertmanager" | "grafana", _) => {
                json!({ "alerts": [alert] })
            }
            ("incidentio_alert", _) => json!({ "title": "t", "status": "firing", "deduplication_key": word }),
            ("taskcall", "create") => json!({ "title": "t", "service_ref_id": "S", "dedup_key": word }),
            ("taskcall", "details" | "alerts") => json!({ "instance_id": number }),
            ("taskcall", "incidents/list") => json!({}),
            ("taskcall", operation) => {
                let known = OPERATIONS.iter().find(|(name, ..)| *name == operation);
                let (_, member, _) = known.unwrap_or_else(|| panic!("{}: what is its body?", self.place()));
                let mut body: Value = serde_json::from_str(&member.replace("\"OTHER\"", &self.other)).unwrap();
                body["instance_id"] = number.into();
                body
            }
            ("pagerduty_v2", _) => json!({ "routing_key": key, "event_action": "trigger", "dedup_key": word,
                "payload": { "summary": "s", "source": "x", "severity": "critical" } }),
            ("pagerduty_v1", _) => {
                json!({ "service_key": key, "event_type": "trigger", "incident_key": word, "description": "d" })
            }
            ("pagerduty_change", _) => json!({ "routing_key": key, "payload": { "summary": "s", "source": "x" } }),
            ("opsgenie", "create") => json!({ "message": "m", "alias": word }),
            ("opsgenie", "notes") => json!({ "note": "n" }),
            ("opsgenie", "message") => json!({ "message": "another" }),
            ("opsgenie", "description") => json!({ "description": "another" }),
            ("opsgenie", "priority") => json!({ "priority": "P1" }),
            ("opsgenie", "tags") => json!({ "tags": ["x"] }),
            ("opsgenie", "details") => json!({ "details": { "x": "y" } }),
            ("opsgenie", "snooze") => json!({ "endTime": "2030-11-22T10:00:00Z" }),
            ("opsgenie", "escalate") => json!({ "escalation": { "name": "e" } }),
            ("opsgenie", "assign") => json!({ "owner": { "username": "u" } }),
            ("opsgenie", "teams") => json!({ "team": { "name": "t" } }),
            ("opsgenie", "responders") => json!({ "responder": { "type": "user", "username": "u" } }),
            ("opsgenie", "close" | "acknowledge" | "unacknowledge" | "delete") => json!({}),
            ("datadog", _) => json!({ "title": "t", "alert_cycle_key": word }),
            ("sns", _) => json!({ "Type": "Notification", "MessageId": word, "TopicArn": "arn:t", "Message": "text" }),
            ("cloudevents", _) => {
                json!({ "specversion": "1.0", "id": word, "source": "/s", "type": "com.example.alert" })
            }
            ("zabbix", _) => json!({ "status": "PROBLEM", "event_id": word, "subject": "s" }),
            ("nagios", _) => json!({ "hostname": word, "host_state": "DOWN" }),
            ("icinga", _) => {
                json!({ "hostname": word, "notification_type": "PROBLEM", "data": { "host_state": "DOWN" } })
            }
            ("checkmk", _) => json!({ "source": "HOST", "hostname": word, "hostState": "DOWN" }),
            ("generic", _) => json!({ "title": "t", "id": word }),
            _ => panic!("{}: what is its body?", self.place()),
        }
    }
}

fn start(recorder: &Recorder, vendor: &Vendor) -> Surgegate {
    let sources = "    alert_sources:\n    - { id: http, kind: http, secret: secret-http }\n    \
                   - { id: alertmanager, kind: alertmanager, secret: secret-alertmanager }\n    \
                   - { id: http_custom, kind: http_custom, secret: secret-http_custom }\n";
    let both = |text: String| text.replace("upstreams: [pager]", "upstreams: [pager, tc]");
    let a = both(integration("a", A, &format!("{ACCOUNT}{sources}")));
    let b = both(integration("b", B, ACCOUNT));
    let pager = format!("  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    Surgegate::start(&[&format!("integrations:\n{a}{b}upstreams:\n{pager}{}", vendor.upstream("tc"))])
}

/// An incident of integration `a` in this dialect: every name it has.
fn create(surgegate: &Surgegate, dialect: &str, word: &str) -> Vec<String> {
    let way = |path: &str| {
        let found = ways().into_iter().find(|way| way.route.path == path && way.route.method == "POST");
        Way { word: word.to_owned(), ..found.unwrap() }
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (path, query) = match dialect {
        "taskcall" => ("/create", ""),
        "opsgenie" => ("/v2/alerts", ""),
        _ => ("/v2/incidents", ""),
    };
    let answer = way(path).ask(surgegate, A, "", query);
    assert!(answer.status < 300, "{}", answer.text());
    let body = answer.json();
    match dialect {
        "taskcall" => vec![text(&body["instance_id"])],
        "opsgenie" => {
            let request = answer.header("x-request-id").unwrap();
            let asked = Way { word: String::new(), ..way_of("opsgenie", "/v2/alerts/requests/{requestId}") };
            let data = asked.ask(surgegate, A, request, "").json()["data"].clone();
            vec![text(&data["alertId"]), request.to_owned()]
        }
        _ => {
            let reference = text(&body["incident"]["reference"]);
            vec![text(&body["incident"]["id"]), reference.trim_start_matches("INC-").to_owned()]
        }
    }
}

fn way_of(dialect: &str, path: &str) -> Way {
    ways().into_iter().find(|way| way.dialect.name() == dialect && way.route.path == path).unwrap()
}

/// What is known of all: nothing of it may change where nothing happens.
fn known(surgegate: &Surgegate) -> Vec<u64> {
    let scrape = surgegate.scrape();
    ["events_accepted_total", "events_enqueued_total", "dedup_entries", "dead_letters", "events_rejected_total"]
        .map(|name| scrape.count(name, &[]))
        .to_vec()
}

#[test]
fn a_dry_run_on_every_route_tells_what_comes_and_changes_nothing() {
    let (recorder, vendor) = (Recorder::start(), Vendor::start());
    let surgegate = start(&recorder, &vendor);
    let mut tried = 0;
    for mut way in ways() {
        let place = way.place();
        if way.route.endpoint == "merge" {
            way.other = create(&surgegate, "taskcall", &format!("with-{}", way.word)).remove(0);
        }
        let id = match names(way.dialect, way.route) {
            Names::Incident => create(&surgegate, way.dialect.name(), &format!("of-{}", way.word)).remove(0),
            Names::Request => create(&surgegate, way.dialect.name(), &format!("of-{}", way.word)).remove(1),
            _ => MINOR.to_owned(),
        };
        let before = known(&surgegate);
        let dry = way.ask(&surgegate, A, &id, "dry_run=1");
        assert_eq!(known(&surgegate), before, "{place}: {}", dry.text());
        let meant = way.ask(&surgegate, A, &id, "");
        assert_eq!(dry.status, meant.status, "{place}: {} {}", dry.text(), meant.text());
        if !says(&way) {
            continue;
        }
        tried += 1;
        let told = dry.json();
        assert!(dry.status < 300 && told["dry_run"] == true, "{place}: {told}");
        assert_eq!(dry.header("x-surgegate-outcome"), None, "{place}: nothing came of it");
        assert_eq!(told["events"][0]["outcome"], meant.outcome(), "{place}: {told} {}", meant.text());
        // A statement that is known by now is told to be.
        if meant.outcome() == "created" && told["events"][0]["key"].is_string() {
            let again = way.ask(&surgegate, A, &id, "dry_run=1").json();
            let outcome = &again["events"][0]["outcome"];
            assert!(["duplicate", "replayed"].iter().any(|known| outcome == known), "{place}: {again}");
        }
    }
    assert!(tried > 100, "{tried} routes");
    surgegate.wait_until_delivered();
}

#[test]
fn what_names_an_incident_finds_no_other_integrations_on_any_route() {
    let (recorder, vendor) = (Recorder::start(), Vendor::start());
    let surgegate = start(&recorder, &vendor);
    let shown = |dialect: &str, name: &str| {
        let path = match dialect {
            "taskcall" => "/details",
            "opsgenie" => "/v2/alerts/{id}",
            _ => "/v2/incidents/{id}",
        };
        let way = match dialect {
            "taskcall" | "opsgenie" => {
                ways().into_iter().find(|way| way.route.path == path && way.route.reads).unwrap()
            }
            _ => way_of("incidentio_v2", path),
        };
        let answer = way.ask(&surgegate, A, name, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut body = answer.json();
        // How long the answer took.
        body.as_object_mut().unwrap().retain(|name, _| name != "took" && name != "requestId");
        body
    };
    let of = ["taskcall", "opsgenie", "incidentio_v1", "incidentio_v2"]
        .map(|dialect| (dialect, create(&surgegate, dialect, &format!("of-{dialect}"))));
    let before: Vec<Value> = of.iter().map(|(dialect, names)| shown(dialect, &names[0])).collect();
    let mut tried = 0;
    for way in ways() {
        let (place, named) = (way.place(), names(way.dialect, way.route));
        if named == Names::Nothing {
            continue;
        }
        tried += 1;
        if named == Names::Source {
            let answer = way.ask(&surgegate, B, "", "");
            assert!([401, 404].contains(&answer.status), "{place}: {}", answer.text());
            continue;
        }
        let (_, ids) = of.iter().find(|(dialect, _)| *dialect == way.dialect.name()).unwrap();
        let ids: Vec<&String> = match (way.dialect.name(), named) {
            ("opsgenie", Names::Request) => ids[1..].iter().collect(),
            ("opsgenie", _) => ids[..1].iter().collect(),
            _ => ids.iter().collect(),
        };
        for id in ids {
            for query in ["", "dry_run=1"] {
                let answer = way.ask(&surgegate, B, id, query);
                // Opsgenie tells of it later: the request's result says that there is no such alert.
                if way.dialect.name() == "opsgenie" && !way.route.reads {
                    let outcome = if query.is_empty() {
                        answer.outcome().to_owned()
                    } else {
                        answer.json()["events"][0]["outcome"].as_str().unwrap().to_owned()
                    };
                    assert_eq!((answer.status, &*outcome), (202, "unknown"), "{place}: {}", answer.text());
                } else {
                    assert_eq!(answer.status, 404, "{place} {id}: {}", answer.text());
                }
                assert!(!answer.text().contains("of-"), "{place}: {}", answer.text());
            }
        }
    }
    assert!(tried > 60, "{tried} routes");
    let after: Vec<Value> = of.iter().map(|(dialect, names)| shown(dialect, &names[0])).collect();
    assert_eq!(after, before);
}
