//! The Alert API from outside (contracts/opsgenie.md): an alert's life, what its requests came to, who may see it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Recorder, Surgegate, request, run_client, wait_until};

/// Each integration its own key.
const KEYS: [&str; 2] = ["5ca1ab1e-one", "5ca1ab1e-two"];

/// The form of every answer (section 4). `why`: the member that a refusal is about.
pub fn check_form(answer: &Answer, place: &str, why: Option<&str>) {
    let body = answer.json();
    assert_eq!(body["requestId"].as_str(), answer.header("x-request-id"), "{place}: {body}");
    assert!(body["took"].is_number() && answer.header("x-response-time").is_some(), "{place}: {body}");
    if answer.status >= 300 {
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{place}: {body}");
    }
    if answer.status == 422 {
        let member = why.and_then(|why| why.split([' ', ',']).next()).unwrap();
        let member = if member == "id" { "identifierType" } else { member };
        assert!(body["errors"][member].is_string(), "{place}: no {member} in {body}");
    }
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate"), Some("GenieKey"), "{place}");
    }
}

/// What a write supposes: path and body of each, with `word` in what they say.
pub fn before(path: &str, word: &str) -> Vec<(&'static str, String)> {
    let create = ("/v2/alerts", json!({ "message": word, "alias": "db-7/disk" }).to_string());
    let acknowledge = ("/v2/alerts/db-7%2Fdisk/acknowledge?identifierType=alias", json!({ "note": word }).to_string());
    match path {
        path if path.contains("/unacknowledge") => vec![create, acknowledge],
        path if path.contains("/priority") => vec![create],
        _ => Vec::new(),
    }
}

fn configuration(kind: &str, recorder: &Recorder, more: &str) -> String {
    let names = ["one", "two"];
    let integrations = names
        .iter()
        .zip(KEYS)
        .map(|(name, key)| format!("  - {{ name: {name}, keys: [{{ key: '{key}' }}], upstreams: [target]{more} }}\n"));
    let credential = if kind == "opsgenie" { ", credential: vendor-key" } else { "" };
    let upstream = format!(
        "  - {{ name: target, kind: {kind}, url: '{}'{credential}, rate_limit: {{ requests_per_second: 1000 }} }}\n",
        recorder.url()
    );
    format!("integrations:\n{}upstreams:\n{upstream}", integrations.collect::<String>())
}

struct Sender<'s> {
    surgegate: &'s Surgegate,
    key: &'static str,
}

impl Sender<'_> {
    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let key = format!("Authorization: GenieKey {}", self.key);
        let json = ["Content-Type: application/json", &*key];
        let fields = if body.is_empty() { &json[1..] } else { &json[..] };
        let mut connection = self.surgegate.connect();
        connection.send(request(method, path, fields, body)).unwrap();
        let answer = connection.answer().unwrap();
        check_form(&answer, path, Some("any"));
        answer
    }

    /// A write that is accepted; its request's id.
    fn write(&self, method: &str, path: &str, body: Value) -> String {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(method, path, &text);
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        assert_eq!(answer.json()["result"], "Request will be processed");
        answer.header("x-request-id").unwrap().to_owned()
    }

    fn create(&self, body: Value) -> String {
        self.write("POST", "/v2/alerts", body)
    }

    /// A write on the alert with this alias, as it stands in a path.
    fn on(&self, method: &str, alias: &str, operation: &str, body: Value) -> String {
        self.write(method, &format!("/v2/alerts/{alias}{operation}?identifierType=alias"), body)
    }

    fn ask(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    fn data(&self, path: &str) -> Value {
        let answer = self.ask(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["data"].clone()
    }

    /// How a request ended.
    fn result(&self, request_id: &str) -> Value {
        self.data(&format!("/v2/alerts/requests/{request_id}"))
    }

    /// Whether it was done, and what is said of it.
    fn status(&self, request_id: &str) -> (bool, String) {
        let result = self.result(request_id);
        assert_eq!(result["success"], result["isSuccess"]);
        (result["success"].as_bool().unwrap(), result["status"].as_str().unwrap().to_owned())
    }

    fn alert(&self, alias: &str) -> Value {
        self.data(&format!("/v2/alerts/{alias}?identifierType=alias"))
    }
}

fn senders(surgegate: &Surgegate) -> [Sender<'_>; 2] {
    KEYS.map(|key| Sender { surgegate, key })
}

fn members(of: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| of[*name].clone()).collect()
}

