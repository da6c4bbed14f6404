//! What a body of any shape says, guessed and by a mapping.

use super::*;
use crate::dialect::hooks::tests::{Heard, hear, plainly};
use crate::gate::{Fields, Mapping, Settings};

fn mapped(fields: Fields, body: &str) -> Result<Heard, String> {
    let settings = Settings { generic: Some(Mapping::new(fields)), ..Settings::default() };
    hear(&Generic, &settings, body.as_bytes(), None).map(Option::unwrap)
}

fn texts(pointers: &[&str]) -> Vec<String> {
    pointers.iter().map(|pointer| (*pointer).to_owned()).collect()
}

#[test]
fn a_guess_takes_the_first_member_that_says_something() {
    let body = r#"{"title":" ","summary":"s","message":"m","body":"b","status":"odd","state":"OK","alias":7,
        "severity":"9","priority":"P2","link":"http://x","hostname":"h","labels":{"a":1,"b":[2],"c":null},"more":{"x":1.50}}"#;
    let heard = plainly(&Generic, body).unwrap().unwrap();
    assert_eq!((heard.judged.action, heard.key(), heard.level()), (Action::Resolve, Some("7"), Some(4)));
    assert_eq!((heard.content.title.as_deref(), heard.content.source.as_deref()), (Some("s"), Some("h")));
    assert_eq!(heard.tags(), ["a=1", "b=[2]"]);
    assert_eq!(heard.extra, ["title", "message", "status", "severity", "more"]);
}

#[test]
fn a_trigger_needs_a_title_and_everything_else_a_key() {
    assert!(plainly(&Generic, r#"{"foo":"bar"}"#).err().unwrap().starts_with("title: "));
    assert_eq!(
        plainly(&Generic, r#"{"details":"\n first\nsecond"}"#).unwrap().unwrap().content.title.as_deref(),
        Some("first")
    );
    for word in ["resolved", "acknowledged", "Closed"] {
        assert!(
            plainly(&Generic, &format!(r#"{{"title":"t","status":"{word}"}}"#)).err().unwrap().starts_with("key: ")
        );
    }
    for key in ["[]", "{}", "true"] {
        assert!(plainly(&Generic, &format!(r#"{{"title":"t","id":{key}}}"#)).is_err(), "{key}");
    }
}

#[test]
fn a_mapping_reads_by_pointers_and_its_own_words() {
    let fields = Fields {
        title: texts(&["/alert/none", "/alert/name"]),
        action: texts(&["/st"]),
        key: texts(&["/ids/1"]),
        severity: texts(&["/alert/prio"]),
        tags: texts(&["/alert/labels"]),
        started_at: texts(&["/at"]),
        actions: vec![("Kaputt".into(), "trigger".into()), ("heil".into(), "resolve".into())],
        severities: vec![("1".into(), 5)],
        ..Fields::default()
    };
    let body = r#"{"alert":{"name":"disk","prio":1,"labels":{"n":1.50}},"st":"KAPUTT","ids":["a",9007199254740993],
        "at":1772359331315,"title":"no"}"#;
    let heard = mapped(fields.clone(), body).unwrap();
    assert_eq!((heard.judged.action, heard.key(), heard.level()), (Action::Trigger, Some("9007199254740993"), Some(5)));
    assert_eq!(heard.content.title.as_deref(), Some("disk"));
    assert_eq!(heard.content.started_at.unwrap().to_string(), "2026-03-01T10:02:11.315000Z");
    assert_eq!(heard.tags(), ["n=1.50"]);
    assert_eq!(heard.extra, ["alert", "ids", "title"], "what is read out of a member leaves it where it stands");
    assert_eq!(mapped(fields.clone(), r#"{"st":"heil","ids":[0,"k"]}"#).unwrap().judged.action, Action::Resolve);
    assert!(mapped(fields.clone(), r#"{"alert":{"name":"x"},"st":"huh"}"#).err().unwrap().contains("does not know"));
    let lenient = Fields { default_action: Some("trigger".into()), default_title: Some("t".into()), ..fields };
    assert_eq!(mapped(lenient, r#"{"st":"huh"}"#).unwrap().content.title.as_deref(), Some("t"));
}
