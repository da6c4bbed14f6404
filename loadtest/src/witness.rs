//! Reads what arrives behind the proxy and writes it into the ledger: each normalized event is known by the mark in its
//! raw body, and held against what the scenario sent: key, action, integration, dialect and every byte of the body.
//! Called by [`crate::upstream`] for each delivery, on its thread.

use std::borrow::Cow;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use crate::dialect::{Context, Dialect, Template, event_id, mark_of};
use crate::ledger::{Given, Ledger, Statement};

/// What a source sends, as far as the witness must know it.
#[derive(Debug)]
pub struct Expected {
    pub dialect: &'static Dialect,
    pub trigger: Template,
    pub resolve: Template,
    pub text_bytes: usize,
    /// Of a server that stands somewhere the integrations' names are not known.
    pub integrations: Option<Vec<String>>,
    pub keys: Arc<[String]>,
}

/// See the module.
pub struct Witness {
    run: u32,
    sources: Vec<Option<Expected>>,
    ledger: Arc<Mutex<Ledger>>,
}

/// The members of a normalized event that are looked at.
#[derive(Deserialize)]
struct Normalized<'a> {
    #[serde(borrow)]
    event_uid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    integration: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dialect: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    raw: Option<Cow<'a, str>>,
}

impl Witness {
    #[must_use]
    pub fn new(run: u32, sources: Vec<Option<Expected>>, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self { run, sources, ledger }
    }