#[test]
fn an_alert_lives_from_its_create_to_its_close_and_every_request_tells_how_it_ended() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let [sender, _] = senders(&surgegate);
    let alias = "db-7%2Fdisk";
    let created = sender.create(json!({
        "message": "disk full", "alias": "db-7/disk", "description": "99 %", "tags": ["prod"], "priority": "P3",
        "details": {"free": "1%"}, "entity": "mysql", "source": "fleet", "responders": [{"type": "team", "name": "a"}],
    }));
    let result = sender.result(&created);
    assert_eq!(
        members(&result, &["success", "action", "status", "alias"]),
        json!([true, "Create", "Created alert", "db-7/disk"])
    );
    let id = result["alertId"].as_str().unwrap().to_owned();

    let repeated = sender.create(json!({ "message": "other text", "alias": "db-7/disk" }));
    assert_eq!(sender.status(&repeated), (true, "Increased count of alert".into()));
    assert_eq!(sender.result(&repeated)["alertId"], *id);
    assert_ne!(repeated, created);
    sender.create(json!({ "message": "worse", "alias": "db-7/disk", "priority": "P1" }));
    let alert = sender.alert(alias);
    assert_eq!(
        members(&alert, &["id", "message", "count", "priority", "status", "acknowledged", "tags", "details", "entity"]),
        json!([id, "disk full", 3, "P1", "open", false, ["prod"], {"free": "1%"}, "mysql"])
    );
    let tiny = alert["tinyId"].as_str().unwrap();
    assert_eq!(sender.data(&format!("/v2/alerts/{tiny}?identifierType=tiny")), alert);
    assert_eq!(sender.data(&format!("/v2/alerts/{id}")), alert);

    let acknowledged = sender.on("POST", alias, "/acknowledge", Value::Null);
    assert_eq!(sender.status(&acknowledged), (true, "Acknowledged alert".into()));
    let again = sender.on("POST", alias, "/acknowledge", json!({}));
    assert_eq!(sender.status(&again), (true, "Alert is already acknowledged".into()));
    assert_eq!(members(&sender.alert(alias), &["status", "acknowledged"]), json!(["open", true]));
    sender.on("POST", alias, "/unacknowledge", json!({ "user": "u" }));
    assert_eq!(sender.alert(alias)["acknowledged"], false);

    sender.on("POST", alias, "/notes", json!({ "note": "seen" }));
    sender.on("PUT", alias, "/message", json!({ "message": "disk full on db-7" }));
    sender.on("PUT", alias, "/description", json!({ "description": "all of it" }));
    sender.on("PUT", alias, "/priority", json!({ "priority": "P4" }));
    sender.on("POST", alias, "/tags", json!({ "tags": ["db", "prod"] }));
    sender.on("POST", alias, "/details", json!({ "details": {"host": "db-7"} }));
    sender.on("POST", alias, "/assign", json!({ "owner": {"username": "u@example.com"} }));
    sender.on("POST", alias, "/teams", json!({ "team": {"name": "b"} }));
    sender.on("POST", alias, "/responders", json!({ "responder": {"type": "user", "username": "u"} }));
    sender.on("POST", alias, "/escalate", json!({ "escalation": {"name": "e"} }));
    let snoozed = sender.on("POST", alias, "/snooze", json!({ "endTime": "2026-11-22T10:00:00Z" }));
    assert_eq!(sender.status(&snoozed), (true, "Snoozed alert".into()));
    let alert = sender.alert(alias);
    assert_eq!(
        members(&alert, &["message", "description", "priority", "tags", "details", "owner", "snoozedUntil"]),
        json!(["disk full on db-7", "all of it", "P4", ["prod", "db"], {"free": "1%", "host": "db-7"}, "u@example.com", "2026-11-22T10:00:00Z"])
    );
    assert_eq!(alert["responders"].as_array().unwrap().len(), 3);

    let closed = sender.write("POST", &format!("/v2/alerts/{id}/close"), json!({ "note": "done", "user": "u" }));
    assert_eq!(members(&sender.result(&closed), &["success", "action", "alertId"]), json!([true, "Close", id]));
    let closed_again = sender.on("DELETE", alias, "", Value::Null);
    assert_eq!(sender.status(&closed_again), (true, "Alert is already closed".into()));
    let too_late = sender.on("POST", alias, "/acknowledge", Value::Null);
    assert_eq!(sender.status(&too_late), (false, "Alert is closed".into()));
    assert_eq!(members(&sender.alert(alias), &["status", "report"])[0], "closed");

    let anew = sender.create(json!({ "message": "again", "alias": "db-7/disk" }));
    assert_ne!(sender.result(&anew)["alertId"], *id);
    assert_eq!(sender.data(&format!("/v2/alerts/{id}"))["status"], "closed");
    assert_eq!(members(&sender.alert(alias), &["message", "count", "tags"]), json!(["again", 1, []]));

    surgegate.wait_until_delivered();
    let actions: Vec<String> =
        recorder.events().iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "trigger",
        "trigger",
        "acknowledge",
        "unacknowledge",
        "update",
        "update",
        "update",
        "update",
        "admin",
        "admin",
        "admin",
        "admin",
        "admin",
        "admin",
        "admin",
        "resolve",
        "trigger",
    ];
    assert_eq!(actions, expected);
    assert!(recorder.events().iter().all(|event| event["key"] == "db-7/disk"));
}

