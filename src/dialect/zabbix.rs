//! Zabbix' script (contracts/others.md 5): a JSON object of texts, the same as lines of `name:value`, or the shape that a
//! relay makes of it.

use hyper::HeaderMap;

use super::hooks::{self, Reading, key_at, value_at};
use super::json::Document;
use super::{Asked, Credentials, Decoded, Dialect, Faults, Form, Judged, Route};
use crate::event::{Action, Key, Rel, Severity, TagType};
use crate::gate::ZabbixKey;
use crate::outcome::Outcome;

pub(super) struct Zabbix;

static ROUTES: [Route; 4] = hooks::routes!("zabbix");

const HOMES: [&str; 10] = ["subject", "name", "id", "status", "hostname", "ip", "value", "event_id", "severity", "url"];
const RELAY_HOMES: [&str; 6] = ["alert_uid", "title", "message", "state", "link_to_upstream_details", "image_url"];

impl Dialect for Zabbix {
    fn name(&self) -> &'static str {
        "zabbix"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn form(&self, _headers: &HeaderMap) -> Form {
        Form::Or("text/plain")
    }

    fn as_json(&self, _asked: &Asked<'_>, body: &[u8]) -> Result<Option<Vec<u8>>, Faults> {
        if begins_like_json(body) { Ok(None) } else { lines(body).map(Some) }
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let mut reading = Reading::of(document);
        if value_at(document, &["alert_uid"]).is_some() {
            return relayed(asked, reading, each);
        }
        let mut faults = Faults::new();
        let (status, value) = (reading.text("status"), reading.text("value"));
        let action = match (status.as_deref(), value.as_deref().map(str::trim)) {
            (Some(word), _) => of_status(word),
            (None, Some("1")) => Some(Action::Trigger),
            (None, Some("0")) => Some(Action::Resolve),
            (None, _) => None,
        };
        if action.is_none() {
            faults.push("status: must be PROBLEM, OK or RESOLVED; or value 1 or 0".into());
        }
        let by_trigger = asked.rules.settings.is_some_and(|settings| settings.zabbix_key == ZabbixKey::TriggerId);
        let [first, second] = if by_trigger { ["id", "event_id"] } else { ["event_id", "id"] };
        let key = key_at(document, &[first], &mut faults).or_else(|| key_at(document, &[second], &mut faults));
        let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
        let word = reading.text("severity");
        let severity = word.as_deref().and_then(level);
        let judged = Judged { severity, ..judged(action, key) };
        if asked.rules.judge_only {
            each(Reading::judged(judged));
            return Ok(());
        }
        reading.severity(severity, word);
        reading.status(status);
        reading.title(reading.text("subject").or_else(|| reading.text("name")));
        if reading.content.title.is_some() && reading.text("subject").is_some() {
            reading.description(reading.text("name"));
        }
        reading.make_title(action, "zabbix alert");
        reading.content.source = reading.field("source", reading.text("hostname"));
        if let Some(ip) = reading.text("ip") {
            reading.tag("ip".into(), Some(ip), TagType::String);
        }
        for (member, tag) in [("event_id", "event_id"), ("id", "trigger_id")] {
            // One of them is the key, by the configuration of its day.
            if let Some(id) = reading.text(member) {
                reading.tag(tag.into(), Some(id), TagType::String);
            }
        }
        reading.link("url", reading.text("url"), Rel::Source);
        reading.has_homes(&HOMES);
        each(reading.said(judged));
        Ok(())
    }
}

fn of_status(word: &str) -> Option<Action> {
    match word.trim().to_ascii_uppercase().as_str() {
        "PROBLEM" => Some(Action::Trigger),
        "OK" | "RESOLVED" => Some(Action::Resolve),
        _ => None,
    }
}

/// A recovery that names no problem ends none, and goes nowhere under a name that nobody knows.
fn judged(action: Action, key: Option<Key>) -> Judged {
    let ends = (action == Action::Resolve && key.is_none()).then_some(Outcome::Unmatched);
    Judged { key, ends, ..Judged::of(action) }
}

/// Zabbix' own scale, whose words mean other levels than elsewhere (contracts 4).
fn level(word: &str) -> Option<Severity> {
    Severity::new(match word.trim().to_ascii_lowercase().as_str() {
        "disaster" | "5" => 5,
        "high" | "4" => 4,
        "average" | "3" => 3,
        "warning" | "2" => 2,
        "information" | "1" => 1,
        _ => return None,
    })
}

/// What a relay makes of an alert.
fn relayed(asked: &Asked<'_>, mut reading: Reading<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Faults> {
    let mut faults = Faults::new();
    let state = reading.text("state");
    let action = match state.as_deref().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
        Some("alerting") => Some(Action::Trigger),
        Some("ok") => Some(Action::Resolve),
        _ => None,
    };
    if action.is_none() {
        faults.push("state: must be alerting or ok".into());
    }
    let key = key_at(reading.document, &["alert_uid"], &mut faults);
    let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
    let judged = judged(action, key);
    if asked.rules.judge_only {
        each(Reading::judged(judged));
        return Ok(());
    }
    reading.status(state);
    reading.title(reading.text("title"));
    reading.description(reading.text("message"));
    reading.make_title(action, "zabbix alert");
    reading.link("link_to_upstream_details", reading.text("link_to_upstream_details"), Rel::Source);
    reading.link("image_url", reading.text("image_url"), Rel::Image);
    reading.has_homes(&RELAY_HOMES);
    each(reading.said(judged));
    Ok(())
}

/// Whether a body is JSON, or nothing at all, which the parser tells of.
pub(super) fn begins_like_json(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    matches!(text.trim_ascii_start().first(), None | Some(b'{' | b'['))
}

/// Lines of `name:value`, split at the first colon, as an object of texts: whatever stands before it is a name, with blanks
/// in it too. A line without one belongs to the value before it.
fn lines(body: &[u8]) -> Result<Vec<u8>, Faults> {
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let text = std::str::from_utf8(text).map_err(|_| vec!["body: is not UTF-8".to_owned()])?;
    let mut members = serde_json::Map::new();
    let mut last: Option<String> = None;
    for line in text.lines() {
        let named = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        match named.filter(|(name, _)| !name.is_empty()) {
            Some((name, value)) => {
                members.insert(name.to_owned(), value.into());
                last = Some(name.to_owned());
            }
            None if line.trim().is_empty() => {}
            None => match last.as_ref().and_then(|name| members.get_mut(name)) {
                Some(serde_json::Value::String(value)) => {
                    value.push('\n');
                    value.push_str(line.trim_end());
                }
                _ => return Err(vec!["body: must be a JSON object, or lines of name:value".into()]),
            },
        }
    }
    Ok(serde_json::Value::Object(members).to_string().into_bytes())
}

#[cfg(test)]
mod tests;
