//! What a trigger or a change says of itself: `payload` of v2, `description` and `details` of v1
//! (contracts/pagerduty.md 2, 3, 6). On other actions both are left alone: a resolve never changes a title.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Api;
use super::details::object;
use super::reading::Reading;
use crate::dialect::Extra;
use crate::dialect::json::{Kind, Value, clean, members_as_text};
use crate::dialect::text::{set_title, truncated};
use crate::event::{Action, FIELD_CHARS_MAX, is_blank};
use crate::vendor::time;

/// The members of a payload; of a repeated name the last.
#[derive(Default)]
struct Payload<'d> {
    summary: Option<Value<'d>>,
    source: Option<Value<'d>>,
    severity: Option<Value<'d>>,
    timestamp: Option<Value<'d>>,
    component: Option<Value<'d>>,
    group: Option<Value<'d>>,
    class: Option<Value<'d>>,
    custom_details: Option<Value<'d>>,
    has_others: bool,
}

impl<'d> Payload<'d> {
    fn of(value: Value<'d>) -> Self {
        let mut payload = Self::default();
        for (name, value) in value.members() {
            let slot = match name {
                "summary" => &mut payload.summary,
                "source" => &mut payload.source,
                "severity" => &mut payload.severity,
                "timestamp" => &mut payload.timestamp,
                "component" => &mut payload.component,
                "group" => &mut payload.group,
                "class" => &mut payload.class,
                "custom_details" => &mut payload.custom_details,
                _ => {
                    payload.has_others = true;
                    continue;
                }
            };
            *slot = (!value.is_null()).then_some(value);
        }
        payload
    }
}

/// What the model has a home for.
const KNOWN: [&str; 8] =
    ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];
/// Of these a change has none.
const OF_INCIDENTS: [&str; 4] = ["severity", "component", "group", "class"];

impl<'d> Reading<'d> {
    pub(super) fn payload(&mut self, api: Api, action: Option<Action>) {
        if !matches!(action, None | Some(Action::Trigger | Action::Change)) {
            return;
        }
        let value = match self.member("payload") {
            Some(value) if value.is_object() => value,
            Some(_) => return self.fault("payload", "must be an object"),
            None => return self.fault("payload", "is missing or blank"),
        };
        let payload = Payload::of(value);
        self.title("payload.summary", payload.summary);
        if api == Api::V2 {
            self.required_source(payload.source);
            self.severity(payload.severity);
        }
        if !self.judge_only {
            self.fields(api, &payload);
        }
    }

    /// v1: a title and details.
    pub(super) fn older(&mut self, action: Option<Action>) {
        if !matches!(action, None | Some(Action::Trigger)) {
            return;
        }
        let description = self.member("description");
        self.title("description", description);
        // Whatever stands in it: only v2's custom details have members that mean something (section 6).
        if !self.judge_only && self.member("details").is_some() {
            self.extra.push(Extra::Member(Cow::Borrowed("details")));
        }
    }

    /// Required; cut at 1,024 characters (contracts 8, row 32).
    fn title(&mut self, member: &'static str, value: Option<Value<'d>>) {
        let text = match value.map(Value::kind) {
            None => return self.fault(member, "is missing or blank"),
            Some(Kind::String(text)) if is_blank(text) => return self.fault(member, "is missing or blank"),
            Some(Kind::String(text)) => text,
            Some(_) => return self.fault(member, "must be a string"),
        };
        if !self.judge_only {
            set_title(&mut self.content, clean(text), member);
        }
    }

    fn required_source(&mut self, value: Option<Value<'d>>) {
        match value.map(Value::kind) {
            Some(Kind::String(text)) if !is_blank(text) => {}
            None | Some(Kind::String(_)) => self.fault("payload.source", "is missing or blank"),
            Some(_) => self.fault("payload.source", "must be a string"),
        }
    }

    /// Everything that nobody asks a judgement for.
    fn fields(&mut self, api: Api, payload: &Payload<'d>) {
        let mut ignored = Vec::new();
        self.content.source = self.field("source", payload.source, &mut ignored);
        if api == Api::V2 {
            self.content.component = self.field("component", payload.component, &mut ignored);
            self.content.group = self.field("group", payload.group, &mut ignored);
            self.content.class = self.field("class", payload.class, &mut ignored);
        }
        self.timestamp(payload.timestamp, &mut ignored);
        let is_odd = api == Api::Change
            && [payload.severity, payload.component, payload.group, payload.class].iter().any(Option::is_some);
        if !payload.has_others && !is_odd && ignored.is_empty() && payload.custom_details.is_none() {
            return;
        }
        let text = self.document.source(&["payload"]).unwrap_or_default();
        let Some(texts) = members_as_text(&text) else { return };
        if let (Some(details), Some(text)) = (payload.custom_details, texts.get("custom_details")) {
            self.details("custom_details", details, text.get());
        }
        let has_home = |name: &str| {
            KNOWN.contains(&name) && !ignored.contains(&name) && !(api == Api::Change && OF_INCIDENTS.contains(&name))
        };
        let mut seen = HashSet::new();
        let names = self.member("payload").into_iter().flat_map(Value::members).map(|(name, _)| name);
        let names = names.filter(|name| !has_home(name) && seen.insert(*name));
        let others: Vec<_> = names.filter_map(|name| Some((name, texts.get(name)?.get()))).collect();
        let json = object(others.into_iter());
        self.extra.extend(json.map(|json| Extra::Made("payload".into(), json)));
    }

    /// A text of at most 256 characters; what is no text stays where it is, among what has no home.
    fn field(
        &mut self,
        name: &'static str,
        value: Option<Value<'d>>,
        ignored: &mut Vec<&'static str>,
    ) -> Option<Cow<'d, str>> {
        match value?.kind() {
            Kind::String(text) if is_blank(text) => None,
            Kind::String(text) => {
                let (text, cut) = truncated(clean(text), FIELD_CHARS_MAX);
                if cut {
                    self.content.cut("truncated", format!("payload.{name}"));
                }
                Some(text)
            }
            _ => {
                ignored.push(name);
                self.content.warn("member_ignored", format!("payload.{name}"));
                None
            }
        }
    }

    /// A time that cannot be read never rejects the event (contracts 2.5).
    fn timestamp(&mut self, value: Option<Value<'d>>, ignored: &mut Vec<&'static str>) {
        let Some(value) = value else { return };
        let read = match value.kind() {
            Kind::String(text) => time::parse(text),
            _ => Err(time::NotATime),
        };
        match read {
            Ok(at) => self.content.started_at = at,
            Err(time::NotATime) => {
                ignored.push("timestamp");
                self.content.warn("time_ignored", "payload.timestamp");
            }
        }
    }
}
