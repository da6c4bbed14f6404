//! Reads a body (contracts/opsgenie.md 2 and 3): what it says, what reads are to show of it, and all its faults. Texts
//! over the vendor's limits are kept, as far as the model has room; wrong types are faults where the operation is about
//! them, and else warnings: no close is lost for a member it does not need.

mod lists;

use std::borrow::Cow;

use serde_json::Value as Json;

use super::operation::Operation;
use super::view::Op;
use super::{ids, members};
use crate::dialect::json::{Document, Kind, Value, clean};
use crate::dialect::text::{cut_bytes, truncated};
use crate::dialect::{Faults, Rules, View};
use crate::event::{
    Content, DESCRIPTION_BYTES_MAX, FIELD_CHARS_MAX, KEY_BYTES_MAX, Key, NOTE_CHARS_MAX, TITLE_CHARS_MAX, is_blank,
};
use crate::vendor;
use members::{Member, Members};

/// A body, read.
pub(super) struct Read<'d> {
    /// Of a create.
    pub(super) alias: Option<Key>,
    pub(super) content: Content<'d>,
    pub(super) view: Option<View>,
    /// Members that have no home in the content.
    pub(super) extra: Vec<&'d str>,
}

/// How much a text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// It must be there and say something.
    Filled,
    /// It must be there.
    There,
    /// What is there must be a text.
    Typed,
    /// What is no text is left out, with a warning.
    Perhaps,
}

pub(super) struct Reading<'d> {
    document: Document<'d>,
    rules: Rules<'d>,
    operation: Operation,
    members: Members<'d>,
    faults: Faults,
    content: Content<'d>,
    /// Only while the sender is there: of a stored event it is kept beside it.
    view: Option<View>,
}

impl<'d> Reading<'d> {
    pub(super) fn new(document: Document<'d>, rules: Rules<'d>, operation: Operation) -> Self {
        let op = match operation {
            Operation::Create => Op::Create,
            Operation::Tags | Operation::Details | Operation::Team | Operation::Responder => Op::Add,
            _ => Op::Set,
        };
        Self {
            document,
            rules,
            operation,
            members: Members::of(document.root),
            faults: Vec::new(),
            content: Content::default(),
            view: rules.settings.map(|_| op.begin()),
        }
    }

    /// What was accepted once is never at fault.
    pub(super) fn fault(&mut self, line: String) {
        if self.rules.settings.is_some() {
            self.faults.push(line);
        }
    }

    pub(super) fn finish(mut self) -> Result<Read<'d>, Faults> {
        let alias = self.alias();
        match self.operation {
            Operation::Create => self.create(),
            Operation::Message => self.title(),
            Operation::Description => self.description(Wanted::There),
            Operation::Priority => self.priority(true),
            Operation::Tags => self.tags(true),
            Operation::Details => self.details(true),
            Operation::Snooze => self.snooze(),
            Operation::Escalate => drop(self.param(Member::Escalation)),
            Operation::Assign => self.assign(),
            Operation::Team => self.team(),
            Operation::Responder => self.responder(),
            Operation::Close | Operation::Delete => self.shows_who("closedBy", &["snoozedUntil"]),
            Operation::Acknowledge => self.shows_who("acknowledgedBy", &[]),
            Operation::Unacknowledge => self.shows("acknowledgedBy", || Json::Null),
            Operation::Note => {}
        }
        let is_note = self.operation == Operation::Note;
        let is_create = self.operation == Operation::Create;
        let note = if is_note {
            Wanted::Filled
        } else if is_create {
            Wanted::Typed
        } else {
            Wanted::Perhaps
        };
        let source = if is_create { Wanted::Typed } else { Wanted::Perhaps };
        self.content.note = self.text(Member::Note, note, NOTE_CHARS_MAX);
        self.content.source = self.text(Member::Source, source, FIELD_CHARS_MAX);
        if is_create {
            let source = self.content.source.clone();
            self.shows_text("source", source.as_ref());
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        if self.rules.judge_only {
            self.content = Content { severity: self.content.severity, ..Content::default() };
        }
        let extra = if self.rules.judge_only { Vec::new() } else { self.members.left() };
        // A statement that shows nothing changes nothing of what is shown.
        let view = self.view.filter(|view| view.len() > 1);
        Ok(Read { alias, content: self.content, view, extra })
    }

    fn create(&mut self) {
        self.title();
        self.description(Wanted::Typed);
        self.priority(false);
        self.content.component = self.text(Member::Entity, Wanted::Typed, FIELD_CHARS_MAX);
        let entity = self.content.component.clone();
        self.shows_text("entity", entity.as_ref());
        self.tags(false);
        self.details(false);
        self.responders();
        self.listed(Member::Actions, "actions", |kind| matches!(kind, Kind::String(_)), "strings");
        self.listed(Member::VisibleTo, "visibleTo", |kind| matches!(kind, Kind::Object), "objects");
        if self.members.get(Member::User).is_some_and(|user| !matches!(user.kind(), Kind::String(_))) {
            self.fault("user: must be a string".into());
        }
    }

