//! incident.io in: create-once keys over kills and restarts, edits, reads, errors and alert events, against the real
//! binary (contracts/incident-io.md).

mod alerts;
mod out;
mod published;
mod samples;
mod scenarios;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Recorder, Surgegate, clock_set, request, wait_until};

pub const MINOR: &str = "01FCNDV6P870EA6S7TK1DSYDG0";
pub const MAJOR: &str = "01FXNA5TFQXZRM3K1JDVTWXV4X";
pub const CRITICAL: &str = "01FXNA5TFQXZRM3K1JDVTWXV5Y";
pub const CLOSED: &str = "01FCNDV6P870EA6S7TK1DSYDCC";
/// The key of integration `a`, and of `b`.
pub const A: &str = "a00000005ca1ab1e0123456789abcdef01234567";
pub const B: &str = "b00000005ca1ab1e0123456789abcdef01234567";

/// Severities and statuses of an account, as lines of an integration.
pub const ACCOUNT: &str = "    severities:
    - { id: 01FCNDV6P870EA6S7TK1DSYDG0, name: Minor, rank: 1 }
    - { id: 01FXNA5TFQXZRM3K1JDVTWXV4X, name: Major, rank: 2 }
    - { id: 01FXNA5TFQXZRM3K1JDVTWXV5Y, name: Critical, rank: 3 }
    incident_statuses:
    - { id: 01FCNDV6P870EA6S7TK1DSYDTT, name: Triage, category: triage }
    - { id: 01FCNDV6P870EA6S7TK1DSYD5H, name: Investigating, category: live }
    - { id: 01FCNDV6P870EA6S7TK1DSYDCC, name: Closed, category: closed }
";

/// One integration with these further lines.
pub fn integration(name: &str, key: &str, lines: &str) -> String {
    format!("  - name: {name}\n    keys: [{{ key: '{key}' }}]\n    upstreams: [pager]\n{lines}")
}