#[test]
fn results_alerts_and_their_ids_outlive_a_crash() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let asked: Vec<(String, Value)> = {
        let [sender, _] = senders(&surgegate);
        let created = sender.create(json!({ "message": "m", "tags": ["a"] }));
        let id = sender.result(&created)["alertId"].as_str().unwrap().to_owned();
        assert_eq!(sender.result(&created)["alias"], *id, "the new alert's id becomes its alias");
        let requests = [
            created,
            sender.create(json!({ "message": "m", "alias": "k" })),
            sender.create(json!({ "message": "m", "alias": "k" })),
            sender.on("POST", "k", "/close", Value::Null),
            sender.on("POST", "never-seen", "/close", Value::Null),
            sender.write("POST", &format!("/v2/alerts/{id}/acknowledge"), Value::Null),
            sender.write("POST", "/v2/alerts/00000000-0000-4000-8000-000000000000/close", Value::Null),
        ];
        requests.into_iter().map(|request| (request.clone(), sender.result(&request))).collect()
    };
    let statuses: Vec<&str> = asked.iter().map(|(_, result)| result["status"].as_str().unwrap()).collect();
    assert_eq!(
        statuses,
        [
            "Created alert",
            "Created alert",
            "Increased count of alert",
            "Closed alert",
            "Alert does not exist",
            "Acknowledged alert",
            "Alert does not exist"
        ]
    );
    surgegate.kill();
    surgegate.start_again();
    let [sender, _] = senders(&surgegate);
    for (request, before) in &asked {
        assert_eq!(sender.result(request), *before, "{request}");
    }
    let id = asked[0].1["alertId"].as_str().unwrap();
    let alert = sender.data(&format!("/v2/alerts/{id}"));
    assert_eq!(members(&alert, &["id", "alias", "tags", "acknowledged"]), json!([id, id, ["a"], true]));
    let closed = sender.on("POST", id, "/close", Value::Null);
    assert_eq!(sender.result(&closed)["alertId"], *id);
    assert_eq!(sender.data(&format!("/v2/alerts/{id}"))["status"], "closed");
    assert_eq!(surgegate.stop().code(), Some(0));
    surgegate.start_again();
    let [sender, _] = senders(&surgegate);
    assert_eq!(sender.status(&closed), (true, "Closed alert".into()));
}

