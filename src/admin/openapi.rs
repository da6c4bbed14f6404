//! The admin API's own document (OpenAPI 3.1), made from the table of routes and the schemas; kept as
//! `docs/admin-api.json` with a short reference for people, `docs/admin-api.md`.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::query::Parameter;
use super::routes::{ROUTES, Route};
use super::{Answered, schemas, text};

pub(super) fn answer() -> Answered {
    // Made once: it is long, and whoever reads may ask for it.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    text(StatusCode::OK, "application/json", TEXT.clone())
}

/// Answers that any operation may give beside its own.
fn common(route: &Route) -> Vec<(u16, &'static str)> {
    let writes = route.verb.writes();
    let mut all = vec![(400, "Error"), (403, "Error")];
    all.extend(writes.then_some((401, "Error")));
    all
}

fn about(status: u16) -> &'static str {
    match status {
        200 => "Done.",
        400 => "A parameter is unknown, missing or has no such value.",
        401 => "The token is missing or wrong.",
        403 => "Not from here: see who may write.",
        404 => "There is no such thing.",
        409 => "Not as things stand now.",
        422 => "The configuration is invalid: the one before stays in force.",
        503 => "Not just now.",
        _ => "Another answer.",
    }
}

fn parameter(route: &Route, parameter: &Parameter) -> Value {
    let Parameter { name, kind, required, about } = parameter;
    let place = if route.path.contains(&format!("{{{name}}}")) { "path" } else { "query" };
    json!({ "name": name, "in": place, "required": required, "description": about, "schema": kind.schema() })
}

fn operation(route: &Route) -> Value {
    let mut answers: Vec<_> = route.answers.iter().copied().chain(common(route)).collect();
    answers.sort_unstable();
    let answers: Map<String, Value> = answers
        .into_iter()
        .map(|(status, schema)| {
            // Each event of a stream is one decision, or one part of the page.
            let kind = if matches!(schema, "Decision" | "Part") { "text/event-stream" } else { "application/json" };
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            (status.to_string(), json!({ "description": about(status), "content": { kind: { "schema": schema } } }))
        })
        .collect();
    let parameters: Vec<Value> = route.parameters.iter().copied().flatten().map(|one| parameter(route, one)).collect();
    let mut operation = json!({ "operationId": route.id, "summary": route.summary });
    if let Some(members) = operation.as_object_mut() {
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(schema) = route.body {
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            let body = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
            members.insert("requestBody".to_owned(), body);
        }
        members.insert("responses".to_owned(), answers.into());
        if route.verb.writes() {
            // The second: none, over loopback where no token is configured.
            members.insert("security".to_owned(), json!([{ "token": [] }, {}]));
        }
    }
    operation
}

/// The whole document.
fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(operations) = path.as_object_mut() {
            operations.insert(route.verb.name().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Surgegate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "On `listen.admin`. Reads need no token; writes need the one of `listen.admin.token_file`, or \
                            loopback where there is none. Unknown parameters are refused.",
        },
        "servers": [{ "url": "http://127.0.0.1:9465" }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas::all(),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// The reference for people.
    fn reference() -> String {
        let mut text = String::from(
            "# Admin API\n\nMade from the table that the proxy dispatches by; `docs/admin-api.json` is the same as OpenAPI 3.1, \
             and so is\n`GET /api/v1/openapi.json` of a running proxy.\n\nOn `listen.admin`, 127.0.0.1:9465 unless set. Reads need no \
             token. Writes need `Authorization: Bearer` with the token of\n`listen.admin.token_file`; without one they are \
             taken over loopback alone, and from no foreign web page. Each write is a log\nline with the target `audit`. \
             Values are percent-encoded; an unknown parameter is refused. Errors are\n`{\"status\":\"error\",\"message\":\"...\"}`.\n",
        );
        for route in ROUTES {
            write!(text, "\n## {} {}\n\n{}\n", route.verb.name(), route.path, route.summary).unwrap();
            let mut parameters = route.parameters.iter().copied().flatten().peekable();
            if parameters.peek().is_some() {
                text.push_str("\n| parameter | what |\n| --- | --- |\n");
            }
            for Parameter { name, required, about, kind } in parameters {
                let needed = if *required { ", required" } else { "" };
                let words = kind.schema()["enum"].as_array().map_or_else(String::new, |words| {
                    let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect();
                    format!(" One of {}.", words.join(", "))
                });
                writeln!(text, "| `{name}`{needed} | {about}{words} |").unwrap();
            }
            if let Some(schema) = route.body {
                write!(text, "\nTakes a body: JSON, `{schema}`.\n").unwrap();
            }
            let answers: Vec<_> = route.answers.iter().map(|(status, schema)| format!("{status} `{schema}`")).collect();
            write!(text, "\nAnswers: {}.\n", answers.join(", ")).unwrap();
        }
        text
    }

    #[test]
    fn the_documents_are_current() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let document = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        for (name, text) in [("admin-api.json", document), ("admin-api.md", reference())] {
            let path = docs.join(name);
            if std::env::var_os("SURGEGATE_REGENERATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "docs/{name} is old: SURGEGATE_REGENERATE=1 cargo test the_documents_are_current");
        }
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_the_document_refers_to_is_there_and_is_used() {
        let document = document();
        let mut found = vec![];
        references(&document, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} is used nowhere");
        }
    }

    #[test]
    fn every_parameter_of_a_path_is_described_and_names_are_given_once() {
        let mut ids = vec![];
        for route in ROUTES {
            ids.push(route.id);
            let names: Vec<_> = route.parameters.iter().copied().flatten().map(|one| one.name).collect();
            let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            for name in in_path {
                let known = route.parameters.iter().copied().flatten().find(|one| one.name == name);
                assert!(known.is_some_and(|one| one.required), "{name} of {}", route.path);
            }
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), names.len(), "{}", route.path);
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
