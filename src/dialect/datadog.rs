//! Datadog's webhook (contracts/others.md 2): the members are those of a template that people write, as JSON or as a form.

use std::borrow::Cow;

use hyper::{HeaderMap, StatusCode};

use super::hooks::{self, BY_HEADER, BY_PATH, Reading, first_line, key_at, key_part_at, made_key, value_at};
use super::json::{Document, Kind};
use super::zabbix::begins_like_json;
use super::{Asked, Credentials, Decoded, Dialect, Faults, Form, Judged, Route};
use crate::event::{Action, Key, KeyKind, Rel, Severity};
use crate::outcome::{Class, Outcome};
use crate::vendor::severity_of_priority;

pub(super) struct Datadog;

static ROUTES: [Route; 4] = [
    Route::post("/hooks/datadog/{key}", "hooks/datadog", BY_PATH).answers(200),
    Route::post("/hooks/datadog", "hooks/datadog", BY_HEADER).answers(200),
    Route::post("/v2/incidents/datadog/{key}", "hooks/datadog", Credentials::Path),
    Route::post("/v1/incidents/datadog/{key}", "hooks/datadog", Credentials::Path),
];

/// A form's fields, and the depth of what `org` may hold, are few.
const FIELDS_MAX: usize = 256;
/// The highest level of a warning.
const WARN_LEVEL: u8 = 3;

impl Dialect for Datadog {
    fn name(&self) -> &'static str {
        "datadog"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn retries_overload(&self) -> bool {
        true
    }

    fn form(&self, _headers: &HeaderMap) -> Form {
        Form::Or("application/x-www-form-urlencoded")
    }

    fn as_json(&self, _asked: &Asked<'_>, body: &[u8]) -> Result<Option<Vec<u8>>, Faults> {
        if begins_like_json(body) { Ok(None) } else { form(body).map(Some) }
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let said = Said(Reading::of(document));
        let mut faults = Faults::new();
        let title = said.text("title");
        let transition = said.text("alert_transition");
        let action = match transition.as_deref() {
            Some(word) => of_transition(word),
            None if title.as_deref().is_some_and(|title| title.starts_with("[Recovered")) => Some(Action::Resolve),
            None => Some(Action::Trigger),
        };
        if action.is_none() {
            faults.push("alert_transition: is none of Datadog's transitions".into());
        }
        let key = said.key(&mut faults);
        let body = said.text("body");
        let has_title = title.is_some() || body.as_deref().and_then(first_line).is_some();
        if action == Some(Action::Trigger) && !has_title && !hooks::was_accepted(asked) {
            faults.push("title: is required of a trigger, or a body to make it of".into());
        }
        let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
        let (severity, word) = said.severity(transition.as_deref());
        // A 4xx would gain nothing: nobody sends it again.
        let ends = (action == Action::Resolve && key.is_none()).then_some(Outcome::Unmatched);
        let judged = Judged { key, severity, ends, ..Judged::of(action) };
        if asked.rules.judge_only {
            each(Reading::judged(judged));
            return Ok(());
        }
        each(said.read(judged, title, body, transition, word));
        Ok(())
    }

    fn status(&self, class: Class) -> StatusCode {
        hooks::status_for_5xx(class)
    }
}

/// A body, whose values may be variables that nobody filled in.
struct Said<'d>(Reading<'d>);

/// `$NAME` in capitals, left as it stands in the template; `null` as a word.
fn is_left_out(text: &str) -> bool {
    let variable = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    text == "null" || text.strip_prefix('$').is_some_and(variable)
}

fn of_transition(word: &str) -> Option<Action> {
    match word.trim().to_ascii_lowercase().as_str() {
        "triggered" | "re-triggered" | "warn" | "re-warn" | "no data" | "re-no data" | "renotify" => {
            Some(Action::Trigger)
        }
        "recovered" => Some(Action::Resolve),
        _ => None,
    }
}

