//! Types, spellings and bounds; what a body is once accepted it stays.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::json::with_document;
use crate::dialect::{Decoded, Judged, Rules, VIEW_BYTES_MAX};
use crate::event::{Action, Assignment, Content};
use crate::gate::Settings;

fn decode<R>(
    endpoint: &str,
    body: &str,
    settings: Option<&Settings>,
    look: impl FnOnce(Decoded<'_>) -> R,
) -> Result<R, Faults> {
    let (mut look, mut seen) = (Some(look), None);
    let asked = Asked::at(endpoint, Rules { require_description: true, judge_only: settings.is_some(), settings });
    with_document(body.as_bytes(), |document| {
        TaskCall.decode(&asked, document, &mut |said| seen = look.take().map(|look| look(said)))
    })
    .unwrap()?;
    Ok(seen.unwrap())
}

fn judged(endpoint: &str, body: &str) -> Result<Judged, Faults> {
    decode(endpoint, body, Some(&Settings::default()), |said| said.judged)
}

fn content(endpoint: &str, body: &str) -> Result<Content<'static>, Faults> {
    decode(endpoint, body, None, |said| said.content.into_owned())
}

fn faults(endpoint: &str, body: &str) -> Faults {
    judged(endpoint, body).err().unwrap_or_default()
}