/// Integrations `a` and `b`, each with the account's lists, to a webhook.
fn two(recorder: &Recorder) -> String {
    let integrations = integration("a", A, ACCOUNT) + &integration("b", B, ACCOUNT);
    format!(
        "integrations:\n{integrations}upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )
}

pub fn ask(surgegate: &Surgegate, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let authorization = format!("Authorization: Bearer {key}");
    let mut fields = vec![authorization.as_str()];
    if !body.is_empty() {
        fields.push("Content-Type: application/json");
    }
    let mut connection = surgegate.connect();
    connection.send(request(method, path, &fields, body)).unwrap();
    connection.answer().unwrap()
}

fn get(surgegate: &Surgegate, path: &str, key: &str) -> Answer {
    ask(surgegate, "GET", path, key, "")
}

fn create(key: &str, name: &str) -> String {
    json!({ "idempotency_key": key, "visibility": "public", "severity_id": MINOR, "name": name }).to_string()
}

fn edit(incident: &Value) -> String {
    json!({ "notify_incident_channel": false, "incident": incident }).to_string()
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What a client of either version cannot do without.
fn is_whole(incident: &Value, version: u8) {
    let mut wanted = BTreeSet::from([
        "id",
        "reference",
        "name",
        "mode",
        "visibility",
        "creator",
        "created_at",
        "updated_at",
        "custom_field_entries",
        "incident_role_assignments",
        "slack_channel_id",
        "slack_team_id",
        "team_ids",
    ]);
    wanted.insert(if version == 1 { "status" } else { "incident_status" });
    let has = members(incident);
    assert!(wanted.is_subset(&has), "{:?} is missing in {incident}", wanted.difference(&has));
    let other = if version == 1 { "incident_status" } else { "status" };
    assert!(!has.contains(other), "{incident}");
    assert!(incident["created_at"].as_str().is_some_and(|at| at.len() == 27 && at.ends_with('Z')), "{incident}");
}

#[test]
fn a_key_creates_once_over_kills_restarts_edits_and_versions() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&two(&recorder)]);
    let mismatches = |surgegate: &Surgegate| surgegate.scrape().count("idempotency_body_mismatch_total", &[]);
    let post = |surgegate: &Surgegate, path, body: &str, outcome: &str| {
        let answer = ask(surgegate, "POST", path, A, body);
        assert_eq!((answer.status, answer.outcome()), (200, outcome), "{}", answer.text());
        answer.json()["incident"].clone()
    };
    let first = post(&surgegate, "/v2/incidents", &create("k1", "x"), "created");
    is_whole(&first, 2);
    assert_eq!((&first["name"], &first["severity"]["name"]), (&json!("x"), &json!("Minor")));
    assert_eq!(first["creator"], json!({ "api_key": { "id": "a", "name": "a" } }));
    assert!(first["reference"].as_str().is_some_and(|reference| reference.starts_with("INC-")));
    // The same body, written otherwise, and another one: the same incident.
    let spelled = create("k1", "x").replace(':', " : ").replace("\"x\"", "\"\\u0078\"");
    assert_eq!(post(&surgegate, "/v2/incidents", &spelled, "replayed"), first);
    assert_eq!(mismatches(&surgegate), 0);
    assert_eq!(post(&surgegate, "/v2/incidents", &create("k1", "other"), "replayed"), first);
    assert_eq!(mismatches(&surgegate), 1);
    let v1 = post(&surgegate, "/v1/incidents", &create("k1", "x"), "replayed");
    is_whole(&v1, 1);
    assert_eq!((&v1["id"], &v1["status"], &v1["mode"]), (&first["id"], &json!("investigating"), &json!("real")));
    assert_eq!(mismatches(&surgegate), 1, "bodies of two versions are not compared");
    surgegate.wait_until_delivered();
    surgegate.kill();
    surgegate.start_again();
    assert_eq!(post(&surgegate, "/v2/incidents", &create("k1", "x"), "replayed"), first);
    let path = format!("/v2/incidents/{}/actions/edit", first["id"].as_str().unwrap());
    let renamed = post(&surgegate, &path, &edit(&json!({ "name": "y", "severity_id": CRITICAL })), "updated");
    assert_eq!((&renamed["name"], &renamed["severity"]["name"]), (&json!("y"), &json!("Critical")));
    let closed = post(&surgegate, &path, &edit(&json!({ "incident_status_id": CLOSED })), "resolved");
    assert_eq!((&closed["incident_status"]["category"], &closed["name"]), (&json!("closed"), &json!("y")));
    assert_eq!((&closed["id"], &closed["created_at"]), (&first["id"], &first["created_at"]));
    surgegate.wait_until_delivered();
    surgegate.stop();
    surgegate.start_again();
    assert_eq!(post(&surgegate, "/v2/incidents", &create("k1", "x"), "replayed"), closed, "as it stands now");
    let again = post(&surgegate, "/v1/incidents", &create("k1", "x"), "replayed");
    assert_eq!(again["status"], "closed");
    assert_eq!(
        get(&surgegate, &format!("/v2/incidents/{}", first["id"].as_str().unwrap()), A).json()["incident"],
        closed
    );
    surgegate.wait_until_delivered();
    // What was delivered just before the kill may come again, under its own id.
    let mut forwarded = recorder.events();
    forwarded.dedup_by_key(|event| event["event_uid"].clone());
    let actions: Vec<_> = forwarded.iter().map(|event| event["action"].clone()).collect();
    assert_eq!(actions, ["trigger", "update", "resolve"], "no repeat goes anywhere");
    assert_eq!(forwarded[1]["severity"], 5, "Critical is the worst of three");
}

#[test]
fn of_many_at_once_one_creates_and_all_are_told_the_same() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&two(&recorder)]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..24).map(|_| scope.spawn(|| ask(&surgegate, "POST", "/v2/incidents", A, &create("k", "x")))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let bodies: BTreeSet<String> = answers.iter().map(|answer| answer.json().to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|answer| answer.outcome() == "created").count(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200));
    surgegate.wait_until_delivered();
    assert_eq!(recorder.count(), 1);
}