#[test]
fn an_alias_is_decoded_once_and_a_slash_in_it_is_no_step() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let [sender, _] = senders(&surgegate);
    let aliases =
        [("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("a b+c?d#e", "a%20b+c%3Fd%23e"), ("ü", "%C3%BC"), ("..", "%2E%2E")];
    for (alias, segment) in aliases {
        sender.create(json!({ "message": alias, "alias": alias }));
        assert_eq!(members(&sender.alert(segment), &["message", "alias"]), json!([alias, alias]), "{segment}");
    }
    for (alias, segment) in aliases {
        sender.on("POST", segment, "/close", Value::Null);
        let open = |row: &&Value| row["status"] == "open";
        let listed = sender.data("/v2/alerts");
        let open: BTreeSet<&str> =
            listed.as_array().unwrap().iter().filter(open).map(|row| row["alias"].as_str().unwrap()).collect();
        assert!(!open.contains(alias), "{alias} in {open:?}");
    }
    assert_eq!(request_of(&sender, "/v2/alerts/a/b?identifierType=alias").status, 404);
    surgegate.wait_until_delivered();
    let resolved: Vec<String> =
        recorder.events()[aliases.len()..].iter().map(|event| event["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(resolved, aliases.map(|(alias, _)| alias));
}

#[test]
fn no_id_reaches_an_alert_of_another_integration_or_an_alias_under_a_wrong_name() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let [owner, stranger] = senders(&surgegate);
    let created = owner.create(json!({ "message": "m", "alias": "k" }));
    let made = owner.create(json!({ "message": "made" }));
    let alert = owner.alert("k");
    let made_id = owner.result(&made)["alertId"].as_str().unwrap().to_owned();
    surgegate.wait_until_delivered();
    let (id, tiny) = (alert["id"].as_str().unwrap(), alert["tinyId"].as_str().unwrap());
    let addresses = [
        (id.to_owned(), ""),
        (tiny.to_owned(), "?identifierType=tiny"),
        (made_id.clone(), ""),
        (made_id.clone(), "?identifierType=alias"),
        ("k".to_owned(), "?identifierType=alias"),
    ];
    let operations: [(&str, &str, Value); 15] = [
        ("POST", "/close", json!({})),
        ("POST", "/acknowledge", json!({})),
        ("POST", "/unacknowledge", json!({})),
        ("POST", "/notes", json!({ "note": "n" })),
        ("PUT", "/message", json!({ "message": "x" })),
        ("PUT", "/description", json!({ "description": "x" })),
        ("PUT", "/priority", json!({ "priority": "P1" })),
        ("POST", "/tags", json!({ "tags": ["x"] })),
        ("POST", "/details", json!({ "details": {"x": "y"} })),
        ("POST", "/snooze", json!({ "endTime": "2026-11-22T10:00:00Z" })),
        ("POST", "/escalate", json!({ "escalation": {"name": "e"} })),
        ("POST", "/assign", json!({ "owner": {"username": "u"} })),
        ("POST", "/teams", json!({ "team": {"name": "t"} })),
        ("POST", "/responders", json!({ "responder": {"type": "user", "username": "u"} })),
        ("DELETE", "", Value::Null),
    ];
    for (segment, query) in &addresses {
        for (method, operation, body) in &operations {
            let path = format!("/v2/alerts/{segment}{operation}{query}");
            let request = stranger.write(method, &path, body.clone());
            let answer = stranger.ask(&format!("/v2/alerts/requests/{request}")).json()["data"].clone();
            let is_nothing = answer["status"] == "Alert does not exist"
                || answer["status"] == "Alert is already closed"
                || answer["status"] == "Alert is closed";
            assert!(is_nothing && answer.get("alertId").is_none(), "{path}: {answer}");
            assert_eq!(owner.ask(&format!("/v2/alerts/requests/{request}")).status, 404, "{path}");
        }
        assert_eq!(stranger.ask(&format!("/v2/alerts/{segment}{query}")).status, 404, "{segment}{query}");
    }
    for request in [&created, &made] {
        assert_eq!(stranger.ask(&format!("/v2/alerts/requests/{request}")).status, 404);
    }
    assert_eq!(stranger.data("/v2/alerts"), json!([]));
    // Contracts 9, trap 10: an alias in the path addresses nothing unless the query says that it is one.
    for (segment, query) in [
        ("k", ""),
        ("k", "?identifierType=id"),
        ("k", "?identifierType=tiny"),
        (id, "?identifierType=tiny"),
        (tiny, ""),
    ] {
        let request = owner.write("POST", &format!("/v2/alerts/{segment}/close{query}"), Value::Null);
        assert_eq!(owner.status(&request), (false, "Alert does not exist".into()), "{segment}{query}");
        assert_eq!(owner.ask(&format!("/v2/alerts/{segment}{query}")).status, 404, "{segment}{query}");
    }
    assert_eq!(owner.alert("k"), alert);
    assert_eq!(owner.data(&format!("/v2/alerts/{made_id}"))["status"], "open");
}

#[test]
fn what_no_upstream_can_do_is_501_and_notes_without_a_home_change_the_alert_alone() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("squadcast", &recorder, "")]);
    let [sender, _] = senders(&surgegate);
    sender.create(json!({ "message": "m", "alias": "k" }));
    let snooze = json!({ "endTime": "2026-11-22T10:00:00Z" }).to_string();
    let answer = sender.send("POST", "/v2/alerts/k/snooze?identifierType=alias", &snooze);
    assert_eq!(answer.status, 501, "{}", answer.text());
    let acknowledged = sender.on("POST", "k", "/acknowledge", Value::Null);
    assert_eq!(sender.status(&acknowledged), (true, "Acknowledged alert".into()));
    assert_eq!(sender.alert("k")["acknowledged"], true);
    surgegate.wait_until_delivered();
    assert_eq!(recorder.count(), 1);
}