    /// Of a create: the sender's, else one that is made (contracts/opsgenie.md 3).
    fn alias(&mut self) -> Option<Key> {
        if self.operation != Operation::Create {
            return None;
        }
        if let Some(value) = self.members.take(Member::Alias) {
            let Kind::String(text) = value.kind() else {
                self.fault("alias: must be a string".into());
                return None;
            };
            let text = clean(text);
            if text.len() > KEY_BYTES_MAX {
                self.fault(format!("alias: is longer than {KEY_BYTES_MAX} bytes"));
                return None;
            }
            let key = ids::key_of(&text);
            if key.is_some() {
                return key;
            }
        }
        // A stored event has its key.
        self.rules.settings.and_then(|_| ids::made_alias())
    }

    fn title(&mut self) {
        self.content.title = self.text(Member::Message, Wanted::Filled, TITLE_CHARS_MAX);
        let title = self.content.title.clone();
        self.shows_text("message", title.as_ref());
    }

    fn description(&mut self, wanted: Wanted) {
        let text = self.text(Member::Description, wanted, usize::MAX);
        let Some(text) = text else { return };
        let (text, is_cut) = cut_bytes(text, DESCRIPTION_BYTES_MAX);
        if is_cut {
            self.content.cut("truncated", "description");
        }
        self.shows_text("description", Some(&text));
        self.content.description = Some(text);
    }

    fn priority(&mut self, is_required: bool) {
        let value = self.members.take(Member::Priority);
        let Some(value) = value else {
            if is_required {
                self.fault("priority: Priority can not be empty.".into());
            }
            return;
        };
        let word = if let Kind::String(word) = value.kind() { word } else { "" };
        self.content.severity = vendor::severity_of_priority(word);
        match self.content.severity {
            None => self.fault("priority: must be one of P1, P2, P3, P4 and P5".into()),
            Some(severity) => {
                if word != vendor::priority_of(severity) {
                    self.content.warn("priority_coerced", "priority");
                }
                self.content.severity_raw = Some(clean(word));
            }
        }
    }

    /// A text of at most so many characters; longer ones are cut.
    fn text(&mut self, member: Member, wanted: Wanted, chars_max: usize) -> Option<Cow<'d, str>> {
        let name = member.name();
        let is_required = matches!(wanted, Wanted::Filled | Wanted::There);
        match self.members.take(member).map(Value::kind) {
            Some(Kind::String(text)) if wanted != Wanted::Filled || !is_blank(text) => {
                let (text, is_cut) = truncated(clean(text), chars_max);
                if is_cut {
                    self.content.cut("truncated", name);
                }
                return Some(text).filter(|text| wanted == Wanted::There || !text.is_empty());
            }
            Some(Kind::String(_)) => self.fault(empty(name)),
            None if is_required => self.fault(empty(name)),
            None => {}
            Some(_) if wanted == Wanted::Perhaps => self.content.warn("member_ignored", name),
            Some(_) => self.fault(format!("{name}: must be a string")),
        }
        None
    }

    /// An argument that the operation is about, verbatim.
    fn param(&mut self, member: Member) -> Option<Json> {
        let name = member.name();
        if !self.members.take(member).is_some_and(Value::is_object) {
            self.fault(format!("{name}: must be an object"));
            return None;
        }
        let value = self.verbatim(name)?;
        self.content.params.insert(name.into(), value.clone());
        Some(value)
    }

    fn snooze(&mut self) {
        let Some(until) = self.text(Member::EndTime, Wanted::Filled, FIELD_CHARS_MAX) else { return };
        self.shows_text("snoozedUntil", Some(&until));
        self.content.params.insert("endTime".into(), (*until).into());
    }

    fn assign(&mut self) {
        let Some(owner) = self.param(Member::Owner) else { return };
        let name = ["username", "name", "id"].iter().find_map(|name| owner[*name].as_str().map(str::to_owned));
        if let Some(name) = name {
            self.shows_text("owner", Some(&truncated(name.into(), FIELD_CHARS_MAX).0));
        }
    }

    fn team(&mut self) {
        let Some(Json::Object(mut team)) = self.param(Member::Team) else { return };
        team.insert("type".into(), "team".into());
        self.shows("responders", || vec![Json::Object(team)].into());
    }

    fn responder(&mut self) {
        let Some(responder) = self.param(Member::Responder) else { return };
        self.shows("responders", || vec![responder].into());
    }

    /// Who did it, where that is said; what is no longer shown.
    fn shows_who(&mut self, name: &'static str, gone: &[&'static str]) {
        if let Some(Kind::String(user)) = self.members.get(Member::User).map(Value::kind) {
            self.shows_text(name, Some(&truncated(clean(user), FIELD_CHARS_MAX).0));
        }
        gone.iter().for_each(|gone| self.shows(gone, || Json::Null));
    }

    /// A top-level member as the sender wrote it.
    fn verbatim(&self, name: &str) -> Option<Json> {
        serde_json::from_str(&self.document.source(&[name])?).ok()
    }

    fn shows(&mut self, name: &str, value: impl FnOnce() -> Json) {
        if let Some(view) = &mut self.view {
            view.insert(name.to_owned(), value());
        }
    }

    fn shows_text(&mut self, name: &str, text: Option<&Cow<'_, str>>) {
        if let Some(text) = text {
            self.shows(name, || Json::from(&**text));
        }
    }
}

/// As the vendor words it (contracts/opsgenie.md 4).
fn empty(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("{name}: {}{rest} can not be empty.", first.to_uppercase())
}