impl<'d> Said<'d> {
    fn text(&self, name: &str) -> Option<Cow<'d, str>> {
        self.0.text(name).filter(|text| !is_left_out(text))
    }

    /// The same from trigger to recovery where Datadog gives one.
    fn key(&self, faults: &mut Faults) -> Option<Key> {
        let document = self.0.document;
        if let Some(name) = ["alert_cycle_key", "aggreg_key"].into_iter().find(|name| self.is_said(name)) {
            return key_at(document, &[name], faults);
        }
        let parts = ["alert_id", "alert_scope"].map(|name| key_part_at(document, &[name], faults));
        let [Some(id), Some(scope)] = parts.map(|part| part.filter(|text| !is_left_out(text))) else { return None };
        made_key(&format!("{id}:{scope}"), KeyKind::Derived, "alert_scope", faults)
    }

    fn is_said(&self, name: &str) -> bool {
        let text = value_at(self.0.document, &[name]).map(|value| value.kind());
        hooks::is_said(self.0.document, &[name]) && !matches!(text, Some(Kind::String(text)) if is_left_out(text))
    }

    /// A warning's transition is no worse than a warning.
    fn severity(&self, transition: Option<&str>) -> (Option<Severity>, Option<Cow<'d, str>>) {
        let (priority, kind) = (self.text("alert_priority"), self.text("alert_type"));
        let by_priority = priority.as_deref().and_then(severity_of_priority);
        let by_kind = kind.as_deref().and_then(|kind| {
            Severity::new(match kind.trim().to_ascii_lowercase().as_str() {
                "error" => 4,
                "warning" => 3,
                "info" => 1,
                _ => return None,
            })
        });
        let word = if by_priority.is_some() { priority } else { kind.or(priority) };
        let warns =
            transition.is_some_and(|word| matches!(word.trim().to_ascii_lowercase().as_str(), "warn" | "re-warn"));
        let level = by_priority.or(by_kind);
        let level =
            if warns { level.map(|level| level.min(Severity::new(WARN_LEVEL).unwrap_or(level))) } else { level };
        (level, word)
    }

    fn read(
        self,
        judged: Judged,
        title: Option<Cow<'d, str>>,
        body: Option<Cow<'d, str>>,
        transition: Option<Cow<'d, str>>,
        word: Option<Cow<'d, str>>,
    ) -> Decoded<'d> {
        let marked = transition.is_some() || self.text("alert_transition").is_some();
        let title = title.map(|title| if marked { without_marker(title) } else { title });
        let [host, link, date, updated] = ["hostname", "link", "date", "last_updated"].map(|name| self.text(name));
        let tags = self.text("tags");
        let Self(mut reading) = self;
        reading.severity(judged.severity, word);
        reading.status(transition);
        reading.title(title);
        reading.description(body);
        reading.make_title(judged.action, "datadog alert");
        match tags {
            Some(Cow::Borrowed(tags)) => tags.split(',').for_each(|word| reading.tag_word(Cow::Borrowed(word))),
            Some(Cow::Owned(tags)) => tags.split(',').for_each(|word| reading.tag_word(Cow::Owned(word.to_owned()))),
            None => reading.tags_at(&["tags"]),
        }
        reading.content.source = reading.field("source", host);
        reading.link("link", link, Rel::Source);
        let (member, at) = if date.is_some() { ("date", date) } else { ("last_updated", updated) };
        reading.content.started_at = reading.time(member, at);
        reading.has_homes(&[
            "alert_cycle_key",
            "alert_transition",
            "title",
            "body",
            "hostname",
            "tags",
            "link",
            member,
        ]);
        if reading.content.severity_raw.is_some()
            && severity_of_priority(reading.content.severity_raw.as_deref().unwrap_or_default()).is_some()
        {
            reading.has_homes(&["alert_priority"]);
        }
        reading.said(judged)
    }
}

/// A title without the `[...]` in front, which says the transition once more.
fn without_marker(title: Cow<'_, str>) -> Cow<'_, str> {
    let rest = |title: &str| {
        let (_, rest) = title.strip_prefix('[')?.split_once(']')?;
        let rest = rest.trim_start();
        (!rest.is_empty()).then_some(title.len() - rest.len())
    };
    match (rest(&title), title) {
        (None, title) => title,
        (Some(at), Cow::Borrowed(title)) => Cow::Borrowed(title.get(at..).unwrap_or(title)),
        (Some(at), Cow::Owned(title)) => Cow::Owned(title.get(at..).unwrap_or(&title).to_owned()),
    }
}

/// A form as an object of texts; of a repeated field the last.
fn form(body: &[u8]) -> Result<Vec<u8>, Faults> {
    if std::str::from_utf8(body).is_err() {
        return Err(vec!["body: is not UTF-8".into()]);
    }
    let mut members = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(body.trim_ascii()) {
        if members.len() == FIELDS_MAX {
            return Err(vec![format!("body: has more than {FIELDS_MAX} fields")]);
        }
        members.insert(name.into_owned(), value.into_owned().into());
    }
    Ok(serde_json::Value::Object(members).to_string().into_bytes())
}

#[cfg(test)]
mod tests;