/// The further member of every operation, as its JSON.
const OPERATIONS: [(&str, &str); 20] = [
    ("acknowledge", ""),
    ("resolve", ""),
    ("unacknowledge", ""),
    ("escalate", ""),
    ("reassign", r#","reassign_to":["p1","p2"]"#),
    ("snooze", r#","snooze_for":30"#),
    ("amend-urgency", r#","urgency_level":3"#),
    ("add-responders", r#","assignees":["p1"]"#),
    ("notate", r#","notes":"n""#),
    ("merge", r#","related_instance_id":7"#),
    ("unmerge", r#","task_ref_id":"t""#),
    ("add-subscribers", r#","subscribers":["u"]"#),
    ("remove-subscribers", r#","subscribers":["u"]"#),
    ("update-status", r#","status_update":"s""#),
    ("add-impact", r#","business_service_ref_id":"b""#),
    ("remove-impact", r#","business_service_ref_id":"b""#),
    ("run-response-set", r#","response_set_ref_id":"r""#),
    ("run-workflow", r#","workflow_ref_id":"w""#),
    ("edit-title", r#","title":"t""#),
    ("update-tags", r#","tags":["a"]"#),
];

#[test]
fn every_operation_has_both_its_paths_and_needs_its_member() {
    for (name, member) in OPERATIONS {
        for path in [format!("/{name}"), format!("/incidents/{name}/")] {
            let matched = crate::dialect::route("POST", &path).unwrap_or_else(|_| panic!("{path}"));
            assert_eq!((matched.dialect.name(), matched.route.endpoint), ("taskcall", name));
        }
        let body = format!(r#"{{"instance_id":12{member}}}"#);
        let target = judged(name, &body).unwrap().target.unwrap();
        assert_eq!(&*target.value, "12", "{name}");
        assert_eq!(faults(name, &body.replace("12", "null")), ["instance_id: is required"], "{name}");
        if !member.is_empty() {
            let without = faults(name, r#"{"instance_id":12}"#);
            assert!(without.len() == 1 && without[0].ends_with(": is required"), "{name}: {without:?}");
            let named = member.trim_start_matches([',', '"']).split('"').next().unwrap();
            assert!(without[0].starts_with(named), "{name}: {without:?}");
            let wrong = body.replace(member, &format!(r#","{named}":{{"a":1}}"#));
            assert!(faults(name, &wrong).iter().all(|fault| fault.starts_with(named)), "{name}");
            assert!(!faults(name, &wrong).is_empty(), "{name}");
        }
    }
}

#[test]
fn an_id_is_an_integer_in_three_spellings_and_nothing_else() {
    let id = |written: &str| judged("resolve", &format!(r#"{{"instance_id":{written}}}"#));
    for right in ["8912", "\"8912\"", "8912.0", "8.912e3"] {
        assert_eq!(&*id(right).unwrap().target.unwrap().value, "8912", "{right}");
    }
    assert_eq!(&*id("9007199254740991").unwrap().target.unwrap().value, "9007199254740991");
    for wrong in ["9007199254740992", "1e300", "0", "-1", "\"0\"", "18446744073709551615", "9007199254740993.0"] {
        assert_eq!(id(wrong).unwrap_err(), ["instance_id: must be between 1 and 9007199254740991"], "{wrong}");
    }
    for wrong in ["1.5", "\"abc\"", "\"\"", "\" 1\"", "\"1.0\"", "\"+1\"", "true", "[1]", "{}"] {
        assert_eq!(id(wrong).unwrap_err(), ["instance_id: must be an integer"], "{wrong}");
    }
}

#[test]
fn urgency_is_a_level_or_its_word_and_keeps_what_was_written() {
    let level = |written: &str| {
        let body = format!(r#"{{"title":"t","users":["u"],"urgency_level":{written}}}"#);
        content("create", &body).map(|content| content.severity.map(crate::event::Severity::level))
    };
    let said = [("1", 1), ("\"5\"", 5), ("3.0", 3), ("\"Minor\"", 1), ("\" LOW \"", 2), ("\"critical\"", 5)];
    for (written, expected) in said {
        assert_eq!(level(written), Ok(Some(expected)), "{written}");
    }
    assert_eq!(level("null"), Ok(None));
    for wrong in ["0", "6", "2.5", "true", "\"urgent\"", "\"\"", "[]", "{}"] {
        assert_eq!(level(wrong).unwrap_err(), ["urgency_level: must be 1 (minor) to 5 (critical)"], "{wrong}");
    }
    let raw = content("create", r#"{"title":"t","users":["u"],"urgency_level":"High"}"#).unwrap().severity_raw;
    assert_eq!(raw.as_deref(), Some("High"));
}

#[test]
fn an_urgency_is_amended_under_any_of_its_names_and_not_under_two_that_disagree() {
    let amended = |members: &str| {
        judged("amend-urgency", &format!(r#"{{"instance_id":1,{members}}}"#))
            .map(|judged| judged.severity.map(crate::event::Severity::level))
    };
    for name in ["urgency_level", "amend-urgency", "amend_urgency"] {
        assert_eq!(amended(&format!(r#""{name}":4"#)), Ok(Some(4)), "{name}");
        for other in ["urgency_level", "amend-urgency", "amend_urgency"] {
            let both = amended(&format!(r#""{name}":4,"{other}":"4""#));
            assert_eq!(both, Ok(Some(4)), "{name} {other}");
            let differ = amended(&format!(r#""{name}":4,"{other}":3"#));
            assert_eq!(differ.is_ok(), name == other, "{name} {other}");
        }
    }
}

#[test]
fn lists_are_tolerated_alone_and_lose_what_is_empty() {
    let users = |written: &str| {
        let body = format!(r#"{{"title":"t","service_ref_id":"s","users":{written}}}"#);
        content("create", &body).map(|content| content.assignment.unwrap().user_refs)
    };
    assert_eq!(users(r#""a""#).unwrap(), ["a"]);
    assert_eq!(users(r#"["a","","b"," "]"#).unwrap(), ["a", "b"]);
    assert!(users("null").unwrap().is_empty() && users("[]").unwrap().is_empty());
    for wrong in ["5", "{}", "[1]", r#"["a",null]"#, "true"] {
        assert_eq!(users(wrong).unwrap_err(), ["users: must be a list of strings"], "{wrong}");
    }
    assert_eq!(faults("reassign", r#"{"instance_id":1,"reassign_to":["",""]}"#), ["reassign_to: must not be empty"]);
}

#[test]
fn keys_are_text_or_integers_and_blank_ones_are_none() {
    let key = |written: &str| {
        let body = format!(r#"{{"title":"t","service_ref_id":"s","dedup_key":{written}}}"#);
        judged("create", &body).map(|judged| judged.key.map(|key| key.canon().to_owned()))
    };
    assert_eq!(key("77").unwrap().as_deref(), Some("77"));
    assert_eq!(key("12345678901234567890123").unwrap().as_deref(), Some("12345678901234567890123"));
    assert_eq!(key("\" a \"").unwrap().as_deref(), Some(" a "));
    assert_eq!((key("\" \""), key("null")), (Ok(None), Ok(None)));
    for wrong in ["7.5", "7e1", "true", "[\"a\"]"] {
        assert_eq!(key(wrong).unwrap_err(), ["dedup_key: must be a string or an integer"], "{wrong}");
    }
    assert!(key(&format!("\"{}\"", "k".repeat(513))).is_err());
}

#[test]
fn who_is_called_must_be_said_unless_it_is_configured_and_what_was_configured_is_kept() {
    for body in [r#"{"title":"t"}"#, r#"{"title":"t","service_ref_id":" ","users":[""]}"#] {
        assert_eq!(faults("create", body), ["service_ref_id: is required, or policy_ref_id, or users"]);
    }
    // A wrong one is not missing as well.
    assert_eq!(faults("create", r#"{"title":"t","users":5}"#), ["users: must be a list of strings"]);
    let configured = Assignment { service_ref: Some("S".into()), user_refs: vec!["u".into()], ..Assignment::default() };
    let settings = Settings { assignment: Some(configured.clone()), ..Settings::default() };
    let fills = decode("create", r#"{"title":"t"}"#, Some(&settings), |said| said.judged.fills).unwrap().unwrap();
    let own = decode("create", r#"{"title":"t","users":"x"}"#, Some(&settings), |said| said.judged.fills).unwrap();
    assert_eq!(own, None);
    // As the stored event is read again, under no configuration at all.
    let mut event = crate::event::tests::event("k");
    event.dialect = "taskcall".into();
    event.endpoint = "create".into();
    event.raw = r#"{"title":"t","x": 1.0}"#.into();
    event.envelope = Some(fills);
    let reread = crate::dialect::reread(&event).unwrap();
    assert_eq!(reread.content.assignment.as_deref(), Some(&configured));
    assert_eq!(reread.extra.iter().map(|(name, value)| (&**name, value.get())).collect::<Vec<_>>(), [("x", "1.0")]);
}

#[test]
fn what_was_tolerated_is_warned_of_and_what_the_vendor_reads_is_not() {
    let warned = |endpoint, body: &str| !content(endpoint, body).unwrap().warnings.is_empty();
    assert!(!warned(
        "create",
        r#"{"title":"t","service_ref_id":"s","users":["u"],"urgency_level":3,"dedup_key":"k","tags":["a"],"notes":"n"}"#
    ));
    for tolerated in [
        r#""users":"u""#,
        r#""users":["u",""]"#,
        r#""urgency_level":"3""#,
        r#""urgency_level":3.0"#,
        r#""urgency_level":"high""#,
        r#""dedup_key":7"#,
        r#""tags":"a""#,
    ] {
        assert!(warned("create", &format!(r#"{{"title":"t","service_ref_id":"s",{tolerated}}}"#)), "{tolerated}");
    }
    assert!(warned("snooze", r#"{"instance_id":1,"snooze_for":"5"}"#));
    assert!(warned("amend-urgency", r#"{"instance_id":1,"amend-urgency":5}"#));
    assert!(!warned("merge", r#"{"instance_id":1,"related_instance_id":2}"#));
}

#[test]
fn a_merge_names_another_instance_and_an_unmerge_an_alert() {
    assert_eq!(
        faults("merge", r#"{"instance_id":5,"related_instance_id":"5"}"#),
        ["related_instance_id: must be another instance"]
    );
    let merge = judged("merge", r#"{"instance_id":5,"related_instance_id":6.0}"#).unwrap();
    assert!(merge.closes && merge.needs_open && merge.other.is_some_and(|other| &*other.value == "6"));
    let params = content("merge", r#"{"instance_id":5,"related_instance_id":"6"}"#).unwrap().params;
    assert_eq!(params["related_instance_id"], 6);
    let unmerge = judged("unmerge", r#"{"instance_id":5,"task_ref_id":77}"#).unwrap();
    assert!(unmerge.opens && unmerge.other.is_none());
    let own = judged("unmerge", r#"{"instance_id":5,"task_ref_id":"01JZ6M3Q4W8RN2V5T7Y9B1C3D5"}"#).unwrap();
    assert!(own.other.is_some());
}

#[test]
fn times_are_utc_without_a_zone() {
    assert_eq!(stamp(Micros(1_620_235_214_343_825)), "2021-05-05T17:20:14.343825");
    assert_eq!(stamp(Micros(0)), "1970-01-01T00:00:00.000000");
}

/// JSON that a member might hold.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (0..10_u8).prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        (1..8_u8).prop_map(|value| format!("\"{value}\"")),
        ".{0,12}".prop_map(|text| Value::from(text).to_string()),
        prop::collection::vec(".{0,6}", 0..4).prop_map(|list| Value::from(list).to_string()),
        Just("{\"a\":[1]}".to_owned()),
    ]
}

fn any_body() -> impl Strategy<Value = String> {
    let names = prop_oneof![
        prop::sample::select(vec![
            "title",
            "description",
            "service_ref_id",
            "policy_ref_id",
            "users",
            "urgency_level",
            "notes",
            "tags",
            "dedup_key",
            "instance_id",
            "related_instance_id",
            "reassign_to",
            "snooze_for",
            "amend-urgency",
            "amend_urgency",
            "assignees",
            "task_ref_id",
            "subscribers",
            "status_update",
            "business_service_ref_id",
            "response_set_ref_id",
            "workflow_ref_id",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
    ];
    prop::collection::vec((names, value()), 0..12).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn any_endpoint() -> impl Strategy<Value = &'static str> {
    let names: Vec<_> = OPERATIONS.iter().map(|(name, _)| *name).chain([CREATE, CREATE, CREATE]).collect();
    prop::sample::select(names)
}

/// A body that `create` takes, with everything it may say.
fn whole_create() -> impl Strategy<Value = Value> {
    let names = || prop::collection::vec("[a-zA-Z0-9 äß-]{0,8}x", 0..4);
    (
        "\\PC{0,40}x",
        prop::option::of("\\PC{0,80}"),
        prop::option::of(1..=5_u8),
        prop::option::of("\\PC{0,20}x"),
        prop::option::of("\\PC{0,20}x"),
        "[a-zA-Z0-9]{1,12}",
        (names(), names(), names()),
    )
        .prop_map(|(title, description, urgency, notes, key, service, (policies, users, tags))| {
            let tags: std::collections::BTreeSet<_> = tags.into_iter().collect();
            let mut body = json!({ "title": title, "service_ref_id": service });
            let mut put = |name: &str, value: Value| body[name] = value;
            description.into_iter().for_each(|text| put("description", text.into()));
            urgency.into_iter().for_each(|level| put("urgency_level", level.into()));
            notes.into_iter().for_each(|text| put("notes", text.into()));
            key.into_iter().for_each(|text| put("dedup_key", text.into()));
            if !policies.is_empty() {
                put("policy_ref_id", policies.into());
            }
            if !users.is_empty() {
                put("users", users.into());
            }
            if !tags.is_empty() {
                put("tags", tags.into_iter().collect());
            }
            body
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(1_000)))]

    /// What was accepted is read again, under any later configuration, and says the same.
    #[test]
    fn what_was_accepted_is_never_refused_again(endpoint in any_endpoint(), body in any_body()) {
        let with = Settings {
            assignment: Some(Assignment { service_ref: Some("S".into()), ..Assignment::default() }),
            ..Settings::default()
        };
        for settings in [&with, &Settings::default()] {
            match decode(endpoint, &body, Some(settings), |said| (said.judged, said.content.into_owned())) {
                Ok((judged, said)) => {
                    let again = decode(endpoint, &body, None, |said| (said.judged, said.content.into_owned()));
                    let Ok((later, content)) = again else { panic!("{endpoint} {body}: {again:?}") };
                    prop_assert_eq!(&judged.target, &later.target);
                    prop_assert_eq!((judged.action, &judged.key, judged.severity), (later.action, &later.key, later.severity));
                    prop_assert_eq!((said.title, said.params), (content.title, content.params));
                    prop_assert!(judged.view.is_some() && later.view.is_none());
                    if endpoint != CREATE {
                        prop_assert!(judged.target.is_some_and(|target| target.value.parse::<u64>().is_ok()));
                    }
                }
                Err(faults) => {
                    prop_assert!(!faults.is_empty());
                    prop_assert!(faults.iter().all(|fault| fault.contains(": ")), "{:?}", faults);
                }
            }
        }
    }

    /// Every way of writing a level or an id means the same.
    #[test]
    fn spellings_of_one_number_agree(id in 1..9_007_199_254_740_991_u64, level in 1..=5_u8) {
        let said: Vec<_> = [
            format!(r#"{{"instance_id":{id},"urgency_level":{level}}}"#),
            format!(r#"{{"instance_id":"{id}","amend-urgency":"{level}"}}"#),
            format!(r#"{{"instance_id":{id}.0,"amend_urgency":{level}.0}}"#),
        ]
        .iter()
        .map(|body| judged("amend-urgency", body).map(|judged| (judged.target, judged.severity)))
        .collect();
        prop_assert!(said[0].is_ok());
        prop_assert!(said.iter().all(|one| *one == said[0]), "{:?}", said);
    }

    /// Encoded for the vendor and read again, a create says what it said.
    #[test]
    fn a_create_survives_the_way_through_the_vendors_own_form(body in whole_create(), verbatim in any::<bool>()) {
        use crate::sink::{Kind, Mode, Said, samples};
        let text = body.to_string();
        let (key, said) = decode(CREATE, &text, None, |said| (said.judged.key, said.content.into_owned())).unwrap();
        let mut event = samples::event(Action::Trigger, None, &text);
        event.dialect = "taskcall".into();
        event.endpoint = CREATE.into();
        event.key.clone_from(&key);
        event.severity = said.severity;
        let stored = samples::stored(1, event, Some(samples::incident(1, crate::event::State::Open)));
        let mut upstream = samples::upstream("tc", Kind::TaskCall);
        upstream.mode = if verbatim { Mode::Verbatim } else { Mode::Normalized };
        let reread = crate::dialect::reread(&stored.event).unwrap();
        let asked = Said { content: reread.content, extra: reread.extra };
        let sent = crate::sink::of(Kind::TaskCall).unwrap().encode(&samples::ask(&stored, &asked, &upstream)).unwrap();
        let sent = String::from_utf8(sent.call.body.to_vec()).unwrap();
        let (again, content) =
            decode(CREATE, &sent, None, |said| (said.judged.key, said.content.into_owned())).unwrap();
        // Without a key of its own it goes by its iid.
        let own = key.map_or(samples::incident(1, crate::event::State::Open).iid.to_string(), |key| key.canon().to_owned());
        prop_assert_eq!(again.map(|key| key.canon().to_owned()), Some(own));
        let bare = |content: Content<'static>| Content { description: content.description.filter(|text| !text.is_empty()), ..content };
        prop_assert_eq!(bare(content), bare(said));
    }

}

proptest! {
    // Each case says up to ninety things.
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(1_000).div_ceil(40)))]

    /// Whatever is said how often, the view stays within its bound and its first event is the create.
    #[test]
    fn a_view_stays_within_its_bound(
        title in ".{1,2000}",
        text in "[\u{1}-\u{1f}ä\u{1F600}a]{0,9000}",
        said in prop::collection::vec((0..20_usize, "[\u{1}-\u{8}\u{1F600}]{1,1500}"), 0..90),
    ) {
        let create = json!({ "title": format!("{title}x"), "description": text, "service_ref_id": "s", "notes": text, "tags": [title, text] });
        let fold = |view: View, endpoint: &str, body: &Value, at: i64| {
            let judged = judged(endpoint, &body.to_string());
            let said = judged.ok().and_then(|judged| judged.view).map(|view| *view);
            said.map_or(view.clone(), |said| TaskCall.fold(view, said, Micros(at)))
        };
        let mut view = fold(View::new(), CREATE, &create, 1);
        prop_assert!(!view.is_empty());
        for (at, (which, text)) in said.iter().enumerate() {
            let (name, member) = OPERATIONS[*which];
            let mut body: Value = serde_json::from_str(&format!(r#"{{"instance_id":1{member}}}"#)).unwrap();
            for (name, value) in body.as_object_mut().unwrap() {
                match value {
                    Value::String(said) => *said = text.clone(),
                    Value::Array(list) => *list = vec![name.clone().into(), text.as_str().into()],
                    _ => {}
                }
            }
            view = fold(view, name, &body, 2 + at as i64);
            let bytes = serde_json::to_vec(&view).unwrap().len();
            prop_assert!(bytes <= VIEW_BYTES_MAX, "{} B after {}", bytes, name);
        }
        let shown = view::Shown::of(view);
        // An unmerge begins anew.
        prop_assert_eq!(&shown.events[0].1, CREATE);
        prop_assert!(shown.title.is_some());
    }
}