    /// One request arrived, with an event or an array of them, and gets this answer.
    pub fn see(&self, body: &[u8], given: Given) {
        let now = Instant::now();
        let is_batch = body.trim_ascii_start().first() == Some(&b'[');
        let events: Vec<Normalized<'_>> = if is_batch {
            serde_json::from_slice(body).unwrap_or_default()
        } else {
            serde_json::from_slice(body).map(|event| vec![event]).unwrap_or_default()
        };
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if events.is_empty() && !(is_batch && body.trim_ascii() == b"[]") {
            ledger.foreign();
        }
        for event in &events {
            self.enter(&mut ledger, event, given, now);
        }
    }

    fn enter(&self, ledger: &mut Ledger, event: &Normalized<'_>, given: Given, now: Instant) {
        let raw = event.raw.as_deref().unwrap_or_default();
        let number = mark_of(raw.as_bytes(), self.run);
        let Some((number, statement)) = number.and_then(|number| Some((number, ledger.statement(number)?))) else {
            ledger.foreign();
            return;
        };
        // Every arrival counts for what is right or wrong with it, taken or not: but once is enough.
        if given == Given::Taken
            && let Some(what) = self.difference(event, raw, number, statement)
        {
            let uid = event.event_uid.as_deref().unwrap_or("none");
            ledger.wrong(format!("statement {number:012x}, event_uid {uid}: {what}"));
        }
        let uid = BuildHasherDefault::<DefaultHasher>::default().hash_one(event.event_uid.as_deref()) as u32;
        ledger.arrived(number as u32, uid, given, now);
    }

    /// What is not as it was sent.
    fn difference(&self, event: &Normalized<'_>, raw: &str, number: u64, statement: Statement) -> Option<String> {
        let expected = self.sources.get(usize::from(statement.source))?.as_ref()?;
        let dialect = expected.dialect;
        if event.dialect.as_deref() != Some(dialect.id) {
            return Some(format!("dialect {:?}, sent as {}", event.dialect, dialect.id));
        }
        let action = if statement.resolve { "resolve" } else { dialect.action };
        if event.action.as_deref() != Some(action) {
            return Some(format!("action {:?}, sent as {action}", event.action));
        }
        let id = event_id(self.run, statement.key);
        if let Some(prefix) = dialect.key_prefix {
            let own = event.key.as_deref().and_then(|key| key.strip_prefix(prefix));
            if own.map(str::as_bytes) != Some(&id[..]) {
                let sent = String::from_utf8_lossy(&id);
                return Some(format!("key {:?}, sent as {prefix}{sent} by {}", event.key, dialect.id));
            }
        }
        let index = usize::from(statement.integration);
        let integration = expected.integrations.as_ref().and_then(|names| names.get(index));
        if integration.is_some_and(|name| event.integration.as_deref() != Some(name)) {
            return Some(format!("integration {:?}, sent to number {index}", event.integration));
        }
        let context = Context {
            run: self.run,
            statement: number,
            event: statement.key,
            key: expected.keys.get(index).map_or("", String::as_str),
            source: "",
            remote: None,
            text_bytes: expected.text_bytes,
        };
        let template = if statement.resolve { &expected.resolve } else { &expected.trigger };
        (!template.fits(&context, dialect.masks_key, raw.as_bytes()))
            .then(|| format!("another raw body than {} sent", dialect.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::named;

    fn witness() -> Witness {
        let dialect = named("squadcast").expect("a dialect");
        let mut ledger = Ledger::new(Instant::now()).expect("a ledger");
        let key = ledger.new_key(0);
        for resolve in [false, true] {
            let statement = ledger.state(key, 0, resolve, Instant::now());
            ledger.accepted(statement);
        }
        let expected = Expected {
            dialect,
            trigger: Template::parse(dialect.trigger),
            resolve: Template::parse(dialect.resolve.as_ref().expect("resolves").body),
            text_bytes: 10,
            integrations: Some(vec!["one".to_owned()]),
            keys: vec!["k".to_owned()].into(),
        };
        Witness::new(5, vec![Some(expected)], Arc::new(Mutex::new(ledger)))
    }

    fn event(resolve: bool, uid: &str) -> serde_json::Value {
        let dialect = named("squadcast").expect("a dialect");
        let body = if resolve { dialect.resolve.as_ref().expect("resolves").body } else { dialect.trigger };
        let mut raw = Vec::new();
        let statement = u64::from(resolve);
        let context = Context { run: 5, statement, event: 0, key: "k", source: "", remote: None, text_bytes: 10 };
        Template::parse(body).fill(&context, &mut raw);
        serde_json::json!({
            "event_uid": uid, "integration": "one", "dialect": "squadcast",
            "action": if resolve { "resolve" } else { "trigger" },
            "key": "lt-00000005-00000000", "raw": String::from_utf8(raw).expect("UTF-8"),
        })
    }

    fn see(witness: &Witness, body: &serde_json::Value) {
        witness.see(body.to_string().as_bytes(), Given::Taken);
    }

    #[test]
    fn a_faithful_delivery_is_right_and_nothing_stays_owed() {
        let witness = witness();
        see(&witness, &serde_json::json!([event(false, "u1"), event(true, "u2")]));
        let counts = witness.ledger.lock().expect("lock").counts();
        assert_eq!(
            (counts.delivered, counts.lost, counts.wrong, counts.foreign),
            (2, 0, 0, 0),
            "{:?}",
            counts.examples
        );
    }

    #[test]
    fn what_a_careless_proxy_does_is_found() {
        let witness = witness();
        see(&witness, &event(true, "u2"));
        see(&witness, &event(false, "u1"));
        see(&witness, &event(false, "u1"));
        see(&witness, &event(false, "u3"));
        see(&witness, &serde_json::json!({"event_uid": "x", "raw": "{}"}));
        witness.see(b"nonsense", Given::Taken);
        let counts = witness.ledger.lock().expect("lock").counts();
        assert_eq!((counts.reordered, counts.repeated, counts.missed_duplicates, counts.foreign), (1, 1, 1, 2));
        assert_eq!(counts.wrong, 0, "{:?}", counts.examples);
    }

    #[test]
    fn each_changed_member_is_wrong_content() {
        let changes = [("integration", "two"), ("dialect", "generic"), ("action", "resolve"), ("key", "other")];
        let witness = witness();
        for (member, value) in changes {
            let mut changed = event(false, "u1");
            changed[member] = value.into();
            see(&witness, &changed);
        }
        let mut changed = event(false, "u1");
        changed["raw"] = changed["raw"].as_str().expect("raw").replace("high", "low").into();
        see(&witness, &changed);
        let counts = witness.ledger.lock().expect("lock").counts();
        assert_eq!((counts.wrong, counts.examples["wrong"].len()), (5, 5), "{:?}", counts.examples);
    }
}
