//! The ingest routes as a document (OpenAPI 3.1), made from the dialects: their table of routes says methods, paths, keys and
//! statuses, and the forms of errors are taken from what they answer. Kept as `docs/ingest-api.json`.

mod examples;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answered, text};
use crate::dialect::{Credentials, DIALECTS, Dialect, Route, Scheme, Takes};
use crate::outcome::{Class, Reason, Refusal};

/// Default limits of a body (contracts 1).
const EVENT_BYTES: u64 = 30_720;
const BATCH_BYTES: u64 = 4_194_304;

pub(super) fn answer() -> Answered {
    // Made once: it is long, and whoever reads may ask for it.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    text(StatusCode::OK, "application/json", TEXT.clone())
}

/// The words in braces of a path.
fn words(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// Whether a request to it says something, and may so be asked for what it would come to.
fn states(route: &Route) -> bool {
    !route.reads && matches!(route.method, "POST" | "PUT")
}

/// Attributes of an event whose data stands alone in the body (binary mode), and what a delivery is asked leave with.
fn head(dialect: &dyn Dialect, route: &Route) -> Vec<Value> {
    let field = |name: &str, about: &str| json!({ "name": name, "in": "header", "required": false, "schema": { "type": "string" }, "description": about });
    match (dialect.name(), route.method) {
        ("cloudevents", "OPTIONS") => vec![field("WebHook-Request-Origin", "Who asks whether it may deliver.")],
        ("cloudevents", _) => ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time"]
            .map(|name| field(name, "Binary mode: the attribute, where the body is the data alone."))
            .to_vec(),
        _ => Vec::new(),
    }
}

fn parameters(dialect: &dyn Dialect, route: &Route) -> Vec<Value> {
    let path = words(route.path).map(|name| {
        let about = if name == "key" { "The integration's key." } else { "As the vendor's own API has it." };
        json!({ "name": name, "in": "path", "required": true, "description": about,
            "schema": { "type": "string", "minLength": 1, "pattern": "^[^/]+$" } })
    });
    let token = matches!(route.credentials, Credentials::Source).then(|| {
        json!({ "name": "token", "in": "query", "required": false, "schema": { "type": "string" },
            "description": "The alert source's secret, where it stands in no header." })
    });
    let dry_run = states(route).then(|| {
        json!({ "name": "dry_run", "in": "query", "required": false, "schema": { "enum": ["1", "true", "0"] },
            "description": "`1`: what the request would come to is answered, and nothing happens." })
    });
    path.chain(token).chain(dry_run).chain(head(dialect, route)).collect()
}

/// Names of the security schemes that a route takes; each alone is enough. Where the key stands in path or body: none.
fn security(route: &Route) -> Vec<Value> {
    let named = |scheme: &Scheme| {
        let name = match scheme {
            Scheme::Bearer => "bearer",
            Scheme::Basic => "basic",
            Scheme::Token => "token",
            Scheme::GenieKey => "genieKey",
        };
        json!({ name: [] })
    };
    match route.credentials {
        Credentials::Header(schemes) => schemes.iter().map(named).collect(),
        Credentials::PathOrHeader(schemes) => [json!({})].into_iter().chain(schemes.iter().map(named)).collect(),
        Credentials::Source => vec![json!({ "bearer": [] }), json!({ "basic": [] }), json!({})],
        Credentials::Path | Credentials::Body(_) => vec![json!({})],
    }
}

/// What an error of the dialect has at least: taken from one that it made.
fn error_schema(dialect: &dyn Dialect) -> Value {
    let mut required: Option<Vec<String>> = None;
    let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for reason in Reason::all() {
        for errors in [vec![], vec!["member: reason".to_owned()]] {
            let refusal = Refusal::new(reason, "message").with_errors(errors);
            let body: Value = serde_json::from_slice(&dialect.error(&refusal, "0")).unwrap_or_default();
            let members = body.as_object().cloned().unwrap_or_default();
            let there = |name: &String| members.contains_key(name);
            required = Some(match required {
                None => members.keys().cloned().collect(),
                Some(known) => known.into_iter().filter(there).collect(),
            });
            for (name, value) in &members {
                let known = kinds.entry(name.clone()).or_default();
                let kind = kind_of(value);
                if !known.contains(&kind) {
                    known.push(kind);
                }
            }
        }
    }
    let properties: Map<String, Value> =
        kinds.into_iter().map(|(name, kinds)| (name, json!({ "type": kinds }))).collect();
    json!({ "type": "object", "required": required.unwrap_or_default(), "properties": properties })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Statuses that a request to this route may be refused with, and why.
fn refusals(dialect: &dyn Dialect, route: &Route) -> BTreeMap<u16, Vec<&'static str>> {
    let mut all: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    let by_header = matches!(route.credentials, Credentials::Header(_));
    let in_path = matches!(route.credentials, Credentials::Path | Credentials::PathOrHeader(_));
    // A head that cannot be read, or is too large, is answered before anybody knows whom it is for: in no dialect's form.
    let is_of_a_route = |reason: &Reason| {
        *reason != Reason::InvalidHead
            && !matches!(reason.class(), Class::NoRoute | Class::WrongMethod | Class::HeadTooLarge)
    };
    for reason in Reason::all().filter(is_of_a_route) {
        let status = match reason {
            Reason::UnknownKey if by_header => StatusCode::UNAUTHORIZED,
            Reason::UnknownKey if in_path => StatusCode::NOT_FOUND,
            Reason::InvalidSignature => StatusCode::UNAUTHORIZED,
            reason => dialect.status(reason.class()),
        };
        all.entry(status.as_u16()).or_default().push(reason.label());
    }
    if matches!(route.credentials, Credentials::Source) {
        // A source that nobody has, or of another kind.
        all.entry(dialect.status(Class::NoRoute).as_u16()).or_default().push(Reason::NoRoute.label());
    }
    all
}

fn body(dialect: &dyn Dialect, route: &Route) -> Option<Value> {
    let (schema, bytes) = match route.takes {
        Takes::Nothing => return None,
        Takes::Batch => (json!({ "type": ["object", "array"] }), BATCH_BYTES),
        Takes::One | Takes::Perhaps => (json!({ "type": "object" }), EVENT_BYTES),
    };
    let kinds = match dialect.name() {
        "cloudevents" => {
            &["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"][..]
        }
        "datadog" => &["application/json", "application/x-www-form-urlencoded"],
        "zabbix" => &["application/json", "text/plain"],
        "sns" => &["text/plain", "application/json"],
        _ => &["application/json"],
    };
    let content: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            let is_text = kind.starts_with("text/") && dialect.name() != "cloudevents";
            let schema = if is_text { json!({ "type": "string" }) } else { schema.clone() };
            let mut media = json!({ "schema": schema });
            let is_json = kind.ends_with("json") && !kind.contains("batch");
            if let Some(example) = examples::of(dialect.name(), route.path).filter(|_| is_json) {
                media["example"] = example;
            }
            ((*kind).to_owned(), media)
        })
        .collect();
    let about = format!(
        "At most {bytes} bytes, decoded, unless the configuration says otherwise; `Content-Encoding: gzip` is read."
    );
    Some(json!({ "required": route.takes != Takes::Perhaps, "description": about, "content": content }))
}

