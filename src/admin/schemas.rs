//! What the admin API answers, as JSON Schema: for its document, and held to by the tests against the running proxy.

use super::facts::{self, Level};
use super::operate;
use serde_json::{Map, Value, json};

use crate::event::{Action, State};
use crate::outcome::{DeadReason, DropReason, Outcome, Reason};

/// An object; names with a `?` behind them may be absent. Nothing else is in it.
fn object(members: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn number() -> Value {
    json!({ "type": "number" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn words<T: Into<Value>>(all: impl IntoIterator<Item = T>) -> Value {
    json!({ "type": "string", "enum": all.into_iter().map(Into::into).collect::<Vec<Value>>() })
}

/// Something counted by name: `[name, count]` each.
fn counted() -> Value {
    list(json!({ "type": "array", "prefixItems": [text(), count()], "minItems": 2, "maxItems": 2 }))
}

fn actions() -> Value {
    words(Action::ALL.iter().filter_map(|action| serde_json::to_value(action).ok()))
}

/// Everything that the table of routes names.
pub(super) fn all() -> Value {
    let mut all = plain();
    for (name, schema) in dead_letters().into_iter().chain(events()).chain(status()) {
        all.insert(name.to_owned(), schema);
    }
    Value::Object(all)
}

fn plain() -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, schema: Value| all.insert(name.to_owned(), schema);
    put("Uid", json!({ "type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$" }));
    put("Time", json!({ "type": "string", "format": "date-time" }));
    put("Error", object(&[("status", json!({ "const": "error" })), ("message", text())]));
    put("Document", json!({ "type": "object", "required": ["openapi", "paths"] }));
    put("Part", object(&[("id", text()), ("html", text())]));
    let outcome = words(Outcome::ALL.iter().map(|outcome| outcome.name()));
    put(
        "Decision",
        object(&[
            ("at", named("Time")),
            ("request_id", text()),
            ("integration?", text()),
            ("dialect?", text()),
            ("action?", actions()),
            ("outcome?", outcome),
            ("reason?", words(Reason::all().map(Reason::label))),
            ("status", count()),
            ("key?", text()),
            ("event_uid?", named("Uid")),
        ]),
    );
    all
}

/// The members of a row, which stand in two schemas.
fn row() -> Vec<(&'static str, Value)> {
    vec![
        ("id", text()),
        ("event_uid", named("Uid")),
        ("upstream", text()),
        ("reason", words(DeadReason::ALL.iter().map(|reason| reason.name()))),
        ("status?", count()),
        ("attempts", count()),
        ("at", named("Time")),
        ("integration", text()),
        ("action?", actions()),
        ("key?", text()),
    ]
}

fn dead_letters() -> Vec<(&'static str, Value)> {
    let mut shown = row();
    shown.push(("last_answer?", text()));
    shown.push(("event?", named("Normalized")));
    vec![
        ("DeadLetters", list(object(&row()))),
        ("DeadLetterShown", object(&shown)),
        (
            "DeadLetterGroups",
            list(object(&[
                ("upstream", text()),
                ("reason", words(DeadReason::ALL.iter().map(|reason| reason.name()))),
                ("status?", count()),
                ("count", count()),
                ("oldest_at", named("Time")),
                ("newest_at", named("Time")),
                ("example_id", text()),
            ])),
        ),
        ("Replayed", object(&[("replayed", count())])),
        (
            "ReplayedMany",
            object(&[
                ("replayed", count()),
                ("refused", count()),
                ("dry_run", flag()),
                ("scheduled?", count()),
                ("given_up?", count()),
            ]),
        ),
        ("Dropped", object(&[("dropped?", count()), ("would_drop?", count()), ("dry_run?", flag())])),
    ]
}

fn events() -> Vec<(&'static str, Value)> {
    let reasons = DeadReason::ALL.iter().map(|reason| reason.name());
    let reasons: Vec<&str> = reasons.chain(DropReason::ALL.iter().map(|reason| reason.name())).collect();
    let states =
        words([State::Open, State::Acked, State::Resolved].iter().filter_map(|state| serde_json::to_value(state).ok()));
    let event = [
        ("event", named("Normalized")),
        ("incident?", named("Incident")),
        ("upstreams", list(named("AtUpstream"))),
        ("history", list(named("Step"))),
    ];
    let mut alone = event.to_vec();
    alone.push(("complete", flag()));
    vec![
        // What a sender says is the sender's: INTERFACE 5 without the body, and with the outcome.
        (
            "Normalized",
            json!({ "type": "object", "required": ["event_uid"], "properties": { "event_uid": named("Uid") } }),
        ),
        (
            "Incident",
            object(&[
                ("iid", named("Uid")),
                ("number", count()),
                ("generation", count()),
                ("state", states),
                ("severity?", count()),
                ("count", count()),
                ("last_seen", named("Time")),
                ("changed_at", named("Time")),
            ]),
        ),
        (
            "AtUpstream",
            object(&[
                ("upstream", text()),
                ("state", words(["waiting", "delivered", "dropped", "dead_letter", "unknown"])),
                ("under_way?", flag()),
                ("at?", named("Time")),
                ("status?", count()),
                ("attempts?", count()),
                ("reason?", words(reasons.iter().copied())),
                ("dead_letter_id?", text()),
                ("remote?", named("Remote")),
            ]),
        ),
        // What the upstream calls the incident.
        ("Remote", object(&[("id", text()), ("url?", text())])),
        (
            "Step",
            object(&[
                ("at", named("Time")),
                ("what", words(["received", "delivered", "dropped", "dead_letter", "replayed", "reassigned"])),
                ("upstream?", text()),
                ("to?", text()),
                ("action?", actions()),
                ("outcome?", words(Outcome::ALL.iter().map(|outcome| outcome.name()))),
                ("status?", count()),
                ("attempts?", count()),
                ("remote?", named("Remote")),
                ("reason?", words(reasons)),
            ]),
        ),
        ("Event", object(&alone)),
        (
            "Events",
            object(&[
                ("incident?", named("Incident")),
                ("events", list(object(&event))),
                ("complete", flag()),
                ("searched_since?", named("Time")),
            ]),
        ),
    ]
}

const PER_SECOND: [&str; 5] = ["received", "accepted", "absorbed", "rejected", "delivered"];

fn levels() -> Value {
    words(Level::ALL.map(Level::name))
}

fn refused() -> Value {
    let sample = object(&[
        ("at", named("Time")),
        ("integration?", text()),
        ("dialect?", text()),
        ("source", text()),
        ("status", count()),
        ("request_id", text()),
        ("message", text()),
        ("errors", list(text())),
        ("body?", text()),
    ]);
    object(&[
        ("reason", words(Reason::all().map(Reason::label))),
        ("count", count()),
        ("about", text()),
        ("instead?", text()),
        ("sample?", sample),
    ])
}

fn spool() -> Value {
    object(&[
        ("events", count()),
        ("oldest_event_age_s?", number()),
        ("bytes", count()),
        ("max_bytes", count()),
        ("free_bytes", count()),
        ("empty_in_s?", number()),
        ("full_in_s?", number()),
    ])
}

fn redis() -> Value {
    object(&[
        ("servers", text()),
        ("up", flag()),
        ("scope", words(["mirror", "shared"])),
        ("outages", count()),
        ("limiter_fallback", flag()),
        ("replica_id", count()),
        ("replica_id_taken", flag()),
    ])
}

fn status() -> Vec<(&'static str, Value)> {
    let now = object(&[
        ("name", text()),
        ("configured", flag()),
        ("waiting_events", count()),
        ("requests_in_flight", count()),
        ("dead_letters", count()),
        ("held_for_s?", number()),
        ("down", flag()),
        ("circuit", words(["closed", "half_open", "open"])),
        ("down_for_s?", number()),
        ("answer_s?", number()),
        ("next_try_in_s?", number()),
        ("last_error?", text()),
        ("last_status?", count()),
        ("oldest_event_age_s?", number()),
    ]);
    let upstream = object(&[
        ("name", text()),
        ("state", words(["fine", "failing", "held", "probing", "circuit open", "removed", "unknown"])),
        ("level", levels()),
        ("enqueued", count()),
        ("delivered", count()),
        ("dropped", count()),
        ("dead_letters", count()),
        ("dead_lettered_lately", count()),
        ("spool_events", count()),
        ("delivered_per_second", number()),
        ("empty_in_s?", number()),
        ("now?", now),
    ]);
    let last_refusal = object(&[("ago_s", number()), ("reason", words(Reason::all().map(Reason::label)))]);
    let integration = object(&[
        ("name", text()),
        ("enabled", flag()),
        ("keys", count()),
        ("upstreams", list(text())),
        ("dialects?", list(text())),
        ("events_per_second", number()),
        ("accepted", count()),
        ("absorbed", count()),
        ("rejected", count()),
        ("limited", count()),
        ("last_event_ago_s?", number()),
        ("last_refusal?", last_refusal),
    ]);
    let books = object(&[
        ("received", count()),
        ("accepted", count()),
        ("absorbed", counted()),
        ("rejected", counted()),
        ("in_flight", count()),
    ]);
    let reload = object(&[
        ("status", words(["reloaded", "invalid", "failed"])),
        ("trigger", words(["start", "signal", "api", "file"])),
        ("at", named("Time")),
        ("message?", text()),
        ("findings", list(json!({ "type": "object" }))),
    ]);
    let level = object(&[("level", words(operate::LEVELS.map(operate::name)))]);
    vec![
        ("Reload", reload),
        ("LogLevel", level),
        ("Fact", object(&[("level", levels()), ("code", words(facts::codes())), ("text", text())])),
        ("Refusals", list(refused())),
        (
            "Status",
            object(&[
                ("version", text()),
                ("build", object(&[("commit?", text()), ("rustc", text()), ("target", text())])),
                ("facts", list(named("Fact"))),
                ("uptime_s", count()),
                ("ready", flag()),
                ("not_ready?", text()),
                ("durability", words(["fsync", "memory"])),
                ("events", books),
                ("per_second", object(&PER_SECOND.map(|name| (name, number())))),
                (
                    "losses",
                    object(&[
                        ("unaccounted", count()),
                        ("damaged_records", count()),
                        ("dropped", counted()),
                        ("dead_letters", count()),
                    ]),
                ),
                ("integrations", list(integration)),
                ("refusals", named("Refusals")),
                ("upstreams", list(upstream)),
                ("spool", spool()),
                ("dedup_entries", count()),
                ("connections", count()),
                ("spool_bytes", count()),
                ("spool_damaged_records", count()),
                ("warnings", list(text())),
                ("configuration", named("Reload")),
                (
                    "certificate?",
                    object(&[("expires_at", named("Time")), ("expires_in_s", json!({ "type": "integer" }))]),
                ),
                ("redis?", redis()),
                ("descriptors?", object(&[("open", count()), ("limit", count())])),
                ("tap_listeners", count()),
                ("page_readers", count()),
            ]),
        ),
    ]
}
