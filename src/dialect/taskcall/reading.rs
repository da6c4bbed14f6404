//! Members by the types that a tolerant proxy accepts (contracts/taskcall.md 2). What was tolerated is warned of: such a
//! body is not what the vendor reads.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::dialect::json::{Document, Kind, Value, clean};
use crate::dialect::text::{set_description, set_title, truncated};
use crate::dialect::{Extra, Faults};
use crate::event::{Content, KEY_BYTES_MAX, Key, KeyKind, NOTE_CHARS_MAX, Severity, TAGS_MAX, Tag, TagType, is_blank};

/// Section 2: above this a JSON number is not exact everywhere.
const ID_MAX: u64 = (1 << 53) - 1;
/// Longest tag name, in characters (contracts 3.1).
const TAG_CHARS_MAX: usize = 128;
/// Longest `severity_raw`, in bytes (contracts 3.1).
const RAW_BYTES_MAX: usize = 64;

/// Urgency levels in words, 1 first (section 3.1).
const LEVELS: [&str; 5] = ["minor", "low", "medium", "high", "critical"];

/// A body on its way into the model.
pub(super) struct Reading<'d> {
    document: Document<'d>,
    /// Names that were asked for.
    read: Vec<&'static str>,
    pub(super) content: Content<'d>,
    pub(super) faults: Faults,
}

impl<'d> Reading<'d> {
    pub(super) fn of(document: Document<'d>) -> Self {
        Self { document, read: Vec::with_capacity(10), content: Content::default(), faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, member: &str, reason: &str) {
        self.faults.push(format!("{member}: {reason}"));
    }

    fn tolerated(&mut self, member: &'static str) {
        self.content.warn("coerced", member);
    }

    /// `null` is absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Value<'d>> {
        self.read.push(name);
        self.document.root.member(name).filter(|value| !value.is_null())
    }