#[test]
fn ids_of_one_integration_name_nothing_for_another_on_every_route() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&two(&recorder)]);
    let made = ask(&surgegate, "POST", "/v2/incidents", A, &create("k", "x")).json()["incident"].clone();
    let id = made["id"].as_str().unwrap().to_owned();
    let number = made["reference"].as_str().unwrap().trim_start_matches("INC-").to_owned();
    let unknown = |answer: &Answer| {
        assert_eq!(answer.status, 404, "{}", answer.text());
        let body = answer.json();
        assert_eq!((&body["type"], &body["errors"][0]["code"]), (&json!("not_found"), &json!("not_found")));
    };
    let rename = edit(&json!({ "name": "taken over" }));
    for name in [&id, &number] {
        for path in [format!("/v1/incidents/{name}"), format!("/v2/incidents/{name}")] {
            assert_eq!(get(&surgegate, &path, A).json()["incident"]["id"], made["id"], "{path}");
            unknown(&get(&surgegate, &path, B));
        }
        unknown(&ask(&surgegate, "POST", &format!("/v2/incidents/{name}/actions/edit"), B, &rename));
    }
    // A key is no id, not even to its owner.
    unknown(&get(&surgegate, "/v2/incidents/k", A));
    unknown(&ask(&surgegate, "POST", "/v2/incidents/k/actions/edit", A, &rename));
    for path in ["/v1/incidents", "/v2/incidents"] {
        assert_eq!(get(&surgegate, path, B).json()["incidents"], json!([]));
        let after = get(&surgegate, &format!("{path}?after={id}"), B);
        assert_eq!((after.status, &after.json()["errors"][0]["source"]["field"]), (422, &json!("after")));
    }
    let renamed = ask(&surgegate, "POST", &format!("/v2/incidents/{number}/actions/edit"), A, &rename);
    assert_eq!((renamed.outcome(), &renamed.json()["incident"]["name"]), ("updated", &json!("taken over")));
    // The same key is another incident there.
    let theirs = ask(&surgegate, "POST", "/v2/incidents", B, &create("k", "x"));
    assert_eq!(theirs.outcome(), "created");
    assert_ne!(theirs.json()["incident"]["id"], made["id"]);
}

