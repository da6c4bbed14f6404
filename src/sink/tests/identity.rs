//! Encoded anew for a vendor and read again, what a sender of that vendor's said is the same: of Squadcast and TaskCall.
//! The other dialects with a sink have such a test beside their sink or decoder.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::dialect;

/// What a body says, and what it says when the sink has written it anew.
fn both(dialect: &'static str, endpoint: &'static str, kind: Kind, raw: &str) -> [(Content<'static>, Vec<String>); 2] {
    let event = Event {
        dialect: dialect.into(),
        family: dialect.into(),
        endpoint: endpoint.into(),
        ..samples::event(Action::Trigger, Some("disk"), raw)
    };
    let read = |event: &Event| {
        let reread = dialect::reread(event).unwrap();
        let mut extra: Vec<_> = reread.extra.iter().map(|(name, json)| format!("{name}={}", json.get())).collect();
        extra.sort();
        (Content { warnings: Vec::new(), ..reread.content }, extra)
    };
    let before = read(&event);
    let stored =
        samples::stored(1, Event { severity: before.0.severity, ..event }, Some(samples::incident(1, State::Open)));
    let said =
        dialect::reread(&stored.event).map(|reread| Said { content: reread.content, extra: reread.extra }).unwrap();
    let mut upstream = UpstreamConfig { mode: Mode::Normalized, ..samples::upstream("up", kind) };
    upstream.vendor.service_ref_id = Some("SRV".into());
    let encoded = of(kind).unwrap().encode(&samples::ask(&stored, &said, &upstream)).unwrap();
    assert!(encoded.cut.is_empty() && encoded.then.is_empty(), "within the vendor's limits");
    let again = Event { raw: encoded.call.body, ..stored.event.clone() };
    [before, read(&again)]
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äß\u{1F600}\"\\\\/][a-zA-Z0-9 äß\u{1F600}\"\\\\/\n]{0,30}"
}

proptest! {
    #[test]
    fn a_squadcast_trigger_is_read_as_it_was(
        message in word(),
        description in word(),
        priority in prop::option::of(1_u8..=5),
        tags in prop::collection::btree_map("t_[a-z0-9_]{1,8}", (word(), prop::option::of("#[0-9A-F]{6}")), 0..6),
        more in prop::collection::btree_map("x_[a-z]{1,6}", prop_oneof![any::<i32>().prop_map(Value::from), word().prop_map(Value::from)], 0..3),
    ) {
        let mut body = json!({ "message": message, "description": description, "event_id": "disk", "status": "trigger" });
        let members = body.as_object_mut().unwrap();
        if let Some(level) = priority {
            members.insert("priority".into(), format!("P{level}").into());
        }
        let tag = |(name, (value, color)): (String, (String, Option<String>))| {
            let mut tag = json!({ "value": value });
            // A tag without a colour gets the vendor's default when it is sent.
            tag["color"] = color.unwrap_or_else(|| "#808080".into()).into();
            (name, tag)
        };
        members.insert("tags".into(), Value::Object(tags.into_iter().map(tag).collect::<Map<_, _>>()));
        members.extend(more);
        let [before, after] = both("squadcast", "v2/incidents/api", Kind::Squadcast, &body.to_string());
        prop_assert_eq!(&before.0, &after.0, "{}", body);
    }

    #[test]
    fn a_taskcall_create_is_read_as_it_was(
        title in word(),
        description in prop::option::of(word()),
        urgency in prop::option::of(1_u8..=5),
        note in prop::option::of(word()),
        tags in prop::collection::vec("[a-z][a-z0-9-]{0,12}", 0..5),
        users in prop::collection::vec("[a-z]{1,8}", 1..4),
    ) {
        let mut body = json!({ "title": title, "users": users, "dedup_key": "disk" });
        let members = body.as_object_mut().unwrap();
        members.extend(description.map(|text| ("description".to_owned(), text.into())));
        members.extend(urgency.map(|level| ("urgency_level".to_owned(), level.into())));
        members.extend(note.map(|text| ("notes".to_owned(), text.into())));
        let tags: std::collections::BTreeSet<_> = tags.into_iter().collect();
        members.insert("tags".into(), tags.into_iter().collect::<Vec<_>>().into());
        let [before, after] = both("taskcall", "create", Kind::TaskCall, &body.to_string());
        prop_assert_eq!(&before.0, &after.0, "{}", body);
        prop_assert_eq!(before.1, after.1, "{}", body);
    }
}