    /// What nobody asked for, once each.
    pub(super) fn extra(&self) -> Vec<Extra<'d>> {
        let mut seen = HashSet::new();
        let unread = self.document.root.members().filter(|(name, _)| !self.read.contains(name));
        unread.filter(|(name, _)| seen.insert(*name)).map(|(name, _)| Extra::Member(Cow::Borrowed(name))).collect()
    }

    /// An integer, a decimal string or an integral float.
    pub(super) fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(name)?;
        let number = match value.kind() {
            Kind::Integer(number) => Some(number),
            Kind::String(text) => {
                self.tolerated(name);
                decimal(text).then(|| text.parse().unwrap_or(i128::MAX))
            }
            Kind::Number => {
                self.tolerated(name);
                self.document.number_text(value, &[name]).and_then(|text| integral(&text))
            }
            _ => None,
        };
        let Some(number) = number else {
            self.fault(name, "must be an integer");
            return None;
        };
        let number = u64::try_from(number).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(name, &format!("must be between {} and {}", range.start(), range.end()));
        }
        number
    }

    /// The number of an instance. Required.
    pub(super) fn instance(&mut self, name: &'static str) -> Option<u64> {
        self.required(name, |reading| reading.integer(name, 1..=ID_MAX))
    }

    /// A member that must be there; `read` tells its faults itself.
    pub(super) fn required<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let faults = self.faults.len();
        let value = read(self);
        if value.is_none() && self.faults.len() == faults {
            self.fault(name, "is required");
        }
        value
    }

    pub(super) fn string(&mut self, name: &'static str) -> Option<Cow<'d, str>> {
        match self.get(name)?.kind() {
            Kind::String(text) => Some(clean(text)),
            _ => {
                self.fault(name, "must be a string");
                None
            }
        }
    }

    /// A required string with something in it.
    pub(super) fn said(&mut self, name: &'static str) -> Option<Cow<'d, str>> {
        let text = self.required(name, |reading| reading.string(name))?;
        if is_blank(&text) {
            self.fault(name, "must not be blank");
            return None;
        }
        Some(text)
    }

    /// A string, or an integer as its text; blank is absent.
    pub(super) fn key(&mut self, name: &'static str) -> Option<Key> {
        let value = self.get(name)?;
        let (canon, kind) = match value.kind() {
            Kind::String(text) => (Some(clean(text)), KeyKind::String),
            Kind::Integer(_) | Kind::Number => {
                self.tolerated(name);
                let text = self.document.number_text(value, &[name]);
                (text.filter(|text| decimal(text.strip_prefix('-').unwrap_or(text))), KeyKind::Integer)
            }
            _ => (None, KeyKind::String),
        };
        let Some(canon) = canon else {
            self.fault(name, "must be a string or an integer");
            return None;
        };
        if canon.len() > KEY_BYTES_MAX {
            self.fault(name, "is longer than 512 bytes");
        }
        Key::parse(&canon, kind)
    }

    /// A list of strings, or one alone; empty ones are left out.
    pub(super) fn strings(&mut self, name: &'static str) -> Option<Vec<Cow<'d, str>>> {
        let value = self.get(name)?;
        let mut all = Vec::with_capacity(value.len());
        match value.kind() {
            Kind::String(text) => {
                self.tolerated(name);
                all.push(clean(text));
            }
            Kind::Array => {
                for element in value.elements() {
                    let Kind::String(text) = element.kind() else {
                        self.fault(name, "must be a list of strings");
                        return None;
                    };
                    all.push(clean(text));
                }
            }
            _ => {
                self.fault(name, "must be a list of strings");
                return None;
            }
        }
        let count = all.len();
        all.retain(|text| !is_blank(text));
        if all.len() < count {
            self.tolerated(name);
        }
        Some(all)
    }

    /// A required list with something in it.
    pub(super) fn names(&mut self, name: &'static str) -> Option<Vec<Cow<'d, str>>> {
        let all = self.required(name, |reading| reading.strings(name))?;
        if all.is_empty() {
            self.fault(name, "must not be empty");
            return None;
        }
        Some(all)
    }

    /// A level by its number or its word, with what the sender wrote.
    pub(super) fn urgency(&mut self, name: &'static str) -> Option<Severity> {
        let value = self.get(name)?;
        let written = match value.kind() {
            Kind::String(text) => Some(clean(text)),
            _ => self.document.number_text(value, &[name]),
        };
        let level = match value.kind() {
            Kind::String(text) if !decimal(text) => {
                self.tolerated(name);
                let word = text.trim();
                let level = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(word));
                level.and_then(|at| u64::try_from(at + 1).ok())
            }
            Kind::Integer(_) | Kind::Number | Kind::String(_) => {
                let faults = self.faults.len();
                let level = self.integer(name, 1..=5);
                // One text for both ways of saying it.
                self.faults.truncate(faults);
                level
            }
            _ => None,
        };
        let severity = level.and_then(|level| Severity::new(u8::try_from(level).ok()?));
        if severity.is_none() {
            self.fault(name, "must be 1 (minor) to 5 (critical)");
        }
        self.content.severity_raw = written.filter(|text| text.len() <= RAW_BYTES_MAX);
        severity
    }

    pub(super) fn title(&mut self) {
        let Some(text) = self.said("title") else { return };
        set_title(&mut self.content, text, "title");
    }

    pub(super) fn description(&mut self) {
        let Some(text) = self.string("description") else { return };
        set_description(&mut self.content, text, "description");
    }

    pub(super) fn note(&mut self, name: &'static str, text: Cow<'d, str>) {
        let (note, cut) = truncated(text, NOTE_CHARS_MAX);
        if cut {
            self.content.cut("truncated", name);
        }
        self.content.note = Some(note);
    }

    /// List-style tags (contracts 3.2).
    pub(super) fn tags(&mut self, names: Vec<Cow<'d, str>>) {
        let mut seen = HashSet::with_capacity(names.len());
        for name in names {
            let is_long = name.chars().nth(TAG_CHARS_MAX).is_some();
            if is_long || self.content.tags.len() == TAGS_MAX || !seen.insert(name.clone()) {
                self.content.cut("tag_dropped", "tags");
                continue;
            }
            let tag = Tag { value: Cow::Borrowed(""), kind: TagType::String, color: None, bare: true };
            self.content.tags.push((name, tag));
        }
    }
}

fn decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The integer that a number's text says, if it is one that a float holds exactly.
fn integral(text: &str) -> Option<i128> {
    let number: f64 = text.parse().ok()?;
    let is_exact = number.fract() == 0.0 && number.abs() <= ID_MAX as f64;
    // Too large is no integer either, but says so by its range.
    if is_exact { Some(number as i128) } else { (number.fract() == 0.0).then_some(i128::MAX) }
}