#[test]
fn lists_go_page_by_page_the_newest_first_and_take_filters() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&two(&recorder)]);
    let severities = [MINOR, MAJOR, CRITICAL];
    let mut ids: Vec<String> = (0..7)
        .map(|number| {
            let mode = if number == 3 { "test" } else { "standard" };
            let body = json!({ "idempotency_key": number.to_string(), "visibility": "public", "mode": mode,
                "severity_id": severities[number % 3], "name": number.to_string() });
            let answer = ask(&surgegate, "POST", "/v2/incidents", A, &body.to_string());
            answer.json()["incident"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let path = format!("/v2/incidents/{}/actions/edit", ids[5]);
    ask(&surgegate, "POST", &path, A, &edit(&json!({ "incident_status_id": CLOSED })));
    ids.reverse();
    let list = |query: &str| {
        let answer = get(&surgegate, &format!("/v2/incidents?{query}"), A);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let names = |body: &Value| -> String {
        body["incidents"].as_array().unwrap().iter().map(|incident| incident["name"].as_str().unwrap()).collect()
    };
    let (mut seen, mut after, mut pages) = (String::new(), String::new(), 0);
    loop {
        let page = list(&format!("page_size=3{after}"));
        assert_eq!(page["pagination_meta"]["total_record_count"], 7);
        seen += &names(&page);
        pages += 1;
        let Some(last) = page["pagination_meta"]["after"].as_str() else { break };
        after = format!("&after={last}");
    }
    assert_eq!((seen.as_str(), pages), ("6543210", 3));
    assert_eq!(names(&list("status_category[one_of]=closed")), "5");
    assert_eq!(names(&list("status_category%5Bone_of%5D=live&severity[gte]=01FXNA5TFQXZRM3K1JDVTWXV4X")), "421");
    assert_eq!(names(&list("mode[one_of]=test")), "3");
    assert_eq!(names(&list("mode[not_in]=test&created_at[gte]=2020-01-01&page_size=2")), "65");
    assert_eq!(names(&list("created_at[lte]=2020-01-01")), "");
    assert_eq!(names(&list("filter_mode=any&mode[one_of]=test&status_category[one_of]=closed")), "53");
    // A filtered list goes on where it stopped.
    let first = list("severity[one_of]=01FCNDV6P870EA6S7TK1DSYDG0&page_size=2");
    let after = first["pagination_meta"]["after"].as_str().unwrap();
    assert_eq!(names(&first), "63");
    assert_eq!(names(&list(&format!("severity[one_of]=01FCNDV6P870EA6S7TK1DSYDG0&page_size=2&after={after}"))), "0");
    let v1 = get(&surgegate, "/v1/incidents?status=closed&status=triage", A).json();
    assert_eq!((names(&v1).as_str(), &v1["incidents"][0]["status"]), ("5", &json!("closed")));
    let wrong = get(&surgegate, "/v2/incidents?page_size=0&colour=red", A);
    let fields: Vec<_> =
        wrong.json()["errors"].as_array().unwrap().iter().map(|error| error["source"]["field"].clone()).collect();
    assert_eq!((wrong.status, fields), (422, vec![json!("page_size"), json!("colour")]));
    drop(recorder);
}

#[test]
fn what_clients_read_beside_incidents_is_what_the_configuration_says() {
    let recorder = Recorder::start();
    let two = two(&recorder).replace("    keys: [{ key: 'b", "    dialects: [incidentio_v2]\n    keys: [{ key: 'b");
    let surgegate = Surgegate::start(&[&two]);
    let severities = get(&surgegate, "/v1/severities", A);
    let sample: Value =
        serde_json::from_str(include_str!("../contracts/incident-io/responses/severities.json")).unwrap();
    assert_eq!(severities.status, 200);
    let (ours, theirs) = (severities.json(), sample);
    let both = ours["severities"].as_array().unwrap().iter().zip(theirs["severities"].as_array().unwrap());
    for (ours, theirs) in both {
        assert_eq!(members(ours), members(theirs));
        assert_eq!((&ours["id"], &ours["rank"]), (&theirs["id"], &theirs["rank"]));
    }
    let one = get(&surgegate, &format!("/v1/severities/{MAJOR}"), A).json();
    assert_eq!(one["severity"]["name"], "Major");
    assert_eq!(get(&surgegate, "/v1/severities/x", A).status, 404);
    let statuses = get(&surgegate, "/v1/incident_statuses", A).json();
    assert_eq!(statuses["incident_statuses"][2]["category"], "closed");
    assert_eq!(get(&surgegate, "/v1/incident_types", A).json(), json!({ "incident_types": [] }));
    assert_eq!(get(&surgegate, "/v2/custom_fields", A).json(), json!({ "custom_fields": [] }));
    assert_eq!(get(&surgegate, "/v1/identity", A).json()["identity"]["name"], "a");
    // Who may speak one version may ask by the other's paths, and create by its own alone.
    assert_eq!(get(&surgegate, "/v1/severities", B).status, 200);
    let refused = ask(&surgegate, "POST", "/v1/incidents", B, &create("k", "x"));
    assert_eq!((refused.status, &refused.json()["type"]), (403, &json!("authorization_error")));
}

#[test]
fn answers_have_the_members_of_the_vendors_own() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&two(&recorder)]);
    let samples = [
        ("/v1/incidents", include_str!("../contracts/incident-io/responses/v1-create.json")),
        ("/v2/incidents", include_str!("../contracts/incident-io/responses/v2-create.json")),
    ];
    for (path, sample) in samples {
        let body = json!({ "idempotency_key": path, "visibility": "public", "severity_id": MINOR, "name": "n", "summary": "s" });
        let ours = ask(&surgegate, "POST", path, A, &body.to_string()).json();
        let theirs: Value = serde_json::from_str(sample).unwrap();
        let (ours, theirs) = (&ours["incident"], &theirs["incident"]);
        for (name, value) in theirs.as_object().unwrap().iter().filter(|(name, _)| *name != "permalink") {
            let same = std::mem::discriminant(&ours[name]) == std::mem::discriminant(value);
            assert!(same, "{path}: {name} is {} and not like {value}", ours[name]);
            if value.is_object() && name != "creator" {
                assert_eq!(members(&ours[name]), members(value), "{path}: {name}");
            }
        }
    }
}