fn operation(dialect: &dyn Dialect, route: &Route, id: String) -> Value {
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let error = json!({ "$ref": format!("#/components/schemas/{}Error", dialect.name()) });
    let mut responses = Map::new();
    for (status, reasons) in refusals(dialect, route) {
        let reasons: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
        let described = format!("Refused: {}.", reasons.join(", "));
        responses.insert(status.to_string(), json!({ "description": described, "content": json_of(error.clone()) }));
    }
    let said = if route.reads { "What is known." } else { "Taken: durable before the answer." };
    let mut success: Vec<u16> = vec![route.success];
    if dialect.name() == "squadcast" && !route.reads {
        // The integration may choose.
        success.extend([200, 201]);
    }
    for status in success {
        let mut schema = json!({ "type": ["object", "array"] });
        if states(route) {
            let kinds = ["object", "array"].map(|kind| json!({ "type": kind }));
            schema = json!({ "anyOf": [{ "$ref": "#/components/schemas/DryRun" }, kinds[0], kinds[1]] });
        }
        responses.insert(status.to_string(), json!({ "description": said, "content": json_of(schema) }));
    }
    let mut operation = json!({ "operationId": id, "tags": [dialect.name()], "security": security(route) });
    if let Some(members) = operation.as_object_mut() {
        let parameters = parameters(dialect, route);
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(body) = body(dialect, route) {
            members.insert("requestBody".to_owned(), body);
        }
        if let Credentials::Body(member) = route.credentials {
            members.insert("description".to_owned(), format!("The key is the body's `{member}`.").into());
        }
        members.insert("responses".to_owned(), responses.into());
    }
    operation
}

/// What `dry_run` is answered with.
fn dry_run() -> Value {
    let text = json!({ "type": ["string", "null"] });
    let event = json!({ "type": "object", "description": "What it would come to; `rejected` and its reasons where it would be refused alone.",
        "properties": {
            "outcome": { "type": "string" }, "action": text.clone(), "key": text,
            "upstreams": { "type": "array", "items": { "type": "string" } },
            "incident": { "type": ["object", "null"] }, "event": { "type": "object" },
            "warnings": { "type": "array" }, "rejected": { "type": "array", "items": { "type": "string" } },
        } });
    json!({ "type": "object", "required": ["dry_run", "events"],
        "properties": { "dry_run": { "const": true }, "events": { "type": "array", "items": event } } })
}

/// The whole document.
fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert("DryRun".to_owned(), dry_run());
    for dialect in DIALECTS {
        schemas.insert(format!("{}Error", dialect.name()), error_schema(*dialect));
        for route in dialect.routes() {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            let method = route.method.to_ascii_lowercase();
            let id = format!("{}:{method}:{}", dialect.name(), route.path);
            if let Some(operations) = path.as_object_mut() {
                operations.insert(method, operation(*dialect, route, id));
            }
        }
    }
    let key = |prefix: &str| json!({ "type": "apiKey", "in": "header", "name": "Authorization", "description": format!("`{prefix} KEY`") });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Surgegate ingest API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "What senders send, in the dialect that they already speak. Every answer carries `X-Request-Id`, and \
                            `X-Surgegate-Outcome` where events were taken; 429 and 503 carry `Retry-After`. A wrong method is \
                            answered 405 with `Allow`, a path that nobody serves 404.",
        },
        "servers": [{ "url": "http://127.0.0.1:8080" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic", "description": "The key is the password." },
                "token": key("token"),
                "genieKey": key("GenieKey"),
            },
            "schemas": schemas,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_of_the_ingest_routes_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ingest-api.json");
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("SURGEGATE_REGENERATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "docs/ingest-api.json is old: SURGEGATE_REGENERATE=1 cargo test the_document_of_the_ingest"
        );
    }

    #[test]
    fn every_route_is_an_operation_of_its_own() {
        let document = document();
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        let routes: usize = DIALECTS.iter().map(|dialect| dialect.routes().len()).sum();
        assert_eq!(operations, routes);
        assert_eq!(document["components"]["schemas"].as_object().unwrap().len(), DIALECTS.len() + 1, "and the dry run");
    }
}
