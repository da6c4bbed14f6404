//! One statement of a body: action, key and all faults (contracts/pagerduty.md 2, 3). What it says beside them is read by
//! `payload`, `details` and `beside`.

use std::borrow::Cow;

use super::Api;
use crate::dialect::json::{Document, Kind, Value, clean};
use crate::dialect::{Decoded, Extra, Faults, Judged, Rules};
use crate::event::{Action, Content, Key, KeyKind, Severity};

/// Longest key, in characters (section 2).
const KEY_CHARS_MAX: usize = 255;
/// Longest word of the sender that is kept (contracts 3.1).
const WORD_CHARS_MAX: usize = 64;

pub(super) struct Reading<'d> {
    pub(super) document: Document<'d>,
    pub(super) judge_only: bool,
    /// The body was accepted before: nothing is a fault any more.
    accepted: bool,
    faults: Faults,
    pub(super) content: Content<'d>,
    pub(super) extra: Vec<Extra<'d>>,
}

/// What the body says, or all that is wrong with it.
pub(super) fn read<'d>(api: Api, rules: Rules<'_>, document: Document<'d>) -> Result<Decoded<'d>, Faults> {
    if !document.root.is_object() {
        return Err(vec!["body: must be a JSON object".into()]);
    }
    let mut reading = Reading {
        document,
        judge_only: rules.judge_only,
        accepted: rules.settings.is_none(),
        faults: Vec::new(),
        content: Content::default(),
        extra: Vec::new(),
    };
    let action = if api == Api::Change { Some(Action::Change) } else { reading.action(api) };
    let mut key = if api == Api::Change { None } else { reading.key(api, action) };
    match api {
        Api::V2 | Api::Change => reading.payload(api, action),
        Api::V1 => reading.older(action),
    }
    if !reading.faults.is_empty() {
        return Err(reading.faults);
    }
    let action = action.unwrap_or(Action::Trigger);
    if key.is_none() && action == Action::Trigger && !reading.accepted {
        key = made_key();
    }
    if !reading.judge_only {
        reading.beside(api, action);
    }
    let Reading { content, extra, .. } = reading;
    Ok(Decoded { judged: Judged { key, severity: content.severity, ..Judged::of(action) }, content, extra })
}

/// A key for a trigger that has none: a UUID, version 4. By it, which the answer tells, its sender can end the incident.
fn made_key() -> Option<Key> {
    let bits = fastrand::u128(..);
    let version = bits & !(0xF << 76) | 4 << 76;
    let id = version & !(0b11 << 62) | 0b10 << 62;
    let text = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        (id >> 80) & 0xFFFF,
        (id >> 64) & 0xFFFF,
        (id >> 48) & 0xFFFF,
        id & 0xFFFF_FFFF_FFFF
    );
    Key::parse(&text, KeyKind::Generated)
}

impl<'d> Reading<'d> {
    pub(super) fn fault(&mut self, member: &str, reason: &str) {
        if !self.accepted {
            self.faults.push(format!("{member}: {reason}"));
        }
    }

    /// A top-level member; `null` is absent.
    pub(super) fn member(&self, name: &str) -> Option<Value<'d>> {
        self.document.root.member(name).filter(|value| !value.is_null())
    }

    fn action(&mut self, api: Api) -> Option<Action> {
        const ACTIONS: [Action; 3] = [Action::Trigger, Action::Acknowledge, Action::Resolve];
        let (member, _) = api.members();
        let Some(value) = self.member(member) else {
            self.fault(member, "is missing or blank");
            return None;
        };
        let word = match value.kind() {
            Kind::String(word) => word,
            _ => "",
        };
        let action = ACTIONS.into_iter().find(|action| action.name().eq_ignore_ascii_case(word));
        if action.is_none() {
            self.fault(member, "is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')");
        }
        if !self.judge_only && !word.is_empty() {
            self.content.status_raw = word_of(word);
        }
        action
    }

    /// At most 255 characters; a number is taken by its text.
    fn key(&mut self, api: Api, action: Option<Action>) -> Option<Key> {
        let (_, member) = api.members();
        let (canon, kind) = match self.member(member).map(|value| (value, value.kind())) {
            None => (Cow::Borrowed(""), KeyKind::String),
            Some((_, Kind::String(text))) => (clean(text), KeyKind::String),
            Some((value, Kind::Integer(_) | Kind::Number)) => {
                (self.document.number_text(value, &[member])?, KeyKind::Integer)
            }
            Some(_) => {
                self.fault(member, "must be a string");
                return None;
            }
        };
        if canon.len() > KEY_CHARS_MAX && canon.chars().nth(KEY_CHARS_MAX).is_some() {
            self.fault(member, "is too long (maximum is 255 characters)");
            return None;
        }
        let key = Key::parse_long(&canon, kind);
        if key.is_none() && matches!(action, Some(Action::Acknowledge | Action::Resolve)) {
            self.fault(member, "is missing or blank");
        }
        key
    }

    /// A severity word, in any case.
    pub(super) fn severity(&mut self, value: Option<Value<'d>>) {
        const WORDS: [(&str, u8); 4] = [("critical", 5), ("error", 4), ("warning", 3), ("info", 1)];
        let member = "payload.severity";
        let word = match value.map(Value::kind) {
            None => return self.fault(member, "is missing or blank"),
            Some(Kind::String(word)) => word,
            Some(_) => "",
        };
        let known = WORDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let Some((known, level)) = known else {
            return self
                .fault(member, "is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')");
        };
        self.content.severity = Severity::new(level);
        if !self.judge_only {
            self.content.severity_raw = word_of(word);
            if known != word {
                // The vendor does not read it: nothing is forwarded as it came.
                self.content.warn("word_coerced", member);
            }
        }
    }
}

fn word_of(word: &str) -> Option<Cow<'_, str>> {
    word.chars().nth(WORD_CHARS_MAX).is_none().then(|| clean(word))
}