#[test]
fn beyond_its_limit_a_sender_is_told_to_come_back_in_the_vendors_words() {
    let recorder = Recorder::start();
    let limit = ", rate_limit: { requests_per_second: 1, events_per_second: 1 }";
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, limit)]);
    let [sender, _] = senders(&surgegate);
    let refused = (0..100).find_map(|n| {
        let answer = sender.send("POST", "/v2/alerts", &json!({ "message": "m", "alias": n.to_string() }).to_string());
        (answer.status == 429).then_some(answer)
    });
    let refused = refused.expect("a request beyond the limit");
    assert_eq!(refused.json()["message"], "You are making too many requests!");
    for (name, value) in [("state", "THROTTLED"), ("reason", "INTEGRATION"), ("period-in-sec", "60")] {
        assert_eq!(refused.header(&format!("x-ratelimit-{name}")), Some(value));
    }
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
}

#[test]
fn a_list_shows_the_newest_first_page_by_page_and_refuses_what_it_cannot_do() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let [sender, _] = senders(&surgegate);
    (0..5).for_each(|n| drop(sender.create(json!({ "message": format!("m{n}"), "alias": n.to_string() }))));
    let mut path = "/v2/alerts?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = sender.ask(&path).json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["message"].as_str().unwrap().to_owned()));
        let Some(next) = page["paging"]["next"].as_str() else { break };
        path = next.to_owned();
    }
    assert_eq!(seen, ["m4", "m3", "m2", "m1", "m0"]);
    for query in ["limit=0", "limit=101", "offset=-1", "offset=1001", "query=status:open", "sort=tinyId", "order=asc"] {
        let answer = request_of(&sender, &format!("/v2/alerts?{query}"));
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        assert!(answer.json()["errors"][query.split('=').next().unwrap()].is_string());
    }
}

fn request_of(sender: &Sender<'_>, path: &str) -> Answer {
    let key = format!("Authorization: GenieKey {}", sender.key);
    let mut connection = sender.surgegate.connect();
    connection.send(request("GET", path, &[&key], "")).unwrap();
    connection.answer().unwrap()
}

#[test]
fn the_vendor_gets_creates_and_operations_by_alias_and_a_raise_as_two_requests() {
    let recorder = Recorder::start();
    recorder.answer(|_| crate::harness::Reply::Status(202));
    let surgegate = Surgegate::start(&[&configuration("opsgenie", &recorder, "")]);
    let [sender, other] = senders(&surgegate);
    sender.create(json!({ "message": "m", "alias": "db-7/disk", "priority": "P3" }));
    sender.create(json!({ "message": "m", "alias": "db-7/disk", "priority": "P1" }));
    sender.on("POST", "db-7%2Fdisk", "/acknowledge", Value::Null);
    sender.on("POST", "db-7%2Fdisk", "/notes", json!({ "note": "n" }));
    sender.on("POST", "db-7%2Fdisk", "/close", json!({ "user": "u" }));
    wait_until("six requests", || recorder.count() == 6);
    other.create(json!({ "message": "m", "alias": "db-7/disk" }));
    surgegate.wait_until_delivered();
    let requests = recorder.requests();
    let alias = |name: &str| format!("{name}%3Aopsgenie%3Adb-7%2Fdisk");
    let paths: Vec<&str> = requests.iter().map(|request| request.path.trim_start_matches("/hook")).collect();
    let on = |operation: &str| format!("/v2/alerts/{}/{operation}?identifierType=alias", alias("one"));
    assert_eq!(
        paths,
        ["/v2/alerts", "/v2/alerts", &on("priority"), &on("acknowledge"), &on("notes"), &on("close"), "/v2/alerts"]
    );
    assert!(requests.iter().all(|request| request.headers["authorization"] == "GenieKey vendor-key"));
    let bodies: Vec<Value> = requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!(bodies[0]["alias"], "one:opsgenie:db-7/disk", "two integrations share the account");
    assert_eq!(bodies[2], json!({ "priority": "P1" }));
    assert_eq!(bodies[3], json!({}));
    assert_eq!(bodies[5], json!({ "user": "u" }));
    assert_eq!(bodies[6]["alias"], "two:opsgenie:db-7/disk");
}

/// What its vendor's own client reads, as published: it demands members that no document names.
#[test]
fn the_published_client_creates_repeats_acknowledges_and_closes() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&configuration("webhook", &recorder, "")]);
    let address = format!("http://{}", surgegate.ingest());
    assert_eq!(run_client("opsgenie", &[&address, KEYS[0]]).trim(), "ok");
    surgegate.wait_until_delivered();
    assert_eq!(recorder.told_by_incident(), [&["trigger", "update", "acknowledge", "resolve"][..], &["resolve"]]);
}
