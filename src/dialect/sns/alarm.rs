//! CloudWatch's alarms, as they stand in a message.

use std::borrow::Cow;

use crate::dialect::hooks::{Reading, key_at, key_part_at, made_key, text_at, value_at};
use crate::dialect::json::{Document, Kind};
use crate::dialect::{Asked, Decoded, Faults, Judged};
use crate::event::{Action, KeyKind, TagType};

/// Recognized by two of its members.
pub(super) fn is_one(document: Document<'_>) -> bool {
    let is_text = |name| matches!(value_at(document, &[name]).map(|value| value.kind()), Some(Kind::String(text)) if !text.is_empty());
    is_text("AlarmName") && is_text("NewStateValue")
}

/// `None`: it lacks data, and that is no trigger here.
///
/// # Errors
/// A state that CloudWatch does not have, a key that is too long.
pub(super) fn read<'d>(asked: &Asked<'_>, document: Document<'d>, topic: &str) -> Result<Option<Decoded<'d>>, Faults> {
    let mut reading = Reading::of(document);
    let mut faults = Faults::new();
    let settings = asked.rules.settings.map(|settings| &settings.sns);
    let state = reading.text("NewStateValue").unwrap_or_default();
    let action = match &*state {
        "ALARM" => Action::Trigger,
        "OK" => Action::Resolve,
        "INSUFFICIENT_DATA" if settings.is_none_or(|settings| settings.insufficient_data_triggers) => Action::Trigger,
        "INSUFFICIENT_DATA" => return Ok(None),
        _ => return Err(vec!["Message.NewStateValue: must be ALARM, OK or INSUFFICIENT_DATA".into()]),
    };
    let name = reading.text("AlarmName").unwrap_or_default();
    let key = key_at(document, &["AlarmArn"], &mut faults).or_else(|| {
        let [account, region] = ["AWSAccountId", "Region"].map(|name| key_part_at(document, &[name], &mut faults));
        let (account, region) = (account?, region?);
        made_key(&format!("{account}:{region}:{name}"), KeyKind::Derived, "Message.AlarmName", &mut faults)
    });
    if !faults.is_empty() {
        return Err(faults);
    }
    let level = settings.and_then(|settings| settings.levels.iter().find(|level| level.fits(topic, &name)));
    let before = reading.text("OldStateValue");
    let judged = Judged {
        severity: level.map(|level| level.severity).filter(|_| action == Action::Trigger),
        // An alarm's first report says that it is well, of an incident that never was.
        drops_unknown: action == Action::Resolve && before.as_deref() == Some("INSUFFICIENT_DATA"),
        ends: (action == Action::Resolve && key.is_none()).then_some(crate::outcome::Outcome::Unmatched),
        key,
        ..Judged::of(action)
    };
    if asked.rules.judge_only {
        return Ok(Some(Reading::judged(judged)));
    }
    reading.status(Some(state));
    reading.title(Some(name));
    let parts = [reading.text("AlarmDescription"), reading.text("NewStateReason")];
    let parts: Vec<Cow<'d, str>> = parts.into_iter().flatten().collect();
    reading.description((!parts.is_empty()).then(|| parts.join("\n\n").into()));
    let changed = reading.text("StateChangeTime");
    let at = reading.time("StateChangeTime", changed);
    match action {
        Action::Resolve => reading.content.ended_at = at,
        _ => reading.content.started_at = at,
    }
    reading.content.class = reading.field("class", text_at(document, &["Trigger", "Namespace"]));
    reading.content.component = reading.field("component", text_at(document, &["Trigger", "MetricName"]));
    dimensions(&mut reading);
    reading.has_homes(&[
        "AlarmName",
        "AlarmDescription",
        "NewStateValue",
        "NewStateReason",
        "StateChangeTime",
        "AlarmArn",
        "Trigger",
    ]);
    reading.rest_of("Trigger", &["Trigger"], &["Namespace", "MetricName", "Dimensions"]);
    Ok(Some(reading.said(judged)))
}

/// `[{"name", "value"}]` as tags.
fn dimensions(reading: &mut Reading<'_>) {
    let Some(list) = value_at(reading.document, &["Trigger", "Dimensions"]) else { return };
    for one in list.elements() {
        let text = |name| match one.member(name).map(|value| value.kind()) {
            Some(Kind::String(text)) => Some(crate::dialect::json::clean(text)),
            _ => None,
        };
        if let Some(name) = text("name") {
            reading.tag(name, Some(text("value").unwrap_or_default()), TagType::String);
        }
    }
}
