//! Grafana's alerting before version 9 (contracts/others.md 1): one rule a body, on the same route.

use crate::dialect::hooks::{Reading, key_at, made_key, text_at, value_at};
use crate::dialect::json::{Document, Kind};
use crate::dialect::{Asked, Decoded, Faults, Judged};
use crate::event::{Action, Key, KeyKind, Rel};
use crate::outcome::Outcome;
use crate::vendor::severity_of_word;

/// Members that have a home.
const HOMES: [&str; 9] = ["state", "title", "ruleName", "message", "ruleUrl", "imageUrl", "tags", "orgId", "ruleId"];

/// Recognized by members that the later shape does not have.
pub(super) fn is_one(document: Document<'_>) -> bool {
    let has = |name| document.root.member(name).is_some();
    value_at(document, &["alerts"]).is_none() && (has("ruleId") || has("evalMatches"))
}

/// `None`: the rule is in a state that is nobody's business.
///
/// # Errors
/// A state that Grafana does not have, a name of the rule that is none.
pub(super) fn read<'d>(asked: &Asked<'_>, document: Document<'d>) -> Result<Option<Decoded<'d>>, Faults> {
    let mut reading = Reading::of(document);
    let mut faults = Faults::new();
    let state = reading.text("state");
    let action = match state.as_deref() {
        Some("alerting") => Some(Action::Trigger),
        Some("ok") => Some(Action::Resolve),
        Some("no_data") if asked.rules.settings.is_some_and(|settings| settings.ignores_no_data) => return Ok(None),
        Some("no_data") => Some(Action::Trigger),
        Some("pending" | "paused") => return Ok(None),
        _ => {
            faults.push("state: must be alerting, ok, no_data, pending or paused".into());
            None
        }
    };
    let key = key(document, &mut faults);
    let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
    let word = text_at(document, &["tags", "severity"]);
    let severity = word.as_deref().and_then(severity_of_word);
    // Of a rule without a name nobody knows which incident ends.
    let ends = (action == Action::Resolve && key.is_none()).then_some(Outcome::Unmatched);
    let judged = Judged { key, severity, ends, ..Judged::of(action) };
    if asked.rules.judge_only {
        return Ok(Some(Reading::judged(judged)));
    }
    reading.status(state);
    reading.severity(severity, word);
    reading.title(reading.text("title").or_else(|| reading.text("ruleName")));
    reading.description(reading.text("message"));
    reading.make_title(action, "grafana alert");
    reading.content.class = reading.field("class", reading.text("ruleName"));
    reading.link("ruleUrl", reading.text("ruleUrl"), Rel::Source);
    reading.link("imageUrl", reading.text("imageUrl"), Rel::Image);
    reading.tags_at(&["tags"]);
    reading.has_homes(&HOMES);
    Ok(Some(reading.said(judged)))
}

/// `{orgId}:{ruleId}`; without an id the rule's name.
fn key(document: Document<'_>, faults: &mut Faults) -> Option<Key> {
    let is_id = |name| match value_at(document, &[name]).map(|value| value.kind()) {
        None | Some(Kind::Integer(_) | Kind::Number | Kind::String(_)) => true,
        Some(_) => false,
    };
    if !is_id("ruleId") || !is_id("orgId") {
        faults.push("ruleId: must be a number, and orgId too".into());
        return None;
    }
    match (text_at(document, &["orgId"]), text_at(document, &["ruleId"])) {
        (Some(organization), Some(rule)) => {
            made_key(&format!("{organization}:{rule}"), KeyKind::String, "ruleId", faults)
        }
        (None, Some(_)) => key_at(document, &["ruleId"], faults),
        (_, None) => key_at(document, &["ruleName"], faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::alertmanager::GRAFANA;
    use crate::dialect::hooks::tests::{Heard, plainly};

    fn heard(body: &str) -> Heard {
        plainly(&GRAFANA, body).unwrap().unwrap()
    }

    #[test]
    fn a_rule_without_a_name_still_calls_somebody_and_ends_nothing() {
        let alerting = heard(r#"{"state":"alerting","evalMatches":[],"title":"t"}"#);
        assert_eq!((alerting.judged.action, alerting.key(), alerting.judged.ends), (Action::Trigger, None, None));
        let ok = heard(r#"{"state":"ok","evalMatches":null,"ruleName":" "}"#);
        assert_eq!(ok.judged.ends, Some(Outcome::Unmatched));
        assert_eq!(heard(r#"{"state":"ok","ruleId":null,"ruleName":"cpu"}"#).key(), Some("cpu"));
        assert!(plainly(&GRAFANA, r#"{"state":"alerting","ruleId":[1]}"#).is_err());
    }

    #[test]
    fn every_tag_is_kept_and_one_of_them_is_the_severity_too() {
        let alerting = heard(r#"{"state":"alerting","ruleId":7,"tags":{"team":"a","severity":"critical"}}"#);
        assert_eq!((alerting.level(), alerting.tags()), (Some(5), vec!["team=a".into(), "severity=critical".into()]));
    }

    #[test]
    fn alerts_that_are_null_are_absent() {
        assert_eq!(heard(r#"{"state":"alerting","orgId":1,"ruleId":7,"alerts":null}"#).key(), Some("1:7"));
    }
}
