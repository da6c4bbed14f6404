//! Lists and maps of a body: tags, details, responders and what is kept as it was written.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::{Member, Reading};
use crate::dialect::json::{Kind, Value, clean};
use crate::dialect::text::truncated;
use crate::event::{Assignment, TAGS_MAX, Tag, TagType};

/// Longest name of a tag, in characters (contracts 3.1).
const NAME_CHARS_MAX: usize = 128;

impl<'d> Reading<'d> {
    /// An array of strings: bare tags.
    pub(super) fn tags(&mut self, is_required: bool) {
        let Some(value) = self.list(Member::Tags, is_required) else { return };
        let mut shown = Vec::new();
        for element in value.elements() {
            let Kind::String(text) = element.kind() else {
                return self.fault("tags: must be an array of strings".into());
            };
            if text.trim().is_empty() {
                continue;
            }
            let (name, is_cut) = truncated(clean(text), NAME_CHARS_MAX);
            if is_cut {
                self.content.cut("truncated", "tags");
            }
            if self.view.is_some() && shown.len() < TAGS_MAX {
                shown.push(Json::from(&*name));
            }
            self.tag(name, Tag { value: Cow::Borrowed(""), kind: TagType::String, color: None, bare: true });
        }
        if !shown.is_empty() {
            self.shows("tags", || shown.into());
        }
    }

    /// An object of strings; numbers and booleans are taken as text.
    pub(super) fn details(&mut self, is_required: bool) {
        let value = match self.members.take(Member::Details) {
            Some(value) if value.is_object() => value,
            None if !is_required => return,
            _ => return self.fault("details: must be an object".into()),
        };
        let mut shown = Map::new();
        for (place, (name, member)) in value.members().enumerate() {
            let kind = match member.kind() {
                Kind::String(_) => TagType::String,
                Kind::Bool(_) => TagType::Bool,
                Kind::Integer(_) | Kind::Number => TagType::Number,
                Kind::Null => continue,
                Kind::Array | Kind::Object => {
                    self.fault(format!("details.{name}: must be a string"));
                    continue;
                }
            };
            // The vendor knows texts alone.
            if kind != TagType::String {
                self.content.warn("tag_coerced", "details");
            }
            if place >= TAGS_MAX {
                self.content.cut("tag_dropped", "details");
                continue;
            }
            // The text of a number is looked for in the whole body: only for what is kept.
            let Some(text) = (!name.is_empty()).then(|| self.scalar(member, name)).flatten() else {
                self.content.warn("tag_dropped", "details");
                continue;
            };
            if self.view.is_some() {
                shown.insert(name.to_owned(), Json::from(&*text));
            }
            let (name, is_cut) = truncated(clean(name), NAME_CHARS_MAX);
            if is_cut {
                self.content.cut("truncated", "details");
            }
            self.tag(name, Tag { value: text, kind, color: None, bare: false });
        }
        if !shown.is_empty() {
            self.shows("details", || shown.into());
        }
    }

    fn scalar(&self, value: Value<'d>, name: &str) -> Option<Cow<'d, str>> {
        match value.kind() {
            Kind::String(text) => Some(clean(text)),
            Kind::Bool(value) => Some(if value { "true" } else { "false" }.into()),
            _ => self.document.number_text(value, &["details", name]),
        }
    }

    /// Of a bare tag and a detail of one name the detail says more; of repeated ones the last wins.
    fn tag(&mut self, name: Cow<'d, str>, tag: Tag<'d>) {
        let tags = &mut self.content.tags;
        match tags.iter().position(|(known, _)| *known == name) {
            Some(place) => {
                let was_bare = tags[place].1.bare && !tag.bare;
                tags[place].1 = tag;
                if was_bare {
                    self.content.cut("tag_replaced", "details");
                }
            }
            None if self.content.tags.len() < TAGS_MAX => self.content.tags.push((name, tag)),
            None => self.content.cut("tag_dropped", if tag.bare { "tags" } else { "details" }),
        }
    }

    /// Kept verbatim: who is meant is the target's matter.
    pub(super) fn responders(&mut self) {
        let Some(value) = self.list(Member::Responders, false) else { return };
        if !value.elements().all(Value::is_object) {
            return self.fault("responders: must be an array of objects".into());
        }
        if value.is_empty() || (self.rules.judge_only && self.view.is_none()) {
            return;
        }
        let Some(said) = self.verbatim("responders") else { return };
        self.shows("responders", || said.clone());
        self.content.assignment = Some(Box::new(Assignment { responders: Some(said), ..Assignment::default() }));
    }

    /// A list without a home in the model: it stays among the extra members.
    pub(super) fn listed(&mut self, member: Member, name: &str, fits: fn(Kind<'d>) -> bool, what: &str) {
        let Some(value) = self.members.get(member) else { return };
        if !matches!(value.kind(), Kind::Array) || !value.elements().all(|element| fits(element.kind())) {
            self.fault(format!("{name}: must be an array of {what}"));
        } else if self.view.is_some()
            && !value.is_empty()
            && let Some(said) = self.verbatim(name)
        {
            self.shows(name, || said);
        }
    }

    fn list(&mut self, member: Member, is_required: bool) -> Option<Value<'d>> {
        match self.members.take(member) {
            Some(value) if matches!(value.kind(), Kind::Array) => Some(value),
            None if !is_required => None,
            _ => {
                self.fault(format!("{}: must be an array", member.name()));
                None
            }
        }
    }
}
