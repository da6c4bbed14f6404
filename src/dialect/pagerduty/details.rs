//! `custom_details` of v2 and `details` of v1: any JSON. A description and tags come out of it, the rest is kept as it was
//! written (contracts/pagerduty.md 6).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::reading::Reading;
use crate::dialect::Extra;
use crate::dialect::json::{Kind, Value, clean, members_as_text};
use crate::dialect::text::set_description;
use crate::event::{TAGS_MAX, Tag, TagType, is_blank};

/// Longest tag name, in characters (contracts 3.1).
const TAG_NAME_CHARS_MAX: usize = 128;

type Texts<'t> = HashMap<Cow<'t, str>, &'t RawValue>;

impl<'d> Reading<'d> {
    /// `text` is the source of `value`.
    pub(super) fn details(&mut self, name: &'static str, value: Value<'d>, text: &str) {
        if !value.is_object() {
            self.extra.extend(raw(text.to_owned()).map(|json| Extra::Made(name.into(), json)));
            return;
        }
        let Some(texts) = members_as_text(text) else { return };
        let mut taken: Vec<&str> = Vec::new();
        if let Some(Kind::String(text)) = value.member("description").map(Value::kind)
            && !is_blank(text)
        {
            set_description(&mut self.content, clean(text), format!("{name}.description"));
            taken.push("description");
        }
        if let Some(tags) = value.member("tags").and_then(|tags| tags_of(tags, texts.get("tags")?.get())) {
            self.content.tags = tags;
            taken.push("tags");
        }
        let mut seen = HashSet::new();
        let rest = value.members().map(|(name, _)| name).filter(|name| !taken.contains(name) && seen.insert(*name));
        let rest: Vec<_> = rest.filter_map(|name| Some((name, texts.get(name)?.get()))).collect();
        self.extra.extend(object(rest.into_iter()).map(|json| Extra::Made(name.into(), json)));
    }
}

/// An object, or a list of names. Anything else, and more than the model holds, is no tags to us: it stays where it is,
/// whole, and nothing of it is lost.
fn tags_of<'d>(tags: Value<'d>, text: &str) -> Option<Vec<(Cow<'d, str>, Tag<'d>)>> {
    let mut all: Vec<(Cow<'d, str>, Tag<'d>)> = Vec::new();
    let is_name = |name: &str| !name.is_empty() && name.chars().nth(TAG_NAME_CHARS_MAX).is_none();
    let mut put = |name: &'d str, tag: Tag<'d>| {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = tag,
            None => all.push((clean(name), tag)),
        }
        (is_name(name) && all.len() <= TAGS_MAX).then_some(())
    };
    match tags.kind() {
        Kind::Array => {
            for element in tags.elements() {
                let Kind::String(name) = element.kind() else { return None };
                put(name, Tag { value: Cow::Borrowed(""), kind: TagType::String, color: None, bare: true })?;
            }
        }
        Kind::Object => {
            let texts = members_as_text(text)?;
            for (name, value) in tags.members().filter(|(_, value)| !value.is_null()) {
                let (value, kind) = plain(name, value, &texts)?;
                put(name, Tag { value, kind, color: None, bare: false })?;
            }
        }
        _ => return None,
    }
    Some(all)
}

fn plain<'d>(name: &str, value: Value<'d>, texts: &Texts<'_>) -> Option<(Cow<'d, str>, TagType)> {
    match value.kind() {
        Kind::String(text) => Some((clean(text), TagType::String)),
        Kind::Bool(value) => Some((if value { "true" } else { "false" }.into(), TagType::Bool)),
        // As it was written: `1.50` stays so.
        Kind::Integer(_) | Kind::Number => Some((Cow::Owned(texts.get(name)?.get().to_owned()), TagType::Number)),
        Kind::Array | Kind::Object => Some((Cow::Owned(texts.get(name)?.get().to_owned()), TagType::Json)),
        Kind::Null => None,
    }
}

/// An object of members that are JSON already; `None` without any.
pub(super) fn object<'t>(members: impl Iterator<Item = (&'t str, &'t str)>) -> Option<Box<RawValue>> {
    let members: Vec<String> =
        members.map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name))).collect();
    if members.is_empty() { None } else { raw(format!("{{{}}}", members.join(","))) }
}

fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}
