//! Any bytes as a Squadcast body, on both endpoints (PROMISES I3, I4): nothing panics, accepted exactly when
//! `serde_json` accepts and the contract's rules hold, which are written here a second time; and what was accepted
//! can be answered and read again.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;
use serde_json::value::RawValue;
use surgegate::dialect::json::{self, DEPTH_MAX};
use surgegate::dialect::{self, Asked, Dialect, Ending, Replying, Rules};
use surgegate::event::{Action, Content, Event, Incident, KEY_BYTES_MAX, Key, KeyKind, Micros, State, Tolerated, Uid};
use surgegate::gate::Settings;
use surgegate::outcome::Outcome;

const PATHS: [&str; 2] = ["/v2/incidents/api/k", "/v1/incidents/create/k"];

/// What was read, as far as it is compared.
struct Read {
    action: Action,
    key: Option<Key>,
    content: Content<'static>,
    extra: Vec<String>,
}

/// Whether any endpoint accepts it.
pub(crate) fn run(body: &[u8]) -> bool {
    let mut accepted = false;
    for path in PATHS {
        for require_description in [true, false] {
            accepted |= at(path, body, Rules { require_description, judge_only: false, settings: None });
        }
    }
    accepted
}

fn at(path: &str, body: &[u8], rules: Rules<'_>) -> bool {
    let Ok(matched) = dialect::route("POST", path) else { panic!("{path} is not served") };
    let (dialect, endpoint) = (matched.dialect, matched.route.endpoint);
    let mut read = None;
    let decoded = json::with_document(body, |document| {
        dialect.decode(&Asked::at(endpoint, rules), document, &mut |said| {
            assert!(read.is_none(), "one body is one statement");
            read = Some(Read {
                action: said.judged.action,
                key: said.judged.key,
                content: said.content.into_owned(),
                extra: said.extra.iter().map(|extra| extra.name().to_owned()).collect(),
            });
        })
    });
    let expected = expected(endpoint, body, rules);
    match (decoded, read) {
        (Ok(Ok(())), Some(read)) => {
            let Some((action, key)) = expected else { panic!("accepted against the rules at {endpoint}") };
            assert_eq!((read.action, read.key.as_ref().map(Key::canon)), (action, key.as_deref()), "{endpoint}");
            replies(dialect, read.key.as_ref());
            rereads(endpoint, body, &read);
            true
        }
        (Ok(Err(faults)), None) => {
            assert!(expected.is_none(), "refused against the rules at {endpoint}: {faults:?}");
            assert!(!faults.is_empty() && faults.iter().all(|fault| fault.contains(": ")), "{faults:?}");
            false
        }
        (Err(error), None) => {
            assert!(expected.is_none(), "refused against the rules at {endpoint}: {error}");
            false
        }
        (decoded, read) => panic!("{decoded:?}, and a statement: {}", read.is_some()),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The contract's rules (contracts 2.4, 5.1; squadcast.md 2 to 4): action and key, or `None` where it must refuse.
fn expected(endpoint: &str, body: &[u8], rules: Rules<'_>) -> Option<(Action, Option<String>)> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let value: Value = serde_json::from_slice(body).ok()?;
    if depth(&value) > DEPTH_MAX {
        return None;
    }
    let root = value.as_object()?;
    let member = |name: &str| root.get(name).filter(|value| !value.is_null());
    let action = match member("status").filter(|_| endpoint.starts_with("v2")) {
        None => Action::Trigger,
        Some(status) => match status.as_str()?.trim().to_ascii_lowercase().as_str() {
            "" | "trigger" | "triggered" => Action::Trigger,
            "resolve" | "resolved" => Action::Resolve,
            _ => return None,
        },
    };
    let texts: HashMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    // `Err`: it must refuse; `Ok(None)`: there is none, or a blank one.
    let key_of = |name: &str| match member(name) {
        None => Ok(None),
        Some(value) => {
            let canon = match value {
                Value::String(text) => text.replace('\0', "\u{FFFD}"),
                Value::Number(_) => texts.get(name).map(|text| text.get().to_owned()).unwrap_or_default(),
                _ => return Err(()),
            };
            if canon.len() > KEY_BYTES_MAX { Err(()) } else { Ok(Some(canon).filter(|canon| !canon.trim().is_empty())) }
        }
    };
    let key = match key_of("event_id").ok()? {
        Some(key) => Some(key),
        None => key_of("dedup_key").ok()?,
    };
    if action == Action::Resolve {
        key.as_ref()?;
    } else {
        member("message")?.as_str().filter(|text| !text.trim().is_empty())?;
        match member("description") {
            Some(description) => drop(description.as_str()?),
            None if rules.require_description => return None,
            None => {}
        }
    }
    if let Some(tags) = member("tags") {
        tags.as_object()?;
    }
    Some((action, key))
}

/// Every answer is a JSON object that gives the key back as it came.
fn replies(dialect: &dyn Dialect, key: Option<&Key>) {
    let now = Micros(1_700_000_000_000_000);
    let incident = Incident {
        iid: Uid(7),
        number: 1024,
        generation: 1,
        state: State::Open,
        severity: None,
        count: 1,
        last_seen: now,
        changed_at: now,
    };
    for incident in [None, Some(&incident)] {
        let ending = Ending { outcome: Some(Outcome::Created), incident, key, view: None, named: None };
        let (status, body) = dialect.reply(&Replying {
            status: StatusCode::OK,
            endpoint: "v2/incidents/api",
            endings: &[ending],
            success: StatusCode::ACCEPTED,
            request_id: "r1",
            integration: "i",
            settings: &Settings::default(),
        });
        assert_eq!(status, StatusCode::ACCEPTED);
        let said: HashMap<String, &RawValue> = match serde_json::from_slice(&body) {
            Ok(said) => said,
            Err(error) => panic!("{error}: {body:?}"),
        };
        assert_eq!(said.contains_key("incident_id"), incident.is_some());
        let echoed = said.get("event_id").map(|text| text.get());
        match key {
            None => assert_eq!(echoed, None),
            Some(key) if key.kind == KeyKind::Integer => assert_eq!(echoed, Some(key.canon())),
            Some(key) => {
                let text = echoed.and_then(|text| serde_json::from_str::<String>(text).ok());
                assert_eq!(text.as_deref(), Some(key.canon()));
            }
        }
    }
}

/// The forwarder reads the stored body: it must say what was accepted.
fn rereads(endpoint: &'static str, body: &[u8], read: &Read) {
    let event = Event {
        uid: Uid(1),
        received_at: Micros(0),
        integration: "i".into(),
        dialect: Cow::Borrowed("squadcast"),
        endpoint: Cow::Borrowed(endpoint),
        family: Cow::Borrowed("squadcast"),
        action: read.action,
        key: read.key.clone(),
        severity: read.content.severity,
        target: None,
        envelope: None,
        view: None,
        trace: None,
        tolerated: Tolerated::default(),
        raw: Bytes::copy_from_slice(body),
    };
    let Some(reread) = dialect::reread(&event) else { panic!("accepted, and not read again") };
    assert!(reread.content == read.content, "read again as {:?}, not {:?}", reread.content, read.content);
    let names: Vec<_> = reread.extra.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(names, read.extra, "members are lost on the way");
}
