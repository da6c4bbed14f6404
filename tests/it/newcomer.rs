//! What a newcomer's first requests are answered: each says in plain words what to do next, and repeats nothing of a key.

use crate::harness::{Answer, KEY, PATH, Recorder, Surgegate, request, standard};

fn ask(surgegate: &Surgegate, method: &str, path: &str, kind: &str, body: &str) -> Answer {
    let mut connection = surgegate.connect();
    let field = format!("Content-Type: {kind}");
    let fields: &[&str] = if kind.is_empty() { &[] } else { &[&field] };
    connection.send(request(method, path, fields, body)).unwrap();
    connection.answer().unwrap()
}

#[test]
fn a_first_request_that_is_wrong_is_told_what_to_do() {
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let unknown = PATH.replace("5ca1ab1e", "deadbeef");
    let misspelt = PATH.replace("/incidents/", "/incident/");
    let large = "x".repeat(30_721);
    let large = format!(r#"{{"message":"{large}"}}"#);
    for (method, path, kind, body, status, told) in [
        ("POST", "/", JSON, "{}", 404, "POST to /v2/incidents/api/KEY"),
        ("POST", misspelt.as_str(), JSON, "{}", 404, "no such path: "),
        ("GET", PATH, "", "", 405, "use POST"),
        ("POST", unknown.as_str(), JSON, "{}", 404, "unknown key or path"),
        ("POST", PATH, "text/xml", "<a/>", 415, "send a body of JSON with Content-Type: application/json"),
        ("POST", PATH, FORM, "message=disk full", 415, "send a body of JSON with Content-Type: application/json"),
        ("POST", PATH, FORM, "", 400, "the body is empty"),
        ("POST", PATH, JSON, large.as_str(), 413, "the body is larger than 30720 bytes"),
        ("POST", PATH, JSON, r#"{"message":"#, 400, "line 1, column 11: it ends too early"),
        ("POST", PATH, JSON, "{'message':'m'}", 400, "line 1, column 2: a name in double quotes belongs here"),
        ("POST", PATH, JSON, r#"{"message":"m",}"#, 400, "line 1, column 16: a name in double quotes belongs here"),
        ("POST", PATH, JSON, "[]", 400, "must be a JSON object"),
        ("POST", PATH, JSON, r#"{"msg":"m"}"#, 400, "message: is required on trigger"),
        (
            "POST",
            PATH,
            JSON,
            r#"{"message":"m","description":"","status":"opened"}"#,
            400,
            r#"status: must be \"trigger\" or \"resolve\""#,
        ),
    ] {
        let answer = ask(&surgegate, method, path, kind, body);
        let text = answer.text();
        assert_eq!(answer.status, status, "{method} {path} {body:.40}: {text}");
        assert!(text.contains(told), "{method} {path} {body:.40}: {text}");
        assert!(!text.contains(KEY) && !text.contains("deadbeef"), "a key is in {text}");
    }
    // Without a label, as `curl -d` sends it, JSON is JSON.
    assert_eq!(ask(&surgegate, "POST", PATH, FORM, r#"{"message":"m","description":"d"}"#).status, 202);
}