#[test]
fn refusals_have_the_vendors_form() {
    let recorder = Recorder::start();
    let slow = two(&recorder).replace(
        "    upstreams: [pager]\n    severities",
        "    upstreams: [pager]\n    rate_limit: { requests_per_second: 2 }\n    severities",
    );
    let surgegate = Surgegate::start(&[&two(&recorder)]);
    let check = |answer: &Answer, status: u16, kind: &str, code: &str| {
        let body = answer.json();
        assert_eq!((answer.status, &body["status"]), (status, &json!(status)), "{body}");
        assert_eq!((&body["type"], &body["errors"][0]["code"]), (&json!(kind), &json!(code)), "{body}");
        let id = body["request_id"].as_str().unwrap();
        assert!(id.len() == 36 && answer.header("x-request-id") == Some(id), "{body}");
    };
    let wrong = get(&surgegate, "/v1/severities", "nope");
    check(&wrong, 401, "authentication_error", "unauthorized");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    check(&ask(&surgegate, "POST", "/v2/incidents", A, "{"), 400, "bad_request", "invalid_json");
    check(&ask(&surgegate, "POST", "/v2/incidents", A, "[]"), 400, "bad_request", "invalid_json");
    check(&ask(&surgegate, "PUT", "/v2/incidents", A, "{}"), 405, "bad_request", "method_not_allowed");
    let several = json!({ "idempotency_key": " ", "visibility": "secret", "mode": 1, "severity_id": "no such",
        "custom_field_entries": [{ "values": [] }, 7],
        "retrospective_incident_options": { "external_id": "x", "slack_channel_id": 7 } });
    let answer = ask(&surgegate, "POST", "/v2/incidents", A, &several.to_string());
    check(&answer, 422, "validation_error", "invalid_value");
    let body = answer.json();
    let faults: BTreeSet<_> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["source"]["field"].as_str().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    let wanted = BTreeSet::from([
        ("idempotency_key", "invalid_value"),
        ("visibility", "invalid_value"),
        ("mode", "invalid_type"),
        ("severity_id", "invalid_value"),
        ("custom_field_entries.0.custom_field_id", "is_required"),
        ("custom_field_entries.1", "invalid_type"),
        ("retrospective_incident_options", "invalid_value"),
        ("retrospective_incident_options.external_id", "invalid_type"),
        ("retrospective_incident_options.slack_channel_id", "invalid_type"),
    ]);
    assert_eq!(faults, wanted, "all at once");
    let unlabelled = {
        let mut connection = surgegate.connect();
        let fields = [&*format!("Authorization: Bearer {A}"), "Content-Type: text/xml"];
        connection.send(request("POST", "/v2/incidents", &fields, "<x/>")).unwrap();
        connection.answer().unwrap()
    };
    check(&unlabelled, 415, "bad_request", "unsupported_media_type");
    drop(surgegate);

    let surgegate = Surgegate::start(&[&slow]);
    let mut limited = None;
    wait_until("a 429", || {
        let answer = get(&surgegate, "/v1/identity", A);
        limited = (answer.status == 429).then_some(answer);
        limited.is_some()
    });
    let answer = limited.unwrap();
    check(&answer, 429, "too_many_requests", "too_many_requests");
    let limit = &answer.json()["rate_limit"];
    assert_eq!((&limit["name"], &limit["limit"], &limit["remaining"]), (&json!("a"), &json!(120), &json!(0)));
    assert!(limit["retry_after"].as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z')), "{limit}");
    assert!(
        answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0))
    );
    assert_eq!(answer.header("x-ratelimit-limit"), Some("120, 120;window=60"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    assert!(answer.header("x-ratelimit-used").is_some() && answer.header("x-ratelimit-reset").is_some());
}

/// `dedup.idempotency_ttl`, a day at least: the clock is set forward for the process alone.
#[test]
fn a_key_creates_anew_when_its_time_has_passed() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&two(&recorder), "dedup: { idempotency_ttl: 1d }\n"]);
    let post = |surgegate: &Surgegate| {
        let answer = ask(surgegate, "POST", "/v2/incidents", A, &create("k1", "x"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        (answer.outcome().to_owned(), answer.json()["incident"]["id"].clone())
    };
    let (outcome, first) = post(&surgegate);
    assert_eq!(outcome, "created");
    let later = |surgegate: &mut Surgegate, offset: &str| {
        surgegate.stop();
        surgegate.try_start_under(&clock_set(offset)).unwrap();
        surgegate.wait_until_ready();
    };
    later(&mut surgegate, "+23h");
    assert_eq!(post(&surgegate), ("replayed".to_owned(), first.clone()));
    later(&mut surgegate, "+25h");
    let (outcome, second) = post(&surgegate);
    assert_eq!(outcome, "created");
    assert_ne!(second, first);
    assert_eq!(post(&surgegate), ("replayed".to_owned(), second), "a day from now");
}

#[test]
fn a_severity_is_demanded_but_where_one_is_configured_or_none_is_known_yet() {
    let recorder = Recorder::start();
    let default = format!("    default_severity_id: {MAJOR}\n{ACCOUNT}");
    let integrations = integration("a", A, ACCOUNT) + &integration("b", B, &default);
    let upstreams = format!("upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n", recorder.url());
    let surgegate = Surgegate::start(&[&format!("integrations:\n{integrations}{upstreams}")]);
    let post = |key: &str, path: &str, more: Value| {
        let mut body = json!({ "idempotency_key": more.to_string(), "visibility": "private" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(&surgegate, "POST", path, key, &body.to_string())
    };
    let early = post(A, "/v1/incidents", json!({}));
    assert_eq!((early.status, &early.json()["incident"]["status"]), (200, &json!("triage")));
    assert_eq!(post(A, "/v1/incidents", json!({ "status": "declined" })).status, 200);
    assert_eq!(post(A, "/v1/incidents", json!({ "status": "fixing" })).status, 422);
    assert_eq!(post(A, "/v2/incidents", json!({})).status, 422);
    let triage = post(A, "/v2/incidents", json!({ "incident_status_id": "01FCNDV6P870EA6S7TK1DSYDTT" }));
    assert_eq!((triage.status, &triage.json()["incident"]["incident_status"]["category"]), (200, &json!("triage")));
    let defaulted = post(B, "/v2/incidents", json!({ "name": "n" }));
    assert_eq!((defaulted.status, &defaulted.json()["incident"]["severity"]["name"]), (200, &json!("Major")));
    // A status that nobody configured is kept as it came; a severity that nobody configured is refused.
    let unknown = post(A, "/v2/incidents", json!({ "incident_status_id": "x", "severity_id": MINOR }));
    let status = unknown.json()["incident"]["incident_status"].clone();
    assert_eq!((unknown.status, &status["id"], &status["category"]), (200, &json!("x"), &json!("live")));
    assert_eq!(post(A, "/v2/incidents", json!({ "incident_status_id": "y", "severity_id": "z" })).status, 422);
    // None was asked for.
    assert_eq!(defaulted.json()["incident"]["incident_status"]["id"], "");
}
