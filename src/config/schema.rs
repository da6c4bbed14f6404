//! The table as JSON Schema, draft-07, for editors and for the values of a chart; `surgegate config schema` prints it.
//!
//! Everything stands in place, without `$ref`, so that it can be embedded under a key of another schema. A schema cannot say
//! everything: names that must exist, what keys of several sections demand of each other and the like are found by
//! `surgegate validate` alone.

use serde_json::{Map, Value, json};

use super::keys::{self, Fallback, Row, Shape};
use super::{bounds, tell, units, vendors};
use crate::dialect;
use crate::sink::Kind;

/// A text that holds a variable can become anything.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:[-?][^}]*)?\}";
const POINTER: &str = "^(/([^~]|~[01])*)+$";
const NAME: &str = "^[a-z0-9][a-z0-9-]{0,63}$";
const ADDRESS: &str = r"^(\[[0-9A-Fa-f:.]+\]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|localhost):[0-9]{1,5}$";
const NETWORK: &str = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$";
const URL: &str = r"^https?://[^/?#@\s]+([/?][^#\s]*)?$";
const REDIS: &str = r"^(rediss?|valkeys?|rediss?\+sentinel)://[^/?#\s]+(/[^?#\s]*)?$";

pub(super) fn schema() -> Value {
    let mut root = section("", false);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Surgegate configuration",
        "description": "What `surgegate validate` finds beyond this: names that do not exist, what keys demand of each other, files.",
    });
    if let (Value::Object(root), Value::Object(mut head)) = (&mut root, head) {
        head.append(root);
        *root = head;
    }
    root
}

/// A mapping. `may_be_empty`: `log:` with nothing behind it is one without keys.
fn section(path: &str, may_be_empty: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, row) in keys::of_section(path) {
        properties.insert(name.to_owned(), key(row));
        if row.default == Fallback::Required {
            required.push(name);
        }
    }
    let kind = if may_be_empty { json!(["object", "null"]) } else { json!("object") };
    let mut schema = json!({ "type": kind, "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        add(&mut schema, "required", json!(required));
    }
    for (word, rule) in rules(path) {
        add(&mut schema, word, rule);
    }
    schema
}

/// What keys demand of each other.
fn rules(path: &str) -> Vec<(&'static str, Value)> {
    let has = |key: &str| json!({ "required": [key] });
    match path {
        "integrations[].keys[]" => vec![("oneOf", json!([has("key"), has("key_file"), has("key_sha256")]))],
        "integrations[].alert_sources[]" => vec![("oneOf", json!([has("secret"), has("secret_file")]))],
        "integrations[].rate_limit" => vec![("dependencies", json!({ "burst": ["events_per_second"] }))],
        "upstreams[].responders[]" => vec![("oneOf", json!([has("id"), has("name"), has("username")]))],
        "upstreams[]" => {
            let kind = |kinds: &[&str]| json!({ "properties": { "kind": { "enum": kinds } }, "required": ["kind"] });
            let mut all = vec![
                json!({ "not": { "required": ["credential", "credential_file"] } }),
                json!({ "not": { "required": ["region", "url"] } }),
                json!({ "if": kind(&["stdout"]), "then": { "properties": { "url": false, "credential": false, "credential_file": false } } }),
                json!({ "if": kind(&["webhook", "stdout"]), "then": { "properties": { "mode": { "not": { "const": "verbatim" } } } } }),
            ];
            for of in Kind::ALL.into_iter().filter(|kind| keys::KINDS.contains(&kind.name())) {
                let useless = vendors::KEYS.iter().filter(|(_, kinds)| !kinds.contains(&of));
                let useless: Map<_, _> = useless.map(|(key, _)| ((*key).to_owned(), Value::Bool(false))).collect();
                let needed = |need: &vendors::Need| json!({ "anyOf": need.one_of.iter().map(|key| has(key)).collect::<Vec<_>>() });
                let needed: Vec<_> = vendors::needs(of).iter().map(needed).collect();
                let mut then = json!({ "properties": useless });
                if !needed.is_empty() {
                    add(&mut then, "allOf", needed.into());
                }
                all.push(json!({ "if": kind(&[of.name()]), "then": then }));
            }
            vec![("allOf", all.into())]
        }
        _ => Vec::new(),
    }
}

fn add(schema: &mut Value, word: &str, value: Value) {
    if let Value::Object(schema) = schema {
        schema.insert(word.to_owned(), value);
    }
}

fn key(row: &Row) -> Value {
    let shape = row.shape;
    let mut schema = match shape {
        Shape::Section => section(row.path, true),
        Shape::Sections(least, most) => {
            let item = section(&format!("{}[]", row.path), false);
            json!({ "type": "array", "items": item, "minItems": least, "maxItems": most })
        }
        Shape::Links => json!({ "anyOf": [
            single(shape), { "type": "array", "items": single(shape), "minItems": 1 },
        ] }),
        Shape::Dialects | Shape::Names | Shape::Networks | Shape::Texts | Shape::Pointers => {
            json!({ "type": "array", "items": single(shape), "minItems": 1 })
        }
        _ => single(shape),
    };
    let kind = tell::shape(&shape);
    let about = if kind.is_empty() { row.about.to_owned() } else { format!("{} ({kind})", row.about) };
    add(&mut schema, "description", Value::String(about));
    if let Fallback::Text(text) = row.default {
        add(&mut schema, "default", default(shape, text));
    }
    schema
}

/// One value, or a text with a variable in it.
fn single(shape: Shape) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let schema = match shape {
        Shape::Switch => json!({ "type": "boolean" }),
        Shape::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Rate(least, most) => json!({ "type": "number", "minimum": in_ones(least), "maximum": in_ones(most) }),
        Shape::Size(least, most) => {
            return json!({ "anyOf": [
                { "type": "integer", "minimum": least, "maximum": most },
                text(&bounds::pattern(&units::SIZES, (least, most), true)),
                text(VARIABLE),
            ] });
        }
        Shape::Duration(least, most) => text(&bounds::pattern(&units::DURATIONS, (least, most), false)),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Dialects => json!({ "type": "string", "enum": dialect::names().collect::<Vec<_>>() }),
        Shape::Address => text(ADDRESS),
        Shape::Name | Shape::Names => text(NAME),
        Shape::Networks => text(NETWORK),
        Shape::Url => text(URL),
        Shape::Links => text(REDIS),
        Shape::Pointers => text(POINTER),
        Shape::Digest => text("^[0-9A-Fa-f]{64}$"),
        // Any text holds its variables.
        Shape::Secret | Shape::File | Shape::Text | Shape::Texts => return json!({ "type": "string", "minLength": 1 }),
        Shape::Section | Shape::Sections(..) => return json!({}),
    };
    json!({ "anyOf": [schema, text(VARIABLE)] })
}

/// From thousandths, exactly where it is a whole number.
fn in_ones(thousandths: u64) -> Value {
    match thousandths.is_multiple_of(1000) {
        true => json!(thousandths / 1000),
        // Bounds of the table: far below where a float would lose any of it.
        false => json!(thousandths as f64 / 1000.0),
    }
}

/// A default as it would stand in JSON.
fn default(shape: Shape, text: &str) -> Value {
    let is_typed = matches!(shape, Shape::Switch | Shape::Count(..) | Shape::Rate(..) | Shape::Size(..));
    let typed = if is_typed { serde_json::from_str(text).ok() } else { None };
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}
