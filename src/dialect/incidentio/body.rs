//! Reading members with their faults: `member: reason`, all of a body at once. `errors` finds the vendor's code in a
//! reason's first words, so they are written here alone.

use crate::dialect::Faults;
use crate::dialect::json::{Kind, Value};

/// Most faults that an answer lists.
const FAULTS_MAX: usize = 100;

const REQUIRED: &str = "is required";
const TYPE: &str = "must be of type ";
const TOO_LONG: &str = "is longer than ";

/// The vendor's code of a reason (section 1).
pub(super) fn code_of(reason: &str) -> &'static str {
    if reason.starts_with(REQUIRED) {
        "is_required"
    } else if reason.starts_with(TYPE) {
        "invalid_type"
    } else if reason.starts_with(TOO_LONG) {
        "too_long"
    } else {
        "invalid_value"
    }
}

/// An object of the body, and where it stands in it.
#[derive(Clone)]
pub(super) struct Object<'d> {
    value: Value<'d>,
    /// Empty at the top; else it ends in a dot.
    path: String,
}

/// All faults of a body.
#[derive(Default)]
pub(super) struct Found(pub(super) Faults);

impl Found {
    fn put(&mut self, path: &str, member: &str, reason: &str) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(format!("{path}{member}: {reason}"));
        }
    }
}

impl<'d> Object<'d> {
    pub(super) fn top(value: Value<'d>) -> Self {
        Self { value, path: String::new() }
    }

    /// `null` is absent (contracts 2.4).
    pub(super) fn get(&self, member: &str) -> Option<Value<'d>> {
        self.value.member(member).filter(|value| !value.is_null())
    }

    pub(super) fn wrong(&self, found: &mut Found, member: &str, reason: &str) {
        found.put(&self.path, member, reason);
    }

    pub(super) fn missing(&self, found: &mut Found, member: &str) {
        self.wrong(found, member, REQUIRED);
    }

    pub(super) fn wrong_type(&self, found: &mut Found, member: &str, wanted: &str) {
        self.wrong(found, member, &format!("{TYPE}{wanted}"));
    }

    pub(super) fn text(&self, found: &mut Found, member: &str) -> Option<&'d str> {
        match self.get(member)?.kind() {
            Kind::String(text) => Some(text),
            _ => {
                self.wrong_type(found, member, "string");
                None
            }
        }
    }

    pub(super) fn bounded(&self, found: &mut Found, member: &str, bytes_max: usize) -> Option<&'d str> {
        let text = self.text(found, member)?;
        if text.len() > bytes_max {
            self.wrong(found, member, &format!("{TOO_LONG}{bytes_max} bytes"));
            return None;
        }
        Some(text)
    }

    /// An id; the empty text names nothing.
    pub(super) fn id(&self, found: &mut Found, member: &str) -> Option<&'d str> {
        self.bounded(found, member, super::ID_BYTES_MAX).filter(|id| !id.is_empty())
    }

    /// One of a few words.
    pub(super) fn word(&self, found: &mut Found, member: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(found, member)?;
        let word = words.iter().find(|word| **word == text).copied();
        if word.is_none() {
            self.wrong(found, member, &format!("must be one of {}", words.join(", ")));
        }
        word
    }

    pub(super) fn switch(&self, found: &mut Found, member: &str) -> Option<bool> {
        match self.get(member)?.kind() {
            Kind::Bool(value) => Some(value),
            _ => {
                self.wrong_type(found, member, "boolean");
                None
            }
        }
    }

    pub(super) fn object(&self, found: &mut Found, member: &str) -> Option<Object<'d>> {
        let value = self.get(member)?;
        if !value.is_object() {
            self.wrong_type(found, member, "object");
            return None;
        }
        Some(Object { value, path: format!("{}{member}.", self.path) })
    }

    /// The objects of an array; what is none is a fault of its own.
    pub(super) fn objects(&self, found: &mut Found, member: &str) -> Option<Vec<Object<'d>>> {
        let value = self.get(member)?;
        if !matches!(value.kind(), Kind::Array) {
            self.wrong_type(found, member, "array");
            return None;
        }
        let list = Object { value, path: format!("{}{member}.", self.path) };
        let mut objects = Vec::with_capacity(value.len());
        for (index, element) in value.elements().enumerate() {
            if element.is_object() {
                objects.push(Object { value: element, path: format!("{}{index}.", list.path) });
            } else {
                list.wrong_type(found, &index.to_string(), "object");
            }
        }
        Some(objects)
    }

    /// An id that must be there.
    pub(super) fn required_id(&self, found: &mut Found, member: &str) {
        if self.id(found, member).is_none() && !self.is_told(found, member) {
            self.missing(found, member);
        }
    }

    /// Whether a fault of the member was found already.
    pub(super) fn is_told(&self, found: &Found, member: &str) -> bool {
        let place = format!("{}{member}: ", self.path);
        found.0.len() >= FAULTS_MAX || found.0.iter().any(|fault| fault.starts_with(&place))
    }
}
