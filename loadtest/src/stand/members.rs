//! Checks of the members of a body, with all findings collected; each vendor tells them in its own
//! form. A `null` counts as absent. Called by every vendor's file.

use serde_json::{Map, Value};

/// What is wrong with a member; incident.io's words for it, the others tell the reason only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    IsRequired,
    InvalidType,
    InvalidValue,
    TooLong,
}

impl Code {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::IsRequired => "is_required",
            Self::InvalidType => "invalid_type",
            Self::InvalidValue => "invalid_value",
            Self::TooLong => "too_long",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// The member's path, `payload.summary`.
    pub(super) field: String,
    pub(super) code: Code,
    pub(super) reason: String,
}

/// How a text may be.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) required: bool,
    pub(super) most_chars: usize,
}

impl Text {
    pub(super) const fn optional(most_chars: usize) -> Self {
        Self { required: false, most_chars }
    }

    pub(super) const fn required(most_chars: usize) -> Self {
        Self { required: true, most_chars }
    }
}

/// An object and what was found wrong with it.
pub(super) struct Members<'a> {
    object: &'a Map<String, Value>,
    prefix: &'a str,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Members<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self::below("", object)
    }

    /// Of an inner object: `prefix` is its path with a dot at the end.
    pub(super) fn below(prefix: &'a str, object: &'a Map<String, Value>) -> Self {
        Self { object, prefix, findings: Vec::new() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn find(&mut self, name: &str, code: Code, reason: impl Into<String>) {
        self.findings.push(Finding { field: format!("{}{name}", self.prefix), code, reason: reason.into() });
    }

    /// A text; a required one must not be blank.
    pub(super) fn text(&mut self, name: &str, rule: Text) -> Option<&'a str> {
        match self.get(name) {
            Some(Value::String(text)) if text.trim().is_empty() && rule.required => {
                self.find(name, Code::IsRequired, "is missing or blank");
            }
            Some(Value::String(text)) if text.chars().count() > rule.most_chars => {
                self.find(name, Code::TooLong, format!("is too long (maximum is {} characters)", rule.most_chars));
            }
            Some(Value::String(text)) => return Some(text),
            Some(_) => self.find(name, Code::InvalidType, "must be a string"),
            None if rule.required => self.find(name, Code::IsRequired, "is missing or blank"),
            None => {}
        }
        None
    }

    /// One of some words, exactly as written.
    pub(super) fn word(&mut self, name: &str, words: &[&str], required: bool) -> Option<&'a str> {
        let word = self.text(name, Text { required, most_chars: usize::MAX })?;
        if words.contains(&word) {
            return Some(word);
        }
        let list = match words {
            [others @ .., last] if !others.is_empty() => format!("'{}' or '{last}'", others.join("', '")),
            _ => format!("'{}'", words.join("', '")),
        };
        self.find(name, Code::InvalidValue, format!("is invalid (must be one of the following: {list})"));
        None
    }

    /// A JSON integer within bounds; no text and no fraction.
    pub(super) fn integer(&mut self, name: &str, from: u64, to: u64, required: bool) -> Option<u64> {
        match self.get(name) {
            Some(value) => match value.as_u64() {
                Some(number) if (from..=to).contains(&number) => return Some(number),
                Some(_) => self.find(name, Code::InvalidValue, format!("must be {from} to {to}")),
                None => self.find(name, Code::InvalidType, format!("must be an integer of {from} to {to}")),
            },
            None if required => self.find(name, Code::IsRequired, "is missing"),
            None => {}
        }
        None
    }

    /// A list of texts, at most `most` of at most `most_chars` each; empty when absent or wrong.
    pub(super) fn texts(&mut self, name: &str, most: usize, most_chars: usize, required: bool) -> Vec<&'a str> {
        let Some(value) = self.get(name) else {
            if required {
                self.find(name, Code::IsRequired, "is missing");
            }
            return Vec::new();
        };
        let texts: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        match texts {
            None => self.find(name, Code::InvalidType, "must be a list of strings"),
            Some(texts) if texts.is_empty() && required => self.find(name, Code::IsRequired, "is empty"),
            Some(texts) if texts.len() > most => {
                self.find(name, Code::TooLong, format!("has more than {most} elements"));
            }
            Some(texts) if texts.iter().any(|text| text.chars().count() > most_chars) => {
                self.find(name, Code::TooLong, format!("has an element of more than {most_chars} characters"));
            }
            Some(texts) => return texts,
        }
        Vec::new()
    }

    pub(super) fn object(&mut self, name: &str, required: bool) -> Option<&'a Map<String, Value>> {
        match self.get(name) {
            Some(Value::Object(object)) => return Some(object),
            Some(_) => self.find(name, Code::InvalidType, "must be an object"),
            None if required => self.find(name, Code::IsRequired, "is missing"),
            None => {}
        }
        None
    }

    /// A list whose elements are objects; empty when absent or wrong.
    pub(super) fn objects(&mut self, name: &str, most: usize) -> Vec<&'a Map<String, Value>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let objects: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(Value::as_object).collect());
        match objects {
            None => self.find(name, Code::InvalidType, "must be a list of objects"),
            Some(objects) if objects.len() > most => {
                self.find(name, Code::TooLong, format!("has more than {most} elements"));
            }
            Some(objects) => return objects,
        }
        Vec::new()
    }

    pub(super) fn boolean(&mut self, name: &str, required: bool) -> Option<bool> {
        match self.get(name) {
            Some(Value::Bool(flag)) => return Some(*flag),
            Some(_) => self.find(name, Code::InvalidType, "must be a boolean"),
            None if required => self.find(name, Code::IsRequired, "is missing"),
            None => {}
        }
        None
    }
}
